"""Candidates of a set's queries, found once for all runs of a study, and what any order of them is
worth."""

from __future__ import annotations

import csv
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from whence.data.evaluation_sets import open_set
from whence.data.fields import plain_field
from whence.data.formats import EvaluationSet, read_frames
from whence.data.photos import Photos
from whence.evaluation.describing import SetDescriber
from whence.evaluation.metrics import bootstrap_interval, first_hit_by_distance, first_hit_in_lists
from whence.evaluation.protocol import THRESHOLDS_M, metric_ground
from whence.index.flat import FlatIndex
from whence.localize.prepared_photos import PreparedPhotos
from whence.localize.rerank import rerank
from whence.localize.rerank_options import RerankOptions
from whence.localize.retrieve import candidate_of
from whence.models.descriptor import DescriptorModel, load_model
from whence.registry import build, get_card
from whence.studies.frame import Measure, Settings, StudyOption, Value

NUM_FOUND = 20
"""Candidates kept of each query; re-ranking orders the first few of them."""
SET_OPTIONS = (
    StudyOption(
        "data",
        "the set that is asked: a folder with database and queries, or a CSV of query,positives",
        is_needed=True,
    ),
    StudyOption("split", "split of the set: train, val or test"),
    StudyOption(
        "frames", "for two walks of the same frames: frames that far apart show the same place", -1
    ),
)
RECALLS = (
    *(Measure(f"recall@1 within {threshold:g} m", "%") for threshold in THRESHOLDS_M),
    Measure("recall@5 within 25 m", "%"),
    Measure("recall@1 as listed", "%"),
    Measure("recall@5 as listed", "%"),
)
"""What a set with positions is measured by, and one that lists its positives."""


def read_set(options: Settings) -> EvaluationSet:
    """The set that a study's options name, see `SET_OPTIONS`."""
    path = Path(str(options["data"]))
    if int(options["frames"]) >= 0:
        return read_frames(path, tolerance_frames=int(options["frames"]))
    return open_set(path, split=str(options["split"]))


@dataclass(frozen=True)
class Ordered:
    """An order of candidates, and what finding it took."""

    predictions: np.ndarray
    """(Q, K) database rows, best first, -1 for none."""
    query_ms: float | None = None
    """Median CPU milliseconds per query beyond the first search, the database's side prepared
    before."""


