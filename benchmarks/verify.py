"""Verification: comparing a query with its candidates, our way and the usual way; and what each stage of `locate` takes.

    python benchmarks/verify.py [--photos N] [--side PX] [--rounds N] [--json FILE]

The usual way detects keypoints in both photos of every pair, matches by brute force and estimates with RANSAC. Ours keeps what can
be made once: the database's side in the database, the query's side from its description. Photos are decoded beforehand for both.
The sum of inliers over the candidates stands beside the times: the work is the same. Photos are rendered.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import faiss  # noqa: F401  (imported so that its threads are bounded too)
import numpy as np
from side_by_side import compare, options, save

from whence.data.formats import read_folders
from whence.localize.localizer import RETRIEVE_ONLY, Localizer
from whence.matching.geometry import GeometrySettings
from whence.matching.matchers import DEFAULT_RATIO, InlierScorer
from whence.models.local import LocalDescriptors
from whence.runtime import set_threads
from whence.settings import BuildOptions
from whence.worlds.capture import CaptureOptions
from whence.worlds.city import WorldOptions, render_world
from whence.worlds.presets import CitySize

NUM_CANDIDATES = (5, 20, 100)


def usual_way(query: np.ndarray, candidates: list[np.ndarray], scorer: InlierScorer) -> int:
    """Detect in both, brute force with the ratio test, RANSAC; the sum of inliers."""
    matcher, total = cv2.BFMatcher(cv2.NORM_L2), 0
    for image in candidates:
        a, b = scorer.extractor.extract(query), scorer.extractor.extract(image)
        pairs = [pair[0] for pair in matcher.knnMatch(a.descriptors, b.descriptors, k=2) if is_clear(pair)]
        if len(pairs) < scorer.noise_inliers:
            continue
        points0 = np.array([a.keypoints[pair.queryIdx] for pair in pairs])
        points1 = np.array([b.keypoints[pair.trainIdx] for pair in pairs])
        threshold = GeometrySettings().threshold_for(b.image_size_px)
        _, mask = cv2.findHomography(points0, points1, cv2.RANSAC, threshold)
        inliers = 0 if mask is None else int(mask.sum())
        total += inliers if inliers >= scorer.noise_inliers else 0
    return total


def is_clear(pair: tuple[cv2.DMatch, ...]) -> bool:
    """Whether the nearest descriptor passes the ratio test."""
    return len(pair) == 2 and pair[0].distance < DEFAULT_RATIO * pair[1].distance


def our_way(prepared: dict[str, np.ndarray], kept: list[dict[str, np.ndarray]], scorer: InlierScorer) -> int:
    """The inlier scorer over arrays that are there; the sum of inliers."""
    return int(sum(found.similarity for found in scorer.score(prepared, kept) if found is not None))


def compare_pairs(localizer: Localizer, query: Path, *, rounds: int) -> dict[str, list]:
    """Tables for each number of candidates."""
    scorer, tables = InlierScorer(), {}
    store, model = localizer.store, localizer.model
    candidates = localizer.locate(query, k=max(NUM_CANDIDATES), options=RETRIEVE_ONLY).candidates
    contents = [localizer.photos.columns["content"][one.row].decode() for one in candidates]
    kept = [store.read_cache(f"{store.card_id}.local", content) for content in contents]
    asked = model.read(query)
    images = [model.read(file) for file in localizer.files_of(candidates)]
    prepared = scorer.prepare(asked)
    print(f"{len(LocalDescriptors.from_arrays(prepared).keypoints)} keypoints in the query")
    for num in NUM_CANDIDATES:
        if num > len(candidates):
            break
        few_images, few_kept = images[:num], kept[:num]
        ways: dict[str, Callable[[], object]] = {
            "detect both, brute force, RANSAC": lambda few=few_images: usual_way(asked, few, scorer),
            "kept, the query described before": lambda few=few_kept: our_way(prepared, few, scorer),
            "kept, the query described now": lambda few=few_kept: our_way(scorer.prepare(asked), few, scorer),
        }
        notes = {name: f"{way()} inliers" for name, way in ways.items()}
        title = f"{num} candidates, per candidate"
        tables[title] = compare(title, ways, peer="detect both, brute force, RANSAC", items=num, rounds=rounds, notes=notes)
    return tables


def show_stages(localizer: Localizer, queries: list[Path]) -> None:
    """Print the median and the 95th percentile of `locate`, and each stage's share."""
    spent, totals = [], []
    for query in queries:
        started = time.perf_counter()
        spent.append(localizer.locate(query).seconds)
        totals.append(time.perf_counter() - started)
    median, late = np.percentile(totals, 50), np.percentile(totals, 95)
    print(
        f"\nlocate, {len(localizer.photos)} photos, 20 candidates, {len(queries)} queries: median {median:.3f} s, 95 % {late:.3f} s"
    )
    whole = sum(sum(stages.values()) for stages in spent)
    for stage in spent[0]:
        print(f"  {stage:<10}{100 * sum(stages[stage] for stages in spent) / whole:6.1f} %")


def main() -> None:
    """Render, index, compare."""
    parser = options("Verification against detecting and matching every pair anew")
    parser.add_argument("--photos", type=int, default=1000, help="photos in the database (default 1000)")
    parser.add_argument("--side", type=int, default=1024, help="long side of the photos in pixels (default 1024)")
    parser.add_argument("--city", help="folder of a city that is there already, with a database in whence's form beside it")
    given = parser.parse_args()
    num_photos, side = (130, 640) if given.quick else (given.photos, given.side)
    set_threads(1)
    with tempfile.TemporaryDirectory() as made:
        root = Path(given.city or made)
        if given.city is None:
            capture = CaptureOptions(width=side, height=3 * side // 4)
            cities = (CitySize("city00", "", num_photos, 40, 0),)
            render_world(root, preset="tiny", seed=7, options=WorldOptions(capture=capture, cities=cities), show_progress=False)
        build = BuildOptions(keep_local=True)
        path = root / "rootsift-vlad.whence"
        localizer = Localizer.build(root / "database", path=path, options=build, show_progress=False)
        set_threads(1)
        queries = read_folders(root).queries
        files = [queries.file(row) for row in range(len(queries))][:40]
        tables = compare_pairs(localizer, files[0], rounds=1 if given.quick else given.rounds)
        show_stages(localizer, files)
        localizer.close()
    save(given.json, tables)


if __name__ == "__main__":
    main()
