"""The "@" file names."""

from __future__ import annotations

import math
import string
from datetime import datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whence.data.names import format_name, parse_name, parse_timestamp
from whence.data.photos import Photos
from whence.errors import InvalidPoint
from whence.geo import distance_m, parse_zone
from whence.types import GeoPoint, Photo, PlanePoint

EXAMPLE = (
    "@0543256.96@4178906.70@10@S@037.75645@-122.50891@UnTjaDFQFzZcMK1Sh@04@120@005@-02@1.50@"
    "20180712_1425@note@.jpg"
)

words = st.text(string.ascii_letters + string.digits + "-_ .", max_size=12)


def test_example() -> None:
    fields = parse_name("images/@folder@/" + EXAMPLE)
    assert fields is not None
    assert fields.plane == PlanePoint(543256.96, 4178906.70, "10S")
    assert fields.point is not None
    assert distance_m(fields.point, GeoPoint(37.75645, -122.50891)) < 2
    assert (fields.pano_id, fields.tile_num, fields.note) == ("UnTjaDFQFzZcMK1Sh", "04", "note")
    assert (fields.heading_deg, fields.pitch_deg, fields.roll_deg, fields.height_m) == (
        120,
        5,
        -2,
        1.5,
    )
    assert fields.time == datetime(2018, 7, 12, 14, 25)


@settings(max_examples=200, deadline=None)
@given(
    st.floats(-79, 83),
    st.floats(-179.9, 179.9),
    st.none() | st.integers(0, 359),
    st.none() | st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1)),
    words,
    words,
)
def test_round_trip(
    lat: float, lon: float, heading: int | None, time: datetime | None, pano_id: str, note: str
) -> None:
    point = GeoPoint(lat, lon)
    name = format_name(point=point, heading_deg=heading, time=time, pano_id=pano_id, note=note)
    assert name.count("@") == 15
    fields = parse_name(name)
    assert fields is not None
    assert fields.point is not None
    assert distance_m(fields.point, point) < 0.02
    assert fields.heading_deg == heading
    assert fields.time == (None if time is None else time.replace(microsecond=0))
    assert (fields.pano_id, fields.note) == (pano_id, note)


@settings(max_examples=100, deadline=None)
@given(st.floats(-99_999, 999_999), st.floats(-999_999, 9_999_999))
def test_free_plane_round_trip(east: float, north: float) -> None:
    fields = parse_name(format_name(plane=PlanePoint(east, north)))
    assert fields is not None
    assert fields.point is None
    assert fields.plane.zone == ""
    assert math.isclose(fields.plane.east_m, east, abs_tol=0.0051)
    assert math.isclose(fields.plane.north_m, north, abs_tol=0.0051)


def test_headings_round_to_a_direction() -> None:
    fields = parse_name(format_name(plane=PlanePoint(0, 0), heading_deg=359.7))
    assert fields is not None
    assert fields.heading_deg == 0


@pytest.mark.parametrize(
    "name",
    [
        "photo.jpg",
        "",
        "@",
        "@1@.jpg",
        "a@b.jpg",
        "@x@2@@@@@@.jpg",
        "@nan@2@.jpg",
        "@1@inf@.jpg",
        "@1@2@/photo.jpg",
    ],
)
def test_other_names(name: str) -> None:
    assert parse_name(name) is None


@pytest.mark.parametrize("zone", ["10@SX", "10@é", "@S", "100@S", "٣٣@V", "10@ß"])
def test_odd_zones_are_free_coordinates(zone: str) -> None:
    fields = parse_name(f"@1@2@{zone}@@@.jpg")
    assert fields is not None
    assert (fields.plane, fields.point) == (PlanePoint(1.0, 2.0), None)


def test_short_and_odd_names() -> None:
    fields = parse_name("@1200.5@700@.jpg")
    assert fields is not None
    assert (fields.plane, fields.point) == (PlanePoint(1200.5, 700.0), None)
    fields = parse_name("@1@2@@@95.0@13.0@@@x@@@@2024@.jpg")
    assert fields is not None
    assert (fields.point, fields.heading_deg, fields.time) == (None, None, datetime(2024, 1, 1))
    fields = parse_name("@1@2@@@55.5@13.0@@@-90@@@@@.jpg")
    assert fields is not None
    assert (fields.point, fields.heading_deg) == (GeoPoint(55.5, 13.0), 270.0)


