"""Rooms and corridors: walls, floors and ceilings with what hangs on them, furniture, and cameras
that are carried through."""

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
from whence.worlds.room_surfaces import COLOURS, PAINTS, ceiling, floor, front, plain, wall
from whence.worlds.scene import LABELS

_ROOM, _WALK, _LOOK, _PHOTO = 81, 82, 83, 84
ROOM_SIDE_M, CORRIDOR_SIDE_M, HEIGHT_M = (
    ((3.6, 7.0), (4.5, 8.0)),
    ((1.9, 2.6), (12.0, 22.0)),
    (2.5, 3.1),
)
CORRIDOR_SHARE = 0.25
ROOM_APART_M = 40.0
"""From the corner of a room to that of the next: rooms are closed, and see nothing of each
other."""
WALL_GAP_M = 0.7
"""A camera keeps this far from walls."""
_INDOORS = ("day", "overcast", "dusk", "night")
_BUILDING, _FURNITURE, _FLOOR = (LABELS.index(name) for name in ("building", "furniture", "road"))


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
        extent = np.array(
            [
                random.uniform(0.5, 1.5),
                random.uniform(0.4, 0.9),
                random.choice([0.45, 0.75, 1.2, 1.9]),
            ]
        )
        if random.random() < 0.5:
            extent[:2] = extent[1::-1]
        # Along a wall, as furniture stands.
        which, along = int(random.integers(4)), random.random()
        x = (
            (0.02, size[0] - extent[0] - 0.02)[which]
            if which < 2
            else along * (size[0] - extent[0])
        )
        y = (
            (0.02, size[1] - extent[1] - 0.02)[which - 2]
            if which >= 2
            else along * (size[1] - extent[1])
        )
        boxes.append(Box(np.array([x, y, 0.0]), extent, int(random.integers(10**6))))
    row, column = divmod(number, 16)
    corner = np.array([ROOM_APART_M * column, ROOM_APART_M * row, 0.0])
    return Room(size, corner, is_corridor, tuple(boxes), seed, number)


