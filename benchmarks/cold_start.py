"""From a database on disk to the first answer: opening a store with codes beside np.load +
IndexFlatL2, one thread.

    python benchmarks/cold_start.py [--rows 500000] [--json FILE]

"cold": the files were dropped from the page cache (posix_fadvise, as far as an ordinary process
may); the time of the wall counts. "warm": they are in the cache. Both ways read the same matrix.
Imports are done before.
"""

from __future__ import annotations

import gc
import os

os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import faiss
import numpy as np
import place_descriptors
import side_by_side

from whence.data.photos import COLUMNS, Photos
from whence.index.ann import AnnIndex
from whence.index.flat import FlatIndex
from whence.index.store import Store
from whence.runtime import set_threads

K = 10
PEER = "np.load + IndexFlatL2"


def make_store(path: Path, rows: np.ndarray) -> None:
    """A compacted database of these rows with the codes as a blob."""
    num = len(rows)
    columns = {name: np.zeros(num, kind) for name, kind in COLUMNS.items()}
    columns["content"] = np.array([f"{i:032x}" for i in range(num)], "S32")
    photos = Photos([f"photos/{i:07d}.jpg" for i in range(num)], columns)
    with Store.create(path, card_id="made-up.v1", dim=rows.shape[1]) as store:
        store.add(photos, contents=photos.content, descriptors=rows)
        store.compact()
        store.write_blob(
            "index", {"codes": AnnIndex.over(store.descriptors, exact_below=1).to_bytes()}
        )


def recall_of(folder: Path, queries: np.ndarray, truth: np.ndarray) -> float:
    with Store.open(folder) as store:
        blob = store.read_blob("index")
        assert blob is not None
        found = AnnIndex.from_kept(blob, store.descriptors).search(queries, k=K).ids
    return float(
        np.mean([len(np.intersect1d(a, b)) / K for a, b in zip(found, truth, strict=True)])
    )


def forget(folder: Path) -> None:
    """Drop the folder's files from the page cache; nothing may have them mapped."""
    gc.collect()
    for path in folder.iterdir():
        handle = os.open(path, os.O_RDONLY)
        os.fsync(handle)
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(handle)


def measure(
    ways: dict[str, Callable[[], object]], folder: Path, *, rounds: int, is_cold: bool
) -> list[side_by_side.Timing]:
    cpu: dict[str, list[float]] = {name: [] for name in ways}
    wall: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            if is_cold:
                forget(folder)
            else:
                way()
            start, cpu_start = time.perf_counter(), time.process_time()
            way()
            wall[name].append(time.perf_counter() - start)
            cpu[name].append(time.process_time() - cpu_start)
    table = []
    for name in ways:
        mine, peer = statistics.median(wall[name]), statistics.median(wall[PEER])
        note = f"{peer / mine:.1f} times faster by the wall"
        spent = statistics.median(cpu[name])
        table.append(
            side_by_side.Timing(
                name, 1e3 * spent, 1e3 * mine, statistics.median(cpu[PEER]) / spent, note
            )
        )
    return table


def main() -> None:
    parser = side_by_side.options("Cold start: time to the first answer")
    parser.add_argument("--rows", type=int, default=500_000)
    arguments = parser.parse_args()
    set_threads(1)
    num = 20_000 if arguments.quick else arguments.rows
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "city.whence"
        data = place_descriptors.make(num, num_queries=20)
        make_store(folder, data.database)
        matrix = next(folder.glob("*.npy"))
        truth = FlatIndex.over(data.database).search(data.queries, k=K).ids
        query = data.queries[:1]

        def peer() -> np.ndarray:
            rows = np.load(matrix)
            index = faiss.IndexFlatL2(rows.shape[1])
            index.add(rows)
            return index.search(query, K)[1]

        def ours() -> np.ndarray:
            with Store.open(folder) as store:
                blob = store.read_blob("index")
                assert blob is not None
                return AnnIndex.from_kept(blob, store.descriptors).search(query, k=K).ids

        def ours_with_photos() -> str:
            with Store.open(folder) as store:
                blob = store.read_blob("index")
                assert blob is not None
                best = AnnIndex.from_kept(blob, store.descriptors).search(query, k=K).ids[0, 0]
                return store.photos.paths[np.flatnonzero(store.descriptor_rows == best)[0]]

        def ours_exact() -> np.ndarray:
            with Store.open(folder) as store:
                return FlatIndex.over(store.descriptors).search(query, k=K).ids

        recall = recall_of(folder, data.queries, truth)
        print(
            f"{num} x {data.database.shape[1]} float32; recall@10 of codes + memory map against "
            f"exact: {recall:.3f}"
        )
        del data
        ways = {
            PEER: peer,
            "store, codes, mapped rows": ours,
            "the same and the photos": ours_with_photos,
            "store, exact": ours_exact,
        }
        results = {}
        for state in ("cold", "warm"):
            title = f"first answer from {num} x {query.shape[1]}, {state} file cache (items: runs)"
            results[title] = measure(ways, folder, rounds=arguments.rounds, is_cold=state == "cold")
            side_by_side.show(title, results[title], peer=PEER)
        side_by_side.save(arguments.json, results)


if __name__ == "__main__":
    main()
