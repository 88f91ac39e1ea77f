"""What branches and probes are made with, in tests that need no whole training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from whence.training.datasets import Dataset, Source
from whence.training.task import Draw, Setup, Share


def given(data: Source, pixels: Path, *, learner: Any = None) -> Setup:
    """One process, a CPU, float32."""
    return Setup(
        learner,
        Dataset(data),
        0,
        pixels,
        None,
        Share(),
        torch.device("cpu"),
        None,
        show_progress=False,
    )


def draw(*, step: int = 0, batch: int = 0) -> Draw:
    """One batch of one update, in one process on a CPU."""
    return Draw(0, step, batch, 0, Share(), torch.device("cpu"), _as_it_is)


def _as_it_is() -> Any:
    return torch.autocast("cpu", enabled=False)
