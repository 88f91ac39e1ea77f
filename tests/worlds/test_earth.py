"""The Earth world: what is written, that it is the same however it is rendered, and that its truth
is what pixels show."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from whence.data.footprints import footprint_of
from whence.data.tiles import box_corners, from_cells, parse_footprint_name, tile_boxes
from whence.errors import BadOption, InputError, UnknownName
from whence.matching.matchers import MatchOptions, match_images
from whence.worlds.earth import world as world_module
from whence.worlds.earth.ground import Survey, make_region
from whence.worlds.earth.noise import Window, fractal
from whence.worlds.earth.orbit import (
    ALTITUDE_KM,
    Pose,
    corners_km,
    plan_shots,
    project,
    take,
    to_plane,
)
from whence.worlds.earth.paint import Day, backscatter, paint
from whence.worlds.earth.plan import EarthSpec, RegionSize, RegionWork
from whence.worlds.earth.world import render_earth

MINI = EarthSpec(
    4,
    (RegionSize("region00", "", 4, 3, (2018, 2021), ("photo", "film")),),
    tile_px=16,
    photo_px=32,
    has_sar=True,
)


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def earth(tmp_path_factory):
    out = tmp_path_factory.mktemp("earth") / "mini"
    return out, render_earth(out, MINI, num_workers=1)


def test_an_earth_holds_the_pyramid_with_half_overlaps_and_the_photos(earth):
    out, summary = earth
    # Tiles of 4 cells every 2: one of zoom 9, 3 x 3 of zoom 10, 7 x 7 of zoom 11, in two years and
    # as a radar sees them.
    assert (summary.num_tiles, summary.num_photos, summary.num_rendered) == (59 * 3, 3, 59 * 3 + 3)
    for zoom, num in ((9, 1), (10, 9), (11, 49)):
        for year in (2018, 2021):
            assert len(list((out / f"database/{year}_{zoom:02d}").rglob("*.jpg"))) == num
    assert len(list((out / "queries").glob("*.jpg"))) == 2
    assert len(list((out / "queries_film").glob("*.jpg"))) == 1
    for path in out.rglob("*.jpg"):
        side = 32 if "queries" in str(path) else 16
        assert cv2.imread(str(path)).shape == (side, side, 3)


def test_names_of_tiles_say_the_corners_of_their_cells(earth):
    out, _ = earth
    for path in (out / "database").rglob("*.jpg"):
        found = parse_footprint_name(str(path))
        assert found is not None
        assert found.tile is not None
        assert (
            np.abs(
                np.array(found.corners) - box_corners(tile_boxes(np.array([found.tile])))[0]
            ).max()
            < 6e-6
        )
        lat, lon = (round(value / 10) * 10 for value in found.nadir)
        assert path.parent.name == f"{lat}_{lon}"
        assert path.parent.parent.name == f"{found.time.year}_{found.tile.zoom:02d}"


def test_neighbouring_tiles_and_zooms_show_the_same_ground():
    """A cell that two tiles share has the same pixels in both, and in the coarser zoom its mean."""
    work = RegionWork.of(MINI, MINI.regions[0])
    km = work.region.km_per_cell / 4 / 8
    first, second = (
        Survey(work.region, Window(left * 16 * km, 5.0, km, 48, 32)) for left in (0, 1)
    )
    one, other = (paint(survey, Day(2021, is_mosaic=False)) for survey in (first, second))
    # Roads of single pixels may be rasterised by another rounding; the rest is equal.
    differing = np.abs(one[:, 16:] - other[:, :32]).max(axis=2) > 0.02
    assert differing.mean() < 0.02


def test_the_table_says_which_ground_a_photo_shows(earth):
    out, _ = earth
    with open(out / "photos.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3
    for row in rows:
        matrix = np.array([[float(row[f"h{i}{j}"]) for j in range(3)] for i in range(3)])
        low, high = -0.5, 31.5
        corners = project(matrix, np.array([[low, high], [low, low], [high, low], [high, high]]))
        degrees = np.stack(from_cells(corners[:, 0], corners[:, 1], 9), axis=1)
        assert np.abs(degrees - footprint_of(row["path"])).max() < 1e-6
        assert (out / row["path"]).is_file()
        assert 0 <= float(row["tilt_deg"]) <= 45


def test_the_homography_is_that_of_a_camera_over_the_plane():
    """Pixels and ground by trigonometry: a ray from the camera, turned by hand, meets the plane
    where the matrix says."""
    pose = Pose(
        (10.0, 20.0), (10.0, 20.0 - ALTITUDE_KM * np.tan(np.radians(30))), 30.0, 0.0, 2.5, 1.5
    )
    matrix = to_plane(pose, side_px=300)
    for x, y in ((149.5, 149.5), (0.0, 149.5), (149.5, 0.0), (37.0, 251.0)):
        aside = (x - 149.5) / 300 / 2.5
        # The photo's height is two thirds of its width, squeezed to a square; its upper side looks
        # farther north.
        up = np.arctan(-(y - 149.5) / 300 / 1.5 / 2.5) + np.radians(30)
        north = ALTITUDE_KM * np.tan(up)
        reach = ALTITUDE_KM / np.cos(up) * np.cos(up - np.radians(30))
        found = project(matrix, np.array([[x, y]]))[0]
        assert found == pytest.approx([10 + aside * reach, 20 - north], abs=1e-6)
    turned = to_plane(pose._replace(roll_deg=90.0), side_px=300)
    assert project(turned, np.array([[149.5, 149.5]]))[0] == pytest.approx(pose.aim_km)


def test_what_is_seen_is_neither_mirrored_nor_displaced():
    """Points matched between a photo and the map of its ground follow the homography of the
    truth."""
    region = make_region(7, side=8)
    (shot,) = plan_shots(region, 1, first=2)
    photo, _ = take(region, shot, side_px=224)
    corners = corners_km(shot.pose)
    low, km = corners.min(axis=0), float(np.ptp(corners, axis=0).max()) / 320
    tile = (
        255 * paint(Survey(region, Window(float(low[0]), float(low[1]), km, 320, 320)), Day(2021))
    ).astype(np.uint8)
    found = match_images(photo, tile, options=MatchOptions(is_upright=False))
    assert found.is_match, found.reason
    points = (
        project(to_plane(shot.pose, side_px=224), found.points0[found.is_inlier]) - low
    ) / km - 0.5
    assert np.median(np.linalg.norm(points - found.points1[found.is_inlier], axis=1)) < 1.5


def test_the_same_seed_gives_the_same_files_with_any_number_of_workers(
    earth, tmp_path, monkeypatch
):
    out, _ = earth
    monkeypatch.setattr(world_module, "FEW_FILES", 0)
    render_earth(tmp_path / "two", MINI, num_workers=2)
    assert files_of(tmp_path / "two") == files_of(out)


def test_an_interrupted_earth_goes_on_where_it_stopped(earth):
    out, _ = earth
    before = files_of(out)
    for name in [name for name in before if name.endswith(".jpg")][::41]:
        (out / name).unlink()
    gone = len(before) - len(files_of(out))
    assert render_earth(out, MINI, num_workers=1).num_rendered == gone > 0
    assert files_of(out) == before


def test_another_seed_is_another_earth_and_not_taken_for_this_one(earth):
    out, _ = earth
    with pytest.raises(InputError, match="another world"):
        render_earth(out, replace(MINI, seed=5), num_workers=1)
    assert make_region(1, side=4) != make_region(2, side=4)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"seed": -1}, BadOption),
        ({"tile_px": 100}, BadOption),
        ({"photo_px": 8}, BadOption),
        ({"regions": (RegionSize("region00", "", 5, 1),)}, BadOption),
        ({"regions": (RegionSize("region00", "", 4, 1, styles=("x",)),)}, UnknownName),
    ],
)
def test_what_cannot_be_rendered_is_refused(change, error):
    with pytest.raises(error):
        replace(MINI, **change)


def test_years_differ_in_fields_and_not_in_coasts():
    region = make_region(4, side=4)
    survey = Survey(region, Window(10.0, 10.0, 0.5, 96, 96))
    first, last = (paint(survey, Day(year, is_mosaic=False)) for year in (2018, 2021))
    change = np.abs(first - last).max(axis=2)
    assert (change[(survey.farms > 0.9) & (survey.water < 0.01)] > 0.05).mean() > 0.15
    wild = (survey.farms == 0) & (survey.water == 0) & (survey.towns == 0) & (survey.height < 0.3)
    assert wild.any()
    assert change[wild].max() == 0


def test_most_photos_lie_over_a_small_part_of_the_land():
    region = make_region(2, side=8)
    side = region.side * region.km_per_cell
    middles = np.array([shot.pose.aim_km for shot in plan_shots(region, 60)]) / side
    counts, _, _ = np.histogram2d(*middles.T, bins=5, range=((0, 1), (0, 1)))
    assert np.sort(counts.ravel())[-5:].sum() > 0.5 * len(middles)
    assert (counts == 0).sum() >= 5


def test_noise_depends_on_the_place_alone():
    whole = fractal(Window(0.0, 0.0, 0.5, 80, 60), 20.0, 5, seed=3, layer=1)
    part = fractal(Window(10.0, 5.0, 0.5, 20, 30), 20.0, 5, seed=3, layer=1)
    assert np.abs(whole[10:40, 20:40] - part).max() < 1e-5
    assert (
        np.abs(fractal(Window(0.0, 0.0, 0.5, 80, 60), 20.0, 5, seed=4, layer=1) - whole).mean()
        > 0.1
    )


def test_a_radar_sees_water_dark_and_its_speckle_multiplies():
    region = make_region(4, side=4)
    survey = Survey(region, Window(0.0, 0.0, 1.0, 128, 128))
    seen = backscatter(survey)
    land, sea = seen[survey.water < 0.01], seen[survey.water > 0.99]
    assert land.mean() > 3 * sea.mean()
    flat = backscatter(survey, looks=400)
    ratio = (seen[survey.water < 0.01] / np.maximum(flat[survey.water < 0.01], 1e-3)) ** 2
    # Of four looks the power varies by half its mean.
    assert ratio.std() == pytest.approx(0.5, abs=0.15)
