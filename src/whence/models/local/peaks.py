"""Keypoints of a map that says of every pixel how gladly one stands there: its peaks, to fractions
of a pixel. No torch."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np


class Peaks(NamedTuple):
    """Peaks of a map, the highest first."""

    points: np.ndarray
    """(M, 2) float32: x, y in pixels; pixel centres are whole numbers."""
    heights: np.ndarray
    """(M,) float32."""


def find_peaks(
    heights: np.ndarray,
    *,
    max_points: int,
    radius_px: int = 2,
    border_px: int = 4,
    least: float = -np.inf,
    is_refined: bool = True,
) -> Peaks:
    """The highest peaks of a map (H, W) float32, none within a distance of another that is higher,
    near the rim, or on a level.

    `is_refined`: each is moved to the top of the parabola through its neighbours, half a pixel at
    most.
    """
    height, width = heights.shape
    if min(height, width) <= 2 * border_px:
        return Peaks(np.zeros((0, 2), np.float32), np.zeros(0, np.float32))
    side = 2 * radius_px + 1
    highest = cv2.dilate(heights, np.ones((side, side), np.uint8))
    inner = slice(border_px, height - border_px), slice(border_px, width - border_px)
    # Where nothing is to be seen the map is level, and no point is better than another.
    lowest = cv2.erode(heights, np.ones((3, 3), np.uint8))
    is_peak = (
        (heights[inner] == highest[inner])
        & (heights[inner] > lowest[inner])
        & (heights[inner] > least)
    )
    rows, columns = np.nonzero(is_peak)
    rows, columns = rows + border_px, columns + border_px
    values = heights[rows, columns]
    order = np.argsort(-values, kind="stable")[:max_points]
    rows, columns, values = rows[order], columns[order], values[order]
    points = np.stack([columns, rows], axis=1).astype(np.float32)
    if is_refined and border_px > 0:
        points[:, 0] += _top(heights[rows, columns - 1], values, heights[rows, columns + 1])
        points[:, 1] += _top(heights[rows - 1, columns], values, heights[rows + 1, columns])
    return Peaks(points, values.astype(np.float32))


def _top(before: np.ndarray, middle: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Where the parabola through three heights, one pixel apart, is highest, from the middle; 0
    where they are level."""
    bend = before - 2 * middle + after
    return np.where(bend < 0, (before - after) / np.where(bend < 0, 2 * bend, 1), 0).clip(-0.5, 0.5)
