"""Backbones of timm by any of its names, and timm's weights for our transformers."""

from __future__ import annotations

import re
from typing import Any

import timm
import torch
from torch import Tensor

from whence.errors import BadOption, ModelError, UnknownName
from whence.models.backbones.base import Backbone, Features, SizeRule, is_offline

TIMM_TAGS = {
    "vit_b16_224": "vit_base_patch16_224.orig_in21k",
    "timesformer": "vit_base_patch16_224.orig_in21k_ft_in1k",
    "vit_b16_384": "vit_base_patch16_384.orig_in21k_ft_in1k",
    **{
        f"dinov2_vit{short}14{registers}": (
            f"vit_{long}_patch14_{'reg4_' if registers else ''}dinov2.lvd142m"
        )
        for short, long in {"s": "small", "b": "base", "l": "large", "g": "giant"}.items()
        for registers in ("", "_reg")
    },
}
"""The same weights in timm."""


class TimmTokens(Backbone):
    """A transformer of timm with prefix tokens: its patch tokens after the final norm, and the
    class token where it has one."""

    def __init__(self, name: str, whole: Any, *, size_rule: SizeRule, stride: int) -> None:
        super().__init__()
        self.name, self.size_rule, self.stride = name, size_rule, stride
        self.channels = int(whole.num_features)
        self.whole = whole
        self.num_prefix = int(whole.num_prefix_tokens)
        self.has_cls = getattr(whole, "cls_token", None) is not None
        self.stages = ("whole",)

    def forward(self, images: Tensor) -> Features:
        self.size_rule.check(*images.shape[-2:])
        tokens = self.whole.forward_features(images)
        shape = (
            images.shape[0],
            self.channels,
            images.shape[-2] // self.stride,
            images.shape[-1] // self.stride,
        )
        patches = tokens[:, self.num_prefix :].transpose(1, 2).reshape(shape)
        return Features(patches, tokens[:, 0] if self.has_cls else None)


class TimmMap(Backbone):
    """Any other network of timm: the map of its last stage, channels first whatever timm has."""

    def __init__(self, name: str, stages: Any) -> None:
        super().__init__()
        self.name = name
        self.whole = stages
        self.channels = int(stages.feature_info.channels()[-1])
        self.stride = int(stages.feature_info.reduction()[-1])
        self.is_channels_last = getattr(stages, "output_fmt", "NCHW") == "NHWC"
        self.size_rule = SizeRule(at_least=self.stride)
        self.stages = ("whole",)

    def forward(self, images: Tensor) -> Features:
        self.size_rule.check(*images.shape[-2:])
        found = self.whole(images)[-1]
        return Features(found.permute(0, 3, 1, 2) if self.is_channels_last else found)


def make_timm(name: str) -> Backbone:
    """The backbone `timm:<name>`, weights random. Raises `UnknownName`, `BadOption` for a network
    that gives no map.

    Transformers resample their positions by timm's own rule where timm can; a network that runs on
    one size only accepts no other.
    """
    timm_name = name.removeprefix("timm:")
    if not timm.is_model(timm_name.partition(".")[0]):
        raise UnknownName("network of timm", timm_name, timm.list_models())
    try:
        with torch.device("meta"):
            sketch = _wrap_timm(name, timm_name).eval()
            rule = sketch.size_rule
            given: Any = timm.get_pretrained_cfg(timm_name)
            size = rule.exact or rule.nearest(*given.input_size[-2:])
            found = sketch(torch.zeros(1, 3, *size)).map.shape
    except Exception as error:
        # Each network of timm that has no map fails in its own way.
        raise BadOption(
            f"{name} gives no map of features: {error or type(error).__name__}"
        ) from None
    expected = (1, sketch.channels, *(round(side / sketch.stride) for side in size))
    if len(found) != 4 or any(abs(a - b) > 1 for a, b in zip(found, expected, strict=True)):
        raise BadOption(f"{name} gives no map of features: {tuple(found)} is not {expected}")
    backbone = _wrap_timm(name, timm_name)
    if rule.exact is None and not _takes(
        sketch, size[0] + 2 * sketch.stride, size[1] + 4 * sketch.stride
    ):
        backbone.size_rule = SizeRule(exact=size)
    return backbone


def _takes(sketch: Backbone, height: int, width: int) -> bool:
    """Whether a network on the meta device runs on images of this size."""
    try:
        sketch(torch.zeros(1, 3, height, width, device="meta"))
    except Exception:
        return False
    return True


def _wrap_timm(name: str, timm_name: str) -> Backbone:
    with torch.device("meta"):
        sketch: Any = timm.create_model(timm_name, pretrained=False, num_classes=0)
    if not hasattr(sketch, "num_prefix_tokens"):
        return TimmMap(
            name,
            timm.create_model(timm_name, pretrained=False, features_only=True, out_indices=(-1,)),
        )
    patch = int(sketch.patch_embed.patch_size[0])
    height, width = (int(side) for side in sketch.pretrained_cfg["input_size"][-2:])
    can_resample = hasattr(sketch, "dynamic_img_size")
    options: dict[str, Any] = {"dynamic_img_size": True} if can_resample else {}
    rule = (
        SizeRule(multiple_of=patch, at_least=patch)
        if can_resample
        else SizeRule(exact=(height, width))
    )
    whole = timm.create_model(timm_name, pretrained=False, num_classes=0, **options)
    return TimmTokens(name, whole, size_rule=rule, stride=patch)


def load_pretrained(backbone: Backbone) -> None:
    """Load what timm has for a transformer or a `timm:` backbone. Raises `BadOption`,
    `ModelError`."""
    tag = (
        backbone.name.removeprefix("timm:")
        if backbone.name.startswith("timm:")
        else TIMM_TAGS.get(backbone.name)
    )
    if tag is None:
        raise BadOption(f"neither torchvision nor timm has weights for {backbone.name}")
    if is_offline():
        raise ModelError(f"offline: the weights {tag} of timm were not downloaded")
    if isinstance(backbone, TimmMap):
        made = timm.create_model(tag, pretrained=True, features_only=True, out_indices=(-1,))
        backbone.whole.load_state_dict(made.state_dict())
        return
    state = timm.create_model(tag, pretrained=True, num_classes=0).state_dict()
    if isinstance(backbone, TimmTokens):
        backbone.whole.load_state_dict(state)
    else:
        backbone.load_state_dict(_from_timm(state, backbone))


def _from_timm(state: dict[str, Tensor], backbone: Backbone) -> dict[str, Tensor]:
    """timm's tensors under the official names; those of parts that the backbone does not have are
    left out."""
    state = dict(state)
    if "reg_token" in state:
        # timm adds the class token's position to the token itself.
        state["register_tokens"] = state.pop("reg_token")
        state["pos_embed"] = torch.cat(
            [torch.zeros_like(state["cls_token"]), state["pos_embed"]], dim=1
        )
    if backbone.name == "timesformer":
        state |= {"time_embed": backbone.get_parameter("time_embed").detach()}
        for name in list(backbone.state_dict()):
            # What looks over time begins as what looks over space, and adds nothing yet.
            plain = re.sub(r"temporal_(attn|norm1)\.", r"\1.", name)
            state[name] = (
                torch.zeros_like(backbone.get_parameter(name))
                if "temporal_fc" in name
                else state[plain]
            )
    if "vitg14" in backbone.name:
        state = {
            key.replace("mlp.fc1", "mlp.w12").replace("mlp.fc2", "mlp.w3"): value
            for key, value in state.items()
        }
    return {key: state[key] for key in backbone.state_dict()}
