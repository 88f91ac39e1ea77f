"""Verification: comparing a query with its candidates, our way and the usual way; and what each
stage of `locate` takes.

    python benchmarks/verify.py [--photos N] [--side PX] [--queries N] [--rounds N] [--json FILE]

The usual way detects keypoints in both photos of every pair, matches one way by brute force with
the ratio test and estimates with RANSAC. A second peer makes the same checks as ours, by OpenCV's
own parts: matches are mutual too, the estimator is USAC-MAGSAC with the same threshold and budget,
descriptors are rounded as a database keeps them. A third does so with the query detected once. Ours
keeps what can be made once: the database's side in the database, the query's side from its
description; and it passes over candidates that cannot win. Photos are decoded beforehand for all.
Inliers are compared with the second peer's count by count; what differs is listed. Photos are
rendered.
"""

from __future__ import annotations

import itertools
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import faiss  # noqa: F401  (imported so that its threads are bounded too)
import numpy as np
from side_by_side import Timing, compare, options, save

from whence.data.formats import read_folders
from whence.localize.localizer import RETRIEVE_ONLY, Localizer
from whence.matching.geometry import GeometrySettings
from whence.matching.matchers import DEFAULT_RATIO
from whence.matching.scorers import InlierScorer
from whence.models.local.sift import LocalDescriptors
from whence.runtime import set_threads
from whence.settings import BuildOptions
from whence.worlds.capture import CaptureOptions
from whence.worlds.city import WorldOptions, render_world
from whence.worlds.presets import CitySize

NUM_CANDIDATES = (5, 20, 100)
USUAL = "detect both, brute force, RANSAC"
SAME_CHECKS = "detect both, mutual brute force, MAGSAC"
QUERY_ONCE = "the same, the query detected once"
KEPT_ARRAYS = "kept, the query described before"
NONE_PASSED_OVER = "the same, none passed over"
DESCRIBED_NOW = "kept, the query described now"


class Asked(NamedTuple):
    """A query and its candidates: pixels for the usual way, arrays for ours."""

    image: np.ndarray
    query_arrays: Mapping[str, np.ndarray]
    images: list[np.ndarray]
    arrays: list[Mapping[str, np.ndarray]]

    def first(self, num: int) -> Asked:
        """With that many candidates."""
        return self._replace(images=self.images[:num], arrays=self.arrays[:num])


def usual_way(question: Asked, scorer: InlierScorer) -> list[int]:
    """Detect in both, brute force with the ratio test, RANSAC; inliers of each candidate."""
    matcher, counts = cv2.BFMatcher(cv2.NORM_L2), []
    for image in question.images:
        a, b = scorer.extractor.extract(question.image), scorer.extractor.extract(image)
        pairs = [
            pair[0]
            for pair in matcher.knnMatch(a.descriptors, b.descriptors, k=2)
            if is_clear(pair)
        ]
        counts.append(num_inliers(a, b, pairs, scorer, method=cv2.RANSAC))
    return counts


def same_checks(
    question: Asked, scorer: InlierScorer, *, is_query_detected_once: bool = False
) -> list[int]:
    """Detect in both, brute force both ways with the ratio test, USAC-MAGSAC; inliers of each
    candidate."""
    matcher, counts = cv2.BFMatcher(cv2.NORM_L2), []
    once = detect(question.image, scorer) if is_query_detected_once else None
    for image in question.images:
        a, b = once or detect(question.image, scorer), detect(image, scorer)
        back = [
            pair[0].trainIdx if pair else -1
            for pair in matcher.knnMatch(b.descriptors, a.descriptors, k=1)
        ]
        clear = (
            pair[0]
            for pair in matcher.knnMatch(a.descriptors, b.descriptors, k=2)
            if is_clear(pair)
        )
        pairs = [pair for pair in clear if back[pair.trainIdx] == pair.queryIdx]
        # In our order: the estimator draws its samples by position.
        pairs.sort(key=lambda pair: (*a.keypoints[pair.queryIdx], *b.keypoints[pair.trainIdx]))
        counts.append(num_inliers(a, b, pairs, scorer, method=cv2.USAC_MAGSAC))
    return counts


