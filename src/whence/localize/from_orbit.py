"""Photos from orbit located in a database of tiles: retrieved at four rotations, then refined to a
footprint, or unknown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from whence.data.footprints import centre_of
from whence.data.images import load_resized
from whence.data.mosaics import TileMosaic
from whence.data.photos import Photos
from whence.data.scan import scan_photos
from whence.data.tiles import parse_footprint_name, tile_boxes
from whence.errors import BadOption, UnreadableImage
from whence.geo import to_earth_centred
from whence.localize.coregister import CoregisterOptions, Coregistration, Find, coregister, finder
from whence.localize.georeference import as_feature, roll_deg
from whence.localize.localizer import Localizer
from whence.models.asking import QueryViews
from whence.parts import Matcher

MIN_INLIERS = 12
"""From so many inliers of the last round on a candidate is taken for right: of SIFT on rendered
ground no wrong one had as many."""
_TURNED = QueryViews("rotations")


@dataclass(frozen=True)
class TileCandidate:
    """A tile that was compared with the photo."""

    photo: str
    similarity: float
    turns: int
    """Quarters, counter-clockwise, by which the photo was turned to look like it."""
    num_inliers: int = 0
    reason: str = ""
    """Why it is no match."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        found = {
            "photo": self.photo,
            "similarity": self.similarity,
            "rotation_deg": 90 * self.turns,
        }
        return {**found, "num_inliers": self.num_inliers, "reason": self.reason}


@dataclass(frozen=True)
class OrbitAnswer:
    """Where a photo from orbit was taken."""

    query: str
    candidates: tuple[TileCandidate, ...]
    """In the order in which they were compared."""
    reason: str = ""
    """Why it is unknown; empty where it is located."""
    footprint: np.ndarray | None = None
    """(4, 2) latitude and longitude of lower left, upper left, upper right and lower right
    corner."""
    tile: str = ""
    """The tile that it was refined in."""
    num_inliers: int = 0
    rms_px: float = 0.0
    row: int = -1
    """The tile's row in the database."""
    matrix: np.ndarray | None = None
    """(3, 3) from the photo, brought to S x S, to the tile's pixels, its top left corner at 0,
    0."""

    @property
    def status(self) -> str:
        """located or unknown."""
        return "unknown" if self.footprint is None else "located"

    def feature(self) -> dict[str, Any]:
        """The answer as a GeoJSON feature, without a geometry where it is unknown."""
        said = {"query": self.query, "status": self.status, "reason": self.reason}
        if self.footprint is None:
            return {"type": "Feature", "geometry": None, "properties": said}
        about = {
            "tile": self.tile,
            "num_inliers": self.num_inliers,
            "rms_px": round(self.rms_px, 3),
        }
        return as_feature(self.footprint, {**said, **about})

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        found: dict[str, Any] = {
            "query": self.query,
            "status": self.status,
            "reason": self.reason,
            "position": None,
        }
        if self.footprint is not None:
            lat, lon = centre_of(self.footprint)
            found["position"] = {"lat": lat, "lon": lon}
            found |= {
                "roll_deg": roll_deg(self.footprint),
                "footprint": self.footprint.tolist(),
                "tile": self.tile,
            }
            found |= {"num_inliers": self.num_inliers, "rms_px": self.rms_px}
        return {**found, "candidates": [one.to_dict() for one in self.candidates]}


def holds_tiles(photos: Photos) -> bool:
    """Whether a database is one of tiles, by its first photo's name."""
    named = parse_footprint_name(photos.paths[0]) if len(photos) else None
    return named is not None and named.tile is not None


