"""Learning from map tiles: the published augmentation, loss, draws and groups, and a training that
goes on where it stopped."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("pytorch_metric_learning")
import torch
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as change

from fills import image_of, squares
from training_samples import draw, given
from whence.data.footprints import footprint_of, iou
from whence.data.tiles import Tile, box_corners, overlap_matrix, tile_name
from whence.errors import BadOption, NoPhotos
from whence.recipes import get_recipe
from whence.training.branches.pair_batches import find_pairs, north_up_turns
from whence.training.branches.tile_groups import TileBatches, k_means, shares_of
from whence.training.branches.tile_places import read_tiles
from whence.training.branches.tiles import TileBranch
from whence.training.datasets import Dataset
from whence.training.losses.neutral import NeutralAwareLoss, pair_loss
from whence.training.options.photo_pairs import PhotoPairsOptions
from whence.training.options.tiles import TilesOptions, YearWiseOptions
from whence.training.task import BatchPlace, Share
from whence.training.yearly import YearChange, changed, draw_change

SMALL = YearWiseOptions(width=32, height=32, stored_px=48, crop_px=40)
OPTIONS = TilesOptions(
    num_places=6, num_groups=3, batches_per_epoch=4, regroup_every=2, augment=SMALL
)
YEARS = (2019, 2020, 2021)


@pytest.fixture(scope="module")
def tiles(tmp_path_factory) -> Path:
    """Twenty places in three years, of four colours."""
    root = tmp_path_factory.mktemp("tiles")
    random = np.random.default_rng(0)
    for row in range(4):
        for column in range(5):
            for year in YEARS:
                path = (
                    root
                    / "train"
                    / "database"
                    / tile_name(Tile(10, 360 + 2 * row, 480 + 2 * column), year=year)
                )
                path.parent.mkdir(parents=True, exist_ok=True)
                colour = np.array([60 * row, 40 * column, 120])
                cv2.imwrite(
                    str(path),
                    np.clip(colour + random.normal(0, 4, (24, 24, 3)), 0, 255).astype(np.uint8),
                )
    return root


def published_images() -> Tensor:
    y, x = torch.meshgrid(torch.arange(80.0), torch.arange(80.0), indexing="ij")
    image = torch.stack([x / 79, y / 79, squares((80, 80), 7) + 0.5])
    return torch.stack([image, 1 - image])


def unnormalised(image: Tensor) -> Tensor:
    return image * torch.tensor([0.229, 0.224, 0.225]) + torch.tensor([0.485, 0.456, 0.406])


def test_the_published_chain_of_changes() -> None:
    turned = change.rotate(
        published_images(), 30.0, interpolation=InterpolationMode.BILINEAR, fill=[0.0]
    )
    assert turned[0, :, 20, 50].tolist() == pytest.approx([0.738522, 0.352690, 0.219558], abs=2e-3)
    options = YearWiseOptions(width=32, height=32, stored_px=80, crop_px=70)
    how = YearChange(30.0, 4, 6, ((9, 5), (60, 11), (66, 57), (3, 62)), ())
    plain = changed(published_images(), how, options)[0]
    assert unnormalised(plain[:, 0, 0]).tolist() == pytest.approx(
        [0.335867, 0.020894, 0.520735], abs=2e-3
    )
    assert unnormalised(plain[:, 16, 9]).tolist() == pytest.approx(
        [0.316456, 0.447728, 0.645270], abs=2e-3
    )
    colours = how._replace(colours=(("brightness", 1.5), ("contrast", 0.6), ("saturation", 0.3)))
    found = changed(published_images(), colours, options)[0, :, 16, 9]
    assert found.tolist() == pytest.approx([0.649727, 0.951925, 1.406966], abs=2e-3)


def test_changes_are_drawn_as_published() -> None:
    """Of a crop of 700 pixels corners move inward by 0 to 175; what is left is a square of 349 to
    627, 428 in the median."""
    random, sides = np.random.default_rng(0), []
    for _ in range(2000):
        how = draw_change(YearWiseOptions(), random)
        (ax, ay), (bx, by), (cx, cy), (dx, dy) = how.corners
        inward = [ax, ay, 699 - bx, by, 699 - cx, 699 - cy, dx, 699 - dy]
        assert 0 <= min(inward) <= max(inward) <= 175
        assert abs(how.angle_deg) <= 45
        assert 0 <= min(how.top_px, how.left_px) <= max(how.top_px, how.left_px) <= 100
        assert sorted(name for name, _ in how.colours) == ["brightness", "contrast", "saturation"]
        assert all(0.1 <= value <= 1.9 for _, value in how.colours)
        sides.append(min(min(bx, cx) - max(ax, dx), min(cy, dy) - max(ay, by)))
    assert min(sides) >= 349
    assert max(sides) <= 699
    assert np.median(sides) == pytest.approx(428, abs=12)


@pytest.mark.parametrize(
    ("overlap", "loss", "row", "norm"),
    [
        (
            False,
            2.005688,
            [-0.034380, 0.040874, 0.021802, -0.021477, 0.076500, -0.018046],
            0.314123,
        ),
        (True, 1.932756, [-0.026445, -0.023990, 0.016696, 0.033281, 0.058779, -0.048515], 0.350726),
    ],
)
def test_the_published_loss_and_its_gradient(
    overlap: bool, loss: float, row: list[float], norm: float
) -> None:
    given_rows = image_of((12, 6)).requires_grad_()
    neutral = torch.eye(3, dtype=torch.bool)
    neutral[0, 1] = neutral[1, 0] = overlap
    found = NeutralAwareLoss(TilesOptions().loss)(
        torch.nn.functional.normalize(given_rows, dim=1), torch.arange(12) // 4, neutral
    )
    found.backward()
    assert found.item() == pytest.approx(loss, abs=1e-5)
    assert given_rows.grad is not None
    assert given_rows.grad[0].tolist() == pytest.approx(row, abs=1e-5)
    assert float(given_rows.grad.norm()) == pytest.approx(norm, abs=1e-5)


def test_the_described_loss_over_pairs_and_its_gradient() -> None:
    queries, found_tiles = (image_of((4, 6), number).requires_grad_() for number in (1000, 1001))
    pulls, pushes = pair_loss(queries, found_tiles)
    assert (pulls.item(), pushes.item()) == pytest.approx((0.409378, 0.853507), abs=1e-5)
    (pulls + pushes).backward()
    assert queries.grad is not None
    assert found_tiles.grad is not None
    expected = [0.004226, 0.151768, 0.346916, -0.454085, -0.163725, 0.290634]
    assert queries.grad[0].tolist() == pytest.approx(expected, abs=1e-5)
    expected = [0.026398, 0.465445, -0.180601, 0.326690, -0.251112, -0.347262]
    assert found_tiles.grad[0].tolist() == pytest.approx(expected, abs=1e-5)
    for number, value in enumerate((0.255862, 0.190353, 0.210492, 0.196800)):
        weights = tuple(float(number == one) for one in range(4))
        assert pair_loss(queries, found_tiles, weights=weights)[1].item() == pytest.approx(
            value, abs=1e-5
        )  # type: ignore[arg-type]


def test_places_are_the_tiles_that_are_there_in_every_year(tiles: Path, tmp_path: Path) -> None:
    places = read_tiles(Dataset(tiles))
    assert places.counts() == {"num_photos": 60, "num_places": 20, "num_years": 3}
    for of_place in places.rows:
        names = [Path(places.photos.paths[row]).name.split("@") for row in of_place]
        assert [name[10] for name in names] == [str(year) for year in YEARS]
        assert len({name[9] for name in names}) == 1
    near = places.overlaps(np.array([0, 1, 0, 19]))
    assert near.tolist() == [
        [True, True, True, False],
        [True, True, True, False],
        [True, True, True, False],
        [False] * 3 + [True],
    ]
    with pytest.raises(NoPhotos, match="database"):
        read_tiles(Dataset(tmp_path))


def test_batches_are_of_one_group_and_groups_of_any_size_are_drawn_alike(tiles: Path) -> None:
    batches = TileBatches(read_tiles(Dataset(tiles)), options=OPTIONS, seed=3)
    counts = np.bincount(batches.random_groups(0), minlength=3)
    assert counts.max() - counts.min() <= 1
    assert (batches.random_groups(0) != batches.random_groups(1)).any()
    batches.groups = np.array([0] * 15 + [1] * 4 + [2])
    drawn = [batches.batch(0, number) for number in range(300)]
    groups = [set(batches.groups[one].tolist()) for one in drawn]
    assert all(len(one) == 1 for one in groups)
    assert np.bincount([one.pop() for one in groups]) == pytest.approx([100, 100, 100], abs=35)
    # Without repetition where a group has enough places.
    for one in drawn:
        assert (
            len(set(one.tolist())) == min(6, int((batches.groups == batches.groups[one[0]]).sum()))
            or batches.groups[one[0]] > 0
        )
    assert (batches.batch(0, 7) == drawn[7]).all()
    with pytest.raises(BadOption, match="two places"):
        TileBatches(batches.places, options=replace(OPTIONS, num_places=1), seed=0)


def test_groups_are_those_of_like_descriptors() -> None:
    random = np.random.default_rng(0)
    rows = np.concatenate([random.normal(middle, 0.01, (20, 4)) for middle in (0, 1)]).astype(
        np.float32
    )
    centres, which = k_means(rows, 2, seed=0)
    assert centres.shape == (2, 4)
    assert [len(set(which[first : first + 20].tolist())) for first in (0, 20)] == [1, 1]
    assert len(set(which.tolist())) == 2
    assert len(k_means(rows[:2], 3, seed=0)[0]) == 2


def test_images_of_a_year_are_changed_alike_and_others_are_not(tiles: Path, tmp_path: Path) -> None:
    for per, alike in (("year", True), ("image", False)):
        options = replace(OPTIONS, augment=replace(SMALL, per=per))
        branch = TileBranch(options, given(tiles, tmp_path))
        content = branch.read(BatchPlace(0, 0), Share()).content
        changes = np.array([hash(how) for how in content.changes]).reshape(6, 3)
        assert all(len(set(column)) == 1 for column in changes.T) == alike
        assert len(set(changes[0])) == 3
        # A batch of one image many times: outputs of one year are equal, of two years they differ.
        same = content._replace(photos=content.photos[:1].expand(18, -1, -1, -1))
        images, _ = branch.change(same, draw())
        assert isinstance(images, Tensor)
        assert bool((images[0] == images[3]).all()) == alike
        assert not (images[0] == images[1]).all()


def test_labels_follow_the_years_and_overlaps_are_told_to_the_loss(
    tiles: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    for is_aware in (True, False):
        branch = TileBranch(replace(OPTIONS, is_neutral_aware=is_aware), given(tiles, tmp_path))
        place = BatchPlace(0, 1)
        content = branch.read(place, Share()).content
        told: list[Any] = []
        monkeypatch.setattr(
            branch.loss,
            "forward",
            lambda *values: told.append(values) or torch.zeros(()),  # noqa: B023
        )
        branch.learn(torch.nn.Flatten(), branch.change(content, draw()), draw())
        _, labels, neutral = told[0]
        assert labels.tolist() == [number // 3 for number in range(18)]
        expected = branch.places.overlaps(branch.batches.batch(*place))
        assert (neutral is None) == (not is_aware)
        assert not is_aware or (neutral.numpy() == expected).all()
        parts = [branch.read(place, Share(rank, 2)).content for rank in range(2)]
        assert torch.equal(torch.cat([part.photos for part in parts]), content.photos)


def test_published_constants() -> None:
    recipe = get_recipe("earthloc")
    (branch,) = recipe.branches
    assert isinstance(branch, TilesOptions)
    assert (
        branch.num_places,
        branch.num_groups,
        branch.batches_per_epoch,
        branch.regroup_every,
    ) == (96, 50, 500, 4)
    seen = branch.augment
    assert (seen.stored_px, seen.crop_px, seen.width, seen.rotation_deg, seen.distortion) == (
        800,
        700,
        320,
        45.0,
        0.5,
    )
    assert (seen.brightness, seen.contrast, seen.saturation, seen.hue) == (0.9, 0.9, 0.9, 0.0)
    assert branch.loss.options == {"alpha": 1.0, "beta": 50.0, "base": 0.0}
    assert branch.loss.miner_options == {"epsilon": 0.1}
    assert (
        recipe.optimizer.name,
        recipe.optimizer.lr,
        recipe.loop.num_steps,
        recipe.loop.patience,
    ) == ("adam", 1e-4, 10_000, 10)


@pytest.mark.parametrize("epoch", [0, 1, 2, 3, 4])
def test_the_network_is_asked_at_the_published_epochs(tiles: Path, epoch: int) -> None:
    batches = TileBatches(read_tiles(Dataset(tiles)), options=OPTIONS, seed=0)
    assert batches.is_regrouped(epoch) == (epoch in (2, 4))
    batches = TileBatches(batches.places, options=replace(OPTIONS, grouping="random"), seed=0)
    assert not batches.is_regrouped(epoch)


def test_a_training_on_tiles_groups_them_and_goes_on_from_its_groups(
    tiles: Path, tmp_path: Path
) -> None:
    """With maps that a frozen backbone keeps: the second training finds all of them."""
    from whence.training.recipe import override
    from whence.training.step import Step
    from whence.training.train import make_task

    small = (
        "start_from=", "aggregator.options={}", "aggregator.name=gem", "num_places=4",
        "num_groups=2", "batches_per_epoch=2", "regroup_every=1", "loop.precision=no",
        "loop.num_steps=3", "augment.width=32", "augment.height=32", "augment.stored_px=48",
        "augment.crop_px=40", "augment.num_views=2",
    )  # fmt: skip
    recipe = override(get_recipe("earthloc-small"), small)
    task = make_task(recipe, tiles, pixels_folder=tmp_path / "pixels", show_progress=False)
    with Step(task, options=recipe.loop) as step:
        step.open()
        losses = [float(step.take()["loss"]) for _ in range(3)]
        kept = task.branches[0].state()
    assert np.isfinite(losses).all()
    branch = TileBranch(recipe.branches[0], given(tiles, tmp_path / "pixels"))  # type: ignore[arg-type]
    branch.load_state(kept)
    assert (branch.batches.groups == kept["groups"].numpy()).all()


def test_one_head_learns_from_streets_landmarks_rooms_and_tiles(
    tiles: Path, sources: dict[str, Path], world: Path, tmp_path: Path
) -> None:
    from whence.training.recipe import override
    from whence.training.step import Step
    from whence.training.train import make_task

    small = (
        "start_from=", "batches.num_places=2", "batches.num_views=2", "places.radius_m=15",
        "batches.min_apart_m=8", "branches.3.num_places=4", "num_groups=2",
        "batches_per_epoch=2", "augment.stored_px=48", "augment.crop_px=40",
        "augment.width=64", "augment.height=64", "loop.num_steps=2", "loop.precision=no",
    )  # fmt: skip
    recipe = override(get_recipe("whence-lite0-many"), small)
    data = {
        "streets": Dataset(world),
        "megascenes": Dataset(sources["megascenes"]),
        "scannet": Dataset(sources["scannet"]),
        "earth": Dataset(tiles),
    }
    task = make_task(recipe, data, pixels_folder=tmp_path / "pixels", show_progress=False)
    with Step(task, options=recipe.loop) as step:
        step.open()
        said = step.take()
    assert said["loss"] == pytest.approx(sum(said[name] for name in data), rel=1e-5)
    assert all(np.isfinite(said[name]) for name in data)


@pytest.fixture(scope="module")
def earth(tmp_path_factory) -> Path:
    from whence.worlds.earth.plan import EarthSpec, RegionSize
    from whence.worlds.earth.world import render_earth

    out = tmp_path_factory.mktemp("earth") / "world"
    render_earth(
        out,
        EarthSpec(
            3, (RegionSize("region00", "train", 6, 10, (2020, 2021)),), tile_px=16, photo_px=16
        ),
        num_workers=1,
    )
    return out


def test_pairs_share_enough_and_pairs_of_a_batch_share_nothing(earth: Path) -> None:
    found = find_pairs(Dataset(earth), least_iou=0.2)
    assert set(found.counts()) == {"num_photos", "num_places", "num_pairs"}
    polygons = box_corners(found.places.boxes)
    for row, place in found.pairs:
        assert iou(footprint_of(found.photos.paths[row]), polygons[place]) > 0.2
    sizes = []
    for number in range(5):
        chosen = found.batch(8, seed=0, epoch=0, number=number)
        sizes.append(len(chosen))
        near = overlap_matrix(found.boxes[chosen])
        assert near.sum() == len(chosen)
    assert max(sizes) >= 2
    with pytest.raises(NoPhotos, match="least_iou"):
        find_pairs(Dataset(earth), least_iou=0.999)


@pytest.mark.parametrize("turns", range(4))
def test_north_is_brought_nearest_to_the_top(turns: int) -> None:
    """Corners of a photo begin at its lower left: one that is turned begins at another corner of
    the ground."""
    north_up = np.array([[45.0, 7.0], [46.0, 7.1], [46.1, 8.0], [45.1, 7.9]])
    # The same corners as a picture, lower left first and clockwise: turned with it, they are read
    # again.
    numbers = np.rot90(np.array([[1, 2], [0, 3]]), turns)
    order = [numbers[1, 0], numbers[0, 0], numbers[0, 1], numbers[1, 1]]
    assert north_up_turns(north_up[order]) == (4 - turns) % 4


@pytest.mark.parametrize(
    ("counts", "expected"), [([6, 0, 3, 1], [0.6, 0, 0.3, 0.1]), ([0, 0], [0.5, 0.5])]
)
def test_groups_are_drawn_as_often_as_photos_fall_into_them(
    counts: list[int], expected: list[float], tiles: Path
) -> None:
    assert shares_of(np.array(counts)).tolist() == pytest.approx(expected)
    batches = TileBatches(
        read_tiles(Dataset(tiles)), options=replace(OPTIONS, num_groups=len(counts)), seed=0
    )
    batches.shares = np.array(counts, float)
    drawn = [set(batches.groups[batches.batch(0, number)].tolist()) for number in range(120)]
    share = np.bincount([one.pop() for one in drawn], minlength=len(counts)) / 120
    assert share == pytest.approx(np.array(expected), abs=0.15)
    assert all(
        share[group] == 0 for group, count in enumerate(counts) if count == 0 and sum(counts)
    )


def test_photos_and_tiles_learn_together(earth: Path, tmp_path: Path) -> None:
    from whence.training.recipe import override
    from whence.training.step import Step
    from whence.training.train import make_task

    small = (
        "start_from=", "aggregator.options={}", "aggregator.name=gem", "num_places=4",
        "num_pairs=2", "num_groups=2", "batches_per_epoch=2", "regroup_every=1",
        "loop.precision=no", "loop.num_steps=3", "augment.width=32", "augment.height=32",
        "augment.stored_px=48", "augment.crop_px=40", "augment.num_views=2", "least_iou=0.1",
    )  # fmt: skip
    recipe = override(get_recipe("astroloc-small"), small)
    task = make_task(recipe, earth, pixels_folder=tmp_path / "pixels", show_progress=False)
    pairs, mined = task.branches
    content = pairs.read(BatchPlace(0, 0), Share()).content
    rows, _, _ = pairs.seen(pairs.places_of(BatchPlace(0, 0)), BatchPlace(0, 0))  # type: ignore[attr-defined]
    half = len(rows) // 2
    assert (rows[:half] < 0).all()
    assert (rows[half:] >= 0).all()
    assert content.photos.shape == (len(rows), 48, 48, 3)
    with Step(task, options=recipe.loop) as step:
        step.open()
        losses = [float(step.take()["loss"]) for _ in range(3)]
    assert np.isfinite(losses).all()
    # Ten photos fall somewhere.
    assert mined.state()["shares"].sum() == 10


def test_constants_of_the_description() -> None:
    recipe = get_recipe("astroloc")
    pairs, mined = recipe.branches
    assert isinstance(pairs, PhotoPairsOptions)
    assert isinstance(mined, TilesOptions)
    assert (
        pairs.num_pairs,
        pairs.least_iou,
        pairs.alpha,
        pairs.beta,
        pairs.weight,
        mined.weight,
    ) == (48, 0.2, 1, 50, 1, 1)
    assert (mined.num_places, mined.num_groups, mined.batches_per_epoch * mined.regroup_every) == (
        48,
        50,
        5000,
    )
    assert (recipe.optimizer.lr, recipe.loop.num_steps, recipe.learner.aggregator.options) == (
        5e-5,
        30_000,
        {"fc_dim": 2048},
    )  # type: ignore[attr-defined]
