"""How a database grows with the photos in it: storing, making the search engine, the first and the
next answer, bytes.

    python benchmarks/growth.py [--sizes 1000,10000,100000] [--models A,B] [--json FILE] [--quick]

Descriptors of the models' lengths, drawn around as many places as a tenth of the photos, so that a
search has something to find; describing photos comes on top, at a cost a photo that does not grow
(`describe.py`). One thread, CPU time; the engine is `auto`. The first query includes opening the
database; `found` is the share of the exact search's first 20 that the engine has too.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faiss  # noqa: F401  (imported so that its threads are bounded too)
import numpy as np
from store_growth import photos_of

from whence.index.flat import FlatIndex
from whence.index.store import Store
from whence.localize.engine import open_engine, write_engine
from whence.registry import get_card
from whence.runtime import atomic_write, set_threads
from whence.settings import DEFAULT_MODEL

COMMIT = 256
NUM_QUERIES = 30
K = 20


def drawn(num: int, dim: int, *, seed: int) -> np.ndarray:
    """(num, dim) float32 unit vectors around a tenth as many places."""
    random = np.random.default_rng(seed)
    places = np.random.default_rng(0).standard_normal((max(num // 10, 10), dim), dtype=np.float32)
    rows = places[random.integers(0, len(places), num)] + 0.8 * random.standard_normal(
        (num, dim), dtype=np.float32
    )
    unit: np.ndarray = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit


def timed(call: Callable[[], Any]) -> tuple[Any, float]:
    """What a call gives, and its CPU milliseconds."""
    started = time.process_time()
    given = call()
    return given, 1e3 * (time.process_time() - started)


def measure(folder: Path, size: int, *, dim: int) -> dict[str, float]:
    """The figures of one size and length."""
    rows, path = drawn(size, dim, seed=1), folder / f"{dim}-{size}.whence"
    queries = rows[:: max(size // NUM_QUERIES, 1)][:NUM_QUERIES]
    queries = queries + 0.02 * np.random.default_rng(3).standard_normal(
        queries.shape, dtype=np.float32
    )
    with Store.create(
        path, card_id="made-up.v1", dim=dim, options={"build": {"engine": "auto"}}
    ) as store:

        def fill() -> None:
            for first in range(0, size, COMMIT):
                some = rows[first : first + COMMIT]
                photos = photos_of(first, len(some))
                store.add(photos, contents=photos.content, descriptors=some)
            store.compact()

        stored = timed(fill)[1]
        engine_made = timed(lambda: write_engine(store, engine="auto"))[1]
        num_bytes = store.size_bytes

    def first_answer() -> None:
        with Store.open(path) as opened:
            open_engine(opened).search(queries[:1], k=K)

    first = statistics.median(timed(first_answer)[1] for _ in range(3))
    with Store.open(path) as store:
        index, exact = open_engine(store), FlatIndex.over(store.descriptors)
        index.search(queries[:1], k=K)
        pairs = [
            (timed(lambda q=q: index.search(q[None], k=K)), exact.search(q[None], k=K))
            for q in queries
        ]
    spent = statistics.median(ms for (_, ms), _ in pairs)
    found = np.mean([len(np.intersect1d(one.ids, other.ids)) / K for (one, _), other in pairs])
    return {
        "stored_ms_a_photo": stored / size,
        "engine_ms_a_photo": engine_made / size,
        "first_answer_ms": first,
        "query_ms": spent,
        "found_share": float(found),
        "bytes_a_photo": num_bytes / size,
    }


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", default="1000,10000,100000")
    parser.add_argument("--models", default=f"{DEFAULT_MODEL},whence-lite0-448")
    parser.add_argument("--json", metavar="FILE", help="also write all figures as JSON")
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that it runs")
    arguments = parser.parse_args()
    set_threads(1)
    sizes = (100, 300) if arguments.quick else tuple(map(int, arguments.sizes.split(",")))
    record: dict[str, dict[str, float]] = {}
    print(
        f"{'model':<28}{'photos':>8}{'store':>12}{'engine':>12}{'first':>10}{'query':>10}"
        f"{'found':>8}{'a photo':>12}"
    )
    for name in arguments.models.split(","):
        for size in sizes:
            with tempfile.TemporaryDirectory() as made:
                one = record[f"{name}, {size}"] = measure(Path(made), size, dim=get_card(name).dim)
            print(
                f"{name:<28}{size:>8}{one['stored_ms_a_photo']:>9.3f} "
                f"ms{one['engine_ms_a_photo']:>9.3f} ms"
                f"{one['first_answer_ms']:>7.1f} ms{one['query_ms']:>7.2f} "
                f"ms{100 * one['found_share']:>6.1f} %"
                f"{one['bytes_a_photo']:>10.0f} B",
                flush=True,
            )
    if arguments.json:
        with atomic_write(Path(arguments.json), "w") as file:
            json.dump(record, file, indent=1)


if __name__ == "__main__":
    main()
