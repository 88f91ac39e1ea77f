"""The renderer against slow, obvious formulas: projection, handedness, hidden surfaces,
perspective."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whence.worlds.camera import look_rotation, make_camera, plane_homography
from whence.worlds.raster import PatchInfo, Raster, Texture

SIZE = (64, 48)


def camera_at(
    x=0.0,
    y=0.0,
    z=2.0,
    *,
    grid_heading_deg=0.0,
    pitch_deg=0.0,
    roll_deg=0.0,
    field_of_view_deg=70.0,
):
    rotation = look_rotation(
        grid_heading_deg=grid_heading_deg, pitch_deg=pitch_deg, roll_deg=roll_deg
    )
    return make_camera(
        np.array([x, y, z]), rotation, size_px=SIZE, field_of_view_deg=field_of_view_deg
    )


def cast(camera, patches):
    """For every pixel the nearest patch it sees (-1 for none) and the depth along the optical axis:
    one ray after the other."""
    ids = np.full((camera.height, camera.width), -1)
    depths = np.full(ids.shape, np.inf)
    for row in range(camera.height):
        for column in range(camera.width):
            ray = camera.rotation.T @ np.linalg.inv(camera.intrinsics) @ (column, row, 1.0)
            for k, (origin, across, down) in enumerate(patches):
                a, b, distance = np.linalg.solve(
                    np.stack([across, down, -ray], axis=1), camera.centre - origin
                )
                if 0 <= a <= 1 and 0 <= b <= 1 and 0.25 < distance < depths[row, column]:
                    ids[row, column], depths[row, column] = k, distance
    return ids, depths


def draw(camera, patches):
    raster = Raster(camera)
    inverse, corners = raster.project(
        *(np.stack([patch[k] for patch in patches]) for k in range(3))
    )
    for k in range(len(patches)):
        polygon = raster.outline(corners[k])
        if polygon is not None:
            raster.draw(
                inverse[k],
                polygon,
                Texture(np.full((4, 4, 4), 128, np.uint8)),
                PatchInfo(k, (0, 0, 1)),
            )
    labels = np.array([-1, *(info.label for info in raster.infos)])
    return labels[raster.ids], raster


@pytest.mark.parametrize(
    ("grid_heading_deg", "right"),
    [(0, (1, 0, 0)), (90, (0, -1, 0)), (180, (-1, 0, 0)), (270, (0, 1, 0))],
)
def test_facing_north_east_is_right(grid_heading_deg, right):
    rotation = look_rotation(grid_heading_deg=grid_heading_deg)
    np.testing.assert_allclose(rotation[0], right, atol=1e-12)
    np.testing.assert_allclose(rotation[1], (0, 0, -1), atol=1e-12)
    assert np.linalg.det(rotation) == pytest.approx(1)


def test_pitch_looks_up_and_roll_sinks_the_right_side():
    assert look_rotation(grid_heading_deg=30, pitch_deg=10)[2, 2] == pytest.approx(
        np.sin(np.radians(10))
    )
    assert look_rotation(grid_heading_deg=30, roll_deg=10)[0, 2] == pytest.approx(
        -np.sin(np.radians(10))
    )


def test_projection_is_k_r_x_plus_t():
    camera = camera_at(3, -2, grid_heading_deg=40, pitch_deg=5, roll_deg=3)
    point = camera.centre + camera.rotation.T @ (0.7, -0.3, 4.0)
    pixel, depth = camera.project(point)
    expected = camera.intrinsics @ (camera.rotation @ point + camera.translation)
    assert depth == pytest.approx(4.0)
    np.testing.assert_allclose(pixel, expected[:2] / expected[2])


def test_plane_homography_maps_patch_coordinates_to_pixels():
    camera = camera_at(grid_heading_deg=20)
    origin, across, down = (
        np.array([-1.0, 6.0, 4.0]),
        np.array([3.0, 1.0, 0.0]),
        np.array([0.0, 0.0, -3.0]),
    )
    a, b = 0.3, 0.8
    pixel, _ = camera.project(origin + a * across + b * down)
    mapped = plane_homography(camera, origin, across, down) @ (a, b, 1)
    np.testing.assert_allclose(mapped[:2] / mapped[2], pixel)


def test_enlarged_camera_sees_the_same_directions():
    camera = camera_at(grid_heading_deg=20)
    point = np.array([1.0, 7.0, 3.0])
    (x, y), _ = camera.project(point)
    (u, v), _ = camera.scaled(2).project(point)
    # Pixel centres: 0 becomes 0.5 between the first two.
    assert (u, v) == pytest.approx((2 * x + 0.5, 2 * y + 0.5))


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 10_000))
def test_raster_sees_what_rays_see(seed):
    random = np.random.default_rng(seed)
    camera = camera_at(
        grid_heading_deg=random.uniform(0, 360),
        pitch_deg=random.uniform(-10, 10),
        roll_deg=random.uniform(-20, 20),
    )
    patches = []
    for _ in range(4):
        centre = camera.centre + camera.rotation.T @ (
            random.uniform(-3, 3),
            random.uniform(-2, 2),
            random.uniform(1, 9),
        )
        across, down = random.normal(size=3) * 2.5, random.normal(size=3) * 2.5
        patches.append((centre - across / 2 - down / 2, across, down))
    expected, depth = cast(camera, patches)
    found, raster = draw(camera, patches)
    same = expected == found
    # The raster's outlines include the pixels that an edge touches.
    assert (~same).sum() <= 8 * (camera.width + camera.height) ** 0.5 + 0.05 * same.size
    inside = same & (expected >= 0)
    np.testing.assert_allclose(
        raster.inverse_depth[inside], 1 / depth[inside], rtol=1e-3, atol=1e-5
    )


def test_texture_is_read_perspectively_right():
    """A texture whose colours are its own coordinates comes back as the ray's coordinates on the
    plane."""
    camera = camera_at(z=3.0)
    origin, across, down = (
        np.array([-3.0, 3.0, 5.0]),
        np.array([5.0, 4.0, 0.0]),
        np.array([0.0, 0.0, -4.5]),
    )
    side = 250
    ramp = np.arange(side)
    texture = np.full((side, side, 4), 128, np.uint8)
    texture[..., 0], texture[..., 1] = ramp[None, :], ramp[:, None]
    raster = Raster(camera)
    inverse, corners = raster.project(origin[None], across[None], down[None])
    raster.draw(inverse[0], raster.outline(corners[0]), Texture(texture), PatchInfo(1, (0, 0, 1)))
    rows, columns = np.nonzero(raster.ids)
    for row, column in list(zip(rows, columns, strict=True))[::97]:
        ray = camera.rotation.T @ np.linalg.inv(camera.intrinsics) @ (column, row, 1.0)
        a, b, _ = np.linalg.solve(np.stack([across, down, -ray], axis=1), camera.centre - origin)
        if 0.05 < a < 0.95 and 0.05 < b < 0.95:
            np.testing.assert_allclose(
                raster.albedo[row, column, :2], (a * side - 0.5, b * side - 0.5), atol=4
            )


def test_a_patch_behind_the_camera_is_not_drawn():
    camera = camera_at()
    found, _ = draw(
        camera, [(np.array([-1.0, -5.0, 3.0]), np.array([2.0, 0, 0]), np.array([0, 0, -2.0]))]
    )
    assert (found == -1).all()


def test_a_patch_that_passes_the_camera_is_cut_off_before_it():
    camera = camera_at()
    patches = [(np.array([1.0, -4.0, 3.0]), np.array([0.0, 14.0, 0.0]), np.array([0, 0, -3.0]))]
    expected, _ = cast(camera, patches)
    found, _ = draw(camera, patches)
    assert (expected == 0).sum() > 300
    assert (expected != found).mean() < 0.03


def test_holes_let_what_is_behind_through():
    camera = camera_at()
    wall = np.full((64, 64, 4), 128, np.uint8)
    wall[16:48, 16:48, 3] = 0
    raster = Raster(camera)
    origins = np.array([[-2.0, 4.0, 4.0], [-4.0, 5.0, 6.0]])
    inverse, corners = raster.project(
        origins, np.array([[4.0, 0, 0], [8.0, 0, 0]]), np.array([[0, 0, -4.0], [0, 0, -8.0]])
    )
    raster.draw(inverse[0], raster.outline(corners[0]), Texture(wall), PatchInfo(1, (0, -1, 0)))
    raster.draw(
        inverse[1],
        raster.outline(corners[1]),
        Texture(np.full((4, 4, 4), 128, np.uint8)),
        PatchInfo(2, (0, -1, 0)),
    )
    middle = (camera.height // 2, camera.width // 2)
    assert raster.infos[raster.ids[middle] - 1].label == 2
    assert raster.inverse_depth[middle] == pytest.approx(1 / 5, rel=1e-4)
    (x, y), _ = camera.project(np.array([-1.7, 4.0, 2.0]))
    assert raster.infos[raster.ids[round(y), round(x)] - 1].label == 1
