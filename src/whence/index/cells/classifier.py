"""`CellClassifier`: a prototype for each cell of a map, in the space of a model's descriptors, and
the ranking of cells by them.

After Divide&Classify (Trivigno, Berton, Aragon, Caputo, Masone, ICCV 2023). Neighbouring cells were
learned by different classifiers, one for each group of cells; the scores of all groups stand in one
list at the end. Each cell is in one group, so nothing is voted on. Scores are inner products with
the prototypes as they were learned: their lengths, a prior that each class learned, are part of the
answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np

from whence.data.partition import Partition
from whence.errors import BadOption, InputError
from whence.geo import from_utm_arrays
from whence.index.flat import read_saved
from whence.index.vectors import as_queries, best, require_finite, scattered_similarities
from whence.lists import NeighborLists, select_runs
from whence.runtime import atomic_write
from whence.types import Arrays, GeoPoint

FORMAT = "whence-cells-1"
_ARRAYS = (
    "prototypes",
    "owners",
    "bias",
    "corners_m",
    "groups",
    "num_photos",
    "cell_m",
    "zone",
    "model",
    "digest",
    "format",
)
_BLOCK_QUERIES = 256
_FARTHEST_M = 1e8
_WIDE, _COARSE_SHARE = 10, 20


class RankedCells(NamedTuple):
    """For each of Q queries the T best cells, best first."""

    cells: np.ndarray
    """(Q, T) int64 rows of the classifier."""
    scores: np.ndarray
    """(Q, T) float32."""


@dataclass(frozen=True, eq=False)
class CellClassifier:
    """K cells of one side on one plane, and what tells them apart."""

    prototypes: np.ndarray
    """(P, C) float32 one for each cell, group after group, as learned; several for a cell where
    `owners` says so."""
    corners_m: np.ndarray
    """(K, 2) float64 east and north at which each cell begins."""
    cell_m: float
    """The side of a cell."""
    zone: str = ""
    """UTM zone of the plane; empty where it is free, and cells then have no latitude and
    longitude."""
    model: str = ""
    """Name of the model, or file, whose descriptors are classified."""
    groups: np.ndarray | None = None
    """(K,) int64 the group that each cell was learned in; None for one group."""
    num_photos: np.ndarray | None = None
    """(K,) int64 photos that each cell was learned from; None where it is not known."""
    bias: np.ndarray | None = None
    """(P,) float32 added to the scores; None for margin classifiers, which have none."""
    digest: str = ""
    """What the partition was made from; empty where it is not known."""
    owners: np.ndarray | None = None
    """(P,) int64 the cell of each prototype, ascending; the best of a cell's prototypes counts.
    None for one each."""

    def __post_init__(self) -> None:
        num, num_cells = len(self.prototypes), len(self.corners_m)
        is_owned = (
            num == num_cells if self.owners is None else _is_owned(self.owners, num, num_cells)
        )
        is_flat = (
            self.prototypes.ndim == 2
            and self.prototypes.size > 0
            and self.corners_m.shape == (num_cells, 2)
        )
        if not is_flat or not is_owned or not self.cell_m > 0:
            raise InputError(
                f"prototypes {self.prototypes.shape} and corners {self.corners_m.shape} of cells "
                f"of {self.cell_m} m do not belong together: each cell has a corner and a prototype"
            )
        columns = {
            "groups": (self.groups, num_cells),
            "num_photos": (self.num_photos, num_cells),
            "bias": (self.bias, num),
        }
        for name, (column, length) in columns.items():
            if column is not None and column.shape != (length,):
                raise InputError(f"{name} has the shape {column.shape} for {num_cells} cells")
        require_finite(self.prototypes, what="prototypes")
        require_finite(self.corners_m, what="corners of cells")
        if np.abs(self.corners_m).max() > _FARTHEST_M:
            raise InputError(
                f"a corner of a cell lies {np.abs(self.corners_m).max():g} m from the plane's "
                "origin: no place on Earth does"
            )

    @classmethod
    def of_groups(
        cls,
        partition: Partition,
        prototypes: Sequence[np.ndarray],
        *,
        model: str,
        bias: Sequence[np.ndarray] = (),
    ) -> Self:
        """The classifier of a partition, with the prototypes (classes, C) learned for each of its
        groups, in their order.

        Fewer prototypes than groups stand for the first groups. Raises `InputError` where classes
        and prototypes differ in number.
        """
        sizes = [len(rows) for rows in prototypes]
        classes = partition.groups.counts[: len(sizes)].tolist()
        if classes != sizes or not sizes:
            raise InputError(
                f"groups of {classes} cells and prototypes of {sizes} do not belong together"
            )
        cells = partition.groups.members[: sum(sizes)]
        return cls(
            np.concatenate([np.asarray(rows, np.float32) for rows in prototypes]),
            partition.corners[cells, :2],
            partition.options.cell_m,
            partition.zone,
            model,
            np.repeat(np.arange(len(sizes)), sizes),
            partition.photos.counts[cells],
            np.concatenate([np.asarray(one, np.float32) for one in bias]) if bias else None,
            partition.digest,
        )

    def __len__(self) -> int:
        return len(self.corners_m)

    @property
    def dim(self) -> int:
        """Numbers of a descriptor that is classified."""
        return self.prototypes.shape[1]

    @property
    def centres_m(self) -> np.ndarray:
        """(K, 2) east and north of the middle of each cell."""
        return self.corners_m + self.cell_m / 2

    @property
    def radius_m(self) -> float:
        """How far a place in a cell is from its middle at most: half the diagonal."""
        return float(self.cell_m / np.sqrt(2))

    def scores(self, descriptors: np.ndarray, *, is_normalised: bool = False) -> np.ndarray:
        """(Q, K) float32 of descriptors (Q, C). With `is_normalised` prototypes count as unit
        vectors; the authors' do not."""
        asked = as_queries(descriptors, dim=self.dim, k=1)
        found = asked @ self.prototypes.T
        if is_normalised:
            found /= np.maximum(np.linalg.norm(self.prototypes, axis=1), 1e-12)
        found = found if self.bias is None else found + self.bias
        if self.owners is None:
            return found
        return np.asarray(np.maximum.reduceat(found, self._firsts, axis=1))

    def rank(
        self, descriptors: np.ndarray, *, num: int, is_normalised: bool = False
    ) -> RankedCells:
        """The `num` best cells of descriptors (Q, C), all where there are fewer; equal scores come
        in the cells' own order.

        One matrix product: the time depends on the number of cells, and on no photo. Of cells with
        several prototypes each, these are compared where the mean of them says that a cell is among
        the `_WIDE` times `num` best, or the best twentieth. Raises `BadOption` and `InputError`.
        """
        if num < 1:
            raise BadOption(f"the number of best cells is at least 1, not {num}")
        num = min(num, len(self))
        cells = np.empty((len(descriptors), num), np.int64)
        values = np.empty((len(descriptors), num), np.float32)
        wide = self._num_likely(num)
        is_coarse = wide < len(self) and not is_normalised
        for start in range(0, len(descriptors), _BLOCK_QUERIES):
            here = slice(start, start + _BLOCK_QUERIES)
            if is_coarse:
                cells[here], values[here] = self._rank_likely(descriptors[here], num, wide)
                continue
            cells[here], values[here] = _best_columns(
                self.scores(descriptors[here], is_normalised=is_normalised), num
            )
        return RankedCells(cells, values)

    def num_compared(self, num: int) -> int:
        """How many prototypes a query is compared with for the `num` best cells, means of
        prototypes among them; on average."""
        wide = self._num_likely(num)
        all_of_them = len(self.prototypes)
        return (
            all_of_them if wide == len(self) else len(self) + round(wide * all_of_them / len(self))
        )

    def _num_likely(self, num: int) -> int:
        """How many cells' prototypes are compared for the `num` best: all, where there is one each,
        or few cells."""
        wide = max(_WIDE * num, len(self) // _COARSE_SHARE)
        has_several = len(self.prototypes) > len(self) and self.bias is None
        return wide if has_several and wide < len(self) // 2 else len(self)

    @cached_property
    def _firsts(self) -> np.ndarray:
        """(K,) the first prototype of each cell, where cells have several."""
        assert self.owners is not None, "asked for where there are several"
        return np.searchsorted(self.owners, np.arange(len(self)))

    @cached_property
    def _middles(self) -> np.ndarray:
        """(K, C) the mean of each cell's prototypes, at unit length."""
        sums = np.add.reduceat(self.prototypes, self._firsts, axis=0)
        return np.asarray(
            sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12), np.float32
        )

    def _rank_likely(
        self, descriptors: np.ndarray, num: int, wide: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """The `num` best cells (Q, num) and scores among the `wide` cells whose prototypes' mean is
        nearest."""
        asked = as_queries(descriptors, dim=self.dim, k=1)
        likely = np.sort(
            np.argpartition(-(asked @ self._middles.T), wide - 1, axis=1)[:, :wide], axis=1
        )
        lists = NeighborLists(
            np.append(self._firsts, len(self.prototypes)), np.arange(len(self.prototypes))
        )
        found = []
        for query, cells in zip(asked, likely, strict=True):
            runs = select_runs(lists, cells)
            scores = np.maximum.reduceat(
                scattered_similarities(query, self.prototypes, runs.members), runs.offsets[:-1]
            )
            chosen, values = best(cells, scores, k=num)
            found.append((chosen, values))
        return np.stack([one for one, _ in found]), np.stack([one for _, one in found])

    def points(self, cells: np.ndarray) -> list[GeoPoint] | None:
        """The middle of each of these cells (T,) on Earth; None on a plane without a zone."""
        if not self.zone:
            return None
        east, north = self.centres_m[cells].T
        return [
            GeoPoint(float(lat), float(lon))
            for lat, lon in zip(*from_utm_arrays(east, north, zone=self.zone), strict=True)
        ]

    def names(self, cells: np.ndarray) -> list[str]:
        """Names of these cells (T,): the corner of each, and its zone where there is one."""
        corners = self.corners_m[cells].tolist()
        return [f"cell {east:.0f} E {north:.0f} N {self.zone}".rstrip() for east, north in corners]

    def to_arrays(self) -> dict[str, np.ndarray]:
        """All of it as named arrays, for `from_arrays`."""
        nothing = np.empty(0, np.int64)
        return {
            "format": np.array(FORMAT),
            "prototypes": self.prototypes,
            "owners": nothing if self.owners is None else self.owners,
            "bias": np.empty(0, np.float32) if self.bias is None else self.bias,
            "corners_m": self.corners_m,
            "groups": nothing if self.groups is None else self.groups,
            "num_photos": nothing if self.num_photos is None else self.num_photos,
            "cell_m": np.array(self.cell_m),
            "zone": np.array(self.zone),
            "model": np.array(self.model),
            "digest": np.array(self.digest),
        }

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> Self:
        """The classifier that `to_arrays` gave. Raises `InputError` where something is missing or
        does not fit."""
        try:
            if str(arrays["format"]) != FORMAT:
                raise InputError(
                    f"its format is {str(arrays['format'])!r:.40}, and {FORMAT!r} is read"
                )
            return cls(
                np.asarray(arrays["prototypes"], np.float32),
                np.asarray(arrays["corners_m"], np.float64),
                float(arrays["cell_m"]),
                str(arrays["zone"]),
                str(arrays["model"]),
                _column(arrays["groups"], np.int64),
                _column(arrays["num_photos"], np.int64),
                _column(arrays["bias"], np.float32),
                str(arrays["digest"]),
                _column(arrays["owners"], np.int64),
            )
        except (KeyError, ValueError, TypeError) as error:
            raise InputError(f"these are no cells: {error}") from None


def write_cells(path: str | Path, cells: CellClassifier) -> None:
    """Write a classifier as one .npz, whole or not at all."""
    with atomic_write(path) as file:
        np.savez(file, **cells.to_arrays())  # type: ignore[arg-type]


def read_cells(path: str | Path) -> CellClassifier:
    """The classifier that `write_cells` wrote. Raises `InputError` naming the file."""
    arrays = read_saved(path, names=_ARRAYS, what="file of cells")
    try:
        return CellClassifier.from_arrays(arrays)
    except InputError as error:
        raise InputError(f"{str(path)!r}: {error}") from None


def _is_owned(owners: np.ndarray, num: int, num_cells: int) -> bool:
    """Whether each of the prototypes belongs to a cell, cell after cell, and each cell has one."""
    return (
        owners.shape == (num,)
        and np.array_equal(np.unique(owners), np.arange(num_cells))
        and bool((np.diff(owners) >= 0).all())
    )


def _column(array: np.ndarray, dtype: type) -> np.ndarray | None:
    return np.asarray(array, dtype) if array.size else None


def _best_columns(scores: np.ndarray, num: int) -> tuple[np.ndarray, np.ndarray]:
    """The `num` largest of each row (Q, K) with their columns, best first, equal ones by ascending
    column."""
    if num < scores.shape[1] // 8:
        # Selecting first is several times cheaper than sorting all; what equals the last stays for
        # the columns to decide.
        least = np.partition(scores, scores.shape[1] - num, axis=1)[:, scores.shape[1] - num]
        columns = np.empty((len(scores), num), np.int64)
        for row, (values, limit) in enumerate(zip(scores, least, strict=True)):
            kept = np.flatnonzero(values >= limit)
            columns[row] = kept[np.argsort(-values[kept], kind="stable")[:num]]
    else:
        columns = np.argsort(-scores, axis=1, kind="stable")[:, :num]
    return columns, np.take_along_axis(scores, columns, axis=1)
