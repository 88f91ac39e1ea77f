"""The raster: planar patches into a depth buffer, perspective-correct, textures read from the mip
level that fits.

Patches are drawn roughly from near to far, so that hidden ones are found before their texture is
read.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple

import cv2
import numpy as np

from whence.worlds.camera import Camera

NEAR_M = 0.25
_HOLE = 60
_MAX_LEVEL = 6


class Texture:
    """A texture (h, w, 4) and its reduced versions, made when first needed; columns and rows are
    reduced separately."""

    def __init__(self, base: np.ndarray) -> None:
        self.base = np.ascontiguousarray(base)
        self.levels: dict[tuple[int, int], np.ndarray] = {(0, 0): self.base}
        self.has_holes = bool(self.base[..., 3].min() == 0)

    def level(self, across: int, down: int) -> np.ndarray:
        """The texture with its columns reduced `across` times and its rows `down` times by two."""
        found = self.levels.get((across, down))
        if found is None:
            # From the level before: reading between two texels is their mean.
            larger = (
                self.level(across - 1, down) if across >= down else self.level(across, down - 1)
            )
            height, width = larger.shape[:2]
            size = (max(1, width // 2), height) if across >= down else (width, max(1, height // 2))
            found = cv2.resize(larger, size, interpolation=cv2.INTER_LINEAR)
            self.levels[across, down] = found
        return found

    @property
    def size_bytes(self) -> int:
        return sum(level.nbytes for level in list(self.levels.values()))


class TextureCache:
    """Things that hold textures, by key; the ones not used for longest are dropped beyond
    `max_bytes`."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.num_made = 0
        self._num_bytes: OrderedDict[Any, tuple[Any, int]] = OrderedDict()
        self._total = 0

    def find(self, key: Any) -> Any:
        """The thing of that key, or None."""
        held = self._num_bytes.get(key)
        if held is None:
            return None
        self._num_bytes.move_to_end(key)
        return held[0]

    def get(self, key: Any, make: Callable[[], Any], size_bytes: Callable[[Any], int]) -> Any:
        """The thing of that key, made if need be. Reduced versions are taken to add half of the
        size."""
        if key in self._num_bytes:
            self._num_bytes.move_to_end(key)
            return self._num_bytes[key][0]
        made = make()
        size = size_bytes(made) * 3 // 2
        self.num_made += 1
        self._num_bytes[key] = (made, size)
        self._total += size
        while self._total > self.max_bytes and len(self._num_bytes) > 1:
            _, (_, gone) = self._num_bytes.popitem(last=False)
            self._total -= gone
        return made

    @property
    def held_bytes(self) -> int:
        """Bytes that the cache thinks it holds."""
        return self._total


class PatchInfo(NamedTuple):
    """What shading and truth need to know about a patch."""

    label: int
    normal: tuple[float, float, float]
    """Unit vector; (0, 0, 0) for things that have no single one."""
    lot: int = -1
    pavement_share: float = 0.0
    """Of a street piece: the share of its width that is pavement, on each side."""


class Outline(NamedTuple):
    """A convex polygon (n, 2) int32 in sixteenths of a pixel, and the box of pixels it may
    cover."""

    polygon: np.ndarray
    x0: int
    y0: int
    x1: int
    y1: int


