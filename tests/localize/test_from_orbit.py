"""Photos from orbit in a database of tiles: a footprint with middle, roll and files, or unknown;
what is no such database."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from descriptor_samples import CARD, NAME, MeanColours
from whence import registry
from whence.cards import Entry
from whence.cli import run
from whence.data.footprints import footprint_of, iou
from whence.data.names import format_name
from whence.data.tiles import Tile, from_cells, tile_name
from whence.errors import BadOption
from whence.localize.coregister import CoregisterOptions
from whence.localize.from_orbit import OrbitLocalizer, holds_tiles
from whence.localize.localizer import Localizer
from whence.matching.matchers import open_mnn
from whence.types import GeoPoint

CELL_PX, ROW, COLUMN, ZOOM = 32, 720, 960, 11
WARP = np.array([[1.0, 0.25, 120.0], [-0.2, 1.05, 150.0], [2e-4, 1e-4, 1.0]])
"""From the pixels of the upright photo to those of the whole ground."""


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.MODELS, NAME, Entry(MeanColours, CARD))


@pytest.fixture(scope="module")
def ground(tmp_path_factory) -> Path:
    """Tiles of one piece of ground, a photo of it that is turned by a quarter, and one of other
    ground."""
    root = tmp_path_factory.mktemp("ground")
    random, side = np.random.default_rng(0), 12 * CELL_PX

    def texture() -> np.ndarray:
        layers = [
            cv2.resize(random.uniform(0, 1, (n, n, 3)), (side, side), interpolation=cv2.INTER_CUBIC)
            for n in (6, 24, 90)
        ]
        return np.clip(255 * (0.4 * layers[0] + 0.3 * layers[1] + 0.3 * layers[2]), 0, 255).astype(
            np.uint8
        )

    whole, other = texture(), texture()
    for row in range(0, 9, 2):
        for column in range(0, 9, 2):
            path = root / "tiles" / tile_name(Tile(ZOOM, ROW + row, COLUMN + column), year=2021)
            path.parent.mkdir(parents=True, exist_ok=True)
            piece = whole[
                row * CELL_PX : (row + 4) * CELL_PX, column * CELL_PX : (column + 4) * CELL_PX
            ]
            cv2.imwrite(str(path), piece, [cv2.IMWRITE_JPEG_QUALITY, 98])
    for name, source in (("photo", whole), ("elsewhere", other)):
        upright = cv2.warpPerspective(
            source, np.linalg.inv(WARP), (128, 128), flags=cv2.INTER_LINEAR
        )
        cv2.imwrite(str(root / f"{name}.png"), np.rot90(upright, -1))
    return root


@pytest.fixture(scope="module")
def database(ground, tmp_path_factory) -> Path:
    registry.MODELS[NAME] = Entry(MeanColours, CARD)
    path = tmp_path_factory.mktemp("database") / "tiles.whence"
    try:
        assert (
            run(
                [
                    "index",
                    str(ground / "tiles"),
                    "--db",
                    str(path),
                    "--model",
                    NAME,
                    "--no-calibrate",
                    "-q",
                ]
            )
            == 0
        )
    finally:
        del registry.MODELS[NAME]
    return path


def true_footprint() -> np.ndarray:
    """Of the photo as it is: turned clockwise, its lower left is the upright one's lower right."""
    corners = np.array([[127.5, 127.5], [-0.5, 127.5], [-0.5, -0.5], [127.5, -0.5]])
    there = cv2.perspectiveTransform(corners[None], WARP)[0] + 0.5
    return np.stack(
        from_cells(COLUMN + there[:, 0] / CELL_PX, ROW + there[:, 1] / CELL_PX, ZOOM), axis=1
    )


def test_a_photo_is_located_with_its_footprint(ground, database):
    with Localizer.open(database) as localizer:
        assert holds_tiles(localizer.photos)
        located = OrbitLocalizer(
            localizer,
            open_mnn("rootsift", is_upright=False),
            options=CoregisterOptions(side_px=128),
            num_candidates=6,
        )
        answer = located.locate(ground / "photo.png")
        assert answer.status == "located", answer.reason
        assert iou(answer.footprint, true_footprint()) > 0.95
        # Corner by corner, in their order.
        assert np.abs(answer.footprint - true_footprint()).max() < 0.02
        feature = answer.feature()
        # Its upper side is the upright photo's left one: it looks west, a little turned.
        assert feature["properties"]["roll_deg"] == pytest.approx(270, abs=30)
        assert feature["geometry"]["type"] == "Polygon"
        unknown = located.locate(ground / "elsewhere.png")
        assert (unknown.status, unknown.footprint) == ("unknown", None)
        assert len(unknown.candidates) == 6
        assert "points agree" in unknown.reason
        assert unknown.feature()["geometry"] is None
        broken = next(located.locate_many([ground / "gone.png"]))
        assert broken.status == "unknown"
        # At the edge of the tiles there is nothing to be seen.
        corner = next(
            row
            for row, path in enumerate(localizer.photos.paths)
            if f"_{ROW:04d}_{COLUMN:04d}" in path
        )
        around = located.surroundings(corner)
        assert not around[:128].any()
        assert around[128:256, 128:256].any()


