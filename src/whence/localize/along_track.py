"""Photos along a GPX track: how far a camera's clock is off the track's, and where its photos were
taken by that.

Photos whose places are known, by a geotag or by what they show, lie on the track at the right shift
of the clock and beside it at others; the shift at which most of them do is taken, if no other one
does nearly as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from whence.data.photos import NO_TIME, Photos
from whence.data.tracks import Track, read_gpx
from whence.geo import haversine_m
from whence.localize.timeline import Timeline
from whence.types import GeoPoint

NEAR_M = 30.0
"""A photo lies on the track where both say places so near."""
FEWEST = 3
"""Photos on the track that a shift is believed by."""
_MOST = 64
"""Photos that are asked, spread over all."""
_APART_S = 60.0
"""Shifts so far apart are two."""
_RIVAL = 0.75
"""A second shift with more than this share of the best one's photos leaves it open which is
right."""
_CHUNK = 2_000


class TrackHint(NamedTuple):
    """Where the track was when a photo was taken."""

    point: GeoPoint
    shift_s: float
    """Seconds that were added to the photo's clock."""
    source: str
    """Name of the track, and how the shift is known."""


class Shift(NamedTuple):
    """How far a clock is off."""

    seconds: float
    """To be added to the clock for the track's time."""
    num: int
    """Photos that lie on the track by it."""
    num_asked: int


@dataclass(frozen=True, slots=True)
class TrackOptions:
    """A track to place by, and how far the photos' clocks are off it."""

    file: Path
    shift_s: float | None = None
    """Seconds to add to the photos' clocks, their zone included where they state none; None to find
    out."""


def find_shift(track: Track, time_us: np.ndarray, lat: np.ndarray, lon: np.ndarray) -> Shift | None:
    """The shift of a clock by photos (N,) of known places; None where fewer than `FEWEST` agree, or
    several shifts would do.

    Found to a tenth of a second; right as far as the places are.
    """
    if min(len(time_us), len(track.time_us) - 1) < FEWEST:
        return None
    rows = np.unique(np.linspace(0, len(time_us) - 1, min(len(time_us), _MOST)).round().astype(int))
    samples = (np.asarray(time_us, np.int64)[rows], np.asarray(lat)[rows], np.asarray(lon)[rows])
    first, last = (
        (track.time_us[0] - samples[0].max()) / 1e6,
        (track.time_us[-1] - samples[0].min()) / 1e6,
    )
    step = _step_s(track)
    shifts = np.arange(first, last + step, step)
    costs = _costs(track, samples, shifts)
    best = float(shifts[int(costs.argmin())])
    for finer in (step / 5, step / 25, 0.1):
        near = best + finer * np.arange(-6, 7)
        best = float(near[int(_costs(track, samples, near).argmin())])
    num = int((_gaps(track, samples, np.array([best]))[0] < NEAR_M).sum())
    others = shifts[np.abs(shifts - best) > _APART_S]
    rival = max(
        (int((_gaps(track, samples, part) < NEAR_M).sum(axis=1).max()) for part in _parts(others)),
        default=0,
    )
    if num < FEWEST or 2 * num < len(rows) or rival > _RIVAL * num:
        return None
    return Shift(round(best, 1), num, len(rows))


def track_hints(
    photos: Photos, times: Timeline, *, options: TrackOptions, sightings: Mapping[int, GeoPoint]
) -> tuple[dict[int, TrackHint], tuple[str, ...]]:
    """For rows without a point: where the track was then; and remarks on the shift. `sightings` are
    places that sight found for rows.

    Clocks that state UTC and clocks that show local time alone are two. The shift of each comes of
    its own photos: of those without a geotag by what they show, which are asked about, else of
    those with one. Raises `UnreadableTable`.
    """
    track = read_gpx(options.file)
    hints: dict[int, TrackHint] = {}
    remarks: list[str] = []
    is_missing = ~photos.has_point
    for clock, time_us, is_asked in (
        ("UTC", times.utc_us, times.utc_us != NO_TIME),
        (
            "the camera's clock",
            times.local_us,
            (times.utc_us == NO_TIME) & (times.local_us != NO_TIME),
        ),
    ):
        rows = np.flatnonzero(is_asked & is_missing)
        if not len(rows):
            continue
        shift_s, how = _shift_of(
            track, photos, time_us, sightings, options.shift_s, is_utc=clock == "UTC"
        )
        remarks.append(f"{track.name}, {len(rows)} photos by {clock}: {how}")
        if shift_s is None:
            continue
        lat, lon = track.at(time_us[rows] + round(shift_s * 1e6))
        source = f"{track.name}, {how}"
        for row, at_lat, at_lon in zip(rows.tolist(), lat.tolist(), lon.tolist(), strict=True):
            if np.isfinite(at_lat):
                hints[row] = TrackHint(GeoPoint(at_lat, at_lon), shift_s, source)
    return hints, tuple(remarks)


