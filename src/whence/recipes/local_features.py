"""Local features: the one that comes with Whence, and AsymLoc and MorseDet in small forms and as
published."""

from __future__ import annotations

from whence.training.options.local import (
    HomographyPairsOptions,
    LocalFeatureOptions,
    LocalLossOptions,
    MatchedShareOptions,
    TaughtPointsOptions,
    ViewOptions,
)
from whence.training.options.loop import LoopOptions, OptimizerOptions, ScheduleOptions
from whence.training.recipe import Recipe

OWN = Recipe(
    name="whence-local",
    summary=(
        "keypoints as ALIKED finds and describes them, by night as by day: half an hour on one core"
    ),
    learner=LocalFeatureOptions(network="strided"),
    branches=(TaughtPointsOptions(),),
    optimizer=OptimizerOptions("adamw", lr=2e-3, weight_decay=1e-3, clip_norm=1.0),
    schedule=ScheduleOptions("cosine", warmup_steps=50, final_share=0.01),
    loop=LoopOptions(num_steps=1600, log_every=20, validate_every=400, save_every=200),
    validate_on=MatchedShareOptions(),
)
_SMALL_LOOP = LoopOptions(num_steps=600, log_every=20, validate_every=300, save_every=100)
_SMALL_ADAM = OptimizerOptions("adam", lr=1e-3, clip_norm=1.0)
_SMALL_SCHEDULE = ScheduleOptions("cosine", final_share=0.01)
SMALL_TEACHER = Recipe(
    name="asymloc-small-teacher",
    summary="SiLK in a small form, which learns from nobody: minutes on one core",
    learner=LocalFeatureOptions(network="silk-small"),
    branches=(HomographyPairsOptions(num_pairs=2),),
    optimizer=_SMALL_ADAM,
    schedule=_SMALL_SCHEDULE,
    loop=_SMALL_LOOP,
    validate_on=MatchedShareOptions(),
)
SMALL_STUDENT = Recipe(
    name="asymloc-small-student",
    summary=(
        "AsymLoc in a small form: learns from what asymloc-small-teacher wrote (--set teacher=FILE)"
    ),
    learner=LocalFeatureOptions(network="student-small"),
    branches=(HomographyPairsOptions(num_pairs=2, loss=LocalLossOptions("joint")),),
    optimizer=_SMALL_ADAM,
    schedule=_SMALL_SCHEDULE,
    loop=_SMALL_LOOP,
    validate_on=MatchedShareOptions(),
)
MORSE_SMALL = Recipe(
    name="morsedet-small",
    summary=(
        "MorseDet in a small form: a height map whose hills are keypoints; minutes on one core, "
        "needs the extra topology"
    ),
    learner=LocalFeatureOptions(network="morse-small"),
    branches=(HomographyPairsOptions(num_pairs=4, loss=LocalLossOptions("persistence")),),
    optimizer=OptimizerOptions("adam", lr=1e-3, clip_norm=1.0),
    loop=LoopOptions(num_steps=400, log_every=20, save_every=100),
    validate_on=MatchedShareOptions(),
)
_COCO_VIEWS = ViewOptions(
    width=160,
    height=160,
    stored_width=320,
    stored_height=240,
    zoom=(1.1, 1.7),
    rotation_deg=22.0,
    corners=0.15,
)
TEACHER = Recipe(
    name="asymloc-teacher",
    summary="SiLK's schedule: 100,000 pairs of crops; needs a GPU",
    learner=LocalFeatureOptions(network="silk"),
    branches=(HomographyPairsOptions(num_pairs=1, num_points=4096, views=_COCO_VIEWS),),
    optimizer=OptimizerOptions("adam", lr=1e-4),
    loop=LoopOptions(num_steps=100_000, log_every=100, validate_every=5000, save_every=1000),
    validate_on=MatchedShareOptions(),
)
STUDENTS = tuple(
    Recipe(
        name=f"asymloc-{size}",
        summary=(
            f"AsymLoc's student of size {size}, learned from what asymloc-teacher wrote (--set "
            "teacher=FILE); needs a GPU"
        ),
        learner=LocalFeatureOptions(network=f"student-{size}"),
        branches=(
            HomographyPairsOptions(num_pairs=4, loss=LocalLossOptions("joint"), views=_COCO_VIEWS),
        ),
        optimizer=OptimizerOptions("adam", lr=1e-3, clip_norm=1.0),
        schedule=ScheduleOptions("cosine", final_share=0.01),
        loop=LoopOptions(num_steps=50_000, log_every=100, validate_every=5000, save_every=1000),
        validate_on=MatchedShareOptions(),
    )
    for size in ("xs", "s", "m", "l")
)
MORSE = Recipe(
    name="morsedet",
    summary=(
        "MorseDet's height map by R2D2's schedule: 25 epochs, batches of 8 crops of 192 px; "
        "hours, the loss runs on the CPU"
    ),
    learner=LocalFeatureOptions(network="morse"),
    branches=(
        HomographyPairsOptions(
            num_pairs=8,
            loss=LocalLossOptions("persistence"),
            views=ViewOptions(
                width=192, height=192, stored_width=400, stored_height=300, noise=25.0
            ),
        ),
    ),
    optimizer=OptimizerOptions("adam", lr=1e-4, weight_decay=5e-4),
    loop=LoopOptions(num_steps=50_000, log_every=100, save_every=1000),
    validate_on=MatchedShareOptions(),
)
RECIPES = (OWN, SMALL_TEACHER, SMALL_STUDENT, MORSE_SMALL, TEACHER, *STUDENTS, MORSE)
