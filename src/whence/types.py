"""The records that travel between the rooms.

Records are frozen and small. Large collections are columns (`whence.data.photos.Photos`) and
matrices, not lists of these. Nothing here computes; formulas on coordinates live in `whence.geo`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from whence.errors import InvalidPoint

Arrays = Mapping[str, np.ndarray]
"""Arrays by name: what is kept of a photo, a state, an index."""
EncodedPhoto = str | Path | bytes
"""A photo as a file, or as the bytes of one."""
PhotoSource = EncodedPhoto | np.ndarray
"""The same, or its pixels, uint8 (H, W, 3)."""
PositionStatus = Literal["located", "matched", "unknown"]


@dataclass(frozen=True, slots=True)
class GeoPoint:
    """A place on Earth: WGS84 latitude and longitude in degrees, altitude in metres where known.

    Longitudes outside [-180, 180] are wrapped. Raises `InvalidPoint` for anything not on Earth.
    """

    lat: float
    lon: float
    altitude_m: float | None = None

    def __post_init__(self) -> None:
        if (
            not (math.isfinite(self.lat) and math.isfinite(self.lon))
            or abs(self.lat) > 90
            or abs(self.lon) > 540
        ):
            raise InvalidPoint(f"latitude {self.lat}, longitude {self.lon} is not a place on Earth")
        if abs(self.lon) > 180:
            object.__setattr__(self, "lon", (self.lon + 180) % 360 - 180)


@dataclass(frozen=True, slots=True)
class PlanePoint:
    """Metres on a plane, as "@" file names carry them: a UTM position, or free coordinates where
    `zone` is empty."""

    east_m: float
    north_m: float
    zone: str = ""


@dataclass(frozen=True, slots=True)
class Photo:
    """One photo file and what is known about it without looking at its pixels."""

    path: str
    """Path as the collection knows it: relative to its root, "/" as separator."""
    content: str = ""
    """BLAKE2b-128 of the file's bytes, 32 hex digits; empty where not read."""
    point: GeoPoint | None = None
    plane: PlanePoint | None = None
    point_source: str = ""
    """Where the position came from: exif, name, csv, geojson, sidecar, or empty."""
    heading_deg: float | None = None
    """Viewing direction, degrees clockwise from true north (from magnetic north where
    `heading_is_magnetic`)."""
    heading_is_magnetic: bool = False
    error_m: float | None = None
    """Horizontal positioning error the camera reported, metres."""
    time: datetime | None = None
    """Time of capture; with a time zone only where the photo states one."""
    width: int = 0
    height: int = 0
    size_bytes: int = 0
    mtime_ns: int = 0
    ctime_ns: int = 0
    """When the file, or what the system keeps about it, last changed; unlike `mtime_ns` nobody can
    put it back. 0: not known."""


