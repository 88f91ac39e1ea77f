"""Measures of keypoints under a known homography, each against its slow definition."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from whence.evaluation.keypoints import (
    corner_error_px,
    error_area,
    matching_accuracy,
    project,
    repeatability,
    rescaled,
    spread,
)
from whence.types import PointPairs

MATRIX = np.array([[0.9, 0.1, 4], [-0.05, 1.1, -3], [1e-4, 2e-4, 1]])
SIZES = {"size0_px": (80, 60), "size1_px": (70, 66)}


def slow_repeatability(
    points0: np.ndarray, points1: np.ndarray, matrix: np.ndarray, within: float
) -> float:
    def on(point: np.ndarray, size: tuple[int, int]) -> bool:
        return -0.5 <= point[0] < size[0] - 0.5 and -0.5 <= point[1] < size[1] - 0.5

    mapped = [project(p[None], matrix)[0] for p in points0]
    firsts = [m for m in mapped if on(m, SIZES["size1_px"])]
    seconds = [
        p for p in points1 if on(project(p[None], np.linalg.inv(matrix))[0], SIZES["size0_px"])
    ]
    found = 0
    for i, m in enumerate(firsts):
        gaps = [float(np.linalg.norm(m - p)) for p in seconds]
        j = int(np.argmin(gaps))
        back = [float(np.linalg.norm(one - seconds[j])) for one in firsts]
        found += int(np.argmin(back)) == i and gaps[j] <= within
    return found / min(len(firsts), len(seconds))


@given(st.integers(0, 2**31))
def test_repeatability_by_its_slow_definition(seed: int) -> None:
    random = np.random.default_rng(seed)
    points0 = random.uniform(0, 1, (40, 2)) * SIZES["size0_px"]
    points1 = project(points0[:25], MATRIX) + random.normal(0, 2, (25, 2))
    found = repeatability(points0, points1, MATRIX, within_px=3.0, **SIZES)
    assert found == pytest.approx(slow_repeatability(points0, points1, MATRIX, 3.0))
    assert 0 <= found <= 1


def test_the_same_points_are_all_found_again_and_crowded_ones_once() -> None:
    points = np.array([[10.0, 10], [30, 40], [50, 20]])
    size = {"size0_px": (80, 60), "size1_px": (80, 60)}
    assert repeatability(points, points, np.eye(3), **size) == 1
    crowd = np.repeat(points[:1], 3, axis=0) + np.array([[0.0, 0], [0.5, 0], [0, 0.5]])
    assert repeatability(crowd, points[:1], np.eye(3), **size) == 1
    assert repeatability(crowd, crowd[:2] + 0.1, np.eye(3), **size) <= 1
    assert np.isnan(repeatability(points[:0], points, np.eye(3), **size))


def test_a_resized_image_has_the_homography_of_pixel_centres() -> None:
    half = rescaled(np.eye(3), (1.0, 1.0), (0.5, 0.5))
    # The first two pixels become one whose centre is 0.
    assert project(np.array([[0.5, 0.5]]), half).tolist() == [[0, 0]]
    assert project(np.array([[79.0, 59.0]]), half).round(9).tolist() == [[39.25, 29.25]]
    back = rescaled(half, (1.0, 1.0), (2.0, 2.0))
    np.testing.assert_allclose(back, np.eye(3), atol=1e-12)


def test_matches_and_homographies() -> None:
    points = np.array([[5.0, 5], [20, 30], [60, 10], [40, 50]])
    truth = project(points, MATRIX)
    moved = truth + np.array([[0, 0], [2.9, 0], [0, 3.1], [9, 9]])
    pairs = PointPairs(points, moved, (80, 60), (70, 66), (4, 4))
    assert matching_accuracy(pairs, MATRIX) == 0.5
    assert matching_accuracy(pairs, MATRIX, within_px=5) == 0.75
    assert (
        matching_accuracy(PointPairs(points[:0], points[:0], (80, 60), (70, 66), (0, 0)), MATRIX)
        == 0
    )
    shift = np.array([[1.0, 0, 3], [0, 1, 4], [0, 0, 1]])
    assert corner_error_px(shift, np.eye(3), size_px=(80, 60)) == pytest.approx(5)
    assert corner_error_px(None, MATRIX, size_px=(80, 60)) == float("inf")
    assert np.isnan(project(np.array([[-2e4, 0.0]]), MATRIX)).all()


@given(st.lists(st.floats(0, 50), min_size=1, max_size=20))
def test_the_area_is_that_under_the_curve(errors: list[float]) -> None:
    steps = np.linspace(0, 10, 20_001)
    curve = [(np.array(errors) <= step).mean() for step in steps]
    assert error_area(errors, up_to_px=10) == pytest.approx(
        np.trapezoid(curve, steps) / 10, abs=2e-3
    )


def test_areas_of_failures_and_of_a_grid() -> None:
    assert error_area([float("inf"), 0.0], up_to_px=5) == 0.5
    assert spread(np.array([[0.0, 0], [79, 59], [1, 1]]), size_px=(80, 60)) == 2 / 256
    assert spread(np.zeros((0, 2)), size_px=(80, 60)) == 0
