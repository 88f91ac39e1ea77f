"""Pinhole cameras. Pixel (0, 0) is the centre of the upper left pixel; x right, y down, z forward.

z * (column, row, 1) = K (R X + t),  X in metres east, north, up of the city's origin
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np


@dataclass(frozen=True)
class Camera:
    """Where a photo was taken from and how."""

    intrinsics: np.ndarray
    """K (3, 3)."""
    rotation: np.ndarray
    """R (3, 3); its rows are the camera's right, down and forward directions."""
    centre: np.ndarray
    """(3,) metres."""
    width: int
    height: int

    @property
    def translation(self) -> np.ndarray:
        """t (3,) = -R centre."""
        return -self.rotation @ self.centre

    @cached_property
    def projection(self) -> np.ndarray:
        """K R (3, 3)."""
        return self.intrinsics @ self.rotation

    def project(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Columns and rows (..., 2) and depths (...) of points (..., 3). Depths are along the
        optical axis."""
        seen = (points - self.centre) @ self.projection.T
        depth = seen[..., 2]
        with np.errstate(divide="ignore", invalid="ignore"):
            return seen[..., :2] / depth[..., None], depth

    def scaled(self, factor: float) -> Camera:
        """The camera of the same photo enlarged by a factor."""
        intrinsics = self.intrinsics.copy()
        intrinsics[:2] *= factor
        intrinsics[:2, 2] += (factor - 1) / 2
        return Camera(
            intrinsics,
            self.rotation,
            self.centre,
            round(self.width * factor),
            round(self.height * factor),
        )


def look_rotation(
    *, grid_heading_deg: float, pitch_deg: float = 0.0, roll_deg: float = 0.0
) -> np.ndarray:
    """R of a camera that looks along a grid heading (clockwise from the frame's north), pitched up
    and rolled clockwise.

    Facing north, east is right. With a positive roll the camera's right side sinks.
    """
    grid_heading, pitch, roll = np.radians([grid_heading_deg, pitch_deg, roll_deg])
    forward = np.array(
        [np.sin(grid_heading) * np.cos(pitch), np.cos(grid_heading) * np.cos(pitch), np.sin(pitch)]
    )
    right = np.array([np.cos(grid_heading), -np.sin(grid_heading), 0.0])
    down = np.array(
        [
            right[1] * -forward[2],
            forward[2] * right[0],
            forward[0] * right[1] - forward[1] * right[0],
        ]
    )
    turned_right = np.cos(roll) * right + np.sin(roll) * down
    turned_down = -np.sin(roll) * right + np.cos(roll) * down
    return np.stack([turned_right, turned_down, forward])


def make_camera(
    centre: np.ndarray, rotation: np.ndarray, *, size_px: tuple[int, int], field_of_view_deg: float
) -> Camera:
    """A camera with square pixels, its axis through the image's middle. The field of view is the
    horizontal one."""
    width, height = size_px
    focal = width / 2 / np.tan(np.radians(field_of_view_deg) / 2)
    intrinsics = np.array([[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1.0]])
    return Camera(intrinsics, rotation, np.asarray(centre, float), width, height)


def plane_homography(
    camera: Camera, origin: np.ndarray, across: np.ndarray, down: np.ndarray
) -> np.ndarray:
    """H (3, 3): z * (column, row, 1) = H (a, b, 1) for the point origin + a * across + b * down."""
    return camera.projection @ np.stack([across, down, origin - camera.centre], axis=1)
