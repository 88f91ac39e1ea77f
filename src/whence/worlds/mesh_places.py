"""Where a mesh can be photographed from: a map of its top surface, and places on the ground along
streets or on a grid."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from whence.data.meshes import MeshPlace
from whence.data.tables import read_text
from whence.errors import BadOption, InvalidPoint, UnreadableTable
from whence.types import GeoPoint
from whence.worlds.triangles import MeshScene, cover, edge_planes

_MOST_CELLS = 6000
"""Along each side of the map of heights."""
_AROUND_M = 31.0
"""The ground of a place is the lowest surface within so many metres across."""
_RISE_M = 0.8
"""What lies higher above the ground than this is none."""
CLEAR_M = 1.5
"""Distance that a camera keeps from what is no ground."""
_BATCH = 20_000
_RAYS_M = 0.75 * np.stack(np.meshgrid([-1, 0, 1], [-1, 0, 1]), axis=-1).reshape(9, 2)
_RAY_M = 100.0


class Stand(NamedTuple):
    """Where a camera stands, in the mesh's frame."""

    x_m: float
    y_m: float
    z_m: float
    heading_deg: float
    """Direction of the street, clockwise from the frame's y axis; 0 on a grid."""


@dataclass(frozen=True)
class HeightMap:
    """The top surface of a mesh seen from above."""

    heights_m: np.ndarray
    """(rows, columns) float32, row 0 in the south; NaN where there is nothing."""
    start_m: np.ndarray
    """(2,) of the first cell's middle."""
    cell_m: float

    @classmethod
    def of(cls, scene: MeshScene, *, cell_m: float = 0.5) -> HeightMap:
        """The map of a mesh; cells grow where there would be too many."""
        low = scene.base_m[:2]
        reach = (scene.corners[..., :2].max(axis=(0, 1))).astype(float)
        cell_m = max(cell_m, float(reach.max()) / _MOST_CELLS)
        width, height = (int(side) for side in np.ceil(reach / cell_m) + 1)
        found = np.full(width * height, -np.inf)
        for first in range(0, scene.num_triangles, _BATCH):
            part = scene.corners[first : first + _BATCH].astype(float)
            flat = np.concatenate([part[..., :2] / cell_m, np.ones((*part.shape[:2], 1))], axis=2)
            # Seen edge-on, walls have no surface.
            upright = edge_planes(flat)[1] < 1e-9
            flat, heights = flat[~upright], part[~upright, :, 2]
            for seen in cover(flat, width, height):
                values = (seen.edges * heights[seen.which].T).sum(axis=0) / seen.edges.sum(axis=0)
                np.maximum.at(found, seen.pixels, values)
        found[np.isinf(found)] = np.nan
        return cls((found + scene.base_m[2]).astype(np.float32).reshape(height, width), low, cell_m)

    def at(self, points_m: np.ndarray) -> np.ndarray:
        """Heights (N,) at points (N, 2); NaN beyond the map too."""
        column, row = np.rint((points_m - self.start_m) / self.cell_m).astype(np.int64).T
        rows, columns = self.heights_m.shape
        inside = (column >= 0) & (column < columns) & (row >= 0) & (row < rows)
        found = np.full(len(points_m), np.nan, np.float32)
        found[inside] = self.heights_m[row[inside], column[inside]]
        return found

    def ground(self) -> HeightMap:
        """The same map with NaN where nobody can stand: on roofs, beside walls, at the mesh's
        edge."""
        known = np.where(np.isnan(self.heights_m), np.inf, self.heights_m).astype(np.float32)
        lowest = cv2.erode(known, _disc(_AROUND_M / 2, self.cell_m))
        free: np.ndarray = (
            np.isfinite(known) & (known - np.where(np.isfinite(lowest), lowest, 0) <= _RISE_M)
        ).astype(np.uint8)
        clear = cv2.erode(
            free, _disc(CLEAR_M, self.cell_m), borderType=cv2.BORDER_CONSTANT, borderValue=(0,)
        )
        return HeightMap(
            np.where(clear > 0, self.heights_m, np.nan).astype(np.float32),
            self.start_m,
            self.cell_m,
        )

    def missed_share(self, x_m: float, y_m: float, z_m: float) -> float:
        """Of nine rays down from around a camera the share that meets no surface within 100 m:
        MeshVPR's `art_prob`.

        0 above ground; high where the camera is inside or below the mesh.
        """
        heights = self.at(np.array([x_m, y_m]) + _RAYS_M)
        return float(1 - ((heights <= z_m) & (heights > z_m - _RAY_M)).mean())


