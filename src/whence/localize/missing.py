"""Places for the photos of a folder that lack a geotag: from those that have one, by what they show
and by when they were taken.

What a photo shows is the evidence. Its neighbours in time are a weaker hint: between two geotagged
photos taken shortly before and after, at places near each other, a photo lies somewhere between.
Nothing is written here; that is `whence.localize.tagging`.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Literal

import numpy as np

from whence.data.metadata import read_clocks
from whence.data.photos import NO_TIME, Photos
from whence.data.scan import scan_photos
from whence.errors import BadOption, NoPhotos
from whence.geo import distance_m, mean_point
from whence.localize.along_track import TrackHint, TrackOptions, track_hints
from whence.localize.build import build_from_photos
from whence.localize.localizer import Localizer, LocateOptions
from whence.localize.retrieve import Around
from whence.localize.timeline import Timeline, timeline
from whence.models.descriptor import load_model
from whence.runtime import map_threads
from whence.settings import DEFAULT_MODEL, BuildOptions
from whence.types import GeoPoint, Position, SkippedPhoto

PlacedBy = Literal["track", "match", "time", "both agree", "disagree", "none"]

_EVERYWHERE = Around(GeoPoint(0.0, 0.0), 13_000_000.0)
"""Every photo with coordinates: no two places are farther apart through the Earth. Photos without
coordinates place nothing."""


@dataclass(frozen=True, slots=True)
class MissingOptions:
    """What counts as near in time and as agreement."""

    model: str = DEFAULT_MODEL
    """Model of a database that has to be built."""
    k: int = 20
    max_gap_s: float = 600.0
    """Seconds between the geotagged photos before and after, at most."""
    max_end_gap_s: float = 60.0
    """Seconds to the nearest geotagged photo where there is none on the other side, at most."""
    max_apart_m: float = 500.0
    """Metres between the geotagged photos before and after, at most."""
    locate: LocateOptions = field(default_factory=LocateOptions)
    """How matches are compared and verified."""
    agree_within_m: float = 100.0
    """Metres between match and time hint within which they agree (or the match's own radius, if
    that is larger)."""
    allow_null_island: bool = False
    """Whether latitude 0, longitude 0 is a place."""
    track: TrackOptions | None = None
    """A GPX track that photos are placed by, before anything else."""

    def __post_init__(self) -> None:
        if min(self.max_gap_s, self.max_end_gap_s, self.max_apart_m, self.agree_within_m) < 0:
            raise BadOption("gaps in time and distances of agreement are not negative")


@dataclass(frozen=True, slots=True)
class TimeHint:
    """A place between the geotagged photos taken before and after."""

    point: GeoPoint
    before: str
    """Path of the geotagged photo before; empty where there is none."""
    after: str
    gap_s: float
    """Seconds between the two, or to the one."""
    apart_m: float
    """Metres between the two: how far off the hint may well be."""

    @property
    def is_between(self) -> bool:
        """Whether there is a photo before and one after."""
        return bool(self.before and self.after)


@dataclass(frozen=True, slots=True)
class Proposal:
    """Where one photo without a geotag may have been taken, for review."""

    photo: str
    """Path relative to the report's root."""
    placed_by: PlacedBy
    point: GeoPoint | None
    """The place proposed; None where there is none, or where match and time contradict each
    other."""
    position: Position
    """The match's answer, whatever came of it."""
    hint: TimeHint | None
    time: datetime | None
    reason: str
    track: TrackHint | None = None
    evidence: tuple[str, ...] = ()
    """What speaks for the place, the strongest first: "track", "match" and "time"."""

    @property
    def is_verified(self) -> bool:
        """Whether more than the look of one photo speaks for the place."""
        return self.placed_by in ("track", "both agree", "time") or (
            self.placed_by == "match" and self.position.is_verified
        )

    @property
    def radius_m(self) -> float | None:
        """The match's radius where the place is the match's."""
        return self.position.radius_m if self.placed_by in ("match", "both agree") else None

    @property
    def heading_deg(self) -> float | None:
        """The match's heading where the match speaks for the place."""
        is_seen = self.placed_by in ("match", "both agree") or "match" in self.evidence
        return self.position.heading_deg if is_seen else None


