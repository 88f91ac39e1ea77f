"""A journal of a million answers: milliseconds of exact questions, beside a plain table that is
gone through row by row.

    python benchmarks/journal.py [--records 10000 100000 1000000] [--work FOLDER] [--json]

Answers of a year lie along made-up drives in a city of 20 km, one in seven unknown. Each question
is asked seven times, at other places and days, and the median is told; the same is asked of a table
without our indexes, once, in the same process.
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from whence.geo import from_local_metres
from whence.journal import Journal, Question
from whence.runtime import random_stream
from whence.types import Candidate, GeoPoint, Position

ORIGIN = GeoPoint(59.33, 18.07)
BEGIN, YEAR_S, DAY_S = 1_760_000_000.0, 365 * 86_400.0, 86_400.0
BATCH = 10_000
_STREAM = 5


def answers(count: int, first: int) -> Iterator[Position]:
    """Answers along drives."""
    random = random_stream(_STREAM, first)
    steps = random.normal(0, 8, (count, 2)).cumsum(axis=0) + random.uniform(-10_000, 10_000, 2)
    lat, lon = from_local_metres(*((steps.T + 10_000) % 20_000 - 10_000), origin=ORIGIN)
    sure = random.uniform(0.3, 1.0, count)
    for row in range(count):
        best = (Candidate(f"db/{row % 5000:05d}.jpg", 1, 0.7, num_inliers=int(100 * sure[row])),)
        if row % 7 == 0:
            yield Position(
                f"{first + row}.jpg",
                "unknown",
                confidence=0.1,
                candidates=best,
                reason="too little agrees",
            )
        else:
            point = GeoPoint(float(lat[row]), float(lon[row]))
            yield Position(
                f"{first + row}.jpg",
                "located",
                point,
                radius_m=12.0,
                confidence=float(sure[row]),
                candidates=best,
            )


def fill(journal: Journal, count: int) -> None:
    """Append answers up to so many, spread over a year."""
    for first in range(len(journal), count, BATCH):
        size = min(BATCH, count - first)
        times = (BEGIN + YEAR_S * (first + np.arange(size)) / count).tolist()
        journal.append(answers(size, first), taken_at=times, model="made up", store="city.whence")


def questions(number: int) -> dict[str, Question]:
    """What is asked in a round."""
    random = random_stream(_STREAM, number, 1)
    lat, lon = from_local_metres(*random.uniform(-9000, 9000, (2, 1)), origin=ORIGIN)
    near, day = GeoPoint(float(lat[0]), float(lon[0])), BEGIN + float(random.integers(364)) * DAY_S
    return {
        "last within 50 m": Question(near=near, limit=1),
        "how often within 500 m": Question(near=near, within_m=500, wants="count"),
        "unsure on a day": Question(is_unsure=True, since=day, until=day + DAY_S),
        "unknown of a day within 5 km": Question(
            near=near, within_m=5000, status="unknown", since=day, until=day + DAY_S
        ),
        "latest 20": Question(),
        "how many unsure at all": Question(is_unsure=True, wants="count"),
    }


def median_ms(ask: Callable[[Question], Any], questions: list[Question]) -> float:
    """Milliseconds of one question."""
    spent = []
    for one in questions:
        started = time.process_time()
        ask(one)
        spent.append(1000 * (time.process_time() - started))
    return statistics.median(spent)


def measured(file: Path, count: int) -> dict[str, Any]:
    """What a journal of so many answers takes."""
    with Journal.open(file) as journal:
        started = time.process_time()
        fill(journal, count)
        found: dict[str, Any] = {
            "records": count,
            "fill_s": time.process_time() - started,
            "MB": file.stat().st_size / 1e6,
        }
        rounds = [questions(number) for number in range(7)]
        found["ms"] = {
            name: median_ms(journal.ask, [one[name] for one in rounds]) for name in rounds[0]
        }
    plain = sqlite3.connect(file)
    plain.execute("CREATE TEMP TABLE bare AS SELECT * FROM answers")
    plain.execute("ALTER TABLE temp.bare RENAME TO answers")
    bare = Journal(file, plain)
    unindexed = {
        name: replace(one, within_m=one.within_m)
        for name, one in rounds[0].items()
        if one.near is None
    }
    found["plain_ms"] = {name: median_ms(bare.ask, [one]) for name, one in unindexed.items()}
    plain.close()
    return found


def main() -> None:
    """Fill, ask, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--records", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--work", type=Path, help="folder for the journals")
    parser.add_argument("--json", action="store_true", help="one JSON object a size")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        for count in arguments.records:
            found = measured((arguments.work or Path(scratch)) / f"{count}.journal", count)
            if arguments.json:
                print(json.dumps(found))
                continue
            print(f"{count} answers: {found['fill_s']:.1f} s to fill, {found['MB']:.0f} MB")
            for name, spent in found["ms"].items():
                beside = (
                    f", a plain table {found['plain_ms'][name]:.1f} ms"
                    if name in found["plain_ms"]
                    else ""
                )
                print(f"  {name}: {spent:.2f} ms{beside}")


if __name__ == "__main__":
    main()
