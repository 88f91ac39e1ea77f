"""What goes from one database to another or out of it: merging, and .npy with a table for other
programs."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from whence.data.fields import safe_fields
from whence.data.photos import COLUMNS, Photos
from whence.errors import CardMismatch
from whence.index.caches import Records
from whence.index.files import disk_errors
from whence.index.segments import BLOCK_ROWS, Changes
from whence.index.store import Store
from whence.runtime import atomic_write


class Exported(NamedTuple):
    """What an export wrote."""

    num_rows: int
    descriptors: Path
    photos: Path


def merge_stores(store: Store, other: Store) -> int:
    """The number of new rows in `store`, once the rows, descriptors and cached arrays of `other`
    are committed there. Paths both have are replaced.

    Raises `CardMismatch` unless card, dimension and fitted state are the same.
    """
    store.ledger.require_writer()
    before = store.num_photos
    for what, mine, theirs in (
        ("model card", store.card_id, other.card_id),
        ("dimension", store.dim, other.dim),
        ("fitted descriptor state", store.state_id, other.state_id),
    ):
        if mine != theirs:
            fix = (
                "describe its photos again with this database's model and state instead: whence "
                "index PHOTOS --db DATABASE"
            )
            raise CardMismatch(
                store.path, f"{what} is {mine!r}, that of {str(other.path)!r} is {theirs!r}; {fix}"
            )
    photos = other.photos
    moved = Photos(_moved(photos, to=store.path.parent), photos.columns)
    rows = other.referenced_rows
    rows = rows[~store.has_descriptors(other.contents[rows])]
    store.commit(Changes((), moved, other.contents[rows], _blocks(other.descriptors, rows)))
    for card_id, shards in other.ledger.shards.items():
        for shard in shards:
            store.write_cache(
                card_id, [key.decode() for key in shard.contents.tolist()], Records(shard)
            )
    return store.num_photos - before


def _moved(photos: Photos, *, to: Path) -> list[str]:
    """Paths of the same files, relative to another folder; absolute where no relative path leads
    there (another drive)."""
    here, there = str(to.absolute()), str(photos.root.absolute())
    if here == there:
        return list(photos.paths)
    try:
        return [
            os.path.relpath(os.path.join(there, path), here).replace(os.sep, "/")
            for path in photos.paths
        ]
    except ValueError:
        return [
            os.path.normpath(os.path.join(there, path)).replace(os.sep, "/")
            for path in photos.paths
        ]


def _blocks(matrix: np.ndarray, rows: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(rows), BLOCK_ROWS):
        yield matrix[rows[start : start + BLOCK_ROWS]]


def export_npy(store: Store, folder: str | Path) -> Exported:
    """Files descriptors.npy (n, D) and photos.csv, with n rows in the same order, written to a
    folder; photos without a descriptor are left out."""
    folder = Path(folder)
    photos, rows = store.photos, store.descriptor_rows
    photos, rows = photos.select(rows >= 0), rows[rows >= 0]
    exported = Exported(len(rows), folder / "descriptors.npy", folder / "photos.csv")
    with disk_errors(folder, "exporting"):
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_write(exported.descriptors) as file:
            facts = {
                "descr": np.lib.format.dtype_to_descr(store.dtype),
                "fortran_order": False,
                "shape": (len(rows), store.dim),
            }
            np.lib.format.write_array_header_1_0(file, facts)
            for block in _blocks(store.descriptors, rows):
                file.write(np.ascontiguousarray(block).tobytes())
        with atomic_write(exported.photos, "w") as file:
            table = csv.writer(file)
            table.writerow(["path", *COLUMNS])
            columns = [_as_text(photos.columns[name]) for name in COLUMNS]
            names = [
                path.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
                for path in photos.paths
            ]
            table.writerows(map(safe_fields, zip(names, *columns, strict=True)))
    return exported


def _as_text(column: np.ndarray) -> list[str]:
    """A column for a table: missing numbers and texts are empty."""
    if column.dtype.kind == "S":
        return [value.decode() for value in column.tolist()]
    if column.dtype.kind == "f":
        return ["" if value != value else repr(value) for value in column.tolist()]
    return [str(value) for value in column.astype(np.int64).tolist()]
