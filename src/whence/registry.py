"""Names of the parts: a static table from name to factory and card. Importing it imports nothing else.

A model's card says everything needed to use it correctly; evaluation and the localizer read preprocessing from the card.
"""

from __future__ import annotations

import fnmatch
import importlib
import inspect
from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any, Literal

from whence.errors import BadOption, MissingExtra, UnknownName
from whence.settings import is_chain, parse_stages

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
PERMISSIVE_LICENCES = frozenset({"MIT", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "CC0-1.0", "CC-BY-4.0", "none"})
"""Licences that allow any use; "none" where there is nothing to license, as for models without weights."""
KNOWN_LICENCES = PERMISSIVE_LICENCES | {"GPL-3.0", "CC-BY-NC-4.0", "CC-BY-NC-ND-4.0", "unknown"}
"""What a card may say; several are joined by " AND "."""


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """How an image is brought to what the model expects. Without any size it is taken as it is."""

    long_side_px: int | None = None
    """The longer side is brought to this length, keeping the aspect ratio; None keeps the size."""
    enlarge: bool = False
    """Whether images smaller than `long_side_px` or `short_side_px` are enlarged."""
    interpolation: str = "area"
    colour: str = "rgb"
    size_px: tuple[int, int] | None = None
    """Height and width the image is brought to, whatever its aspect ratio."""
    short_side_px: int | None = None
    """The shorter side is brought to this length, keeping the aspect ratio."""
    multiple_of: int = 1
    """Height and width are brought to the nearest multiples of this, at last ..."""
    is_cropped: bool = False
    """... by cutting off what is over, as much on both sides, rather than by stretching; what is shorter is stretched."""
    antialias: bool = True
    mean: tuple[float, float, float] = IMAGENET_MEAN
    """What is subtracted from each channel in [0, 1] ..."""
    std: tuple[float, float, float] = IMAGENET_STD
    """... and what it is then divided by. Models without networks take the pixels themselves."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a file of weights comes from, and what it is called in the cache."""

    kind: Literal["url", "hub", "drive", "manual", "packaged"]
    """"url": an address; "hub": a repository of the Hugging Face hub; "drive": a Google Drive id; "manual": a person gets it;
    "packaged": it came with Whence, in the folder `whence.models.downloads.PACKAGED`."""
    address: str
    """The address, repository or id; for "manual" where to get it, in words."""
    file: str
    """Name in the cache; unlike any other origin's."""
    source_file: str = ""
    """Name inside the hub repository or the archive, where it differs from `file`."""
    archive: str = ""
    """Name in the cache of the archive that the origin gives, where the weights are one file of it."""
    sha256: str | None = None
    """Checksum of the file (of the archive where there is one); None where nobody published it: the first download's is kept."""


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What a person must know about a model before using it."""

    name: str
    summary: str
    dim: int
    preprocessing: Preprocessing
    licence: str
    """Of the authors' code; what runs here is Whence's own."""
    weights: str = "none"
    """Where the numbers come from: "none" for training-free models."""
    training_data: str = "none"
    citation: str = ""
    similarity: str = "inner product of unit vectors"
    is_fitted_on_database: bool = False
    counts_inliers: bool = False
    """For scorers: whether they count matches that fit one geometry, which a calibration needs."""
    version: int = 1
    """Raised when the same name gives other numbers than before."""
    weights_licence: str = "none"
    """Of the file of weights: that of the licensed repository whose release it is, else "unknown". The photos behind it may have
    terms of their own."""
    origins: tuple[Origin, ...] = ()
    """Files with these weights, the best first; empty for models that need none."""
    backbone_origins: tuple[Origin, ...] = ()
    """Files with the backbone's weights, where those are a file of their own."""
    backbone: str = ""
    backbone_options: Mapping[str, Any] = field(default_factory=dict)
    aggregator: str = ""
    aggregator_options: Mapping[str, Any] = field(default_factory=dict)
    keys: str = ""
    """How the authors name the parameters: a row of `whence.models.keys`."""
    is_unit_length: bool = True
    """Whether the network's own outputs have unit length; descriptors always have."""
    figures: str = ""
    """What was measured with these very weights, and how, for models of the project's own."""
    limits: str = ""
    """What it is not for."""

    @property
    def card_id(self) -> str:
        """The key under which databases and caches remember this model."""
        return f"{self.name}.v{self.version}"

    @property
    def is_permissive(self) -> bool:
        """Whether code and weights both allow any use."""
        parts = [*self.licence.split(" AND "), *self.weights_licence.split(" AND ")]
        return all(part in PERMISSIVE_LICENCES for part in parts)


