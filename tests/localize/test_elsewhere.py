"""Photos in object storage and behind a web server: indexed, asked for, brought up to date, moved,
and lines that are cut."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

fsspec = pytest.importorskip("fsspec", reason="the extra `cloud` is not installed")
pytest.importorskip("aiohttp", reason="the extra `cloud` is not installed")

from whence import cli
from whence.data.elsewhere import (
    address_of,
    are_there,
    find_elsewhere,
    is_elsewhere,
    joined,
    path_of,
)
from whence.data.images import image_header, load_image
from whence.data.scan import scan_photos
from whence.errors import BadOption, NoPhotos, UnreadableImage
from whence.localize.build import build_database
from whence.localize.localizer import Localizer
from whence.localize.maintain import move_photos, refresh_database, remove_photos

BUCKET = "memory://bucket/street"


class Quiet(SimpleHTTPRequestHandler):
    """A folder over HTTP, without a log."""

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(autouse=True)
def online(monkeypatch: pytest.MonkeyPatch) -> None:
    """A service that other tests made has told this process to fetch nothing."""
    monkeypatch.delenv("WHENCE_OFFLINE", raising=False)


@pytest.fixture
def bucket(street: Path) -> Iterator[str]:
    """The photos of the street in the memory of this process, as a storage."""
    store = fsspec.filesystem("memory")
    store.store.clear()
    for file in sorted((street / "database").rglob("*.jpg")):
        store.pipe(
            f"/bucket/street/{file.relative_to(street / 'database').as_posix()}", file.read_bytes()
        )
    yield BUCKET
    store.store.clear()


@pytest.fixture
def web(street: Path) -> Iterator[str]:
    """The same over HTTP."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(street)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def asked(street: Path) -> list[Path]:
    return sorted((street / "queries").rglob("*.jpg"))[:4]


@pytest.mark.parametrize(
    ("address", "path"),
    [
        ("s3://bucket/a/b.jpg", "/s3:/bucket/a/b.jpg"),
        ("https://host/a.jpg", "/https:/host/a.jpg"),
        ("simplecache::s3://bucket/a.jpg", "/simplecache::s3:/bucket/a.jpg"),
        ("photos/a.jpg", "photos/a.jpg"),
        ("c:/photos/a.jpg", "c:/photos/a.jpg"),
        ("12:30/a.jpg", "12:30/a.jpg"),
    ],
)
def test_addresses_and_paths(address: str, path: str) -> None:
    assert path_of(address) == path
    assert address_of(path) == address
    assert is_elsewhere(path) == is_elsewhere(address) == ("//" in address)


def test_names_are_joined() -> None:
    assert joined("/photos", "s3://bucket/a.jpg") == "/s3:/bucket/a.jpg"
    assert joined("/photos/x", "../a.jpg") == "/photos/a.jpg"
    assert path_of("file:///photos/a.jpg") == "/photos/a.jpg"


def test_a_bucket_is_like_a_folder(bucket: str, street: Path, tmp_path: Path) -> None:
    with Localizer.build(street / "database", path=tmp_path / "here.whence") as here:
        expected = [here.locate(file) for file in asked(street)]
        rows = {
            one.content: (one.point, one.heading_deg, one.time, one.width) for one in here.photos
        }
    report = build_database([bucket], path=tmp_path / "there.whence")
    assert report.num_described == len(rows)
    with Localizer.open(tmp_path / "there.whence") as there:
        assert all(name.startswith(f"{bucket}/") for name in there.photos.paths)
        assert {
            one.content: (one.point, one.heading_deg, one.time, one.width) for one in there.photos
        } == rows
        for file, one in zip(asked(street), expected, strict=True):
            found = there.locate(file)
            assert (found.status, found.point, found.radius_m) == (
                one.status,
                one.point,
                one.radius_m,
            )
            assert [
                there.photos.record(candidate.row).content for candidate in found.candidates
            ] == [here.photos.record(candidate.row).content for candidate in one.candidates]


