"""Positions on one plane: whatever each photo states, it lies where its point lies."""

from __future__ import annotations

import numpy as np
import pytest

from whence.data.photos import Photos
from whence.data.planes import on_one_plane, photos_on_plane
from whence.geo import to_utm
from whence.types import GeoPoint, Photo, PlanePoint

POINTS = [GeoPoint(37.75, -120.0 + 0.0004 * k) for k in range(-3, 4)]


def test_every_kind_of_position_lies_where_its_point_lies() -> None:
    """Metres of two zones, a point alone, metres without a zone but with a point; on the plane of
    most, or the one asked for."""
    photos = [
        Photo("a", plane=PlanePoint(*to_utm(POINTS[0]))),
        Photo("b", plane=PlanePoint(*to_utm(POINTS[1]))),
        Photo("c", point=POINTS[2]),
        Photo("d", point=POINTS[3], plane=PlanePoint(1.0, 2.0, "")),
        Photo("e", plane=PlanePoint(*to_utm(POINTS[6]))),
        Photo("f"),
    ]
    for asked in (None, "10S", "11S"):
        east, north, plane = photos_on_plane(Photos.of(photos), asked)
        assert plane == (asked or "10S")
        for row, point in enumerate((*POINTS[:4], POINTS[6])):
            assert (east[row], north[row]) == pytest.approx(to_utm(point, zone=plane)[:2], abs=0.01)
        assert np.isnan(east[5])


def test_a_free_plane_stays_one() -> None:
    free = Photos.of([Photo("a", plane=PlanePoint(3.0, 4.0, "")), Photo("b", point=POINTS[0])])
    east, north, plane = photos_on_plane(free)
    assert (plane, east[0], north[0]) == ("", 3.0, 4.0)
    assert np.isnan(east[1])
    other = Photos.of([Photo("a", plane=PlanePoint(*to_utm(POINTS[0])))])
    assert np.isnan(photos_on_plane(other, "")[0]).all(), (
        "metres of a zone lie nowhere on a free plane"
    )


def test_points_alone_lie_in_the_zone_of_their_middle() -> None:
    assert (
        photos_on_plane(
            Photos.of([Photo(str(k), point=point) for k, point in enumerate(POINTS[4:])])
        )[2]
        == "11S"
    )


def test_columns_of_one_zone_are_left_as_they_are() -> None:
    east = np.array([1.0, np.nan])
    found = on_one_plane(east, east, "32U")
    assert found[0] is east
    assert found[2] == "32U"
