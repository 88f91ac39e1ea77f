"""Clients of a split, and what one of them does in a round. Rounds on Flower:
test_federated_rounds."""

from __future__ import annotations

import copy
import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from whence.data.formats import EvaluationSet, read_folders
from whence.data.photos import Photos
from whence.errors import BadOption, InputError, NoPhotos, UnreadableTable, WhenceError
from whence.geo import from_local_metres
from whence.models.aggregators import make_aggregator
from whence.models.backbones.base import Features
from whence.recipes import get_recipe
from whence.training.federated.local import (
    LocalStep,
    LocalWork,
    Tinted,
    load_travelling,
    tint_of,
    travelling,
)
from whence.training.federated.options import FederatedOptions, SplitOptions
from whence.training.federated.plans import ClientPlan, Federation, Work, num_learned_from
from whence.training.federated.splits import (
    gini,
    read_clients,
    split,
    usable_queries,
    write_clients,
)
from whence.training.losses.tuples import tuple_loss
from whence.training.recipe import Recipe, override
from whence.training.step import Step
from whence.training.train import make_task
from whence.types import GeoPoint, Photo
from whence.worlds.capture import CaptureOptions
from whence.worlds.city import WorldOptions, render_world


def photos_at(places: np.ndarray, *, prefix: str) -> Photos:
    lat, lon = from_local_metres(places[:, 0], places[:, 1], origin=GeoPoint(59.3, 18.0))
    points = [GeoPoint(float(a), float(b)) for a, b in zip(lat, lon, strict=True)]
    names = [
        f"{'north' if north > 0 else 'south'}/{prefix}{i:04d}.jpg"
        for i, (_, north) in enumerate(places)
    ]
    return Photos.of(
        [
            Photo(path=name, content=f"{prefix}{i:0>31}", point=point)
            for i, (name, point) in enumerate(zip(names, points, strict=True))
        ]
    )


@pytest.fixture(scope="module")
def town() -> EvaluationSet:
    """Photos every 8 m along four streets of 400 m, two on either side of the origin, and a query 3
    m from every other one."""
    along = np.arange(0, 400, 8.0)
    streets = np.concatenate(
        [
            np.stack([along, np.full(len(along), north)], axis=1)
            for north in (-400.0, -60.0, 60.0, 400.0)
        ]
    )
    return EvaluationSet(
        "town",
        photos_at(streets, prefix="d"),
        photos_at(streets[::2] + np.array([3.0, 0.0]), prefix="q"),
    )


@pytest.mark.parametrize("name", ["random", "clustering", "proximity", "city"])
def test_every_photo_is_one_clients_and_clients_can_learn(town: EvaluationSet, name: str) -> None:
    options = SplitOptions(name, 4, min_queries=5, num_negatives=3)  # type: ignore[arg-type]
    made, again = (split(town, options=options) for _ in range(2))
    assert np.array_equal(made.database, again.database)
    assert np.array_equal(made.queries, again.queries)
    assert made.num == (2 if name == "city" else 4)
    assert set(made.database) == set(range(made.num))
    for number in range(made.num):
        own = made.of(number)
        usable = usable_queries(own, options)
        assert usable.sum() == made.num_usable[number] >= 5
    report = made.report()
    assert report["lost"]["queries"] == 100 - made.num_usable.sum()
    assert report["lost"]["photos_of_nobody"] == 0
    if name in ("clustering", "city"):
        assert report["span_m"]["most"] < 700
    if name == "random":
        assert report["span_m"]["least"] > 800, "cells of one client lie all over the town"


def test_positives_stay_with_their_queries(town: EvaluationSet) -> None:
    """Whole cells are given away: single photos at random would leave a sixth of the queries their
    positive."""
    made = split(town, options=SplitOptions("random", 6, min_queries=1))
    assert made.report()["lost"]["queries"] < 30
    assert made.report()["lost"]["of"] == 100


def test_skew_makes_clients_uneven(town: EvaluationSet) -> None:
    even, skewed = (
        split(
            town, options=SplitOptions("random", 6, skew=skew, min_queries=1, num_negatives=1)
        ).report()
        for skew in (0.0, 1.2)
    )
    assert skewed["photos"]["gini"] > even["photos"]["gini"] + 0.1
    with pytest.raises(BadOption, match="skew"):
        SplitOptions("clustering", skew=1.0)


