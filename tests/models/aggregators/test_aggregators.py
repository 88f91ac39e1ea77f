"""Aggregators: the contract of every one registered, slow oracles, and the published networks' own
numbers."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any, Literal

import pytest

torch = pytest.importorskip("torch")

import numpy as np
from torch import Tensor
from torch.nn.functional import normalize

from fills import fill, hashed, image_of, squares
from whence.errors import BadOption, NotFitted, UnknownName
from whence.models.aggregators import list_aggregators, make_aggregator
from whence.models.aggregators.attention import AttentionPool, MultiScaleAttention, resized
from whence.models.aggregators.mixing import BagOfQueries, MixVpr, Salad, transport
from whence.models.aggregators.pools import (
    Aggregator,
    CalibratedGeM,
    ConvAp,
    GeM,
    LinearHead,
    Mac,
    RMac,
    Rrm,
    SeqPool,
    Spoc,
)
from whence.models.aggregators.words import Crn, HardVlad, NetVlad
from whence.models.backbones import make_backbone
from whence.models.backbones.base import Features
from whence.models.networks import Network

CHANNELS = 32
SMALL: dict[str, dict[str, Any]] = {
    "rmac": {"l2": "none"},
    "netvlad": {"num_words": 4},
    "netvlad-fc": {"num_words": 4, "dim": 24},
    "crn": {"num_words": 4},
    "vlad": {"num_words": 4},
    "mixvpr": {"grid": (5, 7), "channels_out": 6, "rows": 2},
    "salad": {"num_words": 4, "word_dim": 6, "token_dim": 5, "hidden": 10},
    "megaloc": {"dim": 24},
    "boq": {"width": 64, "num_queries": 3, "rows": 4},
    "convap": {"channels_out": 6},
    "gem-fc": {"dim": 24},
    "cosplace": {"dim": 24},
}
UNIT = {
    "rrm",
    "convap",
    "gem-fc",
    "cosplace",
    "netvlad",
    "netvlad-fc",
    "crn",
    "vlad",
    "mixvpr",
    "salad",
    "megaloc",
    "boq",
    "attention",
}
FIXED_MAP = {"rmac", "mixvpr"}
"""Whose graph is bound to one size of map."""


def made(name: str, *, channels: int = CHANNELS) -> Aggregator:
    torch.manual_seed(0)
    return make_aggregator(name, channels, options=SMALL.get(name, {})).eval()


def map_size(name: str) -> tuple[int, int]:
    return {"mixvpr": (5, 7), "megaloc": (9, 10)}.get(name, (5, 7))


def features_of(name: str, *, seed: int = 0, batch: int = 3) -> Features:
    random = torch.Generator().manual_seed(seed)
    shape = (batch, CHANNELS, *map_size(name))
    map, cls = torch.randn(shape, generator=random), torch.randn(batch, CHANNELS, generator=random)
    # What backbones of two scales make too; other aggregators leave the finer map alone.
    return Features(
        map, cls, torch.randn(batch, CHANNELS // 2, 2 * shape[2], 2 * shape[3], generator=random)
    )


def check_aggregator(name: str, aggregator: Aggregator) -> None:
    """What holds for every aggregator: shape, finite on zeros, independent of the batch, gradients,
    repeatable, round trip."""
    features = features_of(name)
    with torch.inference_mode():
        descriptors = aggregator(features)
        assert descriptors.shape == (3, aggregator.dim)
        assert torch.isfinite(descriptors).all()
        assert torch.equal(aggregator(features), descriptors)
        for i in range(3):
            alone = aggregator(Features(*(part[i : i + 1] for part in features)))
            assert torch.allclose(alone[0], descriptors[i], atol=1e-5)
        zero = aggregator(Features(*map(torch.zeros_like, features)))
        assert torch.isfinite(zero).all()
        if name in UNIT:
            assert torch.allclose(descriptors.norm(dim=1), torch.ones(3), atol=1e-5)
        strided = features._replace(map=features.map.contiguous(memory_format=torch.channels_last))
        assert torch.allclose(aggregator(strided), descriptors, atol=1e-5)
    for scale in (0.0, 1.0):
        leaf = Features(*((scale * part).requires_grad_() for part in features))
        aggregator.zero_grad()
        aggregator(leaf).square().sum().backward()
        gradients = [leaf.map.grad, leaf.cls.grad, *(p.grad for p in aggregator.parameters())]
        assert all(torch.isfinite(gradient).all() for gradient in gradients if gradient is not None)
    state = {key: tensor.clone() for key, tensor in aggregator.state_dict().items()}
    other = made(name)
    other.load_state_dict(state)
    with torch.inference_mode():
        assert torch.equal(other(features), descriptors)


@pytest.mark.parametrize("name", list_aggregators())
def test_every_aggregator_keeps_the_contract(name: str) -> None:
    check_aggregator(name, made(name))


class Together(torch.nn.Module):
    """Several aggregators over one map, as one graph: exporting each by itself takes minutes."""

    def __init__(self, aggregators: list[Aggregator]) -> None:
        super().__init__()
        self.aggregators = torch.nn.ModuleList(aggregators)

    def forward(self, map: Tensor, cls: Tensor) -> tuple[Tensor, ...]:
        return tuple(aggregator(Features(map, cls)) for aggregator in self.aggregators)


def export(names: list[str], file: Path, *, is_map_free: bool) -> Any:
    """A session of onnxruntime over these aggregators, whose outputs are in the order of the
    names."""
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    given = features_of("megaloc" if is_map_free else "mixvpr", batch=2)
    free = torch.export.Dim.DYNAMIC
    shapes = {"map": {0: free, 2: free, 3: free} if is_map_free else {0: free}, "cls": {0: free}}
    with warnings.catch_warnings():
        # The exporter warns of its own coming changes.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Together([made(name) for name in names]).eval(),
            (given.map, given.cls),
            file,
            dynamo=True,
            dynamic_shapes=shapes,
            verbose=False,
            optimize=False,
        )
    return onnxruntime.InferenceSession(str(file))


def check_exported(names: list[str], session: Any, sizes: list[tuple[int, int]]) -> None:
    for batch, size in zip((1, 3, 2), sizes, strict=False):
        features = Features(torch.randn(batch, CHANNELS, *size), torch.randn(batch, CHANNELS))
        # In order: where an output is an input as it is, the exporter renames the latter.
        fed = {
            entry.name: tensor.numpy()
            for entry, tensor in zip(session.get_inputs(), features, strict=False)
        }
        found = session.run(None, fed)
        assert len(found) == len(names)
        for name, descriptors in zip(names, found, strict=True):
            with torch.inference_mode():
                assert np.allclose(descriptors, made(name)(features).numpy(), atol=1e-4), (
                    name,
                    size,
                )


def test_aggregators_export_with_free_height_and_width(tmp_path: Path) -> None:
    names = [name for name in list_aggregators() if name not in FIXED_MAP and name != "attention"]
    session = export(names, tmp_path / "free.onnx", is_map_free=True)
    check_exported(names, session, [(9, 10), (8, 13), (15, 11)])


def test_aggregators_bound_to_one_map_export_with_a_free_batch(tmp_path: Path) -> None:
    names = sorted(FIXED_MAP)
    check_exported(
        names, export(names, tmp_path / "fixed.onnx", is_map_free=False), [map_size("mixvpr")] * 2
    )


# Pools


X = hashed((1, 3, 6, 8), seed=1)


@pytest.mark.parametrize(
    ("pool", "expected"),
    [
        (Mac(3, l2="none"), (0.991738, 0.995972, 0.999982)),
        (Spoc(3, l2="none"), (0.024702, 0.196648, 0.049009)),
        (GeM(3, l2="none"), (0.578122, 0.608171, 0.582191)),
        (GeM(3, l2="before_pool"), (0.476361, 0.515907, 0.498701)),
        (GeM(3, l2="after_pool"), (0.566068, 0.595490, 0.570052)),
        (RMac(3, l2="none"), (11.814185, 12.399172, 12.013811)),
    ],
)
def test_pools_give_the_benchmarks_numbers(pool: Aggregator, expected: tuple[float, ...]) -> None:
    with torch.inference_mode():
        assert torch.allclose(pool(Features(X))[0], torch.tensor(expected), atol=1e-4)


def test_more_numbers_of_the_benchmark() -> None:
    with torch.inference_mode():
        square, tall = (
            RMac(3, l2="none")(Features(hashed((1, 3, 8, 8), seed=2))),
            RMac(3, l2="none")(Features(hashed((1, 3, 7, 5), seed=3))),
        )
        tokens = hashed((1, 6, 3), seed=4).transpose(1, 2).unsqueeze(3)
        token_gem = GeM(3, l2="none")(Features(tokens))
    assert torch.allclose(square[0], torch.tensor([9.064123, 8.791291, 7.898525]), atol=1e-4)
    assert torch.allclose(tall[0], torch.tensor([13.315711, 9.801465, 11.416328]), atol=1e-4)
    assert torch.allclose(token_gem[0], torch.tensor([0.781534, 0.579197, 0.603105]), atol=1e-4)


def test_pools_give_seqvlads_numbers() -> None:
    x = torch.sin(torch.arange(16, dtype=torch.float64) + 1).reshape(1, 4, 2, 2).float()
    expected = {
        GeM: (0.482444, 0.491121, 0.184783, 0.477490),
        Mac: (0.615549, 0.713566, 0.293325, 0.670592),
        Spoc: (0.192926, 0.080443, -0.298089, 0.309244),
    }
    with torch.inference_mode():
        for pool, values in expected.items():
            assert torch.allclose(pool(4)(Features(x))[0], torch.tensor(values), atol=1e-5)


def test_windows_of_rmac_are_the_published_ones() -> None:
    found = list(RMac(3).windows(6, 8))
    expected = [(0, 0, 6), (0, 2, 6)]
    expected += [(row, column, 4) for row in (0, 2) for column in (0, 2, 4)]
    expected += [(row, column, 3) for row in (0, 1, 3) for column in (0, 1, 3, 5)]
    assert found == expected
    assert len(list(RMac(3).windows(30, 40))) + 1 == 21
    assert len(list(RMac(3).windows(24, 24))) + 1 == 15
    assert [(column, row, side) for row, column, side in RMac(3).windows(8, 6)] != found, (
        "windows run by rows"
    )
    assert sorted((column, row, side) for row, column, side in RMac(3).windows(8, 6)) == sorted(
        found
    )
    assert list(RMac(3).windows(1, 1)) == [(0, 0, 1)]


def test_rrm_gives_the_benchmarks_numbers() -> None:
    rrm = Rrm(5).eval()
    state = rrm.state_dict()
    order = [
        f"{layer}.{leaf}" for layer in ("ln1", "fc1", "fc2", "ln2") for leaf in ("weight", "bias")
    ]
    for seed, key in enumerate(order, start=30):
        is_norm_weight = key in ("ln1.weight", "ln2.weight")
        state[key].copy_(
            hashed(tuple(state[key].shape), scale=0.3, offset=float(is_norm_weight), seed=seed)
        )
    with torch.inference_mode():
        found = rrm(Features(hashed((1, 5, 6, 8), seed=7)))
    assert torch.allclose(
        found[0], torch.tensor([0.405703, -0.703859, 0.142612, -0.331409, 0.458058]), atol=1e-4
    )


def test_sequence_pooling_is_a_weighted_sum() -> None:
    pool, features = SeqPool(CHANNELS), features_of("seqpool")
    with torch.inference_mode():
        found = pool(features)
        tokens = features.map.flatten(2).transpose(1, 2)
        for i in range(3):
            scores = [float(pool.attention_pool(token)) for token in tokens[i]]
            shares = [math.exp(score) / sum(map(math.exp, scores)) for score in scores]
            slow = sum(share * token for share, token in zip(shares, tokens[i], strict=True))
            assert torch.allclose(found[i], slow, atol=1e-5)


def test_one_mean_says_how_much_each_channel_of_another_counts() -> None:
    torch.manual_seed(0)
    pool, x = CalibratedGeM(5, dim=3, num_components=2).eval(), torch.rand(2, 5, 4, 6)
    with torch.no_grad():
        found = pool(Features(x))
    for image, row in zip(x.numpy().astype(float), found.numpy(), strict=True):
        weight, bias = (
            value.detach().numpy()
            for value in (pool.components.weight[:, :, 0, 0], pool.components.bias)
        )
        directions = np.maximum(np.einsum("oc,chw->ohw", weight, image) + bias[:, None, None], 1e-6)
        means = [(part**3).mean(axis=(1, 2)) ** (1 / 3) for part in (directions, image)]
        logits = pool.gates.weight.detach().numpy() @ means[0] + pool.gates.bias.detach().numpy()
        whole = (
            pool.fc.weight.detach().numpy() @ (means[1] * 2 / (1 + np.exp(-logits)))
            + pool.fc.bias.detach().numpy()
        )
        assert np.allclose(row, whole / np.linalg.norm(whole), atol=1e-5)


def test_the_class_token_is_left_as_it_is() -> None:
    features = features_of("cls")
    assert torch.equal(make_aggregator("cls", CHANNELS)(features), features.cls)
    with pytest.raises(BadOption, match="class token"):
        make_aggregator("cls", CHANNELS)(Features(features.map))


# Visual words


def netvlad_of_the_benchmark(kind: type[NetVlad]) -> NetVlad:
    layer = kind(5, num_words=4).eval()
    with torch.no_grad():
        layer.conv.weight.copy_(hashed((4, 5, 1, 1), scale=3.0, seed=5))
        layer.centroids.copy_(hashed((4, 5), scale=0.3, seed=6))
    return layer


def slow_netvlad(x: Tensor, weight: Tensor, words: Tensor, mask: Tensor | None = None) -> Tensor:
    """The formula, one position and one word at a time; x (C, n)."""
    sums = torch.zeros_like(words)
    for n in range(x.shape[1]):
        unit = x[:, n] / x[:, n].norm()
        shares = torch.softmax(weight @ unit, dim=0) * (1.0 if mask is None else mask[n])
        for k in range(len(words)):
            sums[k] += shares[k] * (unit - words[k])
    blocks = sums / sums.norm(dim=1, keepdim=True)
    return blocks.flatten() / blocks.norm()


def test_netvlad_gives_the_benchmarks_numbers() -> None:
    layer, x = netvlad_of_the_benchmark(NetVlad), hashed((1, 5, 6, 8), seed=7)
    expected = """
        0.200517 -0.083885 0.340768 -0.235982 -0.175916 -0.053985 -0.375492 -0.216979 -0.022085
        -0.241917 -0.157488 -0.025559 0.279058 0.192150 0.331284 -0.253003 -0.106813 -0.086841
        -0.322758 -0.250732"""
    with torch.inference_mode():
        found = layer(Features(x))[0]
        slow = slow_netvlad(x[0].flatten(1), layer.conv.weight[:, :, 0, 0], layer.centroids)
    assert torch.allclose(
        found, torch.tensor([float(value) for value in expected.split()]), atol=1e-4
    )
    assert torch.allclose(found, slow, atol=1e-6)


def test_crn_gives_the_benchmarks_numbers() -> None:
    layer, x = netvlad_of_the_benchmark(Crn), hashed((1, 5, 6, 8), seed=7)
    with torch.no_grad():
        for i, side in enumerate((3, 5, 7)):
            convolution = getattr(layer.crn, f"filter_{side}_{side}")
            convolution.weight.copy_(
                hashed(tuple(convolution.weight.shape), scale=0.2, seed=10 + i)
            )
            convolution.bias.copy_(hashed(tuple(convolution.bias.shape), scale=0.1, seed=20 + i))
        mask = layer.crn(normalize(x, dim=1))
        found = layer(Features(x))[0]
        slow = slow_netvlad(
            x[0].flatten(1), layer.conv.weight[:, :, 0, 0], layer.centroids, mask.flatten()
        )
    assert mask.shape == (1, 1, 6, 8)
    assert torch.allclose(
        mask[0, 0, 0, :4], torch.tensor([4.746778, 4.604352, 4.319498, 4.459335]), atol=1e-4
    )
    assert mask.mean().item() == pytest.approx(4.909218, abs=1e-4)
    expected = (
        0.190571,
        -0.075834,
        0.332718,
        -0.254387,
        -0.180327,
        -0.052342,
        -0.368209,
        -0.222849,
    )
    assert torch.allclose(found[:8], torch.tensor(expected), atol=1e-4)
    assert torch.allclose(found, slow, atol=1e-6)


@pytest.mark.parametrize("size", [(5, 7), (6, 7), (15, 20), (2, 2)])
def test_crn_takes_odd_maps(size: tuple[int, int]) -> None:
    with torch.inference_mode():
        assert Crn(5, num_words=4)(Features(torch.randn(2, 5, *size))).shape == (2, 20)
    with pytest.raises(BadOption, match="not 1 x 5"):
        Crn(5, num_words=4)(Features(torch.randn(2, 5, 1, 5)))
    assert not any(parameter.requires_grad for parameter in Crn(5).crn.acc_w.parameters())


def sines(*shape: int, function: Any = torch.sin, factor: float = 1.0) -> Tensor:
    return (
        function(factor * (torch.arange(math.prod(shape), dtype=torch.float64) + 1))
        .float()
        .reshape(shape)
    )


def test_netvlad_over_frames_gives_seqvlads_numbers() -> None:
    layer = NetVlad(4, num_words=3).eval()
    with torch.no_grad():
        layer.centroids.copy_(sines(3, 4, function=torch.cos))
        layer.conv.weight.copy_(sines(3, 4, 1, 1, factor=2.0))
        tokens = layer(Features(sines(2, 3, 4).reshape(1, 6, 4).transpose(1, 2).unsqueeze(3)))
        maps = layer(Features(torch.cat(list(sines(2, 4, 2, 2)), dim=1)[None]))
    expected = (
        -0.242048,
        0.155241,
        0.409801,
        0.287593,
        -0.181879,
        -0.443641,
        -0.297521,
        0.122138,
        0.351100,
        0.322912,
    )
    assert torch.allclose(tokens[0], torch.tensor([*expected, -0.002160, -0.325246]), atol=1e-5)
    expected = (
        -0.043060,
        0.054229,
        0.385030,
        0.424606,
        -0.136141,
        -0.521612,
        -0.206280,
        -0.012990,
        0.176083,
        0.408799,
    )
    assert torch.allclose(maps[0], torch.tensor([*expected, -0.035465, -0.365997]), atol=1e-5)


def test_netvlad_starts_as_published() -> None:
    layer = NetVlad(4, num_words=3)
    layer.set_words(hashed((3, 4), seed=40), hashed((7, 4), seed=41))
    weight = layer.conv.weight.detach()[:, :, 0, 0]
    assert torch.allclose(weight.norm(dim=1), torch.full((3,), 15.449209), atol=1e-4)
    assert torch.allclose(
        weight[0], torch.tensor([-1.331368, -3.599810, -2.584595, 14.739972]), atol=1e-4
    )
    assert torch.equal(layer.centroids.detach(), hashed((3, 4), seed=40))
    layer.set_words(sines(3, 4, function=torch.cos), sines(5, 4))
    assert layer.conv.weight.detach()[0].norm().item() == pytest.approx(4.2556423, abs=1e-5)
    assert torch.allclose(
        layer.conv.weight.detach()[0, :, 0, 0],
        torch.tensor([1.680343, -1.294219, -3.078882, -2.032835]),
        atol=1e-5,
    )
    with pytest.raises(BadOption, match=r"\(3, 4\)"):
        layer.set_words(torch.zeros(3, 5), torch.zeros(7, 5))


@pytest.mark.parametrize("kind", [NetVlad, HardVlad])
def test_words_are_found_where_descriptors_gather(kind: type[NetVlad | HardVlad]) -> None:
    random = torch.Generator().manual_seed(0)
    truth = normalize(torch.randn(3, 8, generator=random), dim=1)
    near = truth.repeat_interleave(60, 0) + 0.05 * torch.randn(180, 8, generator=random)
    layer = kind(8, num_words=3)
    layer.fit(5 * near, seed=0)
    words = layer.centroids.detach() if isinstance(layer, NetVlad) else layer.words
    cosines = normalize(words, dim=1) @ truth.T
    assert (cosines.max(dim=0).values > 0.99).all()
    again = kind(8, num_words=3)
    again.fit(5 * near, seed=0)
    assert all(
        torch.equal(a, b)
        for a, b in zip(layer.state_dict().values(), again.state_dict().values(), strict=True)
    )
    if isinstance(layer, NetVlad):
        shares = torch.softmax(
            layer.conv.weight.detach()[:, :, 0, 0] @ normalize(near, dim=1).T, dim=0
        )
        top = shares.topk(2, dim=0).values
        assert (top[1] / top[0]).log().mean().item() == pytest.approx(math.log(0.01), abs=0.01)
    else:
        assert torch.allclose(words.norm(dim=1), torch.ones(3), atol=1e-5)
    with pytest.raises(NotFitted, match="too few"):
        layer.fit(near[:50], seed=0)


def test_hard_vlad_gives_anylocs_numbers() -> None:
    layer = HardVlad(6, num_words=4)
    layer.words.copy_(0.5 * image_of((4, 6), 1002))
    tokens = image_of((2, 9, 6))
    with torch.inference_mode():
        found = layer(Features(tokens.transpose(1, 2).reshape(2, 6, 3, 3)))
    expected = (-0.11260, -0.15697, -0.19168, -0.21672, -0.23210, 0.27405, -0.27066, -0.19416)
    assert torch.allclose(found[0, :8], torch.tensor(expected), atol=2e-4)
    assert found.sum().item() == pytest.approx(-6.48244, abs=2e-4)
    units = normalize(tokens, dim=2)
    slow = torch.zeros(2, 4, 6)
    for b in range(2):
        for unit in units[b]:
            k = max(range(4), key=lambda k: float(layer.words[k] @ unit / layer.words[k].norm()))
            slow[b, k] += unit - layer.words[k]
    assert torch.allclose(found, normalize(normalize(slow, dim=2).flatten(1), dim=1), atol=1e-6)


# Heads and mixing


def test_the_head_of_cosplace_gives_its_numbers() -> None:
    head = make_aggregator("cosplace", 16, options={"dim": 8})
    fill(head, ["pool.p", "fc.weight", "fc.bias"])
    with torch.inference_mode():
        found = head(Features(image_of((2, 16, 5, 7))))
    expected = [
        [-0.34277, -0.31504, -0.30691, 0.06074, -0.55575, -0.46230, 0.22176, 0.33707],
        [-0.35776, -0.31632, -0.32239, 0.04727, -0.55047, -0.47987, 0.15313, 0.33021],
    ]
    assert torch.allclose(found, torch.tensor(expected), atol=1e-4)


@pytest.mark.parametrize(("name", "per_channel"), [("gem", 1), ("netvlad", 64)])
def test_a_linear_layer_goes_after_all_dimensions(name: str, per_channel: int) -> None:
    head = make_aggregator(name, 8, options={"fc_dim": 5})
    assert isinstance(head, LinearHead)
    assert head.fc.in_features == 8 * per_channel
    assert head(Features(torch.randn(2, 8, 3, 4))).norm(dim=1).tolist() == pytest.approx(
        [1, 1], abs=1e-5
    )


def test_convap_gives_its_numbers() -> None:
    layer = ConvAp(6, channels_out=4).eval()
    fill(layer)
    with torch.inference_mode():
        found = layer(Features(image_of((2, 6, 5, 7))))
    assert torch.allclose(
        found[0, :6],
        torch.tensor([0.52069, 0.12925, 0.43751, 0.25918, 0.28552, 0.27236]),
        atol=2e-4,
    )


@pytest.mark.parametrize(("grid", "size"), [(1, (5, 7)), (2, (10, 10)), (2, (5, 8)), (3, (7, 4))])
def test_fields_of_convap_are_those_of_adaptive_pooling(grid: int, size: tuple[int, int]) -> None:
    layer, x = ConvAp(6, channels_out=4, grid=grid), torch.randn(2, 6, *size)
    with torch.inference_mode():
        pooled = torch.nn.functional.adaptive_avg_pool2d(layer.channel_pool(x), grid).flatten(1)
        assert torch.allclose(layer(Features(x)), normalize(pooled, dim=1), atol=1e-6)


def test_mixvpr_gives_its_numbers() -> None:
    layer = MixVpr(6, channels_out=5, rows=2, depth=2, grid=(3, 4)).eval()
    fill(layer)
    with torch.inference_mode():
        found = layer(Features(image_of((2, 6, 3, 4))))
    expected = (-0.34974, 0.03896, -0.51036, 0.21760, -0.37369, -0.13962)
    assert torch.allclose(found[0, :6], torch.tensor(expected), atol=2e-4)
    assert found.sum().item() == pytest.approx(-2.04938, abs=2e-4)
    with pytest.raises(BadOption, match="3 x 4 positions, not 4 x 3"):
        layer(Features(torch.zeros(1, 6, 4, 3)))


def test_mixvpr_gives_earthlocs_numbers() -> None:
    layer = MixVpr(8, channels_out=6, rows=2, depth=2, grid=(4, 4)).eval()
    fill(layer)
    with torch.inference_mode():
        found = layer(Features(image_of((2, 8, 4, 4))))
    expected = """
        0.25718 0.27071 0.24152 -0.18126 0.09917 0.15680 0.29847 -0.21576 0.11908 -0.14030 0.17626
        0.73103"""
    assert torch.allclose(
        found[0], torch.tensor([float(value) for value in expected.split()]), atol=1e-4
    )
    assert found[1, -1].item() == pytest.approx(0.71481, abs=1e-4)
    assert found.sum().item() == pytest.approx(3.94561, abs=1e-4)


def test_transport_gives_salads_numbers() -> None:
    found = transport(image_of((1, 4, 20)), torch.tensor(1.0))
    assert found.shape == (1, 5, 20)
    first = torch.tensor([-3.81144, -3.56003, -3.32817, -3.07899, -2.55706])
    assert torch.allclose(found[0, 0, :5], first, atol=2e-4)
    assert found[0, -1, -1].item() == pytest.approx(-0.17594, abs=2e-4)
    assert found.sum().item() == pytest.approx(-255.13868, abs=2e-3)


def test_transport_shares_out_every_position() -> None:
    scores = torch.randn(2, 4, 30, dtype=torch.float64)
    shares = transport(scores, torch.tensor(1.0, dtype=torch.float64), num_iterations=50).exp()
    assert torch.allclose(shares.sum(dim=1), torch.ones(2, 30, dtype=torch.float64))
    assert torch.allclose(
        shares[:, :4].sum(dim=2), torch.ones(2, 4, dtype=torch.float64), atol=1e-6
    )
    assert torch.allclose(
        shares[:, 4].sum(dim=1), torch.full((2,), 26.0, dtype=torch.float64), atol=1e-6
    )
    assert transport(scores.bfloat16(), torch.tensor(1.0)).dtype == torch.float32


def test_salad_gives_its_numbers() -> None:
    layer = Salad(12, num_words=4, word_dim=6, token_dim=5, hidden=10).eval()
    fill(layer)
    with torch.inference_mode():
        found = layer(Features(image_of((2, 12, 4, 5)), image_of((2, 12), 1001)))
    expected = """
        0.05942 0.12379 0.34587 -0.00367 -0.24800 0.21199 0.17388 0.20665 0.19501 0.28175 0.30660
        0.28544"""
    assert found.shape == (2, 29)
    assert torch.allclose(
        found[0, :12], torch.tensor([float(value) for value in expected.split()]), atol=2e-4
    )
    assert found.sum().item() == pytest.approx(4.38524, abs=2e-4)


def test_salad_needs_more_positions_than_words() -> None:
    layer = Salad(12, num_words=4, word_dim=6, token_dim=5, hidden=10)
    with pytest.raises(BadOption, match="more than 4 positions, this image has 4"):
        layer(Features(torch.zeros(1, 12, 2, 2), torch.zeros(1, 12)))
    with pytest.raises(BadOption, match="class token"):
        layer(Features(torch.zeros(1, 12, 3, 3)))


def test_bag_of_queries_gives_its_numbers() -> None:
    layer = BagOfQueries(6, width=128, num_queries=3, rows=4).eval()
    fill(layer)
    with torch.inference_mode():
        found = layer(Features(image_of((2, 6, 3, 4))))
    expected = (0.01200, 0.10837, -0.01778, -0.01017, 0.02006, -0.06028)
    assert torch.allclose(found[0, :6], torch.tensor(expected), atol=2e-4)
    assert found.sum().item() == pytest.approx(1.32584, abs=2e-4)


def test_queries_are_asked_once_until_they_change() -> None:
    layer, features = (
        BagOfQueries(6, width=64, num_queries=3, rows=4).eval(),
        Features(torch.randn(2, 6, 3, 4)),
    )
    calls: list[int] = []
    layer.boqs[0].self_attn.register_forward_hook(lambda *_: calls.append(1))
    with torch.inference_mode():
        first = layer(features)
        assert torch.equal(layer(features), first)
        assert len(calls) == 1
        fill(layer)
        changed = layer(features)
        assert len(calls) == 2
    fresh = BagOfQueries(6, width=64, num_queries=3, rows=4).eval()
    fresh.load_state_dict(layer.state_dict())
    with torch.inference_mode():
        assert torch.equal(fresh(features), changed)
    layer(features).sum().backward()
    assert layer.boqs[0].queries.grad is not None


# Names and sizes


@pytest.mark.parametrize(
    ("name", "channels", "options", "dim"),
    [
        ("netvlad", 256, {}, 16384),
        ("netvlad", 384, {}, 24576),
        ("vlad", 1536, {}, 49152),
        ("convap", 2048, {}, 8192),
        ("mixvpr", 1024, {"channels_out": 64, "rows": 2}, 128),
        ("salad", 768, {}, 8448),
        ("boq", 1024, {}, 16384),
        ("boq", 768, {"width": 384}, 12288),
        ("megaloc", 768, {}, 8448),
        ("cosplace", 2048, {}, 512),
    ],
)
def test_dimensions_are_the_published_ones(
    name: str, channels: int, options: dict[str, Any], dim: int
) -> None:
    with torch.device("meta"):
        aggregator = make_aggregator(name, channels, options=options)
    assert aggregator.dim == dim


@pytest.mark.parametrize(
    ("backbone", "aggregator", "options", "millions"),
    [
        ("resnet50conv4", "mixvpr", {}, 10.88),
        ("resnet50conv4", "mixvpr", {"channels_out": 64, "rows": 2}, 9.90),
        ("resnet50conv4", "boq", {}, 23.84),
        ("dinov2_vitb14", "boq", {"width": 384}, 95.21),
        ("dinov2_vitb14", "salad", {}, 87.99),
        ("resnet18conv5", "cosplace", {}, 11.44),
        ("resnet152conv5", "cosplace", {"dim": 2048}, 62.34),
        ("efficientnet_b0", "cosplace", {}, 4.66),
    ],
)
def test_networks_have_the_published_number_of_parameters(
    backbone: str, aggregator: str, options: dict[str, Any], millions: float
) -> None:
    with torch.device("meta"):
        body = make_backbone(backbone)
        network = Network(body, make_aggregator(aggregator, body.channels, options=options))
    assert sum(parameter.numel() for parameter in network.parameters()) / 1e6 == pytest.approx(
        millions, abs=0.006
    )


def test_names_and_options_are_checked() -> None:
    with pytest.raises(UnknownName, match="netvlad"):
        make_aggregator("netvald", 8)
    with pytest.raises(UnknownName, match="num_words"):
        make_aggregator("netvlad", 8, options={"num_clusters": 64})
    with pytest.raises(BadOption, match="before_pool"):
        make_aggregator("gem", 8, options={"l2": "before"})
    for wrong in (0, 2.5, True, "64"):
        with pytest.raises(BadOption, match="count of at least 1"):
            make_aggregator("netvlad", 8, options={"num_words": wrong})
    with pytest.raises(BadOption, match="a number"):
        make_aggregator("gem", 8, options={"p": "three"})
    with pytest.raises(BadOption, match="2 counts"):
        make_aggregator("mixvpr", 8, options={"grid": [20]})
    with pytest.raises(BadOption, match="multiple of 64"):
        make_aggregator("boq", 8, options={"width": 100})
    assert make_aggregator("mixvpr", 8, options={"grid": [3, 4]}).grid == (3, 4)
    assert make_aggregator("gem", 8, options={"p": 2}).p.item() == 2
    assert set(squares((4,), 0).shape) == {4}


def test_golden_attention_over_scales() -> None:
    """SegVPR's attention, and that the released pooling cancels it."""
    attention = MultiScaleAttention(2)
    for number, value in enumerate(attention.state_dict().values()):
        value.copy_(
            0.1 * torch.sin(torch.arange(1, value.numel() + 1) + 10.0 * number).reshape(value.shape)
        )
    x = sines(1, 2, 9, 10)
    with torch.no_grad():
        weights = attention(x)
    assert weights.shape == (1, 1, 7, 8)
    assert weights[0, 0, 0, :4].tolist() == pytest.approx(
        [0.915857, 0.878029, 0.925308, 1.047793], abs=2e-5
    )
    assert float(weights.sum()) == pytest.approx(56.005363, abs=1e-3)
    large = resized(weights, x)
    assert large[0, 0, 0, :4].tolist() == pytest.approx(
        [0.915857, 0.886435, 0.904295, 0.966137], abs=2e-5
    )
    assert float(large.sum()) == pytest.approx(90.022270, abs=1e-3)
    pool = AttentionPool(4, mode="released", has_attention=False)
    for maps, expected in (
        (x, [0.604585, 0.590113]),
        (large * x, [0.604585, 0.590113]),
        (sines(1, 4, 2, 3), [0.435528, 0.395150]),
    ):
        with torch.no_grad():
            assert pool._pool(maps, None)[0, :2].tolist() == pytest.approx(expected, abs=2e-5)
    assert (
        sum(parameter.numel() for parameter in MultiScaleAttention(1024).parameters()) == 5_439_873
    )


