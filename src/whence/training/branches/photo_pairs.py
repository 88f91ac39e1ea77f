"""The branch of photos from orbit with their tiles, and the loss that pulls pairs together and
pushes all others apart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor, nn

from whence.errors import BadOption
from whence.models.backbones.base import Features
from whence.runtime import random_stream
from whence.training.branches.pair_batches import find_pairs
from whence.training.branches.tiles import TileBranch, tile_key
from whence.training.losses.neutral import pair_loss
from whence.training.options.photo_pairs import PhotoPairsOptions
from whence.training.options.tiles import TilesOptions
from whence.training.pixels import read_at
from whence.training.task import BatchPlace, Describe, Draw, Losses, Setup
from whence.training.yearly import YearChange, draw_change

_CHANGE, _VIEW, _YEAR = 132, 133, 134


class PhotoPairBranch(TileBranch):
    """Batches of photos, then of their tiles in a random year each; read and changed as tiles
    are."""

    is_mined = False

    def __init__(self, options: PhotoPairsOptions, setup: Setup) -> None:
        """Raises `NoPhotos`, `BadOption` and `UnknownName`."""
        if options.num_pairs < 2:
            raise BadOption("a batch needs at least two pairs")
        self.photo_pairs = find_pairs(setup.data, least_iou=options.least_iou)
        self.pair_options = options
        as_tiles = TilesOptions(
            name=options.name or options.kind, weight=options.weight,
            batches_per_epoch=options.batches_per_epoch, augment=options.augment, num_places=2,
            num_groups=1,
        )  # fmt: skip
        super().__init__(as_tiles, setup)
        self.loss = nn.Module()

    def describe_data(self) -> dict[str, Any]:
        return self.photo_pairs.counts()

    def refresh(self, epoch: int, describe: Describe) -> None:
        """Nothing is looked for."""

    def places_of(self, place: BatchPlace) -> np.ndarray:
        return self.photo_pairs.batch(
            self.pair_options.num_pairs,
            seed=self.setup.seed,
            epoch=place.epoch,
            number=place.number,
        )

    def seen(
        self, places: np.ndarray, place: BatchPlace
    ) -> tuple[np.ndarray, tuple[YearChange, ...], tuple[str, ...]]:
        """Rows of tiles, from 0 on, and of photos, below 0: photos first, then their tiles."""
        seen = self.options.augment
        photos, tiles = self.photo_pairs.pairs[places].T
        years = random_stream(self.setup.seed, _YEAR, *place).integers(
            len(self.places.years), size=len(tiles)
        )
        rows = np.concatenate([-1 - photos, self.places.rows[tiles, years]])
        draws = np.arange(len(rows))
        if seen.num_views:
            draws = random_stream(self.setup.seed, _VIEW, *place).integers(
                seen.num_views, size=len(rows)
            )
            changes = [draw_change(seen, random_stream(_CHANGE, int(view))) for view in draws]
        else:
            changes = [
                draw_change(seen, random_stream(self.setup.seed, _CHANGE, *place, number))
                for number in range(len(rows))
            ]
        names = [
            (
                self.photo_pairs.photos.content[-1 - row]
                if row < 0
                else self.places.photos.content[row]
            ).decode()
            for row in rows
        ]
        return (
            rows,
            tuple(changes),
            tuple(tile_key(f"{view}|{name}") for view, name in zip(draws, names, strict=True)),
        )

    def pixels(self, row: int, side: int) -> np.ndarray:
        if row >= 0:
            return super().pixels(row, side)
        photo = read_at(self.photo_pairs.photos.file(-1 - row), side, side)
        return np.ascontiguousarray(np.rot90(photo, self.photo_pairs.turns[-1 - row]))

    def neutral(self, places: np.ndarray) -> np.ndarray:
        """Nothing: no two pairs of a batch overlap."""
        return np.zeros((len(places), len(places)), bool)

    def learn(
        self, learner: nn.Module, content: tuple[Tensor | Features, Tensor], draw: Draw
    ) -> Losses:
        images, _ = content
        draw.seed_torch(1 + draw.share.rank)
        with draw.autocast():
            descriptors = learner(images)
        rows = draw.gather(descriptors.float())
        # A process's share is a run of the whole batch: together they are photos, then tiles.
        half, options = len(rows) // 2, self.pair_options
        pulls, pushes = pair_loss(
            rows[:half],
            rows[half:],
            alpha=options.alpha,
            beta=options.beta,
            weights=options.push_weights,
        )
        return Losses(pulls + pushes, {"pulls": pulls, "pushes": pushes})

    def state(self) -> dict[str, Tensor]:
        return {}

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Nothing is kept beside the network."""
