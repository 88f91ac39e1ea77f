"""Records of what is to be photographed: a city with its plan and shots, and a shot with the name
of its photo."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from whence.worlds.capture import CaptureOptions, CityShots, Shot
from whence.worlds.plan import CityPlan
from whence.worlds.presets import CitySize


class NamedShot(NamedTuple):
    """A photo to take and where it goes."""

    path: str
    """Relative to the world's folder."""
    name: str
    """The "@" name, which the layout may have replaced."""
    shot: Shot
    heading_deg: float


@dataclass(frozen=True)
class CityWork:
    """One city, ready to be photographed."""

    size: CitySize
    plan: CityPlan
    shots: CityShots
    capture: CaptureOptions
    named_shots: tuple[NamedShot, ...]
