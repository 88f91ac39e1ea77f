"""Sequence pools: published numbers, what does not depend on the order or the number of frames, and
what does."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("pytorch_metric_learning")

from torch import Tensor

from fills import image_of, squares
from whence.errors import BadOption, UnknownName
from whence.models.aggregators import make_aggregator
from whence.models.aggregators.pools import GeM, LinearHead
from whence.models.aggregators.sequence import POOLS, SeqGem, SequencePool, make_sequence_pool
from whence.models.aggregators.words import Crn, NetVlad
from whence.models.backbones.base import Features
from whence.models.sequence_rules import ORDER_FREE, RULES, pool_frames
from whence.training.losses.by_label import make_classifiers
from whence.training.losses.tuples import tuple_loss
from whence.training.options.places import LossOptions


def sines(*shape: int, function: Any = torch.sin, factor: float = 1.0) -> Tensor:
    return (
        function(factor * (torch.arange(math.prod(shape), dtype=torch.float64) + 1))
        .float()
        .reshape(shape)
    )


def pool_of(name: str, frame_dim: int = 4, length: int = 5, **options: Any) -> SequencePool:
    torch.manual_seed(0)
    aggregator = NetVlad(2, num_words=2) if name == "seqvlad" else GeM(frame_dim)
    return make_sequence_pool(name, aggregator, length=length, options=options).eval()


def test_seqvlad_over_kept_sums_gives_the_published_numbers() -> None:
    layer = NetVlad(4, num_words=3)
    with torch.no_grad():
        layer.centroids.copy_(sines(3, 4, function=torch.cos))
        layer.conv.weight.copy_(sines(3, 4, 1, 1, factor=2.0))
        pool = make_sequence_pool("seqvlad", layer, length=2)
        tokens = pool(
            pool.describe(layer, Features(sines(2, 3, 4).transpose(1, 2).unsqueeze(3)))[None]
        )
        maps = pool(pool.describe(layer, Features(sines(2, 4, 2, 2)))[None])
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


@pytest.mark.parametrize("kind", [NetVlad, Crn])
def test_seqvlad_of_one_frame_is_the_layer_itself_and_needs_no_order(kind: type[NetVlad]) -> None:
    torch.manual_seed(1)
    layer = kind(6, num_words=3)
    maps = torch.randn(4, 6, 5, 7)
    pool = make_sequence_pool("seqvlad", layer, length=4)
    with torch.inference_mode():
        kept = pool.describe(layer, Features(maps))
        assert torch.equal(pool(kept[:, None]), layer(Features(maps)))
        forward, backward = pool(kept[None]), pool(kept.flip(0)[None])
        if kind is NetVlad:
            joined = layer(Features(torch.cat(list(maps), dim=1)[None]))
            assert torch.allclose(forward, joined, atol=1e-6)
    assert torch.allclose(forward, backward, atol=1e-6)
    with pytest.raises(BadOption, match="netvlad"):
        make_sequence_pool("seqvlad", GeM(6), length=4)


def test_delta_and_seqnet_give_the_published_numbers() -> None:
    four, five = RULES["delta"](sines(1, 4, 4)), RULES["delta"](sines(1, 5, 4))
    assert torch.allclose(
        four[0], torch.tensor([0.517326, -0.099842, -0.625216, -0.575769]), atol=1e-5
    )
    assert torch.allclose(
        five[0], torch.tensor([-0.008481, -0.679654, -0.725956, -0.104817]), atol=1e-5
    )
    for l2, expected in ((False, (0.119892, 0.294422)), (True, (0.377141, 0.926156))):
        pool = pool_of("seqnet", width=3, l2=l2, dim=2)
        with torch.no_grad():
            pool.conv.weight.copy_(sines(2, 4, 3, factor=2.0))  # type: ignore[union-attr, operator]
            pool.conv.bias.copy_(torch.tensor([0.1, -0.1]))  # type: ignore[union-attr, operator]
            assert torch.allclose(pool(sines(1, 5, 4))[0], torch.tensor(expected), atol=1e-5)


def test_seqgem_gives_the_published_numbers_and_gradients() -> None:
    pool, frames = SeqGem(4, 3), sines(1, 3, 4).requires_grad_()
    found = pool(frames)
    assert torch.allclose(
        found[0], torch.tensor([0.605450, 0.630472, 0.457029, 0.685983]), atol=1e-5
    )
    found.sum().backward()
    assert pool.p.grad is not None
    assert pool.p.grad.item() == pytest.approx(0.264974, abs=1e-5)
    rows = [
        [0.643874, 0.693361, 0.031781, 0.0],
        [0.0, 0.0, 0.688818, 0.693361],
        [0.154442, 0.0, 0.0, 0.0],
    ]
    assert frames.grad is not None
    assert torch.allclose(frames.grad[0], torch.tensor(rows), atol=1e-5)
    absolute = pool(sines(1, 3, 4).abs())
    assert torch.allclose(
        absolute[0], torch.tensor([0.802006, 0.677916, 0.754073, 0.803519]), atol=1e-5
    )
    negative = torch.full((1, 3, 4), -0.1, requires_grad=True)
    lost = pool(negative)
    assert torch.allclose(lost, torch.full((1, 4), 1e-6), atol=1e-9)
    lost.sum().backward()
    assert negative.grad is not None
    assert not negative.grad.any()
    kept = SeqGem(4, 3, is_signed=True)(torch.full((1, 3, 4), -0.1))
    assert torch.allclose(kept, torch.full((1, 4), -0.1), atol=1e-6)


def small_head() -> LinearHead:
    """CosPlace's head of 16 channels and 8 dimensions, filled by the published rule."""
    head = make_aggregator("cosplace", 16, options={"dim": 8})
    assert isinstance(head, LinearHead)
    with torch.no_grad():
        head.fc.weight.copy_(squares((8, 16), 1, scale=math.sqrt(24 / 16)))
        head.fc.bias.copy_(squares((8,), 2, scale=0.2))
    return head


