"""Photos from orbit: EarthLoc as published, AstroLoc as described, and both small for two cores."""

from __future__ import annotations

from dataclasses import replace

from whence.training.options.learners import AggregatorOptions, NetworkOptions
from whence.training.options.loop import LoopOptions, OptimizerOptions
from whence.training.options.photo_pairs import PhotoPairsOptions
from whence.training.options.tiles import TilesOptions, YearWiseOptions
from whence.training.recipe import Recipe

EARTHLOC = Recipe(
    name="earthloc",
    summary=(
        "EarthLoc's published schedule: 20 x 500 steps of 96 places x 4 years out of one of 50 "
        "groups, at 320; needs a GPU"
    ),
    learner=NetworkOptions(
        backbone="resnet50conv4",
        start_from="released",
        freeze_before="layer3",
        aggregator=AggregatorOptions("mixvpr", {"channels_out": 1024, "rows": 4, "fc_dim": 4096}),
        domain="aerial",
    ),
    branches=(TilesOptions(),),
    optimizer=OptimizerOptions("adam", lr=1e-4),
    loop=LoopOptions(
        num_steps=10_000,
        precision="bf16",
        log_every=50,
        validate_every=500,
        save_every=500,
        patience=10,
    ),
)
SMALL_TILES = TilesOptions(
    num_places=16,
    num_groups=12,
    batches_per_epoch=50,
    regroup_every=4,
    augment=YearWiseOptions(width=128, height=128, stored_px=192, crop_px=168, num_views=8),
)
EARTHLOC_SMALL = Recipe(
    name="earthloc-small",
    summary=(
        "EarthLoc's head on EfficientNet-Lite0 as it was released, at 128 x 128: minutes on one "
        "core"
    ),
    learner=NetworkOptions(
        backbone="efficientnet_lite0_blocks10_12",
        start_from="released",
        aggregator=AggregatorOptions(
            "mixvpr", {"channels_out": 128, "rows": 4, "fc_dim": 512, "grid": [4, 4]}
        ),
        domain="aerial",
    ),
    branches=(SMALL_TILES,),
    optimizer=OptimizerOptions("adam", lr=1e-3),
    loop=LoopOptions(
        num_steps=1000,
        precision="bf16",
        log_every=50,
        validate_every=250,
        save_every=250,
        is_channels_last=True,
    ),
)
ASTROLOC = Recipe(
    name="astroloc",
    summary=(
        "AstroLoc as its paper describes it (ours where it is silent): 48 pairs and 48 places x 4 "
        "years a step; needs a GPU"
    ),
    learner=NetworkOptions(
        backbone="dinov2_vitb14",
        start_from="released",
        freeze_before="blocks.8",
        aggregator=AggregatorOptions("salad", {"fc_dim": 2048}),
        domain="aerial",
    ),
    branches=(
        PhotoPairsOptions(),
        TilesOptions(
            num_places=48,
            grouping="photos",
            batches_per_epoch=500,
            regroup_every=10,
            augment=YearWiseOptions(width=224, height=224),
        ),
    ),
    optimizer=OptimizerOptions("adam", lr=5e-5),
    loop=LoopOptions(
        num_steps=30_000, precision="bf16", log_every=50, validate_every=1000, save_every=1000
    ),
)
ASTROLOC_SMALL = replace(
    EARTHLOC_SMALL,
    name="astroloc-small",
    summary=(
        "the parts of AstroLoc on EfficientNet-Lite0 as it was released, at 128 x 128, 8 pairs "
        "and 8 places x 4 years a step"
    ),
    branches=(
        PhotoPairsOptions(
            num_pairs=8,
            batches_per_epoch=50,
            augment=replace(SMALL_TILES.augment, rotation_deg=20.0, per="image"),
        ),
        replace(SMALL_TILES, num_places=8, grouping="photos"),
    ),
)
RECIPES = (EARTHLOC, EARTHLOC_SMALL, ASTROLOC, ASTROLOC_SMALL)
