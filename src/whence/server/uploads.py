"""Photos out of requests: bytes in memory with a name that is shown and never used, checked before
they are decoded."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fastapi import UploadFile

from whence.data.fields import printable
from whence.data.images import content_hash, image_header
from whence.errors import BadOption, MissingExtra, NoPhotos, UnreadableImage
from whence.runtime import atomic_write
from whence.server.terms import Limits

MAX_NAME_CHARACTERS = 120
_ENDINGS = {
    **{
        "JPEG": "jpg",
        "MPO": "jpg",
        "PNG": "png",
        "WEBP": "webp",
        "TIFF": "tif",
        "BMP": "bmp",
        "GIF": "gif",
    },
    **{"AVIF": "avif", "JPEG2000": "jp2", "HEIC": "heic", "RAW": "dng"},
}


@dataclass(frozen=True, slots=True)
class UploadedPhoto:
    """One photo of a request."""

    name: str
    """What its sender calls it, for people to read."""
    data: bytes
    ending: str
    """The ending of a file of its format, told from its bytes."""

    @property
    def content(self) -> str:
        """The id that a database knows these bytes by."""
        return content_hash(self.data)


def shown_name(name: str | None) -> str:
    """A sender's name for a file without folders and control characters, cut to a length."""
    last = re.split(r"[\\/]", name or "")[-1]
    return printable(last)[:MAX_NAME_CHARACTERS] or "photo"


async def read_photos(
    files: Sequence[UploadFile], limits: Limits
) -> list[UploadedPhoto | UnreadableImage]:
    """The photos of a request in their order; for one that cannot be read, what is wrong with it.

    Raises `NoPhotos` for none, and `BadOption` for too many.
    """
    if not files:
        raise NoPhotos("send at least one photo, as the form's part `photos`")
    if len(files) > limits.max_photos:
        raise BadOption(
            f"a request has at most {limits.max_photos} photos, not {len(files)}; send several "
            "requests"
        )
    return [_checked(shown_name(file.filename), await file.read(), limits) for file in files]


async def read_photo(file: UploadFile, limits: Limits) -> UploadedPhoto:
    """The one photo. Raises `UnreadableImage`."""
    found = _checked(shown_name(file.filename), await file.read(), limits)
    if isinstance(found, UnreadableImage):
        raise found
    return found


def _checked(name: str, data: bytes, limits: Limits) -> UploadedPhoto | UnreadableImage:
    try:
        if not data:
            raise UnreadableImage(name, "it is empty")
        found = image_header(data, max_pixels=limits.max_pixels)
        return UploadedPhoto(name, data, _ENDINGS.get(found.format, "jpg"))
    except UnreadableImage as error:
        return UnreadableImage(name, error.reason)
    except MissingExtra:
        return UnreadableImage(name, "this service cannot read its format")


def keep_photo(photo: UploadedPhoto, folder: Path, *, sidecar: bytes | None = None) -> Path:
    """The file of a photo, written under the name of its content, with a sidecar that states its
    place where one is given; whole or not at all.

    The sidecar comes first: a photo that is there has its place. Raises `UnwritableFile`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{photo.content}.{photo.ending}"
    if sidecar is not None:
        with atomic_write(file.with_name(f"{file.name}.xmp")) as out:
            out.write(sidecar)
    if not file.exists():
        with atomic_write(file) as out:
            out.write(photo.data)
    return file
