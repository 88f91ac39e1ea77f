"""Matching by orientations of edges: across sensors, turned and scaled, with black around; nothing
where it is chance."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from conftest import draw_place
from matcher_samples import check_matcher
from whence.errors import BadOption
from whence.matching.geometry import fit_geometry
from whence.matching.matchers import MatchOptions, match_images
from whence.matching.orientation import (
    OrientationCorrelation,
    known_pixels,
    open_orientation,
    standing,
)
from whence.registry import build
from whence.types import PointPairs

SIDE = 256


def as_radar(image: np.ndarray, seed: int = 0) -> np.ndarray:
    """Another sensor's view: brightness that has little to do with the camera's, and speckle that
    multiplies it."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    levels = (
        np.random.default_rng(1).permutation(np.linspace(30, 220, 8)).astype(np.float32)[grey // 32]
    )
    speckle = np.random.default_rng(seed).gamma(4, 0.25, grey.shape)
    return np.repeat(
        np.clip(levels * np.sqrt(speckle), 0, 255).astype(np.uint8)[..., None], 3, axis=2
    )


def paired(matcher: OrientationCorrelation, first: np.ndarray, second: np.ndarray) -> PointPairs:
    found = next(iter(matcher.match(matcher.prepare(first), [matcher.prepare(second)])))
    assert found is not None
    return found


@pytest.fixture(scope="module")
def camera() -> np.ndarray:
    return cv2.GaussianBlur(draw_place(2, width=SIDE, height=SIDE), (0, 0), 1.0)


def worst_px(pairs: PointPairs, truth: np.ndarray) -> float:
    """How far the affine map that matches agree on is off at most, over the middle of the image."""
    found = fit_geometry(
        pairs.points0, pairs.points1, size0_px=pairs.size0_px, size1_px=pairs.size1_px
    )
    assert found.matrix is not None, found.reason
    grid = (
        np.stack(np.meshgrid([60, 128, 196], [60, 128, 196]), axis=-1)
        .reshape(1, -1, 2)
        .astype(float)
    )
    gap = cv2.perspectiveTransform(grid, found.matrix) - cv2.perspectiveTransform(grid, truth)
    return float(np.linalg.norm(gap, axis=-1).max())


def test_the_contract():
    check_matcher(open_orientation(), is_trained=False)


def test_a_radar_and_a_camera(camera):
    truth = np.array([[1.01, 0.02, 6.0], [-0.02, 0.99, -9.0], [0, 0, 1]])
    moved = cv2.warpPerspective(camera, truth, (SIDE, SIDE), borderMode=cv2.BORDER_REFLECT)
    pairs = paired(open_orientation(), as_radar(camera), moved)
    assert worst_px(pairs, truth) < 2.5
    assert pairs.confidences is not None
    assert 0 < pairs.confidences.mean() < 1
    # Other numbers of pixels, the same footprint.
    half = cv2.resize(moved, (SIDE // 2, SIDE // 2), interpolation=cv2.INTER_AREA)
    smaller = np.array([[0.5, 0, -0.25], [0, 0.5, -0.25], [0, 0, 1]]) @ truth
    assert worst_px(paired(open_orientation(), as_radar(camera), half), smaller) < 2.5


def test_turned_scaled_and_with_black_around(camera):
    angle, zoom = np.radians(-50), 0.8
    turn = zoom * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    middle = np.array([SIDE / 2, SIDE / 2])
    truth = np.vstack([np.column_stack([turn, middle - turn @ middle]), [0, 0, 1]])
    turned = cv2.warpPerspective(camera, truth, (SIDE, SIDE))
    known = known_pixels(cv2.cvtColor(turned, cv2.COLOR_RGB2GRAY))
    assert 0.55 < known.mean() < 0.75
    assert (
        worst_px(paired(open_orientation(is_upright=False), as_radar(camera), turned), truth) < 3.5
    )
    assert len(paired(open_orientation(), as_radar(camera), turned).points0) == 0, (
        "upright alone does not find it"
    )


def test_what_has_nothing_in_common_has_no_matches(camera):
    others = [
        cv2.GaussianBlur(draw_place(seed, width=SIDE, height=SIDE), (0, 0), 1.0)
        for seed in (5, 6, 7)
    ]
    for other in others:
        assert len(paired(open_orientation(), as_radar(camera), other).points0) == 0
    found = match_images(as_radar(camera), others[0], options=MatchOptions(matcher="orientation"))
    assert not found.is_match
    assert match_images(
        as_radar(camera), camera, options=MatchOptions(matcher="orientation")
    ).is_match
    # Without the gate there are matches that agree on nothing; the right place stands out.
    assert len(paired(open_orientation(least_standing=0), as_radar(camera), others[0]).points0) > 5
    grey, radar = (cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in (camera, as_radar(camera)))
    away = np.array([[1, 0, 25.0], [0, 1, 0], [0, 0, 1]])
    assert standing(radar, grey, np.eye(3)) > 5 > standing(radar, grey, away)


def test_flat_images_and_options():
    flat = np.full((SIDE, SIDE, 3), 90, np.uint8)
    dark = np.zeros((SIDE, SIDE), np.uint8)
    assert known_pixels(dark).all(), "an image that is dark everywhere is known"
    for way in (True, False):
        assert len(paired(open_orientation(is_upright=way), flat, flat).points0) == 0
    with pytest.raises(BadOption, match="templates"):
        open_orientation(template_px=4)
    keys = {
        build("matcher", "orientation", options=options).key
        for options in ({}, {"is_upright": False}, {"step_px": 16})
    }
    assert len(keys) == 3
