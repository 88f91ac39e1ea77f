"""Models that come without a calibration: one is fitted on the database's own photos where it can
be, else answers say so."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from conftest import draw_place, view_of, write_photo, write_street
from whence.cli import run
from whence.errors import CalibrationMismatch, NoPhotos
from whence.evaluation import confidence, own_calibration
from whence.evaluation.confidence import calibrate_sample, check_askable
from whence.evaluation.trials import count_askable, trials_of_sample, usable_rows
from whence.index.store import Store
from whence.localize import calibration_files
from whence.localize.calibration_files import stored_calibration
from whence.localize.localizer import Localizer, LocateOptions
from whence.localize.rerank_options import RerankOptions
from whence.settings import BuildOptions

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """30 places 60 m apart, each photographed twice."""
    root = tmp_path_factory.mktemp("town")
    for run_number, shift in ((0, 0), (1, 12)):
        write_street(root, num_places=30, shift=shift, run=run_number)
    return root


@pytest.fixture
def nothing_packaged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration_files, "packaged_calibrations", tuple)


def query_of(folder: Path, place: int) -> str:
    return str(
        write_photo(folder / f"query{place}.jpg", view_of(draw_place(place), shift=25, seed=5))
    )


@pytest.mark.usefixtures("nothing_packaged")
def test_index_calibrates_a_model_that_comes_without(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setattr(own_calibration, "SHARE_OF_DESCRIBING", 100.0)
    database = str(tmp_path / "a.whence")
    assert run(["index", str(photos), "--db", database, "--set", "keep_local=true", "--json"]) == 0
    assert "calibrated on" in json.loads(capsys.readouterr().out)["calibration"]
    with Store.open(database) as store:
        own = stored_calibration(store)
    assert own is not None
    assert min(own.num_genuine, own.num_impostors) >= 20
    assert "own photos" in own.source
    assert run(["locate", query_of(tmp_path, 8), "--db", database, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["status"], answer["is_verified"]) == ("located", True)
    assert run(["locate", query_of(tmp_path, 999), "--db", database, "--json"]) == 3
    capsys.readouterr()
    # Once it is there nothing is fitted again.
    write_street(photos.parent / "more", num_places=2, shift=3, run=7)
    monkeypatch.setattr(confidence, "trials_of_sample", None)
    assert run(["index", str(photos.parent / "more"), "--db", database, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["calibration"] == ""


@pytest.mark.usefixtures("nothing_packaged")
@pytest.mark.parametrize("flags", [["--no-calibrate"], []])
def test_without_a_calibration_answers_are_given_as_not_verified(
    photos: Path, tmp_path: Path, flags: list[str], monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setattr(own_calibration, "SHARE_OF_DESCRIBING", 0.0)
    database = str(tmp_path / "a.whence")
    assert (
        run(["index", str(photos), "--db", database, "--set", "keep_local=true", "--json", *flags])
        == 0
    )
    said = json.loads(capsys.readouterr().out)["calibration"]
    assert said == "" if flags else "answers will not be verified" in said
    query, page = query_of(tmp_path, 8), tmp_path / "page.html"
    outputs = [
        "--report",
        str(page),
        "--csv",
        str(tmp_path / "a.csv"),
        "--geojson",
        str(tmp_path / "a.geojson"),
    ]
    assert run(["locate", query, "--db", database, "--json", *outputs]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["status"], answer["is_verified"], answer["confidence"]) == (
        "located",
        False,
        None,
    )
    assert "not verified" in answer["reason"]
    assert "whence calibrate" in answer["reason"]
    assert answer["candidates"][0]["num_inliers"] > 20
    assert "not verified" in page.read_text()
    (row,) = csv.DictReader((tmp_path / "a.csv").read_text().splitlines())
    assert (row["is_verified"], row["confidence"]) == ("false", "")
    (feature,) = json.loads((tmp_path / "a.geojson").read_text())["features"]
    assert feature["properties"]["is_verified"] is False
    assert run(["locate", query, "--db", database]) == 0
    shown = capsys.readouterr()
    assert "located (not verified)" in shown.out
    assert "whence calibrate" in shown.err
    assert run(["locate", query, query_of(tmp_path, 9), "--db", database, "-q"]) == 0
    shown = capsys.readouterr()
    assert shown.out.count("located (not verified)") == 2
    assert shown.err.count("whence calibrate") == 1
    # What only a calibration can give is an error, with what to do.
    for needed in (["--set", "min_confidence=0.9"], ["--set", "when_unsure=0.8"]):
        assert run(["locate", query, "--db", database, *needed]) == 1
        assert "whence calibrate" in capsys.readouterr().err


def test_a_scorer_that_counts_no_inliers_is_not_verified(photos: Path, tmp_path: Path) -> None:
    with Localizer.build(
        photos, path=tmp_path / "a.whence", options=BuildOptions(keep_local=True)
    ) as localizer:
        answer = localizer.locate(
            query_of(tmp_path, 8), options=LocateOptions(rerank=RerankOptions("rapid"))
        )
    assert (answer.status, answer.is_verified) == ("located", False)
    assert "counts no inliers" in answer.reason


def test_a_sample_asks_within_its_time(photos: Path, tmp_path: Path) -> None:
    ticks = iter(range(1000))
    with Localizer.build(
        photos, path=tmp_path / "a.whence", options=BuildOptions(keep_local=True)
    ) as localizer:
        whole = trials_of_sample(localizer)
        assert len(whole.gaps_m) == 80
        assert whole.is_covered.sum() == 40
        assert whole.counts[0] >= 35
        assert whole.counts[1] == 40
        cut = trials_of_sample(localizer, max_seconds=5, clock=lambda: float(next(ticks)))
        assert len(cut.gaps_m) == 2 * 4
        found = calibrate_sample(localizer, max_seconds=0.0)
        assert found.calibration is not None, "the packaged one"
        assert not found.is_new


def test_what_a_database_lacks_is_said_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    write_street(tmp_path / "photos", num_places=30, shift=0, run=0)
    database = str(tmp_path / "a.whence")
    assert run(["index", str(tmp_path / "photos"), "--db", database, "--quiet"]) == 0
    monkeypatch.setattr("whence.evaluation.trials.rerank", None)
    assert run(["calibrate", "--db", database]) == 1
    said = capsys.readouterr().err
    assert "0 photos have another within 25 m and 30 have one more than 100 m away" in said
    assert "at least 20 of each" in said
    with Localizer.open(database) as localizer, pytest.raises(NoPhotos):
        check_askable(localizer)


def test_photos_that_can_ask_are_counted(photos: Path, tmp_path: Path) -> None:
    with Localizer.build(
        photos, path=tmp_path / "a.whence", options=BuildOptions(keep_local=True)
    ) as localizer:
        rows = usable_rows(localizer)
        assert count_askable(localizer, rows) == (60, 60)
        lat = localizer.photos.columns["lat"]
        one_place = rows[np.abs(lat[rows] - lat[rows[0]]) < 1e-6]
        assert count_askable(localizer, one_place[:1]) == (0, 0)


@pytest.mark.usefixtures("nothing_packaged")
def test_the_library_says_what_it_cannot_verify(photos: Path, tmp_path: Path) -> None:
    with Localizer.build(
        photos, path=tmp_path / "a.whence", options=BuildOptions(keep_local=True)
    ) as localizer:
        answers = list(
            localizer.locate_many(
                [query_of(tmp_path, 3), query_of(tmp_path, 999)], show_progress=False
            )
        )
        assert [one.is_verified for one in answers] == [False, False]
        assert all("whence calibrate" in one.reason for one in answers)
        with pytest.raises(CalibrationMismatch):
            localizer.locate(query_of(tmp_path, 3), options=LocateOptions(min_confidence=0.9))
