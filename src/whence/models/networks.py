"""Networks: a backbone and an aggregator as one module, and the descriptor that describes images with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from whence.errors import BadOption
from whence.models.aggregators import Aggregator
from whence.models.backbones import Backbone, Features

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


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


def normalise(images: Tensor, *, mean: Sequence[float] = IMAGENET_MEAN, std: Sequence[float] = IMAGENET_STD) -> Tensor:
    """uint8 images (B, H, W, 3) as float32 (B, 3, H, W), each channel minus mean over standard deviation, on the images' device."""
    scale = torch.tensor([1 / (255 * s) for s in std], device=images.device)
    shift = torch.tensor([-m / s for m, s in zip(mean, std, strict=True)], device=images.device)
    return (images * scale + shift).permute(0, 3, 1, 2)


class NetworkDescriptor:
    """A network as a `Descriptor`: uint8 images in, unit vectors out, images of one size together."""

    def __init__(self, network: Network, *, batch_size: int = 8) -> None:
        self.network = network.eval()
        self.batch_size = batch_size

    @property
    def dim(self) -> int:
        return self.network.dim

    @property
    def is_fitted(self) -> bool:
        return True

    def fit(self, images: Sequence[np.ndarray], *, seed: int) -> None:
        """Nothing to fit: a network comes with its weights."""

    def describe(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """Descriptors (N, D) float32 of unit length, in the order of the images; sizes may differ."""
        descriptors = np.zeros((len(images), self.dim), np.float32)
        by_shape: dict[tuple[int, ...], list[int]] = {}
        for i, image in enumerate(images):
            by_shape.setdefault(image.shape, []).append(i)
        with torch.inference_mode():
            for rows in by_shape.values():
                for start in range(0, len(rows), self.batch_size):
                    batch = rows[start : start + self.batch_size]
                    pixels = torch.from_numpy(np.stack([images[i] for i in batch]))
                    found = self.network(normalise(pixels))
                    descriptors[batch] = nn.functional.normalize(found, dim=1).numpy()
        return descriptors

    def state(self) -> dict[str, np.ndarray]:
        """Nothing is kept with a database: the weights have a card of their own."""
        return {}

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Raises `BadOption` for any state: there is none to load."""
        if state:
            raise BadOption(f"this network keeps no state with a database, found {', '.join(state)}")
