"""Positions from candidates, and candidates from a search."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from whence.data.photos import Photos
from whence.errors import BadOption
from whence.geo import distance_m, move
from whence.index.flat import FlatIndex
from whence.localize.position import CONSENSUS_RADIUS_M, estimate_position
from whence.localize.retrieve import Around, Retriever
from whence.types import Candidate, GeoPoint, Photo

HERE = GeoPoint(59.32, 18.07)


def candidate(
    rank: int, similarity: float, *, east_m: float = 0.0, heading_deg: float | None = None
) -> Candidate:
    point = move(HERE, heading_deg=90.0, distance_m=east_m)
    return Candidate(
        photo=f"{rank}.jpg", rank=rank, similarity=similarity, point=point, heading_deg=heading_deg
    )


def test_between_two_equally_similar_photos() -> None:
    estimate = estimate_position(
        [candidate(1, 0.5), candidate(2, 0.5, east_m=20), candidate(3, 0.1, east_m=5000)]
    )
    assert estimate.status == "located"
    assert estimate.point is not None
    assert distance_m(HERE, estimate.point) == pytest.approx(10, abs=0.01)
    assert estimate.num_supporting == 2


def test_a_wrong_second_candidate_has_no_say() -> None:
    estimate = estimate_position(
        [
            candidate(1, 0.5),
            candidate(2, 0.49, east_m=CONSENSUS_RADIUS_M + 1),
            candidate(3, 0.1, east_m=900),
        ]
    )
    assert estimate.point is not None
    assert distance_m(HERE, estimate.point) < 0.01


def test_weights_follow_similarity_above_the_last() -> None:
    estimate = estimate_position(
        [candidate(1, 0.7), candidate(2, 0.4, east_m=10), candidate(3, 0.1, east_m=4000)]
    )
    assert estimate.point is not None
    expected = 10 * 0.3**2 / (0.6**2 + 0.3**2)
    assert distance_m(HERE, estimate.point) == pytest.approx(expected, abs=0.01)


def test_all_equally_similar_takes_the_first() -> None:
    estimate = estimate_position([candidate(1, 0.3), candidate(2, 0.3, east_m=10)])
    assert estimate.point == HERE


def test_without_candidates_or_coordinates() -> None:
    assert estimate_position([]).status == "unknown"
    matched = estimate_position([Candidate("a.jpg", 1, 0.9, heading_deg=12.0), candidate(2, 0.5)])
    assert (matched.status, matched.point, matched.heading_deg) == ("matched", None, 12.0)


def test_headings_average_around_north_and_leave_out_the_opposite_side() -> None:
    some = [
        candidate(1, 0.5, heading_deg=350),
        candidate(2, 0.5, heading_deg=10),
        candidate(3, 0.5, heading_deg=180),
    ]
    estimate = estimate_position([*some, candidate(4, 0.1, east_m=7000)])
    assert estimate.heading_deg is not None
    assert min(estimate.heading_deg, 360 - estimate.heading_deg) < 0.01
    assert (
        estimate_position([candidate(1, 0.5), candidate(2, 0.4, heading_deg=3)]).heading_deg is None
    )


@given(st.lists(st.tuples(st.floats(-1, 1), st.floats(-200, 200)), min_size=1, max_size=8))
def test_the_answer_lies_near_the_best_candidate(drawn: list[tuple[float, float]]) -> None:
    ordered = sorted(drawn, key=lambda one: -one[0])
    candidates = [
        candidate(i, similarity, east_m=abs(east))
        for i, (similarity, east) in enumerate(ordered, start=1)
    ]
    estimate = estimate_position(candidates)
    assert estimate.point is not None
    assert candidates[0].point is not None
    assert distance_m(candidates[0].point, estimate.point) <= CONSENSUS_RADIUS_M + 0.01


def table(num: int, *, contents: list[str] | None = None) -> Photos:
    points = [move(HERE, heading_deg=90, distance_m=100.0 * i) for i in range(num)]
    names = contents or [f"{i:032x}" for i in range(num)]
    records = [
        Photo(path=f"{i}.jpg", content=names[i], point=points[i] if i != 3 else None)
        for i in range(num)
    ]
    return Photos.of(records)


def test_photos_of_one_content_share_one_descriptor() -> None:
    photos = table(4)
    rows = np.array([0, 1, 1, -1])
    retriever = Retriever(photos, rows, FlatIndex.over(np.eye(2, dtype=np.float32)))
    found = retriever.retrieve(np.array([[0.2, 0.9]], np.float32), k=10)[0]
    assert [(one.photo, one.rank) for one in found] == [("1.jpg", 1), ("2.jpg", 2), ("0.jpg", 3)]
    assert found[0].similarity == found[1].similarity > found[2].similarity
    assert [
        one.photo for one in retriever.retrieve(np.array([[0.2, 0.9]], np.float32), k=1)[0]
    ] == ["1.jpg"]


def test_descriptors_nobody_refers_to_are_not_searched() -> None:
    retriever = Retriever(table(1), np.array([1]), FlatIndex.over(np.eye(3, dtype=np.float32)))
    found = retriever.retrieve(np.eye(3, dtype=np.float32), k=3)
    assert [[one.photo for one in row] for row in found] == [["0.jpg"]] * 3


def test_the_geographic_filter_is_exact() -> None:
    random = np.random.default_rng(0)
    descriptors = random.normal(size=(6, 8)).astype(np.float32)
    retriever = Retriever(table(6), np.arange(6), FlatIndex.over(descriptors))
    around = Around(HERE, within_m=200.5)
    found = retriever.retrieve(descriptors[:2], k=20, around=around)
    assert all({one.photo for one in row} == {"0.jpg", "1.jpg", "2.jpg"} for row in found)
    nowhere = Around(GeoPoint(-10, 0), within_m=10)
    assert retriever.retrieve(descriptors[:2], k=20, around=nowhere) == ((), ())


def test_one_content_at_two_places_obeys_the_filter() -> None:
    photos = table(3)
    retriever = Retriever(photos, np.array([0, 0, 0]), FlatIndex.over(np.ones((1, 2), np.float32)))
    found = retriever.retrieve(np.ones((1, 2), np.float32), k=5, around=Around(HERE, within_m=150))[
        0
    ]
    assert [one.photo for one in found] == ["0.jpg", "1.jpg"]


def test_impossible_requests() -> None:
    retriever = Retriever(table(1), np.array([0]), FlatIndex.over(np.ones((1, 2), np.float32)))
    with pytest.raises(BadOption):
        retriever.retrieve(np.ones((1, 2), np.float32), k=0)
    with pytest.raises(BadOption):
        Around(HERE, within_m=0)
