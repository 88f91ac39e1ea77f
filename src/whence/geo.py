"""Coordinates: WGS84 and UTM, local metres, distances, headings, boxes, neighbours within a radius.

Latitude and longitude in degrees, everything else in metres unless a name says otherwise; arrays
broadcast. Neighbours are found in space (Earth-centred coordinates), so zone edges, the
antimeridian, the equator and the poles are nothing special.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import NamedTuple

import numpy as np
import pyproj

from whence.errors import InvalidPoint
from whence.lists import NeighborLists
from whence.types import GeoPoint

EARTH_RADIUS_M = 6_371_008.8
"""Mean radius of the Earth (IUGG), used by `haversine_m`."""
WGS84_A_M = 6_378_137.0
WGS84_E2 = 6.694_379_990_141_317e-3
_BANDS = "CDEFGHJKLMNPQRSTUVWX"


class Utm(NamedTuple):
    """UTM coordinates: metres east and north, and the zone, for example "32V"."""

    east_m: float
    north_m: float
    zone: str


def utm_zone(lat: float, lon: float) -> str:
    """The UTM zone of a point with its latitude band, the widened zones of Norway and Svalbard
    included.

    Latitudes beyond UTM's range (80 S to 84 N) get the nearest band: positions near the poles keep
    working in UTM terms, but use `local_metres` for anything precise there.
    """
    band = _BANDS[int(min(max((lat + 80) // 8, 0), len(_BANDS) - 1))]
    number = int((lon + 180) % 360 // 6) + 1
    if band == "V" and 3 <= lon < 12:
        number = 32
    if band == "X" and 0 <= lon < 42:
        number = 31 if lon < 9 else 33 if lon < 21 else 35 if lon < 33 else 37
    return f"{number:02d}{band}"


@lru_cache(maxsize=256)
def _utm_transform(number: int, is_south: bool) -> pyproj.Transformer:
    code = (32700 if is_south else 32600) + number
    return pyproj.Transformer.from_crs(4326, code, always_xy=True)


def parse_zone(zone: str) -> tuple[int, bool]:
    """Zone number and whether it lies south of the equator, from "32V", "32" (taken as north) or
    "17T".

    Raises `InvalidPoint`. A lone "S" or "N" is the band of that letter, as in the "@" file names,
    not a hemisphere.
    """
    digits = zone[:-1] if zone[-1:].isalpha() else zone
    band = zone[-1:].upper() if zone[-1:].isalpha() else "N"
    if not digits.isdigit() or not 1 <= int(digits) <= 60 or band not in _BANDS:
        raise InvalidPoint(f"{zone!r} is not a UTM zone such as 32V")
    return int(digits), band < "N"


def to_utm(point: GeoPoint, *, zone: str = "") -> Utm:
    """UTM coordinates of a point, in its own zone or in the one asked for."""
    zone = zone or utm_zone(point.lat, point.lon)
    east, north = _utm_transform(*parse_zone(zone)).transform(point.lon, point.lat)
    return Utm(float(east), float(north), zone)


def from_utm(east_m: float, north_m: float, *, zone: str) -> GeoPoint:
    """The point with these UTM coordinates. Raises `InvalidPoint` where they lie outside what UTM
    can mean."""
    number, is_south = parse_zone(zone)
    if not (-1_000_000 < east_m < 2_000_000 and -100_000 < north_m < 10_100_000):
        raise InvalidPoint(f"east {east_m}, north {north_m} is outside UTM zone {zone}")
    lon, lat = _utm_transform(number, is_south).transform(
        east_m, north_m, direction=pyproj.enums.TransformDirection.INVERSE
    )
    return GeoPoint(float(lat), float(lon))


def to_utm_arrays(lat: np.ndarray, lon: np.ndarray, *, zone: str) -> tuple[np.ndarray, np.ndarray]:
    """East and north (N,) of points (N,) in one zone."""
    east, north = _utm_transform(*parse_zone(zone)).transform(
        np.asarray(lon, float), np.asarray(lat, float)
    )
    return np.asarray(east), np.asarray(north)


def from_utm_arrays(
    east_m: np.ndarray, north_m: np.ndarray, *, zone: str
) -> tuple[np.ndarray, np.ndarray]:
    """Latitudes and longitudes (N,) of UTM coordinates (N,) in one zone."""
    inverse = pyproj.enums.TransformDirection.INVERSE
    lon, lat = _utm_transform(*parse_zone(zone)).transform(
        np.asarray(east_m, float), np.asarray(north_m, float), direction=inverse
    )
    return np.asarray(lat), np.asarray(lon)


def haversine_m(
    lat0: np.ndarray, lon0: np.ndarray, lat1: np.ndarray, lon1: np.ndarray
) -> np.ndarray:
    """Great-circle distance on a sphere of `EARTH_RADIUS_M`; within 0.6 % of the ellipsoid's."""
    phi0, phi1 = np.radians(lat0), np.radians(lat1)
    half_phi = (phi1 - phi0) / 2
    half_lambda = np.radians(np.asarray(lon1) - np.asarray(lon0)) / 2
    inside = np.sin(half_phi) ** 2 + np.cos(phi0) * np.cos(phi1) * np.sin(half_lambda) ** 2
    return 2 * EARTH_RADIUS_M * np.arcsin(np.sqrt(np.clip(inside, 0, 1)))


