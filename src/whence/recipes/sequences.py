"""Sequences of frames: SeqVLAD's taxonomy, SeqNet and JIST as published, and small for one core.

Constants are those of the authors' public code: five frames, triplets with five negatives out of a
pool that all queries share, windows whose frames lie within 10 m are positives and within 25 m no
negatives. Half precision is bf16, which needs no scaling.
"""

from __future__ import annotations

import math
from dataclasses import replace

from whence.data.partition import CellOptions
from whence.training.options.augment import AugmentOptions
from whence.training.options.classes import ClassesOptions
from whence.training.options.learners import AggregatorOptions, NetworkOptions, SequencePoolOptions
from whence.training.options.loop import LoopOptions, OptimizerOptions
from whence.training.options.places import LossOptions
from whence.training.options.sequences import SequenceRecallOptions, SequencesOptions
from whence.training.options.tuples import MiningOptions, TupleLossOptions, WordOptions
from whence.training.recipe import Recipe

_LENGTH = 5
_EPOCH = 1250
"""Steps of four triplets for the 5,000 queries of an epoch."""
_LOOP = LoopOptions(
    num_steps=100 * _EPOCH, log_every=50, validate_every=_EPOCH, save_every=250, patience=5, seed=43
)
_ADAM = OptimizerOptions("adam", lr=1e-5)
_SMALL_SEEN = AugmentOptions(width=128, height=96)
_SMALL_MINING = MiningOptions(num_queries=64, num_negatives=5, num_candidates=200)
_SMALL_LOOP = LoopOptions(
    num_steps=150, precision="bf16", log_every=25, validate_every=150, save_every=50
)


def _branch(width: int, height: int) -> SequencesOptions:
    return SequencesOptions(augment=AugmentOptions(width=width, height=height))


def _seqvlad(name: str, what: str, learner: NetworkOptions, size_px: tuple[int, int]) -> Recipe:
    return Recipe(
        name=f"seqvlad-{name}",
        summary=f"the published schedule of sequences of five: {what}; needs a GPU",
        learner=learner,
        branches=(_branch(*size_px),),
        optimizer=_ADAM,
        loop=_LOOP,
        validate_on=SequenceRecallOptions(),
    )


