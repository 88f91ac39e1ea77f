"""Files of weights: where they lie on this machine, and how they get there from their origins. No torch here, nothing is read.

They live in the folder `weights` of the cache (`WHENCE_CACHE`, else `~/.cache/whence`). A file whose checksum nobody published is
pinned when it is first used: another file under its name is refused from then on.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import http.client
import json
import os
import shutil
import ssl
import tarfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Literal

from whence.errors import DownloadFailed, MissingExtra, MissingWeights, UnreadableWeights, UnwritableFile
from whence.registry import ModelCard, Origin
from whence.runtime import atomic_write, progress
from whence.settings import load_settings

try:
    import fcntl
except ImportError:  # Not there on Windows, where two downloads of one file at a time are not kept apart.
    fcntl = None  # type: ignore[assignment]

Status = Literal["none needed", "missing", "unverified", "pinned", "verified"]
"""State of a card's file: not looked at yet, as at its first use, or of the published checksum."""

PACKAGED = Path(__file__).parent / "weights"
"""Where the weights lie that come with Whence."""
CHUNK_BYTES = 1 << 20
NUM_ATTEMPTS = 3
"""Attempts of one download before it is given up; each goes on where the last one broke off."""
TIMEOUT_S = 30
_DRIVE = "https://drive.usercontent.google.com/download?id={}&export=download&confirm=t"


def weights_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Where files of weights are kept."""
    named = environ.get("WHENCE_CACHE")
    return (Path(named) if named else Path.home() / ".cache" / "whence") / "weights"


def converted_file(card: ModelCard) -> Path:
    """Where `whence convert` puts the card's weights unless told otherwise."""
    return weights_folder() / f"{card.name}.safetensors"


def find_weights(card: ModelCard) -> Path | None:
    """The file with the card's weights that is on this machine: packaged, converted, from an origin; None where there is none."""
    if (packaged := packaged_file(card)) is not None:
        return packaged
    converted = converted_file(card)
    return converted if converted.is_file() else _find_origin(card.origins)


def packaged_file(card: ModelCard) -> Path | None:
    """The file with the card's weights that came with Whence; None for weights that do not."""
    return next((PACKAGED / origin.file for origin in card.origins if origin.kind == "packaged"), None)


def _find_origin(origins: tuple[Origin, ...]) -> Path | None:
    in_cache = (weights_folder() / origin.file for origin in origins)
    in_hub = (_find_in_hub(origin) for origin in origins if origin.kind == "hub")
    return next((path for path in (*in_cache, *in_hub) if path is not None and path.is_file()), None)


def get_weights(card: ModelCard, *, weights: str | Path | None = None, show_progress: bool | None = None) -> tuple[Path, ...]:
    """The files with the card's weights: the one named, the one on this machine, or a download from the first origin that has one.

    A second file follows where the backbone's weights are one of their own and the first is not converted. Raises `MissingWeights`
    where a file is not there and may not or cannot be downloaded, `DownloadFailed`, and `UnreadableWeights` where the checksum
    of one is not the published or pinned one.
    """
    if weights is not None:
        first = Path(weights)
        if not first.is_file():
            raise MissingWeights(
                f"there is no file {str(weights)!r} with the weights of {card.name}; {how_to_get(card, card.origins)}"
            )
    else:
        first = find_weights(card) or _download_first(card, card.origins, show_progress=show_progress)
    check_checksum(card, first)
    if not card.backbone_origins or first.suffix == ".safetensors":
        return (first,)
    second = _find_origin(card.backbone_origins) or _download_first(card, card.backbone_origins, show_progress=show_progress)
    check_checksum(card, second)
    return first, second


def _download_first(card: ModelCard, origins: tuple[Origin, ...], *, show_progress: bool | None) -> Path:
    reachable = [origin for origin in origins if origin.kind != "manual"]
    if not reachable or load_settings().offline:
        why = ", and offline is set" if reachable else ""
        raise MissingWeights(f"the weights of {card.name} are not on this machine{why}: {how_to_get(card, origins)}")
    try:
        return _download_origin(reachable[0], show_progress=show_progress)
    except DownloadFailed as error:
        raise DownloadFailed(error.address, f"{error.reason}. By hand: {how_to_get(card, origins)}") from None


