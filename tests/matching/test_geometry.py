"""Robust geometry: the golden contract, what is refused, units, repeatability."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import pytest

from whence.errors import BadOption
from whence.matching.geometry import (
    Geometry,
    GeometrySettings,
    coverage,
    fit_geometry,
    jacobian,
    reject_reason,
    rescale_points,
    scaling,
)

SIZE = (300, 300)
TRUE_H = np.array([[1.05, -0.02, 12], [0.03, 0.98, -9], [1e-4, -5e-5, 1]])


def golden_points() -> tuple[np.ndarray, np.ndarray]:
    """60 points and their images, every fourth one moved away."""
    j = np.arange(60)
    points0 = np.stack([(37 * j) % 211, (53 * j) % 197], axis=1).astype(np.float32)
    points1 = apply(TRUE_H, points0)
    moved = j % 4 == 0
    points1[moved] += np.stack([(17 * j) % 90 + 20, (29 * j) % 70 + 15], axis=1)[moved]
    return points0, points1.astype(np.float32)


def apply(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    mapped = np.c_[points, np.ones(len(points))] @ matrix.T
    return mapped[:, :2] / mapped[:, 2:]


def fit(
    points0: np.ndarray, points1: np.ndarray, **settings: object
) -> tuple[Geometry, np.ndarray]:
    # A small offset keeps all golden points inside the frame, whose size is the one at which the
    # threshold is 3 px.
    wide = (512, 512)
    shift = np.array([12.0, 12.0])
    options = GeometrySettings(**settings)  # type: ignore[arg-type]
    return fit_geometry(
        points0 + shift, points1 + shift, size0_px=wide, size1_px=wide, settings=options
    ), shift


@pytest.mark.parametrize("method", ["magsac", "ransac", "accurate"])
def test_the_golden_contract(method: str) -> None:
    points0, points1 = golden_points()
    found, shift = fit(points0, points1, method=method)
    assert found.num_inliers == 45
    assert np.array_equal(np.flatnonzero(~found.is_inlier), np.arange(0, 60, 4))
    move = np.array([[1, 0, shift[0]], [0, 1, shift[1]], [0, 0, 1]])
    in_place = np.linalg.inv(move) @ found.matrix @ move
    assert np.abs(in_place / in_place[2, 2] - TRUE_H).max() < 1e-4


def test_too_few_and_collinear_points() -> None:
    points0, points1 = golden_points()
    assert fit(points0[1:4], points1[1:4])[0].matrix is None
    assert fit(points0[:0].reshape(0, 2), points1[:0].reshape(0, 2))[0].num_inliers == 0
    line = np.stack([np.arange(30.0), np.arange(30.0)], axis=1)
    found, _ = fit(line, 2 * line)
    assert found.matrix is None or np.isfinite(found.matrix).all()


def test_the_order_of_the_matches_does_not_matter() -> None:
    random = np.random.default_rng(3)
    points0 = random.uniform(0, 400, (80, 2))
    points1 = apply(TRUE_H, points0) + random.normal(0, 1, (80, 2))
    points1[:40] = random.uniform(0, 500, (40, 2))
    order = random.permutation(80)
    first, again = fit(points0, points1)[0], fit(points0[order], points1[order])[0]
    assert np.array_equal(first.matrix, again.matrix)
    assert np.array_equal(first.is_inlier[order], again.is_inlier)
    assert 30 <= first.num_inliers <= 48


def test_thresholds_scale_with_the_image() -> None:
    assert GeometrySettings().threshold_for((512, 384)) == 3.0
    assert GeometrySettings().threshold_for((384, 1024)) == 6.0
    assert GeometrySettings(model="fundamental").threshold_for((512, 1)) == 1.5
    assert GeometrySettings().key != GeometrySettings(threshold_px=2.0).key


def test_points_outside_or_not_finite_are_no_inliers() -> None:
    points0, points1 = golden_points()
    points0, points1 = points0[1:40] + 300, apply(TRUE_H, points0)[1:40] + 300
    points1[0] = np.nan
    points1[1] = [5000, 10]
    found = fit_geometry(points0, points1, size0_px=(1024, 1024), size1_px=(1024, 1024))
    assert not found.is_inlier[:2].any()
    assert found.num_inliers > 20


@pytest.mark.parametrize(
    ("matrix", "word"),
    [
        (np.diag([-1.0, 1, 1]), "mirror"),
        (np.full((3, 3), np.nan), "finite"),
        (np.diag([30.0, 1, 1]), "stretch"),
        (np.diag([20.0, 20, 1]), "zoom"),
        (np.array([[1, 0, 0], [0, 1, 0], [-0.02, 0, 1.0]]), "fold"),
    ],
)
def test_impossible_models_are_refused(matrix: np.ndarray, word: str) -> None:
    points = np.array([[0.0, 0], [100, 0], [100, 80], [0, 80]])
    assert word in reject_reason(matrix, points, "homography")
    assert reject_reason(TRUE_H, points, "homography") == ""


def wall_camera(random: np.random.Generator) -> np.ndarray:
    """The 3 x 3 map from a wall (metres) into a 640 x 640 image of a camera tilted up to 70 degrees
    any way, rolled at will."""
    tilt, way, roll = random.uniform([0, 0, 0], [np.radians(70), 2 * np.pi, 2 * np.pi])
    centre = random.uniform(2, 8) * np.array(
        [np.sin(tilt) * np.cos(way), np.sin(tilt) * np.sin(way), -np.cos(tilt)]
    )
    forward = -centre / np.linalg.norm(centre)
    right = np.cross([0.0, 1.0, 0.0], forward)
    right /= np.linalg.norm(right)
    turn = np.array([[np.cos(roll), -np.sin(roll), 0], [np.sin(roll), np.cos(roll), 0], [0, 0, 1]])
    rotation = turn @ np.array([right, np.cross(forward, right), forward])
    return (
        np.array([[600.0, 0, 320], [0, 600, 320], [0, 0, 1]])
        @ np.c_[rotation[:, :2], -rotation @ centre]
    )


def views_of_a_wall(
    random: np.random.Generator,
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Homographies between two cameras, and points that both show, (M, 2) each."""
    while True:
        first, second = wall_camera(random), wall_camera(random)
        wall = np.c_[random.uniform(-1.5, 1.5, (60, 2)), np.ones(60)]
        seen0, seen1 = wall @ first.T, wall @ second.T
        in_front = (seen0[:, 2] > 0) & (seen1[:, 2] > 0)
        points0, points1 = (seen[in_front, :2] / seen[in_front, 2:] for seen in (seen0, seen1))
        shown = ((points0 >= 0) & (points0 < 640) & (points1 >= 0) & (points1 < 640)).all(axis=1)
        if shown.sum() >= 12:
            yield second @ np.linalg.inv(first), points0[shown], points1[shown]


