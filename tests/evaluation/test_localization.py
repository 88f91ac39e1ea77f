"""LR@N of cells: the formula, what it is compared with, and the command; search in the best cells
under an evaluation."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from conftest import write_photo
from descriptor_samples import CARD, NAME, MeanColours, OfNegatives
from whence import registry
from whence.cards import Entry
from whence.cli import run
from whence.data.formats import EvaluationSet, read_folders
from whence.data.photos import Photos
from whence.errors import BadOption, InputError
from whence.evaluation.benchmarks import EvaluationOptions, evaluate
from whence.evaluation.localization import evaluate_cells, rate_cells
from whence.index.cells.classifier import CellClassifier, write_cells
from whence.models.descriptor import load_model
from whence.types import GeoPoint, Photo

NEGATIVES = "colours-of-negatives"
SIDE = 21


def grid(**changes: object) -> CellClassifier:
    """SIDE x SIDE cells of 20 m from (0, 0) on, in an order of their own, those in the west with
    most photos."""
    cells = np.random.default_rng(0).permutation(SIDE * SIDE)
    corners = 20.0 * np.stack(np.divmod(cells, SIDE), axis=1)
    found = CellClassifier(
        np.eye(len(cells), dtype=np.float32), corners, 20.0, num_photos=1000 - cells
    )
    return replace(found, **changes)  # type: ignore[arg-type]


def test_chance_and_the_share_of_neighbours_that_are_near() -> None:
    """On a full grid 4.909 middles lie within 25 m of a place on average."""
    cells = grid()
    random = np.random.default_rng(1)
    east, north = 60 + 300 * random.random((2, 40_000))
    drawn = random.integers(0, len(cells), (40_000, 1))
    found = rate_cells(cells, drawn, east, north, rate_at=(1,))
    assert found.chance == pytest.approx(4.909 / len(cells), rel=0.01)
    assert found.rates[0].value == pytest.approx(found.chance, abs=0.002)
    assert found.own_cell.value == pytest.approx(1 / len(cells), abs=0.002)
    assert found.coverage.value == 1.0


def test_rates_are_those_of_the_slow_formula() -> None:
    cells, random = grid(), np.random.default_rng(2)
    keep = np.sort(random.permutation(len(cells))[:200])
    cells = replace(
        cells,
        prototypes=cells.prototypes[keep],
        corners_m=cells.corners_m[keep],
        num_photos=cells.num_photos[keep],
    )  # type: ignore[index]
    east, north = 500 * random.random((2, 300)) - 20
    middles = cells.corners_m + 10
    near = np.argsort(
        np.hypot(*(middles[None] - np.stack([east, north], 1)[:, None]).transpose(2, 0, 1)), axis=1
    )
    ranked = np.where(random.random((300, 4)) < 0.5, near[:, :4], random.integers(0, 200, (300, 4)))
    ranked[:7] = -1
    found = rate_cells(cells, ranked, east, north, rate_at=(1, 4))
    hits, own, firsts = {1: 0, 4: 0}, [], 0
    order = np.argsort(-cells.num_photos, kind="stable").tolist()  # type: ignore[operator]
    by_size: dict[str, list[bool]] = {"head": [], "middle": [], "tail": []}
    for q in range(300):
        gaps = [
            np.hypot(*(middles[c] - (east[q], north[q]))) if c >= 0 else np.inf for c in ranked[q]
        ]
        for n in hits:
            hits[n] += min(gaps[:n]) <= 25
        holds = [
            c
            for c in range(200)
            if (np.floor([east[q] / 20, north[q] / 20]) * 20 == cells.corners_m[c]).all()
        ]
        own.append(len(holds))
        firsts += bool(holds) and ranked[q, 0] == holds[0]
        if holds:
            place = order.index(holds[0])
            by_size["head" if place < 60 else "middle" if place < 140 else "tail"].append(
                gaps[0] <= 25
            )
    assert [one.num_right for one in found.rates] == list(hits.values())
    assert {one.num_queries for one in found.rates} == {300}
    assert (found.coverage.num_right, found.own_cell.num_right) == (sum(own), firsts)
    assert 0 < sum(own) < 300
    counted = {
        name: (rates[0].num_right, rates[0].num_queries) for name, rates in found.by_size.items()
    }
    assert counted == {name: (sum(right), len(right)) for name, right in by_size.items()}


def test_without_the_numbers_of_photos_there_are_no_sizes() -> None:
    found = rate_cells(
        grid(num_photos=None), np.zeros((1, 1), np.int64), np.array([5.0]), np.array([5.0])
    )
    assert found.by_size == {}


@pytest.fixture(autouse=True, scope="module")
def _models() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry.MODELS, NAME, Entry(MeanColours, CARD))
        patch.setitem(registry.MODELS, NEGATIVES, Entry(OfNegatives, replace(CARD, name=NEGATIVES)))
        yield


@pytest.fixture(scope="module")
def learned(street: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Cells of the street by each model, each told by what its photo shows."""
    photos = read_folders(street).database
    folder, found = tmp_path_factory.mktemp("cells"), {}
    corners = 20 * np.floor(np.stack([photos.east_m, photos.north_m], axis=1) / 20)
    for name in (NAME, NEGATIVES):
        told = load_model(name).describe([photos.file(row) for row in range(len(photos))])
        cells = CellClassifier(
            told,
            corners,
            20.0,
            photos.zone[0].decode(),
            name,
            num_photos=np.arange(len(photos)) + 1,
        )
        found[name] = folder / f"{name}.npz"
        write_cells(found[name], cells)
    return found


