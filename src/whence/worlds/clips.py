"""Short clips of things that move over ground, whose future is open: where roads cross a thing
turns left or right by chance.

What every pixel shows, how far it is, which ground it is and whether something turned by chance is
known exactly. The camera drifts slowly. Clips of `val` and `test` have even times, and what turns
does so after the fourth frame.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from whence.data.clips import RECORD
from whence.errors import BadOption, InputError
from whence.runtime import atomic_write, claim_folder, progress, random_stream

SPLITS = ("train", "val", "test")
CLASSES = ("ground", "circle", "square", "triangle", "diamond")
NUM_PLACES = 16
"""Grounds, the same ones in all splits."""
_COLOURS = ((0, 0, 0), (214, 64, 58), (62, 104, 214), (70, 178, 84), (226, 196, 60))
_GROUND_PX = 192
_SHIFT = 4
"""Binary digits of parts of a pixel, as OpenCV draws them."""
_RADIUS_PX_M = 44.0
"""Radius of a thing times its distance."""
_CLIP, _GROUND = 171, 172
_ROAD_PX = 7
_NEXT = 3
"""The last frame before something turns in clips that are measured with."""


@dataclass(frozen=True, slots=True)
class ClipSpec:
    """Everything that clips follow from. Two worlds with equal records have equal pixels."""

    seed: int = 0
    num_train: int = 600
    num_val: int = 60
    num_test: int = 200
    length: int = 8
    """Frames of a clip."""
    side_px: int = 64
    step_s: tuple[float, float] = (0.04, 0.33)
    """Seconds from frame to frame, drawn anew each time in `train` ..."""
    even_s: float = 0.2
    """... and always these in `val` and `test`."""
    ambiguous_share: float = 0.5

    def __post_init__(self) -> None:
        if (
            min(self.num_train, self.num_val, self.num_test) < 1
            or self.length < 6
            or not 32 <= self.side_px <= 128
        ):
            raise BadOption(
                "clips are 1 or more in each split, of 6 or more frames and 32 to 128 pixels a side"
            )

    def num(self, split: str) -> int:
        """Clips of a split."""
        return int(getattr(self, f"num_{split}"))


class ClipSummary(NamedTuple):
    """What was rendered."""

    path: Path
    num_clips: int
    num_rendered: int
    seconds: float


class _Thing(NamedTuple):
    """What moves: at `start` at time 0, by `velocity` until `turns_at`, then by `after`. In pixels
    of the ground, and seconds."""

    kind: int
    depth_m: float
    start: np.ndarray
    velocity: np.ndarray
    turns_at: float
    after: np.ndarray

    def at(self, seconds: float) -> np.ndarray:
        """x and y."""
        place: np.ndarray = (
            self.start
            + self.velocity * min(seconds, self.turns_at)
            + self.after * max(0.0, seconds - self.turns_at)
        )
        return place


def render_clip(spec: ClipSpec, split: str, number: int) -> dict[str, np.ndarray]:
    """One clip: frames, times_s, labels, depth_m, places and is_ambiguous."""
    random = random_stream(spec.seed, _CLIP, SPLITS.index(split), number)
    place = int(random.integers(NUM_PLACES))
    steps = (
        np.full(spec.length - 1, spec.even_s)
        if split != "train"
        else random.uniform(*spec.step_s, spec.length - 1)
    )
    times = np.concatenate([[0.0], np.cumsum(steps)])
    is_ambiguous = bool(random.random() < spec.ambiguous_share)
    crossing = np.full(2, _GROUND_PX / 2)
    corner = crossing - random.uniform(0.35, 0.65, 2) * spec.side_px
    drift = random.uniform(-7, 7, 2)
    things = [_wanderer(random, corner, spec.side_px) for _ in range(int(random.integers(0, 3)))]
    if is_ambiguous:
        before = _NEXT if split != "train" else int(random.integers(1, spec.length - 1))
        things.append(
            _turner(random, crossing, times[before] + random.uniform(0.1, 0.9) * steps[before])
        )
    elif not things:
        things.append(_wanderer(random, corner, spec.side_px))
    things.sort(key=lambda thing: -thing.depth_m)
    ground = make_ground(spec.seed, place)
    found = [_frame(spec, ground, things, corner + drift * when, float(when)) for when in times]
    frames, labels, depth = (np.stack([one[part] for one in found]) for part in range(3))
    return {
        "frames": frames,
        "times_s": times,
        "labels": labels,
        "depth_m": depth,
        "places": np.array(place),
        "is_ambiguous": np.array(is_ambiguous),
    }


def make_ground(seed: int, place: int) -> np.ndarray:
    """(192, 192, 3) uint8: two roads that cross in the middle, over ground of its own colours."""
    random = random_stream(seed, _GROUND, place)
    parts = []
    for cells, strength in ((9, 1.0), (48, 0.35)):
        coarse = random.uniform(-1, 1, (cells, cells, 3)).astype(np.float32)
        parts.append(
            strength * cv2.resize(coarse, (_GROUND_PX, _GROUND_PX), interpolation=cv2.INTER_CUBIC)
        )
    tint = random.uniform(70, 170, 3)
    ground = np.clip(tint + 42 * (parts[0] + parts[1]), 0, 255).astype(np.uint8)
    middle, half = _GROUND_PX // 2, _ROAD_PX // 2
    ground[middle - half : middle + half + 1] = 96
    ground[:, middle - half : middle + half + 1] = 96
    return ground


def _turner(random: np.random.Generator, crossing: np.ndarray, turns_at: float) -> _Thing:
    """What drives along a road and turns off to the left or to the right where the roads cross."""
    axis, speed = int(random.integers(2)), random.uniform(18, 34)
    velocity = np.zeros(2)
    velocity[axis] = speed * random.choice((-1, 1))
    after = np.zeros(2)
    after[1 - axis] = speed * random.choice((-1, 1))
    return _Thing(
        int(random.integers(1, len(CLASSES))),
        random.uniform(6, 11),
        crossing - velocity * turns_at,
        velocity,
        turns_at,
        after,
    )


def _wanderer(random: np.random.Generator, corner: np.ndarray, side: int) -> _Thing:
    """What goes straight on."""
    angle, speed = random.uniform(0, 2 * np.pi), random.uniform(5, 28)
    velocity = speed * np.array([np.cos(angle), np.sin(angle)])
    middle = corner + random.uniform(0.2, 0.8, 2) * side
    start = middle - velocity * 0.6
    return _Thing(
        int(random.integers(1, len(CLASSES))), random.uniform(6, 14), start, velocity, 1e9, velocity
    )


def _frame(
    spec: ClipSpec, ground: np.ndarray, things: list[_Thing], corner: np.ndarray, seconds: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pixels, labels and distances of one frame whose upper left corner lies so on the ground."""
    side = spec.side_px
    matrix = np.array([[1, 0, corner[0]], [0, 1, corner[1]]], np.float64)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    frame = cv2.warpAffine(ground, matrix, (side, side), flags=flags, borderMode=cv2.BORDER_REFLECT)
    labels = np.zeros((side, side), np.uint8)
    depth = np.repeat(np.linspace(60, 20, side, dtype=np.float32)[:, None], side, axis=1)
    for thing in things:
        outline = _outline(thing, thing.at(seconds) - corner)
        cv2.fillPoly(frame, [outline], _COLOURS[thing.kind], lineType=cv2.LINE_AA, shift=_SHIFT)
        mask = np.zeros((side, side), np.uint8)
        cv2.fillPoly(mask, [outline], 1, shift=_SHIFT)
        labels[mask > 0], depth[mask > 0] = thing.kind, thing.depth_m
    return frame, labels, depth.astype(np.float16)


