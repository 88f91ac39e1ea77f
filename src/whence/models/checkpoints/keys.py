"""How authors name the parameters of their networks, and what each is here: rules by name, never by
position. No torch here.

Here a network's parameters are `backbone.` and `aggregator.`, then torchvision's names for CNNs
(`layer1.0.conv1.weight`, `features.0.weight`) and the official DINOv2's for transformers
(`blocks.0.attn.qkv.weight`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from whence.errors import UnknownName

Rule = tuple[str, str | None]
"""A pattern of their whole name, and ours with the pattern's groups filled in; None for what
describing does not need.

A name of ours that ends in "#0", "#1", ... is one of several tensors to be joined along their first
axis.
"""


@dataclass(frozen=True, slots=True)
class KeyStyle:
    """One way of naming: where the backbone stands, and rules for everything else."""

    backbone: str
    """Pattern of what stands before the backbone's own names."""
    others: tuple[Rule, ...]
    of_efficientnet: str = r"0\."
    """What stands between that and an EfficientNet's own names: CosPlace wraps it once more."""
    may_lack_counts: bool = False
    """Whether batch norms' `num_batches_tracked` may be absent, as in files of old versions of
    torch."""


_NETVLAD: tuple[Rule, ...] = (
    (r"AGG\.centroids", "aggregator.centroids"),
    (r"AGG\.conv\.weight", "aggregator.conv.weight"),
    (r"AGG\.crn\.(filter_3_3|filter_5_5|filter_7_7|acc_w)\.(weight|bias)", r"aggregator.crn.\1.\2"),
)
_SEQUENCES: tuple[Rule, ...] = (
    (r"pooling\.1\.p", "aggregator.p"),
    (r"pooling\.centroids", "aggregator.centroids"),
    (r"pooling\.conv\.weight", "aggregator.conv.weight"),
    (r"aggregator\.1\.(weight|bias)", r"sequence.fc.\1"),
)
"""SeqVLAD's code: what pools each frame, and its FC."""
_MIXER = r"mix\.\d+\.mix\.\d\.(?:weight|bias)|(?:channel|row)_proj\.(?:weight|bias)"


def _under(prefix: str, rules: tuple[Rule, ...]) -> tuple[Rule, ...]:
    return tuple((pattern.replace("AGG", prefix), ours) for pattern, ours in rules)


