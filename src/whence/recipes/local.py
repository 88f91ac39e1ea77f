"""Local features: the one that comes with Whence, and small forms of AsymLoc and MorseDet."""

from __future__ import annotations

from whence.training.options.local import LocalFeatureOptions, MatchedShareOptions, TaughtPointsOptions
from whence.training.options.loop import LoopOptions, OptimizerOptions, ScheduleOptions
from whence.training.recipe import Recipe

OWN = Recipe(
    name="whence-local",
    summary="keypoints as ALIKED finds and describes them, by night as by day: half an hour on one core",
    learner=LocalFeatureOptions(network="strided"),
    branches=(TaughtPointsOptions(),),
    optimizer=OptimizerOptions("adamw", lr=2e-3, weight_decay=1e-3, clip_norm=1.0),
    schedule=ScheduleOptions("cosine", warmup_steps=50, final_share=0.01),
    loop=LoopOptions(num_steps=1600, log_every=20, validate_every=400, save_every=200),
    validate_on=MatchedShareOptions(),
)
RECIPES = (OWN,)
