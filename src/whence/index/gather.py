"""Reading scattered rows of matrices that may lie on disk.

Touching a memory map row by row waits for the disk once per row, and the system reads ahead what
nobody wants. Announcing all pages first (madvise, MADV_WILLNEED) lets the disk fetch them together.
It costs system calls, so it is only done while reads are slow.
"""

from __future__ import annotations

import mmap
import time
from itertools import pairwise

import numpy as np

PAGE_BYTES = mmap.PAGESIZE
SLOW_READ_S = 20e-6
"""Seconds per row above which rows evidently came from the disk; a cached row of 2 kB takes about a
microsecond."""


class RowReader:
    """Rows of several matrices laid end to end."""

    def __init__(self, parts: list[np.ndarray]) -> None:
        self._parts = parts
        self._offsets = np.cumsum([0] + [len(part) for part in parts])
        self._is_cold = [isinstance(part, np.memmap) for part in parts]

    def rows(self, positions: np.ndarray) -> np.ndarray:
        """Float32 rows (n, D) at ascending positions (n,)."""
        if len(self._parts) == 1:
            return self._read(0, positions)
        bounds = np.searchsorted(positions, self._offsets)
        pieces = [
            self._read(i, positions[first:last] - self._offsets[i])
            for i, (first, last) in enumerate(pairwise(bounds.tolist()))
            if first < last
        ]
        return np.concatenate(pieces) if pieces else self._read(0, positions)

    def _read(self, i: int, rows: np.ndarray) -> np.ndarray:
        part = self._parts[i]
        if not isinstance(part, np.memmap) or len(rows) == 0:
            return np.asarray(part[rows], dtype=np.float32)
        start = time.perf_counter()
        if self._is_cold[i]:
            announce(part, rows)
        read = np.asarray(part[rows], dtype=np.float32)
        self._is_cold[i] = time.perf_counter() - start > SLOW_READ_S * len(rows)
        return read


def announce(matrix: np.memmap, rows: np.ndarray) -> None:
    """Ask the system to read the pages of these rows soon. Does nothing where it cannot be
    asked."""
    mapped = getattr(matrix, "_mmap", None)
    if mapped is None or not hasattr(mapped, "madvise") or not matrix.flags.c_contiguous:
        return
    base = np.frombuffer(mapped, dtype=np.uint8)
    start = matrix.__array_interface__["data"][0] - base.__array_interface__["data"][0]
    row_bytes = matrix.strides[0]
    first = (start + rows * row_bytes) // PAGE_BYTES * PAGE_BYTES
    last = np.minimum(start + (rows + 1) * row_bytes, len(base))
    for page, length in zip(first.tolist(), (last - first).tolist(), strict=True):
        mapped.madvise(mmap.MADV_WILLNEED, page, length)
