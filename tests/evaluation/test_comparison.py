"""Comparisons on the same queries: the paired bootstrap against counting all draws, tables,
records, pages; costs and frugality."""

from __future__ import annotations

import itertools
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whence import cli
from whence.data.formats import read_folders
from whence.data.predictions import write_predictions
from whence.errors import BadOption
from whence.evaluation.benchmarks import EvaluationOptions, evaluate
from whence.evaluation.comparison import compare, paired_bootstrap
from whence.evaluation.comparison_report import (
    difference_rows,
    plots_of,
    recall_rows,
    write_comparison,
)
from whence.evaluation.foreign import evaluate_predictions
from whence.models.descriptor import load_model
from whence.web.plots import PlotPoint, draw_points


def every_draw(first: np.ndarray, second: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """The difference of means in every one of the G^G equally likely draws of groups."""
    labels = np.unique(groups)
    means = []
    for drawn in itertools.product(labels, repeat=len(labels)):
        rows = np.concatenate([np.flatnonzero(groups == label) for label in drawn])
        means.append(first[rows].mean() - second[rows].mean())
    return np.array(means)


@pytest.mark.parametrize("groups", [None, np.array([0, 0, 1, 2, 2])], ids=["queries", "streets"])
def test_the_paired_bootstrap_is_the_count_of_all_draws(groups: np.ndarray | None) -> None:
    random = np.random.default_rng(2)
    first, second = random.random(5), random.random(5)
    means = every_draw(first, second, np.arange(5) if groups is None else groups)
    found = paired_bootstrap(first, second, groups=groups, num_draws=40_000)
    assert found.value == pytest.approx(first.mean() - second.mean())
    below, above = (means < -1e-12).mean(), (means > 1e-12).mean()
    at = 1 - below - above
    assert found.p == pytest.approx(
        min(1, 2 * (min(below, above) + at / 2)), abs=4 * np.sqrt(0.25 / 40_000) * 2
    )
    # Between the quantiles lies what should lie between them, whatever rounding to a draw does at
    # the edges.
    assert ((means >= found.low - 1e-12) & (means <= found.high + 1e-12)).mean() >= 0.95 - 0.01
    assert (means < found.low - 1e-12).mean() <= 0.025 + 0.005
    assert (means > found.high + 1e-12).mean() <= 0.025 + 0.005


@settings(max_examples=50, deadline=None)
@given(
    pairs=st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=200),
    seed=st.integers(0, 99),
)
def test_properties_of_the_paired_bootstrap(pairs: list[tuple[bool, bool]], seed: int) -> None:
    first, second = (np.array(side) for side in zip(*pairs, strict=True))
    found = paired_bootstrap(first, second, num_draws=500, seed=seed)
    other = paired_bootstrap(second, first, num_draws=500, seed=seed)
    assert found.value == pytest.approx(-other.value)
    assert found.value == pytest.approx(first.mean() - second.mean())
    assert -1 <= found.low <= found.high <= 1
    assert 0 <= found.p <= 1
    same = paired_bootstrap(first, first, num_draws=500, seed=seed)
    assert (same.value, same.low, same.high, same.p) == (0, 0, 0, 1)
    order = np.random.default_rng(seed).permutation(len(first))
    assert paired_bootstrap(first[order], second[order], num_draws=500, seed=seed) == found, (
        "the order of queries means nothing"
    )
    each = paired_bootstrap(first, second, groups=np.arange(len(first)), num_draws=500, seed=seed)
    assert each == found, "groups of one are queries"


def test_a_sure_difference_is_sure() -> None:
    found = paired_bootstrap(np.ones(100), np.zeros(100))
    assert (found.low, found.high, found.p) == (1, 1, 0)
    with pytest.raises(BadOption, match="same queries"):
        paired_bootstrap(np.ones(3), np.ones(4))


def test_pairing_is_narrower_than_not() -> None:
    """Where both models fail on the same queries, the difference is known better than each
    recall."""
    random = np.random.default_rng(0)
    first = random.random(400) < 0.5
    second = first.copy()
    second[:12] = False
    found = paired_bootstrap(first, second)
    assert found.high - found.low < 0.04
    assert found.low >= 0


