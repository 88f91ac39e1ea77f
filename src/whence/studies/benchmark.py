"""Grids after the Deep Visual Geo-localization Benchmark (Berton et al., CVPR 2022), and after "All
You Need to Know About Training Image Retrieval Models" (Berton, Musgrave, Masone, 2025). Grids
alone, no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from whence.models.zoo import CARDS
from whence.studies.frame import Measure, Plot, Run, Settings, Study, StudyOption
from whence.studies.shortlists import RECALLS, SET_OPTIONS

_MODEL = StudyOption("model", "the model that is looked at", "whence-resnet18conv4-gem-256")
_TRAINING = (
    StudyOption("train", "training set: a folder in one of the field's layouts", is_needed=True),
    StudyOption("train_split", "split of it"),
    StudyOption(
        "val",
        "set the best weights of each training are chosen by; without it, the last ones are taken",
    ),
    StudyOption("val_split", "split of it"),
    StudyOption(
        "start",
        "weights that every training starts from: a model or a file; random ones without",
        "",
    ),
    StudyOption("changes", "changes of every recipe, apart by spaces, as loop.num_steps=300"),
    StudyOption("seed", "seed of the trainings", 0),
)
COSTS = (
    Measure("dimensions"),
    Measure("parameters", "M"),
    Measure("GFLOPs"),
    Measure("descriptors", "MB"),
    Measure("describing", "ms"),
    Measure("peak memory", "MB"),
    Measure("training", "s"),
    Measure("mining", "%"),
)
_PROTOCOL = (
    "{data}: every query counts. 95 % intervals in brackets, by street where the set names "
    "streets. Times are wall-clock"
)
_TRAINED = _PROTOCOL + ". Every run is a training on {train} from {start}, seed {seed}, {changes}"
_ON_CELLS = "whence.studies.benchmark_runs:"

MINING = ("random", "partial", "full")
AGGREGATIONS = ("gem", "netvlad")
SCALES = (100, 80, 60)
"""Sides of photos, in percent of what the model's card says."""
PCA_DIMS = (128, 64, 32, 16, 8)
CONDITIONS = ("pitts30k", "msls")
AUGMENTATIONS: Mapping[str, tuple[str, ...]] = {
    "none": (),
    "brightness 1": ("augment.brightness=1.0",),
    "contrast 1": ("augment.contrast=1.0",),
    "saturation 1": ("augment.saturation=1.0",),
    "hue 0.5": ("augment.hue=0.5",),
    "perspective 0.5": ("augment.perspective=0.5",),
    "crop 0.5": ("augment.crop=0.5",),
    "rotation 30": ("augment.rotation_deg=30.0",),
    "mirrored": ("augment.flip_share=0.5",),
}
RETRIEVAL: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "loss": {
        "multi_similarity": ("loss.name=multi_similarity", "loss.miner=multi_similarity"),
        "threshold_consistent_margin": ("loss.name=threshold_consistent_margin", "loss.miner="),
        "cosface": ("loss.name=cosface", "loss.miner=", "loss.lr=1.0"),
        "arcface": ("loss.name=arcface", "loss.miner=", "loss.lr=1.0"),
    },
    "miner": {"none": ("loss.miner=",), "batch_hard": ("loss.miner=batch_hard",)},
    "places": {
        "8": ("batches.num_places=8",),
        "16": ("batches.num_places=16",),
        "64": ("batches.num_places=64",),
    },
    "views": {"2": ("batches.num_views=2",), "4": ("batches.num_views=4",)},
    "lr": {
        "1e-6": ("optimizer.lr=1e-6",),
        "1e-5": ("optimizer.lr=1e-5",),
        "1e-4": ("optimizer.lr=1e-4",),
    },
    "layers": {"all": ("freeze_before=",), "last": ("freeze_before=layer3",)},
}
"""What the retrieval study changes, one thing at a time."""


def _mining(options: Settings) -> Sequence[Run]:
    return [
        Run({"aggregation": aggregation, "mining": mining})
        for aggregation in AGGREGATIONS
        for mining in MINING
    ]


