"""`render_mesh`: a database of photos that were never taken, rendered from a textured mesh of a
city."""

from __future__ import annotations

import csv
import hashlib
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from whence.data.meshes import MeshPlace, read_mesh
from whence.data.names import format_name
from whence.data.tables import read_text
from whence.errors import BadOption, InputError, UnreadableTable
from whence.geo import from_utm_arrays
from whence.runtime import claim_folder, progress
from whence.types import GeoPoint, PlanePoint
from whence.worlds.camera import Camera, look_rotation, make_camera
from whence.worlds.mesh_places import HeightMap, Stand, grid_stands, read_lines, street_stands
from whence.worlds.shards import write_photo
from whence.worlds.triangles import MeshScene, get_quality

DATABASE = "database"
RENDERED = "synt_database"


@dataclass(frozen=True, slots=True)
class MeshOptions:
    """From where and how a mesh is photographed."""

    every_m: float = 20.0
    height_m: float = 2.5
    """Of the camera above the ground."""
    num_headings: int = 6
    """Photos of a place, all around; the first along the street, or north."""
    field_deg: float = 66.0
    """Horizontal field of view."""
    pitch_deg: float = 4.0
    width: int = 320
    height: int = 240
    quality: str = "medium"
    """Render quality: low, medium or high."""
    jpeg_quality: int = 88

    def check(self) -> None:
        """Raises `BadOption` and `UnknownName`."""
        get_quality(self.quality)
        for name, low, high in (
            ("every_m", 0.5, 10_000),
            ("height_m", 0, 1000),
            ("num_headings", 1, 360),
            ("field_deg", 5, 150),
            ("pitch_deg", -80, 80),
            ("width", 16, 8192),
            ("height", 16, 8192),
            ("jpeg_quality", 1, 100),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise BadOption(f"{name} {value:g}: it lies between {low:g} and {high:g}")


@dataclass(frozen=True, slots=True)
class MeshSummary:
    """What was rendered."""

    path: Path
    num_triangles: int
    num_places: int
    num_photos: int
    num_rendered: int
    """Photos rendered now; the others were there."""
    seconds: float


class _Pose(NamedTuple):
    path: str
    camera: Camera


def render_mesh(
    mesh: str | Path,
    out: str | Path,
    *,
    place: MeshPlace,
    options: MeshOptions = MeshOptions(),
    streets: str | Path | None = None,
    poses: str | Path | None = None,
    up: str = "",
    show_progress: bool | None = None,
) -> MeshSummary:
    """A summary of a database folder, rendered from a mesh, on a grid or along the `streets` of a
    GeoJSON file.

    With `poses`, a world's cameras.csv, its database's views are rendered instead, into
    synt_database under the names by which MeshVPR finds a photo's render. Photos that `out` already
    holds are kept. Raises `BadOption`, `UnreadableTable`, `MissingExtra`, and `InputError` where
    `out` holds another rendering.
    """
    started = time.perf_counter()
    options.check()
    place.check(str(mesh))
    scene = MeshScene(read_mesh(mesh, up=up), quality=get_quality(options.quality))
    out = Path(out)
    given = {
        name: _digest(file)
        for name, file in (("mesh", mesh), ("streets", streets), ("poses", poses))
        if file is not None
    }
    record = {"kind": "mesh", **given, "up": up, "place": asdict(place), "options": asdict(options)}
    found = claim_folder(out, record, name="world.json")
    if found is not None and json.dumps(found) != json.dumps(record):
        raise InputError(
            f"{str(out)!r} holds another rendering; choose another folder, or delete this one to "
            "render anew"
        )
    heights = HeightMap.of(scene)
    if poses is not None:
        shots, num_places = list(_given_poses(Path(poses), place, heights)), 0
    else:
        ground = heights.ground()
        if streets is None:
            stands = grid_stands(ground, every_m=options.every_m, height_m=options.height_m)
        else:
            stands = street_stands(
                ground,
                read_lines(streets, place),
                every_m=options.every_m,
                height_m=options.height_m,
            )
        shots, num_places = list(_poses(stands, place, options)), len(stands)
    missing = [shot for shot in shots if not (out / shot.path).is_file()]
    (out / (DATABASE if poses is None else RENDERED)).mkdir(parents=True, exist_ok=True)
    with progress("rendering", total=len(missing), show=show_progress) as advance:
        for shot in missing:
            write_photo(out / shot.path, scene.render(shot.camera)[0], quality=options.jpeg_quality)
            advance(1)
    seconds = time.perf_counter() - started
    return MeshSummary(out, scene.num_triangles, num_places, len(shots), len(missing), seconds)


def _poses(stands: list[Stand], place: MeshPlace, options: MeshOptions) -> Iterator[_Pose]:
    """The photos of all places, named by where they show and where they look."""
    points = np.array([stand[:2] for stand in stands])
    east, north, zone = place.on_plane(points)
    lat, lon = from_utm_arrays(east, north, zone=zone)
    for number, stand in enumerate(stands):
        for tile in range(options.num_headings):
            heading = (stand.heading_deg + 360 * tile / options.num_headings) % 360
            name = format_name(
                point=GeoPoint(float(lat[number]), float(lon[number])),
                plane=PlanePoint(float(east[number]), float(north[number]), zone),
                pano_id=f"mesh{number:06d}",
                tile_num=tile,
                heading_deg=float(
                    place.true_heading_deg(np.array(heading), points[number : number + 1])
                ),
                pitch_deg=options.pitch_deg,
                height_m=stand.z_m + place.height_m,
                note="render",
            )
            rotation = look_rotation(grid_heading_deg=heading, pitch_deg=options.pitch_deg)
            camera = make_camera(
                np.array(stand[:3]),
                rotation,
                size_px=(options.width, options.height),
                field_of_view_deg=options.field_deg,
            )
            yield _Pose(f"{DATABASE}/{name}", camera)


def _given_poses(path: Path, place: MeshPlace, heights: HeightMap) -> Iterator[_Pose]:
    """The views of a world's real_database on the mesh. Raises `UnreadableTable`, and `BadOption`
    where none lies on it."""
    rows = csv.DictReader(read_text(path).splitlines())
    needed = {
        "path",
        "fx",
        "fy",
        "cx",
        "cy",
        "width",
        "height",
        "zone",
        "origin_east_m",
        "origin_north_m",
        "t0",
        "r00",
    }
    if missing := sorted(needed - set(rows.fieldnames or ())):
        raise UnreadableTable(
            path, f"no column {missing[0]!r}: it is no cameras.csv of a world", line=1
        )
    count = 0
    for row in rows:
        parent, _, name = row["path"].rpartition("/")
        if parent.rpartition("/")[2] != "real_database":
            continue
        try:
            camera = _camera_of(row, place)
        except (TypeError, ValueError) as error:
            raise UnreadableTable(path, f"not a camera ({error})", line=rows.line_num) from None
        if np.isnan(heights.at(camera.centre[None, :2]))[0]:
            continue
        count += 1
        head, _, _ = name.removesuffix("@.jpg").rpartition("@")
        share = heights.missed_share(*camera.centre.tolist())
        yield _Pose(f"{RENDERED}/{head}@art_prob_{share:.4f}@.jpg", camera)
    if not count:
        raise BadOption(
            f"none of the cameras of {str(path)!r} stands on the mesh; check where it stands and "
            "its axis that points up"
        )


def _camera_of(row: dict[str, str], place: MeshPlace) -> Camera:
    """A camera in the mesh's frame."""
    rotation = np.array([[float(row[f"r{i}{j}"]) for j in range(3)] for i in range(3)])
    centre = -rotation.T @ np.array([float(row[f"t{k}"]) for k in range(3)])
    east, north = float(row["origin_east_m"]) + centre[0], float(row["origin_north_m"]) + centre[1]
    lat, lon = from_utm_arrays(
        np.array([east, east]), np.array([north, north + 1]), zone=row["zone"]
    )
    here, ahead = place.from_points(lat, lon)
    # Where the table's north looks in the mesh's frame.
    turn = np.arctan2(*(ahead - here))
    axes = np.array(
        [[np.cos(turn), np.sin(turn), 0], [-np.sin(turn), np.cos(turn), 0], [0, 0, 1.0]]
    )
    intrinsics = np.array(
        [
            [float(row["fx"]), 0, float(row["cx"])],
            [0, float(row["fy"]), float(row["cy"])],
            [0, 0, 1.0],
        ]
    )
    place_m = np.array([*here, centre[2] - place.height_m])
    return Camera(intrinsics, rotation @ axes, place_m, int(row["width"]), int(row["height"]))


def _digest(file: str | Path) -> str:
    with open(file, "rb") as content:
        return hashlib.file_digest(content, "blake2b").hexdigest()[:32]
