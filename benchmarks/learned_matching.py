"""ALIKED with LightGlue on real photos: pairs with known geometry beside RootSIFT, and queries that
stay unknown without it.

    WHENCE_TEST_DATA=FOLDER python benchmarks/learned_matching.py [--sets A,B] [--model NAME]
                                                                  [--again SCORER] [--json FILE]

Its weights have to be in the cache (`whence models --fetch aliked-lightglue`); `--again` names
another scorer for the second look, as whence-local, which needs none. Pairs: right where
known points are mapped to within 5 px of where they belong in the median (and what the landmarks'
own error adds; 15 px on stromovka, where one shift stands for the whole photo), wrong where a match
is called that is not right. RootSIFT as `whence match` does it, with its probability; the learned
matcher as the scorer does it, at 512 px with 512 keypoints, only chance ruled out. Seconds are CPU
of one thread, describing included. Queries: `locate` as it is without a second look, then with one;
right where the first candidate is a listed positive, or the place is within 25 m. "strangers":
photos of places that the database does not show; every answer is wrong.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import faiss  # noqa: F401  (imported so that its threads are bounded too)
import matchers
import numpy as np
import wide_baseline
from sight import RealSet, listed, open_set
from wide_baseline import RIGHT_PX, Pair

from whence.data.metadata import read_metadata
from whence.geo import distance_m
from whence.localize.localizer import Localizer, LocateOptions
from whence.localize.retrieve import Retriever
from whence.localize.unknown import AUTO_SCORER
from whence.matching.matchers import MatchOptions, match_images
from whence.registry import build
from whence.runtime import set_threads
from whence.settings import BuildOptions
from whence.types import Candidate, GeoPoint, Position

SHIFT_PX = 15.0
NEAR_M = 25.0
NUM_STRANGERS = 12
NUM_DARK = 10
"""Photos of each webcam that ask: the darkest. Its brighter half is asked."""
NUM_OF_A_KIND = 4
"""Pairs of each kind of multimodal-srif."""
EVERY = {"stromovka": 3, "drone-brighton": 5}
"""Of large sets of pairs every so manyth."""


def planar(pairs: Iterator[matchers.Pair]) -> Iterator[Pair]:
    """Pairs of the benchmark of matchers."""
    for one in pairs:
        yield Pair(
            one.name,
            one.file0,
            one.file1,
            one.points0,
            one.points1,
            limit_px=RIGHT_PX + one.own_error_px,
        )


def by_matrix(name: str, file0: Path, file1: Path, matrix: np.ndarray) -> Pair:
    """A pair with a known homography."""
    return Pair(name, file0, file1, *wide_baseline.grid_of(matrix, file0, file1))


def rows_of(file: Path) -> list[dict[str, str]]:
    """The rows of a CSV file."""
    with open(file, newline="", encoding="utf-8") as opened:
        return list(csv.DictReader(opened))


def stromovka_pairs(folder: Path) -> Iterator[Pair]:
    """Autumn and snow, with the shift between them."""
    for row in rows_of(folder / "displacements.csv"):
        name = f"{int(row['frame']):03d}.jpg"
        files = folder / "database" / name, folder / "queries" / name
        if files[0].is_file():
            matrix = np.array([[1, 0, float(row["dx"])], [0, 1, float(row["dy"])], [0, 0, 1]])
            yield by_matrix(name, *files, matrix)._replace(limit_px=SHIFT_PX)


def srif_pairs(folder: Path) -> Iterator[Pair]:
    """The first pairs of each kind."""
    of_kind = itertools.groupby(
        rows_of(folder / "gt.csv"), key=lambda row: row["image_1"].split("/")[0]
    )
    for _, rows in of_kind:
        there = (row for row in rows if (folder / row["image_1"]).is_file())
        for row in itertools.islice(there, NUM_OF_A_KIND):
            numbers = [float(row[name]) for name in ("a11", "a12", "tx", "a21", "a22", "ty")]
            matrix = np.array([*numbers, 0, 0, 1]).reshape(3, 3)
            yield by_matrix(
                row["image_1"], folder / row["image_1"], folder / row["image_2"], matrix
            )


def drone_pairs(folder: Path) -> Iterator[Pair]:
    """Photos straight down, with homographies that SIFT found."""
    for row in rows_of(folder / "pairs.csv"):
        matrix = np.array([float(row[f"h{i}{j}"]) for i in range(3) for j in range(3)]).reshape(
            3, 3
        )
        yield by_matrix(row["image_a"], folder / row["image_a"], folder / row["image_b"], matrix)


def wide_pairs(root: Path, model: str, start: str = "") -> Iterator[Pair]:
    """Pairs of the benchmark of wide baselines."""
    for one in wide_baseline.read_pairs(root):
        if one.model == model and one.name.startswith(start):
            yield Pair(*one)


def pair_sets(root: Path) -> dict[str, Callable[[], Iterator[Pair]]]:
    """Sets of pairs by name."""
    return {
        "wxbs": lambda: wide_pairs(root, "fundamental"),
        "stromovka": lambda: stromovka_pairs(root / "stromovka-seasons"),
        "evd": lambda: wide_pairs(root, "homography", "evd"),
        "homography-pairs": lambda: planar(matchers.homography_pairs(root / "homography-pairs")),
        "oxford-graf": lambda: planar(matchers.graf_pairs(root / "oxford-graf")),
        "multimodal-pairs": lambda: planar(matchers.multimodal_pairs(root / "multimodal-pairs")),
        "multimodal-srif": lambda: srif_pairs(root / "multimodal-srif"),
        "drone-brighton": lambda: drone_pairs(root / "drone-brighton"),
    }


def compare_pairs(name: str, pairs: Iterator[Pair]) -> dict[str, Any]:
    """Right and wrong of both matchers on a set of pairs."""
    chosen = list(pairs)[:: EVERY.get(name, 1)]
    learned = build("scorer", AUTO_SCORER).matcher
    record: dict[str, Any] = {"set": name, "pairs": len(chosen)}
    for what, side, matcher in (("rootsift", 640, None), (AUTO_SCORER, 512, learned)):
        started, right, wrong = time.process_time(), 0, 0
        for pair in chosen:
            options = MatchOptions(long_side_px=side, geometry=pair.model)
            found = match_images(pair.file0, pair.file1, options=options, matcher=matcher)
            is_near = (
                wide_baseline.error_px(found.matrix, wide_baseline.Pair(*pair[:6])) <= pair.limit_px
            )
            right, wrong = right + is_near, wrong + (found.is_match and not is_near)
        record[what] = {
            "right": right,
            "wrong": wrong,
            "seconds": (time.process_time() - started) / max(len(chosen), 1),
        }
        print(
            (
                f"{name:<22}{len(chosen):>4} pairs  {what:<18}{right:>4} right{wrong:>4} "
                f"wrong{record[what]['seconds']:>8.2f} s a pair"
            ),
            flush=True,
        )
    return record


class Question(NamedTuple):
    """A query, and whether an answer is right; None for a stranger."""

    file: Path
    is_right: Callable[[Position], bool]
    passed_over: frozenset[str] = frozenset()
    """Names of database photos that are no answer, itself among them where it is one."""


class Asked(NamedTuple):
    """Photos of a database, and what it is asked."""

    database: list[Path]
    questions: list[Question]


class Others(Retriever):
    """All candidates but those that a question passes over."""

    without: frozenset[str]

    def ask(self, *arguments: Any, k: int, **named: Any) -> tuple[Candidate, ...]:
        found = super().ask(*arguments, k=k + len(self.without), **named)
        left = [one for one in found if self.photos.file(one.row).name not in self.without][:k]
        return tuple(replace(one, rank=rank) for rank, one in enumerate(left, start=1))


def photos_in(folder: Path) -> list[Path]:
    """The photos of a folder."""
    return sorted(
        path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png")
    )


def of_list(folder: Path, table: str, *, database: str = "", beside: Path | None = None) -> Asked:
    """A set with listed positives."""
    return of_set(listed(folder, table, database=database, beside=beside))


def of_set(real: RealSet) -> Asked:
    """A set of the benchmark of sight."""
    names = [{real.database[row].name for row in rows} for rows in real.right]

    def is_right(names: set[str]) -> Callable[[Position], bool]:
        return lambda found: Path(found.candidates[0].photo).name in names

    out = [frozenset(real.database[row].name for row in rows) for rows in real.passed_over]
    asked = zip(real.queries, names, out, strict=True)
    return Asked(
        real.database, [Question(file, is_right(some), others) for file, some, others in asked]
    )


def leave_one_out(folder: Path) -> Asked:
    """Geotagged photos that ask one another."""
    files = photos_in(folder)

    def is_right(truth: GeoPoint | None) -> Callable[[Position], bool]:
        return lambda found: (
            truth is not None
            and found.point is not None
            and distance_m(found.point, truth) <= NEAR_M
        )

    return Asked(
        files,
        [
            Question(file, is_right(read_metadata(file).point), frozenset({file.name}))
            for file in files
        ],
    )


def strangers(database: list[Path], queries: list[Path]) -> Asked:
    """Photos of somewhere else."""
    return Asked(
        database,
        [
            Question(file, lambda found: False)
            for file in queries[:: max(1, len(queries) // NUM_STRANGERS)]
        ],
    )


def webcams_by_night(folder: Path) -> Asked:
    """The bright photos of all cameras, asked with dark ones."""
    with open(folder / "images.csv", newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if (folder / row["image"]).is_file()]
    database, questions = list[Path](), list[Question]()
    for camera in sorted({row["camera"] for row in rows}):
        own = sorted(
            (row for row in rows if row["camera"] == camera),
            key=lambda row: float(row["mean_brightness"]),
        )
        database += [folder / row["image"] for row in own[len(own) // 2 :]]
        questions += [Question(folder / row["image"], _shows(camera)) for row in own[:NUM_DARK]]
    return Asked(database, questions)


def _shows(camera: str) -> Callable[[Position], bool]:
    return lambda found: Path(found.candidates[0].photo).parent.name == camera


def answer_sets(root: Path) -> dict[str, Callable[[], Asked]]:
    """Questions by name; those that end in "strangers" have no right answer."""
    town, loop = root / "stockholm-buildings", root / "corridor-loop"
    webcams = photos_in(root / "webcams")
    cameras = sorted({path.parent.name for path in webcams})
    walk = photos_in(loop)
    tsukuba = photos_in(root / "new-tsukuba-sequence")
    street = root / "geotagged-lund-berlin" / "lund"
    return {
        "corridor-loop answers": lambda: of_list(loop, "positives.csv", database="database.txt"),
        "webcams answers": lambda: webcams_by_night(root / "webcams"),
        "webcams strangers": lambda: strangers(
            [path for path in webcams if path.parent.name != cameras[0]],
            [path for path in webcams if path.parent.name == cameras[0]],
        ),
        "new-tsukuba strangers": lambda: strangers(walk, tsukuba),
        "corridor strangers": lambda: strangers(tsukuba, walk),
        "stockholm answers": lambda: of_list(town, "positives.csv"),
        "lund strangers": lambda: strangers(photos_in(town / "database"), photos_in(street)),
        "lund answers": lambda: leave_one_out(street),
        "wxbs answers": lambda: of_list(
            root / "wxbs", "positives.csv", beside=root / "sf-phone-photos"
        ),
        "sf answers": lambda: of_list(
            root / "sf-phone-photos", "positives_west.csv", database="database_west.txt"
        ),
        "gardens answers": lambda: of_set(open_set("gardens-point-thumbs", root)),
        "stromovka answers": lambda: of_list(root / "stromovka-seasons", "positives_pm1.csv"),
    }


def compare_answers(name: str, photos: Asked, *, model: str, scorer: str) -> dict[str, Any]:
    """Answers without and with a second look."""
    counts = dict.fromkeys(("right", "wrong", "unknown", "right again", "wrong again"), 0)
    seconds = []
    with tempfile.TemporaryDirectory() as made:
        options = BuildOptions(model=model, keep_local=True)
        sources = [str(file) for file in photos.database]
        with Localizer.build(
            *sources, path=Path(made) / "a.whence", options=options, show_progress=False
        ) as localizer:
            set_threads(1)
            others = Others(
                localizer.store.photos, localizer.store.descriptor_rows, localizer.retriever.index
            )
            once, again = (
                localizer.judge(LocateOptions(when_unknown=how)) for how in ("none", scorer)
            )
            once, again = replace(once, retriever=others), replace(again, retriever=others)
            for question in photos.questions:
                others.without = question.passed_over
                described = next(once.describe([question.file]))
                assert not isinstance(described, Exception)
                found = once.answer("", described, k=20, around=None, seconds={})
                if found.status != "unknown":
                    counts["right" if question.is_right(found) else "wrong"] += 1
                    continue
                counts["unknown"] += 1
                started = time.process_time()
                found = again.answer(
                    "", described, k=20, around=None, seconds={}, source=question.file
                )
                seconds.append(time.process_time() - started)
                if found.status != "unknown":
                    counts["right again" if question.is_right(found) else "wrong again"] += 1
                    if not question.is_right(found):
                        best = found.candidates[0]
                        print(
                            f"   wrong: {question.file.name} is {best.photo}, {best.num_inliers} "
                            f"inliers, {found.confidence:.3f}"
                        )
    mean = float(np.mean(seconds)) if seconds else 0.0
    answered = f"{counts['right']} right, {counts['wrong']} wrong, {counts['unknown']} unknown"
    then = f"{counts['right again']} right, {counts['wrong again']} wrong; {mean:.1f} s a query"
    print(
        f"{name:<22}{len(photos.questions):>4} queries: {answered}; of these asked again {then}",
        flush=True,
    )
    return {"set": name, "queries": len(photos.questions), **counts, "seconds": mean}


def main() -> int:
    """Match, ask, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sets", help="names of sets, separated by commas (default all)")
    parser.add_argument(
        "--model",
        default=BuildOptions().model,
        help="of the databases that are asked (default %(default)s)",
    )
    parser.add_argument(
        "--again", default=AUTO_SCORER, help="what looks a second time (default %(default)s)"
    )
    parser.add_argument("--json", metavar="FILE", help="also write the figures as JSON")
    arguments = parser.parse_args()
    if not os.environ.get("WHENCE_TEST_DATA"):
        print("WHENCE_TEST_DATA is not set: there is nothing to measure")
        return 1
    root = Path(os.environ["WHENCE_TEST_DATA"])
    set_threads(1)
    pairs, answers = pair_sets(root), answer_sets(root)
    records = []
    for name in arguments.sets.split(",") if arguments.sets else [*pairs, *answers]:
        is_pairs = name in pairs
        records.append(
            compare_pairs(name, pairs[name]())
            if is_pairs
            else compare_answers(
                name, answers[name](), model=arguments.model, scorer=arguments.again
            )
        )
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(records, indent=1), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
