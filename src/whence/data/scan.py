"""`scan_photos`: from folders, files, globs and lists to a table of photos. Pixels are not decoded
here."""

from __future__ import annotations

import glob
import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from whence.data.elsewhere import (
    Status,
    address_of,
    find_elsewhere,
    is_address,
    is_elsewhere,
    joined,
    path_of,
    status_elsewhere,
)
from whence.data.folders import LeftOut, is_left_out, note_unread, walk_photos
from whence.data.kinds import is_photo
from whence.data.metadata import read_photo
from whence.data.photos import Photos
from whence.data.placement import is_null_island
from whence.data.positions import PositionTable, read_positions
from whence.data.remarks import Remark, summarize
from whence.data.sidecars import SidecarFolder, read_sidecar
from whence.data.tables import FileFinder, read_text
from whence.errors import MissingExtra, UnreadableImage, UnreadableTable
from whence.runtime import map_threads, progress
from whence.types import Photo, SkippedPhoto


def scan_photos(
    *sources: str | Path,
    positions: str | Path | PositionTable | None = None,
    recursive: bool = True,
    num_workers: int | None = None,
    show_progress: bool | None = None,
    earlier_scan: Photos | None = None,
    allow_null_island: bool = False,
) -> Photos:
    """The photos under these sources as a table, sorted by path; files that cannot be read are
    listed in its `skipped`.

    A source is a folder, a photo file, a glob pattern, a `.txt` file that lists paths, one a line,
    relative to itself, or the address of a photo or folder elsewhere (`whence.data.elsewhere`),
    which a list may hold too. In folders and globs files are taken by their ending; hidden ones,
    `.whence` databases, and what systems keep beside photos (thumbnails, deleted files, a photo
    library's previews) are left out; links are followed, loops cut. The table's root is the common
    folder of the sources, its paths are relative to it, and its `remarks` say what holds for the
    scan as a whole.

    `positions` is a CSV or GeoJSON table (`read_positions`); of its names those that fit several
    photos are not used. Latitude 0, longitude 0 is no position unless `allow_null_island`.
    `earlier_scan` is a table: a file whose path, size and times of change are the same as there is
    not read again. Raises `UnreadableTable` for a broken table or list, or for a table of positions
    that names none of the photos. No photos at all is an empty table.
    """
    table = (
        positions
        if positions is None or isinstance(positions, PositionTable)
        else read_positions(positions)
    )
    found = _Found({}, [], [], LeftOut(), {})
    for source in (os.path.abspath(path_of(str(source))) for source in sources):
        _find_files(source, found, recursive=recursive)
    root = _common_folder(found)
    skipped = [
        SkippedPhoto(_name(path, root), reason)
        for path, reason in (*found.skipped, *found.left_out.folders)
    ]
    files = sorted(found.files, key=lambda path: _name(path, root))
    workload = ReadOptions(num_workers, show_progress, earlier_scan, allow_null_island)
    table = None if table is None else table.fitted_to(files)
    photos = read_files(
        files, root=root, positions=table, options=workload, elsewhere=found.elsewhere
    )
    remarks = [*found.left_out.remarks(), *photos.remarks]
    if table is not None:
        check_matched(table, photos)
        remarks += table.remarks()
    skipped = sorted((*skipped, *photos.skipped))
    return Photos(photos.paths, photos.columns, root=root, skipped=skipped, remarks=remarks)


class ReadOptions(NamedTuple):
    """How files are read: threads, progress bar, the table of an earlier scan, and whether 0, 0 is
    a place."""

    num_workers: int | None = None
    show_progress: bool | None = None
    earlier_scan: Photos | None = None
    allow_null_island: bool = False


def read_files(
    files: Sequence[str],
    *,
    root: str | Path,
    positions: PositionTable | None = None,
    options: ReadOptions = ReadOptions(),  # noqa: B008 (an immutable record)
    elsewhere: Mapping[str, Status] = MappingProxyType({}),
) -> Photos:
    """The table of these files under `root`, in their order; what cannot be read is in its
    `skipped`.

    `elsewhere`: what is known already of files that do not lie on this machine.
    """
    root = os.path.abspath(root)
    reader = _Reader(root, positions, options, elsewhere)
    paths = [os.path.abspath(path) for path in files]
    photos: list[Photo] = []
    skipped: list[SkippedPhoto] = []
    remarks: list[Remark] = []
    with progress("reading photos", total=len(paths), show=options.show_progress) as advance:
        for outcome in map_threads(reader.read, paths, num_workers=options.num_workers):
            photos.extend(outcome.photos)
            skipped.extend(outcome.skipped)
            remarks.extend(outcome.remarks)
            advance(1)
    return Photos.of(photos, root=root, skipped=skipped, remarks=summarize(remarks))


