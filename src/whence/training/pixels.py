"""Photos decoded once: a uint8 array on disk at the training size, mapped into memory, so that the
loop does not wait for JPEG."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from whence.data.formats import EvaluationSet
from whence.data.images import load_resized
from whence.data.photos import Photos
from whence.runtime import atomic_write, map_threads, progress
from whence.training.options.augment import AugmentOptions
from whence.training.task import Setup


def cached_pixels(
    photos: Photos,
    *,
    width: int,
    height: int,
    folder: str | Path,
    show_progress: bool | None = None,
) -> np.ndarray:
    """All photos as (N, height, width, 3) uint8, RGB, resized without regard to their aspect ratio
    as the benchmark does.

    Kept in `folder` under a key of the photos' contents and the size; a second call reads nothing.
    The array is mapped, not loaded. Raises `UnreadableImage`.
    """
    file = Path(folder) / f"{key_of(photos)}-{width}x{height}.npy"
    if not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        shape = (len(photos), height, width, 3)
        header = {
            "descr": np.lib.format.dtype_to_descr(np.dtype(np.uint8)),
            "fortran_order": False,
            "shape": shape,
        }
        with (
            atomic_write(file) as out,
            progress("decoding", total=len(photos), show=show_progress) as advance,
        ):
            np.lib.format.write_array_header_1_0(out, header)
            for image in map_threads(
                lambda row: read_at(photos.file(row), width, height), range(len(photos))
            ):
                out.write(image.tobytes())
                advance(1)
    pixels: np.ndarray = np.load(file, mmap_mode="r")
    return pixels


def key_of(photos: Photos) -> str:
    """A key of the photos' contents, in their order."""
    key = hashlib.blake2b(digest_size=12)
    for content in photos.content:
        key.update(content.ljust(32, b"\0"))
    return key.hexdigest()


def stored_size(augment: AugmentOptions) -> tuple[int, int]:
    """Width and height at which photos are kept decoded."""
    return augment.stored_width or augment.width, augment.stored_height or augment.height


def cached_set(data: EvaluationSet, *, size_px: tuple[int, int], setup: Setup) -> SetPixels:
    """The photos of a set at a width and height, decoded once."""
    width, height = size_px
    size: dict[str, Any] = {
        "width": width,
        "height": height,
        "folder": setup.pixels_folder,
        "show_progress": setup.show_progress,
    }
    return SetPixels(*(cached_pixels(photos, **size) for photos in (data.database, data.queries)))


def spread_rows(num: int, most: int) -> np.ndarray:
    """Of `num` rows at most `most`, evenly spread; all of them where that is 0."""
    return np.unique(np.linspace(0, num - 1, min(num, most or num)).round().astype(np.int64))


class SetPixels:
    """The photos of a set as rows of uint8 pixels: the database's first, then the queries'."""

    def __init__(self, database: np.ndarray, queries: np.ndarray) -> None:
        self.database, self.queries = database, queries

    def __len__(self) -> int:
        return len(self.database) + len(self.queries)

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        """(n, H, W, 3) uint8 photos of rows (n,)."""
        first = len(self.database)
        if not len(rows):
            return np.empty((0, *self.database.shape[1:]), np.uint8)
        return np.stack(
            [self.database[row] if row < first else self.queries[row - first] for row in rows]
        )


def read_at(file: Path, width: int, height: int) -> np.ndarray:
    """A photo (height, width, 3) uint8, RGB, whatever its shape was. Raises `UnreadableImage`."""
    return at_size(load_resized(file, short_side_px=2 * min(width, height)), width, height)


def at_size(image: np.ndarray, width: int, height: int) -> np.ndarray:
    """An image (H, W, 3) brought to a width and height, whatever its shape was."""
    return (
        image
        if image.shape[:2] == (height, width)
        else cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    )
