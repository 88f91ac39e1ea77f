"""Transformers as backbones: ViT-B/16, DINOv2 with and without registers, the compact transformer CCT-14, and any network of timm.

Parameters carry the names of the official DINOv2 (`blocks.0.attn.qkv.weight`). Blocks are timm's; what surrounds them is written
here where timm differs from the published models: the resampling of positions, facets, and outputs before the final norm.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import timm
import torch
from timm.layers import DropPath
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from whence.errors import BadOption, ModelError, UnknownName
from whence.models.backbones import Backbone, Derived, Facet, Features, SizeRule, is_offline

FACETS: tuple[Facet, ...] = ("query", "key", "value")


@dataclass(frozen=True, slots=True)
class VitShape:
    """The sizes of one vision transformer."""

    width: int
    depth: int
    num_heads: int
    patch_px: int = 14
    image_px: int = 518
    """Side of the square image that the positions were learned at."""
    eps: float = 1e-6
    is_dinov2: bool = True
    """DINOv2 scales each branch by learned factors and has its positions resampled for other sizes."""


SHAPES = {
    "vits14": VitShape(384, 12, 6),
    "vitb14": VitShape(768, 12, 12),
    "vitl14": VitShape(1024, 24, 16),
    "vitg14": VitShape(1536, 40, 24),
    "b16_224": VitShape(768, 12, 12, patch_px=16, image_px=224, eps=1e-12, is_dinov2=False),
    "b16_384": VitShape(768, 12, 12, patch_px=16, image_px=384, eps=1e-12, is_dinov2=False),
}
TIMM_TAGS = {
    "vit_b16_224": "vit_base_patch16_224.orig_in21k",
    "vit_b16_384": "vit_base_patch16_384.orig_in21k_ft_in1k",
    **{
        f"dinov2_vit{short}14{registers}": f"vit_{long}_patch14_{'reg4_' if registers else ''}dinov2.lvd142m"
        for short, long in {"s": "small", "b": "base", "l": "large", "g": "giant"}.items()
        for registers in ("", "_reg")
    },
}
"""The same weights in timm."""
NUM_REGISTERS = 4


class GatedMlp(nn.Module):
    """The feed-forward part of DINOv2 ViT-g: silu(x1) * x2 of one projection (SwiGLU; Shazeer, 2020), projected back."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.w12 = nn.Linear(width, 2 * hidden)
        self.w3 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        gate, value = self.w12(x).chunk(2, dim=-1)
        projected: Tensor = self.w3(nn.functional.silu(gate) * value)
        return projected


class PatchProjection(nn.Module):
    """One token per patch: a convolution whose stride is its size."""

    def __init__(self, width: int, patch_px: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, patch_px, patch_px)

    def forward(self, images: Tensor) -> Tensor:
        tokens: Tensor = self.proj(images)
        return tokens


