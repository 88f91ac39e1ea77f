"""Sixteen bits to eight: by their upper byte, or stretched where the values use a small part of the
range."""

from __future__ import annotations

import numpy as np

LOW_RANGE = 1 << 14
"""Pictures whose values span less are stretched: 10, 12 and 14 bits stored in 16, and thermal
pictures."""
_IGNORED_SHARE = 10_000
"""One value in so many may lie outside at each end: dead and hot pixels."""


def to_8_bits(levels: np.ndarray) -> np.ndarray:
    """Values uint16, of any shape, as uint8: divided by 256, or stretched to the whole range where
    they span less than `LOW_RANGE`.

    A picture of a single value is divided.
    """
    low, high = _span(levels)
    if low == high or high - low >= LOW_RANGE:
        return (levels >> 8).astype(np.uint8)
    inside = np.clip(levels, low, high).astype(np.float32) - low
    return np.rint(inside * (255 / (high - low))).astype(np.uint8)


def has_low_range(high_bytes: np.ndarray) -> bool:
    """Whether values of which only the upper byte is known could span less than `LOW_RANGE`."""
    low, high = _span(high_bytes)
    return (high - low - 1) << 8 < LOW_RANGE


def _span(levels: np.ndarray) -> tuple[int, int]:
    """Smallest and largest value, a few strays left out."""
    running = np.cumsum(np.bincount(levels.ravel()))
    strays = levels.size // _IGNORED_SHARE
    return int(np.searchsorted(running, strays, side="right")), int(
        np.searchsorted(running, levels.size - strays)
    )
