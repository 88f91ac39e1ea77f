"""The loop: recipes learn and resume, a killed run ends as one that was not, several processes do what one does."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("accelerate")
pytest.importorskip("pytorch_metric_learning")

from whence.data.formats import EvaluationSet, read_folders
from whence.data.scan import scan_photos
from whence.errors import BadOption, InputError
from whence.evaluation.benchmarks import EvaluationOptions, evaluate
from whence.models.descriptor import DescriptorModel
from whence.models.networks import NetworkDescriptor
from whence.recipes import get_recipe, list_recipes
from whence.registry import ModelCard, Preprocessing
from whence.training.checkpoints import newest_checkpoint, read_checkpoint
from whence.training.loop import make_network, train
from whence.training.places import Places, make_places
from whence.training.recipe import Recipe, override
from whence.training.record import read_log
from whence.training.run import BEST, FINAL, gather
from whence.worlds.capture import CaptureOptions
from whence.worlds.city import WorldOptions, render_world

ROOT = Path(__file__).parents[1]
SMALL = (
    "augment.width=64", "augment.height=48", "augment.stored_width=0", "augment.stored_height=0", "augment.small_steps=0",
    "batches.num_places=6", "batches.num_views=2", "batches.min_apart_m=8", "places.min_photos=2", "places.radius_m=15",
    "places.max_turn_deg=60", "loop.precision=no", "schedule.warmup_steps=0", "schedule.name=constant",
)  # fmt: skip


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny city of small photos. Tests must not change it."""
    folder = tmp_path_factory.mktemp("world") / "city"
    render_world(folder, preset="tiny", options=WorldOptions(capture=CaptureOptions(width=64, height=48)), num_workers=1)
    return folder


@pytest.fixture(scope="session")
def pixels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pixels")


@pytest.fixture(scope="session")
def data(world: Path) -> EvaluationSet:
    return read_folders(world)


def places_of(world: Path, recipe: Recipe) -> Places:
    return make_places(scan_photos(world / "database", world / "queries"), options=recipe.places)


def weights(folder: Path, name: str = FINAL) -> dict[str, torch.Tensor]:
    return read_checkpoint(folder / name).tensors


def assert_equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


@pytest.mark.parametrize("name", [name for name in list_recipes() if isinstance(get_recipe(name), Recipe)])
def test_check_recipe(name: str, world: Path, pixels: Path, data: EvaluationSet, tmp_path: Path) -> None:
    """Every recipe builds, lowers its loss on few photos, and resumes to the same numbers."""
    recipe = override(
        get_recipe(name), [*SMALL, "loop.num_steps=10", "loop.log_every=1", "loop.save_every=5", "loop.validate_every=5"]
    )
    assert Recipe.from_json(recipe.to_json()) == recipe
    places = places_of(world, recipe)
    done = train(recipe, places, out=tmp_path / "whole", validation=data, pixels_folder=pixels)
    losses = [line["loss"] for line in read_log(tmp_path / "whole" / "log.jsonl") if "loss" in line]
    assert len(losses) == 10
    assert np.mean(losses[-3:]) < np.mean(losses[:3])
    assert done.num_steps == 10
    assert done.best_recall is not None
    assert done.images_per_s > 0
    assert 0 <= done.waiting_share <= 1
    # The same, stopped in the middle: what was made after the checkpoint of step 5 is thrown away.
    train(recipe, places, out=tmp_path / "parts", validation=data, pixels_folder=pixels)
    for late in (tmp_path / "parts" / "checkpoints").glob("*10.safetensors"):
        late.unlink()
    again = train(recipe, places, out=tmp_path / "parts", validation=data, pixels_folder=pixels, is_resumed=True)
    assert again.num_steps == 10
    assert_equal(weights(tmp_path / "whole"), weights(tmp_path / "parts"))
    assert_equal(weights(tmp_path / "whole", BEST), weights(tmp_path / "parts", BEST))
    logs = [read_log(tmp_path / part / "log.jsonl") for part in ("whole", "parts")]
    assert [(line["step"], line.get("loss"), line.get("recall")) for line in logs[0]] == [
        (line["step"], line.get("loss"), line.get("recall")) for line in logs[1]
    ]


