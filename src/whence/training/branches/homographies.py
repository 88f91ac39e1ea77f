"""Views of photos with the exact homography between them, real or rendered. Nothing here needs
torch.

Two views of one photo differ by the homographies that cut them out. Photos of a rendered world that
were taken from one point, by day and by night, differ by the rotation and the zoom of their
cameras, which is a homography too, whatever they show: their cameras stand in the world's
cameras.csv.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from whence.data.photos import Photos
from whence.data.tables import read_text
from whence.errors import NoPhotos
from whence.training.options.local import ViewOptions

CAMERAS = "cameras.csv"
_COLUMNS = (
    "path",
    "fx",
    "fy",
    "cx",
    "cy",
    "width",
    "height",
    "t0",
    "t1",
    "t2",
    *(f"r{i}{j}" for i in range(3) for j in range(3)),
)


class View(NamedTuple):
    """A view cut out of a photo."""

    grey: np.ndarray
    """(h, w) uint8."""
    matrix: np.ndarray
    """(3, 3) homography from pixels of the photo as it is kept to pixels of the view."""
    row: int
    """Of the photo."""


@dataclass(frozen=True)
class SamePoint:
    """For each photo those that were taken from the same point, with the homography to them."""

    others: dict[int, tuple[tuple[int, np.ndarray], ...]]
    """By row of the photo: rows of others, and (3, 3) homographies from its pixels to theirs, as
    photos are kept."""
    rows: np.ndarray
    """(N,) rows that views are cut out of first: those that are not there only as another photo's
    other one."""

    @property
    def num_others(self) -> int:
        """Pairs of photos from one point."""
        return sum(len(found) for found in self.others.values())


def find_same_point(photos: Photos, folder: Path, size_px: tuple[int, int]) -> SamePoint:
    """Which photos below a folder were taken from one point, by all its tables of cameras. Photos
    are kept at this size.

    Of the photos of a world, those of its database are cut first. Raises `UnreadableTable`, and
    `NoPhotos` where there are none.
    """
    if not len(photos):
        raise NoPhotos("there are no photos to cut views out of")
    cameras: dict[int, tuple[np.ndarray, bool]] = {}
    at: dict[tuple[Path, tuple[float, ...]], list[int]] = {}
    known = {str(photos.file(row).resolve()): row for row in range(len(photos))}
    for table in sorted(folder.rglob(CAMERAS)):
        for line in csv.DictReader(io.StringIO(read_text(table))):
            row = known.get(str((table.parent / line.get("path", "")).resolve()))
            if row is not None and all(line.get(name) for name in _COLUMNS):
                matrix, centre = _camera(line, size_px)
                cameras[row] = matrix, line.get("role", "") == "database"
                at.setdefault((table, tuple(np.round(centre, 2).tolist())), []).append(row)
    others: dict[int, tuple[tuple[int, np.ndarray], ...]] = {}
    seconds: set[int] = set()
    for rows in at.values():
        firsts = [row for row in rows if cameras[row][1]]
        for first in firsts:
            found = [
                (row, cameras[row][0] @ np.linalg.inv(cameras[first][0]))
                for row in rows
                if row not in firsts
            ]
            near = [
                (row, matrix / matrix[2, 2])
                for row, matrix in found
                if _share_in(matrix, size_px) > 0.5
            ]
            if near:
                others[first] = tuple(near)
                seconds |= {row for row, _ in near}
    kept = np.array([row for row in range(len(photos)) if row not in seconds], np.int64)
    return SamePoint(others, kept)


def _camera(line: dict[str, str], size_px: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """K R (3, 3) in pixels of the photo as it is kept, and the camera's centre."""
    fx, fy, cx, cy, width, height = (
        float(line[name]) for name in ("fx", "fy", "cx", "cy", "width", "height")
    )
    rotation = np.array([[float(line[f"r{i}{j}"]) for j in range(3)] for i in range(3)])
    translation = np.array([float(line[f"t{i}"]) for i in range(3)])
    sx, sy = size_px[0] / width, size_px[1] / height
    kept = np.array([[sx, 0, (sx - 1) / 2], [0, sy, (sy - 1) / 2], [0, 0, 1]])
    return kept @ np.array(
        [[fx, 0, cx], [0, fy, cy], [0, 0, 1]]
    ) @ rotation, -rotation.T @ translation


def _share_in(matrix: np.ndarray, size_px: tuple[int, int]) -> float:
    """Of a photo the share of points that lie in the other one too."""
    grid = np.stack(
        np.meshgrid(np.linspace(0, size_px[0] - 1, 8), np.linspace(0, size_px[1] - 1, 6)), axis=-1
    ).reshape(-1, 2)
    homogeneous = np.hstack([grid, np.ones((len(grid), 1))]) @ matrix.T
    mapped = homogeneous[:, :2] / homogeneous[:, 2:]
    return float(
        (
            (homogeneous[:, 2] > 0) & (mapped >= 0).all(axis=1) & (mapped < size_px).all(axis=1)
        ).mean()
    )


