"""CosPlace's cells and groups: golden values, a slow oracle, and what a group promises. Places by the same grouping."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whence.errors import BadOption, NoPhotos
from whence.lists import group_rows
from whence.training.branches.cells import CellOptions, make_cells
from whence.training.branches.places import _nearest_to_middle

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
            group = (corner[0] % (m * n) // m, corner[1] % (m * n) // m, corner[2] % (a * turned) // a)
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
def test_golden_cells(photo: tuple[float, ...], corner: tuple[int, ...], group: tuple[int, ...]) -> None:
    """The specification's worked values; headings are wrapped first, which the public code does not do."""
    found = make_cells(*(np.array([value]) for value in photo), options=ALL)
    assert found.corners.tolist() == [list(map(float, corner))]
    # A second photo in the group's first cell near the origin shows the group's number by its order.
    assert slow_cells(*(np.array([value], float) for value in photo), ALL).keys() == {group}


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), num=st.integers(1, 400), min_photos=st.integers(1, 3), scale=st.sampled_from([30.0, 300.0]))
def test_cells_are_the_slow_oracle(seed: int, num: int, min_photos: int, scale: float) -> None:
    random = np.random.default_rng(seed)
    east, north = random.normal(0, scale, (2, num))
    heading = random.uniform(-400, 400, num)
    heading[random.random(num) < 0.1] = np.nan
    options = CellOptions(min_photos=min_photos, num_apart=3)
    expected = slow_cells(east, north, heading, options)
    if not expected:
        with pytest.raises(NoPhotos):
            make_cells(east, north, heading, options=options)
        return
    found = make_cells(east, north, heading, options=options)
    assert found.groups.counts.sum() == sum(map(len, expected.values()))
    assert found.photos.counts.sum() == np.isfinite(heading).sum()
    groups = []
    for g in range(len(found.groups.counts)):
        groups.append({tuple(found.corners[c]): found.photos.of(int(c)).tolist() for c in found.groups.of(g)})
    assert groups == [expected[number] for number in sorted(expected)]


def test_cells_of_a_group_are_apart() -> None:
    random = np.random.default_rng(0)
    east, north, heading = random.uniform(0, 200, 4000), random.uniform(0, 200, 4000), random.uniform(0, 360, 4000)
    found = make_cells(east, north, heading, options=ALL)
    assert len(found.groups.counts) == 50
    for g in range(50):
        corners = found.corners[found.groups.of(g)]
        for i in range(len(corners)):
            gaps = np.abs(np.delete(corners, i, axis=0) - corners[i])
            turned = np.minimum(gaps[:, 2], 360 - gaps[:, 2])
            assert ((gaps[:, :2].max(axis=1) >= 50) | (turned >= 60)).all()


def test_what_is_no_cell() -> None:
    with pytest.raises(NoPhotos, match="heading"):
        make_cells(np.array([np.nan]), np.array([1.0]), np.array([1.0]))
    with pytest.raises(NoPhotos, match="has 10 photos"):
        make_cells(np.zeros(9), np.zeros(9), np.zeros(9))
    with pytest.raises(BadOption):
        make_cells(np.zeros(9), np.zeros(9), np.zeros(9), options=CellOptions(cell_m=0))


@pytest.mark.parametrize("step", [1, 2**55], ids=["packed", "too far apart to pack"])
def test_rows_of_equal_keys(step: int) -> None:
    keys = np.random.default_rng(3).integers(-20, 20, 500) * step
    found = group_rows(keys)
    assert found.keys.tolist() == sorted(set(keys.tolist()))
    for place, key in enumerate(found.keys):
        assert found.rows.of(place).tolist() == np.flatnonzero(keys == key).tolist()
    assert len(group_rows(np.empty(0, np.int64)).keys) == 0


def test_the_photo_nearest_to_the_middle_of_each_cell() -> None:
    random = np.random.default_rng(4)
    cell, off = random.integers(-3, 3, (300, 3)), random.integers(0, 4, 300) / 4
    expected = {}
    for row in range(300):
        best = expected.setdefault(tuple(cell[row]), row)
        if off[row] < off[best]:
            expected[tuple(cell[row])] = row
    assert sorted(_nearest_to_middle(cell, off).tolist()) == sorted(expected.values())
