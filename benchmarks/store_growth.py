"""How the cost of a database grows: one commit of 256 photos, opening and compacting, at three
sizes.

    python benchmarks/store_growth.py [--json FILE]

A commit should cost the same however large the database is; opening should hardly grow; compacting
is linear. Beside it the plain way of keeping a matrix: read it, append, write it all again.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import side_by_side

from whence.data.photos import COLUMNS, Photos
from whence.index.store import Store

DIM = 512
BATCH = 256
SIZES = (10_000, 40_000, 160_000)
QUICK_SIZES = (1_000, 4_000, 16_000)


def photos_of(first: int, num: int) -> Photos:
    columns = {name: np.zeros(num, kind) for name, kind in COLUMNS.items()}
    columns["content"] = np.array([f"{i:032x}" for i in range(first, first + num)], "S32")
    return Photos([f"photos/{i:08d}.jpg" for i in range(first, first + num)], columns)


def add(store: Store, first: int, rows: np.ndarray) -> None:
    photos = photos_of(first, len(rows))
    store.add(photos, contents=photos.content, descriptors=rows)


def timed(call: Callable[[], object]) -> tuple[float, float]:
    start, cpu_start = time.perf_counter(), time.process_time()
    call()
    return time.process_time() - cpu_start, time.perf_counter() - start


def median(times: list[tuple[float, float]]) -> tuple[float, float]:
    return statistics.median(cpu for cpu, _ in times), statistics.median(wall for _, wall in times)


def measure(folder: Path, size: int, *, rounds: int) -> dict[str, tuple[float, float]]:
    rows = np.random.default_rng(0).standard_normal((BATCH, DIM), dtype=np.float32)
    path = folder / f"{size}.whence"
    filling = []
    with Store.create(path, card_id="made-up.v1", dim=DIM) as store:
        for first in range(0, size, BATCH):
            filling.append(timed(lambda first=first: add(store, first, rows)))
        commits = [
            timed(lambda i=i: add(store, size + BATCH * (i + 1), rows)) for i in range(rounds)
        ]
        whole = np.asarray(store.descriptors)
    plain = folder / "plain.npy"
    np.save(plain, whole)
    appended = [
        timed(lambda: np.save(plain, np.concatenate([np.load(plain), rows])[: len(whole)]))
        for _ in range(rounds)
    ]
    figures = {
        "all commits, per commit": (
            sum(cpu for cpu, _ in filling) / len(filling),
            sum(wall for _, wall in filling) / len(filling),
        ),
        "one more commit": median(commits),
        "plain .npy: read, append, write": median(appended),
        "open, before compacting": median(
            [timed(lambda: Store.open(path).close()) for _ in range(rounds)]
        ),
    }
    with Store.open(path, writable=True) as store:
        figures["compact"] = timed(store.compact)
    figures["open"] = median([timed(lambda: Store.open(path).close()) for _ in range(rounds)])

    def open_and_read() -> None:
        with Store.open(path) as store:
            assert store.num_photos == len(store.descriptor_rows) > size

    figures["open and read all photo rows"] = median([timed(open_and_read) for _ in range(rounds)])
    with Store.open(path, writable=True) as store:
        add(store, 10**7, rows)  # pays once for the dictionary of paths
        figures["one more commit after compacting"] = median(
            [timed(lambda i=i: add(store, 10**7 + BATCH * (i + 1), rows)) for i in range(rounds)]
        )
    return figures


def main() -> None:
    arguments = side_by_side.options("How the cost of a database grows").parse_args()
    sizes = QUICK_SIZES if arguments.quick else SIZES
    with tempfile.TemporaryDirectory() as temporary:
        found = [measure(Path(temporary), size, rounds=arguments.rounds) for size in sizes]
    results = {}
    for step in found[0]:
        base = found[0][step][0]
        results[step] = [
            side_by_side.Timing(
                f"{size} photos", 1e3 * times[step][0], 1e3 * times[step][1], base / times[step][0]
            )
            for size, times in zip(sizes, found, strict=True)
        ]
        side_by_side.show(step, results[step], peer=f"{sizes[0]} photos")
    side_by_side.save(arguments.json, results)


if __name__ == "__main__":
    main()
