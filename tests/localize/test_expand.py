"""Searching again: query expansion, database augmentation and diffusion against their formulas
written out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whence.errors import BadOption
from whence.index.flat import FlatIndex
from whence.localize.expand import augment_database, diffuse, expand_queries


def unit(num: int, dim: int, seed: int) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(num, dim)) + 0.5
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def test_expanded_queries_are_their_formula() -> None:
    stored, asked = unit(40, 6, 1), unit(5, 6, 2)
    found = FlatIndex.over(stored).search(asked, k=10)
    for power in (0.0, 3.0):
        expanded = expand_queries(asked, stored, found, num=4, power=power)
        for query, one in zip(asked, expanded, strict=True):
            similarities = stored @ query
            total = query.astype(float)
            for row in np.argsort(-similarities)[:4]:
                total = total + max(similarities[row], 0) ** power * stored[row]
            assert one == pytest.approx(total / np.linalg.norm(total), abs=1e-5)


def test_augmented_databases_are_their_formula() -> None:
    stored = unit(30, 5, 3)
    augmented = augment_database(stored, num=3)
    for row in range(30):
        similarities = stored @ stored[row]
        similarities[row] = np.inf
        order = np.argsort(-similarities)
        total = sum(
            weight * stored[near]
            for near, weight in zip(order[:4], (1, 0.75, 0.5, 0.25), strict=True)
        )
        assert augmented[row] == pytest.approx(total / np.linalg.norm(total), abs=1e-5)
    alone = stored[:1]
    assert augment_database(alone, num=3) == pytest.approx(alone, abs=1e-6)


def slow_diffusion(
    query: np.ndarray, stored: np.ndarray, *, num_neighbors: int, num_sources: int, alpha: float
) -> np.ndarray:
    """The linear system as a dense matrix."""
    num = len(stored)
    others = np.where(np.eye(num, dtype=bool), -np.inf, stored @ stored.T)
    near = [set(np.argsort(-row)[:num_neighbors].tolist()) for row in others]
    affinity = np.zeros((num, num))
    for i in range(num):
        for j in near[i]:
            if i in near[j]:
                affinity[i, j] = max(float(stored[i] @ stored[j]), 0) ** 3
    degrees = affinity.sum(axis=1)
    scale = np.diag([1 / np.sqrt(degree) if degree else 1.0 for degree in degrees])
    similarities = (stored @ query).astype(float)
    sources = np.where(
        np.argsort(np.argsort(-similarities)) < num_sources, np.maximum(similarities, 0) ** 3, 0
    )
    return np.linalg.solve(np.eye(num) - alpha * scale @ affinity @ scale, sources)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10_000), st.sampled_from([0.0, 0.5, 0.95]))
def test_diffusion_solves_its_system(seed: int, alpha: float) -> None:
    stored, asked = unit(40, 5, seed), unit(3, 5, seed + 1)
    found = diffuse(asked, stored, k=40, num_neighbors=6, num_sources=4, alpha=alpha, num_steps=200)
    for query, ids, values in zip(asked, found.ids, found.similarities, strict=True):
        slow = slow_diffusion(query, stored, num_neighbors=6, num_sources=4, alpha=alpha)
        assert sorted(ids.tolist()) == list(range(40))
        assert values == pytest.approx(slow[ids], abs=1e-4)
        assert (np.diff(values) <= 1e-6).all()
        assert slow[ids[0]] == pytest.approx(slow.max(), abs=1e-4)


def test_diffusion_walks_along_a_chain_that_plain_search_does_not() -> None:
    """Two arcs of photos: the query lies at the end of one; its far end comes before the other arc,
    though that is nearer."""
    angles = np.concatenate([np.linspace(0, 2.4, 25), np.linspace(-0.9, -3.0, 22)])
    stored = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    query = stored[:1]
    plain = FlatIndex.over(stored).search(query, k=47).ids[0]
    spread = diffuse(
        query, stored, k=47, num_neighbors=4, num_sources=3, alpha=0.99, num_steps=300
    ).ids[0]
    assert (plain[:25] >= 25).any()
    assert set(spread[:25].tolist()) == set(range(25))
    # The other arc is reached by nothing: it follows in the order of the plain search.
    assert spread[25:].tolist() == [row for row in plain.tolist() if row >= 25]


def test_many_queries_are_those_one_by_one() -> None:
    stored, asked = unit(50, 6, 1), unit(300, 6, 2)
    together = diffuse(asked, stored, k=5)
    for query in (0, 255, 256, 299):
        alone = diffuse(asked[query : query + 1], stored, k=5)
        assert together.ids[query].tolist() == alone.ids[0].tolist()


def test_numbers_that_make_no_sense() -> None:
    stored = unit(5, 3, 1)
    found = FlatIndex.over(stored).search(stored, k=2)
    with pytest.raises(BadOption, match="at least 1"):
        expand_queries(stored, stored, found, num=0)
    with pytest.raises(BadOption, match="at least 1"):
        augment_database(stored, num=0)
    with pytest.raises(BadOption, match="alpha"):
        diffuse(stored, stored, k=2, alpha=1.0)
    assert diffuse(stored, stored, k=20).ids.shape == (5, 5)
