"""Cells of images, and the maps they are pooled and read from, as arrays: what a photo keeps, and
what two photos are compared by.

Cells are (h w, C), row by row, of unit length. A map is kept as float16 or as 8-bit codes, with one
scale per position.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np

from whence.models.warp.quads import grid_points, positions

Storage = Literal["float16", "int8"]
GRID = (15, 15)
"""Rows and columns of cells that images are compared in."""
_EPS = 1e-6
_STEPS = 2
"""Samples per cell and direction when a map is read."""


def to_unit(rows: np.ndarray) -> np.ndarray:
    """Vectors (..., C) of unit length; short ones stay short, zero stays zero."""
    lengths = np.sqrt(np.einsum("...c,...c->...", rows, rows) + np.float32(_EPS))
    unit: np.ndarray = rows / lengths[..., None]
    return unit


@dataclass(frozen=True, slots=True, eq=False)
class DenseMap:
    """A backbone's map of one image, position by position: row r of column c is row `r w + c`."""

    rows: np.ndarray
    """(h w, C) float16 or int8."""
    scale: np.ndarray
    """(h w,) float32: what each row is multiplied by."""
    size: tuple[int, int]
    """Rows and columns (h, w)."""

    @classmethod
    def of(cls, rows: np.ndarray, size: tuple[int, int], *, storage: Storage) -> DenseMap:
        """A map's rows (h w, C) in the precision they are kept in."""
        scale = np.maximum(np.abs(rows).max(axis=1), np.float32(1e-12)).astype(np.float32)
        if storage == "int8":
            scale = scale / np.float32(127)
            return cls(np.rint(rows / scale[:, None]).astype(np.int8), scale, size)
        # Divided by the largest value, so that no network's range exceeds that of float16.
        return cls((rows / scale[:, None]).astype(np.float16), scale, size)

    def to_arrays(self, name: str) -> dict[str, np.ndarray]:
        """The map as arrays to be kept under names that begin with `name`."""
        return {
            name: self.rows,
            f"{name}_scale": self.scale,
            f"{name}_size": np.array(self.size, np.int32),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray], name: str) -> DenseMap:
        """The map that `to_arrays` gave."""
        h, w = (int(side) for side in arrays[f"{name}_size"])
        return cls(arrays[name], arrays[f"{name}_scale"], (h, w))

    def values(self) -> np.ndarray:
        """The rows (h w, C) float32."""
        rows: np.ndarray = self.rows.astype(np.float32) * self.scale[:, None]
        return rows


def rows_of(one_map: np.ndarray) -> np.ndarray:
    """A map (C, h, w) as rows (h w, C)."""
    return np.ascontiguousarray(one_map.reshape(len(one_map), -1).T)


def pool_cells(
    rows: np.ndarray, size: tuple[int, int], *, grid: tuple[int, int] = GRID
) -> np.ndarray:
    """Cells (h w, C) of unit length, from a map's rows (H W, C) of any `size` (H, W), each the mean
    of what it overlaps."""
    num_rows, num_columns = grid
    by_columns = _shares(size[1], num_columns) @ rows.reshape(*size, -1)
    pooled = _shares(size[0], num_rows) @ by_columns.reshape(size[0], -1)
    return to_unit(pooled.reshape(num_rows * num_columns, -1))


@lru_cache(maxsize=64)
def _shares(side: int, num_cells: int) -> np.ndarray:
    """(num_cells, side): what each position gives to each cell; neighbouring cells share positions
    where sides do not divide."""
    shares = np.zeros((num_cells, side), np.float32)
    for cell in range(num_cells):
        first, end = cell * side // num_cells, -(-(cell + 1) * side // num_cells)
        shares[cell, first:end] = 1 / (end - first)
    return shares


def read_cells(
    rows: np.ndarray, size: tuple[int, int], quad: np.ndarray, *, grid: tuple[int, int] = GRID
) -> np.ndarray:
    """Cells (h w, C) of unit length of a sound quadrilateral (4, 2), read out of a map's rows (H W,
    C) without any network.

    Each cell is the mean of 2 x 2 bilinear samples, zero outside.
    """
    return to_unit(_weights(quad, size, grid) @ rows)


def _weights(quad: np.ndarray, size: tuple[int, int], grid: tuple[int, int]) -> np.ndarray:
    """(h w, H W): what each position of a map gives to each cell of a quadrilateral."""
    num_cells, (height, width) = grid[0] * grid[1], size
    at = positions(quad, _samples(grid), size=size)
    low = np.floor(at)
    part = at - low
    column, row = low.astype(np.int64).T
    cells = np.repeat(np.arange(num_cells), _STEPS**2)
    places, shares = [], []
    for right, below in ((0, 0), (1, 0), (0, 1), (1, 1)):
        x, y = column + right, row + below
        is_inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
        share = (part[:, 0] if right else 1 - part[:, 0]) * (
            part[:, 1] if below else 1 - part[:, 1]
        )
        places.append((cells * height * width + y * width + x)[is_inside])
        shares.append(share[is_inside])
    summed = np.bincount(
        np.concatenate(places), np.concatenate(shares), minlength=num_cells * height * width
    )
    return (summed / _STEPS**2).astype(np.float32).reshape(num_cells, height * width)


@lru_cache(maxsize=4)
def _samples(grid: tuple[int, int]) -> np.ndarray:
    """(h w 4, 2): where maps are read, cell by cell."""
    h, w = grid
    points = grid_points((h * _STEPS, w * _STEPS)).reshape(h, _STEPS, w, _STEPS, 2)
    return np.ascontiguousarray(points.transpose(0, 2, 1, 3, 4).reshape(-1, 2))


def match_both_orders(
    first: np.ndarray, others: np.ndarray, *, grid: tuple[int, int] = GRID
) -> np.ndarray:
    """(2 B, h w, h, w) similarities of all cells of one image (h w, C) with B others (B, h w, C):
    of (first, other), then back.

    Channels are the former's cells, down its columns, positions the latter's; non-negative, at each
    position of unit length.
    """
    products = (others.reshape(-1, others.shape[-1]) @ first.T).reshape(
        len(others), len(first), len(first)
    )
    both = np.concatenate([products, products.transpose(0, 2, 1)])
    # Here (B, positions, channels): the channels in the order of columns, then up front.
    similar = to_unit(np.maximum(both, 0))
    by_columns = similar.reshape(len(both), -1, *grid).transpose(0, 3, 2, 1)
    return np.ascontiguousarray(by_columns.reshape(len(both), -1, *grid))
