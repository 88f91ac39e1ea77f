"""Recipes that learn from several sources in one step, or from another model."""

from __future__ import annotations

from whence.training.options.augment import AugmentOptions
from whence.training.options.distilled import DistilledOptions
from whence.training.options.learners import AggregatorOptions, NetworkOptions
from whence.training.options.loop import LoopOptions, OptimizerOptions, ScheduleOptions
from whence.training.options.placed import PlacesOptions
from whence.training.options.places import BatchOptions, LossOptions, PlaceOptions
from whence.training.options.tuples import MiningOptions, TuplesOptions, WordOptions
from whence.training.recipe import Recipe

_VIEWS = AugmentOptions(width=64, height=48)
TINY_JOINT = Recipe(
    name="tiny-joint",
    summary=(
        "a few steps on few photos of two sets, places of one and tuples of the other, to see "
        "that everything runs"
    ),
    learner=NetworkOptions(backbone="resnet18conv2"),
    branches=(
        PlacesOptions(
            places=PlaceOptions(radius_m=15.0, max_turn_deg=60.0, min_photos=2),
            batches=BatchOptions(num_places=4, num_views=2, min_apart_m=8.0),
            augment=_VIEWS,
            loss=LossOptions("multi_similarity", miner="multi_similarity"),
        ),
        TuplesOptions(
            weight=0.5,
            words=WordOptions(num_photos=20),
            mining=MiningOptions(
                num_queries=8, num_negatives=3, num_candidates=20, positive_m=15.0
            ),
            batch_queries=2,
            augment=_VIEWS,
        ),
    ),
    loop=LoopOptions(num_steps=6, log_every=2, validate_every=3, save_every=3),
)
DISTILLED_SMALL = Recipe(
    name="distilled-small",
    summary=(
        "a head on EfficientNet-Lite0 at 128 x 160 that learns the descriptors of a larger model "
        "(teacher), to ask for it"
    ),
    learner=NetworkOptions(
        backbone="efficientnet_lite0_blocks10_12",
        start_from="released",
        aggregator=AggregatorOptions("cosplace", {"dim": 256}),
    ),
    branches=(
        DistilledOptions(
            teacher="whence-resnet18conv4-gem-256",
            augment=AugmentOptions(
                width=160, height=128, brightness=0.2, contrast=0.2, crop=0.1, num_views=2
            ),
        ),
    ),
    optimizer=OptimizerOptions("adamw", lr=2e-3, weight_decay=1e-4),
    schedule=ScheduleOptions("cosine", warmup_steps=50, final_share=0.01),
    loop=LoopOptions(
        num_steps=2000, precision="bf16", log_every=50, validate_every=500, save_every=250
    ),
)
RECIPES = (TINY_JOINT, DISTILLED_SMALL)
