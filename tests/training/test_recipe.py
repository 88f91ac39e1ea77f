"""Recipes as values: overriding by name, refusing what does not exist, the schedule, and the
verb."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from whence.cli import run
from whence.errors import BadOption, UnknownName
from whence.recipes import RECIPES, get_recipe, list_recipes
from whence.training.options.loop import OptimizerOptions, ScheduleOptions
from whence.training.recipe import field_names, override


def test_fields_are_replaced_by_name() -> None:
    recipe = override(
        get_recipe("tiny"),
        [
            "optimizer.lr=1e-4",
            "batches.num_views=3",
            "loss.options.alpha=1",
            "loop.is_channels_last=true",
            "optimizer.weight_decay=0",
        ],
    )
    assert recipe.optimizer == OptimizerOptions(lr=1e-4, weight_decay=0.0)
    assert isinstance(recipe.optimizer.weight_decay, float)
    assert recipe.branches[0].batches.num_views == 3
    assert recipe.branches[0].loss.options == {"alpha": 1}
    assert recipe.loop.is_channels_last
    assert get_recipe("tiny").optimizer.lr == 1e-3, "the recipe itself stays"


@pytest.mark.parametrize(
    ("assignment", "nearest"),
    [
        ("optimizer.lrr=1", "optimizer.lr"),
        ("optimiser.lr=1", "optimizer.lr"),
        ("loop.num_step=5", "loop.num_steps"),
        ("los=1", "loss"),
    ],
)
def test_unknown_fields_are_refused_with_the_nearest(assignment: str, nearest: str) -> None:
    with pytest.raises(UnknownName, match=nearest):
        override(get_recipe("tiny"), [assignment])


@pytest.mark.parametrize(
    "assignment",
    [
        "optimizer.lr=fast",
        "loop.num_steps=1.5",
        "loop.num_steps=true",
        "batches.has_own=1",
        "name=3",
        "loss.options=3",
    ],
)
def test_values_of_another_kind_are_refused(assignment: str) -> None:
    with pytest.raises(BadOption, match=assignment.partition("=")[0]):
        override(get_recipe("tiny"), [assignment])
    with pytest.raises(UnknownName, match="bf16"):
        override(get_recipe("tiny"), ["loop.precision=bf8"])
    with pytest.raises(UnknownName):
        override(get_recipe("tiny"), ["optimizer=3"])


@pytest.mark.parametrize("name", list_recipes())
def test_recipes_are_values_that_survive_json(name: str) -> None:
    recipe = get_recipe(name)
    assert recipe.name == name
    assert recipe.summary
    kind = type(recipe)
    assert kind.from_json(recipe.to_json()) == recipe
    with pytest.raises(UnknownName, match=r"optimizer\.momentum"):
        kind.from_json(recipe.to_json().replace('"momentum"', '"momentun"', 1))
    assert {"optimizer.lr", "loop.num_steps", "schedule.name"} <= set(field_names(recipe))
    json.loads(recipe.to_json())


def test_unknown_recipes_are_refused() -> None:
    with pytest.raises(UnknownName, match="tiny"):
        get_recipe("tny")
    assert set(list_recipes()) == set(RECIPES)


def test_rates_are_their_formulas() -> None:
    pytest.importorskip("torch")
    from whence.training.optimization import rate_share

    cosine = ScheduleOptions("cosine", warmup_steps=10, final_share=0.1)
    shares = [rate_share(step, options=cosine, num_steps=110) for step in range(110)]
    assert shares[:10] == pytest.approx([(k + 1) / 10 for k in range(10)])
    for step in (10, 35, 60, 109):
        assert shares[step] == pytest.approx(
            0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * (step - 10) / 100))
        )
    linear = ScheduleOptions("linear", final_share=0.2)
    assert [rate_share(step, options=linear, num_steps=4) for step in range(4)] == pytest.approx(
        [1, 0.8, 0.6, 0.4]
    )
    assert rate_share(99, options=ScheduleOptions(), num_steps=100) == 1
    with pytest.raises(UnknownName, match="cosine"):
        rate_share(0, options=ScheduleOptions("cosin"), num_steps=1)


def test_optimizers_leave_norms_and_biases_without_decay() -> None:
    torch = pytest.importorskip("torch")
    from whence.training.optimization import make_optimizer

    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    loss = torch.nn.Linear(4, 5, bias=False)
    optimizer = make_optimizer(
        network, [(loss, 1.0)], options=OptimizerOptions("adamw", lr=1e-3, weight_decay=0.1)
    )
    groups = [
        (group["full_lr"], group["weight_decay"], len(group["params"]))
        for group in optimizer.param_groups
    ]
    assert groups == [(1e-3, 0.1, 1), (1e-3, 0.0, 3), (1.0, 0.0, 1)]
    everything = OptimizerOptions("sgd", lr=1e-3, weight_decay=0.1, decays_all=True)
    optimizer = make_optimizer(network, [(loss, 1.0)], options=everything)
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.1, 0.1, 0.0], (
        "as the published GeoWarp decays"
    )
    network.requires_grad_(False)
    with pytest.raises(BadOption, match="nothing is left"):
        make_optimizer(network, options=OptimizerOptions())
    with pytest.raises(UnknownName, match="adamw"):
        make_optimizer(loss, options=OptimizerOptions("adamv"))


def test_the_verb_lists_and_resolves(capsys: pytest.CaptureFixture[str], street: Path) -> None:
    assert run(["train"]) == 0
    assert "tiny" in capsys.readouterr().out
    assert run(["train", "--json"]) == 0
    assert {json.loads(line)["name"] for line in capsys.readouterr().out.splitlines()} == set(
        RECIPES
    )
    places = ["--set", "places.radius_m=100", "--set", "batches.min_apart_m=0"]
    assert (
        run(
            [
                "train",
                "tiny",
                "--dry-run",
                "--json",
                "--dataset",
                str(street),
                "--set",
                "augment.crop=0.25",
                *places,
            ]
        )
        == 0
    )
    record = json.loads(capsys.readouterr().out)
    assert record["recipe"]["branches"][0]["augment"]["crop"] == 0.25
    assert record["data"]["num_photos"] == 48
    assert record["data"]["num_places"] > 0
    assert run(["train", "tiny", "--dry-run"]) == 0
    assert json.loads(capsys.readouterr().out)["recipe"]["name"] == "tiny"


def test_the_verb_says_what_is_wrong(
    capsys: pytest.CaptureFixture[str], street: Path, tmp_path: Path
) -> None:
    assert run(["train", "tny", "--dry-run"]) == 1
    assert "tiny" in capsys.readouterr().err
    assert run(["train", "tiny", "--set", "optimizer.rl=1", "--dry-run"]) == 1
    assert "optimizer.lr" in capsys.readouterr().err
    assert run(["train", "tiny", "--out", str(tmp_path / "run")]) == 1
    assert "--dataset" in capsys.readouterr().err
    assert run(["train", "tiny", "--dataset", str(street)]) == 1
    assert "--out" in capsys.readouterr().err
    assert (
        run(
            [
                "train",
                "tiny",
                "--dataset",
                str(street),
                "--dry-run",
                "--set",
                "places.min_photos=1000",
            ]
        )
        == 1
    )
    assert "min_photos" in capsys.readouterr().err