class VisionTransformer(Backbone):
    """ViT-B/16 (Dosovitskiy et al., ICLR 2021) or DINOv2 (Oquab et al., TMLR 2024): patch tokens as a map, the class token apart.

    ViT-B/16 accepts its own square size only. DINOv2 accepts multiples of 14; its positions are resampled by the official rule,
    once per size. SALAD and MegaLoc train the last four blocks and the final norm. `shape` is for tests.
    """

    def __init__(
        self,
        name: str,
        *,
        num_blocks: int | None = None,
        has_final_norm: bool = True,
        facet: Facet | None = None,
        takes_any_size: bool = False,
        shape: VitShape | None = None,
    ) -> None:
        super().__init__()
        shape = shape or SHAPES[re.sub(r"^(dinov2_|vit_)|_reg$", "", name)]
        depth = _depth(num_blocks, shape.depth)
        if facet is not None and facet not in FACETS:
            raise UnknownName("facet", facet, FACETS)
        if takes_any_size and not shape.is_dinov2:
            raise BadOption(f"{name} has learned positions for one size: takes_any_size is for DINOv2")
        self.name, self.channels, self.stride, self.facet = name, shape.width, shape.patch_px, facet
        self.takes_any_size = takes_any_size
        side = shape.image_px
        exact = None if shape.is_dinov2 else (side, side)
        self.size_rule = SizeRule(multiple_of=shape.patch_px, at_least=shape.patch_px, exact=exact)
        self.grid_side = side // shape.patch_px
        self.has_registers = name.endswith("_reg")
        self.cls_token = nn.Parameter(1e-6 * torch.randn(1, 1, shape.width))
        self.pos_embed = nn.Parameter(0.02 * torch.randn(1, 1 + self.grid_side**2, shape.width))
        if self.has_registers:
            self.register_tokens = nn.Parameter(1e-6 * torch.randn(1, NUM_REGISTERS, shape.width))
        self.patch_embed = PatchProjection(shape.width, shape.patch_px)
        norm: Any = partial(nn.LayerNorm, eps=shape.eps)
        scale = 1e-5 if shape.is_dinov2 else None
        self.blocks = nn.ModuleList(
            Block(shape.width, shape.num_heads, qkv_bias=True, init_values=scale, norm_layer=norm) for _ in range(depth)
        )
        if "vitg14" in name:
            for block in self.blocks:
                block.register_module("mlp", GatedMlp(shape.width, 4096))
        self.norm = norm(shape.width) if has_final_norm and facet is None else nn.Identity()
        self.stages = ("stem", *(f"blocks.{i}" for i in range(depth)), "norm")
        self.published = self.stages[-5:] if shape.is_dinov2 else ()
        self._positions = Derived()

    def stage_parameters(self, stage: str) -> Iterator[nn.Parameter]:
        """The parameters of one stage; "stem" holds the patch projection, the class token, registers and positions."""
        if stage != "stem":
            return super().stage_parameters(stage)
        return (p for name, p in self.named_parameters() if not name.startswith(("blocks.", "norm.")))

    def forward(self, images: Tensor) -> Features:
        if self.takes_any_size:
            images = self._resized(images)
        self.size_rule.check(*images.shape[-2:])
        patches = self.patch_embed(images)
        batch, _, rows, columns = patches.shape
        x = torch.cat([self.cls_token.expand(batch, -1, -1), patches.flatten(2).transpose(1, 2)], dim=1)
        x = x + self.positions(rows, columns)
        if self.has_registers:
            x = torch.cat([x[:, :1], self.register_tokens.expand(batch, -1, -1), x[:, 1:]], dim=1)
        for block in self.blocks if self.facet is None else self.blocks[:-1]:
            x = block(x)
        if self.facet is not None:
            last: Any = self.blocks[-1]
            x = last.attn.qkv(last.norm1(x)).chunk(3, dim=-1)[FACETS.index(self.facet)]
        x = self.norm(x)
        num_other = 1 + NUM_REGISTERS * self.has_registers
        return Features(x[:, num_other:].transpose(1, 2).reshape(batch, self.channels, rows, columns), x[:, 0])

    def positions(self, rows: int, columns: int) -> Tensor:
        """(1, 1 + rows * columns, C): the class token's and each patch's position, resampled where the grid is another."""
        # A traced graph has free sizes: it always resamples, and comes to the same.
        if not torch.compiler.is_compiling() and rows == columns == self.grid_side:
            return self.pos_embed
        return self._positions.get((rows, columns), [self.pos_embed], lambda: self._resample(rows, columns))

    def _resample(self, rows: int, columns: int) -> Tensor:
        side = self.grid_side
        learned = self.pos_embed.float()
        grid = learned[:, 1:].reshape(1, side, side, -1).permute(0, 3, 1, 2)
        if self.has_registers:
            grid = nn.functional.interpolate(grid, size=(rows, columns), mode="bicubic", antialias=True)
        else:
            new_rows, new_columns = (torch.arange(num, device=grid.device, dtype=grid.dtype) for num in (rows, columns))
            is_other = (torch.ones_like(new_rows).sum() != side) | (torch.ones_like(new_columns).sum() != side)
            offset = 0.1 * is_other
            grid = _bicubic(new_rows, side, offset) @ grid @ _bicubic(new_columns, side, offset).T
        patches = grid.permute(0, 2, 3, 1).reshape(1, rows * columns, -1)
        return torch.cat([learned[:, :1], patches], dim=1).to(self.pos_embed.dtype)

    def _resized(self, images: Tensor) -> Tensor:
        size = self.size_rule.nearest(*images.shape[-2:])
        if not torch.compiler.is_compiling() and size == tuple(images.shape[-2:]):
            return images
        return nn.functional.interpolate(images, size=size, mode="bilinear", antialias=True)


