"""Textured triangle meshes: Wavefront OBJ."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from whence.data.tables import read_text
from whence.errors import UnreadableTable


@dataclass(frozen=True)
class TexturedMesh:
    """A triangle mesh with texture coordinates."""

    points_m: np.ndarray
    """(P, 3) metres."""
    texture_points: np.ndarray
    """(T, 2) in 0..1, row 0 at the bottom."""
    triangles: np.ndarray
    """(F, 3) rows of `points_m`."""
    texture_triangles: np.ndarray
    """(F, 3) rows of `texture_points`."""
    sheet: np.ndarray
    """(F,) which of `sheets`."""
    sheets: tuple[Path, ...]


def read_mesh(path: str | Path) -> TexturedMesh:
    """A textured triangle mesh from a Wavefront OBJ file and its materials. Raises `UnreadableTable` with the line."""
    path = Path(path)
    points: list[list[float]] = []
    texture: list[list[float]] = []
    corners: list[list[list[int]]] = []
    sheet_of: list[int] = []
    sheets: dict[str, int] = {}
    for line, text in enumerate(read_text(path).splitlines(), start=1):
        word, *values = text.split() or [""]
        try:
            if word == "v":
                points.append([float(value) for value in values[:3]])
            elif word == "vt":
                texture.append([float(value) for value in values[:2]])
            elif word == "usemtl":
                sheets.setdefault(values[0], len(sheets))
            elif word == "f":
                ring = [[int(part) - 1 for part in value.split("/")[:2]] for value in values]
                for k in range(1, len(ring) - 1):
                    corners.append([ring[0], ring[k], ring[k + 1]])
                    sheet_of.append(max(0, len(sheets) - 1) if not sheets else list(sheets.values())[-1])
        except (ValueError, IndexError) as error:
            raise UnreadableTable(path, f"not a line of an OBJ file ({error})", line=line) from None
    faces = np.array(corners, np.int64).reshape(-1, 3, 2)
    if len(faces) and (faces[..., 0].max() >= len(points) or faces[..., 1].max() >= len(texture) or faces.min() < 0):
        raise UnreadableTable(path, "a face names a point that is not there")
    images = _materials(path, list(sheets))
    return TexturedMesh(
        np.array(points).reshape(-1, 3),
        np.array(texture).reshape(-1, 2),
        faces[..., 0],
        faces[..., 1],
        np.array(sheet_of, int),
        images,
    )


def _materials(path: Path, names: list[str]) -> tuple[Path, ...]:
    images: dict[str, Path] = {}
    now = ""
    library = path.with_suffix(".mtl")
    for text in read_text(library).splitlines() if library.is_file() else []:
        word, *values = text.split() or [""]
        if word == "newmtl" and values:
            now = values[0]
        elif word == "map_Kd" and values:
            images[now] = path.parent / values[-1]
    return tuple(images.get(name, path.parent / f"{name}.jpg") for name in names)
