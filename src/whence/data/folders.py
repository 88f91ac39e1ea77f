"""Which files under a folder are the user's photos: by their endings, without what programs and
systems keep beside them."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from whence.data.kinds import is_photo, missing_reader
from whence.types import SkippedPhoto

STORE_SUFFIX = ".whence"
"""Folders with this ending are databases, not photo folders."""
_NOT_THE_USERS = frozenset(
    (
        *(
            "@eadir",
            "#recycle",
            "#snapshot",
            "@recycle",
            "@recently-snapshot",
            "$recycle.bin",
            "recycler",
            "recycled",
        ),
        *("system volume information", "lost+found", "__macosx", "ipod photo cache"),
    )
)
"""Folders of thumbnails and deleted files that network storage and systems keep, in lower case."""
_LIBRARIES = (".photoslibrary", ".photolibrary", ".aplibrary", ".migratedphotolibrary")
"""Folders of photo managers: originals beside previews of the same photos."""
_ORIGINALS = frozenset(("originals", "masters"))


@dataclass
class LeftOut:
    """What a walk passed over: photos by the folder that hid them, pictures by the ending nobody
    reads, folders not readable."""

    photos: Counter[str] = field(default_factory=Counter)
    unread: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By ending and what is missing."""
    folders: list[SkippedPhoto] = field(default_factory=list)

    def remarks(self) -> tuple[str, ...]:
        """A sentence for each kind."""
        said = []
        if self.photos:
            kinds = ", ".join(f"{name} ({num})" for name, num in sorted(self.photos.items()))
            said.append(
                f"{_files(self.photos.total())} left out that {_are(self.photos.total())} not the "
                f"user's photos: {kinds}"
            )
        if self.unread:
            kinds = ", ".join(
                f"{num} {suffix} ({lacking})"
                for (suffix, lacking), num in sorted(self.unread.items())
            )
            said.append(f"{_files(self.unread.total())} left out that cannot be read here: {kinds}")
        return tuple(said)


def walk_photos(
    folder: str,
    *,
    left_out: LeftOut,
    recursive: bool = True,
    above: tuple[tuple[int, int], ...] = (),
) -> Iterator[str]:
    """Photo files under a folder. A link to a folder that is already being walked is not
    followed."""
    try:
        status = os.stat(folder)
        with os.scandir(folder) as entries:
            listed = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        left_out.folders.append(
            SkippedPhoto(folder, f"the folder cannot be read: {error.strerror or error}")
        )
        return
    identity = (status.st_dev, status.st_ino)
    if identity in above:
        return
    in_library = folder.lower().endswith(_LIBRARIES)
    for entry in listed:
        name = entry.name.lower()
        if os.path.isdir(
            entry.path
        ):  # False for a link to itself, where the entry's own method raises.
            if not recursive or name.endswith(STORE_SUFFIX):
                continue
            if reason := _reason(entry.name, in_library=in_library):
                _count(entry.path, reason, left_out)
            else:
                yield from walk_photos(entry.path, left_out=left_out, above=(*above, identity))
        elif name.startswith("."):
            if is_photo(name):
                left_out.photos["hidden files"] += 1
        elif is_photo(name):
            yield entry.path
        else:
            note_unread(name, left_out)


def note_unread(name: str, left_out: LeftOut) -> None:
    """Count a picture that nothing here reads."""
    if lacking := missing_reader(name):
        left_out.unread[os.path.splitext(name)[1].lower(), lacking] += 1


def is_left_out(path: str, left_out: LeftOut) -> bool:
    """Whether a file lies in a folder that a walk would pass over; it is counted."""
    parts = path.replace(os.sep, "/").split("/")[:-1]
    for place, part in enumerate(parts):
        if part.lower().endswith(STORE_SUFFIX):
            return True
        above = parts[place - 1].lower() if place else ""
        if reason := _reason(part, in_library=above.endswith(_LIBRARIES)):
            left_out.photos[reason] += 1
            return True
    return False


def _reason(name: str, *, in_library: bool) -> str:
    """The name under which photos of a folder are counted as left out; empty for a folder to
    walk."""
    if name.startswith(".") or name.lower() in _NOT_THE_USERS:
        return name
    return f"library {name}" if in_library and name.lower() not in _ORIGINALS else ""


def _count(folder: str, reason: str, left_out: LeftOut) -> None:
    for _, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.lower().endswith(STORE_SUFFIX)]
        num = sum(is_photo(name) for name in files)
        if num:
            left_out.photos[reason] += num


def _files(num: int) -> str:
    return "1 file is" if num == 1 else f"{num} files are"


def _are(num: int) -> str:
    return "is" if num == 1 else "are"
