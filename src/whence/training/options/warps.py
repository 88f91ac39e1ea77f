"""The two branches that GeoWarp's regressor learns from: views cut out of one photo, and pairs of
photos of one place.

After Berton, Masone, Paolicelli, Caputo: Viewpoint Invariant Dense Matching for Visual
Geolocalization, ICCV 2021, and the authors' public code.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from whence.training.options.kinds import BranchOptions

Form = Literal["code", "paper"]
CellReadout = Literal["exact", "features"]
Orders = Literal["together", "apart"]


@dataclass(frozen=True, slots=True)
class ViewPairOptions:
    """Pairs of views cut out of one photo."""

    num_views: int = 16
    """Photos of a batch that two views are cut out of."""
    k: float = 0.6
    """How far the sides of a view may move inward, from 0 to 1."""
    colour: float = 0.0
    """How far brightness, contrast and colours of each view are changed, from 0 (as published) to
    1."""


@dataclass(frozen=True, slots=True)
class ViewLossOptions:
    """The loss over views, whose quadrilaterals are known."""

    form: Form = "code"
    """As the public code has it, or as the paper prints it."""
    self_supervised: float = 1.0
    """Its weight; 0 leaves the branch out, with all its computing."""
    orders: Orders = "together"
    """Whether the regressor sees both orders of the pairs in one batch, whose statistics its batch
    norms take, or, as published, each in a batch of its own. Once it is trained there is no
    difference."""


@dataclass(frozen=True, slots=True)
class ViewsOptions(BranchOptions):
    """Views cut out of the photos of a set, database and queries."""

    kind: Literal["views"] = "views"
    pairs: ViewPairOptions = ViewPairOptions()
    losses: ViewLossOptions = ViewLossOptions()

    @property
    def is_idle(self) -> bool:
        """Whether nothing is learned from it."""
        return not self.weight or not self.losses.self_supervised


@dataclass(frozen=True, slots=True)
class FoundPairOptions:
    """Queries with the positives that they find."""

    num_pairs: int = 16
    """Queries with positives of a batch."""
    num_retrieved: int = 20
    """Positives are looked for among so many database photos nearest to the query's descriptor
    ..."""
    radius_m: float = 25.0
    """... taken within this distance of the query ..."""
    max_squared_distance: float = 1.2
    """... whose descriptors, at unit length, are this near."""
    max_queries: int = 0
    """Queries that positives are looked for, evenly spread over the set; 0 for all. Maps of few
    photos are all remembered."""


@dataclass(frozen=True, slots=True)
class FoundPairLossOptions:
    """Weights of the two losses over pairs; 0 leaves one out, with all its computing."""

    form: Form = "code"
    """As the public code has them, or as the paper prints them. The printed feature-wise loss makes
    cells orthogonal, not alike."""
    features: float = 10.0
    consistency: float = 0.1
    orders: Orders = "together"
    """As for views; here with their mirrored photos."""
    readout: CellReadout = "exact"
    """Cells of the feature-wise loss: through pixels and backbone as published, or out of the maps
    of the whole photos."""


@dataclass(frozen=True, slots=True)
class FoundPairsOptions(BranchOptions):
    """Pairs of a query and a photo of its place, found by the network that stays as it is."""

    kind: Literal["pairs"] = "pairs"
    pairs: FoundPairOptions = FoundPairOptions()
    losses: FoundPairLossOptions = FoundPairLossOptions()

    @property
    def is_idle(self) -> bool:
        """Whether nothing is learned from it."""
        return not self.weight or not (self.losses.features or self.losses.consistency)
