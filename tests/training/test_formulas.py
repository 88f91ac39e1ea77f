"""Every loss and every miner is its formula: each written again as slow, obvious sums over photos,
pairs and triplets.

Constants are those that the image-retrieval study ran (Berton, Musgrave, Masone, 2025), which are
the library's own.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("pytorch_metric_learning")

from whence.errors import BadOption, UnknownName
from whence.training.losses.by_label import (
    CLASS_LOSSES,
    MARGIN_SOFTMAXES,
    MINERS,
    PAIR_LOSSES,
    make_classifiers,
    make_loss,
)
from whence.training.options.places import LossOptions

LABELS = [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
N, DIM, NUM_CLASSES = len(LABELS), 8, 4
_RANDOM = np.random.default_rng(3)
_PLACES = _RANDOM.normal(size=(NUM_CLASSES, DIM))
_RAW = _PLACES[LABELS] + 1.1 * _RANDOM.normal(size=(N, DIM))
UNIT = _RAW / np.linalg.norm(_RAW, axis=1, keepdims=True)
WEIGHTS = _RANDOM.normal(size=(DIM, NUM_CLASSES))
S = UNIT @ UNIT.T
D = np.sqrt(np.maximum(2 - 2 * S, 0))
SAME = [[j for j in range(N) if LABELS[j] == LABELS[i] and j != i] for i in range(N)]
OTHER = [[j for j in range(N) if LABELS[j] != LABELS[i]] for i in range(N)]
POSITIVE = [(i, j) for i in range(N) for j in SAME[i]]
NEGATIVE = [(i, j) for i in range(N) for j in OTHER[i]]
TRIPLETS = [(a, p, n) for a, p in POSITIVE for n in OTHER[a]]


def lse(values: list[float]) -> float:
    return math.log(sum(math.exp(v) for v in values))


def relu(value: float) -> float:
    return max(0.0, value)


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def mean_of_positive(values: list[float]) -> float:
    return mean([v for v in values if v > 0])


def multi_similarity() -> float:
    pull = [
        math.log(1 + sum(math.exp(-2 * (S[i, j] - 0.5)) for j in SAME[i])) / 2 for i in range(N)
    ]
    push = [
        math.log(1 + sum(math.exp(50 * (S[i, j] - 0.5)) for j in OTHER[i])) / 50 for i in range(N)
    ]
    return mean(pull) + mean(push)


def threshold_consistent_margin() -> float:
    pull = [0.9 - S[i, j] for i, j in POSITIVE if S[i, j] <= 0.9]
    push = [S[i, j] - 0.5 for i, j in NEGATIVE if S[i, j] >= 0.5]
    return mean(pull) + mean(push)


def contrastive(distance: np.ndarray = D) -> float:
    return mean_of_positive([distance[p] for p in POSITIVE]) + mean_of_positive(
        [1 - distance[p] for p in NEGATIVE]
    )


def signal_to_noise() -> float:
    noise = np.array(
        [
            [(UNIT[i] - UNIT[j]).var(ddof=1) / UNIT[i].var(ddof=1) for j in range(N)]
            for i in range(N)
        ]
    )
    return contrastive(noise)


def triplet() -> float:
    return mean_of_positive([relu(D[a, p] - D[a, n] + 0.05) for a, p, n in TRIPLETS])


def circle() -> float:
    parts = []
    for i in range(N):
        pull = lse([-80 * relu(1.4 - S[i, j]) * (S[i, j] - 0.6) for j in SAME[i]])
        push = lse([80 * relu(S[i, j] + 0.4) * (S[i, j] - 0.4) for j in OTHER[i]])
        parts.append(float(np.logaddexp(0, pull + push)))
    return mean_of_positive(parts)


def nt_xent() -> float:
    return mean(
        [lse([S[a, j] / 0.07 for j in (p, *OTHER[a])]) - S[a, p] / 0.07 for a, p in POSITIVE]
    )


def sup_con() -> float:
    every = [lse([S[i, j] / 0.1 for j in range(N) if j != i]) for i in range(N)]
    return mean([mean([every[i] - S[i, j] / 0.1 for j in SAME[i]]) for i in range(N)])


def fast_ap() -> float:
    width, parts = 4 / 10, []
    for i in range(N):

        def count(others: list[int], edge: float, i: int = i) -> float:
            return sum(relu(1 - abs(D[i, j] ** 2 - edge) / width) for j in others)

        own = [count(SAME[i], k * width) for k in range(11)]
        every = [own[k] + count(OTHER[i], k * width) for k in range(11)]
        average = sum(
            own[k] * sum(own[: k + 1]) / sum(every[: k + 1]) for k in range(11) if own[k] > 0
        )
        parts.append(1 - average / len(SAME[i]))
    return mean(parts)


def margin() -> float:
    pull = [relu(D[a, p] - 1.2 + 0.2) for a, p, _ in TRIPLETS]
    push = [relu(1.2 - D[a, n] + 0.2) for a, _, n in TRIPLETS]
    return (sum(pull) + sum(push)) / sum(v > 0 for v in pull + push)


def angular() -> float:
    t = math.tan(math.radians(40)) ** 2
    parts = []
    for a, p in POSITIVE:
        terms = [
            4 * t * float((UNIT[a] + UNIT[p]) @ UNIT[n]) - 2 * (1 + t) * S[a, p] for n in OTHER[a]
        ]
        parts.append(lse([0.0, *terms]))
    return mean(parts)


def tuplet_margin() -> float:
    slack = math.radians(5.73)
    return mean(
        [
            lse([0.0, *(64 * (S[a, n] - math.cos(math.acos(S[a, p]) - slack)) for n in OTHER[a])])
            for a, p in POSITIVE
        ]
    )


def nca() -> float:
    return mean(
        [
            lse([-(D[i, j] ** 2) for j in range(N) if j != i])
            - lse([-(D[i, j] ** 2) for j in SAME[i]])
            for i in range(N)
        ]
    )


def lifted_structure() -> float:
    parts = []
    for a, p in POSITIVE:
        push = lse([1 - D[a, n] for n in OTHER[a]] + [1 - D[p, n] for n in OTHER[p]])
        parts.append(relu(push + D[a, p]) ** 2 / 2)
    return mean(parts)


def generalized_lifted_structure() -> float:
    return mean(
        [
            relu(lse([D[i, j] for j in SAME[i]]) + lse([1 - D[i, j] for j in OTHER[i]]))
            for i in range(N)
        ]
    )


def dynamic_soft_margin() -> float:
    gaps = [D[a, p] - D[a, n] for a, p, n in TRIPLETS]
    places = [(gap + 2) / 0.4 for gap in gaps]
    histogram = [0.0] * 10
    for place in places:
        histogram[math.floor(place)] += 1 - place % 1
        histogram[math.floor(place) + 1] += place % 1
    share = np.cumsum(histogram) / sum(histogram)
    return mean(
        [float(share[math.floor(place)]) * gap for place, gap in zip(places, gaps, strict=True)]
    )


def pnp() -> float:
    parts = []
    for i in range(N):
        ahead = [
            sum(1 / (1 + math.exp(min(50, (S[i, a] - S[i, n]) / 0.01))) for n in OTHER[i])
            for a in (i, *SAME[i])
        ]
        parts.append(mean(ahead))
    return mean(parts)


def intra_pair_variance() -> float:
    near, far = mean([S[p] for p in POSITIVE]), mean([S[p] for p in NEGATIVE])
    return mean([relu(0.99 * near - S[p]) ** 2 for p in POSITIVE]) + mean(
        [relu(S[p] - 1.01 * far) ** 2 for p in NEGATIVE]
    )


def n_pairs() -> float:
    first = [LABELS.index(label) for label in range(NUM_CLASSES)]
    return mean([lse([S[a, b + 1] for b in first]) - S[a, a + 1] for a in first])


def ranked_list() -> float:
    far, near, parts = 1.2, 0.8, []
    for i in range(N):
        pull = [D[i, j] - near for j in SAME[i] if D[i, j] > near]
        push = [far - D[i, j] for j in OTHER[i] if D[i, j] < far]
        weights = [math.exp(1.0 * gap) for gap in push]
        weighted = sum(w * gap for w, gap in zip(weights, push, strict=True)) / (
            sum(weights) + N * 1e-5
        )
        parts.append(0.5 * sum(pull) / (len(pull) + N * 1e-5) + 0.5 * weighted)
    return mean(parts)


PAIR_FORMULAS: dict[str, Callable[[], float]] = {
    one.__name__: one
    for one in (
        multi_similarity, threshold_consistent_margin, contrastive, signal_to_noise, triplet,
        circle, nt_xent, sup_con, fast_ap, margin, angular, tuplet_margin, nca, lifted_structure,
        generalized_lifted_structure, dynamic_soft_margin, pnp, intra_pair_variance, n_pairs,
        ranked_list,
    )
}  # fmt: skip
NEEDED = {"ranked_list": {"margin": 0.4, "Tn": 1.0}}


@pytest.mark.parametrize("name", PAIR_LOSSES)
def test_pair_losses_are_their_formulas(name: str) -> None:
    loss = make_loss(LossOptions(name, NEEDED.get(name, {})), num_classes=NUM_CLASSES, dim=DIM)
    found = float(loss(torch.tensor(UNIT), torch.tensor(LABELS)))
    assert found == pytest.approx(PAIR_FORMULAS[name](), rel=2e-4)


COSINE = UNIT @ (WEIGHTS / np.linalg.norm(WEIGHTS, axis=0))


def cross_entropy(logits: np.ndarray) -> float:
    return mean(
        [
            lse(list(row - row.max())) + row.max() - row[label]
            for row, label in zip(logits, LABELS, strict=True)
        ]
    )


def with_own(change: Callable[[float], float], cosine: np.ndarray = COSINE) -> np.ndarray:
    """The cosines, those of the photos' own classes changed."""
    changed = cosine.copy()
    for i, label in enumerate(LABELS):
        changed[i, label] = change(cosine[i, label])
    return changed


