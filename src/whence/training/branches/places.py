"""Places: which photos show the same thing, by position and heading. What a data set itself says is
in `sources`.

A batch follows from the seed, the epoch and its number alone.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from whence.data.photos import Photos
from whence.errors import BadOption, NoPhotos
from whence.geo import heading_difference_deg, neighbors_within, to_earth_centred
from whence.lists import NeighborLists, group_rows
from whence.runtime import random_stream
from whence.training.options.places import BatchOptions, PlaceOptions

_ORDER, _VIEWS = 61, 62


@dataclass(frozen=True)
class Places:
    """P places over a table of photos."""

    photos: Photos
    views: NeighborLists
    """Rows of the photos of each place."""
    own: np.ndarray
    """(P,) int64 row of each place's own photo, which the others were compared with."""
    points: np.ndarray
    """(P, d) metric coordinates of each place."""

    def __len__(self) -> int:
        return len(self.points)


def make_places(photos: Photos, *, options: PlaceOptions = PlaceOptions()) -> Places:  # noqa: B008 (an immutable record)
    """One place for each occupied cell of position and heading bin, with all photos near its own
    photo that look its way.

    A place's own photo is the one nearest to the middle of its cell and bin. A photo may belong to
    several places; a batch never has two that share photos. Raises `NoPhotos` where no place has
    photos enough.
    """
    ground = metric_points(photos)
    heading = np.nan_to_num(photos.heading_deg.astype(float))
    usable = np.flatnonzero(np.isfinite(ground).all(axis=1))
    num_bins = max(1, round(360 / options.heading_bin_deg))
    place = np.column_stack([ground[usable] / options.cell_m, heading[usable] * num_bins / 360])
    cell = np.floor(place).astype(np.int64)
    cell[:, -1] %= num_bins
    off = ((place - np.floor(place) - 0.5) ** 2).sum(axis=1)
    own = np.sort(usable[_nearest_to_middle(cell, off)]) if len(usable) else usable
    near = neighbors_within(ground, ground[own], radius_m=options.radius_m)
    owner = np.repeat(np.arange(len(own)), near.counts)
    is_seen = (
        heading_difference_deg(heading[near.members], heading[own[owner]]) <= options.max_turn_deg
    )
    counts = np.bincount(owner[is_seen], minlength=len(own))
    kept = counts >= options.min_photos
    if not kept.any():
        raise NoPhotos(
            f"of {len(photos)} photos ({len(usable)} with a position) no {options.min_photos} show "
            f"one place within {options.radius_m:g} m and {options.max_turn_deg:g} degrees; lower "
            "places.min_photos or raise places.radius_m"
        )
    members = near.members[is_seen & kept[owner]]
    return Places(
        photos,
        NeighborLists(np.concatenate([[0], np.cumsum(counts[kept])]), members),
        own[kept],
        ground[own[kept]],
    )


def photo_places(photos: Photos, *, options: PlaceOptions = PlaceOptions()) -> Places:  # noqa: B008
    """Every photo as a place: it, and the photos near it that look its way; alone where it has no
    position.

    Its direction counts as being elsewhere: photos of one point that look apart by twice the
    largest turn are 2.5 radii apart.
    """
    ground = metric_points(photos)
    heading = np.nan_to_num(photos.heading_deg.astype(float))
    near = neighbors_within(ground, ground, radius_m=options.radius_m)
    owner = np.repeat(np.arange(len(photos)), near.counts)
    is_seen = heading_difference_deg(heading[near.members], heading[owner]) <= options.max_turn_deg
    alone = np.flatnonzero(near.counts == 0)
    owner, members = (
        np.concatenate([owner[is_seen], alone]),
        np.concatenate([near.members[is_seen], alone]),
    )
    counts = np.bincount(owner, minlength=len(photos))
    views = NeighborLists(
        np.concatenate([[0], np.cumsum(counts)]), members[np.argsort(owner, kind="stable")]
    )
    reach_m = 2.5 * options.radius_m / (2 * np.sin(np.radians(min(options.max_turn_deg, 90))))
    turned = reach_m * np.stack([np.cos(np.radians(heading)), np.sin(np.radians(heading))], axis=1)
    return Places(photos, views, np.arange(len(photos)), np.hstack([ground, turned]))


def metric_points(photos: Photos) -> np.ndarray:
    """(N, d) coordinates in metres: the plane's where all photos have one of one zone, else
    Earth-centred; NaN where unknown."""
    if photos.has_plane.all() and len(np.unique(photos.zone)) == 1:
        return np.stack([photos.east_m, photos.north_m], axis=1)
    return to_earth_centred(photos.lat, photos.lon)


