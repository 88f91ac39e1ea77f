"""Looking at a database as a whole: every problem of its files, and a fingerprint of what it
says."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable

import numpy as np

from whence.data.photos import COLUMNS, LATER_COLUMNS
from whence.errors import StoreError
from whence.index.files import checksum
from whence.index.segments import BLOCK_ROWS
from whence.index.store import Store


def problems(store: Store) -> list[str]:
    """Sentences, one for everything that a thorough look finds, naming the file: checksums, shapes,
    numbers that are not finite."""
    ledger, faults = store.ledger, []
    for entry in ledger.manifest.files():
        try:
            if checksum(ledger.folder / entry.name) != entry.checksum:
                faults.append(f"{entry.name}: its bytes changed since it was written")
        except OSError as error:
            faults.append(f"{entry.name}: cannot be read ({error.strerror})")
    if faults:
        return faults
    try:
        contents = ledger.contents()
        for segment in ledger.segments:
            for start in range(0, len(segment.descriptors), BLOCK_ROWS):
                block = segment.descriptors[start : start + BLOCK_ROWS]
                bad = np.flatnonzero(~np.isfinite(block).all(axis=1))
                name = "" if segment.entry.descriptors is None else segment.entry.descriptors.name
                faults += [f"{name}: row {start + row} is not finite" for row in bad.tolist()]
        for shards in ledger.shards.values():
            for shard in shards:
                sum(1 for _ in shard.records(range(shard.entry.num_records)))
        for name in ledger.manifest.blobs:
            ledger.blob(name)
    except StoreError as error:
        return [*faults, error.reason]
    if len(np.unique(contents)) != len(contents):
        faults.append("a content key has two descriptors")
    return faults


def fingerprint(store: Store, *, skip_blobs: Iterable[str] = ()) -> str:
    """Hash of what the database says, not of segments, order or cached arrays.

    It is over card, options, digests of blobs, and all rows in order of path with the bytes of
    their descriptors.
    """
    total = hashlib.blake2b(digest_size=16)
    skipped = set(skip_blobs)
    kept = {
        name: entry.digest
        for name, entry in sorted(store.ledger.manifest.blobs.items())
        if name not in skipped
    }
    total.update(
        json.dumps(
            [store.card_id, store.dim, str(store.dtype), store.options, kept], sort_keys=True
        ).encode()
    )
    photos, rows, descriptors = store.photos, store.descriptor_rows, store.descriptors
    order = np.array(sorted(range(len(photos)), key=photos.paths.__getitem__), dtype=np.int64)
    total.update("\0".join(photos.paths[i] for i in order).encode("utf-8", "surrogateescape"))
    for name in COLUMNS:
        if name in LATER_COLUMNS:
            continue
        column = photos.columns[name][order]
        # Not-a-number has many bit patterns; all of them say "missing".
        column = (
            np.where(np.isnan(column), np.array(np.nan, column.dtype), column)
            if column.dtype.kind == "f"
            else column
        )
        total.update(np.ascontiguousarray(column).tobytes())
    rows = rows[order]
    total.update((rows >= 0).tobytes())
    rows = rows[rows >= 0]
    for start in range(0, len(rows), BLOCK_ROWS):
        total.update(np.ascontiguousarray(descriptors[rows[start : start + BLOCK_ROWS]]).tobytes())
    return total.hexdigest()
