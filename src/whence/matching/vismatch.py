"""Results of the library vismatch (github.com/gmberton/vismatch) as records of Whence, and its
matchers as one of ours.

The library is not imported here: what it returns is a mapping of arrays, and a matcher of it is
anything that is called with two images of shape (3, H, W) in [0, 1].
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from whence.errors import InputError
from whence.matching.geometry import rescale_points
from whence.matching.matchers import in_originals, smaller_coverage
from whence.types import Arrays, Match, PointPairs

_POINT_NAMES = ("matched_kpts0", "matched_kpts1")


def pairs_of_vismatch(
    result: Mapping[str, Any], *, size0_px: tuple[int, int], size1_px: tuple[int, int]
) -> PointPairs:
    """The matches before any geometry; sizes are width and height of the images that were given.
    Matches beside them are dropped.

    Raises `InputError` for what is no result of vismatch.
    """
    lacking = [name for name in _POINT_NAMES if name not in result]
    if lacking:
        raise InputError(f"no result of vismatch: it has no {', '.join(lacking)}")
    points0, points1 = (_points(result[name], name) for name in _POINT_NAMES)
    if len(points0) != len(points1):
        raise InputError(f"no result of vismatch: {len(points0)} points match {len(points1)}")
    confidences = result.get("matched_confidences")
    if confidences is not None and np.shape(confidences) != (len(points0),):
        raise InputError("no result of vismatch: matched_confidences are not one per match")
    kept = _is_inside(points0, size0_px) & _is_inside(points1, size1_px)
    counts = tuple(
        len(result[name]) if result.get(name) is not None else 0
        for name in ("all_kpts0", "all_kpts1")
    )
    return PointPairs(
        points0[kept],
        points1[kept],
        size0_px,
        size1_px,
        (counts[0] or int(kept.sum()), counts[1] or int(kept.sum())),
        None if confidences is None else np.asarray(confidences, np.float64)[kept],
    )


def match_of_vismatch(
    result: Mapping[str, Any],
    *,
    given0_px: tuple[int, int],
    given1_px: tuple[int, int],
    size0_px: tuple[int, int] | None = None,
    size1_px: tuple[int, int] | None = None,
) -> Match:
    """The result with its own homography and inliers, in pixels of the originals.

    `given0_px` is the width and height of the first image as the matcher got it, `size0_px` the
    original's where it is another. Raises `InputError` for what is no result of vismatch.
    """
    pairs = pairs_of_vismatch(result, size0_px=given0_px, size1_px=given1_px)
    originals = (size0_px or given0_px, size1_px or given1_px)
    matrix = None if result.get("H") is None else np.asarray(result["H"], np.float64).reshape(3, 3)
    rows: Any = (
        []
        if matrix is None
        else np.concatenate(
            [_points(result[f"inlier_kpts{side}"], "inlier_kpts") for side in (0, 1)], axis=1
        )
    )
    inliers = {tuple(row) for row in np.asarray(rows).tolist()}
    together = np.concatenate([pairs.points0, pairs.points1], axis=1).tolist()
    is_inlier = np.array([tuple(row) in inliers for row in together], bool)
    return Match(
        points0=rescale_points(pairs.points0, scale=np.array(originals[0]) / given0_px),
        points1=rescale_points(pairs.points1, scale=np.array(originals[1]) / given1_px),
        is_inlier=is_inlier,
        model="homography",
        matrix=in_originals(
            matrix, "homography", (originals[0], given0_px), (originals[1], given1_px)
        ),
        size0_px=originals[0],
        size1_px=originals[1],
        num_keypoints=pairs.num_keypoints,
        coverage=smaller_coverage(pairs, is_inlier),
        reason="" if matrix is not None else "the matches agree on no model",
    )


@dataclass(frozen=True, slots=True)
class VismatchMatcher:
    """A matcher of vismatch in place of one of ours. A `Matcher`."""

    name: str
    call: Callable[[np.ndarray, np.ndarray], Mapping[str, Any]]
    """Takes two images (3, H, W) float32 in [0, 1]."""

    @property
    def key(self) -> str:
        """The name; the weights are the library's affair."""
        return f"pixels/vismatch-{self.name}"

    def prepare(self, image: np.ndarray) -> dict[str, np.ndarray]:
        """The pixels of a uint8 image (H, W, 3)."""
        return {"pixels": image}

    def match(
        self, query: Arrays, candidates: Iterable[Arrays | None]
    ) -> Iterator[PointPairs | None]:
        """One record per candidate, in order, each made when it is asked for."""
        for arrays in candidates:
            if arrays is None:
                yield None
                continue
            images = [
                np.ascontiguousarray(one["pixels"].transpose(2, 0, 1), np.float32) / 255
                for one in (query, arrays)
            ]
            sizes = [(image.shape[2], image.shape[1]) for image in images]
            yield pairs_of_vismatch(self.call(*images), size0_px=sizes[0], size1_px=sizes[1])


def _points(values: Any, name: str) -> np.ndarray:
    points = np.asarray(values, np.float64)
    if points.size == 0:
        return np.zeros((0, 2))
    if points.ndim != 2 or points.shape[1] != 2:
        raise InputError(f"no result of vismatch: {name} has the shape {points.shape}, not (M, 2)")
    return points


def _is_inside(points: np.ndarray, size_px: tuple[int, int]) -> np.ndarray:
    """(M,) bool: which points vismatch keeps: from 0 to below the width and height."""
    return (np.isfinite(points) & (points >= 0) & (points < np.array(size_px))).all(axis=1)
