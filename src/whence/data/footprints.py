"""Footprints: polygons of latitude and longitude that photos and tiles show, what they share, and
how GeoJSON writes them.

Areas and overlaps are those on an equal-area plane around the polygons (Lambert), so that the
antimeridian and the poles are nothing special. Polygons are convex, as those of photos of flat
ground are; they must be smaller than a hemisphere.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

from whence.data.tiles import (
    EARTH_RADIUS_KM,
    box_corners,
    parse_footprint_name,
    parse_xyz_path,
    tile_boxes,
)
from whence.geo import haversine_m

_LEAST_SHARE = 1e-6
"""Of the smaller polygon: what touching edges give by rounding is no overlap."""
_TILE_DEG = 1e-6


def footprint_of(path: str, *, point: tuple[float, float] | None = None) -> np.ndarray | None:
    """(4, 2) latitude and longitude of an image's corners by its name: lower left, upper left,
    upper right, lower right; or None.

    ZOOM/COLUMN/ROW is taken for a tile only where the photo's `point` is the middle of that cell.
    """
    named = parse_footprint_name(path)
    if named is not None:
        return np.array(named.corners)
    cell = parse_xyz_path(path)
    if cell is None or point is None:
        return None
    box = tile_boxes(np.array([cell]), cells=1)
    south, west, north, east = box[0]
    is_there = (
        abs(point[0] - (south + north) / 2) < _TILE_DEG
        and abs(point[1] - (west + east) / 2) < _TILE_DEG
    )
    return box_corners(box)[0] if is_there else None


def centre_of(corners: np.ndarray) -> tuple[float, float]:
    """Latitude and longitude of the middle of a polygon (n, 2), in space: the antimeridian and the
    poles are not special."""
    mean = _units(corners).mean(axis=0)
    lat = np.degrees(np.arctan2(mean[2], np.hypot(mean[0], mean[1])))
    return float(lat), float(np.degrees(np.arctan2(mean[1], mean[0])))


def area_km2(corners: np.ndarray) -> float:
    """Square kilometres of a polygon (n, 2) of latitude and longitude on a sphere."""
    x, y = on_plane_km(corners, around=centre_of(corners)).T
    return float(abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2)


def overlap_km2(first: np.ndarray, second: np.ndarray) -> float:
    """Square kilometres that two convex polygons (n, 2) of latitude and longitude share."""
    around = centre_of(np.concatenate([first, second]))
    planes = [on_plane_km(corners, around=around).astype(np.float32) for corners in (first, second)]
    area, _ = cv2.intersectConvexConvex(planes[0], planes[1])
    return float(area)


def iou(first: np.ndarray, second: np.ndarray) -> float:
    """The area that two convex polygons share, as a share of the area they cover together."""
    shared = overlap_km2(first, second)
    whole = area_km2(first) + area_km2(second) - shared
    return shared / whole if whole > 0 else 0.0


def overlapping(first: np.ndarray, others: np.ndarray, *, least_iou: float = 0.0) -> np.ndarray:
    """Rows (M,) of the polygons `others` (N, 4, 2) that share an area with `first` (4, 2), or more
    of it than `least_iou`."""
    others = np.asarray(others, float)
    centres, reach_m = centres_and_reach(others)
    (own,), (own_reach_m,) = centres_and_reach(np.asarray(first, float)[None])
    near = haversine_m(own[0], own[1], centres[:, 0], centres[:, 1]) < reach_m + own_reach_m
    rows = np.flatnonzero(near)
    own_km2 = area_km2(first)
    kept = []
    for row in rows.tolist():
        shared, other_km2 = overlap_km2(first, others[row]), area_km2(others[row])
        if shared > _LEAST_SHARE * min(own_km2, other_km2) and shared > least_iou * (
            own_km2 + other_km2 - shared
        ):
            kept.append(row)
    return np.array(kept, np.int64)


def centres_and_reach(polygons: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(N, 2) the middles of polygons (N, 4, 2), and (N,) metres from there to the farthest
    corner."""
    mean = _units(polygons.reshape(-1, 2)).reshape(len(polygons), -1, 3).mean(axis=1)
    lat = np.degrees(np.arctan2(mean[:, 2], np.hypot(mean[:, 0], mean[:, 1])))
    lon = np.degrees(np.arctan2(mean[:, 1], mean[:, 0]))
    far = haversine_m(lat[:, None], lon[:, None], polygons[..., 0], polygons[..., 1]).max(
        axis=1, initial=0.0
    )
    return np.stack([lat, lon], axis=1), np.asarray(far)