def test_jists_aggregators_give_the_published_numbers() -> None:
    with torch.inference_mode():
        frames = small_head()(Features(image_of((24, 16, 5, 7), 1002))).reshape(8, 3, 8)
        first = (
            -0.302907,
            -0.348574,
            -0.272068,
            0.066207,
            -0.554916,
            -0.453278,
            0.162488,
            0.410541,
        )
        assert torch.allclose(frames[0, 0], torch.tensor(first), atol=1e-5)
        conv, simple, mean = (
            pool_of(name, frame_dim=8, length=3) for name in ("conv1d", "simplefc", "meanfc")
        )
        conv.conv.weight.copy_(squares((8, 8, 3), 0, scale=math.sqrt(24 / 24)))  # type: ignore[union-attr, operator]
        conv.conv.bias.copy_(squares((8,), 1, scale=0.2))  # type: ignore[union-attr, operator]
        simple.fc.weight.copy_(squares((8, 24), 0, scale=math.sqrt(24 / 24)))  # type: ignore[union-attr, operator]
        expected = {
            "mean": (
                -0.319946,
                -0.338918,
                -0.292436,
                0.074766,
                -0.552147,
                -0.468200,
                0.185360,
                0.358930,
            ),
            "max": (
                -0.302907,
                -0.299125,
                -0.272068,
                0.079089,
                -0.539904,
                -0.453278,
                0.230226,
                0.410541,
            ),
            "conv1d": (
                1.126408,
                0.814319,
                -0.479142,
                0.170575,
                -0.225145,
                -0.537745,
                -0.056204,
                -0.908018,
            ),
            "simplefc": (
                0.204072,
                0.078212,
                -0.597102,
                -0.858075,
                0.262563,
                0.285711,
                0.489906,
                0.010307,
            ),
        }
        made = {"conv1d": conv, "simplefc": simple}
        for name, values in expected.items():
            pool = made[name] if name in made else pool_of(name, frame_dim=8, length=3)
            assert torch.allclose(pool(frames)[0], torch.tensor(values), atol=1e-5), name
        assert torch.allclose(mean(frames), frames.mean(dim=1), atol=1e-6)
    assert pool_of("cat", frame_dim=512, length=5).dim == 2560
    assert pool_of("fc", frame_dim=512, length=5).dim == 768


