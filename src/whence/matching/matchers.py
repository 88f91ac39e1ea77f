"""Matchers: which local descriptors of two images belong together, and the inlier scorer that compares a query with candidates.

Descriptors are unit vectors, so that nearest neighbours are the largest entries of one matrix product. A match is mutual (each is
the other's nearest) and passes the ratio test (Lowe, IJCV 2004): the nearest is clearly nearer than the second.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from whence.data.images import image_header, load_resized, shrink_smoothly
from whence.errors import BadOption
from whence.matching.geometry import GeometryModel, GeometrySettings, coverage, fit_geometry, rescale_points, scaling
from whence.models.local import LocalDescriptors, RootSift
from whence.types import Match, PairEvidence

Source = str | Path | bytes | np.ndarray

DEFAULT_RATIO = 0.8
_BLOCK_ROWS = 256
"""Rows of the product at a time: a block stays in the processor's cache."""


class Pairs(NamedTuple):
    """Rows of the first and of the second image's local descriptors that belong together, (M,) int64 each."""

    rows0: np.ndarray
    rows1: np.ndarray


def match_descriptors(descriptors0: np.ndarray, descriptors1: np.ndarray, *, ratio: float = DEFAULT_RATIO) -> Pairs:
    """Mutual nearest neighbours of unit vectors (N0, D) and (N1, D) that pass the ratio test on Euclidean distances.

    The second nearest is looked for among the second image's descriptors; with fewer than two of them nothing passes.
    """
    if len(descriptors0) == 0 or len(descriptors1) < 2:
        return Pairs(np.zeros(0, np.int64), np.zeros(0, np.int64))
    columns = np.ascontiguousarray(descriptors1.T)
    kept0, kept1, values = [], [], []
    best_of_column = np.full(len(descriptors1), -np.inf, np.float32)
    for start in range(0, len(descriptors0), _BLOCK_ROWS):
        products = descriptors0[start : start + _BLOCK_ROWS] @ columns
        np.maximum(best_of_column, products.max(axis=0), out=best_of_column)
        rows = np.arange(len(products))
        nearest = products.argmax(axis=1)
        first = products[rows, nearest]
        products[rows, nearest] = -np.inf
        second = products.max(axis=1)
        # Squared distance of unit vectors is 2 - 2 s.
        passed = np.flatnonzero(1 - first < ratio * ratio * (1 - second))
        kept0.append(start + passed)
        kept1.append(nearest[passed])
        values.append(first[passed])
    rows0, rows1, first = np.concatenate(kept0), np.concatenate(kept1), np.concatenate(values)
    mutual = first >= best_of_column[rows1]
    rows0, rows1 = rows0[mutual], rows1[mutual]
    # Two identical descriptors in the first image are each nobody's only neighbour: the earlier one stands for both.
    _, unique = np.unique(rows1, return_index=True)
    return Pairs(rows0[np.sort(unique)], rows1[np.sort(unique)])


@dataclass(frozen=True, slots=True)
class InlierScorer:
    """Scores candidates by how many of their local descriptors fit one geometry with the query's. A `PairScorer`.

    >>> scorer = InlierScorer()
    >>> flat = scorer.prepare(np.zeros((60, 80, 3), np.uint8))
    >>> next(scorer.score(flat, [flat])).num_inliers
    0
    """

    extractor: RootSift = field(default_factory=lambda: RootSift(max_keypoints=2000))
    ratio: float = DEFAULT_RATIO
    geometry: GeometrySettings = field(default_factory=GeometrySettings)
    noise_inliers: int = 8
    """Fewer inliers than this any two photos may share: they say nothing and change no order."""
    stop_share: float = 0.25
    """A candidate with fewer matches than this share of the best one's inliers is not looked at further: it cannot win."""

    def __post_init__(self) -> None:
        check_ratio(self.ratio)

    @property
    def key(self) -> str:
        """All that the counts depend on, beside the size at which images are read."""
        upright = "upright" if self.extractor.is_upright else "rotated"
        found = f"{self.extractor.max_keypoints}-{self.extractor.contrast_threshold:g}-{upright}"
        return f"rootsift-{found}/ratio-{self.ratio:g}/{self.geometry.key}"

    def prepare(self, image: np.ndarray) -> dict[str, np.ndarray]:
        """The local descriptors of a uint8 image (H, W, 3), as `LocalDescriptors.to_arrays` packs them."""
        return self.extractor.extract(image).to_arrays()

    def score(
        self, query: Mapping[str, np.ndarray], candidates: Iterable[Mapping[str, np.ndarray] | None]
    ) -> Iterator[PairEvidence | None]:
        """One record per candidate, in order, each made when it is asked for."""
        asked, best = LocalDescriptors.from_arrays(query), 0
        for arrays in candidates:
            if arrays is None:
                yield None
                continue
            evidence = self._compare(asked, LocalDescriptors.from_arrays(arrays), best)
            best = max(best, evidence.num_inliers or 0)
            yield evidence

    def _compare(self, query: LocalDescriptors, candidate: LocalDescriptors, best: int) -> PairEvidence:
        num_keypoints = min(len(query.keypoints), len(candidate.keypoints))
        pairs = match_descriptors(query.descriptors, candidate.descriptors, ratio=self.ratio)
        num_matches = len(pairs.rows0)
        if num_matches < max(self.noise_inliers, self.stop_share * best):
            return PairEvidence(0.0, num_matches, num_keypoints=num_keypoints, is_stopped=num_matches >= self.noise_inliers)
        points0, points1 = query.keypoints[pairs.rows0], candidate.keypoints[pairs.rows1]
        size0, size1 = query.image_size_px, candidate.image_size_px
        found = fit_geometry(points0, points1, size0_px=size0, size1_px=size1, settings=self.geometry)
        return PairEvidence(
            similarity=float(found.num_inliers) if found.num_inliers >= self.noise_inliers else 0.0,
            num_matches=num_matches,
            num_inliers=found.num_inliers,
            coverage=_smaller_coverage(points0, points1, found.is_inlier, (size0, size1)),
            num_keypoints=num_keypoints,
        )


