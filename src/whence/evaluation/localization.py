"""How often the cells of a map are right: LR@N, and what it has to be compared with.

LR@N, the localization rate of Divide&Classify (Trivigno, Berton, Aragon, Caputo, Masone, ICCV
2023), is the share of queries of whose N best cells one has its middle within 25 m. In cells of 20
m about five middles are that near, so LR@1 forgives a wrong neighbour: the share of queries whose
own cell comes first is smaller, and chance is larger than one over the number of cells.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.console import Group, RenderableType

from whence.data.fields import as_text
from whence.data.formats import EvaluationSet
from whence.data.planes import photos_on_plane
from whence.errors import InputError
from whence.evaluation.describing import SetDescriber, finite_rows
from whence.evaluation.metrics import RECALL_AT, Recall, first_hit_by_distance, recalls
from whence.evaluation.protocol import describe_photos
from whence.evaluation.report import recall_text
from whence.geo import neighbors_within
from whence.index.cells.classifier import CellClassifier
from whence.index.cells.table import CellTable, RowPlaces
from whence.models.asking import QueryViews
from whence.models.descriptor import DescriptorModel
from whence.types import SkippedPhoto
from whence.web.tabular import Tabular

WITHIN_M = 25.0
SHARES = (("head", 0.3), ("middle", 0.4), ("tail", 0.3))
"""Shares of the cells, those with most training photos first, that rates are counted for apart."""


@dataclass(frozen=True)
class CellRates:
    """Rates over Q queries of K cells."""

    num_cells: int
    num_queries: int
    """Queries with a place; those that cannot be read are among them, and fail."""
    rates: tuple[Recall, ...]
    """LR@N."""
    own_cell: Recall
    """The query's own cell comes first."""
    coverage: Recall
    """Queries whose own cell is one of the classifier's: others can be right by a neighbour
    alone."""
    chance: float
    """LR@1 of a cell drawn by lot."""
    by_size: Mapping[str, tuple[Recall, ...]]
    """LR@N of the queries whose own cell is among those with most photos, the middle ones, or those
    with fewest."""


@dataclass(frozen=True)
class CellEvaluation:
    """What came out of `evaluate_cells`."""

    name: str
    model: str
    photos: str
    """How queries were brought to the model."""
    rates: CellRates
    left_out: tuple[str, ...]
    """Queries whose place is not known."""
    skipped: tuple[SkippedPhoto, ...]
    seconds: Mapping[str, float]


def rate_cells(
    cells: CellClassifier,
    ranked: np.ndarray,
    east_m: np.ndarray,
    north_m: np.ndarray,
    *,
    rate_at: tuple[int, ...] = RECALL_AT,
    within_m: float = WITHIN_M,
) -> CellRates:
    """Rates of the best cells (Q, T), best first and -1 for none, of queries at these places (Q,)
    on the cells' plane."""
    queries = np.stack([east_m, north_m], axis=1)
    middles = cells.centres_m
    first = first_hit_by_distance(ranked, middles, queries, thresholds_m=(within_m,))[0]
    table = CellTable.of(RowPlaces(middles[:, 0], middles[:, 1], cells.zone), cell_m=cells.cell_m)
    at = table.find(np.floor(queries / cells.cell_m).astype(np.int64))
    own = np.where(at >= 0, table.rows.members[table.rows.offsets[np.maximum(at, 0)]], -1)
    near = neighbors_within(middles, queries, radius_m=within_m).counts
    is_own = (ranked[:, 0] == own) & (own >= 0)
    return CellRates(
        len(cells),
        len(queries),
        recalls(first, recall_at=rate_at),
        _share(is_own),
        _share(own >= 0),
        float(near.mean()) / len(cells) if len(queries) else float("nan"),
        _by_size(cells, own, first, rate_at),
    )


def _share(is_right: np.ndarray) -> Recall:
    return recalls(np.where(is_right, 0, 1), recall_at=(1,))[0]


def _by_size(
    cells: CellClassifier, own: np.ndarray, first: np.ndarray, rate_at: tuple[int, ...]
) -> dict[str, tuple[Recall, ...]]:
    if cells.num_photos is None:
        return {}
    rank = np.empty(len(cells), np.int64)
    rank[np.argsort(-cells.num_photos, kind="stable")] = np.arange(len(cells))
    ends = np.rint(np.cumsum([share for _, share in SHARES]) * len(cells)).astype(np.int64)
    part = np.searchsorted(ends, rank[np.maximum(own, 0)], side="right")
    return {
        name: recalls(first, is_counted=(own >= 0) & (part == i), recall_at=rate_at)
        for i, (name, _) in enumerate(SHARES)
    }


