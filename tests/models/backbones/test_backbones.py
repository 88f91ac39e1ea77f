"""Backbones: the contract of every one registered, and the published networks' own numbers."""

from __future__ import annotations

import math
import warnings
from fractions import Fraction
from functools import partial
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

import timm
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st

from fills import fill, hashed, image_of
from whence.errors import BadOption, ModelError, UnknownName
from whence.models.aggregators import make_aggregator
from whence.models.backbones import TRANSFORMER_NAMES, list_backbones, load_imagenet, make_backbone
from whence.models.backbones.base import Backbone, SizeRule
from whence.models.backbones.compact import CompactBlock
from whence.models.backbones.transformers import VisionTransformer, VitShape

TINY = VitShape(32, 2, 4, image_px=56)
HEAVY = (
    "resnet101",
    "resnet152",
    "efficientnet_b5",
    "efficientnet_b7",
    "vitl",
    "vitg",
    "vit_b16_384",
    "swin",
)
"""Looked at on the meta device only: shapes and names without values."""
TIMM = (
    "timm:mobilenetv3_small_050",
    "timm:vit_tiny_patch16_224",
    "timm:deit_tiny_distilled_patch16_224",
    "timm:swin_tiny_patch4_window7_224",
)


def is_heavy(name: str) -> bool:
    return any(part in name for part in HEAVY)


def sizes_of(backbone: Backbone) -> list[tuple[int, int]]:
    rule = backbone.size_rule
    if rule.exact is not None:
        return [rule.exact]
    side = max(2 * backbone.stride, 64)
    return [rule.nearest(side, side), rule.nearest(side, side + 2 * backbone.stride)]


def check_backbone(backbone: Backbone) -> None:
    """What holds for every backbone: declared shapes, freezing, repeatable, a state dict that goes
    round."""
    backbone.eval()
    is_real = next(backbone.parameters()).device.type != "meta"
    device = next(backbone.parameters()).device
    for height, width in sizes_of(backbone):
        with torch.inference_mode():
            images = (
                torch.linspace(-2, 2, 2 * 3 * height * width, device=device)
                .reshape(2, 3, height, width)
                .sin()
            )
            features = backbone(images)
        assert features.map.shape[:2] == (2, backbone.channels)
        for positions, side in zip(features.map.shape[2:], (height, width), strict=True):
            assert abs(positions - side / backbone.stride) <= 1.01
        assert features.cls is None or features.cls.shape == (2, backbone.channels)
        if is_real:
            with torch.inference_mode():
                again, alone = backbone(images), backbone(images[1:])
            assert torch.isfinite(features.map).all()
            assert torch.equal(again.map, features.map)
            assert torch.allclose(alone.map[0], features.map[1], atol=1e-4)
    if backbone.size_rule.exact is not None or backbone.size_rule.multiple_of > 1:
        with pytest.raises(BadOption, match=r"images must be|multiples"):
            backbone(torch.zeros(1, 3, 2 * backbone.stride + 1, 2 * backbone.stride, device=device))
    check_freezing(backbone)
    if is_real:
        state = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
        backbone.load_state_dict(state)
        assert all(
            torch.equal(tensor, state[name]) for name, tensor in backbone.state_dict().items()
        )


def check_freezing(backbone: Backbone) -> None:
    owned = [name for stage in backbone.stages for name in stage_names(backbone, stage)]
    assert sorted(owned) == sorted(name for name, _ in backbone.named_parameters()), (
        "stages share out all parameters, once"
    )
    last = next(stage for stage in reversed(backbone.stages) if stage_names(backbone, stage))
    backbone.learn_only(last)
    assert learning(backbone) == stage_names(backbone, last)
    backbone.learn_only(*backbone.stages)
    backbone.freeze_before(last)
    assert stage_names(backbone, last) <= learning(backbone)
    assert (
        not learning(backbone) & stage_names(backbone, backbone.stages[0])
        or last == backbone.stages[0]
    )
    if backbone.published:
        backbone.freeze_as_published()
        assert learning(backbone) == {
            name for stage in backbone.published for name in stage_names(backbone, stage)
        }
    else:
        with pytest.raises(BadOption, match="no publication"):
            backbone.freeze_as_published()
    with pytest.raises(UnknownName, match="stage"):
        backbone.freeze_before("nowhere")


