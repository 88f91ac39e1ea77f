"""`whence locate --sequence N`: the track of a video or of folders of frames, as text, JSON, CSV,
GPX and a GeoJSON line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from whence.cli.output import (
    EXIT_UNKNOWN,
    print_json,
    print_note,
    show,
    show_table,
    write_all,
)
from whence.data.fields import as_text
from whence.data.videos import is_video
from whence.errors import BadOption
from whence.journal.keeping import Log
from whence.localize.drive_frames import Drive, drives_of
from whence.localize.localizer import Localizer
from whence.localize.motion import Motion
from whence.localize.records import write_csv
from whence.localize.track_files import write_line, write_track
from whence.localize.tracking import TrackPoint, located_line, smooth_points
from whence.runtime import check_place, progress
from whence.settings import load_settings


@dataclass(frozen=True, slots=True)
class TrackOutputs:
    """Where a track goes."""

    as_json: bool
    csv_file: str | None
    gpx_file: str | None
    geojson_file: str | None
    is_quiet: bool


def locate_drives(
    sources: Sequence[str],
    database: str | None,
    outputs: TrackOutputs,
    *,
    every: str | None,
    is_smoothed: bool,
    ways: Mapping[str, Any],
    log: Log,
) -> int:
    """Print and write the tracks of videos and folders; `ways` are the arguments of
    `Localizer.track`. 3 without any place."""
    for file in (outputs.csv_file, outputs.gpx_file, outputs.geojson_file):
        if file is not None:
            check_place(file)
    if every is not None and not any(map(is_video, sources)):
        raise BadOption("--every is for videos, and none is given")
    is_silent = outputs.is_quiet or outputs.as_json
    tracks: list[tuple[Drive, tuple[TrackPoint, ...]]] = []
    with Localizer.open(load_settings(flags={"database": database}).database) as localizer:
        for drive in (
            one
            for source in sources
            for one in drives_of(source, every=every or "1s", note=print_note)
        ):
            tracker = localizer.track(**ways, motion=None)
            points: list[TrackPoint] = []
            with progress(
                f"locating {drive.name}", total=drive.num, show=False if is_silent else None
            ) as advance:
                for frame in drive.frames:
                    points += tracker.add(
                        frame.source, name=frame.name, number=frame.number, seconds=frame.seconds
                    )
                    advance(1)
            points += tracker.finish()
            found = smooth_points(points, Motion()) if is_smoothed else tuple(points)
            tracks.append((drive, found))
            times = [
                None if drive.start is None else drive.start.timestamp() + point.seconds
                for point in found
            ]
            log.add([point.position for point in found], localizer=localizer, taken_at=times)
            if outputs.as_json:
                for point in found:
                    print_json({"drive": drive.name, **point.to_dict()})
    every_point = [point for _, found in tracks for point in found]
    if not outputs.as_json:
        for drive, found in tracks:
            num = sum(point.position.status != "unknown" for point in found)
            show(as_text(f"{drive.name}: {len(found)} frames, {num} with an answer", style="bold"))
            titles = ("frame", "seconds", "status", "place", "radius", "confidence")
            show_table(titles, map(_row, found))
    lines = [(drive.start, piece) for drive, found in tracks for piece in located_line(found)]
    jobs = {
        outputs.csv_file: lambda file: write_csv(file, [point.position for point in every_point]),
        outputs.gpx_file: lambda file: write_track(file, lines),
        outputs.geojson_file: lambda file: write_line(file, every_point),
    }
    code = write_all(
        [lambda job=job, file=file: job(file) for file, job in jobs.items() if file is not None]  # type: ignore[misc]
    )
    return code or (
        0 if any(point.position.status != "unknown" for point in every_point) else EXIT_UNKNOWN
    )


def _row(one: TrackPoint) -> tuple[str, ...]:
    found, point = one.position, one.position.point
    where = found.reason if point is None else f"{point.lat:.6f}, {point.lon:.6f}"
    radius = "" if found.radius_m is None else f"{found.radius_m:.0f} m"
    sure = "" if found.confidence is None else f"{found.confidence:.2f}"
    return str(one.number), f"{one.seconds:.1f}", found.status, where, radius, sure
