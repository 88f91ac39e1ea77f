"""UTM positions as people write them: the letter after a zone is a latitude band for some and a
hemisphere for others."""

from __future__ import annotations

import re
from typing import NamedTuple

from whence.errors import InvalidPoint
from whence.geo import distance_m, from_utm, utm_zone
from whence.types import GeoPoint, PlanePoint

BANDS = "CDEFGHJKLMNPQRSTUVWX"
SELF_AGREE_M = 1000.0
"""Metres that metric fields and the latitude and longitude beside them may lie apart before they
contradict each other."""
_ZONE = re.compile(
    r"(?:WGS ?84)?[ /]*(?:UTM)?[ _-]*(?:ZONE)?[ _-]*([0-9]{1,2})[ _-]*([A-Z]*)", re.IGNORECASE
)
_EPSG = re.compile(r"(?:EPSG:{1,2})?32([67])([0-9]{2})", re.IGNORECASE)
_SOUTH, _NORTH = ("S", "SOUTH", "SOUTHERN", "-1"), ("N", "NORTH", "NORTHERN", "1", "+1")
_BAND_SLACK_DEG = {True: 0.05, False: 1.0}
"""How far outside its band a position may lie: little for "S", which says another thing to most,
much for a letter written once for a whole set."""


class Zoned(NamedTuple):
    """A UTM position and the point it means."""

    plane: PlanePoint
    point: GeoPoint


def looks_like_degrees(first: float, second: float) -> bool:
    """Whether two numbers that should be metres could be a latitude and longitude, in either
    order."""
    return (abs(first) <= 90 and abs(second) <= 180) or (abs(first) <= 180 and abs(second) <= 90)


def place_in_zone(
    east_m: float, north_m: float, *, zone: str, hemisphere: str = "", point: GeoPoint | None = None
) -> Zoned:
    """The position of metres in a zone: "56H" (a latitude band), "56S" (a band or a hemisphere),
    "56" or EPSG:32756.

    A letter is a latitude band unless that contradicts the northing, the `hemisphere` column or the
    `point` that is stated beside; then N and S are hemispheres. Without any of these a zone lies
    north. Raises `InvalidPoint` where no reading is free of contradictions.
    """
    number, letter, is_south = _parse(zone, hemisphere)
    if looks_like_degrees(east_m, north_m):
        raise InvalidPoint(
            f"east {east_m:g}, north {north_m:g} look like degrees, not like metres in UTM zone "
            f"{zone}"
        )
    readings = {
        south: found
        for south in (False, True)
        if (found := _reading(east_m, north_m, number, south)) is not None
    }
    if is_south is not None:
        readings = {south: found for south, found in readings.items() if south == is_south}
    if not readings:
        raise InvalidPoint(f"east {east_m}, north {north_m} is outside UTM zone {zone}")
    if point is not None:
        chosen = min(readings, key=lambda south: distance_m(readings[south], point))
        gap = distance_m(readings[chosen], point)
        if gap > SELF_AGREE_M:
            raise InvalidPoint(
                f"its UTM position in zone {zone} lies {gap / 1000:.0f} km from its latitude and "
                "longitude"
            )
    else:
        chosen = _choose(readings, zone, letter, is_south)
    found = readings[chosen]
    written = f"{number:02d}{letter}"
    if chosen != (bool(letter) and letter < "N"):
        written = f"{number:02d}{utm_zone(found.lat, found.lon)[-1]}"
    return Zoned(PlanePoint(east_m, north_m, written), found)


def _choose(readings: dict[bool, GeoPoint], zone: str, letter: str, is_south: bool | None) -> bool:
    """Which hemisphere the letter means."""
    if not letter:
        if is_south is None and False not in readings:
            raise InvalidPoint(
                f"the northing does not lie in the northern zone {zone}; say in which hemisphere "
                "it is"
            )
        return bool(is_south)
    by_band = letter < "N"
    if by_band in readings and _is_in_band(readings[by_band].lat, letter):
        return by_band
    by_hemisphere = {"N": False, "S": True}.get(letter)
    if by_hemisphere is None or by_hemisphere not in readings:
        raise InvalidPoint(f"the letter of zone {zone} contradicts its northing or hemisphere")
    return by_hemisphere


def _is_in_band(lat: float, letter: str) -> bool:
    south = -80 + 8 * BANDS.index(letter)
    north = 84 if letter == "X" else south + 8
    slack = _BAND_SLACK_DEG[letter in "NS"]
    return south - slack <= lat < north + slack


def _reading(east_m: float, north_m: float, number: int, is_south: bool) -> GeoPoint | None:
    try:
        return from_utm(east_m, north_m, zone=f"{number}{'M' if is_south else 'N'}")
    except InvalidPoint:
        return None


def _parse(zone: str, hemisphere: str) -> tuple[int, str, bool | None]:
    """Zone number, letter (or nothing), and whether the zone lies south where that is stated for
    certain."""
    stated: set[bool] = set()
    side = hemisphere.strip().upper()
    if side and side not in (*_SOUTH, *_NORTH):
        raise InvalidPoint(f"hemisphere {hemisphere!r} is neither N nor S")
    if side:
        stated.add(side in _SOUTH)
    epsg = _EPSG.fullmatch(zone.strip())
    match = _ZONE.fullmatch(zone.strip())
    if epsg is not None:
        stated.add(epsg[1] == "7")
        number, letter = int(epsg[2]), ""
    elif match is not None and zone.isascii():
        number, letter = int(match[1]), match[2].upper()
        if letter in ("SOUTH", "NORTH"):
            stated.add(letter == "SOUTH")
            letter = ""
    else:
        raise InvalidPoint(f"zone {zone!r} is not a UTM zone such as 32V")
    if not 1 <= number <= 60 or len(letter) > 1 or letter not in BANDS:
        raise InvalidPoint(f"{zone!r} is not a UTM zone such as 32V")
    if len(stated) > 1:
        raise InvalidPoint(f"zone {zone!r} contradicts hemisphere {hemisphere!r}")
    return number, letter, next(iter(stated), None)
