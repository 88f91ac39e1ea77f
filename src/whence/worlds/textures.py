"""What textures are made of: coverage, noise, and the records of openings and relief planes of a
building front.

A texture is (height, width, 4) uint8: red, green, blue and coverage, where 0 is a hole, 128 solid
and 255 solid and lit from within at night. Row 0 is the top.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np

from whence.runtime import random_stream
from whence.worlds.plan import Lot
from whence.worlds.styles import Colour, Look

SOLID, LIT = 128, 255


class Opening(NamedTuple):
    """A window, door or shop front: left, top, width, height in metres from the facade's top left
    corner."""

    left_m: float
    top_m: float
    width_m: float
    height_m: float
    kind: str
    column: int
    floor: int


class Relief(NamedTuple):
    """A flat piece off the facade plane. Vectors in facade coordinates (right, down, outward),
    metres."""

    origin: tuple[float, float, float]
    across: tuple[float, float, float]
    down: tuple[float, float, float]
    texture: np.ndarray
    kind: str
    is_two_sided: bool = False


def facade_height_m(lot: Lot, look: Look) -> float:
    """Height of the front above the ground."""
    return look.ground_m + look.floor_m * (lot.num_floors - 1) + 0.7


def with_coverage(colours: np.ndarray, coverage: np.ndarray) -> np.ndarray:
    """(h, w, 3) and (h, w) as one (h, w, 4)."""
    texture = cv2.cvtColor(colours, cv2.COLOR_RGB2RGBA)
    cv2.insertChannel(coverage, texture, 3)
    return texture


def shaded(colours: np.ndarray, shade: np.ndarray) -> np.ndarray:
    """Colours (h, w, 3) uint8 times a shade (h, w) near 1."""
    factor = cv2.convertScaleAbs(shade, alpha=128.0)
    return cv2.multiply(colours, cv2.cvtColor(factor, cv2.COLOR_GRAY2RGB), scale=1 / 128.0)


@lru_cache(maxsize=1)
def noise_bank() -> np.ndarray:
    """A tile of smooth noise of several scales, (1024, 1024) float32 around 0, standard deviation
    1."""
    random = random_stream(1, 77)
    total = np.zeros((1024, 1024), np.float32)
    for scale, weight in ((4, 0.5), (16, 0.5), (64, 0.8), (256, 0.7), (1024, 0.5)):
        small = random.standard_normal((scale, scale), dtype=np.float32)
        total += weight * cv2.resize(small, (1024, 1024), interpolation=cv2.INTER_CUBIC)
    return total / total.std()


def noise_patch(height: int, width: int, seed: int) -> np.ndarray:
    """A piece (height, width) of the noise bank, chosen by the seed."""
    y, x = seed % 509, (seed // 509) % 509
    bank = noise_bank()
    if y + height <= 1024 and x + width <= 1024:
        return bank[y : y + height, x : x + width]
    rows = (np.arange(height) + y) % 1024
    columns = (np.arange(width) + x) % 1024
    return bank[rows[:, None], columns]


def solid(height: int, width: int, colour: Colour, level: int = SOLID) -> np.ndarray:
    """A plain texture."""
    texture = np.empty((max(1, height), max(1, width), 4), np.uint8)
    texture[:] = (*colour, level)
    return texture