_GEOD = pyproj.Geod(ellps="WGS84")


def distance_m(a: GeoPoint, b: GeoPoint) -> float:
    """Distance along the WGS84 ellipsoid."""
    return float(_GEOD.inv(a.lon, a.lat, b.lon, b.lat)[2])


def distances_m(lat: np.ndarray, lon: np.ndarray, point: GeoPoint) -> np.ndarray:
    """Distances (N,) along the WGS84 ellipsoid of points, (N,) each, from one."""
    num = len(lat)
    return np.asarray(
        _GEOD.inv(lon, lat, np.full(num, point.lon), np.full(num, point.lat))[2], float
    )


def move(point: GeoPoint, *, heading_deg: float, distance_m: float) -> GeoPoint:
    """The point reached by going `distance_m` along a geodesic that leaves in direction
    `heading_deg`."""
    lon, lat, _ = _GEOD.fwd(point.lon, point.lat, heading_deg, distance_m)
    return GeoPoint(float(lat), float(lon), point.altitude_m)


def heading_to(a: GeoPoint, b: GeoPoint) -> float:
    """Heading in [0, 360) in which `b` is seen from `a`."""
    return float(_GEOD.inv(a.lon, a.lat, b.lon, b.lat)[0]) % 360


def to_earth_centred(lat: np.ndarray, lon: np.ndarray) -> np.ndarray:
    """Earth-centred x, y, z in metres of points on the WGS84 ellipsoid: (..., 3)."""
    phi, lam = np.radians(np.asarray(lat, float)), np.radians(np.asarray(lon, float))
    normal = WGS84_A_M / np.sqrt(1 - WGS84_E2 * np.sin(phi) ** 2)
    x = normal * np.cos(phi) * np.cos(lam)
    y = normal * np.cos(phi) * np.sin(lam)
    z = normal * (1 - WGS84_E2) * np.sin(phi)
    return np.stack([x, y, z], axis=-1)


def _tangent_axes(origin: GeoPoint) -> np.ndarray:
    phi, lam = np.radians(origin.lat), np.radians(origin.lon)
    east = [-np.sin(lam), np.cos(lam), 0.0]
    north = [-np.sin(phi) * np.cos(lam), -np.sin(phi) * np.sin(lam), np.cos(phi)]
    return np.array([east, north])


def local_metres(lat: np.ndarray, lon: np.ndarray, *, origin: GeoPoint) -> np.ndarray:
    """East and north metres (..., 2) in the plane that touches the ellipsoid at `origin`.

    Lengths are right to 1 part in 10^6 within 10 km of the origin, anywhere on Earth.
    """
    offset = to_earth_centred(lat, lon) - to_earth_centred(
        np.array(origin.lat), np.array(origin.lon)
    )
    return offset @ _tangent_axes(origin).T


