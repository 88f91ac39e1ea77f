"""The studies of places as classes: every arm trains and is measured on a tiny city, paired, and
goes on where it stopped."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("accelerate")
pytest.importorskip("pytorch_metric_learning")

from whence.cli import run
from whence.errors import BadOption
from whence.studies import get_study, place_runs
from whence.studies.arms import COSPLACE, DIVIDE, EIGENPLACES, MAIN
from whence.studies.contrasts import contrasts, keep_hits
from whence.studies.frame import Budget, Settings, resolve_options, run_study
from whence.studies.map_runs import divide_recipe
from whence.studies.place_classes import STUDIES
from whence.studies.place_runs import cosplace_recipe, eigenplaces_recipe, viewpoints
from whence.studies.shortlists import read_set
from whence.training.options.classes import ClassesOptions
from whence.training.options.tuples import TuplesOptions

TINY = (
    "loop.num_steps=2 loop.precision=no learner.backbone=resnet18conv2 learner.start_from= "
    "augment.width=32 augment.height=32 "
    "cells.min_photos=2 batches_per_turn=1 learner.aggregator.options.dim=16"
)


def options_of(name: str, world: Path, **more: str) -> dict[str, str | int | float | bool]:
    given = {"data": str(world), "train": str(world), "changes": TINY} | more
    return resolve_options(get_study(name), given)


def test_grids_begin_with_the_main_contrast() -> None:
    for study, arms in zip(STUDIES, (COSPLACE, EIGENPLACES, DIVIDE), strict=True):
        runs = [dict(run.settings) for run in study.grid({})]
        main = MAIN[study.name]
        assert [run["arm"] for run in runs[: len(main)]] == list(main)
        assert {run["arm"] for run in runs} == set(arms)
        for arm in arms:
            seeds = [run["seed"] for run in runs if run["arm"] == arm]
            assert seeds == ([0, 1, 2] if arm in main else [0])
        assert study.predicted_by


def test_arms_are_what_they_are_called(sf_xl: Path) -> None:
    """The same steps, network and photos a step in every arm; what is compared is what differs."""
    cosplace = options_of("cosplace", sf_xl)
    found = {arm: cosplace_recipe({"arm": arm, "seed": 1}, cosplace) for arm in COSPLACE}
    for arm, recipe in found.items():
        assert (recipe.loop.num_steps, recipe.loop.seed) == (2, 1)
        (branch,) = recipe.branches
        if isinstance(branch, TuplesOptions):
            assert branch.batch_queries * (2 + branch.mining.num_negatives) == 32
            assert branch.mining.name == ("random" if "random" in arm else "partial")
        else:
            assert isinstance(branch, ClassesOptions)
            assert branch.batch_size == 32
            assert (branch.cells.num_apart == 1) == (arm == "all cells in one softmax")
            assert (branch.num_groups == 1) == (arm == "one group alone")
    dims = [
        found[arm].learner.aggregator.options["dim"] for arm in ("dimension 128", "dimension 32")
    ]  # type: ignore[attr-defined]
    assert dims == [128, 32]
    for arm in EIGENPLACES:
        recipe = eigenplaces_recipe({"arm": arm, "seed": 0}, options_of("eigenplaces", sf_xl))
        learning = [
            branch
            for branch in recipe.branches
            if isinstance(branch, ClassesOptions) and not branch.is_idle
        ]
        assert sum(branch.batch_size for branch in learning) == 32, arm
        if "focal" in arm:
            assert {branch.focal_m for branch in learning} == {float(arm.split()[-2])}
    maps = divide_recipe(
        {"arm": "cross-entropy, three maps", "seed": 0}, options_of("divide-and-classify", sf_xl)
    )
    offsets = [
        branch.cells.offset_m for branch in maps.branches if isinstance(branch, ClassesOptions)
    ]
    assert offsets == pytest.approx([0, 20 / 3, 40 / 3])


@pytest.mark.parametrize(
    ("name", "only"),
    [
        ("cosplace", ("arm=cosplace,seed=0", "hard_negatives,seed=0")),
        ("eigenplaces", ("arm=eigenplaces,seed=0", "frontal")),
        ("divide-and-classify", ("N_=_2,seed=0", "margin,_one_group,seed=0", "three_maps")),
    ],
)
def test_arms_are_trained_and_measured(
    name: str, only: tuple[str, ...], sf_xl: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = ("num_queries=4", "num_candidates=20", "num_negatives=3", "positive_m=3", "excluded_m=4")
    monkeypatch.setattr(
        place_runs, "TRIPLETS", (*(f"mining.{change}" for change in few), "batch_queries=2")
    )
    said: list[str] = []
    given = {"data": str(sf_xl), "train": str(sf_xl), "changes": TINY}
    study, budget = get_study(name), Budget(only)
    result = run_study(
        study, out=tmp_path, options=given, budget=budget, show_progress=False, announce=said.append
    )
    done = [found for found in result.runs if found.is_done]
    assert [found.reason for found in result.runs if not found.is_done] == ["not run"] * (
        len(result.runs) - len(only)
    )
    assert len(said) == 1
    assert said[0].startswith(f"{len(only)} runs, about ")
    for found in done[1:]:
        assert {"difference within 25 m", "claim"} <= set(found.values)
        assert found.values["claim"].value in (-1, 0, 1)
    names = {measure.name for measure in study.measures}
    assert all(set(found.values) <= names for found in done)
    again = run_study(
        study, out=tmp_path, options=given, budget=budget, show_progress=False, announce=said.append
    )
    assert [found.values for found in again.runs] == [found.values for found in result.runs]
    assert len(said) == 1, "nothing is missing, nothing is predicted"
    if name == "divide-and-classify":
        assert done[0].values["own cell"].value <= done[0].values["coverage"].value


def test_differences_are_paired_and_pooled(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    best, other = random.random((3, 400)) < 0.7, random.random((3, 400)) < 0.3
    for seed in range(3):
        keep_hits(tmp_path, {"arm": "a", "seed": seed}, best[seed])
    run: Settings = {"arm": "b", "seed": 0}
    keep_hits(tmp_path, run, other[0])
    found = contrasts(tmp_path, run, reference="a", seeds=(0, 1, 2), groups=None)
    assert set(found) == {"difference within 25 m", "claim"}
    assert found["difference within 25 m"].value == pytest.approx(other[0].mean() - best[0].mean())
    assert found["claim"].value == 1
    for seed in (1, 2):
        keep_hits(tmp_path, {"arm": "b", "seed": seed}, other[seed])
    found = contrasts(
        tmp_path, {"arm": "b", "seed": 2}, reference="a", seeds=(0, 1, 2), groups=None
    )
    assert found["difference, all seeds"].value == pytest.approx(other.mean() - best.mean())
    assert (
        contrasts(tmp_path, {"arm": "a", "seed": 2}, reference="b", seeds=(0, 1, 2), groups=None)[
            "claim"
        ].value
        == -1
    )
    assert (
        contrasts(tmp_path, {"arm": "a", "seed": 2}, reference="a", seeds=(0,), groups=None) == {}
    )
    keep_hits(tmp_path, {"arm": "c", "seed": 0}, best[0])
    assert (
        contrasts(tmp_path, {"arm": "c", "seed": 0}, reference="a", seeds=(0,), groups=None)[
            "claim"
        ].value
        == 0
    )


def test_viewpoints_are_those_of_the_world(sf_xl: Path, world: Path) -> None:
    """Queries walk up to 60 % of half a street aside; a turn is folded to a quarter."""
    aside, turned = viewpoints(read_set({"data": str(sf_xl), "split": "", "frames": -1}))
    assert np.isfinite(aside).any()
    assert np.nanmax(aside) < 25
    assert ((turned >= 0) & (turned <= 90))[np.isfinite(turned)].all()
    data = read_set({"data": str(world), "split": "", "frames": -1})
    assert len(viewpoints(data)[0]) == len(data.queries)


def test_a_recipe_of_something_else_is_refused(sf_xl: Path) -> None:
    with pytest.raises(BadOption, match="does not train on classes"):
        cosplace_recipe(
            {"arm": "cosplace", "seed": 0}, options_of("cosplace", sf_xl, recipe="tiny", changes="")
        )
    assert run(["study", "cosplace", "--out", "nowhere", "--no-run"]) == 1
