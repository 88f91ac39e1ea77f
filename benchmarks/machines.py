"""Describing by two workers of which one is killed twice, beside the same two workers left alone,
and beside one process.

    python benchmarks/machines.py PHOTOS [--model NAME] [--kills 2] [--work FOLDER] [--json]

Each makes a database of the same photos, one after the other. Printed: seconds, what the kills cost
over the run without them, and whether all three databases hold the same numbers.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

from whence.index.store import Store
from whence.localize.build import build_database
from whence.localize.machines import Machines
from whence.runtime import random_stream, set_threads
from whence.settings import BuildOptions

_KILLS = 92


def fingerprint(path: Path) -> tuple[list[bytes], np.ndarray]:
    """Contents in order, and their descriptors."""
    with Store.open(path) as store:
        order = np.argsort(store.contents)
        return store.contents[order].tolist(), np.array(store.descriptors[order])


def build(photos: Path, path: Path, model: str, machines: Machines | None) -> float:
    """Seconds that a database takes."""
    started = time.perf_counter()
    build_database(
        [photos],
        path=path,
        options=BuildOptions(model=model),
        show_progress=False,
        machines=machines,
    )
    return time.perf_counter() - started


def killing(machines: Machines, num: int, span_s: float, is_over: threading.Event) -> list[float]:
    """Kill a worker so many times, at moments spread over a span; gives when."""
    random, done, started = random_stream(0, _KILLS), list[float](), time.perf_counter()
    for moment in np.sort(random.uniform(0.1, 0.8, num)) * span_s:
        if is_over.wait(max(0.0, moment - (time.perf_counter() - started))):
            break
        pids = list(machines.client.run(os.getpid, on_error="ignore").values())
        if pids:
            os.kill(pids[0], signal.SIGKILL)
            done.append(time.perf_counter() - started)
    return done


def main() -> None:
    """Build three times and compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", type=Path)
    parser.add_argument("--model", default="whence-lite0-448")
    parser.add_argument("--kills", type=int, default=2)
    parser.add_argument("--work", type=Path, help="folder for the databases")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    arguments = parser.parse_args()
    set_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        work = arguments.work or Path(scratch)
        work.mkdir(parents=True, exist_ok=True)
        figures: dict[str, object] = {
            "one_process_s": build(arguments.photos, work / "one.whence", arguments.model, None)
        }
        with Machines("local:2") as machines:
            alone = build(arguments.photos, work / "two.whence", arguments.model, machines)
            is_over, kills = threading.Event(), list[float]()
            killer = threading.Thread(
                target=lambda: kills.extend(killing(machines, arguments.kills, alone, is_over))
            )
            killer.start()
            killed = build(arguments.photos, work / "killed.whence", arguments.model, machines)
            is_over.set()
            killer.join()
        (contents, rows), *others = (
            fingerprint(work / f"{name}.whence") for name in ("one", "two", "killed")
        )
        is_same = all(other[0] == contents and np.array_equal(other[1], rows) for other in others)
        figures |= {
            "two_workers_s": alone,
            "two_workers_killed_s": killed,
            "killed_at_s": kills,
            "photos": len(contents),
        }
        figures |= {"overhead": killed / alone - 1, "is_same": is_same}
    if arguments.json:
        print(json.dumps(figures))
        return
    print(
        f"{figures['photos']} photos: one process {figures['one_process_s']:.1f} s, two workers "
        f"{alone:.1f} s"
    )
    moments = ", ".join(f"{moment:.1f} s" for moment in kills)
    print(f"a worker killed at {moments}: {killed:.1f} s, {100 * (killed / alone - 1):.0f} % more")
    print("the databases are the same" if is_same else "THE DATABASES DIFFER")


if __name__ == "__main__":
    main()
