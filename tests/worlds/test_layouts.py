"""Every layout a world can write is read back by the project's own readers, with the same photos
and the same truth."""

from __future__ import annotations

import csv
import json
from dataclasses import replace

import cv2
import numpy as np
import pytest

from whence.data.columns import PositionColumns
from whence.data.drives import read_msls, read_sequences
from whence.data.evaluation_sets import open_set
from whence.data.formats import read_folders
from whence.data.layouts import (
    read_clients,
    read_gsv_cities,
    read_labelled,
    read_mesh_pairs,
    read_sf_xl,
    read_sf_xl_test,
    sf_xl_folder,
)
from whence.data.meshes import read_mesh, read_place
from whence.data.names import parse_name
from whence.data.partition import CellOptions, make_partition
from whence.data.placed_files import read_placed_files
from whence.errors import BadOption, InputError, NoPhotos, UnreadableTable
from whence.geo import heading_difference_deg
from whence.worlds.capture import CaptureOptions
from whence.worlds.city import WorldOptions, make_spec, render_world
from whence.worlds.layouts import LAYOUTS
from whence.worlds.mesh_photos import render_mesh
from whence.worlds.photographer import Photographer
from whence.worlds.positions import row_name, write_positions
from whence.worlds.presets import CitySize
from whence.worlds.shards import city_works

SIZE = CitySize("city00", "", 24, 8, 2)


@pytest.fixture(scope="module")
def worlds(tmp_path_factory):
    """A small world in every layout, with the rows of its camera table."""
    root = tmp_path_factory.mktemp("layouts")
    made = {}
    for name in LAYOUTS:
        capture = CaptureOptions(width=64, height=48)
        render_world(
            root / name,
            seed=4,
            layout=name,
            options=WorldOptions(capture=capture, cities=(SIZE,), px_per_m=8),
            num_workers=1,
        )
        with open(root / name / "cameras.csv", newline="") as file:
            made[name] = (root / name, list(csv.DictReader(file)))
    return made


def test_every_camera_row_has_its_photo(worlds):
    for root, rows in worlds.values():
        assert rows
        assert all((root / row["path"]).is_file() for row in rows)
        assert len({row["path"] for row in rows}) == len(rows)


def test_folders_are_the_standard_set(worlds):
    root, rows = worlds["folders"]
    data = read_folders(root)
    assert (len(data.database), len(data.queries)) == (24, 8)
    by_path = {row["path"]: row for row in rows}
    for photo in data.database:
        row = by_path[f"database/{photo.path}"]
        assert heading_difference_deg(photo.heading_deg, float(row["heading_deg"])) <= 0.51
        assert photo.plane.zone == row["zone"]


def test_sf_xl_has_years_crops_and_panoramas(worlds):
    root, rows = worlds["sf_xl"]
    panoramas, crops = read_sf_xl(root, which="panoramas"), read_sf_xl(root)
    assert (panoramas.width == round(48 * 6.5)).all()
    assert (panoramas.height == 48).all()
    assert (crops.width == 48).all()
    assert len(crops) == 12 * len(panoramas)
    data = read_sf_xl_test(root)
    assert len(data.database) > 0
    years = [{photo.time.year for photo in photos} for photos in (crops, panoramas, data.database)]
    assert years[0] == years[1]
    assert (len(years[0]), len(years[2])) == (3, 1)
    assert not years[0] & years[2], "the year of the test is no year of the training"
    assert (root / "raw" / "train" / "panoramas_images_paths.txt").is_file()
    with pytest.raises(NoPhotos):
        read_sf_xl(root, which="processed")
    # Names say the heading of the left column, the table that of the middle, and so do the readers.
    true = {row["path"]: float(row["heading_deg"]) for row in rows}
    for photos, folder in (
        (crops, "raw/train/database"),
        (data.database, "processed/test/database"),
    ):
        for photo in photos:
            assert heading_difference_deg(photo.heading_deg, true[f"{folder}/{photo.path}"]) <= 0.51
            said = parse_name(photo.path).heading_deg
            assert heading_difference_deg(said + 360 / 13, photo.heading_deg) < 1e-3
    assert open_set(root).database.heading_deg.tolist() == data.database.heading_deg.tolist()
    for photo in panoramas:
        assert (
            heading_difference_deg(photo.heading_deg, true[f"raw/train/panoramas/{photo.path}"])
            <= 0.51
        )


