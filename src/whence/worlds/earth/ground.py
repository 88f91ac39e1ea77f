"""The ground of a region: height, water, moisture, fields, towns and roads of any window, all from
the seed.

The plane of a region is that of Web-Mercator around its first cell, scaled to kilometres at its
middle latitude, so that tiles are cut from it without any resampling and photos of it are related
to it by exact homographies.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

from whence.data.tiles import from_cells
from whence.runtime import random_stream
from whence.worlds.earth.noise import Window, fractal, hashed, smooth, warped

ZOOM = 9
"""Coarsest zoom of the tiles; the plane's origin is a corner of its grid."""
EARTH_KM = 40_075.017
_PLACE, _CHARACTER = 301, 302
_WARP_KM = 6.0
_TOWN_KM = 17.0
(
    _HEIGHT, _WARP_X, _WARP_Y, _RANGES, _RIDGES, _MAIN, _SIDE, _LAKES, _WET, _FARMS, _DISTRICT,
    _CROP, _TOWN, _EDGE, _ROAD, _STREETS, _DETAIL, _WIDTH, _PEOPLE, _HILLS, _ROLLING,
) = range(21)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Region:
    """A part of an Earth: where it lies, and what kind of country it is."""

    seed: int
    """The region's own."""
    column: int
    row: int
    """Cell of zoom 9 in its top left corner."""
    side: int
    """Cells along its side."""
    sea: float
    """Height below which there is sea."""
    dryness: float
    """0 green, 1 desert."""
    ruggedness: float

    @property
    def km_per_cell(self) -> float:
        """Kilometres along a cell of zoom 9 at the region's middle."""
        return float(EARTH_KM / 2**ZOOM * np.cos(np.radians(self.middle[0])))

    @property
    def middle(self) -> tuple[float, float]:
        """Latitude and longitude of the middle."""
        lat, lon = from_cells(
            np.array(self.column + self.side / 2), np.array(self.row + self.side / 2), ZOOM
        )
        return float(lat), float(lon)

    def to_degrees(
        self, east_km: np.ndarray, south_km: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Latitudes and longitudes of places on the plane."""
        return from_cells(
            self.column + east_km / self.km_per_cell, self.row + south_km / self.km_per_cell, ZOOM
        )


def make_region(seed: int, *, side: int) -> Region:
    """The region of a seed, `side` cells of zoom 9 wide, somewhere between 50 degrees south and 58
    north."""
    place, character = random_stream(seed, _PLACE), random_stream(seed, _CHARACTER)
    row = int(place.integers(154, 333 - side)) // 2 * 2
    column = int(place.integers(4, 2**ZOOM - side - 4)) // 2 * 2
    return Region(
        seed,
        column,
        row,
        side,
        sea=float(character.uniform(-0.28, -0.06)),
        dryness=float(character.uniform(0, 1)),
        ruggedness=float(character.uniform(0.2, 1)),
    )


class Survey:
    """What lies in a window of a region's plane, static over the years; every field is (H, W)
    float32."""

    def __init__(self, region: Region, window: Window) -> None:
        self.region, self.window = region, window
        pad = int(np.ceil(_WARP_KM * 1.7 / window.km_per_px)) + 2
        km = window.km_per_px
        self._wide = Window(
            window.left_km - pad * km,
            window.top_km - pad * km,
            km,
            window.width + 2 * pad,
            window.height + 2 * pad,
        )
        self._inner = (slice(pad, pad + window.height), slice(pad, pad + window.width))
        seed = region.seed
        self._shift = tuple(
            (_WARP_KM / km) * fractal(self._wide, 34.0, 4, seed=seed, layer=layer)[self._inner]
            for layer in (_WARP_X, _WARP_Y)
        )

    def _fractal(
        self,
        wavelength_km: float,
        octaves: int,
        layer: int,
        *,
        gain: float = 0.5,
        is_ridged: bool = False,
    ) -> np.ndarray:
        return fractal(
            self.window,
            wavelength_km,
            octaves,
            seed=self.region.seed,
            layer=layer,
            gain=gain,
            is_ridged=is_ridged,
        )

    def _bent(self, values: np.ndarray) -> np.ndarray:
        """Values of the wide window, moved about, so that lines meander."""
        east, south = (np.zeros(values.shape, np.float32) for _ in range(2))
        east[self._inner], south[self._inner] = self._shift
        return warped(values, east, south)[self._inner]

    def _lines(self, wavelength_km: float, layer: int) -> np.ndarray:
        """Kilometres from the nearest of lines that wander across the plane."""
        values = fractal(
            self._wide, wavelength_km, 3, seed=self.region.seed, layer=layer, gain=0.42
        )
        bent = self._bent(values)
        slope = np.hypot(*np.gradient(bent, self.window.km_per_px))
        return np.asarray(np.abs(bent) / np.maximum(slope, 0.25 / wavelength_km), np.float32)

    @cached_property
    def height(self) -> np.ndarray:
        """Above 0 land, up to about 1, which is four kilometres; below the sea's floor."""
        region = self.region
        base = self._bent(fractal(self._wide, 230.0, 8, seed=region.seed, layer=_HEIGHT, gain=0.52))
        ranges = np.clip(
            self._fractal(300.0, 2, _RANGES) * 1.5 + 0.9 * region.ruggedness - 0.35, 0, 1
        )
        ridges = self._bent(
            fractal(self._wide, 46.0, 7, seed=region.seed, layer=_RIDGES, gain=0.55, is_ridged=True)
        )
        land = base - region.sea
        raised = np.clip(land * 4, 0, 1)
        return np.asarray(
            0.55 * land + 0.85 * ranges * raised * ridges**1.5 + raised * self._hills, np.float32
        )

    @cached_property
    def _hills(self) -> np.ndarray:
        """What valleys and ridges of a few kilometres add to the height."""
        region = self.region
        shape = (
            self._bent(
                fractal(
                    self._wide, 16.0, 7, seed=region.seed, layer=_HILLS, gain=0.6, is_ridged=True
                )
            )
            - 0.35
        )
        return shape * (
            0.06 + 0.22 * np.clip(self._fractal(90.0, 2, _ROLLING) + region.ruggedness - 0.3, 0, 1)
        )

    @cached_property
    def gradient(self) -> tuple[np.ndarray, np.ndarray]:
        """Steepness southward and eastward, kilometres of height a kilometre, mountains raised."""
        km = self.window.km_per_px
        south, east = np.gradient(cv2.GaussianBlur(self.height, (3, 3), 0), km)
        return np.asarray(4 * south, np.float32), np.asarray(4 * east, np.float32)

    @cached_property
    def rivers(self) -> np.ndarray:
        """0 to 1: whether a place lies in a river."""
        low = np.clip(2.4 - 4 * self.height, 0, 1)
        wide = (0.3 + 1.1 * np.clip(self._fractal(140.0, 2, _WIDTH) + 0.2, 0, 1.2)) * low
        main = _edge(wide - self._lines(150.0, _MAIN), self.window.km_per_px) * np.clip(
            20 * low, 0, 1
        )
        side = (
            _edge(0.22 * low - self._lines(42.0, _SIDE), self.window.km_per_px)
            * 0.75
            * np.clip(20 * low, 0, 1)
        )
        return np.asarray(np.maximum(main, side), np.float32)

    @cached_property
    def depth(self) -> np.ndarray:
        """0 on land, to 1 in the deep sea; lakes and rivers are shallow."""
        lakes = np.clip(
            9
            * (
                self._bent(fractal(self._wide, 60.0, 5, seed=self.region.seed, layer=_LAKES)) - 0.44
            ),
            0,
            0.4,
        )
        lakes *= np.clip(2.6 - 5 * self.height, 0, 1)
        sea = np.clip(-self.height * 7, 0, 1)
        return np.asarray(np.maximum(np.maximum(lakes, sea), 0.16 * self.rivers), np.float32)

    @cached_property
    def water(self) -> np.ndarray:
        """0 to 1: whether a place is covered by water."""
        is_sea = _edge(-self.height * 60, self.window.km_per_px)
        return np.asarray(
            np.maximum(np.maximum(is_sea, np.clip(self.depth * 14, 0, 1)), self.rivers), np.float32
        )

    @cached_property
    def moisture(self) -> np.ndarray:
        """0 desert, 0.5 grass, 1 forest; wetter along rivers, drier high up."""
        near = np.exp(-self._lines(150.0, _MAIN) / 7) * 0.28
        found = 1.0 - self.region.dryness + 0.75 * self._fractal(170.0, 5, _WET) + near - 0.1
        # Woods and clearings have edges; hollows are greener than ridges.
        patches = np.tanh(
            4
            * self._bent(
                fractal(self._wide, 11.0, 6, seed=self.region.seed, layer=_DETAIL, gain=0.62)
            )
        )
        return np.asarray(np.clip(found + 0.13 * patches - 0.5 * self._hills, 0, 1), np.float32)

    @cached_property
    def farms(self) -> np.ndarray:
        """0 to 1: how much of a place is tilled."""
        flat = np.clip(1.4 - 9 * np.hypot(*self.gradient), 0, 1)
        found = 1.6 * self._fractal(75.0, 4, _FARMS) + 0.55 - 1.4 * np.abs(self.moisture - 0.5)
        return np.asarray(
            np.clip(2.5 * found, 0, 1) * flat * np.clip(3 - 7 * self.height, 0, 1), np.float32
        )

    @cached_property
    def fields(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Whole numbers of the field that each place lies in, across and along, and where inside
        it, as a share from its middle."""
        seed, spacing = self.region.seed, 13.0
        east, south = np.meshgrid(*(axis.astype(np.float32) for axis in self.window.axes()))
        column, row = np.floor(east / spacing), np.floor(south / spacing)
        nearest = np.full(east.shape, np.inf, np.float32)
        own_column, own_row = np.zeros_like(nearest), np.zeros_like(nearest)
        for down in (-1, 0, 1):
            for across in (-1, 0, 1):
                at = (column + across).astype(np.int64), (row + down).astype(np.int64)
                x = (at[0] + hashed(seed, _DISTRICT, *at)) * spacing
                y = (at[1] + hashed(seed, _DISTRICT + 50, *at)) * spacing
                distance = (east - x) ** 2 + (south - y) ** 2
                is_nearer = distance < nearest
                nearest = np.where(is_nearer, distance, nearest).astype(np.float32)
                own_column, own_row = (
                    np.where(is_nearer, at[0], own_column),
                    np.where(is_nearer, at[1], own_row),
                )
        district = own_column.astype(np.int64), own_row.astype(np.int64)
        angle = np.pi * hashed(seed, _DISTRICT + 51, *district)
        size = 0.4 + 0.9 * hashed(seed, _DISTRICT + 52, *district)
        along = (east * np.cos(angle) + south * np.sin(angle)) / (1.6 * size)
        across_ = (south * np.cos(angle) - east * np.sin(angle)) / size
        number = hashed(
            seed,
            _CROP,
            np.floor(along).astype(np.int64),
            np.floor(across_).astype(np.int64),
            *district,
        )
        inside = np.hypot(along - np.floor(along) - 0.5, across_ - np.floor(across_) - 0.5)
        return (
            (number * 2**22).astype(np.int64),
            hashed(seed, _DISTRICT + 53, *district),
            inside.astype(np.float32),
        )

    @cached_property
    def towns(self) -> np.ndarray:
        """0 to 1: how far a place is built over."""
        found = np.zeros(self.height.shape, np.float32)
        east, south = (axis.astype(np.float32) for axis in self.window.axes())
        ragged = np.maximum(1 + 0.8 * self._fractal(6.0, 5, _EDGE, gain=0.65), 0.3)
        arms = 1 + 0.5 * np.clip(1 - self._lines(9.0, _EDGE + 60) / 1.2, 0, 1)
        for x, y, radius in self._town_list():
            # Beyond this even the longest arm has ended.
            reach = 6 * radius
            columns, rows = (
                slice(*np.searchsorted(axis, (at - reach, at + reach)))
                for axis, at in ((east, x), (south, y))
            )
            distance = (
                np.hypot(east[None, columns] - x, south[rows, None] - y)
                * ragged[rows, columns]
                / arms[rows, columns]
            )
            part = found[rows, columns]
            np.maximum(part, np.clip((radius - distance) / (0.5 * radius) + 0.4, 0, 1), out=part)
        return (
            found
            * np.clip(2.2 - 4 * self.height, 0, 1)
            * np.clip(1.3 - 6 * np.hypot(*self.gradient), 0.2, 1)
        )

    @cached_property
    def roads(self) -> np.ndarray:
        """0 to 1: roads from town to town."""
        found = np.zeros((self.window.height, self.window.width), np.uint8)
        spots = {cell: spot for cell, spot in self._spots(reach=2).items() if spot[2] > 0}
        for (column, row), (x, y, _) in spots.items():
            for other in (
                (column + 1, row),
                (column, row + 1),
                (column + 1, row + 1),
                (column - 1, row + 1),
            ):
                if (
                    other in spots
                    and hashed(
                        self.region.seed, _ROAD, column, row, other[0] - column, other[1] - row
                    )
                    < 0.62
                ):
                    self._draw(found, (x, y), spots[other][:2])
        # Finer than a pixel they are as faint as their share of it.
        strength = min(1.0, 0.16 / self.window.km_per_px)
        return found.astype(np.float32) / 255 * strength

    @cached_property
    def streets(self) -> np.ndarray:
        """-1 to 1: the blocks of towns, and the grain of other ground."""
        east, south = (axis for axis in self.window.axes())
        blocks = np.zeros(self.height.shape, np.float32)
        for km in (0.9, 0.35):
            if km > 1.2 * self.window.km_per_px:
                at = (
                    np.floor(south / km).astype(np.int64)[:, None],
                    np.floor(east / km).astype(np.int64)[None],
                )
                blocks += hashed(self.region.seed, _STREETS, *at) - 0.5
        return blocks + 0.5 * smooth(
            self.window,
            max(1.2, 2.2 * self.window.km_per_px),
            seed=self.region.seed,
            layer=_STREETS + 40,
        )

    def _spots(self, *, reach: int) -> dict[tuple[int, int], tuple[float, float, float]]:
        """Where towns of the cells around the window lie, and their radii in kilometres; 0 for
        none."""
        window, seed = self.window, self.region.seed
        right, bottom = (
            window.left_km + window.width * window.km_per_px,
            window.top_km + window.height * window.km_per_px,
        )
        columns = np.arange(
            int(np.floor(window.left_km / _TOWN_KM)) - reach,
            int(np.floor(right / _TOWN_KM)) + reach + 1,
        )
        rows = np.arange(
            int(np.floor(window.top_km / _TOWN_KM)) - reach,
            int(np.floor(bottom / _TOWN_KM)) + reach + 1,
        )
        at = columns[None], rows[:, None]
        draws = [hashed(seed, _TOWN + 100 * number, *at) for number in range(4)]
        people = hashed(seed, _PEOPLE, at[0] // 5, at[1] // 5)
        radius = np.where(
            draws[2] < 0.3 + 0.6 * people, 0.5 + 6.5 * draws[3] ** 6 + 0.9 * people * draws[3], 0
        )
        return {
            (int(column), int(row)): (
                float((column + 0.15 + 0.7 * draws[0][j, i]) * _TOWN_KM),
                float((row + 0.15 + 0.7 * draws[1][j, i]) * _TOWN_KM),
                float(radius[j, i]),
            )
            for i, column in enumerate(columns)
            for j, row in enumerate(rows)
        }

    def _town_list(self) -> list[tuple[float, float, float]]:
        return [spot for spot in self._spots(reach=1).values() if spot[2] > 0]

    def _draw(
        self, picture: np.ndarray, start: tuple[float, float], end: tuple[float, float]
    ) -> None:
        """A road that swings a little, as a line of one pixel or of its width."""
        t = np.linspace(0, 1, 9)
        points = np.outer(1 - t, start) + np.outer(t, end)
        bend = (
            hashed(self.region.seed, _ROAD + 1, np.floor(1000 * points[0]).astype(np.int64).sum())
            - 0.5
        )
        aside = np.array([end[1] - start[1], start[0] - end[0]])
        points += (0.28 * float(bend) * np.sin(np.pi * t) + 0.05 * np.sin(3 * np.pi * t))[
            :, None
        ] * aside
        pixels = (points - [self.window.left_km, self.window.top_km]) / self.window.km_per_px - 0.5
        width = max(1, round(0.12 / self.window.km_per_px))
        cv2.polylines(
            picture, [np.rint(pixels * 16).astype(np.int32)], False, 255, width, cv2.LINE_AA, 4
        )


def _edge(inside_km: np.ndarray, km_per_px: float) -> np.ndarray:
    """From 0 to 1 across one pixel where the distance inside passes zero."""
    return np.asarray(np.clip(inside_km / km_per_px + 0.5, 0, 1), np.float32)
