"""`whence locate --sequence N`: the track of a video or of folders of frames, as text, JSON, CSV,
GPX and a GeoJSON line."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.table import Table

from whence.cli.journal import Log
from whence.cli.output import EXIT_UNKNOWN, print_json, print_note, report_skipped, show, write_all
from whence.data.fields import as_text
from whence.data.geotags import Waypoint, write_gpx
from whence.data.photos import NO_TIME, NO_ZONE
from whence.data.videos import Video, is_video
from whence.errors import BadOption
from whence.localize.localizer import Localizer
from whence.localize.motion import Motion
from whence.localize.records import write_csv
from whence.localize.tracking import TrackPoint, located_line, smooth_points
from whence.runtime import atomic_write, check_place, progress
from whence.settings import load_settings


@dataclass(frozen=True, slots=True)
class TrackOutputs:
    """Where a track goes."""

    as_json: bool
    csv_file: str | None
    gpx_file: str | None
    geojson_file: str | None
    is_quiet: bool


class _Frame(NamedTuple):
    """One frame to be located."""

    source: Any
    name: str
    number: int
    seconds: float


class _Drive(NamedTuple):
    """One drive: its frames, in order, as they are read, when it began, and how many they are where
    that is known."""

    name: str
    frames: Iterator[_Frame]
    start: datetime | None
    num: int | None


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
    tracks: list[tuple[_Drive, tuple[TrackPoint, ...]]] = []
    with Localizer.open(load_settings(flags={"database": database}).database) as localizer:
        for drive in (one for source in sources for one in _drives(source, every or "1s")):
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
            show(_table(found))
    lines = [(drive.start, piece) for drive, found in tracks for piece in located_line(found)]
    jobs = {
        outputs.csv_file: lambda file: write_csv(file, [point.position for point in every_point]),
        outputs.gpx_file: lambda file: write_gpx(
            file, (), track=[_waypoints(*line) for line in lines]
        ),
        outputs.geojson_file: lambda file: write_line(file, every_point),
    }
    code = write_all(
        [lambda job=job, file=file: job(file) for file, job in jobs.items() if file is not None]  # type: ignore[misc]
    )
    return code or (
        0 if any(point.position.status != "unknown" for point in every_point) else EXIT_UNKNOWN
    )


def write_line(path: str, points: Sequence[TrackPoint]) -> None:
    """A track as GeoJSON: the line, in pieces where a frame is unknown, then each place with its
    time, radius and confidence."""
    pieces = [[_lon_lat(one) for one in piece] for piece in located_line(points)]
    line = {"type": "MultiLineString", "coordinates": [piece for piece in pieces if len(piece) > 1]}
    counts = {"num_frames": len(points), "num_located": sum(map(len, pieces))}
    features: list[dict[str, Any]] = [{"type": "Feature", "geometry": line, "properties": counts}]
    for one in points:
        if one.position.point is not None:
            about = {
                key: value
                for key, value in one.to_dict().items()
                if key not in ("position", "candidates", "unsmoothed")
            }
            about["radius_m"] = one.position.radius_m
            features.append(
                {
                    "type": "Feature",
                    "geometry": {"type": "Point", "coordinates": _lon_lat(one)},
                    "properties": about,
                }
            )
    with atomic_write(path, "w") as file:
        json.dump(
            {"type": "FeatureCollection", "features": features}, file, ensure_ascii=False, indent=1
        )


def _lon_lat(point: TrackPoint) -> list[float]:
    at = point.position.point
    return [] if at is None else [at.lon, at.lat]


def _waypoints(start: datetime | None, piece: Sequence[TrackPoint]) -> list[Waypoint]:
    found = []
    for one in piece:
        time = None if start is None else start + timedelta(seconds=one.seconds)
        if one.position.point is not None:
            found.append(Waypoint(one.position.query, one.position.point, time))
    return found


def _drives(source: str, every: str) -> Iterator[_Drive]:
    """A video as one drive, a folder as one for each folder of photos in it."""
    if is_video(source):
        with Video(source) as video:
            yield _Drive(source, _video_frames(video, every), video.facts().start, None)
            if video.stopped_by:
                print_note(f"{source} was cut short: {video.stopped_by}")
        return
    if not Path(source).is_dir():
        raise BadOption(f"--sequence takes videos and folders of frames in order, not {source!r}")
    from whence.data.frame_folders import read_frame_folder

    found = read_frame_folder(source)
    report_skipped(found.photos.skipped)
    for sequence in dict.fromkeys(found.sequence.tolist()):
        rows = np.flatnonzero(found.sequence == sequence)
        photos = found.photos.select(rows)
        # Times that are not all there, or run backwards, are none; then a frame stands for a
        # second.
        times = photos.time_us
        has_times = bool((times != NO_TIME).all() and (np.diff(times) > 0).all())
        seconds = (
            (times - times[0]) / 1e6
            if has_times
            else (found.frame[rows] - found.frame[rows][0]).astype(float)
        )
        is_zoned = has_times and bool((photos.time_zone_min != NO_ZONE).all())
        start = datetime.fromtimestamp(times[0] / 1e6, UTC) if is_zoned else None
        frames = (
            _Frame(
                photos.file(row),
                str(photos.file(row)),
                int(found.frame[rows[row]]),
                float(seconds[row]),
            )
            for row in range(len(rows))
        )
        yield _Drive(str(Path(source) / sequence), frames, start, len(rows))


def _video_frames(video: Video, every: str) -> Iterator[_Frame]:
    from whence.data.video_frames import Every, Places, choose_frames

    way = Every.parse(every)
    if way.metres:
        raise BadOption(
            "where a video was is what is asked for: --every takes seconds here, or change"
        )
    for kept in choose_frames(video.frames(), way, places=Places(video.facts())):
        name = f"{video.file}@{kept.frame.seconds:.1f}s"
        yield _Frame(kept.frame.pixels(), name, kept.number, kept.frame.seconds)


def _table(points: Sequence[TrackPoint]) -> Table:
    table = Table(show_edge=False, pad_edge=False)
    for title in ("frame", "seconds", "status", "place", "radius", "confidence"):
        table.add_column(title)
    for one in points:
        found = one.position
        where = (
            found.reason if found.point is None else f"{found.point.lat:.6f}, {found.point.lon:.6f}"
        )
        radius = "" if found.radius_m is None else f"{found.radius_m:.0f} m"
        sure = "" if found.confidence is None else f"{found.confidence:.2f}"
        table.add_row(
            *map(
                as_text, (str(one.number), f"{one.seconds:.1f}", found.status, where, radius, sure)
            )
        )
    return table
