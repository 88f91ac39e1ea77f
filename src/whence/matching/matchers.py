"""Matchers: which points of two images belong together. Scorers that compare a query with
candidates are `scorers`.

Mutual nearest neighbours are here: descriptors are unit vectors, so that nearest neighbours are the
largest entries of one matrix product. A match is mutual (each is the other's nearest) and passes
the ratio test (Lowe, IJCV 2004): the nearest is clearly nearer than the second. LightGlue, LoFTR
and Efficient LoFTR are networks and live in `whence.models.local.pairing`; all are found by name.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from whence.data.images import image_header, load_resized, shrink_smoothly
from whence.errors import BadOption
from whence.matching.evidence import (
    LEAST_CONFIDENCE,
    LEAST_SURPRISE,
    NOISE_INLIERS,
    PairCalibration,
    find_pair_calibration,
    surprise_of,
)
from whence.matching.geometry import (
    Geometry,
    GeometryMethod,
    GeometryModel,
    GeometrySettings,
    coverage,
    fit_geometry,
    rescale_points,
    scaling,
)
from whence.models.local.own import OWN, open_own_features
from whence.models.local.sift import LocalDescriptors, Orb, RootSift
from whence.parts import Extractor, Matcher, prepare_query
from whence.registry import build, get_card
from whence.types import Arrays, Match, PhotoSource, PointPairs

DEFAULT_KEYPOINTS = 2000
DEFAULT_RATIO = 0.8
USUAL_RATIOS = {"rootsift": DEFAULT_RATIO, "orb": float(np.sqrt(0.75))}
"""The ratio on Euclidean distances; those of binary descriptors are square roots of Hamming
distances."""
_BLOCK_ROWS = 256
"""Rows of the product at a time: a block stays in the processor's cache."""


class Pairs(NamedTuple):
    """Rows of the first and of the second image's local descriptors that belong together, (M,)
    int64 each."""

    rows0: np.ndarray
    rows1: np.ndarray


def match_descriptors(
    descriptors0: np.ndarray, descriptors1: np.ndarray, *, ratio: float = DEFAULT_RATIO
) -> Pairs:
    """Mutual nearest neighbours of unit vectors (N0, D) and (N1, D) that pass the ratio test on
    Euclidean distances.

    Of descriptors that are equally near the first counts. The second nearest is looked for among
    the second image's descriptors; with fewer than two of them nothing passes. A ratio of 1 is no
    test: every mutual pair passes.
    """
    is_tested = ratio < 1
    if len(descriptors0) == 0 or len(descriptors1) < (2 if is_tested else 1):
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
        passed = rows
        if is_tested:
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
    # Two identical descriptors in the first image are each nobody's only neighbour: the earlier one
    # stands for both.
    _, unique = np.unique(rows1, return_index=True)
    return Pairs(rows0[np.sort(unique)], rows1[np.sort(unique)])


@dataclass(frozen=True, slots=True)
class MutualNearest:
    """Pairs keypoints that are each other's nearest and pass the ratio test. A `Matcher`."""

    extractor: Extractor = field(default_factory=lambda: RootSift(max_keypoints=DEFAULT_KEYPOINTS))
    ratio: float = DEFAULT_RATIO

    def __post_init__(self) -> None:
        check_ratio(self.ratio)

    @property
    def key(self) -> str:
        """The settings as text; before the slash what the kept arrays depend on."""
        return f"{self.extractor.key}/ratio-{self.ratio:g}"

    def prepare(self, image: np.ndarray) -> dict[str, np.ndarray]:
        """The local descriptors of a uint8 image (H, W, 3), as `LocalDescriptors.to_arrays` packs
        them."""
        return self.extractor.extract(image).to_arrays()

    def match(
        self, query: Arrays, candidates: Iterable[Arrays | None]
    ) -> Iterator[PointPairs | None]:
        """One record per candidate, each made when it is asked for."""
        asked = LocalDescriptors.from_arrays(query)
        for arrays in candidates:
            yield (
                None if arrays is None else self._pair(asked, LocalDescriptors.from_arrays(arrays))
            )

    def _pair(self, first: LocalDescriptors, second: LocalDescriptors) -> PointPairs:
        pairs = match_descriptors(first.descriptors, second.descriptors, ratio=self.ratio)
        counts = (len(first.keypoints), len(second.keypoints))
        points0, points1 = first.keypoints[pairs.rows0], second.keypoints[pairs.rows1]
        return PointPairs(points0, points1, first.image_size_px, second.image_size_px, counts)


