"""What moves or parks: vehicles as a few planes, pedestrians as upright ones. Different in every
photo."""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise

import numpy as np

from whence.worlds import sprites
from whence.worlds.ground import pavement_m
from whence.worlds.plan import Street
from whence.worlds.raster import PatchInfo
from whence.worlds.scene import LABELS, Drawable, Planes

_NONE = (0.0, 0.0, 0.0)
_PERSON, _CAR, _TRUCK, _ROAD = (LABELS.index(name) for name in ("person", "car", "truck", "road"))


def street_life(
    random: np.random.Generator,
    street: Street,
    camera_centre: np.ndarray,
    *,
    density: float,
    crowd: float,
) -> list[Planes]:
    """Parked and driving vehicles and pedestrians within 60 m along the camera's street. Densities
    around 1 are a usual day."""
    planes: list[Planes] = []
    along, right = street.direction, np.array([street.direction[1], -street.direction[0]])
    offset = camera_centre[:2] - street.start
    here, aside = float(offset @ along), float(offset @ right)
    kerb = street.half_width_m - pavement_m(street.half_width_m)
    lanes = [(-(kerb - 1.1), -1, 0.28), (kerb - 1.1, 1, 0.28)]
    if kerb > 4.5:
        lanes += [(-(kerb - 1.1) + 3.2, -1, 0.07), ((kerb - 1.1) - 3.2, 1, 0.07)]
    for lateral, sense, share in lanes:
        at = here - 45 + float(random.uniform(0, 6))
        while at < here + 60:
            at += float(random.uniform(5.8, 8.0))
            if random.random() < share * density and np.hypot(at - here, lateral - aside) > 4.2:
                place = street.start + along * at + right * lateral
                planes.append(vehicle(int(random.integers(sprites.NUM_CARS)), place, along * sense))
    walk = street.half_width_m - pavement_m(street.half_width_m) / 2
    for _ in range(int(random.poisson(5 * crowd))):
        at = here + float(random.uniform(-30, 40))
        lateral = float(random.choice([-1, 1])) * walk + float(random.uniform(-0.8, 0.8))
        if np.hypot(at - here, lateral - aside) > 2.0:
            planes.append(
                pedestrian(
                    int(random.integers(sprites.NUM_PEOPLE)),
                    street.start + along * at + right * lateral,
                    camera_centre,
                )
            )
    return planes


def in_the_way(
    random: np.random.Generator, camera_centre: np.ndarray, forward: np.ndarray
) -> list[Planes]:
    """Vehicles and people close before the camera, which hide a good part of the view."""
    ahead = forward[:2] / max(1e-6, float(np.hypot(*forward[:2])))
    right = np.array([ahead[1], -ahead[0]])
    planes: list[Planes] = []
    for _ in range(int(random.integers(1, 3))):
        place = (
            camera_centre[:2] + ahead * random.uniform(4.2, 7.0) + right * random.uniform(-3.5, 3.5)
        )
        number = int(random.integers(3)) * 4 + 3
        planes.append(vehicle(number, place, right * float(random.choice([-1, 1]))))
    for _ in range(int(random.integers(1, 4))):
        place = (
            camera_centre[:2] + ahead * random.uniform(1.6, 3.5) + right * random.uniform(-1.4, 1.4)
        )
        planes.append(pedestrian(int(random.integers(sprites.NUM_PEOPLE)), place, camera_centre))
    return planes


def pedestrian(number: int, place: np.ndarray, camera_centre: np.ndarray) -> Planes:
    """A person standing at a place, turned to the camera."""
    to = place - camera_centre[:2]
    to = to / max(1e-6, float(np.hypot(*to)))
    right = np.array([to[1], -to[0], 0.0])
    tall = 1.62 + 0.03 * (number % 9)
    origin = np.array([*place, tall]) - right * 0.45
    drawable = Drawable(("person", number), PatchInfo(_PERSON, _NONE))
    return Planes(origin[None], right[None] * 0.9, np.array([[0, 0, -tall]]), (drawable,))


def vehicle(number: int, place: np.ndarray, heading: np.ndarray) -> Planes:
    """The planes of a vehicle at a place, its front towards `heading` (2,)."""
    origin, across, down, kinds, normals = _vehicle_model(number)
    axes = np.array([[heading[0], heading[1], 0.0], [heading[1], -heading[0], 0.0], [0, 0, 1.0]])
    label = _TRUCK if sprites.car_kind(number) else _CAR
    turned = (normals @ axes).tolist()
    drawables = tuple(
        Drawable(key, PatchInfo(_ROAD if is_ground else label, tuple(normal)), is_ground)
        for (key, is_ground), normal in zip(kinds, turned, strict=True)
    )
    return Planes(origin @ axes + (place[0], place[1], 0.0), across @ axes, down @ axes, drawables)


@lru_cache(maxsize=64)
def _vehicle_model(
    number: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, tuple[tuple[tuple, bool], ...], np.ndarray]:
    """Upper left corners, edges, textures and normals of a vehicle's planes in its own frame:
    ahead, right, up from its middle."""
    kind = sprites.car_kind(number)
    length, height, width = (
        sprites.CarSize.LENGTH_M[kind],
        sprites.CarSize.HEIGHT_M[kind],
        sprites.CarSize.WIDTH_M[kind],
    )
    x, y = length / 2, width / 2
    # Seen from its right a vehicle's front is at the right; from its left, at the left.
    rows: list[tuple] = [
        (
            (-x, y, height),
            (length, 0, 0),
            (0, 0, -height),
            (("car_side", number), False),
            (0, 1, 0),
        ),
        (
            (x, -y, height),
            (-length, 0, 0),
            (0, 0, -height),
            (("car_mirrored", number), False),
            (0, -1, 0),
        ),
    ]
    for is_front, sense in ((True, 1), (False, -1)):
        tall = sprites.car_end_height_m(number, is_front)
        rows.append(
            (
                (sense * x, sense * y, tall + 0.12 * height),
                (0, -sense * width, 0),
                (0, 0, -tall),
                (("car_end", number, is_front), False),
                (sense, 0, 0),
            )
        )
    rows += _upper(number, length, height, width)
    rows.append(
        (
            (x, -0.55 * width, 0),
            (0, 1.1 * width, 0),
            (-length, 0, 0),
            (("plain", (44, 44, 46)), True),
            (0, 0, 1),
        )
    )
    columns = [np.array([row[k] for row in rows], float) for k in (0, 1, 2, 4)]
    return columns[0], columns[1], columns[2], tuple(row[3] for row in rows), columns[3]


def _upper(number: int, length: float, height: float, width: float) -> list[tuple]:
    """The planes between the two outlines, seen from above: bonnet, screens, roof."""
    outline = sprites.car_profile(number)
    rows = []
    for (x0, z0), (x1, z1) in pairwise(outline[1:-1]):
        run, rise = (x1 - x0) * length, (z1 - z0) * height
        is_glass = abs(rise) > 0.25 and run > 0.2 and (x1 > 0.5 or not sprites.car_kind(number))
        if run < 0.02:
            continue
        normal = np.array([-rise, 0.0, run]) / np.hypot(run, rise)
        origin = ((x1 - 0.5) * length, -width / 2, z1 * height)
        colour = (44, 52, 60) if is_glass else sprites.car_colour(number)
        rows.append(
            (origin, (0, width, 0), (-run, 0, -rise), (("plain", colour), False), tuple(normal))
        )
    return rows
