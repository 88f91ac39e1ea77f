"""Georeferenced rasters (GeoTIFF, cloud-optimised or not) through rasterio: as maps to cut tiles
from, by windows.

Bands of more than 8 bits are stretched between the 2nd and 98th percentile of the whole, NaN and
nodata are unknown.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, Self

import numpy as np

from whence.data.tiles import CELL_PX, CELLS, Tile, to_cells
from whence.errors import MissingExtra, UnreadableImage

SUFFIXES = (".tif", ".tiff", ".vrt", ".jp2")
MERCATOR = "EPSG:3857"
_HALF_M = 20037508.342789244
_MOST_LAT = 85.05
_LOOKED_AT_PX = 512


def open_rasterio() -> ModuleType:
    """The package rasterio. Raises `MissingExtra` where it is not installed."""
    try:
        import rasterio
    except ImportError:
        raise MissingExtra("reading and writing georeferenced rasters", "earth") from None
    module: ModuleType = rasterio
    return module


@contextmanager
def raster_errors(path: str | Path) -> Iterator[None]:
    """Turn what rasterio raises inside the block into `UnreadableImage`."""
    rasterio = open_rasterio()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
            yield
    except (rasterio.errors.RasterioError, ValueError) as error:
        raise UnreadableImage(path, str(error)) from error


class RasterMap:
    """One raster as a map. Close it, or use it in a `with` block."""

    def __init__(self, path: str | Path) -> None:
        """Raises `MissingExtra`, and `UnreadableImage` for what is no raster, or has no place on
        Earth."""
        self.path = Path(path)
        rasterio = open_rasterio()
        with raster_errors(path):
            self._source = rasterio.open(path)
        try:
            if self._source.crs is None:
                raise UnreadableImage(
                    path,
                    "it has no coordinate system; give it one with gdal_edit.py -a_srs EPSG:...",
                )
            if self._source.transform.is_identity or min(self._source.shape) < 2:
                raise UnreadableImage(
                    path, "it has no georeference, or is a single pixel wide: it covers no ground"
                )
            with raster_errors(path):
                self._bounds = self._in_degrees()
                self._stretch = self._limits()
        except BaseException:
            self._source.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._source.close()

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """South, west, north, east in degrees; east is above 180 where the raster crosses the
        antimeridian."""
        return self._bounds

    def zoom(self) -> int:
        """The zoom at whose cells of 256 pixels the raster is about as fine as it is."""
        _, west, _, east = self._bounds
        across = (east - west) / 360 / self._source.width
        return int(np.clip(np.rint(np.log2(1 / (across * CELL_PX))), 2, 22))

    def cells(self, zoom: int) -> np.ndarray:
        south, west, north, east = self._bounds
        (first_column, last_column), (first_row, last_row) = to_cells(
            np.clip([north, south], -_MOST_LAT, _MOST_LAT), np.array([west, east]), zoom
        )
        num = 2**zoom
        rows = np.arange(max(0, int(np.floor(first_row))), min(num, int(np.ceil(last_row))))
        columns = np.unique(np.arange(int(np.floor(first_column)), int(np.ceil(last_column))) % num)
        return np.stack(np.meshgrid(rows, columns, indexing="ij"), axis=-1).reshape(-1, 2)

    def read(self, tile: Tile) -> tuple[np.ndarray, np.ndarray]:
        from rasterio.enums import Resampling
        from rasterio.transform import from_bounds
        from rasterio.vrt import WarpedVRT

        side, step = CELLS * CELL_PX, 2 * _HALF_M / 2**tile.zoom
        left, top = -_HALF_M + tile.column * step, _HALF_M - tile.row * step
        onto = from_bounds(left, top - CELLS * step, left + CELLS * step, top, side, side)
        with (
            raster_errors(self.path),
            WarpedVRT(
                self._source,
                crs=MERCATOR,
                transform=onto,
                width=side,
                height=side,
                resampling=Resampling.bilinear,
                add_alpha=True,
            ) as view,
        ):
            bands = self._bands
            pixels = view.read(bands).astype(np.float32)
            known = view.read(view.count) > 0
        known &= np.isfinite(pixels).all(axis=0)
        return self._as_rgb(pixels, known), known

    @property
    def _bands(self) -> list[int]:
        return [1, 2, 3] if self._source.count >= 3 else [1, 1, 1]

    def _as_rgb(self, pixels: np.ndarray, is_known: np.ndarray) -> np.ndarray:
        if self._stretch is not None:
            low, high = self._stretch
            pixels = (
                255 * (pixels - low[:, None, None]) / np.maximum(high - low, 1e-9)[:, None, None]
            )
        pixels = np.where(is_known, np.nan_to_num(pixels), 0)
        return np.ascontiguousarray(
            np.clip(np.rint(pixels), 0, 255).astype(np.uint8).transpose(1, 2, 0)
        )

    def _limits(self) -> tuple[np.ndarray, np.ndarray] | None:
        """The values that become black and white, of each band; None where they are bytes
        already."""
        if np.dtype(self._source.dtypes[0]) == np.uint8:
            return None
        scale = max(1.0, max(self._source.shape) / _LOOKED_AT_PX)
        shape = tuple(max(1, round(side / scale)) for side in self._source.shape)
        found: Any = self._source.read(self._bands, out_shape=(3, *shape), masked=True).astype(
            np.float64
        )
        values = [band.compressed()[np.isfinite(band.compressed())] for band in found]
        if not all(len(band) for band in values):
            raise UnreadableImage(self.path, "none of its pixels has a value")
        return tuple(
            np.array([np.percentile(band, share) for band in values], np.float32)
            for share in (2, 98)
        )  # type: ignore[return-value]

    def _in_degrees(self) -> tuple[float, float, float, float]:
        from rasterio.warp import transform

        # Its edge, point by point: boxes of corners would cut rotated rasters, and those around a
        # pole.
        height, width = self._source.shape
        t = np.linspace(0, 1, 33)
        edge = np.concatenate(
            [
                np.stack(pair, axis=1)
                for pair in ((t, 0 * t), (1 + 0 * t, t), (1 - t, 1 + 0 * t), (0 * t, 1 - t))
            ]
        )
        onto = self._source.transform
        columns, rows = edge[:, 0] * width, edge[:, 1] * height
        x, y = onto.a * columns + onto.b * rows + onto.c, onto.d * columns + onto.e * rows + onto.f
        lon, lat = (
            np.array(values)
            for values in transform(self._source.crs, "EPSG:4326", list(x), list(y))
        )
        if not np.isfinite([lon, lat]).all():
            raise UnreadableImage(
                self.path, "its corners lie nowhere on Earth by its coordinate system"
            )
        steps = (np.diff(np.append(lon, lon[0])) + 180) % 360 - 180
        if abs(steps.sum()) > 180:
            pole = 90.0 if lat.mean() > 0 else -90.0
            return min(lat.min(), pole), -180.0, max(lat.max(), pole), 180.0
        along = lon[0] + np.concatenate([[0], np.cumsum(steps[:-1])])
        shift = np.floor((along.min() + 180) / 360) * 360
        return (
            float(lat.min()),
            float(along.min() - shift),
            float(lat.max()),
            float(along.max() - shift),
        )
