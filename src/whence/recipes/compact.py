"""Compact descriptors of the project's own, trained from random weights on rendered cities."""

from __future__ import annotations

from dataclasses import replace

from whence.recipes.orbit import SMALL_TILES
from whence.training.options.augment import AugmentOptions
from whence.training.options.learners import AggregatorOptions, NetworkOptions, OwnHeadOptions
from whence.training.options.loop import LoopOptions, OptimizerOptions, ScheduleOptions
from whence.training.options.placed import PlacesOptions
from whence.training.options.places import BatchOptions, LossOptions, PlaceOptions
from whence.training.options.tiles import YearWiseOptions
from whence.training.recipe import Recipe

COMPACT = Recipe(
    name="whence-resnet18conv4-gem-256",
    summary=(
        "ResNet-18 to conv4 with GeM, from random weights, on rendered cities: about an hour on "
        "two cores"
    ),
    learner=NetworkOptions(
        backbone="resnet18conv4", aggregator=AggregatorOptions("gem", {"l2": "none"})
    ),
    branches=(
        PlacesOptions(
            places=PlaceOptions(radius_m=10.0, max_turn_deg=35.0, min_photos=3),
            batches=BatchOptions(num_places=48, num_views=2, has_own=True),
            augment=AugmentOptions(
                width=128,
                height=96,
                stored_width=160,
                stored_height=120,
                small_width=96,
                small_height=72,
                small_steps=1800,
                brightness=0.25,
                contrast=0.25,
                saturation=0.25,
                crop=0.2,
                flip_share=0.5,
            ),
            loss=LossOptions("nt_xent", {"temperature": 0.07}),
        ),
    ),
    optimizer=OptimizerOptions("adamw", lr=2e-3, weight_decay=1e-2),
    schedule=ScheduleOptions("cosine", warmup_steps=50, final_share=0.01),
    loop=LoopOptions(
        num_steps=2800,
        precision="bf16",
        ema_decay=0.99,
        log_every=20,
        validate_every=200,
        save_every=100,
        is_channels_last=True,
    ),
)
_STREETS = PlacesOptions(
    places=PlaceOptions(radius_m=12.0, max_turn_deg=40.0, min_photos=2),
    batches=BatchOptions(num_places=128, num_views=2, has_own=True),
    augment=AugmentOptions(width=320, height=256, num_views=1),
    loss=LossOptions("nt_xent", {"temperature": 0.07}),
)
LITE = Recipe(
    name="whence-lite0",
    summary=(
        "a small head on EfficientNet-Lite0 as it was released, on rendered cities: half an hour "
        "on two cores"
    ),
    learner=NetworkOptions(
        backbone="efficientnet_lite0_blocks10_12",
        start_from="released",
        aggregator=AggregatorOptions("gem-mixed", {"num_mixed": 256, "dim": 256}),
    ),
    branches=(_STREETS,),
    optimizer=OptimizerOptions("adamw", lr=2e-3, weight_decay=1e-2),
    schedule=ScheduleOptions("cosine", warmup_steps=75, final_share=0.001),
    loop=LoopOptions(
        num_steps=1500, precision="bf16", log_every=50, validate_every=500, save_every=250
    ),
)
_SCENES = BatchOptions(num_places=24, num_views=4)
MANY = replace(
    LITE,
    name="whence-lite0-many",
    summary=(
        "a small head on EfficientNet-Lite0 as it was released, on streets, landmarks, rooms and "
        "the Earth from orbit: half an hour on two cores"
    ),
    branches=(
        replace(_STREETS, name="streets", batches=replace(_STREETS.batches, num_places=64)),
        *(
            replace(_STREETS, name=name, places=places, batches=_SCENES)
            for name, places in {
                "megascenes": PlaceOptions(by="scene", shared_share=0.01),
                "scannet": PlaceOptions(by="scene", radius_m=10.0, max_turn_deg=30.0),
            }.items()
        ),
        replace(
            SMALL_TILES,
            name="earth",
            num_places=24,
            augment=YearWiseOptions(width=256, height=256, stored_px=256, crop_px=224, num_views=2),
        ),
    ),
)
ADAPT = Recipe(
    name="adapt",
    summary=(
        "the head of the network that comes with Whence learns a database's own photos (--db): "
        "minutes on one core"
    ),
    learner=OwnHeadOptions(),
    branches=(
        PlacesOptions(
            places=PlaceOptions(by="photo", radius_m=12.0, max_turn_deg=40.0),
            batches=BatchOptions(num_places=64, num_views=2, min_apart_m=30.0, has_own=True),
            augment=AugmentOptions(
                width=320,
                height=256,
                brightness=0.5,
                contrast=0.5,
                saturation=0.4,
                hue=0.05,
                perspective=0.35,
                crop=0.5,
                rotation_deg=8.0,
                grey_share=0.1,
                blur_share=0.2,
                num_views=4,
            ),
            loss=LossOptions("nt_xent", {"temperature": 0.07}),
        ),
    ),
    optimizer=OptimizerOptions("adamw", lr=3e-4, weight_decay=1e-2),
    schedule=ScheduleOptions("cosine", warmup_steps=10, final_share=0.01),
    loop=LoopOptions(num_steps=150, log_every=10, save_every=50),
)
TINY = Recipe(
    name="tiny",
    summary="a few steps on few photos, to see that everything runs",
    learner=NetworkOptions(backbone="resnet18conv2"),
    branches=(
        PlacesOptions(
            places=PlaceOptions(radius_m=15.0, max_turn_deg=60.0, min_photos=2),
            batches=BatchOptions(num_places=4, num_views=2, min_apart_m=10.0),
            augment=AugmentOptions(width=64, height=48),
            loss=LossOptions("multi_similarity", miner="multi_similarity"),
        ),
    ),
    loop=LoopOptions(num_steps=6, log_every=2, validate_every=3, save_every=3),
)
RECIPES = (COMPACT, LITE, MANY, ADAPT, TINY)
