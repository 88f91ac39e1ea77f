"""From what a camera sees to what it records: light and shadow, sky, fog, rain, snow, and the
camera's own faults."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from whence.runtime import random_stream
from whence.worlds.conditions import Run, RunLight
from whence.worlds.ground import HORIZON_ROW
from whence.worlds.raster import Raster
from whence.worlds.scene import LABELS
from whence.worlds.textures import noise_bank

_FLAT = tuple(LABELS.index(name) for name in ("road", "sidewalk", "terrain"))
_LEAF, _ROAD = LABELS.index("vegetation"), LABELS.index("road")


@dataclass(frozen=True, slots=True)
class Exposure:
    """What the camera does to one photo."""

    gain: float = 1.0
    balance: tuple[float, float, float] = (1.0, 1.0, 1.0)
    blur_px: float = 0.45
    """Standard deviation of the optics' blur."""
    motion_px: tuple[float, float] = (0.0, 0.0)
    noise: float = 1.0
    vignette: float = 0.15
    jpeg_quality: int = 90


def expose(
    raster: Raster,
    run: Run,
    light: RunLight,
    exposure: Exposure,
    random: np.random.Generator,
    *,
    level: float | None = None,
) -> np.ndarray:
    """The photo (H, W, 3) uint8 RGB of a filled raster. `level`: the brightness to expose for, by
    default the photo's own.

    Works on colour planes (3, H, W): numpy is several times slower on arrays whose last axis is
    three long.
    """
    condition, ids = run.condition, raster.ids
    labels, normals = _tables(raster)
    is_flat = np.take(np.isin(labels, _FLAT), ids)
    photo = np.empty((3, *ids.shape), np.float32)
    for plane, colours in zip(photo, cv2.split(raster.albedo), strict=False):
        plane[:] = colours
    if condition.snow:
        _snow(photo, raster, labels, random)
    elif condition.wetness:
        photo *= np.where(is_flat, np.float32(0.6), np.float32(1.0))
    photo *= _light_planes(raster, run, light, normals)
    haze = np.exp(raster_distance(raster) * np.float32(-1 / condition.visibility_m))
    for plane, low in zip(photo, condition.sky_low, strict=True):
        plane -= np.float32(low)
        plane *= haze
        plane += np.float32(low)
    is_sky = (ids == 0).view(np.uint8)
    if is_sky.any():
        for plane, sky in zip(
            photo, cv2.split(_sky(raster, light).astype(np.float32)), strict=True
        ):
            cv2.copyTo(sky, is_sky, plane)
    if condition.wetness:
        _mirror(photo, is_flat, raster)
    if condition.streaks:
        _streaks(photo, condition.streaks, condition.snow > 0, random)
    return _develop(photo, run, exposure, random, level)


def brightness(raster: Raster, run: Run, light: RunLight) -> float:
    """The mean green level of what a camera sees, before exposure."""
    _, normals = _tables(raster)
    seen = raster.albedo[..., 1] * _light_planes(raster, run, light, normals)[1]
    return float(np.where(raster.ids == 0, np.float32(run.condition.sky_low[1]), seen).mean())


def raster_distance(raster: Raster) -> np.ndarray:
    """Depth (H, W) in metres along the optical axis, 10 km for the sky."""
    return 1 / np.maximum(raster.inverse_depth, np.float32(1e-4))


def _light_planes(raster: Raster, run: Run, light: RunLight, normals: np.ndarray) -> np.ndarray:
    """What falls on each pixel (3, H, W): sky, sun past the roofs, lamps, and what shines
    itself."""
    condition, ids = run.condition, raster.ids
    sky_share = np.take((0.86 + 0.14 * normals[:, 2]).astype(np.float32), ids)
    planes = (np.array(condition.ambient, np.float32) * np.array(run.tint, np.float32))[
        :, None, None
    ] * sky_share
    if light.shadow_m is not None:
        facing = np.where(
            (normals == 0).all(axis=1), 0.55, np.clip(normals @ run.sun_direction, 0, 1)
        ).astype(np.float32)
        sunlit = np.take(facing, ids) * _sunlit(raster, normals, light)
        for plane, strength in zip(planes, condition.sun, strict=True):
            plane += np.float32(strength) * sunlit
    if condition.lit:
        planes += np.array([0.5, 0.4, 0.26], np.float32)[:, None, None] * (
            _lamps(raster) * np.float32(condition.lit)
        )
        glow = np.clip(raster.albedo[..., 3].astype(np.float32) - 128, 0, 127) * np.float32(
            condition.lit / 127
        )
        planes += np.array([1.5, 1.25, 0.85], np.float32)[:, None, None] * glow
    return planes


