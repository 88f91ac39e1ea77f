"""Cards of the GeoWarp scorers: the six published regressors, each for its retrieval network's backbone. Data only, no torch."""

from __future__ import annotations

from whence.registry import Entry, ModelCard, Origin, Preprocessing

_BACKBONES = {"alexnet": ("alexnet", 256), "vgg16": ("vgg16", 512), "resnet50": ("resnet50conv4", 1024)}
"""The authors' names, ours, and the backbone's channels."""


def _entry(theirs: str, method: str, *, name: str = "") -> Entry:
    backbone, channels = _BACKBONES[theirs]
    network = f"{method}-{backbone}-{64 * channels if method == 'netvlad' else channels}-geowarp"
    file = f"trained_homography_regressions/{theirs}_{method}.pth"
    card = ModelCard(
        name=name or f"geowarp-{method}-{backbone}",
        summary=f"both photos brought to one viewpoint and compared cell by cell, by the backbone of {network}",
        dim=0,
        preprocessing=Preprocessing(long_side_px=640),
        licence="MIT",
        weights=f"the authors' cloud drive, {file} in one archive, and the weights of {network}",
        training_data="Pitts30k (Google Street View)",
        citation="Berton, Masone, Paolicelli, Caputo: Viewpoint invariant dense matching for visual geolocalization, ICCV 2021",
        similarity="sum over 15 x 15 cells of inner products of unit vectors",
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
    return Entry("whence.models.warp_scorer:open_geowarp", card, options={"name": card.name, "published_for": network})


_PUBLISHED = tuple(_entry(theirs, method) for theirs in _BACKBONES for method in ("gem", "netvlad"))
ENTRIES: dict[str, Entry] = {entry.card.name: entry for entry in _PUBLISHED if entry.card is not None}
"""What `whence.registry.SCORERS` takes over."""
# Without a further name: the one with the best published recall.
ENTRIES["geowarp"] = _entry("resnet50", "netvlad", name="geowarp")
