"""Nearest pairs, against sorting every query's distances one by one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whence.lists import NeighborLists

torch = pytest.importorskip("torch")
from whence.training.branches.distances import Pairs, without_repeats

DIM = 8


def slowly(
    lists: NeighborLists, stored: np.ndarray, asked: np.ndarray, numbers: dict[int, int], k: int
) -> np.ndarray:
    found = []
    for query, descriptor in enumerate(asked):
        rows = lists.of(query)
        squared = [float(((stored[numbers[int(row)]] - descriptor) ** 2).sum()) for row in rows]
        found.append(rows[np.argsort(squared, kind="stable")[:k]])
    return np.array(found)


@settings(max_examples=60, deadline=None)
@given(
    num_queries=st.integers(1, 40),
    num_photos=st.integers(4, 90),
    k=st.integers(1, 4),
    gap=st.sampled_from([1, 7, 1 << 24, 1 << 40]),
    chunk=st.integers(1, 90),
    seed=st.integers(0, 2**32 - 1),
)
def test_nearest_pairs_are_those_of_a_sort(
    num_queries: int, num_photos: int, k: int, gap: int, chunk: int, seed: int
) -> None:
    """Lists of all lengths from k on, rows far beyond 32 bits, photos measured in chunks of any
    size."""
    random = np.random.default_rng(seed)
    photos = gap * np.arange(num_photos)
    stored, asked = (
        random.standard_normal((num_photos, DIM), np.float32),
        random.standard_normal((num_queries, DIM), np.float32),
    )
    lists = [
        np.sort(random.choice(photos, random.integers(k, num_photos + 1), replace=False))
        for _ in range(num_queries)
    ]
    held = NeighborLists(np.cumsum([0, *map(len, lists)]), np.concatenate(lists))
    pairs = Pairs.of(held)
    assert pairs.photos.dtype == np.int64
    np.testing.assert_array_equal(pairs.photos, np.unique(held.members))
    assert [own.tolist() for own in map(pairs.lists().of, range(num_queries))] == [
        own.tolist() for own in lists
    ]
    for start in range(0, num_photos, chunk):
        part = torch.from_numpy(stored[start : start + chunk])
        norms = torch.linalg.vector_norm(part, dim=1).square_()
        pairs.measure(photos[start : start + chunk], part, norms, torch.from_numpy(asked))
    expected = slowly(held, stored, asked, {int(row): place for place, row in enumerate(photos)}, k)
    np.testing.assert_array_equal(pairs.nearest(k), expected)


@given(st.lists(st.integers(-5, 5)))
def test_without_repeats_is_a_set(values: list[int]) -> None:
    """Each value once, ascending."""
    assert without_repeats(np.sort(np.array(values, np.int64))).tolist() == sorted(set(values))