GOLDEN_POOLS = {
    "released": [0.385373, 0.457299, 0.437217, 0.470011, 0.455412, 0.420560, 0.285758],
    "paper": [0.179924, 0.209498, 0.200826, 0.219499, 0.207556, 0.185942, 0.216940],
    "post_norm": [0.214833, 0.269501, 0.248720, 0.291556, 0.260832, 0.237657, 0.173663],
}


@pytest.mark.parametrize("mode", GOLDEN_POOLS)
def test_golden_pools_of_two_scales(mode: Literal["paper", "released", "post_norm"]) -> None:
    """In the released mode the attention leaves the descriptor as it is; in the two others it does
    not."""
    features = Features(
        image_of((2, 16, 6, 7), 1001).clamp(min=0), finer=image_of((2, 8, 12, 14)).clamp(min=0)
    )
    pool = AttentionPool(16, mode=mode)
    fill(pool.attention)  # type: ignore[arg-type]
    with torch.no_grad():
        weights = pool.weights(features)
        found = pool(features)
        plain = AttentionPool(16, mode=mode, has_attention=False)(features)
    assert weights is not None
    assert weights.shape == (2, 1, 10, 12)
    assert weights[0, 0, 0, :4].tolist() == pytest.approx(
        [0.600540, 0.673620, 0.610848, 0.412651], abs=2e-5
    )
    spread = [float(part) for part in (weights.mean(), weights.min(), weights.max())]
    assert spread == pytest.approx([0.535565, 0.254739, 1.022425], abs=2e-5)
    assert [*found[0, :6].tolist(), float(found[0, -1])] == pytest.approx(
        GOLDEN_POOLS[mode], abs=2e-5
    )
    assert mode != "released" or float(found[0].norm()) == pytest.approx(1.728209, abs=1e-4)
    change = float((found - plain).abs().max())
    assert change < 2e-6 if mode == "released" else change > 1e-3
    with pytest.raises(BadOption, match="two scales"):
        pool(Features(features.map))
