"""Reconstructions as COLMAP writes them: which photos a model has, and which 3-D points each of
them sees.

Binary and text models are read; binary ones are written. Numbers are little-endian, as COLMAP
documents them.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from whence.data.tables import read_text
from whence.errors import UnreadableTable
from whence.runtime import atomic_write

_POSE = struct.Struct("<I4d3dI")
"""Number, quaternion (w, x, y, z) and translation from world to camera, number of the camera."""
_COUNT = struct.Struct("<Q")
_POINT = np.dtype([("column", "<f8"), ("row", "<f8"), ("point", "<i8")])
_PINHOLE = 1
"""COLMAP's number of the camera with fx, fy, cx, cy."""
_MOST_NAME = 4096
_BLOCK = 8192
"""Points that are compared together."""


class ModelImage(NamedTuple):
    """One photo of a model."""

    name: str
    rotation: np.ndarray
    """(4,) quaternion w, x, y, z from world to camera."""
    translation: np.ndarray
    """(3,)"""
    camera: int
    columns: np.ndarray
    """(n,) pixels of what it sees ..."""
    rows: np.ndarray
    points: np.ndarray
    """... and (n,) int64 numbers of the 3-D points seen there."""


def has_model(folder: Path) -> bool:
    """Whether a folder holds a model's photos."""
    return (folder / "images.bin").is_file() or (folder / "images.txt").is_file()


def read_model(folder: str | Path) -> list[ModelImage]:
    """The photos of a model. Raises `UnreadableTable`."""
    folder = Path(folder)
    file = folder / "images.bin"
    if file.is_file():
        try:
            with open(file, "rb") as data:
                (count,) = _COUNT.unpack(_taken(data, _COUNT.size))
                return [_read_image(data) for _ in range(count)]
        except (ValueError, struct.error) as error:
            raise UnreadableTable(file, str(error)) from None
        except OSError as error:
            raise UnreadableTable(file, error.strerror or str(error)) from None
    return _read_text_model(folder / "images.txt")


def shared_shares(images: Sequence[ModelImage]) -> np.ndarray:
    """(n, n) share of points that two photos have in common, of the points of that one which has
    more of them; 0 on no points."""
    sets = [np.unique(image.points) for image in images]
    numbers, place = np.unique(
        np.concatenate(sets) if sets else np.empty(0, np.int64), return_inverse=True
    )
    owner = np.repeat(np.arange(len(images)), [len(points) for points in sets])
    order = np.argsort(place, kind="stable")
    owner, place = owner[order], place[order]
    common = np.zeros((len(images), len(images)), np.float32)
    for start in range(0, len(numbers), _BLOCK):
        first, last = np.searchsorted(place, (start, start + _BLOCK))
        sees = np.zeros((len(images), _BLOCK), np.float32)
        sees[owner[first:last], place[first:last] - start] = 1
        common += sees @ sees.T
    counts = np.diag(common)
    return np.asarray(common / np.maximum(np.maximum(counts[:, None], counts), 1))


