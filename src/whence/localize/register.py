"""One image registered to another tile by tile, as the SAR-optical benchmark does it, and as one
matrix for both files.

The moving image is cut into tiles that overlap, each is matched with the same share of the fixed
image, and agrees on an affine map or a homography; what several tiles say of a point is blended.
After Corley, Stoken, Berton (CVPR workshop on image matching, 2026).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import cv2
import numpy as np

from whence.data.raster_windows import ArrayWindows, Windows
from whence.errors import BadOption, UnknownName
from whence.localize.radiometry import NORMALISATIONS, normalise
from whence.matching.evidence import LEAST_SURPRISE, NOISE_INLIERS, surprise_of
from whence.matching.geometry import (
    REFERENCE_SIDE_PX,
    GeometrySettings,
    coverage,
    fit_geometry,
    scaling,
)
from whence.parts import Matcher
from whence.types import PointPairs

_LEAST_FIXED_PX = 64
_LEAST_KNOWN = 0.1
_WHOLE_PX = 640
_FAILURES = (
    MemoryError,
    RuntimeError,
    ValueError,
    IndexError,
    AttributeError,
    np.linalg.LinAlgError,
    cv2.error,
)


@dataclass(frozen=True, slots=True)
class RegisterOptions:
    """The protocol."""

    geometry: Literal["affine", "homography"] = "affine"
    tile_px: int = 512
    """Side of the moving image's tiles; 0 matches the images whole."""
    overlap_px: int = 256
    threshold_px: float = 3.0
    """Largest residual of an inlier, in pixels of the fixed image as it is matched."""
    min_inliers: int = 4
    """Inliers below which a tile does not count."""
    normalisation: str = "percentile"
    sar: Literal["moving", "fixed", "none"] = "moving"
    """Which of the images a radar took, for normalisations that treat it in a way of its own."""

    def __post_init__(self) -> None:
        if self.normalisation not in NORMALISATIONS:
            raise UnknownName("normalisation", self.normalisation, NORMALISATIONS)
        if self.geometry not in ("affine", "homography") or self.sar not in (
            "moving",
            "fixed",
            "none",
        ):
            raise BadOption("geometry is affine or homography, and sar is moving, fixed or none")
        if self.tile_px and not 0 <= self.overlap_px < self.tile_px:
            raise BadOption(f"tiles of {self.tile_px} pixels cannot overlap by {self.overlap_px}")
        if (
            self.tile_px < 0
            or 0 < self.tile_px < _LEAST_FIXED_PX
            or not self.threshold_px > 0
            or self.min_inliers < 1
        ):
            raise BadOption(
                "tiles have at least 64 pixels (0: no tiles), with a threshold above 0 and at "
                "least one inlier"
            )


class Box(NamedTuple):
    """A window of an image."""

    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True)
class TileMatches:
    """What was matched of one tile, in pixels of both whole images."""

    box: Box
    fixed_box: Box
    pairs: PointPairs


@dataclass(frozen=True)
class MatchedTiles:
    """All tiles of a pair."""

    tiles: tuple[TileMatches, ...]
    size0_px: tuple[int, int]
    size1_px: tuple[int, int]
    num_tiles: int
    """Tiles that were looked at; those of which too little is known have no matches."""
    num_failed: int = 0
    """Tiles whose matcher failed."""
    precision: str = "full"
    """bf16 where memory of the device ran out for a tile and it was matched again at half
    precision."""


@dataclass(frozen=True)
class FittedTile:
    """A tile whose matches agree."""

    box: Box
    matrix: np.ndarray
    """(3, 3) from the moving to the fixed image."""
    num_inliers: int
    coverage: float
    """Share of 4 x 4 cells of the tile that hold an inlier."""


@dataclass(frozen=True)
class Registration:
    """How a moving image lies on a fixed one."""

    status: str
    """ok, no_tiles where no tile's matches agree, or no_match where together they say no more than
    chance does."""
    reason: str = ""
    matrix: np.ndarray | None = None
    """(3, 3) from the moving to the fixed image; middles of pixels are whole numbers."""
    num_inliers: int = 0
    rms_px: float | None = None
    """Root of the mean square of what inliers are off."""
    tiles: tuple[FittedTile, ...] = ()


