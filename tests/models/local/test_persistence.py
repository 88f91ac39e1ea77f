"""Hills of a map by persistence: against two slow definitions, published numbers, and what must not
change them."""

from __future__ import annotations

import heapq
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("gudhi")

from whence.errors import BadOption, MissingExtra
from whence.models.local.persistence import find_hills, find_prominent, persistence

Hill = tuple[float, tuple[int, int], tuple[int, int]]
"""Persistence, and row and column of top and saddle."""
FIVE = np.array([
    [0.1, 0.2, 0.1, 0.0, 0.1], [0.2, 0.9, 0.3, 0.2, 0.1], [0.1, 0.3, 0.4, 0.6, 0.2],
    [0.0, 0.2, 0.5, 0.8, 0.3], [0.1, 0.1, 0.2, 0.3, 0.2],
])  # fmt: skip
FOUR = np.array(
    [[0.5, 0.1, 0.2, 0.1], [0.1, 0.0, 0.1, 0.7], [0.3, 0.1, 0.05, 0.1], [0.1, 0.6, 0.1, 0.2]]
)


def filled(n: int, k: int) -> np.ndarray:
    """The numbers that golden values of the field's notes are given for, in whole-number
    arithmetic."""
    j = np.arange(n, dtype=np.int64)
    return ((31 * j * j + 17 * j + 101 * k + 7) % 1009) / 1009 - 0.5


def slow_hills(heights: np.ndarray, *, is_open: bool = False) -> list[tuple[int, int]]:
    """Pixels from the highest down, joined to their neighbours: of two hills that meet the later
    one ends. With walls around."""
    rows, columns = heights.shape
    flat = heights.ravel()
    order = sorted(range(flat.size), key=lambda p: (-flat[p], p))
    place = {pixel: number for number, pixel in enumerate(order)}
    wall = flat.size
    place[wall] = flat.size if is_open else -1
    root = list(range(flat.size + 1))

    def find(pixel: int) -> int:
        while root[pixel] != pixel:
            pixel = root[pixel]
        return pixel

    seen, found = set(), []
    for pixel in order:
        seen.add(pixel)
        for down in (-1, 0, 1):
            for right in (-1, 0, 1):
                row, column = pixel // columns + down, pixel % columns + right
                is_on = 0 <= row < rows and 0 <= column < columns
                if is_open and not is_on:
                    continue
                other = row * columns + column if is_on else wall
                if other == pixel or (other != wall and other not in seen):
                    continue
                one, two = find(pixel), find(other)
                if one != two:
                    younger, elder = (one, two) if place[one] > place[two] else (two, one)
                    if younger != pixel:
                        found.append((younger, pixel))
                    root[younger] = elder
    return found


def widest_way(heights: np.ndarray, top: int) -> float:
    """How high one can stay on the way from a top to a higher pixel or the rim."""
    rows, columns = heights.shape
    flat = heights.ravel()
    best, queue = {}, [(-flat[top], top)]
    while queue:
        lowest, pixel = heapq.heappop(queue)
        if pixel in best:
            continue
        best[pixel] = -lowest
        row, column = divmod(pixel, columns)
        if flat[pixel] > flat[top] or row in (0, rows - 1) or column in (0, columns - 1):
            return -lowest
        for other in (
            (row + down) * columns + column + right
            for down in (-1, 0, 1)
            for right in (-1, 0, 1)
            if (down, right) != (0, 0)
        ):
            heapq.heappush(queue, (max(lowest, -flat[other]), other))
    raise AssertionError("every way ends at the rim")


def as_set(heights: np.ndarray, **options: str) -> set[tuple[int, int]]:
    return set(zip(*(part.tolist() for part in find_hills(heights, **options)), strict=True))  # type: ignore[arg-type]


@settings(max_examples=40, deadline=None)
@given(st.integers(3, 12), st.integers(3, 12), st.integers(0, 2**31))
def test_the_hills_are_those_of_the_slow_way(height: int, width: int, seed: int) -> None:
    heights = np.random.default_rng(seed).random((height, width))
    assert as_set(heights) == set(slow_hills(heights))


