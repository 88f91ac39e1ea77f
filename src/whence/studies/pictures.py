"""Queries that re-ranking changed, side by side with what was first before and after, for a person
to look at."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from whence.data.images import load_resized
from whence.errors import InputError

TILE_PX = (240, 180)
"""Width and height of a photo."""
_CAPTION_PX = 20
_FRAME_PX = 4
GREY, GREEN, RED = (160, 160, 160), (40, 160, 60), (200, 50, 40)
"""Of frames: the query's, right, wrong."""


class Change(NamedTuple):
    """A query and the photos that were first before and after re-ranking."""

    query: Path
    before: Path
    after: Path
    helped: bool
    num_inliers: int
    """Of retrieval's first candidate; of a scorer that counts none, its similarity, rounded."""


def draw_changes(changes: Sequence[Change]) -> np.ndarray:
    """A sheet (H, W, 3) uint8 of one line each: query, before, after; right photos are framed
    green, wrong ones red."""
    title = np.full((_CAPTION_PX, 3 * TILE_PX[0], 3), 255, np.uint8)
    rows = [
        _written(title, "query, first by retrieval (with its evidence), first after re-ranking")
    ]
    for change in changes:
        colours = (GREY, *((RED, GREEN) if change.helped else (GREEN, RED)))
        photos = zip((change.query, change.before, change.after), colours, strict=True)
        row = np.hstack([_tile(path, colour) for path, colour in photos])
        rows.append(
            _written(
                row,
                f"{'helped' if change.helped else 'hurt'}: {change.num_inliers}",
                left_px=TILE_PX[0] + 8,
            )
        )
    return np.vstack(rows)


def _tile(path: Path, colour: tuple[int, int, int]) -> np.ndarray:
    width, height = (side - 2 * _FRAME_PX for side in TILE_PX)
    tile = np.full((height, width, 3), 255, np.uint8)
    try:
        photo = load_resized(path, long_side_px=width)
    except InputError:
        _written(tile, "cannot be read")
    else:
        share = min(width / photo.shape[1], height / photo.shape[0])
        size = (max(1, round(photo.shape[1] * share)), max(1, round(photo.shape[0] * share)))
        left, top = (width - size[0]) // 2, (height - size[1]) // 2
        tile[top : top + size[1], left : left + size[0]] = cv2.resize(
            photo, size, interpolation=cv2.INTER_AREA
        )
    framed = np.empty((TILE_PX[1], TILE_PX[0], 3), np.uint8)
    framed[:] = colour
    framed[_FRAME_PX:-_FRAME_PX, _FRAME_PX:-_FRAME_PX] = tile
    return framed


def _written(picture: np.ndarray, text: str, *, left_px: int = 8) -> np.ndarray:
    """The picture with words at its top left, black on a white seam."""
    place = (left_px, _CAPTION_PX - 6)
    for colour, thickness in (((255, 255, 255), 4), ((0, 0, 0), 1)):
        cv2.putText(
            picture, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.45, colour, thickness, cv2.LINE_AA
        )
    return picture