def tile_starts(length: int, *, tile: int, overlap: int) -> list[int]:
    """Where tiles begin along an axis of a length: at every step that leaves room, and where the
    last one ends with the axis."""
    step, last = max(1, tile - overlap), max(0, length - tile)
    return sorted({*range(0, last + 1, step), last})


def tiles_of(size_px: tuple[int, int], *, tile: int, overlap: int) -> Iterator[Box]:
    """The tiles of an image, row by row; a tile of 0 is the whole image."""
    width, height = size_px
    if not tile:
        yield Box(0, 0, width, height)
        return
    for y in tile_starts(height, tile=tile, overlap=overlap):
        for x in tile_starts(width, tile=tile, overlap=overlap):
            yield Box(x, y, min(tile, width), min(tile, height))


def same_share(box: Box, size0_px: tuple[int, int], size1_px: tuple[int, int]) -> Box:
    """The window of another image of the same footprint that shows what a tile of the first one
    shows, at least 64 pixels wide."""
    sides = []
    for start, extent, whole0, whole1 in zip(box[:2], box[2:], size0_px, size1_px, strict=True):
        ratio = whole1 / whole0
        side = min(max(_LEAST_FIXED_PX, round(extent * ratio)), whole1)
        sides.append(
            (min(max(round((start + extent / 2) * ratio - side / 2), 0), whole1 - side), side)
        )
    return Box(sides[0][0], sides[1][0], sides[0][1], sides[1][1])


def match_tiles(
    moving: Windows,
    fixed: Windows,
    matcher: Matcher,
    options: RegisterOptions,
    *,
    prior: np.ndarray | None = None,
    advance: Callable[[int], None] = lambda n: None,
) -> MatchedTiles:
    """Matches of every tile. A tile whose matcher fails is passed over; where memory ran out it is
    tried once more.

    Without a `prior` both images show the same footprint, held the same way, as published; with
    one, a (3, 3) from the moving to the fixed image, tiles are compared with what it says lies
    there. Only a tile and its window are held at a time.
    """
    sizes = (moving.size_px, fixed.size_px)
    matches, num_failed, precision, num = [], 0, "full", 0
    for box in tiles_of(sizes[0], tile=options.tile_px, overlap=options.overlap_px):
        num += 1
        advance(1)
        shown, known0 = moving.read(*box)
        other, known1, fixed_box, back = _window(box, fixed, sizes, prior)
        if other is None or known1 is None or min(known0.mean(), known1.mean()) < _LEAST_KNOWN:
            continue
        images = [
            _as_bytes(image, known, options.normalisation, is_sar=options.sar == side)
            for image, known, side in ((shown, known0, "moving"), (other, known1, "fixed"))
        ]
        try:
            pairs, is_half = _matched(matcher, images[0], images[1])
        except _FAILURES:
            num_failed += 1
            continue
        precision = "bf16" if is_half else precision
        kept = _on_known(pairs.points0, known0) & _on_known(pairs.points1, known1)
        points1 = (
            cv2.perspectiveTransform(pairs.points1[kept][None], back)[0]
            if kept.any()
            else pairs.points1[kept]
        )
        points0 = pairs.points0[kept] + np.array(box[:2])
        matches.append(
            TileMatches(box, fixed_box, PointPairs(points0, points1, *sizes, pairs.num_keypoints))
        )
    return MatchedTiles(tuple(matches), *sizes, num, num_failed, precision)


def fit_tiles(matched: MatchedTiles, options: RegisterOptions) -> tuple[FittedTile, ...]:
    """The tiles whose matches agree on a model with inliers enough."""
    fitted = []
    for tile in matched.tiles:
        start0, start1 = (np.array(box[:2], float) for box in (tile.box, tile.fixed_box))
        pairs = tile.pairs
        # Within the tile, as published: numbers of the whole image are large beside a homography's
        # last row.
        own = fit_geometry(
            pairs.points0 - start0,
            pairs.points1 - start1,
            size0_px=tile.box[2:],
            size1_px=tile.fixed_box[2:],
            settings=_settings(options, tile.fixed_box[2:]),
        )
        if own.matrix is None or own.num_inliers < options.min_inliers:
            continue
        matrix = _shift(start1) @ own.matrix @ _shift(-start0)
        if not np.isfinite(matrix).all():
            continue
        spread = coverage(pairs.points0[own.is_inlier] - start0, size_px=tile.box[2:])
        fitted.append(FittedTile(tile.box, matrix, own.num_inliers, spread))
    return tuple(fitted)


