"""Rooms and corridors: walls, floors and ceilings with what hangs on them, furniture, and cameras that are carried through."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import cv2
import numpy as np

from whence.runtime import random_stream
from whence.worlds.capture import CaptureOptions, CityShots, Shot, plan_runs, shot_camera
from whence.worlds.conditions import Run
from whence.worlds.plan import CityPlan
from whence.worlds.raster import PatchInfo, Raster, Texture, TextureCache
from whence.worlds.scene import LABELS
from whence.worlds.textures import noise_patch, solid

_ROOM, _WALK, _LOOK, _PHOTO = 81, 82, 83, 84
ROOM_SIDE_M, CORRIDOR_SIDE_M, HEIGHT_M = ((3.6, 7.0), (4.5, 8.0)), ((1.9, 2.6), (12.0, 22.0)), (2.5, 3.1)
CORRIDOR_SHARE = 0.25
ROOM_APART_M = 40.0
"""From the corner of a room to that of the next: rooms are closed, and see nothing of each other."""
WALL_GAP_M = 0.7
"""A camera keeps this far from walls."""
_PX_PER_M = 48.0
_INDOORS = ("day", "overcast", "dusk", "night")
_BUILDING, _FURNITURE, _FLOOR = (LABELS.index(name) for name in ("building", "furniture", "road"))
_PAINTS = ((226, 220, 206), (204, 212, 208), (222, 200, 176), (184, 198, 214), (214, 206, 220), (196, 186, 170), (230, 228, 224))
_FLOORS = ((150, 112, 78), (124, 96, 70), (158, 156, 150), (108, 104, 112), (178, 150, 116), (92, 98, 92))
_COLOURS = ((60, 86, 120), (140, 62, 54), (76, 106, 78), (190, 160, 92), (88, 78, 98), (70, 66, 62), (170, 170, 168), (132, 96, 60))


class Box(NamedTuple):
    """A piece of furniture: the lower corner, and its size, metres in the room."""

    corner: np.ndarray
    size: np.ndarray
    look: int


class Room(NamedTuple):
    """One room: its size, where its corner lies in the city's frame, and what stands in it."""

    size: np.ndarray
    """(3,) metres."""
    corner: np.ndarray
    is_corridor: bool
    boxes: tuple[Box, ...]
    seed: int
    number: int


def make_room(seed: int, number: int) -> Room:
    """The room of that number."""
    random = random_stream(seed, _ROOM, number)
    is_corridor = bool(random.random() < CORRIDOR_SHARE)
    sides = CORRIDOR_SIDE_M if is_corridor else ROOM_SIDE_M
    width, length = (float(random.uniform(*side)) for side in sides)
    size = np.array([width, length, float(random.uniform(*HEIGHT_M))])
    boxes = []
    for _ in range(0 if is_corridor else int(random.integers(3, 7))):
        extent = np.array([random.uniform(0.5, 1.5), random.uniform(0.4, 0.9), random.choice([0.45, 0.75, 1.2, 1.9])])
        if random.random() < 0.5:
            extent[:2] = extent[1::-1]
        # Along a wall, as furniture stands.
        wall, along = int(random.integers(4)), random.random()
        x = (0.02, size[0] - extent[0] - 0.02)[wall] if wall < 2 else along * (size[0] - extent[0])
        y = (0.02, size[1] - extent[1] - 0.02)[wall - 2] if wall >= 2 else along * (size[1] - extent[1])
        boxes.append(Box(np.array([x, y, 0.0]), extent, int(random.integers(10**6))))
    row, column = divmod(number, 16)
    corner = np.array([ROOM_APART_M * column, ROOM_APART_M * row, 0.0])
    return Room(size, corner, is_corridor, tuple(boxes), seed, number)


