"""What an evaluation does not count, and says: photos without a place, the database's own files;
and what it writes beside it."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import whence
from conftest import draw_place, view_of, write_photo
from whence import cli
from whence.data.formats import EvaluationSet, read_folders
from whence.data.names import format_name
from whence.data.photos import Photos
from whence.data.predictions import Ranked, read_hloc_pairs
from whence.data.scan import scan_photos
from whence.errors import InputError
from whence.evaluation.benchmarks import EvaluationOptions, evaluate
from whence.evaluation.comparison import paired_bootstrap
from whence.evaluation.foreign import evaluate_predictions
from whence.evaluation.metrics import bootstrap_interval
from whence.evaluation.page import page_of_evaluation, page_of_positions, without_own
from whence.evaluation.protocol import leave_out_unplaced, metric_ground
from whence.types import Candidate, GeoPoint, Photo, PlanePoint, Position

Capture = pytest.CaptureFixture[str]
NUM_PLACES = 5


def name_of(place: int, run: int, *, has_point: bool) -> str:
    point = GeoPoint(59.3 + place * 0.01, 18.0 + run * 0.00005)
    return (
        format_name(point=point, pano_id=f"{place}r{run}")
        if has_point
        else f"plain {place} {run}.jpg"
    )


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders database, queries and plain: three views of five places, the last without a position.
    Tests must not change it."""
    root = tmp_path_factory.mktemp("left out")
    for run, folder in enumerate(("database", "queries", "plain")):
        for place in range(NUM_PLACES):
            image = view_of(draw_place(place), shift=12 * run, seed=run)
            write_photo(root / folder / name_of(place, run, has_point=folder != "plain"), image)
    return root


def copies(places: Path, root: Path, **folders: tuple[str, ...]) -> Path:
    """A set of folders, each with the photos of some of those above."""
    for folder, sources in folders.items():
        for source in sources:
            shutil.copytree(places / source, root / folder, dirs_exist_ok=True)
    return root


def recall_at_1(record: dict) -> tuple[int, int]:
    first = next(
        one
        for one in record["recalls"]
        if (one["threshold_m"], one["counted"], one["n"]) == (25, "all", 1)
    )
    return first["num_right"], first["num_queries"]


