"""Several models, or saved predictions, on the same queries: by how much they differ, and whether
the queries can tell.

Differences come with the paired bootstrap (Efron and Tibshirani, 1993, chapter 8): both sides are
looked at on the same queries, drawn again and again with replacement, so that queries that are hard
for both do not blur what tells them apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from whence.errors import BadOption
from whence.evaluation.answers import deciding_threshold_m
from whence.evaluation.benchmarks import Evaluation
from whence.evaluation.cost import EvaluationCost
from whence.evaluation.metrics import (
    Recall,
    drawn_labels,
    first_hit_by_distance,
    first_hit_in_lists,
)
from whence.evaluation.protocol import metric_ground
from whence.runtime import random_stream

NUM_DRAWS = 10_000


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """How much more the first has than the second, in shares of the queries."""

    value: float
    low: float
    high: float
    """95 % of the draws lie between."""
    p: float
    """Twice the share of draws on the other side of zero, those at zero counted by half; at most
    1."""


@dataclass(frozen=True, slots=True)
class Compared:
    """One model in a comparison."""

    name: str
    recalls: tuple[Recall, ...]
    first_hit: np.ndarray
    """(Q,) rank from 0 of each query's first positive; the number of candidates where there is
    none."""
    cost: EvaluationCost | None = None


@dataclass(frozen=True, slots=True)
class Difference:
    """Recall@N of one model less that of another."""

    first: str
    second: str
    n: int
    difference: PairedDifference


@dataclass(frozen=True, slots=True)
class Comparison:
    """Models beside each other on one set; the first is what the tables compare with."""

    set_name: str
    protocol: str
    threshold_m: float | None
    num_database: int
    num_queries: int
    models: tuple[Compared, ...]
    differences: tuple[Difference, ...]
    """Of every two models, the later one less the earlier, for every N."""


def paired_bootstrap(
    first: np.ndarray,
    second: np.ndarray,
    *,
    groups: np.ndarray | None = None,
    num_draws: int = NUM_DRAWS,
    level: float = 0.95,
    seed: int = 0,
) -> PairedDifference:
    """Mean of `first` less mean of `second`, both (Q,), with the paired bootstrap's interval; of
    whole groups (Q,) where given.

    Draws with replacement are counts of a multinomial; queries, or groups, that are equal in all
    that counts are one kind of it, so that memory does not grow with the queries. Raises
    `BadOption` where the two are not of the same queries.
    """
    first, second = np.asarray(first, float), np.asarray(second, float)
    if first.shape != second.shape or first.ndim != 1 or not len(first):
        raise BadOption(
            f"a paired comparison needs the same queries on both sides, not {first.shape} and "
            f"{second.shape}"
        )
    gaps = first - second
    labels = drawn_labels(groups, num=len(gaps))
    sizes = np.bincount(labels)
    kinds, counts = np.unique(
        np.stack([np.bincount(labels, weights=gaps), sizes], axis=1), axis=0, return_counts=True
    )
    drawn = random_stream(seed).multinomial(len(sizes), counts / counts.sum(), num_draws)
    means = (drawn @ kinds[:, 0]) / (drawn @ kinds[:, 1])
    # A sum of fractions may miss zero by rounding.
    means[np.abs(means) < 1e-12] = 0.0
    tail = 50 * (1 - level)
    sides = [
        float(((means > 0) if is_above else (means < 0)).mean() + 0.5 * (means == 0).mean())
        for is_above in (True, False)
    ]
    low, high = (float(np.percentile(means, at)) for at in (tail, 100 - tail))
    return PairedDifference(float(gaps.mean()), low, high, min(1.0, 2 * min(sides)))


def compare(results: Sequence[Evaluation], *, names: Sequence[str] | None = None) -> Comparison:
    """Evaluations of one set beside each other, at the threshold that decides. Raises `BadOption`
    where the sets differ."""
    if len(results) < 2:
        raise BadOption(f"a comparison needs two models or more, not {len(results)}")
    first = results[0]
    for other in results[1:]:
        is_same = (
            other.data.queries.paths == first.data.queries.paths
            and other.data.database.paths == first.data.database.paths
        )
        if not is_same or other.protocol != first.protocol:
            raise BadOption(
                f"{other.model} was evaluated on other photos or by another protocol than "
                f"{first.model}"
            )
    threshold_m = deciding_threshold_m(first)
    names = list(names or (result.model for result in results))
    models = []
    for name, result in zip(_distinct(names), results, strict=True):
        scored = next(one for one in result.thresholds if one.threshold_m == threshold_m)
        models.append(
            Compared(name, scored.all_queries, first_hits(result, threshold_m), result.cost)
        )
    differences = [
        Difference(
            later.name,
            earlier.name,
            recall.n,
            paired_bootstrap(later.first_hit < recall.n, earlier.first_hit < recall.n),
        )
        for earlier, later in combinations(models, 2)
        for recall in earlier.recalls
    ]
    return Comparison(
        set_name=first.data.name,
        protocol=first.protocol,
        threshold_m=threshold_m,
        num_database=len(first.data.database),
        num_queries=len(first.data.queries),
        models=tuple(models),
        differences=tuple(differences),
    )


def first_hits(result: Evaluation, threshold_m: float | None) -> np.ndarray:
    """(Q,) rank from 0 of each query's first positive, K where there is none among the K
    candidates."""
    if result.data.positives is not None:
        return first_hit_in_lists(result.predictions, result.data.positives)
    assert threshold_m is not None, "without listed positives there is a distance"
    ground = metric_ground(result.data.database, result.data.queries)
    return first_hit_by_distance(
        result.predictions, ground.database, ground.queries, thresholds_m=[threshold_m]
    )[0]


def _distinct(names: Sequence[str]) -> list[str]:
    """The names, those that occur again with a number."""
    seen: dict[str, int] = {}
    found = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        found.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return found
