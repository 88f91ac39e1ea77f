"""The branch of classes: what a batch is, what an update is, kills, and the odd cases."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("accelerate")
pytest.importorskip("pytorch_metric_learning")

from torch import Tensor, nn

from training_samples import draw, given
from two_processes import Calm, run_in_two
from whence.cli import run as run_command
from whence.data.images import load_image
from whence.data.layouts import sf_xl_folder
from whence.data.names import format_name
from whence.data.panoramas import heading_of_middle
from whence.data.partition import CellOptions, load_partition
from whence.data.photos import Photos
from whence.errors import BadOption, InputError, NoPhotos
from whence.geo import heading_difference_deg
from whence.index.cells.classifier import read_cells
from whence.recipes import get_recipe
from whence.training import checkpoints
from whence.training.branches.classes import ClassBranch
from whence.training.branches.grouped import ClassBatches, make_grouped
from whence.training.checkpoints import newest_checkpoint, read_checkpoint
from whence.training.datasets import Dataset
from whence.training.loop import FINAL
from whence.training.optimization import Plateau
from whence.training.options.augment import AugmentOptions
from whence.training.options.classes import ClassesOptions
from whence.training.options.learners import AggregatorOptions, NetworkOptions
from whence.training.options.loop import LoopOptions, OptimizerOptions, ScheduleOptions
from whence.training.options.places import LossOptions
from whence.training.recipe import Recipe, override
from whence.training.record import read_log
from whence.training.step import Step
from whence.training.task import BatchPlace, Share
from whence.training.train import make_task, train
from whence.types import Photo, PlanePoint, SkippedPhoto

SEEN = AugmentOptions(width=32, height=32)
CROPS = CellOptions(10.0, 60.0, 2, 2, 3)
STREETS = CellOptions(8.0, 360.0, 2, 1, 3)
SMALL = ClassesOptions(cells=CROPS, num_groups=0, batch_size=6, batches_per_turn=2, augment=SEEN)
SIDE = replace(SMALL, cells=STREETS, view="lateral", batch_size=3)
NETWORK = NetworkOptions(
    backbone="resnet18conv2", aggregator=AggregatorOptions("cosplace", {"dim": 8})
)
CLASSES = Recipe(
    name="small",
    learner=NETWORK,
    branches=(SMALL,),
    optimizer=OptimizerOptions("adam", lr=1e-3),
    loop=LoopOptions(num_steps=14, log_every=1, save_every=1),
)
SIDES = replace(
    CLASSES, branches=(replace(SIDE, name="lateral"), replace(SIDE, name="frontal", view="frontal"))
)


@pytest.fixture
def city(sf_xl: Path) -> Path:
    return sf_xl


def branch_of(options: ClassesOptions, source: Path | Photos, tmp_path: Path) -> ClassBranch:
    learner = type("Learner", (), {"module": type("Module", (), {"dim": 8})})
    return ClassBranch(options, given(source, tmp_path, learner=learner))


def step_of(recipe: Recipe, city: Path, tmp_path: Path) -> Step:
    return Step(
        make_task(recipe, city, pixels_folder=tmp_path, show_progress=False), options=recipe.loop
    )


def test_groups_take_turns_and_classes_are_drawn_evenly(city: Path) -> None:
    files = Dataset(city).files(are_panoramas=False)
    grouped = make_grouped(files, cells=CROPS)
    assert len(grouped.groups) > 2
    assert grouped.counts()["num_classes"] == sum(map(len, grouped.groups))
    for size in (2, 40):
        batches = ClassBatches(grouped, batch_size=size, seed=1)
        for epoch in (0, 1, len(grouped.groups)):
            group = batches.group_of(epoch)
            assert group == epoch % len(grouped.groups)
            num = len(grouped.groups[group])
            drawn = Counter(
                which for number in range(30) for which in batches.classes(epoch, number).tolist()
            )
            assert set(drawn) == set(range(num))
            if size > num:
                assert max(drawn.values()) - min(drawn.values()) <= 1, (
                    "orders of all classes follow each other"
                )
            for which in range(num):
                rows = batches.rows(epoch, 0, 3, which)
                assert (
                    sorted(rows.tolist())
                    == grouped.partition.photos.of(int(grouped.groups[group][which])).tolist()
                )
    firsts = {int(batches.rows(0, number, 0, 0)[0]) for number in range(40)}
    assert len(firsts) > 3, "photos of a class are drawn at random"


def test_a_class_with_one_photo_is_drawn_as_often(city: Path, tmp_path: Path) -> None:
    photos = Photos.of(
        [
            Photo(
                f"{k}.jpg",
                plane=PlanePoint(545000.0 + 10 * (k // 3), 4178000.0, "10S"),
                heading_deg=5.0,
            )
            for k in range(7)
        ]
    )
    grouped = make_grouped(
        Dataset(photos).files(are_panoramas=False), cells=CellOptions(10, 30, 1, 1, 1)
    )
    batches = ClassBatches(grouped, batch_size=3, seed=0)
    drawn = Counter(which for number in range(20) for which in batches.classes(0, number).tolist())
    assert drawn == {0: 20, 1: 20, 2: 20}
    assert batches.rows(0, 0, 0, 2).tolist() == [6]


def test_a_heading_of_360_is_north(tmp_path: Path) -> None:
    headings = [0.0, 360.0, 359.9, 15.0]
    photos = Photos.of(
        [
            Photo(f"{k}.jpg", plane=PlanePoint(545001.0, 4178001.0, "10S"), heading_deg=h)
            for k, h in enumerate(headings)
        ]
    )
    grouped = make_grouped(
        Dataset(photos).files(are_panoramas=False), cells=CellOptions(10, 30, 1, 1, 1)
    )
    assert [grouped.partition.photos.of(cell).tolist() for cell in range(2)] == [[0, 1, 3], [2]]
    assert grouped.partition.corners[:, 2].tolist() == [0, 330]


def test_photos_with_latitude_and_longitude_alone_have_cells(tmp_path: Path) -> None:
    """Some of the same places have metres, in the zone beside it."""
    from whence.geo import to_utm
    from whence.types import GeoPoint

    points = [GeoPoint(48.0 + k * 3e-4, 6.0001) for k in range(6)]
    photos = [Photo(f"{k}a.jpg", point=point) for k, point in enumerate(points)]
    photos += [
        Photo(f"{k}b.jpg", plane=PlanePoint(*to_utm(point, zone="31U")))
        for k, point in enumerate(points)
    ]
    grouped = make_grouped(
        Dataset(Photos.of(photos)).files(are_panoramas=True), cells=CellOptions(20, 360, 1, 1, 2)
    )
    assert grouped.partition.zone == "31U"
    assert grouped.partition.photos.counts.tolist() == [2] * 6


def crop_directions(branch: ClassBranch, epoch: int) -> list[float]:
    """Where the crops of a batch look, found by the columns of a panorama whose pixels are
    coded."""
    classes = branch.batches.classes(epoch, 0)
    group = branch.grouped.groups[branch.batches.group_of(epoch)]
    found = []
    for number, which in enumerate(classes.tolist()):
        row = int(branch.batches.rows(epoch, 0, number, which)[0])
        files, focal = branch.grouped.files, branch._focal[group[which]]
        gap = focal - (files.east_m[row], files.north_m[row])
        found.append(float(np.degrees(np.arctan2(*gap)) % 360))
    return found


@pytest.mark.parametrize("view", ["lateral", "frontal"])
def test_crops_look_at_the_focal_point(
    view: str, city: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every pixel of a panorama replaced by its direction: the middle of each crop looks at its
    cell's point."""
    branch = branch_of(replace(SIDE, view=view), city, tmp_path)  # type: ignore[arg-type]
    branch.open()
    files = branch.grouped.files
    names = {files.file(row): float(files.heading_deg[row]) for row in range(len(files))}

    def coded(file: Path) -> np.ndarray:
        turn = (names[Path(file)] + (np.arange(208) + 0.5 - 104) * 360 / 208) % 360
        return np.broadcast_to((turn * 0.7).astype(np.uint8)[None, :, None], (32, 208, 3)).copy()

    monkeypatch.setattr("whence.training.branches.classes.load_image", coded)
    photos = branch.read(BatchPlace(0, 0), Share()).content.photos.photos
    for photo, expected in zip(photos, crop_directions(branch, 0), strict=True):
        seen = float(photo[16, 16, 0]) / 0.7
        assert heading_difference_deg(np.array(seen), np.array(expected)) < 4.5, (
            "columns are 1.7 degrees, codes 1.4"
        )


