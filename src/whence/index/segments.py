"""Segments: the immutable files one commit leaves behind, and the table of rows that a sequence of
them makes.

A segment holds paths that go, photo rows that come (as columns, paths as one NUL-terminated UTF-8
blob with offsets) and descriptors with the content keys they belong to. Paths that are not valid
UTF-8 keep their bytes (surrogate escapes).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from whence.data.photos import COLUMNS, LATER_COLUMNS, Photos
from whence.errors import CorruptStore, InputError
from whence.index.files import map_npy, read_npz, remove_files, write_npy, write_npz
from whence.index.manifest import SegmentEntry

KEY_DTYPE = np.dtype("S32")
BLOCK_ROWS = 4096


@dataclass(frozen=True)
class Changes:
    """What one commit does: `removed` paths go, `photos` come, `descriptors` (M, D), given in
    blocks, belong to `contents` (M,)."""

    removed: tuple[str, ...]
    photos: Photos
    contents: np.ndarray
    blocks: Iterable[np.ndarray]


class Segment:
    """One segment, its files read when first needed; descriptors are memory-mapped at once, so they
    survive the file's deletion."""

    def __init__(self, folder: Path, entry: SegmentEntry, *, dim: int, dtype: np.dtype) -> None:
        self.folder = folder
        self.entry = entry
        self.descriptors: np.ndarray = np.empty((0, dim), dtype)
        if entry.descriptors is not None:
            self.descriptors = map_npy(
                folder, entry.descriptors, shape=(entry.num_descriptors, dim), dtype=dtype
            )

    @cached_property
    def rows(self) -> tuple[tuple[str, ...], Photos, np.ndarray]:
        """Removed paths, photo rows, content keys of the descriptors."""
        arrays = read_npz(self.folder, self.entry.photos)
        try:
            paths = _split_paths(arrays["paths"], arrays["path_offsets"])
            later = {name: np.full(len(paths), value) for name, value in LATER_COLUMNS.items()}
            photos = Photos(
                paths,
                {
                    **later,
                    **{
                        name: arrays[name]
                        for name in COLUMNS
                        if name not in later or name in arrays
                    },
                },
            )
            removed = _split_paths(arrays["removed"], arrays["removed_offsets"])
            contents = arrays["descriptor_contents"].astype(KEY_DTYPE, copy=False)
        except (KeyError, ValueError, TypeError) as error:
            raise CorruptStore(
                self.folder,
                f"{self.entry.photos.name} is incomplete ({error}); rebuild the database",
            ) from error
        found = (len(removed), len(photos), len(contents))
        if found != (self.entry.num_removed, self.entry.num_photos, self.entry.num_descriptors):
            raise CorruptStore(
                self.folder,
                (
                    f"{self.entry.photos.name} holds other rows than the manifest says; rebuild "
                    "the database"
                ),
            )
        return removed, photos, contents


def write_segment(
    folder: Path, changes: Changes, *, number: int, level: int, dim: int, dtype: np.dtype
) -> SegmentEntry:
    """A segment, its files written; the caller lists it in a manifest or deletes it."""
    paths, path_offsets = _join_paths(changes.photos.paths)
    removed, removed_offsets = _join_paths(changes.removed)
    arrays = {
        "paths": paths,
        "path_offsets": path_offsets,
        **changes.photos.columns,
        "removed": removed,
        "removed_offsets": removed_offsets,
        "descriptor_contents": changes.contents,
    }
    rows = write_npz(folder, f"{number:08d}.photos.npz", arrays)
    num = len(changes.contents)
    try:
        name = f"{number:08d}.descriptors.npy"
        matrix = (
            write_npy(folder, name, blocks=changes.blocks, num_rows=num, dim=dim, dtype=dtype)
            if num
            else None
        )
    except BaseException:
        remove_files(folder, [rows.name])
        raise
    return SegmentEntry(rows, matrix, len(changes.photos), len(changes.removed), num, level)


