"""Peaks of a map, to fractions of a pixel."""

from __future__ import annotations

import numpy as np
import pytest

from whence.models.local.peaks import find_peaks


def bells(*middles: tuple[float, float, float]) -> np.ndarray:
    rows, columns = np.mgrid[:40, :60].astype(np.float32)
    drawn = [
        height * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 4) for x, y, height in middles
    ]
    return np.max(drawn, axis=0).astype(np.float32)


def test_the_highest_come_first_and_stand_where_the_bells_do() -> None:
    found = find_peaks(
        bells((12.3, 20.0, 0.5), (40.0, 9.6, 1.0), (30.0, 30.0, 0.8)), max_points=10, least=0.1
    )
    np.testing.assert_allclose(found.points, [[40, 9.6], [30, 30], [12.3, 20]], atol=0.06)
    assert found.heights.tolist() == sorted(found.heights.tolist(), reverse=True)
    rough = find_peaks(bells((12.3, 20.0, 0.5)), max_points=10, least=0.1, is_refined=False)
    assert rough.points.tolist() == [[12, 20]]


def test_of_two_near_ones_the_higher_stays_and_none_is_at_the_rim() -> None:
    heights = bells((20.0, 20.0, 1.0), (23.0, 20.0, 0.9))
    assert len(find_peaks(heights, max_points=9, least=0.1, radius_px=4).points) == 1
    assert len(find_peaks(heights, max_points=9, least=0.1, radius_px=2).points) == 2
    assert len(find_peaks(heights, max_points=1, least=0.1).points) == 1
    assert len(find_peaks(bells((2.0, 20.0, 1.0)), max_points=9, least=0.5).points) == 0
    assert len(find_peaks(np.ones((6, 50), np.float32), max_points=9).points) == 0


def test_a_level_map_has_no_peaks() -> None:
    assert len(find_peaks(np.zeros((20, 20), np.float32), max_points=500).points) == 0
    step = np.zeros((20, 20), np.float32)
    step[:, 10:] = 1
    assert (find_peaks(step, max_points=500, is_refined=False).points[:, 0] == 10).all()


@pytest.mark.parametrize("seed", range(3))
def test_every_peak_is_the_highest_around(seed: int) -> None:
    heights = np.random.default_rng(seed).random((30, 40)).astype(np.float32)
    found = find_peaks(heights, max_points=1000, radius_px=3, is_refined=False)
    for x, y in found.points.astype(int):
        assert heights[y, x] == heights[max(0, y - 3) : y + 4, max(0, x - 3) : x + 4].max()