def arc(cosine: float) -> float:
    angle, turn = math.acos(cosine), math.radians(28.6)
    return math.cos(angle + turn) if angle <= math.pi - turn else cosine - turn * math.sin(turn)


def easy_arc(cosine: float) -> float:
    return math.cos(math.acos(cosine) + 0.2) if cosine > 0 else cosine


def fourfold(cosine: float) -> float:
    """cos(4 angle), continued so that it falls all the way."""
    angle = math.acos(cosine)
    k = math.floor(angle / (math.pi / 4))
    return (-1) ** k * math.cos(4 * angle) - 2 * k


def proxy_anchor() -> float:
    pull = [
        math.log(1 + sum(math.exp(-32 * (COSINE[i, c] - 0.1)) for i in range(N) if LABELS[i] == c))
        for c in range(NUM_CLASSES)
    ]
    push = [
        math.log(1 + sum(math.exp(32 * (COSINE[i, c] + 0.1)) for i in range(N) if LABELS[i] != c))
        for c in range(NUM_CLASSES)
    ]
    return mean(pull) + mean(push)


CLASS_FORMULAS: dict[str, Callable[[], float]] = {
    "cosface": lambda: cross_entropy(64 * with_own(lambda c: c - 0.35)),
    "arcface": lambda: cross_entropy(64 * with_own(arc)),
    "arcface_easy": lambda: cross_entropy(100 * with_own(easy_arc)),
    "normalized_softmax": lambda: cross_entropy(COSINE / 0.05),
    "large_margin_softmax": lambda: cross_entropy(
        with_own(fourfold) * np.linalg.norm(WEIGHTS, axis=0)
    ),
    "sphereface": lambda: cross_entropy(with_own(fourfold)),
    "proxy_anchor": proxy_anchor,
    "proxy_nca": lambda: cross_entropy(2 * COSINE - 2),
}


