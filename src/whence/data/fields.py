"""Names of files as others will see them: on a terminal, where control characters act, and in
tables, where formulas do.

Spreadsheets take a field of a CSV table that begins with =, +, -, @, a tab or a carriage return for
a formula. Such fields get an apostrophe before them, which spreadsheets hide, and so do those with
apostrophes before such a character; `plain_field` takes one away again. Numbers stay numbers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.text import Text

_FORMULA = re.compile(r"'*[=+\-@\t\r]")
_ACTING = re.compile(
    # Control characters, escapes among them; ends of lines and paragraphs; marks and overrides of
    # direction; lone surrogates.
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
_ACTING_BUT_LINE_ENDS = re.compile("(?!\n)" + _ACTING.pattern)


def printable(text: str, *, keep_lines: bool = False) -> str:
    """The text with characters that act on a terminal as escapes, as Python writes them; with
    `keep_lines` line ends stay."""
    pattern = _ACTING_BUT_LINE_ENDS if keep_lines else _ACTING
    return pattern.sub(lambda found: ascii(found[0])[1:-1], text)


def as_text(text: str, style: str = "") -> Text:
    """A text for rich in one line, whatever a name in it holds: no escape, no line end and no
    change of direction acts."""
    from rich.text import Text

    return Text(printable(text), style=style)


def json_printable(text: str) -> str:
    """JSON with such characters, which are inside its strings, as JSON escapes: the same value."""
    return _ACTING_BUT_LINE_ENDS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def as_size(num_bytes: int) -> str:
    """A size for people: 1.3 MB."""
    value, unit = float(num_bytes), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if value < 1000:
            break
        value, unit = value / 1000, larger
    return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"


def safe_fields(row: Iterable[Any]) -> list[Any]:
    """A row for a CSV table: missing values are empty, texts that spreadsheets would take for
    formulas get an apostrophe."""
    return [
        "" if value is None else _safe(value) if isinstance(value, str) else value for value in row
    ]


def plain_field(text: str) -> str:
    """The text of a field that `safe_fields` wrote, or that was written without it."""
    return text[1:] if text.startswith("'") and _FORMULA.match(text) else text


def _safe(text: str) -> str:
    return f"'{text}" if _FORMULA.match(text) and not _is_number(text) else text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return text.isascii()
