"""Networks trained on GSV-Cities and its like: Conv-AP, MixVPR, SALAD, CliqueMining,
Bag-of-Queries; and AnyLoc's vocabulary.

Constants are those of the publications and of their authors' public code: Ali-bey, Chaib-draa,
Giguère (GSV-Cities with Conv-AP, Neurocomputing 2022; MixVPR, WACV 2023; BoQ, CVPR 2024), Izquierdo
and Civera (SALAD, CVPR 2024; CliqueMining, ECCV 2024), Keetha et al. (AnyLoc, RA-L 2024). Steps
stand for epochs of the 62,500 places that GSV-Cities has with four photos or more. Where a paper
and its code say nothing (how often is validated and saved) the value is our choice.
"""

from __future__ import annotations

from dataclasses import replace

from whence.training.options.augment import AugmentOptions
from whence.training.options.learners import AggregatorOptions, NetworkOptions
from whence.training.options.loop import LoopOptions, OptimizerOptions, ScheduleOptions
from whence.training.options.placed import PlacesOptions
from whence.training.options.places import BatchOptions, LossOptions, PlaceOptions
from whence.training.options.tuples import VocabularyOptions, WordOptions
from whence.training.recipe import Recipe

NUM_PLACES = 62_500
PAIRS = LossOptions(
    "multi_similarity",
    {"alpha": 1.0, "beta": 50.0, "base": 0.0},
    miner="multi_similarity",
    miner_options={"epsilon": 0.1},
)
"""Multi-similarity as all of these use it; the library's own constants are others."""


def seen_at(side_px: int, *, magnitude: int = 9) -> AugmentOptions:
    """Squares of that side, changed by three of RandAugment's operations."""
    return AugmentOptions(width=side_px, height=side_px, num_ops=3, magnitude=magnitude)


def listed(num_places: int, augment: AugmentOptions) -> PlacesOptions:
    """Places of GSV-Cities with four views each, mostly of one city."""
    return PlacesOptions(
        places=PlaceOptions(by="listed", min_photos=4),
        batches=BatchOptions(num_places, 4),
        augment=augment,
        loss=PAIRS,
    )


