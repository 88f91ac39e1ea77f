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
    """K occupied cells, sorted by east, north and heading, and the groups of those with photos enough."""

    photos: NeighborLists
    """Rows of each cell's photos."""
    corners: np.ndarray
    """(K, 3) float64: east and north in metres and heading in degrees at which each cell begins."""
    groups: NeighborLists
    """Cells of each group, ascending; groups without any are left out."""

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
    is_usable = np.isfinite(east_m) & np.isfinite(north_m) & np.isfinite(heading_deg)
    usable = None if is_usable.all() else np.flatnonzero(is_usable)
    if usable is not None:
        east_m, north_m, heading_deg = east_m[usable], north_m[usable], heading_deg[usable]
    if not len(east_m):
        raise NoPhotos("no photo has a position on a plane and a heading")
    if heading_deg.min() < 0 or heading_deg.max() >= 360:
        heading_deg = np.mod(heading_deg, 360)
    num_bins = int(np.ceil(360 / options.heading_bin_deg))
    east, north = _whole(east_m, options.cell_m), _whole(north_m, options.cell_m)
    lows = int(east.min()), int(north.min())
    span = int(north.max()) - lows[1] + 1
    east -= lows[0]
    north -= lows[1]
    keys = east.astype(np.int64)
    keys *= span
    keys += north
    keys *= num_bins
    keys += _whole(heading_deg, options.heading_bin_deg)
    found = group_rows(keys)
    kept = np.flatnonzero(found.rows.counts >= options.min_photos)
    if not len(kept):
        raise NoPhotos(f"no cell of {options.cell_m:g} m and {options.heading_bin_deg:g} degrees has {options.min_photos} photos")
    of_position, bins = np.divmod(found.keys, num_bins)
    cells = np.stack([of_position // span + lows[0], of_position % span + lows[1], bins], axis=1)
    group = cells[kept, 0] % options.num_apart * options.num_apart + cells[kept, 1] % options.num_apart
    group = group * options.num_turned + cells[kept, 2] % options.num_turned
    of_groups = group_rows(group).rows
    rows = found.rows.members if usable is None else usable[found.rows.members]
    return Cells(
        NeighborLists(found.rows.offsets, rows),
        cells * np.array([options.cell_m, options.cell_m, options.heading_bin_deg]),
        NeighborLists(of_groups.offsets, kept[of_groups.members]),
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
        ordered += np.arange(len(keys))
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
    share = values / side
    return np.floor(share, out=share).astype(np.int32)
