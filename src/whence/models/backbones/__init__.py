"""Backbones: from normalised images to a map of local descriptors. Cut networks of torchvision and
timm behind one seam.

A backbone is made by name without any weights; those are loaded explicitly
(`whence.models.checkpoints`, or `load_imagenet` here). What pools the map is in
`whence.models.aggregators`.
"""

from __future__ import annotations

import re
from typing import Literal

from whence.cards import Entry
from whence.errors import BadOption, UnknownName
from whence.models.backbones.base import Backbone, Facet
from whence.models.backbones.convolutional import FeatureLayers, ResNet, load_torchvision
from whence.models.cards.backbones import BACKBONES
from whence.registry import KINDS, build

LITE_NAMES = (
    *(f"efficientnet_lite{i}" for i in range(3)),
    "efficientnet_lite0_block10",
    "efficientnet_lite0_blocks10_12",
)
CNN_NAMES = (
    "alexnet",
    "vgg16",
    *(f"resnet{depth}conv{stage}" for depth in (18, 50, 101, 152) for stage in (2, 3, 4, 5)),
    "resnet18conv3_4",
    *(f"resnet{depth}conv4_5" for depth in (18, 50, 101)),
    *(f"efficientnet_b{i}" for i in (0, 5, 7)),
    *LITE_NAMES,
    "mobilenet_v2",
)
TIMESFORMER_NAMES = ("timesformer", "timesformer_mini")
TRANSFORMER_NAMES = (
    "vit_b16_224",
    "vit_b16_384",
    "vit_mini8_64",
    "cct224",
    "cct384",
    *TIMESFORMER_NAMES,
    *(f"dinov2_vit{size}14{registers}" for size in "sblg" for registers in ("", "_reg")),
)


ENTRIES: dict[str, Entry] = {
    name: Entry("whence.models.backbones:make_backbone", options={"name": name})
    for name in CNN_NAMES + TRANSFORMER_NAMES
}


def list_backbones() -> tuple[str, ...]:
    """Names that `make_backbone` knows, besides `timm:` and any name of timm."""
    return tuple(KINDS["backbone"])


def make_backbone(
    name: str,
    *,
    num_blocks: int | None = None,
    has_final_norm: bool = True,
    facet: Facet | None = None,
    takes_any_size: bool = False,
    num_frames: int | None = None,
) -> Backbone:
    """The backbone of this name, its weights random. Raises `UnknownName`, `BadOption`.

    The options are of transformers: `num_blocks` keeps the first blocks only (the benchmark's
    `trunc_te`); without the final norm its parameters are left out too (BoQ); `facet` takes the
    query, key or value of the last block kept instead of its output (AnyLoc); `takes_any_size`
    first resizes images to the nearest multiples of the patch (MegaLoc). `num_frames` is of
    TimeSformer alone: the frames it has positions in time for.
    """
    if num_frames is not None and name not in TIMESFORMER_NAMES:
        raise BadOption(
            f"num_frames is an option of timesformer, which sees sequences; {name} sees one image "
            "at a time"
        )
    if name in TIMESFORMER_NAMES:
        if facet is not None or takes_any_size or not has_final_norm:
            raise BadOption(
                f"{name} takes num_blocks and num_frames only, not has_final_norm, facet or "
                "takes_any_size"
            )
        from whence.models.backbones.timesformer import TimeSformer

        return TimeSformer(
            name, num_frames=5 if num_frames is None else num_frames, num_blocks=num_blocks
        )
    if name in CNN_NAMES or name.startswith("timm:"):
        if num_blocks is not None or not has_final_norm or facet is not None or takes_any_size:
            raise BadOption(
                "num_blocks, has_final_norm, facet and takes_any_size are options of "
                f"transformers; {name} takes none"
            )
        if found := re.fullmatch(r"resnet(\d+)conv(\d_)?(\d)", name):
            return ResNet(int(found[1]), int(found[3]), has_two_scales=found[2] is not None)
        if name in LITE_NAMES:
            from whence.models.backbones.lite import LiteBlocks, LiteMaps

            return LiteMaps() if name == LITE_NAMES[-1] else LiteBlocks(name)
        if name in CNN_NAMES:
            return FeatureLayers(name)
    if name.startswith("timm:"):
        from whence.models.backbones.of_timm import make_timm

        return make_timm(name)
    if name.startswith("cct") and name in TRANSFORMER_NAMES:
        if facet is not None or takes_any_size or not has_final_norm:
            raise BadOption(
                f"{name} takes num_blocks only, not has_final_norm, facet or takes_any_size"
            )
        from whence.models.backbones.compact import CompactTransformer

        return CompactTransformer(name, num_blocks=num_blocks)
    if name in TRANSFORMER_NAMES:
        from whence.models.backbones.transformers import VisionTransformer

        return VisionTransformer(
            name,
            num_blocks=num_blocks,
            has_final_norm=has_final_norm,
            facet=facet,
            takes_any_size=takes_any_size,
        )
    if name not in KINDS["backbone"]:
        raise UnknownName("backbone", name, KINDS["backbone"])
    usual = {"num_blocks": None, "has_final_norm": True, "facet": None, "takes_any_size": False}
    given = {
        "num_blocks": num_blocks,
        "has_final_norm": has_final_norm,
        "facet": facet,
        "takes_any_size": takes_any_size,
    }
    made: Backbone = build(
        "backbone",
        name,
        options={option: given[option] for option in given if given[option] != usual[option]},
    )
    return made


def load_imagenet(backbone: Backbone, *, weights: Literal["v1", "default"] = "v1") -> None:
    """Load published pretrained weights into a backbone: torchvision's for CNNs, timm's for
    transformers, downloaded on first use.

    "v1" are torchvision's first weights, which the publications of 2022 started from; "default" its
    newest. Transformers know "default" only: ImageNet-21k for ViT-B/16, DINOv2's own for DINOv2.
    EfficientNet-Lite and MobileNetV2 have one file each, out of a package of the package index.
    Raises `BadOption` where there are none, `ModelError` where the network is not to be used and
    the file is not there.
    """
    if backbone.name in BACKBONES or backbone.name in LITE_NAMES:
        from whence.models.backbones.lite import load_packed

        load_packed(backbone)
        return
    if isinstance(backbone, ResNet | FeatureLayers):
        load_torchvision(backbone, weights)
        return
    from whence.models.backbones.of_timm import load_pretrained

    if weights != "default":
        raise BadOption(f"{backbone.name} has no weights {weights!r}: ask for weights='default'")
    load_pretrained(backbone)
