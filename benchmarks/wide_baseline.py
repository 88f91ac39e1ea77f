"""Wide-baseline pairs of real photos: how many `whence match` maps rightly, and how many it calls a
match wrongly, beside OpenCV.

    WHENCE_TEST_DATA=FOLDER python benchmarks/wide_baseline.py [--side PX] [--keypoints N]
                                                               [--json FILE]

The usual way: OpenCV's SIFT as RootSIFT, ratio 0.8, USAC-MAGSAC with 3 px, at the same size and
budget of keypoints; five orders of the matches stand for five seeds, and most of them decide.
Planar pairs are right where known points are mapped to within 5 px in the median, in pixels of the
photos; pairs without a plane where clicked points lie within 5 px of their epipolar lines.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import faiss  # noqa: F401  (imported so that its threads are bounded too)
import numpy as np

from whence.cards import Preprocessing
from whence.data.images import load_image
from whence.matching.geometry import GeometryModel
from whence.matching.matchers import MatchOptions, in_originals, match_images
from whence.models.descriptor import read_as
from whence.models.local.sift import root_sift
from whence.runtime import set_threads

RIGHT_PX = 5.0
NUM_ORDERS = 5


class Pair(NamedTuple):
    """Two photos, points that are known to belong together, the geometry they obey, and how near is
    near enough."""

    name: str
    file0: Path
    file1: Path
    points0: np.ndarray
    points1: np.ndarray
    model: GeometryModel = "homography"
    limit_px: float = RIGHT_PX


def read_pairs(root: Path) -> Iterator[Pair]:
    """The pairs that are there."""
    folder = root / "homography-pairs"
    if (folder / "gt.json").is_file():
        for name, row in json.loads((folder / "gt.json").read_text(encoding="utf-8")).items():
            if isinstance(row, dict) and "pts_A" in row:
                points = (np.array(row[key], float) for key in ("pts_A", "pts_B"))
                yield Pair(name, folder / row["A"], folder / row["B"], *points, "homography")
    folder = root / "oxford-graf"
    for truth in sorted(folder.glob("H1to*p")):
        number = truth.name.removeprefix("H1to").removesuffix("p")
        files = folder / "img1.png", folder / f"img{number}.png"
        yield Pair(f"graf {number}", *files, *grid_of(np.loadtxt(truth), *files), "homography")
    folder = root / "evd"
    if (folder / "gt.json").is_file():
        for row in json.loads((folder / "gt.json").read_text(encoding="utf-8")):
            files = folder / f"{row['pair']}_1.jpg", folder / f"{row['pair']}_2.jpg"
            yield Pair(
                f"evd {row['pair']}",
                *files,
                *grid_of(np.array(row["H_1_to_2"]), *files),
                "homography",
            )
    folder = root / "wxbs"
    if (folder / "points.json").is_file():
        for row in json.loads((folder / "points.json").read_text(encoding="utf-8")):
            files = (
                folder / "database" / f"{row['pair']}.jpg",
                folder / "queries" / f"{row['pair']}.jpg",
            )
            if all(file.is_file() for file in files):
                points = np.array(row["points"], float)
                yield Pair(row["pair"], *files, points[:, :2], points[:, 2:], "fundamental")


def grid_of(matrix: np.ndarray, file0: Path, file1: Path) -> tuple[np.ndarray, np.ndarray]:
    """Points of the first photo on a grid, and where a homography puts them, as far as that is
    inside the second photo."""
    (height0, width0), (height1, width1) = (load_image(file).shape[:2] for file in (file0, file1))
    grid = np.stack(
        np.meshgrid(np.linspace(0, width0 - 1, 15), np.linspace(0, height0 - 1, 15)), axis=-1
    ).reshape(-1, 2)
    depths = grid @ matrix[2, :2] + matrix[2, 2]
    ends = mapped(matrix, grid)
    kept = (
        (depths * np.sign(np.median(depths)) > 0)
        & (ends >= 0).all(axis=1)
        & (ends < [width1, height1]).all(axis=1)
    )
    return grid[kept], ends[kept]


def mapped(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Points (M, 2) through a homography."""
    ends = np.c_[points, np.ones(len(points))] @ matrix.T
    return ends[:, :2] / ends[:, 2:]


def error_px(matrix: np.ndarray | None, pair: Pair) -> float:
    """Median error of the known points; infinite without a model."""
    if matrix is None:
        return np.inf
    if pair.model == "homography":
        return float(np.median(np.linalg.norm(mapped(matrix, pair.points0) - pair.points1, axis=1)))
    lines = np.c_[pair.points0, np.ones(len(pair.points0))] @ matrix.T
    gaps = np.abs(
        (lines * np.c_[pair.points1, np.ones(len(pair.points1))]).sum(axis=1)
    ) / np.linalg.norm(lines[:, :2], axis=1)
    return float(np.median(gaps))


