"""Answers on the small real sets: re-ranked, located, unknown, inside the radius. Nothing was
fitted on these photos.

    WHENCE_TEST_DATA=FOLDER python benchmarks/answers.py [--model NAME] [--json FILE]

Stockholm: 25 queries, 75 database photos without coordinates. Lund asked of Stockholm: every answer
would be wrong. Lund, leave one out: each of 29 photos along one street asks the others. All are
evaluated as `whence evaluate --rerank inliers` does it.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

import faiss  # noqa: F401  (imported so that its threads are bounded too)

from whence.data.formats import EvaluationSet, read_pairs
from whence.data.photos import Photos
from whence.data.scan import scan_photos
from whence.evaluation.answers import AnswerSummary, summarize_answers, tabulate_answers
from whence.evaluation.benchmarks import EvaluationOptions, evaluate
from whence.localize.localizer import Localizer
from whence.localize.rerank_options import RerankOptions
from whence.runtime import set_threads
from whence.settings import DEFAULT_MODEL, BuildOptions


def ask(
    model: str, data: EvaluationSet, *, is_leave_one_out: bool = False
) -> tuple[AnswerSummary, int]:
    """What verified answers on a set are worth, and how many queries are right at rank 1 after
    re-ranking."""
    options = EvaluationOptions(
        thresholds_m=(25.0,), is_leave_one_out=is_leave_one_out, rerank=RerankOptions()
    )
    result = evaluate(model, data, options=options, show_progress=False)
    return summarize_answers(tabulate_answers(result)), result.thresholds[0].all_queries[
        0
    ].num_right


def ask_strangers(model: str, town: EvaluationSet, street: Photos) -> int:
    """How many photos of a street stay unknown when a town that does not show it is asked; it has
    no coordinates to evaluate by."""
    with tempfile.TemporaryDirectory() as made:
        options = BuildOptions(model, keep_local=True)
        with Localizer.build(
            town.database.root, path=Path(made) / "t.whence", options=options, show_progress=False
        ) as localizer:
            files = [street.file(row) for row in range(len(street))]
            return sum(
                one.status == "unknown" for one in localizer.locate_many(files, show_progress=False)
            )


def main() -> int:
    """Ask, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--model", default=DEFAULT_MODEL, help="what finds candidates (default: the default)"
    )
    parser.add_argument("--json", metavar="FILE", help="also write the figures as JSON")
    arguments = parser.parse_args()
    root = os.environ.get("WHENCE_TEST_DATA")
    if not root:
        print("WHENCE_TEST_DATA is not set: there is nothing to measure")
        return 1
    set_threads(1)
    town = read_pairs(Path(root) / "stockholm-buildings" / "positives.csv")
    street = scan_photos(Path(root) / "geotagged-lund-berlin" / "lund", show_progress=False)
    answers = {}
    known, num_right = ask(arguments.model, town)
    answers["Stockholm"] = known
    print(
        f"Stockholm: {num_right} of {known.num_queries} right after re-ranking; "
        f"{known.num_located} answered, {known.num_wrong} of them wrongly"
    )
    num_unknown = ask_strangers(arguments.model, town, street)
    print(f"Lund asked of Stockholm: {num_unknown} of {len(street)} unknown")
    left, _ = ask(arguments.model, EvaluationSet("lund", street, street), is_leave_one_out=True)
    answers["Lund, leave one out"] = left
    print(
        f"Lund, leave one out: {left.num_located} of {left.num_queries} located, "
        f"{left.num_inside} inside the radius, "
        f"median radius {left.median_radius_m:.1f} m, median error {left.median_error_m:.1f} m"
    )
    if arguments.json:
        record = {
            **{name: asdict(one) for name, one in answers.items()},
            "Lund asked of Stockholm, unknown": num_unknown,
        }
        Path(arguments.json).write_text(json.dumps(record, indent=1), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
