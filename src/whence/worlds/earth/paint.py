"""Colours of the ground: as satellites saw it in one of four years, as it looks on a day of a
photo, and as a radar sees it."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from whence.runtime import random_stream
from whence.worlds.earth.ground import Survey
from whence.worlds.earth.noise import fractal, hashed, smooth

YEARS = (2018, 2019, 2020, 2021)
_TONE, _YEAR_CROP, _CLOUDS, _SNOW, _MURK, _SPECKLE, _FALLOW = 401, 402, 13, 14, 15, 406, 407


def _rgb(*values: int) -> np.ndarray:
    return np.array(values, np.float32) / 255


_SANDS = (_rgb(226, 190, 142), _rgb(214, 160, 112), _rgb(196, 176, 150))
_STEPPE, _GRASS, _FOREST, _ROCK, _SNOWY = (
    _rgb(150, 134, 92),
    _rgb(98, 108, 60),
    _rgb(38, 62, 36),
    _rgb(126, 112, 98),
    _rgb(240, 244, 248),
)
_CROPS = np.stack(
    [
        _rgb(70, 104, 48),
        _rgb(112, 124, 62),
        _rgb(168, 146, 88),
        _rgb(142, 112, 82),
        _rgb(188, 172, 124),
        _rgb(58, 82, 44),
    ]
)
_STUBBLE, _SOILS = _rgb(150, 128, 92), (_rgb(46, 62, 34), _rgb(186, 164, 124))
_BUILT, _ROADS = _rgb(134, 128, 122), _rgb(176, 166, 150)
_SHALLOW, _DEEP, _SILT = _rgb(52, 112, 118), _rgb(10, 26, 58), _rgb(128, 122, 96)


@dataclass(frozen=True, slots=True)
class Day:
    """When and in what light the ground is seen."""

    year: int
    """Which crops stand, and where snow and clouds lie."""
    season: float = 0.0
    """0 summer, 1 winter: less green, more snow."""
    sun_deg: float = 135.0
    """Where the sun stands, clockwise from north."""
    relief: float = 0.8
    """How strongly slopes are shaded: more where the sun is low."""
    brown: float = 0.0
    """How far everything that grows has dried."""
    is_mosaic: bool = True
    """Whether it is a mosaic of a year, with its own tone and without clouds but for small
    remnants."""


def paint(survey: Survey, day: Day) -> np.ndarray:
    """(H, W, 3) float32 RGB from 0 to 1 of the ground."""
    region, moist = survey.region, survey.moisture - 0.2 * day.brown - 0.08 * day.season
    sand = _SANDS[region.seed % len(_SANDS)]
    image = _stops(moist, (0.12, 0.38, 0.6, 0.82), (sand, _STEPPE, _GRASS, _FOREST))
    grain = survey.streets
    image *= (1 + (0.05 + 0.05 * (moist < 0.3)) * grain)[..., None]
    steep = np.hypot(*survey.gradient)
    _mix(
        image, _ROCK * (1.1 - 0.25 * survey.moisture[..., None]), np.clip(6 * steep - 0.9, 0, 0.75)
    )
    _sow(image, survey, day)
    _build(image, survey, day)
    slope_south, slope_east = survey.gradient
    sun = np.radians(day.sun_deg)
    facing = slope_east * -np.sin(sun) + slope_south * np.cos(sun)
    image *= np.clip(1 + 2.2 * day.relief * facing / np.sqrt(1 + steep**2), 0.35, 1.55)[..., None]
    _flood(image, survey, day)
    _snow(image, survey, day)
    if day.is_mosaic:
        _mosaic(image, survey, day)
    return np.clip(image, 0, 1, out=image)


def cloud_cover(survey: Survey, *, share: float, size_km: float, seed: int) -> np.ndarray:
    """(H, W) float32, 0 to 1: clouds over about this share of a window's surroundings."""
    if share <= 0:
        return np.zeros(survey.height.shape, np.float32)
    large = smooth(survey.window, 9 * size_km, seed=seed, layer=_CLOUDS)
    small = fractal(survey.window, size_km, 7, seed=seed, layer=_CLOUDS + 1, gain=0.62)
    return np.asarray(
        np.clip(3.5 * (0.6 * large + 1.3 * small + 1.6 * share - 0.95), 0, 1), np.float32
    )


