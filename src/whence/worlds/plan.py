"""The plan of a city: street graph, blocks, building lots. Everything follows from the seed;
nothing is drawn here.

Frame: metres east (x), north (y) and up (z) of the city's UTM origin.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np

from whence.geo import utm_zone
from whence.runtime import random_stream
from whence.types import GeoPoint

LANE, STREET, AVENUE, BOULEVARD = range(4)
HALF_WIDTH_M = ((6.0, 8.0), (9.0, 11.5), (13.0, 16.0), (20.0, 23.0))
"""Distance from the axis to the building line, by street kind."""
BUILT, PARK, SQUARE = range(3)
_PLAN, _LOTS, _LOOKS, _PLACES, _REPEATS = range(5)


@dataclass(frozen=True, slots=True)
class CityOptions:
    """What a city follows from, beside its seed."""

    num_columns: int = 4
    num_rows: int = 4
    aliased_share: float = 0.25
    """Share of streets whose buildings repeat those of another street (other signs, other
    stains)."""
    repeated_share: float = 0.0
    """Share of fronts that repeat the one beside them, so that neighbouring cells of a map show the
    same."""
    is_test_city: bool = False
    """Whether the city may use the style families that are reserved for testing."""
    diagonal_share: float = 0.12
    open_share: float = 0.12
    """Share of blocks that are parks or squares."""


class Street(NamedTuple):
    """One street between two corners."""

    start: np.ndarray
    end: np.ndarray
    half_width_m: float
    kind: int
    is_inner: bool
    """Whether built blocks (or parks) lie on both sides and photos may be taken here."""
    look: int
    """Streets of equal look have the same sequence of buildings."""
    is_aliased: bool

    @property
    def length_m(self) -> float:
        return float(np.hypot(*(self.end - self.start)))

    @property
    def direction(self) -> np.ndarray:
        return (self.end - self.start) / self.length_m


class Block(NamedTuple):
    """A piece of ground between streets: corners (n, 2) counter-clockwise on the building line, and
    the street of each side."""

    corners: np.ndarray
    streets: tuple[int, ...]
    use: int


class Lot(NamedTuple):
    """One building front. `origin` is its lower left corner seen from the street, `along` the unit
    vector to its right."""

    origin: np.ndarray
    along: np.ndarray
    width_m: float
    num_floors: int
    street: int
    block: int
    look: tuple[int, ...]
    """Key of the random stream of its architecture."""
    instance: tuple[int, ...]
    """Key of the random stream of what is its own: shops and stains."""
    is_aliased: bool = False
    """Whether other streets hold its double; most of those then house branches of the same
    shops."""

    @property
    def outward(self) -> np.ndarray:
        return np.array([self.along[1], -self.along[0]])


@dataclass(frozen=True)
class CityPlan:
    """The streets, blocks and lots of one city, and where it lies on Earth."""

    seed: int
    options: CityOptions
    origin_east_m: float
    origin_north_m: float
    zone: str
    streets: tuple[Street, ...] = field(repr=False)
    blocks: tuple[Block, ...] = field(repr=False)
    lots: tuple[Lot, ...] = field(repr=False)

    @cached_property
    def nodes(self) -> list[tuple[np.ndarray, float, np.ndarray]]:
        """Corners of the street graph: centre, half side, direction of the widest street there."""
        found: dict[tuple[float, float], tuple[np.ndarray, float, np.ndarray]] = {}
        for street in self.streets:
            for point in (street.start, street.end):
                key = (round(float(point[0]), 2), round(float(point[1]), 2))
                if key not in found or found[key][1] < street.half_width_m:
                    found[key] = (point, street.half_width_m, street.direction)
        return list(found.values())

    @cached_property
    def built_sides(self) -> frozenset[tuple[int, bool]]:
        """(street, is it the right side) for every side of a street, along its direction, that has
        buildings."""
        return frozenset(
            (lot.street, bool(self.streets[lot.street].direction @ lot.along < 0))
            for lot in self.lots
        )

    @cached_property
    def extent_m(self) -> tuple[np.ndarray, np.ndarray]:
        """Lower left and upper right corner of everything built."""
        corners = np.concatenate([block.corners for block in self.blocks])
        return corners.min(axis=0), corners.max(axis=0)


def plan_city(
    seed: int,
    *,
    options: CityOptions | None = None,
    near: GeoPoint | None = None,
    offset_m: tuple[float, float] = (0.0, 0.0),
) -> CityPlan:
    """The plan that follows from the seed. `near` puts the city there, else the seed does;
    `offset_m`: east, north."""
    options = options or CityOptions()
    random = random_stream(seed, _PLAN)
    point = near or choose_place(seed)
    zone = utm_zone(point.lat, point.lon)
    from whence.geo import to_utm

    origin = to_utm(point, zone=zone)
    corners = _corner_grid(random, options)
    streets, blocks = _streets_and_blocks(seed, random, options, corners)
    lots = tuple(
        lot
        for number, block in enumerate(blocks)
        for lot in _lots_of(seed, number, block, streets, options.repeated_share)
    )
    east, north = round(origin.east_m, -1) + offset_m[0], round(origin.north_m, -1) + offset_m[1]
    return CityPlan(seed, options, east, north, zone, tuple(streets), tuple(blocks), lots)


def choose_place(seed: int) -> GeoPoint:
    """A place in the inhabited latitudes, far enough from a zone's edge for a few cities side by
    side."""
    random = random_stream(seed, _PLACES)
    lat = float(random.uniform(-40, 58))
    zone_centre = float(random.integers(1, 61)) * 6 - 183
    return GeoPoint(lat, zone_centre + float(random.uniform(-1.2, 1.2)))


def _corner_grid(random: np.random.Generator, options: CityOptions) -> np.ndarray:
    """Street corners (columns + 1, rows + 1, 2): blocks of 60 to 120 m, shifted and bent."""
    across = np.concatenate([[0.0], np.cumsum(random.uniform(78, 132, options.num_columns))])
    upward = np.concatenate([[0.0], np.cumsum(random.uniform(78, 132, options.num_rows))])
    corners = np.stack(np.meshgrid(across, upward, indexing="ij"), axis=-1)
    corners += random.uniform(-7, 7, corners.shape)
    turn = random.uniform(0, np.pi / 2)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    return (corners - corners.mean(axis=(0, 1))) @ rotation.T


def _line_kinds(random: np.random.Generator, count: int) -> list[tuple[int, float]]:
    kinds = random.choice([LANE, STREET, AVENUE, BOULEVARD], size=count, p=[0.26, 0.44, 0.21, 0.09])
    return [(int(kind), float(random.uniform(*HALF_WIDTH_M[kind]))) for kind in kinds]


def _streets_and_blocks(
    seed: int, random: np.random.Generator, options: CityOptions, corners: np.ndarray
) -> tuple[list[Street], list[Block]]:
    columns, rows = options.num_columns, options.num_rows
    upright, level = _line_kinds(random, columns + 1), _line_kinds(random, rows + 1)
    streets: list[Street] = []
    number_of: dict[tuple[int, int, int], int] = {}

    def add(start: np.ndarray, end: np.ndarray, kind: tuple[int, float], is_inner: bool) -> int:
        number = len(streets)
        looks = random_stream(seed, _LOOKS, number)
        is_aliased = bool(looks.random() < options.aliased_share)
        # Few shared looks, so that every aliased street has several doubles.
        look = (
            int(looks.integers(max(1, round(columns * rows * options.aliased_share / 3))))
            if is_aliased
            else 1000 + number
        )
        streets.append(Street(start, end, kind[1], kind[0], is_inner, look, is_aliased))
        return number

    for i in range(columns + 1):
        for j in range(rows + 1):
            if i < columns:
                number_of[i, j, 0] = add(corners[i, j], corners[i + 1, j], level[j], 0 < j < rows)
            if j < rows:
                number_of[i, j, 1] = add(
                    corners[i, j], corners[i, j + 1], upright[i], 0 < i < columns
                )
    blocks: list[Block] = []
    for i in range(columns):
        for j in range(rows):
            ring = [corners[i, j], corners[i + 1, j], corners[i + 1, j + 1], corners[i, j + 1]]
            sides = [
                number_of[i, j, 0],
                number_of[i + 1, j, 1],
                number_of[i, j + 1, 0],
                number_of[i, j, 1],
            ]
            draw = random.random(2)
            if draw[0] < options.diagonal_share:
                cut = add(ring[0], ring[2], (LANE, 7.0), True)
                blocks += [
                    _block([ring[0], ring[1], ring[2]], [sides[0], sides[1], cut], streets, BUILT),
                    _block([ring[0], ring[2], ring[3]], [cut, sides[2], sides[3]], streets, BUILT),
                ]
            else:
                use = (
                    BUILT
                    if draw[1] > options.open_share
                    else (PARK if random.random() < 0.5 else SQUARE)
                )
                blocks.append(_block(ring, sides, streets, use))
    for i in range(columns):
        blocks.append(_outer(corners[i + 1, 0], corners[i, 0], number_of[i, 0, 0], streets))
        blocks.append(
            _outer(corners[i, rows], corners[i + 1, rows], number_of[i, rows, 0], streets)
        )
    for j in range(rows):
        blocks.append(_outer(corners[0, j], corners[0, j + 1], number_of[0, j, 1], streets))
        blocks.append(
            _outer(corners[columns, j + 1], corners[columns, j], number_of[columns, j, 1], streets)
        )
    return streets, blocks


def _outer(start: np.ndarray, end: np.ndarray, street: int, streets: list[Street]) -> Block:
    """A strip of buildings beyond a street at the city's edge, so that no view ends in nothing."""
    along = (end - start) / np.hypot(*(end - start))
    inward = np.array([-along[1], along[0]])
    half = streets[street].half_width_m
    front = [start + inward * half - along * half, end + inward * half + along * half]
    return Block(
        np.array([*front, front[1] + inward * 12, front[0] + inward * 12]),
        (street, -1, -1, -1),
        BUILT,
    )


