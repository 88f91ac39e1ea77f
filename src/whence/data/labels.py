"""Photos with a picture of classes each: a town of IDDA as a set of a database and queries."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from whence.data.formats import EvaluationSet
from whence.data.layouts import DEFAULT_OPTIONS, existing_photos, labels_beside, require_photos
from whence.data.photos import Photos
from whence.data.scan import ReadOptions, list_photos
from whence.errors import NoPhotos, UnknownName, UnreadableImage

IDDA_CLASSES = (
    "road", "sidewalk", "building", "wall", "fence", "pole", "light", "sign", "vegetation",
    "terrain", "sky", "person", "rider", "vehicle", "truck", "motorcycle", "bicycle",
)  # fmt: skip
"""The classes that are learned, in the order of their numbers."""
NO_CLASS = 255
_OF_RAW = {
    1: 2, 2: 4, 4: 11, 5: 5, 6: 0, 7: 0, 8: 1, 9: 8, 10: 13, 11: 3, 12: 7, 13: 6, 16: 16, 17: 15,
    18: 12, 19: 9, 20: 10, 26: 14,
}  # fmt: skip
"""Numbers of `IDDA_CLASSES` by IDDA's own; those that are left out are of no class."""
_TABLE = np.full(256, NO_CLASS, np.uint8)
_TABLE[list(_OF_RAW)] = list(_OF_RAW.values())


@dataclass(frozen=True)
class LabelledSet:
    """A database and queries of one town, with the picture of classes and the side of every
    photo."""

    set: EvaluationSet
    database_labels: tuple[Path, ...]
    query_labels: tuple[Path, ...]
    database_views: np.ndarray
    """(N,) front, rear, left or right."""
    query_views: np.ndarray


def read_labelled_set(
    root: str | Path, *, town: str = "", options: ReadOptions = DEFAULT_OPTIONS
) -> LabelledSet:
    """IDDA's tree: images/town/gallery and queries_*, with classes beside. Photos without classes
    are left out.

    Raises `UnknownName` for a town that is not there, and `NoPhotos`.
    """
    base = Path(root) / "images"
    towns = (
        sorted(folder.name for folder in base.iterdir() if (folder / "gallery").is_dir())
        if base.is_dir()
        else []
    )
    if not towns:
        raise NoPhotos(
            f"no folder images/TOWN/gallery in {str(root)!r}: photos with classes lie as IDDA's"
        )
    if town and town not in towns:
        raise UnknownName(f"town in {str(root)!r}", town, towns)
    folder = base / (town or towns[0])
    roles = sorted(
        path.name for path in folder.iterdir() if path.is_dir() and path.name.startswith("queries_")
    )
    asked = [
        role
        for role in roles
        if not role.startswith(("queries_labels", "queries_depth", "queries_unknown"))
    ]
    database, queries = _side(folder, ["gallery"], options), _side(folder, asked, options)
    return LabelledSet(
        EvaluationSet(folder.name, database[0], queries[0]),
        database[1],
        queries[1],
        database[2],
        queries[2],
    )


def _side(
    folder: Path, roles: list[str], options: ReadOptions
) -> tuple[Photos, tuple[Path, ...], np.ndarray]:
    pairs = [
        (Path(file), labels_beside(file, folder / role))
        for role in roles
        for file in list_photos(folder / role)
    ]
    pairs = [pair for pair in pairs if pair[1].is_file()]
    photos, kept = existing_photos([file for file, _ in pairs], folder, options)
    views = [
        next((part for part in pairs[k][0].parts if part in ("front", "rear", "left", "right")), "")
        for k in kept
    ]
    return require_photos(photos, folder), tuple(pairs[k][1] for k in kept), np.array(views)


def read_classes(path: Path, *, size_px: tuple[int, int] | None = None) -> np.ndarray:
    """Numbers of `IDDA_CLASSES` (H, W) uint8 of a picture of classes, `NO_CLASS` for others, at a
    width and height.

    Raises `UnreadableImage`.
    """
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise UnreadableImage(path, "not a picture of classes")
    classes = _TABLE[image[..., 2]]
    return (
        classes
        if size_px is None
        else np.asarray(cv2.resize(classes, size_px, interpolation=cv2.INTER_NEAREST))
    )
