"""Photos that lie elsewhere: in object storage or behind a web server, reached through fsspec
(extra `cloud`).

A person names them by address, `s3://bucket/photos` or `https://host/photo.jpg`, and a database
keeps that name. Inside, an address is the absolute path `/s3:/bucket/photos`, so that whatever
joins, sorts and compares paths works on it as on any other. Credentials are those that each
storage's own client finds; nothing of them is kept here. Chains of fsspec
(`simplecache::s3://bucket/photos`) are addresses too.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable
from datetime import datetime
from io import BufferedReader, BytesIO
from typing import Any, NamedTuple, cast
from urllib.parse import unquote

from whence.errors import BadOption, MissingExtra, NoPhotos, UnreadableImage
from whence.settings import load_settings

_ADDRESS = re.compile(r"((?:[a-z0-9]+::)*[a-z][a-z0-9+.-]+)://(.*)", re.DOTALL)
_PATH = re.compile(r"/((?:[a-z0-9]+::)*[a-z][a-z0-9+.-]+):/(.*)", re.DOTALL)
_HEADER_BYTES = 65_536
_TIMES = ("mtime", "LastModified", "last_modified", "updated", "modified", "created")
_TAGS = ("ETag", "etag", "md5Hash", "checksum", "content_md5")


class Status(NamedTuple):
    """What tells whether a file is the one that was read before."""

    size_bytes: int
    mtime_ns: int
    ctime_ns: int
    """Of a file elsewhere a number that stands for its tag, which changes with its bytes; 0 where
    it has none."""


def is_address(name: str) -> bool:
    """Whether this names something elsewhere, as people write it."""
    return _ADDRESS.fullmatch(name) is not None


def path_of(name: str) -> str:
    """The path that stands for an address; other names as they are."""
    found = _ADDRESS.fullmatch(name)
    if found is None:
        return name
    return (
        f"/{found[2].lstrip('/')}" if found[1] == "file" else f"/{found[1]}:/{found[2].strip('/')}"
    )


def is_elsewhere(path: str | os.PathLike[str]) -> bool:
    """Whether a path stands for an address, or is one."""
    name = os.fspath(path)
    return ":/" in name and (_PATH.fullmatch(name) is not None or is_address(name))


def address_of(path: str | os.PathLike[str]) -> str:
    """The address that a path stands for; other paths as they are."""
    found = _PATH.fullmatch(os.fspath(path))
    return os.fspath(path) if found is None else f"{found[1]}://{found[2]}"


def plain_name(name: str) -> str:
    """A name as its owner wrote it: what the web escapes in addresses is turned back."""
    return unquote(name) if name.startswith(("http://", "https://")) else name


def joined(folder: str | os.PathLike[str], name: str) -> str:
    """The absolute path of a name that a table or database holds: below the folder, or
    elsewhere."""
    return (
        path_of(name)
        if is_address(name)
        else os.path.normpath(os.path.join(os.path.abspath(folder), name))
    )


def open_elsewhere(path: str | os.PathLike[str], *, is_whole: bool = True) -> BufferedReader:
    """The file of a path: fetched, or to be read piece by piece. Raises `UnreadableImage`,
    `BadOption` and `MissingExtra`."""
    address = address_of(path)
    try:
        store, name = _store_of(address)
        if is_whole:
            return cast(BufferedReader, BytesIO(store.cat_file(name)))
        return cast(
            BufferedReader, store.open(name, "rb", cache_type="readahead", block_size=_HEADER_BYTES)
        )
    except (MissingExtra, BadOption, UnreadableImage):
        raise
    except FileNotFoundError:
        raise UnreadableImage(address, "no such file") from None
    except PermissionError:
        raise UnreadableImage(address, "no permission to read it") from None
    except Exception as error:  # Each client raises its own.
        raise UnreadableImage(address, f"it cannot be fetched ({_said(error)})") from None


def status_of(path: str | os.PathLike[str], file: BufferedReader) -> Status:
    """Marks that an open file is known by: size and times, or its tag."""
    if is_elsewhere(path):
        return status_elsewhere(os.fspath(path)) or Status(file.seek(0, os.SEEK_END), 0, 0)
    found = os.fstat(file.fileno())
    return Status(found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def status_elsewhere(path: str) -> Status | None:
    """The same of a path; None where there is no such file, or nothing can be learned of it."""
    try:
        store, name = _store_of(address_of(path))
        return _status(store.info(name))
    except Exception:
        return None


def exists_elsewhere(path: str | os.PathLike[str]) -> bool:
    """Whether something lies there. What cannot be asked now is taken to be there: nothing is
    forgotten because a line is cut."""
    try:
        store, name = _store_of(address_of(path))
        store.info(name)
    except FileNotFoundError:
        return False
    except Exception:
        return True
    return True


def is_there(path: str | os.PathLike[str]) -> bool:
    """Whether a file or folder is there, on this machine or elsewhere."""
    return exists_elsewhere(path) if is_elsewhere(path) else os.path.lexists(path)


def are_there(paths: Iterable[str]) -> list[bool]:
    """The same of many files; elsewhere each folder is listed once."""
    listed: dict[str, set[str] | None] = {}
    found = []
    for path in paths:
        if not is_elsewhere(path):
            found.append(os.path.lexists(path))
            continue
        folder, name = os.path.split(path)
        if folder not in listed:
            listed[folder] = _names_in(folder)
        names = listed[folder]
        found.append(name in names if names is not None else exists_elsewhere(path))
    return found


def _names_in(folder: str) -> set[str] | None:
    """The names in a folder elsewhere; none where there is no folder, None where it cannot be
    listed."""
    try:
        store, name = _store_of(address_of(folder))
        return {
            str(one).rstrip("/").rpartition("/")[2]
            for one in store.ls(name, detail=False, refresh=True)
        }
    except FileNotFoundError:
        return set()
    except Exception:
        return None


def find_elsewhere(source: str, *, is_recursive: bool = True) -> dict[str, Status]:
    """All files at or below a path elsewhere, with what is known of them. Raises `NoPhotos`,
    `BadOption` and `MissingExtra`."""
    address = address_of(source)
    try:
        store, name = _store_of(address)
        found: dict[str, Any] = store.find(name, maxdepth=None if is_recursive else 1, detail=True)
    except (MissingExtra, BadOption):
        raise
    except FileNotFoundError:
        found = {}
    except Exception as error:
        raise NoPhotos(f"{address!r} cannot be listed: {_said(error)}") from None
    if not found:
        raise NoPhotos(
            f"nothing is at {address!r}, or its server cannot be reached, or lists no folders "
            "(a .txt file of addresses works everywhere)"
        )
    return {_below(str(one), name, source): _status(details) for one, details in found.items()}


def _below(address: str, name: str, source: str) -> str:
    """The path of a file that was found below `name`, which is what the storage calls `source`."""
    if is_address(address):
        return path_of(address)
    below = address.strip("/").removeprefix(name.strip("/")).strip("/")
    return f"{source.rstrip('/')}/{below}" if below else source


def _status(details: Any) -> Status:
    when = next((details[name] for name in _TIMES if details.get(name)), None)
    tag = next((details[name] for name in _TAGS if details.get(name)), None)
    number = (
        0
        if tag is None
        else int.from_bytes(hashlib.blake2b(str(tag).encode(), digest_size=7).digest())
    )
    return Status(int(details.get("size") or 0), _nanoseconds(when), number)


def _nanoseconds(when: Any) -> int:
    if isinstance(when, str):
        try:
            when = datetime.fromisoformat(when)
        except ValueError:
            return 0
    if isinstance(when, datetime):
        when = when.timestamp()
    return int(when * 1e9) if isinstance(when, int | float) else 0


def _store_of(address: str) -> tuple[Any, str]:
    """The storage of an address, and what it is called there. Raises `MissingExtra` and
    `BadOption`."""
    if load_settings().offline:
        raise UnreadableImage(address, "the settings say offline, and it lies elsewhere")
    try:
        import fsspec
    except ImportError:
        raise MissingExtra("reading photos that lie elsewhere", "cloud") from None
    try:
        store, name = fsspec.core.url_to_fs(address)
    except (ImportError, ValueError) as error:
        raise BadOption(f"{address!r} cannot be reached: {_said(error)}") from None
    return store, str(name)


def _said(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:200]