def detect(image: np.ndarray, scorer: InlierScorer) -> LocalDescriptors:
    """Keypoints and descriptors, rounded to what a database keeps."""
    return LocalDescriptors.from_arrays(scorer.extractor.extract(image).to_arrays())


def is_clear(pair: tuple[cv2.DMatch, ...]) -> bool:
    """Whether the nearest descriptor passes the ratio test."""
    return len(pair) == 2 and pair[0].distance < DEFAULT_RATIO * pair[1].distance


def num_inliers(
    a: LocalDescriptors,
    b: LocalDescriptors,
    pairs: Sequence[cv2.DMatch],
    scorer: InlierScorer,
    *,
    method: int,
) -> int:
    """Inliers of the homography that OpenCV finds; 0 below what any two photos may share."""
    if len(pairs) < scorer.noise_inliers:
        return 0
    points0 = np.array([a.keypoints[pair.queryIdx] for pair in pairs], np.float64)
    points1 = np.array([b.keypoints[pair.trainIdx] for pair in pairs], np.float64)
    settings = GeometrySettings()
    threshold = settings.threshold_for(b.image_size_px)
    budget = {"maxIters": settings.max_iterations, "confidence": settings.confidence}
    _, mask = cv2.findHomography(
        points0, points1, method=method, ransacReprojThreshold=threshold, **budget
    )
    found = 0 if mask is None else int(mask.sum())
    return found if found >= scorer.noise_inliers else 0


def our_way(question: Asked, scorer: InlierScorer, *, is_described_now: bool = False) -> list[int]:
    """The inlier scorer over arrays that are there; inliers of each candidate."""
    query_arrays = scorer.prepare(question.image) if is_described_now else question.query_arrays
    return [
        int(found.similarity)
        for found in scorer.score(query_arrays, question.arrays)
        if found is not None
    ]


def ask(localizer: Localizer, query: Path, scorer: InlierScorer) -> Asked:
    """A query with its candidates in the order of retrieval."""
    store, model = localizer.store, localizer.model
    candidates = localizer.locate(query, k=max(NUM_CANDIDATES), options=RETRIEVE_ONLY).candidates
    contents = [localizer.photos.columns["content"][one.row].decode() for one in candidates]
    kept = [store.read_cache(f"{store.card_id}.local", content) for content in contents]
    image = model.read(query)
    images = [model.read(file) for file in localizer.files_of(candidates)]
    return Asked(
        image, scorer.prepare(image), images, [arrays for arrays in kept if arrays is not None]
    )


def compare_pairs(queries: Sequence[Asked], *, rounds: int) -> dict[str, list[Timing]]:
    """Tables for each number of candidates, and what one candidate more costs."""
    scorer, patient, tables = InlierScorer(), InlierScorer(stop_share=0.0), {}
    for num in NUM_CANDIDATES:
        few = [one.first(num) for one in queries]
        if any(len(one.arrays) < num for one in few):
            break
        ways: dict[str, Callable[[], list[list[int]]]] = {
            USUAL: lambda few=few: [usual_way(one, scorer) for one in few],
            SAME_CHECKS: lambda few=few: [same_checks(one, scorer) for one in few],
            QUERY_ONCE: lambda few=few: [
                same_checks(one, scorer, is_query_detected_once=True) for one in few
            ],
            KEPT_ARRAYS: lambda few=few: [our_way(one, scorer) for one in few],
            NONE_PASSED_OVER: lambda few=few: [our_way(one, patient) for one in few],
            DESCRIBED_NOW: lambda few=few: [
                our_way(one, scorer, is_described_now=True) for one in few
            ],
        }
        counts = {name: way() for name, way in ways.items()}
        notes = {
            name: f"inliers: best {[max(row) for row in found]}, sum {sum(map(sum, found))}"
            for name, found in counts.items()
        }
        title = f"{num} candidates, the whole query"
        tables[title] = compare(
            title, ways, peer=USUAL, items=len(queries), rounds=rounds, notes=notes
        )
        show_equality(counts)
    show_one_more(tables)
    return tables


