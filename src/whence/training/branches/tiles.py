"""The branch of map tiles: places x years of one group, changed year by year, and a loss to which
overlapping tiles say nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from whence.data.photos import Photos
from whence.errors import BadOption
from whence.models.backbones.base import Features
from whence.models.checkpoints.files import weights_digest
from whence.models.networks import Network
from whence.models.preprocessing import normalise
from whence.runtime import map_threads, progress, random_stream
from whence.training.branches.tile_groups import TileBatches, k_means
from whence.training.branches.tile_places import read_photos, read_tiles
from whence.training.frozen import FrozenMaps
from whence.training.losses.neutral import NeutralAwareLoss
from whence.training.options.tiles import TilesOptions
from whence.training.pixels import read_at
from whence.training.task import BatchPlace, Branch, Describe, Draw, Losses, Read, Setup, Share
from whence.training.yearly import YearChange, change_all, draw_change

_CHANGE, _VIEW = 123, 124
_BATCH = 32


class TilePhotos(NamedTuple):
    """This process's images of a batch as they were read."""

    photos: Tensor | None
    """(m, S, S, 3) uint8 of those that were read."""
    numbers: tuple[int, ...]
    """Which of the images these are."""
    changes: tuple[YearChange, ...]
    """How each image is seen."""
    keys: tuple[str, ...]
    """What its map is kept under; empty where none are."""
    is_neutral: Tensor
    """(P, P) bool of the whole batch."""


