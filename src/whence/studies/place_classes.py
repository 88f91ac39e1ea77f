"""Places as classes: CosPlace, EigenPlaces and Divide&Classify against what they are compared with in their papers. Grids alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from whence.studies.frame import Cell, Measure, Plot, Settings, Study, StudyOption
from whence.studies.shortlists import RECALLS, SET_OPTIONS

_SEEDS = 3
"""Trainings of the main contrast; other arms have one."""
_TRAINING = (
    StudyOption("train", "a rendered world in the layout sf_xl, or SF-XL itself", is_needed=True),
    StudyOption("changes", "changes of every recipe, apart by spaces, as loop.num_steps=300"),
)
_PROTOCOL = (
    "Every row is a training on {train} by {recipe} {changes}; the same steps, photos a step and network. Asked: {data}, all "
    "queries count. 95 % intervals in brackets, by street; differences are paired with the first row of the same seed, and over "
    "all seeds once all are there. A claim of the paper holds (1), fails (-1) or is open (0) by the interval of its difference"
)
_CLAIMS = (
    Measure("difference within 25 m", "%"),
    Measure("difference, all seeds", "%"),
    Measure("claim"),
)
_COSTS = (Measure("training", "s"),)

COSPLACE: Mapping[str, tuple[str, ...]] = {
    "cosplace": (),
    "triplets, random negatives": ("mining.name=random",),
    "triplets, hard negatives": ("mining.name=partial",),
    "all cells in one softmax": ("cells.num_apart=1", "cells.num_turned=1"),
    "one group alone": ("num_groups=1",),
    "dimension 128": ("learner.aggregator.options.dim=128",),
    "dimension 32": ("learner.aggregator.options.dim=32",),
}
"""Arms of CosPlace's study, and how they change its recipe."""
EIGENPLACES: Mapping[str, tuple[str, ...]] = {
    "eigenplaces": (),
    "cosplace": (),
    "lateral alone": ("branches.1.weight=0", "branches.0.batch_size=32"),
    "frontal alone": ("branches.0.weight=0", "branches.1.batch_size=32"),
    "focal point at 0 m": ("focal_m=0",),
    "focal point at 20 m": ("focal_m=20",),
    "focal point at 50 m": ("focal_m=50",),
}
DIVIDE: Mapping[str, tuple[str, ...]] = {
    "N = 2": (),
    "margin, one group": ("cells.num_apart=1",),
    "N = 3": ("cells.num_apart=3",),
    "cross-entropy, one group": ("cells.num_apart=1", "loss.name=cross_entropy", "loss.options={}"),
    "cross-entropy, three maps": ("cells.num_apart=1", "loss.name=cross_entropy", "loss.options={}", "batch_size=11"),
}
MAIN = {
    "cosplace": ("cosplace", "triplets, random negatives", "triplets, hard negatives"),
    "eigenplaces": ("eigenplaces", "cosplace"),
    "divide-and-classify": ("N = 2", "margin, one group", "cross-entropy, one group"),
}
"""Arms of the main contrasts, their reference first."""
TRIPLETS = ("mining.num_queries=400", "mining.num_candidates=400", "mining.num_negatives=6", "batch_queries=4")
"""As many photos a step as a batch of classes has: four queries with a positive and six negatives each."""
SHIFTS_M = ((0, 2), (2, 5), (5, 99))
"""How far a query stands aside of where the database was taken."""
TURNS_DEG = ((0, 30), (30, 60), (60, 90))
"""How far a query looks away from its street's direction: along it, or across."""


def bin_name(what: str, low: float, high: float, unit: str) -> str:
    """What a share of the queries is called."""
    return f"recall@1, {what} {low:g}-{high:g} {unit}"


_BINS = tuple(
    Measure(bin_name(what, low, high, unit), "%")
    for what, bins, unit in (("aside", SHIFTS_M, "m"), ("turned", TURNS_DEG, "degrees"))
    for low, high in bins
)


def _grid(name: str, arms: Mapping[str, tuple[str, ...]]) -> Sequence[Cell]:
    """The main contrast's first seed, the other arms, then its further seeds."""
    main = MAIN[name]
    cells = [Cell({"arm": arm, "seed": 0}) for arm in (*main, *(arm for arm in arms if arm not in main))]
    return [*cells, *(Cell({"arm": arm, "seed": seed}) for seed in range(1, _SEEDS) for arm in main)]


def _cosplace(options: Settings) -> Sequence[Cell]:
    return _grid("cosplace", COSPLACE)


def _eigenplaces(options: Settings) -> Sequence[Cell]:
    return _grid("eigenplaces", EIGENPLACES)


def _divide(options: Settings) -> Sequence[Cell]:
    return _grid("divide-and-classify", DIVIDE)


_ON_CELLS = "whence.studies.place_cells:"
STUDIES = (
    Study(
        name="cosplace",
        summary="classes in groups against triplets, against one softmax, and by dimension",
        protocol=_PROTOCOL,
        options=(*SET_OPTIONS, *_TRAINING, StudyOption("recipe", "recipe of classes of crops", "cosplace-small")),
        grid=_cosplace,
        measured_by=_ON_CELLS + "measure_cosplace",
        measures=(*RECALLS, *_CLAIMS, *_COSTS),
        plot=Plot("arm", ("recall@1 within 25 m",)),
        predicted_by=_ON_CELLS + "predict_cosplace",
    ),
    Study(
        name="eigenplaces",
        summary="crops towards focal points against crops by heading: by lateral shift and turn, by side, and by focal distance",
        protocol=_PROTOCOL,
        options=(*SET_OPTIONS, *_TRAINING, StudyOption("recipe", "recipe of two sides of panoramas", "eigenplaces-small")),
        grid=_eigenplaces,
        measured_by=_ON_CELLS + "measure_eigenplaces",
        measures=(*RECALLS, *_BINS, *_CLAIMS, *_COSTS),
        plot=Plot("arm", ("recall@1 within 25 m",)),
        predicted_by=_ON_CELLS + "predict_eigenplaces",
    ),
    Study(
        name="divide-and-classify",
        summary="cells in groups against one softmax over all of them, without any database",
        protocol=_PROTOCOL.replace("{data}, all queries", "{data}, another year of that city, all queries"),
        options=(
            StudyOption("data", "the same world, whose test queries are asked", is_needed=True),
            *_TRAINING,
            StudyOption("recipe", "recipe of classes of crops without headings", "divide-and-classify-small"),
        ),
        grid=_divide,
        measured_by="whence.studies.map_cells:measure_divide",
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
        predicted_by="whence.studies.map_cells:predict_divide",
    ),
)
