"""Sidecar files: XMP and Google Takeout JSON that lie beside a photo and describe it.

In this order: photo.jpg.xmp, photo.xmp, photo.jpg.supplemental-metadata.json, photo.jpg.json, then
the other names Takeout gives (`whence.data.takeout`). Upper and lower case, and the two ways to
write an accented letter, are the same.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator
from pathlib import Path

from whence.data.kinds import IMAGE_SUFFIXES, RAW_SUFFIXES
from whence.data.placement import Placement
from whence.data.takeout import (
    edited_from,
    is_takeout,
    likely_names,
    own_names,
    placement_from_takeout,
    read_record,
)
from whence.data.xmp import placement_from_xmp
from whence.errors import UnreadableTable

MAX_SIDECAR_BYTES = 16_000_000
_SIDECARS = (".xmp", ".json")
_NAMES_ALIKE = 40
"""Characters that names share at least where Takeout clips both to the same."""


class SidecarFolder:
    """The sidecars of one folder, listed once."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._files: dict[str, list[str]] = {}
        self._photos: dict[str, set[str]] = {}
        self._alike: dict[str, list[str]] = {}
        try:
            with os.scandir(self.folder) as entries:
                listed = sorted(
                    entry.name
                    for entry in entries
                    if entry.name.lower().endswith(_SIDECARS) or _is_image(entry.name)
                )
        except OSError:
            listed = []
        for name in listed:
            if _is_image(name):
                stem = _fold(os.path.splitext(name)[0])
                self._photos.setdefault(stem, set()).add(unicodedata.normalize("NFC", name))
                self._alike.setdefault(stem[:_NAMES_ALIKE], []).append(
                    unicodedata.normalize("NFC", name)
                )
            else:
                self._files.setdefault(_fold(name), []).append(name)

    def of(self, photo: str) -> tuple[Path, ...]:
        """The sidecars of a photo by its name, the most trusted first."""
        if not self._files:
            return ()
        stem = os.path.splitext(photo)[0]
        names = [*self._named(photo, (f"{photo}.xmp", f"{stem}.xmp")), *self._json_of(photo)]
        return tuple(
            path for path in (self.folder / name for name in dict.fromkeys(names)) if path.is_file()
        )

    def _json_of(self, photo: str) -> list[str]:
        own = list(self._named(photo, own_names(photo)))
        own += [
            name
            for name in self._named(photo, likely_names(photo))
            if name not in own and self._is_of(name, photo)
        ]
        original = "" if own else edited_from(photo)
        if not original:
            return own
        # The copy may have another ending than the photo it was made from.
        stem = _fold(os.path.splitext(original)[0])
        originals = sorted(self._photos.get(stem, set()) - {unicodedata.normalize("NFC", photo)})
        return [
            name for one in dict.fromkeys([original, *originals]) for name in self._json_of(one)
        ]

    def _named(self, photo: str, names: Iterator[str] | tuple[str, ...]) -> Iterator[str]:
        """Files of these names. Where photos differ by case alone, theirs must be spelled as they
        are."""
        stem = unicodedata.normalize("NFC", os.path.splitext(photo)[0])
        stems = {os.path.splitext(name)[0] for name in self._photos.get(_fold(stem), set())}
        for name in names:
            for file in self._files.get(_fold(name), ()):
                written = unicodedata.normalize("NFC", file)
                if (
                    len(stems) < 2
                    or unicodedata.normalize("NFC", name)[: len(stem)] == written[: len(stem)]
                ):
                    yield file

    def _is_of(self, name: str, photo: str) -> bool:
        """Whether a file whose name several photos could share is this photo's: by its title, or
        because no other photo can be."""
        path = self.folder / name
        try:
            record = read_record(_read(path), path=path)
        except UnreadableTable:
            return False
        title, mine = _fold(str(record.get("title", ""))), _fold(photo)
        alike = self._alike.get(_fold(os.path.splitext(photo)[0])[:_NAMES_ALIKE], [])
        rivals = [other for other in alike if _fold(other) != mine]
        if not is_takeout(record) or title in map(_fold, rivals):
            return False
        return title == mine or not any(
            _fold(name) in map(_fold, likely_names(other)) for other in rivals
        )


def find_sidecars(photo: str | Path) -> tuple[Path, ...]:
    """The sidecar files of a photo, the most trusted first."""
    photo = Path(photo)
    return SidecarFolder(photo.parent).of(photo.name)


def find_sidecar(photo: str | Path) -> Path | None:
    """The first sidecar file of a photo, or None."""
    return next(iter(find_sidecars(photo)), None)


def read_sidecar(path: str | Path) -> Placement:
    """The placement of a sidecar file; silent where it holds no position. Raises `UnreadableTable`
    where it is broken."""
    path = Path(path)
    data = _read(path)
    if path.suffix.lower() == ".xmp":
        return placement_from_xmp(data, path=path, source="sidecar")
    return placement_from_takeout(data, path=path)


def _read(path: Path) -> bytes:
    try:
        if path.stat().st_size > MAX_SIDECAR_BYTES:
            raise UnreadableTable(path, f"the sidecar is larger than {MAX_SIDECAR_BYTES:,} bytes")
        return path.read_bytes()
    except OSError as error:
        raise UnreadableTable(path, error.strerror or str(error)) from None


def _is_image(name: str) -> bool:
    suffix = os.path.splitext(name)[1].lower()
    return suffix in IMAGE_SUFFIXES or suffix in RAW_SUFFIXES


def _fold(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()