def test_sf_xl_is_dense_enough_for_classes(worlds):
    """At least 10 crops in most classes and 5 panoramas in most cells; how many is printed, and is
    what the lists hold."""
    root, _ = worlds["sf_xl"]
    said = LAYOUTS["sf_xl"].remarks(root)
    for which, options, remark in (
        ("database", CellOptions(), said[0]),
        ("panoramas", CellOptions(15, 360, 3, 1, 5), said[1]),
    ):
        files = read_placed_files(sf_xl_folder(root, which))
        assert len(files) == len(read_sf_xl(root, which=which))
        found = make_partition(files.east_m, files.north_m, files.heading_deg, options=options)
        kept = found.photos.counts[found.groups.members]
        assert kept.sum() > 0.75 * len(files)
        assert f"{len(kept)} of {len(found)} " in remark
    assert LAYOUTS["folders"].remarks(root) == ()


def test_pictures_of_the_wrong_shape_are_refused(worlds, tmp_path):
    root, _ = worlds["sf_xl"]
    (tmp_path / "raw" / "train").mkdir(parents=True)
    for which, other, message in (
        ("panoramas", "database", "no panorama"),
        ("database", "panoramas", "a panorama"),
    ):
        (tmp_path / "raw" / "train" / which).symlink_to(
            sf_xl_folder(root, other), target_is_directory=True
        )
        with pytest.raises(InputError, match=message):
            read_sf_xl(tmp_path, which=which)


def test_crops_are_cut_out_of_panoramas_where_their_names_say(worlds):
    """The crop at the heading of its left column, found in the panorama of its stop by looking at
    pixels alone."""
    root, _ = worlds["sf_xl"]
    panoramas, crops = read_sf_xl(root, which="panoramas"), read_sf_xl(root)
    stops = {parse_name(path).pano_id: row for row, path in enumerate(panoramas.paths)}
    for row in range(0, len(crops), 41):
        fields = parse_name(crops.paths[row])
        whole = stops[fields.pano_id]
        wide = cv2.imread(str(panoramas.file(whole)), 0).astype(np.float32)
        small = cv2.imread(str(crops.file(row)), 0).astype(np.float32)
        around = np.concatenate([wide, wide[:, :48]], axis=1)
        errors = [
            np.abs(around[:, left : left + 48] - small).mean() for left in range(wide.shape[1])
        ]
        seen = (
            panoramas.heading_deg[whole]
            + (np.argmin(errors) - wide.shape[1] / 2) * 360 / wide.shape[1]
        )
        assert heading_difference_deg(seen, fields.heading_deg) < 2.5, "within two columns"


def test_the_middle_of_a_panorama_looks_along_its_heading():
    """A photo of equal heading, taken apart, shows the same as the panorama's middle, and not the
    same as its edge."""
    capture = CaptureOptions(width=64, height=48)
    work = next(
        city_works(
            make_spec(
                "small",
                seed=4,
                layout="sf_xl",
                options=WorldOptions(capture=capture, cities=(SIZE,)),
            )
        )
    )
    photographer = Photographer(
        work.plan, work.shots.runs, options=work.capture, px_per_m=8, cache_bytes=10**8
    )
    scores = []
    for panorama in [shot for shot in work.shots.shots if shot.is_panorama][::8]:
        wide = photographer.take(panorama)[0].mean(axis=2)
        small = photographer.take(replace(panorama, number=panorama.number + 1, is_panorama=False))[
            0
        ].mean(axis=2)
        # Both show the horizon's band: 20 degrees to each side, 10 up and down.
        per_degree = wide.shape[1] / 360
        rows = (np.array([34.6 - 10, 34.6 + 10]) * per_degree).astype(int)
        focal = 24 / np.tan(np.radians(55.4 / 2))
        centre_row = 24 + focal * np.tan(np.radians(4))
        small = small[
            int(centre_row - focal * 0.176) : int(centre_row + focal * 0.176),
            int(24 - focal * 0.364) : int(24 + focal * 0.364),
        ]
        found = []
        for turn in range(0, 360, 30):
            shifted = np.roll(wide, round(-turn * per_degree), axis=1)
            middle = wide.shape[1] // 2
            part = shifted[
                rows[0] : rows[1], int(middle - 20 * per_degree) : int(middle + 20 * per_degree)
            ]
            found.append(
                np.corrcoef(cv2.resize(part, small.shape[::-1]).ravel(), small.ravel())[0, 1]
            )
        scores.append(int(np.argmax(found)))
    assert len(scores) >= 6
    assert np.mean(np.array(scores) == 0) > 0.7


def test_gsv_cities_have_places_seen_in_several_years(worlds):
    root, rows = worlds["gsv_cities"]
    data = read_gsv_cities(root)
    assert len(data.photos) == 24
    for place in np.unique(data.place):
        members = np.flatnonzero(data.place == place)
        photos = [data.photos[int(k)] for k in members]
        assert len(photos) == 4
        assert len({photo.time.year for photo in photos}) == 4
        gap = np.hypot(
            *(
                np.ptp([getattr(photo.plane, name) for photo in photos])
                for name in ("east_m", "north_m")
            )
        )
        assert gap < 20
    assert len(read_gsv_cities(root, min_photos=2).photos) == len(rows)
    with pytest.raises(NoPhotos):
        read_gsv_cities(root, min_photos=5)


