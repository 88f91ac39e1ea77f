"""The study of federated training: what each arm changes, and one arm whole where Flower is."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch")

from whence.errors import ModelError
from whence.studies import get_study
from whence.studies.frame import Budget, run_study
from whence.studies.owner_arms import ARMS, CENTRAL, MAIN
from whence.studies.owner_runs import arm_recipe, rounds_of, split_of
from whence.studies.owners import OWNERS
from whence.training.federated.processes import Flower
from whence.worlds.capture import CaptureOptions
from whence.worlds.city import WorldOptions, render_world

OPTIONS = {option.name: option.default for option in OWNERS.options}


def test_arms_change_what_they_say() -> None:
    assert {run.settings["arm"] for run in OWNERS.grid(OPTIONS)} == set(ARMS)
    assert len(OWNERS.grid(OPTIONS)) == len(ARMS) + 2 * len(MAIN)
    made = {}
    for name, arm in ARMS.items():
        rounds, recipe = rounds_of(arm, OPTIONS, seed=1), arm_recipe(arm, OPTIONS, seed=1)
        chosen = split_of(arm, OPTIONS, recipe, seed=1) if arm.split else None
        made[name] = (rounds, recipe, chosen, arm.tint)
        expected = (1,) if name == "not trained" else (400, 0)
        assert rounds.num_rounds * rounds.clients_per_round * rounds.num_steps in expected
        assert chosen is None or chosen.positive_m == recipe.branches[0].mining.positive_m, (
            "near is what the recipe says"
        )
    assert len({str(one) for one in made.values()}) == len(ARMS), "no two arms are one"
    assert made[CENTRAL][0].clients_per_round == 1
    assert made["fedvc, skewed"][0].strategy == "fedvc"
    assert made["fedvc, skewed"][2].skew > 1
    assert made["fedvc, skewed, SGD"][1].optimizer.name == "sgd"


def test_an_arm_is_measured(tmp_path: Path) -> None:
    try:
        Flower.find()
    except ModelError as error:
        pytest.skip(str(error))
    world = tmp_path / "city"
    render_world(
        world,
        seed=5,
        preset="tiny",
        options=WorldOptions(capture=CaptureOptions(width=64, height=48)),
        num_workers=1,
    )
    changes = "mining.num_queries=4 mining.num_candidates=12"
    options = {
        **{
            "train": str(world),
            "data": str(world),
            "changes": changes,
            "clients": 2,
            "min_queries": 3,
        },
        **{"rounds": 1, "clients_per_round": 2, "steps": 1},
    }
    budget = Budget(("arm=fedavg,_random,seed=0",), is_measuring=True)
    result = run_study(
        get_study("federated"),
        out=tmp_path / "study",
        options=options,
        budget=budget,
        show_progress=False,
    )
    values = next(run.values for run in result.runs if run.run.key == "arm=fedavg,_random,seed=0")
    assert values["local steps"].value == values["clients"].value == 2
    assert 0 <= values["recall@1"].value <= 1
    assert values["sent"].value > 1
