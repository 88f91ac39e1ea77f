"""`render_earth`: map tiles of four years and photos from orbit from a seed, written as EarthLoc's
data set with exact truth.

The folder holds `database/` and `queries/` (of each split), `world.json`, what all pixels follow
from, and `photos.csv`, the truth of every photo. Any number of workers gives the same pixels, and
an interrupted run goes on where it stopped.
"""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from whence.data.fields import safe_fields
from whence.errors import InputError, UnwritableFile
from whence.runtime import atomic_write, claim_folder, num_cores, progress
from whence.worlds.earth.ground import Survey
from whence.worlds.earth.noise import Window
from whence.worlds.earth.orbit import take, to_plane
from whence.worlds.earth.paint import Day, backscatter, paint
from whence.worlds.earth.plan import EarthSpec, NamedPhoto, RegionWork
from whence.worlds.earth.shards import jobs_of, render_share
from whence.worlds.workers import run_workers

FEW_FILES = 200
"""Fewer missing files than this are rendered in the calling process: starting others would take
longer."""


@dataclass(frozen=True, slots=True)
class EarthSummary:
    """What was rendered."""

    path: Path
    num_tiles: int
    num_photos: int
    num_rendered: int
    """Tiles and photos rendered now; the others were there."""
    seconds: float


def render_earth(
    out: str | Path,
    spec: EarthSpec,
    *,
    show_progress: bool | None = None,
    num_workers: int | None = None,
) -> EarthSummary:
    """A summary of an Earth world, rendered into the folder `out`; files that are there already are
    kept.

    Raises `InputError` where `out` holds another world, and `UnwritableFile`.
    """
    started = time.perf_counter()
    folder = Path(out)
    workers = num_cores() if num_workers is None else max(1, num_workers)
    try:
        found = claim_folder(folder, spec.record(), name="world.json")
        if found is not None and found != json.loads(json.dumps(spec.record())):
            record = str(folder / "world.json")
            raise InputError(
                f"{record!r} describes another world; choose another folder, or delete this one "
                "to render anew"
            )
        _write_photos_table(folder / "photos.csv", spec)
        paths = [path for job in jobs_of(spec) for path in job.paths]
        missing = [path for path in paths if not (folder / path).is_file()]
        for parent in {(folder / path).parent for path in missing}:
            parent.mkdir(parents=True, exist_ok=True)
        with progress("rendering", total=len(missing), show=show_progress) as advance:
            if workers == 1 or len(missing) < FEW_FILES:
                render_share(folder, spec, shard=0, num_shards=1, advance=advance)
            else:
                run_workers(folder, num_workers=workers, advance=advance)
    except OSError as error:
        where = error.path if isinstance(error, UnwritableFile) else error.filename or folder
        cause = OSError(
            error.errno,
            f"{error.strerror or error} (the same command goes on where this one stopped)",
        )
        raise UnwritableFile(where, cause) from error
    num_photos = sum(size.num_photos for size in spec.regions)
    return EarthSummary(
        folder, len(paths) - num_photos, num_photos, len(missing), time.perf_counter() - started
    )


def photos_of(spec: EarthSpec) -> Iterator[tuple[RegionWork, NamedPhoto]]:
    """Every photo of a world with its region."""
    for size in spec.regions:
        work = RegionWork.of(spec, size)
        for number in range(size.num_photos):
            yield work, work.photo(number)


def truth_of(work: RegionWork, photo: NamedPhoto) -> dict[str, Any]:
    """The truth of a photo as a row of a table; `h00` to `h22` lead from its pixels to columns and
    rows of cells of zoom 9."""
    pose, region = photo.shot.pose, work.region
    on_plane = {"nadir": pose.nadir_km, "middle": pose.aim_km, "weak": photo.shot.weak_km}
    places = {
        name: region.to_degrees(*(np.array(value) for value in place))
        for name, place in on_plane.items()
    }
    matrix = to_cells_matrix(work, photo)
    return {
        "path": photo.path,
        "region": work.size.name,
        "style": photo.shot.style,
        "is_dense": int(photo.shot.is_dense),
        "tilt_deg": pose.tilt_deg,
        "roll_deg": pose.roll_deg,
        "focal": pose.focal,
        "aspect": pose.aspect,
        **{f"{name}_lat": float(place[0]) for name, place in places.items()},
        **{f"{name}_lon": float(place[1]) for name, place in places.items()},
        **{f"h{i}{j}": float(matrix[i, j]) for i in range(3) for j in range(3)},
    }


def to_cells_matrix(work: RegionWork, photo: NamedPhoto) -> np.ndarray:
    """(3, 3) the homography from a photo's pixels to columns and rows of cells of zoom 9."""
    region = work.region
    scale = 1 / region.km_per_cell
    onto = np.array([[scale, 0, region.column], [0, scale, region.row], [0, 0, 1.0]])
    matrix = onto @ to_plane(photo.shot.pose, side_px=work.spec.photo_px)
    return np.asarray(matrix / matrix[2, 2])


def earth_sheet(
    path: str | Path, spec: EarthSpec, *, num_photos: int = 6, side_px: int = 224
) -> None:
    """Draw photos above the ground that they show, in the last and the first year and as the radar
    sees it, as PNG."""
    rows: list[list[np.ndarray]] = [[], [], [], []]
    for (work, photo), _ in zip(photos_of(spec), range(num_photos), strict=False):
        corners = to_plane(photo.shot.pose, side_px=side_px)
        square = np.array(
            [
                [-0.5, -0.5],
                [side_px - 0.5, -0.5],
                [side_px - 0.5, side_px - 0.5],
                [-0.5, side_px - 0.5],
            ]
        )
        ground = cv2.perspectiveTransform(square[None], corners)[0]
        middle, km = ground.mean(axis=0), float(np.ptp(ground, axis=0).max()) * 1.4 / side_px
        left, top = middle - km * side_px / 2
        survey = Survey(work.region, Window(float(left), float(top), km, side_px, side_px))
        rows[0].append(take(work.region, photo.shot, side_px=side_px)[0])
        for row, year in ((1, work.size.years[-1]), (2, work.size.years[0])):
            rows[row].append((255 * paint(survey, Day(year))).astype(np.uint8).copy())
        outline = np.rint((ground - [left, top]) / km * 16).astype(np.int32)
        cv2.polylines(rows[1][-1], [outline], True, (255, 40, 40), 1, cv2.LINE_AA, 4)
        rows[3].append(
            np.repeat((255 * backscatter(survey)).astype(np.uint8)[..., None], 3, axis=2)
        )
    sheet = np.vstack([np.hstack(row) for row in rows])
    is_done, data = cv2.imencode(".png", np.ascontiguousarray(sheet[..., ::-1]))
    assert is_done, "a PNG in memory cannot fail"
    with atomic_write(path) as file:
        file.write(data.tobytes())


def _write_photos_table(path: Path, spec: EarthSpec) -> None:
    rows = [truth_of(work, photo) for work, photo in photos_of(spec)]
    if rows:
        with atomic_write(path, "w") as file:
            header = list(rows[0])
            table = csv.writer(file)
            table.writerow(header)
            table.writerows(safe_fields(list(row.values())) for row in rows)
