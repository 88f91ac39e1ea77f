"""The times of a collection on two clocks, the camera's and UTC, so that like is compared with
like."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np

from whence.data.clocks import Clocks
from whence.data.photos import NO_TIME, NO_ZONE, Photos

_QUARTER_US = 15 * 60 * 1_000_000
_LARGEST_OFFSET_US = 14 * 3600 * 1_000_000 + _QUARTER_US
_CLOCK_ERROR_US = 5 * 60 * 1_000_000
"""Zones are whole quarters of an hour; a camera's clock may be wrong by this."""
_MIN_AGREEING = 0.6


@dataclass(frozen=True, slots=True)
class Timeline:
    """When photos were taken, in microseconds as `Photos.time_us`; `NO_TIME` where a clock is
    silent."""

    local_us: np.ndarray
    """(N,) int64 on the camera's clock, which shows local time."""
    utc_us: np.ndarray
    """(N,) int64."""
    remarks: tuple[str, ...] = ()
    """How times of two kinds were compared, or that they could not be."""


def timeline(photos: Photos, clocks: Sequence[Clocks] = ()) -> Timeline:
    """The times of photos on both clocks; `clocks` are what the photos' own blocks say, one for
    each, where they were read.

    Where some photos have local times alone and others UTC alone, the offset between them is
    inferred from photos that carry both, if these agree; the UTC times are then put on the camera's
    clock, and the remarks say so.
    """
    is_timed = photos.time_us != NO_TIME
    is_naive = photos.time_zone_min == NO_ZONE
    local = np.where(is_timed & is_naive, photos.time_us, NO_TIME)
    utc = np.where(is_timed & ~is_naive, photos.time_us, NO_TIME)
    # UTC is what receivers and Takeout state; only another zone shows what the camera's clock
    # showed.
    zoned = is_timed & ~is_naive & (photos.time_zone_min != 0)
    local[zoned] = photos.time_us[zoned] + photos.time_zone_min[zoned].astype(np.int64) * 60_000_000
    for row, clock in enumerate(clocks):
        shown, stamp = _microseconds(clock.camera), _microseconds(clock.gps)
        if (
            utc[row] != NO_TIME
            and shown != NO_TIME
            and abs(shown - int(utc[row])) <= _LARGEST_OFFSET_US
        ):
            local[row] = shown
        elif utc[row] == NO_TIME and local[row] != NO_TIME and stamp != NO_TIME:
            utc[row] = stamp if abs(stamp - int(local[row])) <= _LARGEST_OFFSET_US else NO_TIME
    return _joined(local, utc)


def _joined(local: np.ndarray, utc: np.ndarray) -> Timeline:
    only_local = (local != NO_TIME) & (utc == NO_TIME)
    only_utc = (utc != NO_TIME) & (local == NO_TIME)
    if not only_local.any() or not only_utc.any():
        return Timeline(local, utc)
    both = (local != NO_TIME) & (utc != NO_TIME)
    gaps = local[both] - utc[both]
    quarters = np.rint(gaps / _QUARTER_US).astype(np.int64)
    votes = Counter(quarters[np.abs(gaps - quarters * _QUARTER_US) <= _CLOCK_ERROR_US].tolist())
    num_utc, num_local = int(only_utc.sum()), int(only_local.sum())
    if not votes or max(votes.values()) < _MIN_AGREEING * int(both.sum()):
        why = (
            "no photo carries both"
            if not both.any()
            else "the photos that carry both do not agree on a zone"
        )
        said = (
            f"{num_utc} times in UTC and {num_local} on the camera's clock are not compared with "
            f"each other: {why}"
        )
        return Timeline(local, utc, (said,))
    offset, num_agreeing = votes.most_common(1)[0]
    minutes = offset * 15
    zone = f"UTC{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02d}:{abs(minutes) % 60:02d}"
    local = np.where(only_utc, utc + offset * _QUARTER_US, local)
    carried = (
        "1 photo that carries both"
        if num_agreeing == 1
        else f"{num_agreeing} photos that carry both"
    )
    said = (
        f"{num_utc} times in UTC are compared with {num_local} on the camera's clock, taken as "
        f"{zone} by {carried}"
    )
    return Timeline(local, utc, (said,))


def _microseconds(time: datetime | None) -> int:
    if time is None:
        return int(NO_TIME)
    aware = time.replace(tzinfo=UTC) if time.utcoffset() is None else time
    return (aware - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