def project(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """(n, 2) points through a (3, 3) map; NaN for those at its horizon or beyond."""
    found = np.column_stack([points, np.ones(len(points))]) @ (matrix / matrix[2, 2]).T
    depth = np.where(found[:, 2] > 1e-9, found[:, 2], np.nan)
    return np.asarray(found[:, :2] / depth[:, None])


def transfer(points: np.ndarray, tiles: Sequence[FittedTile]) -> np.ndarray:
    """(n, 2) where points of the moving image lie on the fixed one: the mean of what tiles around
    them say; NaN where none does.

    A tile counts by its inliers, over one more than the pixels from its middle to the point; beside
    all tiles all of them count.
    """
    points = np.asarray(points, float).reshape(-1, 2)
    if not tiles:
        return np.full(points.shape, np.nan)
    boxes = np.array([tile.box for tile in tiles], float)
    lower, upper = boxes[:, :2], boxes[:, :2] + boxes[:, 2:]
    inside = ((points[:, None] >= lower) & (points[:, None] < upper)).all(axis=2)
    inside |= ~inside.any(axis=1, keepdims=True)
    apart = np.linalg.norm(points[:, None] - (lower + upper) / 2, axis=2)
    weights = inside * np.array([max(1, tile.num_inliers) for tile in tiles]) / (1 + apart)
    said = np.stack([project(tile.matrix, points) for tile in tiles], axis=1)
    weights = np.where(np.isfinite(said).all(axis=2), weights, 0)
    total = weights.sum(axis=1, keepdims=True)
    blended = (np.nan_to_num(said) * weights[..., None]).sum(axis=1)
    return np.where(total > 0, blended / np.where(total > 0, total, 1), np.nan)


def register(matched: MatchedTiles, options: RegisterOptions) -> Registration:
    """How the moving image lies on the fixed one by all tiles together, if they say more than
    chance does."""
    tiles = fit_tiles(matched, options)
    if not tiles:
        most = sum(len(tile.pairs.points0) for tile in matched.tiles)
        return Registration(
            "no_tiles",
            f"of {matched.num_tiles} tiles with {most} matches none agrees on a geometry",
        )
    points = [
        np.concatenate([getattr(tile.pairs, side) for tile in matched.tiles])
        for side in ("points0", "points1")
    ]
    # Tiles overlap: what two of them found alike counts once.
    _, once = np.unique(np.rint(np.hstack(points)), axis=0, return_index=True)
    pairs = PointPairs(
        points[0][once], points[1][once], matched.size0_px, matched.size1_px, (len(once), len(once))
    )
    settings = _settings(options, matched.size1_px)
    found = fit_geometry(
        pairs.points0,
        pairs.points1,
        size0_px=pairs.size0_px,
        size1_px=pairs.size1_px,
        settings=settings,
    )
    agreeing = f"{found.num_inliers} of {len(found.is_inlier)} matches agree"
    if found.matrix is None:
        return Registration("no_match", found.reason, tiles=tiles)
    if (
        found.num_inliers < NOISE_INLIERS
        or surprise_of(pairs, found.is_inlier, settings) < LEAST_SURPRISE
    ):
        return Registration("no_match", f"{agreeing}, as chance may give", tiles=tiles)
    off = project(found.matrix, pairs.points0[found.is_inlier]) - pairs.points1[found.is_inlier]
    rms = float(np.sqrt((off**2).sum(axis=1).mean()))
    return Registration("ok", "", found.matrix / found.matrix[2, 2], found.num_inliers, rms, tiles)


def whole_view(
    moving: Windows, fixed: Windows, matcher: Matcher, options: RegisterOptions
) -> np.ndarray | None:
    """(3, 3) from the moving to the fixed image as both agree on it seen small as a whole; None
    where chance gives as much."""
    views = []
    for windows in (moving, fixed):
        scale = min(1.0, _WHOLE_PX / max(windows.size_px))
        width, height = (max(1, round(side * scale)) for side in windows.size_px)
        views.append(ArrayWindows(*windows.read(0, 0, *windows.size_px, (width, height))))
    found = register(
        match_tiles(views[0], views[1], matcher, replace(options, tile_px=0)),
        replace(options, tile_px=0),
    )
    if found.matrix is None:
        return None
    return (
        scaling(views[1].size_px, fixed.size_px)
        @ found.matrix
        @ scaling(moving.size_px, views[0].size_px)
    )


def _settings(options: RegisterOptions, size1_px: tuple[int, int]) -> GeometrySettings:
    threshold = options.threshold_px * REFERENCE_SIDE_PX / max(size1_px)
    return GeometrySettings(model=options.geometry, threshold_px=threshold, method="ransac")


def _window(
    box: Box,
    fixed: Windows,
    sizes: tuple[tuple[int, int], tuple[int, int]],
    prior: np.ndarray | None,
) -> tuple[np.ndarray | None, np.ndarray | None, Box, np.ndarray]:
    """What of the fixed image is compared with a tile, which of it is known, its box, and (3, 3)
    from there to the whole image."""
    if prior is None:
        there = same_share(box, *sizes)
        return (*fixed.read(*there), there, _shift(np.array(there[:2], float)))
    from_tile = prior @ _shift(np.array(box[:2], float))
    corners = project(
        from_tile,
        np.array([[0, 0], [box.width, 0], [box.width, box.height], [0, box.height]], float),
    )
    low, high = np.floor(corners.min(axis=0)) - 2, np.ceil(corners.max(axis=0)) + 3
    if not np.isfinite([low, high]).all():
        return None, None, box, from_tile
    x, y = (max(0, int(value)) for value in low)
    right, bottom = (min(extent, int(value)) for extent, value in zip(sizes[1], high, strict=True))
    if right - x < 2 or bottom - y < 2:
        return None, None, box, from_tile
    onto = np.linalg.inv(from_tile) @ _shift(np.array([x, y], float))
    # What becomes smaller is averaged first.
    zoom = min(1.0, float(np.sqrt(abs(np.linalg.det(onto[:2, :2])))))
    size = (max(1, round((right - x) * zoom)), max(1, round((bottom - y) * zoom)))
    pixels, known = fixed.read(x, y, right - x, bottom - y, size)
    onto = onto @ scaling(size, (right - x, bottom - y))
    shown = cv2.warpPerspective(pixels, onto, (box.width, box.height), flags=cv2.INTER_LINEAR)
    is_known = (
        cv2.warpPerspective(
            known.astype(np.uint8), onto, (box.width, box.height), flags=cv2.INTER_NEAREST
        )
        > 0
    )
    return shown, is_known, Box(x, y, right - x, bottom - y), from_tile


def _shift(by: np.ndarray) -> np.ndarray:
    return np.array([[1, 0, by[0]], [0, 1, by[1]], [0, 0, 1.0]])


def _as_bytes(image: np.ndarray, is_known: np.ndarray, way: str, *, is_sar: bool) -> np.ndarray:
    pixels = np.rint(255 * normalise(image, way, is_sar=is_sar)).astype(np.uint8)
    return np.ascontiguousarray(np.where(is_known[..., None], pixels, 0))


def _on_known(points: np.ndarray, is_known: np.ndarray) -> np.ndarray:
    """(n,) bool: which points lie on a known pixel."""
    column, row = np.rint(points).astype(int).reshape(-1, 2).T
    height, width = is_known.shape
    return np.asarray(is_known[np.clip(row, 0, height - 1), np.clip(column, 0, width - 1)])


def _matched(matcher: Matcher, image0: np.ndarray, image1: np.ndarray) -> tuple[PointPairs, bool]:
    """What a matcher finds, and whether that was at half precision, because memory of the device
    had run out."""
    try:
        return _pairs(matcher, image0, image1), False
    except _FAILURES as error:
        if not isinstance(error, MemoryError) and type(error).__name__ != "OutOfMemoryError":
            raise
    with _half_precision():
        return _pairs(matcher, image0, image1), True


def _pairs(matcher: Matcher, image0: np.ndarray, image1: np.ndarray) -> PointPairs:
    found = next(iter(matcher.match(matcher.prepare(image0), [matcher.prepare(image1)])))
    assert found is not None, "the second image was prepared"
    return found


@contextmanager
def _half_precision() -> Iterator[None]:
    """Networks of torch, where it is in use, compute in bf16 inside the block, on memory that was
    given back."""
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    kind = "cuda" if torch.cuda.is_available() else "cpu"
    torch.cuda.empty_cache()
    with torch.autocast(kind, dtype=torch.bfloat16):
        yield
