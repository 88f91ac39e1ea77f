"""The branch of sequences: windows of frames, mined and learned from as tuples of photos are.

A window's frames are read where they lie among the decoded photos: overlapping windows take no
memory of their own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from whence.data.drives import SequenceSet
from whence.data.formats import EvaluationSet
from whence.data.windows import cut_windows, positives_of_windows, require_windows
from whence.errors import BadOption
from whence.evaluation.protocol import metric_ground
from whence.geo import neighbors_within
from whence.lists import NeighborLists
from whence.models.networks import Network
from whence.training.branches.mined import TupleBranch, Tuples
from whence.training.branches.tuples import TupleSet, chosen_queries, refuse_scope
from whence.training.options.sequences import SequencesOptions
from whence.training.options.tuples import MiningOptions
from whence.training.pixels import SetPixels, cached_set, stored_size
from whence.training.task import BatchPlace, Draw, Read, Setup, Share
from whence.training.ways import IsKept, ReadPhoto


@dataclass(frozen=True)
class Windows:
    """Windows of S frames of both sides, as rows of its photos."""

    data: EvaluationSet
    database: np.ndarray
    """(W, S) int64."""
    queries: np.ndarray
    """(Q, S) int64."""

    def near(self, radius_m: float) -> NeighborLists:
        """For each query window the database windows with any frame within the radius of any of its
        own."""
        ground = metric_ground(self.data.database, self.data.queries)
        frames = neighbors_within(ground.database, ground.queries, radius_m=radius_m)
        return positives_of_windows(
            frames, self.database, self.queries, num_frames=len(self.data.database)
        )


def cut_both(sequences: SequenceSet, *, length: int) -> Windows:
    """The windows of a set's database and of its queries. Raises `NoPhotos` where a side has
    none."""
    cut = [
        require_windows(
            cut_windows(side.sequence, side.frame, length=length),
            num_frames=len(side.photos),
            what=f"{sequences.name}, {which}",
        )
        for which, side in (("database", sequences.database), ("queries", sequences.queries))
    ]
    return Windows(
        EvaluationSet(sequences.name, sequences.database.photos, sequences.queries.photos), *cut
    )


@dataclass(frozen=True)
class WindowTuples(TupleSet):
    """Query windows that have positives, over the windows of a database; `queries` and the lists
    are of windows."""

    windows: Windows

    @property
    def num_database(self) -> int:
        return len(self.windows.database)


def make_window_tuples(
    sequences: SequenceSet, *, length: int, options: MiningOptions
) -> WindowTuples:
    """The windows of a set that tuples are mined from. Raises `NoPhotos` and `BadOption` as
    `make_tuple_set`."""
    refuse_scope(options)
    windows = cut_both(sequences, length=length)
    positives, excluded = (
        windows.near(radius)
        for radius in (options.positive_m, max(options.positive_m, options.excluded_m))
    )
    chosen = chosen_queries(
        sequences.name, positives, excluded, num_database=len(windows.database), options=options
    )
    return WindowTuples(windows.data, *chosen, np.full(len(chosen[0]), 1 / len(chosen[0])), windows)


class WindowPixels:
    """Windows of decoded frames: the database's first, then the queries'."""

    def __init__(self, frames: SetPixels, windows: Windows) -> None:
        self.frames = frames
        self._rows = np.concatenate([windows.database, len(frames.database) + windows.queries])

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        """(n, S, H, W, 3) uint8 windows (n,)."""
        chosen = self._rows[rows]
        found = self.frames[chosen.ravel()]
        return found.reshape(*chosen.shape, *found.shape[1:])

    def frame_rows(self, rows: np.ndarray) -> np.ndarray:
        """(n * S,) rows of the frames of windows (n,), window by window."""
        return self._rows[rows].ravel()

    def first_frames(self, rows: np.ndarray) -> np.ndarray:
        """(n, H, W, 3) uint8 first frames of windows (n,)."""
        return self.frames[self._rows[rows, 0]]


class SequenceBranch(TupleBranch):
    """Query windows, their positives and their negatives."""

    def __init__(self, options: SequencesOptions, setup: Setup) -> None:
        """Raises `BadOption` for a learner that describes single photos, and as `TupleBranch`."""
        network = setup.learner.module
        if not isinstance(network, Network) or network.sequence is None:
            raise BadOption(
                "the branch of sequences needs a network that pools them: set sequence.name, for "
                "example to seqgem"
            )
        if options.augment.num_views:
            raise BadOption("no maps are kept of frames in sequences: set augment.num_views=0")
        self.length = network.sequence.length
        super().__init__(options, setup)

    def _tuple_set(self) -> WindowTuples:
        return make_window_tuples(
            self.setup.data.sequences, length=self.length, options=self.options.mining
        )

    def describe_data(self) -> dict[str, Any]:
        assert isinstance(self.tuples, WindowTuples), "made here"
        windows = self.tuples.windows
        sizes = {
            "num_database": len(windows.data.database),
            "num_queries": len(windows.data.queries),
        }
        sizes |= {"num_windows": len(windows.database), "num_query_windows": len(windows.queries)}
        return {**sizes, "num_queries_with_positives": len(self.tuples.queries)}

    def open(self) -> None:
        assert isinstance(self.tuples, WindowTuples), "made here"
        frames = cached_set(
            self.tuples.data, size_px=stored_size(self.options.augment), setup=self.setup
        )
        self.pixels: Any = WindowPixels(frames, self.tuples.windows)

    def _sampled(self, rows: np.ndarray) -> np.ndarray:
        """The first frame of each window, as published."""
        return self._at_size(self.pixels.first_frames(rows))

    def read(self, place: BatchPlace, share: Share) -> Read:
        size = self.options.batch_queries // share.num_ranks
        first = share.rank * size
        start = place.number * self.options.batch_queries + first
        mine = self.mined[start : start + size]
        queries, others = (
            self.pixels.frame_rows(rows)
            for rows in (self.tuples.num_database + mine[:, 0], mine[:, 1:].ravel())
        )
        read = Tuples(
            self.ways.read(place, len(queries), self._frames(queries), first=first * self.length),
            self.plain.read(
                place,
                len(others),
                self._frames(others),
                first=self.options.batch_queries * self.length,
            ),
        )
        return Read(read, len(queries) + len(others))

    def _frames(self, rows: np.ndarray) -> ReadPhoto:
        def photo(number: int, is_kept: IsKept) -> tuple[str, np.ndarray | None]:
            return str(rows[number]), self.pixels.frames[rows[number : number + 1]][0]

        return photo

    def change(self, content: Tuples, draw: Draw) -> Tensor:
        """The frames of the queries, then of the others, normalised: (n, S, 3, H, W). All are
        mirrored, or none."""
        queries, others = (
            self.ways.change(content.queries, draw),
            self.plain.change(content.others, draw),
        )
        assert isinstance(queries, Tensor), "no maps of frames are kept"
        assert isinstance(others, Tensor), "no maps of frames are kept"
        return draw.arranged(torch.cat([queries, others])).unflatten(0, (-1, self.length))
