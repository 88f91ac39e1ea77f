"""DeltaTok and DeltaWorld: in small forms on rendered clips, and as published."""

from __future__ import annotations

from dataclasses import replace

from whence.training.options.clips import (
    ClipFeaturesOptions,
    ClipLossOptions,
    ClipsOptions,
    ForecastsOptions,
    FrameTokensOptions,
    ReconstructionOptions,
)
from whence.training.options.loop import LoopOptions, OptimizerOptions, ScheduleOptions
from whence.training.recipe import Recipe

FEATURES = Recipe(
    name="clip-features-small",
    summary=(
        "a small ViT that learns what pixels of rendered clips show; its features are frozen for "
        "the next two"
    ),
    learner=ClipFeaturesOptions(),
    branches=(ClipsOptions(batch_size=64, loss=ClipLossOptions("shown")),),
    optimizer=OptimizerOptions("adamw", lr=1e-3, weight_decay=1e-2, clip_norm=1.0),
    schedule=ScheduleOptions("cosine", warmup_steps=50, final_share=0.01),
    loop=LoopOptions(num_steps=1500, log_every=50, validate_every=500, save_every=250),
    validate_on=ReconstructionOptions(),
)
DELTA_SMALL = Recipe(
    name="deltatok-small",
    summary=(
        "one token a frame over frozen features (--set learner.features=FILE); minutes on one core"
    ),
    learner=FrameTokensOptions(),
    branches=(ClipsOptions(batch_size=32),),
    optimizer=OptimizerOptions("adamw", lr=2e-3, weight_decay=1e-2, clip_norm=0.01),
    schedule=ScheduleOptions(warmup_steps=50),
    loop=LoopOptions(num_steps=800, log_every=50, validate_every=400, save_every=200),
    validate_on=ReconstructionOptions(),
)
WORLD_SMALL = Recipe(
    name="deltaworld-small",
    summary="forecasts of tokens, best of 32 (--set learner.tokens=FILE); minutes on one core",
    learner=ForecastsOptions(),
    branches=(ClipsOptions(batch_size=16, loss=ClipLossOptions("best of many")),),
    optimizer=OptimizerOptions("adamw", lr=1e-3, weight_decay=0.4),
    schedule=ScheduleOptions(warmup_steps=50),
    loop=LoopOptions(num_steps=600, log_every=50, validate_every=300, save_every=150),
    validate_on=ReconstructionOptions(),
)
_CROPS = ClipsOptions(
    batch_size=1024,
    width=256,
    height=256,
    crop_area=(0.6, 1.0),
    crop_aspect=(0.75, 4 / 3),
    loss=ClipLossOptions("log-cosh"),
)
_AT_256 = ReconstructionOptions(width=256, height=256)
DELTA = Recipe(
    name="deltatok",
    summary=(
        "DeltaTok as released, first stage at 256 px: a million steps of 1,024 pairs; needs eight "
        "GPUs for days"
    ),
    learner=FrameTokensOptions(num_heads=12, depth=12, hidden=3072, is_release=True, rescale=2.0),
    branches=(_CROPS,),
    optimizer=OptimizerOptions("adamw", lr=1e-3, weight_decay=1e-2, clip_norm=0.01),
    schedule=ScheduleOptions(warmup_steps=5000),
    loop=LoopOptions(
        num_steps=1_000_000, precision="bf16", log_every=100, validate_every=10_000, save_every=5000
    ),
    validate_on=_AT_256,
)
DELTA_PAPER = replace(
    DELTA,
    name="deltatok-paper",
    summary=(
        "DeltaTok as the paper says: plain blocks, squared error, 50,000 steps of 1,024 pairs; "
        "needs eight GPUs"
    ),
    learner=FrameTokensOptions(num_heads=12, depth=12, hidden=3072, rescale=2.0),
    branches=(replace(_CROPS, loss=ClipLossOptions("squared")),),
    optimizer=OptimizerOptions("adamw", lr=1e-3, weight_decay=1e-4, clip_norm=0.01),
    loop=LoopOptions(
        num_steps=50_000, precision="bf16", log_every=100, validate_every=5000, save_every=1000
    ),
)
WORLD = Recipe(
    name="deltaworld",
    summary=(
        "DeltaWorld as published: best of 256, 300,000 steps of 1,024 clips of 8 frames; needs "
        "eight GPUs"
    ),
    learner=ForecastsOptions(width=768, num_heads=12, depth=12),
    branches=(replace(_CROPS, loss=ClipLossOptions("best of many", num_many=256)),),
    optimizer=OptimizerOptions("adamw", lr=1e-4, weight_decay=0.4),
    schedule=ScheduleOptions(warmup_steps=5000),
    loop=LoopOptions(
        num_steps=300_000, precision="bf16", log_every=100, validate_every=10_000, save_every=5000
    ),
    validate_on=_AT_256,
)
RECIPES = (FEATURES, DELTA_SMALL, WORLD_SMALL, DELTA, DELTA_PAPER, WORLD)
