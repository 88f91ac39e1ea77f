"""The revisited Oxford and Paris sets: landmarks, and for each query which photos show it easily,
hardly, or too badly to count.

After Radenovic, Iscen, Tolias, Avrithis, Chum: Revisiting Oxford and Paris, CVPR 2018. Their ground
truth is a pickle, which runs what it holds when it is read: it is refused, and a JSON file of the
same fields is read instead.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from whence.data.formats import EvaluationSet
from whence.data.images import load_image
from whence.data.layouts import DEFAULT_OPTIONS, existing_photos, require_photos
from whence.data.photos import Photos
from whence.data.scan import ReadOptions
from whence.data.tables import read_text
from whence.errors import NoPhotos, UnreadableTable
from whence.lists import NeighborLists

GRADES = ("easy", "hard", "junk")


@dataclass(frozen=True)
class RevisitedSet:
    """N photos of a database and Q queries."""

    name: str
    database: Photos
    queries: Photos
    boxes: np.ndarray
    """(Q, 4) left, upper, right, lower edge of the landmark in each query, pixels; NaN for the
    whole photo."""
    easy: NeighborLists
    """Database rows that show each query's landmark easily, ..."""
    hard: NeighborLists
    """... hardly, ..."""
    junk: NeighborLists
    """... and in a way that neither counts for a method nor against it."""

    def query_pixels(self, query: int) -> np.ndarray:
        """The landmark alone, cut out of the query's photo: uint8 (H, W, 3). Raises
        `UnreadableImage`."""
        image, box = load_image(self.queries.file(query)), self.boxes[query]
        if not np.isfinite(box).all():
            return image
        left, upper = np.maximum(np.floor(box[:2]).astype(int), 0)
        right, lower = np.ceil(box[2:]).astype(int)
        cut = image[upper:lower, left:right]
        return cut if cut.size else image

    def as_set(self) -> EvaluationSet:
        """Easy and hard photos as what is right for each query, its whole photo asking."""
        rows = [
            np.union1d(self.easy.of(query), self.hard.of(query))
            for query in range(len(self.queries))
        ]
        return EvaluationSet(self.name, self.database, self.queries, positives=_lists(rows))


def read_revisited(root: str | Path, *, options: ReadOptions = DEFAULT_OPTIONS) -> RevisitedSet:
    """A set whose folder has jpg/NAME.jpg and gnd_SET.json, the authors' fields as JSON: imlist,
    qimlist, gnd.

    Each entry of gnd has easy, hard and junk, numbers of imlist, and bbx, the box. Photos that are
    not there are left out of the lists; queries that are not there, of the set. Raises
    `UnreadableTable` and `NoPhotos`.
    """
    root = Path(root)
    file = _ground_truth(root)
    try:
        truth = json.loads(read_text(file))
        names, asked = (
            [str(name) for name in truth["imlist"]],
            [str(name) for name in truth["qimlist"]],
        )
        graded = [_entry(entry, len(names)) for entry in truth["gnd"]]
    except (ValueError, KeyError, TypeError) as error:
        raise UnreadableTable(
            file, f"not the fields imlist, qimlist, gnd with easy, hard, junk and bbx: {error!r}"
        ) from None
    if len(graded) != len(asked):
        raise UnreadableTable(file, f"{len(asked)} queries and {len(graded)} entries of gnd")
    database, kept = existing_photos([_photo(root, name) for name in names], root, options)
    queries, here = existing_photos([_photo(root, name) for name in asked], root, options)
    row_of = np.full(len(names), -1, np.int64)
    row_of[kept] = np.arange(len(kept))
    lists = {grade: _lists([row_of[graded[query][0][grade]] for query in here]) for grade in GRADES}
    boxes = np.array([graded[query][1] for query in here]).reshape(-1, 4)
    return RevisitedSet(
        file.stem.removeprefix("gnd_"),
        require_photos(database, root),
        require_photos(queries, root),
        boxes,
        **lists,
    )


def _ground_truth(root: Path) -> Path:
    found = sorted(root.glob("gnd_*.json"))
    if found:
        return found[0]
    pickled = sorted(root.glob("gnd_*.pkl"))
    if pickled:
        name = pickled[0].name
        raise UnreadableTable(
            pickled[0],
            "a pickle runs what it holds when it is read, and is not read here. Where you trust "
            "its origin, write it as JSON once, "
            'in this folder: python -c "import json, pickle; '
            f"json.dump(pickle.load(open({name!r}, {'rb'!r})), "
            f'open({pickled[0].with_suffix(".json").name!r}, {"w"!r}), default=list)"',
        )
    raise NoPhotos(f"no ground truth gnd_*.json in {str(root)!r}")


def _entry(entry: Any, num: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Numbers by grade, and the box. Raises `ValueError`."""
    numbers = {grade: np.array(entry[grade], np.int64).reshape(-1) for grade in GRADES}
    for grade, rows in numbers.items():
        if len(rows) and not 0 <= rows.min() <= rows.max() < num:
            raise ValueError(f"{grade} names photo {int(rows.max())} of {num}")
    box = np.array(entry.get("bbx", ()) or [np.nan] * 4, float)
    if box.shape != (4,):
        raise ValueError(f"bbx has {box.size} numbers, not 4")
    return numbers, box


def _lists(rows: Sequence[np.ndarray]) -> NeighborLists:
    kept = [np.unique(part[part >= 0]) for part in rows]
    counts = [len(part) for part in kept]
    return NeighborLists(
        np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        np.concatenate([*kept, np.empty(0, np.int64)]),
    )


def _photo(root: Path, name: str) -> Path:
    return root / "jpg" / (name if name.endswith(".jpg") else f"{name}.jpg")
