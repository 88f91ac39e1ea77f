"""Places that the data say themselves: listed ones, scenes, cliques, cells; and the recipes that
learn from them."""

from __future__ import annotations

import itertools
import math
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("accelerate")
pytest.importorskip("pytorch_metric_learning")

from torch import Tensor, nn

from fills import image_of, squares
from training_samples import given
from whence.cli import run
from whence.data.colmap import read_model
from whence.data.drives import Frames, read_msls
from whence.data.layouts import read_gsv_cities
from whence.data.partition import CellOptions
from whence.data.photos import Photos
from whence.data.scenes import SceneRules, read_megascenes, read_scannet
from whence.errors import BadOption, InputError, NoPhotos
from whence.lists import NeighborLists
from whence.models.descriptor import load_model
from whence.recipes import get_recipe, list_recipes
from whence.training import learners
from whence.training.branches.cell_views import CellBatches, CellViewBranch
from whence.training.branches.cliques import CliqueBatches, disjoint_cliques
from whence.training.branches.grouped import make_grouped
from whence.training.branches.sources import ListedBatches, SceneBatches, make_batches
from whence.training.checkpoints import newest_checkpoint, read_checkpoint
from whence.training.datasets import Dataset
from whence.training.loop import FINAL
from whence.training.losses.by_label import make_loss
from whence.training.optimization import rate_share
from whence.training.options.classes import CellViewsOptions
from whence.training.options.loop import LoopOptions, OptimizerOptions, ScheduleOptions
from whence.training.options.places import BatchOptions, PlaceOptions
from whence.training.recipe import Recipe, field_names, override
from whence.training.step import Step
from whence.training.task import BatchPlace, Branch, Draw, Losses, Optimized, Read, Share, Task
from whence.training.train import make_task
from whence.types import Photo, PlanePoint
from whence.worlds.presets import WorldSpec
from whence.worlds.rooms import make_room
from whence.worlds.shards import city_works

PAIRS = get_recipe("megaloc").branches[0].loss  # type: ignore[attr-defined]
TWO = BatchOptions(num_places=2, num_views=4)


def test_any_two_views_of_a_landmark_share_points(sources: dict[str, Path]) -> None:
    scenes = read_megascenes(sources["megascenes"])
    batches = SceneBatches(scenes, options=TWO)
    folders = {name: sources["megascenes"] / "reconstruct" / name for name in scenes.names}
    seen = {
        f"images/{name.removesuffix('/colmap/0')}/{image.name}": set(image.points.tolist())
        for name, folder in folders.items()
        for image in read_model(folder)
    }
    for epoch, number in itertools.product(range(3), range(batches.num_batches(0))):
        batch = batches.batch(epoch, number)
        assert len(set(batch.labels.tolist())) == 2
        for rows in batch.rows.reshape(2, 4):
            assert len(set(rows.tolist())) == 4
            for one, two in itertools.combinations(rows.tolist(), 2):
                a, b = (seen[scenes.photos.paths[row]] for row in (one, two))
                assert len(a & b) >= 0.01 * max(len(a), len(b))
        landmarks = [scenes.photos.paths[row].split("/")[1:3] for row in batch.rows[::4]]
        assert landmarks[0] != landmarks[1]
    again = SceneBatches(scenes, options=TWO).batch(2, 0)
    assert again.rows.tolist() == batches.batch(2, 0).rows.tolist()
    assert len({tuple(batches.batch(epoch, 0).rows.tolist()) for epoch in range(4)}) > 1
    # Where all points must be shared, nothing is left.
    with pytest.raises(NoPhotos, match="show the same"):
        SceneBatches(scenes, rules=SceneRules(shared_share=1.0), options=TWO)
    with pytest.raises(BadOption, match=r"batches\.num_places"):
        SceneBatches(scenes, options=replace(TWO, num_places=50))


