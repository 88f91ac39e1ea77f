"""How the cells of the study of re-ranking are measured. A method's comparisons are made once and serve all conditions."""

from __future__ import annotations

import csv
import re
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from whence.data.photos import Photos
from whence.data.pictures import write_picture
from whence.errors import BadOption, UnreadableTable
from whence.evaluation.confidence import reliability
from whence.evaluation.metrics import bootstrap_interval
from whence.evaluation.uncertainty import area_under_precision_recall, cross_fit
from whence.localize.rerank import PreparedPhotos, RerankOptions, rerank, rerank_options
from whence.localize.retrieve import candidate_of
from whence.localize.unsure import SURE_FEATURES, sure_features
from whence.runtime import atomic_write, progress
from whence.studies.frame import Settings, Value
from whence.studies.pictures import Change, draw_changes
from whence.studies.rerank import ADAPTIVE, ALL, PLAIN
from whence.studies.shortlists import Shortlists, read_set, rows_beside

NUM_SHOWN = 10
"""Queries that were hurt, and as many that were helped, on a method's sheet."""


@dataclass(frozen=True)
class Comparisons:
    """What a method found on all queries (Q,)."""

    order: np.ndarray
    """(Q, K) database rows in the method's order."""
    features: np.ndarray
    """(Q, F) what is known once retrieval's first candidate is compared."""
    first_ms: np.ndarray
    """(Q,) CPU milliseconds of that comparison alone."""
    whole_ms: np.ndarray
    """(Q,) CPU milliseconds of all comparisons."""
    num_compared: np.ndarray
    """(Q,) pairs."""
    photo_bytes: float
    """What a database photo keeps, the median."""


def measure_order(cell: Settings, options: Settings, work: Path) -> dict[str, Value]:
    """Recall, what changed against retrieval, time and size of one method under one condition."""
    lists = Shortlists(read_set(options), model=str(options["model"]), work=work)
    method, asked = str(cell["method"]), queries_under(str(cell["condition"]), lists.data.queries)
    plain = _right(lists, lists.found)
    if method == PLAIN:
        return _values(plain, plain, asked, lists)
    found = _compared(lists, method.removeprefix(ADAPTIVE), options, work)
    is_right = _right(lists, found.order)
    spent, num_compared, kept = found.whole_ms, found.num_compared, np.zeros(len(plain), bool)
    values = {}
    probabilities = cross_fit(found.features, plain)
    if probabilities is not None:
        error = reliability(probabilities[asked], plain[asked]).calibration_error
        values["calibration error"] = Value(error)
    if method.startswith(ADAPTIVE):
        if probabilities is None:
            raise BadOption("too few queries are right, or wrong, to learn when retrieval is sure")
        kept = probabilities >= float(options["sure"])
        is_right = np.where(kept, plain, is_right)
        spent = np.where(kept, found.first_ms, found.first_ms + found.whole_ms)
        num_compared = np.where(kept, 1, 1 + found.num_compared)
    else:
        _write_changes(work / f"changes {_as_file(method)}.csv", lists, found, plain, is_right)
    values |= _values(is_right, plain, asked, lists)
    values["AUPRC"] = Value(area_under_precision_recall(found.features[asked, 0], plain[asked]))
    values["compared"] = Value(float(num_compared[asked].mean()))
    values["time"] = Value(float(np.mean(spent[asked])))
    values["size"] = Value(found.photo_bytes)
    return values


def queries_under(condition: str, queries: Photos) -> np.ndarray:
    """Rows of the queries under a condition of the world they lie in. Raises `BadOption` where there are none."""
    rows = np.arange(len(queries))
    if condition == ALL:
        return rows
    beside = rows_beside(Path(queries.file(0))) if len(rows) else {}
    names = [beside.get(str(queries.file(row).resolve()), {}).get("condition", "") for row in rows.tolist()]
    chosen = np.flatnonzero(np.array(names) == condition)
    if not len(chosen):
        known = ", ".join(sorted(set(names) - {""})) or "none: no cameras.csv lies beside them"
        raise BadOption(f"no query is taken at {condition!r}; conditions of these queries: {known}")
    return chosen


def _right(lists: Shortlists, order: np.ndarray) -> np.ndarray:
    """(Q,) bool: the first candidate is a positive."""
    hits = lists.hits(order)
    return np.asarray(hits.get((1, "within 25 m"), hits.get((1, "as listed"))), bool)


