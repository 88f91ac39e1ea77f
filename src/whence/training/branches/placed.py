"""The branch of places x views."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from whence.models.backbones.base import Features
from whence.training.branches.places import PlaceBatches, make_places, shard
from whence.training.losses.by_label import make_loss
from whence.training.options.placed import PlacesOptions
from whence.training.pixels import cached_pixels, key_of, stored_size
from whence.training.task import BatchPlace, Branch, Draw, Given, Losses, Read, Share
from whence.training.ways import IsKept, SeenPhotos, Ways


class PlacePhotos(NamedTuple):
    """This process's photos of a batch."""

    photos: SeenPhotos
    labels: Tensor
    """(B,) places or classes of the whole batch."""


class PlaceBranch(Branch):
    """Places x views, and a loss over descriptors and the places they belong to."""

    def __init__(self, options: PlacesOptions, given: Given) -> None:
        """Raises `NoPhotos`, `BadOption` and `UnknownName`."""
        super().__init__(options.name or options.kind)
        self.options, self.given, self.weight = options, given, options.weight
        self.loss_lr = options.loss.lr
        self.places = make_places(given.data.photos, options=options.places)
        self.batches = PlaceBatches(self.places, options=options.batches, seed=given.seed)
        self.ways = Ways(options.augment, given, of=key_of(self.places.photos))
        self.loss = make_loss(options.loss, num_classes=len(self.places), dim=given.learner.module.dim)

    def describe_data(self) -> dict[str, Any]:
        return {"num_photos": len(self.places.photos), "num_places": len(self.places)}

    def open(self) -> None:
        (width, height), given = stored_size(self.options.augment), self.given
        self.pixels = cached_pixels(
            self.places.photos, width=width, height=height, folder=given.pixels_folder, show_progress=given.show_progress
        )
        self.ways.open()

    def num_batches(self, epoch: int) -> int:
        return self.batches.num_batches(epoch)

    def read(self, place: BatchPlace, share: Share) -> Read:
        whole = self.batches.batch(place.epoch, place.number)
        mine = shard(whole, rank=share.rank, num_ranks=share.num_ranks)
        rows = mine.rows

        def photo(number: int, is_kept: IsKept) -> tuple[str, np.ndarray | None]:
            name = str(rows[number])
            return name, None if is_kept(name) else self.pixels[rows[number]]

        photos = self.ways.read(place, len(rows), photo, first=share.rank * len(rows))
        return Read(PlacePhotos(photos, torch.from_numpy(whole.labels)), len(rows))

    def change(self, content: PlacePhotos, draw: Draw) -> tuple[Tensor | Features, Tensor]:
        """What the network is given, and the labels of the whole batch."""
        return self.ways.change(content.photos, draw), content.labels

    def learn(self, learner: nn.Module, content: tuple[Tensor | Features, Tensor], draw: Draw) -> Losses:
        images, labels = content
        # Whatever draws random numbers inside the network follows from the step as well.
        draw.seed_torch(1 + draw.share.rank)
        with draw.autocast():
            descriptors = learner(images)
        # A miner that draws must draw alike in every process, for all to compute one loss.
        draw.seed_torch(0)
        return Losses(self.loss(draw.gather(descriptors.float()), labels.to(draw.device)))

    def keep(self) -> None:
        self.ways.keep()