def test_small_clients_join_the_nearest(town: EvaluationSet) -> None:
    made = split(town, options=SplitOptions("clustering", 12, min_queries=20, num_negatives=3))
    assert 1 < made.num < 12
    assert made.num_usable.min() >= 20
    with pytest.raises(NoPhotos, match="a client needs 200"):
        split(town, options=SplitOptions("random", 3, min_queries=200))
    with pytest.raises(BadOption, match="cells"):
        split(town, options=SplitOptions("random", 5000))


def test_cities_are_folders_that_both_sides_have() -> None:
    """Folders of weathers hold queries of several cities and are no clients."""
    places = np.array(
        [[0.0, 0.0], [60.0, 0.0], [120.0, 0.0], [5000.0, 0.0], [5060.0, 0.0], [5120.0, 0.0]]
    )
    sides = []
    for number, folders in enumerate(([""], ["night/", "snow/"])):
        names = [f"{folders[row % len(folders)]}city{row // 3}/{row}.jpg" for row in range(6)]
        points = [GeoPoint(48 + north / 111_000, 11 + east / 74_000) for east, north in places]
        photos = [
            Photo(path=name, content=f"{number}{row}", point=points[row])
            for row, name in enumerate(names)
        ]
        sides.append(Photos.of(photos))
    made = split(
        EvaluationSet("cities", *sides),
        options=SplitOptions("city", min_queries=1, num_negatives=1),
    )
    assert made.num == 2
    assert made.database.tolist() == made.queries.tolist() == [0, 0, 0, 1, 1, 1]


