"""Searching by sequences: against the slow way, across the ends of drives, and at other speeds."""

from __future__ import annotations

import numpy as np
import pytest

from whence.errors import BadOption
from whence.index.alignment import (
    aligned_distances,
    enhance_contrast,
    frame_distances,
    match_sequences,
    search_by_distance,
)


def slow_match(
    distances: np.ndarray, window: np.ndarray, runs: np.ndarray, speeds: tuple[float, ...]
) -> np.ndarray:
    costs = np.full(distances.shape[1], np.inf)
    middle = (len(window) - 1) // 2
    for n in range(distances.shape[1]):
        for speed in speeds:
            way = [n + int(np.round(speed * (s - middle))) for s in range(len(window))]
            if all(0 <= at < len(runs) and runs[at] == runs[n] for at in way):
                costs[n] = min(
                    costs[n],
                    np.mean([distances[frame, at] for frame, at in zip(window, way, strict=True)]),
                )
    return costs


def test_search_by_distance_is_the_slow_one_for_any_length_of_vectors() -> None:
    random = np.random.default_rng(0)
    database, queries = (
        random.standard_normal((n, 5)).astype(np.float32) * (1 + np.arange(n))[:, None]
        for n in (40, 7)
    )
    database[9] = database[3]
    found = search_by_distance(database, queries, k=6)
    slow = np.linalg.norm(queries[:, None] - database, axis=2)
    order = np.argsort(slow, axis=1, kind="stable")[:, :6]
    assert np.array_equal(found.ids, order)
    assert np.allclose(found.distances, np.take_along_axis(slow, order, axis=1), rtol=1e-4)
    tied = search_by_distance(database, database[3:4], k=3)
    assert tied.ids[0, :2].tolist() == [3, 9]
    assert search_by_distance(database[:2], queries, k=6).ids.shape == (7, 2)


def test_matching_goes_along_diagonals_and_never_into_another_drive() -> None:
    random = np.random.default_rng(1)
    distances = random.uniform(1, 2, (12, 30)).astype(np.float32)
    runs = np.repeat([0, 1, 2], [12, 14, 4])
    queries = np.array([np.arange(0, 5), np.arange(5, 10), np.arange(7, 12)])
    speeds = (1.0, 2.0, -1.0, 0.5)
    found = match_sequences(distances, queries, runs, speeds=speeds, k=30)
    for q, window in enumerate(queries):
        slow = slow_match(distances, window, runs, speeds)
        assert np.allclose(np.sort(-found.similarities[q]), np.sort(slow), atol=1e-6)
        assert np.allclose(slow[found.ids[q]], -found.similarities[q], atol=1e-6)
    alone = match_sequences(distances, queries, runs, speeds=(1.0,), k=30)
    assert np.isinf(alone.similarities).any(), "near the end of a drive no window fits"
    with pytest.raises(BadOption, match="one speed"):
        match_sequences(distances, queries, runs, speeds=())


@pytest.mark.parametrize("speed", [0.5, 1.0, 2.0, -1.0])
def test_a_drive_at_another_speed_is_found_at_that_speed_alone(speed: float) -> None:
    random = np.random.default_rng(2)
    database = random.standard_normal((80, 16)).astype(np.float32)
    way = 40 + np.round(speed * (np.arange(9) - 4)).astype(int)
    queries = database[way] + 0.3 * random.standard_normal((9, 16)).astype(np.float32)
    distances = frame_distances(database, queries)
    runs = np.zeros(80, int)
    cost = {
        v: -match_sequences(distances, np.arange(9)[None], runs, speeds=(v,), k=1).similarities[
            0, 0
        ]
        for v in (0.5, 1, 2, -1)
    }
    assert min(cost, key=lambda v: cost[v]) == speed
    assert (
        match_sequences(distances, np.arange(9)[None], runs, speeds=(0.5, 1, 2, -1), k=1).ids[0, 0]
        == 40
    )


def test_aligned_distances_are_the_mean_of_pairs_or_the_middle() -> None:
    random = np.random.default_rng(3)
    database, queries = random.standard_normal((9, 4)), random.standard_normal((6, 4))
    windows, asked = np.array([[0, 1, 2], [3, 4, 5], [6, 7, 8]]), np.array([[0, 1, 2], [3, 4, 5]])
    distances = frame_distances(database, queries)
    slow = [
        [
            np.mean([np.linalg.norm(queries[a] - database[b]) for a, b in zip(q, w, strict=True)])
            for w in windows
        ]
        for q in asked
    ]
    assert np.allclose(aligned_distances(distances, windows, asked), slow, atol=1e-5)
    middle = [[np.linalg.norm(queries[q[1]] - database[w[1]]) for w in windows] for q in asked]
    assert np.allclose(
        aligned_distances(distances, windows, asked, is_centre=True), middle, atol=1e-6
    )
    with pytest.raises(BadOption, match="side by side"):
        aligned_distances(distances, windows[:, :2], asked)


def test_contrast_is_what_stands_out_of_its_surroundings() -> None:
    distances = np.random.default_rng(4).uniform(0, 1, (3, 25))
    found = enhance_contrast(distances, radius=4)
    for row in range(3):
        for n in range(25):
            near = distances[row, max(0, n - 4) : n + 5]
            assert found[row, n] == pytest.approx(
                (distances[row, n] - near.mean()) / near.std(), abs=1e-4
            )
