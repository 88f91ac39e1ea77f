"""Building fronts as textures in layers: the wall with openings cut out, what lies behind them, and
planes that stand out.

A texture is (height, width, 4) uint8: red, green, blue and coverage, where 0 is a hole, 128 solid
and 255 solid and lit from within at night. Row 0 is the top. Sizes in metres become pixels by
`px_per_m`.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np

from whence.runtime import random_stream
from whence.worlds.plan import Lot
from whence.worlds.reliefs import balconies, bays, cornice, signs
from whence.worlds.styles import Look, draw_look
from whence.worlds.textures import (
    SOLID,
    Opening,
    Relief,
    facade_height_m,
    noise_patch,
    shaded,
    with_coverage,
)
from whence.worlds.windows import draw_window

BRANCH_SHARE = 0.75
"""Share of the doubles in aliased streets that house the same shops."""
NOISE_PX_PER_M = 32.0
_INSTANCE_FACADE = 11


class FacadeModel(NamedTuple):
    """Everything needed to render one building front."""

    wall: np.ndarray
    """Front plane with holes."""
    behind: np.ndarray
    """Plane `recess_m` behind the front: glass, doors, reveals."""
    recess_m: float
    reliefs: tuple[Relief, ...]


@lru_cache(maxsize=4096)
def look_of(key: tuple[int, ...], is_test_city: bool) -> Look:
    """The look that belongs to a lot's key."""
    return draw_look(random_stream(key[0], *key[1:]), is_test_city=is_test_city)


def draw_facade(lot: Lot, *, is_test_city: bool, change: int, px_per_m: float) -> FacadeModel:
    """The textures of a lot's front. `change` counts how often its shops and paint have been
    renewed."""
    look = look_of(lot.look, is_test_city)
    height_m = facade_height_m(lot, look)
    own = random_stream(lot.instance[0], *lot.instance[1:], _INSTANCE_FACADE)
    built = random_stream(lot.look[0], *lot.look[1:], _INSTANCE_FACADE)
    is_branch = lot.is_aliased and own.random() < BRANCH_SHARE
    shops = lot.look if is_branch else lot.instance
    changed = random_stream(shops[0], *shops[1:], _INSTANCE_FACADE, change + 1)
    repaint = 1.0 if change == 0 else float(changed.uniform(0.85, 1.15))
    openings = _openings(lot, look, built)
    size = (max(8, round(lot.width_m * px_per_m)), max(8, round(height_m * px_per_m)))
    wall = _paint_wall(look, size, px_per_m, repaint)
    _trim(wall, lot, look, px_per_m)
    behind = cv2.convertScaleAbs(wall, alpha=0.5)
    alpha = np.full(wall.shape[:2], SOLID, np.uint8)
    behind_alpha = np.full(wall.shape[:2], SOLID, np.uint8)
    panes = _Panes(look, (built, changed), px_per_m)
    for opening in openings:
        _cut((wall, alpha, behind, behind_alpha), opening, look, panes, px_per_m)
    _stain(wall, own, px_per_m)
    reliefs = _reliefs(lot, look, openings, (built, changed), px_per_m)
    return FacadeModel(
        with_coverage(wall, alpha),
        with_coverage(behind, behind_alpha),
        look.recess_m,
        tuple(reliefs),
    )


def flatten(model: FacadeModel, *, px_per_m: float) -> np.ndarray:
    """All layers of a front in one plane, for views from afar."""
    flat = model.wall.copy()
    cv2.copyTo(model.behind, (flat[..., 3] == 0).view(np.uint8), flat)
    for relief in model.reliefs:
        _press(flat, relief, px_per_m)
    return flat


def _openings(lot: Lot, look: Look, built: np.random.Generator) -> list[Opening]:
    """Windows of the upper floors on a grid, and the ground floor's doors and shop fronts."""
    pitch = look.window_width_m + look.gap_m
    count = max(1, int((lot.width_m - 0.8) / pitch))
    pitch = (lot.width_m - 0.6) / count
    found = []
    for floor in range(1, lot.num_floors):
        floor_top = 0.7 + look.floor_m * (lot.num_floors - 1 - floor)
        top = floor_top + max(0.35, (look.floor_m - look.window_height_m) * 0.4)
        height = min(look.window_height_m, look.floor_m - 0.55)
        for column in range(count):
            left = 0.3 + pitch * column + (pitch - look.window_width_m) / 2
            width = min(look.window_width_m, pitch - 0.1)
            found.append(Opening(max(left, 0.1), top, width, height, look.window, column, floor))
    top = 0.7 + look.floor_m * (lot.num_floors - 1)
    found += _ground_floor(lot, look, built, top)
    return found


