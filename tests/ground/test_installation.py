"""What the package is called where it is installed from, and that a clash with the other project of
its name is told."""

from __future__ import annotations

import importlib.metadata
import json
import re
import tomllib
from email.message import Message
from pathlib import Path

import pytest

import whence
from whence import cli
from whence.errors import DISTRIBUTION, MissingExtra
from whence.localize import condition

ROOT = Path(__file__).parents[2]
TEXTS = [
    *ROOT.glob("*.md"),
    *(ROOT / "docs").glob("*.md"),
    *(ROOT / "src").rglob("*.py"),
    ROOT / "Makefile",
    ROOT / "pyproject.toml",
]


def metadata_of(summary: str) -> Message:
    record = Message()
    record["Version"], record["Summary"] = "9.9", summary
    return record


def findings_of(capsys: pytest.CaptureFixture[str]) -> dict[str, tuple[bool | None, str]]:
    return {
        one["what"]: (one["is_fine"], one["detail"])
        for one in json.loads(capsys.readouterr().out)["findings"]
    }


def test_the_distribution_and_what_it_installs() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["name"] == DISTRIBUTION == "whence-vpr"
    assert list(project["scripts"]) == ["whence"]
    assert project["description"].startswith(condition._OWN_SUMMARY)
    for extra in ("torch", "heic", "fast", "onnx", "matchers"):
        assert extra in project["optional-dependencies"]
        assert f'pip install "whence-vpr[{extra}]"' in str(MissingExtra("it", extra))


def test_no_text_names_the_other_project() -> None:
    """Installing `whence`, or an extra of it, would bring the other project."""
    for file in TEXTS:
        text = file.read_text(encoding="utf-8")
        for line in text.splitlines():
            assert not re.search(r"(?<![\w-])whence\[", line), f"{file.name}: {line}"
            wrong = re.search(
                r"(pip|uv pip|pipx|conda) install [^`\n]*?(?<![\w./-])whence(?![\w-])", line
            )
            assert not wrong, f"{file.name}: {line}"


def test_every_extra_that_a_text_names_is_there() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"][
        "optional-dependencies"
    ]
    for file in TEXTS:
        for found in re.findall(r"whence-vpr\[([\w,]+)\]", file.read_text(encoding="utf-8")):
            assert set(found.split(",")) <= set(extras), file.name


@pytest.mark.parametrize(
    ("summary", "is_fine", "said"),
    [
        ("Tells where things come from", False, "another project called whence, 9.9, is installed"),
        ("", False, "another project"),
        ("Where was this photo taken? Visual place recognition", None, "under its old name"),
        (None, True, ""),
    ],
)
def test_doctor_tells_the_clash(
    summary: str | None,
    is_fine: bool | None,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    known = importlib.metadata.metadata

    def looked_up(name: str) -> Message:
        if name != "whence":
            return known(name)
        if summary is None:
            raise importlib.metadata.PackageNotFoundError(name)
        return metadata_of(summary)

    monkeypatch.setattr(importlib.metadata, "metadata", looked_up)
    code = cli.run(["doctor", "--json"])
    found = findings_of(capsys)
    told = {what: one for what, one in found.items() if what in ("another whence", "name")}
    assert code == (1 if is_fine is False else 0)
    assert bool(told) == (summary is not None)
    for fine, detail in told.values():
        assert fine is is_fine
        assert said in detail
        assert "pip uninstall whence" in detail
        assert "whence-vpr" in detail
    assert DISTRIBUTION in found["whence"][1]


def test_doctor_tells_a_package_that_shadows_the_import(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(whence, "__file__", "/elsewhere/whence/__init__.py")
    assert cli.run(["doctor", "--json"]) == 1
    assert findings_of(capsys)["import whence"][0] is False
    monkeypatch.undo()
    monkeypatch.delattr(whence, "__version__")
    monkeypatch.setattr(whence, "__all__", ["track"])
    assert cli.run(["doctor", "--json"]) == 1
    assert "another package of this name" in findings_of(capsys)["import whence"][1]
