"""Backbones: from normalised images to a map of local descriptors. Cut networks of torchvision and timm behind one seam.

A backbone is made by name without any weights; those are loaded explicitly (`whence.models.checkpoints`, or `load_imagenet` here).
What pools the map is `whence.models.aggregators`.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import torch
import torchvision
from torch import Tensor, nn

from whence.errors import UnknownName


class Features(NamedTuple):
    """What a backbone makes of B images."""

    map: Tensor
    """(B, C, h, w): one local descriptor per position."""
    cls: Tensor | None = None
    """(B, C) class token; None for backbones without one."""


class Backbone(nn.Module):
    """Base of all backbones: `forward` takes (B, 3, H, W) normalised images and gives `Features`."""

    name: str
    channels: int
    """C of the map."""
    stride: int
    """Pixels of the image per position of the map."""
    stages: tuple[str, ...] = ()
    """Names of the parts from the input on, for `freeze_before`."""

    def forward(self, images: Tensor) -> Features:
        raise NotImplementedError

    def freeze_before(self, stage: str) -> None:
        """Keep all parts before `stage` from learning: their parameters get no gradient. Raises `UnknownName`.

        Batch norms there still update their running statistics while the network trains, as in the published trainings.
        """
        if stage not in self.stages:
            raise UnknownName("stage", stage, self.stages)
        for name in self.stages[: self.stages.index(stage)]:
            self.get_submodule(name).requires_grad_(False)


class ResNet(Backbone):
    """ResNet-18 to 152 (He et al., CVPR 2016) up to `conv2` ... `conv5`, the paper's words; in code `layer1` ... `layer4`."""

    def __init__(self, depth: int, last_stage: int) -> None:
        super().__init__()
        whole = getattr(torchvision.models, f"resnet{depth}")(weights=None)
        self.name = f"resnet{depth}conv{last_stage}"
        self.stages = ("conv1", "bn1", *(f"layer{i}" for i in range(1, last_stage)))
        for stage in self.stages:
            setattr(self, stage, getattr(whole, stage))
        self.channels = (64 if depth < 50 else 256) * 2 ** (last_stage - 2)
        self.stride = 2**last_stage

    def forward(self, images: Tensor) -> Features:
        x = torch.relu(self.get_submodule("bn1")(self.get_submodule("conv1")(images)))
        x = nn.functional.max_pool2d(x, 3, stride=2, padding=1)
        for stage in self.stages[2:]:
            x = self.get_submodule(stage)(x)
        return Features(x)


def make_backbone(name: str) -> Backbone:
    """The backbone of this name, its weights random. Raises `UnknownName`."""
    if found := re.fullmatch(r"resnet(18|50|101|152)conv([2-5])", name):
        return ResNet(int(found[1]), int(found[2]))
    raise UnknownName("backbone", name, list_backbones())


def list_backbones() -> tuple[str, ...]:
    """Names that `make_backbone` knows."""
    return tuple(f"resnet{depth}conv{stage}" for depth in (18, 50, 101, 152) for stage in (2, 3, 4, 5))
