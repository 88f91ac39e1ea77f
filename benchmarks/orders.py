"""Which order of the candidates: by retrieval, by matches, by GeoWarp, or by matches and GeoWarp
where they say nothing. Real sets.

    WHENCE_TEST_DATA=FOLDER python benchmarks/orders.py [--model NAME] [--sets A,B] [--json FILE]

The first 20 candidates of the model, which is fitted on the set's database, are put in order by
each way; a query is right where the first one is. Sets, and what is right, are those of `sight.py`;
`--sets choice` are the ones that choices were made on. Beside each way how much more of the queries
are right than by retrieval, query by query, with the 95 % interval of 2,000 draws, and CPU seconds
a query on one thread, the database's photos prepared before. `inliers, geowarp` is what
`whence locate` does.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from sight import CHOICE, SETS, RealSet, gain_of, open_set

from whence.data.photos import Photos
from whence.localize.otherwise import otherwise_of
from whence.localize.prepared_photos import PreparedPhotos
from whence.localize.rerank import Reranked, rerank
from whence.localize.rerank_options import RerankOptions
from whence.localize.retrieve import candidate_of
from whence.models.descriptor import load_model
from whence.runtime import atomic_write, set_threads
from whence.settings import DEFAULT_MODEL, NONE
from whence.types import Candidate, Photo

NUM_CANDIDATES = 20
BOTH = "inliers, geowarp"
WAYS = {
    "inliers": RerankOptions("inliers", NUM_CANDIDATES, otherwise=NONE),
    "geowarp:5": RerankOptions("geowarp", 5),
    "geowarp:20": RerankOptions("geowarp", NUM_CANDIDATES),
    BOTH: RerankOptions(),
}


def first_rows(real: RealSet, *, model_name: str) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """For each way the database row (Q,) that it puts first, retrieval among them, and CPU seconds
    a query."""
    model = load_model(model_name)
    model.prepare(real.database)
    database, queries = (
        np.nan_to_num(model.describe(real.database)),
        np.nan_to_num(model.describe(real.queries)),
    )
    photos = Photos.of(
        [Photo(path=str(file), content=f"{row:032x}") for row, file in enumerate(real.database)]
    )
    prepared = {name: PreparedPhotos.for_options(options, photos) for name, options in WAYS.items()}
    geowarp = prepared["geowarp:20"]
    otherwise = otherwise_of(WAYS[BOTH], lambda _: geowarp)
    assert otherwise is not None, "what the default asks"
    firsts = {name: np.zeros(len(queries), np.int64) for name in ("retrieval", *WAYS)}
    spent = dict.fromkeys(WAYS, 0.0)
    for query, similarities in enumerate(queries @ database.T):
        similarities[list(real.passed_over[query])] = -np.inf
        rows = np.argsort(-similarities, kind="stable")[:NUM_CANDIDATES].tolist()
        found = tuple(
            candidate_of(photos, row, rank=rank, similarity=float(similarities[row]))
            for rank, row in enumerate(rows, start=1)
        )
        firsts["retrieval"][query] = rows[0]
        for row in rows:
            geowarp.of_row(row)
            prepared["inliers"].of_row(row)
        for name, options in WAYS.items():
            known = geowarp if name.startswith("geowarp") else prepared["inliers"]
            started = time.process_time()
            asked = known.of_image(real.queries[query])
            done = rerank(found, query=asked, material=known, options=options)
            if name == BOTH:
                done = otherwise.order(done, real.queries[query])
            spent[name] += time.process_time() - started
            firsts[name][query] = _first(done, found)
    return firsts, {name: seconds / len(queries) for name, seconds in spent.items()}


def _first(reranked: Reranked, candidates: Sequence[Candidate]) -> int:
    return (reranked.candidates or candidates)[0].row


def main() -> None:
    """Measure every set."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default=DEFAULT_MODEL, help="what finds candidates")
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument("--json", metavar="FILE", help="also write all figures as JSON")
    arguments = parser.parse_args()
    set_threads(1)
    record: dict[str, dict[str, object]] = {}
    for name in CHOICE if arguments.sets == "choice" else arguments.sets.split(","):
        real = open_set(name, Path(os.environ["WHENCE_TEST_DATA"]))
        firsts, seconds = first_rows(real, model_name=arguments.model)
        right = {
            way: np.array([row in real.right[q] for q, row in enumerate(rows)])
            for way, rows in firsts.items()
        }
        record[name] = {}
        for way, hits in right.items():
            gain = gain_of(hits, right["retrieval"])
            took = f"{seconds[way]:.2f} s" if way in seconds else ""
            print(
                "{:<24}{:>5}  {:<18}{:>6.1f} %   {:+.1f} [{:+.1f}, {:+.1f}]  {}".format(
                    name, len(hits), way, 100 * hits.mean(), *gain, took
                ),
                flush=True,
            )
            record[name][way] = {
                "right": int(hits.sum()),
                "queries": len(hits),
                "gain": gain,
                "seconds": seconds.get(way),
            }
    if arguments.json:
        with atomic_write(Path(arguments.json), "w") as file:
            json.dump(record, file, indent=1)


if __name__ == "__main__":
    main()
