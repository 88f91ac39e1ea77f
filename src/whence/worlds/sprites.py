"""Street furniture, vegetation, people and vehicles as flat textures. Same channels as building
fronts: RGB and coverage."""

from __future__ import annotations

import cv2
import numpy as np

from whence.runtime import random_stream
from whence.worlds.textures import LIT, SOLID

SEASONS = ("spring", "summer", "autumn", "winter")
NUM_TREES = 8
NUM_PEOPLE = 16
NUM_CARS = 12
_TREE, _PERSON, _CAR, _OTHER = 201, 202, 203, 204


def draw_tree(number: int, season: str, px_per_m: float) -> np.ndarray:
    """A tree 6 m wide and 8 m tall; bare in winter."""
    random = random_stream(_TREE, number)
    s = px_per_m
    width, height = round(6 * s), round(8 * s)
    tree = np.zeros((height, width, 4), np.uint8)
    tree[..., :3] = (74, 58, 44)
    _branch(
        tree,
        random,
        (width / 2, height - 1.0),
        -np.pi / 2,
        2.6 * s,
        0.16 * s,
        7 if season == "winter" else 5,
    )
    if season == "winter":
        return tree
    greens = {"spring": (126, 158, 70), "summer": (62, 102, 44), "autumn": (178, 112, 40)}[season]
    leaf = random_stream(_TREE, number, 9)
    shape = leaf.uniform(0.75, 1.15, 2)
    for k in range(240):
        radius = np.sqrt(leaf.random())
        turn = leaf.random() * 2 * np.pi
        x = width * (0.5 + 0.4 * radius * np.cos(turn) * shape[0])
        y = height * (0.36 + 0.31 * radius * np.sin(turn) * shape[1])
        light = 0.62 + 0.35 * (k / 240) + 0.25 * (0.5 - y / height) + leaf.uniform(-0.12, 0.12)
        colour = tuple(int(np.clip(c * light + leaf.uniform(-10, 10), 0, 255)) for c in greens)
        cv2.circle(
            tree, (int(x), int(y)), max(1, int(leaf.uniform(0.12, 0.42) * s)), (*colour, SOLID), -1
        )
    return tree


def _branch(
    tree: np.ndarray,
    random: np.random.Generator,
    foot: tuple[float, float],
    turn: float,
    length: float,
    thick: float,
    depth: int,
) -> None:
    """Draw a branch and what grows from it."""
    if depth == 0 or length < 2:
        return
    tip = (foot[0] + length * np.cos(turn), foot[1] + length * np.sin(turn))
    shade = int(random.integers(-14, 14))
    colour = (74 + shade, 60 + shade, 48 + shade, SOLID)
    cv2.line(
        tree,
        (int(foot[0]), int(foot[1])),
        (int(tip[0]), int(tip[1])),
        colour,
        max(1, round(2 * thick)),
    )
    for side in (-1, 1):
        _branch(
            tree,
            random,
            tip,
            turn + side * random.uniform(0.25, 0.65),
            length * random.uniform(0.55, 0.8),
            thick * 0.62,
            depth - 1,
        )


def draw_person(number: int, px_per_m: float) -> np.ndarray:
    """A pedestrian 0.9 m wide and 1.8 m tall."""
    random = random_stream(_PERSON, number)
    s = max(px_per_m, 40.0)
    width, height = round(0.9 * s), round(1.8 * s)
    person = np.zeros((height, width, 4), np.uint8)
    coat, legs, skin = (
        random.integers(20, 220, 3),
        random.integers(20, 110, 3),
        [(224, 188, 160), (166, 116, 84), (96, 66, 50)][number % 3],
    )
    person[..., :3] = coat
    middle = width // 2
    step = round(float(random.uniform(0.02, 0.16)) * s)
    for side in (-1, 1):
        cv2.line(
            person,
            (middle + side * 3, round(0.9 * s)),
            (middle + side * (step + 3), height - 3),
            (*map(int, legs), SOLID),
            round(0.15 * s),
        )
    cv2.ellipse(
        person,
        (middle, round(0.65 * s)),
        (round(0.24 * s), round(0.38 * s)),
        0,
        0,
        360,
        (*map(int, coat), SOLID),
        -1,
    )
    for side in (-1, 1):
        cv2.line(
            person,
            (middle + side * round(0.2 * s), round(0.42 * s)),
            (middle + side * round(0.27 * s), round(0.9 * s)),
            (*(int(c * 0.85) for c in coat), SOLID),
            round(0.1 * s),
        )
    cv2.circle(person, (middle, round(0.16 * s)), round(0.12 * s), (*skin, SOLID), -1)
    cv2.ellipse(
        person,
        (middle, round(0.12 * s)),
        (round(0.12 * s), round(0.1 * s)),
        0,
        180,
        360,
        (*map(int, legs), SOLID),
        -1,
    )
    return person


