"""Cards of the GeoWarp scorers: our own two regressors, and the six published, each for its
backbone. Data only, no torch."""

from __future__ import annotations

from whence.cards import Entry, ModelCard, Origin, Preprocessing
from whence.models.cards.backbones import BACKBONES, LITE_STEPS

_BACKBONES = {
    "alexnet": ("alexnet", 256),
    "vgg16": ("vgg16", 512),
    "resnet50": ("resnet50conv4", 1024),
}
"""The authors' names, ours, and the backbone's channels."""


_OWN_NETWORK = "whence-resnet18conv4-gem-256"
_CITATION = (
    "Berton, Masone, Paolicelli, Caputo: Viewpoint invariant dense matching for visual "
    "geolocalization, ICCV 2021"
)
_SIMILARITY = "sum over 15 x 15 cells of inner products of unit vectors"
_OPENER = "whence.models.warp.opening:open_geowarp"
_LITE = "efficientnet_lite0_block10"
_ON_LITE = ModelCard(
    name="geowarp",
    summary=(
        "both photos brought to one viewpoint and compared cell by cell, by EfficientNet-Lite0 up "
        "to block 10; needs no torch"
    ),
    dim=0,
    preprocessing=Preprocessing(long_side_px=320, mean=LITE_STEPS.mean, std=LITE_STEPS.std),
    licence="MIT",
    weights="the regressor of geowarp-resnet18conv4, trained further by `whence train geowarp-lite "
    "--dataset FOLDER/train --split train --val FOLDER/val --val-split val --out RUN` in 9 "
    "minutes on one core, and 8 in which pairs are found; the last step; written by `python "
    "tools/pack_regressor.py geowarp RUN/final.safetensors`",
    training_data=(
        "six rendered cities of 3,000 photos, `python tools/render_training_cities.py FOLDER`; "
        "below it ImageNet-1k"
    ),
    citation=f"{_CITATION}; {BACKBONES['efficientnet_lite0'].citation}",
    similarity=_SIMILARITY,
    weights_licence="MIT AND Apache-2.0",
    origins=(Origin("packaged", "whence.models", "geowarp-efficientnet_lite0.safetensors"),),
    backbone=_LITE,
    figures="recall@1 at 25 m on the validation city (200 "
    "queries), 5 candidates of lite0-both-448: 47.5 %; 36.0 without re-ranking, 19.0 without "
    "warping, 66.0 at most",
    limits=(
        "the regressor has never seen a photo of a camera; where keypoints match, they find the "
        "right photo more often"
    ),
)
_ON_RESNET = ModelCard(
    name="geowarp-resnet18conv4",
    summary=(
        "both photos brought to one viewpoint and compared cell by cell, by the backbone of "
        f"{_OWN_NETWORK}; comes with Whence"
    ),
    dim=0,
    preprocessing=Preprocessing(long_side_px=640),
    licence="MIT",
    weights="random weights, seed 0, trained by `whence train "
    f"geowarp-small --model {_OWN_NETWORK} --dataset FOLDER/train/train --val FOLDER/val "
    "--val-split val --out RUN` in 18 minutes on one core; the last step, better on the "
    "validation city's 500 queries than the one that 200 of them chose; written by `python "
    "tools/pack_regressor.py RUN/final.safetensors`",
    training_data=(
        "six rendered cities of 3,000 photos, `python tools/render_training_cities.py FOLDER`; no "
        "photo of a camera"
    ),
    citation=_CITATION,
    similarity=_SIMILARITY,
    weights_licence="MIT",
    origins=(Origin("packaged", "whence.models", f"geowarp-{_OWN_NETWORK}.safetensors"),),
    backbone="resnet18conv4",
    figures="recall@1 at 25 m on the validation city (500 queries), 5 candidates: 66.2 %; 57.2 "
    "without re-ranking, 48.8 without warping, 78.0 at most",
    limits="it has never seen a photo of a camera",
)


def _entry(theirs: str, method: str) -> Entry:
    backbone, channels = _BACKBONES[theirs]
    network = f"{method}-{backbone}-{64 * channels if method == 'netvlad' else channels}-geowarp"
    file = f"trained_homography_regressions/{theirs}_{method}.pth"
    card = ModelCard(
        name=f"geowarp-{method}-{backbone}",
        summary=(
            "both photos brought to one viewpoint and compared cell by cell, by the backbone of "
            f"{network}"
        ),
        dim=0,
        preprocessing=Preprocessing(long_side_px=640),
        licence="MIT",
        weights=f"the authors' cloud drive, {file} in one archive, and the weights of {network}",
        training_data="Pitts30k (Google Street View)",
        citation=_CITATION,
        similarity=_SIMILARITY,
        weights_licence="unknown",
        origins=(
            Origin(
                "drive",
                "14rEDzPYbLThfIHzT5wlP5le8ILQObqmf",
                f"geowarp_regression_{theirs}_{method}.pth",
                source_file=file,
                archive="geowarp_trained_homography_regressions.archive",
            ),
        ),
        backbone=backbone,
    )
    return Entry(_OPENER, card, options={"name": card.name, "made_for": network})


_PUBLISHED = tuple(_entry(theirs, method) for theirs in _BACKBONES for method in ("gem", "netvlad"))
ENTRIES: dict[str, Entry] = {
    entry.card.name: entry for entry in _PUBLISHED if entry.card is not None
}
ENTRIES["geowarp-resnet18conv4"] = Entry(
    _OPENER,
    _ON_RESNET,
    options={
        "name": "geowarp-resnet18conv4",
        "made_for": _OWN_NETWORK,
        "sampling": "exact",
        "long_side_px": 256,
    },
)
ENTRIES["geowarp"] = Entry(
    _OPENER,
    _ON_LITE,
    options={"name": "geowarp", "made_for": _LITE, "sampling": "exact", "long_side_px": 320},
)
