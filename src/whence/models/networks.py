"""Networks: a backbone and an aggregator as one module."""

from __future__ import annotations

from torch import Tensor, nn

from whence.models.aggregators.pools import Aggregator
from whence.models.backbones.base import Backbone, Features


class Network(nn.Module):
    """Normalised images (B, 3, H, W) to global descriptors (B, D)."""

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

    def forward(self, images: Tensor) -> Tensor:
        descriptors: Tensor = self.aggregator(self.backbone(images))
        return descriptors