def test_processes_share_a_batch(city: Path, tmp_path: Path) -> None:
    branch = branch_of(SMALL, city, tmp_path)
    whole = branch.read(BatchPlace(1, 1), Share()).content
    parts = [branch.read(BatchPlace(1, 1), Share(rank, 2)).content for rank in (0, 1)]
    assert torch.equal(torch.cat([part.photos.photos for part in parts]), whole.photos.photos)
    assert all(torch.equal(part.labels, whole.labels) for part in parts)
    assert [part.photos.first for part in parts] == [0, 3]
    images, _ = branch.change(whole, draw(step=2))
    halves = [branch.change(part, draw(step=2))[0] for part in parts]
    assert torch.equal(torch.cat(halves), images)


def test_one_group_of_batches_is_the_published_loop(city: Path, tmp_path: Path) -> None:
    """The same photos and weights through a loop as published: model, classifier, an optimizer for
    each, cross-entropy."""
    recipe = override(
        CLASSES, ["batches_per_turn=6", "optimizer.name=adam", "branches.0.optimizer.lr=0.01"]
    )
    step = step_of(recipe, city, tmp_path)
    branch = step.task.branches[0]
    assert isinstance(branch, ClassBranch)
    model = make_task(recipe, city, pixels_folder=tmp_path).learner.train()
    weight = nn.Parameter(branch.turns.parts[0].loss.W.detach().T.clone())  # type: ignore[union-attr, operator]
    optimizers = torch.optim.Adam(model.parameters(), lr=1e-3), torch.optim.Adam([weight], lr=0.01)
    losses = []
    for number in range(6):
        images, labels = branch.change(
            branch.read(BatchPlace(0, number), Share()).content, draw(step=number)
        )
        for optimizer in optimizers:
            optimizer.zero_grad()
        descriptors = model(images)
        cosine = (
            descriptors
            @ weight.T
            / (descriptors.norm(dim=1)[:, None] * weight.norm(dim=1)[None]).clamp(min=1e-8)
        )
        one_hot = nn.functional.one_hot(labels, len(weight))
        loss = nn.functional.cross_entropy(30 * (cosine - 0.4 * one_hot), labels)
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
        losses.append(float(loss.detach()))
    with step:
        step.open()
        taken = [step.take()["loss"] for _ in range(6)]
    assert taken == pytest.approx(losses, rel=1e-4)
    found = branch.turns.parts[0].loss.W.detach().T  # type: ignore[union-attr, operator]
    assert torch.allclose(found, weight.detach(), atol=1e-4)
    for one, other in zip(step.learner.parameters(), model.parameters(), strict=True):
        assert torch.allclose(one, other, atol=2e-4)


