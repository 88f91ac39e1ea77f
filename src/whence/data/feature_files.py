"""Files of features as hloc keeps them (HDF5, through h5py): descriptors of whole photos,
keypoints, and matches.

A group for each photo, named as pairs name it. `global_descriptor` (D,) or `keypoints` (M, 2),
`descriptors` (D, M) and `scores` (M,); `image_size` (2,) is width and height. A pixel's centre has
whole numbers. Matches lie in a group of two names, slashes as dashes: `matches0` (M,) is for each
keypoint of the first photo that of the second one, -1 for none, and `matching_scores0` (M,).
Source: the format of hloc (Sarlin et al., CVPR 2019), as its `extract_features` and
`match_features` write it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from whence.errors import MissingExtra, UnreadableTable
from whence.runtime import atomic_write

_NONE = -1


class PhotoDescriptor(NamedTuple):
    """The descriptor of a photo."""

    name: str
    descriptor: np.ndarray
    """(D,) float32."""
    size_px: tuple[int, int] | None = None
    """Width and height; None where the file does not say."""


class PhotoKeypoints(NamedTuple):
    """The keypoints of a photo."""

    name: str
    keypoints: np.ndarray
    """(M, 2) float32: x, y in pixels."""
    descriptors: np.ndarray
    """(M, D) float32."""
    scores: np.ndarray
    """(M,) float32; ones where the file does not say."""
    size_px: tuple[int, int] | None = None


class PairMatches(NamedTuple):
    """Keypoints of two photos that belong together."""

    first: str
    second: str
    rows: np.ndarray
    """(M, 2) int64: rows of the first photo's and of the second photo's keypoints."""
    scores: np.ndarray
    """(M,) float32."""
    num_first: int = 0
    """Keypoints of the first photo."""


def write_descriptors(path: str | Path, photos: Iterable[PhotoDescriptor]) -> None:
    """Write descriptors of photos, whole or not at all. Raises `MissingExtra` and
    `UnwritableFile`."""
    with atomic_write(path, "w+b") as file, _h5py().File(file, "w") as table:
        for photo in photos:
            group = table.create_group(photo.name)
            group["global_descriptor"] = photo.descriptor.astype(np.float32)
            _write_size(group, photo.size_px)


def write_keypoints(path: str | Path, photos: Iterable[PhotoKeypoints]) -> None:
    """Write keypoints of photos, whole or not at all. Raises `MissingExtra` and
    `UnwritableFile`."""
    with atomic_write(path, "w+b") as file, _h5py().File(file, "w") as table:
        for photo in photos:
            group = table.create_group(photo.name)
            group["keypoints"] = photo.keypoints.astype(np.float32)
            group["descriptors"] = np.ascontiguousarray(photo.descriptors.astype(np.float32).T)
            group["scores"] = photo.scores.astype(np.float32)
            _write_size(group, photo.size_px)


def write_matches(path: str | Path, pairs: Iterable[PairMatches]) -> None:
    """Write matches of pairs, whole or not at all. Raises `MissingExtra` and `UnwritableFile`."""
    with atomic_write(path, "w+b") as file, _h5py().File(file, "w") as table:
        for pair in pairs:
            matches, scores = (
                np.full(pair.num_first, _NONE, np.int32),
                np.zeros(pair.num_first, np.float32),
            )
            matches[pair.rows[:, 0]], scores[pair.rows[:, 0]] = pair.rows[:, 1], pair.scores
            group = table.create_group(_pair_name(pair.first, pair.second))
            group["matches0"], group["matching_scores0"] = matches, scores


def read_descriptors(path: str | Path) -> Iterator[PhotoDescriptor]:
    """Descriptors of photos, one after the other, by name. Raises `MissingExtra` and
    `UnreadableTable`."""
    for name, group in _groups(path, "global_descriptor"):
        yield PhotoDescriptor(name, _array(path, group, "global_descriptor", 1), _size(group))


def read_keypoints(path: str | Path) -> Iterator[PhotoKeypoints]:
    """Keypoints of photos, one after the other, by name. Raises `MissingExtra` and
    `UnreadableTable`."""
    for name, group in _groups(path, "keypoints"):
        keypoints, descriptors = (
            _array(path, group, part, 2) for part in ("keypoints", "descriptors")
        )
        scores = (
            _array(path, group, "scores", 1)
            if "scores" in group
            else np.ones(len(keypoints), np.float32)
        )
        if keypoints.shape[1] != 2 or not len(keypoints) == descriptors.shape[1] == len(scores):
            shapes = f"{keypoints.shape}, descriptors {descriptors.shape}, scores {scores.shape}"
            raise UnreadableTable(
                path, f"{name!r} has keypoints {shapes}, not (M, 2), (D, M) and (M,)"
            )
        yield PhotoKeypoints(
            name, keypoints, np.ascontiguousarray(descriptors.T), scores, _size(group)
        )


def read_matches(path: str | Path, pairs: Iterable[tuple[str, str]]) -> Iterator[PairMatches]:
    """Matches of these pairs, in either order, as the file has them; pairs that it lacks are passed
    over.

    Raises `MissingExtra` and `UnreadableTable`.
    """
    with _opened(path) as table:
        for first, second in pairs:
            is_turned = _pair_name(first, second) not in table
            name = _pair_name(second, first) if is_turned else _pair_name(first, second)
            if name not in table:
                continue
            matches = _array(path, table[name], "matches0", 1).astype(np.int64)
            scores = _array(path, table[name], "matching_scores0", 1)
            if len(scores) != len(matches):
                raise UnreadableTable(
                    path, f"{name!r} has {len(matches)} matches and {len(scores)} scores"
                )
            kept = np.flatnonzero(matches > _NONE)
            rows = np.stack([kept, matches[kept]], axis=1)
            yield PairMatches(
                first,
                second,
                rows[:, ::-1] if is_turned else rows,
                scores[kept],
                0 if is_turned else len(matches),
            )


def _pair_name(first: str, second: str) -> str:
    return "/".join(name.replace("/", "-") for name in (first, second))


def _write_size(group: Any, size_px: tuple[int, int] | None) -> None:
    if size_px is not None:
        group["image_size"] = np.array(size_px, np.int64)


def _size(group: Any) -> tuple[int, int] | None:
    if "image_size" not in group or group["image_size"].shape != (2,):
        return None
    width, height = (int(side) for side in group["image_size"][()])
    return width, height


def _array(path: str | Path, group: Any, part: str, num_axes: int) -> np.ndarray:
    """An array of a group as float32. Raises `UnreadableTable` where it is not there, or
    another."""
    if (
        part not in group
        or len(group[part].shape) != num_axes
        or group[part].dtype.kind not in "fiu"
    ):
        raise UnreadableTable(path, f"{group.name!r} has no array {part} of {num_axes} axes")
    found = np.asarray(group[part][()])
    return found.astype(np.float32) if part != "matches0" else found


def _groups(path: str | Path, part: str) -> Iterator[tuple[str, Any]]:
    """The groups that hold an array of this name, with their own names."""
    with _opened(path) as table:
        names: list[str] = []
        table.visititems(
            lambda name, found: (
                names.append(name) if hasattr(found, "keys") and part in found else None
            )
        )
        if not names:
            raise UnreadableTable(path, f"no photo in it has {part}")
        for name in names:
            yield name, table[name]


def _opened(path: str | Path) -> Any:
    try:
        return _h5py().File(path, "r")
    except OSError as error:
        raise UnreadableTable(path, f"no HDF5 file ({error})") from None


def _h5py() -> Any:
    try:
        import h5py
    except ImportError:
        raise MissingExtra("files of features (HDF5)", "hdf5") from None
    return h5py
