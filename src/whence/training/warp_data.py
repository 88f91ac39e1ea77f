"""What GeoWarp's regressor is trained on: photos for generated pairs, and mined pairs of a query and a positive.

Mining follows the public code of GeoWarp (Berton et al., ICCV 2021): of each query's first candidates those that are near enough on
the ground and in the space of descriptors. The paper takes all photos within the radius. Descriptors are compared at unit length,
as everywhere here, where the code takes GeM's as they are.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from whence.errors import BadOption, NoPhotos
from whence.index.flat import FlatIndex
from whence.runtime import random_stream
from whence.training.warp_recipe import WarpPairOptions

_VIEWS, _PAIRS = 81, 82


class Candidates(NamedTuple):
    """For Q queries the K nearest database photos, nearest first."""

    rows: np.ndarray
    """(Q, K) int64."""
    squared_distances: np.ndarray
    """(Q, K) float32."""


def nearest_by_distance(database: np.ndarray, queries: np.ndarray, *, k: int) -> Candidates:
    """Exact search among descriptors (N, D) and (Q, D) of unit length, with squared Euclidean distances."""
    found = FlatIndex.over(database).search(queries, k=k)
    return Candidates(found.ids, np.maximum(2 - 2 * found.similarities, 0).astype(np.float32))


def spread_rows(num: int, most: int) -> np.ndarray:
    """Of `num` rows at most `most`, evenly spread; all of them where that is 0."""
    return np.unique(np.linspace(0, num - 1, min(num, most or num)).round().astype(np.int64))


def mine_pairs(found: Candidates, *, database_m: np.ndarray, queries_m: np.ndarray, options: WarpPairOptions) -> np.ndarray:
    """(P, 2) int64 pairs of a query and a database row that is one of its candidates, near on the ground and in descriptors.

    Positions (N, d) and (Q, d) are metric. Raises `NoPhotos` where there is none.
    """
    gap = queries_m[:, None] - database_m[found.rows]
    is_near = np.einsum("qkd,qkd->qk", gap, gap) <= options.radius_m**2
    kept = is_near & (found.squared_distances < options.max_squared_distance)
    queries, ranks = np.nonzero(kept)
    if not len(queries):
        raise NoPhotos(
            f"no query finds a photo within {options.radius_m:g} m among its first {options.num_retrieved}; raise "
            "pairs.num_retrieved or pairs.radius_m, or leave the losses of pairs out: losses.features=0 and losses.consistency=0"
        )
    return np.column_stack([queries, found.rows[queries, ranks]])


class WarpBatches:
    """Which photos and which pairs a batch holds: both in an order of their own for each time they have all been seen.

    A batch follows from the seed and its number alone. Several processes take different ones. Raises `BadOption` where there are
    fewer photos or pairs than one batch needs.
    """

    def __init__(self, *, num_photos: int, num_pairs: int, options: WarpPairOptions, seed: int, num_ranks: int = 1) -> None:
        for what, number, needed in (("photos", num_photos, options.num_views), ("pairs", num_pairs, options.num_pairs)):
            if needed < 2:
                raise BadOption(f"a batch of {needed} {what} is too small: batch norm learns from at least 2")
            if 0 < number < needed * num_ranks:
                raise BadOption(f"{number} {what} do not fill a batch of {needed}; lower pairs.num_views or pairs.num_pairs")
        self.num_photos, self.num_pairs, self.options, self.seed = num_photos, num_pairs, options, seed
        self.num_ranks = num_ranks
        self._orders: dict[tuple[int, int], np.ndarray] = {}

    @property
    def num_batches(self) -> int:
        """Batches until all photos have been seen."""
        return self.num_photos // (self.options.num_views * self.num_ranks)

    def photos(self, number: int, *, rank: int = 0) -> np.ndarray:
        """(num_views,) photos of a batch, counted from the first of all."""
        return self._taken(_VIEWS, self.num_photos, self.options.num_views, number * self.num_ranks + rank)

    def pairs(self, number: int, *, rank: int = 0) -> np.ndarray:
        """(num_pairs,) pairs of a batch, counted from the first of all."""
        return self._taken(_PAIRS, self.num_pairs, self.options.num_pairs, number * self.num_ranks + rank)

    def _taken(self, kind: int, total: int, size: int, number: int) -> np.ndarray:
        lap, place = divmod(number, total // size)
        if (kind, lap) not in self._orders:
            self._orders = {key: order for key, order in self._orders.items() if key[0] != kind}
            self._orders[kind, lap] = random_stream(self.seed, kind, lap).permutation(total)
        return self._orders[kind, lap][place * size : (place + 1) * size]