@settings(max_examples=20, deadline=None)
@given(st.integers(3, 9), st.integers(3, 9), st.integers(0, 2**31))
def test_an_open_border_has_hills_on_it_and_the_highest(height: int, width: int, seed: int) -> None:
    heights = np.random.default_rng(seed).random((height, width))
    expected = {*slow_hills(heights, is_open=True), (int(heights.argmax()), int(heights.argmin()))}
    assert as_set(heights, border="open") == expected


def test_every_saddle_is_the_lowest_point_of_the_widest_way() -> None:
    heights = np.random.default_rng(5).random((14, 11))
    found = find_hills(heights)
    assert len(found.tops) > 10
    for top, saddle in zip(found.tops.tolist(), found.saddles.tolist(), strict=True):
        assert widest_way(heights, top) == heights.ravel()[saddle]


def test_the_published_small_maps() -> None:
    assert as_set(FIVE) == {(3 * 5 + 3, 2 * 5 + 2), (1 * 5 + 1, 3 * 5 + 4)}
    assert sorted(persistence(FIVE, find_hills(FIVE)).round(9)) == [0.4, 0.6]
    assert as_set(FOUR) == set()


@pytest.mark.parametrize(
    ("shape", "k", "num", "total", "squares", "largest"),
    [
        ((12, 15), 3, 13, 1.648365, 0.297326,
         [(0.247076, (5, 11), (5, 13)), (0.219425, (6, 2), (4, 1)), (0.216749, (8, 7), (11, 8))]),
        ((20, 20), 5, 39, 4.716749, 0.875664,
         [(0.415659, (17, 13), (17, 15)), (0.357681, (3, 14), (12, 15)),
          (0.316650, (4, 5), (5, 4))]),
    ],
)  # fmt: skip
def test_golden_values(
    shape: tuple[int, int], k: int, num: int, total: float, squares: float, largest: list[Hill]
) -> None:
    heights = 0.9 * filled(shape[0] * shape[1], k).reshape(shape) + 0.5
    hills = find_hills(heights)
    values = persistence(heights, hills)
    assert len(values) == num
    assert values.sum() == pytest.approx(total, abs=1e-6)
    assert (values**2).sum() == pytest.approx(squares, abs=1e-6)
    for row, (value, top, saddle) in zip(np.argsort(-values), largest, strict=False):
        assert values[row] == pytest.approx(value, abs=1e-6)
        assert divmod(int(hills.tops[row]), shape[1]) == top
        assert divmod(int(hills.saddles[row]), shape[1]) == saddle


def test_what_leaves_the_hills_as_they_are() -> None:
    heights = np.random.default_rng(7).random((10, 13))
    plain = as_set(heights)
    assert as_set(heights + 3) == plain
    assert as_set(np.exp(2 * heights)) == plain
    turned = {tuple((12 - pixel % 13) * 10 + pixel // 13 for pixel in pair) for pair in plain}
    assert as_set(np.rot90(heights)) == turned
    shaken = heights + np.random.default_rng(8).uniform(-1e-9, 1e-9, heights.shape)
    values = [np.sort(persistence(one, find_hills(one))) for one in (heights, shaken)]
    np.testing.assert_allclose(values[0], values[1], atol=2e-9)


def test_prominent_points_are_those_that_stand_out() -> None:
    heights = np.zeros((40, 60), np.float32)
    heights[10, 20], heights[10, 22], heights[30, 50] = 0.9, 0.8, 0.5
    heights[10, 21] = 0.75
    found = find_prominent(heights, max_points=5)
    assert found.points.tolist() == [[20, 10], [50, 30], [22, 10]]
    np.testing.assert_allclose(found.heights, [0.9, 0.5, 0.05], atol=1e-6)
    assert len(find_prominent(heights, max_points=5, least=0.3).heights) == 2
    assert len(find_prominent(np.zeros((2, 2)), max_points=3).heights) == 0


def test_what_is_no_map_is_refused() -> None:
    for bad in (np.zeros(3), np.zeros((0, 4)), np.full((4, 4), np.nan)):
        with pytest.raises(BadOption, match="finite"):
            find_hills(bad)
    with pytest.raises(BadOption, match="outside or open"):
        find_hills(FIVE, border="closed")  # type: ignore[arg-type]


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gudhi", None)
    with pytest.raises(MissingExtra, match="topology"):
        find_hills(FIVE)
