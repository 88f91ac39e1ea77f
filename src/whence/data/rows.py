"""What the fields of one row of a table say: a position in degrees, in metres or as a geometry, a
heading and a time."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import NamedTuple

import pyproj

from whence.data.clocks import parse_exif_time
from whence.data.degrees import LATITUDE, LONGITUDE, Axis, parse_degrees
from whence.data.names import parse_timestamp
from whence.data.numbers import finite_number
from whence.data.placement import Placement
from whence.data.zones import SELF_AGREE_M, place_in_zone
from whence.errors import InvalidPoint
from whence.geo import distance_m
from whence.types import GeoPoint, PlanePoint

WGS84 = "EPSG:4326"
_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+")
_WITH_UNIT = re.compile(
    r"([+-]?\d+(?:\.\d+)?)\s*m?(?:et(?:re|er)s?)?\s*(above|below)?(?:\s+sea\s+level)?",
    re.IGNORECASE,
)
_WKT = re.compile(
    r"(?:SRID=(\d+);)?\s*(?:MULTI)?POINT\s*(?:Z|M|ZM)?\s*\(\s*\(?([^(),]*)\)?\s*\)", re.IGNORECASE
)
_EPOCH = re.compile(r"(\d{9,17})(?:\.(\d+))?")
_YEARS = range(1900, 2101)


class Fields(NamedTuple):
    """What a row says, and what of it is not understood though its position is."""

    placement: Placement
    faults: tuple[str, ...] = ()


def parse_fields(values: Mapping[str, str], *, source: str, crs: str = "") -> Fields:
    """The placement of a row, fields by name; `crs` is the coordinate system of x and y, by default
    latitude and longitude.

    Raises `ValueError` and `InvalidPoint` where the position is wrong; another field that is not
    understood costs itself.
    """
    point = _point(values, crs or values.get("crs", ""))
    faults: list[str] = []
    altitude, heading = _lenient(values, "altitude", faults), _lenient(values, "heading", faults)
    if point is not None and point.altitude_m is None and altitude is not None:
        point = GeoPoint(point.lat, point.lon, altitude)
    point, plane = _in_metres(values, point)
    time = None
    if values.get("time"):
        time = parse_time(values["time"])
        if time is None:
            faults.append(f"time {values['time']!r} is not written like 2024-05-31T14:03:00+02:00")
    return Fields(
        Placement(source, point, plane, None if heading is None else heading % 360, time=time),
        tuple(faults),
    )


def parse_time(text: str) -> datetime | None:
    """A time in ISO 8601, as EXIF writes it, as YYYYMMDD_hhmmss, or as seconds, milliseconds or
    microseconds since 1970 (UTC)."""
    text = text.strip()
    compact = parse_timestamp(text)
    if compact is not None and compact.year in _YEARS:
        return compact
    epoch = _EPOCH.fullmatch(text)
    if epoch is not None:
        # 11 digits of seconds reach the year 5138; 12 digits of milliseconds begin in 1973.
        scale = 1 if len(epoch[1]) < 12 else 1000 if len(epoch[1]) < 15 else 1_000_000
        seconds, rest = divmod(int(epoch[1]), scale)
        fraction = float(f"0.{epoch[2]}") if epoch[2] else 0.0
        try:
            moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(
                seconds=seconds + (fraction + rest) / scale
            )
        except OverflowError:
            return None
        return moment if moment.year in _YEARS else None
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return parse_exif_time(text)


def _point(values: Mapping[str, str], crs: str) -> GeoPoint | None:
    wkt = values.get("wkt", "")
    if wkt:
        return _from_wkt(wkt, crs)
    if values.get("x") or values.get("y"):
        return _transformed(_number(values, "x"), _number(values, "y"), None, crs)
    lat = _degrees(values, "lat", LATITUDE)
    lon = _degrees(values, "lon", LONGITUDE)
    if (lat is None) != (lon is None):
        raise ValueError("latitude and longitude must both be given, or both be empty")
    if lon is not None and abs(lon) > 180:
        raise ValueError(f"longitude {lon} is not between -180 and 180")
    return None if lat is None or lon is None else GeoPoint(lat, lon)


def _in_metres(
    values: Mapping[str, str], point: GeoPoint | None
) -> tuple[GeoPoint | None, PlanePoint | None]:
    """The point and plane of a row that has east and north, which must agree with the point it
    states otherwise."""
    east, north, zone = (
        _number(values, "east"),
        _number(values, "north"),
        values.get("zone", "").strip(),
    )
    if (east is None) != (north is None):
        raise ValueError("easting and northing must both be given, or both be empty")
    if east is None or north is None or (east == north == 0 and point is not None):
        return point, None
    if zone:
        zoned = place_in_zone(
            east, north, zone=zone, hemisphere=values.get("hemisphere", ""), point=point
        )
        return point or zoned.point, zoned.plane
    if values.get("crs"):
        found = _transformed(east, north, None, values["crs"])
        if point is not None and found is not None and distance_m(point, found) > SELF_AGREE_M:
            raise ValueError("easting and northing contradict latitude and longitude")
        return point or found, None
    if point is None:
        raise ValueError("easting and northing need a zone, for example 32V")
    return point, PlanePoint(east, north)


def _from_wkt(text: str, crs: str) -> GeoPoint | None:
    match = _WKT.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"geometry {text[:60]!r} is not a POINT")
    try:
        numbers = [float(part) for part in match[2].split()]
    except ValueError:
        numbers = []
    if not 2 <= len(numbers) <= 4 or not all(map(math.isfinite, numbers)):
        raise ValueError(f"geometry {text[:60]!r} is not a POINT of two numbers")
    altitude = numbers[2] if len(numbers) > 2 else None
    return _transformed(numbers[0], numbers[1], altitude, f"EPSG:{match[1]}" if match[1] else crs)


def _transformed(
    x: float | None, y: float | None, altitude_m: float | None, crs: str
) -> GeoPoint | None:
    """The point of x (east, longitude) and y in a coordinate system."""
    if x is None or y is None:
        raise ValueError("x and y must both be given, or both be empty")
    if not crs or crs.strip().upper() in (WGS84, "4326", "WGS84", "OGC:CRS84"):
        if abs(x) > 180:
            raise ValueError(
                f"longitude {x} is not between -180 and 180; x and y in metres need a column crs, "
                "such as EPSG:3006"
            )
        return GeoPoint(y, x, altitude_m)
    lon, lat = to_wgs84(crs).transform(x, y)
    if not (math.isfinite(lon) and math.isfinite(lat)):
        raise ValueError(f"x {x}, y {y} does not lie in {crs}")
    return GeoPoint(float(lat), float(lon), altitude_m)


@lru_cache(maxsize=64)
def to_wgs84(crs: str) -> pyproj.Transformer:
    """The way from x and y of a coordinate system to longitude and latitude. Raises `InvalidPoint`
    for one PROJ does not know."""
    named = f"EPSG:{crs.strip()}" if crs.strip().isdecimal() else crs.strip()
    try:
        return pyproj.Transformer.from_crs(named, WGS84, always_xy=True)
    except pyproj.exceptions.ProjError:
        raise InvalidPoint(
            f"coordinate system {crs!r} is not known; convert to WGS84 longitude and latitude"
        ) from None


def _degrees(values: Mapping[str, str], field: str, axis: Axis) -> float | None:
    text, ref = values.get(field, ""), values.get(f"{field}_ref", "")
    if not text:
        return None
    if _DECIMAL_COMMA.fullmatch(text):
        text = text.replace(",", ".")
    if not ref:
        # A plain number beyond its axis has its own message, elsewhere.
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if math.isfinite(number):
            return number
    degrees = parse_degrees(text, axis, ref=ref)
    if degrees is None:
        beside = f" with hemisphere {ref!r}" if ref else ""
        raise ValueError(f"{field} is {text!r}{beside}, not a number")
    return degrees


def _number(values: Mapping[str, str], field: str) -> float | None:
    text = values.get(field, "")
    if not text:
        return None
    number = finite_number(text)
    if number is None:
        raise ValueError(f"{field} is {text!r}, not a number")
    return number


def _lenient(values: Mapping[str, str], field: str, faults: list[str]) -> float | None:
    """A number, perhaps with its unit ("12.5 m Below Sea Level"); what is none is added to
    `faults`."""
    text = values.get(field, "")
    match = _WITH_UNIT.fullmatch(text)
    if match is not None:
        number = float(match[1])
        return -abs(number) if (match[2] or "").lower() == "below" else number
    if text:
        faults.append(f"{field} is {text!r}, not a number")
    return None
