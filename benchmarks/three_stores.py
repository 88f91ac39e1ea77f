"""The same questions to a folder, Milvus and PostgreSQL: whether candidates and answers are the
same.

    python benchmarks/three_stores.py DATABASE QUERIES --server milvus://127.0.0.1:19530/stores
                                      --server "postgresql://me@/db?table=stores" [--num 200]
                                      [--json]

The database is copied, its rows go to each server, and each copy is asked about the same photos
with the default's options, but no second look at what stays unknown (`--second-look` for that too:
seconds a photo); then again with `exact=1` in the address. Printed: the share of candidates of the
folder's exact search that each has, answers that differ where candidates are the same, and where
they are not, and seconds a photo. Tables of servers are taken away after.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np

from whence.data.scan import list_photos
from whence.index.remote import RemoteIndex
from whence.localize.localizer import Localizer, LocateOptions
from whence.localize.maintain import change_engine
from whence.runtime import set_threads
from whence.types import Position

K = 20


def asked(path: Path, files: list[Path], options: LocateOptions) -> tuple[list[Position], float]:
    """Answers, and wall seconds a photo."""
    with Localizer.open(path) as localizer:
        list(localizer.locate_many(files[:4], k=K, options=options, show_progress=False))
        started = time.perf_counter()
        found = list(localizer.locate_many(files, k=K, options=options, show_progress=False))
        spent = (time.perf_counter() - started) / len(files)
        index = localizer.retriever.index
        if isinstance(index, RemoteIndex):
            index.table.erase()
            index.close()
    return found, spent


def shown(one: Position) -> tuple[Any, ...]:
    """What an answer says to a person."""
    return one.status, one.point, one.radius_m, one.heading_deg, one.confidence


def compared(there: list[Position], here: list[Position]) -> dict[str, Any]:
    """How a store's answers stand to the folder's."""
    names = [
        ([c.photo for c in a.candidates], [c.photo for c in b.candidates])
        for a, b in zip(there, here, strict=True)
    ]
    is_same = np.array([set(a) == set(b) for a, b in names])
    is_answer_same = np.array([shown(a) == shown(b) for a, b in zip(there, here, strict=True)])
    return {
        "candidates_shared": float(
            np.mean([len(set(a) & set(b)) / max(len(b), 1) for a, b in names])
        ),
        "queries_with_the_same": int(is_same.sum()),
        "answers_differ_there": int((is_same & ~is_answer_same).sum()),
        "answers_differ_elsewhere": int((~is_same & ~is_answer_same).sum()),
        "queries": len(is_same),
    }


def main() -> None:
    """Ask all, and compare."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("database", type=Path)
    parser.add_argument("queries", type=Path)
    parser.add_argument(
        "--server",
        action="append",
        default=[],
        help="address of a table that may be made and taken away",
    )
    parser.add_argument("--num", type=int, default=200)
    parser.add_argument(
        "--second-look",
        action="store_true",
        help="ask learned matching about photos that stay unknown",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    arguments = parser.parse_args()
    set_threads(1)
    options = LocateOptions() if arguments.second_look else LocateOptions(when_unknown="none")
    files = [Path(file) for file in list_photos(arguments.queries)][: arguments.num]
    # Beside the database: photos are named from the folder that holds it.
    copy = arguments.database.with_name(f"{arguments.database.stem}-copy.whence")
    try:
        here, spent = asked(arguments.database, files, options)
        print(
            f"the folder: {1000 * spent:.0f} ms a photo, "
            f"{sum(one.status == 'located' for one in here)} of {len(here)} located"
        )
        for server in arguments.server:
            for address in (server, f"{server}{'&' if '?' in server else '?'}exact=1"):
                shutil.copytree(arguments.database, copy)
                change_engine(copy, address)
                there, spent = asked(copy, files, options)
                shutil.rmtree(copy)
                found = {
                    "engine": address.partition("?")[0],
                    "exact": address.endswith("exact=1"),
                    "ms": 1000 * spent,
                }
                found |= compared(there, here)
                text = (
                    json.dumps(found)
                    if arguments.json
                    else "; ".join(f"{name}: {value}" for name, value in found.items())
                )
                print(text, flush=True)
    finally:
        shutil.rmtree(copy, ignore_errors=True)


if __name__ == "__main__":
    main()
