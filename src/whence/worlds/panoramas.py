"""Panoramas as SF-XL cuts them: 360 degrees wide, 6.5 times as wide as high, columns and rows equal
steps of angle.

Shape and span are those of `whence.data.panoramas`.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from whence.data.panoramas import ASPECT, TOP_DEG
from whence.worlds.camera import Camera, look_rotation, make_camera
from whence.worlds.capture import Shot

_VIEW_DEG = 50.0
_VIEW_PITCH_DEG = 8.0


def panorama_view(shot: Shot, grid_heading_deg: float, *, height: int) -> Camera:
    """One of the eight views that a panorama of this height is joined from."""
    per_degree = ASPECT * height / 360
    width = int(_VIEW_DEG * per_degree * 1.1)
    focal = width / 2 / np.tan(np.radians(_VIEW_DEG / 2))
    tall = int(2 * focal * np.tan(np.radians(36)))
    rotation = look_rotation(grid_heading_deg=grid_heading_deg, pitch_deg=_VIEW_PITCH_DEG)
    return make_camera(
        np.array([shot.x_m, shot.y_m, shot.z_m]),
        rotation,
        size_px=(width, tall),
        field_of_view_deg=_VIEW_DEG,
    )


def join_panorama(
    views: Sequence[np.ndarray],
    cameras: Sequence[Camera],
    grid_headings_deg: Sequence[float],
    *,
    height: int,
) -> np.ndarray:
    """The panorama (height, 6.5 * height, 3) uint8 RGB of views 45 degrees apart; its middle column
    looks along the first."""
    width = round(ASPECT * height)
    step = 360 / width
    azimuth = grid_headings_deg[0] + (np.arange(width) + 0.5 - width / 2) * step
    elevation = np.radians(TOP_DEG - (np.arange(height) + 0.5) * step)[:, None]
    joined = np.empty((height, width, 3), np.uint8)
    for view, camera, grid_heading in zip(views, cameras, grid_headings_deg, strict=True):
        columns = np.flatnonzero(np.abs((azimuth - grid_heading + 180) % 360 - 180) <= 22.5 + step)
        turn = np.radians(azimuth[columns])[None]
        rays = np.stack(
            [
                np.sin(turn) * np.cos(elevation),
                np.cos(turn) * np.cos(elevation),
                np.broadcast_to(np.sin(elevation), (height, len(columns))),
            ],
            axis=-1,
        )
        seen = rays @ camera.projection.T
        x, y = (
            (seen[..., 0] / seen[..., 2]).astype(np.float32),
            (seen[..., 1] / seen[..., 2]).astype(np.float32),
        )
        joined[:, columns] = cv2.remap(
            view, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
    return joined
