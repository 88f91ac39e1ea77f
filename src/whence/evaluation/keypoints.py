"""How well keypoints and their matches fit a known homography: repeatability, accuracy of matches,
error of homographies.

Points are pixels; pixel centres are whole numbers. Definitions as in HPatches' use by SuperPoint
and SiLK; repeatability in the form of mutual neighbours, in which points that crowd together count
once.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from whence.types import PointPairs


def project(points: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Points (N, 2) mapped by a homography (3, 3); NaN for what lies behind the camera."""
    homogeneous = np.hstack([points, np.ones((len(points), 1))]) @ np.asarray(matrix, np.float64).T
    sign = np.sign(matrix[2][2]) or 1.0
    with np.errstate(divide="ignore", invalid="ignore"):
        mapped = homogeneous[:, :2] / homogeneous[:, 2:]
    return np.where(sign * homogeneous[:, 2:] > 0, mapped, np.nan)


def rescaled(
    matrix: np.ndarray, scale0: tuple[float, float], scale1: tuple[float, float]
) -> np.ndarray:
    """A homography between images that were both resized by factors of width and height; pixel
    centres stay centres."""
    first, second = (
        np.array([[x, 0, (x - 1) / 2], [0, y, (y - 1) / 2], [0, 0, 1]]) for x, y in (scale0, scale1)
    )
    return np.asarray(second @ matrix @ np.linalg.inv(first))


def repeatability(
    points0: np.ndarray,
    points1: np.ndarray,
    matrix: np.ndarray,
    *,
    size0_px: tuple[int, int],
    size1_px: tuple[int, int],
    within_px: float = 3.0,
) -> float:
    """The share of keypoints (N, 2) and (M, 2), the best ones of each image, that are found again
    within a distance.

    Points that the other image does not show are left out. Of the rest those count that are each
    other's nearest, over the fewer of both; NaN where one image has none left.
    """
    mapped = project(points0, matrix)
    back = project(points1, np.linalg.inv(matrix))
    mapped, seen = mapped[_is_on(mapped, size1_px)], points1[_is_on(back, size0_px)]
    if not len(mapped) or not len(seen):
        return float("nan")
    gaps = np.linalg.norm(mapped[:, None] - seen[None], axis=2)
    nearest0, nearest1 = gaps.argmin(axis=1), gaps.argmin(axis=0)
    rows = np.arange(len(mapped))
    is_found = (nearest1[nearest0] == rows) & (gaps[rows, nearest0] <= within_px)
    return float(is_found.sum() / min(len(mapped), len(seen)))


def matching_accuracy(pairs: PointPairs, matrix: np.ndarray, *, within_px: float = 3.0) -> float:
    """The share of matches that a homography (3, 3) of the images' pixels takes to within a
    distance; 0 without matches."""
    if not len(pairs.points0):
        return 0.0
    gaps = np.linalg.norm(project(pairs.points0, matrix) - pairs.points1, axis=1)
    return float((gaps <= within_px).mean())


def corner_error_px(
    estimate: np.ndarray | None, matrix: np.ndarray, *, size_px: tuple[int, int]
) -> float:
    """How far a homography takes the first image's corners from where another one does, in the
    mean; infinite for none."""
    if estimate is None:
        return float("inf")
    width, height = size_px
    corners = np.array(
        [[0, 0], [width - 1, 0], [width - 1, height - 1], [0, height - 1]], np.float64
    )
    gaps = np.linalg.norm(project(corners, estimate) - project(corners, matrix), axis=1)
    return float(gaps.mean()) if np.isfinite(gaps).all() else float("inf")


def error_area(errors_px: Sequence[float] | np.ndarray, *, up_to_px: float) -> float:
    """The area under the share of pairs over their error, up to an error, divided by it: in [0,
    1]."""
    errors = np.sort(np.asarray(errors_px, np.float64))
    if not len(errors):
        return float("nan")
    # Each pair adds what is left from its error on.
    return float(np.clip(up_to_px - errors, 0, None).sum() / (up_to_px * len(errors)))


def spread(points: np.ndarray, *, size_px: tuple[int, int], num_cells: int = 16) -> float:
    """The share of a grid's cells that hold a keypoint."""
    if not len(points):
        return 0.0
    cells = (
        np.floor((points + 0.5) * num_cells / np.array(size_px))
        .astype(np.int64)
        .clip(0, num_cells - 1)
    )
    return len(np.unique(cells[:, 1] * num_cells + cells[:, 0])) / num_cells**2


def _is_on(points: np.ndarray, size_px: tuple[int, int]) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        return np.asarray(((points >= -0.5) & (points < np.array(size_px) - 0.5)).all(axis=1))
