"""Map tiles, their names, and footprints: published values, the antimeridian, the poles, what names
do not say."""

from __future__ import annotations

from datetime import datetime

import numpy as np
import pytest

from whence.data.footprints import (
    area_km2,
    as_geojson,
    centre_of,
    footprint_of,
    iou,
    on_plane_km,
    overlap_km2,
    overlapping,
)
from whence.data.placement import placement_from_name
from whence.data.tiles import (
    Tile,
    box_area_km2,
    box_corners,
    format_footprint_name,
    from_cells,
    overlap_matrix,
    parse_footprint_name,
    parse_xyz_path,
    tile_boxes,
    tile_name,
    to_cells,
)

TILES = np.array(
    [
        (9, 180, 240),
        (9, 180, 242),
        (9, 180, 244),
        (9, 182, 242),
        (10, 360, 480),
        (10, 364, 484),
        (10, 368, 480),
        (11, 720, 960),
    ]
)
NAME = tile_name(Tile(9, 180, 240), year=2021)


def test_corners_of_published_tiles():
    found = tile_boxes(np.array([(14, 6408, 9928), *TILES]))
    assert found[0] == pytest.approx([36.385913, 38.144531, 36.456636, 38.232422], abs=5e-7)
    assert found[1] == pytest.approx([45.08904, -11.25, 47.04018, -8.4375], abs=5e-6)
    assert found[-1] == pytest.approx([46.55886, -11.25, 47.04018, -10.54688], abs=5e-6)


def test_the_published_overlap_matrix():
    rows = [
        "11011101",
        "11110100",
        "01110000",
        "11110100",
        "10001001",
        "11010100",
        "00000010",
        "10001001",
    ]
    expected = np.array([[letter == "1" for letter in row] for row in rows])
    assert (overlap_matrix(tile_boxes(TILES)) == expected).all()
    corners = box_corners(tile_boxes(TILES))
    assert (
        np.array([np.isin(np.arange(8), overlapping(one, corners)) for one in corners]) == expected
    ).all()


@pytest.mark.parametrize("turn", [0, 90, 170, 179, -181, 358])
def test_overlap_is_the_same_anywhere_around_the_earth(turn):
    boxes = tile_boxes(TILES)
    moved = boxes.copy()
    moved[:, [1, 3]] = (boxes[:, [1, 3]] + turn + 180) % 360 - 180
    assert (overlap_matrix(moved) == overlap_matrix(boxes)).all()


def test_cells_and_degrees_are_each_others_inverse():
    lat, lon = np.array([-85.0, -12.3, 0.0, 60.0]), np.array([-180.0, 3.0, 0.0, 179.9])
    column, row = to_cells(lat, lon, 11)
    assert np.allclose(from_cells(column, row, 11), [lat, lon], atol=1e-9)
    assert to_cells(np.array(0.0), np.array(-180.0), 3) == (0, pytest.approx(4))
    # Beyond the grid and at the poles there is still a number.
    assert to_cells(np.array(90.0), np.array(0.0), 3)[1] < 0


def test_a_tiles_name_says_where_it_is():
    assert NAME.startswith(
        "2021_09/50_-10/@45.08904@-11.25000@47.04018@-11.25000@47.04018@-8.43750@45.08904@-8.43750@09_0180_0240@2021@"
    )
    found = parse_footprint_name(f"any@where/{NAME}")
    assert found is not None
    assert (found.tile, found.time, found.orientation_deg) == (
        Tile(9, 180, 240),
        datetime(2021, 1, 1),
        0.0,
    )
    assert found.area_km2 == pytest.approx(box_area_km2(tile_boxes(TILES[:1]))[0], abs=1)
    placed = placement_from_name(NAME)
    assert placed.point is not None
    assert (placed.point.lat, placed.point.lon) == pytest.approx((46.06461, -9.84375))


def test_a_photos_name_is_read_with_its_day_and_a_turn_within_360():
    corners = np.array([[10.0, 179.0], [11.0, 179.2], [11.1, -179.5], [10.1, -179.7]])
    name = format_footprint_name(
        corners,
        image_id="ISS047-E-55412",
        time="20160412",
        nadir=(9.5, 178.0),
        area_km2=16000.4,
        orientation_deg=-90,
        decimals=6,
    )
    found = parse_footprint_name(name)
    assert found is not None
    assert (found.tile, found.time, found.orientation_deg, found.area_km2) == (
        None,
        datetime(2016, 4, 12),
        270.0,
        16000.0,
    )
    assert found.centre == pytest.approx((10.55, 179.75))
    assert np.abs(footprint_of(name) - corners).max() < 1e-6


