"""Evidence: how far matches that agree stand above what chance gives, and the probability that two
photos show the same thing.

The count of false alarms is that of Moisan and Stival (A probabilistic criterion to detect rigid
point matches between two images, IJCV 2004): how many models as good as the one found random
matches would give. Probabilities are fitted by `tools/fit_pair_confidence.py` for the matchers
named in `pair_confidence.json`. What counts for a whole database, where other photos are rivals, is
`whence.localize.verify`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from math import exp, lgamma, log, log1p, pi

import numpy as np

from whence.matching.geometry import GeometryModel, GeometrySettings
from whence.types import PointPairs

NOISE_INLIERS = 8
"""Fewer inliers than this any two photos may share: they say nothing."""
LEAST_CONFIDENCE = 0.9
"""Probability from which two photos are said to show the same thing."""
LEAST_SURPRISE = 6.0
"""What any geometry has to stand above chance: one false alarm in a million pairs of random
matches."""
_SAMPLES = {"homography": 4, "affine": 3, "similarity": 2, "fundamental": 7}
_MODELS_PER_SAMPLE = {"fundamental": 3}


@dataclass(frozen=True, slots=True)
class PairCalibration:
    """How the evidence of one pair becomes a probability, for one matcher and one geometry."""

    weights: tuple[float, float, float]
    """Bias, weight of the log of one plus the surprise, weight of the coverage."""
    num_genuine: int
    num_impostors: int

    def confidence(self, surprise: float, coverage: float) -> float:
        """Probability that two photos show the same thing, of pairs half of which do."""
        logit = self.weights[0] + self.weights[1] * log1p(surprise) + self.weights[2] * coverage
        return 1 / (1 + exp(-min(max(logit, -50.0), 50.0)))


def surprise_of(pairs: PointPairs, is_inlier: np.ndarray, settings: GeometrySettings) -> float:
    """Minus log10 of the number of false alarms of the inliers (M,) bool: 0 for what chance gives,
    larger the surer.

    Matches that share a spot in either image count once: SIFT describes one corner at several
    scales and orientations.
    """
    threshold = settings.threshold_for(pairs.size1_px)
    num_inliers = _num_spots(pairs, is_inlier, threshold)
    num_matches = max(_num_spots(pairs, np.ones(len(pairs.points0), bool), threshold), num_inliers)
    width, height = pairs.size1_px
    return _surprise(
        num_matches, num_inliers, settings.model, _chance(settings.model, threshold, width, height)
    )


def _chance(model: GeometryModel, threshold_px: float, width: int, height: int) -> float:
    """Probability that a random point of the second image lies where the model wants it: in a disc,
    or along an epipolar line."""
    area = (
        pi * threshold_px**2
        if model != "fundamental"
        else 2 * threshold_px * float(np.hypot(width, height))
    )
    return min(area / (width * height), 1.0)


def _surprise(num_matches: int, num_inliers: int, model: GeometryModel, chance: float) -> float:
    sample = _SAMPLES[model]
    if num_inliers <= sample:
        return 0.0
    log_alarms = (
        log(_MODELS_PER_SAMPLE.get(model, 1) * max(num_matches - sample, 1))
        + _log_choose(num_matches, num_inliers)
        + _log_choose(num_inliers, sample)
        + (num_inliers - sample) * log(chance)
    )
    return max(-log_alarms / log(10), 0.0)


def _log_choose(n: int, k: int) -> float:
    return lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1)


def _num_spots(pairs: PointPairs, mask: np.ndarray, cell_px: float) -> int:
    """The number of different spots that matches join, of both images the smaller."""
    cells = [
        np.floor(points[mask] / cell_px).astype(np.int64)
        for points in (pairs.points0, pairs.points1)
    ]
    return min(len(np.unique((cell[:, 0] << 32) + cell[:, 1])) for cell in cells)


def find_pair_calibration(matcher: str, model: GeometryModel) -> PairCalibration | None:
    """The packaged calibration of a registered matcher and a geometry; None where none was
    fitted."""
    return _packaged().get((matcher, model))


@lru_cache(maxsize=1)
def _packaged() -> dict[tuple[str, str], PairCalibration]:
    text = (
        resources.files("whence.matching")
        .joinpath("pair_confidence.json")
        .read_text(encoding="utf-8")
    )
    return {
        (row["matcher"], row["geometry"]): PairCalibration(
            tuple(row["weights"]), row["num_genuine"], row["num_impostors"]
        )
        for row in json.loads(text)["calibrations"]
    }
