"""Mining: for each query of a refresh the positive and the negatives it is learned with.

After the Deep Visual Geo-localization Benchmark (Berton et al., CVPR 2022) and NetVLAD
(Arandjelovic et al., CVPR 2016). Distances are Euclidean, of descriptors as the network gives them.
Every photo that is needed is described once a refresh, a chunk of the database at a time, and only
distances are kept: memory does not grow with the database.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from whence.lists import NeighborLists, select_runs
from whence.runtime import random_stream
from whence.training.branches.distances import Pairs, Pool, is_among, without_repeats
from whence.training.branches.tuples import TupleSet
from whence.training.options.tuples import MiningOptions

_QUERIES, _CANDIDATES = 91, 92
DescribeRows = Callable[[np.ndarray], Tensor]
"""Descriptors (n, D) float32 of photos (n,): database rows, then queries counted on from there."""


class Drawn(NamedTuple):
    """The T queries of a refresh and what their negatives are chosen from, or what they are."""

    queries: np.ndarray
    """(T,) int64 queries of the tuple set."""
    candidates: Pool | Pairs | None
    """At least as many of each query as it has negatives; None where those are drawn."""
    negatives: np.ndarray | None = None
    """(T, num_negatives) database rows of random mining, in the order drawn."""


class Miner:
    """What is mined follows from the seed, the number of the refresh, the descriptors, and for full
    mining the refresh before."""

    def __init__(
        self,
        tuples: TupleSet,
        *,
        options: MiningOptions = MiningOptions(),  # noqa: B008
        seed: int = 0,
    ) -> None:
        self.tuples, self.options, self.seed = tuples, options, seed
        self.hardest = np.full((len(tuples.queries), options.num_negatives), -1, np.int64)
        """Negatives that full mining found for each query when it was last drawn; -1 before."""

    @property
    def num_tuples(self) -> int:
        """Tuples of a refresh."""
        return min(self.options.num_queries, len(self.tuples.queries))

    def mine(self, refresh: int, describe: DescribeRows) -> np.ndarray:
        """(T, 2 + num_negatives) int64 tuples: the query's row, its positive's and its negatives'
        database rows, nearest first."""
        drawn = self.draw(refresh)
        rows = self.tuples.queries[drawn.queries]
        positives = Pairs.of(select_runs(self.tuples.positives, drawn.queries))
        measured = [positives] if drawn.candidates is None else [positives, drawn.candidates]
        asked = describe(self.tuples.num_database + rows)
        needed = without_repeats(np.sort(np.concatenate([part.photos for part in measured])))
        size = max(self.options.batch_size, self.options.max_bytes // (4 * asked.shape[1]))
        for start in range(0, len(needed), size):
            chunk = needed[start : start + size]
            stored = describe(chunk)
            norms = torch.linalg.vector_norm(stored, dim=1).square_()
            for part in measured:
                part.measure(chunk, stored, norms, asked)
        negatives = drawn.negatives
        if negatives is None:
            assert drawn.candidates is not None, "negatives that are not drawn are mined"
            negatives = drawn.candidates.nearest(self.options.num_negatives)
        if self.options.name == "full":
            self.hardest[drawn.queries] = negatives
        return np.column_stack([rows, positives.nearest(1), negatives])

    def draw(self, refresh: int) -> Drawn:
        """The queries of a refresh and the candidates for their negatives, none of which is
        excluded."""
        options, tuples = self.options, self.tuples
        random = random_stream(self.seed, _QUERIES, refresh)
        weights = tuples.weights if options.name == "msls_weighted" else None
        queries = random.choice(len(tuples.queries), self.num_tuples, replace=False, p=weights)
        random = random_stream(self.seed, _CANDIDATES, refresh)
        excluded = select_runs(tuples.excluded, queries)
        if options.name == "random":
            return Drawn(queries, None, self._drawn_negatives(excluded, random))
        size = min(options.num_candidates, tuples.num_database)
        if options.name == "full":
            lists = np.empty((len(queries), size + options.num_negatives), np.int64)
            lists[:, size:] = self.hardest[queries]
            for fresh in lists[:, :size]:
                fresh[:] = random.choice(tuples.num_database, size, replace=False, shuffle=False)
            found = Pairs.united(lists, excluded=excluded)
        else:
            pool = Pool(np.sort(random.choice(tuples.num_database, size, replace=False)), excluded)
            if pool.counts.min() >= options.num_negatives:
                return Drawn(queries, pool)
            found = Pairs.of(pool.lists())
        if found.counts.min() < options.num_negatives:
            found = Pairs.of(self._topped_up(found.lists(), excluded, random))
        return Drawn(queries, found)

    def _drawn_negatives(self, excluded: NeighborLists, random: np.random.Generator) -> np.ndarray:
        """As many negatives for each query as are learned from, drawn from the whole database."""
        count = self.options.num_negatives
        drawn = np.empty((len(excluded.counts), count), np.int64)
        for query, held in enumerate(excluded.counts):
            rows = random.choice(self.tuples.num_database, count + held, replace=False)
            drawn[query] = rows[~is_among(rows, excluded.of(query))][:count]
        return drawn

    def _topped_up(
        self, negatives: NeighborLists, excluded: NeighborLists, random: np.random.Generator
    ) -> NeighborLists:
        """The lists, those shorter than the negatives filled with others of the database: a small
        pool may be all positives."""
        count, lists = self.options.num_negatives, []
        for query in range(len(negatives.counts)):
            own = negatives.of(query)
            if len(own) < count:
                order = random.permutation(self.tuples.num_database)
                order = order[~is_among(order, np.sort(np.concatenate([own, excluded.of(query)])))]
                own = np.sort(np.concatenate([own, order[: count - len(own)]]))
            lists.append(own)
        return NeighborLists(
            np.concatenate([[0], np.cumsum([len(own) for own in lists])]), np.concatenate(lists)
        )
