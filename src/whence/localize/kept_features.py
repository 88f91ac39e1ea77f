"""What a database keeps of its photos for other programs, and a database of what they described."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from whence.data.feature_files import PairMatches, PhotoDescriptor, PhotoKeypoints
from whence.data.photos import Photos
from whence.data.predictions import photo_names, read_hloc_pairs
from whence.errors import BadOption, NoPhotos, UnreadableTable
from whence.index.store import Store
from whence.localize.build import open_or_create, tidy
from whence.localize.sources import stored_paths
from whence.matching.matchers import match_descriptors
from whence.models.descriptor import DescriptorModel, load_model
from whence.models.local.sift import LocalDescriptors
from whence.settings import BuildOptions


class Exported(NamedTuple):
    """What was written."""

    num_descriptors: int
    num_keypoints: int
    """Photos whose keypoints the database keeps."""
    num_matches: int
    """Pairs."""
    num_positions: int

    def __str__(self) -> str:
        return (
            f"{self.num_descriptors} photos, {self.num_keypoints} of them with keypoints, "
            f"{self.num_positions} with a place; {self.num_matches} pairs matched"
        )


class KeptFeatures:
    """Descriptors, keypoints and places of a database's photos, by names that pairs use."""

    def __init__(self, store: Store, *, root: str | Path | None, pairs: str | Path | None) -> None:
        """Photos are named from `root`, or as in the database; `pairs` is a file as hloc writes it.
        Raises `InputError` for names that pairs cannot hold, `BadOption` for pairs of other photos,
        and `UnreadableTable`."""
        rows = store.descriptor_rows
        self.store, self.photos = store, store.photos.select(rows >= 0)
        names = photo_names(self.photos, root)
        self.names = [names[one] for one in self.photos.paths]
        self._descriptors = rows[rows >= 0].tolist()
        self.rows = dict(zip(self.names, range(len(self.photos)), strict=True))
        self.pairs = [] if pairs is None else _read_pairs(pairs)
        for name in dict.fromkeys(name for pair in self.pairs for name in pair):
            if name not in self.rows:
                raise BadOption(
                    f"{str(pairs)!r} names {name!r}, which is no photo of the database; its "
                    f"photos are like {self.names[0]!r}"
                )
        self.with_keypoints = [row for row in range(len(self.photos)) if self.has(row)]
        self.rows_with_point: list[int] = np.flatnonzero(self.photos.has_point).tolist()
        self.num_matched = 0

    def descriptors(self) -> Iterator[PhotoDescriptor]:
        """Those of all photos."""
        for row, (name, at) in enumerate(zip(self.names, self._descriptors, strict=True)):
            yield PhotoDescriptor(name, self.store.descriptors[at], self.size(row))

    def place(self, row: int) -> tuple[float, float, float]:
        """Latitude, longitude and metres above the sea, NaN where they are not known."""
        columns = self.photos.columns
        return tuple(float(columns[name][row]) for name in ("lat", "lon", "altitude_m"))  # type: ignore[return-value]

    def report(self) -> Exported:
        """A report of what was written, after all of it was."""
        num_keypoints = len(self.with_keypoints)
        return Exported(len(self.names), num_keypoints, self.num_matched, len(self.rows_with_point))

    def size(self, row: int) -> tuple[int, int]:
        return int(self.photos.columns["width"][row]), int(self.photos.columns["height"][row])

    def has(self, row: int) -> bool:
        return self._record(row) is not None

    def keypoints(self) -> Iterator[PhotoKeypoints]:
        """Those that are kept, in pixels of the photos; they were found in smaller pictures."""
        for row in self.with_keypoints:
            yield self._keypoints(self.names[row], row)

    def _keypoints(self, name: str, row: int) -> PhotoKeypoints:
        local = self._local(row)
        width, height = self.size(row)
        scale = np.array([width, height], np.float32) / np.maximum(local.image_size_px, 1)
        points = (local.keypoints + 0.5) * scale - 0.5
        return PhotoKeypoints(
            name, points, local.descriptors, np.ones(len(points), np.float32), (width, height)
        )

    def matches(self) -> Iterator[PairMatches]:
        """Mutual nearest neighbours of the keypoints of each pair, once."""
        seen: set[frozenset[str]] = set()
        for first, second in self.pairs:
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


def network_of_queries(name: str) -> DescriptorModel:
    """The model that others' descriptors are of. Raises `BadOption` for one that is fitted on
    photos, and as `load_model` does."""
    opened = load_model(name)
    if not opened.is_fitted:
        raise BadOption(
            f"{opened.name} is fitted on a database's own photos, and a file of descriptors does "
            "not hold that"
        )
    return opened


def add_described(
    path: str | Path,
    scanned: Photos,
    described: Mapping[str, np.ndarray],
    *,
    file: str | Path,
    photos: str | Path,
    model: DescriptorModel,
) -> int:
    """The number of photos of the database `path`, made of those under the folder `photos` whose
    descriptors (D,) are in `described`, by name from there; `file` is where they were found.

    `model` describes queries. Raises `NoPhotos` where none is described, and `UnreadableTable` for
    another dimension.
    """
    names = [
        scanned.file(row).resolve().relative_to(Path(photos).resolve()).as_posix()
        for row in range(len(scanned))
    ]
    rows = np.array([row for row, name in enumerate(names) if name in described], np.int64)
    if not len(rows):
        example = f"; it names them like {next(iter(described))!r}" if described else ""
        raise NoPhotos(
            f"{str(file)!r} describes none of the {len(scanned)} photos under "
            f"{str(photos)!r}{example}"
        )
    dims = {len(described[names[row]]) for row in rows.tolist()}
    if dims != {model.dim}:
        raise UnreadableTable(
            file,
            f"its descriptors have {sorted(dims)} dimensions, those of {model.name} {model.dim}",
        )
    matrix = np.stack([described[names[row]] for row in rows.tolist()])
    matrix /= np.maximum(np.linalg.norm(matrix, axis=1, keepdims=True), 1e-12)
    named = Photos(
        stored_paths(scanned, Path(path)), scanned.columns, root=Path(path).parent
    ).select(rows)
    with open_or_create(
        Path(path), model, BuildOptions(model=model.name, model_options=model.options)
    ) as store:
        store.add(named, contents=named.content, descriptors=matrix)
        tidy(store)
        return store.num_photos


def _read_pairs(path: str | Path) -> list[tuple[str, str]]:
    return [
        (one.query, candidate.photo)
        for one in read_hloc_pairs(path)
        for candidate in one.candidates
    ]
