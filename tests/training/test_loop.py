"""The loop: recipes learn and resume, a killed run ends as one that was not, several processes do
what one does."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("accelerate")
pytest.importorskip("pytorch_metric_learning")

from training_samples import given
from two_processes import Calm, environment, run_in_two
from whence.cards import ModelCard, Preprocessing
from whence.cli import run
from whence.data.formats import EvaluationSet, read_folders
from whence.data.images import load_image
from whence.data.photos import Photos
from whence.data.scan import scan_photos
from whence.errors import BadOption, InputError, MissingExtra, UnwritableFile
from whence.evaluation.benchmarks import EvaluationOptions, evaluate
from whence.models.descriptor import DescriptorModel, load_model
from whence.models.network_descriptor import NetworkDescriptor
from whence.models.networks import Network
from whence.models.preprocessing import normalise
from whence.recipes import get_recipe, list_recipes
from whence.runtime import atomic_write
from whence.training import checkpoints
from whence.training.augment import Augment
from whence.training.branches.places import PlaceBatches, Places, make_places
from whence.training.checkpoints import checkpoint_file, read_checkpoint, tensors_below
from whence.training.learners import make_network, network_card
from whence.training.loop import BEST, FINAL
from whence.training.losses.by_label import make_loss
from whence.training.options.placed import PlacesOptions
from whence.training.pixels import cached_pixels
from whence.training.recipe import Recipe, override
from whence.training.record import Log, read_log
from whence.training.task import gather
from whence.training.train import train

SMALL = (
    "augment.width=64", "augment.height=48", "augment.stored_width=0", "augment.stored_height=0",
    "augment.small_steps=0", "batches.num_places=6", "batches.num_views=2",
    "batches.min_apart_m=8", "places.min_photos=2", "places.radius_m=15", "places.max_turn_deg=60",
    "loop.precision=no", "schedule.warmup_steps=0", "schedule.name=constant",
)  # fmt: skip


@pytest.fixture(scope="session")
def pixels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pixels")


@pytest.fixture(scope="session")
def data(world: Path) -> EvaluationSet:
    return read_folders(world)


@pytest.fixture(scope="session")
def photos(world: Path) -> Photos:
    return scan_photos(world / "database", world / "queries")


def places_of(photos: Photos, recipe: Recipe) -> Places:
    return make_places(photos, options=recipe.branches[0].places)  # type: ignore[attr-defined]


def network_of(recipe: Recipe) -> Network:
    return make_network(recipe.learner, seed=recipe.loop.seed)  # type: ignore[arg-type]


def weights(folder: Path, name: str = FINAL) -> dict[str, torch.Tensor]:
    return read_checkpoint(folder / name).tensors


def assert_equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


def finds_places(recipe: Recipe) -> bool:
    """Whether it learns from places found by position alone; data sets that list theirs are in
    test_sources."""
    return all(
        isinstance(branch, PlacesOptions) and branch.places.by == "position"
        for branch in recipe.branches
    )


@pytest.mark.parametrize(
    "name", [name for name in list_recipes() if finds_places(get_recipe(name))]
)
def test_check_recipe(
    name: str, photos: Photos, pixels: Path, data: EvaluationSet, tmp_path: Path
) -> None:
    """Every recipe for places builds, lowers its loss on few photos, and resumes to the same
    numbers."""
    recipe = override(
        get_recipe(name),
        [
            *SMALL,
            "loop.num_steps=10",
            "loop.log_every=1",
            "loop.save_every=5",
            "loop.validate_every=5",
        ],
    )
    if name.startswith("image-retrieval"):
        # Too large for a small machine, and its rate is one for weights that were trained before.
        recipe = override(
            recipe,
            [
                "backbone=dinov2_vits14",
                "augment.width=70",
                "augment.height=42",
                "optimizer.lr=1e-4",
            ],
        )
    if name == "whence-lite0":
        # Its backbone takes multiples of 32 pixels, and its weights come out of a package.
        recipe = override(recipe, ["augment.height=64", "start_from="])
    assert Recipe.from_json(recipe.to_json()) == recipe
    out = tmp_path / "run"
    done = train(recipe, photos, out=out, validation=data, pixels_folder=pixels)
    whole, best, log = weights(out), weights(out, BEST), read_log(out / "log.jsonl")
    losses = [line["loss"] for line in log if "loss" in line]
    assert len(losses) == 10
    assert np.mean(losses[-3:]) < np.mean(losses[:3])
    assert done.num_steps == 10
    assert done.best_recall is not None
    assert done.images_per_s > 0
    assert 0 <= done.waiting_share <= 1
    # The same, stopped in the middle: what was made after the checkpoint of step 5 is thrown away.
    checkpoint_file(out / "checkpoints", 10).unlink()
    again = train(recipe, photos, out=out, validation=data, pixels_folder=pixels, is_resumed=True)
    assert again.num_steps == 10
    assert_equal(whole, weights(out))
    assert_equal(best, weights(out, BEST))
    said = [
        [(line["step"], line.get("loss"), line.get("recall")) for line in lines]
        for lines in (log, read_log(out / "log.jsonl"))
    ]
    assert said[0] == said[1]


@pytest.mark.parametrize(
    "changes",
    [
        ["optimizer.name=sgd", "loop.ema_decay=0.9", "optimizer.clip_norm=0.5"],
        ["loss.name=cosface", "loss.miner=", "loss.lr=0.1", "loop.accumulate=2"],
        [
            "loop.precision=bf16",
            "loop.is_channels_last=true",
            "augment.crop=0.3",
            "augment.flip_share=0.5",
            "augment.hue=0.1",
        ],
    ],
    ids=lambda changes: changes[0],
)
def test_every_state_is_resumed(
    changes: list[str], photos: Photos, pixels: Path, tmp_path: Path
) -> None:
    recipe = override(
        get_recipe("tiny"), [*SMALL, "loop.num_steps=5", "loop.save_every=2", *changes]
    )
    out = tmp_path / "run"
    train(recipe, photos, out=out, pixels_folder=pixels)
    last = checkpoint_file(out / "checkpoints", 5)
    whole, state = weights(out), read_checkpoint(last).tensors
    last.unlink()
    train(recipe, photos, out=out, pixels_folder=pixels, is_resumed=True)
    assert_equal(whole, weights(out))
    assert_equal(state, read_checkpoint(last).tensors)


def test_one_update_is_its_formula(photos: Photos, pixels: Path, tmp_path: Path) -> None:
    """Two batches accumulated, plain SGD: the weights less the rate times the mean gradient,
    everything else done by hand."""
    changes = [
        "optimizer.name=sgd",
        "optimizer.momentum=0",
        "optimizer.lr=0.1",
        "loop.accumulate=2",
        "loop.num_steps=1",
    ]
    recipe = override(get_recipe("tiny"), [*SMALL, *changes, "augment.brightness=0.3"])
    places = places_of(photos, recipe)
    train(recipe, photos, out=tmp_path / "run", pixels_folder=pixels)
    network = network_of(recipe).train()
    branch = recipe.branches[0]
    assert isinstance(branch, PlacesOptions)
    loss = make_loss(branch.loss, num_classes=len(places), dim=network.dim)
    decoded = cached_pixels(places.photos, width=64, height=48, folder=pixels)
    batches, augment = PlaceBatches(places, options=branch.batches), Augment(branch.augment)
    total = torch.zeros(())
    for number in range(2):
        rows, labels = batches.batch(0, number)
        images = augment(torch.from_numpy(decoded[rows]), step=0, batch=number)
        total = total + loss(network(images), torch.from_numpy(labels)) / 2
    total.backward()
    after = weights(tmp_path / "run")
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None
        expected = parameter.detach() - 0.1 * parameter.grad
        assert torch.allclose(after[name], expected, atol=1e-6), name
    assert read_log(tmp_path / "run" / "log.jsonl")[0]["loss"] == pytest.approx(
        float(total.detach()), rel=1e-5
    )


def test_what_is_kept_is_the_moving_average(photos: Photos, pixels: Path, tmp_path: Path) -> None:
    recipe = override(
        get_recipe("tiny"), [*SMALL, "loop.ema_decay=0.75", "loop.num_steps=2", "loop.save_every=1"]
    )
    train(recipe, photos, out=tmp_path / "run", pixels_folder=pixels)
    files = [checkpoint_file(tmp_path / "run" / "checkpoints", step) for step in (1, 2)]
    first, second = (tensors_below(read_checkpoint(file).tensors, "network") for file in files)
    kept = weights(tmp_path / "run")
    assert set(kept) == set(first)
    for name, value in kept.items():
        if value.is_floating_point():
            assert torch.allclose(value, 0.75 * first[name] + 0.25 * second[name], atol=1e-6), name
    assert any(not torch.equal(value, second[name]) for name, value in kept.items())


def command(world: Path, out: Path, cache: Path, num_steps: int, *more: str) -> list[str]:
    settings = [
        *SMALL,
        f"loop.num_steps={num_steps}",
        "loop.save_every=3",
        "loop.log_every=1",
        "loop.ema_decay=0.9",
    ]
    assignments = [word for text in settings for word in ("--set", text)]
    places = ["--dataset", str(world / "database"), "--out", str(out), "--cache", str(cache)]
    return [sys.executable, "-m", "whence", "train", "tiny", *places, *assignments, "-q", *more]


def test_a_killed_run_ends_as_one_that_was_not(world: Path, tmp_path: Path) -> None:
    num_steps = 30
    whole = command(world, tmp_path / "whole", tmp_path / "pixels", num_steps)[3:]
    assert run(whole) == 0
    kill_at = random.randint(4, num_steps - 5)
    running = subprocess.Popen(
        command(world, tmp_path / "parts", tmp_path / "pixels", num_steps), env=environment()
    )
    log = tmp_path / "parts" / "log.jsonl"
    while running.poll() is None and (not log.is_file() or len(read_log(log)) < kill_at):
        time.sleep(0.005)
    running.send_signal(signal.SIGKILL)
    running.wait()
    is_cut = not (tmp_path / "parts" / FINAL).is_file()
    assert is_cut, f"the run was over before it could be killed at step {kill_at}"
    assert (
        run(command(world, tmp_path / "parts", tmp_path / "pixels", num_steps, "--resume")[3:]) == 0
    )
    assert_equal(weights(tmp_path / "whole"), weights(tmp_path / "parts"))
    losses = [
        [line["loss"] for line in read_log(tmp_path / name / "log.jsonl")]
        for name in ("whole", "parts")
    ]
    assert losses[0] == losses[1]


def test_two_processes_do_what_one_does(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same batches, shared by two processes as torchrun starts them (gloo, CPU): weights within
    rounding.

    The miner draws its pairs; batch norms have fixed statistics.
    """
    changes = (
        "augment.crop=0.3",
        "augment.brightness=0.3",
        "optimizer.name=sgd",
        "optimizer.lr=0.2",
        "loss.miner=uniform_histogram",
    )
    more = [word for change in changes for word in ("--set", change)]
    with monkeypatch.context() as patched:
        patched.setattr(torch.nn, "BatchNorm2d", Calm)
        assert run([*command(world, tmp_path / "one", tmp_path / "pixels", 6)[3:], *more]) == 0
    run_in_two([*command(world, tmp_path / "two", tmp_path / "pixels", 6)[3:], *more], tmp_path)
    logs = [read_log(tmp_path / name / "log.jsonl") for name in ("one", "two")]
    assert [line["loss"] for line in logs[1]] == pytest.approx(
        [line["loss"] for line in logs[0]], rel=1e-3
    )
    start = network_of(override(get_recipe("tiny"), SMALL)).state_dict()
    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    moved = max(float((one[name] - start[name]).abs().max()) for name in one)
    apart = max(float((one[name] - two[name]).abs().max()) for name in one)
    assert moved > 1e-4
    assert apart < 1e-2 * moved


