"""A planet on paper: what 1e9 photos would take, by engine, from slopes that are measured here at
some hundred thousand rows.

    python benchmarks/planet.py [--photos 1e9] [--dim 256] [--rows 100000 200000]
                                [--model NAME --folder PHOTOS] [--cores 16] [--memory-gb 128]
                                [--core-hour 0.04] [--gb-month 0.10] [--json]

Rows are made up, as in `benchmarks/engines.py`. Each engine is filled and asked at two sizes, one
thread; bytes a row, seconds a row to fill and milliseconds a question for each million rows are the
slopes between them, all else is multiplication: machines are what holds the searched bytes in
memory, a question goes to all of them at once, prices are your own. A model's time is that of 64
photos of a folder. Graphs on servers grow with the logarithm of their rows; that is not what a line
through two points says, so servers are given by bytes alone, from what they document: rows in 4
bytes a number (Milvus, HNSW in memory), rows in 4 and a graph in 2 bytes a number (PostgreSQL with
half vectors), 2 x 16 links of 8 bytes a row each.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
from engines import Rows

from whence.data.scan import list_photos
from whence.index.flat import FlatIndex
from whence.localize.engine import code_bytes, engine_over
from whence.models.descriptor import load_model
from whence.runtime import set_threads

ENGINES = {"flat, half numbers": "flat", "int8": "int8", "auto (codes, rows on disk)": "auto"}
LINKS_BYTES = 2 * 16 * 8
NUM_ASKED, NUM_DESCRIBED = 20, 64


def asked(engine: str, rows: Rows) -> dict[str, float]:
    """Seconds to fill, and milliseconds a question with recall@10 of 20 questions one by one."""
    matrix = rows.matrix.astype(np.float16)
    started = time.process_time()
    index = engine_over(matrix, engine=engine, is_searchable=np.ones(len(matrix), bool))
    index.search(rows.queries[:1], k=10)
    filled = time.process_time() - started
    exact = FlatIndex.over(matrix)
    found, spent = [], []
    for query in rows.queries[:NUM_ASKED]:
        started = time.process_time()
        found.append(index.search(query[None], k=10).ids[0])
        spent.append(1000 * (time.process_time() - started))
    truth = exact.search(rows.queries[:NUM_ASKED], k=10).ids
    recall = float(
        np.mean([np.isin(one, other).mean() for one, other in zip(truth, found, strict=True)])
    )
    return {"fill_s": filled, "ms": float(np.median(spent)), "recall": recall}


def slope(values: list[float], sizes: list[int]) -> float:
    """What each further row adds, not below nothing."""
    return max((values[-1] - values[0]) / (sizes[-1] - sizes[0]), 0.0)


def main() -> None:
    """Measure the slopes, and multiply."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--photos", type=float, default=1e9)
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--rows", type=int, nargs=2, default=[100_000, 200_000])
    parser.add_argument("--model", default="whence-lite0-448")
    parser.add_argument("--folder", help="photos whose description is timed")
    parser.add_argument("--cores", type=int, default=16, help="of each machine")
    parser.add_argument(
        "--memory-gb", type=float, default=128.0, help="of each machine; three quarters hold rows"
    )
    parser.add_argument("--core-hour", type=float, default=0.04, help="price of a core's hour")
    parser.add_argument(
        "--gb-month", type=float, default=0.10, help="price of a GB of disk a month"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    arguments = parser.parse_args()
    set_threads(1)
    found = [describing(arguments)] if arguments.folder else []
    sizes = [Rows(num, arguments.dim) for num in arguments.rows]
    found += [
        on_paper(name, [asked(engine, rows) for rows in sizes], engine, arguments)
        for name, engine in ENGINES.items()
    ]
    found += [
        server(
            "Milvus, HNSW",
            4 * arguments.dim + LINKS_BYTES,
            4 * arguments.dim + LINKS_BYTES,
            arguments,
        )
    ]
    found += [
        server(
            "PostgreSQL, halfvec HNSW",
            2 * arguments.dim + LINKS_BYTES,
            6 * arguments.dim + LINKS_BYTES,
            arguments,
        )
    ]
    for one in found:
        if arguments.json:
            print(json.dumps(one))
        else:
            print(
                "; ".join(
                    f"{name}: {value:.4g}" if isinstance(value, float) else f"{name}: {value}"
                    for name, value in one.items()
                )
            )


def describing(arguments: argparse.Namespace) -> dict[str, Any]:
    """Core hours to describe all photos once."""
    files = [Path(file) for file in list_photos(arguments.folder)[:NUM_DESCRIBED]]
    model = load_model(arguments.model)
    model.prepare(files, seed=0)
    list(model.describe_each(files[:8]))
    started = time.process_time()
    num = sum(1 for _ in model.describe_each(files))
    each = (time.process_time() - started) / num
    hours = arguments.photos * each / 3600
    return {
        "describing by": arguments.model,
        "core ms a photo": 1000 * each,
        "core hours": hours,
        "price": hours * arguments.core_hour,
    }


def on_paper(
    name: str, measured: list[dict[str, float]], engine: str, arguments: argparse.Namespace
) -> dict[str, Any]:
    """An engine of the folder at the size asked for: its rows lie on disk in half numbers, its
    codes in memory."""
    codes = code_bytes(arguments.rows[-1], arguments.dim, engine=engine)
    bytes_in_memory = 2 * arguments.dim if engine == "flat" else codes
    machines = held_by(arguments.photos * bytes_in_memory, arguments)
    ms, fill = (
        slope([one[what] for one in measured], arguments.rows) * arguments.photos
        for what in ("ms", "fill_s")
    )
    return {
        "engine": name,
        "recall@10 here": measured[-1]["recall"],
        "TB on disk": arguments.photos * (2 * arguments.dim + codes) / 1e12,
        "TB in memory": arguments.photos * bytes_in_memory / 1e12,
        "machines": machines,
        "hours to fill, all cores": fill / 3600 / machines / arguments.cores,
        "core s a question": ms / 1000,
        "s a question, all cores": ms / 1000 / machines / arguments.cores,
        "price a month": price(machines, arguments.photos * (2 * arguments.dim + codes), arguments),
    }


def server(
    name: str, bytes_in_memory: float, stored: float, arguments: argparse.Namespace
) -> dict[str, Any]:
    """A server's bytes and machines."""
    machines = held_by(arguments.photos * bytes_in_memory, arguments)
    return {
        "engine": name,
        "TB on disk": arguments.photos * stored / 1e12,
        "TB in memory": arguments.photos * bytes_in_memory / 1e12,
        "machines": machines,
        "price a month": price(machines, arguments.photos * stored, arguments),
    }


def held_by(num_bytes: float, arguments: argparse.Namespace) -> int:
    """Machines whose memory holds so much."""
    return max(1, math.ceil(num_bytes / (0.75 * arguments.memory_gb * 1e9)))


def price(machines: int, num_bytes: float, arguments: argparse.Namespace) -> float:
    """Of machines and disk for a month of 730 hours."""
    return (
        machines * arguments.cores * arguments.core_hour * 730
        + num_bytes / 1e9 * arguments.gb_month
    )


if __name__ == "__main__":
    main()
