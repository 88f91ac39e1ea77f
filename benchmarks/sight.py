"""Descriptors on small real sets, retrieval alone: recall@1, 5 and 20, and what describing a photo costs on one thread.

    WHENCE_TEST_DATA=FOLDER python benchmarks/sight.py [--models A,B] [--sets A,B] [--packaged] [--opencv]

Each model is fitted on the set's database where it is fitted at all; `--packaged` takes the state that comes with Whence instead.
Positives are those listed; stromovka and Gardens Point count frames beside (1 and 2), Nordland is every fourth frame and the very
same one; wxbs is searched among the photos of San Francisco too. Times are CPU seconds a photo from its file, decoding included.
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

from whence.models.descriptor import load_model
from whence.runtime import set_threads

MODELS = ("lite0-grid-256", "lite0-gem-192", "lite0-both-448", "rootsift-vlad", "whence-resnet18conv4-gem-256")
NS = (1, 5, 20)
NUM_TIMED = 25


class RealSet(NamedTuple):
    """Photos of a set, and for each query which rows of the database are right and which do not count."""

    database: list[Path]
    queries: list[Path]
    right: list[set[int]]
    passed_over: list[set[int]]


def listed(folder: Path, table: str, *, database: str = "", beside: Path | None = None) -> RealSet:
    """A set whose table lists each query's positives and, in a column of its own, what is passed over."""
    names = (folder / database).read_text().split() if database else []
    names = names or sorted(f"database/{path.name}" for path in (folder / "database").iterdir())
    row_of = {name: row for row, name in enumerate(names)}
    queries, right, passed_over = [], [], []
    with open(folder / table, newline="", encoding="utf-8") as file:
        for line in csv.DictReader(file):
            rows = {row_of[name] for name in line["positives"].split(";") if name in row_of}
            if rows:
                queries.append(folder / line["query"])
                right.append(rows)
                others = [line["query"], *(line.get("ignore") or "").split(";")]
                passed_over.append({row_of[name] for name in others if name in row_of})
    more = sorted((beside / "images").iterdir()) if beside else []
    return RealSet([*(folder / name for name in names), *more], queries, right, passed_over)


def frames(database: Path, queries: Path, *, beside: int, step: int = 1) -> RealSet:
    """Two walks along one way, frame by frame."""
    first, second = (sorted(folder.iterdir())[::step] for folder in (database, queries))
    right = [{row for row in range(len(first)) if abs(row - frame) <= beside} for frame in range(len(second))]
    return RealSet(first, second, right, [set() for _ in second])


def open_set(name: str, data: Path) -> RealSet:
    """The set of this name under the folder of real sets."""
    folder = data / name
    if name == "gardens-point-thumbs":
        return frames(folder / "ref", folder / "query", beside=2)
    if name == "nordland-64x32":
        return frames(folder / "summer", folder / "winter", beside=0, step=4)
    if name == "stromovka-seasons":
        return listed(folder, "positives_pm1.csv")
    if name == "sf-phone-photos":
        return listed(folder, "positives_west.csv", database="database_west.txt")
    if name == "corridor-loop":
        return listed(folder, "positives.csv", database="database.txt")
    return listed(folder, "positives.csv", beside=data / "sf-phone-photos" if name == "wxbs" else None)


SETS = (
    "stockholm-buildings",
    "stromovka-seasons",
    "gardens-point-thumbs",
    "corridor-loop",
    "sf-phone-photos",
    "wxbs",
    "nordland-64x32",
)


def ranks(real: RealSet, database: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """For each query the rank (from 1) of the first right photo."""
    found = np.zeros(len(queries), int)
    for i, similarities in enumerate(queries @ database.T):
        similarities[list(real.passed_over[i])] = -np.inf
        order = np.argsort(-similarities, kind="stable")
        found[i] = 1 + int(np.argmax(np.isin(order, list(real.right[i]))))
    return found


def measure(name: str, model_name: str, real: RealSet, *, is_packaged: bool) -> None:
    """Print one line: recalls, and the time a photo."""
    model = load_model(model_name)
    if is_packaged and not model.is_fitted:
        model.load_packaged()
    how = model.prepare(real.database)
    database = model.describe(real.database)
    model.describe(real.queries[:2])
    started, timed = time.process_time(), real.queries[:NUM_TIMED]
    model.describe(timed)
    seconds = (time.process_time() - started) / len(timed)
    found = ranks(real, database, model.describe(real.queries))
    shares = " / ".join(f"{100 * np.mean(found <= n):.0f}" for n in NS)
    state = "packaged" if is_packaged and how == "ready" else how
    print(
        f"{name:<22}{len(found):>5}{len(database):>6}  {model_name:<30}{shares:<16}{1000 * seconds:>7.0f} ms  {state}", flush=True
    )


def main() -> None:
    """Measure every model on every set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument("--packaged", action="store_true", help="the state that comes with Whence in place of a fitted one")
    parser.add_argument("--opencv", action="store_true", help="as where onnxruntime is not installed")
    given = parser.parse_args()
    if given.opencv:
        sys.modules["onnxruntime"] = None  # type: ignore[assignment]
    set_threads(1)
    data = Path(os.environ["WHENCE_TEST_DATA"])
    for name in given.sets.split(","):
        real = open_set(name, data)
        for model_name in given.models.split(","):
            measure(name, model_name, real, is_packaged=given.packaged)


if __name__ == "__main__":
    main()
