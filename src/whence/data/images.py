"""Pixels in: `load_image` for one picture as it is, `load_resized` for the hot path, `load_many` on threads, and content hashes.

Every array is uint8 (H, W, 3), RGB, upright by the EXIF orientation, contiguous and writable. Normalising is the model's job.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from functools import lru_cache
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from PIL import Image

from whence.data.decoding import MAX_PIXELS, OpenPicture, open_file, open_picture, read_source, reasons
from whence.errors import BadOption, MissingExtra, UnreadableImage
from whence.runtime import map_threads

Source = str | Path | bytes
"""A photo: the path of its file, or the file's bytes."""
Decoder = Literal["auto", "fast", "pillow"]

IMAGE_SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif", ".heic", ".heif", ".hif")
)
"""Endings by which a folder scan knows photos, in lower case."""


class ImageHeader(NamedTuple):
    """What a photo file declares: the size of the upright picture and the file's format."""

    width: int
    height: int
    format: str


def load_image(source: Source, *, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Pixels of a photo: uint8 (H, W, 3), RGB, upright.

    Reads JPEG, PNG, WebP, TIFF, BMP, GIF, and HEIC with the extra `heic`; of several frames or pages the first. Transparency
    is laid over white, 16-bit values are divided by 256. Raises `UnreadableImage` with path and reason.
    """
    data, name = read_source(source)
    picture = open_picture(BytesIO(data), name=name, max_pixels=max_pixels)
    return np.array(picture.turn_upright(picture.decode()))


def load_resized(
    source: Source,
    *,
    long_side_px: int | None = None,
    short_side_px: int | None = None,
    enlarge: bool = False,
    decoder: Decoder = "auto",
    max_pixels: int = MAX_PIXELS,
) -> np.ndarray:
    """Pixels of a photo with its longer or shorter side brought to a length: uint8 (H, W, 3), RGB, upright, aspect ratio kept.

    Smaller photos keep their size unless `enlarge`. The decoders differ by a level or two of 255 on average:
    "pillow" resizes with an antialiased triangle filter; "fast" decodes JPEG with the extra `fast`, at half size or less where
    that suffices, and averages areas; "auto" takes "fast" for plain JPEG where the extra is installed. Files that are not plain
    JPEG always go through Pillow. Raises `UnreadableImage`, `BadOption`, and `MissingExtra` for "fast" without its extra.
    """
    if decoder not in ("auto", "fast", "pillow"):
        raise BadOption(f"decoder is auto, fast or pillow, not {decoder!r}")
    if decoder == "fast" and not has_fast_decoder():
        raise MissingExtra("the fast JPEG decoder", "fast")
    data, name = read_source(source)
    picture = open_picture(BytesIO(data), name=name, max_pixels=max_pixels)
    size = _target_size(picture.stored_size, long_side_px=long_side_px, short_side_px=short_side_px, enlarge=enlarge)
    if decoder != "pillow" and has_fast_decoder() and _is_plain_jpeg(picture):
        image = _fast_resized(data, picture, size)
        if image is not None:
            return image
    return _pillow_resized(picture, size)


def load_many(
    sources: Sequence[Source],
    *,
    long_side_px: int | None = None,
    short_side_px: int | None = None,
    enlarge: bool = False,
    decoder: Decoder = "auto",
    num_workers: int | None = None,
) -> Iterator[np.ndarray | UnreadableImage]:
    """Pixels of many photos as `load_resized` gives them, decoded on threads, in the order of the sources.

    A photo that cannot be read yields its `UnreadableImage` instead of raising it. Only a few pictures are held at a time.
    """

    def load(source: Source) -> np.ndarray | UnreadableImage:
        try:
            return load_resized(source, long_side_px=long_side_px, short_side_px=short_side_px, enlarge=enlarge, decoder=decoder)
        except UnreadableImage as error:
            return error

    return map_threads(load, sources, num_workers=num_workers)


def image_header(source: Source, *, max_pixels: int = MAX_PIXELS) -> ImageHeader:
    """Upright width and height and the format, without decoding pixels. Raises `UnreadableImage`."""
    if isinstance(source, bytes):
        data, name = read_source(source)
        picture = open_picture(BytesIO(data), name=name, max_pixels=max_pixels)
        return ImageHeader(*picture.upright_size, picture.format)
    with open_file(source) as file:
        picture = open_picture(file, name=str(source), max_pixels=max_pixels)
        return ImageHeader(*picture.upright_size, picture.format)


def content_hash(source: Source) -> str:
    """BLAKE2b-128 of a file's bytes, 32 hex digits. Files are read in pieces. Raises `UnreadableImage`."""
    if isinstance(source, bytes):
        return hashlib.blake2b(source, digest_size=16).hexdigest()
    with open_file(source) as file, reasons(str(source)):
        return hashlib.file_digest(file, _blake2b_128).hexdigest()


def _blake2b_128() -> hashlib.blake2b:
    return hashlib.blake2b(digest_size=16)


@lru_cache(maxsize=1)
def has_fast_decoder() -> bool:
    """Whether the extra `fast` is installed."""
    return find_spec("simplejpeg") is not None


def _target_size(stored: tuple[int, int], *, long_side_px: int | None, short_side_px: int | None, enlarge: bool) -> tuple[int, int]:
    """Width and height after resizing. The side that was asked for gets exactly that length, the other is rounded."""
    if long_side_px is not None and short_side_px is not None:
        raise BadOption("give long_side_px or short_side_px, not both")
    wanted = long_side_px if short_side_px is None else short_side_px
    if wanted is None:
        return stored
    if wanted < 1:
        raise BadOption(f"a side of {wanted} pixels is not a size")
    side = max(stored) if short_side_px is None else min(stored)
    if wanted == side or (wanted > side and not enlarge):
        return stored
    width, height = (max(1, (2 * length * wanted + side) // (2 * side)) for length in stored)
    return width, height


def _pillow_resized(picture: OpenPicture, size: tuple[int, int]) -> np.ndarray:
    """Decode with Pillow, JPEG at a half, quarter or eighth as long as twice the target remains, and resize antialiased."""
    if picture.format == "JPEG":
        with reasons(picture.name):
            picture.handle.draft(picture.handle.mode, (2 * size[0], 2 * size[1]))
    image = picture.decode()
    if image.size != size:
        image = image.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)
    return np.array(picture.turn_upright(image))


def _is_plain_jpeg(picture: OpenPicture) -> bool:
    handle = picture.handle
    return picture.format == "JPEG" and handle.mode in ("RGB", "L") and not handle.info.get("progressive")


def _fast_resized(data: bytes, picture: OpenPicture, size: tuple[int, int]) -> np.ndarray | None:
    """Decode with libjpeg-turbo and resize by area, or None where the file is damaged and Pillow should judge it."""
    import cv2
    import simplejpeg

    width, height = size
    try:
        # A scale between a half and one costs more than it saves.
        image = simplejpeg.decode_jpeg(data, "RGB", min_width=width, min_height=height, min_factor=2)
    except ValueError:
        return None
    if image.shape[:2] != (height, width):
        shrinks = image.shape[0] >= height and image.shape[1] >= width
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    if picture.orientation == 1:
        return image
    return np.array(picture.turn_upright(Image.fromarray(image)))
