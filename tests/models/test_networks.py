"""Networks: what a backbone and an aggregator make of images."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from whence.cards import IMAGENET_MEAN, IMAGENET_STD, Preprocessing
from whence.errors import BadOption, UnknownName
from whence.models.aggregators.pools import GeM
from whence.models.backbones import make_backbone
from whence.models.backbones.base import Features
from whence.models.descriptor import read_as
from whence.models.network_descriptor import NetworkDescriptor
from whence.models.networks import Network
from whence.models.preprocessing import normalise
from whence.models.zoo import CARDS


def test_parameters_are_those_the_benchmark_counts() -> None:
    # Deep Visual Geo-localization Benchmark, 480 x 640, GeM head: 2.78 M and 8.54 M.
    for name, millions in {
        "resnet18conv4": 2.78,
        "resnet18conv5": 11.18,
        "resnet50conv4": 8.54,
        "resnet101conv5": 42.50,
    }.items():
        backbone = make_backbone(name)
        network = Network(backbone, GeM(backbone.channels))
        assert sum(p.numel() for p in network.parameters()) / 1e6 == pytest.approx(
            millions, abs=0.006
        )


def test_freezing_keeps_the_first_stages() -> None:
    backbone = make_backbone("resnet18conv4")
    backbone.freeze_before("layer3")
    learning = {name.split(".")[0] for name, p in backbone.named_parameters() if p.requires_grad}
    assert learning == {"layer3"}
    with pytest.raises(UnknownName, match="layer3"):
        backbone.freeze_before("layer5")


def test_gem_is_the_generalised_mean_at_each_placement() -> None:
    x = torch.randn(2, 5, 3, 4, dtype=torch.float64)
    unit = x / x.norm(dim=1, keepdim=True)
    slow = {
        "none": x.clamp(min=1e-6).pow(3).mean((2, 3)) ** (1 / 3),
        "before_pool": unit.clamp(min=1e-6).pow(3).mean((2, 3)) ** (1 / 3),
    }
    slow["after_pool"] = slow["none"] / slow["none"].norm(dim=1, keepdim=True)
    for l2, expected in slow.items():
        assert torch.allclose(GeM(5, l2=l2)(Features(x)), expected, atol=1e-6)


def test_normalising_is_the_fields_own() -> None:
    images = torch.randint(0, 256, (2, 4, 5, 3), dtype=torch.uint8)
    mean, std = np.array(IMAGENET_MEAN), np.array(IMAGENET_STD)
    expected = ((images.numpy() / 255 - mean) / std).transpose(0, 3, 1, 2)
    assert np.allclose(normalise(images).numpy(), expected, atol=1e-6)


def test_mixed_sizes_keep_their_order() -> None:
    random = np.random.default_rng(0)
    sizes = [(64, 48), (48, 64), (64, 48), (32, 32), (48, 64)]
    images = [random.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]
    backbone = make_backbone("resnet18conv3")
    descriptor = NetworkDescriptor(Network(backbone, GeM(backbone.channels)), batch_size=2)
    together = descriptor.describe(images)
    alone = np.concatenate([descriptor.describe([image]) for image in images])
    assert np.allclose(together, alone, atol=1e-5)
    assert np.allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)


def test_a_card_may_ask_for_blue_first() -> None:
    image = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    for steps in (
        Preprocessing(),
        Preprocessing(interpolation="bilinear"),
        Preprocessing(interpolation="bilinear", short_side_px=20),
    ):
        plain, turned = read_as(image, steps), read_as(image, replace(steps, colour="bgr"))
        assert np.array_equal(turned, plain[..., ::-1])
    with pytest.raises(BadOption, match="bgr"):
        read_as(image, Preprocessing(colour="brg"))
    card = CARDS["segvpr-resnet50-deeplab-3072"]
    pixels = torch.from_numpy(read_as(image, card.preprocessing)[None].copy())
    found = normalise(pixels, mean=card.preprocessing.mean, std=card.preprocessing.std)[0].numpy()
    # The authors' own: blue, green, red from 0 to 255 less (0.485, 0.456, 0.406).
    expected = (
        image[..., ::-1].astype(np.float32).transpose(2, 0, 1)
        - np.array(IMAGENET_MEAN, np.float32)[:, None, None]
    )
    assert np.allclose(found, expected, atol=1e-3)
