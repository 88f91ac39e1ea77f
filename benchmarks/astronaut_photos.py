"""Real photos of astronauts co-registered with their real surroundings: pixels off the points that
other matchers agreed on.

    python benchmarks/astronaut_photos.py ASTRONAUT_PHOTOS [--matcher rootsift-mnn]

The folder holds gt.json and, for each photo, query.jpg and surrounding.jpg. All four quarters are
tried, and the one with the most inliers in the last round counts; so it is done for the published
loop and for ours, with the same matcher.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np

from whence.data.images import load_image
from whence.localize.coregister import CoregisterOptions, coregister, finder
from whence.registry import build
from whence.runtime import set_threads

BOX = (0.0, 0.0, 1.0, 1.0)
SIDE_PX = 512


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--matcher", default="rootsift-mnn")
    options = parser.parse_args()
    set_threads(1)
    truth = json.loads((options.folder / "gt.json").read_text())
    of_matcher = {"is_upright": False} if options.matcher == "rootsift-mnn" else {}
    print(f"{'photo':18} {'way':10} {'inliers by round':24} {'rms px':>7} {'off px':>8} {'s':>6}")
    for name, about in sorted(truth.items()):
        query, around = (
            load_image(options.folder / name / f"{part}.jpg") for part in ("query", "surrounding")
        )
        for is_published in (True, False):
            find = finder(
                build("matcher", options.matcher, options=of_matcher), is_published=is_published
            )
            ways, started = (
                CoregisterOptions(side_px=SIDE_PX, is_published=is_published),
                time.perf_counter(),
            )
            found = [
                coregister(query, around, BOX, find, turns=turns, options=ways)
                for turns in range(4)
            ]
            spent = time.perf_counter() - started
            best = max(found, key=lambda one: one.num_inliers if one.is_match else -1)
            off = "no truth" if about["surrounding_pts"] is None else "-"
            if best.is_match and about["surrounding_pts"] is not None:
                points = np.array(about["query_pts"]) * SIDE_PX / query.shape[0]
                there = np.column_stack([points, np.ones(len(points))]) @ best.matrix.T
                there = (there[:, :2] / there[:, 2:] + SIDE_PX) * around.shape[0] / (3 * SIDE_PX)
                apart = np.linalg.norm(there - np.array(about["surrounding_pts"]), axis=1)
                off = f"{np.median(apart):.2f}"
            rounds = " ".join(map(str, best.inliers)) if best.is_match else "no match"
            way = "published" if is_published else "ours"
            print(
                f"{name:18} {way:10} {rounds:24} {best.rms_px:>7.2f} {off:>8} {spent:>6.1f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
