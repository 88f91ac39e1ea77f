"""Drives in folders: numbers out of names, what has none, gaps, RobotCar's order of coordinates,
and which layout is which."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from whence.data.frame_folders import open_sequences, read_frame_folder
from whence.data.windows import cut_windows
from whence.errors import NoPhotos, UnreadableTable


def put(file: Path, *, size: tuple[int, int] = (12, 16)) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    value = sum(map(ord, str(file))) % 200
    encoded = cv2.imencode(".jpg", np.full((*size, 3), value, np.uint8))[1]
    file.write_bytes(encoded.tobytes())


def test_frames_are_numbered_by_their_names_and_a_gap_is_a_gap(tmp_path: Path) -> None:
    for number in (1, 2, 10, 4, 3):
        put(tmp_path / "drive" / f"frame_{number}.jpg")
    (tmp_path / "drive" / "frame_5.jpg").write_bytes(b"no photo")
    put(tmp_path / "other" / "left.jpg")
    for name in ("b.jpg", "a.jpg", "b2.jpg"):
        put(tmp_path / "names" / name)
    found = read_frame_folder(tmp_path)
    told = list(zip(found.sequence.tolist(), found.frame.tolist(), strict=True))
    drives = [("drive", n) for n in (1, 2, 3, 4, 10)]
    assert told == [*drives, ("names", 0), ("names", 1), ("names", 2), ("other", 0)]
    assert [Path(path).name for path in found.photos.paths[5:8]] == ["a.jpg", "b.jpg", "b2.jpg"], (
        "in natural order"
    )
    assert [entry.path for entry in found.photos.skipped] == ["drive/frame_5.jpg"]
    windows = cut_windows(found.sequence, found.frame, length=3)
    assert windows.tolist() == [[0, 1, 2], [1, 2, 3], [5, 6, 7]]
    assert len(cut_windows(found.sequence, found.frame, length=1)) == 9, (
        "a folder of one frame is a drive of one"
    )
    with pytest.raises(NoPhotos):
        read_frame_folder(tmp_path / "nowhere")


def test_every_tenth_frame_of_a_film_follows_the_one_before(tmp_path: Path) -> None:
    for number in (100, 110, 120, 150):
        put(tmp_path / "summer" / f"images-{number:05d}.png")
        put(tmp_path / "winter" / f"images-{number + 10:05d}.png")
    found = open_sequences(tmp_path, database_folder="summer", queries_folder="winter")
    assert found.database.frame.tolist() == [10, 11, 12, 15]
    assert found.queries.frame.tolist() == [11, 12, 13, 16]
    assert len(cut_windows(found.database.sequence, found.database.frame, length=3)) == 1


def test_photos_of_other_sizes_are_frames_too(tmp_path: Path) -> None:
    put(tmp_path / "a" / "1.jpg", size=(12, 16))
    put(tmp_path / "a" / "2.jpg", size=(40, 30))
    found = read_frame_folder(tmp_path)
    assert found.photos.width.tolist() == [16, 30]
    assert cut_windows(found.sequence, found.frame, length=2).tolist() == [[0, 1]]


def test_robotcar_puts_north_first(tmp_path: Path) -> None:
    for side in ("database", "queries"):
        for number in range(3):
            name = (
                f"@{5735000 + number:.2f}@{620000 + 5 * number:.2f}@2014-12-16-09-14-09@{number}@"
                f"{1418721249 + number}@.jpg"
            )
            put(tmp_path / "val" / side / "lap" / name)
    found = open_sequences(tmp_path, split="val")
    assert found.database.photos.east_m.tolist() == [620000, 620005, 620010]
    assert found.queries.photos.north_m.tolist() == [5735000, 5735001, 5735002]
    assert found.database.frame.tolist() == [0, 1, 2]


def test_layouts_are_told_apart(tmp_path: Path) -> None:
    for side in ("database", "queries"):
        for number in (7, 8):
            put(
                tmp_path
                / "msls"
                / side
                / "key"
                / f"@0000012.50@0000100.00@key@{number}@photo{number}{side}@city@20200101@.jpg"
            )
            put(tmp_path / "plain" / side / "walk" / f"{number}.jpg")
    found = open_sequences(tmp_path / "msls")
    assert found.database.sequence.tolist() == ["key", "key"]
    assert found.database.frame.tolist() == [7, 8]
    assert found.database.photos.east_m.tolist() == [12.5, 12.5]
    plain = open_sequences(tmp_path / "plain")
    assert plain.queries.frame.tolist() == [7, 8]
    with pytest.raises(NoPhotos, match="database or gallery"):
        open_sequences(tmp_path / "plain" / "queries")
    published = tmp_path / "published" / "train_val"
    for city in ("cph", "oslo"):
        (published / city / "query").mkdir(parents=True)
        (published / city / "query" / "raw.csv").write_text("key\n")
    with pytest.raises(UnreadableTable, match="oslo"):
        open_sequences(tmp_path / "published", split="oslo")