def all_tensors(folder: Path) -> dict[str, Tensor]:
    return (
        read_checkpoint(newest_checkpoint(folder / "checkpoints") or "").tensors
        | read_checkpoint(folder / FINAL).tensors
    )


LIVES = """
import json, os, signal, sys
from pathlib import Path
from whence.runtime import set_threads
from whence.training.recipe import Recipe
from whence.training.step import Step
from whence.training.train import train

city, out, moments = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
recipe = Recipe.from_json(Path(sys.argv[4]).read_text(encoding="utf-8"))
set_threads(1)
# Once in this process too: lives that begin with all modules loaded are short.
train(recipe, city, out=out + "-whole", show_progress=False)


def trap(owner, name, moment):
    real, calls = getattr(owner, name), []

    def trapped(*args, **kwargs):
        calls.append(name)
        is_now = moment[:2] == [name, len(calls)]
        if is_now and moment[2] == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = real(*args, **kwargs)
        if is_now and moment[2] == "after":
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, name, trapped)


ends = []
for life, moment in enumerate([*moments, ["", 0, ""]]):
    child = os.fork()
    if not child:
        trap(os, "replace", moment)
        trap(Step, "take", moment)
        train(recipe, city, out=out, show_progress=False, is_resumed=life > 0)
        os._exit(0)
    ends.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
print(json.dumps(ends))
"""