def test_gathering_in_one_process_changes_nothing() -> None:
    descriptors = torch.randn(3, 2)
    assert gather(descriptors, 1) is descriptors


def test_training_stops_where_validation_gets_no_better(
    photos: Photos, pixels: Path, data: EvaluationSet, tmp_path: Path
) -> None:
    still = [
        "optimizer.lr=0.0",
        "loop.num_steps=50",
        "loop.validate_every=2",
        "loop.patience=2",
        "optimizer.name=sgd",
    ]
    # Nothing learns, batch norms take no notice: every validation after the first is no better.
    recipe = override(
        get_recipe("tiny"), [*SMALL, *still, "freeze_before=layer1", "loop.ema_decay=0.999999"]
    )
    done = train(recipe, photos, out=tmp_path / "run", validation=data, pixels_folder=pixels)
    assert done.is_stopped_early
    assert done.num_steps < 50
    again = train(
        recipe, photos, out=tmp_path / "run", validation=data, pixels_folder=pixels, is_resumed=True
    )
    assert again.num_steps == done.num_steps


def test_a_run_says_what_it_was_made_from(photos: Photos, pixels: Path, tmp_path: Path) -> None:
    recipe = override(get_recipe("tiny"), [*SMALL, "loop.num_steps=2", "loop.has_tensorboard=true"])
    places = places_of(photos, recipe)
    train(recipe, photos, out=tmp_path / "run", pixels_folder=pixels)
    record = json.loads((tmp_path / "run" / "recipe.json").read_text())
    assert Recipe.from_json(json.dumps(record["recipe"])) == recipe
    assert torch.__version__.startswith(record["packages"]["torch"])
    assert record["data"] == {"num_photos": len(places.photos), "num_places": len(places)}
    assert set(read_log(tmp_path / "run" / "log.jsonl")[0]) >= {
        "step",
        "loss",
        "lr",
        "images_per_s",
        "waiting_share",
    }
    assert any((tmp_path / "run" / "tensorboard").iterdir())
    with pytest.raises(InputError, match="--resume"):
        train(recipe, photos, out=tmp_path / "run", pixels_folder=pixels)
    other = override(recipe, ["optimizer.lr=0.5"])
    with pytest.raises(BadOption, match=r"other values"):
        train(other, photos, out=tmp_path / "run", pixels_folder=pixels, is_resumed=True)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(InputError, match="not an empty folder"):
        train(recipe, photos, out=tmp_path / "full", pixels_folder=pixels)


