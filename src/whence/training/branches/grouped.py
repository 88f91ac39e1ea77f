"""Groups of classes: which photos each class has, and which of them a batch draws. Nothing here
needs torch.

A batch follows from the seed, the epoch and its number alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from whence.data.partition import (
    CellOptions,
    Partition,
    load_partition,
    make_partition,
    partition_digest,
)
from whence.data.placed_files import PlacedFiles
from whence.data.planes import on_one_plane
from whence.errors import BadOption
from whence.lists import NeighborLists, select_runs
from whence.runtime import random_stream

_ORDER, _VIEWS = 63, 64


@dataclass(frozen=True)
class Grouped:
    """Files cut into classes, and the groups of them that are learned from."""

    files: PlacedFiles
    """On one plane."""
    partition: Partition
    groups: tuple[np.ndarray, ...]
    """Cells of each group, in the order of their turns; a class is its place in its group."""

    def rows_of(self, group: int) -> NeighborLists:
        """Rows of the files of each class of a group."""
        return select_runs(self.partition.photos, self.groups[group])

    def counts(self) -> dict[str, int]:
        """How much there is."""
        cells = np.concatenate(self.groups)
        return {
            "num_photos": int(self.partition.photos.counts[cells].sum()),
            "num_classes": len(cells),
            "num_groups": len(self.groups),
        }


def make_grouped(
    files: PlacedFiles,
    *,
    cells: CellOptions,
    num_groups: int = 0,
    partition_file: Path | None = None,
) -> Grouped:
    """The classes of files, and the first so many groups, or all; the partition is read from the
    file `partition_file` where it is there.

    Raises `NoPhotos`, `BadOption`, and `InputError` where the file was made from something else.
    """
    east, north, zone = on_one_plane(files.east_m, files.north_m, files.zone)
    files = replace(files, east_m=east, north_m=north, zone=zone)
    if partition_file is not None and partition_file.is_file():
        digest = partition_digest(files.east_m, files.north_m, files.heading_deg, options=cells)
        partition = load_partition(partition_file, digest=digest)
    else:
        partition = make_partition(
            files.east_m, files.north_m, files.heading_deg, zone=files.zone, options=cells
        )
    order = partition.num_in_order
    if not 0 <= num_groups <= len(order):
        raise BadOption(
            f"there are {len(order)} groups with classes of {cells.min_photos} photos; lower "
            "num_groups to that"
        )
    chosen = order[: num_groups or len(order)]
    return Grouped(files, partition, tuple(partition.groups.of(int(group)) for group in chosen))


class ClassBatches:
    """Batches of an epoch: its group's classes in one random order after the other, each with one
    photo of it at random.

    Classes that fill no whole batch at the end of an order are left out of it, as published; where
    a group has fewer classes than a batch has photos, orders follow one another instead.
    """

    def __init__(self, grouped: Grouped, *, batch_size: int, seed: int) -> None:
        """Raises `BadOption`."""
        if batch_size < 1:
            raise BadOption(f"batches of {batch_size} photos are not possible")
        self.grouped, self.batch_size, self.seed = grouped, batch_size, seed
        self._group: tuple[int, NeighborLists] | None = None

    def group_of(self, epoch: int) -> int:
        """The group whose turn it is."""
        return epoch % len(self.grouped.groups)

    def classes(self, epoch: int, number: int) -> np.ndarray:
        """(B,) classes of a batch."""
        num, size = len(self.grouped.groups[self.group_of(epoch)]), self.batch_size
        if num >= size:
            turn, place = divmod(number, num // size)
            return self._order(epoch, turn, num)[place * size : (place + 1) * size]
        first, last = number * size // num, -(-(number + 1) * size // num)
        orders = np.concatenate([self._order(epoch, turn, num) for turn in range(first, last)])
        return orders[number * size - first * num :][:size]

    def rows(self, epoch: int, number: int, place: int, which: int) -> np.ndarray:
        """Rows of the files of a class in a random order, the batch's photo at `place` first: the
        first that can be read counts."""
        members = self._rows_of(epoch).of(which)
        return random_stream(self.seed, _VIEWS, epoch, number, place).permutation(members)

    def _order(self, epoch: int, turn: int, num: int) -> np.ndarray:
        return random_stream(self.seed, _ORDER, epoch, turn).permutation(num)

    def _rows_of(self, epoch: int) -> NeighborLists:
        group, held = self.group_of(epoch), self._group
        if held is None or held[0] != group:
            held = self._group = (group, self.grouped.rows_of(group))
        return held[1]
