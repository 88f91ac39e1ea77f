"""`check_engine`: one battery for every search engine by name, faiss strings and one of one's own,
as databases use them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest

from conftest import write_street
from whence import registry
from whence.cards import Entry
from whence.cli import run
from whence.data.formats import read_folders
from whence.data.photos import Photos
from whence.errors import BadOption, InputError, UnknownName
from whence.evaluation.benchmarks import EvaluationOptions, evaluate
from whence.index import ann, int8
from whence.index.flat import FlatIndex
from whence.index.int8 import Int8Index
from whence.index.store import Store
from whence.index.vectors import Engine
from whence.localize.engine import check_engine, code_bytes, engine_over, open_engine, write_engine
from whence.localize.localizer import RETRIEVE_ONLY, Localizer
from whence.types import Neighbors, Photo, PlanePoint

DIM = 32
NUM_ROWS = 1500
OWN = "by-columns"
ENGINES = (*registry.INDEXES, "SQ8", "IVF8,Flat", "HNSW16", OWN)
EXACT_ONES = ("flat", "int8", OWN)


class ByColumns(Engine):
    """Exact search over a transposed copy that the database keeps: an engine as a user writes
    one."""

    def __init__(self, columns: np.ndarray, *, note: str) -> None:
        self.columns, self.note = columns, note

    @classmethod
    def over(cls, matrix: np.ndarray, *, note: str = "") -> Self:
        return cls(np.ascontiguousarray(np.asarray(matrix, np.float32).T), note=note)

    def kept(self) -> dict[str, np.ndarray] | None:
        return {"columns": self.columns}

    @classmethod
    def from_kept(
        cls, arrays: Mapping[str, np.ndarray], over: np.ndarray, *, note: str = ""
    ) -> Self:
        if arrays["columns"].shape[::-1] != over.shape:
            raise InputError("columns do not belong together")
        return cls(arrays["columns"], note=note)

    @classmethod
    def check(cls, *, dim: int, note: str = "") -> None:
        if dim > 20_000:
            raise BadOption("too many columns")

    @classmethod
    def kept_bytes(cls, num_rows: int, *, dim: int, note: str = "") -> int:
        return 4 * dim

    @property
    def num_vectors(self) -> int:
        return self.columns.shape[1]

    @property
    def dim(self) -> int:
        return self.columns.shape[0]

    def search(
        self, queries: np.ndarray, *, k: int, allowed: np.ndarray | None = None
    ) -> Neighbors:
        ids = np.arange(self.num_vectors) if allowed is None else np.unique(allowed)
        similarities = np.asarray(queries, np.float32) @ self.columns[:, ids]
        order = np.argsort(-similarities, axis=1, kind="stable")[:, :k]
        return Neighbors(ids[order], np.take_along_axis(similarities, order, axis=1))


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Codes from a few rows on, and an engine of one's own with an option."""
    monkeypatch.setattr(ann, "EXACT_BELOW", 16)
    monkeypatch.setattr(int8, "FETCHED", 8)
    monkeypatch.setitem(registry.INDEXES, OWN, Entry(ByColumns, options={"note": "mine"}))


