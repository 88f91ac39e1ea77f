"""The city as things that can be drawn: building fronts with their relief, side walls, ground pieces, trees, lamps, vehicles, people."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from whence.runtime import random_stream
from whence.worlds import ground, sprites
from whence.worlds.facades import FacadeModel, draw_facade, facade_height_m, flatten, look_of, solid
from whence.worlds.plan import AVENUE, BOULEVARD, PARK, SQUARE, CityPlan, Lot
from whence.worlds.raster import PatchInfo, Raster, Texture, TextureCache

LABELS = (
    "sky", "road", "sidewalk", "building", "vegetation", "terrain", "pole", "sign", "person", "car", "truck", "furniture", "scaffold",
)  # fmt: skip
"""Names of the label values, in order."""
_LABEL = {name: value for value, name in enumerate(LABELS)}
PARTY_WALL_M = 10.0
FAR_M = 140.0
DETAIL_M = 30.0
"""Fronts nearer than this are drawn in layers with relief, others as one plane."""
_TREES, _CHANGES, _SCAFFOLDS = 21, 22, 23
_UP = np.array([0.0, 0.0, 1.0])


class Drawable(NamedTuple):
    """Something with one plane, ready to be drawn."""

    texture_key: tuple
    info: PatchInfo
    is_ground: bool = False


class Planes(NamedTuple):
    """Planes with one front side each: upper left corners, right and down edges (P, 3)."""

    origin: np.ndarray
    across: np.ndarray
    down: np.ndarray
    drawables: tuple[Drawable, ...]


@dataclass(frozen=True)
class Epoch:
    """What of the city differs between capture runs, beside the weather."""

    change: int = 0
    """How many times the shops and paint of the changing share of fronts were renewed."""
    changed_share: float = 0.25
    season: str = "summer"
    scaffold_share: float = 0.0


class _Fronts(NamedTuple):
    """Columns of the lots: upper left corners, edge vectors, outward normals; middles for the search."""

    origin: np.ndarray
    across: np.ndarray
    down: np.ndarray
    outward: np.ndarray
    middle: np.ndarray


class LoadedFront(NamedTuple):
    """The textures and relief planes of a lot, as columns in facade coordinates."""

    wall: Texture
    behind: Texture
    recess_m: float
    origins: np.ndarray
    across: np.ndarray
    down: np.ndarray
    textures: tuple[Texture, ...]
    labels: tuple[int, ...]
    two_sided: np.ndarray


class Scene:
    """A city's drawable things. Not shared between threads: the texture cache is its own."""

    def __init__(self, plan: CityPlan, *, px_per_m: float = 32.0, cache_bytes: int = 400_000_000) -> None:
        self.plan = plan
        self.px_per_m = px_per_m
        self.far_px_per_m = max(6.0, px_per_m * 0.4)
        self.cache = TextureCache(cache_bytes)
        self.heights_m = np.array([facade_height_m(lot, self.look(lot)) for lot in plan.lots])
        self.fronts = _front_columns(plan.lots, self.heights_m)
        self._walls = _party_walls(plan.lots, self.heights_m)
        self._ground = _ground_pieces(plan)
        self._stands = _stands(plan)

    def look(self, lot: Lot):  # type: ignore[no-untyped-def]
        return look_of(lot.look, self.plan.options.is_test_city)

    def change_of(self, lot: int, epoch: Epoch) -> int:
        """How often a lot's shops have been renewed by that epoch."""
        draws = random_stream(self.plan.seed, _CHANGES, lot).random(epoch.change) if epoch.change else ()
        return int(sum(draw < epoch.changed_share for draw in draws))

    def load_front(self, lot: int, epoch: Epoch) -> LoadedFront:
        """The textures of a front, drawn or from the cache."""
        change = self.change_of(lot, epoch)
        return self.cache.get(("front", lot, change), lambda: self._make_front(lot, change), _front_bytes)

    def load_far_front(self, lot: int, epoch: Epoch) -> Texture:
        """A front in one plane at the resolution that views from beyond `DETAIL_M` need."""
        change = self.change_of(lot, epoch)

        def make() -> Texture:
            model = draw_facade(
                self.plan.lots[lot], is_test_city=self.plan.options.is_test_city, change=change, px_per_m=self.far_px_per_m
            )
            return Texture(flatten(model, px_per_m=self.far_px_per_m))

        return self.cache.get(("far", lot, change), make, lambda texture: texture.base.nbytes)

    def _make_front(self, lot: int, change: int) -> LoadedFront:
        model = draw_facade(self.plan.lots[lot], is_test_city=self.plan.options.is_test_city, change=change, px_per_m=self.px_per_m)
        return _loaded(model)

    def texture(self, key: tuple) -> Texture:
        """A shared texture by key."""
        return self.cache.get(key, lambda: Texture(self._make_texture(key)), lambda texture: texture.base.nbytes)

    def _make_texture(self, key: tuple) -> np.ndarray:
        kind, *rest = key
        sprite_px = self.px_per_m * 0.75
        if kind == "street":
            return ground.draw_street(rest[0], rest[1], rest[2], 24.0)
        if kind == "ground":
            return ground.draw_ground(rest[0], 16.0)
        if kind == "plain":
            return solid(4, 4, rest[0])
        if kind == "party":
            return _party_texture(rest[0])
        if kind == "tree":
            return sprites.draw_tree(rest[0], rest[1], sprite_px)
        if kind == "person":
            return sprites.draw_person(rest[0], self.px_per_m)
        if kind == "lamp":
            return sprites.draw_lamp(sprite_px)
        if kind == "bench":
            return sprites.draw_bench(self.px_per_m)
        if kind == "car_side":
            return sprites.draw_car_side(rest[0], self.px_per_m)
        if kind == "car_mirrored":
            return sprites.draw_car_side(rest[0], self.px_per_m)[:, ::-1]
        if kind == "car_end":
            return sprites.draw_car_end(rest[0], rest[1], self.px_per_m)
        assert kind == "scaffold", kind
        return sprites.draw_scaffold(rest[0], rest[1], rest[2], self.px_per_m)

    def draw(self, raster: Raster, epoch: Epoch, movers: list[Planes]) -> None:
        """Draw everything that stands or lies near the camera: nearest first, then the ground."""
        if movers:
            drawables = tuple(drawable for planes in movers for drawable in planes.drawables)
            columns = [np.concatenate([planes[k] for planes in movers]) for k in range(3)]
            self._draw_planes(raster, Planes(*columns, drawables))
        self._draw_stands(raster, epoch)
        self._draw_fronts(raster, epoch)
        self._draw_ground(raster)

    def _draw_planes(self, raster: Raster, planes: Planes) -> None:
        """Draw planes that have one front side, nearest first; those that lie on the ground last."""
        inverse, corners = raster.project(planes.origin, planes.across, planes.down)
        seen = np.flatnonzero(raster.visible(corners) & raster.faces(corners))
        order = seen[np.argsort(corners[seen][..., 2].min(axis=1), kind="stable")]
        for is_ground in (False, True):
            for k in order:
                drawable = planes.drawables[k]
                if drawable.is_ground == is_ground:
                    polygon = raster.outline(corners[k])
                    if polygon is not None:
                        raster.draw(inverse[k], polygon, self.texture(drawable.texture_key), drawable.info, is_ground=is_ground)

    def _draw_stands(self, raster: Raster, epoch: Epoch) -> None:
        """Trees, lamps and benches: upright planes turned to the camera."""
        stands = self._stands
        centre = raster.camera.centre
        gap = stands.place - centre[:2]
        distance = np.hypot(gap[:, 0], gap[:, 1])
        ahead = gap @ raster.camera.rotation[2, :2]
        near = np.flatnonzero((distance < 90) & (ahead > 0) & (distance > 1.2))
        if not len(near):
            return
        to = gap[near] / distance[near, None]
        width, height = stands.size[near].T
        zero = np.zeros(len(near))
        right = np.stack([to[:, 1], -to[:, 0], zero], axis=1)
        origin = np.concatenate([stands.place[near], height[:, None]], axis=1) - right * (width / 2)[:, None]
        drawables = tuple(_stand_drawable(str(stands.kind[k]), int(stands.variant[k]), epoch.season) for k in near)
        self._draw_planes(raster, Planes(origin, right * width[:, None], np.stack([zero, zero, -height], axis=1), drawables))

    def _draw_fronts(self, raster: Raster, epoch: Epoch) -> None:
        fronts, centre = self.fronts, raster.camera.centre
        gap = fronts.middle - centre[:2]
        near = np.flatnonzero(
            ((gap**2).sum(axis=1) < FAR_M**2) & (((centre[:2] - fronts.origin[:, :2]) * fronts.outward[:, :2]).sum(axis=1) > 0.05)
        )
        inverse, corners = raster.project(fronts.origin[near], fronts.across[near], fronts.down[near])
        seen = raster.visible(corners)
        jobs = [(float(corners[k, :, 2].min()), int(near[k]), inverse[k], corners[k], -1) for k in np.flatnonzero(seen)]
        walls = self._walls
        around = np.flatnonzero(((walls.origin[:, :2] - centre[:2]) ** 2).sum(axis=1) < FAR_M**2)
        wall_inverse, wall_corners = raster.project(walls.origin[around], walls.across[around], walls.down[around])
        for k in np.flatnonzero(raster.visible(wall_corners)):
            jobs.append((float(wall_corners[k, :, 2].min()), -1, wall_inverse[k], wall_corners[k], int(around[k])))
        for nearest, lot, matrix, corner, wall in sorted(jobs, key=lambda job: job[0]):
            polygon = raster.outline(corner)
            if polygon is None:
                continue
            if lot < 0:
                self._draw_wall(raster, matrix, polygon, wall)
            elif nearest > DETAIL_M:
                if raster.covers(matrix, polygon):
                    info = PatchInfo(_LABEL["building"], tuple(fronts.outward[lot]), lot)  # type: ignore[arg-type]
                    raster.draw(matrix, polygon, self.load_far_front(lot, epoch), info)
            elif raster.covers(matrix, polygon):
                self._draw_front(raster, lot, epoch, matrix, polygon)

    def _draw_wall(self, raster: Raster, matrix: np.ndarray, polygon: np.ndarray, wall: int) -> None:
        info = PatchInfo(_LABEL["building"], tuple(self._walls.outward[wall]))  # type: ignore[arg-type]
        raster.draw(matrix, polygon, self.texture(("party", wall % 7)), info)

    def _draw_front(self, raster: Raster, lot: int, epoch: Epoch, matrix: np.ndarray, polygon: np.ndarray) -> None:
        """A near front: scaffold, relief, wall with holes, what lies behind."""
        front = self.load_front(lot, epoch)
        fronts = self.fronts
        outward = fronts.outward[lot]
        right = fronts.across[lot] / self.plan.lots[lot].width_m
        axes = np.stack([right, -_UP, outward])
        info = PatchInfo(_LABEL["building"], tuple(outward), lot)  # type: ignore[arg-type]
        if epoch.scaffold_share and random_stream(self.plan.seed, _SCAFFOLDS, lot, epoch.change).random() < epoch.scaffold_share:
            self._draw_scaffold(raster, lot, outward)
        if len(front.textures):
            inverse, corners = raster.project(fronts.origin[lot] + front.origins @ axes, front.across @ axes, front.down @ axes)
            for k in np.flatnonzero(raster.visible(corners) & (front.two_sided | raster.faces(corners))):
                piece = raster.outline(corners[k])
                if piece is not None:
                    raster.draw(inverse[k], piece, front.textures[k], PatchInfo(front.labels[k], info.normal, lot))
        raster.draw(matrix, polygon, front.wall, info)
        back, corners = raster.project(
            (fronts.origin[lot] - outward * front.recess_m)[None], fronts.across[lot][None], fronts.down[lot][None]
        )
        piece = raster.outline(corners[0])
        if piece is not None:
            raster.draw(back[0], piece, front.behind, info)

    def _draw_scaffold(self, raster: Raster, lot: int, outward: np.ndarray) -> None:
        width, height = self.plan.lots[lot].width_m, float(self.heights_m[lot])
        key = ("scaffold", round(width, 1), round(height, 1), lot % 11)
        fronts = self.fronts
        drawable = Drawable(key, PatchInfo(_LABEL["scaffold"], tuple(outward), lot))  # type: ignore[arg-type]
        origin = fronts.origin[lot] + outward * 1.3
        self._draw_planes(raster, Planes(origin[None], fronts.across[lot][None], fronts.down[lot][None], (drawable,)))

    def _draw_ground(self, raster: Raster) -> None:
        pieces, centre = self._ground, raster.camera.centre
        near = np.flatnonzero(((pieces.middle - centre[:2]) ** 2).sum(axis=1) < FAR_M**2)
        inverse, corners = raster.project(pieces.origin[near], pieces.across[near], pieces.down[near])
        for k in np.flatnonzero(raster.visible(corners)):
            polygon = raster.outline(corners[k])
            if polygon is not None:
                key = pieces.keys[near[k]]
                label = _LABEL["terrain"] if key[1] == "grass" else _LABEL["sidewalk"] if key[1] == "paving" else _LABEL["road"]
                raster.draw(inverse[k], polygon, self.texture(key), PatchInfo(label, (0.0, 0.0, 1.0)), is_ground=True)
        raster.fill_ground((128, 126, 122), PatchInfo(_LABEL["sidewalk"], (0.0, 0.0, 1.0)), far_m=900.0)


