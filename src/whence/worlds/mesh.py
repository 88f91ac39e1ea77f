"""The city as a textured triangle mesh: GLB, or Wavefront OBJ with a material file and texture
atlases, and where it stands."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image

from whence.data.meshes import need_trimesh, place_file
from whence.errors import BadOption
from whence.geo import from_utm
from whence.runtime import atomic_write
from whence.worlds.raster import Texture
from whence.worlds.scene import Epoch, Scene

ATLAS_PX = 2048
_MARGIN_PX = 4
"""Of each texture's edge, repeated around it, so that reduced versions of a sheet do not mix
neighbours."""
_EPOCH = Epoch()
_LIFT_M = {"asphalt": 0.02, "street": 0.01, "ground": 0.0}
PX_PER_M = 5.0
"""Of the textures."""


class _Quad(NamedTuple):
    """A textured parallelogram, and the box x, y, width, height in pixels of its texture on a
    sheet."""

    origin: np.ndarray
    across: np.ndarray
    down: np.ndarray
    box: tuple[int, int, int, int, int]

    @property
    def corners(self) -> np.ndarray:
        """(4, 3) upper left, lower left, lower right, upper right."""
        return np.stack(
            [
                self.origin,
                self.origin + self.down,
                self.origin + self.across + self.down,
                self.origin + self.across,
            ]
        )

    @property
    def texture_corners(self) -> np.ndarray:
        """(4, 2) row 0 at the bottom."""
        _, x, y, width, height = self.box
        left, right = (x + 0.5) / ATLAS_PX, (x + width - 0.5) / ATLAS_PX
        top, bottom = 1 - (y + 0.5) / ATLAS_PX, 1 - (y + height - 0.5) / ATLAS_PX
        return np.array([[left, top], [left, bottom], [right, bottom], [right, top]])


class _Atlas:
    """Textures packed in shelves on square sheets."""

    def __init__(self) -> None:
        self.sheets: list[np.ndarray] = []
        self._x = self._y = self._shelf = ATLAS_PX

    def add(self, texture: np.ndarray) -> tuple[int, int, int, int, int]:
        """The sheet and box x, y, width, height in pixels of a texture (h, w, 4), which is
        placed."""
        height, width = texture.shape[:2]
        most = ATLAS_PX - 2 * _MARGIN_PX
        if max(height, width) > most:
            shrink = most / max(height, width)
            texture = cv2.resize(
                texture,
                (max(1, int(width * shrink)), max(1, int(height * shrink))),
                interpolation=cv2.INTER_AREA,
            )
        padded = cv2.copyMakeBorder(
            texture[..., :3], _MARGIN_PX, _MARGIN_PX, _MARGIN_PX, _MARGIN_PX, cv2.BORDER_REPLICATE
        )
        height, width = padded.shape[:2]
        if self._x + width > ATLAS_PX:
            self._x, self._y, self._shelf = 0, self._y + self._shelf, 0
        if self._y + height > ATLAS_PX:
            self.sheets.append(np.zeros((ATLAS_PX, ATLAS_PX, 3), np.uint8))
            self._x = self._y = self._shelf = 0
        self.sheets[-1][self._y : self._y + height, self._x : self._x + width] = padded
        inner = (
            self._x + _MARGIN_PX,
            self._y + _MARGIN_PX,
            width - 2 * _MARGIN_PX,
            height - 2 * _MARGIN_PX,
        )
        self._x += width
        self._shelf = max(self._shelf, height)
        return (len(self.sheets) - 1, *inner)


def write_mesh(path: Path, scene: Scene) -> int:
    """The number of triangles of a city's fronts, side walls and ground, written as GLB or OBJ, by
    the name's ending.

    Of an OBJ, path.mtl and path_k.jpg lie beside it. OBJ has x east, y north, z up, metres from the
    city's origin; GLB has y up, as all glTF. Where it stands is written beside it, see
    `whence.data.meshes`. Raises `BadOption` for another ending, and `MissingExtra` for GLB.
    """
    if path.suffix not in (".obj", ".glb"):
        raise BadOption(f"{path.name!r}: a mesh is written as .glb or .obj")
    sheets, quads = _textured(scene)
    if path.suffix == ".glb":
        _write_glb(path, sheets, quads)
    else:
        _write_obj(path, sheets, quads)
    plan = scene.plan
    origin = from_utm(plan.origin_east_m, plan.origin_north_m, zone=plan.zone)
    with atomic_write(place_file(path), "w") as file:
        file.write(
            json.dumps({"lat": origin.lat, "lon": origin.lon, "height_m": 0.0, "zone": plan.zone})
            + "\n"
        )
    return 2 * len(quads)


def _textured(scene: Scene) -> tuple[list[np.ndarray], list[_Quad]]:
    """Sheets of textures, and the quads that are drawn with them, in the order of the sheets."""
    atlas = _Atlas()
    placed: dict[tuple, tuple[int, int, int, int, int]] = {}
    quads: list[_Quad] = []

    def add(
        planes: tuple[np.ndarray, np.ndarray, np.ndarray], key: tuple, texture: Texture
    ) -> None:
        if key not in placed:
            placed[key] = atlas.add(texture.base)
        quads.append(_Quad(*planes, placed[key]))

    fronts, walls, ground = scene.fronts, scene.walls, scene.ground
    for k in range(len(scene.plan.lots)):
        add(
            (fronts.origin[k], fronts.across[k], fronts.down[k]),
            ("front", k),
            scene.load_far_front(k, _EPOCH),
        )
    for k in range(len(walls.origin)):
        key = ("party", k % 7)
        add((walls.origin[k], walls.across[k], walls.down[k]), key, scene.texture(key))
    for k, key in enumerate(ground.keys):
        # What is drawn first in photos lies uppermost here, where only depth decides.
        lift = np.array([0, 0, _LIFT_M["asphalt" if key[1] == "asphalt" else str(key[0])]])
        add((ground.origin[k] + lift, ground.across[k], ground.down[k]), key, scene.texture(key))
    return atlas.sheets, sorted(quads, key=lambda quad: quad.box[0])


def _as_jpeg(sheet: np.ndarray) -> bytes:
    return bytes(cv2.imencode(".jpg", sheet[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 88])[1])


def _write_glb(path: Path, sheets: list[np.ndarray], quads: list[_Quad]) -> None:
    trimesh = need_trimesh(f"writing {path.name!r}")
    whole = trimesh.Scene()
    for number, sheet in enumerate(sheets):
        own = [quad for quad in quads if quad.box[0] == number]
        x, y, z = np.concatenate([quad.corners for quad in own]).T
        faces = (4 * np.arange(len(own))[:, None, None] + np.array([[0, 1, 2], [0, 2, 3]])).reshape(
            -1, 3
        )
        material = trimesh.visual.material.PBRMaterial(
            baseColorTexture=Image.open(io.BytesIO(_as_jpeg(sheet))),
            metallicFactor=0.0,
            roughnessFactor=1.0,
        )
        texture = np.concatenate([quad.texture_corners for quad in own])
        visual = trimesh.visual.TextureVisuals(uv=texture, material=material)
        whole.add_geometry(
            trimesh.Trimesh(np.stack([x, z, -y], axis=1), faces, visual=visual, process=False),
            f"sheet{number}",
        )
    with atomic_write(path) as file:
        file.write(whole.export(file_type="glb"))


def _write_obj(path: Path, sheets: list[np.ndarray], quads: list[_Quad]) -> None:
    for number, sheet in enumerate(sheets):
        with atomic_write(path.with_name(f"{path.stem}_{number}.jpg")) as file:
            file.write(_as_jpeg(sheet))
    materials = "".join(
        f"newmtl sheet{k}\nKd 1 1 1\nmap_Kd {path.stem}_{k}.jpg\n" for k in range(len(sheets))
    )
    with atomic_write(path.with_suffix(".mtl"), "w") as file:
        file.write(materials)
    with atomic_write(path, "w") as file:
        file.write(f"mtllib {path.stem}.mtl\n")
        file.write("".join(_lines(quads)))


def _lines(quads: list[_Quad]) -> list[str]:
    """OBJ lines of textured quads, sheet by sheet, two triangles each."""
    lines: list[str] = []
    sheet_now = -1
    for k, quad in enumerate(quads):
        if quad.box[0] != sheet_now:
            sheet_now = quad.box[0]
            lines.append(f"usemtl sheet{sheet_now}\n")
        lines += [f"v {x:.3f} {y:.3f} {z:.3f}\n" for x, y, z in quad.corners]
        lines += [f"vt {u:.6f} {v:.6f}\n" for u, v in quad.texture_corners]
        a, b, c, d = (f"{4 * k + i}/{4 * k + i}" for i in (1, 2, 3, 4))
        lines.append(f"f {a} {b} {c}\nf {a} {c} {d}\n")
    return lines
