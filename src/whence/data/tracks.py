"""Tracks: where something was at which time, from a GPX file; and points as phones write them into
videos (ISO 6709).

GPX 1.0 and 1.1 (Topografix). Documents are parsed without document types, so entities cannot expand
and nothing outside is read.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from xml.parsers import expat

import numpy as np

from whence.errors import InvalidPoint, UnreadableTable
from whence.geo import haversine_m
from whence.types import GeoPoint

MAX_GAP_S = 30.0
"""Between two points of a track farther apart in time nothing is said; nor beyond its ends."""
_QUARTER_US = 15 * 60 * 1_000_000
_MOST_QUARTERS = 14 * 4
_LEAST_SHARE = 0.5
"""Of a recording must lie within a track for its clock to be believed."""
_ISO6709 = re.compile(
    r"([+-])(\d{2,6})(\.\d+)?([+-])(\d{3,7})(\.\d+)?(?:([+-]\d+(?:\.\d+)?))?(?:CRS\w+)?/?"
)


@dataclass(frozen=True)
class Track:
    """Points by time, ascending."""

    name: str
    time_us: np.ndarray
    """(N,) int64 microseconds since 1970, UTC."""
    lat: np.ndarray
    lon: np.ndarray
    altitude_m: np.ndarray
    """(N,) NaN where the track does not say."""

    def at(self, time_us: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Latitudes and longitudes (M,) at times (M,), between points in proportion; NaN where the
        track says nothing."""
        asked = np.asarray(time_us, np.int64)
        after = np.clip(np.searchsorted(self.time_us, asked), 1, max(1, len(self.time_us) - 1))
        before = after - 1
        after = np.minimum(after, len(self.time_us) - 1)
        span = self.time_us[after] - self.time_us[before]
        share = np.where(span > 0, (asked - self.time_us[before]) / np.maximum(span, 1), 0.0)
        is_inside = (asked >= self.time_us[0]) & (asked <= self.time_us[-1])
        is_known = is_inside & ((span <= MAX_GAP_S * 1e6) | (share == 0) | (share == 1))
        turn = (self.lon[after] - self.lon[before] + 180) % 360 - 180
        lat = self.lat[before] + share * (self.lat[after] - self.lat[before])
        lon = (self.lon[before] + share * turn + 180) % 360 - 180
        return np.where(is_known, lat, np.nan), np.where(is_known, lon, np.nan)

    def shifted(self, shift_us: int) -> Track:
        """The track with all times later by so much."""
        return replace(self, time_us=self.time_us + shift_us)

    @property
    def length_m(self) -> float:
        """Metres along the track."""
        return float(haversine_m(self.lat[:-1], self.lon[:-1], self.lat[1:], self.lon[1:]).sum())


def read_gpx(path: str | Path) -> Track:
    """The points with times of a GPX file: of tracks, else of routes, else waypoints. Times without
    a zone are UTC, as GPX says.

    Points without a time, or that are none on Earth, are passed over. Raises `UnreadableTable`
    where there is nothing left.
    """
    reader = _Reader(Path(path))
    for kind in ("trkpt", "rtept", "wpt"):
        points = sorted(
            {point.time_us: point for point in reader.points if point.kind == kind}.values(),
            key=_by_time,
        )
        if points:
            columns = np.array([(point.lat, point.lon, point.altitude_m) for point in points])
            times = np.array([point.time_us for point in points], np.int64)
            return Track(Path(path).name, times, columns[:, 0], columns[:, 1], columns[:, 2])
    raise UnreadableTable(
        path,
        (
            f"{reader.num_points} points and none with a place and a time; a track needs times to "
            "be followed"
        ),
    )


def fitted_to_clock(track: Track, *, start_us: int, end_us: int) -> tuple[Track | None, str]:
    """The track on the clock of a recording that began and ended at these times by its own, and
    what was done, in words.

    Cameras often write local time as UTC. Where the recording does not lie within the track, whole
    quarters of an hour are tried; where exactly one brings it in, the track is moved by that, else
    it is None.
    """
    if _share_inside(track, start_us, end_us) >= _LEAST_SHARE:
        return track, ""
    shifts = [n * _QUARTER_US for n in range(-_MOST_QUARTERS, _MOST_QUARTERS + 1)]
    shares = {shift: _share_inside(track.shifted(shift), start_us, end_us) for shift in shifts}
    best = max(shares.values())
    fitting = [
        shift for shift, share in shares.items() if share >= _LEAST_SHARE and share >= best - 1e-9
    ]
    # Of several the whole hours, which most zones are.
    hours = [shift for shift in fitting if shift % (4 * _QUARTER_US) == 0]
    fitting = hours if len(fitting) > 1 and hours else fitting
    if len(fitting) != 1:
        why = "several whole hours would do" if fitting else "nor at any other time of that day"
        return (
            None,
            (
                f"the recording does not lie within {track.name} by its clock, {why}; positions "
                "of the track are not taken"
            ),
        )
    hours_off = fitting[0] / 3.6e9
    return track.shifted(
        fitting[0]
    ), f"the clock of the recording runs {hours_off:+g} h beside {track.name}, a time zone: moved"


