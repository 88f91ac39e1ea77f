"""What learns: a network, or a regressor on top of one that stays as it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from whence.cards import ModelCard
from whence.errors import BadOption
from whence.training.options.kinds import LearnerOptions

RELEASED = "released"


@dataclass(frozen=True, slots=True)
class AggregatorOptions:
    """The aggregator by name, and its own settings."""

    name: str = "gem"
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SequencePoolOptions:
    """How frames of a sequence become one descriptor, by name, and the pool's own settings."""

    name: str = ""
    """Empty for a network of single photos."""
    length: int = 5
    """Frames of a sequence."""
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NetworkOptions(LearnerOptions):
    """A backbone and an aggregator, from weights to start with."""

    kind: Literal["network"] = "network"
    backbone: str = "resnet18conv4"
    backbone_options: Mapping[str, Any] = field(default_factory=dict)
    """Of transformers, as `whence.models.backbones.make_backbone` takes them."""
    start_from: str = ""
    """Safetensors file with the weights to begin with, the name of a model, or "released" for those
    that the backbone was released with; empty for random ones."""
    start_with: Literal["all", "backbone"] = "all"
    """What is taken of those weights. With the backbone alone the aggregator begins anew, visual
    words by k-means."""
    freeze_before: str = ""
    """Stage of the backbone before which nothing learns; empty to learn everything."""
    learning: Literal["all", "as published", "sequence"] = "all"
    """What learns: all but what is frozen before a stage; of the backbone what the published
    training lets learn; or the sequence pool alone."""
    aggregator: AggregatorOptions = AggregatorOptions()
    sequence: SequencePoolOptions = SequencePoolOptions()
    domain: str = ""
    """What kind of place the photos show, in a word, as the card is to say: urban, indoor,
    aerial."""


@dataclass(frozen=True, slots=True)
class OwnHeadOptions(LearnerOptions):
    """The small head of the network that comes with Whence; the maps below it stay as they are."""

    kind: Literal["own head"] = "own head"
    weights: str = ""
    """The network's file; empty for the packaged one."""


@dataclass(frozen=True, slots=True)
class RegressorOptions(LearnerOptions):
    """GeoWarp's regressor on top of a network that stays as it is."""

    kind: Literal["regressor"] = "regressor"
    model: str = ""
    """The network: a name of the zoo, or a safetensors file with a card."""
    backbone: str = ""
    """A backbone with the weights of its release, in place of the model's own; the model then only
    finds candidates."""
    width: int = 0
    """Pixels of the photos; 0 takes what the model's card says."""
    height: int = 0
    start_from: str = ""
    """File with a regressor to begin with, or the name of a scorer; empty for one that finds both
    photos whole."""


def image_size(options: RegressorOptions, card: ModelCard) -> tuple[int, int]:
    """Width and height of training photos: the recipe's, else those of the model's card. Raises
    `BadOption` where neither says."""
    if options.width and options.height:
        return options.width, options.height
    if card.preprocessing.size_px is None:
        raise BadOption(
            f"{card.name} takes photos of any size: say at which to train, with width and height"
        )
    height, width = card.preprocessing.size_px
    return width, height
