"""Quadrilaterals and what lies in them, without torch: what comparing two photos needs of
projective geometry.

Coordinates are normalised: x to the right, y down, both from -1 to 1 across the image, its border
included. A quadrilateral is (4, 2): its corners top left, top right, bottom right, bottom left.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Generic, Literal, NamedTuple, TypeVar, get_args

import cv2
import numpy as np

from whence.errors import BadOption

Sampling = Literal["exact", "legacy"]
Sides = Literal["both", "query", "none"]
T = TypeVar("T")
FRAME = ((-1.0, -1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, 1.0))
"""The whole image as a quadrilateral."""
MIN_TURN = 1e-3
"""Twice the least area that two neighbouring edges of a sound quadrilateral span; 4 for the whole
image."""
_WHOLE = np.array(FRAME, np.float32)
_NEXT = [1, 2, 3, 0]


class Quads(NamedTuple, Generic[T]):
    """For B pairs of images the quadrilaterals (B, 4, 2) on the first and on the second that show
    the same; arrays or tensors."""

    first: T
    second: T


def is_sound(quads: Any) -> Any:
    """(B,) bool: which quadrilaterals (B, 4, 2) are finite, convex, not mirrored and not flat;
    arrays and tensors alike."""
    edges = quads[:, _NEXT] - quads
    following = edges[:, _NEXT]
    turns = edges[..., 0] * following[..., 1] - edges[..., 1] * following[..., 0]
    return ((turns > MIN_TURN) & (turns < np.inf)).all(1)


def sound_pairs(quads: Quads[np.ndarray]) -> Quads[np.ndarray]:
    """The quadrilaterals, both images whole where either quadrilateral of a pair cannot be
    warped."""
    keep = (is_sound(quads.first) & is_sound(quads.second))[:, None, None]
    return Quads(*(np.where(keep, side, _WHOLE) for side in quads))


def on_sides(quads: Quads[np.ndarray], sides: Sides) -> Quads[np.ndarray]:
    """The quadrilaterals, or, where not both photos are warped, others that show the same with the
    second photo left whole."""
    if sides == "both":
        return quads
    whole = np.broadcast_to(_WHOLE, quads.first.shape)
    if sides == "none":
        return Quads(whole, whole)
    # Where the second photo's corners lie on the first: out of the second's quadrilateral, into the
    # first's.
    moved = [_out_of_into(*pair) for pair in zip(quads.second, quads.first, strict=True)]
    return Quads(np.array(moved, np.float32).reshape(-1, 4, 2), whole)


def _out_of_into(out_of: np.ndarray, into: np.ndarray) -> np.ndarray:
    """Where the corners of an image lie once what one quadrilateral shows is brought into another;
    NaN where nothing tells."""
    if not (is_sound(out_of[None]) & is_sound(into[None]))[0]:
        return np.full((4, 2), np.nan, np.float32)
    homography = cv2.getPerspectiveTransform(out_of.astype(np.float32), into.astype(np.float32))
    return cv2.perspectiveTransform(_WHOLE[None], homography)[0]


@lru_cache(maxsize=16)
def grid_points(size: tuple[int, int], sampling: Sampling = "exact") -> np.ndarray:
    """(h w, 2) float32: the positions of an output of `size` (h, w) in its own normalised
    coordinates, row by row.

    "exact": the pixels' centres. "legacy": from border to border, which the published weights were
    trained with; there even the whole image does not map onto itself, its rim is blended with
    black. Raises `BadOption` for anything else.
    """
    if sampling not in get_args(Sampling):
        raise BadOption(f"sampling is exact or legacy, not {sampling!r}")
    reach = [1 - 1 / side if sampling == "exact" else 1.0 for side in size]
    y, x = (np.linspace(-r, r, side, dtype=np.float32) for r, side in zip(reach, size, strict=True))
    points: np.ndarray = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    points.flags.writeable = False
    return points


def positions(quad: np.ndarray, points: np.ndarray, *, size: tuple[int, int]) -> np.ndarray:
    """(N, 2) float32: where points (N, 2) of a sound quadrilateral (4, 2) lie on an image of `size`
    (h, w), counted in its pixels.

    The middle of the first pixel is 0. Those far outside lie just outside.
    """
    homography = cv2.getPerspectiveTransform(_WHOLE, quad.astype(np.float32))
    sides = np.array(size[::-1], np.float32)
    at = ((cv2.perspectiveTransform(points[None], homography)[0] + 1) * sides - 1) / 2
    return np.clip(at, -2.0, sides + 1)


def cut(image: np.ndarray, quad: np.ndarray, *, sampling: Sampling = "exact") -> np.ndarray:
    """A sound quadrilateral (4, 2) cut out of a float32 image (H, W, C) and stretched to its size;
    bilinear, zero outside."""
    height, width = image.shape[:2]
    at = positions(quad, grid_points((height, width), sampling), size=(height, width)).reshape(
        height, width, 2
    )
    found = cv2.remap(
        image,
        at[..., 0],
        at[..., 1],
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=0,
    )
    # OpenCV leaves a single channel's axis out.
    return found.reshape(image.shape)
