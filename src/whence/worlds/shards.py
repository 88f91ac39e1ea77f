"""Shares of a world: its cities with all their photos named, and the rendering of one share of
them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np

from whence.runtime import atomic_write
from whence.worlds.capture import CaptureOptions
from whence.worlds.layouts import get_layout
from whence.worlds.plan import CityOptions, choose_place, plan_city
from whence.worlds.presets import WorldSpec
from whence.worlds.truth import name_shots, write_pictures
from whence.worlds.works import CityWork, NamedShot

CITY_APART_M = 12_000.0
"""Distance between the origins of a world's cities, so that their coordinates never mix."""
CACHE_BYTES = 500_000_000
"""Textures a worker keeps."""


def city_works(spec: WorldSpec) -> Iterator[CityWork]:
    """The cities of a world with all their photos named, one after the other."""
    near = choose_place(spec.seed)
    layout = get_layout(spec.layout)
    for number, size in enumerate(spec.cities):
        capture = layout.capture(size, spec.capture)
        num_stops = size.num_database / len(capture.headings_deg) / capture.num_database_runs
        side = grid_side(
            round(num_stops * 6 * sum(capture.spacing_m) / sum(CaptureOptions().spacing_m))
        )
        options = CityOptions(
            num_columns=side,
            num_rows=side,
            aliased_share=spec.aliased_share,
            repeated_share=spec.repeated_share,
            is_test_city=size.is_test_city,
        )
        city_seed = spec.seed * 1000 + size.number
        row, column = divmod(number, 8)
        plan = plan_city(
            city_seed,
            options=options,
            near=near,
            offset_m=(CITY_APART_M * (column - 4), CITY_APART_M * row),
        )
        shots = layout.shots(plan, size, capture)
        names = name_shots(plan, shots, size.name)
        named = tuple(
            NamedShot(layout.path(size, shot, name, shots.runs[shot.run]), name, shot, heading)
            for shot, (name, heading) in zip(shots.shots, names, strict=True)
        )
        yield CityWork(size, plan, shots, capture, named)


def grid_side(num_database: int) -> int:
    """Blocks along a city's side that leave room for this many photos and for streets without
    any."""
    stops = num_database / 6
    side = 3
    # An inner street holds about ten stops, and a fifth of them stay uncovered.
    while 2 * side * (side - 1) * 10 * 0.8 < stops:
        side += 1
    return side


def render_shard(
    out: Path, spec: WorldSpec, *, shard: int, num_shards: int, advance: Callable[[int], None]
) -> None:
    """Render what is not there yet of one share of every city."""
    layout = get_layout(spec.layout)
    for work in city_works(spec):
        # Street by street, so that a front's textures are needed once and by one worker.
        ordered = sorted(
            work.named_shots,
            key=lambda named: (named.shot.street, named.shot.along_m, named.shot.number),
        )
        mine = ordered[
            len(ordered) * shard // num_shards : len(ordered) * (shard + 1) // num_shards
        ]
        todo = [named for named in mine if not (out / named.path).is_file()]
        if not todo:
            continue
        photographer = layout.photographer(work, px_per_m=spec.px_per_m, cache_bytes=CACHE_BYTES)
        for named in todo:
            photo, raster, quality = photographer.take(named.shot)
            write_pictures(out, named.path, raster, spec.truth)
            layout.write_truth(out, named.path, raster, photographer)
            write_photo(out / named.path, photo, quality=quality)
            advance(1)


def write_photo(path: Path, photo: np.ndarray, *, quality: int) -> None:
    """Write an RGB photo (H, W, 3) uint8 as JPEG, whole or not at all."""
    is_done, data = cv2.imencode(
        ".jpg", cv2.cvtColor(photo, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality]
    )
    assert is_done, "a JPEG in memory cannot fail"
    with atomic_write(path, is_flushed=False) as file:
        file.write(data.tobytes())