def _block(ring: list[np.ndarray], sides: list[int], streets: list[Street], use: int) -> Block:
    """The ring moved inwards by each street's half width."""
    count = len(ring)
    points, directions = [], []
    for k in range(count):
        direction = ring[(k + 1) % count] - ring[k]
        direction = direction / np.hypot(*direction)
        inward = np.array([-direction[1], direction[0]])
        points.append(ring[k] + inward * streets[sides[k]].half_width_m)
        directions.append(direction)
    corners = [
        _crossing(points[k - 1], directions[k - 1], points[k], directions[k]) for k in range(count)
    ]
    return Block(np.array(corners), tuple(sides), use)


def _crossing(p: np.ndarray, d: np.ndarray, q: np.ndarray, e: np.ndarray) -> np.ndarray:
    """Where the line through p along d meets the line through q along e."""
    cross = d[0] * e[1] - d[1] * e[0]
    step = ((q[0] - p[0]) * e[1] - (q[1] - p[1]) * e[0]) / cross
    return p + step * d


def _lots_of(
    seed: int, number: int, block: Block, streets: list[Street], repeated_share: float
) -> list[Lot]:
    if block.use != BUILT:
        return []
    lots: list[Lot] = []
    count = len(block.corners)
    for side, street_number in enumerate(block.streets):
        if street_number < 0:
            continue
        start, end = block.corners[side], block.corners[(side + 1) % count]
        length = float(np.hypot(*(end - start)))
        along = (end - start) / max(length, 1e-9)
        street = streets[street_number]
        # Which side of its street this is, from the street's own direction: doubles repeat left on
        # left, right on right.
        is_left = int(np.dot(street.direction, along) < 0)
        if length < 6:
            continue
        look = random_stream(seed, _LOTS, street.look, is_left)
        base = 4.0 if street.is_aliased else (3.0, 4.0, 5.0, 5.5)[street.kind]
        spans: list[tuple[float, int]] = []
        # The front whose looks each has: its own, or those of the one before it.
        models: list[int] = []
        repeats = random_stream(seed, _REPEATS, number, side)
        while sum(width for width, _ in spans) < length:
            span = float(look.uniform(9.0, 19.0)), int(np.clip(round(look.normal(base, 1.2)), 2, 8))
            is_repeated = bool(spans) and repeats.random() < repeated_share
            models.append(models[-1] if is_repeated else len(spans))
            spans.append(spans[-1] if is_repeated else span)
        reached = 0.0
        for k, (width, num_floors) in enumerate(spans):
            width = min(width, length - reached)
            rest = length - reached - width
            if rest < 6.0:
                width += rest
            lots.append(
                Lot(
                    start + along * reached,
                    along,
                    width,
                    num_floors,
                    street_number,
                    number,
                    (seed, _LOTS, street.look, is_left, models[k] + 1),
                    (seed, _LOTS, number, side, models[k] + 1, 7),
                    street.is_aliased,
                )
            )
            reached += width
            if length - reached < 1e-6:
                break
    return lots
