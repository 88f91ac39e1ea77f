"""The ground and the sky as textures: street pieces with pavements and markings, grass, paving,
clouds."""

from __future__ import annotations

import cv2
import numpy as np

from whence.runtime import random_stream
from whence.worlds.textures import SOLID, noise_patch

PIECE_M = 16.0
"""Length of one street piece."""
PAVEMENT_SHARE = 0.27
_ROAD, _SKY = 301, 302


def pavement_m(half_width_m: float) -> float:
    """Width of the pavement on each side of a street."""
    return max(2.4, PAVEMENT_SHARE * half_width_m)


def draw_street(half_width_m: float, kind: int, variant: int, px_per_m: float) -> np.ndarray:
    """A piece of street from above: columns go across (left to right along the street's direction),
    rows back along it.

    Variants: 0 has a zebra crossing at its start, others have manholes, cracks and patches of their
    own.
    """
    random = random_stream(_ROAD, kind, variant, round(half_width_m * 2))
    s = px_per_m
    width, height = round(2 * half_width_m * s), round(PIECE_M * s)
    walk = round(pavement_m(half_width_m) * s)
    tone = 78 + 22 * float(random.random())
    ground = np.empty((height, width, 3), np.float32)
    ground[:] = (tone, tone, tone + 2)
    ground *= (1 + 0.06 * noise_patch(height, width, variant * 977 + kind))[..., None]
    for _ in range(int(random.integers(1, 4))):
        w, h = (random.uniform(0.8, 2.5, 2) * s).astype(int)
        x, y = (
            int(random.integers(walk, max(walk + 1, width - walk - w))),
            int(random.integers(0, height - h)),
        )
        ground[y : y + h, x : x + w] *= float(random.uniform(0.78, 0.92))
    road = np.clip(ground, 0, 255).astype(np.uint8)
    _markings(road, walk, kind, variant, s)
    for _ in range(int(random.integers(0, 3))):
        centre = (
            int(random.integers(walk + 8, width - walk - 8)),
            int(random.integers(8, height - 8)),
        )
        cv2.circle(road, centre, round(0.35 * s), (52, 50, 48), -1)
        cv2.circle(road, centre, round(0.35 * s), (96, 94, 90), 1)
    _pavements(road, walk, random, s)
    return np.dstack([road, np.full(road.shape[:2], SOLID, np.uint8)])


def _markings(road: np.ndarray, walk: int, kind: int, variant: int, s: float) -> None:
    height, width = road.shape[:2]
    white, line = (214, 214, 208), max(2, round(0.14 * s))
    middle = width // 2
    if kind >= 1:
        for y in range(0, height, round(4 * s)):
            cv2.rectangle(
                road, (middle - line // 2, y), (middle + line // 2, y + round(2 * s)), white, -1
            )
    if kind >= 2:
        for x in (walk + round(2.2 * s), width - walk - round(2.2 * s)):
            cv2.rectangle(road, (x, 0), (x + line // 2, height), white, -1)
    if kind == 3:
        cv2.rectangle(
            road, (middle - round(2 * s), 0), (middle + round(2 * s), height), (84, 108, 62), -1
        )
    if variant == 0:
        for x in range(walk + 2, width - walk - 4, round(1.0 * s)):
            cv2.rectangle(
                road,
                (x, height - round(4.0 * s)),
                (x + round(0.5 * s), height - round(0.8 * s)),
                white,
                -1,
            )


def _pavements(road: np.ndarray, walk: int, random: np.random.Generator, s: float) -> None:
    height, width = road.shape[:2]
    colour = np.array(
        [(168, 164, 156), (150, 146, 142), (176, 160, 140)][int(random.integers(3))], np.float32
    )
    slab = max(3, round(float(random.choice([0.5, 0.8, 1.2])) * s))
    for left, right in ((0, walk), (width - walk, width)):
        shade = (1 + 0.05 * noise_patch(height, right - left, left + 13))[..., None]
        road[:, left:right] = np.clip(colour * shade, 0, 255).astype(np.uint8)
        road[::slab, left:right] = (colour * 0.78).astype(np.uint8)
        road[:, left:right:slab] = (colour * 0.8).astype(np.uint8)
    for edge in (walk, width - walk):
        cv2.rectangle(
            road,
            (edge - max(1, round(0.08 * s)), 0),
            (edge + max(1, round(0.08 * s)), height),
            (196, 194, 188),
            -1,
        )


def draw_ground(kind: str, px_per_m: float) -> np.ndarray:
    """A 24 m tile of grass, paving or asphalt."""
    side = round(24 * px_per_m)
    base = {
        "grass": (92, 118, 66),
        "paving": (172, 160, 144),
        "asphalt": (92, 92, 95),
        "far": (140, 138, 132),
    }[kind]
    ground = np.array(base, np.float32) * (1 + 0.1 * noise_patch(side, side, len(kind)))[..., None]
    if kind == "paving":
        step = round(1.2 * px_per_m)
        ground[::step] *= 0.75
        ground[:, ::step] *= 0.75
    return np.dstack(
        [np.clip(ground, 0, 255).astype(np.uint8), np.full((side, side), SOLID, np.uint8)]
    )


SKY_SIZE = (1440, 360)
"""Pixels of the sky's panorama: 4 to a degree; the horizon is 60 rows above the bottom."""
HORIZON_ROW = 300


def draw_sky(
    top: tuple[float, float, float], low: tuple[float, float, float], cloud_share: float, seed: int
) -> np.ndarray:
    """A sky's panorama (360, 1440, 3) uint8: gradient, clouds, a far skyline.

    Column 0 looks north, columns go clockwise.
    """
    width, height = SKY_SIZE
    up = (
        np.clip((HORIZON_ROW - np.arange(height, dtype=np.float32)) / 220, 0, 1)[:, None, None]
        ** 0.6
    )
    sky = np.array(low, np.float32) * (1 - up) + np.array(top, np.float32) * up
    sky = np.broadcast_to(sky, (height, width, 3)).copy()
    if cloud_share > 0:
        random = random_stream(_SKY, seed)
        cloud = np.zeros((height, width), np.float32)
        for scale, weight in ((6, 1.0), (14, 0.6), (40, 0.3)):
            small = random.standard_normal((scale, scale * 2), dtype=np.float32)
            small = np.concatenate([small, small[:, :2]], axis=1)
            cloud += (
                weight
                * cv2.resize(
                    small, (width + 2 * width // (scale * 2), height), interpolation=cv2.INTER_CUBIC
                )[:, :width]
            )
        amount = (
            np.clip((cloud / cloud.std() + 3 * (cloud_share - 0.5)) * 0.8, 0, 1)[..., None] * 0.85
        )
        bright = np.clip(np.array(low, np.float32) * 1.06, 0, 255)
        sky = sky * (1 - amount) + bright * amount
    random = random_stream(_SKY, seed, 5)
    for x in range(0, width, 24):
        tall = int(random.integers(4, 22))
        tone = np.array(low, np.float32) * float(random.uniform(0.66, 0.8))
        sky[HORIZON_ROW - tall : HORIZON_ROW + 60, x : x + 24] = tone
    return np.clip(sky, 0, 255).astype(np.uint8)
