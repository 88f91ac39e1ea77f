"""Cloud-optimised GeoTIFFs: written block by block, so that they may be larger than memory, with
overviews; whole or not at all."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from whence.data.rasters import open_rasterio
from whence.errors import UnwritableFile
from whence.runtime import atomic_write

BLOCK_PX = 512


@dataclass(frozen=True)
class RasterLayout:
    """What a raster is like."""

    size_px: tuple[int, int]
    num_bands: int
    dtype: str
    crs: Any = None
    transform: Any = None
    """rasterio's affine map from columns and rows to the coordinate system; None leaves the raster
    without a place."""
    has_alpha: bool = False
    """Whether the last band says what is known."""
    nodata: float | None = None


def write_cog(
    path: str | Path, layout: RasterLayout, blocks: Iterable[tuple[tuple[int, int], np.ndarray]]
) -> None:
    """Write blocks, each with the column and row where it begins and its values (bands, h, w), as
    one cloud-optimised GeoTIFF.

    Raises `MissingExtra` and `UnwritableFile`.
    """
    rasterio = open_rasterio()
    from rasterio.enums import ColorInterp
    from rasterio.shutil import copy
    from rasterio.windows import Window

    target = Path(path)
    width, height = layout.size_px
    # Given on opening: set later, rasterio would warn that there is no place.
    place = {} if layout.transform is None else {"crs": layout.crs, "transform": layout.transform}
    is_coloured = layout.num_bands - layout.has_alpha == 3 and layout.dtype == "uint8"
    kinds = [ColorInterp.red, ColorInterp.green, ColorInterp.blue] if is_coloured else []
    kinds += [ColorInterp.gray] + [ColorInterp.undefined] * layout.num_bands if not kinds else []
    kinds = kinds[: layout.num_bands - layout.has_alpha] + [ColorInterp.alpha] * layout.has_alpha
    with (
        atomic_write(target) as out,
        TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as folder,
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        try:
            plain, whole = (str(Path(folder) / name) for name in ("plain.tif", "whole.tif"))
            with rasterio.open(
                plain,
                "w",
                driver="GTiff",
                width=width,
                height=height,
                count=layout.num_bands,
                dtype=layout.dtype,
                nodata=layout.nodata,
                tiled=True,
                blockxsize=BLOCK_PX,
                blockysize=BLOCK_PX,
                bigtiff="if_safer",
                **place,
            ) as file:
                file.colorinterp = kinds
                for (column, row), values in blocks:
                    file.write(values, window=Window(column, row, values.shape[2], values.shape[1]))
            copy(
                plain,
                whole,
                driver="COG",
                compress="deflate",
                overview_resampling="average",
                bigtiff="if_safer",
            )
        except rasterio.errors.RasterioError as error:
            raise UnwritableFile(target, str(error)) from error
        with open(whole, "rb") as made:
            shutil.copyfileobj(made, out)
