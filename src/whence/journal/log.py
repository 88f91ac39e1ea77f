"""The table of answers: SQLite, one row an answer, one transaction an append, so that a kill loses
nothing that was written.

Rows are found by time, by place (strips of latitude, longitude within them), and by how sure they
are. SQLite is part of Python.
"""

from __future__ import annotations

import json
import math
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np

from whence.errors import StoreLocked, UnreadableTable, UnwritableFile
from whence.geo import distances_m
from whence.journal.question import CELLS_PER_DEGREE, Clause, Question, boxes, conditions
from whence.localize.records import position_of
from whence.runtime import check_place
from whence.types import Position

SURE = 0.9
"""Confidence from which an answer counts as sure."""
_APPLICATION, _VERSION = 0x77686E63, 1
_MANY = 20_000
"""Rows around a place, above which they are gone through by time instead: where so many are, some
are recent."""
_STEP = 5_000
_COLUMNS = (
    *(
        "at",
        "asked_at",
        "taken_at",
        "query",
        "status",
        "strip",
        "lat",
        "lon",
        "radius_m",
        "heading_deg",
        "confidence",
    ),
    *(
        "is_verified",
        "is_unsure",
        "scorer",
        "reason",
        "best_photo",
        "similarity",
        "num_inliers",
        "guess",
        "weather",
        "model",
        "store",
    ),
)
_SCHEMA = """
CREATE TABLE answers (
  id INTEGER PRIMARY KEY, at REAL NOT NULL, asked_at REAL NOT NULL, taken_at REAL,
  query TEXT NOT NULL, status TEXT NOT NULL, strip INTEGER, lat REAL, lon REAL, radius_m REAL,
  heading_deg REAL, confidence REAL, is_verified INTEGER NOT NULL, is_unsure INTEGER NOT NULL,
  scorer TEXT NOT NULL, reason TEXT NOT NULL, best_photo TEXT, similarity REAL, num_inliers INTEGER,
  guess TEXT, weather TEXT NOT NULL, model TEXT NOT NULL, store TEXT NOT NULL
);
CREATE INDEX by_time ON answers (at);
CREATE INDEX by_place ON answers (strip, lon, lat, at);
CREATE INDEX by_sureness ON answers (is_unsure, at);
CREATE INDEX by_status ON answers (status, at);
"""


@dataclass(frozen=True, slots=True)
class Entry:
    """One row: an answer, and when, by what and in which weather it was given."""

    number: int
    """Counted from 1, in the order of appending."""
    at: float
    """When the photo was taken, where that is known, else when it was asked; seconds since 1970,
    UTC."""
    asked_at: float
    taken_at: float | None
    position: Position
    """With its best candidate alone."""
    weather: str = ""
    """As it was given with the photo; empty for none."""
    model: str = ""
    store: str = ""
    """Name of the database that was asked."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as `whence journal --json` prints them."""
        about = {
            "number": self.number,
            "at": self.at,
            "asked_at": self.asked_at,
            "taken_at": self.taken_at,
        }
        return {
            **about,
            "weather": self.weather,
            "model": self.model,
            "database": self.store,
            **self.position.to_dict(),
        }


class Found(NamedTuple):
    """What a question found."""

    entries: tuple[Entry, ...]
    """In the order asked for, at most `limit`; none where a count is wanted."""
    total: int
    """How many rows there are, or have been met."""
    is_counted: bool = True
    """Whether that is all of them: where very many lie around a place, none is looked for beyond
    those asked for."""


