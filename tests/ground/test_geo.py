"""Coordinates: against pyproj and slow formulas, and where maps usually break."""

from __future__ import annotations

import numpy as np
import pyproj
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whence import geo
from whence.errors import InvalidPoint
from whence.types import GeoPoint

LATS = st.floats(-89.9, 89.9)
LONS = st.floats(-180, 180)
GEOD = pyproj.Geod(ellps="WGS84")


@given(st.floats(-79.9, 83.9), LONS)
def test_utm_comes_back(lat: float, lon: float) -> None:
    utm = geo.to_utm(GeoPoint(lat, lon))
    back = geo.from_utm(utm.east_m, utm.north_m, zone=utm.zone)
    assert geo.distance_m(GeoPoint(lat, lon), back) < 0.001


@pytest.mark.parametrize(
    ("lat", "lon", "zone"),
    [
        (40.4387, -80.00613, "17T"),
        (60.0, 4.9, "32V"),
        (60.0, 2.9, "31V"),
        (78.2, 15.6, "33X"),
        (78.2, 8.9, "31X"),
        (78.2, 41.9, "37X"),
        (-33.868, 151.2, "56H"),
        (0.0, 0.0, "31N"),
        (-0.001, 0.0, "31M"),
        (10.0, 180.0, "01P"),
        (10.0, -180.0, "01P"),
        (84.0, 0.0, "31X"),
    ],
)
def test_zones(lat: float, lon: float, zone: str) -> None:
    assert geo.utm_zone(lat, lon) == zone


def test_utm_of_a_known_photo() -> None:
    utm = geo.to_utm(GeoPoint(40.43870, -80.00613))
    assert utm.zone == "17T"
    assert abs(utm.east_m - 584291.21) < 1.5  # five decimals of a degree are a metre
    assert abs(utm.north_m - 4476924.92) < 1.5


@pytest.mark.parametrize("zone", ["", "V", "61V", "0V", "32I", "xxV", "-1V"])
def test_bad_zones_are_refused(zone: str) -> None:
    with pytest.raises(InvalidPoint):
        geo.parse_zone(zone)


def test_south_of_the_equator_has_false_northing() -> None:
    north, south = geo.to_utm(GeoPoint(0.001, 3.0)), geo.to_utm(GeoPoint(-0.001, 3.0))
    assert north.north_m < 200
    assert south.north_m > 9_999_000
    assert geo.to_utm(GeoPoint(-0.001, 3.0), zone="31N").north_m < 0


def test_far_out_utm_is_refused() -> None:
    with pytest.raises(InvalidPoint):
        geo.from_utm(9e9, 0, zone="32V")


@given(LATS, LONS, st.floats(-5000, 5000), st.floats(-5000, 5000))
@settings(max_examples=60)
def test_local_metres_come_back_and_agree_with_the_ellipsoid(
    lat: float, lon: float, east: float, north: float
) -> None:
    origin = GeoPoint(lat, lon)
    lats, lons = geo.from_local_metres(np.array(east), np.array(north), origin=origin)
    assert np.allclose(geo.local_metres(lats, lons, origin=origin), [east, north], atol=1e-3)
    along = geo.distance_m(origin, GeoPoint(float(lats), float(lons)))
    assert along == pytest.approx(np.hypot(east, north), rel=2e-6, abs=1e-3)


def test_east_is_right_of_north() -> None:
    lats, lons = geo.from_local_metres(
        np.array([100.0, 0.0]), np.array([0.0, 100.0]), origin=GeoPoint(55.0, 13.0)
    )
    assert lons[0] > 13.0
    assert lats[1] > 55.0


@given(LATS, LONS, LATS, LONS)
@settings(max_examples=60)
def test_haversine_is_near_the_geodesic(lat0: float, lon0: float, lat1: float, lon1: float) -> None:
    sphere = float(geo.haversine_m(np.array(lat0), np.array(lon0), np.array(lat1), np.array(lon1)))
    assert sphere == pytest.approx(GEOD.inv(lon0, lat0, lon1, lat1)[2], rel=0.006, abs=0.01)


@given(LATS, LONS, st.floats(0, 359.9), st.floats(1, 20_000))
@settings(max_examples=60)
def test_move_goes_as_far_and_that_way(
    lat: float, lon: float, heading: float, metres: float
) -> None:
    start = GeoPoint(lat, lon)
    end = geo.move(start, heading_deg=heading, distance_m=metres)
    assert geo.distance_m(start, end) == pytest.approx(metres, rel=1e-6)
    assert (
        geo.heading_difference_deg(np.array(geo.heading_to(start, end)), np.array(heading)) < 0.01
    )


def test_headings() -> None:
    assert geo.heading_difference_deg(
        np.array([350.0, 10.0, 180.0]), np.array([10.0, 350.0, 0.0])
    ).tolist() == [20, 20, 180]
    assert geo.mean_heading_deg(np.array([350.0, 10.0])) == pytest.approx(0, abs=1e-9)
    assert geo.mean_heading_deg(np.array([0.0, 180.0])) is None
    assert geo.mean_heading_deg(np.array([])) is None
    assert geo.mean_heading_deg(np.array([0.0, 90.0]), np.array([1.0, 0.0])) == pytest.approx(0)


