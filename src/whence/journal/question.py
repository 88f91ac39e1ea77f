"""What is asked of a journal, as values, and how it is put to the table. Every answer is a row;
nothing is guessed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

from whence.errors import BadOption
from whence.geo import Box
from whence.types import GeoPoint

CELLS_PER_DEGREE = 1000
"""Rows of the table know in which strip of latitude, about 111 m high, they lie."""
MOST_STRIPS = 500
"""Around a place as many strips are looked through one by one; farther around, all rows are."""


@dataclass(frozen=True, slots=True)
class Question:
    """Which rows are meant, and in which order. Times are seconds since 1970, UTC."""

    near: GeoPoint | None = None
    within_m: float = 50.0
    since: float | None = None
    """From then on ..."""
    until: float | None = None
    """... and before then."""
    status: str = ""
    """`located`, `matched` or `unknown`; empty for all."""
    is_unsure: bool | None = None
    """Whether answers were unsure: `unknown`, or with less confidence than the journal's bound, or
    with none."""
    is_verified: bool | None = None
    weather: str = ""
    wants: Literal["rows", "count"] = "rows"
    order: Literal["latest", "earliest"] = "latest"
    limit: int = 20

    def __post_init__(self) -> None:
        if self.within_m <= 0:
            raise BadOption(f"within {self.within_m:g} m of a place there is nothing")
        if self.limit < 1:
            raise BadOption(f"{self.limit} answers are not possible; ask for 1 or more")
        if self.status not in ("", "located", "matched", "unknown"):
            raise BadOption(f"an answer is located, matched or unknown, not {self.status!r}")
        if self.since is not None and self.until is not None and self.since >= self.until:
            raise BadOption("the time that is asked for ends before it begins")


class Clause(NamedTuple):
    """A condition of SQL with its values, which are bound and never written into it."""

    text: str
    values: tuple[object, ...]


def conditions(question: Question) -> Clause:
    """Conditions that a row must meet beside its place."""
    parts: list[tuple[str, object]] = []
    if question.since is not None:
        parts.append(("at >= ?", question.since))
    if question.until is not None:
        parts.append(("at < ?", question.until))
    if question.status:
        parts.append(("status = ?", question.status))
    if question.is_unsure is not None:
        parts.append(("is_unsure = ?", int(question.is_unsure)))
    if question.is_verified is not None:
        parts.append(("is_verified = ?", int(question.is_verified)))
    if question.weather:
        parts.append(("weather = ?", question.weather))
    return Clause(
        " AND ".join(text for text, _ in parts) or "1", tuple(value for _, value in parts)
    )


def boxes(near: GeoPoint, within_m: float) -> Clause | None:
    """Strips of latitude and stretches of longitude that hold all that lies so near; None where
    strips would be too many."""
    box = Box.around(near, radius_m=within_m)
    south, west, north, east = box.south, box.west, box.north, box.east
    first, last = (math.floor(lat * CELLS_PER_DEGREE) for lat in (south, north))
    if last - first >= MOST_STRIPS:
        return None
    strips = ",".join("?" * (last - first + 1))
    values: tuple[object, ...] = tuple(range(first, last + 1))
    stretch = "lon BETWEEN ? AND ?" if west <= east else "(lon >= ? OR lon <= ?)"
    return Clause(f"strip IN ({strips}) AND {stretch}", (*values, west, east))
