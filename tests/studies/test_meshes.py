"""The studies of meshes and of attention: what their grids hold, what a share of the gap is, and
what is looked at."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("accelerate")
pytest.importorskip("pytorch_metric_learning")

from whence.data.labels import IDDA_CLASSES, read_classes, read_labelled_set
from whence.errors import BadOption
from whence.studies import get_study
from whence.studies.arms import (
    COPY,
    COPY_TWICE,
    MESH,
    MODES,
    PHOTOS,
    PLAIN_MODEL,
    SEMANTIC,
    WATCHED,
    other_renders,
)
from whence.studies.frame import resolve_options
from whence.studies.mesh_runs import _keep, recovered
from whence.studies.rendered import pair_counts
from whence.studies.semantic_runs import attention_by_class, semantic_recipe
from whence.worlds.capture import CaptureOptions
from whence.worlds.city import WorldOptions, render_world
from whence.worlds.presets import CitySize


def test_the_grid_of_meshes_has_every_row_of_the_question() -> None:
    study = get_study("mesh")
    options = resolve_options(study, {"data": "d", "renders": "low=a,high=b"})
    rows = [dict(run.settings) for run in study.grid(options)]
    assert [row["model"] for row in rows[:2]] == [PLAIN_MODEL] * 2
    assert [row["database"] for row in rows[:2]] == [PHOTOS, MESH]
    assert sorted({row["pairs"] for row in rows if row["model"] == COPY}) == [100, 1000, 10_000]
    assert {row["seed"] for row in rows if row["pairs"] == 10_000 and row["database"] == MESH} == {
        0,
        1,
        2,
    }
    assert [row["model"] for row in rows].count(COPY_TWICE) == 1
    assert {row["database"] for row in rows[-4:]} == {"mesh, low", "mesh, high"}
    assert other_renders(options) == {"low": "a", "high": "b"}
    for name, value in (("pairs", "many"), ("pairs", "0"), ("renders", "low")):
        with pytest.raises(BadOption, match=name):
            (pair_counts if name == "pairs" else other_renders)({**options, name: value})


def test_what_is_recovered_is_a_share_of_the_gap(tmp_path: Path) -> None:
    photos, plain = np.zeros((2, 10), int), np.zeros((2, 10), int)
    plain[:, :8] = 20
    run = {"database": MESH, "model": COPY, "pairs": 100, "seed": 0}
    hits = {25.0: np.arange(10) >= 4, 100.0: np.arange(10) >= 6}
    assert recovered(run, tmp_path, hits) == {}, "nothing to compare with yet"
    for database, first in ((PHOTOS, photos), (MESH, plain)):
        _keep(tmp_path, {"database": database, "model": PLAIN_MODEL, "pairs": 0, "seed": 0}, first)
    found = recovered(run, tmp_path, hits)
    assert found["difference, 25 m"].value == pytest.approx(0.4)
    assert found["recovered, 25 m"].value == pytest.approx(0.5)
    assert found["recovered, 100 m"].value == pytest.approx(0.25)
    assert found["claim"].value == -1
    assert "claim" not in recovered({**run, "model": COPY_TWICE}, tmp_path, hits)


def test_arms_of_attention_differ_as_they_say() -> None:
    study = get_study("semantic")
    options = resolve_options(study, {"train": "a", "test": "b", "target": "c"})
    runs = [dict(run.settings) for run in study.grid(options)]
    assert [run["arm"] for run in runs[:5]] == list(SEMANTIC)
    assert {run["seed"] for run in runs if run["mode"] == "paper"} == {0, 1, 2}
    assert {run["mode"] for run in runs} == set(MODES)
    recipes = {
        arm: semantic_recipe({"arm": arm, "mode": "paper", "seed": 0}, options) for arm in SEMANTIC
    }
    has_attention = {
        arm: recipe.learner.aggregator.options.get("has_attention", True)
        for arm, recipe in recipes.items()
    }  # type: ignore[attr-defined]
    weights = {arm: recipe.branches[0].segmentation_weight for arm, recipe in recipes.items()}  # type: ignore[attr-defined]
    assert has_attention == {
        "neither": False,
        "attention": True,
        "segmentation": False,
        "both": True,
        "both, unguided": True,
    }
    assert {arm for arm, weight in weights.items() if weight} == {
        "segmentation",
        "both",
        "both, unguided",
    }
    assert len({recipe.loop for recipe in recipes.values()}) == 1, "equal steps"
    with pytest.raises(BadOption, match="recipe=NAME"):
        semantic_recipe({"arm": "both", "mode": "paper", "seed": 0}, {**options, "recipe": "tiny"})


def test_attention_of_a_class_is_over_the_mean_of_its_photo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = WorldOptions(
        capture=CaptureOptions(width=64, height=48), cities=(CitySize("city00", "", 8, 4, 0),)
    )
    render_world(
        tmp_path / "w", seed=4, layout="labelled", options=size, num_workers=1, show_progress=False
    )
    data = read_labelled_set(tmp_path / "w")
    from whence.models.descriptor import load_model

    model = load_model("whence-resnet18conv4-gem-256")
    assert attention_by_class(model, data) == {}, "a model without attention looks nowhere"
    shown = iter(read_classes(path, size_px=(192, 144)) for path in data.database_labels)
    sky = IDDA_CLASSES.index("sky")
    monkeypatch.setattr(
        type(model.descriptor), "attention", lambda self, image: 1.0 + (next(shown) == sky)
    )
    found = attention_by_class(model, replace(data))
    assert found["sky"] > 1 > found["building"] > 0
    assert found["building"] == pytest.approx(found["road"], rel=0.2)
    assert set(found) & set(WATCHED) >= {"sky", "building", "road"}
