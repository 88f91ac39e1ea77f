"""`whence index` of a video: its frames are photos of the database, with places where they are
known."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("av")

from video_samples import write_video
from whence import cli

TAGS = {"creation_time": "2026-05-01T10:00:00Z"}
GPX = '<gpx xmlns="http://www.topografix.com/GPX/1/1"><trk><trkseg>{}</trkseg></trk></gpx>'


def write_gpx(file: Path, num: int) -> Path:
    points = "".join(
        (
            f'<trkpt lat="{48 + n * 5e-5:.6f}" '
            f'lon="11.5"><time>2026-05-01T10:00:{n:02d}Z</time></trkpt>'
        )
        for n in range(num)
    )
    file.write_text(GPX.format(points))
    return file


def test_a_video_is_indexed_and_refreshed_with_the_places_of_its_track(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    video = write_video(tmp_path / "drive.mp4", [0.25 * n for n in range(33)], tags=TAGS)
    track = write_gpx(tmp_path / "drive.gpx", 12)
    database = tmp_path / "street.whence"
    common = ["--model", "rootsift-vlad", "--db", str(database), "-q", "--json", "--no-calibrate"]
    assert cli.run(["index", str(video), "--every", "1s", "--track", str(track), *common]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["num_photos"], found["num_with_point"]) == (9, 9)
    assert len(list((tmp_path / "street.frames" / "drive").iterdir())) == 9
    assert cli.run(["database", "refresh", "--db", str(database), "-q", "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert (again["num_photos"], again["num_with_point"], again["num_described"]) == (9, 9, 0)
    assert cli.run(["index", str(tmp_path), "--every", "2s", *common]) == 1
    assert "none is given" in capsys.readouterr().err
    assert cli.run(["index", str(video), "--every", "2m", *common]) == 1
    assert "--track" in capsys.readouterr().err
