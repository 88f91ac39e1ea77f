"""Fetching one file over HTTP: whole and right, or not at all; what broke off goes on later."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import http.client
import os
import shutil
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO

from whence.errors import DownloadFailed, UnwritableFile
from whence.runtime import progress

try:
    import fcntl
except (
    ImportError
):  # Not there on Windows, where two downloads of one file at a time are not kept apart.
    fcntl = None  # type: ignore[assignment]
CHUNK_BYTES = 1 << 20
NUM_ATTEMPTS = 3
"""Attempts of one download before it is given up; each goes on where the last one broke off."""
TIMEOUT_S = 30


def sha256_of(path: str | Path) -> str:
    """The sha256 of a file, as hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def download(
    address: str, target: Path, *, sha256: str | None = None, show_progress: bool | None = None
) -> None:
    """Fetch a file over HTTP to `target`, which appears only when it is whole and, where `sha256`
    is given, the right one.

    An interrupted download goes on where it broke off, also in a later process, if the server can.
    Raises `DownloadFailed`, and `UnwritableFile` where the disk is full.
    """
    part = target.with_name(target.name + ".part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with open(part, "ab") as file:
            with _alone(file, address):
                try:
                    _fetch(address, file, show_progress=show_progress)
                except DownloadFailed:
                    if not file.tell():
                        _forget(part)
                    raise
            file.flush()
            os.fsync(file.fileno())
            if sha256 is not None and (found := sha256_of(part)) != sha256:
                _forget(part)
                raise DownloadFailed(
                    address,
                    (
                        f"what came has the checksum {found}, not the published {sha256}; it was "
                        "removed"
                    ),
                )
            os.replace(part, target)
            _note_of(part).unlink(missing_ok=True)
    except UnwritableFile:
        raise
    except OSError as error:
        raise UnwritableFile(target, error) from error


@contextlib.contextmanager
def _alone(file: IO[bytes], address: str) -> Iterator[None]:
    try:
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise DownloadFailed(address, "another process is downloading it at this moment") from None
    yield


def _fetch(address: str, file: IO[bytes], *, show_progress: bool | None) -> None:
    """Bring the open `.part` file to its full length."""
    reason = ""
    for _ in range(NUM_ATTEMPTS):
        try:
            if _fetch_once(address, file, show_progress=show_progress):
                return
            reason = "the connection broke off"
        except urllib.error.HTTPError as error:
            with error:
                raise DownloadFailed(
                    address, f"the server answered {error.code} {error.reason}"
                ) from None
        except (
            urllib.error.URLError,
            http.client.HTTPException,
            TimeoutError,
            ConnectionError,
            ssl.SSLError,
        ) as error:
            reason = str(getattr(error, "reason", "") or error or type(error).__name__)
        except ValueError as error:
            raise DownloadFailed(address, str(error)) from None
    kept = (
        f"; {file.tell() / 1e6:.1f} MB are kept, and the next try goes on from there"
        if file.tell()
        else ""
    )
    raise DownloadFailed(address, reason + kept)


def _fetch_once(address: str, file: IO[bytes], *, show_progress: bool | None) -> bool:
    """One request for what is still wanted; gives whether the file is whole then."""
    note = _note_of(Path(file.name))
    have = file.seek(0, os.SEEK_END)
    validator = note.read_text() if have and note.is_file() else ""
    request = urllib.request.Request(address, headers={"User-Agent": "whence"})
    if request.type not in ("http", "https"):
        raise ValueError("only http and https addresses are fetched")
    if have and validator:
        request.add_header("Range", f"bytes={have}-")
        request.add_header("If-Range", validator)
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:
        if response.headers.get_content_type() == "text/html":
            raise DownloadFailed(
                address, "the server gave a web page in place of the file; get it with a browser"
            )
        if response.status != http.client.PARTIAL_CONTENT or not _begins_at(
            response.headers.get("Content-Range", ""), have
        ):
            have = 0
            file.truncate(0)
            file.seek(0)
        length = response.headers.get("Content-Length")
        total = None if length is None else have + int(length)
        note.write_text(_validator(response.headers))
        _check_room(Path(file.name), 0 if total is None else total - have)
        _copy(response, file, have=have, total=total, show_progress=show_progress)
    return total is None or file.tell() == total


def _copy(
    response: IO[bytes],
    file: IO[bytes],
    *,
    have: int,
    total: int | None,
    show_progress: bool | None,
) -> None:
    label = f"downloading {Path(file.name).stem} (MB)"
    with progress(
        label, total=None if total is None else total // 1_000_000, show=show_progress
    ) as advance:
        advance(have // 1_000_000)
        while chunk := response.read(CHUNK_BYTES):
            file.write(chunk)
            advance((have + len(chunk)) // 1_000_000 - have // 1_000_000)
            have += len(chunk)


def _begins_at(content_range: str, start: int) -> bool:
    return content_range.startswith(f"bytes {start}-")


def _validator(headers: Mapping[str, str]) -> str:
    """What tells whether the server still has the same file; a weak tag does not."""
    tag = headers.get("ETag") or ""
    return tag if tag and not tag.startswith("W/") else headers.get("Last-Modified") or ""


def _check_room(part: Path, num_bytes: int) -> None:
    if shutil.disk_usage(part.parent).free < num_bytes:
        raise UnwritableFile(part, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))


def _note_of(part: Path) -> Path:
    """Beside a `.part` file: which state of the server's file it is the beginning of."""
    return part.with_name(part.name + ".tag")


def _forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    _note_of(part).unlink(missing_ok=True)
