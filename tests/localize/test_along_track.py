"""Photos placed along a GPX track: the clock's shift found or given, the place at that time, what
contradicts it."""

from __future__ import annotations

import csv
import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import ORIGIN
from tagged import CAMERA, GPS, at
from whence.cli import run
from whence.data.geotags import Waypoint, write_gpx
from whence.data.tracks import read_gpx
from whence.geo import distance_m, from_local_metres
from whence.localize.along_track import TrackHint, find_shift
from whence.localize.missing import MissingOptions, propose
from whence.types import GeoPoint, Position

START = datetime(2024, 5, 6, 9, 0, tzinfo=UTC)
OFF_S = 7 * 60 + 13
"""What the camera's clock runs ahead of the track's."""
ZONE_S = 2 * 3600
"""The camera shows summer time, without saying so."""
SPEED_M_S = 1.4


def walked(seconds: float) -> GeoPoint:
    """Where the walker is: a street east, then one north, with a halt at a corner."""
    done = SPEED_M_S * np.interp(seconds, [0, 600, 690, 1800], [0, 600, 600, 1710])
    lat, lon = from_local_metres(
        np.array(min(done, 840.0)), np.array(max(done - 840.0, 0.0)), origin=ORIGIN
    )
    return GeoPoint(float(lat), float(lon))


@pytest.fixture
def track(tmp_path: Path) -> Path:
    points = [
        Waypoint("", walked(second), START + timedelta(seconds=second))
        for second in range(0, 1801, 5)
    ]
    write_gpx(tmp_path / "walk.gpx", (), track=[points])
    return tmp_path / "walk.gpx"


def save(path: Path, seconds: float, *, has_place: bool = False) -> None:
    """A photo of a camera without a zone, whose clock is off."""
    path.parent.mkdir(exist_ok=True)
    shown = START + timedelta(seconds=seconds + OFF_S + ZONE_S)
    exif = Image.Exif()
    exif[CAMERA] = {0x9003: shown.strftime("%Y:%m:%d %H:%M:%S")}
    if has_place:
        exif[GPS] = at(walked(seconds).lat, walked(seconds).lon)
    pixels = np.random.default_rng(round(seconds)).integers(0, 255, (60, 80, 3), np.uint8)
    Image.fromarray(pixels).save(path, "JPEG", exif=exif)


@pytest.fixture
def trip(tmp_path: Path) -> Path:
    for seconds in (45, 400, 777, 1234, 1600):
        save(tmp_path / "trip" / f"known-{seconds}.jpg", seconds, has_place=True)
    for seconds in (120, 631, 995, 1501):
        save(tmp_path / "trip" / f"asked-{seconds}.jpg", seconds)
    save(tmp_path / "trip" / "late.jpg", 2500)
    return tmp_path / "trip"


