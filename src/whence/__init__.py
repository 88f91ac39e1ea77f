"""Whence: where was this photo taken?

    import whence

    localizer = whence.Localizer.build("photos/", path="city.whence")
    position = localizer.locate("where.jpg")

The names below are the whole public surface; each is imported when it is first used, so
`import whence` costs little.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from whence.version import VERSION

if TYPE_CHECKING:
    from whence.cards import ModelCard as ModelCard
    from whence.data.images import load_image as load_image
    from whence.data.photos import Photos as Photos
    from whence.data.scan import scan_photos as scan_photos
    from whence.errors import WhenceError as WhenceError
    from whence.evaluation.benchmarks import evaluate as evaluate
    from whence.localize.localizer import Localizer as Localizer
    from whence.localize.retrieve import Around as Around
    from whence.matching.matchers import match_images as match_images
    from whence.models.descriptor import DescriptorModel as DescriptorModel
    from whence.models.descriptor import load_model as load_model
    from whence.registry import list_models as list_models
    from whence.registry import register as register
    from whence.settings import BuildOptions as BuildOptions
    from whence.training.train import train as train
    from whence.types import Candidate as Candidate
    from whence.types import GeoPoint as GeoPoint
    from whence.types import Match as Match
    from whence.types import Position as Position
    from whence.worlds.city import render_world as render_world

__version__ = VERSION

_HOMES = {
    "Around": "whence.localize.retrieve",
    "BuildOptions": "whence.settings",
    "Candidate": "whence.types",
    "DescriptorModel": "whence.models.descriptor",
    "GeoPoint": "whence.types",
    "Localizer": "whence.localize.localizer",
    "Match": "whence.types",
    "ModelCard": "whence.cards",
    "Photos": "whence.data.photos",
    "Position": "whence.types",
    "WhenceError": "whence.errors",
    "evaluate": "whence.evaluation.benchmarks",
    "list_models": "whence.registry",
    "load_image": "whence.data.images",
    "load_model": "whence.models.descriptor",
    "match_images": "whence.matching.matchers",
    "register": "whence.registry",
    "render_world": "whence.worlds.city",
    "scan_photos": "whence.data.scan",
    "train": "whence.training.train",
}

__all__ = [*_HOMES]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'whence' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
