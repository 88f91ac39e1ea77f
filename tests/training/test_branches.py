"""Several branches in one step: what an update is, kills and processes, opponents, and updates
without a folder."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("accelerate")
pytest.importorskip("pytorch_metric_learning")

from torch import Tensor, nn

from two_processes import Calm, environment, run_in_two
from whence.cards import Entry
from whence.cli import run
from whence.data.formats import EvaluationSet, read_folders
from whence.errors import BadOption, NoPhotos, UnknownName
from whence.recipes import get_recipe
from whence.registry import KINDS
from whence.training.checkpoints import checkpoint_file, newest_checkpoint, read_checkpoint
from whence.training.loop import FINAL
from whence.training.options.kinds import BranchOptions
from whence.training.options.loop import OptimizerOptions
from whence.training.recipe import Recipe, field_names, override
from whence.training.record import read_log
from whence.training.step import Step
from whence.training.task import BatchPlace, Branch, Draw, Losses, Read, Setup, Share
from whence.training.train import make_task, train
from whence.worlds.capture import CaptureOptions
from whence.worlds.city import WorldOptions, render_world


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another tiny city."""
    folder = tmp_path_factory.mktemp("other") / "city"
    render_world(
        folder,
        preset="tiny",
        seed=5,
        options=WorldOptions(capture=CaptureOptions(width=64, height=48)),
        num_workers=1,
    )
    return folder


@pytest.fixture(scope="module")
def pixels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pixels")


def command(world: Path, other: Path, out: Path, *more: str) -> list[str]:
    sets = [
        "--dataset",
        f"places={world / 'database'}",
        "--dataset",
        f"tuples={other}",
        "--cache",
        str(out.parent / "pixels"),
    ]
    return [
        "train",
        "tiny-joint",
        *sets,
        "--out",
        str(out),
        "-q",
        "--set",
        "loop.log_every=1",
        *more,
    ]


def all_tensors(folder: Path) -> dict[str, Tensor]:
    return (
        read_checkpoint(newest_checkpoint(folder / "checkpoints") or "").tensors
        | read_checkpoint(folder / FINAL).tensors
    )


def losses_of(folder: Path) -> list[dict[str, float]]:
    lines = [line for line in read_log(folder / "log.jsonl") if "loss" in line]
    return [{name: line[name] for name in ("loss", "places", "tuples")} for line in lines]


def test_two_branches_on_two_sets_are_killed_and_go_on(
    world: Path, other: Path, tmp_path: Path
) -> None:
    """What is logged is the weighted sum, and each branch; a killed run ends bit by bit as one that
    was not."""
    assert run(command(world, other, tmp_path / "whole", "--val", str(world))) == 0
    for line in losses_of(tmp_path / "whole"):
        assert line["loss"] == pytest.approx(line["places"] + 0.5 * line["tuples"], rel=1e-6)
    words = command(world, other, tmp_path / "parts", "--val", str(world))
    running = subprocess.Popen([sys.executable, "-m", "whence", *words], env=environment())
    first = checkpoint_file(tmp_path / "parts" / "checkpoints", 3)
    while running.poll() is None and not first.is_file():
        time.sleep(0.002)
    running.send_signal(signal.SIGKILL)
    running.wait()
    # Where the kill came late, what was made after the first checkpoint goes.
    checkpoint_file(tmp_path / "parts" / "checkpoints", 6).unlink(missing_ok=True)
    assert run([*words, "--resume"]) == 0
    whole, parts = all_tensors(tmp_path / "whole"), all_tensors(tmp_path / "parts")
    assert whole.keys() == parts.keys()
    assert any(name.startswith("branches.1.state.") for name in whole)
    for name, value in whole.items():
        assert torch.equal(value, parts[name]), name
    assert losses_of(tmp_path / "whole") == losses_of(tmp_path / "parts")