def test_photos_are_placed_within_a_second_though_the_clock_is_off(
    trip: Path, track: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table, page = tmp_path / "list.csv", tmp_path / "page.html"
    files = ["--csv", str(table), "--report", str(page)]
    assert run(["tag", str(trip), "--track", str(track), "--json", "-q", *files]) == 0
    shown = capsys.readouterr()
    records = {one["photo"]: one for one in map(json.loads, shown.out.splitlines())}
    for seconds in (120, 631, 995, 1501):
        record = records[f"asked-{seconds}.jpg"]
        assert record["placed_by"] == "track"
        assert record["evidence"][0] == "track"
        assert abs(record["track"]["shift_s"] + OFF_S + ZONE_S) <= 1
        place = GeoPoint(record["position"]["lat"], record["position"]["lon"])
        # Half a metre is what rounding a degree's digits in EXIF and the track's straight pieces
        # leave.
        assert (
            min(distance_m(place, walked(seconds + off)) for off in (-1, 0, 1)) <= SPEED_M_S + 0.5
        )
        assert record["is_verified"]
    assert records["late.jpg"]["track"] is None
    assert "found by 5 of 5 geotagged photos" in shown.err
    with table.open() as file:
        rows = {row["photo"]: row for row in csv.DictReader(file)}
    assert rows["asked-995.jpg"]["evidence"].startswith("track")
    assert abs(float(rows["asked-995.jpg"]["shift_s"]) + OFF_S + ZONE_S) <= 1
    assert "Placed by track" in page.read_text(encoding="utf-8")
    assert run(["tag", str(trip), "--track", str(track), "-q"]) == 0
    assert "track" in capsys.readouterr().out


def test_a_given_shift_needs_no_known_place(
    trip: Path, track: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for file in trip.glob("known-*"):
        file.unlink()
    asked = ["tag", str(trip), "--track", str(track), "--json", "-q"]
    assert run([*asked, "--shift", str(-OFF_S - ZONE_S)]) == 0
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one["placed_by"] for one in records] == ["track"] * 4 + ["none"]
    assert (
        distance_m(
            GeoPoint(records[0]["position"]["lat"], records[0]["position"]["lon"]), walked(120)
        )
        < 1
    )
    assert run(asked) == 0
    shown = capsys.readouterr()
    assert "--shift SECONDS gives one" in shown.err
    assert all(json.loads(line)["placed_by"] == "none" for line in shown.out.splitlines())
    assert run([*asked[:2], "--json"]) == 1


@pytest.mark.parametrize(
    "words", [["--shift", "3"], ["--track", "no.gpx"], ["--track", "TRACK", "--shift", "much"]]
)
def test_what_cannot_be_placed_by_is_said(
    trip: Path, track: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["tag", str(trip), *(word.replace("TRACK", str(track)) for word in words)]) == 1
    assert "error:" in capsys.readouterr().err


def test_a_shift_is_found_as_the_slow_way_finds_it(track: Path) -> None:
    found = read_gpx(track)
    seconds = np.array([10.0, 350.0, 640.0, 900.0, 1333.0])
    times = found.time_us[0] + np.round((seconds + OFF_S) * 1e6).astype(np.int64)
    points = [walked(one) for one in seconds]
    lat, lon = np.array([point.lat for point in points]), np.array([point.lon for point in points])
    shift = find_shift(found, times, lat, lon)
    assert shift is not None

    def cost(candidate: float) -> float:
        places = found.at(times + round(candidate * 1e6))
        pairs = zip(*places, points, strict=True)
        return sum(
            60.0 if np.isnan(a) else min(60.0, distance_m(GeoPoint(a, b), point))
            for a, b, point in pairs
        )

    slow = min(np.arange(-900, 300, 1.0), key=cost)
    assert abs(slow + OFF_S) <= 1
    assert abs(shift.seconds - slow) <= 1
    assert (shift.num, shift.num_asked) == (5, 5)
    # Two wrong places of seven are outvoted; too few, or places off the track, say nothing.
    wrong = find_shift(
        found, np.append(times, times[:2]), np.append(lat, lat[:2] + 0.01), np.append(lon, lon[:2])
    )
    assert wrong is not None
    assert abs(wrong.seconds + OFF_S) <= 1
    assert find_shift(found, times[:2], lat[:2], lon[:2]) is None
    assert find_shift(found, times, lat + 0.01, lon) is None


def test_a_walk_there_and_back_leaves_it_open(tmp_path: Path) -> None:
    there = [
        Waypoint("", walked(second), START + timedelta(seconds=second))
        for second in range(0, 600, 5)
    ]
    again = [
        Waypoint("", walked(second), START + timedelta(seconds=second + 3600))
        for second in range(0, 600, 5)
    ]
    write_gpx(tmp_path / "twice.gpx", (), track=[[*there, *again]])
    found = read_gpx(tmp_path / "twice.gpx")
    seconds = np.array([50.0, 200.0, 350.0, 500.0])
    points = [walked(one) for one in seconds]
    times = found.time_us[0] + np.round(seconds * 1e6).astype(np.int64)
    assert (
        find_shift(
            found, times, np.array([p.lat for p in points]), np.array([p.lon for p in points])
        )
        is None
    )


def test_the_stronger_evidence_comes_first() -> None:
    hint = TrackHint(walked(100), -433.0, "walk.gpx, as given")
    near = Position(
        "a.jpg", "located", walked(110), radius_m=20.0, heading_deg=90.0, is_verified=True
    )
    found = propose("a.jpg", near, None, track=hint)
    assert (found.placed_by, found.evidence, found.point) == (
        "track",
        ("track", "match"),
        hint.point,
    )
    assert found.heading_deg == 90
    assert found.radius_m is None
    far = Position("a.jpg", "located", walked(900), radius_m=20.0, is_verified=True)
    against = propose("a.jpg", far, None, track=hint)
    assert (against.placed_by, against.point, against.evidence) == ("disagree", None, ())
    unsure = propose("a.jpg", Position("a.jpg", "located", walked(900)), None, track=hint)
    assert (unsure.placed_by, unsure.evidence) == ("track", ("track",))
    assert "nothing has verified" in unsure.reason
    assert propose("a.jpg", near, None, options=MissingOptions()).evidence == ("match",)


def test_photos_are_recognised_and_that_tells_the_shift(trip: Path, track: Path) -> None:
    from whence.data.photos import Photos
    from whence.localize.along_track import TrackOptions, track_hints
    from whence.localize.timeline import timeline
    from whence.types import Photo

    seconds = [60.0, 500.0, 800.0, 1200.0, 1700.0]
    moments = [
        (START + timedelta(seconds=one + OFF_S + ZONE_S)).replace(tzinfo=None) for one in seconds
    ]
    photos = Photos.of(
        [Photo(f"{number}.jpg", time=moment) for number, moment in enumerate(moments)]
    )
    seen = {row: walked(seconds[row] + 4) for row in range(4)}
    hints, remarks = track_hints(
        photos, timeline(photos), options=TrackOptions(track), sightings=seen
    )
    assert set(hints) == set(range(5))
    assert abs(hints[4].shift_s + OFF_S + ZONE_S - 4) <= 1
    assert "found by 4 of 4 photos that were recognised" in remarks[0]
    shutil.rmtree(trip)
