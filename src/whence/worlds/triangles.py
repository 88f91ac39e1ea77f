"""Triangles onto pixels: which triangle each pixel shows, by a depth buffer, and what its texture
is there.

Homogeneous rasterisation (Olano and Greer 1997): the edges of a triangle are planes through the
camera, so that nothing divides by a depth before a pixel is known to lie in front, and what crosses
the near plane needs no second triangle. All triangles of a view are worked on together, in batches
of bounded size.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

from whence.data.meshes import TexturedMesh
from whence.errors import BadOption, UnknownName
from whence.worlds.camera import Camera
from whence.worlds.raster import NEAR_M, clip_near

FAR_M = 1500.0
BLOCK_M = 24.0
"""Side of the blocks that triangles are looked for by."""
_TILES_PX = (1, 2, 4, 8)
"""Sides of the squares of pixels that are tried together; triangles beyond the largest are cut into
such squares."""
_SAMPLES = 400_000
"""Pixels tried at a time, which bounds the memory of a view."""
_TRIANGLES = 20_000
"""Triangles brought into the camera's frame at a time."""
_SKY_TOP, _SKY_LOW = (150.0, 175.0, 205.0), (222.0, 226.0, 230.0)


@dataclass(frozen=True, slots=True)
class RenderQuality:
    """How well a mesh is rendered."""

    samples: int = 1
    """Rays along each side of a pixel."""
    coarser: int = 0
    """Halvings of every texture before it is used, as of a model of lower resolution."""


QUALITIES = {"low": RenderQuality(1, 2), "medium": RenderQuality(1, 0), "high": RenderQuality(2, 0)}


def get_quality(name: str) -> RenderQuality:
    """The quality of this name. Raises `UnknownName`."""
    if name not in QUALITIES:
        raise UnknownName("render quality", name, QUALITIES)
    return QUALITIES[name]


class Cover(NamedTuple):
    """Pixels that triangles cover, a few hundred thousand at a time."""

    pixels: np.ndarray
    """(K,) row * width + column."""
    which: np.ndarray
    """(K,) rows of the triangles given."""
    edges: np.ndarray
    """(3, K) weights of the corners, not normalised; their sum over `volumes` is 1 / depth."""


