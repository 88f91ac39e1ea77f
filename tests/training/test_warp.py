"""Training GeoWarp's regressor: losses against their formulas, mining against the slow way, and
runs that resume and freeze."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("accelerate")
pytest.importorskip("pytorch_metric_learning")

from safetensors.torch import save_file

from fills import hashed
from training_samples import draw, given
from whence.cards import ModelCard, Preprocessing
from whence.cli import run
from whence.data.formats import EvaluationSet, read_folders
from whence.errors import BadOption, NoPhotos
from whence.evaluation.benchmarks import EvaluationOptions, evaluate
from whence.index.flat import FlatIndex
from whence.localize.rerank_options import RerankOptions
from whence.models.cards.text import CARD_FIELD, card_to_text
from whence.models.warp.geometry import frame
from whence.models.warp.model import GeoWarp, Regressor
from whence.models.warp.pairs import change_colours
from whence.models.zoo import named_network, network_for
from whence.recipes import RECIPES, get_recipe
from whence.training.branches import warps
from whence.training.branches.warps import Laps, mine_pairs
from whence.training.checkpoints import read_checkpoint
from whence.training.learners import RegressorLearner
from whence.training.loop import BEST, FINAL, Run
from whence.training.losses.warps import (
    BothOrders,
    consistency_loss,
    feature_loss,
    self_supervised_loss,
)
from whence.training.options.learners import RegressorOptions
from whence.training.options.validation import RerankedOptions
from whence.training.options.warps import FoundPairOptions
from whence.training.pixels import spread_rows
from whence.training.probes import RerankedProbe
from whence.training.recipe import Recipe, override
from whence.training.record import claim_run, read_log
from whence.training.step import Step
from whence.training.task import BatchPlace, Share
from whence.training.train import make_task, train

WARP_RECIPES = sorted(
    name for name, recipe in RECIPES.items() if recipe.learner.kind == "regressor"
)
SMALL = (
    "width=64", "height=48", "backbone=", "start_from=", "pairs.num_views=4", "pairs.num_pairs=3",
    "loop.precision=no", "schedule.warmup_steps=0", "schedule.name=constant",
    "optimizer.name=adamw", "optimizer.lr=0.002", "loop.log_every=1", "validate_on.num_queries=4",
)  # fmt: skip


@pytest.fixture(scope="module")
def data(world: Path) -> EvaluationSet:
    return read_folders(world)


@pytest.fixture(scope="module")
def pixels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pixels")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_model(tmp_path_factory.mktemp("model"), "resnet18conv2")


def write_model(folder: Path, backbone: str, size_px: tuple[int, int] | None = None) -> str:
    """A network with random weights as a file with a card."""
    preprocessing = Preprocessing(size_px=size_px, interpolation="bilinear")
    card = ModelCard(
        f"made-{backbone}",
        "random weights",
        0,
        preprocessing,
        "MIT",
        backbone=backbone,
        aggregator="gem",
    )
    torch.manual_seed(3)
    network = network_for(card)
    card = ModelCard(
        f"made-{backbone}",
        "random weights",
        network.dim,
        preprocessing,
        "MIT",
        backbone=backbone,
        aggregator="gem",
    )
    file = folder / f"{backbone}.safetensors"
    save_file(network.state_dict(), file, {CARD_FIELD: card_to_text(card)})
    return str(file)


def recipe_of(model: str, *changes: str, name: str = "geowarp-tiny") -> Recipe:
    recipe = get_recipe(name)
    assert recipe.learner.kind == "regressor"
    return override(recipe, [*SMALL, f"model={model}", *changes])


def weights(folder: Path, name: str = FINAL) -> dict[str, torch.Tensor]:
    return read_checkpoint(folder / name).tensors


def is_equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(
        torch.equal(value, second[name]) for name, value in first.items()
    )


def predictions(seed: int) -> torch.Tensor:
    """Made-up quadrilaterals (3, 8, 2) near the whole image."""
    return frame(like=torch.zeros(())).repeat(2, 1) + 0.3 * hashed((3, 8, 2), seed=seed)


def test_the_self_supervised_loss_is_its_formula() -> None:
    found, quads = BothOrders(predictions(1), predictions(2)), predictions(3)
    a, b = quads[:, :4], quads[:, 4:]
    slow, printed = 0.0, 0.0
    for i, corner, axis in itertools.product(range(3), range(4), range(2)):
        for quad, target in (
            (found.forth[:, :4], a),
            (found.forth[:, 4:], b),
            (found.back[:, :4], b),
            (found.back[:, 4:], a),
        ):
            slow += float(quad[i, corner, axis] - target[i, corner, axis]) ** 2 / 24
        for quad, target in ((found.forth[:, :4], a), (found.forth[:, 4:], b)):
            printed += float(quad[i, corner, axis] - target[i, corner, axis]) ** 2 / 3
    assert float(self_supervised_loss(found, quads_a=a, quads_b=b)) == pytest.approx(slow, rel=1e-5)
    assert float(self_supervised_loss(found, quads_a=a, quads_b=b, form="paper")) == pytest.approx(
        printed, rel=1e-5
    )
    swapped = BothOrders(found.back, found.forth)
    assert float(self_supervised_loss(swapped, quads_a=b, quads_b=a)) == pytest.approx(
        slow, rel=1e-5
    )
    exact = BothOrders(quads, quads.roll(4, dims=1))
    assert float(self_supervised_loss(exact, quads_a=a, quads_b=b)) == 0


def unflipped(quads: torch.Tensor) -> torch.Tensor:
    """Section 8 of the published code's notes: neighbouring rows swapped, x negated."""
    rows = quads[:, [1, 0, 3, 2, 5, 4, 7, 6]].clone()
    rows[..., 0] *= -1
    return rows


