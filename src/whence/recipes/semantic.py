"""SegVPR (Paolicelli et al., ICIAP 2021): places and classes of pixels learned together; as
published and small."""

from __future__ import annotations

from dataclasses import replace

from whence.training.options.labelled import LabelledOptions
from whence.training.options.learners import AggregatorOptions, NetworkOptions
from whence.training.options.loop import LoopOptions, OptimizerOptions, ScheduleOptions
from whence.training.options.tuples import MiningOptions
from whence.training.options.validation import RecallOptions
from whence.training.recipe import Recipe

SEGVPR = Recipe(
    name="segvpr",
    summary=(
        "SegVPR's published schedule with DeepLab on ResNet-50: 10 x 2,500 steps of two triplets "
        "at 1536 x 864; needs a GPU"
    ),
    learner=NetworkOptions(
        backbone="resnet50conv4_5", start_from="released", aggregator=AggregatorOptions("attention")
    ),
    branches=(LabelledOptions(),),
    optimizer=OptimizerOptions("sgd", lr=1e-3, weight_decay=5e-3, decays_all=True),
    schedule=ScheduleOptions("poly", of_steps=125_000),
    loop=LoopOptions(
        num_steps=25_000, log_every=50, validate_every=2500, save_every=500, patience=5
    ),
    validate_on=RecallOptions(radius_m=5.0, width=960, height=540, batch_size=24),
)
SEGVPR_PSP = replace(
    SEGVPR,
    name="segvpr-psp",
    summary="the same with PSPNet's head",
    branches=(LabelledOptions(head="psp"),),
)
SEGVPR_SMALL = Recipe(
    name="segvpr-small",
    summary=(
        "SegVPR's parts on the small network that comes with Whence, at 192 x 144: minutes on one "
        "core"
    ),
    learner=NetworkOptions(
        backbone="resnet18conv3_4",
        start_from="whence-resnet18conv4-gem-256",
        start_with="backbone",
        freeze_before="layer2",
        aggregator=AggregatorOptions("attention"),
    ),
    branches=(
        LabelledOptions(
            mining=MiningOptions(
                name="full",
                num_queries=100,
                num_negatives=1,
                num_candidates=100,
                positive_m=12.0,
                excluded_m=25.0,
            ),
            width=160,
            height=120,
            stored_width=192,
            stored_height=144,
            batch_target=4,
            target_width=160,
            target_height=120,
            opponent_width=16,
        ),
    ),
    optimizer=OptimizerOptions("sgd", lr=1e-3, weight_decay=5e-4, decays_all=True),
    schedule=ScheduleOptions("poly"),
    loop=LoopOptions(
        num_steps=300, precision="bf16", log_every=20, validate_every=100, save_every=100
    ),
    validate_on=RecallOptions(width=192, height=144),
)
RECIPES = (SEGVPR, SEGVPR_PSP, SEGVPR_SMALL)
