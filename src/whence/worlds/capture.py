"""Where and how photos are taken: the database's drive, the queries' walks, the camera of each
photo."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from whence.data.panoramas import MIDDLE_DEG
from whence.runtime import random_stream
from whence.worlds.camera import Camera, look_rotation, make_camera
from whence.worlds.conditions import Run, make_run
from whence.worlds.plan import CityPlan

HEADINGS_DEG = (0.0, 50.0, 130.0, 180.0, 230.0, 310.0)
"""Directions of a database stop's six photos, clockwise from the street's own."""
_DATABASE, _QUERY, _UNKNOWN, _CAMERA = 51, 52, 53, 55

USUAL_CONDITIONS: Mapping[str, float] = {
    "day": 0.36,
    "overcast": 0.16,
    "dusk": 0.08,
    "night": 0.06,
    "fog": 0.05,
    "rain": 0.07,
    "snow": 0.07,
    "occluded": 0.08,
    "rotated": 0.07,
}


@dataclass(frozen=True)
class CaptureOptions:
    """How hard the queries are, and how photos are taken."""

    width: int = 320
    height: int = 240
    conditions: Mapping[str, float] = field(default_factory=lambda: dict(USUAL_CONDITIONS))
    """Share of the queries by condition."""
    max_shift_share: float = 0.6
    """Largest sideways offset of a query, as a share of the street's half width."""
    max_yaw_deg: float = 40.0
    spacing_m: tuple[float, float] = (8.0, 10.0)
    changed_share: float = 0.3
    """Share of the fronts whose shops and paint differ between the database's year and the
    queries'."""
    traffic: float = 1.0
    headings_deg: tuple[float, ...] = HEADINGS_DEG
    """Directions of the photos at a database stop, clockwise from the street's own."""
    database_field_deg: float = 66.0
    """Horizontal field of view of the database's camera."""
    queries_field_deg: tuple[float, float] = (56.0, 74.0)
    num_database_runs: int = 1
    """How many times, in as many years, the database's streets are driven."""
    is_clean: bool = False
    """Take away traffic, camera faults and weather: the same view looks the same."""
    queries_aside_m: float = 0.0
    """How far to the left of its usual lane a drive of queries goes, in the layout `sequences`."""


@dataclass(frozen=True, slots=True)
class Shot:
    """One photo before it is taken. Position in metres of the city's frame, heading clockwise from
    grid north."""

    number: int
    role: str
    """database, queries or queries_unknown."""
    condition: str
    run: int
    street: int
    along_m: float
    x_m: float
    y_m: float
    z_m: float
    grid_heading_deg: float
    stop: int
    tile: int
    seconds: float
    sequence: str = ""
    """Key of the drive the photo belongs to, with its place in it below."""
    frame: int = 0
    place: int = -1
    """Number of the place that several photos of the city show."""
    is_panorama: bool = False
    is_mesh: bool = False
    """Rendered from the coarse mesh instead of photographed."""
    cut_from: int = -1
    """Number of the panorama that the photo is a crop of; -1 for a photo of its own."""
    panorama_deg: float = 0.0
    """Where the middle of the panorama looks that this is, or is a crop of, clockwise from grid
    north."""

    @property
    def is_cut(self) -> bool:
        """Whether the photo is a crop of a panorama."""
        return self.cut_from >= 0


class CityShots(NamedTuple):
    """All photos of a city, in the order of the streets, and its runs by number."""

    shots: tuple[Shot, ...]
    runs: Mapping[int, Run]
    covered: frozenset[int]