def test_weights_are_a_model_by_their_file_name(
    world: Path, photos: Photos, pixels: Path, tmp_path: Path
) -> None:
    recipe = override(get_recipe("tiny"), [*SMALL, "loop.num_steps=1"])
    train(recipe, photos, out=tmp_path / "run", pixels_folder=pixels)
    model = load_model(str(tmp_path / "run" / FINAL), options={"engine": "eager"})
    assert model.card.preprocessing.size_px == (48, 64)
    assert model.card.name.startswith("tiny-")
    network = network_of(recipe)
    network.load_state_dict(weights(tmp_path / "run"))
    photo = load_image(sorted((world / "database").iterdir())[0])
    with torch.inference_mode():
        expected = torch.nn.functional.normalize(
            network.eval()(normalise(torch.from_numpy(photo[None]))), dim=1
        )
    assert np.allclose(model.describe([photo]), expected.numpy(), atol=1e-5)
    assert network_card(recipe.learner, network, recipe="tiny", size_px=(64, 48)) == model.card  # type: ignore[arg-type]
    other = network_card(recipe.learner, network_of(recipe), recipe="tiny", size_px=(64, 48))  # type: ignore[arg-type]
    assert other.name != model.card.name, "databases tell other weights apart"


def test_a_full_disk_leaves_the_checkpoint_before(
    photos: Photos, pixels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = override(get_recipe("tiny"), [*SMALL, "loop.num_steps=6", "loop.save_every=2"])
    out = tmp_path / "run"

    class FullDisk(io.BytesIO):
        def write(self, data: object, /) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    @contextlib.contextmanager
    def no_room(path: Path) -> Iterator[io.BytesIO]:
        if "0000004" in path.name:
            with atomic_write(path) as file:
                file.write(b"the beginning")
                FullDisk().write(b"")
        with atomic_write(path) as file:
            yield file

    with monkeypatch.context() as full:
        full.setattr(checkpoints, "atomic_write", no_room)
        with pytest.raises(UnwritableFile, match="step-0000004"):
            train(recipe, photos, out=out, pixels_folder=pixels)
    assert [file.name for file in (out / "checkpoints").iterdir()] == ["step-0000002.safetensors"]
    train(recipe, photos, out=out, pixels_folder=pixels, is_resumed=True)
    train(recipe, photos, out=tmp_path / "whole", pixels_folder=pixels)
    assert_equal(weights(out), weights(tmp_path / "whole"))


def test_without_tensorboard_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(MissingExtra, match=r"whence-vpr\[train\]"):
        Log(tmp_path / "log.jsonl", start=0, tensorboard=tmp_path)


def test_weights_to_start_from(photos: Photos, pixels: Path, tmp_path: Path) -> None:
    recipe = override(get_recipe("tiny"), [*SMALL, "loop.num_steps=2"])
    train(recipe, photos, out=tmp_path / "run", pixels_folder=pixels)
    start = override(recipe, [f"start_from={tmp_path / 'run' / FINAL}"])
    assert_equal(dict(network_of(start).state_dict()), weights(tmp_path / "run"))
    with pytest.raises(BadOption, match="other weights"):
        network_of(override(start, ["backbone=resnet18conv3"]))
    with pytest.raises(InputError, match="cannot read"):
        network_of(override(start, [f"start_from={tmp_path / 'none.safetensors'}"]))


def test_fp16_needs_a_gpu(photos: Photos, pixels: Path, tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    recipe = override(get_recipe("tiny"), [*SMALL, "loop.precision=fp16"])
    with pytest.raises((BadOption, ValueError), match="fp16"):
        train(recipe, photos, out=tmp_path / "run", pixels_folder=pixels)


def test_validation_is_the_evaluation(photos: Photos, pixels: Path, data: EvaluationSet) -> None:
    """Recall while training is what `evaluate` counts for the same weights and photos of their own
    size."""
    from whence.training.options.validation import RecallOptions
    from whence.training.probes import RecallProbe

    network = network_of(override(get_recipe("tiny"), SMALL))
    probe = RecallProbe(RecallOptions(n=5, radius_m=25.0, width=64, height=48), given(data, pixels))
    probe.open()
    found = probe.measure(network)["recall"]
    card = ModelCard("made", "", network.dim, Preprocessing(), "MIT")
    result = evaluate(
        DescriptorModel(card, NetworkDescriptor(network)),
        data,
        options=EvaluationOptions(thresholds_m=(25.0,), recall_at=(5,)),
    )
    assert found == pytest.approx(result.thresholds[0].all_queries[0].value, abs=0.051)