STYLES: dict[str, KeyStyle] = {
    "whence": KeyStyle(r"backbone\.", ((r"(aggregator|sequence)\.(.+)", r"\1.\2"),)),
    "benchmark": KeyStyle(
        r"backbone\.(?:vit_model\.)?",
        (
            (r"aggregation\.[01]\.p", "aggregator.p"),
            (r"aggregation\.0\.[01]\.p", "aggregator.pool.p"),
            (r"aggregation\.1\.(weight|bias)", r"aggregator.fc.\1"),
            *_under("aggregation", _NETVLAD),
            (r"aggregation\.(ln1|fc1|fc2|ln2)\.(weight|bias)", r"aggregator.\1.\2"),
        ),
    ),
    "cosplace": KeyStyle(
        r"backbone\.",
        (
            (r"aggregation\.1\.p", "aggregator.pool.p"),
            (r"aggregation\.3\.(weight|bias)", r"aggregator.fc.\1"),
        ),
    ),
    "jist": KeyStyle(
        r"model\.backbone\.",
        (
            (r"model\.aggregation\.1\.p", "aggregator.pool.p"),
            (r"model\.aggregation\.3\.(weight|bias)", r"aggregator.fc.\1"),
            (r"seq_gem\.p", "sequence.p"),
            (r"conv1d\.(weight|bias)", r"sequence.conv.\1"),
            (r"final_fc\.weight", "sequence.fc.weight"),
        ),
    ),
    "divide-and-classify": KeyStyle(
        r"backbone\.", ((r"classifier\.0\.(weight|bias)", r"aggregator.fc.\1"),), of_efficientnet=""
    ),
    "geowarp": KeyStyle(r"encoder\.", ((r"pool\.1\.p", "aggregator.p"), *_under("pool", _NETVLAD))),
    "seqvlad": KeyStyle(r"encoder\.", (*_under("aggregator", _NETVLAD), *_SEQUENCES)),
    "seqvlad-pooled": KeyStyle(
        r"encoder\.",
        (
            (r"encoder\.classifier\.(attention_pool\.(?:weight|bias))", r"aggregator.\1"),
            *_SEQUENCES,
        ),
    ),
    "gsv": KeyStyle(
        r"backbone\.model\.",
        (
            (rf"aggregator\.({_MIXER})", r"aggregator.\1"),
            (r"aggregator\.channel_pool\.(weight|bias)", r"aggregator.channel_pool.\1"),
        ),
    ),
    "earthloc": KeyStyle(
        r"backbone\.model\.",
        (
            (rf"aggregator\.({_MIXER})", r"aggregator.pool.\1"),
            (r"fc\.(weight|bias)", r"aggregator.fc.\1"),
        ),
    ),
    "salad": KeyStyle(
        r"(?:model\.)?backbone\.model\.", ((r"(?:model\.)?aggregator\.(.+)", r"aggregator.\1"),)
    ),
    "megaloc": KeyStyle(
        r"backbone\.(?:model\.)?",
        (
            (r"aggregator\.agg\.(.+)", r"aggregator.pool.\1"),
            (r"aggregator\.linear\.(weight|bias)", r"aggregator.fc.\1"),
        ),
    ),
    "boq": KeyStyle(r"backbone\.(?:net|dino)\.", ((r"aggregator\.(.+)", r"aggregator.\1"),)),
    "segvpr": KeyStyle(
        r"sem_branch\.encoder\.",
        (
            (r"vpr_pooling\.p", "aggregator.p"),
            (
                r"attention_layers\.((?:layer[123]|final_conv)\.(?:weight|bias))",
                r"aggregator.attention.\1",
            ),
            # Heads of pixels and the opponent were for training alone.
            (r"(?:sem_branch\.(?:cls|ppm)|DA)\..+", None),
        ),
    ),
    "anyloc": KeyStyle("", (("", "aggregator.words"),)),
    "landmark": KeyStyle(
        r"(?:features\.|backbone\.)?",
        (
            (r"(?:pool|adpool)\.p", "aggregator.pool.p"),
            (r"(?:whiten|fc)\.(weight|bias)", r"aggregator.fc.\1"),
        ),
        may_lack_counts=True,
    ),
}
_INDEXED_RESNET = {
    "0": "conv1",
    "1": "bn1",
    "4": "layer1",
    "5": "layer2",
    "6": "layer3",
    "7": "layer4",
}


def style_of(keys: str) -> KeyStyle:
    """The way of naming that a card's `keys` names. Raises `UnknownName`."""
    if keys not in STYLES:
        raise UnknownName("way of naming parameters", keys, STYLES)
    return STYLES[keys]


_LITE_PARTS = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
_FIRST_LITE_PARTS = {
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn1",
    "_project_conv": "conv_pw",
    "_bn2": "bn2",
}
"""The first block expands nothing."""


def lite_name(theirs: str) -> str | None:
    """Our name of a tensor of a released EfficientNet-Lite; None for its head, which no map needs.
    Others stay as they are."""
    if re.match(r"(_conv_head|_bn1|_fc)\.", theirs):
        return None
    if found := re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", theirs):
        parts = _FIRST_LITE_PARTS if found[1] == "0" else _LITE_PARTS
        return f"blocks.{found[1]}.{parts.get(found[2], found[2])}.{found[3]}"
    return re.sub(r"^_conv_stem\.", "conv_stem.", re.sub(r"^_bn0\.", "bn1.", theirs))


class Translator:
    """From an author's names to ours, for one backbone."""

    def __init__(self, keys: str, backbone: str) -> None:
        style = style_of(keys)
        self.may_lack_counts = style.may_lack_counts
        ours = (
            ((r"backbone\.(.+)", r"backbone.\1"),)
            if keys == "whence"
            else tuple(_backbone_rules(style, backbone))
        )
        self._rules = [(re.compile(pattern), ours) for pattern, ours in (*style.others, *ours)]

    def ours(self, theirs: str) -> str | None:
        """Our name of a tensor; None where it is known but not needed. Raises `KeyError` where it
        is unknown."""
        name = re.sub(r"^(module\.)+", "", theirs)
        for pattern, template in self._rules:
            if found := pattern.fullmatch(name):
                return None if template is None else found.expand(template)
        raise KeyError(theirs)