def from_local_metres(
    east_m: np.ndarray, north_m: np.ndarray, *, origin: GeoPoint
) -> tuple[np.ndarray, np.ndarray]:
    """Latitudes and longitudes of points given by `local_metres`; the inverse to a millimetre
    within 10 km."""
    east, north = np.asarray(east_m, float), np.asarray(north_m, float)
    lat = np.full(np.broadcast(east, north).shape, origin.lat)
    lon = np.full_like(lat, origin.lon)
    axes = _tangent_axes(origin)
    start = to_earth_centred(np.array(origin.lat), np.array(origin.lon))
    to_wgs84 = _earth_centred_transform()
    height = np.zeros_like(lat)
    # The plane leaves the ellipsoid by d^2 / 2R; drop the point onto it, measure what that moved,
    # and correct.
    target_e, target_n = east.copy(), north.copy()
    up = _up_axis(origin)
    for _ in range(4):
        xyz = (
            start
            + target_e[..., None] * axes[0]
            + target_n[..., None] * axes[1]
            + height[..., None] * up
        )
        lon, lat, over = to_wgs84.transform(xyz[..., 0], xyz[..., 1], xyz[..., 2])
        lon, lat = np.asarray(lon), np.asarray(lat)
        height = height - np.asarray(over)
    return lat, lon


def _up_axis(origin: GeoPoint) -> np.ndarray:
    phi, lam = np.radians(origin.lat), np.radians(origin.lon)
    return np.array([np.cos(phi) * np.cos(lam), np.cos(phi) * np.sin(lam), np.sin(phi)])


@lru_cache(maxsize=1)
def _earth_centred_transform() -> pyproj.Transformer:
    return pyproj.Transformer.from_crs(4978, 4979, always_xy=True)


def grid_north_deg(east_m: float, north_m: float, *, zone: str) -> float:
    """Direction of the UTM grid's north at a place, clockwise from true north, -180 to 180."""
    angle = heading_to(
        from_utm(east_m, north_m, zone=zone), from_utm(east_m, north_m + 1000, zone=zone)
    )
    return angle - 360 if angle > 180 else angle


def mean_point(lat: np.ndarray, lon: np.ndarray, weights: np.ndarray | None = None) -> GeoPoint:
    """Weighted centre of points (N,), right across the antimeridian and at the poles."""
    centre = np.average(to_earth_centred(lat, lon), axis=0, weights=weights)
    phi = np.arctan2(centre[2], (1 - WGS84_E2) * np.hypot(centre[0], centre[1]))
    return GeoPoint(float(np.degrees(phi)), float(np.degrees(np.arctan2(centre[1], centre[0]))))


