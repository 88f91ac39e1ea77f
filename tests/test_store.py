"""The database folder: what goes in comes out, whatever the segments; broken files and full disks give clear errors."""

from __future__ import annotations

import csv
import errno
import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whence.data.photos import Photos
from whence.errors import (
    BadOption,
    CardMismatch,
    CorruptStore,
    InputError,
    NotAStore,
    StoreError,
    StoreFull,
    StoreLocked,
    StoreVersion,
)
from whence.index import files
from whence.index.ledger import FAN_OUT
from whence.index.store import Store, estimate_bytes
from whence.types import GeoPoint, Photo

DIM = 6


def key(number: int) -> str:
    return f"{number:032x}"


def photos_of(numbers, *, folder="p", lat=47.0) -> Photos:
    return Photos.of(
        [
            Photo(
                path=f"{folder}/{n:04d}.jpg",
                content=key(n),
                point=GeoPoint(lat + n / 1000, 8.5),
                heading_deg=float(n % 360) if n % 2 else None,
                time=datetime(2020, 5, 17, 12, n % 60, tzinfo=UTC) if n % 3 else None,
                width=640,
                mtime_ns=n,
            )
            for n in numbers
        ]
    )


def vectors_of(numbers) -> np.ndarray:
    rows = [np.random.default_rng([7, n]).normal(size=DIM) for n in numbers]
    return np.array(rows, dtype=np.float32).reshape(-1, DIM)


def put(store: Store, numbers, **options) -> None:
    numbers = list(numbers)
    store.add(photos_of(numbers, **options), contents=np.array([key(n) for n in numbers]), descriptors=vectors_of(numbers))


def make(path: Path, numbers=(), *, batch: int = 5, **options) -> Store:
    store = Store.create(path, card_id="thing.v1", dim=DIM, **options)
    numbers = list(numbers)
    for start in range(0, len(numbers), batch):
        put(store, numbers[start : start + batch])
    return store


def says(store: Store) -> dict[str, tuple[Photo, bytes | None]]:
    """The slow, obvious reading of a database: path -> record and descriptor."""
    photos, rows = store.photos, store.descriptor_rows
    return {
        photos.paths[i]: (photos[i], None if rows[i] < 0 else np.asarray(store.descriptors[rows[i]]).tobytes())
        for i in range(len(photos))
    }


def test_what_goes_in_comes_out_before_and_after_compacting_and_opening(tmp_path):
    with make(tmp_path / "deep" / "city.whence", range(23), options={"model": "thing", "px": [320, 240]}) as store:
        before = says(store)
        assert list(before) == [f"p/{n:04d}.jpg" for n in range(23)]
        assert before["p/0007.jpg"] == (photos_of([7])[0], vectors_of([7])[0].tobytes())
        assert store.photos.root == tmp_path / "deep"
        fingerprint = store.fingerprint()
        store.compact()
        assert says(store) == before
        assert isinstance(store.descriptors, np.memmap)
        assert store.fingerprint() == fingerprint
    with Store.open(tmp_path / "deep" / "city.whence") as again:
        assert says(again) == before
        assert (again.card_id, again.dim, again.dtype, again.num_photos, again.num_descriptors) == (
            "thing.v1",
            DIM,
            np.float32,
            23,
            23,
        )
        assert again.options == {"model": "thing", "px": [320, 240]}
        assert again.fingerprint() == fingerprint
        assert again.check() == []
        assert again.contents.tolist() == [key(n).encode() for n in range(23)]


def test_an_empty_database_is_one(tmp_path):
    make(tmp_path / "e").close()
    with Store.open(tmp_path / "e", writable=True) as store:
        assert store.num_photos == store.num_descriptors == 0
        assert store.descriptors.shape == (0, DIM)
        assert store.descriptor_rows.shape == store.contents.shape == (0,)
        store.compact()
        assert store.check() == []
        assert store.state_id == ""
        assert store.remove(["nothing"]) == 0


