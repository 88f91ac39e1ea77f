"""Co-registrations by the published rules: when a candidate is right, and from how many inliers on
it is surely so."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from whence.data.footprints import centre_of, on_plane_km

SURE = 0.999
"""Probability from which a candidate counts as found, so that all matchers are compared at the same
one."""
_LEAST_TRUE = 4
_STEPS = 200


def inlier_threshold(true: Sequence[float], false: Sequence[float], *, sure: float = SURE) -> float:
    """Inliers from which a candidate is right with a probability of `sure`, by those of right and
    of wrong candidates.

    -1 where there are no wrong ones, so that everything is accepted; 4 for fewer than four right
    ones; infinite where more inliers speak against a candidate. Logistic regression with the usual
    penalty of half the squared slope.
    """
    if not len(false):
        return -1.0
    if len(true) < _LEAST_TRUE:
        return float(_LEAST_TRUE)
    counts = np.concatenate([true, false]).astype(float)
    labels = np.concatenate([np.ones(len(true)), np.zeros(len(false))])
    slope, intercept = _fit(counts, labels)
    if slope <= 0:
        return float("inf")
    return float((np.log(sure / (1 - sure)) - intercept) / slope)


def holds_middle(
    footprint: np.ndarray, middle: tuple[float, float], *, enlarged: float = 3.0
) -> bool:
    """Whether a footprint (4, 2), enlarged about its own middle, strictly holds a place given by a
    person, as published."""
    lat, lon = np.asarray(footprint, float).T
    lon = middle[1] + (lon - middle[1] + 180) % 360 - 180
    corners = np.stack([lat, lon], axis=1)
    own = _centroid(corners)
    corners = own + enlarged * (corners - own)
    ahead = np.roll(corners, -1, axis=0) - corners
    to_place = np.asarray(middle) - corners
    sides = ahead[:, 0] * to_place[:, 1] - ahead[:, 1] * to_place[:, 0]
    return bool((sides > 0).all() or (sides < 0).all())


def corner_errors_km(estimate: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """(4,) kilometres between the corners (4, 2) of two footprints."""
    around = centre_of(truth)
    return np.asarray(
        np.linalg.norm(
            on_plane_km(estimate, around=around) - on_plane_km(truth, around=around), axis=1
        )
    )


def _centroid(corners: np.ndarray) -> np.ndarray:
    """Of a polygon's area."""
    x, y = corners.T
    following = np.roll(corners, -1, axis=0)
    cross = x * following[:, 1] - y * following[:, 0]
    total = cross.sum()
    if abs(total) < 1e-12:
        return np.asarray(corners.mean(axis=0))
    return np.asarray(((corners + following) * cross[:, None]).sum(axis=0) / (3 * total))


def _fit(counts: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """Slope and intercept by Newton's method, halved where it would climb."""
    # Centred counts have the same slope, and a better conditioned step.
    middle = counts.mean()
    x = np.stack([counts - middle, np.ones(len(counts))], axis=1)
    weights = np.zeros(2)

    def cost(at: np.ndarray) -> float:
        margins = (2 * labels - 1) * (x @ at)
        return float(np.logaddexp(0, -margins).sum() + at[0] ** 2 / 2)

    for _ in range(_STEPS):
        chances = 1 / (1 + np.exp(-np.clip(x @ weights, -500, 500)))
        gradient = x.T @ (chances - labels) + np.array([weights[0], 0])
        curvature = (x * (chances * (1 - chances))[:, None]).T @ x + np.diag([1.0, 1e-12])
        step, scale = np.linalg.solve(curvature, gradient), 1.0
        while scale > 1e-9 and cost(weights - scale * step) > cost(weights):
            scale /= 2
        weights = weights - scale * step
        if np.abs(scale * step).max() < 1e-10:
            break
    return float(weights[0]), float(weights[1] - weights[0] * middle)