def _join_paths(paths: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Paths as NUL-terminated bytes (B,) uint8 and the offset of each path and of the end (N + 1,)
    int64."""
    text = "".join(f"{path}\0" for path in paths)
    if text.count("\0") != len(paths):
        raise InputError("a path holds a NUL character, which no file system allows")
    blob = np.frombuffer(text.encode("utf-8", "surrogateescape"), dtype=np.uint8)
    return blob, np.concatenate([[0], np.flatnonzero(blob == 0) + 1]).astype(np.int64)


def _split_paths(blob: np.ndarray, offsets: np.ndarray) -> tuple[str, ...]:
    paths = tuple(blob.tobytes().decode("utf-8", "surrogateescape").split("\0")[:-1])
    if len(offsets) != len(paths) + 1:
        raise ValueError(f"{len(paths)} paths for {len(offsets)} offsets")
    return paths


def net_changes(segments: Sequence[Segment], *, keep: np.ndarray | None = None) -> Changes:
    """The changes of consecutive segments together. `keep`: mask over their descriptors (all by
    default)."""
    table = RowTable()
    for segment in segments:
        table.apply(segment.rows[0], segment.rows[1])
    contents = np.concatenate([np.empty(0, KEY_DTYPE), *(segment.rows[2] for segment in segments)])
    removed = tuple(dict.fromkeys(path for segment in segments for path in segment.rows[0]))
    return Changes(
        removed,
        table.photos(),
        contents if keep is None else contents[keep],
        descriptor_blocks(segments, keep=keep),
    )


def descriptor_blocks(
    segments: Sequence[Segment], *, keep: np.ndarray | None = None
) -> Iterator[np.ndarray]:
    """Descriptor rows of consecutive segments, some thousand at a time, only those of the mask."""
    start = 0
    for segment in segments:
        matrix = segment.descriptors
        for first in range(0, len(matrix), BLOCK_ROWS):
            block = np.asarray(matrix[first : first + BLOCK_ROWS])
            yield block if keep is None else block[keep[start + first : start + first + len(block)]]
        start += len(matrix)


class RowTable:
    """Rows by path: a path that comes again replaces its row in place; one that was removed and
    comes again stands at the end."""

    def __init__(self) -> None:
        self._parts: list[Photos] = [Photos.of([])]
        self._num_rows = 0
        self._row_of: dict[str, int] | None = None

    def apply(self, removed: Sequence[str], photos: Photos) -> None:
        """Remove paths, then add or replace rows."""
        if self._num_rows == 0:
            # The dictionary of a single part is only made when something asks for it: a million
            # paths cost a second.
            self._parts, self._num_rows, self._row_of = [photos], len(photos), None
            return
        row_of = self.row_of
        self._parts.append(photos)
        self._num_rows += len(photos)
        for path in removed:
            row_of.pop(path, None)
        row_of.update(
            zip(photos.paths, range(self._num_rows - len(photos), self._num_rows), strict=True)
        )

    def __len__(self) -> int:
        return len(self._parts[-1]) if self._row_of is None else len(self._row_of)

    @property
    def row_of(self) -> dict[str, int]:
        """Path -> row in the parts laid end to end; its order is the table's order."""
        if self._row_of is None:
            paths = self._parts[-1].paths
            self._row_of = dict(zip(paths, range(len(paths)), strict=True))
        return self._row_of

    def photos(self) -> Photos:
        """The table as it stands; asking again without changes costs nothing."""
        if self._row_of is None and len(self._parts) == 1:
            return self._parts[0]
        rows = np.fromiter(self.row_of.values(), dtype=np.int64, count=len(self.row_of))
        # Rows just added come with the root they were read under; in here all paths are relative to
        # the database's folder.
        table = Photos.concatenate(self._parts, root=self._parts[0].root)
        if len(rows) != len(table) or (rows != np.arange(len(rows))).any():
            table = table.select(rows)
        self._parts, self._num_rows, self._row_of = [table], len(table), None
        return table


def as_keys(contents: np.ndarray | Sequence[str]) -> np.ndarray:
    """Content keys as (m,) S32. Raises `InputError` for empty keys and for more than 32 bytes."""
    try:
        keys = np.asarray(contents, dtype="S") if len(contents) else np.empty(0, KEY_DTYPE)
    except (UnicodeEncodeError, ValueError) as error:
        raise InputError(f"content keys are up to 32 ASCII characters ({error})") from error
    if keys.ndim != 1 or (np.char.str_len(keys) > KEY_DTYPE.itemsize).any() or (keys == b"").any():
        raise InputError("content keys are a column (m,) of 1 to 32 ASCII characters each")
    return keys.astype(KEY_DTYPE, copy=False)


def rows_of(contents: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Row in `contents` (unique keys) of each wanted key, -1 where there is none."""
    if len(contents) == len(rows) and (contents == rows).all():
        return np.arange(len(rows), dtype=np.int64)
    if len(contents) == 0:
        return np.full(len(rows), -1, np.int64)
    order = np.argsort(contents)
    places = order[np.minimum(np.searchsorted(contents, rows, sorter=order), len(contents) - 1)]
    return np.where(contents[places] == rows, places, -1).astype(np.int64)
