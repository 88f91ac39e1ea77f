"""Cells of a map: ranking by prototypes, tables of rows by place, search among the photos of the
best cells."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from whence.data.partition import CellOptions, make_partition
from whence.data.photos import Photos
from whence.data.planes import photos_on_plane
from whence.errors import BadOption, InputError, NoPhotos
from whence.geo import from_utm, to_utm
from whence.index.cells import engine
from whence.index.cells.classifier import CellClassifier, read_cells, write_cells
from whence.index.cells.engine import CellIndex
from whence.index.cells.published import published_classes
from whence.index.cells.table import CellTable, RowPlaces
from whence.index.flat import FlatIndex
from whence.lists import distinct
from whence.types import GeoPoint, Photo, PlanePoint

DIM, PER_CELL, SIDE = 24, 6, 12


def squares(shape: tuple[int, int], number: int, scale: float) -> np.ndarray:
    """Values scale * (-0.5 ... 0.5) by squares modulo 1009, as the golden values are stated."""
    j = np.arange(shape[0] * shape[1], dtype=np.int64)
    return (
        (scale * (((31 * j * j + 17 * j + 101 * number + 7) % 1009) / 1009 - 0.5))
        .astype(np.float32)
        .reshape(shape)
    )


def unit(rows: np.ndarray) -> np.ndarray:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def merged(**changes: object) -> CellClassifier:
    """Two groups of five and four cells with the prototypes of the golden values, in a row from
    west to east."""
    groups = [squares((5, 8), 0, np.sqrt(24 / 8)), squares((4, 8), 1, np.sqrt(24 / 8))]
    corners = np.stack([545_000 + 20.0 * np.arange(9), np.full(9, 4_178_000.0)], axis=1)
    found = CellClassifier(
        np.concatenate(groups),
        corners,
        20.0,
        "10S",
        "some-model",
        np.repeat([0, 1], [5, 4]),
        np.arange(9) + 10,
        digest="abc",
    )
    return replace(found, **changes)  # type: ignore[arg-type]


ASKED = unit(squares((4, 8), 1000, 2.0))
"""Descriptors of the golden values of two groups merged."""
RAW = [
    [0, 5, 4, 2, 6, 7, 1, 3, 8],
    [6, 4, 0, 3, 2, 1, 5, 8, 7],
    [7, 4, 0, 3, 1, 5, 2, 8, 6],
    [3, 8, 1, 4, 6, 7, 2, 0, 5],
]
NORMALISED = [
    [5, 2, 0, 4, 6, 7, 1, 3, 8],
    [6, 4, 0, 3, 2, 1, 5, 8, 7],
    [7, 4, 0, 3, 1, 2, 5, 8, 6],
    [8, 1, 3, 6, 4, 7, 2, 0, 5],
]


def test_golden_scores_and_ranking_of_two_groups_merged() -> None:
    cells = merged()
    assert cells.scores(ASKED)[0] == pytest.approx(
        [1.488002, 0.190122, 1.292579, 0.103422, 1.314601, 1.407260, 0.251912, 0.235227, 0.022679],
        abs=2e-5,
    )
    assert cells.rank(ASKED, num=9).cells.tolist() == RAW
    assert cells.rank(ASKED, num=9, is_normalised=True).cells.tolist() == NORMALISED


def test_golden_scores_of_one_group() -> None:
    asked = np.array(
        [
            (-0.34277, -0.31504, -0.30691, 0.06074, -0.55575, -0.46230, 0.22176, 0.33707),
            (-0.35776, -0.31632, -0.32239, 0.04727, -0.55047, -0.47987, 0.15313, 0.33021),
        ]
    )
    golden = [
        [0.31236, -0.01489, 0.04054, 0.03154, 0.40523],
        [0.36116, 0.02775, 0.07578, 0.09166, 0.48900],
    ]
    one = CellClassifier(squares((5, 8), 0, np.sqrt(24 / 8)), np.zeros((5, 2)), 20.0)
    assert one.scores(asked) == pytest.approx(np.array(golden), abs=1e-4)


@pytest.mark.parametrize("num", [1, 3, 9, 50])
def test_fewer_cells_are_the_first_of_all(num: int) -> None:
    found = merged().rank(ASKED, num=num)
    assert found.cells.tolist() == [row[:num] for row in RAW]
    assert (np.diff(found.scores, axis=1) <= 0).all()
    with pytest.raises(BadOption, match="at least 1"):
        merged().rank(ASKED, num=0)


def test_equal_scores_come_in_the_cells_own_order_however_many_are_asked_for() -> None:
    cells = CellClassifier(np.ones((100, 2), np.float32), np.zeros((100, 2)), 20.0)
    for num in (3, 99):
        assert cells.rank(np.ones((2, 2)), num=num).cells.tolist() == [list(range(num))] * 2


def test_of_several_prototypes_those_of_likely_cells_are_compared() -> None:
    """Few cells of many are asked for: what comes back are true scores, in order, and the best cell
    is hardly ever missed."""
    random = np.random.default_rng(0)
    owners = np.sort(np.concatenate([np.arange(600), random.integers(0, 600, 1200)]))
    middles = random.normal(size=(600, DIM))
    several = unit(middles[owners] + 0.7 * random.normal(size=(1800, DIM)))
    cells = CellClassifier(several, np.zeros((600, 2)), 20.0, owners=owners)
    asked = unit(several[::17] + 0.1 * random.normal(size=several[::17].shape))
    whole = cells.scores(asked)
    few, many = cells.rank(asked, num=5), cells.rank(asked, num=600)
    assert (cells.num_compared(5), cells.num_compared(600)) == (600 + 150, 1800)
    assert few.scores == pytest.approx(np.take_along_axis(whole, few.cells, axis=1), abs=1e-6)
    assert (np.diff(few.scores, axis=1) <= 0).all()
    assert all(len(set(row)) == 5 for row in few.cells.tolist())
    assert (few.cells[:, 0] == whole.argmax(axis=1)).mean() > 0.95
    assert (few.cells == many.cells[:, :5]).mean() > 0.8
    # One prototype each, a bias, or unit prototypes: all are compared.
    assert replace(cells, bias=np.zeros(1800, np.float32)).num_compared(5) == 1800
    single = CellClassifier(several[:600], np.zeros((600, 2)), 20.0, owners=np.arange(600))
    assert single.num_compared(5) == 600
    assert np.array_equal(
        single.rank(asked, num=5).cells, replace(single, owners=None).rank(asked, num=5).cells
    )
    assert np.array_equal(
        cells.rank(asked, num=5, is_normalised=True).cells[:, 0], whole.argmax(axis=1)
    )


@pytest.mark.parametrize("values", [[], [3], [2, 2, 2], [5, 1, 5, -2, 1], range(40)])
def test_distinct_values_are_those_of_numpy(values: list[int]) -> None:
    given = np.array(values, np.int64)
    assert np.array_equal(distinct(given), np.unique(given))


def test_a_bias_counts() -> None:
    bias = np.linspace(0, 80, 9).astype(np.float32)
    assert merged(bias=bias).rank(ASKED, num=9).cells.tolist() == [list(range(9))[::-1]] * 4


def test_centres_points_and_names() -> None:
    cells = merged()
    assert cells.centres_m[1].tolist() == [545_030, 4_178_010]
    assert cells.radius_m == pytest.approx(14.142, abs=1e-3)
    (point,) = cells.points(np.array([1])) or []
    back = to_utm(point, zone="10S")
    assert (back.east_m, back.north_m) == pytest.approx((545_030, 4_178_010), abs=1e-3)
    assert cells.names(np.array([1])) == ["cell 545020 E 4178000 N 10S"]
    assert merged(zone="").points(np.array([1])) is None


def test_of_a_partition_s_groups() -> None:
    random = np.random.default_rng(0)
    east, north = 545_000 + 200 * random.random((2, 900))
    partition = make_partition(
        east,
        north,
        zone="10S",
        options=CellOptions(cell_m=20, heading_bin_deg=360, num_apart=2, min_photos=5),
    )
    sizes = partition.groups.counts.tolist()
    weights = [random.normal(size=(size, 4)) for size in sizes]
    cells = CellClassifier.of_groups(partition, weights, model="m")
    assert (len(cells), cells.zone, cells.digest) == (sum(sizes), "10S", partition.digest)
    # Each photo's cell is found again, with its prototype.
    own = partition.cell_of(east, north)
    row = partition.groups.members.tolist().index(int(own[0]))
    assert (np.abs(cells.centres_m[row] - [east[0], north[0]]) <= 10).all()
    assert cells.num_photos is not None
    assert cells.num_photos[row] == (own == own[0]).sum()
    first = CellClassifier.of_groups(partition, weights[:1], model="m")
    assert len(first) == sizes[0]
    for wrong in (
        weights[::-1] if sizes[0] != sizes[-1] else [*weights[:1], weights[0][:1]],
        [weights[0][:-1]],
        [],
    ):
        with pytest.raises(InputError, match="do not belong together"):
            CellClassifier.of_groups(partition, wrong, model="m")


def test_saved_and_opened(tmp_path: Path) -> None:
    for cells in (
        merged(),
        merged(groups=None, num_photos=None, bias=np.arange(9).astype(np.float32), zone=""),
    ):
        write_cells(tmp_path / "cells.npz", cells)
        again = read_cells(tmp_path / "cells.npz")
        for name, value in vars_of(cells).items():
            assert np.array_equal(value, vars_of(again)[name]), name
    (tmp_path / "rubbish.npz").write_bytes(b"PK\3\4rubbish")
    np.savez(
        tmp_path / "other.npz", **{**merged().to_arrays(), "format": np.array("whence-cells-9")}
    )
    np.savez(tmp_path / "torn.npz", **{**merged().to_arrays(), "corners_m": np.zeros((8, 2))})
    for name in ("rubbish.npz", "other.npz", "torn.npz", "none.npz"):
        with pytest.raises(InputError, match=name):
            read_cells(tmp_path / name)


def vars_of(cells: CellClassifier) -> dict[str, object]:
    return {name: getattr(cells, name) for name in CellClassifier.__dataclass_fields__}


@pytest.mark.parametrize(
    "changes",
    [
        {"prototypes": np.zeros((8, 8), np.float32)},
        {"corners_m": np.zeros((9, 3))},
        {"cell_m": 0.0},
        {"corners_m": np.full((9, 2), 1e300)},
        {"corners_m": np.full((9, 2), np.inf)},
        {"groups": np.zeros(3, np.int64)},
        {"owners": np.arange(9)[::-1]},
        {"owners": np.zeros(9, np.int64)},
        {"prototypes": np.full((9, 8), np.nan, np.float32)},
    ],
    ids=str,
)
def test_arrays_that_do_not_belong_together_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(InputError):
        merged(**changes)


def test_photos_on_both_sides_of_a_zone_s_edge_lie_in_one_table() -> None:
    """Names carry the metres of their own zone; a point alone is as good; metres without a zone are
    taken to lie in it."""
    points = [GeoPoint(37.75, -120.0 + 0.0003 * k) for k in range(-3, 4)]
    photos = [
        Photo(path=f"{k}.jpg", point=one, plane=PlanePoint(*to_utm(one)))
        for k, one in enumerate(points)
    ]
    photos += [
        replace(photos[0], path="p.jpg", plane=None),
        replace(photos[1], path="q.jpg", point=None),
    ]
    table = Photos.of(photos)
    assert len({photo.plane.zone for photo in photos if photo.plane}) == 2
    east, north, _ = photos_on_plane(table, "10S")
    gaps = np.diff(east[:7])
    assert gaps == pytest.approx(np.full(6, gaps[0]), abs=0.01)
    assert (east[7:], north[7:]) == (
        pytest.approx(east[:2], abs=0.01),
        pytest.approx(north[:2], abs=0.01),
    )
    cells = CellTable.of(RowPlaces.of_photos(table, np.arange(9), num_rows=9), cell_m=1000.0)
    assert len(cells.rows.members) == 9
    assert not len(cells.unplaced)


def test_a_row_of_several_photos_lies_where_the_first_was_taken() -> None:
    def at(path: str, east: float) -> Photo:
        return Photo(
            path=path,
            plane=PlanePoint(east, 4_178_005.0, "10S"),
            point=from_utm(east, 4_178_005.0, zone="10S"),
        )

    photos = Photos.of(
        [
            Photo(path="a.jpg"),
            at("b.jpg", 545_005.0),
            at("c.jpg", 546_005.0),
            at("d.jpg", 545_065.0),
        ]
    )
    places = RowPlaces.of_photos(photos, np.array([0, 1, 1, -1]), num_rows=3)
    assert places.zone == "10S"
    assert places.east_m[1] == 545_005.0
    assert np.isnan(places.east_m[[0, 2]]).all()
    table = CellTable.of(places)
    assert (table.numbers.tolist(), table.unplaced.tolist()) == ([[27_250, 208_900]], [0, 2])


def test_golden_classes_of_published_weights() -> None:
    """The order of a set of Python's, which is not sorted; of the first 700 names of the list that
    the partition is stated with."""
    i = np.arange(700)
    east, north = (
        545_000 + 7 * i % 41 + i * i % 97 / 100,
        4_178_000 + 13 * i % 47 + 3 * i % 89 / 100,
    )
    found = published_classes(np.round(east, 2), np.round(north, 2))
    golden = [(0, 0), (0, 40), (0, 20), (20, 20), (20, 40), (20, 0)]
    assert (found.corners - [545_000, 4_178_000]).tolist() == [list(one) for one in golden]
    assert found.sizes == [2, 1, 1, 2]
    photos = np.split(found.num_photos, np.cumsum(found.sizes)[:-1])
    assert [int(one.sum()) for one in photos] == [224, 119, 170, 170]
    with pytest.raises(NoPhotos, match="10 photos"):
        published_classes(east[:20], north[:20])
    with pytest.raises(NoPhotos):
        published_classes(np.full(3, np.nan), north[:3])


def city(*, seed: int = 0, per_cell: int = PER_CELL) -> tuple[np.ndarray, RowPlaces, np.ndarray]:
    """Rows of photos of SIDE x SIDE cells that are each alike within a cell, their places, and the
    cell of each."""
    random = np.random.default_rng(seed)
    cell = np.repeat(np.arange(SIDE * SIDE), per_cell)
    centres = random.normal(size=(SIDE * SIDE, DIM))
    rows = unit(centres[cell] + 0.5 * random.normal(size=(len(cell), DIM)))
    spread = 20 * random.random((2, len(cell)))
    return (
        rows,
        RowPlaces(
            545_000 + 20 * (cell // SIDE) + spread[0],
            4_178_000 + 20 * (cell % SIDE) + spread[1],
            "10S",
        ),
        cell,
    )


def test_the_rows_of_cells_and_of_their_neighbours() -> None:
    _, places, cell = city()
    table = CellTable.of(places)
    assert len(table) == SIDE * SIDE
    corner, inner = table.numbers[0], table.numbers[SIDE + 1]
    assert (
        table.rows_in(corner[None], has_neighbors=False).tolist()
        == np.flatnonzero(cell == 0).tolist()
    )
    near = [0, 1, SIDE, SIDE + 1]
    assert table.rows_in(corner[None]).tolist() == np.flatnonzero(np.isin(cell, near)).tolist()
    assert len(table.rows_in(inner[None])) == 9 * PER_CELL
    assert table.rows_in(np.stack([corner, inner])).tolist() == table.rows_in(inner[None]).tolist()
    assert table.find(np.array([[0, 0], [10**9, 0]])).tolist() == [-1, -1]
    # Rows without a place belong to every search.
    places.east_m[:3] = np.nan
    assert CellTable.of(places).rows_in(table.numbers[-1:]).tolist()[:3] == [0, 1, 2]


def test_search_looks_at_the_best_cells_alone_and_finds_what_exact_search_finds() -> None:
    rows, places, cell = city()
    index = CellIndex.over_places(rows, places, num_cells=3)
    random = np.random.default_rng(1)
    asked = unit(rows[::37] + 0.1 * random.normal(size=rows[::37].shape))
    found, truth = index.search(asked, k=5), FlatIndex.over(rows).search(asked, k=5)
    assert np.array_equal(found.ids[:, 0], truth.ids[:, 0])
    assert np.array_equal(found.similarities[:, 0], truth.similarities[:, 0])
    assert index.means is not None
    assert index.table is not None
    # What is outside the best cells and their neighbours is not looked at.
    inside = index.table.rows_in(index.table.numbers[index.means.rank(asked[:1], num=3).cells[0]])
    assert len(inside) < len(rows) // 4
    assert set(found.ids[0].tolist()) <= set(inside.tolist())
    alone = CellIndex.over_places(rows, places, num_cells=1, has_neighbors=False)
    assert {*cell[alone.search(asked[:1], k=PER_CELL).ids[0]].tolist()} == {
        int(cell[truth.ids[0, 0]])
    }


def test_more_cells_are_taken_where_the_best_hold_too_few() -> None:
    rows, places, _ = city()
    index = CellIndex.over_places(rows, places, num_cells=1)
    assert index.search(rows[:2], k=len(rows)).ids.shape == (2, len(rows))
    allowed = np.arange(0, len(rows), 2)
    found = index.search(rows[:2], k=len(allowed), allowed=allowed)
    assert np.array_equal(np.sort(found.ids[0]), allowed)


def test_a_small_filter_is_searched_whole() -> None:
    rows, places, _ = city()
    index = CellIndex.over_places(rows, places, num_cells=1, has_neighbors=False)
    allowed = np.argsort(rows @ rows[0])[:50]
    truth = FlatIndex.over(rows).search(rows[:1], k=10, allowed=allowed)
    assert np.array_equal(index.search(rows[:1], k=10, allowed=allowed).ids, truth.ids)


@pytest.mark.parametrize("has_headings", [False, True])
def test_means_are_of_photos_that_look_the_same_way_whatever_their_numbers(
    has_headings: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One for each quarter of the compass, and one for photos of unknown heading; a cell with many
    photos is no better for that."""
    # Some rows at a time: cells lie across the borders.
    monkeypatch.setattr(engine, "_MEAN_BYTES", 4 * DIM * 10)
    rows, places, cell = city()
    random = np.random.default_rng(4)
    heading = np.where(
        random.random(len(rows)) < 0.2,
        np.nan,
        random.choice([0.0, 89.9, 90.0, 200.0, 359.9, 360.0], len(rows)),
    )
    places = replace(places, heading_deg=heading) if has_headings else places
    index = CellIndex.over_places(rows.astype(np.float16), places)
    quarter = np.nan_to_num(heading % 360 // 90, nan=4) if has_headings else np.zeros(len(rows))
    slow, owners = [], []
    for one in range(SIDE * SIDE):
        for way in range(5):
            alike = (cell == one) & (quarter == way)
            if alike.any():
                slow.append(rows[alike].astype(np.float16).astype(np.float32).mean(axis=0))
                owners.append(one)
    assert index.means is not None
    assert index.means.owners is not None
    assert index.means.owners.tolist() == owners
    assert index.means.prototypes == pytest.approx(unit(np.array(slow)), abs=1e-6)
    asked = rows[:5]
    best = np.full((5, SIDE * SIDE), -np.inf)
    np.maximum.at(best.T, np.array(owners), index.means.prototypes @ asked.T)
    assert index.means.scores(asked) == pytest.approx(best, abs=1e-6)
    kept = index.kept()
    assert kept is not None
    again = CellIndex.from_kept(kept, rows.astype(np.float16))
    assert np.array_equal(again.search(asked, k=4).ids, index.search(asked, k=4).ids)


def test_without_places_search_is_exact_and_nothing_is_kept() -> None:
    rows, places, _ = city()
    nowhere = RowPlaces(np.full(len(rows), np.nan), np.full(len(rows), np.nan))
    index = CellIndex.over_places(rows, nowhere, num_cells=1)
    assert index.kept() is None
    assert np.array_equal(
        index.search(rows[:3], k=50).ids, FlatIndex.over(rows).search(rows[:3], k=50).ids
    )
    told = CellIndex.over_places(rows, places, has_means=False)
    assert np.array_equal(
        told.search(rows[:3], k=50).ids, FlatIndex.over(rows).search(rows[:3], k=50).ids
    )


@pytest.mark.parametrize(
    "change",
    [
        {"members": np.zeros(SIDE * SIDE * PER_CELL, np.int64)},
        {"offsets": np.zeros(3, np.int64)},
        {"numbers": np.zeros((2, 2), np.int64)},
        {"cell_m": np.array("x")},
        {"means": np.zeros((2, DIM), np.float32)},
        {"means": np.ones((SIDE * SIDE, DIM + 1), np.float32)},
        {"owners": np.zeros(SIDE * SIDE, np.int64)},
        {"unplaced": np.array([7])},
    ],
    ids=lambda change: next(iter(change)),
)
def test_damaged_arrays_are_refused(change: dict[str, np.ndarray]) -> None:
    rows, places, _ = city()
    kept = CellIndex.over_places(rows, places).kept()
    assert kept is not None
    assert np.array_equal(
        CellIndex.from_kept(kept, rows).search(rows[:3], k=3).ids[:, 0], [0, 1, 2]
    )
    with pytest.raises(InputError, match="build the index again"):
        CellIndex.from_kept({**kept, **change}, rows)


def test_cells_told_by_another_model_s_descriptors_choose_the_rows() -> None:
    """Of a classifier that knows every second cell only: the others are reached as neighbours
    alone."""
    rows, places, cell = city()
    index = CellIndex.over_places(rows, places, has_means=False, num_cells=1)
    known = np.arange(0, SIDE * SIDE, 2)
    assert index.table is not None
    told = CellClassifier(
        np.eye(len(known), dtype=np.float32), 20.0 * index.table.numbers[known], 20.0, "10S"
    )
    asked = np.eye(len(known), dtype=np.float32)[[0, 7 + SIDE // 2]]
    first, inner = index.ids_for(told, asked)
    assert {*cell[first].tolist()} == {0, 1, SIDE, SIDE + 1}
    assert len(inner) == 9 * PER_CELL
    assert index.ids_for(told, asked, within=np.arange(3))[0].tolist() == [0, 1, 2]
    # More cells until there are rows enough, or no more cells.
    assert len(index.ids_for(told, asked, least=5 * PER_CELL)[0]) >= 5 * PER_CELL
    assert len(index.ids_for(told, asked, least=10**6)[0]) == len(rows)
    index.remove(first[:5])
    assert index.ids_for(told, asked)[0].tolist() == first[5:].tolist()
    index.add(first[:1], rows[:1])
    assert first[0] in index.ids_for(told, asked)[1]


def test_no_cell_cannot_be_searched() -> None:
    with pytest.raises(BadOption, match="cells:10"):
        CellIndex(num_cells=0)
