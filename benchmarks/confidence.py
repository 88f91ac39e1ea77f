"""Can an answer be believed? Rendered test cities: how many queries are answered, how often the
truth lies inside the radius, how many photos of streets the database does not cover stay unknown,
and how well the confidence is calibrated.

    python benchmarks/confidence.py --seed 0 --cities 3 [--models A,B] [--sizes 2000,500,100]
                                    [--folder FOLDER] [--matcher NAME] [--quick]

Each city: database photos, queries in all conditions, photos of uncovered streets; the packaged
calibration was fitted on cities of other seeds. Every city is evaluated with each model as
`whence evaluate --rerank inliers` does it; its figures are printed when it is done, the sum and
every condition last. A candidate or an answer is right within 25 m.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict
from pathlib import Path

import faiss  # noqa: F401  (imported so that its threads are bounded too)
import numpy as np
import side_by_side

from whence.data.formats import EvaluationSet
from whence.data.scan import scan_photos
from whence.evaluation.answers import (
    RIGHT_WITHIN_M,
    AnswerSummary,
    AnswerTable,
    summarize_answers,
    tabulate_answers,
)
from whence.evaluation.benchmarks import EvaluationOptions, evaluate
from whence.localize.rerank_options import rerank_options
from whence.runtime import set_threads
from whence.settings import DEFAULT_MODEL
from whence.worlds.city import WorldOptions, render_world
from whence.worlds.presets import CitySize


def ask_city(
    root: Path, city: CitySize, *, model: str, seed: int, matcher: str | None = None
) -> tuple[AnswerTable, np.ndarray]:
    """Render a city where it is not there yet, and ask its database for every query, those at
    uncovered streets among them.

    Gives the answers and the condition (Q,) under which each query was taken.
    """
    render_world(
        root / "world", seed=seed, options=WorldOptions(cities=(city,)), show_progress=False
    )
    set_threads(1)
    world = root / "world" / "test"
    database = scan_photos(world / "database", show_progress=False)
    asked = scan_photos(world / "queries", world / "queries_unknown", show_progress=False)
    options = EvaluationOptions(
        thresholds_m=(RIGHT_WITHIN_M,),
        rerank=rerank_options("inliers", matcher=matcher),
        work_folder=root / "work" / model,
    )
    data = EvaluationSet(city.name, database, asked)
    table = tabulate_answers(evaluate(model, data, options=options, show_progress=False))
    # queries/night/city20/@...@.jpg
    return table, np.array([path.split("/")[1] for path in asked.paths])


def show(name: str, summary: AnswerSummary) -> None:
    """Print one line of figures."""
    print(
        f"{name}: {summary.num_located} of {summary.num_covered} covered queries located, "
        f"{summary.num_wrong} of them wrongly; {100 * summary.share_inside:.1f} % inside the "
        f"radius, median radius {summary.median_radius_m:.1f} m; {summary.num_uncovered_unknown} "
        f"of {summary.num_uncovered} uncovered stay unknown "
        f"({100 * summary.share_uncovered_unknown:.1f} %); expected calibration error "
        f"{100 * summary.calibration_error:.1f} %",
        flush=True,
    )


def main() -> None:
    """Render, evaluate, print."""
    parser = side_by_side.options(__doc__ or "")
    parser.add_argument("--seed", type=int, default=0, help="seed of the world (default 0)")
    parser.add_argument("--cities", type=int, default=3, help="test cities (default 3)")
    parser.add_argument(
        "--sizes",
        default="2000,500,100",
        help="database photos, queries, and photos of uncovered streets",
    )
    parser.add_argument(
        "--models", default=f"{DEFAULT_MODEL},rootsift-vlad", help="models, apart by commas"
    )
    parser.add_argument(
        "--folder",
        help="where cities and descriptors are kept; a second run renders and describes nothing",
    )
    parser.add_argument(
        "--matcher", help="what verifies, with its own calibration (default RootSIFT)"
    )
    arguments = parser.parse_args()
    num_database, num_queries, num_unknown = map(
        int, ("120,40,12" if arguments.quick else arguments.sizes).split(",")
    )
    models = arguments.models.split(",")
    tables: dict[str, list[AnswerTable]] = {model: [] for model in models}
    conditions = []
    with tempfile.TemporaryDirectory() as made:
        for number in range(20, 20 + arguments.cities):
            city = CitySize(f"city{number}", "test", num_database, num_queries, num_unknown, True)
            for model in models:
                table, taken = ask_city(
                    Path(arguments.folder or made) / city.name,
                    city,
                    model=model,
                    seed=arguments.seed,
                    matcher=arguments.matcher,
                )
                tables[model].append(table)
                show(f"{model}, {city.name}", summarize_answers(table))
            conditions.append(taken)
    taken, totals = np.concatenate(conditions), {}
    for model in models:
        together = AnswerTable.joined(tables[model])
        totals[model] = summarize_answers(together)
        show(f"{model}, all", totals[model])
        for condition in sorted(set(taken.tolist())):
            chosen = AnswerTable(*(column[taken == condition] for column in together))
            show(f"{model}, {condition}", summarize_answers(chosen))
    if arguments.json:
        text = json.dumps({model: asdict(total) for model, total in totals.items()}, indent=1)
        Path(arguments.json).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
