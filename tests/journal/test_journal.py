"""The journal: rows against a slow oracle, words as questions, kills while it is written, and files
that are none."""

from __future__ import annotations

import csv
import json
import math
import random
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whence import cli
from whence.errors import BadOption, StoreLocked, UnreadableTable, UnwritableFile
from whence.geo import distance_m, move
from whence.journal import Entry, Journal, Question, parse_question
from whence.journal.files import write_entries
from whence.journal.log import SURE, is_unsure
from whence.types import BestGuess, Candidate, GeoPoint, Position

CENTRES = (
    GeoPoint(59.3293, 18.0686),
    GeoPoint(-16.5, 179.9999),
    GeoPoint(89.9999, 10.0),
    GeoPoint(0.0, 0.0),
)
NOW = datetime(2026, 11, 25, 15, 30, tzinfo=UTC)  # a Wednesday


def answer(
    number: int, point: GeoPoint | None, *, confidence: float | None = 0.95, status: str = ""
) -> Position:
    candidates = (Candidate("db/a.jpg", 1, 0.75, num_inliers=40), Candidate("db/b.jpg", 2, 0.5))
    said = status or ("unknown" if point is None else "located")
    return Position(
        f"photo {number}.jpg",
        said,
        point,
        radius_m=12.0,
        confidence=confidence,
        candidates=candidates,  # type: ignore[arg-type]
        is_verified=number % 3 == 0,
        scorer="inliers",
    )


def slow(entries: list[Entry], question: Question) -> list[Entry]:
    """All that a question means, row by row."""
    found = []
    for entry in entries:
        one = entry.position
        is_meant = [
            question.near is None
            or (
                one.point is not None and distance_m(one.point, question.near) <= question.within_m
            ),
            question.since is None or entry.at >= question.since,
            question.until is None or entry.at < question.until,
            not question.status or one.status == question.status,
            question.is_unsure is None or is_unsure(one) == question.is_unsure,
            question.is_verified is None or one.is_verified == question.is_verified,
            not question.weather or entry.weather == question.weather,
        ]
        if all(is_meant):
            found.append(entry)
    return sorted(
        found, key=lambda entry: (entry.at, entry.number), reverse=question.order == "latest"
    )


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Journal:
    """Six hundred answers around four places, one of them astride the date line, one at the
    pole."""
    journal = Journal.open(tmp_path_factory.mktemp("journal") / "log.journal")
    draw = random.Random(3)
    for number in range(600):
        centre = draw.choice(CENTRES)
        point = move(
            centre,
            heading_deg=draw.uniform(0, 360),
            distance_m=draw.choice([10, 60, 900, 30_000]) * draw.random(),
        )
        sure = draw.choice([None, 0.4, SURE, 0.99])
        given = answer(number, None if number % 7 == 0 else point, confidence=sure)
        journal.append(
            [given],
            asked_at=1000.0 * number,
            taken_at=draw.choice([None, 500.0]),
            weather=draw.choice(["", "rain"]),
        )
    return journal


@settings(max_examples=60, deadline=None)
@given(
    st.builds(
        Question,
        near=st.sampled_from([None, *CENTRES]),
        within_m=st.sampled_from([5.0, 50.0, 1000.0, 40_000.0, 9e6]),
        since=st.sampled_from([None, 0.0, 100_000.0]),
        until=st.sampled_from([None, 300_000.0, 1e9]),
        status=st.sampled_from(["", "located", "unknown"]),
        is_unsure=st.sampled_from([None, True, False]),
        is_verified=st.sampled_from([None, True, False]),
        weather=st.sampled_from(["", "rain"]),
        wants=st.sampled_from(["rows", "count"]),
        order=st.sampled_from(["latest", "earliest"]),
        limit=st.sampled_from([1, 20, 1000]),
    ),
    st.sampled_from([1, 20_000]),
)
def test_a_question_finds_what_row_by_row_is_found(
    many: Journal, question: Question, most: int
) -> None:
    """Whether rows around a place are few, or so many that all are gone through by time."""
    expected = slow(list(many), question)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("whence.journal.log._MANY", most)
        patched.setattr("whence.journal.log._STEP", 7)
        found = many.ask(question)
    if question.wants == "count":
        assert found == ((), len(expected), True)
    else:
        assert list(found.entries) == expected[: question.limit]
        assert (
            found.total == len(expected)
            if found.is_counted
            else question.limit <= found.total <= len(expected)
        )