def _backbone_rules(style: KeyStyle, backbone: str) -> Iterator[Rule]:
    prefix = style.backbone
    if backbone.startswith("resnet"):
        yield rf"{prefix}((?:conv1|bn1|layer\d)\..+)", r"backbone.\1"
        for index, name in _INDEXED_RESNET.items():
            yield rf"{prefix}{index}\.(.+)", rf"backbone.{name}.\1"
    elif backbone.startswith("efficientnet"):
        yield rf"{prefix}{style.of_efficientnet}(\d\..+)", r"backbone.features.\1"
    elif backbone in ("alexnet", "vgg16"):
        yield rf"{prefix}(\d+)\.(weight|bias)", r"backbone.features.\1.\2"
    elif backbone.startswith("cct"):
        yield from _compact_rules(prefix)
    elif backbone.startswith("vit"):
        yield from _transformers_rules(prefix)
    elif backbone.startswith("timesformer"):
        yield (
            rf"{prefix}model\.((?:cls_token|pos_embed|time_embed|patch_embed\.|blocks\.\d+\.|norm\.).*)",
            r"backbone.\1",
        )
    elif backbone.startswith("dinov2"):
        yield from _dinov2_rules(prefix, backbone)


def _compact_rules(prefix: str) -> Iterator[Rule]:
    yield rf"{prefix}tokenizer\.conv_layers\.([01])\.0\.weight", r"backbone.tokenizer.\1.weight"
    yield rf"{prefix}classifier\.positional_emb", "backbone.pos_embed"
    yield rf"{prefix}classifier\.((?:blocks\.\d+|norm)\..+)", r"backbone.\1"
    # In every file; used by sequence pooling only, whose way of naming takes it before.
    yield rf"{prefix}classifier\.attention_pool\.(?:weight|bias)", None


def _dinov2_rules(prefix: str, backbone: str) -> Iterator[Rule]:
    kept = (
        r"cls_token|pos_embed|patch_embed\.proj\.(?:weight|bias)|blocks\.\d+\..+|norm\.(?:weight|"
        r"bias)"
    )
    if backbone.endswith("_reg"):
        kept += "|register_tokens"
    yield rf"{prefix}({kept})", r"backbone.\1"
    # Used in training DINOv2 itself.
    yield rf"{prefix}mask_token", None


def _transformers_rules(prefix: str) -> Iterator[Rule]:
    """ViT as the library transformers names it, up to version 4 and since version 5."""
    yield rf"{prefix}embeddings\.cls_token", "backbone.cls_token"
    yield rf"{prefix}embeddings\.position_embeddings", "backbone.pos_embed"
    yield (
        rf"{prefix}embeddings\.patch_embeddings\.projection\.(weight|bias)",
        r"backbone.patch_embed.proj.\1",
    )
    block = rf"{prefix}(?:encoder\.)?layers?\.(\d+)\."
    for number, (old, new) in enumerate(
        (("query", "q_proj"), ("key", "k_proj"), ("value", "v_proj"))
    ):
        yield (
            rf"{block}attention\.(?:attention\.{old}|{new})\.(weight|bias)",
            rf"backbone.blocks.\1.attn.qkv.\2#{number}",
        )
    yield (
        rf"{block}attention\.(?:output\.dense|o_proj)\.(weight|bias)",
        r"backbone.blocks.\1.attn.proj.\2",
    )
    yield (
        rf"{block}(?:intermediate\.dense|mlp\.fc1)\.(weight|bias)",
        r"backbone.blocks.\1.mlp.fc1.\2",
    )
    yield rf"{block}(?:output\.dense|mlp\.fc2)\.(weight|bias)", r"backbone.blocks.\1.mlp.fc2.\2"
    yield rf"{block}layernorm_before\.(weight|bias)", r"backbone.blocks.\1.norm1.\2"
    yield rf"{block}layernorm_after\.(weight|bias)", r"backbone.blocks.\1.norm2.\2"
    yield rf"{prefix}layernorm\.(weight|bias)", r"backbone.norm.\1"
    yield rf"{prefix}pooler\.dense\.(?:weight|bias)", None
