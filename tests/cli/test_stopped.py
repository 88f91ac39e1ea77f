"""Ctrl-C at many moments, to real processes: exit code 130, no traceback, what was done is kept,
and how to go on is said."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from conftest import write_street
from whence import cli
from whence.data import undo
from whence.data.undo import PlannedFile, undo_files, write_files
from whence.errors import Stopped
from whence.index.audit import problems
from whence.index.store import Store

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no such signals there")
SOURCE = Path(__file__).parents[2] / "src"
NUM_PLACES = 8
SLOW = """
import importlib, sys, time
from whence.__main__ import main

def slowed(place):
    home, name, method = place.rsplit(".", 2)
    owner = getattr(importlib.import_module(home), name)
    plain = getattr(owner, method)

    def slow(*given, **named):
        result = plain(*given, **named)
        sys.stderr.write("moment\\n")
        sys.stderr.flush()
        time.sleep(0.25)
        return result

    setattr(owner, method, slow)

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == place:
            sys.stderr.write("moment\\n")
            sys.stderr.flush()
            time.sleep(20)

place = sys.argv[1]
if place.count(".") > 1 and place[0] == "=":
    slowed(place[1:])
else:
    sys.meta_path.insert(0, Finder())
sys.argv = ["whence", *sys.argv[2:]]
main()
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A street of a few places: database/, queries/, and the database c.whence. Tests must not
    change it."""
    root = tmp_path_factory.mktemp("stopped")
    write_street(root / "database", num_places=NUM_PLACES, shift=0, run=0)
    write_street(root / "queries", num_places=NUM_PLACES, shift=25, run=1)
    assert cli.run(["index", str(root / "database"), "--db", str(root / "c.whence"), "-q"]) == 0
    return root


def heed_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextmanager
def running(place: str, *arguments: str | Path) -> Iterator[subprocess.Popen[str]]:
    """The command line in a process that stops for a moment at a place, which it says: a module, or
    =module.Class.method."""
    command = [sys.executable, "-c", SLOW, place, *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1"}
    # Started in the background, tests inherit that Ctrl-C is ignored, and so would what they start.
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "preexec_fn": heed_interrupts}
    with subprocess.Popen(command, text=True, env=environment, **pipes) as process:  # type: ignore[call-overload]
        try:
            yield process
        finally:
            process.kill()


def stop(process: subprocess.Popen[str], *, moment: int, times: int = 1) -> tuple[str, str]:
    """Send Ctrl-C once the process has come to its place so many times; its output."""
    assert process.stderr is not None
    for _ in range(moment):
        line = process.stderr.readline()
        assert line == "moment\n", line + process.stderr.read()
    for _ in range(times):
        process.send_signal(signal.SIGINT)
        time.sleep(0.05)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert "stopped" in err
    return out, " ".join(err.replace("moment\n", "").split())


@pytest.mark.parametrize(
    "module",
    [
        "whence.cli",
        "typer",
        "rich",
        "whence.settings",
        "numpy",
        "cv2",
        "faiss",
        "whence.localize.build",
    ],
)
def test_while_it_is_imported(made: Path, tmp_path: Path, module: str) -> None:
    with running(
        module, "index", made / "database", "--db", tmp_path / "c.whence", "-q"
    ) as process:
        _, err = stop(process, moment=1)
    assert "run the same command again" in err
    assert not (tmp_path / "c.whence").exists()


def test_index_keeps_what_is_described(made: Path, tmp_path: Path) -> None:
    path = tmp_path / "c.whence"
    arguments = ("index", made / "database", "--db", path, "-q")
    with running("=whence.localize.commits.PhotoBatch.put", *arguments) as process:
        _, err = stop(process, moment=3)
    assert (
        f"3 of {NUM_PLACES} photos were described and are kept in '{path}'; run the same "
        "command again to go on"
    ) in err
    with Store.open(path) as store:
        assert (store.num_photos, store.num_descriptors, problems(store)) == (3, 3, [])
    assert cli.run([*map(str, arguments)]) == 0
    with Store.open(path) as store, Store.open(made / "c.whence") as whole:
        assert store.num_descriptors == NUM_PLACES
        assert sorted(store.contents.tolist()) == sorted(whole.contents.tolist())


@pytest.mark.parametrize(
    ("place", "moment"),
    [
        ("=whence.data.scan._Reader.read", 2),
        ("=whence.index.store.Store.create", 1),
        ("=whence.index.ledger.Ledger.commit", 1),
        ("=whence.index.ledger.Ledger.commit", 3),
        ("=whence.index.store.Store.compact", 1),
    ],
)
def test_index_goes_on_after_any_moment(
    made: Path, tmp_path: Path, place: str, moment: int
) -> None:
    path = tmp_path / "c.whence"
    arguments = ("index", made / "database", "--db", path, "-q")
    with running(place, *arguments) as process:
        _, err = stop(process, moment=moment)
    assert "run the same command again" in err
    assert cli.run([*map(str, arguments)]) == 0
    with Store.open(path) as store:
        assert (store.num_photos, store.num_descriptors, problems(store)) == (
            NUM_PLACES,
            NUM_PLACES,
            [],
        )


def test_twice_is_once(made: Path, tmp_path: Path) -> None:
    with running(
        "=whence.localize.commits.PhotoBatch.put",
        "index",
        made / "database",
        "--db",
        tmp_path / "c.whence",
        "-q",
    ) as process:
        stop(process, moment=2, times=3)
    if (tmp_path / "c.whence" / "manifest.json").exists():
        with Store.open(tmp_path / "c.whence") as store:
            assert problems(store) == []


def test_locate_keeps_finished_answers_as_lines(made: Path, tmp_path: Path) -> None:
    table = tmp_path / "answers.csv"
    arguments = (
        "locate",
        made / "queries",
        "--db",
        made / "c.whence",
        "--no-verify",
        "--json",
        "--csv",
        table,
    )
    with running("=whence.localize.judge.Judge.answer", *arguments) as process:
        out, err = stop(process, moment=3)
    records = [json.loads(line) for line in out.splitlines()]
    assert [Path(one["query"]).name for one in records] == [
        file.name for file in sorted((made / "queries").iterdir())[: len(records)]
    ]
    assert len(records) in (2, 3)
    assert f"{len(records)} of {NUM_PLACES} photos were answered" in err
    with open(table, newline="") as file:
        assert len(list(csv.DictReader(file))) == len(records)


def test_locate_shows_finished_answers_as_a_table(made: Path) -> None:
    with running(
        "=whence.localize.judge.Judge.answer",
        "locate",
        made / "queries",
        "--db",
        made / "c.whence",
        "--no-verify",
    ) as process:
        out, err = stop(process, moment=4)
    assert out.count("located") in (3, 4)
    assert f"of {NUM_PLACES} photos were answered" in err


@pytest.mark.parametrize(
    ("place", "options"),
    [
        ("=whence.localize.judge.Judge.compare", ("--rerank", "inliers")),
        ("=whence.localize.judge.Judge.compare", ("--rerank", "inliers", "--leave-one-out")),
    ],
)
def test_evaluate_counts_the_queries_that_are_done(
    made: Path, place: str, options: tuple[str, ...]
) -> None:
    data = made / "database" if "--leave-one-out" in options else made
    with running(place, "evaluate", data, "--json", "-q", *options) as process:
        out, err = stop(process, moment=4)
    record = json.loads(out)
    assert record["num_queries"] in (3, 4)
    assert f"{record['num_queries']} of {NUM_PLACES} queries were done" in err
    assert {one["num_queries"] for one in record["recalls"] if one["counted"] == "all"} == {
        record["num_queries"]
    }
    assert record["answers"] is None or len(record["answers"]["queries"]) == record["num_queries"]


def test_evaluate_while_queries_are_described(made: Path, tmp_path: Path) -> None:
    place = "=whence.models.descriptor.Described.__new__"
    with running(place, "evaluate", made, "--json", "-q") as process:
        out, err = stop(process, moment=NUM_PLACES + 4)
    record = json.loads(out)
    assert record["num_queries"] in (3, 4)
    assert "queries were done" in err


def test_evaluate_keeps_its_work_folder(made: Path, tmp_path: Path) -> None:
    arguments = ("evaluate", made, "--json", "-q", "--work", tmp_path / "work")
    (tmp_path / "work").mkdir()
    with running("=whence.localize.commits.PhotoBatch.put", *arguments) as process:
        out, err = stop(process, moment=5)
    assert not out
    assert "5 of 8 photos were described and are kept in" in err
    with Store.open(tmp_path / "work" / "database.whence") as store:
        assert store.num_descriptors == 5


def test_evaluate_without_anything_to_count_says_so(made: Path) -> None:
    with running("=whence.models.descriptor.Described.__new__", "evaluate", made, "-q") as process:
        out, err = stop(process, moment=2)
    assert not out
    assert "nothing can be counted yet" in err


def test_written_tags_can_be_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write, calls = undo._write_one, []

    def stopped_at_third(file: PlannedFile, content: str) -> str:
        calls.append(file)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return write(file, content)

    monkeypatch.setattr(undo, "_write_one", stopped_at_third)
    planned = [PlannedFile(tmp_path / f"{number}.xmp", lambda: b"<x/>") for number in range(5)]
    with pytest.raises(Stopped, match=r"whence undo .*whence-undo"):
        write_files(planned, folder=tmp_path)
    assert len(list(tmp_path.glob("*.xmp"))) == 2
    undo_files(next(tmp_path.glob("whence-undo-*.json")))
    assert not list(tmp_path.iterdir())
