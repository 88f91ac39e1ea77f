"""Sizes, costs and counts that were measured on the authors' networks, beside the golden values in
the tests of each part.

Descriptors of whole networks and layers are compared in `test_aggregators`, `test_backbones`,
`test_checkpoints` and `test_warp`.
"""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from fills import squares
from published_keys import affine
from whence.models.aggregators import make_aggregator
from whence.models.backbones import make_backbone
from whence.models.backbones.base import Features
from whence.models.checkpoints.keys import Translator
from whence.models.cost import measure_cost
from whence.models.networks import Network


def network_of(
    backbone: str, aggregator: str, options: dict[str, Any] | None = None, **backbone_options: Any
) -> Network:
    """On the meta device, with what the publication trains learning where there is one."""
    with torch.device("meta"):
        body = make_backbone(backbone, **backbone_options)
        network = Network(body, make_aggregator(aggregator, body.channels, options=options or {}))
    if body.published:
        body.freeze_as_published()
    return network


def test_the_fill_rule_is_the_published_one() -> None:
    expected = [-0.493062, -0.445491, -0.336472, -0.166006, 0.065907, 0.359267]
    assert squares((6,), 0).tolist() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("backbone", "dim", "millions", "millions_trainable", "gmacs"),
    [
        ("resnet18conv5", 512, 11.44, 10.76, 9.5),
        ("resnet50conv5", 2048, 27.70, 26.26, 21.4),
        ("resnet101conv5", 2048, 46.70, 45.25, 40.8),
        ("resnet152conv5", 2048, 62.34, 59.77, 60.2),
        ("vgg16", 512, 14.98, 7.34, 80.2),
        ("efficientnet_b0", 512, 4.66, 4.35, None),
    ],
)
def test_cosplaces_networks(
    backbone: str, dim: int, millions: float, millions_trainable: float, gmacs: float | None
) -> None:
    # CosPlace's code at 512 x 512; EigenPlaces has the same networks.
    cost = measure_cost(network_of(backbone, "cosplace", {"dim": dim}), size_px=(512, 512))
    assert cost.num_parameters / 1e6 == pytest.approx(millions, abs=0.006)
    assert cost.num_trainable / 1e6 == pytest.approx(millions_trainable, abs=0.006)
    assert gmacs is None or cost.flops / 2e9 == pytest.approx(gmacs, abs=0.06)


@pytest.mark.parametrize(
    ("backbone", "aggregator", "options", "side", "gmacs"),
    [
        ("dinov2_vitb14", "megaloc", {}, 322, 51.1),
        ("dinov2_vitb14", "megaloc", {}, 224, 23.6),
        ("dinov2_vitb14", "salad", {}, 322, 50.9),
        ("resnet50conv4", "mixvpr", {}, 320, 8.4),
    ],
)
def test_operations_of_later_networks(
    backbone: str, aggregator: str, options: dict[str, Any], side: int, gmacs: float
) -> None:
    assert measure_cost(
        network_of(backbone, aggregator, options), size_px=(side, side)
    ).flops / 2e9 == pytest.approx(gmacs, abs=0.06)


@pytest.mark.parametrize(
    ("backbone", "options", "aggregator", "num", "num_trainable"),
    [
        ("cct384", {"num_blocks": 8}, "netvlad", 13_309_249 - 385, 8_917_248),
        ("resnet18conv4", {}, "netvlad", 2_815_552, 2_132_480),
        ("resnet18conv4", {}, "gem", 2_782_785, 2_099_713),
        ("vgg16", {}, "netvlad", 14_780_224, 7_144_960),
    ],
)
def test_seqvlads_networks_to_the_last_parameter(
    backbone: str, options: dict[str, Any], aggregator: str, num: int, num_trainable: int
) -> None:
    # Its compact transformer carries the 385 parameters of a sequence pooling that it does not use.
    parameters = list(network_of(backbone, aggregator, **options).parameters())
    assert sum(p.numel() for p in parameters) == num
    assert sum(p.numel() for p in parameters if p.requires_grad) == num_trainable


def test_megaloc_and_earthloc_part_by_part() -> None:
    megaloc = network_of("dinov2_vitb14", "megaloc", takes_any_size=True)
    assert sum(p.numel() for p in megaloc.backbone.parameters()) == 86_579_712
    assert sum(p.numel() for p in megaloc.aggregator.parameters()) == 142_059_841
    salad = network_of("dinov2_vitb14", "salad").aggregator
    assert sum(p.numel() for p in salad.parameters()) / 1e6 == pytest.approx(1.41, abs=0.006)
    assert sum(
        p.numel()
        for p in network_of(
            "resnet50conv4", "mixvpr", {"channels_out": 256, "rows": 2}
        ).parameters()
    ) / 1e6 == (pytest.approx(10.09, abs=0.006))
    earthloc = network_of("resnet50conv4", "mixvpr", {"fc_dim": 4096})
    cost = measure_cost(earthloc, size_px=(320, 320))
    assert cost.num_parameters / 1e6 == pytest.approx(27.66, abs=0.006)
    assert cost.num_trainable / 1e6 == pytest.approx(26.22, abs=0.006)
    sizes = {
        name: sum(p.numel() for p in part.parameters())
        for name, part in earthloc.aggregator.pool.named_children()
    }  # type: ignore[union-attr, operator]
    assert sizes["mix"] / 1e6 == pytest.approx(1.2864, abs=6e-5)
    assert sizes["channel_proj"] / 1e6 == pytest.approx(1.0496, abs=6e-5)
    assert sizes["row_proj"] == 1604


