"""What verified answers are worth: how many are given, how many of them are right, and whether the
confidence can be believed.

An answer is right within the threshold of the true place, or, where positives are listed or there
are no coordinates, where its first candidate is a positive. A query is covered where the database
holds a positive of it; of the others "unknown" is the only right answer. The confidence is the
probability that the first candidate is a positive, answered or not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from whence.evaluation.benchmarks import Evaluation
from whence.evaluation.confidence import reliability
from whence.evaluation.metrics import first_hit_by_distance, first_hit_in_lists
from whence.evaluation.protocol import has_positives, metric_ground
from whence.geo import distance_m
from whence.types import GeoPoint, Position

RIGHT_WITHIN_M = 25.0
"""An answer this near to the true place is right, where nothing else says what right means."""
COVERAGES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""Shares of the queries for which reports say the risk."""


class AnswerTable(NamedTuple):
    """Answers beside the truth, one row per query whose truth is known; Q queries."""

    is_answered: np.ndarray
    """(Q,) bool: located or matched."""
    is_right: np.ndarray
    """(Q,) bool: the answer is right, or would be if it were given."""
    is_first_right: np.ndarray
    """(Q,) bool: the first candidate is a positive."""
    is_covered: np.ndarray
    """(Q,) bool: the database holds a positive."""
    confidences: np.ndarray
    """(Q,) probability that the first candidate is a positive; 0 without evidence."""
    errors_m: np.ndarray
    """(Q,) metres from the answer to the truth; NaN without answer or coordinates."""
    radii_m: np.ndarray
    """(Q,) the answer's radius; NaN without."""

    @classmethod
    def joined(cls, parts: Sequence[AnswerTable]) -> AnswerTable:
        """Several evaluations as one."""
        return cls(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


class RiskCurve(NamedTuple):
    """Coverage against risk: what would be wrong if the surest P shares of the queries were
    answered."""

    coverages: np.ndarray
    """(P,) shares of all queries, rising."""
    risks: np.ndarray
    """(P,) share of those answered whose first candidate is no positive."""
    min_confidences: np.ndarray
    """(P,) the confidence from which that share is answered."""

    def at(self, coverage: float) -> int | None:
        """The first point that reaches a coverage; None where no confidence does: the others have
        no evidence at all."""
        reached = np.flatnonzero(self.coverages >= coverage - 1e-12)
        return int(reached[0]) if len(reached) else None


@dataclass(frozen=True, slots=True)
class AnswerSummary:
    """The figures. Shares are NaN where there is nothing to count."""

    num_queries: int
    num_covered: int
    num_located: int
    """Covered queries that are answered."""
    num_wrong: int
    """Of those, the ones answered wrongly."""
    num_with_radius: int
    num_inside: int
    """Covered queries answered with a radius that holds the true place."""
    median_radius_m: float
    median_error_m: float
    num_uncovered: int
    num_uncovered_unknown: int
    calibration_error: float
    """Expected calibration error of the confidence over all queries."""

    @property
    def share_located(self) -> float:
        return _share(self.num_located, self.num_covered)

    @property
    def share_wrong(self) -> float:
        return _share(self.num_wrong, self.num_located)

    @property
    def share_inside(self) -> float:
        return _share(self.num_inside, self.num_with_radius)

    @property
    def share_uncovered_unknown(self) -> float:
        return _share(self.num_uncovered_unknown, self.num_uncovered)


def tabulate_answers(result: Evaluation) -> AnswerTable:
    """The verified answers of an evaluation beside the truth, at its deciding threshold; queries of
    unknown place are left out."""
    data, threshold_m = result.data, deciding_threshold_m(result)
    is_covered = has_positives(data, threshold_m=threshold_m, excluded=result.excluded)
    is_first_right = are_positives(result, threshold_m, result.predictions[:, :1]).reshape(-1)
    truths = [data.queries.record(q).point for q in range(len(data.queries))]
    errors = np.array(
        [_error_m(answer, truth) for answer, truth in zip(result.answers, truths, strict=True)]
    )
    is_right = is_first_right.copy()
    if data.positives is None:
        is_right = np.where(np.isfinite(errors), errors <= (threshold_m or 0.0), is_first_right)
    is_answered = np.array([answer.status != "unknown" for answer in result.answers], bool)
    confidences = np.array([answer.confidence or 0.0 for answer in result.answers])
    radii = np.array(
        [np.nan if answer.radius_m is None else answer.radius_m for answer in result.answers]
    )
    table = AnswerTable(
        is_answered, is_right, is_first_right, is_covered, confidences, errors, radii
    )
    is_known = (
        np.full(len(is_covered), data.positives is not None)
        | data.queries.has_point
        | data.queries.has_plane
    )
    return AnswerTable(*(column[is_known] for column in table))


def summarize_answers(table: AnswerTable) -> AnswerSummary:
    """The figures of a table of answers."""
    located = table.is_answered & table.is_covered
    measured = located & np.isfinite(table.errors_m) & np.isfinite(table.radii_m)
    others = ~table.is_covered
    return AnswerSummary(
        num_queries=len(table.is_answered),
        num_covered=int(table.is_covered.sum()),
        num_located=int(located.sum()),
        num_wrong=int((located & ~table.is_right).sum()),
        num_with_radius=int(measured.sum()),
        num_inside=int((table.errors_m[measured] <= table.radii_m[measured]).sum()),
        median_radius_m=_median(table.radii_m[measured]),
        median_error_m=_median(table.errors_m[measured]),
        num_uncovered=int(others.sum()),
        num_uncovered_unknown=int((others & ~table.is_answered).sum()),
        calibration_error=reliability(table.confidences, table.is_first_right).calibration_error,
    )


def risk_curve(confidences: np.ndarray, is_right: np.ndarray) -> RiskCurve:
    """Coverage against risk of confidences (Q,): one point for each that occurs (El-Yaniv and
    Wiener, JMLR 2010).

    Queries of one confidence are answered together; those of confidence 0 never.
    """
    order = np.argsort(-confidences, kind="stable")
    order = order[confidences[order] > 0]
    num_wrong = np.cumsum(~is_right[order])
    last = (
        np.flatnonzero(np.append(np.diff(confidences[order]) != 0, True))
        if len(order)
        else np.empty(0, np.int64)
    )
    return RiskCurve(
        (last + 1) / max(len(confidences), 1),
        num_wrong[last] / (last + 1),
        confidences[order][last],
    )


def deciding_threshold_m(result: Evaluation) -> float | None:
    """The distance that decides right and wrong: the usual one where it was measured, else the
    first; None for listed positives."""
    measured = [scored.threshold_m for scored in result.thresholds]
    return RIGHT_WITHIN_M if RIGHT_WITHIN_M in measured else measured[0]


def are_positives(
    result: Evaluation, threshold_m: float | None, predictions: np.ndarray
) -> np.ndarray:
    """(Q, K) bool: which of the predictions (Q, K), database rows with -1 for none, are positives
    of their query."""
    columns = [predictions[:, k : k + 1] for k in range(predictions.shape[1])]
    if result.data.positives is not None:
        hits = [first_hit_in_lists(column, result.data.positives) == 0 for column in columns]
    else:
        assert threshold_m is not None, "without listed positives there is a distance"
        ground = metric_ground(result.data.database, result.data.queries)
        limits = [threshold_m]
        hits = [
            first_hit_by_distance(column, ground.database, ground.queries, thresholds_m=limits)[0]
            == 0
            for column in columns
        ]
    return np.stack(hits, axis=1) if hits else np.zeros(predictions.shape, bool)


def _error_m(answer: Position, truth: GeoPoint | None) -> float:
    return np.nan if answer.point is None or truth is None else distance_m(answer.point, truth)


def _share(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")


def _median(values: np.ndarray) -> float:
    return float(np.median(values)) if len(values) else float("nan")