def heading_difference_deg(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Smallest angle between headings, in [0, 180]."""
    return np.abs((np.asarray(a, float) - np.asarray(b, float) + 180) % 360 - 180)


def mean_heading_deg(headings_deg: np.ndarray, weights: np.ndarray | None = None) -> float | None:
    """Circular mean in [0, 360); None where the headings cancel out."""
    angles = np.radians(np.asarray(headings_deg, float))
    total = np.average(np.exp(1j * angles), weights=weights) if angles.size else 0
    # A tiny negative angle modulo 360 rounds to 360 itself.
    return None if abs(total) < 1e-9 else float(np.degrees(np.angle(total)) % 360) % 360


@dataclass(frozen=True, slots=True)
class Box:
    """A latitude and longitude box, edges included; it crosses the antimeridian where `west` is
    larger than `east`."""

    south: float
    west: float
    north: float
    east: float

    def __post_init__(self) -> None:
        if not (
            -90 <= self.south <= self.north <= 90
            and -180 <= self.west <= 180
            and -180 <= self.east <= 180
        ):
            raise InvalidPoint(
                f"{self} is not a box: it needs -90 <= south <= north <= 90 and longitudes in "
                "[-180, 180]"
            )

    @property
    def crosses_antimeridian(self) -> bool:
        return self.west > self.east

    def contains(self, lat: np.ndarray, lon: np.ndarray) -> np.ndarray:
        """Which points (N,) lie inside: (N,) bool. NaN lies nowhere."""
        lat, lon = np.asarray(lat), np.asarray(lon)
        inside = (
            (lon >= self.west) | (lon <= self.east)
            if self.crosses_antimeridian
            else (lon >= self.west) & (lon <= self.east)
        )
        return inside & (lat >= self.south) & (lat <= self.north)

    @classmethod
    def around(cls, point: GeoPoint, *, radius_m: float) -> Box:
        """The smallest box that holds every point within `radius_m` (a little more: the ellipsoid's
        flattest radius is used)."""
        smallest_radius_m = 6_335_000.0
        reach = math.degrees(radius_m / smallest_radius_m)
        south, north = point.lat - reach, point.lat + reach
        if south <= -90 or north >= 90:
            return cls(max(south, -90.0), -180.0, min(north, 90.0), 180.0)
        ratio = math.sin(math.radians(reach)) / math.cos(math.radians(point.lat))
        if reach >= 90 or ratio >= 1:
            return cls(south, -180.0, north, 180.0)
        wide = math.degrees(math.asin(ratio))
        if wide >= 180:
            return cls(south, -180.0, north, 180.0)
        return cls(
            south, (point.lon - wide + 180) % 360 - 180, north, (point.lon + wide + 180) % 360 - 180
        )


def neighbors_within(points: np.ndarray, queries: np.ndarray, *, radius_m: float) -> NeighborLists:
    """Which points (N, d) lie within `radius_m` (inclusive) of each query (Q, d), d = 2 or 3 metric
    coordinates.

    A hash grid with cells of the radius: time and memory grow with the number of points, queries
    and neighbours. Rows with NaN have no neighbours. Use `to_earth_centred` for latitudes and
    longitudes: for radii of street scale the straight line is shorter than the ellipsoid's by less
    than a micrometre.
    """
    points, queries = (
        np.atleast_2d(np.asarray(points, float)),
        np.atleast_2d(np.asarray(queries, float)),
    )
    usable = np.flatnonzero(np.isfinite(points).all(axis=1))
    query_rows = np.flatnonzero(np.isfinite(queries).all(axis=1))
    counts = np.zeros(len(queries), np.int64)
    if not len(usable) or not len(query_rows):
        return NeighborLists(np.zeros(len(queries) + 1, np.int64), np.empty(0, np.int64))
    low = np.minimum(points[usable].min(axis=0), queries[query_rows].min(axis=0))
    extent = np.maximum(points[usable].max(axis=0), queries[query_rows].max(axis=0)) - low
    # Cells may be larger than the radius, never smaller; so large that all of them can be numbered
    # in 63 bits.
    cell = max(radius_m, float(extent.max()) / int(8e18 ** (1 / points.shape[1]) - 4), 1e-9)
    point_cells = np.floor((points[usable] - low) / cell).astype(np.int64) + 1
    query_cells = np.floor((queries[query_rows] - low) / cell).astype(np.int64) + 1
    shape = np.maximum(point_cells.max(axis=0), query_cells.max(axis=0)) + 2
    steps = _mixed_radix(shape)
    keys = point_cells @ steps
    order = np.argsort(keys, kind="stable")
    sorted_keys = keys[order]
    found_queries, found_points = [], []
    # The last axis is contiguous in the key, so its three cells are one run.
    for shift in product((-1, 0, 1), repeat=points.shape[1] - 1):
        middle = query_cells @ steps + np.array([*shift, 0]) @ steps
        first = np.searchsorted(sorted_keys, middle - 1, side="left")
        last = np.searchsorted(sorted_keys, middle + 1, side="right")
        lengths = last - first
        which = np.repeat(np.arange(len(query_rows)), lengths)
        within = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        members = order[np.repeat(first, lengths) + within]
        gap = points[usable[members]] - queries[query_rows[which]]
        near = np.einsum("nd,nd->n", gap, gap) <= radius_m * radius_m * (1 + 1e-12)
        found_queries.append(query_rows[which[near]])
        found_points.append(usable[members[near]])
    query_ids, point_ids = np.concatenate(found_queries), np.concatenate(found_points)
    arranged = np.lexsort((point_ids, query_ids))
    np.add.at(counts, query_ids, 1)
    return NeighborLists(np.concatenate([[0], np.cumsum(counts)]), point_ids[arranged])


def _mixed_radix(shape: np.ndarray) -> np.ndarray:
    """Multipliers that turn cell coordinates into one integer, last axis fastest."""
    steps = np.ones(len(shape), np.int64)
    for axis in range(len(shape) - 2, -1, -1):
        steps[axis] = steps[axis + 1] * shape[axis + 1]
    return steps
