"""An evaluation as a table for people and as records for programs, always with its protocol."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import numpy as np
from rich.console import Group, RenderableType

from whence.data.fields import as_text
from whence.evaluation.answers import (
    COVERAGES,
    RiskCurve,
    deciding_threshold_m,
    risk_curve,
    summarize_answers,
    tabulate_answers,
)
from whence.evaluation.benchmarks import Evaluation
from whence.evaluation.cost import cost_rows
from whence.evaluation.metrics import Recall, bootstrap_interval, wilson_interval
from whence.evaluation.protocol import own_queries
from whence.evaluation.uncertainty import summarize_uncertainty
from whence.web.tabular import Tabular

POSITION_LIMITS_M = (10.0, 25.0, 50.0)


def as_records(result: Evaluation) -> dict[str, Any]:
    """Everything a program wants to know, as plain values."""
    return {
        "set": result.data.name,
        "model": result.model,
        "protocol": result.protocol,
        "photos": result.photos,
        "order": result.order,
        "num_database": len(result.data.database),
        "num_queries": len(result.data.queries),
        "num_left_out": {
            "queries": len(result.left_out.queries),
            "database": len(result.left_out.database),
        },
        "left_out": {"queries": result.left_out.queries, "database": result.left_out.database},
        "num_own_files": int(own_queries(result).sum()),
        "vocabulary": result.vocabulary,
        "recalls": [record for scored in result.thresholds for record in _recall_records(scored)],
        "position": _position_record(result),
        "answers": _answer_record(result),
        "uncertainty": _uncertainty_record(result),
        "num_skipped": len(result.skipped),
        "skipped": [{"photo": entry.path, "reason": entry.reason} for entry in result.skipped],
        "seconds": {stage: round(spent, 3) for stage, spent in result.seconds.items()},
        "cost": None if result.cost is None else asdict(result.cost),
    }


def as_table(result: Evaluation) -> RenderableType:
    """The table that a person reads: protocol, recalls as percentages with counts and 95 %
    intervals, position errors."""
    parts: list[RenderableType] = [
        as_text(
            (
                f"{result.data.name}: {len(result.data.queries)} queries, "
                f"{len(result.data.database)} database photos"
            ),
            style="bold",
        ),
        as_text(
            ", ".join(
                filter(
                    None,
                    (f"model {result.model}", f"vocabulary {result.vocabulary}", result.photos),
                )
            )
        ),
        as_text(f"protocol: {result.protocol}; ordered by {result.order}"),
        *(as_text(note, style="yellow") for note in notes_on(result)),
        _recall_table(result).for_terminal(),
    ]
    position = _position_record(result)
    if position is not None:
        within = ", ".join(
            (
                f"{100 * entry['share']:.1f} % within {entry['within_m']:g} m "
                f"({entry['num']}/{position['num_queries']})"
            )
            for entry in position["within"]
        )
        parts.append(
            as_text(
                f"position of the answer: median error {position['median_error_m']:.1f} m, {within}"
            )
        )
    if result.answers:
        header, *shares = risk_rows(result)
        parts += [
            as_text("verified answers", style="italic"),
            Tabular((), answer_rows(result), num_names=2).for_terminal(),
            Tabular(header, tuple(shares)).for_terminal(),
        ]
    elif result.evidence:
        parts.append(
            as_text(f"answers are not verified: {result.unverified_reason}", style="yellow")
        )
    if result.evidence:
        header, *qualities = uncertainty_rows(result)
        parts += [
            as_text("is retrieval's first candidate right?", style="italic"),
            Tabular(header, tuple(qualities)).for_terminal(),
        ]
    if result.skipped:
        first = result.skipped[0]
        parts.append(
            as_text(
                f"{len(result.skipped)} photos skipped, the first: {first.path}: {first.reason}",
                style="yellow",
            )
        )
    if result.cost is not None:
        parts.append(
            as_text(
                "cost: " + ", ".join(f"{name} {value}" for name, value in cost_rows(result.cost)),
                style="dim",
            )
        )
    parts.append(
        as_text(
            "seconds: "
            + ", ".join(f"{stage} {spent:.1f}" for stage, spent in result.seconds.items()),
            style="dim",
        )
    )
    return Group(*parts)


def notes_on(result: Evaluation) -> tuple[str, ...]:
    """Sentences on which photos were looked at: those left out, and questions that are the
    database's own files."""
    num_own = int(own_queries(result).sum())
    own = (
        f"{num_own} of the queries are the database's own files (the same bytes): that these are "
        "found says nothing"
    )
    return (*((str(result.left_out),) if result.left_out else ()), *((own,) if num_own else ()))


