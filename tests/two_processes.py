"""Whence's commands in two processes that share their work, as torchrun starts them (gloo, CPU)."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

ROOT = Path(__file__).parents[1]
SCRIPT = """
import os
import sys

import torch
import torch.distributed
from two_processes import Calm

torch.nn.BatchNorm2d = Calm
import whence.training.loop
import whence.training.losses.by_label
from whence.cli import run

# What takes long to import is there once for both.
other = os.fork()
os.environ["RANK"] = "0" if other else "1"
os.environ["LOCAL_RANK"] = os.environ["RANK"] if os.environ["LOCAL_WORLD_SIZE"] == "2" else "0"
code = run(sys.argv[1:])
if not other:
    sys.stderr.flush()
    os._exit(code)
sys.exit(code or os.waitstatus_to_exitcode(os.waitpid(other, 0)[1]))
"""


class Calm(torch.nn.BatchNorm2d):
    """With fixed statistics: those of its own photos would depend on how a batch is shared."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalised by the running statistics, which stay."""
        return torch.nn.functional.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, False
        )


def environment() -> dict[str, str]:
    """That of a process which finds this code and uses one thread."""
    paths = os.pathsep.join(
        [str(ROOT / "src"), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")]
    )
    return {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "WHENCE_THREADS": "1"}


def run_in_two(words: Sequence[str], folder: Path, *, num_nodes: int = 1) -> None:
    """Run a command in two processes with `Calm` norms; both must end well. `folder` takes the
    script.

    They are told that they run on one machine, or on two, as torchrun tells it.
    """
    script = folder / "two.py"
    script.write_text(SCRIPT)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {
        **environment(),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": str(2 // num_nodes),
    }
    done = subprocess.run(
        [sys.executable, str(script), *words], env=shared, stderr=subprocess.PIPE, text=True
    )
    assert done.returncode == 0, done.stderr
