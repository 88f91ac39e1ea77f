"""Small databases of real photos: 1, 2, 3 and 10 photos, one place or several, with and without
coordinates.

    WHENCE_TEST_DATA=FOLDER python benchmarks/small_databases.py [--photos N] [--json FILE]

Each photo of a set makes small databases: with the photos that are known to show the same place (an
album or a burst), and with photos drawn from the set. Asked are the photo itself (its pixels, not
its bytes), other photos of the place, and strangers: photos of another set or of another building.
Other photos are also asked of the whole set without themselves, which is what they are held
against. Nothing was fitted on these photos. Questions go the way of `locate`: descriptor,
candidates, inliers, verification.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import faiss  # noqa: F401  (imported so that its threads are bounded too)
import numpy as np

from whence.data.photos import Photos
from whence.data.scan import scan_photos
from whence.geo import distance_m
from whence.localize.calibration_files import find_calibration, key_of
from whence.localize.prepared_photos import PreparedPhotos
from whence.localize.rerank import rerank
from whence.localize.rerank_options import RerankOptions
from whence.localize.verify import agreements_of, verify
from whence.models.descriptor import DescriptorModel, load_model
from whence.runtime import progress, set_threads
from whence.types import Calibration, Candidate, GeoPoint

SIZES = (1, 2, 3, 10)
NUM_CANDIDATES = 20
SAME_PLACE_M = 15.0


@dataclass
class PhotoSet:
    """Photos with what is known of them."""

    name: str
    files: list[Path]
    same: dict[int, set[int]]
    """Rows of photos that show the same place."""
    points: list[GeoPoint | None]
    descriptors: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    local: list[dict[str, np.ndarray]] = field(default_factory=list)


@dataclass
class Tally:
    """How many of the questions of one kind were answered."""

    answers: dict[str, int] = field(default_factory=dict)
    questions: dict[str, int] = field(default_factory=dict)

    def add(self, kind: str, is_answered: bool) -> None:
        self.questions[kind] = self.questions.get(kind, 0) + 1
        self.answers[kind] = self.answers.get(kind, 0) + is_answered

    def share(self, kind: str) -> str:
        num = self.questions.get(kind, 0)
        return (
            f"{self.answers.get(kind, 0)}/{num} ({100 * self.answers.get(kind, 0) / num:.1f} %)"
            if num
            else "-"
        )


class Asker:
    """Asks databases that are rows of one table of photos."""

    def __init__(
        self, model: DescriptorModel, calibration: Calibration, sets: Sequence[PhotoSet]
    ) -> None:
        self.calibration = calibration
        self.sets = sets
        self.material = PreparedPhotos.for_options(RerankOptions(), Photos.of([]))
        self.descriptors = np.concatenate([one.descriptors for one in sets])
        self.local = [arrays for one in sets for arrays in one.local]
        self.points = [point for one in sets for point in one.points]
        self.material.of_row = lambda row: self.local[row]  # type: ignore[method-assign]

    def is_answered(self, query: int, database: Iterable[int], *, has_points: bool) -> bool:
        """Whether a photo gets an answer from a database of these rows."""
        rows = np.array(sorted(set(database)))
        similarities = self.descriptors[rows] @ self.descriptors[query]
        order = np.argsort(-similarities, kind="stable")[:NUM_CANDIDATES]
        candidates = [
            Candidate(
                str(rows[i]),
                rank,
                float(similarities[i]),
                row=int(rows[i]),
                point=self.points[rows[i]] if has_points else None,
            )
            for rank, i in enumerate(order, start=1)
        ]
        done = rerank(
            candidates, query=self.local[query], material=self.material, options=RerankOptions()
        ).candidates
        return verify(done, self.calibration, agreements=agreements_of(done, self.material))[
            1
        ].is_accepted


def read_sets(root: Path, *, at_most: int) -> list[PhotoSet]:
    """The sets that are there, at most so many photos of each."""
    sets = []
    for name, folders in (
        ("stockholm-buildings", ("database", "queries")),
        ("geotagged-lund-berlin/lund", ("images",)),
        ("drone-brighton", ("images",)),
        ("corridor-loop", ("images",)),
        ("sf-phone-photos", ("images",)),
    ):
        files = [
            file
            for folder in folders
            for file in sorted((root / name / folder).glob("*.[jJ][pP]*[gG]"))
        ][:at_most]
        if files:
            points = points_of(root / name, files)
            sets.append(
                PhotoSet(name.split("/")[0], files, same_places(root / name, files, points), points)
            )
    return sets


def points_of(folder: Path, files: Sequence[Path]) -> list[GeoPoint | None]:
    """Where photos were taken: by EXIF, or as the set's own table of a phone's fixes says."""
    table = folder / "images.csv"
    if table.is_file():
        with table.open(encoding="utf-8", newline="") as file:
            rows = {Path(row["image"]).name: row for row in csv.DictReader(file)}
        if rows and "phone_lat" in next(iter(rows.values())):
            return [
                GeoPoint(float(row["phone_lat"]), float(row["phone_lon"]))
                if (row := rows.get(one.name))
                else None
                for one in files
            ]
    photos = scan_photos(*files, show_progress=False)
    known = {photos.file(row).name: photos[row].point for row in range(len(photos))}
    return [known.get(one.name) for one in files]


def same_places(
    folder: Path, files: Sequence[Path], points: Sequence[GeoPoint | None]
) -> dict[int, set[int]]:
    """Photos that show the same place: by the set's list, by the names of buildings, else taken
    within 15 m of each other."""
    row_of = {file.name: row for row, file in enumerate(files)}
    same: dict[int, set[int]] = {}
    pairs: list[tuple[str, str]] = []
    for table in folder.glob("positives*.csv"):
        with table.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                pairs += [
                    (Path(row["query"]).name, Path(name).name)
                    for name in row["positives"].split(";")
                    if name
                ]
    if folder.name == "stockholm-buildings":
        pairs += [(a, b) for a in row_of for b in row_of if a != b and building(a) == building(b)]
    for a, b in pairs:
        if a in row_of and b in row_of:
            same.setdefault(row_of[a], set()).add(row_of[b])
            same.setdefault(row_of[b], set()).add(row_of[a])
    if not pairs:
        for a, point in enumerate(points):
            for b, other in enumerate(points):
                if (
                    a != b
                    and point is not None
                    and other is not None
                    and distance_m(point, other) <= SAME_PLACE_M
                ):
                    same.setdefault(a, set()).add(b)
    return same


def building(name: str) -> str:
    """The building in a name of the Stockholm set."""
    return name.split("_")[0]


def ask_set(
    asker: Asker, which: int, tallies: dict[tuple[str, str, int], Tally], *, has_points: bool
) -> None:
    """Make the small databases of one set and ask them."""
    one = asker.sets[which]
    start = sum(len(before.files) for before in asker.sets[:which])
    everything = np.arange(len(asker.local))
    own = everything[start : start + len(one.files)]
    elsewhere = np.setdiff1d(everything, own)
    random = np.random.default_rng(which)
    coordinates = "with" if has_points else "without"
    with progress(f"{one.name}, {coordinates} coordinates", total=len(own)) as advance:
        whole: dict[int, bool] = {}
        for row in range(len(own)):
            near = sorted(one.same.get(row, ()), key=lambda other, row=row: abs(other - row))
            for size in SIZES:
                drawn = random.choice(
                    np.delete(np.arange(len(own)), row), min(size - 1, len(own) - 1), replace=False
                )
                for what, rest in (("one place", near[: size - 1]), ("several", drawn.tolist())):
                    tally = tallies.setdefault((coordinates, what, size), Tally())
                    database = [row, *rest]
                    tally.add(
                        "own",
                        asker.is_answered(
                            start + row, start + np.array(database), has_points=has_points
                        ),
                    )
                    for other in [other for other in near if other not in database][:2]:
                        if other not in whole:
                            remaining = np.delete(own, other)
                            whole[other] = asker.is_answered(
                                start + other, remaining, has_points=has_points
                            )
                        tally.add(
                            "other",
                            asker.is_answered(
                                start + other, start + np.array(database), has_points=has_points
                            ),
                        )
                        tally.add("other, of the whole set", whole[other])
                    stranger = int(random.choice(elsewhere))
                    tally.add(
                        "stranger",
                        asker.is_answered(
                            stranger, start + np.array(database), has_points=has_points
                        ),
                    )
            advance(1)


def main() -> int:
    """Describe, ask, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--photos", type=int, default=40, help="photos of each set at most (default 40)"
    )
    parser.add_argument("--json", metavar="FILE", help="also write the figures as JSON")
    arguments = parser.parse_args()
    root = os.environ.get("WHENCE_TEST_DATA")
    if not root:
        print("WHENCE_TEST_DATA is not set: there is nothing to measure")
        return 1
    set_threads(1)
    model = load_model("rootsift-vlad")
    model.load_packaged()
    sets = read_sets(Path(root), at_most=arguments.photos)
    for one in sets:
        found = list(model.describe_each(one.files, keep_local=True))
        one.descriptors = np.stack([entry.descriptor for entry in found])  # type: ignore[union-attr]
        one.local = [dict(entry.local) for entry in found]  # type: ignore[union-attr, arg-type]
    material = PreparedPhotos.for_options(RerankOptions(), Photos.of([]))
    asker = Asker(model, find_calibration(key_of(model.card.card_id, material)), sets)
    tallies: dict[tuple[str, str, int], Tally] = {}
    for which, one in enumerate(sets):
        ask_set(asker, which, tallies, has_points=False)
        if any(point is not None for point in one.points):
            ask_set(asker, which, tallies, has_points=True)
    kinds = ("own", "other", "other, of the whole set", "stranger")
    pooled: dict[str, Tally] = {}
    print(
        f"{'coordinates':<13}{'photos of':<12}{'size':>4}  "
        + "".join(f"{kind:<26}" for kind in kinds)
    )
    for (coordinates, what, size), tally in sorted(tallies.items()):
        print(
            f"{coordinates:<13}{what:<12}{size:>4}  "
            + "".join(f"{tally.share(kind):<26}" for kind in kinds)
        )
        total = pooled.setdefault(coordinates, Tally())
        for kind in tally.questions:
            total.questions[kind] = total.questions.get(kind, 0) + tally.questions[kind]
            total.answers[kind] = total.answers.get(kind, 0) + tally.answers[kind]
    for coordinates, tally in pooled.items():
        print(
            f"{coordinates:<13}{'all':<16}  "
            + "".join(f"{tally.share(kind):<26}" for kind in kinds)
        )
    if arguments.json:
        rows = [
            {
                "coordinates": key[0],
                "photos_of": key[1],
                "size": key[2],
                "answered": tally.answers,
                "asked": tally.questions,
            }
            for key, tally in sorted(tallies.items())
        ]
        Path(arguments.json).write_text(json.dumps(rows, indent=1), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