def test_a_broken_gsv_table_is_named_with_its_line(worlds, tmp_path):
    (tmp_path / "Dataframes").mkdir()
    (tmp_path / "Dataframes" / "A.csv").write_text(
        "place_id,year,month,northdeg,city_id,lat,lon,panoid\n1,2,3,x,A,1,2,p\n"
    )
    with pytest.raises(UnreadableTable, match=r"A\.csv.*line 2"):
        read_gsv_cities(tmp_path)
    (tmp_path / "Dataframes" / "A.csv").write_text("place_id,year\n1,2\n")
    with pytest.raises(UnreadableTable, match="month"):
        read_gsv_cities(tmp_path)


@pytest.mark.parametrize("layout", ["msls", "sequences"])
def test_drives_come_back_in_order(worlds, layout):
    root, rows = worlds[layout]
    data = read_msls(root) if layout == "msls" else read_sequences(root)
    assert (len(data.database.photos), len(data.queries.photos)) == (24, 8)
    by_path = {row["path"]: row for row in rows}
    for side in (data.database, data.queries):
        for k in range(len(side.photos)):
            row = by_path[side.photos.file(k).resolve().relative_to(root.resolve()).as_posix()]
            rotation = np.array([[float(row[f"r{i}{j}"]) for j in range(3)] for i in range(3)])
            centre = -rotation.T @ [float(row[f"t{i}"]) for i in range(3)]
            assert side.photos.east_m[k] == pytest.approx(
                float(row["origin_east_m"]) + centre[0], abs=0.02
            )
        for key in np.unique(side.sequence):
            members = np.flatnonzero(side.sequence == key)
            assert (np.diff(members) == 1).all()
            assert list(side.frame[members]) == list(
                range(side.frame[members[0]], side.frame[members[0]] + len(members))
            )
            steps = np.hypot(
                np.diff(side.photos.east_m[members]), np.diff(side.photos.north_m[members])
            )
            assert (steps > 0.5).all()
            assert (steps < 8).all()


def test_msls_without_its_own_tables_is_refused(worlds, tmp_path):
    (tmp_path / "train_val" / "x" / "database").mkdir(parents=True)
    with pytest.raises(UnreadableTable, match="seq_info"):
        read_msls(tmp_path)


def test_clients_hold_queries_and_database(worlds):
    root, rows = worlds["federated"]
    data = read_clients(root)
    assert len(np.unique(data.client)) >= 2
    for client in np.unique(data.client):
        assert 0 < data.is_query[data.client == client].sum() < (data.client == client).sum()
    # Clients differ in their cameras.
    focal = {row["city"]: row["fx"] for row in rows if row["role"] == "database"}
    assert len(set(focal.values())) == len(focal) >= 2
    header = (root / "clients.csv").read_text().splitlines()[0]
    assert json.loads(header.removeprefix("# "))["num_images"] == len(data.photos)


def test_labelled_photos_have_classes_and_depth(worlds):
    root, _ = worlds["labelled"]
    data = read_labelled(root, town="city00")
    assert len(data.photos) == 24
    assert set(data.view) == {"front", "rear"}
    for path, depth in zip(data.labels, data.depths, strict=True):
        labels = cv2.imread(str(path))
        assert labels.shape == (48, 64, 3)
        # OpenCV reads blue first: red, the last, holds the class.
        assert labels[..., :2].max() == 0
        assert set(np.unique(labels[..., 2])) <= {0, 1, 2, 4, 5, 7, 8, 9, 10, 12, 14, 19, 20, 26}
        assert {1, 7} <= set(np.unique(labels[..., 2]))
        assert cv2.imread(str(depth), cv2.IMREAD_UNCHANGED).dtype == np.uint16
    weather = next(
        path.name
        for path in (root / "images" / "city00").glob("queries_*")
        if "labels" not in path.name and "depth" not in path.name
    )
    assert len(read_labelled(root, town="city00", role=weather).photos) > 0


def test_mesh_renders_pair_with_photos_of_the_same_view(worlds):
    root, _ = worlds["mesh"]
    pairs = read_mesh_pairs(root)
    assert len(pairs.real) == len(pairs.rendered) == 24
    for real, rendered in zip(pairs.real, pairs.rendered, strict=True):
        assert (real.plane, real.heading_deg) == (rendered.plane, rendered.heading_deg)
        assert parse_name(rendered.path).note.startswith("art_prob_")
    sharp, blurred = (
        np.mean(
            [
                cv2.Laplacian(cv2.imread(str(side.root / path), 0), cv2.CV_64F).var()
                for path in side.paths
            ]
        )
        for side in (pairs.real, pairs.rendered)
    )
    assert blurred < 0.5 * sharp


