"""Files of a database folder: written whole and synced, checked by size and checksum, the disk's
errors translated, one writer."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import os
import re
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from whence.errors import CorruptStore, StoreError, StoreFull, StoreLocked

try:
    import fcntl
except ImportError:  # no such module on Windows; two writers are then not told apart
    fcntl = None  # type: ignore[assignment]

LOCK_NAME = "lock"
_DATA_NAME = re.compile(r"\d{8}\.(photos\.npz|descriptors\.npy|blob\.npz|cache\.npz|cache\.bin)")
_PART_NAME = re.compile(r"\.manifest\.json\..*\.part")
_DISK_IS_FULL = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}
_BLOCK_BYTES = 1 << 23


@dataclass(frozen=True, slots=True)
class FileEntry:
    """A data file as the manifest remembers it: name inside the folder, size, BLAKE2b-128 of its
    bytes in hex digits."""

    name: str
    size_bytes: int
    checksum: str


def is_data_name(name: str) -> bool:
    """Whether a file name is one that a database gives to its data files."""
    return _DATA_NAME.fullmatch(name) is not None


@contextlib.contextmanager
def disk_errors(folder: Path, doing: str) -> Iterator[None]:
    """Turn every `OSError` inside into `StoreFull` (no room, file too large, quota) or
    `StoreError`, naming the folder."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        if error.errno in _DISK_IS_FULL:
            raise StoreFull(
                folder,
                f"no room while {doing} ({reason}); the earlier state is intact: free some space",
            ) from error
        raise StoreError(
            folder, f"{doing} failed ({reason}); the earlier state is intact"
        ) from error