def test_the_command_counts_cells_alone(
    street: Path, learned: dict[str, Path], tmp_path: Path, capsys
) -> None:
    asked = ["evaluate", str(street), "--cells", str(learned[NAME])]
    assert run([*asked, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["num_cells"], told["num_queries"], told["model"]) == (24, 24, NAME)
    assert [one["n"] for one in told["localization_rates"]] == [1, 5, 10, 20]
    rates = [one["rate"] for one in told["localization_rates"]]
    assert rates == sorted(rates)
    assert rates[0] >= 0.9
    assert told["own_cell"]["rate"] <= told["coverage"]["rate"]
    assert 0 < told["chance"] < 0.1
    assert {"head", "middle", "tail"} == set(told["by_size"])
    assert run([*asked, "--set", "recall_at=1,3", "-q"]) == 0
    shown = capsys.readouterr().out
    assert "LR@3" in shown
    assert "no database photo is looked at" in shown
    assert "chance" in shown
    for wrong in (
        ["--rerank", "inliers"],
        ["--leave-one-out"],
        ["--report", str(tmp_path / "a.html")],
    ):
        assert run([*asked, *wrong]) == 1
        assert "--engine cells" in capsys.readouterr().err
    assert (
        run(
            [
                "evaluate",
                str(street),
                "--model",
                NAME,
                "--cells",
                str(learned[NAME]),
                "--engine",
                "int8",
            ]
        )
        == 1
    )
    assert "engine cells" in capsys.readouterr().err


@pytest.mark.parametrize("name", [NAME, NEGATIVES])
def test_an_evaluation_in_the_best_learned_cells(
    name: str, street: Path, learned: dict[str, Path]
) -> None:
    """By the model's own descriptors, and by those of another: what is near in the best cells comes
    first, as in exact search."""
    data = read_folders(street)
    options = EvaluationOptions(engine="cells:2", cells=learned[name], k=5, recall_at=(1,))
    exact = evaluate(NAME, data, options=replace(options, engine="flat", cells=None))
    found = evaluate(NAME, data, options=options)
    assert (found.predictions[:, 0] == exact.predictions[:, 0]).mean() >= 0.9
    assert "searched by cells:2" in found.order
    assert ("describe queries for cells" in found.seconds) == (name != NAME)
    with pytest.raises(BadOption, match="engine cells"):
        EvaluationOptions(cells=learned[name])


def test_queries_without_a_place_are_left_out_and_broken_ones_fail(
    street: Path, learned: dict[str, Path], tmp_path: Path
) -> None:
    data = read_folders(street)
    cells = CellClassifier.from_arrays(np.load(learned[NAME]))
    image = np.zeros((40, 60, 3), np.uint8)
    there = Photo(path="there.jpg", point=GeoPoint(59.32, 18.07))
    for name in ("nowhere.jpg", "there.jpg"):
        write_photo(tmp_path / name, image)
    (tmp_path / "torn.jpg").write_bytes(b"torn")
    records = [Photo(path="nowhere.jpg"), there, replace(there, path="torn.jpg")]
    mixed = EvaluationSet("mixed", data.database, Photos.of(records, root=tmp_path))
    found = evaluate_cells(cells, load_model(NAME), mixed, rate_at=(1,), show_progress=False)
    assert found.left_out == ("nowhere.jpg",)
    assert [one.path for one in found.skipped] == ["torn.jpg"]
    assert found.rates.num_queries == 2
    lost = EvaluationSet("lost", data.database, Photos.of(records[:1], root=tmp_path))
    with pytest.raises(InputError, match="no query has a place"):
        evaluate_cells(cells, load_model(NAME), lost)
