"""Codes, rescoring, memory maps: what is particular to the approximate and the flat index."""

from __future__ import annotations

import numpy as np
import pytest

from whence.errors import BadOption, InputError
from whence.index import flat, gather
from whence.index.ann import AnnIndex, default_rescore, make_codes
from whence.index.flat import FlatIndex
from whence.index.int8 import Int8Index
from whence.index.store import Store
from whence.runtime import set_threads

DIM = 32


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    """Tiny trainings on many threads spend their time waiting for each other."""
    import faiss

    before = faiss.omp_get_max_threads()
    set_threads(1)
    yield
    set_threads(before)


def views(num: int, *, dim: int = DIM, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    rows = random.normal(size=(num // 5 + 1, dim)).repeat(5, axis=0)[:num] + 0.5 * random.normal(
        size=(num, dim)
    )
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("factory", ["PQ7x4fs", "nonsense", "IVFx,Flat", "PQ64x4fs", ""])
def test_a_factory_that_faiss_does_not_take_is_named(factory):
    with pytest.raises(BadOption, match=f"{factory!r} for 32 dimensions"):
        AnnIndex(factory=factory, dim=DIM)
    index = AnnIndex(factory=factory, exact_below=1)
    index.add(np.arange(40), views(40))
    with pytest.raises(BadOption, match="faiss does not take"):
        index.build()


def test_settings_that_faiss_does_not_take_are_named():
    with pytest.raises(BadOption, match="nonsense=3"):
        AnnIndex(factory="IVF4,Flat", settings="nonsense=3", dim=DIM)
    with pytest.raises(BadOption, match="rescore is 0"):
        AnnIndex(rescore=0)


def test_settings_reach_the_codes():
    assert make_codes("IVF64,Flat", dim=DIM).nprobe == 8
    assert make_codes("IVF64,Flat", dim=DIM, settings="nprobe=5").nprobe == 5


@pytest.mark.parametrize("dim", [1, 2, 3, 5, 30, 33])
def test_any_dimension_has_automatic_codes(dim):
    rows = np.random.default_rng(0).normal(size=(400, dim)).astype(np.float32)
    index = AnnIndex(exact_below=1, rescore=100, dim=dim)
    index.add(np.arange(400), rows)
    index.build()
    assert not index.is_exact
    truth = FlatIndex.over(rows).search(rows[:20], k=1)
    assert (index.search(rows[:20], k=1).ids == truth.ids).mean() > 0.7


def test_few_rows_are_searched_exactly_and_many_by_codes():
    rows = views(300)
    index = AnnIndex(exact_below=250)
    index.add(np.arange(200), rows[:200])
    index.search(rows[:1], k=1)
    assert index.is_exact
    index.add(np.arange(200, 300), rows[200:])
    index.search(rows[:1], k=1)
    assert not index.is_exact


def test_too_few_rows_to_train_are_searched_exactly():
    rows = views(50)
    index = AnnIndex.over(rows, factory="IVF64,Flat", exact_below=1)
    assert np.array_equal(index.search(rows, k=5).ids, FlatIndex.over(rows).search(rows, k=5).ids)
    assert index.is_exact
    assert len(index.to_bytes()) == 0


def test_more_candidates_find_more():
    rows, queries = views(6000), views(40, seed=1)
    truth = FlatIndex.over(rows).search(queries, k=10).ids
    recalls = []
    for rescore in (40, 200, 1000):
        found = AnnIndex.over(rows, rescore=rescore, exact_below=1).search(queries, k=10).ids
        recalls.append(
            np.mean([len(np.intersect1d(a, b)) / 10 for a, b in zip(found, truth, strict=True)])
        )
    assert recalls[0] < recalls[1] <= recalls[2]
    assert recalls[2] > 0.99


def test_default_candidates_grow_slowly():
    assert default_rescore(1_000_000) == 1200
    assert default_rescore(10) == 100
    assert default_rescore(10**12) == 8000
    assert default_rescore(8_000_000) == 2400


def test_codes_travel_through_the_store(tmp_path):
    from whence.data.photos import Photos
    from whence.types import Photo

    rows, queries = views(3000), views(10, seed=1)
    photos = Photos.of([Photo(path=f"{i}.jpg", content=str(i)) for i in range(3000)])
    with Store.create(tmp_path / "s", card_id="x", dim=DIM) as store:
        store.add(photos, contents=photos.content, descriptors=rows)
        store.compact()
        index = AnnIndex.over(store.descriptors, exact_below=1)
        before = index.search(queries, k=10)
        store.write_blob("index", {"codes": index.to_bytes(), "rows_id": np.array(store.rows_id)})
    with Store.open(tmp_path / "s") as store:
        blob = store.read_blob("index")
        assert blob is not None
        assert str(blob["rows_id"]) == store.rows_id
        again = AnnIndex.from_kept(blob, store.descriptors)
        assert not again.is_exact
        after = again.search(queries, k=10)
        assert np.array_equal(after.ids, before.ids)
        assert np.array_equal(after.similarities, before.similarities)
        with pytest.raises(InputError, match="do not belong"):
            AnnIndex.from_kept(blob, store.descriptors[1:])
        for damaged in (blob["codes"][:100], np.zeros(64, np.uint8)):
            with pytest.raises(InputError, match="damaged"):
                AnnIndex.from_kept({"codes": damaged}, store.descriptors)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_scattered_rows_of_memory_maps(tmp_path, dtype):
    rows = np.random.default_rng(0).normal(size=(5000, 24)).astype(dtype)
    np.save(tmp_path / "a.npy", rows[:3000])
    np.save(tmp_path / "b.npy", rows[3000:])
    parts = [np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in "ab"]
    random = np.random.default_rng(1)
    for reader in (gather.RowReader(parts), gather.RowReader([parts[0][10:], rows[3000:]])):
        skip = 5000 - sum(len(part) for part in reader._parts)
        for num in (0, 1, 7, 300):
            positions = np.sort(random.choice(4990, size=num, replace=False))
            read = reader.rows(positions)
            assert read.dtype == np.float32
            assert np.array_equal(read, rows[positions + skip].astype(np.float32))


def test_flat_does_not_copy_what_it_lies_over(tmp_path):
    rows = views(500)
    np.save(tmp_path / "rows.npy", rows)
    mapped = np.load(tmp_path / "rows.npy", mmap_mode="r")
    index = FlatIndex.over(mapped)
    assert index.parts[0][1] is mapped
    assert np.array_equal(
        index.search(rows[:9], k=4).ids, FlatIndex.over(rows).search(rows[:9], k=4).ids
    )
    own = rows.copy()
    added = FlatIndex()
    added.add(np.arange(500), own)
    own[:] = 0
    assert np.array_equal(added.search(rows[:9], k=4).ids, index.search(rows[:9], k=4).ids)


def test_the_answer_does_not_depend_on_blocks_batches_or_order(monkeypatch):
    rows, queries = views(3000), views(30, seed=2)
    rows[100:2900:7] = rows[50]  # four hundred equal rows
    queries[3] = rows[50]
    whole = FlatIndex.over(rows).search(queries, k=20)
    single = [FlatIndex.over(rows).search(query[None], k=20) for query in queries]
    assert np.array_equal(np.concatenate([answer.ids for answer in single]), whole.ids)
    assert np.array_equal(
        np.concatenate([answer.similarities for answer in single]), whole.similarities
    )
    order = np.random.default_rng(0).permutation(3000)
    assert np.array_equal(
        FlatIndex.over(rows[order], ids=order).search(queries, k=20).ids, whole.ids
    )
    monkeypatch.setattr(flat, "BLOCK_ROWS", 64)
    monkeypatch.setattr(flat, "BLOCK_SIMILARITIES", 1)
    assert np.array_equal(FlatIndex.over(rows).search(queries, k=20).ids, whole.ids)
    assert np.array_equal(FlatIndex.over(rows).search(queries[:1], k=20).ids, whole.ids[:1])


def test_blocks_only_filter_and_lose_nothing_to_rounding():
    """Rows so alike that a blocked product ranks them wrongly: the row-wise product decides."""
    random = np.random.default_rng(0)
    base = random.normal(size=64).astype(np.float32)
    rows = base + 1e-7 * random.normal(size=(5000, 64)).astype(np.float32)
    queries = random.normal(size=(20, 64)).astype(np.float32)
    answer = FlatIndex.over(rows).search(queries, k=10)
    for i, query in enumerate(queries):
        values = np.vecdot(rows, query)
        assert answer.ids[i].tolist() == np.lexsort((np.arange(5000), -values))[:10].tolist()


def test_int8_answers_are_proven_for_unit_vectors_and_discarded_where_they_cannot_be(monkeypatch):
    rows, queries = views(20_000, dim=64), views(20_000, dim=64)[::2000] + np.float32(0.02)
    index = Int8Index.over(rows)
    truth = FlatIndex.over(rows).search(queries, k=5)
    num_proven = 0
    for i, query in enumerate(queries):
        answer = index._proven(query, k=5, num_fetched=1000, mask=index._is_there)
        if answer is not None:
            num_proven += 1
            assert np.array_equal(answer[0], truth.ids[i])
            assert np.array_equal(answer[1], truth.similarities[i])
    assert num_proven >= 9
    # Rows of very different norms: the nearest by distance are not the most similar.
    index = Int8Index.over(
        rows * np.random.default_rng(0).uniform(0.1, 4, size=(20_000, 1)).astype(np.float32)
    )
    assert index._proven(queries[0], k=5, num_fetched=1000, mask=index._is_there) is None


@pytest.mark.parametrize("fetched", [1, 20, 200])
def test_int8_is_exact_however_few_rows_it_fetches(monkeypatch, fetched):
    from whence.index import int8

    monkeypatch.setattr(int8, "FETCHED", fetched)
    rows, queries = views(3000), views(30, seed=1)
    truth = FlatIndex.over(rows).search(queries, k=3)
    index = Int8Index.over(rows)
    index.add(
        np.arange(3000, 3100), 5 * views(100, seed=2)
    )  # larger values than the scale was made for
    index.remove(np.arange(3000, 3100))
    for i, query in enumerate(queries):
        assert np.array_equal(index.search(query[None], k=3).ids[0], truth.ids[i])
