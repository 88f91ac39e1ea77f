"""Places: which training photos show the same thing. By position and heading, or as the data set itself lists them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from whence.data.photos import Photos
from whence.errors import NoPhotos
from whence.geo import NeighborLists, heading_difference_deg, neighbors_within, to_earth_centred
from whence.training.cells import group_rows
from whence.training.recipe import PlaceOptions


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
    """One place for each occupied cell of position and heading bin, with all photos near its own photo that look its way.

    A place's own photo is the one nearest to the middle of its cell and bin. A photo may belong to several places; a batch never
    has two that share photos. Raises `NoPhotos` where no place has photos enough.
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
    is_seen = heading_difference_deg(heading[near.members], heading[own[owner]]) <= options.max_turn_deg
    counts = np.bincount(owner[is_seen], minlength=len(own))
    kept = counts >= options.min_photos
    if not kept.any():
        raise NoPhotos(
            f"of {len(photos)} photos ({len(usable)} with a position) no {options.min_photos} show one place within "
            f"{options.radius_m:g} m and {options.max_turn_deg:g} degrees; lower places.min_photos or raise places.radius_m"
        )
    members = near.members[is_seen & kept[owner]]
    return Places(photos, NeighborLists(np.concatenate([[0], np.cumsum(counts[kept])]), members), own[kept], ground[own[kept]])


def metric_points(photos: Photos) -> np.ndarray:
    """(N, d) coordinates in metres: the plane's where all photos have one of one zone, else Earth-centred; NaN where unknown."""
    if photos.has_plane.all() and len(np.unique(photos.zone)) == 1:
        return np.stack([photos.east_m, photos.north_m], axis=1)
    return to_earth_centred(photos.lat, photos.lon)


def _nearest_to_middle(cell: np.ndarray, off: np.ndarray) -> np.ndarray:
    """For every occupied cell (N, d) the first of its rows that lie nearest to its middle, by `off` (N,)."""
    keys = np.zeros(len(cell), np.int64)
    for column in cell.T:
        keys = keys * (int(column.max()) - int(column.min()) + 1) + (column - column.min())
    held = group_rows(keys).rows
    ordered = off[held.members]
    is_nearest = ordered == np.repeat(np.minimum.reduceat(ordered, held.offsets[:-1]), held.counts)
    places = np.flatnonzero(is_nearest)
    return held.members[places[np.searchsorted(places, held.offsets[:-1])]]
