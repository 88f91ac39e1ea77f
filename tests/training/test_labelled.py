"""SegVPR: places and what pixels show, learned together."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("accelerate")
pytest.importorskip("pytorch_metric_learning")

from fills import fill, image_of
from training_samples import draw, given
from whence.cli import run
from whence.data.labels import IDDA_CLASSES, NO_CLASS, read_classes, read_labelled_set
from whence.errors import BadOption, NoPhotos, UnknownName, UnreadableImage
from whence.models.aggregators import make_aggregator
from whence.models.aggregators.attention import AttentionPool
from whence.models.backbones import make_backbone
from whence.models.networks import Network
from whence.recipes import get_recipe
from whence.training.branches.labelled import LabelledBranch
from whence.training.losses.tuples import triplet_sum
from whence.training.optimization import make_optimizer, rate_share
from whence.training.options.labelled import LabelledOptions
from whence.training.options.loop import OptimizerOptions, ScheduleOptions
from whence.training.options.tuples import MiningOptions
from whence.training.record import read_log
from whence.training.segmentation import (
    SOURCE,
    TARGET,
    DeepLabHead,
    Opponent,
    PspHead,
    PyramidPooling,
    domain_loss,
    fooling_loss,
    make_head,
    opponent_loss,
    segmentation_loss,
)
from whence.training.task import BatchPlace, Share
from whence.worlds.capture import CaptureOptions
from whence.worlds.city import WorldOptions, render_world
from whence.worlds.presets import CitySize

SMALL = LabelledOptions(
    mining=MiningOptions(
        name="random",
        num_queries=6,
        num_negatives=1,
        num_candidates=10,
        positive_m=40.0,
        excluded_m=45.0,
    ),
    batch_queries=2,
    width=80,
    height=60,
    stored_width=96,
    stored_height=72,
    batch_target=2,
    target_width=48,
    target_height=32,
    opponent_width=4,
)


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small town in IDDA's tree."""
    folder = tmp_path_factory.mktemp("labelled") / "world"
    options = WorldOptions(
        capture=CaptureOptions(width=96, height=72), cities=(CitySize("city00", "", 30, 12, 0),)
    )
    render_world(
        folder, seed=4, layout="labelled", options=options, num_workers=1, show_progress=False
    )
    return folder


def network(**options: object) -> Network:
    torch.manual_seed(0)
    backbone = make_backbone("resnet18conv3_4")
    return Network(backbone, make_aggregator("attention", backbone.channels, options=options))


def learner(**options: object) -> object:
    return type("Learner", (), {"module": network(**options), "begins_anew": True})


def sines(*shape: int, k: int = 1) -> torch.Tensor:
    return (
        torch.sin(k * torch.arange(1, int(np.prod(shape)) + 1, dtype=torch.float64))
        .float()
        .reshape(shape)
    )


def test_golden_heads() -> None:
    head = DeepLabHead(4, 3)
    fill(head)
    found = head(image_of((1, 4, 9, 10))).detach()
    assert found[0, 0, 0, :4].tolist() == pytest.approx(
        [0.004508, 1.181208, -0.724915, -0.390855], abs=2e-5
    )
    assert float(found.detach().sum()) == pytest.approx(-5.99590, abs=2e-4)
    pyramid = PyramidPooling(8, 2).eval()
    fill(pyramid)
    found = pyramid(image_of((1, 8, 9, 10))).detach()
    assert found.shape == (1, 16, 9, 10)
    assert found[0, 8].unique().tolist() == pytest.approx([0.076761], abs=2e-6)
    assert found[0, 15, 4, :4].tolist() == pytest.approx([0.256177, 0.113856, 0, 0], abs=2e-5)
    assert float(found.detach().sum()) == pytest.approx(67.51272, abs=1e-3)
    assert PspHead(8, 3).eval()(image_of((1, 8, 9, 10))).shape == (1, 3, 9, 10)
    with pytest.raises(UnknownName, match="deeplab"):
        make_head("deeplav", 4, 3)


def test_golden_opponent() -> None:
    opponent = Opponent(3, 4)
    fill(opponent)
    found = opponent(image_of((1, 3, 64, 96)).softmax(dim=1)).detach()
    assert found.flatten().tolist() == pytest.approx(
        [0.081995, -0.043553, 0.075158, 0.174994, 0.013467, 0.170016], abs=2e-5
    )
    assert float(domain_loss(found, SOURCE)) == pytest.approx(0.734026, abs=1e-5)
    assert float(domain_loss(found, TARGET)) == pytest.approx(0.655347, abs=1e-5)
    assert sum(parameter.numel() for parameter in Opponent(17).parameters()) == 2_779_073