def test_what_changed_there_is_seen(
    bucket: str, street: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database, store = tmp_path / "there.whence", fsspec.filesystem("memory")
    build_database([bucket], path=database)
    fetched: list[str] = []
    fetch = type(store).cat_file

    def noted(self: object, path: str, **options: object) -> bytes:
        fetched.append(path)
        return bytes(fetch(self, path, **options))

    monkeypatch.setattr(type(store), "cat_file", noted)
    assert build_database([bucket], path=database).num_described == 0
    assert not fetched, "what is as it was is not fetched again"
    names = sorted(store.find("/bucket/street"))
    store.rm(names[0])
    store.pipe(names[1], store.cat(names[2]))
    store.pipe("/bucket/street/new.jpg", asked(street)[0].read_bytes())
    report = refresh_database(database)
    assert (report.num_removed, report.num_added, report.num_updated) == (1, 1, 1)
    with Localizer.open(database) as there:
        assert f"memory://{names[0].strip('/')}" not in there.photos.paths
    assert remove_photos(database, [f"{bucket}/new.jpg"]) == 1


def test_a_cut_line_loses_nothing(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database, store = tmp_path / "there.whence", fsspec.filesystem("memory")
    num = build_database([bucket], path=database).num_photos

    def cut(*_: object, **__: object) -> None:
        raise ConnectionError("the line is cut")

    with monkeypatch.context() as patched:
        for name in ("find", "ls", "info", "cat_file", "_open"):
            patched.setattr(type(store), name, cut)
        with pytest.raises(NoPhotos, match="the line is cut"):
            refresh_database(database)
        with pytest.raises(UnreadableImage, match="the line is cut"):
            load_image(f"{bucket}/any.jpg")
        assert all(are_there([path_of(f"{bucket}/any.jpg")])), (
            "what cannot be asked is not taken to be gone"
        )
    with Localizer.open(database) as there:
        assert len(there.photos) == num
    store.store.clear()
    with pytest.raises(NoPhotos):
        refresh_database(database)
    with Localizer.open(database) as there:
        assert len(there.photos) == num, "an empty bucket is like a disk that is not mounted"


def test_photos_move_into_a_bucket(bucket: str, street: Path, tmp_path: Path) -> None:
    database = tmp_path / "city.whence"
    num = build_database([street / "database"], path=database).num_photos
    assert move_photos(database, street / "database", bucket) == (num, num)
    report = refresh_database(database)
    assert (report.num_described, report.num_removed, report.num_photos) == (0, 0, num)
    with Localizer.open(database) as there:
        assert all(name.startswith(bucket) for name in there.photos.paths)


def test_a_folder_over_http(
    web: str, street: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    database = tmp_path / "web.whence"
    assert cli.run(["index", f"{web}/database/", "--db", str(database), "--quiet"]) == 0
    with Localizer.open(database) as there:
        assert len(there.photos) == len(list((street / "database").rglob("*.jpg")))
        query = asked(street)[0]
        name = f"{web}/{query.relative_to(street).as_posix()}"
        found = there.locate(name)
        assert found.query == name
        assert found.point == there.locate(query).point is not None
    capsys.readouterr()
    assert cli.run(["locate", name, "--db", str(database)]) == 0
    assert name.rpartition("/")[2] in capsys.readouterr().out
    listing = tmp_path / "list.txt"
    listing.write_text(f"{name}\n{asked(street)[1]}\n")
    photos = scan_photos(listing)
    assert sorted(photos.paths, key=len)[-1] == name or name in photos.paths
    assert len(photos) == 2
    assert image_header(name).width == image_header(query).width


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("memory://nothing/here", "nothing is at"),
        ("http://127.0.0.1:9/photos", "cannot be reached"),
        ("unheard-of://bucket/photos", "cannot be reached"),
    ],
)
def test_what_cannot_be_listed_is_said(source: str, said: str) -> None:
    with pytest.raises((NoPhotos, BadOption), match=said):
        find_elsewhere(path_of(source))


def test_a_photo_that_is_not_there_is_named(bucket: str, tmp_path: Path) -> None:
    listing = tmp_path / "list.txt"
    listing.write_text(f"{bucket}/gone.jpg\n")
    photos = scan_photos(listing)
    assert [(one.path, one.reason) for one in photos.skipped] == [
        (f"{bucket}/gone.jpg", "no such file")
    ]


def test_offline_means_offline(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHENCE_OFFLINE", "1")
    with pytest.raises(UnreadableImage, match="offline"):
        load_image(f"{bucket}/any.jpg")
