"""Databases as folders in kapture's format: every file of them, and read back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from descriptor_samples import CARD, NAME, MeanColours
from whence.cli import run
from whence.data.feature_files import PairMatches, PhotoDescriptor, PhotoKeypoints
from whence.data.images import image_header
from whence.data.kapture_files import (
    PhotoRecord,
    read_global_features,
    read_records,
    write_global_features,
    write_local_features,
    write_pair_matches,
    write_records,
)
from whence.errors import InputError, UnreadableTable
from whence.localize.localizer import RETRIEVE_ONLY, Localizer
from whence.registry import KINDS, register

RECORDS = [
    PhotoRecord("a/one.jpg", (640, 480), (59.5, 18.25, 12.0)),
    PhotoRecord("a/two.jpg", (640, 480), (-33.0, 151.0, float("nan"))),
    PhotoRecord("b.jpg", (320, 240)),
]


@pytest.fixture(scope="module", autouse=True)
def registered() -> Iterator[None]:
    """A descriptor that is not fitted, by name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(KINDS["model"], "_rows", dict(KINDS["model"]))
        register("model", NAME, lambda **_: MeanColours(), card=CARD)
        yield


def lines_of(file: Path) -> list[str]:
    return file.read_text().splitlines()


def test_tables_are_as_the_format_says(tmp_path: Path) -> None:
    write_records(tmp_path, RECORDS)
    assert lines_of(tmp_path / "sensors" / "sensors.txt") == [
        "# kapture format: 1.1",
        "# sensor_device_id, name, sensor_type, [sensor_params]+",
        "camera0, , camera, UNKNOWN_CAMERA, 320, 240",
        "camera1, , camera, UNKNOWN_CAMERA, 640, 480",
        "gps, , gnss, EPSG:4326",
    ]
    assert lines_of(tmp_path / "sensors" / "records_camera.txt")[2:] == [
        "0, camera1, a/one.jpg",
        "1, camera1, a/two.jpg",
        "2, camera0, b.jpg",
    ]
    assert lines_of(tmp_path / "sensors" / "records_gnss.txt")[2:] == [
        "0, gps, 18.250000000, 59.500000000, 12.000, 0, 0",
        "1, gps, 151.000000000, -33.000000000, 0.000, 0, 0",
    ]
    assert read_records(tmp_path) == [
        RECORDS[0],
        RECORDS[1]._replace(point=(-33.0, 151.0, 0.0)),
        RECORDS[2],
    ]


def test_numbers_are_as_the_format_says(tmp_path: Path) -> None:
    write_global_features(tmp_path, "mine", [PhotoDescriptor("a/one.jpg", np.arange(3.0))], dim=3)
    points = PhotoKeypoints(
        "a/one.jpg", np.array([[0.0, 2.0]]), np.ones((1, 2)), np.ones(1), (640, 480)
    )
    assert write_local_features(tmp_path, "sift", [points], dim=2) == 1
    matches = PairMatches("b.jpg", "a/one.jpg", np.array([[4, 7]]), np.array([0.5]), 9)
    write_pair_matches(tmp_path, "sift", [matches])
    root = tmp_path / "reconstruction"
    assert lines_of(root / "global_features" / "mine" / "global_features.txt")[2:] == [
        "mine, float32, 3, L2"
    ]
    feature = root / "global_features" / "mine" / "a" / "one.jpg.gfeat"
    assert np.fromfile(feature, "<f4").tolist() == [0, 1, 2]
    assert lines_of(root / "descriptors" / "sift" / "descriptors.txt")[2:] == [
        "sift, float32, 2, sift, L2"
    ]
    # The centre of the first pixel lies half a pixel from the corner.
    assert np.fromfile(root / "keypoints/sift/a/one.jpg.kpt", "<f4").tolist() == [0.5, 2.5]
    # The name that comes first is the first photo.
    written = root / "matches" / "sift" / "a" / "one.jpg.overlapping" / "b.jpg.matches"
    assert np.fromfile(written, "<f8").tolist() == [7, 4, 0.5]


