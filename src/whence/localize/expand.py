"""Searching again with what was found: query expansion, database augmentation, and diffusion over
the database's own neighbours.

All work on descriptors alone, after a first search and without any photo. Descriptors have unit
length.
"""

from __future__ import annotations

import numpy as np

from whence.errors import BadOption
from whence.index.flat import FlatIndex
from whence.types import Neighbors

_BLOCK = 256
"""Queries diffused together."""


def expand_queries(
    queries: np.ndarray,
    database: np.ndarray,
    neighbors: Neighbors,
    *,
    num: int = 5,
    power: float = 3.0,
) -> np.ndarray:
    """Queries (Q, D) plus their first `num` candidates, each weighted by its similarity to the
    `power`, at unit length.

    Power 0 is the mean of query and candidates (Chum et al., ICCV 2007), 3 that of Radenovic et al.
    (TPAMI 2019).
    """
    _check_num(num)
    ids, similarities = neighbors.ids[:, :num], neighbors.similarities[:, :num]
    weights = np.maximum(similarities, 0) ** power
    return _unit(queries + np.einsum("qk,qkd->qd", weights, database[ids]))


def augment_database(database: np.ndarray, *, num: int = 5) -> np.ndarray:
    """Each descriptor (N, D) with its `num` nearest, weights falling linearly with rank, at unit
    length.

    The descriptor itself has weight 1, the r-th neighbour 1 - r / (num + 1) (Turcot and Lowe, ICCV
    workshops 2009; weights by Gordo et al., IJCV 2017).
    """
    _check_num(num)
    found = FlatIndex.over(database).search(database, k=min(num + 1, len(database)))
    augmented = database.astype(np.float32)
    for row, ids in enumerate(found.ids):
        near = ids[ids != row][:num]
        weights = 1 - np.arange(1, len(near) + 1) / (num + 1)
        augmented[row] += (weights[:, None] * database[near]).sum(axis=0)
    return _unit(augmented)


def diffuse(
    queries: np.ndarray,
    database: np.ndarray,
    *,
    k: int,
    num_neighbors: int = 20,
    num_sources: int = 10,
    alpha: float = 0.95,
    power: float = 3.0,
    num_steps: int = 20,
) -> Neighbors:
    """The first `k` database rows of queries (Q, D) by similarity spread over the graph of mutual
    neighbours.

    Solves (I - alpha S) f = y by conjugate gradients, S the symmetrically normalised similarities,
    to the `power`, of photos that are among each other's `num_neighbors` nearest, y the same of the
    query and its `num_sources` nearest (Iscen et al., CVPR 2017). Photos that nothing reaches
    follow in the order of the plain search.
    """
    if not 0 <= alpha < 1:
        raise BadOption(f"alpha lies between 0 and below 1, not {alpha}")
    _check_num(min(num_neighbors, num_sources, num_steps, k))
    index = FlatIndex.over(database)
    ids, weights = _graph(index, database, num=num_neighbors, power=power)
    width = min(max(k, num_sources), len(database))
    found = index.search(queries, k=width)
    rows, values = (
        np.empty((len(queries), min(k, len(database))), np.int64),
        np.empty((len(queries), min(k, len(database))), np.float32),
    )
    for start in range(0, len(queries), _BLOCK):
        near, near_values = (
            found.ids[start : start + _BLOCK],
            found.similarities[start : start + _BLOCK],
        )
        sources = np.zeros((len(database), len(near)))
        asked = np.arange(len(near))[:, None]
        sources[near[:, :num_sources], asked] = np.maximum(near_values[:, :num_sources], 0) ** power
        spread = _solve(ids, weights, sources, alpha=alpha, num_steps=num_steps).T
        # What nothing reaches has exactly 0; a little of the plain similarity, below all else,
        # keeps its order.
        spread[asked, near] += 1e-9 * (1 + near_values)
        best = np.argsort(-spread, axis=1, kind="stable")[:, : rows.shape[1]]
        rows[start : start + len(best)] = best
        values[start : start + len(best)] = np.take_along_axis(spread, best, axis=1)
    return Neighbors(rows, values)


def _graph(
    index: FlatIndex, database: np.ndarray, *, num: int, power: float
) -> tuple[np.ndarray, np.ndarray]:
    """Neighbours (N, num) of each photo and the normalised weights of the graph, 0 where a
    neighbour is none in return."""
    found = index.search(database, k=min(num + 1, len(database)))
    is_itself = found.ids == np.arange(len(database))[:, None]
    width = len(database)
    edges = np.where(is_itself, -1, np.arange(width)[:, None] * width + found.ids)
    back = found.ids * width + np.arange(width)[:, None]
    is_mutual = np.isin(back, edges) & ~is_itself
    weights = np.where(is_mutual, np.maximum(found.similarities, 0).astype(float) ** power, 0.0)
    degrees = weights.sum(axis=1)
    scale = 1 / np.sqrt(np.where(degrees > 0, degrees, 1))
    return found.ids, weights * scale[:, None] * scale[found.ids]


def _solve(
    ids: np.ndarray, weights: np.ndarray, sources: np.ndarray, *, alpha: float, num_steps: int
) -> np.ndarray:
    """f (N, B) of (I - alpha S) f = sources (N, B), by conjugate gradients, every column for
    itself."""
    solution = np.zeros_like(sources)
    rest = sources.copy()
    way = rest.copy()
    size = np.einsum("nb,nb->b", rest, rest)
    for _ in range(num_steps):
        if not size.max(initial=0.0) > 1e-24:
            break
        step = way.copy()
        for place in range(ids.shape[1]):
            step -= alpha * weights[:, place, None] * way[ids[:, place]]
        length = size / np.maximum(np.einsum("nb,nb->b", way, step), 1e-300)
        solution += length * way
        rest -= length * step
        following = np.einsum("nb,nb->b", rest, rest)
        way = rest + following / np.maximum(size, 1e-300) * way
        size = following
    return solution


def _unit(vectors: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: np.ndarray = (vectors / np.maximum(lengths, 1e-12)).astype(np.float32)
    return unit


def _check_num(num: int) -> None:
    if num < 1:
        raise BadOption(f"searching again needs numbers of at least 1, not {num}")