def test_one_content_under_several_paths_has_one_descriptor(tmp_path):
    with make(tmp_path / "s", range(3)) as store:
        copies = photos_of([1, 2], folder="copy")
        store.add(copies, contents=copies.content, descriptors=np.full((2, DIM), 9.0))
        assert store.num_photos == 5
        assert store.num_descriptors == 3
        assert store.descriptor_rows.tolist() == [0, 1, 2, 1, 2]
        assert np.array_equal(store.descriptors, vectors_of(range(3)))
        store.remove(["p/0001.jpg", "p/0000.jpg"])
        store.compact()
        assert store.contents.tolist() == [key(1).encode(), key(2).encode()]
        assert store.descriptor_rows.tolist() == [1, 0, 1]


def test_photos_may_come_before_their_descriptors(tmp_path):
    with make(tmp_path / "s") as store:
        store.add(photos_of(range(4)), contents=np.empty(0, "S32"), descriptors=np.empty((0, DIM)))
        assert store.descriptor_rows.tolist() == [-1] * 4
        store.add(Photos.of([]), contents=[key(2), key(0)], descriptors=vectors_of([2, 0]))
        assert store.descriptor_rows.tolist() == [1, -1, 0, -1]
        assert store.has_descriptors(np.array([key(0), key(1)])).tolist() == [True, False]
        assert store.referenced_rows.tolist() == [0, 1]


def test_a_path_that_comes_again_is_replaced_in_place_and_a_removed_one_stands_at_the_end(tmp_path):
    with make(tmp_path / "s", range(4)) as store:
        put(store, [1], lat=-10.0)
        assert store.photos.paths == tuple(f"p/{n:04d}.jpg" for n in range(4))
        assert store.photos[1].point == GeoPoint(-10.0 + 1 / 1000, 8.5)
        assert store.remove(["p/0000.jpg", "p/0000.jpg", "unknown.jpg"]) == 1
        assert store.remove(["p/0000.jpg"]) == 0
        put(store, [0])
        expected = ("p/0001.jpg", "p/0002.jpg", "p/0003.jpg", "p/0000.jpg")
        assert store.photos.paths == expected
        store.compact()
        assert store.photos.paths == expected


def test_a_removed_photo_is_gone_at_once_and_its_descriptor_after_compacting(tmp_path):
    with make(tmp_path / "s", range(6)) as store:
        rows_id = store.rows_id
        store.remove(["p/0002.jpg"])
        assert store.referenced_rows.tolist() == [0, 1, 3, 4, 5]
        assert store.num_descriptors == 6
        assert store.rows_id == rows_id
        store.compact()
        assert store.num_descriptors == 5
        assert store.rows_id != rows_id
        assert key(2).encode() not in store.contents.tolist()


def test_update_photos_keeps_places_and_refuses_unknown_paths(tmp_path):
    with make(tmp_path / "s", range(4)) as store:
        store.update_photos(photos_of([2], lat=10.0))
        assert store.photos.paths[2] == "p/0002.jpg"
        assert store.photos[2].point == GeoPoint(10.002, 8.5)
        with pytest.raises(InputError, match=r"p/0009\.jpg.*add it first"):
            store.update_photos(photos_of([9]))


def test_equal_paths_and_contents_in_one_call(tmp_path):
    with make(tmp_path / "s") as store:
        twice = Photos.concatenate([photos_of([1]), photos_of([1], lat=20.0)])
        store.add(twice, contents=[key(1), key(1)], descriptors=np.stack([np.ones(DIM), np.zeros(DIM)]))
        assert store.num_photos == store.num_descriptors == 1
        assert store.photos[0].point == GeoPoint(20.001, 8.5)
        assert store.descriptors[0].tolist() == [1.0] * DIM


