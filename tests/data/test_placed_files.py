"""Names read by columns: what `parse_name` says of each, whatever the list looks like."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import write_photo
from published_names import columns_of, published_names
from whence.data.names import parse_name
from whence.data.photos import Photos
from whence.data.placed_files import PlacedFiles, read_placed_files
from whence.errors import NoPhotos, UnreadableTable
from whence.types import Photo, PlanePoint


def read(folder: Path, lines: list[str], *, ends: str = "\n") -> PlacedFiles:
    (folder / "database_images_paths.txt").write_text(
        ends.join(lines) + ends, encoding="utf-8", newline=""
    )
    return read_placed_files(folder / "database")


def zones_of(found: PlacedFiles) -> list[str]:
    return (
        [found.zone] * len(found)
        if isinstance(found.zone, str)
        else [one.decode() for one in found.zone]
    )


def test_the_published_names_as_published_code_reads_them(tmp_path: Path) -> None:
    names = published_names()
    found = read(tmp_path, names)
    for column, expected in zip(
        (found.east_m, found.north_m, found.heading_deg), columns_of(names), strict=True
    ):
        assert column.tolist() == expected
    assert found.zone == "10S"
    assert [found.names.of(row) for row in (0, 7, 1799)] == [names[0], names[7], names[1799]]


ODD = [
    "37.70/@0544388.51@4172758.25@10@S@037.70098@-122.49646@kPnABhWJ1kA61eMNPLs1vQ@@210@@@@201606@@.jpg",
    "@0544388.51@4172758.25@10@S@@@@@360@@@@@@.jpg",
    "@0544388.51@4172758.25@10@S@@@@@-15@@@@@@.jpg",
    "@0544388.51@4172758.25@10@S@@@@@@@@@@@.jpg",
    "@0544388.5@4172758@10@S@@@@@12.25@@@@@@.jpg",
    "@0544388.51@4172758.25@10@I@@@@@7@@@@@@.jpg",
    "@544388.51@4172758.25@11@S@@@@@7@@@@@@.jpg",
    "@-12.50@0000004.00@@@@@@@7@@@@@@.jpg",
    "@12@34@.jpg",
    "a@b/@0544388.51@4172758.25@10@S@@@@@5@@@@@@.jpg",
    "photo.jpg",
    "@x@y@10@S@@@@@5@@@@@@.jpg",
    "@05443 8.51@4172758.25@10@S@@@@@5@@@@@@.jpg",
    "@0544388.51@4172758.25@10@S@@@@@1e1@@@@@@.jpg",
    "@0544388..1@4172758.25@10@S@@@@@5@@@@@@.jpg",
    "caf\u00e9/@0544388.51@4172758.25@10@S@@@@@5@@@@@@.jpg",
]


@settings(max_examples=40, deadline=None)
@given(
    chosen=st.lists(st.sampled_from([*ODD, *published_names(12)]), min_size=1, max_size=40),
    ends=st.sampled_from(["\n", "\r\n"]),
)
def test_odd_names_are_read_as_one_by_one(
    chosen: list[str], ends: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    found = read(tmp_path_factory.mktemp("names"), chosen, ends=ends)
    assert len(found) == len(chosen)
    for row, (name, zone) in enumerate(zip(chosen, zones_of(found), strict=True)):
        assert found.names.of(row) == name
        said = parse_name(name)
        plane = None if said is None else said.plane
        heading = None if said is None else said.heading_deg
        expected = (np.nan, np.nan) if plane is None else (plane.east_m, plane.north_m)
        np.testing.assert_array_equal([found.east_m[row], found.north_m[row]], expected)
        np.testing.assert_array_equal(
            found.heading_deg[row], np.float32(np.nan if heading is None else heading)
        )
        if plane is not None and plane.zone:
            assert zone == plane.zone


def test_lists_are_read_piece_by_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = published_names(300)
    whole = read(tmp_path, [*names, "", ODD[4], *names])
    assert len(whole) == 601
    for size in (1, 83, 1000):
        monkeypatch.setattr("whence.data.placed_files._CHUNK_BYTES", size)
        parts = read(tmp_path, [*names, "", ODD[4], *names])
        np.testing.assert_array_equal(parts.east_m, whole.east_m)
        assert parts.names.of(300) == ODD[4]


def test_a_folder_without_a_list_is_looked_through(tmp_path: Path) -> None:
    names = sorted(published_names(3))
    for name in names:
        write_photo(tmp_path / "database" / "sub" / name, np.zeros((8, 8, 3), np.uint8))
    found = read_placed_files(tmp_path / "database")
    assert [found.names.of(row) for row in range(3)] == [f"sub/{name}" for name in names]
    assert all(found.file(row).is_file() for row in range(3))
    assert found.zone == "10S"
    with pytest.raises(NoPhotos, match="nothing"):
        read_placed_files(tmp_path / "nothing")
    (tmp_path / "broken_images_paths.txt").write_bytes(b"a\0b\n")
    with pytest.raises(UnreadableTable, match="zero bytes"):
        read_placed_files(tmp_path / "broken")


def test_photos_that_were_scanned_are_files_too() -> None:
    photos = Photos.of(
        [Photo("a/b.jpg", plane=PlanePoint(1.0, 2.0, "10S"), heading_deg=3.0), Photo("c.jpg")],
        root="/r",
    )
    found = PlacedFiles.of_photos(photos)
    assert str(found.file(1)).endswith("c.jpg")
    assert found.names.of(0) == "a/b.jpg"
    np.testing.assert_array_equal(found.east_m, [1, np.nan])
    np.testing.assert_array_equal(found.heading_deg, np.float32([3, np.nan]))
