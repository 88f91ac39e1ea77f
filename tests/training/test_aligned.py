"""MeshVPR: a copy of a network learns to say of renders what the network says of photos."""

from __future__ import annotations

from dataclasses import replace
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
from whence.data.names import format_name, parse_name
from whence.errors import BadOption, NoPhotos
from whence.localize.localizer import RETRIEVE_ONLY, Localizer
from whence.models.aggregators.pools import cosplace
from whence.models.backbones.base import Features
from whence.models.descriptor import DescriptorModel, load_model
from whence.models.zoo import find_card, network_for
from whence.recipes import get_recipe
from whence.recipes.meshes import METHODS
from whence.training.branches.aligned import AlignedBranch, alignment_loss
from whence.training.learners import AlignedCopyLearner
from whence.training.loop import FINAL
from whence.training.options.aligned import AlignedCopyOptions, AlignedOptions
from whence.training.record import read_log
from whence.training.task import BatchPlace, Share
from whence.types import GeoPoint

MODEL = "whence-resnet18conv4-gem-256"


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve photos and their renders, darker and blurred, by the names of MeshVPR's data; then a
    database and queries."""
    root = tmp_path_factory.mktemp("pairs")
    for folder in ("real_database", "synt_database", "database", "queries"):
        (root / folder).mkdir()
    for number in range(12):
        random = np.random.default_rng(number)
        coarse = random.integers(0, 255, (6, 8, 3)).astype(np.uint8)
        photo = cv2.resize(coarse, (64, 48), interpolation=cv2.INTER_CUBIC)
        render = cv2.blur((photo * 0.6).astype(np.uint8), (5, 5))
        point = GeoPoint(48.0 + 0.001 * number, 11.0)
        name = format_name(point=point, pano_id=f"p{number:02d}", heading_deg=30.0)
        noted = name.removesuffix("@.jpg") + f"art_prob_{(number % 10) / 9:.4f}@.jpg"
        for folder, file, image in (
            ("real_database", name, photo), ("synt_database", noted, render),
            ("database", noted, render), ("queries", name, photo),
        ):  # fmt: skip
            cv2.imwrite(str(root / folder / file), image)
    return root


def learner() -> AlignedCopyLearner:
    options = AlignedCopyOptions(model=MODEL, freeze_before="layer3")
    return AlignedCopyLearner(
        options, recipe="r", seed=0, size_px=(64, 48), device=torch.device("cpu")
    )


def test_golden_steps_of_alignment() -> None:
    """The fixture of the notes: both are CosPlace's head, renders are its features mixed with
    others."""
    teacher, student = cosplace(16, dim=8), cosplace(16, dim=8)
    with torch.no_grad():
        fill(teacher)
        fill(student)
    real, other = image_of((4, 16, 5, 7)), image_of((4, 16, 5, 7), 1001)
    rendered = 0.7 * real + 0.5 * other
    with torch.no_grad():
        taught = teacher(Features(real))
    optimizer, losses = torch.optim.Adam(student.parameters(), lr=1e-5), []
    for step in range(6):
        optimizer.zero_grad()
        found = student(Features(rendered))
        loss = alignment_loss(found, taught)
        loss.backward()
        if step == 0:
            cosines = (found * taught).sum(dim=1)
            assert cosines.tolist() == pytest.approx(
                [0.997434, 0.998575, 0.998414, 0.994970], abs=2e-6
            )
            assert float(loss.detach()) == pytest.approx(
                float((2 - 2 * cosines).mean().detach()) / 8, rel=1e-3
            )
            assert float(student.fc.weight.grad.norm()) == pytest.approx(0.007717, abs=2e-6)
            assert float(student.pool.p.grad) == pytest.approx(-0.000103, abs=1e-6)
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses == pytest.approx(
        [0.0006630, 0.0006622, 0.0006614, 0.0006607, 0.0006599, 0.0006591], abs=1e-7
    )


def test_losses_are_those_of_unit_vectors() -> None:
    random = torch.Generator().manual_seed(0)
    a, b = (
        torch.nn.functional.normalize(
            torch.randn(5, 64, generator=random, dtype=torch.float64), dim=1
        )
        for _ in range(2)
    )
    cosines = (a * b).sum(dim=1)
    assert float(alignment_loss(a, b)) == pytest.approx(
        float((2 - 2 * cosines).mean()) / 64, rel=1e-6
    )
    assert float(alignment_loss(a, b, reduction="sum_dim")) == pytest.approx(
        64 * float(alignment_loss(a, b)), rel=1e-9
    )
    assert float(alignment_loss(a, b, loss="cosine")) == pytest.approx(
        32 * float(alignment_loss(a, b)), rel=1e-9
    )


def test_a_batch_holds_renders_and_what_the_model_says_of_their_photos(
    pairs: Path, tmp_path: Path
) -> None:
    made = learner()
    branch = AlignedBranch(
        AlignedOptions(batch_size=4, width=64, height=48), given(pairs, tmp_path, learner=made)
    )
    branch.open()
    assert branch.num_batches(0) == 3
    files = sorted((pairs / "real_database").iterdir())
    whole = load_model(MODEL)
    whole.descriptor.configure(replace(whole.card.preprocessing, size_px=(48, 64)), engine="eager")
    said = whole.descriptor.describe([cv2.imread(str(file))[..., ::-1].copy() for file in files])
    rows = set()
    for number in range(3):
        images, taught = branch.read(BatchPlace(0, number), Share()).content
        nearest = (taught.numpy() @ said.T).argmax(axis=1)
        assert ((taught.numpy() * said[nearest]).sum(axis=1) > 0.99).all()
        photos = np.stack([cv2.imread(str(files[row]))[..., ::-1] for row in nearest])
        assert images.numpy().mean() < 0.7 * photos.mean(), "renders, which are darker"
        rows |= set(nearest.tolist())
    assert rows == set(range(12)), "each pair once an epoch"
    content = branch.change(branch.read(BatchPlace(0, 0), Share()).content, draw())
    losses = branch.learn(made.module.train(), content, draw())
    losses.total.backward()
    learning = {
        name.split(".")[1]
        for name, value in made.module.named_parameters()
        if value.grad is not None
    }
    assert learning == {"layer3", "p"}
    assert all(parameter.grad is None for parameter in branch.teacher.parameters())


@pytest.mark.parametrize(
    ("options", "num"),
    [
        ({}, 12),
        ({"num_pairs": 5}, 5),
        ({"most_missed": 0.5}, 7),
        ({"most_lat": 48.0045}, 5),
        ({"most_missed": 0.2, "num_pairs": 9}, 4),
    ],
)
def test_which_pairs_are_learned_from(
    pairs: Path, tmp_path: Path, options: dict[str, float], num: int
) -> None:
    branch = AlignedBranch(
        AlignedOptions(batch_size=2, **options), given(pairs, tmp_path, learner=learner())
    )  # type: ignore[arg-type]
    assert len(branch.real) == len(branch.rendered) == num == branch.describe_data()["num_pairs"]
    for real, rendered in zip(branch.real.paths, branch.rendered.paths, strict=True):
        assert parse_name(real).pano_id == parse_name(rendered).pano_id  # type: ignore[union-attr]


def test_what_cannot_be_aligned_is_said(pairs: Path, tmp_path: Path) -> None:
    with pytest.raises(BadOption, match="batch_size"):
        AlignedBranch(AlignedOptions(batch_size=13), given(pairs, tmp_path, learner=learner()))
    with pytest.raises(NoPhotos, match="most_lat"):
        AlignedBranch(AlignedOptions(most_lat=10.0), given(pairs, tmp_path, learner=learner()))
    with pytest.raises(BadOption, match=r"learner\.model"):
        AlignedCopyLearner(
            AlignedCopyOptions(), recipe="r", seed=0, size_px=(0, 0), device=torch.device("cpu")
        )
    with pytest.raises(BadOption, match="no network"):
        AlignedCopyLearner(
            AlignedCopyOptions(model="rootsift-vlad"),
            recipe="r",
            seed=0,
            size_px=(0, 0),
            device=torch.device("cpu"),
        )


def test_what_learns_in_each_method_is_what_the_publication_says() -> None:
    """The number of tensors that learn; of NetVLAD and SFRS, the last convolution and what
    pools."""
    counts = {
        "cosplace-r18-512": "cosplace-resnet18-512",
        "mixvpr": "mixvpr-resnet50-4096",
        "salad": "salad-dinov2-8448",
    }
    assert set(counts) <= set(METHODS)
    for key, (model, stage, _) in METHODS.items():
        learner_options = get_recipe(f"meshvpr-{key}").learner
        assert isinstance(learner_options, AlignedCopyOptions)
        with torch.device("meta"):
            network = network_for(find_card(model or "netvlad-vgg16-32768-pitts30k"))
        if stage:
            network.backbone.freeze_before(learner_options.freeze_before)
        names = [name for name, parameter in network.named_parameters() if parameter.requires_grad]
        of_backbone = {
            name.removeprefix("backbone.") for name in names if name.startswith("backbone.")
        }
        assert any(name.startswith("aggregator.") for name in names)
        if key in ("netvlad", "sfrs"):
            assert of_backbone == {"features.28.weight", "features.28.bias"}
        elif key.startswith(("cosplace", "eigenplaces")):
            assert {name.split(".")[0] for name in of_backbone} == {"layer3", "layer4"}
        elif key == "salad":
            assert {name.split(".")[1] for name in of_backbone if name.startswith("blocks")} == {
                "8",
                "9",
                "10",
                "11",
            }
            assert {name.split(".")[0] for name in of_backbone} == {"blocks", "norm"}
        else:
            assert len(names) == len(list(network.parameters()))


def test_the_two_sides_are_used_without_being_named(
    pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    small = (
        "batch_size=4",
        "width=64",
        "height=48",
        "loop.num_steps=3",
        "loop.log_every=1",
        "loop.precision=no",
    )
    words = [word for change in small for word in ("--set", change)]
    command = [
        "train",
        "meshvpr-small",
        "--dataset",
        str(pairs),
        "--val",
        str(pairs),
        "--out",
        str(out),
        "-q",
        *words,
    ]
    assert run(command) == 0
    log = read_log(out / "log.jsonl")
    assert {"loss", "cosine"} <= set(log[0])
    assert any("recall" in line for line in log)
    file = out / FINAL
    copied = load_model(str(file))
    assert copied.card.query_model == MODEL
    assert copied.name.startswith(f"{MODEL}-mesh-")
    assert copied.query_model.name == MODEL
    database = tmp_path / "c.whence"
    assert (
        run(["index", str(pairs / "database"), "--db", str(database), "--model", str(file), "-q"])
        == 0
    )
    localizer = Localizer.open(database)
    stored = np.asarray(copied.describe(sorted((pairs / "database").iterdir())))
    asked = load_model(MODEL).describe(sorted((pairs / "queries").iterdir()))
    assert localizer.model.query_model.name == MODEL
    photo = sorted((pairs / "queries").iterdir())[3]
    found = localizer.locate(photo, options=RETRIEVE_ONLY)
    best = int((asked[3] @ stored.T).argmax())
    assert found.candidates[0].similarity == pytest.approx(float(asked[3] @ stored[best]), abs=2e-3)
    capsys.readouterr()
    other = DescriptorModel(replace(copied.card, query_weights="0" * 12), copied.descriptor)
    with pytest.raises(BadOption, match="other weights"):
        _ = other.query_model
