"""How the runs of EarthMatch's comparison are measured; what each trial came to is kept beside
them."""

from __future__ import annotations

import json
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from whence.data.evaluation_sets import open_set
from whence.errors import BadOption
from whence.evaluation.coregistrations import (
    Trial,
    after_rounds,
    by_first_overlap,
    compare_trials,
    run_trials,
)
from whence.evaluation.metrics import wilson_interval
from whence.localize.coregister import CoregisterOptions
from whence.registry import build
from whence.runtime import atomic_write, threads
from whence.studies.arms import OVERLAPS, ROUNDS
from whence.studies.frame import Run, Settings, Value

LOOPS = ("ours", "published")
_OWN: dict[str, dict[str, Any]] = {
    "rootsift-mnn": {"is_upright": False},
    "orientation": {"is_upright": False},
}
_WITHOUT_KEYPOINTS = ("orientation", "loftr", "eloftr")
_WITHOUT_WEIGHTS = ("rootsift-mnn", "orb-mnn", "orientation")


def measure_earthmatch(run: Settings, options: Settings, work: Path) -> dict[str, Value]:
    """Figures of a matcher's trials."""
    name, loop = str(run["matcher"]), str(run["loop"])
    if loop not in LOOPS:
        raise BadOption(f"loops are {' and '.join(LOOPS)}, not {loop!r}")
    own = dict(_OWN.get(name, {}))
    if name not in _WITHOUT_KEYPOINTS:
        own["max_keypoints"] = int(options["keypoints"])
    if options["weights"] and name not in _WITHOUT_WEIGHTS:
        own["weights"] = str(options["weights"])
    matcher = build("matcher", name, options=own)
    ways = CoregisterOptions(
        side_px=int(options["side"]),
        num_iterations=int(options["rounds"]),
        is_published=loop == "published",
    )
    data = open_set(str(options["data"]), layout="earthloc")
    with threads(1):
        trials = [
            one
            for photo in run_trials(data, matcher, options=ways, num_photos=int(options["photos"]))
            for one in photo
        ]
    keep_trials(work / "trials" / f"{Run(run).key}.json", trials)
    found = compare_trials(trials)
    right = [one for one in trials if one.is_match and one.is_right and one.overlap > 0]
    located, num = found.num_located, found.num_photos
    rounds = {
        name: value
        for number, after in enumerate(after_rounds(trials)[: len(ROUNDS)], start=1)
        for name, value in (
            (f"corners off, round {number}", Value(after.error)),
            (f"overlap, round {number}", Value(after.overlap)),
        )
    }
    shared = {
        f"right, first overlap {low:g} to {high:g}": Value(good / of, *wilson_interval(good, of))
        for (low, high), (of, good) in zip(
            pairwise(OVERLAPS), by_first_overlap(trials, OVERLAPS), strict=True
        )
        if of
    }
    return {
        "threshold": Value(found.threshold),
        "located": Value(located / num, *wilson_interval(located, num)),
        "located and right": Value(found.num_right / num, *wilson_interval(found.num_right, num)),
        "wrong accepted": Value(float(found.wrong_accepted)),
        "wrong without threshold": Value(float(found.wrong_unchecked)),
        "wrong candidates": Value(float(found.num_wrong)),
        "corners off": Value(
            float(np.mean([one.errors[-1] for one in right])) if right else float("nan")
        ),
        "overlap": Value(
            float(np.mean([one.overlaps[-1] for one in right])) if right else float("nan")
        ),
        "time": Value(1000 * float(np.mean([one.seconds for one in trials]))),
        "photos": Value(float(num)),
        **rounds,
        **shared,
    }


def keep_trials(file: Path, trials: list[Trial]) -> None:
    """Write all that trials came to, one a line of JSON. Raises `UnwritableFile`."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(file, "w", is_flushed=False) as out:
        out.write("".join(json.dumps(asdict(one)) + "\n" for one in trials))
