"""Panoramas as SF-XL has them, and the crops that are cut out of them: columns are equal steps of
angle, clockwise.

A panorama is 6.5 times as wide as high (3328 x 512) and shows 360 degrees; its name carries the
heading of its middle column. A crop is as wide as high and shows 55.4 degrees; its name carries the
heading of its LEFT column. After CosPlace (Berton, Masone, Caputo, CVPR 2022), EigenPlaces (Berton,
Trivigno, Caputo, Masone, ICCV 2023) and what their authors say of the data set. Its own notes say
that headings grow towards west; its panoramas are cut as if towards east, as here.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from whence.errors import InputError

ASPECT = 6.5
CROP_DEG = 360 / ASPECT
"""What a crop shows from its left column to its right."""
TOP_DEG = 90 - 512 / 1664 * 180
"""Elevation of a panorama's upper edge: of the whole sphere's 1664 rows the upper 512 and the lower
640 are cut away."""
MIDDLE_DEG = TOP_DEG - CROP_DEG / 2
"""Elevation of its middle row."""


def is_panorama(width_px: int, height_px: int) -> bool:
    """Whether a picture has a panorama's shape, but for the rounding of odd heights."""
    return height_px > 0 and abs(width_px - ASPECT * height_px) < 1


def require_panoramas(
    sizes_px: Iterable[tuple[int, int]], names: Iterable[str], *, are_wanted: bool = True
) -> None:
    """Raise `InputError` where a picture of this width and height is no panorama; with `are_wanted`
    false where one is.

    Learning from pictures of the wrong kind runs without an error, and gives a model of nothing.
    """
    for (width, height), name in zip(sizes_px, names, strict=True):
        if is_panorama(width, height) != are_wanted:
            what = "no panorama" if are_wanted else "a panorama"
            wanted = (
                "panoramas, 6.5 times as wide as high, as in raw/train/panoramas"
                if are_wanted
                else "crops or photos, not panoramas"
            )
            raise InputError(f"{name!r} is {width} x {height} pixels: {what}; give {wanted}")


def heading_of_middle(left_heading_deg: np.ndarray) -> np.ndarray:
    """The heading (N,) in which crops look whose left columns have these headings."""
    return np.asarray((left_heading_deg + CROP_DEG / 2) % 360)


def heading_of_left(heading_deg: np.ndarray) -> np.ndarray:
    """The heading (N,) of the left columns of crops that look in these directions."""
    return np.asarray((heading_deg - CROP_DEG / 2) % 360)


def direction_deg(from_m: np.ndarray, to_m: np.ndarray) -> np.ndarray:
    """Directions (N,) in [0, 360), clockwise from the plane's north, of points (N, 2) seen from
    others (N, 2): east, north."""
    gap = np.asarray(to_m) - np.asarray(from_m)
    return np.asarray(np.degrees(np.arctan2(gap[..., 0], gap[..., 1])) % 360)


def left_column(looking_deg: float, *, heading_deg: float, height_px: int) -> int:
    """The column of a panorama at which the crop begins that looks in a direction; in whole
    columns, as published."""
    width = round(ASPECT * height_px)
    north = int((180 - heading_deg) % 360 / 360 * width)
    return int(north + int(looking_deg / 360 * width % width) - height_px // 2) % width


def cut_crop(panorama: np.ndarray, column: int) -> np.ndarray:
    """The crop (H, H, 3) of a panorama (H, 6.5 H, 3) that begins at a column; it goes on at the
    other edge."""
    height, width = panorama.shape[:2]
    if column + height <= width:
        return panorama[:, column : column + height]
    return np.concatenate([panorama[:, column:], panorama[:, : column + height - width]], axis=1)
