"""A track: where a camera was, frame after frame. Each frame is described once; windows of them ask
together.

A frame is asked about with the frames around it: the mean of their descriptors, at unit length,
finds the candidates, and the frame itself is compared with them. Positions are then smoothed
(`whence.localize.motion`), which moves answers and may withdraw one, and makes none: what is
unknown stays so. A radius stays that of the frame's own answer, because frames side by side err
alike.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from whence.data.images import as_source
from whence.errors import BadOption, UnreadableImage
from whence.localize.judge import Judge
from whence.localize.motion import PLAIN_SIGMA_M, RADIUS_OVER_SIGMA, Motion, smooth
from whence.localize.retrieve import Around
from whence.models.asking import ask_as_one
from whence.models.descriptor import Described
from whence.types import GeoPoint, PhotoSource, Position

NUM_REMEMBERED = 60
"""Answers that live smoothing looks back on."""
SET_ASIDE = "no camera that moves as the frames around say could be there"


@dataclass(frozen=True, slots=True)
class TrackPoint:
    """Where one frame was taken."""

    number: int
    """Of the frame in its drive."""
    seconds: float
    position: Position
    """The answer for the frame, its point smoothed; `unknown` with the reason where there is
    none."""
    raw: GeoPoint | None = None
    """The point before smoothing."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as `--json` prints them."""
        raw = None if self.raw is None else {"lat": self.raw.lat, "lon": self.raw.lon}
        return {
            "frame": self.number,
            "time_s": round(self.seconds, 3),
            **self.position.to_dict(),
            "unsmoothed": raw,
        }


class _Place(NamedTuple):
    """Where a drive has come to."""

    number: int
    seconds: float


class _Frame(NamedTuple):
    name: str
    number: int
    seconds: float
    described: Described | UnreadableImage
    source: PhotoSource


class Tracker:
    """Takes frames one by one and gives their places, at bounded memory: of no more than a window's
    frames pixels are kept.

    >>> tracker = localizer.track(length=5)                                     # doctest: +SKIP
    >>> for frame in camera:                                                     # doctest: +SKIP
    ...     for point in tracker.add(frame):
    ...         print(point.position.point)
    """

    def __init__(
        self,
        judge: Judge,
        *,
        length: int = 5,
        ahead: int | None = None,
        k: int = 20,
        around: Around | None = None,
        motion: Motion | None = Motion(),  # noqa: B008 (an immutable record)
        seconds_per_frame: float = 1.0,
    ) -> None:
        """`length` frames ask together, `ahead` of them later ones, for which an answer waits: by
        default half, 0 for none.

        `motion` None leaves answers as they are. `seconds_per_frame` is what passes where no times
        are given. Raises `BadOption`.
        """
        self.ahead = (length - 1) // 2 if ahead is None else ahead
        if not 0 <= self.ahead < length:
            raise BadOption(f"of a window of {length} frames {self.ahead} cannot be later ones")
        if not seconds_per_frame > 0:
            raise BadOption(f"{seconds_per_frame} seconds cannot pass between two frames")
        self.judge, self.length, self.k, self.around, self.motion = judge, length, k, around, motion
        self.seconds_per_frame = seconds_per_frame
        self._frames: deque[_Frame] = deque()
        self._next = 0
        """Place of the frame that is answered next."""
        self._last: _Place | None = None
        self._points: deque[TrackPoint] = deque(maxlen=NUM_REMEMBERED)

    def add(
        self, frame: Any, *, name: str = "", number: int | None = None, seconds: float | None = None
    ) -> tuple[TrackPoint, ...]:
        """Answers that this frame makes possible, in order; mostly one. `frame` is a file, its
        bytes, pixels, or Pillow's picture.

        Frames come in order: where `number` leaves one out, those before and after do not ask
        together. A frame that cannot be read is unknown, with the reason.
        """
        before = self._last
        number = (0 if before is None else before.number + 1) if number is None else number
        seconds = number * self.seconds_per_frame if seconds is None else seconds
        if before is not None and (number <= before.number or seconds < before.seconds):
            raise BadOption(
                f"frames come in the order of their numbers and times; {number} came after "
                f"{before.number}"
            )
        self._last = _Place(number, seconds)
        given = () if before is None or number == before.number + 1 else self._flushed()
        source = as_source(frame)
        described = next(iter(self.judge.describe([source])))
        shown = name or (
            str(frame) if not isinstance(source, np.ndarray | bytes) else f"frame {number}"
        )
        self._frames.append(_Frame(shown, number, seconds, described, source))
        found = list(given)
        while len(self._frames) - self._next > self.ahead:
            found.append(self._step())
        return tuple(found)

    def finish(self) -> tuple[TrackPoint, ...]:
        """The answers that waited for later frames. The tracker can begin another drive."""
        found = self._flushed()
        self._points.clear()
        self._last = None
        return found

    def _flushed(self) -> tuple[TrackPoint, ...]:
        found = []
        while self._next < len(self._frames):
            found.append(self._step())
        self._frames.clear()
        self._next = 0
        return tuple(found)

    def _step(self) -> TrackPoint:
        point = self._smoothed(self._answer(self._next))
        self._next += 1
        while self._next > self.length - 1 - self.ahead:
            self._frames.popleft()
            self._next -= 1
        return point

    def _answer(self, place: int) -> TrackPoint:
        frame = self._frames[place]
        if isinstance(frame.described, UnreadableImage):
            return TrackPoint(
                frame.number,
                frame.seconds,
                Position(frame.name, "unknown", reason=str(frame.described)),
            )
        first = max(0, place - (self.length - 1 - self.ahead))
        window = list(self._frames)[first : place + self.ahead + 1]
        described = [
            one.described for one in window if not isinstance(one.described, UnreadableImage)
        ]
        question = ask_as_one([one.question for one in described])
        asked = Described(question.descriptor, frame.described.local, question)
        found = self.judge.answer(
            frame.name, asked, k=self.k, around=self.around, seconds={}, source=frame.source
        )
        return TrackPoint(frame.number, frame.seconds, found, found.point)

    def _smoothed(self, point: TrackPoint) -> TrackPoint:
        """The answer by all before it: the filter's, as nothing later is known."""
        if self.motion is None:
            return point
        self._points.append(point)
        return smooth_points(self._points, self.motion)[-1]


