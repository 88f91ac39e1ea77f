"""Transformers as backbones: ViT-B/16, and DINOv2 with and without registers.

Parameters carry the names of the official DINOv2 (`blocks.0.attn.qkv.weight`). Blocks are timm's;
what surrounds them is written here where timm differs from the published models: the resampling of
positions, facets, and outputs before the final norm.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from whence.errors import BadOption, UnknownName
from whence.models.backbones.base import (
    Backbone,
    Derived,
    Facet,
    Features,
    SizeRule,
    num_blocks_kept,
)

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
    """DINOv2 scales each branch by learned factors and has its positions resampled for other
    sizes."""


SHAPES = {
    "vits14": VitShape(384, 12, 6),
    "vitb14": VitShape(768, 12, 12),
    "vitl14": VitShape(1024, 24, 16),
    "vitg14": VitShape(1536, 40, 24),
    "b16_224": VitShape(768, 12, 12, patch_px=16, image_px=224, eps=1e-12, is_dinov2=False),
    "b16_384": VitShape(768, 12, 12, patch_px=16, image_px=384, eps=1e-12, is_dinov2=False),
    "mini8_64": VitShape(64, 4, 4, patch_px=8, image_px=64, is_dinov2=False),
}
NUM_REGISTERS = 4


class GatedMlp(nn.Module):
    """The feed-forward part of DINOv2 ViT-g: silu(x1) * x2 of one projection (SwiGLU; Shazeer,
    2020), projected back."""

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
    """ViT-B/16 (Dosovitskiy et al., ICLR 2021) or DINOv2 (Oquab et al., TMLR 2024): patch tokens as
    a map, the class token apart.

    ViT-B/16 accepts its own square size only. DINOv2 accepts multiples of 14; its positions are
    resampled by the official rule, once per size. SALAD and MegaLoc train the last four blocks and
    the final norm. `shape` is for tests.
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
        depth = num_blocks_kept(num_blocks, shape.depth)
        if facet is not None and facet not in FACETS:
            raise UnknownName("facet", facet, FACETS)
        if takes_any_size and not shape.is_dinov2:
            raise BadOption(
                f"{name} has learned positions for one size: takes_any_size is for DINOv2"
            )
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
            Block(shape.width, shape.num_heads, qkv_bias=True, init_values=scale, norm_layer=norm)
            for _ in range(depth)
        )
        if "vitg14" in name:
            for block in self.blocks:
                block.register_module("mlp", GatedMlp(shape.width, 4096))
        self.norm = norm(shape.width) if has_final_norm and facet is None else nn.Identity()
        self.stages = ("stem", *(f"blocks.{i}" for i in range(depth)), "norm")
        self.published = self.stages[-5:] if shape.is_dinov2 else ()
        self._positions = Derived()

    def stage_parameters(self, stage: str) -> Iterator[nn.Parameter]:
        """The parameters of one stage; "stem" holds the patch projection, the class token,
        registers and positions."""
        if stage != "stem":
            return super().stage_parameters(stage)
        return (
            p for name, p in self.named_parameters() if not name.startswith(("blocks.", "norm."))
        )

    def forward(self, images: Tensor) -> Features:
        if self.takes_any_size:
            images = self._resized(images)
        self.size_rule.check(*images.shape[-2:])
        patches = self.patch_embed(images)
        batch, _, rows, columns = patches.shape
        x = torch.cat(
            [self.cls_token.expand(batch, -1, -1), patches.flatten(2).transpose(1, 2)], dim=1
        )
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
        return Features(
            x[:, num_other:].transpose(1, 2).reshape(batch, self.channels, rows, columns), x[:, 0]
        )

    def positions(self, rows: int, columns: int) -> Tensor:
        """(1, 1 + rows * columns, C): the class token's and each patch's position, resampled where
        the grid is another."""
        # A traced graph has free sizes: it always resamples, and comes to the same.
        if not torch.compiler.is_compiling() and rows == columns == self.grid_side:
            return self.pos_embed
        return self._positions.get(
            (rows, columns), [self.pos_embed], lambda: self._resample(rows, columns)
        )

    def _resample(self, rows: int, columns: int) -> Tensor:
        side = self.grid_side
        learned = self.pos_embed.float()
        grid = learned[:, 1:].reshape(1, side, side, -1).permute(0, 3, 1, 2)
        if self.has_registers:
            grid = nn.functional.interpolate(
                grid, size=(rows, columns), mode="bicubic", antialias=True
            )
        else:
            new_rows, new_columns = (
                torch.arange(num, device=grid.device, dtype=grid.dtype) for num in (rows, columns)
            )
            is_other = (torch.ones_like(new_rows).sum() != side) | (
                torch.ones_like(new_columns).sum() != side
            )
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
    """(n, side): the weights of the learned positions in each of n new ones: bicubic interpolation
    by (n + offset) / side.

    The official code's offset is 0.1, and its sampling grid follows the scale given, not the size
    that comes out. Spelled out because a graph with free sizes cannot carry that scale.
    """
    at = (new + 0.5) * side / (torch.ones_like(new).sum() + offset) - 0.5
    taps = at.floor()[:, None] + torch.arange(-1, 3, device=new.device)
    t = (at[:, None] - taps).abs()
    weights = torch.where(
        t <= 1, 1.25 * t**3 - 2.25 * t**2 + 1, -0.75 * (t**3 - 5 * t**2 + 8 * t - 4)
    )
    return (weights[:, :, None] * nn.functional.one_hot(taps.clamp(0, side - 1).long(), side)).sum(
        dim=1
    )
