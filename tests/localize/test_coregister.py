"""Co-registration: the published traces by an oracle, what is refused, exact Mercator, thresholds,
and files for a GIS."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from whence.data.footprints import centre_of, iou
from whence.data.tiles import Tile, tile_boxes
from whence.errors import BadOption
from whence.evaluation.registration import corner_errors_km, holds_middle, inlier_threshold
from whence.localize.coregister import Agreement, CoregisterOptions, coregister, finder, to_degrees
from whence.localize.georeference import (
    as_feature,
    control_points,
    draw_overlay,
    in_metres,
    roll_deg,
    to_ground,
    warped,
    write_geotiff,
    write_world_file,
)
from whence.matching.matchers import open_mnn

SIDE = 512
BOX = (36.38591, 38.14453, 36.45664, 38.23242)
TRUE = np.array([[1.2, 0.15, -60], [-0.1, 1.1, 40], [1.5e-4, -1e-4, 1]])
OUTLINE = np.array([[0, 0], [SIDE, 0], [SIDE, SIDE], [0, SIDE]], float)
BLANK, AROUND = np.zeros((SIDE, SIDE, 3), np.uint8), np.zeros((3 * SIDE, 3 * SIDE, 3), np.uint8)
PUBLISHED = CoregisterOptions(is_published=True)


def project(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    found = np.column_stack([points, np.ones(len(points))]) @ matrix.T
    return found[:, :2] / found[:, 2:]


def oracle(matrix: np.ndarray, *, is_noisy: bool = False):
    """A grid of 15 x 15 points brought to the candidate by the true homography, and from there by
    the round's warp."""
    grid = np.stack(np.meshgrid(*[np.linspace(0, SIDE, 15)] * 2), axis=-1).reshape(-1, 2)
    k = np.arange(225)
    noise = 0.8 * np.stack([(37 * k % 101) / 50 - 1, (53 * k % 97) / 48 - 1], axis=1)

    def find(photo: np.ndarray, middle: np.ndarray, onto: np.ndarray) -> Agreement:
        found, mask = cv2.findHomography(
            grid, project(onto @ matrix, grid) + is_noisy * noise, cv2.RANSAC, 3.0
        )
        return Agreement(int(mask.sum()), found)

    return find


def errors(found) -> list[float]:
    return [float(np.abs(corners - project(TRUE, OUTLINE)).max()) for corners in found.corners]


def test_the_published_trace_of_four_rounds():
    found = coregister(BLANK, AROUND, BOX, oracle(TRUE), options=PUBLISHED)
    assert found.is_match
    assert errors(found) == pytest.approx([0, 0.8600, 1.0021, 0.6638], abs=2e-3)
    assert found.corners[1] == pytest.approx(
        np.array([[-60, 40], [515.719, -10.804], [615.889, 538.443], [18.414, 636.5]]), abs=2e-3
    )
    # Upper left, upper right, lower right, lower left after the last round; ours begins at the
    # lower left.
    texts = np.array(
        [(36.45111, 38.13423), (36.45802, 38.23294), (36.38232, 38.25010), (36.36878, 38.14745)]
    )
    assert found.footprint == pytest.approx(texts[[3, 0, 1, 2]], abs=1.1e-5)
    noisy = coregister(BLANK, AROUND, BOX, oracle(TRUE, is_noisy=True), options=PUBLISHED)
    assert errors(noisy) == pytest.approx([0.1058, 0.9787, 1.0667, 0.9339], abs=2e-3)


def test_corners_that_are_not_cut_stay_where_they_are():
    assert max(errors(coregister(BLANK, AROUND, BOX, oracle(TRUE)))) < 1e-3
    noisy = errors(coregister(BLANK, AROUND, BOX, oracle(TRUE, is_noisy=True)))
    # Noise of a fixed number of pixels counts for more where the middle was enlarged; it does not
    # grow from round to round.
    assert max(noisy) < 0.14
    assert noisy[3] == pytest.approx(noisy[1], abs=1e-3)
    stopped = coregister(BLANK, AROUND, BOX, oracle(TRUE), options=CoregisterOptions(stop_px=1.0))
    assert len(stopped.corners) == 2


@pytest.mark.parametrize(
    ("matrix", "published", "ours"),
    [
        ([[3.2, 0, -500], [0, 3.2, -500], [0, 0, 1]], "larger", "larger"),
        ([[1, 0.2, 0], [0.3, 1, 0], [-2.6e-3, -6e-4, 1]], "folded", "folded"),
        ([[-1, 0, 512], [0, 1, 0], [0, 0, 1]], "", "mirrored"),
    ],
)
def test_what_is_refused(matrix, published, ours):
    for options, reason in ((PUBLISHED, published), (CoregisterOptions(), ours)):
        found = coregister(BLANK, AROUND, BOX, oracle(np.array(matrix, float)), options=options)
        assert found.is_match == (not reason)
        assert reason in found.reason
        assert len(found.corners) == (4 if found.is_match else 1)
    nothing = coregister(BLANK, AROUND, BOX, lambda photo, middle, onto: Agreement(0, None))
    assert not nothing.is_match
    assert nothing.footprint is None