def plan_scans(plan: CityPlan, *, num_database: int, num_queries: int, frames: int, options: CaptureOptions) -> CityShots:
    """Rooms gone through once, some of them again in another light: a frame every second, in two rooms of one photo no frame."""
    runs = plan_runs(plan.seed, options)
    inside = [number for number, run in runs.items() if run.condition.name in _INDOORS] or list(runs)
    shots: list[Shot] = []
    for role, total in (("database", num_database), ("queries", num_queries)):
        for k in range(total):
            number, frame = divmod(k, frames)
            if role == "queries":
                number %= max(1, -(-num_database // frames))
            room = make_room(plan.seed, number)
            is_again = role == "queries"
            run = inside[int(random_stream(plan.seed, _WALK, number, is_again).integers(len(inside)))]
            spot, heading, height = _walk(room, frame, is_again=is_again)
            shots.append(
                Shot(
                    len(shots), role, runs[run].condition.name, run, 0, float(frame), float(spot[0]), float(spot[1]), height,
                    heading, number, 0, float(frame), sequence=f"{number:04d}_{int(is_again):02d}", frame=frame, place=number,
                )
            )  # fmt: skip
    return CityShots(tuple(shots), runs, frozenset({0}))


def _walk(room: Room, frame: int, *, is_again: bool) -> tuple[np.ndarray, float, float]:
    """Place (2,) in the city's frame, heading from grid north and height of a frame: a slow walk, looking around."""
    random = random_stream(room.seed, _WALK, room.number, 7 + is_again)
    phase, pace = random.uniform(0, 2 * np.pi, 3), random.uniform(0.15, 0.35, 2)
    reach = np.maximum(room.size[:2] / 2 - WALL_GAP_M, 0.2)
    spot = room.corner[:2] + room.size[:2] / 2 + reach * np.sin(pace * frame + phase[:2]) * 0.9
    turn = 2 * np.pi * (0.04 if room.is_corridor else 0.055) * frame + phase[2]
    if room.is_corridor:
        # Along it, one way and then the other.
        turn = np.pi * (int(turn / np.pi) % 2) + 0.35 * np.sin(3 * turn)
    return spot, float(np.degrees(turn) % 360), 1.35 + 0.2 * float(np.sin(frame / 5 + phase[2]))


class RoomPhotographer:
    """Takes the photos of rooms; as `whence.worlds.photographer.Photographer`, with lamps and windows for sun and sky."""

    def __init__(self, plan: CityPlan, runs: Mapping[int, Run], *, options: CaptureOptions, cache_bytes: int) -> None:
        self.plan, self.runs, self.options = plan, runs, options
        self._rooms = TextureCache(cache_bytes)

    def take(self, shot: Shot) -> tuple[np.ndarray, Raster, int]:
        """The photo (H, W, 3) uint8 RGB of a shot, the raster it was developed from, and its JPEG quality."""
        room = make_room(self.plan.seed, shot.place)
        raster = Raster(shot_camera(shot, seed=self.plan.seed, options=self.options))
        planes = self._rooms.get(room.number, lambda: _planes(room), lambda made: sum(plane.texture.size_bytes for plane in made))
        self._draw(raster, planes)
        random = random_stream(self.plan.seed, _PHOTO, shot.number)
        return _developed(raster, self.runs[shot.run], random, is_steady=shot.role == "database"), raster, 90

    def _draw(self, raster: Raster, planes: list[_Plane]) -> None:
        origin, across, down = (np.stack([getattr(plane, name) for plane in planes]) for name in ("origin", "across", "down"))
        inverses, corners = raster.project(origin, across, down)
        outlines = raster.outlines(corners)
        is_shown = raster.visible(corners) & raster.faces(corners)
        middle = origin + (across + down) / 2
        for k in np.argsort(np.linalg.norm(middle - raster.camera.centre, axis=1)).tolist():
            outline = outlines[k]
            if is_shown[k] and outline is not None:
                raster.draw(inverses[k], outline, planes[k].texture, planes[k].info)


class _Plane(NamedTuple):
    origin: np.ndarray
    across: np.ndarray
    down: np.ndarray
    texture: Texture
    info: PatchInfo


def _planes(room: Room) -> list[_Plane]:
    """Everything of a room, each facing inwards, or away from its box."""
    random = random_stream(room.seed, _LOOK, room.number)
    (width, length, height), corner = room.size, room.corner
    paint = np.array(_PAINTS[int(random.integers(len(_PAINTS)))])
    planes = []

    def add(origin: tuple[float, ...], across: tuple[float, ...], down: tuple[float, ...], texture: np.ndarray, label: int) -> None:
        a, d = np.array(across, float), np.array(down, float)
        normal = np.cross(d, a)
        normal /= np.linalg.norm(normal)
        info = PatchInfo(label, (float(normal[0]), float(normal[1]), float(normal[2])))
        planes.append(_Plane(corner + np.array(origin, float), a, d, Texture(texture), info))

    # A wall is seen from inside: to the right along it, down, the room in front.
    add((0, length, height), (width, 0, 0), (0, 0, -height), _wall(random, width, height, paint), _BUILDING)
    add((width, length, height), (0, -length, 0), (0, 0, -height), _wall(random, length, height, paint), _BUILDING)
    add((width, 0, height), (-width, 0, 0), (0, 0, -height), _wall(random, width, height, paint), _BUILDING)
    add((0, 0, height), (0, length, 0), (0, 0, -height), _wall(random, length, height, paint), _BUILDING)
    add((0, length, 0), (width, 0, 0), (0, -length, 0), _floor(random, width, length), _FLOOR)
    add((0, 0, height), (width, 0, 0), (0, length, 0), _ceiling(random, width, length), _BUILDING)
    for box in room.boxes:
        (x, y, _), (w, d, h) = box.corner, box.size
        own = random_stream(room.seed, _LOOK, room.number, box.look)
        colour = _COLOURS[box.look % len(_COLOURS)]
        add((x, y, h), (w, 0, 0), (0, 0, -h), _front(own, w, h, colour), _FURNITURE)
        add((x + w, y + d, h), (-w, 0, 0), (0, 0, -h), _front(own, w, h, colour), _FURNITURE)
        add((x, y + d, h), (0, -d, 0), (0, 0, -h), _front(own, d, h, colour), _FURNITURE)
        add((x + w, y, h), (0, d, 0), (0, 0, -h), _front(own, d, h, colour), _FURNITURE)
        add((x, y + d, h), (w, 0, 0), (0, -d, 0), _plain(w, d, colour, 0.05, box.look), _FURNITURE)
    return planes


def _plain(width: float, height: float, colour: tuple[int, ...] | np.ndarray, grain: float, seed: int) -> np.ndarray:
    columns, rows = max(8, round(width * _PX_PER_M)), max(8, round(height * _PX_PER_M))
    texture = solid(rows, columns, tuple(int(value) for value in colour))  # type: ignore[arg-type]
    shade = 1 + grain * noise_patch(rows, columns, seed)
    texture[..., :3] = np.clip(texture[..., :3] * shade[..., None], 0, 255).astype(np.uint8)
    return texture


def _wall(random: np.random.Generator, width: float, height: float, paint: np.ndarray) -> np.ndarray:
    """A wall with doors, windows, posters, shelves and switches side by side; no two walls of a world are alike."""
    texture = _plain(width, height, paint * random.uniform(0.85, 1.05), 0.025, int(random.integers(10**6)))
    canvas = np.ascontiguousarray(texture[..., :3])
    _box(canvas, 0, height - 0.1, width, 0.1, paint * 0.55)
    along = float(random.uniform(0.1, 0.6))
    while along < width - 0.5:
        kind = random.choice(["door", "window", "poster", "poster", "shelf", "board", "gap"])
        wide = {"door": 0.9, "window": 1.3, "poster": 0.6, "shelf": 1.0, "board": 1.2, "gap": 0.5}[kind] * random.uniform(0.8, 1.25)
        if along + wide > width - 0.05:
            break
        _hang(random, canvas, str(kind), along, wide, height)
        along += wide + float(random.uniform(0.1, 0.9))
    texture[..., :3] = canvas
    return texture


def _hang(random: np.random.Generator, canvas: np.ndarray, kind: str, left: float, wide: float, height: float) -> None:
    """Draw one thing on a wall, its left edge at `left`, metres."""
    colours = [np.array(_COLOURS[k]) for k in random.permutation(len(_COLOURS))[:4]]
    if kind == "door":
        _box(canvas, left, height - 2.05, wide, 2.05, colours[0])
        _box(canvas, left + 0.12, height - 1.9, wide - 0.24, 0.8, colours[0] * 0.8)
        _box(canvas, left + wide - 0.16, height - 1.05, 0.08, 0.04, np.array([220, 214, 190]))
    elif kind == "window":
        _box(canvas, left, height - 2.1, wide, 1.2, np.array([240, 240, 236]))
        for pane in range(2):
            _box(canvas, left + 0.06 + pane * (wide / 2 - 0.02), height - 2.04, wide / 2 - 0.1, 1.08, np.array([150, 186, 214]))
    elif kind == "shelf":
        top = height - float(random.uniform(1.5, 2.1))
        _box(canvas, left, top, wide, 1.2, colours[0] * 0.6)
        for row in range(3):
            at = left + 0.05
            while at < left + wide - 0.1:
                thick, tall = float(random.uniform(0.03, 0.09)), float(random.uniform(0.2, 0.33))
                _box(
                    canvas, at, top + 0.4 * row + 0.37 - tall, thick, tall, np.array(_COLOURS[int(random.integers(len(_COLOURS)))])
                )
                at += thick
    elif kind != "gap":
        tall = wide * float(random.uniform(0.6, 1.4))
        top = height - float(random.uniform(1.4, 1.8)) - tall / 2
        _box(canvas, left, top, wide, tall, np.array([236, 232, 222]))
        for _ in range(int(random.integers(5, 12))):
            x, y = left + wide * random.uniform(0.05, 0.7), top + tall * random.uniform(0.05, 0.7)
            _box(
                canvas, x, y, wide * random.uniform(0.08, 0.28), tall * random.uniform(0.08, 0.28), colours[int(random.integers(4))]
            )


def _front(random: np.random.Generator, width: float, height: float, colour: tuple[int, ...]) -> np.ndarray:
    """A side of a cupboard, table or seat: drawers, or a plain cloth."""
    texture = _plain(width, height, np.array(colour) * random.uniform(0.7, 1.1), 0.06, int(random.integers(10**6)))
    canvas = np.ascontiguousarray(texture[..., :3])
    for row in range(int(random.integers(0, 4))):
        _box(canvas, 0.05, height * row / 4 + 0.04, width - 0.1, height / 4 - 0.06, np.array(colour) * random.uniform(0.6, 1.2))
    texture[..., :3] = canvas
    return texture


def _floor(random: np.random.Generator, width: float, length: float) -> np.ndarray:
    colour = np.array(_FLOORS[int(random.integers(len(_FLOORS)))])
    texture = _plain(width, length, colour, 0.07, int(random.integers(10**6)))
    board = max(2, round(float(random.choice([0.12, 0.3, 0.6])) * _PX_PER_M))
    texture[:, ::board, :3] = (colour * 0.7).astype(np.uint8)
    if random.random() < 0.6:
        canvas = np.ascontiguousarray(texture[..., :3])
        rug = np.array(_COLOURS[int(random.integers(len(_COLOURS)))])
        _box(canvas, width * 0.25, length * 0.3, width * 0.5, length * 0.35, rug)
        _box(canvas, width * 0.3, length * 0.34, width * 0.4, length * 0.27, rug * 1.2)
        texture[..., :3] = canvas
    return texture


def _ceiling(random: np.random.Generator, width: float, length: float) -> np.ndarray:
    texture = _plain(width, length, np.array([232, 230, 224]), 0.015, int(random.integers(10**6)))
    canvas = np.ascontiguousarray(texture[..., :3])
    for at in np.arange(1.0, length - 0.8, float(random.uniform(1.8, 3.0))):
        _box(canvas, width * 0.35, float(at), width * 0.3, 0.5, np.array([255, 252, 240]))
    texture[..., :3] = canvas
    return texture


def _box(canvas: np.ndarray, left: float, top: float, width: float, height: float, colour: np.ndarray) -> None:
    start, end = ((round(x * _PX_PER_M), round(y * _PX_PER_M)) for x, y in ((left, top), (left + width, top + height)))
    cv2.rectangle(canvas, start, end, tuple(int(value) for value in np.clip(colour, 0, 255)), -1)


def _developed(raster: Raster, run: Run, random: np.random.Generator, *, is_steady: bool) -> np.ndarray:
    """Light from above and from the side, the run's colours, and the camera's own faults."""
    level = {"night": 0.72, "dusk": 0.86, "overcast": 0.96}.get(run.condition.name, 1.0)
    normals = np.array([(0.0, 0.0, 0.0), *(info.normal for info in raster.infos)])
    side = np.array([run.sun_direction[0], run.sun_direction[1], 0.4])
    light = (0.78 + 0.22 * normals @ (side / np.linalg.norm(side))) * level
    near = np.clip(1.06 - 0.018 / np.maximum(raster.inverse_depth, 0.05), 0.6, 1.05)
    gain = (1.0, 1.0, 1.0) if is_steady else tuple(random.uniform(0.9, 1.12) * v for v in random.uniform(0.94, 1.06, 3))
    colours = raster.albedo[..., :3] * (light[raster.ids] * near)[..., None] * np.array(run.tint) * np.array(gain)
    blurred = cv2.GaussianBlur(colours.astype(np.float32), (0, 0), 0.45 if is_steady else float(random.uniform(0.4, 0.8)))
    noise = random.normal(0, 2.0 if is_steady else 3.0, blurred.shape)
    return np.clip(blurred + noise, 0, 255).astype(np.uint8)