def test_operations_of_the_benchmarks_transformers_and_words() -> None:
    # Deep Visual Geo-localization Benchmark: 37.2 and 33.7 GFLOPs; its count of ViT leaves out the
    # products of attention.
    compact = measure_cost(network_of("cct384", "gem"), size_px=(384, 384)).flops
    assert compact / 1e9 == pytest.approx(37.2, rel=0.01)
    vit = measure_cost(network_of("vit_b16_224", "cls"), size_px=(224, 224)).flops
    attention = 12 * 2 * (2 * 197 * 197 * 768)
    assert (vit - attention) / 1e9 == pytest.approx(33.7, rel=0.01)
    # NetVLAD adds 0.04 with its convolution (its sums as much again), contextual reweighting 0.32
    # more.
    gem, netvlad, crn = (
        measure_cost(network_of("resnet18conv4", name)).flops / 1e9
        for name in ("gem", "netvlad", "crn")
    )
    assert gem == pytest.approx(17.23, rel=0.01)
    assert (netvlad - gem) / 2 == pytest.approx(0.04, abs=0.005)
    assert crn - netvlad == pytest.approx(0.36 - 0.04, abs=0.005)


@pytest.mark.parametrize(
    ("backbone", "aggregator", "count"),
    [
        ("resnet18conv4", "gem", 91),
        ("resnet18conv5", "gem", 121),
        ("resnet50conv4", "gem", 259),
        ("resnet50conv5", "gem", 319),
        ("resnet101conv4", "gem", 565),
        ("resnet101conv5", "gem", 625),
        ("vgg16", "gem", 27),
        ("alexnet", "gem", 11),
        ("resnet50conv4", "netvlad", 260),
        ("vgg16", "netvlad", 28),
        ("resnet152conv5", "cosplace", 933),
        ("efficientnet_b0", "cosplace", 361),
        # Two more are in the file, of a sequence pooling that is not used.
        ("cct384", "mac", 161 - 2),
    ],
)
def test_networks_have_as_many_tensors_as_the_authors(
    backbone: str, aggregator: str, count: int
) -> None:
    assert len(network_of(backbone, aggregator).state_dict()) == count


def test_cosplaces_efficientnets_are_understood() -> None:
    # Trained by users; there are no official weights, so there is no card.
    names = Translator("cosplace", "efficientnet_b0")
    state = network_of("efficientnet_b0", "cosplace").state_dict()
    theirs = [
        f"backbone.0.{name.removeprefix('backbone.features.')}"
        for name in state
        if name.startswith("backbone.")
    ]
    theirs += ["aggregation.1.p", *affine("aggregation.3", 512, 1280)]
    assert theirs[0] == "backbone.0.0.0.weight"
    assert [names.ours(name) for name in theirs] == list(state)


@pytest.mark.parametrize(
    ("name", "channels"),
    [("efficientnet_b0", 1280), ("efficientnet_b5", 2048), ("efficientnet_b7", 2560)],
)
def test_channels_of_efficientnets(name: str, channels: int) -> None:
    with torch.device("meta"):
        assert make_backbone(name).channels == channels


@pytest.mark.parametrize(
    ("name", "aggregator", "norm"),
    [("cct384", "cls", 19.6), ("cct384", "seqpool", None), ("vit_b16_224", "cls", 27.7)],
)
def test_tokens_are_left_as_long_as_they_are(
    name: str, aggregator: str, norm: float | None
) -> None:
    # A fresh final norm gives tokens the length of the square root of their channels; averaging
    # tokens shortens them.
    torch.manual_seed(0)
    body = make_backbone(name, num_blocks=1).eval()
    with torch.inference_mode():
        found = (
            make_aggregator(aggregator, body.channels)(
                body(torch.randn(1, 3, *body.size_rule.exact))
            )
            .norm()
            .item()
        )
    assert found == pytest.approx(norm, abs=0.05) if norm is not None else 1.1 < found < 19.6


def test_every_word_of_salad_weighs_as_much_as_the_class_token() -> None:
    salad = make_aggregator(
        "salad", 12, options={"num_words": 4, "word_dim": 6, "token_dim": 5, "hidden": 10}
    ).eval()
    with torch.inference_mode():
        found = salad(Features(torch.randn(3, 12, 4, 5), torch.randn(3, 12)))
    words = found[:, 5:].reshape(3, 6, 4)
    assert torch.allclose(found[:, :5].norm(dim=1), torch.full((3,), 5**-0.5), atol=1e-6)
    assert torch.allclose(words.norm(dim=1), torch.full((3, 4), 5**-0.5), atol=1e-6)


def test_netvlad_does_not_mind_the_order_of_frames() -> None:
    layer = make_aggregator("netvlad", 8, options={"num_words": 3}).eval()
    frames = torch.randn(5, 8, 3, 4)
    with torch.inference_mode():
        forward, backward = (
            layer(Features(torch.cat(list(order), dim=1)[None]))
            for order in (frames, frames.flip(0))
        )
    assert torch.allclose(forward, backward, atol=1e-6)
