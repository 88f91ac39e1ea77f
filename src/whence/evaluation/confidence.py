"""Calibration: a probability and a radius fitted on trials (`whence.evaluation.trials`), and how
good they are."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from whence.errors import CalibrationMismatch, NoPhotos
from whence.evaluation.trials import (
    FAR_M,
    GENUINE_M,
    Trials,
    count_askable,
    trials_of_sample,
    usable_rows,
)
from whence.localize.calibration_files import find_calibration, key_of
from whence.localize.localizer import Localizer
from whence.localize.rerank_options import RerankOptions
from whence.types import Calibration

MIN_PAIRS = 20
"""Pairs of each kind that a calibration needs."""
USUAL_PRIOR = 0.8
"""Share of queries taken to lie where the database has photos."""
RADIUS_LEVEL = 0.9
MAX_FALSE_ANSWERS = 0.03
"""Share of the questions at places the photos do not show that may be answered all the same."""
OWN_PHOTOS = 40
"""Photos of a database that ask one another for a calibration nobody asked for."""
SHARE_OF_DESCRIBING = 0.2
"""Part of the time that describing took which such a calibration may take."""
_ABOVE = 0.005
"""How far the least confidence lies above that of every wrong candidate, where no answer may be
false."""
_RIDGE = 1e-2
_NUM_STEPS = 100


@dataclass(frozen=True, slots=True)
class Reliability:
    """How a calibration does on trials: expected calibration error, and by bins of confidence the
    share that was right."""

    calibration_error: float
    edges: tuple[float, ...]
    counts: tuple[int, ...]
    confidences: tuple[float, ...]
    shares_right: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class OwnCalibration:
    """What came of calibrating a database on a sample of its own photos."""

    calibration: Calibration | None
    reason: str
    """Why there is none, or where it comes from."""
    is_new: bool = False
    """Whether it was fitted now."""


def calibrate_sample(
    localizer: Localizer,
    *,
    max_seconds: float,
    options: RerankOptions | None = None,
    show_progress: bool | None = None,
) -> OwnCalibration:
    """A calibration fitted on at most `OWN_PHOTOS` photos of the database within `max_seconds`,
    where it has none that fits.

    Nothing is kept here. Where the photos do not suffice the reason says what they lack.
    """
    options = options or RerankOptions()
    try:
        key = key_of(localizer.model.card.card_id, localizer.prepared(options))
        return OwnCalibration(find_calibration(key, store=localizer.store), "there already")
    except CalibrationMismatch:
        pass
    try:
        check_askable(localizer)
        trials = trials_of_sample(
            localizer,
            options=options,
            num_photos=OWN_PHOTOS,
            max_seconds=max_seconds,
            show_progress=show_progress,
        )
        fitted = fit_calibration(trials, localizer, options=options)
    except (CalibrationMismatch, NoPhotos) as error:
        return OwnCalibration(None, str(error))
    source = f"{len(trials.gaps_m)} questions of the database's own photos"
    return OwnCalibration(replace(fitted, source=source), source, is_new=True)


def check_askable(localizer: Localizer) -> None:
    """Raise `NoPhotos` where the photos of a database cannot give enough pairs for a calibration,
    before any is compared."""
    num_near, num_far = count_askable(localizer, usable_rows(localizer))
    if min(num_near, num_far) < MIN_PAIRS:
        raise NoPhotos(
            f"{num_near} photos have another within {GENUINE_M:.0f} m and {num_far} have one more "
            f"than {FAR_M:.0f} m away; at least {MIN_PAIRS} of each are needed to calibrate: add "
            "photos with coordinates, near each other at several places"
        )


def fit_calibration(
    trials: Trials,
    localizer: Localizer,
    *,
    questions: Trials | None = None,
    options: RerankOptions | None = None,
    source: str = "",
    prior: float = USUAL_PRIOR,
    max_false_answers: float = MAX_FALSE_ANSWERS,
) -> Calibration:
    """The calibration that trials suggest, for a localizer's settings. Raises `NoPhotos` where they
    hold too few pairs.

    Logistic regression on the evidence features, with weights that may not be negative: more
    evidence never means less confidence. Questions at covered places and at others are weighted to
    the share of queries that are taken to lie where the database has photos, `prior`. An answer is
    given from the probability, at least one half, above which no more than `max_false_answers` of
    the questions at other places lie: of those in `questions`, asked as people ask, where it is
    given, because photos of one database are more alike than photos of another day; with 0 it
    lies above every wrong candidate's. The radius factor is the quantile of error over scale among
    all questions that would be answered, wrongly or not.
    """
    options = options or RerankOptions()
    is_right, is_wrong = trials.gaps_m <= GENUINE_M, trials.gaps_m > FAR_M
    is_usable = trials.has_evidence & (is_right | is_wrong)
    if (is_usable & is_wrong).sum() < MIN_PAIRS:
        # Chance gives so little here that it is taken at its most: better than to conclude from
        # nothing.
        is_usable |= is_wrong & ~trials.is_covered
    num_genuine, num_impostors = (
        int((is_usable & is_right).sum()),
        int((is_usable & is_wrong).sum()),
    )
    if min(num_genuine, num_impostors) < MIN_PAIRS:
        raise NoPhotos(
            f"{num_genuine} genuine and {num_impostors} impostor pairs; at least {MIN_PAIRS} of "
            "each are needed: a database of more photos with coordinates, some within 25 m of "
            "each other and some more than 100 m apart"
        )
    blank = Calibration(
        key_of(localizer.model.card.card_id, localizer.prepared(options)), (), (), 1.0, prior=prior
    )
    num_covered = max(int(trials.is_covered.sum()), 1)
    num_others = max(len(trials.is_covered) - num_covered, 1)
    shares = np.where(trials.is_covered, blank.prior / num_covered, (1 - blank.prior) / num_others)
    models = [
        fit_logistic(table[is_usable], is_right[is_usable], shares[is_usable])
        for table in (trials.with_points, trials.without_points)
    ]
    limits = [
        _least_confidence(
            questions or trials, model, has_points=has_points, max_false=max_false_answers
        )
        for model, has_points in zip(models, (True, False), strict=True)
    ]
    accepted = trials.confidences(models[0]) >= limits[0]
    if accepted.sum() < MIN_PAIRS:
        accepted = is_usable & is_right
    return Calibration(
        blank.key,
        models[0],
        models[1],
        prior=prior,
        radius_factor=round(
            weighted_quantile(
                (trials.errors_m / trials.scales_m)[accepted], shares[accepted], RADIUS_LEVEL
            ),
            4,
        ),
        min_confidence=limits[0],
        min_confidence_without_points=limits[1],
        num_genuine=num_genuine,
        num_impostors=num_impostors,
        source=source,
    )


def weighted_quantile(values: np.ndarray, shares: np.ndarray, level: float) -> float:
    """The smallest of the values (N,) below or at which `level` of the shares (N,) lie."""
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(shares[order]) >= level * shares.sum() * (1 - 1e-12)
    return float(values[order][np.argmax(reached)])


def _least_confidence(
    trials: Trials, weights: tuple[float, ...], *, has_points: bool, max_false: float
) -> float:
    """The probability from which answers are given."""
    confidences = trials.confidences(weights, has_points=has_points)
    others = confidences[~trials.is_covered]
    if not len(others):
        return 0.9
    limit = float(np.quantile(others, 1 - max_false))
    if not max_false:
        limit = float(confidences[trials.gaps_m > GENUINE_M].max(initial=0.0)) + _ABOVE
    return round(min(max(limit, 0.5), 0.99), 4)


def fit_logistic(
    features: np.ndarray, is_right: np.ndarray, shares: np.ndarray
) -> tuple[float, ...]:
    """Bias and non-negative weights (1 + F,) of a logistic regression, by Newton steps; one that
    turns negative is left out."""
    used = list(range(features.shape[1]))
    while True:
        table = np.column_stack([np.ones(len(features)), features[:, used]])
        ridge = _RIDGE * np.diag([0.0, *[1.0] * len(used)]) * shares.sum() / len(shares)
        solution = np.zeros(table.shape[1])
        for _ in range(_NUM_STEPS):
            p = 1 / (1 + np.exp(-np.clip(table @ solution, -50, 50)))
            gradient = table.T @ (shares * (p - is_right)) + ridge @ solution
            curvature = (
                table * (shares * np.maximum(p * (1 - p), 1e-9))[:, None]
            ).T @ table + ridge
            step = np.linalg.solve(curvature, gradient)
            # Half steps while far away keep separable data from overshooting.
            step *= min(1.0, 2.0 / max(np.abs(step).max(), 1e-12))
            solution -= step
            if np.abs(step).max() < 1e-9:
                break
        negative = [k for k, weight in enumerate(solution[1:]) if weight < 0]
        if not negative:
            break
        del used[min(negative, key=lambda k: solution[1 + k])]
    full = np.zeros(1 + features.shape[1])
    full[[0, *(1 + k for k in used)]] = solution
    return tuple(round(float(weight), 5) for weight in full)


def reliability(
    confidences: np.ndarray, is_right: np.ndarray, *, num_bins: int = 10
) -> Reliability:
    """Expected calibration error (Guo et al., ICML 2017): mean gap between confidence and share
    right, over bins of equal width."""
    bins = np.clip((confidences * num_bins).astype(int), 0, num_bins - 1)
    counts = np.bincount(bins, minlength=num_bins)
    mean_confidence = np.bincount(bins, weights=confidences, minlength=num_bins) / np.maximum(
        counts, 1
    )
    share_right = np.bincount(
        bins, weights=is_right.astype(float), minlength=num_bins
    ) / np.maximum(counts, 1)
    error = float((counts * np.abs(mean_confidence - share_right)).sum() / max(len(confidences), 1))
    edges = tuple(round(edge, 6) for edge in np.linspace(0, 1, num_bins + 1).tolist())
    return Reliability(
        error,
        edges,
        tuple(counts.tolist()),
        tuple(mean_confidence.tolist()),
        tuple(share_right.tolist()),
    )
