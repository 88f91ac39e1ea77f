"""Registration of a raster larger than one likes to hold: tiles a second, and the most memory that
the process took.

    python benchmarks/registering.py [--side 10000] [--matcher orientation] [--max-tiles 60]
                                     [--whole]

A made-up raster of SIDE x SIDE pixels is written as a GeoTIFF, and registered to itself moved by a
few pixels, window by window. Without `--whole` only the first tiles are matched, and the warped
raster is written by what these say.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

from whence.data.cogs import RasterLayout, write_cog
from whence.data.raster_windows import RasterWindows
from whence.data.rasters import open_rasterio
from whence.localize.onto_grid import write_warped
from whence.localize.register import RegisterOptions, match_tiles, register
from whence.registry import build
from whence.runtime import set_threads

SHIFT_PX = (7, 4)
TILE = 1024
PATCH = 2048


class Enough(Exception):
    """So many tiles are enough."""


def make_ground() -> np.ndarray:
    """(PATCH, PATCH) uint8 of a texture that goes on at its edges."""
    random = np.random.default_rng(0)
    layers = [
        random.uniform(0, 1, (PATCH // step, PATCH // step)).repeat(step, 0).repeat(step, 1)
        for step in (4, 16, 64)
    ]
    return (255 * (0.3 * layers[0] + 0.3 * layers[1] + 0.4 * layers[2])).astype(np.uint8)


def ground(patch: np.ndarray, x: int, y: int, side: int) -> np.ndarray:
    """(side, side) of the texture, repeated."""
    rows, columns = ((np.arange(side) + start) % PATCH for start in (y, x))
    return patch[rows[:, None], columns[None]]


def write(path: Path, side: int, shift: tuple[int, int]) -> None:
    affine = open_rasterio().Affine(10, 0, 500_000, 0, -10, 5_000_000)
    patch = make_ground()
    blocks = (
        (
            (x, y),
            ground(patch, x + shift[0], y + shift[1], TILE)[
                None, : min(TILE, side - y), : min(TILE, side - x)
            ],
        )
        for y in range(0, side, TILE)
        for x in range(0, side, TILE)
    )
    write_cog(
        path, RasterLayout((side, side), 1, "uint8", crs="EPSG:32633", transform=affine), blocks
    )


def most_memory_gb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--side", type=int, default=10_000)
    parser.add_argument("--matcher", default="orientation")
    parser.add_argument("--max-tiles", type=int, default=60)
    parser.add_argument("--whole", action="store_true")
    arguments = parser.parse_args()
    set_threads(1)
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / name for name in ("moving.tif", "fixed.tif")]
        for file, shift in zip(files, ((0, 0), SHIFT_PX), strict=True):
            write(file, arguments.side, shift)
        print(
            f"{arguments.side} x {arguments.side} pixels written; "
            f"{most_memory_gb():.2f} GB at most so far",
            flush=True,
        )
        options = RegisterOptions()
        with RasterWindows(files[0]) as moving, RasterWindows(files[1]) as fixed:
            started, spent = time.perf_counter(), time.process_time()
            done = [0]

            def advance(num: int) -> None:
                done[0] += num
                if not arguments.whole and done[0] > arguments.max_tiles:
                    raise Enough

            matrix = np.array([[1, 0, -SHIFT_PX[0]], [0, 1, -SHIFT_PX[1]], [0, 0, 1.0]])
            try:
                found = register(
                    match_tiles(
                        moving, fixed, build("matcher", arguments.matcher), options, advance=advance
                    ),
                    options,
                )
                assert found.matrix is not None, found.reason
                print(
                    f"{found.num_inliers} inliers, off "
                    f"{np.abs(found.matrix - matrix)[:2, 2].max():.3f} px"
                )
            except Enough:
                pass
            wall, cpu = time.perf_counter() - started, time.process_time() - spent
            print(
                f"{done[0]} tiles: {done[0] / cpu:.2f} a CPU second, {done[0] / wall:.2f} a second",
                flush=True,
            )
            print(f"{most_memory_gb():.2f} GB at most while matching", flush=True)
            spent = time.process_time()
            write_warped(Path(folder) / "warped.tif", moving, fixed, matrix)
            print(
                f"warped and written in {time.process_time() - spent:.1f} CPU seconds; "
                f"{most_memory_gb():.2f} GB at most"
            )


if __name__ == "__main__":
    main()
