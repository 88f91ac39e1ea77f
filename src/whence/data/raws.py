"""Raw photos, through rawpy (LibRaw): which files are raw, and how they are opened."""

from __future__ import annotations

import contextlib
import os
from io import BytesIO
from typing import IO, Any

from PIL import Image

from whence.data.kinds import RAW_SUFFIXES
from whence.errors import MissingExtra

_MAGIC = (
    b"II*\0\x10\0\0\0CR",
    b"IIU\0",
    b"IIRO",
    b"IIRS",
    b"MMOR",
    b"FUJIFILMCCD-RAW",
    b"FOVb",
    b"\0MRM",
)
_USUAL = (b"\xff\xd8\xff", b"\x89PNG")
_DNG_VERSION, _NEW_SUBFILE, _SUB_DIRECTORIES = 50706, 254, 330
_REDUCED = 1
_LANDSCAPE_TURNED = (5, 6)


def is_raw(head: bytes, name: str) -> bool:
    """Whether a file is a raw photo, by its first bytes or by its ending."""
    if head.startswith(_USUAL):
        return False
    if os.path.splitext(name)[1].lower() in RAW_SUFFIXES:
        return True
    return head.startswith(_MAGIC) or head[4:12] == b"ftypcrx " or head[6:14] == b"HEAPCCDR"


def holds_raw(picture: Any) -> bool:
    """Whether an opened TIFF is a raw photo of which Pillow shows the preview: a DNG, or a small
    picture above others."""
    tags = picture.tag_v2
    return _DNG_VERSION in tags or (tags.get(_NEW_SUBFILE) == _REDUCED and _SUB_DIRECTORIES in tags)


class RawPicture:
    """A raw photo as the pictures of Pillow are handled: size, `info` with its EXIF block, and
    pixels on demand."""

    format = "RAW"

    def __init__(self, file: IO[bytes]) -> None:
        try:
            import rawpy
        except ImportError:
            raise MissingExtra("reading raw photos", "raw") from None
        data = file.read()
        self._raw = rawpy.imread(BytesIO(data))
        sizes = self._raw.sizes
        self.size = (
            (sizes.height, sizes.width)
            if sizes.flip in _LANDSCAPE_TURNED
            else (sizes.width, sizes.height)
        )
        self.info: dict[str, Any] = {}
        exif = b"Exif\0\0" + data if data[:4] in (b"II*\0", b"MM\0*") else self._preview_exif()
        if exif:
            self.info["exif"] = exif

    def to_pillow(self) -> Image.Image:
        """The developed photo, upright, with the camera's white balance."""
        return Image.fromarray(self._raw.postprocess(use_camera_wb=True, output_bps=8))

    def _preview_exif(self) -> bytes:
        """The EXIF block of the preview inside, for formats that are no TIFF."""
        with contextlib.suppress(Exception):  # A damaged preview must never cost the photo.
            preview = Image.open(BytesIO(bytes(self._raw.extract_thumb().data)), formats=("JPEG",))
            return bytes(preview.info.get("exif", b""))
        return b""
