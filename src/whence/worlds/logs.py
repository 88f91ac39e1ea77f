"""Logs made up: records of when, what weather and how sure, to teach a small language model to look
things up.

A record is five words, as `14: 35 rain located ;`. No two records of one log are of the same time.
In two logs of three records near one another share hours or minutes, so that neither alone says
which record is meant.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from whence.errors import BadOption, InputError
from whence.runtime import atomic_write, claim_folder, random_stream

HOURS = tuple(f"{hour:02d}:" for hour in range(24))
MINUTES = tuple(f"{minute:02d}" for minute in range(0, 60, 5))
WEATHERS = (
    *(
        "clear",
        "cloud",
        "rain",
        "snow",
        "fog",
        "hail",
        "storm",
        "wind",
        "dusk",
        "dawn",
        "night",
        "heat",
        "frost",
        "haze",
    ),
    *("sleet", "sun"),
)
STATUSES = ("located", "matched", "unknown")
SPLITS = ("train", "val", "test")
WORDS = (*HOURS, *MINUTES, *WEATHERS, *STATUSES, "?", ";")
"""All words of such logs and of questions about them."""
_LOG = 181


@dataclass(frozen=True, slots=True)
class LogSpec:
    """Everything that logs follow from."""

    seed: int = 0
    num_train: int = 2000
    num_val: int = 100
    num_test: int = 200
    length: int = 240
    """Records of a log."""

    def __post_init__(self) -> None:
        most = len(HOURS) * len(MINUTES)
        if min(self.num_train, self.num_val, self.num_test) < 1 or not 1 <= self.length <= most:
            raise BadOption(f"logs are 1 or more in each split, of 1 to {most} records")


class LogSummary(NamedTuple):
    """What was written."""

    path: Path
    num_logs: int
    seconds: float


def make_log(spec: LogSpec, split: str, number: int) -> list[str]:
    """The records of one log."""
    random = random_stream(spec.seed, _LOG, SPLITS.index(split), number)
    times = _times(random)[: spec.length]
    weathers = random.integers(len(WEATHERS), size=spec.length)
    statuses = random.integers(len(STATUSES), size=spec.length)
    return [
        (
            f"{HOURS[when // len(MINUTES)]} {MINUTES[when % len(MINUTES)]} {WEATHERS[weather]} "
            f"{STATUSES[status]} ;"
        )
        for when, weather, status in zip(times, weathers, statuses, strict=True)
    ]


def _times(random: np.random.Generator) -> np.ndarray:
    """All times of a day in an order: any, hours two by two, or minutes one by one."""
    whole = np.arange(len(HOURS) * len(MINUTES)).reshape(len(HOURS), len(MINUTES))
    way = int(random.integers(3))
    if way == 0:
        return random.permutation(whole.ravel())
    rows = random.permutation(whole if way == 1 else whole.T)
    blocks = rows.reshape(-1, 2 * len(MINUTES)) if way == 1 else rows
    return random.permuted(blocks, axis=1).ravel()


def write_logs(out: str | Path, spec: LogSpec) -> LogSummary:
    """A summary of logs, written into the folder `out`, a JSON object a line, one file a split;
    those that are there already are kept.

    Raises `InputError` and `UnwritableFile`.
    """
    started, folder = time.perf_counter(), Path(out)
    record = {"world": "logs", **asdict(spec)}
    found = claim_folder(folder, record, name="world.json")
    if found is not None and found != record:
        raise InputError(
            f"{str(folder / 'world.json')!r} describes other logs; choose another folder"
        )
    total = 0
    for split in SPLITS:
        num = int(getattr(spec, f"num_{split}"))
        total += num
        file = folder / f"{split}.jsonl"
        if not file.is_file():
            with atomic_write(file, "w") as text:
                text.writelines(
                    json.dumps({"records": make_log(spec, split, number)}) + "\n"
                    for number in range(num)
                )
    return LogSummary(folder, total, time.perf_counter() - started)
