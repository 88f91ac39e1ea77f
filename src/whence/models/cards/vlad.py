"""Cards of the models without torch: keypoints pooled by VLAD."""

from __future__ import annotations

from whence.cards import Entry, ModelCard, Preprocessing

_VLAD = (
    "Jegou, Douze, Schmid, Perez: Aggregating local descriptors into a compact image "
    "representation, CVPR 2010"
)
ENTRIES: dict[str, Entry] = {
    "rootsift-vlad": Entry(
        "whence.models.vlad:rootsift_vlad",
        ModelCard(
            name="rootsift-vlad",
            summary=(
                "RootSIFT keypoints pooled by VLAD: no training, no download; for photos with "
                "detail"
            ),
            dim=8192,
            preprocessing=Preprocessing(long_side_px=640),
            licence="MIT",
            weights=(
                "a vocabulary of 64 words, fitted on the database's own photos; a packaged one "
                "below 100 photos"
            ),
            training_data="the database itself; the packaged vocabulary: rendered streets",
            citation=(
                f"{_VLAD}; Arandjelovic, Zisserman: Three things everyone should know to improve "
                "object retrieval, CVPR 2012"
            ),
            is_fitted_on_database=True,
        ),
    ),
    "densevlad": Entry(
        "whence.models.vlad:dense_vlad",
        ModelCard(
            name="densevlad",
            summary=(
                "RootSIFT on a dense grid pooled by VLAD: for thumbnails, where keypoints are few"
            ),
            dim=8192,
            preprocessing=Preprocessing(long_side_px=320, enlarge=True),
            licence="MIT",
            weights=(
                "a vocabulary of 64 words, fitted on the database's own photos; a packaged one "
                "below 100 photos"
            ),
            training_data="the database itself; the packaged vocabulary: rendered streets",
            citation=f"{_VLAD}; Torii et al.: 24/7 place recognition by view synthesis, CVPR 2015",
            is_fitted_on_database=True,
        ),
    ),
}
