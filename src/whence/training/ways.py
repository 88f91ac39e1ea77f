"""How a branch sees its photos: changed anew at every step, or each in a few fixed ways.

Where photos are seen in fixed ways by a backbone that never learns, its maps of them are kept, and
a step costs the rest alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from whence.errors import BadOption
from whence.models.backbones.base import Features
from whence.models.checkpoints.files import weights_digest
from whence.models.networks import Network
from whence.models.preprocessing import normalise
from whence.runtime import map_threads, random_stream
from whence.training.augment import Augment
from whence.training.frozen import FrozenMaps
from whence.training.options.augment import AugmentOptions
from whence.training.task import BatchPlace, Draw, Setup

_WAY = 65
IsKept = Callable[[str], bool]
"""Whether nothing need be read of a photo of this name."""
ReadPhoto = Callable[[int, IsKept], tuple[str, np.ndarray | None]]
"""The name and the pixels (H, W, 3) uint8 of a batch's photo by its number; None in place of pixels
that are not needed."""


class _Way(NamedTuple):
    """How one photo is seen."""

    key: str
    seed: int


class SeenPhotos(NamedTuple):
    """A process's photos of a batch as they were read."""

    photos: Tensor | None
    """(m, H, W, 3) uint8 of those that were read; None for none."""
    numbers: tuple[int, ...]
    """Which of the b photos these are."""
    ways: tuple[_Way, ...]
    """How each of all b photos is seen; empty where they are changed anew."""
    first: int
    """Number of the first photo in the whole batch."""
    is_mirrored: bool = False


class Ways:
    """The photos of one branch as they are seen."""

    def __init__(self, options: AugmentOptions, setup: Setup, *, of: str = "") -> None:
        """`of` stands for the photos that names are of, where the names alone do not say. Raises
        `BadOption`."""
        if options.num_views and options.small_steps:
            raise BadOption(
                "photos seen in fixed ways have one size: leave augment.small_steps or "
                "augment.num_views out"
            )
        self.options, self.setup, self.of = options, setup, of
        self.augment = Augment(options, seed=setup.seed)
        self.maps: FrozenMaps | None = None

    def open(self) -> None:
        """Find the maps that are kept, where there are any to keep; before the first batch is
        read."""
        network, setup = self.setup.learner.module, self.setup
        if not self.options.num_views or not isinstance(network, Network):
            return
        if any(parameter.requires_grad for parameter in network.backbone.parameters()):
            return
        # How often photos are mirrored, and in how many ways they are seen, says nothing of any one
        # of them.
        seen = replace(self.options, flip_share=0.0, num_views=0)
        what = repr(
            (network.backbone.name, weights_digest(network.backbone), setup.dtype, self.of, seen)
        )
        folder = Path(setup.pixels_folder) / f"maps-{_digest(what)}"
        self.maps = FrozenMaps(folder, network.backbone, device=setup.device, dtype=setup.dtype)

    def read(self, place: BatchPlace, num: int, photo: ReadPhoto, *, first: int = 0) -> SeenPhotos:
        """The `num` photos of a batch from its `first` on, as far as they must be read."""
        is_mirrored = bool(self.options.num_views) and self._is_mirrored(place)

        def look(number: int) -> tuple[_Way | None, np.ndarray | None]:
            if not self.options.num_views:
                return None, photo(number, lambda name: False)[1]
            random = random_stream(self.setup.seed, _WAY, *place, first + number)
            view = int(random.integers(self.options.num_views))
            name, pixels = photo(number, lambda name: self._has(_key(name, view, is_mirrored)))
            return _Way(
                _key(name, view, is_mirrored), int(_digest(f"{view}|{name}")[:15], 16)
            ), pixels

        found = list(map_threads(look, range(num)))
        numbers = tuple(number for number, (_, pixels) in enumerate(found) if pixels is not None)
        photos = (
            torch.from_numpy(np.stack([pixels for _, pixels in found if pixels is not None]))
            if numbers
            else None
        )
        ways = tuple(way for way, _ in found if way is not None)
        return SeenPhotos(photos, numbers, ways, first, is_mirrored)

    def change(self, views: SeenPhotos, draw: Draw) -> Tensor | Features:
        """The images (b, 3, H, W) that the network is given, normalised; or what its backbone made
        of them."""
        photos = None if views.photos is None else views.photos.to(draw.device)
        if not views.ways:
            assert photos is not None
            return draw.arranged(
                self.augment(photos, step=draw.step, batch=draw.batch, first=views.first)
            )
        if self.maps is None:
            return draw.arranged(self._fixed(photos, views, range(len(views.numbers))))
        # A batch is read ahead: some of its maps may have been made since.
        missing = {
            views.ways[number].key: index
            for index, number in reversed(list(enumerate(views.numbers)))
        }
        keys = [way.key for way in views.ways]
        chosen = [missing[key] for key in dict.fromkeys(keys) if key not in self.maps]
        return self.maps.features(
            keys, draw.arranged(self._fixed(photos, views, chosen)) if chosen else None
        )

    def plain(self, names: Sequence[str], read: Callable[[np.ndarray], np.ndarray]) -> Features:
        """The features of photos as they are; `read` makes uint8 (n, H, W, 3) of these numbers of
        them. Where maps are kept."""
        assert self.maps is not None
        keys = [_key(name, 0, False) for name in names]
        missing = np.array(
            [number for number, key in enumerate(keys) if key not in self.maps], np.int64
        )
        images = (
            normalise(torch.from_numpy(read(missing)).to(self.setup.device))
            if len(missing)
            else None
        )
        return self.maps.features(keys, images)

    def keep(self) -> None:
        """Write the maps that are not on disk yet."""
        if self.maps is not None:
            self.maps.keep()

    def _fixed(self, photos: Tensor | None, views: SeenPhotos, rows: Sequence[int]) -> Tensor:
        assert photos is not None
        seeds = [views.ways[views.numbers[index]].seed for index in rows]
        return self.augment.fixed(photos[list(rows)], seeds, is_mirrored=views.is_mirrored)

    def _has(self, key: str) -> bool:
        return self.maps is not None and key in self.maps

    def _is_mirrored(self, place: BatchPlace) -> bool:
        """Whole batches are mirrored, or none of their photos."""
        drawn = np.random.default_rng([self.setup.seed, place.epoch, place.number]).random()
        return bool(drawn < self.options.flip_share)


def _key(name: str, view: int, is_mirrored: bool) -> str:
    return _digest(f"{view}|{is_mirrored:d}|{name}")


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()
