"""Places as classes: CosPlace, EigenPlaces and Divide&Classify as published, and small for two
cores.

Constants are those of the authors' public code. Where EigenPlaces' paper says otherwise there is a
recipe of its own.
"""

from __future__ import annotations

from dataclasses import replace

from whence.data.partition import CellOptions
from whence.training.options.augment import AugmentOptions
from whence.training.options.classes import ClassesOptions
from whence.training.options.learners import AggregatorOptions, NetworkOptions
from whence.training.options.loop import LoopOptions, OptimizerOptions, ScheduleOptions
from whence.training.options.places import LossOptions
from whence.training.options.validation import RecallOptions
from whence.training.recipe import Recipe

_COLOURS = AugmentOptions(
    width=512, height=512, brightness=0.7, contrast=0.7, saturation=0.7, hue=0.5, crop=0.5
)
_COSFACE = {"scale": 30.0, "margin": 0.4}
_WIDE_COSFACE = {"scale": 100.0, "margin": 0.4}
_EIGENPLACES_CELLS = CellOptions(
    cell_m=15.0, heading_bin_deg=360.0, num_apart=3, num_turned=1, min_photos=5
)
_DIVIDE_CELLS = CellOptions(
    cell_m=20.0, heading_bin_deg=360.0, num_apart=2, num_turned=1, min_photos=10
)


def _cosplace(theirs: str, backbone: str, dim: int, frozen_before: str) -> Recipe:
    return Recipe(
        name=f"cosplace-{theirs}-{dim}",
        summary=(
            "CosPlace's published schedule: 8 of 50 groups, 50 x 10,000 steps of 32 crops at "
            f"512; {theirs}, needs a GPU"
        ),
        learner=NetworkOptions(
            backbone=backbone,
            start_from="released",
            freeze_before=frozen_before,
            aggregator=AggregatorOptions("cosplace", {"dim": dim}),
        ),
        branches=(ClassesOptions(augment=_COLOURS, loss=LossOptions("cosface", _COSFACE)),),
        optimizer=OptimizerOptions("adam", lr=1e-5),
        loop=LoopOptions(num_steps=500_000, log_every=100, validate_every=10_000, save_every=1000),
    )


def _sides(options: ClassesOptions) -> tuple[ClassesOptions, ...]:
    """The two branches of EigenPlaces."""
    return tuple(replace(options, name=view, view=view) for view in ("lateral", "frontal"))


def _eigenplaces(theirs: str, backbone: str, dim: int, frozen_before: str) -> Recipe:
    branch = ClassesOptions(
        cells=_EIGENPLACES_CELLS,
        num_groups=0,
        batches_per_turn=5000,
        augment=_COLOURS,
        loss=LossOptions("cosface", _WIDE_COSFACE),
    )
    return Recipe(
        name=f"eigenplaces-{theirs}-{dim}",
        summary="EigenPlaces' published code: 9 groups of panoramas, 40 x 5,000 steps of 32 + 32 "
        f"crops; start_from a CosPlace of dimension 512; {theirs}, needs a GPU",
        learner=NetworkOptions(
            backbone=backbone,
            start_from=f"cosplace-{theirs}-512",
            start_with="backbone",
            freeze_before=frozen_before,
            aggregator=AggregatorOptions("cosplace", {"dim": dim}),
        ),
        branches=_sides(branch),
        optimizer=OptimizerOptions("adam", lr=1e-5),
        loop=LoopOptions(
            num_steps=200_000, precision="fp16", log_every=100, validate_every=5000, save_every=1000
        ),
    )


def _as_in_the_paper(recipe: Recipe) -> Recipe:
    """EigenPlaces as its paper says: twice the photos a step, from weights of ImageNet."""
    return replace(
        recipe,
        name=f"{recipe.name}-paper",
        summary=(
            "as the paper of EigenPlaces says: 64 + 64 crops a step, from ImageNet's weights; "
            "else as its code"
        ),
        learner=replace(recipe.learner, start_from="released", start_with="all"),  # type: ignore[call-arg]
        branches=tuple(replace(branch, batch_size=64) for branch in recipe.branches),  # type: ignore[call-arg]
    )


