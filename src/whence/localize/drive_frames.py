"""Drives to be followed: the frames of a video or of a folder in order, with their seconds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from whence.data.photos import NO_TIME, NO_ZONE
from whence.data.videos import Video, is_video
from whence.errors import BadOption
from whence.types import SkippedPhoto


class DriveFrame(NamedTuple):
    """One frame to be located."""

    source: Any
    name: str
    number: int
    seconds: float


class Drive(NamedTuple):
    """One drive: its frames, in order, as they are read, when it began, and how many they are where
    that is known."""

    name: str
    frames: Iterator[DriveFrame]
    start: datetime | None
    num: int | None
    skipped: tuple[SkippedPhoto, ...] = ()
    """Photos of the folder that cannot be read, with its first drive."""


def drives_of(
    source: str, *, every: str, note: Callable[[str], None] = lambda text: None
) -> Iterator[Drive]:
    """Drives: a video as one, a folder as one for each folder of photos in it. `note` is told of
    a video that was cut short. Raises `BadOption`, and as `read_frame_folder`."""
    if is_video(source):
        with Video(source) as video:
            yield Drive(source, _video_frames(video, every), video.facts().start, None)
            if video.stopped_by:
                note(f"{source} was cut short: {video.stopped_by}")
        return
    if not Path(source).is_dir():
        raise BadOption(f"--sequence takes videos and folders of frames in order, not {source!r}")
    from whence.data.frame_folders import read_frame_folder

    found = read_frame_folder(source)
    skipped = found.photos.skipped
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
            DriveFrame(
                photos.file(row),
                str(photos.file(row)),
                int(found.frame[rows[row]]),
                float(seconds[row]),
            )
            for row in range(len(rows))
        )
        yield Drive(str(Path(source) / sequence), frames, start, len(rows), skipped)
        skipped = ()


def _video_frames(video: Video, every: str) -> Iterator[DriveFrame]:
    from whence.data.video_frames import Every, Places, choose_frames

    way = Every.parse(every)
    if way.metres:
        raise BadOption(
            "where a video was is what is asked for: --every takes seconds here, or change"
        )
    for kept in choose_frames(video.frames(), way, places=Places(video.facts())):
        name = f"{video.file}@{kept.frame.seconds:.1f}s"
        yield DriveFrame(kept.frame.pixels(), name, kept.number, kept.frame.seconds)
