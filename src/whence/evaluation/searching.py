"""The search of an evaluation: every query among all rows, or among those of its best cells."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from whence.data.formats import EvaluationSet
from whence.evaluation.describing import SetDescriber, finite_rows
from whence.index.cells.classifier import CellClassifier, read_cells
from whence.index.cells.engine import CellIndex
from whence.index.vectors import Index
from whence.lists import NeighborLists
from whence.localize.cells import CellLocalizer
from whence.models.asking import Question
from whence.models.descriptor import DescriptorModel
from whence.types import Neighbors


def search_all(
    index: Index,
    queries: np.ndarray,
    *,
    k: int,
    own: NeighborLists | None,
    questions: Mapping[int, Question],
    cells: CellClassifier | None,
    described: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Predictions and similarities (Q, k), -1 and NaN where there are fewer; queries (Q, D) ask as
    `questions` say.

    `own` lists rows that are no answer for a query. With `cells` each is searched in its best ones,
    by what it is `described` as for them (Q, C).
    """
    askable = np.flatnonzero(finite_rows(queries))
    predictions = np.full((len(queries), k), -1, np.int64)
    similarities = np.full((len(queries), k), np.nan, np.float32)
    if not index.num_vectors or not len(askable):
        return predictions, similarities
    extra = 0 if own is None else int(own.counts.max(initial=0))
    asked = [questions.get(int(q)) or Question(queries[q][None]) for q in askable]
    for q, question, found in zip(
        askable, asked, _found(index, asked, k + extra, cells, described[askable]), strict=True
    ):
        of_query = question.merge(found, k=k + extra)
        ids, values = of_query.ids[0], of_query.similarities[0]
        if own is not None:
            kept = ~np.isin(ids, own.of(int(q)))
            ids, values = ids[kept], values[kept]
        predictions[q, : min(k, len(ids))] = ids[:k]
        similarities[q, : min(k, len(ids))] = values[:k]
    return predictions, similarities


def _found(
    index: Index,
    questions: Sequence[Question],
    k: int,
    cells: CellClassifier | None,
    described: np.ndarray,
) -> Iterator[Neighbors]:
    """What each question finds among all rows, or among those of its best cells."""
    if cells is not None and isinstance(index, CellIndex) and index.table is not None:
        chosen = index.ids_for(cells, described, least=k)
        yield from (
            index.search(one.rows, k=k, allowed=ids)
            for one, ids in zip(questions, chosen, strict=True)
        )
        return
    found = index.search(np.concatenate([question.rows for question in questions]), k=k)
    end = 0
    for question in questions:
        start, end = end, end + len(question.rows)
        yield Neighbors(found.ids[start:end], found.similarities[start:end])


def told_by_cells(
    file: Path | None,
    model: DescriptorModel,
    data: EvaluationSet,
    queries: np.ndarray,
    run: SetDescriber,
    show_progress: bool | None,
) -> tuple[CellLocalizer | None, np.ndarray]:
    """The localizer that tells the queries' cells, and the queries (Q, C) as it describes them: as
    they are where it has the same model."""
    if file is None:
        return None, queries
    cells = read_cells(file)
    told = CellLocalizer.of_classifier(
        cells, beside=model if cells.model in ("", model.name) else None
    )
    if told.is_of_database:
        return told, queries
    other = SetDescriber(told.model, None, show_progress)
    described = other.ask(data.queries)[: len(queries)]
    run.seconds["describe queries for cells"] = other.seconds["describe queries"]
    return told, np.nan_to_num(described)
