"""From ranked candidates to a position.

Without verification the answer is as good as the best candidate: `radius_m` and `confidence` stay None, because nothing here has
calibrated them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from whence.geo import local_metres, mean_heading_deg, mean_point
from whence.types import Candidate, GeoPoint, PositionStatus

CONSENSUS_RADIUS_M = 30.0
"""Candidates this near to the best one are taken to show the same place."""
NUM_CONSENSUS = 5
"""Candidates that may take part in the position."""


class Estimate(NamedTuple):
    """Where the candidates say the photo was taken."""

    status: PositionStatus
    point: GeoPoint | None
    heading_deg: float | None
    num_supporting: int
    """Candidates the point was averaged over."""


def estimate_position(candidates: Sequence[Candidate]) -> Estimate:
    """The place of the best candidate, averaged with those of the next ones that lie within `CONSENSUS_RADIUS_M` of it.

    Each is weighted by the square of how far its similarity stands above the last candidate's, so a photo between two database
    photos is placed between them, while weak candidates and those elsewhere have no say. The heading is averaged likewise,
    over candidates that look within 60 degrees of the best one's heading.
    `matched` where the best candidate has no coordinates, `unknown` where there are no candidates.
    """
    if not candidates:
        return Estimate("unknown", None, None, 0)
    best = candidates[0]
    if best.point is None:
        return Estimate("matched", None, best.heading_deg, 1)
    floor = min(candidate.similarity for candidate in candidates)
    near = [candidate for candidate in candidates[:NUM_CONSENSUS] if candidate.point is not None and _is_near(candidate, best)]
    weights = np.array([(candidate.similarity - floor) ** 2 for candidate in near], float)
    if not weights.sum() > 0:
        near, weights = [best], np.ones(1)
    points = [candidate.point for candidate in near if candidate.point is not None]
    lat, lon = np.array([point.lat for point in points]), np.array([point.lon for point in points])
    point = points[0] if len(points) == 1 else mean_point(lat, lon, weights)
    return Estimate("located", point, _heading(near, weights), len(near))


def _is_near(candidate: Candidate, best: Candidate) -> bool:
    assert candidate.point is not None
    assert best.point is not None
    east_north = local_metres(np.array(candidate.point.lat), np.array(candidate.point.lon), origin=best.point)
    return bool(np.hypot(*east_north) <= CONSENSUS_RADIUS_M)


def _heading(near: Sequence[Candidate], weights: np.ndarray) -> float | None:
    if near[0].heading_deg is None:
        return None
    first = near[0].heading_deg
    kept = [
        (candidate.heading_deg, weight)
        for candidate, weight in zip(near, weights, strict=True)
        if candidate.heading_deg is not None and abs((candidate.heading_deg - first + 180) % 360 - 180) <= 60
    ]
    headings, shares = np.array([heading for heading, _ in kept]), np.array([weight for _, weight in kept])
    return mean_heading_deg(headings, shares if shares.sum() > 0 else None)
