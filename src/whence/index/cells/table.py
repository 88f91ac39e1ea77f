"""`CellTable`: which rows of a matrix were taken in which cell of a map."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from whence.data.partition import CellOptions, make_partition
from whence.data.photos import Photos
from whence.data.planes import photos_on_plane
from whence.errors import InputError, NoPhotos
from whence.lists import NeighborLists, distinct, select_runs
from whence.types import Arrays

CELL_M = 20.0
"""The side of a cell where nothing says otherwise: Divide&Classify's."""
_AROUND = np.array([(east, north) for east in (-1, 0, 1) for north in (-1, 0, 1)])


@dataclass(frozen=True, eq=False)
class RowPlaces:
    """Where the photos of N rows were taken: metres on one plane, NaN where nobody knows."""

    east_m: np.ndarray
    """(N,) float64."""
    north_m: np.ndarray
    zone: str = ""
    heading_deg: np.ndarray | None = None
    """(N,) where each looks; None where nobody knows of any."""

    @classmethod
    def of_photos(cls, photos: Photos, rows: np.ndarray, *, num_rows: int, zone: str = "") -> Self:
        """The places of a matrix's rows, of which photo i has row `rows[i]` (N,), -1 for none; of
        several photos the first counts.

        On the plane of `zone`; without one on that of most photos.
        """
        east, north, zone = photos_on_plane(photos, zone or None)
        placed = np.flatnonzero((rows >= 0) & np.isfinite(east) & np.isfinite(north))
        columns = []
        for values in (east, north, photos.columns["heading_deg"].astype(float)):
            columns.append(np.full(num_rows, np.nan))
            # Written backwards, the first photo of a row is the one that stays.
            columns[-1][rows[placed[::-1]]] = values[placed[::-1]]
        return cls(columns[0], columns[1], zone, columns[2])


@dataclass(frozen=True, eq=False)
class CellTable:
    """B occupied cells and the rows of each."""

    numbers: np.ndarray
    """(B, 2) int64 how many cells east and north of the plane's origin, sorted by east, then
    north."""
    rows: NeighborLists
    unplaced: np.ndarray
    """(U,) int64 rows whose place nobody knows."""
    cell_m: float
    zone: str

    @classmethod
    def of(cls, places: RowPlaces, *, cell_m: float = CELL_M) -> Self:
        """The table of all rows. Raises `BadOption` for a side that is not positive."""
        is_placed = np.isfinite(places.east_m) & np.isfinite(places.north_m)
        unplaced = np.flatnonzero(~is_placed)
        options = CellOptions(
            cell_m=cell_m, heading_bin_deg=360, num_apart=1, num_turned=1, min_photos=1
        )
        try:
            found = make_partition(places.east_m, places.north_m, zone=places.zone, options=options)
        except NoPhotos:
            return cls(
                np.empty((0, 2), np.int64),
                NeighborLists(np.zeros(1, np.int64), unplaced[:0]),
                unplaced,
                cell_m,
                places.zone,
            )
        numbers = np.rint(found.corners[:, :2] / cell_m).astype(np.int64)
        return cls(numbers, found.photos, unplaced, cell_m, places.zone)

    def __len__(self) -> int:
        return len(self.numbers)

    def find(self, numbers: np.ndarray) -> np.ndarray:
        """(N,) which of the table's cells each of these (N, 2) is, -1 for one without rows."""
        if not len(self):
            return np.full(len(numbers), -1, np.int64)
        low, high = self.numbers.min(axis=0), self.numbers.max(axis=0)
        is_inside = ((numbers >= low) & (numbers <= high)).all(axis=1)
        span = high[1] - low[1] + 1
        known = (self.numbers[:, 0] - low[0]) * span + self.numbers[:, 1] - low[1]
        asked = (numbers[:, 0] - low[0]) * span + numbers[:, 1] - low[1]
        found = np.minimum(np.searchsorted(known, asked), len(known) - 1)
        return np.where(is_inside & (known[found] == asked), found, -1)

    def rows_in(self, numbers: np.ndarray, *, has_neighbors: bool = True) -> np.ndarray:
        """Rows, ascending, of these cells (T, 2) and, with neighbours, of the eight around each;
        and rows without a place."""
        if has_neighbors:
            numbers = (numbers[:, None] + _AROUND).reshape(-1, 2)
        cells = distinct(self.find(numbers))
        found = select_runs(self.rows, cells[cells >= 0]).members
        return np.sort(np.concatenate([found, self.unplaced]))

    def numbers_at(self, corners_m: np.ndarray) -> np.ndarray:
        """(T, 2) int64 numbers of the cells that begin at these places (T, 2), in metres."""
        return np.rint(corners_m / self.cell_m).astype(np.int64)

    def to_arrays(self) -> dict[str, np.ndarray]:
        """All of it as named arrays, for `from_arrays`."""
        plane = {"cell_m": np.array(self.cell_m), "zone": np.array(self.zone)}
        lists = {
            "offsets": self.rows.offsets,
            "members": self.rows.members,
            "unplaced": self.unplaced,
        }
        return {"numbers": self.numbers, **lists, **plane}

    @classmethod
    def from_arrays(cls, arrays: Arrays, *, num_rows: int | None = None) -> Self:
        """The table that `to_arrays` gave, of so many rows where that is known. Raises `InputError`
        where it is none."""
        try:
            rows = NeighborLists(arrays["offsets"], arrays["members"])
            table = cls(
                arrays["numbers"],
                rows,
                arrays["unplaced"],
                float(arrays["cell_m"]),
                str(arrays["zone"]),
            )
            held = np.sort(np.concatenate([rows.members, table.unplaced]))
            is_whole = (
                rows.offsets.shape == (len(table) + 1,)
                and table.numbers.shape == (len(table), 2)
                and table.cell_m > 0
            )
            is_whole &= (
                int(rows.offsets[0]) == 0
                and bool((rows.counts > 0).all())
                and int(rows.offsets[-1]) == len(rows.members)
            )
        except (KeyError, ValueError, TypeError, IndexError) as error:
            raise InputError(
                f"the cells of the index are damaged ({error}); build the index again"
            ) from None
        if not is_whole or (num_rows is not None and not np.array_equal(held, np.arange(num_rows))):
            raise InputError(
                "the cells of the index are damaged, or of other rows; build the index again"
            )
        return table