def draw_matrix(
    random: np.random.Generator, options: ViewOptions, size_px: tuple[int, int]
) -> np.ndarray:
    """A homography (3, 3) from pixels of a photo of this width and height to pixels of a view of
    it.

    A rectangle of the view's shape is put where it fits, turned, and each of its corners moved;
    then it becomes the view.
    """
    width, height = options.width, options.height
    zoom = float(np.exp(random.uniform(*np.log(options.zoom))))
    angle = np.deg2rad(random.uniform(-1, 1) * options.rotation_deg)
    corners = np.array([[0, 0], [width - 1, 0], [width - 1, height - 1], [0, height - 1]], float)
    middle = np.array([width - 1, height - 1]) / 2
    moved = (
        corners
        - middle
        + random.uniform(-1, 1, (4, 2)) * options.corners * np.array([width, height])
    )
    turned = (
        moved @ np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]) / zoom
    )
    reach = np.abs(turned).max(axis=0)
    low, high = (
        np.minimum(reach, (np.array(size_px) - 1) / 2),
        np.maximum(np.array(size_px) - 1 - reach, (np.array(size_px) - 1) / 2),
    )
    placed = turned + random.uniform(low, high)
    return cv2.getPerspectiveTransform(
        placed.astype(np.float32), corners.astype(np.float32)
    ).astype(np.float64)


def draw_beside(
    random: np.random.Generator, options: ViewOptions, size_px: tuple[int, int], first: np.ndarray
) -> np.ndarray:
    """Another homography whose view shows the middle of the first one's, of which some drawn ones
    are the nearest."""
    middle = np.array([options.width - 1, options.height - 1, 2.0]) / 2
    tries = [draw_matrix(random, options, size_px) for _ in range(6)]

    def looks_at(matrix: np.ndarray) -> np.ndarray:
        point = np.linalg.inv(matrix) @ middle
        return np.asarray(point[:2] / point[2])

    return min(tries, key=lambda matrix: float(np.linalg.norm(looks_at(matrix) - looks_at(first))))


def cut_view(
    photo: np.ndarray,
    matrix: np.ndarray,
    options: ViewOptions,
    random: np.random.Generator,
    row: int,
) -> View:
    """A view of a photo (H, W, 3) uint8, grey, in another light; beyond the photo it repeats what
    lies at its rim, mirrored."""
    mix = (
        np.array([0.299, 0.587, 0.114]) * random.uniform(0.6, 1.4, 3)
        if options.gain
        else np.array([0.299, 0.587, 0.114])
    )
    grey = cv2.transform(photo, (mix / mix.sum())[None].astype(np.float32))
    size = (options.width, options.height)
    scale = abs(float(np.linalg.det(matrix[:2, :2]))) ** 0.5
    if scale < 0.8:
        # What is shrunk is smoothed before, so that fine lines do not flicker.
        grey = cv2.GaussianBlur(grey, (0, 0), 0.5 / scale - 0.2)
    seen = cv2.warpPerspective(
        grey, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
    )
    return View(change_light(seen, options, random), matrix, row)


def change_light(grey: np.ndarray, options: ViewOptions, random: np.random.Generator) -> np.ndarray:
    """A grey view (H, W) uint8 as another camera would see it in another light."""
    values: np.ndarray = grey.astype(np.float32) / 255
    if options.gamma:
        values = values ** float(np.exp(random.uniform(-1, 1) * options.gamma))
    if options.light:
        uneven = random.uniform(1 - options.light, 1 + options.light, (3, 4)).astype(np.float32)
        values *= cv2.resize(uneven, grey.shape[1::-1], interpolation=cv2.INTER_CUBIC)
    if options.gain:
        values *= 1 + options.gain * float(random.uniform(-1, 1))
        values += options.gain / 2 * float(random.uniform(-1, 1))
    if random.random() < options.blur_share:
        if random.random() < 0.5:
            values = cv2.GaussianBlur(values, (0, 0), float(random.uniform(0.5, 1.6)))
        else:
            values = cv2.filter2D(
                values, -1, _streak(float(random.uniform(0, np.pi)), int(random.choice([3, 5, 7])))
            )
    if options.noise:
        values = values + float(random.uniform(0, options.noise)) / 255 * random.standard_normal(
            grey.shape, np.float32
        )
    return np.asarray(np.rint(values.clip(0, 1) * 255), np.uint8)


def _streak(angle: float, length: int) -> np.ndarray:
    """The kernel of a shaken hand: a line of this length."""
    kernel = np.zeros((length, length), np.float32)
    half = (length - 1) / 2
    for step in np.linspace(-half, half, 4 * length):
        kernel[round(half + step * np.sin(angle)), round(half + step * np.cos(angle))] += 1
    return np.asarray(kernel / kernel.sum())


def map_points(points: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Points (N, 2) mapped by a homography (3, 3)."""
    homogeneous = np.hstack([points, np.ones((len(points), 1))]) @ matrix.T
    return np.asarray(homogeneous[:, :2] / homogeneous[:, 2:])


def is_inside(points: np.ndarray, width: int, height: int, *, margin: float = 0.0) -> np.ndarray:
    """(N,) bool: which points (N, 2) lie on an image, and not within a margin of its rim."""
    return np.asarray(
        ((points >= margin) & (points <= np.array([width - 1, height - 1]) - margin)).all(axis=1)
    )
