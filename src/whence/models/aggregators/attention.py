"""Pooling of two scales by an attention that was learned: SegVPR's (Paolicelli et al., ICIAP
2021)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from whence.errors import BadOption
from whence.models.aggregators.pools import Aggregator
from whence.models.backbones.base import Features

PoolMode = Literal["paper", "released", "post_norm"]
_WIDTH = 64
_EPS = 1e-6


class MultiScaleAttention(nn.Module):
    """Maps (B, C, h, w) to one positive weight a position, (B, 1, h - 2, w - 2), seen at three
    scales."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layer1, self.layer2, self.layer3 = (
            nn.Conv2d(channels, _WIDTH, side) for side in (3, 5, 7)
        )
        self.final_conv = nn.Conv2d(3 * _WIDTH, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        first = torch.relu(self.layer1(x))
        others = (resized(torch.relu(layer(x)), first) for layer in (self.layer2, self.layer3))
        weights: Tensor = nn.functional.softplus(
            self.final_conv(torch.cat([first, *others], dim=1))
        )
        return weights


class AttentionPool(Aggregator):
    """Generalised means of the last two maps of a backbone, both weighted by an attention that
    looks at the finer one.

    `mode` says where vectors are brought to unit length. "paper", as its figure: nowhere before
    pooling, the whole descriptor at last. "released", as the authors' code: each position before
    pooling, so that a positive weight cancels and the attention does nothing, and the descriptor
    not at all. "post_norm" is ours: each position first, then the weights, the descriptor at last.
    Without `has_attention` all weights are 1. Needs a backbone of two scales, as resnet50conv4_5,
    whose finer one has half as many channels.
    """

    def __init__(
        self, channels: int, *, mode: PoolMode = "paper", has_attention: bool = True, p: float = 3.0
    ) -> None:
        super().__init__()
        self.mode, self.dim = mode, channels + channels // 2
        self.attention = MultiScaleAttention(channels // 2) if has_attention else None
        self.p = nn.Parameter(torch.full((1,), float(p)))

    def weights(self, features: Features) -> Tensor | None:
        """Weights of the positions, (B, 1, h, w) above 0; None without attention. Raises
        `BadOption` for a single scale."""
        finer = _finer(features)
        return None if self.attention is None else self.attention(finer)

    def forward(self, features: Features) -> Tensor:
        weights = self.weights(features)
        pooled = torch.cat(
            [self._pool(x, weights) for x in (_finer(features), features.map)], dim=1
        )
        return pooled if self.mode == "released" else nn.functional.normalize(pooled, dim=1)

    def _pool(self, x: Tensor, weights: Tensor | None) -> Tensor:
        here = None if weights is None else resized(weights, x)
        if self.mode == "post_norm":
            x = _unit(x)
        if here is not None:
            x = here * x
        if self.mode == "released":
            x = _unit(x)
        return x.clamp(min=_EPS).pow(self.p).mean(dim=(2, 3)).pow(1 / self.p)


def resized(x: Tensor, like: Tensor) -> Tensor:
    """Maps brought to the height and width of others, corner on corner."""
    return nn.functional.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=True)


def _unit(x: Tensor) -> Tensor:
    return x / (x.norm(dim=1, keepdim=True) + _EPS)


def _finer(features: Features) -> Tensor:
    if features.finer is None:
        raise BadOption("this pooling needs a backbone of two scales, such as resnet50conv4_5")
    return features.finer