@pytest.mark.parametrize("name", CLASS_FORMULAS)
def test_class_losses_are_their_formulas(name: str) -> None:
    loss = make_loss(LossOptions(name), num_classes=NUM_CLASSES, dim=DIM)
    (weights,) = loss.parameters()
    weights.data = torch.tensor(
        WEIGHTS if weights.shape[0] == DIM else WEIGHTS.T, dtype=torch.float32
    ).contiguous()
    found = float(loss(torch.tensor(UNIT), torch.tensor(LABELS)).detach())
    assert found == pytest.approx(CLASS_FORMULAS[name](), rel=2e-4)


def test_losses_with_several_centres_are_their_formulas() -> None:
    assert {*CLASS_FORMULAS, "cross_entropy", "sub_center_arcface", "soft_triple"} == set(
        CLASS_LOSSES
    )
    for name, per_class in (("sub_center_arcface", 3), ("soft_triple", 10)):
        loss = make_loss(LossOptions(name), num_classes=NUM_CLASSES, dim=DIM)
        centres = np.random.default_rng(5).normal(size=(DIM, NUM_CLASSES * per_class))
        (weights,) = loss.parameters()
        weights.data = torch.tensor(centres, dtype=torch.float32)
        each = (UNIT @ (centres / np.linalg.norm(centres, axis=0))).reshape(
            N, NUM_CLASSES, per_class
        )
        if name == "sub_center_arcface":
            expected = cross_entropy(64 * with_own(arc, each.max(axis=2)))
        else:
            weight = np.exp(each / 0.1)
            cosine = (weight * each).sum(axis=2) / weight.sum(axis=2)
            expected = cross_entropy(20 * with_own(lambda c: c - 0.01, cosine))
        assert float(loss(torch.tensor(UNIT), torch.tensor(LABELS)).detach()) == pytest.approx(
            expected, rel=2e-4
        )


