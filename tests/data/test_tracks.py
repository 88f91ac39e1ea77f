"""Tracks: GPX files, right and wrong, points between fixes, clocks in other zones, and points as
phones write them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from whence.data.tracks import Track, fitted_to_clock, parse_iso6709, read_gpx
from whence.errors import UnreadableTable

BEGIN = datetime(2026, 5, 1, 10, 0, tzinfo=UTC)


def gpx(times: list[str], *, kind: str = "trkpt", lat: str = "48.{}", extra: str = "") -> str:
    points = "".join(
        f'<{kind} lat="{lat.format(i)}" lon="11.5"><ele>5{i}0</ele><time>{time}</time></{kind}>'
        for i, time in enumerate(times)
    )
    inside = f"<trk><trkseg>{points}</trkseg></trk>" if kind == "trkpt" else points
    return f'<?xml version="1.0"?>{extra}<gpx version="1.1" xmlns="http://www.topografix.com/GPX/1/1">{inside}</gpx>'


def track_of(seconds: list[float], begin: datetime = BEGIN) -> Track:
    start = round(begin.timestamp() * 1e6)
    count = len(seconds)
    lat = 48 + 0.001 * np.arange(count)
    times = start + np.round(np.array(seconds) * 1e6).astype(np.int64)
    return Track("walk.gpx", times, lat, np.full(count, 11.0), np.full(count, np.nan))


def test_points_come_in_the_order_of_time_and_broken_ones_are_passed_over(tmp_path: Path) -> None:
    file = tmp_path / "a.gpx"
    file.write_text(
        gpx(
            [
                "2026-05-01T10:00:02Z",
                "2026-05-01T12:00:01+02:00",
                "yesterday",
                "2026-05-01T10:00:03",
            ]
        )
    )
    track = read_gpx(file)
    assert (track.time_us - round(BEGIN.timestamp() * 1e6)).tolist() == [
        1_000_000,
        2_000_000,
        3_000_000,
    ]
    assert track.lat.tolist() == [48.1, 48.0, 48.3]
    assert track.altitude_m.tolist() == [510, 500, 530]
    file.write_text(gpx(["2026-05-01T10:00:02Z"], kind="wpt"))
    assert len(read_gpx(file).lat) == 1


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "no GPX"),
        ("<gpx><trk>", "no GPX"),
        (gpx(["2026-05-01T10:00:02Z"], extra="<!DOCTYPE gpx [<!ENTITY a 'b'>]>"), "document type"),
        (gpx(["never"]), "1 points and none"),
        (gpx(["2026-05-01T10:00:02Z"], lat="95.{}"), "none with a place"),
        (gpx([]), "0 points"),
    ],
)
def test_broken_files_are_named(tmp_path: Path, text: str, match: str) -> None:
    (tmp_path / "b.gpx").write_text(text)
    with pytest.raises(UnreadableTable, match=match):
        read_gpx(tmp_path / "b.gpx")
    with pytest.raises(UnreadableTable, match="No such file"):
        read_gpx(tmp_path / "nowhere.gpx")


def test_between_fixes_in_proportion_and_nothing_in_holes_or_beyond() -> None:
    track = track_of([0, 10, 100, 110])
    start = track.time_us[0]
    lat, lon = track.at(start + np.array([-1, 0, 5, 10, 50, 100, 105, 110, 111]) * 1_000_000)
    assert np.allclose(
        lat, [np.nan, 48, 48.0005, 48.001, np.nan, 48.002, 48.0025, 48.003, np.nan], equal_nan=True
    )
    assert np.isnan(lon[4])
    far = Track(
        "x", start + np.array([0, 10_000_000]), np.zeros(2), np.array([179.9, -179.9]), np.zeros(2)
    )
    assert far.at(np.array([start + 5_000_000]))[1][0] == pytest.approx(-180)
    one = track_of([3])
    assert one.at(one.time_us)[0].tolist() == [48.0]


@pytest.mark.parametrize("hours", [0, 2, -5, 5.75])
def test_a_clock_in_another_zone_is_found_out(hours: float) -> None:
    track = track_of([0, 10, 20, 30])
    start = round((BEGIN + timedelta(hours=hours, seconds=2)).timestamp() * 1e6)
    moved, said = fitted_to_clock(track, start_us=start, end_us=start + 25_000_000)
    assert moved is not None
    assert moved.at(np.array([start]))[0][0] == pytest.approx(48.0002)
    assert bool(said) == (hours != 0)


def test_a_clock_that_nothing_explains_is_not_believed() -> None:
    track = track_of([0, 10, 20, 30])
    for gap in (timedelta(minutes=7), timedelta(days=3)):
        start = round((BEGIN + gap).timestamp() * 1e6)
        moved, said = fitted_to_clock(track, start_us=start, end_us=start + 25_000_000)
        assert moved is None
        assert "not taken" in said
    long = track_of(list(range(0, 4 * 3600, 10)))
    start = round((BEGIN - timedelta(hours=6)).timestamp() * 1e6)
    moved, said = fitted_to_clock(long, start_us=start, end_us=start + 60_000_000)
    assert moved is None
    assert "several whole hours" in said


@pytest.mark.parametrize(
    ("text", "point"),
    [
        ("+48.137+011.575+519.000/", (48.137, 11.575, 519.0)),
        ("-33.8600+151.2100/", (-33.86, 151.21, None)),
        ("+4808.22+01134.5/", (48.137, 11.575, None)),
        ("+480813.2+0113430+12CRSWGS_84/", (48.137, 11.575, 12.0)),
        ("+95.0+011.0/", None),
        ("+4899.0+01100.0/", None),
        ("48.1, 11.5", None),
        ("", None),
    ],
)
def test_points_of_phones(text: str, point: tuple[float, float, float | None] | None) -> None:
    found = parse_iso6709(text)
    if point is None:
        assert found is None
    else:
        assert found is not None
        assert (found.lat, found.lon) == pytest.approx(point[:2], abs=1e-6)
        assert found.altitude_m == point[2]