class SkippedPhoto(NamedTuple):
    """A file that was left out, and why."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class PairEvidence:
    """What a pair scorer found between a query and one candidate."""

    similarity: float
    """What candidates are re-ordered by; larger is better, 0 for nothing."""
    num_matches: int = 0
    num_inliers: int | None = 0
    """Matches that fit one geometry; None where none was looked for: scorers that match no points,
    comparisons cut short."""
    coverage: float = 0.0
    """Share of the query's 4 x 4 cells that hold an inlier; of the two images the smaller share."""
    num_keypoints: int = 0
    """Keypoints of the image that has fewer."""
    is_stopped: bool = False
    """Whether the comparison was cut short because the candidate could not come first any more; its
    inliers are not known then."""
    surprise: float | None = None
    """Minus log10 of how many geometries as good as this chance would give; None where no geometry
    was looked for."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Match:
    """Which points of two images belong together. Points are x, y in pixels of the original images;
    pixel centres are integers."""

    points0: np.ndarray
    """(M, 2) float64 points of the first image."""
    points1: np.ndarray
    """(M, 2) float64 the points of the second image that belong to them."""
    is_inlier: np.ndarray
    """(M,) bool: which pairs fit the geometry."""
    model: str
    """homography, affine, similarity or fundamental."""
    matrix: np.ndarray | None
    """(3, 3) from the first to the second image, or the fundamental matrix. None where there is
    none."""
    size0_px: tuple[int, int]
    """Width and height of the first image."""
    size1_px: tuple[int, int]
    num_keypoints: tuple[int, int] = (0, 0)
    """Keypoints found in each image."""
    coverage: float = 0.0
    """Share of 4 x 4 cells that hold an inlier, of the two images the smaller."""
    reason: str = ""
    """Why there is no geometry; empty where there is one."""
    confidence: float | None = None
    """Probability that both show the same thing, of pairs half of which do; None where nothing
    calibrated it."""
    surprise: float = 0.0
    """Minus log10 of how many geometries as good as this chance would give: about 0 for chance."""

    @property
    def is_match(self) -> bool:
        """Whether they are taken to show the same thing: there is a geometry that chance does not
        give."""
        return self.matrix is not None

    @property
    def num_matches(self) -> int:
        return len(self.points0)

    @property
    def num_inliers(self) -> int:
        return int(self.is_inlier.sum())

    def __repr__(self) -> str:
        return (
            f"<Match: {self.num_inliers} inliers of {self.num_matches} matches, "
            f"{self.model}{self.reason and f'; {self.reason}'}>"
        )


class PointPairs(NamedTuple):
    """What a matcher finds on two images, before any geometry. Points are x, y in pixels of the
    images as they were prepared."""

    points0: np.ndarray
    """(M, 2) float64."""
    points1: np.ndarray
    """(M, 2) the points of the second image that belong to them."""
    size0_px: tuple[int, int]
    """Width and height of the first image as prepared."""
    size1_px: tuple[int, int]
    num_keypoints: tuple[int, int]
    """Keypoints found in each image; of matchers without keypoints the number of matches."""
    confidences: np.ndarray | None = None
    """(M,) from 0 to 1 where the matcher has them; not comparable between matchers."""


@dataclass(frozen=True, slots=True, repr=False)
class Candidate:
    """A database photo returned for a query."""

    photo: str
    rank: int
    """1 for the best."""
    similarity: float
    row: int = -1
    """Row of the photo in the database's table."""
    point: GeoPoint | None = None
    heading_deg: float | None = None
    num_inliers: int | None = None
    """Inliers of the geometric check; None where none was made."""
    confidence: float | None = None
    """Probability that it shows the query's place; None where nothing calibrated it."""
    retrieved_rank: int | None = None
    """Rank before re-ranking; None where nothing was re-ranked."""
    evidence: PairEvidence | None = None
    """What the comparison with the query found; None where none was made."""

    @property
    def is_passed_over(self) -> bool:
        """Whether it was not compared to the end because it could not come first any more."""
        return self.evidence is not None and self.evidence.is_stopped

    def to_dict(self) -> dict[str, Any]:
        """Plain values, in degrees where there are coordinates."""
        counts = ("retrieved_rank", "num_inliers", "confidence", "is_passed_over")
        return {**_fields(self, "photo", "rank", "similarity", *counts), **_place(self.point)}

    def __repr__(self) -> str:
        found = "" if self.num_inliers is None else f", {self.num_inliers} inliers"
        return (
            f"<Candidate {self.rank}: {self.photo!r}{_at(self.point)}, similarity "
            f"{self.similarity:.3f}{found}>"
        )


@dataclass(frozen=True, slots=True)
class CalibrationKey:
    """What a calibration depends on: used with anything else its numbers mean nothing."""

    descriptor: str
    """Card of the descriptor that found the candidates."""
    scorer: str
    """Card of the pair scorer."""
    image_side_px: int
    """Long side at which the scorer reads photos; 0 for their own size."""
    settings: str
    """The scorer's own settings, the geometry's among them."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """How evidence becomes a probability, and the spread of candidates a radius; fitted by
    `whence.evaluation.confidence`."""

    key: CalibrationKey
    with_points: tuple[float, ...]
    """Bias, then one weight per evidence feature (`whence.localize.verify.FEATURES`), where
    candidates have coordinates."""
    without_points: tuple[float, ...]
    """The same where they have none."""
    radius_factor: float
    """The 90 % radius over the candidates' own scale (`whence.localize.position`)."""
    min_confidence: float = 0.9
    """Probability from which an answer is given."""
    min_confidence_without_points: float = 0.9
    """The same where candidates have no coordinates."""
    prior: float = 0.8
    """Share of queries taken to lie where the database has photos."""
    num_genuine: int = 0
    num_impostors: int = 0
    source: str = ""
    """What it was fitted on."""