def test_the_consistency_loss_is_its_formula() -> None:
    found, mirrored = (
        BothOrders(predictions(1), predictions(2)),
        BothOrders(predictions(3), predictions(4)),
    )
    turned = [
        torch.cat([quads[:, 4:], quads[:, :4]], dim=1)
        for quads in (found.back, unflipped(mirrored.back))
    ]
    four = [found.forth, turned[0], unflipped(mirrored.forth), turned[1]]
    mean = sum(four) / 4
    slow = sum(float((one - mean).square().mean()) for one in four)
    printed = sum(float((one - mean).square().sum()) for one in four) / 3 / 4
    assert float(consistency_loss(found, mirrored=mirrored)) == pytest.approx(slow, rel=1e-5)
    assert float(consistency_loss(found, mirrored=mirrored, form="paper")) == pytest.approx(
        printed, rel=1e-5
    )
    agreeing = BothOrders(unflipped(found.forth), unflipped(found.forth).roll(4, dims=1))
    same = consistency_loss(BothOrders(found.forth, found.forth.roll(4, dims=1)), mirrored=agreeing)
    assert float(same) == pytest.approx(0, abs=1e-10)


def test_the_mean_of_predictions_gets_no_gradient() -> None:
    parts = [predictions(seed).requires_grad_() for seed in range(1, 5)]
    consistency_loss(BothOrders(*parts[:2]), mirrored=BothOrders(*parts[2:])).backward()
    mean = (
        parts[0] + parts[1].roll(4, 1) + unflipped(parts[2]) + unflipped(parts[3]).roll(4, 1)
    ).detach() / 4
    expected = 2 * (parts[0].detach() - mean) / parts[0].numel()
    assert torch.allclose(parts[0].grad, expected, atol=1e-7)


def test_the_feature_loss_is_its_formula() -> None:
    first, second = (
        torch.nn.functional.normalize(hashed((2, 6, 3, 4), seed=seed), dim=1) for seed in (1, 2)
    )
    cosines = (first * second).sum(dim=1)
    assert float(feature_loss(first, second)) == pytest.approx(
        float(2 / 6 * (1 - cosines).mean()), rel=1e-5
    )
    printed = sum(float(cosine) ** 2 for cosine in cosines.flatten()) / 2
    assert float(feature_loss(first, second, form="paper")) == pytest.approx(printed, rel=1e-5)
    assert float(feature_loss(first, first)) == 0
    assert float(feature_loss(first, first, form="paper")) == pytest.approx(12), (
        "what is printed punishes likeness"
    )


