"""GeoWarp's regressor on top of a retrieval network (Berton, Masone, Paolicelli, Caputo, ICCV
2021)."""

from __future__ import annotations

from whence.training.options.learners import RegressorOptions
from whence.training.options.loop import LoopOptions, OptimizerOptions, ScheduleOptions
from whence.training.options.validation import RerankedOptions
from whence.training.options.warps import (
    FoundPairLossOptions,
    FoundPairOptions,
    FoundPairsOptions,
    ViewLossOptions,
    ViewPairOptions,
    ViewsOptions,
)
from whence.training.recipe import Recipe

GEOWARP = Recipe(
    name="geowarp",
    summary="the published schedule: 50,000 steps at 480 x 640; needs a GPU",
    learner=RegressorOptions(width=640, height=480),
    branches=(
        ViewsOptions(losses=ViewLossOptions(orders="apart")),
        FoundPairsOptions(losses=FoundPairLossOptions(orders="apart")),
    ),
    optimizer=OptimizerOptions("sgd", lr=1e-4, weight_decay=1e-3, decays_all=True),
    loop=LoopOptions(num_steps=50_000, log_every=100, validate_every=2500, save_every=500),
    validate_on=RerankedOptions(readout="exact"),
)
GEOWARP_SMALL = Recipe(
    name="geowarp-small",
    summary="a short schedule at 192 x 256: half an hour on one core for a small network",
    learner=RegressorOptions(width=256, height=192),
    branches=(
        ViewsOptions(),
        FoundPairsOptions(
            pairs=FoundPairOptions(num_pairs=8, max_queries=600),
            losses=FoundPairLossOptions(readout="features"),
        ),
    ),
    optimizer=OptimizerOptions("adamw", lr=2e-3, weight_decay=1e-3),
    schedule=ScheduleOptions("cosine", warmup_steps=20, final_share=0.02),
    loop=LoopOptions(
        num_steps=900,
        precision="bf16",
        ema_decay=0.99,
        log_every=20,
        validate_every=100,
        save_every=100,
    ),
    validate_on=RerankedOptions(num_queries=500),
)
GEOWARP_LITE = Recipe(
    name="geowarp-lite",
    summary=(
        "on EfficientNet-Lite0 as it was released, at 256 x 320, from another network's regressor "
        "on: minutes on one core"
    ),
    learner=RegressorOptions(
        model="lite0-both-448",
        backbone="efficientnet_lite0_block10",
        width=320,
        height=256,
        start_from="geowarp-resnet18conv4",
    ),
    branches=(
        ViewsOptions(pairs=ViewPairOptions(num_views=12)),
        # Half-whitened descriptors of one place lie farther apart than the published ones.
        FoundPairsOptions(
            pairs=FoundPairOptions(num_pairs=4, max_queries=600, max_squared_distance=1.6),
            losses=FoundPairLossOptions(readout="features"),
        ),
    ),
    optimizer=OptimizerOptions("adamw", lr=1e-3, weight_decay=1e-3),
    schedule=ScheduleOptions("cosine", warmup_steps=20, final_share=0.02),
    loop=LoopOptions(
        num_steps=240,
        precision="bf16",
        ema_decay=0.99,
        log_every=5,
        validate_every=120,
        save_every=20,
    ),
    validate_on=RerankedOptions(num_queries=200),
)
GEOWARP_TINY = Recipe(
    name="geowarp-tiny",
    summary="a few steps on few photos, to see that everything runs",
    learner=RegressorOptions(width=64, height=48),
    branches=(
        ViewsOptions(pairs=ViewPairOptions(num_views=2)),
        FoundPairsOptions(
            pairs=FoundPairOptions(num_pairs=2), losses=FoundPairLossOptions(readout="features")
        ),
    ),
    loop=LoopOptions(num_steps=4, log_every=2, validate_every=2, save_every=2),
    validate_on=RerankedOptions(),
)
RECIPES = (GEOWARP, GEOWARP_SMALL, GEOWARP_LITE, GEOWARP_TINY)
