"""Backbones: from normalised images to a map of local descriptors. Cut networks of torchvision and timm behind one seam.

A backbone is made by name without any weights; those are loaded explicitly (`whence.models.checkpoints`, or `load_imagenet` here).
Transformers are in `whence.models.transformers`; what pools the map is in `whence.models.aggregators`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import torch
import torchvision
from torch import Tensor, nn

from whence.errors import BadOption, ModelError, UnknownName
from whence.settings import load_settings

Facet = Literal["query", "key", "value"]


class Features(NamedTuple):
    """What a backbone makes of B images."""

    map: Tensor
    """(B, C, h, w): one local descriptor per position."""
    cls: Tensor | None = None
    """(B, C) class token; None for backbones without one."""


@dataclass(frozen=True, slots=True)
class SizeRule:
    """Which image sizes a backbone accepts, in pixels."""

    multiple_of: int = 1
    at_least: int = 1
    """The shorter side's least."""
    exact: tuple[int, int] | None = None
    """Height and width, where no other size is accepted."""

    def check(self, height: int, width: int) -> None:
        """Raises `BadOption` where the size is not accepted, naming one that is."""
        # A traced graph keeps no errors, and its free sizes must not be compared.
        if torch.compiler.is_compiling():
            return
        if self.exact is not None and (height, width) != self.exact:
            raise BadOption(f"images must be {self.exact[0]} x {self.exact[1]} pixels (height x width), not {height} x {width}")
        if height % self.multiple_of or width % self.multiple_of or min(height, width) < self.at_least:
            wanted = f"multiples of {self.multiple_of}, " if self.multiple_of > 1 else ""
            nearest = "{} x {}".format(*self.nearest(height, width))
            raise BadOption(
                f"image sides must be {wanted}at least {max(self.at_least, self.multiple_of)} pixels, "
                f"not {height} x {width} (height x width); {nearest} would be accepted"
            )

    def nearest(self, height: int, width: int) -> tuple[int, int]:
        """The accepted height and width nearest to these; a side halfway between goes to the even multiple, as in MegaLoc."""
        if self.exact is not None:
            return self.exact
        m = self.multiple_of
        least = -(-max(self.at_least, 1) // m)
        return m * max(round(height / m), least), m * max(round(width / m), least)


class Backbone(nn.Module):
    """Base of all backbones: `forward` makes `Features` of (B, 3, H, W) normalised images; raises `BadOption` for a wrong size."""

    name: str
    channels: int
    """C of the map."""
    stride: int
    """Pixels of the image per position of the map; a side of n pixels gives n / stride positions, one more or fewer at most."""
    size_rule: SizeRule = SizeRule()
    stages: tuple[str, ...] = ()
    """Names of the parts from the input on, for `freeze_before` and `learn_only`."""
    published: tuple[str, ...] = ()
    """The stages that the published trainings let learn; empty where there is none."""

    def forward(self, images: Tensor) -> Features:
        raise NotImplementedError

    def stage_parameters(self, stage: str) -> Iterator[nn.Parameter]:
        """The parameters of one stage."""
        return self.get_submodule(stage).parameters()

    def freeze_before(self, stage: str) -> None:
        """Keep all parts before `stage` from learning: their parameters get no gradient. Raises `UnknownName`.

        Batch norms there still update their running statistics while the network trains, as in the published trainings.
        """
        self._known(stage)
        for name in self.stages[: self.stages.index(stage)]:
            self._set_learning(name, is_learning=False)

    def learn_only(self, *stages: str) -> None:
        """Let only these stages learn. Raises `UnknownName`. Batch norms behave as in `freeze_before`."""
        for stage in stages:
            self._known(stage)
        for name in self.stages:
            self._set_learning(name, is_learning=name in stages)

    def freeze_as_published(self) -> None:
        """Let only those stages learn that the published trainings let learn. Raises `BadOption` where there are none."""
        if not self.published:
            raise BadOption(
                f"no publication trains {self.name}: choose with freeze_before or learn_only among {', '.join(self.stages)}"
            )
        self.learn_only(*self.published)

    def _known(self, stage: str) -> None:
        if stage not in self.stages:
            raise UnknownName("stage", stage, self.stages)

    def _set_learning(self, stage: str, *, is_learning: bool) -> None:
        for parameter in self.stage_parameters(stage):
            parameter.requires_grad_(is_learning)


class ResNet(Backbone):
    """ResNet-18 to 152 (He et al., CVPR 2016) up to `conv2` ... `conv5`, the paper's words; in code `layer1` ... `layer4`.

    The Deep Visual Geo-localization Benchmark, CosPlace, EigenPlaces and MixVPR train layer3 and layer4 only.
    """

    def __init__(self, depth: int, last_stage: int) -> None:
        super().__init__()
        whole = getattr(torchvision.models, f"resnet{depth}")(weights=None)
        self.name = f"resnet{depth}conv{last_stage}"
        self.stages = ("conv1", "bn1", *(f"layer{i}" for i in range(1, last_stage)))
        self.published = self.stages[4:]
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


class FeatureLayers(Backbone):
    """The `features` of AlexNet, VGG16 or an EfficientNet of torchvision, one stage per module.

    AlexNet (Krizhevsky et al., NeurIPS 2012) and VGG16 (Simonyan and Zisserman, ICLR 2015) end before their last ReLU and pooling,
    so values may be negative; the benchmark and CosPlace train their last three convolutions. EfficientNets (Tan and Le, ICML 2019)
    are whole; CosPlace trains 5 to 8.
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
        self.published = self.stages[first_learning:]

    def forward(self, images: Tensor) -> Features:
        self.size_rule.check(*images.shape[-2:])
        return Features(self.features(images))


class Derived:
    """What follows from parameters alone, kept until they change, so that describing does not compute it for every batch.

    Nothing is kept where gradients flow or a graph is being traced.
    """

    def __init__(self) -> None:
        self._kept: dict[object, tuple[tuple[object, ...], Tensor]] = {}

    def get(self, key: object, parameters: list[nn.Parameter], compute: Callable[[], Tensor]) -> Tensor:
        """What `compute` gives, which is called only if one of the parameters changed or the key is new."""
        if torch.compiler.is_compiling() or (torch.is_grad_enabled() and any(p.requires_grad for p in parameters)):
            return compute()
        state = tuple((p.data_ptr(), p.dtype, p.device, -1 if p.is_inference() else p._version) for p in parameters)
        kept = self._kept.get(key)
        if kept is None or kept[0] != state or kept[1].device.type == "meta":
            # Not as an inference tensor: training may use it later.
            with torch.inference_mode(False), torch.no_grad():
                kept = (state, compute())
            self._kept[key] = kept
        return kept[1]


CNN_NAMES = (
    "alexnet",
    "vgg16",
    *(f"resnet{depth}conv{stage}" for depth in (18, 50, 101, 152) for stage in (2, 3, 4, 5)),
    *(f"efficientnet_b{i}" for i in (0, 5, 7)),
)
TRANSFORMER_NAMES = (
    "vit_b16_224",
    "vit_b16_384",
    "cct224",
    "cct384",
    *(f"dinov2_vit{size}14{registers}" for size in "sblg" for registers in ("", "_reg")),
)


def list_backbones() -> tuple[str, ...]:
    """Names that `make_backbone` knows, besides `timm:` and any name of timm."""
    return CNN_NAMES + TRANSFORMER_NAMES


def make_backbone(
    name: str,
    *,
    num_blocks: int | None = None,
    has_final_norm: bool = True,
    facet: Facet | None = None,
    takes_any_size: bool = False,
) -> Backbone:
    """The backbone of this name, its weights random. Raises `UnknownName`, `BadOption`.

    The options are of transformers: `num_blocks` keeps the first blocks only (the benchmark's `trunc_te`); without the final norm
    its parameters are left out too (BoQ); `facet` takes the query, key or value of the last block kept instead of its output
    (AnyLoc); `takes_any_size` first resizes images to the nearest multiples of the patch (MegaLoc).
    """
    if name in CNN_NAMES or name.startswith("timm:"):
        if num_blocks is not None or not has_final_norm or facet is not None or takes_any_size:
            raise BadOption(f"num_blocks, has_final_norm, facet and takes_any_size are options of transformers; {name} takes none")
        if found := re.fullmatch(r"resnet(\d+)conv(\d)", name):
            return ResNet(int(found[1]), int(found[2]))
        if name in CNN_NAMES:
            return FeatureLayers(name)
    from whence.models import transformers

    if name.startswith("timm:"):
        return transformers.make_timm(name)
    if name.startswith("cct") and name in TRANSFORMER_NAMES:
        if facet is not None or takes_any_size or not has_final_norm:
            raise BadOption(f"{name} takes num_blocks only, not has_final_norm, facet or takes_any_size")
        return transformers.CompactTransformer(name, num_blocks=num_blocks)
    if name in TRANSFORMER_NAMES:
        return transformers.VisionTransformer(
            name, num_blocks=num_blocks, has_final_norm=has_final_norm, facet=facet, takes_any_size=takes_any_size
        )
    raise UnknownName("backbone", name, list_backbones())


def load_imagenet(backbone: Backbone, *, weights: Literal["v1", "default"] = "v1") -> None:
    """Load published pretrained weights into a backbone: torchvision's for CNNs, timm's for transformers, downloaded on first use.

    "v1" are torchvision's first weights, which the publications of 2022 started from; "default" its newest. Transformers know
    "default" only: ImageNet-21k for ViT-B/16, DINOv2's own for DINOv2. Raises `BadOption` where there are none, `ModelError` where
    the network is not to be used and the file is not there.
    """
    if isinstance(backbone, ResNet | FeatureLayers):
        _load_torchvision(backbone, weights)
        return
    from whence.models import transformers

    if weights != "default":
        raise BadOption(f"{backbone.name} has no weights {weights!r}: ask for weights='default'")
    transformers.load_pretrained(backbone)


def is_offline() -> bool:
    """Whether the settings or `WHENCE_OFFLINE` forbid the network."""
    return load_settings().offline


def _load_torchvision(backbone: Backbone, weights: str) -> None:
    known = torchvision.models.get_model_weights(re.sub(r"conv\d$", "", backbone.name))
    if weights not in ("v1", "default"):
        raise UnknownName("weights", weights, ("v1", "default"))
    entry = known["IMAGENET1K_V1"] if weights == "v1" else known["DEFAULT"]
    file = Path(torch.hub.get_dir()) / "checkpoints" / entry.url.rpartition("/")[2]
    if is_offline() and not file.is_file():
        raise ModelError(f"offline, and the weights {entry.url} are not there: put the file at {str(file)!r}")
    whole = entry.get_state_dict(progress=False, check_hash=True, weights_only=True)
    backbone.load_state_dict({key: whole[key] for key in backbone.state_dict()})
