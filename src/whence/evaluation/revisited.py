"""The revisited protocol for landmarks: mean average precision and precision at k, easy, medium and
hard.

Radenovic, Iscen, Tolias, Avrithis, Chum, CVPR 2018. Easy asks for the easy photos, and neither hard
nor junk ones count; medium asks for both and passes over junk; hard asks for the hard ones, and
neither easy nor junk ones count. What does not count is taken out of the ranking. Queries with
nothing to be found are left out of the means.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from whence.data.revisited import RevisitedSet
from whence.models.descriptor import DescriptorModel

LEVELS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "easy": (("easy",), ("hard", "junk")),
    "medium": (("easy", "hard"), ("junk",)),
    "hard": (("hard",), ("easy", "junk")),
}
"""By level: the grades that are asked for, and those that do not count."""
AT = (1, 5, 10)
_BLOCK = 256


@dataclass(frozen=True, slots=True)
class LandmarkScore:
    """One level."""

    mean_average_precision: float
    precision_at: tuple[float, ...]
    """Mean precision among the first 1, 5 and 10."""
    num_queries: int
    """Queries that have something to be found."""


def average_precision(places: np.ndarray, num_relevant: int) -> float:
    """Area under precision over recall, by trapezoids, of relevant photos at these places (n,) from
    0, ascending.

    As the authors compute it: before the first place precision counts as 1 where it is 0.
    """
    order = np.arange(len(places))
    before = np.where(places == 0, 1.0, order / np.maximum(places, 1))
    return (
        float(((before + (order + 1) / (places + 1)) / 2).sum() / num_relevant)
        if num_relevant
        else float("nan")
    )


def score_rankings(rankings: np.ndarray, truth: RevisitedSet) -> dict[str, LandmarkScore]:
    """Scores by level of rankings (Q, N), whole ones, nearest first."""
    scores = {}
    for level, (asked, passed) in LEVELS.items():
        precisions: list[float] = []
        at: list[list[float]] = []
        for query, ranking in enumerate(rankings):
            relevant = _of(truth, asked, query)
            if not len(relevant):
                continue
            counting = ranking[~np.isin(ranking, np.setdiff1d(_of(truth, passed, query), relevant))]
            places = np.flatnonzero(np.isin(counting, relevant))
            precisions.append(average_precision(places, len(relevant)))
            # As the authors: no more are looked at than it takes to find all.
            last = places.max(initial=-1) + 1
            at.append([float((places < k).sum() / max(1, min(k, last))) for k in AT])
        mean_at = tuple(np.mean(at, axis=0).tolist()) if at else (float("nan"),) * len(AT)
        scores[level] = LandmarkScore(
            float(np.mean(precisions)) if precisions else float("nan"), mean_at, len(precisions)
        )
    return scores


def rank_landmarks(model: DescriptorModel, data: RevisitedSet) -> np.ndarray:
    """Rankings (Q, N) of all database photos for each query's landmark, which is cut out of its
    photo. Raises `UnreadableImage`."""
    files = [data.database.file(row) for row in range(len(data.database))]
    model.prepare(files)
    rows = model.describe(files)
    asked = model.query_model.describe(
        [data.query_pixels(query) for query in range(len(data.queries))]
    )
    return np.concatenate(
        [
            np.argsort(-(asked[start : start + _BLOCK] @ rows.T), axis=1, kind="stable")
            for start in range(0, len(asked), _BLOCK)
        ]
    )


def _of(truth: RevisitedSet, grades: tuple[str, ...], query: int) -> np.ndarray:
    return np.concatenate([getattr(truth, grade).of(query) for grade in grades])