def test_the_verb_writes_what_a_gis_opens(ground, database, tmp_path, capsys):
    pytest.importorskip("rasterio")
    out, table = tmp_path / "out", tmp_path / "all.geojson"
    ways = [
        "--db",
        str(database),
        "--set",
        "scorer_options.side_px=128",
        "--set",
        "num_candidates=4",
        "--georeference",
        str(out),
        "--geojson",
        str(table),
        "-q",
    ]
    assert run(["locate", str(ground / "photo.png"), *ways, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["status"] == "located"
    assert len(found["footprint"]) == 4
    written = {
        "photo.tif",
        "photo.geojson",
        "photo.wld",
        "photo.points.csv",
        "photo.overlay.png",
        "named",
    }
    assert {path.name for path in out.iterdir()} == written
    (named,) = (out / "named").iterdir()
    assert named.read_bytes() == (ground / "photo.png").read_bytes()
    assert np.allclose(footprint_of(named.name), found["footprint"], atol=1e-4)
    plain, covered = np.hsplit(cv2.imread(str(out / "photo.overlay.png")).astype(float), 2)
    assert 0 < np.abs(plain - covered).mean() < 12, "what is laid over the ground shows the same"
    (feature,) = json.loads(table.read_text())["features"]
    assert feature["properties"]["num_inliers"] >= 12
    assert len((out / "photo.points.csv").read_text().splitlines()) == 10
    assert run(["locate", str(ground / "elsewhere.png"), *ways]) == 3
    assert "unknown" in capsys.readouterr().out


def test_candidates_by_the_photo_s_own_place(ground, database, tmp_path, capsys):
    """A weak label chooses the tiles: some beside it, none of which the photo need look like."""
    lat, lon = true_footprint().mean(axis=0)
    photo = tmp_path / format_name(point=GeoPoint(lat + 0.05, lon - 0.05), extension=".png")
    shutil.copy(ground / "photo.png", photo)
    ways = [
        "--db",
        str(database),
        "--set",
        "scorer_options.side_px=128",
        "--set",
        "scorer_options.by=place",
        "--json",
        "-q",
    ]
    assert run(["locate", str(photo), *ways, "--set", "num_candidates=12"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert iou(np.array(found["footprint"]), true_footprint()) > 0.9
    assert run(["locate", str(ground / "photo.png"), *ways]) == 3
    assert "no place of its own" in json.loads(capsys.readouterr().out)["reason"]
    assert run(["locate", str(photo), *ways, "--set", "scorer_options.by=name"]) == 1
    assert "by=place" in capsys.readouterr().err


def test_what_cannot_be_is_said(ground, database, tmp_path, capsys):
    assert (
        run(
            [
                "locate",
                str(ground / "photo.png"),
                "--db",
                str(database),
                "--set",
                "scorer_options.ratio=2",
            ]
        )
        == 1
    )
    assert "side_px" in capsys.readouterr().err
    with Localizer.open(database) as localizer, pytest.raises(BadOption, match="candidate"):
        OrbitLocalizer(localizer, open_mnn("rootsift"), num_candidates=0)
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(3):
        cv2.imwrite(str(folder / f"{number}.png"), np.full((40, 40, 3), 60 * number, np.uint8))
    assert (
        run(
            [
                "index",
                str(folder),
                "--db",
                str(tmp_path / "p.whence"),
                "--model",
                NAME,
                "--no-calibrate",
                "-q",
            ]
        )
        == 0
    )
    ways = ["--db", str(tmp_path / "p.whence"), "--georeference", str(tmp_path / "out")]
    assert run(["locate", str(folder / "0.png"), *ways]) == 1
    assert "database of tiles" in capsys.readouterr().err
    with (
        Localizer.open(tmp_path / "p.whence") as localizer,
        pytest.raises(BadOption, match="no tiles"),
    ):
        OrbitLocalizer(localizer, open_mnn("rootsift"))