def _stand_drawable(kind: str, variant: int, season: str) -> Drawable:
    if kind == "tree":
        return Drawable(("tree", variant, season), PatchInfo(_LABEL["vegetation"], (0.0, 0.0, 0.0)))
    return Drawable((kind,), PatchInfo(_LABEL["pole" if kind == "lamp" else "furniture"], (0.0, 0.0, 0.0)))


class _Ground(NamedTuple):
    origin: np.ndarray
    across: np.ndarray
    down: np.ndarray
    middle: np.ndarray
    keys: list[tuple]


class _Stands(NamedTuple):
    place: np.ndarray
    size: np.ndarray
    kind: np.ndarray
    variant: np.ndarray


def _front_bytes(front: LoadedFront) -> int:
    textures = {id(texture): texture for texture in (front.wall, front.behind, *front.textures)}
    return sum(texture.base.nbytes for texture in textures.values())


def _loaded(model: FacadeModel) -> LoadedFront:
    reliefs = model.reliefs
    shared = {id(relief.texture): Texture(relief.texture) for relief in reliefs}
    return LoadedFront(
        wall=Texture(model.wall),
        behind=Texture(model.behind),
        recess_m=model.recess_m,
        origins=np.array([relief.origin for relief in reliefs]).reshape(-1, 3),
        across=np.array([relief.across for relief in reliefs], float).reshape(-1, 3),
        down=np.array([relief.down for relief in reliefs], float).reshape(-1, 3),
        textures=tuple(shared[id(relief.texture)] for relief in reliefs),
        labels=tuple(_LABEL[relief.kind] for relief in reliefs),
        two_sided=np.array([relief.is_two_sided for relief in reliefs], bool),
    )