def _bicubic(new: Tensor, side: int, offset: Tensor) -> Tensor:
    """(n, side): the weights of the learned positions in each of n new ones: bicubic interpolation by (n + offset) / side.

    The official code's offset is 0.1, and its sampling grid follows the scale given, not the size that comes out. Spelled out
    because a graph with free sizes cannot carry that scale.
    """
    at = (new + 0.5) * side / (torch.ones_like(new).sum() + offset) - 0.5
    taps = at.floor()[:, None] + torch.arange(-1, 3, device=new.device)
    t = (at[:, None] - taps).abs()
    weights = torch.where(t <= 1, 1.25 * t**3 - 2.25 * t**2 + 1, -0.75 * (t**3 - 5 * t**2 + 8 * t - 4))
    return (weights[:, :, None] * nn.functional.one_hot(taps.clamp(0, side - 1).long(), side)).sum(dim=1)


class CompactBlock(nn.Module):
    """A block of CCT; its residual stream itself is normalised between attention and feed-forward part, as published."""

    def __init__(self, width: int, num_heads: int, hidden: int, *, attention_dropout: float, drop_path: float) -> None:
        super().__init__()
        self.num_heads, self.attention_dropout = num_heads, attention_dropout
        self.pre_norm = nn.LayerNorm(width)
        self.self_attn = nn.ModuleDict({"qkv": nn.Linear(width, 3 * width, bias=False), "proj": nn.Linear(width, width)})
        self.linear1 = nn.Linear(width, hidden)
        self.norm1 = nn.LayerNorm(width)
        self.linear2 = nn.Linear(hidden, width)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop_path(self._attend(self.pre_norm(x)))
        x = self.norm1(x)
        return x + self.drop_path(self.linear2(nn.functional.gelu(self.linear1(x))))

    def _attend(self, x: Tensor) -> Tensor:
        batch, num_tokens, width = x.shape
        split = self.self_attn["qkv"](x).reshape(batch, num_tokens, 3, self.num_heads, width // self.num_heads)
        query, key, value = split.permute(2, 0, 3, 1, 4)
        dropout = self.attention_dropout if self.training else 0.0
        attended = nn.functional.scaled_dot_product_attention(query, key, value, dropout_p=dropout)
        projected: Tensor = self.self_attn["proj"](attended.transpose(1, 2).reshape(x.shape))
        return projected


class CompactTransformer(Backbone):
    """CCT-14/7x2 (Hassani et al., 2021) at 384 x 384 or 224 x 224: all tokens as a map of 24 x 24 or 14 x 14.

    There is no class token; `cls` is the first patch's, as in the benchmark. The weights of its sequence pooling belong to the
    aggregator `seqpool`. The benchmark's published CCT keeps 8 blocks and trains all but the first two of them, nothing else.
    """

    def __init__(self, name: str, *, num_blocks: int | None = None) -> None:
        super().__init__()
        side, width, whole_depth = int(name.removeprefix("cct")), 384, 14
        depth = _depth(num_blocks, whole_depth)
        self.name, self.channels, self.stride = name, width, 16
        self.size_rule = SizeRule(exact=(side, side))
        self.tokenizer = nn.ModuleList(nn.Conv2d(a, b, 7, stride=2, padding=3, bias=False) for a, b in ((3, 64), (64, width)))
        self.pos_embed = nn.Parameter(0.2 * torch.randn(1, (side // 16) ** 2, width))
        rates = [0.1 * i / (whole_depth - 1) for i in range(depth)]
        self.blocks = nn.ModuleList(CompactBlock(width, 6, 1152, attention_dropout=0.1, drop_path=rate) for rate in rates)
        self.norm = nn.LayerNorm(width)
        self.stages = ("stem", *(f"blocks.{i}" for i in range(depth)), "norm")
        self.published = tuple(f"blocks.{i}" for i in range(2, depth))

    def stage_parameters(self, stage: str) -> Iterator[nn.Parameter]:
        """The parameters of one stage; "stem" holds the tokenizer and the positions."""
        if stage != "stem":
            return super().stage_parameters(stage)
        return iter([*self.tokenizer.parameters(), self.pos_embed])

    def forward(self, images: Tensor) -> Features:
        self.size_rule.check(*images.shape[-2:])
        x = images
        for convolution in self.tokenizer:
            x = nn.functional.max_pool2d(torch.relu(convolution(x)), 3, stride=2, padding=1)
        tokens = x.flatten(2).transpose(1, 2) + self.pos_embed
        for block in self.blocks:
            tokens = block(tokens)
        tokens = self.norm(tokens)
        return Features(tokens.transpose(1, 2).reshape(x.shape), tokens[:, 0])


class TimmTokens(Backbone):
    """A transformer of timm with prefix tokens: its patch tokens after the final norm, and the class token where it has one."""

    def __init__(self, name: str, whole: Any, *, size_rule: SizeRule, stride: int) -> None:
        super().__init__()
        self.name, self.size_rule, self.stride = name, size_rule, stride
        self.channels = int(whole.num_features)
        self.whole = whole
        self.num_prefix = int(whole.num_prefix_tokens)
        self.has_cls = getattr(whole, "cls_token", None) is not None
        self.stages = ("whole",)

    def forward(self, images: Tensor) -> Features:
        self.size_rule.check(*images.shape[-2:])
        tokens = self.whole.forward_features(images)
        shape = (images.shape[0], self.channels, images.shape[-2] // self.stride, images.shape[-1] // self.stride)
        patches = tokens[:, self.num_prefix :].transpose(1, 2).reshape(shape)
        return Features(patches, tokens[:, 0] if self.has_cls else None)


class TimmMap(Backbone):
    """Any other network of timm: the map of its last stage, channels first whatever timm has."""

    def __init__(self, name: str, stages: Any) -> None:
        super().__init__()
        self.name = name
        self.whole = stages
        self.channels = int(stages.feature_info.channels()[-1])
        self.stride = int(stages.feature_info.reduction()[-1])
        self.is_channels_last = getattr(stages, "output_fmt", "NCHW") == "NHWC"
        self.size_rule = SizeRule(at_least=self.stride)
        self.stages = ("whole",)

    def forward(self, images: Tensor) -> Features:
        self.size_rule.check(*images.shape[-2:])
        found = self.whole(images)[-1]
        return Features(found.permute(0, 3, 1, 2) if self.is_channels_last else found)


def make_timm(name: str) -> Backbone:
    """The backbone `timm:<name>`, weights random. Raises `UnknownName`, `BadOption` for a network that gives no map.

    Transformers resample their positions by timm's own rule where timm can; a network that runs on one size only accepts no other.
    """
    known = name.removeprefix("timm:")
    if not timm.is_model(known.partition(".")[0]):
        raise UnknownName("network of timm", known, timm.list_models())
    try:
        with torch.device("meta"):
            sketch = _wrap_timm(name, known).eval()
            rule = sketch.size_rule
            given: Any = timm.get_pretrained_cfg(known)
            size = rule.exact or rule.nearest(*given.input_size[-2:])
            found = sketch(torch.zeros(1, 3, *size)).map.shape
    except Exception as error:
        # Each network of timm that has no map fails in its own way.
        raise BadOption(f"{name} gives no map of features: {error or type(error).__name__}") from None
    expected = (1, sketch.channels, *(round(side / sketch.stride) for side in size))
    if len(found) != 4 or any(abs(a - b) > 1 for a, b in zip(found, expected, strict=True)):
        raise BadOption(f"{name} gives no map of features: {tuple(found)} is not {expected}")
    backbone = _wrap_timm(name, known)
    if rule.exact is None and not _takes(sketch, size[0] + 2 * sketch.stride, size[1] + 4 * sketch.stride):
        backbone.size_rule = SizeRule(exact=size)
    return backbone


def _takes(sketch: Backbone, height: int, width: int) -> bool:
    """Whether a network on the meta device runs on images of this size."""
    try:
        sketch(torch.zeros(1, 3, height, width, device="meta"))
    except Exception:
        return False
    return True


def _wrap_timm(name: str, known: str) -> Backbone:
    with torch.device("meta"):
        sketch: Any = timm.create_model(known, pretrained=False, num_classes=0)
    if not hasattr(sketch, "num_prefix_tokens"):
        return TimmMap(name, timm.create_model(known, pretrained=False, features_only=True, out_indices=(-1,)))
    patch = int(sketch.patch_embed.patch_size[0])
    height, width = (int(side) for side in sketch.pretrained_cfg["input_size"][-2:])
    can_resample = hasattr(sketch, "dynamic_img_size")
    options: dict[str, Any] = {"dynamic_img_size": True} if can_resample else {}
    rule = SizeRule(multiple_of=patch, at_least=patch) if can_resample else SizeRule(exact=(height, width))
    whole = timm.create_model(known, pretrained=False, num_classes=0, **options)
    return TimmTokens(name, whole, size_rule=rule, stride=patch)


def load_pretrained(backbone: Backbone) -> None:
    """Load what timm has for a transformer or a `timm:` backbone. Raises `BadOption`, `ModelError`."""
    tag = backbone.name.removeprefix("timm:") if backbone.name.startswith("timm:") else TIMM_TAGS.get(backbone.name)
    if tag is None:
        raise BadOption(f"neither torchvision nor timm has weights for {backbone.name}")
    if is_offline():
        raise ModelError(f"offline: the weights {tag} of timm were not downloaded")
    if isinstance(backbone, TimmMap):
        made = timm.create_model(tag, pretrained=True, features_only=True, out_indices=(-1,))
        backbone.whole.load_state_dict(made.state_dict())
        return
    state = timm.create_model(tag, pretrained=True, num_classes=0).state_dict()
    if isinstance(backbone, TimmTokens):
        backbone.whole.load_state_dict(state)
    else:
        backbone.load_state_dict(_from_timm(state, backbone))


def _from_timm(state: dict[str, Tensor], backbone: Backbone) -> dict[str, Tensor]:
    """timm's tensors under the official names; those of parts that the backbone does not have are left out."""
    state = dict(state)
    if "reg_token" in state:
        # timm adds the class token's position to the token itself.
        state["register_tokens"] = state.pop("reg_token")
        state["pos_embed"] = torch.cat([torch.zeros_like(state["cls_token"]), state["pos_embed"]], dim=1)
    if "vitg14" in backbone.name:
        state = {key.replace("mlp.fc1", "mlp.w12").replace("mlp.fc2", "mlp.w3"): value for key, value in state.items()}
    return {key: state[key] for key in backbone.state_dict()}


def _depth(num_blocks: int | None, whole: int) -> int:
    if num_blocks is None:
        return whole
    if not 1 <= num_blocks <= whole:
        raise BadOption(f"num_blocks must lie between 1 and {whole}, not {num_blocks}")
    return num_blocks
