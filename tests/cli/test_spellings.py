"""Old spellings work for a release; no verb has many options, and the help of each fits two
screens."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from whence import cli
from whence.cli.evaluate import EvaluateFields
from whence.cli.machine import taken_out
from whence.cli.spellings import FIELDS, JOBS, new_spelling
from whence.errors import BadOption, UnknownName
from whence.localize.questions import StatedBuild, StatedQuestion
from whence.settings import load_settings, with_assignments

ROOT = Path(__file__).parents[2]
MOST_OPTIONS = 18
MOST_LINES = 2 * 50


def commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield path, command
    for name, inner in getattr(command, "commands", {}).items():
        yield from commands(inner, (*path, name))


VERBS = dict(commands(typer.main.get_command(cli.app)))


@pytest.mark.parametrize("path", VERBS, ids=" ".join)
def test_help_fits_two_screens(path: tuple[str, ...]) -> None:
    options = [
        parameter for parameter in VERBS[path].params if parameter.param_type_name == "option"
    ]
    assert len(options) <= MOST_OPTIONS
    assert not any(option.hidden for option in options)
    shown = CliRunner().invoke(
        cli.app, [*path, "--help"], env={"COLUMNS": "100", "TERMINAL_WIDTH": "100"}
    )
    assert shown.exit_code == 0
    assert len(shown.output.splitlines()) <= MOST_LINES


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("locate --missing 'a b' --db c.whence", "tag 'a b' --db c.whence"),
        (
            "locate --db c.whence --missing=x --write sidecars",
            "tag x --db c.whence --write sidecars",
        ),
        ("locate --undo u.json --json", "undo u.json --json"),
        ("index --refresh --yes-remove --db a", "database refresh --yes-remove --db a"),
        ("index --db a --refit -q", "database refit --db a -q"),
        ("index --moved OLD=NEW --db a", "database move OLD NEW --db a"),
        ("index --moved=OLD=NEW", "database move OLD NEW"),
        ("index --remove a.jpg --db a --remove b.jpg", "database remove a.jpg b.jpg --db a"),
        ("index --merge b --db a", "database merge b --db a"),
        ("index --db a --export-npy out", "database export out --db a"),
        ("index --import-npy out --db a --json", "database import out --db a --json"),
        ("index --copy-to auto --db a", "database copy-to auto --db a"),
        (
            "index --prepare-for geowarp --scorer-option weights=w --db a",
            "database prepare geowarp --option weights=w --db a",
        ),
        ("index --check", "database check"),
        ("evaluate set a b --compare --report c.md", "compare set a b --report c.md"),
        (
            "evaluate set a b --compare --rerank-candidates 5",
            "compare set a b --set num_candidates=5",
        ),
        (
            "evaluate set --registration --option x=1",
            "evaluate set --protocol registration --option x=1",
        ),
        ("evaluate set --save-pairs p.txt", "evaluate set --save-predictions p.txt"),
        ("locate a --rerank-option=ratio=0.7", "locate a --set scorer_options.ratio=0.7"),
        ("locate a -- --matcher", "locate a -- --matcher"),
        ("locate a --matcher", "locate a --matcher"),
        ("tag a --when-unknown none", "tag a --when-unknown none"),
        ("index photos --db a", "index photos --db a"),
    ],
)
def test_old_spellings_say_the_new(old: str, new: str) -> None:
    assert new_spelling(shlex.split(old)) == shlex.split(new)
    assert new_spelling(shlex.split(new)) == shlex.split(new)


@pytest.mark.parametrize(
    ("verb", "option"), [(verb, option) for verb, options in FIELDS.items() for option in options]
)
def test_old_options_are_fields_now(verb: str, option: str) -> None:
    template = FIELDS[verb][option]
    value = ["7"] if "{}" in template else []
    if "scorer_options" in template:
        value = ["ratio=7"]
    words = new_spelling([verb, "x", option, *value])
    assert words[:3] == [verb, "x", "--set"]
    assert option not in {name for parameter in VERBS[(verb,)].params for name in parameter.opts}
    record = {"index": StatedBuild, "locate": StatedQuestion, "evaluate": EvaluateFields}[verb]
    changed = with_assignments(record(), [words[3]])
    usual = {
        entry.name
        for entry in fields(record)
        if getattr(changed, entry.name) != getattr(record(), entry.name)
    }
    assert usual == {words[3].partition("=")[0].partition(".")[0]}


def test_jobs_are_verbs_now() -> None:
    assert {("database", verb) for verb in JOBS.values()} <= set(VERBS)


def test_fields_out_of_texts() -> None:
    texts = [
        "thresholds_m=5,25",
        "recall_at=3",
        "pool=7",
        "scorer_options.inliers.ratio=0.7",
        "split=cph,sf",
        "is_frugal=true",
    ]
    changed = with_assignments(EvaluateFields(), texts)
    assert changed.thresholds_m == (5, 25)
    assert changed.recall_at == (3,)
    assert changed.pool == "7"
    assert changed.scorer_options == {"inliers.ratio": 0.7}
    assert changed.split == "cph,sf"
    assert changed.is_frugal
    with pytest.raises(UnknownName, match="recall_at"):
        with_assignments(changed, ["recal_at=1"])
    for wrong in ("recall_at=a", "recall_at=1,b", "is_frugal=2", "frames=few", "thresholds_m"):
        with pytest.raises(BadOption):
            with_assignments(changed, [wrong])


def test_every_field_is_on_the_page_of_settings() -> None:
    page = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    for record in (StatedBuild, StatedQuestion, EvaluateFields):
        for entry in fields(record):
            assert f"`{entry.name}`" in page or f"`{entry.name}." in page, entry.name


def test_old_spellings_work(
    street: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    database = str(tmp_path / "a.whence")
    made = [
        "index",
        str(street / "database"),
        "--model",
        "rootsift-vlad",
        "--db",
        database,
        "-q",
        "--no-calibrate",
    ]
    assert cli.run([*made, "--dtype", "float16"]) == 0
    assert "whence index" in capsys.readouterr().err
    assert cli.run(["index", "--check", "--db", database]) == 0
    shown = capsys.readouterr()
    assert f"whence database check --db {database}" in shown.err
    assert "is sound" in shown.out
    query = str(min((street / "queries").iterdir()))
    assert cli.run(
        [
            "locate",
            query,
            "--db",
            database,
            "--rerank-candidates",
            "2",
            "--min-confidence",
            "0.00001",
        ]
    ) in (0, 3)
    assert "--set num_candidates=2 --set min_confidence=0.00001" in capsys.readouterr().err
    assert cli.run(["locate", query, "--db", database, "--set", "num_candidate=2"]) == 1
    assert "num_candidates" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "rest", "given"),
    [
        ("--device cpu index a", "index a", {"WHENCE_DEVICE": "cpu"}),
        (
            "index a --batch-size=4 --workers 2 -q",
            "index a -q",
            {"WHENCE_BATCH_SIZE": "4", "WHENCE_WORKERS": "2"},
        ),
        ("world city out --workers 2", "world city out --workers 2", {}),
        ("serve --workers 2 --device cpu", "serve --workers 2", {"WHENCE_DEVICE": "cpu"}),
        ("locate a -- --device", "locate a -- --device", {}),
        ("locate a --device", "locate a --device", {}),
    ],
)
def test_what_a_command_runs_on_is_taken_out(words: str, rest: str, given: dict[str, str]) -> None:
    assert taken_out(shlex.split(words)) == (shlex.split(rest), given)


def test_what_a_command_runs_on_holds_for_it_alone(
    street: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = [
        "index",
        str(street / "queries"),
        "--model",
        "rootsift-vlad",
        "--db",
        str(tmp_path / "a"),
        "-q",
        "--no-calibrate",
    ]
    assert cli.run([*made, "--batch-size", "3", "--workers", "1", "--device", "cpu"]) == 0
    assert load_settings().batch_size == 0
    capsys.readouterr()
    for wrong in (["--device", "tpu"], ["--batch-size", "many"], ["--workers", "-2"]):
        assert cli.run([*made, *wrong]) == 1
        assert wrong[0].lstrip("-").replace("-", "_") in capsys.readouterr().err
