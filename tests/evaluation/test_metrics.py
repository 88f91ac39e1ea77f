"""Recall and intervals against the slow formulas."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from whence.evaluation.metrics import (
    bootstrap_interval,
    first_hit_by_distance,
    first_hit_in_lists,
    recalls,
    wilson_interval,
)
from whence.geo import neighbors_within
from whence.lists import NeighborLists


def slow_first_hit(predictions: np.ndarray, positives: list[set[int]]) -> list[int]:
    ranks = []
    for row, right in zip(predictions.tolist(), positives, strict=True):
        ranks.append(next((i for i, one in enumerate(row) if one in right), len(row)))
    return ranks


@given(
    st.integers(1, 12), st.integers(0, 9), st.integers(1, 8), st.integers(0, 50), st.integers(1, 3)
)
@settings(max_examples=80)
def test_first_hits_equal_the_slow_way(
    num_database: int, num_queries: int, k: int, seed: int, dim: int
) -> None:
    random = np.random.default_rng(seed)
    database, queries = (
        random.uniform(0, 100, (num_database, dim)),
        random.uniform(0, 100, (num_queries, dim)),
    )
    predictions = random.integers(-1, num_database, (num_queries, k))
    thresholds = (5.0, 30.0, 200.0)
    hits = first_hit_by_distance(predictions, database, queries, thresholds_m=thresholds, block=3)
    for row, threshold in zip(hits, thresholds, strict=True):
        right = [
            {i for i in range(num_database) if math.dist(database[i], queries[q]) <= threshold}
            for q in range(num_queries)
        ]
        assert row.tolist() == slow_first_hit(predictions, right)
        lists = neighbors_within(database, queries, radius_m=threshold)
        assert first_hit_in_lists(predictions, lists).tolist() == row.tolist()


def test_missing_coordinates_are_never_right() -> None:
    hits = first_hit_by_distance(
        np.array([[0, 1]]),
        np.array([[np.nan, 0.0], [0.0, 0.0]]),
        np.array([[0.0, 0.0]]),
        thresholds_m=[25],
    )
    assert hits.tolist() == [[1]]
    hits = first_hit_by_distance(
        np.array([[0]]), np.array([[0.0, 0.0]]), np.array([[np.nan, 0.0]]), thresholds_m=[25]
    )
    assert hits.tolist() == [[1]]


@given(st.lists(st.integers(0, 25), max_size=40))
def test_recall_is_monotone_and_counts(ranks: list[int]) -> None:
    first = np.array(ranks, np.int64)
    found = recalls(first, recall_at=(1, 5, 10, 20))
    assert [one.num_right for one in found] == [
        sum(rank < n for rank in ranks) for n in (1, 5, 10, 20)
    ]
    values = [one.num_right for one in found]
    assert values == sorted(values)
    assert all(one.num_queries == len(ranks) for one in found)
    assert all(math.isnan(one.value) for one in found) == (not ranks)


@given(st.permutations(list(range(8))))
def test_the_order_of_queries_does_not_matter(order: list[int]) -> None:
    first = np.array([0, 3, 20, 7, 1, 20, 0, 12])
    assert recalls(first[order]) == recalls(first)


def test_counted_queries_only() -> None:
    first = np.array([0, 20, 20, 3])
    found = recalls(first, is_counted=np.array([True, False, True, True]), recall_at=(1, 5))
    assert [(one.num_right, one.num_queries) for one in found] == [(1, 3), (2, 3)]


def test_no_positives_at_all() -> None:
    nothing = NeighborLists(np.zeros(3, np.int64), np.empty(0, np.int64))
    assert first_hit_in_lists(np.array([[0, 1], [1, 0]]), nothing).tolist() == [2, 2]
    assert (
        first_hit_in_lists(
            np.empty((0, 5), np.int64), NeighborLists(np.zeros(1, np.int64), np.empty(0, np.int64))
        ).tolist()
        == []
    )


@given(st.integers(0, 60), st.integers(0, 60))
def test_wilson_equals_scipy(a: int, b: int) -> None:
    num, right = max(a, b), min(a, b)
    if num == 0:
        assert wilson_interval(0, 0) == (0.0, 1.0)
        return
    expected = binomtest(right, num).proportion_ci(confidence_level=0.95, method="wilson")
    assert wilson_interval(right, num) == pytest.approx((expected.low, expected.high), abs=1e-6)


def test_bootstrap_by_groups_is_wider_when_groups_agree() -> None:
    values = np.repeat(np.random.default_rng(0).integers(0, 2, 30), 10).astype(float)
    streets = np.repeat(np.arange(30), 10)
    alone, grouped = bootstrap_interval(values), bootstrap_interval(values, groups=streets)
    assert alone[0] <= values.mean() <= alone[1]
    assert grouped[1] - grouped[0] > 2 * (alone[1] - alone[0])
    assert bootstrap_interval(values) == alone
    assert bootstrap_interval(np.empty(0)) == (0.0, 1.0)