def test_two_processes_share_both_branches(
    world: Path, other: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = [
        word for change in ("optimizer.name=sgd", "optimizer.lr=0.05") for word in ("--set", change)
    ]
    with monkeypatch.context() as patched:
        patched.setattr(torch.nn, "BatchNorm2d", Calm)
        assert run(command(world, other, tmp_path / "one", *more)) == 0
        start = make_task(
            get_recipe("tiny-joint"), read_folders(world), pixels_folder=tmp_path
        ).learner.state_dict()
    run_in_two(command(world, other, tmp_path / "two", *more), tmp_path)
    one, two = (read_checkpoint(tmp_path / name / FINAL).tensors for name in ("one", "two"))
    for first, second in zip(losses_of(tmp_path / "one"), losses_of(tmp_path / "two"), strict=True):
        assert second == pytest.approx(first, rel=1e-3)
    moved = max(float((one[name] - start[name]).abs().max()) for name in one)
    apart = max(float((one[name] - two[name]).abs().max()) for name in one)
    assert moved > 1e-4
    assert apart < 1e-2 * moved


def stepped(recipe: Recipe, data: EvaluationSet, pixels: Path, *, num: int = 1) -> Step:
    step = Step(
        make_task(recipe, data, pixels_folder=pixels, show_progress=False), options=recipe.loop
    )
    with step:
        step.open()
        for _ in range(num):
            step.take()
    return step


@pytest.mark.parametrize("accumulate", [1, 2])
def test_gradients_one_after_the_other_are_those_of_the_sum(
    accumulate: int, world: Path, pixels: Path
) -> None:
    """Plain SGD with a rate of 1: the weights move by the gradient, whichever way it is taken."""
    changes = [
        "optimizer.name=sgd",
        "optimizer.lr=1",
        "optimizer.momentum=0",
        f"loop.accumulate={accumulate}",
    ]
    recipe, data = override(get_recipe("tiny-joint"), changes), read_folders(world)
    start = make_task(recipe, data, pixels_folder=pixels).learner.state_dict()
    apart = stepped(recipe, data, pixels).learner.state_dict()
    joint = stepped(override(recipe, ["loop.gradients=joint"]), data, pixels).learner.state_dict()
    alone = [
        stepped(
            replace(recipe, branches=(replace(branch, weight=branch.weight),)), data, pixels
        ).learner.state_dict()
        for branch in recipe.branches
    ]
    for name, before in start.items():
        if before.is_floating_point() and "running" not in name:
            gradient = apart[name] - before
            assert torch.allclose(gradient, joint[name] - before, atol=2e-6), name
            assert torch.allclose(gradient, sum(one[name] - before for one in alone), atol=2e-6), (
                name
            )
    assert any(float((apart[name] - start[name]).abs().max()) > 1e-4 for name in start)


def test_one_loss_compares_the_photos_of_all_branches(world: Path, pixels: Path) -> None:
    """The loss over both batches side by side, no label of one that of another; and who cannot
    share one is refused."""
    one = replace(get_recipe("tiny-joint").branches[0], name="one")
    changes = ["optimizer.name=sgd", "optimizer.lr=1", "loop.losses=one"]
    recipe, data = (
        override(
            replace(get_recipe("tiny-joint"), branches=(one, replace(one, name="other"))), changes
        ),
        read_folders(world),
    )
    task = make_task(recipe, data, pixels_folder=pixels, show_progress=False)
    with Step(task, options=recipe.loop) as step:
        step.open()
        start = {name: value.clone() for name, value in task.learner.state_dict().items()}
        draws = [step._draw(0, number) for number in range(2)]
        contents = [
            branch.change(branch.read(BatchPlace(0, 0), Share()).content, draw)
            for branch, draw in zip(task.branches, draws, strict=True)
        ]
        task.learner.train()
        seen = [task.learner(images) for images, _ in contents]
        labels = [labels + 1000 * number for number, (_, labels) in enumerate(contents)]
        expected = task.branches[0].loss(torch.cat(seen), torch.cat(labels))
        gradients = torch.autograd.grad(
            expected, [value for value in task.learner.parameters() if value.requires_grad]
        )
        task.learner.load_state_dict(start)
        assert step.take()["loss"] == pytest.approx(float(expected.detach()), rel=1e-5)
        moved = [
            start[name] - value
            for name, value in task.learner.named_parameters()
            if value.requires_grad
        ]
    for gradient, way in zip(gradients, moved, strict=True):
        assert torch.allclose(gradient, way, atol=1e-5)
    assert max(float(way.detach().abs().max()) for way in moved) > 1e-4
    with pytest.raises(BadOption, match="no loss over pairs"):
        make_task(
            override(get_recipe("tiny-joint"), ["loop.losses=one"]), data, pixels_folder=pixels
        )
    with pytest.raises(BadOption, match="different losses"):
        make_task(
            override(recipe, ["branches.1.loss.name=contrastive"]), data, pixels_folder=pixels
        )


def test_updates_without_a_folder_are_those_of_a_run(
    world: Path, pixels: Path, tmp_path: Path
) -> None:
    """As a client of federated rounds takes them: a few updates, the weights out, others in, a few
    more."""
    recipe, data = get_recipe("tiny-joint"), read_folders(world)
    train(recipe, data, out=tmp_path / "run", pixels_folder=pixels, show_progress=False)
    ran = read_checkpoint(tmp_path / "run" / FINAL).tensors
    before = set(tmp_path.rglob("*"))
    step = Step(
        make_task(recipe, data, pixels_folder=pixels, show_progress=False), options=recipe.loop
    )
    with step:
        step.open()
        first = [step.take() for _ in range(3)]
        held = {name: value.clone() for name, value in step.learner.state_dict().items()}
        step.learner.load_state_dict(held)
        second = [step.take() for _ in range(3)]
        end = {name: value.clone() for name, value in step.learner.state_dict().items()}
        tensors, values = (
            {name: value.clone() for name, value in step.tensors().items()},
            step.values(),
        )
        expected = [step.take() for _ in range(2)]
    assert set(tmp_path.rglob("*")) == before
    for name, value in end.items():
        assert torch.equal(value, ran[name]), name
    assert [values["loss"] for values in first + second][1::2] == [
        line["loss"] for line in read_log(tmp_path / "run" / "log.jsonl") if "loss" in line
    ]
    # Another one goes on from what this one gave.
    again = Step(
        make_task(recipe, data, pixels_folder=pixels, show_progress=False), options=recipe.loop
    )
    with again:
        again.open(is_begun=True)
        again.load(tensors, values)
        assert [again.take() for _ in range(2)] == expected
    for name, value in again.learner.state_dict().items():
        assert torch.equal(value, step.learner.state_dict()[name]), name


class Critic(nn.Module):
    """Tells from a descriptor which of two things it was made of."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(dim, 1)

    def forward(self, descriptors: Tensor) -> Tensor:
        return self.linear(descriptors)


@dataclass(frozen=True, slots=True)
class RivalOptions(BranchOptions):
    """A branch with an opponent, for tests."""

    kind: Literal["rival"] = "rival"
    num_photos: int = 4


class RivalBranch(Branch):
    """Random photos: the opponent learns to see which half a photo is of, the learner learns that
    it cannot."""

    opponent_optimizer = OptimizerOptions("sgd", lr=0.5, momentum=0.0)

    def __init__(self, options: RivalOptions, given: Setup) -> None:
        super().__init__(options.name or options.kind)
        self.weight, self.num = options.weight, options.num_photos
        torch.manual_seed(9)
        self.opponent = Critic(given.learner.module.dim)

    def num_batches(self, epoch: int) -> int:
        return 3

    def read(self, place: BatchPlace, share: Share) -> Read:
        random = np.random.default_rng([place.epoch, place.number])
        return Read(
            torch.from_numpy(random.normal(size=(self.num, 3, 48, 64)).astype(np.float32)), self.num
        )

    def learn(self, learner: nn.Module, content: Tensor, draw: Draw) -> Losses:
        descriptors = learner(content)
        is_first = (torch.arange(self.num) < self.num // 2).float()[:, None]
        assert self.opponent is not None
        told = nn.functional.binary_cross_entropy_with_logits(
            self.opponent(descriptors.detach()), is_first
        )
        with frozen(self.opponent):
            fooled = nn.functional.binary_cross_entropy_with_logits(
                self.opponent(descriptors), 1 - is_first
            )
        return Losses(fooled, opponent=told)


class frozen:  # noqa: N801 (a context, named as what it makes of the module)
    """A module whose weights get no gradients within."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    def __enter__(self) -> None:
        self.module.requires_grad_(False)

    def __exit__(self, *_: Any) -> None:
        self.module.requires_grad_(True)


@pytest.fixture
def rival(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(KINDS["branch"], "rival", Entry(RivalBranch, settings=RivalOptions))


@pytest.mark.usefixtures("rival")
def test_an_opponent_has_an_optimizer_of_its_own(world: Path, pixels: Path, tmp_path: Path) -> None:
    """One update by hand: the learner by the gradient of its loss alone, the opponent by that of
    its own, each at its rate."""
    changes = [
        "optimizer.name=sgd",
        "optimizer.lr=0.1",
        "optimizer.momentum=0",
        "loop.num_steps=4",
        "loop.save_every=2",
    ]
    plain = override(get_recipe("tiny-joint"), changes)
    recipe = replace(plain, branches=(RivalOptions(weight=2.0),))
    assert Recipe.from_json(recipe.to_json()) == recipe
    data = read_folders(world)
    made = make_task(recipe, data, pixels_folder=pixels)
    learner, branch = made.learner.train(), made.branches[0]
    content = branch.read(BatchPlace(0, 0), Share()).content
    critic = branch.opponent
    assert critic is not None
    is_first = torch.tensor([[1.0], [1.0], [0.0], [0.0]])
    descriptors = learner(content)
    fooled = nn.functional.binary_cross_entropy_with_logits(critic(descriptors), 1 - is_first)
    told = nn.functional.binary_cross_entropy_with_logits(critic(descriptors.detach()), is_first)
    moving = [weight for weight in learner.parameters() if weight.requires_grad]
    expected = [
        w - 0.1 * 2.0 * g
        for w, g in zip(moving, torch.autograd.grad(fooled, moving, retain_graph=True), strict=True)
    ]
    rivals = list(critic.parameters())
    expected_rivals = [
        w - 0.5 * g for w, g in zip(rivals, torch.autograd.grad(told, rivals), strict=True)
    ]
    step = stepped(recipe, data, pixels)
    found = [weight for weight in step.learner.parameters() if weight.requires_grad]
    assert len(step.optimizers) == 2
    assert all(
        torch.allclose(one, two, atol=1e-6) for one, two in zip(found, expected, strict=True)
    )
    opponent = step.task.branches[0].opponent
    assert opponent is not None
    assert all(
        torch.allclose(one, two, atol=1e-6)
        for one, two in zip(opponent.parameters(), expected_rivals, strict=True)
    )
    # Both come back after a stop.
    for name in ("whole", "parts"):
        train(recipe, data, out=tmp_path / name, pixels_folder=pixels, show_progress=False)
    checkpoint_file(tmp_path / "parts" / "checkpoints", 4).unlink()
    train(
        recipe,
        data,
        out=tmp_path / "parts",
        pixels_folder=pixels,
        show_progress=False,
        is_resumed=True,
    )
    whole, parts = all_tensors(tmp_path / "whole"), all_tensors(tmp_path / "parts")
    assert {"branches.0.opponent.linear.weight"} < whole.keys() == parts.keys()
    assert all(torch.equal(value, parts[name]) for name, value in whole.items())
    assert "rival.opponent" in read_log(tmp_path / "whole" / "log.jsonl")[0]


def test_names_of_fields_may_be_short() -> None:
    recipe = get_recipe("tiny-joint")
    both = override(
        recipe,
        ["augment.width=80", "backbone=resnet18conv3", "mining.name=full", "branches.0.weight=3"],
    )
    assert [branch.augment.width for branch in both.branches] == [80, 80]  # type: ignore[attr-defined]
    assert both.learner.backbone == "resnet18conv3"  # type: ignore[attr-defined]
    assert both.branches[1].mining.name == "full"  # type: ignore[attr-defined]
    assert [branch.weight for branch in both.branches] == [3.0, 0.5]
    one = override(recipe, ["branches.1.augment.width=80"])
    assert [branch.augment.width for branch in one.branches] == [64, 80]  # type: ignore[attr-defined]
    assert {"mining.name", "branches.1.mining.name", "learner.backbone", "backbone"} <= set(
        field_names(recipe)
    )
    with pytest.raises(UnknownName, match=r"mining\.num_negatives"):
        override(recipe, ["mining.num_negative=3"])
    with pytest.raises(UnknownName, match="places"):
        Recipe.from_json(recipe.to_json().replace('"kind": "places"', '"kind": "place"'))


def misnamed(recipe: Recipe) -> Recipe:
    return replace(recipe, branches=(recipe.branches[0], recipe.branches[0]))


def idle(recipe: Recipe) -> Recipe:
    return override(recipe, ["weight=0"])


@pytest.mark.parametrize(
    ("change", "message"), [(misnamed, "branches.1.name"), (idle, "nothing would be learned")]
)
def test_branches_that_cannot_be_are_said(
    change: Callable[[Recipe], Recipe], message: str, world: Path, pixels: Path
) -> None:
    with pytest.raises(BadOption, match=message):
        make_task(change(get_recipe("tiny-joint")), read_folders(world), pixels_folder=pixels)


def test_datasets_are_found_by_their_names(
    world: Path, other: Path, pixels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe, first, second = get_recipe("tiny-joint"), read_folders(world), read_folders(other)
    task = make_task(recipe, {"places": first, "tuples": second}, pixels_folder=pixels)
    assert set(task.data) == {"places", "tuples"}
    asked = override(recipe, ["branches.0.dataset=a", "branches.1.dataset=b"])
    assert make_task(asked, {"b": second, "a": first}, pixels_folder=pixels).data == task.data
    with pytest.raises(BadOption, match="--dataset tuples=FOLDER"):
        make_task(recipe, {"places": first, "other": second}, pixels_folder=pixels)
    with pytest.raises(NoPhotos, match="a set"):
        make_task(recipe, first.database, pixels_folder=pixels)
    idle_tuples = override(recipe, ["branches.1.weight=0"])
    assert [
        branch.name
        for branch in make_task(idle_tuples, first.database, pixels_folder=pixels).branches
    ] == ["places"]
    out = ["--out", str(tmp_path / "run")]
    assert run(["train", "tiny-joint", "--dataset", str(world), "--dataset", str(other), *out]) == 1
    assert "NAME=FOLDER" in capsys.readouterr().err
    assert (
        run(
            [
                "train",
                "tiny-joint",
                *command(world, other, tmp_path / "run")[2:6],
                "--dry-run",
                "--json",
            ]
        )
        == 0
    )
    assert '"num_places"' in (said := capsys.readouterr().out)
    assert '"num_queries"' in said
