"""Matchers on small real sets with a known homography: the share of pairs within 3 and 5 pixels.

    WHENCE_TEST_DATA=FOLDER [WHENCE_TEST_WEIGHTS=FOLDER] python benchmarks/matchers.py
        [--matchers NAMES] [--sides 640,1024]

A pair counts where the estimated homography takes the known points of the first image, on average,
to within so many pixels of where they belong, in pixels of the originals. homography-pairs: 8 pairs
with strong zoom, viewpoint or blur, about 8 exact points each. oxford-graf: image 1 with 2 to 6, a
growing angle; points are a grid of the part that both show. multimodal-pairs: SAR, map, depth and
optical images against optical ones; landmarks have errors of their own, given for each set.
Matchers whose weights are not in the folder or the cache are listed as not run.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from whence.errors import MissingExtra, MissingWeights
from whence.evaluation.metrics import wilson_interval
from whence.matching.geometry import GeometryMethod
from whence.matching.matchers import MatchOptions, match_images
from whence.parts import Matcher
from whence.registry import MATCHERS, build
from whence.runtime import set_threads

LIMITS_PX = (3.0, 5.0)


class Pair(NamedTuple):
    """Two files, and points of the first with where they lie on the second."""

    set_name: str
    name: str
    file0: Path
    file1: Path
    points0: np.ndarray
    points1: np.ndarray
    own_error_px: float = 0.0
    """How far the known points lie from a homography of their own."""


@dataclass(frozen=True)
class Row:
    """What one matcher does on one set."""

    matcher: str
    set_name: str
    num_pairs: int
    num_within: tuple[int, ...]
    median_error_px: float
    seconds_a_pair: float


def homography_pairs(folder: Path) -> Iterator[Pair]:
    """Pairs with exact points."""
    for name, one in json.loads((folder / "gt.json").read_text()).items():
        points = [np.array(one[f"pts_{side}"], float) for side in "AB"]
        yield Pair("homography-pairs", name, folder / one["A"], folder / one["B"], *points)


def graf_pairs(folder: Path) -> Iterator[Pair]:
    """Image 1 with each other one, by the published homographies."""
    first = cv2.imread(str(folder / "img1.png"))
    height, width = first.shape[:2]
    grid = np.stack(
        np.meshgrid(np.linspace(0, width - 1, 12), np.linspace(0, height - 1, 10)), axis=-1
    ).reshape(-1, 2)
    for k in range(2, 7):
        mapped = cv2.perspectiveTransform(grid[None], np.loadtxt(folder / f"H1to{k}p"))[0]
        seen = ((mapped >= 0) & (mapped <= [width - 1, height - 1])).all(axis=1)
        yield Pair(
            "oxford-graf",
            f"1-{k}",
            folder / "img1.png",
            folder / f"img{k}.png",
            grid[seen],
            mapped[seen],
        )


def multimodal_pairs(folder: Path) -> Iterator[Pair]:
    """Moving and fixed images of four kinds, with landmarks."""
    for kind in sorted(path for path in folder.iterdir() if path.is_dir()):
        for name, one in json.loads((kind / "gt.json").read_text()).items():
            files = [kind / Path(one["files"][side]).name for side in ("I_move", "I_fix")]
            points = [np.array(one[side], float) for side in ("mov", "fix")]
            yield Pair(
                f"multimodal {kind.name}", name, *files, *points, float(one["H_lm_residual_px"])
            )


def error_px(pair: Pair, matcher: Matcher, *, side: int, method: GeometryMethod) -> float:
    """Mean distance of the mapped points from where they belong; infinite without a homography."""
    found = match_images(
        pair.file0,
        pair.file1,
        options=MatchOptions(long_side_px=side, method=method),
        matcher=matcher,
    )
    if found.matrix is None:
        return float("inf")
    mapped = cv2.perspectiveTransform(pair.points0[None], found.matrix)[0]
    return float(np.linalg.norm(mapped - pair.points1, axis=1).mean())


def run_matcher(
    name: str, matcher: Matcher, pairs: list[Pair], *, side: int, method: GeometryMethod
) -> list[Row]:
    """One row per set."""
    rows = []
    for set_name in dict.fromkeys(pair.set_name for pair in pairs):
        chosen = [pair for pair in pairs if pair.set_name == set_name]
        started = time.process_time()
        errors = np.array([error_px(pair, matcher, side=side, method=method) for pair in chosen])
        spent = (time.process_time() - started) / len(chosen)
        within = tuple(int((errors <= limit).sum()) for limit in LIMITS_PX)
        rows.append(
            Row(f"{name} at {side}", set_name, len(chosen), within, float(np.median(errors)), spent)
        )
        show(rows[-1])
    return rows


def show(row: Row) -> None:
    """Print one row, shares with their 95 % intervals."""
    shares = []
    for limit, num in zip(LIMITS_PX, row.num_within, strict=True):
        low, high = wilson_interval(num, row.num_pairs)
        shares.append(
            f"{num}/{row.num_pairs} within {limit:g} px [{100 * low:.0f}-{100 * high:.0f} %]"
        )
    median = "none" if not np.isfinite(row.median_error_px) else f"{row.median_error_px:.1f} px"
    print(
        (
            f"{row.matcher:<24}{row.set_name:<26}{', '.join(shares)}; median {median}; "
            f"{1000 * row.seconds_a_pair:.0f} ms CPU"
        ),
        flush=True,
    )


def main() -> int:
    """Match, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--matchers", default=",".join(MATCHERS), help="names, separated by commas (default all)"
    )
    parser.add_argument(
        "--sides", default="640,1024", help="long sides at which images are matched"
    )
    parser.add_argument("--method", default="magsac", help="robust estimator")
    parser.add_argument("--keypoints", type=int, default=2000, help="keypoints per image")
    parser.add_argument("--sets", default="homography,graf,multimodal", help="which sets")
    parser.add_argument("--json", metavar="FILE", help="also write the figures as JSON")
    arguments = parser.parse_args()
    root = Path(os.environ.get("WHENCE_TEST_DATA", ""))
    if not os.environ.get("WHENCE_TEST_DATA"):
        print("WHENCE_TEST_DATA is not set: there is nothing to measure")
        return 1
    set_threads(1)
    readers = {
        "homography": lambda: homography_pairs(root / "homography-pairs"),
        "graf": lambda: graf_pairs(root / "oxford-graf"),
        "multimodal": lambda: multimodal_pairs(root / "multimodal-pairs"),
    }
    pairs = [pair for name in arguments.sets.split(",") for pair in readers[name]()]
    for name in dict.fromkeys(pair.set_name for pair in pairs):
        errors = [pair.own_error_px for pair in pairs if pair.set_name == name]
        if max(errors) > 0:
            print(
                f"{name}: the landmarks' own errors are {min(errors):.1f} to {max(errors):.1f} "
                f"px, median {np.median(errors):.1f}"
            )
    rows, lacking = [], []
    for name in arguments.matchers.split(","):
        weights = os.environ.get("WHENCE_TEST_WEIGHTS", "")
        options: dict[str, Any] = (
            {} if name in ("loftr", "eloftr") else {"max_keypoints": arguments.keypoints}
        )
        if weights and name not in ("rootsift-mnn", "orb-mnn"):
            options["weights"] = weights
        try:
            matcher = build("matcher", name, options=options)
        except (MissingWeights, MissingExtra) as error:
            lacking.append(f"{name} ({str(error).split(': ')[0]})")
            continue
        for side in map(int, arguments.sides.split(",")):
            rows += run_matcher(name, matcher, pairs, side=side, method=arguments.method)
    print("not run:", "; ".join(lacking) or "none")
    if arguments.json:
        Path(arguments.json).write_text(
            json.dumps([asdict(row) for row in rows], indent=1), encoding="utf-8"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