def plan_scans(
    plan: CityPlan, *, num_database: int, num_queries: int, frames: int, options: CaptureOptions
) -> CityShots:
    """Rooms gone through once, some of them again in another light: a frame every second, in two
    rooms of one photo no frame."""
    runs = plan_runs(plan.seed, options)
    inside = [number for number, run in runs.items() if run.condition.name in _INDOORS] or list(
        runs
    )
    shots: list[Shot] = []
    for role, total in (("database", num_database), ("queries", num_queries)):
        for k in range(total):
            number, frame = divmod(k, frames)
            if role == "queries":
                number %= max(1, -(-num_database // frames))
            room = make_room(plan.seed, number)
            is_again = role == "queries"
            run = inside[
                int(random_stream(plan.seed, _WALK, number, is_again).integers(len(inside)))
            ]
            spot, heading, height = _walk(room, frame, is_again=is_again)
            shots.append(
                Shot(
                    len(shots), role, runs[run].condition.name, run, 0, float(frame),
                    float(spot[0]), float(spot[1]), height, heading, number, 0, float(frame),
                    sequence=f"{number:04d}_{int(is_again):02d}", frame=frame, place=number,
                )
            )  # fmt: skip
    return CityShots(tuple(shots), runs, frozenset({0}))


def _walk(room: Room, frame: int, *, is_again: bool) -> tuple[np.ndarray, float, float]:
    """Place (2,) in the city's frame, heading from grid north and height of a frame: a slow walk,
    looking around."""
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
    """Takes the photos of rooms; as `whence.worlds.photographer.Photographer`, with lamps and
    windows for sun and sky."""

    def __init__(
        self, plan: CityPlan, runs: Mapping[int, Run], *, options: CaptureOptions, cache_bytes: int
    ) -> None:
        self.plan, self.runs, self.options = plan, runs, options
        self._rooms = TextureCache(cache_bytes)

    def take(self, shot: Shot) -> tuple[np.ndarray, Raster, int]:
        """The photo (H, W, 3) uint8 RGB of a shot, the raster it was developed from, and its JPEG
        quality."""
        room = make_room(self.plan.seed, shot.place)
        raster = Raster(shot_camera(shot, seed=self.plan.seed, options=self.options))
        planes = self._rooms.get(
            room.number,
            lambda: _planes(room),
            lambda made: sum(plane.texture.size_bytes for plane in made),
        )
        self._draw(raster, planes)
        random = random_stream(self.plan.seed, _PHOTO, shot.number)
        return (
            _developed(raster, self.runs[shot.run], random, is_steady=shot.role == "database"),
            raster,
            90,
        )

    def _draw(self, raster: Raster, planes: list[_Plane]) -> None:
        origin, across, down = (
            np.stack([getattr(plane, name) for plane in planes])
            for name in ("origin", "across", "down")
        )
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
    paint = np.array(PAINTS[int(random.integers(len(PAINTS)))])
    planes = []

    def add(
        origin: tuple[float, ...],
        across: tuple[float, ...],
        down: tuple[float, ...],
        texture: np.ndarray,
        label: int,
    ) -> None:
        a, d = np.array(across, float), np.array(down, float)
        normal = np.cross(d, a)
        normal /= np.linalg.norm(normal)
        info = PatchInfo(label, (float(normal[0]), float(normal[1]), float(normal[2])))
        planes.append(_Plane(corner + np.array(origin, float), a, d, Texture(texture), info))

    # A wall is seen from inside: to the right along it, down, the room in front.
    add(
        (0, length, height),
        (width, 0, 0),
        (0, 0, -height),
        wall(random, width, height, paint),
        _BUILDING,
    )
    add(
        (width, length, height),
        (0, -length, 0),
        (0, 0, -height),
        wall(random, length, height, paint),
        _BUILDING,
    )
    add(
        (width, 0, height),
        (-width, 0, 0),
        (0, 0, -height),
        wall(random, width, height, paint),
        _BUILDING,
    )
    add(
        (0, 0, height),
        (0, length, 0),
        (0, 0, -height),
        wall(random, length, height, paint),
        _BUILDING,
    )
    add((0, length, 0), (width, 0, 0), (0, -length, 0), floor(random, width, length), _FLOOR)
    add((0, 0, height), (width, 0, 0), (0, length, 0), ceiling(random, width, length), _BUILDING)
    for box in room.boxes:
        (x, y, _), (w, d, h) = box.corner, box.size
        own = random_stream(room.seed, _LOOK, room.number, box.look)
        colour = COLOURS[box.look % len(COLOURS)]
        add((x, y, h), (w, 0, 0), (0, 0, -h), front(own, w, h, colour), _FURNITURE)
        add((x + w, y + d, h), (-w, 0, 0), (0, 0, -h), front(own, w, h, colour), _FURNITURE)
        add((x, y + d, h), (0, -d, 0), (0, 0, -h), front(own, d, h, colour), _FURNITURE)
        add((x + w, y, h), (0, d, 0), (0, 0, -h), front(own, d, h, colour), _FURNITURE)
        add((x, y + d, h), (w, 0, 0), (0, -d, 0), plain(w, d, colour, 0.05, box.look), _FURNITURE)
    return planes


def _developed(
    raster: Raster, run: Run, random: np.random.Generator, *, is_steady: bool
) -> np.ndarray:
    """Light from above and from the side, the run's colours, and the camera's own faults."""
    level = {"night": 0.72, "dusk": 0.86, "overcast": 0.96}.get(run.condition.name, 1.0)
    normals = np.array([(0.0, 0.0, 0.0), *(info.normal for info in raster.infos)])
    side = np.array([run.sun_direction[0], run.sun_direction[1], 0.4])
    light = (0.78 + 0.22 * normals @ (side / np.linalg.norm(side))) * level
    near = np.clip(1.06 - 0.018 / np.maximum(raster.inverse_depth, 0.05), 0.6, 1.05)
    gain = (
        (1.0, 1.0, 1.0)
        if is_steady
        else tuple(random.uniform(0.9, 1.12) * v for v in random.uniform(0.94, 1.06, 3))
    )
    colours = (
        raster.albedo[..., :3]
        * (light[raster.ids] * near)[..., None]
        * np.array(run.tint)
        * np.array(gain)
    )
    blurred = cv2.GaussianBlur(
        colours.astype(np.float32), (0, 0), 0.45 if is_steady else float(random.uniform(0.4, 0.8))
    )
    noise = random.normal(0, 2.0 if is_steady else 3.0, blurred.shape)
    return np.clip(blurred + noise, 0, 255).astype(np.uint8)
