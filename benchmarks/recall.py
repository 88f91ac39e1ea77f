"""recall@N of many queries over a large database: listing all positives and looking for them,
against testing the predictions.

The usual way is scikit-learn's radius_neighbors and a loop with np.isin over queries and N, as the
field's scripts have it. Both must give the same recalls; that is checked. Positions only, made up:
about 20 positives per query.

    python benchmarks/recall.py [--quick]
"""

from __future__ import annotations

import numpy as np
from side_by_side import compare, options, save
from sklearn.neighbors import NearestNeighbors

from whence.evaluation.metrics import first_hit_by_distance, recalls
from whence.runtime import set_threads

RECALL_AT = (1, 5, 10, 20)
THRESHOLD_M = 25.0


def make(
    num_queries: int, num_database: int, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Database (N, 2) and queries (Q, 2) in metres, predictions (Q, 20) of which some are near."""
    random = np.random.default_rng(seed)
    side = np.sqrt(num_database / 20 * np.pi * THRESHOLD_M**2)
    database = random.uniform(0, side, (num_database, 2))
    order = np.argsort(database[:, 0])
    database = database[order]
    queries = random.uniform(0, side, (num_queries, 2))
    guess = np.searchsorted(database[:, 0], queries[:, 0])
    predictions = (guess[:, None] + random.integers(-3000, 3000, (num_queries, 20))) % num_database
    near = random.random((num_queries, 20)) < 0.02
    close = np.argmin(np.abs(database[guess % num_database, 1] - queries[:, 1])[:, None], axis=1)
    predictions[near] = (guess + close)[np.nonzero(near)[0]] % num_database
    return database, queries, predictions


def usual_way(database: np.ndarray, queries: np.ndarray, predictions: np.ndarray) -> list[int]:
    """Queries right at each N, as evaluation scripts count them."""
    finder = NearestNeighbors(n_jobs=1).fit(database)
    positives = finder.radius_neighbors(queries, radius=THRESHOLD_M, return_distance=False)
    right = np.zeros(len(RECALL_AT))
    for query, row in enumerate(predictions):
        for i, n in enumerate(RECALL_AT):
            if np.any(np.isin(row[:n], positives[query])):
                right[i:] += 1
                break
    return [int(count) for count in right]


def our_way(database: np.ndarray, queries: np.ndarray, predictions: np.ndarray) -> list[int]:
    """Queries right at each N, by the distance of each prediction."""
    hits = first_hit_by_distance(predictions, database, queries, thresholds_m=[THRESHOLD_M])[0]
    return [one.num_right for one in recalls(hits, recall_at=RECALL_AT)]


def main() -> None:
    """Compare at three sizes."""
    arguments = options(__doc__ or "").parse_args()
    set_threads(1)
    sizes = [(1_000, 10_000), (10_000, 100_000), (100_000, 1_000_000)]
    tables = {}
    for num_queries, num_database in sizes[: 2 if arguments.quick else 3]:
        data = make(num_queries, num_database)
        ours, theirs = our_way(*data), usual_way(*data)
        assert ours == theirs, f"the recalls differ: {ours} and {theirs}"
        title = (
            f"recall@{RECALL_AT}, {num_queries} queries, {num_database} database photos, right: "
            f"{ours}"
        )
        ways = {
            "positives listed, np.isin": lambda d=data: usual_way(*d),
            "predictions tested": lambda d=data: our_way(*d),
        }
        rounds = min(arguments.rounds, 3) if num_queries > 50_000 else arguments.rounds
        tables[title] = compare(
            title, ways, peer="positives listed, np.isin", items=num_queries, rounds=rounds
        )
    save(arguments.json, tables)


if __name__ == "__main__":
    main()