def _tables(raster: Raster) -> tuple[np.ndarray, np.ndarray]:
    """Label (P + 1,) and normal (P + 1, 3) by id; the sky is id 0."""
    labels = np.array([0, *(info.label for info in raster.infos)], np.uint8)
    normals = np.array([(0.0, 0.0, 0.0), *(info.normal for info in raster.infos)], np.float32)
    return labels, normals


def _positions(raster: Raster, step: int) -> np.ndarray:
    """World coordinates (h, w, 3) of every `step`-th pixel."""
    camera = raster.camera
    rays = np.linalg.inv(camera.projection)
    columns = np.arange(0, camera.width, step, dtype=np.float32)
    rows = np.arange(0, camera.height, step, dtype=np.float32)[:, None]
    depth = 1 / np.maximum(raster.inverse_depth[::step, ::step], 1e-3)
    parts = [
        (np.float32(r[0]) * columns + np.float32(r[2]) + np.float32(r[1]) * rows) * depth
        + np.float32(c)
        for r, c in zip(rays, camera.centre, strict=True)
    ]
    return np.stack(parts, axis=-1)


def _sunlit(raster: Raster, normals: np.ndarray, light: RunLight) -> np.ndarray:
    """Share of the sun (H, W) that reaches each pixel past the roofs."""
    assert light.shadow_m is not None
    step = 2
    place = _positions(raster, step)
    off = np.take(normals[:, :2], raster.ids[::step, ::step], axis=0) * np.float32(
        1.3 * light.CELL_M
    )
    x = (place[..., 0] + off[..., 0] - np.float32(light.low[0])) / np.float32(light.CELL_M)
    y = (place[..., 1] + off[..., 1] - np.float32(light.low[1])) / np.float32(light.CELL_M)
    height = cv2.remap(
        light.shadow_m, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=0
    )
    lit = np.clip((place[..., 2] - height) * np.float32(1.2) + np.float32(0.7), 0, 1)
    return cv2.resize(
        lit, (raster.camera.width, raster.camera.height), interpolation=cv2.INTER_LINEAR
    )


def _lamps(raster: Raster) -> np.ndarray:
    """Lamp light (H, W): strongest a few metres above the ground, in pools along the street."""
    place = _positions(raster, 2)
    pools = 0.65 + 0.35 * np.sin(place[..., 0] * 0.26) * np.sin(place[..., 1] * 0.26)
    glow = np.exp(-np.square(place[..., 2] - 2.5) / 30) * pools
    return cv2.resize(
        glow.astype(np.float32),
        (raster.camera.width, raster.camera.height),
        interpolation=cv2.INTER_LINEAR,
    )


def _sky(raster: Raster, light: RunLight) -> np.ndarray:
    """The sky behind everything (H, W, 3), read from the run's panorama."""
    camera = raster.camera
    forward, right = camera.rotation[2], camera.rotation[0]
    grid_heading = np.degrees(np.arctan2(forward[0], forward[1])) % 360
    pitch = np.degrees(np.arcsin(np.clip(forward[2], -1, 1)))
    roll = -np.arcsin(np.clip(right[2], -1, 1))
    per_px = 4 * np.degrees(1 / camera.intrinsics[0, 0])
    c, s = per_px * np.cos(roll), per_px * np.sin(roll)
    middle_x, middle_y = camera.intrinsics[0, 2], camera.intrinsics[1, 2]
    start_x, start_y = 4 * grid_heading, HORIZON_ROW - 4 * pitch
    matrix = np.array(
        [
            [c, -s, start_x - c * middle_x + s * middle_y],
            [s, c, start_y - s * middle_x - c * middle_y],
        ]
    )
    return cv2.warpAffine(
        light.padded_sky,
        matrix + np.array([[0, 0, light.SKY_PAD], [0, 0, 0]]),
        (camera.width, camera.height),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )


def _snow(
    photo: np.ndarray, raster: Raster, labels: np.ndarray, random: np.random.Generator
) -> None:
    """Lay snow on the ground and, thinner, on trees: changes colour planes (3, H, W)."""
    cover = np.zeros(len(labels), np.float32)
    cover[np.isin(labels, _FLAT)] = 0.82
    cover[labels == _LEAF] = 0.45
    amount = np.take(cover, raster.ids)
    tracks = (_cut(noise_bank(), amount.shape[0], amount.shape[1], random) > 0.1) | (
        np.take(labels, raster.ids) != _ROAD
    )
    amount *= np.where(tracks, np.float32(1.0), np.float32(0.6))
    for plane, white in zip(photo, (236, 240, 246), strict=True):
        plane += (np.float32(white) - plane) * amount