@dataclass(frozen=True, slots=True)
class MatchOptions:
    """How two images are matched."""

    long_side_px: int = 640
    """Larger images are matched at this long side; points come back in pixels of the originals."""
    max_keypoints: int = 2000
    ratio: float = DEFAULT_RATIO
    geometry: GeometryModel = "homography"
    is_upright: bool = True
    """Whether both images are held upright; False also finds images turned against each other."""

    def __post_init__(self) -> None:
        check_ratio(self.ratio)
        GeometrySettings(model=self.geometry)
        if self.long_side_px < 16 or self.max_keypoints < 1:
            raise BadOption("images are matched at a long side of at least 16 pixels, with at least one keypoint")


def match_images(image0: Source, image1: Source, *, options: MatchOptions | None = None) -> Match:
    """Which points of two images belong together, in pixels of the originals.

    Images are files, bytes or RGB pixels (H, W, 3) uint8. Raises `UnreadableImage` and `BadOption`.
    """
    options = options or MatchOptions()
    extractor = RootSift(max_keypoints=options.max_keypoints, is_upright=options.is_upright)
    (local0, size0), (local1, size1) = (_extract(image, extractor, options.long_side_px) for image in (image0, image1))
    pairs = match_descriptors(local0.descriptors, local1.descriptors, ratio=options.ratio)
    points0, points1 = local0.keypoints[pairs.rows0], local1.keypoints[pairs.rows1]
    sizes = (local0.image_size_px, local1.image_size_px)
    settings = GeometrySettings(model=options.geometry)
    found = fit_geometry(points0, points1, size0_px=sizes[0], size1_px=sizes[1], settings=settings)
    return Match(
        points0=rescale_points(points0, scale=np.array(size0) / sizes[0]),
        points1=rescale_points(points1, scale=np.array(size1) / sizes[1]),
        is_inlier=found.is_inlier,
        model=options.geometry,
        matrix=_in_originals(found.matrix, options.geometry, (size0, sizes[0]), (size1, sizes[1])),
        size0_px=size0,
        size1_px=size1,
        num_keypoints=(len(local0.keypoints), len(local1.keypoints)),
        coverage=_smaller_coverage(points0, points1, found.is_inlier, sizes),
        reason=found.reason,
    )


def check_ratio(ratio: float) -> None:
    """Raises `BadOption` for a ratio that no or every match would pass."""
    if not 0 < ratio <= 1:
        raise BadOption(f"the ratio test takes a ratio above 0 and up to 1, not {ratio}")


def _extract(source: Source, extractor: RootSift, long_side_px: int) -> tuple[LocalDescriptors, tuple[int, int]]:
    """Local descriptors of an image at the long side asked for, and the width and height of the original."""
    if isinstance(source, np.ndarray):
        if source.dtype != np.uint8 or source.ndim != 3 or source.shape[2] != 3 or 0 in source.shape:
            raise BadOption(f"pixels must be uint8 (H, W, 3), not {source.dtype} {source.shape}")
        size = (source.shape[1], source.shape[0])
        scale = min(1.0, long_side_px / max(size))
        image = shrink_smoothly(source, (max(1, round(size[0] * scale)), max(1, round(size[1] * scale))))
        return extractor.extract(image), size
    header = image_header(source)
    return extractor.extract(load_resized(source, long_side_px=long_side_px)), (header.width, header.height)


def _in_originals(
    matrix: np.ndarray | None,
    model: GeometryModel,
    first: tuple[tuple[int, int], tuple[int, int]],
    second: tuple[tuple[int, int], tuple[int, int]],
) -> np.ndarray | None:
    """The model between the original images; `first` and `second` are an image's original size and the size it was matched at."""
    if matrix is None:
        return None
    shrink0, shrink1 = scaling(*first), scaling(*second)
    if model == "fundamental":
        return shrink1.T @ matrix @ shrink0
    full = np.linalg.inv(shrink1) @ matrix @ shrink0
    return full / full[2, 2]


def _smaller_coverage(
    points0: np.ndarray, points1: np.ndarray, is_inlier: np.ndarray, sizes_px: tuple[tuple[int, int], tuple[int, int]]
) -> float:
    return min(coverage(points0[is_inlier], size_px=sizes_px[0]), coverage(points1[is_inlier], size_px=sizes_px[1]))
