"""A city cut into classes and groups: photos by cell of position and heading, and cells that may be
told apart from each other.

After CosPlace (Berton, Masone, Caputo: Rethinking Visual Geo-localization for Large-Scale
Applications, CVPR 2022), EigenPlaces (Berton, Trivigno, Caputo, Masone, ICCV 2023) and
Divide&Classify (Trivigno, Berton, Aragon, Caputo, Masone, ICCV 2023). All is done over columns:
tens of millions of photos take seconds.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from whence.data.planes import on_one_plane
from whence.errors import BadOption, InputError, NoPhotos
from whence.lists import BLOCK_ROWS, Groups, NeighborLists, group_in_place, group_rows
from whence.records import fill
from whence.runtime import atomic_write

_NO_HEADING_DEG = 360.0


@dataclass(frozen=True, slots=True)
class CellOptions:
    """What a cell is, and how far apart the cells of a group are."""

    cell_m: float = 10.0
    heading_bin_deg: float = 30.0
    """360 leaves headings out of it: photos then need none."""
    num_apart: int = 5
    """Of so many cells in a row, one belongs to a group; two cells of a group have at least one
    less between them."""
    num_turned: int = 2
    """The same for headings."""
    min_photos: int = 10
    """Cells with fewer photos are left out."""
    offset_m: float = 0.0
    """How far the whole pattern is moved, east and north: patterns that overlap answer together, as
    CPlaNet's."""

    @property
    def has_headings(self) -> bool:
        """Whether cells differ by heading."""
        return self.heading_bin_deg < _NO_HEADING_DEG


@dataclass(frozen=True)
class Partition:
    """K occupied cells, sorted by east, north and heading, and the groups of those with photos
    enough."""

    options: CellOptions
    photos: NeighborLists
    """Rows of each cell's photos."""
    corners: np.ndarray
    """(K, 3) float64: east and north in metres and heading in degrees at which each cell begins."""
    means: np.ndarray
    """(K, 2) float64: mean position of each cell's photos; (0, 2) where cells have headings."""
    across: np.ndarray
    """(K, 2) float64: the unit vector across each cell's street, see `focal_points`; (0, 2) where
    cells have headings."""
    groups: NeighborLists
    """Cells of each group, ascending; groups without any are left out."""
    digest: str
    """Of the columns and the options."""
    zone: str = ""
    """UTM zone of the plane; empty where none was stated."""

    def __len__(self) -> int:
        return len(self.corners)

    @property
    def centres(self) -> np.ndarray:
        """(K, 2) float64: east and north of the middle of each cell."""
        return self.corners[:, :2] + self.options.cell_m / 2

    @cached_property
    def num_in_order(self) -> np.ndarray:
        """(G,) groups in the order in which their first photo stands in the table, in which
        published code takes them."""
        firsts = self.photos.members[self.photos.offsets[:-1]]
        begins = np.minimum.reduceat(firsts[self.groups.members], self.groups.offsets[:-1])
        return np.argsort(begins, kind="stable")

    def group_numbers(self, group: int) -> tuple[int, int, int]:
        """The place of a group's cells in the pattern that repeats: along east, along north, by
        heading."""
        east, north, heading = self.corners[self.groups.members[self.groups.offsets[group]]]
        m, n, turned = self.options.cell_m, self.options.num_apart, self.options.num_turned
        bins = round(heading / self.options.heading_bin_deg)
        east, north = east - self.options.offset_m, north - self.options.offset_m
        return int(round(east / m) % n), int(round(north / m) % n), int(bins % turned)

    def focal_points(self, *, distance_m: float, angle_deg: float) -> np.ndarray:
        """(K, 2) what the photos of each cell are to look at: `distance_m` from their mean, across
        the street or along it.

        0 degrees is across, towards its northern side (eastern, for streets that run north); 90
        degrees is along it. The street's direction is that in which the photos are spread most;
        photos at one point count as a street from west to east. Raises `BadOption` for cells that
        have headings: their photos look one way already.
        """
        if self.options.has_headings:
            raise BadOption(
                "cells that differ by heading have no focal points; set cells.heading_bin_deg=360"
            )
        turn = np.radians(angle_deg)
        rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        return self.means + distance_m * self.across @ rotation.T

    def cell_of(
        self, east_m: np.ndarray, north_m: np.ndarray, heading_deg: np.ndarray | None = None
    ) -> np.ndarray:
        """(N,) int64 the cell that each photo lies in, -1 for none."""
        size = np.array([self.options.cell_m, self.options.cell_m, self.options.heading_bin_deg])
        offset = np.array([self.options.offset_m, self.options.offset_m, 0.0])
        bins = np.zeros(np.shape(east_m))
        if self.options.has_headings:
            bins = (
                np.full(np.shape(east_m), np.nan)
                if heading_deg is None
                else np.mod(heading_deg, 360)
            )
        with np.errstate(invalid="ignore"):
            places = np.floor((np.stack([east_m, north_m, bins], axis=-1) - offset) / size)
        known = np.rint((self.corners - offset) / size)
        low, high = known.min(axis=0), known.max(axis=0)
        is_inside = (
            np.isfinite(places).all(axis=-1)
            & (places >= low).all(axis=-1)
            & (places <= high).all(axis=-1)
        )
        spans = (high - low + 1).astype(np.int64)
        keys = _packed((known - low).astype(np.int64), spans)
        asked = _packed(np.where(is_inside[:, None], places - low, 0).astype(np.int64), spans)
        found = np.minimum(np.searchsorted(keys, asked), len(keys) - 1)
        return np.where(is_inside & (keys[found] == asked), found, -1)

    def write(self, path: str | Path) -> None:
        """Write the partition as one file, whole or not at all."""
        values = {"options": asdict(self.options), "digest": self.digest, "zone": self.zone}
        with atomic_write(path) as file:
            np.savez(
                file,
                photo_offsets=self.photos.offsets,
                photo_members=self.photos.members,
                corners=self.corners,
                means=self.means,
                across=self.across,
                group_offsets=self.groups.offsets,
                group_members=self.groups.members,
                values=np.array(json.dumps(values)),
            )


