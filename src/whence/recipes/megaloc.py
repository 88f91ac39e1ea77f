"""MegaLoc: five data sets, six sub-batches, a loss over the pairs of each; and small for two cores.

After Berton and Masone, CVPR workshops 2025. Published: the sources and how their quadruplets are
drawn, 32 of each a step, one multi-similarity loss for each sub-batch, whose gradients are taken
one after the other, RandAugment at 224, AdamW, 40,000 steps, the last four blocks of DINOv2 ViT-B
learning. Neither the paper nor any stored copy says the rate, the decay, the schedule or the the
constants of the loss: those here are SALAD's, our choice. So is every 20th frame of ScanNet's
thirty a second, and mining MSLS anew every 2,000 steps with the network that learns.
"""

from __future__ import annotations

from dataclasses import replace

from whence.data.partition import CellOptions
from whence.recipes.gsv_cities import PAIRS, seen_at
from whence.training.options.augment import AugmentOptions
from whence.training.options.classes import CellViewsOptions
from whence.training.options.kinds import BranchOptions
from whence.training.options.learners import AggregatorOptions, NetworkOptions
from whence.training.options.loop import LoopOptions, OptimizerOptions, ScheduleOptions
from whence.training.options.placed import PlacesOptions
from whence.training.options.places import BatchOptions, LossOptions, PlaceOptions
from whence.training.recipe import Recipe

_CELLS = CellOptions(cell_m=15.0, heading_bin_deg=360.0, num_apart=3, num_turned=1, min_photos=5)
SOURCES = ("lateral", "frontal", "gsv_cities", "msls", "megascenes", "scannet")
"""The sub-batches; the first two learn from one data set, `sf_xl`."""


def branches(
    augment: AugmentOptions,
    *,
    num_places: int,
    loss: LossOptions = PAIRS,
    cells: CellOptions = _CELLS,
    batches_per_turn: int = 5000,
    num_mined: int = 2000,
    every: int = 20,
) -> tuple[BranchOptions, ...]:
    """The six sub-batches, each of `num_places` quadruplets. `every`: of ScanNet's frames each
    so-many-th is taken."""
    batches = BatchOptions(num_places, 4)
    placed = {
        "gsv_cities": PlaceOptions(by="listed", min_photos=4),
        "msls": PlaceOptions(by="clique", radius_m=25.0, num_near=15, num_batches=num_mined),
        "megascenes": PlaceOptions(by="scene", shared_share=0.01),
        "scannet": PlaceOptions(by="scene", radius_m=10.0, max_turn_deg=30.0, every=every),
    }
    return (
        *(
            CellViewsOptions(
                name=view, dataset="sf_xl", cells=cells, view=view, num_groups=0,
                batches_per_turn=batches_per_turn, augment=augment, loss=loss, batches=batches,
            )
            for view in ("lateral", "frontal")
        ),
        *(
            PlacesOptions(name=name, places=places, batches=batches, augment=augment, loss=loss)
            for name, places in placed.items()
        ),
    )  # fmt: skip


MEGALOC = Recipe(
    name="megaloc",
    summary=(
        "MegaLoc: SF-XL across and along its streets, GSV-Cities, MSLS, MegaScenes, ScanNet, 32 x "
        "4 of each; for a large GPU"
    ),
    learner=NetworkOptions(
        backbone="dinov2_vitb14",
        start_from="released",
        freeze_before="blocks.8",
        aggregator=AggregatorOptions("megaloc"),
    ),
    branches=branches(seen_at(224), num_places=32),
    optimizer=OptimizerOptions("adamw", lr=6e-5, weight_decay=9.5e-9, decays_all=True),
    schedule=ScheduleOptions("linear", final_share=0.2),
    loop=LoopOptions(
        num_steps=40_000, precision="bf16", log_every=20, validate_every=1000, save_every=1000
    ),
)
SMALL_SEEN = AugmentOptions(
    width=160,
    height=128,
    brightness=0.3,
    contrast=0.3,
    saturation=0.3,
    hue=0.05,
    crop=0.3,
    num_views=4,
)
"""Photos in four fixed ways, so that the maps of a frozen backbone are made once."""


def _small(name: str, aggregator: AggregatorOptions, summary: str) -> Recipe:
    return Recipe(
        name=name,
        summary=summary,
        learner=NetworkOptions(
            backbone="efficientnet_lite0_blocks10_12", start_from="released", aggregator=aggregator
        ),
        branches=(replace(_LISTED_PLACES, name=""),),
        optimizer=OptimizerOptions("adamw", lr=1e-3, weight_decay=1e-4),
        schedule=ScheduleOptions("cosine", warmup_steps=50, final_share=0.01),
        loop=LoopOptions(
            num_steps=2000, precision="bf16", log_every=50, validate_every=500, save_every=250
        ),
    )


_SMALL_BRANCHES = branches(
    SMALL_SEEN,
    num_places=8,
    cells=replace(_CELLS, num_apart=2),
    batches_per_turn=25,
    num_mined=100,
    every=1,
)
_LISTED_PLACES = PlacesOptions(
    places=PlaceOptions(by="listed", min_photos=4),
    batches=BatchOptions(16, 4),
    augment=SMALL_SEEN,
    loss=PAIRS,
)
_FROZEN = (
    "on EfficientNet-Lite0 as it was released, at 128 x 160, on GSV-Cities: minutes on one core"
)
MEGALOC_SMALL = replace(
    _small("megaloc-small", AggregatorOptions("gem-mixed", {"num_mixed": 256, "dim": 256}), ""),
    summary=(
        "MegaLoc's six sub-batches of 8 x 4 and a small head on EfficientNet-Lite0 as it was "
        "released: minutes on one core"
    ),
    branches=_SMALL_BRANCHES,
)
SALAD_SMALL = _small(
    "salad-small",
    AggregatorOptions(
        "salad", {"num_words": 16, "word_dim": 32, "hidden": 128, "has_token": False}
    ),
    f"SALAD's head without a class token, {_FROZEN}",
)
MIXVPR_SMALL = _small(
    "mixvpr-small",
    AggregatorOptions("mixvpr", {"channels_out": 128, "rows": 4, "depth": 2, "grid": [4, 5]}),
    f"MixVPR's head, {_FROZEN}",
)
BOQ_SMALL = _small(
    "boq-small",
    AggregatorOptions("boq", {"width": 64, "num_queries": 16, "rows": 8}),
    f"the head of Bag-of-Queries, {_FROZEN}",
)
RECIPES = (MEGALOC, MEGALOC_SMALL, SALAD_SMALL, MIXVPR_SMALL, BOQ_SMALL)
