"""The manifest of a database: the one small JSON file that says which data files make up its state.

A commit writes new data files and then renames a new manifest over the old one; what the manifest
does not list does not exist.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from whence.errors import BadOption, CorruptStore, InputError, NotAStore, StoreError, StoreVersion
from whence.index.files import FileEntry, disk_errors, is_data_name
from whence.records import fill
from whence.runtime import atomic_write

MANIFEST_NAME = "manifest.json"
FORMAT = "whence-database"
VERSION = 1
STATE_BLOB = "descriptor-state"


@dataclass(frozen=True, slots=True)
class SegmentEntry:
    """Rows and descriptors of one commit. Applied in order: first the removed paths go, then the
    rows come or replace."""

    photos: FileEntry
    descriptors: FileEntry | None
    num_photos: int
    num_removed: int
    num_descriptors: int
    level: int
    """0 for a commit, one more than its parts for a segment merged of several."""

    def files(self) -> Iterator[FileEntry]:
        yield self.photos
        if self.descriptors is not None:
            yield self.descriptors


@dataclass(frozen=True, slots=True)
class ShardEntry:
    """Cached arrays of some photos: an index file and one data file that is memory-mapped."""

    index: FileEntry
    data: FileEntry
    num_records: int
    level: int

    def files(self) -> Iterator[FileEntry]:
        yield self.index
        yield self.data


@dataclass(frozen=True, slots=True)
class BlobEntry:
    """Named arrays of the owner; `digest` depends on the arrays alone."""

    file: FileEntry
    digest: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """The whole state of a database."""

    card_id: str
    dim: int
    dtype: str
    options: Mapping[str, Any] = field(default_factory=dict)
    next_number: int = 1
    rows_id: str = ""
    segments: tuple[SegmentEntry, ...] = ()
    blobs: Mapping[str, BlobEntry] = field(default_factory=dict)
    caches: Mapping[str, tuple[ShardEntry, ...]] = field(default_factory=dict)

    def files(self) -> Iterator[FileEntry]:
        """Every data file."""
        for segment in self.segments:
            yield from segment.files()
        for blob in self.blobs.values():
            yield blob.file
        for shards in self.caches.values():
            for shard in shards:
                yield from shard.files()

    @property
    def num_descriptors(self) -> int:
        return sum(segment.num_descriptors for segment in self.segments)

    @property
    def state_id(self) -> str:
        """Hash of the descriptor's fitted state; empty where there is none."""
        blob = self.blobs.get(STATE_BLOB)
        return "" if blob is None else blob.digest


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Make `manifest` the state of the database, atomically. Raises `StoreFull` or `StoreError`;
    the old state is then intact."""
    body = {"format": FORMAT, "version": VERSION, **asdict(manifest)}
    text = json.dumps({**body, "checksum": _checksum(body)}, indent=1)
    with disk_errors(folder, "writing the manifest"), atomic_write(folder / MANIFEST_NAME) as file:
        file.write(text.encode())


def read_manifest(folder: Path) -> Manifest:
    """The state of a database. Raises `NotAStore`, `CorruptStore`, `StoreVersion`."""
    try:
        text = (folder / MANIFEST_NAME).read_bytes()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        kind = (
            "no such folder"
            if not folder.exists()
            else "not a folder"
            if not folder.is_dir()
            else f"it has no {MANIFEST_NAME}"
        )
        raise NotAStore(
            folder, f"not a database of Whence: {kind}; make one with `whence index`"
        ) from error
    except OSError as error:
        raise StoreError(folder, f"{MANIFEST_NAME} cannot be read ({error.strerror})") from error
    try:
        body = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CorruptStore(
            folder, f"{MANIFEST_NAME} is not JSON ({error}); restore it or rebuild the database"
        ) from error
    if not isinstance(body, dict) or body.get("format") != FORMAT:
        raise NotAStore(folder, f"its {MANIFEST_NAME} is not that of a database of Whence")
    if body.get("version") != VERSION:
        raise StoreVersion(
            folder,
            (
                f"written in format {body.get('version')!r}, this version reads {VERSION}; update "
                "Whence or rebuild it"
            ),
        )
    if body.pop("checksum", None) != _checksum(body):
        raise CorruptStore(
            folder,
            (
                f"{MANIFEST_NAME} was changed or damaged (its checksum differs); restore it or "
                "rebuild the database"
            ),
        )
    try:
        return _parse(body)
    except InputError as error:
        raise CorruptStore(
            folder, f"{MANIFEST_NAME} is incomplete ({error}); rebuild the database"
        ) from error


def _checksum(body: Mapping[str, Any]) -> str:
    return hashlib.blake2b(json.dumps(body, sort_keys=True).encode(), digest_size=16).hexdigest()


def _parse(body: Mapping[str, Any]) -> Manifest:
    values = {name: value for name, value in body.items() if name not in ("format", "version")}
    if missing := {entry.name for entry in fields(Manifest)} - set(values):
        raise BadOption(f"it lacks {', '.join(sorted(missing))}")
    manifest = fill(Manifest, values, what="field of a manifest")
    for file in manifest.files():
        # Listed files are opened and deleted by name: a name that leads out of the folder must
        # never be believed.
        if not is_data_name(file.name):
            raise BadOption(f"{file.name!r} is not the name of a data file")
    if manifest.dtype not in ("float32", "float16") or manifest.dim < 1:
        raise BadOption(f"descriptors of {manifest.dim} {manifest.dtype}")
    return manifest