def on_plane_km(corners: np.ndarray, *, around: tuple[float, float]) -> np.ndarray:
    """(n, 2) kilometres east and north on Lambert's equal-area plane around a place of corners (n,
    2) in degrees."""
    lat, lon = np.radians(np.asarray(corners, float)).T
    lat0, lon0 = np.radians(around)
    cosine = np.sin(lat0) * np.sin(lat) + np.cos(lat0) * np.cos(lat) * np.cos(lon - lon0)
    scale = EARTH_RADIUS_KM * np.sqrt(2 / np.maximum(1 + cosine, 1e-9))
    east = np.cos(lat) * np.sin(lon - lon0)
    north = np.cos(lat0) * np.sin(lat) - np.sin(lat0) * np.cos(lat) * np.cos(lon - lon0)
    return np.stack([scale * east, scale * north], axis=1)


def as_geojson(corners: np.ndarray) -> dict[str, Any]:
    """The polygon (n, 2) of latitude and longitude as a GeoJSON geometry, counter-clockwise.

    One that crosses the antimeridian is cut there (RFC 7946); one around a pole is closed along it.
    """
    lat, lon = np.asarray(corners, float).T
    turns = np.rint((np.roll(lon, -1) - lon) / 360)
    unwrapped = lon - np.concatenate([[0], np.cumsum(turns)[:-1]]) * 360
    ring = np.stack([unwrapped, lat], axis=1)
    if turns.sum():
        # Once around a pole: along the antimeridian's other copy to the pole and back.
        pole = 90.0 if lat.mean() > 0 else -90.0
        last = ring[0] - [360 * turns.sum(), 0]
        ring = np.concatenate([ring, [last], [[last[0], pole]], [[ring[0, 0], pole]]])
    parts = [
        part for shift in (-360, 0, 360) if len(part := _clipped(ring + np.array([shift, 0]))) >= 3
    ]
    rings = [[_ring(part)] for part in parts]
    if len(rings) == 1:
        return {"type": "Polygon", "coordinates": rings[0]}
    return {"type": "MultiPolygon", "coordinates": rings}


def _units(corners: np.ndarray) -> np.ndarray:
    lat, lon = np.radians(np.asarray(corners, float)).T
    return np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=1)


def _clipped(ring: np.ndarray) -> np.ndarray:
    """The part of a ring (n, 2) of longitude and latitude between the longitudes -180 and 180."""
    for sign, limit in ((1.0, 180.0), (-1.0, 180.0)):
        inside = sign * ring[:, 0] <= limit
        points: list[np.ndarray] = []
        for this, following, is_in, is_next_in in zip(
            ring, np.roll(ring, -1, 0), inside, np.roll(inside, -1), strict=True
        ):
            if is_in:
                points.append(this)
            if is_in != is_next_in:
                share = (sign * limit - this[0]) / (following[0] - this[0])
                points.append(this + share * (following - this))
        ring = np.array(points).reshape(-1, 2)
    return ring if len(ring) and np.ptp(ring[:, 0]) > 0 else ring[:0]


def _ring(points: np.ndarray) -> list[list[float]]:
    x, y = points.T
    if np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)) < 0:
        points = points[::-1]
    points = points[np.abs(points - np.roll(points, 1, 0)).max(axis=1) > 0]
    closed: Sequence[np.ndarray] = [*points, points[0]]
    return [[round(float(lon), 7), round(float(lat), 7)] for lon, lat in closed]