@pytest.mark.parametrize(
    "changes",
    [
        ["optimizer.name=sgd", "loop.ema_decay=0.9", "optimizer.clip_norm=0.5"],
        ["loss.name=cosface", "loss.miner=", "loss.lr=0.1", "loop.accumulate=2"],
        ["loop.precision=bf16", "loop.is_channels_last=true", "augment.crop=0.3", "augment.flip_share=0.5", "augment.hue=0.1"],
    ],
    ids=lambda changes: changes[0],
)
def test_every_state_is_resumed(changes: list[str], world: Path, pixels: Path, tmp_path: Path) -> None:
    recipe = override(get_recipe("tiny"), [*SMALL, "loop.num_steps=5", "loop.save_every=2", *changes])
    places = places_of(world, recipe)
    for name in ("whole", "parts"):
        train(recipe, places, out=tmp_path / name, pixels_folder=pixels)
    (tmp_path / "parts" / "checkpoints" / "step-0000005.safetensors").unlink()
    train(recipe, places, out=tmp_path / "parts", pixels_folder=pixels, is_resumed=True)
    assert_equal(weights(tmp_path / "whole"), weights(tmp_path / "parts"))
    last = [read_checkpoint(newest_checkpoint(tmp_path / name / "checkpoints") or "").tensors for name in ("whole", "parts")]
    assert_equal(*last)


def command(world: Path, out: Path, cache: Path, num_steps: int, *more: str) -> list[str]:
    settings = [*SMALL, f"loop.num_steps={num_steps}", "loop.save_every=3", "loop.log_every=1", "loop.ema_decay=0.9"]
    assignments = [word for text in settings for word in ("--set", text)]
    places = ["--dataset", str(world / "database"), "--out", str(out), "--cache", str(cache)]
    return [sys.executable, "-m", "whence", "train", "tiny", *places, *assignments, "-q", *more]


def environment() -> dict[str, str]:
    paths = os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "WHENCE_THREADS": "1"}


def test_a_killed_run_ends_as_one_that_was_not(world: Path, tmp_path: Path) -> None:
    num_steps = 40
    subprocess.run(command(world, tmp_path / "whole", tmp_path / "pixels", num_steps), env=environment(), check=True)
    kill_at = random.randint(4, num_steps - 5)
    running = subprocess.Popen(command(world, tmp_path / "parts", tmp_path / "pixels", num_steps), env=environment())
    log = tmp_path / "parts" / "log.jsonl"
    while running.poll() is None and (not log.is_file() or len(read_log(log)) < kill_at):
        time.sleep(0.005)
    running.send_signal(signal.SIGKILL)
    running.wait()
    is_cut = not (tmp_path / "parts" / FINAL).is_file()
    assert is_cut, f"the run was over before it could be killed at step {kill_at}"
    subprocess.run(command(world, tmp_path / "parts", tmp_path / "pixels", num_steps, "--resume"), env=environment(), check=True)
    assert_equal(weights(tmp_path / "whole"), weights(tmp_path / "parts"))
    losses = [[line["loss"] for line in read_log(tmp_path / name / "log.jsonl")] for name in ("whole", "parts")]
    assert losses[0] == losses[1]


TWO = """
import sys
import torch
from whence.training import loop
from whence.models.backbones import make_backbone

class Calm(torch.nn.BatchNorm2d):
    "Statistics of its own photos would depend on how a batch is shared: fixed ones do not."
    def forward(self, x):
        return torch.nn.functional.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, False)

torch.nn.BatchNorm2d = Calm
from whence.cli import run
sys.exit(run(sys.argv[1:]))
"""


