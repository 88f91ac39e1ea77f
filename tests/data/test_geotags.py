"""Positions out: sidecars, GPS tags in copies, GPX, and files that can be taken back."""

from __future__ import annotations

import contextlib
import io
import json
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from whence.data import undo as undo_room
from whence.data.exif import placement_from_exif
from whence.data.exif_gps import block_with_gps, with_gps_tags
from whence.data.geotags import Geotag, Waypoint, gpx_document, sidecar_of, write_gpx, xmp_sidecar
from whence.data.images import load_image
from whence.data.metadata import read_metadata
from whence.data.sidecars import find_sidecar, read_sidecar
from whence.data.undo import PlannedFile, undo_files, write_files
from whence.errors import UnreadableImage, UnreadableTable, UnwritableFile
from whence.geo import distance_m
from whence.runtime import atomic_write
from whence.types import GeoPoint

TAG = Geotag(GeoPoint(55.708333, -13.195389, -3.25), heading_deg=271.25, error_m=18.5)
POINTS = st.builds(
    GeoPoint,
    st.floats(-90, 90),
    st.floats(-180, 180),
    st.none() | st.floats(-400, 9000),
)
TAGS = st.builds(
    Geotag, POINTS, st.none() | st.floats(0, 360, exclude_max=True), st.none() | st.floats(0, 5000)
)


def save(path: Path, **options: object) -> Path:
    picture = Image.fromarray(
        np.random.default_rng(0).integers(0, 255, (24, 36, 3)).astype(np.uint8)
    )
    picture.save(path, **options)  # type: ignore[arg-type]
    return path


def camera_exif() -> bytes:
    """An EXIF block with a directory of its own, a maker note and a GPS time stamp, as cameras
    write them."""
    exif = Image.Exif()
    exif[0x010F] = "A long maker's name"
    exif[0x0112] = 6
    exif[0x8769] = {
        0x9003: "2024:05:06 07:08:09",
        0x927C: b"maker note with offsets",
        0x9286: b"x" * 100,
    }
    exif[0x8825] = {
        1: "N",
        2: (1.0, 2.0, 3.0),
        3: "E",
        4: (4.0, 5.0, 6.0),
        7: (7.0, 8.0, 9.0),
        29: "2024:05:06",
    }
    return exif.tobytes()


@settings(max_examples=60, deadline=None)
@given(TAGS)
def test_sidecars_read_back(tmp_path_factory: pytest.TempPathFactory, tag: Geotag) -> None:
    path = tmp_path_factory.getbasetemp() / "one.jpg.xmp"
    path.write_bytes(xmp_sidecar(tag))
    read = read_sidecar(path)
    assert read.point is not None
    assert distance_m(read.point, tag.point) < 0.002
    if tag.point.altitude_m is None:
        assert read.point.altitude_m is None
    else:
        assert read.point.altitude_m == pytest.approx(tag.point.altitude_m, abs=0.001)
    assert (read.heading_deg is None) == (tag.heading_deg is None)
    if tag.heading_deg is not None and read.heading_deg is not None:
        assert abs((read.heading_deg - tag.heading_deg + 180) % 360 - 180) < 0.006
    assert read.error_m == (None if tag.error_m is None else pytest.approx(tag.error_m, abs=0.006))


