"""Fit what the best wrong candidate of a shortlist shows, on rendered cities; printed, to be copied
to `whence.localize.unseen`.

    python tools/fit_unseen.py --work FOLDER [--model whence-lite0-words-960]

Rendered photos only, of the seeds that calibrations are fitted on but the last, which is kept to
see what comes of it: how many candidates are compared, and what is answered, where comparing ends
as soon as one is surely right, and where only the first few are compared, beside a comparison of
all.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from fit_calibrations import FIT_CITIES, FitCity, open_city

from whence.data.scan import scan_photos
from whence.errors import UnreadableImage
from whence.geo import distance_m
from whence.localize.calibration_files import find_calibration, key_of
from whence.localize.rerank import describe_for_rerank, rerank
from whence.localize.rerank_options import RerankOptions
from whence.localize.unseen import INLIERS
from whence.localize.verify import confidence_so_far, num_inliers
from whence.runtime import set_threads
from whence.types import Calibration, Candidate, GeoPoint

FAR_M, NEAR_M = 100.0, 25.0
NUM_FIRST = (3, 5, 10)


class Asked(NamedTuple):
    """A query's place, and its candidates in the order of retrieval, all compared."""

    truth: GeoPoint
    candidates: tuple[Candidate, ...]


def ask_city(work: Path, city: FitCity, *, model: str) -> tuple[list[Asked], Calibration]:
    """What a city's queries find, and the calibration that judges it."""
    options, localizer, asked = RerankOptions(), open_city(work, city, model=model), []
    material = localizer.prepared(options)
    for folder in ("queries", "queries_unknown"):
        photos = scan_photos(work / city.name / folder, show_progress=False)
        points, files = (
            [photo.point for photo in photos],
            [photos.file(row) for row in range(len(photos))],
        )
        for point, described in zip(
            points, describe_for_rerank(localizer.model, files, material), strict=True
        ):
            if point is None or isinstance(described, UnreadableImage):
                continue
            found = localizer.retriever.ask(described.question, k=options.num_candidates)
            done = rerank(
                found, query=described.local or {}, material=material, options=options
            ).candidates
            asked.append(
                Asked(point, tuple(sorted(done, key=lambda one: one.retrieved_rank or one.rank)))
            )
    return asked, find_calibration(
        key_of(localizer.model.card.card_id, material), store=localizer.store
    )


def best_wrong(questions: list[Asked]) -> Iterator[tuple[float, float]]:
    """Matches over keypoints and inliers of the best wrong candidate of each query that has one."""
    for query in questions:
        counts = num_inliers(query.candidates)
        wrong = [
            (one.evidence.num_matches / max(one.evidence.num_keypoints, 1), counts[i])
            for i, one in enumerate(query.candidates)
            if one.evidence is not None
            and one.point is not None
            and distance_m(one.point, query.truth) > FAR_M
        ]
        if wrong:
            yield max(share for share, _ in wrong), max(count for _, count in wrong)


def first_few(candidates: tuple[Candidate, ...], num: int) -> tuple[Candidate, ...]:
    """The candidates as if only the first few had been compared."""
    return (
        *candidates[:num],
        *(replace(one, evidence=None, num_inliers=None) for one in candidates[num:]),
    )


def until_sure(candidates: tuple[Candidate, ...], calibration: Calibration) -> int:
    """How many are compared where comparing ends with half of the doubt that an answer may
    leave."""
    enough = (1 + calibration.min_confidence) / 2
    counts = range(1, len(candidates))
    return next(
        (
            num
            for num in counts
            if confidence_so_far(first_few(candidates, num), calibration) >= enough
        ),
        len(candidates),
    )


def show(
    name: str,
    questions: list[Asked],
    calibration: Calibration,
    num_of: Callable[[tuple[Candidate, ...]], int],
) -> None:
    """Print how many comparisons a way takes, and what it answers."""
    compared, answered, wrong = 0, 0, 0
    for query in questions:
        num = num_of(query.candidates)
        some = first_few(query.candidates, num)
        best = max(some, key=lambda one: -1.0 if one.evidence is None else one.evidence.similarity)
        compared += num
        if confidence_so_far(some, calibration) >= calibration.min_confidence:
            answered += 1
            wrong += best.point is None or distance_m(best.point, query.truth) > NEAR_M
    print(
        (
            f"  {name:<12}{compared / len(questions):6.1f} compared, {answered} of "
            f"{len(questions)} answered, {wrong} wrong"
        ),
        flush=True,
    )


def main() -> None:
    """Ask, print the quantiles, and show what comes of them."""
    arguments = argparse.ArgumentParser(
        description="Fit what the best wrong candidate of a shortlist shows."
    )
    arguments.add_argument(
        "--work", required=True, help="folder in which cities and databases are kept"
    )
    arguments.add_argument("--model", default="whence-lite0-words-960")
    given = arguments.parse_args()
    set_threads(1)
    *cities, kept = [city for city in FIT_CITIES if city.width == FIT_CITIES[0].width]
    found = [
        row
        for city in cities
        for row in best_wrong(ask_city(Path(given.work), city, model=given.model)[0])
    ]
    levels = (np.arange(len(INLIERS)) + 0.5) / len(INLIERS)
    for name, values, digits in zip(
        ("MATCH_SHARES", "INLIERS"), np.array(found).T, (3, 1), strict=True
    ):
        print(
            (
                f"{name} = {np.quantile(values, levels).round(digits).tolist()}  # {len(found)} "
                "queries"
            ),
            flush=True,
        )
    asked, calibration = ask_city(Path(given.work), kept, model=given.model)
    print(f"{kept.name}, which took no part:")
    show("all", asked, calibration, len)
    show("until sure", asked, calibration, lambda some: until_sure(some, calibration))
    for num in NUM_FIRST:
        show(f"the first {num}", asked, calibration, lambda _, num=num: num)  # type: ignore[misc]


if __name__ == "__main__":
    main()