def _outline(thing: _Thing, middle: np.ndarray) -> np.ndarray:
    """Corners (n, 2) of a thing, in parts of a pixel."""
    corners, first = {1: (24, 0.0), 2: (4, np.pi / 4), 3: (3, -np.pi / 2), 4: (4, 0.0)}[thing.kind]
    angles = first + 2 * np.pi * np.arange(corners) / corners
    points = middle + _RADIUS_PX_M / thing.depth_m * np.stack(
        [np.cos(angles), np.sin(angles)], axis=1
    )
    outline: np.ndarray = np.round(points * 2**_SHIFT).astype(np.int32)
    return outline


def render_clips(
    out: str | Path, spec: ClipSpec, *, show_progress: bool | None = None
) -> ClipSummary:
    """A summary of clips, rendered into the folder `out`, one file a split; those that are there
    already are kept.

    Raises `InputError` and `UnwritableFile`.
    """
    started, folder, rendered = time.perf_counter(), Path(out), 0
    record = json.loads(json.dumps({"world": "clips", **asdict(spec)}))
    found = claim_folder(folder, record, name=RECORD)
    if found is not None and found != record:
        raise InputError(f"{str(folder / RECORD)!r} describes other clips; choose another folder")
    total = sum(map(spec.num, SPLITS))
    with progress("rendering", total=total, show=show_progress) as advance:
        for split in SPLITS:
            file = folder / f"{split}.npz"
            if not file.is_file():
                clips = []
                for number in range(spec.num(split)):
                    clips.append(render_clip(spec, split, number))
                    advance(1)
                arrays: dict[str, Any] = {
                    name: np.stack([clip[name] for clip in clips]) for name in clips[0]
                }
                with atomic_write(file) as stream:
                    np.savez(stream, **arrays)
                rendered += len(clips)
    return ClipSummary(folder, total, rendered, time.perf_counter() - started)