@settings(max_examples=60, deadline=None)
@given(TAGS, st.sampled_from([b"MM\0*\0\0\0\x08\0\0\0\0\0\0", b"II*\0\x08\0\0\0\0\0\0\0\0\0"]))
def test_gps_tags_read_back_in_both_byte_orders(tag: Geotag, block: bytes) -> None:
    exif = Image.Exif()
    exif.load(b"Exif\0\0" + block_with_gps(block, tag))
    read = placement_from_exif(exif)
    assert read.point is not None
    assert distance_m(read.point, tag.point) < 0.001
    assert read.point.altitude_m == (
        None if tag.point.altitude_m is None else pytest.approx(tag.point.altitude_m, abs=0.001)
    )
    assert read.error_m == (None if tag.error_m is None else pytest.approx(tag.error_m, abs=0.006))
    assert not read.heading_is_magnetic
    again = Image.Exif()
    again.load(b"Exif\0\0" + block_with_gps(block_with_gps(block, TAG), tag))
    assert placement_from_exif(again).point == read.point


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.tif"])
@pytest.mark.parametrize("has_exif", [False, True])
def test_copies_hold_the_place_and_everything_else(
    tmp_path: Path, name: str, has_exif: bool
) -> None:
    options = {"exif": camera_exif()} if has_exif else {}
    original = save(tmp_path / name, **options)
    before = original.read_bytes()
    copy = tmp_path / f"copy-{name}"
    copy.write_bytes(with_gps_tags(original, TAG))
    assert original.read_bytes() == before
    photo = read_metadata(copy)
    assert photo.point is not None
    assert distance_m(photo.point, TAG.point) < 0.001
    assert (photo.point_source, photo.heading_deg, photo.error_m) == ("exif", 271.25, 18.5)
    assert np.array_equal(load_image(copy), load_image(original))
    if has_exif:
        with Image.open(copy) as picture:
            exif = picture.getexif()
            assert exif[0x010F] == "A long maker's name"
            assert exif.get_ifd(0x8769)[0x927C] == b"maker note with offsets"
            assert exif.get_ifd(0x8825)[29] == "2024:05:06"
        assert photo.time == datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)
        # Nothing that was there has moved: all but the header's pointer to the first directory.
        assert before[-12:] in copy.read_bytes()


def test_further_pages_and_comments_survive(tmp_path: Path) -> None:
    pages = save(
        tmp_path / "pages.tif", save_all=True, append_images=[Image.new("RGB", (5, 7), "red")]
    )
    with Image.open(io.BytesIO(with_gps_tags(pages, TAG))) as picture:
        assert getattr(picture, "n_frames", 1) == 2
        picture.seek(1)
        assert (picture.size, picture.getpixel((0, 0))) == ((5, 7), (255, 0, 0))
    original = save(tmp_path / "a.jpg", exif=camera_exif(), comment=b"a comment", dpi=(72, 72))
    data = with_gps_tags(original, TAG)
    with Image.open(io.BytesIO(data)) as picture:
        assert picture.info["comment"] == b"a comment"
        assert picture.info["dpi"] == (72, 72)


