"""Ranked answers as files: a CSV with similarities, and hloc pairs.

CSV: header `query,rank,photo,similarity`, best first; a query without candidates has one line with
the other fields empty. hloc pairs: "query_path database_path", one pair a line, best first.
"""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, Protocol

from whence.data.fields import safe_fields
from whence.data.formats import EvaluationSet
from whence.data.photos import Photos
from whence.data.tables import Row, plain_name, read_rows, read_text, sniff_delimiter
from whence.errors import InputError, UnreadableTable
from whence.runtime import atomic_write
from whence.types import Candidate

_HEADER = ("query", "rank", "photo", "similarity")

PAIRS_SUFFIX = ".txt"
"""The end of the name of a file of hloc pairs; any other one is a CSV file of predictions."""


class Ranked(NamedTuple):
    """A query and the database photos returned for it, best first."""

    query: str
    candidates: tuple[Candidate, ...]


class HasCandidates(Protocol):
    """What can be written as predictions: `Ranked`, and `Position` of `whence.types`."""

    @property
    def query(self) -> str: ...

    @property
    def candidates(self) -> tuple[Candidate, ...]: ...


def write_predictions(path: str | Path, ranked: Iterable[HasCandidates]) -> None:
    """Write ranked candidates as CSV."""
    with atomic_write(path, "w") as file:
        writer = csv.writer(file)
        writer.writerow(_HEADER)
        for one in ranked:
            if not one.candidates:
                writer.writerow(safe_fields((one.query, "", "", "")))
            for candidate in one.candidates:
                similarity = (
                    "" if math.isnan(candidate.similarity) else repr(float(candidate.similarity))
                )
                writer.writerow(
                    safe_fields((one.query, candidate.rank, candidate.photo, similarity))
                )


def read_predictions(path: str | Path) -> tuple[Ranked, ...]:
    """Ranked candidates from CSV, queries in the order of their first line, candidates by rank; a
    missing similarity is NaN.

    Raises `UnreadableTable` with the line.
    """
    text = read_text(path)
    rows = read_rows(text, path=path, delimiter=sniff_delimiter(text))
    found: dict[str, list[Candidate]] = {}
    header = next(rows, Row(1, []))
    if tuple(title.strip().lower() for title in header.fields) != _HEADER:
        raise UnreadableTable(path, f"the first line must be {','.join(_HEADER)}", line=header.line)
    for line, fields in rows:
        if len(fields) != len(_HEADER) or not fields[0]:
            raise UnreadableTable(
                path, "a line must have query, rank, photo and similarity", line=line
            )
        candidates = found.setdefault(plain_name(fields[0]), [])
        if any(fields[1:]):
            candidates.append(_candidate(fields, path, line))
    for query, candidates in found.items():
        candidates.sort(key=lambda candidate: candidate.rank)
        if [candidate.rank for candidate in candidates] != list(range(1, len(candidates) + 1)):
            raise UnreadableTable(path, f"the ranks of {query!r} are not 1 to {len(candidates)}")
    return tuple(Ranked(query, tuple(candidates)) for query, candidates in found.items())


@dataclass(frozen=True, slots=True)
class PairNames:
    """What hloc pairs call the photos of a set: from one folder for all, or from the set's own
    folders."""

    queries: Mapping[str, str]
    database: Mapping[str, str]

    @classmethod
    def of(cls, data: EvaluationSet, *, root: str | Path | None = None) -> PairNames:
        """The names of all photos. Raises `InputError` for one with white space, or one that does
        not lie under `root`."""
        return cls(*(photo_names(photos, root) for photos in (data.queries, data.database)))

    def renamed(self, ranked: Iterable[Ranked]) -> Iterator[Ranked]:
        """The same answers under these names."""
        for one in ranked:
            named = tuple(
                replace(candidate, photo=self.database[candidate.photo])
                for candidate in one.candidates
            )
            yield Ranked(self.queries[one.query], named)


def photo_names(photos: Photos, root: str | Path | None) -> dict[str, str]:
    """Names that pairs give the photos: from `root`, or as they are named. Raises `InputError` as
    `PairNames.of` does."""
    names = {}
    for row, path in enumerate(photos.paths):
        name = path
        if root is not None:
            name = os.path.relpath(photos.file(row).absolute(), os.path.abspath(root)).replace(
                os.sep, "/"
            )
            if name.startswith("../"):
                raise InputError(
                    f"{str(photos.file(row))!r} does not lie under {str(root)!r}, which pairs "
                    "shall name it from"
                )
        names[path] = _pair_name(name)
    return names


def _pair_name(name: str) -> str:
    if not name or name.split() != [name]:
        raise InputError(
            f"hloc pairs cannot hold the name {name!r}, because a space ends a name there; rename "
            "it, or write CSV"
        )
    return name


def write_hloc_pairs(path: str | Path, ranked: Iterable[HasCandidates]) -> None:
    """Write ranked candidates as hloc pairs. Raises `InputError` for names with white space, which
    the format cannot hold."""
    with atomic_write(path, "w") as file:
        for one in ranked:
            for candidate in one.candidates:
                file.write(f"{_pair_name(one.query)} {_pair_name(candidate.photo)}\n")


def read_hloc_pairs(path: str | Path) -> tuple[Ranked, ...]:
    """Ranked candidates from hloc pairs, queries in the order of their first line. The format has
    no similarities: they are NaN.

    Raises `UnreadableTable` with the line.
    """
    found: dict[str, list[str]] = {}
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        names = [plain_name(name) for name in line.split()]
        if names and len(names) != 2:
            raise UnreadableTable(
                path, "a line must be two names, separated by a space", line=number
            )
        if names:
            found.setdefault(names[0], []).append(names[1])
    return tuple(Ranked(query, _in_order(photos)) for query, photos in found.items())


def read_ranked(path: str | Path) -> tuple[Ranked, ...]:
    """Predictions of a CSV file, or pairs of a file whose name says so. Raises
    `UnreadableTable`."""
    return read_hloc_pairs(path) if str(path).endswith(PAIRS_SUFFIX) else read_predictions(path)


def _in_order(photos: Sequence[str]) -> tuple[Candidate, ...]:
    return tuple(Candidate(photo, rank, math.nan) for rank, photo in enumerate(photos, start=1))


def _candidate(fields: Sequence[str], path: str | Path, line: int) -> Candidate:
    try:
        rank, similarity = int(fields[1]), float(fields[3]) if fields[3] else math.nan
    except ValueError:
        raise UnreadableTable(
            path, f"rank {fields[1]!r} and similarity {fields[3]!r} must be numbers", line=line
        ) from None
    if rank < 1 or not fields[2]:
        raise UnreadableTable(path, "a candidate needs a rank from 1 and a photo", line=line)
    return Candidate(plain_name(fields[2]), rank, similarity)