def test_a_training_killed_at_ten_moments_goes_on_bit_by_bit(city: Path, tmp_path: Path) -> None:
    """Two branches; within turns and between them, around updates and the renames of checkpoints,
    by SIGKILL."""
    recipe = override(SIDES, ["loop.save_every=2"])
    (tmp_path / "recipe.json").write_text(recipe.to_json(), encoding="utf-8")
    moments = [
        ("replace", 1, "before"), ("take", 3, "before"), ("take", 1, "after"),
        ("replace", 1, "before"), ("take", 3, "after"), ("replace", 2, "after"),
        ("take", 2, "before"), ("replace", 1, "after"), ("take", 5, "after"),
        ("take", 1, "before"),
    ]  # fmt: skip
    command = [
        sys.executable,
        "-c",
        LIVES,
        str(city),
        str(tmp_path / "parts"),
        json.dumps(moments),
        str(tmp_path / "recipe.json"),
    ]
    found = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert found.returncode == 0, found.stderr
    assert json.loads(found.stdout) == [-signal.SIGKILL] * 10 + [0]
    whole, parts = all_tensors(tmp_path / "parts-whole"), all_tensors(tmp_path / "parts")
    assert whole.keys() == parts.keys()
    assert any("state.1.optimizer" in name for name in whole)
    for name, value in whole.items():
        assert torch.equal(value, parts[name]), name
    logs = [
        [line["loss"] for line in read_log(tmp_path / name / "log.jsonl") if "loss" in line]
        for name in ("parts-whole", "parts")
    ]
    assert logs[0] == logs[1]
    assert all(map(math.isfinite, logs[0]))


def test_only_the_group_whose_turn_it_is_learns(city: Path, tmp_path: Path) -> None:
    step = step_of(CLASSES, city, tmp_path)
    branch = step.task.branches[0]
    assert isinstance(branch, ClassBranch)
    before = [part.state_dict()["loss.W"].clone() for part in branch.turns.parts]
    with step:
        step.open()
        for turn in range(3):
            step.take()
            step.take()
            moved = [
                not torch.equal(part.state_dict()["loss.W"], old)
                for part, old in zip(branch.turns.parts, before, strict=True)
            ]
            assert moved == [group <= turn for group in range(len(moved))]


def test_gradients_that_are_scaled_move_as_those_that_are_not(city: Path, tmp_path: Path) -> None:
    """As fp16 does it: classifiers and network take their steps from gradients that are brought
    back to size."""
    found = []
    for is_scaled in (False, True):
        step = step_of(SIDES, city, tmp_path)
        if is_scaled:
            step.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=256.0)
        with step:
            step.open()
            for _ in range(3):
                step.take()
        found.append(
            [*step.learner.parameters(), *step.task.branches[0].turns.parts[0].parameters()]
        )  # type: ignore[attr-defined]
    assert len(found[0]) == len(found[1])
    assert all(torch.allclose(one, other, atol=1e-5) for one, other in zip(*found, strict=True))