@dataclass(frozen=True, slots=True)
class Entry:
    """Dotted factory ("module:callable") and, for models, the card."""

    factory: str
    card: ModelCard | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


_VLAD = "Jegou, Douze, Schmid, Perez: Aggregating local descriptors into a compact image representation, CVPR 2010"

_WITHOUT_TORCH: dict[str, Entry] = {
    "rootsift-vlad": Entry(
        "whence.models.vlad:rootsift_vlad",
        ModelCard(
            name="rootsift-vlad",
            summary="RootSIFT keypoints pooled by VLAD: no training, no download; for photos with detail",
            dim=8192,
            preprocessing=Preprocessing(long_side_px=640),
            licence="MIT",
            weights="a vocabulary of 64 words, fitted on the database's own photos; a packaged one below 100 photos",
            training_data="the database itself; the packaged vocabulary: rendered streets",
            citation=f"{_VLAD}; Arandjelovic, Zisserman: Three things everyone should know to improve object retrieval, CVPR 2012",
            is_fitted_on_database=True,
        ),
    ),
    "densevlad": Entry(
        "whence.models.vlad:dense_vlad",
        ModelCard(
            name="densevlad",
            summary="RootSIFT on a dense grid pooled by VLAD: for thumbnails, where keypoints are few",
            dim=8192,
            preprocessing=Preprocessing(long_side_px=320, enlarge=True),
            licence="MIT",
            weights="a vocabulary of 64 words, fitted on the database's own photos; a packaged one below 100 photos",
            training_data="the database itself; the packaged vocabulary: rendered streets",
            citation=f"{_VLAD}; Torii et al.: 24/7 place recognition by view synthesis, CVPR 2015",
            is_fitted_on_database=True,
        ),
    ),
}


class LazyTable(MutableMapping[str, Entry]):
    """A table whose further rows lie in a module of a higher floor, read when the table is first looked into."""

    def __init__(self, rows: Mapping[str, Entry], *, more: str) -> None:
        self._rows = dict(rows)
        self._more = more

    def _whole(self) -> dict[str, Entry]:
        if self._more:
            module, _, attribute = self._more.partition(":")
            further = getattr(importlib.import_module(module), attribute)
            self._more = ""
            self._rows = {**further, **self._rows}
        return self._rows

    def __getitem__(self, name: str) -> Entry:
        return self._whole()[name]

    def __setitem__(self, name: str, entry: Entry) -> None:
        self._whole()[name] = entry

    def __delitem__(self, name: str) -> None:
        del self._whole()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._whole())

    def __len__(self) -> int:
        return len(self._whole())


MODELS: MutableMapping[str, Entry] = LazyTable(_WITHOUT_TORCH, more="whence.models.zoo:ENTRIES")
INDEXES: dict[str, Entry] = {
    "flat": Entry("whence.index.flat:FlatIndex"),
    "int8": Entry("whence.index.int8:Int8Index"),
    "ann": Entry("whence.index.ann:AnnIndex"),
}
_RERANKING = "Barbarani et al.: Are local features all you need for cross-domain visual place recognition?, CVPRW 2023"
_OWN_SCORERS: dict[str, Entry] = {
    "inliers": Entry(
        "whence.matching.scorers:open_inliers",
        ModelCard(
            name="inliers",
            summary="keypoints (RootSIFT, or those of the option matcher) matched and checked by a homography: matches that agree",
            dim=0,
            preprocessing=Preprocessing(long_side_px=640),
            licence="MIT",
            citation="Lowe: Distinctive image features from scale-invariant keypoints, IJCV 2004; "
            "Barath et al.: MAGSAC++, a fast, reliable and accurate robust estimator, CVPR 2020",
            similarity="number of inliers",
            counts_inliers=True,
        ),
    ),
    "ransac": Entry(
        "whence.matching.scorers:open_ransac",
        ModelCard(
            name="ransac",
            summary="mutual nearest keypoints that fit a loose homography, as a share of the query's keypoints",
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
            summary="patches of three sizes out of a network's map, matched and checked by a loose homography each",
            dim=0,
            preprocessing=Preprocessing(long_side_px=640),
            licence="MIT",
            weights="those of the option model's network",
            training_data="that of the option model's network",
            citation=f"Hausler et al.: Patch-NetVLAD, CVPR 2021; {_RERANKING}",
            similarity="weighted share of the query's patches that are inliers",
        ),
    ),
}
SCORERS: MutableMapping[str, Entry] = LazyTable(_OWN_SCORERS, more="whence.models.warp_cards:ENTRIES")


