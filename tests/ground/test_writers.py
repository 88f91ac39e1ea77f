"""Every writer of the project on a disk that is full, limited, or not writable: a named error, the
old file whole, nothing left.

Tests run as root, to whom every folder is writable, so a folder that refuses is simulated: making a
file in it fails with EACCES. A full disk is simulated at the write, the flush to disk and the
rename; the limit on file size is the kernel's own, in a child.
"""

from __future__ import annotations

import errno
import io
import json
import os
import pickle
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from whence import cli, runtime
from whence.errors import StoreError, UnwritableFile
from writers import SOURCE_OF_OLD, WRITERS, Inputs, Writer, commands

Fault = Callable[[pytest.MonkeyPatch, Path], list[str]]
CHILD = """
import json, pickle, resource, signal, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from writers import WRITERS, commands
from whence import cli
inputs, top, limit = pickle.loads(bytes.fromhex({inputs!r})), Path({top!r}), {limit}
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
said = {{}}
for number, writer in enumerate(WRITERS):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        writer.write(inputs, top / str(number))
        kinds, text = [], "written"
    except Exception as error:
        kinds, text = [kind.__name__ for kind in type(error).__mro__], str(error)
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    said[writer.name] = [kinds, text]
print(json.dumps(said))
"""


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    return Inputs.make(tmp_path_factory.mktemp("inputs"))


def no_room() -> OSError:
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class FullFile(io.FileIO):
    """A file on a disk without room: the kernel takes nothing of it."""

    def write(self, data: Any, /) -> int:
        raise no_room()


def is_under(path: object, folder: Path) -> bool:
    return Path(os.fsdecode(path)).resolve().is_relative_to(folder.resolve())  # type: ignore[arg-type]


def fail_at_write(patch: pytest.MonkeyPatch, folder: Path) -> list[str]:
    met: list[str] = []

    def opened(path: str, mode: str = "r", **text: Any) -> Any:
        if not is_under(path, folder) or mode[0] not in "wx":
            return open(path, mode, **text)
        met.append(path)
        buffered = io.BufferedWriter(FullFile(path, "w"))
        return buffered if "b" in mode else io.TextIOWrapper(buffered, **text)

    patch.setattr(runtime, "open", opened, raising=False)
    return met


def fail_at(name: str) -> Fault:
    """The call of `os` that makes a file durable, or gives it its name, finds no room."""

    def fault(patch: pytest.MonkeyPatch, folder: Path) -> list[str]:
        met: list[str] = []
        real = getattr(os, name)

        def call(*arguments: Any, **options: Any) -> Any:
            target = f"/proc/self/fd/{arguments[0]}" if name == "fsync" else arguments[1]
            if is_under(target, folder) and not Path(target).is_dir():
                met.append(str(target))
                raise no_room()
            return real(*arguments, **options)

        patch.setattr(os, name, call)
        if name == "replace":
            # A file that must be new gets its name by a link, or where there are none by a rename.
            patch.setattr(os, "link", call)
        return met

    return fault


def fail_in_folder(patch: pytest.MonkeyPatch, folder: Path) -> list[str]:
    met: list[str] = []
    make_file, make_folder = tempfile.mkstemp, os.mkdir

    def refuse(where: object) -> None:
        if is_under(where, folder):
            met.append(str(where))
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(where))

    def mkstemp(*arguments: Any, **options: Any) -> Any:
        refuse(options["dir"])
        return make_file(*arguments, **options)

    def mkdir(path: Any, *arguments: Any, **options: Any) -> None:
        refuse(path)
        make_folder(path, *arguments, **options)

    patch.setattr(tempfile, "mkstemp", mkstemp)
    patch.setattr(os, "mkdir", mkdir)
    return met


FAULTS: dict[str, Fault] = {
    "write": fail_at_write,
    "fsync": fail_at("fsync"),
    "replace": fail_at("replace"),
    "folder": fail_in_folder,
}


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def prepared(folder: Path, writer: Writer) -> dict[str, bytes]:
    """The folder with an older file where the writer may replace it."""
    folder.mkdir()
    if writer.is_replacing:
        (folder / writer.file).write_bytes(SOURCE_OF_OLD)
    return contents(folder)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("writer", WRITERS, ids=lambda writer: writer.name)
def test_a_disk_that_refuses(
    writer: Writer, fault: str, inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = prepared(tmp_path / "out", writer)
    with monkeypatch.context() as patch:
        met = FAULTS[fault](patch, tmp_path / "out")
        if fault == "fsync" and not writer.is_flushed:
            writer.write(inputs, tmp_path / "out")
            assert not met
            return
        with pytest.raises((UnwritableFile, StoreError), match=re.escape(str(tmp_path / "out"))):
            writer.write(inputs, tmp_path / "out")
    assert met, "nothing else may fail"
    assert contents(tmp_path / "out") == before


@pytest.mark.parametrize("writer", WRITERS, ids=lambda writer: writer.name)
def test_without_a_fault_it_is_written(writer: Writer, inputs: Inputs, tmp_path: Path) -> None:
    before = prepared(tmp_path / "out", writer)
    writer.write(inputs, tmp_path / "out")
    after = contents(tmp_path / "out")
    assert after[writer.file] != before.get(writer.file)
    assert not [name for name in after if name.endswith(".part")]


@pytest.mark.parametrize("limit", [1, 100])
def test_a_limit_on_file_size(limit: int, inputs: Inputs, tmp_path: Path) -> None:
    """RLIMIT_FSIZE: the kernel refuses the write in the middle of the file; every file here has
    more than 100 bytes."""
    before = {}
    for number, writer in enumerate(WRITERS):
        before[writer.name] = prepared(tmp_path / str(number), writer)
    given = {
        "tests": str(Path(__file__).parents[1]),
        "inputs": pickle.dumps(inputs).hex(),
        "top": str(tmp_path),
        "limit": limit,
    }
    done = subprocess.run(
        [sys.executable, "-B", "-c", CHILD.format(**given)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    for number, writer in enumerate(WRITERS):
        kinds, text = said[writer.name]
        assert {"UnwritableFile", "StoreFull"} & set(kinds), (writer.name, kinds, text)
        assert str(tmp_path / str(number)) in text
        assert contents(tmp_path / str(number)) == before[writer.name], writer.name


COMMANDS = tuple(commands(Inputs(*[Path("x")] * 4), Path("x")))


@pytest.mark.parametrize("fault", ["write", "replace", "folder"])
@pytest.mark.parametrize("command", COMMANDS)
def test_commands_end_with_one_error_line(
    command: str,
    fault: str,
    inputs: Inputs,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "out").mkdir()
    named, arguments = commands(inputs, tmp_path / "out")[command]
    capsys.readouterr()
    with monkeypatch.context() as patch:
        met = FAULTS[fault](patch, tmp_path / "out")
        code = cli.run(arguments)
    said = capsys.readouterr().err
    assert met
    assert code == 1, said
    assert "Traceback" not in said
    assert len(re.findall(r"^error: ", said, re.MULTILINE)) == 1
    assert named in said or str(tmp_path / "out") in said
    assert contents(tmp_path / "out") == {}
