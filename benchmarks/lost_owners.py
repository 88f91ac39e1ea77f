"""Ten owners train together over gRPC and three of them are killed: does the run end, and does its
log say who.

    make federated
    python benchmarks/lost_owners.py [--clients 10] [--killed 3] [--rounds 4] [--seed 0]
                                     [--timeout 300] [--kill-server] [--work FOLDER] [--json]

A small city is rendered and split; server and clients are processes of this machine. At moments
drawn from the seed clients are killed with SIGKILL, and with `--kill-server` the server too, once,
which is started again and goes on. Printed: the rounds as the server logs them, who was killed
when, who is named as left out, and whether the trained network describes a photo.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from whence.data.formats import read_folders
from whence.models.descriptor import load_model
from whence.runtime import random_stream
from whence.training.federated.options import SplitOptions
from whence.training.federated.plans import FINAL, LOG
from whence.training.federated.splits import split, write_clients
from whence.worlds.capture import CaptureOptions
from whence.worlds.city import WorldOptions, render_world
from whence.worlds.presets import CitySize

LEARNING = (
    "optimizer.name=sgd",
    "optimizer.lr=0.01",
    "mining.num_queries=4",
    "mining.num_candidates=12",
)
_KILLS = 91


class Processes:
    """Server and clients, each a process group of its own."""

    def __init__(
        self, work: Path, *, port: int, num_rounds: int, num_clients: int, timeout_s: float
    ) -> None:
        self.work, self.port, self.num_rounds, self.num_clients, self.timeout_s = (
            work,
            port,
            num_rounds,
            num_clients,
            timeout_s,
        )
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    def serve(self) -> None:
        """Start the server, or start it again."""
        rounds = {
            "num_rounds": self.num_rounds,
            "clients_per_round": self.num_clients,
            "num_steps": 1,
            "timeout_s": self.timeout_s,
        }
        words = [
            "server",
            "tiny-tuples",
            "--out",
            str(self.work / "run"),
            "--insecure",
            "--host",
            "127.0.0.1",
        ]
        words += [
            "--port",
            str(self.port),
            *(word for line in LEARNING for word in ("--set", line)),
        ]
        words += [
            word for name, value in rounds.items() for word in ("--rounds", f"{name}={value}")
        ]
        self._start("server", words)

    def join(self, number: int) -> None:
        """Start a client."""
        name = f"client {number:03d}"
        words = [
            "client",
            "--dataset",
            str(self.work / "city"),
            "--clients",
            str(self.work / "clients.csv"),
            "--insecure",
        ]
        words += [
            "--number",
            str(number),
            "--name",
            name,
            "--server",
            f"127.0.0.1:{self.port}",
            "--out",
            str(self.work / name),
        ]
        self._start(name, words)

    def kill(self, name: str) -> None:
        """End a process and what it started, without a word."""
        process = self.running.pop(name)
        # The part of Flower that it started leads a group of its own, and would outlive it.
        children = subprocess.run(
            ["pgrep", "-P", str(process.pid)], capture_output=True, text=True
        ).stdout.split()
        for number in [process.pid, *map(int, children)]:
            try:
                os.killpg(number, signal.SIGKILL)
            except ProcessLookupError:
                continue
        process.wait()

    def stop(self) -> None:
        """End what runs."""
        for name in list(self.running):
            self.kill(name)

    def _start(self, name: str, words: list[str]) -> None:
        with open(self.work / f"{name}.log", "a", encoding="utf-8") as log:
            command = [sys.executable, "-m", "whence", "federate", *words]
            self.running[name] = subprocess.Popen(
                command, stdout=log, stderr=log, start_new_session=True
            )


def rounds_of(work: Path) -> list[dict[str, Any]]:
    """The rounds that the server has logged so far."""
    file = work / "run" / LOG
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    return [record for line in lines if "round" in (record := json.loads(line))]


def make_owners(work: Path, *, num: int) -> int:
    """Photos of a small city cut into clients; gives how many there are."""
    size = CitySize("city00", "", 30 * num, 30 * num, 0)
    options = WorldOptions(capture=CaptureOptions(width=64, height=48), cities=(size,))
    render_world(work / "city", seed=5, options=options, show_progress=False)
    data = read_folders(work / "city")
    for seed in range(20):
        made = split(
            data,
            options=SplitOptions(
                "random", num, min_queries=2, num_negatives=3, positive_m=15, seed=seed
            ),
        )
        # Another split where a client came out too small.
        if made.num == num:
            break
    write_clients(work / "clients.csv", made)
    return made.num


def main() -> None:
    """Run the training, kill, and say what came of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", type=int, default=10)
    parser.add_argument("--killed", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument(
        "--timeout",
        type=float,
        default=300.0,
        help="seconds after which a client is left out of a round",
    )
    parser.add_argument(
        "--kill-server", action="store_true", help="kill the server too, once, and start it again"
    )
    parser.add_argument(
        "--limit", type=float, default=1500, help="seconds after which the run counts as hanging"
    )
    parser.add_argument("--work", type=Path, help="folder for everything")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        report = measured(arguments, arguments.work or Path(scratch))
    print(json.dumps(report) if arguments.json else as_text(report))


def measured(arguments: argparse.Namespace, work: Path) -> dict[str, Any]:
    """The report of one run."""
    work.mkdir(parents=True, exist_ok=True)
    num = make_owners(work, num=arguments.clients)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    random = random_stream(arguments.seed, _KILLS)
    victims = [
        f"client {number:03d}" for number in random.choice(num, arguments.killed, replace=False)
    ]
    moments = sorted(random.integers(1, arguments.rounds, arguments.killed).tolist())
    due = list(zip(moments, victims, strict=True)) + (
        [(arguments.rounds // 2, "server")] if arguments.kill_server else []
    )
    processes, killed, ends = (
        Processes(
            work,
            port=port,
            num_rounds=arguments.rounds,
            num_clients=num,
            timeout_s=arguments.timeout,
        ),
        [],
        time.monotonic() + arguments.limit,
    )
    try:
        processes.serve()
        for number in range(num):
            processes.join(number)
        while not (work / "run" / FINAL).is_file() and time.monotonic() < ends:
            done = len(rounds_of(work))
            for moment, name in [one for one in due if one[0] <= done]:
                due.remove((moment, name))
                time.sleep(float(random.uniform(0, 2)))
                processes.kill(name)
                killed.append({"who": name, "after_rounds": done})
                if name == "server":
                    processes.serve()
            time.sleep(0.3)
    finally:
        processes.stop()
    lines, final = rounds_of(work), work / "run" / FINAL
    descriptor = (
        load_model(str(final)).describe([read_folders(work / "city").database.file(0)])
        if final.is_file()
        else None
    )
    named = sorted({one["client"] for line in lines for one in line["left_out"]})
    return {
        "clients": num,
        "killed": killed,
        "rounds": lines,
        "left_out": named,
        "is_over": final.is_file(),
        "is_usable": descriptor is not None and bool(np.isfinite(descriptor).all()),
    }


def as_text(report: dict[str, Any]) -> str:
    """The report to read."""
    lines = [
        f"{report['clients']} clients; killed: "
        + ", ".join(f"{k['who']} after {k['after_rounds']}" for k in report["killed"])
    ]
    for line in report["rounds"]:
        out = "; ".join(f"{one['client']}: {one['why']}" for one in line["left_out"]) or "nobody"
        lines.append(f"round {line['round']}: {len(line['clients'])} answers, left out: {out}")
    ending = "the run ended" if report["is_over"] else "THE RUN DID NOT END"
    usable = "describes photos" if report["is_usable"] else "IS NOT USABLE"
    return "\n".join(
        [
            *lines,
            (
                f"{ending}; its network {usable}; named in the log: "
                f"{', '.join(report['left_out']) or 'nobody'}"
            ),
        ]
    )


if __name__ == "__main__":
    main()