def stage_names(backbone: Backbone, stage: str) -> set[str]:
    mine = {id(parameter) for parameter in backbone.stage_parameters(stage)}
    return {name for name, parameter in backbone.named_parameters() if id(parameter) in mine}


def learning(backbone: Backbone) -> set[str]:
    return {name for name, parameter in backbone.named_parameters() if parameter.requires_grad}


@pytest.mark.parametrize("name", [*list_backbones(), *TIMM])
def test_every_backbone_keeps_the_contract(name: str) -> None:
    if is_heavy(name):
        with torch.device("meta"):
            backbone = make_backbone(name)
    else:
        backbone = (
            make_backbone(name, num_blocks=2) if name in TRANSFORMER_NAMES else make_backbone(name)
        )
    assert backbone.name == name
    check_backbone(backbone)


@pytest.mark.parametrize("facet", ["query", "key", "value"])
def test_facets_keep_the_contract(facet: str) -> None:
    check_backbone(VisionTransformer("dinov2_vitx14", facet=facet, shape=TINY))


@pytest.mark.parametrize(
    ("name", "map_shape", "millions"),
    [
        ("alexnet", (256, 29, 39), 2.47),
        ("vgg16", (512, 30, 40), 14.71),
        ("resnet18conv4", (256, 30, 40), 2.78),
        ("resnet18conv5", (512, 15, 20), 11.18),
        ("resnet50conv4", (1024, 30, 40), 8.54),
        ("resnet50conv5", (2048, 15, 20), 23.51),
        ("resnet101conv4", (1024, 30, 40), 27.54),
        ("resnet101conv5", (2048, 15, 20), 42.50),
    ],
)
def test_maps_and_sizes_are_the_benchmarks(
    name: str, map_shape: tuple[int, ...], millions: float
) -> None:
    # Deep Visual Geo-localization Benchmark (Berton et al., CVPR 2022) at 480 x 640.
    with torch.device("meta"):
        backbone = make_backbone(name)
        assert backbone(torch.zeros(1, 3, 480, 640)).map.shape == (1, *map_shape)
    assert sum(p.numel() for p in backbone.parameters()) / 1e6 == pytest.approx(millions, abs=0.006)


@pytest.mark.parametrize(
    ("name", "millions"),
    [
        ("alexnet", 2.14),
        ("vgg16", 7.08),
        ("resnet18conv4", 2.10),
        ("resnet50conv5", 22.06),
        ("resnet101conv4", 26.09),
    ],
)
def test_what_learns_is_what_the_benchmark_trains(name: str, millions: float) -> None:
    with torch.device("meta"):
        backbone = make_backbone(name)
    backbone.freeze_as_published()
    assert sum(p.numel() for p in backbone.parameters() if p.requires_grad) / 1e6 == pytest.approx(
        millions, abs=0.006
    )


def test_frozen_batch_norms_still_follow_the_batches() -> None:
    backbone = make_backbone("resnet18conv4").train()
    backbone.freeze_as_published()
    before = backbone.get_submodule("bn1").running_mean.clone()
    backbone(torch.randn(2, 3, 64, 64) + 1).map.sum().backward()
    assert not torch.equal(backbone.get_submodule("bn1").running_mean, before)
    assert backbone.get_submodule("conv1").weight.grad is None


def test_parameters_of_the_published_transformers() -> None:
    with torch.device("meta"):
        counts = {
            name: sum(p.numel() for p in make_backbone(name).parameters())
            for name in ("dinov2_vitb14", "dinov2_vitg14")
        }
        cct = make_backbone("cct384", num_blocks=8)
    assert counts["dinov2_vitb14"] == 86_579_712
    assert counts["dinov2_vitg14"] / 1e9 == pytest.approx(1.136, abs=0.001)
    # SeqVLAD's count holds 49,152 of its own layer and 385 of the unused sequence pooling.
    assert sum(p.numel() for p in cct.parameters()) + 49_152 + 385 == 13_309_249
    cct.freeze_as_published()
    assert sum(p.numel() for p in cct.parameters() if p.requires_grad) + 49_152 == 8_917_248


