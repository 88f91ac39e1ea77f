"""Search in the likeliest cells of a map beside exact search: descriptors compared, time, and
whether the place is still found.

    python benchmarks/prefilter.py [--sizes 100000 1000000] [--json FILE]

Made-up photos along the streets of a grid: a stop every 9 m, twelve headings, two years, so some
fifty photos in each occupied cell of 20 m. What a photo shows follows from its stop and heading,
less from its cell and its neighbourhood, and from its year; queries are noisier. Cells are told by
one prototype each, as learned ones are (here the mean of their photos, which is worse), or by a
mean for each quarter of the compass, as a database without learned cells tells them. Recalls say
how hard this is, not how good a model is. One query at a time, one thread; ways take turns.
"""

from __future__ import annotations

import os

# numpy's matrix products read their thread count once, when they are loaded.
os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import side_by_side

from whence.index.cells.engine import CellIndex
from whence.index.cells.table import RowPlaces
from whence.index.flat import FlatIndex
from whence.runtime import random_stream, set_threads

DIM, K = 512, 10
STOP_M, BLOCK_M, NUM_HEADINGS = 9.0, 108.0, 12
STOPS_PER_STREET = int(BLOCK_M / STOP_M)
NUM_QUERIES = 200
QUERY_NOISE = 1.6
PEER = "exact search"


@dataclass(frozen=True)
class City:
    """N photos and Q queries."""

    rows: np.ndarray
    places: RowPlaces
    view: np.ndarray
    """(N,) stop and heading of each photo as one number."""
    queries: np.ndarray
    query_view: np.ndarray


