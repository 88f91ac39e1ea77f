"""A comparison as a table for the terminal, records, Markdown with plots beside it, and one HTML
page that opens offline."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType

from whence.data.fields import as_text
from whence.errors import BadOption
from whence.evaluation.comparison import Compared, Comparison
from whence.runtime import atomic_write
from whence.web.plots import PlotPoint, draw_points
from whence.web.tabular import Tabular, page_of_tables

_PLOTS: Mapping[str, tuple[str, Callable[[Compared], float | None]]] = {
    "dimension": (
        "dimensions",
        lambda model: None if model.cost is None else float(model.cost.dim),
    ),
    "time": (
        "milliseconds to describe a photo",
        lambda model: None if model.cost is None else model.cost.describe_ms,
    ),
    "memory": (
        "megabytes of descriptors",
        lambda model: None if model.cost is None else model.cost.index_bytes / 1e6,
    ),
}


def header_lines(comparison: Comparison) -> tuple[str, ...]:
    """Lines that say on which protocol every number rests."""
    within = (
        "positives as listed"
        if comparison.threshold_m is None
        else f"within {comparison.threshold_m:g} m"
    )
    return (
        (
            f"{comparison.set_name}: {comparison.num_queries} queries, "
            f"{comparison.num_database} database photos, {within}"
        ),
        f"protocol: {comparison.protocol}; all queries count. Intervals of recall are Wilson's, of "
        "differences those of the paired bootstrap, at 95 %",
    )


def recall_rows(comparison: Comparison) -> tuple[tuple[str, ...], ...]:
    """Recalls and costs, the header first."""
    header = (
        "model",
        *(f"recall@{recall.n}" for recall in comparison.models[0].recalls),
        "dimensions",
        "descriptors",
        "parameters",
        "GFLOPs",
        "describing",
        "searching",
        "peak memory",
    )
    return (
        header,
        *((model.name, *map(_share, model.recalls), *_costs(model)) for model in comparison.models),
    )


def difference_rows(comparison: Comparison) -> tuple[tuple[str, ...], ...]:
    """Differences to the first model in points, the header first."""
    first = comparison.models[0]
    header = (f"less {first.name}", *(f"recall@{recall.n}" for recall in first.recalls))
    rows = []
    for model in comparison.models[1:]:
        ours = [
            one.difference
            for one in comparison.differences
            if (one.first, one.second) == (model.name, first.name)
        ]
        cells = [
            f"{100 * d.value:+.1f} [{100 * d.low:+.1f}, {100 * d.high:+.1f}], p {d.p:.3f}"
            for d in ours
        ]
        rows.append((model.name, *cells))
    return (header, *rows)


def as_comparison_table(comparison: Comparison) -> RenderableType:
    """For the terminal."""
    first, second = header_lines(comparison)
    return Group(
        as_text(first, style="bold"),
        as_text(second),
        *(table.for_terminal() for table in _tables(comparison)),
    )


def _tables(comparison: Comparison) -> tuple[Tabular, ...]:
    return tuple(
        Tabular(header, tuple(rows))
        for header, *rows in (recall_rows(comparison), difference_rows(comparison))
    )


def as_comparison_records(comparison: Comparison) -> dict[str, Any]:
    """As values, for JSON; every two models are compared."""
    return {
        "set": comparison.set_name,
        "protocol": comparison.protocol,
        "threshold_m": comparison.threshold_m,
        "num_database": comparison.num_database,
        "num_queries": comparison.num_queries,
        "models": [
            {
                "model": model.name,
                "recalls": [{**asdict(recall), "recall": recall.value} for recall in model.recalls],
                "cost": None if model.cost is None else asdict(model.cost),
            }
            for model in comparison.models
        ],
        "differences": [
            {"first": one.first, "second": one.second, "n": one.n, **asdict(one.difference)}
            for one in comparison.differences
        ],
    }


def plots_of(comparison: Comparison) -> dict[str, str]:
    """Recall at the first N against dimension, time and memory, as SVG by name; plots without
    figures are left out."""
    drawn = {}
    for name, (across, value_of) in _PLOTS.items():
        lines = {}
        for model in comparison.models:
            x, recall = value_of(model), model.recalls[0]
            if x is not None:
                lines[model.name] = [
                    PlotPoint(x, 100 * recall.value, 100 * recall.low, 100 * recall.high)
                ]
        caption = f"recall@{comparison.models[0].recalls[0].n} in % against {across}"
        if picture := draw_points(lines, caption=caption, has_log=True):
            drawn[name] = picture
    return drawn


def write_comparison(path: str | Path, comparison: Comparison) -> None:
    """Write a page (.html), or Markdown (.md) with its plots as SVG files beside it. Raises
    `BadOption` and `UnwritableFile`."""
    target = Path(path)
    if target.suffix == ".html":
        text = _page(comparison)
    elif target.suffix == ".md":
        text = _markdown(comparison, target)
    else:
        raise BadOption(f"a comparison is written as .html or .md, not {target.name!r}")
    with atomic_write(target, "w") as file:
        file.write(text)


def _page(comparison: Comparison) -> str:
    drawings = tuple(plots_of(comparison).values())
    return page_of_tables(
        f"Comparison on {comparison.set_name}",
        _tables(comparison),
        lines=header_lines(comparison),
        drawings=drawings,
    )


def _markdown(comparison: Comparison, target: Path) -> str:
    parts = [
        f"# Comparison on {comparison.set_name}",
        *header_lines(comparison),
        *(table.as_markdown() for table in _tables(comparison)),
    ]
    for name, picture in plots_of(comparison).items():
        beside = target.with_name(f"{target.stem}-{name}.svg")
        with atomic_write(beside, "w") as file:
            file.write(picture)
        parts.append(f"![recall against {name}]({beside.name})")
    return "\n\n".join(parts) + "\n"


def _share(recall: Any) -> str:
    return f"{100 * recall.value:.1f} % [{100 * recall.low:.1f}, {100 * recall.high:.1f}]"


def _costs(model: Compared) -> tuple[str, ...]:
    cost = model.cost
    if cost is None:
        return ("-",) * 7
    return (
        f"{cost.dim}",
        f"{cost.index_bytes / 1e6:.2f} MB",
        "-" if cost.num_parameters is None else f"{cost.num_parameters / 1e6:.2f} M",
        "-" if cost.flops is None else f"{cost.flops / 1e9:.2f}",
        "-" if cost.describe_ms is None else f"{cost.describe_ms:.1f} ms",
        f"{cost.search_ms:.2f} ms",
        f"{cost.peak_bytes / 1e6:,.0f} MB",
    )
