"""Tracks: the motion model against the slow way, jumps, streets that nobody knows, gaps, and
memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from whence.errors import BadOption, UnreadableImage
from whence.geo import from_local_metres, local_metres
from whence.localize.motion import Motion, smooth
from whence.localize.tracking import SET_ASIDE, Tracker, TrackPoint, located_line, smooth_points
from whence.models.descriptor import Described
from whence.types import GeoPoint, Position

ORIGIN = GeoPoint(48.1, 11.5)


def degrees(metres: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    lat, lon = from_local_metres(metres[:, 0], metres[:, 1], origin=ORIGIN)
    return np.asarray(lat), np.asarray(lon)


def way(num: int, *, seed: int = 0, noise_m: float = 8.0) -> tuple[np.ndarray, np.ndarray]:
    """A drive at 10 m/s round a corner, as it was and as it was seen."""
    along = np.arange(num) * 10.0
    truth = np.stack([np.minimum(along, 150), np.maximum(along - 150, 0)], axis=1)
    return truth, truth + np.random.default_rng(seed).normal(0, noise_m, truth.shape)


def test_smoothing_is_the_slow_least_squares_of_the_same_model() -> None:
    motion = Motion(acceleration_m_s2=1.5, start_speed_m_s=12.0, gate=1e9)
    seconds = np.array([0.0, 1.0, 2.5, 3.0, 4.2, 6.0])
    sigma = np.array([4.0, 6, 5, 8, 4, 5])
    seen = np.random.default_rng(1).normal(0, 15, (6, 2))
    # All states together: minimise the squared misfits of places, of steps, and of the first
    # velocity, each by its spread.
    rows, values, weights = [], [], []
    for i in range(6):
        rows.append(np.eye(12)[2 * i][None])
        values.append(seen[i][None])
        weights.append(np.array([[1 / sigma[i]]]))
    rows.append(np.eye(12)[1][None])
    values.append(np.zeros((1, 2)))
    weights.append(np.array([[1 / motion.start_speed_m_s]]))
    for i in range(5):
        span = seconds[i + 1] - seconds[i]
        # A tiny addition makes the step's spread, of rank one, invertible.
        noise = motion.acceleration_m_s2**2 * np.array(
            [[span**4 / 4, span**3 / 2], [span**3 / 2, span**2]]
        ) + 1e-7 * np.eye(2)
        step = np.zeros((2, 12))
        step[:, 2 * i + 2 : 2 * i + 4] = np.eye(2)
        step[:, 2 * i : 2 * i + 2] -= np.array([[1, span], [0, 1]])
        rows.append(step)
        values.append(np.zeros((2, 2)))
        weights.append(np.linalg.cholesky(np.linalg.inv(noise)).T)
    design = np.concatenate([w @ r for w, r in zip(weights, rows, strict=True)])
    slow = np.linalg.lstsq(
        design, np.concatenate([w @ v for w, v in zip(weights, values, strict=True)]), rcond=None
    )[0][::2]
    found = smooth(seconds, *degrees(seen), sigma, motion=motion)
    assert not found.is_set_aside.any()
    assert np.allclose(local_metres(found.lat, found.lon, origin=ORIGIN), slow, atol=0.05)


def test_smoothing_brings_a_track_nearer_to_the_truth_and_makes_no_answers() -> None:
    truth, seen = way(40)
    lat, lon = degrees(seen)
    lat[20:25] = np.nan
    found = smooth(np.arange(40.0), lat, lon, np.full(40, 8.0))
    assert np.isnan(found.lat[20:25]).all()
    kept = np.r_[0:20, 25:40]
    after = np.linalg.norm(
        local_metres(found.lat[kept], found.lon[kept], origin=ORIGIN) - truth[kept], axis=1
    )
    before = np.linalg.norm(seen[kept] - truth[kept], axis=1)
    assert np.median(after) < 0.8 * np.median(before)
    nothing = smooth(np.arange(3.0), np.full(3, np.nan), np.full(3, np.nan), np.ones(3))
    assert np.isnan(nothing.lat).all()


def test_a_jump_is_set_aside_and_a_new_way_is_not() -> None:
    _, seen = way(30, noise_m=3.0)
    seen[10] += 900
    seen[15:17] -= 700
    found = smooth(np.arange(30.0), *degrees(seen), np.full(30, 4.0))
    assert np.flatnonzero(found.is_set_aside).tolist() == [10, 15, 16]
    seen[20:] += 2000
    moved = smooth(np.arange(30.0), *degrees(seen), np.full(30, 4.0))
    assert np.flatnonzero(moved.is_set_aside).tolist() == [10, 15, 16], (
        "three that agree are where the camera is"
    )
    late = np.r_[np.arange(20.0), np.arange(100.0, 110.0)]
    assert not smooth(late, *degrees(seen), np.full(30, 4.0)).is_set_aside[20:].any()
    with pytest.raises(BadOption, match="above 0"):
        Motion(gate=0)


@dataclass
class FakeJudge:
    """Answers with the mean of what frames say: a frame is an image whose first pixel is its metre
    east; 255 is nowhere."""

    asked: list[list[int]] = field(default_factory=list)

    def describe(self, queries: list[Any]) -> Any:
        for image in queries:
            if image is not None and image.shape[0] == 1:
                yield UnreadableImage("frame", "too small")
            else:
                yield Described(np.array([float(image[0, 0, 0]), 1.0], np.float32))

    def answer(self, query: str, described: Described, **_: Any) -> Position:
        mean = described.descriptor[0] / described.descriptor[1]
        self.asked.append([round(float(mean))])
        if mean > 200:
            return Position(query, "unknown", reason="nothing like it", is_verified=True)
        lat, lon = degrees(np.array([[float(mean), 0.0]]))
        return Position(
            query,
            "located",
            GeoPoint(float(lat[0]), float(lon[0])),
            radius_m=20.0,
            is_verified=True,
        )


def frame(value: int, rows: int = 2) -> np.ndarray:
    return np.full((rows, 2, 3), value, np.uint8)


def metres(points: list[TrackPoint]) -> list[float | None]:
    return [
        None
        if (at := one.position.point) is None
        else round(float(local_metres(at.lat, at.lon, origin=ORIGIN)[0]), 1)
        for one in points
    ]


def run(tracker: Tracker, values: list[int], numbers: list[int] | None = None) -> list[TrackPoint]:
    found: list[TrackPoint] = []
    for place, value in enumerate(values):
        found += tracker.add(frame(value), number=None if numbers is None else numbers[place])
    return [*found, *tracker.finish()]


def test_each_frame_is_answered_once_with_those_around_it() -> None:
    tracker = Tracker(FakeJudge(), length=3, motion=None)  # type: ignore[arg-type]
    found = run(tracker, [0, 30, 60, 90])
    assert [one.number for one in found] == [0, 1, 2, 3]
    # The mean of directions (x, 1) at unit length: not quite that of x, but within its neighbours.
    assert metres(found)[1] == pytest.approx(30, abs=30)
    assert metres(found)[0] < metres(found)[1] < metres(found)[2] < metres(found)[3]  # type: ignore[operator]
    live = Tracker(FakeJudge(), length=3, ahead=0, motion=None)  # type: ignore[arg-type]
    assert [len(live.add(frame(value))) for value in (0, 30, 60)] == [1, 1, 1]
    assert live.finish() == ()
    with pytest.raises(BadOption, match="cannot be later"):
        Tracker(FakeJudge(), length=3, ahead=3)  # type: ignore[arg-type]


def test_a_gap_parts_windows_and_an_unread_frame_is_unknown() -> None:
    single = run(Tracker(FakeJudge(), length=1, motion=None), [10, 20, 120])  # type: ignore[arg-type]
    parted = run(Tracker(FakeJudge(), length=3, motion=None), [10, 20, 120], [0, 1, 5])  # type: ignore[arg-type]
    assert metres(parted)[2] == metres(single)[2]
    tracker = Tracker(FakeJudge(), length=3, motion=None)  # type: ignore[arg-type]
    found = [
        *tracker.add(frame(10)),
        *tracker.add(frame(10, rows=1)),
        *tracker.add(frame(10)),
        *tracker.finish(),
    ]
    assert [one.position.status for one in found] == ["located", "unknown", "located"]
    assert "too small" in found[1].position.reason
    tracker.add(frame(1), number=4)
    with pytest.raises(BadOption, match="in the order"):
        tracker.add(frame(1), number=3)


def test_memory_is_that_of_a_window() -> None:
    tracker = Tracker(FakeJudge(), length=5)  # type: ignore[arg-type]
    for number in range(200):
        tracker.add(frame(number % 100))
        assert len(tracker._frames) <= 5
    assert len(tracker._points) <= 60


def test_an_unknown_street_stays_unknown_whatever_lies_around_it() -> None:
    tracker = Tracker(FakeJudge(), length=1)  # type: ignore[arg-type]
    found = run(tracker, [10, 12, 14, 255, 255, 255, 22, 24])
    smoothed = smooth_points(found, Motion())
    assert [one.position.status for one in smoothed] == ["located"] * 3 + ["unknown"] * 3 + [
        "located"
    ] * 2
    assert [len(piece) for piece in located_line(smoothed)] == [3, 2]


def test_an_answer_that_contradicts_the_drive_is_withdrawn() -> None:
    tracker = Tracker(FakeJudge(), length=1, motion=None)  # type: ignore[arg-type]
    found = run(tracker, [10, 11, 12, 13, 199, 14, 15, 16])
    smoothed = smooth_points(found, Motion(acceleration_m_s2=0.5, start_speed_m_s=2.0))
    assert [one.position.reason == SET_ASIDE for one in smoothed].index(True) == 4
    assert smoothed[4].position.point is None
    assert smoothed[4].raw is not None
    assert smoothed[0].to_dict()["frame"] == 0


def test_a_localizer_tracks_a_street(street: Path, tmp_path: Path) -> None:
    from whence.localize.localizer import RETRIEVE_ONLY, Localizer
    from whence.settings import BuildOptions

    localizer = Localizer.build(
        street / "database", path=tmp_path / "s.whence", options=BuildOptions(model="rootsift-vlad")
    )
    files = sorted((street / "database").iterdir())[:6]
    with localizer:
        tracker = localizer.track(length=3, options=RETRIEVE_ONLY, motion=None)
        found = [point for file in files for point in tracker.add(file)]
        found += tracker.finish()
    assert len(found) == 6
    assert all(one.position.point is not None for one in found)
    assert found[0].position.query == str(files[0])
