"""The ledger: the state of a database on disk and the only code that changes it. A commit is new
data files, then one new manifest.

Small segments are merged in tiers (32 of a kind become one of the next), so that the number of
files stays logarithmic and every row is rewritten a few times in all, however long a run commits
batch after batch.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from whence.errors import CorruptStore, StoreError
from whence.index.caches import Record, Shard, merge_shards, write_shard
from whence.index.files import (
    FileEntry,
    WriterLock,
    check_sizes,
    disk_errors,
    left_overs,
    read_npz,
    remove_files,
    write_npz,
)
from whence.index.manifest import (
    BlobEntry,
    Manifest,
    SegmentEntry,
    ShardEntry,
    read_manifest,
    write_manifest,
)
from whence.index.segments import Changes, Segment, descriptor_blocks, net_changes, write_segment

FAN_OUT = 32
COMPACT_LEVEL = 99


class Ledger:
    """Manifest, segments and shards of one database folder; with a lock it may commit."""

    def __init__(self, folder: Path, *, lock: WriterLock | None) -> None:
        """Read the manifest and look at every listed file's size; a writer deletes what a killed
        run left behind."""
        self.folder = folder
        self.lock = lock
        self.is_stale = False
        self.segments: list[Segment] = []
        self.shards: dict[str, list[Shard]] = {}
        self.manifest = read_manifest(folder)
        while True:
            try:
                check_sizes(folder, self.manifest.files())
                self._attach()
                break
            except CorruptStore:
                # A reader may have read a manifest just before a writer replaced it and deleted its
                # files.
                newer = read_manifest(folder)
                if newer.next_number == self.manifest.next_number:
                    raise
                self.manifest = newer
        if lock is not None:
            with disk_errors(folder, "deleting left-overs"):
                remove_files(
                    folder, left_overs(folder, (entry.name for entry in self.manifest.files()))
                )

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(self.manifest.dtype)

    def close(self) -> None:
        if self.lock is not None:
            self.lock.release()
        self.lock = None

    def require_writer(self) -> None:
        """Raise `StoreError` unless commits are allowed."""
        if self.lock is None:
            raise StoreError(
                self.folder, "opened for reading (or closed); open it with writable=True"
            )
        if self.is_stale:
            raise StoreError(
                self.folder,
                "a commit was interrupted halfway in this process; close it and open it again",
            )

    def _attach(self) -> None:
        """Make segments and shards follow the manifest, keeping those already open."""
        manifest = self.manifest
        segments = {segment.entry: segment for segment in self.segments}
        self.segments = [
            segments[entry]
            if entry in segments
            else Segment(self.folder, entry, dim=manifest.dim, dtype=self.dtype)
            for entry in manifest.segments
        ]
        shards = {shard.entry: shard for known in self.shards.values() for shard in known}
        self.shards = {
            card_id: [
                shards[entry] if entry in shards else Shard(self.folder, entry) for entry in entries
            ]
            for card_id, entries in manifest.caches.items()
        }

    def commit(self, manifest: Manifest, *, new: Iterable[FileEntry] = ()) -> None:
        """Make `manifest` the state. Where that fails the `new` files are deleted and the earlier
        state stays."""
        self.require_writer()
        manifest = replace(manifest, next_number=self.manifest.next_number + 1)
        before = {entry.name for entry in self.manifest.files()}
        try:
            write_manifest(self.folder, manifest)
        except BaseException:
            # An interrupt may arrive just after the rename: then the new files are part of the
            # state and must stay.
            self.is_stale = self._is_on_disk(manifest)
            if not self.is_stale:
                remove_files(self.folder, [entry.name for entry in new])
            raise
        self.manifest = manifest
        self._attach()
        remove_files(self.folder, sorted(before - {entry.name for entry in manifest.files()}))

    def _is_on_disk(self, manifest: Manifest) -> bool:
        with contextlib.suppress(StoreError):
            return read_manifest(self.folder).next_number == manifest.next_number
        return False

    def add_segment(self, changes: Changes) -> None:
        """Commit rows and descriptors."""
        entry = self._write_segment(changes, level=0)
        manifest = self.manifest
        rows_id = (
            manifest.rows_id
            if entry.descriptors is None
            else _chain(manifest.rows_id, entry.descriptors.checksum)
        )
        self.commit(
            replace(manifest, segments=(*manifest.segments, entry), rows_id=rows_id),
            new=entry.files(),
        )
        # Merging is housekeeping: the rows are safe already, and where there is no room for it the
        # next commit tries again.
        with contextlib.suppress(StoreError):
            self._merge_tiers()

    def _write_segment(self, changes: Changes, *, level: int) -> SegmentEntry:
        self.require_writer()
        manifest = self.manifest
        with disk_errors(self.folder, "writing photos and descriptors"):
            return write_segment(
                self.folder,
                changes,
                number=manifest.next_number,
                level=level,
                dim=manifest.dim,
                dtype=self.dtype,
            )

    def _merge_tiers(self) -> None:
        while _is_full_tier(self.manifest.segments):
            head, tail = self.segments[:-FAN_OUT], self.segments[-FAN_OUT:]
            entry = self._write_segment(net_changes(tail), level=tail[0].entry.level + 1)
            entries = (*(segment.entry for segment in head), entry)
            self.commit(replace(self.manifest, segments=entries), new=entry.files())

    def compact(self, *, contents: np.ndarray, live: np.ndarray) -> None:
        """Commit one segment and one shard per card; of the descriptors (`contents` are their keys)
        only those of the mask stay."""
        self.require_writer()
        manifest = self.manifest
        for card_id in list(manifest.caches):
            self._compact_cache(card_id, keep=contents[live])
        is_compact = (
            len(self.segments) <= 1
            and bool(live.all())
            and not any(entry.num_removed for entry in manifest.segments)
        )
        if is_compact:
            return
        changes = net_changes(self.segments, keep=live)
        changes = Changes((), changes.photos, changes.contents, changes.blocks)
        entry = self._write_segment(changes, level=COMPACT_LEVEL)
        manifest = self.manifest
        rows_id = (
            manifest.rows_id
            if live.all()
            else _chain(
                manifest.rows_id, "" if entry.descriptors is None else entry.descriptors.checksum
            )
        )
        self.commit(replace(manifest, segments=(entry,), rows_id=rows_id), new=entry.files())

    def blob(self, name: str) -> dict[str, np.ndarray] | None:
        entry = self.manifest.blobs.get(name)
        return None if entry is None else read_npz(self.folder, entry.file)

    def write_blob(self, name: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Commit named arrays, replacing those of the same name."""
        self.require_writer()
        with disk_errors(self.folder, f"writing {name!r}"):
            file = write_npz(self.folder, f"{self.manifest.next_number:08d}.blob.npz", arrays)
        entry = BlobEntry(file, digest(arrays))
        self.commit(replace(self.manifest, blobs={**self.manifest.blobs, name: entry}), new=[file])

    def delete_blob(self, name: str) -> None:
        self.commit(
            replace(
                self.manifest,
                blobs={key: entry for key, entry in self.manifest.blobs.items() if key != name},
            )
        )

    def write_cache(self, card_id: str, contents: np.ndarray, records: Sequence[Record]) -> None:
        """Commit the cached arrays of these content keys as a new shard."""
        self.require_writer()
        with disk_errors(self.folder, "writing cached arrays"):
            entry = write_shard(
                self.folder, contents, records, number=self.manifest.next_number, level=0
            )
        self._commit_shards(card_id, (*self.manifest.caches.get(card_id, ()), entry), new=entry)
        with contextlib.suppress(StoreError):
            while _is_full_tier(self.manifest.caches[card_id]):
                self._merge_shards(card_id, self.shards[card_id][-FAN_OUT:], keep=None)

    def _compact_cache(self, card_id: str, *, keep: np.ndarray) -> None:
        shards = self.shards[card_id]
        if len(shards) != 1 or not np.isin(shards[0].contents, keep).all():
            self._merge_shards(card_id, shards, keep=keep)

    def _merge_shards(
        self, card_id: str, shards: Sequence[Shard], *, keep: np.ndarray | None
    ) -> None:
        level = shards[0].entry.level + 1 if keep is None else COMPACT_LEVEL
        with disk_errors(self.folder, "merging cached arrays"):
            entry = merge_shards(
                self.folder, shards, keep=keep, number=self.manifest.next_number, level=level
            )
        rest = self.manifest.caches[card_id][: -len(shards)]
        self._commit_shards(card_id, rest if entry is None else (*rest, entry), new=entry)

    def _commit_shards(
        self, card_id: str, entries: tuple[ShardEntry, ...], *, new: ShardEntry | None
    ) -> None:
        caches = {key: shards for key, shards in self.manifest.caches.items() if key != card_id}
        if entries:
            caches[card_id] = entries
        self.commit(replace(self.manifest, caches=caches), new=() if new is None else new.files())

    def contents(self) -> np.ndarray:
        """(M,) content keys of every descriptor row."""
        parts = [segment.rows[2] for segment in self.segments]
        return parts[0] if len(parts) == 1 else np.concatenate([np.empty(0, "S32"), *parts])

    def descriptors(self) -> np.ndarray:
        """(M, D): the memory map where all rows lie in one segment, else a copy."""
        holding = [
            segment.descriptors for segment in self.segments if segment.entry.num_descriptors
        ]
        if len(holding) == 1:
            return holding[0]
        matrix = np.empty((self.manifest.num_descriptors, self.manifest.dim), self.dtype)
        start = 0
        for block in descriptor_blocks(self.segments):
            matrix[start : start + len(block)] = block
            start += len(block)
        return matrix


def _is_full_tier(entries: Sequence[SegmentEntry] | Sequence[ShardEntry]) -> bool:
    tail = entries[-FAN_OUT:]
    return len(tail) == FAN_OUT and len({entry.level for entry in tail}) == 1


def _chain(rows_id: str, checksum: str) -> str:
    return hashlib.blake2b(f"{rows_id} {checksum}".encode(), digest_size=16).hexdigest()


def digest(arrays: Mapping[str, np.ndarray]) -> str:
    """Hash of named arrays that depends on names, dtypes, shapes and values alone."""
    total = hashlib.blake2b(digest_size=16)
    for name in sorted(arrays):
        array = np.asarray(arrays[name])
        total.update(f"{name} {array.dtype.str} {array.shape} ".encode())
        total.update(np.ascontiguousarray(array).tobytes())
    return total.hexdigest()
