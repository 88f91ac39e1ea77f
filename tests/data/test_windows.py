"""Windows of frames: the published golden check, gaps, lengths, and positives by any frame against
the slow way."""

from __future__ import annotations

import numpy as np
import pytest

from whence.data.windows import cut_windows, positives_of_windows, require_windows
from whence.errors import BadOption, NoPhotos
from whence.geo import neighbors_within
from whence.lists import NeighborLists, union_runs

DRIVES = np.array(["A"] * 8 + ["B"] * 5)
NUMBERS = np.array([*range(8), 0, 1, 3, 4, 5])
EAST = np.array([*range(0, 80, 10), 500, 510, 530, 540, 550], float)


def golden() -> tuple[np.ndarray, np.ndarray, NeighborLists]:
    """Database and query windows of three frames, and the database frames within 5 m of each query
    frame."""
    asked = np.array(["Q"] * 6 + ["R"] * 4)
    numbers = np.array([*range(6), *range(4)])
    east = np.array([*range(12, 72, 10), *range(9000, 9040, 10)], float)
    database, queries = (
        cut_windows(DRIVES, NUMBERS, length=3),
        cut_windows(asked, numbers, length=3),
    )
    points = [np.stack([side, np.zeros(len(side))], axis=1) for side in (EAST, east)]
    return database, queries, neighbors_within(points[0], points[1], radius_m=5)


def test_windows_and_positives_are_the_published_ones() -> None:
    database, queries, near = golden()
    assert database[:, 0].tolist() == [0, 1, 2, 3, 4, 5, 10]
    assert queries[:, 0].tolist() == [0, 1, 2, 3, 6, 7]
    positives = positives_of_windows(near, database, queries, num_frames=13)
    assert [positives.of(q).tolist() for q in range(4)] == [
        [0, 1, 2, 3],
        [0, 1, 2, 3, 4],
        [1, 2, 3, 4, 5],
        [2, 3, 4, 5],
    ]
    assert (positives.counts == 0).sum() == 2


@pytest.mark.parametrize(("length", "first"), [(1, 0), (3, 0), (4, 1), (5, 0), (6, 1)])
def test_even_windows_lose_the_first_as_published_and_only_then(length: int, first: int) -> None:
    # The published rule: around place i from floor(S / 2) on, frames from i - ceil(S / 2) + 1 to i
    # + floor(S / 2).
    num, half = 12, length // 2
    slow = [
        [i + j for j in range(-(-length // 2) * -1 + 1, half + 1)] for i in range(half, num - half)
    ]
    found = cut_windows(np.zeros(num), np.arange(num), length=length, is_published=True)
    assert found.tolist() == slow
    assert found[0, 0] == first
    assert len(cut_windows(np.zeros(num), np.arange(num), length=length)) == num - length + 1


def test_gaps_orders_of_rows_speeds_and_doubled_numbers() -> None:
    shuffled = np.random.default_rng(0).permutation(13)
    found = cut_windows(DRIVES[shuffled], NUMBERS[shuffled], length=3)
    plain = cut_windows(DRIVES, NUMBERS, length=3)
    assert np.array_equal(shuffled[found], plain)
    double = cut_windows(DRIVES, NUMBERS, length=3, speed=2)
    assert double.tolist() == [[0, 2, 4], [1, 3, 5], [2, 4, 6], [3, 5, 7], [9, 10, 12]]
    assert cut_windows(np.array(["A", "A", "A"]), np.array([1, 1, 2]), length=2).tolist() == [
        [0, 2]
    ]
    assert cut_windows(np.array(["A", "B"]), np.array([1, 2]), length=2).shape == (0, 2), (
        "never across drives"
    )
    assert cut_windows(np.array([]), np.array([], int), length=2).shape == (0, 2)
    with pytest.raises(NoPhotos, match="hold no 2 that follow"):
        require_windows(np.empty((0, 2), int), num_frames=2, what="drive")
    with pytest.raises(BadOption, match="at least 1 frame"):
        cut_windows(DRIVES, NUMBERS, length=0)


def test_positives_are_those_of_the_slow_way() -> None:
    random = np.random.default_rng(1)
    database = cut_windows(random.integers(0, 3, 60), random.integers(0, 40, 60), length=2)
    queries = cut_windows(random.integers(0, 2, 50), random.integers(0, 30, 50), length=2)
    near = neighbors_within(
        random.uniform(0, 60, (60, 2)), random.uniform(0, 60, (50, 2)), radius_m=9
    )
    found = positives_of_windows(near, database, queries, num_frames=60)
    for q, window in enumerate(queries):
        close = {int(frame) for row in window for frame in near.of(row)}
        assert found.of(q).tolist() == [
            w for w, rows in enumerate(database) if close & set(rows.tolist())
        ]


def test_unions_do_not_depend_on_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(2)
    lists = [np.unique(random.integers(0, 20, random.integers(0, 6))) for _ in range(15)]
    groups = [np.unique(random.integers(0, 15, random.integers(0, 5))) for _ in range(40)]

    def packed(many: list[np.ndarray]) -> NeighborLists:
        return NeighborLists(
            np.concatenate([[0], np.cumsum([len(one) for one in many])]),
            np.concatenate(many).astype(np.int64),
        )

    whole = union_runs(packed(lists), packed(groups))
    monkeypatch.setattr("whence.lists.BLOCK_ROWS", 1)
    assert all(
        np.array_equal(a, b)
        for a, b in zip(whole, union_runs(packed(lists), packed(groups)), strict=True)
    )
    for number, group in enumerate(groups):
        slow = sorted({int(member) for one in group for member in lists[one]})
        assert whole.of(number).tolist() == slow
