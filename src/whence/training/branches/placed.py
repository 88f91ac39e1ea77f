"""The branch of places x views."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from whence.training.augment import Augment
from whence.training.branches.places import PlaceBatches, make_places, shard
from whence.training.losses.by_label import make_loss
from whence.training.options.placed import PlacesOptions
from whence.training.pixels import cached_pixels, stored_size
from whence.training.task import BatchPlace, Branch, Draw, Given, Losses, Read, Share


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
        self.places = make_places(given.data.photos, options=options.places)
        self.batches = PlaceBatches(self.places, options=options.batches, seed=given.seed)
        self.augment = Augment(options.augment, seed=given.seed)
        self.loss = make_loss(options.loss, num_classes=len(self.places), dim=given.learner.module.dim)

    def describe_data(self) -> dict[str, Any]:
        return {"num_photos": len(self.places.photos), "num_places": len(self.places)}

    def open(self) -> None:
        (width, height), given = stored_size(self.options.augment), self.given
        self.pixels = cached_pixels(
            self.places.photos, width=width, height=height, folder=given.pixels_folder, show_progress=given.show_progress
        )

    def num_batches(self, epoch: int) -> int:
        return self.batches.num_batches(epoch)

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
