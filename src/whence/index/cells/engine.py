"""`CellIndex`: exact search among the photos of the likeliest cells of a map and of their
neighbours, instead of among all.

After Divide&Classify in front of retrieval (Trivigno, Berton, Aragon, Caputo, Masone, ICCV 2023). A
query is compared with one prototype for each cell; the photos of the best cells are then searched
exactly. A database that knows no learned prototypes (`CellClassifier`) takes means of each cell's
own descriptors, one for each quarter of the compass that its photos look to. Learned ones may be of
another model: `whence.localize` asks them, and hands over the rows of their best cells as a filter.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Self

import numpy as np

from whence.errors import BadOption, InputError
from whence.index.cells.classifier import CellClassifier
from whence.index.cells.table import CELL_M, CellTable, RowPlaces
from whence.index.flat import FlatIndex, read_saved
from whence.index.vectors import as_ids, as_queries, common_ids
from whence.lists import group_rows
from whence.runtime import atomic_write
from whence.types import Neighbors

NUM_CELLS = 10
"""Best cells whose photos are searched, unless said otherwise."""
SMALL_FILTER = 8
"""A filter that leaves less than one row of so many is searched without asking for cells."""
_PHOTOS_A_MEAN = 8
"""For estimates."""
_NUM_QUARTERS = 4
_MEAN_BYTES = 1 << 26
"""Rows are read so many bytes at a time."""


class CellIndex(FlatIndex):
    """Search by inner product among the rows of the best cells. Where no row has a place, exact
    search among all.

    Rows without a place, and those that are added later, are always searched. A filter is exact:
    nothing outside `allowed` is returned and columns are never missing; where the best cells hold
    too few rows, more cells are taken.
    """

    def __init__(
        self, *, dim: int | None = None, num_cells: int = NUM_CELLS, has_neighbors: bool = True
    ) -> None:
        """An empty index. `num_cells`: best cells that are searched; `has_neighbors`: with the
        eight around each. Raises `BadOption`.
        """
        if num_cells < 1:
            raise BadOption(
                f"{num_cells} best cells cannot be searched; give at least 1, as in "
                f"cells:{NUM_CELLS}"
            )
        super().__init__(dim=dim)
        self.num_cells, self.has_neighbors = num_cells, has_neighbors
        self.table: CellTable | None = None
        """Which ids lie in which cell; None where there are no places."""
        self.means: CellClassifier | None = None
        """The mean descriptors of each cell of the table, at unit length; None where others tell
        the cells."""
        self._later = self._removals = np.empty(0, np.int64)

    @classmethod
    def over(
        cls,
        matrix: np.ndarray,
        *,
        ids: np.ndarray | None = None,
        num_cells: int = NUM_CELLS,
        has_neighbors: bool = True,
    ) -> Self:
        """An index over the rows of an array or memory map, which stay where they are, without
        places."""
        index = super().over(matrix, ids=ids)
        cls.check(dim=index.dim, num_cells=num_cells)
        index.num_cells, index.has_neighbors = num_cells, has_neighbors
        return index

    @classmethod
    def over_places(
        cls,
        matrix: np.ndarray,
        places: RowPlaces,
        *,
        cell_m: float = CELL_M,
        has_means: bool = True,
        num_cells: int = NUM_CELLS,
        has_neighbors: bool = True,
    ) -> Self:
        """An index over rows (N, D) whose photos' places are known, in cells of this side; ids are
        row numbers.

        Without `has_means` cells are told by a classifier of the owner: a search without a filter
        then looks at every row.
        """
        index = cls.over(matrix, num_cells=num_cells, has_neighbors=has_neighbors)
        table = CellTable.of(places, cell_m=cell_m)
        if len(table):
            index.table = table
            index.means = _means(matrix, table, places.heading_deg) if has_means else None
        return index

    def kept(self) -> dict[str, np.ndarray] | None:
        """The table and the means; None where there are no places, and search is exact."""
        if self.table is None:
            return None
        means = {}
        if self.means is not None:
            assert self.means.owners is not None, "as _means makes them"
            means = {"means": self.means.prototypes, "owners": self.means.owners}
        return {**self.table.to_arrays(), **means}

    @classmethod
    def from_kept(
        cls,
        arrays: Mapping[str, np.ndarray],
        over: np.ndarray,
        *,
        num_cells: int = NUM_CELLS,
        has_neighbors: bool = True,
    ) -> Self:
        """The index whose `kept` gave the arrays, over the same rows. Raises `InputError` where
        they do not belong together."""
        index = cls.over(over, num_cells=num_cells, has_neighbors=has_neighbors)
        index._take(arrays, CellTable.from_arrays(arrays, num_rows=len(over)))
        return index

    @classmethod
    def check(cls, *, dim: int, num_cells: int = NUM_CELLS) -> None:
        """Raises `BadOption` for fewer cells than one."""
        cls(dim=dim, num_cells=num_cells)

    @classmethod
    def kept_bytes(cls, num_rows: int, *, dim: int, num_cells: int = NUM_CELLS) -> int:
        """A row number, and a share of a mean."""
        return 8 + 4 * dim // _PHOTOS_A_MEAN

    def add(self, ids: np.ndarray, descriptors: np.ndarray) -> None:
        """Add rows (n, D) under new ids (n,), without places. Raises as `FlatIndex.add` does."""
        super().add(ids, descriptors)
        self._later = np.union1d(self._later, as_ids(ids))
        self._removals = np.setdiff1d(self._removals, self._later)

    def remove(self, ids: np.ndarray) -> None:
        """Remove rows; ids that are not there are ignored."""
        super().remove(ids)
        self._removals = np.union1d(self._removals, as_ids(ids))
        self._later = np.setdiff1d(self._later, self._removals)

    def search(
        self, queries: np.ndarray, *, k: int, allowed: np.ndarray | None = None
    ) -> Neighbors:
        """The k most similar rows of every query (Q, D) in its best cells, only ids in `allowed`
        where given; K = min(k, rows that may be searched) columns. A small filter is searched
        whole.
        """
        asked = as_queries(queries, dim=self.dim or None, k=k)
        within = None if allowed is None else np.unique(as_ids(allowed))
        num = (
            self.num_vectors
            if within is None
            else sum(len(part.restricted(within)) for part in self._parts)
        )
        if self.means is None or num * SMALL_FILTER < self.num_vectors or not len(asked):
            return super().search(asked, k=k, allowed=within)
        chosen = self.ids_for(self.means, asked, least=min(k, num), within=within)
        found = [
            super(CellIndex, self).search(one[None], k=k, allowed=ids)
            for one, ids in zip(asked, chosen, strict=True)
        ]
        return Neighbors(
            np.concatenate([one.ids for one in found]),
            np.concatenate([one.similarities for one in found]),
        )

    def ids_for(
        self,
        cells: CellClassifier,
        descriptors: np.ndarray,
        *,
        least: int = 1,
        within: np.ndarray | None = None,
    ) -> list[np.ndarray]:
        """For each of Q descriptors (Q, C) of a classifier the ids, ascending, in its best cells
        and around them, and nowhere.

        Only those among the ascending ids `within`. More cells are taken where these hold fewer ids
        than `least`.
        """
        asked = as_queries(descriptors, dim=cells.dim, k=1)
        best = cells.rank(asked, num=self.num_cells).cells
        return [self._enough(cells, one, best[q], least, within) for q, one in enumerate(asked)]

    def _enough(
        self,
        cells: CellClassifier,
        descriptor: np.ndarray,
        cell_rows: np.ndarray,
        least: int,
        within: np.ndarray | None,
    ) -> np.ndarray:
        assert self.table is not None, "asked for where there are places"
        while True:
            numbers = self.table.numbers_at(cells.corners_m[cell_rows])
            ids = self.table.rows_in(numbers, has_neighbors=self.has_neighbors)
            ids = np.union1d(ids, self._later) if len(self._later) else ids
            ids = ids if within is None else common_ids(ids, within)
            ids = (
                np.setdiff1d(ids, self._removals, assume_unique=True)
                if len(self._removals)
                else ids
            )
            if len(ids) >= least or len(cell_rows) == len(cells):
                return ids
            cell_rows = cells.rank(descriptor[None], num=4 * len(cell_rows)).cells[0]

    def save(self, path: str | Path) -> None:
        """Write ids, rows, cells and options as one .npz, atomically."""
        parts = self.parts
        rows = (
            np.concatenate([one for _, one in parts])
            if parts
            else np.empty((0, self.dim), np.float32)
        )
        ids, kept = self.ids, self.kept() or {}
        with atomic_write(path) as file:
            np.savez(
                file,
                ids=ids,
                descriptors=rows,
                later=self._later,
                gone=self._removals,
                search=np.array([self.num_cells, self.has_neighbors]),
                **{f"cells_{name}": array for name, array in kept.items()},  # type: ignore[arg-type]
            )

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """The index that `save` wrote. Raises `InputError` naming the file."""
        arrays = read_saved(
            path, names=("ids", "descriptors", "later", "gone", "search"), others="cells_"
        )
        num_cells, has_neighbors = int(arrays["search"][0]), bool(arrays["search"][1])
        index = cls(
            dim=arrays["descriptors"].shape[1] or None,
            num_cells=num_cells,
            has_neighbors=has_neighbors,
        )
        if len(arrays["ids"]):
            index = cls.over(
                arrays["descriptors"],
                ids=arrays["ids"],
                num_cells=num_cells,
                has_neighbors=has_neighbors,
            )
        kept = {
            name.removeprefix("cells_"): array
            for name, array in arrays.items()
            if name.startswith("cells_")
        }
        if kept:
            index._take(kept, CellTable.from_arrays(kept))
        index._later, index._removals = arrays["later"], arrays["gone"]
        return index

    def _take(self, arrays: Mapping[str, np.ndarray], table: CellTable) -> None:
        self.table = table
        if "means" in arrays:
            try:
                means = np.asarray(arrays["means"], np.float32)
                self.means = _classifier(means, np.asarray(arrays["owners"], np.int64), table)
            except (InputError, KeyError) as error:
                raise InputError(
                    f"the means of cells are damaged ({error}); build the index again"
                ) from None
            if self.means.dim != self.dim:
                raise InputError(
                    f"means of {self.means.dim} numbers are not of these rows of {self.dim}; "
                    "build the index again"
                )


def _means(matrix: np.ndarray, table: CellTable, heading_deg: np.ndarray | None) -> CellClassifier:
    """Means of each cell's rows that look the same way, at unit length, so that many photos count
    no more than one.

    A street looks different to each side: one mean of all headings is like none of them.
    """
    members, owner = table.rows.members, np.repeat(np.arange(len(table)), table.rows.counts)
    quarter = np.full(len(members), _NUM_QUARTERS)
    if heading_deg is not None:
        heading = heading_deg[members] % 360
        is_known = np.isfinite(heading)
        quarter[is_known] = np.minimum(
            heading[is_known] // (360 / _NUM_QUARTERS), _NUM_QUARTERS - 1
        ).astype(np.int64)
    alike = group_rows(owner * (_NUM_QUARTERS + 1) + quarter)
    members, mean_of = (
        members[alike.rows.members],
        np.repeat(np.arange(len(alike.keys)), alike.rows.counts),
    )
    sums = np.zeros((len(alike.keys), matrix.shape[1]), np.float32)
    size = max(1, _MEAN_BYTES // (4 * matrix.shape[1]))
    for start in range(0, len(members), size):
        here = slice(start, start + size)
        means, firsts = np.unique(mean_of[here], return_index=True)
        sums[means] += np.add.reduceat(
            np.asarray(matrix[members[here]], np.float32), firsts, axis=0
        )
    sums /= np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12)
    return _classifier(sums, alike.keys // (_NUM_QUARTERS + 1), table)


def _classifier(means: np.ndarray, owners: np.ndarray, table: CellTable) -> CellClassifier:
    return CellClassifier(
        means, table.numbers * table.cell_m, table.cell_m, table.zone, owners=owners
    )
