"""`whence evaluate --sequence N`: recall of windows of frames instead of single photos."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from whence.cli.output import print_json, report_skipped, show, show_table
from whence.data.fields import as_text
from whence.errors import BadOption
from whence.evaluation.metrics import Recall
from whence.evaluation.sequence_recall import SequenceEvaluation, SequenceRules, evaluate_sequences
from whence.evaluation.stated import StatedEvaluation
from whence.records import finite_values
from whence.settings import load_settings


def sequence_rules(
    length: int, pool: str, ways: tuple[bool, int], *, fields: StatedEvaluation
) -> SequenceRules:
    """The rules that the fields ask for; `ways` are whether the database is reversed, and the
    speed. Raises `BadOption`."""
    reverse, speed = ways
    radii = fields.thresholds_m or (25.0,)
    if len(radii) != 1:
        raise BadOption("with --sequence, thresholds_m takes one distance")
    ranks, frames = fields.recall_at, fields.frames
    if length < 1 or speed < 1 or min(ranks) < 1 or (frames or 0) < 0:
        raise BadOption(
            "--sequence, speed and recall_at take numbers of at least 1, frames of at least 0"
        )
    return SequenceRules(length, pool, {}, radii[0], frames, reverse, speed, recall_at=ranks)


def print_sequences(
    where: tuple[str, str, str | None, str | None],
    model: str | None,
    model_options: dict[str, Any],
    rules: SequenceRules,
    *,
    as_json: bool,
    quiet: bool,
) -> int:
    """Print recall of a folder of drives: `where` is its path, the split, and the folders of both
    sides where they are named."""
    from whence.data.frame_folders import open_sequences
    from whence.data.scan import ReadOptions
    from whence.models.descriptor import load_model

    show_progress = False if quiet or as_json else None
    reading = ReadOptions(show_progress=show_progress)
    data, split, database_folder, queries_folder = where
    found = open_sequences(
        data,
        split=split,
        database_folder=database_folder,
        queries_folder=queries_folder,
        options=reading,
    )
    opened = load_model(model or load_settings().model, options=model_options)
    result = evaluate_sequences(opened, found, rules=rules, show_progress=show_progress)
    if as_json:
        print_json(as_record(result))
        return 0
    report_skipped(result.skipped)
    show(f"{result.model} on {result.data}")
    both = zip(result.with_positives, result.all_queries, strict=True)
    rows = [(f"@{one.n}", _recall_text(one), _recall_text(two)) for one, two in both]
    show_table(("recall", "queries with a positive", "all queries"), rows)
    show(as_text(_protocol(result)))
    return 0


def as_record(result: SequenceEvaluation) -> dict[str, Any]:
    """Plain values, as `--json` prints them."""
    kinds = {"with_positives": result.with_positives, "all_queries": result.all_queries}
    recall = {kind: [_recall_record(one) for one in found] for kind, found in kinds.items()}
    about = {"num_database": result.num_database, "num_queries": len(result.first_hit)}
    about |= {
        "num_without_positives": result.num_without_positives,
        "descriptor_bytes": result.descriptor_bytes,
    }
    return {
        "data": result.data,
        "model": result.model,
        "protocol": _protocol(result),
        **about,
        "recall": recall,
        "ms_per_query": round(result.ms_per_query, 3),
        "seconds": finite_values(dict(result.seconds), digits=3),
        "rules": asdict(result.rules),
        "skipped": [{"photo": path, "reason": reason} for path, reason in result.skipped],
    }


def _recall_record(one: Recall) -> dict[str, Any]:
    counts = {"right": one.num_right, "queries": one.num_queries}
    return {"n": one.n, "recall": one.value, **counts, "low": one.low, "high": one.high}


def _protocol(result: SequenceEvaluation) -> str:
    rules = result.rules
    near = (
        f"{rules.radius_m:g} m"
        if rules.tolerance_frames is None
        else f"{rules.tolerance_frames} frames"
    )
    turned = ", database reversed" if rules.is_reversed else ""
    fast = f", queries at {rules.speed} times the speed" if rules.speed > 1 else ""
    return (
        f"windows of {rules.length} frames{turned}{fast}; right where any frame lies within {near} "
        f"of any of the query's; {result.num_database} database windows, {len(result.first_hit)} "
        f"queries, {result.num_without_positives} of them without a positive; "
        f"{result.descriptor_bytes} bytes a sequence, {result.ms_per_query:.2f} ms a query beside "
        "describing"
    )


def _recall_text(one: Recall) -> str:
    counts = f"{one.num_right}/{one.num_queries}"
    return f"{100 * one.value:.1f} % ({counts}; {100 * one.low:.1f} to {100 * one.high:.1f})"
