"""Cells, groups and focal points: golden values, a slow oracle, what a group promises, and what is
saved."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from published_names import columns_of, published_names
from whence.data.partition import CellOptions, Partition, load_partition, make_partition
from whence.errors import BadOption, InputError, NoPhotos
from whence.geo import to_utm_arrays
from whence.lists import group_rows

ALL = CellOptions(min_photos=1)


def slow_cells(
    east: np.ndarray, north: np.ndarray, heading: np.ndarray, options: CellOptions
) -> dict[tuple, dict[tuple, list[int]]]:
    """Groups, by their numbers, of cells, by their corners, of rows: one photo after another."""
    m, a, n, turned = options.cell_m, options.heading_bin_deg, options.num_apart, options.num_turned
    held = defaultdict(list)
    for row in range(len(east)):
        if np.isfinite([east[row], north[row], heading[row]]).all():
            corner = (east[row] // m * m, north[row] // m * m, heading[row] % 360 // a * a)
            held[corner].append(row)
    groups: dict[tuple, dict[tuple, list[int]]] = defaultdict(dict)
    for corner, rows in held.items():
        if len(rows) >= options.min_photos:
            group = (
                corner[0] % (m * n) // m,
                corner[1] % (m * n) // m,
                corner[2] % (a * turned) // a,
            )
            groups[group][corner] = rows
    return groups


@pytest.mark.parametrize(
    ("photo", "corner", "group"),
    [
        ((545001.7, 4178002.3, 123.4), (545000, 4178000, 120), (0, 0, 0)),
        ((549999.99, 4180010.0, 359.9), (549990, 4180010, 330), (4, 1, 1)),
        ((545123, 4178456, 0), (545120, 4178450, 0), (2, 0, 0)),
        ((545123, 4178456, -15), (545120, 4178450, 330), (2, 0, 1)),
        ((545123, 4178456, 360), (545120, 4178450, 0), (2, 0, 0)),
    ],
)
def test_golden_cells(
    photo: tuple[float, ...], corner: tuple[int, ...], group: tuple[int, ...]
) -> None:
    """The specification's worked values; headings are wrapped first, which the public code does not
    do."""
    found = make_partition(*(np.array([value]) for value in photo), options=ALL)
    assert found.corners.tolist() == [list(map(float, corner))]
    # A second photo in the group's first cell near the origin shows the group's number by its
    # order.
    assert slow_cells(*(np.array([value], float) for value in photo), ALL).keys() == {group}


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    num=st.integers(1, 400),
    min_photos=st.integers(1, 3),
    scale=st.sampled_from([30.0, 300.0]),
)
def test_cells_are_the_slow_oracle(seed: int, num: int, min_photos: int, scale: float) -> None:
    random = np.random.default_rng(seed)
    east, north = random.normal(0, scale, (2, num))
    heading = random.uniform(-400, 400, num)
    heading[random.random(num) < 0.1] = np.nan
    options = CellOptions(min_photos=min_photos, num_apart=3)
    expected = slow_cells(east, north, heading, options)
    if not expected:
        with pytest.raises(NoPhotos):
            make_partition(east, north, heading, options=options)
        return
    found = make_partition(east, north, heading, options=options)
    assert found.groups.counts.sum() == sum(map(len, expected.values()))
    assert found.photos.counts.sum() == np.isfinite(heading).sum()
    groups = []
    for g in range(len(found.groups.counts)):
        groups.append(
            {tuple(found.corners[c]): found.photos.of(int(c)).tolist() for c in found.groups.of(g)}
        )
    assert groups == [expected[number] for number in sorted(expected)]


def test_cells_of_a_group_are_apart() -> None:
    random = np.random.default_rng(0)
    east, north, heading = (
        random.uniform(0, 200, 4000),
        random.uniform(0, 200, 4000),
        random.uniform(0, 360, 4000),
    )
    found = make_partition(east, north, heading, options=ALL)
    assert len(found.groups.counts) == 50
    for g in range(50):
        corners = found.corners[found.groups.of(g)]
        for i in range(len(corners)):
            gaps = np.abs(np.delete(corners, i, axis=0) - corners[i])
            turned = np.minimum(gaps[:, 2], 360 - gaps[:, 2])
            assert ((gaps[:, :2].max(axis=1) >= 50) | (turned >= 60)).all()


def test_what_is_no_cell() -> None:
    with pytest.raises(NoPhotos, match="heading"):
        make_partition(np.array([np.nan]), np.array([1.0]), np.array([1.0]))
    with pytest.raises(NoPhotos, match="has 10 photos"):
        make_partition(np.zeros(9), np.zeros(9), np.zeros(9))
    with pytest.raises(BadOption):
        make_partition(np.zeros(9), np.zeros(9), np.zeros(9), options=CellOptions(cell_m=0))


@pytest.mark.parametrize("step", [1, 2**55], ids=["packed", "too far apart to pack"])
def test_rows_of_equal_keys(step: int) -> None:
    keys = np.random.default_rng(3).integers(-20, 20, 500) * step
    found = group_rows(keys)
    assert found.keys.tolist() == sorted(set(keys.tolist()))
    for place, key in enumerate(found.keys):
        assert found.rows.of(place).tolist() == np.flatnonzero(keys == key).tolist()
    assert len(group_rows(np.empty(0, np.int64)).keys) == 0


COSPLACE = CellOptions()
EIGENPLACES = CellOptions(cell_m=15, heading_bin_deg=360, num_apart=3, num_turned=1, min_photos=5)
DIVIDE = CellOptions(cell_m=20, heading_bin_deg=360, num_apart=2, num_turned=1, min_photos=10)


def of_names(num: int, options: CellOptions) -> Partition:
    return make_partition(
        *(np.array(column) for column in columns_of(published_names(num))),
        zone="10S",
        options=options,
    )


def images_of(found: Partition, group: int) -> int:
    return sum(len(found.photos.of(int(cell))) for cell in found.groups.of(group))


def test_golden_partition_of_cosplace() -> None:
    """The 1,800 names of the specification, measured with the published code."""
    assert published_names(2)[1].startswith("@0545007.01@4178013.03@10@S@@@@@037@")
    found = of_names(1800, replace(COSPLACE, min_photos=5))
    assert len(found) == 282
    assert found.groups.counts.tolist() == [
        6,
        6,
        6,
        3,
        6,
        6,
        6,
        6,
        6,
        1,
        *[6] * 9,
        2,
        6,
        4,
        *[6] * 18,
    ]
    assert sum(images_of(found, g) for g in range(40)) == 1710
    order = found.num_in_order[:10].tolist()
    expected = [
        (0, 0, 0),
        (0, 1, 1),
        (1, 2, 0),
        (2, 3, 1),
        (2, 0, 0),
        (3, 1, 0),
        (0, 3, 1),
        (0, 4, 0),
        (1, 1, 1),
        (2, 2, 1),
    ]
    assert [found.group_numbers(g) for g in order] == expected
    assert [len(found.groups.of(g)) for g in order] == [6, 3, 6, 6, 6, 6, 6, 6, 6, 6]
    assert [images_of(found, g) for g in order] == [34, 17, 51, 48, 56, 43, 54, 38, 59, 42]
    first = found.groups.of(order[0])
    assert found.corners[first].tolist() == [[545000, 4178000, a] for a in range(0, 360, 60)]
    assert found.photos.counts[first].tolist() == [7, 6, 5, 5, 5, 6]
    strict = of_names(1800, COSPLACE)
    assert (
        strict.groups.counts.sum(),
        sum(images_of(strict, g) for g in range(len(strict.groups.counts))),
    ) == (32, 336)


def test_golden_focal_points_of_eigenplaces() -> None:
    found = of_names(240, EIGENPLACES)
    order = found.num_in_order.tolist()
    numbers = [(0, 1), (0, 2), (1, 0), (2, 1), (2, 2), (0, 0), (1, 2), (2, 0), (1, 1)]
    assert [found.group_numbers(g)[:2] for g in order] == numbers
    assert [len(found.groups.of(g)) for g in order] == [2, 1, 1, 1, 1, 1, 1, 1, 2]
    assert sum(images_of(found, g) for g in order) == 235
    lateral, frontal = (
        found.focal_points(distance_m=10, angle_deg=angle) - (545000, 4178000) for angle in (0, 90)
    )
    golden = {
        (544995, 4177995): (9, (2.3392, 10.7227), (-7.4716, 0.5370)),
        (544995, 4178010): (20, (8.7828, 24.5606), (-4.2531, 19.0773)),
        (545010, 4177995): (11, (25.8906, 17.8766), (12.8543, 12.3942)),
        (545010, 4178025): (27, (8.9738, 35.4516), (10.7129, 21.4168)),
        (545025, 4178010): (29, (36.2775, 29.7813), (23.3614, 24.0217)),
        (545025, 4178025): (29, (35.8762, 45.5986), (22.9803, 39.7938)),
    }
    for corner, (num, across, along) in golden.items():
        cell = next(k for k in range(len(found)) if tuple(found.corners[k, :2]) == corner)
        assert len(found.photos.of(cell)) == num
        np.testing.assert_allclose(lateral[cell], across, atol=1e-4)
        np.testing.assert_allclose(frontal[cell], along, atol=1e-4)


@pytest.mark.parametrize(
    ("direction_deg", "across", "along"),
    [
        (0, (0, 10), (-10, 0)), (10, (-1.7365, 9.8481), (-9.8481, -1.7365)),
        (45, (-7.0711, 7.0711), (-7.0711, -7.0711)), (80, (-9.8481, 1.7365), (-1.7365, -9.8481)),
        (90, (10, 0), (0, 10)), (100, (9.8481, 1.7365), (-1.7365, 9.8481)),
        (135, (7.0711, 7.0711), (-7.0711, 7.0711)), (170, (1.7365, 9.8481), (-9.8481, 1.7365)),
    ],
)  # fmt: skip
def test_golden_directions_of_streets(
    direction_deg: float, across: tuple[float, ...], along: tuple[float, ...]
) -> None:
    """Nine photos along a street in each direction, a little aside: across is the northern side,
    along turns at north."""
    k = np.arange(-4, 5)
    forward, aside = 1.6 * k, 0.3 * ((7 * k**2) % 5 - 2)
    turn = np.radians(direction_deg)
    east = 545007.5 + forward * np.cos(turn) - aside * np.sin(turn)
    north = 4178007.5 + forward * np.sin(turn) + aside * np.cos(turn)
    found = make_partition(east, north, options=CellOptions(1000, 360, 1, 1, 1))
    assert len(found) == 1
    for angle, expected in ((0, across), (90, along)):
        np.testing.assert_allclose(
            found.focal_points(distance_m=10, angle_deg=angle)[0] - found.means[0],
            expected,
            atol=1e-4,
        )


def test_the_spread_of_views_is_that_of_geometry() -> None:
    """Lateral views of a 15 m stretch, seen from everywhere along it: 2 atan(7.5 / D); far away all
    look one way."""
    east = 544995 + np.linspace(0, 15, 3001)[1:-1]
    found = make_partition(east, np.full(len(east), 4178007.5), options=EIGENPLACES)
    for distance, degrees in ((10, 73.7398), (20, 41.1121), (30, 28.0725), (50, 17.0615)):
        focal = found.focal_points(distance_m=distance, angle_deg=0)[0]
        seen = np.degrees(np.arctan2(focal[0] - east, focal[1] - 4178007.5))
        assert np.ptp(seen) == pytest.approx(degrees, abs=0.05)


def test_photos_at_one_point_look_across_a_street_from_west_to_east() -> None:
    found = make_partition(np.full(9, 545001.3), np.full(9, 4178001.7), options=EIGENPLACES)
    np.testing.assert_allclose(
        found.focal_points(distance_m=10, angle_deg=0), [[545001.3, 4178011.7]]
    )


def test_golden_partition_of_divide_and_classify() -> None:
    found = of_names(700, DIVIDE)
    assert sorted(images_of(found, g) for g in range(4)) == [119, 170, 170, 224]
    by_group = {
        found.group_numbers(g)[:2]: found.corners[found.groups.of(g), :2].tolist() for g in range(4)
    }
    assert by_group == {
        (0, 0): [[545000, 4178000], [545000, 4178040]],
        (0, 1): [[545000, 4178020]],
        (1, 1): [[545020, 4178020]],
        (1, 0): [[545020, 4178000], [545020, 4178040]],
    }
    assert found.centres[found.groups.of(0)[0]].tolist() == [545010, 4178010]
    asked = (
        np.array([545019.99, 545045, 545001, np.nan]),
        np.array([4178020.0, 4178061, 4178001, 1]),
    )
    cells = found.cell_of(*asked)
    assert found.centres[cells[0]].tolist() == [545010, 4178030]
    assert cells.tolist()[1] == cells.tolist()[3] == -1
    assert cells[2] == found.groups.of(0)[0]


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_every_photo_lies_in_its_cell(seed: int) -> None:
    random = np.random.default_rng(seed)
    east, north, heading = (
        random.uniform(-60, 60, 200),
        random.uniform(-60, 60, 200),
        random.uniform(-400, 800, 200),
    )
    found = make_partition(east, north, heading, options=ALL)
    cells = found.cell_of(east, north, heading)
    for cell in range(len(found)):
        assert found.photos.of(cell).tolist() == np.flatnonzero(cells == cell).tolist()


def test_a_zone_edge_through_a_city_cuts_no_cell() -> None:
    """Photos of the same ground named in two zones share their cells, in the zone of most."""
    lat = 48.0 + np.repeat(np.arange(20), 3) * 2e-4
    lon = np.full(60, 6.0)
    zone = np.array([b"32U", b"32U", b"31U"] * 20)
    east, north = np.empty(60), np.empty(60)
    for name in ("31U", "32U"):
        rows = zone == name.encode()
        east[rows], north[rows] = to_utm_arrays(lat[rows], lon[rows], zone=name)
    assert np.ptp(east) > 400_000
    found = make_partition(east, north, zone=zone, options=replace(EIGENPLACES, min_photos=3))
    assert found.zone == "32U"
    assert found.photos.counts.sum() == 60
    assert (found.photos.counts % 3 == 0).all()
    apart = make_partition(east, north, options=replace(EIGENPLACES, min_photos=1))
    assert len(apart) > len(found), "without zones every place would be two"


def test_headings_are_needed_only_where_cells_have_them() -> None:
    east = np.zeros(5)
    assert make_partition(east, east, options=EIGENPLACES).groups.counts.tolist() == [1]
    assert make_partition(
        east, east, np.full(5, np.nan), options=EIGENPLACES
    ).groups.counts.tolist() == [1]
    with pytest.raises(NoPhotos, match="a heading"):
        make_partition(east, east, options=COSPLACE)
    with pytest.raises(BadOption, match="focal points"):
        of_names(1800, COSPLACE).focal_points(distance_m=10, angle_deg=0)


def test_a_partition_is_saved_with_what_it_was_made_from(tmp_path: Path) -> None:
    found = of_names(240, EIGENPLACES)
    found.write(tmp_path / "p.npz")
    again = load_partition(tmp_path / "p.npz", digest=found.digest)
    assert (again.options, again.zone, again.digest) == (found.options, "10S", found.digest)
    for one, two in ((again.photos, found.photos), (again.groups, found.groups)):
        assert all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))
    assert np.array_equal(
        again.focal_points(distance_m=3, angle_deg=9), found.focal_points(distance_m=3, angle_deg=9)
    )
    columns = [np.array(column) for column in columns_of(published_names(240))]
    digests = {found.digest}
    for k in range(3):
        changed = [column + (0.01 if k == i else 0) for i, column in enumerate(columns)]
        digests.add(make_partition(*changed, zone="10S", options=EIGENPLACES).digest)
    digests.add(of_names(240, replace(EIGENPLACES, min_photos=4)).digest)
    assert len(digests) == 5
    with pytest.raises(InputError, match="other photos"):
        load_partition(tmp_path / "p.npz", digest="0")
    (tmp_path / "p.npz").write_bytes((tmp_path / "p.npz").read_bytes()[:100])
    with pytest.raises(InputError, match="is no partition"):
        load_partition(tmp_path / "p.npz")
