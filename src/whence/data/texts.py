"""Logs as texts: records one after the other, and questions about them with their answers."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from whence.errors import NoPhotos, UnreadableTable


@dataclass(frozen=True, slots=True)
class TextLog:
    """One log."""

    records: tuple[str, ...]
    questions: tuple[tuple[str, str], ...] = ()
    """Questions about it with their answers; where there are none, they are made of records."""


def read_texts(folder: str | Path, *, split: str) -> tuple[TextLog, ...]:
    """The logs of a split: a JSON object a line, with `records`, and perhaps `questions`, pairs of
    question and answer.

    Raises `NoPhotos` for a split that is not there, and `UnreadableTable`.
    """
    file = Path(folder) / f"{split}.jsonl"
    if not file.is_file():
        raise NoPhotos(
            f"no logs {file.name} in {str(folder)!r}: whence world logs FOLDER makes some up"
        )
    found = []
    try:
        with open(file, encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                try:
                    found.append(_log(json.loads(line)))
                except (ValueError, KeyError, TypeError, RecursionError) as error:
                    raise UnreadableTable(file, f"no log: {error}", line=number) from None
    except (OSError, UnicodeDecodeError) as error:
        raise UnreadableTable(file, str(error)) from None
    if not found:
        raise UnreadableTable(file, "it holds no log")
    return tuple(found)


def _log(values: Any) -> TextLog:
    records, questions = values["records"], values.get("questions", [])
    if (
        not isinstance(records, list)
        or not records
        or not all(isinstance(one, str) for one in records)
    ):
        raise ValueError("records are texts, one or more")
    if not all(
        isinstance(pair, list) and len(pair) == 2 and all(isinstance(one, str) for one in pair)
        for pair in questions
    ):
        raise ValueError("questions are pairs of texts")
    return TextLog(tuple(records), tuple((pair[0], pair[1]) for pair in questions))
