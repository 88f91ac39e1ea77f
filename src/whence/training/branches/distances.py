"""Which of a query's candidates are nearest, measured a chunk of the database at a time: a pool
that all queries share, or pairs.

Only the order within a query counts, so that its own squared length is left out of all squared
distances.
"""

from __future__ import annotations

import warnings
from functools import cached_property
from typing import Self

import numpy as np
import torch
from torch import Tensor

from whence.lists import NeighborLists


class Pool:
    """Database photos (P,), ascending, that all T queries share, without those that each query
    excludes."""

    def __init__(self, rows: np.ndarray, excluded: NeighborLists) -> None:
        self.rows = self.photos = rows
        owners, here = owners_of(excluded), is_among(excluded.members, rows)
        self._out = (owners[here], np.searchsorted(rows, excluded.members[here]))
        self.counts = len(rows) - np.bincount(self._out[0], minlength=len(excluded.counts))
        """(T,) candidates of each query."""
        self._squared = torch.empty((len(self.counts), len(rows)))

    def measure(self, rows: np.ndarray, stored: Tensor, norms: Tensor, queries: Tensor) -> None:
        """Distances of the queries' descriptors (T, D) to these database photos (n,), ascending, by
        theirs (n, D)."""
        first, last = np.searchsorted(self.rows, [rows[0], rows[-1] + 1])
        places = torch.from_numpy(np.searchsorted(rows, self.rows[first:last]))
        self._squared[:, first:last] = torch.addmm(
            norms[places], queries, stored[places].T, alpha=-2
        )

    def nearest(self, k: int) -> np.ndarray:
        """(T, k) database rows of each query's k nearest, nearest first."""
        squared = self._squared.clone()
        squared[tuple(map(torch.from_numpy, self._out))] = torch.inf
        return self.rows[squared.topk(k, largest=False).indices.numpy()]

    def lists(self) -> NeighborLists:
        """The candidates of each query, ascending."""
        is_in = np.ones((len(self.counts), len(self.rows)), bool)
        is_in[self._out] = False
        return NeighborLists(
            np.concatenate([[0], np.cumsum(self.counts)]), self.rows[np.nonzero(is_in)[1]]
        )


