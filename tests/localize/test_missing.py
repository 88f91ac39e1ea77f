"""Photos without a geotag: placed by match and by time, listed, written on demand, taken back."""

from __future__ import annotations

import csv
import io
import json
import shutil
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from conftest import ORIGIN, draw_place, view_of, write_photo
from whence import runtime
from whence.cli import run
from whence.data.metadata import read_metadata
from whence.data.photos import Photos
from whence.data.undo import undo_files
from whence.errors import BadOption, NoPhotos
from whence.geo import distance_m, from_local_metres
from whence.index.audit import fingerprint
from whence.index.store import Store
from whence.localize.localizer import RETRIEVE_ONLY
from whence.localize.missing import MissingOptions, TimeHint, place_missing, propose, time_hints
from whence.localize.tagging import plan_tags, waypoints_of, write_tags
from whence.types import GeoPoint, Photo, Position

NOON = datetime(2024, 5, 6, 12, 0, 0)
SPACING_M = 60.0
NUM_PLACES = 8


def along(east_m: float) -> GeoPoint:
    lat, lon = from_local_metres(np.array(east_m), np.array(0.0), origin=ORIGIN)
    return GeoPoint(float(lat), float(lon))


def save(
    path: Path,
    place: int,
    *,
    shift: int,
    point: GeoPoint | None = None,
    time: datetime | None = None,
) -> Path:
    """A photo of a place of the street, with or without a geotag and a time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    if time is not None:
        exif[0x8769] = {0x9003: time.strftime("%Y:%m:%d %H:%M:%S")}
    if point is not None:
        north, east = abs(point.lat), abs(point.lon)
        exif[0x8825] = {1: "N", 2: (north, 0.0, 0.0), 3: "E", 4: (east, 0.0, 0.0)}
    image = view_of(draw_place(place), shift=shift, seed=shift)
    Image.fromarray(image).save(path, "JPEG", quality=92, exif=exif)
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A walk: tagged/ with a geotag and a time every minute, and four photos without a geotag."""
    root = tmp_path_factory.mktemp("walk") / "photos"
    for place in range(NUM_PLACES):
        save(
            root / f"tagged/{place}.jpg",
            place,
            shift=0,
            point=along(SPACING_M * place),
            time=NOON + timedelta(minutes=place),
        )
    save(root / "a-agrees.jpg", 2, shift=12, time=NOON + timedelta(minutes=2, seconds=10))
    save(root / "b-match.jpg", 5, shift=12)
    save(root / "c-contradicts.jpg", 6, shift=12, time=NOON + timedelta(minutes=1))
    write_photo(root / "d <é> & 'quoted'.png", view_of(draw_place(4), shift=12, seed=9))
    return root


@pytest.fixture
def walk(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path / "photos")
    return tmp_path / "photos"


