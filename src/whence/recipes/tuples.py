"""The Deep Visual Geo-localization Benchmark's training on mined tuples (Berton et al., CVPR
2022)."""

from __future__ import annotations

from whence.training.options.augment import AugmentOptions
from whence.training.options.learners import AggregatorOptions, NetworkOptions
from whence.training.options.loop import LoopOptions, OptimizerOptions
from whence.training.options.tuples import MiningOptions, TuplesOptions, WordOptions
from whence.training.options.validation import RecallOptions
from whence.training.recipe import Recipe

_SCHEDULE = LoopOptions(
    num_steps=1_250_000, log_every=50, validate_every=1250, save_every=250, patience=3
)
"""At most 1,000 epochs of 5,000 queries, four a batch; three epochs without a better recall@5 end
it."""

GEM = Recipe(
    name="vg-benchmark-resnet18conv4-gem",
    summary=(
        "the benchmark's default schedule: 480 x 640, partial mining, ten negatives; needs a GPU "
        "and weights to start from"
    ),
    learner=NetworkOptions(backbone="resnet18conv4", freeze_before="layer3"),
    branches=(TuplesOptions(augment=AugmentOptions(width=640, height=480)),),
    optimizer=OptimizerOptions("adam", lr=1e-5),
    loop=_SCHEDULE,
    validate_on=RecallOptions(n=5),
)
NETVLAD = Recipe(
    name="vg-benchmark-resnet18conv4-netvlad",
    summary=(
        "the same with NetVLAD, whose words begin at the k-means of the backbone's local "
        "descriptors"
    ),
    learner=NetworkOptions(
        backbone="resnet18conv4",
        start_with="backbone",
        freeze_before="layer3",
        aggregator=AggregatorOptions("netvlad"),
    ),
    branches=(TuplesOptions(augment=AugmentOptions(width=640, height=480)),),
    optimizer=OptimizerOptions("adam", lr=1e-5),
    loop=_SCHEDULE,
    validate_on=RecallOptions(n=5),
)
SMALL = Recipe(
    name="vg-benchmark-small",
    summary=(
        "the benchmark's tuples for a small head on EfficientNet-Lite0 as it was released, at 160 "
        "x 128: minutes on one core"
    ),
    learner=NetworkOptions(
        backbone="efficientnet_lite0_blocks10_12",
        start_from="released",
        aggregator=AggregatorOptions("gem-mixed", {"num_mixed": 256, "dim": 256}),
    ),
    branches=(
        TuplesOptions(
            mining=MiningOptions(num_queries=100, num_negatives=5, num_candidates=300),
            augment=AugmentOptions(width=160, height=128),
        ),
    ),
    optimizer=OptimizerOptions("adam", lr=1e-3),
    loop=LoopOptions(
        num_steps=400, precision="no", log_every=50, validate_every=200, save_every=100
    ),
    validate_on=RecallOptions(n=5),
)
TINY_TUPLES = Recipe(
    name="tiny-tuples",
    summary="a few steps on few photos, to see that everything runs",
    learner=NetworkOptions(
        backbone="resnet18conv2", aggregator=AggregatorOptions("gem", {"l2": "after_pool"})
    ),
    branches=(
        TuplesOptions(
            words=WordOptions(num_photos=20),
            mining=MiningOptions(
                num_queries=8, num_negatives=3, num_candidates=20, positive_m=15.0
            ),
            batch_queries=2,
            augment=AugmentOptions(width=64, height=48),
        ),
    ),
    loop=LoopOptions(num_steps=6, log_every=2, validate_every=3, save_every=3),
)
RECIPES = (GEM, NETVLAD, SMALL, TINY_TUPLES)
