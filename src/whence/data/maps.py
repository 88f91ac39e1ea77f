"""Maps cut into tiles: from folders of a map server, or from rasters, into a folder of tiles in
EarthLoc's names.

Tiles are 4 x 4 cells, one every two cells, so that they overlap by half; a tile of which too little
is known is left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from whence.data.images import load_image
from whence.data.scan import list_photos
from whence.data.tiles import CELL_PX, CELLS, Tile, parse_xyz_path, tile_boxes, tile_name
from whence.errors import BadOption, NoPhotos, UnreadableImage
from whence.runtime import atomic_write, progress
from whence.types import SkippedPhoto

STRIDE = 2
LEAST_KNOWN = 0.5
"""Share of a tile's pixels that must be known."""
_QUALITY = 92


class Map(Protocol):
    """Where the pixels of cells come from."""

    def cells(self, zoom: int) -> np.ndarray:
        """(n, 2) rows and columns of the cells of a zoom that hold anything, in order."""
        ...

    def read(self, tile: Tile) -> tuple[np.ndarray, np.ndarray]:
        """Pixels (H, H, 3) uint8 RGB of a tile, and (H, H) bool: which are known. Raises
        `UnreadableImage`."""
        ...


@dataclass(frozen=True, slots=True)
class CutTiles:
    """What cutting a map came to."""

    num_written: int
    num_known: int
    """Tiles that were there already."""
    num_left_out: int
    """Tiles of which too little is known."""
    skipped: tuple[SkippedPhoto, ...]


class CellFolder:
    """A folder of cells as map servers keep them: ZOOM/COLUMN/ROW.ending."""

    def __init__(self, folder: str | Path) -> None:
        """Raises `NoPhotos` where there are no cells."""
        self.folder = Path(folder)
        self._files = {}
        for file in list_photos(folder):
            cell = parse_xyz_path(Path(file).relative_to(self.folder.absolute()).as_posix())
            if cell is not None:
                self._files[cell] = file
        if not self._files:
            raise NoPhotos(
                f"{str(folder)!r} holds no cells of a map: files are looked for as "
                "ZOOM/COLUMN/ROW.png"
            )

    def zooms(self) -> tuple[int, ...]:
        """Zooms that are there."""
        return tuple(sorted({cell.zoom for cell in self._files}))

    def cells(self, zoom: int) -> np.ndarray:
        return np.array(
            sorted((cell.row, cell.column) for cell in self._files if cell.zoom == zoom), np.int64
        ).reshape(-1, 2)

    def read(self, tile: Tile) -> tuple[np.ndarray, np.ndarray]:
        pixels: np.ndarray | None = None
        is_covered = np.zeros((CELLS, CELLS), bool)
        side = CELL_PX
        for down in range(CELLS):
            for across in range(CELLS):
                file = self._files.get(
                    Tile(tile.zoom, tile.row + down, (tile.column + across) % 2**tile.zoom)
                )
                if file is None:
                    continue
                cell = load_image(file)
                if pixels is None:
                    side = cell.shape[0]
                    pixels = np.zeros((CELLS * side, CELLS * side, 3), np.uint8)
                if cell.shape[:2] != (side, side):
                    raise UnreadableImage(
                        file,
                        (
                            f"a cell of {cell.shape[1]} x {cell.shape[0]} pixels beside others of "
                            f"{side} x {side}"
                        ),
                    )
                pixels[down * side : (down + 1) * side, across * side : (across + 1) * side] = cell
                is_covered[down, across] = True
        if pixels is None:
            pixels = np.zeros((CELLS * side, CELLS * side, 3), np.uint8)
        return pixels, np.kron(is_covered, np.ones((side, side), bool)).astype(bool)


def tiles_over(cells: np.ndarray, zoom: int) -> Iterator[Tile]:
    """The tiles of a zoom that hold some of the cells (n, 2) of rows and columns, at every second
    row and column, in order.

    Tiles that would reach across the antimeridian or beyond the grid are left out, as EarthLoc
    does.
    """
    found: set[tuple[int, int]] = set()
    for down in range(0, CELLS, STRIDE):
        for across in range(0, CELLS, STRIDE):
            starts = cells // STRIDE * STRIDE - [down, across]
            inside = (starts >= 0).all(axis=1) & (starts + CELLS <= 2**zoom).all(axis=1)
            found |= set(map(tuple, starts[inside].tolist()))
    for row, column in sorted(found):
        yield Tile(zoom, row, column)


def cut_tiles(
    source: Map,
    out: str | Path,
    *,
    zooms: tuple[int, ...],
    year: int,
    side_px: int | None = None,
    least_known: float = LEAST_KNOWN,
    show_progress: bool | None = None,
) -> CutTiles:
    """The tiles of a map, written below `out`; what is there already is kept, so that a stopped run
    goes on.

    `side_px` None keeps the map's own pixels. Raises `BadOption`, `NoPhotos` and `UnwritableFile`.
    """
    if not zooms or min(zooms) < 2 or max(zooms) > 22:
        raise BadOption(f"zooms {list(zooms)}: from 2 to 22 are possible")
    if not 1000 <= year <= 9999:
        raise BadOption(f"year {year}: names hold four digits")
    tiles = [tile for zoom in sorted(set(zooms)) for tile in tiles_over(source.cells(zoom), zoom)]
    if not tiles:
        raise NoPhotos(f"the map holds nothing at the zooms {', '.join(map(str, zooms))}")
    skipped, num_written, num_known, num_left_out = [], 0, 0, 0
    with progress("cutting tiles", total=len(tiles), show=show_progress) as advance:
        for tile in tiles:
            path = Path(out) / tile_name(tile, year=year)
            advance(1)
            if path.is_file():
                num_known += 1
                continue
            try:
                pixels, known = source.read(tile)
            except UnreadableImage as error:
                skipped.append(SkippedPhoto(error.path, error.reason))
                continue
            if known.mean() < least_known:
                num_left_out += 1
                continue
            if side_px is not None and side_px != pixels.shape[0]:
                way = cv2.INTER_AREA if side_px < pixels.shape[0] else cv2.INTER_LINEAR
                pixels = cv2.resize(pixels, (side_px, side_px), interpolation=way)
            path.parent.mkdir(parents=True, exist_ok=True)
            is_done, data = cv2.imencode(
                ".jpg",
                np.ascontiguousarray(pixels[..., ::-1]),
                [cv2.IMWRITE_JPEG_QUALITY, _QUALITY],
            )
            assert is_done, "a JPEG in memory cannot fail"
            with atomic_write(path, is_flushed=False) as file:
                file.write(data.tobytes())
            num_written += 1
    return CutTiles(num_written, num_known, num_left_out, tuple(skipped))


def cell_middle(cell: Tile) -> tuple[float, float]:
    """Latitude and longitude halfway between the edges of one cell."""
    south, west, north, east = tile_boxes(np.array([cell]), cells=1)[0]
    return float((south + north) / 2), float((west + east) / 2)
