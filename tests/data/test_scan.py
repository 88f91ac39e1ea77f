"""Scanning folders, files, globs and lists."""

from __future__ import annotations

import os
import sys
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from whence.data import scan
from whence.data.images import content_hash
from whence.data.names import format_name
from whence.data.photos import Photos
from whence.data.scan import scan_photos
from whence.errors import UnreadableTable
from whence.types import GeoPoint


def save(path: Path, *, size: tuple[int, int] = (8, 6), seed: int = 0, kind: str = "JPEG") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, kind)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Photos with awkward names, and much that is none."""
    top = tmp_path / "photos"
    for i, name in enumerate(["b.jpg", "a b.JPG", "sub/deep/ü ñ 写真.jpeg", "sub/c.PNG", "Z.webp"]):
        kind = {"PNG": "PNG", "webp": "WEBP"}.get(name.rsplit(".", 1)[1], "JPEG")
        save(top / name, seed=i, kind=kind, size=(8 + i, 6))
    save(top / ".hidden.jpg")
    save(top / ".thumbnails" / "x.jpg")
    save(top / "city.whence" / "thumbnail.jpg")
    (top / "readme.txt").write_text("no list")
    (top / "track.gpx").write_text("<gpx/>")
    return top


PATHS = ("Z.webp", "a b.JPG", "b.jpg", "sub/c.PNG", "sub/deep/ü ñ 写真.jpeg")


def test_folder(folder: Path) -> None:
    photos = scan_photos(folder)
    assert photos.paths == PATHS
    assert photos.root == folder
    assert photos.skipped == ()
    assert photos.width.tolist() == [12, 9, 8, 11, 10]
    for photo, file in zip(photos, map(photos.file, range(len(photos))), strict=True):
        status = file.stat()
        assert (photo.size_bytes, photo.mtime_ns, photo.height) == (
            status.st_size,
            status.st_mtime_ns,
            6,
        )
        assert photo.content == content_hash(file)


@pytest.mark.parametrize("num_workers", [1, 4])
def test_order_does_not_depend_on_threads(folder: Path, num_workers: int) -> None:
    assert scan_photos(folder, num_workers=num_workers).paths == PATHS


def test_not_recursive(folder: Path) -> None:
    assert scan_photos(folder, recursive=False).paths == PATHS[:3]


def test_empty(tmp_path: Path) -> None:
    photos = scan_photos(tmp_path)
    assert len(photos) == 0
    assert photos.root == tmp_path
    assert len(scan_photos()) == 0


def test_broken_files_are_reported_and_the_rest_read(folder: Path) -> None:
    (folder / "text.jpg").write_text("text")
    (folder / "empty.png").touch()
    (folder / "gone.jpg").symlink_to(folder / "nowhere.jpg")
    (folder / "b.jpg").write_bytes((folder / "b.jpg").read_bytes()[:100])
    photos = scan_photos(folder)
    assert photos.paths == tuple(path for path in PATHS if path != "b.jpg")
    assert [entry.path for entry in photos.skipped] == [
        "b.jpg",
        "empty.png",
        "gone.jpg",
        "text.jpg",
    ]
    reasons = {entry.path: entry.reason for entry in photos.skipped}
    assert reasons["empty.png"] == "the file is empty"
    assert reasons["gone.jpg"] == "no such file"


def test_links(folder: Path, tmp_path: Path) -> None:
    elsewhere = save(tmp_path / "elsewhere" / "far.jpg")
    (folder / "link.jpg").symlink_to(elsewhere)
    (folder / "linked").symlink_to(elsewhere.parent)
    (folder / "sub" / "loop").symlink_to(folder)
    (folder / "self").symlink_to(folder / "self")
    assert scan_photos(folder).paths == tuple(sorted((*PATHS, "link.jpg", "linked/far.jpg")))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux allows names that are not UTF-8")
def test_names_that_are_not_utf8_are_skipped(folder: Path) -> None:
    save(Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9.jpg")))
    photos = scan_photos(folder)
    assert photos.paths == PATHS
    assert [(entry.path, "UTF-8" in entry.reason) for entry in photos.skipped] == [
        ("caf\\xe9.jpg", True)
    ]


def test_files_globs_and_lists(folder: Path, tmp_path: Path) -> None:
    one = scan_photos(folder / "b.jpg")
    assert (one.paths, one.root) == (("b.jpg",), folder)
    found = scan_photos(str(folder / "sub" / "**" / "*"))
    assert (found.paths, found.root) == (("c.PNG", "deep/ü ñ 写真.jpeg"), folder / "sub")
    assert scan_photos(f"{folder}/**/*.jpg").paths == ("b.jpg",)
    listing = folder / "list.txt"
    listing.write_text("sub/c.PNG\r\n\nb.jpg\nmissing.jpg\n./b.jpg\n", encoding="utf-8-sig")
    listed = scan_photos(listing)
    assert (listed.paths, listed.root) == (("b.jpg", "sub/c.PNG"), folder)
    assert listed.skipped == (("missing.jpg", "no such file"),)


def test_several_sources(folder: Path, tmp_path: Path) -> None:
    other = save(tmp_path / "other" / "x.jpg")
    photos = scan_photos(folder / "sub", other, folder / "sub" / "c.PNG")
    assert photos.root == tmp_path
    assert photos.paths == ("other/x.jpg", "photos/sub/c.PNG", "photos/sub/deep/ü ñ 写真.jpeg")


def test_sources_that_are_not_there(tmp_path: Path) -> None:
    photos = scan_photos(tmp_path / "nowhere", str(tmp_path / "*.jpg"))
    assert len(photos) == 0
    assert sorted(entry.reason for entry in photos.skipped) == [
        "no such file or folder",
        "the pattern matches nothing",
    ]
    (tmp_path / "list.txt").write_bytes(b"caf\xe9.jpg\n")
    with pytest.raises(UnreadableTable, match="UTF-8"):
        scan_photos(tmp_path / "list.txt")


def test_a_file_with_glob_characters(tmp_path: Path) -> None:
    save(tmp_path / "a[1].jpg")
    assert scan_photos(tmp_path / "a[1].jpg").paths == ("a[1].jpg",)
    assert scan_photos(tmp_path).paths == ("a[1].jpg",)


def test_positions(folder: Path, tmp_path: Path) -> None:
    table = tmp_path / "positions.csv"
    table.write_text("path,lat,lon,heading\nb.jpg,55.5,13.5,20\nsub/c.PNG,56,14,\n")
    photos = scan_photos(folder, positions=table)
    by_path = {photo.path: photo for photo in photos}
    assert by_path["b.jpg"].point == GeoPoint(55.5, 13.5)
    assert by_path["b.jpg"].heading_deg == 20
    assert by_path["sub/c.PNG"].point_source == "csv"
    assert photos.has_point.sum() == 2
    table.write_text("path,lat,lon\nother.jpg,1,2\n")
    with pytest.raises(
        UnreadableTable, match=r"none of the 5 photos; its first name is 'other\.jpg'"
    ):
        scan_photos(folder, positions=table)


def test_broken_sidecar_costs_only_itself(folder: Path) -> None:
    (folder / "b.jpg.json").write_text("{oops")
    photos = scan_photos(folder)
    assert photos.paths == PATHS
    assert [entry.path for entry in photos.skipped] == ["b.jpg.json"]


def test_known_files_are_not_read_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read, seen = scan.read_photo, []
    monkeypatch.setattr(
        scan,
        "read_photo",
        lambda path, **given: seen.append(Path(path).name) or read(path, **given),
    )
    known = scan_photos(folder)
    assert "b.jpg" in seen
    seen.clear()
    again = scan_photos(folder, earlier_scan=known)
    assert list(again) == list(known)
    assert "b.jpg" not in seen
    status = (folder / "b.jpg").stat()
    (folder / "b.jpg").write_bytes(bytes(status.st_size))
    os.utime(folder / "b.jpg", ns=(status.st_atime_ns, status.st_mtime_ns))
    assert "b.jpg" not in scan_photos(folder, earlier_scan=known).paths, (
        "size and time are the old ones, and yet it was changed"
    )
    save(folder / "b.jpg", size=(30, 20))
    save(folder / "Z.webp", seed=77, kind="WEBP", size=(20, 20))
    (folder / "a b.JPG").unlink()
    save(folder / "new.jpg", size=(30, 30))
    third = scan_photos(folder, earlier_scan=again)
    assert third.paths == ("Z.webp", "b.jpg", "new.jpg", "sub/c.PNG", "sub/deep/ü ñ 写真.jpeg")
    assert third[0].width == 20
    assert third[2].width == 30


def test_known_positions_follow_table_and_sidecar(folder: Path, tmp_path: Path) -> None:
    table = tmp_path / "positions.csv"
    table.write_text("path,lat,lon\nb.jpg,1,1\n")
    known = scan_photos(folder, positions=table)
    table.write_text("path,lat,lon\nb.jpg,2,2\nZ.webp,3,3\n")
    moved = scan_photos(folder, positions=table, earlier_scan=known)
    assert [photo.point for photo in moved][:3] == [GeoPoint(3.0, 3.0), None, GeoPoint(2.0, 2.0)]
    assert not scan_photos(folder, earlier_scan=moved).has_point.any()
    (folder / "b.jpg.json").write_text('{"geoData": {"latitude": 5, "longitude": 6}}')
    assert scan_photos(folder, earlier_scan=known)[2].point == GeoPoint(5.0, 6.0)
    (folder / "b.jpg.json").unlink()
    assert (
        scan_photos(folder, earlier_scan=scan_photos(folder, earlier_scan=known))[2].point is None
    )


def test_known_from_another_root(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = scan_photos(folder)
    monkeypatch.setattr(
        scan, "read_photo", lambda path, **given: pytest.fail(f"{path} is read again")
    )
    assert scan_photos(folder / "sub", earlier_scan=known).paths == ("c.PNG", "deep/ü ñ 写真.jpeg")


def test_at_names(tmp_path: Path) -> None:
    point = GeoPoint(55.70812, 13.19539)
    name = format_name(point=point, heading_deg=90, time=datetime(2024, 5, 31))
    save(tmp_path / name)
    photo = scan_photos(tmp_path)[0]
    assert photo.point is not None
    assert abs(photo.point.lat - point.lat) < 1e-6
    assert (photo.point_source, photo.heading_deg, photo.time) == (
        "name",
        90,
        datetime(2024, 5, 31),
    )
    assert photo.plane is not None


def test_progress_bar_goes_to_standard_error(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scan_photos(folder, show_progress=True)
    scan_photos(folder, show_progress=False)
    assert capsys.readouterr().out == ""


@pytest.mark.real
def test_real_sets(real_data: Path) -> None:
    lund = scan_photos(real_data / "geotagged-lund-berlin" / "lund" / "images")
    assert len(lund) == 29
    assert lund.has_point.all()
    assert np.all((lund.lat > 55.69) & (lund.lat < 55.71) & (lund.lon > 13.19) & (lund.lon < 13.20))
    turned = scan_photos(real_data / "exif-samples" / "orientation")
    assert isinstance(turned, Photos)
    for photo in turned:
        assert (photo.width > photo.height) == photo.path.startswith("landscape"), photo.path
