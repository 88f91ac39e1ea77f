"""The study of re-ranking: what each run counts, that comparisons are made once, and what it says
where it cannot measure."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from whence.cli import run
from whence.data.images import load_image
from whence.errors import BadOption, UnreadableTable
from whence.localize.unsure import SURE_FEATURES
from whence.studies import get_study, rerank_runs
from whence.studies.frame import resolve_options
from whence.studies.pictures import GREEN, RED, TILE_PX, Change, draw_changes
from whence.studies.rerank_runs import Comparisons, measure_order, queries_under
from whence.studies.shortlists import Shortlists, read_set

METHOD = {"method": "inliers", "condition": "all"}


@pytest.fixture(scope="module")
def swapped(street: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The street with 12 of its 24 queries said to lie where another was taken, and a table of
    conditions."""
    root = tmp_path_factory.mktemp("swapped")
    shutil.copytree(street / "database", root / "database")
    (root / "queries").mkdir()
    files = sorted((street / "queries").iterdir())
    for i, file in enumerate(files):
        shutil.copy(file, root / "queries" / (file if i % 2 else files[(i + 6) % 24]).name)
    lines = [
        f"queries/{file.name},c,s{i // 3},{'night' if i < 10 else 'day'}"
        for i, file in enumerate(files)
    ]
    (root / "cameras.csv").write_text("\n".join(["path,city,street,condition", *lines]))
    return root


def options_for(root: Path, **more: object) -> dict[str, object]:
    return resolve_options(get_study("rerank"), {"data": str(root), "candidates": 4, **more})  # type: ignore[dict-item]


@pytest.fixture(scope="module")
def measured(
    swapped: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, object]]:
    """A work folder in which the inliers are compared already."""
    work = tmp_path_factory.mktemp("work")
    options = options_for(swapped)
    measure_order(METHOD, options, work)
    return work, options


def test_plain_retrieval_is_the_base(measured: tuple[Path, dict[str, object]]) -> None:
    work, options = measured
    found = measure_order({"method": "no re-ranking", "condition": "all"}, options, work)
    assert found["recall@1"].value == 0.5
    assert (found["helped"].value, found["hurt"].value, found["queries"].value) == (0, 0, 24)
    assert "time" not in found


