"""What a place is, which of them share a batch, and a loss over descriptors and places.

Places may be found by position, be listed by the data set (GSV-Cities, Ali-bey et al.,
Neurocomputing 2022), be photos of a scene that show the same (as MegaLoc, Berton and Masone, CVPR
workshops 2025, draws from MegaScenes and ScanNet), or be mined as cliques of near photos
(CliqueMining, Izquierdo and Civera, ECCV 2024).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

By = Literal["position", "photo", "listed", "scene", "clique"]


@dataclass(frozen=True, slots=True)
class PlaceOptions:
    """What a place is: photos taken near one point in about one direction, or as the data set
    says."""

    by: By = "position"
    """`position`: as the fields below say; `photo`: every photo with those near it, alone where it
    has no position; `listed`: as a folder of GSV-Cities lists them; `scene`: photos of a scene of
    MegaScenes or ScanNet of which any two show the same; `clique`: photos of a folder of MSLS of
    which any two are near each other."""

    cell_m: float = 10.0
    """One place for each occupied cell of this side and each heading bin."""
    heading_bin_deg: float = 60.0
    """Width of the heading bins; 360 leaves headings out of it."""
    radius_m: float = 12.0
    """Photos within this distance of the place's own photo, or of each other, show it ..."""
    max_turn_deg: float = 40.0
    """... if they look in its direction, give or take this. Photos without a heading count as
    turned by 0."""
    min_photos: int = 4
    """Places with fewer photos are left out."""
    shared_share: float = 0.01
    """For scenes with a reconstruction, instead: any two photos see this share of each one's 3-D
    points together."""
    every: int = 1
    """For scenes by a tracked camera: each so-many-th frame is taken."""
    num_near: int = 15
    """For cliques: groups of photos that look alike, which are drawn around one drawn group."""
    num_batches: int = 500
    """For cliques: batches of an epoch, before which they are mined with the network as it
    stands."""


@dataclass(frozen=True, slots=True)
class BatchOptions:
    """Places x views, after GSV-Cities (Ali-bey et al., Neurocomputing 2022)."""

    num_places: int = 32
    num_views: int = 4
    min_apart_m: float = 30.0
    """Two places of a batch are at least this far apart, so that no view of one is a view of the
    other."""
    is_shuffled: bool = False
    """For listed places: whether places of all cities are mixed. As published they are not: a batch
    holds mostly one city's, which are harder to tell apart."""
    has_own: bool = False
    """Whether a place's own photo is always among its views. Two others may differ twice as much
    from each other as from it."""


@dataclass(frozen=True, slots=True)
class LossOptions:
    """The loss by name (`whence.training.losses.by_label`), its own settings, and a miner before it
    or none."""

    name: str = "multi_similarity"
    options: Mapping[str, Any] = field(default_factory=dict)
    """Settings of the loss by the names of pytorch-metric-learning; what is not named keeps that
    library's value."""
    miner: str = ""
    miner_options: Mapping[str, Any] = field(default_factory=dict)
    lr: float = 0.0
    """Learning rate of the loss's own weights (classification losses); 0 takes the network's."""
