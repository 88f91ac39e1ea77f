"""`check_index`: one battery for every registered index and several kinds of codes.

Exact ones give exactly the slow formula's answer. Approximate ones keep every promise but
completeness: what they return is allowed, exact in value, ordered, and enough.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whence import registry
from whence.errors import BadOption, InputError
from whence.index.cells.engine import CellIndex
from whence.index.cells.table import RowPlaces
from whence.index.vectors import Index
from whence.runtime import set_threads
from whence.types import Neighbors

DIM = 16


@dataclass(frozen=True)
class Case:
    make: Callable[[], Index]
    min_recall: float
    """Least share of the 10 true nearest found on `clustered` rows; 1 for exact indexes."""


def ann(factory: str, **options: object) -> Callable[[], Index]:
    return partial(
        registry.build, "index", "auto", options={"factory": factory, "exact_below": 1, **options}
    )


class InCells(CellIndex):
    """Rows that are added first lie in a city, where rows that are alike are neighbours; those that
    come later lie nowhere."""

    def add(self, ids: np.ndarray, descriptors: np.ndarray) -> None:
        is_first = not self.num_vectors and self.table is None
        super().add(ids, descriptors)
        if is_first and len(ids):
            rows = np.asarray(descriptors, np.float32)
            east, north = 40 * rows[:, :2].astype(float).T
            placed = CellIndex.over_places(rows, RowPlaces(east, north), cell_m=8.0, num_cells=4)
            assert placed.table is not None
            self.means, self._later = placed.means, self._later[:0]
            self.table = replace(
                placed.table,
                rows=placed.table.rows._replace(
                    members=np.asarray(ids, np.int64)[placed.table.rows.members]
                ),
            )


CASES = {name: Case(partial(registry.build, "index", name), 1.0) for name in registry.INDEXES}
CASES |= {
    "ann auto": Case(ann("auto", rescore=200), 0.95),
    "ann SQ8": Case(ann("SQ8", rescore=60), 0.99),
    "ann HNSW16": Case(ann("HNSW16", rescore=60), 0.95),
    "ann IVF8,Flat": Case(ann("IVF8,Flat", rescore=60, settings="nprobe=4"), 0.7),
    "ann IVF8,PQ4x4fs": Case(ann("IVF8,PQ4x4fs", rescore=200, settings="nprobe=8"), 0.9),
    "ann PCA8,SQ8": Case(ann("PCA8,SQ8", rescore=100), 0.8),
    "cells of places": Case(partial(InCells, num_cells=4), 0.8),
}


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    """Tiny trainings on many threads spend their time waiting for each other."""
    import faiss

    before = faiss.omp_get_max_threads()
    set_threads(1)
    yield
    set_threads(before)


@pytest.fixture(params=list(CASES))
def case(request) -> Case:
    return CASES[request.param]


def clustered(num: int, *, seed: int = 0, dim: int = DIM) -> np.ndarray:
    random = np.random.default_rng(seed)
    rows = (
        random.normal(size=(max(num // 4, 1), dim)).repeat(4, axis=0)[:num]
        if num
        else np.empty((0, dim))
    )
    rows = rows + 0.4 * random.normal(size=rows.shape)
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def slow_search(ids, rows, queries, *, k, allowed=None) -> Neighbors:
    """The definition: all similarities, sorted by falling similarity and rising id."""
    found_ids, found = [], []
    for query in queries:
        scored = [
            (-float(np.vecdot(row.astype(np.float32), query)), int(i))
            for i, row in zip(ids, rows, strict=True)
            if allowed is None or i in allowed
        ]
        chosen = sorted(scored)[:k]
        found_ids.append([i for _, i in chosen])
        found.append([-similarity for similarity, _ in chosen])
    num = len(found_ids[0]) if found_ids else 0
    shape = (len(found_ids), num)
    return Neighbors(
        np.array(found_ids, np.int64).reshape(shape), np.array(found, np.float32).reshape(shape)
    )


def check_answer(case: Case, index: Index, ids, rows, queries, *, k, allowed=None) -> None:
    """What every answer must be, and all of the definition for exact indexes."""
    answer = index.search(
        queries, k=k, allowed=None if allowed is None else np.array(sorted(allowed), np.int64)
    )
    truth = slow_search(ids, rows, queries, k=k, allowed=allowed)
    assert (answer.ids.dtype, answer.similarities.dtype) == (np.int64, np.float32)
    assert answer.ids.shape == answer.similarities.shape == truth.ids.shape
    if case.min_recall == 1.0:
        assert np.array_equal(answer.ids, truth.ids)
        assert np.array_equal(answer.similarities, truth.similarities)
        return
    row_of = dict(zip(ids.tolist(), rows, strict=True))
    for i, query in enumerate(queries):
        mine = answer.ids[i].tolist()
        assert len(set(mine)) == len(mine)
        assert set(mine) <= (set(row_of) if allowed is None else set(row_of) & set(allowed))
        exact = [np.vecdot(row_of[j].astype(np.float32), query) for j in mine]
        assert np.array_equal(answer.similarities[i], np.array(exact, np.float32))
        assert sorted(zip(-answer.similarities[i], mine, strict=True)) == list(
            zip(-answer.similarities[i], mine, strict=True)
        )


def filled(case: Case, num: int = 1200, *, seed: int = 0, dtype=np.float32):
    random = np.random.default_rng([seed, num])
    rows = clustered(num, seed=seed).astype(dtype)
    ids = random.choice(10 * num + 1, size=num, replace=False)
    index = case.make()
    index.add(ids[: num // 3], rows[: num // 3])
    index.add(ids[num // 3 :], rows[num // 3 :])
    queries = rows[random.integers(0, num, 12)].astype(np.float32) + 0.1 * random.normal(
        size=(12, DIM)
    ).astype(np.float32)
    return index, ids, rows, queries


@pytest.mark.parametrize("num_queries", [1, 3, 12])
@pytest.mark.parametrize("k", [1, 10, 40])
def test_search(case, num_queries, k):
    index, ids, rows, queries = filled(case)
    assert isinstance(index, Index)
    assert (index.num_vectors, index.dim) == (1200, DIM)
    check_answer(case, index, ids, rows, queries[:num_queries], k=k)


def test_recall_is_as_stated(case):
    index, ids, rows, queries = filled(case)
    truth = slow_search(ids, rows, queries, k=10)
    answer = index.search(queries, k=10)
    recall = np.mean(
        [len(np.intersect1d(a, b)) / 10 for a, b in zip(answer.ids, truth.ids, strict=True)]
    )
    assert recall >= case.min_recall


def test_asking_for_more_than_there_is_gives_what_there_is(case):
    index, ids, rows, queries = filled(case, 60)
    check_answer(case, index, ids, rows, queries, k=1000)
    assert np.array_equal(np.sort(index.search(queries, k=1000).ids[0]), np.sort(ids))


def test_an_empty_index_answers_with_no_columns(case):
    index = case.make()
    assert index.num_vectors == 0
    assert index.search(np.ones((3, DIM)), k=5).ids.shape == (3, 0)
    index.remove(np.array([1, 2]))
    index.add(np.array([7]), np.ones((1, DIM)))
    index.remove(np.array([7]))
    assert index.search(np.ones((3, DIM)), k=5).ids.shape == (3, 0)
    assert index.search(np.ones((0, DIM)), k=5).ids.shape == (0, 0)


@pytest.mark.parametrize("num_allowed", [0, 1, 5, 100, 700, 1199, 1200])
def test_a_filter_is_exact(case, num_allowed):
    index, ids, rows, queries = filled(case)
    allowed = set(
        np.random.default_rng(num_allowed).choice(ids, size=num_allowed, replace=False).tolist()
    )
    check_answer(case, index, ids, rows, queries, k=10, allowed=allowed)
    assert index.search(queries, k=10, allowed=np.array(sorted(allowed), np.int64)).ids.shape[
        1
    ] == min(10, num_allowed)


def test_a_filter_of_all_that_is_far_away_still_gives_k(case):
    index, ids, rows, queries = filled(case)
    similarity = rows.astype(np.float32) @ queries[0]
    allowed = set(ids[np.argsort(similarity)[:900]].tolist())
    check_answer(case, index, ids, rows, queries[:1], k=10, allowed=allowed)


def test_unknown_and_repeated_ids_in_a_filter_mean_nothing(case):
    index, ids, _, queries = filled(case, 200)
    allowed = np.concatenate([ids[:30], ids[:30], [10_000_000]])
    assert np.array_equal(
        index.search(queries, k=50, allowed=allowed).ids,
        index.search(queries, k=50, allowed=ids[:30]).ids,
    )
    assert index.search(queries, k=50, allowed=allowed).ids.shape == (12, 30)


def test_removed_rows_never_come_back_and_their_ids_may(case):
    index, ids, rows, queries = filled(case)
    best = index.search(queries, k=5).ids
    gone = np.unique(best)
    index.search(queries, k=5)
    index.remove(np.concatenate([gone, [99_999_999]]))
    stay = ~np.isin(ids, gone)
    check_answer(case, index, ids[stay], rows[stay], queries, k=5)
    assert index.num_vectors == stay.sum()
    index.add(gone, rows[~stay][np.argsort(ids[~stay])])
    check_answer(case, index, ids, rows, queries, k=5)
    most = np.random.default_rng(0).permutation(ids)[:1000]
    index.remove(most)
    stay = ~np.isin(ids, most)
    check_answer(case, index, ids[stay], rows[stay], queries, k=30)


def test_adding_after_the_first_search(case):
    index, ids, rows, queries = filled(case)
    index.search(queries, k=3)
    more = clustered(100, seed=9)
    index.add(np.arange(100) + 100_000, more)
    check_answer(
        case,
        index,
        np.concatenate([ids, np.arange(100) + 100_000]),
        np.concatenate([rows, more]),
        more[:5],
        k=1,
    )
    assert np.array_equal(index.search(more[:5], k=1).ids[:, 0], np.arange(5) + 100_000)


def test_equal_rows_come_by_rising_id(case):
    rows = np.repeat(clustered(40), 30, axis=0)
    ids = np.random.default_rng(0).permutation(len(rows))
    index = case.make()
    index.add(ids, rows)
    for queries in (rows[:1], rows[::100]):
        check_answer(case, index, ids, rows, queries, k=30)
    assert np.array_equal(index.search(rows[:1], k=30).ids[0], np.sort(ids[:30]))


def test_rows_that_are_not_unit_vectors(case):
    index = case.make()
    rows = clustered(1200) * np.random.default_rng(0).uniform(0.2, 3.0, size=(1200, 1)).astype(
        np.float32
    )
    index.add(np.arange(1200), rows)
    check_answer(case, index, np.arange(1200), rows, clustered(8, seed=3), k=10)


def test_zeros_are_found(case):
    index = case.make()
    index.add(np.arange(300), np.zeros((300, DIM)))
    assert index.search(np.zeros((6, DIM)), k=4).ids.tolist() == [[0, 1, 2, 3]] * 6


def test_half_precision_rows(case):
    index, ids, rows, queries = filled(case, dtype=np.float16)
    check_answer(case, index, ids, rows, queries, k=10)


def test_saved_and_opened(case, tmp_path):
    index, ids, rows, queries = filled(case)
    index.remove(ids[:50])
    before = index.search(queries, k=10)
    index.save(tmp_path / "index.npz")
    again = type(index).open(tmp_path / "index.npz")
    after = again.search(queries, k=10)
    assert (again.num_vectors, again.dim) == (1150, DIM)
    check_answer(case, again, ids[50:], rows[50:], queries, k=10)
    if case.min_recall == 1.0:
        assert np.array_equal(after.ids, before.ids)
    again.add(ids[:50], rows[:50])
    check_answer(case, again, ids, rows, queries, k=10)
    (tmp_path / "rubbish.npz").write_bytes(b"PK\3\4rubbish")
    for name in ("rubbish.npz", "none.npz"):
        with pytest.raises(InputError, match=name):
            type(index).open(tmp_path / name)
    empty = case.make()
    empty.save(tmp_path / "empty.npz")
    assert type(empty).open(tmp_path / "empty.npz").num_vectors == 0


def bad_calls(index: Index) -> dict[str, tuple[type[Exception], Callable[[], object]]]:
    ok, nan = np.ones((1, DIM)), np.full((1, DIM), np.nan)
    return {
        r"\(n, 16\)": (InputError, lambda: index.search(np.ones((1, DIM + 1)), k=1)),
        "queries have shape": (InputError, lambda: index.search(np.ones(DIM), k=1)),
        "queries: row 0": (InputError, lambda: index.search(nan, k=1)),
        "dtype": (InputError, lambda: index.search(np.full((1, DIM), "x"), k=1)),
        "k is 0": (BadOption, lambda: index.search(ok, k=0)),
        "k is 1.5": (BadOption, lambda: index.search(ok, k=1.5)),  # type: ignore[arg-type]
        "descriptors: row 0": (InputError, lambda: index.add(np.array([5]), nan)),
        "descriptors have shape": (InputError, lambda: index.add(np.array([5]), np.ones((1, 3)))),
        "already in the index": (InputError, lambda: index.add(np.array([0]), ok)),
        "given twice": (InputError, lambda: index.add(np.array([5, 5]), np.ones((2, DIM)))),
        "2 ids for 1": (InputError, lambda: index.add(np.array([5, 6]), ok)),
        "not negative": (InputError, lambda: index.add(np.array([-1]), ok)),
        "column of integers": (InputError, lambda: index.add(np.array([0.5]), ok)),
        "ids are": (InputError, lambda: index.search(ok, k=1, allowed=np.array([[1]]))),
    }


@pytest.mark.parametrize("words", list(bad_calls(None)))  # type: ignore[arg-type]
def test_bad_input_is_refused_and_changes_nothing(case, words):
    index = case.make()
    index.add(np.arange(3), np.eye(3, DIM))
    error, call = bad_calls(index)[words]
    with pytest.raises(error, match=words):
        call()
    assert index.num_vectors == 3
    assert index.search(np.eye(3, DIM), k=1).ids[:, 0].tolist() == [0, 1, 2]


@settings(max_examples=25, deadline=None)
@given(st.data())
@pytest.mark.parametrize("name", ["flat", "auto", "ann auto", "ann HNSW16", "cells of places"])
def test_any_filter_and_any_changes(name, data):
    case = CASES[name]
    rows, present = clustered(300), dict.fromkeys(range(300))
    index = case.make()
    index.add(np.arange(300), rows)
    numbers = st.lists(st.integers(0, 299), max_size=300, unique=True)
    for _ in range(data.draw(st.integers(1, 3))):
        gone = data.draw(numbers)
        index.remove(np.array(gone, np.int64))
        for number in gone:
            present.pop(number, None)
        allowed = set(data.draw(numbers)) if data.draw(st.booleans()) else None
        ids = np.array(list(present), np.int64)
        queries = rows[data.draw(st.lists(st.integers(0, 299), min_size=1, max_size=7))]
        check_answer(
            case, index, ids, rows[ids], queries, k=data.draw(st.integers(1, 12)), allowed=allowed
        )