class OrbitLocalizer:
    """Locates photos from orbit in a database of tiles."""

    def __init__(
        self,
        localizer: Localizer,
        matcher: Matcher,
        *,
        options: CoregisterOptions = CoregisterOptions(),  # noqa: B008 (an immutable record)
        num_candidates: int = 10,
        min_inliers: int = MIN_INLIERS,
        is_by_place: bool = False,
    ) -> None:
        """`is_by_place`: candidates are the tiles nearest to where the photo says it was taken,
        instead of those that look like it.

        Raises `BadOption` for a database whose photos are no tiles.
        """
        if not holds_tiles(localizer.photos):
            raise BadOption(
                f"{str(localizer.store.path)!r} holds no tiles: their names carry footprints, as "
                "`whence tiles` writes them"
            )
        if num_candidates < 1 or min_inliers < 1:
            raise BadOption("at least one candidate and one inlier are needed")
        self.localizer, self.matcher, self.options = localizer, matcher, options
        self.num_candidates, self.min_inliers, self.is_by_place = (
            num_candidates,
            min_inliers,
            is_by_place,
        )
        photos = localizer.photos
        self._mosaic = TileMosaic(
            photos.paths, lambda row: str(photos.file(row)), side_px=options.side_px
        )

    def locate_many(self, queries: Sequence[str | Path]) -> Iterator[OrbitAnswer]:
        """One answer after the other; a photo that cannot be read is unknown, and says why."""
        for query in queries:
            try:
                yield self.locate(query)
            except UnreadableImage as error:
                yield OrbitAnswer(str(query), (), error.reason)

    def locate(self, query: str | Path) -> OrbitAnswer:
        """The answer for one photo: the first candidate with inliers enough, else unknown. Raises
        `UnreadableImage`."""
        photo = load_resized(query, short_side_px=2 * self.options.side_px)
        compared: list[TileCandidate] = []
        find = finder(self.matcher)
        chosen = self._retrieved(query) if not self.is_by_place else self._near(query)
        if not chosen:
            return OrbitAnswer(
                str(query),
                (),
                "the photo says no place of its own, by which its candidates are chosen",
            )
        for row, similarity, turns in chosen:
            found = self._refined(photo, row, turns, find)
            name = self.localizer.photos.paths[row]
            compared.append(TileCandidate(name, similarity, turns, found.num_inliers, found.reason))
            if found.is_match and found.num_inliers >= self.min_inliers:
                refined = found.footprint, name, found.num_inliers, found.rms_px, row, found.matrix
                return OrbitAnswer(str(query), tuple(compared), "", *refined)
        best = max((one.num_inliers for one in compared), default=0)
        reason = (
            f"none of {len(compared)} tiles matches: at most {best} points agree, "
            f"{self.min_inliers} are asked for"
        )
        return OrbitAnswer(str(query), tuple(compared), reason)

    def surroundings(self, row: int) -> np.ndarray:
        """(3 S, 3 S, 3) uint8 a tile with what the database has around it; black where it has
        nothing."""
        return self._mosaic.surroundings(row)

    def _refined(self, photo: np.ndarray, row: int, turns: int, find: Find) -> Coregistration:
        box = tile_boxes(np.array([self._mosaic.tile_of[row]]))[0]
        return coregister(
            photo, self.surroundings(row), box, find, turns=turns, options=self.options
        )

    def _turned(self, query: str | Path) -> np.ndarray:
        """Descriptors (4, D) of the photo at its quarters."""
        described = next(
            iter(self.localizer.model.query_model.describe_each([query], views=_TURNED))
        )
        if isinstance(described, UnreadableImage):
            raise described
        return described.question.rows

    def _near(self, query: str | Path) -> list[tuple[int, float, int]]:
        """Rows of the tiles nearest to the photo's own place, those that look most like it first;
        none where it says none."""
        own = scan_photos(query, show_progress=False)
        if not own.has_point.any():
            return []
        photos, rows = self.localizer.photos, np.array(sorted(self._mosaic.row_of.values()))
        place, *tiles = (
            to_earth_centred(one.columns["lat"], one.columns["lon"])
            for one in (own, photos.select(rows))
        )
        rows = rows[
            np.argsort(np.linalg.norm(tiles[0] - place[0], axis=1), kind="stable")[
                : self.num_candidates
            ]
        ]
        store = self.localizer.store
        alike = (
            self._turned(query)
            @ np.asarray(store.descriptors[store.descriptor_rows[rows]], np.float32).T
        )
        best = np.argsort(-alike.max(axis=0), kind="stable")
        return [(int(rows[i]), float(alike[:, i].max()), int(alike[:, i].argmax())) for i in best]

    def _retrieved(self, query: str | Path) -> list[tuple[int, float, int]]:
        """Rows of the nearest tiles, each once, with similarity and the quarters by which the photo
        is turned."""
        best: dict[int, tuple[float, int]] = {}
        found = self.localizer.retriever.retrieve(self._turned(query), k=self.num_candidates)
        for turns, candidates in enumerate(found):
            for one in candidates:
                if one.row in self._mosaic.tile_of and (
                    one.row not in best or one.similarity > best[one.row][0]
                ):
                    best[one.row] = (one.similarity, turns)
        ranked = sorted(best.items(), key=lambda one: -one[1][0])[: self.num_candidates]
        return [(row, similarity, turns) for row, (similarity, turns) in ranked]
