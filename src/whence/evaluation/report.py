"""An evaluation as a table for people and as records for programs, always with its protocol."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from whence.evaluation.benchmarks import Evaluation
from whence.evaluation.metrics import Recall, bootstrap_interval, wilson_interval

POSITION_LIMITS_M = (10.0, 25.0, 50.0)


def as_records(result: Evaluation) -> dict[str, Any]:
    """Everything a program wants to know, as plain values."""
    return {
        "set": result.data.name,
        "model": result.model,
        "protocol": result.protocol,
        "order": result.order,
        "num_database": len(result.data.database),
        "num_queries": len(result.data.queries),
        "vocabulary": result.vocabulary,
        "recalls": [record for scored in result.thresholds for record in _recall_records(scored)],
        "position": _position_record(result),
        "num_skipped": len(result.skipped),
        "skipped": [{"photo": entry.path, "reason": entry.reason} for entry in result.skipped],
        "seconds": {stage: round(spent, 3) for stage, spent in result.seconds.items()},
    }


def as_table(result: Evaluation) -> RenderableType:
    """What a person reads: protocol, recalls as percentages with counts and 95 % intervals, position errors."""
    parts: list[RenderableType] = [
        Text(f"{result.data.name}: {len(result.data.queries)} queries, {len(result.data.database)} database photos", style="bold"),
        Text(f"model {result.model}, vocabulary {result.vocabulary}"),
        Text(f"protocol: {result.protocol}; ordered by {result.order}"),
        _recall_table(result),
    ]
    position = _position_record(result)
    if position is not None:
        within = ", ".join(
            f"{100 * entry['share']:.1f} % within {entry['within_m']:g} m ({entry['num']}/{position['num_queries']})"
            for entry in position["within"]
        )
        parts.append(Text(f"position of the answer: median error {position['median_error_m']:.1f} m, {within}"))
    if result.skipped:
        first = result.skipped[0]
        parts.append(Text(f"{len(result.skipped)} photos skipped, the first: {first.path}: {first.reason}", style="yellow"))
    parts.append(Text("seconds: " + ", ".join(f"{stage} {spent:.1f}" for stage, spent in result.seconds.items()), style="dim"))
    return Group(*parts)


def _recall_table(result: Evaluation) -> Table:
    table = Table(show_edge=False, pad_edge=False)
    table.add_column("positives")
    table.add_column("queries counted")
    for recall in result.thresholds[0].all_queries:
        table.add_column(f"recall@{recall.n}", justify="right")
    for scored in result.thresholds:
        name = "as listed" if scored.threshold_m is None else f"within {scored.threshold_m:g} m"
        num_all = len(result.data.queries)
        if scored.num_without_positives:
            failing = f"all {num_all}, {scored.num_without_positives} without positives fail"
            table.add_row(name, failing, *map(_cell, scored.all_queries))
            table.add_row("", f"the {num_all - scored.num_without_positives} with positives", *map(_cell, scored.with_positives))
        else:
            table.add_row(name, f"all {num_all}, each has positives", *map(_cell, scored.all_queries))
    return table


def _cell(recall: Recall) -> str:
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
    """Errors over all queries whose true position is known; a query without an answer counts as outside every limit."""
    known = result.data.queries.has_point
    if not known.any() or not result.data.database.has_point.any():
        return None
    errors = np.where(np.isfinite(result.position_errors_m[known]), result.position_errors_m[known], np.inf)
    within = []
    for limit in POSITION_LIMITS_M:
        num = int((errors <= limit).sum())
        low, high = wilson_interval(num, len(errors))
        within.append({"within_m": limit, "num": num, "share": num / len(errors), "low": low, "high": high})
    median = float(np.median(errors))
    return {"num_queries": len(errors), "median_error_m": median, "within": within, "interval_of_mean_m": _finite_interval(errors)}


def _finite_interval(errors: np.ndarray) -> tuple[float, float] | None:
    return bootstrap_interval(errors) if np.isfinite(errors).all() else None