def test_pairs_are_those_of_the_slow_way() -> None:
    random = np.random.default_rng(5)
    stored, asked = random.normal(size=(60, 4)), random.normal(size=(30, 4))
    stored, asked = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (stored, asked))
    places, asking = random.uniform(0, 40, (60, 2)), random.uniform(0, 40, (30, 2))
    options = FoundPairOptions(num_retrieved=12, radius_m=10.0, max_squared_distance=0.9)
    near = FlatIndex.over(stored.astype(np.float32)).search(
        asked.astype(np.float32), k=options.num_retrieved
    )
    found = near.ids, 2 - 2 * near.similarities
    slow = set()
    for query in range(30):
        distances = ((stored - asked[query]) ** 2).sum(axis=1)
        for row in np.argsort(distances)[:12]:
            if np.hypot(*(places[row] - asking[query])) <= 10 and distances[row] < 0.9:
                slow.add((query, int(row)))
    mined = mine_pairs(*found, database_m=places, queries_m=asking, options=options)
    assert set(map(tuple, mined.tolist())) == slow
    assert len(mined) == len(slow) > 20
    with pytest.raises(NoPhotos, match="radius_m"):
        mine_pairs(*found, database_m=places + 1000, queries_m=asking, options=options)


def test_rows_are_spread() -> None:
    assert spread_rows(5, 0).tolist() == [0, 1, 2, 3, 4]
    assert spread_rows(5, 9).tolist() == [0, 1, 2, 3, 4]
    assert spread_rows(101, 3).tolist() == [0, 50, 100]
    assert spread_rows(0, 0).tolist() == []


def test_batches_go_through_all_photos_before_any_comes_again() -> None:
    def batches(laps: Laps, numbers: range, *, rank: int = 0) -> list[list[int]]:
        return [
            laps.batch(BatchPlace(*divmod(number, laps.num_batches)), rank=rank).tolist()
            for number in numbers
        ]

    def rows(laps: Laps, numbers: range) -> list[int]:
        return [row for batch in batches(laps, numbers) for row in batch]

    one = Laps("photos", 22, size=4, seed=1, stream=81)
    first = rows(one, range(5))
    assert len(set(first)) == 20
    pairs = Laps("pairs", 7, size=2, seed=1, stream=82)
    assert len(set(rows(pairs, range(3)))) == 6
    assert sorted(rows(one, range(5, 10))) != sorted(first)
    assert batches(one, range(2, 3))[0] == first[8:12], "a batch follows from its number alone"
    two = Laps("photos", 22, size=4, seed=1, stream=81, num_ranks=2)
    shared = [
        row
        for number in range(2)
        for rank in range(2)
        for row in batches(two, range(number, number + 1), rank=rank)[0]
    ]
    assert shared == first[:16]
    assert batches(one, range(1)) != batches(
        Laps("photos", 22, size=4, seed=2, stream=81), range(1)
    )
    with pytest.raises(BadOption, match="do not fill"):
        Laps("photos", 3, size=4, seed=1, stream=81)
    with pytest.raises(BadOption, match="batch norm"):
        Laps("pairs", 7, size=1, seed=1, stream=82)


def test_colours_change_but_not_what_is_seen() -> None:
    images = hashed((3, 3, 8, 10), seed=2)
    changed = change_colours(images, strength=0.4, generator=torch.Generator().manual_seed(1))
    again = change_colours(images, strength=0.4, generator=torch.Generator().manual_seed(1))
    assert torch.equal(changed, again)
    assert torch.allclose(change_colours(images, strength=0.0), images, atol=1e-6)
    for before, after in zip(
        images.flatten(0, 1).flatten(1), changed.flatten(0, 1).flatten(1), strict=True
    ):
        assert np.corrcoef(before, after)[0, 1] == pytest.approx(1, abs=1e-5)
        assert 0.59 < float(after.std() / before.std()) < 1.68
    assert float((changed.mean(dim=(2, 3)) - images.mean(dim=(2, 3))).abs().max()) > 0.05
    with pytest.raises(BadOption, match="strength"):
        change_colours(images, strength=1.0)


