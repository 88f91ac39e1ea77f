"""Scorers that compare a query with candidates by matched points: inliers, and the scores of the
re-ranking benchmark.

`inliers` is strict and what a calibration is fitted on; `ransac`, `rapid` and `patches` are those
of Barbarani et al. (CVPRW 2023).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, get_args

import numpy as np

from whence.errors import BadOption
from whence.matching.evidence import NOISE_INLIERS, surprise_of
from whence.matching.geometry import GeometryMethod, GeometryModel, GeometrySettings, fit_geometry
from whence.matching.matchers import MutualNearest, smaller_coverage
from whence.matching.spatial import LevelPoints, SpatialScore, levels_score, rapid_score
from whence.models.local.sift import LocalDescriptors
from whence.parts import Extractor, Matcher, prepare_query
from whence.registry import build
from whence.types import Arrays, PairEvidence, PointPairs

Spatial = Literal["ransac", "rapid"]
SPATIAL_SIDE_PX = 640
"""Long side for which the thresholds of the benchmark's scores are stated."""
RANSAC_THRESHOLD_PX = 24.0
PATCH_THRESHOLD_PX = 30.0
LEARNED_KEYPOINTS = 512


@dataclass(frozen=True, slots=True)
class InlierScorer:
    """Scores candidates by how many of their matches with the query fit one geometry. A
    `PairScorer`.

    >>> scorer = InlierScorer()
    >>> flat = scorer.prepare(np.zeros((60, 80, 3), np.uint8))
    >>> next(scorer.score(flat, [flat])).num_inliers
    0
    """

    matcher: Matcher = field(default_factory=MutualNearest)
    geometry: GeometrySettings = field(default_factory=GeometrySettings)
    noise_inliers: int = NOISE_INLIERS
    """Fewer inliers than this any two photos may share: they say nothing and change no order."""
    stop_share: float = 0.25
    """A candidate with fewer matches than this share of the best one's inliers is not looked at
    further: it cannot win."""

    @property
    def extractor(self) -> Extractor | None:
        """The extractor of the keypoints; None where the matcher has none."""
        return self.matcher.extractor if isinstance(self.matcher, MutualNearest) else None

    @property
    def key(self) -> str:
        """All that the counts depend on, beside the size at which images are read."""
        return f"{self.matcher.key}/{self.geometry.key}"

    def prepare(self, image: np.ndarray) -> dict[str, np.ndarray]:
        """Arrays that the matcher keeps of a uint8 image (H, W, 3)."""
        return self.matcher.prepare(image)

    def prepare_query(self, image: np.ndarray) -> dict[str, np.ndarray]:
        """Arrays that the matcher takes of a query's uint8 image (H, W, 3)."""
        return prepare_query(self.matcher, image)

    def score(
        self, query: Arrays, candidates: Iterable[Arrays | None]
    ) -> Iterator[PairEvidence | None]:
        """One record per candidate, in order, each made when it is asked for."""
        best = 0
        for pairs in self.matcher.match(query, candidates):
            evidence = None if pairs is None else self._judge(pairs, best)
            best = max(best, 0 if evidence is None else evidence.num_inliers or 0)
            yield evidence

    def _judge(self, pairs: PointPairs, best: int) -> PairEvidence:
        num_matches, num_keypoints = len(pairs.points0), min(pairs.num_keypoints)
        if num_matches < self.noise_inliers:
            return PairEvidence(0.0, num_matches, num_keypoints=num_keypoints)
        if num_matches < self.stop_share * best:
            return PairEvidence(
                0.0, num_matches, num_inliers=None, num_keypoints=num_keypoints, is_stopped=True
            )
        found = fit_geometry(
            pairs.points0,
            pairs.points1,
            size0_px=pairs.size0_px,
            size1_px=pairs.size1_px,
            settings=self.geometry,
        )
        is_evidence = found.num_inliers >= self.noise_inliers
        return PairEvidence(
            similarity=float(found.num_inliers) if is_evidence else 0.0,
            num_matches=num_matches,
            num_inliers=found.num_inliers,
            coverage=smaller_coverage(pairs, found.is_inlier),
            num_keypoints=num_keypoints,
            surprise=surprise_of(pairs, found.is_inlier, self.geometry) if is_evidence else None,
        )