def test_dinov2_has_the_official_keys() -> None:
    with torch.device("meta"):
        state = make_backbone("dinov2_vitb14").state_dict()
    block = {"norm1": (768,), "norm2": (768,), "attn.qkv": (2304, 768), "attn.proj": (768, 768)}
    block |= {"mlp.fc1": (3072, 768), "mlp.fc2": (768, 3072)}
    expected = {
        "cls_token": (1, 1, 768),
        "pos_embed": (1, 1370, 768),
        "patch_embed.proj.weight": (768, 3, 14, 14),
    }
    expected |= {"patch_embed.proj.bias": (768,), "norm.weight": (768,), "norm.bias": (768,)}
    for i in range(12):
        for part, shape in block.items():
            expected |= {f"blocks.{i}.{part}.weight": shape, f"blocks.{i}.{part}.bias": shape[:1]}
        expected |= {f"blocks.{i}.ls{j}.gamma": (768,) for j in (1, 2)}
    assert {name: tuple(tensor.shape) for name, tensor in state.items()} == expected
    with torch.device("meta"):
        assert {"blocks.0.mlp.w12.weight", "blocks.0.mlp.w3.bias"} <= set(
            make_backbone("dinov2_vitg14", num_blocks=1).state_dict()
        )
        assert make_backbone("dinov2_vits14_reg").state_dict()["register_tokens"].shape == (
            1,
            4,
            384,
        )


def test_dinov2_gives_the_official_numbers_square_or_not() -> None:
    backbone = VisionTransformer("dinov2_vitx14", shape=TINY).eval()
    fill(backbone)
    with torch.inference_mode():
        wide, square = backbone(image_of((1, 3, 42, 70))), backbone(image_of((1, 3, 56, 56)))
    assert wide.map.shape == (1, 32, 3, 5)
    first = torch.tensor([0.07990, 1.45550, -2.57639, 0.67664, -0.44410, 1.02294])
    assert torch.allclose(wide.map.flatten()[:6], first, atol=2e-4)
    assert wide.map.flatten()[-1].item() == pytest.approx(-0.12479, abs=2e-4)
    assert torch.allclose(
        wide.cls[0, :6],
        torch.tensor([-1.42225, -1.04512, -0.97178, -0.19718, 1.00948, 2.12668]),
        atol=2e-4,
    )
    first = torch.tensor([1.66520, 0.31946, -1.16602, -0.78244, 1.51025, -0.32475])
    assert torch.allclose(square.map.flatten()[:6], first, atol=2e-4)


def test_cct_gives_the_benchmarks_numbers() -> None:
    backbone = make_backbone("cct384", num_blocks=2).eval()
    published = [
        "tokenizer.0.weight",
        "tokenizer.1.weight",
        "pos_embed",
        "attention_pool.weight",
        "attention_pool.bias",
    ]
    parts = (
        "pre_norm.weight",
        "pre_norm.bias",
        "self_attn.qkv.weight",
        "self_attn.proj.weight",
        "self_attn.proj.bias",
    )
    parts += tuple(
        f"{part}.{leaf}" for part in ("linear1", "norm1", "linear2") for leaf in ("weight", "bias")
    )
    published += [f"blocks.{i}.{part}" for i in (0, 1) for part in parts]
    published += ["norm.weight", "norm.bias"]
    state = backbone.state_dict()
    assert set(published) - set(state) == {"attention_pool.weight", "attention_pool.bias"}
    for seed, name in enumerate(published, start=100):
        if name in state:
            state[name].copy_(cct_values(name, tuple(state[name].shape), seed))
    pixels = (
        hashed((1, 3, 24, 24), scale=1.5, seed=60).repeat_interleave(16, 2).repeat_interleave(16, 3)
    )
    first = pixels
    with torch.inference_mode():
        for convolution in backbone.tokenizer:
            first = torch.nn.functional.max_pool2d(
                torch.relu(convolution(first)), 3, stride=2, padding=1
            )
        features = backbone(pixels)
    assert torch.allclose(
        first[0, :4, 0, 0], torch.tensor([0.65729, 0.49020, 0.20127, 0.0]), atol=1e-4
    )
    assert torch.allclose(
        first[0, :4, 12, 12], torch.tensor([2.30315, 1.40105, 1.31559, 0.56347]), atol=1e-4
    )
    tokens = features.map.flatten(2)[0].T
    assert torch.allclose(
        tokens[0, :4], torch.tensor([-0.05914, -0.47541, -0.94441, -1.14558]), atol=1e-3
    )
    assert torch.allclose(
        tokens[575, :4], torch.tensor([0.11575, -0.63074, -0.84442, -0.71829]), atol=1e-3
    )
    assert tokens.abs().mean().item() == pytest.approx(0.807069, abs=1e-3)
    assert torch.equal(features.cls[0], tokens[0])
    pool = make_aggregator("seqpool", 384)
    with torch.no_grad():
        for seed, (name, tensor) in enumerate(pool.state_dict().items(), start=103):
            tensor.copy_(cct_values(name, tuple(tensor.shape), seed))
        pooled = pool(features)[0]
    assert torch.allclose(
        pooled[:4], torch.tensor([0.54870, -0.52419, -1.13935, -1.50586]), atol=1e-3
    )


