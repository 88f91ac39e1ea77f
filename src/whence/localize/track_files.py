"""Tracks as files: GeoJSON with a line and its places, and GPX."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from whence.data.geotags import Waypoint, write_gpx
from whence.localize.tracking import TrackPoint, located_line
from whence.runtime import atomic_write


def write_line(path: str, points: Sequence[TrackPoint]) -> None:
    """A track as GeoJSON: the line, in pieces where a frame is unknown, then each place with its
    time, radius and confidence."""
    pieces = [[_lon_lat(one) for one in piece] for piece in located_line(points)]
    line = {"type": "MultiLineString", "coordinates": [piece for piece in pieces if len(piece) > 1]}
    counts = {"num_frames": len(points), "num_located": sum(map(len, pieces))}
    features: list[dict[str, Any]] = [{"type": "Feature", "geometry": line, "properties": counts}]
    for one in points:
        if one.position.point is not None:
            about = {
                key: value
                for key, value in one.to_dict().items()
                if key not in ("position", "candidates", "unsmoothed")
            }
            about["radius_m"] = one.position.radius_m
            features.append(
                {
                    "type": "Feature",
                    "geometry": {"type": "Point", "coordinates": _lon_lat(one)},
                    "properties": about,
                }
            )
    with atomic_write(path, "w") as file:
        json.dump(
            {"type": "FeatureCollection", "features": features}, file, ensure_ascii=False, indent=1
        )


def _lon_lat(point: TrackPoint) -> list[float]:
    at = point.position.point
    return [] if at is None else [at.lon, at.lat]


def _waypoints(start: datetime | None, piece: Sequence[TrackPoint]) -> list[Waypoint]:
    found = []
    for one in piece:
        time = None if start is None else start + timedelta(seconds=one.seconds)
        if one.position.point is not None:
            found.append(Waypoint(one.position.query, one.position.point, time))
    return found


def write_track(path: str, lines: Sequence[tuple[datetime | None, Sequence[TrackPoint]]]) -> None:
    """Write pieces of tracks as GPX, each with the time at which its drive began, where it is
    known. Raises `UnwritableFile`."""
    write_gpx(path, (), track=[_waypoints(*line) for line in lines])