def _ground_floor(lot: Lot, look: Look, built: np.random.Generator, top: float) -> list[Opening]:
    door_at = float(built.uniform(0.12, 0.8)) * (lot.width_m - 1.4)
    door = Opening(door_at, top + look.ground_m - 2.6, 1.3, 2.6, "door", 0, 0)
    openings = [door]
    if look.ground_use == "shops":
        for left_m, right_m in ((0.4, door_at - 0.4), (door_at + 1.7, lot.width_m - 0.4)):
            span = right_m - left_m
            parts = max(1, round(span / 5.0))
            for k in range(parts):
                width = span / parts - 0.3
                if width > 1.2:
                    openings.append(
                        Opening(
                            left_m + k * span / parts,
                            top + 1.15,
                            width,
                            look.ground_m - 1.55,
                            "shop",
                            k,
                            0,
                        )
                    )
        return openings
    pitch = look.window_width_m + look.gap_m
    left_m = 0.6
    while left_m + look.window_width_m < lot.width_m - 0.4:
        if left_m > door_at + 1.6 or left_m + look.window_width_m < door_at - 0.3:
            if (
                look.ground_use == "garage"
                and built.random() < 0.3
                and left_m + 2.6 < min(lot.width_m - 0.3, door_at - 0.3 if left_m < door_at else 99)
            ):
                openings.append(
                    Opening(left_m, top + look.ground_m - 2.5, 2.5, 2.5, "garage", 0, 0)
                )
                left_m += 2.6
            else:
                height = min(look.window_height_m, 1.7)
                openings.append(
                    Opening(
                        left_m,
                        top + look.ground_m - 1.0 - height,
                        look.window_width_m,
                        height,
                        look.window,
                        1,
                        0,
                    )
                )
        left_m += pitch
    return openings


def _paint_wall(look: Look, size: tuple[int, int], s: float, repaint: float) -> np.ndarray:
    """Wall colour, material pattern and noise: (h, w, 3) uint8."""
    width, height = size
    shade = 1.0 + 0.045 * _noise(size, s, look.texture_seed)
    shade = shade * _pattern(look, size, s)
    wall = np.empty((height, width, 3), np.uint8)
    wall[:] = np.clip(np.array(look.wall, np.float32) * repaint, 0, 250)
    ground = height - round(look.ground_m * s)
    wall[ground:] = look.ground_wall
    return shaded(wall, shade)


def _noise(size: tuple[int, int], s: float, seed: int) -> np.ndarray:
    """Noise (h, w) that is the same in metres at every resolution."""
    width, height = (min(1024, round(side * NOISE_PX_PER_M / s)) for side in size)
    return cv2.resize(
        noise_patch(height, width, seed),
        size,
        interpolation=cv2.INTER_AREA if s < NOISE_PX_PER_M else cv2.INTER_LINEAR,
    )