class Shortlists:
    """A set with the descriptors of a model; described once into the study's work folder, where
    there is one."""

    def __init__(
        self,
        data: EvaluationSet,
        *,
        model: str | DescriptorModel,
        work: Path | None,
        show_progress: bool | None = False,
    ) -> None:
        self.data, self.model = data, load_model(model) if isinstance(model, str) else model
        self.work = None if work is None else work / Path(self.model.name).stem
        self.show_progress = show_progress

    @cached_property
    def descriptors(self) -> tuple[np.ndarray, np.ndarray]:
        """Of database (N, D) and queries (Q, D); photos that cannot be read have zeros, which find
        nothing and are not found."""
        describer = SetDescriber(self.model, self.work, self.show_progress)
        database, queries = (
            describer.describe(self.data.database, "database"),
            describer.ask(self.data.queries),
        )
        return np.nan_to_num(database), np.nan_to_num(queries)

    @cached_property
    def found(self) -> np.ndarray:
        """(Q, NUM_FOUND) database rows of the plain search."""
        return self.search(*self.descriptors)

    @cached_property
    def similarities(self) -> np.ndarray:
        """(Q, NUM_FOUND) inner products of what the plain search found."""
        database, queries = self.descriptors
        return np.einsum("qd,qkd->qk", queries, database[self.found])

    def search(self, database: np.ndarray, queries: np.ndarray) -> np.ndarray:
        """(Q, NUM_FOUND) database rows nearest to queries."""
        return self.counting(FlatIndex.over(database).search(queries, k=self.num_asked).ids)

    @property
    def num_asked(self) -> int:
        """How many have to be found so that `NUM_FOUND` of them, or all, count as answers of every
        query."""
        return min(NUM_FOUND + self._num_passed_over, len(self.data.database))

    def counting(self, ids: np.ndarray) -> np.ndarray:
        """(Q, NUM_FOUND) the first of the found rows (Q, `num_asked`) that the set does not pass
        over."""
        out = self.data.passed_over
        if out is None:
            return ids
        width = min(NUM_FOUND, len(self.data.database) - self._num_passed_over)
        return np.array(
            [row[~np.isin(row, out.of(query))][:width] for query, row in enumerate(ids)]
        )

    @property
    def _num_passed_over(self) -> int:
        return (
            0 if self.data.passed_over is None else int(self.data.passed_over.counts.max(initial=0))
        )

    def reranked(
        self, scorer: str, scorer_options: Mapping[str, Any], *, num_candidates: int
    ) -> Ordered:
        """The first candidates in a scorer's order."""
        options = RerankOptions(scorer, num_candidates, None, scorer_options)
        made = build("scorer", scorer, options=scorer_options)
        known, asking = (
            PreparedPhotos(made, get_card(scorer, kind="scorer"), photos)
            for photos in (self.data.database, self.data.queries)
        )
        predictions, spent = self.found.copy(), []
        for query, rows in enumerate(self.found.tolist()):
            candidates = [
                candidate_of(self.data.database, row, rank=rank, similarity=0.0)
                for rank, row in enumerate(rows, start=1)
            ]
            for row in rows[:num_candidates]:
                known.of_row(row)
            started = time.process_time()
            asked = asking.of_row(query)
            if asked is not None:
                predictions[query] = [
                    one.row
                    for one in rerank(
                        candidates, query=asked, material=known, options=options
                    ).candidates
                ]
            spent.append(time.process_time() - started)
        return Ordered(predictions, 1e3 * float(np.median(spent)))

    def recalls(self, predictions: np.ndarray) -> dict[str, Value]:
        """Recall@1, and @5 within 25 m, with 95 % intervals that draw whole streets where the set
        names them."""
        groups = self.groups
        values = {}
        for (n, within), hits in self.hits(predictions).items():
            low, high = bootstrap_interval(hits, groups=groups)
            values[f"recall@{n} {within}"] = Value(float(hits.mean()), low, high)
        return values

    def hits(self, predictions: np.ndarray) -> dict[tuple[int, str], np.ndarray]:
        """By rank and radius which queries (Q,) have a positive."""
        if self.data.positives is not None:
            first = first_hit_in_lists(predictions, self.data.positives)
            return {(n, "as listed"): first < n for n in (1, 5)}
        ground = metric_ground(self.data.database, self.data.queries)
        firsts = first_hit_by_distance(
            predictions, ground.database, ground.queries, thresholds_m=THRESHOLDS_M
        )
        found = {
            (1, f"within {threshold:g} m"): first < 1
            for threshold, first in zip(THRESHOLDS_M, firsts, strict=True)
        }
        return {**found, (5, "within 25 m"): firsts[THRESHOLDS_M.index(25.0)] < 5}

    def most_lost(self, ours: np.ndarray, theirs: np.ndarray) -> dict[str, Value]:
        """Recall@1 that an order loses against another; each end of the interval is that of a
        one-sided 95 % interval."""
        place = (1, "as listed") if self.data.positives is not None else (1, "within 25 m")
        own, other = (self.hits(order)[place].astype(float) for order in (ours, theirs))
        low, high = bootstrap_interval(other - own, groups=self.groups, level=0.9)
        return {f"lost to exact {place[1]}": Value(float((other - own).mean()), low, high)}

    @cached_property
    def groups(self) -> np.ndarray | None:
        """(Q,) the street of each query, where a rendered world's table says; else every query
        stands for itself."""
        queries = self.data.queries
        return streets_of(queries, rows_beside(Path(queries.file(0))) if len(queries) else {})


def streets_of(queries: Photos, rows: Mapping[str, Mapping[str, str]]) -> np.ndarray | None:
    """(Q,) the street of each query, by the lines of a world's table; None where it does not
    say."""
    files = [str(queries.file(row).resolve()) for row in range(len(queries))]
    streets = {file: f"{row['city']} {row['street']}" for file, row in rows.items()}
    return (
        np.array([streets[file] for file in files])
        if all(file in streets for file in files)
        else None
    )


def rows_beside(photo: Path) -> dict[str, dict[str, str]]:
    """Lines by photo of the cameras.csv of the world that a photo lies in; empty without one."""
    table = next(
        (folder / "cameras.csv" for folder in photo.parents if (folder / "cameras.csv").is_file()),
        None,
    )
    if table is None:
        return {}
    with open(table, newline="", encoding="utf-8") as file:
        return {
            str((table.parent / plain_field(row["path"])).resolve()): row
            for row in csv.DictReader(file)
        }
