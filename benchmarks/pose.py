"""Localization by pose with only the retrieval model changed: shortlist, local matches, PnP with
the world's depth.

    whence world city FOLDER --preset small --truth depth
    python benchmarks/pose.py FOLDER [--models whence-lite0-448 rootsift-vlad] [--shortlist 5]
                              [--queries 60] [--json]
    WHENCE_TEST_WEIGHTS=FOLDER python benchmarks/pose.py FOLDER --models
                              --matchers rootsift-mnn whence-local aliked-mnn

With `--matchers` what changes is what matches: a name, FILE of what a training of local features
wrote, or QUERY_FILE:MAP_FILE for queries by one and photos of the database by another; the
milliseconds of describing a query are CPU of one thread. Prints the share of queries within 0.25 m
and 2 degrees, 0.5 m and 5, 5 m and 10 and the median distance (a query without a pose is farther
than all), and the same of a shortlist by the true nearest cameras, which no retrieval exceeds by
much.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import os
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from whence.data.formats import read_folders
from whence.data.images import load_image
from whence.evaluation.poses import THRESHOLDS, KnownView, estimate_pose, pose_errors, shares_within
from whence.matching.asymmetric import AsymmetricNearest
from whence.matching.matchers import match_images
from whence.models.descriptor import load_model
from whence.models.local.own import open_own_features
from whence.parts import Matcher, prepare_query
from whence.registry import build
from whence.runtime import set_threads


def cameras(folder: Path) -> dict[str, dict[str, Any]]:
    """K, R, t of every photo by its path."""
    found = {}
    with open(folder / "cameras.csv", newline="") as file:
        for row in csv.DictReader(file):
            k = np.array(
                [
                    [float(row["fx"]), 0, float(row["cx"])],
                    [0, float(row["fy"]), float(row["cy"])],
                    [0, 0, 1],
                ]
            )
            rotation = np.array(
                [float(row[f"r{i}{j}"]) for i in range(3) for j in range(3)]
            ).reshape(3, 3)
            found[row["path"]] = {
                "k": k,
                "r": rotation,
                "t": np.array([float(row[f"t{i}"]) for i in range(3)]),
            }
    return found


def open_matcher(name: str) -> Matcher:
    """A matcher by name, upright, ALIKED's with its weights out of the folder of
    WHENCE_TEST_WEIGHTS; or of one file or two."""
    if name.endswith(".safetensors"):
        *queries, database = (open_own_features(weights=file) for file in name.split(":"))
        return AsymmetricNearest(database, queries[0] if queries else database)
    weights = os.environ.get("WHENCE_TEST_WEIGHTS", "")
    return build(
        "matcher", name, options={"weights": weights} if weights and "aliked" in name else {}
    )


def main() -> None:
    """Print one line for each way to make the shortlist."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument(
        "--matchers",
        nargs="+",
        default=["rootsift-mnn"],
        help="what matches a query with its shortlist",
    )
    parser.add_argument("--models", nargs="*", default=["whence-lite0-448", "rootsift-vlad"])
    parser.add_argument("--shortlist", type=int, default=5)
    parser.add_argument("--queries", type=int, default=60, help="at most so many, evenly spread")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    arguments = parser.parse_args()
    set_threads(1)
    data, poses = read_folders(arguments.folder), cameras(arguments.folder)
    rows = np.unique(np.linspace(0, len(data.queries) - 1, arguments.queries).round().astype(int))
    database = [f"database/{path}" for path in data.database.paths]
    queries = [f"queries/{data.queries.paths[row]}" for row in rows]
    centres = [
        np.array([-poses[path]["r"].T @ poses[path]["t"] for path in paths])
        for paths in (database, queries)
    ]
    shortlists = {
        "true nearest": np.linalg.norm(centres[1][:, None] - centres[0], axis=2).argsort(
            axis=1, kind="stable"
        )
    }
    for name in arguments.models:
        model, files = load_model(name), [arguments.folder / path for path in database]
        model.prepare(files)
        similarity = (
            model.query_model.describe([arguments.folder / path for path in queries])
            @ model.describe(files).T
        )
        shortlists[name] = (-similarity).argsort(axis=1, kind="stable")
    for (name, order), matched_by in itertools.product(shortlists.items(), arguments.matchers):
        matcher = open_matcher(matched_by)
        started, errors, spent = time.perf_counter(), [], []
        for path, candidates in zip(queries, order[:, : arguments.shortlist], strict=True):
            matches = []
            image, before = load_image(arguments.folder / path), time.process_time()
            prepare_query(matcher, image)
            spent.append(1000 * (time.process_time() - before))
            for candidate in candidates:
                other = database[candidate]
                depth = cv2.imread(
                    str((arguments.folder / "depth" / other).with_suffix(".png")),
                    cv2.IMREAD_UNCHANGED,
                )
                view = KnownView(
                    depth / 100, poses[other]["k"], poses[other]["r"], poses[other]["t"]
                )
                found = match_images(
                    arguments.folder / path, arguments.folder / other, matcher=matcher
                )
                matches.append((found.points0, found.points1, view))
            pose = estimate_pose(matches, poses[path]["k"])
            errors.append(
                None if pose is None else pose_errors(pose, poses[path]["r"], poses[path]["t"])
            )
        shares, seconds = shares_within(errors), (time.perf_counter() - started) / len(queries)
        median_m = float(np.median([np.inf if error is None else error[0] for error in errors]))
        if arguments.json:
            print(
                json.dumps(
                    {
                        "shortlist": name,
                        "matcher": matched_by,
                        "query_ms": float(np.median(spent)),
                        "within": shares,
                        "median_m": median_m,
                        "seconds_per_query": round(seconds, 3),
                    }
                )
            )
        else:
            said = "  ".join(
                f"{m:g} m {d:g} deg {100 * s:.1f} %"
                for (m, d), s in zip(THRESHOLDS, shares, strict=True)
            )
            cost = f"{np.median(spent):.0f} ms to describe a query, {seconds:.2f} s a query in all"
            said += f"  median {median_m:.2f} m"
            print(f"{name:<20}{matched_by:<24}{said}  {cost}, {len(queries)} queries", flush=True)


if __name__ == "__main__":
    main()
