"""Training on classes, step by step: golden values of CosPlace's, EigenPlaces' and
Divide&Classify's own code."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("pytorch_metric_learning")

from torch import Tensor

from fills import fill, image_of, squares
from whence.models.aggregators import make_aggregator
from whence.models.backbones.base import Features
from whence.training.losses.by_label import make_classifiers
from whence.training.options.loop import OptimizerOptions
from whence.training.options.places import LossOptions
from whence.training.turns import Turns

CPU = torch.device("cpu")


def head() -> torch.nn.Module:
    """CosPlace's head over maps of 16 channels, by the rule of the specification."""
    made = make_aggregator("cosplace", 16, options={"dim": 8})
    fill(made, ["pool.p", "fc.weight", "fc.bias"])
    return made


def turn(name: str, options: dict[str, float], num_classes: int, k: int) -> Turns:
    """A single classifier, its weights by the rule, and Adam at 0.01."""
    made = make_classifiers(LossOptions(name, options), num_classes=[num_classes], dim=8)
    with torch.no_grad():
        made[0].loss.W.copy_(squares((num_classes, 8), k, scale=3**0.5).T)
    turns = Turns(made, options=OptimizerOptions("adam", lr=0.01))
    turns.begin(0, CPU)
    return turns


def weights_of(turns: Turns) -> Tensor:
    return turns.part.loss.W.T  # type: ignore[union-attr, no-any-return]


def test_golden_steps_of_cosplace() -> None:
    made, turns = head(), turn("cosface", {"scale": 30.0, "margin": 0.4}, 5, 0)
    learner = torch.optim.Adam(made.parameters(), lr=1e-5)
    images, labels = Features(image_of((4, 16, 5, 7))), torch.tensor([3, 1, 0, 4])
    losses = []
    for step in range(6):
        learner.zero_grad()
        turns.optimizer.zero_grad()
        loss = turns.part(made(images), labels)
        loss.backward()
        if step == 0:
            assert float(made.pool.p.grad) == pytest.approx(-0.207919, abs=1e-4)
            assert float(made.fc.weight.grad.norm()) == pytest.approx(12.15889, abs=1e-3)
            assert made.fc.bias.grad[:4].tolist() == pytest.approx(
                [0.931448, -7.342901, 0.109892, -9.553133], abs=1e-3
            )
            assert float(turns.part.loss.W.grad.norm()) == pytest.approx(9.566461, abs=1e-3)  # type: ignore[union-attr]
        turns.optimizer.step()
        learner.step()
        losses.append(float(loss.detach()))
    assert losses == pytest.approx(
        [15.772844, 15.347465, 14.982273, 14.658363, 14.381357, 14.175329], abs=1e-4
    )
    assert float(made.pool.p.detach()) == pytest.approx(3.0000601, abs=1e-6)
    assert made.fc.weight[0, :3].tolist() == pytest.approx(
        [-0.481340, -0.423076, -0.289556], abs=1e-5
    )
    assert weights_of(turns)[0, :4].tolist() == pytest.approx(
        [-0.810175, -0.762201, -0.575826, -0.323506], abs=1e-4
    )


def test_golden_steps_of_eigenplaces() -> None:
    made = head()
    learner = torch.optim.Adam(made.parameters(), lr=1e-5)
    options = {"scale": 100.0, "margin": 0.4}
    sides = [
        (
            turn("cosface", options, 5, 0),
            Features(image_of((4, 16, 5, 7))),
            torch.tensor([3, 1, 0, 4]),
        ),
        (
            turn("cosface", options, 6, 1),
            Features(image_of((4, 16, 5, 7), 1001)),
            torch.tensor([5, 2, 2, 0]),
        ),
    ]
    golden = [
        ((51.997845, 54.941689), (43.909901, 53.250370)),
        ((50.354950, 53.555481), (43.834175, 52.870506)),
        ((48.784660, 52.254108), (38.991779, 46.081661)),
    ]
    for losses, norms in golden:
        learner.zero_grad()
        for (turns, images, labels), expected, norm in zip(sides, losses, norms, strict=True):
            turns.optimizer.zero_grad()
            loss = turns.part(made(images), labels)
            loss.backward()
            assert float(loss.detach()) == pytest.approx(expected, abs=2e-4)
            assert float(made.fc.weight.grad.norm()) == pytest.approx(norm, abs=2e-3)
            turns.optimizer.step()
        learner.step()
    assert float(made.pool.p.detach()) == pytest.approx(3.0000300, abs=1e-6)
    assert made.fc.weight[0, :3].tolist() == pytest.approx(
        [-0.481310, -0.423046, -0.289526], abs=1e-5
    )
    assert weights_of(sides[0][0])[0, :3].tolist() == pytest.approx(
        [-0.825604, -0.758582, -0.559234], abs=1e-4
    )
    assert weights_of(sides[1][0])[0, :3].tolist() == pytest.approx(
        [-0.710596, -0.628198, -0.439385], abs=1e-4
    )


