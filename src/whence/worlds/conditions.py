"""Light, weather and seasons of a capture run: what is drawn once for a run and shared by its
photos."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import cv2
import numpy as np

from whence.errors import UnknownName
from whence.runtime import random_stream
from whence.worlds.ground import draw_sky
from whence.worlds.plan import BUILT, CityPlan
from whence.worlds.scene import Epoch, Scene
from whence.worlds.surroundings import PARTY_WALL_M

_RUN = 31
Rgb = tuple[float, float, float]
_NO_SUN: Rgb = (0.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Condition:
    """Light and weather. Colours multiply what a surface reflects; 1 is full daylight."""

    name: str
    ambient: Rgb
    sun: Rgb
    sun_elevation_deg: tuple[float, float]
    sky_top: Rgb
    sky_low: Rgb
    cloud_share: float
    visibility_m: float = 2500.0
    lit: float = 0.0
    """How bright lamps, signs and lit windows are."""
    wetness: float = 0.0
    snow: float = 0.0
    streaks: float = 0.0
    noise: float = 1.5
    hours: tuple[int, int] = (9, 17)


CONDITIONS: dict[str, Condition] = {
    c.name: c
    for c in (
        Condition(
            "day",
            (0.66, 0.68, 0.73),
            (0.62, 0.56, 0.46),
            (28, 58),
            (96, 146, 214),
            (206, 220, 232),
            0.42,
        ),
        Condition(
            "overcast",
            (0.84, 0.86, 0.9),
            _NO_SUN,
            (30, 50),
            (176, 182, 190),
            (206, 208, 212),
            0.75,
            900.0,
            noise=2.0,
        ),
        Condition(
            "dusk",
            (0.40, 0.36, 0.46),
            (0.42, 0.24, 0.12),
            (4, 12),
            (62, 72, 128),
            (236, 158, 110),
            0.4,
            1500.0,
            lit=0.75,
            noise=3.0,
            hours=(18, 20),
        ),
        Condition(
            "night",
            (0.12, 0.13, 0.19),
            _NO_SUN,
            (10, 30),
            (10, 12, 26),
            (40, 36, 44),
            0.2,
            1200.0,
            lit=1.0,
            noise=5.0,
            hours=(21, 23),
        ),
        Condition(
            "fog",
            (0.78, 0.8, 0.83),
            _NO_SUN,
            (30, 50),
            (196, 200, 204),
            (202, 205, 208),
            0.0,
            55.0,
            noise=2.0,
        ),
        Condition(
            "rain",
            (0.52, 0.55, 0.6),
            _NO_SUN,
            (30, 50),
            (112, 118, 128),
            (150, 154, 160),
            0.8,
            260.0,
            lit=0.3,
            wetness=1.0,
            streaks=1.0,
            noise=3.0,
        ),
        Condition(
            "snow",
            (0.84, 0.87, 0.94),
            (0.08, 0.08, 0.07),
            (15, 30),
            (186, 192, 202),
            (214, 218, 224),
            0.7,
            300.0,
            snow=1.0,
            streaks=0.6,
            noise=2.0,
        ),
    )
}
QUERY_FOLDERS = ("day", "dusk", "night", "overcast", "fog", "rain", "snow", "occluded", "rotated")
"""Query sub-folders: the conditions, and photos half hidden behind vehicles and people or taken
with a turned camera, by day."""


def get_condition(name: str) -> Condition:
    """The light and weather of that name; occluded and rotated photos are taken by day."""
    name = "day" if name in ("occluded", "rotated") else name
    if name not in CONDITIONS:
        raise UnknownName("condition", name, [*CONDITIONS, "occluded", "rotated"])
    return CONDITIONS[name]


@dataclass(frozen=True)
class Run:
    """One drive or walk through the city: one day, one camera make, one kind of weather."""

    number: int
    condition: Condition
    epoch: Epoch
    start: datetime
    sun_direction: np.ndarray
    """(3,) towards the sun."""
    tint: Rgb
    """Colour temperature."""
    seed: int

    def time(self, seconds: float) -> datetime:
        """The moment that many seconds into the run."""
        return self.start + timedelta(seconds=round(seconds))


def make_run(
    seed: int,
    number: int,
    *,
    condition: str,
    year: int,
    change: int,
    changed_share: float = 0.25,
    scaffold_share: float = 0.06,
) -> Run:
    """The run that follows from the seed and its number."""
    light = get_condition(condition)
    random = random_stream(seed, _RUN, number)
    month = int(random.choice([12, 1, 2])) if light.snow else int(random.integers(3, 12))
    season = (
        "winter"
        if month in (12, 1, 2)
        else "spring"
        if month < 6
        else "summer"
        if month < 9
        else "autumn"
    )
    start = datetime(
        year,
        month,
        int(random.integers(1, 28)),
        int(random.integers(*light.hours)),
        int(random.integers(60)),
    )
    elevation = np.radians(random.uniform(*light.sun_elevation_deg))
    grid_heading = random.uniform(0, 2 * np.pi)
    sun = np.array(
        [
            np.sin(grid_heading) * np.cos(elevation),
            np.cos(grid_heading) * np.cos(elevation),
            np.sin(elevation),
        ]
    )
    warmth = float(random.uniform(-0.05, 0.07))
    tint = (1 + warmth, 1.0, 1 - warmth)
    epoch = Epoch(
        change=change, changed_share=changed_share, season=season, scaffold_share=scaffold_share
    )
    return Run(number, light, epoch, start, sun, tint, int(random.integers(2**31)))


class RunLight:
    """A run's sky and cast shadows over one city."""

    CELL_M = 1.5
    SKY_PAD = 360
    """Columns repeated on both sides of the panorama, so that every view lies within it."""

    def __init__(self, run: Run, scene: Scene) -> None:
        condition = run.condition
        self.sky = draw_sky(condition.sky_top, condition.sky_low, condition.cloud_share, run.seed)
        self.padded_sky = np.concatenate(
            [self.sky[:, -self.SKY_PAD :], self.sky, self.sky[:, : self.SKY_PAD]], axis=1
        )
        self.low, high = scene.plan.extent_m
        self.low = self.low - 40
        size = np.ceil((high + 40 - self.low) / self.CELL_M).astype(int)
        self.shadow_m: np.ndarray | None = None
        """Height below which a place lies in shadow, by cell; None without a sun."""
        if max(condition.sun) > 0:
            self.shadow_m = _shadow_heights(
                _roof_heights(scene, self.low, size, self.CELL_M), run.sun_direction, self.CELL_M
            )