def test_comparisons_are_made_once(
    measured: tuple[Path, dict[str, object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    work, options = measured
    monkeypatch.setattr(rerank_runs, "_compare_all", lambda *a: pytest.fail("compared again"))
    found = measure_order(METHOD, options, work)
    assert found["recall@1"].value == 0.5
    assert found["compared"].value == 4
    assert found["size"].value > 1000
    assert found["time"].value > 0
    assert 0 <= found["AUPRC"].value <= 1
    night = measure_order({**METHOD, "condition": "night"}, options, work)
    assert night["queries"].value == 10


def test_conditions(swapped: Path, measured: tuple[Path, dict[str, object]]) -> None:
    queries = read_set(measured[1]).queries  # type: ignore[arg-type]
    assert len(queries_under("all", queries)) == 24
    assert sorted([*queries_under("day", queries), *queries_under("night", queries)]) == list(
        range(24)
    )
    with pytest.raises(BadOption, match="day, night"):
        queries_under("fog", queries)


def stated(
    work: Path, options: dict[str, object], *, num_inliers: np.ndarray, order: np.ndarray
) -> None:
    """Put comparisons into a work folder as if they had been made."""
    features = np.zeros((24, len(SURE_FEATURES)))
    features[:, 0] = np.log1p(num_inliers)
    made = Comparisons(
        order, features, np.full(24, 50.0), np.full(24, 50.0), np.full(24, 4), 1000.0
    )
    with open(work / "compared inliers.npz", "wb") as file:
        np.savez(file, **{name: getattr(made, name) for name in Comparisons.__dataclass_fields__})


def test_what_a_method_changed_is_counted_and_shown(swapped: Path, tmp_path: Path) -> None:
    options = options_for(swapped)
    lists = Shortlists(read_set(options), model="rootsift-vlad", work=tmp_path)  # type: ignore[arg-type]
    is_right = rerank_runs._right(lists, lists.found)
    assert is_right.sum() == 12
    # Re-ranking finds half of the wrong ones, and loses two that were right.
    order = lists.found.copy()
    wrong, right = np.flatnonzero(~is_right), np.flatnonzero(is_right)
    true_row = {
        q: int(np.argmin(np.abs(lists.data.database.lon - lists.data.queries.lon[q])))
        for q in range(24)
    }
    for q in wrong[:6]:
        order[q, 0] = true_row[q]
    for q in right[:2]:
        order[q, 0] = (true_row[q] + 5) % 24
    stated(tmp_path, options, num_inliers=np.where(is_right, 90, 9), order=order)
    full = measure_order(METHOD, options, tmp_path)
    assert full["recall@1"].value == pytest.approx(16 / 24)
    assert (full["helped"].value, full["hurt"].value) == pytest.approx((6 / 24, 2 / 24))
    assert full["AUPRC"].value == 1.0
    with open(tmp_path / "changes inliers.csv", newline="", encoding="utf-8") as file:
        listed = list(csv.DictReader(file))
    assert sorted(row["change"] for row in listed) == ["helped"] * 6 + ["hurt"] * 2
    sheet = load_image(tmp_path / "changes inliers.png")
    width, height = TILE_PX
    assert sheet.shape[1] == 3 * width
    lines = sheet[sheet.shape[0] - 8 * height :]
    # Frames: of the two that were hurt the first candidate before is right, of the others that
    # after.
    colours = [
        [tuple(lines[line * height + 1, column * width + 1]) for column in (1, 2)]
        for line in range(8)
    ]
    assert colours == [[GREEN, RED]] * 2 + [[RED, GREEN]] * 6


def test_candidates_are_compared_until_one_is_sure(swapped: Path, tmp_path: Path) -> None:
    """Every first candidate shows what its query shows: where that convinces nothing else is
    compared, else all are."""
    compared, recalls = [], []
    for sure in (0.5, 0.999999):
        work = tmp_path / str(sure)
        work.mkdir()
        options = options_for(swapped, sure=sure)
        lists = Shortlists(read_set(options), model="rootsift-vlad", work=work)  # type: ignore[arg-type]
        is_right = rerank_runs._right(lists, lists.found)
        stated(
            work,
            options,
            num_inliers=np.where(is_right, 8, 6) + np.arange(24) % 9,
            order=lists.found,
        )
        found = measure_order({**METHOD, "method": "when unsure: inliers"}, options, work)
        compared.append(found["compared"].value)
        recalls.append(found["recall@1"].value)
        assert found["time"].value > 0
        assert found["share of time"].value > 0
        assert (work / "changes when-unsure-inliers.csv").is_file()
    assert compared[0] == 1
    assert 1 < compared[1] <= 4
    assert recalls == [0.5, 0.5]


def test_a_sheet_shows_what_can_be_read(street: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no photo")
    good = min((street / "queries").iterdir())
    sheet = draw_changes(
        [Change(good, broken, tmp_path / "missing.jpg", helped=False, num_inliers=3)]
    )
    width, height = TILE_PX
    tiles = [sheet[-height:, column * width : (column + 1) * width] for column in range(3)]
    assert tiles[0].std() > tiles[1][5:-5, 5:-5].std() > 0
    assert draw_changes([]).shape[1] == 3 * width


def test_a_broken_file_of_comparisons_is_named(swapped: Path, tmp_path: Path) -> None:
    (tmp_path / "compared inliers.npz").write_bytes(b"no archive")
    with pytest.raises(UnreadableTable, match="compared inliers"):
        measure_order(METHOD, options_for(swapped), tmp_path)


def test_the_verb(street: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [
        "study",
        "rerank",
        "--out",
        str(tmp_path / "s"),
        "--option",
        f"data={street}",
        "--option",
        "candidates=2",
    ]
    assert run([*arguments, "--option", "methods=rapid", "--json"]) == 0
    runs = json.loads(capsys.readouterr().out)["cells"]
    assert [run["settings"]["method"] for run in runs] == [
        "no re-ranking",
        "rapid",
        "when unsure: rapid",
    ]
    assert [run["is_done"] for run in runs] == [True, True, False]
    assert "too few" in runs[2]["reason"]
