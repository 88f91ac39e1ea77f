"""The branch that learns from photos from orbit with the tiles that they show, after the
description of AstroLoc (ICCV 2025).

The authors published no code: what their text leaves open is our choice, and no figure of this
training is AstroLoc's.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from whence.training.datasets import Dataset
from whence.training.options.kinds import BranchOptions
from whence.training.options.tiles import YearWiseOptions


@dataclass(frozen=True, slots=True)
class PhotoPairsOptions(BranchOptions):
    """Pairs of a photo and a tile, no two of which overlap; every other photo and tile of a batch
    is wrong."""

    kind: Literal["photo pairs"] = "photo pairs"
    num_pairs: int = 48
    least_iou: float = 0.2
    """What photo and tile must share of what they cover together."""
    batches_per_epoch: int = 500
    alpha: float = 1.0
    beta: float = 50.0
    push_weights: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)
    """Of photos to photos, photos to tiles, tiles to photos, tiles to tiles."""
    augment: YearWiseOptions = field(
        default_factory=lambda: YearWiseOptions(
            width=224, height=224, rotation_deg=20.0, per="image"
        )
    )
    """Ours: each image is changed for itself, after the photo was turned by the quarters that bring
    north nearest to its top."""

    def sizes(self, data: Dataset, *, seed: int) -> dict[str, int]:
        """Photos, places and pairs. Raises `NoPhotos` and `BadOption`."""
        from whence.training.branches.pair_batches import find_pairs

        return find_pairs(data, least_iou=self.least_iou).counts()
