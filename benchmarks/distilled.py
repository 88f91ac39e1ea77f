"""A small network that learned a model's descriptors, against that model: alone, and as what asks
in the model's own database.

    python benchmarks/distilled.py TRAINING SET [--teacher whence-resnet18conv4-gem-256]
                                   [--steps 500] [--work FOLDER] [--json]

TRAINING is a folder of photos without need of positions, SET one of database and queries with them.
The student is trained by the recipe distilled-small (kept in --work, where a stopped run goes on).
Printed for the teacher, for the student asking in the teacher's database, and for the student on
both sides: recall@1 within 25 m with its 95 % interval, what that is less the teacher's query by
query, and milliseconds of CPU to describe a query on one thread, decoding included.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np

from whence.data.evaluation_sets import open_set
from whence.evaluation.metrics import bootstrap_interval
from whence.evaluation.protocol import metric_ground
from whence.models.descriptor import DescriptorModel, load_model
from whence.recipes import get_recipe
from whence.runtime import set_threads
from whence.training.branches.distilled import load_teacher
from whence.training.options.distilled import DistilledOptions
from whence.training.recipe import override
from whence.training.train import train

RADIUS_M = 25.0


def student_of(teacher: DescriptorModel, photos: str, steps: int, work: Path) -> DescriptorModel:
    """The network that learned the teacher's descriptors of these photos."""
    changes = [
        f"teacher={teacher.name}",
        f"aggregator.options.dim={teacher.dim}",
        f"loop.num_steps={steps}",
        "loop.precision=no",
    ]
    recipe, out = override(get_recipe("distilled-small"), changes), work / f"{teacher.name}-{steps}"
    is_begun = (out / "recipe.json").is_file()
    train(
        recipe,
        photos,
        out=out,
        pixels_folder=work / "pixels",
        is_resumed=is_begun,
        show_progress=False,
    )
    return load_model(str(out / "final.safetensors"))


def main() -> None:
    """Print one line for each way to ask."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("training")
    parser.add_argument("set")
    parser.add_argument("--teacher", default="whence-resnet18conv4-gem-256")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--work", help="folder of the training; by default a temporary one")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    arguments = parser.parse_args()
    set_threads(1)
    teacher, data = (
        load_teacher(DistilledOptions(teacher=arguments.teacher)),
        open_set(arguments.set),
    )
    with tempfile.TemporaryDirectory() as folder:
        student = student_of(
            teacher, arguments.training, arguments.steps, Path(arguments.work or folder)
        )
    files, asked = (
        [photos.file(row) for row in range(len(photos))] for photos in (data.database, data.queries)
    )
    ground = metric_ground(data.database, data.queries)
    rows, queries, took = {}, {}, {}
    for name, model in (("teacher", teacher), ("student", student)):
        rows[name] = model.describe(files)
        started = time.process_time()
        queries[name] = model.describe(asked)
        took[name] = 1000 * (time.process_time() - started) / len(asked)
    before = None
    for database, query in (("teacher", "teacher"), ("teacher", "student"), ("student", "student")):
        nearest = (queries[query] @ rows[database].T).argmax(axis=1)
        hits = (
            np.linalg.norm(ground.database[nearest] - ground.queries, axis=1) <= RADIUS_M
        ).astype(float)
        before = hits if before is None else before
        found = {
            "database": database,
            "queries": query,
            "recall@1": float(hits.mean()),
            "interval": bootstrap_interval(hits),
            "less the teacher's": float((hits - before).mean()),
            "its interval": bootstrap_interval(hits - before),
            "ms per query": took[query],
            "number of queries": len(hits),
        }
        if arguments.json:
            print(json.dumps(found))
            continue
        (low, high), (less_low, less_high) = found["interval"], found["its interval"]
        print(
            f"database by the {database}, queries by the {query}: recall@1 {100 * hits.mean():.1f} "
            f"% [{100 * low:.1f}, {100 * high:.1f}], {100 * (hits - before).mean():+.1f} "
            f"[{100 * less_low:.1f}, {100 * less_high:.1f}] to the teacher's; {took[query]:.1f} ms "
            f"a query, {len(hits)} queries"
        )


if __name__ == "__main__":
    main()