def test_models_lie_where_the_bucket_or_its_description_says(
    sources: dict[str, Path], tmp_path: Path
) -> None:
    """In the bucket models are in colmap/N; the data set's own description calls it sparses/N."""
    expected = read_megascenes(sources["megascenes"])
    shutil.copytree(sources["megascenes"] / "reconstruct", tmp_path / "reconstruct")
    (tmp_path / "images").symlink_to(sources["megascenes"] / "images")
    for folder in list((tmp_path / "reconstruct").glob("*/*/colmap")):
        folder.rename(folder.with_name("sparses"))
    found = read_megascenes(tmp_path)
    assert found.photos.paths == expected.photos.paths
    assert all("/commons/" in path and "/0/pictures/" in path for path in found.photos.paths)
    assert found.names == tuple(name.replace("colmap", "sparses") for name in expected.names)


def test_views_of_a_room_look_the_same_way(sources: dict[str, Path]) -> None:
    scenes = read_scannet(sources["scannet"])
    rules = SceneRules(radius_m=2.5, max_turn_deg=40.0)
    batches = SceneBatches(scenes, rules=rules, options=replace(TWO, num_views=3))
    assert set(scenes.names) == {"scene0000", "scene0001", "scene0002"}
    for epoch in range(3):
        batch = batches.batch(epoch, 0)
        rooms = [scenes.photos.paths[row].split("/")[-3].split("_") for row in batch.rows]
        assert rooms[0][0] != rooms[3][0]
        for rows in (batch.rows[:3], batch.rows[3:]):
            assert len({scenes.photos.paths[row].split("/")[-3] for row in rows}) == 1, "one scan"
            for one, two in itertools.combinations(rows.tolist(), 2):
                a, b = scenes.poses[one], scenes.poses[two]
                turn = math.degrees(math.acos(min(1, (np.trace(a[:3, :3].T @ b[:3, :3]) - 1) / 2)))
                assert turn <= 40.001
                assert np.linalg.norm(a[:3, 3] - b[:3, 3]) <= 2.5001


def test_depth_and_pose_of_a_room_agree(sources: dict[str, Path]) -> None:
    """What a frame sees, lifted by its depth and moved by its pose, lies on the walls, floor and
    ceiling of its room, or inside."""
    city = next(city_works(WorldSpec.from_json((sources["scannet"] / "world.json").read_text())))
    for scan in ("scene0000_00", "scene0001_00"):
        folder = sources["scannet"] / "scans" / scan
        room = make_room(city.plan.seed, int(scan[5:9]))
        inverse = np.linalg.inv(np.loadtxt(folder / "intrinsic" / "intrinsic_depth.txt")[:3, :3])
        lifted = []
        for file in sorted((folder / "depth").iterdir()):
            depth = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)[::4, ::4] / 1000
            rows, columns = (values[::4, ::4].ravel() for values in np.mgrid[:32, :48])
            rays = np.stack([columns, rows, np.ones_like(rows)]).astype(float)
            pose = np.loadtxt(folder / "pose" / f"{file.stem}.txt")
            lifted.append((pose[:3, :3] @ (inverse @ rays * depth.ravel()) + pose[:3, 3:]).T)
        points = np.concatenate(lifted)
        assert (points > -0.05).all()
        assert (points < room.size + 0.05).all()
        at_edge = (np.abs(points) < 0.05) | (np.abs(points - room.size) < 0.05)
        assert at_edge.any(axis=1).mean() > 0.5


def test_a_frame_whose_pose_was_lost_is_left_out(sources: dict[str, Path], tmp_path: Path) -> None:
    found = sources["scannet"] / "scans" / "scene0000_00"
    for part in ("pose", "color"):
        (tmp_path / "scans" / "scene0000_00" / part).mkdir(parents=True)
        for file in sorted((found / part).iterdir())[:6]:
            (tmp_path / "scans" / "scene0000_00" / part / file.name).write_bytes(file.read_bytes())
    poses = sorted((tmp_path / "scans" / "scene0000_00" / "pose").iterdir())
    poses[2].write_text("-inf " * 16)
    assert len(read_scannet(tmp_path).photos) == 5
    for text, match in (("1 2 3", "16 numbers"), ("one two", "could not convert")):
        poses[3].write_text(text)
        with pytest.raises(InputError, match=match):
            read_scannet(tmp_path)
    with pytest.raises(NoPhotos, match="scene0000_00"):
        read_scannet(tmp_path / "scans" / "scene0000_00")


