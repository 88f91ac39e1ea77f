"""What the verbs print: text through rich, or `--json` objects one a line, on standard output;
notes and errors on the other."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console, RenderableType
from rich.segment import Segment, Segments
from rich.text import Text

from whence.data.elsewhere import address_of, is_elsewhere
from whence.data.fields import as_text, json_printable, printable
from whence.errors import WhenceError
from whence.records import finite_values
from whence.types import SkippedPhoto
from whence.web.tabular import Tabular

EXIT_UNKNOWN = 3
"""A single question without an answer: an unknown place, two photos that do not match."""
MAX_SKIPPED_SHOWN = 10


def show(renderable: RenderableType) -> None:
    """Print for people; plain and unwrapped where standard output is not a terminal. Texts are
    never taken as markup."""
    width = None if sys.stdout.isatty() else 200
    console = Console(file=sys.stdout, width=width, highlight=False)
    # Whatever a table was made of, nothing in it acts on the terminal but what is written here.
    pieces = console.render(Text(renderable) if isinstance(renderable, str) else renderable)
    console.print(
        Segments(Segment(printable(text, keep_lines=True), style) for text, style, _ in pieces),
        end="",
    )


def show_table(
    header: Sequence[str], rows: Iterable[Sequence[str]], *, num_names: int | None = None
) -> None:
    """Print rows of texts; without `num_names` columns are words, not numbers."""
    lines = tuple(map(tuple, rows))
    width = max(len(header), *map(len, lines), 0) if num_names is None else num_names
    show(Tabular(tuple(header), lines, width).for_terminal())


def print_json(record: Mapping[str, Any]) -> None:
    """One JSON object on one line; numbers that are not finite become null. Ends the program where
    nobody reads any more."""
    try:
        sys.stdout.write(
            json_printable(
                json.dumps(finite_values(record), ensure_ascii=False, separators=(", ", ": "))
            )
            + "\n"
        )
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader (head, less) has gone; what is still buffered must not raise again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(0) from None


def print_error(message: str) -> None:
    """An error, on standard error."""
    Console(file=sys.stderr, highlight=False, soft_wrap=True).print(
        as_text(f"error: {message}", "red")
    )


def print_note(message: str) -> None:
    """Something a person should know, on standard error."""
    Console(file=sys.stderr, highlight=False, soft_wrap=True).print(as_text(message, "yellow"))


def show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """A warning as one line; which line of code gave it helps nobody who uses the command."""
    print_note(f"warning: {message}")


def write_all(jobs: Iterable[Callable[[], None]]) -> int:
    """Write files one after the other; one that fails is said, and the others are written. Gives
    the exit code."""
    code = 0
    for job in jobs:
        try:
            job()
        except WhenceError as error:
            print_error(str(error))
            code = 1
    return code


def report_skipped(skipped: Iterable[SkippedPhoto]) -> None:
    """Name the photos that were left out, and why: the first few, then how many more."""
    entries = list(skipped)
    for entry in entries[:MAX_SKIPPED_SHOWN]:
        print_note(f"skipped {entry.path}: {entry.reason}")
    if len(entries) > MAX_SKIPPED_SHOWN:
        print_note(f"and {len(entries) - MAX_SKIPPED_SHOWN} more; --json lists them all")


def report_remarks(remarks: Iterable[str]) -> None:
    """Say what holds for the photos as a whole: positions that are not taken, files that are left
    out."""
    for remark in remarks:
        print_note(remark)


def from_here(path: str | Path) -> str:
    """A path as one would type it from the working folder, or an address."""
    if is_elsewhere(path):
        return address_of(path)
    try:
        relative = os.path.relpath(path)
    except ValueError:
        return str(path)
    return str(path) if relative.startswith(os.path.join("..", "..", "..")) else relative


def set_help(record: type, *, without: Iterable[str] = ()) -> str:
    """Help of an option `--set` that replaces fields of a record: their names."""
    names = [entry.name for entry in fields(record) if entry.name not in without]
    return f"FIELD=VALUE, may be repeated. Fields: {', '.join(names)}; see docs/settings.md."
