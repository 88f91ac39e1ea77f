"""The files of examples/ do what their first lines say."""

from __future__ import annotations

import ast
import os
import re
import runpy
import sys
from pathlib import Path

import pytest

from conftest import write_street
from service_samples import served
from whence.cli import run
from whence.registry import KINDS

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
MOST_LINES = 45


def call(name: str, *words: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [name, *map(str, words)])
    for table in KINDS.values():
        monkeypatch.setattr(table, "_rows", dict(table))
    runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")


def test_there_are_five_short_ones_and_the_readme_names_them() -> None:
    files = sorted(EXAMPLES.glob("*.py"))
    assert [file.stem for file in files] == [
        "benchmark",
        "own_model",
        "own_photos",
        "service",
        "training",
    ]
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for file in files:
        text = file.read_text(encoding="utf-8")
        assert len(text.splitlines()) <= MOST_LINES
        assert f"examples/{file.name}" in str(ast.get_docstring(ast.parse(text)))
        assert f"(examples/{file.name})" in readme


@pytest.mark.parametrize("name", ["own_photos", "own_model"])
def test_a_photo_is_found(
    name: str,
    street: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    query = min((street / "queries").iterdir())
    more = [tmp_path / "city.whence"] if name == "own_photos" else []
    call(name, street / "database", query, *more, monkeypatch=monkeypatch)
    shown = capsys.readouterr().out
    assert min(file.name for file in (street / "database").iterdir()) in shown
    assert "similarity 0." in shown or "similarity 1." in shown


def test_models_are_compared(
    street: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    call("benchmark", street, "rootsift-vlad", "densevlad", monkeypatch=monkeypatch)
    assert re.search(
        r"recall@1 of \S+ less that of \S+: [+-]\d+\.\d points", capsys.readouterr().out
    )


def test_a_network_is_trained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("pytorch_metric_learning")
    for seen in (0, 1):
        write_street(tmp_path / "photos", num_places=8, shift=8 * seen, run=seen)
    call("training", tmp_path / "photos", tmp_path / "run", 2, monkeypatch=monkeypatch)
    assert "describes a photo by" in capsys.readouterr().out
    assert (tmp_path / "run" / "final.safetensors").is_file()


def test_a_service_is_asked(
    street: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("fastapi")
    database = str(tmp_path / "city.whence")
    assert (
        run(["index", str(street / "database"), "--db", database, "-q", "--model", "rootsift-vlad"])
        == 0
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    query = min((street / "queries").iterdir())
    with served("--db", database, log=tmp_path / "log.txt") as service:
        capsys.readouterr()
        call("service", service.url, query, monkeypatch=monkeypatch)
    shown = capsys.readouterr().out
    assert "24 photos" in shown
    assert f"{query}: " in shown