def test_a_split_is_read_as_it_was_written(town: EvaluationSet, tmp_path: Path) -> None:
    made = split(town, options=SplitOptions("proximity", 3, min_queries=5))
    write_clients(tmp_path / "clients.csv", made)
    read = read_clients(tmp_path / "clients.csv", town)
    assert np.array_equal(read.database, made.database)
    assert np.array_equal(read.queries, made.queries)
    assert np.array_equal(read.num_usable, made.num_usable)
    with open(tmp_path / "clients.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 300
    with pytest.raises(InputError, match="made of other photos"):
        read_clients(
            tmp_path / "clients.csv",
            EvaluationSet("x", town.database.select(np.arange(9)), town.queries),
        )
    with pytest.raises(UnreadableTable, match="not the clients of a split"):
        read_clients(tmp_path / "nothing.csv", town)
    with pytest.raises(BadOption, match="clients 0 to 2"):
        made.of(3)


def test_gini() -> None:
    assert gini(np.array([5, 5, 5])) == pytest.approx(0)
    assert gini(np.array([0, 0, 0, 8])) == pytest.approx(0.75)
    assert gini(np.zeros(3)) == 0


def test_options_that_make_no_sense() -> None:
    for given in ({"num_rounds": 0}, {"strategy": "fedvc"}, {"noise": 1.0}):
        with pytest.raises(BadOption):
            FederatedOptions(**given)  # type: ignore[arg-type]
    options = FederatedOptions("fedvc", num_steps=3)
    assert FederatedOptions.from_json(options.to_json()) == options
    plan = ClientPlan("a", "data", "pixels", number=2)
    assert ClientPlan.from_json(plan.to_json()) == plan


# What a client does.

CHANGES = [
    "optimizer.name=adam",
    "optimizer.lr=0.01",
    "mining.num_queries=4",
    "mining.num_candidates=12",
    "batch_queries=2",
]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> EvaluationSet:
    folder = tmp_path_factory.mktemp("world") / "city"
    render_world(
        folder,
        preset="tiny",
        options=WorldOptions(capture=CaptureOptions(width=64, height=48)),
        num_workers=1,
    )
    return read_folders(folder)


def recipe_of(*more: str) -> Recipe:
    return override(get_recipe("tiny-tuples"), [*CHANGES, *more])


def tensors_of(work: LocalWork) -> dict[str, np.ndarray]:
    return {
        name: value.detach().numpy().copy()
        for name, value in travelling(work.task.learner, norms=work.norms).items()
    }


def test_one_client_with_everything_is_a_central_training(
    world: EvaluationSet, tmp_path: Path
) -> None:
    """Bit by bit, where the central training's optimizer begins anew when rounds end."""
    recipe = recipe_of("loop.num_steps=6")
    client = LocalWork(recipe, world, pixels_folder=tmp_path, norms="local")
    sent = tensors_of(client)
    for number in range(3):
        sent = client.learn(sent, Work(number, 3)).tensors

    task = make_task(recipe, world, pixels_folder=tmp_path, show_progress=False)
    with Step(task, options=recipe.loop) as step:
        step.open()
        step.begin()
        for number in range(6):
            if number in (2, 4):
                fresh = copy.deepcopy(step.optimizers[0].state_dict())
                step.optimizers[0].load_state_dict({**fresh, "state": {}})
            step.take()
    central = {
        name: value.detach().numpy()
        for name, value in travelling(task.learner, norms="local").items()
    }
    assert all(np.array_equal(central[name], sent[name]) for name in central)
    plain = make_task(recipe, world, pixels_folder=tmp_path, show_progress=False)
    assert any(
        not np.array_equal(value.detach().numpy(), sent[name])
        for name, value in plain.learner.named_parameters()
    )


def test_a_rounds_work_follows_from_its_number_alone(world: EvaluationSet, tmp_path: Path) -> None:
    recipe = recipe_of()
    first, second = (LocalWork(recipe, world, pixels_folder=tmp_path) for _ in range(2))
    sent = tensors_of(first)
    first.learn(sent, Work(0, 2))
    there, anew = (one.learn(sent, Work(1, 2)) for one in (first, second))
    assert all(np.array_equal(there.tensors[name], anew.tensors[name]) for name in sent)
    assert there.num_steps == 2
    assert there.num_queries == num_learned_from(recipe, world) == len(world.queries)
    other = LocalWork(recipe, world, number=1, pixels_folder=tmp_path).learn(sent, Work(1, 2))
    assert any(not np.array_equal(there.tensors[name], other.tensors[name]) for name in sent), (
        "each client draws for itself"
    )
    still = second.learn(sent, Work(1, 2, proximal_mu=1e3))
    moved, held = (
        sum(float(np.abs(one.tensors[n] - sent[n]).sum()) for n in sent) for one in (anew, still)
    )
    assert held < moved


def test_the_proximal_gradient() -> None:
    """At w - w_t = 2 with mu = .5: one more."""
    layer = torch.nn.Linear(1, 1, bias=False)
    step = object.__new__(LocalStep)
    step.learner, step.mu = layer, 0.5
    step.first = [layer.weight.detach() - 2.0]
    layer.weight.grad = torch.full((1, 1), 3.0)
    with pytest.raises(AttributeError):
        step._update()
    assert layer.weight.grad.item() == pytest.approx(4.0)


def test_what_travels(world: EvaluationSet, tmp_path: Path) -> None:
    recipe = recipe_of("freeze_before=layer1")
    kept, averaged = (
        LocalWork(recipe, world, pixels_folder=tmp_path, norms=norms)
        for norms in ("kept", "averaged")
    )  # type: ignore[arg-type]
    names, more = set(tensors_of(kept)), set(tensors_of(averaged))
    assert names < more
    assert all("running" in name for name in more - names)
    assert not any(name.startswith("backbone.conv1") for name in names), (
        "what does not learn does not travel"
    )
    before = {name: value.clone() for name, value in kept.task.learner.named_buffers()}
    sent = tensors_of(kept)
    kept.learn(sent, Work(0, 1))
    assert all(
        torch.equal(value, before[name]) for name, value in kept.task.learner.named_buffers()
    ), "norms stay as they were"
    with pytest.raises(BadOption, match="another network"):
        load_travelling(kept.task.learner, {"x": np.zeros(1)}, norms="kept")
    wrong = {**sent, next(iter(sent)): np.zeros((1, 1))}
    with pytest.raises(BadOption, match="shape"):
        load_travelling(kept.task.learner, wrong, norms="kept")


def test_a_colour_cast_is_the_clients_own(world: EvaluationSet, tmp_path: Path) -> None:
    photos = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3)).astype(np.uint8)
    assert np.abs(Tinted(photos, tint_of(0, strength=0.0))[:2].astype(int) - photos[:2]).max() <= 1
    one, two = (Tinted(photos, tint_of(number, strength=1.0))[0] for number in (0, 1))
    assert np.abs(one.astype(int) - two).mean() > 5
    assert np.array_equal(one, Tinted(photos, tint_of(0, strength=1.0))[0])
    work = LocalWork(recipe_of(), world, pixels_folder=tmp_path, tint=1.0)
    update = work.learn(tensors_of(work), Work(0, 1))
    plain = LocalWork(recipe_of(), world, pixels_folder=tmp_path).learn(
        tensors_of(work), Work(0, 1)
    )
    assert update.losses != plain.losses


