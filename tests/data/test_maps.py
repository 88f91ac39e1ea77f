"""Maps cut into tiles: folders of a map server, georeferenced rasters with all that can be odd
about them, sets of EarthLoc."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from whence.cli import run
from whence.data.evaluation_sets import open_set, recognise
from whence.data.footprints import footprint_of, overlapping
from whence.data.maps import CellFolder, cut_tiles, tiles_over
from whence.data.orbital_sets import footprints_of, overlapping_rows
from whence.data.rasters import RasterMap
from whence.data.tiles import Tile, parse_footprint_name, tile_name
from whence.errors import BadOption, MissingExtra, NoPhotos, UnreadableImage, UnreadableTable


def write_picture(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.ascontiguousarray(pixels[..., ::-1]))


@pytest.fixture
def served(tmp_path):
    """A folder of 6 x 6 cells of 8 pixels of zoom 9, each of its own colour, one of them
    missing."""
    for row in range(180, 186):
        for column in range(240, 246):
            if (row, column) != (185, 245):
                colour = np.array([row - 100, column - 150, 40], np.uint8)
                write_picture(
                    tmp_path / f"map/9/{column}/{row}.png", np.broadcast_to(colour, (8, 8, 3))
                )
    return tmp_path / "map"


def test_a_folder_of_cells_is_cut_into_tiles_that_overlap_by_half(served, tmp_path):
    done = cut_tiles(CellFolder(served), tmp_path / "tiles", zooms=(9,), year=2021)
    found = {
        named.tile: path
        for path in (tmp_path / "tiles").rglob("*.jpg")
        if (named := parse_footprint_name(str(path)))
    }
    whole = [Tile(9, row, column) for row in (180, 182) for column in (240, 242)]
    assert set(whole) <= set(found)
    assert done.num_written == len(found)
    assert done.num_left_out > 0
    picture = cv2.imread(str(found[Tile(9, 182, 240)]))[..., ::-1].astype(int)
    assert picture.shape == (32, 32, 3)
    for down in range(4):
        for across in range(4):
            middle = picture[8 * down + 2 : 8 * down + 6, 8 * across + 2 : 8 * across + 6].mean(
                axis=(0, 1)
            )
            assert np.abs(middle - [82 + down, 90 + across, 40]).max() < 4
    again = cut_tiles(CellFolder(served), tmp_path / "tiles", zooms=(9,), year=2021)
    assert (again.num_written, again.num_known) == (0, done.num_written)


def test_cells_of_other_sizes_and_broken_ones_cost_their_tiles_alone(served, tmp_path):
    (served / "9/240/180.png").write_bytes(b"no picture")
    done = cut_tiles(CellFolder(served), tmp_path / "tiles", zooms=(9,), year=2021)
    assert done.skipped
    assert done.num_written > 0
    assert not any("09_0180_0240" in path.name for path in (tmp_path / "tiles").rglob("*.jpg"))
    with pytest.raises(BadOption, match="zooms"):
        cut_tiles(CellFolder(served), tmp_path / "tiles", zooms=(1,), year=2021)
    with pytest.raises(NoPhotos, match="ZOOM/COLUMN/ROW"):
        CellFolder(tmp_path / "tiles")


def test_tiles_do_not_reach_across_the_grids_edges():
    cells = np.array([(0, 0), (511, 511), (10, 511)])
    found = list(tiles_over(cells, 9))
    assert found
    for tile in found:
        assert min(tile.row, tile.column) >= 0
        assert max(tile.row, tile.column) + 4 <= 512


def test_cells_of_a_map_server_are_a_database_by_name_alone(served):
    assert recognise(served) != "xyz"
    photos = open_set(served, layout="xyz").database
    assert len(photos) == 35
    polygons, rows = footprints_of(photos)
    assert len(rows) == 35
    row = photos.paths.index("9/240/180.png")
    assert photos.lat[row] == pytest.approx(polygons[row][:, 0].mean())
    assert set(overlapping(polygons[row], polygons).tolist()) == {row}


def make_set(root: Path) -> list[Tile]:
    tiles = [Tile(9, 180, 240), Tile(9, 182, 242), Tile(10, 372, 500)]
    for year in (2020, 2021):
        for number, tile in enumerate(tiles):
            write_picture(
                root / "database" / tile_name(tile, year=year),
                np.full((8, 8, 3), 10 * number, np.uint8),
            )
    inside, nowhere = (
        tile_name(Tile(11, 728, 968), year=2019),
        tile_name(Tile(11, 100, 100), year=2019),
    )
    for name in (inside, nowhere):
        write_picture(root / "queries" / Path(name).name, np.zeros((8, 8, 3), np.uint8))
    return tiles


def test_earthlocs_folders_are_read_with_the_last_year_and_overlaps_as_truth(tmp_path):
    tiles = make_set(tmp_path)
    assert recognise(tmp_path) == "earthloc"
    found = open_set(tmp_path)
    assert len(found.database) == len(tiles)
    assert all("@2021@" in path for path in found.database.paths)
    right = {row: found.positives.of(row).tolist() for row in range(2)}
    first = next(row for row in range(2) if "_0728_" in found.queries.paths[row])
    named = [parse_footprint_name(path).tile for path in found.database.paths]
    assert {named[row] for row in right[first]} == {Tile(9, 180, 240), Tile(9, 182, 242)}
    assert right[1 - first] == []
    assert len(overlapping_rows(found.database, found.queries, least_iou=0.2).of(first)) == 0


def test_a_list_of_right_tiles_is_taken_before_overlaps(tmp_path):
    make_set(tmp_path)
    found = open_set(tmp_path)
    query = Path(found.queries.paths[0]).name
    table = tmp_path / "queries_intersections_with_db_2021.json"
    table.write_text(
        json.dumps({query: [f"database/{found.database.paths[2]}", "database/gone.jpg"]})
    )
    assert open_set(tmp_path).positives.of(0).tolist() == [2]
    table.write_text("[")
    with pytest.raises(UnreadableTable):
        open_set(tmp_path)


def write_raster(
    path: Path, values: np.ndarray, *, crs: str | None, transform, nodata: float | None = None
) -> None:
    rasterio = pytest.importorskip("rasterio")
    bands, height, width = values.shape
    ways = {
        "count": bands,
        "height": height,
        "width": width,
        "dtype": values.dtype,
        "crs": crs,
        "transform": transform,
    }
    with rasterio.open(path, "w", driver="GTiff", nodata=nodata, **ways) as file:
        file.write(values)


def square(lat: float, lon: float, side_deg: float, px: int):
    from rasterio.transform import from_bounds

    return from_bounds(lon, lat - side_deg, lon + side_deg, lat, px, px)


def test_a_raster_is_cut_where_it_lies(tmp_path):
    pytest.importorskip("rasterio")
    values = np.zeros((3, 256, 256), np.uint8)
    values[0, :, :128], values[1, :128], values[2] = 200, 200, 90
    write_raster(
        tmp_path / "map.tif", values, crs="EPSG:4326", transform=square(46.0, 7.0, 3.0, 256)
    )
    with RasterMap(tmp_path / "map.tif") as raster:
        assert raster.bounds == pytest.approx((43.0, 7.0, 46.0, 10.0), abs=1e-6)
        done = cut_tiles(raster, tmp_path / "tiles", zooms=(9,), year=2020, side_px=64)
    assert done.num_written > 0
    for path in (tmp_path / "tiles").rglob("*.jpg"):
        corners = footprint_of(str(path))
        lat, lon = corners.mean(axis=0)
        colour = cv2.imread(str(path))[..., ::-1][31:33, 31:33].mean(axis=(0, 1))
        if min(abs(lat - 44.5), abs(lon - 8.5)) > 0.1:
            assert (colour[0] > 100) == (lon < 8.5)
            assert (colour[1] > 100) == (lat > 44.5)


def test_rasters_across_the_antimeridian_and_around_a_pole_have_their_bounds(tmp_path):
    rasterio = pytest.importorskip("rasterio")
    noise = np.random.default_rng(0).integers(0, 4000, (1, 40, 40)).astype(np.uint16)
    around = rasterio.transform.from_bounds(-2e6, -2e6, 2e6, 2e6, 40, 40)
    write_raster(tmp_path / "pole.tif", noise, crs="EPSG:3995", transform=around)
    with RasterMap(tmp_path / "pole.tif") as raster:
        south, west, north, east = raster.bounds
        assert (west, north, east) == (-180.0, 90.0, 180.0)
        assert south < 72
        assert raster.cells(4)[:, 0].min() == 0
    across = rasterio.transform.from_bounds(300_000, 0, 1_100_000, 400_000, 40, 40)
    write_raster(tmp_path / "across.tif", noise, crs="EPSG:32660", transform=across)
    with RasterMap(tmp_path / "across.tif") as raster:
        _, west, _, east = raster.bounds
        assert west < 180 < east < 190
        columns = np.unique(raster.cells(9)[:, 1])
        assert {0, 511} <= set(columns.tolist())
        assert len(columns) < 20


def test_values_that_are_no_bytes_are_stretched_and_gaps_are_unknown(tmp_path):
    pytest.importorskip("rasterio")
    values = np.linspace(-5, 900, 128 * 128, dtype=np.float32).reshape(1, 128, 128)
    values[:, :, 64:] = np.nan
    write_raster(
        tmp_path / "float.tif", values, crs="EPSG:4326", transform=square(46.0, 7.0, 3.0, 128)
    )
    with RasterMap(tmp_path / "float.tif") as raster:
        pixels, known = raster.read(Tile(8, 90, 132))
    assert 0.05 < known.mean() < 0.95
    assert not pixels[~known].any()
    assert pixels[known].max() > 200


@pytest.mark.parametrize(
    ("crs", "shape", "reason"),
    [(None, (1, 20, 20), "coordinate system"), ("EPSG:4326", (1, 20, 1), "single pixel")],
)
def test_rasters_that_cover_no_ground_are_named(tmp_path, crs, shape, reason, capsys):
    pytest.importorskip("rasterio")
    write_raster(
        tmp_path / "odd.tif",
        np.ones(shape, np.uint8),
        crs=crs,
        transform=square(46.0, 7.0, 3.0, 20),
    )
    with pytest.raises(UnreadableImage, match=reason):
        RasterMap(tmp_path / "odd.tif")
    assert run(["tiles", str(tmp_path / "odd.tif"), "--out", str(tmp_path / "tiles")]) == 1
    assert "odd.tif" in capsys.readouterr().err


def test_what_is_no_raster_is_named_and_the_verb_cuts_folders(served, tmp_path, capsys):
    assert run(["tiles", str(served), "--out", str(tmp_path / "tiles"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["num_written"] > 0
    assert run(["tiles", str(served), "--out", str(tmp_path / "tiles"), "--zoom", "x"]) == 1
    (tmp_path / "text.tif").write_text("no raster")
    with pytest.raises((UnreadableImage, MissingExtra)):
        RasterMap(tmp_path / "text.tif")