def test_two_processes_do_what_one_does(world: Path, tmp_path: Path) -> None:
    """The same batches, shared by two processes (gloo, CPU): weights within rounding. Batch norms with fixed statistics."""
    script = tmp_path / "two.py"
    script.write_text(TWO)
    changes = [
        "--set",
        "augment.crop=0.3",
        "--set",
        "augment.brightness=0.3",
        "--set",
        "optimizer.name=sgd",
        "--set",
        "optimizer.lr=0.05",
    ]
    for name, launcher in {
        "one": [sys.executable],
        "two": [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"],
    }.items():
        arguments = command(world, tmp_path / name, tmp_path / "pixels", 6)[3:]
        done = subprocess.run([*launcher, str(script), *arguments, *changes], env=environment(), capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    logs = [read_log(tmp_path / name / "log.jsonl") for name in ("one", "two")]
    assert [line["loss"] for line in logs[1]] == pytest.approx([line["loss"] for line in logs[0]], rel=1e-4)
    start = make_network(override(get_recipe("tiny"), SMALL)).state_dict()
    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    moved = max(float((one[name] - start[name]).abs().max()) for name in one)
    apart = max(float((one[name] - two[name]).abs().max()) for name in one)
    assert moved > 1e-3
    assert apart < 1e-2 * moved


def test_gathering_in_one_process_changes_nothing() -> None:
    descriptors = torch.randn(3, 2)
    assert gather(descriptors, 1) is descriptors


def test_training_stops_where_validation_gets_no_better(world: Path, pixels: Path, data: EvaluationSet, tmp_path: Path) -> None:
    still = ["optimizer.lr=0.0", "loop.num_steps=50", "loop.validate_every=2", "loop.patience=2", "optimizer.name=sgd"]
    # Nothing learns, batch norms take no notice: every validation after the first is no better.
    recipe = override(get_recipe("tiny"), [*SMALL, *still, "freeze_before=layer1", "loop.ema_decay=0.999999"])
    done = train(recipe, places_of(world, recipe), out=tmp_path / "run", validation=data, pixels_folder=pixels)
    assert done.is_stopped_early
    assert done.num_steps < 50
    again = train(recipe, places_of(world, recipe), out=tmp_path / "run", validation=data, pixels_folder=pixels, is_resumed=True)
    assert again.num_steps == done.num_steps


def test_a_run_says_what_it_was_made_from(world: Path, pixels: Path, tmp_path: Path) -> None:
    recipe = override(get_recipe("tiny"), [*SMALL, "loop.num_steps=2", "loop.has_tensorboard=true"])
    places = places_of(world, recipe)
    train(recipe, places, out=tmp_path / "run", pixels_folder=pixels)
    record = json.loads((tmp_path / "run" / "recipe.json").read_text())
    assert Recipe.from_json(json.dumps(record["recipe"])) == recipe
    assert record["packages"]["torch"] == torch.__version__
    assert record["data"] == {"num_photos": len(places.photos), "num_places": len(places)}
    assert set(read_log(tmp_path / "run" / "log.jsonl")[0]) >= {"step", "loss", "lr", "images_per_s", "waiting_share"}
    assert any((tmp_path / "run" / "tensorboard").iterdir())
    with pytest.raises(InputError, match="--resume"):
        train(recipe, places, out=tmp_path / "run", pixels_folder=pixels)
    other = override(recipe, ["optimizer.lr=0.5"])
    with pytest.raises(BadOption, match=r"other values"):
        train(other, places, out=tmp_path / "run", pixels_folder=pixels, is_resumed=True)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(InputError, match="not an empty folder"):
        train(recipe, places, out=tmp_path / "full", pixels_folder=pixels)


def test_weights_to_start_from(world: Path, pixels: Path, tmp_path: Path) -> None:
    recipe = override(get_recipe("tiny"), [*SMALL, "loop.num_steps=2"])
    train(recipe, places_of(world, recipe), out=tmp_path / "run", pixels_folder=pixels)
    start = replace(recipe, start_from=str(tmp_path / "run" / FINAL))
    assert_equal(dict(make_network(start).state_dict()), weights(tmp_path / "run"))
    with pytest.raises(BadOption, match="other weights"):
        make_network(replace(start, backbone="resnet18conv3"))
    with pytest.raises(InputError, match="cannot read"):
        make_network(replace(start, start_from=str(tmp_path / "none.safetensors")))


def test_fp16_needs_a_gpu(world: Path, pixels: Path, tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    recipe = override(get_recipe("tiny"), [*SMALL, "loop.precision=fp16"])
    with pytest.raises((BadOption, ValueError), match="fp16"):
        train(recipe, places_of(world, recipe), out=tmp_path / "run", pixels_folder=pixels)


def test_validation_is_the_evaluation(world: Path, pixels: Path, data: EvaluationSet) -> None:
    """Recall while training is what `evaluate` counts for the same weights and photos of their own size."""
    from whence.training.recipe import ValidationOptions
    from whence.training.validation import Validation

    network = make_network(override(get_recipe("tiny"), SMALL))
    validation = Validation(data, options=ValidationOptions(n=5, radius_m=25.0, width=64, height=48), folder=pixels)
    found = validation.recall(network, device=torch.device("cpu"))
    card = ModelCard("made", "", network.dim, Preprocessing(), "MIT")
    result = evaluate(
        DescriptorModel(card, NetworkDescriptor(network)), data, options=EvaluationOptions(thresholds_m=(25.0,), recall_at=(5,))
    )
    assert found == pytest.approx(result.thresholds[0].all_queries[0].value, abs=0.051)
