"""Photos seen in fixed ways: over a backbone that never learns their maps are computed once, and a
step is the one over photos."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("timm")
pytest.importorskip("accelerate")
pytest.importorskip("pytorch_metric_learning")

from whence.data.formats import read_folders
from whence.data.partition import CellOptions
from whence.errors import BadOption
from whence.models.backbones.base import Backbone, Features
from whence.recipes import get_recipe
from whence.training import frozen, learners
from whence.training.frozen import FrozenMaps
from whence.training.options.augment import AugmentOptions
from whence.training.options.classes import ClassesOptions
from whence.training.options.learners import NetworkOptions
from whence.training.options.tuples import MiningOptions, TuplesOptions
from whence.training.recipe import Recipe, override
from whence.training.step import Step
from whence.training.train import make_task

SMALL = (
    "augment.width=64", "augment.height=64", "batches.num_places=4", "batches.min_apart_m=8",
    "places.radius_m=15", "places.max_turn_deg=60", "loop.num_steps=3", "loop.precision=no",
    "optimizer.name=sgd", "optimizer.lr=1",
)  # fmt: skip
CHANGED = (
    "augment.num_views=3",
    "augment.brightness=0.4",
    "augment.crop=0.3",
    "augment.flip_share=0.5",
)


@pytest.fixture(autouse=True)
def _random_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights of the release are some random ones, the same for every seed."""

    def fill(backbone: Backbone) -> None:
        random = torch.Generator().manual_seed(3)
        for weights in backbone.parameters():
            if weights.ndim > 1:
                torch.nn.init.kaiming_normal_(weights, generator=random)

    monkeypatch.setattr(learners, "load_imagenet", fill)


def places(*changes: str) -> Recipe:
    return override(get_recipe("whence-lite0"), [*SMALL, *changes])


def tuples(*changes: str) -> Recipe:
    """Mined tuples on the same backbone."""
    mining = MiningOptions(
        num_queries=4, num_candidates=12, num_negatives=2, positive_m=15, excluded_m=15
    )
    branch = TuplesOptions(augment=AugmentOptions(64, 64), mining=mining, batch_queries=2)
    changes = (
        "loop.num_steps=3",
        "loop.precision=no",
        "optimizer.name=sgd",
        "optimizer.lr=0.1",
        *changes,
    )
    return override(replace(get_recipe("whence-lite0"), branches=(branch,)), changes)


def sides(*changes: str) -> Recipe:
    """Crops of panoramas towards focal points, in groups."""
    classes = ClassesOptions(
        cells=CellOptions(8.0, 360.0, 2, 1, 3),
        num_groups=0,
        batch_size=3,
        batches_per_turn=1,
        augment=AugmentOptions(32, 32),
    )
    branches = tuple(replace(classes, name=view, view=view) for view in ("lateral", "frontal"))
    return override(replace(places(), branches=branches), changes)


def weights_after(
    recipe: Recipe, source: Any, pixels: Path, monkeypatch: pytest.MonkeyPatch | None = None
) -> dict[str, Any]:
    """Weights after the recipe's steps; with `monkeypatch`, maps are not kept."""
    if monkeypatch is not None:
        from whence.training import ways

        monkeypatch.setattr(ways.Ways, "open", lambda self: None)
    task = make_task(recipe, source, pixels_folder=pixels, show_progress=False)
    with Step(task, options=recipe.loop) as step:
        step.open()
        for _ in range(recipe.loop.num_steps):
            step.take()
    return step.learner.state_dict()