def weights_status(card: ModelCard) -> Status:
    """What is known of the card's file, without reading it."""
    if not card.origins or packaged_file(card) is not None:
        return "none needed"
    found = find_weights(card)
    if found is None or (card.backbone_origins and found != converted_file(card) and not _find_origin(card.backbone_origins)):
        return "missing"
    entry = _read_checksums().get(found.name)
    if entry is None or not _is_as_pinned(found, entry):
        return "unverified"
    published = _published_checksum(card, found)
    return "verified" if published and published == entry["sha256"] else "pinned"


def check_checksum(card: ModelCard, path: Path) -> str:
    """The checksum (sha256) of a file in the cache, remembered on first use; files elsewhere are not looked at and give "".

    Raises `UnreadableWeights` where it is neither the published nor the remembered one.
    """
    if path.parent != weights_folder():
        return ""
    pinned = _read_checksums()
    entry = pinned.get(path.name)
    if entry is not None and _is_as_pinned(path, entry):
        return str(entry["sha256"])
    found = sha256_of(path)
    published = _published_checksum(card, path)
    if published and found != published:
        raise UnreadableWeights(path, f"its checksum is {found}, the published one is {published}; remove it and get it again")
    if entry is not None and entry["sha256"] != found:
        table = weights_folder() / "checksums.json"
        fix = f"get the old file again, or, if it was replaced on purpose, remove its entry from {str(table)!r}"
        raise UnreadableWeights(path, f"it is another file than at its first use; {fix}")
    _pin(path, found)
    return found


