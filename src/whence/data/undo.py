"""Writing many new files in a way that can be taken back: a file that lists them is written first.

The undo file lies at the top of the folder that is written into and names the files relative to
itself, with the hash of what each will hold. So it is valid after a run that was killed half-way,
and after the folder was moved.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

from whence.data.images import content_hash
from whence.errors import UnreadableImage, UnreadableTable, UnwritableFile, WhenceError
from whence.runtime import atomic_write, told_when_stopped
from whence.types import SkippedPhoto

FORMAT = "whence-undo"
VERSION = 1
MAX_UNDO_BYTES = 500_000_000


@dataclass(frozen=True, slots=True)
class PlannedFile:
    """A new file: where, and what makes its bytes, the same ones each time it is asked."""

    path: Path
    make: Callable[[], bytes]


@dataclass(frozen=True, slots=True)
class Written:
    """What `write_files` did."""

    undo_file: Path | None
    """None where nothing was written."""
    files: tuple[Path, ...]
    skipped: tuple[SkippedPhoto, ...]


@dataclass(frozen=True, slots=True)
class Undone:
    """What `undo_files` did: removed, already gone, and kept with the reason."""

    removed: tuple[Path, ...]
    missing: tuple[Path, ...]
    refusals: tuple[SkippedPhoto, ...]


@dataclass(frozen=True, slots=True)
class _Listed:
    """What an undo file says, relative to its folder."""

    files: tuple[tuple[str, str], ...]
    folders: tuple[str, ...]


def write_files(
    planned: Sequence[PlannedFile],
    *,
    folder: str | Path,
    advance: Callable[[int], None] = lambda n: None,
) -> Written:
    """New files, written under `folder`, never over existing ones, after a file that lists them for
    `undo_files`.

    What cannot be made or written is skipped with the reason. Raises `UnwritableFile` where the
    undo file itself cannot be written: then nothing is. `advance` is called with the number of
    files done.
    """
    top = Path(folder)
    skipped: list[SkippedPhoto] = []
    hashes: dict[Path, str] = {}
    for file in planned:
        if file.path.exists() or file.path.is_symlink():
            skipped.append(SkippedPhoto(str(file.path), "it exists already and is left as it is"))
            continue
        try:
            hashes[file.path] = _hash(file.make())
        except WhenceError as error:
            skipped.append(SkippedPhoto(str(file.path), getattr(error, "reason", str(error))))
    if not hashes:
        return Written(None, (), tuple(skipped))
    folders = _new_folders(list(hashes), top)
    undo_file = _write_undo(top, hashes, folders)
    written = {}
    kept = (
        f"some of {len(hashes)} files may have been written; to take them back: whence undo "
        f"{undo_file}"
    )
    with told_when_stopped(kept):
        for file in planned:
            if file.path in hashes:
                reason = _write_one(file, hashes[file.path])
                if reason:
                    skipped.append(SkippedPhoto(str(file.path), reason))
                else:
                    written[file.path] = hashes[file.path]
                advance(1)
    with contextlib.suppress(
        OSError
    ):  # The list written first is still right: it names a few files too many.
        if written:
            _save(undo_file, top, written, folders)
        else:
            _remove_folders(top, _relative(folders, top))
            undo_file.unlink()
    return Written(undo_file if written else None, tuple(written), tuple(skipped))


def undo_files(undo_file: str | Path) -> Undone:
    """The files of `write_files`, removed where they are unchanged since; then the undo file,
    unless something was kept.

    Raises `UnreadableTable` for what is no undo file.
    """
    undo_file = Path(undo_file)
    listing = _read(undo_file)
    top = undo_file.resolve().parent
    removed: list[Path] = []
    missing: list[Path] = []
    remaining: dict[Path, tuple[str, str]] = {}
    for name, content in listing.files:
        path = top / name
        reason = _reason_to_keep(path, content, top)
        if reason is None:
            missing.append(path)
            continue
        try:
            if not reason:
                path.unlink()
                removed.append(path)
                continue
        except OSError as error:
            reason = f"it cannot be removed: {error.strerror or error}"
        remaining[path] = (content, reason)
    _remove_folders(top, listing.folders)
    with contextlib.suppress(OSError):  # What was removed is removed; a stale list does no harm.
        if remaining:
            _save(
                undo_file,
                top,
                {path: content for path, (content, _) in remaining.items()},
                [top / name for name in listing.folders],
            )
        else:
            undo_file.unlink()
    return Undone(
        tuple(removed),
        tuple(missing),
        tuple(SkippedPhoto(str(path), reason) for path, (_, reason) in remaining.items()),
    )


def _hash(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def _new_folders(paths: Sequence[Path], top: Path) -> list[Path]:
    """Folders under `top` that have to be made, the outer ones first."""
    wanted = {
        parent
        for path in paths
        for parent in path.parents
        if parent != top and top in parent.parents
    }
    return sorted(parent for parent in wanted if not parent.exists())


def _write_undo(top: Path, hashes: dict[Path, str], folders: Sequence[Path]) -> Path:
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    try:
        top.mkdir(parents=True, exist_ok=True)
        for number in range(1, 1000):
            undo_file = top / f"whence-undo-{stamp}{'' if number == 1 else f'-{number}'}.json"
            with contextlib.suppress(FileExistsError):
                _save(undo_file, top, hashes, folders, is_new=True)
                return undo_file
    except UnwritableFile:
        raise
    except OSError as error:
        raise UnwritableFile(top, error) from None
    raise UnwritableFile(top, "it is full of undo files of this second; try again")


def _save(
    undo_file: Path,
    top: Path,
    hashes: dict[Path, str],
    folders: Sequence[Path],
    *,
    is_new: bool = False,
) -> None:
    record = {
        "format": FORMAT,
        "version": VERSION,
        "files": [
            {"path": path.relative_to(top).as_posix(), "content": content}
            for path, content in hashes.items()
        ],
        "folders": _relative(folders, top),
    }
    with atomic_write(undo_file, is_new=is_new) as file:
        file.write(json.dumps(record, ensure_ascii=True, indent=1).encode())


def _relative(folders: Sequence[Path], top: Path) -> tuple[str, ...]:
    return tuple(folder.relative_to(top).as_posix() for folder in folders)


def _write_one(file: PlannedFile, content: str) -> str:
    """Write one file; gives the reason why not, or nothing."""
    try:
        data = file.make()
        if _hash(data) != content:
            return "the photo changed meanwhile"
        file.path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(file.path, is_new=True) as out:
            out.write(data)
    except FileExistsError:
        return "it exists already and is left as it is"
    except WhenceError as error:
        return str(getattr(error, "reason", error))
    except OSError as error:
        return UnwritableFile(file.path, error).reason
    return ""


def _reason_to_keep(path: Path, content: str, top: Path) -> str | None:
    """Empty where the file may be removed; None where it is gone."""
    try:
        if path.is_symlink() or not path.parent.resolve().is_relative_to(top):
            return "it is a link now, or leads out of the folder"
        if not path.exists():
            return None
        return "" if content_hash(path) == content else "it was changed since"
    except UnreadableImage as error:
        return error.reason
    except OSError as error:
        return error.strerror or str(error)


def _remove_folders(top: Path, folders: Sequence[str]) -> None:
    """Remove the folders that were made, where they are empty."""
    for name in sorted(folders, key=lambda name: -name.count("/")):
        with contextlib.suppress(OSError):
            if not (top / name).is_symlink() and (top / name).resolve().is_relative_to(
                top.resolve()
            ):
                (top / name).rmdir()


def _read(undo_file: Path) -> _Listed:
    try:
        if undo_file.stat().st_size > MAX_UNDO_BYTES:
            raise UnreadableTable(undo_file, f"an undo file has at most {MAX_UNDO_BYTES:,} bytes")
        record = json.loads(undo_file.read_bytes())
    except OSError as error:
        raise UnreadableTable(undo_file, error.strerror or str(error)) from None
    except (ValueError, RecursionError):
        raise UnreadableTable(undo_file, "it is not JSON, so it is no undo file") from None
    if (
        not isinstance(record, dict)
        or record.get("format") != FORMAT
        or record.get("version") != VERSION
    ):
        raise UnreadableTable(
            undo_file,
            (
                f"it is not an undo file of version {VERSION}; `whence tag --write` names the one "
                "it made"
            ),
        )
    files, folders = record.get("files"), record.get("folders")
    if not isinstance(files, list) or not isinstance(folders, list):
        raise UnreadableTable(undo_file, "it lists no files")
    entries = tuple(
        (_inside(undo_file, entry, "path"), _content(undo_file, entry)) for entry in files
    )
    return _Listed(entries, tuple(_inside(undo_file, {"path": name}, "path") for name in folders))


def _inside(undo_file: Path, entry: object, key: str) -> str:
    name = entry.get(key) if isinstance(entry, dict) else None
    if not isinstance(name, str) or not name or "\0" in name:
        raise UnreadableTable(undo_file, f"an entry has no {key}")
    parts = PurePosixPath(name)
    if parts.is_absolute() or ".." in parts.parts or Path(name).is_absolute():
        raise UnreadableTable(
            undo_file, f"{name!r} does not lie in its folder; nothing was removed"
        )
    return name


def _content(undo_file: Path, entry: object) -> str:
    content = entry.get("content") if isinstance(entry, dict) else None
    if not isinstance(content, str) or not re.fullmatch("[0-9a-f]{32}", content):
        raise UnreadableTable(undo_file, "an entry has no hash; nothing was removed")
    return content
