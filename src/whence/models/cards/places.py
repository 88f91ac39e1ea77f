"""Cards of models trained for place recognition: CosPlace, EigenPlaces, Divide&Classify, Conv-AP,
MixVPR, SALAD, BoQ, MegaLoc, AnyLoc, EarthLoc.

Licences of weights are those of the repository whose release the file is; files that only lie on a
cloud drive have an unknown one.
"""

from __future__ import annotations

from collections.abc import Iterator

from whence.cards import ModelCard, Origin, Preprocessing

_GSV_CITIES = "GSV-Cities (Google Street View; reported as CC BY-NC-ND)"
_SF_XL = "SF-XL, San Francisco (Google Street View; given out for research)"
_DINOV2 = "https://dl.fbaipublicfiles.com/dinov2"
_SHORT_512 = Preprocessing(short_side_px=512, interpolation="bilinear")
"""Trained at 512 pixels. The authors evaluate photos as they are; larger ones are brought to 512
here, as by their option."""


def _exact(side_px: int, interpolation: str = "bilinear") -> Preprocessing:
    return Preprocessing(size_px=(side_px, side_px), interpolation=interpolation)


_BACKBONES = {
    "VGG16": "vgg16",
    "ResNet18": "resnet18conv5",
    "ResNet50": "resnet50conv5",
    "ResNet101": "resnet101conv5",
    "ResNet152": "resnet152conv5",
}
_LARGE_DIMS = (32, 64, 128, 256, 512, 1024, 2048)
_COSPLACE_DIMS = {
    "VGG16": (64, 128, 256, 512),
    "ResNet18": (32, 64, 128, 256, 512),
    "ResNet50": _LARGE_DIMS,
    "ResNet101": _LARGE_DIMS,
    "ResNet152": _LARGE_DIMS,
}
_EIGENPLACES_DIMS = {
    "VGG16": (512,),
    "ResNet18": (256, 512),
    "ResNet50": (128, 256, 512, 1024, 2048),
    "ResNet101": (128, 256, 512, 1024, 2048),
}


def _classified() -> Iterator[ModelCard]:
    """CosPlace and EigenPlaces: one network, trained in two ways."""
    families = {
        "CosPlace": (
            _COSPLACE_DIMS,
            (
                "Berton, Masone, Caputo: Rethinking visual geo-localization for large-scale "
                "applications, CVPR 2022"
            ),
        ),
        "EigenPlaces": (
            _EIGENPLACES_DIMS,
            "Berton, Trivigno, Caputo, Masone: EigenPlaces, training viewpoint robust models for "
            "visual place recognition, ICCV 2023",
        ),
    }
    for method, (all_dims, citation) in families.items():
        for theirs, dims in all_dims.items():
            for dim in dims:
                file = f"{theirs}_{dim}_{method.lower()}.pth"
                yield ModelCard(
                    name=f"{method.lower()}-{theirs.lower()}-{dim}",
                    summary=(
                        f"{method} with {theirs}: a compact descriptor for streets, trained by "
                        "classification"
                    ),
                    dim=dim,
                    preprocessing=_SHORT_512,
                    licence="MIT",
                    weights=f"the authors' release v1.0, {file}",
                    training_data=_SF_XL,
                    citation=citation,
                    weights_licence="MIT",
                    origins=(
                        Origin(
                            "url",
                            f"https://github.com/gmberton/{method}/releases/download/v1.0/{file}",
                            file,
                        ),
                    ),
                    backbone=_BACKBONES[theirs],
                    aggregator="cosplace",
                    aggregator_options={"dim": dim},
                    keys="cosplace",
                )


