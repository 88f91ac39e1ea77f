"""A database for hloc and from it: descriptors, keypoints, matches of pairs, and places, under
names that pairs use."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from whence.data.feature_files import (
    PairMatches,
    PhotoDescriptor,
    PhotoKeypoints,
    read_descriptors,
    write_descriptors,
    write_keypoints,
    write_matches,
)
from whence.data.photos import Photos
from whence.data.predictions import photo_names, read_hloc_pairs
from whence.data.scan import scan_photos
from whence.errors import BadOption, NoPhotos, UnreadableTable
from whence.index.store import Store
from whence.localize.build import open_or_create, tidy
from whence.localize.sources import stored_paths
from whence.matching.matchers import match_descriptors
from whence.models.descriptor import load_model
from whence.models.local.sift import LocalDescriptors
from whence.runtime import atomic_write
from whence.settings import BuildOptions

DESCRIPTORS, KEYPOINTS, MATCHES, POSITIONS = (
    "global-descriptors.h5",
    "keypoints.h5",
    "matches.h5",
    "positions.txt",
)


class HlocExport(NamedTuple):
    """What was written."""

    num_descriptors: int
    num_keypoints: int
    """Photos whose keypoints the database keeps."""
    num_matches: int
    """Pairs."""
    num_positions: int


def export_hloc(
    path: str | Path,
    folder: str | Path,
    *,
    root: str | Path | None = None,
    pairs: str | Path | None = None,
) -> HlocExport:
    """A report of what a database knows, written to a folder, photos named from `root` or as in the
    database.

    Descriptors, kept keypoints (in pixels of the photos), mutual nearest neighbours of the
    keypoints of `pairs` (a file as hloc writes it), and positions as COLMAP's model aligner takes
    them: name, latitude, longitude, altitude. Raises `InputError` for names that pairs cannot hold,
    `MissingExtra`, `UnreadableTable` and as `Store.open` does.
    """
    folder = Path(folder)
    with Store.open(path) as store:
        photos, rows = store.photos, store.descriptor_rows
        photos, rows = photos.select(rows >= 0), rows[rows >= 0]
        names = photo_names(photos, root)
        ordered = [names[one] for one in photos.paths]
        features = _Kept(store, photos, dict(zip(ordered, range(len(photos)), strict=True)))
        name_pairs = (
            []
            if pairs is None
            else [
                (one.query, found.photo)
                for one in read_hloc_pairs(pairs)
                for found in one.candidates
            ]
        )
        for name in dict.fromkeys(name for pair in name_pairs for name in pair):
            if name not in features.rows:
                raise BadOption(
                    f"{str(pairs)!r} names {name!r}, which is no photo of the database; its "
                    f"photos are like {ordered[0]!r}"
                )
        folder.mkdir(parents=True, exist_ok=True)
        write_descriptors(
            folder / DESCRIPTORS,
            (
                PhotoDescriptor(name, store.descriptors[row], features.size(at))
                for at, (name, row) in enumerate(zip(ordered, rows.tolist(), strict=True))
            ),
        )
        has_local = [row for row in range(len(photos)) if features.has(row)]
        if has_local:
            write_keypoints(
                folder / KEYPOINTS,
                (features.keypoints(ordered[row], row) for row in has_local),
            )
        if name_pairs:
            write_matches(folder / MATCHES, features.matches(name_pairs))
        with atomic_write(folder / POSITIONS, "w") as file:
            placed = np.flatnonzero(photos.has_point).tolist()
            for row in placed:
                altitude = float(photos.columns["altitude_m"][row])
                known = altitude if np.isfinite(altitude) else 0.0
                file.write(
                    f"{ordered[row]} {photos.lat[row]:.9f} {photos.lon[row]:.9f} {known:.3f}\n"
                )
    return HlocExport(len(ordered), len(has_local), features.num_matched, len(placed))


def import_hloc(
    file: str | Path,
    *,
    path: str | Path,
    photos: str | Path,
    model: str,
    positions: str | Path | None = None,
) -> int:
    """The number of photos under a folder whose descriptors, in hloc's format, became the database
    `path`.

    `model` is what describes queries: the network that the descriptors are of. Photos that the file
    lacks are left out. Raises `NoPhotos` where it has none of them, `UnreadableTable` for another
    dimension, and `MissingExtra`.
    """
    scanned = scan_photos(photos, positions=positions)
    opened = load_model(model)
    if not opened.is_fitted:
        raise BadOption(
            f"{opened.name} is fitted on a database's own photos, and a file of descriptors does "
            "not hold that"
        )
    told = {one.name: one.descriptor for one in read_descriptors(file)}
    names = [
        scanned.file(row).resolve().relative_to(Path(photos).resolve()).as_posix()
        for row in range(len(scanned))
    ]
    rows = np.array([row for row, name in enumerate(names) if name in told], np.int64)
    if not len(rows):
        example = f"; it names them like {next(iter(told))!r}" if told else ""
        raise NoPhotos(
            f"{str(file)!r} describes none of the {len(scanned)} photos under "
            f"{str(photos)!r}{example}"
        )
    dims = {len(told[names[row]]) for row in rows.tolist()}
    if dims != {opened.dim}:
        raise UnreadableTable(
            file,
            f"its descriptors have {sorted(dims)} dimensions, those of {opened.name} {opened.dim}",
        )
    matrix = np.stack([told[names[row]] for row in rows.tolist()])
    matrix /= np.maximum(np.linalg.norm(matrix, axis=1, keepdims=True), 1e-12)
    named = Photos(
        stored_paths(scanned, Path(path)), scanned.columns, root=Path(path).parent
    ).select(rows)
    with open_or_create(
        Path(path), opened, BuildOptions(model=opened.name, model_options=opened.options)
    ) as store:
        store.add(named, contents=named.content, descriptors=matrix)
        tidy(store)
        return store.num_photos


class _Kept:
    """The keypoints that a database keeps of its photos."""

    def __init__(self, store: Store, photos: Photos, rows: dict[str, int]) -> None:
        self.store, self.photos, self.rows, self.num_matched = store, photos, rows, 0

    def size(self, row: int) -> tuple[int, int]:
        return int(self.photos.columns["width"][row]), int(self.photos.columns["height"][row])

    def has(self, row: int) -> bool:
        return self._record(row) is not None

    def keypoints(self, name: str, row: int) -> PhotoKeypoints:
        """Those of a photo in its own pixels; they were found in a smaller picture."""
        local = self._local(row)
        width, height = self.size(row)
        scale = np.array([width, height], np.float32) / np.maximum(local.image_size_px, 1)
        points = (local.keypoints + 0.5) * scale - 0.5
        return PhotoKeypoints(
            name, points, local.descriptors, np.ones(len(points), np.float32), (width, height)
        )

    def matches(self, pairs: list[tuple[str, str]]) -> Iterator[PairMatches]:
        """Mutual nearest neighbours of each pair, once."""
        seen: set[frozenset[str]] = set()
        for first, second in pairs:
            if frozenset((first, second)) in seen or not (
                self.has(self.rows[first]) and self.has(self.rows[second])
            ):
                continue
            seen.add(frozenset((first, second)))
            one, other = (
                self._local(self.rows[first]).descriptors,
                self._local(self.rows[second]).descriptors,
            )
            found = match_descriptors(one, other)
            self.num_matched += 1
            similarities = (one[found.rows0] * other[found.rows1]).sum(axis=1)
            yield PairMatches(
                first, second, np.stack([found.rows0, found.rows1], axis=1), similarities, len(one)
            )

    def _local(self, row: int) -> LocalDescriptors:
        record = self._record(row)
        assert record is not None, "asked with `has` before"
        return LocalDescriptors.from_arrays(record)

    def _record(self, row: int) -> dict[str, np.ndarray] | None:
        content = self.photos.content[row]
        key = content.decode() if isinstance(content, bytes) else str(content)
        found = (self.store.read_cache(name, key) for name in self.store.ledger.shards)
        return next(
            (one for one in found if one is not None and "keypoints" in one and "sizes_px" in one),
            None,
        )
