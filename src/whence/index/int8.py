"""`Int8Index`: exact search of single queries that reads a quarter of the bytes.

One byte per dimension (a common scale, no training) gives integer distances to all rows; the
nearest rows by those are computed exactly. The answer is proven or discarded. With x the row, q the
query, x', q' what their bytes stand for, and e the sum of the largest |x - x'| and of |q - q'|, the
triangle inequality gives |x - q| >= |x' - q'| - e, and so

    <x, q> = (|x|^2 + |q|^2 - |x - q|^2) / 2 <= (largest |x|^2 + |q|^2 - max(0, |x' - q'| - e)^2) /
    2.

Where this bound, at the last row fetched, lies below the k-th best similarity found, no other row
can be better. Otherwise all rows are read. Unit vectors are nearly always proven; rows of very
different norms hardly ever, which costs time and no truth.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np

from whence.errors import InputError
from whence.index.ann import read_codes
from whence.index.flat import FlatIndex, read_saved
from whence.index.gather import RowReader
from whence.index.vectors import Engine, as_ids, as_queries, best, exact_similarities
from whence.runtime import atomic_write
from whence.types import Neighbors

FETCHED = 1000
BLOCK_ROWS = 65_536
MANY_QUERIES = 5
"""From this many queries on, matrix products over the original rows are faster than one scan of the
codes per query."""
ROUNDING = 1e-5
LARGEST_DIM = 32_768
"""Integer distances of more dimensions could overflow 32 bits; such rows are searched without
codes."""


class Int8Index(Engine):
    """Exact search by inner product with 8-bit codes beside the original rows; the same answers as
    `FlatIndex`."""

    def __init__(self, *, dim: int | None = None) -> None:
        """An empty index; without `dim` the first descriptors decide."""
        self._flat = FlatIndex(dim=dim)
        self._clear()

    def _clear(self) -> None:
        self._ids = np.empty(0, np.int64)
        self._is_there = np.empty(0, bool)
        self._parts: list[np.ndarray] = []
        self._reader = RowReader([])
        self._codes: Any = None
        self._scale = 0.0
        self._error = 0.0
        self._largest = 0.0

    @classmethod
    def over(cls, matrix: np.ndarray, *, ids: np.ndarray | None = None) -> Self:
        """An index over the rows of an array or memory map, which stay where they are; makes the
        codes."""
        index = cls()
        index._flat = FlatIndex.over(matrix, ids=ids)
        index._append(index._flat.ids, np.asanyarray(matrix))
        return index

    def kept(self) -> dict[str, np.ndarray] | None:
        """The codes with what proves answers from them; None where so few rows are searched without
        codes anyway."""
        if self._codes is None or len(self._ids) <= FETCHED:
            return None
        import faiss

        codes = np.asarray(faiss.serialize_index(self._codes), np.uint8)
        return {"codes": codes, "bounds": np.array([self._scale, self._error, self._largest])}

    @classmethod
    def from_kept(cls, arrays: Mapping[str, np.ndarray], over: np.ndarray) -> Self:
        """The index whose `kept` gave the arrays, over the same rows. Raises `InputError` where
        they do not belong together."""
        index = cls()
        index._flat = FlatIndex.over(over)
        index._codes = read_codes(arrays["codes"], num_rows=len(over), dim=index.dim)
        bounds = np.asarray(arrays.get("bounds", ()), np.float64)
        if (
            bounds.shape != (3,)
            or not np.isfinite(bounds).all()
            or bounds.min() < 0
            or bounds[0] == 0
        ):
            raise InputError("the bounds of the codes are damaged; build the index again")
        index._scale, index._error, index._largest = bounds.tolist()
        index._know(index._flat.ids, over)
        return index

    @classmethod
    def kept_bytes(cls, num_rows: int, *, dim: int) -> int:
        """A byte per dimension, from so many rows on that codes are of use."""
        return 0 if num_rows <= FETCHED else dim

    @property
    def num_vectors(self) -> int:
        return int(np.count_nonzero(self._is_there))

    @property
    def dim(self) -> int:
        """0 while empty and not told."""
        return self._flat.dim

    def add(self, ids: np.ndarray, descriptors: np.ndarray) -> None:
        """Add rows (n, D) under new ids (n,). Raises as `FlatIndex.add` does."""
        num_parts = len(self._flat.parts)
        self._flat.add(ids, descriptors)
        for new_ids, rows in self._flat.parts[num_parts:]:
            self._append(new_ids, rows)

    def remove(self, ids: np.ndarray) -> None:
        """Remove rows; ids that are not there are ignored."""
        gone = as_ids(ids)
        self._flat.remove(gone)
        self._is_there &= ~np.isin(self._ids, gone)
        if self.num_vectors < 0.75 * len(self._ids):
            parts = self._flat.parts
            self._clear()
            self._flat = FlatIndex(dim=self._flat.dim)
            for part_ids, rows in parts:
                self.add(part_ids, rows)

    def search(
        self, queries: np.ndarray, *, k: int, allowed: np.ndarray | None = None
    ) -> Neighbors:
        """The k most similar rows of every query (Q, D), only ids in `allowed` where given; K =
        min(k, rows searched) columns."""
        asked = as_queries(queries, dim=self.dim or None, k=k)
        mask = self._is_there
        if allowed is not None:
            mask = mask & np.isin(self._ids, as_ids(allowed))
        num_searched, num_fetched = int(np.count_nonzero(mask)), max(FETCHED, 8 * k)
        if (
            self._codes is None
            or len(asked) >= MANY_QUERIES
            or num_searched < len(mask) // 2
            or num_fetched >= len(mask)
        ):
            return self._flat.search(asked, k=k, allowed=allowed)
        answers = [self._proven(query, k=k, num_fetched=num_fetched, mask=mask) for query in asked]
        missing = [i for i, answer in enumerate(answers) if answer is None]
        if missing:
            exact = self._flat.search(asked[missing], k=k, allowed=allowed)
            for i, row_ids, similarities in zip(
                missing, exact.ids, exact.similarities, strict=True
            ):
                answers[i] = (row_ids, similarities)
        found = [answer for answer in answers if answer is not None]
        columns = min(k, num_searched)
        ids = np.array([row_ids for row_ids, _ in found], np.int64).reshape(len(asked), columns)
        return Neighbors(
            ids, np.array([values for _, values in found], np.float32).reshape(len(asked), columns)
        )

    def _proven(
        self, query: np.ndarray, *, k: int, num_fetched: int, mask: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray] | None:
        """Ids and similarities of the k best rows of the mask, or None where rows that were not
        fetched might be better."""
        bytes_of_query = self._bytes(query[None])
        distances, positions = self._codes.search(bytes_of_query, num_fetched)
        last = float(np.sqrt(distances[0, -1])) / self._scale
        found = np.sort(positions[0])
        found = found[mask[found]]
        if len(found) < k:
            return None
        ids, similarities = best(
            self._ids[found], exact_similarities(query, self._reader.rows(found)), k=k
        )
        error = self._error + float(np.linalg.norm((bytes_of_query[0] - 128) / self._scale - query))
        norm = float(np.linalg.norm(query))
        bound = (self._largest**2 + norm**2 - max(0.0, last * (1 - ROUNDING) - error) ** 2) / 2
        return (
            (ids, similarities)
            if bound + ROUNDING * norm * self._largest < similarities[-1]
            else None
        )

    def save(self, path: str | Path) -> None:
        """Write ids and rows as one .npz, atomically; codes are made again on opening."""
        rows = [part for _, part in self._flat.parts]
        with atomic_write(path) as file:
            np.savez(
                file,
                ids=self._flat.ids,
                descriptors=np.concatenate(rows) if rows else np.empty((0, self.dim), np.float32),
            )

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """The index that `save` wrote. Raises `InputError` naming the file."""
        arrays = read_saved(path, names=("ids", "descriptors"))
        if arrays["descriptors"].ndim != 2 or len(arrays["ids"]) != len(arrays["descriptors"]):
            raise InputError(f"{str(path)!r} is not a saved index; build it again")
        if len(arrays["ids"]) == 0:
            return cls(dim=arrays["descriptors"].shape[1] or None)
        return cls.over(arrays["descriptors"], ids=arrays["ids"])

    def _bytes(self, rows: np.ndarray) -> np.ndarray:
        """Rows as whole numbers 0 to 255 around 128, as the float32 that faiss takes them in."""
        return np.clip(np.rint(rows * np.float32(self._scale)) + 128, 0, 255).astype(np.float32)

    def _append(self, ids: np.ndarray, rows: np.ndarray) -> None:
        import faiss

        if self._codes is None and len(rows) and rows.shape[1] <= LARGEST_DIM:
            largest = max(
                float(np.abs(rows[start : start + BLOCK_ROWS]).max())
                for start in range(0, len(rows), BLOCK_ROWS)
            )
            # Later rows may hold larger values; they are clipped, and the error bound says so.
            self._scale = 127 / largest if largest > 0 else 1.0
            self._codes = faiss.IndexScalarQuantizer(
                rows.shape[1], faiss.ScalarQuantizer.QT_8bit_direct, faiss.METRIC_L2
            )
        for start in range(0, len(rows) if self._codes is not None else 0, BLOCK_ROWS):
            block = np.asarray(rows[start : start + BLOCK_ROWS], dtype=np.float32)
            codes = self._bytes(block)
            self._codes.add(codes)
            difference = (codes - 128) / np.float32(self._scale) - block
            self._error = max(
                self._error,
                float(np.sqrt(np.vecdot(difference, difference).max())) * (1 + ROUNDING),
            )
            self._largest = max(
                self._largest, float(np.sqrt(np.vecdot(block, block).max())) * (1 + ROUNDING)
            )
        self._know(ids, rows)

    def _know(self, ids: np.ndarray, rows: np.ndarray) -> None:
        """Take rows into account whose codes are there."""
        self._ids = np.concatenate([self._ids, ids])
        self._is_there = np.concatenate([self._is_there, np.ones(len(ids), bool)])
        self._parts.append(rows)
        self._reader = RowReader(self._parts)