def _of_cells() -> Iterator[ModelCard]:
    """Divide&Classify's network; the cells that its file knows besides are
    `whence.index.cells.published`'s."""
    file = "divide_and_classify_efficientnet_b0_aamc.pth"
    yield ModelCard(
        name="divide-and-classify-efficientnet_b0-1280",
        summary=(
            "Divide&Classify: tells the cell of a map that a photo was taken in; whence index "
            "--cells"
        ),
        dim=1280,
        preprocessing=Preprocessing(short_side_px=256, enlarge=True, interpolation="bilinear"),
        licence="unknown",
        weights=(
            "the authors' cloud drive: EfficientNet-B0 with AAMC, cells of 20 m in 2 x 2 groups"
        ),
        training_data=_SF_XL,
        citation="Trivigno, Berton, Aragon, Caputo, Masone: Divide&Classify, fine-grained "
        "classification for city-wide visual geo-localization, ICCV 2023",
        weights_licence="unknown",
        origins=(Origin("drive", "19XOV8AIHQE05I1rVeedtGZjU4hpiNFh0", file),),
        backbone="efficientnet_b0",
        aggregator="spoc",
        aggregator_options={"l2": "none", "fc_dim": 1280},
        keys="divide-and-classify",
        limits="San Francisco, in the cells of its training: elsewhere its cells say nothing, and "
        "its descriptors were not made for search",
    )