EIGENPLACES, EIGENPLACES_LARGE = (
    _eigenplaces("resnet18", "resnet18conv5", 512, "layer3"),
    _eigenplaces("resnet50", "resnet50conv5", 2048, "layer3"),
)
DIVIDE_AND_CLASSIFY = Recipe(
    name="divide-and-classify-efficientnet-b0",
    summary=(
        "Divide&Classify's published schedule: cells of 20 m in 4 groups, 500 x 2,000 steps of 64 "
        "crops at 224; needs a GPU"
    ),
    learner=NetworkOptions(
        backbone="efficientnet_b0",
        start_from="released",
        freeze_before="features.5",
        aggregator=AggregatorOptions("spoc", {"l2": "none", "fc_dim": 1280}),
    ),
    branches=(
        ClassesOptions(
            cells=_DIVIDE_CELLS,
            num_groups=0,
            batch_size=64,
            batches_per_turn=2000,
            augment=AugmentOptions(width=224, height=224, crop=0.34),
            loss=LossOptions("arcface_easy", {"scale": 100.0, "margin": 0.2}),
        ),
    ),
    optimizer=OptimizerOptions("adam", lr=1e-4),
    schedule=ScheduleOptions("plateau", epoch_steps=2000, patience=10, factor=0.1, least_lr=1e-6),
    loop=LoopOptions(
        num_steps=1_000_000, precision="fp16", log_every=100, validate_every=2000, save_every=1000
    ),
)

_VIEWS = AugmentOptions(
    width=128,
    height=96,
    num_views=4,
    brightness=0.3,
    contrast=0.3,
    saturation=0.3,
    hue=0.1,
    crop=0.3,
)
_SMALL_LOOP = LoopOptions(
    num_steps=2000,
    precision="bf16",
    log_every=50,
    validate_every=500,
    save_every=250,
    is_channels_last=True,
)
_LITE = NetworkOptions(
    backbone="efficientnet_lite0_blocks10_12",
    start_from="released",
    aggregator=AggregatorOptions("cosplace", {"dim": 512}),
)
COSPLACE_SMALL = Recipe(
    name="cosplace-small",
    summary=(
        "CosPlace's head on EfficientNet-Lite0 as it was released, at 96 x 128: minutes on one core"
    ),
    learner=_LITE,
    branches=(
        ClassesOptions(
            cells=CellOptions(num_apart=2),
            num_groups=0,
            batches_per_turn=25,
            augment=_VIEWS,
            loss=LossOptions("cosface", _COSFACE),
        ),
    ),
    optimizer=OptimizerOptions("adam", lr=1e-3),
    loop=_SMALL_LOOP,
)
EIGENPLACES_SMALL = Recipe(
    name="eigenplaces-small",
    summary=(
        "EigenPlaces' head on EfficientNet-Lite0 as it was released, at 96 x 128: minutes on one "
        "core"
    ),
    learner=_LITE,
    branches=_sides(
        ClassesOptions(
            cells=replace(_EIGENPLACES_CELLS, num_apart=2),
            num_groups=0,
            batch_size=16,
            batches_per_turn=25,
            augment=_VIEWS,
            loss=LossOptions("cosface", _COSFACE),
        )
    ),
    optimizer=OptimizerOptions("adam", lr=1e-3),
    loop=_SMALL_LOOP,
)
DIVIDE_AND_CLASSIFY_SMALL = Recipe(
    name="divide-and-classify-small",
    summary=(
        "Divide&Classify's head on EfficientNet-Lite0 as it was released, at 96 x 128: minutes on "
        "one core"
    ),
    learner=_LITE,
    branches=(
        ClassesOptions(
            cells=_DIVIDE_CELLS,
            num_groups=0,
            batches_per_turn=25,
            augment=replace(
                _VIEWS, brightness=0.0, contrast=0.0, saturation=0.0, hue=0.0, crop=0.34
            ),
            loss=LossOptions("arcface_easy", {"scale": 30.0, "margin": 0.2}),
        ),
    ),
    optimizer=OptimizerOptions("adam", lr=1e-3),
    loop=_SMALL_LOOP,
    validate_on=RecallOptions(),
)
RECIPES = (
    _cosplace("resnet18", "resnet18conv5", 512, "layer3"),
    _cosplace("resnet50", "resnet50conv5", 2048, "layer3"),
    EIGENPLACES,
    EIGENPLACES_LARGE,
    _as_in_the_paper(EIGENPLACES_LARGE),
    DIVIDE_AND_CLASSIFY,
    COSPLACE_SMALL,
    EIGENPLACES_SMALL,
    DIVIDE_AND_CLASSIFY_SMALL,
)