def open_mnn(
    extractor: str,
    *,
    max_keypoints: int = DEFAULT_KEYPOINTS,
    ratio: float | None = None,
    is_upright: bool = True,
    weights: str = "",
    device: str = "cpu",
) -> MutualNearest:
    """The matcher by mutual nearest neighbours over an extractor: rootsift, orb, whence-local, or
    another learned one.

    Without a ratio the extractor's usual one: 0.8 for RootSIFT, three quarters of the Hamming
    distance for ORB, none for learned ones. `is_upright` is for RootSIFT. Raises `BadOption`,
    `MissingExtra`, and as `whence.models.checkpoints.origins.get_weights`.
    """
    usual = USUAL_RATIOS.get(extractor, 1.0) if ratio is None else ratio
    if extractor in USUAL_RATIOS:
        if weights:
            raise BadOption(f"{extractor} has no weights")
        if max_keypoints < 1:
            raise BadOption(f"at least one keypoint is needed, not {max_keypoints}")
        return MutualNearest(
            RootSift(max_keypoints, is_upright) if extractor == "rootsift" else Orb(max_keypoints),
            usual,
        )
    if extractor == OWN:
        return MutualNearest(open_own_features(max_keypoints=max_keypoints, weights=weights), usual)
    from whence.models.local.networks import open_extractor

    return MutualNearest(
        open_extractor(extractor, max_keypoints=max_keypoints, weights=weights, device=device),
        usual,
    )


@dataclass(frozen=True, slots=True)
class MatchOptions:
    """How two images are matched."""

    long_side_px: int = 640
    """Larger images are matched at this long side; points come back in pixels of the originals."""
    max_keypoints: int = DEFAULT_KEYPOINTS
    ratio: float | None = None
    """None for the matcher's usual one."""
    geometry: GeometryModel = "homography"
    is_upright: bool | None = None
    """Whether both images are held upright (True), or may be turned against each other (False);
    None tries both and takes what is less likely chance: oblique walls need the one, steep ones the
    other. For RootSIFT."""
    matcher: str = "rootsift-mnn"
    method: GeometryMethod = "magsac"
    """The robust estimator."""
    weights: str = ""
    """A file with the matcher's weights, or a folder with all its files, instead of the cache's."""

    def __post_init__(self) -> None:
        get_card(self.matcher, kind="matcher")
        if self.ratio is not None:
            check_ratio(self.ratio)
        GeometrySettings(model=self.geometry, method=self.method)
        if self.long_side_px < 16 or self.max_keypoints < 1:
            raise BadOption(
                "images are matched at a long side of at least 16 pixels, with at least one "
                "keypoint"
            )

    def open_matchers(self) -> tuple[Matcher, ...]:
        """The matcher of these options, with its weights; RootSIFT both ways where nothing says how
        the images are held.

        Raises `BadOption` for an option that the matcher does not have.
        """
        usual = MatchOptions()
        given = {
            name: getattr(self, name)
            for name in ("max_keypoints", "ratio", "is_upright", "weights")
        }
        chosen = {name: value for name, value in given.items() if value != getattr(usual, name)}
        if self.matcher != "rootsift-mnn" or self.is_upright is not None:
            return (build("matcher", self.matcher, options=chosen),)
        return tuple(
            build("matcher", self.matcher, options={**chosen, "is_upright": way})
            for way in (True, False)
        )


def match_images(
    image0: PhotoSource,
    image1: PhotoSource,
    *,
    options: MatchOptions | None = None,
    matcher: Matcher | None = None,
) -> Match:
    """Which points of two images belong together, in pixels of the originals, and how probably both
    show the same thing.

    Images are files, bytes or RGB pixels (H, W, 3) uint8. A `matcher` that is open already serves
    in place of the options'; what it finds has no calibrated probability. Raises `UnreadableImage`,
    `BadOption`, and what opening the matcher raises.
    """
    options = options or MatchOptions()
    matchers = options.open_matchers() if matcher is None else (matcher,)
    (shown0, size0), (shown1, size1) = (
        _read(image, options.long_side_px) for image in (image0, image1)
    )
    settings = GeometrySettings(model=options.geometry, method=options.method)
    calibration = (
        find_pair_calibration(options.matcher, options.geometry) if matcher is None else None
    )
    found = []
    for one in matchers:
        pairs = next(one.match(prepare_query(one, shown0), [one.prepare(shown1)]))
        assert pairs is not None, "the second image was prepared"
        found.append(
            as_match(
                pairs, size0_px=size0, size1_px=size1, settings=settings, calibration=calibration
            )
        )
    return max(found, key=lambda match: (match.is_match, match.surprise, match.num_matches))


