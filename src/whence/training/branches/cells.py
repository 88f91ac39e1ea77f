"""CosPlace's classes and groups: photos by cell of position and heading, and cells that may be told apart from each other.

After CosPlace (Berton, Masone, Caputo: Rethinking Visual Geo-localization for Large-Scale Applications, CVPR 2022) and its public
code. All is done over columns: tens of millions of photos take seconds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from whence.errors import BadOption, NoPhotos
from whence.lists import BLOCK_ROWS, Groups, NeighborLists, group_in_place, group_rows


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
    is_usable = np.isfinite(east_m)
    is_usable &= np.isfinite(north_m)
    is_usable &= np.isfinite(heading_deg)
    if not is_usable.any():
        raise NoPhotos("no photo has a position on a plane and a heading")
    num_bins = int(np.ceil(360 / options.heading_bin_deg))
    known = (east_m, north_m) if is_usable.all() else (east_m[is_usable], north_m[is_usable])
    sides = [_whole(np.array([side_m.min(), side_m.max()]), options.cell_m).tolist() for side_m in known]
    (low_east, _), (low_north, high_north) = sides
    span = high_north - low_north + 1
    keys = np.full(len(east_m), -1, np.int64)
    # Block by block, what is computed on the way stays in the cache.
    for start in range(0, len(keys), BLOCK_ROWS):
        here: slice | np.ndarray = slice(start, start + BLOCK_ROWS)
        if not is_usable[here].all():
            here = start + np.flatnonzero(is_usable[here])
        heading = heading_deg[here]
        if len(heading) and (heading.min() < 0 or heading.max() >= 360):
            heading = np.mod(heading, 360)
        places = (_whole(east_m[here], options.cell_m) - low_east) * span + (_whole(north_m[here], options.cell_m) - low_north)
        keys[here] = places * num_bins + _whole(heading, options.heading_bin_deg)
    found = group_in_place(keys)
    if found.keys[0] < 0:
        num_left_out = int(found.rows.offsets[1])
        lists = NeighborLists(found.rows.offsets[1:] - num_left_out, found.rows.members[num_left_out:])
        found = Groups(found.keys[1:], lists)
    kept = np.flatnonzero(found.rows.counts >= options.min_photos)
    if not len(kept):
        raise NoPhotos(f"no cell of {options.cell_m:g} m and {options.heading_bin_deg:g} degrees has {options.min_photos} photos")
    of_position, bins = np.divmod(found.keys, num_bins)
    cells = np.stack([of_position // span + low_east, of_position % span + low_north, bins], axis=1)
    group = cells[kept, 0] % options.num_apart * options.num_apart + cells[kept, 1] % options.num_apart
    group = group * options.num_turned + cells[kept, 2] % options.num_turned
    of_groups = group_rows(group).rows
    return Cells(
        found.rows,
        cells * np.array([options.cell_m, options.cell_m, options.heading_bin_deg]),
        NeighborLists(of_groups.offsets, kept[of_groups.members]),
    )


def _whole(values: np.ndarray, side: float) -> np.ndarray:
    """Which cell of this side each value lies in, int64."""
    share = values / side
    return np.floor(share, out=share).astype(np.int64)
