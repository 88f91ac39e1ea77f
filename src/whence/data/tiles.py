"""Map tiles: cells of the Web-Mercator grid, tiles of 4 x 4 of them, and the file names of EarthLoc
that carry a footprint.

A tile is named by its zoom and by row and column of its top left cell. EarthLoc's names (Berton et
al., CVPR 2024) have 16 parts between "@" signs: four corners (latitude, longitude), image id, time,
nadir, area in square kilometres and orientation.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePosixPath
from typing import NamedTuple

import numpy as np

from whence.data.numbers import finite_number

CELLS = 4
"""Cells along a tile's side."""
CELL_PX = 256
"""Pixels along a cell's side where nothing else is said."""
EARTH_RADIUS_KM = 6371.0
_PARTS = 16
_DEGREES = re.compile(r"-?[0-9]{1,3}\.[0-9]+")
_TILE_ID = re.compile(r"([0-9]{1,2})_([0-9]+)_([0-9]+)")
_XYZ = re.compile(r"(?:^|/)([0-9]{1,2})/([0-9]+)/([0-9]+)\.[A-Za-z0-9]+$")
_DAY = re.compile(r"([0-9]{4})(?:([0-9]{2})([0-9]{2}))?")


class Tile(NamedTuple):
    """A tile by its top left cell."""

    zoom: int
    row: int
    column: int

    @property
    def image_id(self) -> str:
        """The tile as EarthLoc's names write it."""
        return f"{self.zoom:02d}_{self.row:04d}_{self.column:04d}"


@dataclass(frozen=True, slots=True)
class FootprintName:
    """What an EarthLoc file name says."""

    corners: tuple[tuple[float, float], ...]
    """Latitude and longitude of the image's lower left, upper left, upper right and lower right
    corner."""
    image_id: str
    time: datetime | None
    nadir: tuple[float, float]
    area_km2: float
    orientation_deg: float

    @property
    def tile(self) -> Tile | None:
        """The tile that the image id names; None for photos."""
        match = _TILE_ID.fullmatch(self.image_id)
        return None if match is None else Tile(*(int(part) for part in match.groups()))

    @property
    def centre(self) -> tuple[float, float]:
        """Latitude and longitude of the middle of the corners, across the antimeridian too."""
        lat, lon = np.array(self.corners).T
        lon = unwrap_deg(lon)
        return float(lat.mean()), float((lon.mean() + 180) % 360 - 180)


