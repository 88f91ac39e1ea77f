"""A photo located from orbit as files: for a geographic information system, and under the name that
training reads."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from whence.data.footprints import area_km2, centre_of
from whence.data.images import load_image
from whence.data.pictures import write_picture
from whence.data.tiles import format_footprint_name
from whence.localize.from_orbit import OrbitAnswer, OrbitLocalizer
from whence.localize.georeference import (
    control_points,
    draw_overlay,
    write_geotiff,
    write_world_file,
)
from whence.runtime import atomic_write


def write_georeferenced(folder: Path, answer: OrbitAnswer, located: OrbitLocalizer) -> float:
    """Metres by which the world file of a located photo is off, after a GeoTIFF, a polygon, control
    points, a world file and a picture of it were written. Raises `MissingExtra` and
    `UnwritableFile`."""
    assert answer.footprint is not None, "only of what was located"
    assert answer.matrix is not None, "found with the footprint"
    folder.mkdir(parents=True, exist_ok=True)
    photo, name = load_image(answer.query), Path(answer.query).stem
    size = (photo.shape[1], photo.shape[0])
    with atomic_write(folder / f"{name}.geojson", "w") as file:
        file.write(json.dumps(answer.feature(), indent=1))
    off_m = write_world_file(folder / f"{name}.wld", answer.footprint, size)
    points = control_points(answer.footprint, size)
    lines = [
        "column,row,east_m,north_m",
        *(",".join(f"{value:.4f}" for value in row) for row in points),
    ]
    with atomic_write(folder / f"{name}.points.csv", "w") as file:
        file.write("\n".join([*lines, ""]))
    write_geotiff(folder / f"{name}.tif", photo, answer.footprint)
    _keep_named(folder / "named", answer)
    around = located.surroundings(answer.row)
    write_picture(
        folder / f"{name}.overlay.png",
        draw_overlay(photo, around, answer.matrix, side_px=located.options.side_px),
    )
    return off_m


def _keep_named(folder: Path, answer: OrbitAnswer) -> None:
    """Copy the photo under the name that carries its footprint, which training reads."""
    assert answer.footprint is not None, "only of what was located"
    middle, area = centre_of(answer.footprint), area_km2(answer.footprint)
    own = Path(answer.query)
    named = format_footprint_name(
        answer.footprint, image_id=own.stem.replace("@", "-"), time="", nadir=middle, area_km2=area
    )
    folder.mkdir(parents=True, exist_ok=True)
    with (
        atomic_write(folder / f"{named.removesuffix('.jpg')}{own.suffix}") as file,
        own.open("rb") as photo,
    ):
        shutil.copyfileobj(photo, file)
