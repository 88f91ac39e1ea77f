"""Nearest descriptors: our indexes beside faiss IndexFlatL2 as people use it, single queries and
batches, one thread.

    python benchmarks/search.py [--sizes 10000 100000 1000000] [--batches 1 32 128 1000]
                                [--json FILE]

The peer is `IndexFlatL2` with faiss's defaults. Recall is against exact search, on noisy queries
(see place_descriptors.py).
"""

from __future__ import annotations

import os

# numpy's matrix products read their thread count once, when they are loaded.
os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"

import time
from collections.abc import Callable

import faiss
import numpy as np
import place_descriptors
import side_by_side

from whence.index.ann import AnnIndex
from whence.index.flat import FlatIndex
from whence.index.int8 import Int8Index
from whence.runtime import set_threads

K = 10
PEER = "faiss IndexFlatL2"
NUM_JUDGED = 500


def recall(ids: np.ndarray, truth: np.ndarray) -> float:
    return float(np.mean([len(np.intersect1d(a, b)) / K for a, b in zip(ids, truth, strict=True)]))


def cpu_s(call: Callable[[], object]) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


def tables_for(
    size: int, *, batches: list[int], rounds: int
) -> dict[str, list[side_by_side.Timing]]:
    data = place_descriptors.make(size, num_queries=1000)
    peer = faiss.IndexFlatL2(data.database.shape[1])
    peer.add(data.database)
    flat = FlatIndex.over(data.database)
    queries = data.queries[:NUM_JUDGED]
    truth = flat.search(queries, k=K)
    places = float(
        np.mean(
            truth.ids[:, 0] // place_descriptors.VIEWS_PER_PLACE == data.query_place[:NUM_JUDGED]
        )
    )
    print(
        f"\n{size} x {data.database.shape[1]} float32: exact search finds the place first for "
        f"{places:.3f} of the queries"
    )
    indexes: dict[str, FlatIndex | AnnIndex | Int8Index] = {"FlatIndex (exact)": flat}
    int8 = Int8Index.over(data.database[:0])
    print(
        "  codes of Int8Index made in "
        f"{cpu_s(lambda: int8.add(np.arange(size), data.database)):.1f} s CPU"
    )
    indexes["Int8Index (exact)"] = int8
    ann = AnnIndex.over(data.database, exact_below=1)
    print(f"  codes of AnnIndex made in {cpu_s(ann.build):.1f} s CPU")
    indexes["AnnIndex (near-exact)"] = ann
    notes = {}
    for name, index in indexes.items():
        batch = np.concatenate([index.search(query[None], k=K).ids for query in queries[:100]])
        notes[name] = (
            f"recall@10 {recall(index.search(queries, k=K).ids, truth.ids):.4f}, one by one "
            f"{recall(batch, truth.ids[:100]):.4f}"
        )
    tables = {}
    for num in batches:
        repeats = 10 if num == 1 else 1
        asked = [data.queries[i * num : (i + 1) * num] for i in range(repeats)]
        ways: dict[str, Callable[[], object]] = {
            PEER: lambda asked=asked: [peer.search(batch, K) for batch in asked]
        }
        for name, index in indexes.items():
            if num > 1 and name.startswith("Int8"):
                continue
            ways[name] = lambda asked=asked, index=index: [
                index.search(batch, k=K) for batch in asked
            ]
        title = (
            f"{size} x {data.database.shape[1]}, "
            f"{'one query at a time' if num == 1 else f'batches of {num} queries'}, k = {K}"
        )
        tables[title] = side_by_side.compare(
            title, ways, peer=PEER, items=num * repeats, rounds=rounds, notes=notes
        )
    return tables


def main() -> None:
    parser = side_by_side.options("Search: our indexes beside faiss IndexFlatL2")
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument(
        "--batches", type=int, nargs="+", default=[1, 32, 128, 1000], help="queries per call"
    )
    arguments = parser.parse_args()
    set_threads(1)
    results = {}
    for size in [2_000, 20_000] if arguments.quick else arguments.sizes:
        results.update(tables_for(size, batches=arguments.batches, rounds=arguments.rounds))
    side_by_side.save(arguments.json, results)


if __name__ == "__main__":
    main()
