"""Hostile inputs and hostile disks through the command line: no traceback, the right exit code and
message, nothing lost."""

from __future__ import annotations

import errno
import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hostile_inputs import MAKERS, hostile_inputs, write_all
from whence import cli
from whence.index.audit import problems
from whence.index.store import Store

Capture = pytest.CaptureFixture[str]


def whence(*arguments: str | Path) -> int:
    return cli.run([str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def database(street: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("hostile") / "c.whence"
    assert whence("index", street / "database", "--db", path, "-q") == 0
    return path


def test_there_are_at_least_fifty() -> None:
    assert len(MAKERS) >= 50


def test_a_folder_of_them_is_indexed(tmp_path: Path, street: Path, capsys: Capture) -> None:
    """The good photos get in, each bad one is reported once with a reason."""
    inputs = write_all(tmp_path / "photos")
    good = sorted((street / "database").iterdir())[:3]
    for file in good:
        shutil.copy(file, tmp_path / "photos")
    assert whence("index", tmp_path / "photos", "--db", tmp_path / "c.whence", "--json") == 0
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    report = json.loads(captured.out)
    skipped = {Path(entry["photo"]).name: entry["reason"] for entry in report["skipped"]}
    assert {one.name for one in inputs if not one.is_readable} == set(skipped)
    assert all(reason for reason in skipped.values())
    assert report["num_photos"] == sum(one.is_readable for one in inputs) + 3
    with Store.open(tmp_path / "c.whence") as store:
        assert problems(store) == []
        wrong = {
            "gps 200 degrees.jpg",
            "gps without letters.jpg",
            "gps with odd letters.jpg",
            "@@@@@@@@@@@@@@@.jpg",
        }
        assert not any(photo.point for photo in store.photos if Path(photo.path).name in wrong)


@pytest.mark.parametrize("one", hostile_inputs(), ids=lambda one: one.name.replace("\n", " "))
def test_each_as_a_query(one, tmp_path: Path, database: Path, capsys: Capture) -> None:
    (tmp_path / one.name).write_bytes(one.data)
    code = whence("locate", tmp_path / one.name, "--db", database, "--json")
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    if one.is_readable:
        assert code in (0, 3)
        assert json.loads(captured.out)["query"].endswith(one.name)
    else:
        assert code == 1
        assert captured.err.startswith("error: cannot read image")
        assert one.name.split("\n")[0][:10] in captured.err
        assert captured.out == ""


def corrupt(name: str) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        file = next(path.glob(name))
        file.write_bytes(file.read_bytes()[:-7])

    return change


def no_manifest(path: Path) -> None:
    (path / "manifest.json").unlink()


def future(path: Path) -> None:
    text = (path / "manifest.json").read_text()
    (path / "manifest.json").write_text(text.replace('"version": 1', '"version": 99'))


def missing(path: Path) -> None:
    next(path.glob("*.npy")).unlink()


def as_file(path: Path) -> None:
    shutil.rmtree(path)
    path.write_text("a file")


@pytest.mark.parametrize(
    "damage",
    [
        corrupt("manifest.json"),
        corrupt("*.npy"),
        corrupt("*.npz"),
        no_manifest,
        future,
        missing,
        as_file,
        shutil.rmtree,
    ],
)
@pytest.mark.parametrize("verb", ["locate", "doctor"])
def test_damaged_databases(
    damage: Callable[[Path], None],
    verb: str,
    database: Path,
    street: Path,
    tmp_path: Path,
    capsys: Capture,
) -> None:
    path = tmp_path / "c.whence"
    shutil.copytree(database, path)
    damage(path)
    arguments = [next((street / "queries").iterdir())] if verb == "locate" else []
    assert whence(verb, *arguments, "--db", path) == 1
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err + captured.out
    assert "c.whence" in captured.err + captured.out


@pytest.mark.parametrize("at", [1, 2, 3, 4, 6, 8, 11, 15, 20])
@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_disk_that_fills_up(
    call: str,
    at: int,
    tmp_path: Path,
    street: Path,
    capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every write in turn finds the disk full: one error line, the state before intact, and the run
    can go on afterwards."""
    (tmp_path / "photos").mkdir()
    for file in sorted((street / "database").iterdir())[:6]:
        shutil.copy(file, tmp_path / "photos")
    real, calls = getattr(os, call), []

    def full(*arguments: object) -> object:
        calls.append(1)
        if len(calls) >= at:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(os, call, full)
        code = whence("index", tmp_path / "photos", "--db", tmp_path / "c.whence", "-q")
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    if len(calls) >= at and code:
        assert code == 1
        assert "c.whence" in captured.err
        assert (
            os.strerror(errno.ENOSPC).lower() in captured.err.lower()
            or "full" in captured.err.lower()
        )
    assert whence("index", tmp_path / "photos", "--db", tmp_path / "c.whence", "-q") == 0
    with Store.open(tmp_path / "c.whence") as store:
        assert problems(store) == []
        assert store.num_photos == 6


@pytest.mark.parametrize("limit", [1, 500, 5_000, 40_000, 200_000])
def test_a_limit_on_file_size(limit: int, tmp_path: Path, street: Path) -> None:
    """RLIMIT_FSIZE in a child: the kernel refuses the write in the middle of a file."""
    (tmp_path / "photos").mkdir()
    for file in sorted((street / "database").iterdir())[:8]:
        shutil.copy(file, tmp_path / "photos")
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit})); "
        "from whence.cli import run; sys.exit(run(sys.argv[1:]))"
    )
    command = [
        sys.executable,
        "-B",
        "-c",
        code,
        "index",
        str(tmp_path / "photos"),
        "--db",
        str(tmp_path / "c.whence"),
        "-q",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert "c.whence" in done.stderr
    assert resource.RLIMIT_FSIZE is not None
    assert whence("index", tmp_path / "photos", "--db", tmp_path / "c.whence", "-q") == 0
    with Store.open(tmp_path / "c.whence") as store:
        assert problems(store) == []
        assert store.num_photos == 8


def test_folders_that_cannot_be_written(street: Path, capsys: Capture) -> None:
    assert whence("index", street / "database", "--db", "/proc/nowhere/c.whence", "-q") == 1
    assert "/proc/nowhere" in capsys.readouterr().err


def test_outputs_that_cannot_be_written(
    database: Path, street: Path, tmp_path: Path, capsys: Capture
) -> None:
    query = next((street / "queries").iterdir())
    for flag in ("--csv", "--geojson"):
        assert (
            whence("locate", query, "--db", database, flag, tmp_path / "no" / "such" / "folder.x")
            == 1
        )
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        assert "folder.x" in captured.err
    assert whence("evaluate", street, "--save-predictions", tmp_path / "no" / "p.csv") == 1
    assert "p.csv" in capsys.readouterr().err
