"""Positions of several kinds brought onto one plane: metres of several zones, metres without one,
latitudes and longitudes."""

from __future__ import annotations

import numpy as np

from whence.data.photos import Photos
from whence.geo import from_utm_arrays, mean_point, parse_zone, to_utm_arrays, utm_zone


def on_one_plane(
    east_m: np.ndarray,
    north_m: np.ndarray,
    zone: np.ndarray | str,
    *,
    points: tuple[np.ndarray, np.ndarray] | None = None,
    plane: str | None = None,
) -> tuple[np.ndarray, np.ndarray, str]:
    """East and north (N,) float64 on one plane, NaN where nobody knows, and the UTM zone that it is
    of; empty for a free one.

    `zone` is that of all, or of each (N,) text. `points` are latitudes and longitudes (N,), NaN for
    none; they say where photos are that have no metres, or metres without a zone, which without a
    point are taken to lie in the plane's. The plane is that of most photos, or the one asked for.
    On a free plane asked for, metres of a zone lie nowhere.
    """
    east_m, north_m = np.asarray(east_m, float), np.asarray(north_m, float)
    if points is None and isinstance(zone, str) and plane in (None, zone):
        return east_m, north_m, zone
    zones = np.full(len(east_m), zone) if isinstance(zone, str) else zone
    has_metres = np.isfinite(east_m) & np.isfinite(north_m)
    names, which, counts = np.unique(zones[has_metres], return_inverse=True, return_counts=True)
    stated = {
        k: text
        for k, name in enumerate(names)
        if (text := name.decode() if isinstance(name, bytes) else str(name))
    }
    by_point = np.zeros(len(east_m), bool)
    if points is not None:
        by_point = np.isfinite(points[0]) & np.isfinite(points[1])
        by_point[has_metres] &= ~np.isin(which, list(stated))
    if plane is None:
        plane = _usual(
            stated, counts, by_point & ~has_metres, points, has_free=len(stated) < len(names)
        )
    others = [k for k, text in stated.items() if not plane or parse_zone(text) != parse_zone(plane)]
    if others or (plane and by_point.any()):
        east_m, north_m = east_m.copy(), north_m.copy()
    if plane and points is not None:
        east_m[by_point], north_m[by_point] = to_utm_arrays(
            points[0][by_point], points[1][by_point], zone=plane
        )
    for k in others:
        rows = np.flatnonzero(has_metres)[which == k]
        if plane:
            lat, lon = from_utm_arrays(east_m[rows], north_m[rows], zone=stated[k])
            east_m[rows], north_m[rows] = to_utm_arrays(lat, lon, zone=plane)
        else:
            east_m[rows] = north_m[rows] = np.nan
    return east_m, north_m, plane


def photos_on_plane(photos: Photos, plane: str | None = None) -> tuple[np.ndarray, np.ndarray, str]:
    """The same of photos."""
    columns = photos.columns
    points = tuple(
        np.where(photos.has_point, values, np.nan) for values in (photos.lat, photos.lon)
    )
    return on_one_plane(
        columns["east_m"],
        columns["north_m"],
        columns["zone"],
        points=(points[0], points[1]),
        plane=plane,
    )


def _usual(
    zones: dict[int, str],
    counts: np.ndarray,
    has_point_alone: np.ndarray,
    points: tuple[np.ndarray, np.ndarray] | None,
    *,
    has_free: bool,
) -> str:
    if zones:
        return zones[max(zones, key=lambda k: counts[k])]
    if has_free or points is None or not has_point_alone.any():
        return ""
    middle = mean_point(points[0][has_point_alone], points[1][has_point_alone])
    return utm_zone(middle.lat, middle.lon)
