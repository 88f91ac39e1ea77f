"""Search engines side by side: those of the folder, and tables on servers: filling, milliseconds a
question, filters, recall.

    python benchmarks/engines.py [--rows 10000 50000] [--dim 256] [--engines flat int8 auto]
                                 [--server milvus://127.0.0.1:19530/bench]
                                 [--server "postgresql://me@/db?table=bench"] [--json]
    # rows as half numbers in a mapped file
    python benchmarks/engines.py --rows 10000000 --engines auto --on-disk FOLDER
    # may be stopped, and goes on where it was
    python benchmarks/engines.py --rows 1000000 --engines --server ADDRESS --out FILE

Rows are made up: unit vectors around places in a city of 20 km, a tenth as many places as rows; a
question is a row seen again with noise. Asked are 50 questions one by one, 50 at once, 50 within 1
km of their place, and 50 within a circle that holds about a hundredth of the rows. Recall@10 is
against exact search. Medians, one thread; memory is what this process grew by, and its peak, pages
of mapped files included. Tables of servers are taken away once they were asked: a run that is
stopped while one fills goes on with what is missing, and what the file of `--out` holds is not
measured again.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from whence.geo import from_local_metres
from whence.index.addresses import Box
from whence.index.flat import FlatIndex
from whence.index.remote import RemoteIndex
from whence.localize.engine import engine_over
from whence.localize.retrieve import Around
from whence.registry import get_entry
from whence.runtime import random_stream, set_threads
from whence.types import GeoPoint

ORIGIN = GeoPoint(59.33, 18.07)
SIDE_M, NUM_ASKED, K = 20_000.0, 50, 10
BLOCK = 65_536
OWNER = "benchmark"
_STREAM = 6


class Rows:
    """Made-up rows with places and contents, and questions near some of them."""

    def __init__(self, num: int, dim: int, folder: str | None = None) -> None:
        random = random_stream(_STREAM, num)
        centres = random.standard_normal((max(1, num // 10), dim), dtype=np.float32)
        place = random.uniform(-SIDE_M / 2, SIDE_M / 2, (len(centres), 2))
        of = random.integers(len(centres), size=num)
        self.matrix: np.ndarray = np.empty((0 if folder else num, dim), np.float32)
        if folder is not None:
            file = Path(folder) / f"rows-{num}x{dim}.npy"
            self.matrix = np.lib.format.open_memmap(file, "w+", np.float16, (num, dim))
        for first in range(0, num, BLOCK):
            part = of[first : first + BLOCK]
            rows = centres[part] + 0.6 * random.standard_normal((len(part), dim), dtype=np.float32)
            self.matrix[first : first + BLOCK] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        metres = place[of] + random.normal(0, 10, (num, 2))
        self.lat, self.lon = from_local_metres(*metres.T, origin=ORIGIN)
        self.contents = np.array([f"{number:032x}" for number in range(num)], "S32")
        self.query_rows = random.choice(num, NUM_ASKED, replace=False)
        noise = 0.3 * random.standard_normal((NUM_ASKED, dim), dtype=np.float32) / np.sqrt(dim)
        self.queries = self.matrix[self.query_rows].astype(np.float32) + noise

    def around(self, number: int, radius_m: float) -> tuple[Around, np.ndarray]:
        """The circle about a question's place, and the rows inside."""
        row = self.query_rows[number]
        circle = Around(GeoPoint(float(self.lat[row]), float(self.lon[row])), radius_m)
        return circle, np.flatnonzero(circle.holds(self.lat, self.lon))


def milliseconds(ask: Callable[[int], Any]) -> tuple[float, list[Any]]:
    """The median of the questions one by one, and what they gave."""
    spent, found = [], []
    for number in range(NUM_ASKED):
        started = time.perf_counter()
        found.append(ask(number))
        spent.append(1000 * (time.perf_counter() - started))
    return statistics.median(spent), found