def _resize(options: Settings) -> Sequence[Run]:
    return [Run({"size %": scale}) for scale in SCALES]


def _pca(options: Settings) -> Sequence[Run]:
    reduced = [
        Run({"PCA": dim, "whitened": whitened}) for whitened in ("no", "yes") for dim in PCA_DIMS
    ]
    return [Run({"PCA": 0, "whitened": "no"}), *reduced]


def _published(options: Settings) -> Sequence[Run]:
    cards = [
        card
        for card in CARDS.values()
        if card.keys == "benchmark" and card.name.endswith(CONDITIONS)
    ]
    runs = []
    for card in cards:
        trained_on = card.name.rpartition("-")[2]
        axes = {
            "backbone": card.backbone,
            "aggregation": card.aggregator,
            "trained on": trained_on,
            "model": card.name,
        }
        runs.append(Run(axes))
    return runs


def _augmentation(options: Settings) -> Sequence[Run]:
    return [Run({"augmentation": name}) for name in AUGMENTATIONS]


def _retrieval(options: Settings) -> Sequence[Run]:
    return [
        Run({"factor": factor, "value": value})
        for factor, values in RETRIEVAL.items()
        for value in values
    ]


STUDIES = (
    Study(
        name="vg-mining",
        summary="Mining by aggregation, the same budget for all",
        protocol=_TRAINED,
        options=(
            *SET_OPTIONS,
            *_TRAINING,
            StudyOption("recipe", "recipe on tuples", "vg-benchmark-resnet18conv4-gem"),
        ),
        grid=_mining,
        measured_by=_ON_CELLS + "measure_mining",
        measures=(*RECALLS, *COSTS),
        plot=Plot("mining", ("recall@1 within 25 m",), ("aggregation",)),
    ),
    Study(
        name="vg-augmentation",
        summary="Augmentations of queries, one at a time",
        protocol=_TRAINED,
        options=(
            *SET_OPTIONS,
            *_TRAINING,
            StudyOption("recipe", "recipe on tuples", "vg-benchmark-resnet18conv4-gem"),
        ),
        grid=_augmentation,
        measured_by=_ON_CELLS + "measure_augmentation",
        measures=(*RECALLS, *COSTS),
        plot=Plot("augmentation", ("recall@1 within 25 m",)),
    ),
    Study(
        name="retrieval-training",
        summary="Losses, miners, batches, rates and layers, one at a time",
        protocol=_TRAINED,
        options=(
            *SET_OPTIONS,
            *_TRAINING,
            StudyOption("recipe", "recipe on places", "whence-resnet18conv4-gem-256"),
        ),
        grid=_retrieval,
        measured_by=_ON_CELLS + "measure_retrieval",
        measures=(*RECALLS, *COSTS),
        plot=Plot("value", ("recall@1 within 25 m",), ("factor",)),
    ),
    Study(
        name="vg-resize",
        summary="Smaller photos of database and queries",
        protocol=_PROTOCOL,
        options=(*SET_OPTIONS, _MODEL),
        grid=_resize,
        measured_by=_ON_CELLS + "measure_size",
        measures=(*RECALLS, *COSTS),
        plot=Plot("size %", ("recall@1 within 25 m",)),
    ),
    Study(
        name="vg-pca",
        summary="Fewer dimensions by PCA, fitted on the database; 0 is without PCA",
        protocol=_PROTOCOL,
        options=(*SET_OPTIONS, _MODEL),
        grid=_pca,
        measured_by=_ON_CELLS + "measure_pca",
        measures=(*RECALLS, *COSTS),
        plot=Plot("dimensions", ("recall@1 within 25 m",), ("whitened",)),
    ),
    Study(
        name="vg-backbones",
        summary=(
            "Backbones by aggregations: the benchmark's published networks, those whose weights "
            "are there"
        ),
        protocol=_PROTOCOL,
        options=SET_OPTIONS,
        grid=_published,
        measured_by=_ON_CELLS + "measure_published",
        measures=(*RECALLS, *COSTS),
        plot=Plot("dimensions", ("recall@1 within 25 m",), ("aggregation", "trained on")),
    ),
)