@pytest.mark.parametrize("name", WARP_RECIPES)
def test_check_recipe(
    name: str, model: str, pixels: Path, data: EvaluationSet, tmp_path: Path
) -> None:
    """Every recipe builds, lowers its loss on few photos, and resumes to the same numbers."""
    recipe = recipe_of(
        model,
        "loop.num_steps=12",
        "loop.save_every=6",
        "loop.validate_every=6",
        "loop.ema_decay=0.9",
        name=name,
    )
    assert Recipe.from_json(recipe.to_json()) == recipe
    given = {"validation": data, "pixels_folder": pixels, "show_progress": False}
    done = train(recipe, data, out=tmp_path / "whole", **given)
    lines = read_log(tmp_path / "whole" / "log.jsonl")
    losses = [line["self_supervised"] for line in lines if "loss" in line]
    assert len(losses) == 12
    assert np.mean(losses[-4:]) < np.mean(losses[:4])
    assert done.best_recall is not None
    measured = [line for line in lines if "recall" in line]
    assert [line["step"] for line in measured] == [6, 12]
    assert all(0 <= line["recall"] <= line["recall_bound"] <= 1 for line in measured)
    train(recipe, data, out=tmp_path / "parts", **given)
    (tmp_path / "parts" / "checkpoints" / "step-0000012.safetensors").unlink()
    again = train(recipe, data, out=tmp_path / "parts", is_resumed=True, **given)
    assert again.num_steps == 12
    for file in (FINAL, BEST):
        assert is_equal(weights(tmp_path / "whole", file), weights(tmp_path / "parts", file))


def run_of(model: str, data: EvaluationSet, out: Path, pixels: Path, *changes: str) -> Run:
    recipe = recipe_of(model, *changes)
    task = make_task(recipe, data, pixels_folder=pixels, out=out, show_progress=False)
    step = Step(task, options=recipe.loop)
    step.open(first=lambda: claim_run(out, recipe, data=task.data, is_resumed=False))
    return Run(step, recipe=recipe.name, out=out, show_progress=False)


def branch_of(run: Run, kind: str) -> Any:
    return {branch.name: branch for branch in run.step.task.branches}[kind]


def regressor_of(run: Run) -> Regressor:
    assert isinstance(run.step.learner, Regressor)
    return run.step.learner


def test_the_backbone_stays_as_it_is(
    model: str, data: EvaluationSet, pixels: Path, tmp_path: Path
) -> None:
    training = run_of(
        model, data, tmp_path / "run", pixels, "losses.readout=exact", "loop.num_steps=3"
    )
    start = {name: value.clone() for name, value in regressor_of(training).state_dict().items()}
    training.run()
    kept = named_network(model).state_dict()
    network = branch_of(training, "views").warping.network
    assert is_equal(dict(network.state_dict()), dict(kept)), "batch norms too"
    assert all(weight.grad is None and not weight.requires_grad for weight in network.parameters())
    assert not is_equal(start, dict(regressor_of(training).state_dict()))
    learning = {
        id(weight)
        for optimizer in training.step.optimizers
        for group in optimizer.param_groups
        for weight in group["params"]
    }
    assert learning == {id(weight) for weight in regressor_of(training).parameters()}