def mined(
    name: str, options: dict[str, object] | None = None, *, seed: int = 0
) -> tuple[list[tuple[int, ...]], ...]:
    """What a miner chooses: triplets, or positive and negative pairs, sorted."""
    loss = make_loss(
        LossOptions("contrastive", miner=name, miner_options=options or {}),
        num_classes=NUM_CLASSES,
        dim=DIM,
    )
    assert loss.miner is not None
    torch.manual_seed(seed)
    found = [
        part.tolist()
        for part in loss.miner(torch.tensor(UNIT, dtype=torch.float32), torch.tensor(LABELS))
    ]
    groups = [found] if len(found) == 3 else [found[:2], found[2:]]
    return tuple(sorted(zip(*group, strict=True)) for group in groups)


def semihard() -> Iterator[tuple[int, int, int]]:
    for a in range(N):
        p = min(SAME[a], key=lambda j: D[a, j])
        farther = [n for n in OTHER[a] if D[a, n] > D[a, p]]
        if farther:
            yield a, p, min(farther, key=lambda j: D[a, j])


def test_miners_that_draw_nothing_are_their_definitions() -> None:
    hard = [
        (a, max(SAME[a], key=lambda j: D[a, j]), min(OTHER[a], key=lambda j: D[a, j]))
        for a in range(N)
    ]
    assert mined("batch_hard") == (hard,)
    easy = list(semihard())
    assert mined("batch_easy_hard") == ([(a, p) for a, p, _ in easy], [(a, n) for a, _, n in easy])
    assert mined("multi_similarity") == (
        [(a, p) for a, p in POSITIVE if S[a, p] - 0.1 < max(S[a, n] for n in OTHER[a])],
        [(a, n) for a, n in NEGATIVE if S[a, n] + 0.1 > min(S[a, p] for p in SAME[a])],
    )
    for kind, is_kept in {
        "all": lambda gap: gap <= 0.2,
        "hard": lambda gap: gap <= 0,
        "semihard": lambda gap: 0 < gap <= 0.2,
    }.items():
        expected = [(a, p, n) for a, p, n in TRIPLETS if is_kept(D[a, n] - D[a, p])]
        assert mined("triplet_margin", {"type_of_triplets": kind}) == (expected,)
        assert 0 < len(expected) < len(TRIPLETS)
    assert mined("pair_margin", {"neg_margin": 1.0}) == (
        [pair for pair in POSITIVE if D[pair] > 0.2],
        [pair for pair in NEGATIVE if D[pair] < 1.0],
    )
    turned = []
    for a, p, n in TRIPLETS:
        middle = (UNIT[a] + UNIT[p]) / 2
        if math.degrees(math.atan(D[a, p] / (2 * np.linalg.norm(UNIT[n] - middle)))) > 20:
            turned.append((a, p, n))
    assert mined("angular") == (turned,)
    assert 0 < len(turned) < len(TRIPLETS)
    halves = (
        sorted(POSITIVE, key=lambda pair: -D[pair]),
        sorted(NEGATIVE, key=lambda pair: D[pair]),
    )
    found = mined("hdc")
    for chosen, ordered in zip(found, halves, strict=True):
        assert len(chosen) == math.ceil(len(ordered) / 2)
        assert sorted(D[pair] for pair in chosen) == pytest.approx(
            sorted(D[pair] for pair in ordered[: len(chosen)])
        )


def test_distance_weighted_negatives_are_drawn_by_their_weights() -> None:
    """Weights are one over the density of distances on the sphere, cut off below 0.5, nothing
    beyond 1.4 (Wu et al., ICCV 2017)."""
    drawn: Counter[tuple[int, int]] = Counter()
    for seed in range(150):
        (triplets,) = mined("distance_weighted", seed=seed)
        for a, p, n in triplets:
            assert p in SAME[a]
            assert n in OTHER[a]
            drawn[a, n] += 1
    for a in range(N):
        reach = {n: max(0.5, D[a, n]) for n in OTHER[a]}
        weight = {
            n: d ** (2 - DIM) * (1 - d * d / 4) ** ((3 - DIM) / 2) if d < 1.4 else 0.0
            for n, d in reach.items()
        }
        total, count = sum(weight.values()), sum(drawn[a, n] for n in OTHER[a])
        apart = sum(abs(drawn[a, n] / count - weight[n] / total) for n in OTHER[a]) / 2
        assert apart < 0.12, "300 draws among nine"