def cct_values(name: str, shape: tuple[int, ...], seed: int) -> torch.Tensor:
    if name == "pos_embed":
        return hashed(shape, scale=0.1, seed=seed)
    if len(shape) > 1:
        return hashed(shape, scale=math.sqrt(3 / math.prod(shape[1:])), seed=seed)
    is_norm_weight = "norm" in name and name.endswith("weight")
    return hashed(
        shape, scale=0.1 if is_norm_weight else 0.05, offset=float(is_norm_weight), seed=seed
    )


def test_a_block_of_cct_gives_seqvlads_numbers() -> None:
    block = CompactBlock(4, 2, 6, attention_dropout=0.1, drop_path=0.1).eval()
    order = [
        "pre_norm.weight",
        "pre_norm.bias",
        "self_attn.qkv.weight",
        "self_attn.proj.weight",
        "self_attn.proj.bias",
    ]
    order += [
        f"{part}.{leaf}" for part in ("linear1", "norm1", "linear2") for leaf in ("weight", "bias")
    ]
    state = block.state_dict()
    assert set(order) == set(state)
    for k, name in enumerate(order):
        j = torch.arange(state[name].numel(), dtype=torch.float64)
        values = 0.1 * torch.sin(j + 1 + 10 * k) + (
            1.0 if "norm" in name and name.endswith("weight") else 0.0
        )
        state[name].copy_(values.reshape(state[name].shape))
    tokens = torch.sin(torch.arange(12, dtype=torch.float64) + 1).float().reshape(1, 3, 4)
    expected = [
        [0.978705, 1.052515, -0.089921, -1.329584],
        [-1.483958, -0.436568, 0.772518, 1.115046],
        [1.740632, -0.189185, -0.913732, -0.082187],
    ]
    with torch.inference_mode():
        assert torch.allclose(block(tokens)[0], torch.tensor(expected), atol=1e-5)


def test_alexnet_gives_geowarps_numbers() -> None:
    backbone = make_backbone("alexnet").eval()
    for j, (name, tensor) in enumerate(backbone.state_dict().items()):
        scale = math.sqrt(6 / math.prod(tensor.shape[1:])) if name.endswith("weight") else 0.05
        tensor.copy_(hashed(tuple(tensor.shape), scale=scale, seed=j))
    image = (
        hashed((1, 3, 15, 20), scale=1.5, seed=7).repeat_interleave(16, 2).repeat_interleave(16, 3)
    )
    with torch.inference_mode():
        features = backbone(image).map
    assert features.shape == (1, 256, 14, 19)
    assert features.abs().mean().item() == pytest.approx(2.761357, abs=1e-4)
    assert torch.allclose(
        features[0, :3, 2, 3], torch.tensor([1.80581, 3.32359, 0.32384]), atol=1e-4
    )


def slow_bicubic(grid: torch.Tensor, rows: int, columns: int, offset: float) -> torch.Tensor:
    """Each value as the weighted sum of 4 x 4 neighbours, by the kernel's formula with a =
    -0.75."""

    def kernel(t: float) -> float:
        a, t = -0.75, abs(t)
        if t <= 1:
            return (a + 2) * t**3 - (a + 3) * t**2 + 1
        return a * t**3 - 5 * a * t**2 + 8 * a * t - 4 * a if t < 2 else 0.0

    side = grid.shape[-1]
    out = torch.zeros(grid.shape[0], rows, columns, dtype=grid.dtype)
    for r in range(rows):
        y = (r + 0.5) * side / (rows + offset) - 0.5
        for c in range(columns):
            x = (c + 0.5) * side / (columns + offset) - 0.5
            for i in range(math.floor(y) - 1, math.floor(y) + 3):
                for j in range(math.floor(x) - 1, math.floor(x) + 3):
                    weight = kernel(y - i) * kernel(x - j)
                    out[:, r, c] += (
                        weight * grid[:, min(max(i, 0), side - 1), min(max(j, 0), side - 1)]
                    )
    return out