def test_the_mesh_is_the_city(worlds):
    pytest.importorskip("trimesh")
    from whence.worlds.scene import Scene

    root, _ = worlds["mesh"]
    mesh = read_mesh(root / "mesh" / "city00.obj")
    work = next(
        city_works(make_spec("small", seed=4, layout="mesh", options=WorldOptions(cities=(SIZE,))))
    )
    scene = Scene(work.plan)
    count = len(work.plan.lots) + len(scene.walls.origin) + len(scene.ground.keys)
    assert mesh.triangles.shape == (2 * count, 3)
    for origin in scene.fronts.origin[::17]:
        assert np.abs(mesh.points_m - origin).max(axis=1).min() < 0.002
    area = np.cross(
        *(mesh.points_m[mesh.triangles[:, k]] - mesh.points_m[mesh.triangles[:, 0]] for k in (1, 2))
    )
    expected = np.linalg.norm(np.cross(scene.fronts.across, scene.fronts.down), axis=1).sum()
    upright = np.abs(area[:, 2]) < 1e-6
    assert np.linalg.norm(area[upright], axis=1).sum() / 2 >= expected * 0.999
    assert all(sheet.shape == (2048, 2048, 3) for sheet in mesh.sheets)
    assert mesh.texture_points.min() >= 0
    assert mesh.texture_points.max() <= 1
    place = read_place(root / "mesh" / "city00.obj")
    east, north, zone = place.on_plane(np.zeros((1, 2)))
    assert (east[0], north[0], zone) == pytest.approx(
        (work.plan.origin_east_m, work.plan.origin_north_m, work.plan.zone), abs=0.01
    )


def test_triangles_show_what_the_planes_of_the_city_show(worlds, tmp_path):
    """Views of the world's database, rendered from the mesh that it wrote, beside its own renders
    of the same city."""
    pytest.importorskip("trimesh")
    root, _ = worlds["mesh"]
    mesh = root / "mesh" / "city00.obj"
    found = render_mesh(
        mesh, tmp_path, place=read_place(mesh), poses=root / "cameras.csv", show_progress=False
    )
    assert found.num_photos == 24
    (tmp_path / "real_database").symlink_to(root / "real_database")
    pairs, own = read_mesh_pairs(tmp_path), read_mesh_pairs(root)
    assert len(pairs.real) == 24
    alike, other = [], []
    pictures = [
        [cv2.imread(str(part.root / path), 0) for path in part.paths]
        for part in (pairs.rendered, own.rendered)
    ]
    for k, (here, there) in enumerate(zip(*pictures, strict=True)):
        assert here.shape == there.shape
        alike.append(
            np.corrcoef(cv2.blur(here, (5, 5)).ravel(), cv2.blur(there, (5, 5)).ravel())[0, 1]
        )
        other.append(
            np.corrcoef(
                cv2.blur(here, (5, 5)).ravel(), cv2.blur(pictures[1][k - 5], (5, 5)).ravel()
            )[0, 1]
        )
    assert np.median(alike) > 0.85
    assert np.median(alike) > np.median(other) + 0.3


def test_positions_alone(tmp_path, monkeypatch):
    monkeypatch.setattr("whence.worlds.positions.CHUNK", 5000)
    positions = write_positions(tmp_path / "p", num_photos=12_000, seed=3)
    assert len(positions) == 12_000
    again = PositionColumns.open(tmp_path / "p")
    np.testing.assert_array_equal(again.east_m, positions.east_m)
    assert 0.07 < positions.role.mean() < 0.13
    assert (positions.heading_deg >= 0).all()
    assert (positions.heading_deg < 360).all()
    database = np.asarray(positions.role) == 0
    for stop in np.unique(positions.stop)[:50]:
        members = database & (np.asarray(positions.stop) == stop)
        # Photos of one stop, across chunks too, share their place.
        assert (
            np.ptp(positions.east_m[members]) == np.ptp(positions.north_m[members]) == 0
            or members.sum() == 0
        )
    fields = parse_name(row_name(positions, 7))
    assert fields.plane.east_m == pytest.approx(float(positions.east_m[7]), abs=0.006)
    assert fields.note == "7"


def test_positions_of_other_options_are_refused(tmp_path):
    write_positions(tmp_path / "p", num_photos=100)
    assert len(write_positions(tmp_path / "p", num_photos=100)) == 100
    with pytest.raises(InputError, match=r"positions\.json"):
        write_positions(tmp_path / "p", num_photos=101)
    with pytest.raises(BadOption):
        write_positions(tmp_path / "q", num_photos=0)
    with pytest.raises(UnreadableTable):
        PositionColumns.open(tmp_path)
