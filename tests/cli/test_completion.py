"""What a shell offers for half-written names, and the nearest names that errors list."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from whence import cli
from whence.cli import completion
from whence.errors import UnknownName
from whence.registry import MATCHERS, MODELS, SCORERS

SOURCE = Path(__file__).parents[2] / "src"


def completed(words: str, at: int, home: Path, shell: str = "bash") -> list[str]:
    """What the shell is told for the word `at` of a command line."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(SOURCE),
        "HOME": str(home),
        "_WHENCE_COMPLETE": f"complete_{shell}",
    }
    environment |= {"COMP_WORDS": words, "COMP_CWORD": str(at), "_TYPER_COMPLETE_ARGS": words}
    told = subprocess.run(
        [sys.executable, "-m", "whence"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert told.returncode == 0, told.stderr
    assert not told.stderr
    return told.stdout.split()


@pytest.mark.parametrize(
    ("words", "at", "offered"),
    [
        ("whence lo", 1, {"locate"}),
        ("whence index --model rootsift", 3, {"rootsift-vlad"}),
        ("whence evaluate set --rerank in", 4, {"inliers"}),
        ("whence match --matcher orb", 3, {"orb-mnn"}),
        ("whence database mo", 2, {"move"}),
    ],
)
def test_bash_is_told(words: str, at: int, offered: set[str], tmp_path: Path) -> None:
    assert set(completed(words, at, tmp_path)) == offered


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_are_told(shell: str, tmp_path: Path) -> None:
    environment = {"_TYPER_COMPLETE_FISH_ACTION": "get-args"} if shell == "fish" else {}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        assert "rootsift-vlad" in " ".join(
            completed("whence index --model rootsift", 3, tmp_path, shell)
        )


def test_completion_is_shown_and_installed(tmp_path: Path) -> None:
    # The shell is named here: which one started the tests, if any, does not matter.
    environment = {
        **os.environ,
        "PYTHONPATH": str(SOURCE),
        "HOME": str(tmp_path),
        "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1",
    }
    for flag in ("--show-completion", "--install-completion"):
        told = subprocess.run(
            [sys.executable, "-m", "whence", flag, "bash"],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert told.returncode == 0, told.stderr
        if flag == "--show-completion":
            assert "_WHENCE_COMPLETE=complete_bash" in told.stdout
    assert any("whence" in file.read_text() for file in tmp_path.rglob("*") if file.is_file())


def test_all_names_of_a_kind_are_offered() -> None:
    assert completion.models("") == sorted(MODELS)
    assert completion.scorers("") == sorted(SCORERS)
    assert completion.matchers("") == sorted(MATCHERS)
    assert completion.scorers("rapid:100,in") == ["rapid:100,inliers"]
    assert "pitts30k" in completion.published_sets("pitts")
    assert completion.models("no such") == []


@pytest.mark.parametrize(
    ("kind", "asked", "first"),
    [
        ("model", "rootsift-vald", "rootsift-vlad"),
        ("model", "megaloc", "megaloc-dinov2-8448"),
        ("model", "MegaLoc", "megaloc-dinov2-8448"),
        ("model", "dense-vlad", "densevlad"),
        ("scorer", "inlier", "inliers"),
        ("matcher", "loftr2", "loftr"),
    ],
)
def test_the_nearest_three_are_listed(kind: str, asked: str, first: str) -> None:
    known = {"model": MODELS, "scorer": SCORERS, "matcher": MATCHERS}[kind]
    error = UnknownName(kind, asked, known)
    assert error.nearest[0] == first
    assert len(error.nearest) == 3
    assert all(repr(name) in str(error) for name in error.nearest)


def test_names_that_are_like_nothing_still_list_three() -> None:
    assert len(UnknownName("model", "§§§", MODELS).nearest) == 3
    assert str(UnknownName("thing", "x", ["only"])) == "unknown thing 'x'; did you mean 'only'?"
    assert str(UnknownName("thing", "x", ["a", "b"])).endswith("did you mean 'a' or 'b'?")
    assert str(UnknownName("thing", "x", [])) == "unknown thing 'x'; there is none"


@pytest.mark.parametrize(
    ("arguments", "near"),
    [
        (("index", "x", "--model", "rootsift"), "rootsift-vlad"),
        (("models", "megaloc"), "megaloc-dinov2-8448"),
        (("study", "rerenk"), "rerank"),
        (("world", "city", "x", "--preset", "tinny"), "tiny"),
        (("evaluate", "x", "--protocol", "pitts"), "pitts30k"),
        (("locat",), "locate"),
    ],
)
def test_the_command_line_says_what_was_meant(
    arguments: tuple[str, ...],
    near: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.run(list(arguments)) in (1, 2)
    message = capsys.readouterr().err
    assert near in message
    assert "id you mean" in message
