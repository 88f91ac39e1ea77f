"""Places mined as cliques of photos near one another, in neighbourhoods that look alike. Nothing
here needs torch.

After CliqueMining (Izquierdo and Civera: Close, But Not There, ECCV 2024), written from the paper's
description. There the descriptors are those of a trained SALAD, and all batches are mined once;
here the network that learns mines each epoch's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from whence.data.drives import Frames
from whence.data.photos import Photos
from whence.errors import BadOption, NoPhotos
from whence.geo import neighbors_within
from whence.lists import NeighborLists, group_rows
from whence.runtime import random_stream
from whence.training.branches.places import Batch, Batches, metric_points
from whence.training.options.places import BatchOptions, PlaceOptions

_MINED, _OF_CELL = 105, 106
_CELL_M = 20.0
_NUM_TRIES = 50
"""Neighbourhoods drawn for one batch at most, for each of its places."""


class CliqueBatches(Batches):
    """Batches of places that were mined: any two photos of one are within `radius_m`, no two places
    of a neighbourhood are near.

    Photos without a position are left out. Where the set does not group its photos, cells of 20 m
    do.
    """

    is_mined = True

    def __init__(
        self,
        frames: Sequence[Frames],
        *,
        places: PlaceOptions = PlaceOptions(by="clique", radius_m=25.0),  # noqa: B008
        options: BatchOptions = BatchOptions(),  # noqa: B008
        seed: int = 0,
    ) -> None:
        """Raises `NoPhotos`, and `BadOption` where batches are impossible."""
        photos = Photos.concatenate([part.photos for part in frames])
        super().__init__(photos, num_places=options.num_places, options=options, seed=seed)
        if places.num_batches < 1 or places.num_near < 1:
            raise BadOption("places.num_batches and places.num_near are at least 1")
        self.places, self._rows = places, super().found()
        is_plane = bool(photos.has_plane.all())
        self._points = (
            np.stack([photos.east_m, photos.north_m], axis=1) if is_plane else metric_points(photos)
        )
        is_placed = np.isfinite(self._points).all(axis=1)
        if not is_placed.any():
            raise NoPhotos("no photo has a position; cliques are of photos near one another")
        folders = np.array([path.partition("/")[0] for path in photos.paths], object)
        keys = np.concatenate([part.cell for part in frames]).astype(object)
        cells = np.floor(np.nan_to_num(self._points) / _CELL_M).astype(np.int64)
        for row in np.flatnonzero(keys == ""):
            keys[row] = "/".join(map(str, (folders[row], *cells[row])))
        rows = np.flatnonzero(is_placed)
        groups = group_rows(np.unique(keys[rows].astype(str), return_inverse=True)[1])
        self.cells = NeighborLists(groups.rows.offsets, rows[groups.rows.members])
        """Rows of each group of photos."""
        first = self.cells.members[self.cells.offsets[:-1]]
        self.city = np.unique(folders[first].astype(str), return_inverse=True)[1]
        """(C,) the city of each group, whose photos alone are compared."""

    def counts(self) -> dict[str, int]:
        return {"num_photos": len(self.photos), "num_cells": len(self.cells.counts)}

    def num_batches(self, epoch: int) -> int:
        return self.places.num_batches

    def batch(self, epoch: int, number: int) -> Batch:
        return Batch(
            self._rows[number],
            np.repeat(np.arange(self.options.num_places), self.options.num_views),
        )

    def refresh(self, epoch: int, describe: Callable[[np.ndarray], np.ndarray]) -> None:
        """Describe one random photo of each group, then draw all batches. Raises `NoPhotos` where
        photos are too far apart."""
        random = random_stream(self.seed, _OF_CELL, epoch)
        counts = self.cells.counts
        shown = self.cells.members[
            self.cells.offsets[:-1] + (random.random(len(counts)) * counts).astype(np.int64)
        ]
        unit = describe(shown)
        self._rows = np.stack(
            [
                self._mined(unit, random_stream(self.seed, _MINED, epoch, number))
                for number in range(self.places.num_batches)
            ]
        )

    def found(self) -> np.ndarray:
        return self._rows

    def take_over(self, rows: np.ndarray) -> None:
        self._rows = rows

    def _mined(self, unit: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """(num_places * num_views,) rows of one batch: cities by how many groups they have, each
        once as long as there are any."""
        size, found = self.options.num_places, list[np.ndarray]()
        taken: set[int] = set()
        cities = np.bincount(self.city).astype(float)
        left = cities.copy()
        for _ in range(_NUM_TRIES * size):
            if not left.any():
                left = cities.copy()
            city = int(random.choice(len(left), p=left / left.sum()))
            left[city] = 0
            rows = self._neighbourhood(np.flatnonzero(self.city == city), unit, random)
            # A later neighbourhood may reach into one before.
            rows = np.array([row for row in rows.tolist() if row not in taken], np.int64)
            near = neighbors_within(
                self._points[rows], self._points[rows], radius_m=self.places.radius_m
            )
            for clique in disjoint_cliques(near, self.options.num_views, random):
                if len(found) < size:
                    found.append(rows[clique])
                    taken.update(self._around(rows[clique]))
            if len(found) == size:
                return np.concatenate(found)
        raise NoPhotos(
            f"no {size} places of {self.options.num_views} photos within {self.places.radius_m:g} "
            "m were found; lower batches.num_places, or raise places.radius_m"
        )

    def _around(self, rows: np.ndarray) -> list[int]:
        """All photos near these."""
        found: list[int] = neighbors_within(
            self._points, self._points[rows], radius_m=self.places.radius_m
        ).members.tolist()
        return found

    def _neighbourhood(
        self, cells: np.ndarray, unit: np.ndarray, random: np.random.Generator
    ) -> np.ndarray:
        """Rows of a random group of these and of those that look most like it, drawn more often the
        more alike they are."""
        start = int(random.choice(cells))
        others = cells[cells != start]
        distance = np.sqrt(np.maximum(2 - 2 * unit[others] @ unit[start], 0))
        weights = np.where(distance > 0, distance.max(initial=0) - distance, 0)
        num = min(self.places.num_near, int(np.count_nonzero(weights)))
        alike = (
            random.choice(others, num, replace=False, p=weights / weights.sum())
            if num
            else others[:0]
        )
        chosen = np.append(alike, start)
        return np.sort(np.concatenate([self.cells.of(int(cell)) for cell in chosen]))


def disjoint_cliques(
    near: NeighborLists, size: int, random: np.random.Generator
) -> list[np.ndarray]:
    """Cliques of `size` rows of a graph with n rows: of maximal ones so many at random; no photo of
    one is near one of another."""
    count = len(near.counts)
    together = np.zeros((count, count), bool)
    together[np.repeat(np.arange(count), near.counts), near.members] = True
    np.fill_diagonal(together, val=False)
    found = []
    for start in random.permutation(count).tolist():
        if together[start].sum() < size - 1:
            continue
        clique = draw_clique(together, start, random)
        if len(clique) >= size:
            chosen = random.choice(clique, size, replace=False)
            found.append(chosen)
            gone = together[chosen].any(axis=0)
            gone[chosen] = True
            together[gone] = False
            together[:, gone] = False
    return found


def draw_clique(
    together: np.ndarray, start: int, random: np.random.Generator, *, most: int | None = None
) -> np.ndarray:
    """A clique with `start` of the graph (n, n): grown at random until nothing fits, or it has
    `most`."""
    chosen, left = [start], together[start].copy()
    while left.any() and (most is None or len(chosen) < most):
        following = int(random.choice(np.flatnonzero(left)))
        chosen.append(following)
        left &= together[following]
    return np.array(chosen, np.int64)