def test_golden_losses_and_rates() -> None:
    query, positive, negative = (sines(2, 4, k=k) for k in (1, 2, 3))
    found = triplet_sum(query, positive, negative[:, None], margin=0.1**0.5)
    assert float(found) == pytest.approx(0.671918, abs=1e-5)
    classes = torch.tensor([[[0, 2], [255, 1]]])
    assert float(segmentation_loss(sines(1, 3, 2, 2), classes)) == pytest.approx(0.937145, abs=1e-5)
    assert float(segmentation_loss(sines(1, 3, 2, 2), torch.full((1, 2, 2), 255))) == 0
    options = ScheduleOptions("poly", of_steps=125_000)
    rates = [
        1e-3 * rate_share(step, options=options, num_steps=25_000)
        for step in (1, 2500, 12_500, 25_000)
    ]
    assert rates == pytest.approx(
        [0.00099999280, 0.00098198187, 0.00090953258, 0.00081805215], abs=1e-11
    )
    assert rate_share(30, options=ScheduleOptions("poly"), num_steps=30) == 0
    adam = make_optimizer(torch.nn.Linear(2, 2), options=OptimizerOptions("adam", beta2=0.99))
    assert adam.param_groups[0]["betas"] == (0.9, 0.99)


def test_nothing_of_the_pixels_reaches_the_attention_and_nothing_of_fooling_the_opponent() -> None:
    made, head, opponent = network(), DeepLabHead(256, 17), Opponent(17, 4)
    features = made.features(image_of((2, 3, 64, 96)))
    pool = made.aggregator
    assert isinstance(pool, AttentionPool)
    loss = segmentation_loss(
        head(features.map), torch.randint(0, 17, (2, 64, 96)), pool.weights(features)
    )
    target = torch.rand(2, 17, 32, 32, requires_grad=True)
    (loss + fooling_loss(opponent, target.softmax(dim=1))).backward()
    assert all(parameter.grad is None for parameter in (*pool.parameters(), *opponent.parameters()))
    assert float(made.backbone.conv1.weight.grad.norm()) > 0  # type: ignore[union-attr]
    assert float(target.grad.norm()) > 0  # type: ignore[union-attr]
    before = target.grad.clone()  # type: ignore[union-attr]
    opponent_loss(opponent, torch.rand(2, 17, 32, 32), target.softmax(dim=1)).backward()
    assert torch.equal(target.grad, before)  # type: ignore[arg-type]
    assert all(
        float(parameter.grad.norm()) > 0
        for parameter in opponent.parameters()
        if parameter.ndim > 1
    )


def test_a_town_is_read_with_its_classes(town: Path, tmp_path: Path) -> None:
    found = read_labelled_set(town)
    assert len(found.set.database) == len(found.database_labels) == len(found.database_views) == 30
    assert len(found.set.queries) == len(found.query_labels) == 12
    assert set(found.database_views) == {"front", "rear"}
    for photo, label in zip(found.set.queries, found.query_labels, strict=True):
        assert Path(photo.path).stem == label.stem
    classes = np.stack([read_classes(path, size_px=(96, 72)) for path in found.database_labels])
    shares = {name: float((classes == number).mean()) for number, name in enumerate(IDDA_CLASSES)}
    assert shares["building"] > 0.2
    assert shares["sky"] > 0.05
    assert shares["road"] > 0.05
    assert set(np.unique(classes)) <= {*range(17), NO_CLASS}
    with pytest.raises(UnknownName, match="city00"):
        read_labelled_set(town, town="city01")
    with pytest.raises(NoPhotos, match="gallery"):
        read_labelled_set(tmp_path)
    (tmp_path / "x.png").write_text("no picture")
    with pytest.raises(UnreadableImage, match=r"x\.png"):
        read_classes(tmp_path / "x.png")