@dataclass(frozen=True, slots=True)
class MissingReport:
    """All photos of a folder that lack a geotag, in the order of their paths."""

    root: Path
    num_photos: int
    num_geotagged: int
    proposals: tuple[Proposal, ...]
    database: Photos
    """Photos the matches come from."""
    skipped: tuple[SkippedPhoto, ...]
    remarks: tuple[str, ...] = ()
    """What a person should know of the folder as a whole, and of how times were compared."""


def place_missing(
    folder: str | Path,
    *,
    database: str | Path | None = None,
    positions: str | Path | None = None,
    options: MissingOptions | None = None,
    show_progress: bool | None = None,
) -> MissingReport:
    """Proposals of places for the photos under `folder` that lack a geotag.

    An existing `database` is asked as it is; one that does not exist yet is built of the folder's
    geotagged photos and kept; without one a temporary database is. Raises `NoPhotos` where there is
    nothing to place from.
    """
    options = options or MissingOptions()
    photos = scan_photos(
        folder,
        positions=positions,
        show_progress=show_progress,
        allow_null_island=options.allow_null_island,
    )
    if not len(photos):
        raise NoPhotos(f"no readable photos under {str(folder)!r}")
    has_point = photos.has_point
    num_geotagged = int(has_point.sum())
    missing, tagged = photos.select(~has_point), photos.select(has_point)
    if not len(missing):
        return MissingReport(
            photos.root, len(photos), num_geotagged, (), tagged, photos.skipped, photos.remarks
        )
    if database is None or not Path(database).exists():
        if not num_geotagged and (options.track is None or database is not None):
            raise NoPhotos(
                f"none of the {len(photos)} photos under {str(folder)!r} has a geotag; name a "
                "database with --db"
            )
        found, database_photos = _match_own(missing, tagged, database, options, show_progress)
    else:
        found, database_photos = _match(missing, Path(database), options, show_progress)
    times = timeline(
        photos, [*map_threads(read_clocks, [photos.file(row) for row in range(len(photos))])]
    )
    hints = time_hints(photos, options=options, times=times)
    rows = np.flatnonzero(~has_point).tolist()
    tracks: Mapping[int, TrackHint] = {}
    remarks = (*photos.remarks, *times.remarks)
    if options.track is not None:
        seen = {
            row: one.point
            for row, one in zip(rows, found, strict=True)
            if one.point is not None and one.is_verified
        }
        tracks, said = track_hints(photos, times, options=options.track, sightings=seen)
        remarks = (*remarks, *said)
    records = zip(missing, found, rows, strict=True)
    proposals = tuple(
        propose(
            photo.path, one, hints.get(row), time=photo.time, track=tracks.get(row), options=options
        )
        for photo, one, row in records
    )
    return MissingReport(
        photos.root, len(photos), num_geotagged, proposals, database_photos, photos.skipped, remarks
    )


def time_hints(
    photos: Photos, *, options: MissingOptions | None = None, times: Timeline | None = None
) -> Mapping[int, TimeHint]:
    """For rows without a point: a place between the geotagged photos before and after, where those
    are near in time and space.

    Like is compared with like: UTC with UTC, and the camera's clock with the camera's clock.
    `times` is by default what the table says alone. Row -> hint.
    """
    options, times = options or MissingOptions(), times or timeline(photos)
    hints = _hints_on(times.local_us, photos, options)
    for row, hint in _hints_on(times.utc_us, photos, options).items():
        if hint.is_between or row not in hints or not hints[row].is_between:
            hints[row] = hint
    return hints


