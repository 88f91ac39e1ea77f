"""Places by the cells of a map: without any photo, and as the photos that are worth a search; by
learned cells and by means."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from descriptor_samples import CARD, NAME, MeanColours
from whence import registry
from whence.cards import Entry
from whence.cli import run
from whence.data.metadata import read_metadata
from whence.errors import BadOption, CardMismatch, InputError, NotFitted, UnknownName
from whence.geo import distance_m
from whence.index.cells.classifier import read_cells, write_cells
from whence.index.cells.engine import CellIndex
from whence.index.flat import FlatIndex
from whence.index.store import Store
from whence.localize.build import build_database
from whence.localize.cells import store_cells
from whence.localize.localizer import RETRIEVE_ONLY, Localizer
from whence.localize.retrieve import Around
from whence.models.descriptor import load_model
from whence.settings import BuildOptions
from whence.types import GeoPoint

OTHER = "mean-colours-turned"


class Turned(MeanColours):
    """The same numbers in another order, and one more: another model."""

    dim = 49

    def describe(self, images: Sequence[np.ndarray]) -> np.ndarray:
        found = MeanColours().describe(images)
        return np.concatenate([found[:, ::-1], np.zeros((len(found), 1), np.float32)], axis=1)


@pytest.fixture(autouse=True, scope="module")
def _models() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry.MODELS, NAME, Entry(MeanColours, CARD))
        patch.setitem(registry.MODELS, OTHER, Entry(Turned, replace(CARD, name=OTHER, dim=49)))
        yield


@pytest.fixture(scope="module")
def database(street: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database of the street by the engine `cells`. Tests must not change it."""
    path = tmp_path_factory.mktemp("cells") / "street.whence"
    build_database(
        [street / "database"], path=path, options=BuildOptions(model=NAME, engine="cells:2")
    )
    return path


