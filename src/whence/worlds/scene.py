"""The city as things that can be drawn: textures from the cache onto the planes that a camera
sees."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from whence.runtime import random_stream
from whence.worlds import ground, sprites
from whence.worlds.facades import FacadeModel, draw_facade, flatten, look_of
from whence.worlds.plan import CityPlan, Lot
from whence.worlds.raster import Outline, PatchInfo, Raster, Texture, TextureCache
from whence.worlds.styles import Look
from whence.worlds.surroundings import (
    draw_party_wall,
    front_columns,
    ground_pieces,
    party_walls,
    place_stands,
)
from whence.worlds.textures import facade_height_m, solid

LABELS = (
    "sky", "road", "sidewalk", "building", "vegetation", "terrain", "pole",
    "sign", "person", "car", "truck", "furniture", "scaffold",
)  # fmt: skip
"""Names of the label values, in order."""
_LABEL = {name: value for value, name in enumerate(LABELS)}
FAR_M = 140.0
DETAIL_M = 22.0
"""Fronts nearer than this are drawn in layers with relief, others as one plane."""
_CHANGES, _SCAFFOLDS = 22, 23
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

    def __init__(
        self,
        plan: CityPlan,
        *,
        px_per_m: float = 32.0,
        cache_bytes: int = 400_000_000,
        is_coarse: bool = False,
    ) -> None:
        self.plan = plan
        self.px_per_m = px_per_m
        self.is_coarse = is_coarse
        """Whether the city is a coarse mesh: fronts are single planes without signs and relief, and
        the streets are empty."""
        self.far_px_per_m = px_per_m if is_coarse else max(6.0, px_per_m * 0.4)
        self.cache = TextureCache(cache_bytes)
        self._changes: dict[tuple[int, int, float], int] = {}
        self.heights_m = np.array([facade_height_m(lot, self.look(lot)) for lot in plan.lots])
        self.fronts = front_columns(plan.lots, self.heights_m)
        self.walls = party_walls(plan.lots, self.heights_m)
        self.ground = ground_pieces(plan)
        self._stands = place_stands(plan)

    def look(self, lot: Lot) -> Look:
        """The architecture of a lot."""
        return look_of(lot.look, self.plan.options.is_test_city)

    def change_of(self, lot: int, epoch: Epoch) -> int:
        """How often a lot's shops have been renewed by that epoch."""
        if not epoch.change:
            return 0
        key = (lot, epoch.change, epoch.changed_share)
        if key not in self._changes:
            draws = random_stream(self.plan.seed, _CHANGES, lot).random(epoch.change)
            self._changes[key] = int((draws < epoch.changed_share).sum())
        return self._changes[key]

    def load_front(self, lot: int, epoch: Epoch) -> LoadedFront:
        """The textures of a front, drawn or from the cache."""
        change = self.change_of(lot, epoch)
        return self.cache.get(
            ("front", lot, change), lambda: self._make_front(lot, change), _front_bytes
        )

    def load_far_front(self, lot: int, epoch: Epoch) -> Texture:
        """A front in one plane at the resolution that views from beyond `DETAIL_M` need."""
        change = self.change_of(lot, epoch)

        def make() -> Texture:
            model = draw_facade(
                self.plan.lots[lot],
                is_test_city=self.plan.options.is_test_city,
                change=change,
                px_per_m=self.far_px_per_m,
            )
            if self.is_coarse:
                model = model._replace(reliefs=())
            return Texture(flatten(model, px_per_m=self.far_px_per_m))

        return self.cache.get(("far", lot, change), make, lambda texture: texture.base.nbytes)

    def _make_front(self, lot: int, change: int) -> LoadedFront:
        model = draw_facade(
            self.plan.lots[lot],
            is_test_city=self.plan.options.is_test_city,
            change=change,
            px_per_m=self.px_per_m,
        )
        return _loaded(model)

    def texture(self, key: tuple) -> Texture:
        """A shared texture by key."""
        held = self.cache.find(key)
        if held is not None:
            return held
        return self.cache.get(
            key, lambda: Texture(self._make_texture(key)), lambda texture: texture.base.nbytes
        )

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
            return draw_party_wall(rest[0])
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
            origin, across, down = (
                np.concatenate([planes[k] for planes in movers]) for k in range(3)
            )
            self._draw_planes(raster, Planes(origin, across, down, drawables))
        if not self.is_coarse:
            self._draw_stands(raster, epoch)
        self._draw_fronts(raster, epoch)
        self._draw_ground(raster)

    def _draw_planes(self, raster: Raster, planes: Planes) -> None:
        """Draw planes that have one front side, nearest first; those that lie on the ground
        last."""
        inverse, corners = raster.project(planes.origin, planes.across, planes.down)
        seen = np.flatnonzero(raster.visible(corners) & raster.faces(corners))
        order = seen[np.argsort(corners[seen][..., 2].min(axis=1), kind="stable")]
        outlines = raster.outlines(corners[order])
        for is_ground in (False, True):
            for k, outline in zip(order.tolist(), outlines, strict=True):
                drawable = planes.drawables[k]
                if drawable.is_ground == is_ground and outline is not None:
                    raster.draw(
                        inverse[k],
                        outline,
                        self.texture(drawable.texture_key),
                        drawable.info,
                        is_ground=is_ground,
                    )

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
        origin = (
            np.concatenate([stands.place[near], height[:, None]], axis=1)
            - right * (width / 2)[:, None]
        )
        drawables = tuple(
            _stand_drawable(str(stands.kind[k]), int(stands.variant[k]), epoch.season) for k in near
        )
        self._draw_planes(
            raster,
            Planes(
                origin, right * width[:, None], np.stack([zero, zero, -height], axis=1), drawables
            ),
        )

    def _draw_fronts(self, raster: Raster, epoch: Epoch) -> None:
        fronts, centre = self.fronts, raster.camera.centre
        gap = fronts.middle - centre[:2]
        near = np.flatnonzero(
            ((gap**2).sum(axis=1) < FAR_M**2)
            & (((centre[:2] - fronts.origin[:, :2]) * fronts.outward[:, :2]).sum(axis=1) > 0.05)
        )
        inverse, corners = raster.project(
            fronts.origin[near], fronts.across[near], fronts.down[near]
        )
        seen = np.flatnonzero(raster.visible(corners))
        walls = self.walls
        around = np.flatnonzero(((walls.origin[:, :2] - centre[:2]) ** 2).sum(axis=1) < FAR_M**2)
        wall_inverse, wall_corners = raster.project(
            walls.origin[around], walls.across[around], walls.down[around]
        )
        wall_seen = np.flatnonzero(raster.visible(wall_corners))
        all_corners = np.concatenate([corners[seen], wall_corners[wall_seen]])
        matrices = np.concatenate([inverse[seen], wall_inverse[wall_seen]])
        # Fronts by lot; side walls, which follow them, below zero.
        numbers = [*near[seen].tolist(), *(-1 - around[wall_seen]).tolist()]
        outlines, nearest_m = raster.outlines(all_corners), all_corners[..., 2].min(axis=1)
        for k in np.argsort(nearest_m, kind="stable").tolist():
            lot, matrix, outline, nearest = numbers[k], matrices[k], outlines[k], nearest_m[k]
            if outline is None:
                continue
            if lot < 0:
                self._draw_wall(raster, matrix, outline, -1 - lot)
            elif nearest > DETAIL_M or self.is_coarse:
                if raster.covers(matrix, outline):
                    info = PatchInfo(_LABEL["building"], tuple(fronts.outward[lot]), lot)  # type: ignore[arg-type]
                    raster.draw(matrix, outline, self.load_far_front(lot, epoch), info)
            elif raster.covers(matrix, outline):
                self._draw_front(raster, lot, epoch, matrix, outline)

    def _draw_wall(self, raster: Raster, matrix: np.ndarray, outline: Outline, wall: int) -> None:
        info = PatchInfo(_LABEL["building"], tuple(self.walls.outward[wall]))  # type: ignore[arg-type]
        raster.draw(matrix, outline, self.texture(("party", wall % 7)), info)

    def _draw_front(
        self, raster: Raster, lot: int, epoch: Epoch, matrix: np.ndarray, outline: Outline
    ) -> None:
        """A near front: scaffold, relief, wall with holes, what lies behind."""
        front = self.load_front(lot, epoch)
        fronts = self.fronts
        outward = fronts.outward[lot]
        right = fronts.across[lot] / self.plan.lots[lot].width_m
        axes = np.stack([right, -_UP, outward])
        info = PatchInfo(_LABEL["building"], tuple(outward), lot)  # type: ignore[arg-type]
        if (
            epoch.scaffold_share
            and random_stream(self.plan.seed, _SCAFFOLDS, lot, epoch.change).random()
            < epoch.scaffold_share
        ):
            self._draw_scaffold(raster, lot, outward)
        if len(front.textures):
            inverse, corners = raster.project(
                fronts.origin[lot] + front.origins @ axes, front.across @ axes, front.down @ axes
            )
            seen = np.flatnonzero(
                raster.visible(corners) & (front.two_sided | raster.faces(corners))
            )
            for k, piece in zip(seen.tolist(), raster.outlines(corners[seen]), strict=True):
                if piece is not None:
                    raster.draw(
                        inverse[k],
                        piece,
                        front.textures[k],
                        PatchInfo(front.labels[k], info.normal, lot),
                    )
        raster.draw(matrix, outline, front.wall, info)
        back, corners = raster.project(
            (fronts.origin[lot] - outward * front.recess_m)[None],
            fronts.across[lot][None],
            fronts.down[lot][None],
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
        self._draw_planes(
            raster,
            Planes(origin[None], fronts.across[lot][None], fronts.down[lot][None], (drawable,)),
        )

    def _draw_ground(self, raster: Raster) -> None:
        pieces, centre = self.ground, raster.camera.centre
        near = np.flatnonzero(((pieces.middle - centre[:2]) ** 2).sum(axis=1) < FAR_M**2)
        inverse, corners = raster.project(
            pieces.origin[near], pieces.across[near], pieces.down[near]
        )
        seen = np.flatnonzero(raster.visible(corners))
        for k, outline in zip(seen.tolist(), raster.outlines(corners[seen]), strict=True):
            if outline is not None:
                key = pieces.keys[near[k]]
                raster.draw(
                    inverse[k], outline, self.texture(key), _ground_info(key), is_ground=True
                )
        raster.fill_ground(
            (128, 126, 122), PatchInfo(_LABEL["sidewalk"], (0.0, 0.0, 1.0)), far_m=900.0
        )


def _ground_info(key: tuple) -> PatchInfo:
    """Label and pavements of a ground piece."""
    up = (0.0, 0.0, 1.0)
    if key[0] == "street":
        return PatchInfo(
            _LABEL["road"], up, pavement_share=ground.pavement_m(key[1]) / (2 * key[1])
        )
    return PatchInfo(
        _LABEL[{"grass": "terrain", "paving": "sidewalk", "asphalt": "road"}[key[1]]], up
    )


def _stand_drawable(kind: str, variant: int, season: str) -> Drawable:
    if kind == "tree":
        return Drawable(("tree", variant, season), PatchInfo(_LABEL["vegetation"], (0.0, 0.0, 0.0)))
    return Drawable(
        (kind,), PatchInfo(_LABEL["pole" if kind == "lamp" else "furniture"], (0.0, 0.0, 0.0))
    )


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
