"""When photos were taken: EXIF's ways to write it, receivers that lost count, and two clocks in one
collection."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest

from tagged import at, exif_of, picture_bytes, save_photo
from whence.cli import run
from whence.data.clocks import Clocks, parse_exif_time
from whence.data.exif import clocks_from_exif, placement_from_exif
from whence.data.metadata import read_clocks
from whence.data.photos import NO_TIME, Photos
from whence.data.scan import scan_photos
from whence.localize.missing import place_missing, time_hints
from whence.localize.timeline import timeline
from whence.types import GeoPoint, Photo

SHOWN = datetime(2023, 5, 1, 10, 0)
ORIGINAL, DIGITIZED = 0x9003, 0x9004


def time_of(
    gps: dict[int, object] | None = None, camera: dict[int, object] | None = None
) -> datetime | None:
    return placement_from_exif(exif_of(gps, camera)).time


@pytest.mark.parametrize(
    "text",
    [
        "2023:05:01 10:00:00",
        "2023-05-01 10:00:00",
        "2023/05/01 10:00:00",
        "2023.05.01 10:00:00",
        "2023:05:01T10:00:00",
        "2023:5:1 10:00:00",
        "2023:05:01 10:00",
        "2023:05:01 10:00:00.000",
        " 2023:05:01 10:00:00\0",
    ],
)
@pytest.mark.parametrize("tag", [ORIGINAL, DIGITIZED])
def test_ways_to_write_a_time(text: str, tag: int) -> None:
    assert time_of({}, {tag: text}) == SHOWN


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2023:05:01",
        "2023:13:01 10:00:00",
        "2023:05:32 10:00:00",
        "2023:05:01 25:00:00",
        "0000:00:00 00:00:00",
        "10:00:00",
    ],
)
def test_no_times(text: str) -> None:
    assert parse_exif_time(text) is None
    assert time_of({}, {ORIGINAL: text, DIGITIZED: "2023:05:01 10:00:00"}) == SHOWN, (
        "the digitised time stands in"
    )


def test_zones_of_times() -> None:
    east = SHOWN.replace(tzinfo=timezone(timedelta(hours=2)))
    written = "2023:05:01 10:00:00"
    for camera in (
        {ORIGINAL: written, 0x9011: "+02:00"},
        {ORIGINAL: written, 0x9010: "+02:00"},
        {ORIGINAL: written, 0x9011: "+0200"},
        {ORIGINAL: written + "+02:00"},
        {ORIGINAL: written, 0x882A: 2},
        {DIGITIZED: written, 0x9012: "+02:00"},
    ):
        found = time_of({}, camera)
        assert found == east
        assert found.utcoffset() == timedelta(hours=2)
    assert (
        time_of({}, {ORIGINAL: written, DIGITIZED: "2001:01:01 00:00:00", 0x9012: "+09:00"})
        == SHOWN
    )


@pytest.mark.parametrize(
    "day",
    [
        "1970:01:01",
        "1980:01:06",
        "1980:01:07",
        "2003:09:15",
        "2003:09:14",
        "1984:01:30",
        "1999:08:22",
        "2042:12:15",
    ],
)
def test_a_receiver_that_lost_count_gives_way_to_the_camera(day: str) -> None:
    gps = {**at(59.3, 18.0), 7: (8.0, 0.0, 0.0), 29: day}
    assert time_of(gps, {ORIGINAL: "2023:05:01 10:00:00"}) == SHOWN
    assert clocks_from_exif(exif_of(gps, {ORIGINAL: "2023:05:01 10:00:00"})).gps is None


def test_receivers_that_are_believed() -> None:
    stamp = datetime(2023, 5, 1, 8, 0, tzinfo=UTC)
    gps = {7: (8.0, 0.0, 0.0), 29: "2023:05:01"}
    for camera in (
        {ORIGINAL: "2023:05:01 10:00:00"},
        {ORIGINAL: "2023:04:30 21:00:00"},
        {ORIGINAL: "2000:01:01 00:00:07"},
        {},
    ):
        assert time_of(gps, camera) == stamp
    assert time_of({7: "08:00:00", 29: "2023-05-01"}) == stamp
    assert time_of({7: (8.0, 0.0, 0.0), 29: "1999:08:22"}) == datetime(
        1999, 8, 22, 8, tzinfo=UTC
    ), "nothing contradicts it"
    for epoch in ("1970:01:01", "1980:01:06"):
        assert time_of({7: (0.0, 0.0, 0.0), 29: epoch}) is None


HERE, THERE = GeoPoint(59.3, 18.0), GeoPoint(59.3003, 18.0)


def collection(*rows: tuple[datetime, GeoPoint | None]) -> Photos:
    return Photos.of(
        [
            Photo(f"{number}.jpg", point=point, time=time)
            for number, (time, point) in enumerate(rows)
        ]
    )


def utc(minute: int, hour: int = 8) -> datetime:
    return datetime(2023, 5, 1, hour, minute, tzinfo=UTC)


def local(minute: int, hour: int = 10) -> datetime:
    return datetime(2023, 5, 1, hour, minute)


def test_local_with_local_where_the_blocks_say_it() -> None:
    photos = collection((utc(0), HERE), (local(1), None), (utc(2), THERE))
    assert not time_hints(photos)
    clocks = [Clocks(local(0), None, utc(0)), Clocks(local(1)), Clocks(local(2), None, utc(2))]
    times = timeline(photos, clocks)
    (hint,) = time_hints(photos, times=times).values()
    assert (hint.before, hint.after, hint.gap_s) == ("0.jpg", "2.jpg", 120)
    assert times.remarks == (), "nothing was inferred"


def test_a_zone_other_than_utc_shows_the_cameras_clock() -> None:
    east = timezone(timedelta(hours=2))
    photos = collection(
        (local(0).replace(tzinfo=east), HERE),
        (local(1), None),
        (local(2).replace(tzinfo=east), THERE),
    )
    assert time_hints(photos)[1].gap_s == 120


@pytest.mark.parametrize("minutes", [120, -210, 345, 0])
def test_an_offset_is_inferred_from_photos_with_both_clocks(minutes: int) -> None:
    offset = timedelta(minutes=minutes)
    shown = [(utc(minute) + offset).replace(tzinfo=None) for minute in range(4)]
    photos = collection((utc(0), HERE), (shown[1], None), (utc(2), THERE), (utc(3), THERE))
    clocks = [
        Clocks(gps=utc(0)),
        Clocks(shown[1]),
        Clocks(gps=utc(2)),
        Clocks(shown[3] + timedelta(seconds=20), None, utc(3)),
    ]
    times = timeline(photos, clocks)
    hint = time_hints(photos, times=times)[1]
    assert (hint.before, hint.after) == ("0.jpg", "2.jpg")
    sign = "-" if minutes < 0 else "+"
    assert (
        f"UTC{sign}{abs(minutes) // 60:02d}:{abs(minutes) % 60:02d} by 1 photo" in times.remarks[0]
    )


def test_an_offset_is_not_inferred_where_there_is_nothing_to_infer_it_from() -> None:
    photos = collection((utc(0), HERE), (local(1), None), (utc(2), THERE))
    times = timeline(photos, [Clocks(gps=utc(0)), Clocks(local(1)), Clocks(gps=utc(2))])
    assert not time_hints(photos, times=times)
    assert "are not compared with each other: no photo carries both" in times.remarks[0]
    several = collection(
        (utc(0), HERE), (local(1), None), (utc(2), THERE), (utc(30), HERE), (utc(31), HERE)
    )
    clocks = [
        Clocks(),
        Clocks(local(1)),
        Clocks(),
        Clocks(local(30, 9), None, utc(30)),
        Clocks(local(31, 13), None, utc(31)),
    ]
    times = timeline(several, clocks)
    assert 1 not in time_hints(several, times=times)
    assert "do not agree" in times.remarks[0]


def test_utc_with_utc_across_zones() -> None:
    east, west = timezone(timedelta(hours=3)), timezone(timedelta(hours=1))
    photos = collection(
        (utc(0).astimezone(east), HERE),
        (utc(1).astimezone(west), None),
        (utc(2).astimezone(east), THERE),
    )
    assert time_hints(photos)[1].gap_s == 120


def test_a_clock_that_has_nothing_to_do_with_the_photo_is_not_taken() -> None:
    photos = collection((utc(0), HERE), (local(1), None))
    times = timeline(
        photos,
        [Clocks(datetime(2020, 1, 1)), Clocks(local(1), None, datetime(2020, 1, 1, tzinfo=UTC))],
    )
    assert times.local_us[0] == NO_TIME
    assert times.utc_us[1] == NO_TIME


def test_clocks_of_what_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(picture_bytes("JPEG")[:30])
    assert read_clocks(tmp_path / "a.jpg") == read_clocks(tmp_path / "none.jpg") == Clocks()


@pytest.mark.parametrize("day", ["2023:05:01", "1970:01:01", "2003:09:15"])
def test_a_folder_is_placed_by_time_whatever_the_receiver_says(tmp_path: Path, day: str) -> None:
    for minute, point in ((0, HERE), (1, None), (2, THERE)):
        gps = (
            {}
            if point is None
            else {**at(point.lat, point.lon), 7: (8.0, float(minute), 0.0), 29: day}
        )
        save_photo(tmp_path / f"{minute}.jpg", gps, {ORIGINAL: f"2023:05:01 10:{minute:02d}:00"})
    photos = scan_photos(tmp_path, show_progress=False)
    assert np.count_nonzero(photos.has_point) == 2
    (proposal,) = place_missing(tmp_path, show_progress=False).proposals
    assert proposal.hint is not None
    assert (proposal.hint.before, proposal.hint.after) == ("0.jpg", "2.jpg")


def test_the_verb_says_what_it_inferred(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for minute, point in ((0, HERE), (2, THERE), (30, HERE)):
        gps = {**at(point.lat, point.lon), 7: (8.0, float(minute), 0.0), 29: "2023:05:01"}
        save_photo(
            tmp_path / f"{minute}.jpg",
            gps,
            {ORIGINAL: "2023:05:01 10:30:04"} if minute == 30 else {},
        )
    save_photo(tmp_path / "asked.jpg", {}, {ORIGINAL: "2023:05:01 10:01:00"})
    assert run(["tag", str(tmp_path), "-q", "--json"]) == 0
    shown = capsys.readouterr()
    assert (
        "2 times in UTC are compared with 1 on the camera's clock, taken as UTC+02:00 by 1 photo"
        in shown.err
    )
    assert json.loads(shown.out)["time"]["gap_s"] == 120
