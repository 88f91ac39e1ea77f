"""Names of the parts: a static table from name to factory and card. Importing it imports nothing else.

A model's card says everything needed to use it correctly; evaluation and the localizer read preprocessing from the card.
"""

from __future__ import annotations

import fnmatch
import importlib
import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from whence.errors import BadOption, UnknownName

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


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
    """Height and width are brought to the nearest multiples of this, at last."""
    antialias: bool = True
    mean: tuple[float, float, float] = IMAGENET_MEAN
    """What is subtracted from each channel in [0, 1] ..."""
    std: tuple[float, float, float] = IMAGENET_STD
    """... and what it is then divided by. Models without networks take the pixels themselves."""


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What a person must know about a model before using it."""

    name: str
    summary: str
    dim: int
    preprocessing: Preprocessing
    licence: str
    weights: str = "none"
    """Where the numbers come from: "none" for training-free models."""
    training_data: str = "none"
    citation: str = ""
    similarity: str = "inner product of unit vectors"
    is_fitted_on_database: bool = False
    version: int = 1
    """Raised when the same name gives other numbers than before."""

    @property
    def card_id(self) -> str:
        """The key under which databases and caches remember this model."""
        return f"{self.name}.v{self.version}"


@dataclass(frozen=True, slots=True)
class Entry:
    """Dotted factory ("module:callable") and, for models, the card."""

    factory: str
    card: ModelCard | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


_VLAD = "Jegou, Douze, Schmid, Perez: Aggregating local descriptors into a compact image representation, CVPR 2010"

MODELS: dict[str, Entry] = {
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
            summary="RootSIFT on a dense grid pooled by VLAD: for small, blurred or night photos, where keypoints are few",
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
INDEXES: dict[str, Entry] = {
    "flat": Entry("whence.index.flat:FlatIndex"),
    "int8": Entry("whence.index.int8:Int8Index"),
    "ann": Entry("whence.index.ann:AnnIndex"),
}
SCORERS: dict[str, Entry] = {
    "inliers": Entry(
        "whence.matching.matchers:InlierScorer",
        ModelCard(
            name="inliers",
            summary="RootSIFT keypoints matched and checked by a homography: the number of matches that agree",
            dim=0,
            preprocessing=Preprocessing(long_side_px=640),
            licence="MIT",
            citation="Lowe: Distinctive image features from scale-invariant keypoints, IJCV 2004; "
            "Barath et al.: MAGSAC++, a fast, reliable and accurate robust estimator, CVPR 2020",
            similarity="number of inliers",
        ),
    ),
}


def list_models(pattern: str = "*") -> tuple[str, ...]:
    """Names of the models that match a shell pattern, sorted."""
    return tuple(sorted(name for name in MODELS if fnmatch.fnmatchcase(name, pattern)))


def get_card(name: str, *, kind: str = "model") -> ModelCard:
    """The card of a model or of a scorer. Raises `UnknownName` with the nearest names."""
    card = get_entry(kind, name).card
    assert card is not None, "every model and every scorer in the tables has a card"
    return card


def get_entry(kind: str, name: str) -> Entry:
    """The table entry of a part: kind "model", "index" or "scorer". Raises `UnknownName` with the nearest names."""
    table = {"model": MODELS, "index": INDEXES, "scorer": SCORERS}[kind]
    if name not in table:
        raise UnknownName(kind, name, table)
    return table[name]


def build(kind: str, name: str, *, options: Mapping[str, Any] | None = None) -> Any:
    """Make the part: imports its factory now and calls it with the entry's options, then the given ones.

    Raises `UnknownName`, and `BadOption` for options the part does not have.
    """
    entry = get_entry(kind, name)
    module, _, attribute = entry.factory.partition(":")
    factory = getattr(importlib.import_module(module), attribute)
    chosen = {**entry.options, **(options or {})}
    known = inspect.signature(factory).parameters
    for option in chosen:
        if option not in known:
            raise BadOption(f"{kind} {name} has no option {option!r}; it has {', '.join(known) or 'none'}")
    return factory(**chosen)
