"""When a photo was taken, as its EXIF block says: on the camera's clock, and on the receiver's.

Sources: Exif 2.32 / 3.0 (CIPA DC-008); IS-GPS-200 for the week counter, which starts again every
1024 weeks.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any, NamedTuple

_TIME_ORIGINAL, _TIME_DIGITIZED = 0x9003, 0x9004
_OFFSET, _OFFSET_ORIGINAL, _OFFSET_DIGITIZED, _TIME_ZONE_HOURS = 0x9010, 0x9011, 0x9012, 0x882A
_SUBSECONDS_ORIGINAL, _SUBSECONDS_DIGITIZED = 0x9291, 0x9292
_GPS_CLOCK, _GPS_DATE = 7, 29
_FORM = re.compile(
    (
        r"(\d{4})[:/.\- ](\d{1,2})[:/.\- ](\d{1,2})[T "
        r"]+(\d{1,2})[:.](\d{1,2})(?:[:.](\d{1,2})(?:[.,](\d+))?)?\s*(Z|[+-]\d{2}:?\d{2})?"
    ),
    re.ASCII,
)
_OFFSET_TEXT = re.compile(r"([+-])([01]\d|2[0-3]):?([0-5]\d)", re.ASCII)
_FIRST_GPS_YEAR = 1990
"""Receivers without a date state the year their clocks count from: 1970 or 1980."""
_WEEK_ZEROS = (date(1980, 1, 6), date(1999, 8, 22), date(2019, 4, 7))
_ROLLOVER = timedelta(weeks=1024)
_LARGEST_OFFSET = timedelta(hours=26)
"""Local time and UTC differ by up to 14 hours; a camera set to the wrong zone by twelve more."""

Tags = Mapping[int, Any]


class Clocks(NamedTuple):
    """What the clocks of a photo show; None where one is silent or cannot be believed."""

    camera: datetime | None = None
    """Local time, without a zone."""
    offset: timezone | None = None
    """The camera's own zone, where it states one."""
    gps: datetime | None = None
    """UTC."""

    @property
    def time(self) -> datetime | None:
        """The camera's time where its offset from UTC is known, else the receiver's, else the
        camera's without a zone."""
        if self.camera is not None and self.offset is not None:
            return self.camera.replace(tzinfo=self.offset)
        return self.gps or self.camera


def clocks_of(gps: Tags, camera: Tags) -> Clocks:
    """The clocks of a photo by its GPS and Exif directories.

    The digitised time stands in for the original. A receiver that has lost count (a date of 1970 or
    1980, or 1024 weeks off the camera's) is not believed.
    """
    shown, offset = _camera_time(camera)
    stamp = _gps_time(gps)
    return Clocks(shown, offset, stamp if stamp is None or _is_believed(stamp, shown) else None)


def parse_exif_time(text: str) -> datetime | None:
    """A time written "YYYY:MM:DD hh:mm:ss", as EXIF does, or in the ways that come near; with a
    zone where one is written."""
    match = _FORM.fullmatch(text.strip(" \0"))
    if match is None:
        return None
    year, month, day, hour, minute, second = (int(part or 0) for part in match.groups()[:6])
    microsecond = int((match[7] or "0")[:6].ljust(6, "0"))
    try:
        return datetime(
            year, month, day, hour, minute, second, microsecond, parse_offset(match[8] or "")
        )
    except ValueError:
        return None


def parse_offset(text: str) -> timezone | None:
    """A zone written "+02:00", "-0330" or "Z"."""
    text = text.strip(" \0")
    if text == "Z":
        return UTC
    match = _OFFSET_TEXT.fullmatch(text)
    if match is None:
        return None
    span = timedelta(hours=int(match[2]), minutes=int(match[3]))
    return timezone(-span if match[1] == "-" else span)


def _camera_time(camera: Tags) -> tuple[datetime | None, timezone | None]:
    for time_tag, subseconds_tag, offset_tag in (
        (_TIME_ORIGINAL, _SUBSECONDS_ORIGINAL, _OFFSET_ORIGINAL),
        (_TIME_DIGITIZED, _SUBSECONDS_DIGITIZED, _OFFSET_DIGITIZED),
    ):
        shown = parse_exif_time(_text(camera.get(time_tag)))
        if shown is None:
            continue
        digits = _text(camera.get(subseconds_tag)).strip(" \0")
        if digits.isascii() and digits.isdigit():
            shown = shown.replace(microsecond=int(digits[:6].ljust(6, "0")))
        written = shown.tzinfo if isinstance(shown.tzinfo, timezone) else None
        offset = (
            parse_offset(_text(camera.get(offset_tag)))
            or written
            or parse_offset(_text(camera.get(_OFFSET)))
        )
        return shown.replace(tzinfo=None), offset or _zone_of_hours(camera.get(_TIME_ZONE_HOURS))
    return None, None


def _zone_of_hours(value: Any) -> timezone | None:
    """The zone of TIFF/EP's tag, whole hours."""
    hours = value[0] if isinstance(value, tuple) and value else value
    return (
        timezone(timedelta(hours=hours)) if isinstance(hours, int) and -12 <= hours <= 14 else None
    )


def _gps_time(gps: Tags) -> datetime | None:
    clock = gps.get(_GPS_CLOCK)
    parts = clock.split(":") if isinstance(clock, str) else clock
    if not isinstance(parts, (tuple, list)) or len(parts) != 3:
        return None
    try:
        hours, minutes, seconds = (float(part) for part in parts)
    except (TypeError, ValueError, ZeroDivisionError, OverflowError):
        return None
    day = parse_exif_time(_text(gps.get(_GPS_DATE)).strip(" \0") + " 00:00:00")
    # NaN, as 0/0 reads, is in no range.
    if (
        day is None
        or not (0 <= hours < 24 and 0 <= minutes < 60 and 0 <= seconds < 61)
        or not math.isfinite(seconds)
    ):
        return None
    try:
        return day.replace(tzinfo=UTC) + timedelta(hours=hours, minutes=minutes, seconds=seconds)
    except OverflowError:
        return None


def _is_believed(stamp: datetime, camera: datetime | None) -> bool:
    if stamp.year < _FIRST_GPS_YEAR:
        return False
    if camera is None:
        return True
    gap = abs(stamp.replace(tzinfo=None) - camera)
    if gap <= _LARGEST_OFFSET:
        return True
    turns = round(gap / _ROLLOVER)
    return (
        not (turns and abs(gap - turns * _ROLLOVER) <= _LARGEST_OFFSET)
        and stamp.date() not in _WEEK_ZEROS
    )


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("ascii", "replace")
    return value if isinstance(value, str) else ""