def grid_stands(ground: HeightMap, *, every_m: float, height_m: float) -> list[Stand]:
    """Places every so many metres east and north where there is ground to stand on, the southern
    first."""
    reach = np.array(ground.heights_m.shape[::-1]) * ground.cell_m
    x, y = (np.arange(every_m / 2, side, every_m) for side in reach)
    points = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2) + ground.start_m
    return _standing(points, np.zeros(len(points)), ground, height_m)


def street_stands(
    ground: HeightMap, lines: list[np.ndarray], *, every_m: float, height_m: float
) -> list[Stand]:
    """Places every so many metres along lines (n, 2) of the mesh's frame; where two lines meet, one
    place is enough."""
    points, headings, used = [], [], set()
    for line in lines:
        steps = np.diff(line, axis=0)
        lengths = np.hypot(*steps.T)
        whole = np.r_[0, np.cumsum(lengths)]
        for along in np.arange(every_m / 2, whole[-1], every_m):
            k = min(int(np.searchsorted(whole, along, side="right")) - 1, len(steps) - 1)
            point = line[k] + steps[k] * (along - whole[k]) / max(lengths[k], 1e-9)
            cell = tuple(np.floor(point / (every_m / 2)).astype(int).tolist())
            if cell not in used:
                used.add(cell)
                points.append(point)
                headings.append(np.degrees(np.arctan2(steps[k, 0], steps[k, 1])) % 360)
    return _standing(np.array(points).reshape(-1, 2), np.array(headings), ground, height_m)


def read_lines(path: str | Path, place: MeshPlace) -> list[np.ndarray]:
    """The lines of a GeoJSON file of LineStrings in the mesh's frame, each (n, 2). Raises
    `UnreadableTable`."""
    path = Path(path)
    try:
        record = json.loads(read_text(path))
        features = (
            record["features"] if record["type"] == "FeatureCollection" else [{"geometry": record}]
        )
        shapes = [
            feature["geometry"]
            for feature in features
            if feature["geometry"]["type"] in ("LineString", "MultiLineString")
        ]
        lines = [
            np.array([point[:2] for point in line], float)
            for shape in shapes
            for line in (
                [shape["coordinates"]] if shape["type"] == "LineString" else shape["coordinates"]
            )
        ]
        for lon, lat in (point for line in lines for point in line.tolist()):
            GeoPoint(lat, lon)
    except (ValueError, KeyError, TypeError, IndexError, RecursionError, InvalidPoint) as error:
        raise UnreadableTable(
            path, f"no lines in GeoJSON's longitude and latitude ({error})"
        ) from None
    lines = [line for line in lines if len(line) > 1]
    if not lines:
        raise UnreadableTable(path, "there is no LineString in it")
    return [place.from_points(line[:, 1], line[:, 0]) for line in lines]


def _standing(
    points: np.ndarray, headings: np.ndarray, ground: HeightMap, height_m: float
) -> list[Stand]:
    """Cameras above the points that lie on ground. Raises `BadOption` where none does."""
    heights = ground.at(points)
    kept = np.flatnonzero(~np.isnan(heights))
    if not len(kept):
        raise BadOption(
            "nowhere on the mesh is there free ground at such places: check which axis points up "
            "(--up), and that its unit is the metre"
        )
    return [
        Stand(
            float(points[k, 0]),
            float(points[k, 1]),
            float(heights[k]) + height_m,
            float(headings[k]),
        )
        for k in kept.tolist()
    ]


def _disc(radius_m: float, cell_m: float) -> np.ndarray:
    side = 2 * max(1, round(radius_m / cell_m)) + 1
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_RECT, (side, side)))
