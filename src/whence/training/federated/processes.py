"""Flower's own processes, started from our environment: its server (SuperLink) with the rounds, a
client, or a simulation."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from whence.errors import InputError, ModelError
from whence.runtime import atomic_write
from whence.training.federated.plans import FINAL, LOG, ClientPlan, SimulationPlan

ENVIRONMENT, VARIABLE = ".venv-federated", "WHENCE_FLOWER"
_PR_SET_PDEATHSIG = 1
_APP = """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "whence-federated"
version = "1.0.0"
description = "Training where the photos are"
license = "MIT"
dependencies = []

[tool.flwr.app]
publisher = "whence"

[tool.flwr.app.components]
serverapp = "whence.training.federated.flower_app:server"
clientapp = "whence.training.federated.flower_app:client"

[tool.flwr.app.config]
out = ""
"""


@dataclass(frozen=True, slots=True)
class Secured:
    """Files of TLS, PEM: of the server its certificate and key, of both the certificate of who
    signed it. Empty for none."""

    certificate: str = ""
    key: str = ""
    ca: str = ""


@dataclass(frozen=True, slots=True)
class Flower:
    """The environment that Flower is in: its bounds on other packages fight ours."""

    folder: Path

    @classmethod
    def find(cls, folder: str | None = None) -> Flower:
        """That of `folder`, else of WHENCE_FLOWER, else .venv-federated beside our own environment.
        Raises `ModelError`."""
        asked = folder or os.environ.get(VARIABLE)
        places = (
            [Path(asked)]
            if asked
            else [Path(sys.prefix).parent / ENVIRONMENT, Path.cwd() / ENVIRONMENT]
        )
        found = next(
            (place for place in places if (place / "bin" / "flower-superlink").is_file()), None
        )
        if found is None:
            raise ModelError(
                "federated training needs Flower in an environment of its own, and there is none "
                f"in {str(places[0])!r}: make one with  make federated  in Whence's folder, or say "
                f"where it is with {VARIABLE}"
            )
        return cls(found.resolve())

    def simulate(self, out: Path, plan: SimulationPlan) -> None:
        """Run a simulation whose federation lies in `out`. Raises `InputError` with what it
        said."""
        with atomic_write(out / SimulationPlan.FILE, "w") as file:
            file.write(plan.to_json())
        with open(out / "flower.log", "a", encoding="utf-8") as log:
            command = [
                str(self.folder / "bin" / "python"),
                "-m",
                "whence.training.federated.flower_app",
                str(out),
            ]
            done = subprocess.run(
                command, env=self._environment(out), stdout=subprocess.PIPE, stderr=log, text=True
            )
        if done.returncode:
            raise InputError(f"the simulation failed: {_last_line(out / 'flower.log')}")

    def serve(
        self,
        out: Path,
        *,
        host: str,
        port: int,
        secured: Secured,
        on_line: Callable[[Mapping[str, Any]], None],
    ) -> None:
        """Serve the rounds of the federation in `out` until they are over. Raises `InputError` with
        what Flower said.

        `on_line` is told every line of the log as it is written. Clients connect to `host`:`port`
        by gRPC.
        """
        (out / FINAL).unlink(missing_ok=True)
        inner = _free_port()
        link = [
            "flower-superlink",
            "--fleet-api-address",
            f"{host}:{port}",
            "--host",
            "127.0.0.1",
            "--port",
            str(inner),
        ]
        names = ("--ssl-certfile", "--ssl-keyfile", "--ssl-ca-certfile")
        files = (secured.certificate, secured.key, secured.ca)
        link += (
            [word for pair in zip(names, files, strict=True) for word in pair]
            if secured.ca
            else ["--insecure"]
        )
        home = out / "flower"
        (home / "app").mkdir(parents=True, exist_ok=True)
        for file, text in (
            (home / "app" / "pyproject.toml", _APP),
            (home / "config.toml", _connection(inner, secured)),
        ):
            with atomic_write(file, "w") as opened:
                opened.write(text)
        start = (out / LOG).stat().st_size if (out / LOG).is_file() else 0
        with (
            open(out / "flower.log", "a", encoding="utf-8") as log,
            self._started(link, out, log) as running,
        ):
            self._wait_for(inner, running, out)
            run = [
                str(self.folder / "bin" / "flwr"),
                "run",
                str(home / "app"),
                "here",
                "--run-config",
                f'out="{out.resolve()}"',
            ]
            if subprocess.run(run, env=self._environment(out), stdout=log, stderr=log).returncode:
                raise InputError(f"Flower took no run: {_last_line(out / 'flower.log')}")
            _follow(out, start, running, on_line)

    def join(self, plan: ClientPlan, *, folder: Path, server: str, secured: Secured) -> None:
        """Be a client of a server until stopped, or until Flower ends by itself. Raises
        `InputError` with what it said."""
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / "client.json"
        with atomic_write(file, "w") as opened:
            opened.write(plan.to_json())
        words = [
            "flower-supernode",
            "--superlink",
            server,
            "--host",
            "127.0.0.1",
            "--port",
            str(_free_port()),
        ]
        words += ["--node-config", f"plan={json.dumps(str(file.resolve()))}"]
        words += ["--root-certificates", secured.ca] if secured.ca else ["--insecure"]
        with (
            open(folder / "flower.log", "a", encoding="utf-8") as log,
            self._started(words, folder, log) as running,
        ):
            if running.wait():
                raise InputError(f"the client ended: {_last_line(folder / 'flower.log')}")

    def _environment(self, folder: Path) -> dict[str, str]:
        path = os.pathsep.join([str(self.folder / "bin"), os.environ.get("PATH", "")])
        quiet = {
            "FLWR_TELEMETRY_ENABLED": "0",
            "OMP_NUM_THREADS": "1",
            "FLWR_HOME": str((folder / "flower").resolve()),
        }
        return {**os.environ, "PATH": path, **quiet}

    @contextlib.contextmanager
    def _started(
        self, words: list[str], folder: Path, log: IO[str]
    ) -> Iterator[subprocess.Popen[bytes]]:
        """A process of Flower with all that it starts, which end with the block, and with us: a
        client that was stopped must not go on learning from the photos of its owner."""
        command = [str(self.folder / "bin" / words[0]), *words[1:]]
        with _interrupted_when_terminated():
            running = subprocess.Popen(
                command,
                env=self._environment(folder),
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=_end_with_parent if sys.platform == "linux" else None,
            )
            try:
                yield running
            finally:
                _stop(running)

    def _wait_for(self, port: int, running: subprocess.Popen[bytes], out: Path) -> None:
        ends = time.monotonic() + 120
        while running.poll() is None and time.monotonic() < ends:
            with socket.socket() as asked:
                if not asked.connect_ex(("127.0.0.1", port)):
                    return
            time.sleep(0.2)
        raise InputError(f"Flower's server did not start: {_last_line(out / 'flower.log')}")


def _follow(
    out: Path,
    start: int,
    running: subprocess.Popen[bytes],
    on_line: Callable[[Mapping[str, Any]], None],
) -> None:
    """Tell the lines of the log until the network is there. Raises `InputError` where the rounds
    failed."""
    place = start
    while True:
        is_over = (out / FINAL).is_file()
        if (out / LOG).is_file():
            with open(out / LOG, encoding="utf-8") as file:
                file.seek(place)
                whole = file.read().rpartition("\n")[0]
            place += len(whole.encode()) + bool(whole)
            for line in filter(None, whole.split("\n")):
                record = json.loads(line)
                if "error" in record:
                    raise InputError(f"the rounds failed: {record['error']}")
                on_line(record)
        if is_over:
            return
        if running.poll() is not None:
            raise InputError(f"Flower's server ended: {_last_line(out / 'flower.log')}")
        time.sleep(0.5)


def _connection(port: int, secured: Secured) -> str:
    trust = (
        f'root-certificates = "{Path(secured.ca).resolve()}"' if secured.ca else "insecure = true"
    )
    return (
        '[superlink]\ndefault = "here"\n\n[superlink.here]\naddress = '
        f'"127.0.0.1:{port}"\n{trust}\n'
    )


@contextlib.contextmanager
def _interrupted_when_terminated() -> Iterator[None]:
    """Inside the block SIGTERM, as service managers send it, is what Ctrl-C is."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _end_with_parent() -> None:
    """Let the process that is about to start be told to end when this one is gone, killed too."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM))


def _stop(running: subprocess.Popen[bytes]) -> None:
    """End a process and those it started."""
    for number in (15, 9):
        try:
            os.killpg(running.pid, number)
        except ProcessLookupError:
            break
        try:
            running.wait(10)
        except subprocess.TimeoutExpired:
            continue
    running.wait()


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _last_line(file: Path) -> str:
    lines = [
        line.strip(" ╭╮╰╯│─")
        for line in file.read_text(encoding="utf-8", errors="replace").splitlines()
    ]
    found = next((line for line in reversed(lines) if line), "it said nothing")
    return f"{found} ({file})"