@pytest.mark.parametrize("has_target", [False, True])
def test_a_batch_holds_windows_of_photos_and_their_classes(
    town: Path, tmp_path: Path, has_target: bool
) -> None:
    from dataclasses import replace

    options = replace(
        SMALL, target=str(town / "images" / "city00" / "gallery") if has_target else ""
    )
    made = learner()
    branch = LabelledBranch(options, given(town, tmp_path, learner=made))
    branch.open()
    branch.mined = branch.miner.mine(
        0, lambda rows: torch.nn.functional.normalize(torch.randn(len(rows), 8), dim=1)
    )
    database, queries = branch.labelled.database_views, branch.labelled.query_views
    for query, positive, _ in branch.mined:
        assert queries[query] == database[positive], "a positive looks the same way"
    batch = branch.read(BatchPlace(0, 0), Share()).content
    assert batch.photos.shape == (6, 60, 80, 3)
    assert batch.classes.shape == (6, 60, 80)
    sky = batch.photos[batch.classes == IDDA_CLASSES.index("sky")].float().mean()
    assert sky > batch.photos[batch.classes == IDDA_CLASSES.index("road")].float().mean(), (
        "classes lie where they are seen"
    )
    assert (batch.target is not None) == has_target
    content = branch.change(batch, draw())
    losses = branch.learn(made.module.train(), content, draw())  # type: ignore[attr-defined]
    assert set(losses.parts) == {"places", "pixels", *(["fooling"] if has_target else [])}
    assert (losses.opponent is not None) == has_target
    losses.total.backward()
    frozen = {
        name for name, parameter in made.module.named_parameters() if not parameter.requires_grad
    }  # type: ignore[attr-defined]
    assert "aggregator.p" in frozen
    assert "backbone.bn1.weight" in frozen
    assert "backbone.layer2.0.bn2.bias" in frozen
    assert not any("downsample" in name for name in frozen)
    assert all(float(parameter.grad.abs().sum()) > 0 for parameter in branch.loss.parameters())


def test_what_cannot_be_learned_is_said(town: Path, tmp_path: Path) -> None:
    with pytest.raises(BadOption, match="stored_width"):
        LabelledBranch(
            LabelledOptions(width=97, stored_width=96), given(town, tmp_path, learner=learner())
        )
    with pytest.raises(NoPhotos, match="positive_m"):
        LabelledBranch(
            LabelledOptions(mining=MiningOptions(positive_m=0.001)),
            given(town, tmp_path, learner=learner()),
        )


def test_the_recipe_trains_with_an_opponent_and_goes_on(town: Path, tmp_path: Path) -> None:
    recipe = get_recipe("segvpr-small")
    small = (
        "width=80",
        "height=60",
        "stored_width=96",
        "stored_height=72",
        "batch_target=2",
        "target_width=48",
        "target_height=32",
        "mining.num_queries=6",
        "mining.positive_m=40",
        "mining.excluded_m=45",
        "mining.num_candidates=10",
        "opponent_width=4",
        "validate_on.width=96",
        "validate_on.height=72",
        "loop.log_every=1",
        "loop.save_every=1",
        "loop.precision=no",
        "learner.start_from=",
        f"target={town / 'images' / 'city00' / 'queries_day'}",
    )
    out = tmp_path / "run"
    words = ["train", recipe.name, "--dataset", str(town), "--out", str(out), "-q"]
    for change in small:
        words += ["--set", change]
    assert run([*words, "--set", "loop.num_steps=2"]) == 0
    log = read_log(out / "log.jsonl")
    assert {"places", "pixels", "fooling", "labelled.opponent"} <= set(log[0])
    from whence.models.descriptor import load_model

    model = load_model(str(out / "final.safetensors"))
    assert model.dim == 384
    assert np.allclose(np.linalg.norm(model.describe([np.zeros((72, 96, 3), np.uint8)]), axis=1), 1)
    photos = [
        str(path) for path in sorted((town / "images" / "city00" / "gallery").rglob("*.jpg"))[:2]
    ]
    picture, plain = tmp_path / "looked.png", tmp_path / "plain.png"
    looked = [
        "match",
        *photos,
        "--picture",
        str(picture),
        "--attention",
        str(out / "final.safetensors"),
    ]
    assert run(looked) in (0, 3)
    assert run(["match", *photos, "--picture", str(plain)]) in (0, 3)
    pictures = [cv2.imread(str(file)).astype(int) for file in (picture, plain)]
    assert np.abs(pictures[0] - pictures[1]).mean() > 10
    weights = model.attention(photos[0])
    assert weights is not None
    assert weights.shape == (72, 96)
    assert weights.min() > 0
    assert run([*looked[:-1], "rootsift-vlad"]) == 1
    assert run(looked[:3] + looked[5:]) == 1