def parse_iso6709(text: str) -> GeoPoint | None:
    """The point of an ISO 6709 text, "+48.1370+011.5750+519.000/", in degrees, with minutes or
    seconds; None for any other."""
    found = _ISO6709.fullmatch(text.strip())
    if found is None:
        return None
    lat = _degrees(found[1], found[2], found[3] or "", 2)
    lon = _degrees(found[4], found[5], found[6] or "", 3)
    if lat is None or lon is None:
        return None
    try:
        return GeoPoint(lat, lon, float(found[7]) if found[7] else None)
    except InvalidPoint:
        return None


def _degrees(sign: str, whole: str, fraction: str, width: int) -> float | None:
    """Degrees of DD, DDMM or DDMMSS, the last of them with the fraction."""
    parts = [whole[:width], *(whole[i : i + 2] for i in range(width, len(whole), 2))]
    if any(len(part) < 2 for part in parts) or len(parts) > 3:
        return None
    values = [float(part) for part in parts]
    values[-1] += float(fraction or 0)
    if any(value >= 60 for value in values[1:]):
        return None
    return (-1 if sign == "-" else 1) * sum(value / 60**i for i, value in enumerate(values))


def _share_inside(track: Track, start_us: int, end_us: int) -> float:
    inside = min(end_us, int(track.time_us[-1])) - max(start_us, int(track.time_us[0]))
    return max(0.0, inside / max(1, end_us - start_us)) if end_us > start_us else float(inside >= 0)


@dataclass(frozen=True, slots=True)
class _Point:
    kind: str
    time_us: int
    lat: float
    lon: float
    altitude_m: float


def _by_time(point: _Point) -> int:
    return point.time_us


class _Reader:
    """Points of a GPX document."""

    def __init__(self, path: Path) -> None:
        self.path, self.points, self.num_points = path, list[_Point](), 0
        self._kind, self._attributes, self._texts, self._text = (
            "",
            dict[str, str](),
            dict[str, str](),
            "",
        )
        self._parser = expat.ParserCreate(namespace_separator=" ")
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._add_text
        self._parser.StartDoctypeDeclHandler = self._refuse
        try:
            self._parser.Parse(path.read_bytes(), True)
        except OSError as error:
            raise UnreadableTable(path, error.strerror or str(error)) from None
        except expat.ExpatError as error:
            raise UnreadableTable(
                path, f"no GPX: {expat.ErrorString(error.code)}", line=error.lineno
            ) from None

    def _refuse(self, *_: object) -> None:
        line = self._parser.CurrentLineNumber
        raise UnreadableTable(
            self.path, "it declares a document type, which no GPX file needs", line=line
        )

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        local = name.rpartition(" ")[2]
        self._text = ""
        if local in ("trkpt", "rtept", "wpt"):
            self._kind, self._attributes, self._texts = local, attributes, {}

    def _add_text(self, text: str) -> None:
        self._text += text

    def _end(self, name: str) -> None:
        local = name.rpartition(" ")[2]
        if local in ("time", "ele") and self._kind:
            self._texts.setdefault(local, self._text.strip())
        if local == self._kind:
            self.num_points += 1
            self._keep()
            self._kind = ""

    def _keep(self) -> None:
        try:
            point = GeoPoint(float(self._attributes["lat"]), float(self._attributes["lon"]))
            time = datetime.fromisoformat(self._texts["time"])
            altitude_m = float(self._texts.get("ele") or "nan")
        except (KeyError, ValueError, InvalidPoint):
            return
        time = time if time.tzinfo is not None else time.replace(tzinfo=UTC)
        self.points.append(
            _Point(self._kind, round(time.timestamp() * 1e6), point.lat, point.lon, altitude_m)
        )