def _hints_on(time_us: np.ndarray, photos: Photos, options: MissingOptions) -> dict[int, TimeHint]:
    """Hints by one clock: (N,) microseconds, `NO_TIME` where it is silent."""
    tagged = np.flatnonzero((time_us != NO_TIME) & photos.has_point)
    tagged = tagged[np.argsort(time_us[tagged], kind="stable")]
    asked = np.flatnonzero((time_us != NO_TIME) & ~photos.has_point)
    hints: dict[int, TimeHint] = {}
    if not len(tagged):
        return hints
    places = np.searchsorted(time_us[tagged], time_us[asked], side="right")
    for row, place in zip(asked.tolist(), places.tolist(), strict=True):
        before = int(tagged[place - 1]) if place > 0 else None
        after = int(tagged[place]) if place < len(tagged) else None
        hint = _hint(photos, time_us, row, (before, after), options)
        if hint is not None:
            hints[row] = hint
    return hints


def propose(
    photo: str,
    position: Position,
    hint: TimeHint | None,
    *,
    time: datetime | None = None,
    track: TrackHint | None = None,
    options: MissingOptions | None = None,
) -> Proposal:
    """One proposal of a track, a match and a hint, the stronger evidence first.

    The place is the track's, unless a verified match contradicts it; else the match's; a hint in
    time places what nothing else does. Where match and hint contradict each other, there is none.
    """
    options = options or MissingOptions()
    matched = position.point if position.status == "located" else None
    if track is not None:
        return _propose_by_track(photo, position, hint, track, time, options)
    if matched is None and hint is None:
        reason = position.reason or "no match, and no geotagged photo near in time"
        return Proposal(photo, "none", None, position, None, time, reason)
    if matched is None:
        assert hint is not None
        reason = _hint_text(hint)
        if position.best_guess is not None and position.best_guess.point is not None:
            gap = distance_m(position.best_guess.point, hint.point)
            reason += f"; the best guess of the match lies {_distance_text(gap)} away"
        return Proposal(photo, "time", hint.point, position, hint, time, reason, evidence=("time",))
    if hint is None:
        reason = (
            position.reason
            if position.is_verified
            else "the best match, which nothing has verified"
        )
        return Proposal(photo, "match", matched, position, None, time, reason, evidence=("match",))
    gap = distance_m(matched, hint.point)
    if gap <= max(options.agree_within_m, position.radius_m or 0.0):
        said = f"{gap:.0f} m from the hint: {_hint_text(hint)}"
        return Proposal(
            photo, "both agree", matched, position, hint, time, said, evidence=("match", "time")
        )
    return Proposal(
        photo,
        "disagree",
        None,
        position,
        hint,
        time,
        f"match and time are {_distance_text(gap)} apart",
    )


def _propose_by_track(
    photo: str,
    position: Position,
    hint: TimeHint | None,
    track: TrackHint,
    time: datetime | None,
    options: MissingOptions,
) -> Proposal:
    evidence, said = ["track"], [track.source]
    if position.status == "located" and position.point is not None:
        gap = distance_m(position.point, track.point)
        if gap <= max(options.agree_within_m, position.radius_m or 0.0):
            evidence.append("match")
            said.append(f"the match lies {gap:.0f} m away")
        elif position.is_verified:
            reason = f"match and track are {_distance_text(gap)} apart: {track.source}"
            return Proposal(photo, "disagree", None, position, hint, time, reason, track)
        else:
            said.append(
                f"the best match, which nothing has verified, lies {_distance_text(gap)} away"
            )
    if hint is not None:
        gap = distance_m(hint.point, track.point)
        if gap <= options.agree_within_m:
            evidence.append("time")
        said.append(f"{_distance_text(gap)} from the hint: {_hint_text(hint)}")
    return Proposal(
        photo, "track", track.point, position, hint, time, "; ".join(said), track, tuple(evidence)
    )


