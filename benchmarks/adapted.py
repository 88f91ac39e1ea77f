"""A database's model adapted to its own photos against the same model as it came: recall@1 of real
queries, query by query.

    WHENCE_TEST_DATA=FOLDER python benchmarks/adapted.py [--model NAME] [--sets A,B]
                                                         [--worlds FOLDER,FOLDER] [--json FILE]

Of each set the database photos alone are seen while the model is adapted. Sets are those of
`sight.py`; worlds are rendered sets of database and queries, in which a photo within 25 m is right.
Printed: whether photos that were held out would let the database be adapted, or leave it as it was;
the share of the queries that are right at rank 1 before and after, whatever those said; by how much
more, with the 95 % interval of 2,000 draws of the queries; and seconds of this process for
adapting, of one thread.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
from sight import SETS, RealSet, gain_of, open_set, ranks

from whence.data.evaluation_sets import open_set as open_world
from whence.data.scan import scan_photos
from whence.evaluation.protocol import metric_ground
from whence.geo import neighbors_within
from whence.models.descriptor import load_model
from whence.recipes import get_recipe
from whence.runtime import atomic_write, set_threads
from whence.training.adapting import adapt_model

RADIUS_M = 25.0


def world_set(folder: Path) -> RealSet:
    """A rendered set as one whose right photos are listed."""
    found = open_world(folder)
    ground = metric_ground(found.database, found.queries)
    near = neighbors_within(ground.database, ground.queries, radius_m=RADIUS_M)
    asked = np.flatnonzero(near.counts).tolist()
    files = [found.database.file(row) for row in range(len(found.database))]
    right = [set(near.of(query).tolist()) for query in asked]
    return RealSet(
        files, [found.queries.file(query) for query in asked], right, [set() for _ in asked]
    )


def compare(name: str, model_name: str, real: RealSet) -> dict[str, object]:
    """Adapt, ask before and after, and print one line."""
    model = load_model(model_name)
    model.prepare(real.database)
    photos = scan_photos(*real.database)
    row_of = {os.path.abspath(path): row for row, path in enumerate(map(str, real.database))}
    rows = [row_of[os.path.abspath(photos.file(row))] for row in range(len(photos))]
    database, queries = model.describe(real.database), model.describe(real.queries)
    work, started = Path(tempfile.mkdtemp()), time.process_time()
    try:
        adapted, trial = adapt_model(
            photos,
            database[rows],
            model,
            recipe=get_recipe("adapt"),
            work=work,
            show_progress=False,
        )
    finally:
        shutil.rmtree(work)
    seconds = time.process_time() - started
    before = ranks(real, database, queries) == 1
    after = ranks(real, adapted.describe(real.database), adapted.describe(real.queries)) == 1
    gain, low, high = gain_of(after, before)
    held = (
        f"{100 * trial.plain.mean():.0f} -> {100 * trial.adapted.mean():.0f} % of "
        f"{len(trial.plain)}"
    )
    verdict = "adapted" if trial.is_better else "left as it was"
    print(
        f"{name:<24}{len(photos):>5} photos {len(before):>5} queries  {100 * before.mean():5.1f} "
        f"-> {100 * after.mean():5.1f} %  "
        f"{gain:+.1f} [{low:+.1f}, {high:+.1f}]  {verdict} (held out: {held}, share "
        f"{trial.share:g})  {seconds:.0f} s",
        flush=True,
    )
    return {
        "set": name,
        "photos": len(photos),
        "before": before.tolist(),
        "after": after.tolist(),
        "gain": [gain, low, high],
        "is_adapted": trial.is_better,
        "seconds": seconds,
    }


def main() -> None:
    """Measure on every set."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="whence-lite0-448")
    parser.add_argument("--sets", default=",".join(("corridor", *SETS)))
    parser.add_argument("--worlds", default="", help="folders of rendered sets")
    parser.add_argument("--json", metavar="FILE", help="also write all figures as JSON")
    arguments = parser.parse_args()
    set_threads(1)
    found = []
    for name in filter(None, arguments.sets.split(",")):
        found.append(
            compare(name, arguments.model, open_set(name, Path(os.environ["WHENCE_TEST_DATA"])))
        )
    for folder in filter(None, arguments.worlds.split(",")):
        found.append(compare(Path(folder).name, arguments.model, world_set(Path(folder))))
    if arguments.json:
        with atomic_write(Path(arguments.json)) as file:
            file.write(json.dumps(found).encode())


if __name__ == "__main__":
    main()
