"""Cards of the descriptors out of EfficientNet-Lite0, nothing trained. Data only, no torch."""

from __future__ import annotations

from dataclasses import replace

from whence.cards import Entry, ModelCard, Origin, Preprocessing
from whence.models.cards.backbones import BACKBONES, LITE_STEPS

_BACKBONE = BACKBONES["efficientnet_lite0"]
_WHAT = {
    "grid": (256, "a coarse grid: for one route walked again, in another season or light"),
    "gem": (192, "a pooled vector: for places seen from elsewhere"),
    "both": (448, "a coarse grid and a pooled vector: small, fast, without torch"),
}


def _entry(kind: str) -> Entry:
    dim, what = _WHAT[kind]
    card = ModelCard(
        name=f"lite0-{kind}-{dim}",
        summary=(
            f"ImageNet features of EfficientNet-Lite0, nothing trained: {what}; 17 MB are fetched "
            "once"
        ),
        dim=dim,
        preprocessing=Preprocessing(
            long_side_px=320, enlarge=True, mean=LITE_STEPS.mean, std=LITE_STEPS.std
        ),
        licence="MIT",
        weights=(
            "EfficientNet-Lite0 as released; a half whitening fitted on the database's own "
            "photos, a packaged one below 50"
        ),
        training_data="ImageNet-1k; the packaged whitening: rendered streets",
        citation=f"{_BACKBONE.citation}; Radenovic, Tolias, Chum: "
        "Fine-tuning CNN image retrieval with no human annotation, PAMI 2019",
        is_fitted_on_database=True,
        weights_licence=_BACKBONE.weights_licence,
        origins=_BACKBONE.origins,
        limits=(
            "it was never taught places: rendered streets seen from other points are better "
            "placed by rootsift-vlad"
        ),
    )
    return Entry("whence.models.lite:open_lite", card, options={"kind": kind})


_OWN = ModelCard(
    name="whence-lite0-448",
    summary=(
        "the project's own network: EfficientNet-Lite0 as released and a small head that learned "
        "on rendered streets; no torch"
    ),
    dim=448,
    preprocessing=Preprocessing(
        long_side_px=320, enlarge=True, mean=LITE_STEPS.mean, std=LITE_STEPS.std
    ),
    licence="MIT",
    weights="EfficientNet-Lite0's blocks 0 to 12 as released "
    "(Apache-2.0), unchanged but for float16 and folded batch norms; the head: random weights, "
    "seed 0, trained by `whence train whence-lite0 --dataset FOLDER/train/train --val FOLDER/val "
    "--val-split val --out RUN`; written by `python tools/pack_network.py RUN/final.safetensors`; "
    "a half whitening fitted on the database's own photos",
    training_data="ImageNet-1k (the blocks); six rendered cities of 3,000 photos, `python "
    "tools/render_training_cities.py FOLDER` (the head); no photo of a place",
    citation=(
        f"{_BACKBONE.citation}; Radenovic, Tolias, Chum: Fine-tuning CNN image retrieval with no "
        "human annotation, PAMI 2019"
    ),
    is_fitted_on_database=True,
    weights_licence="Apache-2.0 AND MIT",
    origins=(Origin("packaged", "whence.models", "whence-lite0-448.onnx"),),
    limits="its head has learned from rendered streets alone",
)
ENTRIES: dict[str, Entry] = {
    entry.card.name: entry for entry in map(_entry, _WHAT) if entry.card is not None
}
_WITH_WORDS = replace(
    _OWN,
    name="whence-lite0-words-960",
    summary=(
        "the project's own network and the words of RootSIFT keypoints in one vector: the "
        "default; no torch"
    ),
    dim=960,
    preprocessing=Preprocessing(long_side_px=640),
    weights=f"{_OWN.weights}, as are the words",
    citation=f"{_OWN.citation}; Lowe: Distinctive image features "
    "from scale-invariant keypoints, IJCV 2004; Jegou et al.: Aggregating local descriptors into "
    "a compact image representation, CVPR 2010",
)
ENTRIES[_OWN.name] = Entry("whence.models.lite:open_lite", _OWN, options={"kind": "whence"})
ENTRIES[_WITH_WORDS.name] = Entry(
    "whence.models.joined:open_joined", _WITH_WORDS, options={"kind": "whence"}
)
