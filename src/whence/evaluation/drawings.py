"""The drawings of a page of answers: what a comparison found in photo and candidate, and where a
network looked."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from whence.data.images import load_resized
from whence.data.photos import Photos
from whence.data.pictures import WarpScorer, draw_attention, draw_match, draw_warped_pair
from whence.errors import InputError
from whence.matching.matchers import MatchOptions, match_images
from whence.parts import Matcher, PairScorer
from whence.registry import MATCHERS, build
from whence.runtime import progress
from whence.types import Position

MAX_MATCH_PICTURES = 40
"""Queries of a page whose pairs are drawn: each costs as much as describing two photos."""
MATCH_PHOTO_PX = 640
MATCH_HEIGHT_PX = 300
MAX_ASPECT = 8
"""Photos that are longer and thinner are not drawn side by side."""


def draw_pairs(
    positions: Sequence[Position],
    *,
    database: Photos,
    scorer: PairScorer | None = None,
    max_pictures: int = MAX_MATCH_PICTURES,
    show_progress: bool | None = None,
) -> dict[str, np.ndarray]:
    """Photo and best candidate as the scorer saw them, by the query's name, for the first
    positions.

    A scorer that warps shows the parts it finds the same; else the inliers between both photos are
    drawn, as found by the matcher that decided where it is one by name. Photos that cannot be
    read, and pairs no geometry fits, have no picture.
    """
    asked = [position for position in positions if position.candidates][:max_pictures]
    pictures = {}
    matcher_of = lru_cache(_matcher_of)
    with progress("drawing pairs", total=len(asked), show=show_progress) as advance:
        for position in asked:
            files = Path(position.query), database.file(position.candidates[0].row)
            with contextlib.suppress(InputError):
                picture = _draw_pair(files, scorer, matcher_of(position.scorer))
                if picture is not None:
                    pictures[position.query] = picture
            advance(1)
    return pictures


def draw_attentions(
    positions: Sequence[Position],
    attention: Callable[[np.ndarray], np.ndarray | None],
    *,
    max_pictures: int = MAX_MATCH_PICTURES,
) -> dict[str, np.ndarray]:
    """Where a model looked in the first photos that were asked about, by the query's name; none
    where it has no attention.

    `attention` gives the weight of each pixel of an image (H, W, 3) uint8. Photos that cannot be
    read have no picture.
    """
    pictures: dict[str, np.ndarray] = {}
    for position in positions[:max_pictures]:
        with contextlib.suppress(InputError):
            image = load_resized(Path(position.query), long_side_px=MATCH_PHOTO_PX)
            weights = attention(image)
            if weights is None:
                return {}
            pictures[position.query] = draw_attention(image, weights)
    return pictures


def _matcher_of(scorer: str) -> Matcher | None:
    """The matcher that a scorer is named after; None for others, whose pairs are drawn with
    RootSIFT."""
    return build("matcher", scorer) if scorer in MATCHERS else None


def _draw_pair(
    files: tuple[Path, Path], scorer: PairScorer | None, matcher: Matcher | None
) -> np.ndarray | None:
    images = [load_resized(file, long_side_px=MATCH_PHOTO_PX) for file in files]
    if any(max(image.shape[:2]) > MAX_ASPECT * min(image.shape[:2]) for image in images):
        return None
    if isinstance(scorer, WarpScorer):
        return draw_warped_pair(
            images[0], images[1], scorer.compare(images[0], images[1]), height_px=MATCH_HEIGHT_PX
        )
    found = match_images(*files, options=MatchOptions(is_upright=True), matcher=matcher)
    return (
        draw_match(images[0], images[1], found, height_px=MATCH_HEIGHT_PX)
        if found.num_inliers
        else None
    )
