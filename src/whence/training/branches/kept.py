"""The branch of places x views over a backbone that never learns: what it makes of the photos is computed once and kept on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from whence.errors import BadOption
from whence.models.backbones.base import Features
from whence.models.checkpoints.files import weights_digest
from whence.models.networks import Network, describe_pixels
from whence.models.preprocessing import normalise
from whence.runtime import atomic_write, progress
from whence.training.branches.placed import PlaceBranch, PlacePhotos
from whence.training.branches.places import shard
from whence.training.options.augment import AugmentOptions
from whence.training.options.placed import KeptPlacesOptions
from whence.training.pixels import key_of
from whence.training.task import BatchPlace, Draw, Given, Read, Share

_PART = 512
"""Photos whose maps share a file: what a killed run loses at most."""
_BATCH = 16


class KeptPlaceBranch(PlaceBranch):
    """Places x views, and a loss over what the aggregator makes of kept maps. A whole batch is mirrored, or none of it."""

    def __init__(self, options: KeptPlacesOptions, given: Given) -> None:
        """Raises `BadOption` for a backbone that learns and for other augmentation, and as `PlaceBranch`."""
        seen, network = options.augment, given.learner.module
        if not isinstance(network, Network) or any(one.requires_grad for one in network.backbone.parameters()):
            raise BadOption("only the maps of a backbone that never learns can be kept; take the branch places")
        plain = AugmentOptions(width=seen.width, height=seen.height, flip_share=seen.flip_share)
        if seen != plain:
            raise BadOption("kept maps are those of photos as they are, or mirrored: leave all other augmentation out")
        super().__init__(options, given)

    def open(self) -> None:
        super().open()
        height, width = self.pixels.shape[1:3]
        digest = weights_digest(self.given.learner.module.backbone)
        key = f"{key_of(self.batches.photos)}-{width}x{height}-{digest}-{self.given.dtype or torch.float32}".replace("torch.", "")
        ways = (False, True) if self.options.augment.flip_share else (False,)
        folder = Path(self.given.pixels_folder)
        self.maps = [
            _KeptMaps(folder / f"{key}{'-mirrored' * is_mirrored}", self.pixels, self.given, is_mirrored=is_mirrored)
            for is_mirrored in ways
        ]
        for maps in self.maps:
            maps.make(show_progress=self.given.show_progress)

    def read(self, place: BatchPlace, share: Share) -> Read:
        whole = self.batches.batch(place.epoch, place.number)
        mine = shard(whole, rank=share.rank, num_ranks=share.num_ranks)
        drawn = np.random.default_rng([self.given.seed, place.epoch, place.number]).random()
        maps = self.maps[int(drawn < self.options.augment.flip_share)]
        photos = torch.from_numpy(np.stack([maps[row] for row in mine.rows]))
        return Read(PlacePhotos(photos, torch.from_numpy(whole.labels), share.rank * len(mine.rows)), len(photos))

    def change(self, content: PlacePhotos, draw: Draw) -> tuple[Tensor, Tensor]:
        """The maps, and the labels of the whole batch."""
        return content.photos.to(draw.device).float(), content.labels

    def describe(self, learner: nn.Module, images: Tensor) -> Tensor:
        """Descriptors (b, D) of maps (b, C, h, w)."""
        assert isinstance(learner, Network)
        descriptors: Tensor = learner.aggregator(Features(images))
        return descriptors


class _KeptMaps:
    """The maps of all photos, float16, in files of some photos each, mapped into memory."""

    def __init__(self, folder: Path, pixels: np.ndarray, given: Given, *, is_mirrored: bool) -> None:
        self.folder, self.pixels, self.is_mirrored = folder, pixels, is_mirrored
        self.network: Network = given.learner.module
        self.device, self.dtype = given.device, given.dtype
        self.parts: list[np.ndarray] = []

    def __getitem__(self, row: int) -> np.ndarray:
        """The map (C, h, w) of a photo."""
        found: np.ndarray = self.parts[row // _PART][row % _PART]
        return found

    def make(self, *, show_progress: bool | None) -> None:
        """Compute what is not there yet, part by part, and map all of it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        starts = range(0, len(self.pixels), _PART)
        files = [self.folder / f"{start:08}.npy" for start in starts]
        self.network.backbone.to(self.device).eval()
        with progress("keeping maps", total=len(files), show=show_progress) as advance:
            for start, file in zip(starts, files, strict=True):
                if not file.is_file():
                    found = describe_pixels(self._maps, self.pixels[start : start + _PART], batch_size=_BATCH)
                    with atomic_write(file) as out:
                        np.save(out, found.half().numpy())
                advance(1)
        self.parts = [np.load(file, mmap_mode="r") for file in files]

    def _maps(self, photos: Tensor) -> Tensor:
        images = normalise(photos.to(self.device), mean=self.network.backbone.mean, std=self.network.backbone.std)
        with torch.autocast(self.device.type, dtype=self.dtype, enabled=self.dtype is not None):
            maps: Tensor = self.network.features(images.flip(3) if self.is_mirrored else images).map
        return maps