def draw_lamp(px_per_m: float) -> np.ndarray:
    """A street lamp 1.2 m wide and 6 m tall."""
    s = px_per_m
    width, height = max(6, round(1.2 * s)), round(6 * s)
    lamp = np.zeros((height, width, 4), np.uint8)
    lamp[..., :3] = (60, 62, 64)
    middle = width // 2
    cv2.line(
        lamp,
        (middle, round(0.5 * s)),
        (middle, height),
        (58, 60, 62, SOLID),
        max(2, round(0.13 * s)),
    )
    cv2.rectangle(
        lamp,
        (middle - round(0.28 * s), round(0.1 * s)),
        (middle + round(0.28 * s), round(0.55 * s)),
        (250, 226, 160, LIT),
        -1,
    )
    cv2.rectangle(
        lamp,
        (middle - round(0.34 * s), 0),
        (middle + round(0.34 * s), round(0.1 * s)),
        (50, 52, 54, SOLID),
        -1,
    )
    return lamp


def draw_bench(px_per_m: float) -> np.ndarray:
    """A bench 1.8 m wide and 0.9 m tall."""
    s = px_per_m
    width, height = round(1.8 * s), round(0.9 * s)
    bench = np.zeros((height, width, 4), np.uint8)
    bench[..., :3] = (120, 84, 54)
    for y in (0.05, 0.2, 0.45):
        cv2.rectangle(
            bench, (0, round(y * s)), (width, round((y + 0.1) * s)), (128, 90, 58, SOLID), -1
        )
    for x in (0.15, 1.55):
        cv2.rectangle(
            bench,
            (round(x * s), round(0.05 * s)),
            (round((x + 0.1) * s), height),
            (60, 60, 62, SOLID),
            -1,
        )
    return bench


def draw_scaffold(width_m: float, height_m: float, number: int, px_per_m: float) -> np.ndarray:
    """Poles, boards and pieces of net before a building front."""
    random = random_stream(_OTHER, number)
    s = px_per_m / 2
    width, height = max(4, round(width_m * s)), max(4, round(height_m * s))
    texture = np.zeros((height, width, 4), np.uint8)
    texture[..., :3] = (150, 146, 140)
    net = tuple(int(c) for c in ((90, 130, 96), (120, 140, 170), (200, 196, 186))[number % 3])
    step = round(2.0 * s)
    for y in range(0, height, step):
        for x in range(0, width, round(2.5 * s)):
            if random.random() < 0.3:
                shade = float(random.uniform(0.85, 1.1))
                cv2.rectangle(
                    texture,
                    (x, y),
                    (x + round(2.5 * s), y + step),
                    (*(min(255, int(c * shade)) for c in net), SOLID),
                    -1,
                )
        cv2.rectangle(
            texture, (0, y), (width, y + max(1, round(0.18 * s))), (150, 118, 78, SOLID), -1
        )
        cv2.line(
            texture,
            (0, y - round(1.0 * s)),
            (width, y - round(1.0 * s)),
            (170, 172, 174, SOLID),
            max(1, round(0.06 * s)),
        )
    for x in range(0, width, round(2.5 * s)):
        cv2.line(texture, (x, 0), (x, height), (168, 170, 172, SOLID), max(1, round(0.1 * s)))
    return texture


class CarSize:
    """Metres of the vehicle models, by kind: car, van."""

    LENGTH_M = (4.3, 5.4)
    HEIGHT_M = (1.48, 2.35)
    WIDTH_M = (1.75, 2.0)


def car_kind(number: int) -> int:
    """0 for a car, 1 for a van."""
    return int(number % 4 == 3)


def car_colour(number: int) -> tuple[int, int, int]:
    """The paint of a vehicle model."""
    paints = (
        (176, 178, 180),
        (36, 38, 42),
        (206, 206, 204),
        (130, 28, 30),
        (34, 52, 96),
        (240, 240, 238),
        (90, 92, 96),
        (60, 90, 70),
    )
    return paints[number % len(paints)]