@pytest.fixture(scope="module")
def learned(database: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of cells as a training writes one."""
    with Localizer.open(database) as localizer:
        assert localizer.cells is not None
        means = localizer.cells.cells
    path = tmp_path_factory.mktemp("learned") / "street.cells.npz"
    write_cells(path, replace(means, model=NAME, num_photos=np.ones(len(means), np.int64)))
    return path


def queries_of(street: Path) -> list[Path]:
    return sorted((street / "queries").iterdir())


def truth_of(query: Path) -> GeoPoint:
    point = read_metadata(query).point
    assert point is not None
    return point


def test_a_place_without_any_photo(street: Path, learned: Path, tmp_path: Path) -> None:
    """A database of cells alone answers with their middles: as one with the photos does, whose own
    means the cells are."""
    given = store_cells(tmp_path / "cells.whence", learned)
    queries = queries_of(street)
    with Localizer.open(tmp_path / "cells.whence") as localizer:
        assert len(localizer.photos) == 0
        assert localizer.cells is not None
        found = list(localizer.cells.locate_many(queries, k=3, show_progress=False))
    assert len(given) == 24
    gaps = [
        distance_m(one.point, truth_of(query))
        for one, query in zip(found, queries, strict=True)
        if one.point
    ]
    # Photos of a place look alike: the cell is the right one for nearly all, and its middle is
    # near.
    assert sum(gap <= 25 for gap in gaps) >= 22
    for one in found:
        assert (one.status, one.is_verified, len(one.candidates)) == ("located", False, 3)
        assert one.radius_m == pytest.approx(14.142, abs=1e-3)
        assert "24 cells" in one.reason
        assert one.candidates[0].photo.startswith("cell ")
        assert one.candidates[0].point == one.point
        assert {candidate.row for candidate in one.candidates} == {-1}


def test_only_cells_inside_a_geographic_filter(street: Path, database: Path) -> None:
    query = queries_of(street)[3]
    far = truth_of(queries_of(street)[20])
    with Localizer.open(database) as localizer:
        assert localizer.cells is not None
        (near,) = localizer.cells.locate([query], around=Around(far, 100.0))
        (nowhere,) = localizer.cells.locate([query], around=Around(GeoPoint(0.0, 0.0), 100.0))
        free = replace(localizer.cells.cells, zone="")
        localizer.cells.cells = free
        (matched,) = localizer.cells.locate([query])
        with pytest.raises(BadOption, match="without a zone"):
            list(localizer.cells.locate([query], around=Around(far, 100.0)))
    assert near.point is not None
    assert distance_m(near.point, far) <= 100
    assert (nowhere.status, nowhere.point) == ("unknown", None)
    assert (matched.status, matched.point, matched.radius_m) == ("matched", None, None)


@pytest.mark.parametrize("model", [NAME, OTHER])
def test_learned_cells_choose_the_photos_that_are_searched(
    model: str, street: Path, learned: Path, database: Path, tmp_path: Path
) -> None:
    """Of the database's own model or of another, whose descriptors of the query then tell the
    cells."""
    path, query = tmp_path / "chosen.whence", queries_of(street)[7]
    build_database(
        [street / "database"], path=path, options=BuildOptions(model=NAME, engine="cells:1")
    )
    cells = read_cells(learned)
    if model == OTHER:
        more = np.zeros((len(cells), 1), np.float32)
        cells = replace(
            cells, model=OTHER, prototypes=np.concatenate([cells.prototypes[:, ::-1], more], axis=1)
        )
    # Told wrongly on purpose: a cell far from the place is the best one for every query.
    wrong = int(np.argmax(cells.corners_m[:, 0]))
    pushed = replace(cells, bias=np.where(np.arange(len(cells)) == wrong, 9, 0).astype(np.float32))
    write_cells(tmp_path / "pushed.npz", pushed)
    for file, is_right in ((learned, True), (tmp_path / "pushed.npz", False)):
        if model == OTHER and is_right:
            write_cells(tmp_path / "other.npz", cells)
            file = tmp_path / "other.npz"
        store_cells(path, file)
        with Localizer.open(path) as localizer:
            assert isinstance(localizer.retriever.index, CellIndex)
            found = localizer.locate(query, k=1, options=RETRIEVE_ONLY)
            # A geographic filter is exact whatever the cells say.
            around = localizer.locate(
                query, k=1, options=RETRIEVE_ONLY, around=Around(truth_of(query), 100.0)
            )
        assert "0007r0" in around.candidates[0].photo
        assert ("cells" in found.seconds, "cells" in around.seconds) == (True, False)
        assert ("0007r0" in found.candidates[0].photo) == is_right
        assert found.point is not None
        gap = abs(distance_m(found.point, truth_of(query)))
        assert gap < 30 if is_right else gap > 300
    # More is asked for than the best cell holds: more cells are taken.
    with Localizer.open(path) as localizer:
        assert len(localizer.locate(query, k=9, options=RETRIEVE_ONLY).candidates) == 9


def test_every_way_to_ask(
    street: Path, database: Path, learned: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the command, with its files; a database of cells alone needs no flag; photos that cannot
    be read are named."""
    query, path = str(queries_of(street)[5]), tmp_path / "alone.whence"
    assert run(["index", "--cells", str(learned), "--db", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["cells"] == 24
    answers = []
    for db, flags in ((database, ["--engine", "cells"]), (path, []), (path, ["--engine", "cells"])):
        assert run(["locate", query, "--db", str(db), "--json", "-k", "2", *flags]) == 0
        answers.append(json.loads(capsys.readouterr().out))
    assert [one["position"] for one in answers] == [answers[0]["position"]] * 3
    assert answers[0]["position"]["radius_m"] == pytest.approx(14.142, abs=1e-3)
    assert answers[0]["candidates"][0]["photo"].startswith("cell ")
    (tmp_path / "torn.jpg").write_bytes(b"\xff\xd8nothing")
    files = [str(tmp_path / name) for name in ("a.csv", "a.geojson", "a.html", "a.gpx")]
    outputs = ["--csv", files[0], "--geojson", files[1], "--report", files[2], "--gpx", files[3]]
    assert (
        run(["locate", query, str(tmp_path / "torn.jpg"), "--db", str(path), "-q", *outputs]) == 0
    )
    told = capsys.readouterr()
    assert "cell" in told.out + told.err
    rows = list(csv.DictReader(Path(files[0]).read_text(encoding="utf-8").splitlines()))
    assert [row["status"] for row in rows] == ["located", "unknown"]
    assert "torn.jpg" in rows[1]["reason"]
    assert len(json.loads(Path(files[1]).read_text(encoding="utf-8"))["features"]) == 1
    assert run(["locate", query, "--db", str(path)]) == 0
    assert "cell 33" in capsys.readouterr().out
    assert run(["locate", str(tmp_path / "torn.jpg"), "--db", str(path)]) == 1
    assert "torn.jpg" in capsys.readouterr().err
    for wrong in (
        ["--set", "num_candidates=5"],
        ["--no-verify"],
        ["--set", "query_mode=five_crops"],
    ):
        asked = [query]
        assert run(["locate", *asked, "--db", str(path), "--engine", "cells", *wrong]) == 1
        assert "compares no photos" in capsys.readouterr().err
    assert run(["locate", query, "--db", str(path), "--engine", "int8"]) == 1
    assert "whence index --engine" in capsys.readouterr().err


def test_a_database_of_cells_alone_goes_through_every_verb(
    learned: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "alone.whence"
    store_cells(path, learned)
    for verb in (["doctor", "--db", str(path)], ["database", "check", "--db", str(path)]):
        assert run(verb) == 0, capsys.readouterr()
    with Localizer.open(path) as localizer:
        assert (
            localizer.locate(np.zeros((40, 60, 3), np.uint8), options=RETRIEVE_ONLY).status
            == "unknown"
        )


def test_photos_come_to_cells_that_were_there_first(
    street: Path, learned: Path, tmp_path: Path
) -> None:
    """The database keeps the model and the engine that it was made with, its cells through a refit,
    and both ways to answer."""
    path, query = tmp_path / "first.whence", queries_of(street)[2]
    store_cells(path, learned)
    assert run(["index", str(street / "database"), "--db", str(path), "-q", "--no-calibrate"]) == 0
    assert run(["database", "refit", "--db", str(path), "-q", "--no-calibrate"]) == 0
    with Localizer.open(path) as localizer:
        assert (localizer.model.name, localizer.store.options["build"]["engine"]) == (NAME, "cells")
        assert isinstance(localizer.retriever.index, CellIndex)
        assert localizer.retriever.index.means is None
        assert localizer.cells is not None
        assert "0002r0" in localizer.locate(query, options=RETRIEVE_ONLY).candidates[0].photo
        assert next(localizer.cells.locate([query])).status == "located"
    with Store.open(path) as store:
        assert "cells" in store.blob_names


@pytest.mark.parametrize("model", [None, OTHER])
def test_photos_and_cells_come_in_one_command(
    model: str | None, street: Path, learned: Path, tmp_path: Path
) -> None:
    """A new database takes the cells' model and searches in their cells; with a model of its own it
    is told by both."""
    path, query = tmp_path / "one.whence", queries_of(street)[4]
    named = [] if model is None else ["--model", model]
    asked = [
        "index",
        str(street / "database"),
        "--cells",
        str(learned),
        "--db",
        str(path),
        "-q",
        "--no-calibrate",
        *named,
    ]
    assert run([*asked, "--estimate"]) == 0
    assert not path.exists()
    assert run(asked) == 0
    with Localizer.open(path) as localizer:
        assert localizer.model.name == (model or NAME)
        assert isinstance(localizer.retriever.index, CellIndex)
        assert localizer.cells is not None
        assert localizer.cells.model.name == NAME
        found = localizer.locate(query, options=RETRIEVE_ONLY)
    assert "0004r0" in found.candidates[0].photo
    assert "cells" in found.seconds


def test_cells_beside_another_engine_answer_and_leave_the_search_alone(
    street: Path, learned: Path, tmp_path: Path
) -> None:
    path, query = tmp_path / "flat.whence", queries_of(street)[2]
    build_database(
        [street / "database"], path=path, options=BuildOptions(model=NAME, engine="flat")
    )
    with Localizer.open(path) as localizer:
        assert localizer.cells is None
        before = localizer.locate(query, options=RETRIEVE_ONLY)
    assert run(["locate", str(query), "--db", str(path), "--engine", "cells"]) == 1
    store_cells(path, learned)
    with Localizer.open(path) as localizer:
        assert type(localizer.retriever.index) is FlatIndex
        assert localizer.locate(query, options=RETRIEVE_ONLY).candidates == before.candidates
        assert localizer.cells is not None


def test_cells_that_do_not_fit_are_refused_with_the_reason(
    learned: Path, street: Path, tmp_path: Path
) -> None:
    cells = read_cells(learned)
    path = tmp_path / "x.whence"
    for change, error, words in (
        ({"model": "mean-colors"}, UnknownName, NAME),
        ({"model": ""}, InputError, "do not say which model"),
        ({"model": "rootsift-vlad"}, NotFitted, "rootsift-vlad"),
    ):
        write_cells(tmp_path / "wrong.npz", replace(cells, **change))
        with pytest.raises(error, match=words):
            store_cells(path, tmp_path / "wrong.npz")
        assert not path.exists()
    write_cells(tmp_path / "short.npz", replace(cells, prototypes=cells.prototypes[:, :7]))
    store_cells(path, tmp_path / "short.npz")
    with Localizer.open(path) as localizer, pytest.raises(CardMismatch, match="7 numbers"):
        _ = localizer.cells
    (tmp_path / "rubbish.npz").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"rubbish\.npz"):
        store_cells(path, tmp_path / "rubbish.npz")


@pytest.mark.parametrize("kind", ["none", "empty", "torn", "objects", "folder", "another"])
def test_files_that_are_no_cells_end_in_one_line(
    kind: str, street: Path, learned: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever wrote them: nothing in them is run, no database is made, and the file is named."""
    file = tmp_path / "some.npz"
    whole = learned.read_bytes()
    if kind == "folder":
        file.mkdir()
    elif kind == "objects":
        np.savez(file, **{**read_cells(learned).to_arrays(), "model": np.array([{}], object)})
    elif kind == "another":
        np.savez(file, ids=np.arange(3))
    elif kind != "none":
        file.write_bytes(b"" if kind == "empty" else whole[: len(whole) // 2])
    for asked in (["index", "--db", str(tmp_path / "x.whence")], ["evaluate", str(street)]):
        assert run([*asked, "--cells", str(file)]) == 1
        told = capsys.readouterr().err
        assert len(told.strip().splitlines()) == 1
        assert "some.npz" in told
    assert not (tmp_path / "x.whence").exists()


def test_a_model_beside_the_file_is_found_there(
    learned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A training names its weights by their file alone; the folder may lie anywhere, and is asked
    for by its path."""
    (tmp_path / "weights.safetensors").write_bytes(b"weights")
    write_cells(tmp_path / "cells.npz", replace(read_cells(learned), model="weights.safetensors"))
    asked: list[str] = []

    def load(name: str, *, options: object = None) -> object:
        asked.append(name)
        return load_model(NAME)

    monkeypatch.setattr("whence.localize.cells.load_model", load)
    given = store_cells(tmp_path / "x.whence", tmp_path / "cells.npz")
    assert asked == [given.model] == [str(tmp_path / "weights.safetensors")]
