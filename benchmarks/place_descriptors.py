"""Made-up descriptors that behave like those of photos: unit vectors with a decaying spectrum,
neighbourhoods of places of views.

No set of real descriptors of a million photos is at hand; recalls on these say how hard the search
is, not how good a model is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from whence.runtime import random_stream

VIEWS_PER_PLACE = 4
PLACES_PER_NEIGHBOURHOOD = 50
BLOCK_PLACES = 8192


@dataclass(frozen=True)
class PlaceDescriptors:
    database: np.ndarray
    """(N, D) float32, unit rows; four consecutive rows show the same place."""
    queries: np.ndarray
    """(Q, D) float32, unit rows."""
    query_place: np.ndarray
    """(Q,) place shown; it is in rows 4 * place to 4 * place + 3."""


def make(
    num_database: int, *, num_queries: int, dim: int = 512, query_noise: float = 2.1, seed: int = 0
) -> PlaceDescriptors:
    """Descriptors of `num_database` views (rounded down to whole places) and of noisier queries.

    With the default noise exact search finds a view of the right place first for about seven
    queries in ten at a million rows.
    """
    spectrum = np.arange(1, dim + 1, dtype=np.float32) ** -0.4
    spectrum /= np.linalg.norm(spectrum)
    rotation = np.linalg.qr(random_stream(seed, 0).normal(size=(dim, dim)))[0].astype(np.float32)
    basis = spectrum[:, None] * rotation
    num_places = num_database // VIEWS_PER_PLACE
    draw = random_stream(seed, 1)
    centres = draw.standard_normal(
        (num_places // PLACES_PER_NEIGHBOURHOOD + 1, dim), dtype=np.float32
    )
    asked = np.sort(
        random_stream(seed, 2).choice(
            num_places, size=num_queries, replace=num_queries > num_places
        )
    )
    noise = random_stream(seed, 3)
    database = np.empty((num_places * VIEWS_PER_PLACE, dim), np.float32)
    queries = np.empty((num_queries, dim), np.float32)
    for first in range(0, num_places, BLOCK_PLACES):
        places = np.arange(first, min(first + BLOCK_PLACES, num_places))
        latent = 0.6 * centres[places // PLACES_PER_NEIGHBOURHOOD] + draw.standard_normal(
            (len(places), dim), dtype=np.float32
        )
        views = np.repeat(latent, VIEWS_PER_PLACE, axis=0)
        views += 0.7 * draw.standard_normal(views.shape, dtype=np.float32)
        database[first * VIEWS_PER_PLACE : first * VIEWS_PER_PLACE + len(views)] = _unit(
            views @ basis
        )
        here = slice(*np.searchsorted(asked, [places[0], places[-1] + 1]))
        mine = latent[asked[here] - first]
        queries[here] = _unit(
            (mine + query_noise * noise.standard_normal(mine.shape, dtype=np.float32)) @ basis
        )
    order = random_stream(seed, 4).permutation(num_queries)
    return PlaceDescriptors(database, queries[order], asked[order])


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)
