"""Names with characters that act on a terminal or in a spreadsheet: they are shown and written so
that they do not."""

from __future__ import annotations

import ast
import csv
import io
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import write_street
from whence import cli
from whence.cli.output import print_error, print_json, print_note, show
from whence.data.fields import as_text, json_printable, plain_field, printable, safe_fields
from whence.data.photos import Photos
from whence.data.positions import read_positions
from whence.data.predictions import Ranked, read_predictions, write_predictions
from whence.types import Candidate

Capture = pytest.CaptureFixture[str]
SOURCE = Path(__file__).parents[2] / "src" / "whence"
ACTING = [
    "\x1b[31m",
    "\x1b]0;title\x07",
    "\r",
    "\n",
    "\t",
    "\x9b31m",
    "\x7f",
    "\u202e",
    "\u2066",
    "\u200f",
    "\u2028",
    "\x00",
    "\x08",
]
FORMULAS = ["=1+1", "+cmd", "-x.jpg", "@SUM(A1)", "\tx", "\rx", "'=x", "''@x", "@0@0@33@V@@.jpg"]


def acts(text: str, *, but: str = "") -> bool:
    return any(not (char.isprintable() or char == " " or char in but) for char in text)


@given(st.text())
def test_nothing_acts_and_nothing_else_changes(text: str) -> None:
    shown = printable(text)
    assert not any(
        ord(char) < 32 or 0x7F <= ord(char) <= 0x9F or 0xD800 <= ord(char) < 0xE000
        for char in shown
    )
    assert not set(shown) & set(
        "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u061c\u2028\u2029"
    )
    if text.isprintable():
        assert shown == text
    assert printable(shown) == shown


@given(st.dictionaries(st.text(), st.text()))
def test_json_keeps_its_value(record: dict[str, str]) -> None:
    text = json_printable(json.dumps(record, ensure_ascii=False))
    assert json.loads(text) == record
    assert not set(text) & set("\x7f\x9b\u202e\u2066")


@given(st.text())
def test_fields_are_read_back_as_they_were(text: str) -> None:
    (field,) = safe_fields([text])
    assert plain_field(field) == text
    if field[:1] in ("=", "+", "-", "@", "\t", "\r"):
        assert float(field) is not None, "only numbers may begin so"


@pytest.mark.parametrize("number", ["-33.8", "+1", "-1e-3", -33.8, 5, "12", "-inf"])
def test_numbers_stay_numbers(number: object) -> None:
    assert safe_fields([number]) == [number]
    assert plain_field(str(number)) == str(number)
    assert safe_fields([None]) == [""]


@pytest.mark.parametrize("name", FORMULAS)
def test_formulas_get_an_apostrophe(name: str) -> None:
    assert safe_fields([name]) == [f"'{name}"]


@pytest.mark.parametrize("name", ["a'=b.jpg", "x=1.jpg", "'quoted'.jpg", "", "photo.jpg", "ü@.jpg"])
def test_other_names_stay(name: str) -> None:
    assert safe_fields([name]) == [name]
    assert plain_field(name) == name


@pytest.mark.parametrize("acting", ACTING)
def test_messages_and_tables_do_not_act(acting: str, capsys: Capture) -> None:
    from rich.table import Table

    name = f"a{acting}b.jpg"
    table = Table("plain", "cleaned")
    table.add_row(as_text(name), name.replace("\n", ""))
    for print_it in (show, print_error, print_note):
        print_it(name)
    show(table)
    show(as_text(name))
    print_json({"photo": name, name: [name]})
    captured = capsys.readouterr()
    assert not acts(captured.out, but="\n")
    assert not acts(captured.err, but="\n")
    assert json.loads(captured.out.splitlines()[-1]) == {"photo": name, name: [name]}


