"""Broken databases, full disks, two writers: clear errors, and the earlier state stays."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from store_samples import DIM, key, make, photos_of, put, vectors_of
from whence.errors import (
    BadOption,
    CorruptStore,
    InputError,
    NotAStore,
    StoreError,
    StoreFull,
    StoreLocked,
    StoreVersion,
)
from whence.index import files, ledger
from whence.index.audit import fingerprint, problems
from whence.index.store import Store


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
def test_descriptors_that_do_not_fit_are_refused_and_nothing_changes(
    tmp_path, contents, descriptors, words
):
    with make(tmp_path / "s", range(2)) as store:
        before = fingerprint(store)
        with pytest.raises(InputError, match=words):
            store.add(photos_of([5]), contents=contents, descriptors=descriptors)
        assert fingerprint(store) == before


def test_create_refuses_what_it_must(tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "photo.jpg").touch()
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    for name, words in (
        ("full", "not empty"),
        ("file", "a file of that name"),
        ("file/below", "failed"),
    ):
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
    assert (
        subprocess.run([sys.executable, "-c", code, str(tmp_path / "s")], check=False).returncode
        < 0
    )
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
        rewrite_manifest(
            folder, lambda body: body["segments"][0]["photos"].update(name="../../secret.npz")
        )
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
        with (
            pytest.raises(error, match=words) as caught,
            Store.open(folder, writable=writable) as store,
        ):
            assert len(store.photos)
        assert str(folder) in str(caught.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"dim": "6"}, "dim is a whole number"),
        ({"dim": True}, "dim is a whole number"),
        ({"dim": 0}, "descriptors of 0 float32"),
        ({"dtype": "int8"}, "descriptors of 6 int8"),
        ({"segments": {}}, "segments is a list"),
        ({"segments": [3]}, "segments.0 is a table"),
        ({"segments": [{}]}, "segments.0.photos is missing"),
        ({"segments": None}, "segments is a list"),
        ({"blobs": {"b": {"file": {}, "digest": ""}}}, "blobs.b.file.name is missing"),
        (
            {
                "blobs": {
                    "b": {
                        "file": {"name": "/etc/passwd", "size_bytes": 1, "checksum": ""},
                        "digest": "",
                    }
                }
            },
            "passwd",
        ),
        ({"caches": {"c": [{"index": 1}]}}, "caches.c.0"),
        ({"options": []}, "options is a table"),
        ({"next_numbr": 3}, "next_number"),
    ],
)
def test_manifests_with_values_of_another_kind_say_which(tmp_path, change, words):
    folder = tmp_path / "s"
    make(folder, range(5)).close()
    rewrite_manifest(folder, lambda body: body.update(change))
    with pytest.raises(CorruptStore, match=words) as caught:
        Store.open(folder)
    assert str(folder) in str(caught.value)


def test_what_is_no_folder_is_no_database(tmp_path):
    (tmp_path / "file").touch()
    for name, words in (
        ("nothing", "no such folder"),
        ("file", "not a folder"),
        (".", "no manifest.json"),
    ):
        for writable in (False, True):
            with pytest.raises(NotAStore, match=words):
                Store.open(tmp_path / name, writable=writable)
    assert os.listdir(tmp_path) == ["file"]


def test_check_finds_changed_bytes_and_numbers_that_are_not_finite(tmp_path):
    with make(tmp_path / "s", range(5)) as store:
        matrix = tmp_path / "s" / store.ledger.manifest.segments[0].descriptors.name
        data = bytearray(matrix.read_bytes())
        data[-4:] = np.float32(np.nan).tobytes()
        matrix.write_bytes(data)
        assert problems(store) == [f"{matrix.name}: its bytes changed since it was written"]
    sound = files.checksum(matrix)
    rewrite_manifest(
        tmp_path / "s", lambda body: body["segments"][0]["descriptors"].update(checksum=sound)
    )
    with Store.open(tmp_path / "s") as store:
        assert problems(store) == [f"{matrix.name}: row 4 is not finite"]


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
                before = fingerprint(store)
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
                    assert failing.calls < at or call == "fsync", (
                        f"{name}: call {at} of {call} failed and nobody noticed"
                    )
                    break
                assert "earlier state is intact" in failed or "cannot be read" in failed, name
                if name != "compact":
                    assert fingerprint(store) == before
                    assert sorted(os.listdir(store.path)) == listed
                assert problems(store) == []
                with Store.open(store.path) as reader:
                    assert fingerprint(reader) == fingerprint(store)
        assert store.num_photos == 6
        assert store.has_cache("sift.v1", [key(2)]).all()


def test_a_full_disk_leaves_the_earlier_state(tmp_path):
    code = """
import resource, sys
import numpy as np
from whence.data.photos import Photos
from whence.errors import StoreFull
from whence.index.audit import fingerprint, problems
from whence.index.store import Store
from whence.types import Photo
with Store.create(sys.argv[1], card_id="x", dim=64) as store:
    def put(numbers):
        photos = Photos.of([Photo(path=str(n), content=str(n)) for n in numbers])
        store.add(photos, contents=photos.content, descriptors=np.ones((len(numbers), 64)))
    put(range(10))
    before = fingerprint(store)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
    try:
        put(range(10, 400))
    except StoreFull as error:
        assert fingerprint(store) == before and problems(store) == []
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        put(range(10, 400))
        print(store.num_photos, error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "s")],
        capture_output=True,
        text=True,
        check=False,
    )
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
        assert problems(again) == []


def test_a_reader_that_meets_a_compacting_writer_reads_the_newer_state(tmp_path, monkeypatch):
    with make(tmp_path / "s", range(9), batch=3) as store:
        real = ledger.check_sizes
        calls = []

        def compact_first(folder, entries):
            calls.append(folder)
            if len(calls) == 1:
                store.compact()
            real(folder, entries)

        monkeypatch.setattr(ledger, "check_sizes", compact_first)
        with Store.open(tmp_path / "s") as reader:
            assert len(calls) == 2
            assert reader.num_photos == 9
            assert fingerprint(reader) == fingerprint(store)


def test_files_that_vanish_or_change_while_a_database_is_open(tmp_path):
    with make(tmp_path / "s", range(3)) as store:
        store.write_blob("b", {"x": np.ones(100)})
        store.write_cache("sift.v1", [key(1)], [{"x": np.ones(100)}])
        store.write_cache("sift.v2", [key(1)], [{"x": np.ones(100)}])
    with Store.open(tmp_path / "s") as reader:
        manifest = reader.ledger.manifest
        blob = tmp_path / "s" / manifest.blobs["b"].file.name
        blob.write_bytes(b"PK\3\4".ljust(blob.stat().st_size, b"x"))
        with pytest.raises(CorruptStore, match=f"{blob.name} is damaged"):
            reader.read_blob("b")
        (tmp_path / "s" / manifest.caches["sift.v1"][0].data.name).unlink()
        with pytest.raises(CorruptStore, match=r"cache\.bin is missing.*open it again"):
            reader.read_cache("sift.v1", key(1))
        index = tmp_path / "s" / manifest.caches["sift.v2"][0].index.name
        index.unlink()
        with pytest.raises(CorruptStore, match=r"cache\.npz is missing"):
            reader.read_cache("sift.v2", key(1))
        found = problems(reader)
        assert [problem.partition(":")[0] for problem in found] == sorted(
            problem.partition(":")[0] for problem in found
        )
        assert len(found) == 3
