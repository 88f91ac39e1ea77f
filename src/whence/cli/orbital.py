"""`whence evaluate --protocol earthloc`: photos from orbit against tiles at four rotations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.text import Text

from whence.cli.output import print_json, report_skipped, show, show_table


def evaluate_photos_from_orbit(
    folder: str,
    model: str,
    options: Mapping[str, Any],
    *,
    split: str,
    queries_folder: str | None,
    as_json: bool,
) -> int:
    """Print recall@1, 5, 10, 20 and 100 by the published rule, with rotations stored, merged, asked
    and without."""
    from whence.data.evaluation_sets import open_set
    from whence.evaluation.orbital import AT, WAYS, evaluate_orbital
    from whence.models.descriptor import load_model

    data = open_set(folder, layout="earthloc", split=split, queries_folder=queries_folder)
    scores, skipped = evaluate_orbital(
        load_model(model, options=options), data, show_progress=False if as_json else None
    )
    report_skipped(skipped)
    counts = {
        "num_database": len(data.database),
        "num_queries": len(data.queries),
        "num_counted": scores[0].num_queries,
    }
    if as_json:
        found = {
            one.way: {f"recall@{n}": value for n, value in zip(AT, one.recall_at, strict=True)}
            | {
                f"interval@{n}": list(interval)
                for n, interval in zip(AT, one.intervals, strict=True)
            }
            for one in scores
        }
        print_json({"set": data.name, "model": model, **counts, "rotations": found})
        return 0
    show(
        Text(
            f"{data.name}: {counts['num_counted']} of {counts['num_queries']} photos overlap one "
            f"of {counts['num_database']} tiles; {model}. Right is a tile that overlaps; 95 % "
            "intervals of recall@1"
        )
    )
    rows = []
    for one in scores:
        low, high = one.intervals[0]
        values = (f"{100 * value:.1f}" for value in one.recall_at)
        rows.append((one.way, *values, f"{100 * low:.1f} to {100 * high:.1f}", WAYS[one.way]))
    show_table(("rotations", *(f"R@{n}" for n in AT), "interval", "what it is"), rows)
    return 0