def test_a_run_keeps_its_partition(city: Path, tmp_path: Path) -> None:
    recipe = override(CLASSES, ["loop.num_steps=2"])
    train(recipe, city, out=tmp_path / "run", show_progress=False)
    kept = load_partition(tmp_path / "run" / "classes.partition.npz")
    files = Dataset(city).files(are_panoramas=False)
    assert kept.photos.counts.sum() == len(files)
    other = tmp_path / "other"
    (other / "raw" / "train").mkdir(parents=True)
    (other / "raw" / "train" / "database").symlink_to(
        sf_xl_folder(city, "database"), target_is_directory=True
    )
    names = [files.names.of(row) for row in range(len(files) - 1)]
    (other / "raw" / "train" / "database_images_paths.txt").write_text("\n".join(names))
    with pytest.raises(InputError, match="other photos"):
        train(recipe, other, out=tmp_path / "run", show_progress=False, is_resumed=True)


def test_cells_without_headings_are_left_for_an_engine(city: Path, tmp_path: Path) -> None:
    """Each row of the file is the prototype that its cell learned, whatever order turns had."""
    recipe = override(
        CLASSES, ["loop.num_steps=2", "cells.heading_bin_deg=360", "cells.num_turned=1"]
    )
    train(recipe, city, out=tmp_path / "run", show_progress=False)
    found = read_cells(tmp_path / "run" / "classes.cells.npz")
    partition = load_partition(tmp_path / "run" / "classes.partition.npz")
    state = read_checkpoint(newest_checkpoint(tmp_path / "run" / "checkpoints") or "").tensors
    assert len(found) == partition.groups.counts.sum()
    for turn, group in enumerate(partition.num_in_order.tolist()):
        learned = state[f"branches.0.state.{turn}.part.loss.W"].T.numpy()
        for row, cell in enumerate(partition.groups.of(group).tolist()):
            place = int(
                np.flatnonzero((found.corners_m == partition.corners[cell, :2]).all(axis=1))[0]
            )
            np.testing.assert_array_equal(found.prototypes[place], learned[row])
    assert found.model.endswith(FINAL)
    train(override(recipe, ["num_groups=1"]), city, out=tmp_path / "part", show_progress=False)
    assert not (tmp_path / "part" / "classes.cells.npz").exists(), "a part of the map is no map"


