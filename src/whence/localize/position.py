"""From ranked candidates to a position: `estimate_position` by similarity alone,
`position_of_accepted` by verified evidence.

Without verification the answer is as good as the best candidate: `radius_m` and `confidence` stay
None, because nothing has calibrated them.
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
SUPPORT_RADIUS_M = 60.0
"""Verified candidates this near to the best one may take part: photos of one scene are farther
apart than photos of one spot."""
SUPPORT_SHARE = 0.15
"""Share of the best one's inliers below which a verified candidate has no say."""
MIN_SCALE_M = 5.0
"""What a position from photos with satellite fixes cannot be better than."""
MAX_SPACING_M = 60.0


class Estimate(NamedTuple):
    """Where the candidates say the photo was taken."""

    status: PositionStatus
    point: GeoPoint | None
    heading_deg: float | None
    num_supporting: int
    """Candidates the point was averaged over."""


def estimate_position(candidates: Sequence[Candidate]) -> Estimate:
    """The place of the best candidate, averaged with those of the next ones that lie within
    `CONSENSUS_RADIUS_M` of it.

    Each is weighted by the square of how far its similarity stands above the last candidate's, so a
    photo between two database photos is placed between them, while weak candidates and those
    elsewhere have no say. The heading is averaged likewise, over candidates that look within 60
    degrees of the best one's heading.
    `matched` where the best candidate has no coordinates, `unknown` where there are no candidates.
    """
    if not candidates:
        return Estimate("unknown", None, None, 0)
    best = candidates[0]
    if best.point is None:
        return Estimate("matched", None, best.heading_deg, 1)
    floor = min(candidate.similarity for candidate in candidates)
    near = [
        candidate
        for candidate in candidates[:NUM_CONSENSUS]
        if candidate.point is not None and _is_near(candidate, best)
    ]
    weights = np.array([(candidate.similarity - floor) ** 2 for candidate in near], float)
    if not weights.sum() > 0:
        near, weights = [best], np.ones(1)
    points = [candidate.point for candidate in near if candidate.point is not None]
    lat, lon = np.array([point.lat for point in points]), np.array([point.lon for point in points])
    point = points[0] if len(points) == 1 else mean_point(lat, lon, weights)
    return Estimate("located", point, _heading(near, weights), len(near))


class VerifiedEstimate(NamedTuple):
    """Where verified candidates say the photo was taken, and how far apart they are."""

    point: GeoPoint | None
    heading_deg: float | None
    scale_m: float
    """Length that errors are proportional to: the radius is a calibrated multiple of it."""
    num_supporting: int


def position_of_accepted(
    candidates: Sequence[Candidate], *, spacing_m: float = MAX_SPACING_M
) -> VerifiedEstimate:
    """The place where the candidates with evidence, the first of which is accepted, put the photo.

    Candidates near the first one are averaged, weighted by the square of their inliers, which fall
    with the distance between two viewpoints. One wrong candidate changes little: elsewhere it has
    no say, nearby it is a weak voice that lies not far off. The scale joins what a position cannot
    be better than, the spread of the supporting candidates and, where these are few, half of
    `spacing_m`, the distance from the first candidate to the next place the database knows. The
    heading is averaged over candidates within 60 degrees of the first one's.
    """
    first = candidates[0]
    near = [one for one in candidates if _supports(one, first)]
    inliers = np.array([one.num_inliers or 0 for one in near], float)
    weights = (
        (inliers / max(inliers.max(initial=1), 1)) ** 2 if inliers.any() else np.ones(len(near))
    )
    heading = _heading(near, weights)
    if first.point is None:
        return VerifiedEstimate(None, heading, MIN_SCALE_M, len(near))
    points = [one.point for one in near if one.point is not None]
    lat, lon = np.array([point.lat for point in points]), np.array([point.lon for point in points])
    point = points[0] if len(points) == 1 else mean_point(lat, lon, weights)
    east_north = local_metres(lat, lon, origin=point)
    spread = float(np.sqrt((weights * (east_north**2).sum(axis=-1)).sum() / weights.sum()))
    num_places = 1 + int((np.linalg.norm(east_north - east_north[0], axis=-1) > 1.0).sum())
    unseen = min(spacing_m, MAX_SPACING_M) / 2 / num_places
    return VerifiedEstimate(
        point, heading, float(np.sqrt(MIN_SCALE_M**2 + spread**2 + unseen**2)), len(near)
    )


def spacing_at(point: GeoPoint, lat: np.ndarray, lon: np.ndarray) -> float:
    """Metres from a database photo to the nearest one (N,) at another place, more than a metre
    away; `MAX_SPACING_M` at most."""
    # A coarse box first: only photos nearby are measured exactly.
    reach_deg = MAX_SPACING_M / 111_000
    wide = reach_deg / max(np.cos(np.radians(point.lat)), 1e-3)
    close = (np.abs(lat - point.lat) <= reach_deg) & (
        np.abs((lon - point.lon + 180) % 360 - 180) <= wide
    )
    gaps = np.linalg.norm(local_metres(lat[close], lon[close], origin=point), axis=-1)
    return float(min(gaps[gaps > 1.0].min(initial=MAX_SPACING_M), MAX_SPACING_M))


def _supports(one: Candidate, first: Candidate) -> bool:
    if one is first:
        return True
    if (
        one.point is None
        or first.point is None
        or (one.num_inliers or 0) < SUPPORT_SHARE * (first.num_inliers or 0)
    ):
        return False
    if one.evidence is None or one.evidence.similarity <= 0:
        return False
    east_north = local_metres(np.array(one.point.lat), np.array(one.point.lon), origin=first.point)
    return bool(np.hypot(*east_north) <= SUPPORT_RADIUS_M)


def _is_near(candidate: Candidate, best: Candidate) -> bool:
    assert candidate.point is not None
    assert best.point is not None
    east_north = local_metres(
        np.array(candidate.point.lat), np.array(candidate.point.lon), origin=best.point
    )
    return bool(np.hypot(*east_north) <= CONSENSUS_RADIUS_M)


def _heading(near: Sequence[Candidate], weights: np.ndarray) -> float | None:
    if near[0].heading_deg is None:
        return None
    first = near[0].heading_deg
    kept = [
        (candidate.heading_deg, weight)
        for candidate, weight in zip(near, weights, strict=True)
        if candidate.heading_deg is not None
        and abs((candidate.heading_deg - first + 180) % 360 - 180) <= 60
    ]
    headings, shares = (
        np.array([heading for heading, _ in kept]),
        np.array([weight for _, weight in kept]),
    )
    return mean_heading_deg(headings, shares if shares.sum() > 0 else None)
