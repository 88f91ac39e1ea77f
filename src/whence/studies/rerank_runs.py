"""How the runs of the study of re-ranking are measured. A method's comparisons are made once and
serve all conditions."""

from __future__ import annotations

import csv
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from whence.data.fields import safe_fields
from whence.data.photos import Photos
from whence.data.pictures import write_picture
from whence.errors import BadOption, UnreadableTable
from whence.evaluation.confidence import reliability
from whence.evaluation.metrics import bootstrap_interval
from whence.evaluation.uncertainty import (
    area_under_precision_recall,
    cross_weights,
    probabilities_by,
)
from whence.localize.prepared_photos import PreparedPhotos
from whence.localize.rerank import rerank
from whence.localize.rerank_options import RerankOptions, rerank_options
from whence.localize.retrieve import candidate_of
from whence.localize.unsure import SURE_FEATURES, sure_features, sure_probability
from whence.runtime import atomic_write, progress
from whence.studies.frame import Settings, Value
from whence.studies.methods import ADAPTIVE, ALL, PLAIN
from whence.studies.pictures import Change, draw_changes
from whence.studies.shortlists import Shortlists, read_set, rows_beside
from whence.types import Candidate

NUM_SHOWN = 10
"""Queries that were hurt, and as many that were helped, on a method's sheet."""


@dataclass(frozen=True)
class Comparisons:
    """What a method found on all queries (Q,)."""

    order: np.ndarray
    """(Q, K) database rows in the method's order."""
    features: np.ndarray
    """(Q, F) what is known once retrieval's first candidate is compared."""
    spent_ms: np.ndarray
    """(Q,) CPU milliseconds of all comparisons."""
    whole_ms: np.ndarray
    """(Q,) the same where no comparison is spared, taken beside it: times of different hours do not
    compare."""
    num_compared: np.ndarray
    """(Q,) pairs."""
    photo_bytes: float
    """What a database photo keeps, the median."""


def measure_order(run: Settings, options: Settings, work: Path) -> dict[str, Value]:
    """Recall, what changed against retrieval, time and size of one method under one condition."""
    lists = Shortlists(read_set(options), model=str(options["model"]), work=work)
    method, query_rows = (
        str(run["method"]),
        queries_under(str(run["condition"]), lists.data.queries),
    )
    plain = _right(lists, lists.found)
    if method == PLAIN:
        return _values(plain, plain, query_rows, lists)
    every = result = _compared(lists, method.removeprefix(ADAPTIVE), options, work)
    values, weights = {}, cross_weights(every.features, plain)
    if weights is not None:
        probabilities = probabilities_by(weights, every.features)
        values["calibration error"] = Value(
            reliability(probabilities[query_rows], plain[query_rows]).calibration_error
        )
    if method.startswith(ADAPTIVE):
        if weights is None:
            raise BadOption("too few queries are right, or wrong, to learn when retrieval is sure")
        result = _compared(lists, method, options, work, weights)
    is_right = _right(lists, result.order)
    _write_changes(
        work / f"changes {_as_file(method)}.csv", lists, every.features, result.order, is_right
    )
    values |= _values(is_right, plain, query_rows, lists)
    values["AUPRC"] = Value(
        area_under_precision_recall(every.features[query_rows, 0], plain[query_rows])
    )
    values["compared"] = Value(float(result.num_compared[query_rows].mean()))
    values["time"] = Value(float(np.mean(result.spent_ms[query_rows])))
    if result is not every:
        values["share of time"] = Value(
            float(result.spent_ms[query_rows].sum() / result.whole_ms[query_rows].sum())
        )
    values["size"] = Value(result.photo_bytes)
    return values


def queries_under(condition: str, queries: Photos) -> np.ndarray:
    """Rows of the queries under a condition of the world they lie in. Raises `BadOption` where
    there are none."""
    rows = np.arange(len(queries))
    if condition == ALL:
        return rows
    beside = rows_beside(Path(queries.file(0))) if len(rows) else {}
    names = [
        beside.get(str(queries.file(row).resolve()), {}).get("condition", "")
        for row in rows.tolist()
    ]
    chosen = np.flatnonzero(np.array(names) == condition)
    if not len(chosen):
        known = ", ".join(sorted(set(names) - {""})) or "none: no cameras.csv lies beside them"
        raise BadOption(f"no query is taken at {condition!r}; conditions of these queries: {known}")
    return chosen


def _right(lists: Shortlists, order: np.ndarray) -> np.ndarray:
    """(Q,) bool: the first candidate is a positive."""
    hits = lists.hits(order)
    return np.asarray(hits.get((1, "within 25 m"), hits.get((1, "as listed"))), bool)


def _values(
    is_right: np.ndarray, plain: np.ndarray, query_rows: np.ndarray, lists: Shortlists
) -> dict[str, Value]:
    groups = None if lists.groups is None else lists.groups[query_rows]
    shares = {"recall@1": is_right, "helped": is_right & ~plain, "hurt": plain & ~is_right}
    values = {}
    for name, column in shares.items():
        low, high = bootstrap_interval(column[query_rows].astype(float), groups=groups)
        values[name] = Value(float(column[query_rows].mean()), low, high)
    values["queries"] = Value(float(len(query_rows)))
    return values


