"""What an Earth world holds: its regions, their sizes by preset, and the record that all its pixels
follow from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from whence.data.footprints import area_km2
from whence.data.tiles import CELLS, Tile, format_footprint_name, tile_name
from whence.errors import BadOption, UnknownName
from whence.records import fill
from whence.worlds.earth.ground import ZOOM, Region, make_region
from whence.worlds.earth.orbit import STYLES, OrbitShot, corners_km, plan_shots
from whence.worlds.earth.paint import YEARS

FORMAT = 1
"""Raised when the same seed gives other pixels than before."""
ZOOMS = (ZOOM, ZOOM + 1, ZOOM + 2)
STRIDE = 2
"""Cells from one tile to the next: they overlap by half."""
SHEET_CELLS = 4
"""Cells of zoom 9 along what is painted at once."""


@dataclass(frozen=True, slots=True)
class RegionSize:
    """One region of a world: its split, how wide it is, and how it is photographed."""

    name: str
    split: str
    """train, val or test; empty where the world has a single region."""
    side: int
    """Cells of zoom 9 along its side, even: about 60 kilometres each."""
    num_photos: int
    years: tuple[int, ...] = YEARS
    styles: tuple[str, ...] = ("photo",)

    @property
    def number(self) -> int:
        """The number in the region's name, which its seed follows from."""
        return int("".join(letter for letter in self.name if letter.isdigit()) or 0)

    @property
    def folder(self) -> str:
        """The folder of its split, with a slash; empty where there is none."""
        return f"{self.split}/" if self.split else ""


@dataclass(frozen=True, slots=True)
class EarthSpec:
    """Everything an Earth world's pixels follow from."""

    seed: int
    regions: tuple[RegionSize, ...]
    tile_px: int = 256
    photo_px: int = 256
    has_sar: bool = False
    kind: str = "earth"

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise BadOption(f"seed {self.seed}: a seed is zero or more")
        if (
            self.tile_px % (4 * CELLS)
            or not 16 <= self.tile_px <= 1024
            or not 16 <= self.photo_px <= 1024
        ):
            raise BadOption(
                f"tiles of {self.tile_px} and photos of {self.photo_px} pixels: from 16 to 1,024, "
                f"tiles a multiple of {4 * CELLS}"
            )
        for size in self.regions:
            if size.side % 2 or not CELLS <= size.side <= 40:
                raise BadOption(
                    f"a region of {size.side} cells: even numbers from {CELLS} to 40 are possible"
                )
            for style in set(size.styles) - set(STYLES):
                raise UnknownName("style of photos", style, STYLES)

    def record(self) -> dict[str, Any]:
        """The record as plain values."""
        return {"format": FORMAT, **asdict(self)}

    @classmethod
    def from_record(cls, values: Mapping[str, Any]) -> EarthSpec:
        """The record that `record` gave. Raises `BadOption` and `UnknownName`."""
        if values.get("format") != FORMAT:
            raise BadOption(
                "the world was rendered by a version with another renderer; render it into a new "
                "folder"
            )
        return fill(
            cls,
            {name: value for name, value in values.items() if name != "format"},
            what="field of a world",
        )


class NamedPhoto(NamedTuple):
    """A photo to take and where it goes, relative to the world's folder."""

    path: str
    shot: OrbitShot


@dataclass(frozen=True)
class RegionWork:
    """One region, ready to be rendered."""

    size: RegionSize
    region: Region
    spec: EarthSpec = field(repr=False)

    @classmethod
    def of(cls, spec: EarthSpec, size: RegionSize) -> RegionWork:
        """The region of this size."""
        return cls(size, make_region(1000 * spec.seed + size.number, side=size.side), spec)

    @cached_property
    def sheets(self) -> list[tuple[int, int]]:
        """Row and column of the cells of zoom 9, counted from the region's first, where what is
        painted at once begins."""
        starts = range(0, self.size.side - 1, STRIDE)
        return [(row, column) for row in starts for column in starts]

    def tiles_of(self, sheet: tuple[int, int]) -> Iterator[Tile]:
        """The tiles that begin in the first quarter of a sheet."""
        for zoom in ZOOMS:
            scale = 2 ** (zoom - ZOOM)
            starts = [
                [
                    at
                    for at in range(scale * first, scale * (first + STRIDE), STRIDE)
                    if at + CELLS <= scale * self.size.side
                ]
                for first in sheet
            ]
            for row in starts[0]:
                for column in starts[1]:
                    yield Tile(
                        zoom, scale * self.region.row + row, scale * self.region.column + column
                    )

    def tile_path(self, tile: Tile, year: int, *, folder: str = "database") -> str:
        """Where a tile goes, relative to the world's folder."""
        return f"{self.size.folder}{folder}/{tile_name(tile, year=year)}"

    def photo(self, number: int) -> NamedPhoto:
        """One photo of the region with its name."""
        (shot,) = plan_shots(self.region, 1, styles=self.size.styles, first=number)
        corners = self.footprint(shot)
        nadir = self.region.to_degrees(*(np.array(value) for value in shot.pose.nadir_km))
        lat, lon = (float(value) for value in nadir)
        day = f"{2005 + number % 18}{1 + number % 12:02d}{1 + number % 28:02d}"
        name = format_footprint_name(
            corners,
            image_id=f"ISS{self.size.number:03d}-E-{number + 1:05d}",
            time=day,
            nadir=(lat, lon),
            area_km2=area_km2(corners),
            orientation_deg=round(shot.pose.roll_deg, 1),
            decimals=6,
            nadir_decimals=1,
        )
        style = "" if shot.style == "photo" else f"_{shot.style}"
        return NamedPhoto(f"{self.size.folder}queries{style}/{name}", shot)

    def footprint(self, shot: OrbitShot) -> np.ndarray:
        """(4, 2) latitude and longitude of lower left, upper left, upper right and lower right
        corner."""
        corners = corners_km(shot.pose)
        return np.stack(self.region.to_degrees(corners[:, 0], corners[:, 1]), axis=1)


def _planet() -> tuple[RegionSize, ...]:
    train = [RegionSize(f"region{k:02d}", "train", 12, 400) for k in range(6)]
    test = [RegionSize(f"region{k:02d}", "test", 12, 300, (2021,)) for k in range(20, 23)]
    return (*train, RegionSize("region10", "val", 8, 200, (2021,)), *test)


def _orbit() -> tuple[RegionSize, ...]:
    train = [RegionSize(f"region{k:02d}", "train", 8, 240) for k in range(3)]
    test = [RegionSize(f"region{k:02d}", "test", 8, 150, (2021,)) for k in (20, 21)]
    return (*train, RegionSize("region10", "val", 6, 60, (2021,)), *test)


PRESETS: Mapping[str, tuple[RegionSize, ...]] = {
    "tiny": (RegionSize("region00", "", 4, 12),),
    "small": (RegionSize("region00", "", 8, 200),),
    "missions": (RegionSize("region00", "", 8, 240, (2021,), STYLES),),
    "orbit": _orbit(),
    "planet": _planet(),
}


def get_preset(name: str) -> tuple[RegionSize, ...]:
    """The regions of a preset. Raises `UnknownName`."""
    if name not in PRESETS:
        raise UnknownName("preset", name, PRESETS)
    return PRESETS[name]
