"""Searching by sequences of frames: aligned distances, and SeqSLAM's search along diagonals at
several speeds. No models here.

The rival of sequence descriptors: nothing is pooled, every frame of a query is compared with every
frame of the database, and the cost grows with both.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from whence.errors import BadOption
from whence.types import Neighbors

SPEEDS = (0.5, 0.75, 1.0, 1.5, 2.0)
"""Frames of the database a frame of the query, that are tried by default."""
_BLOCK_BYTES = 1 << 27


class Nearest(NamedTuple):
    """The K nearest of each of Q queries, nearest first."""

    ids: np.ndarray
    """(Q, K) int64."""
    distances: np.ndarray
    """(Q, K) float32, Euclidean."""


def search_by_distance(database: np.ndarray, queries: np.ndarray, *, k: int) -> Nearest:
    """The k rows of a database (N, D) nearest to each query (Q, D), exactly: sequence descriptors
    need not have unit length.

    Equal distances come by ascending row.
    """
    k = min(k, len(database))
    ids, distances = np.empty((len(queries), k), np.int64), np.empty((len(queries), k), np.float32)
    norms = np.einsum("nd,nd->n", database, database)
    size = max(1, _BLOCK_BYTES // (8 * max(1, len(database))))
    for start in range(0, len(queries), size):
        asked = queries[start : start + size]
        squared = norms - 2 * (asked @ database.T) + np.einsum("qd,qd->q", asked, asked)[:, None]
        ids[start : start + size], found = _least(squared, k)
        distances[start : start + size] = np.sqrt(np.maximum(found, 0))
    return Nearest(ids, distances)


def frame_distances(database: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """(T, N) Euclidean distances of T frames (T, d) to N frames (N, d)."""
    squared = (
        np.einsum("td,td->t", queries, queries)[:, None]
        + np.einsum("nd,nd->n", database, database)
        - 2 * queries @ database.T
    )
    return np.sqrt(np.maximum(squared, 0))


def aligned_distances(
    distances: np.ndarray, database: np.ndarray, queries: np.ndarray, *, is_centre: bool = False
) -> np.ndarray:
    """(Q, W) distances of query windows to database windows: the mean over frames at the same place
    (SeqMatchNet; Garg et al., ICRA 2022), or the middle frame's alone.

    `distances` (T, N) is of frames, `database` (W, S) and `queries` (Q, S) their rows in windows of
    the same length.
    """
    if database.shape[1] != queries.shape[1]:
        raise BadOption(
            f"windows of {queries.shape[1]} and {database.shape[1]} frames cannot be laid side by "
            "side"
        )
    if is_centre:
        middle = (database.shape[1] - 1) // 2
        return np.asarray(distances[np.ix_(queries[:, middle], database[:, middle])])
    total = np.zeros((len(queries), len(database)), np.float32)
    for place in range(database.shape[1]):
        total += distances[np.ix_(queries[:, place], database[:, place])]
    return total / database.shape[1]


def enhance_contrast(distances: np.ndarray, *, radius: int = 10) -> np.ndarray:
    """(T, N) distances less the mean, over the deviation, of those to the frames around (SeqSLAM;
    Milford and Wyeth, ICRA 2012).

    Around are `radius` database frames on both sides.
    """
    num = distances.shape[1]
    wide = np.asarray(distances, np.float64)
    sums, squares = (
        np.cumsum(np.pad(values, ((0, 0), (1, 0))), axis=1) for values in (wide, wide * wide)
    )
    first, last = (
        np.maximum(np.arange(num) - radius, 0),
        np.minimum(np.arange(num) + radius + 1, num),
    )
    mean = (sums[:, last] - sums[:, first]) / (last - first)
    variance = (squares[:, last] - squares[:, first]) / (last - first) - mean**2
    return np.asarray((wide - mean) / np.sqrt(np.maximum(variance, 1e-12)), np.float32)


def match_sequences(
    distances: np.ndarray,
    queries: np.ndarray,
    runs: np.ndarray,
    *,
    speeds: Sequence[float] = SPEEDS,
    k: int = 10,
) -> Neighbors:
    """The k database frames of each query window (Q, S) along whose diagonals the frames are
    nearest, best first.

    `distances` (T, N) is of frames, in the order that drives took them, and `runs` (N,) says which
    drive each database frame is of: a diagonal does not leave it. Speed v means v database frames a
    query frame, from the middle frame's place on; a negative one drives the other way. Similarities
    are negated mean distances, and -inf where the drive is too short for every speed. Time grows
    with Q x S x N x the number of speeds.
    """
    if not speeds:
        raise BadOption("sequence matching needs at least one speed")
    num, (num_queries, length) = distances.shape[1], queries.shape
    middle = (length - 1) // 2
    places = np.arange(num)
    ids = np.empty((num_queries, min(k, num)), np.int64)
    costs = np.empty(ids.shape, np.float32)
    shifts = [np.round(speed * (np.arange(length) - middle)).astype(np.int64) for speed in speeds]
    for number, window in enumerate(queries):
        best = np.full(num, np.inf, np.float32)
        for shift in shifts:
            reached = places + shift[:, None]
            inside = (reached >= 0) & (reached < num)
            reached = np.where(inside, reached, places)
            inside &= runs[reached] == runs
            cost = distances[window[:, None], reached].mean(axis=0)
            best = np.minimum(best, np.where(inside.all(axis=0), cost, np.inf))
        found = _least(best[None], ids.shape[1])
        ids[number], costs[number] = found[0][0], found[1][0]
    return Neighbors(ids, -costs)


def _least(values: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The columns of the k least values of each row, in order, and the values; equal ones by
    ascending column."""
    if k < values.shape[1]:
        limit = np.partition(values, k - 1, axis=1)[:, k - 1 : k]
        masked = np.where(values <= limit, values, np.inf)
    else:
        masked = values
    order = np.argsort(masked, axis=1, kind="stable")[:, :k]
    return order, np.take_along_axis(values, order, axis=1)