def show_equality(counts: Mapping[str, list[list[int]]]) -> None:
    """Print how many counts of ours equal those of the peer with the same checks, and list those
    that do not."""
    for name in (NONE_PASSED_OVER, KEPT_ARRAYS):
        pairs = [
            pair
            for rows in zip(counts[SAME_CHECKS], counts[name], strict=True)
            for pair in zip(*rows, strict=True)
        ]
        unequal = [pair for pair in pairs if pair[0] != pair[1]]
        bests = [(max(a), max(b)) for a, b in zip(counts[SAME_CHECKS], counts[name], strict=True)]
        listed = f"; not (theirs, ours): {unequal}" if unequal else ""
        print(
            f"  {name}: {len(pairs) - len(unequal)} of {len(pairs)} counts equal to those of "
            f"{SAME_CHECKS!r}{listed}"
        )
        print(f"    best candidates: {sum(a == b for a, b in bests)} of {len(bests)} equal")


def show_one_more(tables: Mapping[str, list[Timing]]) -> None:
    """Print what one candidate more costs: the slope between two numbers of candidates."""
    steps = list(zip(NUM_CANDIDATES, tables.values(), strict=False))
    for (few, cheap), (many, dear) in itertools.pairwise(steps):
        slopes = {
            b.name: (b.cpu_ms - a.cpu_ms) / (many - few) for a, b in zip(cheap, dear, strict=True)
        }
        print(
            f"\none candidate more, between {few} and {many}: CPU ms; times faster than the three "
            "ways of detecting anew"
        )
        for name, slope in slopes.items():
            ratios = ", ".join(
                f"{slopes[peer] / slope:.1f}" for peer in (USUAL, SAME_CHECKS, QUERY_ONCE)
            )
            print(f"  {name:<42}{slope:>9.3f}   {ratios}")


def show_stages(localizer: Localizer, queries: list[Path]) -> None:
    """Print the median and the 95th percentile of `locate`, and each stage's share."""
    spent, totals = [], []
    for query in queries:
        started = time.perf_counter()
        spent.append(localizer.locate(query).seconds)
        totals.append(time.perf_counter() - started)
    median, late = np.percentile(totals, 50), np.percentile(totals, 95)
    print(
        f"\nlocate, {len(localizer.photos)} photos, 20 candidates, {len(queries)} queries: median "
        f"{median:.3f} s, 95 % {late:.3f} s"
    )
    whole = sum(sum(stages.values()) for stages in spent)
    for stage in spent[0]:
        print(f"  {stage:<10}{100 * sum(stages[stage] for stages in spent) / whole:6.1f} %")


def main() -> None:
    """Render, index, compare."""
    parser = options("Verification against detecting and matching every pair anew")
    parser.add_argument(
        "--photos", type=int, default=1000, help="photos in the database (default 1000)"
    )
    parser.add_argument(
        "--side", type=int, default=1024, help="long side of the photos in pixels (default 1024)"
    )
    parser.add_argument(
        "--city",
        help="folder of a city that is there already, with a database in whence's form beside it",
    )
    parser.add_argument(
        "--queries",
        type=int,
        default=2,
        help="queries that are compared with their candidates (default 2)",
    )
    arguments = parser.parse_args()
    num_photos, side = (130, 640) if arguments.quick else (arguments.photos, arguments.side)
    set_threads(1)
    with tempfile.TemporaryDirectory() as made:
        root = Path(arguments.city or made)
        if arguments.city is None:
            capture = CaptureOptions(width=side, height=3 * side // 4)
            cities = (CitySize("city00", "", num_photos, 40, 0),)
            render_world(
                root,
                preset="tiny",
                seed=7,
                options=WorldOptions(capture=capture, cities=cities),
                show_progress=False,
            )
        build = BuildOptions(keep_local=True)
        path = root / "rootsift-vlad.whence"
        localizer = Localizer.build(
            root / "database", path=path, options=build, show_progress=False
        )
        set_threads(1)
        queries = read_folders(root).queries
        files = [queries.file(row) for row in range(len(queries))][:40]
        asked = [
            ask(localizer, file, InlierScorer())
            for file in files[:: max(1, len(files) // arguments.queries)][: arguments.queries]
        ]
        tables = compare_pairs(asked, rounds=1 if arguments.quick else arguments.rounds)
        show_stages(localizer, files)
        localizer.close()
    save(arguments.json, tables)


if __name__ == "__main__":
    main()