@pytest.fixture(scope="module")
def saved(street: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Predictions of a model, and the same turned around, as files."""
    folder = tmp_path_factory.mktemp("saved")
    result = evaluate("rootsift-vlad", read_folders(street))
    write_predictions(folder / "good.csv", result.ranked())
    result.predictions[:] = result.predictions[::-1]
    write_predictions(folder / "bad.csv", result.ranked())
    return folder


def test_models_and_predictions_are_compared(
    street: Path, saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [str(saved / "bad.csv"), str(saved / "good.csv"), "rootsift-vlad"]
    report = tmp_path / "report.md"
    assert cli.run(["compare", str(street), *names, "--json", "--report", str(report)]) == 0
    record = json.loads(capsys.readouterr().out)
    assert [entry["model"] for entry in record["models"]] == names
    recalls = [entry["recalls"][0]["recall"] for entry in record["models"]]
    assert recalls[1] == recalls[2] > recalls[0]
    pairs = {(one["first"], one["second"], one["n"]): one for one in record["differences"]}
    assert len(pairs) == 3 * 4
    same, better = pairs[names[2], names[1], 1], pairs[names[1], names[0], 1]
    assert (same["value"], same["p"]) == (0, 1)
    assert better["value"] == pytest.approx(recalls[1] - recalls[0])
    assert better["low"] > 0
    assert record["models"][0]["cost"] is None
    cost = record["models"][2]["cost"]
    assert cost["descriptor_bytes"] == 4 * cost["dim"] == 4 * 8192
    assert cost["index_bytes"] == cost["descriptor_bytes"] * record["num_database"]
    assert cost["describe_ms"] > 0
    assert cost["peak_bytes"] > 1e6
    text = report.read_text()
    for picture in ("dimension", "time", "memory"):
        assert (tmp_path / f"report-{picture}.svg").read_text().startswith("<svg")
        assert f"report-{picture}.svg" in text
    assert record["protocol"] in text
    page = tmp_path / "report.html"
    assert cli.run(["compare", str(street), *names, "--report", str(page)]) == 0
    shown = capsys.readouterr().out
    assert "recall@10" in shown
    assert ", p 0.0" in shown
    assert page.read_text().count("<svg") == 3
    assert "http:" not in re.sub(r"http://www.w3.org/2000/svg", "", page.read_text())


def test_what_cannot_be_compared_is_said(
    street: Path, saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = str(saved / "good.csv")
    for words, said in (
        ([good], "two models"),
        ([good, good, "--report", str(tmp_path / "a.txt")], ".html or .md"),
    ):
        assert cli.run(["compare", str(street), *words]) == 1
        assert said in capsys.readouterr().err
    data = read_folders(street)
    result = evaluate_predictions((), data, name="none")
    fewer = read_folders(street)
    other = evaluate_predictions(
        (), type(data)(data.name, fewer.database.select(np.arange(5)), fewer.queries), name="fewer"
    )
    with pytest.raises(BadOption, match="other photos"):
        compare([result, other])
    twice = compare([result, result])
    assert [model.name for model in twice.models] == ["none", "none (2)"]
    assert plots_of(twice) == {}
    assert recall_rows(twice)[1][-1] == "-"
    assert len(difference_rows(twice)) == 2
    with pytest.raises(BadOption, match=r"\.md"):
        write_comparison(tmp_path / "x.pdf", twice)


def test_plots_hold_names_and_numbers() -> None:
    assert draw_points({}, caption="") == ""
    numbers = draw_points(
        {"<a>": [PlotPoint(1.0, 2.0, 1.0, 3.0), PlotPoint(100.0, 3.0)]},
        caption="c & d",
        has_log=True,
    )
    assert "&lt;a&gt;" in numbers
    assert "c &amp; d" in numbers
    assert numbers.count("<circle") == 3
    named = draw_points({"a": [PlotPoint("x", 2.0), PlotPoint("y", 2.0)]}, caption="c")
    assert 'fill="none"' not in named


def test_frugal_evaluation_gives_the_same(street: Path, tmp_path: Path) -> None:
    data, model = read_folders(street), load_model("rootsift-vlad")
    plain = evaluate(model, data)
    for work in (None, tmp_path):
        frugal = evaluate(model, data, options=EvaluationOptions(is_frugal=True, work_folder=work))
        assert np.array_equal(frugal.predictions, plain.predictions)
        assert np.array_equal(frugal.similarities, plain.similarities)
    assert not [file for file in tmp_path.iterdir() if file.suffix != ".whence"], (
        "nothing is left behind"
    )
    assert plain.cost is not None
    assert frugal.cost is not None
    assert plain.cost.describe_ms is not None
    assert frugal.cost.describe_ms is None, "the work folder may have held them"


def test_frugal_descriptors_lie_in_a_file(street: Path) -> None:
    from whence.evaluation.describing import SetDescriber, finite_rows

    model = load_model("rootsift-vlad")
    model.load_packaged()
    run = SetDescriber(model, None, False, is_frugal=True)
    found = run.describe(read_folders(street).database, "database")
    assert isinstance(found, np.memmap)
    assert finite_rows(found).all()
    assert not finite_rows(np.array([[np.nan, 1.0]])).any()


def test_fitted_on_other_photos(street: Path) -> None:
    data = read_folders(street)
    own = evaluate("rootsift-vlad", data, options=EvaluationOptions(fit_folder=street / "queries"))
    assert own.vocabulary == "none", "the model came fitted"


def test_peak_memory_sees_what_is_used() -> None:
    """In a process of its own: in one that has freed much, a new array may lie where memory is in
    use already."""
    code = (
        "import numpy as np\n"
        "from whence.evaluation.cost import PeakMemory\n"
        "memory = PeakMemory()\n"
        "before = memory.peak_bytes()\n"
        "block = np.ones(40_000_000, np.uint8)\n"
        "print(memory.peak_bytes() - before)"
    )
    grown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(grown.stdout) >= 0.8 * 40_000_000


def test_a_page_of_the_wrong_answers_alone(street: Path, saved: Path, tmp_path: Path) -> None:
    page = tmp_path / "wrong.html"
    for name, num_right in (("good", 24), ("bad", 0)):
        words = [
            "evaluate",
            str(street),
            "--predictions",
            str(saved / f"{name}.csv"),
            "--report",
            str(page),
            "--only-wrong",
        ]
        assert cli.run(words) == 0
        assert f"{num_right} queries whose answer is right are left out here" in page.read_text(
            encoding="utf-8"
        )
    assert (
        cli.run(["evaluate", str(street), "--predictions", str(saved / "good.csv"), "--only-wrong"])
        == 1
    )