def test_a_folder_is_of_one_training(tmp_path: Path) -> None:
    made = Federation(recipe_of(), FederatedOptions(), tmp_path / "run")
    made.write()
    made.write()
    assert Federation.read(tmp_path / "run") == made
    with pytest.raises(BadOption, match="another federated training"):
        replace(made, options=FederatedOptions(num_rounds=3)).write()
    with pytest.raises(InputError, match="no federated training"):
        Federation.read(tmp_path)


# The note's fixtures: a small head on made-up maps, two clients, one query each with a positive and
# two negatives.


def filled(shape: tuple[int, ...], number: int) -> torch.Tensor:
    j = np.arange(int(np.prod(shape)), dtype=np.int64)
    values = ((31 * j * j + 17 * j + 101 * number + 7) % 1009) / 1009 - 0.5
    return torch.from_numpy(values.astype(np.float32)).reshape(shape)


class Head(torch.nn.Module):
    """L2, GeM, L2, Linear to 8, as CosPlace's."""

    def __init__(self) -> None:
        super().__init__()
        self.head = make_aggregator("cosplace", 16, options={"dim": 8})
        with torch.no_grad():
            for number, (name, value) in enumerate(self.head.state_dict().items()):
                h = filled(tuple(value.shape), number)
                scale = (24 / (value.numel() / value.shape[0])) ** 0.5 if value.ndim >= 2 else 0.2
                value.copy_(torch.full_like(value, 3.0) if name.endswith("p") else h * scale)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Descriptors (B, 8)."""
        found: torch.Tensor = self.head(Features(maps, None))
        return found


def learned_locally(
    number: int, optimizer: str, lr: float, steps: int
) -> tuple[dict[str, np.ndarray], list[float]]:
    model, maps, losses = Head(), 2 * filled((4, 16, 5, 7), number), []
    moving = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[optimizer](
        model.parameters(), lr=lr
    )
    for _ in range(steps):
        moving.zero_grad()
        rows = model(maps)
        loss = tuple_loss("triplet", rows[:1], rows[1:2], rows[None, 2:], margin=0.1)
        loss.backward()
        losses.append(float(loss.detach()))
        moving.step()
    return {name: value.detach().numpy() for name, value in model.named_parameters()}, losses


@pytest.mark.parametrize(
    ("optimizer", "lr", "steps", "losses", "averaged", "equal"),
    [
        (
            "sgd",
            0.1,
            1,
            (0.080117, 0.090051),
            (-0.058063, -0.049738, -0.026881, 0.006091),
            (-0.058144, -0.050175, -0.026937, 0.006590),
        ),
        (
            "sgd",
            0.1,
            3,
            (0.073671, 0.087258),
            (-0.056771, -0.050815, -0.025890, 0.004567),
            (-0.057056, -0.052155, -0.026102, 0.006083),
        ),
        (
            "adam",
            1e-3,
            1,
            (0.080117, 0.090051),
            (-0.057573, -0.050058, -0.026255, 0.006338),
            (-0.057573, -0.050058, -0.026255, 0.006838),
        ),
        (
            "adam",
            1e-3,
            3,
            (0.077326, 0.088243),
            (-0.055568, -0.052020, -0.024250, 0.005338),
            (-0.055568, -0.052032, -0.024250, 0.006838),
        ),
    ],
)
def test_golden_values_of_local_work(
    optimizer: str,
    lr: float,
    steps: int,
    losses: tuple[float, ...],
    averaged: tuple[float, ...],
    equal: tuple[float, ...],
) -> None:
    """Weights 3 : 1 and alike; Flower's own mean of these is in test_federated_rounds."""
    found = [learned_locally(number, optimizer, lr, steps) for number in (1000, 1001)]
    assert [one[1][-1] for one in found] == pytest.approx(losses, abs=2e-5)
    bias = next(name for name in found[0][0] if name.endswith("bias"))
    for shares, expected in (((0.75, 0.25), averaged), ((0.5, 0.5), equal)):
        mean = sum(share * one[0][bias] for share, one in zip(shares, found, strict=True))
        assert mean[:4] == pytest.approx(expected, abs=2e-6)


def test_unknown_fields_are_named() -> None:
    with pytest.raises(WhenceError, match="strategy"):
        FederatedOptions.from_json('{"strategi": "fedavg"}')
