"""Descriptors on small real sets, retrieval alone: recall@1, 5 and 20, and what describing a photo
costs on one thread.

    WHENCE_TEST_DATA=FOLDER python benchmarks/sight.py [--models A,B] [--sets A,B] [--against C]
                                                       [--packaged] [--opencv] [--json F]

Each model is fitted on the set's database where it is fitted at all; `--packaged` takes the state
that comes with Whence instead. Positives are those listed; stromovka and Gardens Point count frames
beside (1 and 2), Nordland is every fourth frame and the very same one; wxbs is searched among the
photos of San Francisco too. Times are CPU seconds a photo from its file, decoding included.

`--against` prints for every set, and over all of them, how much more of the queries a model has at
rank 1 than this one, query by query, with the 95 % interval of 2,000 draws of the queries.
`--sets choice` are the sets that choices were made on, and no claim rests on: both corridors, three
fixed cameras (each photo asks for another of its camera), a rendered room (every third frame is the
database); a star says that queries were cropped to 60 to 85 %, turned by up to 10 degrees and
tilted.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
import time
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from whence.data.images import load_image
from whence.models.descriptor import load_model
from whence.runtime import atomic_write, set_threads

MODELS = (
    "whence-lite0-words-960",
    "whence-lite0-448",
    "lite0-both-448",
    "rootsift-vlad",
    "whence-resnet18conv4-gem-256",
)
NS = (1, 5, 20)
NUM_TIMED = 25
NUM_DRAWS = 2000


class RealSet(NamedTuple):
    """Photos of a set, and for each query which rows of the database are right and which do not
    count."""

    database: list[Path]
    queries: list[Path | np.ndarray]
    right: list[set[int]]
    passed_over: list[set[int]]


def listed(folder: Path, table: str, *, database: str = "", beside: Path | None = None) -> RealSet:
    """A set whose table lists each query's positives and, in a column of its own, what is passed
    over."""
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
    right = [
        {row for row in range(len(first)) if abs(row - frame) <= beside}
        for frame in range(len(second))
    ]
    return RealSet(first, second, right, [set() for _ in second])


def open_set(name: str, data: Path) -> RealSet:
    """The set of this name under the folder of real sets; with a star after it, asked by photos
    taken otherwise."""
    if name.endswith("*"):
        plain, random = open_set(name[:-1], data), np.random.default_rng(5)
        return plain._replace(
            queries=[taken_otherwise(load_image(file), random) for file in plain.queries]
        )
    folder = data / name
    if name == "corridor":
        right = [
            set(map(int, rows))
            for _, rows in np.load(folder / "ground_truth_new.npy", allow_pickle=True)
        ]
        return frames(folder / "ref", folder / "query", beside=0)._replace(right=right)
    if name == "webcams":
        files = sorted(folder.glob("*/*.jpg"))
        same = [
            {row for row, other in enumerate(files) if other.parent == file.parent}
            for file in files
        ]
        return RealSet(
            files,
            list(files),
            [rows - {i} for i, rows in enumerate(same)],
            [{i} for i in range(len(files))],
        )
    if name == "new-tsukuba-sequence":
        files = sorted(folder.glob("*.png"))
        places = np.loadtxt(folder / "cam_traj_truth.txt")[::2, :3]
        asked = [i for i in range(len(files)) if i % 3]
        right = [{int(np.linalg.norm(places[::3] - places[i], axis=1).argmin())} for i in asked]
        return RealSet(files[::3], [files[i] for i in asked], right, [set() for _ in asked])
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
    return listed(
        folder, "positives.csv", beside=data / "sf-phone-photos" if name == "wxbs" else None
    )


def taken_otherwise(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """A crop of an image (H, W, 3), turned and tilted a little, at the image's size."""
    height, width = image.shape[:2]
    size = np.array([width, height]) * random.uniform(0.6, 0.85)
    middle = random.uniform(0, 1, 2) * ([width, height] - size) + size / 2
    turn = np.deg2rad(random.uniform(-10, 10))
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) / 2 * size
    corners = corners @ [[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]] + middle
    corners += random.uniform(-0.05, 0.05, (4, 2)) * size
    whole = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    to_whole = cv2.getPerspectiveTransform(corners.astype(np.float32), whole)
    return cv2.warpPerspective(image, to_whole, (width, height), borderMode=cv2.BORDER_REFLECT)


