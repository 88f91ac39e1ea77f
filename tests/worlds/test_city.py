"""Whole worlds: what is written, that it is the same however it is rendered, and that names say the
truth."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from whence.data.names import parse_name
from whence.errors import BadOption, InputError, UnknownName, UnwritableFile
from whence.geo import heading_difference_deg, to_utm
from whence.worlds import city as city_module
from whence.worlds.capture import CaptureOptions
from whence.worlds.city import WorldOptions, _claim, make_spec, render_world
from whence.worlds.presets import PRESETS, CitySize, WorldSpec

MINI = WorldOptions(
    capture=CaptureOptions(width=96, height=72),
    cities=(CitySize("city00", "", 18, 12, 4),),
    px_per_m=12.0,
)


def photos_of(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.jpg"))
    }


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    out = tmp_path_factory.mktemp("world") / "mini"
    summary = render_world(out, seed=5, options=MINI, num_workers=1)
    return out, summary


def test_a_world_holds_what_was_asked_for(world):
    out, summary = world
    assert (
        summary.num_database,
        summary.num_queries,
        summary.num_unknown,
        summary.num_rendered,
    ) == (18, 12, 4, 34)
    assert len(list((out / "database").glob("*.jpg"))) == 18
    assert len(list((out / "queries").glob("*/*.jpg"))) == 12
    assert len(list((out / "queries_unknown").glob("*/*.jpg"))) == 4
    for path in out.rglob("*.jpg"):
        assert cv2.imread(str(path)).shape == (72, 96, 3)


def test_names_carry_position_heading_time_and_condition(world):
    out, _ = world
    with open(out / "cameras.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 34
    for row in rows:
        fields = parse_name(row["path"])
        rotation = np.array([[float(row[f"r{i}{j}"]) for j in range(3)] for i in range(3)])
        centre = -rotation.T @ [float(row[f"t{i}"]) for i in range(3)]
        east, north = (
            float(row["origin_east_m"]) + centre[0],
            float(row["origin_north_m"]) + centre[1],
        )
        assert math.hypot(fields.plane.east_m - east, fields.plane.north_m - north) < 0.02
        assert fields.plane.zone == row["zone"]
        # The fields of latitude and longitude hold five decimals, one metre.
        back = to_utm(fields.point, zone=row["zone"])
        assert math.hypot(back.east_m - east, back.north_m - north) < 1.5
        assert heading_difference_deg(fields.heading_deg, float(row["heading_deg"])) <= 0.51
        assert fields.note == row["condition"]
        assert fields.time is not None
        if row["role"] != "database":
            assert Path(row["path"]).parent.name == row["condition"]


def test_heading_is_the_direction_of_the_optical_axis_from_true_north(world):
    """A point 50 m ahead of the camera, brought to latitude and longitude, lies in the heading's
    direction."""
    from whence.geo import from_utm, heading_to

    out, _ = world
    with open(out / "cameras.csv", newline="") as file:
        for row in csv.DictReader(file):
            rotation = np.array([[float(row[f"r{i}{j}"]) for j in range(3)] for i in range(3)])
            centre = -rotation.T @ [float(row[f"t{i}"]) for i in range(3)]
            ahead = centre + 50 * rotation[2]
            points = [
                from_utm(
                    float(row["origin_east_m"]) + p[0],
                    float(row["origin_north_m"]) + p[1],
                    zone=row["zone"],
                )
                for p in (centre, ahead)
            ]
            assert heading_difference_deg(heading_to(*points), float(row["heading_deg"])) < 0.01


def test_the_same_seed_gives_the_same_files(world, tmp_path):
    out, _ = world
    render_world(tmp_path / "again", seed=5, options=MINI, num_workers=1)
    assert photos_of(tmp_path / "again") == photos_of(out)


def test_any_number_of_workers_gives_the_same_pixels(world, tmp_path, monkeypatch):
    out, _ = world
    monkeypatch.setattr(city_module, "FEW_PHOTOS", 0)
    render_world(tmp_path / "two", seed=5, options=MINI, num_workers=2)
    found, expected = photos_of(tmp_path / "two"), photos_of(out)
    assert found.keys() == expected.keys()
    assert found == expected


def test_an_interrupted_world_goes_on_where_it_stopped(world, tmp_path):
    out, _ = world
    render_world(tmp_path / "part", seed=5, options=MINI, num_workers=1)
    expected = photos_of(tmp_path / "part")
    gone = sorted(expected)[3:7]
    kept = tmp_path / "part" / sorted(expected)[0]
    stamp = kept.stat().st_mtime_ns
    for name in gone:
        (tmp_path / "part" / name).unlink()
    summary = render_world(tmp_path / "part", seed=5, options=MINI, num_workers=1)
    assert summary.num_rendered == 4
    assert photos_of(tmp_path / "part") == expected == photos_of(out)
    assert kept.stat().st_mtime_ns == stamp


def test_another_seed_gives_another_city(world, tmp_path):
    out, _ = world
    render_world(
        tmp_path / "other",
        seed=6,
        options=replace(MINI, cities=(CitySize("city00", "", 6, 0, 0),)),
        num_workers=1,
    )
    assert not set(photos_of(tmp_path / "other")) & set(photos_of(out))


def test_a_folder_with_another_world_is_refused(world):
    out, _ = world
    before = photos_of(out)
    with pytest.raises(InputError, match=r"world\.json"):
        render_world(out, seed=6, options=MINI, num_workers=1)
    assert photos_of(out) == before


def test_a_folder_with_other_files_is_refused(tmp_path):
    (tmp_path / "mine.txt").write_text("kept")
    with pytest.raises(InputError, match="not an empty folder"):
        render_world(tmp_path, seed=1, options=MINI)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UnwritableFile, match="file"):
        render_world(tmp_path / "file" / "world", seed=1, options=MINI)


def test_wrong_options_are_named(tmp_path):
    with pytest.raises(UnknownName, match="small"):
        render_world(tmp_path / "a", preset="smal")
    with pytest.raises(UnknownName, match="folders"):
        render_world(tmp_path / "a", layout="folder")
    with pytest.raises(BadOption, match="seed"):
        render_world(tmp_path / "a", seed=-1)
    with pytest.raises(BadOption, match="pixels"):
        render_world(
            tmp_path / "a", options=WorldOptions(capture=CaptureOptions(width=4, height=4))
        )
    assert not (tmp_path / "a").exists()


def test_presets_have_the_sizes_of_the_specification():
    sizes = PRESETS["city"]
    train, test = [s for s in sizes if s.split == "train"], [s for s in sizes if s.split == "test"]
    assert len(train) >= 6
    assert (sum(s.num_database for s in train), sum(s.num_queries for s in train)) == (
        12_000,
        3_000,
    )
    assert [(s.num_database, s.num_queries, s.is_test_city) for s in test] == [
        (2000, 500, True)
    ] * 3
    assert (
        sum(s.num_database + s.num_queries + s.num_unknown for s in PRESETS["metropolis"])
        >= 1e5 * 0.95
    )
    assert (PRESETS["small"][0].num_database, PRESETS["small"][0].num_queries) == (600, 200)


def test_the_record_of_a_world_reads_back():
    spec = WorldSpec(seed=3, cities=PRESETS["city"], truth=("depth",))
    again = WorldSpec.from_json(spec.to_json())
    assert again == spec
    # The order of the conditions decides which run is which.
    assert list(again.capture.conditions) == list(spec.capture.conditions)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"seed": 1.5}, "seed is a whole number"),
        ({"cities": [{}]}, r"cities\.0\.name"),
        ({"capture": {"widht": 3}}, "capture.width"),
    ],
)
def test_records_of_worlds_that_are_none_are_named(change, words):
    values = json.loads(WorldSpec(seed=3, cities=PRESETS["tiny"]).to_json())
    with pytest.raises(InputError, match=words):
        WorldSpec.from_json(json.dumps({**values, **change}))


def test_a_world_of_before_goes_on_without_what_came_later(world, tmp_path):
    folder, _ = world
    record = json.loads((folder / "world.json").read_text())
    assert record.pop("repeated_share") == 0.0
    assert record["capture"].pop("queries_aside_m") == 0.0
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / "world.json").write_text(json.dumps(record))
    found = make_spec("small", seed=5, layout="folders", options=MINI)
    _claim(tmp_path / "w", found)
    with pytest.raises(InputError, match="another world"):
        _claim(tmp_path / "w", replace(found, repeated_share=0.5))
    with pytest.raises(InputError, match="another world"):
        _claim(tmp_path / "w", replace(found, capture=replace(found.capture, queries_aside_m=2.0)))