def _front_columns(lots: tuple[Lot, ...], heights: np.ndarray) -> _Fronts:
    along = np.array([[*lot.along, 0.0] for lot in lots]).reshape(-1, 3)
    foot = np.array([[*lot.origin, 0.0] for lot in lots]).reshape(-1, 3)
    width = np.array([lot.width_m for lot in lots])
    across = along * width[:, None]
    down = np.stack([np.zeros_like(heights), np.zeros_like(heights), -heights], axis=1)
    outward = np.stack([along[:, 1], -along[:, 0], np.zeros(len(lots))], axis=1)
    return _Fronts(foot - down, across, down, outward, (foot + across / 2)[:, :2])


def _party_walls(lots: tuple[Lot, ...], heights: np.ndarray) -> _Fronts:
    """Side walls of buildings that rise over their neighbour or stand at a gap."""
    origin, across, down, outward = [], [], [], []
    for k in range(len(lots)):
        lot, other = lots[k], lots[(k + 1) % len(lots)]
        end = lot.origin + lot.along * lot.width_m
        is_row = other.block == lot.block and np.hypot(*(end - other.origin)) < 0.1
        for tall, low in ((heights[k], heights[(k + 1) % len(lots)]),):
            if not is_row or abs(tall - low) < 0.8 or np.dot(lot.along, other.along) < 0.99:
                continue
            inward = -np.array([*lot.outward, 0.0])
            top, bottom = max(tall, low), min(tall, low)
            sign = 1.0 if tall > low else -1.0
            start = np.array([*end, top]) + (inward * PARTY_WALL_M if sign < 0 else 0)
            origin.append(start)
            across.append(inward * PARTY_WALL_M * sign)
            down.append([0, 0, bottom - top])
            outward.append([*(lot.along * sign), 0.0])
    shape = (-1, 3)
    columns = [np.array(values, float).reshape(shape) for values in (origin, across, down, outward)]
    return _Fronts(*columns, columns[0][:, :2])


