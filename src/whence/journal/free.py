"""Free questions to a journal: a language model of a folder answers, and the table says whether
that is so.

What the journal's own words understand is never asked here: it is answered from the table, exactly.
An answer of a model is a text; with it come the rows that say the same, and those that say
otherwise.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from string import Template
from typing import NamedTuple

from whence.errors import BadOption, UnreadableTable
from whence.journal.log import Entry, Journal
from whence.journal.question import Question
from whence.records import fill

FORMAT_FILE = "whence.json"
"""The file in a model's folder that says how rows and questions are put to it."""
_TERM = re.compile(r"[\w.\-]*\w")
_NUMBER = re.compile(r"\d[\d.\-]*")


@dataclass(frozen=True, slots=True)
class LogFormat:
    """How rows and questions are put to a language model: texts with $names of what a row has."""

    record: str = (
        "row $number: $date $hour:$minute, $status at $lat, $lon, radius $radius m, confidence "
        "$confidence, weather $weather\n"
    )
    question: str = "Question about the log above: $question\nAnswer in a few words:"
    num_new: int = 24
    """Tokens of an answer at most."""

    @classmethod
    def of_folder(cls, folder: str | Path) -> LogFormat:
        """The format of a model's folder, or the usual one. Raises `UnreadableTable`, `UnknownName`
        and `BadOption`."""
        file = Path(folder) / FORMAT_FILE
        if not file.is_file():
            return cls()
        try:
            return fill(
                cls, json.loads(file.read_text(encoding="utf-8")), what=f"field of {FORMAT_FILE}"
            )
        except (OSError, ValueError, RecursionError) as error:
            if isinstance(error, BadOption):
                raise
            raise UnreadableTable(file, str(error)) from None


@dataclass(frozen=True, slots=True)
class FreeAnswer:
    """What a language model said, and what the table says of it."""

    text: str
    is_confirmed: bool
    """Whether a row says what the answer says of what was asked, and none otherwise."""
    rows: tuple[Entry, ...]
    """Those that say the same, the latest first."""
    others: tuple[Entry, ...]
    """Those that hold all that was asked, but not what was answered."""
    num_read: int
    """Rows that were put to the model."""
    num_inputs: int
    """Vectors that stood for them: as many as tokens, or fewer where they were compressed."""
    num_cached: int = 0
    """Segments that had been compressed before."""


def record_text(entry: Entry, form: LogFormat, *, is_utc: bool = False) -> str:
    """A row as a text."""
    one, when = entry.position, datetime.fromtimestamp(entry.at, UTC if is_utc else None)
    best = one.candidates[0].photo if one.candidates else ""
    place = ("", "") if one.point is None else (f"{one.point.lat:.5f}", f"{one.point.lon:.5f}")
    return Template(form.record).safe_substitute(
        number=entry.number,
        date=f"{when:%Y-%m-%d}",
        weekday=f"{when:%A}".lower(),
        hour=f"{when:%H}",
        minute=f"{when:%M}",
        five_minutes=f"{when.minute // 5 * 5:02d}",
        status=one.status,
        lat=place[0],
        lon=place[1],
        radius="" if one.radius_m is None else f"{one.radius_m:.0f}",
        confidence="" if one.confidence is None else f"{one.confidence:.2f}",
        weather=entry.weather or "unsaid",
        photo=best,
    )


class Checked(NamedTuple):
    """What the table says of an answer: whether it is so, the rows that say the same, and those
    that say otherwise."""

    is_confirmed: bool
    rows: tuple[Entry, ...]
    others: tuple[Entry, ...]


def check_answer(question: str, answer: str, rows: Sequence[tuple[Entry, str]]) -> Checked:
    """Whether rows with their texts say what an answer says of what was asked; those that do, and
    those that say otherwise.

    Compared are numbers and words of the rows. A number that no row has is never confirmed.
    """
    terms = [(entry, _terms(text)) for entry, text in rows]
    known = set().union(*(found for _, found in terms)) if terms else set()
    common = set.intersection(*(found for _, found in terms)) if len(terms) > 1 else set()
    asked, said = ((_terms(one) & known) - common for one in (question, answer))
    # Other words of an answer are its own; a number is always a claim.
    said |= {term for term in _terms(answer) - known if _NUMBER.fullmatch(term)}
    same = tuple(entry for entry, found in terms if said and said <= found and asked <= found)
    others = tuple(
        entry for entry, found in terms if asked and asked <= found and not said <= found
    )
    return Checked(bool(same) and not others, same, others)


def _terms(text: str) -> set[str]:
    return set(_TERM.findall(text.lower()))


def ask_model(
    journal: Journal,
    question: str,
    folder: str | Path,
    *,
    limit: int = 2000,
    cache: str | Path | None = None,
    is_utc: bool = False,
) -> FreeAnswer:
    """The answer of a folder's language model from the latest rows, checked against them.

    Where the folder holds a compressor, rows are compressed in segments; those in the file `cache`
    are not compressed again. Raises `MissingExtra`, `UnreadableWeights`, and as `Journal.ask`.
    """
    import torch

    from whence.models.tokens.context import COMPRESSOR, Compressor, LanguageModel, continue_text
    from whence.models.tokens.segments import SegmentCache, segment_records

    form = LogFormat.of_folder(folder)
    model = LanguageModel.of_folder(folder)
    entries = journal.ask(Question(limit=limit)).entries
    rows = [(entry, record_text(entry, form, is_utc=is_utc)) for entry in entries]
    records = [model.ids(text) for _, text in reversed(rows)]
    asked = model.ids(Template(form.question).safe_substitute(question=question))
    end = model.words.eos_token_id
    file = Path(folder) / COMPRESSOR
    num_cached = 0
    if file.is_file():
        compressor = Compressor.of_file(file, model.network)
        table = compressor.table()
        with SegmentCache.of_file(cache) as kept:
            context = compressor.compress(
                segment_records(records, compressor.compression.segment), cache=kept
            )
            num_cached = kept.num_found
        with compressor.answering() as network:
            start = torch.cat([context, table[torch.tensor(asked)]])
            text = model.text(continue_text(network, start, num_new=form.num_new, end_id=end))
    else:
        table = model.network.get_input_embeddings().weight
        context = table[
            torch.tensor([one for record in records for one in record], dtype=torch.long)
        ]
        start = torch.cat([context, table[torch.tensor(asked)]])
        text = model.text(continue_text(model.network, start, num_new=form.num_new, end_id=end))
    checked = check_answer(question, text, rows)
    return FreeAnswer(text, *checked, len(rows), len(context), num_cached)