@pytest.mark.parametrize(
    "recipe",
    [places(), places(*CHANGED), tuples(*CHANGED), sides(*CHANGED)],
    ids=["plain", "changed", "tuples", "classes"],
)
def test_a_step_over_kept_maps_is_one_over_photos(
    recipe: Recipe, world: Path, sf_xl: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source: Any = sf_xl if recipe.branches[0].kind == "classes" else read_folders(world)
    start = make_task(recipe, source, pixels_folder=tmp_path / "a").learner.state_dict()
    over_maps = weights_after(recipe, source, tmp_path / "a")
    again = weights_after(recipe, source, tmp_path / "a")
    over_photos = weights_after(recipe, source, tmp_path / "b", monkeypatch)
    has_moved = False
    for name, value in over_photos.items():
        if name.startswith("backbone"):
            assert torch.equal(over_maps[name], start[name]), name
        elif value.is_floating_point():
            moved = float((value - start[name]).abs().max())
            has_moved |= moved > 1e-5
            assert float((over_maps[name] - value).abs().max()) <= 0.1 * moved + 1e-6, name
            assert torch.equal(over_maps[name], again[name]), (
                "maps that were kept are those that were computed"
            )
    assert has_moved


class Doubling(Backbone):
    """Twice the mean colour in one place, and how often it was asked."""

    name, channels, stride = "doubling", 3, 1

    def __init__(self, *, has_token: bool = False) -> None:
        super().__init__()
        self.num_images, self.has_token = 0, has_token

    def forward(self, images: torch.Tensor) -> Features:
        self.num_images += len(images)
        found = 2 * images.mean((2, 3), keepdim=True)
        return Features(found, found.flatten(1) if self.has_token else None)


@pytest.mark.parametrize("has_token", [False, True])
def test_maps_are_computed_once_by_all_trainings_together(
    has_token: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frozen, "_PART", 4)
    images = torch.arange(7.0).reshape(7, 1, 1, 1).expand(7, 3, 2, 2)
    keys = [f"{number:024}" for number in range(7)]

    def opened() -> tuple[FrozenMaps, Doubling]:
        backbone = Doubling(has_token=has_token)
        return FrozenMaps(tmp_path, backbone, device=torch.device("cpu"), dtype=None), backbone

    first, asked = opened()
    found = first.features([keys[2], keys[0], keys[2]], images[[2, 0]])
    assert found.map[:, 0, 0, 0].tolist() == [4, 0, 4]
    assert (found.cls is not None) == has_token
    second, _ = opened()
    assert len(second) == 0, "nothing is written yet"
    second.features(keys, images)
    assert len(opened()[0]) == 7, "a whole part is written at once"
    first.keep()
    third, also = opened()
    found = third.features(keys[::-1], None)
    assert found.map[:, 0, 0, 0].tolist() == [12, 10, 8, 6, 4, 2, 0]
    assert (found.cls is not None) == has_token
    assert (asked.num_images, also.num_images) == (2, 0)
    parts = sorted(tmp_path.glob("*.maps.npy"))
    assert len(parts) == 2
    sorted(tmp_path.glob("*.keys.npy"))[0].unlink()
    assert len(opened()[0]) < 7 or len(np.load(parts[0])) < 7, (
        "a part without its keys was never finished"
    )


def test_ways_are_told_apart(world: Path, tmp_path: Path) -> None:
    """Each photo has as many as were asked for, whatever the seed; other sizes and strengths have
    maps of their own."""
    folders = set()
    for changes in (CHANGED, (*CHANGED, "loop.seed=5"), (*CHANGED, "augment.crop=0.2")):
        weights_after(places(*changes), read_folders(world), tmp_path)
        folders.add(frozenset(folder.name for folder in tmp_path.glob("maps-*")))
    assert sorted(map(len, folders)) == [1, 2]
    first = next(iter(min(folders, key=len)))
    keys = np.concatenate([np.load(file) for file in (tmp_path / first).glob("*.keys.npy")])
    assert len(np.unique(keys)) > 8


def test_other_sizes_at_first_are_refused(world: Path, tmp_path: Path) -> None:
    changes = ("augment.small_steps=2", "augment.small_width=32", "augment.small_height=32")
    with pytest.raises(BadOption, match="photos seen in fixed ways have one size"):
        make_task(places(*changes), read_folders(world), pixels_folder=tmp_path)


def test_a_backbone_that_learns_keeps_nothing(world: Path, tmp_path: Path) -> None:
    recipe = replace(
        places("augment.num_views=1"), learner=NetworkOptions(backbone="resnet18conv2")
    )
    weights_after(override(recipe, ["loop.num_steps=1"]), read_folders(world), tmp_path)
    assert not list(tmp_path.glob("maps-*"))