def _pattern(look: Look, size: tuple[int, int], s: float) -> np.ndarray:
    """Multiplier (h, w) of a material's joints."""
    width, height = size
    pattern = np.ones((height, width), np.float32)
    random = random_stream(look.texture_seed, 3)
    row_m, column_m, joint, spread = {
        "brick": (0.16, 0.45, 0.84, 0.10),
        "stone": (0.55, 1.1, 0.80, 0.07),
        "concrete": (1.6, 2.4, 0.82, 0.03),
        "panel": (2.9, 3.0, 0.70, 0.03),
        "tile": (0.3, 0.3, 0.88, 0.06),
        "wood": (0.2, 50.0, 0.72, 0.03),
        "slate": (0.3, 0.4, 0.72, 0.10),
        "metal": (50.0, 0.5, 0.76, 0.02),
        "render_bands": (0.8, 50.0, 0.86, 0.09),
        "timber": (50.0, 50.0, 1.0, 0.02),
        "glass": (50.0, 50.0, 1.0, 0.02),
    }.get(look.material, (50.0, 50.0, 1.0, 0.02))
    # A joint is a pixel wide at any resolution: coarser ones are fainter in exchange.
    joint = 1 - (1 - joint) * min(1.0, s / NOISE_PX_PER_M)
    row, column = max(3, round(row_m * s)), max(3, round(column_m * s))
    num_rows, num_columns = height // row + 1, width // column + 2
    cells = (1 + spread * random.standard_normal((num_rows, num_columns))).astype(np.float32)
    for r in range(num_rows):
        shift = (column // 2) * (r % 2)
        strip = np.repeat(cells[r], column)[shift : shift + width]
        if joint < 1 and column < width:
            strip = strip.copy()
            strip[(column - shift) % column :: column] *= joint
        pattern[r * row : (r + 1) * row, : len(strip)] = strip
    if joint < 1 and row < height:
        pattern[row - 1 :: row] *= joint
    return pattern


def _trim(wall: np.ndarray, lot: Lot, look: Look, s: float) -> None:
    """Bands between floors, quoins, pilasters, plinth, timber frames."""
    height, width = wall.shape[:2]
    dark = tuple(int(c * 0.6) for c in look.trim)
    if look.material == "timber":
        for x in np.linspace(0, width - 1, max(3, round(lot.width_m / 1.6))):
            cv2.line(wall, (int(x), 0), (int(x), height), look.trim, max(2, round(0.16 * s)))
        for x in np.linspace(0, width - 1, max(2, round(lot.width_m / 3.2)))[:-1]:
            for floor in range(1, lot.num_floors):
                y = round((0.7 + look.floor_m * floor) * s)
                cv2.line(
                    wall,
                    (int(x), y),
                    (int(x + 1.6 * s), y - round(look.floor_m * s)),
                    look.trim,
                    max(2, round(0.14 * s)),
                )
    if look.has_bands or look.material == "timber":
        for floor in range(lot.num_floors):
            y = round((0.7 + look.floor_m * floor) * s)
            cv2.rectangle(
                wall, (0, y - round(0.12 * s)), (width, y + round(0.1 * s)), look.trim, -1
            )
            cv2.line(wall, (0, y + round(0.12 * s)), (width, y + round(0.12 * s)), dark, 1)
    if look.has_quoins:
        step = round(0.5 * s)
        for k, y in enumerate(range(0, height, step)):
            reach = round((0.55 if k % 2 else 0.35) * s)
            for x in (0, width - reach):
                cv2.rectangle(wall, (x, y), (x + reach, y + step - 2), look.trim, -1)
                cv2.rectangle(wall, (x, y), (x + reach, y + step - 2), dark, 1)
    if look.has_pilasters:
        for x in np.linspace(0.2, lot.width_m - 0.5, max(2, round(lot.width_m / 4))):
            left = round(x * s)
            cv2.rectangle(
                wall, (left, round(0.6 * s)), (left + round(0.35 * s), height), look.trim, -1
            )
            cv2.line(
                wall,
                (left + round(0.35 * s), round(0.6 * s)),
                (left + round(0.35 * s), height),
                dark,
                1,
            )
    cv2.rectangle(
        wall,
        (0, height - round(0.45 * s)),
        (width, height),
        tuple(int(c * 0.55) for c in look.ground_wall),
        -1,
    )


class _Panes:
    """The windows of one front: a few different ones are drawn and repeated, doors and shops each
    for itself."""

    NUM_DIFFERENT = 7

    def __init__(
        self, look: Look, streams: tuple[np.random.Generator, np.random.Generator], s: float
    ) -> None:
        self._look, self._streams, self._s = look, streams, s
        self._pieces: dict[tuple[str, int], tuple[np.ndarray, np.ndarray]] = {}
        # Which window goes where must not depend on the resolution, so it is drawn apart from the
        # windows themselves.
        self._order = streams[0].integers(self.NUM_DIFFERENT, size=512)
        self._count = 0

    def draw(self, kind: str, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        """The texture (h, w, 4) of an opening of `size` = (w, h), and where it opens (h, w)
        bool."""
        if kind in ("shop", "door", "garage"):
            return draw_window(kind, size, self._look, self._streams, self._s)
        key = (kind, int(self._order[self._count % len(self._order)]))
        self._count += 1
        if key not in self._pieces:
            self._pieces[key] = draw_window(kind, size, self._look, self._streams, self._s)
        pane, hole = self._pieces[key]
        if pane.shape[:2] != (size[1], size[0]):
            pane = cv2.resize(pane, size, interpolation=cv2.INTER_NEAREST)
            hole = cv2.resize(hole.view(np.uint8), size, interpolation=cv2.INTER_NEAREST).astype(
                bool
            )
        return pane, hole


def _cut(
    layers: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray],
    opening: Opening,
    look: Look,
    panes: _Panes,
    s: float,
) -> None:
    """Cut one opening out of the wall and draw what is behind it; paint its surround on the wall.

    `layers`: colours and coverage of the wall, colours and coverage of what lies behind.
    """
    wall, alpha, behind, behind_alpha = layers
    x, y = round(opening.left_m * s), round(opening.top_m * s)
    w, h = max(3, round(opening.width_m * s)), max(3, round(opening.height_m * s))
    w, h = min(w, wall.shape[1] - x - 1), min(h, wall.shape[0] - y)
    if w < 3 or h < 3 or x < 0:
        return
    pane, hole = panes.draw(opening.kind, (w, h))
    margin = max(1, round(0.11 * s))
    dark = tuple(int(c * 0.62) for c in look.trim)
    if opening.kind not in ("shop", "garage", "curtain", "band", "fins"):
        cv2.rectangle(
            wall, (x - margin, y - margin), (x + w + margin - 1, y + h + margin - 1), look.trim, -1
        )
        cv2.rectangle(
            wall, (x - 2 * margin, y + h), (x + w + 2 * margin, y + h + margin), look.trim, -1
        )
        cv2.line(
            wall, (x - 2 * margin, y + h + margin), (x + w + 2 * margin, y + h + margin), dark, 1
        )
    if opening.kind in ("sash", "arched") and opening.floor:
        cv2.rectangle(
            wall, (x - 2 * margin, y - 2 * margin), (x + w + 2 * margin, y - margin), dark, -1
        )
    if opening.kind == "shutter":
        _shutters(wall, (x, y, w, h), look, s)
    part = alpha[y : y + h, x : x + w]
    part[hole[: part.shape[0], : part.shape[1]]] = 0
    reveal = max(2, round(look.recess_m * s))
    behind[max(0, y - reveal) : y + h + reveal, max(0, x - reveal) : x + w + reveal] = tuple(
        int(c * 0.42) for c in look.wall
    )
    behind[y : y + h, x : x + w] = pane[..., :3]
    behind_alpha[y : y + h, x : x + w] = pane[..., 3]


def _shutters(wall: np.ndarray, box: tuple[int, int, int, int], look: Look, s: float) -> None:
    x, y, w, h = box
    leaf = max(3, round(0.42 * s))
    for left in (x - leaf, x + w):
        cv2.rectangle(wall, (left, y), (left + leaf - 1, y + h), look.accent, -1)
        for line in range(y + 2, y + h, max(3, round(0.1 * s))):
            cv2.line(
                wall,
                (left + 1, line),
                (left + leaf - 2, line),
                tuple(int(c * 0.6) for c in look.accent),
                1,
            )


def _stain(wall: np.ndarray, own: np.random.Generator, s: float) -> None:
    """Dirt that is this building's own: streaks, a darker foot, patches of other plaster, a
    drainpipe."""
    height, width = wall.shape[:2]
    for _ in range(int(own.integers(1, 5))):
        draw = own.random(4)
        w, h = round((0.6 + 2.4 * draw[0]) * s), round((0.4 + 2.1 * draw[1]) * s)
        x, y = int(draw[2] * max(1, width - w)), int(draw[3] * max(1, height - h))
        wall[y : y + h, x : x + w] = cv2.convertScaleAbs(
            wall[y : y + h, x : x + w], alpha=float(own.uniform(0.84, 1.12))
        )
    columns = 1 + 0.1 * np.clip(
        cv2.resize(own.standard_normal((1, 64)).astype(np.float32), (width, 1)), -1.5, 0.4
    )
    rows = np.linspace(0.2, 1.0, height, dtype=np.float32)[:, None]
    foot = 1 - 0.22 * np.exp(-np.arange(height, 0, -1, dtype=np.float32) / (0.6 * s))[:, None]
    shade = (1 + (columns - 1) * rows) * foot
    np.copyto(wall, shaded(wall, shade.astype(np.float32)))
    if own.random() < 0.5:
        x = int(own.choice([round(0.15 * s), width - round(0.3 * s)]))
        cv2.rectangle(wall, (x, 0), (x + max(1, round(0.1 * s)), height), (70, 70, 72), -1)


def _reliefs(
    lot: Lot,
    look: Look,
    openings: list[Opening],
    streams: tuple[np.random.Generator, np.random.Generator],
    s: float,
) -> list[Relief]:
    return [
        *cornice(lot, look, s),
        *balconies(lot, look, openings, s),
        *bays(lot, look, openings, streams, s),
        *signs(lot, look, openings, streams[1], s),
    ]


def _press(flat: np.ndarray, relief: Relief, s: float) -> None:
    """Paint a relief that is parallel to the wall onto the flat texture."""
    if relief.across[2] or relief.down[2] or relief.across[1]:
        return
    x, y = round(relief.origin[0] * s), round(relief.origin[1] * s)
    # Signs are drawn finer than the wall.
    width, height = max(1, round(relief.across[0] * s)), max(1, round(relief.down[1] * s))
    texture = relief.texture
    if texture.shape[:2] != (height, width):
        texture = cv2.resize(texture, (width, height), interpolation=cv2.INTER_AREA)
    x0, y0, x1, y1 = (
        max(x, 0),
        max(y, 0),
        min(x + width, flat.shape[1]),
        min(y + height, flat.shape[0]),
    )
    if x1 <= x0 or y1 <= y0:
        return
    part = texture[y0 - y : y1 - y, x0 - x : x1 - x]
    target = flat[y0:y1, x0:x1]
    np.copyto(target, part, where=part[..., 3:] > 60)
