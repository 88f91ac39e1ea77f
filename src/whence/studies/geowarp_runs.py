"""How the runs of GeoWarp's studies are measured: trainings, re-ranking, and searching again."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from whence.data.formats import EvaluationSet, read_folders
from whence.errors import BadOption, MissingExtra
from whence.localize.expand import augment_database, diffuse, expand_queries
from whence.recipes import get_recipe
from whence.runtime import atomic_write
from whence.studies.frame import Settings, Value
from whence.studies.methods import EXACT, PLAIN, SEARCHED_AGAIN
from whence.studies.shortlists import Ordered, Shortlists, read_set
from whence.training.options.learners import RegressorOptions
from whence.training.recipe import Recipe, override
from whence.types import Neighbors

_LOSSES = {
    "self_supervised": "self_supervised",
    "feature_wise": "features",
    "consistency": "consistency",
}
"""Axes of the ablation by the recipe's names."""
_SIDES = {"unwarped cells": "none", "one-sided warp": "query"}
_AGAIN = 5
"""Candidates that queries are expanded with, and neighbours that the database is."""


def measure_losses(run: Settings, options: Settings, work: Path) -> dict[str, Value]:
    """Recalls after re-ranking with a regressor trained with the run's losses; without any, with
    both photos whole."""
    lists = _shortlists(options, work)
    if run["features"] == "global":
        return lists.recalls(lists.found)
    if not any(run[axis] for axis in _LOSSES):
        return _recalls_with(lists, options, _recipe(options, []), {"sides": "none"})
    changes = [f"losses.{name}={run[axis]}" for axis, name in _LOSSES.items()]
    return _after_training(lists, options, work, [*changes, f"loop.seed={run['seed']}"])


def measure_inward(run: Settings, options: Settings, work: Path) -> dict[str, Value]:
    """Recalls after re-ranking with a regressor whose training views moved inward by up to the
    run's k."""
    return _after_training(
        _shortlists(options, work),
        options,
        work,
        [f"pairs.k={run['k']}", f"loop.seed={run['seed']}"],
    )


def measure_rival(run: Settings, options: Settings, work: Path) -> dict[str, Value]:
    """Recalls of one method on the same shortlists; of GeoWarp's read-outs also what they lose to
    the exact one."""
    method, lists = str(run["method"]), _shortlists(options, work)
    if method == "DenseVLAD":
        lists = Shortlists(lists.data, model="densevlad", work=work)
    ordered = _exact(lists, options, work) if method == EXACT else _order(method, lists, options)
    values = lists.recalls(ordered.predictions)
    if method.startswith("GeoWarp"):
        values |= lists.most_lost(ordered.predictions, _exact(lists, options, work).predictions)
    if ordered.query_ms is not None:
        values["ms per query"] = Value(ordered.query_ms)
    return values


def _shortlists(options: Settings, work: Path) -> Shortlists:
    return Shortlists(read_set(options), model=str(options["model"]), work=work)


def _exact(lists: Shortlists, options: Settings, work: Path) -> Ordered:
    """The exact read-out's order, which all others are compared with: made once, then kept beside
    the study."""
    file = work / "exact.npz"
    if not file.is_file():
        made = _order(EXACT, lists, options)
        with atomic_write(file) as out:
            np.savez(out, predictions=made.predictions, query_ms=np.array(made.query_ms))
    with np.load(file) as kept:
        return Ordered(kept["predictions"], float(kept["query_ms"]))


def _order(method: str, lists: Shortlists, options: Settings) -> Ordered:
    """The candidates in the order of a method."""
    if method in (PLAIN, "DenseVLAD"):
        return Ordered(lists.found)
    if method in SEARCHED_AGAIN:
        return _searched_again(method, lists)
    if method == "SIFT and MAGSAC":
        return lists.reranked("inliers", {}, num_candidates=int(options["candidates"]))
    chosen: dict[str, Any] = (
        {"sides": _SIDES[method]}
        if method in _SIDES
        else {"readout": method.removeprefix("GeoWarp ")}
    )
    chosen["margin"] = 0.0
    if options["weights"]:
        chosen |= {"weights": options["weights"], **_network(lists, options)}
    if options["long_side_px"]:
        chosen |= {"long_side_px": options["long_side_px"]}
    return lists.reranked(str(options["scorer"]), chosen, num_candidates=int(options["candidates"]))


def _searched_again(method: str, lists: Shortlists) -> Ordered:
    """What is found with expanded queries, an augmented database, both, or diffusion. The
    database's own part is not timed."""
    database, queries = lists.descriptors
    found = lists.found
    stored = (
        augment_database(database, num=_AGAIN)
        if method in ("database augmentation", "both expanded")
        else database
    )
    started = time.process_time()
    if method == "diffusion":
        predictions = lists.counting(diffuse(queries, database, k=lists.num_asked).ids)
    else:
        asked = queries
        if method != "database augmentation":
            near = lists.search(stored, queries)
            similarities = np.einsum("qd,qkd->qk", queries, stored[near])
            asked = expand_queries(queries, stored, Neighbors(near, similarities), num=_AGAIN)
        predictions = lists.search(stored, asked)
    assert predictions.shape == found.shape
    return Ordered(predictions, 1e3 * (time.process_time() - started) / len(queries))


def _after_training(
    lists: Shortlists, options: Settings, work: Path, changes: list[str]
) -> dict[str, Value]:
    """Train a regressor into the folder of trainings, or go on where that was stopped, and re-rank
    with it."""
    recipe = _recipe(options, changes)
    try:
        from whence.training.loop import BEST, FINAL
        from whence.training.train import train
    except ModuleNotFoundError:
        raise MissingExtra("training", "torch,train") from None
    folder = Path(str(options["trainings"])) if options["trainings"] else work / "trainings"
    out = folder / ",".join(changes)
    validation = _set_of(options, "val") if options["val"] else None
    train(
        recipe,
        _set_of(options, "train"),
        out=out,
        validation=validation,
        pixels_folder=folder.with_name("pixels"),
        is_resumed=(out / "recipe.json").is_file(),
        show_progress=False,
    )
    return _recalls_with(
        lists, options, recipe, {"weights": str(out / (FINAL if validation is None else BEST))}
    )


def _recipe(options: Settings, changes: list[str]) -> Recipe:
    recipe = get_recipe(str(options["recipe"]))
    if recipe.learner.kind != "regressor":
        raise BadOption(
            f"the recipe {recipe.name} trains no regressor; name another with recipe=NAME"
        )
    return override(
        recipe, [f"model={options['model']}", *str(options["changes"]).split(), *changes]
    )


def _recalls_with(
    lists: Shortlists, options: Settings, recipe: Recipe, scorer_options: dict[str, Any]
) -> dict[str, Value]:
    """Recalls with a regressor of a recipe, at the size of its training's photos."""
    from whence.training.options.learners import image_size

    assert isinstance(recipe.learner, RegressorOptions)
    side = max(image_size(recipe.learner, lists.model.card))
    asked = {"readout": options["readout"], "long_side_px": side, "margin": 0.0, **scorer_options}
    if not recipe.learner.backbone:
        asked |= _network(lists, options)
    return lists.recalls(
        lists.reranked("geowarp", asked, num_candidates=int(options["candidates"])).predictions
    )


def _network(lists: Shortlists, options: Settings) -> dict[str, str]:
    """The option that names the network of the shortlists, where it is one: else the scorer's own
    backbone compares."""
    return {} if lists.model.descriptor.network is None else {"model": str(options["model"])}


def _set_of(options: Settings, which: str) -> EvaluationSet:
    return read_folders(str(options[which]), split=str(options[f"{which}_split"]))
