"""Videos: what they say of themselves, frames at uneven times, turned ones, a video cut short, and
what is kept of one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("av")

from video_samples import picture, write_video
from whence.data.frame_folders import read_frame_folder
from whence.data.images import load_image
from whence.data.tracks import Track
from whence.data.video_frames import Every, extract_frames
from whence.data.videos import Video, VideoFrame, is_video
from whence.data.windows import cut_windows
from whence.errors import BadOption, NoPhotos, UnreadableVideo

TAGS = {
    "creation_time": "2026-05-01T10:00:00Z",
    "com.apple.quicktime.location.ISO6709": "+48.1370+011.5750+519.000/",
}
BEGIN = round(datetime(2026, 5, 1, 10, tzinfo=UTC).timestamp() * 1e6)


def straight(
    seconds: list[float], *, metres_per_s: float = 5.0, shift: timedelta = timedelta()
) -> Track:
    """A way to the north."""
    times = (
        BEGIN
        + np.round(np.array(seconds) * 1e6).astype(np.int64)
        + round(shift.total_seconds() * 1e6)
    )
    lat = 48 + np.array(seconds) * metres_per_s / 111_194
    return Track("way.gpx", times, lat, np.full(len(lat), 11.5), np.full(len(lat), np.nan))


def test_a_video_says_where_and_when_it_began_and_gives_its_frames_in_time(tmp_path: Path) -> None:
    seconds = [0.0, 0.1, 0.5, 0.6, 2.0]
    file = write_video(tmp_path / "phone.mov", seconds, tags=TAGS)
    with Video(file) as video:
        facts = video.facts()
        frames = [(frame.number, frame.seconds, frame.pixels()) for frame in video.frames()]
    assert facts.start == datetime(2026, 5, 1, 10, tzinfo=UTC)
    assert facts.point is not None
    assert (facts.point.lat, facts.point.lon, facts.point.altitude_m) == (48.137, 11.575, 519.0)
    assert [number for number, _, _ in frames] == list(range(5))
    assert [second for _, second, _ in frames] == pytest.approx(seconds, abs=0.002)
    for number, _, image in frames:
        assert image.shape == (48, 64, 3)
        assert np.abs(image.astype(int) - picture(number)).mean() < 12
    assert is_video("DRIVE.MP4")
    assert not is_video("drive.jpg")


def test_files_that_are_no_videos_are_refused_and_one_cut_short_gives_what_it_has(
    tmp_path: Path,
) -> None:
    (tmp_path / "no.mp4").write_bytes(b"nothing of the kind" * 20)
    with pytest.raises(UnreadableVideo, match=r"no\.mp4"):
        Video(tmp_path / "no.mp4")
    with pytest.raises(UnreadableVideo, match=r"gone\.mp4"):
        Video(tmp_path / "gone.mp4")
    seconds = [0.2 * n for n in range(60)]
    whole = write_video(tmp_path / "whole.mkv", seconds).read_bytes()
    (tmp_path / "cut.mkv").write_bytes(whole[: len(whole) // 2])
    found = extract_frames(tmp_path / "cut.mkv", tmp_path / "frames", every=Every.parse("1s"))
    assert 2 <= found.num_frames < 12
    assert any("cut short" in remark for remark in found.remarks)
    assert not extract_frames(
        tmp_path / "whole.mkv", tmp_path / "all", every=Every.parse("1s")
    ).remarks
    assert len(list((tmp_path / "all").iterdir())) == 12


def test_frames_every_second_of_uneven_ones_leave_holes_as_holes(tmp_path: Path) -> None:
    seconds = [0.0, 0.3, 0.9, 1.1, 1.2, 2.05, 5.0, 5.5, 6.2]
    file = write_video(tmp_path / "a b@c.mp4", seconds)
    found = extract_frames(file, tmp_path / "frames", every=Every.parse("1s"))
    frames = read_frame_folder(found.folder)
    assert frames.frame.tolist() == [0, 1, 2, 5, 6]
    assert frames.photos.paths[0] == "a-b-c-000000.jpg"
    assert not frames.photos.has_point.any()
    shown = [load_image(frames.photos.file(row)) for row in range(5)]
    for image, number in zip(shown, (0, 3, 5, 6, 8), strict=True):
        assert np.abs(image.astype(int) - picture(number)).mean() < 14
    assert len(cut_windows(frames.sequence, frames.frame, length=3)) == 1
    before = {path: path.stat().st_mtime_ns for path in found.folder.iterdir()}
    assert extract_frames(file, tmp_path / "frames", every=Every.parse("1s")).num_frames == 5
    assert before == {path: path.stat().st_mtime_ns for path in found.folder.iterdir()}, (
        "nothing is written twice"
    )


@pytest.mark.parametrize("hours", [0, 2])
def test_frames_every_few_metres_of_a_track_in_any_zone(tmp_path: Path, hours: int) -> None:
    file = write_video(tmp_path / "drive.mp4", [0.1 * n for n in range(81)], tags=TAGS)
    # Five metres a second, but for a hole after four seconds.
    track = straight([0, 1, 2, 3, 4, 40, 41], shift=timedelta(hours=-hours))
    found = extract_frames(
        file,
        tmp_path / "frames",
        every=Every.parse("2.4m"),
        track=straight(list(range(10)), shift=timedelta(hours=-hours)),
    )
    frames = read_frame_folder(found.folder)
    steps = np.diff(frames.photos.lat) * 111_194
    assert found.num_frames == found.num_with_point == len(frames.photos) == 17
    assert np.allclose(steps, 2.5, atol=0.6)
    assert set(frames.photos.point_source.tolist()) == {b"name"}
    assert bool(found.remarks) == bool(hours)
    holey = extract_frames(file, tmp_path / "holey", every=Every.parse("1s"), track=track)
    assert holey.num_frames == 9
    assert holey.num_with_point == 5


def test_what_is_not_possible_is_said(tmp_path: Path) -> None:
    file = write_video(tmp_path / "plain.mp4", [0, 0.5, 1])
    with pytest.raises(BadOption, match="--track"):
        extract_frames(file, tmp_path / "frames", every=Every.parse("2m"))
    with pytest.raises(BadOption, match="does not say when it began"):
        extract_frames(file, tmp_path / "frames", every=Every.parse("2m"), track=straight([0, 1]))
    dated = write_video(tmp_path / "dated.mp4", [0, 0.5, 1], tags=TAGS)
    with pytest.raises(BadOption, match="does not lie within"):
        extract_frames(
            dated,
            tmp_path / "frames",
            every=Every.parse("2m"),
            track=straight([0, 1], shift=timedelta(minutes=6)),
        )
    with pytest.raises(NoPhotos, match="none of them has a place"):
        extract_frames(dated, tmp_path / "hole", every=Every.parse("2m"), track=straight([-40, 40]))
    for text in ("2", "0s", "m", "-1s", "1h", ""):
        with pytest.raises(BadOption, match="1s"):
            Every.parse(text)


def test_at_a_change_a_still_view_is_kept_once(tmp_path: Path) -> None:
    still, other = np.full((48, 64, 3), 40, np.uint8), np.full((48, 64, 3), 200, np.uint8)
    file = write_video(
        tmp_path / "still.mp4", [0.2 * n for n in range(20)], pictures=[still] * 8 + [other] * 12
    )
    found = extract_frames(file, tmp_path / "frames", every=Every.parse("change"))
    assert found.num_frames == 2
    assert read_frame_folder(found.folder).frame.tolist() == [0, 1]


def test_turned_pictures_come_upright() -> None:
    image = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)

    class Picture:
        rotation = -90

        def to_ndarray(self, *, format: str) -> np.ndarray:
            assert format == "rgb24"
            return image

    upright = VideoFrame(0, 0.0, Picture()).pixels()
    assert np.array_equal(upright, np.rot90(image, -1))
    assert upright.shape == (4, 2, 3)
