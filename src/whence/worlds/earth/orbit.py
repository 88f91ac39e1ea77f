"""Photos of the ground from orbit: where a camera is, how it is turned, and what haze, cloud, sun
and film make of the ground.

A camera stands 400 kilometres above the plane of a region. What it shows is related to the plane,
and so to Web-Mercator, by an exact homography; its corners on the ground are the truth.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

from whence.runtime import random_stream
from whence.worlds.earth.ground import Region, Survey
from whence.worlds.earth.noise import Window, smooth
from whence.worlds.earth.paint import Day, cloud_cover, paint

ALTITUDE_KM = 400.0
STYLES = ("photo", "film", "spacecraft")
"""A camera of today; grainy, faded film of earlier missions; a small grey camera of another
spacecraft."""
_POSE, _LOOK, _GRAIN, _DENSE = 311, 312, 313, 314
_AREA_KM2 = (5_200.0, 40_000.0)
_MOST_TILT_DEG = 45.0
_TRIES = 60
_LEAST_LAND = 0.3
_MARGIN_KM = 4.0
_MOST_PAINTED_PX = 1100


class Pose(NamedTuple):
    """Where a camera is over a region's plane, and how it is turned."""

    nadir_km: tuple[float, float]
    """East and south on the plane."""
    aim_km: tuple[float, float]
    """Where the middle of the photo lies."""
    tilt_deg: float
    roll_deg: float
    """How far the photo is turned about its axis."""
    focal: float
    """Of the longer side's length."""
    aspect: float
    """Width over height of the sensor; the photo is squeezed to a square."""


@dataclass(frozen=True, slots=True)
class OrbitShot:
    """A photo to take."""

    number: int
    pose: Pose
    style: str
    is_dense: bool
    """Whether it lies where most photos lie."""
    weak_km: tuple[float, float]
    """Where a person said its middle is, on the plane: not exactly."""


def to_plane(pose: Pose, *, side_px: int) -> np.ndarray:
    """(3, 3) the homography from pixels of the square photo to kilometres east and south."""
    nadir, aim = np.array([*pose.nadir_km, 0.0]), np.array([*pose.aim_km, 0.0])
    centre = nadir + np.array([0, 0, ALTITUDE_KM])
    forward = (aim - centre) / np.linalg.norm(aim - centre)
    # East, south, up: a left-handed frame, as pictures of maps are.
    level = (
        np.array([1.0, 0.0, 0.0])
        if abs(forward[2]) > 0.9999
        else np.cross(forward, [0.0, 0.0, -1.0])
    )
    right = level / np.linalg.norm(level)
    down = np.cross(forward, right)
    if right[0] * down[1] < right[1] * down[0]:
        down = -down
    roll = np.radians(pose.roll_deg)
    right, down = (
        np.cos(roll) * right + np.sin(roll) * down,
        np.cos(roll) * down - np.sin(roll) * right,
    )
    # Pixels to directions: the longer side has the length 1.
    wide, high = (1.0, 1 / pose.aspect) if pose.aspect >= 1 else (pose.aspect, 1.0)
    middle = (side_px - 1) / 2
    rays = np.column_stack([right * wide / side_px, down * high / side_px, pose.focal * forward])
    rays[:, 2] -= rays[:, 0] * middle + rays[:, 1] * middle
    # A ray d meets the ground at centre - d * (centre_z / d_z).
    ground = np.array([[-centre[2], 0, centre[0]], [0, -centre[2], centre[1]], [0, 0, 1]])
    scaled = np.vstack([rays[0], rays[1], rays[2]])
    matrix = ground @ scaled
    return matrix / matrix[2, 2]


