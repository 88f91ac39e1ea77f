"""`CellIndex`: exact search among the photos of the likeliest cells of a map and of their neighbours, instead of among all.

After Divide&Classify in front of retrieval (Trivigno, Berton, Aragon, Caputo, Masone, ICCV 2023). A query is compared with one
prototype for each cell; the photos of the best cells are then searched exactly. A database that knows no learned prototypes
(`CellClassifier`) takes the mean of each cell's own descriptors. Learned ones may be of another model: `whence.localize` asks them,
and hands over the rows of their best cells as a filter.
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
from whence.index.vectors import as_ids, as_queries
from whence.lists import BLOCK_ROWS
from whence.runtime import atomic_write
from whence.types import Neighbors

NUM_CELLS = 10
"""Best cells whose photos are searched, unless said otherwise."""
SMALL_FILTER = 8
"""A filter that leaves less than one row of so many is searched without asking for cells."""
_PHOTOS_A_CELL = 16
"""For estimates."""


class CellIndex(FlatIndex):
    """Search by inner product among the rows of the best cells. Where no row has a place, exact search among all.

    Rows without a place, and those that are added later, are always searched. A filter is exact: nothing outside `allowed` is
    returned and columns are never missing; where the best cells hold too few rows, more cells are taken.
    """

    def __init__(self, *, dim: int | None = None, num_cells: int = NUM_CELLS, has_neighbors: bool = True) -> None:
        """An empty index. `num_cells`: best cells that are searched; `has_neighbors`: with the eight around each. Raises
        `BadOption`.
        """
        if num_cells < 1:
            raise BadOption(f"{num_cells} best cells cannot be searched; give at least 1, as in cells:{NUM_CELLS}")
        super().__init__(dim=dim)
        self.num_cells, self.has_neighbors = num_cells, has_neighbors
        self.table: CellTable | None = None
        """Which ids lie in which cell; None where there are no places."""
        self.means: CellClassifier | None = None
        """The mean descriptor of each cell of the table, at unit length; None where others tell the cells."""
        self._later = np.empty(0, np.int64)

    @classmethod
    def over(
        cls,
        matrix: np.ndarray,
        *,
        ids: np.ndarray | None = None,
        num_cells: int = NUM_CELLS,
        has_neighbors: bool = True,
    ) -> Self:
        """An index over the rows of an array or memory map, which stay where they are, without places."""
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
        """An index over rows (N, D) whose photos' places are known, in cells of this side; ids are row numbers.

        Without `has_means` cells are told by a classifier of the owner: a search without a filter then looks at every row.
        """
        index = cls.over(matrix, num_cells=num_cells, has_neighbors=has_neighbors)
        table = CellTable.of(places, cell_m=cell_m)
        if len(table):
            index.table = table
            index.means = _means(matrix, table) if has_means else None
        return index

    def kept(self) -> dict[str, np.ndarray] | None:
        """The table and the means; None where there are no places, and search is exact."""
        if self.table is None:
            return None
        means = {} if self.means is None else {"means": self.means.prototypes}
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
        """The index whose `kept` gave the arrays, over the same rows. Raises `InputError` where they do not belong together."""
        index = cls.over(over, num_cells=num_cells, has_neighbors=has_neighbors)
        index._take(arrays, CellTable.from_arrays(arrays, num_rows=len(over)))
        return index

    @classmethod
    def check(cls, *, dim: int, num_cells: int = NUM_CELLS) -> None:
        """Raises `BadOption` for fewer cells than one."""
        cls(dim=dim, num_cells=num_cells)

    @classmethod
    def kept_bytes(cls, num_rows: int, *, dim: int, num_cells: int = NUM_CELLS) -> int:
        """A row number, and a share of its cell's mean."""
        return 8 + 4 * dim // _PHOTOS_A_CELL

    def add(self, ids: np.ndarray, descriptors: np.ndarray) -> None:
        """Add rows (n, D) under new ids (n,), without places. Raises as `FlatIndex.add` does."""
        super().add(ids, descriptors)
        self._later = np.union1d(self._later, as_ids(ids))

    def search(self, queries: np.ndarray, *, k: int, allowed: np.ndarray | None = None) -> Neighbors:
        """The k most similar rows of every query (Q, D) in its best cells, only ids in `allowed` where given; K = min(k, rows
        that may be searched) columns. A small filter is searched whole.
        """
        asked = as_queries(queries, dim=self.dim or None, k=k)
        within = None if allowed is None else np.unique(as_ids(allowed))
        num = self.num_vectors if within is None else sum(len(part.restricted(within)) for part in self._parts)
        if self.means is None or num * SMALL_FILTER < self.num_vectors or not len(asked):
            return super().search(asked, k=k, allowed=within)
        best = self.means.rank(asked, num=self.num_cells).cells
        found = [self._search_cells(query, cells, k=k, num=num, within=within) for query, cells in zip(asked, best, strict=True)]
        return Neighbors(np.concatenate([one.ids for one in found]), np.concatenate([one.similarities for one in found]))

    def ids_in(self, corners_m: np.ndarray) -> np.ndarray:
        """Ids, ascending, in the cells that begin at these places (T, 2) of the table's plane, in their neighbours, and nowhere."""
        assert self.table is not None, "asked for where there are places"
        return self._with_later(self.table.rows_in(self.table.numbers_at(corners_m), has_neighbors=self.has_neighbors))

    def _search_cells(self, query: np.ndarray, cells: np.ndarray, *, k: int, num: int, within: np.ndarray | None) -> Neighbors:
        """The answer for one query by these of the table's cells, or more where they hold less than is asked for."""
        assert self.table is not None
        assert self.means is not None
        while True:
            ids = self._with_later(self.table.rows_in(self.table.numbers[cells], has_neighbors=self.has_neighbors))
            found = super().search(query[None], k=k, allowed=ids if within is None else _common(ids, within))
            if found.ids.shape[1] == min(k, num) or len(cells) == len(self.table):
                return found
            cells = self.means.rank(query[None], num=4 * len(cells)).cells[0]

    def _with_later(self, ids: np.ndarray) -> np.ndarray:
        return np.union1d(ids, self._later) if len(self._later) else ids

    def save(self, path: str | Path) -> None:
        """Write ids, rows, cells and options as one .npz, atomically."""
        parts = self.parts
        rows = np.concatenate([one for _, one in parts]) if parts else np.empty((0, self.dim), np.float32)
        ids, kept = self.ids, self.kept() or {}
        with atomic_write(path) as file:
            np.savez(
                file,
                ids=ids,
                descriptors=rows,
                later=self._later,
                search=np.array([self.num_cells, self.has_neighbors]),
                **{f"cells_{name}": array for name, array in kept.items()},  # type: ignore[arg-type]
            )

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """The index that `save` wrote. Raises `InputError` naming the file."""
        arrays = read_saved(path, names=("ids", "descriptors", "later", "search"), others="cells_")
        num_cells, has_neighbors = int(arrays["search"][0]), bool(arrays["search"][1])
        index = cls(dim=arrays["descriptors"].shape[1] or None, num_cells=num_cells, has_neighbors=has_neighbors)
        if len(arrays["ids"]):
            index = cls.over(arrays["descriptors"], ids=arrays["ids"], num_cells=num_cells, has_neighbors=has_neighbors)
        kept = {name.removeprefix("cells_"): array for name, array in arrays.items() if name.startswith("cells_")}
        if kept:
            index._take(kept, CellTable.from_arrays(kept))
        index._later = arrays["later"]
        return index

    def _take(self, arrays: Mapping[str, np.ndarray], table: CellTable) -> None:
        self.table = table
        if "means" in arrays:
            means = np.asarray(arrays["means"], np.float32)
            if means.shape != (len(table), self.dim):
                raise InputError(f"means {means.shape} do not belong to {len(table)} cells; build the index again")
            self.means = CellClassifier(means, table.numbers * table.cell_m, table.cell_m, table.zone)


def _common(ids: np.ndarray, within: np.ndarray) -> np.ndarray:
    """Those of the ids that are among others, both ascending; the time grows with the ids alone."""
    if not len(within):
        return within
    places = np.minimum(np.searchsorted(within, ids), len(within) - 1)
    return ids[within[places] == ids]


def _means(matrix: np.ndarray, table: CellTable) -> CellClassifier:
    """The mean of each cell's rows at unit length, so that a cell is as near with many headings as with one."""
    sums = np.zeros((len(table), matrix.shape[1]), np.float32)
    owner = np.repeat(np.arange(len(table)), table.rows.counts)
    for start in range(0, len(owner), BLOCK_ROWS):
        here = slice(start, start + BLOCK_ROWS)
        cells, firsts = np.unique(owner[here], return_index=True)
        sums[cells] += np.add.reduceat(np.asarray(matrix[table.rows.members[here]], np.float32), firsts, axis=0)
    sums /= np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12)
    return CellClassifier(sums, table.numbers * table.cell_m, table.cell_m, table.zone)