def backscatter(survey: Survey, *, looks: int = 4) -> np.ndarray:
    """(H, W) float32 from 0 to 1: the ground as a radar from the west sees it.

    Slopes towards it and towns are bright, water is dark; speckle multiplies, and heights are
    displaced towards the radar.
    """
    south, east = survey.gradient
    rough = (
        0.2
        + 0.22 * survey.moisture
        + 0.08 * survey.streets
        + 0.75 * survey.towns * (0.6 + 0.4 * survey.streets)
    )
    number, _, _ = survey.fields
    rough = rough + 0.3 * survey.farms * (hashed(survey.region.seed, _FALLOW, number) - 0.5)
    energy = np.clip(rough * (1 + 2.4 * east / np.sqrt(1 + east**2 + south**2)), 0.02, 2) * (
        1 - 0.93 * survey.water
    )
    shift = displacement_px(survey)
    rows, columns = np.mgrid[: energy.shape[0], : energy.shape[1]].astype(np.float32)
    moved = cv2.remap(
        energy.astype(np.float32),
        columns + shift,
        rows,
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    keys = (
        round(axis * 1000)
        for axis in (survey.window.left_km + 50_000, survey.window.top_km + 50_000)
    )
    speckle = random_stream(survey.region.seed, _SPECKLE, *keys).gamma(
        looks, 1 / looks, moved.shape
    )
    return np.asarray(np.clip(0.75 * np.sqrt(moved * speckle), 0, 1), np.float32)


def displacement_px(survey: Survey) -> np.ndarray:
    """(H, W) float32: how far east of where a radar from the west shows it a place really lies, in
    pixels, by its height."""
    return np.asarray(
        0.55 * 4 * np.clip(survey.height, 0, 1.2) / survey.window.km_per_px, np.float32
    )


def _stops(
    value: np.ndarray, places: tuple[float, ...], colours: tuple[np.ndarray, ...]
) -> np.ndarray:
    return np.stack(
        [np.interp(value, places, [colour[c] for colour in colours]) for c in range(3)], axis=-1
    ).astype(np.float32)


def _mix(image: np.ndarray, colour: np.ndarray, share: np.ndarray) -> None:
    image += (colour - image) * share[..., None]


def _sow(image: np.ndarray, survey: Survey, day: Day) -> None:
    """Fields, each with a crop that changes with the years, and circles of sprinklers where it is
    dry."""
    number, kind, inside = survey.fields
    seed = survey.region.seed
    is_new = hashed(seed, _YEAR_CROP, number, day.year) < 0.4
    crop = hashed(seed, _YEAR_CROP + 1, number, np.where(is_new, day.year, 0))
    soil = hashed(seed, _YEAR_CROP + 2, number)[..., None]
    grown = (
        _CROPS[(crop * len(_CROPS)).astype(int)] * (1 - 0.45 * day.brown)
        + 0.45 * day.brown * _STUBBLE
    )
    colours = (0.55 * grown + 0.45 * (_SOILS[0] + (_SOILS[1] - _SOILS[0]) * soil)).astype(
        np.float32
    )
    is_round = (survey.moisture < 0.32) & (kind < 0.7)
    shape = np.where(
        is_round, np.clip(10 * (0.46 - inside), 0, 1) * (crop < 0.75), 0.92 - 0.25 * (inside > 0.55)
    )
    is_tilled = np.clip(
        1.5 * (survey.farms - hashed(seed, _FALLOW + 1, number) * 0.75) + 0.5, 0, 1
    ) * np.clip(6 * survey.farms, 0, 1)
    _mix(image, colours, (shape * is_tilled).astype(np.float32))


def _build(image: np.ndarray, survey: Survey, day: Day) -> None:
    grown = np.clip(survey.towns * (1 + 0.03 * (day.year - YEARS[0])), 0, 1)
    blocks = _BUILT * (1 + 0.5 * survey.streets[..., None])
    _mix(image, blocks.astype(np.float32), 0.8 * grown)
    _mix(image, _ROADS, 0.8 * survey.roads)


def _flood(image: np.ndarray, survey: Survey, day: Day) -> None:
    seed = survey.region.seed
    murk = np.clip(
        0.35
        + fractal(survey.window, 38.0, 4, seed=seed, layer=_MURK)
        + 0.5 * survey.rivers
        - 2.5 * survey.depth,
        0,
        0.8,
    )
    colour = _stops(survey.depth, (0.0, 0.25, 1.0), (_SHALLOW, 0.5 * _SHALLOW + 0.5 * _DEEP, _DEEP))
    tint = hashed(seed, _MURK, day.year)
    colour *= 0.85 + 0.3 * float(tint)
    _mix(colour, _SILT * 0.85, murk)
    image += (colour - image) * survey.water[..., None]


def _snow(image: np.ndarray, survey: Survey, day: Day) -> None:
    """White above a line that falls with latitude and winter and is not the same every year."""
    lat = abs(survey.region.middle[0])
    line = (
        1.25
        - lat / 62
        - 0.45 * day.season
        + 0.12 * (float(hashed(survey.region.seed, _SNOW, day.year)) - 0.5)
    )
    noise = fractal(survey.window, 20.0, 6, seed=survey.region.seed, layer=_SNOW, gain=0.6)
    covered = np.clip(7 * (survey.height + 0.22 * noise - line), 0, 1) * (1 - survey.water)
    south, east = survey.gradient
    shade = np.clip(1 - 0.5 * np.clip(east + south, -0.8, 0.8), 0.6, 1.1)
    _mix(image, _SNOWY * shade[..., None], covered)


def _mosaic(image: np.ndarray, survey: Survey, day: Day) -> None:
    """The year's tone, and what was left of clouds."""
    random = random_stream(survey.region.seed, _TONE, day.year)
    image *= (random.uniform(0.94, 1.06, 3) * random.uniform(0.9, 1.15)).astype(np.float32)
    image += (
        np.float32(0.06 * float(random.uniform(-0.5, 1)))
        * smooth(survey.window, 120.0, seed=survey.region.seed + day.year, layer=_TONE)[..., None]
    )
    left = cloud_cover(survey, share=0.04, size_km=5.0, seed=survey.region.seed * 7 + day.year)
    _mix(image, _SNOWY, 0.8 * left)
