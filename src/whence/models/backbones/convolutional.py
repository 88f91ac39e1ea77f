"""Convolutional backbones: cut networks of torchvision."""

from __future__ import annotations

import re
from pathlib import Path

import torch
import torchvision
from torch import Tensor, nn

from whence.errors import ModelError, UnknownName
from whence.models.backbones.base import Backbone, Features, SizeRule, is_offline


class ResNet(Backbone):
    """ResNet-18 to 152 (He et al., CVPR 2016) up to `conv2` ... `conv5`, the paper's words; in code
    `layer1` ... `layer4`.

    The Deep Visual Geo-localization Benchmark, CosPlace, EigenPlaces and MixVPR train layer3 and
    layer4 only.
    """

    def __init__(self, depth: int, last_stage: int, *, has_two_scales: bool = False) -> None:
        """With two scales, what the stage before the last makes is given too."""
        super().__init__()
        whole = getattr(torchvision.models, f"resnet{depth}")(weights=None)
        self.has_two_scales = has_two_scales
        self.name = f"resnet{depth}conv{f'{last_stage - 1}_' if has_two_scales else ''}{last_stage}"
        self.stages = ("conv1", "bn1", *(f"layer{i}" for i in range(1, last_stage)))
        self.published = self.stages[4:]
        for stage in self.stages:
            setattr(self, stage, getattr(whole, stage))
        self.channels = (64 if depth < 50 else 256) * 2 ** (last_stage - 2)
        self.stride = 2**last_stage
        if has_two_scales:
            # The attention over the finer map has windows of seven positions.
            self.size_rule = SizeRule(at_least=6 * self.stride // 2 + 1)

    def forward(self, images: Tensor) -> Features:
        x = torch.relu(self.get_submodule("bn1")(self.get_submodule("conv1")(images)))
        x = nn.functional.max_pool2d(x, 3, stride=2, padding=1)
        before = x
        for stage in self.stages[2:]:
            before, x = x, self.get_submodule(stage)(x)
        return Features(x, finer=before if self.has_two_scales else None)


class FeatureLayers(Backbone):
    """The `features` of AlexNet, VGG16, MobileNetV2 or an EfficientNet of torchvision, one stage
    per module.

    AlexNet (Krizhevsky et al., NeurIPS 2012) and VGG16 (Simonyan and Zisserman, ICLR 2015) end
    before their last ReLU and pooling, so values may be negative; the benchmark and CosPlace train
    their last three convolutions. EfficientNets (Tan and Le, ICML 2019) are whole, and CosPlace
    trains 5 to 8; MobileNetV2 (Sandler et al., CVPR 2018) is whole.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        whole = getattr(torchvision.models, name)(weights=None).features
        self.name = name
        is_classic = name in ("alexnet", "vgg16")
        self.features = whole[:-2] if is_classic else whole
        self.channels = self.features[-1].out_channels
        self.stride = 16 if is_classic else 32
        self.size_rule = SizeRule(at_least=32)
        self.stages = tuple(f"features.{i}" for i in range(len(self.features)))
        first_learning = {"alexnet": 6, "vgg16": 24}.get(name, 5)
        self.published = () if name == "mobilenet_v2" else self.stages[first_learning:]

    def forward(self, images: Tensor) -> Features:
        self.size_rule.check(*images.shape[-2:])
        return Features(self.features(images))


def load_torchvision(backbone: Backbone, weights: str) -> None:
    """Fill a backbone with torchvision's weights, "v1" or "default"; they are downloaded where they
    are not there yet."""
    known = torchvision.models.get_model_weights(re.sub(r"conv[\d_]+$", "", backbone.name))
    if weights not in ("v1", "default"):
        raise UnknownName("weights", weights, ("v1", "default"))
    entry = known["IMAGENET1K_V1"] if weights == "v1" else known["DEFAULT"]
    file = Path(torch.hub.get_dir()) / "checkpoints" / entry.url.rpartition("/")[2]
    if is_offline() and not file.is_file():
        raise ModelError(
            f"offline, and the weights {entry.url} are not there: put the file at {str(file)!r}"
        )
    whole = entry.get_state_dict(progress=False, check_hash=True, weights_only=True)
    backbone.load_state_dict({key: whole[key] for key in backbone.state_dict()})