@dataclass(frozen=True, slots=True)
class SpatialScorer:
    """Scores candidates by mutual nearest keypoints: `ransac` or `rapid` of the re-ranking
    benchmark. A `PairScorer`."""

    extractor: Extractor
    spatial: Spatial
    threshold_px: float = RANSAC_THRESHOLD_PX
    """Of `ransac`, at a long side of 640 pixels."""

    def __post_init__(self) -> None:
        _check_threshold(self.threshold_px)

    @property
    def key(self) -> str:
        """The settings as text."""
        threshold = (
            f"-{self.threshold_px:g}px@{SPATIAL_SIDE_PX}" if self.spatial == "ransac" else ""
        )
        return f"{self.extractor.key}/{self.spatial}{threshold}"

    def prepare(self, image: np.ndarray) -> dict[str, np.ndarray]:
        """The local descriptors of a uint8 image (H, W, 3), as `LocalDescriptors.to_arrays` packs
        them."""
        return self.extractor.extract(image).to_arrays()

    def score(
        self, query: Arrays, candidates: Iterable[Arrays | None]
    ) -> Iterator[PairEvidence | None]:
        """One record per candidate, in order, each made when it is asked for."""
        asked = LocalDescriptors.from_arrays(query)
        points = LevelPoints(asked.keypoints, asked.descriptors)
        threshold = self.threshold_px * max(asked.image_size_px) / SPATIAL_SIDE_PX
        for arrays in candidates:
            if arrays is None:
                yield None
                continue
            other = LocalDescriptors.from_arrays(arrays)
            found = _spatial_score(
                [points],
                [LevelPoints(other.keypoints, other.descriptors)],
                self.spatial,
                threshold_px=threshold,
                weights=(1.0,),
            )
            yield _as_evidence(found, min(len(asked.keypoints), len(other.keypoints)))


class PatchExtractor(Protocol):
    """What describes patches of several sizes (`whence.models.local.patches`)."""

    @property
    def key(self) -> str: ...

    def prepare(self, image: np.ndarray) -> dict[str, np.ndarray]: ...

    def patches(self, arrays: Arrays) -> Sequence[tuple[np.ndarray, np.ndarray]]: ...


@dataclass(frozen=True, slots=True)
class PatchScorer:
    """Scores candidates by patches of several sizes, each matched alone, the scores weighted. A
    `PairScorer`.

    As in Patch-NetVLAD (Hausler et al., CVPR 2021), whose patches are of 2, 5 and 8 cells and count
    .45, .15 and .40.
    """

    extractor: PatchExtractor
    spatial: Spatial = "ransac"
    threshold_px: float = PATCH_THRESHOLD_PX
    weights: tuple[float, ...] = (0.45, 0.15, 0.40)

    def __post_init__(self) -> None:
        _check_threshold(self.threshold_px)

    @property
    def key(self) -> str:
        """The settings as text."""
        levels = "-".join(f"{weight:g}" for weight in self.weights)
        return (
            f"{self.extractor.key}/{self.spatial}-{self.threshold_px:g}px@{SPATIAL_SIDE_PX}-"
            f"{levels}"
        )

    def prepare(self, image: np.ndarray) -> dict[str, np.ndarray]:
        """Arrays that the patches of a uint8 image (H, W, 3) are made of."""
        return self.extractor.prepare(image)

    def score(
        self, query: Arrays, candidates: Iterable[Arrays | None]
    ) -> Iterator[PairEvidence | None]:
        """One record per candidate, in order, each made when it is asked for."""
        asked = [LevelPoints(*level) for level in self.extractor.patches(query)]
        threshold = self.threshold_px * max(query["image_size_px"].tolist()) / SPATIAL_SIDE_PX
        for arrays in candidates:
            if arrays is None:
                yield None
                continue
            others = [LevelPoints(*level) for level in self.extractor.patches(arrays)]
            found = _spatial_score(
                asked, others, self.spatial, threshold_px=threshold, weights=self.weights
            )
            yield _as_evidence(
                found,
                sum(min(len(a.points), len(b.points)) for a, b in zip(asked, others, strict=True)),
            )


