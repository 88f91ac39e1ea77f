"""GeoWarp's studies on a tiny city: every run is measured by what it says, and shortlists are
those of `evaluate`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from whence.data.formats import read_folders
from whence.evaluation.benchmarks import EvaluationOptions, evaluate
from whence.localize.rerank_options import RerankOptions
from whence.studies import get_study
from whence.studies.frame import Budget, StudyResult, run_study
from whence.studies.methods import SEARCHED_AGAIN
from whence.studies.shortlists import Ordered, Shortlists
from whence.worlds.capture import CaptureOptions
from whence.worlds.city import WorldOptions, render_world


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny city. Tests must not change it."""
    folder = tmp_path_factory.mktemp("world") / "city"
    render_world(
        folder,
        preset="tiny",
        options=WorldOptions(capture=CaptureOptions(width=128, height=96)),
        num_workers=1,
    )
    return folder


@pytest.fixture(scope="module")
def lists(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Shortlists:
    return Shortlists(
        read_folders(world), model="rootsift-vlad", work=tmp_path_factory.mktemp("work")
    )


def run_only(
    name: str, out: Path, options: dict[str, str | int | float], *only: str
) -> StudyResult:
    budget = Budget(only, is_measuring=bool(only))
    return run_study(get_study(name), out=out, options=options, budget=budget, show_progress=False)


def recalls_of(lists: Shortlists, rerank: RerankOptions | None = None) -> dict[str, float]:
    """What `evaluate` counts."""
    result = evaluate(
        "rootsift-vlad", lists.data, options=EvaluationOptions(rerank=rerank), show_progress=False
    )
    found = {
        f"recall@1 within {scored.threshold_m:g} m": scored.all_queries[0].value
        for scored in result.thresholds
    }
    return {**found, "recall@5 within 25 m": result.thresholds[1].all_queries[1].value}


def test_shortlists_are_what_evaluate_counts(lists: Shortlists) -> None:
    found = lists.recalls(lists.found)
    assert {name: value.value for name, value in found.items()} == pytest.approx(recalls_of(lists))
    assert all(
        value.low is not None and value.low <= value.value <= (value.high or 0)
        for value in found.values()
    )
    ordered = lists.reranked("inliers", {}, num_candidates=3)
    expected = recalls_of(lists, RerankOptions("inliers", 3, otherwise="none"))
    assert {
        name: value.value for name, value in lists.recalls(ordered.predictions).items()
    } == pytest.approx(expected)
    assert (
        np.sort(ordered.predictions[:, :3], axis=1) == np.sort(lists.found[:, :3], axis=1)
    ).all()
    assert (ordered.predictions[:, 3:] == lists.found[:, 3:]).all()
    assert ordered.query_ms is not None


def test_intervals_draw_whole_streets(world: Path, lists: Shortlists) -> None:
    rows = (world / "cameras.csv").read_text().splitlines()
    place = rows[0].split(",").index("street")
    streets = {row.split(",")[place] for row in rows[1:] if "queries/" in row}
    groups = lists.groups
    assert groups is not None
    assert len(set(groups.tolist())) == len(streets)


def test_what_is_lost_is_the_difference(lists: Shortlists) -> None:
    worse = lists.found[:, ::-1]
    hits = [lists.hits(order)[1, "within 25 m"].mean() for order in (lists.found, worse)]
    lost = lists.most_lost(worse, lists.found)["lost to exact within 25 m"]
    assert lost.value == pytest.approx(hits[0] - hits[1])
    assert lost.low is not None
    assert lost.low <= lost.value
    assert lists.most_lost(worse, worse)["lost to exact within 25 m"].high == 0
    assert Ordered(worse).query_ms is None


def test_rivals_without_a_network(world: Path, tmp_path: Path, lists: Shortlists) -> None:
    options = {"data": str(world), "model": "rootsift-vlad"}
    names = ("no re-ranking", "SIFT and MAGSAC", *SEARCHED_AGAIN, "DenseVLAD")
    result = run_only(
        "geowarp-rivals", tmp_path / "s", options, *(name.replace(" ", "_") for name in names)
    )
    done = {str(found.run.settings["method"]): found for found in result.runs if found.is_done}
    assert set(done) == set(names)
    plain = {name: value.value for name, value in done["no re-ranking"].values.items()}
    assert plain == pytest.approx(recalls_of(lists))
    assert done["SIFT and MAGSAC"].values["ms per query"].value > 0
    assert all(0 <= found.values["recall@1 within 25 m"].value <= 1 for found in done.values())
    missing = [found.reason for found in result.runs if not found.is_done]
    assert missing == ["not run"] * 6


def test_a_study_of_listed_positives(street: Path, tmp_path: Path) -> None:
    table = tmp_path / "pairs.csv"
    photos = [sorted((street / part).iterdir()) for part in ("queries", "database")]
    table.write_text(
        "query,positives\n"
        + "".join(f"{query},{stored}\n" for query, stored in zip(*photos, strict=False))
    )
    result = run_only(
        "geowarp-rivals",
        tmp_path / "s",
        {"data": str(table), "model": "rootsift-vlad"},
        "no_re-ranking",
    )
    assert set(result.runs[0].values) == {"recall@1 as listed", "recall@5 as listed"}


def made_network(folder: Path) -> str:
    """A small network with random weights, as a file with a card."""
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file

    from whence.cards import ModelCard, Preprocessing
    from whence.models.cards.text import CARD_FIELD, card_to_text
    from whence.models.zoo import network_for

    torch.manual_seed(0)
    card = ModelCard(
        "made",
        "",
        128,
        Preprocessing(size_px=(48, 64), interpolation="bilinear"),
        "MIT",
        backbone="resnet18conv3",
        aggregator="gem",
    )
    save_file(
        network_for(card).state_dict(),
        folder / "made.safetensors",
        {CARD_FIELD: card_to_text(card)},
    )
    return str(folder / "made.safetensors")


def test_every_read_out_of_geowarp(world: Path, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from whence.models.warp.model import Regressor

    torch.manual_seed(1)
    regressor = Regressor()
    torch.nn.init.normal_(regressor.linear.weight, std=0.05)
    torch.save(regressor.state_dict(), tmp_path / "regressor.pth")
    options: dict[str, str | int | float] = {
        "data": str(world),
        "model": made_network(tmp_path),
        "weights": str(tmp_path / "regressor.pth"),
        "candidates": 3,
        "long_side_px": 96,
    }
    result = run_only(
        "geowarp-rivals", tmp_path / "s", options, "GeoWarp", "unwarped", "one-sided", "no_re"
    )
    assert [
        found.reason
        for found in result.runs
        if "GeoWarp" in found.run.key or "warp" in found.run.key
    ] == [""] * 6
    by_name = {
        str(found.run.settings["method"]): found.values for found in result.runs if found.is_done
    }
    exact = by_name["GeoWarp exact"]
    assert exact["lost to exact within 25 m"].value == 0
    for method in ("features", "half", "hybrid"):
        lost = (
            exact["recall@1 within 25 m"].value
            - by_name[f"GeoWarp {method}"]["recall@1 within 25 m"].value
        )
        assert by_name[f"GeoWarp {method}"]["lost to exact within 25 m"].value == pytest.approx(
            lost
        )
    assert by_name["GeoWarp hybrid"]["lost to exact within 25 m"].value == 0, (
        "of three candidates all are read exactly"
    )


def test_the_ablation_and_k_train_what_they_say(world: Path, tmp_path: Path) -> None:
    pytest.importorskip("accelerate")
    pytest.importorskip("pytorch_metric_learning")
    options: dict[str, str | int | float] = {
        "data": str(world),
        "model": made_network(tmp_path),
        "train": str(world),
        "val": str(world),
        "recipe": "geowarp-tiny",
        "changes": "loop.num_steps=2 validate_on.num_queries=3",
        "candidates": 3,
        "seeds": 2,
    }
    out = tmp_path / "a"
    result = run_only(
        "geowarp-ablation",
        out,
        options,
        "global",
        "self_supervised=1.0,feature_wise=10.0,consistency=0.1,seed=1",
        "self_supervised=0.0,feature_wise=0.0,consistency=0.0",
    )
    assert len(result.runs) == 1 + 1 + 7 * 2
    assert [found.reason for found in result.runs].count("") == 3, {
        found.reason for found in result.runs
    }
    (trained,) = (out / "work" / "trainings").iterdir()
    recipe = json.loads((trained / "recipe.json").read_text())["recipe"]
    losses = recipe["branches"][0]["losses"] | recipe["branches"][1]["losses"]
    assert losses | {"self_supervised": 1.0, "features": 10.0, "consistency": 0.1} == losses
    assert recipe["loop"]["seed"] == 1
    assert recipe["loop"]["num_steps"] == 2
    options["seeds"] = 1
    inward = run_only("geowarp-k", tmp_path / "k", options, "k=0.4")
    assert [found.is_done for found in inward.runs] == [False, False, True, False, False, False]
    (trained,) = (tmp_path / "k" / "work" / "trainings").iterdir()
    assert (
        json.loads((trained / "recipe.json").read_text())["recipe"]["branches"][0]["pairs"]["k"]
        == 0.4
    )
    refused = run_only("geowarp-k", tmp_path / "w", {**options, "recipe": "tiny"}, "k=0.4")
    assert "no regressor" in refused.runs[2].reason