def check_matched(table: PositionTable, *collections: Photos) -> None:
    """Raise `UnreadableTable` where a table names none of the photos: it is the wrong one, or names
    them from another folder."""
    files = [joined(photos.root, path) for photos in collections for path in photos.paths]
    if files and (table.rows or table.unclear) and all(table.find(file) is None for file in files):
        if table.unclear:
            raise UnreadableTable(
                table.path,
                f"its names fit several photos, the first: {table.unclear[0]}; name the folder too",
            )
        first = next(iter(table.rows))
        raise UnreadableTable(
            table.path, f"it names none of the {len(files)} photos; its first name is {first!r}"
        )


class _Found(NamedTuple):
    """Files to read (a dict for its order and uniqueness), the folders they were asked for in, and
    what was left out.

    Of files elsewhere also what their folder said of them.
    """

    files: dict[str, None]
    folders: list[str]
    skipped: list[SkippedPhoto]
    left_out: LeftOut
    elsewhere: dict[str, Status]


class _Outcome(NamedTuple):
    photos: tuple[Photo, ...]
    skipped: tuple[SkippedPhoto, ...]
    remarks: tuple[Remark, ...] = ()


class _Reader:
    """Reads one file; called from several threads."""

    def __init__(
        self,
        root: str,
        table: PositionTable | None,
        options: ReadOptions,
        elsewhere: Mapping[str, Status],
    ) -> None:
        self.root = root
        self.table = table
        self.photo_of_file = _by_file(options.earlier_scan)
        self.allow_null_island = options.allow_null_island
        self.elsewhere = elsewhere
        self.sidecars: dict[str, SidecarFolder] = {}
        self.lock = threading.Lock()

    def read(self, path: str) -> _Outcome:
        name = _name(path, self.root)
        if name != os.path.relpath(path, self.root).replace(os.sep, "/") and not is_elsewhere(path):
            return _Outcome(
                (), (SkippedPhoto(name, "its name is not valid UTF-8; rename the file"),)
            )
        notes, sidecar_rows = [], []
        sidecars = self._sidecars_of(path)
        for sidecar in sidecars:
            try:
                sidecar_rows.append(read_sidecar(sidecar))
            except UnreadableTable as error:
                notes.append(SkippedPhoto(_name(str(sidecar), self.root), error.reason))
        row = None if self.table is None else self.table.find(path)
        before = self._unchanged(path)
        if before is not None and row is None and not sidecars and self._still_holds(before):
            return _Outcome((replace(before, path=name),), tuple(notes))
        read = partial(read_photo, path, name=name, table_row=row, sidecar_rows=sidecar_rows)
        try:
            found = read(
                content="" if before is None else before.content,
                allow_null_island=self.allow_null_island,
            )
        except UnreadableImage as error:
            return _Outcome((), (*notes, SkippedPhoto(name, error.reason)))
        except MissingExtra as error:
            return _Outcome((), (*notes, SkippedPhoto(name, str(error))))
        return _Outcome((found.photo,), tuple(notes), found.remarks)

    def _sidecars_of(self, path: str) -> tuple[Path, ...]:
        folder, name = os.path.split(path)
        with self.lock:
            if folder not in self.sidecars:
                self.sidecars[folder] = SidecarFolder(folder)
        return self.sidecars[folder].of(name)

    def _still_holds(self, before: Photo) -> bool:
        """Whether what is known of a photo came from the photo alone, and would be read the same
        now."""
        if before.point_source not in ("", "name", "exif", "xmp"):
            return False
        return (
            before.point is not None if self.allow_null_island else not is_null_island(before.point)
        )

    def _unchanged(self, path: str) -> Photo | None:
        photo = self.photo_of_file.get(path)
        if photo is None:
            return None
        now = self._status(path)
        before = Status(photo.size_bytes, photo.mtime_ns, photo.ctime_ns)
        # Without a time or a tag, what lies elsewhere may have changed under its name.
        return photo if now == before and now is not None and any(now[1:]) else None

    def _status(self, path: str) -> Status | None:
        if is_elsewhere(path):
            return self.elsewhere.get(path) or status_elsewhere(path)
        try:
            found = os.stat(path)
        except OSError:
            return None
        return Status(found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def _by_file(earlier_scan: Photos | None) -> dict[str, Photo]:
    if earlier_scan is None:
        return {}
    root = os.path.abspath(earlier_scan.root)
    return {joined(root, photo.path): photo for photo in earlier_scan}


def _find_files(source: str, files: _Found, *, recursive: bool) -> None:
    if is_elsewhere(source):
        _find_elsewhere(source, files, recursive=recursive)
    elif os.path.isdir(source):
        files.folders.append(source)
        for path in walk_photos(source, recursive=recursive, left_out=files.left_out):
            files.files[path] = None
    elif os.path.lexists(source):
        if source.lower().endswith(".txt"):
            for path in read_list(source):
                files.files[path] = None
        else:
            files.files[source] = None
    elif glob.has_magic(source):
        matches = sorted(
            match for match in glob.glob(source, recursive=True) if os.path.isfile(match)
        )
        if not matches and not glob.glob(source, recursive=True):
            files.skipped.append(SkippedPhoto(source, "the pattern matches nothing"))
        fixed = fixed_folder(source)
        for match in matches:
            if not is_photo(match):
                note_unread(match, files.left_out)
            elif not is_left_out(os.path.relpath(match, fixed), files.left_out):
                files.files[match] = None
        files.folders.append(fixed)
    else:
        files.skipped.append(SkippedPhoto(source, "no such file or folder"))


def _find_elsewhere(source: str, files: _Found, *, recursive: bool) -> None:
    if is_photo(source):
        files.files[source] = None
        return
    for path, status in sorted(find_elsewhere(source, is_recursive=recursive).items()):
        name = os.path.relpath(path, source)
        if not is_photo(path):
            note_unread(path, files.left_out)
        elif os.path.basename(path).startswith("."):
            files.left_out.photos["hidden files"] += 1
        elif not is_left_out(name, files.left_out):
            files.files[path] = None
            files.elsewhere[path] = status
    files.folders.append(source)


def list_photos(folder: str | Path, *, left_out: LeftOut | None = None) -> list[str]:
    """Absolute paths of the photo files under a folder, known by their endings, sorted by their
    paths inside it.

    What is passed over is counted in `left_out`.
    """
    top = os.path.abspath(folder)
    return sorted(
        walk_photos(top, left_out=left_out or LeftOut()), key=lambda path: _name(path, top)
    )


def read_list(path: str | Path, *, folder: str | Path | None = None) -> list[str]:
    """Absolute paths from a text file that lists one path a line, relative to `folder`, by default
    the list's own.

    Either kind of slash separates folders. Raises `UnreadableTable`.
    """
    lines = [line.strip("\r\n") for line in read_text(path).split("\n")]
    if any("\0" in line for line in lines):
        raise UnreadableTable(path, "it holds zero bytes: it is not a list of paths")
    finder = FileFinder(Path(path).parent if folder is None else folder)
    return [
        path_of(line.strip()) if is_address(line.strip()) else finder.find(line)
        for line in lines
        if line.strip()
    ]


def fixed_folder(pattern: str) -> str:
    """The part of a glob pattern before its first wildcard, as a folder."""
    while glob.has_magic(pattern):
        pattern = os.path.dirname(pattern)
    return pattern


def _common_folder(files: _Found) -> str:
    folders = [*files.folders, *(os.path.dirname(path) for path in files.files)]
    folders = [folder for folder in folders if not is_elsewhere(folder)]
    try:
        return os.path.commonpath(folders) if folders else os.getcwd()
    except ValueError:  # Windows: the sources lie on several drives.
        return os.path.abspath(os.sep)


def _name(path: str, root: str) -> str:
    """A path relative to the root with "/", or an address; bytes that are not UTF-8 are shown as
    escapes."""
    if is_elsewhere(path):
        return address_of(path)
    try:
        relative = os.path.relpath(path, root)
    except ValueError:
        relative = path
    relative = path if relative.startswith("..") else relative
    return (
        relative.replace(os.sep, "/")
        .encode("utf-8", "surrogateescape")
        .decode("utf-8", "backslashreplace")
    )
