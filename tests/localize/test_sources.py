"""Where a database's photos come from: folders that are empty, gone, or moved, and files changed
with their old size and time."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from PIL import Image

from conftest import draw_place
from whence import cli
from whence.data import scan
from whence.data.photos import Photos
from whence.errors import NoPhotos, UnreadableTable
from whence.index import segments
from whence.index.store import Store
from whence.localize import build, maintain
from whence.localize.sources import missing_folders, source_files

Capture = pytest.CaptureFixture[str]


def write_geotagged(path: Path, *, number: int, degrees: int) -> Path:
    """A small photo with an EXIF position; other degrees change no byte but their own."""
    exif = Image.Exif()
    exif.get_ifd(0x8825).update(
        {1: "N", 2: (float(degrees), 1.0, float(number)), 3: "E", 4: (11.0, 58.0, 30.0)}
    )
    Image.fromarray(draw_place(number)).resize((160, 120)).save(path, exif=exif)
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders one/ (3 photos) and two/ (2 photos) and the database c.whence of both. Tests work on
    copies."""
    root = tmp_path_factory.mktemp("sources")
    for number in range(5):
        folder = root / ("one" if number < 3 else "two")
        folder.mkdir(exist_ok=True)
        write_geotagged(folder / f"photo {number}.jpg", number=number, degrees=57)
    build.build_database([root / "one", root / "two"], path=root / "c.whence")
    return root


@pytest.fixture
def place(made: Path, tmp_path: Path) -> Path:
    for name in ("one", "two", "c.whence"):
        shutil.copytree(made / name, tmp_path / name)
    return tmp_path


def names_in(path: Path) -> set[str]:
    with Store.open(path) as store:
        return set(store.photos.paths)


def empty(folder: Path) -> None:
    for file in folder.iterdir():
        file.unlink()


@pytest.mark.parametrize("is_removed", [False, True])
def test_a_disk_that_is_not_mounted_costs_nothing(place: Path, is_removed: bool) -> None:
    path, before = place / "c.whence", names_in(place / "c.whence")
    for folder in ("one", "two"):
        shutil.rmtree(place / folder) if is_removed else empty(place / folder)
    with pytest.raises(NoPhotos, match=r"everything is kept.*move OLD NEW.*--yes-remove"):
        maintain.refresh_database(path)
    with pytest.raises(NoPhotos, match=r"everything is kept"):
        maintain.refit_database(path)
    assert names_in(path) == before
    report = maintain.refresh_database(path, removes_missing=True)
    assert (report.num_removed, report.num_photos) == (5, 0)


