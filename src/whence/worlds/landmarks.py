"""Landmarks: building fronts that many cameras saw on many days, and which points of them each
photo shows."""

from __future__ import annotations

import numpy as np

from whence.runtime import random_stream
from whence.worlds.camera import Camera
from whence.worlds.capture import CaptureOptions, CityShots, Shot, plan_runs
from whence.worlds.plan import CityPlan
from whence.worlds.raster import Raster

_LANDMARK, _VIEW = 74, 75
VIEWS = 8
"""Photos of a landmark."""
MOST_ASIDE_M, NEAREST_M = 11.0, 6.0
POINT_M = 1.0
"""Surface within one cube of this side is one point."""
_FARTHEST_M = 60.0
_SAMPLES_ACROSS = 32


def plan_landmarks(
    plan: CityPlan, *, num_photos: int, num_queries: int, options: CaptureOptions
) -> CityShots:
    """Fronts in a random order, each with some photos from across its street, on days of all kinds;
    queries are more of them.

    No two landmarks stand on one street, so that photos of different ones show nothing together.
    """
    runs = plan_runs(plan.seed, options)
    inner = {k for k, street in enumerate(plan.streets) if street.is_inner}
    order = [plan.lots[k] for k in random_stream(plan.seed, _LANDMARK).permutation(len(plan.lots))]
    lots = list(
        {
            lot.street: lot for lot in reversed(order) if lot.street in inner and lot.width_m > 5
        }.values()
    )
    # The dictionary keeps the first lot of the order for each street, in the order that streets
    # came last.
    lots.reverse()
    names = list(runs)
    shots: list[Shot] = []
    for role, total in (("database", num_photos), ("queries", num_queries)):
        num_landmarks = max(1, min(len(lots), -(-num_photos // VIEWS)))
        for k in range(total):
            place = k // VIEWS % num_landmarks if role == "database" else k % num_landmarks
            lot, random = lots[place], random_stream(plan.seed, _VIEW, role == "queries", k)
            street = plan.streets[lot.street]
            target = lot.origin + lot.along * lot.width_m / 2
            farthest = max(NEAREST_M + 1, 2 * street.half_width_m - 1.5)
            away = float(random.uniform(NEAREST_M, farthest))
            aside = float(random.uniform(-1, 1)) * min(MOST_ASIDE_M, 1.2 * away)
            spot = target + lot.outward * away + lot.along * aside
            gaze = target - spot
            heading = float(np.degrees(np.arctan2(gaze[0], gaze[1]))) + float(
                random.uniform(-10, 10)
            )
            run = (
                names[int(random.integers(len(names)))]
                if role == "queries"
                else names[k % len(names)]
            )
            along = float((spot - street.start) @ street.direction)
            shots.append(
                Shot(
                    len(shots), role, runs[run].condition.name, run, lot.street, along,
                    float(spot[0]), float(spot[1]), 1.7, heading % 360, len(shots), 0, 10.0 * k,
                    frame=k, place=place,
                )
            )  # fmt: skip
    return CityShots(tuple(shots), runs, frozenset(inner))


def seen_points(raster: Raster) -> np.ndarray:
    """(n, 5) column, row and east, north, up in metres of what a photo sees of building fronts, by
    a grid of its pixels."""
    camera: Camera = raster.camera
    step = max(1, camera.width // _SAMPLES_ACROSS)
    rows, columns = (
        values.ravel()
        for values in np.mgrid[step // 2 : camera.height : step, step // 2 : camera.width : step]
    )
    is_front = np.array([False, *(info.lot >= 0 for info in raster.infos)])[
        raster.ids[rows, columns]
    ]
    inverse = raster.inverse_depth[rows, columns]
    kept = is_front & (inverse > 1 / _FARTHEST_M)
    rows, columns, depth = rows[kept], columns[kept], 1 / inverse[kept].astype(float)
    rays = (
        np.stack([columns, rows, np.ones(len(rows))], axis=1) @ np.linalg.inv(camera.projection).T
    )
    return np.column_stack([columns, rows, camera.centre + rays * depth[:, None]])


def number_points(views: list[np.ndarray]) -> tuple[list[np.ndarray], np.ndarray]:
    """For each photo the number of every point seen, from 0, and (P, 3) the points: what lies in
    one cube is one point."""
    whole = np.concatenate(views)[:, 2:] if views else np.empty((0, 3))
    cubes, numbers = np.unique(
        np.floor(whole / POINT_M).astype(np.int64), axis=0, return_inverse=True
    )
    parts = np.split(numbers.ravel(), np.cumsum([len(part) for part in views])[:-1])
    return parts, (cubes + 0.5) * POINT_M