class Journal:
    """A file of answers. `Journal.open` makes one where there is none."""

    def __init__(self, path: Path, rows: sqlite3.Connection) -> None:
        self.path, self._rows = path, rows

    @classmethod
    def open(cls, path: str | Path, *, is_new: bool = True) -> Journal:
        """The journal of a file, made where there is none and `is_new` says so.

        Raises `UnreadableTable` for another file, or for none, `StoreLocked` and `UnwritableFile`.
        """
        file = Path(path)
        if not file.is_file():
            if not is_new:
                raise UnreadableTable(
                    file, "there is no such journal; whence locate PHOTOS --journal FILE begins one"
                )
            check_place(file)
        try:
            rows = sqlite3.connect(file, timeout=30, isolation_level=None)
            journal = cls(file, rows)
            journal._begin()
        except sqlite3.Error as error:
            raise _told(error, file) from None
        return journal

    def _begin(self) -> None:
        found = self._rows.execute("PRAGMA application_id").fetchone()[0]
        version = self._rows.execute("PRAGMA user_version").fetchone()[0]
        if not found and not self._rows.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            self._rows.execute("PRAGMA journal_mode=WAL")
            self._rows.executescript(
                f"BEGIN IMMEDIATE; PRAGMA application_id={_APPLICATION}; PRAGMA "
                f"user_version={_VERSION};{_SCHEMA}COMMIT;"
            )
        elif found != _APPLICATION:
            raise UnreadableTable(
                self.path, "a database of another program, not a journal of answers"
            )
        elif version != _VERSION:
            raise UnreadableTable(
                self.path, f"a journal of version {version}; this Whence reads {_VERSION}"
            )
        self._rows.execute("PRAGMA synchronous=FULL")

    def append(
        self,
        positions: Iterable[Position],
        *,
        asked_at: float | None = None,
        taken_at: float | Sequence[float | None] | None = None,
        weather: str = "",
        model: str = "",
        store: str = "",
    ) -> int:
        """The number of answers that were added, all of them or none; by then they are on the disk.

        Times are seconds since 1970, UTC: when was asked (now, if not said), and when photos were
        taken, one for all or one each. Raises `StoreLocked` where another process writes for half a
        minute, and `UnwritableFile`.
        """
        now = time.time() if asked_at is None else asked_at
        answers = list(positions)
        taken = list(taken_at) if isinstance(taken_at, Sequence) else [taken_at] * len(answers)
        rows = [
            (now if when is None else when, now, when, *_row(one), weather, model, store)
            for one, when in zip(answers, taken, strict=True)
        ]
        marks = ",".join("?" * len(_COLUMNS))
        try:
            self._rows.execute("BEGIN IMMEDIATE")
            try:
                self._rows.executemany(
                    f"INSERT INTO answers ({','.join(_COLUMNS)}) VALUES ({marks})", rows
                )
            except BaseException:
                self._rows.execute("ROLLBACK")
                raise
            self._rows.execute("COMMIT")
        except sqlite3.Error as error:
            raise _told(error, self.path) from None
        return len(rows)

    def ask(self, question: Question) -> Found:
        """The entries that a question finds. Raises `UnreadableTable` for a damaged file."""
        try:
            return (
                self._found_near(question) if question.near is not None else self._found(question)
            )
        except sqlite3.Error as error:
            raise _told(error, self.path) from None

    def __len__(self) -> int:
        return int(self._rows.execute("SELECT count(*) FROM answers").fetchone()[0])

    def __iter__(self) -> Iterator[Entry]:
        for row in self._rows.execute("SELECT * FROM answers ORDER BY id"):
            yield _entry(row)

    def _found(self, question: Question) -> Found:
        where = conditions(question)
        # Rows are never taken away: without a condition the last one's number says how many there
        # are.
        counted = (
            f"count(*) FROM answers WHERE {where.text}"
            if where.values
            else "coalesce(max(id), 0) FROM answers"
        )
        (count,) = self._rows.execute(f"SELECT {counted}", where.values).fetchone()
        if question.wants == "count":
            return Found((), count)
        rows = self._rows.execute(
            f"SELECT * FROM answers WHERE {where.text} ORDER BY {_order(question)} LIMIT ?",
            (*where.values, question.limit),
        )
        return Found(tuple(map(_entry, rows)), count)

    def _found_near(self, question: Question) -> Found:
        """Rows around a place: those of its strips, exactly measured, or where these are very many,
        all by time."""
        assert question.near is not None
        where, around = conditions(question), boxes(question.near, question.within_m)
        if around is not None and not self._is_short(question):
            sql = (
                f"SELECT id, at, lat, lon FROM answers INDEXED BY by_place WHERE {around.text} "
                f"AND {where.text} LIMIT ?"
            )
            rows = self._rows.execute(sql, (*around.values, *where.values, _MANY + 1)).fetchall()
            if len(rows) <= _MANY:
                return self._chosen(rows, question)
        return self._by_time(question, where)

    def _is_short(self, question: Question) -> bool:
        """Whether the time asked for holds so few rows that these are gone through at once."""
        if question.since is None and question.until is None:
            return False
        where = conditions(Question(since=question.since, until=question.until))
        sql = f"SELECT count(*) FROM (SELECT 1 FROM answers WHERE {where.text} LIMIT ?)"
        return int(self._rows.execute(sql, (*where.values, _MANY + 1)).fetchone()[0]) <= _MANY

    def _chosen(self, rows: list[tuple[Any, ...]], question: Question) -> Found:
        near = [
            row
            for row, is_near in zip(rows, self._are_near(rows, question), strict=True)
            if is_near
        ]
        if question.wants == "count":
            return Found((), len(near))
        near.sort(key=lambda row: (row[1], row[0]), reverse=question.order == "latest")
        return Found(tuple(self._entry_of(row[0]) for row in near[: question.limit]), len(near))

    def _by_time(self, question: Question, where: Clause) -> Found:
        found, total = list[int](), 0
        order = (
            f"SELECT id, at, lat, lon FROM answers WHERE lat IS NOT NULL AND {where.text} ORDER "
            f"BY {_order(question)}"
        )
        asked = self._rows.execute(order, where.values)
        while rows := asked.fetchmany(_STEP):
            near = [
                row[0]
                for row, is_near in zip(rows, self._are_near(rows, question), strict=True)
                if is_near
            ]
            total += len(near)
            found += near[: max(0, question.limit - len(found))]
            if question.wants == "rows" and len(found) == question.limit:
                return Found(tuple(map(self._entry_of, found)), total, is_counted=False)
        if question.wants == "count":
            return Found((), total)
        return Found(tuple(map(self._entry_of, found)), total)

    def _are_near(self, rows: Sequence[tuple[Any, ...]], question: Question) -> np.ndarray:
        assert question.near is not None
        if not rows:
            return np.zeros(0, bool)
        lat, lon = np.array([row[2] for row in rows]), np.array([row[3] for row in rows])
        return np.asarray(distances_m(lat, lon, question.near) <= question.within_m)

    def _entry_of(self, number: int) -> Entry:
        return _entry(
            self._rows.execute("SELECT * FROM answers WHERE id = ?", (number,)).fetchone()
        )

    def close(self) -> None:
        """Let the file go."""
        self._rows.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def is_unsure(position: Position) -> bool:
    """Whether an answer is unsure: `unknown`, or with a confidence below `SURE`, or with none."""
    return position.status == "unknown" or position.confidence is None or position.confidence < SURE


