"""A world without pixels: where photos would have been taken, as columns on disk, for measurements
at scale.

Columns are .npy files of equal length, written in chunks, so that memory does not grow with the
number of photos:

    east_m, north_m  float64   UTM
    heading_deg      float32   clockwise from true north
    year             int16
    stop             int32     photos of one stop share it
    role             uint8     0 database, 1 queries

`positions.json` holds the zone and the counts; the "@" name of any row follows from `row_name`.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import numpy as np

from whence.data.columns import POSITION_COLUMNS, PositionColumns
from whence.data.names import format_name
from whence.errors import BadOption, InputError, UnwritableFile
from whence.geo import from_utm, to_utm, utm_zone
from whence.runtime import atomic_write, progress, random_stream
from whence.types import PlanePoint
from whence.worlds.plan import choose_place

CHUNK = 1_000_000
BLOCK_M = 105.0
STOP_M = 9.0
_WORLD, _ROWS = 81, 82
_STOPS_PER_STREET = int(BLOCK_M // STOP_M)


def write_positions(
    out: str | Path,
    *,
    num_photos: int,
    seed: int = 0,
    queries_share: float = 0.1,
    num_headings: int = 12,
    show_progress: bool | None = None,
) -> PositionColumns:
    """The positions of a city with this many virtual photos, written in a grid of streets as large
    as they need.

    Stops lie 9 m apart with jitter along streets 105 m apart; each has `num_headings` photos of one
    year. An even share of the rows are queries: moved sideways and turned. Raises `BadOption` and
    `InputError`.
    """
    if not 1 <= num_photos <= 200_000_000 or not 0 <= queries_share < 1 or num_headings < 1:
        raise BadOption(
            f"{num_photos} photos, {queries_share} queries, {num_headings} headings: 1 to 2e8, 0 "
            "to 1, 1 or more"
        )
    out = Path(out)
    record = {
        "seed": seed,
        "num_photos": num_photos,
        "queries_share": queries_share,
        "num_headings": num_headings,
    }
    described = out / "positions.json"
    if described.is_file():
        found = json.loads(described.read_text(encoding="utf-8"))
        if {name: found.get(name) for name in record} != record:
            raise InputError(
                f"{str(described)!r} describes other positions; choose another folder, or delete "
                "this one"
            )
        return PositionColumns.open(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UnwritableFile(out, error) from error
    point = choose_place(seed)
    zone = utm_zone(point.lat, point.lon)
    origin = to_utm(point, zone=zone)
    streets = -(-num_photos // (_STOPS_PER_STREET * num_headings))
    side = int(np.ceil(np.sqrt(streets / 2)))
    corner = (origin.east_m - side * BLOCK_M / 2, origin.north_m - side * BLOCK_M / 2)
    with (
        contextlib.ExitStack() as stack,
        progress("placing", total=num_photos, show=show_progress) as advance,
    ):
        files = {
            name: stack.enter_context(atomic_write(out / f"{name}.npy"))
            for name in POSITION_COLUMNS
        }
        for name, dtype in POSITION_COLUMNS.items():
            header = {
                "descr": np.lib.format.dtype_to_descr(np.dtype(dtype)),
                "fortran_order": False,
                "shape": (num_photos,),
            }
            np.lib.format.write_array_header_1_0(files[name], header)
        for first in range(0, num_photos, CHUNK):
            rows = np.arange(first, min(first + CHUNK, num_photos))
            values = _chunk(rows, seed, side, num_headings, queries_share)
            values["east_m"] += corner[0]
            values["north_m"] += corner[1]
            for name, dtype in POSITION_COLUMNS.items():
                files[name].write(np.ascontiguousarray(values[name], dtype).tobytes())
            advance(len(rows))
    with atomic_write(described, "w") as file:
        json.dump({**record, "zone": zone, "format": 1}, file, indent=1)
    return PositionColumns.open(out)


def _chunk(
    rows: np.ndarray, seed: int, side: int, num_headings: int, queries_share: float
) -> dict[str, np.ndarray]:
    """The columns of consecutive rows, metres from the grid's corner. Follows from the rows' chunk
    alone."""
    random = random_stream(seed, _ROWS, int(rows[0] // CHUNK))
    stop, tile = np.divmod(rows, num_headings)
    street, along = np.divmod(stop, _STOPS_PER_STREET)
    is_upright = street % 2 == 1
    line, place = np.divmod(street // 2, side)
    # The jitter of a stop follows from its number, so that photos of one stop agree across chunks.
    mixed = _mixed(stop, seed)
    forward = place * BLOCK_M + (along + 0.5) * STOP_M + mixed[0] * 1.0
    aside = line * BLOCK_M + mixed[1] * 1.5
    is_query = random.random(len(rows)) < queries_share
    aside = aside + np.where(is_query, random.uniform(-7, 7, len(rows)), 0)
    forward = forward + np.where(is_query, random.uniform(-4, 4, len(rows)), 0)
    heading = (
        tile * (360.0 / num_headings)
        + mixed[2] * 6
        + np.where(is_query, random.uniform(-40, 40, len(rows)), 0)
    )
    return {
        "east_m": np.where(is_upright, aside, forward),
        "north_m": np.where(is_upright, forward, aside),
        "heading_deg": (heading % 360).astype(np.float32) % np.float32(360),
        "year": (2010 + (mixed[3] + 1) * 6).astype(np.int16),
        "stop": stop.astype(np.int32),
        "role": is_query.astype(np.uint8),
    }


def _mixed(stop: np.ndarray, seed: int) -> np.ndarray:
    """Four numbers in [-1, 1) for each stop (4, N): bits of a multiplicative hash (splitmix64,
    Steele et al. 2014)."""
    found = []
    for k in range(4):
        z = (
            stop.astype(np.uint64) * np.uint64(4)
            + np.uint64(k)
            + np.uint64((seed + 1) * 0x9E3779B97F4A7C15 % 2**64)
        )
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
        found.append((z >> np.uint64(11)).astype(np.float64) * (2.0 / 2**53) - 1)
    return np.stack(found)


def row_name(positions: PositionColumns, row: int) -> str:
    """The "@" file name that a row's photo would have."""
    plane = PlanePoint(float(positions.east_m[row]), float(positions.north_m[row]), positions.zone)
    return format_name(
        point=from_utm(plane.east_m, plane.north_m, zone=plane.zone),
        plane=plane,
        pano_id=f"s{int(positions.stop[row]):08d}",
        heading_deg=float(positions.heading_deg[row]),
        note=str(row),
    )
