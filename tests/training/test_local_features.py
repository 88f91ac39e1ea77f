"""Trainings of local features on a few drawn photos: what is exact about their views, and that they
learn, stop and go on."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("accelerate")

from safetensors.torch import load_file

from conftest import draw_place
from whence.errors import BadOption
from whence.evaluation.keypoints import project
from whence.models.cards.text import read_card
from whence.models.local.own import open_own_features
from whence.models.local.sift import LocalDescriptors
from whence.recipes import get_recipe
from whence.training.branches import taught_points
from whence.training.branches.homographies import (
    cut_view,
    draw_beside,
    draw_matrix,
    find_same_point,
    map_points,
)
from whence.training.branches.homography_pairs import choose_points
from whence.training.branches.taught_points import both_ways, draw_points
from whence.training.datasets import Dataset
from whence.training.options.local import TaughtPointsOptions, ViewOptions
from whence.training.recipe import Recipe, override
from whence.training.train import train
from whence.worlds.capture import CaptureOptions
from whence.worlds.city import WorldOptions, render_world
from whence.worlds.presets import CitySize

PLAIN = ViewOptions(
    width=96,
    height=72,
    stored_width=160,
    stored_height=120,
    gamma=0,
    gain=0,
    light=0,
    noise=0,
    blur_share=0,
)
SMALL = [
    "loop.num_steps=4", "loop.log_every=2", "loop.save_every=2", "loop.validate_every=4",
    "views.width=64", "views.height=48", "views.stored_width=96", "views.stored_height=72",
    "validate_on.num_pairs=2", "validate_on.views.width=64", "validate_on.views.height=48",
    "validate_on.views.stored_width=96", "validate_on.views.stored_height=72",
]  # fmt: skip


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for number in range(6):
        cv2.imwrite(str(folder / f"{number}.png"), draw_place(number, width=96, height=72))
    return folder


class Corners:
    """A teacher without weights: Harris corners, described by their grey surroundings."""

    digest = "corners"
    key = "corners-40-corners"

    def extract(self, image: np.ndarray) -> LocalDescriptors:
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        points = cv2.goodFeaturesToTrack(grey, 40, 0.01, 3)[:, 0]
        patches = [
            cv2.getRectSubPix(grey, (16, 8), tuple(map(float, point))).ravel().astype(np.float32)
            for point in points
        ]
        rows = np.stack(
            [(one - one.mean()) / (np.linalg.norm(one - one.mean()) + 1e-6) for one in patches]
        )
        none = np.zeros(len(points), np.float32)
        return LocalDescriptors(points, rows, none, none, grey.shape[::-1], "float16")


@pytest.fixture
def corners(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(taught_points, "open_extractor", lambda *_args, **_named: Corners())


def test_a_view_shows_the_photo_where_its_homography_says() -> None:
    photo = cv2.GaussianBlur(
        np.random.default_rng(1).integers(0, 256, (120, 160, 3)).astype(np.uint8), (0, 0), 4
    )
    grey = cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY).astype(float)
    for seed in range(5):
        random = np.random.default_rng(seed)
        matrix = draw_matrix(random, replace(PLAIN, zoom=(0.9, 1.4)), (160, 120))
        view = cut_view(photo, matrix, PLAIN, random, 0)
        where = np.random.default_rng(seed).uniform(8, 60, (50, 2))
        there = map_points(where, np.linalg.inv(matrix))
        inside = ((there > 1) & (there < [158, 118])).all(axis=1)
        seen = cv2.remap(
            view.grey.astype(np.float32),
            where[inside, 0].astype(np.float32),
            where[inside, 1].astype(np.float32),
            1,
        )
        real = cv2.remap(
            grey.astype(np.float32),
            there[inside, 0].astype(np.float32),
            there[inside, 1].astype(np.float32),
            1,
        )
        assert inside.sum() > 10
        assert np.abs(seen - real).max() < 4


def test_a_second_view_shows_much_of_the_first() -> None:
    shared = []
    for seed in range(20):
        random = np.random.default_rng(seed)
        first = draw_matrix(random, PLAIN, (160, 120))
        second = draw_beside(random, PLAIN, (160, 120), first)
        grid = np.stack(
            np.meshgrid(np.linspace(0, 95, 12), np.linspace(0, 71, 9)), axis=-1
        ).reshape(-1, 2)
        mapped = map_points(grid, second @ np.linalg.inv(first))
        shared.append(((mapped >= 0) & (mapped <= [95, 71])).all(axis=1).mean())
    assert np.mean(shared) > 0.5


def test_photos_of_a_world_from_one_point_are_a_homography_apart(tmp_path: Path) -> None:
    capture = CaptureOptions(width=160, height=120, conditions={"overcast": 1.0}, is_clean=True)
    options = WorldOptions(cities=(CitySize("city00", "", 4, 0, 0),), capture=capture)
    render_world(
        tmp_path / "w", seed=5, options=options, layout="pairs", num_workers=1, show_progress=False
    )
    found = Dataset(tmp_path / "w", show_progress=False).photos
    same = find_same_point(found, tmp_path / "w", (80, 60))
    assert same.num_others == 4
    assert len(same.rows) == 4
    for row, others in same.others.items():
        ((other, matrix),) = others
        assert "database" in str(found.file(row))
        assert "queries" in str(found.file(other))
        # Without faults of the camera both look the same way.
        np.testing.assert_allclose(matrix, np.eye(3), atol=1e-6)


def test_chosen_points_belong_together_and_half_of_them_are_the_strongest() -> None:
    torch.manual_seed(0)
    matrix = torch.tensor([[1.0, 0.02, 3], [0, 1, -2], [0, 1e-4, 1]], dtype=torch.float64)
    strong = torch.rand(30, 40)
    first, second = choose_points(matrix, (40, 30), 100, strong, 50)
    assert len(first) == len(second) == 100
    mapped = project(first.numpy().astype(float), matrix.numpy())
    np.testing.assert_allclose(second.numpy(), mapped.round())
    assert ((second >= 0) & (second <= torch.tensor([39, 29]))).all()
    highest = set(strong.flatten().argsort(descending=True)[:50].tolist())
    assert sum(int(y * 40 + x) in highest for x, y in first.tolist()) >= 35
    assert len({tuple(point) for point in first.tolist()}) == 100


def test_points_are_drawn_as_bells() -> None:
    drawn = draw_points(np.array([[5.25, 4.0], [19.0, 9.0], [40.0, 3.0]]), 20, 10, spread_px=0.9)
    assert drawn[4, 5] == pytest.approx(np.exp(-(0.25**2) / (2 * 0.81)))
    assert drawn[9, 19] == 1
    assert drawn[0, 0] == 0


def test_the_softmax_both_ways_is_least_where_rows_belong_together() -> None:
    rows = torch.nn.functional.normalize(
        torch.randn(8, 16, generator=torch.Generator().manual_seed(1)), dim=1
    )
    assert both_ways(rows, rows, 0.07) < both_ways(rows, rows.roll(1, 0), 0.07)
    assert both_ways(rows[:1], rows[:1], 0.07) == 0


def small(name: str, *changes: str) -> Recipe:
    return override(get_recipe(name), [*SMALL, *changes])


def losses(out: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [line for line in lines if "loss" in line]


def test_the_own_recipe_learns_goes_on_and_its_file_is_a_matcher(
    corners: None, photos: Path, tmp_path: Path
) -> None:
    recipe = small(
        "whence-local", "num_photos=2", "num_points=40", "num_described=20", "views.zoom=[0.7,1.0]"
    )
    whole = train(
        recipe, str(photos), validation=str(photos), out=tmp_path / "whole", show_progress=False
    )
    assert whole.best_recall is not None
    (tmp_path / "whole" / "checkpoints" / "step-0000004.safetensors").unlink()
    expected = load_file(tmp_path / "whole" / "final.safetensors")
    train(
        recipe,
        str(photos),
        validation=str(photos),
        out=tmp_path / "whole",
        is_resumed=True,
        show_progress=False,
    )
    again = load_file(tmp_path / "whole" / "final.safetensors")
    assert all(torch.equal(again[name], value) for name, value in expected.items()), (
        "it went on from the second step"
    )
    card = read_card(tmp_path / "whole" / "final.safetensors")
    assert card.backbone == "strided"
    assert dict(card.backbone_options) == {"teacher": "aliked", "teacher_weights": "corners"}
    found = losses(tmp_path / "whole")
    assert {"detection", "cosine", "contrast", "between"} <= set(found[-1])
    extractor = open_own_features(
        weights=str(tmp_path / "whole" / "final.safetensors"), max_keypoints=30
    )
    assert extractor.taught_by == ("aliked", "corners")
    one = extractor.extract(draw_place(3, width=96, height=72))
    assert one.descriptors.shape == (len(one.keypoints), 128)
    np.testing.assert_allclose(np.linalg.norm(one.descriptors, axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("loss", ["silk", "persistence", "patches"])
def test_losses_without_a_teacher_fall(loss: str, photos: Path, tmp_path: Path) -> None:
    if loss == "persistence":
        pytest.importorskip("gudhi")
    name = "asymloc-small-teacher" if loss == "silk" else "morsedet-small"
    recipe = small(name, f"loss.name={loss}", "num_pairs=2", "num_points=64", "loop.num_steps=6")
    train(recipe, str(photos), out=tmp_path / "run", show_progress=False)
    found = losses(tmp_path / "run")
    assert all(np.isfinite(one["loss"]) for one in found)


@pytest.mark.parametrize("loss", ["joint", "matching", "distillation", "naive"])
def test_a_student_learns_from_the_file_of_its_teacher(
    loss: str, photos: Path, tmp_path: Path
) -> None:
    teacher = small("asymloc-small-teacher", "num_pairs=2", "num_points=64", "loop.num_steps=2")
    train(teacher, str(photos), out=tmp_path / "teacher", show_progress=False)
    file = tmp_path / "teacher" / "final.safetensors"
    recipe = small(
        "asymloc-small-student",
        f"teacher={file}",
        f"loss.name={loss}",
        "num_pairs=2",
        "num_points=64",
        "loop.num_steps=2",
    )
    train(recipe, str(photos), out=tmp_path / "student", show_progress=False)
    assert all(np.isfinite(one["loss"]) for one in losses(tmp_path / "student"))
    card = read_card(tmp_path / "student" / "final.safetensors")
    assert card.backbone_options["teacher"] == read_card(file).name


def test_what_cannot_learn_says_why(photos: Path, tmp_path: Path) -> None:
    for name, changes, words in (
        ("asymloc-small-student", [], "say which network is learned from"),
        ("morsedet-small", ["learner.network=student-small"], "height map"),
        ("asymloc-small-teacher", ["learner.network=morse-small"], "descriptors"),
        ("asymloc-small-teacher", ["num_pairs=100"], "change num_pairs"),
        ("whence-local", ["learner.network=morse-small"], "describes points"),
    ):
        with pytest.raises(BadOption, match=words):
            train(small(name, *changes), str(photos), out=tmp_path / "run", show_progress=False)
    assert TaughtPointsOptions().loss_name == "taught points"