def _order(question: Question) -> str:
    return "at DESC, id DESC" if question.order == "latest" else "at, id"


def _row(one: Position) -> tuple[Any, ...]:
    """From `query` to `guess`."""
    place = one.point
    best = one.candidates[0] if one.candidates else None
    guess = one.to_dict()["best_guess"]
    return (
        *(one.query, one.status),
        *(
            (None,) * 3
            if place is None
            else (math.floor(place.lat * CELLS_PER_DEGREE), place.lat, place.lon)
        ),
        *(
            _finite(one.radius_m),
            _finite(one.heading_deg),
            _finite(one.confidence),
            int(one.is_verified),
            int(is_unsure(one)),
        ),
        *(one.scorer, one.reason),
        *(
            (None,) * 3
            if best is None
            else (best.photo, _finite(best.similarity), best.num_inliers)
        ),
        None if guess is None else json.dumps(guess),
    )


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _entry(row: Sequence[Any]) -> Entry:
    number, values = row[0], dict(zip(_COLUMNS, row[1:], strict=True))
    best = values["best_photo"]
    place = {name: values[name] for name in ("lat", "lon", "radius_m", "heading_deg")}
    record = {
        **{name: values[name] for name in ("query", "status", "reason", "scorer", "confidence")},
        "is_verified": bool(values["is_verified"]),
        "position": place if values["lat"] is not None else {},
        "best_guess": json.loads(values["guess"]) if values["guess"] else None,
        "candidates": []
        if best is None
        else [
            {
                "photo": best,
                "rank": 1,
                "similarity": values["similarity"],
                "num_inliers": values["num_inliers"],
            }
        ],
    }
    times = {name: values[name] for name in ("at", "asked_at", "taken_at")}
    about = {name: values[name] for name in ("weather", "model", "store")}
    return Entry(number=number, position=position_of(record), **times, **about)


def _told(error: sqlite3.Error, file: Path) -> Exception:
    said = str(error)
    if "locked" in said or "busy" in said:
        return StoreLocked(
            file, "another process writes to this journal; try again when it is done"
        )
    if "not a database" in said or "malformed" in said or "no such" in said:
        return UnreadableTable(file, f"not a journal of answers, or a damaged one ({said})")
    return UnwritableFile(file, said)
