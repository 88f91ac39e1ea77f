"""How the runs of CosPlace's and EigenPlaces' studies are measured: trainings on one world, asked
on other cities."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from whence.data.formats import EvaluationSet
from whence.data.layouts import read_sf_xl
from whence.data.names import parse_name
from whence.data.photos import NO_TIME
from whence.errors import BadOption, MissingExtra, NoPhotos
from whence.evaluation.metrics import bootstrap_interval
from whence.geo import heading_difference_deg
from whence.models.descriptor import DescriptorModel
from whence.recipes import get_recipe
from whence.studies.arms import (
    COSPLACE,
    EIGENPLACES,
    MAIN,
    NUM_SEEDS,
    SHIFTS_M,
    TRIPLETS,
    TURNS_DEG,
    bin_name,
)
from whence.studies.benchmark_runs import as_model, trained_weights
from whence.studies.contrasts import contrasts, keep_hits
from whence.studies.frame import Run, Settings, Value
from whence.studies.shortlists import Shortlists, read_set, rows_beside
from whence.training.datasets import Dataset
from whence.training.options.classes import ClassesOptions
from whence.training.options.learners import NetworkOptions
from whence.training.options.tuples import TuplesOptions
from whence.training.recipe import Recipe, override, size_px

_HIT = (1, "within 25 m")
_TIMED_STEPS = 3
_EVALUATION_S = 60.0
"""What describing the sets takes beside a training, roughly."""


def measure_cosplace(run: Settings, options: Settings, work: Path) -> dict[str, Value]:
    """Recalls on the study's set after a training, and what is lost to CosPlace."""
    lists, values = _after_training(cosplace_recipe(run, options), run, options, work)
    return _compared(lists, run, work, name="cosplace") | values


def measure_eigenplaces(run: Settings, options: Settings, work: Path) -> dict[str, Value]:
    """The same, with recalls of queries by how far they stand aside and how they are turned, and
    what is lost to EigenPlaces."""
    lists, values = _after_training(eigenplaces_recipe(run, options), run, options, work)
    return _compared(lists, run, work, name="eigenplaces") | values | _by_viewpoint(lists)


def predict_cosplace(runs: Sequence[Settings], options: Settings, work: Path) -> float:
    """Seconds that these runs take."""
    return predicted_s([cosplace_recipe(run, options) for run in runs], options, work)


def predict_eigenplaces(runs: Sequence[Settings], options: Settings, work: Path) -> float:
    """Seconds that these runs take."""
    return predicted_s([eigenplaces_recipe(run, options) for run in runs], options, work)


def cosplace_recipe(run: Settings, options: Settings) -> Recipe:
    """The recipe of an arm."""
    recipe, arm = class_recipe(options), str(run["arm"])
    changes = [*COSPLACE[arm], f"loop.seed={run['seed']}"]
    if arm.startswith("triplets"):
        (branch,) = recipe.branches
        assert isinstance(branch, ClassesOptions)
        recipe = override(
            replace(recipe, branches=(TuplesOptions(augment=branch.augment),)), TRIPLETS
        )
    return override(recipe, changes)


def eigenplaces_recipe(run: Settings, options: Settings) -> Recipe:
    """The recipe of an arm; CosPlace's looks at crops by heading of the same panoramas, as many a
    step."""
    recipe, arm = class_recipe(options), str(run["arm"])
    if arm == "cosplace":
        (branch,) = get_recipe("cosplace-small").branches
        first = recipe.branches[0]
        assert isinstance(branch, ClassesOptions)
        assert isinstance(first, ClassesOptions)
        num = sum(one.batch_size for one in recipe.branches if isinstance(one, ClassesOptions))
        turn = first.batches_per_turn
        recipe = replace(
            recipe,
            branches=(
                replace(
                    branch,
                    augment=first.augment,
                    loss=first.loss,
                    batch_size=num,
                    batches_per_turn=turn,
                ),
            ),
        )
    return override(recipe, [*EIGENPLACES[arm], f"loop.seed={run['seed']}"])


def class_recipe(options: Settings) -> Recipe:
    """The study's recipe with its changes. Raises `BadOption` where it does not learn classes."""
    recipe = override(get_recipe(str(options["recipe"])), str(options["changes"]).split())
    if {branch.kind for branch in recipe.branches} != {"classes"}:
        raise BadOption(
            f"the recipe {recipe.name} does not train on classes; name another with recipe=NAME"
        )
    return recipe


def training_data(recipe: Recipe, options: Settings) -> str | EvaluationSet:
    """The folder of classes; for tuples its crops, those of the last year as queries and the others
    as database.

    Raises `NoPhotos` where there is a single year.
    """
    if recipe.branches[0].kind != "tuples":
        return str(options["train"])
    photos = read_sf_xl(str(options["train"]))
    years = np.where(
        photos.time_us == NO_TIME,
        0,
        photos.time_us.astype("datetime64[us]").astype("datetime64[Y]").astype(int),
    )
    if len(np.unique(years)) < 2:
        raise NoPhotos(
            f"{str(options['train'])!r} holds photos of a single year: triplets need queries of "
            "another"
        )
    is_query = years == years.max()
    return EvaluationSet("years", photos.select(~is_query), photos.select(is_query))


