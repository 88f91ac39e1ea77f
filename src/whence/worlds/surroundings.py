"""What stands and lies in a city and never moves, as columns of planes: fronts, side walls, ground
pieces, trees, lamps."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from whence.runtime import random_stream
from whence.worlds import ground, sprites
from whence.worlds.plan import AVENUE, BOULEVARD, PARK, SQUARE, CityPlan, Lot
from whence.worlds.textures import solid

PARTY_WALL_M = 10.0
"""Depth of the side walls that show over a lower neighbour."""
_TREES = 21


class Fronts(NamedTuple):
    """Columns of the lots: upper left corners, edge vectors, outward normals; middles for the
    search."""

    origin: np.ndarray
    across: np.ndarray
    down: np.ndarray
    outward: np.ndarray
    middle: np.ndarray


class GroundPieces(NamedTuple):
    """Columns of the ground pieces, in the order they are drawn: planes as in `Fronts`, and the
    keys of their textures."""

    origin: np.ndarray
    across: np.ndarray
    down: np.ndarray
    middle: np.ndarray
    keys: list[tuple]


class Stands(NamedTuple):
    """Columns of what stands upright and turns to the camera: place (2), width and height, kind,
    variant."""

    place: np.ndarray
    size: np.ndarray
    kind: np.ndarray
    variant: np.ndarray


def front_columns(lots: tuple[Lot, ...], heights: np.ndarray) -> Fronts:
    """The fronts of all lots as planes."""
    along = np.array([[*lot.along, 0.0] for lot in lots]).reshape(-1, 3)
    foot = np.array([[*lot.origin, 0.0] for lot in lots]).reshape(-1, 3)
    width = np.array([lot.width_m for lot in lots])
    across = along * width[:, None]
    down = np.stack([np.zeros_like(heights), np.zeros_like(heights), -heights], axis=1)
    outward = np.stack([along[:, 1], -along[:, 0], np.zeros(len(lots))], axis=1)
    return Fronts(foot - down, across, down, outward, (foot + across / 2)[:, :2])


def party_walls(lots: tuple[Lot, ...], heights: np.ndarray) -> Fronts:
    """Side walls of buildings that rise over their neighbour or stand at a gap."""
    origin, across, down, outward = [], [], [], []
    for k in range(len(lots)):
        lot, other = lots[k], lots[(k + 1) % len(lots)]
        end = lot.origin + lot.along * lot.width_m
        is_row = other.block == lot.block and np.hypot(*(end - other.origin)) < 0.1
        for tall, low in ((heights[k], heights[(k + 1) % len(lots)]),):
            if not is_row or abs(tall - low) < 0.8 or np.dot(lot.along, other.along) < 0.99:
                continue
            inward = -np.array([*lot.outward, 0.0])
            top, bottom = max(tall, low), min(tall, low)
            sign = 1.0 if tall > low else -1.0
            start = np.array([*end, top]) + (inward * PARTY_WALL_M if sign < 0 else 0)
            origin.append(start)
            across.append(inward * PARTY_WALL_M * sign)
            down.append([0, 0, bottom - top])
            outward.append([*(lot.along * sign), 0.0])
    shape = (-1, 3)
    corner, edge, fall, facing = (
        np.array(values, float).reshape(shape) for values in (origin, across, down, outward)
    )
    return Fronts(corner, edge, fall, facing, corner[:, :2])


def draw_party_wall(number: int) -> np.ndarray:
    """A plain side wall, one of seven colours."""
    texture = solid(
        96,
        200,
        (
            (150, 140, 128),
            (134, 118, 106),
            (168, 164, 156),
            (120, 84, 72),
            (142, 142, 144),
            (178, 164, 140),
            (110, 104, 100),
        )[number],
    )
    shade = 1 + 0.06 * ground.noise_patch(96, 200, number * 31)
    texture[..., :3] = np.clip(texture[..., :3] * shade[..., None], 0, 255).astype(np.uint8)
    return texture


def ground_pieces(plan: CityPlan) -> GroundPieces:
    """The pieces of all streets, of crossings, parks and squares."""
    rows: list[tuple[np.ndarray, np.ndarray, np.ndarray, tuple]] = []
    for number, street in enumerate(plan.streets):
        along = np.array([*street.direction, 0.0])
        leftward = np.array([-along[1], along[0], 0.0])
        half = round(street.half_width_m * 2) / 2
        count = max(1, round(street.length_m / ground.PIECE_M))
        length = street.length_m / count
        start = np.array([*street.start, 0.0])
        for k in range(count):
            variant = 0 if k in (1, count - 2) and count > 3 else 1 + (number * 7 + k * 3) % 4
            # Rows of the texture run back along the street, columns to its right.
            origin = start + along * length * (k + 1) + leftward * street.half_width_m
            rows.append(
                (
                    origin,
                    -leftward * 2 * street.half_width_m,
                    -along * length,
                    ("street", half, street.kind, variant),
                )
            )
    first = []
    for centre, half, direction in plan.nodes:
        along = np.array([*direction, 0.0])
        leftward = np.array([-along[1], along[0], 0.0])
        walk = half - ground.pavement_m(half)
        first.append(
            (
                np.array([*centre, 0.0]) + (along + leftward) * walk,
                -leftward * 2 * walk,
                -along * 2 * walk,
                ("ground", "asphalt"),
            )
        )
    for block in plan.blocks:
        if block.use in (PARK, SQUARE):
            rows += _tiles(block.corners, ("ground", "grass" if block.use == PARK else "paving"))
    rows = first + rows
    origin, across, down = (np.stack([row[k] for row in rows]) for k in range(3))  # type: ignore[misc]
    return GroundPieces(
        origin, across, down, (origin + (across + down) / 2)[:, :2], [row[3] for row in rows]
    )


def _tiles(
    corners: np.ndarray, key: tuple
) -> list[tuple[np.ndarray, np.ndarray, np.ndarray, tuple]]:
    """Parallelograms of about 24 m that cover a block; what lies beyond its edge is covered by the
    streets, drawn before."""
    low, high = corners.min(axis=0), corners.max(axis=0)
    found = []
    for x in np.arange(low[0], high[0], 24.0):
        for y in np.arange(low[1], high[1], 24.0):
            found.append(
                (np.array([x, y + 24.0, 0.0]), np.array([24.0, 0, 0]), np.array([0, -24.0, 0]), key)
            )
    return found


def place_stands(plan: CityPlan) -> Stands:
    """Trees and lamps along the streets, trees and benches in parks and squares."""
    random = random_stream(plan.seed, _TREES)
    rows: list[tuple[np.ndarray, tuple[float, float], str, int]] = []
    for street in plan.streets:
        has_trees = street.kind in (AVENUE, BOULEVARD) or random.random() < 0.25
        right = np.array([street.direction[1], -street.direction[0]])
        offset = street.half_width_m - ground.pavement_m(street.half_width_m) + 0.6
        spacing = float(random.uniform(9, 16))
        for k, along in enumerate(np.arange(14.0, street.length_m - 14, spacing)):
            for side in (-1, 1):
                place = (
                    street.start
                    + street.direction * (along + random.uniform(-1, 1))
                    + right * side * offset
                )
                if has_trees and random.random() < 0.8:
                    scale = float(random.uniform(0.6, 1.1))
                    rows.append(
                        (
                            place,
                            (6 * scale, 8 * scale),
                            "tree",
                            int(random.integers(sprites.NUM_TREES)),
                        )
                    )
                elif k % 2 == (side > 0):
                    rows.append((place, (1.2, 6.0), "lamp", 0))
    for block in plan.blocks:
        if block.use in (PARK, SQUARE):
            centre = block.corners.mean(axis=0)
            for _ in range(22 if block.use == PARK else 8):
                weights = random.dirichlet(np.ones(len(block.corners)) * 0.9)
                place = (block.corners * weights[:, None]).sum(axis=0) * 0.9 + centre * 0.1
                scale = float(random.uniform(0.7, 1.3))
                is_bench = random.random() < 0.25
                rows.append(
                    (place, (1.8, 0.9), "bench", 0)
                    if is_bench
                    else (place, (6 * scale, 8 * scale), "tree", int(random.integers(8)))
                )
    if not rows:
        rows.append((np.array([1e9, 1e9]), (1.0, 1.0), "bench", 0))
    return Stands(
        np.array([row[0] for row in rows]),
        np.array([row[1] for row in rows]),
        np.array([row[2] for row in rows]),
        np.array([row[3] for row in rows]),
    )