class TileBranch(Branch):
    """Tiles of several years; see `whence.training.options.tiles`."""

    is_mined = True

    def __init__(self, options: TilesOptions, setup: Setup) -> None:
        """Raises `NoPhotos`, `BadOption` and `UnknownName`."""
        super().__init__(options.name or options.kind)
        seen = options.augment
        if seen.stored_px < seen.crop_px or min(seen.crop_px, seen.width, seen.height) < 16:
            raise BadOption(
                f"a crop of {seen.crop_px} pixels out of {seen.stored_px} is not possible"
            )
        self.options, self.setup, self.weight, self.loss_lr = (
            options,
            setup,
            options.weight,
            options.loss.lr,
        )
        self.places = read_tiles(setup.data)
        self.batches = self.make_batches()
        self.loss = NeutralAwareLoss(options.loss)
        self.maps: FrozenMaps | None = None

    def make_batches(self) -> TileBatches:
        """Batches of tiles that are learned from together. Raises `BadOption`."""
        return TileBatches(self.places, options=self.options, seed=self.setup.seed)

    def describe_data(self) -> dict[str, Any]:
        return self.places.counts()

    def open(self) -> None:
        network, setup = self.setup.learner.module, self.setup
        if not self.options.augment.num_views or not isinstance(network, Network):
            return
        if any(parameter.requires_grad for parameter in network.backbone.parameters()):
            return
        seen = replace(self.options.augment, num_views=0, per="year")
        what = repr((network.backbone.name, weights_digest(network.backbone), setup.dtype, seen))
        folder = Path(setup.pixels_folder) / f"maps-{tile_key(what)}"
        self.maps = FrozenMaps(folder, network.backbone, device=setup.device, dtype=setup.dtype)

    def num_batches(self, epoch: int) -> int:
        return self.options.batches_per_epoch

    def refresh(self, epoch: int, describe: Describe) -> None:
        """Group the places anew where it is time, by the last year's tiles; the main process does
        and tells the others."""
        groups, shares = self.batches.groups, self.batches.shares
        if describe.share.rank == 0:
            if self.batches.is_regrouped(epoch):
                with progress("grouping", total=None, show=self.setup.show_progress):
                    groups, shares = self.regroup(describe)
            elif epoch < self.options.regroup_every or self.options.grouping == "random":
                groups, shares = self.batches.random_groups(epoch), np.empty(0)
        self.batches.groups = describe.broadcast(groups)
        is_weighted = self.options.grouping == "photos" and epoch >= self.options.regroup_every
        if is_weighted:
            known = shares if len(shares) else np.zeros(self.options.num_groups)
            self.batches.shares = describe.broadcast(known.astype(np.float64))

    def regroup(self, describe: Describe) -> tuple[np.ndarray, np.ndarray]:
        """(P,) groups by how the network sees the last year's tiles, and how many photos fall into
        each, if that is asked for."""
        found = self._described(self.places.photos, self.places.rows[:, -1], describe)
        centres, groups = k_means(found, self.options.num_groups, seed=self.setup.seed)
        counts = np.zeros(self.options.num_groups)
        if self.options.grouping == "photos":
            queries = read_photos(self.setup.data)
            seen = self._described(queries, np.arange(len(queries)), describe)
            gaps = ((seen[:, None] - centres[None]) ** 2).sum(axis=2)
            counts += np.bincount(gaps.argmin(axis=1), minlength=len(counts))
        return groups, counts

    def read(self, place: BatchPlace, share: Share) -> Read:
        places = self.places_of(place)
        rows, changes, keys = self.seen(places, place)
        size = len(rows) // share.num_ranks
        if size * share.num_ranks != len(rows):
            raise BadOption(
                f"{len(rows)} tiles cannot be shared evenly by {share.num_ranks} processes; "
                "change num_places"
            )
        mine = slice(share.rank * size, (share.rank + 1) * size)
        rows, changes, keys = rows[mine], changes[mine], keys[mine] if self.maps is not None else ()
        numbers = [
            number
            for number in range(len(rows))
            if self.maps is None or keys[number] not in self.maps
        ]
        side = self.options.augment.stored_px
        read = list(map_threads(lambda number: self.pixels(int(rows[number]), side), numbers))
        photos = torch.from_numpy(np.stack(read)) if read else None
        is_neutral = torch.from_numpy(self.neutral(places))
        return Read(TilePhotos(photos, tuple(numbers), changes, keys, is_neutral), len(rows))

    def places_of(self, place: BatchPlace) -> np.ndarray:
        """The places of a batch."""
        return self.batches.batch(*place)

    def seen(
        self, places: np.ndarray, place: BatchPlace
    ) -> tuple[np.ndarray, tuple[YearChange, ...], tuple[str, ...]]:
        """(B,) rows of a batch, place by place and year by year, and how each is seen and
        called."""
        seen, rows = self.options.augment, self.places.rows[places]
        num = rows.shape[1] if seen.per == "year" else rows.size
        draws = np.arange(num)
        if seen.num_views:
            draws = random_stream(self.setup.seed, _VIEW, *place).integers(seen.num_views, size=num)
            changes = [draw_change(seen, random_stream(_CHANGE, int(view))) for view in draws]
        else:
            changes = [
                draw_change(seen, random_stream(self.setup.seed, _CHANGE, *place, number))
                for number in range(num)
            ]
        # Images lie place by place: those of a year repeat its change.
        which = np.tile(np.arange(num), rows.size // num)
        files = [self.places.photos.content[row].decode() for row in rows.ravel()]
        keys = tuple(
            tile_key(f"{draws[number]}|{name}") for number, name in zip(which, files, strict=True)
        )
        return rows.ravel(), tuple(changes[number] for number in which), keys

    def pixels(self, row: int, side: int) -> np.ndarray:
        """The image of a row, brought to a square."""
        return read_at(self.places.photos.file(row), side, side)

    def neutral(self, places: np.ndarray) -> np.ndarray:
        """(P, P) bool: which of a batch's places overlap."""
        return self.places.overlaps(places)

    def change(self, content: TilePhotos, draw: Draw) -> tuple[Tensor | Features, Tensor]:
        """The network's input, and which places overlap."""
        photos = None if content.photos is None else content.photos.to(draw.device)
        neutral = content.is_neutral.to(draw.device)
        if self.maps is None:
            assert photos is not None
            return draw.arranged(
                change_all(photos, list(content.changes), self.options.augment)
            ), neutral
        # A batch is read ahead: some of its maps may have been made since; and it may hold one
        # image several times.
        missing = {
            content.keys[number]: index
            for index, number in reversed(list(enumerate(content.numbers)))
        }
        chosen = [missing[key] for key in dict.fromkeys(content.keys) if key not in self.maps]
        images = None
        if chosen:
            assert photos is not None
            changes = [content.changes[content.numbers[index]] for index in chosen]
            images = draw.arranged(change_all(photos[chosen], changes, self.options.augment))
        return self.maps.features(content.keys, images), neutral

    def learn(
        self, learner: nn.Module, content: tuple[Tensor | Features, Tensor], draw: Draw
    ) -> Losses:
        images, is_neutral = content
        draw.seed_torch(1 + draw.share.rank)
        with draw.autocast():
            descriptors = learner(images)
        draw.seed_torch(0)
        labels = torch.arange(len(is_neutral), device=draw.device).repeat_interleave(
            len(self.places.years)
        )
        neutral = is_neutral if self.options.is_neutral_aware else None
        assert isinstance(self.loss, NeutralAwareLoss)
        return Losses(self.loss(draw.gather(descriptors.float()), labels, neutral))

    def keep(self) -> None:
        if self.maps is not None:
            self.maps.keep()

    def state(self) -> dict[str, Tensor]:
        """The groups that are drawn from now, and how often each is."""
        return {
            "groups": torch.from_numpy(self.batches.groups),
            "shares": torch.from_numpy(self.batches.shares),
        }

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on with what `state` gave."""
        self.batches.groups, self.batches.shares = (
            tensors["groups"].numpy(),
            tensors["shares"].numpy(),
        )

    def _described(self, photos: Photos, rows: np.ndarray, describe: Describe) -> np.ndarray:
        """Descriptors (n, D) of rows of photos as they are."""
        seen = self.options.augment

        def pixels(rows: np.ndarray) -> np.ndarray:
            return np.stack(
                list(
                    map_threads(
                        lambda row: read_at(photos.file(int(row)), seen.width, seen.height), rows
                    )
                )
            )

        def features(rows: np.ndarray) -> Features:
            assert self.maps is not None
            keys = [tile_key(f"plain|{photos.content[row].decode()}") for row in rows]
            missing = [row for row, key in zip(rows, keys, strict=True) if key not in self.maps]
            images = (
                normalise(torch.from_numpy(pixels(np.array(missing)))).to(self.setup.device)
                if missing
                else None
            )
            return self.maps.features(keys, images)

        found = describe(rows, pixels if self.maps is None else features, batch_size=_BATCH)
        return nn.functional.normalize(found, dim=1).numpy()


def tile_key(text: str) -> str:
    """The key that the map of an image is kept under."""
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()
