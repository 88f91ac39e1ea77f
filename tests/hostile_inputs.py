"""Fifty files that somebody might feed the program: what each is, and whether it can be read."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from conftest import draw_place, view_of

RGB = view_of(draw_place(77), shift=0, seed=0)


@dataclass(frozen=True)
class Hostile:
    """One input: file name, bytes, and whether it is a photo after all."""

    name: str
    data: bytes
    is_readable: bool


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def picture(mode: str = "RGB") -> Image.Image:
    return Image.fromarray(RGB).convert(mode)


def png_declaring(width: int, height: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 100)), (b"IEND", b"")]
    body = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + body


def with_gps(values: dict[int, object]) -> bytes:
    exif = Image.Exif()
    exif.get_ifd(0x8825).update(values)
    return saved(picture(), "JPEG", exif=exif)


def with_tag(tag: int, value: object) -> bytes:
    exif = Image.Exif()
    exif[tag] = value
    return saved(picture(), "JPEG", exif=exif)


def frames(kind: str) -> bytes:
    others = [picture().rotate(angle) for angle in (90, 180)]
    return saved(picture(), kind, save_all=True, append_images=others)


def transparent_palette() -> bytes:
    image = picture().quantize(16)
    return saved(image, "PNG", transparency=3)


JPEG = saved(picture(), "JPEG", quality=90)
PNG = saved(picture(), "PNG")
LON = {3: "E", 4: (13.0, 0.0, 0.0)}


def patched(data: bytes, place: int, new: bytes) -> bytes:
    return data[:place] + new + data[place + len(new) :]


MAKERS: dict[str, tuple[Callable[[], bytes], bool]] = {
    "empty.jpg": (lambda: b"", False),
    "one byte.png": (lambda: b"\xff", False),
    "text.jpg": (lambda: b"this is no picture\n" * 50, False),
    "html.png": (lambda: b"<html><script>alert(1)</script></html>", False),
    "zeros.webp": (lambda: bytes(5000), False),
    "noise.jpg": (lambda: np.random.default_rng(0).bytes(5000), False),
    "cut in the header.jpg": (lambda: JPEG[:15], False),
    "cut in the middle.jpg": (lambda: JPEG[: len(JPEG) // 2], False),
    "cut near the end.jpg": (lambda: JPEG[:-200], False),
    "cut.png": (lambda: PNG[: len(PNG) // 2], False),
    "cut.webp": (lambda: saved(picture(), "WEBP")[:900], False),
    "cut.tif": (lambda: saved(picture(), "TIFF")[:3000], False),
    "cut.gif": (lambda: saved(picture(), "GIF")[:40], False),
    "cut.bmp": (lambda: saved(picture(), "BMP")[:500], False),
    "only the signature.png": (lambda: b"\x89PNG\r\n\x1a\n", False),
    "wrong checksum.png": (lambda: patched(PNG, 29, b"\0\0\0\0"), False),
    "bomb 60000.png": (lambda: png_declaring(60_000, 60_000), False),
    "bomb 2 to the 31.png": (lambda: png_declaring(2**31 - 1, 2**31 - 1), False),
    "no width.png": (lambda: png_declaring(0, 10), False),
    "declares too much.jpg": (
        lambda: patched(JPEG, JPEG.index(b"\xff\xc0") + 5, b"\xff\xff\xff\xff"),
        False,
    ),
    "no height.jpg": (lambda: patched(JPEG, JPEG.index(b"\xff\xc0") + 5, b"\0\0"), False),
    "one pixel.png": (lambda: saved(Image.new("RGB", (1, 1)), "PNG"), True),
    "one row.png": (lambda: saved(Image.new("RGB", (4000, 1)), "PNG"), True),
    "one column.jpg": (lambda: saved(Image.new("RGB", (1, 4000)), "JPEG"), True),
    "flat.jpg": (lambda: saved(Image.new("RGB", (400, 300), (90, 90, 90)), "JPEG"), True),
    "cmyk.jpg": (lambda: saved(picture("CMYK"), "JPEG"), True),
    "grey.jpg": (lambda: saved(picture("L"), "JPEG"), True),
    "progressive.jpg": (lambda: saved(picture(), "JPEG", progressive=True), True),
    "lab.tif": (lambda: saved(picture().convert("LAB"), "TIFF"), True),
    "sixteen bits.png": (
        lambda: saved(Image.fromarray(RGB[..., 0].astype(np.uint16) * 256), "PNG"),
        True,
    ),
    "sixteen bits.tif": (
        lambda: saved(Image.fromarray(RGB[..., 0].astype(np.uint16) * 256), "TIFF"),
        True,
    ),
    "floats.tif": (lambda: saved(Image.fromarray(RGB[..., 0].astype(np.float32)), "TIFF"), False),
    "one bit.png": (lambda: saved(picture("1"), "PNG"), True),
    "palette.png": (lambda: saved(picture().quantize(16), "PNG"), True),
    "palette with transparency.png": (transparent_palette, True),
    "alpha.png": (lambda: saved(picture("RGBA"), "PNG"), True),
    "grey with alpha.png": (lambda: saved(picture("LA"), "PNG"), True),
    "animated.gif": (lambda: frames("GIF"), True),
    "animated.webp": (lambda: frames("WEBP"), True),
    "pages.tif": (lambda: frames("TIFF"), True),
    "animated.png": (lambda: frames("PNG"), True),
    "png called.jpg": (lambda: PNG, True),
    "jpeg called.png": (lambda: JPEG, True),
    "rubbish after the end.jpg": (lambda: JPEG + b"rubbish" * 1000, True),
    "orientation 99.jpg": (lambda: with_tag(0x0112, 99), True),
    "gps of nothing.jpg": (
        lambda: with_gps({1: "N", 2: (0, 0, 0), 3: "E", 4: (0, 0, 0), 5: b"\0"}),
        True,
    ),
    "gps 200 degrees.jpg": (lambda: with_gps({1: "N", 2: (200.0, 0.0, 0.0), **LON}), True),
    "gps without letters.jpg": (lambda: with_gps({2: (55.0, 0.0, 0.0), 4: (13.0, 0.0, 0.0)}), True),
    "gps with odd letters.jpg": (lambda: with_gps({1: "Q", 2: (50.0, 0.0, 0.0), **LON}), True),
    "broken exif.jpg": (lambda: patched(with_tag(0x0112, 6), 40, b"\xff" * 12), True),
    "line\nbreak.jpg": (lambda: JPEG, True),
    "quote ' and \" and ; rm -rf.jpg": (lambda: JPEG, True),
    "@1e400@nan@99@Z@91@999@@@@@@@@x@.jpg": (lambda: JPEG, True),
    "@@@@@@@@@@@@@@@.jpg": (lambda: JPEG, True),
}


def hostile_inputs() -> list[Hostile]:
    """All of them."""
    return [Hostile(name, make(), is_readable) for name, (make, is_readable) in MAKERS.items()]


def write_all(folder: Path) -> list[Hostile]:
    """Write them into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    inputs = hostile_inputs()
    for one in inputs:
        (folder / one.name).write_bytes(one.data)
    return inputs
