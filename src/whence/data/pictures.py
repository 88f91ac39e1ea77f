"""Pictures for people: two photos side by side with the matches between them."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from whence.runtime import atomic_write
from whence.types import Match

INLIER_RGB = (30, 200, 60)
OUTLIER_RGB = (220, 60, 40)
MAX_LINES = 120
_GAP_PX = 12


def draw_match(image0: np.ndarray, image1: np.ndarray, match: Match, *, height_px: int = 480) -> np.ndarray:
    """Two images (H, W, 3) side by side, uint8 RGB: inliers joined by green lines, other matches as red dots.

    `image0` and `image1` may be any size: points are brought from the sizes `match` was made for. Of many inliers an even share of
    `MAX_LINES` is drawn.
    """
    parts = [_to_height(image, height_px) for image in (image0, image1)]
    canvas = np.full((height_px, parts[0].shape[1] + _GAP_PX + parts[1].shape[1], 3), 255, np.uint8)
    canvas[:, : parts[0].shape[1]] = parts[0]
    canvas[:, parts[0].shape[1] + _GAP_PX :] = parts[1]
    first = _on_canvas(match.points0, match.size0_px, parts[0])
    second = _on_canvas(match.points1, match.size1_px, parts[1]) + np.array([parts[0].shape[1] + _GAP_PX, 0])
    for a, b in zip(first[~match.is_inlier], second[~match.is_inlier], strict=True):
        for x, y in (a, b):
            cv2.circle(canvas, (int(x), int(y)), 2, OUTLIER_RGB, -1, cv2.LINE_AA)
    inliers = np.flatnonzero(match.is_inlier)
    if len(inliers) > MAX_LINES:
        inliers = inliers[np.linspace(0, len(inliers) - 1, MAX_LINES).round().astype(int)]
    for row in inliers:
        a, b = (tuple(int(value) for value in point) for point in (first[row], second[row]))
        cv2.line(canvas, a, b, INLIER_RGB, 1, cv2.LINE_AA)
        for centre in (a, b):
            cv2.circle(canvas, centre, 3, INLIER_RGB, 1, cv2.LINE_AA)
    return canvas


def write_picture(path: str | Path, image: np.ndarray) -> None:
    """Write RGB pixels (H, W, 3) uint8 as PNG, or as JPEG where the ending is .jpg or .jpeg; whole or not at all."""
    ending = ".jpg" if Path(path).suffix.lower() in (".jpg", ".jpeg") else ".png"
    is_done, data = cv2.imencode(ending, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    assert is_done, "a picture in memory cannot fail"
    with atomic_write(path) as file:
        file.write(data.tobytes())


def _to_height(image: np.ndarray, height_px: int) -> np.ndarray:
    height, width = image.shape[:2]
    size = (max(1, round(width * height_px / height)), height_px)
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if height_px < height else cv2.INTER_LINEAR)


def _on_canvas(points: np.ndarray, size_px: tuple[int, int], drawn: np.ndarray) -> np.ndarray:
    scale = np.array([drawn.shape[1] / size_px[0], drawn.shape[0] / size_px[1]])
    return np.rint((np.asarray(points, float).reshape(-1, 2) + 0.5) * scale - 0.5).astype(int)
