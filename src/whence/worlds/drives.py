"""Other ways of taking photos than stops and walks: drives in frames, and places that are visited
again in other years."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from whence.runtime import random_stream
from whence.worlds.capture import CaptureOptions, CityShots, Shot, plan_runs
from whence.worlds.plan import CityPlan, Street

_DRIVE, _PLACE, _LIFT = 71, 72, 73
PLACE_SPACING_M = 30.0
FRAMES_PER_S = 2.0


def plan_drives(
    plan: CityPlan, *, city: str, num_database: int, num_queries: int, options: CaptureOptions
) -> CityShots:
    """Drives along the streets, a photo ahead every half second: one traversal for the database,
    others for the queries."""
    runs = plan_runs(plan.seed, options)
    inner = [k for k, street in enumerate(plan.streets) if street.is_inner and street.length_m > 45]
    order = [inner[k] for k in random_stream(plan.seed, _DRIVE).permutation(len(inner))]
    shots: list[Shot] = []
    covered: list[int] = []
    for street in order:
        if len(shots) >= num_database:
            break
        covered.append(street)
        shots += _drive(
            plan, street, len(shots), ("database", "day", 0, f"{city}d{len(covered):04d}")
        )[: num_database - len(shots)]
    num_shot = len(shots)
    names, weights = list(options.conditions), np.array(list(options.conditions.values()), float)
    number = 0
    while covered and len(shots) - num_shot < num_queries:
        random = random_stream(plan.seed, _DRIVE, 1, number)
        condition = int(random.choice(len(names), p=weights / weights.sum()))
        street = covered[number % len(covered)]
        key = (
            "queries",
            names[condition],
            options.num_database_runs + condition,
            f"{city}q{number:04d}",
        )
        drive = _drive(plan, street, len(shots), key, aside_m=options.queries_aside_m)
        shots += drive[: num_shot + num_queries - len(shots)]
        number += 1
    return CityShots(tuple(shots), runs, frozenset(covered))


def _drive(
    plan: CityPlan, number: int, first: int, key: tuple[str, str, int, str], *, aside_m: float = 0.0
) -> list[Shot]:
    """The frames of one drive along a street, at a speed that varies, in the lane of its direction
    or so far left of it."""
    role, condition, run, sequence = key
    street = plan.streets[number]
    random = random_stream(plan.seed, _DRIVE, 2, number, first)
    lane = max(
        min(2.0, 0.25 * street.half_width_m) + float(random.normal(0, 0.4)) - aside_m,
        -0.7 * street.half_width_m,
    )
    speed = float(random.uniform(4, 9))
    along, seconds, frame = 4.0, 0.0, 0
    shots = []
    while along < street.length_m - 4:
        grid_heading = _grid_heading(street) + float(random.normal(0, 1.5))
        place = _at(street, along, lane + 0.15 * np.sin(along / 9))
        height = 1.6 if role == "queries" else 1.9
        shots.append(
            Shot(
                first + frame, role, condition, run, number, along, float(place[0]),
                float(place[1]), height, grid_heading % 360, first + frame, 0, seconds,
                sequence=sequence, frame=frame,
            )
        )  # fmt: skip
        speed = float(np.clip(speed + random.normal(0, 0.6), 2.5, 12))
        along += speed / FRAMES_PER_S
        seconds += 1 / FRAMES_PER_S
        frame += 1
    return shots


def plan_places(plan: CityPlan, *, num_photos: int, options: CaptureOptions) -> CityShots:
    """Places 30 m apart, each photographed once a year in about the same direction: what GSV-Cities
    holds."""
    runs = plan_runs(plan.seed, options)
    inner = [k for k, street in enumerate(plan.streets) if street.is_inner and street.length_m > 45]
    shots: list[Shot] = []
    place = 0
    for number in inner:
        street = plan.streets[number]
        for along in np.arange(14.0, street.length_m - 12, PLACE_SPACING_M):
            random = random_stream(plan.seed, _PLACE, place)
            heading = options.headings_deg[int(random.integers(len(options.headings_deg)))]
            for run in range(options.num_database_runs):
                if len(shots) >= num_photos:
                    return CityShots(tuple(shots), runs, frozenset(inner))
                here = float(along + random.uniform(-3, 3))
                spot = _at(street, here, float(random.uniform(-0.25, 0.25)) * street.half_width_m)
                grid_heading = (
                    _grid_heading(street) + heading + float(random.uniform(-10, 10))
                ) % 360
                weather = runs[run].condition.name
                shots.append(
                    Shot(
                        len(shots), "database", weather, run, number, here, float(spot[0]),
                        float(spot[1]), 2.3, grid_heading, len(shots), 0, 10.0 * place,
                        place=place,
                    )
                )  # fmt: skip
            place += 1
    return CityShots(tuple(shots), runs, frozenset(inner))


def with_mesh(shots: CityShots) -> CityShots:
    """The same photos, and for every database photo its render from the coarse mesh."""
    renders = [
        replace(shot, number=len(shots.shots) + k, is_mesh=True)
        for k, shot in enumerate(shot for shot in shots.shots if shot.role == "database")
    ]
    return shots._replace(shots=(*shots.shots, *renders))


def as_crops(shots: CityShots, *, panoramas_of: frozenset[int]) -> CityShots:
    """The same photos, those of the database as crops of their stops' panoramas, which are centred
    on a stop's first photo.

    The panoramas of some runs are photos too.
    """
    firsts = {shot.stop: shot for shot in shots.shots if shot.role == "database" and shot.tile == 0}
    numbers = {stop: len(shots.shots) + k for k, stop in enumerate(firsts)}
    crops = [
        replace(shot, cut_from=numbers[shot.stop], panorama_deg=firsts[shot.stop].grid_heading_deg)
        if shot.role == "database"
        else shot
        for shot in shots.shots
    ]
    panoramas = [
        replace(shot, number=numbers[stop], is_panorama=True, panorama_deg=shot.grid_heading_deg)
        for stop, shot in firsts.items()
        if shot.run in panoramas_of
    ]
    return shots._replace(shots=(*crops, *panoramas))


def thinned(shots: CityShots, *, run: int, every: int) -> CityShots:
    """The photos, of one run of the database those of every so many stops alone."""
    kept = [
        shot
        for shot in shots.shots
        if shot.run != run or shot.role != "database" or shot.stop % every == 0
    ]
    return shots._replace(
        shots=tuple(replace(shot, number=number) for number, shot in enumerate(kept))
    )


def twice(shots: CityShots) -> CityShots:
    """The database's photos as frames of a drive, and each taken again as a query under the
    condition of the last run."""
    last = max(shots.runs)
    database = [
        replace(shot, frame=frame)
        for frame, shot in enumerate(s for s in shots.shots if s.role == "database")
    ]
    again = [
        replace(
            shot,
            number=len(database) + shot.frame,
            role="queries",
            condition=shots.runs[last].condition.name,
            run=last,
        )
        for shot in database
    ]
    return shots._replace(shots=(*database, *again))


def _grid_heading(street: Street) -> float:
    return float(np.degrees(np.arctan2(street.direction[0], street.direction[1])))


def _at(street: Street, along: float, aside: float) -> np.ndarray:
    """The point that far along a street and that far to the right of its axis."""
    return np.asarray(
        street.start
        + street.direction * along
        + np.array([street.direction[1], -street.direction[0]]) * aside
    )


def spread(weights: Mapping[str, float], *, seed: int, favourite_share: float) -> dict[str, float]:
    """The conditions with most of the weight on one of them, chosen by the seed: the weather of one
    client."""
    names = list(weights)
    favourite = names[int(random_stream(seed, _LIFT).integers(len(names)))]
    rest = sum(weights.values()) or 1.0
    return {
        name: (1 - favourite_share) * weights[name] / rest + favourite_share * (name == favourite)
        for name in names
    }
