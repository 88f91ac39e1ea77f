"""A moving image warped onto the pixels of a fixed one, block by block, in its own bands and type;
and a picture of both."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from whence.data.cogs import BLOCK_PX, RasterLayout, write_cog
from whence.data.raster_windows import RasterWindows, Windows
from whence.localize.register import FittedTile, project, transfer
from whence.matching.geometry import scaling
from whence.runtime import atomic_write

_PICTURE_PX = 1024
_CELLS = 8
_OUTLINE = (255, 60, 40)
_ALONG = 20


def write_warped(path: str | Path, moving: Windows, fixed: Windows, matrix: np.ndarray) -> None:
    """Write the moving image on the fixed one's pixels, which (3, 3) `matrix` leads to, as a
    cloud-optimised GeoTIFF.

    It lies where the fixed raster says that it lies; without a place there it has none either.
    Bytes and whole numbers get a band that says what is known, of floating numbers NaN does. Raises
    `MissingExtra` and `UnwritableFile`.
    """
    num_bands, kind = 3, np.dtype(np.uint8)
    if isinstance(moving, RasterWindows):
        num_bands, kind = moving.source.count, np.dtype(np.result_type(*moving.source.dtypes))
    is_float = kind.kind == "f"
    place = {}
    if isinstance(fixed, RasterWindows) and fixed.is_placed:
        place = {"crs": fixed.source.crs, "transform": fixed.source.transform}
    layout = RasterLayout(
        fixed.size_px,
        num_bands + (not is_float),
        kind.name,
        has_alpha=not is_float,
        nodata=float("nan") if is_float else None,
        **place,
    )
    write_cog(path, layout, _blocks(moving, fixed.size_px, matrix, kind))


def draw_registered(moving: Windows, fixed: Windows, matrix: np.ndarray) -> np.ndarray:
    """(H, 2 W, 3) uint8: the fixed image with the moving one's outline, and a chessboard of
    both."""
    width, height = fixed.size_px
    scale = min(1.0, _PICTURE_PX / max(width, height))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    shown, _ = fixed.read(0, 0, width, height, size)
    own = tuple(
        max(1, round(side * min(1.0, 2 * _PICTURE_PX / max(moving.size_px))))
        for side in moving.size_px
    )
    pixels, known = moving.read(0, 0, *moving.size_px, (own[0], own[1]))
    onto = scaling((width, height), size) @ matrix @ scaling((own[0], own[1]), moving.size_px)
    laid = cv2.warpPerspective(pixels, onto, size, flags=cv2.INTER_LINEAR)
    is_laid = cv2.warpPerspective(known.astype(np.uint8), onto, size, flags=cv2.INTER_NEAREST) > 0
    down, across = np.mgrid[: size[1], : size[0]]
    cell = max(1, max(size) // _CELLS)
    board = np.where((is_laid & ((down // cell + across // cell) % 2 == 0))[..., None], laid, shown)
    corners = project(
        onto, np.array([[0, 0], [own[0], 0], [own[0], own[1]], [0, own[1]]], float) - 0.5
    )
    plain = np.ascontiguousarray(shown).copy()
    if np.isfinite(corners).all():
        cv2.polylines(
            plain,
            [np.rint(corners).astype(np.int32)],
            True,
            _OUTLINE,
            max(1, max(size) // 256),
            cv2.LINE_AA,
        )
    return np.hstack([plain, board.astype(np.uint8)])


def write_points(
    path: str | Path, tiles: Sequence[FittedTile], moving: Windows, fixed: Windows
) -> int:
    """The number of points of the moving image, in a grid, written with where they lie on the fixed
    one, blended of tiles, as a table.

    A placed fixed raster gives them coordinates too. Raises `UnwritableFile`.
    """
    width, height = moving.size_px
    along = np.stack(
        np.meshgrid(np.linspace(0, width - 1, _ALONG), np.linspace(0, height - 1, _ALONG)), axis=-1
    ).reshape(-1, 2)
    there = transfer(along, tiles)
    inside = (
        np.isfinite(there).all(axis=1)
        & (there >= -0.5).all(axis=1)
        & (there <= np.array(fixed.size_px) - 0.5).all(axis=1)
    )
    rows = np.column_stack([along, there])[inside]
    titles = ["moving_x", "moving_y", "fixed_x", "fixed_y"]
    if isinstance(fixed, RasterWindows) and fixed.is_placed:
        onto = fixed.source.transform
        x, y = rows[:, 2] + 0.5, rows[:, 3] + 0.5
        rows = np.column_stack(
            [rows, onto.a * x + onto.b * y + onto.c, onto.d * x + onto.e * y + onto.f]
        )
        titles += ["map_x", "map_y"]
    lines = [",".join(titles), *(",".join(f"{value:.6f}" for value in row) for row in rows)]
    with atomic_write(path, "w") as file:
        file.write("\n".join([*lines, ""]))
    return len(rows)


def _blocks(
    moving: Windows, size_px: tuple[int, int], matrix: np.ndarray, kind: np.dtype[Any]
) -> Iterator[tuple[tuple[int, int], np.ndarray]]:
    """Blocks of the fixed image's pixels with the moving one's values."""
    back = np.linalg.inv(matrix)
    width, height = size_px
    for row in range(0, height, BLOCK_PX):
        for column in range(0, width, BLOCK_PX):
            size = (min(BLOCK_PX, width - column), min(BLOCK_PX, height - row))
            yield (column, row), _block(moving, back, (column, row), size, kind)


def _block(
    moving: Windows,
    back: np.ndarray,
    start: tuple[int, int],
    size: tuple[int, int],
    kind: np.dtype[Any],
) -> np.ndarray:
    corners = np.array([[0, 0], [size[0], 0], [size[0], size[1]], [0, size[1]]], float) + start
    seen = project(back, corners)
    is_float = kind.kind == "f"
    num_bands = moving.source.count if isinstance(moving, RasterWindows) else 3
    nothing = np.full(
        (num_bands + (not is_float), size[1], size[0]), np.nan if is_float else 0, kind
    )
    if not np.isfinite(seen).all():
        return nothing
    low, high = (
        np.floor(seen.min(axis=0)).astype(int) - 2,
        np.ceil(seen.max(axis=0)).astype(int) + 3,
    )
    low, high = np.maximum(low, 0), np.minimum(high, moving.size_px)
    if (high - low < 1).any():
        return nothing
    window = (int(low[0]), int(low[1]), int(high[0] - low[0]), int(high[1] - low[1]))
    values, known = _values(moving, window)
    onto = np.array([[1, 0, -start[0]], [0, 1, -start[1]], [0, 0, 1.0]]) @ np.linalg.inv(back)
    onto = onto @ np.array([[1, 0, window[0]], [0, 1, window[1]], [0, 0, 1.0]])
    flags = cv2.INTER_LINEAR
    # Doubles hold every value of the types that rasters have; what is not known must not bleed into
    # what is.
    filled = np.where(known, np.nan_to_num(values.astype(np.float64)), 0)
    share = cv2.warpPerspective(known.astype(np.float64), onto, size, flags=flags)
    bands = np.stack(
        [cv2.warpPerspective(band, onto, size, flags=flags) for band in filled]
    ) / np.maximum(share, 1e-9)
    is_known = share > 0.5
    if is_float:
        return np.where(is_known, bands, np.nan).astype(kind)
    limits = np.iinfo(kind)
    whole = np.clip(np.rint(np.where(is_known, bands, 0)), limits.min, limits.max).astype(kind)
    return np.concatenate([whole, np.where(is_known, limits.max, 0).astype(kind)[None]])


def _values(moving: Windows, window: tuple[int, int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    if isinstance(moving, RasterWindows):
        return moving.read_bands(*window)
    pixels, known = moving.read(*window)
    return pixels.transpose(2, 0, 1), known
