"""What tuples are mined from: queries with the database photos of their place, and those that must
not be negatives."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from whence.data.formats import EvaluationSet
from whence.data.names import parse_name
from whence.errors import BadOption, NoPhotos
from whence.evaluation.protocol import Ground, metric_ground
from whence.geo import neighbors_within
from whence.lists import NeighborLists, lists_of, select_runs
from whence.training.options.tuples import MiningOptions


@dataclass(frozen=True)
class TupleSet:
    """Q queries that have positives, over the N photos of a database."""

    data: EvaluationSet
    queries: np.ndarray
    """(Q,) int64 rows of `data.queries`."""
    positives: NeighborLists
    """Database rows of each query's positives, one or more."""
    excluded: NeighborLists
    """Database rows that are no negatives of each query; its positives are among them."""
    weights: np.ndarray
    """(Q,) how often each query is drawn, as `msls_weights`; sum 1."""

    @property
    def num_database(self) -> int:
        return len(self.data.database)


def make_tuple_set(data: EvaluationSet, *, options: MiningOptions) -> TupleSet:
    """The queries of a set that have positives, near on the ground or as the set lists them; the
    others are left out.

    Raises `NoPhotos` where none has, and `BadOption` where a query leaves too few database photos
    for its negatives.
    """
    if data.positives is not None:
        if options.scope_m:
            raise BadOption(
                f"{data.name} lists its positives and has no places: leave mining.scope_m out"
            )
        positives = excluded = data.positives
    else:
        ground = metric_ground(data.database, data.queries)
        positives, excluded = (
            neighbors_within(ground.database, ground.queries, radius_m=radius_m)
            for radius_m in (options.positive_m, max(options.positive_m, options.excluded_m))
        )
        if options.scope_m:
            excluded = _with_those_beyond(ground, excluded, options)
    notes = data.notes or tuple(
        fields.note if (fields := parse_name(path)) else "" for path in data.queries.paths
    )
    found = chosen_queries(
        data.name, positives, excluded, num_database=len(data.database), options=options
    )
    is_night, is_sideways = (
        np.array([word in notes[q].lower().split("_") for q in found[0]])
        for word in ("night", "sideways")
    )
    return TupleSet(data, *found, msls_weights(is_night=is_night, is_sideways=is_sideways))


def _with_those_beyond(
    ground: Ground, excluded: NeighborLists, options: MiningOptions
) -> NeighborLists:
    """The excluded rows of each query and all that lie beyond the scope, but for as many of the
    nearest as it has negatives."""
    lists = []
    for query, place in enumerate(ground.queries):
        apart_m = np.linalg.norm(ground.database - place, axis=1)
        apart_m[excluded.of(query)] = -1
        others = np.sort(apart_m[apart_m >= 0])[: options.num_negatives]
        reach_m = max(options.scope_m, float(others[-1])) if len(others) else options.scope_m
        lists.append(np.flatnonzero((apart_m < 0) | (apart_m > reach_m)))
    return lists_of(lists)


def chosen_queries(
    name: str,
    positives: NeighborLists,
    excluded: NeighborLists,
    *,
    num_database: int,
    options: MiningOptions,
) -> tuple[np.ndarray, NeighborLists, NeighborLists]:
    """The queries that have positives, and the two lists of each of them. Raises `NoPhotos` and
    `BadOption` as `make_tuple_set`."""
    queries = np.flatnonzero(positives.counts > 0)
    if not len(queries):
        raise NoPhotos(
            f"{name}: no query has a database photo within {options.positive_m:g} m; raise "
            "mining.positive_m"
        )
    largest = int(excluded.counts[queries].max())
    if options.num_negatives < 1 or num_database - largest < options.num_negatives:
        raise BadOption(
            f"{name}: a query has {largest} of {num_database} database photos within "
            f"{options.excluded_m:g} m, which leaves no {options.num_negatives} negatives; lower "
            "mining.num_negatives or mining.excluded_m"
        )
    return queries, select_runs(positives, queries), select_runs(excluded, queries)


def refuse_scope(options: MiningOptions) -> None:
    """Raises `BadOption` for a scope where negatives are not mined by place alone."""
    if options.scope_m:
        raise BadOption(
            "mining.scope_m goes with branches of tuples; windows and labelled photos take "
            "negatives from anywhere"
        )


def msls_weights(*, is_night: np.ndarray, is_sideways: np.ndarray) -> np.ndarray:
    """How often queries (Q,) are drawn so that what is rare counts more: 1, and Q over the number
    of its kind; sum 1."""
    weights = np.ones(len(is_night))
    for is_rare in (is_night, is_sideways):
        weights[is_rare] += len(is_rare) / max(1, is_rare.sum())
    return weights / weights.sum()
