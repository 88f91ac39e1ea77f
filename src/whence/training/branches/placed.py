"""The branch of places x views."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from whence.runtime import progress
from whence.training.augment import Augment
from whence.training.branches.places import shard
from whence.training.branches.sources import make_batches
from whence.training.losses.by_label import make_loss
from whence.training.options.placed import PlacesOptions
from whence.training.pixels import at_size, cached_pixels, stored_size
from whence.training.task import BatchPlace, Branch, Describe, Draw, Given, Losses, Read, Share

_BATCH = 16
"""Photos described at once while mining."""


class PlacePhotos(NamedTuple):
    """This process's photos of a batch."""

    photos: Tensor
    """(b, H, W, 3) uint8."""
    labels: Tensor
    """(B,) places or classes of the whole batch."""
    first: int
    """Number of the first photo in the whole batch."""


class PlaceBranch(Branch):
    """Places x views, and a loss over descriptors and the places they belong to."""

    def __init__(self, options: PlacesOptions, given: Given) -> None:
        """Raises `NoPhotos`, `BadOption` and `UnknownName`."""
        super().__init__(options.name or options.kind)
        self.options, self.given, self.weight = options, given, options.weight
        self.loss_lr = options.loss.lr
        self.batches = make_batches(given.data, places=options.places, options=options.batches, seed=given.seed)
        self.is_mined = self.batches.is_mined
        self.augment = Augment(options.augment, seed=given.seed)
        self.loss = make_loss(options.loss, num_classes=self.batches.num_places, dim=given.learner.module.dim)

    def describe_data(self) -> dict[str, Any]:
        return self.batches.counts()

    def open(self) -> None:
        (width, height), given = stored_size(self.options.augment), self.given
        self.pixels = cached_pixels(
            self.batches.photos, width=width, height=height, folder=given.pixels_folder, show_progress=given.show_progress
        )

    def num_batches(self, epoch: int) -> int:
        return self.batches.num_batches(epoch)

    def refresh(self, epoch: int, describe: Describe) -> None:
        """Mine the epoch's places with the learner as it stands; the main process does and tells the others."""
        if describe.share.rank == 0:
            with progress("mining", total=None, show=self.given.show_progress):
                self.batches.refresh(epoch, lambda rows: describe(rows, self._resized, batch_size=_BATCH).numpy())
        else:
            size = self.options.batches.num_places * self.options.batches.num_views
            self.batches.take_over(np.zeros((self.options.places.num_batches, size), np.int64))
        self.batches.take_over(describe.broadcast(self.batches.found()))

    def _resized(self, rows: np.ndarray) -> np.ndarray:
        seen = self.options.augment
        return np.stack([at_size(np.array(self.pixels[row]), seen.width, seen.height) for row in rows])

    def read(self, place: BatchPlace, share: Share) -> Read:
        whole = self.batches.batch(place.epoch, place.number)
        mine = shard(whole, rank=share.rank, num_ranks=share.num_ranks)
        photos = torch.from_numpy(np.stack([self.pixels[row] for row in mine.rows]))
        return Read(PlacePhotos(photos, torch.from_numpy(whole.labels), share.rank * len(mine.rows)), len(photos))

    def change(self, content: PlacePhotos, draw: Draw) -> tuple[Tensor, Tensor]:
        """The images, normalised, and the labels of the whole batch."""
        images = self.augment(content.photos.to(draw.device), step=draw.step, batch=draw.batch, first=content.first)
        return draw.arranged(images), content.labels

    def learn(self, learner: nn.Module, content: tuple[Tensor, Tensor], draw: Draw) -> Losses:
        images, labels = content
        # Whatever draws random numbers inside the network follows from the step as well.
        draw.seed_torch(1 + draw.share.rank)
        with draw.autocast():
            descriptors = self.describe(learner, images)
        # A miner that draws must draw alike in every process, for all to compute one loss.
        draw.seed_torch(0)
        return Losses(self.loss(draw.gather(descriptors.float()), labels.to(draw.device)))

    def describe(self, learner: nn.Module, images: Tensor) -> Tensor:
        """Descriptors (b, D) of what `change` made."""
        descriptors: Tensor = learner(images)
        return descriptors

    def state(self) -> dict[str, Tensor]:
        """The places that are learned from now, where they are mined."""
        return {"mined": torch.from_numpy(self.batches.found())} if self.is_mined else {}

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on with what `state` gave."""
        if self.is_mined:
            self.batches.take_over(tensors["mined"].numpy())
