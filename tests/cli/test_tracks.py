"""`whence locate --sequence`: tracks of folders and videos, in every form, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest

from conftest import draw_place, view_of, write_street
from whence import cli
from whence.data.tracks import read_gpx

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A street of eight places, and its database."""
    root = tmp_path_factory.mktemp("tracked")
    write_street(root / "street", num_places=8, shift=0, run=0)
    path = root / "street.whence"
    assert (
        cli.run(
            [
                "index",
                str(root / "street"),
                "--model",
                "rootsift-vlad",
                "--db",
                str(path),
                "-q",
                "--no-calibrate",
            ]
        )
        == 0
    )
    return path


def frames_of(folder: Path, database: Path, *, unknown: tuple[int, ...] = ()) -> Path:
    """The street seen again, frame after frame; some frames show what is nowhere in it."""
    folder.mkdir(parents=True)
    for number, file in enumerate(sorted((database.parent / "street").iterdir())):
        target = folder / f"{number:03d}.jpg"
        if number in unknown:
            encoded = cv2.imencode(
                ".jpg", view_of(draw_place(900 + number), shift=0, seed=1)[..., ::-1]
            )[1]
            target.write_bytes(encoded.tobytes())
        else:
            shutil.copy(file, target)
    return folder


def run(*words: str | Path) -> int:
    return cli.run([str(word) for word in words])


def test_a_folder_of_frames_is_tracked_in_every_form(
    database: Path, tmp_path: Path, capsys: Capture
) -> None:
    folder = frames_of(tmp_path / "walk", database)
    out = {kind: tmp_path / f"track.{kind}" for kind in ("csv", "gpx", "geojson")}
    words = [word for kind, file in out.items() for word in (f"--{kind}", file)]
    assert run("locate", folder, "--sequence", "3", "--db", database, "--json", "-q", *words) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["frame"] for line in lines] == list(range(8))
    assert all(line["status"] == "located" and line["position"]["radius_m"] > 0 for line in lines)
    assert all(line["unsmoothed"] is not None for line in lines)
    found = json.loads(out["geojson"].read_text())["features"]
    assert found[0]["geometry"]["type"] == "MultiLineString"
    assert found[0]["properties"] == {"num_frames": 8, "num_located": 8}
    assert len(found[0]["geometry"]["coordinates"][0]) == 8
    assert len(found) == 9
    points = ElementTree.parse(out["gpx"]).findall(".//{*}trkpt")
    assert len(points) == 8
    assert len(out["csv"].read_text().splitlines()) == 9
    assert (
        run(
            "locate",
            folder,
            "--sequence",
            "3",
            "--db",
            database,
            "-q",
            "--set",
            "is_smoothed=false",
        )
        == 0
    )
    assert "8 frames, 8 with an answer" in capsys.readouterr().out


def test_frames_of_an_unknown_street_part_the_line(
    database: Path, tmp_path: Path, capsys: Capture
) -> None:
    folder = frames_of(tmp_path / "walk", database, unknown=(3, 4))
    line = tmp_path / "line.geojson"
    assert (
        run(
            "locate", folder, "--sequence", "1", "--db", database, "--json", "-q", "--geojson", line
        )
        == 0
    )
    lines = [json.loads(text) for text in capsys.readouterr().out.splitlines()]
    assert [one["status"] == "unknown" for one in lines] == [
        number in (3, 4) for number in range(8)
    ]
    pieces = json.loads(line.read_text())["features"][0]["geometry"]["coordinates"]
    assert [len(piece) for piece in pieces] == [3, 3]


def test_what_is_no_drive_is_refused(database: Path, tmp_path: Path, capsys: Capture) -> None:
    folder = frames_of(tmp_path / "walk", database)
    for words, said in (
        ([folder / "000.jpg", "--sequence", "3"], "folders of frames"),
        ([folder, "--sequence", "0"], "later"),
        ([folder, "--sequence", "3", "--every", "1s"], "for videos"),
        ([folder, "--every", "1s"], "go with --sequence"),
        ([folder, "--sequence", "3", "--report", tmp_path / "a.html"], "--report"),
    ):
        assert run("locate", *words, "--db", database, "-q") == 1
        assert said in capsys.readouterr().err


def test_a_video_is_tracked_with_its_times(database: Path, tmp_path: Path, capsys: Capture) -> None:
    pytest.importorskip("av")
    from video_samples import write_video

    files = sorted((database.parent / "street").iterdir())
    pictures = [cv2.imread(str(file))[..., ::-1] for file in files for _ in range(2)]
    height, width = (side // 2 * 2 for side in pictures[0].shape[:2])
    video = write_video(
        tmp_path / "walk.mkv",
        [0.5 * number for number in range(len(pictures))],
        pictures=[np.ascontiguousarray(picture[:height, :width]) for picture in pictures],
        tags={"creation_time": "2026-05-01T10:00:00Z"},
    )
    gpx = tmp_path / "walk.gpx"
    assert (
        run("locate", video, "--sequence", "3", "--db", database, "--json", "-q", "--gpx", gpx) == 0
    )
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["time_s"] for line in lines] == pytest.approx(list(range(8)), abs=0.01)
    track = read_gpx(gpx)
    assert np.diff(track.time_us).tolist() == [1_000_000] * (len(track.time_us) - 1)