def as_match(
    pairs: PointPairs,
    *,
    size0_px: tuple[int, int],
    size1_px: tuple[int, int],
    settings: GeometrySettings,
    calibration: PairCalibration | None = None,
) -> Match:
    """Pairs with the geometry they agree on, in pixels of the originals, whose width and height are
    given.

    There is none where chance gives as much. Without a calibration its confidence is None.
    """
    found = fit_geometry(
        pairs.points0,
        pairs.points1,
        size0_px=pairs.size0_px,
        size1_px=pairs.size1_px,
        settings=settings,
    )
    surprise = surprise_of(pairs, found.is_inlier, settings)
    covered = smaller_coverage(pairs, found.is_inlier)
    confidence = None if calibration is None else calibration.confidence(surprise, covered)
    found, confidence = _unless_chance(found, surprise, confidence)
    return Match(
        points0=rescale_points(pairs.points0, scale=np.array(size0_px) / pairs.size0_px),
        points1=rescale_points(pairs.points1, scale=np.array(size1_px) / pairs.size1_px),
        is_inlier=found.is_inlier,
        model=settings.model,
        matrix=in_originals(
            found.matrix, settings.model, (size0_px, pairs.size0_px), (size1_px, pairs.size1_px)
        ),
        size0_px=size0_px,
        size1_px=size1_px,
        num_keypoints=pairs.num_keypoints,
        coverage=covered if found.matrix is not None else 0.0,
        reason=found.reason,
        confidence=confidence,
        surprise=surprise,
    )


def _unless_chance(
    geometry: Geometry, surprise: float, confidence: float | None
) -> tuple[Geometry, float | None]:
    """The geometry and its confidence where it says something; else none, and why. What chance
    gives as well has no confidence."""
    none_at_all = None if confidence is None else 0.0
    if geometry.matrix is None:
        return geometry, none_at_all
    agreeing = f"{geometry.num_inliers} of {len(geometry.is_inlier)} matches agree"
    nothing = np.zeros_like(geometry.is_inlier)
    if geometry.num_inliers < NOISE_INLIERS:
        return Geometry(None, nothing, f"{agreeing}, as of any two photos"), none_at_all
    if surprise < LEAST_SURPRISE:
        return Geometry(None, nothing, f"{agreeing}, as chance may give"), none_at_all
    if confidence is not None and confidence < LEAST_CONFIDENCE:
        reason = (
            f"{agreeing}: the same thing with a probability of {confidence:.2f} only, "
            f"{LEAST_CONFIDENCE:.2g} is asked for"
        )
        return Geometry(None, nothing, reason), confidence
    return geometry, confidence


def smaller_coverage(pairs: PointPairs, is_inlier: np.ndarray) -> float:
    """Of both images the smaller share of cells that hold an inlier."""
    sides = ((pairs.points0, pairs.size0_px), (pairs.points1, pairs.size1_px))
    return min(coverage(points[is_inlier], size_px=size) for points, size in sides)


def check_ratio(ratio: float) -> None:
    """Raises `BadOption` for a ratio that no or every match would pass."""
    if not 0 < ratio <= 1:
        raise BadOption(f"the ratio test takes a ratio above 0 and up to 1, not {ratio}")


def _read(source: PhotoSource, long_side_px: int) -> tuple[np.ndarray, tuple[int, int]]:
    """An image at the long side asked for, and the width and height of the original."""
    if isinstance(source, np.ndarray):
        if (
            source.dtype != np.uint8
            or source.ndim != 3
            or source.shape[2] != 3
            or 0 in source.shape
        ):
            raise BadOption(f"pixels must be uint8 (H, W, 3), not {source.dtype} {source.shape}")
        size = (source.shape[1], source.shape[0])
        scale = min(1.0, long_side_px / max(size))
        return shrink_smoothly(
            source, (max(1, round(size[0] * scale)), max(1, round(size[1] * scale)))
        ), size
    header = image_header(source)
    return load_resized(source, long_side_px=long_side_px), (header.width, header.height)


def in_originals(
    matrix: np.ndarray | None,
    model: GeometryModel,
    first: tuple[tuple[int, int], tuple[int, int]],
    second: tuple[tuple[int, int], tuple[int, int]],
) -> np.ndarray | None:
    """The model between the original images; `first` and `second` are an image's original size and
    the size it was matched at."""
    if matrix is None:
        return None
    shrink0, shrink1 = scaling(*first), scaling(*second)
    if model == "fundamental":
        return shrink1.T @ matrix @ shrink0
    full = np.linalg.inv(shrink1) @ matrix @ shrink0
    return full / full[2, 2]
