"""The truth of a world, checked from its pixels: fiducials planted on fronts, signs read back, SIFT
matches, depth, labels."""

from __future__ import annotations

import csv

import cv2
import numpy as np
import pytest

from whence.errors import BadOption, UnknownName
from whence.worlds.camera import look_rotation, make_camera
from whence.worlds.capture import CaptureOptions, plan_shots, shot_camera
from whence.worlds.city import WorldOptions, render_world
from whence.worlds.photographer import Photographer
from whence.worlds.plan import CityOptions, plan_city
from whence.worlds.presets import CitySize
from whence.worlds.raster import Raster, Texture
from whence.worlds.reliefs import draw_sign
from whence.worlds.scene import DETAIL_M, LABELS, Epoch, Scene
from whence.worlds.tables import depth_of, fronts_of, labels_of
from whence.worlds.views import front_homography, visible_fronts

CLEAN = CaptureOptions(is_clean=True, conditions={"day": 1.0}, width=640, height=480)


@pytest.fixture(scope="module")
def photographer():
    plan = plan_city(21, options=CityOptions(num_columns=3, num_rows=3))
    shots = plan_shots(plan, num_database=60, num_queries=4, num_unknown=0, options=CLEAN)
    found = Photographer(plan, shots.runs, options=CLEAN, px_per_m=32, cache_bytes=10**8)
    found.shots = shots.shots
    return found


def facing(
    scene: Scene,
    lot: int,
    *,
    back_m: float,
    aside_m: float = 0.0,
    turn_deg: float = 0.0,
    size=(640, 480),
):
    """A camera in the street that looks at the middle of a front."""
    place = scene.plan.lots[lot]
    foot = place.origin + place.along * (place.width_m / 2 + aside_m) + place.outward * back_m
    grid_heading = np.degrees(np.arctan2(-place.outward[0], -place.outward[1])) + turn_deg
    return make_camera(
        np.array([*foot, 2.0]),
        look_rotation(grid_heading_deg=grid_heading, pitch_deg=6),
        size_px=size,
        field_of_view_deg=66,
    )


def shops_on_both_sides(scene: Scene) -> list[int]:
    """A lot with shops on either side of one street."""
    sides: dict[tuple[int, bool], int] = {}
    for k, lot in enumerate(scene.plan.lots):
        if (
            scene.look(lot).ground_use == "shops"
            and scene.plan.streets[lot.street].is_inner
            and lot.width_m > 9
        ):
            sides[lot.street, bool(lot.along @ scene.plan.streets[lot.street].direction > 0)] = k
    street = next(street for street, side in sides if side and (street, False) in sides)
    return [sides[street, True], sides[street, False]]


def test_fiducials_planted_on_fronts_appear_where_the_camera_table_says(photographer, monkeypatch):
    scene = photographer.scene
    spots = ((0.3, 0.35), (0.7, 0.35), (0.3, 0.7), (0.7, 0.7))
    original = Scene.load_front

    def planted(self, lot, epoch):
        front = original(self, lot, epoch)
        height, width = front.wall.base.shape[:2]
        wall = np.full((height, width, 4), 128, np.uint8)
        wall[..., :3] = 90
        for a, b in spots:
            # Sixteenths of a texel; the first texel's middle is at 0, its edge at -0.5.
            at = (round(16 * (a * width - 0.5)), round(16 * (b * height - 0.5)))
            cv2.circle(wall, at, 5 * 16, (0, 255, 0, 128), -1, cv2.LINE_8, 4)
        return front._replace(
            wall=Texture(wall),
            textures=(),
            origins=front.origins[:0],
            across=front.across[:0],
            down=front.down[:0],
        )

    monkeypatch.setattr(Scene, "load_front", planted)
    checked = 0
    for shot in photographer.shots:
        camera = shot_camera(shot, seed=scene.plan.seed, options=CLEAN)
        photo, raster, _ = photographer.take(shot)
        for lot, share in visible_fronts(scene, camera).items():
            place, height_m = scene.plan.lots[lot], scene.heights_m[lot]
            if share < 0.1:
                continue
            for a, b in spots:
                world = np.array(
                    [*(place.origin + place.along * a * place.width_m), height_m * (1 - b)]
                )
                # K (R X + t), as written in cameras.csv.
                seen = camera.intrinsics @ (camera.rotation @ world + camera.translation)
                column, row = seen[:2] / seen[2]
                if not (12 < column < 627 and 12 < row < 467) or seen[2] > DETAIL_M * 0.7:
                    continue
                x, y = round(column), round(row)
                half = int(7 / 32 * camera.intrinsics[0, 0] / seen[2]) + 3
                window = (slice(y - half, y + half + 1), slice(x - half, x + half + 1))
                # Nothing may stand before the fiducial.
                if (
                    min(x, y) < half
                    or x + half > 639
                    or y + half > 479
                    or (fronts_of(raster)[window] != lot + 1).any()
                ):
                    continue
                box = photo[window].astype(float)
                steps = np.arange(-half, half + 1)
                green = np.clip(box[..., 1] - box[..., [0, 2]].max(axis=-1), 0, None) ** 2
                at = np.array([green.sum(axis=0) @ steps, green.sum(axis=1) @ steps]) / green.sum()
                assert np.hypot(at[0] + x - column, at[1] + y - row) < 1.0
                assert depth_of(raster)[y, x] == pytest.approx(100 * seen[2], rel=0.01)
                checked += 1
    assert checked > 20