_PUBLISHED = (
    _seqvlad(
        "cct384",
        (
            "CCT-14 cut to 8 blocks, the first two and all around them frozen, NetVLAD over all "
            "tokens; name weights to begin with"
        ),
        NetworkOptions(
            backbone="cct384",
            backbone_options={"num_blocks": 8},
            start_with="backbone",
            learning="as published",
            aggregator=AggregatorOptions("netvlad"),
            sequence=SequencePoolOptions("seqvlad", _LENGTH),
        ),
        (384, 384),
    ),
    _seqvlad(
        "resnet18conv4",
        "ResNet-18 to conv4, NetVLAD over all positions",
        NetworkOptions(
            start_from="released",
            freeze_before="layer3",
            aggregator=AggregatorOptions("netvlad"),
            sequence=SequencePoolOptions("seqvlad", _LENGTH),
        ),
        (640, 480),
    ),
    _seqvlad(
        "resnet18conv4-gem-cat",
        "ResNet-18 to conv4, GeM, frames one after the other (CAT)",
        NetworkOptions(
            start_from="released",
            freeze_before="layer3",
            sequence=SequencePoolOptions("cat", _LENGTH),
        ),
        (640, 480),
    ),
    _seqvlad(
        "timesformer",
        "TimeSformer from ViT-B/16's weights, early fusion",
        NetworkOptions(
            backbone="timesformer",
            start_from="released",
            aggregator=AggregatorOptions("cls"),
            sequence=SequencePoolOptions("early", _LENGTH),
        ),
        (224, 224),
    ),
)
SEQNET = Recipe(
    name="seqnet",
    summary=(
        "SeqNet's convolution over time on frames that stay as they are: name the weights of a "
        "network; SGD, batches of 16"
    ),
    learner=NetworkOptions(
        backbone="vgg16",
        aggregator=AggregatorOptions("netvlad-fc", {"dim": 4096}),
        learning="sequence",
        sequence=SequencePoolOptions("seqnet", _LENGTH, {"dim": 4096, "width": 3}),
    ),
    branches=(
        SequencesOptions(
            augment=AugmentOptions(width=640, height=480),
            batch_queries=16,
            loss=TupleLossOptions("triplet", margin=math.sqrt(0.1)),
        ),
    ),
    optimizer=OptimizerOptions("sgd", lr=1e-4, momentum=0.9, weight_decay=1e-3, decays_all=True),
    loop=replace(_LOOP, num_steps=62_500),
    validate_on=SequenceRecallOptions(),
)
_COLOURS = AugmentOptions(
    width=512, height=512, brightness=0.7, contrast=0.7, saturation=0.7, hue=0.5, crop=0.5
)
_COSFACE = LossOptions("cosface", {"scale": 30.0, "margin": 0.4})
JIST = Recipe(
    name="jist-resnet18-512",
    summary="JIST's published schedule: 5 x 2,500 steps, "
    "triplets of sequences and CosFace on images together; needs a GPU. Give --dataset "
    "sequences=FOLDER and --dataset classes=FOLDER",
    learner=NetworkOptions(
        backbone="resnet18conv5",
        start_from="cosplace-resnet18-512",
        freeze_before="layer4",
        aggregator=AggregatorOptions("cosplace", {"dim": 512}),
        sequence=SequencePoolOptions("seqgem", _LENGTH),
    ),
    branches=(
        SequencesOptions(
            weight=10_000.0,
            mining=MiningOptions(num_negatives=5, num_candidates=3000),
            augment=AugmentOptions(width=640, height=480),
        ),
        ClassesOptions(
            weight=100.0,
            batch_size=64,
            batches_per_turn=2500,
            augment=_COLOURS,
            loss=_COSFACE,
            optimizer=OptimizerOptions("adam", lr=0.01),
        ),
    ),
    optimizer=_ADAM,
    loop=LoopOptions(
        num_steps=12_500, precision="bf16", log_every=50, validate_every=2500, save_every=250
    ),
    validate_on=SequenceRecallOptions(),
)
_LITE = NetworkOptions(
    backbone="efficientnet_lite0_blocks10_12",
    start_from="released",
    aggregator=AggregatorOptions("gem-mixed", {"num_mixed": 256, "dim": 256}),
    sequence=SequencePoolOptions("seqgem", _LENGTH, {"is_signed": True, "l2": True}),
)
SEQVLAD_SMALL = Recipe(
    name="seqvlad-small",
    summary=(
        "SeqVLAD with 16 words on EfficientNet-Lite0 as it was released, at 96 x 128: minutes on "
        "one core"
    ),
    learner=replace(
        _LITE,
        start_with="backbone",
        aggregator=AggregatorOptions("netvlad", {"num_words": 16}),
        sequence=SequencePoolOptions("seqvlad", _LENGTH),
    ),
    branches=(
        SequencesOptions(
            words=WordOptions(num_photos=100), mining=_SMALL_MINING, augment=_SMALL_SEEN
        ),
    ),
    optimizer=OptimizerOptions("adam", lr=1e-4),
    loop=_SMALL_LOOP,
    validate_on=SequenceRecallOptions(n=1),
)
JIST_SMALL = Recipe(
    name="jist-small",
    summary="JIST's two branches on EfficientNet-Lite0 as it was "
    "released, at 96 x 128, signed SeqGeM of unit length: minutes on one core",
    learner=_LITE,
    branches=(
        # A loss of unit descriptors is small beside CosFace's; the published weights are for its
        # own.
        SequencesOptions(weight=20.0, mining=_SMALL_MINING, augment=_SMALL_SEEN),
        ClassesOptions(
            cells=CellOptions(num_apart=2),
            num_groups=0,
            batch_size=16,
            batches_per_turn=25,
            augment=replace(
                _COLOURS,
                width=128,
                height=96,
                crop=0.25,
                brightness=0.3,
                contrast=0.3,
                saturation=0.3,
                hue=0.05,
            ),
            loss=_COSFACE,
        ),
    ),
    optimizer=OptimizerOptions("adam", lr=3e-4),
    loop=_SMALL_LOOP,
    validate_on=SequenceRecallOptions(n=1),
)
RECIPES = (*_PUBLISHED, SEQNET, SEQVLAD_SMALL, JIST, JIST_SMALL)
