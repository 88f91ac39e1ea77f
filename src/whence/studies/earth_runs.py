"""How the runs of EarthLoc's study are measured: trainings on tiles, asked photos of other regions
at four rotations."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from whence.data.evaluation_sets import open_set
from whence.errors import BadOption
from whence.evaluation.metrics import bootstrap_interval
from whence.evaluation.orbital import AT, describe_turned, score_orbital
from whence.recipes import get_recipe
from whence.runtime import atomic_write
from whence.studies.arms import ASTROLOC, ASTROLOC_MAIN, EARTHLOC, EARTHLOC_MAIN
from whence.studies.benchmark_runs import trained_model
from whence.studies.frame import Run, Settings, Value
from whence.training.options.tiles import TilesOptions
from whence.training.recipe import Recipe, override


def measure_earthloc(run: Settings, options: Settings, work: Path) -> dict[str, Value]:
    """Recalls by rotations after a training, and what is lost to the whole method."""
    return _measured(run, options, work, arms=EARTHLOC, reference=EARTHLOC_MAIN[0])


def measure_astroloc(run: Settings, options: Settings, work: Path) -> dict[str, Value]:
    """The same of the parts of AstroLoc."""
    return _measured(run, options, work, arms=ASTROLOC, reference=ASTROLOC_MAIN[0])


def _measured(
    run: Settings,
    options: Settings,
    work: Path,
    *,
    arms: Mapping[str, tuple[str, ...]],
    reference: str,
) -> dict[str, Value]:
    model, seconds = trained_model(tile_recipe(run, options, arms), run, options, work)
    data = open_set(str(options["data"]), layout="earthloc")
    assert data.positives is not None, "the layout gives footprints"
    tiles, asked = (
        describe_turned(model, photos, show_progress=False).rows
        for photos in (data.database, data.queries)
    )
    scores = {one.way: one for one in score_orbital(tiles, asked, data.positives)}
    stored = scores["stored"]
    found = {
        f"recall@{n}, stored": Value(stored.recall_at[AT.index(n)], *stored.intervals[AT.index(n)])
        for n in (1, 5, 10, 100)
    }
    for way in ("merged", "asked", "none"):
        found[f"recall@1, {way}"] = Value(scores[way].recall_at[0], *scores[way].intervals[0])
    found["lost without rotations"] = _difference(stored.hits, scores["none"].hits)
    file = _kept(work, run)
    file.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(file) as out:
        np.save(out, stored.hits)
    other = _kept(work, {**run, "arm": reference})
    if run["arm"] != reference and other.is_file():
        lost = _difference(stored.hits, np.load(other))
        found["difference"] = lost
        assert lost.low is not None
        assert lost.high is not None
        found["claim"] = Value(1.0 if lost.high < 0 else -1.0 if lost.low > 0 else 0.0)
    return found | {"training": Value(seconds)}


def tile_recipe(run: Settings, options: Settings, arms: Mapping[str, tuple[str, ...]]) -> Recipe:
    """The recipe of an arm. Raises `BadOption` where the recipe does not learn from tiles."""
    recipe = override(get_recipe(str(options["recipe"])), str(options["changes"]).split())
    if not any(isinstance(branch, TilesOptions) for branch in recipe.branches):
        raise BadOption(
            f"the recipe {recipe.name} does not learn from tiles; name another with recipe=NAME"
        )
    return override(recipe, [*arms[str(run["arm"])], f"loop.seed={run['seed']}"])


def _difference(own: np.ndarray, other: np.ndarray) -> Value:
    """Recall less that of the other way on the same queries."""
    values = own.astype(float) - other.astype(float)
    return Value(float(values.mean()), *bootstrap_interval(values))


def _kept(work: Path, run: Settings) -> Path:
    return work / "hits" / f"{Run(run).key}.npy"