def _mirror(photo: np.ndarray, is_flat: np.ndarray, raster: Raster) -> None:
    """Mix the picture mirrored at the horizon into wet ground: changes colour planes (3, H, W)."""
    camera = raster.camera
    pitch = np.arcsin(np.clip(camera.rotation[2, 2], -1, 1))
    horizon = camera.intrinsics[1, 2] + camera.intrinsics[1, 1] * np.tan(pitch)
    matrix = np.array([[1.0, 0, 0], [0, -1.0, 2 * horizon]])
    mask = is_flat.view(np.uint8)
    for plane in photo:
        mirrored = cv2.warpAffine(
            plane,
            matrix,
            (camera.width, camera.height),
            flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )
        cv2.copyTo(cv2.addWeighted(plane, 0.62, cv2.blur(mirrored, (3, 9)), 0.38, 0), mask, plane)


@lru_cache(maxsize=1)
def _noise_field() -> np.ndarray:
    """White noise (1024, 1024) float32 that photos cut their own pieces from."""
    return random_stream(5, 41).standard_normal((1024, 1024), dtype=np.float32)


@lru_cache(maxsize=1)
def _streak_fields() -> tuple[np.ndarray, np.ndarray]:
    """Rain streaks and snow flakes (1024, 1024) float32 in 0..1."""
    random = random_stream(6, 41)
    drops = (random.random((1024, 1024)) > 0.9985).astype(np.float32)
    kernel = np.zeros((17, 5), np.float32)
    cv2.line(kernel, (1, 0), (3, 16), 1.0, 1)
    flakes = (random.random((1024, 1024)) > 0.9975).astype(np.float32)
    return np.clip(cv2.filter2D(drops, -1, kernel), 0, 1), np.clip(
        cv2.GaussianBlur(flakes, (0, 0), 0.9) * 5, 0, 1
    )


def _cut(field: np.ndarray, height: int, width: int, random: np.random.Generator) -> np.ndarray:
    """A piece (height, width) of a field, repeated where the photo is larger than the field."""
    if height > field.shape[0] or width > field.shape[1]:
        field = np.tile(field, (-(-height // field.shape[0]), -(-width // field.shape[1])))
    y, x = (
        int(v)
        for v in random.integers(0, (field.shape[0] - height + 1, field.shape[1] - width + 1))
    )
    return field[y : y + height, x : x + width]


def _streaks(photo: np.ndarray, amount: float, is_snow: bool, random: np.random.Generator) -> None:
    """Falling rain or snow: changes colour planes (3, H, W)."""
    field = _cut(
        _streak_fields()[int(is_snow)], photo.shape[1], photo.shape[2], random
    ) * np.float32(0.75 if is_snow else 0.3 * amount)
    photo += (np.float32(245.0 if is_snow else 205.0) - photo) * field


def _develop(
    photo: np.ndarray,
    run: Run,
    exposure: Exposure,
    random: np.random.Generator,
    level: float | None,
) -> np.ndarray:
    """Blur, auto exposure, white balance, vignette, noise: colour planes (3, H, W) to a photo (H,
    W, 3) uint8."""
    _, height, width = photo.shape
    mean = float(photo[1, ::4, ::4].mean()) if level is None else level
    target = 78.0 if run.condition.name == "night" else 126.0
    auto = float(np.clip((target / max(mean, 1.0)) ** 0.75, 0.6, 2.6))
    falloff = 1 - np.float32(exposure.vignette) * _falloff_shape(height, width)
    dx, dy = exposure.motion_px
    grain = np.float32(run.condition.noise * exposure.noise)
    planes = []
    for plane, balance in zip(photo, exposure.balance, strict=True):
        if exposure.blur_px > 0.05:
            plane = cv2.GaussianBlur(plane, (0, 0), exposure.blur_px)
        if abs(dx) + abs(dy) > 0.7:
            plane = _shake(plane, dx, dy)
        plane = (
            plane * (falloff * np.float32(auto * exposure.gain * balance))
            + _cut(_noise_field(), height, width, random) * grain
        )
        planes.append(cv2.convertScaleAbs(np.maximum(plane, 0)))
    return cv2.merge(planes)


def _shake(plane: np.ndarray, dx: float, dy: float) -> np.ndarray:
    """Blur along the camera's movement in pixels."""
    size = 2 * int(np.ceil(max(abs(dx), abs(dy)) / 2)) + 3
    kernel = np.zeros((size * 8, size * 8), np.float32)
    middle = size * 4
    cv2.line(
        kernel,
        (int(middle - dx * 4), int(middle - dy * 4)),
        (int(middle + dx * 4), int(middle + dy * 4)),
        1.0,
        8,
    )
    small = cv2.resize(kernel, (size, size), interpolation=cv2.INTER_AREA)
    return cv2.filter2D(plane, -1, small / small.sum(), borderType=cv2.BORDER_REPLICATE)


@lru_cache(maxsize=64)
def _falloff_shape(height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[:height, :width].astype(np.float32)
    return ((x / width - 0.5) ** 2 + (y / height - 0.5) ** 2) * 2
