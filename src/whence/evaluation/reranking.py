"""Re-ranking and verifying all queries of an evaluation, by the code that `locate` uses."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from whence.data.formats import EvaluationSet
from whence.errors import CalibrationMismatch
from whence.evaluation.describing import SetDescriber
from whence.index.store import Store
from whence.localize.build import is_begun
from whence.localize.calibration_files import find_calibration, key_of
from whence.localize.judge import Judge
from whence.localize.otherwise import otherwise_of
from whence.localize.rerank import PreparedPhotos, RerankOptions
from whence.localize.retrieve import Retriever, candidate_of
from whence.models.descriptor import DescriptorModel
from whence.runtime import progress
from whence.types import Calibration, Candidate, PairEvidence, Position


@dataclass(frozen=True)
class Reranked:
    """What re-ranking and verifying all queries gave."""

    order: str = "similarity of descriptors"
    evidence: tuple[tuple[PairEvidence | None, ...], ...] = ()
    answers: tuple[Position, ...] = ()
    unverified_reason: str = "nothing was re-ranked"
    num_compared: int = 0
    num_done: int | None = None
    """Queries that were done when the user stopped it; None where all were."""


def rerank_all(
    run: SetDescriber,
    data: EvaluationSet,
    predictions: np.ndarray,
    similarities: np.ndarray,
    retriever: Retriever,
    options: RerankOptions,
    *,
    calibration_file: Path | None,
    is_leave_one_out: bool,
) -> Reranked:
    """Rows of predictions and similarities in the order of re-ranking; the order's name, the
    evidence, and the answers.

    Stopped by the user, it gives what was done for the first queries.
    """
    assert run.material is not None
    places = ["database", "database" if is_leave_one_out else "queries"]
    folders = [None if run.work is None else run.work / f"{what}.whence" for what in places]
    stores = [
        None if folder is None or not is_begun(folder) else Store.open(folder) for folder in folders
    ]
    known = [
        run.material.over(photos, store=store, arrays=run.local)
        for photos, store in zip((data.database, data.queries), stores, strict=True)
    ]
    calibration, reason = _calibration(run.model, known[0], calibration_file)
    otherwise = otherwise_of(
        options, lambda chosen: PreparedPhotos.for_options(chosen, data.database)
    )
    judge = Judge(run.model, retriever, options, known[0], calibration, otherwise=otherwise)
    search_s = run.seconds["search"] / max(len(predictions), 1)
    evidence, answers, num_compared = [], [], 0
    num_done = None
    try:
        with progress("re-ranking", total=len(predictions), show=run.show_progress) as advance:
            for q in range(len(predictions)):
                rows = predictions[q][predictions[q] >= 0].tolist()
                done: tuple[Candidate, ...] = tuple(
                    candidate_of(
                        data.database, row, rank=rank, similarity=float(similarities[q, rank - 1])
                    )
                    for rank, row in enumerate(rows, start=1)
                )
                started = time.perf_counter()
                asked = known[1].of_row(q) if done else None
                if asked is not None:
                    compared = judge.compare(done, asked, source=data.queries.file(q))
                    done = compared.candidates
                    num_compared += compared.num_compared
                seconds = {"search": search_s, "rerank": time.perf_counter() - started}
                if q < len(spent := run.spent_s.get(places[1], ())) and np.isfinite(spent[q]):
                    seconds = {"describe": float(spent[q]), **seconds}
                predictions[q, : len(rows)] = [one.row for one in done]
                similarities[q, : len(rows)] = [one.similarity for one in done]
                if calibration is not None:
                    answers.append(judge.judge(data.queries.paths[q], done, seconds=seconds))
                evidence.append(tuple(one.evidence for one in done))
                advance(1)
    except KeyboardInterrupt:
        num_done = len(evidence)
        answers = answers[:num_done]
    for store in stores:
        if store is not None:
            store.close()
    order = f"{options.scorer} among the first {options.num_candidates}"
    if otherwise is not None:
        order += (
            f", {otherwise.options.scorer} among the first {otherwise.options.num_candidates} "
            "where that says nothing"
        )
    return Reranked(order, tuple(evidence), tuple(answers), reason, num_compared, num_done)


def _calibration(
    model: DescriptorModel, material: PreparedPhotos, file: Path | None
) -> tuple[Calibration | None, str]:
    """The calibration for these settings, and why there is none. Raises `CalibrationMismatch` for a
    named one that does not fit."""
    try:
        return find_calibration(key_of(model.card.card_id, material), file=file), ""
    except CalibrationMismatch as error:
        if file is not None:
            raise
        return None, str(error)
