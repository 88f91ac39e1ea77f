"""Textured triangle meshes of cities: glTF, GLB, OBJ and what else trimesh reads, and where on
Earth they stand.

A mesh here is x east, y north, z up, in metres of its own frame. glTF files have y up; others are
taken as they are, unless `up` says otherwise. Where the frame stands says a file beside the mesh,
CITY.place.json beside CITY.glb:

    {"lat": 52.52, "lon": 13.405, "height_m": 34.0, "heading_deg": 0.0}

the point of the mesh's origin, the height of the mesh's z = 0, and where its y axis looks,
clockwise from true north. With `"zone": "33U"` the axes are those of that UTM grid instead; without
`lat` and `lon` the coordinates are then UTM's own.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from whence.errors import BadOption, InvalidPoint, MissingExtra, UnreadableTable
from whence.geo import (
    from_local_metres,
    grid_north_deg,
    local_metres,
    parse_zone,
    to_utm,
    to_utm_arrays,
    utm_zone,
)
from whence.records import fill
from whence.types import GeoPoint

EXTRA = "mesh"
_PLAIN = (190, 190, 190)
"""Colour of what has neither texture nor colour."""


@dataclass(frozen=True)
class TexturedMesh:
    """A triangle mesh with textures."""

    points_m: np.ndarray
    """(P, 3) metres east, north and up in the mesh's frame."""
    texture_points: np.ndarray
    """(P, 2), of each point, 0..1 over the texture and repeated beyond; row 0 at the bottom."""
    triangles: np.ndarray
    """(F, 3) rows of `points_m`."""
    sheet: np.ndarray
    """(F,) which of `sheets`."""
    sheets: tuple[np.ndarray, ...]
    """Textures (h, w, 3) uint8 RGB; one pixel where there is a colour alone."""


@dataclass(frozen=True, slots=True)
class MeshPlace:
    """Where on Earth a mesh's frame stands, and how it is turned."""

    lat: float | None = None
    lon: float | None = None
    height_m: float = 0.0
    heading_deg: float = 0.0
    """Where the y axis looks, clockwise from true north; not of meshes on a UTM grid."""
    zone: str = ""
    """The UTM zone whose axes are the mesh's."""

    def check(self, what: str) -> None:
        """Raises `BadOption` where the record says no place; `what` is named."""
        if (self.lat is None) != (self.lon is None) or (self.lat is None and not self.zone):
            raise BadOption(
                f"{what}: say where the mesh's origin is, with lat and lon, or that its "
                "coordinates are of a UTM zone"
            )
        try:
            parse_zone(self.zone or "1")
            if self.lat is not None:
                self.on_plane(np.zeros((1, 2)))
        except InvalidPoint as error:
            raise BadOption(f"{what}: {error}") from None
        if self.zone and self.heading_deg:
            raise BadOption(
                f"{what}: the axes of a mesh on a UTM grid have no heading of their own; leave "
                "zone or heading_deg out"
            )

    def on_plane(self, points_m: np.ndarray) -> tuple[np.ndarray, np.ndarray, str]:
        """East, north (N,) and zone of points (N, 2) of the mesh's frame in UTM."""
        if self.zone:
            start = (0.0, 0.0) if self.lat is None else to_utm(self._origin, zone=self.zone)[:2]
            return points_m[:, 0] + start[0], points_m[:, 1] + start[1], self.zone
        turn = np.radians(self.heading_deg)
        east = points_m[:, 0] * np.cos(turn) + points_m[:, 1] * np.sin(turn)
        north = points_m[:, 1] * np.cos(turn) - points_m[:, 0] * np.sin(turn)
        zone = utm_zone(self._origin.lat, self._origin.lon)
        return *to_utm_arrays(*from_local_metres(east, north, origin=self._origin), zone=zone), zone

    def from_points(self, lat: np.ndarray, lon: np.ndarray) -> np.ndarray:
        """Points (N, 2) of the mesh's frame at latitudes and longitudes (N,)."""
        if self.zone:
            start = (0.0, 0.0) if self.lat is None else to_utm(self._origin, zone=self.zone)[:2]
            return np.stack(to_utm_arrays(lat, lon, zone=self.zone), axis=1) - start
        offset = local_metres(lat, lon, origin=self._origin)
        turn = np.radians(self.heading_deg)
        turned = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
        return np.asarray(offset @ turned)

    def true_heading_deg(self, heading_deg: np.ndarray, points_m: np.ndarray) -> np.ndarray:
        """Headings (N,) from true north of headings in the mesh's frame at points (N, 2)."""
        if not self.zone:
            return np.asarray((heading_deg + self.heading_deg) % 360)
        east, north, zone = self.on_plane(points_m[:1])
        return np.asarray(
            (heading_deg + grid_north_deg(float(east[0]), float(north[0]), zone=zone)) % 360
        )

    @property
    def _origin(self) -> GeoPoint:
        assert self.lat is not None, "checked"
        assert self.lon is not None, "checked"
        return GeoPoint(self.lat, self.lon)


