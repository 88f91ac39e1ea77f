"""Questions asked from several Python threads against one: how many times faster the same queries
are answered.

    python benchmarks/threads.py [--threads 8] [--rounds 5] [--quick] [--folder FOLDER]

A small rendered city, verified answers. Both ways answer the same queries in one process, in
interleaved rounds of shuffled order; medians of the wall clock and their ratio are printed, once
with one thread for the numerical libraries and once with all cores, which is what `--threads` and
the setting `threads` choose.
"""

from __future__ import annotations

import json
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import side_by_side

from whence.localize.localizer import Localizer
from whence.runtime import num_cores, set_threads
from whence.settings import BuildOptions
from whence.worlds.capture import CaptureOptions
from whence.worlds.city import WorldOptions, render_world
from whence.worlds.presets import CitySize


def main() -> None:
    """Render, index, ask, print."""
    parser = side_by_side.options(__doc__ or "")
    parser.add_argument(
        "--threads", type=int, default=8, help="Python threads that ask at the same time"
    )
    parser.add_argument(
        "--folder", help="where the city and its database are kept; a second run renders nothing"
    )
    arguments = parser.parse_args()
    num_database, num_queries = (40, 8) if arguments.quick else (100, 16)
    with tempfile.TemporaryDirectory() as made:
        root = Path(arguments.folder or made)
        size = CitySize("city00", "", num_database, num_queries, 0)
        render_world(
            root / "city",
            options=WorldOptions(capture=CaptureOptions(width=640, height=480), cities=(size,)),
        )
        queries = sorted((root / "city" / "queries").rglob("*.jpg"))
        options = BuildOptions(keep_local=True)
        with Localizer.build(
            root / "city" / "database", path=root / "city.whence", options=options
        ) as localizer:
            print(
                f"{num_database} database photos, {len(queries)} queries of 640x480, "
                f"{num_cores()} cores; seconds by the wall"
            )
            rows = [
                measure(
                    localizer,
                    queries,
                    library_threads=number,
                    threads=arguments.threads,
                    rounds=arguments.rounds,
                )
                for number in ([1] if arguments.quick else sorted({1, num_cores()}))
            ]
    if arguments.json:
        Path(arguments.json).write_text(json.dumps({"title": "threads", "rows": rows}, indent=1))


def measure(
    localizer: Localizer, queries: list[Path], *, library_threads: int, threads: int, rounds: int
) -> dict[str, float]:
    """Median seconds of both ways with so many threads for the numerical libraries, printed with
    their ratio."""
    set_threads(library_threads)
    ways: dict[int, Callable[[], object]] = {
        1: lambda: list(map(localizer.locate, queries)),
        threads: partial(ask_at_once, localizer, queries, threads),
    }
    answers = {number: way() for number, way in ways.items()}
    if [one.to_dict() | {"seconds": None} for one in answers[1]] != [
        one.to_dict() | {"seconds": None} for one in answers[threads]
    ]:  # type: ignore[attr-defined]
        raise SystemExit("several threads answer otherwise than one")
    spent: dict[int, list[float]] = {number: [] for number in ways}
    order = random.Random(0)
    for _ in range(rounds):
        for number in order.sample(list(ways), len(ways)):
            started = time.perf_counter()
            ways[number]()
            spent[number].append(time.perf_counter() - started)
    alone, together = (statistics.median(spent[number]) for number in (1, threads))
    print(
        f"  libraries with {library_threads} thread(s): one thread asks {alone:.2f} s, {threads} "
        f"ask {together:.2f} s, {alone / together:.2f} times as fast"
    )
    return {
        "library_threads": library_threads,
        "one_s": alone,
        "several_s": together,
        "ratio": alone / together,
    }


def ask_at_once(localizer: Localizer, queries: list[Path], threads: int) -> list[object]:
    """The answers to all queries, in order, asked from so many threads."""
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(localizer.locate, queries))


if __name__ == "__main__":
    main()