def test_what_cannot_hold_gps_tags_says_why(tmp_path: Path) -> None:
    with pytest.raises(UnreadableImage, match="JPEG, PNG and TIFF only"):
        with_gps_tags(save(tmp_path / "a.webp"), TAG)
    (tmp_path / "text.jpg").write_text("no picture")
    with pytest.raises(UnreadableImage, match="sidecar"):
        with_gps_tags(tmp_path / "text.jpg", TAG)
    with pytest.raises(UnreadableImage, match="no such file"):
        with_gps_tags(tmp_path / "gone.jpg", TAG)
    full = save(tmp_path / "full.jpg", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0" + b"\0" * 65_400)
    with pytest.raises(UnreadableImage, match="full"):
        with_gps_tags(full, TAG)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damaged_files_never_crash(data: st.DataObject) -> None:
    buffer = io.BytesIO()
    kind = data.draw(st.sampled_from(["JPEG", "PNG", "TIFF"]))
    Image.new("RGB", (8, 8)).save(buffer, kind, exif=camera_exif())
    damaged = bytearray(buffer.getvalue())
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(damaged[: data.draw(st.integers(1, len(damaged)))])
    with contextlib.suppress(UnreadableImage):
        assert len(with_gps_tags(cut, TAG)) > len(cut)  # type: ignore[arg-type]


def test_gpx_is_gpx(tmp_path: Path) -> None:
    zone = timezone(timedelta(hours=2))
    waypoints = [
        Waypoint(
            'a & <b>\x07 "é" \ud800.jpg',
            GeoPoint(1.5, 180.0, 12.0),
            datetime(2024, 5, 6, 1, 30, tzinfo=zone),
            "why & how",
        ),
        Waypoint("naive.jpg", GeoPoint(-89.9999999, -0.25), datetime(2024, 5, 6)),
    ]
    write_gpx(tmp_path / "a.gpx", waypoints)
    space = "{http://www.topografix.com/GPX/1/1}"
    top = ElementTree.parse(tmp_path / "a.gpx").getroot()
    assert (top.tag, top.attrib["version"], top.attrib["creator"]) == (
        f"{space}gpx",
        "1.1",
        "Whence",
    )
    first, second = top
    assert [child.tag.removeprefix(space) for child in first] == [
        "ele",
        "time",
        "name",
        "desc",
    ]  # The order the schema demands.
    assert first.findtext(f"{space}time") == "2024-05-05T23:30:00.000Z"
    assert first.findtext(f"{space}name") == 'a & <b>\ufffd "é" \ufffd.jpg'
    assert -180 <= float(first.attrib["lon"]) < 180
    assert second.find(f"{space}time") is None
    assert float(second.attrib["lat"]) == -89.9999999
    assert ElementTree.fromstring(gpx_document([])).tag == f"{space}gpx"
    with pytest.raises(UnwritableFile, match="make the folder first"):
        write_gpx(tmp_path / "none" / "a.gpx", waypoints)


# ---- writing that can be taken back --------------------------------------------------------------


def plan(folder: Path, **contents: bytes) -> list[PlannedFile]:
    def maker(data: bytes) -> Callable[[], bytes]:
        return lambda: data

    return [
        PlannedFile(folder / name.replace("__", "/"), maker(data))
        for name, data in contents.items()
    ]


def test_written_files_can_be_taken_back(tmp_path: Path) -> None:
    top = tmp_path / "new" / "top"
    done = write_files(plan(top, a=b"1", sub__deep__b=b"22", c=b""), folder=top)
    assert done.undo_file is not None
    assert (top / "sub/deep/b").read_bytes() == b"22"
    moved = top.rename(tmp_path / "moved")
    undone = undo_files(moved / done.undo_file.name)
    assert [path.relative_to(moved).as_posix() for path in undone.removed] == ["a", "sub/deep/b"]
    assert [entry.reason for entry in undone.refusals] == ["the file is empty"]
    assert sorted(path.name for path in moved.iterdir()) == ["c", done.undo_file.name]


def test_only_what_is_unchanged_is_removed(tmp_path: Path) -> None:
    done = write_files(plan(tmp_path, a=b"1", b=b"2", c=b"3", d=b"4"), folder=tmp_path)
    assert done.undo_file is not None
    (tmp_path / "a").write_bytes(b"mine now")
    (tmp_path / "b").unlink()
    (tmp_path / "c").rename(tmp_path / "elsewhere")
    (tmp_path / "c").symlink_to(tmp_path / "elsewhere")
    undone = undo_files(done.undo_file)
    assert [path.name for path in undone.removed] == ["d"]
    assert [path.name for path in undone.missing] == ["b"]
    assert {Path(entry.path).name: entry.reason for entry in undone.refusals} == {
        "a": "it was changed since",
        "c": "it is a link now, or leads out of the folder",
    }
    assert (tmp_path / "a").read_bytes() == b"mine now"
    assert [entry["path"] for entry in json.loads(done.undo_file.read_text())["files"]] == [
        "a",
        "c",
    ]
    (tmp_path / "a").write_bytes(b"1")
    (tmp_path / "c").unlink()
    assert [path.name for path in undo_files(done.undo_file).removed] == ["a"]
    assert not done.undo_file.exists()


def test_nothing_is_ever_written_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_bytes(b"old")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")

    def late() -> bytes:
        (tmp_path / "b").write_bytes(b"came meanwhile")
        return b"new"

    numbers = iter(range(9))
    files = [
        *plan(tmp_path, a=b"new", dangling=b"new"),
        PlannedFile(tmp_path / "b", late),
        PlannedFile(tmp_path / "fickle", lambda: str(next(numbers)).encode()),
    ]
    for has_links in (True, False):
        if not has_links:
            monkeypatch.setattr(
                os, "link", lambda *_: (_ for _ in ()).throw(PermissionError("no hard links"))
            )
            (tmp_path / "b").unlink()
        done = write_files(files, folder=tmp_path)
        assert (done.undo_file, done.files) == (None, ())
        assert [entry.reason.split()[0] for entry in done.skipped] == ["it", "it", "it", "the"]
        assert (tmp_path / "a").read_bytes() == b"old"
        assert (tmp_path / "b").read_bytes() == b"came meanwhile"
        assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "dangling"]
    done = write_files(plan(tmp_path, fresh=b"1"), folder=tmp_path)
    assert (tmp_path / "fresh").read_bytes() == b"1"


