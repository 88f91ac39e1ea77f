"""Pixels: every layout, orientation and kind of damage; resizing; hashes; headers."""

from __future__ import annotations

import hashlib
import io
import os
import struct
import sys
import threading
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from whence.data import images
from whence.data.decoding import MAX_PIXELS
from whence.data.images import (
    content_hash,
    image_header,
    load_image,
    load_many,
    load_resized,
    shrink_smoothly,
)
from whence.errors import BadOption, MissingExtra, UnreadableImage

needs_fast = pytest.mark.skipif(
    not images.has_fast_decoder(), reason="the extra `fast` (simplejpeg) is not installed"
)


def scene(width: int = 240, height: int = 160, *, seed: int = 0) -> np.ndarray:
    """A picture with gradients, edges and texture: uint8 (height, width, 3)."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    planes = [90 + 60 * np.sin(x / 17 + y / 40), 120 + 50 * np.cos(y / 13), 255 * x / width]
    picture = np.stack(planes, axis=-1) + rng.normal(0, 6, (height, width, 3))
    picture[height // 4 : height // 2, width // 5 : width // 2] -= 60
    return np.clip(picture, 0, 255).astype(np.uint8)


def encode(image: Image.Image | np.ndarray, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(file, kind, **options)
    return file.getvalue()


def with_orientation(value: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = value
    return exif


# What a viewer must do to the stored pixels, from the definition of the tag (row 0 is ..., column 0
# is ...).
UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: a[::-1].transpose(1, 0, 2),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: a[:, ::-1].transpose(1, 0, 2),
}


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP", "JPEG"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation(kind: str, orientation: int) -> None:
    stored = scene(48, 30)
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encode(stored, kind, exif=with_orientation(orientation), **options)
    if kind == "JPEG":
        stored = np.array(Image.open(io.BytesIO(data)))
    upright = load_image(data)
    assert np.array_equal(upright, UPRIGHT[orientation](stored))
    assert image_header(data) == (upright.shape[1], upright.shape[0], kind)


@pytest.mark.parametrize("decoder", ["pillow", pytest.param("fast", marks=needs_fast)])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_resized_is_upright(decoder: str, orientation: int) -> None:
    data = encode(scene(240, 160), "JPEG", quality=95, exif=with_orientation(orientation))
    plain = load_resized(
        encode(scene(240, 160), "JPEG", quality=95), long_side_px=90, decoder=decoder
    )
    assert np.array_equal(
        load_resized(data, long_side_px=90, decoder=decoder), UPRIGHT[orientation](plain)
    )


@pytest.mark.parametrize("orientation", [0, 9, 77])
def test_senseless_orientation_means_upright(orientation: int) -> None:
    assert np.array_equal(
        load_image(encode(scene(40, 20), "PNG", exif=with_orientation(orientation))), scene(40, 20)
    )


def test_orientation_in_a_late_png_chunk() -> None:
    data = encode(scene(40, 20), "PNG")
    block = with_orientation(6).tobytes()[6:]
    chunk = (
        struct.pack(">I", len(block))
        + b"eXIf"
        + block
        + struct.pack(">I", zlib.crc32(b"eXIf" + block))
    )
    end = data.rindex(b"IEND") - 4
    late = data[:end] + chunk + data[end:]
    assert image_header(late) == (20, 40, "PNG")
    assert np.array_equal(load_image(late), UPRIGHT[6](scene(40, 20)))


def test_damaged_exif_is_no_exif() -> None:
    data = encode(scene(40, 20), "PNG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff garbage")
    assert np.array_equal(load_image(data), scene(40, 20))


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "GIF", "WEBP", "JPEG"])
def test_formats(kind: str, tmp_path: Path) -> None:
    flat = np.zeros((32, 48, 3), np.uint8)
    flat[:, :24], flat[:, 24:] = (200, 40, 80), (20, 160, 240)
    path = tmp_path / "photo.bin"
    path.write_bytes(encode(flat, kind, **({"quality": 100} if kind in ("WEBP", "JPEG") else {})))
    image = load_image(path)
    assert image.dtype == np.uint8
    assert image.flags.c_contiguous
    assert image.flags.writeable
    centre = np.s_[4:28, np.r_[4:18, 30:44]]
    assert np.abs(image[centre].astype(int) - flat[centre]).max() <= (
        4 if kind in ("JPEG", "WEBP") else 0
    )
    assert image_header(path) == (48, 32, kind)


def test_first_frame_of_animations_and_pages() -> None:
    frames = [Image.new("RGB", (20, 10), colour) for colour in ("red", "lime", "blue")]
    for kind in ("GIF", "TIFF", "PNG", "WEBP"):
        options = {"lossless": True} if kind == "WEBP" else {}
        data = encode(frames[0], kind, save_all=True, append_images=frames[1:], **options)
        assert np.array_equal(load_image(data), np.full((10, 20, 3), (255, 0, 0), np.uint8)), kind


def test_one_bit_and_grey() -> None:
    levels = scene(30, 20)[..., 0]
    assert np.array_equal(
        load_image(encode(levels, "PNG")), np.repeat(levels[..., None], 3, axis=2)
    )
    bits = levels > 100
    expected = np.repeat((bits * np.uint8(255))[..., None], 3, axis=2)
    for kind in ("PNG", "TIFF", "BMP"):
        assert np.array_equal(load_image(encode(Image.fromarray(bits), kind)), expected)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bit_grey_is_scaled_not_clipped(kind: str) -> None:
    levels = np.arange(0, 65536, 257, dtype=np.uint16).reshape(16, 16)[:, :15]
    image = load_image(encode(Image.fromarray(levels), kind))
    assert np.array_equal(image[..., 0], levels // 256)
    assert np.array_equal(image[..., 0], image[..., 2])


def test_sixteen_bit_rgb_is_scaled() -> None:
    levels = np.random.default_rng(1).integers(0, 65536, (5, 7, 3), dtype=np.uint16)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in levels)
    data = png(7, 5, bit_depth=16, colour=2, body=zlib.compress(rows))
    assert np.array_equal(load_image(data), levels // 256)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize(
    ("scale", "offset"), [(16, 0), (4, 0), (64, 0), (1, 0), (1, 30_000), (0.5, 65_000)]
)
def test_sixteen_bits_of_low_range_are_stretched(kind: str, scale: float, offset: int) -> None:
    grey = scene(60, 40, seed=3)[..., 0]
    levels = (grey.astype(float) * scale + offset).astype(np.uint16)
    image = load_image(encode(Image.fromarray(levels), kind))[..., 0].astype(int)
    assert (image.min(), image.max()) == (0, 255)
    span = int(grey.max()) - int(grey.min())
    expected = (grey.astype(int) - grey.min()) * 255 / span
    assert np.abs(image - expected).max() <= 1 + 255 / span / min(scale, 1)


def test_hot_pixels_do_not_keep_a_picture_dark() -> None:
    levels = scene(240, 160)[..., 0].astype(np.uint16) * 16
    levels[3, 4], levels[80, 90] = 65_535, 60_000
    assert load_image(encode(Image.fromarray(levels), "PNG")).mean() > 60


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bit_colour_of_low_range_is_stretched(kind: str) -> None:
    import cv2

    colour = scene(60, 40, seed=4)
    ending = {"PNG": ".png", "TIFF": ".tif"}[kind]
    data = cv2.imencode(ending, colour[..., ::-1].astype(np.uint16) * 16)[1].tobytes()
    image = load_image(data).astype(int)
    low, high = int(colour.min()), int(colour.max())
    assert np.abs(image - (colour.astype(int) - low) * 255 / (high - low)).max() <= 1
    full = cv2.imencode(ending, colour[..., ::-1].astype(np.uint16) * 257)[1].tobytes()
    assert np.array_equal(load_image(full), colour)


def test_sixteen_bits_of_one_value_stay() -> None:
    assert np.unique(
        load_image(encode(Image.fromarray(np.full((9, 9), 30_000, np.uint16)), "PNG"))
    ).tolist() == [30_000 // 256]


def png(width: int, height: int, *, bit_depth: int, colour: int, body: bytes) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content))
            + kind
            + content
            + struct.pack(">I", zlib.crc32(kind + content))
        )

    header = struct.pack(">IIBBBBB", width, height, bit_depth, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")
    )


def test_wide_integers_and_floats_are_refused_not_clipped() -> None:
    fits = np.array([[0, 65535], [256, 511]], np.int32)
    assert np.array_equal(
        load_image(encode(Image.fromarray(fits), "TIFF"))[..., 0], [[0, 255], [1, 1]]
    )
    with pytest.raises(UnreadableImage, match="exceed 16 bits"):
        load_image(encode(Image.fromarray(fits * 2), "TIFF"))
    with pytest.raises(UnreadableImage, match="floating-point"):
        load_image(encode(Image.fromarray(fits.astype(np.float32)), "TIFF"))


def over_white(colour: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    share = alpha[..., None] / 255
    return colour * share + 255 * (1 - share)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_transparency_lies_over_white(kind: str) -> None:
    colour = scene(32, 24)
    alpha = np.tile(np.linspace(0, 255, 32).astype(np.uint8), (24, 1))
    layered = np.dstack([colour, alpha])
    data = encode(layered, kind, **({"lossless": True, "exact": True} if kind == "WEBP" else {}))
    assert np.abs(load_image(data) - over_white(colour, alpha)).max() <= 1
    grey = np.dstack([colour[..., 0], alpha])
    if kind != "WEBP":
        expected = over_white(np.repeat(colour[..., :1], 3, axis=2), alpha)
        assert np.abs(load_image(encode(Image.fromarray(grey, "LA"), kind)) - expected).max() <= 1


def test_palette_with_transparency() -> None:
    palette = Image.new("P", (4, 1))
    palette.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255, 10, 20, 30])
    palette.putdata([0, 1, 2, 3])
    image = load_image(encode(palette, "PNG", transparency=bytes([255, 0, 255, 255])))
    assert image.tolist() == [[[255, 0, 0], [255, 255, 255], [0, 0, 255], [10, 20, 30]]]
    image = load_image(encode(palette, "GIF", transparency=2))
    assert image.tolist() == [[[255, 0, 0], [0, 255, 0], [255, 255, 255], [10, 20, 30]]]


def test_colour_key_transparency() -> None:
    image = Image.fromarray(np.array([[[1, 2, 3], [9, 9, 9]]], np.uint8))
    assert load_image(encode(image, "PNG", transparency=(1, 2, 3))).tolist() == [
        [[255, 255, 255], [9, 9, 9]]
    ]


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk(kind: str) -> None:
    inks = np.zeros((16, 32, 4), np.uint8)
    inks[:, :16], inks[:, 16:] = (255, 0, 0, 0), (0, 0, 0, 128)
    image = load_image(
        encode(Image.fromarray(inks, "CMYK"), kind, **({"quality": 100} if kind == "JPEG" else {}))
    )
    assert np.abs(image[8, 4].astype(int) - (0, 255, 255)).max() <= 3
    assert np.abs(image[8, 28].astype(int) - 127).max() <= 3


def test_declared_size_is_checked_before_decoding() -> None:
    bomb = png(60_000, 60_000, bit_depth=8, colour=2, body=zlib.compress(b"\0" * 100))
    for read in (load_image, image_header, load_resized):
        with pytest.raises(
            UnreadableImage,
            match=r"declares 60000 x 60000 pixels, more than the limit of 250,000,000",
        ):
            read(bomb)
    assert MAX_PIXELS == 250_000_000
    assert load_image(encode(scene(20, 10), "PNG"), max_pixels=200).shape == (10, 20, 3)
    with pytest.raises(UnreadableImage, match="max_pixels"):
        load_image(encode(scene(20, 10), "PNG"), max_pixels=199)


def test_large_but_allowed_size_makes_no_warning() -> None:
    large = encode(Image.new("1", (12_000, 8_000)), "PNG")
    assert image_header(large) == (12_000, 8_000, "PNG")
    larger = encode(Image.new("1", (15_000, 12_500)), "TIFF", compression="group4")
    assert image_header(larger).width == 15_000
    assert Image.MAX_IMAGE_PIXELS is not None


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP", "GIF", "BMP"])
@pytest.mark.parametrize("share", [0.003, 0.02, 0.5, 0.9])
def test_truncated(kind: str, share: float, tmp_path: Path) -> None:
    data = encode(scene(), kind)
    path = tmp_path / "cut off.jpg"
    path.write_bytes(data[: int(len(data) * share) + 4])
    with pytest.raises(UnreadableImage, match=r"cut off\.jpg"):
        load_image(path)
    with pytest.raises(UnreadableImage, match=r"cut off\.jpg"):
        load_resized(path, long_side_px=100)


def test_what_is_not_a_picture(tmp_path: Path) -> None:
    text, empty, forbidden = (
        tmp_path / "text.jpg",
        tmp_path / "empty.jpg",
        tmp_path / "forbidden.jpg",
    )
    text.write_text("not a picture at all")
    empty.touch()
    forbidden.write_bytes(encode(scene(), "JPEG"))
    forbidden.chmod(0)
    cases = {
        text: "not a JPEG",
        empty: "is empty",
        tmp_path: "is a folder",
        tmp_path / "none.jpg": "no such file",
    }
    if not os.access(forbidden, os.R_OK):
        cases[forbidden] = "no permission"
    for path, reason in cases.items():
        for read in (load_image, load_resized, image_header):
            with pytest.raises(UnreadableImage, match=reason) as caught:
                read(path)
            assert caught.value.path == str(path)
    with pytest.raises(UnreadableImage, match="is a folder"):
        content_hash(tmp_path)
    with pytest.raises(UnreadableImage):
        load_image(b"")
    with pytest.raises(UnreadableImage):
        load_image("a\0b.jpg")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_pipes_do_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(UnreadableImage, match="regular file"):
        load_image(tmp_path / "pipe.jpg")


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 5), st.integers(0, 2**32 - 1))
def test_flipped_bytes_give_a_picture_or_our_error(which: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    kind = ("JPEG", "PNG", "TIFF", "WEBP", "GIF", "BMP")[which]
    data = bytearray(
        encode(
            scene(40, 30),
            kind,
            **({"exif": with_orientation(6)} if kind not in ("GIF", "BMP") else {}),
        )
    )
    for place in rng.integers(0, min(len(data), 400), 4):
        data[place] = rng.integers(256)
    try:
        image = load_resized(bytes(data), long_side_px=20, max_pixels=10**6)
    except UnreadableImage:
        return
    assert image.ndim == 3
    assert image.dtype == np.uint8


def reference(data: bytes, size: tuple[int, int]) -> np.ndarray:
    return np.array(Image.fromarray(load_image(data)).resize(size, Image.Resampling.BILINEAR))


@pytest.mark.parametrize("decoder", ["pillow", pytest.param("fast", marks=needs_fast)])
@pytest.mark.parametrize(
    ("size", "target"),
    [
        ((960, 540), 320),
        ((640, 480), 320),
        ((1000, 700), 90),
        ((1203, 801), 100),
        ((500, 400), 390),
    ],
)
def test_resized_agrees_with_full_decode_and_antialias(
    decoder: str, size: tuple[int, int], target: int
) -> None:
    data = encode(scene(*size), "JPEG", quality=90, subsampling="4:2:0")
    ours = load_resized(data, long_side_px=target, decoder=decoder)
    assert max(ours.shape) == target
    gap = np.abs(ours.astype(float) - reference(data, (ours.shape[1], ours.shape[0])))
    assert gap.mean() < 1.2
    # A shift by one pixel, the mistake such code makes, would show.
    shifted = np.abs(
        np.roll(ours, 1, axis=1).astype(float) - reference(data, (ours.shape[1], ours.shape[0]))
    )
    assert gap.mean() < 0.6 * shifted.mean()


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP"])
def test_resized_without_draft_is_pillows_own(kind: str) -> None:
    data = encode(scene(300, 200), kind)
    assert np.array_equal(load_resized(data, short_side_px=120), reference(data, (180, 120)))


@needs_fast
def test_progressive_grey_and_broken_jpeg_through_auto() -> None:
    progressive = encode(scene(), "JPEG", progressive=True)
    assert np.array_equal(
        load_resized(progressive, long_side_px=80),
        load_resized(progressive, long_side_px=80, decoder="pillow"),
    )
    grey = load_resized(encode(scene()[..., 0], "JPEG"), long_side_px=80)
    assert grey.shape == (53, 80, 3)
    assert np.array_equal(grey[..., 0], grey[..., 1])
    followed = encode(scene(), "JPEG") + b"trailing bytes of a maker note"
    assert np.array_equal(
        load_resized(followed, long_side_px=80),
        load_resized(encode(scene(), "JPEG"), long_side_px=80),
    )


@pytest.mark.parametrize("decoder", ["pillow", pytest.param("fast", marks=needs_fast)])
def test_never_enlarged_unless_asked(decoder: str) -> None:
    data = encode(scene(60, 40), "JPEG")
    assert np.array_equal(load_resized(data, long_side_px=90, decoder="pillow"), load_image(data))
    assert load_resized(data, long_side_px=90, decoder=decoder).shape == (40, 60, 3)
    assert load_resized(data, short_side_px=80, enlarge=True, decoder=decoder).shape == (80, 120, 3)
    assert load_resized(data, decoder=decoder).shape == (40, 60, 3)


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 5000), st.integers(1, 5000), st.integers(1, 2000), st.booleans())
def test_target_size(width: int, height: int, wanted: int, use_long: bool) -> None:
    side = {
        "long_side_px": wanted if use_long else None,
        "short_side_px": None if use_long else wanted,
    }
    new = images._target_size((width, height), **side, enlarge=False)
    pick = max if use_long else min
    if wanted >= pick(width, height):
        assert new == (width, height)
    else:
        assert pick(new) == wanted or min(new) == 1
        scale = wanted / pick(width, height)
        assert abs(new[0] - width * scale) <= 0.5 + 1e-9 or new[0] == 1
        assert abs(new[1] - height * scale) <= 0.5 + 1e-9 or new[1] == 1


def test_options_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encode(scene(), "JPEG")
    with pytest.raises(BadOption):
        load_resized(data, long_side_px=10, short_side_px=10)
    with pytest.raises(BadOption):
        load_resized(data, long_side_px=0)
    with pytest.raises(BadOption):
        load_resized(data, decoder="turbo")
    monkeypatch.setattr(images, "has_fast_decoder", lambda: False)
    with pytest.raises(MissingExtra, match=r"whence-vpr\[fast\]"):
        load_resized(data, decoder="fast")
    assert load_resized(data, long_side_px=80).shape == (53, 80, 3)


@pytest.mark.parametrize("shrink", [1.0, 1.3, 1.7, 2.0, 3.5])
def test_smooth_shrink_is_close_to_the_triangle_filter(shrink: float) -> None:
    image = scene(420, 280)
    size = (round(420 / shrink), round(280 / shrink))
    expected = np.array(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR)).astype(
        float
    )
    assert np.abs(shrink_smoothly(image, size) - expected).mean() < 1.2


@settings(max_examples=50, deadline=None)
@given(st.floats(0.001, 0.65))
def test_three_taps_have_the_variance_asked_for(variance: float) -> None:
    sigma = images._sigma_of_three_taps(variance)
    taps = np.exp(-(np.arange(-1, 2) ** 2) / (2 * sigma**2))
    taps /= taps.sum()
    assert np.isclose((taps * np.arange(-1, 2) ** 2).sum(), variance)


def test_many_in_order_with_failures_in_place(tmp_path: Path) -> None:
    sources: list[object] = [
        encode(np.full((8, 8, 3), level, np.uint8), "PNG") for level in range(0, 200, 10)
    ]
    sources[7] = tmp_path / "missing.jpg"
    results = list(load_many(sources, num_workers=3))
    assert isinstance(results[7], UnreadableImage)
    assert [int(image[0, 0, 0]) for i, image in enumerate(results) if i != 7] == [
        10 * i for i in range(20) if i != 7
    ]
    assert list(load_many([])) == []


def test_content_hash(tmp_path: Path) -> None:
    data = os.urandom(300_000)
    (tmp_path / "file").write_bytes(data)
    expected = hashlib.blake2b(data, digest_size=16).hexdigest()
    assert content_hash(tmp_path / "file") == content_hash(data) == expected
    assert len(expected) == 32


def test_warnings_of_threads_stay_inside() -> None:
    corrupt = encode(scene(40, 30), "TIFF")
    corrupt = corrupt.replace(struct.pack("<HHI", 0x0106, 3, 1), struct.pack("<HHI", 0x0106, 3, 9))
    before = list(warnings.filters)
    failures: list[BaseException] = []

    def work() -> None:
        for _ in range(20):
            try:
                load_image(corrupt)
            except UnreadableImage:
                pass
            except BaseException as error:
                failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert warnings.filters == before


def test_heic(monkeypatch: pytest.MonkeyPatch) -> None:
    brand = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(MissingExtra, match=r"whence-vpr\[heic\]"):
        load_image(brand + bytes(100))
    monkeypatch.undo()
    pillow_heif = pytest.importorskip(
        "pillow_heif", reason="the extra `heic` (pillow-heif) is not installed"
    )
    file = io.BytesIO()
    flat = Image.new("RGB", (64, 48), (200, 40, 80))
    pillow_heif.from_pillow(flat).save(file, quality=95)
    image = load_image(file.getvalue())
    assert image.shape == (48, 64, 3)
    assert np.abs(image.astype(int) - (200, 40, 80)).max() <= 6
    assert image_header(file.getvalue()) == (64, 48, "HEIC")
    with pytest.raises(UnreadableImage):
        load_image(brand + bytes(100))
