"""A table as a value: for the terminal, as Markdown, and on a page of tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from whence.data.fields import as_text
from whence.web.templates import asset, closed_policy, render

if TYPE_CHECKING:
    from rich.table import Table as TerminalTable


@dataclass(frozen=True, slots=True)
class Tabular:
    """Rows of texts under a header, or without one. The first `num_names` columns name what a row
    is about; numbers follow."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    num_names: int = 1
    caption: str = ""
    missing_rows: frozenset[int] = field(default_factory=frozenset)
    """Rows whose numbers are not there; they say why."""

    def kind_of(self, row: int, column: int) -> str:
        """How a field is shown: "name", "number", or "missing"."""
        return (
            "name"
            if column < self.num_names
            else "missing"
            if row in self.missing_rows
            else "number"
        )

    def for_terminal(self) -> TerminalTable:
        """The table for rich; texts are never taken as markup."""
        from rich.table import Table

        table = Table(show_edge=False, pad_edge=False, show_header=bool(self.header))
        for place, title in enumerate(self.header or ("",) * max(map(len, self.rows), default=0)):
            table.add_column(
                as_text(title),
                overflow="fold",
                justify="left" if place < self.num_names else "right",
                style="" if self.header or place else "bold",
            )
        for number, row in enumerate(self.rows):
            table.add_row(
                *map(as_text, row), style="yellow" if number in self.missing_rows else None
            )
        return table

    def as_markdown(self) -> str:
        """The table in Markdown, without a line end after it."""
        lines = (self.header, ("---",) * len(self.header), *self.rows)
        return "\n".join(
            "| " + " | ".join(text.replace("|", "\\|").replace("\n", " ") for text in line) + " |"
            for line in lines
        )


def page_of_tables(
    title: str,
    tables: Sequence[Tabular],
    *,
    lines: Sequence[str] = (),
    drawings: Sequence[str] = (),
    notes: Sequence[str] = (),
) -> str:
    """One HTML page: lines, tables, drawings (SVG of our own), notes; it loads nothing from
    elsewhere.

    Drawings carry styles of their own, which a policy cannot name by hash; nothing else on the page
    may.
    """
    style = asset("tables.css")
    policy = closed_policy(style=style)
    if drawings:
        policy = "default-src 'none'; style-src 'unsafe-inline'"
    values = {
        "title": title,
        "lines": lines,
        "tables": tables,
        "drawings": drawings,
        "notes": notes,
    }
    return render("tables.html", {**values, "style": style, "policy": policy})
