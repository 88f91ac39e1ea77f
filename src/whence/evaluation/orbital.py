"""EarthLoc's protocol: photos turned any way against tiles that are north up, a tile is right where
footprints overlap.

Database tiles are described at four rotations, counter-clockwise, and searched as four times as
many; rotations of one tile are not merged, as published. Beside it: merged, asked from the query's
side at a quarter of the memory, and with no rotation at all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from whence.data.formats import EvaluationSet
from whence.data.photos import Photos
from whence.errors import NoPhotos, UnreadableImage
from whence.evaluation.metrics import bootstrap_interval
from whence.index.flat import FlatIndex
from whence.lists import NeighborLists
from whence.models.descriptor import DescriptorModel
from whence.runtime import map_threads, progress
from whence.types import SkippedPhoto

TURNS = 4
AT = (1, 5, 10, 20, 100)
WAYS: Mapping[str, str] = {
    "stored": "four rotations of every tile, not merged, as published",
    "merged": "four rotations of every tile, the best of each tile counts",
    "asked": "four rotations of the query, the best of each tile counts",
    "none": "no rotation",
}
"""Ways of searching, and what they do."""


@dataclass(frozen=True)
class TurnedDescriptors:
    """Descriptors of photos turned by four quarters, counter-clockwise."""

    rows: np.ndarray
    """(4, N, D) float32; NaN where a photo cannot be read."""
    skipped: tuple[SkippedPhoto, ...]


@dataclass(frozen=True, slots=True)
class OrbitalScore:
    """Recall of one way of searching."""

    way: str
    recall_at: tuple[float, ...]
    """Among the first 1, 5, 10, 20 and 100."""
    intervals: tuple[tuple[float, float], ...]
    """95 %."""
    hits: np.ndarray
    """(Q,) bool: which counted queries have a right tile first."""
    num_queries: int
    """Those with a right tile in the database; the others are left out."""


def describe_turned(
    model: DescriptorModel,
    photos: Photos,
    *,
    what: str = "tiles",
    show_progress: bool | None = None,
) -> TurnedDescriptors:
    """Descriptors of photos at four rotations."""
    rows = np.full((TURNS, len(photos), model.dim), np.nan, np.float32)
    skipped = list(photos.skipped)

    def read(row: int) -> tuple[int, np.ndarray | UnreadableImage]:
        try:
            return row, model.read(photos.file(row))
        except UnreadableImage as error:
            return row, error

    with progress(f"describing {what}", total=len(photos), show=show_progress) as advance:
        for row, image in map_threads(read, range(len(photos))):
            advance(1)
            if isinstance(image, UnreadableImage):
                skipped.append(SkippedPhoto(photos.paths[row], image.reason))
                continue
            # The published photos are squeezed to squares before anything else.
            square = cv2.resize(image, (max(image.shape[:2]),) * 2, interpolation=cv2.INTER_AREA)
            rows[:, row] = model.descriptor.describe(
                [np.ascontiguousarray(np.rot90(square, turn)) for turn in range(TURNS)]
            )
    return TurnedDescriptors(rows, tuple(skipped))


def search_stored(
    database: np.ndarray, queries: np.ndarray, *, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """(Q, K) tiles and degrees that they were turned by, of descriptors (4, N, D) and (Q, D); a
    tile may come several times."""
    num = database.shape[1]
    found = (
        FlatIndex.over(database.reshape(-1, database.shape[2]))
        .search(queries, k=min(k, TURNS * num))
        .ids
    )
    return found % num, 90 * (found // num)


def search_merged(
    database: np.ndarray, queries: np.ndarray, *, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """The same with each tile once, at its best rotation."""
    tiles, angles = search_stored(database, queries, k=TURNS * k)
    return _first_of_each(tiles, angles, k=min(k, database.shape[1]))


def search_asked(
    database: np.ndarray, queries: np.ndarray, *, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """(Q, K) tiles of descriptors (N, D), asked by queries at four rotations (4, Q, D), and how far
    they would be turned.

    A query turned by an angle sees a tile that is not turned as it saw one turned by the rest of
    the circle.
    """
    found = [FlatIndex.over(database).search(rows, k=min(k, len(database))) for rows in queries]
    ids = np.concatenate([one.ids for one in found], axis=1)
    nearness = np.concatenate([one.similarities for one in found], axis=1)
    turns = np.repeat([(360 - 90 * turn) % 360 for turn in range(TURNS)], found[0].ids.shape[1])
    order = np.argsort(-nearness, axis=1, kind="stable")
    angles = np.broadcast_to(turns, ids.shape)
    return _first_of_each(
        *(np.take_along_axis(one, order, axis=1) for one in (ids, angles)), k=min(k, len(database))
    )


def score_orbital(
    database: np.ndarray,
    queries: np.ndarray,
    positives: NeighborLists,
    *,
    ways: Sequence[str] = tuple(WAYS),
) -> list[OrbitalScore]:
    """Recalls by ways of searching, of descriptors at four rotations (4, N, D) and (4, Q, D).
    Raises `NoPhotos`."""
    known = np.isfinite(queries).all(axis=(0, 2)) & (positives.counts > 0)
    query_rows = np.flatnonzero(known)
    if not len(query_rows):
        raise NoPhotos("no photo overlaps a tile of the database: nothing can be counted")
    is_readable = np.isfinite(database).all(axis=(0, 2))
    rows, asked = np.flatnonzero(is_readable), queries[:, query_rows]
    tiles = database[:, is_readable]
    k = max(AT)
    searches = {
        "stored": lambda: search_stored(tiles, asked[0], k=k),
        "merged": lambda: search_merged(tiles, asked[0], k=k),
        "asked": lambda: search_asked(tiles[0], asked, k=k),
        "none": lambda: search_stored(tiles[:1], asked[0], k=k),
    }
    scores = []
    for way in ways:
        found = rows[searches[way]()[0]]
        right = np.stack(
            [
                np.isin(found[place], positives.of(query))
                for place, query in enumerate(query_rows.tolist())
            ]
        )
        hits = [np.asarray(right[:, :n].any(axis=1)) for n in AT]
        recalls = tuple(float(one.mean()) for one in hits)
        intervals = tuple(bootstrap_interval(one.astype(float)) for one in hits)
        scores.append(OrbitalScore(way, recalls, intervals, hits[0], len(query_rows)))
    return scores


def evaluate_orbital(
    model: DescriptorModel, data: EvaluationSet, *, show_progress: bool | None = None
) -> tuple[list[OrbitalScore], tuple[SkippedPhoto, ...]]:
    """Recalls of a set in EarthLoc's folders by all ways of searching, and the files that were
    skipped. Raises `NoPhotos`."""
    if data.positives is None:
        raise NoPhotos(
            f"{data.name} does not say which tiles are right: its names carry no footprints"
        )
    model.prepare([data.database.file(row) for row in range(len(data.database))])
    tiles = describe_turned(model, data.database, show_progress=show_progress)
    asked = describe_turned(
        model.query_model, data.queries, what="photos", show_progress=show_progress
    )
    return score_orbital(tiles.rows, asked.rows, data.positives), (*tiles.skipped, *asked.skipped)


def _first_of_each(
    tiles: np.ndarray, angles: np.ndarray, *, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """Each tile where it comes first, (Q, k), of lists (Q, M) that hold at least k different
    ones."""
    kept = []
    for row in tiles:
        places = np.sort(np.unique(row, return_index=True)[1])
        kept.append(places[:k])
    fewest = min(map(len, kept))
    places = np.stack([one[:fewest] for one in kept])
    return np.take_along_axis(tiles, places, axis=1), np.take_along_axis(angles, places, axis=1)
