"""`scan_photos`: from folders, files, globs and lists to a table of photos. Pixels are not decoded here."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from whence.data.images import IMAGE_SUFFIXES
from whence.data.metadata import read_photo
from whence.data.photos import Photos
from whence.data.positions import PositionTable, read_positions
from whence.data.sidecars import find_sidecar, read_sidecar
from whence.errors import UnreadableImage, UnreadableTable
from whence.runtime import map_threads, progress
from whence.types import Photo, SkippedPhoto

STORE_SUFFIX = ".whence"
"""Folders with this ending are databases, not photo folders."""


def scan_photos(
    *sources: str | Path,
    positions: str | Path | PositionTable | None = None,
    recursive: bool = True,
    num_workers: int | None = None,
    show_progress: bool | None = None,
    known: Photos | None = None,
) -> Photos:
    """The photos under these sources as a table, sorted by path; files that cannot be read are listed in its `skipped`.

    A source is a folder, a photo file, a glob pattern, or a `.txt` file that lists paths, one a line, relative to itself. In
    folders and globs files are taken by their ending; hidden ones and `.whence` databases are left out; links are followed, loops
    cut. The table's root is the common folder of the sources, its paths are relative to it.

    `positions` is a CSV or GeoJSON table (`read_positions`). `known` is the table of an earlier scan: a file whose path, size and
    times of change are the same is not read again. Raises `UnreadableTable` for a broken table or list, or for a table of positions
    that names none of the photos. No photos at all is an empty table.
    """
    table = positions if positions is None or isinstance(positions, PositionTable) else read_positions(positions)
    found = _Found({}, [], [])
    for source in map(os.path.abspath, map(str, sources)):
        _find_files(source, found, recursive=recursive)
    root = _common_folder(found)
    skipped = [SkippedPhoto(_name(path, root), reason) for path, reason in found.skipped]
    files = sorted(found.files, key=lambda path: _name(path, root))
    workload = ReadOptions(num_workers, show_progress, known)
    photos = read_files(files, root=root, positions=table, options=workload)
    if table is not None:
        check_matched(table, photos)
    return Photos(photos.paths, photos.columns, root=root, skipped=sorted((*skipped, *photos.skipped)))


class ReadOptions(NamedTuple):
    """How files are read: threads, progress bar, and the table of an earlier scan."""

    num_workers: int | None = None
    show_progress: bool | None = None
    known: Photos | None = None


def read_files(
    files: Sequence[str],
    *,
    root: str | Path,
    positions: PositionTable | None = None,
    options: ReadOptions = ReadOptions(),  # noqa: B008 (an immutable record)
) -> Photos:
    """The table of these files under `root`, in their order; what cannot be read is in its `skipped`."""
    root = os.path.abspath(root)
    reader = _Reader(root, positions, _by_file(options.known))
    paths = [os.path.abspath(path) for path in files]
    photos: list[Photo] = []
    skipped: list[SkippedPhoto] = []
    with progress("reading photos", total=len(paths), show=options.show_progress) as advance:
        for outcome in map_threads(reader.read, paths, num_workers=options.num_workers):
            photos.extend(outcome.photos)
            skipped.extend(outcome.skipped)
            advance(1)
    return Photos.of(photos, root=root, skipped=skipped)


def check_matched(table: PositionTable, *collections: Photos) -> None:
    """Raise `UnreadableTable` where a table names none of the photos: it is the wrong one, or names them from another folder."""
    files = [os.path.abspath(photos.root / path) for photos in collections for path in photos.paths]
    if files and table.rows and all(table.find(file) is None for file in files):
        first = next(iter(table.rows))
        raise UnreadableTable(table.path, f"it names none of the {len(files)} photos; its first name is {first!r}")


class _Found(NamedTuple):
    """Files to read (a dict for its order and uniqueness), the folders they were asked for in, and what was left out."""

    files: dict[str, None]
    folders: list[str]
    skipped: list[SkippedPhoto]


class _Outcome(NamedTuple):
    photos: tuple[Photo, ...]
    skipped: tuple[SkippedPhoto, ...]


class _Reader:
    """Reads one file; called from several threads."""

    def __init__(self, root: str, table: PositionTable | None, known: dict[str, Photo]) -> None:
        self.root = root
        self.table = table
        self.known = known

    def read(self, path: str) -> _Outcome:
        name = _name(path, self.root)
        if name != os.path.relpath(path, self.root).replace(os.sep, "/"):
            return _Outcome((), (SkippedPhoto(name, "its name is not valid UTF-8; rename the file"),))
        notes: tuple[SkippedPhoto, ...] = ()
        sidecar, sidecar_row = find_sidecar(path), None
        if sidecar is not None:
            try:
                sidecar_row = read_sidecar(sidecar)
            except UnreadableTable as error:
                notes = (SkippedPhoto(_name(str(sidecar), self.root), error.reason),)
        row = None if self.table is None else self.table.find(path)
        before = self._unchanged(path)
        if before is not None and row is None and sidecar is None and before.point_source in ("", "name", "exif"):
            return _Outcome((replace(before, path=name),), notes)
        try:
            content = "" if before is None else before.content
            photo = read_photo(path, name=name, table_row=row, sidecar_row=sidecar_row, content=content)
        except UnreadableImage as error:
            return _Outcome((), (*notes, SkippedPhoto(name, error.reason)))
        return _Outcome((photo,), notes)

    def _unchanged(self, path: str) -> Photo | None:
        photo = self.known.get(path)
        if photo is None:
            return None
        try:
            status = os.stat(path)
        except OSError:
            return None
        now = (status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        same = now == (photo.size_bytes, photo.mtime_ns, photo.ctime_ns)
        return photo if same else None


def _by_file(known: Photos | None) -> dict[str, Photo]:
    if known is None:
        return {}
    root = os.path.abspath(known.root)
    return {os.path.normpath(os.path.join(root, photo.path)): photo for photo in known}


def _find_files(source: str, found: _Found, *, recursive: bool) -> None:
    if os.path.isdir(source):
        found.folders.append(source)
        for path in _walk(source, recursive=recursive, skipped=found.skipped):
            found.files[path] = None
    elif os.path.lexists(source):
        if source.lower().endswith(".txt"):
            for path in read_list(source):
                found.files[path] = None
        else:
            found.files[source] = None
    elif glob.has_magic(source):
        matches = sorted(glob.glob(source, recursive=True))
        if not matches:
            found.skipped.append(SkippedPhoto(source, "the pattern matches nothing"))
        for match in matches:
            in_store = any(part.lower().endswith(STORE_SUFFIX) for part in Path(match).parts[:-1])
            if os.path.isfile(match) and _has_image_suffix(match) and not in_store:
                found.files[match] = None
        found.folders.append(fixed_folder(source))
    else:
        found.skipped.append(SkippedPhoto(source, "no such file or folder"))


def list_photos(folder: str | Path) -> list[str]:
    """Absolute paths of the photo files under a folder, known by their endings, sorted by their paths inside it."""
    top = os.path.abspath(folder)
    return sorted(_walk(top, recursive=True, skipped=[]), key=lambda path: _name(path, top))


def read_list(path: str | Path, *, folder: str | Path | None = None) -> list[str]:
    """Absolute paths from a text file that lists one path a line, relative to `folder`, by default the list's own.

    Raises `UnreadableTable`.
    """
    try:
        text = Path(path).read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise UnreadableTable(path, error.strerror or str(error)) from None
    except UnicodeDecodeError as error:
        raise UnreadableTable(path, f"byte {error.start} is not UTF-8; save the list as UTF-8") from None
    top = os.path.abspath(Path(path).parent if folder is None else folder)
    lines = [line.strip("\r\n") for line in text.split("\n")]
    if any("\0" in line for line in lines):
        raise UnreadableTable(path, "it holds zero bytes: it is not a list of paths")
    return [os.path.normpath(os.path.join(top, line)) for line in lines if line.strip()]


def _walk(folder: str, *, recursive: bool, skipped: list[SkippedPhoto], above: tuple[tuple[int, int], ...] = ()) -> Iterator[str]:
    """Photo files under a folder. A link to a folder that is already being walked is not followed."""
    try:
        status = os.stat(folder)
        with os.scandir(folder) as entries:
            listed = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        skipped.append(SkippedPhoto(folder, f"the folder cannot be read: {error.strerror or error}"))
        return
    identity = (status.st_dev, status.st_ino)
    if identity in above:
        return
    for entry in listed:
        if entry.name.startswith("."):
            continue
        if os.path.isdir(entry.path):  # False for a link to itself, where the entry's own method raises.
            if recursive and not entry.name.lower().endswith(STORE_SUFFIX):
                yield from _walk(entry.path, recursive=recursive, skipped=skipped, above=(*above, identity))
        elif _has_image_suffix(entry.name):
            yield entry.path


def _has_image_suffix(path: str) -> bool:
    return os.path.splitext(path)[1].lower() in IMAGE_SUFFIXES


def fixed_folder(pattern: str) -> str:
    """The part of a glob pattern before its first wildcard, as a folder."""
    while glob.has_magic(pattern):
        pattern = os.path.dirname(pattern)
    return pattern


def _common_folder(found: _Found) -> str:
    folders = [*found.folders, *(os.path.dirname(path) for path in found.files)]
    try:
        return os.path.commonpath(folders) if folders else os.getcwd()
    except ValueError:  # Windows: the sources lie on several drives.
        return os.path.abspath(os.sep)


def _name(path: str, root: str) -> str:
    """A path relative to the root with "/"; bytes that are not UTF-8 are shown as escapes."""
    try:
        relative = os.path.relpath(path, root)
    except ValueError:
        relative = path
    relative = path if relative.startswith("..") else relative
    return relative.replace(os.sep, "/").encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
