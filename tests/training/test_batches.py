"""Places and batches: slow oracles of the definitions, and what every batch of every epoch keeps
to."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whence.data.photos import Photos
from whence.errors import BadOption, NoPhotos
from whence.lists import NeighborLists
from whence.training.branches.places import (
    Batch,
    PlaceBatches,
    Places,
    _nearest_to_middle,
    make_places,
    shard,
)
from whence.training.options.places import BatchOptions, PlaceOptions
from whence.types import Photo, PlanePoint


def photos_at(points: np.ndarray, headings: np.ndarray) -> Photos:
    return Photos.of(
        Photo(f"{k}.jpg", plane=PlanePoint(float(x), float(y), "32T"), heading_deg=float(heading))
        for k, ((x, y), heading) in enumerate(zip(points, headings, strict=True))
    )


@pytest.fixture(scope="module")
def street() -> Photos:
    random = np.random.default_rng(3)
    return photos_at(
        random.uniform(0, 120, (400, 2)) + np.array([500_000, 5_000_000]),
        random.uniform(0, 360, 400),
    )


def test_places_are_their_definition(street: Photos) -> None:
    options = PlaceOptions(cell_m=10, heading_bin_deg=60, radius_m=9, max_turn_deg=35, min_photos=3)
    best: dict[tuple[int, int, int], tuple[float, int]] = {}
    for row, photo in enumerate(street):
        assert photo.plane is not None
        assert photo.heading_deg is not None
        parts = (photo.plane.east_m / 10, photo.plane.north_m / 10, photo.heading_deg / 60)
        cell = tuple(math.floor(part) for part in parts)
        off = sum((part - math.floor(part) - 0.5) ** 2 for part in parts)
        best[cell] = min(best.get(cell, (math.inf, 0)), (off, row))
    expected = {}
    for own in sorted(row for _, row in best.values()):
        near = []
        for row in range(len(street)):
            gap = math.hypot(
                street.east_m[row] - street.east_m[own], street.north_m[row] - street.north_m[own]
            )
            turn = abs(
                (float(street.heading_deg[row]) - float(street.heading_deg[own]) + 180) % 360 - 180
            )
            if gap <= 9 and turn <= 35:
                near.append(row)
        if len(near) >= 3:
            expected[own] = near
    places = make_places(street, options=options)
    assert [places.views.of(k).tolist() for k in range(len(places))] == list(expected.values())
    assert np.array_equal(
        places.points, np.stack([street.east_m, street.north_m], axis=1)[list(expected)]
    )
    assert len(places) > 50


def test_photos_without_a_place_are_named() -> None:
    with pytest.raises(NoPhotos, match=r"min_photos"):
        make_places(photos_at(np.arange(6).reshape(3, 2) * 1000.0, np.zeros(3)))


def test_photos_with_latitudes_alone_have_places_too(street: Photos) -> None:
    nowhere = np.full(len(street), np.nan)
    lat, lon = 45 + np.arange(400) * 2e-6, np.full(400, 9.0)
    places = make_places(street.with_columns(east_m=nowhere, north_m=nowhere, lat=lat, lon=lon))
    assert places.points.shape[1] == 3


def make(
    points: np.ndarray, num_photos: int, *, options: BatchOptions, seed: int = 0
) -> PlaceBatches:
    counts = np.full(len(points), num_photos)
    views = NeighborLists(np.concatenate([[0], np.cumsum(counts)]), np.arange(counts.sum()))
    return PlaceBatches(
        Places(photos_at(np.empty((0, 2)), np.empty(0)), views, views.offsets[:-1], points),
        options=options,
        seed=seed,
    )


@settings(deadline=None, max_examples=40)
@given(
    num_places=st.integers(2, 60),
    size=st.integers(1, 8),
    views=st.integers(1, 5),
    num_photos=st.integers(1, 6),
    apart=st.sampled_from([0.0, 5.0, 40.0]),
    seed=st.integers(0, 99),
)
def test_every_batch_keeps_the_rules(
    num_places: int, size: int, views: int, num_photos: int, apart: float, seed: int
) -> None:
    points = np.random.default_rng(seed).uniform(0, 200, (num_places, 2))
    options = BatchOptions(size, views, apart, has_own=seed % 2 == 0)
    try:
        batches = make(points, num_photos, options=options, seed=seed)
    except BadOption:
        assert size > 1
        return
    for epoch in (0, 1):
        used: list[int] = []
        for number in range(batches.num_batches(epoch)):
            rows, labels = batches.batch(epoch, number)
            places = labels.reshape(size, views)
            assert (places == places[:, :1]).all()
            used += places[:, 0].tolist()
            assert np.array_equal(rows // num_photos, labels)
            for chosen in rows.reshape(size, views):
                assert len(set(chosen.tolist())) == (
                    views if num_photos >= views else len(set(chosen.tolist()))
                )
            gap = np.linalg.norm(points[places[:, 0]][:, None] - points[places[:, 0]][None], axis=2)
            assert (gap[~np.eye(size, dtype=bool)] >= apart).all()
        assert len(used) == len(set(used)), "a place comes once in an epoch"


def test_batches_follow_from_seed_epoch_and_number() -> None:
    points = np.random.default_rng(0).uniform(0, 1000, (80, 2))
    options = BatchOptions(8, 3, 20.0)
    first, again = make(points, 7, options=options), make(points, 7, options=options)
    # Asked in another order, epochs mixed.
    asked = [(1, 3), (0, 2), (1, 0), (0, 0)]
    found = {key: first.batch(*key) for key in asked}
    for key in sorted(asked):
        assert np.array_equal(again.batch(*key).rows, found[key].rows)
    other = make(points, 7, options=options, seed=1)
    assert not np.array_equal(other.batch(0, 0).rows, found[0, 0].rows)
    assert not np.array_equal(found[1, 0].labels, found[0, 0].labels)


def test_nearly_all_places_come_in_an_epoch() -> None:
    batches = make(
        np.random.default_rng(0).uniform(0, 2000, (500, 2)), 4, options=BatchOptions(16, 4, 30.0)
    )
    assert batches.num_batches(0) >= 0.95 * 500 // 16


def test_batches_that_cannot_be_are_refused() -> None:
    with pytest.raises(BadOption, match="min_apart_m"):
        make(np.zeros((50, 2)), 4, options=BatchOptions(8, 4, 10.0))
    with pytest.raises(BadOption, match="not possible"):
        make(np.zeros((50, 2)), 4, options=BatchOptions(0, 4, 10.0))


def test_shards_are_the_batch() -> None:
    batch = Batch(np.arange(12), np.arange(12) // 3)
    parts = [shard(batch, rank=rank, num_ranks=4) for rank in range(4)]
    assert np.array_equal(np.concatenate([part.rows for part in parts]), batch.rows)
    assert np.array_equal(np.concatenate([part.labels for part in parts]), batch.labels)
    with pytest.raises(BadOption, match="evenly"):
        shard(batch, rank=0, num_ranks=5)


def test_the_photo_nearest_to_the_middle_of_each_cell() -> None:
    random = np.random.default_rng(4)
    cell, off = random.integers(-3, 3, (300, 3)), random.integers(0, 4, 300) / 4
    expected = {}
    for row in range(300):
        best = expected.setdefault(tuple(cell[row]), row)
        if off[row] < off[best]:
            expected[tuple(cell[row])] = row
    assert sorted(_nearest_to_middle(cell, off).tolist()) == sorted(expected.values())
