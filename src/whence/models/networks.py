"""Networks: a backbone and an aggregator as one module."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from whence.models.aggregators.pools import Aggregator
from whence.models.backbones.base import Backbone, Features
from whence.models.preprocessing import normalise


class Network(nn.Module):
    """Normalised images (B, 3, H, W), or what the backbone made of them, to global descriptors (B, D)."""

    def __init__(self, backbone: Backbone, aggregator: Aggregator) -> None:
        super().__init__()
        self.backbone = backbone
        self.aggregator = aggregator

    @property
    def dim(self) -> int:
        return self.aggregator.dim

    def features(self, images: Tensor) -> Features:
        """The backbone's features of normalised images."""
        features: Features = self.backbone(images)
        return features

    def forward(self, images: Tensor | Features) -> Tensor:
        features = images if isinstance(images, Features) else self.backbone(images)
        descriptors: Tensor = self.aggregator(features)
        return descriptors


def describe_pixels(
    describe: Callable[[Any], Tensor], photos: Any, *, batch_size: int, read: Callable[[Any], np.ndarray | Features] = np.array
) -> Tensor:
    """Descriptors (N, D) float32 on the CPU of N photos, so many at a time: what `describe` makes of uint8 (b, H, W, 3).

    `photos` is what can be cut into runs (pixels, rows of a table, a list of paths); `read` makes pixels of a run, or what a
    backbone made of them.
    """
    with torch.inference_mode():
        batches = (read(photos[start : start + batch_size]) for start in range(0, len(photos), batch_size))
        known = (batch if isinstance(batch, Features) else torch.from_numpy(batch) for batch in batches)
        return torch.cat([describe(batch).float().cpu() for batch in known])


def describing(
    network: nn.Module, *, device: torch.device | str = "cpu", dtype: torch.dtype | None = None, is_channels_last: bool = False
) -> Callable[[Tensor | Features], Tensor]:
    """What a network, as it stands, makes of uint8 photos (B, H, W, 3), for `describe_pixels`; `dtype` is autocast's."""
    kind = torch.device(device).type

    def describe(photos: Tensor | Features) -> Tensor:
        images = photos if isinstance(photos, Features) else normalise(photos.to(device))
        if is_channels_last and isinstance(images, Tensor):
            images = images.contiguous(memory_format=torch.channels_last)
        with torch.autocast(kind, dtype=dtype, enabled=dtype is not None):
            descriptors: Tensor = network(images)
        return descriptors

    return describe
