"""The city as a textured triangle mesh: Wavefront OBJ with a material file and texture atlases."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from whence.runtime import atomic_write
from whence.worlds.raster import Texture
from whence.worlds.scene import Epoch, Scene

ATLAS_PX = 2048
_EPOCH = Epoch()


class _Atlas:
    """Textures packed in shelves on square sheets."""

    def __init__(self) -> None:
        self.sheets: list[np.ndarray] = []
        self._x = self._y = self._shelf = ATLAS_PX

    def add(self, texture: np.ndarray) -> tuple[int, int, int, int, int]:
        """Place a texture (h, w, 4); gives its sheet and box x, y, width, height in pixels."""
        height, width = texture.shape[:2]
        if max(height, width) > ATLAS_PX - 2:
            shrink = (ATLAS_PX - 2) / max(height, width)
            texture = cv2.resize(texture, (max(1, int(width * shrink)), max(1, int(height * shrink))), interpolation=cv2.INTER_AREA)
            height, width = texture.shape[:2]
        if self._x + width + 1 > ATLAS_PX:
            self._x, self._y, self._shelf = 0, self._y + self._shelf + 1, 0
        if self._y + height + 1 > ATLAS_PX:
            self.sheets.append(np.zeros((ATLAS_PX, ATLAS_PX, 3), np.uint8))
            self._x = self._y = self._shelf = 0
        self.sheets[-1][self._y : self._y + height, self._x : self._x + width] = texture[..., :3]
        box = (len(self.sheets) - 1, self._x, self._y, width, height)
        self._x += width + 1
        self._shelf = max(self._shelf, height)
        return box


def write_mesh(path: Path, scene: Scene) -> int:
    """Write fronts, side walls and ground of a city as OBJ, with path.mtl and path_k.jpg beside it; gives the number of triangles.

    Axes: x east, y north, z up, metres from the city's origin.
    """
    atlas = _Atlas()
    placed: dict[tuple, tuple[int, int, int, int, int]] = {}
    quads: list[tuple[np.ndarray, np.ndarray, np.ndarray, tuple[int, int, int, int, int]]] = []

    def add(planes: tuple[np.ndarray, np.ndarray, np.ndarray], key: tuple, texture: Texture) -> None:
        if key not in placed:
            placed[key] = atlas.add(texture.base)
        quads.append((*planes, placed[key]))

    fronts, walls, ground = scene.fronts, scene.walls, scene.ground
    for k in range(len(scene.plan.lots)):
        add((fronts.origin[k], fronts.across[k], fronts.down[k]), ("front", k), scene.load_far_front(k, _EPOCH))
    for k in range(len(walls.origin)):
        key = ("party", k % 7)
        add((walls.origin[k], walls.across[k], walls.down[k]), key, scene.texture(key))
    for k, key in enumerate(ground.keys):
        add((ground.origin[k], ground.across[k], ground.down[k]), key, scene.texture(key))
    for number, sheet in enumerate(atlas.sheets):
        data = cv2.imencode(".jpg", sheet[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 88])[1]
        with atomic_write(path.with_name(f"{path.stem}_{number}.jpg")) as file:
            file.write(data.tobytes())
    materials = "".join(f"newmtl sheet{k}\nKd 1 1 1\nmap_Kd {path.stem}_{k}.jpg\n" for k in range(len(atlas.sheets)))
    with atomic_write(path.with_suffix(".mtl"), "w") as file:
        file.write(materials)
    with atomic_write(path, "w") as file:
        file.write(f"mtllib {path.stem}.mtl\n")
        file.write("".join(_lines(quads)))
    return 2 * len(quads)


def _lines(quads: list[tuple[np.ndarray, np.ndarray, np.ndarray, tuple[int, int, int, int, int]]]) -> list[str]:
    """OBJ lines of textured quads, sheet by sheet, two triangles each."""
    lines: list[str] = []
    sheet_now = -1
    for k, (origin, across, down, (sheet, x, y, width, height)) in enumerate(sorted(quads, key=lambda quad: quad[3][0])):
        if sheet != sheet_now:
            lines.append(f"usemtl sheet{sheet}\n")
            sheet_now = sheet
        left, right = (x + 0.5) / ATLAS_PX, (x + width - 0.5) / ATLAS_PX
        top, bottom = 1 - (y + 0.5) / ATLAS_PX, 1 - (y + height - 0.5) / ATLAS_PX
        for corner in (origin, origin + down, origin + across + down, origin + across):
            lines.append(f"v {corner[0]:.3f} {corner[1]:.3f} {corner[2]:.3f}\n")
        for u, v in ((left, top), (left, bottom), (right, bottom), (right, top)):
            lines.append(f"vt {u:.6f} {v:.6f}\n")
        a, b, c, d = (f"{4 * k + i}/{4 * k + i}" for i in (1, 2, 3, 4))
        lines.append(f"f {a} {b} {c}\nf {a} {c} {d}\n")
    return lines
