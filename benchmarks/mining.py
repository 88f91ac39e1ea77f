"""A mining step against the usual way, query by query, and the cost of a refresh as the database
grows.

    # 1,000 queries, 10,000 and 100,000 database photos, 512 dimensions
    python benchmarks/mining.py
    # ours alone at 1e4, 1e5 and 1e6 database photos, with memory
    python benchmarks/mining.py --growth

Descriptors are given, so that mining alone is measured. The usual way is that of the published
benchmark code, written anew from its description: descriptors in a list by row; for every query its
positives in a small faiss index, its candidates drawn, cleared of positives and searched in
another. Both are checked to find the same negatives from the same candidates.
"""

from __future__ import annotations

import time

import numpy as np
import torch
from side_by_side import compare, options, save

from whence.data.formats import EvaluationSet
from whence.data.photos import Photos
from whence.evaluation.cost import PeakMemory
from whence.lists import NeighborLists
from whence.runtime import set_threads
from whence.training.branches.mining import Miner
from whence.training.branches.tuples import TupleSet
from whence.training.options.tuples import MiningOptions

DIM = 512
NUM_QUERIES = 1000
NUM_POSITIVES, NUM_EXCLUDED = 8, 30


class Nothing(Photos):
    """A table with a length and nothing in it."""

    def __init__(self, num: int) -> None:
        self.num = num

    def __len__(self) -> int:
        return self.num


def made_tuples(num_database: int, num_queries: int) -> TupleSet:
    """Queries that lie evenly along the database: positives are the next rows, more of them are
    excluded."""
    firsts = np.linspace(0, num_database - NUM_EXCLUDED, num_queries).astype(np.int64)
    lists = [
        NeighborLists(
            np.arange(num_queries + 1) * size, (firsts[:, None] + np.arange(size)).ravel()
        )
        for size in (NUM_POSITIVES, NUM_EXCLUDED)
    ]
    data = EvaluationSet("made", Nothing(num_database), Nothing(num_queries))
    return TupleSet(data, np.arange(num_queries), *lists, np.full(num_queries, 1 / num_queries))


def rows_of(matrix: torch.Tensor, rows: np.ndarray) -> torch.Tensor:
    """Some rows, not copied where they follow each other: a network hands out what it made as it
    is."""
    first, last = int(rows[0]), int(rows[-1]) + 1
    return matrix[first:last] if last - first == len(rows) else matrix[torch.from_numpy(rows)]


def query_by_query(
    tuples: TupleSet,
    descriptors: np.ndarray,
    draws: list[np.ndarray] | None,
    mining: MiningOptions,
) -> np.ndarray:
    """The usual way; `draws` are candidates drawn before, for checking."""
    import faiss

    random = np.random.RandomState(0)
    num_database, num_queries = tuples.num_database, len(tuples.queries)
    held: list[np.ndarray | None] = [None] * len(descriptors)
    for row, descriptor in enumerate(descriptors):
        held[row] = descriptor
    kept = np.tile(
        random.choice(num_database, mining.num_negatives, replace=False), (num_queries, 1)
    )
    pool = random.choice(num_database, mining.num_candidates, replace=False)
    found = []
    for query in range(num_queries):
        asked = held[num_database + query]
        positives = tuples.positives.of(query)
        index = faiss.IndexFlatL2(DIM)
        index.add(np.array([held[row] for row in positives]))
        best = positives[index.search(asked.reshape(1, -1), 1)[1][0, 0]]
        candidates = pool
        if mining.name == "full":
            candidates = random.choice(num_database, mining.num_candidates, replace=False)
        candidates = np.setdiff1d(candidates, tuples.excluded.of(query), assume_unique=True)
        if mining.name == "full":
            candidates = np.unique(np.concatenate([kept[query], candidates]))
        if draws is not None:
            candidates = draws[query]
        index = faiss.IndexFlatL2(DIM)
        index.add(np.array([held[row] for row in candidates]))
        negatives = candidates[index.search(asked.reshape(1, -1), mining.num_negatives)[1][0]]
        kept[query] = negatives
        found.append([query, best, *negatives])
    return np.array(found)


def main() -> None:
    """Compare at two sizes, or show how ours grows."""
    parser = options("Mining, ours and query by query")
    parser.add_argument(
        "--growth", action="store_true", help="ours alone at three sizes, once each, with memory"
    )
    parser.add_argument("--sizes", default="", help="database photos, as 10000,100000")
    arguments = parser.parse_args()
    set_threads(1)
    num_queries = 50 if arguments.quick else NUM_QUERIES
    usual = "10000,100000,1000000" if arguments.growth else "10000,100000"
    sizes = (
        [2000] if arguments.quick else [int(size) for size in (arguments.sizes or usual).split(",")]
    )
    tables = {}
    for size in sizes:
        tuples = made_tuples(size, num_queries)
        random = np.random.default_rng(0)
        descriptors = random.standard_normal((size + num_queries, DIM), np.float32)
        matrix = torch.from_numpy(descriptors)
        for name in ("partial", "full"):
            mining = MiningOptions(name)

            def mine(
                mining: MiningOptions = mining,
                tuples: TupleSet = tuples,
                matrix: torch.Tensor = matrix,
            ) -> np.ndarray:
                return Miner(tuples, options=mining).mine(0, lambda rows: rows_of(matrix, rows))

            if arguments.growth:
                memory = PeakMemory()
                before, started, wall = (
                    memory.peak_bytes(),
                    time.process_time(),
                    time.perf_counter(),
                )
                mine()
                spent, most = time.process_time() - started, memory.peak_bytes()
                took = f"{spent:.2f} CPU s ({time.perf_counter() - wall:.2f} s)"
                print(
                    f"{name}, {size:,} x {DIM}: {took}, {(most - before) / 1e6:,.0f} MB above the "
                    "descriptors"
                )
                continue
            drawn = Miner(tuples, options=mining).draw(0)
            order = np.argsort(drawn.queries)
            held = drawn.candidates.lists()
            lists = [held.of(int(place)) for place in order]
            ours = mine()[order]
            theirs = query_by_query(tuples, descriptors, lists, mining)
            assert np.mean(ours == theirs) > 0.999, (
                "the same negatives from the same candidates, but for rounding"
            )
            title = f"{name} mining of {num_queries} queries, {size:,} x {DIM} descriptors"
            ways = {
                "query by query": lambda mining=mining, tuples=tuples, descriptors=descriptors: (
                    query_by_query(tuples, descriptors, None, mining)
                ),
                "all at once": mine,
            }
            tables[title] = compare(
                title, ways, peer="query by query", items=num_queries, rounds=arguments.rounds
            )
    save(arguments.json, tables)


if __name__ == "__main__":
    main()