def test_classes_are_shared_by_processes(
    city: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each holds a share of a group's classes and both learn what one process does, also where they
    go on from what it left."""
    changes = [
        "loop.num_steps=4",
        "loop.save_every=1",
        "cells.heading_bin_deg=360",
        "cells.num_turned=1",
        "batches_per_turn=1",
    ]
    changes += [
        "loop.precision=no",
        "batch_size=6",
        "augment.width=32",
        "augment.height=32",
        "augment.num_views=0",
    ]
    changes += [
        "learner.backbone=resnet18conv2",
        "learner.start_from=",
        "learner.aggregator.options.dim=8",
    ]
    changes += ["cells.cell_m=10", "cells.num_apart=2", "cells.min_photos=3", "is_sharded=true"]
    words = [
        "train",
        "cosplace-small",
        "--dataset",
        str(city),
        "--cache",
        str(tmp_path / "pixels"),
        "--quiet",
    ]
    words += [word for change in changes for word in ("--set", change)]
    with monkeypatch.context() as patched:
        patched.setattr(nn, "BatchNorm2d", Calm)
        patched.setattr(checkpoints, "remove_older", lambda *_, **__: None)
        assert run_command([*words, "--out", str(tmp_path / "one")]) == 0
    shutil.copytree(tmp_path / "one", tmp_path / "gone-on")
    for step in (3, 4):
        checkpoints.checkpoint_file(tmp_path / "gone-on" / "checkpoints", step).unlink()
    run_in_two([*words, "--out", str(tmp_path / "two")], tmp_path)
    run_in_two([*words, "--out", str(tmp_path / "gone-on"), "--resume"], tmp_path, num_nodes=2)
    one, *others = (
        read_checkpoint(newest_checkpoint(tmp_path / out / "checkpoints") or "").tensors
        for out in ("one", "two", "gone-on")
    )
    begun = read_checkpoint(
        checkpoints.checkpoint_file(tmp_path / "one" / "checkpoints", 1)
    ).tensors
    assert any(name.endswith(".part.loss.W") for name in one)
    for other in others:
        assert {name: tensor.shape for name, tensor in one.items()} == {
            name: tensor.shape for name, tensor in other.items()
        }
        for name, tensor in one.items():
            before = begun.get(name, torch.zeros_like(tensor))
            moved, apart = (
                float((tensor.float() - known.float()).abs().max())
                for known in (before, other[name])
            )
            assert apart <= 0.02 * moved + 1e-6, name
    found = [read_cells(tmp_path / out / "classes.cells.npz").prototypes for out in ("one", "two")]
    np.testing.assert_allclose(found[0], found[1], atol=2e-3)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("loss.name=cross_entropy", "cosface"),
        ("loss.name=sub_center_arcface", "cosface"),
        ("loop.precision=fp16", "fp16"),
    ],
)
def test_what_cannot_be_shared_is_said(change: str, said: str, city: Path, tmp_path: Path) -> None:
    learner = type("Learner", (), {"module": type("Module", (), {"dim": 8})})
    name, _, value = change.partition("=")
    options = SMALL if name == "loop.precision" else replace(SMALL, loss=LossOptions(value))
    made = replace(
        given(city, tmp_path, learner=learner),
        share=Share(0, 2),
        dtype=torch.float16 if said == "fp16" else None,
    )
    with pytest.raises(BadOption, match=said):
        ClassBranch(replace(options, is_sharded=True), made)


def test_an_unreadable_photo_is_named_and_another_is_taken(city: Path, tmp_path: Path) -> None:
    broken = tmp_path / "city"
    folder = broken / "raw" / "train" / "database"
    folder.mkdir(parents=True)
    names = sorted(path.name for path in sf_xl_folder(city, "database").glob("*.jpg"))
    for number, name in enumerate(names):
        if number % 3:
            (folder / name).symlink_to(sf_xl_folder(city, "database") / name)
        else:
            (folder / name).write_bytes(b"nothing")
    said: list[SkippedPhoto] = []
    recipe = override(CLASSES, ["loop.num_steps=4", "loop.save_every=4"])
    train(recipe, Dataset(broken, report=said.extend), out=tmp_path / "run", show_progress=False)
    assert {one.path for one in said} <= set(names[::3])
    assert len({one.path for one in said}) == len(said) > 0, "each is named once"
    for path in folder.iterdir():
        path.unlink()
        path.write_bytes(b"nothing")
    with pytest.raises(NoPhotos, match="no photo of a class can be read"):
        train(recipe, broken, out=tmp_path / "none", show_progress=False)


@pytest.mark.parametrize(
    ("options", "which", "message"),
    [(SIDE, "database", "no panorama"), (SMALL, "panoramas", "a panorama")],
)
def test_pictures_of_the_wrong_shape_are_refused(
    options: ClassesOptions, which: str, message: str, city: Path, tmp_path: Path
) -> None:
    branch = branch_of(
        replace(options, cells=replace(options.cells, min_photos=1)),
        sf_xl_folder(city, which),
        tmp_path,
    )
    with pytest.raises(InputError, match=message):
        branch.open()


def test_a_panorama_of_another_shape_among_many_is_passed_over(city: Path, tmp_path: Path) -> None:
    branch = branch_of(SIDE, city, tmp_path)
    folder, mixed = sf_xl_folder(city, "panoramas"), tmp_path / "panoramas"
    mixed.mkdir()
    row = int(branch.batches.rows(0, 0, 0, int(branch.batches.classes(0, 0)[0]))[0])
    for number, path in enumerate(sorted(folder.glob("*.jpg"))):
        if number == row:
            cv2.imwrite(str(mixed / path.name), load_image(path)[:, :32])
        else:
            (mixed / path.name).symlink_to(path)
    said: list[SkippedPhoto] = []
    learner = type("Learner", (), {"module": type("Module", (), {"dim": 8})})
    made = ClassBranch(
        SIDE,
        replace(given(mixed, tmp_path, learner=learner), data=Dataset(mixed, report=said.extend)),
    )
    made.read(BatchPlace(0, 0), Share())
    assert [(one.path, "no panorama" in one.reason) for one in said] == [
        (sorted(folder.glob("*.jpg"))[row].name, True)
    ]


def many(recipe: Recipe) -> Recipe:
    return override(recipe, ["num_groups=60"])


def empty(recipe: Recipe) -> Recipe:
    return override(recipe, ["batch_size=0"])


def scarce(recipe: Recipe) -> Recipe:
    return override(recipe, ["cells.min_photos=500"])


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        (many, BadOption, "lower num_groups"),
        (empty, BadOption, "not possible"),
        (scarce, NoPhotos, r"cells\.min_photos"),
    ],
)
def test_what_cannot_be_is_said(
    change: Callable[[Recipe], Recipe],
    kind: type[Exception],
    message: str,
    city: Path,
    tmp_path: Path,
) -> None:
    with pytest.raises(kind, match=message):
        make_task(change(CLASSES), city, pixels_folder=tmp_path)


def test_a_dry_run_counts_classes(city: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sets = [word for change in ("cells.min_photos=3", "num_groups=0") for word in ("--set", change)]
    assert (
        run_command(
            ["train", "cosplace-small", "--dataset", str(city), "--dry-run", "--json", *sets]
        )
        == 0
    )
    assert '"num_groups"' in capsys.readouterr().out


def test_published_constants() -> None:
    """Of the authors' code, and of EigenPlaces' paper."""
    cosplace = get_recipe("cosplace-resnet18-512")
    (branch,) = cosplace.branches
    assert isinstance(branch, ClassesOptions)
    assert branch.cells == CellOptions(10, 30, 5, 2, 10)
    assert (branch.num_groups, branch.batch_size, branch.batches_per_turn) == (8, 32, 10_000)
    assert (branch.loss, branch.optimizer) == (
        LossOptions("cosface", {"scale": 30, "margin": 0.4}),
        OptimizerOptions("adam", 0.01),
    )
    assert branch.augment == AugmentOptions(
        512, 512, brightness=0.7, contrast=0.7, saturation=0.7, hue=0.5, crop=0.5
    )
    assert (cosplace.optimizer, cosplace.loop.num_steps) == (
        OptimizerOptions("adam", lr=1e-5),
        500_000,
    )
    for name, size, start in (
        ("resnet18-512", 32, "cosplace-resnet18-512"),
        ("resnet50-2048", 32, "cosplace-resnet50-512"),
        ("resnet50-2048-paper", 64, "released"),
    ):
        eigenplaces = get_recipe(f"eigenplaces-{name}")
        assert [one.view for one in eigenplaces.branches] == ["lateral", "frontal"]  # type: ignore[attr-defined]
        for one in eigenplaces.branches:
            assert isinstance(one, ClassesOptions)
            assert (one.cells, one.focal_m) == (CellOptions(15, 360, 3, 1, 5), 10)
            assert (one.num_groups, one.batch_size, one.batches_per_turn, one.weight) == (
                0,
                size,
                5000,
                1.0,
            )
            assert one.loss.options == {"scale": 100, "margin": 0.4}
        assert eigenplaces.loop.num_steps == 200_000
        assert eigenplaces.learner.start_from == start  # type: ignore[attr-defined]
    divide = get_recipe("divide-and-classify-efficientnet-b0")
    (branch,) = divide.branches
    assert isinstance(branch, ClassesOptions)
    assert (branch.cells, branch.num_groups) == (CellOptions(20, 360, 2, 1, 10), 0)
    assert (branch.batch_size, branch.batches_per_turn, divide.loop.num_steps) == (
        64,
        2000,
        1_000_000,
    )
    assert branch.loss == LossOptions("arcface_easy", {"scale": 100, "margin": 0.2})
    assert branch.augment == AugmentOptions(224, 224, crop=0.34)
    assert divide.optimizer == OptimizerOptions("adam", lr=1e-4)
    assert divide.schedule == ScheduleOptions(
        "plateau", epoch_steps=2000, patience=10, factor=0.1, least_lr=1e-6
    )


def test_a_plateau_is_that_of_torch() -> None:
    """Mean losses of epochs of three steps through both; and the state goes on."""
    random = np.random.default_rng(2)
    means = np.concatenate(
        [np.linspace(5, 1, 20), 1 + random.random(40), [0.9, 0.89999, 0.8], 2 + random.random(30)]
    )
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    oracle = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=4)
    options = ScheduleOptions("plateau", epoch_steps=3, patience=4, factor=0.5)
    found = Plateau(options)
    shares = []
    for number, mean in enumerate(means.tolist()):
        for part in (-0.25, 0.0, 0.25):
            found.add(mean + part)
        oracle.step(mean)
        shares.append(found.share)
        assert found.share == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-12)
        if number % 7 == 0:
            again = Plateau(options)
            again.load(json.loads(json.dumps(found.values())))
            found = again
    assert shares[0] == 1 > shares[-1]


def test_all_processes_watch_one_loss(city: Path, tmp_path: Path) -> None:
    """Else one would lower its rate, or end, before the others."""
    for name, expected in (("plateau", 2.5), ("constant", 1.0)):
        recipe = override(CLASSES, [f"schedule.name={name}"])
        with Step(
            make_task(recipe, city, pixels_folder=tmp_path, show_progress=False),
            options=recipe.loop,
        ) as step:
            step.share = Share(0, 2)
            step.accelerator = SimpleNamespace(reduce=lambda loss, how: (loss + 4.0) / 2)
            assert step._loss_of_all(1.0) == expected


def test_a_training_of_before_the_schedule_goes_on(city: Path, tmp_path: Path) -> None:
    recipe = override(CLASSES, ["loop.num_steps=1"])
    with Step(
        make_task(recipe, city, pixels_folder=tmp_path, show_progress=False), options=recipe.loop
    ) as step:
        values = {name: value for name, value in step.values().items() if name != "plateau"}
        step.load(step.tensors(), values)
        assert step.step == 0


def test_a_training_ends_below_its_least_rate(city: Path, tmp_path: Path) -> None:
    plateau = ["name=plateau", "epoch_steps=1", "patience=0", "factor=0.01", "least_lr=1e-4"]
    recipe = override(CLASSES, [f"schedule.{change}" for change in plateau] + ["optimizer.lr=1e-3"])
    done = train(recipe, city, out=tmp_path / "run", show_progress=False)
    assert done.num_steps < recipe.loop.num_steps
    assert done.is_stopped_early
    again = train(recipe, city, out=tmp_path / "run", show_progress=False, is_resumed=True)
    assert again.num_steps == done.num_steps


def test_names_of_crops_say_their_left_column() -> None:
    name = format_name(plane=PlanePoint(545000.0, 4178000.0, "10S"), heading_deg=330.0)
    assert "@330@" in name
    assert float(heading_of_middle(np.array(330.0))) == pytest.approx(357.69, abs=0.01)
