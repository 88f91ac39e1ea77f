"""Registration tile by tile: the published tiling, normalisations, blending and gates; statuses,
failures, one matrix of all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import cv2
import numpy as np
import pytest

from conftest import draw_place
from whence.data.raster_windows import ArrayWindows
from whence.errors import BadOption, UnknownName
from whence.localize.radiometry import NORMALISATIONS, normalise, to_bytes
from whence.localize.register import (
    Box,
    FittedTile,
    MatchedTiles,
    RegisterOptions,
    TileMatches,
    fit_tiles,
    match_tiles,
    project,
    register,
    same_share,
    tile_starts,
    tiles_of,
    transfer,
)
from whence.matching.geometry import coverage
from whence.matching.matchers import open_mnn
from whence.types import PointPairs

PERSPECTIVE = np.array([[1.1, 0.05, 10], [0.02, 0.95, -7], [1e-4, 2e-5, 1]])


@pytest.mark.parametrize(
    ("length", "tile", "overlap", "starts"),
    [
        (1000, 512, 256, [0, 256, 488]),
        (1024, 512, 256, [0, 256, 512]),
        (300, 512, 256, [0]),
        (1024, 768, 128, [0, 256]),
        (1024, 512, 128, [0, 384, 512]),
    ],
)
def test_where_tiles_begin(length, tile, overlap, starts):
    assert tile_starts(length, tile=tile, overlap=overlap) == starts


def test_tiles_cover_the_image_and_show_the_same_share_of_the_other():
    boxes = list(tiles_of((700, 300), tile=256, overlap=128))
    seen = np.zeros((300, 700), int)
    for x, y, width, height in boxes:
        seen[y : y + height, x : x + width] += 1
    assert seen.min() >= 1
    assert list(tiles_of((700, 300), tile=0, overlap=0)) == [Box(0, 0, 700, 300)]
    # Half as many pixels: half as large, its middle at the same share, clamped at the edge, and
    # never below 64 pixels.
    assert same_share(Box(256, 0, 256, 256), (1024, 1024), (512, 512)) == Box(128, 0, 128, 128)
    assert same_share(Box(768, 768, 256, 256), (1024, 1024), (512, 512)) == Box(384, 384, 128, 128)
    assert same_share(Box(0, 500, 64, 64), (1024, 1024), (256, 256)) == Box(0, 101, 64, 64)
    assert same_share(Box(0, 0, 100, 100), (100, 100), (40, 40)) == Box(0, 0, 40, 40)


def test_normalisations_of_a_ramp():
    ramp = np.repeat(np.arange(64, dtype=np.uint8).reshape(8, 8)[..., None], 3, axis=2)
    stretched = normalise(ramp, "percentile", is_sar=True)
    assert (stretched[3, 4, 0], stretched.mean()) == pytest.approx((0.442130, 0.5), abs=1e-5)
    scores = normalise(ramp, "zscore", is_sar=False)
    found = [scores[place][0] for place in ((0, 0), (0, 1), (3, 4), (7, 7))]
    assert found == pytest.approx([0.158961, 0.169788, 0.462107, 0.841039], abs=1e-5)


@pytest.mark.parametrize(
    ("way", "is_sar", "value", "mean", "spread", "near"),
    [
        ("percentile", True, 0.077551, 0.492789, 0.301384, 1e-5),
        ("zscore", True, 0.225091, 0.500000, 0.200000, 1e-5),
        ("clahe", True, 0.137255, 0.516383, 0.287089, 0.02),
        ("sarlog_percentile", True, 0.366173, 0.733606, 0.245368, 1e-5),
        ("winsol_log", True, 0.366173, 0.733606, 0.245368, 2e-3),
        ("winsol_gaussian", True, 0.462745, 0.498227, 0.056267, 0.02),
        ("winsol_bilateral", True, 0.454902, 0.504865, 0.096102, 0.02),
        ("winsol_clahe", True, 0.486275, 0.516824, 0.142555, 0.02),
        ("winsol_gaussian", False, 0.098039, 0.496952, 0.290214, 1e-5),
        ("identity", True, 0.098039, 0.496952, 0.290214, 1e-5),
    ],
)
def test_the_nine_normalisations(way, is_sar, value, mean, spread, near):
    j = np.arange(64 * 64)
    image = np.repeat(
        ((31 * j**2 + 17 * j + 7) % 1009 % 256).astype(np.uint8).reshape(64, 64)[..., None],
        3,
        axis=2,
    )
    found = normalise(image, way, is_sar=is_sar)
    assert found.dtype == np.float32
    assert (found[10, 20, 0], found.mean(), found.std()) == pytest.approx(
        (value, mean, spread), abs=near
    )


@pytest.mark.parametrize("way", NORMALISATIONS)
def test_flat_and_dark_images_are_normalised_too(way):
    for level in (0, 90):
        for is_sar in (True, False):
            found = normalise(np.full((32, 40, 3), level, np.uint8), way, is_sar=is_sar)
            assert found.shape == (32, 40, 3)
            assert np.isfinite(found).all()
            assert found.min() >= 0
            assert found.max() <= 1


def test_other_types_become_bytes():
    bands = np.array([[100, 300], [500, np.nan]])
    assert to_bytes(bands)[..., 1].tolist() == [[0, 128], [255, 0]]
    assert (to_bytes(np.full((3, 4), 7.5)) == 0).all()
    assert to_bytes(np.array([[0, 65535]], np.uint16))[0, 1].tolist() == [255, 255, 255]
    grey = np.arange(12, dtype=np.uint8).reshape(3, 4)
    assert np.array_equal(to_bytes(grey)[..., 2], grey)
    with pytest.raises(UnknownName, match="zscore"):
        normalise(np.zeros((4, 4, 3), np.uint8), "zscores", is_sar=False)


def test_points_beyond_the_horizon_go_nowhere():
    found = project(PERSPECTIVE, np.array([[100, 200], [512, 512]], float))
    assert found == pytest.approx(
        np.array([[128.205128, 182.445759], [564.139282, 461.297860]]), abs=1e-5
    )
    behind = project(
        np.array([[1, 0, 0], [0, 1, 0], [-0.01, 0, 1]]),
        np.array([[50, 5], [100, 5], [200, 5]], float),
    )
    assert np.isfinite(behind).all(axis=1).tolist() == [True, False, False]


def shifted(x: int, width: int, by: tuple[float, float], num_inliers: int) -> FittedTile:
    matrix = np.array([[1, 0, by[0]], [0, 1, by[1]], [0, 0, 1]], float)
    return FittedTile(Box(x, 0, width, 512), matrix, num_inliers, 1.0)


def test_what_tiles_say_is_blended():
    tiles = [shifted(0, 512, (5, 0), 40), shifted(256, 512, (11, 3), 10)]
    points = np.array([[100, 100], [300, 256], [600, 10], [900, 900]], float)
    expected = [[105, 100], [305.301003, 256.150502], [611, 13], [906.394418, 900.697209]]
    assert transfer(points, tiles) == pytest.approx(np.array(expected), abs=1e-5)
    assert np.isnan(transfer(points, [])).all()
    # A tile with a horizon says nothing of what lies beyond it; others do.
    folded = FittedTile(
        Box(0, 0, 512, 512), np.array([[1, 0, 0], [0, 1, 0], [-0.01, 0, 1]], float), 50, 1.0
    )
    assert transfer(points[1:2], [folded, tiles[0]]) == pytest.approx(np.array([[305, 256]]))
    assert np.isnan(transfer(points[1:2], [folded])).all()


def test_coverage_of_a_tile():
    points = np.array([[0, 0], [10, 10], [99, 99], [30, 80]], float)
    assert coverage(points, size_px=(100, 100)) == 0.1875


def made_up(side: int = 256) -> MatchedTiles:
    k = np.arange(60)
    points0 = np.stack([37 * k % 211, 53 * k % 197], axis=1).astype(float)
    points1 = points0 @ np.array([[1.02, 0.04], [-0.03, 0.97]]) + [4, -6]
    points1[::5] += np.stack([17 * k % 90 + 20, 29 * k % 70 + 15], axis=1)[::5]
    box, size = Box(0, 0, side, side), (side, side)
    # Points that leave the image are none, so the frame is made wide enough for all.
    pairs = PointPairs(points0 + 40, points1 + 40, size, size, (60, 60))
    return MatchedTiles((TileMatches(box, box, pairs),), size, size, 1)


@pytest.mark.parametrize("geometry", ["affine", "homography"])
def test_both_models_find_the_affine_map(geometry):
    (tile,) = fit_tiles(made_up(400), RegisterOptions(geometry=geometry, tile_px=0))
    truth = np.array([[1.02, -0.03, 4], [0.04, 0.97, -6], [0, 0, 1]])
    onto = np.array([[1, 0, 40], [0, 1, 40], [0, 0, 1.0]])
    assert np.abs(tile.matrix / tile.matrix[2, 2] - onto @ truth @ np.linalg.inv(onto)).max() < 1e-3
    assert tile.num_inliers == 48
    assert not fit_tiles(
        made_up(400), RegisterOptions(geometry=geometry, tile_px=0, min_inliers=49)
    )
    found = register(made_up(400), RegisterOptions(geometry=geometry, tile_px=0))
    assert (found.status, found.num_inliers) == ("ok", 48)
    assert found.rms_px == pytest.approx(0, abs=1e-3)


def plain(seed: int, *, side: int = 320) -> np.ndarray:
    return draw_place(seed, width=side, height=side)


class Failing:
    """RootSIFT that fails in some way on its first calls."""

    key = "failing/1"

    def __init__(self, errors: list[BaseException]) -> None:
        self.matcher, self.errors, self.num = open_mnn("rootsift"), errors, 0

    def prepare(self, image: np.ndarray) -> dict[str, np.ndarray]:
        return self.matcher.prepare(image)

    def match(self, query, candidates: Iterable) -> Iterator[PointPairs | None]:
        self.num += 1
        if self.errors:
            raise self.errors.pop(0)
        yield from self.matcher.match(query, candidates)


OPTIONS = RegisterOptions(tile_px=200, overlap_px=80)
AFFINE = np.array([[1.01, 0.02, 5.0], [-0.015, 0.99, -4.0], [0, 0, 1]])


def test_one_matrix_for_both_images():
    moving = plain(3)
    fixed = cv2.warpPerspective(moving, AFFINE, (320, 320), borderMode=cv2.BORDER_REFLECT)
    matched = match_tiles(ArrayWindows(moving), ArrayWindows(fixed), open_mnn("rootsift"), OPTIONS)
    assert (matched.num_tiles, matched.num_failed, matched.precision) == (4, 0, "full")
    found = register(matched, OPTIONS)
    assert found.status == "ok"
    assert found.matrix is not None
    grid = (
        np.stack(np.meshgrid([20, 160, 300], [20, 160, 300]), axis=-1).reshape(-1, 2).astype(float)
    )
    assert np.linalg.norm(project(found.matrix, grid) - project(AFFINE, grid), axis=1).max() < 0.6
    assert found.rms_px is not None
    assert found.rms_px < 1.5
    assert np.linalg.norm(transfer(grid, found.tiles) - project(AFFINE, grid), axis=1).max() < 1.2
    # Turned and half as large, by what is known before.
    turned = np.array([[0, -0.5, 160], [0.5, 0, 0], [0, 0, 1.0]])
    small = cv2.warpPerspective(cv2.GaussianBlur(moving, (0, 0), 0.8), turned, (160, 160))
    again = match_tiles(
        ArrayWindows(moving), ArrayWindows(small), open_mnn("rootsift"), OPTIONS, prior=turned
    )
    other = register(again, OPTIONS)
    assert other.matrix is not None, other.reason
    assert np.linalg.norm(project(other.matrix, grid) - project(turned, grid), axis=1).max() < 1.0


def test_what_does_not_match_is_said():
    one, other = ArrayWindows(plain(3)), ArrayWindows(plain(4))
    found = register(match_tiles(one, other, open_mnn("rootsift"), OPTIONS), OPTIONS)
    assert found.status in ("no_tiles", "no_match")
    assert found.reason
    assert found.matrix is None
    assert found.rms_px is None
    flat = ArrayWindows(np.full((320, 320, 3), 70, np.uint8))
    assert (
        register(match_tiles(one, flat, open_mnn("rootsift"), OPTIONS), OPTIONS).status
        == "no_tiles"
    )
    nothing_known = ArrayWindows(plain(3), np.zeros((320, 320), bool))
    unseen = match_tiles(nothing_known, one, open_mnn("rootsift"), OPTIONS)
    assert unseen.tiles == ()
    assert register(unseen, OPTIONS).status == "no_tiles"


def test_points_on_what_is_not_known_do_not_count():
    known = np.zeros((320, 320), bool)
    known[:, :150] = True
    half = ArrayWindows(plain(3), known)
    matched = match_tiles(
        half, ArrayWindows(plain(3)), open_mnn("rootsift"), RegisterOptions(tile_px=0)
    )
    assert len(matched.tiles[0].pairs.points0) > 10
    assert matched.tiles[0].pairs.points0[:, 0].max() <= 149.5


class OutOfMemoryError(RuntimeError):
    """As the one of torch."""


def test_a_tile_that_fails_is_passed_over_and_one_without_memory_tried_again():
    windows = ArrayWindows(plain(5))
    broken = match_tiles(windows, windows, Failing([ValueError("odd")]), OPTIONS)
    assert (len(broken.tiles), broken.num_failed, broken.precision) == (3, 1, "full")
    for error in (OutOfMemoryError("no room"), MemoryError()):
        matcher = Failing([error])
        again = match_tiles(windows, windows, matcher, OPTIONS)
        assert (len(again.tiles), again.num_failed, again.precision) == (4, 0, "bf16")
        assert matcher.num == 5
    twice = match_tiles(windows, windows, Failing([MemoryError(), MemoryError()]), OPTIONS)
    assert (len(twice.tiles), twice.num_failed) == (3, 1)
    with pytest.raises(KeyboardInterrupt):
        match_tiles(windows, windows, Failing([KeyboardInterrupt()]), OPTIONS)


@pytest.mark.parametrize(
    "changes",
    [
        {"geometry": "fundamental"},
        {"tile_px": 100, "overlap_px": 100},
        {"tile_px": 20},
        {"threshold_px": 0},
        {"sar": "both"},
    ],
)
def test_options_that_cannot_be(changes):
    with pytest.raises(BadOption):
        RegisterOptions(**changes)
    with pytest.raises(UnknownName, match="percentile"):
        RegisterOptions(normalisation="percent")
