"""`whence journal`: what the log of answers says, and questions about it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import typer

from whence.cli.output import print_json, show, show_table
from whence.data.fields import as_text
from whence.errors import BadOption

if TYPE_CHECKING:
    from whence.journal import Entry, Found, Question
    from whence.journal.free import FreeAnswer

FILE = typer.Argument(..., help="The journal: what --journal of whence locate named.")
UTC_DAYS = typer.Option(
    False, "--utc", help="Days and times are UTC. Default: this machine's time."
)
JSON = typer.Option(
    False, "--json", help="Print JSON: one object for what was found, then one for each answer."
)


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    group = typer.Typer(no_args_is_help=True, help="Ask a log of answers when, where and how sure.")
    group.command("show", help="List the latest answers of a journal.")(show_journal)
    group.command("ask", help="Answer a plain question from the rows of a journal.")(ask)
    group.command(
        "export",
        help="Write a journal, or what a question finds in it, as CSV, JSON, GeoJSON or GPX.",
    )(export)
    app.add_typer(group, name="journal")


def show_journal(
    file: str = FILE,
    limit: int = typer.Option(20, "--limit", help="So many of the latest."),
    utc: bool = UTC_DAYS,
    as_json: bool = JSON,
) -> int:
    """Prints the latest answers, and how many there are."""
    from whence.journal import Journal, Question

    with Journal.open(file, is_new=False) as journal:
        return _tell(
            journal.ask(Question(limit=limit)), Question(limit=limit), is_utc=utc, as_json=as_json
        )


def ask(
    file: str = FILE,
    question: str = typer.Argument(
        ..., help="For example: when was I last within 50 m of 59.3293,18.0686"
    ),
    limit: int = typer.Option(
        None, "--limit", help="So many answers at most. Default: 20, or 1 for the last or first."
    ),
    model: str = typer.Option(
        None,
        "--model",
        help=(
            "Folder of a language model that is asked what these words do not say; its answer is "
            "checked."
        ),
    ),
    cache: str = typer.Option(
        None, "--cache", help="With --model: file that keeps compressed parts of the log."
    ),
    utc: bool = UTC_DAYS,
    as_json: bool = JSON,
) -> int:
    """Prints the rows that answer. The exit code is 3 where there are none, or where no row says
    what a model says."""
    from whence.journal import Journal

    try:
        asked = _asked(question, limit=limit, is_utc=utc)
    except BadOption:
        if model is None:
            raise
        from whence.journal.free import ask_model

        with Journal.open(file, is_new=False) as journal:
            return _tell_free(
                ask_model(journal, question, model, cache=cache, is_utc=utc),
                limit or 5,
                is_utc=utc,
                as_json=as_json,
            )
    with Journal.open(file, is_new=False) as journal:
        return _tell(journal.ask(asked), asked, is_utc=utc, as_json=as_json)


def export(
    file: str = FILE,
    out: str = typer.Argument(
        ..., help="File to write; its ending says how: .csv, .json, .geojson or .gpx."
    ),
    question: str = typer.Option("", "--question", help="Only what this finds."),
    utc: bool = UTC_DAYS,
) -> int:
    """Writes the rows, oldest first."""
    from whence.journal import Journal
    from whence.journal.files import write_entries

    with Journal.open(file, is_new=False) as journal:
        entries: Iterable[Entry] = journal
        if question:
            asked = _asked(question, limit=max(1, len(journal)), is_utc=utc)
            entries = journal.ask(replace(asked, order="earliest", wants="rows")).entries
        num = write_entries(out, entries)
    show(f"{out}: {num} answers")
    return 0


def _asked(question: str, *, limit: int | None, is_utc: bool) -> Question:
    from whence.journal import parse_question

    found = parse_question(question, now=datetime.now(UTC) if is_utc else datetime.now())
    return found if limit is None else replace(found, limit=limit)


def _tell(answer: Found, question: Question, *, is_utc: bool, as_json: bool) -> int:
    if as_json:
        print_json({"total": answer.total, "is_counted": answer.is_counted})
        for entry in answer.entries:
            print_json(entry.to_dict())
        return 0 if answer.total else 3
    if question.wants == "count":
        show(str(answer.total))
        return 0 if answer.total else 3
    if not answer.total:
        show("nothing in the journal answers this")
        return 3
    titles = ("when", "photo", "answer", "place", "radius", "confidence", "rests on", "weather")
    show_table(titles, [_fields(entry, is_utc=is_utc) for entry in answer.entries])
    more = answer.total - len(answer.entries)
    if not answer.is_counted:
        show("there may be more; --limit asks for them")
    elif more:
        show(f"{more} more; --limit asks for them")
    return 0


def _tell_free(answer: FreeAnswer, limit: int, *, is_utc: bool, as_json: bool) -> int:
    """Prints what a model said, and the rows that say the same and otherwise."""
    if as_json:
        about = {
            "is_confirmed": answer.is_confirmed,
            "read": answer.num_read,
            "inputs": answer.num_inputs,
            "cached": answer.num_cached,
        }
        print_json(
            {
                "answer": answer.text,
                **about,
                "same": len(answer.rows),
                "otherwise": len(answer.others),
            }
        )
        for entry in (*answer.rows[:limit], *answer.others[:limit]):
            print_json(entry.to_dict())
        return 0 if answer.is_confirmed else 3
    says = "rows say so" if answer.is_confirmed else "NOT confirmed by the rows"
    show(
        as_text(
            f"{answer.text or 'no answer'} ({says}: {len(answer.rows)} the same, "
            f"{len(answer.others)} otherwise)"
        )
    )
    for word, entries in (("same", answer.rows), ("otherwise", answer.others)):
        for entry in entries[:limit]:
            show(as_text(" | ".join([word, *filter(None, _fields(entry, is_utc=is_utc))])))
    show(f"{answer.num_read} rows were read as {answer.num_inputs} vectors")
    return 0 if answer.is_confirmed else 3


def _fields(entry: Entry, *, is_utc: bool) -> list[str]:
    one = entry.position
    place = "" if one.point is None else f"{one.point.lat:.6f}, {one.point.lon:.6f}"
    best = one.candidates[0] if one.candidates else None
    rests = (
        ""
        if best is None
        else best.photo
        if best.num_inliers is None
        else f"{best.photo}, {best.num_inliers} points"
    )
    radius = "" if one.radius_m is None else f"{one.radius_m:.0f} m"
    sure = "" if one.confidence is None else f"{one.confidence:.2f}"
    return [
        as_clock(entry.at, is_utc=is_utc),
        one.query,
        one.status,
        place,
        radius,
        sure,
        rests,
        entry.weather,
    ]


def as_clock(at: float, *, is_utc: bool) -> str:
    """Seconds since 1970 as a date and time."""
    when = datetime.fromtimestamp(at, UTC if is_utc else None)
    return f"{when:%Y-%m-%d %H:%M:%S}" + (" UTC" if is_utc else "")