@pytest.mark.parametrize(("rows", "columns"), [(3, 5), (5, 3), (7, 4), (6, 6)])
def test_positions_follow_the_official_rule(rows: int, columns: int) -> None:
    backbone = VisionTransformer("dinov2_vitx14", shape=TINY)
    learned = backbone.pos_embed.detach()
    grid = learned[0, 1:].reshape(4, 4, -1).permute(2, 0, 1)
    slow = slow_bicubic(grid, rows, columns, offset=0.1).flatten(1).T
    with torch.no_grad():
        found = backbone.positions(rows, columns)
    assert torch.equal(found[:, 0], learned[:, 0])
    assert torch.allclose(found[0, 1:], slow, atol=1e-6)
    scale = ((rows + 0.1) / 4, (columns + 0.1) / 4)
    official = (
        torch.nn.functional.interpolate(grid[None], scale_factor=scale, mode="bicubic")[0]
        .flatten(1)
        .T
    )
    assert torch.allclose(found[0, 1:], official, atol=1e-6)
    # The silent difference between libraries: without the offset the numbers are others.
    assert not torch.allclose(
        found[0, 1:], slow_bicubic(grid, rows, columns, offset=0.0).flatten(1).T, atol=1e-5
    )


def test_registers_change_the_rule_and_not_the_map() -> None:
    backbone = VisionTransformer("dinov2_vitx14_reg", shape=TINY).eval()
    with torch.no_grad():
        found = backbone.positions(2, 3)[0, 1:]
        grid = backbone.pos_embed[0, 1:].reshape(1, 4, 4, -1).permute(0, 3, 1, 2)
        expected = torch.nn.functional.interpolate(
            grid, size=(2, 3), mode="bicubic", antialias=True
        )
        assert torch.equal(found, expected[0].flatten(1).T)
        features = backbone(torch.randn(1, 3, 28, 42))
        assert features.map.shape == (1, 32, 2, 3)
        before = features.map.clone()
        backbone.register_tokens.add_(torch.randn_like(backbone.register_tokens))
        assert not torch.allclose(backbone(torch.zeros(1, 3, 28, 42)).map, before)