def test_listed_places_come_city_by_city(sources: dict[str, Path]) -> None:
    listed = read_gsv_cities(sources["gsv_cities"], min_photos=4)
    batches = ListedBatches(listed, options=replace(TWO, num_places=1))
    assert batches.num_places == 4
    for epoch in range(3):
        drawn = [batches.batch(epoch, number) for number in range(batches.num_batches(epoch))]
        assert sorted(int(batch.labels[0]) for batch in drawn) == list(range(4)), "each once"
        for batch in drawn:
            assert len(set(listed.place[batch.rows].tolist())) == 1
            assert len(set(batch.rows.tolist())) == 4
        assert [int(listed.place[batch.rows[0]]) // 10**5 for batch in drawn] == [0] * 2 + [1] * 2
    mixed = ListedBatches(listed, options=replace(TWO, num_places=1, is_shuffled=True))
    cities = {
        tuple(int(listed.place[mixed.batch(e, k).rows[0]]) // 10**5 for k in range(4))
        for e in range(4)
    }
    assert len(cities) > 1
    with pytest.raises(BadOption, match=r"batches\.num_places"):
        ListedBatches(listed, options=replace(TWO, num_places=5))


def drive(num_cities: int, num_stops: int) -> tuple[Frames, np.ndarray]:
    """Six photos a stop, stops 60 m apart in each of some cities, and descriptors in which three
    neighbouring stops look alike."""
    random = np.random.default_rng(0)
    photos, cells, looks = [], [], []
    for city, stop in itertools.product(range(num_cities), range(num_stops)):
        look = np.random.default_rng([city, stop // 3]).normal(size=16) + 0.1 * random.normal(
            size=16
        )
        for k in range(6):
            plane = PlanePoint(500000.0 + 60 * stop + 3 * k, 4100000.0 + 9000 * city, "10S")
            photos.append(Photo(f"city{city}/query/images/{stop}_{k}.jpg", plane=plane))
            cells.append(f"city{city}/{stop}")
            looks.append(look / np.linalg.norm(look))
    num = len(photos)
    texts = np.full(num, "")
    return Frames(
        Photos.of(photos),
        texts,
        np.zeros(num, np.int64),
        np.zeros(num, bool),
        texts,
        np.array(cells),
    ), np.array(looks)


def test_cliques_are_near_and_their_neighbourhoods_alike() -> None:
    frames, looks = drive(3, 24)
    places = PlaceOptions(by="clique", radius_m=25.0, num_near=4, num_batches=40)
    batches = CliqueBatches((frames,), places=places, options=BatchOptions(5, 4), seed=1)
    batches.refresh(0, lambda rows: looks[rows])
    photos = frames.photos
    points = np.stack([photos.east_m, photos.north_m], axis=1)
    num_alike = num_all = 0
    for number in range(batches.num_batches(0)):
        batch = batches.batch(0, number)
        assert len(set(batch.rows.tolist())) == 20, "no photo twice"
        groups = batch.rows.reshape(5, 4)
        for rows in groups:
            apart = np.linalg.norm(points[rows][:, None] - points[rows], axis=2)
            assert apart.max() <= 25
        between = np.linalg.norm(points[batch.rows][:, None] - points[batch.rows], axis=2)
        other = batch.labels[:, None] != batch.labels
        assert between[other].min() > 25, "no two places are near each other"
        stops = (points[groups[:, 0], 0] - 500000) // 60
        cities = points[groups[:, 0], 1]
        for one, two in itertools.combinations(range(5), 2):
            if cities[one] == cities[two]:
                num_all += 1
                num_alike += stops[one] // 3 == stops[two] // 3
    # Two of 23 other stops look alike: by chance 0.087.
    assert num_alike > 0.12 * num_all
    found = batches.found()
    other_batches = CliqueBatches((frames,), places=places, options=BatchOptions(5, 4), seed=1)
    other_batches.refresh(0, lambda rows: looks[rows])
    assert np.array_equal(found, other_batches.found())
    other_batches.refresh(1, lambda rows: looks[rows])
    assert not np.array_equal(found, other_batches.found())
    with pytest.raises(NoPhotos, match=r"places\.radius_m"):
        CliqueBatches(
            (frames,), places=replace(places, radius_m=2.0), options=BatchOptions(5, 4)
        ).refresh(0, lambda r: looks[r])


def test_cliques_of_a_graph_are_whole_and_apart() -> None:
    for seed in range(20):
        random = np.random.default_rng(seed)
        points = random.uniform(0, 60, (30, 2))
        together = np.linalg.norm(points[:, None] - points, axis=2) <= 20
        members = [np.flatnonzero(row) for row in together]
        near = NeighborLists(
            np.concatenate([[0], np.cumsum([len(row) for row in members])]), np.concatenate(members)
        )
        found = disjoint_cliques(near, 3, random)
        for clique in found:
            assert all(
                together[one, two] for one, two in itertools.combinations(clique.tolist(), 2)
            )
        for one, two in itertools.combinations(found, 2):
            assert not together[np.ix_(one, two)].any()
        # Three photos that are all near each other, and near none of those taken, would have been
        # found.
        free = [k for k in range(30) if not any(together[k, clique].any() for clique in found)]
        assert not any(
            all(together[a, b] for a, b in itertools.combinations(three, 2))
            for three in itertools.combinations(free, 3)
        )


def test_views_of_a_cell_are_of_one_class(sf_xl: Path, tmp_path: Path) -> None:
    grouped = make_grouped(
        Dataset(sf_xl).files(are_panoramas=False), cells=CellOptions(10.0, 60.0, 2, 2, 3)
    )
    batches = CellBatches(grouped, options=replace(TWO, num_places=1), seed=0)
    for epoch in range(3):
        classes = batches.classes(epoch, 0)
        assert len(set(classes.tolist())) == 1
        drawn = [int(batches.rows(epoch, 0, place, int(classes[place]))[0]) for place in range(4)]
        members = batches.grouped.rows_of(batches.group_of(epoch)).of(int(classes[0])).tolist()
        assert set(drawn) <= set(members)
        assert len(set(drawn)) == min(4, len(members))
    with pytest.raises(BadOption, match=r"batches\.num_places"):
        CellBatches(grouped, options=replace(TWO, num_places=500), seed=0)
    learner = type("Learner", (), {"module": type("Module", (), {"dim": 8})})
    with pytest.raises(BadOption, match="over pairs"):
        CellViewBranch(
            CellViewsOptions(
                cells=CellOptions(10.0, 60.0, 2, 2, 3),
                num_groups=0,
                batches=replace(TWO, num_places=1),
            ),
            given(sf_xl, tmp_path, learner=learner),
        )


class Given(Branch):
    """One given sub-batch, forever."""

    def __init__(self, number: int) -> None:
        super().__init__(f"sub{number}")
        self.content = image_of((16, 6), 1000 + number)
        self.loss = make_loss(PAIRS, num_classes=4, dim=5)

    def num_batches(self, epoch: int) -> int:
        return 1

    def read(self, place: BatchPlace, share: Share) -> Read:
        return Read(self.content, 16)

    def learn(self, learner: nn.Module, content: Tensor, draw: Draw) -> Losses:
        return Losses(
            self.loss(nn.functional.normalize(learner(content), dim=1), torch.arange(16) // 4)
        )


def test_six_losses_and_their_gradients() -> None:
    """Stated values of six sub-batches; the gradients taken one after the other are those of the
    sum."""
    stated = (2.119712, 2.132154, 2.078979, 2.171795, 2.003606, 2.171622)
    mined = ((46, 140), (47, 147), (48, 152), (46, 173), (46, 134), (47, 158))
    for number, pairs in enumerate(mined):
        loss, toy = Given(number).loss, linear()
        found = loss.miner(
            nn.functional.normalize(toy(image_of((16, 6), 1000 + number)), dim=1),
            torch.arange(16) // 4,
        )
        assert (len(found[0]), len(found[2])) == pairs
    gradients = {}
    for way in ("apart", "joint"):
        toy = linear()
        plain = Optimized(toy, (), OptimizerOptions("sgd", lr=1.0, momentum=0.0))
        task = Task(toy, tuple(Given(k) for k in range(6)), None, (plain,))
        before = [weight.detach().clone() for weight in toy.parameters()]
        with Step(task, options=LoopOptions(num_steps=1, gradients=way)) as step:  # type: ignore[arg-type]
            step.open()
            said = step.take()
        assert [said[f"sub{k}"] for k in range(6)] == pytest.approx(stated, abs=2e-4)
        assert said["loss"] == pytest.approx(12.677867, abs=1e-3)
        gradients[way] = [
            old - weight.detach() for old, weight in zip(before, toy.parameters(), strict=True)
        ]
    weight, bias = gradients["apart"]
    assert weight[0].tolist() == pytest.approx(
        [0.023579, -0.312990, 0.009315, -0.154701, -0.102552, 0.001599], abs=1e-4
    )
    assert float(weight.norm()) == pytest.approx(0.975518, abs=1e-4)
    assert bias.tolist() == pytest.approx(
        [0.277798, 0.189301, -0.352168, 0.065688, 0.126465], abs=1e-4
    )
    assert all(
        torch.allclose(one, two, atol=1e-6) for one, two in zip(*gradients.values(), strict=True)
    )
    # One loss over all 24 places is another thing: places of different sources would be told apart
    # too.
    whole = torch.cat([image_of((16, 6), 1000 + k) for k in range(6)])
    joint = make_loss(PAIRS, num_classes=24, dim=5)(
        nn.functional.normalize(linear()(whole), dim=1), torch.arange(96) // 4
    )
    assert float(joint.detach()) == pytest.approx(2.339888, abs=2e-4)


def linear() -> nn.Linear:
    toy = nn.Linear(6, 5)
    with torch.no_grad():
        toy.weight.copy_(squares((5, 6), 0, scale=math.sqrt(24 / 6)))
        toy.bias.copy_(squares((5,), 1, scale=0.2))
    return toy


def test_a_rate_that_falls_at_steps() -> None:
    options = ScheduleOptions("steps", warmup_steps=4, milestones=(4, 8), factor=0.5)
    found = [rate_share(step, options=options, num_steps=20) for step in (0, 3, 4, 7, 8, 19)]
    assert found == pytest.approx([0.25, 1.0, 0.5, 0.5, 0.25, 0.25])


TINY = (
    "learner.backbone=resnet18conv2", "learner.backbone_options={}", "learner.freeze_before=",
    "aggregator.name=gem", "aggregator.options={}", "augment.width=48", "augment.height=32",
    "batches.num_places=2", "batches.num_views=2", "places.min_photos=2", "places.num_batches=2",
    "cells.cell_m=4", "cells.num_apart=1", "cells.min_photos=2", "batches_per_turn=2",
    "loop.num_steps=2", "loop.precision=no", "loop.log_every=1", "loop.save_every=1",
    "places.every=1",
)  # fmt: skip


@pytest.mark.parametrize(
    "name", [name for name in list_recipes() if "listed" in get_recipe(name).to_json()]
)
def test_recipes_learn_from_what_is_said(
    name: str, sources: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learners, "load_imagenet", lambda _backbone, **_which: None)
    recipe = get_recipe(name)
    assert Recipe.from_json(recipe.to_json()) == recipe
    small = override(
        recipe, [change for change in TINY if change.partition("=")[0] in field_names(recipe)]
    )
    data = sources if len(recipe.branches) > 1 else sources["gsv_cities"]
    named = (
        {one: Dataset(folder) for one, folder in data.items()}
        if isinstance(data, dict)
        else Dataset(data)
    )
    task = make_task(small, named, pixels_folder=tmp_path, show_progress=False)
    with Step(task, options=small.loop) as step:
        step.open()
        before = [weight.detach().clone() for weight in step.learner.parameters()]
        said = step.take()
    assert math.isfinite(said["loss"])
    if len(recipe.branches) > 1:
        assert said["loss"] == pytest.approx(
            sum(said[branch.name] for branch in recipe.branches), rel=1e-5
        )
    assert any(
        not torch.equal(one, two)
        for one, two in zip(before, step.learner.parameters(), strict=True)
    )
    tensors = step.tensors()
    assert any("mined" in key for key in tensors) == ('"clique"' in recipe.to_json())


def test_a_run_on_six_sub_batches_goes_on(
    sources: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learners, "load_imagenet", lambda _backbone, **_which: None)
    words = [word for change in TINY for word in ("--set", change)]
    words += [
        word for name, folder in sources.items() for word in ("--dataset", f"{name}={folder}")
    ]
    command = [
        "train",
        "megaloc-small",
        *words,
        "--cache",
        str(tmp_path / "pixels"),
        "-q",
        "--out",
        str(tmp_path / "run"),
    ]
    assert run(command) == 0
    whole = read_checkpoint(tmp_path / "run" / FINAL).tensors
    # As if stopped after the first step, in the middle of what was mined.
    newest = newest_checkpoint(tmp_path / "run" / "checkpoints")
    assert newest is not None
    newest.unlink()
    assert run([*command, "--resume"]) == 0
    again = read_checkpoint(tmp_path / "run" / FINAL).tensors
    assert all(torch.equal(value, again[key]) for key, value in whole.items())


def test_a_vocabulary_of_ones_own(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sets = [
        "learner.backbone=resnet18conv2", "learner.backbone_options={}", "learner.start_from=",
        "augment.width=64", "augment.height=48", "learner.domain=rendered streets",
        "aggregator.options.num_words=3", "words.num_photos=20",
    ]  # fmt: skip
    words = [word for change in sets for word in ("--set", change)]
    out = tmp_path / "words"
    command = [
        "train",
        "anyloc-vocabulary",
        *words,
        "--dataset",
        str(world / "database"),
        "--out",
        str(out),
        "-q",
    ]
    assert run(command) == 0
    model = load_model(str(out / FINAL))
    assert "rendered streets" in model.card.training_data
    found = read_checkpoint(out / FINAL).tensors["aggregator.words"]
    assert torch.allclose(found.norm(dim=1), torch.ones(3), atol=1e-3), "k-means by cosine"
    assert model.describe([np.full((48, 64, 3), 9, np.uint8)]).shape == (1, 3 * 64)
    capsys.readouterr()
    assert (
        run(
            [
                *command[:-2],
                str(tmp_path / "other"),
                "-q",
                "--set",
                "aggregator.name=gem",
                "--set",
                "aggregator.options={}",
            ]
        )
        == 1
    )
    assert "visual words" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("by", "match"), [("listed", "no photos"), ("scene", "MegaScenes"), ("clique", "MSLS")]
)
def test_folders_of_another_layout_are_refused(by: str, match: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=match):
        make_batches(Dataset(tmp_path), places=PlaceOptions(by=by), options=TWO, seed=0)  # type: ignore[arg-type]
    with pytest.raises(BadOption, match="folder"):
        make_batches(Dataset(Photos.of([])), places=PlaceOptions(by=by), options=TWO, seed=0)  # type: ignore[arg-type]


def test_frames_of_msls_say_their_group(sources: dict[str, Path]) -> None:
    found = read_msls(sources["msls"])
    assert {cell.partition("/")[0] for cell in found.database.cell} == {"city00", "city01"}
    assert all(cell.partition("/")[2] for cell in found.queries.cell)
