"""How a camera moves: positions over time, smoothed by a model of nearly constant velocity, and
those that no camera could reach.

A Kalman filter forwards, then a Rauch-Tung-Striebel smoother backwards (AIAA Journal, 1965), on a
plane in metres. The state is place and velocity; between two moments the velocity changes by a
random acceleration of so many metres per second squared. A position that lies too far from where
the camera can be is set aside; where three in a row are, and agree with one another, it is the way
before that ends there. Nothing is said of moments without a position: smoothing never makes an
answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from whence.errors import BadOption
from whence.geo import from_local_metres, local_metres
from whence.types import GeoPoint

RADIUS_OVER_SIGMA = 2.146
"""The radius that holds 90 % of a normal distribution on a plane, over its standard deviation along
an axis."""
PLAIN_SIGMA_M = 25.0
"""Of a position without a calibrated radius."""


@dataclass(frozen=True, slots=True)
class Motion:
    """The motion model's constants: those of a car in a town, which a walker keeps as well."""

    acceleration_m_s2: float = 2.0
    """Standard deviation of the acceleration along an axis."""
    start_speed_m_s: float = 15.0
    """Standard deviation of the velocity before anything is known of it."""
    gate: float = 13.8
    """Squared distance in standard deviations beyond which a position is set aside: one right one
    in a thousand is."""
    max_gap_s: float = 30.0
    """After so long without a position the way begins anew."""
    num_to_restart: int = 3

    def __post_init__(self) -> None:
        if (
            min(
                self.acceleration_m_s2,
                self.start_speed_m_s,
                self.gate,
                self.max_gap_s,
                self.num_to_restart,
            )
            <= 0
        ):
            raise BadOption("the constants of a motion model are above 0")


class Smoothed(NamedTuple):
    """Positions of N moments; NaN where there was none, or where it was set aside."""

    lat: np.ndarray
    lon: np.ndarray
    is_set_aside: np.ndarray
    """(N,) bool."""


def smooth(
    seconds: np.ndarray,
    lat: np.ndarray,
    lon: np.ndarray,
    sigma_m: np.ndarray,
    *,
    motion: Motion = Motion(),
) -> Smoothed:
    """Positions (N,) at moments (N,), ascending, with standard deviations (N,) along each axis, NaN
    for moments without one."""
    known = np.flatnonzero(np.isfinite(lat) & np.isfinite(lon))
    out_lat, out_lon = np.full(len(lat), np.nan), np.full(len(lon), np.nan)
    is_aside = np.zeros(len(lat), bool)
    if not len(known):
        return Smoothed(out_lat, out_lon, is_aside)
    origin = GeoPoint(float(lat[known[0]]), float(lon[known[0]]))
    places = local_metres(lat[known], lon[known], origin=origin)
    moments, sigmas = seconds[known].astype(float), sigma_m[known].astype(float)
    kept = np.zeros(len(known), bool)
    for way in _ways(moments, places, sigmas, motion):
        rows = np.array(way)
        kept[rows] = True
        states = _smoothed(moments[rows], places[rows], sigmas[rows], motion)
        out_lat[known[rows]], out_lon[known[rows]] = from_local_metres(
            states[:, 0], states[:, 1], origin=origin
        )
    is_aside[known[~kept]] = True
    return Smoothed(out_lat, out_lon, is_aside)


def _ways(
    seconds: np.ndarray, places: np.ndarray, sigmas: np.ndarray, motion: Motion
) -> list[list[int]]:
    """The rows of each way, one after the other; rows in none are set aside."""
    ways: list[list[int]] = []
    waiting: list[int] = []
    filtered: _Filter | None = None
    for row, moment in enumerate(seconds):
        if filtered is None or moment - filtered.moment > motion.max_gap_s:
            filtered, waiting = _Filter(moment, places[row], sigmas[row], motion), []
            ways.append([row])
            continue
        if filtered.take(moment, places[row], sigmas[row]):
            ways[-1].append(row)
            waiting = []
            continue
        waiting = _agreeing([*waiting, row], seconds, places, sigmas, motion)
        if len(waiting) >= motion.num_to_restart:
            filtered = _Filter(seconds[waiting[0]], places[waiting[0]], sigmas[waiting[0]], motion)
            for later in waiting[1:]:
                filtered.take(seconds[later], places[later], sigmas[later])
            ways.append(waiting)
            waiting = []
    return ways


def _agreeing(
    rows: list[int], seconds: np.ndarray, places: np.ndarray, sigmas: np.ndarray, motion: Motion
) -> list[int]:
    """The last of the rows, with those right before them that one way goes through."""
    for first in range(len(rows)):
        start = rows[first]
        filtered = _Filter(seconds[start], places[start], sigmas[start], motion)
        if all(filtered.take(seconds[row], places[row], sigmas[row]) for row in rows[first + 1 :]):
            return rows[first:]
    return rows[-1:]


class _Filter:
    """Where a camera is, and how fast it goes, from what was seen so far: (place, velocity) along
    both axes alike."""

    def __init__(self, moment: float, place: np.ndarray, sigma_m: float, motion: Motion) -> None:
        self.motion, self.moment = motion, float(moment)
        self.state = np.array([place, [0.0, 0.0]])
        """(2, 2): place and velocity, east and north."""
        self.spread = np.diag([sigma_m**2, motion.start_speed_m_s**2])

    def predicted(self, moment: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The step's matrix, the state and its spread at a later moment."""
        span = moment - self.moment
        step = np.array([[1.0, span], [0.0, 1.0]])
        noise = self.motion.acceleration_m_s2**2 * np.array(
            [[span**4 / 4, span**3 / 2], [span**3 / 2, span**2]]
        )
        return step, step @ self.state, step @ self.spread @ step.T + noise

    def take(self, moment: float, place: np.ndarray, sigma_m: float) -> bool:
        """Whether a camera could be there then; if so it is taken to be."""
        _, state, spread = self.predicted(float(moment))
        off = place - state[0]
        whole = spread[0, 0] + sigma_m**2
        if float(off @ off) / whole > self.motion.gate:
            return False
        gain = spread[:, 0] / whole
        self.state = state + gain[:, None] * off
        self.spread = spread - np.outer(gain, spread[0])
        self.moment = float(moment)
        return True


def _smoothed(
    seconds: np.ndarray, places: np.ndarray, sigmas: np.ndarray, motion: Motion
) -> np.ndarray:
    """(n, 2) places of one way, each by all that was seen before and after."""
    filtered = _Filter(seconds[0], places[0], sigmas[0], motion)
    states, spreads = [filtered.state], [filtered.spread]
    steps = []
    for row in range(1, len(seconds)):
        steps.append(filtered.predicted(float(seconds[row])))
        filtered.take(seconds[row], places[row], sigmas[row])
        states.append(filtered.state)
        spreads.append(filtered.spread)
    for row in range(len(seconds) - 2, -1, -1):
        step, state, spread = steps[row]
        gain = spreads[row] @ step.T @ np.linalg.pinv(spread)
        states[row] = states[row] + gain @ (states[row + 1] - state)
    return np.array([state[0] for state in states])
