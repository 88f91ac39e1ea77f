"""A small study for `test_studies`: runs that give numbers, one that cannot be measured, and a
record of what was measured."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from whence.errors import BadOption
from whence.studies.frame import Measure, Plot, Run, Setting, Study, StudyOption, Value

MEASURED: list[str] = []
"""Keys of the runs that were measured, in order."""


def measure(
    run: Mapping[str, Setting], options: Mapping[str, Setting], work: Path
) -> dict[str, Value]:
    MEASURED.append(Run(run).key)
    work.mkdir(parents=True, exist_ok=True)
    if run["method"] == "impossible":
        raise BadOption("it cannot be done | at all")
    share = float(run["k"]) / int(options["parts"])
    return {
        "recall@1": Value(share, share - 0.1, share + 0.1),
        "time": Value(3.0 + float(run["k"])),
    }


def grid(options: Mapping[str, Setting]) -> list[Run]:
    return [
        Run({"method": method, "k": k})
        for method in ("plain", "<new>", "impossible")
        for k in (1.0, 2.5)
    ]


SAMPLE = Study(
    name="sample",
    summary="a study of nothing",
    protocol="{parts} parts of {data}",
    options=(StudyOption("data", "a set", is_needed=True), StudyOption("parts", "how many", 5)),
    grid=grid,
    measured_by="study_samples:measure",
    measures=(Measure("recall@1", "%"), Measure("never measured"), Measure("time", "ms")),
    plot=Plot(x="k", y=("recall@1",), by=("method",)),
)