class Raster:
    """One photo's buffers."""

    def __init__(self, camera: Camera) -> None:
        self.camera = camera
        height, width = camera.height, camera.width
        self.albedo = np.zeros((height, width, 4), np.uint8)
        self.inverse_depth = np.zeros((height, width), np.float32)
        """1 / metres along the optical axis; 0 where nothing is."""
        self.ids = np.zeros((height, width), np.uint16)
        """1 + the patch's place in `infos`; 0 for the sky."""
        self.infos: list[PatchInfo] = []
        self.inverses: list[np.ndarray] = []
        """For each of `infos` the matrix (3, 3) from pixels to patch coordinates."""
        self._mask = np.zeros((height, width), np.uint8)
        self._columns = np.arange(width, dtype=np.float32)
        self._rows = np.arange(height, dtype=np.float32)[:, None]

    def project(
        self, origin: np.ndarray, across: np.ndarray, down: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Inverse homographies (P, 3, 3) and corners in camera coordinates times K (P, 4, 3) of
        patches (P, 3)."""
        projection = self.camera.projection
        start = (origin - self.camera.centre) @ projection.T
        right, below = across @ projection.T, down @ projection.T
        corners = np.stack([start, start + right, start + right + below, start + below], axis=1)
        return _inverses(right, below, start), corners

    @staticmethod
    def faces(corners: np.ndarray) -> np.ndarray:
        """Which patches (P,) turn their front to the camera, from their corners (P, 4, 3)."""
        turn = _cross(corners[:, 1] - corners[:, 0], corners[:, 3] - corners[:, 0])
        return np.asarray((turn * corners[:, 0]).sum(axis=1) > 0)

    def visible(self, corners: np.ndarray) -> np.ndarray:
        """Which patches (P,) reach into the view, from their corners (P, 4, 3)."""
        z = corners[..., 2]
        x, y = corners[..., 0], corners[..., 1]
        limit_x, limit_y = z * (self.camera.width - 0.5), z * (self.camera.height - 0.5)
        return np.asarray(
            (z > NEAR_M).any(axis=1)
            & ~(x < -0.5 * z).all(axis=1)
            & ~(x > limit_x).all(axis=1)
            & ~(y < -0.5 * z).all(axis=1)
            & ~(y > limit_y).all(axis=1)
        )

    def outlines(self, corners: np.ndarray) -> list[Outline | None]:
        """The polygons of patches (P, 4, 3) in the picture, cut off in front of the camera; None
        where nothing is left."""
        z = corners[..., 2]
        is_whole = np.asarray((z >= NEAR_M).all(axis=1))
        safe = np.where(is_whole[:, None], z, 1.0)
        pixels = np.clip(corners[..., :2] / safe[..., None], -20000, 20000)
        return [
            outline if whole else self._clipped_outline(corners[k])
            for k, (whole, outline) in enumerate(
                zip(is_whole.tolist(), self._boxed(pixels), strict=True)
            )
        ]

    def outline(self, corners: np.ndarray) -> Outline | None:
        """The polygon of one patch (4, 3)."""
        return self.outlines(corners[None])[0]

    def _boxed(self, pixels: np.ndarray) -> list[Outline | None]:
        """Polygons (P, n, 2) with the pixels they may cover."""
        fixed = np.rint(pixels * 16).astype(np.int32)
        low = np.maximum(pixels.min(axis=1).astype(int), 0).tolist()
        high = np.minimum(
            pixels.max(axis=1).astype(int) + 2, (self.camera.width, self.camera.height)
        ).tolist()
        return [
            Outline(fixed[k], x0, y0, x1, y1) if x1 > x0 and y1 > y0 else None
            for k, ((x0, y0), (x1, y1)) in enumerate(zip(low, high, strict=True))
        ]

    def _clipped_outline(self, corners: np.ndarray) -> Outline | None:
        corners = clip_near(corners)
        if len(corners) < 3:
            return None
        return self._boxed(np.clip(corners[None, :, :2] / corners[None, :, 2:], -20000, 20000))[0]

    def covers(self, inverse: np.ndarray, outline: Outline) -> bool:
        """Whether any pixel of a patch would be seen now."""
        return self._test(inverse, outline, is_ground=False) is not None

    def _test(
        self, inverse: np.ndarray, outline: Outline, *, is_ground: bool
    ) -> tuple[tuple[int, int, int, int], np.ndarray, np.ndarray] | None:
        """Box, mask and inverse depth of the part of a patch that would be seen now."""
        polygon, x0, y0, x1, y1 = outline
        mask = self._mask[y0:y1, x0:x1]
        # The mask keeps what earlier patches left elsewhere; only this box is read.
        mask[:] = 0
        cv2.fillConvexPoly(self._mask, polygon, 255, cv2.LINE_8, 4)
        across, along, start = inverse[2].astype(np.float32)
        depth = (across * self._columns[x0:x1] + start) + along * self._rows[y0:y1]
        held = self.inverse_depth[y0:y1, x0:x1]
        seen = (held == 0).view(np.uint8) if is_ground else (depth > held).view(np.uint8)
        seen = cv2.bitwise_and(seen, mask)
        bx, by, bw, bh = cv2.boundingRect(seen)
        if not bw:
            return None
        box = (x0 + bx, y0 + by, bw, bh)
        return (
            box,
            np.ascontiguousarray(seen[by : by + bh, bx : bx + bw]),
            depth[by : by + bh, bx : bx + bw],
        )

    def draw(
        self,
        inverse: np.ndarray,
        outline: Outline,
        texture: Texture,
        info: PatchInfo,
        *,
        is_ground: bool = False,
    ) -> bool:
        """Whether any pixel changed: a patch is drawn where it is nearer than what is there
        (ground: where nothing is)."""
        tested = self._test(inverse, outline, is_ground=is_ground)
        if tested is None:
            return False
        (x, y, width, height), seen, depth = tested
        image = self._level(texture, inverse, x + width / 2, y + height / 2)
        rows, columns = image.shape[:2]
        to_texture = np.array([[columns, 0, -0.5], [0, rows, -0.5], [0, 0, 1.0]]) @ inverse
        to_texture[:, 2] += to_texture[:, 0] * x + to_texture[:, 1] * y
        colours = cv2.warpPerspective(
            image,
            to_texture,
            (width, height),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )
        if texture.has_holes:
            seen = cv2.bitwise_and(seen, (colours[..., 3] > _HOLE).view(np.uint8))
            if not cv2.countNonZero(seen):
                return False
        self.infos.append(info)
        self.inverses.append(inverse)
        here = (slice(y, y + height), slice(x, x + width))
        cv2.copyTo(colours, seen, self.albedo[here])
        cv2.copyTo(depth, seen, self.inverse_depth[here])
        np.copyto(self.ids[here], np.uint16(len(self.infos)), where=seen.view(np.bool_))
        return True

    def _level(self, texture: Texture, inverse: np.ndarray, x: float, y: float) -> np.ndarray:
        """The mip level whose texels are about a pixel at (x, y)."""
        (h00, h01, h02), (h10, h11, h12), (h20, h21, h22) = inverse.tolist()
        a, b, w = h00 * x + h01 * y + h02, h10 * x + h11 * y + h12, h20 * x + h21 * y + h22
        w = w if abs(w) > 1e-6 else 1e-6
        height, width = texture.base.shape[:2]
        across = max(abs(h00 * w - a * h20), abs(h01 * w - a * h21)) * width / (w * w)
        down = max(abs(h10 * w - b * h20), abs(h11 * w - b * h21)) * height / (w * w)
        return texture.level(_log2(across), _log2(down))

    def fill_ground(self, colour: tuple[int, int, int], info: PatchInfo, *, far_m: float) -> None:
        """Fill what is left below the horizon with one colour."""
        inverse = _inverses(
            *(
                v[None] @ self.camera.projection.T
                for v in (
                    np.array([1.0, 0, 0]),
                    np.array([0, 1.0, 0]),
                    -self.camera.centre * (0, 0, 1),
                )
            )
        )[0]
        depth = (
            np.float32(inverse[2, 0]) * self._columns
            + np.float32(inverse[2, 2])
            + np.float32(inverse[2, 1]) * self._rows
        )
        seen = (self.inverse_depth == 0) & (depth > 1 / far_m)
        self.infos.append(info)
        self.inverses.append(inverse)
        self.albedo[seen] = (*colour, 128)
        self.inverse_depth[seen] = depth[seen]
        self.ids[seen] = len(self.infos)


def _log2(texels: float) -> int:
    """Halvings that bring this many texels a pixel near one."""
    level = 0
    while texels > 1.55 and level < _MAX_LEVEL:
        texels *= 0.5
        level += 1
    return level


def _inverses(right: np.ndarray, below: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Inverses (P, 3, 3) of the matrices with these columns (P, 3); zero rows where there is
    none."""
    rows = np.stack([_cross(below, start), _cross(start, right), _cross(right, below)], axis=1)
    determinant = (right * rows[:, 0]).sum(axis=1)
    safe = np.where(np.abs(determinant) > 1e-12, determinant, np.inf)
    return rows / safe[:, None, None]


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Cross products (P, 3); numpy's own spends most of its time on shapes."""
    a0, a1, a2, b0, b1, b2 = *a.T, *b.T
    return np.stack([a1 * b2 - a2 * b1, a2 * b0 - a0 * b2, a0 * b1 - a1 * b0], axis=1)


def clip_near(corners: np.ndarray) -> np.ndarray:
    """The part of a polygon (n, 3) with depth over NEAR_M (Sutherland and Hodgman 1974)."""
    kept = []
    for k in range(len(corners)):
        here, there = corners[k], corners[(k + 1) % len(corners)]
        if here[2] >= NEAR_M:
            kept.append(here)
        if (here[2] >= NEAR_M) != (there[2] >= NEAR_M):
            share = (NEAR_M - here[2]) / (there[2] - here[2])
            kept.append(here + share * (there - here))
    return np.array(kept).reshape(-1, 3)
