"""Groups of tiles that are learned from together: at random, or by how the network sees them.
Nothing here needs torch.

Published code mends no draw of its random groups: three of four of them hold four copies of one
image. Here all years are drawn.
"""

from __future__ import annotations

import numpy as np

from whence.errors import BadOption
from whence.runtime import random_stream
from whence.training.branches.tile_places import TilePlaces
from whence.training.options.tiles import TilesOptions

_GROUPS, _CHOICE = 121, 122
_ITERATIONS = 100
_MOST_POINTS = 256
"""For each centre: as faiss does by itself, k-means is fitted on a sample of so many
descriptors."""


class TileBatches:
    """Which places are learned from together. A batch follows from the groups, the seed, the epoch
    and its number."""

    def __init__(self, places: TilePlaces, *, options: TilesOptions, seed: int) -> None:
        """Raises `BadOption`."""
        if (
            options.num_places < 2
            or options.num_groups < 1
            or options.batches_per_epoch < 1
            or options.regroup_every < 1
        ):
            raise BadOption(
                "at least two places, one group, and one batch and epoch are needed to learn from "
                "tiles"
            )
        self.places, self.options, self.seed = places, options, seed
        self.groups = self.random_groups(0)
        self.shares = np.empty(0)
        """How often each group is drawn; empty for all alike."""

    def random_groups(self, epoch: int) -> np.ndarray:
        """(P,) numbers of groups of nearly equal size."""
        order = random_stream(self.seed, _GROUPS, epoch).permutation(len(self.places))
        groups = np.empty(len(self.places), np.int64)
        for number, part in enumerate(np.array_split(order, self.options.num_groups)):
            groups[part] = number
        return groups

    def is_regrouped(self, epoch: int) -> bool:
        """Whether the network is asked before this epoch."""
        return (
            self.options.grouping != "random"
            and epoch >= self.options.regroup_every
            and epoch % self.options.regroup_every == 0
        )

    def batch(self, epoch: int, number: int) -> np.ndarray:
        """(num_places,) places of one group, chosen whatever its size is; with repetition where it
        has too few."""
        random = random_stream(self.seed, _CHOICE, epoch, number)
        members = self._members(random)
        return random.choice(
            members, self.options.num_places, replace=len(members) < self.options.num_places
        )

    def _members(self, random: np.random.Generator) -> np.ndarray:
        there = np.unique(self.groups)
        if len(self.shares):
            return np.flatnonzero(
                self.groups == there[random.choice(len(there), p=shares_of(self.shares[there]))]
            )
        return np.flatnonzero(self.groups == there[random.integers(len(there))])


def shares_of(counts: np.ndarray) -> np.ndarray:
    """How often groups are drawn into which so many photos fall; all alike where none does."""
    total = counts.sum()
    return counts / total if total > 0 else np.full(len(counts), 1 / len(counts))


def k_means(
    descriptors: np.ndarray, num_groups: int, *, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """(num_groups, D) centres by faiss over descriptors (P, D), fewer for few of them, and (P,) the
    nearest of each."""
    import faiss

    num = min(num_groups, len(descriptors))
    rows = np.ascontiguousarray(descriptors, np.float32)
    kmeans = faiss.Kmeans(
        rows.shape[1],
        num,
        niter=_ITERATIONS,
        seed=seed,
        max_points_per_centroid=_MOST_POINTS,
        min_points_per_centroid=1,
    )
    kmeans.train(rows)
    return np.asarray(kmeans.centroids), kmeans.index.search(rows, 1)[1][:, 0].astype(np.int64)
