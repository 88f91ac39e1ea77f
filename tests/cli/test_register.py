"""`whence register`: what is printed and written, where it lies, and rasters of every odd kind."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from conftest import draw_place
from whence.cli import run
from whence.data.raster_windows import RasterWindows

rasterio = pytest.importorskip("rasterio")
SIDE = 256
TRUTH = np.array([[0.99, 0.03, 7.0], [-0.02, 1.02, -6.0], [0, 0, 1]])
PLACE = rasterio.Affine(12.0, 3.0, 400_000.0, 2.0, -12.0, 4_900_000.0)
"""Turned against north."""
SAYS = ["--matcher", "rootsift-mnn", "--tile", "0", "--json"]
TILED = ["--tile", "192", "--overlap", "64"]


def write(
    path: Path, pixels: np.ndarray, *, dtype: str = "uint8", place: bool = True, **profile
) -> Path:
    """Pixels (H, W, 3) as a raster of three bands."""
    where = {"crs": "EPSG:32633", "transform": PLACE} if place else {}
    bands = pixels.transpose(2, 0, 1).astype(dtype)
    sizes = {"count": len(bands), "height": bands.shape[1], "width": bands.shape[2]}
    with rasterio.open(path, "w", driver="GTiff", dtype=dtype, **sizes, **where, **profile) as file:
        file.write(bands)
    return path


@pytest.fixture(scope="module")
def images() -> tuple[np.ndarray, np.ndarray]:
    """A moving image, and it as the fixed one shows it, without black."""
    moving = cv2.GaussianBlur(draw_place(8, width=SIDE, height=SIDE), (0, 0), 0.8)
    return moving, cv2.warpPerspective(moving, TRUTH, (SIDE, SIDE), borderMode=cv2.BORDER_REFLECT)


@pytest.fixture(scope="module")
def rasters(images, tmp_path_factory) -> tuple[str, str]:
    root = tmp_path_factory.mktemp("rasters")
    return str(write(root / "moving.tif", images[0])), str(write(root / "fixed.tif", images[1]))


def said(capsys) -> dict:
    return json.loads(capsys.readouterr().out)


def corners_px(matrix: np.ndarray) -> np.ndarray:
    corners = np.array(
        [[[-0.5, -0.5], [SIDE - 0.5, -0.5], [SIDE - 0.5, SIDE - 0.5], [-0.5, SIDE - 0.5]]]
    )
    return cv2.perspectiveTransform(corners, matrix)[0]


def test_a_raster_is_laid_where_it_belongs(rasters, images, tmp_path, capsys):
    out = tmp_path / "warped.tif"
    files = [
        "--out",
        str(out),
        "--picture",
        str(tmp_path / "p.png"),
        "--points",
        str(tmp_path / "p.csv"),
    ]
    assert run(["register", *rasters, *SAYS, *TILED, *files]) == 0
    found = said(capsys)
    assert (found["status"], found["reason"]) == ("ok", "")
    assert found["inliers"] > 30
    assert 0 < found["rms"] < 1.5
    matrix = np.array(found["matrix"])
    assert np.linalg.norm(corners_px(matrix) - corners_px(TRUTH), axis=1).max() < 0.5
    with rasterio.open(out) as file:
        assert (file.crs.to_epsg(), file.transform, file.count) == (32633, PLACE, 4)
        assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        pixels, known = file.read([1, 2, 3]).transpose(1, 2, 0), file.read(4) > 0
    assert 0.8 < known.mean() < 1
    inner = cv2.erode(known.astype(np.uint8), np.ones((9, 9))) > 0
    off = [
        np.abs(np.roll(pixels, by, axis=1)[inner].astype(float) - images[1][inner]).mean()
        for by in (0, 3)
    ]
    assert off[0] < 0.3 * off[1]
    rows = np.loadtxt(tmp_path / "p.csv", delimiter=",", skiprows=1)
    there = cv2.perspectiveTransform(rows[None, :, :2], TRUTH)[0]
    assert np.linalg.norm(rows[:, 2:4] - there, axis=1).mean() < 1
    ground = np.array([PLACE * (x + 0.5, y + 0.5) for x, y in rows[:, 2:4]])
    assert np.abs(ground - rows[:, 4:]).max() < 1e-3
    plain, board = np.hsplit(cv2.imread(str(tmp_path / "p.png")).astype(float), 2)
    assert 0 < np.abs(plain - board).mean() < 12
    assert run(["register", *rasters, *SAYS[:-1], "-q"]) == 0
    assert "ok: " in capsys.readouterr().out


def test_turned_and_smaller(rasters, images, tmp_path, capsys):
    turn = np.array([[0.0, -0.6, 180.0], [0.6, 0.0, 20.0], [0, 0, 1]])
    turned = cv2.warpPerspective(cv2.GaussianBlur(images[0], (0, 0), 0.7), turn, (200, 200))
    cv2.imwrite(str(tmp_path / "t.png"), turned[..., ::-1])
    assert (
        run(
            [
                "register",
                rasters[0],
                str(tmp_path / "t.png"),
                *SAYS,
                "--turned",
                "--out",
                str(tmp_path / "w.tif"),
            ]
        )
        == 0
    )
    answer = capsys.readouterr()
    matrix = np.array(json.loads(answer.out)["matrix"])
    assert np.linalg.norm(corners_px(matrix) - corners_px(turn), axis=1).max() < 1.0
    assert "no place on Earth" in answer.err
    with RasterWindows(tmp_path / "w.tif") as written:
        assert not written.is_placed
        assert written.size_px == (200, 200)


def test_no_match_is_said_and_nothing_written(rasters, tmp_path, capsys):
    other = write(tmp_path / "other.tif", draw_place(30, width=SIDE, height=SIDE))
    for turned in ([], ["--turned"]):
        assert (
            run(
                [
                    "register",
                    str(other),
                    rasters[1],
                    *SAYS,
                    *turned,
                    "--out",
                    str(tmp_path / "w.tif"),
                ]
            )
            == 3
        )
        found = said(capsys)
        assert found["status"] in ("no_match", "no_tiles")
        assert (found["matrix"], found["rms"]) == (None, None)
        assert found["reason"]
    assert not (tmp_path / "w.tif").exists()
    assert run(["register", str(other), rasters[1], *SAYS[:-1]]) == 3
    assert "no_" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["uint16", "float32", "no crs", "thin"])
def test_rasters_of_every_kind(kind, images, tmp_path, capsys):
    moving, fixed = images
    out = tmp_path / "w.tif"
    if kind == "thin":
        thin = write(tmp_path / "m.tif", moving[:, :1])
        assert (
            run(
                [
                    "register",
                    str(thin),
                    str(write(tmp_path / "f.tif", fixed)),
                    *SAYS,
                    "--out",
                    str(out),
                ]
            )
            == 3
        )
        assert said(capsys)["status"] == "no_tiles"
        return
    values = moving.astype(float)
    if kind == "uint16":
        file = write(tmp_path / "m.tif", 1000 + 20 * values, dtype="uint16")
    elif kind == "float32":
        values[:60, :60] = np.nan
        file = write(tmp_path / "m.tif", values / 255, dtype="float32")
    else:
        with pytest.warns(rasterio.errors.NotGeoreferencedWarning):
            file = write(tmp_path / "m.tif", values, place=False)
    assert (
        run(
            ["register", str(file), str(write(tmp_path / "f.tif", fixed)), *SAYS, "--out", str(out)]
        )
        == 0
    )
    matrix = np.array(said(capsys)["matrix"])
    assert np.linalg.norm(corners_px(matrix) - corners_px(TRUTH), axis=1).max() < 0.6
    with rasterio.open(out) as written:
        assert written.crs.to_epsg() == 32633
        assert written.transform == PLACE
        bands = written.read()
        if kind == "float32":
            assert written.count == 3
            hole = cv2.perspectiveTransform(np.array([[[30.0, 30.0]]]), TRUTH)[0, 0].astype(int)
            assert np.isnan(bands[:, hole[1], hole[0]]).all()
            assert (
                np.abs(bands[0, 100:200, 100:200] - fixed[100:200, 100:200, 0] / 255).mean() < 0.03
            )
        elif kind == "uint16":
            assert written.dtypes[0] == "uint16"
            assert (
                np.abs(
                    bands[0, 100:200, 100:200] - (1000 + 20.0 * fixed[100:200, 100:200, 0])
                ).mean()
                < 150
            )
            assert bands[3].max() == 65535


def test_what_cannot_be_is_an_error(rasters, tmp_path, capsys):
    (tmp_path / "broken.tif").write_bytes(b"II*\0nothing")
    wrong = [
        ([str(tmp_path / "broken.tif"), rasters[1]], "broken.tif"),
        ([rasters[0], str(tmp_path / "missing.tif")], "missing.tif"),
        ([*rasters, "--normalisation", "percent"], "percentile"),
        ([*rasters, "--tile", "100", "--overlap", "100"], "overlap"),
        ([*rasters, "--geometry", "similarity"], "affine or homography"),
        ([*rasters, "--out", str(tmp_path / "no" / "a.tif")], "make the folder first"),
        ([*rasters, "--matcher", "orientations"], "orientation"),
        ([*rasters, "--turned", "--option", "is_upright=true"], "is_upright"),
    ]
    for arguments, message in wrong:
        assert run(["register", *arguments]) == 1, arguments
        assert message in capsys.readouterr().err