def place_file(path: str | Path) -> Path:
    """The file beside a mesh that says where it stands."""
    return Path(path).with_suffix(".place.json")


def read_place(path: str | Path) -> MeshPlace:
    """Where a mesh stands, as the file beside it says. Raises `UnreadableTable` and `BadOption`,
    also where there is none."""
    file = place_file(path)
    if not file.is_file():
        raise BadOption(
            f"where does {str(path)!r} stand? give its origin (--origin LAT,LON), or write it "
            f"into {file.name!r} beside it: "
            '{"lat": 52.52, "lon": 13.405, "height_m": 34.0, "heading_deg": 0.0}'
        )
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UnreadableTable(file, f"not JSON ({error})") from None
    if not isinstance(values, dict):
        raise UnreadableTable(file, "not a JSON object with lat and lon")
    place = fill(MeshPlace, values, what=f"field of {file.name}")
    place.check(str(file))
    return place


def read_mesh(path: str | Path, *, up: str = "") -> TexturedMesh:
    """The mesh of a file, all its parts in one, of any kind that trimesh reads; `up` is the file's
    axis that points up, y or z.

    Raises `MissingExtra`, `UnreadableTable` for a file that is no mesh or holds no triangles, and
    `BadOption`.
    """
    path = Path(path)
    if up not in ("", "y", "z"):
        raise BadOption(f"up {up!r}: the axis that points up is y or z")
    trimesh = need_trimesh(f"reading {path.name!r}")
    if not path.is_file():
        raise UnreadableTable(path, "there is no such file")
    try:
        scene = trimesh.load_scene(path, process=False)
        parts = [
            _part(scene.geometry[name], matrix)
            for matrix, name in map(scene.graph.get, scene.graph.nodes_geometry)
        ]
    except Exception as error:  # Parsers of foreign files fail in every way.
        raise UnreadableTable(
            path, f"not a mesh that can be read ({error or type(error).__name__})"
        ) from None
    filled = [part for part in parts if part is not None]
    if not filled:
        raise UnreadableTable(path, "there are no triangles in it")
    mesh = _joined(filled)
    if not np.isfinite(mesh.points_m).all() or not np.isfinite(mesh.texture_points).all():
        raise UnreadableTable(path, "some of its coordinates are no finite numbers")
    if (up or ("y" if path.suffix.lower() in (".glb", ".gltf") else "z")) == "y":
        x, y, z = mesh.points_m.T
        mesh.points_m[:] = np.stack([x, -z, y], axis=1)
    return mesh


def need_trimesh(what: str) -> Any:
    """The package that reads and writes meshes. Raises `MissingExtra`, `what` being what needs
    it."""
    try:
        import trimesh
    except ImportError:
        raise MissingExtra(what, EXTRA) from None
    return trimesh


def _part(part: Any, matrix: np.ndarray) -> TexturedMesh | None:
    """One part of a scene, brought to where it stands; None for what has no triangles."""
    if not len(getattr(part, "faces", ())):
        return None
    points = np.asarray(part.vertices, float) @ matrix[:3, :3].T + matrix[:3, 3]
    uv = getattr(part.visual, "uv", None)
    image = _image(getattr(part.visual, "material", None))
    known = (
        np.zeros((len(points), 2))
        if uv is None or len(uv) != len(points)
        else np.asarray(uv, float)[:, :2]
    )
    triangles = np.asarray(part.faces, np.int64)
    return TexturedMesh(points, known, triangles, np.zeros(len(triangles), np.int64), (image,))


def _image(material: Any) -> np.ndarray:
    """The texture of a material, else its colour, in RGB."""
    picture = getattr(material, "baseColorTexture", None) or getattr(material, "image", None)
    if picture is not None:
        return np.ascontiguousarray(np.asarray(picture.convert("RGB"), np.uint8))
    colour = getattr(material, "main_color", None)
    return np.array(_PLAIN if colour is None else colour[:3], np.uint8).reshape(1, 1, 3)


def _joined(parts: list[TexturedMesh]) -> TexturedMesh:
    first = np.cumsum([0, *(len(part.points_m) for part in parts)])
    sheets: dict[bytes, tuple[int, np.ndarray]] = {}
    # One texture may belong to many parts.
    numbers = [
        sheets.setdefault(_content(part.sheets[0]), (len(sheets), part.sheets[0]))[0]
        for part in parts
    ]
    return TexturedMesh(
        np.concatenate([part.points_m for part in parts]),
        np.concatenate([part.texture_points for part in parts]),
        np.concatenate([part.triangles + start for part, start in zip(parts, first, strict=False)]),
        np.repeat(numbers, [len(part.triangles) for part in parts]),
        tuple(image for _, image in sheets.values()),
    )


def _content(image: np.ndarray) -> bytes:
    return hashlib.blake2b(repr(image.shape).encode() + image.tobytes()).digest()