def test_views_of_a_wall_are_never_refused_and_mirrored_ones_always() -> None:
    random = np.random.default_rng(0)
    flip = np.array([[-1.0, 0, 639], [0, 1, 0], [0, 0, 1]])
    for matrix, points0, _ in itertools.islice(views_of_a_wall(random), 20_000):
        # Estimators scale a homography as they please, by a negative number too.
        scaled = matrix * random.choice([-1.0, 1.0, 0.01, -50.0])
        assert reject_reason(scaled, points0, "homography") == ""
        assert "mirror" in reject_reason(flip @ scaled, points0, "homography")


def test_oblique_views_keep_their_inliers() -> None:
    """The upper left block of such a homography mirrors, although nothing is mirrored where the
    points are."""
    views = views_of_a_wall(np.random.default_rng(1))
    oblique = (view for view in views if np.linalg.det(view[0][:2, :2] / view[0][2, 2]) < 0)
    for _, points0, points1 in itertools.islice(oblique, 20):
        found = fit_geometry(points0, points1, size0_px=(640, 640), size1_px=(640, 640))
        assert found.num_inliers > 0.9 * len(points0), found.reason
        mirrored = fit_geometry(
            points0, points1 * [-1, 1] + [639, 0], size0_px=(640, 640), size1_px=(640, 640)
        )
        assert mirrored.matrix is None


def test_points_on_both_sides_of_the_horizon_fold() -> None:
    matrix = np.array([[1.0, 0, 0], [0, 1, 0], [-0.01, 0, 1]])
    either = np.array([[10.0, 10], [40, 80], [60, 20]])
    assert reject_reason(matrix, either, "homography") == ""
    assert "fold" in reject_reason(matrix, np.r_[either, [[150.0, 30]]], "homography")
    # Beyond the horizon alone they are seen from behind, as a mirror image is.
    assert (
        reject_reason(matrix, either + np.array([150, 0]), "homography")
        == "the model mirrors the image"
    )
    assert reject_reason(-matrix, either, "homography") == ""


def test_a_mirrored_image_has_no_inliers() -> None:
    points0 = np.random.default_rng(0).uniform(10, 290, (50, 2))
    mirrored = np.stack([299 - points0[:, 0], points0[:, 1]], axis=1)
    found = fit_geometry(points0, mirrored, size0_px=SIZE, size1_px=SIZE)
    assert found.matrix is None
    assert found.num_inliers == 0
    assert found.reason


def test_jacobian_is_the_derivative() -> None:
    point, step = np.array([40.0, 70.0]), 1e-5
    numeric = np.stack(
        [
            (
                apply(TRUE_H, (point + step * axis)[None])
                - apply(TRUE_H, (point - step * axis)[None])
            )[0]
            / (2 * step)
            for axis in np.eye(2)
        ],
        axis=1,
    )
    assert np.allclose(jacobian(TRUE_H, point), numeric, atol=1e-6)