def test_what_is_kept_of_an_answer(tmp_path: Path) -> None:
    unknown = Position(
        "q.jpg",
        "unknown",
        reason="too far",
        best_guess=BestGuess("db/x.jpg", GeoPoint(1, 2), 30.0, 0.3),
    )
    matched = Position(
        "m.jpg", "matched", candidates=(Candidate("db/y.jpg", 1, math.nan),), heading_deg=math.nan
    )
    with Journal.open(tmp_path / "log") as journal:
        assert (
            journal.append(
                [unknown, matched, answer(3, GeoPoint(1, 2))],
                asked_at=9.0,
                taken_at=[None, 5.0, 6.0],
                model="m",
            )
            == 3
        )
        assert len(journal) == 3
    with Journal.open(tmp_path / "log", is_new=False) as journal:
        first, second, third = journal
    assert first.position == unknown
    assert (first.at, first.taken_at, second.at, third.model) == (9.0, None, 5.0, "m")
    assert second.position.heading_deg is None
    assert math.isnan(second.position.candidates[0].similarity)
    (best,) = third.position.candidates
    assert (best.photo, best.num_inliers) == ("db/a.jpg", 40)
    assert json.loads(json.dumps(third.to_dict()))["position"]["lat"] == 1


def test_files_that_are_no_journal_are_said(tmp_path: Path) -> None:
    with pytest.raises(UnreadableTable, match="no such journal"):
        Journal.open(tmp_path / "none", is_new=False)
    (tmp_path / "text").write_text("not a database, and long enough to be seen as one " * 40)
    with pytest.raises(UnreadableTable, match="not a journal"):
        Journal.open(tmp_path / "text")
    other = sqlite3.connect(tmp_path / "other")
    other.execute("CREATE TABLE x (y)")
    other.commit()
    other.close()
    with pytest.raises(UnreadableTable, match="another program"):
        Journal.open(tmp_path / "other")
    with pytest.raises(UnwritableFile):
        Journal.open(tmp_path / "no" / "folder")
    with Journal.open(tmp_path / "newer") as journal:
        journal._rows.execute("PRAGMA user_version = 7")
    with pytest.raises(UnreadableTable, match="version 7"):
        Journal.open(tmp_path / "newer")


def test_an_append_is_whole_or_not_at_all(tmp_path: Path) -> None:
    with Journal.open(tmp_path / "log") as journal:
        with pytest.raises(ValueError, match="argument 2"):
            journal.append([answer(1, None), answer(2, None)], taken_at=[1.0])
        assert len(journal) == 0
        other = sqlite3.connect(tmp_path / "log", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        journal._rows.execute("PRAGMA busy_timeout=10")
        with pytest.raises(StoreLocked, match="another process"):
            journal.append([answer(1, None)])
        other.execute("ROLLBACK")
        assert journal.append([answer(1, None)]) == 1


def test_a_kill_loses_nothing_that_was_written(tmp_path: Path) -> None:
    """Killed at ten moments while it appends: what it had said to be written is there, whole, and
    the file goes on."""
    script = """
        import sys
        from whence.journal import Journal
        from whence.types import Position
        with Journal.open(sys.argv[1]) as journal:
            number = len(journal)
            while True:
                long = Position(f"{number}.jpg", "unknown", reason="x" * 3000)
                journal.append([long, Position(f"{number + 1}.jpg", "unknown")])
                number += 2
                print(number, flush=True)
    """
    file, draw = tmp_path / "log", random.Random(5)
    said = 0
    for _ in range(10):
        words = [sys.executable, "-c", textwrap.dedent(script), str(file)]
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            said = int(process.stdout.readline())
            time.sleep(draw.uniform(0, 0.03))
            process.send_signal(signal.SIGKILL)
            rest = [
                line
                for line in process.stdout.read().splitlines(keepends=True)
                if line.endswith("\n")
            ]
            said = int(rest[-1]) if rest else said
        with Journal.open(file, is_new=False) as journal:
            entries = list(journal)
        assert len(entries) in (said, said + 2), "the last pair may be written and not yet said"
        assert [entry.position.query for entry in entries] == [
            f"{number}.jpg" for number in range(len(entries))
        ]
    assert said >= 20


def day(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "When was I last within 50 m of 59.3293, 18.0686?",
            Question(near=CENTRES[0], within_m=50, order="latest", limit=1),
        ),
        (
            "when was I first within 1.5 km of -16.5,179.9999",
            Question(near=CENTRES[1], within_m=1500, order="earliest", limit=1),
        ),
        (
            "which answers were unsure on tuesday",
            Question(is_unsure=True, since=day("2026-11-24"), until=day("2026-11-25")),
        ),
        (
            "unsure answers last tuesday",
            Question(is_unsure=True, since=day("2026-11-24"), until=day("2026-11-25")),
        ),
        ("where was I on wednesday", Question(since=day("2026-11-25"), until=day("2026-11-26"))),
        (
            "where was I yesterday 14:30",
            Question(since=day("2026-11-24T14:30"), until=day("2026-11-24T14:31")),
        ),
        (
            "how many photos were located since 2026-11-01",
            Question(status="located", wants="count", since=day("2026-11-01")),
        ),
        (
            "how often near 0,0 this week",
            Question(
                near=CENTRES[3], wants="count", since=day("2026-11-23"), until=day("2026-11-30")
            ),
        ),
        ("unknown photos after yesterday", Question(status="unknown", since=day("2026-11-25"))),
        ("not verified before 2026-11-20", Question(is_verified=False, until=day("2026-11-20"))),
        (
            "verified in rain until 2026-11-20 08:00",
            Question(is_verified=True, weather="rain", until=day("2026-11-20T08:01")),
        ),
        (
            "list all sure answers between 2026-11-01 and 2026-11-08",
            Question(is_unsure=False, since=day("2026-11-01"), until=day("2026-11-09")),
        ),
        ("show answers last week", Question(since=day("2026-11-16"), until=day("2026-11-23"))),
        ("the last answer", Question(limit=1)),
    ],
)
def test_words_become_questions(text: str, expected: Question) -> None:
    assert parse_question(text, now=NOW) == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("which answers smelled of fish", "'smelled'"),
        ("was I in Paris on tuesday", "'paris'"),
        ("when was I near 95,18", "95"),
        ("on 2026-02-30", "no day"),
        ("yesterday 25:00", "no time"),
        ("unknown and located photos", "twice"),
        ("since 2026-11-20 before 2026-11-01", "ends before it begins"),
        ("?", "ask something"),
    ],
)
def test_words_that_are_not_understood_are_named(text: str, said: str) -> None:
    with pytest.raises(BadOption, match=said):
        parse_question(text, now=NOW)


