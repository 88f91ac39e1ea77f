"""How large a world is: presets, and the record that a world's photos follow from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from whence.errors import BadOption, UnknownName
from whence.records import fill
from whence.worlds.capture import CaptureOptions

FORMAT = 1
"""Raised when the same seed gives other pixels than before."""
LATER_FIELDS: Mapping[str, float] = {"repeated_share": 0.0}
"""Fields that older records lack, and what they then are."""
LATER_CAPTURE: Mapping[str, float] = {"queries_aside_m": 0.0}
"""Those of how photos are taken."""


@dataclass(frozen=True, slots=True)
class CitySize:
    """One city of a world: its split, how many photos, and what it is for."""

    name: str
    split: str
    """train, val or test; empty where the world has a single city."""
    num_database: int
    num_queries: int
    num_unknown: int
    is_test_city: bool = False

    @property
    def number(self) -> int:
        """The number in the city's name, which its seed follows from."""
        return int("".join(letter for letter in self.name if letter.isdigit()) or 0)


@dataclass(frozen=True)
class WorldSpec:
    """Everything a world's photos follow from. Two worlds with equal records have equal pixels."""

    seed: int
    cities: tuple[CitySize, ...]
    layout: str = "folders"
    capture: CaptureOptions = field(default_factory=CaptureOptions)
    aliased_share: float = 0.25
    repeated_share: float = 0.0
    px_per_m: float = 32.0
    truth: tuple[str, ...] = ()
    """Pictures of the truth written beside the photos: depth, labels, facades."""

    def to_json(self) -> str:
        """The record as text; equal records give equal text."""
        return json.dumps({"format": FORMAT, **asdict(self)}, indent=1)

    @classmethod
    def from_json(cls, text: str) -> WorldSpec:
        """The record that `to_json` wrote. Raises `BadOption` and `UnknownName`."""
        values = json.loads(text)
        if values.pop("format", None) != FORMAT:
            raise BadOption(
                "the world was rendered by a version with another renderer; render it into a new "
                "folder"
            )
        return fill(cls, values, what="field of a world")


def _city_preset() -> tuple[CitySize, ...]:
    train = [CitySize(f"city{k:02d}", "train", 2000, 500, 0) for k in range(6)]
    test = [CitySize(f"city{k:02d}", "test", 2000, 500, 100, True) for k in range(20, 23)]
    return (*train, CitySize("city10", "val", 2000, 500, 100), *test)


def _metropolis_preset() -> tuple[CitySize, ...]:
    train = [CitySize(f"city{k:02d}", "train", 12_000, 3_000, 0) for k in range(6)]
    test = [CitySize(f"city{k:02d}", "test", 2000, 500, 100, True) for k in range(20, 23)]
    return (*train, CitySize("city10", "val", 2000, 500, 100), *test)


def _district_preset() -> tuple[CitySize, ...]:
    test = [CitySize(f"city{k:02d}", "test", 600, 300, 0, True) for k in (20, 21)]
    return (CitySize("city00", "train", 400, 0, 0), *test)


def _borough_preset() -> tuple[CitySize, ...]:
    test = [CitySize(f"city{k:02d}", "test", 600, 300, 0, True) for k in (20, 21)]
    return (CitySize("city00", "train", 10_000, 0, 0), *test)


PRESETS: Mapping[str, tuple[CitySize, ...]] = {
    "tiny": (CitySize("city00", "", 60, 20, 6),),
    "small": (CitySize("city00", "", 600, 200, 40),),
    "quarter": (CitySize("city00", "", 600, 600, 0),),
    "district": _district_preset(),
    "borough": _borough_preset(),
    "city": _city_preset(),
    "metropolis": _metropolis_preset(),
}


def get_preset(name: str) -> tuple[CitySize, ...]:
    """The cities of a preset. Raises `UnknownName`."""
    if name not in PRESETS:
        raise UnknownName("preset", name, PRESETS)
    return PRESETS[name]
