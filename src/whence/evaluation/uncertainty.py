"""How well a score tells right first candidates from wrong ones: precision and recall, ROC, recall
at full precision, calibration.

The protocol of To match or not to match (CVPRW 2025): a query's label is whether retrieval's first
candidate, before any re-ranking, is a positive. The area under precision and recall depends on the
share that is right, so that stands beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from whence.evaluation.answers import are_positives, deciding_threshold_m
from whence.evaluation.benchmarks import Evaluation
from whence.evaluation.confidence import Reliability, fit_logistic, reliability
from whence.evaluation.protocol import metric_ground
from whence.evaluation.trials import logistic
from whence.localize.unsure import l2_scores, pa_scores, squared_distances, sue_scores
from whence.runtime import random_stream

NUM_FOLDS = 5
MIN_FITTED = 10
"""Right and wrong queries that a fit of the combination needs."""


@dataclass(frozen=True, slots=True)
class ScoreQuality:
    """The figures of one score."""

    name: str
    num_queries: int
    num_right: int
    auprc: float
    """Area under precision and recall by trapezoids, as the authors count it."""
    average_precision: float
    auroc: float
    recall_at_full_precision: float
    """Share of the right ones that stand before the first wrong one."""

    @property
    def share_right(self) -> float:
        return self.num_right / self.num_queries if self.num_queries else float("nan")


@dataclass(frozen=True, slots=True)
class Uncertainty:
    """All scores of an evaluation, and the reliability of their combination on queries it was not
    fitted on."""

    qualities: tuple[ScoreQuality, ...]
    combined: Reliability | None
    """None where there are too few right or wrong queries to fit it."""


def precision_recall(scores: np.ndarray, is_right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Precision and recall (P + 1,) of scores (Q,): from all queries to none, where precision is 1.
    Ties go together."""
    order = np.argsort(-scores, kind="stable")
    last = (
        np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))
        if len(order)
        else np.empty(0, np.int64)
    )
    num_right = np.cumsum(is_right[order])[last] if len(order) else np.empty(0)
    total = max(int(is_right.sum()), 1)
    return np.append((num_right / (last + 1))[::-1], 1.0), np.append((num_right / total)[::-1], 0.0)


def area_under_precision_recall(scores: np.ndarray, is_right: np.ndarray) -> float:
    """By trapezoids; NaN where no query is right."""
    if not is_right.any():
        return float("nan")
    precision, recall = precision_recall(scores, is_right)
    return float(-np.trapezoid(precision, recall))


def average_precision(scores: np.ndarray, is_right: np.ndarray) -> float:
    """Precision averaged over the steps of recall; NaN where no query is right."""
    if not is_right.any():
        return float("nan")
    precision, recall = precision_recall(scores, is_right)
    return float(-(np.diff(recall) * precision[:-1]).sum())


def area_under_roc(scores: np.ndarray, is_right: np.ndarray) -> float:
    """Share of pairs of a right and a wrong query that the score has in order, ties half; NaN
    without such pairs."""
    right, wrong = np.sort(scores[is_right]), scores[~is_right]
    if not len(right) or not len(wrong):
        return float("nan")
    above = len(right) - np.searchsorted(right, wrong, side="right")
    equal = np.searchsorted(right, wrong, side="right") - np.searchsorted(right, wrong, side="left")
    return float((above + equal / 2).sum() / (len(right) * len(wrong)))


def recall_at_full_precision(scores: np.ndarray, is_right: np.ndarray) -> float:
    """Share of the right queries with a score above that of every wrong one; NaN where no query is
    right."""
    if not is_right.any():
        return float("nan")
    highest = scores[~is_right].max() if (~is_right).any() else -np.inf
    return float((scores[is_right] > highest).mean())


def judge_score(name: str, scores: np.ndarray, is_right: np.ndarray) -> ScoreQuality:
    """The figures of a score (Q,) for labels (Q,) bool; what is not finite is the least sure of
    all."""
    scores = np.asarray(scores, np.float64)
    finite = scores[np.isfinite(scores)]
    scores = np.where(np.isfinite(scores), scores, finite.min() - 1 if len(finite) else 0.0)
    return ScoreQuality(
        name,
        len(scores),
        int(is_right.sum()),
        area_under_precision_recall(scores, is_right),
        average_precision(scores, is_right),
        area_under_roc(scores, is_right),
        recall_at_full_precision(scores, is_right),
    )