def _convolutional() -> Iterator[ModelCard]:
    """Conv-AP and MixVPR: ResNet-50 at 320 x 320, of GSV-Cities."""
    for dim in (512, 2048, 4096, 8192):
        file = f"resnet50_ConvAP_{dim // 4}_2x2.ckpt"
        folder = (
            "the Google Drive folder 1VYPw9uGD11NgiGFgfWueLt3noJYOIuhL of the authors of GSV-Cities"
        )
        yield ModelCard(
            name=f"convap-resnet50-{dim}",
            summary=(
                "Conv-AP: a 1 x 1 convolution and averages over 2 x 2 cells, of a whole ResNet-50"
            ),
            dim=dim,
            preprocessing=_exact(320),
            licence="unknown",
            weights=f"the authors' cloud drive, {file}",
            training_data=_GSV_CITIES,
            citation="Ali-bey, Chaib-draa, Giguere: GSV-Cities, "
            "toward appropriate supervised visual place recognition, Neurocomputing 2022",
            weights_licence="unknown",
            origins=(Origin("manual", f"{file} from {folder}", file),),
            backbone="resnet50conv5",
            aggregator="convap",
            aggregator_options={"channels_out": dim // 4},
            keys="gsv",
        )
    drive_ids = {
        128: "1DQnefjk1hVICOEYPwE4-CZAZOvi1NSJz",
        512: "1khiTUNzZhfV2UUupZoIsPIbsMRBYVDqj",
        4096: "1vuz3PvnR7vxnDDLQrdHJaOA04SQrtk5L",
    }
    for dim, (channels, rows) in {128: (64, 2), 512: (256, 2), 4096: (1024, 4)}.items():
        file = f"resnet50_MixVPR_{dim}_channels({channels})_rows({rows}).ckpt"
        yield ModelCard(
            name=f"mixvpr-resnet50-{dim}",
            summary=(
                "MixVPR: the map of a ResNet-50 mixed by four small perceptrons over all positions"
            ),
            dim=dim,
            preprocessing=_exact(320),
            licence="unknown",
            weights=f"the authors' cloud drive, {file}",
            training_data=_GSV_CITIES,
            citation=(
                "Ali-bey, Chaib-draa, Giguere: MixVPR, feature mixing for visual place "
                "recognition, WACV 2023"
            ),
            weights_licence="unknown",
            origins=(Origin("drive", drive_ids[dim], file),),
            backbone="resnet50conv4",
            aggregator="mixvpr",
            aggregator_options={"channels_out": channels, "rows": rows},
            keys="gsv",
        )


def _boq(
    name: str, dim: int, side_px: int, backbone: str, *, has_final_norm: bool | None, channels: int
) -> ModelCard:
    return ModelCard(
        name=name,
        summary="Bag of Queries: learned queries gather what tells places apart",
        dim=dim,
        preprocessing=_exact(side_px, "bicubic"),
        licence="MIT",
        weights="the authors' release v1.0",
        training_data=_GSV_CITIES,
        citation=(
            "Ali-bey, Chaib-draa, Giguere: BoQ, a place is worth a bag of learnable queries, CVPR "
            "2024"
        ),
        weights_licence="MIT" if has_final_norm is None else "MIT AND Apache-2.0",
        origins=(
            Origin(
                "url",
                f"https://github.com/amaralibey/Bag-of-Queries/releases/download/v1.0/{name.split('-')[1]}_{dim}.pth",
                f"boq_{name.split('-')[1]}_{dim}.pth",
            ),
        ),
        backbone=backbone,
        backbone_options={} if has_final_norm is None else {"has_final_norm": has_final_norm},
        aggregator="boq",
        aggregator_options={"width": channels},
        keys="boq",
    )


_SALAD = "Izquierdo, Civera: Optimal transport aggregation for visual place recognition, CVPR 2024"


def _transformers() -> Iterator[ModelCard]:
    """SALAD, CliqueMining and MegaLoc: DINOv2 ViT-B/14 with optimal transport."""
    yield ModelCard(
        name="salad-dinov2-8448",
        summary="SALAD: DINOv2 patches assigned to 64 clusters by optimal transport",
        dim=8448,
        preprocessing=_exact(322),
        licence="GPL-3.0",
        weights="the authors' release v1.0.0, dino_salad.ckpt",
        training_data=_GSV_CITIES,
        citation=_SALAD,
        weights_licence="GPL-3.0",
        origins=(
            Origin(
                "url",
                "https://github.com/serizba/salad/releases/download/v1.0.0/dino_salad.ckpt",
                "dino_salad.ckpt",
            ),
        ),
        backbone="dinov2_vitb14",
        aggregator="salad",
        keys="salad",
    )
    yield ModelCard(
        name="cliquemining-dinov2-8448",
        summary=(
            "SALAD trained with cliques of near places as well: better where many streets look "
            "alike"
        ),
        dim=8448,
        preprocessing=_exact(322),
        licence="GPL-3.0",
        weights="the authors' cloud drive",
        training_data=f"{_GSV_CITIES}; MSLS (Mapillary)",
        citation="Izquierdo, Civera: Close, but not there, boosting "
        f"geographic distance sensitivity in visual place recognition, ECCV 2024; {_SALAD}",
        weights_licence="unknown",
        origins=(Origin("drive", "1B06ysb-Wjb4KDcNrl-7pyj1mJve1jqdk", "cliquemining.ckpt"),),
        backbone="dinov2_vitb14",
        aggregator="salad",
        keys="salad",
    )
    yield ModelCard(
        name="megaloc-dinov2-8448",
        summary="MegaLoc: one descriptor for streets, landmarks and rooms",
        dim=8448,
        preprocessing=_exact(322),
        licence="MIT",
        weights=(
            "the authors' repository on the hub, or their earlier release v1.0, whose keys have "
            "other names"
        ),
        training_data="SF-XL, GSV-Cities, MSLS, MegaScenes, ScanNet",
        citation="Berton, Masone: MegaLoc, one retrieval to place them all, CVPR 2025 workshops",
        weights_licence="MIT",
        origins=(
            Origin(
                "hub", "gberton/MegaLoc", "megaloc.safetensors", source_file="model.safetensors"
            ),
            Origin(
                "url",
                "https://github.com/gmberton/MegaLoc/releases/download/v1.0/megaloc.torch",
                "megaloc.torch",
            ),
        ),
        backbone="dinov2_vitb14",
        backbone_options={"takes_any_size": True},
        aggregator="megaloc",
        keys="megaloc",
    )


def _anyloc() -> Iterator[ModelCard]:
    """AnyLoc: DINOv2 ViT-g/14 as it is, pooled by vocabularies for six kinds of places."""
    for domain in ("indoor", "urban", "aerial", "structured", "unstructured", "global"):
        file = f"dinov2_vitg14_l31_value_c32_{domain}_c_centers.pt"
        yield ModelCard(
            name=f"anyloc-dinov2_vitg14-49152-{domain}",
            summary=(
                f"AnyLoc: values of DINOv2 ViT-g pooled by VLAD, vocabulary {domain}; no training "
                "for places; slow and large"
            ),
            dim=49152,
            preprocessing=Preprocessing(long_side_px=1024, multiple_of=14, interpolation="bicubic"),
            licence="BSD-3-Clause",
            weights=f"the authors' release v1, {file}, and DINOv2's own weights",
            training_data="DINOv2's LVD-142M; the vocabulary: sets of that kind of place",
            citation="Keetha et al.: AnyLoc, towards universal "
            "visual place recognition, RA-L 2024; "
            "Oquab et al.: DINOv2, learning robust visual features without supervision, TMLR 2024",
            weights_licence="BSD-3-Clause AND Apache-2.0",
            origins=(
                Origin("url", f"https://github.com/AnyLoc/DINO/releases/download/v1/{file}", file),
            ),
            backbone_origins=(
                Origin(
                    "url",
                    f"{_DINOV2}/dinov2_vitg14/dinov2_vitg14_pretrain.pth",
                    "dinov2_vitg14_pretrain.pth",
                ),
            ),
            backbone="dinov2_vitg14",
            backbone_options={"num_blocks": 32, "facet": "value"},
            aggregator="vlad",
            aggregator_options={"num_words": 32},
            keys="anyloc",
        )


def _from_space() -> Iterator[ModelCard]:
    yield ModelCard(
        name="earthloc-resnet50-4096",
        summary=(
            "EarthLoc: photos from space against satellite tiles, which are shown at four rotations"
        ),
        dim=4096,
        preprocessing=_exact(320),
        licence="unknown",
        weights="the authors' server, best_trained_model.pt",
        training_data="Sentinel-2 cloudless mosaics of 2018 to 2021",
        citation="Berton, Stoken, Caputo, Masone: EarthLoc, astronaut photography localization by "
        "indexing Earth from space, CVPR 2024",
        weights_licence="unknown",
        origins=(
            Origin(
                "manual",
                (
                    "best_trained_model.pt by rsync from vandaldata.polito.it, module sf_xl, path "
                    "EarthLoc/data"
                ),
                "earthloc_best_trained_model.pt",
            ),
        ),
        backbone="resnet50conv4",
        aggregator="mixvpr",
        aggregator_options={"channels_out": 1024, "rows": 4, "fc_dim": 4096},
        keys="earthloc",
    )


def _sequences() -> Iterator[ModelCard]:
    yield ModelCard(
        name="jist-resnet18-512",
        summary="JIST: CosPlace trained on images and sequences together, frames pooled by SeqGeM",
        dim=512,
        preprocessing=Preprocessing(size_px=(480, 640), interpolation="bilinear"),
        licence="unknown",
        weights="the authors' file share",
        training_data=f"{_SF_XL}; MSLS (Mapillary)",
        citation="Berton, Trivigno, Caputo, Masone: JIST, joint image and sequence training for "
        "sequential visual place recognition, RA-L 2024",
        weights_licence="unknown",
        origins=(
            Origin(
                "manual",
                "the ResNet-18 model of dimension 512 with SeqGeM from the authors' file share",
                "jist_r18_512.pth",
            ),
        ),
        backbone="resnet18conv5",
        aggregator="cosplace",
        aggregator_options={"dim": 512},
        sequence="seqgem",
        sequence_length=5,
        keys="jist",
    )


PLACE_CARDS: tuple[ModelCard, ...] = (
    *_classified(),
    *_of_cells(),
    *_convolutional(),
    _boq("boq-resnet50-16384", 16384, 384, "resnet50conv4", has_final_norm=None, channels=512),
    _boq("boq-dinov2-12288", 12288, 322, "dinov2_vitb14", has_final_norm=False, channels=384),
    *_transformers(),
    *_anyloc(),
    *_from_space(),
    *_sequences(),
)
