"""The field's "@" file names: fourteen fields between fifteen "@" signs that carry a photo's
position and capture data.

    @UTM_east@UTM_north@zone_number@zone_letter@latitude@longitude@pano_id@tile_num@heading@pitch@roll@height@timestamp@note@.jpg

Only the first two fields are required. The base name alone is read: an "@" in a folder's name means
nothing. East and north of zero are placeholders where the name says more; numbers that could be
degrees are metres only as the format writes metres. Format: the Deep Visual Geo-localization
Benchmark (Berton et al., CVPR 2022) and its dataset downloader.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePosixPath

from whence.data.numbers import finite_number
from whence.data.zones import BANDS, looks_like_degrees, place_in_zone
from whence.errors import InvalidPoint
from whence.geo import to_utm
from whence.types import GeoPoint, PlanePoint

_TIME = re.compile(r"(\d{4})(?:(\d{2})(?:(\d{2})(?:_?(\d{2})(?:(\d{2})(?:(\d{2}))?)?)?)?)?")

_ZONE = re.compile(rf"0?[1-9][{BANDS}]?|[1-5][0-9][{BANDS}]?|60[{BANDS}]?", re.IGNORECASE)
_PADDED_METRES = re.compile(r"-?[0-9]{6,}\.[0-9]{2}")
"""Metres in the widths of the field's downloader: 0000012.50."""
_METRES = re.compile(r"-?[0-9]+(?:\.[0-9]{2})?")


@dataclass(frozen=True, slots=True)
class NameFields:
    """What an "@" file name says. Missing fields are None or empty."""

    plane: PlanePoint | None = None
    point: GeoPoint | None = None
    doubt: str = ""
    """Why the position it states is not taken; empty where it is."""
    pano_id: str = ""
    tile_num: str = ""
    heading_deg: float | None = None
    pitch_deg: float | None = None
    roll_deg: float | None = None
    height_m: float | None = None
    time: datetime | None = None
    note: str = ""


def parse_name(path: str) -> NameFields | None:
    """The fields of an "@" file name, or None where the base name is not one.

    The point comes from east, north and zone where a zone makes them meaningful, else from the
    latitude and longitude fields. A position that contradicts itself, or whose metres look like
    degrees, is none; `doubt` says why.
    """
    parts = PurePosixPath(path.replace("\\", "/")).name.split("@")
    if len(parts) < 4:
        return None
    east, north = finite_number(parts[1]), finite_number(parts[2])
    if east is None or north is None:
        return None
    fields = parts[1:-1] + [""] * 14
    heading = finite_number(fields[8])
    plane, point, doubt = _position(fields, east, north)
    return NameFields(
        plane=plane,
        point=point,
        doubt=doubt,
        pano_id=fields[6],
        tile_num=fields[7],
        heading_deg=None if heading is None else heading % 360,
        pitch_deg=finite_number(fields[9]),
        roll_deg=finite_number(fields[10]),
        height_m=finite_number(fields[11]),
        time=parse_timestamp(fields[12]),
        note=fields[13],
    )


def _position(
    fields: list[str], east: float, north: float
) -> tuple[PlanePoint | None, GeoPoint | None, str]:
    """Plane, point, and why there is none."""
    point = _stated_point(fields)
    zone = fields[2] + fields[3]
    if not _ZONE.fullmatch(zone) or (zone.isdigit() and point is None):
        zone = ""
    if east == north == 0 and (zone or fields[4] or fields[5]):
        return None, point, ""
    if not zone:
        if (
            not (fields[2] or fields[3])
            and looks_like_degrees(east, north)
            and not _is_written_in_metres(fields)
        ):
            doubt = (
                ""
                if point
                else (
                    "its first two fields look like degrees; latitude and longitude are the fifth "
                    "and sixth field"
                )
            )
            return None, point, doubt
        return PlanePoint(east, north), point, ""
    try:
        # Five decimals of a degree are a metre; the metric fields are finer and are used where a
        # zone makes them meaningful.
        zoned = place_in_zone(east, north, zone=zone, point=point)
    except InvalidPoint as error:
        return None, None, str(error)
    return zoned.plane, zoned.point, ""


def _stated_point(fields: list[str]) -> GeoPoint | None:
    lat, lon = finite_number(fields[4]), finite_number(fields[5])
    if lat is None or lon is None or abs(lon) > 180:
        return None
    try:
        return GeoPoint(lat, lon)
    except InvalidPoint:
        return None


def _is_written_in_metres(fields: list[str]) -> bool:
    """Whether both numbers have the form the field's downloader gives metres, or run along an axis,
    as tracks do."""
    if all(_PADDED_METRES.fullmatch(text) and len(text) >= 10 for text in fields[:2]):
        return True
    return 0.0 in (float(fields[0]), float(fields[1])) and all(
        _METRES.fullmatch(text) for text in fields[:2]
    )


def format_name(
    *,
    point: GeoPoint | None = None,
    plane: PlanePoint | None = None,
    pano_id: str = "",
    tile_num: int | None = None,
    heading_deg: float | None = None,
    pitch_deg: float | None = None,
    roll_deg: float | None = None,
    height_m: float | None = None,
    time: datetime | None = None,
    note: str = "",
    extension: str = ".jpg",
) -> str:
    """The "@" file name of a photo, in the widths of the field's downloader. Give a point, a plane
    position, or both."""
    if point is None and plane is None:
        raise InvalidPoint('an "@" file name needs a position')
    if plane is None:
        assert point is not None
        plane = PlanePoint(*to_utm(point))
    if any("@" in text or "/" in text for text in (pano_id, note, extension)):
        raise InvalidPoint('"@" and "/" cannot stand inside a field of an "@" file name')
    fields = [
        f"{plane.east_m:010.2f}",
        f"{plane.north_m:010.2f}",
        plane.zone[:-1],
        plane.zone[-1:],
        "" if point is None else f"{point.lat:09.5f}",
        "" if point is None else f"{point.lon:010.5f}",
        pano_id,
        "" if tile_num is None else f"{tile_num:02d}",
        "" if heading_deg is None else f"{round(heading_deg) % 360:03d}",
        "" if pitch_deg is None else f"{round(pitch_deg):03d}",
        "" if roll_deg is None else f"{round(roll_deg):03d}",
        "" if height_m is None else f"{height_m:.2f}",
        "" if time is None else time.strftime("%Y%m%d_%H%M%S"),
        note,
    ]
    return "@" + "@".join(fields) + "@" + extension


def parse_timestamp(text: str) -> datetime | None:
    """A time written YYYYMMDD_hhmmss, cut anywhere from the right; missing parts are the
    earliest."""
    match = _TIME.fullmatch(text)
    if match is None:
        return None
    year, month, day, hour, minute, second = (
        int(part) if part else None for part in match.groups()
    )
    try:
        return datetime(year or 1, month or 1, day or 1, hour or 0, minute or 0, second or 0)
    except ValueError:
        return None
