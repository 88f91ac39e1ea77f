"""How far matched points moved alike: the spatial scores of the re-ranking benchmark (Barbarani et
al., CVPRW 2023).

Larger is better, where the authors' scores are smaller for better candidates.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from whence.matching.matchers import Pairs, match_descriptors

MAX_ITERATIONS = 2000
CONFIDENCE = 0.995
LEVEL_WEIGHTS = (0.45, 0.15, 0.40)
"""What the patch sizes 2, 5 and 8 count (Hausler et al., Patch-NetVLAD, CVPR 2021)."""


class SpatialScore(NamedTuple):
    """How well points fit, and how many."""

    similarity: float
    num_matches: int
    num_inliers: int


class LevelPoints(NamedTuple):
    """The described points of one image at one level: points (N, 2) and unit descriptors (N, D)."""

    points: np.ndarray
    descriptors: np.ndarray


def mutual_pairs(
    query: LevelPoints, candidate: LevelPoints, *, min_similarity: float | None = None
) -> Pairs:
    """Mutual nearest neighbours, without a ratio test; those below `min_similarity` left out."""
    pairs = match_descriptors(query.descriptors, candidate.descriptors, ratio=1.0)
    if min_similarity is None:
        return pairs
    alike = np.einsum(
        "nd,nd->n", query.descriptors[pairs.rows0], candidate.descriptors[pairs.rows1]
    )
    kept = alike >= min_similarity
    return Pairs(pairs.rows0[kept], pairs.rows1[kept])


def ransac_score(
    query: LevelPoints, candidate: LevelPoints, *, threshold_px: float
) -> SpatialScore:
    """Mutual neighbours that fit a homography from the candidate to the query, over the query's
    points.

    With one to three mutual neighbours their number counts; a homography that is not found has no
    inliers.
    """
    pairs = mutual_pairs(query, candidate, min_similarity=0.0)
    num_matches, num_points = len(pairs.rows0), max(len(query.points), 1)
    if num_matches < 4:
        return SpatialScore(num_matches / num_points, num_matches, 0)
    points0, points1 = (
        points.astype(np.float64)
        for points in (query.points[pairs.rows0], candidate.points[pairs.rows1])
    )
    order = np.lexsort((points1[:, 1], points1[:, 0], points0[:, 1], points0[:, 0]))
    _, mask = cv2.findHomography(
        points1[order],
        points0[order],
        method=cv2.RANSAC,
        ransacReprojThreshold=threshold_px,
        maxIters=MAX_ITERATIONS,
        confidence=CONFIDENCE,
    )
    num_inliers = 0 if mask is None else int(mask.sum())
    return SpatialScore(num_inliers / num_points, num_matches, num_inliers)


def rapid_score(query: LevelPoints, candidate: LevelPoints) -> SpatialScore:
    """How little mutual neighbours stray from their mean displacement, per axis and squared, over
    the query's points."""
    pairs = mutual_pairs(query, candidate)
    num_matches, num_points = len(pairs.rows0), max(len(query.points), 1)
    if not num_matches:
        return SpatialScore(0.0, 0, 0)
    moved = candidate.points[pairs.rows1].astype(np.float64) - query.points[pairs.rows0]
    strayed = np.abs(moved - moved.mean(axis=0))
    most = np.concatenate([query.points, candidate.points]).max(axis=0)
    return SpatialScore(float(((most - strayed) ** 2).sum()) / num_points, num_matches, 0)


def levels_score(
    query: Sequence[LevelPoints],
    candidate: Sequence[LevelPoints],
    *,
    threshold_px: float,
    weights: Sequence[float] = LEVEL_WEIGHTS,
) -> SpatialScore:
    """The weighted sum of the RANSAC scores of several levels."""
    found = [
        ransac_score(*pair, threshold_px=threshold_px)
        for pair in zip(query, candidate, strict=True)
    ]
    similarity = sum(weight * one.similarity for weight, one in zip(weights, found, strict=True))
    return SpatialScore(
        similarity, sum(one.num_matches for one in found), sum(one.num_inliers for one in found)
    )
