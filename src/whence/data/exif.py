"""Position, heading and time from a photo's EXIF block. A damaged or senseless tag is the same as a
missing one.

Source of the tags: Exif 2.32 / 3.0 (CIPA DC-008), attributes of the GPS and Exif directories.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from PIL import Image

from whence.data.clocks import Clocks, clocks_of
from whence.data.decoding import quiet
from whence.data.degrees import LATITUDE, LONGITUDE, join_degrees
from whence.data.numbers import finite_number
from whence.data.placement import Placement
from whence.errors import InvalidPoint
from whence.types import GeoPoint

_EXIF_DIRECTORY, _GPS_DIRECTORY = 0x8769, 0x8825
_LAT_REF, _LAT, _LON_REF, _LON, _ALTITUDE_REF, _ALTITUDE = 1, 2, 3, 4, 5, 6
_DIRECTION_REF, _DIRECTION, _ERROR = 16, 17, 31
_BELOW_SEA_LEVEL = (1, 3)

Tags = Mapping[int, Any]


def placement_from_exif(exif: Image.Exif) -> Placement:
    """The placement that an EXIF block states; silent where it says nothing usable.

    A point needs degrees and a hemisphere for both axes: without the reference its sign is unknown.
    The time is the camera's where its offset from UTC is known, else the GPS stamp (UTC), else the
    camera's without a zone.
    """
    gps, camera = _directory(exif, _GPS_DIRECTORY), _directory(exif, _EXIF_DIRECTORY)
    heading = _number(gps.get(_DIRECTION))
    error = _number(gps.get(_ERROR))
    has_heading = heading is not None and abs(heading) <= 360
    point = _point(gps)
    is_stated = None not in (_numbers(gps.get(_LAT)), _numbers(gps.get(_LON)))
    return Placement(
        source="exif",
        point=point,
        doubt="its EXIF position lacks a hemisphere or contradicts itself"
        if is_stated and point is None
        else "",
        heading_deg=heading % 360 if heading is not None and has_heading else None,
        heading_is_magnetic=has_heading and _letter(gps.get(_DIRECTION_REF)) == "M",
        error_m=error if error is not None and error >= 0 else None,
        time=clocks_of(gps, camera).time,
    )


def clocks_from_exif(exif: Image.Exif) -> Clocks:
    """The camera's and the receiver's clocks."""
    return clocks_of(_directory(exif, _GPS_DIRECTORY), _directory(exif, _EXIF_DIRECTORY))


def _directory(exif: Image.Exif, tag: int) -> Tags:
    with quiet():
        try:
            return exif.get_ifd(tag)
        except Exception:  # A damaged block must never cost the photo.
            return {}


def _point(gps: Tags) -> GeoPoint | None:
    lat_parts, lon_parts = _numbers(gps.get(_LAT)), _numbers(gps.get(_LON))
    if lat_parts is None or lon_parts is None:
        return None
    lat = join_degrees(lat_parts, letter=_letter(gps.get(_LAT_REF)), axis=LATITUDE)
    lon = join_degrees(lon_parts, letter=_letter(gps.get(_LON_REF)), axis=LONGITUDE)
    if lat is None or lon is None:
        return None
    altitude = _number(gps.get(_ALTITUDE))
    if altitude is not None and _small_integer(gps.get(_ALTITUDE_REF)) in _BELOW_SEA_LEVEL:
        altitude = -abs(altitude)
    try:
        return GeoPoint(lat, lon, altitude)
    except InvalidPoint:
        return None


def _number(value: Any) -> float | None:
    """A finite number; None for 0/0, text and anything else."""
    if isinstance(value, (tuple, list)):
        value = value[0] if len(value) == 1 else None
    return None if isinstance(value, (str, bytes)) else finite_number(value)


def _numbers(value: Any) -> list[float] | None:
    """Finite numbers of a tag with several values, or None where one is not."""
    parts = [_number(part) for part in (value if isinstance(value, (tuple, list)) else (value,))]
    return None if None in parts else [part for part in parts if part is not None]


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("ascii", "replace")
    return value if isinstance(value, str) else ""


def _letter(value: Any) -> str:
    return _text(value).strip(" \0")[:1].upper()


def _small_integer(value: Any) -> int:
    if isinstance(value, bytes):
        return value[0] if len(value) == 1 else 0
    return value if isinstance(value, int) else 0