def usual_errors(pair: Pair, *, side: int, num_keypoints: int) -> list[float]:
    """The errors of the usual way, one for each order of the matches."""
    sift = cv2.SIFT.create(nfeatures=num_keypoints)
    found, sizes, shown = [], [], []
    for file in (pair.file0, pair.file1):
        image = read_as(file, Preprocessing(long_side_px=side))
        keypoints, histograms = sift.detectAndCompute(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), None)
        if histograms is None:
            return [np.inf] * NUM_ORDERS
        found.append((np.array([one.pt for one in keypoints]), root_sift(histograms)))
        whole = load_image(file)
        sizes.append((whole.shape[1], whole.shape[0]))
        shown.append((image.shape[1], image.shape[0]))
    (points0, descriptors0), (points1, descriptors1) = found
    pairs = [
        two
        for two in cv2.BFMatcher(cv2.NORM_L2).knnMatch(descriptors0, descriptors1, k=2)
        if len(two) == 2
    ]
    clear = [one for one, other in pairs if one.distance < 0.8 * other.distance]
    ends = points0[[one.queryIdx for one in clear]], points1[[one.trainIdx for one in clear]]
    errors = []
    for seed in range(NUM_ORDERS):
        order = np.random.default_rng(seed).permutation(len(clear))
        errors.append(
            error_px(estimate(ends[0][order], ends[1][order], pair.model, sizes, shown), pair)
        )
    return errors


def estimate(
    points0: np.ndarray,
    points1: np.ndarray,
    model: GeometryModel,
    sizes: list[tuple[int, int]],
    sizes_read: list[tuple[int, int]],
) -> np.ndarray | None:
    """OpenCV's model between the original photos."""
    if len(points0) < 8:
        return None
    options = {"ransacReprojThreshold": 3.0, "maxIters": 2000, "confidence": 0.995}
    find = cv2.findHomography if model == "homography" else cv2.findFundamentalMat
    matrix, _ = find(points0, points1, method=cv2.USAC_MAGSAC, **options)
    if matrix is None or matrix.shape != (3, 3):
        return None
    return in_originals(matrix, model, (sizes[0], sizes_read[0]), (sizes[1], sizes_read[1]))


def main() -> int:
    """Match, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--side", type=int, default=640, help="long side of the photos in pixels (default 640)"
    )
    parser.add_argument(
        "--keypoints", type=int, default=2000, help="keypoints per photo (default 2000)"
    )
    parser.add_argument("--json", metavar="FILE", help="also write the figures as JSON")
    arguments = parser.parse_args()
    root = os.environ.get("WHENCE_TEST_DATA")
    if not root:
        print("WHENCE_TEST_DATA is not set: there is nothing to measure")
        return 1
    set_threads(1)
    rows = []
    print(
        f"{'pair':<20}{'inliers':>9}{'probability':>13}{'error px':>10}"
        f"{'OpenCV, five orders: error px':>40}"
    )
    for pair in read_pairs(Path(root)):
        options = MatchOptions(
            long_side_px=arguments.side, max_keypoints=arguments.keypoints, geometry=pair.model
        )
        match = match_images(pair.file0, pair.file1, options=options)
        error = error_px(match.matrix, pair)
        theirs = usual_errors(pair, side=arguments.side, num_keypoints=arguments.keypoints)
        row = {
            "pair": pair.name,
            "model": pair.model,
            "is_match": match.is_match,
            "is_right": error <= RIGHT_PX,
            "opencv_is_right": sum(one <= RIGHT_PX for one in theirs) > NUM_ORDERS / 2,
        }
        rows.append(row)
        shown = f"{error:.1f}" if match.is_match else "no match"
        print(
            f"{pair.name:<20}{match.num_inliers:>9}{match.confidence or 0:>13.3f}{shown:>10}"
            f"{', '.join(f'{one:.1f}' for one in theirs):>40}"
        )
    for model, what in (("homography", "planar pairs"), ("fundamental", "pairs without a plane")):
        chosen = [row for row in rows if row["model"] == model]
        print(
            f"{len(chosen)} {what}: {sum(row['is_right'] for row in chosen)} right, "
            f"{sum(row['is_match'] and not row['is_right'] for row in chosen)} called a match "
            f"wrongly; OpenCV {sum(row['opencv_is_right'] for row in chosen)} right, "
            f"{sum(row['opencv_is_right'] and not row['is_right'] for row in chosen)} of them not "
            "by ours"
        )
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(rows, indent=1), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
