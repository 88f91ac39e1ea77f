"""How the runs of Divide&Classify's study are measured: which cell of the trained city a query of
another year lies in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from whence.data.evaluation_sets import open_set
from whence.data.partition import Partition, load_partition
from whence.data.photos import Photos
from whence.data.placed_files import PlacedFiles
from whence.data.planes import photos_on_plane
from whence.evaluation.describing import SetDescriber
from whence.evaluation.localization import WITHIN_M, rank_described, rate_cells
from whence.evaluation.metrics import bootstrap_interval, first_hit_by_distance
from whence.index.cells.classifier import CellClassifier, read_cells
from whence.studies.arms import DIVIDE, MAIN, NUM_SEEDS
from whence.studies.contrasts import contrasts, keep_hits
from whence.studies.frame import Settings, Value
from whence.studies.place_runs import class_recipe, predicted_s, trained
from whence.studies.shortlists import rows_beside, streets_of
from whence.training.datasets import Dataset
from whence.training.options.classes import ClassesOptions
from whence.training.recipe import Recipe, override

_RATE_AT = (1, 5)
_NUM_MAPS = 3
"""Maps of the combination, each moved against the one before by this share of a cell."""


def measure_divide(run: Settings, options: Settings, work: Path) -> dict[str, Value]:
    """LR@N, own cells, coverage and chance after a training, and what is lost to N = 2."""
    recipe = divide_recipe(run, options)
    model, out, seconds = trained(recipe, run, options, work)
    queries = open_set(str(options["data"])).queries
    descriptors = np.nan_to_num(SetDescriber(model, None, False).ask(queries))
    names = [branch.name or branch.kind for branch in recipe.branches]
    found = [
        (read_cells(out / f"{name}.cells.npz"), load_partition(out / f"{name}.partition.npz"))
        for name in names
    ]
    values, hits = (
        _rated(found[0][0], queries, descriptors)
        if len(found) == 1
        else _combined(found, options, queries, descriptors)
    )
    keep_hits(work, run, hits)
    groups = streets_of(queries, rows_beside(Path(queries.file(0)))) if len(queries) else None
    values["LR@1"] = Value(float(hits.mean()), *bootstrap_interval(hits, groups=groups))
    arms = MAIN["divide-and-classify"]
    seeds = tuple(range(NUM_SEEDS)) if run["arm"] in arms else (0,)
    return (
        values
        | contrasts(work, run, reference=arms[0], seeds=seeds, groups=groups)
        | {"training": Value(seconds)}
    )


def predict_divide(runs: Sequence[Settings], options: Settings, work: Path) -> float:
    """Seconds that these runs take."""
    return predicted_s([divide_recipe(run, options) for run in runs], options, work)


def divide_recipe(run: Settings, options: Settings) -> Recipe:
    """The recipe of an arm. Three maps are three branches, each over cells that are moved by a
    third of their side."""
    recipe, arm = override(class_recipe(options), DIVIDE[str(run["arm"])]), str(run["arm"])
    if arm.endswith("maps"):
        (branch,) = recipe.branches
        assert isinstance(branch, ClassesOptions)
        side = branch.cells.cell_m / _NUM_MAPS
        moved = (replace(branch.cells, offset_m=k * side) for k in range(_NUM_MAPS))
        recipe = replace(
            recipe,
            branches=tuple(
                replace(branch, name=f"map {k}", cells=cells) for k, cells in enumerate(moved)
            ),
        )
    return override(recipe, [f"loop.seed={run['seed']}"])


def _rated(
    cells: CellClassifier, queries: Photos, descriptors: np.ndarray
) -> tuple[dict[str, Value], np.ndarray]:
    east, north, _ = photos_on_plane(queries, cells.zone)
    ranked = rank_described(cells, descriptors, num=max(_RATE_AT))
    rates = rate_cells(cells, ranked, east, north, rate_at=_RATE_AT)
    hits = (
        first_hit_by_distance(
            ranked, cells.centres_m, np.stack([east, north], axis=1), thresholds_m=(WITHIN_M,)
        )[0]
        < 1
    )
    return {
        "LR@5": Value(rates.rates[1].value, rates.rates[1].low, rates.rates[1].high),
        "own cell": Value(rates.own_cell.value, rates.own_cell.low, rates.own_cell.high),
        "coverage": Value(rates.coverage.value),
        "chance": Value(rates.chance),
    }, hits


def _combined(
    parts: Sequence[tuple[CellClassifier, Partition]],
    options: Settings,
    queries: Photos,
    descriptors: np.ndarray,
) -> tuple[dict[str, Value], np.ndarray]:
    """CPlaNet's combination (Seo, Weyand, Sim, Han, ECCV 2018): pieces that cells of several maps
    share add up their chances."""
    files = Dataset(str(options["train"])).files(are_panoramas=False)
    pieces = _pieces(files, parts[0][1])
    scores = np.zeros((len(queries), len(pieces)))
    for cells, partition in parts:
        logits = cells.scores(descriptors).astype(float)
        chances = np.exp(logits - logits.max(axis=1, keepdims=True))
        chances /= chances.sum(axis=1, keepdims=True)
        row_of = np.full(len(partition) + 1, -1)
        row_of[partition.groups.members] = np.arange(len(cells))
        rows = row_of[partition.cell_of(*pieces.T)]
        scores += np.where(rows >= 0, chances[:, np.maximum(rows, 0)], 0)
    ranked = np.argsort(-scores, axis=1, kind="stable")[:, : max(_RATE_AT)]
    asked = np.stack(photos_on_plane(queries, parts[0][0].zone)[:2], axis=1)
    first = first_hit_by_distance(ranked, pieces, asked, thresholds_m=(WITHIN_M,))[0]
    low, high = bootstrap_interval(first < _RATE_AT[1])
    return {"LR@5": Value(float((first < _RATE_AT[1]).mean()), low, high)}, first < 1


def _pieces(files: PlacedFiles, partition: Partition) -> np.ndarray:
    """(P, 2) middles of the occupied pieces that the maps cut each other into."""
    side = partition.options.cell_m / _NUM_MAPS
    places = np.unique(np.floor(np.stack([files.east_m, files.north_m], axis=1) / side), axis=0)
    return np.asarray((places + 0.5) * side)
