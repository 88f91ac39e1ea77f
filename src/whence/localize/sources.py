"""Where the photos of a database come from: the names of folders and files inside it, and which
folders are missing.

A folder is missing where it is not there, or where none of its photos is: a mount point without its
disk is an empty folder.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from whence.data.elsewhere import address_of, are_there, is_elsewhere, joined, path_of
from whence.data.elsewhere import is_there as exists
from whence.data.photos import Photos
from whence.data.scan import fixed_folder, read_list
from whence.errors import UnreadableTable

NUM_SAMPLED = 64
"""Photos that are looked for before anything else: where all of them are there, no folder is
missing."""


@dataclass(frozen=True, slots=True)
class MissingFolder:
    """A folder that photos of a database came from and that is not there any more, or holds none of
    them."""

    folder: str
    num_photos: int
    """Photos of the database that lay under it."""
    is_there: bool
    """Whether there is still a folder of that name."""

    def __str__(self) -> str:
        state = (
            f"holds none of its {self.num_photos} photos"
            if self.is_there
            else f"with {self.num_photos} photos is missing"
        )
        return f"the folder {self.folder!r} {state}"


def stored_path(file: str, store_path: Path) -> str:
    """The name of a file inside a database: its address, or relative to the folder that holds the
    database, so both can move."""
    if is_elsewhere(file):
        return address_of(file)
    try:
        return os.path.relpath(file, store_path.absolute().parent).replace(os.sep, "/")
    except ValueError:  # another drive
        return file.replace(os.sep, "/")


def stored_paths(photos: Photos, store_path: Path) -> list[str]:
    """The names of a collection's photos inside a database, see `stored_path`."""
    return [stored_path(joined(photos.root, path), store_path) for path in photos.paths]


def source_names(sources: Sequence[str | Path], folder: Path) -> list[str]:
    """The names of photo folders inside a database, see `stored_path`."""
    return [stored_path(os.path.abspath(path_of(str(source))), folder) for source in sources]


def source_files(names: Iterable[str], store_path: Path) -> list[str]:
    """Where the sources with these names inside a database lie on this machine."""
    return [joined(store_path.absolute().parent, name) for name in names]


def folders_of(source: str, files: Sequence[str]) -> tuple[str, ...]:
    """The folders that a source took `files` from: itself, that of a file, those of a list's files,
    what is fixed of a pattern."""
    if is_elsewhere(source) or os.path.isdir(source) or is_under(files, [source]).any():
        return (source,)
    if glob.has_magic(source) and not os.path.lexists(source):
        return (fixed_folder(source),)
    if source.lower().endswith(".txt") and os.path.isfile(source):
        try:
            return tuple(dict.fromkeys(os.path.dirname(file) for file in read_list(source)))
        except UnreadableTable:
            return ()
    return (os.path.dirname(source),)


def is_there(source: str) -> bool:
    """Whether a source can be looked through: it exists, or it is a pattern whose folder does."""
    return exists(source) or (glob.has_magic(source) and os.path.isdir(fixed_folder(source)))


def missing_folders(
    photos: Photos, sources: Iterable[str], *, new_scan: Photos | None = None
) -> list[MissingFolder]:
    """The folders of `sources` (`source_files`) that hold none of the photos they held.

    `new_scan` is what a scan finds there now: a folder whose photos only bear other names is not
    missing.
    """
    files = [joined(photos.root, path) for path in photos.paths]
    folders = sorted(
        {folder for source in sources for folder in folders_of(source, files)},
        key=len,
        reverse=True,
    )
    step = max(len(files) // NUM_SAMPLED, 1)
    if all(map(_is_folder, folders)) and all(are_there(files[::step])):
        return []
    contents = set() if new_scan is None else set(new_scan.content.tolist())
    rows_of = rows_by_folder(files, folders)
    missing = []
    for folder, rows in rows_of.items():
        is_found = any(map(exists, (files[row] for row in rows))) or bool(
            contents.intersection(photos.content[rows].tolist())
        )
        if rows and not is_found:
            missing.append(MissingFolder(address_of(folder), len(rows), _is_folder(folder)))
    return sorted(missing, key=lambda one: one.folder)


def _is_folder(path: str) -> bool:
    """Whether a folder is there; elsewhere it need only be that something is, or that nobody can be
    asked."""
    return exists(path) if is_elsewhere(path) else os.path.isdir(path)


def rows_by_folder(files: Sequence[str], folders: Sequence[str]) -> dict[str, list[int]]:
    """For each folder the rows of the files under it; a file belongs to the innermost. `folders`
    come longest first."""
    beginnings = [(folder, folder.rstrip(os.sep) + os.sep) for folder in folders]
    rows: dict[str, list[int]] = {folder: [] for folder in folders}
    for row, file in enumerate(files):
        inner = next(
            (folder for folder, beginning in beginnings if file.startswith(beginning)), None
        )
        if inner is not None:
            rows[inner].append(row)
    return rows


def is_under(files: Sequence[str], folders: Iterable[str]) -> np.ndarray:
    """(N,) bool: which files lie under one of the folders."""
    beginnings = tuple(folder.rstrip(os.sep) + os.sep for folder in folders)
    return np.array([file.startswith(beginnings) for file in files], bool)


def nothing_found(sources: Sequence[str | Path], photos: Photos) -> str:
    """The sentence that says that there is no photo under these sources, and why."""
    names = ", ".join(str(source) for source in sources)
    left_out = "".join(f"; {remark}" for remark in photos.remarks)
    if not photos.skipped:
        return f"no photos under {names}{left_out}"
    first = photos.skipped[0]
    return (
        f"no readable photo under {names}; {len(photos.skipped)} skipped, the first: "
        f"{first.path}: {first.reason}{left_out}"
    )
