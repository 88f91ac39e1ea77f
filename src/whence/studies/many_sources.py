"""MegaLoc's question: one network trained on all sources against networks trained on one each. The
grid alone."""

from __future__ import annotations

from collections.abc import Sequence

from whence.studies.arms import (
    ALL_SOURCES,
    BUDGETS,
    NUM_SEEDS,
    ONE_LOSS,
    SOURCES,
    TESTS,
    loss_to_all,
)
from whence.studies.frame import Measure, Plot, Run, Settings, Study, StudyOption

HEADS = ("salad-small", "mixvpr-small", "boq-small")


def _grid(options: Settings) -> Sequence[Run]:
    """The network of all sources, those of one source, that of one loss over all, then further
    seeds of the first."""
    runs = [Run({"arm": ALL_SOURCES, "budget": BUDGETS[0], "seed": 0})]
    runs += [
        Run({"arm": source, "budget": budget, "seed": 0})
        for budget in BUDGETS
        for source in SOURCES
    ]
    runs.append(Run({"arm": ONE_LOSS, "budget": BUDGETS[0], "seed": 0}))
    return [
        *runs,
        *(
            Run({"arm": ALL_SOURCES, "budget": BUDGETS[0], "seed": seed})
            for seed in range(1, NUM_SEEDS)
        ),
    ]


def _heads(options: Settings) -> Sequence[Run]:
    return [Run({"arm": head, "seed": seed}) for head in HEADS for seed in range(NUM_SEEDS)]


_RECALLS = tuple(Measure(f"recall@1, {test}", "%") for test in TESTS)
_TESTED = (
    StudyOption(
        "street",
        "set of streets: database and queries with positions; right is within 25 m",
        is_needed=True,
    ),
    StudyOption(
        "landmarks",
        "set of landmarks in the revisited layout; right are easy and hard photos",
        is_needed=True,
    ),
    StudyOption(
        "indoor",
        "rooms as ScanNet holds them, some scanned twice; right is within 10 m and 30 degrees",
        is_needed=True,
    ),
    StudyOption("changes", "changes of the recipe, apart by spaces, as loop.num_steps=300"),
)
STUDIES = (
    Study(
        name="megaloc",
        summary=(
            "one network on five sources against one network on each, on streets, landmarks and "
            "rooms"
        ),
        protocol=(
            "Every row is a training by {recipe} {changes}. Alone with the same images, a source "
            "has six times the places a step (SF-XL three times each of its two sides); with the "
            "same steps, as many as beside the others. With one loss the photos of all sources are "
            "compared in a single loss, in place of one loss for each sub-batch. 95 % intervals in "
            "brackets; differences are paired query by query with all sources of seed 0. The claim "
            "fails (-1) where a difference exceeds 3 points with its whole interval on any test, "
            "else it holds (1). Queries with nothing to be found are left out"
        ),
        options=(
            *(
                StudyOption(source, f"training data in the layout {source}", is_needed=True)
                for source in SOURCES
            ),
            *_TESTED,
            StudyOption("recipe", "recipe of six branches", "megaloc-small"),
        ),
        grid=_grid,
        measured_by="whence.studies.many_sources_runs:measure_megaloc",
        measures=(
            *_RECALLS,
            *(Measure(loss_to_all(test), "%") for test in TESTS),
            Measure("claim"),
            Measure("training", "s"),
        ),
        plot=Plot("arm", tuple(measure.name for measure in _RECALLS)),
    ),
    Study(
        name="heads",
        summary=(
            "SALAD, MixVPR and Bag-of-Queries on one frozen small backbone, at equal steps and "
            "photos"
        ),
        protocol=(
            "Every row is a training by the recipe of its name {changes} on {gsv_cities}. 95 % "
            "intervals in brackets; describing: CPU a photo, decoding and search included"
        ),
        options=(
            StudyOption("gsv_cities", "training data in the layout gsv_cities", is_needed=True),
            *_TESTED,
        ),
        grid=_heads,
        measured_by="whence.studies.many_sources_runs:measure_head",
        measures=(
            *_RECALLS,
            Measure("dimensions"),
            Measure("describing", "ms"),
            Measure("training", "s"),
        ),
        plot=Plot("arm", tuple(measure.name for measure in _RECALLS)),
    ),
)