@pytest.mark.parametrize(
    ("name", "losses"),
    [
        ("arcface_easy", [68.843948, 67.126617, 65.411598, 63.730419]),
        ("cosface", [69.016182, 67.323212, 65.636169, 63.986198]),
    ],
)
def test_golden_steps_of_divide_and_classify(name: str, losses: list[float]) -> None:
    turns = turn(name, {"scale": 100.0, "margin": 0.2}, 5, 0)
    features = torch.nn.functional.normalize(image_of((4, 8)), dim=1).requires_grad_()
    labels = torch.tensor([3, 1, 0, 4])
    found = []
    for step in range(4):
        turns.optimizer.zero_grad()
        loss = turns.part(features, labels)
        loss.backward()
        if step == 0 and name == "arcface_easy":
            assert features.grad is not None
            assert features.grad[0, :4].tolist() == pytest.approx(
                [10.656275, -4.906307, 7.215759, -11.347898], abs=1e-3
            )
            assert float(features.grad.norm()) == pytest.approx(44.02724, abs=1e-3)
            assert float(turns.part.loss.W.grad.norm()) == pytest.approx(37.51679, abs=1e-3)  # type: ignore[union-attr]
            logits = turns.part.loss.get_logits(features)[0]  # type: ignore[union-attr, operator]
            # The margin is taken off at the label, the fourth.
            assert logits[[0, 1, 2, 4]].tolist() == pytest.approx(
                [95.191383, 14.242071, 98.955688, 75.985550], abs=1e-3
            )
        turns.optimizer.step()
        found.append(float(loss.detach()))
    assert found == pytest.approx(losses, abs=2e-4)
    if name == "arcface_easy":
        assert weights_of(turns)[0, :4].tolist() == pytest.approx(
            [-0.893893, -0.811489, -0.622563, -0.247562], abs=1e-4
        )


@pytest.mark.parametrize(("name", "expected"), [("arcface_easy", 43.65810), ("cosface", 43.75356)])
def test_golden_margins_of_divide_and_classify(name: str, expected: float) -> None:
    """The two printed descriptors; a negative cosine gets no margin of angle."""
    features = torch.tensor(
        [
            [-0.34277, -0.31504, -0.30691, 0.06074, -0.55575, -0.46230, 0.22176, 0.33707],
            [-0.35776, -0.31632, -0.32239, 0.04727, -0.55047, -0.47987, 0.15313, 0.33021],
        ]
    )
    turns = turn(name, {"scale": 100.0, "margin": 0.2}, 5, 0)
    assert float(turns.part(features, torch.tensor([3, 1])).detach()) == pytest.approx(
        expected, abs=2e-3
    )


def test_memory_is_that_of_one_group_however_many_there_are() -> None:
    """What lies on the device while a group learns, its optimizer's keepings included: the same for
    4, 8 and 50 groups."""
    sizes = []
    for num_groups in (4, 8, 50):
        made = make_classifiers(LossOptions("cosface"), num_classes=[20] * num_groups, dim=8)
        turns = Turns(made, options=OptimizerOptions("adam", lr=0.01))
        for group in range(num_groups):
            turns.begin(group, CPU)
            turns.part(torch.randn(3, 8), torch.arange(3)).backward()
            turns.optimizer.step()
            most = turns.num_bytes
            turns.optimizer.zero_grad()
        sizes.append(most)
    assert len(set(sizes)) == 1
    # Weights, gradients, both of Adam's means, and its number of steps.
    assert sizes[0] == 4 * 4 * 8 * 20 + 4


def test_a_part_leaves_the_device_after_its_turn() -> None:
    made = make_classifiers(LossOptions("cosface"), num_classes=[3, 3], dim=8)
    turns = Turns(made, options=OptimizerOptions("adam", lr=0.01))
    turns.begin(0, CPU)
    turns.part(torch.randn(3, 8), torch.arange(3)).backward()
    turns.optimizer.step()
    turns.optimizer.zero_grad()
    turns.begin(1, torch.device("meta"))
    assert [next(part.parameters()).device.type for part in turns.parts] == ["cpu", "meta"]
    kept = turns.optimizers[0].state[next(turns.parts[0].parameters())]
    assert {value.device.type for value in kept.values()} == {"cpu"}
