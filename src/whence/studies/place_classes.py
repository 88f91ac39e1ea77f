"""Places as classes: CosPlace, EigenPlaces and Divide&Classify against what they are compared with
in their papers. Grids alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from whence.studies.arms import (
    COSPLACE,
    DIVIDE,
    EIGENPLACES,
    MAIN,
    NUM_SEEDS,
    SHIFTS_M,
    TURNS_DEG,
    bin_name,
)
from whence.studies.frame import Measure, Plot, Run, Settings, Study, StudyOption
from whence.studies.shortlists import RECALLS, SET_OPTIONS

_TRAINING = (
    StudyOption("train", "a rendered world in the layout sf_xl, or SF-XL itself", is_needed=True),
    StudyOption("changes", "changes of every recipe, apart by spaces, as loop.num_steps=300"),
)
_PROTOCOL = (
    "Every row is a training on {train} by {recipe} {changes}; the same steps, photos a step and "
    "network. Asked: {data}, all queries count. 95 % intervals in brackets, by street; differences "
    "are paired with the first row of the same seed, and over all seeds once all are there. A "
    "claim of the paper holds (1), fails (-1) or is open (0) by the interval of its difference"
)
_CLAIMS = (
    Measure("difference within 25 m", "%"),
    Measure("difference, all seeds", "%"),
    Measure("claim"),
)
_COSTS = (Measure("training", "s"),)

_BINS = tuple(
    Measure(bin_name(what, low, high, unit), "%")
    for what, bins, unit in (("aside", SHIFTS_M, "m"), ("turned", TURNS_DEG, "degrees"))
    for low, high in bins
)


def _grid(name: str, arms: Mapping[str, tuple[str, ...]]) -> Sequence[Run]:
    """The main contrast's first seed, the other arms, then its further seeds."""
    main = MAIN[name]
    runs = [
        Run({"arm": arm, "seed": 0}) for arm in (*main, *(arm for arm in arms if arm not in main))
    ]
    return [
        *runs,
        *(Run({"arm": arm, "seed": seed}) for seed in range(1, NUM_SEEDS) for arm in main),
    ]


def _cosplace(options: Settings) -> Sequence[Run]:
    return _grid("cosplace", COSPLACE)


def _eigenplaces(options: Settings) -> Sequence[Run]:
    return _grid("eigenplaces", EIGENPLACES)


def _divide(options: Settings) -> Sequence[Run]:
    return _grid("divide-and-classify", DIVIDE)


_ON_CELLS = "whence.studies.place_runs:"
STUDIES = (
    Study(
        name="cosplace",
        summary="classes in groups against triplets, against one softmax, and by dimension",
        protocol=_PROTOCOL,
        options=(
            *SET_OPTIONS,
            *_TRAINING,
            StudyOption("recipe", "recipe of classes of crops", "cosplace-small"),
        ),
        grid=_cosplace,
        measured_by=_ON_CELLS + "measure_cosplace",
        measures=(*RECALLS, *_CLAIMS, *_COSTS),
        plot=Plot("arm", ("recall@1 within 25 m",)),
        predicted_by=_ON_CELLS + "predict_cosplace",
    ),
    Study(
        name="eigenplaces",
        summary=(
            "crops towards focal points against crops by heading: by lateral shift and turn, by "
            "side, and by focal distance"
        ),
        protocol=_PROTOCOL,
        options=(
            *SET_OPTIONS,
            *_TRAINING,
            StudyOption("recipe", "recipe of two sides of panoramas", "eigenplaces-small"),
        ),
        grid=_eigenplaces,
        measured_by=_ON_CELLS + "measure_eigenplaces",
        measures=(*RECALLS, *_BINS, *_CLAIMS, *_COSTS),
        plot=Plot("arm", ("recall@1 within 25 m",)),
        predicted_by=_ON_CELLS + "predict_eigenplaces",
    ),
    Study(
        name="divide-and-classify",
        summary="cells in groups against one softmax over all of them, without any database",
        protocol=_PROTOCOL.replace(
            "{data}, all queries", "{data}, another year of that city, all queries"
        ),
        options=(
            StudyOption("data", "the same world, whose test queries are asked", is_needed=True),
            *_TRAINING,
            StudyOption(
                "recipe", "recipe of classes of crops without headings", "divide-and-classify-small"
            ),
        ),
        grid=_divide,
        measured_by="whence.studies.map_runs:measure_divide",
        measures=(
            Measure("LR@1", "%"),
            Measure("LR@5", "%"),
            Measure("own cell", "%"),
            Measure("chance", "%"),
            Measure("coverage", "%"),
            *_CLAIMS,
            *_COSTS,
        ),
        plot=Plot("arm", ("LR@1",)),
        predicted_by="whence.studies.map_runs:predict_divide",
    ),
)