def measured(name: str, rows: Rows) -> dict[str, Any]:
    """What an engine takes over these rows."""
    before, started = peak_mb(), time.perf_counter()
    is_server = "://" in name
    if is_server:
        made: type[RemoteIndex] = get_entry("index", name).load()
        index: Any = made.over_contents(
            rows.matrix, rows.contents, (rows.lat, rows.lon), address=name, owner=OWNER
        )
    else:
        index = engine_over(rows.matrix, engine=name, is_searchable=np.ones(len(rows.matrix), bool))
        # Codes are made with the first question.
        index.search(rows.queries[:1], k=K)
    filled = time.perf_counter() - started
    exact = FlatIndex.over(rows.matrix)
    try:
        one, plain = milliseconds(lambda number: index.search(rows.queries[[number]], k=K).ids[0])
        started = time.perf_counter()
        index.search(rows.queries, k=K)
        batch = 1000 * (time.perf_counter() - started) / NUM_ASKED

        def within(number: int, radius_m: float) -> np.ndarray:
            circle, inside = rows.around(number, radius_m)
            more = {"box": Box(*circle.box())} if is_server else {}
            return index.search(rows.queries[[number]], k=K, allowed=inside, **more).ids[0]  # type: ignore[no-any-return]

        near, _ = milliseconds(lambda number: within(number, 1000.0))
        wide, ids_within = milliseconds(lambda number: within(number, SIDE_M / 10 / np.sqrt(np.pi)))
        truth = exact.search(rows.queries, k=K).ids
        inside = [
            rows.around(number, SIDE_M / 10 / np.sqrt(np.pi))[1] for number in range(NUM_ASKED)
        ]
        expected = [
            exact.search(rows.queries[[number]], k=K, allowed=inside[number]).ids[0]
            for number in range(NUM_ASKED)
        ]
    finally:
        if is_server:
            index.table.erase()
            index.close()
    return {
        "engine": name.partition("?")[0],
        "rows": len(rows.matrix),
        "fill_s": filled,
        "one_ms": one,
        "batch_ms": batch,
        "within_1_km_ms": near,
        "within_a_hundredth_ms": wide,
        "recall": float(np.mean([np.isin(a, b).mean() for a, b in zip(truth, plain, strict=True)])),
        "filtered_recall": float(
            np.mean(
                [np.isin(a, b).mean() for a, b in zip(expected, ids_within, strict=True) if len(a)]
            )
        ),
        "strangers": int(
            sum((~np.isin(a, b)).sum() for a, b in zip(ids_within, inside, strict=True))
        ),
        "grew_mb": peak_mb() - before,
        "peak_mb": peak_mb(),
    }


def peak_mb() -> float:
    """Most memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measured_before(file: Path | None) -> list[dict[str, Any]]:
    """The lines of a file that an earlier run wrote."""
    if file is None or not file.is_file():
        return []
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def main() -> None:
    """Measure each engine at each size."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 50_000])
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--engines", nargs="*", default=["flat", "int8", "auto"])
    parser.add_argument(
        "--server",
        action="append",
        default=[],
        help="address of a table that may be made and taken away",
    )
    parser.add_argument(
        "--on-disk", help="folder for a file of the rows, which are then not held in memory"
    )
    parser.add_argument(
        "--out", type=Path, help="file of JSON lines, to which what is measured is added"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    arguments = parser.parse_args()
    set_threads(1)
    if not arguments.json:
        titles = (
            "engine",
            "rows",
            "fill, s",
            "one, ms",
            "of a batch, ms",
            "within 1 km",
            "a hundredth",
            "recall@10",
            "filtered",
        )
        titles += ("strangers", "grew, MB", "peak, MB")
        print("| " + " | ".join(titles) + " |\n" + "|---" * len(titles) + "|")
    for count in arguments.rows:
        done = {(line["engine"], line["rows"]): line for line in measured_before(arguments.out)}
        rows: Rows | None = None
        for name in (*arguments.engines, *arguments.server):
            found = done.get((name.partition("?")[0], count))
            if found is None:
                rows = rows or Rows(count, arguments.dim, arguments.on_disk)
                found = measured(name, rows)
                if arguments.out:
                    with open(arguments.out, "a", encoding="utf-8") as file:
                        file.write(json.dumps(found) + "\n")
            if arguments.json:
                print(json.dumps(found), flush=True)
                continue
            values = [
                f"{value:.3g}" if isinstance(value, float) else str(value)
                for value in found.values()
            ]
            print("| " + " | ".join(values) + " |", flush=True)


if __name__ == "__main__":
    main()
