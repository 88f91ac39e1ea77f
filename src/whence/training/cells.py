"""CosPlace's classes and groups: photos by cell of position and heading, and cells that may be told apart from each other.

After CosPlace (Berton, Masone, Caputo: Rethinking Visual Geo-localization for Large-Scale Applications, CVPR 2022) and its public
code. All is done over columns: tens of millions of photos take seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from whence.errors import BadOption, NoPhotos
from whence.geo import NeighborLists


@dataclass(frozen=True, slots=True)
class CellOptions:
    """What a cell is, and how far apart the cells of a group are."""

    cell_m: float = 10.0
    heading_bin_deg: float = 30.0
    num_apart: int = 5
    """Of so many cells in a row, one belongs to a group; two cells of a group have at least one less between them."""
    num_turned: int = 2
    """The same for headings."""
    min_photos: int = 10
    """Cells with fewer photos are left out."""


@dataclass(frozen=True)
class Cells:
    """K cells, sorted by group, then east, north and heading."""

    photos: NeighborLists
    """Rows of each cell's photos."""
    corners: np.ndarray
    """(K, 3) float64: east and north in metres and heading in degrees at which each cell begins."""
    groups: NeighborLists
    """Cells of each group, groups without any left out."""

    def __len__(self) -> int:
        return len(self.corners)


class Groups(NamedTuple):
    """Rows that have the same key, key by key."""

    keys: np.ndarray
    """(G,) ascending."""
    rows: NeighborLists


def make_cells(
    east_m: np.ndarray,
    north_m: np.ndarray,
    heading_deg: np.ndarray,
    *,
    options: CellOptions = CellOptions(),
) -> Cells:
    """The cells of photos by east and north on one plane and heading, (N,) each; rows with NaN belong to none.

    Headings are taken modulo 360, which the public code leaves out. Raises `BadOption` and `NoPhotos`.
    """
    if options.cell_m <= 0 or options.heading_bin_deg <= 0 or options.num_apart < 1 or options.num_turned < 1:
        raise BadOption(f"cells need positive sides and at least 1 cell in a row, not {options}")
    usable = np.flatnonzero(np.isfinite(east_m) & np.isfinite(north_m) & np.isfinite(heading_deg))
    if len(usable) == len(east_m):
        usable_rows: np.ndarray | slice = slice(None)
    else:
        usable_rows = usable
    if not len(usable):
        raise NoPhotos("no photo has a position on a plane and a heading")
    num_bins = int(np.ceil(360 / options.heading_bin_deg))
    east = _whole(east_m[usable_rows], options.cell_m)
    north = _whole(north_m[usable_rows], options.cell_m)
    low_east, low_north = int(east.min()), int(north.min())
    span = int(north.max()) - low_north + 1
    keys = (east - low_east).astype(np.int64)
    keys *= span
    keys += north - low_north
    del east, north
    keys *= num_bins
    keys += _whole(np.mod(heading_deg[usable_rows], 360), options.heading_bin_deg)
    found = group_rows(keys)
    kept = found.rows.counts >= options.min_photos
    if not kept.any():
        raise NoPhotos(f"no cell of {options.cell_m:g} m and {options.heading_bin_deg:g} degrees has {options.min_photos} photos")
    of_position, bins = np.divmod(found.keys, num_bins)
    cells = np.stack([of_position // span + low_east, of_position % span + low_north, bins], axis=1)
    group = cells[:, 0] % options.num_apart * options.num_apart + cells[:, 1] % options.num_apart
    group = group * options.num_turned + cells[:, 2] % options.num_turned
    order = np.flatnonzero(kept)
    order = order[np.argsort(group[order], kind="stable")]
    of_group = group[order]
    firsts = np.flatnonzero(np.append(True, np.diff(of_group) != 0))
    photos = select_runs(found.rows, order)
    return Cells(
        NeighborLists(photos.offsets, usable[photos.members] if isinstance(usable_rows, np.ndarray) else photos.members),
        cells[order] * np.array([options.cell_m, options.cell_m, options.heading_bin_deg]),
        NeighborLists(np.append(firsts, len(order)), np.arange(len(order))),
    )


def group_rows(keys: np.ndarray) -> Groups:
    """Rows (N,) of equal keys (N,) int64 together, rows ascending: one sort, of key and row as one number where both fit."""
    if not len(keys):
        return Groups(np.empty(0, np.int64), NeighborLists(np.zeros(1, np.int64), np.empty(0, np.int64)))
    bits = int(len(keys) - 1).bit_length()
    low, high = int(keys.min()), int(keys.max())
    if high - low < 1 << (62 - bits):
        ordered = keys - low
        ordered <<= bits
        ordered |= np.arange(len(keys))
        ordered.sort()
        rows = ordered & ((1 << bits) - 1)
        ordered >>= bits
    else:
        rows = np.argsort(keys, kind="stable")
        ordered, low = keys[rows], 0
    firsts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))
    return Groups(ordered[firsts] + low, NeighborLists(np.append(firsts, len(keys)), rows))


def select_runs(lists: NeighborLists, chosen: np.ndarray) -> NeighborLists:
    """Some of the lists, in the order asked for."""
    counts = lists.counts[chosen]
    offsets = np.concatenate([[0], np.cumsum(counts)])
    # Where each list begins, less where it will: adding the place in the whole gives the place it comes from.
    return NeighborLists(offsets, lists.members[np.arange(offsets[-1]) + np.repeat(lists.offsets[chosen] - offsets[:-1], counts)])


def _whole(values: np.ndarray, side: float) -> np.ndarray:
    """Which cell of this side each value lies in, int32."""
    return np.floor(values / side).astype(np.int32)