def _shift_of(
    track: Track,
    photos: Photos,
    time_us: np.ndarray,
    points: Mapping[int, GeoPoint],
    given_s: float | None,
    *,
    is_utc: bool,
) -> tuple[float | None, str]:
    """The shift of one clock, and how it is known or why not."""
    if given_s is not None:
        return given_s, f"shifted by {given_s:+g} s as given"
    timed_rows = np.array([row for row in points if time_us[row] != NO_TIME], np.int64)
    by_sight = find_shift(
        track,
        time_us[timed_rows],
        np.array([points[row].lat for row in timed_rows]),
        np.array([points[row].lon for row in timed_rows]),
    )
    tagged = np.flatnonzero(photos.has_point & (time_us != NO_TIME))
    by_tags = find_shift(track, time_us[tagged], photos.lat[tagged], photos.lon[tagged])
    # A geotag is the more exact, but only where it is of the same clock.
    if by_tags is not None and (
        by_sight is None or abs(by_tags.seconds - by_sight.seconds) <= _APART_S
    ):
        return (
            by_tags.seconds,
            (
                f"shifted by {by_tags.seconds:+g} s, found by {by_tags.num} of "
                f"{by_tags.num_asked} geotagged photos"
            ),
        )
    if by_sight is not None:
        seconds = by_sight.seconds
        return (
            seconds,
            (
                f"shifted by {seconds:+g} s, found by {by_sight.num} of {by_sight.num_asked} "
                "photos that were recognised"
            ),
        )
    if is_utc and not len(timed_rows) and not len(tagged):
        return 0.0, "taken as they are, as no photo of a known place says how far they are off"
    return (
        None,
        (
            "not placed by it, as no shift of the clock puts enough photos of known places on it; "
            "--shift SECONDS gives one"
        ),
    )


def _step_s(track: Track) -> float:
    """Seconds in which hardly anybody on the track went farther than a photo may lie beside it."""
    seconds = np.diff(track.time_us) / 1e6
    metres = haversine_m(track.lat[:-1], track.lon[:-1], track.lat[1:], track.lon[1:])
    fast = float(np.percentile(metres / np.maximum(seconds, 1e-3), 95))
    return float(np.clip(NEAR_M / max(fast, 0.1) / 2, 0.5, 5.0))


def _gaps(
    track: Track, samples: tuple[np.ndarray, np.ndarray, np.ndarray], shifts: np.ndarray
) -> np.ndarray:
    """Metres (S, N) between each photo and the track at each shift; infinite where the track says
    nothing."""
    times = samples[0] + np.round(shifts[:, None] * 1e6).astype(np.int64)
    lat, lon = track.at(times.ravel())
    gaps = haversine_m(lat.reshape(times.shape), lon.reshape(times.shape), samples[1], samples[2])
    return np.where(np.isfinite(gaps), gaps, np.inf)


def _costs(
    track: Track, times: tuple[np.ndarray, np.ndarray, np.ndarray], shifts: np.ndarray
) -> np.ndarray:
    """(S,) summed distances; a photo costs at most twice what is near, so that wrong places cost no
    more than missing ones."""
    parts = [
        np.minimum(_gaps(track, times, part), 2 * NEAR_M).sum(axis=1) for part in _parts(shifts)
    ]
    return np.concatenate(parts)


def _parts(shifts: np.ndarray) -> list[np.ndarray]:
    return [shifts[start : start + _CHUNK] for start in range(0, len(shifts), _CHUNK)]