def plan_shots(
    plan: CityPlan,
    *,
    num_database: int,
    num_queries: int,
    num_unknown: int,
    options: CaptureOptions,
) -> CityShots:
    """Where the database, the queries and the queries outside the covered streets are taken. Fewer
    where the city is too small."""
    runs = plan_runs(plan.seed, options)
    inner = [k for k, street in enumerate(plan.streets) if street.is_inner and street.length_m > 45]
    database, covered = _database(plan, inner, num_database, options, runs)
    shots = list(database)
    stretches = _stretches(shots)
    if stretches:
        shots += _queries(plan, stretches, "queries", num_queries, len(shots), options)
    # Away from the crossings, where covered streets come into view.
    free = {
        k: (32.0, plan.streets[k].length_m - 32)
        for k in inner
        if k not in covered and plan.streets[k].length_m > 66
    }
    if free:
        shots += _queries(plan, free, "queries_unknown", num_unknown, len(shots), options)
    return CityShots(tuple(shots), runs, frozenset(covered))


def plan_runs(seed: int, options: CaptureOptions) -> dict[int, Run]:
    """The database's runs, numbered from 0, one a year, then the queries' runs, one for each
    condition."""
    first, scaffold = options.num_database_runs, 0.0 if options.is_clean else 0.06
    runs = {}
    for k in range(first):
        weather = ("day", "overcast", "day", "dusk")[k % 4]
        runs[k] = make_run(
            seed,
            k,
            condition=weather,
            year=2014 + k,
            change=k,
            changed_share=options.changed_share,
            scaffold_share=scaffold,
        )
    for k, name in enumerate(options.conditions):
        change = 0 if options.is_clean else first
        number, year = first + k, 2016 + first + k % 4
        runs[number] = make_run(
            seed,
            number,
            condition=name,
            year=year,
            change=change,
            changed_share=options.changed_share,
            scaffold_share=scaffold,
        )
    return runs


def _stretches(database: list[Shot]) -> dict[int, tuple[float, float]]:
    """From where to where the database covers each street, metres along it; streets with a single
    stop are left out."""
    reach: dict[int, tuple[float, float]] = {}
    for shot in database:
        low, high = reach.get(shot.street, (shot.along_m, shot.along_m))
        reach[shot.street] = (min(low, shot.along_m), max(high, shot.along_m))
    return {
        street: (low, high)
        for street, (low, high) in reach.items()
        if high - low > 8 or len(reach) == 1
    }


