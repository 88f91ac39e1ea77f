"""The branch of places x views."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from whence.models.backbones.base import Features
from whence.runtime import progress
from whence.training.branches.places import shard
from whence.training.branches.sources import make_batches
from whence.training.losses.by_label import make_loss
from whence.training.options.placed import PlacesOptions
from whence.training.pixels import at_size, cached_pixels, key_of, stored_size
from whence.training.task import (
    BatchPlace,
    Branch,
    Describe,
    Draw,
    Losses,
    Pairs,
    Read,
    Setup,
    Share,
)
from whence.training.ways import IsKept, SeenPhotos, Ways

_BATCH = 16
"""Photos described at once while mining."""


class PlacePhotos(NamedTuple):
    """This process's photos of a batch."""

    photos: SeenPhotos
    labels: Tensor
    """(B,) places or classes of the whole batch."""


class PlaceBranch(Branch):
    """Places x views, and a loss over descriptors and the places they belong to."""

    has_pairs = True

    def __init__(self, options: PlacesOptions, setup: Setup) -> None:
        """Raises `NoPhotos`, `BadOption` and `UnknownName`."""
        super().__init__(options.name or options.kind)
        self.options, self.setup, self.weight = options, setup, options.weight
        self.loss_lr = options.loss.lr
        self.batches = make_batches(
            setup.data, places=options.places, options=options.batches, seed=setup.seed
        )
        self.is_mined = self.batches.is_mined
        self.ways = Ways(options.augment, setup, of=key_of(self.batches.photos))
        self.loss = make_loss(
            options.loss, num_classes=self.batches.num_places, dim=setup.learner.module.dim
        )

    def describe_data(self) -> dict[str, Any]:
        return self.batches.counts()

    def open(self) -> None:
        (width, height), setup = stored_size(self.options.augment), self.setup
        self.pixels = cached_pixels(
            self.batches.photos,
            width=width,
            height=height,
            folder=setup.pixels_folder,
            show_progress=setup.show_progress,
        )
        self.ways.open()

    def num_batches(self, epoch: int) -> int:
        return self.batches.num_batches(epoch)

    def refresh(self, epoch: int, describe: Describe) -> None:
        """Mine the epoch's places with the learner as it stands; the main process does and tells
        the others."""
        if describe.share.rank == 0:
            with progress("mining", total=None, show=self.setup.show_progress):
                self.batches.refresh(
                    epoch, lambda rows: _unit(describe(rows, self._resized, batch_size=_BATCH))
                )
        else:
            size = self.options.batches.num_places * self.options.batches.num_views
            self.batches.take_over(np.zeros((self.batches.num_batches(epoch), size), np.int64))
        self.batches.take_over(describe.broadcast(self.batches.found()))

    def _resized(self, rows: np.ndarray) -> np.ndarray:
        seen = self.options.augment
        return np.stack(
            [at_size(np.array(self.pixels[row]), seen.width, seen.height) for row in rows]
        )

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
        """The network's input, and the labels of the whole batch."""
        return self.ways.change(content.photos, draw), content.labels

    def learn(
        self, learner: nn.Module, content: tuple[Tensor | Features, Tensor], draw: Draw
    ) -> Losses:
        return pair_losses(self.loss, learner, content, draw)

    def pairs(
        self, learner: nn.Module, content: tuple[Tensor | Features, Tensor], draw: Draw
    ) -> Pairs:
        return described_pairs(learner, content, draw)

    def keep(self) -> None:
        self.ways.keep()

    def state(self) -> dict[str, Tensor]:
        """The places that are learned from now, where they are mined."""
        return {"mined": torch.from_numpy(self.batches.found())} if self.is_mined else {}

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on with what `state` gave."""
        if self.is_mined:
            self.batches.take_over(tensors["mined"].numpy())


def _unit(descriptors: Tensor) -> np.ndarray:
    return nn.functional.normalize(descriptors, dim=1).numpy()


def pair_losses(
    loss: nn.Module, learner: nn.Module, content: tuple[Tensor | Features, Tensor], draw: Draw
) -> Losses:
    """The loss over descriptors and labels of a whole batch, of what the network is given of this
    process's share of it."""
    pairs = described_pairs(learner, content, draw)
    # A miner that draws must draw alike in every process, for all to compute one loss.
    draw.seed_torch(0)
    return Losses(loss(pairs.descriptors, pairs.labels))


def described_pairs(
    learner: nn.Module, content: tuple[Tensor | Features, Tensor], draw: Draw
) -> Pairs:
    """Descriptors and labels of a whole batch."""
    images, labels = content
    # Whatever draws random numbers inside the network follows from the step as well.
    draw.seed_torch(1 + draw.share.rank)
    with draw.autocast():
        descriptors = learner(images)
    return Pairs(draw.gather(descriptors.float()), labels.to(draw.device))
