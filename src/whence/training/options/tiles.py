"""The branch that learns from map tiles of several years, as EarthLoc does (Berton, Stoken, Caputo,
Masone, CVPR 2024)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from whence.training.datasets import Dataset
from whence.training.options.kinds import BranchOptions
from whence.training.options.places import LossOptions

Grouping = Literal["looks", "photos", "random"]


@dataclass(frozen=True, slots=True)
class YearWiseOptions:
    """How tiles are changed: the images of one year of a batch all alike, or each for itself."""

    width: int = 320
    """Pixels of the tiles as the network sees them."""
    height: int = 320
    stored_px: int = 800
    """Pixels of the square that a tile is brought to first ..."""
    crop_px: int = 700
    """... and of the square cut out of it once it is turned."""
    rotation_deg: float = 45.0
    distortion: float = 0.5
    """Of the perspective, as in torchvision."""
    brightness: float = 0.9
    contrast: float = 0.9
    saturation: float = 0.9
    hue: float = 0.0
    per: Literal["year", "image"] = "year"
    num_views: int = 0
    """Ways in which tiles are seen, drawn once for all trainings; 0 draws anew every time. Where
    the backbone never learns, its maps of tiles in all these ways are kept."""


def _multi_similarity() -> LossOptions:
    options = {"alpha": 1.0, "beta": 50.0, "base": 0.0}
    return LossOptions(
        "multi_similarity", options, miner="multi_similarity", miner_options={"epsilon": 0.1}
    )


@dataclass(frozen=True, slots=True)
class TilesOptions(BranchOptions):
    """Places x years out of one group of tiles that look alike, and a loss to which tiles that
    overlap say nothing."""

    kind: Literal["tiles"] = "tiles"
    num_places: int = 96
    num_groups: int = 50
    batches_per_epoch: int = 500
    grouping: Grouping = "looks"
    """Groups by k-means over the network's descriptors, each drawn alike; those drawn as often as
    photos fall into them, as AstroLoc does; or groups at random."""
    regroup_every: int = 4
    """Epochs after which tiles are grouped anew by the network as it stands; before the first time
    groups are random."""
    is_neutral_aware: bool = True
    """Whether tiles that overlap are neither right nor wrong."""
    augment: YearWiseOptions = field(default_factory=YearWiseOptions)
    loss: LossOptions = field(default_factory=_multi_similarity)

    def sizes(self, data: Dataset, *, seed: int) -> dict[str, int]:
        """Tiles, places and years. Raises `NoPhotos` and `BadOption`."""
        from whence.training.branches.tile_places import read_tiles

        return read_tiles(data).counts()
