"""Pairs of images with tie points: SpaceNet 9's files, SRIF's affine maps, a table of such maps,
and landmarks in a gt.json."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from whence.data.images import image_header
from whence.data.numbers import finite_number
from whence.data.tables import read_text
from whence.errors import NoPhotos, UnreadableTable

TIES_ALONG = 20
LEAST_TIES = 4
_MAP_COLUMNS = ("a11", "a12", "tx", "a21", "a22", "ty")
_TIE_COLUMNS = ("sar_col", "sar_row", "optical_col", "optical_row")


@dataclass(frozen=True)
class TiePair:
    """A moving and a fixed image."""

    name: str
    kind: str
    """The folder that it lies in, or the case: what pairs have in common."""
    moving: Path
    fixed: Path
    ties: np.ndarray
    """(n, 4) x and y on the moving image and x and y on the fixed one, in pixels of the files."""


def tie_grid(
    matrix: np.ndarray, size0_px: tuple[int, int], size1_px: tuple[int, int]
) -> np.ndarray:
    """(n, 4) a grid of 20 x 20 points of an image with where a (3, 3) map takes them, of those that
    stay on the other image."""
    along = [np.linspace(0, side - 1, TIES_ALONG) for side in size0_px]
    grid = np.stack(np.meshgrid(*along), axis=-1).reshape(-1, 2)
    there = np.column_stack([grid, np.ones(len(grid))]) @ np.asarray(matrix, float).T
    there = there[:, :2] / there[:, 2:]
    inside = ((there >= 0) & (there <= np.array(size1_px) - 1)).all(axis=1)
    return np.column_stack([grid, there])[inside]


def read_registration_set(folder: str | Path) -> list[TiePair]:
    """All pairs below a folder, in order. Raises `NoPhotos` where there are none, `UnreadableTable`
    and `UnreadableImage`."""
    root = Path(folder)
    pairs: list[TiePair] = []
    for file in sorted(root.rglob("*")) if root.is_dir() else []:
        name = file.name
        if "_tiepoints_" in name and file.suffix == ".csv":
            pairs.append(_spacenet_pair(file))
        elif name.startswith("gt_") and file.suffix == ".txt":
            pairs.append(_srif_pair(file))
        elif name == "gt.csv":
            pairs += _mapped_pairs(file)
        elif name == "gt.json":
            pairs += _landmark_pairs(file)
    chosen = [pair for pair in pairs if len(pair.ties) >= LEAST_TIES]
    if not chosen:
        raise NoPhotos(
            f"{str(folder)!r} holds no pairs of images with tie points: "
            "CASE_tiepoints_PART_NUMBER.csv beside "
            "CASE_sar_... and CASE_optical_..., gt_NUMBER.txt, gt.csv or gt.json are looked for"
        )
    return chosen


def _spacenet_pair(table: Path) -> TiePair:
    rows = list(csv.DictReader(read_text(table).splitlines()))
    if not rows or not set(_TIE_COLUMNS) <= set(rows[0]):
        raise UnreadableTable(table, f"the columns {', '.join(_TIE_COLUMNS)} are needed", line=1)
    ties = np.array(
        [
            _numbers(table, [row[column] for column in _TIE_COLUMNS], line)
            for line, row in enumerate(rows, 2)
        ]
    )
    case, _, number = table.stem.partition("_tiepoints_")
    sar, optical = (table.with_name(f"{case}_{kind}_{number}.tif") for kind in ("sar", "optical"))
    return TiePair(f"{case} {number}", case, sar, optical, ties)


def _srif_pair(file: Path) -> TiePair:
    """An affine map of 2 x 3 numbers, or of 3 x 3."""
    values = _numbers(file, read_text(file).replace(",", " ").split(), None)
    if len(values) not in (6, 9):
        raise UnreadableTable(file, f"2 x 3 or 3 x 3 numbers are expected, not {len(values)}")
    number = file.stem.removeprefix("gt_")
    images = [
        next(iter(sorted(file.parent.glob(f"pair{number}_{side}.*"))), None) for side in (1, 2)
    ]
    if images[0] is None or images[1] is None:
        raise UnreadableTable(file, f"pair{number}_1 and pair{number}_2 are not beside it")
    return _mapped(number, file.parent.name, images[0], images[1], values)


def _mapped_pairs(table: Path) -> Iterator[TiePair]:
    for line, row in enumerate(csv.DictReader(read_text(table).splitlines()), 2):
        if not {"image_1", "image_2", *_MAP_COLUMNS} <= set(row):
            raise UnreadableTable(
                table, f"the columns image_1, image_2, {', '.join(_MAP_COLUMNS)} are needed", line=1
            )
        values = _numbers(table, [row[column] for column in _MAP_COLUMNS], line)
        images = [table.parent / row[column] for column in ("image_1", "image_2")]
        yield _mapped(row["image_1"], images[0].parent.name, images[0], images[1], values)


def _mapped(name: str, kind: str, moving: Path, fixed: Path, values: list[float]) -> TiePair:
    matrix = np.vstack([np.array(values).reshape(-1, 3), [0, 0, 1]])[:3]
    sizes = [(one.width, one.height) for one in map(image_header, (moving, fixed))]
    return TiePair(name, kind, moving, fixed, tie_grid(matrix, sizes[0], sizes[1]))


def _landmark_pairs(file: Path) -> Iterator[TiePair]:
    try:
        found: Any = json.loads(read_text(file))
        for name, one in found.items():
            images = [file.parent / Path(one["files"][side]).name for side in ("I_move", "I_fix")]
            ties = np.column_stack(
                [np.array(one[side], float).reshape(-1, 2) for side in ("mov", "fix")]
            )
            yield TiePair(name, file.parent.name, images[0], images[1], ties)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UnreadableTable(
            file, f"each pair needs files (I_move, I_fix), mov and fix: {error}"
        ) from None


def _numbers(file: Path, texts: list[str], line: int | None) -> list[float]:
    values = [finite_number(text) for text in texts]
    if any(value is None for value in values):
        raise UnreadableTable(file, "a number is expected", line=line)
    return [value for value in values if value is not None]
