"""Tables and lists as text: decoding, separators, rows with their lines, and the names of photos in
them."""

from __future__ import annotations

import codecs
import csv
import io
import os
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from whence.data.fields import plain_field
from whence.errors import UnreadableTable

_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_SEPARATOR_LINE = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)


class Row(NamedTuple):
    """The fields of one row, and the line it begins on."""

    line: int
    fields: list[str]


def read_text(path: str | Path) -> str:
    """The text of a table or list: UTF-8, or UTF-16 with a byte order mark, which is left out.
    Raises `UnreadableTable`."""
    try:
        data = Path(path).read_bytes()
        return data.decode("utf-16" if data.startswith(_UTF16) else "utf-8-sig")
    except OSError as error:
        raise UnreadableTable(path, error.strerror or str(error)) from None
    except UnicodeDecodeError as error:
        raise UnreadableTable(
            path, f"byte {error.start} is not {error.encoding.upper()}; save it as UTF-8"
        ) from None
    except ValueError as error:
        raise UnreadableTable(path, str(error)) from None


def sniff_delimiter(text: str, *, delimiters: str = ",;\t") -> str:
    """The separator of a table: what a line "sep=;" before the header says, else what its header
    holds most of."""
    first = next(
        (line for line in text.splitlines() if line.strip() and not line.startswith("#")), ""
    )
    stated = _SEPARATOR_LINE.fullmatch(first)
    return stated[1] if stated else max(delimiters, key=first.count)


def read_rows(text: str, *, path: str | Path, delimiter: str) -> Iterator[Row]:
    """The rows that hold anything, their fields as `plain_field` gives them; a line "sep=;" before
    the header is left out.

    Raises `UnreadableTable` for quotes left open.
    """
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    is_first, line = True, 1
    try:
        for fields in reader:
            start, line = line, reader.line_num + 1
            if not any(field.strip() for field in fields):
                continue
            if is_first and _SEPARATOR_LINE.fullmatch(delimiter.join(fields)):
                continue
            is_first = False
            yield Row(start, [plain_field(field) for field in fields])
    except csv.Error as error:
        raise UnreadableTable(path, str(error), line=line) from None


def plain_name(name: str) -> str:
    """A photo's name as tables are compared: "/" between folders, no "." among them, accented
    letters composed."""
    parts = [
        part
        for part in unicodedata.normalize("NFC", name).replace("\\", "/").split("/")
        if part != "."
    ]
    return "/".join(part for i, part in enumerate(parts) if part or i == 0)


class FileFinder:
    """Finds the files that a list names: as they are written, with either kind of slash, with
    either form of accented letters."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = os.path.abspath(folder)
        self._listings: dict[str, dict[str, str]] = {}

    def find(self, name: str) -> str:
        """The absolute path of a file; where there is none, the path as it is named with "/"."""
        path = os.path.normpath(os.path.join(self.folder, name))
        if os.path.lexists(path):
            return path
        turned = os.path.normpath(os.path.join(self.folder, name.replace("\\", "/")))
        return turned if os.path.lexists(turned) else self._alike(turned)

    def _alike(self, path: str) -> str:
        """The file whose name is the same with its accented letters composed."""
        folder, name = os.path.split(path)
        if not name or folder == path or path.isascii():
            return path
        if not os.path.isdir(folder):
            folder = self._alike(folder)
        if folder not in self._listings:
            try:
                self._listings[folder] = {
                    unicodedata.normalize("NFC", entry): entry for entry in os.listdir(folder)
                }
            except OSError:
                self._listings[folder] = {}
        return os.path.join(
            folder, self._listings[folder].get(unicodedata.normalize("NFC", name), name)
        )