def test_signs_read_left_to_right_on_both_sides_of_a_street(photographer):
    scene = photographer.scene
    scores = []
    for lot in shops_on_both_sides(scene):
        front = scene.load_front(lot, Epoch())
        boards = [
            k
            for k, label in enumerate(front.labels)
            if label == LABELS.index("sign") and front.across[k][0] > 1.5
        ]
        for k in boards:
            camera = facing(scene, lot, back_m=9.0)
            raster = Raster(camera)
            scene.draw(raster, Epoch(), [])
            place = scene.plan.lots[lot]
            right, outward = np.array([*place.along, 0.0]), np.array([*place.outward, 0.0])
            u, v, w = front.origins[k]
            board = front.textures[k].base
            height, width = board.shape[:2]
            top = np.array([*place.origin, scene.heights_m[lot] - v]) + right * u + outward * w
            corners = np.array([top, top + right * front.across[k][0]])
            corners = np.concatenate([corners, corners[::-1] - (0, 0, front.down[k][1])])
            seen, _ = camera.project(corners)
            if (seen < 2).any() or (seen[:, 0] > 637).any() or (seen[:, 1] > 477).any():
                continue
            target = np.array(
                [(0, 0), (width - 1, 0), (width - 1, height - 1), (0, height - 1)], np.float32
            )
            back = cv2.warpPerspective(
                raster.albedo[..., :3],
                cv2.getPerspectiveTransform(seen.astype(np.float32), target),
                (width, height),
            )
            straight = np.corrcoef(back.ravel(), board[..., :3].ravel())[0, 1]
            mirrored = np.corrcoef(back.ravel(), board[:, ::-1, :3].ravel())[0, 1]
            scores.append((lot, straight, mirrored))
    assert len({lot for lot, _, _ in scores}) == 2
    for lot in {lot for lot, _, _ in scores}:
        assert max(straight for number, straight, _ in scores if number == lot) > 0.8
        assert all(
            straight > mirrored
            for number, straight, mirrored in scores
            if number == lot and straight > 0.8
        )


def test_a_sign_is_drawn_with_its_text():
    blank = draw_sign(" ", (3.0, 0.75), (30, 40, 50), 32, is_lit=False)
    board = draw_sign("HOTEL", (3.0, 0.75), (30, 40, 50), 32, is_lit=False)
    assert np.abs(board.astype(int) - blank).max() > 100
    # H stands at the left: two uprights before the middle of the word's first fifth.
    ink = np.flatnonzero(np.abs(board.astype(int) - blank).max(axis=(0, 2)) > 100)
    assert ink.min() < board.shape[1] / 2 < ink.max()


def test_sift_matches_between_two_views_follow_the_homography_through_the_front(photographer):
    scene = photographer.scene
    lot = next(
        k
        for k, lot in enumerate(scene.plan.lots)
        if scene.plan.streets[lot.street].half_width_m > 9 and lot.width_m > 12
    )
    views = [
        facing(scene, lot, back_m=13, aside_m=shift, turn_deg=turn, size=(800, 600))
        for shift, turn in ((-2, 6), (2.5, -8))
    ]
    pictures, walls = [], []
    for camera in views:
        raster = Raster(camera)
        scene.draw(raster, Epoch(), [])
        pictures.append(cv2.cvtColor(raster.albedo[..., :3], cv2.COLOR_RGB2GRAY))
        walls.append(fronts_of(raster) == lot + 1)
    homography = front_homography(scene, lot, first=views[0], second=views[1])
    sift = cv2.SIFT_create(3000)
    (points, descriptors), (others, other_descriptors) = (
        sift.detectAndCompute(p, None) for p in pictures
    )
    pairs = cv2.BFMatcher(cv2.NORM_L2, crossCheck=True).match(descriptors, other_descriptors)
    start = np.array([points[m.queryIdx].pt for m in pairs])
    end = np.array([others[m.trainIdx].pt for m in pairs])
    on_front = walls[0][start[:, 1].round().astype(int), start[:, 0].round().astype(int)]
    mapped = np.column_stack([start, np.ones(len(start))]) @ homography.T
    error = np.hypot(*(mapped[:, :2] / mapped[:, 2:] - end).T)
    assert on_front.sum() > 100
    assert (error[on_front] < 2.5).mean() > 0.35
    # The truth is as good as what a robust estimate from the matches finds.
    estimate, _ = cv2.findHomography(start[on_front], end[on_front], cv2.RANSAC, 2.0)
    corners = np.array([(250.0, 150, 1), (550, 150, 1), (550, 400, 1), (250, 400, 1)])
    gaps = [(corners @ h.T)[:, :2] / (corners @ h.T)[:, 2:] for h in (homography, estimate)]
    # Recessed windows pull the estimate; a homography is exact for one plane only.
    assert np.hypot(*(gaps[0] - gaps[1]).T).max() < 12
    with pytest.raises(BadOption, match="lots"):
        front_homography(scene, 10**6, first=views[0], second=views[1])