@pytest.mark.parametrize(
    "name",
    [
        "@59.3293@18.0686@.jpg",
        "@-33.857@151.215@@@@@pano@.jpg",
        "@18.07@59.33@.jpg",
        "@12.5@7@.jpg",
        "@0.0@32.5@.jpg",
        "@1@2@.jpg",
    ],
)
def test_degrees_in_the_fields_of_metres_are_refused(name: str) -> None:
    fields = parse_name(name)
    assert fields is not None
    assert (fields.plane, fields.point) == (None, None)
    assert "degrees" in fields.doubt


def test_degrees_in_the_fields_of_metres_with_degrees_beside() -> None:
    fields = parse_name("@59.3293@18.0686@@@59.3293@18.0686@.jpg")
    assert fields is not None
    assert (fields.plane, fields.point, fields.doubt) == (None, GeoPoint(59.3293, 18.0686), "")


@pytest.mark.parametrize(
    "name",
    ["@0000012.50@0000007.00@.jpg", "@0.00@100.00@@@@@@@@@@@@p1@.jpg", "@0@55@.jpg", "@500@7@.jpg"],
)
def test_small_metres_in_the_forms_of_the_field_stay_metres(name: str) -> None:
    fields = parse_name(name)
    assert fields is not None
    assert fields.plane is not None
    assert fields.point is None


SYDNEY = GeoPoint(-33.857, 151.215)


@pytest.mark.parametrize("letter", ["S", "s", "H", "", "J"])
def test_a_letter_gives_way_to_the_names_own_latitude(letter: str) -> None:
    fields = parse_name(f"@334897.00@6252270.00@56@{letter}@-33.85700@151.21500@p@@@@@@@@.jpg")
    assert fields is not None
    assert fields.point is not None
    assert fields.plane is not None
    assert distance_m(fields.point, SYDNEY) < 30
    assert parse_zone(fields.plane.zone) == (56, True)


def test_a_letter_that_contradicts_the_northing_is_a_hemisphere() -> None:
    fields = parse_name("@334897.00@6252270.00@56@S@@@p@.jpg")
    assert fields is not None
    assert fields.point is not None
    assert distance_m(fields.point, SYDNEY) < 30
    together = parse_name("@334897.00@6252270.00@56S@@@@p@.jpg")
    assert together is not None
    assert together.point == fields.point
    (north,) = [
        one.point for one in [parse_name("@0543256.96@4178906.70@10@S@@@.jpg")] if one is not None
    ]
    assert north is not None
    assert 37 < north.lat < 38, "where the northing lies in band S, the letter is the band"


@pytest.mark.parametrize(
    "name",
    [
        "@334897.00@6252270.00@56@H@33.85700@151.21500@.jpg",
        "@334897.00@6252270.00@56@T@@@.jpg",
        "@334897.00@6252270.00@33@S@-33.85700@151.21500@.jpg",
        "@59.33@18.07@33@V@@@.jpg",
    ],
)
def test_names_that_contradict_themselves_state_no_position(name: str) -> None:
    fields = parse_name(name)
    assert fields is not None
    assert (fields.plane, fields.point) == (None, None)
    assert fields.doubt


@pytest.mark.parametrize("zone", ["@", "56@H", "32@", "33@V"])
def test_zeros_are_placeholders_for_latitude_and_longitude(zone: str) -> None:
    fields = parse_name(f"@0.00@0.00@{zone}@55.00200@11.99990@@@@@@@@p1@.jpg")
    assert fields is not None
    assert (fields.plane, fields.point) == (None, GeoPoint(55.002, 11.9999))


@settings(max_examples=300, deadline=None)
@given(st.text("@0123456789.-NSVabc_/\\", max_size=60))
def test_any_text_is_parsed_or_none(name: str) -> None:
    fields = parse_name(name)
    if fields is not None:
        assert not (fields.doubt and (fields.plane or fields.point))
        photo = Photo(name, plane=fields.plane, point=fields.point, time=fields.time)
        assert Photos.of([photo])[0] == photo


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2018", datetime(2018, 1, 1)),
        ("201807", datetime(2018, 7, 1)),
        ("20180712", datetime(2018, 7, 12)),
        ("20180712_14", datetime(2018, 7, 12, 14)),
        ("20180712_142533", datetime(2018, 7, 12, 14, 25, 33)),
        ("20181301", None),
        ("0000", datetime(1, 1, 1)),
        ("12", None),
        ("", None),
    ],
)
def test_timestamps(text: str, time: datetime | None) -> None:
    assert parse_timestamp(text) == time


def test_what_cannot_be_written() -> None:
    with pytest.raises(InvalidPoint):
        format_name()
    for field in ("pano_id", "note", "extension"):
        with pytest.raises(InvalidPoint):
            format_name(plane=PlanePoint(0, 0), **{field: "a@b"})
