"""Heads that say what each pixel shows, and the opponent that tells maps of one domain from those
of another: SegVPR's."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from whence.errors import UnknownName
from whence.models.aggregators.attention import resized

IGNORED = 255
"""The class of pixels that nothing is learned from."""
SOURCE, TARGET = 0.0, 1.0
"""What the opponent calls the domain with labels, and the other."""


class DeepLabHead(nn.Module):
    """Maps (B, C, h, w) to logits (B, K, h, w): the sum of four convolutions that see ever farther
    (Chen et al., PAMI 2018)."""

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__()
        self.conv2d_list = nn.ModuleList(
            nn.Conv2d(channels, num_classes, 3, padding=reach, dilation=reach)
            for reach in (6, 12, 18, 24)
        )
        for layer in self.conv2d_list:
            nn.init.normal_(layer.weight, 0, 0.01)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([layer(x) for layer in self.conv2d_list]).sum(dim=0)


class PyramidPooling(nn.Module):
    """Maps (B, C, h, w) to (B, C + 4 `width`, h, w): with their means over grids of 1, 2, 3 and 6
    (Zhao et al., CVPR 2017)."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.features = nn.ModuleList(
            nn.Sequential(
                nn.AdaptiveAvgPool2d(side),
                nn.Conv2d(channels, width, 1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(),
            )
            for side in (1, 2, 3, 6)
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, *(resized(part(x), x) for part in self.features)], dim=1)


class PspHead(nn.Module):
    """Maps (B, C, h, w) to logits (B, K, h, w) by pyramid pooling."""

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__()
        width = channels // 4
        self.ppm = PyramidPooling(channels, width)
        self.cls = nn.Sequential(
            nn.Conv2d(2 * channels, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Dropout2d(0.1),
            nn.Conv2d(width, num_classes, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.cls(self.ppm(x))
        return logits


class Opponent(nn.Module):
    """Maps of probabilities (B, K, H, W) to logits (B, 1, h, w), above 0 where they look like the
    target domain's.

    The discriminator of DCGAN, fully convolutional (Tsai et al., CVPR 2018).
    """

    def __init__(self, num_classes: int, width: int = 64) -> None:
        super().__init__()
        widths = [num_classes, width, 2 * width, 4 * width, 8 * width]
        self.conv1, self.conv2, self.conv3, self.conv4 = (
            nn.Conv2d(a, b, 4, stride=2, padding=1) for a, b in pairwise(widths)
        )
        self.classifier = nn.Conv2d(widths[-1], 1, 4, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        for layer in (self.conv1, self.conv2, self.conv3, self.conv4):
            x = nn.functional.leaky_relu(layer(x), 0.2)
        logits: Tensor = self.classifier(x)
        return logits


HEADS = {"deeplab": DeepLabHead, "psp": PspHead}


def make_head(name: str, channels: int, num_classes: int) -> nn.Module:
    """The segmentation head of this name. Raises `UnknownName`."""
    if name not in HEADS:
        raise UnknownName("segmentation head", name, HEADS)
    made: nn.Module = HEADS[name](channels, num_classes)
    return made


def segmentation_loss(logits: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
    """Cross-entropy of logits (B, K, h, w), at the size of labels (B, H, W), over pixels that have
    a class.

    `weights` (B, 1, h, w) are an attention's, by which logits are multiplied; no gradient reaches
    it.
    """
    size = labels.shape[-2:]
    large = nn.functional.interpolate(
        logits.float(), size=size, mode="bilinear", align_corners=True
    )
    if weights is not None:
        large = large * resized(weights.detach().float(), large)
    if not bool((labels != IGNORED).any()):
        return large.sum() * 0
    return nn.functional.cross_entropy(large, labels.long(), ignore_index=IGNORED)


def domain_loss(logits: Tensor, domain: float) -> Tensor:
    """How far an opponent's logits are from calling maps those of a domain."""
    return nn.functional.binary_cross_entropy_with_logits(logits, torch.full_like(logits, domain))


def fooling_loss(opponent: nn.Module, target: Tensor) -> Tensor:
    """The loss that makes maps of the target domain look like the source's, for the learner alone:
    the opponent gets no gradient."""
    held = {name: value.detach() for name, value in opponent.state_dict(keep_vars=True).items()}
    return domain_loss(torch.func.functional_call(opponent, held, (target,)), SOURCE)


def opponent_loss(opponent: nn.Module, source: Tensor, target: Tensor) -> Tensor:
    """The loss by which the opponent learns to tell the domains apart: half of its mean over both
    domains, as published; the learner gets no gradient."""
    return 0.25 * (
        domain_loss(opponent(source.detach()), SOURCE)
        + domain_loss(opponent(target.detach()), TARGET)
    )
