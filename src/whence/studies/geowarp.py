"""GeoWarp's studies: which loss does what, how far views may move, and rivals on the same
shortlists. Grids alone, no torch."""

from __future__ import annotations

from collections.abc import Sequence

from whence.studies.frame import Measure, Plot, Run, Settings, Study, StudyOption
from whence.studies.methods import PLAIN, READOUTS, SEARCHED_AGAIN
from whence.studies.shortlists import RECALLS, SET_OPTIONS

_CANDIDATES = StudyOption("candidates", "candidates per query that are put in order", 5)
_MODEL = StudyOption(
    "model",
    (
        "what finds candidates; GeoWarp compares with its backbone, unless recipe or scorer have "
        "their own"
    ),
    "lite0-both-448",
)
_TRAINING = (
    StudyOption("train", "training set: a folder with database and queries", is_needed=True),
    StudyOption("train_split", "split of it"),
    StudyOption(
        "val",
        "set the best weights of each training are chosen by; without it, the last ones are taken",
    ),
    StudyOption("val_split", "split of it"),
    StudyOption("recipe", "recipe of a regressor that the runs change", "geowarp-lite"),
    StudyOption("changes", "further changes of it, apart by spaces, as loop.num_steps=300"),
    StudyOption(
        "readout",
        "how trained regressors are read out: features, half, hybrid or exact",
        "features",
    ),
    StudyOption(
        "trainings",
        (
            "folder of the trainings, which studies on other sets may share; without it, the "
            "study's own"
        ),
    ),
    StudyOption("seeds", "trainings of each kind, with seeds 0, 1, ...", 1),
)
_PROTOCOL = (
    "{data}: all photos one database, every query counts; the first {candidates} candidates of "
    "{model} are put in order. 95 % intervals in brackets, by street where the set names streets"
)
LOSSES = ((0.0, 0.0, 0.0), (0.0, 0.0, 0.1), (0.0, 10.0, 0.0), (0.0, 10.0, 0.1),
          (1.0, 0.0, 0.0), (1.0, 0.0, 0.1), (1.0, 10.0, 0.0), (1.0, 10.0, 0.1))  # fmt: skip
"""Weights of the losses self-supervised, feature-wise and consistency, as in the paper's
ablation."""
INWARD = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


def _ablation(options: Settings) -> Sequence[Run]:
    runs = [
        Run(
            {
                "features": "global",
                "self_supervised": 0.0,
                "feature_wise": 0.0,
                "consistency": 0.0,
                "seed": 0,
            }
        )
    ]
    for weights in LOSSES:
        for seed in range(int(options["seeds"]) if any(weights) else 1):
            axes = dict(
                zip(("self_supervised", "feature_wise", "consistency"), weights, strict=True)
            )
            runs.append(Run({"features": "local", **axes, "seed": seed}))
    return runs


def _inward(options: Settings) -> Sequence[Run]:
    return [Run({"k": k, "seed": seed}) for k in INWARD for seed in range(int(options["seeds"]))]


def _rivals(options: Settings) -> Sequence[Run]:
    methods = [
        PLAIN,
        "unwarped cells",
        "one-sided warp",
        *(f"GeoWarp {readout}" for readout in READOUTS),
    ]
    return [
        Run({"method": method})
        for method in (*methods, "SIFT and MAGSAC", *SEARCHED_AGAIN, "DenseVLAD")
    ]


ABLATION = Study(
    name="geowarp-ablation",
    summary="GeoWarp's losses, one by one",
    protocol=_PROTOCOL + ". Every run with a loss is a training by {recipe} {changes}",
    options=(*SET_OPTIONS, _MODEL, *_TRAINING, _CANDIDATES),
    grid=_ablation,
    measured_by="whence.studies.geowarp_runs:measure_losses",
    measures=RECALLS,
    plot=Plot(
        x="self_supervised",
        y=("recall@1 within 25 m",),
        by=("features", "feature_wise", "consistency"),
    ),
)
INWARD_STUDY = Study(
    name="geowarp-k",
    summary=(
        "how far the sides of training views move inward (k), against recall within several radii"
    ),
    protocol=_PROTOCOL + ". Every run is a training by {recipe} {changes}",
    options=(*SET_OPTIONS, _MODEL, *_TRAINING, _CANDIDATES),
    grid=_inward,
    measured_by="whence.studies.geowarp_runs:measure_inward",
    measures=RECALLS,
    plot=Plot(x="k", y=tuple(measure.name for measure in RECALLS[:3])),
)
RIVALS = Study(
    name="geowarp-rivals",
    summary="GeoWarp and other ways to put the same candidates in order, or to search again",
    protocol=_PROTOCOL
    + (
        ". Times: CPU, one thread, the database's side prepared before; searching again costs per "
        "query, all queries at once"
    ),
    options=(
        *SET_OPTIONS,
        _MODEL,
        StudyOption("scorer", "name of the GeoWarp scorer", "geowarp"),
        StudyOption("weights", "file with the regressor; without it, the scorer's own"),
        StudyOption("long_side_px", "photos are shrunk to it", 0),
        _CANDIDATES,
    ),
    grid=_rivals,
    measured_by="whence.studies.geowarp_runs:measure_rival",
    measures=(
        *RECALLS,
        Measure("lost to exact within 25 m", "%"),
        Measure("lost to exact as listed", "%"),
        Measure("ms per query", "ms"),
    ),
    plot=Plot(x="ms per query", y=("recall@1 within 25 m",), by=("method",)),
)
STUDIES = (ABLATION, INWARD_STUDY, RIVALS)
