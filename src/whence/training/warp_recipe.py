"""`WarpRecipe`: everything a training of GeoWarp's regressor follows from, as typed values. Nothing here needs torch.

After Berton, Masone, Paolicelli, Caputo: Viewpoint Invariant Dense Matching for Visual Geolocalization, ICCV 2021, and the authors'
public code.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from whence.cards import ModelCard
from whence.errors import BadOption
from whence.training.recipe import AsText, LoopOptions, OptimizerOptions, ScheduleOptions

Form = Literal["code", "paper"]
CellReadout = Literal["exact", "features"]
Orders = Literal["together", "apart"]


@dataclass(frozen=True, slots=True)
class WarpPairOptions:
    """What is learned from: pairs of views cut out of one photo, and queries with the positives that they find."""

    num_views: int = 16
    """Photos of a batch that two views are cut out of."""
    k: float = 0.6
    """How far the sides of a view may move inward, from 0 to 1."""
    colour: float = 0.0
    """How far brightness, contrast and colours of each view are changed, from 0 (as published) to 1."""
    num_pairs: int = 16
    """Queries with positives of a batch."""
    num_retrieved: int = 20
    """Positives are looked for among so many database photos nearest to the query's descriptor ..."""
    radius_m: float = 25.0
    """... taken within this distance of the query ..."""
    max_squared_distance: float = 1.2
    """... whose descriptors, at unit length, are this near."""
    max_queries: int = 0
    """Queries that positives are looked for, evenly spread over the set; 0 for all. Maps of few photos are all remembered."""


@dataclass(frozen=True, slots=True)
class WarpLossOptions:
    """Weights of the three losses; 0 leaves one out, with all its computing."""

    form: Form = "code"
    """As the public code has them, or as the paper prints them. The printed feature-wise loss makes cells orthogonal, not alike."""
    self_supervised: float = 1.0
    features: float = 10.0
    consistency: float = 0.1
    orders: Orders = "together"
    """Whether the regressor sees both orders of the pairs, and their mirrored photos, in one batch, whose statistics its batch
    norms take, or, as published, each in a batch of its own. Once it is trained there is no difference."""
    readout: CellReadout = "exact"
    """Cells of the feature-wise loss: through pixels and backbone as published, or out of the maps of the whole photos."""


@dataclass(frozen=True, slots=True)
class WarpValidationOptions:
    """What the best weights are chosen by: recall@1 within a radius after re-ranking."""

    num_candidates: int = 5
    radius_m: float = 25.0
    num_queries: int = 0
    """Queries asked, evenly spread over the set; 0 asks all."""
    readout: CellReadout = "features"


@dataclass(frozen=True, slots=True)
class WarpRecipe(AsText):
    """One training of a regressor on top of a network that stays as it is."""

    name: str
    model: str = ""
    """The network: a name of the zoo, or a safetensors file with a card."""
    summary: str = ""
    width: int = 0
    """Pixels of the photos; 0 takes what the model's card says."""
    height: int = 0
    start_from: str = ""
    """File with a regressor to begin with; empty for one that finds both photos whole."""
    pairs: WarpPairOptions = WarpPairOptions()
    losses: WarpLossOptions = WarpLossOptions()
    optimizer: OptimizerOptions = field(default_factory=OptimizerOptions)
    schedule: ScheduleOptions = field(default_factory=ScheduleOptions)
    loop: LoopOptions = field(default_factory=LoopOptions)
    validate_on: WarpValidationOptions = WarpValidationOptions()


def image_size(recipe: WarpRecipe, card: ModelCard) -> tuple[int, int]:
    """Width and height of training photos: the recipe's, else those of the model's card. Raises `BadOption` where neither says."""
    if recipe.width and recipe.height:
        return recipe.width, recipe.height
    if card.preprocessing.size_px is None:
        raise BadOption(f"{card.name} takes photos of any size: say at which to train, with width and height")
    height, width = card.preprocessing.size_px
    return width, height