def load_partition(path: str | Path, *, digest: str = "") -> Partition:
    """The partition that `write` wrote. Raises `InputError` where it is none, or of something else
    than `digest` says."""
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as held:
            values = json.loads(str(held["values"]))
            photos = NeighborLists(held["photo_offsets"], held["photo_members"])
            groups = NeighborLists(held["group_offsets"], held["group_members"])
            places = {name: held[name] for name in ("corners", "means", "across")}
            options = fill(CellOptions, values["options"], what="field of a partition")
            found = Partition(
                options,
                photos,
                **places,
                groups=groups,
                digest=values["digest"],
                zone=values["zone"],
            )
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        raise InputError(
            f"{str(path)!r} is no partition: {error}; delete it, and it is made anew"
        ) from None
    if digest and found.digest != digest:
        raise InputError(
            f"{str(path)!r} was made from other photos or options; delete it, and it is made anew"
        )
    return found


def make_partition(
    east_m: np.ndarray,
    north_m: np.ndarray,
    heading_deg: np.ndarray | None = None,
    *,
    zone: np.ndarray | str = "",
    options: CellOptions = CellOptions(),
) -> Partition:
    """The cells of photos by east, north and heading, (N,) each; rows with NaN belong to none.

    `zone` is the UTM zone of all, or of each (N,) text; photos of several are brought into that of
    most, so that a zone's edge cuts no cell. Headings are taken modulo 360, which the public code
    leaves out. Raises `BadOption` and `NoPhotos`.
    """
    if (
        options.cell_m <= 0
        or options.heading_bin_deg <= 0
        or options.num_apart < 1
        or options.num_turned < 1
    ):
        raise BadOption(f"cells need positive sides and at least 1 cell in a row, not {options}")
    digest = partition_digest(east_m, north_m, heading_deg, options=options)
    east_m, north_m, plane = on_one_plane(
        np.asarray(east_m, float), np.asarray(north_m, float), zone
    )
    heading_deg = heading_deg if options.has_headings else None
    is_usable = np.isfinite(east_m)
    is_usable &= np.isfinite(north_m)
    if heading_deg is not None:
        is_usable &= np.isfinite(heading_deg)
    elif options.has_headings:
        is_usable[:] = False
    if not is_usable.any():
        raise NoPhotos(
            f"no photo has a position on a plane{' and a heading' if options.has_headings else ''}"
        )
    num_bins = int(np.ceil(360 / options.heading_bin_deg)) if options.has_headings else 1
    known = (east_m, north_m) if is_usable.all() else (east_m[is_usable], north_m[is_usable])
    offset_m = options.offset_m
    sides = [
        _whole(np.array([side_m.min(), side_m.max()]) - offset_m, options.cell_m).tolist()
        for side_m in known
    ]
    (low_east, _), (low_north, high_north) = sides
    span = high_north - low_north + 1
    keys = np.full(len(east_m), -1, np.int64)
    # Block by block, what is computed on the way stays in the cache.
    for start in range(0, len(keys), BLOCK_ROWS):
        here: slice | np.ndarray = slice(start, start + BLOCK_ROWS)
        if not is_usable[here].all():
            here = start + np.flatnonzero(is_usable[here])
        parts = (east_m[here], north_m[here])
        along, up = (
            _whole(part - offset_m if offset_m else part, options.cell_m) for part in parts
        )
        along -= low_east
        along *= span
        up -= low_north
        places = np.add(along, up, out=along)
        if heading_deg is not None:
            places *= num_bins
            places += _bins(heading_deg[here], options.heading_bin_deg)
        keys[here] = places
    by_cell = group_in_place(keys)
    if by_cell.keys[0] < 0:
        num_left_out = int(by_cell.rows.offsets[1])
        lists = NeighborLists(
            by_cell.rows.offsets[1:] - num_left_out, by_cell.rows.members[num_left_out:]
        )
        by_cell = Groups(by_cell.keys[1:], lists)
    full_enough = np.flatnonzero(by_cell.rows.counts >= options.min_photos)
    if not len(full_enough):
        turned = f" and {options.heading_bin_deg:g} degrees" if options.has_headings else ""
        raise NoPhotos(
            f"no cell of {options.cell_m:g} m{turned} has {options.min_photos} photos; lower "
            "cells.min_photos"
        )
    of_position, bins = np.divmod(by_cell.keys, num_bins)
    cells = np.stack([of_position // span + low_east, of_position % span + low_north, bins], axis=1)
    group = (
        cells[full_enough, 0] % options.num_apart * options.num_apart
        + cells[full_enough, 1] % options.num_apart
    )
    group = group * options.num_turned + cells[full_enough, 2] % options.num_turned
    of_groups = group_rows(group).rows
    nowhere = np.empty((0, 2))
    means, across = (
        (nowhere, nowhere) if options.has_headings else _streets(east_m, north_m, by_cell.rows)
    )
    return Partition(
        options,
        by_cell.rows,
        cells * np.array([options.cell_m, options.cell_m, options.heading_bin_deg])
        + np.array([offset_m, offset_m, 0.0]),
        means,
        across,
        NeighborLists(of_groups.offsets, full_enough[of_groups.members]),
        digest,
        plane,
    )


def partition_digest(
    east_m: np.ndarray, north_m: np.ndarray, heading_deg: np.ndarray | None, *, options: CellOptions
) -> str:
    """The digest that a partition of these columns carries."""
    # Of the library's hashes the one that processors have instructions for.
    key = hashlib.sha256(json.dumps(asdict(options)).encode())
    for column in (east_m, north_m, heading_deg):
        if column is not None:
            key.update(np.ascontiguousarray(column).data)
    return key.hexdigest()[:32]


def _streets(
    east_m: np.ndarray, north_m: np.ndarray, photos: NeighborLists
) -> tuple[np.ndarray, np.ndarray]:
    """Mean position (K, 2) of each cell's photos, and the unit vector (K, 2) across the direction
    they are spread in most."""
    firsts, counts = photos.offsets[:-1], photos.counts
    means = np.empty((len(counts), 2))
    gaps = []
    for axis, column in enumerate((east_m, north_m)):
        values = column[photos.members]
        means[:, axis] = np.add.reduceat(values, firsts) / counts
        values -= np.repeat(means[:, axis], counts)
        gaps.append(values)
    ee, nn, en = (np.add.reduceat(gaps[i] * gaps[j], firsts) for i, j in ((0, 0), (1, 1), (0, 1)))
    # The larger axis of a 2 x 2 covariance lies at half the angle of (ee - nn, 2 en).
    along = np.where(ee + nn > 1e-9 * counts, 0.5 * np.arctan2(2 * en, ee - nn), 0.0)
    across = np.stack([-np.sin(along), np.cos(along)], axis=1)
    is_southward = (across[:, 1] < -1e-9) | ((np.abs(across[:, 1]) <= 1e-9) & (across[:, 0] < 0))
    across[is_southward] *= -1
    return means, across


def _bins(heading_deg: np.ndarray, side_deg: float) -> np.ndarray:
    if len(heading_deg) and (heading_deg.min() < 0 or heading_deg.max() >= 360):
        # What is a little below 0 is 360 after the division's rounding.
        heading_deg = np.mod(np.mod(heading_deg, 360), 360)
    return _whole(heading_deg, side_deg)


def _packed(places: np.ndarray, spans: np.ndarray) -> np.ndarray:
    """Places (N, 3) as one number each, in their order."""
    return np.asarray((places[:, 0] * spans[1] + places[:, 1]) * spans[2] + places[:, 2])


def _whole(values: np.ndarray, side: float) -> np.ndarray:
    """Which cell of this side each value lies in, int64."""
    share = values / side
    return np.floor(share, out=share).astype(np.int64)
