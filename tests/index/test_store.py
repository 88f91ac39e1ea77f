"""The database folder: what goes in comes out, whatever the segments; blobs, caches, merging,
export."""

from __future__ import annotations

import csv
import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from store_samples import DIM, key, make, photos_of, put, says, vectors_of
from whence.data.photos import Photos
from whence.errors import (
    CardMismatch,
    InputError,
)
from whence.index.audit import fingerprint, problems
from whence.index.exchange import export_npy, merge_stores
from whence.index.ledger import FAN_OUT
from whence.index.store import Store, estimate_bytes
from whence.types import GeoPoint, Photo


def test_what_goes_in_comes_out_before_and_after_compacting_and_opening(tmp_path):
    with make(
        tmp_path / "deep" / "city.whence", range(23), options={"model": "thing", "px": [320, 240]}
    ) as store:
        before = says(store)
        assert list(before) == [f"p/{n:04d}.jpg" for n in range(23)]
        assert before["p/0007.jpg"] == (photos_of([7])[0], vectors_of([7])[0].tobytes())
        assert store.photos.root == tmp_path / "deep"
        said = fingerprint(store)
        store.compact()
        assert says(store) == before
        assert isinstance(store.descriptors, np.memmap)
        assert fingerprint(store) == said
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
        assert fingerprint(again) == said
        assert problems(again) == []
        assert again.contents.tolist() == [key(n).encode() for n in range(23)]


def test_an_empty_database_is_one(tmp_path):
    make(tmp_path / "e").close()
    with Store.open(tmp_path / "e", writable=True) as store:
        assert store.num_photos == store.num_descriptors == 0
        assert store.descriptors.shape == (0, DIM)
        assert store.descriptor_rows.shape == store.contents.shape == (0,)
        store.compact()
        assert problems(store) == []
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
        store.add(
            twice, contents=[key(1), key(1)], descriptors=np.stack([np.ones(DIM), np.zeros(DIM)])
        )
        assert store.num_photos == store.num_descriptors == 1
        assert store.photos[0].point == GeoPoint(20.001, 8.5)
        assert store.descriptors[0].tolist() == [1.0] * DIM


def test_many_small_commits_leave_few_files_and_the_same_state(tmp_path):
    num = 3 * FAN_OUT + 7
    with (
        make(tmp_path / "many", range(num), batch=1) as many,
        make(tmp_path / "one", range(num), batch=num) as one,
    ):
        many.remove(["p/0003.jpg"])
        one.remove(["p/0003.jpg"])
        assert says(many) == says(one)
        assert fingerprint(many) == fingerprint(one)
        assert len(many.ledger.segments) < FAN_OUT
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
            path: (photos_of([n], lat=lat)[0], vectors_of([n])[0].tobytes())
            for path, (n, lat) in expected.items()
        }
    assert problems(store) == []
    store.close()


def test_paths_stay_whatever_root_rows_come_with(tmp_path):
    with Store.create(tmp_path / "a.whence", card_id="c.v1", dim=2) as store:
        store.add(
            Photos.of([Photo("b/1.jpg", content="1" * 32)]),
            contents=np.array(["1" * 32], "S32"),
            descriptors=np.ones((1, 2)),
        )
    with Store.open(tmp_path / "a.whence", writable=True) as store:
        rows = Photos.of([Photo("b/2.jpg", content="2" * 32)], root=tmp_path / "elsewhere")
        store.add(rows, contents=np.array(["2" * 32], "S32"), descriptors=np.ones((1, 2)))
        assert store.photos.paths == ("b/1.jpg", "b/2.jpg")
        assert store.photos.root == tmp_path
        store.update_photos(store.photos)
        assert store.photos.paths == ("b/1.jpg", "b/2.jpg")


def test_fingerprint_depends_on_what_is_said_and_on_nothing_else(tmp_path):
    with (
        make(tmp_path / "a", range(8), batch=3) as a,
        make(tmp_path / "b", reversed(range(8)), batch=2) as b,
    ):
        a.write_blob("state", {"x": np.arange(3)})
        b.write_blob("state", {"x": np.arange(3)})
        assert fingerprint(a) == fingerprint(b)
        seen = {fingerprint(a)}
        b.write_blob("state", {"x": np.arange(3) + 1})
        seen.add(fingerprint(b))
        assert fingerprint(a, skip_blobs=["state"]) == fingerprint(b, skip_blobs=["state"])
        b.write_blob("state", {"x": np.arange(3)})
        b.update_photos(photos_of([5], lat=1.0))
        seen.add(fingerprint(b))
        b.update_photos(photos_of([5]))
        b.set_options({"a": 1})
        seen.add(fingerprint(b))
        b.set_options({})
        assert fingerprint(b) in seen
        b.remove(["p/0003.jpg"])
        seen.add(fingerprint(b))
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
        assert len(fingerprint(again)) == 32
        export_npy(again, tmp_path / "out")