@pytest.mark.parametrize("model", ["affine", "fundamental"])
def test_other_models(model: str) -> None:
    random = np.random.default_rng(1)
    space = np.c_[random.uniform(-2, 2, (60, 2)), random.uniform(4, 9, 60)]
    points0 = space[:, :2] / space[:, 2:] * 200 + 256
    if model == "affine":
        points1 = points0 @ np.array([[1.1, 0.1], [-0.1, 0.9]]) + 10
    else:
        moved = space + np.array([1.0, 0.2, 0.5])
        points1 = moved[:, :2] / moved[:, 2:] * 200 + 220
    points1[:12] = random.uniform(0, 511, (12, 2))
    found = fit_geometry(
        points0,
        points1,
        size0_px=(512, 512),
        size1_px=(512, 512),
        settings=GeometrySettings(model=model),
    )
    inside = ((points1 > -0.5) & (points1 < 511.5)).all(axis=1) & (
        (points0 > -0.5) & (points0 < 511.5)
    ).all(axis=1)
    assert found.is_inlier[12:][inside[12:]].mean() > 0.95
    assert found.is_inlier[:12].sum() <= 4


def test_coverage_counts_cells() -> None:
    assert coverage(np.zeros((0, 2)), size_px=(40, 40)) == 0
    assert coverage(np.array([[0, 0], [1, 1.0]]), size_px=(40, 40)) == 1 / 16
    assert coverage(np.array([[0, 0], [39.4, 39.4]]), size_px=(40, 40)) == 2 / 16
    grid = np.stack(np.meshgrid(np.arange(40), np.arange(40)), axis=-1).reshape(-1, 2)
    assert coverage(grid, size_px=(40, 40)) == 1


def test_pixel_centres_are_kept_when_an_image_is_enlarged() -> None:
    # The middle of a 4-pixel row lies between its pixels 1 and 2; in the image twice as large
    # between 3 and 4.
    assert rescale_points(np.array([[1.5, 0.0]]), scale=2.0).tolist() == [[3.5, 0.5]]
    moved = scaling((4, 4), (8, 8)) @ np.array([1.5, 0.0, 1.0])
    assert moved[:2].tolist() == [3.5, 0.5]


@pytest.mark.parametrize(
    "options",
    [
        {"model": "conic"},
        {"method": "guess"},
        {"threshold_px": 0.0},
        {"max_iterations": 0},
        {"confidence": 1.0},
    ],
)
def test_impossible_settings(options: dict[str, object]) -> None:
    with pytest.raises(BadOption):
        GeometrySettings(**options)  # type: ignore[arg-type]


def test_poselib_keeps_the_golden_contract() -> None:
    pytest.importorskip("poselib")
    points0, points1 = golden_points()
    found, shift = fit(points0, points1, method="poselib")
    assert np.array_equal(np.flatnonzero(~found.is_inlier), np.arange(0, 60, 4))
    move = np.array([[1, 0, shift[0]], [0, 1, shift[1]], [0, 0, 1]])
    in_place = np.linalg.inv(move) @ found.matrix @ move
    assert np.abs(in_place / in_place[2, 2] - TRUE_H).max() < 1e-4
    again, _ = fit(points0, points1, method="poselib")
    assert np.array_equal(found.matrix, again.matrix)
    assert fit(points0[1:4], points1[1:4], method="poselib")[0].matrix is None
    with pytest.raises(BadOption, match="poselib"):
        GeometrySettings(model="affine", method="poselib")


def test_poselib_finds_a_fundamental_matrix() -> None:
    pytest.importorskip("poselib")
    random = np.random.default_rng(5)
    ground = np.c_[random.uniform(-2, 2, (120, 2)), random.uniform(4, 9, 120)]
    camera = np.array([[400.0, 0, 256], [0, 400, 256], [0, 0, 1]])
    points0 = (ground @ camera.T)[:, :2] / ground[:, 2:]
    moved = ground + np.array([0.6, 0.1, 0.05])
    points1 = (moved @ camera.T)[:, :2] / moved[:, 2:]
    points1[::6] = random.uniform(0, 512, (20, 2))
    settings = GeometrySettings(model="fundamental", method="poselib")
    found = fit_geometry(
        points0, points1, size0_px=(512, 512), size1_px=(512, 512), settings=settings
    )
    is_seen = ((points0 >= 0) & (points0 < 511) & (points1 >= 0) & (points1 < 511)).all(axis=1)
    genuine = is_seen & (np.arange(120) % 6 != 0)
    assert found.is_inlier[genuine].mean() > 0.95
    assert found.is_inlier[~genuine].mean() < 0.3


@pytest.mark.parametrize("model", ["similarity", "affine"])
def test_similarities_and_affine_maps(model: str) -> None:
    points0, _ = golden_points()
    turn = 1.1 * np.array([[np.cos(0.3), -np.sin(0.3)], [np.sin(0.3), np.cos(0.3)]])
    linear = turn if model == "similarity" else turn @ np.array([[1.0, 0.25], [0.0, 0.8]])
    points1 = points0 @ linear.T + [120, 20]
    points1[::5] += [60, -40]
    found, _ = fit(points0, points1, model=model)
    assert np.array_equal(np.flatnonzero(~found.is_inlier), np.arange(0, 60, 5))
    assert np.allclose(found.matrix[:2, :2], linear, atol=1e-3)
    assert np.array_equal(found.matrix[2], [0, 0, 1])
    if model == "similarity":
        assert np.isclose(found.matrix[0, 0], found.matrix[1, 1])
        assert fit(points0[1:3], points1[1:3], model=model)[0].num_inliers == 2