CHOICE = (
    "corridor",
    "corridor*",
    "corridor-loop",
    "corridor-loop*",
    "webcams*",
    "new-tsukuba-sequence",
    "new-tsukuba-sequence*",
)
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


def measure(name: str, model_name: str, real: RealSet, *, is_packaged: bool) -> np.ndarray:
    """The ranks of the first right photos (Q,); prints one line: recalls, and the time a photo."""
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
        (
            f"{name:<22}{len(found):>5}{len(database):>6}  "
            f"{model_name:<30}{shares:<16}{1000 * seconds:>7.0f} ms  {state}"
        ),
        flush=True,
    )
    return found


def gain_of(right: np.ndarray, other: np.ndarray) -> list[float]:
    """By how many percent of the queries (Q,) more are right than another way has it, and the ends
    of the 95 % interval."""
    gains = right.astype(float) - other
    draws = np.random.default_rng(0).integers(0, len(gains), (NUM_DRAWS, len(gains)))
    low, high = np.percentile(gains[draws].mean(axis=1), [2.5, 97.5])
    return [round(100 * float(value), 1) for value in (gains.mean(), low, high)]


def print_gain(
    name: str, model_name: str, against: str, ranks: np.ndarray, other: np.ndarray
) -> list[float]:
    """Print and give the difference in recall@1 of ranks (Q,), in percent of the queries, and the
    ends of its interval."""
    figures = gain_of(ranks == 1, other == 1)
    print(
        "{:<22}{:>5} queries: {} against {}: {:+.1f} [{:+.1f}, {:+.1f}]".format(
            name, len(ranks), model_name, against, *figures
        )
    )
    return figures


def main() -> None:
    """Measure every model on every set."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument(
        "--against", help="a model that each of the others is compared with, query by query"
    )
    parser.add_argument("--json", metavar="FILE", help="also write all figures as JSON")
    parser.add_argument(
        "--packaged",
        action="store_true",
        help="the state that comes with Whence in place of a fitted one",
    )
    parser.add_argument(
        "--opencv", action="store_true", help="as where onnxruntime is not installed"
    )
    arguments = parser.parse_args()
    if arguments.opencv:
        sys.modules["onnxruntime"] = None  # type: ignore[assignment]
    set_threads(1)
    data = Path(os.environ["WHENCE_TEST_DATA"])
    models = arguments.models.split(",")
    models += [arguments.against] if arguments.against and arguments.against not in models else []
    kept: dict[str, dict[str, np.ndarray]] = {model: {} for model in models}
    for name in CHOICE if arguments.sets == "choice" else arguments.sets.split(","):
        real = open_set(name, data)
        for model in models:
            kept[model][name] = measure(name, model, real, is_packaged=arguments.packaged)
    gains: dict[str, dict[str, list[float]]] = {}
    for model in models if arguments.against else ():
        if model != arguments.against:
            pairs = {
                name: (found, kept[arguments.against][name]) for name, found in kept[model].items()
            }
            pairs["all"] = (
                np.concatenate([a for a, _ in pairs.values()]),
                np.concatenate([b for _, b in pairs.values()]),
            )
            gains[model] = {
                name: print_gain(name, model, arguments.against, *pair)
                for name, pair in pairs.items()
            }
    if arguments.json:
        ranks_of = {
            model: {name: found.tolist() for name, found in of.items()}
            for model, of in kept.items()
        }
        with atomic_write(Path(arguments.json)) as file:
            file.write(
                json.dumps(
                    {"ranks": ranks_of, "gains": gains, "against": arguments.against}
                ).encode()
            )


if __name__ == "__main__":
    main()
