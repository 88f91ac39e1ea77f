"""Images that are read window by window, so that they may be larger than memory: rasters through
rasterio, and photos."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol, Self

import cv2
import numpy as np

from whence.data.images import load_image
from whence.data.rasters import SUFFIXES, open_rasterio, raster_errors
from whence.errors import MissingExtra, UnreadableImage

_LOOKED_AT_PX = 1024
_LIMITS_PERCENT = (0.1, 99.9)


class Windows(Protocol):
    """What is read window by window."""

    @property
    def size_px(self) -> tuple[int, int]:
        """Width and height."""
        ...

    def read(
        self, x: int, y: int, width: int, height: int, size_px: tuple[int, int] | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Pixels (h, w, 3) uint8 of a window, and (h, w) bool: which are known; at `size_px` where
        that is given."""
        ...


class ArrayWindows:
    """Pixels in memory."""

    def __init__(self, pixels: np.ndarray, is_known: np.ndarray | None = None) -> None:
        """Of uint8 (H, W, 3)."""
        self.pixels = pixels
        self.is_known = np.ones(pixels.shape[:2], bool) if is_known is None else is_known

    def close(self) -> None:
        """Nothing is open."""

    @property
    def size_px(self) -> tuple[int, int]:
        return self.pixels.shape[1], self.pixels.shape[0]

    def read(
        self, x: int, y: int, width: int, height: int, size_px: tuple[int, int] | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        pixels, is_known = (
            array[y : y + height, x : x + width] for array in (self.pixels, self.is_known)
        )
        if size_px is None or size_px == (width, height):
            return pixels, is_known
        way = cv2.INTER_AREA if size_px[0] < width else cv2.INTER_LINEAR
        shown = cv2.resize(is_known.astype(np.uint8), size_px, interpolation=cv2.INTER_NEAREST)
        return cv2.resize(pixels, size_px, interpolation=way), shown > 0

    def shrunk(self, max_side_px: int) -> ArrayWindows:
        """The same with the longer side no longer than this; 0 leaves it as it is."""
        width, height = self.size_px
        scale = max_side_px / max(width, height)
        if not max_side_px or scale >= 1:
            return self
        return ArrayWindows(
            *self.read(
                0, 0, width, height, (max(1, round(width * scale)), max(1, round(height * scale)))
            )
        )


class RasterWindows:
    """A raster of any type and number of bands. Close it, or use it in a `with` block."""

    def __init__(self, path: str | Path) -> None:
        """Raises `MissingExtra`, and `UnreadableImage` for what is no raster, or has no known
        pixel."""
        self.path = Path(path)
        rasterio = open_rasterio()
        self._open = ExitStack()
        with raster_errors(path):
            self.source: Any = self._open.enter_context(rasterio.open(path))
        try:
            with raster_errors(path):
                self._limits = self._find_limits()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._open.close()

    @property
    def size_px(self) -> tuple[int, int]:
        return self.source.width, self.source.height

    @property
    def is_placed(self) -> bool:
        """Whether the file says where on Earth it lies."""
        return self.source.crs is not None and not self.source.transform.is_identity

    def read(
        self, x: int, y: int, width: int, height: int, size_px: tuple[int, int] | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        values, known = self.read_bands(x, y, width, height, size_px, bands=self._bands)
        values = values.astype(np.float32)
        if self._limits is not None:
            low, high = self._limits
            values = 255 * (values - low) / max(high - low, 1e-9)
        shown = np.clip(np.rint(np.where(known, np.nan_to_num(values), 0)), 0, 255).astype(np.uint8)
        return np.ascontiguousarray(shown.transpose(1, 2, 0)), known

    def read_bands(
        self,
        x: int,
        y: int,
        width: int,
        height: int,
        size_px: tuple[int, int] | None = None,
        *,
        bands: list[int] | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Values (bands, h, w) of a window as they are in the file, and (h, w) bool: which are
        known. Raises `UnreadableImage`."""
        from rasterio.enums import Resampling
        from rasterio.windows import Window

        chosen = bands or list(self.source.indexes)
        across, down = size_px or (width, height)
        with raster_errors(self.path):
            found = self.source.read(
                chosen,
                window=Window(x, y, width, height),
                out_shape=(len(chosen), down, across),
                resampling=Resampling.average
                if (across, down) != (width, height)
                else Resampling.nearest,
                masked=True,
            )
        values = np.ma.getdata(found)
        is_finite = np.isfinite(values).all(axis=0)
        return values, np.asarray(~np.ma.getmaskarray(found).any(axis=0) & is_finite)

    @property
    def _bands(self) -> list[int]:
        return [1, 2, 3] if self.source.count >= 3 else [1, 1, 1]

    def _find_limits(self) -> tuple[float, float] | None:
        """The values that become black and white; None where they are bytes already."""
        if np.dtype(self.source.dtypes[0]) == np.uint8:
            return None
        width, height = self.size_px
        scale = min(1.0, _LOOKED_AT_PX / max(width, height))
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        values, known = self.read_bands(0, 0, width, height, size, bands=self._bands)
        if not known.any():
            raise UnreadableImage(self.path, "none of its pixels has a value")
        low, high = np.percentile(values[:, known].astype(np.float64), _LIMITS_PERCENT)
        return float(low), float(high)


def open_windows(path: str | Path) -> ArrayWindows | RasterWindows:
    """A raster, or any other photo, which is read whole, as rasters are without rasterio. Raises
    `UnreadableImage`."""
    if Path(path).suffix.lower() in SUFFIXES:
        try:
            return RasterWindows(path)
        except MissingExtra:
            pass
    return ArrayWindows(load_image(Path(path)))