@pytest.mark.parametrize(
    "name",
    [
        "photo.jpg",
        "@0338600.00@6581900.00@34@U@59.36000@018.06000@@@@@@@20200101_000000@day@.jpg",
        NAME.replace("@45.08904@", "@x@", 1),
        NAME.replace("@45.08904@", "@95.08904@", 1),
        NAME.replace("@2021@", "@2021@2021@"),
        "@" * 15 + ".jpg",
    ],
)
def test_other_names_are_not_taken_for_footprints(name):
    assert parse_footprint_name(name) is None
    assert footprint_of(name) is None


def test_a_folder_of_a_map_server_is_one_only_where_the_place_agrees():
    south, west, north, east = tile_boxes(np.array([(9, 180, 240)]), cells=1)[0]
    path = "map/9/240/180.png"
    assert parse_xyz_path(path) == Tile(9, 180, 240)
    assert footprint_of(path, point=((south + north) / 2, (west + east) / 2)) is not None
    assert footprint_of(path, point=(48.0, 2.0)) is None
    assert footprint_of(path) is None
    assert parse_xyz_path("2021/12/31.jpg") is None
    assert parse_xyz_path("3/9/1.jpg") is None


def test_areas_and_overlaps_against_the_sphere():
    boxes = tile_boxes(np.array([(11, 720, 960), (11, 722, 962)]))
    one, other = box_corners(boxes)
    assert area_km2(one) == pytest.approx(box_area_km2(boxes)[0], rel=1e-3)
    assert overlap_km2(one, other) == pytest.approx(area_km2(one) / 4, rel=0.01)
    assert iou(one, other) == pytest.approx(1 / 7, rel=0.01)
    assert iou(one, one) == pytest.approx(1, abs=1e-6)
    assert len(overlapping(one, np.stack([one, other]), least_iou=0.2)) == 1


def test_the_antimeridian_and_the_poles_are_nothing_special():
    across = np.array([[10.0, 179.0], [12.0, 179.0], [12.0, -179.0], [10.0, -179.0]])
    same = across - [0, 100]
    assert area_km2(across) == pytest.approx(area_km2(same), rel=1e-9)
    assert abs(centre_of(across)[1]) == pytest.approx(180)
    around = np.array([[85.0, 0.0], [85.0, 90.0], [85.0, 180.0], [85.0, -90.0]])
    assert centre_of(around)[0] == pytest.approx(90)
    assert area_km2(around) == pytest.approx(
        2 * (6371 * 2 * np.sin(np.radians(2.5))) ** 2, rel=1e-6
    )
    near = np.array([[88.0, 10.0], [89.0, 10.0], [89.0, 60.0], [88.0, 60.0]])
    assert overlapping(around, near[None]).tolist() == [0]
    assert overlapping(around, near[None] * [-1, 1]).tolist() == []


def test_a_plane_keeps_areas():
    ring = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 1.0], [1.0, 0.0]])
    flat = on_plane_km(ring, around=(0.5, 0.5))
    assert np.linalg.norm(flat[1] - flat[0]) == pytest.approx(111.19, rel=1e-3)


def signed_area(ring):
    x, y = np.array(ring).T
    return (np.dot(x[:-1], y[1:]) - np.dot(y[:-1], x[1:])) / 2


def test_geojson_is_cut_at_the_antimeridian_and_runs_counter_clockwise():
    plain = as_geojson(box_corners(tile_boxes(TILES[:1]))[0])
    assert plain["type"] == "Polygon"
    assert signed_area(plain["coordinates"][0]) > 0
    across = as_geojson(np.array([[10.0, 170.0], [20.0, 170.0], [20.0, -170.0], [10.0, -170.0]]))
    assert across["type"] == "MultiPolygon"
    parts = [part[0] for part in across["coordinates"]]
    assert sum(signed_area(part) for part in parts) == pytest.approx(200)
    for part in parts:
        assert part[0] == part[-1]
        assert np.abs(np.array(part)[:, 0]).max() == 180
    pole = as_geojson(np.array([[80.0, 0.0], [80.0, 90.0], [80.0, 180.0], [80.0, -90.0]]))
    assert sum(signed_area(part[0]) for part in pole["coordinates"]) == pytest.approx(3600)
