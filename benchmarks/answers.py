"""Answers on the small real sets: re-ranked, located, unknown, inside the radius. Nothing was fitted on these photos.

    WHENCE_TEST_DATA=FOLDER python benchmarks/answers.py [--json FILE]

Stockholm: 25 queries, 75 database photos without coordinates. Lund asked of Stockholm: every answer would be wrong. Lund,
leave one out: each of 29 photos along one street asks the others.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import faiss  # noqa: F401  (imported so that its threads are bounded too)

from whence.data.formats import EvaluationSet, read_pairs
from whence.evaluation.benchmarks import EvaluationOptions, evaluate
from whence.geo import distance_m
from whence.localize.localizer import Localizer
from whence.localize.rerank import RerankOptions, rerank
from whence.runtime import set_threads
from whence.settings import BuildOptions
from whence.types import Position


def stockholm(data: EvaluationSet, localizer: Localizer) -> dict[str, int]:
    """Queries right after re-ranking; answered; answered wrongly."""
    reranked = evaluate("rootsift-vlad", data, options=EvaluationOptions(rerank=RerankOptions()), show_progress=False)
    answers = list(localizer.locate_many([data.queries.file(i) for i in range(len(data.queries))], show_progress=False))
    answered = [i for i, one in enumerate(answers) if one.status != "unknown"]
    right = [{Path(data.database.paths[row]).name for row in data.positives.of(i)} for i in range(len(answers))]
    wrong = [i for i in answered if Path(answers[i].candidates[0].photo).name not in right[i]]
    return {
        "queries": len(answers),
        "right after re-ranking": reranked.thresholds[0].all_queries[0].num_right,
        "answered": len(answered),
        "answered wrongly": len(wrong),
    }


def leave_one_out(localizer: Localizer) -> list[Position]:
    """Each photo of a database asks the others."""
    judge, photos, store = localizer.judge(), localizer.photos, localizer.store
    assert judge.prepared is not None
    answers = []
    for row in range(len(photos)):
        descriptor = store.descriptors[store.descriptor_rows[row]][None]
        others = [
            one for one in localizer.retriever.retrieve(descriptor, k=21)[0] if photos.content[one.row] != photos.content[row]
        ]
        candidates = tuple(replace(one, rank=rank) for rank, one in enumerate(others[:20], start=1))
        asked = judge.prepared.of_row(row)
        assert asked is not None
        done = rerank(candidates, query=asked, prepared=judge.prepared, options=RerankOptions())
        answers.append(judge.judge(photos.paths[row], done.candidates, seconds={}))
    return answers


def lund(localizer: Localizer) -> dict[str, float]:
    """Answered; true place inside the radius; median radius and error in metres."""
    answers, photos = leave_one_out(localizer), localizer.photos
    located = [(one, photos[row].point) for row, one in enumerate(answers) if one.status == "located"]
    errors = [distance_m(one.point, point) for one, point in located if one.point and point]
    radii = [one.radius_m or 0.0 for one, _ in located]
    inside = sum(error <= radius for error, radius in zip(errors, radii, strict=True))
    middle = len(located) // 2
    return {
        "photos": len(answers),
        "located": len(located),
        "inside the radius": inside,
        "median error m": round(sorted(errors)[middle], 1),
        "median radius m": round(sorted(radii)[middle], 1),
    }


def main() -> int:
    """Build, ask, print."""
    parser = argparse.ArgumentParser(description="Answers on the small real sets")
    parser.add_argument("--json", metavar="FILE", help="also write the figures as JSON")
    given = parser.parse_args()
    root = os.environ.get("WHENCE_TEST_DATA")
    if not root:
        print("WHENCE_TEST_DATA is not set: there is nothing to measure")
        return 1
    set_threads(1)
    data, kept = Path(root), BuildOptions(keep_local=True)
    figures: dict[str, dict] = {}
    with tempfile.TemporaryDirectory() as made:
        town, street = data / "stockholm-buildings", data / "geotagged-lund-berlin" / "lund"
        with Localizer.build(town / "database", path=Path(made) / "s.whence", options=kept, show_progress=False) as localizer:
            set_threads(1)
            figures["Stockholm"] = stockholm(read_pairs(town / "positives.csv"), localizer)
            strangers = [one.status for one in localizer.locate_many(sorted(street.rglob("*.jpg")), show_progress=False)]
            figures["Lund asked of Stockholm"] = {"photos": len(strangers), "unknown": strangers.count("unknown")}
        with Localizer.build(street, path=Path(made) / "l.whence", options=kept, show_progress=False) as localizer:
            figures["Lund, leave one out"] = lund(localizer)
    for name, numbers in figures.items():
        print(f"{name}: " + ", ".join(f"{value} {what}" for what, value in numbers.items()))
    if given.json:
        Path(given.json).write_text(json.dumps(figures, indent=1), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