def make_city(num_photos: int, *, num_years: int = 2) -> City:
    """A city of so many photos, the streets as many as they need."""
    num_views = num_photos // num_years
    num_stops = -(-num_views // NUM_HEADINGS)
    stop = np.arange(num_stops)
    side = int(np.ceil(np.sqrt(num_stops / STOPS_PER_STREET / 2)))
    street, along = np.divmod(stop, STOPS_PER_STREET)
    line, block = np.divmod(street // 2, side)
    forward, aside = block * BLOCK_M + (along + 0.5) * STOP_M, line * BLOCK_M + 3.0
    east, north = np.where(street % 2, aside, forward), np.where(street % 2, forward, aside)
    _, cell = np.unique(np.stack([east, north]) // 20, axis=1, return_inverse=True)
    draw = random_stream(0, 1)
    spectrum = np.arange(1, DIM + 1, dtype=np.float32) ** -0.4
    basis = (spectrum / np.linalg.norm(spectrum))[:, None] * np.linalg.qr(
        draw.normal(size=(DIM, DIM))
    )[0].astype(np.float32)
    of_cell = draw.standard_normal((int(cell.max()) + 1, DIM), dtype=np.float32)
    of_quarter = draw.standard_normal((num_stops // 400 + 1, DIM), dtype=np.float32)
    query_rows = np.sort(random_stream(0, 2).choice(num_views, NUM_QUERIES, replace=False))
    rows, queries = (
        np.empty((num_views * num_years, DIM), np.float32),
        np.empty((NUM_QUERIES, DIM), np.float32),
    )
    view = np.empty(len(rows), np.int64)
    for first in range(0, num_views, 16_384):
        views = np.arange(first, min(first + 16_384, num_views))
        here = views // NUM_HEADINGS
        latent = draw.standard_normal((len(views), DIM), dtype=np.float32)
        latent += 0.5 * of_cell[cell[here]] + 0.5 * of_quarter[here // 400]
        for year in range(num_years):
            # Photos stand in the order in which they were taken, year by year, not in that of the
            # cells.
            at = year * num_views + views
            rows[at] = _unit(
                (latent + 0.7 * draw.standard_normal(latent.shape, dtype=np.float32)) @ basis
            )
            view[at] = views
        mine = slice(*np.searchsorted(query_rows, [first, first + len(views)]))
        picked = latent[query_rows[mine] - first]
        queries[mine] = _unit(
            (picked + QUERY_NOISE * draw.standard_normal(picked.shape, dtype=np.float32)) @ basis
        )
    stops = view // NUM_HEADINGS
    heading = (view % NUM_HEADINGS) * (360.0 / NUM_HEADINGS)
    return City(
        rows,
        RowPlaces(545_000 + east[stops], 4_178_000 + north[stops], "10S", heading),
        view,
        queries,
        query_rows,
    )


def _unit(rows: np.ndarray) -> np.ndarray:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def found_first(index: FlatIndex, city: City) -> float:
    """Share of the queries whose first candidate was taken within 25 m of them."""
    ids = np.concatenate([index.search(query[None], k=1).ids[:, 0] for query in city.queries])
    rows = np.searchsorted(city.view[: int(city.view.max()) + 1], city.query_view)
    east, north = city.places.east_m, city.places.north_m
    return float((np.hypot(east[ids] - east[rows], north[ids] - north[rows]) <= 25).mean())


def compare(num_photos: int, *, rounds: int) -> dict[str, list[side_by_side.Timing]]:
    """Exact search and search in cells over one city, a few queries at a time of one each."""
    city = make_city(num_photos)
    exact = FlatIndex.over(city.rows)
    ways: dict[str, FlatIndex] = {PEER: exact}
    notes = {PEER: f"{num_photos:,} compared, place found for {found_first(exact, city):.3f}"}
    for places, told in (
        (replace(city.places, heading_deg=None), "one prototype each"),
        (city.places, "a mean a quarter"),
    ):
        kept = CellIndex.over_places(city.rows, places).kept() or {}
        for num_cells, has_neighbors in ((5, True), (10, True), (20, True), (10, False)):
            name = f"{num_cells} cells{'' if has_neighbors else ' without neighbours'}, {told}"
            index = CellIndex.from_kept(
                kept, city.rows, num_cells=num_cells, has_neighbors=has_neighbors
            )
            assert index.means is not None
            num_prototypes = index.means.num_compared(num_cells)
            rows = statistics.fmean(len(ids) for ids in index.ids_for(index.means, city.queries))
            fewer = num_photos / (num_prototypes + rows)
            notes[name] = (
                f"{num_prototypes:,} prototypes and {rows:,.0f} photos compared, {fewer:.1f} times "
                f"fewer ({num_photos / rows:.0f} without the prototypes), place found for "
                f"{found_first(index, city):.3f}"
            )
            ways[name] = index
    asked = city.queries[:10]
    jobs: dict[str, Callable[[], object]] = {
        name: lambda index=index: [index.search(query[None], k=K) for query in asked]  # type: ignore[misc]
        for name, index in ways.items()
    }
    title = (
        f"{num_photos:,} x {DIM} float32 in {len(index.means):,} cells, one query at a time, k = "
        f"{K}"
    )
    return {
        title: side_by_side.compare(
            title, jobs, peer=PEER, items=len(asked), rounds=rounds, notes=notes
        )
    }


def compare_doubled(num_photos: int, *, rounds: int) -> dict[str, list[side_by_side.Timing]]:
    """The time of a place without photos, and of exact search, where each cell has twice the
    photos."""
    jobs: dict[str, Callable[[], object]] = {}
    sizes = []
    for num_years in (2, 4):
        city = make_city(num_photos * num_years // 2, num_years=num_years)
        one_each = replace(city.places, heading_deg=None)
        index, exact = CellIndex.over_places(city.rows, one_each), FlatIndex.over(city.rows)
        cells, asked = index.means, city.queries[:10]
        assert cells is not None
        sizes.append(f"{len(cells):,} cells of {len(city.rows):,} photos")
        jobs[f"classification, {len(city.rows):,} photos"] = lambda cells=cells, asked=asked: [  # type: ignore[misc]
            cells.rank(query[None], num=20) for query in asked
        ]
        jobs[f"{PEER}, {len(city.rows):,} photos"] = lambda exact=exact, asked=asked: [  # type: ignore[misc]
            exact.search(query[None], k=K) for query in asked
        ]
    title = f"Twice the photos in the same cells: {', '.join(sizes)}"
    return {
        title: side_by_side.compare(title, jobs, peer=next(iter(jobs)), items=10, rounds=rounds)
    }


def main() -> None:
    """Print all tables."""
    parser = side_by_side.options(__doc__ or "")
    parser.add_argument("--sizes", type=int, nargs="+", default=[100_000, 1_000_000], help="photos")
    arguments = parser.parse_args()
    set_threads(1)
    started, results = time.perf_counter(), {}
    sizes = [20_000] if arguments.quick else arguments.sizes
    for size in sizes:
        results.update(compare(size, rounds=arguments.rounds))
    results.update(compare_doubled(sizes[0], rounds=arguments.rounds))
    side_by_side.save(arguments.json, results)
    print(f"\n{time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