def retrieval_scores(result: Evaluation) -> dict[str, np.ndarray]:
    """The scores (Q,) of an evaluation: L2, PA, SUE where there are positions, and what comparing
    the first candidate found."""
    rows, squared = result.retrieved, squared_distances(result.retrieved_similarities)
    scores = {"L2": l2_scores(squared), "PA": pa_scores(squared)}
    database = metric_ground(result.data.database, result.data.queries).database
    if np.isfinite(database).any():
        scores["SUE"] = sue_scores(
            squared, np.where((rows >= 0)[..., None], database[rows], np.nan)
        )
    if result.evidence:
        scores[result.scorer or "evidence"] = _first_evidence(result)
    return scores


def combine_scores(
    scores: Mapping[str, np.ndarray], is_right: np.ndarray, *, seed: int = 0
) -> np.ndarray | None:
    """(Q,) probabilities from all scores together, as `cross_fit` gives them. Variances and counts
    enter by their logs."""
    return cross_fit(
        np.stack([_as_feature(values) for values in scores.values()], axis=1), is_right, seed=seed
    )


def cross_weights(table: np.ndarray, is_right: np.ndarray, *, seed: int = 0) -> np.ndarray | None:
    """(Q, 1 + F) biases and weights from features (Q, F), each query's from a fit that it took no
    part in; None where too few.

    Logistic regression with weights that may not be negative, on five folds.
    """
    if min(int(is_right.sum()), int((~is_right).sum())) < MIN_FITTED:
        return None
    folds = random_stream(seed).permutation(len(is_right)) % NUM_FOLDS
    weights = np.empty((len(is_right), 1 + table.shape[1]))
    for fold in range(NUM_FOLDS):
        fitted = folds != fold
        weights[~fitted] = fit_logistic(table[fitted], is_right[fitted], np.ones(int(fitted.sum())))
    return weights


def cross_fit(table: np.ndarray, is_right: np.ndarray, *, seed: int = 0) -> np.ndarray | None:
    """(Q,) probabilities from features (Q, F) by `cross_weights`."""
    weights = cross_weights(table, is_right, seed=seed)
    return None if weights is None else probabilities_by(weights, table)


def probabilities_by(weights: np.ndarray, table: np.ndarray) -> np.ndarray:
    """(Q,) probabilities of features (Q, F), each query's by biases and weights (Q, 1 + F) of its
    own."""
    return np.asarray(
        logistic((weights[:, 1:] * table).sum(axis=1, keepdims=True) + weights[:, :1], (0.0, 1.0))
    )


def summarize_uncertainty(result: Evaluation) -> Uncertainty:
    """All scores of an evaluation, and their combination where it can be fitted."""
    counted = np.flatnonzero((result.retrieved[:, 0] >= 0) & _is_known(result))
    is_right = are_positives(result, deciding_threshold_m(result), result.retrieved[:, :1])[
        counted, 0
    ]
    scores = {name: values[counted] for name, values in retrieval_scores(result).items()}
    qualities = [judge_score(name, values, is_right) for name, values in scores.items()]
    probabilities = combine_scores(scores, is_right)
    if probabilities is None:
        return Uncertainty(tuple(qualities), None)
    qualities.append(judge_score("all together", probabilities, is_right))
    return Uncertainty(tuple(qualities), reliability(probabilities, is_right))


def _is_known(result: Evaluation) -> np.ndarray:
    data = result.data
    return (
        np.full(len(data.queries), data.positives is not None)
        | data.queries.has_point
        | data.queries.has_plane
    )


def _first_evidence(result: Evaluation) -> np.ndarray:
    """(Q,) inliers between each query and retrieval's first candidate, or the similarity of a
    scorer that counts none; else 0."""
    found = np.zeros(len(result.evidence))
    for q, pairs in enumerate(result.evidence):
        places = np.flatnonzero(result.predictions[q] == result.retrieved[q, 0])
        one = pairs[places[0]] if len(places) and places[0] < len(pairs) else None
        if one is not None:
            found[q] = one.similarity if one.num_inliers is None else one.num_inliers
    return found


def _as_feature(values: np.ndarray) -> np.ndarray:
    """A score in units of its own spread; large ones by their logs, what is not finite as the
    least."""
    finite = np.where(np.isfinite(values), values, np.min(values[np.isfinite(values)], initial=0.0))
    shrunk = (
        np.sign(finite) * np.log1p(np.abs(finite))
        if np.abs(finite).max(initial=0.0) > 10
        else finite
    )
    spread = float(shrunk.std())
    return (shrunk - shrunk.mean()) / spread if spread > 0 else np.zeros(len(shrunk))
