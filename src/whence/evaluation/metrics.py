"""Recall@N and its intervals.

recall@N is the share of queries with a positive among their first N candidates. Queries that have
no positive in the database can only fail; both conventions of the field are reported: counting them
as failures, and leaving them out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from whence.lists import NeighborLists
from whence.runtime import random_stream

RECALL_AT = (1, 5, 10, 20)


@dataclass(frozen=True, slots=True)
class Recall:
    """recall@N as counts, with a 95 % interval."""

    n: int
    num_right: int
    num_queries: int
    low: float
    high: float

    @property
    def value(self) -> float:
        """The share in [0, 1]; NaN without queries."""
        return self.num_right / self.num_queries if self.num_queries else math.nan


def first_hit_by_distance(
    predictions: np.ndarray,
    database: np.ndarray,
    queries: np.ndarray,
    *,
    thresholds_m: Sequence[float],
    block: int = 65_536,
) -> np.ndarray:
    """Rank (from 0) of the first prediction within each threshold of its query: (T, Q) int64, K
    where there is none.

    `predictions` (Q, K) row numbers, -1 for none; `database` (N, d) and `queries` (Q, d) metric
    coordinates. Only the K predictions are tested, so the cost does not depend on N: positives are
    never listed.
    """
    num_queries, k = predictions.shape
    limits = np.asarray(thresholds_m, float) ** 2 * (1 + 1e-12)
    first = np.full((len(limits), num_queries), k, np.int64)
    columns = [np.ascontiguousarray(column) for column in np.asarray(database, float).T]
    asked = [np.ascontiguousarray(column) for column in np.asarray(queries, float).T]
    for start in range(0, num_queries, block):
        rows = predictions[start : start + block]
        squared = np.zeros(rows.shape)
        for column, query in zip(columns, asked, strict=True):
            gap = column[rows]
            gap -= query[start : start + block, None]
            gap *= gap
            squared += gap
        squared[rows < 0] = np.inf
        for t, limit in enumerate(limits):
            hits = squared <= limit
            found = hits.any(axis=1)
            first[t, start : start + len(rows)] = np.where(found, hits.argmax(axis=1), k)
    return first


def first_hit_in_lists(predictions: np.ndarray, positives: NeighborLists) -> np.ndarray:
    """Rank (from 0) of the first prediction that is listed as a positive: (Q,) int64, K where there
    is none."""
    num_queries, k = predictions.shape
    width = int(max(predictions.max(initial=-1), positives.members.max(initial=-1))) + 2
    owner = np.repeat(np.arange(num_queries), positives.counts)
    listed = np.sort(owner * width + positives.members)
    asked = np.arange(num_queries)[:, None] * width + predictions
    places = np.minimum(np.searchsorted(listed, asked), max(len(listed) - 1, 0))
    hits = (
        (listed[places] == asked) & (predictions >= 0)
        if len(listed)
        else np.zeros(predictions.shape, bool)
    )
    return np.where(hits.any(axis=1), hits.argmax(axis=1), k)


def recalls(
    first_hit: np.ndarray,
    *,
    is_counted: np.ndarray | None = None,
    recall_at: Sequence[int] = RECALL_AT,
) -> tuple[Recall, ...]:
    """recall@N of ranks (Q,) from 0, over the queries in the mask `is_counted` (all by default),
    with Wilson intervals."""
    ranks = first_hit if is_counted is None else first_hit[is_counted]
    results = []
    for n in recall_at:
        num_right = int((ranks < n).sum())
        low, high = wilson_interval(num_right, len(ranks))
        results.append(Recall(n, num_right, len(ranks), low, high))
    return tuple(results)


def wilson_interval(num_right: int, num: int, *, z: float = 1.959964) -> tuple[float, float]:
    """95 % interval of a share (Wilson, JASA 1927); (0, 1) without observations."""
    if num == 0:
        return 0.0, 1.0
    share = num_right / num
    centre = (share + z * z / (2 * num)) / (1 + z * z / num)
    half = z / (1 + z * z / num) * math.sqrt(share * (1 - share) / num + z * z / (4 * num * num))
    return max(0.0, centre - half), min(1.0, centre + half)


def drawn_labels(groups: np.ndarray | None, *, num: int) -> np.ndarray:
    """(Q,) what a bootstrap of `num` queries draws: numbers of groups (Q,), or of the queries where
    there are not two groups."""
    labels = np.arange(num) if groups is None else np.unique(groups, return_inverse=True)[1]
    return labels if groups is None or labels.max(initial=0) > 0 else np.arange(num)


def bootstrap_interval(
    values: np.ndarray,
    *,
    groups: np.ndarray | None = None,
    num_draws: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile interval of the mean of `values` (Q,), drawing queries, or whole groups (Q,) of
    them, with replacement.

    Queries of one street or one drive are not independent: with groups, the interval says so. One
    group alone says nothing about others, so then queries are drawn.
    """
    values = np.asarray(values, float)
    if not len(values):
        return 0.0, 1.0
    labels = drawn_labels(groups, num=len(values))
    num_groups = int(labels.max()) + 1
    sums = np.bincount(labels, weights=values, minlength=num_groups)
    sizes = np.bincount(labels, minlength=num_groups)
    drawn = random_stream(seed).integers(0, num_groups, (num_draws, num_groups))
    means = sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)
    tail = 50 * (1 - level)
    return float(np.percentile(means, tail)), float(np.percentile(means, 100 - tail))
