"""Verified answers of an evaluation: the same ones as `locate` gives, and figures that follow from
them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import draw_place, view_of, write_photo
from whence.cli import run
from whence.data.formats import EvaluationSet, read_folders
from whence.errors import BadOption, CalibrationMismatch
from whence.evaluation.answers import AnswerTable, risk_curve, summarize_answers, tabulate_answers
from whence.evaluation.benchmarks import Evaluation, EvaluationOptions, evaluate
from whence.evaluation.html import build_page
from whence.evaluation.page import page_of_evaluation
from whence.evaluation.report import as_records, risk_rows
from whence.localize.calibration_files import packaged_calibrations, to_json
from whence.localize.localizer import Localizer
from whence.localize.rerank_options import RerankOptions
from whence.settings import BuildOptions


@pytest.fixture(scope="module")
def data(street: Path, tmp_path_factory: pytest.TempPathFactory) -> EvaluationSet:
    """The street, with two queries of places its database does not show: one known to be far away,
    one that is a blank wall."""
    root = tmp_path_factory.mktemp("answers") / "set"
    (root / "queries").mkdir(parents=True)
    (root / "database").symlink_to(street / "database")
    for file in (street / "queries").iterdir():
        (root / "queries" / file.name).write_bytes(file.read_bytes())
    write_photo(
        root / "queries" / "@0@0@@@60.5@18.9@far@@@@@@@@.jpg",
        view_of(draw_place(900), shift=3, seed=5),
    )
    write_photo(
        root / "queries" / "@0@0@@@60.6@18.9@blank@@@@@@@@.jpg",
        np.full((200, 320, 3), 128, np.uint8),
    )
    return read_folders(root)


@pytest.fixture(scope="module")
def result(data: EvaluationSet) -> Evaluation:
    return evaluate(
        "rootsift-vlad",
        data,
        options=EvaluationOptions(rerank=RerankOptions()),
        show_progress=False,
    )


def test_the_answers_are_those_of_locate(
    result: Evaluation, data: EvaluationSet, tmp_path: Path
) -> None:
    files = [data.queries.file(q) for q in range(len(data.queries))]
    options = BuildOptions("rootsift-vlad", keep_local=True)
    with Localizer.build(
        data.database.root, path=tmp_path / "a.whence", options=options, show_progress=False
    ) as localizer:
        expected = list(localizer.locate_many(files, show_progress=False))
    assert len(result.answers) == len(expected) == 26
    for ours, theirs in zip(result.answers, expected, strict=True):
        assert (ours.status, ours.radius_m, ours.confidence) == (
            theirs.status,
            theirs.radius_m,
            theirs.confidence,
        )
        assert (ours.point, ours.heading_deg, ours.is_verified) == (
            theirs.point,
            theirs.heading_deg,
            True,
        )
        assert [one.num_inliers for one in ours.candidates] == [
            one.num_inliers for one in theirs.candidates
        ]
        assert {"describe", "search", "rerank", "verify"} == set(ours.seconds)
        assert all(spent >= 0 for spent in ours.seconds.values())
    assert result.unverified_reason == ""


def test_the_figures_follow_from_the_answers(result: Evaluation) -> None:
    table = tabulate_answers(result)
    summary = summarize_answers(table)
    assert (summary.num_queries, summary.num_covered, summary.num_uncovered) == (26, 24, 2)
    assert summary.num_located == sum(one.status == "located" for one in result.answers) > 20
    assert (summary.num_wrong, summary.num_uncovered_unknown) == (0, 2)
    assert summary.share_inside > 0.9
    assert 0 < summary.median_radius_m < 60
    record = json.loads(json.dumps(as_records(result)["answers"]))
    assert record["num_located"] == summary.num_located
    assert record["share_uncovered_unknown"] == 1
    assert [one["status"] for one in record["queries"]] == [one.status for one in result.answers]
    assert [row[0] for row in risk_rows(result)[1:3]] == ["10 %", "20 %"]


def test_figures_by_hand() -> None:
    bools, nan = (lambda *values: np.array(values, bool)), np.nan
    table = AnswerTable(
        is_answered=bools(1, 1, 0, 1, 0),
        is_right=bools(1, 0, 1, 0, 0),
        is_first_right=bools(1, 0, 1, 0, 0),
        is_covered=bools(1, 1, 1, 0, 0),
        confidences=np.array([0.95, 0.95, 0.55, 0.95, 0.0]),
        errors_m=np.array([4.0, 40.0, nan, 500.0, nan]),
        radii_m=np.array([5.0, 6.0, nan, 7.0, nan]),
    )
    summary = summarize_answers(table)
    assert (summary.num_located, summary.num_wrong, summary.num_covered) == (2, 1, 3)
    assert (summary.num_inside, summary.num_with_radius, summary.median_radius_m) == (1, 2, 5.5)
    assert (
        summary.num_uncovered_unknown,
        summary.num_uncovered,
        summary.share_uncovered_unknown,
    ) == (1, 2, 0.5)
    # Bins: three at 0.95 of which a third is right, one at 0.55 that is right, one at 0 that is
    # not.
    assert summary.calibration_error == pytest.approx((3 * (0.95 - 1 / 3) + 0.45) / 5)
    joined = summarize_answers(AnswerTable.joined([table, table]))
    assert (joined.num_located, joined.share_inside) == (4, summary.share_inside)
    empty = summarize_answers(AnswerTable(*(column[:0] for column in table)))
    assert np.isnan(empty.share_inside)
    assert np.isnan(empty.median_radius_m)


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), max_size=30))
def test_the_risk_curve_is_what_thresholds_would_give(pairs: list[tuple[int, bool]]) -> None:
    confidences, is_right = (
        np.array([one / 5 for one, _ in pairs]),
        np.array([right for _, right in pairs], bool),
    )
    curve = risk_curve(confidences, is_right)
    assert len(curve.coverages) == len({one for one, _ in pairs if one})
    for coverage, risk, limit in zip(*curve, strict=True):
        answered = [right for one, right in zip(confidences, is_right, strict=True) if one >= limit]
        assert coverage == pytest.approx(len(answered) / len(pairs))
        assert risk == pytest.approx(1 - np.mean(answered))
    assert (np.diff(curve.coverages) > 0).all()
    at = curve.at(0.5)
    assert (at is None) == (not len(curve.coverages) or curve.coverages[-1] < 0.5 - 1e-9)


def test_the_page_shows_answers_and_the_curve(result: Evaluation) -> None:
    page = page_of_evaluation(result)
    verdicts = {entry.position.query: entry.is_right for entry in page.entries}
    assert all(
        verdicts[one.query] is (None if one.status == "unknown" else True) for one in result.answers
    )
    located = next(entry for entry in page.entries if entry.position.status == "located")
    assert located.position.radius_m is not None
    assert located.position.confidence is not None
    assert located.position.seconds["rerank"] > 0
    assert page.tables[0].caption == "Verified answers"
    drawn = ElementTree.fromstring(page.drawings[0].svg)
    titles = [title.text for title in drawn.iter("{http://www.w3.org/2000/svg}title")]
    assert len(titles) == len(list(drawn.iter("{http://www.w3.org/2000/svg}circle"))) > 1
    assert all("% answered" in str(title) for title in titles)
    text = build_page(page)
    assert "<summary>Coverage against risk" in text
    assert page.drawings[0].svg in text


def test_a_calibration_file_is_used_and_a_foreign_one_refused(
    data: EvaluationSet, result: Evaluation, tmp_path: Path
) -> None:
    ours = next(
        one for one in packaged_calibrations() if one.key.descriptor.startswith("rootsift-vlad")
    )
    strict, foreign = tmp_path / "strict.json", tmp_path / "foreign.json"
    strict.write_text(to_json(replace(ours, min_confidence=0.99999)))
    foreign.write_text(to_json(replace(ours, key=replace(ours.key, settings="other"))))
    few = replace(data, queries=data.queries.select(np.arange(3)))
    options = EvaluationOptions(
        rerank=RerankOptions(), calibration=strict, work_folder=tmp_path / "work"
    )
    for again in (False, True):
        stern = evaluate("rootsift-vlad", few, options=options, show_progress=False)
        assert [one.status for one in stern.answers] == ["unknown"] * 3
        assert [one.best_guess is not None for one in stern.answers] == [True] * 3
        # A work folder that is filled in batches does not know each photo's time.
        assert all(("describe" in one.seconds) is False for one in stern.answers), again
    with pytest.raises(CalibrationMismatch, match="foreign"):
        evaluate(
            "rootsift-vlad", few, options=replace(options, calibration=foreign), show_progress=False
        )
    with pytest.raises(BadOption):
        EvaluationOptions(calibration=strict)


def test_without_a_calibration_the_report_says_so(
    street: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["evaluate", str(street), "--rerank", "inliers", "--set", "num_candidates=3", "-q"]
    assert run([*arguments, "--option", "max_keypoints=500"]) in (0, 1)
    capsys.readouterr()
    assert run([*arguments, "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["answers"]["num_located"] > 20
    assert run(arguments) == 0
    text = capsys.readouterr().out
    assert "expected calibration error" in text
    assert "true place inside the radius" in text
