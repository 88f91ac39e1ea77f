"""Hills of a map by their persistence: how far one goes down from a top before one can go up to a
higher one. No torch.

What a keypoint is in MorseDet (Barbarani et al., ICML 2024): a top and the saddle at which its hill
joins a higher one. The sum of all of it is the persistent homology, in dimension 1, of the map as a
cubical complex whose vertices are pixels; the library gudhi finds it. Neighbours are all eight
around a pixel. Any map of numbers will do: a network's, or how alike a query is to places on a
grid.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

from whence.errors import BadOption, MissingExtra
from whence.models.local.peaks import Peaks

Border = Literal["outside", "open"]


class Hills(NamedTuple):
    """Hills of a map, in no order. Numbers of pixels count along rows, from 0."""

    tops: np.ndarray
    """(M,) int64 pixel of each hill's top."""
    saddles: np.ndarray
    """(M,) int64 pixel at which it joins a higher one."""


def find_hills(heights: np.ndarray, *, border: Border = "outside") -> Hills:
    """All hills of a map (H, W) of finite numbers; those without any height, as on a plateau, are
    left out.

    With the border "outside" the map lies in a valley with walls all around: what rises to the rim
    is no hill, as published. With "open" it lies on a plain below everything: tops on the rim
    count, and the highest joins at the lowest pixel. Raises `BadOption` for what is no map, and
    `MissingExtra` without gudhi.
    """
    heights = np.asarray(heights, np.float64)
    if heights.ndim != 2 or not heights.size or not np.isfinite(heights).all():
        raise BadOption(
            f"hills are those of a map (H, W) of finite numbers; this one is {heights.shape}, or "
            "not finite"
        )
    if border not in ("outside", "open"):
        raise BadOption(f"the border is outside or open, not {border!r}")
    if border == "outside":
        return _hills(heights)
    lowest = int(heights.argmin())
    padded = np.pad(heights, 1, constant_values=heights.min() - 1)
    width = padded.shape[1]
    tops, saddles = ((found // width - 1, found % width - 1) for found in _hills(padded))
    rows, columns = saddles
    is_on = (rows >= 0) & (columns >= 0) & (rows < heights.shape[0]) & (columns < heights.shape[1])
    saddle_pixels = np.where(is_on, rows * heights.shape[1] + columns, lowest)
    top_pixels = tops[0] * heights.shape[1] + tops[1]
    is_hill = heights.ravel()[top_pixels] > heights.ravel()[saddle_pixels]
    return Hills(top_pixels[is_hill], saddle_pixels[is_hill])


def _hills(heights: np.ndarray) -> Hills:
    try:
        from gudhi import CubicalComplex
    except ImportError:
        raise MissingExtra("persistence of a map", "topology") from None
    height, width = heights.shape
    if min(height, width) < 3:
        return Hills(np.zeros(0, np.int64), np.zeros(0, np.int64))
    complex_ = CubicalComplex(vertices=heights)
    complex_.compute_persistence(homology_coeff_field=2, min_persistence=0)
    pairs, _ = complex_.vertices_of_persistence_pairs()
    found = np.asarray(pairs[1] if len(pairs) > 1 else np.zeros((0, 2)), np.int64).reshape(-1, 2)
    # The library counts along columns.
    saddles, tops = (found[:, side] % height * width + found[:, side] // height for side in (0, 1))
    return Hills(tops, saddles)


def persistence(heights: np.ndarray, hills: Hills) -> np.ndarray:
    """(M,) how far each top stands above its saddle."""
    flat = np.asarray(heights).ravel()
    return np.asarray(flat[hills.tops] - flat[hills.saddles])


def find_prominent(
    heights: np.ndarray, *, max_points: int, least: float = 0.0, border: Border = "outside"
) -> Peaks:
    """The tops of a map (H, W) that stand highest above their saddles, at least so far: no radius
    says how near two may lie.

    Raises as `find_hills`.
    """
    hills = find_hills(heights, border=border)
    values = persistence(heights, hills)
    order = np.argsort(-values, kind="stable")
    order = order[values[order] >= least][:max_points]
    width = np.asarray(heights).shape[1]
    points = np.stack([hills.tops[order] % width, hills.tops[order] // width], axis=1)
    return Peaks(points.astype(np.float32), values[order].astype(np.float32))
