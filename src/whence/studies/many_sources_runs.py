"""How the runs of MegaLoc's studies are measured: trainings on several sources, asked on streets,
landmarks and rooms."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from whence.data.evaluation_sets import open_set
from whence.data.formats import EvaluationSet
from whence.data.revisited import read_revisited
from whence.data.scenes import read_scannet, rooms_as_set
from whence.errors import BadOption, MissingExtra
from whence.evaluation.metrics import bootstrap_interval
from whence.evaluation.protocol import metric_ground
from whence.geo import neighbors_within
from whence.models.descriptor import DescriptorModel
from whence.recipes import get_recipe
from whence.runtime import atomic_write
from whence.studies.arms import ALL_SOURCES, BUDGETS, ONE_LOSS, SOURCES, TESTS, loss_to_all
from whence.studies.benchmark_runs import as_model, trained_weights
from whence.studies.frame import Run, Settings, Value
from whence.training.options.kinds import BranchOptions
from whence.training.options.learners import NetworkOptions
from whence.training.recipe import Recipe, override, size_px

_RADIUS_M = 25.0
_ALLOWED = 0.03
"""What all sources may lose to one of them."""


def measure_megaloc(run: Settings, options: Settings, work: Path) -> dict[str, Value]:
    """Recalls on every test after a training, and what they are less those of all sources."""
    values = _measured(arm_recipe(run, options), run, options, work)
    return values | compared(run, work)


def compared(run: Settings, work: Path) -> dict[str, Value]:
    """Figures of an arm's hits less those of all sources, test by test, and the claim; nothing
    where hits of either are missing."""
    if run["arm"] == ALL_SOURCES:
        return {}
    reference = Run({"arm": ALL_SOURCES, "budget": BUDGETS[0], "seed": 0}).key
    values, lows = dict[str, Value](), []
    for test in TESTS:
        files = [_hits_file(work, key, test) for key in (Run(run).key, reference)]
        if all(file.is_file() for file in files):
            own, other = (np.load(file).astype(float) for file in files)
            low, high = bootstrap_interval(own - other)
            values[loss_to_all(test)] = Value(float((own - other).mean()), low, high)
            lows.append(low)
    if len(lows) == len(TESTS):
        values["claim"] = Value(-1.0 if max(lows) > _ALLOWED else 1.0)
    return values


def measure_head(run: Settings, options: Settings, work: Path) -> dict[str, Value]:
    """Recalls on every test, dimensions, and milliseconds to describe a photo, of one head."""
    recipe = override(
        get_recipe(str(run["arm"])),
        [*str(options["changes"]).split(), f"loop.seed={run['seed']}"],
    )
    return _measured(recipe, run, options, work, has_costs=True)


def arm_recipe(run: Settings, options: Settings) -> Recipe:
    """The recipe of an arm: the study's own, or those of its branches that learn from one source.

    Raises `BadOption` where the recipe has no branch for a source.
    """
    recipe = override(
        get_recipe(str(options["recipe"])),
        [*str(options["changes"]).split(), f"loop.seed={run['seed']}"],
    )
    arm = str(run["arm"])
    if arm in (ALL_SOURCES, ONE_LOSS):
        return recipe if arm == ALL_SOURCES else override(recipe, ["loop.losses=one"])
    chosen = tuple(branch for branch in recipe.branches if (branch.dataset or branch.name) == arm)
    if not chosen:
        raise BadOption(
            f"the recipe {recipe.name} has no branch that learns from {arm}; name another with "
            "recipe=NAME"
        )
    if run["budget"] == BUDGETS[0]:
        times = len(recipe.branches) // len(chosen)
        chosen = tuple(_larger(branch, times) for branch in chosen)
    return replace(recipe, branches=chosen)


def read_tests(options: Settings) -> dict[str, EvaluationSet]:
    """The sets that are asked. Raises as their readers do."""
    return {
        "street": open_set(str(options["street"])),
        "landmarks": read_revisited(str(options["landmarks"])).as_set(),
        "indoor": rooms_as_set(read_scannet(str(options["indoor"]))),
    }


def hits_of(model: DescriptorModel, data: EvaluationSet) -> np.ndarray:
    """(Q',) bool: whether the first answer is right, of the queries that have something to be
    found."""
    right = data.positives
    if right is None:
        ground = metric_ground(data.database, data.queries)
        right = neighbors_within(ground.database, ground.queries, radius_m=_RADIUS_M)
    rows, asked = (
        model.describe([photos.file(row) for row in range(len(photos))])
        for photos in (data.database, data.queries)
    )
    first = (asked @ rows.T).argmax(axis=1)
    return np.array(
        [first[query] in right.of(query) for query in np.flatnonzero(right.counts).tolist()], bool
    )


def _larger(branch: BranchOptions, times: int) -> BranchOptions:
    """The branch with so many times the places a batch."""
    batches = branch.batches  # type: ignore[attr-defined]
    return replace(branch, batches=replace(batches, num_places=batches.num_places * times))  # type: ignore[call-arg]


def _measured(
    recipe: Recipe, run: Settings, options: Settings, work: Path, *, has_costs: bool = False
) -> dict[str, Value]:
    model, seconds = _trained(recipe, run, options, work)
    values, started, num = {"training": Value(seconds)}, time.process_time(), 0
    for test, data in read_tests(options).items():
        hits = hits_of(model, data)
        num += len(data.database) + len(data.queries)
        keep_hits(work, run, test, hits)
        values[f"recall@1, {test}"] = Value(
            float(hits.mean()), *bootstrap_interval(hits.astype(float))
        )
    if has_costs:
        values["dimensions"] = Value(float(model.dim))
        values["describing"] = Value(1000 * (time.process_time() - started) / num)
    return values


def _trained(
    recipe: Recipe, run: Settings, options: Settings, work: Path
) -> tuple[DescriptorModel, float]:
    """The model of a training in the work folder, which goes on where it was stopped, and seconds
    of this process."""
    try:
        from whence.training.learners import make_network
        from whence.training.train import train
    except ModuleNotFoundError:
        raise MissingExtra("training", "torch,train") from None
    out = work / "trainings" / Run(run).key
    data: Mapping[str, str] = {
        source: str(options[source]) for source in SOURCES if source in options
    }
    done = train(
        recipe,
        data,
        out=out,
        pixels_folder=work / "pixels",
        is_resumed=(out / "recipe.json").is_file(),
        show_progress=False,
    )
    learner = override(
        recipe,
        [f"start_from={trained_weights({'val': ''}, out)}", "start_with=all", "freeze_before="],
    ).learner
    assert isinstance(learner, NetworkOptions)
    width, height = size_px(recipe)
    return as_model(make_network(learner), out.name, (height, width)), done.seconds


def keep_hits(work: Path, run: Settings, test: str, hits: np.ndarray) -> None:
    """Write which queries (Q,) of a test an arm got right."""
    file = _hits_file(work, Run(run).key, test)
    file.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(file) as out:
        np.save(out, np.asarray(hits, bool))


def _hits_file(work: Path, key: str, test: str) -> Path:
    return work / "hits" / f"{key}-{test}.npy"