def files_under(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def verified(report: Any) -> Any:
    """The report as it would be with a verified match for each proposal."""
    proposals = [
        replace(
            one, position=replace(one.position, confidence=0.9, radius_m=20.0, is_verified=True)
        )
        for one in report.proposals
    ]
    return replace(report, proposals=tuple(proposals))


def unverified(report: Any) -> Any:
    """The report as it would be without verification."""
    proposals = [
        replace(
            one, position=replace(one.position, confidence=None, radius_m=None, is_verified=False)
        )
        for one in report.proposals
    ]
    return replace(report, proposals=tuple(proposals))


# ---- placing -------------------------------------------------------------------------------------


def test_each_photo_is_placed_by_what_speaks_for_it(walk: Path) -> None:
    before = files_under(walk)
    report = place_missing(walk, show_progress=False)
    assert (report.num_photos, report.num_geotagged) == (NUM_PLACES + 4, NUM_PLACES)
    by_name = {one.photo: one for one in report.proposals}
    assert [one.placed_by for one in report.proposals] == [
        "both agree",
        "match",
        "disagree",
        "match",
    ]
    agrees, match = by_name["a-agrees.jpg"], by_name["b-match.jpg"]
    assert agrees.point is not None
    assert match.point is not None
    assert distance_m(agrees.point, along(2 * SPACING_M)) < 30
    assert distance_m(match.point, along(5 * SPACING_M)) < 30
    assert agrees.hint is not None
    assert (agrees.hint.before, agrees.hint.after, agrees.hint.gap_s) == (
        "tagged/2.jpg",
        "tagged/3.jpg",
        60,
    )
    assert (agrees.is_verified, match.is_verified) == (True, True)
    assert match.position.confidence is not None
    assert match.position.confidence > 0.9
    assert by_name["c-contradicts.jpg"].point is None
    assert "apart" in by_name["c-contradicts.jpg"].reason
    best = match.position.candidates[0]
    assert best.photo == "tagged/5.jpg"
    assert report.database.file(best.row).is_file()
    assert files_under(walk) == before


def test_a_named_database_is_built_kept_and_asked_again(walk: Path, tmp_path: Path) -> None:
    database = tmp_path / "kept.whence"
    first = place_missing(walk, database=database, show_progress=False)
    with Store.open(database) as store:
        assert store.num_photos == NUM_PLACES
        said = fingerprint(store)
    again = place_missing(walk, database=database, show_progress=False)
    assert [one.point for one in again.proposals] == [one.point for one in first.proposals]
    with Store.open(database) as store:
        assert fingerprint(store) == said
    # A database that holds the photos themselves, without coordinates: they must not place
    # themselves.
    assert run(["index", str(walk), "--db", str(tmp_path / "all.whence"), "--quiet"]) == 0
    whole = place_missing(walk, database=tmp_path / "all.whence", show_progress=False)
    assert [one.placed_by for one in whole.proposals] == [one.placed_by for one in first.proposals]
    for folder in walk.iterdir():
        if folder.is_dir():
            shutil.rmtree(folder)
    alone = place_missing(walk, database=database, show_progress=False)
    assert (alone.num_geotagged, alone.proposals[1].placed_by) == (0, "match")


def test_nothing_to_place_and_nothing_to_place_from(tmp_path: Path, walk: Path) -> None:
    report = place_missing(walk / "tagged", show_progress=False)
    assert report.proposals == ()
    (tmp_path / "empty").mkdir()
    with pytest.raises(NoPhotos, match="no readable photos"):
        place_missing(tmp_path / "empty", show_progress=False)
    shutil.rmtree(walk / "tagged")
    with pytest.raises(NoPhotos, match="--db"):
        place_missing(walk, show_progress=False)
    with pytest.raises(BadOption):
        MissingOptions(max_gap_s=-1)


def timed(*rows: tuple[str, float | None, GeoPoint | None], zone: bool = False) -> list[Photo]:
    start = NOON.replace(tzinfo=UTC) if zone else NOON
    times = [
        None if seconds is None else start + timedelta(seconds=seconds) for _, seconds, _ in rows
    ]
    return [
        Photo(name, point=point, time=time)
        for (name, _, point), time in zip(rows, times, strict=True)
    ]


def test_what_cannot_be_verified_is_no_match(walk: Path) -> None:
    """A place the folder's geotagged photos do not show: no match; and placed by time where the
    time allows."""
    save(walk / "e-elsewhere.jpg", 77, shift=0)
    save(walk / "f-elsewhere.jpg", 78, shift=0, time=NOON + timedelta(minutes=3, seconds=30))
    by_name = {one.photo: one for one in place_missing(walk, show_progress=False).proposals}
    assert (by_name["e-elsewhere.jpg"].placed_by, by_name["e-elsewhere.jpg"].point) == (
        "none",
        None,
    )
    timed_only = by_name["f-elsewhere.jpg"]
    assert timed_only.placed_by == "time"
    assert timed_only.point is not None
    assert distance_m(timed_only.point, along(3.5 * SPACING_M)) < 1
    assert "the best guess" in timed_only.reason
    loose = place_missing(walk, options=MissingOptions(locate=RETRIEVE_ONLY), show_progress=False)
    assert [one.placed_by for one in loose.proposals if one.photo == "e-elsewhere.jpg"] == ["match"]
    assert not loose.proposals[-2].is_verified


def test_hints_lie_between_neighbours_in_time() -> None:
    tagged = [
        ("t0", 0.0, along(0)),
        ("t100", 100.0, along(200)),
        ("t900", 900.0, along(300)),
        ("t1000", 1000.0, along(1200)),
    ]
    asked = [
        ("early", -50.0, None),
        ("too early", -70.0, None),
        ("quarter", 25.0, None),
        ("same", 100.0, None),
    ]
    asked += [
        ("long gap", 500.0, None),
        ("far apart", 950.0, None),
        ("late", 1060.0, None),
        ("too late", 1061.0, None),
    ]
    asked += [("timeless", None, None)]
    photos = Photos.of(timed(*asked, *tagged))
    hints = {photos.paths[row]: hint for row, hint in time_hints(photos).items()}
    assert set(hints) == {"early", "quarter", "same", "late"}
    assert distance_m(hints["quarter"].point, along(50)) < 0.1
    assert (hints["quarter"].before, hints["quarter"].after, hints["quarter"].gap_s) == (
        "t0",
        "t100",
        100,
    )
    assert hints["quarter"].apart_m == pytest.approx(200, abs=0.5)
    assert distance_m(hints["same"].point, along(200)) < 1e-3
    assert (hints["early"].before, hints["early"].after) == ("", "t0")
    assert (hints["late"].before, hints["late"].after) == ("t1000", "")


def test_times_with_and_without_a_zone_are_not_compared() -> None:
    naive = timed(("asked naive", 5.0, None), ("tagged naive", 0.0, along(0)))
    aware = timed(("asked aware", 5.0, None), ("tagged aware", 0.0, along(500)), zone=True)
    photos = Photos.of([*naive, *aware])
    hints = time_hints(photos)
    assert {photos.paths[row]: hint.before for row, hint in hints.items()} == {
        "asked naive": "tagged naive",
        "asked aware": "tagged aware",
    }
    assert not time_hints(Photos.of([naive[0], aware[1]]))
    assert not time_hints(Photos.of([]))


@pytest.mark.parametrize(
    ("status", "apart_m", "radius_m", "expected"),
    [
        ("located", 99.0, None, "both agree"),
        ("located", 101.0, None, "disagree"),
        ("located", 150.0, 160.0, "both agree"),
        ("located", None, None, "match"),
        ("unknown", 5.0, None, "time"),
        ("unknown", None, None, "none"),
        ("matched", None, None, "none"),
    ],
)
def test_proposals(
    status: Any, apart_m: float | None, radius_m: float | None, expected: str
) -> None:
    position = Position(
        "q",
        status,
        point=None if status == "matched" else along(0),
        radius_m=radius_m,
        heading_deg=12.0,
    )
    hint = None if apart_m is None else TimeHint(along(apart_m), "a", "b", 10, 20)
    proposal = propose("q.jpg", position, hint)
    assert proposal.placed_by == expected
    assert (
        proposal.point
        == {
            "both agree": along(0),
            "match": along(0),
            "time": along(5),
            "disagree": None,
            "none": None,
        }[expected]
    )
    assert proposal.heading_deg == (12.0 if expected in ("both agree", "match") else None)
    assert proposal.is_verified == (expected in ("both agree", "time"))
    assert (len(waypoints_of([proposal])) == 1) == (proposal.point is not None)


# ---- writing -------------------------------------------------------------------------------------


def test_sidecars_place_the_photos_and_can_be_taken_back(walk: Path) -> None:
    before = files_under(walk)
    report = verified(place_missing(walk, show_progress=False))
    plan = plan_tags(report, kind="sidecars")
    assert [entry.path for entry in plan.skipped] == ["c-contradicts.jpg"]
    done = write_tags(plan, show_progress=False)
    assert len(done.files) == 3
    assert done.undo_file is not None
    after = files_under(walk)
    assert set(after) - set(before) == {
        *("a-agrees.jpg.xmp", "b-match.jpg.xmp", "d <é> & 'quoted'.png.xmp"),
        done.undo_file.name,
    }
    assert {name: data for name, data in after.items() if name in before} == before
    photo = read_metadata(walk / "b-match.jpg")
    assert photo.point is not None
    assert report.proposals[1].point is not None
    assert distance_m(photo.point, report.proposals[1].point) < 0.002
    assert (photo.point_source, photo.error_m) == ("sidecar", 20)
    assert [one.photo for one in place_missing(walk, show_progress=False).proposals] == [
        "c-contradicts.jpg"
    ]
    undo_files(done.undo_file)
    assert files_under(walk) == before


def test_copies_hold_the_place_and_originals_stay(walk: Path, tmp_path: Path) -> None:
    before = files_under(walk)
    nested = walk / "sub" / "e.jpg"
    nested.parent.mkdir()
    shutil.copy(walk / "b-match.jpg", nested)
    Image.fromarray(view_of(draw_place(5), shift=12, seed=3)).save(walk / "f.webp", quality=92)
    report = verified(place_missing(walk, show_progress=False))
    done = write_tags(
        plan_tags(report, kind="copies", copies_to=tmp_path / "copies"), show_progress=False
    )
    names = {path.relative_to(tmp_path / "copies").as_posix() for path in done.files}
    assert {"a-agrees.jpg", "b-match.jpg", "d <é> & 'quoted'.png", "sub/e.jpg"} <= names
    assert [
        Path(entry.path).name for entry in done.skipped if "JPEG, PNG and TIFF" in entry.reason
    ] == ["f.webp"]
    for name in names:
        photo = read_metadata(tmp_path / "copies" / name)
        proposal = next(one for one in report.proposals if one.photo == name)
        assert photo.point is not None
        assert proposal.point is not None
        assert photo.point_source == "exif"
        assert distance_m(photo.point, proposal.point) < 0.001
    assert {name: data for name, data in files_under(walk).items() if name in before} == before
    assert done.undo_file is not None
    undo_files(done.undo_file)
    assert list((tmp_path / "copies").iterdir()) == []


def test_sidecars_that_exist_are_left_alone(walk: Path) -> None:
    report = verified(place_missing(walk, show_progress=False))
    (walk / "a-agrees.jpg.xmp").write_text("<x/>")
    (walk / "b-match.xmp").write_text("<y/>")
    (walk / "d <é> & 'quoted'.png.json").write_text("{}")
    plan = plan_tags(report, kind="sidecars")
    assert plan.files == ()
    assert [entry.reason for entry in plan.skipped if "sidecar already" in entry.reason] == [
        "it has a sidecar already, a-agrees.jpg.xmp",
        "it has a sidecar already, b-match.xmp",
        "it has a sidecar already, d <é> & 'quoted'.png.json",
    ]
    done = write_tags(plan, show_progress=False)
    assert (done.undo_file, done.files) == (None, ())


def test_photos_that_vanish_are_skipped(walk: Path, tmp_path: Path) -> None:
    report = verified(place_missing(walk, show_progress=False))
    sidecars, copies = (
        plan_tags(report, kind="sidecars"),
        plan_tags(report, kind="copies", copies_to=tmp_path / "copies"),
    )
    (walk / "a-agrees.jpg").unlink()
    for plan in (sidecars, copies):
        done = write_tags(plan, show_progress=False)
        assert [
            (Path(entry.path).name.removesuffix(".xmp"), entry.reason) for entry in done.skipped
        ] == [("a-agrees.jpg", "no such file")]
        assert len(done.files) == 2
    assert not (walk / "a-agrees.jpg.xmp").exists()


def test_what_may_not_be_written(walk: Path) -> None:
    report = unverified(place_missing(walk, show_progress=False))
    reasons = [entry.reason for entry in plan_tags(report, kind="sidecars").skipped]
    assert reasons.count("only an unverified match speaks for its place") == 2
    assert len(plan_tags(report, kind="sidecars", include_unverified=True).files) == 3
    with pytest.raises(BadOption, match="--copies-to"):
        plan_tags(report, kind="copies")
    for inside in (walk, walk / "copies", walk / "tagged" / ".." / "copies"):
        with pytest.raises(BadOption, match="outside"):
            plan_tags(report, kind="copies", copies_to=inside)


# ---- the verb ------------------------------------------------------------------------------------


def test_the_verb_lists_and_writes_nothing(
    walk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = files_under(walk)
    table, gpx, page = tmp_path / "a.csv", tmp_path / "a.gpx", tmp_path / "a.html"
    outputs = ["--csv", str(table), "--gpx", str(gpx), "--report", str(page)]
    assert run(["tag", str(walk), "--json", *outputs]) == 0
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [record["placed_by"] for record in records] == [
        "both agree",
        "match",
        "disagree",
        "match",
    ]
    assert records[0]["time"]["before"] == "tagged/2.jpg"
    assert records[2]["position"] is None
    assert records[2]["match"]["position"] is not None
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["placed_by"] for row in rows] == [record["placed_by"] for record in records]
    assert len(ElementTree.parse(gpx).getroot()) == 3
    text = page.read_text()
    assert "<é>" not in text
    assert "both agree" in text
    assert files_under(walk) == before
    assert run(["tag", str(walk), "--quiet"]) == 0
    shown = capsys.readouterr().out
    assert "12 photos, 8 with a geotag, 4 without" in shown
    assert "both agree" in shown


def test_the_verb_writes_only_when_told(
    walk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = files_under(walk)
    common = ["tag", str(walk), "--quiet", "--write", "sidecars", "--include-unverified"]
    assert run(common) == 1  # No terminal to ask on.
    assert "--yes" in capsys.readouterr().err
    assert files_under(walk) == before

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdin", Terminal("n\n"))
    assert run(common) == 0
    assert "nothing was written" in capsys.readouterr().err
    assert files_under(walk) == before
    monkeypatch.setattr(sys, "stdin", Terminal("y\n"))
    assert run(common) == 0
    assert "3 sidecars written" in capsys.readouterr().out
    (undo_file,) = walk.glob("whence-undo-*.json")
    (walk / "b-match.jpg.xmp").write_text("edited by hand")
    assert run(["undo", str(undo_file)]) == 1
    shown = capsys.readouterr()
    assert "2 files removed" in shown.out
    assert "changed since" in shown.err
    (walk / "b-match.jpg.xmp").unlink()
    assert run(["undo", str(undo_file), "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["gone"]) == 1
    assert files_under(walk) == before
    copies = tmp_path / "copies"
    assert (
        run([*common[:3], "--write", "copies", "--copies-to", str(copies), "--yes", "--json"]) == 0
    )
    *listed, last = map(json.loads, capsys.readouterr().out.splitlines())
    expected = [one["photo"] for one in listed if one["is_verified"]]
    assert [Path(path).name for path in last["written"]] == expected
    assert "a-agrees.jpg" in expected
    assert Path(last["undo_file"]).parent == copies
    assert len(last["skipped"]) == 4 - len(expected)


def test_a_folder_that_cannot_be_written(
    walk: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> tuple[int, str]:
        raise PermissionError(30, "Read-only file system")

    before = files_under(walk)
    options = ["--write", "sidecars", "--yes", "--include-unverified", "--quiet"]
    made_report = place_missing(walk, show_progress=False)
    monkeypatch.setattr(runtime.tempfile, "mkstemp", refuse)
    monkeypatch.setattr("whence.cli.tag.place_missing", lambda *_, **__: made_report)
    assert run(["tag", str(walk), *options]) == 1
    assert "Read-only file system; choose a folder you may write to" in capsys.readouterr().err
    assert files_under(walk) == before


@pytest.mark.parametrize(
    "words",
    [
        ["tag", ".", "--yes"],
        ["tag", ".", "--include-unverified"],
        ["tag", ".", "--write", "originals", "--yes"],
        ["undo", "none.json"],
        ["tag", "no-such-folder"],
    ],
)
def test_options_that_do_not_go_together(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(words) == 1
    assert "error: " in capsys.readouterr().err


def test_a_photo_named_like_an_old_option_is_no_old_spelling(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["locate", "--db", "none.whence", "--", "--missing"]) == 1
    assert "spelled" not in capsys.readouterr().err


def test_gpx_of_plain_answers(walk: Path, tmp_path: Path) -> None:
    database = str(tmp_path / "a.whence")
    assert run(["index", str(walk / "tagged"), "--db", database, "--quiet"]) == 0
    assert (
        run(
            [
                "locate",
                str(walk / "b-match.jpg"),
                "--db",
                database,
                "--gpx",
                str(tmp_path / "a.gpx"),
            ]
        )
        == 0
    )
    (waypoint,) = ElementTree.parse(tmp_path / "a.gpx").getroot()
    assert (
        distance_m(
            GeoPoint(float(waypoint.attrib["lat"]), float(waypoint.attrib["lon"])),
            along(5 * SPACING_M),
        )
        < 30
    )