def rows_of(num: int, seed: int = 0) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(num, DIM)).astype(np.float32)
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    # Pairs of neighbours: an engine that goes by place has places to go by.
    places = [PlanePoint(20 * (i // 2) + 3.0 + i % 2, 7.0) for i in range(NUM_ROWS)]
    photos = Photos.of(
        [Photo(path=f"{i}.jpg", content=f"{i:032d}", plane=one) for i, one in enumerate(places)]
    )
    with Store.create(tmp_path / "s.whence", card_id="x", dim=DIM) as made:
        made.add(photos, contents=photos.content, descriptors=rows_of(NUM_ROWS))
        made.compact()
        yield made


@pytest.mark.parametrize("engine", ENGINES)
def test_what_is_kept_gives_the_same_answers(engine: str, store: Store) -> None:
    store.set_options({"build": {"engine": engine}})
    check_engine(engine, dim=DIM)
    write_engine(store, engine=engine)
    opened = open_engine(store)
    over = engine_over(
        store.descriptors, engine=engine, is_searchable=np.ones(NUM_ROWS, bool), photos=store.photos
    )
    assert isinstance(over, Engine)
    assert type(opened) is type(over)
    assert (opened.num_vectors, opened.dim) == (NUM_ROWS, DIM)
    # "flat" keeps nothing, and the others as much as they say.
    kept = store.read_blob("engine")
    assert (kept is None) == (engine == "flat")
    assert (code_bytes(NUM_ROWS, DIM, engine=engine) == 0) == (engine == "flat")
    queries = rows_of(7, seed=1)
    truth = FlatIndex.over(store.descriptors).search(queries, k=10)
    for index in (opened, over):
        for some in (queries, queries[:1]):
            found = index.search(some, k=10)
            assert found.ids.shape == (len(some), 10)
            assert (np.diff(found.similarities, axis=1) <= 0).all()
            if engine in EXACT_ONES:
                assert np.array_equal(found.ids, truth.ids[: len(some)])
                assert found.similarities == pytest.approx(
                    truth.similarities[: len(some)], abs=1e-6
                )
        assert index.search(store.descriptors[:3], k=1).ids[:, 0].tolist() == [0, 1, 2]
        allowed = np.arange(0, NUM_ROWS, 7)
        assert set(index.search(queries, k=5, allowed=allowed).ids.ravel().tolist()) <= set(
            allowed.tolist()
        )
    assert np.array_equal(opened.search(queries, k=10).ids, over.search(queries, k=10).ids)


@pytest.mark.parametrize("engine", ENGINES)
def test_arrays_that_are_out_of_date_are_left_aside(engine: str, store: Store) -> None:
    store.set_options({"build": {"engine": engine}})
    write_engine(store, engine=engine)
    more = Photos.of([Photo(path="more.jpg", content="f" * 32)])
    store.add(more, contents=more.content, descriptors=rows_of(1, seed=9))
    opened = open_engine(store)
    assert isinstance(opened, FlatIndex)
    assert opened.search(rows_of(1, seed=9), k=1).ids[0, 0] == NUM_ROWS
    write_engine(store, engine="flat")
    assert store.read_blob("engine") is None


@pytest.mark.parametrize("engine", [one for one in ENGINES if one != OWN])
def test_rows_that_cannot_be_searched_are_not_found(engine: str) -> None:
    rows = rows_of(300)
    is_searchable = np.arange(300) % 3 > 0
    rows[~is_searchable] = np.nan
    index = engine_over(rows, engine=engine, is_searchable=is_searchable)
    assert index.num_vectors == 200
    found = index.search(rows[is_searchable][:5], k=20)
    assert is_searchable[found.ids].all()
    assert found.ids[:, 0].tolist() == [1, 2, 4, 5, 7]


def test_an_engine_that_does_not_grow_says_so() -> None:
    index = ByColumns.over(rows_of(4))
    for call in (lambda: index.add(np.array([9]), rows_of(1)), lambda: index.remove(np.array([1]))):
        with pytest.raises(BadOption, match="ByColumns"):
            call()


def test_names_that_are_no_engines(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnknownName, match="int8"):
        check_engine("int", dim=DIM)
    for wrong in ("nonsense,,", "Nonsense", "PQ5x4fs"):
        with pytest.raises(BadOption, match="faiss"):
            check_engine(wrong, dim=DIM)
    with pytest.raises(BadOption, match="too many columns"):
        check_engine(OWN, dim=30_000)
    monkeypatch.setitem(registry.INDEXES, "no-class", Entry(rows_of))
    monkeypatch.setitem(registry.INDEXES, "no-engine", Entry(dict))
    for name in ("no-class", "no-engine"):
        with pytest.raises(BadOption, match=r"index\.vectors\.Engine"):
            check_engine(name, dim=DIM)


@pytest.mark.parametrize(
    "change",
    [
        {"codes": np.zeros(64, np.uint8)},
        {"bounds": np.array([1.0, 2.0])},
        {"bounds": np.array([0.0, 1.0, 1.0])},
        {"bounds": np.array([1.0, np.nan, 1.0])},
        {"bounds": np.array([1.0, -1.0, 1.0])},
        {"over": rows_of(20)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_damaged_codes_of_int8_are_refused(change: dict[str, Any]) -> None:
    rows = rows_of(50)
    kept = Int8Index.over(rows).kept()
    assert kept is not None
    over = change.pop("over", rows)
    with pytest.raises(InputError, match="build the index again"):
        Int8Index.from_kept({**kept, **change}, over)


def test_opened_codes_of_int8_prove_and_grow_as_those_that_were_made() -> None:
    """The bounds travel with the codes: rows of any length, rows that came later, and rows that
    went."""
    rows = rows_of(400) * np.random.default_rng(0).uniform(0.1, 3, size=(400, 1)).astype(np.float32)
    made = Int8Index.over(rows)
    kept = made.kept()
    assert kept is not None
    opened, more = Int8Index.from_kept(kept, rows), rows_of(60, seed=2) * 5
    assert (opened._scale, opened._error, opened._largest) == (
        made._scale,
        made._error,
        made._largest,
    )
    opened.add(np.arange(400, 460), more)
    opened.remove(np.arange(30))
    truth = FlatIndex.over(np.concatenate([rows, more]))
    truth.remove(np.arange(30))
    for query in (*rows_of(5, seed=3), more[:1][0], rows[40]):
        assert np.array_equal(
            opened.search(query[None], k=8).ids, truth.search(query[None], k=8).ids
        )


@pytest.mark.parametrize("engine", ["int8", OWN, "SQ8", "cells"])
def test_every_verb_takes_it(
    engine: str, street: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Indexed, located, grown, compacted by a removal, checked, evaluated: by the engine's own
    arrays each time."""
    path = tmp_path / "c.whence"
    shared = ["--db", str(path), "-q"]
    query = sorted((street / "queries").iterdir())[7]

    def is_found() -> bool:
        with Localizer.open(path) as localizer:
            assert type(localizer.retriever.index) is not FlatIndex
            assert localizer.retriever.index.num_vectors == localizer.store.num_descriptors
            return "0007r0" in localizer.locate(query, options=RETRIEVE_ONLY).candidates[0].photo

    assert run(["index", str(street / "database"), *shared, "--engine", engine]) == 0
    assert is_found()
    assert run(["locate", str(query), "--db", str(path), "--json"]) == 0
    assert (
        "0007r0" in json.loads(capsys.readouterr().out.splitlines()[-1])["candidates"][0]["photo"]
    )
    write_street(tmp_path / "more", num_places=2, shift=3, run=5)
    assert run(["index", str(tmp_path / "more"), *shared]) == 0
    assert is_found()
    first = sorted((street / "database").iterdir())[0]
    assert run(["database", "remove", str(first), *shared]) == 0
    assert is_found()
    for verb in (["doctor", "--db", str(path)], ["database", "check", "--db", str(path)]):
        assert run(verb) == 0, capsys.readouterr()
    capsys.readouterr()
    assert (
        run(
            [
                "index",
                str(street / "database"),
                "--db",
                str(tmp_path / "other.whence"),
                "--engine",
                "int9",
            ]
        )
        == 1
    )
    assert "int8" in capsys.readouterr().err


@pytest.mark.parametrize("engine", ["int8", "auto", "HNSW16"])
def test_an_evaluation_by_an_engine(engine: str, street: Path) -> None:
    data = read_folders(street)
    exact, found = (
        evaluate("rootsift-vlad", data, options=EvaluationOptions(engine=one, k=5))
        for one in ("flat", engine)
    )
    assert f"searched by {engine}" in found.order
    assert "searched by" not in exact.order
    assert found.predictions[:, 0].tolist() == exact.predictions[:, 0].tolist()
    if engine == "int8":
        assert np.array_equal(found.predictions, exact.predictions)
    with pytest.raises(UnknownName, match="int8"):
        evaluate("rootsift-vlad", data, options=EvaluationOptions(engine="int9"))


def test_databases_made_before_engines_had_names_open_with_their_codes(store: Store) -> None:
    """Their blob has the codes alone, and the options name "auto", a faiss string, or nothing."""
    codes = ann.AnnIndex.over(store.descriptors, factory="SQ8", exact_below=1).to_bytes()
    store.write_blob("engine", {"rows_id": np.array(store.rows_id), "codes": codes})
    for options in ({}, {"build": {"engine": "auto"}}, {"build": {"engine": "SQ8"}}, {"build": {}}):
        store.set_options(options)
        opened = open_engine(store)
        assert isinstance(opened, ann.AnnIndex)
        assert not opened.is_exact
        assert opened.search(store.descriptors[:3], k=1).ids[:, 0].tolist() == [0, 1, 2]
