"""A study: a named grid of measurements. Each run's result is a file; what is there is not
measured again, the rest is missing.

A study says which runs it has, what it takes, and which function measures a run; the rest
(resuming, what failed, the table, the plot, the page) is the same for all.
"""

from __future__ import annotations

import importlib
import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from whence.errors import BadOption, UnknownName, WhenceError
from whence.records import check
from whence.runtime import atomic_write, claim_folder, progress
from whence.training.record import versions

Setting = str | int | float | bool
Settings = Mapping[str, Setting]


@dataclass(frozen=True, slots=True)
class StudyOption:
    """Something a study takes: a set, a model, a number. It counts as given where it differs from
    nothing."""

    name: str
    help: str
    default: Setting = ""
    is_needed: bool = False
    """Whether nothing can be measured without it."""


@dataclass(frozen=True, slots=True)
class Run:
    """One measurement: what it is about, by axis, in the order of the table's columns."""

    settings: Settings

    @property
    def key(self) -> str:
        """The name of its file."""
        return re.sub(
            r"[^\w=.,+-]+",
            "_",
            ",".join(f"{axis}={value}" for axis, value in self.settings.items()),
        )


@dataclass(frozen=True, slots=True)
class Value:
    """What was measured, with an interval where there is one."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Measure:
    """A column of the table. Shares in [0, 1] have the unit "%" and are printed as such."""

    name: str
    unit: str = ""


@dataclass(frozen=True, slots=True)
class Plot:
    """What is drawn: measures against an axis or another measure. Runs that agree on `by` are one
    line."""

    x: str
    y: tuple[str, ...]
    by: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Study:
    """A named grid."""

    name: str
    summary: str
    protocol: str
    """What every number rests on; printed beside the table. May name options as {name}."""
    options: tuple[StudyOption, ...]
    grid: Callable[[Settings], Sequence[Run]]
    """The runs, from the resolved options."""
    measured_by: str
    """"module:function" that takes a run's settings, the options and a work folder, and gives
    values by the measures' names."""
    measures: tuple[Measure, ...]
    plot: Plot
    predicted_by: str = ""
    """"module:function" that takes the settings of missing runs, the options and a work folder,
    and gives the seconds they will take; empty where nobody knows before."""


@dataclass(frozen=True, slots=True)
class RunResult:
    """A run with what was measured, or why nothing was."""

    run: Run
    values: Mapping[str, Value] = field(default_factory=dict)
    seconds: float = 0.0
    reason: str = "not run"
    """Why there are no values."""

    @property
    def is_done(self) -> bool:
        return bool(self.values)


@dataclass(frozen=True, slots=True)
class StudyResult:
    """All runs of a study in the order of its grid."""

    study: Study
    options: Settings
    runs: tuple[RunResult, ...]

    @property
    def protocol(self) -> str:
        """The study's protocol with the options filled in."""
        return self.study.protocol.format_map(self.options)


@dataclass(frozen=True, slots=True)
class Budget:
    """What of a study is measured now."""

    only: tuple[str, ...] = ()
    """Shell patterns of runs' keys; without any, all."""
    max_seconds: float | None = None
    """After so many seconds no further run is begun."""
    is_measuring: bool = True
    """Whether missing runs are measured at all."""

    def wants(self, run: Run) -> bool:
        """Whether a run is one of those asked for."""
        return self.is_measuring and (
            not self.only or any(fnmatchcase(run.key, f"*{pattern}*") for pattern in self.only)
        )


def resolve_options(study: Study, settings: Settings) -> dict[str, Setting]:
    """The study's options with defaults filled in. Raises `UnknownName` and `BadOption`."""
    known = {option.name: option for option in study.options}
    for name, value in settings.items():
        if name not in known:
            raise UnknownName(f"option of the study {study.name}", name, known)
        kind = type(known[name].default)
        if kind is str:
            settings = {**settings, name: str(value)}
        else:
            check(float if kind is int else kind, value, name)
    options = {name: settings.get(name, option.default) for name, option in known.items()}
    for name, option in known.items():
        if option.is_needed and options[name] == "":
            raise BadOption(f"the study {study.name} needs the option {name}: {option.help}")
    return options