def sha256_of(path: str | Path) -> str:
    """The sha256 of a file, as hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def download(address: str, target: Path, *, sha256: str | None = None, show_progress: bool | None = None) -> None:
    """Fetch a file over HTTP to `target`, which appears only when it is whole and, where `sha256` is given, the right one.

    An interrupted download goes on where it broke off, also in a later process, if the server can. Raises `DownloadFailed`, and
    `UnwritableFile` where the disk is full.
    """
    part = target.with_name(target.name + ".part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with open(part, "ab") as file:
            with _alone(file, address):
                _fetch(address, file, show_progress=show_progress)
            file.flush()
            os.fsync(file.fileno())
            if sha256 is not None and (found := sha256_of(part)) != sha256:
                _forget(part)
                raise DownloadFailed(address, f"what came has the checksum {found}, not the published {sha256}; it was removed")
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
                raise DownloadFailed(address, f"the server answered {error.code} {error.reason}") from None
        except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError, ssl.SSLError) as error:
            reason = str(getattr(error, "reason", "") or error or type(error).__name__)
        except ValueError as error:
            raise DownloadFailed(address, str(error)) from None
    kept = f"; {file.tell() / 1e6:.1f} MB are kept, and the next try goes on from there" if file.tell() else ""
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
            raise DownloadFailed(address, "the server gave a web page in place of the file; get it with a browser")
        if response.status != http.client.PARTIAL_CONTENT or not _begins_at(response.headers.get("Content-Range", ""), have):
            have = 0
            file.truncate(0)
            file.seek(0)
        length = response.headers.get("Content-Length")
        total = None if length is None else have + int(length)
        note.write_text(_validator(response.headers))
        _check_room(Path(file.name), 0 if total is None else total - have)
        _copy(response, file, have=have, total=total, show_progress=show_progress)
    return total is None or file.tell() == total


def _copy(response: IO[bytes], file: IO[bytes], *, have: int, total: int | None, show_progress: bool | None) -> None:
    label = f"downloading {Path(file.name).stem} (MB)"
    with progress(label, total=None if total is None else total // 1_000_000, show=show_progress) as advance:
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


def _download_origin(origin: Origin, *, show_progress: bool | None) -> Path:
    if origin.kind == "hub":
        return _download_from_hub(origin)
    address = _DRIVE.format(origin.address) if origin.kind == "drive" else origin.address
    target = weights_folder() / (origin.archive or origin.file)
    if not target.is_file():
        download(address, target, sha256=origin.sha256, show_progress=show_progress)
    return _extract(target, origin) if origin.archive else target


def _extract(archive: Path, origin: Origin) -> Path:
    """Take one file out of a zip or tar archive in the cache. Raises `UnreadableWeights` where it is not in there."""
    target = weights_folder() / origin.file
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as whole:
                _copy_out(whole.open(_member(whole.namelist(), origin, archive)), target)
        else:
            with tarfile.open(archive) as packed:
                _copy_out(packed.extractfile(_member(packed.getnames(), origin, archive)), target)
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, NotImplementedError, RuntimeError) as error:
        raise UnreadableWeights(archive, f"it is no whole archive ({error}); remove it and get it again") from None
    return target


def _member(names: list[str], origin: Origin, archive: Path) -> str:
    for name in names:
        if name == origin.source_file or name.endswith("/" + origin.source_file):
            return name
    raise UnreadableWeights(archive, f"there is no {origin.source_file!r} in this archive")


def _copy_out(source: IO[bytes] | None, target: Path) -> None:
    assert source is not None, "members are chosen among files"
    with source, atomic_write(target) as file:
        shutil.copyfileobj(source, file, CHUNK_BYTES)


def _find_in_hub(origin: Origin) -> Path | None:
    try:
        import huggingface_hub
    except ImportError:
        return None
    found = huggingface_hub.try_to_load_from_cache(origin.address, origin.source_file or origin.file)
    return Path(found) if isinstance(found, str) else None


def _download_from_hub(origin: Origin) -> Path:
    try:
        import huggingface_hub
    except ImportError:
        raise MissingExtra(f"downloading {origin.file} from the hub", "torch") from None
    name = origin.source_file or origin.file
    try:
        return Path(huggingface_hub.hf_hub_download(origin.address, name))
    except (OSError, ValueError, RuntimeError) as error:
        raise DownloadFailed(f"{name} of the hub's {origin.address}", str(error).strip().splitlines()[0]) from None


def how_to_get(card: ModelCard, origins: tuple[Origin, ...]) -> str:
    """The sentence that tells a person which file to put where, and where it comes from."""
    ways = []
    for origin in origins:
        source = {
            "url": origin.address,
            "hub": f"https://huggingface.co/{origin.address} ({origin.source_file or origin.file})",
            "drive": f"https://drive.google.com/file/d/{origin.address}",
            "manual": origin.address,
            "packaged": f"{origin.file} of the package",
        }[origin.kind]
        inside = f" (in it, {origin.source_file})" if origin.archive else ""
        ways.append(f"get {source}{inside} and put it at {str(weights_folder() / origin.file)!r}")
    if origins == card.origins:
        ways.append("name a file with the option weights=FILE")
    return ", or ".join(ways)


def _published_checksum(card: ModelCard, path: Path) -> str | None:
    origins = (*card.origins, *card.backbone_origins)
    return next((origin.sha256 for origin in origins if origin.file == path.name and not origin.archive), None)


def _is_as_pinned(path: Path, entry: Mapping[str, Any]) -> bool:
    status = path.stat()
    return status.st_size == entry["bytes"] and status.st_mtime_ns == entry["mtime_ns"]


def _read_checksums() -> dict[str, dict[str, Any]]:
    path = weights_folder() / "checksums.json"
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
        return {name: entry for name, entry in table.items() if {"sha256", "bytes", "mtime_ns"} <= set(entry)}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise UnreadableWeights(path, f"the table of checksums is broken ({error}); remove it") from None


def _pin(path: Path, sha256: str) -> None:
    status = path.stat()
    entry = {"sha256": sha256, "bytes": status.st_size, "mtime_ns": status.st_mtime_ns}
    table = {**_read_checksums(), path.name: entry}
    # A cache that may only be read is still of use.
    with contextlib.suppress(UnwritableFile), atomic_write(weights_folder() / "checksums.json", "w") as file:
        json.dump(table, file, indent=1, sort_keys=True)
