"""Pixels in: `load_image` for one picture as it is, `load_resized` for the hot path, `load_many` on
threads, and content hashes.

Every array is uint8 (H, W, 3), RGB, upright by the EXIF orientation, contiguous and writable.
Normalising is the model's job.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from functools import lru_cache
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from PIL import Image, ImageOps

from whence.data.decoding import OpenPicture, open_file, open_picture, read_source, reasons, to_rgb
from whence.errors import BadOption, MissingExtra, UnreadableImage
from whence.runtime import map_threads
from whence.types import EncodedPhoto, PhotoSource

"""A photo: the path of its file, or the file's bytes."""
Decoder = Literal["auto", "fast", "pillow"]

_DRAFT_MARGIN = 1.5
"""Pillow decodes JPEG at reduced size only while that leaves this many times the size asked for:
the resize still averages."""
_STRIP_ROWS = 512


class ImageHeader(NamedTuple):
    """What a photo file declares: the size of the upright picture and the file's format."""

    width: int
    height: int
    format: str


def as_source(query: PhotoSource | Image.Image) -> PhotoSource:
    """A source that can be described: files and bytes as they are, of pixels and pictures of Pillow
    the upright RGB pixels (H, W, 3) uint8.

    Pixels may be grey (H, W) or carry transparency (H, W, 4). Raises `UnreadableImage` for pictures
    that have no such pixels, and `BadOption` for what is none of these.
    """
    if isinstance(query, np.ndarray):
        is_picture = query.dtype in (np.uint8, np.uint16) and (
            query.ndim == 2 or (query.ndim == 3 and query.shape[2] in (1, 4))
        )
        if not is_picture or 0 in query.shape:
            return query
        query = Image.fromarray(query[..., 0] if query.ndim == 3 and query.shape[2] == 1 else query)
    if isinstance(query, Image.Image):
        with reasons("<image>"):
            return _as_array(to_rgb(ImageOps.exif_transpose(query)))
    if not isinstance(query, str | Path | bytes):
        raise BadOption(
            "a photo is a file, its bytes, pixels or a picture of Pillow, not "
            f"{type(query).__name__}"
        )
    return query


def load_image(source: EncodedPhoto, *, max_pixels: int | None = None) -> np.ndarray:
    """Pixels of a photo: uint8 (H, W, 3), RGB, upright.

    Reads JPEG, PNG, WebP, TIFF, BMP, GIF, AVIF, JPEG 2000, HEIC with the extra `heic` and raw
    photos with the extra `raw`; of several frames or pages the first. Transparency is laid over
    white; 16-bit values are divided by 256, or stretched where they use a small part of the range.
    Raises `UnreadableImage` with path and reason.
    """
    data, name = read_source(source)
    picture = open_picture(BytesIO(data), name=name, max_pixels=max_pixels)
    return _as_array(picture.turn_upright(picture.decode()))


def load_resized(
    source: EncodedPhoto,
    *,
    long_side_px: int | None = None,
    short_side_px: int | None = None,
    enlarge: bool = False,
    decoder: Decoder = "auto",
    max_pixels: int | None = None,
) -> np.ndarray:
    """Pixels of a photo with its longer or shorter side brought to a length: uint8 (H, W, 3), RGB,
    upright, aspect ratio kept.

    Smaller photos keep their size unless `enlarge`. "pillow" decodes JPEG at half size or less
    where half as much again remains, and resizes with an antialiased triangle filter; "fast"
    decodes with the extra `fast`, at half size or less where that suffices, and comes close to that
    filter; "auto" takes "fast" for plain JPEG where the extra is installed. On photos both stay
    within two levels of 255, on average, of a full decode and the triangle filter. What is not
    plain JPEG always goes through Pillow. Raises `UnreadableImage`, `BadOption`, and `MissingExtra`
    for "fast" without its extra.
    """
    if decoder not in ("auto", "fast", "pillow"):
        raise BadOption(f"decoder is auto, fast or pillow, not {decoder!r}")
    if decoder == "fast" and not has_fast_decoder():
        raise MissingExtra("the fast JPEG decoder", "fast")
    data, name = read_source(source)
    picture = open_picture(BytesIO(data), name=name, max_pixels=max_pixels)
    size = _target_size(
        picture.stored_size, long_side_px=long_side_px, short_side_px=short_side_px, enlarge=enlarge
    )
    if decoder != "pillow" and has_fast_decoder() and _is_plain_jpeg(picture):
        image = _fast_resized(data, picture, size)
        if image is not None:
            return image
    return _pillow_resized(picture, size)


def load_many(
    sources: Sequence[EncodedPhoto],
    *,
    long_side_px: int | None = None,
    short_side_px: int | None = None,
    enlarge: bool = False,
    decoder: Decoder = "auto",
    num_workers: int | None = None,
) -> Iterator[np.ndarray | UnreadableImage]:
    """Pixels of many photos as `load_resized` gives them, decoded on threads, in the order of the
    sources.

    A photo that cannot be read yields its `UnreadableImage` instead of raising it. Only a few
    pictures are held at a time.
    """

    def load(source: EncodedPhoto) -> np.ndarray | UnreadableImage:
        try:
            return load_resized(
                source,
                long_side_px=long_side_px,
                short_side_px=short_side_px,
                enlarge=enlarge,
                decoder=decoder,
            )
        except UnreadableImage as error:
            return error

    return map_threads(load, sources, num_workers=num_workers)