def answer_rows(result: Evaluation) -> tuple[tuple[str, str], ...]:
    """Lines of a name and a text on what verified answers are worth."""
    summary = summarize_answers(tabulate_answers(result))
    threshold = deciding_threshold_m(result)
    within = "listed" if threshold is None else f"within {threshold:g} m"
    rows = [
        (
            f"queries with a positive {within}: answered",
            _counted(summary.num_located, summary.num_covered),
        ),
        ("of these answered wrongly", _counted(summary.num_wrong, summary.num_located)),
    ]
    if summary.num_with_radius:
        median = (
            f"median radius {summary.median_radius_m:.1f} m, median error "
            f"{summary.median_error_m:.1f} m"
        )
        rows.append(
            (
                "true place inside the radius",
                f"{_counted(summary.num_inside, summary.num_with_radius)}; {median}",
            )
        )
    if summary.num_uncovered:
        unknown = _counted(summary.num_uncovered_unknown, summary.num_uncovered)
        rows.append((f"queries without a positive {within}: unknown", unknown))
    error = f"{100 * summary.calibration_error:.1f} % over {summary.num_queries} queries"
    return (*rows, ("expected calibration error of the confidence", error))


def risk_rows(result: Evaluation) -> tuple[tuple[str, ...], ...]:
    """Coverage against risk as a small table, its header first: what would be wrong if only the
    surest were answered."""
    curve = _curve(result)
    rows = []
    for coverage in COVERAGES:
        point = curve.at(coverage)
        if point is not None:
            rows.append(
                (
                    f"{100 * coverage:.0f} %",
                    f"{curve.min_confidences[point]:.3f}",
                    f"{100 * curve.risks[point]:.1f} %",
                )
            )
    return (("answered", "confidence from", "wrong among them"), *rows)


def uncertainty_rows(result: Evaluation) -> tuple[tuple[str, ...], ...]:
    """How well each score tells whether retrieval's first candidate is right, as a small table, its
    header first."""
    found = summarize_uncertainty(result)
    rows = [
        (
            one.name,
            *(
                _percent(value)
                for value in (
                    one.auprc,
                    one.average_precision,
                    one.auroc,
                    one.recall_at_full_precision,
                )
            ),
        )
        for one in found.qualities
    ]
    if found.qualities:
        rows.append(("share that is right", _percent(found.qualities[0].share_right), "", "", ""))
    if found.combined is not None:
        rows.append(
            (
                "calibration error of all together",
                _percent(found.combined.calibration_error),
                "",
                "",
                "",
            )
        )
    return (("score", "AUPRC", "average precision", "AUROC", "recall at 100 % precision"), *rows)


def reliability_rows(result: Evaluation) -> tuple[tuple[str, ...], ...]:
    """The reliability diagram of the scores' combination as a small table; only its header where
    there is none."""
    header = ("probability", "queries", "mean probability", "share right")
    found = summarize_uncertainty(result).combined
    if found is None:
        return (header,)
    bins = zip(
        found.edges,
        found.edges[1:],
        found.counts,
        found.confidences,
        found.shares_right,
        strict=False,
    )
    rows = [
        (f"{low:.1f}-{high:.1f}", str(num), f"{mean:.3f}", f"{right:.3f}")
        for low, high, num, mean, right in bins
        if num
    ]
    return (header, *rows)


def _percent(value: float) -> str:
    return "-" if np.isnan(value) else f"{100 * value:.1f} %"


def _uncertainty_record(result: Evaluation) -> dict[str, Any] | None:
    """The figures of every score, and the reliability of their combination."""
    if not result.evidence:
        return None
    found = summarize_uncertainty(result)
    return {
        "scores": [{**asdict(one), "share_right": one.share_right} for one in found.qualities],
        "combined": None if found.combined is None else asdict(found.combined),
        "num_compared": result.num_compared,
    }