@given(LATS, LONS, st.floats(1, 300_000), st.floats(0, 359.9), st.floats(0, 1))
@settings(max_examples=100)
def test_a_box_around_holds_everything_within_its_radius(
    lat: float, lon: float, radius: float, heading: float, share: float
) -> None:
    centre = GeoPoint(lat, lon)
    inside = geo.move(centre, heading_deg=heading, distance_m=radius * share)
    assert (
        geo.Box.around(centre, radius_m=radius)
        .contains(np.array([inside.lat]), np.array([inside.lon]))
        .all()
    )


def test_boxes_across_the_antimeridian() -> None:
    box = geo.Box.around(GeoPoint(-17.0, 179.999), radius_m=5000)
    assert box.crosses_antimeridian
    inside = box.contains(
        np.array([-17.0, -17.0, -17.0, np.nan]), np.array([-179.99, 179.97, 0.0, 180.0])
    )
    assert inside.tolist() == [True, True, False, False]
    assert (
        geo.Box.around(GeoPoint(89.99, 0.0), radius_m=5000)
        .contains(np.array([89.995]), np.array([179.0]))
        .all()
    )
    with pytest.raises(InvalidPoint):
        geo.Box(10, 0, -10, 0)


@pytest.mark.parametrize(
    "origin",
    [
        GeoPoint(55.0, 12.0),
        GeoPoint(60.0, 3.0),
        GeoPoint(0.0, 6.0),
        GeoPoint(-17.0, 180.0),
        GeoPoint(89.9999, 40.0),
        GeoPoint(-90.0, 0.0),
    ],
    ids=[
        "zone edge",
        "Norway's edge",
        "equator",
        "antimeridian",
        "near the north pole",
        "south pole",
    ],
)
def test_neighbors_are_right_where_maps_break(origin: GeoPoint) -> None:
    """Around each hard place, neighbours within 25 m are those a geodesic finds."""
    random = np.random.default_rng(7)
    lats, lons = geo.from_local_metres(
        random.uniform(-60, 60, 120), random.uniform(-60, 60, 120), origin=origin
    )
    points = geo.to_earth_centred(lats, lons)
    found = geo.neighbors_within(points, points[:30], radius_m=25.0)
    for query in range(30):
        far = GEOD.inv(np.full(120, lons[query]), np.full(120, lats[query]), lons, lats)[2]
        assert found.of(query).tolist() == np.flatnonzero(far <= 25.0).tolist()


@given(
    st.integers(0, 60),
    st.integers(0, 12),
    st.sampled_from([2, 3]),
    st.floats(0.1, 80),
    st.integers(0, 9),
)
@settings(max_examples=60)
def test_neighbors_equal_the_full_distance_matrix(
    num: int, num_queries: int, dim: int, radius: float, seed: int
) -> None:
    random = np.random.default_rng(seed)
    points, queries = (
        random.uniform(-100, 100, (num, dim)),
        random.uniform(-100, 100, (num_queries, dim)),
    )
    if num:
        points[0] = np.nan
    found = geo.neighbors_within(points.reshape(-1, dim), queries.reshape(-1, dim), radius_m=radius)
    assert len(found.offsets) == num_queries + 1
    for query in range(num_queries):
        near = [
            i for i in range(num) if np.sqrt(((points[i] - queries[query]) ** 2).sum()) <= radius
        ]
        assert found.of(query).tolist() == near


def test_the_radius_is_inclusive() -> None:
    found = geo.neighbors_within(
        np.array([[25.0, 0.0], [25.001, 0.0]]), np.array([[0.0, 0.0]]), radius_m=25.0
    )
    assert found.of(0).tolist() == [0]
    assert found.counts.tolist() == [1]


def test_a_small_radius_on_the_whole_planet() -> None:
    random = np.random.default_rng(1)
    lats, lons = random.uniform(-89, 89, 500), random.uniform(-180, 180, 500)
    points = geo.to_earth_centred(lats, lons)
    near = geo.to_earth_centred(lats + 1e-6, lons)
    found = geo.neighbors_within(points, near, radius_m=1.0)
    assert found.members.tolist() == list(range(500))


def test_mean_point_across_the_antimeridian() -> None:
    point = geo.mean_point(np.array([10.0, 10.0]), np.array([179.0, -179.0]))
    assert abs(point.lon) == pytest.approx(180, abs=1e-6)
    weighted = geo.mean_point(np.array([10.0, 20.0]), np.array([5.0, 5.0]), np.array([1.0, 0.0]))
    assert weighted.lat == pytest.approx(10.0, abs=1e-6)


@pytest.mark.parametrize("point", [(91, 0), (0, float("nan")), (0, 600), (float("inf"), 0)])
def test_points_off_earth_are_refused(point: tuple[float, float]) -> None:
    with pytest.raises(InvalidPoint):
        GeoPoint(*point)


def test_longitudes_wrap() -> None:
    assert GeoPoint(0, 190).lon == -170