def test_relief_moves_against_the_wall(photographer):
    """Views from two places brought together by the wall's homography agree on the wall and differ
    at what lies off it."""
    scene = photographer.scene
    lot = next(
        k
        for k, lot in enumerate(scene.plan.lots)
        if scene.look(lot).recess_m > 0.25 and scene.plan.streets[lot.street].is_inner
    )
    cameras = [facing(scene, lot, back_m=9, aside_m=shift) for shift in (-2.0, 2.0)]
    rasters = []
    for camera in cameras:
        raster = Raster(camera)
        scene.draw(raster, Epoch(), [])
        rasters.append(raster)
    homography = front_homography(scene, lot, first=cameras[0], second=cameras[1])
    inside = fronts_of(rasters[0]) == lot + 1
    rows, columns = np.nonzero(inside)
    there = np.column_stack([columns, rows, np.ones(len(rows))]) @ homography.T
    x, y = np.round(there[:, :2] / there[:, 2:]).astype(int).T
    kept = (x >= 0) & (x < 640) & (y >= 0) & (y < 480)
    planes = [
        np.array([False, *(info.lot == lot for info in raster.infos)])[raster.ids]
        for raster in rasters
    ]
    kept[kept] &= planes[1][y[kept], x[kept]]
    plane_of = scene.fronts
    centre = cameras[0].centre
    depth = 1 / rasters[0].inverse_depth[rows[kept], columns[kept]]
    rays = (
        np.column_stack([columns[kept], rows[kept], np.ones(kept.sum())])
        @ np.linalg.inv(cameras[0].projection).T
    )
    off = ((centre + rays * depth[:, None] - plane_of.origin[lot]) @ plane_of.outward[lot]).round(2)
    assert (np.abs(off) < 0.02).mean() > 0.2
    assert (off < -0.1).mean() > 0.05
    assert off.min() == pytest.approx(-scene.look(scene.plan.lots[lot]).recess_m, abs=0.02)


def test_pictures_of_the_truth_are_written(tmp_path):
    size = CitySize("city00", "", 6, 2, 0)
    options = WorldOptions(
        capture=CaptureOptions(width=96, height=72),
        cities=(size,),
        px_per_m=10,
        truth=("depth", "labels", "fronts"),
    )
    render_world(tmp_path / "w", seed=2, options=options, num_workers=1)
    with open(tmp_path / "w" / "cameras.csv", newline="") as file:
        for row in csv.DictReader(file):
            stem = row["path"].removesuffix(".jpg") + ".png"
            depth, labels, fronts = (
                cv2.imread(str(tmp_path / "w" / name / stem), cv2.IMREAD_UNCHANGED)
                for name in ("depth", "labels", "fronts")
            )
            assert depth.dtype == np.uint16
            assert depth.shape == labels.shape == fronts.shape == (72, 96)
            assert ((depth == 0) == (labels == LABELS.index("sky"))).all()
            assert (labels[fronts > 0] != LABELS.index("road")).all()
            assert labels.max() < len(LABELS)
    with pytest.raises(UnknownName, match="depth"):
        render_world(tmp_path / "x", options=WorldOptions(truth=("depths",)))


def test_labels_tell_pavement_from_road(photographer):
    """Ground pixels are labelled by how far from the street's axis they lie."""
    from whence.worlds.ground import pavement_m

    scene = photographer.scene
    number, street = next((k, s) for k, s in enumerate(scene.plan.streets) if s.is_inner)
    middle = (street.start + street.end) / 2
    grid_heading = np.degrees(np.arctan2(street.direction[0], street.direction[1]))
    camera = make_camera(
        np.array([*middle, 3.0]),
        look_rotation(grid_heading_deg=grid_heading, pitch_deg=-12),
        size_px=(160, 120),
        field_of_view_deg=70,
    )
    raster = Raster(camera)
    scene.draw(raster, Epoch(), [])
    labels = labels_of(raster)
    ground = np.array([False, *(info.pavement_share > 0 for info in raster.infos)])[raster.ids]
    rows, columns = np.nonzero(ground)
    rays = np.column_stack([columns, rows, np.ones(len(rows))]) @ np.linalg.inv(camera.projection).T
    spots = camera.centre + rays * (-camera.centre[2] / rays[:, 2])[:, None]
    offset = spots[:, :2] - street.start
    near = np.hypot(*(spots[:, :2] - middle).T) < 18
    aside = np.abs(offset @ (street.direction[1], -street.direction[0]))
    # Textures are as wide as the street rounded to half a metre.
    half = street.half_width_m
    is_road, is_walk = aside < half - pavement_m(half) - 0.4, aside > half - pavement_m(half) + 0.4
    assert (labels[rows, columns][near & is_road] == LABELS.index("road")).all()
    assert (labels[rows, columns][near & is_walk] == LABELS.index("sidewalk")).all()
    assert (near & is_road).sum() > 100
    assert (near & is_walk).sum() > 20
    assert number >= 0
