"""Is retrieval sure of its first candidate? Scores of uncertainty, and a probability from them and
the first candidate's inliers.

L2, perceptual aliasing (PA) and spatial uncertainty (SUE, Zaffar et al.) look at the retrieved
candidates alone; the inliers of the first candidate cost one comparison (To match or not to match,
image matching for reliable VPR, CVPRW 2025). Larger is surer.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from whence.geo import to_earth_centred
from whence.types import Candidate, PairEvidence

SURE_FEATURES = ("log_inliers", "l2", "pa", "sue")
"""Log of one plus the inliers of the first candidate (of a scorer that counts none, its
similarity), minus the squared distance of its descriptor, minus the ratio to the second's, minus
the log of one plus the spatial variance in square metres."""
SUE_SLOPE = 350.0
SUE_NEIGHBORS = 10
SUE_MAX_M = 500.0


def squared_distances(similarities: np.ndarray) -> np.ndarray:
    """Squared Euclidean distances of unit vectors with these inner products, as float64."""
    return np.maximum(2 - 2 * np.asarray(similarities, np.float64), 0.0)


def l2_scores(squared: np.ndarray) -> np.ndarray:
    """(Q,) minus the squared distance (Q, K) of the first candidate."""
    return -np.asarray(squared, np.float64)[:, 0]


def pa_scores(squared: np.ndarray) -> np.ndarray:
    """(Q,) minus the ratio of the squared distances (Q, K) of the first to the second candidate;
    with a single one, 0.

    Two candidates at distance 0 are as alike as can be: minus 1.
    """
    squared = np.asarray(squared, np.float64)
    if squared.shape[1] < 2:
        return np.zeros(len(squared))
    return -np.where(squared[:, 1] > 0, squared[:, 0] / np.maximum(squared[:, 1], 1e-300), 1.0)


def sue_scores(
    squared: np.ndarray,
    positions: np.ndarray,
    *,
    slope: float = SUE_SLOPE,
    num_neighbors: int = SUE_NEIGHBORS,
    max_m: float = SUE_MAX_M,
    is_capped_above_only: bool = False,
) -> np.ndarray:
    """(Q,) minus the spatial variance of the first candidates, weighted by how alike they are.

    `squared` (Q, K) squared distances of descriptors, `positions` (Q, K, d) metres. Offsets from
    the mean are cut at `max_m` both ways; the authors' code cuts them above only. The weights are
    formed from differences in float64, so they cannot all vanish. Candidates of unknown position or
    distance (NaN) do not count; without any the score is NaN.
    """
    near = np.asarray(squared, np.float64)[:, :num_neighbors]
    places = np.asarray(positions, np.float64)[:, :num_neighbors]
    is_known = np.isfinite(places).all(axis=2) & np.isfinite(near)
    gaps = np.where(is_known, near, np.inf)
    least = gaps.min(axis=1, keepdims=True, initial=np.inf)
    weights = np.exp(
        -slope * np.where(is_known, near - np.where(np.isfinite(least), least, 0.0), np.inf)
    )
    total = weights.sum(axis=1, keepdims=True)
    weights = np.divide(weights, total, out=np.full_like(weights, np.nan), where=total > 0)
    places = np.where(is_known[..., None], places, 0.0)
    offsets = places - (weights[..., None] * places).sum(axis=1, keepdims=True)
    offsets = (
        np.minimum(offsets, max_m) if is_capped_above_only else np.clip(offsets, -max_m, max_m)
    )
    # Per axis on a plane of two; candidates in space lie on the ground, so that their third axis
    # adds no third dimension.
    return -(weights[..., None] * offsets**2).sum(axis=(1, 2)) / 2


def sure_features(candidates: Sequence[Candidate], first: PairEvidence | None) -> np.ndarray:
    """The features (4,) of retrieved candidates, in the order of retrieval, and of what comparing
    the first one found."""
    ranked = sorted(candidates, key=lambda one: one.retrieved_rank or one.rank)
    squared = squared_distances(np.array([[one.similarity for one in ranked]]))
    points = [one.point for one in ranked]
    lat, lon = (
        np.array([[np.nan if one is None else getattr(one, name) for one in points]])
        for name in ("lat", "lon")
    )
    variance = -sue_scores(squared, to_earth_centred(lat, lon))[0]
    found = (
        0.0
        if first is None
        else float(first.similarity if first.num_inliers is None else first.num_inliers)
    )
    # Without positions nothing is known of the spread: the largest that the cut allows.
    spread = np.log1p(variance if np.isfinite(variance) else SUE_MAX_M**2)
    return np.array(
        [np.log1p(max(found, 0.0)), l2_scores(squared)[0], pa_scores(squared)[0], -spread]
    )


def sure_probability(features: np.ndarray, weights: Sequence[float]) -> float:
    """Probability that the first candidate shows the place; `weights` are a bias and one weight per
    feature."""
    return float(
        1 / (1 + np.exp(-np.clip(weights[0] + float(np.dot(weights[1:], features)), -50, 50)))
    )
