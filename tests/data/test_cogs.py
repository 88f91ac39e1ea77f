"""Cloud-optimised GeoTIFFs and reading by windows: what comes back, what cannot be read or written,
and what is left behind."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest

from whence.data.cogs import RasterLayout, write_cog
from whence.data.raster_windows import ArrayWindows, RasterWindows, open_windows
from whence.errors import UnreadableImage, UnwritableFile

rasterio = pytest.importorskip("rasterio")
PLACE = {
    "crs": "EPSG:32633",
    "transform": rasterio.Affine(10.0, 2.0, 500_000.0, 1.5, -10.0, 5_000_000.0),
}


def write(path: Path, bands: np.ndarray, **profile) -> Path:
    """A raster as anybody might have one."""
    profile = {"crs": "EPSG:32633", "transform": rasterio.Affine(10, 0, 0, 0, -10, 0), **profile}
    count, height, width = bands.shape
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        width=width,
        height=height,
        count=count,
        dtype=bands.dtype,
        **profile,
    ) as file:
        file.write(bands)
    return path


def test_blocks_become_one_raster_in_its_place(tmp_path):
    values = np.random.default_rng(0).integers(0, 255, (4, 700, 600), dtype=np.uint8)
    values[3] = np.where(np.arange(700)[:, None] < 300, 255, 0)
    blocks = [((x, y), values[:, y : y + 512, x : x + 512]) for y in (0, 512) for x in (0, 512)]
    write_cog(
        tmp_path / "a.tif", RasterLayout((600, 700), 4, "uint8", has_alpha=True, **PLACE), blocks
    )
    assert [path.name for path in tmp_path.iterdir()] == ["a.tif"]
    with rasterio.open(tmp_path / "a.tif") as file:
        assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert file.overviews(1) == [2]
        assert (file.crs.to_epsg(), file.transform) == (32633, PLACE["transform"])
        assert file.colorinterp[3].name == "alpha"
        assert np.array_equal(file.read(), values)
    with RasterWindows(tmp_path / "a.tif") as windows:
        assert windows.size_px == (600, 700)
        assert windows.is_placed
        pixels, known = windows.read(10, 290, 40, 20)
        assert np.array_equal(pixels[:10], values[:3, 290:300, 10:50].transpose(1, 2, 0))
        assert known[:10].all()
        assert not known[10:].any()
        small, _ = windows.read(0, 0, 600, 300, (60, 30))
        assert np.abs(small.mean(axis=(0, 1)) - values[:3, :300].mean(axis=(1, 2))).max() < 2
    if shutil.which("gdalinfo"):
        said = subprocess.run(
            ["gdalinfo", str(tmp_path / "a.tif")], capture_output=True, text=True, check=True
        ).stdout
        assert "32633" in said


def test_numbers_of_other_types_are_stretched_and_nan_is_not_known(tmp_path):
    ramp = np.tile(np.linspace(200, 9_000, 64), (48, 1))
    sixteen = write(tmp_path / "a.tif", ramp[None].astype(np.uint16))
    with RasterWindows(sixteen) as windows:
        pixels, known = windows.read(0, 0, 64, 48)
        assert known.all()
        assert pixels[0, 0].tolist() == [0, 0, 0]
        assert pixels[0, -1].tolist() == [255, 255, 255]
    holes = ramp.astype(np.float32)
    holes[:10, :20] = np.nan
    holes[40:] = -9999
    with RasterWindows(write(tmp_path / "b.tif", holes[None], nodata=-9999)) as windows:
        pixels, known = windows.read(0, 0, 64, 48)
        assert not known[:10, :20].any()
        assert not known[40:].any()
        assert known[10:40].all()
        assert (pixels[~known] == 0).all()
        assert pixels[20].max() == 255
    with pytest.raises(UnreadableImage, match=r"none\.tif.*none of its pixels"):
        RasterWindows(write(tmp_path / "none.tif", np.full((1, 8, 9), np.nan, np.float32)))
    with RasterWindows(write(tmp_path / "thin.tif", np.zeros((1, 9, 1), np.uint8))) as windows:
        assert windows.read(0, 0, 1, 9)[0].shape == (9, 1, 3)


def test_photos_are_read_as_rasters_are_and_no_raster_is_said(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (30, 40, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), pixels[..., ::-1])
    windows = open_windows(tmp_path / "a.png")
    assert windows.size_px == (40, 30)
    assert np.array_equal(windows.read(5, 6, 10, 12)[0], pixels[6:18, 5:15])
    assert windows.read(0, 0, 40, 30, (20, 15))[0].shape == (15, 20, 3)
    assert isinstance(windows, ArrayWindows)
    assert windows.shrunk(20).size_px == (20, 15)
    assert windows.shrunk(0) is windows
    windows.close()
    cv2.imwrite(str(tmp_path / "b.tif"), pixels[..., ::-1])
    unplaced = open_windows(tmp_path / "b.tif")
    assert isinstance(unplaced, RasterWindows)
    assert not unplaced.is_placed
    assert np.array_equal(unplaced.read(0, 0, 40, 30)[0], pixels)
    unplaced.close()
    (tmp_path / "c.tif").write_bytes(b"no raster")
    for name in ("c.tif", "d.tif", "e.png"):
        with pytest.raises(UnreadableImage, match=name):
            open_windows(tmp_path / name)


def test_a_raster_that_cannot_be_written_leaves_what_was_there(tmp_path):
    (tmp_path / "a.tif").write_bytes(b"before")
    layout = RasterLayout((20, 20), 1, "uint8")

    def broken():
        yield (0, 0), np.zeros((1, 20, 20), np.uint8)
        raise OSError(28, "no room")

    with pytest.raises(UnwritableFile, match=r"a\.tif"):
        write_cog(tmp_path / "a.tif", layout, broken())
    assert (tmp_path / "a.tif").read_bytes() == b"before"
    assert len(list(tmp_path.iterdir())) == 1
    with pytest.raises(UnwritableFile, match="nowhere"):
        write_cog(tmp_path / "nowhere" / "a.tif", layout, [])
    write_cog(tmp_path / "a.tif", layout, [((0, 0), np.full((1, 20, 20), 7, np.uint8))])
    with RasterWindows(tmp_path / "a.tif") as windows:
        assert not windows.is_placed
        assert (windows.read(0, 0, 20, 20)[0] == 7).all()