def smooth_points(points: Iterable[TrackPoint], motion: Motion) -> tuple[TrackPoint, ...]:
    """The points of one drive smoothed by all of them, from their points before smoothing.

    One that contradicts the others becomes unknown, with the reason; what its best candidate would
    mean stays beside it.
    """
    points = list(points)
    lat, lon = (
        np.array([np.nan if one.raw is None else getattr(one.raw, axis) for one in points])
        for axis in ("lat", "lon")
    )
    radii = [one.position.radius_m for one in points]
    sigma = np.array(
        [
            PLAIN_SIGMA_M if radius is None else max(radius, 1.0) / RADIUS_OVER_SIGMA
            for radius in radii
        ]
    )
    found = smooth(np.array([one.seconds for one in points]), lat, lon, sigma, motion=motion)
    return tuple(_moved(one, *rest) for one, *rest in zip(points, *found, strict=True))


def _moved(point: TrackPoint, lat: float, lon: float, is_set_aside: bool) -> TrackPoint:
    if point.raw is None:
        return point
    if is_set_aside:
        unknown = replace(
            point.position,
            status="unknown",
            point=None,
            radius_m=None,
            heading_deg=None,
            reason=SET_ASIDE,
        )
        return replace(point, position=unknown)
    return replace(
        point,
        position=replace(
            point.position, point=GeoPoint(float(lat), float(lon), point.raw.altitude_m)
        ),
    )


def located_line(points: Sequence[TrackPoint]) -> list[list[TrackPoint]]:
    """The points with a place, in pieces: a frame that is unknown, or left out, ends one."""
    pieces: list[list[TrackPoint]] = []
    before: TrackPoint | None = None
    for point in points:
        if point.position.point is None:
            before = None
            continue
        if before is None or point.number != before.number + 1:
            pieces.append([])
        pieces[-1].append(point)
        before = point
    return pieces
