"""Places over a backbone that never learns: kept maps are those that it makes, made once, and refused where they would differ."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("timm")
pytest.importorskip("accelerate")
pytest.importorskip("pytorch_metric_learning")

from whence.data.formats import read_folders
from whence.errors import BadOption
from whence.recipes import get_recipe
from whence.training import learners
from whence.training.branches import kept
from whence.training.options.learners import NetworkOptions
from whence.training.options.placed import PlacesOptions
from whence.training.recipe import Recipe, override
from whence.training.step import Step
from whence.training.train import make_task

SMALL = (
    "augment.width=64", "augment.height=64", "batches.num_places=4", "batches.min_apart_m=8", "places.radius_m=15",
    "places.max_turn_deg=60", "loop.num_steps=2", "loop.precision=no", "optimizer.name=sgd", "optimizer.lr=1",
)  # fmt: skip


@pytest.fixture(autouse=True)
def _random_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learners, "load_imagenet", lambda _backbone: None)


def after_one_step(recipe: Recipe, world: Path, pixels: Path) -> dict[str, torch.Tensor]:
    step = Step(make_task(recipe, read_folders(world), pixels_folder=pixels, show_progress=False), options=recipe.loop)
    with step:
        step.open()
        step.take()
    return step.learner.state_dict()


def small(*changes: str) -> Recipe:
    return override(get_recipe("whence-lite0"), [*SMALL, *changes])


def test_a_step_over_kept_maps_is_one_over_photos(world: Path, tmp_path: Path) -> None:
    recipe = small()
    branch = recipe.branches[0]
    plain = PlacesOptions(places=branch.places, batches=branch.batches, augment=branch.augment, loss=branch.loss)
    over_maps = after_one_step(recipe, world, tmp_path / "a")
    over_photos = after_one_step(replace(recipe, branches=(plain,)), world, tmp_path / "b")
    start = make_task(recipe, read_folders(world), pixels_folder=tmp_path / "a").learner.state_dict()
    for name, value in over_photos.items():
        if name.startswith("backbone"):
            assert torch.equal(over_maps[name], start[name]), name
        elif value.is_floating_point():
            moved = float((value - start[name]).abs().max())
            assert float((over_maps[name] - value).abs().max()) <= 0.1 * moved + 1e-6, name
    assert float((over_photos["aggregator.fc.weight"] - start["aggregator.fc.weight"]).abs().max()) > 1e-5


def test_maps_are_made_once_and_part_by_part(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "_PART", 8)
    recipe = small("augment.flip_share=0.5")
    after_one_step(recipe, world, tmp_path)
    folders = sorted(folder for folder in tmp_path.iterdir() if folder.is_dir())
    assert [folder.name.endswith("-mirrored") for folder in folders] == [False, True]
    files = sorted(folders[0].iterdir())
    assert len(files) > 1
    files[1].unlink()
    times = {file: file.stat().st_mtime_ns for file in files if file.is_file()}
    after_one_step(recipe, world, tmp_path)
    assert files[1].is_file()
    assert {file: file.stat().st_mtime_ns for file in times} == times


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (("augment.crop=0.3",), "leave all other augmentation out"),
        (("augment.brightness=0.2",), "leave all other augmentation out"),
    ],
)
def test_other_augmentation_is_refused(changes: tuple[str, ...], message: str, world: Path, tmp_path: Path) -> None:
    with pytest.raises(BadOption, match=message):
        make_task(small(*changes), read_folders(world), pixels_folder=tmp_path)


def test_a_backbone_that_learns_is_refused(world: Path, tmp_path: Path) -> None:
    recipe = replace(small(), learner=NetworkOptions(backbone="resnet18conv2"))
    with pytest.raises(BadOption, match="never learns"):
        make_task(recipe, read_folders(world), pixels_folder=tmp_path)