def _database(
    plan: CityPlan,
    inner: list[int],
    num_database: int,
    options: CaptureOptions,
    runs: Mapping[int, Run],
) -> tuple[list[Shot], list[int]]:
    """Photos in all directions at a stop every 8 to 10 m, street after street, each in every year,
    until there are enough."""
    shots: list[Shot] = []
    covered: list[int] = []
    num_runs = options.num_database_runs
    rest = [num_database // num_runs + (run < num_database % num_runs) for run in range(num_runs)]
    stop, seconds = 0, 0.0
    for street in (inner[k] for k in random_stream(plan.seed, _DATABASE).permutation(len(inner))):
        if not any(rest):
            break
        covered.append(street)
        for run in range(num_runs):
            for along, place, grid_heading, height in _stops(plan, street, run, options):
                if not rest[run]:
                    break
                for tile, heading in enumerate(options.headings_deg[: rest[run]]):
                    x, y = float(place[0]), float(place[1])
                    name = runs[run].condition.name
                    turned = (grid_heading + heading) % 360
                    shots.append(
                        Shot(
                            len(shots),
                            "database",
                            name,
                            run,
                            street,
                            along,
                            x,
                            y,
                            height,
                            turned,
                            stop,
                            tile,
                            seconds,
                        )
                    )
                rest[run] -= min(rest[run], len(options.headings_deg))
                stop += 1
                seconds += 1.1
            seconds += 30
    return shots, covered


def _stops(
    plan: CityPlan, number: int, run: int, options: CaptureOptions
) -> list[tuple[float, np.ndarray, float, float]]:
    """The stops of one drive along a street: metres along it, place, the car's heading from grid
    north, the camera's height."""
    street = plan.streets[number]
    random = random_stream(plan.seed, _DATABASE, number, run)
    right = np.array([street.direction[1], -street.direction[0]])
    lane = min(1.8, 0.2 * street.half_width_m)
    along = 6.0 + float(random.uniform(0, 4))
    base = float(np.degrees(np.arctan2(street.direction[0], street.direction[1])))
    found = []
    while along < street.length_m - 6:
        place = (
            street.start
            + street.direction * along
            + right * (lane + float(random.uniform(-0.5, 0.5)))
        )
        turn = 0.0 if options.is_clean else float(random.normal(0, 2))
        found.append((along, place, base + turn, 2.3 + float(random.uniform(-0.05, 0.05))))
        along += float(random.uniform(*options.spacing_m))
    return found


def _queries(
    plan: CityPlan,
    stretches: Mapping[int, tuple[float, float]],
    role: str,
    count: int,
    first: int,
    options: CaptureOptions,
) -> list[Shot]:
    """Photos of other days along these stretches of streets, each with its own offset and
    direction."""
    key = _QUERY if role == "queries" else _UNKNOWN
    names, weights = list(options.conditions), np.array(list(options.conditions.values()), float)
    streets = list(stretches)
    low, high = np.array(list(stretches.values())).T
    room = np.maximum(high - low, 0.5)
    plans = []
    for k in range(count):
        random = random_stream(plan.seed, key, k)
        number = int(random.choice(len(streets), p=room / room.sum()))
        street = plan.streets[streets[number]]
        along = float(low[number] + random.random() * room[number])
        side = float(random.uniform(-1, 1)) * options.max_shift_share * street.half_width_m
        right = np.array([street.direction[1], -street.direction[0]])
        base = float(np.degrees(np.arctan2(street.direction[0], street.direction[1])))
        tile, heading = _direction(random, plan, streets[number], options)
        place = street.start + street.direction * along + right * side
        condition = int(random.choice(len(names), p=weights / weights.sum()))
        height = 2.3 if options.is_clean else float(random.uniform(1.5, 1.85))
        plans.append(
            (condition, streets[number], along, place, height, (base + heading) % 360, tile)
        )
    # In the order of a walk: by run, street and distance. The texture cache profits, and so do the
    # time stamps.
    plans.sort(key=lambda row: (row[0], row[1], row[2]))
    return [
        Shot(
            first + k,
            role,
            names[condition],
            options.num_database_runs + condition,
            street,
            along,
            float(place[0]),
            float(place[1]),
            height,
            grid_heading,
            k,
            tile,
            20.0 * k,
        )
        for k, (condition, street, along, place, height, grid_heading, tile) in enumerate(plans)
    ]


def _direction(
    random: np.random.Generator, plan: CityPlan, street: int, options: CaptureOptions
) -> tuple[int, float]:
    """A database direction and a query's own near it, relative to the street; not straight into a
    park without buildings."""
    for _ in range(6):
        tile = int(random.integers(len(options.headings_deg)))
        heading = options.headings_deg[tile] + float(random.uniform(-1, 1)) * options.max_yaw_deg
        aside = np.sin(np.radians(heading))
        if abs(aside) < 0.42 or (street, bool(aside > 0)) in plan.built_sides:
            break
    return tile, heading


def shot_camera(shot: Shot, *, seed: int, options: CaptureOptions) -> Camera:
    """The camera of a shot: the database's is one and level, the queries' differ and tilt.

    Of a panorama, or a crop of one, it is the pinhole camera that comes nearest.
    """
    random = random_stream(seed, _CAMERA, shot.number)
    field_deg, pitch, roll = (
        options.database_field_deg,
        MIDDLE_DEG if shot.is_cut or shot.is_panorama else 4.0,
        0.0,
    )
    if shot.role != "database" and not options.is_clean:
        field_deg = float(random.uniform(*options.queries_field_deg))
        pitch = 5.0 + float(random.normal(0, 3))
        roll = float(random.normal(0, 1.5))
        if shot.condition == "rotated":
            roll = float(random.choice([-1, 1]) * random.uniform(8, 25))
    rotation = look_rotation(grid_heading_deg=shot.grid_heading_deg, pitch_deg=pitch, roll_deg=roll)
    centre = np.array([shot.x_m, shot.y_m, shot.z_m])
    return make_camera(
        centre, rotation, size_px=(options.width, options.height), field_of_view_deg=field_deg
    )