def trained(
    recipe: Recipe, run: Settings, options: Settings, work: Path
) -> tuple[DescriptorModel, Path, float]:
    """The model of a training in the work folder, which goes on where it was stopped; its folder,
    and seconds of this process."""
    try:
        from whence.training.learners import make_network
        from whence.training.train import train
    except ModuleNotFoundError:
        raise MissingExtra("training", "torch,train") from None
    out = work / "trainings" / Run(run).key
    done = train(
        recipe,
        training_data(recipe, options),
        out=out,
        pixels_folder=work / "pixels",
        is_resumed=(out / "recipe.json").is_file(),
        show_progress=False,
    )
    weights = trained_weights({"val": ""}, out)
    learner = override(
        recipe, [f"start_from={weights}", "start_with=all", "freeze_before="]
    ).learner
    assert isinstance(learner, NetworkOptions)
    width, height = size_px(recipe)
    return as_model(make_network(learner), out.name, (height, width)), out, done.seconds


def predicted_s(recipes: Sequence[Recipe], options: Settings, work: Path) -> float:
    """Seconds of trainings that see as many photos a step, by a few steps of the study's own
    recipe, and of asking the set.

    Steps are taken twice: maps that a frozen backbone makes of photos are there at the second time.
    Each is made once for all.
    """
    timed = class_recipe(options)
    first_s, step_s = (_step_s(timed, options, work) for _ in range(2))
    (branch, *_), num_photos = timed.branches, 0
    assert isinstance(branch, ClassesOptions)
    steps = [recipe.loop.num_steps for recipe in recipes]
    if branch.augment.num_views:
        num_photos = branch.sizes(Dataset(str(options["train"])), seed=0)["num_photos"]
    num_first = min(sum(steps), num_photos * branch.augment.num_views // branch.batch_size)
    return sum(step_s * num + _EVALUATION_S for num in steps) + num_first * max(
        0.0, first_s - step_s
    )


def _step_s(recipe: Recipe, options: Settings, work: Path) -> float:
    """Seconds of one of the first steps."""
    try:
        from whence.training.step import Step
        from whence.training.train import make_task
    except ModuleNotFoundError:
        raise MissingExtra("training", "torch,train") from None
    task = make_task(
        recipe, str(options["train"]), pixels_folder=work / "pixels", show_progress=False
    )
    with Step(task, options=recipe.loop) as step:
        step.open()
        step.take()
        started = time.perf_counter()
        for _ in range(_TIMED_STEPS):
            step.take()
        seconds = time.perf_counter() - started
    return seconds / _TIMED_STEPS


def _after_training(
    recipe: Recipe, run: Settings, options: Settings, work: Path
) -> tuple[Shortlists, dict[str, Value]]:
    model, _, seconds = trained(recipe, run, options, work)
    lists = Shortlists(read_set(options), model=model, work=None)
    return lists, {"training": Value(seconds)}


def _compared(lists: Shortlists, run: Settings, work: Path, *, name: str) -> dict[str, Value]:
    keep_hits(work, run, lists.hits(lists.found)[_HIT])
    arms = MAIN[name]
    seeds = range(NUM_SEEDS) if run["arm"] in arms else (0,)
    return lists.recalls(lists.found) | contrasts(
        work, run, reference=arms[0], seeds=tuple(seeds), groups=lists.groups
    )


def _by_viewpoint(lists: Shortlists) -> dict[str, Value]:
    """Recall of queries by their place across the street and their direction along it; nothing
    where no world says."""
    aside, turned = viewpoints(lists.data)
    hits = np.asarray(lists.hits(lists.found)[_HIT], float)
    found = {}
    for what, bins, unit, values in (
        ("aside", SHIFTS_M, "m", aside),
        ("turned", TURNS_DEG, "degrees", turned),
    ):
        for low, high in bins:
            rows = np.flatnonzero(
                (values >= low) & ((values < high) | ((high == bins[-1][1]) & (values == high)))
            )
            if len(rows):
                groups = None if lists.groups is None else lists.groups[rows]
                found[bin_name(what, low, high, unit)] = Value(
                    float(hits[rows].mean()), *bootstrap_interval(hits[rows], groups=groups)
                )
    return found


def viewpoints(data: EvaluationSet) -> tuple[np.ndarray, np.ndarray]:
    """Metres (Q,) that queries stand aside of the database's lane, and degrees (Q,) from 0, along
    their street, to 90, across.

    NaN where no rendered world says.
    """
    aside, turned = np.full(len(data.queries), np.nan), np.full(len(data.queries), np.nan)
    beside = rows_beside(Path(data.queries.file(0))) if len(data.queries) else {}
    lanes: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for row in beside.values():
        fields = parse_name(row["path"])
        if row["role"] == "database" and fields is not None and fields.tile_num == "00":
            key = row["city"], row["street"]
            lanes.setdefault(key, []).append((float(row["lateral_m"]), float(row["heading_deg"])))
    for number in range(len(data.queries)):
        own = beside.get(str(data.queries.file(number).resolve()))
        lane = None if own is None else lanes.get((own["city"], own["street"]))
        if own is not None and lane:
            aside[number] = abs(
                float(own["lateral_m"]) - float(np.median([one[0] for one in lane]))
            )
            turn = float(
                heading_difference_deg(np.array(float(own["heading_deg"])), np.array(lane[0][1]))
            )
            turned[number] = min(turn, 180 - turn)
    return aside, turned
