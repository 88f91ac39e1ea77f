"""Evidence of a pair: how far agreeing matches stand above chance, and the probability fitted on
it."""

from __future__ import annotations

import math
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from whence.matching.evidence import (
    LEAST_SURPRISE,
    PairCalibration,
    find_pair_calibration,
    surprise_of,
)
from whence.matching.geometry import GeometryModel, GeometrySettings, fit_geometry
from whence.types import PointPairs

SIZE = (512, 384)
SAMPLES = {"homography": 4, "affine": 3, "similarity": 2, "fundamental": 7}


def pairs_of(points0: np.ndarray, points1: np.ndarray) -> PointPairs:
    return PointPairs(points0, points1, SIZE, SIZE, (len(points0), len(points1)))


def spread(num: int, seed: int = 0) -> np.ndarray:
    """Points no two of which share a spot."""
    cells = np.random.default_rng(seed).choice(60 * 40, num, replace=False)
    return np.stack([cells % 60 * 8.0 + 5, cells // 60 * 9.0 + 5], axis=1)


def surprise(num_matches: int, num_inliers: int, model: GeometryModel = "homography") -> float:
    mask = np.arange(num_matches) < num_inliers
    return surprise_of(
        pairs_of(spread(num_matches, 1), spread(num_matches, 2)),
        mask,
        GeometrySettings(model=model),
    )


@pytest.mark.parametrize("model", get_args(GeometryModel))
def test_surprise_is_the_number_of_false_alarms(model: GeometryModel) -> None:
    matches, inliers, sample = 40, 20, SAMPLES[model]
    threshold = 1.5 if model == "fundamental" else 3.0
    area = 2 * threshold * math.hypot(*SIZE) if model == "fundamental" else math.pi * threshold**2
    chance = area / (SIZE[0] * SIZE[1])
    models = 3 if model == "fundamental" else 1
    alarms = (
        models
        * (matches - sample)
        * math.comb(matches, inliers)
        * math.comb(inliers, sample)
        * chance ** (inliers - sample)
    )
    assert surprise(matches, inliers, model) == pytest.approx(-math.log10(alarms))
    assert alarms < 1


@given(st.integers(4, 60), st.integers(0, 30), st.integers(0, 20))
def test_more_inliers_say_more_and_more_outliers_less(
    inliers: int, outliers: int, more: int
) -> None:
    assert (
        surprise(inliers + outliers + more, inliers + more)
        >= surprise(inliers + outliers, inliers) - 1e-9
    )
    assert (
        surprise(inliers + outliers + more, inliers) <= surprise(inliers + outliers, inliers) + 1e-9
    )


@pytest.mark.parametrize("model", get_args(GeometryModel))
def test_what_random_matches_agree_on_is_no_surprise(model: GeometryModel) -> None:
    settings = GeometrySettings(model=model)
    found = []
    for seed in range(60):
        random = np.random.default_rng(seed)
        points0, points1 = (random.uniform(1, 380, (40, 2)) for _ in range(2))
        fit = fit_geometry(points0, points1, size0_px=SIZE, size1_px=SIZE, settings=settings)
        found.append(surprise_of(pairs_of(points0, points1), fit.is_inlier, settings))
    assert max(found) < LEAST_SURPRISE
    assert np.median(found) <= 1


def test_matches_on_one_spot_count_once() -> None:
    points0, points1 = spread(20, 1), spread(20, 2)
    once = surprise_of(pairs_of(points0, points1), np.arange(20) < 10, GeometrySettings())
    rows = np.r_[np.arange(20), np.repeat(np.arange(10), 3)]
    repeated = pairs_of(points0[rows], points1[rows] + 0.01)
    assert surprise_of(repeated, rows < 10, GeometrySettings()) == pytest.approx(once)
    assert (
        surprise_of(pairs_of(np.zeros((9, 2)), spread(9)), np.ones(9, bool), GeometrySettings())
        == 0
    )
    assert (
        surprise_of(
            pairs_of(np.zeros((0, 2)), np.zeros((0, 2))), np.zeros(0, bool), GeometrySettings()
        )
        == 0
    )


@pytest.mark.parametrize("matcher", ["rootsift-mnn", "orb-mnn"])
@pytest.mark.parametrize("model", get_args(GeometryModel))
def test_packaged_probabilities_are_sane(matcher: str, model: GeometryModel) -> None:
    calibration = find_pair_calibration(matcher, model)
    assert calibration is not None
    assert min(calibration.weights[1:]) >= 0
    assert min(calibration.num_genuine, calibration.num_impostors) >= 300
    assert calibration.confidence(0.0, 0.1) < 0.2
    assert calibration.confidence(300.0, 0.6) > 0.95


def test_matchers_without_a_probability_have_none() -> None:
    assert find_pair_calibration("loftr", "homography") is None


@given(st.floats(0, 1e4), st.floats(0, 1), st.floats(0, 100), st.floats(0, 0.5))
def test_more_evidence_never_means_less_confidence(
    surprise: float, covered: float, more: float, wider: float
) -> None:
    calibration = PairCalibration((-5.0, 2.0, 5.0), 1, 1)
    assert calibration.confidence(surprise + more, covered + wider) >= calibration.confidence(
        surprise, covered
    )
