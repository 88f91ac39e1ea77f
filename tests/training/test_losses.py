"""Losses: golden values of the field's libraries, slow oracles written as formulas, and the triplet
forms of the benchmark."""

from __future__ import annotations

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("pytorch_metric_learning")

from whence.errors import BadOption, UnknownName
from whence.training.losses.by_label import (
    CLASS_LOSSES,
    MINERS,
    PAIR_LOSSES,
    list_losses,
    make_loss,
)
from whence.training.losses.tuples import sare_ind, sare_joint, triplet_sum
from whence.training.options.places import LossOptions


def hashed(n: int, k: int) -> np.ndarray:
    """The specification's numbers in [-0.5, 0.5]: ((31 j^2 + 17 j + 101 k + 7) mod 1009) / 1009 -
    0.5."""
    j = np.arange(n)
    return ((31 * j**2 + 17 * j + 101 * k + 7) % 1009) / 1009 - 0.5


def filled(*shape: int, k: int = 1000) -> torch.Tensor:
    return torch.tensor(2 * hashed(math.prod(shape), k), dtype=torch.float32).reshape(shape)


E = filled(8, 6)
LABELS = torch.tensor([0, 0, 1, 1, 2, 2, 3, 3])


def test_the_input_of_the_golden_values() -> None:
    assert E[0].tolist() == pytest.approx(
        [-0.7879, -0.6928, -0.4747, -0.1338, 0.3300, 0.9167], abs=5e-5
    )


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("multi_similarity", {"alpha": 2, "beta": 50, "base": 0.5}, 0.771617),
        ("multi_similarity", {"alpha": 1, "beta": 50, "base": 0.0}, 1.282725),
        ("threshold_consistent_margin", {}, 1.019928),
        ("contrastive", {}, 1.510298),
        ("nt_xent", {}, 8.574283),
        ("sup_con", {}, 6.153043),
        ("triplet", {"margin": 0.05}, 0.407032),
        ("triplet", {"margin": 0.1}, 0.441741),
        ("circle", {}, 93.754044),
        ("fast_ap", {}, 0.787963),
    ],
)
def test_golden_values_of_pair_losses(
    name: str, options: dict[str, float], expected: float
) -> None:
    loss = make_loss(LossOptions(name, options), num_classes=4, dim=6)
    assert float(loss(E, LABELS)) == pytest.approx(expected, rel=2e-6)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("cosface", 58.753273),
        ("arcface", 61.770458),
        ("normalized_softmax", 11.452351),
        ("proxy_anchor", 37.903412),
    ],
)
def test_golden_values_of_class_losses(name: str, expected: float) -> None:
    loss = make_loss(LossOptions(name), num_classes=4, dim=6)
    (weights,) = loss.parameters()
    chosen = filled(6, 4, k=1003)
    weights.data = chosen if weights.shape == chosen.shape else chosen.T.contiguous()
    assert float(loss(E, LABELS).detach()) == pytest.approx(expected, rel=2e-6)


@pytest.mark.parametrize(
    ("name", "options", "counts"),
    [
        ("multi_similarity", {"epsilon": 0.1}, (8, 28)),
        ("batch_hard", {}, (8,)),
        ("triplet_margin", {"margin": 0.2, "type_of_triplets": "all"}, (33,)),
        ("triplet_margin", {"margin": 0.1, "type_of_triplets": "semihard"}, (2,)),
        ("pair_margin", {}, (8, 0)),
    ],
)
def test_golden_counts_of_miners(
    name: str, options: dict[str, object], counts: tuple[int, ...]
) -> None:
    loss = make_loss(
        LossOptions("multi_similarity", miner=name, miner_options=options), num_classes=4, dim=6
    )
    assert loss.miner is not None
    mined = loss.miner(E, LABELS)
    found = (len(mined[0]), len(mined[2])) if len(mined) == 4 else (len(mined[0]),)
    assert found == counts


def pairs() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    unit = torch.nn.functional.normalize(E.double(), dim=1).numpy()
    same = LABELS[:, None].numpy() == LABELS[None].numpy()
    other = ~np.eye(8, dtype=bool)
    return unit @ unit.T, same & other, ~same


