"""The local features that come with Whence beside RootSIFT and ALIKED, on real pairs whose geometry
is known.

    WHENCE_TEST_DATA=FOLDER WHENCE_TEST_WEIGHTS=FOLDER python benchmarks/local_features.py
        [--sets A,B] [--matchers A,B]

A pair counts within 3 or 5 px where known points are mapped so near to where they belong in the
median (what landmarks are off themselves is added; wxbs: distance from the epipolar line;
stromovka: within 15 px alone, one shift stands for the whole photo). Photos are matched at 640 px
with 1,000 keypoints; all by mutual nearest neighbours and the same robust homography; RootSIFT with
its ratio test, upright and turned, whichever is less likely chance. webcams: photos of one fixed
camera by day and by night, in other seasons, the second under a random homography. Milliseconds are
CPU of one thread for both photos, matching and geometry; matchers take turns pair by pair. Claimed:
more right pairs than RootSIFT on webcams, stromovka and wxbs; the last lines say whether it holds.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import learned_matching
import numpy as np
import wide_baseline
from wide_baseline import RIGHT_PX

from whence.data.images import load_image
from whence.evaluation.metrics import wilson_interval
from whence.matching.geometry import GeometryModel
from whence.matching.matchers import MatchOptions, match_images
from whence.parts import Matcher
from whence.registry import build
from whence.runtime import random_stream, set_threads

SIDE_PX, NUM_KEYPOINTS = 640, 1000
LIMITS_PX = (3.0, 5.0)
MATCHERS = ("rootsift", "aliked-mnn", "whence-local", "whence-local-to-aliked")
CLAIMED = ("webcams", "stromovka", "wxbs")
NUM_OF_CAMERA = 12
EVERY = {"stromovka": 2, "drone-brighton": 6}


class Pair(NamedTuple):
    """Two images, points of the first with where they lie on the second, and how much is added to
    what is near enough."""

    name: str
    image0: np.ndarray | Path
    image1: np.ndarray | Path
    points0: np.ndarray
    points1: np.ndarray
    model: GeometryModel = "homography"
    added_px: float = 0.0


def webcam_pairs(folder: Path) -> Iterator[Pair]:
    """For each camera the brightest with the darkest photos, and random ones; the second under a
    random homography."""
    with open(folder / "images.csv", newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if (folder / row["image"]).is_file()]
    for number, camera in enumerate(sorted({row["camera"] for row in rows})):
        own = sorted(
            (row for row in rows if row["camera"] == camera),
            key=lambda row: float(row["mean_brightness"]),
        )
        half = NUM_OF_CAMERA // 2
        chosen = list(zip(own[::-1][:half], own[:half], strict=True))
        order = random_stream(0, number).permutation(len(own))
        chosen += [(own[order[2 * k]], own[order[2 * k + 1]]) for k in range(half)]
        for k, (first, second) in enumerate(chosen):
            images = [load_image(folder / row["image"]) for row in (first, second)]
            height, width = images[1].shape[:2]
            matrix = random_matrix(random_stream(1, number, k), width, height)
            warped = cv2.warpPerspective(images[1], matrix, (width, height))
            grid = np.stack(
                np.meshgrid(np.linspace(0, width - 1, 15), np.linspace(0, height - 1, 12)), axis=-1
            ).reshape(-1, 2)
            ends = wide_baseline.mapped(matrix, grid)
            kept = ((ends >= 0) & (ends < [width, height])).all(axis=1)
            yield Pair(
                f"{first['image']} {second['image']}", images[0], warped, grid[kept], ends[kept]
            )


def random_matrix(random: np.random.Generator, width: int, height: int) -> np.ndarray:
    """A homography that turns by up to 20 degrees, zooms by 0.75 to 1.3, and moves corners by up to
    a tenth of the sides."""
    angle, zoom = (
        np.deg2rad(random.uniform(-20, 20)),
        float(np.exp(random.uniform(np.log(0.75), np.log(1.3)))),
    )
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], float)
    middle = np.array([width, height]) / 2
    turn = zoom * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    ends = (
        (corners - middle) @ turn.T + middle + random.uniform(-0.1, 0.1, (4, 2)) * [width, height]
    )
    return cv2.getPerspectiveTransform(corners.astype(np.float32), ends.astype(np.float32)).astype(
        float
    )


def set_of(root: Path, name: str) -> list[Pair]:
    """The pairs of a set."""
    if name == "webcams":
        return list(webcam_pairs(root / "webcams"))
    pairs = list(learned_matching.pair_sets(root)[name]())[:: EVERY.get(name, 1)]
    return [
        Pair(p.name, p.file0, p.file1, p.points0, p.points1, p.model, p.limit_px - RIGHT_PX)
        for p in pairs
    ]


def open_all(names: list[str], weights: str) -> dict[str, Matcher | None]:
    """The matchers by name; None for RootSIFT, which `match_images` opens both ways."""
    found: dict[str, Matcher | None] = {}
    for name in names:
        own: dict[str, Any] = {"weights": weights} if weights and "aliked" in name else {}
        is_usual = name == "rootsift"
        found[name] = (
            None
            if is_usual
            else build("matcher", name, options={"max_keypoints": NUM_KEYPOINTS, **own})
        )
    return found


def compare(name: str, pairs: list[Pair], matchers: dict[str, Matcher | None]) -> dict[str, Any]:
    """Pairs within each limit, wrong ones and milliseconds, by matcher."""
    errors: dict[str, list[float]] = {one: [] for one in matchers}
    wrong, spent = dict.fromkeys(matchers, 0), dict.fromkeys(matchers, 0.0)
    for pair in pairs:
        for one, matcher in matchers.items():
            options = MatchOptions(
                long_side_px=SIDE_PX, max_keypoints=NUM_KEYPOINTS, geometry=pair.model
            )
            started = time.process_time()
            found = match_images(pair.image0, pair.image1, options=options, matcher=matcher)
            spent[one] += time.process_time() - started
            asked = wide_baseline.Pair(
                pair.name, Path(), Path(), pair.points0, pair.points1, pair.model
            )
            errors[one].append(wide_baseline.error_px(found.matrix, asked) - pair.added_px)
            wrong[one] += found.is_match and errors[one][-1] > LIMITS_PX[-1]
    record: dict[str, Any] = {"set": name, "pairs": len(pairs)}
    for one in matchers:
        within = [int((np.array(errors[one]) <= limit).sum()) for limit in LIMITS_PX]
        record[one] = {
            "within": within,
            "wrong": wrong[one],
            "ms": 1000 * spent[one] / max(1, len(pairs)),
        }
        low, high = wilson_interval(within[-1], len(pairs))
        print(
            f"{name:<20}{one:<24}{within[0]:>4} within 3 px{within[1]:>4} within 5 px of "
            f"{len(pairs):<4}"
            f"[{100 * low:.0f}-{100 * high:.0f} %]{wrong[one]:>4} wrong{record[one]['ms']:>7.0f} "
            "ms a pair",
            flush=True,
        )
    return record


def main() -> int:
    """Match, print, and say whether what is claimed holds."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sets", help="names of sets, separated by commas (default all)")
    parser.add_argument(
        "--matchers",
        default=",".join(MATCHERS),
        help="names, separated by commas (default %(default)s)",
    )
    parser.add_argument("--json", metavar="FILE", help="also write the figures as JSON")
    arguments = parser.parse_args()
    if not os.environ.get("WHENCE_TEST_DATA"):
        print("WHENCE_TEST_DATA is not set: there is nothing to measure")
        return 1
    root = Path(os.environ["WHENCE_TEST_DATA"])
    set_threads(1)
    matchers = open_all(arguments.matchers.split(","), os.environ.get("WHENCE_TEST_WEIGHTS", ""))
    names = (
        arguments.sets.split(",")
        if arguments.sets
        else ["webcams", *learned_matching.pair_sets(root)]
    )
    records = [compare(name, set_of(root, name), matchers) for name in names]
    for record in records:
        if record["set"] in CLAIMED and {"rootsift", "whence-local"} <= set(matchers):
            ours, usual = (record[one]["within"][-1] for one in ("whence-local", "rootsift"))
            print(
                f"{record['set']}: more right pairs than RootSIFT: "
                f"{'holds' if ours > usual else 'FAILS'} ({ours} and {usual})"
            )
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(records, indent=1), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
