"""Aggregators: from a backbone's features to one vector per image."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from whence.models.backbones import Features

L2Placement = Literal["before_pool", "after_pool", "none"]


class Aggregator(nn.Module):
    """Base of all aggregators: `forward` takes `Features` and gives (B, `dim`)."""

    dim: int

    def forward(self, features: Features) -> Tensor:
        raise NotImplementedError


class GeM(Aggregator):
    """Generalised mean over the positions (Radenovic et al., PAMI 2019), with one learnable exponent.

    `l2` is where vectors are brought to unit length: each position before pooling (then the result is not of unit length), the
    result, or nowhere; after the Deep Visual Geo-localization Benchmark (Berton et al., CVPR 2022).
    """

    def __init__(self, channels: int, *, l2: L2Placement = "before_pool", p: float = 3.0, eps: float = 1e-6) -> None:
        super().__init__()
        self.dim, self.l2, self.eps = channels, l2, eps
        self.p = nn.Parameter(torch.full((1,), p))

    def forward(self, features: Features) -> Tensor:
        x = nn.functional.normalize(features.map, dim=1) if self.l2 == "before_pool" else features.map
        pooled = x.clamp(min=self.eps).pow(self.p).mean(dim=(2, 3)).pow(1 / self.p)
        return nn.functional.normalize(pooled, dim=1) if self.l2 == "after_pool" else pooled
