"""The branch of MeshVPR (Berton et al., ECCV 2024): a copy of a network is aligned with it, by
pairs of photo and render."""

from __future__ import annotations

import copy
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from whence.cards import IMAGENET_MEAN, IMAGENET_STD
from whence.data.names import parse_name
from whence.data.photos import Photos
from whence.errors import BadOption, NoPhotos
from whence.models.checkpoints.files import weights_digest
from whence.models.networks import describe_pixels, describing
from whence.models.preprocessing import normalise
from whence.runtime import atomic_write, random_stream
from whence.training.branches.places import Batch, shard
from whence.training.options.aligned import AlignedOptions
from whence.training.pixels import cached_pixels, key_of, spread_rows
from whence.training.task import BatchPlace, Branch, Draw, Losses, Read, Setup, Share

_ORDER = 141
_TAUGHT_BATCH = 32
_MISSED = "art_prob_"


class AlignedBranch(Branch):
    """All pairs once an epoch, in a random order. The model as it was describes photos, once; the
    copy learns from renders.

    Nothing else is changed about photos or renders, and no wrong pairs are looked for: as
    published.
    """

    def __init__(self, options: AlignedOptions, setup: Setup) -> None:
        """Raises `BadOption`, `NoPhotos`."""
        super().__init__(options.name or options.kind)
        self.options, self.setup, self.weight = options, setup, options.weight
        pairs = setup.data.mesh_pairs
        kept = _kept(pairs.real, pairs.rendered, options)
        rows = kept[spread_rows(len(kept), options.num_pairs)]
        self.real, self.rendered = pairs.real.select(rows), pairs.rendered.select(rows)
        if not 1 <= options.batch_size <= len(rows):
            raise BadOption(
                f"batches of {options.batch_size} pairs of {len(rows)} are not possible; change "
                "batch_size"
            )
        self.teacher = copy.deepcopy(setup.learner.module).eval().requires_grad_(False)

    def describe_data(self) -> dict[str, Any]:
        return {"num_pairs": len(self.real)}

    def open(self) -> None:
        setup, options = self.setup, self.options
        size = {"width": options.width, "height": options.height, "folder": setup.pixels_folder}
        real, self.pixels = (
            cached_pixels(photos, **size, show_progress=setup.show_progress)  # type: ignore[arg-type]
            for photos in (self.real, self.rendered)
        )
        self.taught = self._described(real)

    def _described(self, real: np.ndarray) -> np.ndarray:
        """(N, D) float32 unit vectors of the photos by the model as it was, kept on disk."""
        said = repr((key_of(self.real), weights_digest(self.teacher), real.shape, self.setup.dtype))
        key = hashlib.blake2b(said.encode(), digest_size=12).hexdigest()
        file = Path(self.setup.pixels_folder) / f"real-{key}.npy"
        if not file.is_file():
            describe = describing(
                self.teacher.to(self.setup.device), device=self.setup.device, dtype=self.setup.dtype
            )
            rows = describe_pixels(describe, real, batch_size=_TAUGHT_BATCH)
            with atomic_write(file) as out:
                np.save(out, nn.functional.normalize(rows, dim=1).numpy())
        taught: np.ndarray = np.load(file, mmap_mode="r")
        return taught

    def num_batches(self, epoch: int) -> int:
        return len(self.real) // self.options.batch_size

    def read(self, place: BatchPlace, share: Share) -> Read:
        size = self.options.batch_size
        order = random_stream(self.setup.seed, _ORDER, place.epoch).permutation(len(self.real))
        whole = order[place.number * size : (place.number + 1) * size]
        rows = shard(Batch(whole, whole), rank=share.rank, num_ranks=share.num_ranks).rows
        images, taught = (
            torch.from_numpy(np.stack([part[row] for row in rows]))
            for part in (self.pixels, self.taught)
        )
        return Read((images, taught), len(rows))

    def change(self, content: tuple[Tensor, Tensor], draw: Draw) -> tuple[Tensor, Tensor]:
        """Renders as the network takes them (b, 3, H, W), and what it should say (b, D)."""
        images, taught = content
        return draw.arranged(
            normalise(images.to(draw.device), mean=IMAGENET_MEAN, std=IMAGENET_STD)
        ), taught.to(draw.device)

    def learn(self, learner: nn.Module, content: tuple[Tensor, Tensor], draw: Draw) -> Losses:
        images, taught = content
        draw.seed_torch(1 + draw.share.rank)
        with draw.autocast():
            found = learner(images)
        unit = nn.functional.normalize(found.float(), dim=1)
        cosines = (unit.detach() * taught).sum(dim=1).mean()
        return Losses(
            alignment_loss(unit, taught, loss=self.options.loss, reduction=self.options.reduction),
            {"cosine": cosines},
        )


def alignment_loss(
    output: Tensor, taught: Tensor, *, loss: str = "mse", reduction: str = "mean"
) -> Tensor:
    """The loss between what a copy says of renders (B, D) and what the model says of their photos
    (B, D), both of unit length."""
    if loss == "cosine":
        return 1 - (output * taught).sum(dim=1).mean()
    squared = (output - taught).square()
    return squared.mean() if reduction == "mean" else squared.sum(dim=1).mean()


def _kept(real: Photos, rendered: Photos, options: AlignedOptions) -> np.ndarray:
    """Rows of the pairs to learn from. Raises `NoPhotos` where none is left."""
    missed = np.array([_missed_share(path) for path in rendered.paths])
    lat = np.nan_to_num(np.asarray(real.lat, float), nan=-90.0)
    kept = np.flatnonzero((missed <= options.most_missed) & (lat <= options.most_lat))
    if not len(kept):
        raise NoPhotos(
            f"of {len(real)} pairs none is left: all lie farther north than most_lat, or miss "
            "more than most_missed"
        )
    return kept


def _missed_share(path: str) -> float:
    fields = parse_name(path)
    note = "" if fields is None else fields.note
    try:
        return float(note.removeprefix(_MISSED)) if note.startswith(_MISSED) else 0.0
    except ValueError:
        return 0.0