def _curve(result: Evaluation) -> RiskCurve:
    table = tabulate_answers(result)
    return risk_curve(table.confidences, table.is_first_right)


def _counted(num: int, whole: int) -> str:
    return "-" if not whole else f"{num}/{whole}, {_interval_text(num, whole)}"


def _interval_text(num: int, whole: int) -> str:
    low, high = wilson_interval(num, whole)
    return f"{100 * num / whole:.1f} % [{100 * low:.0f}-{100 * high:.0f}]"


def _answer_record(result: Evaluation) -> dict[str, Any] | None:
    """The summary of verified answers, the curve of coverage against risk, and the answer to each
    query."""
    if not result.answers:
        return None
    summary, curve = summarize_answers(tabulate_answers(result)), _curve(result)
    shares = ("share_located", "share_wrong", "share_inside", "share_uncovered_unknown")
    return {
        "threshold_m": deciding_threshold_m(result),
        **asdict(summary),
        **{name: getattr(summary, name) for name in shares},
        "risk": [
            {
                "coverage": coverage,
                "min_confidence": float(curve.min_confidences[i]),
                "risk": float(curve.risks[i]),
            }
            for coverage in COVERAGES
            if (i := curve.at(coverage)) is not None
        ],
        "queries": [
            {
                "query": answer.query,
                "status": answer.status,
                "lat": None if answer.point is None else answer.point.lat,
                "lon": None if answer.point is None else answer.point.lon,
                "radius_m": answer.radius_m,
                "confidence": answer.confidence,
                "reason": answer.reason,
                "seconds": {stage: round(spent, 4) for stage, spent in answer.seconds.items()},
            }
            for answer in result.answers
        ],
    }


def _recall_table(result: Evaluation) -> Tabular:
    titles = (f"recall@{recall.n}" for recall in result.thresholds[0].all_queries)
    rows, num_all = [], len(result.data.queries)
    for scored in result.thresholds:
        name = "as listed" if scored.threshold_m is None else f"within {scored.threshold_m:g} m"
        failing = scored.num_without_positives
        how = f"{failing} without positives fail" if failing else "each has positives"
        rows.append((name, f"all {num_all}, {how}", *map(recall_text, scored.all_queries)))
        if failing:
            others = map(recall_text, scored.with_positives)
            rows.append(("", f"the {num_all - failing} with positives", *others))
    return Tabular(("positives", "queries counted", *titles), tuple(rows), num_names=2)


def recall_text(recall: Recall) -> str:
    """A share as a person reads it: percent, counts, and its 95 % interval; "-" where nothing was
    counted."""
    if not recall.num_queries:
        return "-"
    interval = f"[{100 * recall.low:.0f}-{100 * recall.high:.0f}]"
    return f"{100 * recall.value:.1f} % {recall.num_right}/{recall.num_queries} {interval}"


def _recall_records(scored: Any) -> Iterator[dict[str, Any]]:
    for counted, values in (("all", scored.all_queries), ("with positives", scored.with_positives)):
        for recall in values:
            yield {
                "threshold_m": scored.threshold_m,
                "counted": counted,
                "n": recall.n,
                "num_right": recall.num_right,
                "num_queries": recall.num_queries,
                "num_without_positives": scored.num_without_positives,
                "recall": recall.value if recall.num_queries else None,
                "low": recall.low,
                "high": recall.high,
            }


def _position_record(result: Evaluation) -> dict[str, Any] | None:
    """Errors over all queries whose true position is known; a query without an answer counts as
    outside every limit."""
    known = result.data.queries.has_point
    if not known.any() or not result.data.database.has_point.any():
        return None
    errors = np.where(
        np.isfinite(result.position_errors_m[known]), result.position_errors_m[known], np.inf
    )
    within = []
    for limit in POSITION_LIMITS_M:
        num = int((errors <= limit).sum())
        low, high = wilson_interval(num, len(errors))
        within.append(
            {"within_m": limit, "num": num, "share": num / len(errors), "low": low, "high": high}
        )
    median = float(np.median(errors))
    return {
        "num_queries": len(errors),
        "median_error_m": median,
        "within": within,
        "interval_of_mean_m": _finite_interval(errors),
    }


def _finite_interval(errors: np.ndarray) -> tuple[float, float] | None:
    return bootstrap_interval(errors) if np.isfinite(errors).all() else None