def test_days_without_a_zone_are_local() -> None:
    """A summer's day and a winter's are each as long as they are on this machine's clock."""
    found = parse_question("on 2026-07-01", now=datetime(2026, 11, 25, 15))
    assert found.since == datetime(2026, 7, 1).timestamp()


def test_rows_are_written_for_other_programs(many: Journal, tmp_path: Path) -> None:
    entries = many.ask(Question(limit=50)).entries
    for ending in ("csv", "json", "geojson", "gpx"):
        assert write_entries(tmp_path / f"out.{ending}", entries) == 50
    with open(tmp_path / "out.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["query"] for row in rows] == [entry.position.query for entry in entries]
    assert datetime.fromisoformat(rows[0]["at"]).timestamp() == entries[0].at
    lines = (tmp_path / "out.json").read_text().splitlines()
    assert [json.loads(line)["number"] for line in lines] == [entry.number for entry in entries]
    features = json.loads((tmp_path / "out.geojson").read_text())["features"]
    located = [entry for entry in entries if entry.position.point is not None]
    assert [one["properties"]["number"] for one in features] == [entry.number for entry in located]
    assert (tmp_path / "out.gpx").read_text().count("<time>") == len(located)
    odd = replace(entries[0], model="=1+1")
    write_entries(tmp_path / "odd.csv", [odd])
    assert "'=1+1" in (tmp_path / "odd.csv").read_text()
    with pytest.raises(BadOption, match="written as one of"):
        write_entries(tmp_path / "out.pdf", entries)


def test_the_command_asks_and_exports(
    many: Journal, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = str(many.path)
    assert cli.run(["journal", "show", file, "--limit", "3", "--utc"]) == 0
    shown = capsys.readouterr().out
    assert "597 more" in shown
    assert "1970-01-07 22:23:20 UTC" in shown or "UTC" in shown
    question = "when was I last within 50 m of 59.3293,18.0686"
    assert cli.run(["journal", "ask", file, question, "--json"]) == 0
    head, line = capsys.readouterr().out.splitlines()
    near = slow(list(many), Question(near=CENTRES[0]))
    assert json.loads(head) == {"total": len(near), "is_counted": True}
    assert json.loads(line)["number"] == near[0].number
    assert cli.run(["journal", "ask", file, "how many were unknown"]) == 0
    assert capsys.readouterr().out.strip() == str(
        sum(entry.position.status == "unknown" for entry in many)
    )
    assert cli.run(["journal", "ask", file, "answers yesterday"]) == 3
    assert "nothing" in capsys.readouterr().out
    assert (
        cli.run(
            ["journal", "export", file, str(tmp_path / "a.csv"), "--question", "unknown answers"]
        )
        == 0
    )
    assert "86 answers" in capsys.readouterr().out
    assert cli.run(["journal", "ask", str(tmp_path / "none"), "answers"]) == 1
    assert "no such journal" in capsys.readouterr().err