@dataclass(frozen=True, slots=True)
class Verification:
    """Whether the first candidate shows the place."""

    confidence: float
    is_accepted: bool
    reason: str = ""
    """Why not; empty where it is accepted."""


@dataclass(frozen=True, slots=True)
class BestGuess:
    """Where the photo would be if the best candidate were right: for an answer `unknown`, apart
    from it."""

    photo: str
    point: GeoPoint | None
    radius_m: float | None = None
    confidence: float | None = None


@dataclass(frozen=True, slots=True, repr=False)
class Position:
    """The answer for one query.

    `located`: a place with coordinates. `matched`: the place is the matched photo, which has no
    coordinates. `unknown`: no answer is given; `candidates` still hold the best guesses.
    """

    query: str
    status: PositionStatus
    point: GeoPoint | None = None
    radius_m: float | None = None
    """Radius around `point` that holds the true place; None where nothing calibrated it."""
    heading_deg: float | None = None
    confidence: float | None = None
    """Probability that the answer is right; None where nothing calibrated it."""
    candidates: tuple[Candidate, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    """Wall-clock seconds by stage."""
    reason: str = ""
    best_guess: BestGuess | None = None
    """Where the status is `unknown` although there are candidates: what the best of them would
    mean."""
    is_verified: bool = False
    """Whether the answer rests on a geometric check with a calibrated confidence."""
    scorer: str = ""
    """The scorer whose evidence decided; empty where nothing was verified."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as `whence locate --json` prints them; numbers that are not finite are
        None."""
        place = {**_place(self.point), **_fields(self, "radius_m", "heading_deg")}
        guess = self.best_guess
        about = (
            {}
            if guess is None
            else {
                "photo": guess.photo,
                **_place(guess.point),
                **_fields(guess, "radius_m", "confidence"),
            }
        )
        return {
            **_fields(self, "query", "status", "confidence", "is_verified", "scorer"),
            "position": None if self.point is None else place,
            "best_guess": about or None,
            "candidates": [candidate.to_dict() for candidate in self.candidates],
            "seconds": {stage: round(spent, 4) for stage, spent in self.seconds.items()},
            "reason": self.reason,
        }

    def to_json(self) -> str:
        """One line of JSON with the values of `to_dict`."""
        return json.dumps(self.to_dict(), ensure_ascii=False, allow_nan=False)

    def __repr__(self) -> str:
        radius = "" if self.radius_m is None else f" within {self.radius_m:.0f} m"
        sure = "" if self.confidence is None else f", confidence {self.confidence:.2f}"
        return (
            f"<Position of {self.query!r}: {self.status}{_at(self.point)}{radius}{sure}, "
            f"{len(self.candidates)} candidates>"
        )


def _at(point: GeoPoint | None) -> str:
    return "" if point is None else f" at {point.lat:.6f}, {point.lon:.6f}"


def _place(point: GeoPoint | None) -> dict[str, float | None]:
    return {
        "lat": None if point is None else point.lat,
        "lon": None if point is None else point.lon,
    }


def _fields(record: object, *names: str) -> dict[str, Any]:
    values = {name: getattr(record, name) for name in names}
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in values.items()
    }


class Neighbors(NamedTuple):
    """Result of a search: for Q queries the K most similar ids, best first. K is at most the number
    of ids searched."""

    ids: np.ndarray
    """(Q, K) int64."""
    similarities: np.ndarray
    """(Q, K) float32; larger is better."""