def project(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """(n, 2) points (n, 2) through a homography."""
    found = np.column_stack([points, np.ones(len(points))]) @ matrix.T
    return found[:, :2] / found[:, 2:]


def corners_km(pose: Pose) -> np.ndarray:
    """(4, 2) kilometres east and south of the photo's lower left, upper left, upper right and lower
    right corner."""
    low, high = -0.5, 99.5
    return project(
        to_plane(pose, side_px=100), np.array([[low, high], [low, low], [high, low], [high, high]])
    )


def plan_shots(
    region: Region, num: int, *, styles: tuple[str, ...] = ("photo",), first: int = 0
) -> list[OrbitShot]:
    """Photos of a region, most of them over a fifth of it; all lie within its tiles and show some
    land."""
    side_km = region.side * region.km_per_cell
    spots = random_stream(region.seed, _DENSE).uniform(0.2, 0.8, (4, 2)) * side_km
    shots = []
    for number in range(first, first + num):
        random = random_stream(region.seed, _POSE, number)
        pose, is_dense = _pose(random, region, spots, side_km)
        weak = np.array(pose.aim_km) + random.normal(0, 6.0, 2)
        shots.append(
            OrbitShot(
                number,
                pose,
                styles[number % len(styles)],
                is_dense,
                (float(weak[0]), float(weak[1])),
            )
        )
    return shots


def take(region: Region, shot: OrbitShot, *, side_px: int) -> tuple[np.ndarray, float]:
    """The photo (side, side, 3) uint8 RGB, and the share of it that clouds hide."""
    random = random_stream(region.seed, _LOOK, shot.number)
    matrix = to_plane(shot.pose, side_px=side_px)
    survey = Survey(region, _window(shot.pose, side_px))
    day = Day(
        year=int(random.integers(2005, 2024)),
        season=float(random.beta(1.2, 2)),
        sun_deg=float(np.clip(random.normal(150, 45), 60, 300)),
        relief=float(random.uniform(0.5, 1.2)),
        brown=float(random.beta(1.2, 1.8)),
        is_mosaic=False,
    )
    ground = paint(survey, day)
    _glint(ground, survey, random, shot.pose)
    share = float(random.choice([0.0, 0.12, 0.25, 0.4], p=[0.4, 0.3, 0.2, 0.1]))
    clouds = cloud_cover(
        survey,
        share=share,
        size_km=float(random.uniform(3, 9)),
        seed=region.seed * 31 + shot.number,
    )
    shadow = np.roll(
        clouds, (round(1.2 / survey.window.km_per_px), round(0.9 / survey.window.km_per_px)), (0, 1)
    )
    ground *= (1 - 0.5 * shadow)[..., None]
    ground += (np.float32(0.97) - ground) * clouds[..., None]
    onto = np.linalg.inv(_to_pixels(survey.window) @ matrix)
    photo = cv2.warpPerspective(
        ground, onto, (side_px, side_px), flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REPLICATE
    )
    hidden = cv2.warpPerspective(clouds, onto, (side_px, side_px), flags=cv2.INTER_LINEAR)
    photo = _through_air(photo, random, shot.pose)
    photo = _developed(photo, shot.style, random_stream(region.seed, _GRAIN, shot.number))
    return (255 * np.clip(photo, 0, 1) + 0.5).astype(np.uint8), float((hidden > 0.5).mean())


def _pose(
    random: np.random.Generator, region: Region, spots: np.ndarray, side_km: float
) -> tuple[Pose, bool]:
    """The first pose of some tries that shows enough land and no ground outside the region; the
    last one otherwise."""
    for attempt in range(_TRIES):
        is_dense = bool(random.random() < 0.8)
        aim = (
            spots[random.integers(len(spots))] + random.normal(0, 0.055 * side_km, 2)
            if is_dense
            else random.uniform(0, side_km, 2)
        )
        tilt, direction = _MOST_TILT_DEG * random.beta(1.2, 2.2), random.uniform(0, 2 * np.pi)
        away = (
            ALTITUDE_KM
            * np.tan(np.radians(tilt))
            * np.array([np.cos(direction), np.sin(direction)])
        )
        aspect = float(random.choice([1.5, 1.5, 1.5, 1 / 1.5, 1.0]))
        pose = Pose(
            tuple(aim - away), tuple(aim), float(tilt), float(random.uniform(0, 360)), 1.0, aspect
        )  # type: ignore[arg-type]
        wanted = np.exp(random.uniform(*np.log(_AREA_KM2)))
        # Area falls with the square of the focal length, nearly: two steps are enough.
        for _ in range(3):
            pose = pose._replace(
                focal=pose.focal * float(np.sqrt(_shoelace(corners_km(pose)) / wanted))
            )
        corners = corners_km(pose)
        if corners.min() < _MARGIN_KM or corners.max() > side_km - _MARGIN_KM:
            continue
        low, high = corners.min(axis=0), corners.max(axis=0)
        km = float((high - low).max() / 24)
        seen = Survey(region, Window(float(low[0]), float(low[1]), km, 24, 24))
        if 1 - seen.water.mean() > _LEAST_LAND or attempt == _TRIES - 1:
            break
    return pose, is_dense


def _shoelace(corners: np.ndarray) -> float:
    x, y = corners.T
    return float(abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2)


def _window(pose: Pose, side_px: int) -> Window:
    """What must be painted for a photo: its footprint, about as fine as the photo is where it is
    finest."""
    corners = corners_km(pose)
    low, high = corners.min(axis=0) - 1, corners.max(axis=0) + 1
    matrix = to_plane(pose, side_px=side_px)
    grid = np.stack(np.meshgrid(*[np.linspace(0, side_px - 1, 5)] * 2), axis=-1).reshape(-1, 2)
    here = project(matrix, grid)
    steps = [
        np.linalg.norm(project(matrix, grid + step) - here, axis=1) for step in ([1, 0], [0, 1])
    ]
    km = max(float(np.min(steps)) * 1.1, float((high - low).max()) / _MOST_PAINTED_PX)
    width, height = (int(np.ceil(extent / km)) for extent in high - low)
    return Window(float(low[0]), float(low[1]), km, width, height)


def _to_pixels(window: Window) -> np.ndarray:
    scale = 1 / window.km_per_px
    return np.array(
        [
            [scale, 0, -window.left_km * scale - 0.5],
            [0, scale, -window.top_km * scale - 0.5],
            [0, 0, 1],
        ]
    )


def _glint(image: np.ndarray, survey: Survey, random: np.random.Generator, pose: Pose) -> None:
    """The sun's image on water, wide and silver, in some of the photos."""
    is_there, aside, size, strength = (
        random.random() < 0.3,
        random.normal(0, 40, 2),
        random.uniform(40, 120),
        random.uniform(0.3, 0.9),
    )
    if not is_there:
        return
    east, south = survey.window.axes()
    x, y = np.array(pose.aim_km) + aside
    bright = np.exp(-((east[None] - x) ** 2 + (south[:, None] - y) ** 2) / (2 * size**2)).astype(
        np.float32
    )
    streaks = 1 + 0.3 * smooth(survey.window, 4.0, seed=survey.region.seed, layer=17)
    image += (strength * bright * streaks * survey.water)[..., None] * (np.float32(0.9) - image)


def _through_air(photo: np.ndarray, random: np.random.Generator, pose: Pose) -> np.ndarray:
    """Haze, more of it on the side that is farther away; then exposure and colour."""
    side = photo.shape[0]
    matrix = to_plane(pose, side_px=side)
    grid = np.stack(np.meshgrid(*[np.linspace(0, side - 1, 9)] * 2), axis=-1).reshape(-1, 2)
    distance = (
        np.linalg.norm(project(matrix, grid) - pose.nadir_km, axis=1)
        .reshape(9, 9)
        .astype(np.float32)
    )
    path = np.sqrt(
        1 + (cv2.resize(distance, (side, side), interpolation=cv2.INTER_LINEAR) / ALTITUDE_KM) ** 2
    )
    thickness = float(random.uniform(0.1, 0.55))
    haze = (1 - np.exp(-thickness * path**2))[..., None]
    air = np.array([0.44, 0.54, 0.72], np.float32) * float(random.uniform(0.6, 1.1))
    lit = photo * (1 - haze) + air * haze
    lit = (
        lit
        * np.float32(np.exp(random.normal(0.0, 0.22)))
        * random.normal(1.0, 0.04, 3).astype(np.float32)
    )
    contrast, grey = float(random.uniform(0.85, 1.35)), float(random.uniform(0.6, 1.1))
    lit = lit.mean() + contrast * (lit - lit.mean())
    return np.asarray(lit.mean(axis=2, keepdims=True) * (1 - grey) + grey * lit, np.float32)


def _developed(photo: np.ndarray, style: str, random: np.random.Generator) -> np.ndarray:
    side = photo.shape[0]
    rows, columns = (axis / side - 0.5 for axis in np.mgrid[:side, :side].astype(np.float32))
    photo = photo * (1 - 0.3 * (rows**2 + columns**2))[..., None]
    if style == "film":
        faded = (
            0.25
            + 0.6 * photo.mean(axis=2, keepdims=True)
            + 0.35 * (photo - photo.mean(axis=2, keepdims=True))
        )
        grain = cv2.GaussianBlur(
            random.normal(0, 1, photo.shape[:2]).astype(np.float32), (0, 0), 0.8
        )
        photo = faded * np.array([1.06, 0.97, 0.92], np.float32) + 0.11 * grain[..., None]
        photo = cv2.GaussianBlur(photo, (0, 0), 0.9)
    elif style == "spacecraft":
        small = cv2.resize(photo.mean(axis=2), (side // 2, side // 2), interpolation=cv2.INTER_AREA)
        small = np.round(small * 48) / 48 + random.normal(0, 0.02, small.shape).astype(np.float32)
        photo = np.repeat(
            cv2.resize(small, (side, side), interpolation=cv2.INTER_LINEAR)[..., None], 3, axis=2
        )
    return photo + random.normal(0, 0.012, photo.shape).astype(np.float32)