@pytest.mark.parametrize("untagged", [("queries",), ("database",), ("queries", "database")])
def test_photos_without_a_place_are_left_out_on_their_side(
    places: Path, tmp_path: Path, capsys: Capture, untagged: tuple[str, ...]
) -> None:
    folders = {
        side: (side, "plain") if side in untagged else (side,) for side in ("database", "queries")
    }
    copies(places, tmp_path, **folders)
    assert cli.run(["evaluate", str(tmp_path), "--json", "-q"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert recall_at_1(record) == (NUM_PLACES, NUM_PLACES)
    assert record["num_left_out"] == {
        side: NUM_PLACES if side in untagged else 0 for side in ("queries", "database")
    }
    assert all("plain" in name for names in record["left_out"].values() for name in names)
    assert (record["num_queries"], record["num_database"]) == (NUM_PLACES, NUM_PLACES)
    assert record["position"]["num_queries"] == NUM_PLACES
    assert cli.run(["evaluate", str(tmp_path), "-q"]) == 0
    assert "left out, because their place is not known: " in capsys.readouterr().out


def test_leave_one_out_leaves_them_out_too(places: Path, tmp_path: Path, capsys: Capture) -> None:
    copies(places, tmp_path, photos=("database", "queries", "plain"))
    assert (
        cli.run(
            [
                "evaluate",
                str(tmp_path / "photos"),
                "--leave-one-out",
                "--rerank",
                "inliers",
                "--json",
                "-q",
            ]
        )
        == 0
    )
    record = json.loads(capsys.readouterr().out)
    assert recall_at_1(record) == (2 * NUM_PLACES, 2 * NUM_PLACES)
    assert record["num_left_out"] == {"queries": NUM_PLACES, "database": NUM_PLACES}
    assert record["position"]["median_error_m"] < 10
    assert record["num_own_files"] == 0, "in leave-one-out these are left out anyhow"


@pytest.mark.parametrize(
    ("folders", "options", "why"),
    [
        (
            {"database": ("database",), "queries": ("plain",)},
            [],
            "none of its 5 queries has a known place",
        ),
        (
            {"database": ("plain",), "queries": ("queries",)},
            [],
            "none of its 5 database photos has a known place",
        ),
        ({"photos": ("plain",)}, ["--leave-one-out"], "has a known place"),
    ],
)
def test_a_set_that_cannot_be_counted_is_an_error(
    places: Path, tmp_path: Path, capsys: Capture, folders: dict, options: list[str], why: str
) -> None:
    root = copies(places, tmp_path, **folders)
    assert cli.run(["evaluate", str(root / "photos" if options else root), *options]) == 1
    captured = capsys.readouterr()
    assert why in captured.err.replace("\n", " ")
    assert not captured.out


def photos_with(*kinds: str) -> Photos:
    """One photo of each kind: degrees, plane (without a zone), zoned (both), none."""
    records = []
    for number, kind in enumerate(kinds):
        point = GeoPoint(59.3 + number * 0.01, 18.0) if kind in ("degrees", "zoned") else None
        plane = (
            PlanePoint(number * 1000.0, 5.0, "33V" if kind == "zoned" else "")
            if kind in ("plane", "zoned")
            else None
        )
        records.append(Photo(f"{number}.jpg", content=f"{number:032x}", point=point, plane=plane))
    return Photos.of(records)


@pytest.mark.parametrize(
    ("database", "queries", "left_out"),
    [
        (["zoned", "zoned"], ["zoned", "none"], (0, 1)),
        (["zoned", "none"], ["degrees", "zoned"], (1, 0)),
        (["plane", "plane"], ["plane", "none"], (0, 1)),
        (["degrees", "plane"], ["degrees", "plane"], (1, 1)),
        (["degrees"], ["degrees"], (0, 0)),
    ],
)
def test_which_photos_are_left_out(
    database: list[str], queries: list[str], left_out: tuple[int, int]
) -> None:
    kept, found = leave_out_unplaced(
        EvaluationSet("x", photos_with(*database), photos_with(*queries))
    )
    assert (len(found.database), len(found.queries)) == left_out
    assert (len(kept.database), len(kept.queries)) == (
        len(database) - left_out[0],
        len(queries) - left_out[1],
    )
    ground = metric_ground(kept.database, kept.queries)
    assert np.isfinite(ground.database).all()
    assert np.isfinite(ground.queries).all()


@pytest.mark.parametrize(("database", "queries"), [("plane", "degrees"), ("degrees", "plane")])
def test_a_plane_against_degrees_is_an_error(database: str, queries: str) -> None:
    with pytest.raises(InputError, match="metres on a plane"):
        leave_out_unplaced(
            EvaluationSet("x", photos_with(database, "none"), photos_with(queries, "none"))
        )


def test_foreign_predictions_are_counted_alike(places: Path, tmp_path: Path) -> None:
    """Left-out photos among theirs make room for those that follow."""
    copies(places, tmp_path, database=("database", "plain"), queries=("queries", "plain"))
    data = read_folders(tmp_path)
    database = sorted(data.database.paths, key=lambda path: ("plain" not in path, path))
    ranked = []
    for query in data.queries.paths:
        own = int(query.split("@")[7][0]) if "@" in query else 0
        right = next(path for path in data.database.paths if f"@{own}r0@" in path)
        ranked.append(
            Ranked(
                query,
                tuple(
                    Candidate(photo, i + 1, 1.0 / (i + 1))
                    for i, photo in enumerate([database[0], right])
                ),
            )
        )
    result = evaluate_predictions(
        ranked, data, name="theirs", options=EvaluationOptions(recall_at=(1,))
    )
    assert (
        result.thresholds[1].all_queries[0].num_right,
        result.thresholds[1].all_queries[0].num_queries,
    ) == (
        NUM_PLACES,
        NUM_PLACES,
    )
    assert (len(result.left_out.queries), len(result.left_out.database)) == (NUM_PLACES, NUM_PLACES)


def test_an_interval_of_one_street_is_that_of_its_queries() -> None:
    values = np.random.default_rng(0).integers(0, 2, 60).astype(float)
    one_street = np.full(60, "the street")
    assert bootstrap_interval(values, groups=one_street) == bootstrap_interval(values)
    low, high = bootstrap_interval(values, groups=one_street)
    assert low < values.mean() < high
    first, second = values, np.roll(values, 1)
    assert paired_bootstrap(first, second, groups=one_street) == paired_bootstrap(first, second)


def test_evaluate_takes_a_path_or_a_set_and_prints_short(places: Path, tmp_path: Path) -> None:
    from_path = whence.evaluate("rootsift-vlad", places)
    from_text = whence.evaluate("rootsift-vlad", str(places))
    from_set = whence.evaluate("rootsift-vlad", read_folders(places))
    for result in (from_path, from_text):
        assert np.array_equal(result.predictions, from_set.predictions)
        assert result.data.name == from_set.data.name
    text = repr(from_set)
    assert len(text) < 300
    assert all(
        word in text for word in ("rootsift-vlad", "5 queries", "recall@1 100.0 %", "within 25 m")
    )
    copies(places, tmp_path, photos=("database", "queries"))
    options = EvaluationOptions(is_leave_one_out=True)
    assert (
        len(whence.evaluate("rootsift-vlad", tmp_path / "photos", options=options).data.queries)
        == 2 * NUM_PLACES
    )


@pytest.mark.parametrize("folder", ["database", "queries"])
def test_a_name_that_pairs_cannot_hold_is_known_before_the_work(
    places: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    copies(places, tmp_path, database=("database",), queries=("queries",))
    first = sorted((tmp_path / folder).iterdir())[0]
    first.rename(first.with_name(first.name.replace("@.jpg", "@a b.jpg")))
    monkeypatch.setattr(
        "whence.evaluation.benchmarks.evaluate",
        lambda *given, **named: pytest.fail("it began to work"),
    )
    assert cli.run(["evaluate", str(tmp_path), "--save-predictions", str(tmp_path / "p.txt")]) == 1
    assert "a b.jpg" in capsys.readouterr().err
    assert not (tmp_path / "p.txt").exists()


def test_pairs_from_one_folder_for_hloc(
    places: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = copies(places, tmp_path / "set", database=("database",), queries=("queries",))
    monkeypatch.chdir(tmp_path)
    assert (
        cli.run(
            [
                "evaluate",
                str(root),
                "-q",
                "--save-predictions",
                "p.txt",
                "--set",
                "pairs_root=set",
                "--json",
            ]
        )
        == 0
    )
    own = recall_at_1(json.loads(capsys.readouterr().out))
    for one in read_hloc_pairs("p.txt"):
        assert (root / one.query).is_file()
        assert all((root / candidate.photo).is_file() for candidate in one.candidates)
    assert cli.run(["evaluate", str(root), "--predictions", "p.txt", "--json"]) == 0
    assert recall_at_1(json.loads(capsys.readouterr().out)) == own
    assert (
        cli.run(
            [
                "evaluate",
                str(root),
                "--save-predictions",
                "p.txt",
                "--set",
                f"pairs_root={root / 'queries'}",
            ]
        )
        == 1
    )
    assert cli.run(["evaluate", str(root), "--set", f"pairs_root={root}"]) == 1


def test_predictions_from_windows_are_found(places: Path, tmp_path: Path) -> None:
    data = read_folders(places)
    result = evaluate("rootsift-vlad", data)
    theirs = [
        Ranked(
            f"queries\\{one.query}",
            tuple(replace(photo, photo=f"database\\{photo.photo}") for photo in one.candidates),
        )
        for one in result.ranked()
    ]
    again = evaluate_predictions(theirs, data, name="theirs")
    assert np.array_equal(again.predictions[:, :NUM_PLACES], result.predictions[:, :NUM_PLACES])


@pytest.mark.parametrize("place", ["nowhere/out", "folder"])
def test_a_place_that_cannot_be_written_to_is_known_before_the_work(
    places: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    (tmp_path / "folder").mkdir()
    monkeypatch.setattr(
        "whence.evaluation.benchmarks.evaluate",
        lambda *given, **named: pytest.fail("it began to work"),
    )
    for flag in ("--save-predictions", "--report"):
        assert cli.run(["evaluate", str(places), flag, str(tmp_path / place)]) == 1
        assert place in capsys.readouterr().err.replace("\n", "")


def test_results_come_before_files_and_one_that_fails_keeps_no_other(
    places: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk fills, or somebody takes the folder away, while the evaluation runs."""
    (tmp_path / "gone").mkdir()
    arguments = [
        "evaluate",
        str(places),
        "-q",
        "--json",
        "--save-predictions",
        str(tmp_path / "gone" / "a.csv"),
    ]

    def run_and_lose(*given: object, **named: object) -> object:
        shutil.rmtree(tmp_path / "gone")
        return evaluate(*given, **named)

    monkeypatch.setattr("whence.evaluation.benchmarks.evaluate", run_and_lose)
    assert cli.run([*arguments, "--report", str(tmp_path / "b.html")]) == 1
    captured = capsys.readouterr()
    assert recall_at_1(json.loads(captured.out)) == (NUM_PLACES, NUM_PLACES)
    assert "a.csv" in captured.err.replace("\n", "")
    assert (tmp_path / "b.html").is_file()


def test_the_databases_own_files_are_no_questions_of_a_report(
    places: Path, tmp_path: Path, capsys: Capture
) -> None:
    own = sorted((places / "database").iterdir())[0]
    copies(places, tmp_path, database=("database",), queries=("queries",))
    shutil.copy(own, tmp_path / "queries" / f"renamed{own.name}")
    result = evaluate("rootsift-vlad", read_folders(tmp_path))
    page = page_of_evaluation(result)
    assert len(page.entries) == NUM_PLACES
    assert not any("renamed" in entry.position.query for entry in page.entries)
    assert any(
        "1 of the photos asked about are the database's own files" in line for line in page.lines
    )
    assert cli.run(["evaluate", str(tmp_path), "-q"]) == 0
    assert "1 of the queries are the database's own files" in capsys.readouterr().out.replace(
        "\n", " "
    )
    database = scan_photos(places / "database")
    positions = [
        Position(str(path), "unknown")
        for path in (own, sorted((places / "queries").iterdir())[1], tmp_path / "gone.jpg")
    ]
    others, num_own = without_own(positions, database)
    assert (others, num_own) == (positions[1:], 1)
    page = page_of_positions(others[:1], database=database, num_own=num_own)
    assert any(
        "1 of the photos asked about are the database's own files" in line for line in page.lines
    )


def test_the_report_of_locate_says_what_it_leaves_out(
    places: Path, tmp_path: Path, capsys: Capture
) -> None:
    database = tmp_path / "c.whence"
    assert cli.run(["index", str(places / "database"), "--db", str(database), "-q"]) == 0
    own, other = (sorted((places / folder).iterdir())[0] for folder in ("database", "queries"))
    report = tmp_path / "r.html"
    capsys.readouterr()
    assert (
        cli.run(
            [
                "locate",
                str(own),
                str(other),
                "--db",
                str(database),
                "--no-verify",
                "--report",
                str(report),
                "--json",
            ]
        )
        == 0
    )
    captured = capsys.readouterr()
    assert len(captured.out.splitlines()) == 2
    assert "1 of the photos are the database's own files" in captured.err.replace("\n", " ")
    assert "1 of the photos asked about are the database" in report.read_text()
