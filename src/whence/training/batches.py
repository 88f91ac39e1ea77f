"""Batches: which photos are learned from together. A batch follows from the seed, the epoch and its number alone.

Places x views is what is here. Mined triplets, groups and sequences are other classes with `num_batches` and `batch`.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple, Protocol

import numpy as np

from whence.errors import BadOption
from whence.runtime import random_stream
from whence.training.places import Places
from whence.training.recipe import BatchOptions

_ORDER, _VIEWS = 61, 62


class Batch(NamedTuple):
    """B photos to learn from."""

    rows: np.ndarray
    """(B,) int64 rows of the photos."""
    labels: np.ndarray
    """(B,) int64 what belongs together, as numbers that hold for the whole data set."""


class Batches(Protocol):
    """What hands out the batches of an epoch."""

    def num_batches(self, epoch: int) -> int: ...

    def batch(self, epoch: int, number: int) -> Batch: ...


class PlaceBatches:
    """`num_places` places with `num_views` photos each, place by place.

    In an epoch every place comes at most once; places nearer to each other than `min_apart_m` never share a batch, and those that
    fit into no whole batch wait for the next epoch, whose order is another. Photos of a place are drawn without repetition where
    it has enough of them. Raises `BadOption` where not even one batch can be made.
    """

    def __init__(self, places: Places, *, options: BatchOptions = BatchOptions(), seed: int = 0) -> None:  # noqa: B008
        if options.num_places < 1 or options.num_views < 1:
            raise BadOption(f"a batch of {options.num_places} places and {options.num_views} views is not possible")
        self.places, self.options, self.seed = places, options, seed
        self._epoch = -1
        self._plan = np.empty((0, options.num_places), np.int64)
        if not self.num_batches(0):
            raise BadOption(
                f"{len(places)} places do not give a batch of {options.num_places} that are {options.min_apart_m:g} m apart; "
                "lower batches.num_places or batches.min_apart_m"
            )

    def num_batches(self, epoch: int) -> int:
        """Batches of the epoch."""
        return len(self._places_of(epoch))

    def batch(self, epoch: int, number: int) -> Batch:
        """One batch: rows and places (num_places * num_views,)."""
        labels = self._places_of(epoch)[number]
        rows = np.concatenate([self._views(epoch, int(place)) for place in labels])
        return Batch(rows, np.repeat(labels, self.options.num_views))

    def _views(self, epoch: int, place: int) -> np.ndarray:
        members, own = self.places.views.of(place), self.places.own[place : place + 1]
        if not self.options.has_own:
            own = own[:0]
        others = members[members != own[0]] if len(own) and len(members) > 1 else members
        count = self.options.num_views - len(own)
        random = random_stream(self.seed, _VIEWS, epoch, place)
        return np.concatenate([own, random.choice(others, count, replace=len(others) < count)])

    def _places_of(self, epoch: int) -> np.ndarray:
        """(batches, num_places): the places of each batch of an epoch."""
        if epoch != self._epoch:
            self._plan, self._epoch = self._planned(epoch), epoch
        return self._plan

    def _planned(self, epoch: int) -> np.ndarray:
        """Fill batch after batch in a random order; a place too near to one in the batch waits for the next batch."""
        size, points = self.options.num_places, self.places.points
        waiting = deque(random_stream(self.seed, _ORDER, epoch).permutation(len(points)).tolist())
        batches = []
        while len(waiting) >= size:
            chosen: list[int] = []
            held: list[int] = []
            while waiting and len(chosen) < size:
                place = waiting.popleft()
                gap = points[chosen] - points[place]
                is_near = bool((np.einsum("nd,nd->n", gap, gap) < self.options.min_apart_m**2).any())
                (held if is_near else chosen).append(place)
            waiting.extendleft(reversed(held))
            if len(chosen) < size:
                break
            batches.append(chosen)
        return np.array(batches, np.int64).reshape(-1, size)


def shard(batch: Batch, *, rank: int, num_ranks: int) -> Batch:
    """This process's share of a batch: consecutive rows. Raises `BadOption` where they cannot be shared evenly."""
    if len(batch.rows) % num_ranks:
        raise BadOption(f"{len(batch.rows)} photos cannot be shared evenly by {num_ranks} processes; change batches.num_places")
    size = len(batch.rows) // num_ranks
    return Batch(batch.rows[rank * size : (rank + 1) * size], batch.labels[rank * size : (rank + 1) * size])
