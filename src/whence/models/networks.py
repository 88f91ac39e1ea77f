"""Networks: a backbone and an aggregator as one module, and a pool over the frames of a sequence
where it has one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from whence.errors import BadOption
from whence.models.aggregators.pools import Aggregator
from whence.models.aggregators.sequence import SequencePool
from whence.models.backbones.base import Backbone, Features
from whence.models.preprocessing import normalise


class Network(nn.Module):
    """Normalised images (B, 3, H, W), or what the backbone made of them, to global descriptors (B,
    D).

    With a sequence pool also sequences (B, S, 3, H, W).
    """

    def __init__(
        self, backbone: Backbone, aggregator: Aggregator, sequence: SequencePool | None = None
    ) -> None:
        """Raises `BadOption` for early fusion on a backbone that sees one image at a time."""
        super().__init__()
        if sequence is not None and sequence.is_early and not backbone.sees_sequences:
            raise BadOption(
                "early fusion needs a backbone that sees sequences, timesformer, not "
                f"{backbone.name}"
            )
        self.backbone = backbone
        self.aggregator = aggregator
        self.sequence = sequence

    @property
    def dim(self) -> int:
        return self.aggregator.dim

    @property
    def pool(self) -> SequencePool:
        """The sequence pool. Raises `BadOption` for a network of single images."""
        if self.sequence is None:
            raise BadOption("this network has no sequence pool; it describes single images")
        return self.sequence

    def features(self, images: Tensor) -> Features:
        """The backbone's features of normalised images."""
        features: Features = self.backbone(images)
        return features

    def describe_frames(self, images: Tensor) -> Tensor:
        """(N, ...) what the sequence pool keeps of each of N normalised frames."""
        return self.pool.describe(self.aggregator, self.backbone(images))

    def describe_sequences(self, frames: Tensor) -> Tensor:
        """(B, D) of normalised frames (B, S, 3, H, W) in their order."""
        if self.pool.is_early:
            descriptors: Tensor = self.aggregator(self.backbone.of_sequences(frames))
            return self.pool.brought(descriptors)
        kept = self.describe_frames(frames.flatten(0, 1))
        pooled: Tensor = self.pool(kept.unflatten(0, frames.shape[:2]))
        return pooled

    def forward(self, images: Tensor | Features) -> Tensor:
        if isinstance(images, Tensor) and images.ndim == 5:
            return self.describe_sequences(images)
        features = images if isinstance(images, Features) else self.backbone(images)
        descriptors: Tensor = self.aggregator(features)
        return descriptors


def describe_pixels(
    describe: Callable[[Any], Tensor],
    photos: Any,
    *,
    batch_size: int,
    read: Callable[[Any], np.ndarray | Features] = np.array,
) -> Tensor:
    """Descriptors (N, D) float32 on the CPU of N photos, so many at a time: what `describe` makes
    of uint8 (b, H, W, 3).

    `photos` is what can be cut into runs (pixels, rows of a table, a list of paths); `read` makes
    pixels of a run, or what a backbone made of them. Sequences are uint8 (b, S, H, W, 3).
    """
    with torch.inference_mode():
        batches = (
            read(photos[start : start + batch_size]) for start in range(0, len(photos), batch_size)
        )
        known = (
            batch if isinstance(batch, Features) else torch.from_numpy(batch) for batch in batches
        )
        return torch.cat([describe(batch).float().cpu() for batch in known])


def describing(
    network: nn.Module,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
    is_channels_last: bool = False,
) -> Callable[[Tensor | Features], Tensor]:
    """A function from uint8 photos (B, H, W, 3) to what a network, as it stands, makes of them, for
    `describe_pixels`; `dtype` is autocast's.

    Of sequences (B, S, H, W, 3) it makes one descriptor each.
    """
    kind = torch.device(device).type

    def describe(photos: Tensor | Features) -> Tensor:
        images = (
            photos if isinstance(photos, Features) else normalise(photos.to(device).flatten(0, -4))
        )
        if is_channels_last and isinstance(images, Tensor):
            images = images.contiguous(memory_format=torch.channels_last)
        if isinstance(photos, Tensor) and isinstance(images, Tensor) and photos.ndim == 5:
            images = images.unflatten(0, photos.shape[:2])
        with torch.autocast(kind, dtype=dtype, enabled=dtype is not None):
            descriptors: Tensor = network(images)
        return descriptors

    return describe
