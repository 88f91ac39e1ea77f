"""Cards of the descriptors out of EfficientNet-Lite0, nothing trained. Data only, no torch."""

from __future__ import annotations

from whence.cards import Entry, ModelCard, Preprocessing
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
        summary=f"ImageNet features of EfficientNet-Lite0, nothing trained: {what}; 17 MB are fetched once",
        dim=dim,
        preprocessing=Preprocessing(long_side_px=320, enlarge=True, mean=LITE_STEPS.mean, std=LITE_STEPS.std),
        licence="MIT",
        weights="EfficientNet-Lite0 as released; a half whitening fitted on the database's own photos, a packaged one below 50",
        training_data="ImageNet-1k; the packaged whitening: rendered streets",
        citation=f"{_BACKBONE.citation}; Radenovic, Tolias, Chum: Fine-tuning CNN image retrieval with no human annotation, "
        "PAMI 2019",
        is_fitted_on_database=True,
        weights_licence=_BACKBONE.weights_licence,
        origins=_BACKBONE.origins,
        limits="it was never taught places: rendered streets seen from other points are better placed by rootsift-vlad",
    )
    return Entry("whence.models.lite:open_lite", card, options={"kind": kind})


ENTRIES: dict[str, Entry] = {entry.card.name: entry for entry in map(_entry, _WHAT) if entry.card is not None}
