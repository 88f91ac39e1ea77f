"""Poses from matches with photos of known depth."""

from __future__ import annotations

import numpy as np
import pytest

from whence.evaluation.poses import KnownView, estimate_pose, lift, pose_errors, shares_within
from whence.worlds.camera import Camera, look_rotation, make_camera

WALL_M = 10.0


def camera(x: float, y: float, heading_deg: float) -> Camera:
    rotation = look_rotation(grid_heading_deg=heading_deg, pitch_deg=3.0, roll_deg=1.0)
    return make_camera(np.array([x, y, 1.6]), rotation, size_px=(160, 120), field_of_view_deg=70.0)


def depth_of(seen: Camera) -> np.ndarray:
    """Of two walls: one at north 10 m to the west of east 0, one 3 m behind it to the east."""
    rows, columns = np.mgrid[: seen.height, : seen.width]
    rays = np.stack([columns, rows, np.ones_like(rows)], axis=-1) @ np.linalg.inv(seen.projection).T
    near, far = ((wall - seen.centre[1]) / rays[..., 1] for wall in (WALL_M, WALL_M + 3))
    is_near = seen.centre[0] + near * rays[..., 0] < 0
    return np.where(is_near, near, far)


def view(seen: Camera) -> KnownView:
    return KnownView(depth_of(seen), seen.intrinsics, seen.rotation, seen.translation)


def matches_of(
    query: Camera,
    seen: Camera,
    random: np.random.Generator,
    *,
    num: int = 80,
    num_wrong: int | None = None,
) -> tuple[np.ndarray, np.ndarray, KnownView]:
    """Random pixels of a view and where the query sees the same points, with some noise; a third,
    or so many, are nonsense."""
    pixels = random.integers((0, 0), (seen.width, seen.height), (num, 2)).astype(float)
    points, _ = lift(pixels, view(seen))
    own = query.project(points)[0] + random.normal(0, 0.3, (num, 2))
    wrong = num // 3 if num_wrong is None else num_wrong
    own[:wrong] = random.uniform(0, 100, (wrong, 2))
    return own, pixels, view(seen)


def test_pixels_are_lifted_to_the_points_they_show() -> None:
    seen = camera(-2.0, 0.0, 5.0)
    pixels = np.array([[3.0, 4.0], [80.0, 60.0], [400.0, 5.0]])
    points, is_known = lift(pixels, view(seen))
    assert is_known.tolist() == [True, True, False]
    again, depth = seen.project(points[:2])
    assert np.allclose(again, pixels[:2], atol=1e-9)
    assert np.allclose(depth, [depth_of(seen)[4, 3], depth_of(seen)[60, 80]])
    assert points[:2, 1].min() >= WALL_M - 1e-9


def test_a_pose_is_found_among_wrong_matches() -> None:
    random = np.random.default_rng(0)
    query = camera(0.7, 1.2, -4.0)
    views = [camera(-2.0, 0.0, 5.0), camera(2.0, -1.0, 0.0)]
    pose = estimate_pose([matches_of(query, seen, random) for seen in views], query.intrinsics)
    assert pose is not None
    metres, degrees = pose_errors(pose, query.rotation, query.translation)
    assert metres < 0.2
    assert degrees < 1.0
    assert np.allclose(pose.centre, query.centre, atol=0.2)
    assert 80 < pose.num_inliers <= 160
    # Nonsense alone has no pose, or one that few points stand for; nothing at all has none.
    nonsense = [(random.uniform(0, 100, (60, 2)), random.uniform(0, 100, (60, 2)), view(views[0]))]
    found = estimate_pose(nonsense, query.intrinsics)
    assert found is None or found.num_inliers < 20
    assert estimate_pose([], query.intrinsics) is None
    unknown = view(views[0])._replace(depth_m=np.zeros((120, 160)))
    assert (
        estimate_pose([(*matches_of(query, views[0], random)[:2], unknown)], query.intrinsics)
        is None
    )


def test_a_pose_is_found_where_five_of_six_matches_are_wrong() -> None:
    """As those of mutual nearest neighbours without a ratio test are, over a shortlist."""
    for seed in range(5):
        random = np.random.default_rng(seed)
        query = camera(0.7, 1.2, -4.0)
        views = [camera(-2.0, 0.0, 5.0), camera(2.0, -1.0, 0.0)]
        found = [matches_of(query, seen, random, num=300, num_wrong=250) for seen in views]
        pose = estimate_pose(found, query.intrinsics)
        assert pose is not None
        metres, degrees = pose_errors(pose, query.rotation, query.translation)
        assert metres < 0.25
        assert degrees < 2


def test_shares_count_both_errors_and_queries_without_a_pose() -> None:
    errors = [
        (0.1, 1.0),
        (0.1, 4.0),
        (0.4, 1.0),
        (4.0, 9.0),
        (4.0, 11.0),
        None,
        (6.0, 0.0),
        (0.25, 2.0),
    ]
    assert shares_within(errors) == pytest.approx((2 / 8, 4 / 8, 5 / 8))
