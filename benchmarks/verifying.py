"""What answers are worth when other local features verify them, on real photos: RootSIFT's, and
those that come with Whence.

    WHENCE_TEST_DATA=FOLDER python benchmarks/verifying.py [--sets A,B] [--matchers A,B]
                                                           [--json FILE]

Sets are those of `learned_matching.py`. Located wrongly: an answer that is given and is not right.
Every database is asked by the default model; 20 candidates, each matcher with the calibration that
comes along for it, no second look. Seconds are CPU of one thread for a query: RootSIFT's features
of the database are kept, others are made anew.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import faiss  # noqa: F401  (imported so that its threads are bounded too)
import numpy as np
from learned_matching import Asked, Others, answer_sets

from whence.evaluation.metrics import wilson_interval
from whence.localize.localizer import Localizer, LocateOptions
from whence.localize.rerank_options import rerank_options
from whence.runtime import set_threads
from whence.settings import BuildOptions

MATCHERS = ("rootsift", "whence-local")
SETS = (
    "stockholm answers",
    "webcams answers",
    "webcams strangers",
    "stromovka answers",
    "wxbs answers",
    "corridor-loop answers",
    "lund strangers",
)


def compare(name: str, photos: Asked, matchers: list[str]) -> dict[str, Any]:
    """Right and wrong answers by matcher, query by query in turns."""
    counts = {one: dict.fromkeys(("right", "wrong", "unknown"), 0) for one in matchers}
    seconds: dict[str, list[float]] = {one: [] for one in matchers}
    with tempfile.TemporaryDirectory() as made:
        options = BuildOptions(keep_local=True)
        with Localizer.build(
            *map(str, photos.database),
            path=Path(made) / "a.whence",
            options=options,
            show_progress=False,
        ) as localizer:
            set_threads(1)
            others = Others(
                localizer.store.photos, localizer.store.descriptor_rows, localizer.retriever.index
            )
            judges = {
                one: replace(
                    localizer.judge(
                        LocateOptions(
                            rerank_options("inliers", matcher=None if one == "rootsift" else one),
                            when_unknown="none",
                        )
                    ),
                    retriever=others,
                )
                for one in matchers
            }
            for question in photos.questions:
                others.without = question.passed_over
                for one, judge in judges.items():
                    started = time.process_time()
                    described = next(judge.describe([question.file]))
                    assert not isinstance(described, Exception)
                    found = judge.answer(
                        "", described, k=20, around=None, seconds={}, source=question.file
                    )
                    seconds[one].append(time.process_time() - started)
                    what = "right" if question.is_right(found) else "wrong"
                    if found.status == "unknown":
                        what = "unknown"
                    counts[one][what] += 1
    record: dict[str, Any] = {"set": name, "queries": len(photos.questions)}
    for one in matchers:
        took, number = float(np.median(seconds[one])), len(photos.questions)
        low, high = wilson_interval(counts[one]["right"], number)
        record[one] = {**counts[one], "interval": (low, high), "seconds": took}
        print(
            f"{name:<22}{one:<14}{counts[one]['right']:>4} of {number} located rightly "
            f"[{100 * low:.0f}-{100 * high:.0f} %]{counts[one]['wrong']:>4} wrongly, "
            f"{counts[one]['unknown']} unknown; {took:.2f} s a query",
            flush=True,
        )
    return record


def main() -> int:
    """Ask, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sets", default=",".join(SETS), help="apart by commas (%(default)s)")
    parser.add_argument(
        "--matchers", default=",".join(MATCHERS), help="apart by commas (%(default)s)"
    )
    parser.add_argument("--json", metavar="FILE", help="also write the figures as JSON")
    given = parser.parse_args()
    if not os.environ.get("WHENCE_TEST_DATA"):
        print("WHENCE_TEST_DATA is not set: there is nothing to measure")
        return 1
    root = Path(os.environ["WHENCE_TEST_DATA"])
    sets = answer_sets(root)
    records = [
        compare(name, sets[name](), given.matchers.split(",")) for name in given.sets.split(",")
    ]
    if given.json:
        Path(given.json).write_text(json.dumps(records, indent=1), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