def test_maps_computed_once_are_those_computed_each_time(
    model: str, data: EvaluationSet, pixels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = (
        "losses.self_supervised=0",
        "loop.num_steps=12",
        "pairs.max_queries=5",
        "losses.consistency=0.1",
        "pairs.num_pairs=2",
    )
    once = run_of(model, data, tmp_path / "once", pixels, *changes)
    computed = []
    pairs = branch_of(once, "pairs")
    compute = pairs.map
    monkeypatch.setattr(
        pairs, "map", lambda images, draw: computed.append(len(images)) or compute(images, draw)
    )
    once.run()
    mined = np.load(tmp_path / "once" / "pairs.npy")
    assert len(set(mined[:, 0].tolist())) <= 5
    photos = len(set(mined[:, 0].tolist())) + len(set(mined[:, 1].tolist()))
    assert sum(computed) <= 2 * photos, "each photo and its mirror image at most once"
    monkeypatch.setattr(warps, "REMEMBERED_BYTES", 0)
    each = run_of(model, data, tmp_path / "each", pixels, *changes)
    each.run()
    assert is_equal(weights(tmp_path / "once"), weights(tmp_path / "each"))


@pytest.mark.parametrize(
    "changes",
    [
        ("losses.features=0", "losses.consistency=0", "pairs.colour=0.3"),
        ("losses.self_supervised=0", "losses.consistency=0"),
        ("losses.self_supervised=0", "losses.features=0"),
        ("losses.form=paper", "losses.readout=exact", "loop.accumulate=2"),
        ("losses.orders=apart", "optimizer.decays_all=true", "optimizer.weight_decay=0.01"),
    ],
)
def test_each_loss_alone_moves_the_regressor(
    changes: tuple[str, ...], model: str, data: EvaluationSet, pixels: Path, tmp_path: Path
) -> None:
    torch.manual_seed(2)
    moved = Regressor()
    # One that finds all photos whole is consistent already.
    torch.nn.init.normal_(moved.linear.weight, std=0.05)
    save_file(moved.state_dict(), tmp_path / "moved.safetensors")
    changes = (*changes, f"start_from={tmp_path / 'moved.safetensors'}")
    start = dict(
        regressor_of(run_of(model, data, tmp_path / "start", pixels, *changes)).state_dict()
    )
    training = run_of(model, data, tmp_path / "run", pixels, *changes, "loop.num_steps=3")
    training.run()
    assert all(np.isfinite(line["loss"]) for line in read_log(tmp_path / "run" / "log.jsonl"))
    assert not torch.equal(start["linear.bias"], regressor_of(training).state_dict()["linear.bias"])


def test_orders_go_through_the_regressor_together_or_apart(
    model: str, data: EvaluationSet, pixels: Path, tmp_path: Path
) -> None:
    """Apart, batch norms take the statistics of each order alone, and count each: as the published
    training does."""
    similarities = torch.rand(4, 225, 15, 15, generator=torch.Generator().manual_seed(0))
    found = {}
    for orders in ("together", "apart"):
        training = run_of(model, data, tmp_path / orders, pixels, f"losses.orders={orders}")
        views = branch_of(training, "views")
        regressor_of(training).linear.weight.data.fill_(0.01)
        regressor_of(training).train()
        found[orders] = torch.cat(
            views.regress(regressor_of(training), similarities, num_batches=2)
        )
        counts = [
            norm.num_batches_tracked.item()
            for norm in regressor_of(training).modules()
            if hasattr(norm, "num_batches_tracked")
        ]
        assert set(counts) == {1 if orders == "together" else 2}
        if orders == "apart":
            slow = torch.cat(
                [regressor_of(training)(part) for part in (similarities[:2], similarities[2:])]
            )
            assert torch.allclose(found[orders], slow, atol=1e-6)
        regressor_of(training).eval()
        parts = torch.cat(views.regress(regressor_of(training), similarities, num_batches=2))
        assert torch.allclose(parts, regressor_of(training)(similarities), atol=1e-5), (
            "once trained there is no difference"
        )
    assert not torch.allclose(found["together"], found["apart"], atol=1e-4)
    assert all(branch.losses.orders == "apart" for branch in get_recipe("geowarp").branches)  # type: ignore[attr-defined]
    assert get_recipe("geowarp").optimizer.decays_all


def test_eight_photos_can_be_learned(
    model: str, data: EvaluationSet, pixels: Path, tmp_path: Path
) -> None:
    """The loop itself, on the same two views of each of eight photos at every step: the loss falls
    to a fifth."""
    changes = (
        "losses.features=0",
        "losses.consistency=0",
        "pairs.num_views=8",
        "loop.num_steps=120",
    )
    training = run_of(model, data, tmp_path / "run", pixels, *changes)
    branch = branch_of(training, "views")
    batch = branch.read(BatchPlace(0, 0), Share())
    views = branch.change(batch.content, draw())
    branch.read = lambda place, share: batch
    branch.change = lambda content, draw: views
    training.run()
    losses = [line["self_supervised"] for line in read_log(tmp_path / "run" / "log.jsonl")]
    assert np.mean(losses[-10:]) < np.mean(losses[:3]) / 5


def test_validation_is_the_evaluation(data: EvaluationSet, pixels: Path, tmp_path: Path) -> None:
    """What the best weights are chosen by is what `evaluate` counts, with candidates described at
    the card's own size."""
    model = write_model(tmp_path, "resnet18conv2", size_px=(24, 32))
    network = named_network(model)
    torch.manual_seed(1)
    regressor = GeoWarp(network.backbone).regressor
    torch.nn.init.normal_(regressor.linear.weight, std=0.05)
    save_file(regressor.state_dict(), tmp_path / "regressor.safetensors")
    options = RegressorOptions(model=model, width=64, height=48)
    learner = RegressorLearner(
        options, recipe="made", seed=0, size_px=(0, 0), device=torch.device("cpu")
    )
    validation = RerankedProbe(
        RerankedOptions(num_candidates=4, radius_m=25.0), given(data, pixels, learner=learner)
    )
    validation.open()
    found = validation.measure(regressor)
    chosen = {"model": model, "long_side_px": 64, "margin": 0.0}
    for weights_of, name in (
        ({"weights": str(tmp_path / "regressor.safetensors")}, "recall"),
        (None, "recall_before"),
    ):
        rerank = (
            None
            if weights_of is None
            else RerankOptions("geowarp", 4, None, {**chosen, **weights_of})
        )
        result = evaluate(
            model,
            data,
            options=EvaluationOptions((25.0,), (1, 4), rerank=rerank),
            show_progress=False,
        )
        assert found[name] == pytest.approx(result.thresholds[0].all_queries[0].value, abs=0.051), (
            "a query or two lie on the edge"
        )
        assert found["recall_bound"] == pytest.approx(
            result.thresholds[0].all_queries[1].value, abs=0.051
        )
    assert (
        validation.measure(GeoWarp(network.backbone).regressor)["recall"]
        == found["recall_unwarped"]
    )


@pytest.mark.parametrize(
    ("backbone", "size"),
    [("resnet18conv3", (64, 48)), ("vgg16", (64, 48)), ("dinov2_vits14", (56, 42))],
)
def test_any_backbone_with_one_command(
    backbone: str,
    size: tuple[int, int],
    world: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = write_model(tmp_path, backbone)
    arguments = [
        "train",
        "geowarp-tiny",
        "--model",
        model,
        "--dataset",
        str(world),
        "--out",
        str(tmp_path / "run"),
        "--json",
    ]
    sizes = ["--set", f"width={size[0]}", "--set", f"height={size[1]}", "--set", "loop.num_steps=2"]
    assert run([*arguments, *sizes]) == 0
    assert json.loads(capsys.readouterr().out)["num_steps"] == 2
    record = json.loads((tmp_path / "run" / "recipe.json").read_text())
    assert record["recipe"]["learner"]["model"] == model
    pair = sorted(str(file) for file in (world / "database").rglob("*.jpg"))[:2]
    options = [f"weights={tmp_path / 'run' / FINAL}", f"model={model}", "long_side_px=64"]
    flags = [word for option in options for word in ("--scorer-option", option)]
    assert run(["match", *pair, "--scorer", "geowarp", *flags, "--json"]) == 0
    assert 0 < json.loads(capsys.readouterr().out)["similarity"] <= 225.5


def test_what_cannot_be_trained_is_said(
    model: str,
    world: Path,
    data: EvaluationSet,
    pixels: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(BadOption, match="nothing would be learned"):
        run_of(
            model,
            data,
            tmp_path / "a",
            pixels,
            "losses.self_supervised=0",
            "losses.features=0",
            "losses.consistency=0",
        )
    with pytest.raises(BadOption, match="--model"):
        run_of("", data, tmp_path / "b", pixels)
    with pytest.raises(BadOption, match="width and height"):
        run_of(model, data, tmp_path / "c", pixels, "width=0")
    assert run(["train", "tiny", "--model", model, "--dry-run"]) == 1
    assert "--model" in capsys.readouterr().err
    assert (
        run(
            [
                "train",
                "geowarp-small",
                "--model",
                model,
                "--dataset",
                str(world),
                "--dry-run",
                "--json",
            ]
        )
        == 0
    )
    record = json.loads(capsys.readouterr().out)
    assert record["recipe"]["learner"]["model"] == model
    assert record["data"]["num_queries"] == len(data.queries)


def test_a_regressor_to_start_from(
    model: str, data: EvaluationSet, pixels: Path, tmp_path: Path
) -> None:
    run_of(model, data, tmp_path / "first", pixels, "loop.num_steps=2").run()
    second = run_of(
        model, data, tmp_path / "second", pixels, f"start_from={tmp_path / 'first' / FINAL}"
    )
    assert is_equal(weights(tmp_path / "first"), dict(regressor_of(second).state_dict()))