def _roof_heights(scene: Scene, low: np.ndarray, size: np.ndarray, cell_m: float) -> np.ndarray:
    """Roof height by cell (rows north, columns east)."""
    plan: CityPlan = scene.plan
    roofs = np.zeros((size[1], size[0]), np.float32)
    for k, lot in enumerate(plan.lots):
        if plan.blocks[lot.block].use != BUILT:
            continue
        inward = -lot.outward * PARTY_WALL_M
        end = lot.origin + lot.along * lot.width_m
        ring = np.array([lot.origin, end, end + inward, lot.origin + inward])
        cv2.fillConvexPoly(
            roofs, np.rint((ring - low) / cell_m).astype(np.int32), float(scene.heights_m[k])
        )
    return roofs


def _shadow_heights(roofs: np.ndarray, sun: np.ndarray, cell_m: float) -> np.ndarray:
    """For each cell the height of the shadow that falls on it: the largest of roof - distance *
    slope towards the sun."""
    flat = np.hypot(sun[0], sun[1])
    slope = sun[2] / max(flat, 1e-6)
    step = cell_m * 1.5
    reach = min(float(roofs.max()) / slope, 90.0)
    shadow = np.zeros_like(roofs)
    height, width = roofs.shape
    for distance in np.arange(step, reach, step):
        dx, dy = -sun[0] / flat * distance / cell_m, -sun[1] / flat * distance / cell_m
        moved = cv2.warpAffine(
            roofs, np.array([[1, 0, dx], [0, 1, dy]]), (width, height), flags=cv2.INTER_NEAREST
        )
        np.maximum(shadow, moved - np.float32(distance * slope), out=shadow)
    return shadow