def test_brackets_are_no_markup(capsys: Capture) -> None:
    for text in ("[red]a[/red].jpg", "[/nothing].jpg", "a [link=x]"):
        show(text)
        print_note(text)
        captured = capsys.readouterr()
        assert (captured.out, captured.err) == (f"{text}\n", f"{text}\n")


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders database/ and queries/ whose names act. Tests must not change them."""
    root = tmp_path_factory.mktemp("odd")
    write_street(root / "plain", num_places=4, shift=0, run=0)
    names = ["\x1b[31mred.jpg", "line\nbreak.jpg", "\u202egpj.exe", "=cmd.jpg"]
    for folder in ("database", "queries"):
        (root / folder).mkdir()
        for file, name in zip(sorted((root / "plain").iterdir()), names, strict=True):
            shutil.copy(
                file, root / folder / f"{name.removesuffix('.jpg').removesuffix('.exe')}.jpg"
            )
    return root


@pytest.mark.skipif(sys.platform == "win32", reason="no such names there")
def test_verbs_print_no_name_raw(odd: Path, tmp_path: Path, capsys: Capture) -> None:
    (odd / "database" / "bad\x1b[2J.jpg").write_text("no picture")
    database = tmp_path / "c\x1b[7m.whence"
    verbs = (
        ("index", odd / "database", "--db", database),
        ("database", "remove", "not\x1b[1m there", "--db", database),
        ("database", "check", "--db", database),
        ("locate", odd / "queries", "--db", database),
        ("locate", odd / "queries" / "line\nbreak.jpg", "--db", database),
        ("locate", odd / "queries" / "\x1b[31mred.jpg", "--db", database, "--json"),
        ("locate", odd / "no\x1bthing.jpg", "--db", database),
        ("match", odd / "queries" / "line\nbreak.jpg", odd / "database" / "bad\x1b[2J.jpg"),
        ("evaluate", odd / "database", "--leave-one-out"),
        ("evaluate", odd / "queries", "--leave-one-out", "--predictions", tmp_path / "no\x1b.csv"),
        ("tag", odd / "queries", "--db", database),
        ("doctor", "--db", database),
        ("models", "no\x1bmodel"),
    )
    for verb in verbs:
        cli.run([str(part) for part in verb])
        captured = capsys.readouterr()
        assert captured.out or captured.err, verb
        assert not acts(captured.out, but="\n"), verb
        assert not acts(captured.err, but="\n"), verb
    (odd / "database" / "bad\x1b[2J.jpg").unlink()


@pytest.mark.skipif(sys.platform == "win32", reason="no such names there")
def test_tables_hold_no_formulas_and_are_read_back(
    odd: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(odd / "queries")
    database = tmp_path / "c.whence"
    assert cli.run(["index", str(odd / "database"), "--db", str(database), "-q"]) == 0
    cli.run(
        [
            "locate",
            *sorted(file.name for file in Path().iterdir()),
            "--db",
            str(database),
            "--csv",
            str(tmp_path / "a.csv"),
        ]
    )
    cli.run(["tag", str(odd / "queries"), "--db", str(database), "--csv", str(tmp_path / "m.csv")])
    assert cli.run(["database", "export", str(tmp_path / "out"), "--db", str(database)]) == 0
    for table in (tmp_path / "a.csv", tmp_path / "m.csv", tmp_path / "out" / "photos.csv"):
        with open(table, encoding="utf-8", newline="") as file:
            rows = list(csv.reader(file))
        assert len(rows) == 5
        for field in (field for row in rows for field in row):
            assert field[:1] not in ("=", "+", "@", "\t", "\r")
    names = {Path(path).name for path in Photos.from_csv(tmp_path / "out" / "photos.csv").paths}
    assert names == {file.name for file in (odd / "database").iterdir()}
    with open(tmp_path / "a.csv", encoding="utf-8", newline="") as file:
        assert {plain_field(row["query"]) for row in csv.DictReader(file)} == {
            file.name for file in Path().iterdir()
        }
    places = read_positions(tmp_path / "m.csv")
    assert places.find(odd / "queries" / "=cmd.jpg") is not None


@pytest.mark.parametrize("name", [*FORMULAS, "plain.jpg", "it's.jpg", "\x1bx.jpg"])
def test_predictions_are_read_back(name: str, tmp_path: Path) -> None:
    ranked = (
        Ranked(name, (Candidate(f"{name}2", 1, 0.5), Candidate("b.jpg", 2, np.nan))),
        Ranked(f"{name}3", ()),
    )
    write_predictions(tmp_path / "p.csv", ranked)
    again = read_predictions(tmp_path / "p.csv")
    assert [(one.query, [candidate.photo for candidate in one.candidates]) for one in again] == [
        (one.query, [candidate.photo for candidate in one.candidates]) for one in ranked
    ]
    for fields in csv.reader(
        io.StringIO((tmp_path / "p.csv").read_text(encoding="utf-8"), newline="")
    ):
        assert not any(field[:1] in ("=", "+", "-", "@", "\t", "\r") for field in fields)


def test_every_table_is_written_with_safe_fields() -> None:
    """Whoever writes rows of CSV passes them through `safe_fields`; only headers are written as
    they are."""
    for file in SOURCE.rglob("*.py"):
        for call in (
            node
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
            if isinstance(node, ast.Call)
        ):
            if isinstance(call.func, ast.Attribute) and call.func.attr in ("writerow", "writerows"):
                written = ast.unparse(call.args[0])
                is_safe = "safe_fields" in written or "_csv_row" in written
                is_header = (
                    written.isupper()
                    or written in ("header", "['path', *COLUMNS]")
                    or written.startswith("('query', 'change'")
                )
                assert is_safe or is_header, f"{file.name}: {written}"
