"""Photos decoded once: a uint8 array on disk at the training size, mapped into memory, so that the loop does not wait for JPEG."""

from __future__ import annotations

import hashlib
from pathlib import Path

import cv2
import numpy as np

from whence.data.images import load_resized
from whence.data.photos import Photos
from whence.runtime import atomic_write, map_threads, progress


def cached_pixels(
    photos: Photos, *, width: int, height: int, folder: str | Path, show_progress: bool | None = None
) -> np.ndarray:
    """All photos as (N, height, width, 3) uint8, RGB, resized without regard to their aspect ratio as the benchmark does.

    Kept in `folder` under a key of the photos' contents and the size; a second call reads nothing. The array is mapped, not loaded.
    Raises `UnreadableImage`.
    """
    key = hashlib.blake2b(digest_size=12)
    for content in photos.content:
        key.update(content.ljust(32, b"\0"))
    file = Path(folder) / f"{key.hexdigest()}-{width}x{height}.npy"
    if not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        shape = (len(photos), height, width, 3)
        header = {"descr": np.lib.format.dtype_to_descr(np.dtype(np.uint8)), "fortran_order": False, "shape": shape}
        with atomic_write(file) as out, progress("decoding", total=len(photos), show=show_progress) as advance:
            np.lib.format.write_array_header_1_0(out, header)
            for image in map_threads(lambda row: _resized(photos.file(row), width, height), range(len(photos))):
                out.write(image.tobytes())
                advance(1)
    pixels: np.ndarray = np.load(file, mmap_mode="r")
    return pixels


def _resized(file: Path, width: int, height: int) -> np.ndarray:
    image = load_resized(file, short_side_px=2 * min(width, height))
    return image if image.shape[:2] == (height, width) else cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
