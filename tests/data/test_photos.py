"""The table of photos."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whence.data.photos import COLUMNS, NO_TIME, Photos
from whence.types import GeoPoint, Photo, PlanePoint, SkippedPhoto

FULL = Photo(
    path="a/ü.jpg",
    content="0123456789abcdef" * 2,
    point=GeoPoint(-33.5, 151.25, 12.5),
    plane=PlanePoint(1.5, 2.5, "56H"),
    point_source="sidecar",
    heading_deg=271.5,
    heading_is_magnetic=True,
    error_m=4.5,
    time=datetime(
        2024, 5, 31, 14, 3, 1, 250_000, tzinfo=timezone(timedelta(hours=-3, minutes=-30))
    ),
    width=4000,
    height=3000,
    size_bytes=5_000_000_000,
    mtime_ns=1_700_000_000_123_456_789,
)
BARE = Photo("b.jpg")

times = st.one_of(
    st.none(),
    st.datetimes(),
    st.datetimes(
        min_value=datetime(2, 1, 1),
        max_value=datetime(9998, 1, 1),
        timezones=st.integers(-23 * 60, 23 * 60).map(
            lambda minutes: timezone(timedelta(minutes=minutes))
        ),
    ),
)
points = st.builds(
    GeoPoint, st.floats(-90, 90), st.floats(-180, 180), st.none() | st.floats(-500, 9000)
)
photos = st.builds(
    Photo,
    path=st.text(min_size=1, max_size=20),
    content=st.sampled_from(["", FULL.content]),
    point=st.none() | points,
    plane=st.none()
    | st.builds(
        PlanePoint, st.floats(-1e7, 1e7), st.floats(-1e7, 1e7), st.sampled_from(["", "33V", "01C"])
    ),
    point_source=st.sampled_from(["", "exif", "name", "csv", "geojson", "sidecar"]),
    heading_deg=st.none() | st.floats(0, 360, width=32),
    heading_is_magnetic=st.booleans(),
    error_m=st.none() | st.floats(0, 1000, width=32),
    time=times,
    width=st.integers(0, 2**31 - 1),
    height=st.integers(0, 2**31 - 1),
    size_bytes=st.integers(0, 2**62),
    mtime_ns=st.integers(-(2**62), 2**62),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(photos, max_size=5))
def test_records_survive_the_table(records: list[Photo]) -> None:
    table = Photos.of(records)
    assert list(table) == records
    for made, given_record in zip(table, records, strict=True):
        if given_record.time is not None:
            assert made.time is not None
            assert made.time.utcoffset() == given_record.time.utcoffset()


def test_columns() -> None:
    table = Photos.of([FULL, BARE], root="root", skipped=[SkippedPhoto("c.jpg", "broken")])
    assert len(table) == 2
    assert table[0] == FULL
    assert table[-1] == BARE
    assert table.lat[0] == -33.5
    assert np.isnan(table.lat[1])
    assert table.time_us[1] == NO_TIME
    assert table.has_point.tolist() == [True, False]
    assert table.has_plane.tolist() == [True, False]
    assert table.file(0).as_posix() == "root/a/ü.jpg"
    for name, dtype in COLUMNS.items():
        assert getattr(table, name).dtype == np.dtype(dtype)
    with pytest.raises(IndexError):
        table[2]
    with pytest.raises(AttributeError, match="no attribute 'latitude'"):
        table.latitude  # noqa: B018


def test_empty_table() -> None:
    table = Photos.of([])
    assert list(table) == []
    assert table.has_point.shape == (0,)
    assert list(table.select(np.empty(0, np.int64))) == []
    assert len(Photos.concatenate([])) == 0


def test_select_concatenate_replace() -> None:
    skipped = [SkippedPhoto("c.jpg", "broken")]
    table = Photos.of([FULL, BARE], root="root", skipped=skipped)
    assert list(table.select(np.array([1, 0, 1]))) == [BARE, FULL, BARE]
    chosen = table.select(np.array([False, True]))
    assert list(chosen) == [BARE]
    assert (chosen.root, chosen.skipped) == (table.root, tuple(skipped))
    both = Photos.concatenate([table, chosen])
    assert list(both) == [FULL, BARE, BARE]
    assert both.skipped == (*skipped, *skipped)
    assert table.with_columns(width=np.array([1, 2])).width.tolist() == [1, 2]
    assert table.width.tolist() == [4000, 0]
    with pytest.raises(ValueError, match="column width"):
        table.with_columns(width=np.array([1]))


def test_times_keep_zone_and_instant() -> None:
    same_instant = [
        datetime(2024, 1, 1, 12, tzinfo=UTC),
        datetime(2024, 1, 1, 14, tzinfo=timezone(timedelta(hours=2))),
    ]
    table = Photos.of(
        [
            Photo("a", time=same_instant[0]),
            Photo("b", time=same_instant[1]),
            Photo("c", time=datetime(2024, 1, 1, 12)),
        ]
    )
    assert table.time_us[0] == table.time_us[1] == 1_704_110_400_000_000
    assert table[2].time == datetime(2024, 1, 1, 12)
    assert table[2].time.tzinfo is None
