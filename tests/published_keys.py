"""Names and shapes of the tensors in published files of weights, as the specifications state them:
tables of their own, in the published order, that know nothing of Whence's modules."""

from __future__ import annotations

from collections.abc import Callable

from whence.cards import ModelCard

Shape = tuple[int, ...]
Table = dict[str, Shape]

BLOCKS = {18: (2, 2, 2, 2), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
VGG = {
    0: 64,
    2: 64,
    5: 128,
    7: 128,
    10: 256,
    12: 256,
    14: 256,
    17: 512,
    19: 512,
    21: 512,
    24: 512,
    26: 512,
    28: 512,
}
ALEXNET = {
    0: (64, 3, 11, 11),
    3: (192, 64, 5, 5),
    6: (384, 192, 3, 3),
    8: (256, 384, 3, 3),
    10: (256, 256, 3, 3),
}
INDEX = {"conv1": "0", "bn1": "1", "layer1": "4", "layer2": "5", "layer3": "6", "layer4": "7"}


def norm(name: str, width: int) -> Table:
    sides = {
        "weight": (width,),
        "bias": (width,),
        "running_mean": (width,),
        "running_var": (width,),
        "num_batches_tracked": (),
    }
    return {f"{name}.{leaf}": shape for leaf, shape in sides.items()}


def affine(name: str, *shape: int) -> Table:
    return {f"{name}.weight": shape, f"{name}.bias": (shape[0],)}


def resnet(depth: int, num_stages: int, name: Callable[[str], str]) -> Table:
    """torchvision's names; `name` gives what stands for conv1, bn1, layer1 ... there."""
    table: Table = {f"{name('conv1')}.weight": (64, 3, 7, 7), **norm(name("bn1"), 64)}
    width_in = 64
    for stage in range(num_stages):
        width = 64 * 2**stage
        width_out = width if depth == 18 else 4 * width
        for block in range(BLOCKS[depth][stage]):
            at = f"{name(f'layer{stage + 1}')}.{block}"
            kernels = ((width, width_in, 3), (width, width, 3))
            if depth > 18:
                kernels = ((width, width_in, 1), (width, width, 3), (width_out, width, 1))
            for i, (rows, columns, side) in enumerate(kernels, 1):
                table |= {
                    f"{at}.conv{i}.weight": (rows, columns, side, side),
                    **norm(f"{at}.bn{i}", rows),
                }
            if block == 0 and width_in != width_out:
                table |= {
                    f"{at}.downsample.0.weight": (width_out, width_in, 1, 1),
                    **norm(f"{at}.downsample.1", width_out),
                }
            width_in = width_out
    return table


def indexed_cnn(backbone: str, prefix: str) -> Table:
    """The cut network as a plain sequence: AlexNet, VGG16, or a ResNet by the places of its
    parts."""
    if backbone == "alexnet":
        return {
            key: shape
            for i, sides in ALEXNET.items()
            for key, shape in affine(f"{prefix}{i}", *sides).items()
        }
    if backbone == "vgg16":
        table, width_in = {}, 3
        for i, width in VGG.items():
            table |= affine(f"{prefix}{i}", width, width_in, 3, 3)
            width_in = width
        return table
    depth, stages = backbone.removeprefix("resnet").split("conv")
    return resnet(int(depth), int(stages) - 1, lambda part: prefix + INDEX[part])


def named_resnet(backbone: str, prefix: str) -> Table:
    depth, stages = backbone.removeprefix("resnet").split("conv")
    return resnet(int(depth), int(stages) - 1, lambda part: prefix + part)


def efficientnet_b0(prefix: str) -> Table:
    """torchvision's `features`."""

    def convolution(name: str, rows: int, columns: int, side: int) -> Table:
        return {f"{name}.0.weight": (rows, columns, side, side), **norm(f"{name}.1", rows)}

    table = convolution(f"{prefix}0", 32, 3, 3)
    width_in = 32
    stages = (
        (1, 3, 16, 1),
        (6, 3, 24, 2),
        (6, 5, 40, 2),
        (6, 3, 80, 3),
        (6, 5, 112, 3),
        (6, 5, 192, 4),
        (6, 3, 320, 1),
    )
    for stage, (expansion, side, width, num_blocks) in enumerate(stages, 1):
        for i in range(num_blocks):
            at, wide, part = f"{prefix}{stage}.{i}.block", expansion * width_in, 0
            if expansion > 1:
                table |= convolution(f"{at}.0", wide, width_in, 1)
                part = 1
            table |= convolution(f"{at}.{part}", wide, 1, side)
            squeezed = width_in // 4
            table |= affine(f"{at}.{part + 1}.fc1", squeezed, wide, 1, 1)
            table |= affine(f"{at}.{part + 1}.fc2", wide, squeezed, 1, 1)
            table |= convolution(f"{at}.{part + 2}", width, wide, 1)
            width_in = width
    return {**table, **convolution(f"{prefix}8", 1280, width_in, 1)}


def compact(prefix: str, num_blocks: int) -> Table:
    """CCT-14/7x2 at 384."""
    table: Table = {
        f"{prefix}tokenizer.conv_layers.0.0.weight": (64, 3, 7, 7),
        f"{prefix}tokenizer.conv_layers.1.0.weight": (384, 64, 7, 7),
        f"{prefix}classifier.positional_emb": (1, 576, 384),
        **affine(f"{prefix}classifier.attention_pool", 1, 384),
    }
    for i in range(num_blocks):
        at = f"{prefix}classifier.blocks.{i}"
        table |= {
            **affine(f"{at}.pre_norm", 384),
            f"{at}.self_attn.qkv.weight": (1152, 384),
            **affine(f"{at}.self_attn.proj", 384, 384),
            **affine(f"{at}.linear1", 1152, 384),
            **affine(f"{at}.norm1", 384),
            **affine(f"{at}.linear2", 384, 1152),
        }
    return {**table, **affine(f"{prefix}classifier.norm", 384)}


def vit(prefix: str, *, version: int = 4, num_blocks: int = 12, side: int = 14) -> Table:
    """ViT-B/16 as the library transformers names it, versions 4 and 5."""
    table: Table = {
        f"{prefix}embeddings.cls_token": (1, 1, 768),
        f"{prefix}embeddings.position_embeddings": (1, side * side + 1, 768),
        **affine(f"{prefix}embeddings.patch_embeddings.projection", 768, 3, 16, 16),
    }
    for i in range(num_blocks):
        if version == 4:
            at = f"{prefix}encoder.layer.{i}"
            attention = [
                f"{at}.attention.attention.{part}" for part in ("query", "key", "value")
            ] + [f"{at}.attention.output.dense"]
            up, down = f"{at}.intermediate.dense", f"{at}.output.dense"
        else:
            at = f"{prefix}layers.{i}"
            attention = [f"{at}.attention.{part}_proj" for part in "qkvo"]
            up, down = f"{at}.mlp.fc1", f"{at}.mlp.fc2"
        for part in attention:
            table |= affine(part, 768, 768)
        table |= {**affine(up, 3072, 768), **affine(down, 768, 3072)}
        table |= {**affine(f"{at}.layernorm_before", 768), **affine(f"{at}.layernorm_after", 768)}
    return {
        **table,
        **affine(f"{prefix}layernorm", 768),
        **affine(f"{prefix}pooler.dense", 768, 768),
    }


def dinov2(
    prefix: str,
    *,
    width: int = 768,
    num_blocks: int = 12,
    has_mask: bool = True,
    is_giant: bool = False,
) -> Table:
    """The official DINOv2 at patch 14."""
    table: Table = {f"{prefix}cls_token": (1, 1, width), f"{prefix}pos_embed": (1, 1370, width)}
    if has_mask:
        table[f"{prefix}mask_token"] = (1, width)
    table |= affine(f"{prefix}patch_embed.proj", width, 3, 14, 14)
    for i in range(num_blocks):
        at = f"{prefix}blocks.{i}"
        table |= {**affine(f"{at}.norm1", width), **affine(f"{at}.attn.qkv", 3 * width, width)}
        table |= {
            **affine(f"{at}.attn.proj", width, width),
            f"{at}.ls1.gamma": (width,),
            **affine(f"{at}.norm2", width),
        }
        if is_giant:
            table |= {**affine(f"{at}.mlp.w12", 8192, width), **affine(f"{at}.mlp.w3", width, 4096)}
        else:
            table |= {
                **affine(f"{at}.mlp.fc1", 4 * width, width),
                **affine(f"{at}.mlp.fc2", width, 4 * width),
            }
        table[f"{at}.ls2.gamma"] = (width,)
    return {**table, **affine(f"{prefix}norm", width)}


def salad(prefix: str, *, width: int = 768, word_dim: int = 128) -> Table:
    return {
        f"{prefix}dust_bin": (),
        **affine(f"{prefix}token_features.0", 512, width),
        **affine(f"{prefix}token_features.2", 256, 512),
        **affine(f"{prefix}cluster_features.0", 512, width, 1, 1),
        **affine(f"{prefix}cluster_features.3", word_dim, 512, 1, 1),
        **affine(f"{prefix}score.0", 512, width, 1, 1),
        **affine(f"{prefix}score.3", 64, 512, 1, 1),
    }


def mixer(channels_out: int, rows: int) -> Table:
    table: Table = {}
    for i in range(4):
        at = f"aggregator.mix.{i}.mix"
        table |= {
            **affine(f"{at}.0", 400),
            **affine(f"{at}.1", 400, 400),
            **affine(f"{at}.3", 400, 400),
        }
    return {
        **table,
        **affine("aggregator.channel_proj", channels_out, 1024),
        **affine("aggregator.row_proj", rows, 400),
    }


def queries(channels: int, width: int) -> Table:
    """BoQ with 64 queries in each of 2 blocks."""
    table: Table = {
        **affine("aggregator.proj_c", width, channels, 3, 3),
        **affine("aggregator.norm_input", width),
    }
    for i in range(2):
        at = f"aggregator.boqs.{i}"
        table[f"{at}.queries"] = (1, 64, width)
        table |= attention(f"{at}.encoder.self_attn", width)
        table |= {
            **affine(f"{at}.encoder.linear1", 4 * width, width),
            **affine(f"{at}.encoder.linear2", width, 4 * width),
        }
        table |= {**affine(f"{at}.encoder.norm1", width), **affine(f"{at}.encoder.norm2", width)}
        table |= {**attention(f"{at}.self_attn", width), **affine(f"{at}.norm_q", width)}
        table |= {**attention(f"{at}.cross_attn", width), **affine(f"{at}.norm_out", width)}
    return {**table, **affine("aggregator.fc", 32, 128)}


def attention(name: str, width: int) -> Table:
    packed: Table = {
        f"{name}.in_proj_weight": (3 * width, width),
        f"{name}.in_proj_bias": (3 * width,),
    }
    return {**packed, **affine(f"{name}.out_proj", width, width)}


def netvlad(prefix: str, channels: int, *, is_tokens: bool = False) -> Table:
    ones = (1,) if is_tokens else (1, 1)
    return {f"{prefix}.centroids": (64, channels), f"{prefix}.conv.weight": (64, channels, *ones)}


def reweighting(channels: int) -> Table:
    """What CRN adds to NetVLAD."""
    table: Table = {}
    for side, rows in ((3, 32), (5, 32), (7, 20)):
        table |= affine(f"aggregation.crn.filter_{side}_{side}", rows, channels, side, side)
    return {**table, **affine("aggregation.crn.acc_w", 1, 84, 1, 1)}


def cosplace(backbone: str, channels: int, dim: int) -> Table:
    return {
        **indexed_cnn(backbone, "backbone."),
        "aggregation.1.p": (1,),
        **affine("aggregation.3", dim, channels),
    }


def channels_of(backbone: str) -> int:
    if backbone.startswith("resnet18"):
        return 512 if backbone.endswith("5") else 256
    if backbone.startswith("resnet"):
        return 2048 if backbone.endswith("5") else 1024
    return {"alexnet": 256, "vgg16": 512, "cct384": 384, "vit_b16_224": 768}[backbone]


def benchmark(card: ModelCard) -> Table:
    backbone = card.backbone
    channels = channels_of(backbone)
    if backbone == "cct384":
        return {**compact("backbone.", 8), **netvlad("aggregation", channels, is_tokens=True)}
    if backbone.startswith("vit"):
        return vit("backbone.vit_model.")
    heads = {
        "gem": {"aggregation.1.p": (1,)},
        "gem-fc": {"aggregation.0.1.p": (1,), **affine("aggregation.1", card.dim, channels)},
        "netvlad": netvlad("aggregation", channels),
        "crn": {**netvlad("aggregation", channels), **reweighting(channels)},
    }
    return {**indexed_cnn(backbone, "backbone."), **heads[card.aggregator]}


def segvpr(backbone: str, head: str) -> Table:
    """SegVPR's checkpoint: encoder, head, attention, pooling, and the opponent."""
    table = {
        **named_resnet(backbone.replace("conv4_5", "conv5"), "sem_branch.encoder."),
        "vpr_pooling.p": (1,),
    }
    if head == "deeplab":
        for number in range(4):
            table |= affine(f"sem_branch.cls.conv2d_list.{number}", 17, 2048, 3, 3)
    else:
        for number in range(4):
            table |= {f"sem_branch.ppm.features.{number}.1.weight": (512, 2048, 1, 1)}
            table |= norm(f"sem_branch.ppm.features.{number}.2", 512)
        table |= {"sem_branch.cls.0.weight": (512, 4096, 3, 3), **norm("sem_branch.cls.1", 512)}
        table |= affine("sem_branch.cls.4", 17, 512, 1, 1)
    for number, side in ((1, 3), (2, 5), (3, 7)):
        table |= affine(f"attention_layers.layer{number}", 64, 1024, side, side)
    table |= affine("attention_layers.final_conv", 1, 192, 1, 1)
    widths = (17, 64, 128, 256, 512)
    for number in range(4):
        table |= affine(f"DA.conv{number + 1}", widths[number + 1], widths[number], 4, 4)
    return {**table, **affine("DA.classifier", 1, 512, 4, 4)}


def published(card: ModelCard) -> Table:
    """Names and shapes in the card's published file."""
    method = card.name.split("-")[0]
    backbone, dim = card.backbone, card.dim
    if card.name.endswith("-geowarp"):
        channels = channels_of(backbone)
        pool = {"pool.1.p": (1,)} if method == "gem" else netvlad("pool", channels)
        return {**indexed_cnn(backbone, "encoder."), **pool}
    if method in ("gem", "gemfc", "netvlad", "crn", "cls"):
        return benchmark(card)
    if method in ("cosplace", "eigenplaces"):
        return cosplace(backbone, channels_of(backbone), dim)
    if method == "divide":
        return {**efficientnet_b0("backbone."), **affine("classifier.0", 1280, 1280)}
    if method == "jist":
        return {
            **{f"model.{key}": shape for key, shape in cosplace(backbone, 512, 512).items()},
            "seq_gem.p": (1,),
        }
    if method == "convap":
        return {
            **named_resnet("resnet50conv5", "backbone.model."),
            **affine("aggregator.channel_pool", dim // 4, 2048, 1, 1),
        }
    if method == "mixvpr":
        channels, rows = {128: (64, 2), 512: (256, 2), 4096: (1024, 4)}[dim]
        return {**named_resnet("resnet50conv4", "backbone.model."), **mixer(channels, rows)}
    if method == "earthloc":
        return {
            **named_resnet("resnet50conv4", "backbone.model."),
            **mixer(1024, 4),
            **affine("fc", 4096, 4096),
        }
    if method == "boq":
        if backbone.startswith("resnet"):
            return {**indexed_cnn("resnet50conv4", "backbone.net."), **queries(1024, 512)}
        return {**dinov2("backbone.dino."), **queries(768, 384)}
    if method in ("salad", "cliquemining"):
        theirs = {**dinov2("backbone.model."), **salad("aggregator.")}
        return (
            {f"model.{name}": shape for name, shape in theirs.items()}
            if card.name.endswith("-mesh")
            else theirs
        )
    if method == "segvpr":
        return segvpr(backbone, card.name.split("-")[2])
    if method == "megaloc":
        return megaloc()
    if method == "anyloc":
        return {"": (32, 1536), **dinov2("", width=1536, num_blocks=40, is_giant=True)}
    if method == "seqvlad":
        return {**compact("encoder.", 8), **netvlad("aggregator", 384, is_tokens=True)}
    if method == "radenovic":
        return {
            **indexed_cnn(backbone, "features."),
            "pool.p": (1,),
            **affine("whiten", 2048, 2048),
        }
    if method == "apgem":
        return {
            **named_resnet(backbone, "module."),
            "module.adpool.p": (1,),
            **affine("module.fc", 2048, 2048),
        }
    raise AssertionError(f"no table for {card.name}")


def megaloc(*, is_old: bool = False) -> Table:
    backbone = dinov2("backbone.model.") if is_old else dinov2("backbone.", has_mask=False)
    return {
        **backbone,
        **salad("aggregator.agg.", word_dim=256),
        **affine("aggregator.linear", 8448, 16640),
    }


COUNTS = {
    "gem-resnet18conv4-256-msls": 91,
    "gem-resnet50conv4-1024-msls": 259,
    "gem-resnet101conv4-1024-msls": 565,
    "gem-vgg16-512-msls": 27,
    "cosplace-resnet18-512": 123,
    "cosplace-resnet50-2048": 321,
    "cosplace-resnet101-512": 627,
    "cosplace-resnet152-512": 933,
    "cosplace-vgg16-512": 29,
    "divide-and-classify-efficientnet_b0-1280": 360,
    "megaloc-dinov2-8448": 189,
    "segvpr-resnet50-deeplab-3072": 345,
    "segvpr-resnet50-psp-3072": 369,
    "earthloc-resnet50-4096": 288,
    "gem-alexnet-256-geowarp": 11,
    "netvlad-alexnet-16384-geowarp": 12,
    "gem-vgg16-512-geowarp": 27,
    "netvlad-vgg16-32768-geowarp": 28,
    "gem-resnet50conv4-1024-geowarp": 259,
}
"""How many tensors the specifications say that a card's published file holds."""