def test_uniform_histogram_draws_alike_from_every_bin() -> None:
    for chosen, pairs in zip(
        mined("uniform_histogram", {"num_bins": 10}), (POSITIVE, NEGATIVE), strict=True
    ):
        distances = np.array([D[pair] for pair in pairs], np.float32)
        edges = np.linspace(distances.min(), distances.max(), 11)
        filled = np.histogram(distances, edges)[0] > 0
        counts = np.histogram(np.array([D[pair] for pair in chosen], np.float32), edges)[0]
        assert counts.tolist() == [10 if is_filled else 0 for is_filled in filled]


def test_every_miner_is_looked_at() -> None:
    looked_at = {
        "batch_hard", "batch_easy_hard", "multi_similarity", "triplet_margin", "pair_margin",
        "angular", "hdc", "distance_weighted", "uniform_histogram",
    }  # fmt: skip
    assert looked_at == set(MINERS)


def test_classifiers_of_groups_are_their_formula() -> None:
    """CosPlace: a classifier for each group, scale 30, margin 0.4, Xavier-uniform weights; labels
    count within the group."""
    torch.manual_seed(0)
    made = make_classifiers(
        LossOptions("cosface", {"scale": 30, "margin": 0.4}),
        num_classes=[7, NUM_CLASSES, 100],
        dim=DIM,
    )
    held = [weights for one in made for weights in one.parameters()]
    assert [tuple(weights.shape) for weights in held] == [(DIM, 7), (DIM, NUM_CLASSES), (DIM, 100)]
    for weights in held:
        bound = math.sqrt(6 / sum(weights.shape))
        assert 0.5 * bound < float(weights.detach().abs().max()) <= bound
    values = held[1].detach().double().numpy()
    cosine = UNIT @ (values / np.linalg.norm(values, axis=0))
    value = made[1](torch.tensor(3.0 * UNIT), torch.tensor(LABELS))
    assert float(value.detach()) == pytest.approx(
        cross_entropy(30 * with_own(lambda c: c - 0.4, cosine)), rel=2e-4
    )
    value.backward()
    assert [weights.grad is not None for weights in held] == [False, True, False], (
        "other groups do not learn"
    )
    for name in MARGIN_SOFTMAXES:
        other = make_classifiers(LossOptions(name), num_classes=[NUM_CLASSES], dim=DIM)[0]
        assert math.isfinite(float(other(torch.tensor(UNIT), torch.tensor(LABELS)).detach()))
    with pytest.raises(UnknownName, match="cosface"):
        make_classifiers(LossOptions("cosfase"), num_classes=[3], dim=DIM)
    with pytest.raises(BadOption, match="not possible"):
        make_classifiers(LossOptions("cosface"), num_classes=[3, 0], dim=DIM)


def test_a_plain_softmax_is_its_formula() -> None:
    loss = make_loss(LossOptions("cross_entropy"), num_classes=NUM_CLASSES, dim=DIM)
    weights, bias = (values.detach().double().numpy() for values in loss.parameters())
    found = float(loss(torch.tensor(UNIT), torch.tensor(LABELS)).detach())
    assert found == pytest.approx(cross_entropy(UNIT @ weights.T + bias), rel=2e-4)


@pytest.mark.parametrize("name", [*PAIR_LOSSES, *CLASS_LOSSES])
def test_every_loss_learns_for_several_steps_and_is_resumed(name: str) -> None:
    """A loss may keep something of earlier batches; what it keeps is in its state and carries no
    gradients."""

    def steps(network: torch.nn.Module, loss: torch.nn.Module, numbers: range) -> None:
        learner = torch.optim.SGD([*network.parameters(), *loss.parameters()], lr=0.01)
        for number in numbers:
            photos = torch.randn(N, DIM, generator=torch.Generator().manual_seed(number))
            learner.zero_grad()
            loss(network(photos), torch.tensor(LABELS)).backward()
            learner.step()

    def parts() -> tuple[torch.nn.Module, torch.nn.Module]:
        torch.manual_seed(0)
        loss = make_loss(LossOptions(name, NEEDED.get(name, {})), num_classes=NUM_CLASSES, dim=DIM)
        return torch.nn.Linear(DIM, DIM), loss

    whole = parts()
    steps(*whole, range(4))
    first = parts()
    steps(*first, range(2))
    second = parts()
    for one, other in zip(first, second, strict=True):
        other.load_state_dict({key: value.clone() for key, value in one.state_dict().items()})
    steps(*second, range(2, 4))
    for one, other in zip(whole, second, strict=True):
        for key, value in one.state_dict().items():
            assert torch.equal(value, other.state_dict()[key]), key