def from_cells(
    column: np.ndarray, row: np.ndarray, zoom: int | np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Latitudes and longitudes in degrees of places in the grid of a zoom, in cells from its top
    left corner."""
    num = np.exp2(zoom)
    lat = np.degrees(np.arctan(np.sinh(np.pi * (1 - 2 * np.asarray(row, float) / num))))
    return lat, 360 * np.asarray(column, float) / num - 180


def to_cells(
    lat: np.ndarray, lon: np.ndarray, zoom: int | np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Columns and rows, the inverse of `from_cells`; latitudes beyond the grid's, 85.05 degrees,
    lie outside of it."""
    num = np.exp2(zoom)
    lat = np.clip(np.asarray(lat, float), -89.999999, 89.999999)
    row = (1 - np.arcsinh(np.tan(np.radians(lat))) / np.pi) / 2 * num
    return (np.asarray(lon, float) + 180) / 360 * num, row


def tile_boxes(tiles: np.ndarray, *, cells: int = CELLS) -> np.ndarray:
    """(N, 4) south, west, north, east in degrees of tiles (N, 3) zoom, row, column."""
    zoom, row, column = np.asarray(tiles, float).reshape(-1, 3).T
    north, west = from_cells(column, row, zoom)
    south, east = from_cells(column + cells, row + cells, zoom)
    return np.stack([south, west, north, east], axis=1)


def box_corners(boxes: np.ndarray) -> np.ndarray:
    """(N, 4, 2) latitude and longitude of lower left, upper left, upper right, lower right corners
    of boxes (N, 4)."""
    south, west, north, east = np.asarray(boxes, float).reshape(-1, 4).T
    return np.stack(
        [
            np.stack(pair, axis=1)
            for pair in ((south, west), (north, west), (north, east), (south, east))
        ],
        axis=1,
    )


def overlap_matrix(boxes: np.ndarray) -> np.ndarray:
    """(N, N) bool: which boxes (N, 4) of south, west, north, east share an area; touching edges do
    not, everything overlaps itself.

    Boxes whose east lies west of their west reach across the antimeridian.
    """
    south, west, north, east = np.round(np.asarray(boxes, float).reshape(-1, 4), 5).T
    width = np.where(east > west, east - west, (east - west) % 360)
    is_beside = (south[:, None] < north[None]) & (south[None] < north[:, None])
    # Distance eastward from one west to the other, on the circle: the other begins within the one,
    # or the one within the other.
    ahead = np.round((west[None] - west[:, None]) % 360, 5) % 360
    begins_within = ahead < width[:, None]
    return is_beside & (begins_within | begins_within.T)


def box_area_km2(boxes: np.ndarray) -> np.ndarray:
    """(N,) square kilometres on a sphere of boxes (N, 4)."""
    south, west, north, east = np.asarray(boxes, float).reshape(-1, 4).T
    width = np.radians(np.where(east > west, east - west, (east - west) % 360))
    return np.asarray(
        EARTH_RADIUS_KM**2 * width * (np.sin(np.radians(north)) - np.sin(np.radians(south)))
    )


def unwrap_deg(lon: np.ndarray) -> np.ndarray:
    """Longitudes (..., n) moved by whole turns so that each lies within half a turn of the
    first."""
    lon = np.asarray(lon, float)
    first = lon[..., :1]
    return np.asarray(first + (lon - first + 180) % 360 - 180)


def format_footprint_name(
    corners: np.ndarray,
    *,
    image_id: str,
    time: str,
    nadir: tuple[float, float],
    area_km2: float,
    orientation_deg: float = 0.0,
    decimals: int = 5,
    nadir_decimals: int = 5,
) -> str:
    """The file name of an image with these corners (4, 2) of latitude and longitude, lower left
    first and clockwise."""
    degrees = [f"{value:.{decimals}f}" for value in np.asarray(corners, float).reshape(8)]
    where = [f"{value:.{nadir_decimals}f}" for value in nadir]
    turned = f"{orientation_deg:.1f}".removesuffix(".0")
    return "@".join(["", *degrees, image_id, time, *where, str(round(area_km2)), turned, ".jpg"])


def tile_name(tile: Tile, *, year: int) -> str:
    """The path of a tile below a database's folder, in EarthLoc's form."""
    box = tile_boxes(np.array([tile]))
    lat, lon = (
        float(value[0])
        for value in from_cells(np.array([tile.column + 2]), np.array([tile.row + 2]), tile.zoom)
    )
    name = format_footprint_name(
        box_corners(box)[0],
        image_id=tile.image_id,
        time=str(year),
        nadir=(lat, lon),
        area_km2=float(box_area_km2(box)[0]),
    )
    return f"{year}_{tile.zoom:02d}/{round(lat / 10) * 10}_{round(lon / 10) * 10}/{name}"


def parse_footprint_name(path: str) -> FootprintName | None:
    """The parts of an EarthLoc file name; None where the base name is not one. An "@" in a folder's
    name means nothing."""
    parts = PurePosixPath(path.replace("\\", "/")).name.split("@")
    if len(parts) != _PARTS or parts[0] or not all(_DEGREES.fullmatch(part) for part in parts[1:9]):
        return None
    values = [float(part) for part in parts[1:9]]
    others = [finite_number(part) for part in parts[11:15]]
    if max(map(abs, values[0::2])) > 90 or max(map(abs, values[1::2])) > 540 or None in others[:2]:
        return None
    corners = tuple(zip(values[0::2], values[1::2], strict=True))
    nadir = (float(others[0] or 0.0), float(others[1] or 0.0))
    return FootprintName(
        corners,
        parts[9],
        _day(parts[10]),
        nadir,
        float(others[2] or 0.0),
        float(others[3] or 0.0) % 360,
    )


def parse_xyz_path(path: str) -> Tile | None:
    """The cell that ZOOM/COLUMN/ROW.ending names, the form in which map servers keep theirs; None
    for other paths."""
    match = _XYZ.search(path.replace("\\", "/"))
    if match is None:
        return None
    zoom, column, row = (int(part) for part in match.groups())
    return Tile(zoom, row, column) if zoom <= 24 and max(row, column) < 2**zoom else None


def _day(text: str) -> datetime | None:
    match = _DAY.fullmatch(text)
    if match is None:
        return None
    year, month, day = (int(part or 1) for part in match.groups())
    try:
        return datetime(year, month, day)
    except ValueError:
        return None