@pytest.mark.parametrize("is_removed", [False, True])
def test_one_of_two_folders_is_missing(place: Path, is_removed: bool, capsys: Capture) -> None:
    path, before = place / "c.whence", names_in(place / "c.whence")
    shutil.rmtree(place / "one") if is_removed else empty(place / "one")
    gone = sorted((place / "two").iterdir())[0]
    gone.unlink()
    assert cli.run(["database", "refresh", "--db", str(path), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["num_removed"], report["num_photos"]) == (1, 4)
    assert report["missing"] == [
        {"folder": str(place / "one"), "num_photos": 3, "is_there": not is_removed}
    ]
    assert names_in(path) == before - {f"two/{gone.name}"}
    assert cli.run(["database", "refresh", "--db", str(path)]) == 0
    assert f"'{place / 'one'}'" in capsys.readouterr().err.replace("\n", " ")
    assert cli.run(["database", "refresh", "--yes-remove", "--db", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["num_removed"] == 3


def test_another_disk_in_the_same_place_costs_nothing(place: Path) -> None:
    other = (place / "one" / sorted(os.listdir(place / "one"))[0]).read_bytes()
    empty(place / "two")
    (place / "two" / "new.jpg").write_bytes(other)
    report = maintain.refresh_database(place / "c.whence")
    assert (
        report.num_removed,
        report.num_added,
        [Path(one.folder).name for one in report.missing],
    ) == (0, 1, ["two"])


def test_renamed_photos_are_not_missing(place: Path) -> None:
    for folder in ("one", "two"):
        for number, file in enumerate(sorted((place / folder).iterdir())):
            file.rename(place / folder / f"renamed {number}.jpg")
    report = maintain.refresh_database(place / "c.whence")
    assert (report.num_removed, report.num_added, report.num_described, report.missing) == (
        5,
        5,
        0,
        (),
    )


@pytest.mark.parametrize("source", ["one/*.jpg", "list.txt", "one"])
def test_folders_of_patterns_and_lists_are_looked_after_too(place: Path, source: str) -> None:
    (place / "list.txt").write_text("".join(f"one/{name}\n" for name in os.listdir(place / "one")))
    build.build_database([place / source], path=place / "d.whence")
    first = sorted((place / "one").iterdir())[0]
    first.rename(place / first.name)
    assert maintain.refresh_database(place / "d.whence").num_removed == 1
    empty(place / "one")
    with pytest.raises(NoPhotos, match=str(place / "one")):
        maintain.refresh_database(place / "d.whence")
    assert len(names_in(place / "d.whence")) == 2


def test_a_moved_collection_is_found_again(
    place: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = place / "c.whence"
    (place / "disk = b").mkdir()
    for folder in ("one", "two"):
        shutil.move(place / folder, place / "disk = b" / folder)
    monkeypatch.chdir(place)
    query = place / "disk = b" / "one" / sorted(os.listdir(place / "disk = b" / "one"))[0]
    cli.run(["locate", str(query), "--db", str(path), "--no-verify"])
    assert f"'{place / 'one'}' with 3 photos is missing" in capsys.readouterr().err.replace(
        "\n", ""
    )
    assert cli.run(["doctor", "--db", str(path), "--json"]) == 1
    assert str(place / "one") in capsys.readouterr().out
    assert cli.run(["database", "move", f"{place}/one", f"{place}/nowhere", "--db", str(path)]) == 1
    assert cli.run(["database", "move", "elsewhere", "two", "--db", str(path)]) == 1
    assert cli.run(["database", "move", "one", "", "--db", str(path)]) == 1
    capsys.readouterr()
    assert (
        cli.run(
            ["index", "--moved", f"{place}/one={place}/disk = b/one", "--db", str(path), "--json"]
        )
        == 0
    )
    assert json.loads(capsys.readouterr().out) == {"moved": 3, "there": 3, "database": str(path)}
    assert cli.run(["database", "move", "two", "disk = b/two", "--db", str(path)]) == 0
    with Store.open(path) as store:
        photos = store.photos
        assert all(photos.file(row).is_file() for row in range(5))
        assert not missing_folders(photos, source_files(store.options["sources"], store.path))
    report = maintain.refresh_database(path)
    assert (report.num_photos, report.num_described, report.num_added, report.num_removed) == (
        5,
        0,
        0,
        0,
    )
    capsys.readouterr()
    assert cli.run(["doctor", "--db", str(path), "--json"]) == 0


def test_what_is_not_there_cannot_be_removed(place: Path, capsys: Capture) -> None:
    path, first = place / "c.whence", sorted((place / "one").iterdir())[0]
    assert (
        cli.run(["database", "remove", str(first), "nothing.jpg", "--db", str(path), "--json"]) == 1
    )
    assert json.loads(capsys.readouterr().out) == {
        "removed": 1,
        "database": str(path),
        "not_there": ["nothing.jpg"],
    }
    assert cli.run(["database", "remove", "nothing.jpg", "--db", str(path)]) == 1
    assert "nothing.jpg" in capsys.readouterr().err


@pytest.mark.parametrize("verb", [("database", "refresh"), ("index", "one", "two")])
def test_a_geotag_rewritten_with_size_and_time_kept_is_seen(
    place: Path, verb: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    """As exiftool -P does where a GPS block was there before."""
    path, file = place / "c.whence", place / "one" / "photo 1.jpg"
    maintain.refresh_database(path)
    status = file.stat()
    write_geotagged(file, number=1, degrees=48)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert (file.stat().st_size, file.stat().st_mtime_ns) == (status.st_size, status.st_mtime_ns)
    monkeypatch.chdir(place)
    assert cli.run([*verb, "--db", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["num_updated"] == 1
    with Store.open(path) as store:
        lats = {photo.path: photo.point and photo.point.lat for photo in store.photos}
    assert lats.pop("one/photo 1.jpg") == pytest.approx(48 + 1 / 60 + 1 / 3600)
    assert all(lat is not None and lat > 57 for lat in lats.values())


def test_a_touched_photo_is_read_once_and_is_no_news(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, file = place / "c.whence", place / "one" / "photo 1.jpg"
    maintain.refresh_database(path)
    read, seen = scan.read_photo, []
    monkeypatch.setattr(
        scan, "read_photo", lambda path, **given: seen.append(path) or read(path, **given)
    )
    for touch in (lambda: os.utime(file), lambda: file.chmod(0o600)):
        touch()
        seen.clear()
        report = maintain.refresh_database(path)
        assert (report.num_updated, report.num_described, len(seen)) == (0, 0, 1)
        maintain.refresh_database(path)
        assert len(seen) == 1, "its new times are remembered"


def test_databases_without_times_of_the_system_are_refreshed_without_describing(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files of databases made before hold no such column; they are read once more, and then
    remembered."""
    path = place / "c.whence"
    with monkeypatch.context() as patch:
        write = segments.write_npz
        patch.setattr(
            segments,
            "write_npz",
            lambda folder, name, arrays: write(
                folder, name, {k: v for k, v in arrays.items() if k != "ctime_ns"}
            ),
        )
        shutil.rmtree(path)
        build.build_database([place / "one", place / "two"], path=path)
    with Store.open(path) as store:
        assert (store.photos.ctime_ns == 0).all()
    read, seen = scan.read_photo, []
    monkeypatch.setattr(
        scan, "read_photo", lambda path, **given: seen.append(path) or read(path, **given)
    )
    report = maintain.refresh_database(path)
    assert (report.num_described, report.num_updated, report.num_photos, len(seen)) == (0, 0, 5, 5)
    assert maintain.refresh_database(path).num_photos == 5
    assert len(seen) == 5, "their times are remembered"


def test_exported_tables_without_the_column_are_read(place: Path) -> None:
    maintain.export_database(place / "c.whence", place / "out")
    table = place / "out" / "photos.csv"
    lines = table.read_text().splitlines()
    assert lines[0].endswith(",ctime_ns")
    table.write_text("".join(line.rpartition(",")[0] + "\n" for line in lines))
    again = Photos.from_csv(table)
    assert (len(again), again.ctime_ns.tolist()) == (5, [0] * 5)
    assert maintain.import_database(place / "out", path=place / "d.whence") == 5
    table.write_text("".join(line.rpartition(",")[0].rpartition(",")[0] + "\n" for line in lines))
    with pytest.raises(UnreadableTable, match="first line must be"):
        Photos.from_csv(table)
