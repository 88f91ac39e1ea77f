"""Long texts as short segments, and what they were compressed to, kept by content. No torch here.

A segment is compressed by itself, so what it became holds in every text that has it.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from whence.errors import UnreadableTable, UnwritableFile

_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS segments (key BLOB PRIMARY KEY, width INTEGER NOT NULL, numbers "
    "BLOB NOT NULL) WITHOUT ROWID"
)
_AT_ONCE = 500


def segment(ids: Sequence[int], length: int) -> list[tuple[int, ...]]:
    """The ids cut every `length` of them; the last part may be shorter."""
    return [tuple(ids[start : start + length]) for start in range(0, len(ids), length)]


def segment_records(records: Iterable[Sequence[int]], length: int) -> list[tuple[int, ...]]:
    """Records one after the other in segments of at most `length` ids, no record cut in two but
    those that are longer."""
    found: list[tuple[int, ...]] = []
    now: list[int] = []
    for record in records:
        if len(now) + len(record) > length and now:
            found.append(tuple(now))
            now = []
        if len(record) > length:
            found += segment(record, length)
        else:
            now += record
    return [*found, tuple(now)] if now else found


def num_kept(num: int, rate: int) -> int:
    """How many vectors a segment of so many ids becomes."""
    return -(-num // rate)


class SegmentCache:
    """Vectors (k, d) float32 of segments, by a digest of the model and the ids; in memory, or in a
    file that others share."""

    def __init__(self, rows: sqlite3.Connection, path: Path | None) -> None:
        self._rows, self.path = rows, path
        self.num_found = self.num_missed = 0
        """Segments that were there, and that were not."""

    @classmethod
    def of_file(cls, path: str | Path | None = None) -> SegmentCache:
        """The cache of a file, made where there is none; in memory without. Raises
        `UnreadableTable` and `UnwritableFile`."""
        file = None if path is None else Path(path)
        try:
            rows = sqlite3.connect(
                ":memory:" if file is None else file, timeout=30, isolation_level=None
            )
            rows.execute(_SCHEMA)
        except sqlite3.DatabaseError as error:
            if file is not None and "not a database" in str(error):
                raise UnreadableTable(file, "not a cache of segments") from None
            raise UnwritableFile(file or Path(), str(error)) from None
        return cls(rows, file)

    def find(
        self, model: str, segments: Iterable[tuple[int, ...]]
    ) -> dict[tuple[int, ...], np.ndarray]:
        """Those of the segments that are there."""
        asked = {_key(model, one): one for one in segments}
        found, keys = {}, list(asked)
        for start in range(0, len(keys), _AT_ONCE):
            part = keys[start : start + _AT_ONCE]
            sql = (
                "SELECT key, width, numbers FROM segments WHERE key IN "
                f"({','.join('?' * len(part))})"
            )
            for key, width, numbers in self._rows.execute(sql, part):
                found[asked[key]] = np.frombuffer(numbers, np.float32).reshape(-1, width)
        self.num_found += len(found)
        self.num_missed += len(asked) - len(found)
        return found

    def keep(self, model: str, vectors: Mapping[tuple[int, ...], np.ndarray]) -> None:
        """Keep what segments became, all of them or none. Raises `UnwritableFile`."""
        rows = [
            (_key(model, one), array.shape[1], array.astype(np.float32).tobytes())
            for one, array in vectors.items()
        ]
        try:
            self._rows.execute("BEGIN IMMEDIATE")
            self._rows.executemany("INSERT OR REPLACE INTO segments VALUES (?, ?, ?)", rows)
            self._rows.execute("COMMIT")
        except sqlite3.Error as error:
            raise UnwritableFile(self.path or Path(), str(error)) from None

    def __len__(self) -> int:
        return int(self._rows.execute("SELECT count(*) FROM segments").fetchone()[0])

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


def _key(model: str, ids: tuple[int, ...]) -> bytes:
    return hashlib.blake2b(
        model.encode() + b"\0" + np.array(ids, np.int64).tobytes(), digest_size=16
    ).digest()
