"""`Store`: the database folder. Photos, their descriptors, and named arrays of the owner, committed
batch by batch.

The store knows no models and reads no pixels: it takes columns, content keys and arrays under a
card id. A photo finds its descriptor through its content key, so one picture under several paths
has one descriptor. Every change is one atomic commit: a process that is killed at any moment leaves
the state before or after it. One process writes, any number read the state they opened.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from whence.data.photos import COLUMNS, Photos
from whence.errors import BadOption, InputError, StoreError
from whence.index.files import LOCK_NAME, WriterLock, disk_errors, left_overs
from whence.index.ledger import Ledger
from whence.index.manifest import MANIFEST_NAME, Manifest, write_manifest
from whence.index.segments import KEY_DTYPE, Changes, RowTable, as_keys, rows_of

DTYPES = ("float32", "float16")


class Store:
    """A database folder, open for reading or for writing; also a context manager. Made by `create`
    and `open`."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        """The files and the manifest behind it."""
        self.path: Path = ledger.folder
        self._table: RowTable | None = None
        self._content_set: set[bytes] | None = None
        self._contents: np.ndarray | None = None
        self._descriptors: np.ndarray | None = None
        self._descriptor_rows: np.ndarray | None = None

    @classmethod
    def create(
        cls,
        path: str | Path,
        *,
        card_id: str,
        dim: int,
        dtype: str = "float32",
        options: Mapping[str, Any] | None = None,
    ) -> Store:
        """A new, empty database, open for writing; parent folders are made. Raises `StoreError`
        where the folder holds anything."""
        folder = Path(path)
        if dtype not in DTYPES:
            raise BadOption(
                f"descriptors of dtype {dtype!r} cannot be stored; choose one of "
                f"{', '.join(DTYPES)}"
            )
        if dim < 1:
            raise BadOption(f"descriptors cannot have {dim} dimensions; give a positive number")
        manifest = Manifest(
            card_id=card_id, dim=int(dim), dtype=dtype, options=_as_json(options or {})
        )
        with disk_errors(folder, "making the database"):
            if folder.exists() and not folder.is_dir():
                raise StoreError(folder, "a file of that name exists; choose another name")
            folder.mkdir(parents=True, exist_ok=True)
            if set(os.listdir(folder)) - {LOCK_NAME, *left_overs(folder, ())}:
                raise StoreError(
                    folder, "the folder exists and is not empty; open it, or choose another name"
                )
            lock = WriterLock(folder)
        try:
            write_manifest(folder, manifest)
            return cls(Ledger(folder, lock=lock))
        except BaseException:
            lock.release()
            raise

    @classmethod
    def open(cls, path: str | Path, *, writable: bool = False) -> Store:
        """An existing database. Looks at the manifest and at the size of every file; `check` looks
        deeper.

        Raises `NotAStore`, `CorruptStore`, `StoreVersion`, and `StoreLocked` where another process
        writes to it.
        """
        folder = Path(path)
        if not writable:
            return cls(Ledger(folder, lock=None))
        lock = None
        if (folder / MANIFEST_NAME).is_file():
            with disk_errors(folder, "opening it for writing"):
                lock = WriterLock(folder)
        try:
            return cls(Ledger(folder, lock=lock))
        except BaseException:
            if lock is not None:
                lock.release()
            raise

    def close(self) -> None:
        """Give back the right to write. What was committed stays; reading goes on working."""
        self.ledger.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def card_id(self) -> str:
        """The card of the model that made the descriptors."""
        return self.ledger.manifest.card_id

    @property
    def dim(self) -> int:
        return self.ledger.manifest.dim

    @property
    def dtype(self) -> np.dtype:
        return self.ledger.dtype

    @property
    def options(self) -> dict[str, Any]:
        """The owner's own JSON values; change them with `set_options`."""
        return _as_json(self.ledger.manifest.options)

    @property
    def state_id(self) -> str:
        """Hash of the arrays in the blob "descriptor-state"; empty where there is none."""
        return self.ledger.manifest.state_id

    @property
    def rows_id(self) -> str:
        """A key that changes whenever a row of `descriptors` is added, goes or moves, for indexes
        built over those rows."""
        return self.ledger.manifest.rows_id

    @property
    def is_writable(self) -> bool:
        return self.ledger.lock is not None

    @property
    def num_photos(self) -> int:
        return len(self._rows())

    @property
    def num_descriptors(self) -> int:
        """Rows of `descriptors`; after removals some may belong to no photo until `compact`."""
        return self.ledger.manifest.num_descriptors

    @property
    def size_bytes(self) -> int:
        """Bytes of the data files on disk."""
        return sum(entry.size_bytes for entry in self.ledger.manifest.files())

    @property
    def photos(self) -> Photos:
        """The rows in the order they came, paths relative to the folder that holds the database.
        Costs O(N) after a change."""
        table = self._rows().photos()
        return Photos(table.paths, table.columns, root=self.path.parent)

    @property
    def contents(self) -> np.ndarray:
        """(M,) S32 content key of every descriptor row, also of those that no photo refers to any
        more."""
        if self._contents is None:
            self._contents = self.ledger.contents()
        return self._contents

    @property
    def descriptors(self) -> np.ndarray:
        """(M, D) one row per content, memory-mapped after `compact`; before, a copy of the
        segments' rows laid end to end.

        Rows that no photo refers to any more stay until `compact`: search only `referenced_rows`.
        """
        if self._descriptors is None:
            self._descriptors = self.ledger.descriptors()
        return self._descriptors

    @property
    def descriptor_rows(self) -> np.ndarray:
        """(N,) int64 row of each photo's descriptor in `descriptors`, -1 where its content has none
        yet."""
        if self._descriptor_rows is None:
            self._descriptor_rows = rows_of(self.contents, self._rows().photos().content)
        return self._descriptor_rows

    @property
    def referenced_rows(self) -> np.ndarray:
        """Rows of `descriptors` that belong to a photo, ascending, each once."""
        rows = np.unique(self.descriptor_rows)
        return rows[rows >= 0]

    def has_descriptors(self, contents: np.ndarray) -> np.ndarray:
        """(m,) bool: which content keys have a descriptor."""
        keys, known = as_keys(contents), self._keys()
        return np.fromiter((key in known for key in keys.tolist()), dtype=bool, count=len(keys))

    def add(self, photos: Photos, *, contents: np.ndarray, descriptors: np.ndarray) -> None:
        """Commit photo rows and descriptors (m, D) of content keys (m,) at once.

        A path already there is replaced in place, a content already there keeps its descriptor, and
        of equal paths or contents within one call the last row and the first descriptor count.
        Photos may come before their descriptors. Raises `InputError` for shapes, dtypes or numbers
        that do not fit.
        """
        self.ledger.require_writer()
        keys, matrix = as_keys(contents), self._as_matrix(descriptors, num_rows=len(contents))
        first = np.zeros(len(keys), bool)
        first[np.unique(keys, return_index=True)[1]] = True
        fresh = first & ~self.has_descriptors(keys)
        row_of = dict(zip(photos.paths, range(len(photos)), strict=True))
        if len(row_of) < len(photos):
            photos = photos.select(np.fromiter(row_of.values(), np.int64, len(row_of)))
        if len(photos) or fresh.any():
            self.commit(
                Changes((), photos, keys[fresh], [matrix if fresh.all() else matrix[fresh]])
            )

    def remove(self, paths: Sequence[str]) -> int:
        """The number of rows that were there, once their removal is committed. Their descriptors go
        from the disk at the next `compact`."""
        self.ledger.require_writer()
        row_of = self._rows().row_of
        present = tuple(path for path in dict.fromkeys(paths) if path in row_of)
        if present:
            self.commit(Changes(present, Photos.of([]), np.empty(0, KEY_DTYPE), []))
        return len(present)

    def commit(self, changes: Changes) -> None:
        """Commit rows and descriptors as they are, unchecked: the descriptors' keys are new. `add`
        and merging end in it."""
        table, known = self._rows(), self._keys()
        self.ledger.add_segment(changes)
        table.apply(changes.removed, changes.photos)
        known.update(changes.contents.tolist())
        self._forget()

    def replace_photos(self, paths: Sequence[str], photos: Photos) -> None:
        """Commit at once that rows go and others come; those that come stand at the end.
        Descriptors stay with their contents."""
        self.ledger.require_writer()
        self.commit(Changes(tuple(paths), photos, np.empty(0, KEY_DTYPE), []))

    def update_photos(self, photos: Photos) -> None:
        """Commit new metadata of rows that are there; they keep their places. Raises `InputError`
        for an unknown path."""
        row_of = self._rows().row_of
        unknown = next((path for path in photos.paths if path not in row_of), None)
        if unknown is not None:
            raise InputError(f"{unknown!r} is not in the database {str(self.path)!r}; add it first")
        self.add(
            photos, contents=np.empty(0, KEY_DTYPE), descriptors=np.empty((0, self.dim), self.dtype)
        )

    def compact(self) -> None:
        """Merge everything into one segment and one shard per card, drop descriptors that no photo
        refers to."""
        self.ledger.require_writer()
        live = np.zeros(len(self.contents), bool)
        live[self.referenced_rows] = True
        self.ledger.compact(contents=self.contents, live=live)
        self._forget()
        self._content_set = None

    def set_options(self, options: Mapping[str, Any]) -> None:
        """Commit the owner's JSON values, replacing all earlier ones."""
        self.ledger.commit(replace(self.ledger.manifest, options=_as_json(options)))

    @property
    def blob_names(self) -> tuple[str, ...]:
        """Names of the owner's arrays, sorted."""
        return tuple(sorted(self.ledger.manifest.blobs))

    def write_blob(self, name: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Commit named arrays as a whole, replacing those of the same name. Raises `InputError` for
        arrays of objects."""
        for key, array in arrays.items():
            if np.asarray(array).dtype.hasobject:
                raise InputError(
                    f"array {key!r} of {name!r} holds Python objects; give plain numbers or text"
                )
        self.ledger.write_blob(name, arrays)

    def read_blob(self, name: str) -> dict[str, np.ndarray] | None:
        """The arrays of a name, None where there are none."""
        return self.ledger.blob(name)

    def delete_blob(self, name: str) -> bool:
        """Whether the named arrays were there; their removal is committed."""
        is_there = name in self.ledger.manifest.blobs
        if is_there:
            self.ledger.delete_blob(name)
        return is_there

    def write_cache(
        self, card_id: str, contents: Sequence[str], records: Sequence[Mapping[str, np.ndarray]]
    ) -> None:
        """Commit arrays of photos under a card, for example local descriptors. Contents already
        cached are ignored."""
        if len(contents) != len(records):
            raise InputError(f"{len(contents)} content keys for {len(records)} records")
        keys = as_keys(contents)
        first = np.zeros(len(keys), bool)
        first[np.unique(keys, return_index=True)[1]] = True
        fresh = [
            i
            for i, key in enumerate(keys.tolist())
            if first[i] and not self._is_cached(card_id, key)
        ]
        if fresh:
            self.ledger.write_cache(card_id, keys[fresh], [records[i] for i in fresh])

    def read_cache(self, card_id: str, content: str) -> dict[str, np.ndarray] | None:
        """The cached arrays of one content key as read-only views, None where there are none."""
        key = content.encode()
        for shard in reversed(self.ledger.shards.get(card_id, [])):
            if key in shard.position_of:
                return shard.record(shard.position_of[key])
        return None

    def has_cache(self, card_id: str, contents: Sequence[str]) -> np.ndarray:
        """(m,) bool: which content keys have cached arrays."""
        return np.array(
            [self._is_cached(card_id, key) for key in as_keys(contents).tolist()], dtype=bool
        )

    def _is_cached(self, card_id: str, key: bytes) -> bool:
        return any(key in shard.position_of for shard in self.ledger.shards.get(card_id, ()))

    def _rows(self) -> RowTable:
        if self._table is None:
            table = RowTable()
            for segment in self.ledger.segments:
                table.apply(segment.rows[0], segment.rows[1])
            self._table = table
        return self._table

    def _keys(self) -> set[bytes]:
        if self._content_set is None:
            self._content_set = set(self.contents.tolist())
        return self._content_set

    def _forget(self) -> None:
        self._contents = self._descriptors = self._descriptor_rows = None

    def _as_matrix(self, descriptors: np.ndarray, *, num_rows: int) -> np.ndarray:
        matrix = np.asarray(descriptors)
        if matrix.shape != (num_rows, self.dim):
            raise InputError(
                f"descriptors have shape {matrix.shape}; {num_rows} content keys and "
                f"{self.path.name} need {(num_rows, self.dim)}"
            )
        if matrix.dtype.kind not in "fiu":
            raise InputError(f"descriptors of dtype {matrix.dtype} cannot be stored; give floats")
        with np.errstate(over="ignore"):
            stored = matrix.astype(self.dtype, copy=False)
        if not np.isfinite(stored).all():
            row = int(np.flatnonzero(~np.isfinite(stored).all(axis=1))[0])
            raise InputError(
                f"descriptor {row} holds NaN or a number too large for {self.dtype}; "
                f"{self.path.name} takes finite ones"
            )
        return stored


def _as_json(options: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return json.loads(json.dumps(dict(options), allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise BadOption(f"options of a database are JSON values ({error})") from error


def estimate_bytes(
    num_photos: int,
    dim: int,
    dtype: str = "float32",
    *,
    path_bytes: int = 64,
    index_bytes: int = 0,
    cache_bytes: int = 0,
) -> int:
    """Bytes on disk of a compacted database of so many photos; `index_bytes` and `cache_bytes` are
    per photo."""
    columns = sum(np.dtype(kind).itemsize for kind in COLUMNS.values())
    per_photo = (
        dim * np.dtype(dtype).itemsize
        + columns
        + path_bytes
        + 8
        + KEY_DTYPE.itemsize
        + index_bytes
        + cache_bytes
    )
    return 8192 + num_photos * per_photo