def edge_planes(corners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For triangles (N, 3, 3) in the camera's frame times K: planes (N, 3, 3) that are positive
    inside, and volumes (N,)."""
    planes = np.stack(
        [np.cross(corners[:, (k + 1) % 3], corners[:, (k + 2) % 3]) for k in range(3)], axis=1
    )
    volumes = np.einsum("ni,ni->n", corners[:, 0], planes[:, 0])
    return planes * np.where(volumes < 0, -1.0, 1.0)[:, None, None], np.abs(volumes)


def pixel_boxes(corners: np.ndarray, width: int, height: int) -> np.ndarray:
    """First column, first row, last column, last row (N, 4) whose centres triangles (N, 3, 3) may
    cover; last < first for none."""
    low, high = np.full((len(corners), 2), np.inf), np.full((len(corners), 2), -np.inf)
    depth = corners[..., 2]
    nearest, farthest = (
        reduce(reduce(depth[:, 0], depth[:, 1]), depth[:, 2]) for reduce in (np.minimum, np.maximum)
    )
    whole, cut = (
        np.flatnonzero(nearest >= NEAR_M),
        np.flatnonzero((nearest < NEAR_M) & (farthest >= NEAR_M)),
    )
    points = [corners[whole, k, :2] / depth[whole, k, None] for k in range(3)]
    low[whole] = np.minimum(np.minimum(points[0], points[1]), points[2])
    high[whole] = np.maximum(np.maximum(points[0], points[1]), points[2])
    for k in cut.tolist():
        ring = clip_near(corners[k])
        points = ring[:, :2] / ring[:, 2:]
        low[k], high[k] = points.min(axis=0), points.max(axis=0)
    # A hair more than the corners: what lies on an edge counts for both of its triangles.
    most = np.array([width, height], float)
    first, last = (
        np.ceil(np.clip(low - 1e-6, 0, most)),
        np.floor(np.clip(high + 1e-6, -1, most - 1)),
    )
    return np.concatenate([first, last], axis=1).astype(np.int64)


def cover(corners: np.ndarray, width: int, height: int) -> Iterator[Cover]:
    """The pixels in front of the near plane that triangles (N, 3, 3) cover, in the camera's frame
    times K."""
    boxes = pixel_boxes(corners, width, height)
    usable = np.flatnonzero((boxes[:, 2] >= boxes[:, 0]) & (boxes[:, 3] >= boxes[:, 1]))
    planes, volumes = edge_planes(corners[usable])
    boxes = boxes[usable]
    reach = (boxes[:, 2:] - boxes[:, :2]).max(axis=1) + 1
    whole = np.isfinite(planes).all(axis=(1, 2)) & (volumes > 1e-12)
    least = 0
    for side in _TILES_PX:
        chosen = np.flatnonzero(
            whole & (reach > least) & ((reach <= side) | (side == _TILES_PX[-1]))
        )
        least = side
        for tile in _tiles(chosen, boxes, planes, side):
            yield from _tried(tile, planes, volumes, usable, side, (width, height))


class _Tiles(NamedTuple):
    which: np.ndarray
    first: np.ndarray
    """(T, 2) column and row."""


def _tiles(
    indices: np.ndarray, boxes: np.ndarray, planes: np.ndarray, side: int
) -> Iterator[_Tiles]:
    """Squares of pixels that triangles may reach into, without those that lie wholly outside of an
    edge."""
    counts = (boxes[indices, 2:] - boxes[indices, :2]) // side + 1
    totals = counts.prod(axis=1)
    most = max(1, _SAMPLES // (side * side))
    start = 0
    ends = np.cumsum(totals)
    while start < len(indices):
        before = ends[start - 1] if start else 0
        end = max(start + 1, int(np.searchsorted(ends, before + 4 * most, side="right")))
        rows = np.repeat(np.arange(start, end), totals[start:end])
        number = np.arange(len(rows)) - np.repeat(
            ends[start:end] - totals[start:end] - before, totals[start:end]
        )
        across = counts[rows, 0]
        first = boxes[indices[rows], :2] + side * np.stack(
            [number % across, number // across], axis=1
        )
        which = indices[rows]
        if side == _TILES_PX[-1]:
            plane = planes[which]
            best = plane[..., 2] + np.einsum("tki,ti->tk", plane[..., :2], first.astype(float))
            best += np.maximum(plane[..., :2] * (side - 1), 0).sum(axis=2)
            kept = (best >= 0).all(axis=1)
            which, first = which[kept], first[kept]
        for part in range(0, len(which), most):
            yield _Tiles(which[part : part + most], first[part : part + most])
        start = end


def _tried(
    tiles: _Tiles,
    planes: np.ndarray,
    volumes: np.ndarray,
    usable: np.ndarray,
    side: int,
    size_px: tuple[int, int],
) -> Iterator[Cover]:
    """The pixels of squares that lie inside of all three edges."""
    width, height = size_px
    offsets = np.arange(side)
    columns = (tiles.first[:, :1] + offsets).astype(float)
    rows = (tiles.first[:, 1:] + offsets).astype(float)
    plane = planes[tiles.which]
    edges = [
        (plane[:, k, 0:1] * columns + plane[:, k, 2:3])[:, None, :]
        + (plane[:, k, 1:2] * rows)[:, :, None]
        for k in range(3)
    ]
    inside = (edges[0] >= 0) & (edges[1] >= 0) & (edges[2] >= 0)
    inside &= (columns < width)[:, None, :] & (rows < height)[:, :, None]
    found = np.flatnonzero(inside)
    if not len(found):
        return
    tile, within = np.divmod(found, side * side)
    weights = np.stack([edge.ravel()[found] for edge in edges])
    near = weights.sum(axis=0) * NEAR_M <= volumes[tiles.which[tile]]
    tile, within, weights = tile[near], within[near], weights[:, near]
    pixels = (tiles.first[tile, 1] + within // side) * width + tiles.first[tile, 0] + within % side
    yield Cover(pixels, usable[tiles.which[tile]], weights)


class MeshScene:
    """A mesh ready to be rendered: its triangles sorted into blocks, its textures with their
    reduced versions in one array.

    Of a triangle 62 bytes are kept, of a texel of a texture less than six.
    """

    def __init__(self, mesh: TexturedMesh, *, quality: RenderQuality = RenderQuality()) -> None:
        """Raises `BadOption` for a mesh without triangles."""
        if not len(mesh.triangles):
            raise BadOption("a mesh without triangles shows nothing")
        self.quality = quality
        self.base_m = mesh.points_m.min(axis=0)
        """What is taken off all points, so that single precision is enough for them."""
        points = (mesh.points_m - self.base_m).astype(np.float32)
        middle = points[mesh.triangles][..., :2].mean(axis=1)
        columns, rows = (middle / BLOCK_M).astype(np.int64).T
        order = np.lexsort((columns, rows))
        keys = rows[order] * (columns.max() + 1) + columns[order]
        self.starts = np.flatnonzero(np.r_[True, keys[1:] != keys[:-1]])
        self.ends = np.r_[self.starts[1:], len(order)]
        self.corners = points[mesh.triangles[order]]
        self.uv = mesh.texture_points[mesh.triangles[order]].astype(np.float32)
        self.sheet = mesh.sheet[order]
        low = np.minimum.reduceat(self.corners.min(axis=1), self.starts)
        high = np.maximum.reduceat(self.corners.max(axis=1), self.starts)
        self.centres, self.radii = (low + high) / 2, np.linalg.norm(high - low, axis=1) / 2
        self._texels = _TexelStack(mesh.sheets, coarser=quality.coarser)

    @property
    def num_triangles(self) -> int:
        return len(self.corners)

    def render(self, camera: Camera) -> tuple[np.ndarray, np.ndarray]:
        """The picture (H, W, 3) uint8 and the depth along the axis (H, W) float32 metres, 0 for the
        sky."""
        larger = camera.scaled(self.quality.samples)
        seen = self._seen(larger)
        depth = np.zeros(seen.shape, np.float32)
        np.divide(
            1, (seen >> np.uint64(32)).astype(np.uint32).view(np.float32), out=depth, where=seen > 0
        )
        picture = self._shaded(seen.ravel(), larger).reshape(*seen.shape, 3)
        if self.quality.samples > 1:
            picture = cv2.resize(
                picture, (camera.width, camera.height), interpolation=cv2.INTER_AREA
            )
            depth = np.ascontiguousarray(depth[:: self.quality.samples, :: self.quality.samples])
        return picture, depth

    def in_frame(self, camera: Camera, rows: np.ndarray | slice) -> np.ndarray:
        """Corners (N, 3, 3) of triangles in a camera's frame times K."""
        return (self.corners[rows] - (camera.centre - self.base_m)) @ camera.projection.T

    def _seen(self, camera: Camera) -> np.ndarray:
        """By pixel the bits of 1 / depth, then those of the triangle's number, 0 for none: (H, W)
        uint64."""
        found = np.zeros(camera.width * camera.height, np.uint64)
        for rows in self._batches(camera, found.reshape(camera.height, camera.width)):
            corners = self.in_frame(camera, rows)
            depth, edge = corners[..., 2], corners[..., :2]
            limit = depth[..., None] * (camera.width - 0.5, camera.height - 0.5)
            reaches = np.asarray((depth > NEAR_M).any(axis=1))
            beside = np.asarray(
                (edge < -0.5 * depth[..., None]).all(axis=1) | (edge > limit).all(axis=1)
            )
            reaches &= ~beside.any(axis=1)
            rows, corners = rows[reaches], corners[reaches]
            volumes = edge_planes(corners)[1]
            for part in cover(corners, camera.width, camera.height):
                inverse = (part.edges.sum(axis=0) / volumes[part.which]).astype(np.float32)
                keys = (inverse.view(np.uint32).astype(np.uint64) << np.uint64(32)) | rows[
                    part.which
                ].astype(np.uint64)
                np.maximum.at(found, part.pixels, keys)
        return found.reshape(camera.height, camera.width)

    def _batches(self, camera: Camera, tiles: np.ndarray) -> Iterator[np.ndarray]:
        """Rows of triangles of blocks that may be seen, the nearest first; those behind what was
        `tiles` since are left out."""
        centres = (self.centres - (camera.centre - self.base_m)) @ camera.rotation.T
        focal, radii = camera.intrinsics[0, 0], self.radii
        ahead = (centres[:, 2] > NEAR_M - radii) & (centres[:, 2] < FAR_M + radii)
        for axis, half in ((0, camera.width / 2), (1, camera.height / 2)):
            ahead &= np.abs(centres[:, axis]) * focal - centres[:, 2] * half <= radii * np.hypot(
                focal, half
            )
        chosen = np.flatnonzero(ahead)
        chosen = chosen[np.argsort(centres[chosen, 2] - radii[chosen], kind="stable")]
        nearest = np.maximum(centres[:, 2] - radii, NEAR_M)
        beyond, sides = (centres[:, 2] + radii)[:, None], radii[:, None]
        low, high = centres[:, :2] - sides, centres[:, :2] + sides
        low = np.floor(
            low / np.where(low < 0, nearest[:, None], beyond) * focal + camera.intrinsics[:2, 2]
        )
        high = (
            np.ceil(
                high / np.where(high > 0, nearest[:, None], beyond) * focal
                + camera.intrinsics[:2, 2]
            )
            + 1
        )
        boxes = np.concatenate(
            [np.maximum(low, 0), np.minimum(high, (camera.width, camera.height))], axis=1
        ).astype(np.int64)
        farthest = np.zeros((camera.height, camera.width), np.float32)
        held, count = list[np.ndarray](), 0
        for block in chosen.tolist():
            x0, y0, x1, y1 = boxes[block].tolist()
            part = farthest[y0:y1, x0:x1]
            if part.size and part.min() * nearest[block] > 1:
                continue
            held.append(np.arange(self.starts[block], self.ends[block]))
            count += len(held[-1])
            if count >= _TRIANGLES:
                yield np.concatenate(held)
                held, count = [], 0
                farthest = (tiles >> np.uint64(32)).astype(np.uint32).view(np.float32)
        if held:
            yield np.concatenate(held)

    def _shaded(self, hits: np.ndarray, camera: Camera) -> np.ndarray:
        """Colours (P, 3) uint8 of what each pixel shows."""
        shade = np.linspace(0, 1, camera.height)[:, None] ** 0.7
        sky = np.rint(np.array(_SKY_TOP) * (1 - shade) + np.array(_SKY_LOW) * shade).astype(
            np.uint8
        )
        colours = np.repeat(sky, camera.width, axis=0)
        pixels = np.flatnonzero(hits)
        if not len(pixels):
            return colours
        visible, which = np.unique(
            (hits[pixels] & np.uint64(0xFFFFFFFF)).astype(np.int64), return_inverse=True
        )
        planes, _ = edge_planes(self.in_frame(camera, visible))
        # Of each triangle, as planes over the picture: u and v over depth, and 1 / depth.
        lifted = np.concatenate(
            [
                np.einsum("nki,nkj->nij", self.uv[visible].astype(float), planes),
                planes.sum(axis=1)[:, None],
            ],
            axis=1,
        )
        coefficients = lifted.reshape(-1, 9).T[:, which]
        columns, rows = (
            (pixels % camera.width).astype(float),
            (pixels // camera.width).astype(float),
        )
        here = np.stack(
            [
                coefficients[k] * columns + coefficients[k + 1] * rows + coefficients[k + 2]
                for k in (0, 3, 6)
            ]
        )
        at, across, down = (
            _divided(here + step) for step in (0.0, coefficients[0::3], coefficients[1::3])
        )
        colours[pixels] = self._texels.read(self.sheet[visible][which], at, across - at, down - at)
        return colours


def _divided(over_depth: np.ndarray) -> np.ndarray:
    """Texture points (P, 2) of u, v and 1, all over depth (3, P)."""
    depth = np.where(np.abs(over_depth[2]) < 1e-30, 1e-30, over_depth[2])
    return np.asarray((over_depth[:2] / depth).T)


class _TexelStack:
    """Textures and their halvings in one array of texels, read by sheet and level."""

    def __init__(self, sheets: tuple[np.ndarray, ...], *, coarser: int) -> None:
        levels: list[list[np.ndarray]] = []
        for sheet in sheets:
            whole = sheet
            for _ in range(coarser):
                whole = _halved(whole)
            stack = [whole]
            while min(stack[-1].shape[:2]) > 1:
                stack.append(_halved(stack[-1]))
            levels.append(stack)
        most = max(map(len, levels))
        padded = [stack + [stack[-1]] * (most - len(stack)) for stack in levels]
        self.sizes = np.array([[image.shape[1::-1] for image in stack] for stack in padded])
        """(S, L, 2) width and height."""
        counts = np.array(
            [[image.shape[0] * image.shape[1] for image in stack] for stack in levels], object
        )
        flat = np.concatenate([[0], np.cumsum([count for row in counts for count in row])]).astype(
            np.int64
        )
        ends = np.cumsum([len(stack) for stack in levels])
        self.starts = np.array([
            [flat[end - len(stack) + min(level, len(stack) - 1)] for level in range(most)]
            for end, stack in zip(ends, levels, strict=True)
        ])  # fmt: skip
        # One number a texel: reading a number is a third of the time of reading three.
        self.texels = np.concatenate([_packed(image) for stack in levels for image in stack])

    def read(
        self, sheet: np.ndarray, at: np.ndarray, across: np.ndarray, down: np.ndarray
    ) -> np.ndarray:
        """Colours (P, 3) uint8 at texture points, row 0 below; between texels of the level whose
        texels are about a pixel."""
        full = self.sizes[sheet, 0]
        texels = np.sqrt(
            np.maximum(((across * full) ** 2).sum(axis=1), ((down * full) ** 2).sum(axis=1))
        )
        level = np.clip(
            np.rint(np.log2(np.maximum(texels, 1e-6))), 0, self.sizes.shape[1] - 1
        ).astype(np.int64)
        size, start = self.sizes[sheet, level], self.starts[sheet, level]
        place = np.stack([at[:, 0], 1 - at[:, 1]], axis=1) * size - 0.5
        low = np.floor(place)
        share = (place - low).astype(np.float32)
        low = low.astype(np.int64)
        colours = np.zeros((len(at), 3), np.float32)
        for right, below in ((0, 0), (1, 0), (0, 1), (1, 1)):
            column, row = (
                np.mod(low[:, 0] + right, size[:, 0]),
                np.mod(low[:, 1] + below, size[:, 1]),
            )
            weight = (share[:, 0] if right else 1 - share[:, 0]) * (
                share[:, 1] if below else 1 - share[:, 1]
            )
            colours += (
                weight[:, None]
                * self.texels[start + row * size[:, 0] + column]
                .view(np.uint8)
                .reshape(-1, 4)[:, :3]
            )
        return np.rint(colours).astype(np.uint8)


def _packed(image: np.ndarray) -> np.ndarray:
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2RGBA).view(np.uint32).ravel())


def _halved(image: np.ndarray) -> np.ndarray:
    size = (max(1, image.shape[1] // 2), max(1, image.shape[0] // 2))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA))