def test_float16_rows(tmp_path):
    with make(tmp_path / "s", range(5), dtype="float16") as store:
        store.compact()
        assert store.descriptors.dtype == np.float16
        assert np.array_equal(store.descriptors, vectors_of(range(5)).astype(np.float16))
        with pytest.raises(InputError, match="too large for float16"):
            store.add(photos_of([9]), contents=[key(9)], descriptors=np.full((1, DIM), 1e6))


def test_blobs(tmp_path):
    arrays = {
        "a": np.arange(12.0).reshape(3, 4),
        "text": np.array("ü"),
        "none": np.empty((0, 2), np.int8),
    }
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
        assert {
            name: (array.tolist(), array.dtype, array.shape) for name, array in read.items()
        } == {name: (array.tolist(), array.dtype, array.shape) for name, array in arrays.items()}
        assert again.blob_names == ("b", "descriptor-state")
        assert again.state_id == state != ""
        again.write_blob("descriptor-state", {"x": np.zeros(2)})
        assert again.state_id != state
        assert again.delete_blob("descriptor-state")
        assert not again.delete_blob("descriptor-state")
        assert again.state_id == ""


def records_of(numbers) -> list[dict[str, np.ndarray]]:
    return [
        {
            "keypoints": np.full((n, 2), n, np.float32),
            "codes": np.arange(n * 3, dtype=np.uint8).reshape(n, 3),
            "size": np.array(n),
        }
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
        assert problems(store) == []
        store.compact()
    with Store.open(tmp_path / "s") as again:
        assert len(list(again.ledger.manifest.files())) == 6
        assert again.has_cache("sift.v1", [key(n) for n in range(52)]).tolist() == [
            n not in (9, 50, 51) for n in range(52)
        ]
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
        assert problems(again) == []


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
        assert merge_stores(one, two) == 5
        assert one.photos.paths == tuple(
            [f"p/{n:04d}.jpg" for n in range(4)] + [f"b/p/{n:04d}.jpg" for n in range(2, 7)]
        )
        assert one.num_descriptors == 7
        assert np.array_equal(
            one.descriptors[one.descriptor_rows], vectors_of([0, 1, 2, 3, 2, 3, 4, 5, 6])
        )
        assert one.read_cache("sift.v1", key(5))["size"] == 5
        assert merge_stores(one, two) == 0
        merge_stores(two, one)
        assert "../p/0000.jpg" in two.photos.paths
        assert "p/0003.jpg" in two.photos.paths


@pytest.mark.parametrize("what", ["card", "dim", "state"])
def test_merge_refuses_another_model(tmp_path, what):
    card, dim = ("other.v1" if what == "card" else "thing.v1"), (DIM + 1 if what == "dim" else DIM)
    with (
        make(tmp_path / "one", range(3)) as one,
        Store.create(tmp_path / "two", card_id=card, dim=dim) as two,
    ):
        if what == "state":
            two.write_blob("descriptor-state", {"x": np.ones(1)})
        before = fingerprint(one)
        with pytest.raises(CardMismatch, match=r"describe its photos again.*--db DATABASE"):
            merge_stores(one, two)
        assert fingerprint(one) == before


def test_export_gives_rows_in_the_same_order(tmp_path):
    with make(tmp_path / "s", range(6)) as store:
        store.add(photos_of([50]), contents=[], descriptors=np.empty((0, DIM)))
        store.add(photos_of([1], folder="copy"), contents=[], descriptors=np.empty((0, DIM)))
        store.remove(["p/0003.jpg"])
        exported = export_npy(store, tmp_path / "out")
    with open(exported.photos, encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))
    assert [row["path"] for row in table] == [f"p/{n:04d}.jpg" for n in (0, 1, 2, 4, 5)] + [
        "copy/0001.jpg"
    ]
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
        assert store.size_bytes == sum(entry.size_bytes for entry in store.ledger.manifest.files())
        assert abs(estimate_bytes(num, 64, path_bytes=11) - store.size_bytes) < 8192