def test_multi_similarity_is_its_formula() -> None:
    similarity, positive, negative = pairs()
    total = 0.0
    for i in range(8):
        total += math.log(1 + sum(math.exp(-2 * (s - 0.5)) for s in similarity[i, positive[i]])) / 2
        total += (
            math.log(1 + sum(math.exp(50 * (s - 0.5)) for s in similarity[i, negative[i]])) / 50
        )
    assert float(make_loss(LossOptions(), num_classes=4, dim=6)(E, LABELS)) == pytest.approx(
        total / 8, rel=1e-5
    )


def test_info_nce_is_its_formula() -> None:
    similarity, positive, negative = pairs()
    parts = []
    for i, j in zip(*np.nonzero(positive), strict=True):
        others = np.exp(similarity[i, negative[i]] / 0.07).sum()
        own = math.exp(similarity[i, j] / 0.07)
        parts.append(-math.log(own / (own + others)))
    loss = make_loss(LossOptions("nt_xent", {"temperature": 0.07}), num_classes=4, dim=6)
    assert float(loss(E, LABELS)) == pytest.approx(float(np.mean(parts)), rel=1e-5)


def test_contrastive_is_its_formula() -> None:
    similarity, positive, negative = pairs()
    distance = np.sqrt(np.maximum(2 - 2 * similarity, 0))
    pull = [d for d in distance[positive] if d > 0]
    push = [1 - d for d in distance[negative] if d < 1]
    loss = make_loss(LossOptions("contrastive"), num_classes=4, dim=6)
    assert float(loss(E, LABELS)) == pytest.approx(np.mean(pull) + np.mean(push), rel=1e-5)


def test_cosface_is_its_formula() -> None:
    loss = make_loss(LossOptions("cosface"), num_classes=4, dim=6)
    weights = next(loss.parameters()).detach().double()
    cosine = (
        torch.nn.functional.normalize(E.double(), dim=1)
        @ torch.nn.functional.normalize(weights, dim=0)
    ).numpy()
    parts = []
    for i, label in enumerate(LABELS.tolist()):
        logits = 64 * (cosine[i] - 0.35 * (np.arange(4) == label))
        parts.append(-logits[label] + np.log(np.exp(logits - logits.max()).sum()) + logits.max())
    assert float(loss(E, LABELS).detach()) == pytest.approx(float(np.mean(parts)), rel=1e-4)


def noise(*shape: int, seed: int) -> torch.Tensor:
    """The specification's deterministic fill in [-1, 1] (a 32-bit hash of the index)."""
    h = (
        (np.arange(math.prod(shape), dtype=np.uint64) + np.uint64(1_000_003 * seed))
        * np.uint64(2654435761)
        % np.uint64(2**32)
    )
    for shift, factor in ((16, 2246822519), (13, 3266489917)):
        h = (h ^ (h >> np.uint64(shift))) * np.uint64(factor) % np.uint64(2**32)
    h ^= h >> np.uint64(16)
    return torch.tensor((2 * h.astype(np.float64) / 2**32 - 1).astype(np.float32)).reshape(shape)


def benchmark_triplets() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    unit = torch.nn.functional.normalize
    query = unit(noise(1, 4, seed=50), dim=1)
    positive = unit(query + 0.6 * noise(1, 4, seed=51), dim=1)
    negatives = unit(query + 0.8 * noise(3, 4, seed=52), dim=1)
    return query, positive, negatives[None]