def _own_matcher(name: str, summary: str, citation: str) -> Entry:
    card = ModelCard(name, summary, 0, Preprocessing(), "MIT", citation=citation, similarity="none")
    return Entry("whence.matching.matchers:open_mnn", card, options={"extractor": name.removesuffix("-mnn")})


_OWN_MATCHERS: dict[str, Entry] = {
    "rootsift-mnn": _own_matcher(
        "rootsift-mnn",
        "RootSIFT keypoints, mutual nearest neighbours that pass the ratio test",
        "Lowe: Distinctive image features from scale-invariant keypoints, IJCV 2004",
    ),
    "orb-mnn": _own_matcher(
        "orb-mnn",
        "ORB keypoints, mutual nearest neighbours that pass the ratio test",
        "Rublee, Rabaud, Konolige, Bradski: ORB, an efficient alternative to SIFT or SURF, ICCV 2011",
    ),
}
MATCHERS: MutableMapping[str, Entry] = LazyTable(_OWN_MATCHERS, more="whence.models.local_cards:ENTRIES")


EXTRA_OF = {
    **dict.fromkeys(("torch", "torchvision", "timm", "safetensors"), "torch"),
    **dict.fromkeys(("kornia", "transformers"), "matchers"),
}
"""Which extra installs a package."""


def list_models(pattern: str = "*") -> tuple[str, ...]:
    """Names of the models that match a shell pattern, sorted."""
    return tuple(sorted(name for name in MODELS if fnmatch.fnmatchcase(name, pattern)))


def get_card(name: str, *, kind: str = "model") -> ModelCard:
    """The card of a model, a scorer or a matcher. Raises `UnknownName` with the nearest names."""
    card = get_entry(kind, name).card
    assert card is not None, "every model, scorer and matcher in the tables has a card"
    return card


def get_entry(kind: str, name: str) -> Entry:
    """The table entry of a part: kind "model", "index", "scorer" or "matcher". Raises `UnknownName` with the nearest names.

    A model may be named by a safetensors file that carries a card; raises `UnreadableWeights` where it does not. A scorer may be a
    chain, "geowarp:100,inliers:10"; raises `BadOption` where that is none.
    """
    if kind == "model" and name.endswith(".safetensors"):
        entry: Entry = importlib.import_module("whence.models.zoo").entry_of_file(name)
        return entry
    if kind == "scorer" and is_chain(name):
        return _chain_entry(name)
    tables: dict[str, Mapping[str, Entry]] = {"model": MODELS, "index": INDEXES, "scorer": SCORERS, "matcher": MATCHERS}
    table = tables[kind]
    if name not in table:
        raise UnknownName(kind, name, table)
    return table[name]


def _chain_entry(name: str) -> Entry:
    cards = [get_card(stage.scorer, kind="scorer") for stage in parse_stages(name)]
    card = ModelCard(
        name=name,
        summary="each scorer orders the best of the one before it",
        dim=0,
        preprocessing=cards[-1].preprocessing,
        licence=" AND ".join(dict.fromkeys(card.licence for card in cards)),
        citation="; ".join(card.citation for card in cards),
        similarity="candidates it comes before, and one",
        counts_inliers=cards[-1].counts_inliers,
    )
    return Entry("whence.matching.chain:open_chain", card, options={"text": name})


def build(kind: str, name: str, *, options: Mapping[str, Any] | None = None) -> Any:
    """Make the part: imports its factory now and calls it with the entry's options, then the given ones.

    Raises `UnknownName`, `MissingExtra` where it needs torch, and `BadOption` for options the part does not have.
    """
    entry = get_entry(kind, name)
    module, _, attribute = entry.factory.partition(":")
    chosen = {**entry.options, **(options or {})}
    try:
        factory = getattr(importlib.import_module(module), attribute)
        known = inspect.signature(factory).parameters
        for option in chosen:
            if option not in known:
                raise BadOption(f"{kind} {name} has no option {option!r}; it has {', '.join(known) or 'none'}")
        return factory(**chosen)
    except ImportError as error:
        if error.name not in EXTRA_OF:
            raise
        raise MissingExtra(name, EXTRA_OF[error.name]) from None
