"""Contact sheets: a world at a glance, for a person to judge whether it looks like streets."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from whence.runtime import atomic_write
from whence.worlds.capture import Shot
from whence.worlds.city import WorldOptions, make_spec
from whence.worlds.photographer import Photographer
from whence.worlds.plan import Street
from whence.worlds.shards import CACHE_BYTES, city_works
from whence.worlds.works import CityWork

_COLUMNS = 6
_CAPTION_PX = 22
_Row = tuple[str, list[Shot]]


def contact_sheet(
    path: str | Path,
    *,
    preset: str = "small",
    seed: int = 0,
    options: WorldOptions | None = None,
    layout: str = "folders",
) -> Path:
    """The path of a PNG, drawn of a world's first city.

    One place on different days and from shifted viewpoints, neighbours, streets that look alike,
    both sides of a street, queries.
    """
    work = next(
        city_works(make_spec(preset, seed=seed, layout=layout, options=options or WorldOptions()))
    )
    photographer = Photographer(
        work.plan, work.shots.runs, options=work.capture, px_per_m=32.0, cache_bytes=CACHE_BYTES
    )
    strips = [
        _strip(caption, [photographer.take(shot)[0] for shot in shots])
        for caption, shots in _rows(work)
        if shots
    ]
    data = cv2.imencode(".png", cv2.cvtColor(np.vstack(strips), cv2.COLOR_RGB2BGR))[1]
    with atomic_write(path) as file:
        file.write(data.tobytes())
    return Path(path)


def _rows(work: CityWork) -> list[_Row]:
    database = [shot for shot in work.shots.shots if shot.role == "database"]
    queries = [shot for shot in work.shots.shots if shot.role == "queries"]
    one = next((shot for shot in database if shot.tile == 1 and shot.stop % 7 == 3), database[0])
    # What is moved, or taken on another day, is a photo of its own and no crop of the panorama that
    # this one may be cut from.
    alone = replace(one, cut_from=-1)
    street = work.plan.streets[one.street]
    aside = np.array([street.direction[1], -street.direction[0]])

    def moved(shift_m: float, turn_deg: float) -> Shot:
        x, y = np.array([one.x_m, one.y_m]) + aside * shift_m
        return replace(
            alone, x_m=float(x), y_m=float(y), grid_heading_deg=one.grid_heading_deg + turn_deg
        )

    days = [
        replace(
            alone, role="queries", condition=run.condition.name, run=number, number=900_000 + number
        )
        for number, run in work.shots.runs.items()
        if number
        and list(work.capture.conditions)[number - work.capture.num_database_runs]
        not in ("occluded", "rotated")
    ]
    reach = 0.5 * street.half_width_m
    shifts = [
        moved(shift, turn)
        for shift, turn in ((0, 0), (reach, 0), (-reach, 0), (0, 15), (0, 30), (0, -30))
    ]
    stops = sorted({shot.stop for shot in database if shot.street == one.street})[:_COLUMNS]
    neighbours = [
        next(shot for shot in database if shot.stop == stop and shot.tile == one.tile)
        for stop in stops
    ]
    sides = [shot for shot in database if shot.stop == one.stop]
    hard = [
        shot
        for name in ("occluded", "rotated")
        for shot in [s for s in queries if s.condition == name][:3]
    ]
    return [
        ("one place on different days", [one, *days][: 2 * _COLUMNS]),
        ("the same place from shifted and turned viewpoints", shifts),
        ("neighbours along the street", neighbours),
        ("all directions of one stop: both sides of the street", sides[:_COLUMNS]),
        ("streets that look alike (pairs)", _doubles(work, alone)),
        ("queries", queries[:: max(1, len(queries) // (2 * _COLUMNS))][: 2 * _COLUMNS]),
        ("occluded, rotated", hard[:_COLUMNS]),
    ]


def _doubles(work: CityWork, like: Shot) -> list[Shot]:
    """The same building front seen in two or more streets of the same look."""
    lots: dict[tuple[int, ...], list[int]] = {}
    for k, lot in enumerate(work.plan.lots):
        if lot.is_aliased and work.plan.streets[lot.street].is_inner and lot.width_m > 10:
            lots.setdefault(lot.look, []).append(k)
    shots: list[Shot] = []
    for group in sorted(
        (group for group in lots.values() if len(group) > 1), key=lambda group: -len(group)
    ):
        for k in group[:2]:
            shots.append(_facing(work, k, like))
        if len(shots) >= _COLUMNS:
            break
    return shots[:_COLUMNS]


def _facing(work: CityWork, number: int, like: Shot) -> Shot:
    lot = work.plan.lots[number]
    street: Street = work.plan.streets[lot.street]
    back = min(1.6 * street.half_width_m, 16.0)
    place = lot.origin + lot.along * (lot.width_m / 2) + lot.outward * back
    grid_heading = float(np.degrees(np.arctan2(-lot.outward[0], -lot.outward[1])))
    return replace(
        like,
        street=lot.street,
        x_m=float(place[0]),
        y_m=float(place[1]),
        grid_heading_deg=grid_heading,
        stop=800_000 + number,
        number=800_000 + number,
    )


def _strip(caption: str, photos: list[np.ndarray]) -> np.ndarray:
    """Photos in rows of six under a caption."""
    height, width = photos[0].shape[:2]
    blank = np.full((height, width, 3), 255, np.uint8)
    photos = photos + [blank] * (-len(photos) % _COLUMNS)
    rows = [np.hstack(photos[k : k + _COLUMNS]) for k in range(0, len(photos), _COLUMNS)]
    title = np.full((_CAPTION_PX, rows[0].shape[1], 3), 255, np.uint8)
    cv2.putText(
        title,
        caption,
        (6, _CAPTION_PX - 7),
        cv2.FONT_HERSHEY_SIMPLEX,
        0.5,
        (0, 0, 0),
        1,
        cv2.LINE_AA,
    )
    return np.vstack([title, *rows])