def _match(
    missing: Photos, database: Path, options: MissingOptions, show_progress: bool | None
) -> tuple[tuple[Position, ...], Photos]:
    files = [missing.file(row) for row in range(len(missing))]
    with Localizer.open(database) as localizer:
        answers = localizer.locate_many(
            files,
            k=options.k,
            around=_EVERYWHERE,
            options=options.locate,
            show_progress=show_progress,
        )
        found = tuple(answers)
        known = _named_from(localizer.photos, missing.root)
    return tuple(_renamed(position, known) for position in found), known


def _match_own(
    missing: Photos,
    tagged: Photos,
    database: str | Path | None,
    options: MissingOptions,
    show_progress: bool | None,
) -> tuple[tuple[Position, ...], Photos]:
    """Matches in a database of the folder's own geotagged photos, made for that; where there are
    none, nothing is recognised."""
    if not len(tagged):
        reason = "no photo of the folder has a geotag, and no database is named"
        return tuple(Position(photo.path, "unknown", reason=reason) for photo in missing), tagged
    with tempfile.TemporaryDirectory(prefix="whence-") as aside:
        path = Path(aside) / "geotagged.whence" if database is None else Path(database)
        # Every query is compared with some of them: what that needs is made once.
        made = BuildOptions(keep_local=True)
        build_from_photos(
            tagged,
            path=path,
            model=load_model(options.model),
            options=made,
            show_progress=show_progress,
        )
        return _match(missing, path, options, show_progress)


def _named_from(photos: Photos, root: Path) -> Photos:
    """The same photos with names relative to `root`: a temporary database is gone when they are
    looked at."""
    files = [
        os.path.normpath(os.path.join(os.path.abspath(photos.root), path)) for path in photos.paths
    ]
    top = os.path.abspath(root)
    return Photos(
        [os.path.relpath(file, top).replace(os.sep, "/") for file in files],
        photos.columns,
        root=top,
    )


def _renamed(position: Position, photos: Photos) -> Position:
    candidates = tuple(replace(one, photo=photos.paths[one.row]) for one in position.candidates)
    return replace(position, candidates=candidates)


def _hint(
    photos: Photos,
    time_us: np.ndarray,
    row: int,
    around: tuple[int | None, int | None],
    options: MissingOptions,
) -> TimeHint | None:
    before, after = around
    if before is not None and time_us[before] == time_us[row]:
        after = before
    known = [one for one in (before, after) if one is not None]
    seconds = [abs(int(time_us[one]) - int(time_us[row])) / 1e6 for one in known]
    paths = [photos.paths[one] if one is not None else "" for one in (before, after)]
    points = [GeoPoint(float(photos.lat[one]), float(photos.lon[one])) for one in known]
    if len(known) == 1:
        return (
            TimeHint(points[0], paths[0], paths[1], seconds[0], 0.0)
            if seconds[0] <= options.max_end_gap_s
            else None
        )
    gap, apart = sum(seconds), distance_m(*points)
    if gap > options.max_gap_s or apart > options.max_apart_m:
        return None
    if gap == 0:
        return TimeHint(points[0], paths[0], paths[1], 0.0, apart)
    weights = np.array([seconds[1], seconds[0]]) / gap
    between = mean_point(
        np.array([point.lat for point in points]),
        np.array([point.lon for point in points]),
        weights,
    )
    return TimeHint(replace(between, altitude_m=None), paths[0], paths[1], gap, apart)


def _hint_text(hint: TimeHint) -> str:
    if hint.is_between and hint.before != hint.after:
        return (
            f"between {hint.before} and {hint.after}, {hint.gap_s:.0f} s and "
            f"{_distance_text(hint.apart_m)} apart"
        )
    return f"{hint.gap_s:.0f} s {'after' if hint.before else 'before'} {hint.before or hint.after}"


def _distance_text(metres: float) -> str:
    return f"{metres:.0f} m" if metres < 10_000 else f"{metres / 1000:.0f} km"
