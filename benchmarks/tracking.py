"""A drive tracked frame by frame: frames a second, errors, what the radius holds, and frames of
streets that the database lacks.

    whence world city DRIVES --preset small --layout sequences
    python benchmarks/tracking.py DRIVES [--frames 1000] [--lacking 0.2] [--length 5]
                                  [--near 25] [--model NAME] [--work FOLDER] [--json]

Of the streets so large a share is left out of the database, whose frames are then unknown ones.
Every query drive is followed from its beginning (`Localizer.track`), until so many frames were
given; sets with fewer are gone through once. Printed, before and after smoothing: the share of
frames that were located, the median error of those, and the share of them within their radius
(meant: 90 %). Of frames of lacking streets: how many were located, each one's error, and how many
of those from which no photo of the database is within `--near` metres (near a corner a frame of a
lacking street may show what the database has of the street that it meets). Frames a second are of
the whole: decoding, describing, searching, comparing and smoothing, on one thread.
"""

from __future__ import annotations

import argparse
import csv
import json
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.spatial import cKDTree

from whence.data.frame_folders import open_sequences
from whence.data.photos import Photos
from whence.geo import distance_m, from_utm
from whence.localize.build import build_from_photos
from whence.localize.localizer import Localizer
from whence.localize.tracking import TrackPoint
from whence.models.descriptor import load_model
from whence.runtime import random_stream, set_threads
from whence.settings import BuildOptions

SECONDS_PER_FRAME = 0.5
"""Of rendered drives."""


class Drives(NamedTuple):
    """Photos with latitudes and longitudes, which the names of this layout lack, and the street of
    each."""

    photos: Photos
    street: np.ndarray


def with_points(photos: Photos, folder: Path) -> Drives:
    """The photos as the world's table places them."""
    with open(folder / "cameras.csv", newline="", encoding="utf-8") as file:
        known = {str((folder / row["path"]).resolve()): row for row in csv.DictReader(file)}
    rows = [known[str(photos.file(row).resolve())] for row in range(len(photos))]
    plane = zip(photos.east_m.tolist(), photos.north_m.tolist(), rows, strict=True)
    points = [from_utm(east, north, zone=row["zone"]) for east, north, row in plane]
    places = {axis: np.array([getattr(point, axis) for point in points]) for axis in ("lat", "lon")}
    return Drives(photos.with_columns(**places), np.array([int(row["street"]) for row in rows]))


def errors_of(
    points: list[tuple[TrackPoint, Any, bool]], *, is_smoothed: bool
) -> list[tuple[float, float | None]]:
    """Error and radius in metres of each frame that was located, of streets that the database
    has."""
    found = []
    for point, truth, is_lacking in points:
        place = point.position.point if is_smoothed else point.raw
        if place is not None and not is_lacking:
            apart = float(distance_m(place, truth))
            found.append((apart, point.position.radius_m))
    return found


def main() -> None:
    """Follow the drives and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--frames", type=int, default=1000, help="at most so many")
    parser.add_argument(
        "--lacking", type=float, default=0.2, help="share of the streets that the database lacks"
    )
    parser.add_argument(
        "--near", type=float, default=25.0, help="metres within which a photo may show the same"
    )
    parser.add_argument("--length", type=int, default=5, help="frames that ask together")
    parser.add_argument("--model", default="whence-lite0-words-960")
    parser.add_argument("--work", type=Path, help="folder in which the database is kept")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    arguments = parser.parse_args()
    set_threads(1)
    data = open_sequences(arguments.folder)
    (stored, own), (frames_asked, of_query) = (
        with_points(side.photos, arguments.folder) for side in (data.database, data.queries)
    )
    streets = np.unique(own)
    num_lacking = round(arguments.lacking * len(streets))
    lacking = random_stream(0, 41).permutation(streets)[:num_lacking]
    points: list[tuple[TrackPoint, Any, bool]] = []
    apart_of: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        path = (arguments.work or Path(folder)) / "drives.whence"
        kept = stored.select(np.flatnonzero(~np.isin(own, lacking)))
        options = BuildOptions(model=arguments.model)
        near = cKDTree(np.stack([kept.east_m, kept.north_m], axis=1))
        build_from_photos(
            kept, path=path, model=load_model(arguments.model), options=options, show_progress=False
        )
        localizer = Localizer.open(path)
        started, number = time.perf_counter(), 0
        for drive in dict.fromkeys(data.queries.sequence.tolist()):
            rows = np.flatnonzero(data.queries.sequence == drive)[
                : max(0, arguments.frames - number)
            ]
            tracker = localizer.track(length=arguments.length)
            found: list[TrackPoint] = []
            for row in rows.tolist():
                frame = int(data.queries.frame[row])
                found += tracker.add(
                    frames_asked.file(row), number=frame, seconds=SECONDS_PER_FRAME * frame
                )
            found += tracker.finish()
            points += [
                (point, frames_asked[row].point, bool(np.isin(of_query[row], lacking)))
                for point, row in zip(found, rows, strict=True)
            ]
            own_plane = np.stack([frames_asked.east_m[rows], frames_asked.north_m[rows]], axis=1)
            apart_of += near.query(own_plane)[0].tolist()
            number += len(rows)
        seconds = time.perf_counter() - started
        localizer.close()
    unknown = [
        (point, truth, apart)
        for (point, truth, is_lacking), apart in zip(points, apart_of, strict=True)
        if is_lacking
    ]
    located = [
        {
            "error_m": round(float(distance_m(point.position.point, truth)), 2),
            "radius_m": point.position.radius_m,
            "nearest_photo_m": round(apart, 1),
        }
        for point, truth, apart in unknown
        if point.position.point is not None
    ]
    far = [point for point, _, apart in unknown if apart > arguments.near]
    record: dict[str, Any] = {
        "frames": len(points),
        "frames_per_s": len(points) / seconds,
        "frames_of_lacking_streets": len(unknown),
        "of_these_located": len(located),
        "of_these_far_from_all_photos": len(far),
        "of_the_far_located": sum(point.position.point is not None for point in far),
        "located_of_lacking_streets": located,
    }
    for name, is_smoothed in (("before smoothing", False), ("smoothed", True)):
        errors = errors_of(points, is_smoothed=is_smoothed)
        inside = [apart <= radius for apart, radius in errors if radius is not None]
        record[name] = {
            "located": len(errors) / max(1, len(points) - len(unknown)),
            "median_error_m": float(np.median([apart for apart, _ in errors])) if errors else None,
            "inside_radius": float(np.mean(inside)) if inside else None,
            "beyond_25_m": int(sum(apart > 25 for apart, _ in errors)),
        }
    print(
        json.dumps(record)
        if arguments.json
        else "\n".join(f"{name}: {value}" for name, value in record.items())
    )


if __name__ == "__main__":
    main()
