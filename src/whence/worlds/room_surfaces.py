"""What rooms look like: paint, doors, shelves and posters of walls, sides of furniture, floors and
ceilings, as textures."""

from __future__ import annotations

import cv2
import numpy as np

from whence.worlds.textures import noise_patch, solid

_PX_PER_M = 48.0
PAINTS = (
    (226, 220, 206),
    (204, 212, 208),
    (222, 200, 176),
    (184, 198, 214),
    (214, 206, 220),
    (196, 186, 170),
    (230, 228, 224),
)
_FLOORS = (
    (150, 112, 78),
    (124, 96, 70),
    (158, 156, 150),
    (108, 104, 112),
    (178, 150, 116),
    (92, 98, 92),
)
COLOURS = (
    (60, 86, 120),
    (140, 62, 54),
    (76, 106, 78),
    (190, 160, 92),
    (88, 78, 98),
    (70, 66, 62),
    (170, 170, 168),
    (132, 96, 60),
)


def plain(
    width: float, height: float, colour: tuple[int, ...] | np.ndarray, grain: float, seed: int
) -> np.ndarray:
    """A surface of one colour, metres wide and high, with grain."""
    columns, rows = max(8, round(width * _PX_PER_M)), max(8, round(height * _PX_PER_M))
    texture = solid(rows, columns, tuple(int(value) for value in colour))  # type: ignore[arg-type]
    shade = 1 + grain * noise_patch(rows, columns, seed)
    texture[..., :3] = np.clip(texture[..., :3] * shade[..., None], 0, 255).astype(np.uint8)
    return texture


def wall(random: np.random.Generator, width: float, height: float, paint: np.ndarray) -> np.ndarray:
    """A wall with doors, windows, posters, shelves and switches side by side; no two walls of a
    world are alike."""
    texture = plain(
        width, height, paint * random.uniform(0.85, 1.05), 0.025, int(random.integers(10**6))
    )
    canvas = np.ascontiguousarray(texture[..., :3])
    _box(canvas, 0, height - 0.1, width, 0.1, paint * 0.55)
    along = float(random.uniform(0.1, 0.6))
    while along < width - 0.5:
        kind = random.choice(["door", "window", "poster", "poster", "shelf", "board", "gap"])
        wide = {"door": 0.9, "window": 1.3, "poster": 0.6, "shelf": 1.0, "board": 1.2, "gap": 0.5}[
            kind
        ] * random.uniform(0.8, 1.25)
        if along + wide > width - 0.05:
            break
        _hang(random, canvas, str(kind), along, wide, height)
        along += wide + float(random.uniform(0.1, 0.9))
    texture[..., :3] = canvas
    return texture


def _hang(
    random: np.random.Generator,
    canvas: np.ndarray,
    kind: str,
    left_m: float,
    wide: float,
    height: float,
) -> None:
    """Draw one thing on a wall, its left edge at `left_m`, metres."""
    colours = [np.array(COLOURS[k]) for k in random.permutation(len(COLOURS))[:4]]
    if kind == "door":
        _box(canvas, left_m, height - 2.05, wide, 2.05, colours[0])
        _box(canvas, left_m + 0.12, height - 1.9, wide - 0.24, 0.8, colours[0] * 0.8)
        _box(canvas, left_m + wide - 0.16, height - 1.05, 0.08, 0.04, np.array([220, 214, 190]))
    elif kind == "window":
        _box(canvas, left_m, height - 2.1, wide, 1.2, np.array([240, 240, 236]))
        for pane in range(2):
            _box(
                canvas,
                left_m + 0.06 + pane * (wide / 2 - 0.02),
                height - 2.04,
                wide / 2 - 0.1,
                1.08,
                np.array([150, 186, 214]),
            )
    elif kind == "shelf":
        top = height - float(random.uniform(1.5, 2.1))
        _box(canvas, left_m, top, wide, 1.2, colours[0] * 0.6)
        for row in range(3):
            at = left_m + 0.05
            while at < left_m + wide - 0.1:
                thick, tall = float(random.uniform(0.03, 0.09)), float(random.uniform(0.2, 0.33))
                _box(
                    canvas,
                    at,
                    top + 0.4 * row + 0.37 - tall,
                    thick,
                    tall,
                    np.array(COLOURS[int(random.integers(len(COLOURS)))]),
                )
                at += thick
    elif kind != "gap":
        tall = wide * float(random.uniform(0.6, 1.4))
        top = height - float(random.uniform(1.4, 1.8)) - tall / 2
        _box(canvas, left_m, top, wide, tall, np.array([236, 232, 222]))
        for _ in range(int(random.integers(5, 12))):
            x, y = left_m + wide * random.uniform(0.05, 0.7), top + tall * random.uniform(0.05, 0.7)
            _box(
                canvas,
                x,
                y,
                wide * random.uniform(0.08, 0.28),
                tall * random.uniform(0.08, 0.28),
                colours[int(random.integers(4))],
            )


def front(
    random: np.random.Generator, width: float, height: float, colour: tuple[int, ...]
) -> np.ndarray:
    """A side of a cupboard, table or seat: drawers, or a plain cloth."""
    texture = plain(
        width,
        height,
        np.array(colour) * random.uniform(0.7, 1.1),
        0.06,
        int(random.integers(10**6)),
    )
    canvas = np.ascontiguousarray(texture[..., :3])
    for row in range(int(random.integers(0, 4))):
        _box(
            canvas,
            0.05,
            height * row / 4 + 0.04,
            width - 0.1,
            height / 4 - 0.06,
            np.array(colour) * random.uniform(0.6, 1.2),
        )
    texture[..., :3] = canvas
    return texture


def floor(random: np.random.Generator, width: float, length: float) -> np.ndarray:
    """Boards, and a rug on most."""
    colour = np.array(_FLOORS[int(random.integers(len(_FLOORS)))])
    texture = plain(width, length, colour, 0.07, int(random.integers(10**6)))
    board = max(2, round(float(random.choice([0.12, 0.3, 0.6])) * _PX_PER_M))
    texture[:, ::board, :3] = (colour * 0.7).astype(np.uint8)
    if random.random() < 0.6:
        canvas = np.ascontiguousarray(texture[..., :3])
        rug = np.array(COLOURS[int(random.integers(len(COLOURS)))])
        _box(canvas, width * 0.25, length * 0.3, width * 0.5, length * 0.35, rug)
        _box(canvas, width * 0.3, length * 0.34, width * 0.4, length * 0.27, rug * 1.2)
        texture[..., :3] = canvas
    return texture


def ceiling(random: np.random.Generator, width: float, length: float) -> np.ndarray:
    """A ceiling with a row of lamps."""
    texture = plain(width, length, np.array([232, 230, 224]), 0.015, int(random.integers(10**6)))
    canvas = np.ascontiguousarray(texture[..., :3])
    for at in np.arange(1.0, length - 0.8, float(random.uniform(1.8, 3.0))):
        _box(canvas, width * 0.35, float(at), width * 0.3, 0.5, np.array([255, 252, 240]))
    texture[..., :3] = canvas
    return texture


def _box(
    canvas: np.ndarray, left_m: float, top_m: float, width: float, height: float, colour: np.ndarray
) -> None:
    start, end = (
        (round(x * _PX_PER_M), round(y * _PX_PER_M))
        for x, y in ((left_m, top_m), (left_m + width, top_m + height))
    )
    cv2.rectangle(canvas, start, end, tuple(int(value) for value in np.clip(colour, 0, 255)), -1)
