"""A moving image on another's pixels: every pixel at the place that the matrix says, of bytes and
of numbers with holes."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from whence.data.raster_windows import ArrayWindows, RasterWindows
from whence.localize.onto_grid import draw_registered, write_warped

pytest.importorskip("rasterio")
MATRIX = np.array([[2.5, 0.4, 90.0], [-0.3, 2.6, 120.0], [2e-4, 1e-4, 1.0]])


def test_corners_lie_within_half_a_pixel(tmp_path):
    moving = ArrayWindows(np.full((150, 200, 3), 200, np.uint8))
    fixed = ArrayWindows(np.zeros((620, 700, 3), np.uint8))
    write_warped(tmp_path / "w.tif", moving, fixed, MATRIX)
    with RasterWindows(tmp_path / "w.tif") as written:
        assert written.size_px == (700, 620)
        pixels, known = written.read(0, 0, 700, 620)
    corners = np.array([[[-0.5, -0.5], [199.5, -0.5], [199.5, 149.5], [-0.5, 149.5]]])
    polygon = cv2.perspectiveTransform(corners, MATRIX)[0].astype(np.float32)
    assert (polygon > 0).all()
    assert (polygon < [699, 619]).all(), "the whole outline is tested"
    inside = np.array(
        [
            [cv2.pointPolygonTest(polygon, (x, y), True) for x in range(700)]
            for y in range(0, 620, 3)
        ]
    )
    assert known[::3][inside > 0.5].all()
    assert not known[::3][inside < -0.5].any()
    assert (pixels[::3][inside > 0.5] == 200).all(), "nothing of the outside is mixed in"
    picture = draw_registered(moving, fixed, MATRIX)
    assert picture.shape == (620, 1400, 3)
    assert (
        0.2 < (picture[:, 700:] == 200).all(axis=2).sum() / (inside > 0).mean() / (620 * 700) < 0.8
    )


def test_beyond_a_horizon_there_is_nothing(tmp_path):
    folded = np.array([[1.0, 0, 0], [0, 1, 0], [-0.02, 0, 1]])
    write_warped(
        tmp_path / "w.tif",
        ArrayWindows(np.full((60, 200, 3), 9, np.uint8)),
        ArrayWindows(np.zeros((64, 64, 3), np.uint8)),
        folded,
    )
    with RasterWindows(tmp_path / "w.tif") as written:
        assert written.size_px == (64, 64)