def car_profile(number: int) -> tuple[tuple[float, float], ...]:
    """The outline of a vehicle's side, front to the right: (x, up) as shares of length and
    height."""
    if car_kind(number):
        return (
            (0.0, 0.14),
            (0.0, 0.93),
            (0.03, 1.0),
            (0.76, 1.0),
            (0.88, 0.6),
            (0.98, 0.5),
            (1.0, 0.42),
            (1.0, 0.14),
        )
    return (
        (0.0, 0.16),
        (0.0, 0.58),
        (0.03, 0.64),
        (0.1, 0.68),
        (0.22, 0.98),
        (0.34, 1.0),
        (0.55, 0.98),
        (0.72, 0.64),
        (0.97, 0.54),
        (1.0, 0.46),
        (1.0, 0.16),
    )


def draw_car_side(number: int, px_per_m: float) -> np.ndarray:
    """The right side of a vehicle: its front is at the right."""
    kind, s = car_kind(number), max(px_per_m, 24.0)
    width, height = round(CarSize.LENGTH_M[kind] * s), round(CarSize.HEIGHT_M[kind] * s)
    side = np.zeros((height, width, 4), np.uint8)
    paint = car_colour(number)
    side[..., :3] = paint
    outline = np.array([(x * width, (1 - up) * height) for x, up in car_profile(number)], np.int32)
    cv2.fillPoly(side, [outline], (*paint, SOLID))
    dark = tuple(int(c * 0.7) for c in paint)
    cv2.rectangle(
        side, (0, round(0.78 * height)), (width, round(0.84 * height)), (*dark, SOLID), -1
    )
    glass = (
        ((0.80, 0.92), (0.87, 0.62), (0.66, 0.62), (0.66, 0.92))
        if kind
        else ((0.14, 0.68), (0.24, 0.93), (0.54, 0.93), (0.69, 0.66))
    )
    cv2.fillPoly(
        side,
        [np.array([(x * width, (1 - up) * height) for x, up in glass], np.int32)],
        (40, 48, 56, SOLID),
    )
    if not kind:
        cv2.line(
            side,
            (round(0.41 * width), round(0.05 * height)),
            (round(0.41 * width), round(0.8 * height)),
            (*dark, SOLID),
            max(1, round(0.05 * s)),
        )
    for x in (0.18, 0.8):
        centre, radius = (round(x * width), height - round(0.32 * s)), round(0.32 * s)
        cv2.circle(side, centre, radius, (24, 24, 26, SOLID), -1)
        cv2.circle(side, centre, round(radius * 0.55), (140, 142, 146, SOLID), -1)
    side[round(0.84 * height) :, :, 3][side[round(0.84 * height) :, :, 0] == paint[0]] = 0
    return side


def draw_car_end(number: int, is_front: bool, px_per_m: float) -> np.ndarray:
    """The front or the back of a vehicle, up to the bonnet (vans: up to the roof at the back)."""
    kind, s = car_kind(number), max(px_per_m, 24.0)
    paint = car_colour(number)
    width, height = round(CarSize.WIDTH_M[kind] * s), round(car_end_height_m(number, is_front) * s)
    end = np.empty((height, width, 4), np.uint8)
    end[:] = (*(int(c * 0.92) for c in paint), SOLID)
    tall = round(0.6 * s)
    lamp = (240, 240, 225) if is_front else (170, 24, 24)
    for x in (0.04, 0.78):
        cv2.rectangle(
            end,
            (round(x * width), height - tall),
            (round((x + 0.18) * width), height - tall + round(0.18 * s)),
            (*lamp, LIT),
            -1,
        )
    cv2.rectangle(
        end,
        (round(0.3 * width), height - round(0.42 * s)),
        (round(0.7 * width), height - round(0.3 * s)),
        (236, 232, 190, SOLID),
        -1,
    )
    cv2.rectangle(end, (0, height - round(0.25 * s)), (width, height), (40, 40, 42, SOLID), -1)
    if kind and not is_front:
        cv2.rectangle(
            end,
            (round(0.1 * width), round(0.2 * s)),
            (round(0.9 * width), round(0.9 * s)),
            (44, 52, 60, SOLID),
            -1,
        )
        cv2.line(end, (width // 2, 0), (width // 2, height), (60, 60, 62, SOLID), 1)
    return end


def car_end_height_m(number: int, is_front: bool) -> float:
    """Height of the front's or back's vertical part, from 0.16 of the height up."""
    kind = car_kind(number)
    top = (0.46, 0.42)[kind] if is_front else (0.58, 0.93)[kind]
    return (top - 0.12) * CarSize.HEIGHT_M[kind]
