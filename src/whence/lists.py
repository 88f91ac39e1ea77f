"""Lists of rows, many of them as two arrays: whose members are whose."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

BLOCK_ROWS = 1 << 15
"""Rows that are computed together: what is made on the way stays in the cache."""


class NeighborLists(NamedTuple):
    """For each of Q queries a run of `members`: query i's are members[offsets[i]:offsets[i + 1]],
    ascending."""

    offsets: np.ndarray
    """(Q + 1,) int64."""
    members: np.ndarray
    """(M,) int64."""

    def of(self, query: int) -> np.ndarray:
        return self.members[self.offsets[query] : self.offsets[query + 1]]

    @property
    def counts(self) -> np.ndarray:
        """(Q,) number of neighbours."""
        return np.diff(self.offsets)


def lists_of(members: Sequence[np.ndarray]) -> NeighborLists:
    """The lists with these members, one array for each query."""
    counts = np.array([len(rows) for rows in members], np.int64)
    joined = np.concatenate(members) if len(members) else np.empty(0, np.int64)
    return NeighborLists(
        np.concatenate([[0], np.cumsum(counts)]).astype(np.int64), joined.astype(np.int64)
    )


class Groups(NamedTuple):
    """Rows that have the same key, key by key."""

    keys: np.ndarray
    """(G,) ascending."""
    rows: NeighborLists


def group_rows(keys: np.ndarray) -> Groups:
    """Rows (N,) of equal keys (N,) int64 together, rows ascending: one sort, of key and row as one
    number where both fit."""
    return group_in_place(np.array(keys, np.int64))


def group_in_place(keys: np.ndarray) -> Groups:
    """As `group_rows`, of keys that may be written over."""
    if not len(keys):
        return Groups(keys, NeighborLists(np.zeros(1, np.int64), np.empty(0, np.int64)))
    bits = int(len(keys) - 1).bit_length()
    low, high = int(keys.min()), int(keys.max())
    if high - low < 1 << (62 - bits):
        keys -= low
        keys <<= bits
        for start in range(0, len(keys), BLOCK_ROWS):
            keys[start : start + BLOCK_ROWS] += np.arange(start, min(start + BLOCK_ROWS, len(keys)))
        keys.sort()
        rows = keys & ((1 << bits) - 1)
        keys >>= bits
    else:
        rows = np.argsort(keys, kind="stable")
        keys, low = keys[rows], 0
    firsts = np.flatnonzero(np.append(True, keys[1:] != keys[:-1]))
    return Groups(keys[firsts] + low, NeighborLists(np.append(firsts, len(keys)), rows))


def select_runs(lists: NeighborLists, numbers: np.ndarray) -> NeighborLists:
    """Some of the lists, in the order asked for."""
    counts = lists.counts[numbers]
    offsets = np.concatenate([[0], np.cumsum(counts)])
    # Where each list begins, less where it will: adding the place in the whole gives the place it
    # comes from.
    return NeighborLists(
        offsets,
        lists.members[
            np.arange(offsets[-1]) + np.repeat(lists.offsets[numbers] - offsets[:-1], counts)
        ],
    )


def distinct(values: np.ndarray) -> np.ndarray:
    """The values (n,) ascending, each once: by a sort, which for a few thousand is several times
    faster than `numpy.unique`."""
    found = np.sort(values)
    return found[np.append(True, found[1:] != found[:-1])] if len(found) else found


def union_runs(lists: NeighborLists, groups: NeighborLists) -> NeighborLists:
    """For each group of lists, by their numbers, the union of their members, ascending; a block of
    groups at a time."""
    num_members = int(lists.members.max(initial=0)) + 1
    sizes = np.concatenate([[0], np.cumsum(lists.counts[groups.members])])[groups.offsets]
    counts, members = np.zeros(len(groups.counts), np.int64), [np.empty(0, np.int64)]
    start = 0
    while start < len(counts):
        # As many groups as have about so many members together, and one at least.
        end = max(
            start + 1, int(np.searchsorted(sizes, sizes[start] + 8 * BLOCK_ROWS, side="right")) - 1
        )
        chosen = select_runs(lists, groups.members[groups.offsets[start] : groups.offsets[end]])
        owners = np.repeat(np.arange(end - start), np.diff(sizes[start : end + 1]))
        keys = distinct(owners * num_members + chosen.members)
        counts[start:end] = np.bincount(keys // num_members, minlength=end - start)
        members.append(keys % num_members)
        start = end
    return NeighborLists(np.concatenate([[0], np.cumsum(counts)]), np.concatenate(members))
