"""Files to pictures: the one place that opens photo files, checks what they declare, and turns
every pixel layout into RGB.

Pillow reports trouble as warnings and as a dozen kinds of exception; here all of it becomes
`UnreadableImage`. Colour profiles are not applied: values are taken as they are stored.
"""

from __future__ import annotations

import contextlib
import os
import stat
import struct
import threading
import warnings
from collections.abc import Iterator
from io import BufferedReader, BytesIO
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image

from whence.data.depths import has_low_range, to_8_bits
from whence.data.elsewhere import is_elsewhere, open_elsewhere
from whence.data.kinds import has_raw_decoder
from whence.data.raws import RawPicture, holds_raw, is_raw
from whence.errors import MissingExtra, UnreadableImage
from whence.settings import Settings, load_settings

MAX_PIXELS = Settings().max_pixels
"""Pictures that declare more pixels are refused before anything is decoded, unless the setting
`max_pixels` says otherwise. The largest phone sensors have 200 million."""
MAX_FILE_BYTES = 2_000_000_000
"""Larger files are refused before they are read."""

_FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "AVIF", "JPEG2000")
_KNOWN_FORMATS = "JPEG, PNG, WebP, TIFF, BMP, GIF, AVIF, JPEG 2000, HEIC or raw"
_HEIC_BRANDS = {b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"}
_ORIENTATION_TAG, _XMP_TAG = 0x0112, 700
_TIFF_MAGIC = (b"II*\0", b"MM\0*")
_PNG_XMP = b"XML:com.adobe.xmp"
_TRANSPOSED = frozenset({5, 6, 7, 8})
_TO_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_quiet_lock = threading.RLock()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep Pillow's warnings and its own size limit out of the way.

    Both are settings of the whole process, so threads take turns; only header work, which holds the
    GIL anyway, belongs inside.
    """
    with _quiet_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = limit


class OpenPicture:
    """A picture whose header has been read: format, upright size, EXIF, XMP packet. Its pixels are
    decoded by `decode`."""

    def __init__(self, handle: Any, *, name: str, heic: bool = False) -> None:
        self.handle = handle
        self.name = name
        self.is_foreign = heic or isinstance(handle, RawPicture)
        """Whether another library than Pillow opened it."""
        self.format: str = "HEIC" if heic else "JPEG" if handle.format == "MPO" else handle.format
        with quiet():
            self.exif = _read_exif(handle, is_foreign=self.is_foreign)
            # Pillow turns TIFF upright by itself, libheif turns HEIC, LibRaw turns raw photos.
            stored = (
                1 if self.format in ("TIFF", "HEIC", "RAW") else self.exif.get(_ORIENTATION_TAG, 1)
            )
            self.xmp = _read_xmp(handle)
        self.orientation: int = stored if isinstance(stored, int) and 1 <= stored <= 8 else 1

    @property
    def stored_size(self) -> tuple[int, int]:
        """Width and height as stored, before turning upright."""
        width, height = self.handle.size
        return int(width), int(height)

    @property
    def upright_size(self) -> tuple[int, int]:
        """Width and height of the upright picture."""
        width, height = self.stored_size
        return (height, width) if self.orientation in _TRANSPOSED else (width, height)

    def decode(self) -> Image.Image:
        """The first frame in RGB, as stored. Raises `UnreadableImage`."""
        with reasons(self.name):
            if self.is_foreign:
                return to_rgb(self.handle.to_pillow())
            file, has_16_bits = self.handle.fp, _has_16_bit_colour(self.handle)
            # Loading a TIFF parses its tags again, with warnings.
            with quiet() if self.format == "TIFF" else contextlib.nullcontext():
                self.handle.load()
            if has_16_bits and has_low_range(np.asarray(self.handle)[..., :3]):
                return _stretched(file, self.handle)
            return to_rgb(self.handle)

    def turn_upright(self, image: Image.Image) -> Image.Image:
        """A decoded (and perhaps resized) picture, turned as the EXIF orientation says."""
        turn = _TO_UPRIGHT.get(self.orientation)
        return image if turn is None else image.transpose(turn)


def open_picture(file: IO[bytes], *, name: str, max_pixels: int | None = None) -> OpenPicture:
    """The picture of an open file, of which the header alone is read.

    Raises `UnreadableImage` for what is no picture, or declares more pixels than `max_pixels`, by
    default those of the settings.
    """
    head = file.read(32)
    file.seek(0)
    with reasons(name):
        if head[4:8] == b"ftyp" and head[8:12] in _HEIC_BRANDS:
            picture = OpenPicture(_open_heic(file), name=name, heic=True)
        elif is_raw(head, name):
            picture = OpenPicture(RawPicture(file), name=name)
        else:
            picture = OpenPicture(_open_usual(file, head, name), name=name)
    width, height = picture.stored_size
    limit = load_settings().max_pixels if max_pixels is None else max_pixels
    if width * height > limit:
        reason = (
            f"it declares {width} x {height} pixels, more than the limit of {limit:,}; raise "
            "max_pixels if it is genuine"
        )
        raise UnreadableImage(name, reason)
    if width < 1 or height < 1:
        raise UnreadableImage(name, f"it declares {width} x {height} pixels")
    return picture


def _open_usual(file: IO[bytes], head: bytes, name: str) -> Any:
    """What Pillow opens, or the raw photo behind it: some are TIFF files of which Pillow shows a
    preview, or nothing."""
    try:
        with quiet():
            handle = Image.open(file, formats=_FORMATS)
            is_done = handle.format != "TIFF" or not holds_raw(handle)
        if is_done:
            return handle
    except Image.UnidentifiedImageError:
        if not head.startswith(_TIFF_MAGIC) or not has_raw_decoder():
            raise UnreadableImage(name, _not_a_picture(head)) from None
    file.seek(0)
    try:
        return RawPicture(file)
    except MissingExtra:
        raise
    except Exception:  # LibRaw knows no better.
        raise UnreadableImage(name, _not_a_picture(head)) from None


def open_file(path: str | Path, *, is_whole: bool = True) -> BufferedReader:
    """A photo file, open for reading. Raises `UnreadableImage` for folders, pipes, empty, missing,
    forbidden and huge files.

    One that lies elsewhere is fetched, or where not `is_whole` in the pieces that are read.
    """
    if is_elsewhere(path):
        return open_elsewhere(path, is_whole=is_whole)
    try:
        status = os.stat(path)
        if stat.S_ISDIR(status.st_mode):
            raise UnreadableImage(path, "it is a folder")
        if not stat.S_ISREG(status.st_mode):
            raise UnreadableImage(path, "it is not a regular file")
        if status.st_size == 0:
            raise UnreadableImage(path, "the file is empty")
        if status.st_size > MAX_FILE_BYTES:
            raise UnreadableImage(
                path,
                f"the file has {status.st_size:,} bytes, more than the limit of {MAX_FILE_BYTES:,}",
            )
        return open(path, "rb")
    except FileNotFoundError:
        raise UnreadableImage(path, "no such file") from None
    except PermissionError:
        raise UnreadableImage(path, "no permission to read it") from None
    except (OSError, ValueError) as error:
        raise UnreadableImage(path, str(getattr(error, "strerror", None) or error)) from None


def read_source(source: str | Path | bytes) -> tuple[bytes, str]:
    """The bytes of a photo given as path or bytes, and the name to use in messages."""
    if isinstance(source, bytes):
        if not source:
            raise UnreadableImage("<bytes>", "there are no bytes")
        return source, "<bytes>"
    with open_file(source) as file, reasons(str(source)):
        return file.read(), str(source)


@contextlib.contextmanager
def reasons(name: str) -> Iterator[None]:
    """Turn whatever a decoder raises on broken files into `UnreadableImage`."""
    try:
        yield
    except (UnreadableImage, MissingExtra):
        raise
    except MemoryError:
        raise UnreadableImage(name, "there is not enough memory to decode it") from None
    except Exception as error:  # Decoders meet hostile bytes with every kind of exception.
        raise UnreadableImage(
            name, f"it is damaged ({str(error) or type(error).__name__})"
        ) from error


def to_rgb(image: Image.Image) -> Image.Image:
    """A decoded picture in mode RGB: transparency over white, 16 bits as `to_8_bits`, the rest as
    Pillow converts it."""
    if image.mode.startswith("I;16"):
        return Image.fromarray(to_8_bits(np.asarray(image, dtype=np.uint16))).convert("RGB")
    if image.mode == "I":
        levels = np.asarray(image)
        if levels.min() < 0 or levels.max() > 0xFFFF:
            raise ValueError(
                "its 32-bit values exceed 16 bits; save it with 8 or 16 bits per channel"
            )
        return Image.fromarray(to_8_bits(levels.astype(np.uint16))).convert("RGB")
    if image.mode == "F":
        raise ValueError("it has floating-point pixels; save it with 8 or 16 bits per channel")
    if image.has_transparency_data:
        layered = image.convert("RGBA")
        flat = Image.new("RGB", layered.size, (255, 255, 255))
        flat.paste(layered, mask=layered.getchannel("A"))
        return flat
    return image if image.mode == "RGB" else image.convert("RGB")


def _has_16_bit_colour(handle: Any) -> bool:
    """Whether Pillow will keep the upper byte alone of a PNG or TIFF in colour."""
    return handle.mode in ("RGB", "RGBA") and any(
        ";16" in str(tile[3]) for tile in getattr(handle, "tile", ())
    )


def _stretched(file: IO[bytes], image: Image.Image) -> Image.Image:
    """A picture of 16 bits a channel and low range, decoded again with all of its bits; as Pillow
    has it where that fails."""
    import cv2

    file.seek(0)
    levels = cv2.imdecode(
        np.frombuffer(file.read(), np.uint8), cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION
    )
    if (
        levels is None
        or levels.dtype != np.uint16
        or levels.ndim != 3
        or levels.shape[:2] != (image.height, image.width)
    ):
        return to_rgb(image)
    colour = to_8_bits(np.ascontiguousarray(levels[..., 2::-1]))
    return to_rgb(Image.fromarray(np.dstack([colour, np.asarray(image)[..., 3:]])))


def _read_exif(handle: Any, *, is_foreign: bool) -> Image.Exif:
    """The EXIF block of an opened picture; an empty one where there is none or it is damaged."""
    exif = Image.Exif()
    with contextlib.suppress(Exception):  # A damaged block must never cost the photo.
        if is_foreign:
            if handle.info.get("exif"):
                exif.load(handle.info["exif"])
            return exif
        if handle.format == "PNG" and "exif" not in handle.info:
            late = _late_png_chunk(handle.fp, b"eXIf")
            if late:
                handle.info["exif"] = late
        # The method of the base class: that of PNG decodes all pixels to look for a late block.
        exif = Image.Image.getexif(handle)
    return exif


def _read_xmp(handle: Any) -> bytes:
    """The XMP packet of an opened picture; empty where there is none."""
    packet: Any = None
    with contextlib.suppress(Exception):  # What is damaged must never cost the photo.
        packet = handle.info.get("xmp") or handle.info.get(_PNG_XMP.decode())
        if not packet and handle.format == "PNG":
            packet = _late_png_chunk(handle.fp, b"iTXt", start=_PNG_XMP + b"\0").lstrip(b"\0")
        if not packet and handle.format == "TIFF":
            packet = handle.tag_v2.get(_XMP_TAG)
    if isinstance(packet, str):
        return packet.encode("utf-8", "replace")
    return packet if isinstance(packet, bytes) else b""


def _late_png_chunk(file: IO[bytes], name: bytes, *, start: bytes = b"") -> bytes:
    """A chunk of a PNG file, wherever it stands, without the `start` it must have; empty where
    there is none."""
    place = file.tell()
    try:
        file.seek(8)
        while len(head := file.read(8)) == 8:
            length, kind = struct.unpack(">I4s", head)
            if kind == name and (body := file.read(length)).startswith(start):
                return body[len(start) :]
            if kind == b"IEND":
                break
            file.seek(4 if kind == name else length + 4, os.SEEK_CUR)
        return b""
    finally:
        file.seek(place)


def _open_heic(file: IO[bytes]) -> Any:
    try:
        import pillow_heif
    except ImportError:
        raise MissingExtra("reading HEIC photos", "heic") from None
    return pillow_heif.open_heif(BytesIO(file.read()))


def _not_a_picture(head: bytes) -> str:
    kinds = {
        b"\xff\xd8": "JPEG",
        b"\x89PNG": "PNG",
        b"GIF8": "GIF",
        b"II*\0": "TIFF",
        b"MM\0*": "TIFF",
        b"RIFF": "WebP",
    }
    for magic, kind in kinds.items():
        if head.startswith(magic):
            return f"it begins like {kind} but its header is damaged or cut off"
    return f"it is not a {_KNOWN_FORMATS} picture"