def test_a_run_that_is_killed_can_be_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, count = undo_room._write_one, []

    def dying(file: PlannedFile, content: str) -> str:
        count.append(file)
        if len(count) == 3:
            raise KeyboardInterrupt
        return real(file, content)

    monkeypatch.setattr(undo_room, "_write_one", dying)
    with pytest.raises(KeyboardInterrupt):
        write_files(plan(tmp_path, a=b"1", b=b"2", c=b"3", d=b"4"), folder=tmp_path)
    (undo_file,) = tmp_path.glob("whence-undo-*.json")
    undone = undo_files(undo_file)
    assert [path.name for path in undone.removed] == ["a", "b"]
    assert [path.name for path in undone.missing] == ["c", "d"]
    assert list(tmp_path.iterdir()) == []


def test_without_an_undo_file_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(UnwritableFile):
        write_files(plan(tmp_path / "file", a=b"1"), folder=tmp_path / "file")

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(undo_room, "_save", full)
    with pytest.raises(UnwritableFile, match="make room"):
        write_files(plan(tmp_path, a=b"1"), folder=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_disk_that_fills_up_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = os.fsync, []

    def filling(handle: int) -> None:
        calls.append(handle)
        if (
            len(calls) in (5, 6)
            # The undo file and its folder, the first file and its folder, then the second and third
            # file.
        ):
            raise OSError(28, "No space left on device")
        real(handle)

    monkeypatch.setattr(os, "fsync", filling)
    done = write_files(plan(tmp_path, a=b"1", b=b"2", c=b"3", d=b"4"), folder=tmp_path)
    assert done.undo_file is not None
    assert [path.name for path in done.files] == ["a", "d"]
    assert {entry.reason for entry in done.skipped} == {
        "No space left on device; make room there or choose another place"
    }
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "d", done.undo_file.name]
    assert [path.name for path in undo_files(done.undo_file).removed] == ["a", "d"]
    assert list(tmp_path.iterdir()) == []


def test_without_hard_links_a_failing_rename_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    with monkeypatch.context() as patch:
        patch.setattr(os, "link", refuse)
        patch.setattr(os, "replace", refuse)
        with pytest.raises(UnwritableFile), atomic_write(tmp_path / "a", is_new=True) as file:
            file.write(b"1")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[1]",
        "{}",
        '{"format": "whence-undo", "version": 2, "files": [], "folders": []}',
        '{"format": "whence-undo", "version": 1, "files": {}, "folders": []}',
        (
            '{"format": "whence-undo", "version": 1, "files": [{"path": "../victim", "content": '
            '"HASH"}], "folders": []}'
        ),
        (
            '{"format": "whence-undo", "version": 1, "files": [{"path": "/etc/passwd", "content": '
            '"HASH"}], "folders": []}'
        ),
        (
            '{"format": "whence-undo", "version": 1, "files": [{"path": "a", "content": '
            '"short"}], "folders": []}'
        ),
        '{"format": "whence-undo", "version": 1, "files": [], "folders": ["../other"]}',
        "[" * 100_000,
    ],
)
def test_a_broken_or_hostile_undo_file_removes_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "inside").mkdir()
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    undo_file = tmp_path / "inside" / "undo.json"
    undo_file.write_text(text.replace("HASH", undo_room._hash(b"precious")))
    with pytest.raises(UnreadableTable):
        undo_files(undo_file)
    assert victim.read_bytes() == b"precious"
    with pytest.raises(UnreadableTable, match="No such file"):
        undo_files(tmp_path / "none.json")


def test_an_undo_file_does_not_follow_links_out(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "victim").write_bytes(b"precious")
    (tmp_path / "top").mkdir()
    (tmp_path / "top" / "link").symlink_to(tmp_path / "outside", target_is_directory=True)
    record = {"path": "link/victim", "content": undo_room._hash(b"precious")}
    undo_file = tmp_path / "top" / "undo.json"
    undo_file.write_text(
        json.dumps({"format": "whence-undo", "version": 1, "files": [record], "folders": ["link"]})
    )
    assert len(undo_files(undo_file).refusals) == 1
    assert (tmp_path / "outside" / "victim").exists()


def test_sidecars_are_found_by_the_reader(tmp_path: Path) -> None:
    photo = save(tmp_path / "a.b.jpg")
    sidecar_of(photo).write_bytes(xmp_sidecar(TAG))
    assert find_sidecar(photo) == sidecar_of(photo)
    assert read_metadata(photo).point_source == "sidecar"
