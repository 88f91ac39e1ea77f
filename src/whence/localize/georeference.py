"""A photo with a footprint as what a geographic information system opens: polygon, control points,
world file, GeoTIFF, picture."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from whence.data.cogs import RasterLayout, write_cog
from whence.data.footprints import area_km2, as_geojson, centre_of
from whence.data.rasters import MERCATOR, open_rasterio
from whence.data.tiles import to_cells, unwrap_deg
from whence.errors import BadOption
from whence.runtime import atomic_write

_ZOOM_M = 2 * 20037508.342789244
_MOST_PX = 8192
_COLOUR = (255, 60, 40)


def in_metres(corners: np.ndarray) -> np.ndarray:
    """(n, 2) metres east and north of Web-Mercator of latitudes and longitudes (n, 2); beyond its
    edge across the antimeridian."""
    lat, lon = np.asarray(corners, float).T
    column, row = to_cells(lat, unwrap_deg(lon), 0)
    return np.stack([(column - 0.5) * _ZOOM_M, (0.5 - row) * _ZOOM_M], axis=1)


def to_ground(footprint: np.ndarray, size_px: tuple[int, int]) -> np.ndarray:
    """(3, 3) from a photo's pixels (middles at whole numbers) to metres of Web-Mercator, by the
    footprint of its four corners."""
    width, height = size_px
    corners = np.array([[0, height], [0, 0], [width, 0], [width, height]], float) - 0.5
    ground = in_metres(footprint)
    # Around their middle: single precision would be metres off.
    middle = ground.mean(axis=0)
    system, right = [], []
    for (x, y), (east, north) in zip(corners, ground - middle, strict=True):
        system += [
            [x, y, 1, 0, 0, 0, -east * x, -east * y],
            [0, 0, 0, x, y, 1, -north * x, -north * y],
        ]
        right += [east, north]
    matrix = np.append(np.linalg.solve(np.array(system), np.array(right)), 1.0).reshape(3, 3)
    return np.asarray(np.array([[1, 0, middle[0]], [0, 1, middle[1]], [0, 0, 1]]) @ matrix)


def roll_deg(footprint: np.ndarray) -> float:
    """Degrees clockwise from north of the direction that points up in the photo, at its middle."""
    ground = in_metres(footprint)
    up = (ground[1] + ground[2] - ground[0] - ground[3]) / 2
    return float(np.degrees(np.arctan2(up[0], up[1])) % 360)


def as_feature(footprint: np.ndarray, about: Mapping[str, Any]) -> dict[str, Any]:
    """The footprint as a GeoJSON feature, with its middle, area and roll, and what else is said
    about it."""
    lat, lon = centre_of(footprint)
    place = {"lat": round(lat, 6), "lon": round(lon, 6)}
    said = {
        **place,
        "area_km2": round(area_km2(footprint), 1),
        "roll_deg": round(roll_deg(footprint), 2),
    }
    return {"type": "Feature", "geometry": as_geojson(footprint), "properties": {**about, **said}}


def control_points(
    footprint: np.ndarray, size_px: tuple[int, int], *, num_along: int = 3
) -> np.ndarray:
    """(n * n, 4) columns and rows of a photo (edges at whole numbers), and east and north in metres
    of Web-Mercator."""
    width, height = size_px
    matrix = to_ground(footprint, size_px)
    grid = np.stack(
        np.meshgrid(np.linspace(0, width, num_along), np.linspace(0, height, num_along)), axis=-1
    ).reshape(-1, 2)
    ground = cv2.perspectiveTransform((grid - 0.5)[None], matrix)[0]
    return np.column_stack([grid, ground])


def write_world_file(path: str | Path, footprint: np.ndarray, size_px: tuple[int, int]) -> float:
    """The error of the affine map that fits a photo best, written as the six lines of a world file
    in metres of Web-Mercator.

    Gives the farthest that it is off on the photo, in metres: a world file cannot hold perspective.
    Raises `UnwritableFile`.
    """
    points = control_points(footprint, size_px, num_along=9)
    system = np.column_stack([points[:, :2] - 0.5, np.ones(len(points))])
    fitted, *_ = np.linalg.lstsq(system, points[:, 2:], rcond=None)
    lines = [fitted[0, 0], fitted[0, 1], fitted[1, 0], fitted[1, 1], fitted[2, 0], fitted[2, 1]]
    with atomic_write(path, "w") as file:
        file.write("".join(f"{value:.10f}\n" for value in lines))
    return float(np.linalg.norm(system @ fitted - points[:, 2:], axis=1).max())


def warped(
    photo: np.ndarray, footprint: np.ndarray
) -> tuple[np.ndarray, tuple[float, float, float]]:
    """(H, W, 4) uint8 the photo (h, w, 3) north up in Web-Mercator, transparent around it, and its
    left, top and metres a pixel."""
    size = (photo.shape[1], photo.shape[0])
    ground = in_metres(footprint)
    low, high = ground.min(axis=0), ground.max(axis=0)
    lengths = np.linalg.norm(ground - np.roll(ground, -1, axis=0), axis=1)
    sides = lengths / [size[1], size[0], size[1], size[0]]
    step = max(float(min(sides)), float((high - low).max()) / _MOST_PX)
    width, height = (max(1, math.ceil(extent / step)) for extent in high - low)
    onto = np.array(
        [[1 / step, 0, -low[0] / step - 0.5], [0, -1 / step, high[1] / step - 0.5], [0, 0, 1]]
    )
    with_alpha = np.dstack([photo, np.full(photo.shape[:2], 255, np.uint8)])
    found: np.ndarray = cv2.warpPerspective(
        with_alpha, onto @ to_ground(footprint, size), (width, height), flags=cv2.INTER_LINEAR
    )
    return found, (float(low[0]), float(high[1]), step)


def write_geotiff(path: str | Path, photo: np.ndarray, footprint: np.ndarray) -> None:
    """Write a photo (h, w, 3) uint8, warped to Web-Mercator, as a cloud-optimised GeoTIFF with
    transparency.

    Raises `MissingExtra`, `UnwritableFile`, and `BadOption` for a footprint that reaches beyond
    Web-Mercator.
    """
    rasterio = open_rasterio()
    if (
        not np.isfinite(in_metres(footprint)).all()
        or np.abs(np.asarray(footprint)[:, 0]).max() > 85.05
    ):
        raise BadOption(
            "the footprint reaches beyond 85 degrees, where Web-Mercator ends; write GeoJSON "
            "instead"
        )
    pixels, (left, top, step) = warped(photo, footprint)
    onto = rasterio.Affine(step, 0, left, 0, -step, top)
    height, width = pixels.shape[:2]
    layout = RasterLayout((width, height), 4, "uint8", crs=MERCATOR, transform=onto, has_alpha=True)
    write_cog(path, layout, [((0, 0), pixels.transpose(2, 0, 1))])


def draw_overlay(
    photo: np.ndarray, around: np.ndarray, matrix: np.ndarray, *, side_px: int
) -> np.ndarray:
    """(3 S, 6 S, 3) uint8: the surroundings with the photo's outline, and the same with the photo
    laid over them.

    `around` are the surroundings at 3 S, `matrix` leads from the photo at S x S to the candidate's
    pixels.
    """
    side = side_px
    square = cv2.resize(photo, (side, side), interpolation=cv2.INTER_AREA)
    place = np.array([[1, 0, side], [0, 1, side], [0, 0, 1.0]]) @ matrix
    laid = cv2.warpPerspective(square, place, (3 * side, 3 * side))
    shown = (
        cv2.warpPerspective(np.full((side, side), 255, np.uint8), place, (3 * side, 3 * side)) > 0
    )
    plain, covered = around.copy(), around.copy()
    covered[shown] = laid[shown]
    outline = cv2.perspectiveTransform(
        np.array([[[0, 0], [side, 0], [side, side], [0, side]]], float), place
    )[0]
    for image in (plain, covered):
        cv2.polylines(
            image,
            [np.rint(outline).astype(np.int32)],
            True,
            _COLOUR,
            max(1, side // 128),
            cv2.LINE_AA,
        )
    return np.hstack([plain, covered])