def _party_texture(number: int) -> np.ndarray:
    texture = solid(
        96,
        200,
        ((150, 140, 128), (134, 118, 106), (168, 164, 156), (120, 84, 72), (142, 142, 144), (178, 164, 140), (110, 104, 100))[
            number
        ],
    )
    shade = 1 + 0.06 * ground.noise_patch(96, 200, number * 31)
    texture[..., :3] = np.clip(texture[..., :3] * shade[..., None], 0, 255).astype(np.uint8)
    return texture


def _ground_pieces(plan: CityPlan) -> _Ground:
    rows: list[tuple[np.ndarray, np.ndarray, np.ndarray, tuple]] = []
    for number, street in enumerate(plan.streets):
        along = np.array([*street.direction, 0.0])
        left = np.array([-along[1], along[0], 0.0])
        half = round(street.half_width_m * 2) / 2
        count = max(1, round(street.length_m / ground.PIECE_M))
        length = street.length_m / count
        start = np.array([*street.start, 0.0])
        for k in range(count):
            variant = 0 if k in (1, count - 2) and count > 3 else 1 + (number * 7 + k * 3) % 4
            # Rows of the texture run back along the street, columns to its right.
            origin = start + along * length * (k + 1) + left * street.half_width_m
            rows.append((origin, -left * 2 * street.half_width_m, -along * length, ("street", half, street.kind, variant)))
    first = []
    for centre, half, direction in plan.nodes:
        along = np.array([*direction, 0.0])
        left = np.array([-along[1], along[0], 0.0])
        walk = half - ground.pavement_m(half)
        first.append((np.array([*centre, 0.0]) + (along + left) * walk, -left * 2 * walk, -along * 2 * walk, ("ground", "asphalt")))
    for block in plan.blocks:
        if block.use in (PARK, SQUARE):
            rows += _tiles(block.corners, ("ground", "grass" if block.use == PARK else "paving"))
    rows = first + rows
    columns = [np.stack([row[k] for row in rows]) for k in range(3)]  # type: ignore[misc]
    return _Ground(*columns, (columns[0] + (columns[1] + columns[2]) / 2)[:, :2], [row[3] for row in rows])