def _values(is_right: np.ndarray, plain: np.ndarray, asked: np.ndarray, lists: Shortlists) -> dict[str, Value]:
    groups = None if lists.groups is None else lists.groups[asked]
    shares = {"recall@1": is_right, "helped": is_right & ~plain, "hurt": plain & ~is_right}
    values = {}
    for name, column in shares.items():
        low, high = bootstrap_interval(column[asked].astype(float), groups=groups)
        values[name] = Value(float(column[asked].mean()), low, high)
    values["queries"] = Value(float(len(asked)))
    return values


def _compared(lists: Shortlists, method: str, options: Settings, work: Path) -> Comparisons:
    """The method's comparisons, out of the work folder where they are there."""
    file = work / f"compared {_as_file(method)}.npz"
    names = ("order", "features", "first_ms", "whole_ms", "num_compared", "photo_bytes")
    if file.is_file():
        try:
            with np.load(file, allow_pickle=False) as arrays:
                order, features, first_ms, whole_ms, num_compared = (arrays[name] for name in names[:-1])
                return Comparisons(order, features, first_ms, whole_ms, num_compared, float(arrays["photo_bytes"]))
        except (OSError, ValueError, KeyError) as error:
            raise UnreadableTable(file, f"{error}; remove it, and it is made again") from None
    found = _compare_all(lists, rerank_options(method, num_candidates=int(options["candidates"])))
    with atomic_write(file) as written:
        np.savez(written, **{name: getattr(found, name) for name in names})
    return found


def _compare_all(lists: Shortlists, options: RerankOptions) -> Comparisons:
    """Compare every query with its first candidates: the first alone, then all."""
    known, asking = (PreparedPhotos.for_options(options, photos) for photos in (lists.data.database, lists.data.queries))
    similarities = lists.similarities
    order, rows = lists.found.copy(), []
    sizes: list[int] = []
    with progress(f"comparing by {options.scorer}", total=len(order), show=lists.show_progress) as advance:
        for query, ids in enumerate(lists.found.tolist()):
            advance(1)
            candidates = [
                candidate_of(lists.data.database, row, rank=rank, similarity=float(similarities[query, rank - 1]))
                for rank, row in enumerate(ids, start=1)
                if row >= 0
            ]
            for row in ids[: options.num_candidates]:
                arrays = known.of_row(row) if row >= 0 else None
                if arrays is not None and len(sizes) < 100:
                    sizes.append(sum(array.nbytes for array in arrays.values()))
            asked = asking.of_row(query) if candidates else None
            if asked is None:
                rows.append((np.zeros(len(SURE_FEATURES)), 0.0, 0.0, 0))
                continue
            times = [time.process_time()]
            alone = next(iter(known.scorer.score(asked, [known.of_row(candidates[0].row)])))
            times.append(time.process_time())
            done = rerank(candidates, query=asked, prepared=known, options=options)
            times.append(time.process_time())
            order[query, : len(candidates)] = [one.row for one in done.candidates]
            features = sure_features(candidates[: options.num_candidates], alone)
            rows.append((features, *(1e3 * np.diff(times)), done.num_compared))
    features, first_ms, whole_ms, num_compared = (np.array([row[column] for row in rows]) for column in range(4))
    return Comparisons(order, features, first_ms, whole_ms, num_compared, float(np.median(sizes)) if sizes else 0.0)


def _write_changes(path: Path, lists: Shortlists, found: Comparisons, plain: np.ndarray, is_right: np.ndarray) -> None:
    """The queries that re-ranking changed for the worse or the better, with both first candidates: a table, and a sheet of some."""
    changed = np.flatnonzero(plain != is_right).tolist()
    database, queries = lists.data.database, lists.data.queries
    with atomic_write(path, "w") as file:
        table = csv.writer(file)
        table.writerow(("query", "change", "retrieved", "after", "log_inliers_of_retrieved"))
        for query in changed:
            paths = [database.paths[rows[query, 0]] for rows in (lists.found, found.order)]
            change = "helped" if is_right[query] else "hurt"
            table.writerow((queries.paths[query], change, *paths, f"{found.features[query, 0]:.2f}"))
    shown = [query for wanted in (False, True) for query in [one for one in changed if is_right[one] == wanted][:NUM_SHOWN]]
    lines = [
        Change(
            queries.file(query),
            database.file(int(lists.found[query, 0])),
            database.file(int(found.order[query, 0])),
            bool(is_right[query]),
            round(float(np.expm1(found.features[query, 0]))),
        )
        for query in shown
    ]
    write_picture(path.with_suffix(".png"), draw_changes(lines))


def _as_file(method: str) -> str:
    return re.sub(r"[^\w.-]+", "-", method)
