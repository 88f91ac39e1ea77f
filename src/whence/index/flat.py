"""`FlatIndex`: exact search. Every row is looked at, in blocks, in arrays or memory maps, float32
or float16.

Two ways to the same answer, chosen by the number of queries. A few queries: one dot product per
row, at the speed of memory. Many queries: matrix products block by block as a filter; what comes
within rounding of the k-th best is then computed exactly.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Self

import numpy as np

from whence.errors import InputError
from whence.index.vectors import (
    Engine,
    as_ids,
    as_queries,
    as_vectors,
    best,
    exact_similarities,
    require_finite,
    scattered_similarities,
)
from whence.lists import distinct
from whence.runtime import atomic_write
from whence.types import Neighbors

FEW_QUERIES = 4
BLOCK_ROWS = 4096
BLOCK_SIMILARITIES = 1 << 17
ROUNDING = 2e-5
"""How far a blocked float32 product may lie from the row-wise one, relative to the product of the
norms; some ten times what 4096 terms accumulate."""


class _Part:
    """Rows added together."""

    def __init__(
        self,
        ids: np.ndarray,
        matrix: np.ndarray,
        rows: np.ndarray | None = None,
        *,
        is_counted: bool = False,
    ) -> None:
        self.ids = ids
        self.matrix = matrix
        self.rows = rows
        """Those still there, ascending; None for all."""
        self.is_counted = is_counted
        """Whether the ids are the numbers from 0 on: rows are then found without looking at all
        ids."""
        self.largest_norm: float | None = None
        """Known after the first search in blocks."""

    def __len__(self) -> int:
        return len(self.ids) if self.rows is None else len(self.rows)

    def restricted(self, ids: np.ndarray, *, invert: bool = False) -> _Part:
        """The part with only the rows of these ids, or without them."""
        if self.is_counted and self.rows is None and not invert and len(ids) < len(self.ids):
            return _Part(self.ids, self.matrix, distinct(ids[(ids >= 0) & (ids < len(self.ids))]))
        mask = np.isin(self.present_ids(), ids, invert=invert)
        if mask.all():
            return self
        return _Part(
            self.ids, self.matrix, np.flatnonzero(mask) if self.rows is None else self.rows[mask]
        )

    def present_ids(self) -> np.ndarray:
        return self.ids if self.rows is None else self.ids[self.rows]

    def blocks(self, size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Ids and float32 rows, `size` at a time; float32 rows that are all there are not
        copied."""
        for start in range(0, len(self), size):
            rows: slice | np.ndarray = slice(start, start + size)
            if self.rows is not None:
                rows = self.rows[rows]
            yield self.ids[rows], np.asarray(self.matrix[rows], dtype=np.float32)

    def similarities(self, query: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Ids and exact similarities of the rows to one query (D,), `BLOCK_ROWS` at a time."""
        if self.rows is None:
            for ids, rows in self.blocks(BLOCK_ROWS):
                yield ids, exact_similarities(query, rows)
            return
        for start in range(0, len(self.rows), BLOCK_ROWS):
            chosen = self.rows[start : start + BLOCK_ROWS]
            yield self.ids[chosen], scattered_similarities(query, self.matrix, chosen)


class FlatIndex(Engine):
    """Exact search by inner product. Equal similarities come by ascending id; the answer does not
    depend on blocks or batches."""

    def __init__(self, *, dim: int | None = None) -> None:
        """An empty index; without `dim` the first descriptors decide."""
        self._dim = dim
        self._parts: list[_Part] = []

    @classmethod
    def over(cls, matrix: np.ndarray, *, ids: np.ndarray | None = None) -> Self:
        """An index over the rows of an array or memory map, neither copied nor checked. Ids are row
        numbers by default."""
        rows = as_vectors(matrix, dim=None, what="descriptors")
        index = cls(dim=rows.shape[1])
        is_counted = ids is None
        index._parts = [
            _Part(
                np.arange(len(rows)) if ids is None else as_ids(ids, num=len(rows)),
                rows,
                is_counted=is_counted,
            )
        ]
        return index

    @property
    def num_vectors(self) -> int:
        return sum(len(part) for part in self._parts)

    @property
    def dim(self) -> int:
        """0 while empty and not told."""
        return self._dim or 0

    @property
    def ids(self) -> np.ndarray:
        """(N,) ids in the order they came."""
        return np.concatenate(
            [np.empty(0, np.int64), *(part.present_ids() for part in self._parts)]
        )

    @property
    def parts(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Ids and rows of every `add`, without copying where none was removed."""
        return [
            (part.present_ids(), part.matrix if part.rows is None else part.matrix[part.rows])
            for part in self._parts
        ]

    def add(self, ids: np.ndarray, descriptors: np.ndarray) -> None:
        """Add rows (n, D) under new ids (n,). Raises `InputError` for ids that are there, and for
        NaN."""
        rows = as_vectors(descriptors, dim=self._dim, what="descriptors")
        new = as_ids(ids, num=len(rows))
        require_finite(rows, what="descriptors")
        for part in self._parts:
            known = np.isin(new, part.present_ids())
            if known.any():
                raise InputError(f"id {new[known][0]} is already in the index; remove it first")
        self._dim = rows.shape[1]
        if len(rows):
            self._parts.append(_Part(new, np.array(rows, order="C")))

    def remove(self, ids: np.ndarray) -> None:
        """Remove rows; ids that are not there are ignored. Their memory goes with the last row of
        their `add`."""
        gone = as_ids(ids)
        parts = [part.restricted(gone, invert=True) for part in self._parts]
        self._parts = [part for part in parts if len(part)]

    def search(
        self, queries: np.ndarray, *, k: int, allowed: np.ndarray | None = None
    ) -> Neighbors:
        """The k most similar rows of every query (Q, D), only ids in `allowed` where given; K =
        min(k, rows searched) columns."""
        asked = as_queries(queries, dim=self._dim, k=k)
        parts = (
            self._parts
            if allowed is None
            else [part.restricted(as_ids(allowed)) for part in self._parts]
        )
        num_columns = min(k, sum(len(part) for part in parts))
        if num_columns == 0 or len(asked) == 0:
            return Neighbors(
                np.empty((len(asked), num_columns), np.int64),
                np.empty((len(asked), num_columns), np.float32),
            )
        if len(asked) <= FEW_QUERIES:
            return _search_rows(parts, asked, k=num_columns)
        return _search_blocks(parts, asked, k=num_columns)

    def save(self, path: str | Path) -> None:
        """Write ids and rows as one .npz, atomically."""
        matrix = np.concatenate(
            [rows for part in self._parts for _, rows in part.blocks(len(part))]
            or [np.empty((0, self.dim))]
        )
        kinds = {part.matrix.dtype for part in self._parts}
        with atomic_write(path) as file:
            np.savez(
                file,
                ids=self.ids,
                descriptors=matrix.astype(kinds.pop() if len(kinds) == 1 else np.float32),
            )

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """The index that `save` wrote. Raises `InputError` naming the file."""
        arrays = read_saved(path, names=("ids", "descriptors"))
        if arrays["descriptors"].shape[-1] == 0:
            return cls()
        return cls.over(arrays["descriptors"], ids=arrays["ids"])


def read_saved(
    path: str | Path, *, names: tuple[str, ...], others: str = "", what: str = "index"
) -> dict[str, np.ndarray]:
    """Arrays of a saved index, and those whose names begin with `others`. Raises `InputError`
    naming the file."""
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
            more = [name for name in archive.files if others and name.startswith(others)]
            return {name: archive[name] for name in (*names, *more)}
    except Exception as error:  # zipfile and numpy raise a dozen kinds for a damaged archive
        raise InputError(
            f"{str(path)!r} is not a saved {what} ({error}); build it again"
        ) from error


def _search_rows(parts: list[_Part], queries: np.ndarray, *, k: int) -> Neighbors:
    """One dot product per row and query."""
    found_ids, found = (
        np.empty((len(queries), k), np.int64),
        np.empty((len(queries), k), np.float32),
    )
    for i, query in enumerate(queries):
        ids, similarities = np.empty(0, np.int64), np.empty(0, np.float32)
        for part in parts:
            for block_ids, values in part.similarities(query):
                if len(ids) == k:
                    hits = np.flatnonzero(values >= similarities[-1])
                    if len(hits) == 0:
                        continue
                    block_ids, values = block_ids[hits], values[hits]
                ids, similarities = best(
                    np.concatenate([ids, block_ids]), np.concatenate([similarities, values]), k=k
                )
        found_ids[i], found[i] = ids, similarities
    return Neighbors(found_ids, found)


class _Hits:
    """Rows that may be among the k best of their query, collected block by block."""

    def __init__(self, queries: np.ndarray, *, k: int) -> None:
        self.queries = queries
        self.k = k
        self.query = self.position = np.empty(0, np.int64)
        self.value = np.empty(0, np.float32)
        self.threshold = np.full(len(queries), -np.inf, np.float32)
        self.slack = np.zeros(len(queries), np.float32)
        self._norms = np.linalg.norm(queries, axis=1)
        self._pending: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        self._num_pending = 0

    def allow_rounding(self, largest_norm: float) -> None:
        """Let pass what rounding alone may have put below a threshold, for rows of norms up to
        this."""
        np.maximum(self.slack, ROUNDING * largest_norm * self._norms, out=self.slack)

    def take(self, values: np.ndarray, *, start: int) -> None:
        """Similarities (n, Q) of the rows from `start` on, which pass where they reach the k-th
        best so far, less rounding."""
        num = len(values)
        if num >= self.k and np.isneginf(self.threshold).all():
            # The first block sets the thresholds: selecting is far cheaper than sorting all of it.
            self.threshold = np.partition(values.T, num - self.k, axis=1)[:, num - self.k]
        hits = np.flatnonzero(values >= self.threshold - self.slack)
        if len(hits) == 0:
            return
        row, query = np.divmod(hits, len(self.queries))
        self._pending.append((query, start + row, values.ravel()[hits]))
        self._num_pending += len(hits)
        if self._num_pending > 2 * self.k * len(self.queries) or np.isneginf(self.threshold).any():
            self.settle()

    def settle(self) -> None:
        """Raise the thresholds and drop what no longer reaches them; sorts by query."""
        columns = zip((self.query, self.position, self.value), *self._pending, strict=True)
        query, position, value = (np.concatenate(parts) for parts in columns)
        order = np.lexsort((-value, query))
        query, position, value = query[order], position[order], value[order]
        starts = np.searchsorted(query, np.arange(len(self.queries) + 1))
        has_k = np.diff(starts) >= self.k
        self.threshold[has_k] = value[starts[:-1][has_k] + self.k - 1]
        stay = value >= (self.threshold - self.slack)[query]
        self.query, self.position, self.value = query[stay], position[stay], value[stay]
        self._pending, self._num_pending = [], 0


def _search_blocks(parts: list[_Part], queries: np.ndarray, *, k: int) -> Neighbors:
    """Matrix products as a filter, exact similarities for what passes."""
    size = max(
        int(np.clip(BLOCK_SIMILARITIES // len(queries), 1024, BLOCK_ROWS)), min(2 * k, 1 << 16)
    )
    hits = _Hits(queries, k=k)
    transposed = np.ascontiguousarray(queries.T)
    start = 0
    for part in parts:
        largest = 0.0
        for _, rows in part.blocks(size):
            if part.largest_norm is None:
                largest = max(largest, float(np.sqrt(np.max(np.vecdot(rows, rows)))))
            hits.allow_rounding(part.largest_norm or largest)
            hits.take(rows @ transposed, start=start)
            start += len(rows)
        part.largest_norm = part.largest_norm or largest
    hits.settle()
    return _rescored(parts, hits)


def _rescored(parts: list[_Part], hits: _Hits) -> Neighbors:
    ids = np.empty((len(hits.queries), hits.k), np.int64)
    similarities = np.empty((len(hits.queries), hits.k), np.float32)
    offsets = np.cumsum([0] + [len(part) for part in parts])
    exact = np.empty(len(hits.position), np.float32)
    all_ids = np.empty(len(hits.position), np.int64)
    for i, part in enumerate(parts):
        mine = np.flatnonzero((hits.position >= offsets[i]) & (hits.position < offsets[i + 1]))
        for first in range(0, len(mine), BLOCK_ROWS):
            chosen = mine[first : first + BLOCK_ROWS]
            rows = hits.position[chosen] - offsets[i]
            rows = rows if part.rows is None else part.rows[rows]
            exact[chosen] = np.vecdot(
                np.asarray(part.matrix[rows], dtype=np.float32), hits.queries[hits.query[chosen]]
            )
            all_ids[chosen] = part.ids[rows]
    bounds = np.searchsorted(hits.query, np.arange(len(hits.queries) + 1))
    order = np.lexsort((all_ids, -exact, hits.query))
    chosen = order[bounds[:-1, None] + np.arange(hits.k)]
    ids[:], similarities[:] = all_ids[chosen], exact[chosen]
    return Neighbors(ids, similarities)
