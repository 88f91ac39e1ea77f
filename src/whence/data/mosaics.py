"""Map tiles put together: a tile with what other tiles show around it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache

import cv2
import numpy as np

from whence.data.images import load_resized
from whence.data.tiles import CELLS, Tile, parse_footprint_name

AROUND = 3
"""Tiles along the side of a tile's surroundings, the tile itself in the middle."""
_NUM_OPEN = 64


class TileMosaic:
    """Tiles of a set of files by their names; of several years the last one's are looked at."""

    def __init__(self, paths: Sequence[str], file: Callable[[int], str], *, side_px: int) -> None:
        """`file` gives the file of a row of `paths`, whose names carry the tiles; other names are
        passed over."""
        named = [parse_footprint_name(path) for path in paths]
        self.tile_of: Mapping[int, Tile] = {
            row: one.tile
            for row, one in enumerate(named)
            if one is not None and one.tile is not None
        }
        self.row_of = {tile: row for row, tile in self.tile_of.items()}
        self.side_px, self._file = side_px, file
        self._read = lru_cache(maxsize=_NUM_OPEN)(self._pixels)

    def surroundings(self, row: int) -> np.ndarray:
        """(3 S, 3 S, 3) uint8 a tile with what is there around it; black where nothing is. Raises
        `UnreadableImage`."""
        side, tile = self.side_px, self.tile_of[row]
        around = np.zeros((AROUND * side, AROUND * side, 3), np.uint8)
        for down in range(AROUND):
            for across in range(AROUND):
                column = (tile.column + (across - 1) * CELLS) % 2**tile.zoom
                beside = self.row_of.get(Tile(tile.zoom, tile.row + (down - 1) * CELLS, column))
                if beside is not None:
                    around[down * side : (down + 1) * side, across * side : (across + 1) * side] = (
                        self._read(beside)
                    )
        return around

    def _pixels(self, row: int) -> np.ndarray:
        image = load_resized(self._file(row), short_side_px=self.side_px)
        found: np.ndarray = cv2.resize(
            image, (self.side_px, self.side_px), interpolation=cv2.INTER_AREA
        )
        return found
