"""The geometry that matches agree on: homography, affine map, similarity or fundamental matrix, and
what is refused.

OpenCV estimates; with the method "poselib" that library does (homographies and fundamental
matrices; the extra `poselib`).

Estimates are repeatable: matches are sorted first, because OpenCV's sampler is seeded but depends
on their order. Iterations are bounded. Thresholds grow with the image: they are stated for a long
side of `REFERENCE_SIDE_PX` and scaled to the image at hand.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import cv2
import numpy as np

from whence.errors import BadOption, MissingExtra

GeometryModel = Literal["homography", "affine", "similarity", "fundamental"]
GeometryMethod = Literal["magsac", "ransac", "accurate", "poselib"]

REFERENCE_SIDE_PX = 512
"""Long side for which thresholds are stated."""
MIN_MATCHES = {"homography": 4, "affine": 3, "similarity": 2, "fundamental": 8}
DEFAULT_THRESHOLDS_PX = {"homography": 3.0, "affine": 3.0, "similarity": 3.0, "fundamental": 1.5}
MAX_ANISOTROPY = 10.0
"""A map that stretches one direction this much more than the other is no view of the same thing."""
MAX_ZOOM = 10.0
COVERAGE_CELLS = 4
_METHODS = {"magsac": cv2.USAC_MAGSAC, "ransac": cv2.RANSAC, "accurate": cv2.USAC_ACCURATE}


@dataclass(frozen=True, slots=True)
class GeometrySettings:
    """Which model, how strict, how long."""

    model: GeometryModel = "homography"
    threshold_px: float | None = None
    """Largest residual of an inlier at a long side of 512 pixels; None for the model's usual one
    (3, fundamental matrix 1.5)."""
    max_iterations: int = 2000
    confidence: float = 0.995
    method: GeometryMethod = "magsac"

    def __post_init__(self) -> None:
        if self.model not in get_args(GeometryModel):
            raise BadOption(
                f"geometry is one of {', '.join(get_args(GeometryModel))}, not {self.model!r}"
            )
        if self.method not in get_args(GeometryMethod):
            raise BadOption(
                f"the estimator is one of {', '.join(get_args(GeometryMethod))}, not "
                f"{self.method!r}"
            )
        if self.method == "poselib" and self.model not in ("homography", "fundamental"):
            raise BadOption(
                "poselib estimates homographies and fundamental matrices; for a model "
                f"{self.model} use magsac"
            )
        if (
            self.max_iterations < 1
            or not 0 < self.confidence < 1
            or (self.threshold_px is not None and not self.threshold_px > 0)
        ):
            raise BadOption(
                "geometry needs a positive threshold, at least one iteration and a confidence "
                "between 0 and 1"
            )

    @property
    def min_matches(self) -> int:
        """Matches below which there is no model."""
        return MIN_MATCHES[self.model]

    def threshold_for(self, size_px: tuple[int, int]) -> float:
        """Largest residual in pixels of an image of this width and height."""
        threshold = (
            DEFAULT_THRESHOLDS_PX[self.model] if self.threshold_px is None else self.threshold_px
        )
        return threshold * max(size_px) / REFERENCE_SIDE_PX

    @property
    def key(self) -> str:
        """The settings as text, for what was calibrated with them."""
        threshold = (
            DEFAULT_THRESHOLDS_PX[self.model] if self.threshold_px is None else self.threshold_px
        )
        return (
            f"{self.model}-{self.method}-{threshold:g}px@{REFERENCE_SIDE_PX}-"
            f"{self.max_iterations}-{self.confidence:g}"
        )


class Geometry(NamedTuple):
    """What matches agree on: a 3 x 3 model from the first to the second image, None where there is
    none, and why."""

    matrix: np.ndarray | None
    is_inlier: np.ndarray
    """(M,) bool."""
    reason: str = ""

    @property
    def num_inliers(self) -> int:
        return int(self.is_inlier.sum())


def fit_geometry(
    points0: np.ndarray,
    points1: np.ndarray,
    *,
    size0_px: tuple[int, int],
    size1_px: tuple[int, int],
    settings: GeometrySettings | None = None,
) -> Geometry:
    """The model that maps points (M, 2) of the first image (or their epipolar lines) onto those of
    the second, and its inliers.

    Matches with a point outside its image, or not finite, are no inliers. Without a model nothing
    is one: too few matches, OpenCV finds none, or the one found is not finite, mirrored, folded, or
    stretches or zooms beyond what photos of one thing do.
    """
    settings = settings or GeometrySettings()
    points0, points1 = np.asarray(points0, np.float64), np.asarray(points1, np.float64)
    is_inside = _inside(points0, size0_px) & _inside(points1, size1_px)
    rows = np.flatnonzero(is_inside)
    rows = rows[
        np.lexsort((points1[rows, 1], points1[rows, 0], points0[rows, 1], points0[rows, 0]))
    ]
    nothing = np.zeros(len(points0), bool)
    if len(rows) < settings.min_matches:
        return Geometry(None, nothing, f"{len(rows)} matches; {settings.min_matches} are needed")
    matrix, mask = _estimate(
        points0[rows], points1[rows], settings.threshold_for(size1_px), settings
    )
    if matrix is None or mask is None or mask.sum() < settings.min_matches:
        return Geometry(None, nothing, "the matches agree on no model")
    is_inlier = nothing.copy()
    is_inlier[rows[mask]] = True
    reason = reject_reason(matrix, points0[is_inlier], settings.model)
    if reason:
        return Geometry(None, nothing, reason)
    return Geometry(matrix, is_inlier)


def reject_reason(matrix: np.ndarray, points0: np.ndarray, model: GeometryModel) -> str:
    """Why a 3 x 3 model that fits points (M, 2) of the first image is refused; empty where it is
    not.

    A homography keeps the sense of rotation at a point where det(H) / w^3 is positive, w being the
    third homogeneous coordinate of the point's image (Hartley and Zisserman, Multiple View
    Geometry, 2nd edition, section 21.1). It has to hold wherever something was found; beyond, an
    oblique wall has a horizon, and what lies behind it does not count.
    """
    if not np.isfinite(matrix).all():
        return "the model is not finite"
    if model == "fundamental":
        return (
            ""
            if np.linalg.matrix_rank(matrix, tol=1e-12) >= 2
            else "the fundamental matrix is degenerate"
        )
    depths = points0 @ matrix[2, :2] + matrix[2, 2]
    if not ((depths > 0).all() or (depths < 0).all()):
        return "the model folds the image"
    if np.linalg.det(matrix) * np.sign(depths[0]) <= 0:
        return "the model mirrors the image"
    # The points lie on one side of the horizon, and so does their mean.
    stretch = np.linalg.svd(jacobian(matrix, points0.mean(axis=0)), compute_uv=False)
    if stretch[0] > MAX_ANISOTROPY * stretch[1]:
        return "the model stretches the image too much one way"
    if not 1 / MAX_ZOOM < np.sqrt(stretch[0] * stretch[1]) < MAX_ZOOM:
        return "the model zooms too much"
    return ""


def jacobian(matrix: np.ndarray, point: np.ndarray) -> np.ndarray:
    """The derivative (2, 2) of a 3 x 3 projective map at a point (2,)."""
    x, y, w = matrix @ np.array([*point, 1.0])
    return (matrix[:2, :2] - np.outer([x / w, y / w], matrix[2, :2])) / w


def coverage(points: np.ndarray, *, size_px: tuple[int, int]) -> float:
    """Share of the 4 x 4 cells of an image that hold a point (M, 2): inliers all over the image say
    more than a cluster."""
    if not len(points):
        return 0.0
    cells = np.clip(
        (np.asarray(points) + 0.5) / np.array(size_px) * COVERAGE_CELLS, 0, COVERAGE_CELLS - 1
    ).astype(int)
    return len(np.unique(cells[:, 0] * COVERAGE_CELLS + cells[:, 1])) / COVERAGE_CELLS**2


def rescale_points(points: np.ndarray, *, scale: np.ndarray | float) -> np.ndarray:
    """Points (M, 2) of an image in the image enlarged by `scale` (x, y). Pixel centres are whole
    numbers, so a half is carried."""
    return (np.asarray(points, np.float64) + 0.5) * scale - 0.5


def scaling(from_px: tuple[int, int], to_px: tuple[int, int]) -> np.ndarray:
    """The 3 x 3 map that `rescale_points` applies between two sizes of one image (width,
    height)."""
    sx, sy = to_px[0] / from_px[0], to_px[1] / from_px[1]
    return np.array([[sx, 0, 0.5 * sx - 0.5], [0, sy, 0.5 * sy - 0.5], [0, 0, 1]])


def _estimate(
    points0: np.ndarray, points1: np.ndarray, threshold_px: float, settings: GeometrySettings
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """The library's estimate; OpenCV's options go by keyword, because their order differs between
    its functions."""
    if settings.method == "poselib":
        return _estimate_by_poselib(points0, points1, threshold_px, settings)
    method, iterations, confidence = (
        _METHODS[settings.method],
        settings.max_iterations,
        settings.confidence,
    )
    try:
        if settings.model == "homography":
            matrix, mask = cv2.findHomography(
                points0,
                points1,
                method=method,
                ransacReprojThreshold=threshold_px,
                maxIters=iterations,
                confidence=confidence,
            )
        elif settings.model != "fundamental":
            # The estimators newer than RANSAC exist for homographies and fundamental matrices only.
            estimate = (
                cv2.estimateAffine2D if settings.model == "affine" else cv2.estimateAffinePartial2D
            )
            affine, mask = estimate(
                points0,
                points1,
                method=cv2.RANSAC,
                ransacReprojThreshold=threshold_px,
                maxIters=iterations,
                confidence=confidence,
            )
            matrix = None if affine is None else np.vstack([affine, [0, 0, 1]])
        else:
            matrix, mask = cv2.findFundamentalMat(
                points0,
                points1,
                method=method,
                ransacReprojThreshold=threshold_px,
                maxIters=iterations,
                confidence=confidence,
            )
    except cv2.error:
        return None, None
    if matrix is None or mask is None or matrix.shape != (3, 3):
        return None, None
    return matrix, mask.ravel().astype(bool)


def _estimate_by_poselib(
    points0: np.ndarray, points1: np.ndarray, threshold_px: float, settings: GeometrySettings
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """LO-RANSAC of poselib (Larsson), refined; the same matches give the same estimate."""
    try:
        import poselib
    except ImportError:
        raise MissingExtra("the estimator poselib", "poselib") from None
    # Its homographies measure by a reprojection error, its fundamental matrices by an epipolar one,
    # each in its own option.
    options = {
        "max_iterations": settings.max_iterations,
        "success_prob": settings.confidence,
        "max_reproj_error": threshold_px,
        "max_epipolar_error": threshold_px,
        "seed": 0,
    }
    estimate = (
        poselib.estimate_homography
        if settings.model == "homography"
        else poselib.estimate_fundamental
    )
    matrix, found = estimate(points0, points1, options, {})
    if matrix is None or not found["num_inliers"]:
        return None, None
    mask = np.array(found["inliers"], bool)
    return (
        matrix / matrix[2, 2] if settings.model == "homography" and matrix[2, 2] else matrix
    ), mask


def _inside(points: np.ndarray, size_px: tuple[int, int]) -> np.ndarray:
    """(M,) bool: which points lie on a pixel of the image."""
    width, height = size_px
    x, y = points[:, 0], points[:, 1]
    return (x >= -0.5) & (y >= -0.5) & (x < width - 0.5) & (y < height - 0.5)