def image_header(source: EncodedPhoto, *, max_pixels: int | None = None) -> ImageHeader:
    """Upright width and height and the format, without decoding pixels. Raises
    `UnreadableImage`."""
    if isinstance(source, bytes):
        data, name = read_source(source)
        picture = open_picture(BytesIO(data), name=name, max_pixels=max_pixels)
        return ImageHeader(*picture.upright_size, picture.format)
    with open_file(source, is_whole=False) as file:
        picture = open_picture(file, name=str(source), max_pixels=max_pixels)
        return ImageHeader(*picture.upright_size, picture.format)


def content_hash(source: EncodedPhoto) -> str:
    """BLAKE2b-128 of a file's bytes, 32 hex digits. Files are read in pieces. Raises
    `UnreadableImage`."""
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


def _target_size(
    stored: tuple[int, int], *, long_side_px: int | None, short_side_px: int | None, enlarge: bool
) -> tuple[int, int]:
    """Width and height after resizing. The side that was asked for gets exactly that length, the
    other is rounded."""
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
    """Decode with Pillow, JPEG at a half, quarter or eighth where enough pixels remain, and resize
    antialiased."""
    if picture.format == "JPEG":
        with reasons(picture.name):
            least = tuple(math.ceil(_DRAFT_MARGIN * length) for length in size)
            drafted = picture.handle.draft(picture.handle.mode, least)
    else:
        drafted = None
    image = picture.decode()
    if image.size != size:
        # A reduced picture of odd size ends with a part of a pixel; the box leaves out the part
        # that is padding.
        box = None if drafted is None else drafted[1]
        image = image.resize(size, Image.Resampling.BILINEAR, box=box, reducing_gap=2.0)
    return _as_array(picture.turn_upright(image))


def _as_array(image: Image.Image) -> np.ndarray:
    """The pixels of an RGB picture, copied in strips: Pillow hands them out as bytes, and a whole
    second copy would be large."""
    pixels = np.empty((image.height, image.width, 3), np.uint8)
    for top in range(0, image.height, _STRIP_ROWS):
        strip = image.crop((0, top, image.width, min(top + _STRIP_ROWS, image.height)))
        pixels[top : top + _STRIP_ROWS] = np.asarray(strip)
    return pixels


def _is_plain_jpeg(picture: OpenPicture) -> bool:
    handle = picture.handle
    return (
        picture.format == "JPEG"
        and handle.mode in ("RGB", "L")
        and not handle.info.get("progressive")
    )


def _fast_resized(data: bytes, picture: OpenPicture, size: tuple[int, int]) -> np.ndarray | None:
    """Decode with libjpeg-turbo and resize, or None where the file is damaged and Pillow should
    judge it."""
    import simplejpeg

    # Only halves, quarters and eighths: libjpeg-turbo has no vector code for the scales between,
    # they cost more than they save.
    shrink = next(
        n
        for n in (8, 4, 2, 1)
        if n == 1
        or all(-(-had // n) >= want for had, want in zip(picture.stored_size, size, strict=True))
    )
    width, height = (-(-length // shrink) for length in picture.stored_size)
    try:
        image = simplejpeg.decode_jpeg(data, "RGB", min_width=width, min_height=height)
    except ValueError:
        return None
    if image.shape[:2] != (height, width):
        return None
    exact_width, exact_height = (length / shrink for length in picture.stored_size)
    if (exact_width, exact_height) == (width, height):
        image = shrink_smoothly(image, size)
    else:  # The last row or column is partly padding.
        image = np.array(
            Image.fromarray(image).resize(
                size, Image.Resampling.BILINEAR, box=(0, 0, exact_width, exact_height)
            )
        )
    return (
        image
        if picture.orientation == 1
        else np.array(picture.turn_upright(Image.fromarray(image)))
    )


def shrink_smoothly(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """An image (H, W, 3) resized to `size` (width, height), close to an antialiased triangle filter
    at a fraction of its cost.

    For a shrink by s the triangle filter has variance s^2 / 6 in source pixels; linear
    interpolation has 1 / 6. Below a shrink by two a three-tap blur supplies what is missing;
    beyond, areas are averaged.
    """
    import cv2

    height, width = image.shape[:2]
    if (width, height) == size:
        return image
    shrink_x, shrink_y = width / size[0], height / size[1]
    if max(shrink_x, shrink_y) > 2:
        return cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    if max(shrink_x, shrink_y) > 1:
        sigmas = [
            _sigma_of_three_taps((max(shrink, 1.0) ** 2 - 1) / 6) for shrink in (shrink_x, shrink_y)
        ]
        image = cv2.GaussianBlur(
            image, (3, 3), sigmaX=sigmas[0], sigmaY=sigmas[1], borderType=cv2.BORDER_REPLICATE
        )
    return cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)


def _sigma_of_three_taps(variance: float) -> float:
    """The sigma whose Gaussian, sampled at -1, 0 and 1 and normalised, has this variance; below
    2/3."""
    side = min(max(variance, 1e-4), 0.66) / 2
    return math.sqrt(-0.5 / math.log(side / (1 - 2 * side)))
