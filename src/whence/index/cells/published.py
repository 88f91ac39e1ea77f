"""Divide&Classify's published weights as cells: which class each row of a classifier stands for,
which their file does not say.

The authors' program gathers the classes of a group in a set of Python's, and numbers them as that
lists them; so the numbers follow from the training's photos, in their order, and from how CPython
hashes pairs of whole numbers (the same since version 3.8).
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from whence.data.placed_files import PlacedFiles
from whence.errors import InputError, NoPhotos
from whence.geo import parse_zone
from whence.index.cells.classifier import CellClassifier
from whence.lists import group_rows

CELL_M, NUM_APART, MIN_PHOTOS = 20, 2, 10
"""What the published weights were trained with."""


class PublishedClasses(NamedTuple):
    """K classes, group after group, in the order of the rows of the authors' classifiers."""

    corners: np.ndarray
    """(K, 2) int64 east and north in metres at which each cell begins."""
    sizes: list[int]
    """Classes of each group."""
    num_photos: np.ndarray
    """(K,) int64 photos of each class."""


def published_classes(
    east_m: np.ndarray,
    north_m: np.ndarray,
    *,
    cell_m: int = CELL_M,
    num_apart: int = NUM_APART,
    min_photos: int = MIN_PHOTOS,
) -> PublishedClasses:
    """The classes as the authors number them, of photos (N,) in their order, which is that of the
    sorted paths.

    Cells with fewer photos are left out before. Raises `NoPhotos` where none is left.
    """
    is_placed = np.isfinite(east_m) & np.isfinite(north_m)
    east, north = ((column[is_placed] // cell_m).astype(np.int64) for column in (east_m, north_m))
    span = int(np.ptp(north)) + 1 if len(north) else 1
    low = int(north.min(initial=0))
    alike = group_rows(east * span + (north - low))
    kept = np.flatnonzero(alike.rows.counts >= min_photos)
    firsts, num_photos = alike.rows.members[alike.rows.offsets[:-1][kept]], alike.rows.counts[kept]
    groups: dict[tuple[int, int], set[tuple[int, int]]] = {}
    for row in np.sort(firsts).tolist():
        cell = (int(east[row]), int(north[row]))
        groups.setdefault((cell[0] % num_apart, cell[1] % num_apart), set()).add(
            (cell[0] * cell_m, cell[1] * cell_m)
        )
    if not groups:
        raise NoPhotos(
            f"no cell of {cell_m} m has {min_photos} photos: these are not the photos of the "
            "training"
        )
    corners = np.array([corner for group in groups.values() for corner in group], np.int64)
    keys = corners[:, 0] // cell_m * span + (corners[:, 1] // cell_m - low)
    return PublishedClasses(
        corners,
        [len(group) for group in groups.values()],
        num_photos[np.searchsorted(alike.keys[kept], keys)],
    )


def import_published(weights: str | Path, files: PlacedFiles, *, model: str) -> CellClassifier:
    """The cells of a file of published weights, with the photos it was trained on, in the order of
    their sorted paths.

    `model` is the name or file of the network in the same file. Raises `UnreadableWeights`, and
    `InputError` where the photos are not those: their groups have other numbers of classes than the
    file.
    """
    from whence.models.checkpoints.classifiers import read_classifiers

    _require_sorted(files)
    learned = read_classifiers(weights)
    classes = published_classes(files.east_m, files.north_m)
    sizes, wanted = classes.sizes, [len(group.weight) for group in learned]
    if sizes != wanted:
        raise InputError(
            f"{str(weights)!r} has groups of {wanted} classes, and {len(files):,} photos under "
            f"{str(files.root)!r} make groups of {sizes}: give the list of exactly the photos it "
            "was trained on, raw/train/database of SF-XL for the published file"
        )
    biases = [group.bias for group in learned if group.bias is not None]
    return CellClassifier(
        np.concatenate([group.weight for group in learned]),
        classes.corners.astype(np.float64),
        float(CELL_M),
        _zone(files),
        model,
        np.repeat(np.arange(len(sizes)), sizes),
        classes.num_photos,
        np.concatenate(biases) if len(biases) == len(learned) else None,
    )


def _require_sorted(files: PlacedFiles) -> None:
    """Raises `InputError` for a list in another order than that of its paths: classes would be
    taken for others."""
    before = ""
    for row in range(len(files)):
        name = files.names.of(row)
        if name < before:
            raise InputError(
                f"the list of the photos under {str(files.root)!r} is not sorted: {name!r:.120} "
                f"comes after {before!r:.120}. "
                "The order tells which class is which; sort it:  LC_ALL=C sort -o LIST LIST"
            )
        before = name


def _zone(files: PlacedFiles) -> str:
    """The zone of most photos; the authors' program looks at none."""
    if isinstance(files.zone, str):
        zone = files.zone
    else:
        names, counts = np.unique(files.zone, return_counts=True)
        zone = names[counts.argmax()].decode()
    if zone:
        parse_zone(zone)
    return zone
