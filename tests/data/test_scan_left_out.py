"""What a scan leaves out and says: no fix, what systems keep beside photos, and pictures that
nothing here reads."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from conftest import draw_place, view_of, write_photo
from tagged import at, picture_bytes, raw_photo, save_photo, takeout, with_packet, xmp, xmp_at
from whence.cli import run
from whence.data import kinds
from whence.data.exif_gps import block_with_gps
from whence.data.formats import read_folders
from whence.data.geotags import Geotag
from whence.data.images import image_header, load_image
from whence.data.metadata import read_metadata
from whence.data.scan import ReadOptions, scan_photos
from whence.errors import MissingExtra, UnreadableImage
from whence.localize.missing import MissingOptions, place_missing
from whence.types import GeoPoint

ZERO = GeoPoint(0.0, 0.0)


def without_fix(folder: Path) -> Path:
    """A photo for every source that can state 0, 0, in a folder of their own; and two whose zeros
    are real."""
    save_photo(folder / "exif.jpg", at(0.0, 0.0))
    save_photo(folder / "altitude.jpg", {**at(0.0, 0.0), 5: b"\0", 6: 0.0})
    save_photo(folder / "xmp.jpg")
    (folder / "xmp.jpg.xmp").write_text(xmp_at("0,0.000000N", "0,0.000000E"))
    save_photo(folder / "drone.jpg")
    packet = xmp('drone-dji:GpsLatitude="+0.0" drone-dji:GpsLongitude="+0.0"')
    (folder / "drone.jpg").write_bytes(with_packet((folder / "drone.jpg").read_bytes(), packet))
    save_photo(folder / "table.jpg")
    save_photo(folder / "@0166021.44@0000000.00@31@N@00.00000@000.00000@@@@@@@@@.jpg")
    save_photo(folder / "@0@0@@@0@0@@@@@@@@@.jpg")
    save_photo(folder / "equator.jpg", at(0.0, 32.5))
    save_photo(folder / "greenwich.jpg", at(51.48, 0.0))
    (folder / "t.csv").write_text("file,lat,lon\ntable.jpg,0,0\nequator.jpg,,\n")
    return folder


def test_zero_zero_is_no_fix_in_every_source(tmp_path: Path) -> None:
    folder = without_fix(tmp_path)
    photos = scan_photos(folder, positions=folder / "t.csv", show_progress=False)
    placed = {photo.path: photo.point for photo in photos if photo.point or photo.plane}
    assert placed == {"equator.jpg": GeoPoint(0.0, 32.5), "greenwich.jpg": GeoPoint(51.48, 0.0)}
    (remark,) = photos.remarks
    assert "not taken from 7 photos (allow_null_island" in remark
    assert "and 4 more" in remark
    allowed = scan_photos(
        folder, positions=folder / "t.csv", allow_null_island=True, show_progress=False
    )
    assert allowed.has_point.all()
    assert [photo.point == ZERO for photo in allowed].count(True) >= 5
    assert not allowed.remarks
    assert read_metadata(folder / "exif.jpg").point is None
    assert read_metadata(folder / "exif.jpg", allow_null_island=True).point == ZERO


def test_zeros_give_way_to_what_another_source_knows(tmp_path: Path) -> None:
    photo = save_photo(tmp_path / "a.jpg", at(59.3, 18.0))
    (tmp_path / "a.jpg.xmp").write_text(xmp_at("0,0N", "0,0E"))
    assert read_metadata(photo).point == GeoPoint(59.3, 18.0)
    (tmp_path / "a.jpg.json").write_text(takeout(12.0, 13.0))
    assert read_metadata(photo).point == GeoPoint(12.0, 13.0, 3.0)


def test_geojson_zeros(tmp_path: Path) -> None:
    save_photo(tmp_path / "a.jpg")
    feature = {
        "geometry": {"type": "Point", "coordinates": [0, 0]},
        "properties": {"path": "a.jpg"},
    }
    (tmp_path / "t.geojson").write_text(json.dumps({"features": [feature]}))
    for allowed in (False, True):
        photos = scan_photos(
            tmp_path,
            positions=tmp_path / "t.geojson",
            allow_null_island=allowed,
            show_progress=False,
        )
        assert photos[0].point == (ZERO if allowed else None)


def test_zeros_of_an_earlier_scan_are_looked_at_again(tmp_path: Path) -> None:
    save_photo(tmp_path / "a.jpg", at(0.0, 0.0))
    known = scan_photos(tmp_path, allow_null_island=True, show_progress=False)
    again = scan_photos(tmp_path, earlier_scan=known, show_progress=False)
    assert not again.has_point.any()
    assert scan_photos(
        tmp_path, earlier_scan=again, allow_null_island=True, show_progress=False
    ).has_point.all()


def test_evaluation_sets_read_zeros_when_asked(tmp_path: Path) -> None:
    for role in ("database", "queries"):
        save_photo(tmp_path / role / "a.jpg", at(0.0, 0.0))
    assert not read_folders(tmp_path).database.has_point.any()
    assert read_folders(
        tmp_path, options=ReadOptions(allow_null_island=True)
    ).database.has_point.all()


def test_the_verbs_take_zeros_when_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for place in range(2):
        write_photo(
            tmp_path / "p" / f"{place}.jpg", view_of(draw_place(place), shift=0, seed=place)
        )
        (tmp_path / "p" / f"{place}.xmp").write_text(xmp_at("0,0N", f"0,{place * 0}E"))
    database = ["--db", str(tmp_path / "a.whence"), "-q"]
    assert run(["index", str(tmp_path / "p"), *database]) == 0
    shown = capsys.readouterr()
    assert "0 with coordinates" in shown.out
    assert shown.err.count("means no fix") == 1
    assert "from 2 photos" in shown.err
    assert (
        run(["index", str(tmp_path / "p"), *database, "--json", "--set", "allow_null_island=true"])
        == 0
    )
    report = json.loads(capsys.readouterr().out)
    assert (report["num_with_point"], report["remarks"]) == (2, [])
    assert run(["database", "refresh", *database, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["num_with_point"] == 2, (
        "the database remembers what was asked"
    )
    report = place_missing(
        tmp_path / "p", options=MissingOptions(allow_null_island=True), show_progress=False
    )
    assert report.num_geotagged == 2
    assert run(["tag", str(tmp_path / "p"), "--allow-null-island", "-q"]) == 0
    assert "2 photos, 2 with a geotag, 0 without" in capsys.readouterr().out
    assert (
        run(
            [
                "evaluate",
                str(tmp_path / "p"),
                "--leave-one-out",
                "--set",
                "allow_null_island=true",
                "-q",
            ]
        )
        == 0
    )
    shown = capsys.readouterr()
    assert "2 queries, 2 database photos" in shown.out
    assert "no fix" not in shown.err
    assert run(["locate", str(tmp_path / "p" / "0.jpg"), "--allow-null-island", *database]) == 2
    assert "--allow-null-island" in capsys.readouterr().err


# ---- folders of systems and programs -------------------------------------------------------------

SYSTEMS = {
    "@eaDir/photo.jpg/SYNOPHOTO_THUMB_XL.jpg": "@eaDir (3)",
    "@eaDir/photo.jpg/SYNOPHOTO_THUMB_M.jpg": "@eaDir (3)",
    "sub/@eaDir/x.jpg": "@eaDir (3)",
    "#recycle/deleted.jpg": "#recycle (1)",
    "$RECYCLE.BIN/S-1-5/$RABC.jpg": "$RECYCLE.BIN (1)",
    "System Volume Information/a.jpg": "System Volume Information (1)",
    ".thumbnails/x.jpg": ".thumbnails (1)",
    ".dtrash/files/x.jpg": ".dtrash (1)",
    "._photo.jpg": "hidden files (2)",
    ".trashed-1700000000-old.jpg": "hidden files (2)",
    "My Photos Library.photoslibrary/resources/derivatives/A/A1.jpeg": "library resources (1)",
    "My Photos Library.photoslibrary/private/x/A1.jpeg": "library private (1)",
}
KEPT = (
    "My Photos Library.photoslibrary/originals/A/A1.jpeg",
    "eaDir/c.jpg",
    "photo.jpg",
    "recycle/b.jpg",
    "sub/d.jpg",
)


@pytest.fixture
def storage(tmp_path: Path) -> Path:
    for name in (*SYSTEMS, *KEPT):
        (tmp_path / "s" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "s" / name).write_bytes(picture_bytes("JPEG", quality=40 + len(name)))
    return tmp_path / "s"


def test_what_systems_keep_beside_photos_is_left_out_and_counted(storage: Path) -> None:
    photos = scan_photos(storage, show_progress=False)
    assert photos.paths == KEPT
    assert photos.skipped == ()
    (remark,) = photos.remarks
    assert remark.startswith(f"{len(SYSTEMS)} files are left out")
    for kind in SYSTEMS.values():
        assert kind in remark


def test_globs_leave_out_the_same(storage: Path) -> None:
    photos = scan_photos(f"{storage}/**/*.jp*g", show_progress=False)
    assert photos.paths == KEPT
    assert "@eaDir (3)" in photos.remarks[0]


def test_a_library_alone(storage: Path) -> None:
    photos = scan_photos(storage / "My Photos Library.photoslibrary", show_progress=False)
    assert photos.paths == ("originals/A/A1.jpeg",)


def test_nothing_is_written_into_folders_of_systems(storage: Path) -> None:
    write_photo(storage / "photo.jpg", view_of(draw_place(1), shift=0, seed=0))
    (storage / "photo.jpg.xmp").write_text(xmp_at("59,19.5N", "18,4.2E"))
    before = {path.relative_to(storage) for path in storage.rglob("*")}
    assert run(
        ["tag", str(storage), "--write", "sidecars", "--yes", "--include-unverified", "-q"]
    ) in (0, 1)
    new = {path.relative_to(storage) for path in storage.rglob("*")} - before
    allowed = {Path(name).with_name(f"{Path(name).name}.xmp") for name in KEPT}
    assert all(path in allowed or path.name.startswith("whence-undo") for path in new)


def test_evaluation_folders_leave_out_the_same(storage: Path, tmp_path: Path) -> None:
    shutil.copytree(storage, tmp_path / "set" / "database")
    shutil.copytree(storage, tmp_path / "set" / "queries")
    made = read_folders(tmp_path / "set")
    assert len(made.database) == len(made.queries) == len(KEPT)
    assert "@eaDir (3)" in made.database.remarks[0]


# ---- formats -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "name"),
    [("AVIF", "a.avif"), ("JPEG2000", "a.jp2"), ("JPEG2000", "a.J2K"), ("AVIF", "a.jpg")],
)
def test_newer_formats_are_read(tmp_path: Path, kind: str, name: str) -> None:
    options = {"exif": exif_bytes()} if kind == "AVIF" else {}
    (tmp_path / name).write_bytes(picture_bytes(kind, **options))
    photo = scan_photos(tmp_path, show_progress=False)[0]
    assert (photo.path, photo.width, photo.height) == (name, 30, 20)
    assert (photo.point is None) == (kind != "AVIF")
    assert np.abs(load_image(tmp_path / name).astype(int) - 128).max() < 4


def exif_bytes() -> bytes:
    from tagged import exif_of

    exif = exif_of(at(59.3, 18.0))
    exif[0x8825] = dict(exif.get_ifd(0x8825))
    return exif.tobytes()


def test_pictures_nobody_reads_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a.DNG", "b.dng", "c.CR3", "d.jxl", "e.heic", "video.mp4", "notes.pdf"):
        (tmp_path / name).write_bytes(b"II*\0" + bytes(500))
    monkeypatch.setattr(kinds, "has_raw_decoder", lambda: False)
    monkeypatch.setattr(kinds, "has_heic_decoder", lambda: False)
    photos = scan_photos(tmp_path, show_progress=False)
    assert len(photos) == 0
    assert photos.remarks == (
        "5 files are left out that cannot be read here: 1 .cr3 (extra raw), 2 .dng (extra raw), 1 "
        ".heic (extra heic), 1 .jxl (no reader)",
    )
    assert scan_photos(f"{tmp_path}/*", show_progress=False).remarks == photos.remarks


def test_a_folder_of_raw_photos_alone_is_not_an_empty_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.DNG").write_bytes(b"II*\0" + bytes(500))
    monkeypatch.setattr(kinds, "has_raw_decoder", lambda: False)
    assert run(["index", str(tmp_path), "--db", str(tmp_path / "a.whence"), "-q"]) == 1
    assert "1 .dng (extra raw)" in capsys.readouterr().err


@pytest.mark.skipif(
    importlib.util.find_spec("rawpy") is None, reason="the extra `raw` (rawpy) is not installed"
)
@pytest.mark.parametrize("name", ["a.DNG", "a.jpg"])
def test_raw_photos_are_read(tmp_path: Path, name: str) -> None:
    levels = np.full((64, 96), 800, np.uint16)
    levels[:, :48] = 3000
    path = tmp_path / name
    path.write_bytes(raw_photo(levels))
    assert image_header(path) == (96, 64, "RAW")
    image = load_image(path)
    assert image.shape == (64, 96, 3)
    assert image[:, :40].mean() > image[:, 56:].mean() + 50
    path.write_bytes(block_with_gps(path.read_bytes(), Geotag(GeoPoint(-12.5, 18.07))))
    record = read_metadata(path)
    assert record.point is not None
    assert record.point_source == "exif"
    assert (record.point.lat, record.point.lon) == pytest.approx((-12.5, 18.07), abs=1e-8)
    (tmp_path / "a.xmp").write_text(xmp_at("59,19.5N", "18,4.2E"))
    photos = scan_photos(tmp_path, show_progress=False)
    assert (photos.paths, photos[0].point) == ((name,), GeoPoint(59.325, 18.07))


def test_a_usual_picture_under_the_name_of_a_raw_one(tmp_path: Path) -> None:
    save_photo(tmp_path / "a.dng", at(59.3, 18.0))
    assert read_metadata(tmp_path / "a.dng").point == GeoPoint(59.3, 18.0)


@pytest.mark.skipif(
    importlib.util.find_spec("rawpy") is None, reason="the extra `raw` (rawpy) is not installed"
)
def test_damaged_raw_photos_are_skipped_with_a_reason(tmp_path: Path) -> None:
    whole = raw_photo(np.full((64, 96), 800, np.uint16))
    for name, data in (
        ("a.dng", whole[:60]),
        ("b.nef", b"MM\0*" + bytes(500)),
        ("c.cr3", b"\0\0\0\x18ftypcrx " + bytes(500)),
    ):
        (tmp_path / name).write_bytes(data)
    photos = scan_photos(tmp_path, show_progress=False)
    assert len(photos) == 0
    assert [entry.path for entry in photos.skipped] == ["a.dng", "b.nef", "c.cr3"]


def test_raw_photos_without_their_extra_say_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "rawpy", None)
    path = tmp_path / "a.dng"
    path.write_bytes(raw_photo(np.full((64, 96), 800, np.uint16)))
    with pytest.raises(MissingExtra, match=r"\[raw\]"):
        load_image(path)
    monkeypatch.setattr("whence.data.decoding.has_raw_decoder", lambda: False)
    with pytest.raises(UnreadableImage, match="TIFF"):
        load_image(b"II*\0" + bytes(500))
