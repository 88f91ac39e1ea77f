"""What one source says about where and when a photo was taken, and how several sources become one
photo's record."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime

from whence.data.names import parse_name
from whence.data.tiles import parse_footprint_name
from whence.geo import distance_m
from whence.types import GeoPoint, PlanePoint

CONTRADICTION_M = 100.0
"""Metres between EXIF and a stated position from which they contradict each other, where EXIF
states no larger error."""
_NULL_ISLAND_DEG = 1e-5
"""Latitude and longitude below this, a metre, are the zeros of a receiver without a fix."""

_YEARS = range(2, 9999)
"""Times at the ends of the calendar cannot be moved between time zones; cameras write them for
"unknown"."""


@dataclass(frozen=True, slots=True)
class Placement:
    """Position, heading and time as one source states them; None where it is silent."""

    source: str = ""
    """csv, geojson, sidecar, name, exif or xmp."""
    point: GeoPoint | None = None
    plane: PlanePoint | None = None
    heading_deg: float | None = None
    heading_is_magnetic: bool = False
    error_m: float | None = None
    time: datetime | None = None
    doubt: str = ""
    """Why the position the source states is not taken; empty where it is, or where there is
    none."""


def is_null_island(point: GeoPoint | None) -> bool:
    """Whether a point is latitude 0, longitude 0, which cameras and programs write for "no fix"."""
    return (
        point is not None
        and abs(point.lat) < _NULL_ISLAND_DEG
        and abs(point.lon) < _NULL_ISLAND_DEG
    )


def without_position(placement: Placement) -> Placement:
    """The same without its position; heading and time stay."""
    return replace(placement, point=None, plane=None, error_m=None)


def contradiction_m(placement: Placement, exif: Placement) -> float | None:
    """Metres between the position of a table or name and EXIF's; None where they agree within
    EXIF's error, or one is silent."""
    if (
        placement.source not in ("csv", "geojson", "name")
        or placement.point is None
        or exif.point is None
    ):
        return None
    gap = distance_m(placement.point, exif.point)
    return gap if gap > max(CONTRADICTION_M, exif.error_m or 0.0) else None


def placement_from_name(path: str) -> Placement:
    """The placement of an "@" file name, of EarthLoc's the middle of its corners; an empty
    placement for other names."""
    footprint = parse_footprint_name(path)
    if footprint is not None:
        return Placement("name", GeoPoint(*footprint.centre), time=footprint.time)
    fields = parse_name(path)
    if fields is None:
        return Placement("name")
    return Placement(
        "name", fields.point, fields.plane, fields.heading_deg, time=fields.time, doubt=fields.doubt
    )


def merge_placements(placements: Iterable[Placement]) -> Placement:
    """One placement of several, the most trusted first.

    Position, heading and time are each taken from the first source that states them, so a table
    with positions alone keeps the camera's heading. Altitude and positioning error come with the
    position. Plane coordinates below a stated position would contradict it and are dropped.
    `source` names where the position came from; it is empty where there is none.
    """
    point, plane, source, error_m = None, None, "", None
    heading: Placement | None = None
    time = None
    for one in placements:
        if point is None:
            plane = one.plane if plane is None else plane
            if one.point is not None:
                point, source, error_m = one.point, one.source, one.error_m
            elif one.plane is not None and not source:
                source = one.source
        if heading is None and one.heading_deg is not None:
            heading = one
        if time is None and one.time is not None and one.time.year in _YEARS:
            time = one.time
    return Placement(
        source=source,
        point=point,
        plane=plane,
        heading_deg=None if heading is None else heading.heading_deg,
        heading_is_magnetic=heading is not None and heading.heading_is_magnetic,
        error_m=error_m,
        time=time,
    )
