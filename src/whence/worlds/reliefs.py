"""What stands out from a building front: cornices, balconies, bays, signs, awnings. Vectors are
(right, down, outward) metres."""

from __future__ import annotations

import cv2
import numpy as np

from whence.worlds.plan import Lot
from whence.worlds.styles import Look, shop_name
from whence.worlds.textures import LIT, SOLID, Opening, Relief, facade_height_m, solid
from whence.worlds.windows import draw_window


def cornice(lot: Lot, look: Look, s: float) -> list[Relief]:
    """A ledge along the roof: its front 0.4 m out, and its underside."""
    if not look.has_cornice:
        return []
    height = max(2, round(0.55 * s))
    width = max(2, round(lot.width_m * s))
    front = solid(height, width, look.trim)
    dark = tuple(int(c * 0.6) for c in look.trim)
    cv2.line(front, (0, height - 1), (width, height - 1), (*dark, SOLID), max(1, height // 6))
    for x in range(0, width, max(4, round(0.6 * s))):
        cv2.rectangle(
            front, (x, height // 2), (x + max(1, round(0.2 * s)), height), (*dark, SOLID), -1
        )
    below = solid(2, 8, tuple(int(c * 0.45) for c in look.trim))  # type: ignore[arg-type]
    return [
        Relief((0, -0.1, 0.4), (lot.width_m, 0, 0), (0, 0.55, 0), front, "building"),
        Relief((0, 0.45, 0.4), (lot.width_m, 0, 0), (0, 0, -0.4), below, "building", True),
    ]


def balconies(lot: Lot, look: Look, openings: list[Opening], s: float) -> list[Relief]:
    """Railings 0.9 m before the windows that have a balcony, with the slab seen from below."""
    if look.balconies == "none":
        return []
    reliefs: list[Relief] = []
    rails: dict[int, np.ndarray] = {}
    under = solid(2, 4, (92, 88, 84))
    depth = 0.45 if look.balconies == "loggia" else 0.9
    for floor in range(2 if look.ground_use == "shops" else 1, lot.num_floors):
        row = [opening for opening in openings if opening.floor == floor]
        if not row:
            continue
        if look.balconies == "rows":
            spans = [(row[0].left_m - 0.2, row[-1].left_m + row[-1].width_m + 0.2)]
        else:
            step = 1 if look.balconies in ("each", "loggia") else 2
            spans = [
                (o.left_m - 0.15, o.left_m + o.width_m + 0.15) for o in row[floor % step :: step]
            ]
        if len(spans) > 4:
            spans = spans[:: (len(spans) + 3) // 4]
        base = 0.7 + look.floor_m * (lot.num_floors - floor)
        for left, right in spans:
            width = right - left
            # Railings of one width are one texture.
            rail = rails.setdefault(round(width * 20), _railing(width, look, s))
            reliefs.append(
                Relief((left, base - 1.0, depth), (width, 0, 0), (0, 1.15, 0), rail, "building")
            )
            reliefs.append(
                Relief(
                    (left, base + 0.15, depth),
                    (width, 0, 0),
                    (0, 0, -depth),
                    under,
                    "building",
                    True,
                )
            )
    return reliefs


def _railing(width_m: float, look: Look, s: float) -> np.ndarray:
    width, height = max(4, round(width_m * s)), max(4, round(1.15 * s))
    rail = np.zeros((height, width, 4), np.uint8)
    rail[..., :3] = look.trim
    slab = round(0.18 * s)
    dark = (48, 46, 46) if look.texture_seed % 3 else look.accent
    if look.texture_seed % 4 == 0:
        rail[: height - slab] = (*(int(c * 0.9) for c in look.trim), SOLID)
        cv2.rectangle(
            rail,
            (2, 2),
            (width - 3, height - slab - 2),
            (*(int(c * 0.6) for c in look.accent), SOLID),
            1,
        )
    else:
        for x in range(0, width, max(3, round(0.13 * s))):
            cv2.line(rail, (x, 0), (x, height), (*dark, SOLID), max(1, round(0.03 * s)))
        cv2.line(rail, (0, 1), (width, 1), (*dark, SOLID), max(2, round(0.07 * s)))
    rail[height - slab :] = (*look.trim, SOLID)
    return rail


def bays(
    lot: Lot,
    look: Look,
    openings: list[Opening],
    streams: tuple[np.random.Generator, np.random.Generator],
    s: float,
) -> list[Relief]:
    """Bay windows: boxes 0.7 m out over one column of windows."""
    if not look.has_bays or lot.num_floors < 3:
        return []
    columns = sorted({opening.column for opening in openings if opening.floor})
    reliefs: list[Relief] = []
    for column in columns[1 :: max(2, len(columns) // 2)][:2]:
        row = [opening for opening in openings if opening.floor and opening.column == column]
        left, right = row[0].left_m - 0.25, row[0].left_m + row[0].width_m + 0.25
        top = min(opening.top_m for opening in row) - 0.35
        bottom = max(opening.top_m + opening.height_m for opening in row) + 0.35
        front = solid(round((bottom - top) * s), round((right - left) * s), look.trim)
        for opening in row:
            size = (max(3, round(opening.width_m * s)), max(3, round(opening.height_m * s)))
            pane, _ = draw_window("bay", size, look, streams, s)
            x, y = round((opening.left_m - left) * s), round((opening.top_m - top) * s)
            front[y : y + size[1], x : x + size[0]] = pane[
                : front.shape[0] - y, : front.shape[1] - x
            ]
        side = solid(4, 2, tuple(int(c * 0.8) for c in look.trim))  # type: ignore[arg-type]
        under = solid(2, 2, tuple(int(c * 0.5) for c in look.trim))  # type: ignore[arg-type]
        tall = bottom - top
        reliefs += [
            Relief((left, top, 0.7), (right - left, 0, 0), (0, tall, 0), front, "building"),
            Relief((left, top, 0.0), (0, 0, 0.7), (0, tall, 0), side, "building", True),
            Relief((right, top, 0.7), (0, 0, -0.7), (0, tall, 0), side, "building", True),
            Relief(
                (left, bottom, 0.7), (right - left, 0, 0), (0, 0, -0.7), under, "building", True
            ),
        ]
    return reliefs


def signs(
    lot: Lot, look: Look, openings: list[Opening], random: np.random.Generator, s: float
) -> list[Relief]:
    """Over every shop window a board with the shop's name; some have an awning or a sign across the
    pavement."""
    reliefs: list[Relief] = []
    ground = facade_height_m(lot, look) - look.ground_m
    for opening in openings:
        if opening.kind != "shop":
            continue
        name = shop_name(random, alphabet=look.alphabet)
        paint = tuple(int(c) for c in random.integers(20, 240, 3))
        board = draw_sign(
            name,
            (opening.width_m, 0.75),
            paint,  # type: ignore[arg-type]
            s,
            is_lit=bool(random.random() < 0.6),
        )
        reliefs.append(
            Relief(
                (opening.left_m, ground + 0.3, 0.14),
                (opening.width_m, 0, 0),
                (0, 0.75, 0),
                board,
                "sign",
            )
        )
        draw = random.random(2)
        if draw[0] < 0.4:
            cloth = _awning(opening.width_m, paint, s)  # type: ignore[arg-type]
            reliefs.append(
                Relief(
                    (opening.left_m, ground + 1.05, 0.05),
                    (opening.width_m, 0, 0),
                    (0, 0.45, 1.1),
                    cloth,
                    "building",
                    True,
                )
            )
        if draw[1] < 0.45:
            trade = shop_name(random, alphabet=look.alphabet).split()[-1][:8]
            blade = draw_sign(trade, (0.95, 0.6), paint[::-1], s, is_lit=True)  # type: ignore[arg-type]
            x, y = opening.left_m + opening.width_m - 0.2, ground - 0.5
            # One plane for each side, so that the name reads left to right from both.
            reliefs.append(Relief((x - 0.03, y, 0.2), (0, 0, 0.95), (0, 0.6, 0), blade, "sign"))
            reliefs.append(Relief((x + 0.03, y, 1.15), (0, 0, -0.95), (0, 0.6, 0), blade, "sign"))
    return reliefs


def draw_sign(
    text: str, size_m: tuple[float, float], paint: tuple[int, int, int], s: float, *, is_lit: bool
) -> np.ndarray:
    """A board with a text that fills it."""
    s = max(s, 32.0)
    width, height = max(8, round(size_m[0] * s)), max(8, round(size_m[1] * s))
    board = solid(height, width, paint, LIT if is_lit else SOLID)
    bright = sum(paint) > 380
    ink = (20, 20, 26) if bright else (246, 242, 224)
    font = (cv2.FONT_HERSHEY_DUPLEX, cv2.FONT_HERSHEY_TRIPLEX, cv2.FONT_HERSHEY_SIMPLEX)[
        sum(map(ord, text)) % 3
    ]
    (w, h), _ = cv2.getTextSize(text, font, 1.0, 2)
    scale = min(0.9 * width / w, 0.62 * height / h)
    thick = max(1, round(2 * scale))
    (w, h), _ = cv2.getTextSize(text, font, scale, thick)
    cv2.putText(
        board,
        text,
        ((width - w) // 2, (height + h) // 2),
        font,
        scale,
        (*ink, LIT if is_lit else SOLID),
        thick,
        cv2.LINE_AA,
    )
    cv2.rectangle(board, (0, 0), (width - 1, height - 1), (*ink, SOLID), 1)
    return board


def _awning(width_m: float, paint: tuple[int, int, int], s: float) -> np.ndarray:
    width, height = max(4, round(width_m * s)), max(4, round(1.2 * s))
    cloth = solid(height, width, paint)
    stripe = max(2, round(0.35 * s))
    for x in range(0, width, 2 * stripe):
        cloth[:, x : x + stripe, :3] = (232, 228, 220)
    cloth[int(height * 0.85) :, :, :3] = (cloth[int(height * 0.85) :, :, :3] * 0.75).astype(
        np.uint8
    )
    return cloth
