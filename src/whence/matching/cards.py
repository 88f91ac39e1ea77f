"""Cards of the scorers and matchers, and what makes them. Data only, no torch."""

from __future__ import annotations

from dataclasses import replace

from whence.cards import Entry, ModelCard, Preprocessing
from whence.models.cards import warp
from whence.models.cards.local import LIGHTGLUE_OF, PARTS, PARTS_OF

_RERANKING = (
    "Barbarani et al.: Are local features all you need for cross-domain visual place "
    "recognition?, CVPRW 2023"
)
_MAGSAC = "Barath et al.: MAGSAC++, a fast, reliable and accurate robust estimator, CVPR 2020"
LEARNED_SIDE_PX = 512
"""Long side at which learned matchers compare photos for re-ranking."""


def _own_matcher(name: str, summary: str, citation: str) -> Entry:
    card = ModelCard(name, summary, 0, Preprocessing(), "MIT", citation=citation, similarity="none")
    return Entry(
        "whence.matching.matchers:open_mnn", card, options={"extractor": name.removesuffix("-mnn")}
    )


def _entry(
    name: str, summary: str, parts: tuple[str, ...], factory: str, options: dict[str, str]
) -> Entry:
    cards = [PARTS[part] for part in parts]
    weights = sorted({licence for card in cards for licence in card.weights_licence.split(" AND ")})
    card = ModelCard(
        name=name,
        summary=summary,
        dim=0,
        preprocessing=Preprocessing(),
        licence="Apache-2.0" if cards else "MIT",
        weights=", ".join(parts) or "none",
        training_data="; ".join(dict.fromkeys(one.training_data for one in cards)) or "none",
        citation="; ".join(dict.fromkeys(one.citation for one in cards)),
        similarity="none",
        weights_licence=" AND ".join(weights) or "none",
    )
    return Entry(factory, card, options=options)


def _learned_scorer(matcher: str, *, factory: str, side_px: int) -> Entry:
    """A matcher as a scorer by its own name: the same networks and files, with a size of photos and
    a number of keypoints."""
    entry = MATCHERS[matcher]
    assert entry.card is not None
    card = replace(
        entry.card,
        summary=f"{entry.card.summary}, and checked by a homography: matches that agree",
        preprocessing=Preprocessing(long_side_px=side_px),
        citation=f"{entry.card.citation}; {_MAGSAC}",
        similarity="number of inliers",
        counts_inliers=True,
    )
    return Entry(f"whence.matching.scorers:{factory}", card, options={"matcher": matcher})


def _own_learned(
    name: str, summary: str, factory: str, options: dict[str, str], parts: tuple[str, ...]
) -> Entry:
    """Matchers over the project's own network, whose code and weights are under the project's
    licence."""
    entry = _entry(name, summary, parts, factory, options)
    assert entry.card is not None
    return Entry(
        factory,
        replace(entry.card, licence="MIT" if len(parts) == 1 else "MIT AND Apache-2.0"),
        options=options,
    )