def test_many_small_commits_leave_few_files_and_the_same_state(tmp_path):
    num = 3 * FAN_OUT + 7
    with make(tmp_path / "many", range(num), batch=1) as many, make(tmp_path / "one", range(num), batch=num) as one:
        many.remove(["p/0003.jpg"])
        one.remove(["p/0003.jpg"])
        assert says(many) == says(one)
        assert many.fingerprint() == one.fingerprint()
        assert len(many._ledger.segments) < FAN_OUT
        assert len(os.listdir(many.path)) < 2 * FAN_OUT + 4
        assert many.contents.tolist() == one.contents.tolist()
    with Store.open(tmp_path / "many") as again:
        assert again.photos.paths == tuple(f"p/{n:04d}.jpg" for n in range(num) if n != 3)


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_any_sequence_of_changes_says_what_a_dictionary_says(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("random") / "s"
    expected: dict[str, tuple[int, float]] = {}
    store = make(folder)
    for _ in range(data.draw(st.integers(1, 8))):
        action = data.draw(st.sampled_from(["add", "remove", "compact", "open"]))
        numbers = data.draw(st.lists(st.integers(0, 9), max_size=5, unique=True))
        if action == "add":
            lat = data.draw(st.sampled_from([1.0, 2.0]))
            put(store, numbers, lat=lat)
            expected.update({f"p/{n:04d}.jpg": (n, lat) for n in numbers})
        elif action == "remove":
            paths = [f"p/{n:04d}.jpg" for n in numbers]
            assert store.remove(paths) == sum(path in expected for path in paths)
            for path in paths:
                expected.pop(path, None)
        elif action == "compact":
            store.compact()
            assert store.num_descriptors == len(expected)
        else:
            store.close()
            store = Store.open(folder, writable=True)
        assert store.photos.paths == tuple(expected)
        assert says(store) == {
            path: (photos_of([n], lat=lat)[0], vectors_of([n])[0].tobytes()) for path, (n, lat) in expected.items()
        }
    assert store.check() == []
    store.close()


def test_fingerprint_depends_on_what_is_said_and_on_nothing_else(tmp_path):
    with make(tmp_path / "a", range(8), batch=3) as a, make(tmp_path / "b", reversed(range(8)), batch=2) as b:
        a.write_blob("state", {"x": np.arange(3)})
        b.write_blob("state", {"x": np.arange(3)})
        assert a.fingerprint() == b.fingerprint()
        seen = {a.fingerprint()}
        b.write_blob("state", {"x": np.arange(3) + 1})
        seen.add(b.fingerprint())
        assert a.fingerprint(skip_blobs=["state"]) == b.fingerprint(skip_blobs=["state"])
        b.write_blob("state", {"x": np.arange(3)})
        b.update_photos(photos_of([5], lat=1.0))
        seen.add(b.fingerprint())
        b.update_photos(photos_of([5]))
        b.set_options({"a": 1})
        seen.add(b.fingerprint())
        b.set_options({})
        assert b.fingerprint() in seen
        b.remove(["p/0003.jpg"])
        seen.add(b.fingerprint())
        assert len(seen) == 5


def test_paths_of_any_kind_survive(tmp_path):
    names = ["ü/日本.jpg", "with space.jpg", "/absolute/x.jpg", "bad\udcff.jpg", "a\nb.jpg", ""]
    photos = Photos.of([Photo(path=name, content=key(i)) for i, name in enumerate(names)])
    with make(tmp_path / "s") as store:
        store.add(photos, contents=photos.content, descriptors=vectors_of(range(len(names))))
        store.compact()
        with pytest.raises(InputError, match="NUL"):
            store.add(Photos.of([Photo(path="a\0b")]), contents=[], descriptors=np.empty((0, DIM)))
    with Store.open(tmp_path / "s") as again:
        assert list(again.photos.paths) == names
        assert len(again.fingerprint()) == 32
        again.export_npy(tmp_path / "out")


@pytest.mark.parametrize(
    ("contents", "descriptors", "words"),
    [
        ([key(1)], np.ones((1, DIM + 1)), "shape"),
        ([key(1)], np.ones(DIM), "shape"),
        ([key(1), key(2)], np.ones((1, DIM)), "shape"),
        ([key(1)], np.full((1, DIM), np.nan), "NaN"),
        ([key(1)], np.full((1, DIM), np.inf), "NaN or a number too large"),
        ([key(1)], np.full((1, DIM), 1e200), "too large"),
        ([key(1)], np.full((1, DIM), "x"), "dtype"),
        ([""], np.ones((1, DIM)), "1 to 32"),
        (["x" * 33], np.ones((1, DIM)), "1 to 32"),
        (["ü"], np.ones((1, DIM)), "ASCII"),
    ],
)
def test_descriptors_that_do_not_fit_are_refused_and_nothing_changes(tmp_path, contents, descriptors, words):
    with make(tmp_path / "s", range(2)) as store:
        before = store.fingerprint()
        with pytest.raises(InputError, match=words):
            store.add(photos_of([5]), contents=contents, descriptors=descriptors)
        assert store.fingerprint() == before


def test_float16_rows(tmp_path):
    with make(tmp_path / "s", range(5), dtype="float16") as store:
        store.compact()
        assert store.descriptors.dtype == np.float16
        assert np.array_equal(store.descriptors, vectors_of(range(5)).astype(np.float16))
        with pytest.raises(InputError, match="too large for float16"):
            store.add(photos_of([9]), contents=[key(9)], descriptors=np.full((1, DIM), 1e6))


def test_create_refuses_what_it_must(tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "photo.jpg").touch()
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    for name, words in (("full", "not empty"), ("file", "a file of that name"), ("file/below", "failed")):
        with pytest.raises(StoreError, match=words):
            Store.create(tmp_path / name, card_id="x", dim=3)
    assert os.listdir(tmp_path / "full") == ["photo.jpg"]
    Store.create(tmp_path / "empty", card_id="x", dim=3).close()
    with pytest.raises(StoreError, match="not empty"):
        Store.create(tmp_path / "empty", card_id="x", dim=3)
    with pytest.raises(BadOption, match="int8"):
        Store.create(tmp_path / "n", card_id="x", dim=3, dtype="int8")
    with pytest.raises(BadOption, match="dimensions"):
        Store.create(tmp_path / "n", card_id="x", dim=0)
    with pytest.raises(BadOption, match="JSON"):
        Store.create(tmp_path / "n", card_id="x", dim=3, options={"a": object()})
    assert not (tmp_path / "n").exists()


def test_one_writer_many_readers(tmp_path):
    with make(tmp_path / "s", range(3)) as store:
        with pytest.raises(StoreLocked, match="another process"):
            Store.open(tmp_path / "s", writable=True)
        reader = Store.open(tmp_path / "s")
        assert not reader.is_writable
        for change in (
            lambda: put(reader, [9]),
            lambda: reader.remove(["p/0001.jpg"]),
            reader.compact,
            lambda: reader.write_blob("x", {"a": np.ones(1)}),
            lambda: reader.set_options({}),
            lambda: reader.write_cache("sift.v1", [key(1)], [{"a": np.ones(1)}]),
        ):
            with pytest.raises(StoreError, match="writable=True"):
                change()
        assert reader.num_photos == 3
        put(store, [5])
        store.compact()
        assert reader.num_photos == 3  # the state it opened
        assert np.array_equal(reader.descriptors, vectors_of(range(3)))
    with pytest.raises(StoreError, match="writable=True"):
        put(store, [6])
    with Store.open(tmp_path / "s", writable=True) as again:
        assert again.num_photos == 4


def test_the_lock_is_freed_when_its_process_is_killed(tmp_path):
    make(tmp_path / "s").close()
    code = """
import os, signal, sys
from whence.index.store import Store
store = Store.open(sys.argv[1], writable=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path / "s")], check=False).returncode < 0
    Store.open(tmp_path / "s", writable=True).close()


def test_left_overs_go_and_foreign_files_stay(tmp_path):
    make(tmp_path / "s", range(3)).close()
    ours = ["00000099.photos.npz", "00000099.cache.bin", ".manifest.json.abc.part"]
    foreign = ["notes.txt", "photo.npz", "99.photos.npz", "00000001.photos.npz.bak"]
    for name in ours + foreign:
        (tmp_path / "s" / name).write_bytes(b"x")
    Store.open(tmp_path / "s").close()
    assert set(ours) <= set(os.listdir(tmp_path / "s"))
    Store.open(tmp_path / "s", writable=True).close()
    assert not set(ours) & set(os.listdir(tmp_path / "s"))
    assert set(foreign) <= set(os.listdir(tmp_path / "s"))


def rewrite_manifest(folder: Path, change) -> None:
    """Change the manifest and make its checksum right again."""
    from whence.index.manifest import _checksum

    body = json.loads((folder / "manifest.json").read_text())
    body.pop("checksum")
    change(body)
    (folder / "manifest.json").write_text(json.dumps({**body, "checksum": _checksum(body)}))


def broken(folder: Path, how: str) -> None:
    manifest = folder / "manifest.json"
    segment = json.loads(manifest.read_text())["segments"][0]
    photos, matrix = folder / segment["photos"]["name"], folder / segment["descriptors"]["name"]
    if how == "no manifest":
        manifest.unlink()
    elif how == "cut manifest":
        manifest.write_text(manifest.read_text()[:50])
    elif how == "binary manifest":
        manifest.write_bytes(b"\xff\xfe\x00")
    elif how == "other json":
        manifest.write_text('{"name": "package"}')
    elif how == "edited manifest":
        manifest.write_text(manifest.read_text().replace('"dim": 6', '"dim": 7'))
    elif how == "version":
        rewrite_manifest(folder, lambda body: body.update(version=2))
    elif how == "missing field":
        rewrite_manifest(folder, lambda body: body.pop("segments"))
    elif how == "name outside":
        rewrite_manifest(folder, lambda body: body["segments"][0]["photos"].update(name="../../secret.npz"))
    elif how == "other counts":
        rewrite_manifest(folder, lambda body: body["segments"][0].update(num_photos=99))
    elif how == "missing rows":
        photos.unlink()
    elif how == "missing matrix":
        matrix.unlink()
    elif how == "truncated matrix":
        os.truncate(matrix, 100)
    elif how == "truncated rows":
        os.truncate(photos, photos.stat().st_size - 1)
    elif how == "other dtype":
        matrix.write_bytes(matrix.read_bytes().replace(b"<f4", b"<i4"))
    elif how == "other shape":
        matrix.write_bytes(matrix.read_bytes().replace(b"(5, 6)", b"(6, 5)"))
    elif how == "rubbish rows":
        photos.write_bytes(b"\0" * photos.stat().st_size)
    elif how == "rubbish archive":
        photos.write_bytes(b"PK\3\4".ljust(photos.stat().st_size, b"x"))


@pytest.mark.parametrize(
    ("how", "error", "words"),
    [
        ("no manifest", NotAStore, "no manifest.json"),
        ("other json", NotAStore, "not that of a database"),
        ("cut manifest", CorruptStore, "not JSON"),
        ("binary manifest", CorruptStore, "not JSON"),
        ("edited manifest", CorruptStore, "checksum"),
        ("version", StoreVersion, "format 2"),
        ("missing field", CorruptStore, "incomplete"),
        ("name outside", CorruptStore, "secret"),
        ("other counts", CorruptStore, "other rows"),
        ("missing rows", CorruptStore, "missing"),
        ("missing matrix", CorruptStore, "missing"),
        ("truncated matrix", CorruptStore, "100 bytes"),
        ("truncated rows", CorruptStore, "truncated"),
        ("other dtype", CorruptStore, "int32"),
        ("other shape", CorruptStore, r"\(6, 5\)"),
        ("rubbish rows", CorruptStore, "damaged"),
        ("rubbish archive", CorruptStore, "damaged"),
    ],
)
def test_broken_databases_say_what_is_broken(tmp_path, how, error, words):
    folder = tmp_path / "s"
    make(folder, range(5)).close()
    broken(folder, how)
    for writable in (False, True):
        with pytest.raises(error, match=words) as caught, Store.open(folder, writable=writable) as store:
            assert len(store.photos)
        assert str(folder) in str(caught.value)


def test_what_is_no_folder_is_no_database(tmp_path):
    (tmp_path / "file").touch()
    for name, words in (("nothing", "no such folder"), ("file", "not a folder"), (".", "no manifest.json")):
        for writable in (False, True):
            with pytest.raises(NotAStore, match=words):
                Store.open(tmp_path / name, writable=writable)
    assert os.listdir(tmp_path) == ["file"]


def test_check_finds_changed_bytes_and_numbers_that_are_not_finite(tmp_path):
    with make(tmp_path / "s", range(5)) as store:
        matrix = tmp_path / "s" / store._ledger.manifest.segments[0].descriptors.name
        data = bytearray(matrix.read_bytes())
        data[-4:] = np.float32(np.nan).tobytes()
        matrix.write_bytes(data)
        assert store.check() == [f"{matrix.name}: its bytes changed since it was written"]
    sound = files.checksum(matrix)
    rewrite_manifest(tmp_path / "s", lambda body: body["segments"][0]["descriptors"].update(checksum=sound))
    with Store.open(tmp_path / "s") as store:
        assert store.check() == [f"{matrix.name}: row 4 is not finite"]


class _Failing:
    """A system call that fails the n-th time it is called."""

    def __init__(self, real, *, at: int, code: int) -> None:
        self.real, self.at, self.code, self.calls = real, at, code, 0

    def __call__(self, *args, **kwargs):
        self.calls += 1
        if self.calls == self.at:
            raise OSError(self.code, os.strerror(self.code))
        return self.real(*args, **kwargs)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EIO])
@pytest.mark.parametrize("call", ["fsync", "replace", "open"])
def test_any_failing_system_call_leaves_the_earlier_state(tmp_path, monkeypatch, code, call):
    error = StoreFull if code == errno.ENOSPC else StoreError
    with make(tmp_path / "s", range(5)) as store:
        changes = {
            "add": lambda: put(store, [7]),
            "remove": lambda: store.remove(["p/0001.jpg"]),
            "blob": lambda: store.write_blob("b", {"x": np.ones(3)}),
            "cache": lambda: store.write_cache("sift.v1", [key(2)], [{"x": np.ones(3)}]),
            "compact": lambda: (put(store, [8]), store.compact()),
        }
        for name, change in changes.items():
            for at in range(1, 12):
                before = store.fingerprint()
                listed = sorted(os.listdir(store.path))
                target = (files, "open") if call == "open" else (os, call)
                failing = _Failing(getattr(*target, open), at=at, code=code)
                monkeypatch.setattr(*target, failing, raising=False)
                failed = None
                try:
                    change()
                except StoreError as caught:
                    failed = str(caught)
                    assert isinstance(caught, error) or "cannot be read" in failed  # noqa: PT017 (a loop over many)
                monkeypatch.undo()
                if failed is None:
                    assert failing.calls < at or call == "fsync", f"{name}: call {at} of {call} failed and nobody noticed"
                    break
                assert "earlier state is intact" in failed or "cannot be read" in failed, name
                if name != "compact":
                    assert store.fingerprint() == before
                    assert sorted(os.listdir(store.path)) == listed
                assert store.check() == []
                with Store.open(store.path) as reader:
                    assert reader.fingerprint() == store.fingerprint()
        assert store.num_photos == 6
        assert store.has_cache("sift.v1", [key(2)]).all()


def test_a_full_disk_leaves_the_earlier_state(tmp_path):
    code = """
import resource, sys
import numpy as np
from whence.data.photos import Photos
from whence.errors import StoreFull
from whence.index.store import Store
from whence.types import Photo
with Store.create(sys.argv[1], card_id="x", dim=64) as store:
    def put(numbers):
        photos = Photos.of([Photo(path=str(n), content=str(n)) for n in numbers])
        store.add(photos, contents=photos.content, descriptors=np.ones((len(numbers), 64)))
    put(range(10))
    before = store.fingerprint()
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
    try:
        put(range(10, 400))
    except StoreFull as error:
        assert store.fingerprint() == before and store.check() == []
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        put(range(10, 400))
        print(store.num_photos, error)
"""
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "s")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("400 ")
    assert "no room while writing photos and descriptors" in done.stdout
    with Store.open(tmp_path / "s") as store:
        assert store.num_photos == 400


def test_an_interrupt_after_the_rename_is_noticed(tmp_path, monkeypatch):
    from whence import runtime

    def interrupt(folder):
        raise KeyboardInterrupt

    with make(tmp_path / "s", range(3)) as store:
        monkeypatch.setattr(runtime, "sync_folder", interrupt)
        with pytest.raises(KeyboardInterrupt):
            put(store, [7])
        monkeypatch.undo()
        with pytest.raises(StoreError, match="open it again"):
            put(store, [8])
    with Store.open(tmp_path / "s", writable=True) as again:
        assert again.num_photos == 4
        assert again.check() == []


def test_blobs(tmp_path):
    arrays = {"a": np.arange(12.0).reshape(3, 4), "text": np.array("ü"), "none": np.empty((0, 2), np.int8)}
    with make(tmp_path / "s", range(2)) as store:
        assert store.read_blob("b") is None
        store.write_blob("b", {"old": np.ones(3)})
        store.write_blob("b", arrays)
        store.write_blob("descriptor-state", {"x": np.ones(2)})
        state = store.state_id
        store.compact()
        with pytest.raises(InputError, match="objects"):
            store.write_blob("o", {"x": np.array([{}])})
    with Store.open(tmp_path / "s", writable=True) as again:
        read = again.read_blob("b")
        assert read is not None
        assert {name: (array.tolist(), array.dtype, array.shape) for name, array in read.items()} == {
            name: (array.tolist(), array.dtype, array.shape) for name, array in arrays.items()
        }
        assert again.blob_names == ("b", "descriptor-state")
        assert again.state_id == state != ""
        again.write_blob("descriptor-state", {"x": np.zeros(2)})
        assert again.state_id != state
        assert again.delete_blob("descriptor-state")
        assert not again.delete_blob("descriptor-state")
        assert again.state_id == ""


def records_of(numbers) -> list[dict[str, np.ndarray]]:
    return [
        {"keypoints": np.full((n, 2), n, np.float32), "codes": np.arange(n * 3, dtype=np.uint8).reshape(n, 3), "size": np.array(n)}
        for n in numbers
    ]


def test_cached_arrays_live_in_few_files(tmp_path):
    with make(tmp_path / "s", range(50), batch=50) as store:
        for n in range(50):
            store.write_cache("sift.v1", [key(n)], records_of([n]))
        store.write_cache("sift.v1", [key(1)], records_of([40]))  # there already
        store.write_cache("other.v1", [key(1)], [{}])
        assert len(os.listdir(store.path)) < 2 * FAN_OUT + 10
        store.remove(["p/0009.jpg"])
        assert store.check() == []
        store.compact()
    with Store.open(tmp_path / "s") as again:
        assert len(list(again._ledger.manifest.files())) == 6
        assert again.has_cache("sift.v1", [key(n) for n in range(52)]).tolist() == [n not in (9, 50, 51) for n in range(52)]
        for n in (0, 1, 17, 49):
            record = again.read_cache("sift.v1", key(n))
            assert record is not None
            for name, array in records_of([n])[0].items():
                assert np.array_equal(record[name], array)
                assert (record[name].dtype, record[name].shape) == (array.dtype, array.shape)
        assert again.read_cache("other.v1", key(1)) == {}
        assert again.read_cache("sift.v1", key(9)) is None
        assert again.read_cache("none.v1", key(1)) is None
        with pytest.raises(ValueError, match="read-only"):
            again.read_cache("sift.v1", key(5))["keypoints"][0, 0] = 1
        assert again.check() == []


def test_cached_arrays_that_do_not_fit_are_refused(tmp_path):
    with make(tmp_path / "s", range(2)) as store:
        listed = sorted(os.listdir(store.path))
        with pytest.raises(InputError, match="plain numbers"):
            store.write_cache("x", [key(1)], [{"a": np.array([None])}])
        with pytest.raises(InputError, match="2 content keys for 1 records"):
            store.write_cache("x", [key(1), key(2)], [{}])
        assert sorted(os.listdir(store.path)) == listed


def test_merge_moves_paths_and_keeps_contents_once(tmp_path):
    (tmp_path / "b").mkdir()
    with make(tmp_path / "one", range(4)) as one, make(tmp_path / "b" / "two", range(2, 8)) as two:
        two.write_cache("sift.v1", [key(5)], records_of([5]))
        two.remove(["p/0007.jpg"])
        assert one.merge(two) == 5
        assert one.photos.paths == tuple([f"p/{n:04d}.jpg" for n in range(4)] + [f"b/p/{n:04d}.jpg" for n in range(2, 7)])
        assert one.num_descriptors == 7
        assert np.array_equal(one.descriptors[one.descriptor_rows], vectors_of([0, 1, 2, 3, 2, 3, 4, 5, 6]))
        assert one.read_cache("sift.v1", key(5))["size"] == 5
        assert one.merge(two) == 0
        two.merge(one)
        assert str(tmp_path / "p" / "0000.jpg") in two.photos.paths
        assert "p/0003.jpg" in two.photos.paths


@pytest.mark.parametrize("what", ["card", "dim", "state"])
def test_merge_refuses_another_model(tmp_path, what):
    card, dim = ("other.v1" if what == "card" else "thing.v1"), (DIM + 1 if what == "dim" else DIM)
    with make(tmp_path / "one", range(3)) as one, Store.create(tmp_path / "two", card_id=card, dim=dim) as two:
        if what == "state":
            two.write_blob("descriptor-state", {"x": np.ones(1)})
        before = one.fingerprint()
        with pytest.raises(CardMismatch, match="describe its photos again"):
            one.merge(two)
        assert one.fingerprint() == before


def test_export_gives_rows_in_the_same_order(tmp_path):
    with make(tmp_path / "s", range(6)) as store:
        store.add(photos_of([50]), contents=[], descriptors=np.empty((0, DIM)))
        store.add(photos_of([1], folder="copy"), contents=[], descriptors=np.empty((0, DIM)))
        store.remove(["p/0003.jpg"])
        exported = store.export_npy(tmp_path / "out")
    with open(exported.photos, encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))
    assert [row["path"] for row in table] == [f"p/{n:04d}.jpg" for n in (0, 1, 2, 4, 5)] + ["copy/0001.jpg"]
    assert exported.num_rows == 6
    assert np.array_equal(np.load(exported.descriptors), vectors_of([0, 1, 2, 4, 5, 1]))
    assert float(table[1]["lat"]) == 47.001
    assert (table[0]["heading_deg"], table[1]["heading_deg"]) == ("", "1.0")


def test_foreign_descriptors_come_in(tmp_path):
    matrix = np.random.default_rng(0).normal(size=(100, 16))
    photos = Photos.of([Photo(path=f"{i}.jpg", content=str(i)) for i in range(100)])
    with Store.create(tmp_path / "s", card_id="foreign", dim=16) as store:
        store.add(photos, contents=photos.content, descriptors=matrix)
        assert np.array_equal(store.descriptors, matrix.astype(np.float32))


@pytest.mark.parametrize("num", [200, 2000])
def test_the_estimate_is_close(tmp_path, num):
    numbers = range(num)
    photos = photos_of(numbers)
    with Store.create(tmp_path / "s", card_id="x", dim=64) as store:
        store.add(photos, contents=photos.content, descriptors=np.ones((num, 64)))
        assert store.size_bytes == sum(entry.size_bytes for entry in store._ledger.manifest.files())
        assert abs(estimate_bytes(num, 64, path_bytes=11) - store.size_bytes) < 8192
