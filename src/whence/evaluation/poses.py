"""Localization by pose: matches with database photos whose depth is known give points, and points a
pose (PnP).

What the pose's errors are worth is the share of queries within 0.25 m and 2 degrees, 0.5 m and 5, 5
m and 10, as in long-term visual localization (Sattler et al., CVPR 2018). Frames are those of
`cameras.csv`: z (column, row, 1) = K (R X + t).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

THRESHOLDS = ((0.25, 2.0), (0.5, 5.0), (5.0, 10.0))
"""Metres and degrees."""
MIN_POINTS = 6
_MOST_SAMPLES = 10_000
"""Of four points: enough where one match of seven is right."""


class KnownView(NamedTuple):
    """A database photo whose camera and depth are known."""

    depth_m: np.ndarray
    """(H, W) along the optical axis; 0 where it is not known."""
    intrinsics: np.ndarray
    rotation: np.ndarray
    translation: np.ndarray


class Pose(NamedTuple):
    """Where a photo was taken from and how."""

    rotation: np.ndarray
    """(3, 3) from world to camera."""
    translation: np.ndarray
    num_inliers: int

    @property
    def centre(self) -> np.ndarray:
        """(3,) metres."""
        return np.asarray(-self.rotation.T @ self.translation)


def lift(pixels: np.ndarray, view: KnownView) -> tuple[np.ndarray, np.ndarray]:
    """World points (n, 3) of a view's pixels (n, 2) column, row, and which of them have a depth
    (n,) bool."""
    columns, rows = np.rint(pixels).astype(int).T
    height, width = view.depth_m.shape
    inside = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
    depth = np.zeros(len(pixels))
    depth[inside] = view.depth_m[rows[inside], columns[inside]]
    rays = np.column_stack([pixels, np.ones(len(pixels))]) @ np.linalg.inv(view.intrinsics).T
    return (rays * depth[:, None] - view.translation) @ view.rotation, depth > 0


def estimate_pose(
    matches: Sequence[tuple[np.ndarray, np.ndarray, KnownView]],
    intrinsics: np.ndarray,
    *,
    threshold_px: float = 3.0,
) -> Pose | None:
    """The pose of a query from its matches with several views: pixels (n, 2) of the query, of the
    view, and the view.

    RANSAC over all points together, then refined on those that fit; None where fewer than six fit.
    """
    pixels, points = [], []
    for own, theirs, view in matches:
        lifted, is_known = lift(np.asarray(theirs, float).reshape(-1, 2), view)
        pixels.append(np.asarray(own, float).reshape(-1, 2)[is_known])
        points.append(lifted[is_known])
    seen, world = (
        np.concatenate([*pixels, np.empty((0, 2))]),
        np.concatenate([*points, np.empty((0, 3))]),
    )
    if len(seen) < MIN_POINTS:
        return None
    cv2.setRNGSeed(0)
    middle = world.mean(axis=0)
    is_found, turn, shift, inliers = cv2.solvePnPRansac(
        world - middle,
        seen,
        intrinsics,
        None,
        iterationsCount=_MOST_SAMPLES,
        reprojectionError=threshold_px,
        confidence=0.9999,
        flags=cv2.SOLVEPNP_AP3P,
    )
    if not is_found or inliers is None or len(inliers) < MIN_POINTS:
        return None
    kept = inliers.ravel()
    turn, shift = cv2.solvePnPRefineLM(
        world[kept] - middle, seen[kept], intrinsics, None, turn, shift
    )
    rotation = cv2.Rodrigues(turn)[0]
    return Pose(rotation, shift.ravel() - rotation @ middle, len(kept))


def pose_errors(pose: Pose, rotation: np.ndarray, translation: np.ndarray) -> tuple[float, float]:
    """Metres and degrees between a pose and the true one."""
    apart = float(np.linalg.norm(pose.centre + rotation.T @ translation))
    cosine = (np.trace(pose.rotation @ rotation.T) - 1) / 2
    return apart, float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))


def shares_within(errors: Sequence[tuple[float, float] | None]) -> tuple[float, ...]:
    """The share of queries within each of `THRESHOLDS`; those without a pose are within none."""
    known = np.array(
        [error if error is not None else (np.inf, np.inf) for error in errors], float
    ).reshape(-1, 2)
    return tuple(
        float(((known[:, 0] <= metres) & (known[:, 1] <= degrees)).mean())
        for metres, degrees in THRESHOLDS
    )
