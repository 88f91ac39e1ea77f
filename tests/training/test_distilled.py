"""A small network learns another model's descriptors, and asks in its database."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("accelerate")
pytest.importorskip("pytorch_metric_learning")

from training_samples import draw, given
from whence import registry
from whence.cards import Entry, ModelCard, Preprocessing
from whence.cli import run
from whence.data.scan import scan_photos
from whence.errors import BadOption, NotFitted, UnknownName
from whence.models.descriptor import load_model
from whence.parts import Descriptor
from whence.training import learners
from whence.training.branches.distilled import DistilledBranch
from whence.training.loop import FINAL
from whence.training.options.augment import AugmentOptions
from whence.training.options.distilled import DistilledOptions
from whence.training.record import read_log
from whence.training.task import BatchPlace, Share

TEACHER = "mean-of-tiles"
SEEN = AugmentOptions(width=32, height=32)


class Tiles(Descriptor):
    """Means of four tiles and their colours: 12 numbers, without torch."""

    dim = 12
    num_described = 0

    def describe(self, images: Sequence[np.ndarray]) -> np.ndarray:
        Tiles.num_described += len(images)
        halves = [
            [tile for rows in np.array_split(image, 2) for tile in np.array_split(rows, 2, axis=1)]
            for image in images
        ]
        rows = np.array(
            [[tile.mean(axis=(0, 1)) - 120 for tile in tiles] for tiles in halves], np.float32
        ).reshape(-1, 12)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


class Unfitted(Tiles):
    is_fitted = False


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, kind in ((TEACHER, Tiles), ("unfitted", Unfitted)):
        monkeypatch.setitem(
            registry.MODELS, name, Entry(kind, ModelCard(name, "", 12, Preprocessing(), "MIT"))
        )


def learner(dim: int = 12) -> type:
    return type("Learner", (), {"module": type("Module", (), {"dim": dim})})


def test_a_batch_and_its_loss_are_what_the_teacher_says(world: Path, tmp_path: Path) -> None:
    photos = scan_photos(world / "database")
    options = DistilledOptions(teacher=TEACHER, batch_size=8, augment=SEEN)
    branch = DistilledBranch(options, given(photos, tmp_path, learner=learner()))
    branch.open()
    Tiles.num_described = 0
    again = DistilledBranch(options, given(photos, tmp_path, learner=learner()))
    again.open()
    assert Tiles.num_described == 0, "what the teacher said is kept"
    whole = load_model(TEACHER).describe([photos.file(row) for row in range(len(photos))])
    assert np.allclose(branch.taught, whole, atol=1e-6)
    seen = set()
    for number in range(branch.num_batches(0)):
        content = branch.read(BatchPlace(0, number), Share()).content
        nearest = (content.rows.numpy() @ whole.T).argmax(axis=1)
        seen |= set(nearest.tolist())
        images, taught = branch.change(content, draw())
        weights = torch.randn(12, 3 * 32 * 32, generator=torch.Generator().manual_seed(1))
        module = torch.nn.Linear(3 * 32 * 32, 12, bias=False)
        with torch.no_grad():
            module.weight.copy_(weights)
        found = float(
            branch.learn(
                torch.nn.Sequential(torch.nn.Flatten(), module), (images, taught), draw()
            ).total.detach()
        )
        said = images.flatten(1) @ weights.T
        cosines = (said / said.norm(dim=1, keepdim=True) * taught).sum(dim=1)
        assert found == pytest.approx(float((2 - 2 * cosines).mean()), rel=1e-4)
    assert len(seen) == 8 * branch.num_batches(0), "each photo once"
    one, two = (branch.read(BatchPlace(0, 1), Share(rank, 2)).content.rows for rank in (0, 1))
    assert torch.equal(torch.cat([one, two]), branch.read(BatchPlace(0, 1), Share()).content.rows)


def test_what_cannot_be_learned_from_is_said(world: Path, tmp_path: Path) -> None:
    photos = scan_photos(world / "database")
    cases: list[tuple[DistilledOptions, int, type[Exception], str]] = [
        (DistilledOptions(), 12, BadOption, "teacher"),
        (
            DistilledOptions(teacher=TEACHER, batch_size=8),
            5,
            BadOption,
            r"aggregator\.options\.dim=12",
        ),
        (DistilledOptions(teacher=TEACHER, batch_size=500), 12, BadOption, "batch_size"),
        (DistilledOptions(teacher="unfitted", batch_size=8), 12, NotFitted, "packaged"),
        (DistilledOptions(teacher="mean-of-tile", batch_size=8), 12, UnknownName, TEACHER),
    ]
    for options, dim, error, match in cases:
        with pytest.raises(error, match=match):
            DistilledBranch(options, given(photos, tmp_path, learner=learner(dim)))


def test_a_student_asks_in_its_teachers_database(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(learners, "load_imagenet", lambda _backbone, **_which: None)
    changes = [
        f"teacher={TEACHER}", "learner.backbone=resnet18conv2", "learner.start_from=",
        "aggregator.options.dim=12", "batch_size=16", "augment.width=32", "augment.height=32",
        "loop.num_steps=14", "loop.log_every=1", "loop.precision=no", "schedule.warmup_steps=0",
        "augment.num_views=0", "optimizer.lr=1e-3",
    ]  # fmt: skip
    words = [word for change in changes for word in ("--set", change)]
    out = tmp_path / "run"
    assert (
        run(
            [
                "train",
                "distilled-small",
                *words,
                "--dataset",
                str(world / "database"),
                "--out",
                str(out),
                "-q",
            ]
        )
        == 0
    )
    student = str(out / FINAL)
    photos = scan_photos(world / "database")
    files = [photos.file(row) for row in range(len(photos))]
    model = load_model(TEACHER, options={"query_model": student})
    assert model.options == {"query_model": student}
    taught, said = model.describe(files), model.query_model.describe(files)
    losses = [line["loss"] for line in read_log(out / "log.jsonl") if "loss" in line]
    assert float((2 - 2 * (taught * said).sum(axis=1)).mean()) < 0.6 * losses[0]
    capsys.readouterr()
    asked = [
        "evaluate",
        str(world),
        "--model",
        TEACHER,
        "--option",
        f"query_model={student}",
        "--json",
        "-q",
    ]
    assert run(asked) == 0
    assert capsys.readouterr().out != "", "queries by the student, the database by its teacher"
