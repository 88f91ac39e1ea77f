"""What every matcher must do, and pairs of images with a known homography between them."""

from __future__ import annotations

import cv2
import numpy as np

from conftest import draw_place, view_of
from whence.matching.matchers import MatchOptions, match_images
from whence.parts import Matcher, PairScorer
from whence.types import Match

SIZE0, SIZE1 = (471, 313), (339, 257)
"""Width and height, divisible by nothing on purpose."""


def warped_pair(*, seed: int = 11, scale: float = 1.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """An image, another of other size, and the homography between them, in pixels."""
    (width0, height0), (width1, height1) = (
        (round(w * scale), round(h * scale)) for w, h in (SIZE0, SIZE1)
    )
    image = draw_place(seed, width=width0, height=height0)
    matrix = np.array(
        [
            [0.72 * width1 / 339 * 471 / width0, 0.03, 6],
            [-0.02, 0.78 * height1 / 257 * 313 / height0, 5],
            [6e-5, 2e-5, 1],
        ]
    )
    return (
        image,
        cv2.warpPerspective(image, matrix, (width1, height1), borderMode=cv2.BORDER_REFLECT),
        matrix,
    )


def corner_error(found: Match, matrix: np.ndarray) -> float:
    """Mean distance of the first image's mapped corners from where they belong, over the second
    image's long side."""
    assert found.matrix is not None, found.reason
    width, height = found.size0_px
    corners = np.array(
        [[0, 0], [width - 1, 0], [width - 1, height - 1], [0, height - 1]], np.float64
    )[None]
    gap = cv2.perspectiveTransform(corners, matrix) - cv2.perspectiveTransform(
        corners, found.matrix
    )
    return float(np.linalg.norm(gap[0], axis=1).mean() / max(found.size1_px))


def check_matcher(matcher: Matcher, *, is_trained: bool = True, scale: float = 1.0) -> None:
    """The contract: records in order and in pixels, arrays that may be kept, flat and tiny images,
    and, trained, the geometry."""
    assert isinstance(matcher, Matcher)
    assert "/" in matcher.key
    image0, image1, matrix = warped_pair(scale=scale)
    first, second = matcher.prepare(image0), matcher.prepare(image1)
    flat = matcher.prepare(np.full((96, 128, 3), 90, np.uint8))
    tiny = matcher.prepare(np.zeros((9, 7, 3), np.uint8))
    assert all(
        isinstance(array, np.ndarray) and array.dtype != np.float64 for array in first.values()
    )
    kept = {name: array.copy() for name, array in second.items()}
    found = list(matcher.match(first, iter([second, None, flat, kept, tiny])))
    assert [one is None for one in found] == [False, True, False, False, False]
    for one, arrays in zip(
        found, (image1, None, np.zeros((96, 128)), image1, np.zeros((9, 7))), strict=True
    ):
        if one is None or arrays is None:
            continue
        assert one.size0_px == (image0.shape[1], image0.shape[0])
        assert one.size1_px == (arrays.shape[1], arrays.shape[0])
        assert one.points0.shape == one.points1.shape == (len(one.points0), 2)
        assert np.isfinite(one.points0).all()
        assert np.isfinite(one.points1).all()
        assert one.confidences is None or one.confidences.shape == (len(one.points0),)
        for points, size in ((one.points0, one.size0_px), (one.points1, one.size1_px)):
            assert (points >= -0.5).all()
            assert (points <= np.array(size) - 0.5).all()
    again = next(iter(matcher.match(first, [second])))
    assert again is not None
    assert found[0] is not None
    assert found[3] is not None
    assert np.allclose(np.sort(again.points0, axis=0), np.sort(found[0].points0, axis=0), atol=0.05)
    assert np.array_equal(found[0].points0, found[3].points0)
    assert found[4] is not None
    assert len(found[4].points0) == 0
    if is_trained:
        whole = match_images(
            image0, image1, options=MatchOptions(long_side_px=1000), matcher=matcher
        )
        assert corner_error(whole, matrix) <= 0.05


def check_scorer(scorer: PairScorer) -> None:
    """Of four candidates, one of which cannot be read, the query's own place is the most
    similar."""
    query = scorer.prepare(view_of(draw_place(7), shift=20, seed=1))
    candidates = [
        scorer.prepare(view_of(draw_place(place), shift=0, seed=0)) for place in (3, 7, 4)
    ]
    found = list(scorer.score(query, [*candidates[:2], None, candidates[2]]))
    assert found[2] is None
    values = [one.similarity for one in found if one is not None]
    assert max(values) == values[1]