def test_golden_values_of_the_benchmarks_triplet_forms() -> None:
    # Deep Visual Geo-localization Benchmark: distances, then each loss triplet by triplet (or
    # jointly).
    assert noise(6, seed=0).tolist() == pytest.approx(
        [-1, -0.746668, -0.455673, 0.371208, -0.991909, 0.577624], abs=1e-6
    )
    query, positive, negatives = benchmark_triplets()
    assert float((query - positive).norm()) == pytest.approx(0.563161, abs=1e-5)
    assert (query - negatives[0]).norm(dim=1).tolist() == pytest.approx(
        [1.032942, 0.428165, 0.230270], abs=1e-5
    )
    for k, (triplet, sare) in enumerate(
        [(0.0, 0.386929), (0.234996, 0.762297), (0.432890, 0.833905)]
    ):
        one = negatives[:, k : k + 1]
        assert float(triplet_sum(query, positive, one)) == pytest.approx(triplet, abs=1e-5)
        assert float(sare_ind(query, positive, one)) == pytest.approx(sare, abs=1e-5)
    assert float(triplet_sum(query, positive, negatives)) == pytest.approx(
        (0.234996 + 0.432890) / 3, abs=1e-5
    )
    assert float(sare_ind(query, positive, negatives)) == pytest.approx(
        (0.386929 + 0.762297 + 0.833905) / 3, abs=1e-5
    )
    assert float(sare_joint(query, positive, negatives)) == pytest.approx(1.365566 / 3, abs=1e-5)


def test_triplet_forms_are_their_formulas_over_a_batch() -> None:
    query, positive, negatives = noise(5, 4, seed=1), noise(5, 4, seed=2), noise(5, 3, 4, seed=3)
    triplet, joint, alone = 0.0, 0.0, 0.0
    for q, p, several in zip(query.double(), positive.double(), negatives.double(), strict=True):
        near = float((q - p).square().sum())
        far = [float((q - n).square().sum()) for n in several]
        joint -= math.log(math.exp(-near) / (math.exp(-near) + sum(math.exp(-d) for d in far)))
        alone -= sum(math.log(math.exp(-near) / (math.exp(-near) + math.exp(-d))) for d in far)
        triplet += sum(max(0.0, math.sqrt(near) - math.sqrt(d) + 0.1) for d in far)
    assert float(triplet_sum(query, positive, negatives)) == pytest.approx(triplet / 15, abs=1e-5)
    assert float(sare_joint(query, positive, negatives)) == pytest.approx(joint / 15, abs=1e-5)
    assert float(sare_ind(query, positive, negatives)) == pytest.approx(alone / 15, abs=1e-5)


@pytest.mark.parametrize("name", sorted([*PAIR_LOSSES, *CLASS_LOSSES]))
def test_every_loss_has_gradients_and_works_in_half_precision(name: str) -> None:
    descriptors = (
        torch.nn.functional.normalize(filled(16, 8), dim=1).to(torch.bfloat16).requires_grad_()
    )
    labels = torch.arange(16) // 4
    needed = {"margin": 0.4, "Tn": 1.0} if name == "ranked_list" else {}
    loss = make_loss(LossOptions(name, needed), num_classes=4, dim=8)
    value = loss(descriptors, labels)
    assert value.dtype == torch.float32
    assert math.isfinite(float(value.detach()))
    value.backward()
    assert descriptors.grad is not None
    assert bool(descriptors.grad.isfinite().all())


@pytest.mark.parametrize("name", sorted(MINERS))
def test_every_miner_feeds_a_loss(name: str) -> None:
    descriptors = torch.nn.functional.normalize(filled(16, 8), dim=1).requires_grad_()
    torch.manual_seed(0)
    loss = make_loss(LossOptions("triplet", miner=name), num_classes=4, dim=8)
    assert math.isfinite(float(loss(descriptors, torch.arange(16) // 4).detach()))


def test_unknown_names_and_options_are_refused() -> None:
    with pytest.raises(UnknownName, match="multi_similarity"):
        make_loss(LossOptions("multi_similarty"), num_classes=4, dim=6)
    with pytest.raises(UnknownName, match="batch_hard"):
        make_loss(LossOptions("triplet", miner="batch_hrd"), num_classes=4, dim=6)
    with pytest.raises(UnknownName, match="alpha"):
        make_loss(LossOptions("multi_similarity", {"alfa": 1.0}), num_classes=4, dim=6)
    with pytest.raises(BadOption, match="no miner"):
        make_loss(LossOptions("cosface", miner="batch_hard"), num_classes=4, dim=6)
    assert set(list_losses()) == {*PAIR_LOSSES, *CLASS_LOSSES}