def test_positions_are_kept_until_they_change(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = VisionTransformer("dinov2_vitx14", shape=TINY).eval()
    counted = []
    original = backbone._resample
    monkeypatch.setattr(
        backbone, "_resample", lambda *size: (counted.append(1), original(*size))[1]
    )
    with torch.inference_mode():
        for _ in range(3):
            backbone(torch.zeros(1, 3, 28, 42))
        assert len(counted) == 1
    kept = backbone.positions(2, 3).detach().clone()
    with torch.no_grad():
        backbone.pos_embed.mul_(2)
    with torch.inference_mode():
        assert torch.allclose(backbone.positions(2, 3), 2 * kept)
        backbone.load_state_dict(
            {name: torch.zeros_like(tensor) for name, tensor in backbone.state_dict().items()}
        )
        assert not backbone.positions(2, 3).any()
        assert backbone.double().positions(2, 3).dtype == torch.float64
    backbone.positions(2, 3).sum().backward()
    assert backbone.pos_embed.grad is not None, "positions learn where gradients flow"


def test_any_size_goes_to_the_nearest_patches() -> None:
    backbone = VisionTransformer("dinov2_vitx14", takes_any_size=True, shape=TINY).eval()
    images = torch.randn(1, 3, 35, 50)
    resized = torch.nn.functional.interpolate(
        images, size=(28, 56), mode="bilinear", antialias=True
    )
    with torch.inference_mode():
        assert torch.equal(backbone(images).map, backbone(resized).map)
    assert SizeRule(multiple_of=14).nearest(21, 35) == (28, 28), "half goes to the even multiple"
    assert SizeRule(multiple_of=14, at_least=14).nearest(3, 500) == (14, 504)


def test_facets_are_parts_of_the_last_block() -> None:
    whole = VisionTransformer("dinov2_vitx14", shape=TINY).eval()
    inputs: list[torch.Tensor] = []
    whole.blocks[1].attn.qkv.register_forward_hook(
        lambda _module, _given, result: inputs.append(result)
    )
    image = torch.randn(2, 3, 28, 42)
    with torch.inference_mode():
        whole(image)
        for i, facet in enumerate(("query", "key", "value")):
            part = VisionTransformer("dinov2_vitx14", facet=facet, shape=TINY).eval()
            part.load_state_dict(
                {
                    name: tensor
                    for name, tensor in whole.state_dict().items()
                    if not name.startswith("norm.")
                }
            )
            found = part(image).map.flatten(2).transpose(1, 2)
            assert torch.allclose(found, inputs[0][:, 1:, 32 * i : 32 * (i + 1)], atol=1e-6)


def test_the_final_norm_is_optional_and_blocks_can_be_cut() -> None:
    whole = VisionTransformer("dinov2_vitx14", shape=TINY).eval()
    bare = VisionTransformer("dinov2_vitx14", has_final_norm=False, shape=TINY).eval()
    bare.load_state_dict(
        {
            name: tensor
            for name, tensor in whole.state_dict().items()
            if not name.startswith("norm.")
        }
    )
    image = torch.randn(1, 3, 28, 28)
    with torch.inference_mode():
        expected, found = whole(image), whole.norm(bare(image).map.flatten(2).transpose(1, 2))
    assert torch.allclose(expected.map.flatten(2).transpose(1, 2), found, atol=1e-6)
    with torch.device("meta"):
        assert len(make_backbone("vit_b16_224", num_blocks=3).blocks) == 3


def test_vit_matches_the_reference_implementation() -> None:
    theirs = timm.create_model(
        "vit_base_patch16_224",
        pretrained=False,
        num_classes=0,
        depth=2,
        norm_layer=partial(torch.nn.LayerNorm, eps=1e-12),
    ).eval()
    ours = make_backbone("vit_b16_224", num_blocks=2).eval()
    ours.load_state_dict(theirs.state_dict())
    image = image_of((1, 3, 224, 224))
    with torch.inference_mode():
        tokens = theirs.forward_features(image)
        found = ours(image)
    assert torch.allclose(found.cls, tokens[:, 0], atol=1e-5)
    assert torch.allclose(found.map.flatten(2).transpose(1, 2), tokens[:, 1:], atol=1e-5)
    assert found.map.shape == (1, 768, 14, 14)


def test_sizes_that_are_not_accepted_are_named() -> None:
    with torch.device("meta"):
        with pytest.raises(BadOption, match="384 x 384"):
            make_backbone("cct384")(torch.zeros(1, 3, 480, 640))
        with pytest.raises(BadOption, match="476 x 644 would be accepted"):
            make_backbone("dinov2_vits14")(torch.zeros(1, 3, 480, 640))
        with pytest.raises(BadOption, match="at least 32"):
            make_backbone("alexnet")(torch.zeros(1, 3, 16, 640))


def test_unknown_names_and_options_out_of_place() -> None:
    with pytest.raises(UnknownName, match="resnet50conv4"):
        make_backbone("resnet50conv")
    with pytest.raises(UnknownName, match="vit_tiny_patch16_224"):
        make_backbone("timm:vit_tiny_patch16_242")
    with pytest.raises(BadOption, match="options of transformers"):
        make_backbone("vgg16", num_blocks=3)
    with pytest.raises(BadOption, match="num_blocks only"):
        make_backbone("cct384", facet="key")
    with pytest.raises(BadOption, match="between 1 and 14"):
        make_backbone("cct384", num_blocks=15)
    with pytest.raises(UnknownName, match="facet"):
        make_backbone("dinov2_vits14", facet="values")  # type: ignore[arg-type]
    with pytest.raises(BadOption, match="one size"):
        make_backbone("vit_b16_224", takes_any_size=True)


def test_networks_of_timm_take_their_size_or_are_refused() -> None:
    with torch.device("meta"):
        backbone = make_backbone("timm:botnet26t_256")
        assert backbone.size_rule == SizeRule(exact=(256, 256)), (
            "its attention has learned positions for one size"
        )
        assert make_backbone("timm:mobilenetv3_small_050").size_rule == SizeRule(at_least=32)
        with pytest.raises(BadOption, match="gives no map of features"):
            make_backbone(
                "timm:deepseek_vit_412m"
                if timm.is_model("deepseek_vit_412m")
                else "timm:mixer_b16_224"
            )


def test_imagenet_weights_come_from_the_cache_or_not_at_all(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("WHENCE_OFFLINE", "1")
    backbone = make_backbone("resnet18conv4")
    with pytest.raises(ModelError, match=r"resnet18-f37072fd\.pth"):
        load_imagenet(backbone)
    whole = torchvision.models.resnet18(weights=None)
    file = tmp_path / "hub" / "checkpoints" / "resnet18-f37072fd.pth"
    file.parent.mkdir(parents=True)
    torch.save(whole.state_dict(), file)
    load_imagenet(backbone)
    assert torch.equal(
        backbone.get_submodule("layer3")[1].conv2.weight, whole.layer3[1].conv2.weight
    )
    with pytest.raises(UnknownName, match="v1"):
        load_imagenet(backbone, weights="v3")  # type: ignore[arg-type]
    with torch.device("meta"):
        transformer = make_backbone("dinov2_vits14_reg")
    with pytest.raises(BadOption, match="default"):
        load_imagenet(transformer)
    with pytest.raises(ModelError, match="offline"):
        load_imagenet(transformer, weights="default")


def test_weights_of_timm_come_under_the_official_names(monkeypatch: pytest.MonkeyPatch) -> None:
    original = timm.create_model
    asked, made = [], []

    def unloaded(name: str, *, pretrained: bool, num_classes: int) -> torch.nn.Module:
        asked.append((name, pretrained))
        whole = original(name, pretrained=False, num_classes=num_classes)
        made.append(whole.state_dict())
        return whole

    monkeypatch.delenv("WHENCE_OFFLINE", raising=False)
    monkeypatch.setattr(timm, "create_model", unloaded)
    backbone = make_backbone("dinov2_vits14_reg", num_blocks=1)
    load_imagenet(backbone, weights="default")
    assert asked == [("vit_small_patch14_reg4_dinov2.lvd142m", True)]
    assert not backbone.pos_embed[:, 0].any()
    assert torch.equal(
        backbone.get_submodule("blocks.0.mlp.fc1").weight, made[0]["blocks.0.mlp.fc1.weight"]
    )


class Graph(torch.nn.Module):
    """A backbone with tensors for outputs."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(part for part in self.backbone(images) if part is not None)


@pytest.mark.parametrize("name", ["dinov2_vitx14", "dinov2_vitx14_reg", "any size", "alexnet"])
def test_backbones_export_with_free_height_and_width(name: str, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    if name == "alexnet":
        backbone, sizes = make_backbone(name), [(64, 96), (100, 131)]
    elif name == "any size":
        backbone, sizes = (
            VisionTransformer("dinov2_vitx14", takes_any_size=True, shape=TINY),
            [(35, 49), (56, 56), (90, 40)],
        )
    else:
        backbone, sizes = VisionTransformer(name, shape=TINY), [(42, 70), (28, 84), (56, 56)]
    backbone.eval()
    free = torch.export.Dim.DYNAMIC
    file = tmp_path / "backbone.onnx"
    with warnings.catch_warnings():
        # The exporter warns of its own coming changes.
        warnings.simplefilter("ignore")
        shapes = {"images": {0: free, 2: free, 3: free}}
        images = torch.randn(2, 3, *sizes[0])
        torch.onnx.export(
            Graph(backbone),
            (images,),
            file,
            dynamo=True,
            dynamic_shapes=shapes,
            verbose=False,
            optimize=False,
        )
    session = onnxruntime.InferenceSession(str(file))
    for size in sizes:
        images = torch.randn(1, 3, *size)
        found = session.run(None, {"images": images.numpy()})
        with torch.inference_mode():
            for ours, graphs in zip(Graph(backbone)(images), found, strict=True):
                assert torch.allclose(ours, torch.from_numpy(graphs), atol=1e-4), size


@settings(max_examples=300, deadline=None)
@given(m=st.integers(1, 40), height=st.integers(1, 3000), width=st.integers(1, 3000))
def test_the_nearest_size_is_pythons_rounding(m: int, height: int, width: int) -> None:
    expected = tuple(m * max(round(Fraction(side, m)), 1) for side in (height, width))
    assert SizeRule(multiple_of=m).nearest(height, width) == expected