def _tiles(corners: np.ndarray, key: tuple) -> list[tuple[np.ndarray, np.ndarray, np.ndarray, tuple]]:
    """Parallelograms of about 24 m that cover a block; what lies beyond its edge is covered by the streets, drawn before."""
    low, high = corners.min(axis=0), corners.max(axis=0)
    found = []
    for x in np.arange(low[0], high[0], 24.0):
        for y in np.arange(low[1], high[1], 24.0):
            found.append((np.array([x, y + 24.0, 0.0]), np.array([24.0, 0, 0]), np.array([0, -24.0, 0]), key))
    return found


def _stands(plan: CityPlan) -> _Stands:
    """Trees and lamps along the streets, trees and benches in parks and squares."""
    random = random_stream(plan.seed, _TREES)
    rows: list[tuple[np.ndarray, tuple[float, float], str, int]] = []
    for street in plan.streets:
        has_trees = street.kind in (AVENUE, BOULEVARD) or random.random() < 0.25
        right = np.array([street.direction[1], -street.direction[0]])
        offset = street.half_width_m - ground.pavement_m(street.half_width_m) + 0.6
        spacing = float(random.uniform(9, 16))
        for k, along in enumerate(np.arange(14.0, street.length_m - 14, spacing)):
            for side in (-1, 1):
                place = street.start + street.direction * (along + random.uniform(-1, 1)) + right * side * offset
                if has_trees and random.random() < 0.8:
                    scale = float(random.uniform(0.6, 1.1))
                    rows.append((place, (6 * scale, 8 * scale), "tree", int(random.integers(sprites.NUM_TREES))))
                elif k % 2 == (side > 0):
                    rows.append((place, (1.2, 6.0), "lamp", 0))
    for block in plan.blocks:
        if block.use in (PARK, SQUARE):
            centre = block.corners.mean(axis=0)
            for _ in range(22 if block.use == PARK else 8):
                weights = random.dirichlet(np.ones(len(block.corners)) * 0.9)
                place = (block.corners * weights[:, None]).sum(axis=0) * 0.9 + centre * 0.1
                scale = float(random.uniform(0.7, 1.3))
                is_bench = random.random() < 0.25
                rows.append(
                    (place, (1.8, 0.9), "bench", 0)
                    if is_bench
                    else (place, (6 * scale, 8 * scale), "tree", int(random.integers(8)))
                )
    if not rows:
        rows.append((np.array([1e9, 1e9]), (1.0, 1.0), "bench", 0))
    return _Stands(
        np.array([row[0] for row in rows]),
        np.array([row[1] for row in rows]),
        np.array([row[2] for row in rows]),
        np.array([row[3] for row in rows]),
    )