def test_a_database_goes_out_and_comes_back(
    street: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos, first, out = street / "database", tmp_path / "a.whence", tmp_path / "out"
    words = ["index", str(photos), "--db", str(first), "--model", NAME, "-q", "--no-calibrate"]
    assert run(words) == 0
    assert run(["database", "prepare", "inliers", "--db", str(first), "-q"]) == 0
    names = sorted(file.name for file in photos.iterdir())
    pairs = tmp_path / "pairs.txt"
    pairs.write_text(f"{names[1]} {names[0]}\n")
    capsys.readouterr()
    words = ["database", "export", str(out), "--db", str(first), "--for", "kapture"]
    assert run([*words, "--root", str(photos), "--pairs", str(pairs), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["num_descriptors"] == report["num_positions"] == len(names)
    assert report["num_keypoints"] == len(names)
    assert report["num_matches"] == 1
    records = {one.name: one for one in read_records(out)}
    assert sorted(records) == names
    assert records[names[0]].size_px == image_header(photos / names[0])[:2]
    matches = next((out / "reconstruction" / "matches").rglob("*.matches"))
    assert matches.name == f"{names[1]}.matches"
    assert np.fromfile(matches, "<f8").size % 3 == 0
    second = tmp_path / "b.whence"
    words = ["database", "import", str(out), "--db", str(second), "--model", NAME]
    assert run([*words, "--photos", str(photos), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["imported"] == len(names)
    # Photos may also lie in the folder, or be linked there.
    (out / "sensors" / "records_data").symlink_to(photos)
    words[words.index(str(second))] = str(tmp_path / "c.whence")
    assert run(words) == 0
    query = min((street / "queries").iterdir())
    with Localizer.open(first) as one, Localizer.open(second) as other:
        ours, theirs = (each.locate(query, options=RETRIEVE_ONLY) for each in (one, other))
        assert [Path(each.photo).name for each in ours.candidates] == [
            Path(each.photo).name for each in theirs.candidates
        ]
        assert ours.point is not None
        assert theirs.point is not None
        assert (ours.point.lat, ours.point.lon) == pytest.approx(
            (theirs.point.lat, theirs.point.lon), abs=1e-8
        )


def test_what_cannot_be_used_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match="a comma ends it"):
        write_records(tmp_path, [PhotoRecord("a,b.jpg")])
    write_records(tmp_path, RECORDS)
    with pytest.raises(InputError, match="it has none"):
        read_global_features(tmp_path, ["b.jpg"])
    write_global_features(tmp_path, "mine", [PhotoDescriptor("b.jpg", np.ones(3))], dim=3)
    features = tmp_path / "reconstruction" / "global_features"
    (tmp_path / "reconstruction" / "secret.gfeat").write_bytes(bytes(12))
    # A name that leads out of the folder is no photo of it.
    assert list(read_global_features(tmp_path, ["b.jpg", "../../secret"])) == ["b.jpg"]
    (features / "mine" / "b.jpg.gfeat").write_bytes(b"1234")
    with pytest.raises(UnreadableTable, match="does not hold 3 numbers"):
        read_global_features(tmp_path, ["b.jpg"])
    write_global_features(tmp_path, "other", [], dim=3)
    with pytest.raises(InputError, match="it has mine, other"):
        read_global_features(tmp_path, ["b.jpg"])
    assert read_global_features(tmp_path, ["b.jpg"], kind="other") == {}
    (features / "other" / "global_features.tar").touch()
    with pytest.raises(UnreadableTable, match="unpack"):
        read_global_features(tmp_path, ["b.jpg"], kind="other")
    (features / "other" / "global_features.tar").unlink()
    (features / "other" / "global_features.txt").write_text("other, object, 3, L2\n")
    with pytest.raises(UnreadableTable, match="float32"):
        read_global_features(tmp_path, ["b.jpg"], kind="other")
    sensors = tmp_path / "sensors" / "sensors.txt"
    for line, said in (
        ("gps, , gnss, EPSG:2154", "EPSG:2154"),
        ("camera0", "1 fields"),
        ("camera0, , camera, UNKNOWN_CAMERA, wide, 240", "no number"),
        ("camera0, , camera, UNKNOWN_CAMERA, inf, 240", "no whole number"),
    ):
        sensors.write_text(line + "\n")
        with pytest.raises(UnreadableTable, match=said):
            read_records(tmp_path)
    for words, said in (
        (["import", str(tmp_path)], "--model NAME"),
        (["import", str(tmp_path / "nothing"), "--model", NAME], "neither"),
        (["import", "some.h5", "--model", NAME], "--photos FOLDER"),
        (["export", str(tmp_path / "o"), "--for", "colmap"], "hloc or kapture"),
    ):
        assert run(["database", *words, "--db", str(tmp_path / "none.whence")]) == 1
        assert said in capsys.readouterr().err