def _steps(epochs: int, num_places: int) -> int:
    return epochs * (NUM_PLACES // num_places)


def _loop(epochs: int, num_places: int) -> LoopOptions:
    epoch = _steps(1, num_places)
    return LoopOptions(
        num_steps=epochs * epoch,
        precision="fp16",
        log_every=20,
        validate_every=epoch,
        save_every=epoch,
        is_channels_last=True,
    )


def _falling(
    epochs: tuple[int, ...], num_places: int, *, factor: float, warmup_steps: int
) -> ScheduleOptions:
    milestones = tuple(_steps(epoch, num_places) for epoch in epochs)
    return ScheduleOptions("steps", warmup_steps=warmup_steps, milestones=milestones, factor=factor)


CONVAP = Recipe(
    name="convap-resnet50-4096",
    summary="Conv-AP as GSV-Cities trains it: 100 places x 4 views at 320, 30 epochs; needs a GPU",
    learner=NetworkOptions(
        "network",
        "resnet50conv5",
        start_from="released",
        freeze_before="layer2",
        aggregator=AggregatorOptions("convap", {"channels_out": 1024}),
    ),
    branches=(listed(100, seen_at(320)),),
    optimizer=OptimizerOptions("sgd", lr=0.03, weight_decay=1e-3, decays_all=True),
    schedule=_falling((5, 10, 15), 100, factor=0.3, warmup_steps=500),
    loop=_loop(30, 100),
)
MIXVPR = Recipe(
    name="mixvpr-resnet50-4096",
    summary="MixVPR as published: 120 places x 4 views at 320, 80 epochs at most; needs a GPU",
    learner=NetworkOptions(
        "network",
        "resnet50conv4",
        start_from="released",
        freeze_before="layer3",
        aggregator=AggregatorOptions("mixvpr", {"channels_out": 1024, "rows": 4}),
    ),
    branches=(listed(120, seen_at(320)),),
    optimizer=OptimizerOptions("sgd", lr=0.05, weight_decay=1e-3, decays_all=True),
    schedule=_falling((5, 10, 15, 25, 45), 120, factor=0.3, warmup_steps=650),
    loop=_loop(80, 120),
)
SALAD = Recipe(
    name="salad-dinov2-8448",
    summary=(
        "SALAD as published: the last "
        "four blocks of DINOv2 "
        "ViT-B, 60 places x 4 views at 224, 4 "
        "epochs; needs a GPU"
    ),
    learner=NetworkOptions(
        "network",
        "dinov2_vitb14",
        start_from="released",
        freeze_before="blocks.8",
        aggregator=AggregatorOptions("salad"),
    ),
    branches=(listed(60, seen_at(224)),),
    optimizer=OptimizerOptions("adamw", lr=6e-5, weight_decay=9.5e-9, decays_all=True),
    schedule=ScheduleOptions("linear", final_share=0.2),
    loop=replace(_loop(4, 60), num_steps=4000),
)
CLIQUE_MINING = replace(
    SALAD,
    name="cliquemining-dinov2-8448",
    summary=(
        "SALAD with 30 places of GSV-Cities and 30 of MSLS a step, mined as cliques anew every "
        "2,000 steps; needs a GPU"
    ),
    branches=(
        replace(listed(30, seen_at(224)), name="gsv_cities"),
        PlacesOptions(
            name="msls",
            places=PlaceOptions(by="clique", radius_m=25.0, num_near=15, num_batches=2000),
            batches=BatchOptions(30, 4),
            augment=seen_at(224),
            loss=PAIRS,
        ),
    ),
)


def _boq(name: str, dim: int, learner: NetworkOptions, side_px: int) -> Recipe:
    return Recipe(
        name=f"boq-{name}-{dim}",
        summary=(
            f"Bag-of-Queries on {name} as published: 128 places x 4 views at {side_px}, 40 "
            "epochs; needs a GPU"
        ),
        learner=learner,
        branches=(listed(128, seen_at(side_px, magnitude=15)),),
        optimizer=OptimizerOptions("adamw", lr=1e-4, weight_decay=1e-4, decays_all=True),
        schedule=_falling((10, 20), 128, factor=0.1, warmup_steps=_steps(10, 128)),
        loop=_loop(40, 128),
    )


BOQ = _boq(
    "resnet50",
    16384,
    NetworkOptions(
        "network",
        "resnet50conv4",
        start_from="released",
        freeze_before="layer3",
        aggregator=AggregatorOptions("boq", {"width": 512}),
    ),
    320,
)
BOQ_DINOV2 = _boq(
    "dinov2",
    12288,
    NetworkOptions(
        "network",
        "dinov2_vitb14",
        {"has_final_norm": False},
        start_from="released",
        freeze_before="blocks.10",
        aggregator=AggregatorOptions("boq", {"width": 384}),
    ),
    224,
)
ANYLOC_VOCABULARY = Recipe(
    name="anyloc-vocabulary",
    summary=(
        "AnyLoc with words of one's "
        "own photos: 32 by "
        "k-means of values of DINOv2 ViT-g; "
        "learner.domain goes into the card"
    ),
    learner=NetworkOptions(
        "network",
        "dinov2_vitg14",
        {"num_blocks": 32, "facet": "value"},
        start_from="released",
        aggregator=AggregatorOptions("vlad", {"num_words": 32}),
    ),
    branches=(
        VocabularyOptions(
            words=WordOptions(num_photos=500, num_locations=1000),
            augment=AugmentOptions(width=518, height=518),
        ),
    ),
    loop=LoopOptions(num_steps=0),
)
RECIPES = (CONVAP, MIXVPR, SALAD, CLIQUE_MINING, BOQ, BOQ_DINOV2, ANYLOC_VOCABULARY)
