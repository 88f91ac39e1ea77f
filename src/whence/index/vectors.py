"""What an index and an engine are, what every one checks before it computes, and exact similarities
of chosen rows.

Similarity is the inner product, for unit vectors the cosine. The exact value of a pair is
`numpy.vecdot` of the two rows as float32: one row at a time, so that it depends on the two rows
alone and equal rows get equal similarities, whatever the batch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Protocol, Self, runtime_checkable

import numpy as np

from whence.errors import BadOption, InputError
from whence.types import Neighbors

SCATTERED_BYTES = 1 << 19
"""Scattered rows are copied so many bytes at a time: the copy is then compared while it lies in the
cache."""


@runtime_checkable
class Index(Protocol):
    """What finds the most similar descriptors.

    Ids are chosen by the caller, unique, non-negative. Similarity is the inner product. `search`
    returns K = min(k, number of ids allowed) columns, never an id of -1; `allowed` restricts the
    search to these ids, exactly.
    """

    @property
    def num_vectors(self) -> int: ...

    @property
    def dim(self) -> int: ...

    def add(self, ids: np.ndarray, descriptors: np.ndarray) -> None: ...

    def remove(self, ids: np.ndarray) -> None: ...

    def search(
        self, queries: np.ndarray, *, k: int, allowed: np.ndarray | None = None
    ) -> Neighbors: ...


class Engine(ABC):
    """What searches a database: an index over its rows, and the arrays that the database keeps for
    it between runs.

    One of your own gives `over`, `num_vectors`, `dim` and `search`; keeping something beside the
    rows, and growing, are for those that can. All three ways to make one take the options that it
    was registered with.
    """

    @classmethod
    @abstractmethod
    def over(cls, matrix: np.ndarray) -> Self:
        """An engine over the rows (N, D) of an array or memory map, which stay where they are; ids
        are row numbers."""

    def kept(self) -> dict[str, np.ndarray] | None:
        """Arrays that a database keeps for `from_kept`; None where exact search over the rows alone
        is as good."""
        return None

    @classmethod
    def from_kept(cls, arrays: Mapping[str, np.ndarray], over: np.ndarray) -> Self:
        """The engine whose `kept` gave the arrays, over the same rows. Raises `InputError` where
        they do not belong together."""
        return cls.over(over)

    @classmethod
    def check(cls, *, dim: int) -> None:
        """Raises `BadOption` where rows of this dimension cannot be searched with these options;
        most take every one."""
        return

    @classmethod
    def kept_bytes(cls, num_rows: int, *, dim: int) -> int:
        """Bytes a row that `kept` takes, for estimates."""
        return 0

    @property
    @abstractmethod
    def num_vectors(self) -> int:
        """How many rows are searched."""

    @property
    @abstractmethod
    def dim(self) -> int:
        """Numbers per row; 0 while empty and not told."""

    @abstractmethod
    def search(
        self, queries: np.ndarray, *, k: int, allowed: np.ndarray | None = None
    ) -> Neighbors:
        """The k most similar rows of every query (Q, D), only ids in `allowed` where given; see
        `Index`."""

    def add(self, ids: np.ndarray, descriptors: np.ndarray) -> None:
        """Add rows (n, D) under new ids (n,). Raises `BadOption` for an engine that does not
        grow."""
        raise BadOption(f"{type(self).__name__} does not grow; make it over all rows")

    def remove(self, ids: np.ndarray) -> None:
        """Remove rows; ids that are not there are ignored. Raises `BadOption` as `add` does."""
        raise BadOption(f"{type(self).__name__} does not shrink; make it over the rows that stay")


def as_vectors(vectors: np.ndarray, *, dim: int | None, what: str) -> np.ndarray:
    """The vectors (n, D) as they are or as float32; float16 stays. Raises `InputError` for another
    shape, dtype or dimension."""
    array = np.asanyarray(vectors)  # a memory map stays one
    if array.ndim != 2 or (dim is not None and array.shape[1] != dim) or array.shape[1] == 0:
        wanted = "(n, D)" if dim is None else f"(n, {dim})"
        raise InputError(f"{what} have shape {array.shape}; this index takes {wanted}")
    if array.dtype.kind not in "fiu":
        raise InputError(f"{what} of dtype {array.dtype} cannot be searched; give floats")
    return array if array.dtype in (np.float32, np.float16) else array.astype(np.float32)


def as_queries(queries: np.ndarray, *, dim: int | None, k: int) -> np.ndarray:
    """Finite float32 queries (Q, D), contiguous. Raises `InputError`, and `BadOption` for k below
    1."""
    if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or k < 1:
        raise BadOption(f"k is {k!r}; ask for at least one neighbour")
    array = np.ascontiguousarray(as_vectors(queries, dim=dim, what="queries"), dtype=np.float32)
    require_finite(array, what="queries")
    return array


def require_finite(array: np.ndarray, *, what: str) -> None:
    """Raise `InputError` naming the first row that holds NaN or infinity."""
    if not np.isfinite(array).all():
        row = int(np.flatnonzero(~np.isfinite(array).all(axis=1))[0])
        raise InputError(f"{what}: row {row} holds NaN or infinity")


def as_ids(ids: np.ndarray, *, num: int | None = None) -> np.ndarray:
    """Ids (n,) int64. Raises `InputError` for negative ids, and for equal ones where `num` of them
    are to be new."""
    array = np.asarray(ids)
    if array.size == 0:
        array = array.astype(np.int64)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise InputError(
            f"ids are a column of integers; given {array.dtype} of shape {array.shape}"
        )
    array = array.astype(np.int64)
    if (array < 0).any():
        raise InputError(f"ids are not negative; given {array[array < 0][0]}")
    if num is not None and len(array) != num:
        raise InputError(f"{len(array)} ids for {num} descriptors")
    if num is not None and len(np.unique(array)) != num:
        raise InputError("an id is given twice; ids are unique")
    return array


def common_ids(ids: np.ndarray, within: np.ndarray) -> np.ndarray:
    """Those of the ids (n,) that are among others (m,), both ascending; the time grows with n
    alone."""
    if not len(within):
        return within
    places = np.minimum(np.searchsorted(within, ids), len(within) - 1)
    return ids[within[places] == ids]


def exact_similarities(query: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """(n,) float32 similarities of one query (D,) and rows (n, D)."""
    return np.vecdot(rows.astype(np.float32, copy=False), query)


def scattered_similarities(query: np.ndarray, matrix: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """(n,) float32 exact similarities of one query (D,) and scattered rows (n,) of a matrix, some
    copied at a time."""
    size = max(1, SCATTERED_BYTES // (4 * len(query)))
    pieces = [rows[first : first + size] for first in range(0, len(rows), size)]
    found = [exact_similarities(query, np.asarray(matrix[piece], np.float32)) for piece in pieces]
    return np.concatenate([np.empty(0, np.float32), *found])


def best(ids: np.ndarray, similarities: np.ndarray, *, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k largest similarities, best first, equal ones by ascending id."""
    if len(ids) > 4 * k:
        # Selecting first is several times cheaper than sorting all; rows equal to the k-th stay for
        # the ids to decide.
        kept = similarities >= np.partition(similarities, len(ids) - k)[len(ids) - k]
        ids, similarities = ids[kept], similarities[kept]
    order = np.lexsort((ids, -similarities))[:k]
    return ids[order], similarities[order]
