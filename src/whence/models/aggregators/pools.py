"""Pooling: aggregators of few or no parameters, and the linear layers after them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor, nn

from whence.errors import BadOption
from whence.models.backbones.base import Features

L2Placement = Literal["before_pool", "after_pool", "none"]


class Aggregator(nn.Module):
    """Base of all aggregators: `forward` takes `Features` and gives (B, `dim`)."""

    dim: int

    def forward(self, features: Features) -> Tensor:
        raise NotImplementedError


class Pool(Aggregator):
    """Base of those that take one value of each channel.

    `l2` is where vectors are brought to unit length: each position before pooling (then the result
    is not of unit length), the result, or nowhere; after the Deep Visual Geo-localization Benchmark
    (Berton et al., CVPR 2022).
    """

    def __init__(self, channels: int, *, l2: L2Placement = "before_pool") -> None:
        super().__init__()
        self.dim, self.l2 = channels, l2

    def pool(self, x: Tensor) -> Tensor:
        """(B, C) of (B, C, h, w)."""
        raise NotImplementedError

    def forward(self, features: Features) -> Tensor:
        pooled = self.pool(
            nn.functional.normalize(features.map, dim=1)
            if self.l2 == "before_pool"
            else features.map
        )
        return nn.functional.normalize(pooled, dim=1) if self.l2 == "after_pool" else pooled


class Mac(Pool):
    """The largest value of each channel (Razavian et al., 2014)."""

    def pool(self, x: Tensor) -> Tensor:
        return x.amax(dim=(2, 3))


class Spoc(Pool):
    """The mean of each channel (Babenko and Lempitsky, ICCV 2015)."""

    def pool(self, x: Tensor) -> Tensor:
        return x.mean(dim=(2, 3))


class GeM(Pool):
    """Generalised mean over the positions (Radenovic et al., PAMI 2019), with one learnable
    exponent."""

    def __init__(
        self, channels: int, *, l2: L2Placement = "before_pool", p: float = 3.0, eps: float = 1e-6
    ) -> None:
        super().__init__(channels, l2=l2)
        self.eps = eps
        self.p = nn.Parameter(torch.full((1,), float(p)))

    def pool(self, x: Tensor) -> Tensor:
        return x.clamp(min=self.eps).pow(self.p).mean(dim=(2, 3)).pow(1 / self.p)


class RMac(Pool):
    """The sum of unit vectors of channel maxima in square windows at several scales (Tolias et al.,
    ICLR 2016).

    The sum is not brought to unit length, as in the benchmark. Windows depend on the map's size: an
    exported graph is bound to it.
    """

    def __init__(self, channels: int, *, l2: L2Placement = "before_pool", levels: int = 3) -> None:
        super().__init__(channels, l2=l2)
        self.levels = levels

    def pool(self, x: Tensor) -> Tensor:
        maxima = [
            x[:, :, r : r + side, c : c + side].amax(dim=(2, 3))
            for r, c, side in self.windows(*x.shape[2:])
        ]
        regions = torch.stack([x.amax(dim=(2, 3)), *maxima], dim=1)
        return (regions / (regions.norm(dim=2, keepdim=True) + 1e-6)).sum(dim=1)

    def windows(self, height: int, width: int) -> Iterator[tuple[int, int, int]]:
        """First row, first column and side of each square window; the whole map comes besides."""
        short, long = min(height, width), max(height, width)
        steps = [(long - short) / (step - 1) for step in range(2, 8)]
        overlaps = [abs((short * short - short * step) / (short * short) - 0.4) for step in steps]
        more = 1 + overlaps.index(min(overlaps)) if long > short else 0
        for level in range(1, self.levels + 1):
            side = 2 * short // (level + 1)
            if side < 1:
                return
            for row in _starts(height, side, level + (more if height > width else 0)):
                for column in _starts(width, side, level + (more if width > height else 0)):
                    yield row, column, side


def _starts(length: int, side: int, count: int) -> list[int]:
    half = side // 2 - 1
    step = (length - side) / (count - 1) if count > 1 else 0.0
    return [int((half + i * step) // 1) - half for i in range(count)]


class Rrm(Aggregator):
    """The mean of each channel, corrected by a small residual network (the benchmark's RRM). Unit
    length."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.dim = channels
        self.ln1, self.ln2 = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.fc1, self.fc2 = nn.Linear(channels, channels), nn.Linear(channels, channels)

    def forward(self, features: Features) -> Tensor:
        x = self.ln1(features.map.mean(dim=(2, 3)))
        return nn.functional.normalize(self.ln2(x + self.fc2(torch.relu(self.fc1(x)))), dim=1)


class Cls(Aggregator):
    """The class token as it is, not of unit length. Raises `BadOption` for backbones without
    one."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.dim = channels

    def forward(self, features: Features) -> Tensor:
        return class_token(features, "cls")


class SeqPool(Aggregator):
    """The mean of all positions by learned weights (sequence pooling of CCT; Hassani et al., 2021),
    not of unit length."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.dim = channels
        self.attention_pool = nn.Linear(channels, 1)

    def forward(self, features: Features) -> Tensor:
        tokens = features.map.flatten(2)
        weights = torch.softmax(self.attention_pool(tokens.transpose(1, 2)), dim=1)
        return (tokens @ weights).squeeze(2)


class ConvAp(Aggregator):
    """A 1 x 1 convolution, then the means of a grid of fields (Conv-AP; Ali-bey et al.,
    Neurocomputing 2022). Unit length."""

    def __init__(self, channels: int, *, channels_out: int = 2048, grid: int = 2) -> None:
        super().__init__()
        self.dim, self.grid = channels_out * grid * grid, grid
        self.channel_pool = nn.Conv2d(channels, channels_out, 1)

    def forward(self, features: Features) -> Tensor:
        x = self.channel_pool(features.map)
        rows, columns = (self._fields(length) for length in x.shape[2:])
        fields = [x[:, :, row, column].mean(dim=(2, 3)) for row in rows for column in columns]
        return nn.functional.normalize(torch.stack(fields, dim=2).flatten(1), dim=1)

    def _fields(self, length: int) -> list[slice]:
        """The fields of adaptive pooling along one axis, spelled out because the pooling has no
        form with free sizes in ONNX."""
        return [
            slice(i * length // self.grid, ((i + 1) * length + self.grid - 1) // self.grid)
            for i in range(self.grid)
        ]


MIXED_LEAST = 1e-3
"""What the cubes of mixed channels are taken of at least."""


class MixedGeM(Aggregator):
    """Channels brought to one scale and mixed by a 1 x 1 convolution, the mean of their cubes, a
    linear layer, unit length.

    For maps whose channels have signs and scales of their own, as those of linear bottlenecks: GeM
    alone loses what is negative. The exponent is 3 and stays so: cubes cost a tenth of powers.
    """

    def __init__(self, channels: int, *, num_mixed: int = 256, dim: int = 256) -> None:
        super().__init__()
        self.dim = dim
        self.norm = nn.BatchNorm2d(channels, affine=False)
        self.mix = nn.Conv2d(channels, num_mixed, 1)
        self.fc = nn.Linear(num_mixed, dim)

    def forward(self, features: Features) -> Tensor:
        mixed = self.mix(self.norm(features.map)).clamp(min=MIXED_LEAST)
        pooled = (mixed * mixed * mixed).mean(dim=(2, 3)).pow(1 / 3)
        return nn.functional.normalize(self.fc(pooled), dim=1)


class CalibratedGeM(Aggregator):
    """Two generalised means, of which one says how much each channel of the other counts; a linear
    layer, unit length.

    After SuperPlace (2025), whose abstract says that one GeM learns the principal components of the
    maps along their channels and calibrates the other. The rest is our choice: so many directions
    of channels, learned, and gates around one.
    """

    def __init__(self, channels: int, *, dim: int = 256, num_components: int = 64) -> None:
        super().__init__()
        self.dim = dim
        self.pool, self.component_pool = GeM(channels, l2="none"), GeM(num_components, l2="none")
        self.components = nn.Conv2d(channels, num_components, 1)
        self.gates = nn.Linear(num_components, channels)
        self.fc = nn.Linear(channels, dim)

    def forward(self, features: Features) -> Tensor:
        gates = 2 * torch.sigmoid(
            self.gates(self.component_pool.pool(self.components(features.map)))
        )
        return nn.functional.normalize(self.fc(gates * self.pool.pool(features.map)), dim=1)


class LinearHead(Aggregator):
    """Another aggregator, a linear layer after it, and unit length."""

    def __init__(self, pool: Aggregator, dim: int) -> None:
        super().__init__()
        self.dim, self.pool = dim, pool
        self.fc = nn.Linear(pool.dim, dim)

    def forward(self, features: Features) -> Tensor:
        return nn.functional.normalize(self.fc(self.pool(features)), dim=1)


class ProjectedHead(Aggregator):
    """Another aggregator at unit length, and a PCA of it that was fitted before
    (`whence.models.reduction`), at unit length."""

    def __init__(self, pool: Aggregator, dim: int) -> None:
        super().__init__()
        self.dim, self.pool = dim, pool
        self.fc = nn.Linear(pool.dim, dim)

    def forward(self, features: Features) -> Tensor:
        unit = nn.functional.normalize(self.pool(features), dim=1)
        return nn.functional.normalize(self.fc(unit), dim=1)


def gem_fc(channels: int, *, dim: int = 2048, l2: L2Placement = "before_pool") -> LinearHead:
    """GeM and a linear layer: the benchmark's `--fc_output_dim`, and the landmark models' learned
    whitening."""
    return LinearHead(GeM(channels, l2=l2), dim)


def cosplace(channels: int, *, dim: int = 512) -> LinearHead:
    """The head of CosPlace (Berton et al., CVPR 2022) and EigenPlaces (ICCV 2023): unit vectors,
    GeM, linear, unit length."""
    return LinearHead(GeM(channels), dim)


def class_token(features: Features, name: str) -> Tensor:
    """The class token. Raises `BadOption` naming the aggregator that needs it, where the backbone
    has none."""
    if features.cls is None:
        raise BadOption(f"{name} needs a backbone with a class token, such as dinov2_vitb14")
    return features.cls
