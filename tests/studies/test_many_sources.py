"""MegaLoc's studies: what arms are, what is measured, and what a claim follows from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("accelerate")
pytest.importorskip("pytorch_metric_learning")

from whence.data.scenes import SceneRules, read_scannet, rooms_as_set
from whence.recipes import get_recipe
from whence.studies import get_study
from whence.studies.arms import ALL_SOURCES, BUDGETS, ONE_LOSS, SOURCES, TESTS, loss_to_all
from whence.studies.frame import Budget, resolve_options, run_study
from whence.studies.many_sources_runs import arm_recipe, compared, keep_hits

TINY = (
    "loop.num_steps=2 loop.precision=no learner.backbone=resnet18conv2 learner.start_from= "
    "learner.aggregator.name=gem learner.aggregator.options={} augment.width=48 augment.height=32 "
    "batches.num_places=2 batches.num_views=2 places.min_photos=2 places.num_batches=2 "
    "cells.cell_m=4 cells.num_apart=1 cells.min_photos=2 batches_per_turn=2 places.every=1"
)


def given(sources: dict[str, Path], world: Path) -> dict[str, str | int | float | bool]:
    sets = {"street": world, "landmarks": sources["revisited"], "indoor": sources["scannet"]}
    return {
        **{name: str(sources[name]) for name in SOURCES},
        **{k: str(v) for k, v in sets.items()},
        "changes": TINY,
    }


def test_arms_see_as_many_images_or_take_as_many_steps(
    sources: dict[str, Path], world: Path
) -> None:
    options = resolve_options(get_study("megaloc"), given(sources, world))
    runs = [dict(run.settings) for run in get_study("megaloc").grid({})]
    assert [run["arm"] for run in runs[:6]] == [ALL_SOURCES, *SOURCES]
    whole = arm_recipe(runs[0], options)
    photos = sum(branch.batches.num_places for branch in whole.branches)  # type: ignore[attr-defined]
    shared = arm_recipe({"arm": ONE_LOSS, "budget": BUDGETS[0], "seed": 0}, options)
    assert shared.loop.losses == "one"
    assert shared.branches == whole.branches
    for run in runs:
        recipe = arm_recipe(run, options)
        seen = sum(branch.batches.num_places for branch in recipe.branches)  # type: ignore[attr-defined]
        assert recipe.loop.num_steps == whole.loop.num_steps
        if run["budget"] == BUDGETS[0]:
            assert seen == photos
        else:
            assert seen == photos * (2 if run["arm"] == "sf_xl" else 1) / 6
    heads = [dict(run.settings) for run in get_study("heads").grid({})]
    loops = {get_recipe(str(run["arm"])).loop for run in heads}
    assert len(loops) == 1, "equal steps"
    assert len({get_recipe(str(run["arm"])).learner.backbone for run in heads}) == 1  # type: ignore[attr-defined]


def test_rooms_are_asked_for_by_their_second_scan(sources: dict[str, Path]) -> None:
    scans = read_scannet(sources["scannet"])
    data = rooms_as_set(scans, rules=SceneRules(radius_m=3.0, max_turn_deg=40.0))
    assert data.positives is not None
    assert {Path(path).parts[-3][-2:] for path in data.database.paths} == {"00"}
    assert {Path(path).parts[-3][-2:] for path in data.queries.paths} == {"01"}
    pose = {str(scans.photos.file(row)): scans.poses[row] for row in range(len(scans.photos))}
    for query in range(len(data.queries)):
        own = data.queries.file(query)
        room = own.parts[-3][:-3]
        right = set()
        for row in range(len(data.database)):
            file = data.database.file(row)
            a, b = pose[str(own)], pose[str(file)]
            cosine = (np.trace(a[:3, :3].T @ b[:3, :3]) - 1) / 2
            apart = np.linalg.norm(a[:3, 3] - b[:3, 3])
            if file.parts[-3][:-3] == room and apart <= 3 and cosine >= np.cos(np.radians(40)):
                right.add(row)
        assert set(data.positives.of(query).tolist()) == right


def test_a_run_is_trained_measured_and_paired(
    sources: dict[str, Path], world: Path, tmp_path: Path
) -> None:
    study = get_study("megaloc")
    only = (
        "arm=all_sources,budget=same_images,seed=0",
        "arm=all_sources,_one_loss",
        "arm=gsv_cities,budget=same_steps",
    )
    result = run_study(
        study, out=tmp_path, options=given(sources, world), budget=Budget(only), show_progress=False
    )
    done = [found for found in result.runs if found.is_done]
    assert len(done) == 3, [found.reason for found in result.runs]
    names = {measure.name for measure in study.measures}
    assert all(set(found.values) <= names for found in done)
    assert {f"recall@1, {test}" for test in TESTS} <= set(done[0].values)
    assert all(
        {loss_to_all(test) for test in TESTS} | {"claim"} <= set(found.values) for found in done[1:]
    )


def test_a_claim_falls_where_one_source_is_surely_better(tmp_path: Path) -> None:
    """By more than three points beyond the interval, on any test."""
    random = np.random.default_rng(0)
    whole, alone = (
        {"arm": arm, "budget": budget, "seed": 0}
        for arm, budget in ((ALL_SOURCES, BUDGETS[0]), ("msls", BUDGETS[1]))
    )
    assert compared(alone, tmp_path) == {}
    hits = {test: random.random(400) < 0.5 for test in TESTS}
    for test, row in hits.items():
        keep_hits(tmp_path, whole, test, row)
        keep_hits(tmp_path, alone, test, row)
    assert compared(whole, tmp_path) == {}
    assert compared(alone, tmp_path)["claim"].value == 1.0
    for share, claim in ((0.01, 1.0), (0.5, -1.0)):
        more = hits["indoor"] | (random.random(400) < share)
        keep_hits(tmp_path, alone, "indoor", more)
        found = compared(alone, tmp_path)
        assert found["claim"].value == claim
        assert found[loss_to_all("indoor")].value == pytest.approx(
            more.mean() - hits["indoor"].mean()
        )
        assert found[loss_to_all("street")].value == 0
