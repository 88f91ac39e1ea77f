"""Shares of an Earth world: sheets of ground that are painted and cut into tiles, and photos."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from whence.data.tiles import CELLS, Tile
from whence.worlds.earth.ground import ZOOM, Survey
from whence.worlds.earth.noise import Window
from whence.worlds.earth.orbit import take
from whence.worlds.earth.paint import Day, backscatter, paint
from whence.worlds.earth.plan import SHEET_CELLS, EarthSpec, NamedPhoto, RegionWork
from whence.worlds.shards import write_photo

_QUALITY = 90
_FINEST = 4
"""Cells of the finest zoom along one of zoom 9."""


class Job(NamedTuple):
    """What is rendered at once: the files it writes, and how."""

    paths: tuple[str, ...]
    render: Callable[[Path], None]


def jobs_of(spec: EarthSpec) -> Iterator[Job]:
    """All jobs of a world, in order."""
    for size in spec.regions:
        work = RegionWork.of(spec, size)
        for sheet in work.sheets:
            paths = [
                work.tile_path(tile, year) for tile in work.tiles_of(sheet) for year in size.years
            ]
            if spec.has_sar:
                paths += [
                    work.tile_path(tile, size.years[-1], folder="sar")
                    for tile in work.tiles_of(sheet)
                ]
            if paths:
                yield Job(tuple(paths), partial(_render_sheet, work, sheet))
        for number in range(size.num_photos):
            photo = work.photo(number)
            yield Job((photo.path,), partial(_render_photo, work, photo))


def render_share(
    out: Path, spec: EarthSpec, *, shard: int, num_shards: int, advance: Callable[[int], None]
) -> None:
    """Render what is not there yet of one share of the jobs; `advance` is told how many files were
    written."""
    for number, job in enumerate(jobs_of(spec)):
        if number % num_shards == shard:
            missing = sum(not (out / path).is_file() for path in job.paths)
            if missing:
                job.render(out)
                advance(missing)


def _render_sheet(work: RegionWork, sheet: tuple[int, int], out: Path) -> None:
    cell_px = work.spec.tile_px // CELLS
    km = work.region.km_per_cell / (_FINEST * cell_px)
    side = SHEET_CELLS * _FINEST * cell_px
    survey = Survey(
        work.region,
        Window(
            sheet[1] * work.region.km_per_cell, sheet[0] * work.region.km_per_cell, km, side, side
        ),
    )
    tiles = list(work.tiles_of(sheet))

    def cut(pixels: np.ndarray, year: int, folder: str) -> None:
        scaled = {
            zoom: _shrunk(pixels, 2 ** (ZOOM + 2 - zoom)) for zoom in {tile.zoom for tile in tiles}
        }
        for tile in tiles:
            path = out / work.tile_path(tile, year, folder=folder)
            if not path.is_file():
                write_photo(
                    path, _cut(scaled[tile.zoom], tile, work, sheet, cell_px), quality=_QUALITY
                )

    for year in work.size.years:
        if not all((out / work.tile_path(tile, year)).is_file() for tile in tiles):
            cut((255 * paint(survey, Day(year)) + 0.5).astype(np.uint8), year, "database")
    if work.spec.has_sar:
        cut(
            np.repeat((255 * backscatter(survey) + 0.5).astype(np.uint8)[..., None], 3, axis=2),
            work.size.years[-1],
            "sar",
        )


def _shrunk(pixels: np.ndarray, factor: int) -> np.ndarray:
    side = pixels.shape[0] // factor
    return pixels if factor == 1 else cv2.resize(pixels, (side, side), interpolation=cv2.INTER_AREA)


def _cut(
    pixels: np.ndarray, tile: Tile, work: RegionWork, sheet: tuple[int, int], cell_px: int
) -> np.ndarray:
    scale = 2 ** (tile.zoom - ZOOM)
    top = (tile.row - scale * (work.region.row + sheet[0])) * cell_px
    left = (tile.column - scale * (work.region.column + sheet[1])) * cell_px
    return np.ascontiguousarray(pixels[top : top + CELLS * cell_px, left : left + CELLS * cell_px])


def _render_photo(work: RegionWork, photo: NamedPhoto, out: Path) -> None:
    pixels, _ = take(work.region, photo.shot, side_px=work.spec.photo_px)
    write_photo(out / photo.path, pixels, quality=_QUALITY)
