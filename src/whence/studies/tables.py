"""What a study came to as a table: for the terminal, as records, as Markdown, and as a page with
its plot."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from whence.runtime import atomic_write
from whence.studies.frame import Measure, RunResult, StudyResult, Value
from whence.studies.plots import draw_plot
from whence.web.tabular import Tabular, page_of_tables


def axes_of(result: StudyResult) -> tuple[str, ...]:
    """The axes of the grid, in the order they first appear."""
    return tuple(dict.fromkeys(axis for found in result.runs for axis in found.run.settings))


def rows_of(result: StudyResult) -> tuple[tuple[str, ...], ...]:
    """The table as texts, its header first; a missing run says so in its first measure. Measures
    that no run has are left out."""
    axes = axes_of(result)
    measured = {name for found in result.runs for name in found.values}
    measures = [
        one for one in result.study.measures if one.name in measured
    ] or result.study.measures[:1]
    return (
        (*axes, *(one.name for one in measures)),
        *(_row(found, axes, measures) for found in result.runs),
    )


def _row(result: RunResult, axes: Sequence[str], measures: Sequence[Measure]) -> tuple[str, ...]:
    settings = [_plain(result.run.settings.get(axis, "")) for axis in axes]
    if not result.is_done:
        return (*settings, result.reason, *[""] * (len(measures) - 1))
    return (*settings, *(_text(result.values.get(measure.name), measure) for measure in measures))


def _plain(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _text(value: Value | None, measure: Measure) -> str:
    if value is None:
        return "-"
    factor, form = (100, ".1f") if measure.unit == "%" else (1, ".4g")
    number = f"{factor * value.value:{form}}" + (f" {measure.unit}" if measure.unit else "")
    if value.low is None or value.high is None:
        return number
    return f"{number} [{factor * value.low:{form}}, {factor * value.high:{form}}]"


def as_table(result: StudyResult) -> RenderableType:
    """For the terminal."""
    name = Text(f"{result.study.name}: {result.study.summary}", style="bold")
    return Group(
        name, Text(result.protocol), _tabular(result).for_terminal(), Text(_counted(result))
    )


def _tabular(result: StudyResult) -> Tabular:
    header, *rows = rows_of(result)
    missing = frozenset(number for number, found in enumerate(result.runs) if not found.is_done)
    return Tabular(header, tuple(rows), num_names=len(axes_of(result)), missing_rows=missing)


def as_records(result: StudyResult) -> dict[str, Any]:
    """As values, for JSON."""
    runs = [
        {
            "settings": dict(found.run.settings),
            "is_done": found.is_done,
            "reason": found.reason,
            "seconds": found.seconds,
            "values": {
                name: {"value": value.value, "low": value.low, "high": value.high}
                for name, value in found.values.items()
            },
        }
        for found in result.runs
    ]
    return {
        "study": result.study.name,
        "protocol": result.protocol,
        "options": dict(result.options),
        "cells": runs,
    }


def as_markdown(result: StudyResult) -> str:
    """As Markdown."""
    return (
        f"{result.study.summary}. "
        f"{result.protocol}\n\n{_tabular(result).as_markdown()}\n\n{_counted(result)}\n"
    )


def as_page(result: StudyResult) -> str:
    """As one HTML page with the plot; nothing is loaded from elsewhere."""
    lines, notes = (result.study.summary, result.protocol), (_counted(result),)
    return page_of_tables(
        result.study.name,
        (_tabular(result),),
        lines=lines,
        drawings=(draw_plot(result),),
        notes=notes,
    )


def write_text(path: str | Path, text: str) -> None:
    """Write a table or a page to a file, whole or not at all."""
    with atomic_write(path, "w") as file:
        file.write(text)


def _counted(result: StudyResult) -> str:
    done = sum(found.is_done for found in result.runs)
    missing = len(result.runs) - done
    return f"{done} of {len(result.runs)} runs measured" + (
        f", {missing} missing" if missing else ""
    )