def _nearest_to_middle(cell: np.ndarray, off: np.ndarray) -> np.ndarray:
    """For every occupied cell (N, d) the first of its rows that lie nearest to its middle, by `off`
    (N,)."""
    keys = np.zeros(len(cell), np.int64)
    for column in cell.T:
        keys = keys * (int(column.max()) - int(column.min()) + 1) + (column - column.min())
    held = group_rows(keys).rows
    ordered = off[held.members]
    is_nearest = ordered == np.repeat(np.minimum.reduceat(ordered, held.offsets[:-1]), held.counts)
    places = np.flatnonzero(is_nearest)
    return held.members[places[np.searchsorted(places, held.offsets[:-1])]]


class Batch(NamedTuple):
    """B photos to learn from."""

    rows: np.ndarray
    """(B,) int64 rows of the photos."""
    labels: np.ndarray
    """(B,) int64 what belongs together, as numbers that hold for the whole data set."""


class Batches(ABC):
    """Batches of places x views over a table of photos, epoch by epoch."""

    is_mined = False
    """Whether an epoch is looked for with the learner as it stands: `refresh` is then called before
    it."""

    def __init__(
        self, photos: Photos, *, num_places: int, options: BatchOptions, seed: int
    ) -> None:
        """`num_places` is how many places there are. Raises `BadOption` for batches that nobody can
        make."""
        if options.num_places < 1 or options.num_views < 1:
            raise BadOption(
                f"a batch of {options.num_places} places and {options.num_views} views is not "
                "possible"
            )
        self.photos, self.num_places, self.options, self.seed = photos, num_places, options, seed

    def counts(self) -> dict[str, int]:
        """How much there is."""
        return {"num_photos": len(self.photos), "num_places": self.num_places}

    @abstractmethod
    def num_batches(self, epoch: int) -> int:
        """Batches of the epoch."""

    @abstractmethod
    def batch(self, epoch: int, number: int) -> Batch:
        """One batch: rows and places (num_places * num_views,), place by place."""

    def refresh(self, epoch: int, describe: Callable[[np.ndarray], np.ndarray]) -> None:  # noqa: B027
        """Look for the epoch's batches; `describe` gives descriptors (n, D) of unit length of rows
        (n,)."""

    def found(self) -> np.ndarray:
        """Rows that the last `refresh` found: (batches, num_places * num_views) int64 rows."""
        return np.empty((0, self.options.num_places * self.options.num_views), np.int64)

    def take_over(self, rows: np.ndarray) -> None:  # noqa: B027
        """Go on with what another `refresh` found."""


class PlaceBatches(Batches):
    """`num_places` places with `num_views` photos each, place by place.

    In an epoch every place comes at most once; places nearer to each other than `min_apart_m` never
    share a batch, and those that fit into no whole batch wait for the next epoch, whose order is
    another. Photos of a place are drawn without repetition where it has enough of them. Raises
    `BadOption` where not even one batch can be made.
    """

    def __init__(
        self,
        places: Places,
        *,
        options: BatchOptions = BatchOptions(),  # noqa: B008
        seed: int = 0,
    ) -> None:
        super().__init__(places.photos, num_places=len(places), options=options, seed=seed)
        self.places = places
        self._epoch = -1
        self._plan = np.empty((0, options.num_places), np.int64)
        if not self.num_batches(0):
            raise BadOption(
                f"{len(places)} places do not give a batch of {options.num_places} that are "
                f"{options.min_apart_m:g} m apart; lower batches.num_places or batches.min_apart_m"
            )

    def num_batches(self, epoch: int) -> int:
        return len(self._places_of(epoch))

    def batch(self, epoch: int, number: int) -> Batch:
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
        """Fill batch after batch in a random order; a place too near to one in the batch waits for
        the next batch."""
        size, points = self.options.num_places, self.places.points
        waiting = deque(random_stream(self.seed, _ORDER, epoch).permutation(len(points)).tolist())
        batches = []
        while len(waiting) >= size:
            chosen: list[int] = []
            held: list[int] = []
            while waiting and len(chosen) < size:
                place = waiting.popleft()
                gap = points[chosen] - points[place]
                is_near = bool(
                    (np.einsum("nd,nd->n", gap, gap) < self.options.min_apart_m**2).any()
                )
                (held if is_near else chosen).append(place)
            waiting.extendleft(reversed(held))
            if len(chosen) < size:
                break
            batches.append(chosen)
        return np.array(batches, np.int64).reshape(-1, size)


def shard(batch: Batch, *, rank: int, num_ranks: int) -> Batch:
    """This process's share of a batch: consecutive rows. Raises `BadOption` where they cannot be
    shared evenly."""
    if len(batch.rows) % num_ranks:
        raise BadOption(
            f"{len(batch.rows)} photos cannot be shared evenly by {num_ranks} processes; change "
            "batches.num_places"
        )
    size = len(batch.rows) // num_ranks
    return Batch(
        batch.rows[rank * size : (rank + 1) * size], batch.labels[rank * size : (rank + 1) * size]
    )
