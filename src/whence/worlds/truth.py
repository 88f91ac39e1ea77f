"""What is exactly known about a world's photos: names with positions and headings, and the camera
table."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from whence.data.fields import safe_fields
from whence.data.names import format_name
from whence.data.panoramas import heading_of_left
from whence.geo import from_utm_arrays, grid_north_deg
from whence.runtime import atomic_write
from whence.types import GeoPoint, PlanePoint
from whence.worlds.camera import Camera
from whence.worlds.capture import CaptureOptions, CityShots, shot_camera
from whence.worlds.plan import CityPlan
from whence.worlds.raster import Raster
from whence.worlds.tables import depth_of, fronts_of, labels_of, write_png
from whence.worlds.works import NamedShot

CAMERA_COLUMNS = (
    "path", "city", "role", "condition", "run", "street", "is_aliased", "along_m", "lateral_m",
    "heading_deg", "width", "height", "fx", "fy", "cx", "cy",
    *(f"r{i}{j}" for i in range(3) for j in range(3)), "t0", "t1", "t2", "origin_east_m",
    "origin_north_m", "zone",
)  # fmt: skip
"""Columns of cameras.csv. `along_m` and `lateral_m` place the camera on its street, to the right of
the axis.

z * (column, row, 1) = K (R X + t) with X = (UTM east - origin, UTM north - origin, height) in
metres."""


TRUTH_PICTURES = ("depth", "labels", "fronts")
"""What may be written beside the photos: depth in centimetres, classes (places in `LABELS`), 1 +
lot of the building front."""


def write_pictures(out: Path, path: str, raster: Raster, which: Sequence[str]) -> None:
    """Write the asked pictures of a photo's truth: out/depth/path.png and so on."""
    makers = {"depth": depth_of, "labels": labels_of, "fronts": fronts_of}
    for name in which:
        write_png(out / name / (path.removesuffix(".jpg") + ".png"), makers[name](raster))


def name_shots(plan: CityPlan, shots: CityShots, city: str) -> list[tuple[str, float]]:
    """The "@" file name and the true heading of every shot of a city."""
    turn = grid_north_deg(plan.origin_east_m, plan.origin_north_m, zone=plan.zone)
    east = np.array([plan.origin_east_m + shot.x_m for shot in shots.shots])
    north = np.array([plan.origin_north_m + shot.y_m for shot in shots.shots])
    lat, lon = from_utm_arrays(east, north, zone=plan.zone)
    named = []
    for k, shot in enumerate(shots.shots):
        heading = (shot.grid_heading_deg + turn) % 360
        prefix = {"database": "d", "queries": "q", "queries_unknown": "u"}[shot.role]
        name = format_name(
            point=GeoPoint(float(lat[k]), float(lon[k])),
            plane=PlanePoint(float(east[k]), float(north[k]), plan.zone),
            pano_id=f"{city}{prefix}{shot.stop:06d}",
            tile_num=shot.tile,
            heading_deg=float(heading_of_left(np.array(heading))) if shot.is_cut else heading,
            time=shots.runs[shot.run].time(shot.seconds),
            note=shot.condition,
        )
        named.append((name, heading))
    return named


def camera_row(named_shot: NamedShot, camera: Camera, plan: CityPlan, city: str) -> list[object]:
    """One line of cameras.csv."""
    shot, k = named_shot.shot, camera.intrinsics
    street = plan.streets[shot.street]
    offset = camera.centre[:2] - street.start
    lateral = float(offset[0] * street.direction[1] - offset[1] * street.direction[0])
    numbers = [k[0, 0], k[1, 1], k[0, 2], k[1, 2], *camera.rotation.ravel(), *camera.translation]
    return [
        named_shot.path, city, shot.role, shot.condition, shot.run, shot.street,
        int(street.is_aliased), f"{shot.along_m:.2f}", f"{lateral:.2f}",
        f"{named_shot.heading_deg:.4f}", camera.width, camera.height,
        *(f"{value:.9g}" for value in numbers), plan.origin_east_m, plan.origin_north_m, plan.zone,
    ]  # fmt: skip


def write_cameras(path: Path, rows: Iterable[Sequence[object]]) -> None:
    """Write the camera table."""
    with atomic_write(path, "w") as file:
        writer = csv.writer(file)
        writer.writerow(CAMERA_COLUMNS)
        writer.writerows(map(safe_fields, rows))


def cameras_of(
    shots: Sequence[NamedShot], plan: CityPlan, city: str, *, options: CaptureOptions
) -> list[list[object]]:
    """The lines of cameras.csv for a city's photos."""
    return [
        camera_row(row, shot_camera(row.shot, seed=plan.seed, options=options), plan, city)
        for row in shots
    ]
