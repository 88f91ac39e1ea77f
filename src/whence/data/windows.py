"""Windows: runs of frames that follow one another in a drive, and which windows show the same
place.

After the sequence building of "Learning sequential descriptors" (Mereu et al., RA-L 2022): a window
is kept where its frame numbers follow one another without a gap, and a database window is a
positive of a query's where any of its frames is near any of its own. The published code looks every
frame up in every window; here frames know their windows.
"""

from __future__ import annotations

import numpy as np

from whence.errors import BadOption, NoPhotos
from whence.lists import NeighborLists, group_rows, union_runs


def cut_windows(
    sequence: np.ndarray,
    frame: np.ndarray,
    *,
    length: int,
    speed: int = 1,
    is_published: bool = False,
) -> np.ndarray:
    """(W, S) rows of frames in each window of S frames, in the order of sequences and numbers,
    overlapping as far as they can.

    `sequence` (N,) says which drive a row is of, `frame` (N,) its number in it, whatever the order
    of rows. Within a window numbers grow by `speed` exactly: 2 is a drive at twice the speed.
    `is_published` leaves out the first window of each drive where S is even, as the published code
    does. Raises `BadOption`.
    """
    if length < 1 or speed < 1:
        raise BadOption(
            f"windows have at least 1 frame and speeds are at least 1, not {length} and {speed}"
        )
    _, drive = np.unique(sequence, return_inverse=True)
    if not len(drive):
        return np.empty((0, length), np.int64)
    low = int(frame.min())
    reach = int(frame.max()) - low + length * speed + 1
    keys = drive.astype(np.int64) * reach + (frame - low)
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    # Of frames with one number in one drive the first row stands for both.
    first = np.append(True, keys[1:] != keys[:-1])
    order, keys = order[first], keys[first]
    starts = np.arange(len(keys))
    if is_published and length % 2 == 0:
        is_begun = np.append(False, keys[1:] // reach == keys[:-1] // reach)
        starts = starts[is_begun]
    places = np.empty((len(starts), length), np.int64)
    fits = np.ones(len(starts), bool)
    for step in range(length):
        wanted = keys[starts] + step * speed
        found = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        fits &= keys[found] == wanted
        places[:, step] = found
    return np.asarray(order[places[fits]])


def windows_of(windows: np.ndarray, *, num_frames: int) -> NeighborLists:
    """For each of `num_frames` frames the windows (W, S) that hold it, ascending."""
    groups = group_rows(windows.ravel())
    counts = np.zeros(num_frames, np.int64)
    counts[groups.keys] = groups.rows.counts
    return NeighborLists(
        np.concatenate([[0], np.cumsum(counts)]), groups.rows.members // windows.shape[1]
    )


def positives_of_windows(
    near: NeighborLists, database: np.ndarray, queries: np.ndarray, *, num_frames: int
) -> NeighborLists:
    """For each query window (Q, S) the database windows (W, S) with any frame near any of its own,
    ascending.

    `near` lists the database frames, of `num_frames`, that are near each query frame.
    """
    of_frames = union_runs(windows_of(database, num_frames=num_frames), near)
    offsets = np.arange(0, queries.size + 1, queries.shape[1])
    return union_runs(of_frames, NeighborLists(offsets, queries.ravel()))


def require_windows(windows: np.ndarray, *, num_frames: int, what: str) -> np.ndarray:
    """The windows, where there are any. Raises `NoPhotos` that says why there are none."""
    if not len(windows):
        raise NoPhotos(
            f"{what}: {num_frames} frames hold no {windows.shape[1]} that follow one another; take "
            "shorter sequences, or look at the frame numbers in the names"
        )
    return windows
