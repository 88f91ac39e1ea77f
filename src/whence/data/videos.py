"""Videos: frames with their times, and where and when they were taken. Through PyAV (FFmpeg), the
extra `video`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from whence.data.tracks import parse_iso6709
from whence.errors import MissingExtra, UnreadableVideo
from whence.types import GeoPoint

VIDEO_SUFFIXES = frozenset(
    (
        ".mp4",
        ".mov",
        ".m4v",
        ".avi",
        ".mkv",
        ".webm",
        ".mts",
        ".m2ts",
        ".ts",
        ".3gp",
        ".mpg",
        ".mpeg",
        ".wmv",
        ".360",
        ".insv",
    )
)
"""Endings by which videos are known, in lower case."""
_POINT_TAGS = ("com.apple.quicktime.location.ISO6709", "location", "location-eng", "xyz", "©xyz")
_TIME_TAGS = ("com.apple.quicktime.creationdate", "creation_time", "date")
_SMALL_PX = (32, 24)
"""Width and height at which frames are compared for what has changed."""


class VideoFrame(NamedTuple):
    """One frame of a video."""

    number: int
    seconds: float
    """Since the first frame, by the video's own clock: frames need not come evenly."""
    picture: Any
    """PyAV's frame: pixels are made by `pixels` and `small` when they are wanted."""

    def pixels(self) -> np.ndarray:
        """uint8 (H, W, 3), RGB, upright."""
        image: np.ndarray = self.picture.to_ndarray(format="rgb24")
        turns = round(getattr(self.picture, "rotation", 0) / 90)
        return np.ascontiguousarray(np.rot90(image, turns)) if turns % 4 else image

    def small(self) -> np.ndarray:
        """uint8 (24, 32) grey, for comparing with others."""
        width, height = _SMALL_PX
        grey: np.ndarray = self.picture.reformat(
            width=width, height=height, format="gray"
        ).to_ndarray()
        return grey


@dataclass(frozen=True, slots=True)
class VideoFacts:
    """What a video says of itself."""

    file: Path
    start: datetime | None
    """When it began, with a zone where it states one."""
    point: GeoPoint | None
    """Where it began, as phones write it."""
    duration_s: float | None


class Video:
    """A video that is open; reading it through gives every frame once, as far as it can be decoded.
    A context."""

    def __init__(self, path: str | Path) -> None:
        """Raises `MissingExtra`, and `UnreadableVideo` for a file that is none."""
        self.file = Path(path)
        try:
            import av
        except ImportError:
            raise MissingExtra("reading videos", "video") from None
        self._failures: Any = av.FFmpegError
        try:
            self._container = av.open(str(path))
        except (av.FFmpegError, OSError, ValueError) as error:
            raise UnreadableVideo(path, getattr(error, "strerror", None) or str(error)) from None
        if not self._container.streams.video:
            self._container.close()
            raise UnreadableVideo(path, "it holds no moving pictures")
        self._stream = self._container.streams.video[0]
        self.stopped_by = ""
        """Why it could not be read to its end; empty where it could, or was not yet."""

    def __enter__(self) -> Video:
        return self

    def __exit__(self, *_: object) -> None:
        self._container.close()

    def facts(self) -> VideoFacts:
        """Facts that the video states, in the tags of the file and of its pictures."""
        tags = {**self._stream.metadata, **self._container.metadata}
        points = (parse_iso6709(tags[name]) for name in _POINT_TAGS if name in tags)
        times = (_time(tags[name]) for name in _TIME_TAGS if name in tags)
        length = self._container.duration
        return VideoFacts(
            self.file,
            next((time for time in times if time is not None), None),
            next((point for point in points if point is not None), None),
            None if length is None else length / 1e6,
        )

    def frames(self) -> Iterator[VideoFrame]:
        """The frames in the order in which they are shown. One that is damaged ends the video:
        `stopped_by` then says why."""
        first: float | None = None
        number = 0
        rate = float(self._stream.average_rate or 25)
        last = -1.0
        try:
            for picture in self._container.decode(self._stream):
                stamp = number / rate if picture.time is None else float(picture.time)
                first = stamp if first is None else first
                # A clock that runs backwards says nothing.
                last = max(stamp - first, last)
                yield VideoFrame(number, last, picture)
                number += 1
        except self._failures as error:
            self.stopped_by = getattr(error, "strerror", None) or str(error)
        length = self.facts().duration_s
        if not self.stopped_by and length is not None and number and last + 2 / rate + 1.0 < length:
            self.stopped_by = f"it ends after {last:.1f} of {length:.1f} s"


def is_video(path: str | Path) -> bool:
    """Whether a file is a video, by its ending."""
    return os.path.splitext(str(path))[1].lower() in VIDEO_SUFFIXES


def _time(text: str) -> datetime | None:
    """A time of a tag; of year 1904 or 1970 it is the zero of a clock that was never set."""
    try:
        found = datetime.fromisoformat(text.strip())
    except ValueError:
        return None
    if found.year in (1904, 1970):
        return None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)