def _compared(
    lists: Shortlists, method: str, options: Settings, work: Path, weights: np.ndarray | None = None
) -> Comparisons:
    """The method's comparisons, out of the work folder where they are there. With `weights` (Q, 1 +
    F) only until one is sure."""
    file = work / f"compared {_as_file(method)}.npz"
    names = tuple(Comparisons.__dataclass_fields__)
    if file.is_file():
        try:
            with np.load(file, allow_pickle=False) as arrays:
                order, features, spent, whole, num_compared, photo_bytes = (
                    arrays[name] for name in names
                )
                return Comparisons(order, features, spent, whole, num_compared, float(photo_bytes))
        except (OSError, ValueError, KeyError) as error:
            raise UnreadableTable(file, f"{error}; remove it, and it is made again") from None
    sure = None if weights is None else float(options["sure"])
    asked = rerank_options(
        method.removeprefix(ADAPTIVE), num_candidates=int(options["candidates"]), when_unsure=sure
    )
    found = _compare_all(lists, asked, weights)
    with atomic_write(file) as written:
        np.savez(written, **{name: getattr(found, name) for name in names})
    return found


def _compare_all(
    lists: Shortlists, options: RerankOptions, weights: np.ndarray | None
) -> Comparisons:
    """Compare every query with its first candidates; where all are compared also the first alone,
    for the features."""
    of_database, of_queries = (
        PreparedPhotos.for_options(options, photos)
        for photos in (lists.data.database, lists.data.queries)
    )
    similarities = lists.similarities
    order, rows = lists.found.copy(), []
    sizes: list[int] = []
    with progress(
        f"comparing by {options.scorer}", total=len(order), show=lists.show_progress
    ) as advance:
        for query, ids in enumerate(lists.found.tolist()):
            advance(1)
            candidates = [
                candidate_of(
                    lists.data.database,
                    row,
                    rank=rank,
                    similarity=float(similarities[query, rank - 1]),
                )
                for rank, row in enumerate(ids, start=1)
                if row >= 0
            ]
            for row in ids[: options.num_candidates]:
                arrays = of_database.of_row(row) if row >= 0 else None
                if arrays is not None and len(sizes) < 100:
                    sizes.append(sum(array.nbytes for array in arrays.values()))
            asked, features = (
                of_queries.of_row(query) if candidates else None,
                np.zeros(len(SURE_FEATURES)),
            )
            if asked is None:
                rows.append((features, 0.0, 0.0, 0))
                continue
            started = time.process_time()
            done = rerank(
                candidates,
                query=asked,
                material=of_database,
                options=replace(options, when_unsure=None),
            )
            spent_ms = whole_ms = 1e3 * (time.process_time() - started)
            if weights is None:
                alone = next(
                    iter(of_database.scorer.score(asked, [of_database.of_row(candidates[0].row)]))
                )
                features = sure_features(candidates[: options.num_candidates], alone)
            else:
                started = time.process_time()
                done = rerank(
                    candidates,
                    query=asked,
                    material=of_database,
                    options=options,
                    sure=partial(_sure_so_far, weights=weights[query].tolist()),
                )
                spent_ms = 1e3 * (time.process_time() - started)
            order[query, : len(candidates)] = [one.row for one in done.candidates]
            rows.append((features, spent_ms, whole_ms, done.num_compared))
    features, spent, whole, num_compared = (
        np.array([row[column] for row in rows]) for column in range(4)
    )
    return Comparisons(
        order, features, spent, whole, num_compared, float(np.median(sizes)) if sizes else 0.0
    )


def _sure_so_far(candidates: Sequence[Candidate], weights: Sequence[float]) -> float:
    """The largest probability that the weights give any compared candidate, were it retrieval's
    first."""
    found = [one.evidence for one in candidates if one.evidence is not None]
    return max(
        (sure_probability(sure_features(candidates, one), weights) for one in found), default=0.0
    )


def _write_changes(
    path: Path, lists: Shortlists, features: np.ndarray, order: np.ndarray, is_right: np.ndarray
) -> None:
    """The queries that re-ranking changed for the worse or the better, with both first candidates:
    a table, and a sheet of some."""
    changed = np.flatnonzero(_right(lists, lists.found) != is_right).tolist()
    database, queries = lists.data.database, lists.data.queries
    with atomic_write(path, "w") as file:
        table = csv.writer(file)
        table.writerow(("query", "change", "retrieved", "after", "log_inliers_of_retrieved"))
        for query in changed:
            paths = [database.paths[rows[query, 0]] for rows in (lists.found, order)]
            change = "helped" if is_right[query] else "hurt"
            table.writerow(
                safe_fields((queries.paths[query], change, *paths, f"{features[query, 0]:.2f}"))
            )
    shown = [
        query
        for wanted in (False, True)
        for query in [one for one in changed if is_right[one] == wanted][:NUM_SHOWN]
    ]
    lines = [
        Change(
            queries.file(query),
            database.file(int(lists.found[query, 0])),
            database.file(int(order[query, 0])),
            bool(is_right[query]),
            round(float(np.expm1(features[query, 0]))),
        )
        for query in shown
    ]
    write_picture(path.with_suffix(".png"), draw_changes(lines))


def _as_file(method: str) -> str:
    return re.sub(r"[^\w.-]+", "-", method)
