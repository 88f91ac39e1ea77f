"""Studies: what is measured is kept, what is not is printed as missing, and nothing is measured
twice."""

from __future__ import annotations

import io
import json
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from rich.console import Console

from study_samples import MEASURED, SAMPLE
from whence import studies
from whence.cli import run
from whence.errors import BadOption, InputError, UnknownName
from whence.studies import get_study, list_studies
from whence.studies.frame import Budget, Run, StudyResult, resolve_options, run_study
from whence.studies.plots import draw_plot
from whence.studies.tables import as_markdown, as_page, as_records, as_table, rows_of

OPTIONS = {"data": "set"}


@pytest.fixture(autouse=True)
def nothing_measured() -> None:
    MEASURED.clear()


def run_sample(out: Path, budget: Budget | None = None) -> StudyResult:
    return run_study(
        SAMPLE, out=out, options=OPTIONS, budget=budget or Budget(), show_progress=False
    )


def text_of(result: StudyResult) -> str:
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(as_table(result))
    return console.export_text()


def test_runs_are_measured_once_and_failures_are_told(tmp_path: Path) -> None:
    first = run_sample(tmp_path / "s")
    assert [found.is_done for found in first.runs] == [True, True, True, True, False, False]
    assert len(MEASURED) == 6
    assert first.runs[1].values["recall@1"].value == 0.5
    assert "cannot be done" in first.runs[4].reason
    assert "cannot be done" in text_of(first)
    assert "5 parts of set" in text_of(first)
    assert "4 of 6 runs measured, 2 missing" in text_of(first)
    MEASURED.clear()
    again = run_sample(tmp_path / "s")
    assert MEASURED == ["method=impossible,k=1.0", "method=impossible,k=2.5"], (
        "what failed is tried again, nothing else"
    )
    assert again.runs[:4] == first.runs[:4]


def test_a_budget_leaves_runs_missing(tmp_path: Path) -> None:
    only = run_sample(tmp_path / "s", Budget(only=("new*k=2",)))
    assert len(MEASURED) == 1
    assert [found.is_done for found in only.runs] == [False, False, False, True, False, False]
    assert "not run" in text_of(only)
    none = run_sample(tmp_path / "s", Budget(is_measuring=False))
    assert len(MEASURED) == 1
    assert sum(found.is_done for found in none.runs) == 1
    seconds = iter([0.0, 0.0, 0.0, 4.0, 5.0, 5.0, 9.0, 11.0])
    timed = run_study(
        SAMPLE,
        out=tmp_path / "t",
        options=OPTIONS,
        budget=Budget(max_seconds=10),
        show_progress=False,
        clock=lambda: next(seconds),
    )
    assert [found.seconds for found in timed.runs if found.is_done] == [4.0, 4.0]


def test_broken_and_foreign_files_count_as_missing(tmp_path: Path) -> None:
    result = run_sample(tmp_path / "s")
    files = sorted((tmp_path / "s" / "cells").glob("*.json"))
    assert len(files) == 4
    files[0].write_text(files[0].read_text()[:40])
    record = json.loads(files[1].read_text())
    files[1].write_text(json.dumps({**record, "settings": {**record["settings"], "k": 7}}))
    MEASURED.clear()
    assert run_sample(tmp_path / "s", Budget(only=("plain", "new"))).runs[:4] != ()
    assert len(MEASURED) == 2
    assert [found.values for found in run_sample(tmp_path / "s").runs] == [
        found.values for found in result.runs
    ]


def test_a_folder_is_one_study_s(tmp_path: Path) -> None:
    run_sample(tmp_path / "s", Budget(is_measuring=False))
    with pytest.raises(BadOption, match="parts"):
        run_study(SAMPLE, out=tmp_path / "s", options={**OPTIONS, "parts": 6}, show_progress=False)
    stated = json.loads((tmp_path / "s" / "study.json").read_text())
    del stated["options"]["parts"]
    (tmp_path / "s" / "study.json").write_text(json.dumps(stated))
    run_sample(tmp_path / "s", Budget(is_measuring=False))
    (tmp_path / "s" / "study.json").write_text("{}")
    with pytest.raises(BadOption, match="another folder"):
        run_sample(tmp_path / "s")
    (tmp_path / "s" / "study.json").write_text("{")
    with pytest.raises(InputError, match=r"study\.json"):
        run_sample(tmp_path / "s")
    with pytest.raises(InputError, match="not an empty folder"):
        run_sample(tmp_path)


def test_options_are_checked() -> None:
    assert resolve_options(SAMPLE, {"data": 7}) == {"data": "7", "parts": 5}
    with pytest.raises(BadOption, match="needs the option data"):
        resolve_options(SAMPLE, {})
    with pytest.raises(UnknownName, match="parts"):
        resolve_options(SAMPLE, {"part": 3})
    for value in ("many", True):
        with pytest.raises(BadOption, match="parts is a number"):
            resolve_options(SAMPLE, {**OPTIONS, "parts": value})