def evaluate_cells(
    cells: CellClassifier,
    model: DescriptorModel,
    data: EvaluationSet,
    *,
    rate_at: tuple[int, ...] = RECALL_AT,
    views: QueryViews | None = None,
    is_normalised: bool = False,
    show_progress: bool | None = None,
) -> CellEvaluation:
    """Figures of cells: the queries of a set described, the cells ranked, and counted. The set's
    database photos are not looked at.

    Queries whose place is not known are left out and named; those that cannot be read fail. Raises
    `InputError` where none has a place on the cells' plane.
    """
    east, north, _ = photos_on_plane(data.queries, cells.zone)
    is_placed = np.isfinite(east) & np.isfinite(north)
    if not is_placed.any():
        raise InputError(
            f"{data.name}: no query has a place on the plane of the cells "
            f"({cells.zone or 'without a zone'})"
        )
    queries = data.queries.select(is_placed)
    run = SetDescriber(model, None, show_progress)
    descriptors = run.ask(queries, views=views)
    started = time.perf_counter()
    ranked = rank_described(cells, descriptors, num=max(rate_at), is_normalised=is_normalised)
    run.seconds["rank"] = time.perf_counter() - started
    rates = rate_cells(cells, ranked, east[is_placed], north[is_placed], rate_at=rate_at)
    left_out = tuple(data.queries.paths[row] for row in np.flatnonzero(~is_placed))
    photos = describe_photos(model.preprocessing, model.preprocessing, views)
    return CellEvaluation(
        data.name, model.name, photos, rates, left_out, tuple(run.skipped), run.seconds
    )


def rank_described(
    cells: CellClassifier, descriptors: np.ndarray, *, num: int, is_normalised: bool = False
) -> np.ndarray:
    """The `num` best cells (Q, num) of descriptors (Q, C), -1 where a query has none, or there are
    fewer cells."""
    ranked = np.full((len(descriptors), num), -1, np.int64)
    known = np.flatnonzero(finite_rows(descriptors))
    if len(known):
        best = cells.rank(descriptors[known], num=num, is_normalised=is_normalised).cells
        ranked[known, : best.shape[1]] = best
    return ranked


def as_cell_records(result: CellEvaluation) -> dict[str, Any]:
    """Everything a program wants to know, as plain values."""
    rates = result.rates
    return {
        "set": result.name,
        "model": result.model,
        "photos": result.photos,
        "num_cells": rates.num_cells,
        "num_queries": rates.num_queries,
        "localization_rates": [_record(one) for one in rates.rates],
        "own_cell": _record(rates.own_cell),
        "coverage": _record(rates.coverage),
        "chance": rates.chance,
        "by_size": {name: [_record(one) for one in found] for name, found in rates.by_size.items()},
        "left_out": list(result.left_out),
        "skipped": [{"photo": entry.path, "reason": entry.reason} for entry in result.skipped],
        "seconds": {stage: round(spent, 3) for stage, spent in result.seconds.items()},
    }


def _record(rate: Recall) -> dict[str, float | int | None]:
    value = rate.value if rate.num_queries else None
    return {
        "n": rate.n,
        "rate": value,
        "num_right": rate.num_right,
        "num": rate.num_queries,
        "low": rate.low,
        "high": rate.high,
    }


def as_cell_table(result: CellEvaluation) -> RenderableType:
    """The table that a person reads: the rule, LR@N of all queries and by the size of their cell,
    own cells, coverage, chance."""
    rates = result.rates
    rows = [(f"all {rates.num_queries:,}", *map(recall_text, rates.rates))]
    for (name, share), found in zip(SHARES, rates.by_size.values(), strict=False):
        if found[0].num_queries:
            group = f"{name} {100 * share:.0f} % of the cells by photos"
            rows.append((group, *map(recall_text, found)))
    header = ("queries", *(f"LR@{one.n}" for one in rates.rates))
    ms = 1000 * result.seconds.get("rank", 0.0) / max(rates.num_queries, 1)
    notes = (
        [f"left out, because their place is not known: {len(result.left_out):,} queries"]
        if result.left_out
        else []
    )
    notes += [f"{len(result.skipped):,} queries cannot be read, and fail"] if result.skipped else []
    return Group(
        as_text(
            f"{result.name}: {rates.num_queries:,} queries, {rates.num_cells:,} cells", style="bold"
        ),
        as_text(f"model {result.model}, {result.photos}; no database photo is looked at"),
        as_text(
            f"protocol: a cell is right where its middle lies within {WITHIN_M:g} m of the query; "
            "all queries count"
        ),
        *(as_text(note, style="yellow") for note in notes),
        Tabular(header, tuple(rows)).for_terminal(),
        as_text(
            f"own cell first {recall_text(rates.own_cell)}; own cell among the classifier's "
            f"{recall_text(rates.coverage)}; "
            f"chance {100 * rates.chance:.2g} %; ranking {ms:.2g} ms per query"
        ),
    )
