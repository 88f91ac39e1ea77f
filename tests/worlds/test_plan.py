"""The plan of a city, where its photos are taken, its days, and its looks."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from whence.errors import BadOption, UnknownName
from whence.runtime import random_stream
from whence.worlds.capture import USUAL_CONDITIONS, CaptureOptions, plan_shots, shot_camera
from whence.worlds.conditions import CONDITIONS, QUERY_FOLDERS, get_condition, make_run
from whence.worlds.drives import plan_drives
from whence.worlds.facades import draw_facade, flatten, look_of
from whence.worlds.photographer import Photographer
from whence.worlds.plan import BUILT, CityOptions, plan_city
from whence.worlds.raster import Texture, TextureCache
from whence.worlds.scene import Epoch, Scene
from whence.worlds.sprites import (
    NUM_CARS,
    SEASONS,
    draw_car_end,
    draw_car_side,
    draw_person,
    draw_tree,
)
from whence.worlds.styles import FAMILIES, NUM_COMMON_FAMILIES, draw_look, shop_name
from whence.worlds.views import visible_fronts


@pytest.fixture(scope="module")
def plan():
    return plan_city(8, options=CityOptions(num_columns=5, num_rows=5))


def test_blocks_are_of_the_usual_size(plan):
    built = [
        block
        for block in plan.blocks
        if len(block.corners) == 4 and block.use == BUILT and -1 not in block.streets
    ]
    sides = [
        np.hypot(*(block.corners[k] - block.corners[k - 1])) for block in built for k in range(4)
    ]
    assert 50 < np.median(sides) < 110


def test_lots_line_the_streets_without_gaps_or_overlaps(plan):
    for block_number, block in enumerate(plan.blocks):
        lots = [lot for lot in plan.lots if lot.block == block_number]
        for street in {lot.street for lot in lots}:
            row = [lot for lot in lots if lot.street == street]
            for lot, after in pairwise(row):
                np.testing.assert_allclose(
                    lot.origin + lot.along * lot.width_m, after.origin, atol=1e-6
                )
        assert block.use == BUILT or not lots


def test_fronts_look_at_their_street(plan):
    for lot in plan.lots:
        street = plan.streets[lot.street]
        middle = lot.origin + lot.along * lot.width_m / 2
        foot = street.start + street.direction * ((middle - street.start) @ street.direction)
        assert (foot - middle) @ lot.outward == pytest.approx(street.half_width_m, abs=0.01)
        # Seen from the street, with the front ahead, its own direction is to the right.
        ahead = -lot.outward
        assert ahead[0] * lot.along[1] - ahead[1] * lot.along[0] == pytest.approx(-1)


def test_a_city_follows_from_its_seed(plan):
    again, other = plan_city(8, options=plan.options), plan_city(9, options=plan.options)
    np.testing.assert_array_equal(
        [lot.origin for lot in plan.lots], [lot.origin for lot in again.lots]
    )
    assert again.lots[5].look == plan.lots[5].look
    assert (other.origin_east_m, other.origin_north_m) != (plan.origin_east_m, plan.origin_north_m)


@pytest.mark.parametrize("share", [0.0, 0.25, 0.9])
def test_the_share_of_streets_that_look_alike_is_what_was_asked(share):
    plan = plan_city(8, options=CityOptions(num_columns=9, num_rows=9, aliased_share=share))
    assert np.mean([street.is_aliased for street in plan.streets]) == pytest.approx(share, abs=0.1)
    looks = Counter(street.look for street in plan.streets)
    for street in plan.streets:
        assert street.is_aliased or looks[street.look] == 1


def test_doubles_have_the_same_windows_and_other_stains():
    plan = plan_city(8, options=CityOptions(num_columns=6, num_rows=6, aliased_share=0.9))
    seen = {}
    pairs = []
    for lot in plan.lots:
        if lot.is_aliased and lot.look in seen and abs(seen[lot.look].width_m - lot.width_m) < 1e-9:
            pairs.append((seen[lot.look], lot))
        seen.setdefault(lot.look, lot)
    assert pairs
    first, second = (
        draw_facade(lot, is_test_city=False, change=0, px_per_m=12) for lot in pairs[0]
    )
    np.testing.assert_array_equal(first.wall[..., 3], second.wall[..., 3])
    assert (first.wall[..., :3] != second.wall[..., :3]).any()


def test_neighbours_differ(plan):
    looks = [look_of(lot.look, False) for lot in plan.lots[:60]]
    walls = {
        (look.material, look.wall, look.window, round(look.window_width_m, 3)) for look in looks
    }
    assert len(walls) > 40


def test_reserved_styles_appear_in_test_cities_only():
    reserved = {family.material for family in FAMILIES[NUM_COMMON_FAMILIES:]}
    assert len(reserved) == len(FAMILIES) / 4
    common = {draw_look(random_stream(1, k), is_test_city=False).material for k in range(200)}
    test = {draw_look(random_stream(1, k), is_test_city=True).material for k in range(200)}
    assert not common & reserved
    assert reserved <= test
    assert all(shop_name(random_stream(2, k), alphabet=k % 7) for k in range(70))


def test_every_resolution_draws_the_same_front(plan):
    """The far texture is the near one, smaller: window holes and colours agree."""
    import cv2

    scores = []
    for lot in plan.lots[:40:4]:
        fine, coarse = (
            flatten(draw_facade(lot, is_test_city=True, change=0, px_per_m=s), px_per_m=s)
            for s in (32, 12)
        )
        small = cv2.resize(fine[..., :3], coarse.shape[1::-1], interpolation=cv2.INTER_AREA)
        scores.append(np.corrcoef(small.ravel(), coarse[..., :3].ravel())[0, 1])
    assert np.median(scores) > 0.8


def test_shops_change_with_the_years_for_a_share_of_the_fronts(plan):
    scene = Scene(plan)
    epoch = Epoch(change=1, changed_share=0.3)
    changes = [scene.change_of(k, epoch) for k in range(len(plan.lots))]
    assert np.mean(changes) == pytest.approx(0.3, abs=0.08)
    later = [scene.change_of(k, Epoch(change=3, changed_share=0.3)) for k in range(len(plan.lots))]
    assert all(b >= a for a, b in zip(changes, later, strict=True))
    lot = next(lot for lot in plan.lots if scene.look(lot).ground_use == "shops")
    one, two = (
        draw_facade(lot, is_test_city=False, change=change, px_per_m=16) for change in (0, 1)
    )
    assert any(
        (a.texture.shape != b.texture.shape) or (a.texture != b.texture).any()
        for a, b in zip(one.reliefs, two.reliefs, strict=False)
    )


def test_stops_are_8_to_10_m_apart_with_six_directions(plan):
    shots = plan_shots(
        plan, num_database=240, num_queries=0, num_unknown=0, options=CaptureOptions()
    ).shots
    assert len(shots) == 240
    stops = {}
    for shot in shots:
        stops.setdefault(shot.stop, []).append(shot)
    assert all(len(group) == 6 for group in stops.values())
    ordered = list(stops.values())
    for here, there in pairwise(ordered):
        if here[0].street == there[0].street:
            assert 8 <= there[0].along_m - here[0].along_m <= 10


def test_queries_keep_to_their_limits_and_the_unknown_to_uncovered_streets(plan):
    options = CaptureOptions()
    city = plan_shots(plan, num_database=360, num_queries=200, num_unknown=40, options=options)
    database = np.array([(shot.x_m, shot.y_m) for shot in city.shots if shot.role == "database"])
    directions = {}
    for shot in city.shots:
        if shot.role == "database":
            directions.setdefault(shot.street, []).append(shot.grid_heading_deg)
    counts = Counter(shot.role for shot in city.shots)
    assert counts == {"database": 360, "queries": 200, "queries_unknown": 40}
    for shot in city.shots:
        if shot.role == "database":
            continue
        street = plan.streets[shot.street]
        offset = np.array([shot.x_m, shot.y_m]) - street.start
        aside = abs(offset @ (street.direction[1], -street.direction[0]))
        assert aside <= options.max_shift_share * street.half_width_m + 1e-6
        distance = np.hypot(*(database - (shot.x_m, shot.y_m)).T).min()
        if shot.role == "queries":
            assert shot.street in city.covered
            turn = np.abs(
                (np.array(directions[shot.street]) - shot.grid_heading_deg + 180) % 360 - 180
            ).min()
            assert turn <= options.max_yaw_deg + 8
        else:
            assert shot.street not in city.covered
            assert distance > 20
    share = Counter(shot.condition for shot in city.shots if shot.role == "queries")["day"] / 200
    assert share == pytest.approx(USUAL_CONDITIONS["day"], abs=0.12)


def test_almost_every_query_has_a_near_database_photo_of_the_same_front(plan):
    options = CaptureOptions()
    city = plan_shots(plan, num_database=600, num_queries=120, num_unknown=0, options=options)
    scene = Scene(plan)
    views = {}

    def fronts(shot):
        if shot.number not in views:
            views[shot.number] = set(
                visible_fronts(scene, shot_camera(shot, seed=plan.seed, options=options))
            )
        return views[shot.number]

    database = [shot for shot in city.shots if shot.role == "database"]
    place = np.array([(shot.x_m, shot.y_m) for shot in database])
    shared = []
    for shot in city.shots[600:]:
        near = np.flatnonzero(np.hypot(*(place - (shot.x_m, shot.y_m)).T) <= 10)
        shared.append(any(fronts(shot) & fronts(database[k]) for k in near))
    assert np.mean(shared) >= 0.9


def test_every_condition_looks_its_part(plan):
    """Night is dark and snow is bright on the ground; fog takes the contrast of what is far."""
    options = CaptureOptions(
        width=160, height=120, conditions=dict.fromkeys(QUERY_FOLDERS, 1.0), traffic=0.0
    )
    city = plan_shots(plan, num_database=60, num_queries=3, num_unknown=0, options=options)
    photographer = Photographer(plan, city.runs, options=options, px_per_m=12, cache_bytes=10**8)
    base = next(shot for shot in city.shots if shot.tile == 0 and shot.stop == 4)
    taken = {
        name: photographer.take(
            replace(base, role="queries", condition=name, run=1 + k, number=5000)
        )
        for k, name in enumerate(QUERY_FOLDERS)
    }
    photos = {name: photo.astype(float) for name, (photo, _, _) in taken.items()}
    assert photos["night"].mean() < 0.75 * photos["day"].mean()
    assert photos["snow"][90:].mean() > 1.3 * photos["overcast"][90:].mean()
    depth = taken["fog"][1].inverse_depth
    far, near = (depth > 0) & (depth < 1 / 50), depth > 1 / 25
    assert far.sum() > 100
    fading = [photos[name][far].std() / photos[name][near].std() for name in ("fog", "overcast")]
    assert fading[0] < 0.75 * fading[1]
    assert len({photo.tobytes() for photo in photos.values()}) == len(QUERY_FOLDERS)


def test_conditions_are_found_by_name():
    assert get_condition("occluded") is CONDITIONS["day"]
    with pytest.raises(UnknownName, match="night"):
        get_condition("nigth")
    run = make_run(3, 1, condition="snow", year=2020, change=0)
    assert run.start.month in (12, 1, 2)
    assert run.epoch.season == "winter"
    assert np.linalg.norm(run.sun_direction) == pytest.approx(1)


def test_sprites_stand_on_their_lower_edge():
    for season in SEASONS:
        tree = draw_tree(1, season, 16)
        assert tree[-2:, :, 3].max() > 0
    bare, full = (np.mean(draw_tree(1, season, 16)[..., 3] > 0) for season in ("winter", "summer"))
    assert bare < 0.6 * full
    for number in range(NUM_CARS):
        for picture in (
            draw_car_side(number, 20),
            draw_car_end(number, True, 20),
            draw_car_end(number, False, 20),
            draw_person(number, 20),
        ):
            assert picture.shape[2] == 4
            assert picture[..., 3].max() > 0


def test_the_texture_cache_is_bounded_and_keeps_what_was_used_last():
    cache = TextureCache(max_bytes=1000)
    for key in range(10):
        cache.get(
            key,
            lambda: Texture(np.zeros((10, 5, 4), np.uint8)),
            lambda texture: texture.base.nbytes,
        )
        cache.get(
            0, lambda: Texture(np.zeros((10, 5, 4), np.uint8)), lambda texture: texture.base.nbytes
        )
        assert cache.held_bytes <= 1000
    made = cache.num_made
    cache.get(0, lambda: pytest.fail("it is held"), lambda texture: 1)
    cache.get(1, lambda: Texture(np.zeros((10, 5, 4), np.uint8)), lambda texture: 1)
    assert cache.num_made == made + 1


def test_reduced_textures_keep_the_mean():
    random = np.random.default_rng(0)
    texture = Texture(random.integers(0, 255, (64, 128, 4), dtype=np.uint8))
    for level in ((1, 0), (0, 1), (2, 1), (3, 3)):
        small = texture.level(*level)
        assert small.shape == (64 >> level[1], 128 >> level[0], 4)
        np.testing.assert_allclose(small.mean(axis=(0, 1)), texture.base.mean(axis=(0, 1)), atol=2)


def test_a_homography_needs_a_lot_of_the_city(plan):
    from whence.worlds.views import front_homography

    camera = shot_camera(
        plan_shots(
            plan, num_database=6, num_queries=0, num_unknown=0, options=CaptureOptions()
        ).shots[0],
        seed=8,
        options=CaptureOptions(),
    )
    with pytest.raises(BadOption):
        front_homography(Scene(plan), -1, first=camera, second=camera)


def test_fronts_repeat_the_one_beside_them(plan):
    """As often as asked, in looks, shops and width; without it the plan is the same as ever."""
    assert not any(
        one.look == two.look and one.block == two.block for one, two in pairwise(plan.lots)
    )
    shares = []
    for share in (0.3, 1.0):
        repeated = plan_city(8, options=replace(plan.options, repeated_share=share))
        pairs = [
            (one, two)
            for one, two in pairwise(repeated.lots)
            if (one.block, one.street) == (two.block, two.street)
        ]
        alike = [one.look == two.look for one, two in pairs]
        assert alike == [one.instance == two.instance for one, two in pairs]
        shares.append(np.mean(alike))
    assert shares[0] == pytest.approx(0.3, abs=0.06)
    assert shares[1] == 1


def test_drives_of_queries_go_aside(plan):
    """To the left of their direction, so far, within the street; the database's and all else
    stay."""
    plain, aside = (
        plan_drives(
            plan,
            city="c",
            num_database=120,
            num_queries=60,
            options=CaptureOptions(queries_aside_m=metres),
        ).shots
        for metres in (0.0, 2.5)
    )
    assert len(plain) == len(aside)
    assert {shot.role for shot in plain} == {"database", "queries"}
    moved = []
    for one, other in zip(plain, aside, strict=True):
        assert replace(other, x_m=one.x_m, y_m=one.y_m) == one
        way = plan.streets[one.street].direction
        left = np.array([other.x_m - one.x_m, other.y_m - one.y_m]) @ [-way[1], way[0]]
        assert np.hypot(other.x_m - one.x_m, other.y_m - one.y_m) == pytest.approx(
            abs(left), abs=1e-9
        )
        if one.role == "database":
            assert left == 0
        else:
            moved.append(left)
            assert 0 < left <= 2.5 + 1e-9
    assert np.median(moved) == pytest.approx(2.5)