def write_model(
    folder: Path,
    images: Sequence[ModelImage],
    *,
    cameras: Sequence[tuple[int, int, np.ndarray]],
    points: np.ndarray,
) -> None:
    """Write cameras.bin, images.bin and points3D.bin, each whole or not at all.

    `cameras` are width, height and fx, fy, cx, cy in pixels, numbered from 1 as the images'
    `camera` says; `points` (P, 3) are the positions of the points 0 to P - 1, which keep no colours
    and no errors.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_write(folder / "cameras.bin") as file:
        file.write(_COUNT.pack(len(cameras)))
        for number, (width, height, intrinsics) in enumerate(cameras, start=1):
            # COLMAP measures pixels from the corner of the first one.
            fx, fy, cx, cy = intrinsics
            file.write(
                struct.pack("<IiQQ4d", number, _PINHOLE, width, height, fx, fy, cx + 0.5, cy + 0.5)
            )
    tracks: list[list[tuple[int, int]]] = [[] for _ in points]
    with atomic_write(folder / "images.bin") as file:
        file.write(_COUNT.pack(len(images)))
        for number, image in enumerate(images, start=1):
            file.write(_POSE.pack(number, *image.rotation, *image.translation, image.camera))
            file.write(image.name.encode() + b"\0" + _COUNT.pack(len(image.points)))
            seen = np.empty(len(image.points), _POINT)
            seen["column"], seen["row"], seen["point"] = (
                image.columns + 0.5,
                image.rows + 0.5,
                image.points,
            )
            file.write(seen.tobytes())
            for place, point in enumerate(image.points.tolist()):
                tracks[point].append((number, place))
    with atomic_write(folder / "points3D.bin") as file:
        file.write(_COUNT.pack(len(points)))
        for number, (point, track) in enumerate(zip(points, tracks, strict=True)):
            file.write(struct.pack("<Q3d3Bd", number, *point, 128, 128, 128, 0.0))
            file.write(_COUNT.pack(len(track)) + np.array(track, "<u4").tobytes())


def as_quaternion(rotation: np.ndarray) -> np.ndarray:
    """(4,) w, x, y, z of a rotation (3, 3): the eigenvector of Bar-Itzhack's matrix, which no angle
    makes unsure."""
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = rotation
    matrix = np.array(
        [
            [xx - yy - zz, yx + xy, zx + xz, zy - yz],
            [yx + xy, yy - xx - zz, zy + yz, xz - zx],
            [zx + xz, zy + yz, zz - xx - yy, yx - xy],
            [zy - yz, xz - zx, yx - xy, xx + yy + zz],
        ]
    )
    x, y, z, w = np.linalg.eigh(matrix)[1][:, -1]
    found = np.array([w, x, y, z])
    return found if w >= 0 else -found


def _read_image(data: IO[bytes]) -> ModelImage:
    _, *pose, camera = _POSE.unpack(_taken(data, _POSE.size))
    name = bytearray()
    while (letter := _taken(data, 1)) != b"\0":
        name += letter
        if len(name) > _MOST_NAME:
            raise ValueError("a name without an end")
    (count,) = _COUNT.unpack(_taken(data, _COUNT.size))
    seen = np.frombuffer(_taken(data, count * _POINT.itemsize), _POINT)
    return _image(
        name.decode(errors="replace"), pose, camera, seen["column"], seen["row"], seen["point"]
    )


def _image(
    name: str,
    pose: Sequence[float],
    camera: int,
    columns: np.ndarray,
    rows: np.ndarray,
    points: np.ndarray,
) -> ModelImage:
    is_point = points >= 0
    columns, rows, points = (
        values[is_point] for values in (columns - 0.5, rows - 0.5, points.astype(np.int64))
    )
    return ModelImage(name, np.array(pose[:4]), np.array(pose[4:]), camera, columns, rows, points)


def _read_text_model(file: Path) -> list[ModelImage]:
    """Two lines a photo: number, quaternion, translation, camera, name; then column, row, point for
    all it sees."""
    lines = read_text(file).splitlines()
    kept = [
        (number, line) for number, line in enumerate(lines, start=1) if not line.startswith("#")
    ]
    while kept and not kept[-1][1].strip() and len(kept) % 2:
        kept.pop()
    images = []
    for (line, head), (_, body) in zip(kept[::2], kept[1::2], strict=False):
        words = head.split(maxsplit=9)
        try:
            if len(words) < 10:
                raise ValueError("a photo has a number, a pose of seven, a camera and a name")
            seen = np.array(body.split(), float).reshape(-1, 3)
            images.append(
                _image(
                    words[9],
                    [float(w) for w in words[1:8]],
                    int(words[8]),
                    seen[:, 0],
                    seen[:, 1],
                    seen[:, 2],
                )
            )
        except ValueError as error:
            raise UnreadableTable(file, str(error), line=line) from None
    return images


def _taken(data: IO[bytes], size: int) -> bytes:
    """The next bytes. Raises `ValueError` where they are not all there."""
    found = data.read(size)
    if len(found) != size:
        raise ValueError("the file ends too early")
    return found