def run_study(
    study: Study,
    *,
    out: str | Path,
    options: Settings,
    budget: Budget = Budget(),
    show_progress: bool | None = None,
    clock: Callable[[], float] = time.perf_counter,
    announce: Callable[[str], None] = lambda text: None,
) -> StudyResult:
    """All runs of a study in the folder `out`; of those that are missing, as many as a budget
    allows are measured.

    `announce` is told how long the missing runs will take, where the study can predict it. A run
    that raises a `WhenceError` stays missing, with the error as its reason, and the others go on.
    Raises `InputError` and `BadOption` where the folder holds something else.
    """
    folder = Path(out)
    resolved = resolve_options(study, options)
    _claim(folder, study, resolved)
    runs = tuple(study.grid(resolved))
    results = {run.key: read_run(folder, run) for run in runs}
    wanted = [run for run in runs if not results[run.key].is_done and budget.wants(run)]
    if study.predicted_by and wanted:
        announce(_predicted(study, wanted, resolved, folder))
    started = clock()
    with progress(study.name, total=len(wanted), show=show_progress) as advance:
        for run in wanted:
            if budget.max_seconds is not None and clock() - started >= budget.max_seconds:
                break
            results[run.key] = _measure(study, run, resolved, folder, clock)
            advance(1)
    return StudyResult(study, resolved, tuple(results[run.key] for run in runs))


def read_run(folder: Path, run: Run) -> RunResult:
    """The result that the folder holds of a run; a file that is not whole counts as none."""
    try:
        record = json.loads((folder / "cells" / f"{run.key}.json").read_text(encoding="utf-8"))
        if record["settings"] != dict(run.settings):
            return RunResult(run)
        values = {name: Value(**value) for name, value in record["values"].items()}
        return RunResult(run, values, float(record["seconds"]), reason="")
    except (OSError, ValueError, KeyError, TypeError):
        return RunResult(run)


def _predicted(study: Study, runs: Sequence[Run], options: Settings, folder: Path) -> str:
    try:
        seconds: float = _function(study.predicted_by)(
            [run.settings for run in runs], options, folder / "work"
        )
    except WhenceError as error:
        return f"{len(runs)} runs; how long they take cannot be said: {error}"
    return f"{len(runs)} runs, about {seconds / 60:.0f} minutes on this machine as it is now"


def _function(dotted: str) -> Callable[..., Any]:
    module, _, name = dotted.partition(":")
    found: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return found


def _measure(
    study: Study, run: Run, options: Settings, folder: Path, clock: Callable[[], float]
) -> RunResult:
    started = clock()
    try:
        values: Mapping[str, Value] = _function(study.measured_by)(
            run.settings, options, folder / "work"
        )
    except WhenceError as error:
        return RunResult(run, reason=str(error))
    seconds = clock() - started
    record = {
        "study": study.name,
        "settings": dict(run.settings),
        "values": {name: asdict(value) for name, value in values.items()},
        "seconds": seconds,
        "packages": versions(),
    }
    file = folder / "cells" / f"{run.key}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(file, "w") as text:
        text.write(json.dumps(record, indent=1))
    return RunResult(run, values, seconds, reason="")


def _claim(folder: Path, study: Study, options: Settings) -> None:
    """Make the folder this study's, or check that it is. An option that the study did not have yet
    had its default."""
    found = claim_folder(folder, {"study": study.name, "options": dict(options)}, name="study.json")
    if found is None:
        return
    if found.get("study") != study.name:
        what = f"of {found.get('study')!r}"
    else:
        stated = found.get("options")
        values = {one.name: one.default for one in study.options} | (
            stated if isinstance(stated, dict) else {}
        )
        differing = [
            name for name in sorted({*values, *options}) if values.get(name) != options.get(name)
        ]
        if not differing:
            return
        what = f"with other values of {', '.join(differing)}"
    raise BadOption(
        f"{str(folder)!r} holds a study {what}; give the same options, or choose another folder"
    )