def test_tables_and_pages(tmp_path: Path) -> None:
    result = run_sample(tmp_path / "s")
    header, *rows = rows_of(result)
    assert header == ("method", "k", "recall@1", "time"), "what no run has is no column"
    assert rows[0] == ("plain", "1", "20.0 % [10.0, 30.0]", "4 ms")
    assert rows[4] == ("impossible", "1", "it cannot be done | at all", "")
    lines = as_markdown(result).splitlines()
    assert "| plain | 1 | 20.0 % [10.0, 30.0] | 4 ms |" in lines
    assert r"| impossible | 1 | it cannot be done \| at all |  |" in lines
    page = as_page(result)
    assert "&lt;new&gt;" in page
    assert "<new>" not in page
    outside = page.replace('xmlns="http://www.w3.org/2000/svg"', "")
    assert not re.search("https?:", outside)
    assert "default-src" in outside, "the page has a policy of its own"
    records = as_records(result)
    assert json.loads(json.dumps(records)) == records
    assert [run["is_done"] for run in records["cells"]] == [True] * 4 + [False] * 2


def test_the_plot_has_every_measured_point(tmp_path: Path) -> None:
    drawn = ElementTree.fromstring(draw_plot(run_sample(tmp_path / "s")))
    circles = drawn.findall("{*}circle")
    assert len(circles) == 4 + 2, "points, and the key's two methods"
    heights = [
        float(circle.get("cy", "")) for circle in circles if float(circle.get("cx", "")) < 480
    ]
    assert len(set(heights)) == 2, "two values, drawn alike for both methods"
    assert max(heights) - min(heights) > 50
    assert draw_plot(run_sample(tmp_path / "t", Budget(is_measuring=False))) == ""


def test_names_are_places_too(tmp_path: Path) -> None:
    from dataclasses import replace

    from whence.studies.frame import Plot

    result = run_sample(tmp_path / "s", Budget(only=("plain",)))
    drawn = draw_plot(
        replace(result, study=replace(SAMPLE, plot=Plot(x="method", y=("recall@1", "time"))))
    )
    assert "rotate" in drawn
    assert ">plain<" in drawn
    assert ">time<" in drawn


def test_every_study_is_a_grid_of_different_runs() -> None:
    assert {"geowarp-ablation", "geowarp-k", "geowarp-rivals"} <= set(list_studies())
    for name in list_studies():
        study = get_study(name)
        options = resolve_options(
            study, {option.name: "x" for option in study.options if option.is_needed}
        )
        runs = study.grid(options)
        assert len({run.key for run in runs}) == len(runs) > 0
        assert study.protocol.format_map(options)
        assert set(study.plot.y) <= {measure.name for measure in study.measures}
        axes = {axis for run in runs for axis in run.settings}
        assert {study.plot.x} <= axes | {measure.name for measure in study.measures}
        assert all(option.help for option in study.options)
    with pytest.raises(UnknownName, match="geowarp-k"):
        get_study("geowarp-kk")


def test_keys_are_file_names() -> None:
    assert Run({"a": "x/y z", "b": 0.5}).key == "a=x_y_z,b=0.5"


def test_the_verb(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(studies.STUDIES, "sample", SAMPLE)
    assert run(["study"]) == 0
    assert "geowarp-rivals" in capsys.readouterr().out
    assert run(["study", "--json"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(list_studies())
    assert run(["study", "sample"]) == 1
    assert "--out" in capsys.readouterr().err
    given = ["study", "sample", "--out", str(tmp_path / "s"), "--option", "data=set", "-q"]
    assert (
        run(
            [
                *given,
                "--only",
                "plain",
                "--markdown",
                str(tmp_path / "t.md"),
                "--report",
                str(tmp_path / "t.html"),
            ]
        )
        == 0
    )
    assert "2 of 6 runs" in capsys.readouterr().out
    assert "not run" in (tmp_path / "t.md").read_text()
    assert "<svg" in (tmp_path / "t.html").read_text()
    assert run([*given, "--no-run", "--json"]) == 0
    assert sum(run["is_done"] for run in json.loads(capsys.readouterr().out)["cells"]) == 2
    assert len(MEASURED) == 2
    impossible = [
        "study",
        "sample",
        "--out",
        str(tmp_path / "i"),
        "--option",
        "data=set",
        "-q",
        "--only",
        "impossible",
    ]
    assert run(impossible) == 1, "nothing could be measured"
    assert run(["study", "sampel", "--out", "x"]) == 1
    assert "sample" in capsys.readouterr().err
