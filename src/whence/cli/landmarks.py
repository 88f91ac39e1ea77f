"""`whence evaluate --protocol revisited`: landmarks, by mean average precision."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from rich.text import Text

from whence.cli.output import print_json, report_skipped, show, show_table


def evaluate_landmarks(
    folder: str, model: str, options: Mapping[str, Any], *, as_json: bool
) -> int:
    """Print mAP and mP@1, 5, 10, easy, medium and hard."""
    from whence.data.revisited import read_revisited
    from whence.evaluation.revisited import AT, rank_landmarks, score_rankings
    from whence.models.descriptor import load_model

    data = read_revisited(folder)
    report_skipped((*data.database.skipped, *data.queries.skipped))
    scores = score_rankings(rank_landmarks(load_model(model, options=options), data), data)
    if as_json:
        sizes = {"num_database": len(data.database), "num_queries": len(data.queries)}
        print_json(
            {
                "set": data.name,
                "model": model,
                **sizes,
                **{level: asdict(score) for level, score in scores.items()},
            }
        )
        return 0
    show(Text(f"{data.name}: {len(data.queries)} queries, {len(data.database)} photos; {model}"))
    rows = []
    for level, score in scores.items():
        values = (score.mean_average_precision, *score.precision_at)
        rows.append((level, *(f"{100 * value:.1f}" for value in values), str(score.num_queries)))
    show_table(("", "mAP", *(f"mP@{k}" for k in AT), "queries"), rows, num_names=1)
    return 0