def test_pixels_to_degrees_as_published_and_by_mercator():
    corners = np.trunc(project(TRUE, OUTLINE).astype(np.float32))
    found = to_degrees(corners, BOX, side_px=SIDE, is_linear=True)
    expected = [
        (36.451115, 38.134232),
        (36.458023, 38.232765),
        (36.382320, 38.250103),
        (36.368919, 38.147449),
    ]
    assert found == pytest.approx(np.array(expected), abs=2e-6)
    box = tile_boxes(np.array([Tile(9, 180, 240)]))[0]
    edges = np.array([[0, -SIDE], [0, 2 * SIDE], [0, 0], [SIDE, SIDE]], float)
    exact = to_degrees(edges, box, side_px=SIDE)[:, 0]
    assert exact == pytest.approx([48.922499, 43.068888, box[2], box[0]], abs=1e-6)
    linear = to_degrees(edges, box, side_px=SIDE, is_linear=True)[:2, 0]
    assert linear == pytest.approx([48.991329, 43.137888], abs=1e-6)
    # Across the antimeridian longitudes go on.
    across = to_degrees(np.array([[SIDE, 0.0]]), (10.0, 179.0, 12.0, -179.0), side_px=SIDE)
    assert across[0, 1] == pytest.approx(181.0)


@pytest.mark.parametrize(
    ("true", "false", "expected"),
    [
        ([50, 80, 120, 200, 300], [4, 5, 6, 8], 56.8408),
        ([10, 12, 15, 20], [9, 11, 13, 14], 38.7827),
        ([5, 6, 7], [1], 4.0),
        ([5, 6, 7], [], -1.0),
        ([1, 2, 3, 4], [50, 60, 70, 80], np.inf),
    ],
)
def test_the_published_thresholds(true, false, expected):
    assert inlier_threshold(true, false) == pytest.approx(expected, abs=0.01)


def test_a_right_footprint_holds_the_middle_once_enlarged():
    footprint = np.array(
        [
            (36.451115, 38.134232),
            (36.458023, 38.232765),
            (36.382320, 38.250103),
            (36.368919, 38.147449),
        ]
    )
    # The published enlargement by three puts its first corner at 36.523973, 38.021552.
    assert holds_middle(footprint, (36.523, 38.0225))
    assert not holds_middle(footprint, (36.5245, 38.0210))
    assert holds_middle(np.array([[10, 179], [11, 179], [11, -179], [10, -179.0]]), (10.5, -179.9))


