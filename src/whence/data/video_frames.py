"""Frames out of a video: every so many seconds or metres, or where the view has changed, as photos
whose names say where and when.

A photo's name is the field's "@" name where its place is known, and ends in the number of the frame
among those kept, so that the folder is a drive: a number is left out where the video, or its track,
has a hole.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from whence.data.names import format_name
from whence.data.tracks import Track, fitted_to_clock
from whence.data.videos import Video, VideoFacts, VideoFrame
from whence.errors import BadOption, NoPhotos
from whence.geo import distance_m
from whence.runtime import atomic_write
from whence.types import GeoPoint

CHANGE = 12.0
"""Mean difference of grey values, of 255, from which a view has changed."""
CHANGE_MAX_S = 10.0
"""A view that does not change is kept anew after so long."""
_QUALITY = 90
_EVERY = re.compile(r"(\d+(?:\.\d+)?)(s|m)")
_NOT_IN_NAMES = re.compile(r"[@/\\\s]+")


@dataclass(frozen=True, slots=True)
class Every:
    """Which frames are kept: one every so many seconds, or metres of the track, or each that
    differs from the last one kept."""

    seconds: float = 0.0
    metres: float = 0.0

    @classmethod
    def parse(cls, text: str) -> Every:
        """Of "1s", "2m" (metres) or "change". Raises `BadOption`."""
        found = _EVERY.fullmatch(text.strip())
        if text.strip() == "change":
            return cls()
        if found is None or float(found[1]) <= 0:
            raise BadOption(
                "frames are taken every 1s (seconds), every 2m (metres of a track) or at a "
                f"change; not {text!r}"
            )
        return cls(seconds=float(found[1])) if found[2] == "s" else cls(metres=float(found[1]))


class Kept(NamedTuple):
    """A frame that is kept, its number among them, and where it was taken as far as that is
    known."""

    frame: VideoFrame
    number: int
    point: GeoPoint | None


@dataclass(frozen=True, slots=True)
class Extracted:
    """What became of a video."""

    folder: Path
    num_frames: int
    num_with_point: int
    remarks: tuple[str, ...] = ()


def choose_frames(frames: Iterator[VideoFrame], every: Every, *, places: Places) -> Iterator[Kept]:
    """The frames that are kept, one after the other, however unevenly they come."""
    number, before = 0, _Before()
    for frame in frames:
        point = places.at(frame.seconds)
        if every.seconds:
            # The moments lie on one grid, so that a hole in the video is a hole in the numbers.
            place = int(frame.seconds / every.seconds + 1e-6)
            is_wanted, number = place > before.place, place
            before.place = max(before.place, place)
        elif every.metres:
            gap = (
                np.inf if point is None or before.point is None else distance_m(before.point, point)
            )
            is_wanted = point is not None and gap >= every.metres
            number = before.number + (1 if gap < 3 * every.metres or before.point is None else 2)
        else:
            small = frame.small().astype(np.float32)
            changed = np.inf if before.small is None else float(np.abs(small - before.small).mean())
            is_wanted = changed >= CHANGE or frame.seconds - before.seconds >= CHANGE_MAX_S
            number = before.number + 1
            before.small = small if is_wanted else before.small
        if is_wanted:
            before.number, before.point, before.seconds = number, point, frame.seconds
            yield Kept(frame, number, point)


@dataclass
class _Before:
    """The frame kept last."""

    place: int = -1
    number: int = -1
    seconds: float = -np.inf
    point: GeoPoint | None = None
    small: np.ndarray | None = None


class Places:
    """Where a video was at each of its seconds: along a track, else where it says it began, for as
    long as that holds."""

    def __init__(self, facts: VideoFacts, track: Track | None = None) -> None:
        """Raises `BadOption` for a track beside a video that does not say when it began."""
        self.remarks: tuple[str, ...] = ()
        self._facts, self._track = facts, track
        if track is None:
            return
        if facts.start is None:
            raise BadOption(
                f"{facts.file.name} does not say when it began, so that no track can be followed; "
                "set its time first"
            )
        start_us = round(facts.start.timestamp() * 1e6)
        self._start_us = start_us
        self._track, remark = fitted_to_clock(
            track, start_us=start_us, end_us=start_us + round((facts.duration_s or 0) * 1e6)
        )
        self.remarks = (remark,) if remark else ()

    @property
    def is_tracked(self) -> bool:
        """Whether a track says where it was."""
        return self._track is not None

    def at(self, seconds: float) -> GeoPoint | None:
        """The point; None where nothing says it. A video's own point is that of its first second
        alone."""
        if self._track is None:
            return self._facts.point if seconds <= 1.0 else None
        lat, lon = self._track.at(np.array([self._start_us + round(seconds * 1e6)]))
        return GeoPoint(float(lat[0]), float(lon[0])) if np.isfinite(lat[0]) else None


def extract_frames(
    video: str | Path, folder: str | Path, *, every: Every, track: Track | None = None
) -> Extracted:
    """Frames of a video, written into a folder, which is made, as JPEG photos; of a video cut short
    those before the cut.

    Frames that are there already, of the same video, are not written again. Raises
    `UnreadableVideo`, `MissingExtra`, `BadOption`, `NoPhotos` where no frame could be read, and
    `UnwritableFile`.
    """
    folder = Path(folder)
    with Video(video) as opened:
        facts = opened.facts()
        if every.metres and track is None:
            raise BadOption(
                f"--every {every.metres:g}m needs to know where {facts.file.name} was: give a GPX "
                "file with --track"
            )
        places = Places(facts, track)
        if every.metres and not places.is_tracked:
            raise BadOption(f"no frames every {every.metres:g} m: {' '.join(places.remarks)}")
        folder.mkdir(parents=True, exist_ok=True)
        num_frames = num_with_point = 0
        for kept in choose_frames(opened.frames(), every, places=places):
            file = folder / _frame_name(facts, kept)
            if not file.exists():
                _write(file, kept.frame.pixels())
            num_frames += 1
            num_with_point += kept.point is not None
        remarks = [
            *places.remarks,
            *(
                [f"{facts.file.name} was cut short: {opened.stopped_by}"]
                if opened.stopped_by
                else []
            ),
        ]
    if not num_frames:
        why = opened.stopped_by or (
            "none of them has a place on the track" if track is not None else "it has no frames"
        )
        raise NoPhotos(f"no frames were taken from {str(video)!r}: {why}")
    return Extracted(folder, num_frames, num_with_point, tuple(remarks))


def _frame_name(facts: VideoFacts, frame: Kept) -> str:
    stem, number = _NOT_IN_NAMES.sub("-", facts.file.stem), f"{frame.number:06d}"
    if frame.point is None:
        return f"{stem}-{number}.jpg"
    time = None if facts.start is None else facts.start + timedelta(seconds=frame.frame.seconds)
    return format_name(
        point=replace(frame.point, altitude_m=None), pano_id=stem, time=time, note=f"frame{number}"
    )


def _write(file: Path, image: np.ndarray) -> None:
    _, encoded = cv2.imencode(
        ".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, _QUALITY]
    )
    with atomic_write(file, is_flushed=False) as out:
        out.write(encoded.tobytes())
