"""Windows, doors and shop fronts: what is seen through an opening of a wall."""

from __future__ import annotations

import cv2
import numpy as np

from whence.worlds.styles import Look
from whence.worlds.textures import LIT, SOLID


def draw_window(
    kind: str,
    size: tuple[int, int],
    look: Look,
    streams: tuple[np.random.Generator, np.random.Generator],
    s: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Texture (h, w, 4) of an opening of `size` = (w, h) pixels, and where it opens: (h, w) bool.

    `streams`: what is the building's own for good, and what changes with its shops.
    """
    own, changed = streams
    width, height = size
    if kind == "door":
        return _door(size, look, s), np.ones((height, width), bool)
    if kind == "garage":
        return _garage(size, look, s), np.ones((height, width), bool)
    if kind == "shop":
        return _shop(size, look, changed, s), np.ones((height, width), bool)
    pane = _glass(size, look, own, s)
    _bars(pane, kind, look, s)
    hole = np.ones((height, width), bool)
    if kind == "arched":
        hole = _ellipse_top(size, max(2, width // 2))
    elif kind == "round":
        hole = np.zeros((height, width), np.uint8)
        cv2.ellipse(hole, (width // 2, height // 2), (width // 2, height // 2), 0, 0, 360, 1, -1)
        hole = hole.astype(bool)
    return pane, hole


def _ellipse_top(size: tuple[int, int], rise: int) -> np.ndarray:
    width, height = size
    hole = np.zeros((height, width), np.uint8)
    rise = min(rise, height // 2)
    cv2.rectangle(hole, (0, rise), (width, height), 1, -1)
    cv2.ellipse(hole, (width // 2, rise), (width // 2, rise), 0, 180, 360, 1, -1)
    return hole.astype(bool)


def _glass(size: tuple[int, int], look: Look, own: np.random.Generator, s: float) -> np.ndarray:
    """Glass with a reflected sky, curtains or blinds; some rooms are lit at night."""
    width, height = size
    draw = own.random(6)
    pane = np.empty((height, width, 4), np.uint8)
    tint = np.array([58, 70, 84], np.float32) * (0.55 + 0.7 * draw[0])
    rise = np.linspace(1.35, 0.75, height, dtype=np.float32)[:, None, None]
    pane[..., :3] = np.clip(tint * rise, 0, 255).astype(np.uint8)
    pane[..., 3] = LIT if draw[1] < 0.38 else SOLID
    cloth = np.array(
        [(222, 214, 198), (196, 186, 160), (176, 186, 190), (150, 110, 96)][int(draw[2] * 4)],
        np.float32,
    ) * (0.6 + 0.3 * draw[3])
    if draw[4] < 0.3:
        side = max(1, round(width * (0.15 + 0.2 * draw[5])))
        folds = (1 + 0.12 * np.sin(np.arange(side) * 2.2))[None, :, None]
        pane[:, :side, :3] = np.clip(cloth * folds, 0, 255)
        pane[:, width - side :, :3] = np.clip(cloth * folds, 0, 255)
    elif draw[4] < 0.55:
        drop = max(1, round(height * (0.2 + 0.6 * draw[5])))
        slats = (0.9 + 0.1 * (np.arange(drop) % max(2, round(0.09 * s)) > 0))[:, None, None]
        pane[:drop, :, :3] = np.clip(cloth * slats, 0, 255)
    return pane


def _bars(pane: np.ndarray, kind: str, look: Look, s: float) -> None:
    """The frame, and the glazing bars of the window's kind."""
    height, width = pane.shape[:2]
    thick = max(1, round(0.07 * s))
    thin = max(1, round(0.045 * s))
    colour = (*look.frame, SOLID)
    columns, rows = {
        "sash": (look.panes[0], 2),
        "casement": (2, look.panes[1] + 1),
        "shutter": (2, 3),
        "arched": (2, 2),
        "wide": (look.panes[0] + 1, 1),
        "pair": (2, 1),
        "curtain": (1, 2),
        "bay": (2, 2),
        "french": (2, look.panes[1]),
        "lattice": (4, 5),
        "round": (2, 2),
        "band": (look.panes[0] + 2, 1),
        "fins": (5, 1),
    }.get(kind, (1, 1))
    for k in range(1, columns):
        x = round(width * k / columns)
        cv2.line(pane, (x, 0), (x, height), colour, thick if columns == 2 else thin)
    for k in range(1, rows):
        y = round(height * k / rows)
        cv2.line(pane, (0, y), (width, y), colour, thick if kind == "sash" else thin)
    cv2.rectangle(pane, (0, 0), (width - 1, height - 1), colour, thick)


def _door(size: tuple[int, int], look: Look, s: float) -> np.ndarray:
    width, height = size
    door = np.empty((height, width, 4), np.uint8)
    door[:] = (*look.accent, SOLID)
    light = max(2, round(0.45 * s))
    door[:light] = (70, 84, 96, LIT)
    edge = tuple(int(c * 0.6) for c in look.accent)
    for row in range(2):
        for column in range(2):
            x0, x1 = round(width * (0.12 + 0.42 * column)), round(width * (0.46 + 0.42 * column))
            y0 = light + round((height - light) * (0.08 + 0.48 * row))
            y1 = light + round((height - light) * (0.48 + 0.46 * row))
            cv2.rectangle(door, (x0, y0), (x1, y1), (*edge, SOLID), max(1, round(0.05 * s)))
    cv2.circle(
        door,
        (round(width * 0.86), round(height * 0.62)),
        max(1, round(0.05 * s)),
        (200, 190, 120, SOLID),
        -1,
    )
    cv2.rectangle(
        door, (0, 0), (width - 1, height - 1), (*look.frame, SOLID), max(1, round(0.07 * s))
    )
    return door


def _garage(size: tuple[int, int], look: Look, s: float) -> np.ndarray:
    width, height = size
    door = np.empty((height, width, 4), np.uint8)
    door[:] = (150, 150, 148, SOLID)
    for y in range(0, height, max(3, round(0.28 * s))):
        cv2.line(door, (0, y), (width, y), (96, 96, 96, SOLID), max(1, round(0.04 * s)))
    return door


def _shop(size: tuple[int, int], look: Look, random: np.random.Generator, s: float) -> np.ndarray:
    """A shop window: bright inside, shelves with goods, posters."""
    width, height = size
    # A stream of its own, so that a shop's goods do not decide what the next shop is.
    random = np.random.default_rng(random.integers(2**63))
    shop = np.empty((height, width, 4), np.uint8)
    shop[..., 3] = LIT
    shop[..., :3] = random.integers(45, 110, 3)
    shelves = int(random.integers(1, 4))
    for shelf in range(shelves):
        base = round(height * (shelf + 1) / shelves * 0.96)
        at = 0.06
        # The goods are laid out in metres, so that every resolution draws the same shop.
        while at < width / s - 0.1:
            draw = random.random(3)
            w, h = 0.15 + 0.35 * draw[0], (0.2 + 0.6 * draw[1]) * height / shelves
            colour = tuple(int(c) for c in random.integers(40, 205, 3) * 0.8 + 20)
            cv2.rectangle(
                shop,
                (round(at * s), round(base - h)),
                (min(round((at + w) * s), width - 2), base),
                (*colour, LIT),
                -1,
            )
            at += w + 0.03 + 0.37 * draw[2]
        cv2.line(shop, (0, base), (width, base), (50, 46, 42, SOLID), max(1, round(0.05 * s)))
    for _ in range(int(random.integers(0, 3))):
        w, h = round(0.5 * s), round(0.7 * s)
        x, y = (
            int(share * max(1, space))
            for share, space in zip(random.random(2), (width - w, height - h), strict=True)
        )
        cv2.rectangle(
            shop,
            (x, y),
            (x + w, y + h),
            (*(int(c) for c in random.integers(60, 250, 3)), SOLID),
            -1,
        )
    for k in range(1, max(2, round(width / (1.6 * s)))):
        x = round(width * k / max(2, round(width / (1.6 * s))))
        cv2.line(shop, (x, 0), (x, height), (*look.frame, SOLID), max(1, round(0.07 * s)))
    cv2.rectangle(
        shop, (0, 0), (width - 1, height - 1), (*look.frame, SOLID), max(1, round(0.08 * s))
    )
    return shop
