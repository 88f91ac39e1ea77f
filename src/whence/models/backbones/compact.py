"""Compact transformers (CCT): convolutions make the tokens."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from timm.layers import DropPath
from torch import Tensor, nn

from whence.models.backbones.base import Backbone, Features, SizeRule, num_blocks_kept


class CompactBlock(nn.Module):
    """A block of CCT; its residual stream itself is normalised between attention and feed-forward
    part, as published."""

    def __init__(
        self, width: int, num_heads: int, hidden: int, *, attention_dropout: float, drop_path: float
    ) -> None:
        super().__init__()
        self.num_heads, self.attention_dropout = num_heads, attention_dropout
        self.pre_norm = nn.LayerNorm(width)
        self.self_attn = nn.ModuleDict(
            {"qkv": nn.Linear(width, 3 * width, bias=False), "proj": nn.Linear(width, width)}
        )
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
        split = self.self_attn["qkv"](x).reshape(
            batch, num_tokens, 3, self.num_heads, width // self.num_heads
        )
        query, key, value = split.permute(2, 0, 3, 1, 4)
        dropout = self.attention_dropout if self.training else 0.0
        attended = nn.functional.scaled_dot_product_attention(query, key, value, dropout_p=dropout)
        projected: Tensor = self.self_attn["proj"](attended.transpose(1, 2).reshape(x.shape))
        return projected


class CompactTransformer(Backbone):
    """CCT-14/7x2 (Hassani et al., 2021) at 384 x 384 or 224 x 224: all tokens as a map of 24 x 24
    or 14 x 14.

    There is no class token; `cls` is the first patch's, as in the benchmark. The weights of its
    sequence pooling belong to the aggregator `seqpool`. The benchmark's published CCT keeps 8
    blocks and trains all but the first two of them, nothing else.
    """

    def __init__(self, name: str, *, num_blocks: int | None = None) -> None:
        super().__init__()
        side, width, whole_depth = int(name.removeprefix("cct")), 384, 14
        depth = num_blocks_kept(num_blocks, whole_depth)
        self.name, self.channels, self.stride = name, width, 16
        self.size_rule = SizeRule(exact=(side, side))
        self.tokenizer = nn.ModuleList(
            nn.Conv2d(a, b, 7, stride=2, padding=3, bias=False) for a, b in ((3, 64), (64, width))
        )
        self.pos_embed = nn.Parameter(0.2 * torch.randn(1, (side // 16) ** 2, width))
        rates = [0.1 * i / (whole_depth - 1) for i in range(depth)]
        self.blocks = nn.ModuleList(
            CompactBlock(width, 6, 1152, attention_dropout=0.1, drop_path=rate) for rate in rates
        )
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