def textured(side: int, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    layers = [
        cv2.resize(random.uniform(0, 1, (n, n, 3)), (side, side), interpolation=cv2.INTER_CUBIC)
        for n in (8, 24, 70)
    ]
    return np.clip(255 * (0.3 * layers[0] + 0.3 * layers[1] + 0.4 * layers[2]), 0, 255).astype(
        np.uint8
    )


@pytest.mark.parametrize("turns", [0, 1])
def test_a_matcher_of_the_house_finds_a_photo_in_its_surroundings(turns):
    side = 128
    around = textured(3 * side, 0)
    truth = np.array([[1.1, 0.2, -20.0], [-0.15, 0.95, 25.0], [2e-4, -1e-4, 1.0]])
    shift = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
    from_around = (
        np.linalg.inv(shift)
        @ np.linalg.inv(truth)
        @ np.array([[1, 0, -side], [0, 1, -side], [0, 0, 1.0]])
        @ shift
    )
    upright = cv2.warpPerspective(around, from_around, (side, side), flags=cv2.INTER_LINEAR)
    # A photo that is to be turned by so many quarters before it is compared.
    photo = np.rot90(upright, -turns)
    find = finder(open_mnn("rootsift", is_upright=True))
    found = coregister(
        photo, around, BOX, find, turns=turns, options=CoregisterOptions(side_px=side)
    )
    assert found.is_match, found.reason
    outline = np.array([[0, 0], [side, 0], [side, side], [0, side]], float)
    assert np.abs(found.corners[-1] - project(truth, outline)).max() < 1.0
    assert found.rms_px < 1.5
    degrees = to_degrees(project(truth, outline), BOX, side_px=side)
    # Upper left of the upright photo is corner `turns` of the photo as given.
    own = degrees[(np.arange(4) - turns) % 4][[3, 0, 1, 2]]
    assert iou(found.footprint, own) > 0.97
    assert corner_errors_km(found.footprint, own).max() < 0.1
    assert project(found.matrix, outline) == pytest.approx(
        project(truth, outline)[(np.arange(4) - turns) % 4], abs=1.0
    )
    other = coregister(
        textured(side, 5), around, BOX, find, options=CoregisterOptions(side_px=side)
    )
    assert not other.is_match or other.num_inliers < found.num_inliers / 3


FOOTPRINT = np.array([[45.0, 7.0], [46.2, 6.8], [46.4, 8.6], [45.1, 8.4]])


def test_a_photo_lies_where_its_footprint_says():
    matrix = to_ground(FOOTPRINT, (300, 200))
    corners = project(
        matrix, np.array([[-0.5, 199.5], [-0.5, -0.5], [299.5, -0.5], [299.5, 199.5]])
    )
    assert np.abs(corners - in_metres(FOOTPRINT)).max() < 1e-3
    points = control_points(FOOTPRINT, (300, 200))
    assert points.shape == (9, 4)
    assert points[0] == pytest.approx([0, 0, *in_metres(FOOTPRINT)[1]], abs=1e-3)
    north_up = np.array([[45.0, 7.0], [46.0, 7.0], [46.0, 8.0], [45.0, 8.0]])
    assert roll_deg(north_up) == pytest.approx(0, abs=1e-6)
    assert roll_deg(np.roll(north_up, 1, axis=0)) == pytest.approx(270, abs=10)
    feature = as_feature(FOOTPRINT, {"query": "a.jpg"})
    assert feature["geometry"]["type"] == "Polygon"
    assert feature["properties"]["query"] == "a.jpg"
    assert (feature["properties"]["lat"], feature["properties"]["lon"]) == pytest.approx(
        centre_of(FOOTPRINT), abs=1e-5
    )


def test_a_world_file_says_how_far_it_is_off(tmp_path):
    flat = in_metres(FOOTPRINT)
    off = write_world_file(tmp_path / "a.jgw", FOOTPRINT, (300, 200))
    a, d, b, e, c, f = (float(line) for line in (tmp_path / "a.jgw").read_text().split())
    corners = np.array([[-0.5, 199.5], [-0.5, -0.5], [299.5, -0.5], [299.5, 199.5]])
    found = corners @ np.array([[a, d], [b, e]]) + np.array([c, f])
    assert 0 < np.linalg.norm(found - flat, axis=1).max() <= off * 1.001
    box = np.array([[45.0, 7.0], [46.0, 7.0], [46.0, 8.0], [45.0, 8.0]])
    assert write_world_file(tmp_path / "b.jgw", box, (300, 200)) < 1e-3


def test_a_geotiff_opens_in_its_place(tmp_path):
    rasterio = pytest.importorskip("rasterio")
    photo = textured(300, 1)[:200]
    write_geotiff(tmp_path / "a.tif", photo, FOOTPRINT)
    with rasterio.open(tmp_path / "a.tif") as file:
        assert file.crs.to_epsg() == 3857
        assert file.colorinterp[3].name == "alpha"
        pixels, onto = file.read(), np.array(~file.transform).reshape(3, 3)
    assert (pixels[3] == 0).any()
    # Corners, and the colours of the photo at some places, half a pixel exact.
    matrix = to_ground(FOOTPRINT, (300, 200))
    for x, y in ((40, 30), (200, 50), (120, 170), (280, 180)):
        column, row = project(onto, project(matrix, np.array([[x, y]], float)))[0]
        there = pixels[:3, round(row - 0.5), round(column - 0.5)].astype(int)
        near = photo[y - 2 : y + 3, x - 2 : x + 3].reshape(-1, 3).astype(int)
        assert (near.min(axis=0) - 6 <= there).all()
        assert (there <= near.max(axis=0) + 6).all()
    shown = np.argwhere(pixels[3] > 127)
    corners = project(onto, in_metres(FOOTPRINT))
    low, high = corners.min(axis=0), corners.max(axis=0)
    assert np.abs([shown[:, 1].min() - low[0], shown[:, 0].min() - low[1]]).max() < 1.5
    assert np.abs([shown[:, 1].max() + 1 - high[0], shown[:, 0].max() + 1 - high[1]]).max() < 1.5
    with pytest.raises(BadOption, match="85 degrees"):
        write_geotiff(tmp_path / "b.tif", photo, FOOTPRINT + np.array([43.0, 0.0]))


def test_an_overlay_lays_the_photo_where_it_was_found():
    around = np.zeros((192, 192, 3), np.uint8)
    photo = np.full((50, 70, 3), 200, np.uint8)
    picture = draw_overlay(photo, around, np.diag([0.5, 0.5, 1.0]), side_px=64)
    assert picture.shape == (192, 384, 3)
    covered = picture[:, 192:]
    assert covered[80, 80].tolist() == [200, 200, 200]
    assert covered[120, 120].tolist() == [0, 0, 0]
    pixels, (left, top, step) = warped(photo, FOOTPRINT)
    assert pixels.shape[2] == 4
    assert (left, top) == pytest.approx(
        (in_metres(FOOTPRINT)[:, 0].min(), in_metres(FOOTPRINT)[:, 1].max())
    )
    assert step > 0