def test_jists_joint_loss_gives_the_published_numbers_and_gradients() -> None:
    head, pool = small_head(), SeqGem(8, 3)
    sequences = pool(head(Features(image_of((24, 16, 5, 7), 1002))).reshape(8, 3, 8))
    aggregate = (0.000001, 0.000001, 0.000001, 0.075244, 0.000001, 0.000001, 0.190846, 0.362825)
    assert torch.allclose(sequences[0], torch.tensor(aggregate), atol=1e-5)
    of_queries = sequences.reshape(2, 4, 8)
    triplet = tuple_loss(
        "triplet", of_queries[:, 0], of_queries[:, 1], of_queries[:, 2:], margin=0.1
    )
    options = LossOptions("cosface", {"scale": 30.0, "margin": 0.4})
    (cosface,) = make_classifiers(options, num_classes=[5], dim=8)
    classifier = cosface.loss.get_parameter("W")
    with torch.no_grad():
        classifier.copy_(squares((5, 8), 0, scale=math.sqrt(24 / 8)).T)
    image = cosface(head(Features(image_of((4, 16, 5, 7)))), torch.tensor([3, 1, 0, 4]))
    assert triplet.item() == pytest.approx(0.109506, abs=2e-6)
    assert image.item() == pytest.approx(15.772844, abs=2e-4)
    assert (1e4 * triplet + 100 * image).item() == pytest.approx(2672.341, abs=2e-2)
    (1e4 * triplet).backward()
    weight, p = head.fc.weight, head.pool.p
    assert weight.grad is not None
    assert p.grad is not None  # type: ignore[union-attr]
    assert pool.p.grad is not None
    assert weight.grad.norm().item() == pytest.approx(720.4395, abs=2e-2)
    assert p.grad.item() == pytest.approx(-3.69146, abs=1e-3)  # type: ignore[union-attr, operator]
    assert pool.p.grad.item() == pytest.approx(27.24525, abs=1e-3)
    (100 * image).backward()
    assert weight.grad.norm().item() == pytest.approx(1704.4629, abs=2e-2)
    assert p.grad.item() == pytest.approx(-24.48333, abs=1e-3)  # type: ignore[union-attr, operator]
    assert classifier.grad is not None
    assert classifier.grad.norm().item() == pytest.approx(956.6461, abs=2e-2)


@pytest.mark.parametrize("name", sorted(set(POOLS) - {"early"}))
def test_every_pool_keeps_its_word_on_order_and_length(name: str) -> None:
    options: dict[str, Any] = {"dim": 3} if name in ("fc", "seqnet") else {}
    pool = pool_of(name, **options)
    random = torch.Generator().manual_seed(2)
    shape = (2, 5, 2, 2) if name == "seqvlad" else (2, 5, 4)
    frames = torch.randn(shape, generator=random)
    with torch.inference_mode():
        found = pool(frames)
        assert found.shape == (2, pool.dim)
        is_free = torch.allclose(found, pool(frames.flip(1)), atol=1e-6)
        assert is_free == (name in ORDER_FREE or name in ("seqvlad", "meanfc"))
        if not pool.is_any_length:
            with pytest.raises(BadOption, match="5 frames, not 3"):
                pool(frames[:, :3])
        else:
            assert pool(frames[:, :3]).shape == (2, 12 if name == "cat" else pool.dim)
        unit = make_sequence_pool(
            name,
            NetVlad(2, num_words=2) if name == "seqvlad" else GeM(4),
            length=5,
            options={**options, "l2": True},
        )
        assert torch.allclose(unit(frames).norm(dim=1), torch.ones(2), atol=1e-5)


@pytest.mark.parametrize("rule", sorted(RULES))
def test_rules_are_the_same_for_numpy_and_torch(rule: str) -> None:
    frames = np.random.default_rng(0).standard_normal((3, 4, 6)).astype(np.float32)
    plain, tensor = pool_frames(frames, rule), pool_frames(torch.from_numpy(frames), rule)
    assert plain.dtype == np.float32
    assert np.allclose(plain, tensor.numpy(), atol=1e-6)
    reverse = pool_frames(frames[:, ::-1], rule)
    assert np.allclose(plain, reverse, atol=1e-6) == (rule in ORDER_FREE)


def test_pools_and_rules_that_do_not_exist_are_refused() -> None:
    with pytest.raises(UnknownName, match="seqvlad"):
        make_sequence_pool("seqvald", GeM(4), length=5)
    with pytest.raises(UnknownName, match="option of seqgem"):
        make_sequence_pool("seqgem", GeM(4), length=5, options={"q": 1})
    with pytest.raises(BadOption, match="p of seqgem"):
        make_sequence_pool("seqgem", GeM(4), length=5, options={"p": "three"})
    with pytest.raises(UnknownName, match="option of fc"):
        make_sequence_pool("fc", GeM(4), length=5, options={"has_bias": False})
    with pytest.raises(BadOption, match="at least 1 frame"):
        make_sequence_pool("mean", GeM(4), length=0)
    with pytest.raises(BadOption, match="lower width"):
        make_sequence_pool("seqnet", GeM(4), length=2)
    with pytest.raises(UnknownName, match="rule for sequences"):
        pool_frames(np.zeros((1, 2, 3)), "median")
    with pytest.raises(BadOption, match="has no option 'p'"):
        pool_frames(np.zeros((1, 2, 3)), "mean", options={"p": 2})