class _HashingFile:
    """What the writers of data files write to: hashes and counts on the way to the disk."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.hash = hashlib.blake2b(digest_size=16)
        self.size_bytes = 0

    def write(self, data: bytes | bytearray | memoryview) -> int:
        view = memoryview(data).cast("B") if len(data) else memoryview(b"")
        self._file.write(view)
        self.hash.update(view)
        self.size_bytes += view.nbytes
        return view.nbytes

    def flush(self) -> None:
        self._file.flush()


def write_data_file(folder: Path, name: str, fill: Callable[[_HashingFile], None]) -> FileEntry:
    """A data file that `fill` wrote, safe on the disk. On any failure the file is deleted again."""
    path = folder / name
    try:
        with open(path, "wb") as file:
            hashing = _HashingFile(file)
            fill(hashing)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        remove_files(folder, [name])
        raise
    return FileEntry(name, hashing.size_bytes, hashing.hash.hexdigest())


def write_npz(folder: Path, name: str, arrays: Mapping[str, np.ndarray]) -> FileEntry:
    """A file of arrays, an uncompressed .npz whose bytes depend on nothing but the arrays. Object
    arrays are refused."""

    def fill(file: _HashingFile) -> None:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:  # type: ignore[call-overload]
            for key, array in arrays.items():
                with archive.open(zipfile.ZipInfo(f"{key}.npy"), "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, np.asanyarray(array), allow_pickle=False)

    return write_data_file(folder, name, fill)


def write_npy(
    folder: Path,
    name: str,
    *,
    blocks: Iterable[np.ndarray],
    num_rows: int,
    dim: int,
    dtype: np.dtype,
) -> FileEntry:
    """A file of a matrix (num_rows, dim), a .npy written block by block, without holding it."""

    def fill(file: _HashingFile) -> None:
        header = io.BytesIO()
        facts = {
            "descr": np.lib.format.dtype_to_descr(dtype),
            "fortran_order": False,
            "shape": (num_rows, dim),
        }
        np.lib.format.write_array_header_1_0(header, facts)
        file.write(header.getvalue())
        written = 0
        for block in blocks:
            file.write(np.ascontiguousarray(block, dtype=dtype).data if block.size else b"")
            written += len(block)
        assert written == num_rows, "the caller counted its rows"

    return write_data_file(folder, name, fill)


def read_npz(folder: Path, entry: FileEntry) -> dict[str, np.ndarray]:
    """The arrays of a .npz data file. Raises `CorruptStore`."""
    try:
        file = open(folder / entry.name, "rb")  # noqa: SIM115 (closed below)
    except FileNotFoundError as error:
        raise missing_file(folder, entry.name) from error
    except OSError as error:
        raise StoreError(folder, f"{entry.name} cannot be read ({error.strerror})") from error
    try:
        with file, np.load(file, allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files}
    except (
        OSError,
        ValueError,
        EOFError,
        KeyError,
        zipfile.BadZipFile,
        NotImplementedError,
    ) as error:
        raise CorruptStore(
            folder, f"{entry.name} is damaged ({error}); rebuild the database"
        ) from error


def map_npy(
    folder: Path, entry: FileEntry, *, shape: tuple[int, int], dtype: np.dtype
) -> np.ndarray:
    """The matrix of a .npy data file, memory-mapped read-only. Raises `CorruptStore` where it is
    not what the manifest says."""
    try:
        array = np.load(folder / entry.name, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError as error:
        raise missing_file(folder, entry.name) from error
    except (OSError, ValueError, EOFError) as error:
        raise CorruptStore(
            folder, f"{entry.name} is damaged ({error}); rebuild the database"
        ) from error
    if array.shape != shape or array.dtype != dtype:
        found, wanted = f"{array.dtype} {array.shape}", f"{dtype} {shape}"
        raise CorruptStore(
            folder, f"{entry.name} holds {found}, the manifest says {wanted}; rebuild the database"
        )
    return array


def missing_file(folder: Path, name: str) -> StoreError:
    """The error for a listed file that is not there."""
    hint = (
        "restore it or rebuild the database; if another process compacted the database meanwhile, "
        "open it again"
    )
    return CorruptStore(folder, f"{name} is missing: {hint}")


def check_sizes(folder: Path, entries: Iterable[FileEntry]) -> None:
    """Raise `CorruptStore` unless every file is there with the size the manifest says."""
    for entry in entries:
        try:
            size = os.stat(folder / entry.name).st_size
        except FileNotFoundError as error:
            raise missing_file(folder, entry.name) from error
        except OSError as error:
            raise StoreError(
                folder, f"{entry.name} cannot be looked at ({error.strerror})"
            ) from error
        if size != entry.size_bytes:
            reason = (
                f"{entry.name} has {size} bytes, the manifest says {entry.size_bytes}: truncated "
                "or changed; rebuild the database"
            )
            raise CorruptStore(folder, reason)


def checksum(path: Path) -> str:
    """BLAKE2b-128 of a file's bytes, hex digits."""
    total = hashlib.blake2b(digest_size=16)
    with open(path, "rb") as file:
        while block := file.read(_BLOCK_BYTES):
            total.update(block)
    return total.hexdigest()


def remove_files(folder: Path, names: Iterable[str]) -> None:
    """Delete files where they exist; what cannot be deleted now is a left-over that the next writer
    deletes."""
    for name in names:
        with contextlib.suppress(OSError):
            os.unlink(folder / name)


def left_overs(folder: Path, entries: Iterable[str]) -> list[str]:
    """Names of data files and half-written manifests in the folder that the manifest does not list;
    never a foreign file."""
    keep = set(entries)
    names = sorted(os.listdir(folder))
    return [
        name
        for name in names
        if (is_data_name(name) and name not in keep) or _PART_NAME.fullmatch(name)
    ]


class WriterLock:
    """The right to write to a folder; the system takes it back when the process ends, however it
    ends."""

    def __init__(self, folder: Path) -> None:
        """Raises `StoreLocked` where another process, or another `Store` of this one, holds it."""
        self._handle = os.open(
            folder / LOCK_NAME, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666
        )
        try:
            if fcntl is not None:
                fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self.release()
            if error.errno in (errno.EAGAIN, errno.EACCES):
                raise StoreLocked(
                    folder, "another process is writing to it; wait for it to end"
                ) from error
            raise
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        """Give the right back; twice is once."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def __del__(self) -> None:
        if getattr(self, "_handle", -1) >= 0:
            self.release()
