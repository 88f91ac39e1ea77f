"""Ranked candidates for described queries: search, geographic filter, and one candidate per photo
rather than per descriptor."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from whence.data.photos import Photos
from whence.errors import BadOption
from whence.geo import Box as GeoBox
from whence.geo import to_earth_centred
from whence.index.addresses import Box
from whence.index.remote import RemoteIndex
from whence.index.vectors import Index, common_ids
from whence.models.asking import Question
from whence.types import Candidate, GeoPoint

_LEAST_RADIUS_M = 6_356_000.0
"""Below the earth's radius at the poles."""


@dataclass(frozen=True, slots=True)
class Around:
    """A geographic filter: only photos within `within_m` of `near`."""

    near: GeoPoint
    within_m: float

    def __post_init__(self) -> None:
        if not self.within_m > 0:
            raise BadOption(
                f"the radius of a geographic filter must be positive, not {self.within_m}"
            )

    def box(self) -> tuple[float, float, float, float]:
        """South, west, north and east in degrees around all of it; west is above east across the
        date line."""
        box = self._box()
        return box.south, box.west, box.north, box.east

    def _box(self) -> GeoBox:
        # What lies so near through the earth lies somewhat further along it; the pole's radius
        # makes most of that.
        along = 2 * _LEAST_RADIUS_M * math.asin(min(self.within_m / (2 * _LEAST_RADIUS_M), 1.0))
        return GeoBox.around(self.near, radius_m=along)

    def allows(self, photos: Photos) -> np.ndarray:
        """Which photos (N,) lie inside, as a mask; those without coordinates do not."""
        return self.holds(photos.lat, photos.lon)

    def holds(self, lat: np.ndarray, lon: np.ndarray) -> np.ndarray:
        """Which places (N,) lie inside, as a mask."""
        # NaN lies in no box: no coordinates, not inside.
        inside = self._box().contains(lat, lon)
        # Of a planet's photos few are in the box, and only they are measured.
        rows = np.flatnonzero(inside)
        here = to_earth_centred(np.array(self.near.lat), np.array(self.near.lon))
        gaps = to_earth_centred(lat[rows], lon[rows]) - here
        inside[rows] = np.sqrt(np.einsum("nd,nd->n", gaps, gaps)) <= self.within_m
        return inside


class Retriever:
    """Finds candidates in one database: its photos, the descriptor row of each, and an index over
    those rows."""

    def __init__(self, photos: Photos, descriptor_rows: np.ndarray, index: Index) -> None:
        self.photos = photos
        self.index = index
        usable = np.flatnonzero(descriptor_rows >= 0)
        order = usable[np.argsort(descriptor_rows[usable], kind="stable")]
        self._photo_rows = order
        self._descriptor_rows = descriptor_rows[order]
        self._all_rows = np.unique(self._descriptor_rows)

    def retrieve(
        self, descriptors: np.ndarray, *, k: int, around: Around | None = None
    ) -> tuple[tuple[Candidate, ...], ...]:
        """For each query descriptor (Q, D) up to `k` candidates, best first; photos with one
        content share their similarity."""
        return self._retrieve(descriptors, k=k, around=around, question=None)

    def ask(
        self,
        question: Question,
        *,
        k: int,
        around: Around | None = None,
        within: np.ndarray | None = None,
    ) -> tuple[Candidate, ...]:
        """Up to `k` candidates for one query, best first, whatever it asks with; only descriptor
        rows among `within`, ascending."""
        return self._retrieve(question.rows, k=k, around=around, question=question, within=within)[
            0
        ]

    def _retrieve(
        self,
        descriptors: np.ndarray,
        *,
        k: int,
        around: Around | None,
        question: Question | None,
        within: np.ndarray | None = None,
    ) -> tuple[tuple[Candidate, ...], ...]:
        if k < 1:
            raise BadOption(f"k must be at least 1, not {k}")
        photo_rows, descriptor_rows, searched = (
            self._photo_rows,
            self._descriptor_rows,
            self._all_rows,
        )
        if around is not None:
            inside = around.allows(self.photos)[photo_rows]
            photo_rows, descriptor_rows = photo_rows[inside], descriptor_rows[inside]
            searched = np.unique(descriptor_rows)
        if within is not None:
            searched = common_ids(within, searched)
        is_whole = len(searched) == self.index.num_vectors
        allowed = None if is_whole else searched
        if around is not None and isinstance(self.index, RemoteIndex):
            box = Box(*around.box())
            found = self.index.search(descriptors, k=k, allowed=allowed, box=box)
        else:
            found = self.index.search(descriptors, k=k, allowed=allowed)
        if question is not None:
            found = question.merge(found, k=k)
        first = np.searchsorted(descriptor_rows, found.ids, side="left")
        last = np.searchsorted(descriptor_rows, found.ids, side="right")
        return tuple(
            self._candidates(photo_rows, first[q], last[q], found.similarities[q], k=k)
            for q in range(len(found.ids))
        )

    def _candidates(
        self,
        photo_rows: np.ndarray,
        first: np.ndarray,
        last: np.ndarray,
        similarities: np.ndarray,
        *,
        k: int,
    ) -> tuple[Candidate, ...]:
        rows = [
            (row, s)
            for a, b, s in zip(first, last, similarities, strict=True)
            for row in photo_rows[a:b]
        ][:k]
        return tuple(
            candidate_of(self.photos, int(row), rank=rank, similarity=float(s))
            for rank, (row, s) in enumerate(rows, start=1)
        )


def candidate_of(photos: Photos, row: int, *, rank: int, similarity: float) -> Candidate:
    """The database photo of a row as a candidate."""
    columns = photos.columns
    lat, heading = float(columns["lat"][row]), float(columns["heading_deg"][row])
    return Candidate(
        photo=photos.paths[row],
        rank=rank,
        similarity=similarity,
        row=row,
        point=GeoPoint(lat, float(columns["lon"][row])) if np.isfinite(lat) else None,
        heading_deg=heading if np.isfinite(heading) else None,
    )
