"""Mining: for each query of a refresh the positive and the negatives it is learned with.

After the Deep Visual Geo-localization Benchmark (Berton et al., CVPR 2022) and NetVLAD (Arandjelovic et al., CVPR 2016). Distances
are Euclidean, of descriptors as the network gives them. Every photo that is needed is described once a refresh, a chunk of the
database at a time, and only distances are kept: memory does not grow with the database.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from whence.geo import NeighborLists
from whence.runtime import random_stream
from whence.training.tuple_recipe import MiningOptions
from whence.training.tuples import TupleSet, select_lists

_QUERIES, _CANDIDATES = 91, 92
Describe = Callable[[np.ndarray], Tensor]
"""Descriptors (n, D) float32 of photos (n,): database rows, then queries counted on from there."""


class Drawn(NamedTuple):
    """The T queries of a refresh and what their negatives are chosen from."""

    queries: np.ndarray
    """(T,) int64 queries of the tuple set."""
    candidates: NeighborLists
    """Database rows for each, at least as many as there are negatives; in the order drawn for random mining, else ascending."""


class Miner:
    """What is mined follows from the seed, the number of the refresh, the descriptors, and for full mining the refresh before."""

    def __init__(self, tuples: TupleSet, *, options: MiningOptions = MiningOptions(), seed: int = 0) -> None:  # noqa: B008
        self.tuples, self.options, self.seed = tuples, options, seed
        self.hardest = np.full((len(tuples.queries), options.num_negatives), -1, np.int64)
        """Negatives that full mining found for each query when it was last drawn; -1 before."""

    @property
    def num_tuples(self) -> int:
        """Tuples of a refresh."""
        return min(self.options.num_queries, len(self.tuples.queries))

    def mine(self, refresh: int, describe: Describe) -> np.ndarray:
        """(T, 2 + num_negatives) int64 tuples: the query's row, its positive's and its negatives' database rows, nearest first."""
        num_database, num_negatives = self.tuples.num_database, self.options.num_negatives
        drawn = self.draw(refresh)
        rows = self.tuples.queries[drawn.queries]
        positives = _Pairs(select_lists(self.tuples.positives, drawn.queries))
        is_mined = self.options.name != "random"
        candidates = _Pairs(drawn.candidates) if is_mined else None
        measured = [positives] if candidates is None else [positives, candidates]
        asked = describe(num_database + rows)
        needed = np.unique(np.concatenate([pairs.rows for pairs in measured]))
        size = max(self.options.batch_size, self.options.max_bytes // (4 * asked.shape[1]))
        for start in range(0, len(needed), size):
            chunk = needed[start : start + size]
            stored = describe(chunk)
            for pairs in measured:
                pairs.measure(chunk, stored, asked)
        best = positives.nearest(1)
        if candidates is None:
            negatives = drawn.candidates.members.reshape(len(rows), num_negatives)
        else:
            negatives = candidates.nearest(num_negatives)
        if self.options.name == "full":
            self.hardest[drawn.queries] = negatives
        return np.column_stack([rows, best, negatives])

    def draw(self, refresh: int) -> Drawn:
        """The queries of a refresh and the candidates for their negatives, none of which is excluded."""
        options, tuples = self.options, self.tuples
        random = random_stream(self.seed, _QUERIES, refresh)
        weights = tuples.weights if options.name == "msls_weighted" else None
        queries = random.choice(len(tuples.queries), self.num_tuples, replace=False, p=weights)
        random = random_stream(self.seed, _CANDIDATES, refresh)
        excluded = select_lists(tuples.excluded, queries)
        if options.name == "random":
            return Drawn(queries, self._drawn_negatives(excluded, random))
        size = min(options.num_candidates, tuples.num_database)
        keys = _keys(excluded, tuples.num_database)
        if options.name == "full":
            fresh = [random.choice(tuples.num_database, size, replace=False, shuffle=False) for _ in queries]
            known = self.hardest[queries]
            asked = np.column_stack([np.array(fresh), known]) + np.arange(len(queries))[:, None] * tuples.num_database
            asked = np.unique(asked[np.column_stack([np.ones((len(queries), size), bool), known >= 0])])
        else:
            pool = np.sort(random.choice(tuples.num_database, size, replace=False))
            asked = (pool + np.arange(len(queries))[:, None] * tuples.num_database).ravel()
        found = _as_lists(asked[~_is_among(asked, keys)], len(queries), tuples.num_database)
        return Drawn(queries, self._topped_up(found, excluded, random))

    def _drawn_negatives(self, excluded: NeighborLists, random: np.random.Generator) -> NeighborLists:
        """As many negatives for each query as are learned from, drawn from the whole database."""
        count, num_database = self.options.num_negatives, self.tuples.num_database
        drawn = []
        for query, held in enumerate(excluded.counts):
            rows = random.choice(num_database, count + held, replace=False)
            drawn.append(rows[~_is_among(rows, excluded.of(query))][:count])
        return NeighborLists(np.arange(len(drawn) + 1) * count, np.concatenate(drawn))

    def _topped_up(self, found: NeighborLists, excluded: NeighborLists, random: np.random.Generator) -> NeighborLists:
        """The lists, those shorter than the negatives filled with others of the database: a small pool may be all positives."""
        count = self.options.num_negatives
        if found.counts.min() >= count:
            return found
        lists = []
        for query in range(len(found.counts)):
            own = found.of(query)
            if len(own) < count:
                order = random.permutation(self.tuples.num_database)
                order = order[~_is_among(order, np.sort(np.concatenate([own, excluded.of(query)])))]
                own = np.sort(np.concatenate([own, order[: count - len(own)]]))
            lists.append(own)
        return NeighborLists(np.concatenate([[0], np.cumsum([len(own) for own in lists])]), np.concatenate(lists))


class _Pairs:
    """Pairs of a query and a database photo whose distances are wanted, in the order of the database."""

    def __init__(self, lists: NeighborLists) -> None:
        self.num_queries = len(lists.counts)
        owners = np.repeat(np.arange(self.num_queries), lists.counts)
        self.rows, self.owners = np.divmod(np.sort(lists.members * self.num_queries + owners), self.num_queries)
        self.squared = np.empty(len(self.rows), np.float32)

    def measure(self, rows: np.ndarray, stored: Tensor, asked: Tensor) -> None:
        """Squared distances of the pairs with these database rows (n,), ascending, of descriptors (n, D), to queries (T, D)."""
        starts = np.searchsorted(self.rows, [*rows, rows[-1] + 1])
        here = slice(int(starts[0]), int(starts[-1]))
        owners = self.owners[here]
        with warnings.catch_warnings():
            # Sparse tensors are called beta; the product at chosen places alone is what is used of them.
            warnings.filterwarnings("ignore", message="Sparse CSR tensor support")
            places = torch.sparse_csr_tensor(
                torch.from_numpy(starts - starts[0]),
                torch.from_numpy(owners),
                torch.zeros(len(owners)),
                size=(len(rows), len(asked)),
                check_invariants=False,
            )
            products = torch.sparse.sampled_addmm(places, stored, asked.T, beta=0.0).values().numpy()
        norms, of_queries = (torch.einsum("nd,nd->n", matrix, matrix).numpy() for matrix in (stored, asked))
        self.squared[here] = np.repeat(norms, np.diff(starts)) + of_queries[owners] - 2 * products

    def nearest(self, k: int) -> np.ndarray:
        """(T, k) database rows of each query's k nearest, nearest first, of equal ones the first of the database first."""
        # A stable sort of small integers counts instead of comparing.
        small = np.uint16 if self.num_queries <= 1 << 16 else np.int64
        order = np.argsort(self.owners.astype(small), kind="stable")
        counts = np.bincount(self.owners, minlength=self.num_queries)
        is_there = np.arange(counts.max()) < counts[:, None]
        squared = np.full(is_there.shape, np.inf, np.float32)
        squared[is_there] = self.squared[order]
        rows = np.full(is_there.shape, -1, np.int64)
        rows[is_there] = self.rows[order]
        if k < squared.shape[1]:
            # argpartition may take either of two equal ones at the edge; what it takes does not change from run to run.
            kept = np.sort(np.argpartition(squared, k - 1, axis=1)[:, :k], axis=1)
            squared, rows = np.take_along_axis(squared, kept, axis=1), np.take_along_axis(rows, kept, axis=1)
        return np.take_along_axis(rows, np.argsort(squared, axis=1, kind="stable"), axis=1)


def _keys(lists: NeighborLists, num_rows: int) -> np.ndarray:
    """Query and row as one number, ascending."""
    return np.repeat(np.arange(len(lists.counts)), lists.counts) * num_rows + lists.members


def _as_lists(keys: np.ndarray, num_queries: int, num_rows: int) -> NeighborLists:
    """The lists that `_keys` made numbers of."""
    offsets = np.searchsorted(keys, np.arange(num_queries + 1) * num_rows)
    return NeighborLists(offsets, keys - np.repeat(np.arange(num_queries) * num_rows, np.diff(offsets)))


def _is_among(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Which of the values are among those known, which are ascending."""
    if not len(known):
        return np.zeros(values.shape, bool)
    return np.asarray(known[np.minimum(np.searchsorted(known, values), len(known) - 1)] == values)