_MNN = "mutual nearest neighbours"
MATCHERS: dict[str, Entry] = {
    "rootsift-mnn": _own_matcher(
        "rootsift-mnn",
        "RootSIFT keypoints, mutual nearest neighbours that pass the ratio test",
        "Lowe: Distinctive image features from scale-invariant keypoints, IJCV 2004",
    ),
    "orb-mnn": _own_matcher(
        "orb-mnn",
        "ORB keypoints, mutual nearest neighbours that pass the ratio test",
        (
            "Rublee, Rabaud, Konolige, Bradski: ORB, an efficient alternative to SIFT or SURF, "
            "ICCV 2011"
        ),
    ),
    "whence-local": _own_learned(
        "whence-local",
        f"the project's own learned keypoints, {_MNN}; comes with Whence, runs without torch",
        "whence.matching.matchers:open_mnn",
        {"extractor": "whence-local"},
        ("whence-local",),
    ),
    "whence-local-to-aliked": _own_learned(
        "whence-local-to-aliked",
        (
            "queries by the project's own small network, photos of the database by ALIKED, "
            f"{_MNN} across the two"
        ),
        "whence.matching.asymmetric:open_asymmetric",
        {"database": "aliked"},
        ("whence-local", "aliked"),
    ),
    "orientation": Entry(
        "whence.matching.orientation:open_orientation",
        ModelCard(
            name="orientation",
            summary=(
                "orientations of edges, correlated template by template: across sensors, as radar "
                "and camera; no keypoints"
            ),
            dim=0,
            preprocessing=Preprocessing(),
            licence="MIT",
            citation="Fitch, Kadyrov, Christmas, Kittler: Orientation correlation, BMVC 2002; "
            "Ye, Bruzzone, Shan, Bovolo, Zhu: Fast and robust matching for multimodal remote "
            "sensing images, TGRS 2019",
            similarity="none",
        ),
    ),
    **{
        f"{name}-mnn": _entry(
            f"{name}-mnn",
            f"{name} keypoints, {_MNN}",
            parts,
            "whence.matching.matchers:open_mnn",
            {"extractor": name},
        )
        for name, parts in PARTS_OF.items()
    },
    **{
        f"{name}-lightglue": _entry(
            f"{name}-lightglue",
            f"{name} keypoints, paired by LightGlue",
            (*PARTS_OF.get(name, ()), f"lightglue-{LIGHTGLUE_OF.get(name, name)}"),
            "whence.models.local.pairing:open_lightglue",
            {"extractor": name},
        )
        for name in (*PARTS_OF, "sift")
        if f"lightglue-{LIGHTGLUE_OF.get(name, name)}" in PARTS
    },
    **{
        name: _entry(
            name,
            f"{title}: matches without keypoints",
            (name,),
            "whence.models.local.pairing:open_dense",
            {"name": name},
        )
        for name, title in (("loftr", "LoFTR"), ("eloftr", "Efficient LoFTR"))
    },
}

SCORERS: dict[str, Entry] = {
    **warp.ENTRIES,
    "inliers": Entry(
        "whence.matching.scorers:open_inliers",
        ModelCard(
            name="inliers",
            summary=(
                "keypoints (RootSIFT, or those of the option matcher) matched and checked by a "
                "homography: matches that agree"
            ),
            dim=0,
            preprocessing=Preprocessing(long_side_px=640),
            licence="MIT",
            citation=(
                "Lowe: Distinctive image features from scale-invariant keypoints, IJCV 2004; "
                f"{_MAGSAC}"
            ),
            similarity="number of inliers",
            counts_inliers=True,
        ),
    ),
    "ransac": Entry(
        "whence.matching.scorers:open_ransac",
        ModelCard(
            name="ransac",
            summary=(
                "mutual nearest keypoints that fit a loose homography, as a share of the query's "
                "keypoints"
            ),
            dim=0,
            preprocessing=Preprocessing(long_side_px=640),
            licence="MIT",
            citation=_RERANKING,
            similarity="inliers over the query's keypoints",
        ),
    ),
    "rapid": Entry(
        "whence.matching.scorers:open_rapid",
        ModelCard(
            name="rapid",
            summary="mutual nearest keypoints that moved alike, without a sampled geometry: cheap",
            dim=0,
            preprocessing=Preprocessing(long_side_px=640),
            licence="MIT",
            citation=f"Hausler et al.: Patch-NetVLAD, CVPR 2021; {_RERANKING}",
            similarity="squared pixels that keypoints did not stray, over the query's keypoints",
        ),
    ),
    "patches": Entry(
        "whence.matching.scorers:open_patches",
        ModelCard(
            name="patches",
            summary=(
                "patches of three sizes out of a network's map, matched and checked by a loose "
                "homography each"
            ),
            dim=0,
            preprocessing=Preprocessing(long_side_px=640),
            licence="MIT",
            weights="those of the option model's network",
            training_data="that of the option model's network",
            citation=f"Hausler et al.: Patch-NetVLAD, CVPR 2021; {_RERANKING}",
            similarity="weighted share of the query's patches that are inliers",
        ),
    ),
    **{
        name: _learned_scorer(name, factory="open_learned_inliers", side_px=LEARNED_SIDE_PX)
        for name in ("aliked-lightglue", "disk-lightglue")
    },
    "whence-local": _learned_scorer("whence-local", factory="open_inliers", side_px=640),
}


def parts_of_matcher(name: str) -> tuple[ModelCard, ...]:
    """The files of weights that a registered matcher needs; none for those of the core."""
    card = MATCHERS[name].card if name in MATCHERS else None
    return (
        ()
        if card is None or card.weights == "none"
        else tuple(PARTS[part] for part in card.weights.split(", "))
    )
