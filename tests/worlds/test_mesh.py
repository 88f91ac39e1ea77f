"""Meshes of cities: what they show, where they stand, and the databases rendered from them."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from whence.cli import run
from whence.data import meshes
from whence.data.meshes import MeshPlace, TexturedMesh, read_mesh, read_place
from whence.data.names import parse_name
from whence.errors import BadOption, InputError, MissingExtra, UnknownName, UnreadableTable
from whence.geo import distance_m
from whence.types import GeoPoint
from whence.worlds import triangles
from whence.worlds.camera import Camera, look_rotation, make_camera
from whence.worlds.mesh_photos import MeshOptions, render_mesh
from whence.worlds.mesh_places import HeightMap, grid_stands, read_lines, street_stands
from whence.worlds.triangles import MeshScene, RenderQuality, get_quality

PLACE = MeshPlace(52.5, 13.4, 34.0, 20.0)


def camera(
    *,
    heading: float = 0.0,
    at: tuple[float, float, float] = (0.0, 0.0, 2.0),
    size: tuple[int, int] = (32, 24),
) -> Camera:
    rotation = look_rotation(grid_heading_deg=heading, pitch_deg=3.0, roll_deg=2.0)
    return make_camera(np.array(at), rotation, size_px=size, field_of_view_deg=70.0)


def mesh_of(
    corners: np.ndarray, *, uv: np.ndarray | None = None, sheets: tuple[np.ndarray, ...] = ()
) -> TexturedMesh:
    """Triangles (N, 3, 3) that share nothing."""
    flat = corners.reshape(-1, 3).astype(float)
    known = np.zeros((len(flat), 2)) if uv is None else uv.reshape(-1, 2)
    one = sheets or (np.full((1, 1, 3), 200, np.uint8),)
    return TexturedMesh(
        flat, known, np.arange(len(flat)).reshape(-1, 3), np.zeros(len(corners), np.int64), one
    )


def street() -> TexturedMesh:
    """Ground 60 x 60 m with a block of 20 x 20 x 9 m in its middle, and a texture of random
    texels."""
    ground = np.array(
        [[[0, 0, 0], [60, 0, 0], [60, 60, 0]], [[0, 0, 0], [60, 60, 0], [0, 60, 0]]], float
    )
    low, high, top = 20.0, 40.0, 9.0
    ring = np.array([[low, low], [high, low], [high, high], [low, high]])
    walls = []
    for (x0, y0), (x1, y1) in zip(ring, np.roll(ring, -1, axis=0), strict=True):
        walls += [
            [[x0, y0, 0], [x1, y1, 0], [x1, y1, top]],
            [[x0, y0, 0], [x1, y1, top], [x0, y0, top]],
        ]
    roof = [[[*ring[a], top] for a in corner] for corner in ((0, 1, 2), (0, 2, 3))]
    corners = np.concatenate([ground, np.array(walls), np.array(roof)])
    texture = np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype(np.uint8)
    return mesh_of(corners, uv=corners[..., :2] / 15 + corners[..., 2:] / 9, sheets=(texture,))


def write_obj(path: Path, mesh: TexturedMesh) -> None:
    """The mesh as text, with one texture."""
    import cv2

    cv2.imwrite(str(path.with_name("sheet.png")), mesh.sheets[0][..., ::-1])
    path.with_suffix(".mtl").write_text("newmtl sheet\nmap_Kd sheet.png\n")
    lines = [f"mtllib {path.stem}.mtl", "usemtl sheet"]
    lines += [f"v {x} {y} {z}" for x, y, z in mesh.points_m] + [
        f"vt {u} {v}" for u, v in mesh.texture_points
    ]
    lines += ["f " + " ".join(f"{k + 1}/{k + 1}" for k in row) for row in mesh.triangles]
    path.write_text("\n".join(lines) + "\n")


def seen_by_rays(corners: np.ndarray, view: Camera) -> np.ndarray:
    """Depth along the axis (H, W) by one ray a pixel against every triangle (Moeller and Trumbore
    1997); 0 for nothing."""
    depth = np.zeros((view.height, view.width))
    for row in range(view.height):
        for column in range(view.width):
            ray = view.rotation.T @ np.linalg.inv(view.intrinsics) @ np.array([column, row, 1.0])
            for a, b, c in corners:
                sides = np.stack([-ray, b - a, c - a], axis=1)
                if abs(np.linalg.det(sides)) < 1e-12:
                    continue
                along, u, v = np.linalg.solve(sides, view.centre - a)
                is_hit = along > triangles.NEAR_M and u >= 0 and v >= 0 and u + v <= 1
                if is_hit and (depth[row, column] == 0 or along < depth[row, column]):
                    depth[row, column] = along
    return depth


def test_a_pixel_shows_the_triangle_that_its_ray_meets_first() -> None:
    random = np.random.default_rng(3)
    middle = random.uniform([-8, -1, -2], [8, 18, 6], (24, 3))
    # Sizes from less than a pixel to far beyond the picture; some lie across the camera.
    corners = (
        middle[:, None]
        + random.normal(0, 1, (24, 3, 3)) * np.geomspace(0.05, 12, 24)[:, None, None]
    )
    view = camera()
    expected = seen_by_rays(corners, view)
    found = MeshScene(mesh_of(corners)).render(view)[1]
    assert (expected > 0).mean() > 0.3
    assert ((found > 0) == (expected > 0)).mean() > 0.995
    both = (found > 0) & (expected > 0)
    assert (np.abs(found[both] - expected[both]) < 1e-3 * expected[both]).mean() > 0.99


def test_triangles_that_share_edges_leave_no_holes_and_order_counts_for_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    x, z = np.meshgrid(np.linspace(-40, 40, 41), np.linspace(-40, 40, 41))
    points = np.stack([x, np.full_like(x, 20) + 0.3 * x, z], axis=-1)
    squares = np.stack(
        [points[:-1, :-1], points[:-1, 1:], points[1:, 1:], points[1:, :-1]], axis=2
    ).reshape(-1, 4, 3)
    corners = np.concatenate([squares[:, [0, 1, 2]], squares[:, [0, 2, 3]]])
    uv = np.concatenate([corners[..., :1], corners[..., 2:]], axis=2) / 20
    texture = np.random.default_rng(1).integers(0, 255, (32, 32, 3)).astype(np.uint8)
    view = camera(size=(96, 72))
    picture, depth = MeshScene(mesh_of(corners, uv=uv, sheets=(texture,))).render(view)
    assert (depth > 0).all()
    behind = corners * [2, 2, 2]
    order = np.random.default_rng(2).permutation(2 * len(corners))
    monkeypatch.setattr(triangles, "_TRIANGLES", 100)
    monkeypatch.setattr(triangles, "_SAMPLES", 2000)
    monkeypatch.setattr(triangles, "BLOCK_M", 6.0)
    both = mesh_of(
        np.concatenate([corners, behind])[order],
        uv=np.concatenate([uv, uv + 0.3])[order],
        sheets=(texture,),
    )
    again, same = MeshScene(both).render(view)
    assert np.array_equal(depth, same), "what lies behind, batches and blocks change nothing"
    assert np.abs(again.astype(int) - picture).max() <= 1


def test_textures_are_read_in_perspective_and_by_their_size_on_the_picture() -> None:
    texture = np.zeros((8, 8, 3), np.uint8)
    texture[:4, :, 0], texture[4:, :, 1] = 200, 100
    wall = np.array(
        [[[-6, 3, -3], [6, 30, -3], [6, 30, 9]], [[-6, 3, -3], [6, 30, 9], [-6, 3, 9]]], float
    )
    uv = np.array([[[0, 0], [1, 0], [1, 1]], [[0, 0], [1, 1], [0, 1]]], float)
    view = camera(size=(160, 120))
    picture, depth = MeshScene(mesh_of(wall, uv=uv, sheets=(texture,))).render(view)
    rows, columns = np.nonzero(depth)
    rays = (
        view.rotation.T
        @ np.linalg.inv(view.intrinsics)
        @ np.stack([columns, rows, np.ones_like(rows)])
    ).T
    height = view.centre[2] + depth[rows, columns] * rays[:, 2]
    # Neither where both halves mix nor at the ends, where the texture begins anew.
    clear = (np.abs(height - 3) > 1.0) & (np.abs(height - 3) < 4.5) & (depth[rows, columns] < 20)
    assert clear.sum() > 500
    red = picture[rows, columns, 0] > picture[rows, columns, 1]
    assert ((height > 3) == red)[clear].all(), (
        "the upper half of the texture is the upper half of the wall, near and far"
    )
    fine = np.indices((256, 256)).sum(axis=0) % 2 * 255
    flat = mesh_of(
        wall * [1, 8, 1],
        uv=uv * 30,
        sheets=(np.repeat(fine[..., None], 3, axis=2).astype(np.uint8),),
    )
    small, far = MeshScene(flat).render(view)
    assert np.abs(small[far > 0].astype(int) - 128).mean() < 30, (
        "texels far smaller than a pixel are seen as their mean"
    )


def test_quality_changes_the_picture_alone() -> None:
    view = camera(at=(10.0, 5.0, 2.0), heading=30.0, size=(64, 48))
    pictures = {
        name: MeshScene(street(), quality=get_quality(name)).render(view)
        for name in triangles.QUALITIES
    }
    sharp = {
        name: np.abs(np.diff(picture.astype(float), axis=1)).mean()
        for name, (picture, _) in pictures.items()
    }
    assert sharp["low"] < 0.8 * sharp["medium"]
    assert all(picture.shape == (48, 64, 3) for picture, _ in pictures.values())
    depths = [depth for _, depth in pictures.values()]
    assert np.array_equal(depths[0], depths[1])
    assert np.median(np.abs(depths[2] - depths[1])[depths[1] > 0]) < 0.2
    with pytest.raises(UnknownName, match="medium"):
        get_quality("mediun")
    assert RenderQuality() == get_quality("medium")


def test_cameras_stand_on_free_ground_alone() -> None:
    heights = HeightMap.of(MeshScene(street()))
    assert heights.at(np.array([[30.0, 30.0], [5.0, 5.0], [99.0, 5.0]])) == pytest.approx(
        [9, 0, np.nan], abs=1e-4, nan_ok=True
    )
    ground = heights.ground()
    stands = grid_stands(ground, every_m=4.0, height_m=2.5)
    places = np.array([stand[:3] for stand in stands])
    assert places[:, 2] == pytest.approx(2.5, abs=1e-4)
    inside = ((places[:, :2] > 18) & (places[:, :2] < 42)).all(axis=1)
    assert not inside.any(), "none within, on or right beside the block"
    assert len(stands) == len({stand[:2] for stand in stands}) > 80
    along = street_stands(
        ground,
        [np.array([[10.0, 3.0], [10.0, 57.0]]), np.array([[10.0, 57.0], [10.0, 3.0]])],
        every_m=9,
        height_m=2,
    )
    assert [round(stand.heading_deg) for stand in along] == [0] * len(along), (
        "the way back finds the places taken"
    )
    assert len(along) == 6
    with pytest.raises(BadOption, match="--up"):
        street_stands(ground, [np.array([[25.0, 30.0], [35.0, 30.0]])], every_m=2, height_m=2)
    assert heights.missed_share(10, 10, 2.5) == 0
    assert heights.missed_share(30, 30, 2.5) == 1
    shares = {heights.missed_share(19.7 + step, 30, 2.5) for step in np.arange(-1, 1.5, 0.25)}
    assert {round(9 * share, 6) for share in shares} == {0, 3, 6, 9}


@pytest.mark.parametrize(
    "place",
    [
        PLACE,
        MeshPlace(52.5, 13.4, zone="33U"),
        MeshPlace(zone="33U"),
        MeshPlace(-33.9, 18.4, heading_deg=250.0),
    ],
)
def test_places_and_headings_of_a_mesh_are_those_on_earth(place: MeshPlace) -> None:
    start = np.array([391_000.0, 5_818_000.0]) if place.lat is None else np.zeros(2)
    points = start + np.array([[0.0, 0.0], [300.0, 0.0], [0.0, 400.0]])
    east, north, zone = place.on_plane(points)
    assert zone == ("34H" if place.lat == -33.9 else "33U")
    from whence.geo import from_utm_arrays, heading_to

    lat, lon = from_utm_arrays(east, north, zone=zone)
    origin, right, ahead = (GeoPoint(float(a), float(b)) for a, b in zip(lat, lon, strict=True))
    if place.lat is not None:
        assert distance_m(origin, GeoPoint(place.lat, place.lon)) < 0.01
    assert distance_m(origin, right) == pytest.approx(300, rel=5e-4)
    seen = heading_to(origin, ahead)
    stated = float(place.true_heading_deg(np.array(0.0), points))
    assert abs((seen - stated + 180) % 360 - 180) < 0.02
    assert np.allclose(place.from_points(lat, lon), points, atol=0.01)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("{", "not JSON"),
        ("[]", "JSON object"),
        ('{"lat": 1}', "lat and lon"),
        ('{"lat": 1, "lon": 2, "zone": "33U", "heading_deg": 3}', "no heading of their own"),
        ('{"lat": 1, "lon": 2, "hight_m": 3}', "height_m"),
        ('{"lat": 100, "lon": 2}', "lat"),
        ('{"lat": "x", "lon": 2}', "lat"),
        ('{"zone": "99Z"}', "zone"),
    ],
)
def test_a_wrong_file_of_where_a_mesh_stands_is_named(tmp_path: Path, text: str, what: str) -> None:
    (tmp_path / "c.place.json").write_text(text)
    with pytest.raises(InputError, match=what):
        read_place(tmp_path / "c.glb")
    with pytest.raises(BadOption, match=r"d\.place\.json"):
        read_place(tmp_path / "d.glb")


def test_what_reads_meshes_is_asked_for_by_its_extra(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "trimesh", None)
    with pytest.raises(MissingExtra, match=r"\[mesh\]"):
        read_mesh(tmp_path / "c.glb")


def test_meshes_of_every_kind_show_the_same(tmp_path: Path) -> None:
    trimesh = pytest.importorskip("trimesh")
    mesh = street()
    write_obj(tmp_path / "c.obj", mesh)
    scene = trimesh.load_scene(tmp_path / "c.obj", process=False)
    scene.apply_transform([[1, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0], [0, 0, 0, 1]])
    (tmp_path / "c.glb").write_bytes(scene.export(file_type="glb"))
    view = camera(at=(10.0, 5.0, 2.0), heading=30.0)
    expected = MeshScene(mesh).render(view)
    for name in ("c.obj", "c.glb"):
        found = read_mesh(tmp_path / name)
        assert len(found.triangles) == len(mesh.triangles)
        picture, depth = MeshScene(found).render(view)
        assert np.allclose(depth, expected[1], atol=1e-3)
        assert np.abs(picture.astype(int) - expected[0]).mean() < 1
    assert np.allclose(read_mesh(tmp_path / "c.obj", up="y").points_m[:, 2], mesh.points_m[:, 1])


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.obj", b"v 0 0 0\nv 1 x 0\nf 1 2 3\n"),
        ("b.glb", b"glTF1234"),
        ("c.gltf", b"{"),
        ("d.obj", b""),
        ("e.obj", b"v 0 0 0\nv nan 0 0\nv 0 1 0\nf 1 2 3\n"),
        ("f.txt", b"hello"),
        ("none.glb", None),
    ],
)
def test_a_broken_mesh_is_named(tmp_path: Path, name: str, content: bytes | None) -> None:
    pytest.importorskip("trimesh")
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UnreadableTable, match=name):
        read_mesh(tmp_path / name)


def test_a_database_is_rendered_once_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("whence.worlds.mesh_photos.read_mesh", lambda path, up: street())
    (tmp_path / "c.glb").write_bytes(b"stands for a mesh")
    options = MeshOptions(every_m=15.0, num_headings=4, width=32, height=24)
    out = tmp_path / "out"
    first = render_mesh(tmp_path / "c.glb", out, place=PLACE, options=options, show_progress=False)
    files = sorted((out / "database").iterdir())
    assert first.num_photos == first.num_rendered == len(files) == 4 * first.num_places > 8
    before = {file.name: file.read_bytes() for file in files}
    files[1].unlink()
    again = render_mesh(tmp_path / "c.glb", out, place=PLACE, options=options, show_progress=False)
    assert again.num_rendered == 1
    assert {file.name: file.read_bytes() for file in out.glob("database/*")} == before
    named = [parse_name(name) for name in sorted(before)]
    assert all(fields is not None and fields.point is not None for fields in named)
    headings = {
        round(fields.heading_deg)
        for fields in named
        if fields is not None and fields.heading_deg is not None
    }
    assert headings == {20, 110, 200, 290}, "of the place: the mesh is turned"
    with pytest.raises(InputError, match="another rendering"):
        render_mesh(
            tmp_path / "c.glb", out, place=PLACE, options=MeshOptions(), show_progress=False
        )


def test_lines_to_go_along_come_from_geojson(tmp_path: Path) -> None:
    lon, lat = (13.4, 13.401), (52.5, 52.5005)
    line = {"type": "LineString", "coordinates": [[lon[0], lat[0]], [lon[1], lat[1], 30.0]]}
    file = tmp_path / "streets.geojson"
    file.write_text(
        json.dumps(
            {"type": "FeatureCollection", "features": [{"type": "Feature", "geometry": line}]}
        )
    )
    found = read_lines(file, PLACE)[0]
    assert found[0] == pytest.approx([0, 0], abs=1e-3)
    assert np.hypot(*found[1]) == pytest.approx(
        distance_m(GeoPoint(lat[0], lon[0]), GeoPoint(lat[1], lon[1])), rel=1e-3
    )
    for text in (
        "{",
        "[]",
        '{"type": "Point", "coordinates": [1, 2]}',
        '{"type": "LineString", "coordinates": [[1, 200], [2, 3]]}',
    ):
        file.write_text(text)
        with pytest.raises(UnreadableTable, match=r"streets\.geojson"):
            read_lines(file, PLACE)


def test_the_verb_renders_what_index_takes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("trimesh")
    write_obj(tmp_path / "c.obj", street())
    command = [
        "world",
        "mesh",
        str(tmp_path / "c.obj"),
        str(tmp_path / "out"),
        "--every",
        "25m",
        "--size",
        "96x72",
        "--headings",
        "3",
    ]
    assert run(command) == 1
    assert "c.place.json" in capsys.readouterr().err
    assert run([*command, "--origin", "52.5,13.4,34", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["num_photos"] == told["num_rendered"] == 3 * told["num_places"] > 0
    assert (
        run(
            [
                "index",
                str(tmp_path / "out" / "database"),
                "--db",
                str(tmp_path / "c.whence"),
                "--json",
            ]
        )
        == 0
    )
    for bad in (
        ["--every", "20km"],
        ["--size", "320"],
        ["--origin", "here"],
        ["--quality", "best"],
        ["--field", "0"],
    ):
        assert run([*command, "--origin", "52.5,13.4", *bad]) == 1
    assert "Traceback" not in capsys.readouterr().err
    assert meshes.place_file(tmp_path / "c.obj") == tmp_path / "c.place.json"