def open_inliers(
    *,
    matcher: str = "rootsift-mnn",
    max_keypoints: int | None = None,
    ratio: float | None = None,
    weights: str = "",
    device: str = "",
    geometry: GeometryModel = "homography",
    method: GeometryMethod = "magsac",
    threshold_px: float | None = None,
    max_iterations: int = 2000,
    noise_inliers: int = NOISE_INLIERS,
    stop_share: float = 0.25,
) -> InlierScorer:
    """The inlier scorer over a registered matcher. Raises `UnknownName`, `BadOption`, and what
    opening the matcher raises."""
    settings = GeometrySettings(geometry, threshold_px, max_iterations, method=method)
    given = {
        "max_keypoints": max_keypoints,
        "ratio": ratio,
        "weights": weights or None,
        "device": device or None,
    }
    opened: Matcher = build(
        "matcher",
        matcher,
        options={name: value for name, value in given.items() if value is not None},
    )
    if noise_inliers < settings.min_matches or not 0 <= stop_share <= 1:
        raise BadOption(
            f"noise_inliers is at least the {settings.min_matches} matches that {geometry} needs, "
            "stop_share between 0 and 1"
        )
    return InlierScorer(opened, settings, noise_inliers, stop_share)


def open_learned_inliers(
    *,
    matcher: str,
    max_keypoints: int = LEARNED_KEYPOINTS,
    weights: str = "",
    device: str = "cpu",
    is_adaptive: bool = True,
    threshold_px: float | None = None,
    stop_share: float = 0.25,
) -> InlierScorer:
    """The inlier scorer over LightGlue, with fewer keypoints than matching alone takes. Raises as
    `open_inliers`.

    `is_adaptive`: LightGlue ends early where it is sure, above all on pairs that share nothing.
    """
    given = {
        "max_keypoints": max_keypoints,
        "weights": weights,
        "device": device,
        "is_adaptive": is_adaptive,
    }
    opened: Matcher = build("matcher", matcher, options=given)
    return InlierScorer(opened, GeometrySettings("homography", threshold_px), stop_share=stop_share)


def open_ransac(
    *,
    matcher: str = "rootsift-mnn",
    max_keypoints: int | None = None,
    weights: str = "",
    threshold_px: float = RANSAC_THRESHOLD_PX,
) -> SpatialScorer:
    """The benchmark's RANSAC score over the keypoints of a matcher "...-mnn"."""
    return SpatialScorer(_extractor_of(matcher, max_keypoints, weights), "ransac", threshold_px)


def open_rapid(
    *, matcher: str = "rootsift-mnn", max_keypoints: int | None = None, weights: str = ""
) -> SpatialScorer:
    """The benchmark's rapid spatial score over the keypoints of a matcher "...-mnn"."""
    return SpatialScorer(_extractor_of(matcher, max_keypoints, weights), "rapid")


def open_patches(
    *,
    model: str = "gem-resnet50conv4-1024",
    weights: str = "",
    spatial: Spatial = "ransac",
    threshold_px: float = PATCH_THRESHOLD_PX,
    device: str = "cpu",
) -> PatchScorer:
    """The patch scorer over the map of a registered network, or of a safetensors file with a card.

    Raises as `whence.models.zoo.named_network`.
    """
    from whence.models.local.patches import open_patch_extractor

    if spatial not in get_args(Spatial):
        raise BadOption(f"spatial is one of {', '.join(get_args(Spatial))}, not {spatial!r}")
    return PatchScorer(
        open_patch_extractor(model, weights=weights, device=device), spatial, threshold_px
    )


def _extractor_of(matcher: str, max_keypoints: int | None, weights: str) -> Extractor:
    options: Mapping[str, Any] = {
        **({} if max_keypoints is None else {"max_keypoints": max_keypoints}),
        **({"weights": weights} if weights else {}),
    }
    opened = build("matcher", matcher, options=options)
    if not isinstance(opened, MutualNearest):
        raise BadOption(
            "this scorer needs keypoints with descriptors: name a matcher that ends in -mnn, not "
            f"{matcher}"
        )
    return opened.extractor


def _spatial_score(
    query: Sequence[LevelPoints],
    other: Sequence[LevelPoints],
    spatial: Spatial,
    *,
    threshold_px: float,
    weights: Sequence[float],
) -> SpatialScore:
    if spatial == "ransac":
        return levels_score(query, other, threshold_px=threshold_px, weights=weights)
    found = [rapid_score(*pair) for pair in zip(query, other, strict=True)]
    similarity = sum(weight * one.similarity for weight, one in zip(weights, found, strict=True))
    return SpatialScore(similarity, sum(one.num_matches for one in found), 0)


def _as_evidence(score: SpatialScore, num_keypoints: int) -> PairEvidence:
    return PairEvidence(
        score.similarity, score.num_matches, score.num_inliers or None, num_keypoints=num_keypoints
    )


def _check_threshold(threshold_px: float) -> None:
    if not threshold_px > 0:
        raise BadOption(f"a threshold in pixels is positive, not {threshold_px}")