class Pairs:
    """Pairs of a query and a database photo, in the order of the database."""

    def __init__(self, keys: np.ndarray, num_queries: int) -> None:
        """`keys` (M,): row and query as one number, as `_keys` makes them; ascending, none
        twice."""
        bits = _num_bits(num_queries)
        self.rows, self.owners = keys >> bits, keys & keys.dtype.type((1 << bits) - 1)
        self.num_queries = num_queries
        self._squared = np.empty(len(keys), np.float32)

    @classmethod
    def of(cls, lists: NeighborLists) -> Self:
        """The pairs of every query with the rows in its list."""
        num_queries = len(lists.counts)
        keys = _keys(lists.members, owners_of(lists), num_queries)
        keys.sort()
        return cls(keys, num_queries)

    @classmethod
    def united(cls, rows: np.ndarray, *, excluded: NeighborLists) -> Self:
        """The pairs of every query with its rows of (T, K), -1 for none, each once, without those
        it excludes."""
        num_queries = len(rows)
        keys = _keys(rows, np.arange(num_queries)[:, None], num_queries).ravel()
        keys.sort()
        is_kept = keys >= 0
        is_kept[1:] &= keys[1:] != keys[:-1]
        out = np.sort(_keys(excluded.members, owners_of(excluded), num_queries)).astype(keys.dtype)
        places = np.minimum(np.searchsorted(keys, out), len(keys) - 1)
        is_kept[places[keys[places] == out]] = False
        return cls(keys[is_kept], num_queries)

    @property
    def photos(self) -> np.ndarray:
        """The database photos that are in some pair, ascending, each once."""
        return without_repeats(self.rows).astype(np.int64)

    @cached_property
    def counts(self) -> np.ndarray:
        """(T,) candidates of each query."""
        return np.bincount(self.owners, minlength=self.num_queries)

    def lists(self) -> NeighborLists:
        """The candidates of each query, ascending."""
        return NeighborLists(
            np.concatenate([[0], np.cumsum(self.counts)]), self.rows[self._by_query()]
        )

    def measure(self, rows: np.ndarray, stored: Tensor, norms: Tensor, queries: Tensor) -> None:
        """Distances of the pairs with these database photos (n,), ascending, by their descriptors
        (n, D), to queries (T, D)."""
        starts = np.searchsorted(
            self.rows, np.append(rows, rows[-1] + 1).astype(self.rows.dtype)
        ).astype(self.rows.dtype)
        here = slice(int(starts[0]), int(starts[-1]))
        owners = self.owners[here]
        with warnings.catch_warnings():
            # Sparse tensors are called beta; the product at chosen places alone is what is used of
            # them.
            warnings.filterwarnings("ignore", message="Sparse CSR tensor support")
            places = torch.sparse_csr_tensor(
                torch.from_numpy(starts - starts[0]),
                torch.from_numpy(owners),
                torch.zeros(len(owners)),
                size=(len(rows), len(queries)),
                check_invariants=False,
            )
            products = (
                torch.sparse.sampled_addmm(places, stored, queries.T, beta=0.0, alpha=-2)
                .values()
                .numpy()
            )
        products += np.repeat(norms.numpy(), np.diff(starts))
        self._squared[here] = products

    def nearest(self, k: int) -> np.ndarray:
        """(T, k) database rows of each query's k nearest, nearest first; every query needs as many
        pairs."""
        # The k-th nearest of a few pairs bounds that of all, and few pairs lie within the bound.
        bounds = self._nearest_of(np.arange(len(self.rows) // 8 + 1), k)[0][:, -1]
        near = np.flatnonzero(self._squared <= bounds[self.owners])
        return self.rows[self._nearest_of(near, k)[1]]

    def _nearest_of(self, pairs: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """(T, k) squared distances of each query's nearest of these pairs, infinite where it has
        fewer, and which they are."""
        order = pairs[self._by_query(pairs)]
        counts = np.bincount(self.owners[pairs], minlength=self.num_queries)
        squared = np.full((self.num_queries, max(k, counts.max())), np.inf, np.float32)
        squared[np.arange(squared.shape[1]) < counts[:, None]] = self._squared[order]
        nearest, found = torch.from_numpy(squared).topk(k, largest=False)
        firsts = np.cumsum(counts) - counts
        return nearest.numpy(), order[np.minimum(firsts[:, None] + found.numpy(), len(order) - 1)]

    def _by_query(self, pairs: np.ndarray | slice = slice(None)) -> np.ndarray:
        """The pairs query by query, each in the order of the database. A stable sort of small
        integers counts, not compares."""
        return np.argsort(
            self.owners[pairs].astype(np.uint16 if self.num_queries <= 1 << 16 else np.int64),
            kind="stable",
        )


def owners_of(lists: NeighborLists) -> np.ndarray:
    """(M,) the query of every member of the lists."""
    return np.repeat(np.arange(len(lists.counts)), lists.counts)


def is_among(values: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Which of the values are among those known, which are ascending."""
    if not len(places):
        return np.zeros(values.shape, bool)
    return np.asarray(
        places[np.minimum(np.searchsorted(places, values), len(places) - 1)] == values
    )


def without_repeats(values: np.ndarray) -> np.ndarray:
    """Each of the values, which are ascending, once."""
    return values[np.append(True, values[1:] != values[:-1])] if len(values) else values


def _keys(rows: np.ndarray, owners: np.ndarray, num_queries: int) -> np.ndarray:
    """Row and query as one number, by which pairs are sorted; below 0 for a row of -1. 32 bits sort
    faster where they suffice."""
    bits = _num_bits(num_queries)
    is_small = not rows.size or rows.max() < 1 << (31 - bits)
    kind = np.dtype(np.int32 if is_small else np.int64)
    keys = np.left_shift(rows, bits, dtype=kind, casting="unsafe")
    keys += owners.astype(kind)
    return keys


def _num_bits(num_queries: int) -> int:
    return max(1, int(num_queries - 1).bit_length())
