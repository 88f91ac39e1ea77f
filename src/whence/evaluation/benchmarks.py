"""`evaluate`: a model on a set, under a protocol that is printed with the numbers."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from whence.data.formats import EvaluationSet
from whence.data.predictions import Ranked
from whence.data.scan import list_photos
from whence.errors import BadOption, NoPhotos, Stopped
from whence.evaluation.cost import EvaluationCost, PeakMemory, measured_cost
from whence.evaluation.describing import SetDescriber, finite_rows
from whence.evaluation.metrics import RECALL_AT
from whence.evaluation.protocol import (
    THRESHOLDS_M,
    LeftOut,
    ScoredThreshold,
    describe_photos,
    describe_protocol,
    first_queries,
    leave_out_unplaced,
    no_answers,
    score_predictions,
)
from whence.evaluation.published import open_any
from whence.evaluation.reranking import Reranked, rerank_all
from whence.evaluation.searching import search_all, told_by_cells
from whence.geo import to_earth_centred
from whence.lists import NeighborLists
from whence.localize.cells import ENGINE as CELLS
from whence.localize.engine import EXACT, check_engine, engine_over
from whence.localize.position import estimate_position
from whence.localize.rerank_options import RerankOptions
from whence.localize.retrieve import Retriever, candidate_of
from whence.models.asking import QueryViews
from whence.models.descriptor import DescriptorModel, load_model
from whence.types import Candidate, GeoPoint, PairEvidence, Position, SkippedPhoto


@dataclass(frozen=True, slots=True)
class EvaluationOptions:
    """The rules and the budget of an evaluation."""

    thresholds_m: tuple[float, ...] = THRESHOLDS_M
    recall_at: tuple[int, ...] = RECALL_AT
    k: int = 20
    """Candidates kept per query; at least the largest N of `recall_at`."""
    is_leave_one_out: bool = False
    rerank: RerankOptions | None = None
    """Compare the first candidates with the query, pair by pair, and order them by what is
    found."""
    calibration: Path | None = None
    """A calibration file that re-ranked candidates are verified with, instead of the packaged
    one."""
    work_folder: Path | None = None
    """Where descriptors are kept: a run that was stopped goes on there, and a second run describes
    nothing again."""
    views: QueryViews | None = None
    """How queries are looked at; None as the model's card says. Descriptors of other views are not
    kept in the work folder."""
    engine: str = EXACT
    """The search engine, as a database is made with; "flat" compares with every photo."""
    cells: Path | None = None
    """With the engine "cells" a file of learned cells, whose best ones are searched; None for the
    means of the database's own."""
    is_frugal: bool = False
    """Keep descriptors in a file instead of in memory, in the work folder or where temporary files
    go."""
    fit_folder: Path | None = None
    """Photos that a model which has to be fitted is fitted on, instead of the database's."""

    def __post_init__(self) -> None:
        if not self.recall_at or min(self.recall_at) < 1:
            raise BadOption(f"recall is counted at ranks of 1 and more, not {list(self.recall_at)}")
        if self.calibration is not None and self.rerank is None:
            raise BadOption("a calibration is for the evidence of re-ranking: name a scorer")
        if self.cells is not None and self.engine.partition(":")[0] != CELLS:
            raise BadOption(f"learned cells go with the engine {CELLS}, not {self.engine}")


@dataclass(frozen=True, repr=False)
class Evaluation:
    """What came out: recalls, position errors, and all that is needed to read them."""

    model: str
    data: EvaluationSet
    protocol: str
    thresholds: tuple[ScoredThreshold, ...]
    predictions: np.ndarray
    """(Q, K) int64 database rows, best first, -1 for none."""
    similarities: np.ndarray
    """(Q, K) float32."""
    position_errors_m: np.ndarray
    """(Q,) metres between the estimated and the true position; NaN where either is unknown."""
    vocabulary: str = "none"
    skipped: tuple[SkippedPhoto, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    photos: str = ""
    """How photos were brought to the model; empty for predictions made elsewhere."""
    order: str = "similarity of descriptors"
    """What the predictions are ordered by."""
    evidence: tuple[tuple[PairEvidence | None, ...], ...] = ()
    """For each query what re-ranking found about its first candidates, in their new order; empty
    without re-ranking."""
    scorer: str = ""
    """What re-ranking compared with; empty without."""
    num_compared: int = 0
    """Pairs that re-ranking compared, of all queries."""
    retrieved: np.ndarray = field(default_factory=lambda: np.zeros((0, 1), np.int64))
    """(Q, K) the predictions as retrieved, before any re-ranking."""
    retrieved_similarities: np.ndarray = field(default_factory=lambda: np.zeros((0, 1), np.float32))
    answers: tuple[Position, ...] = ()
    """For each query the verified answer, as `locate` gives it; empty where nothing could be
    verified."""
    unverified_reason: str = "nothing was re-ranked"
    """Why there are no answers; empty where there are."""
    cost: EvaluationCost | None = None
    """What it took; None for predictions made elsewhere."""
    left_out: LeftOut = field(default_factory=LeftOut)
    """Photos of the set that were not looked at, because their place is not known."""
    excluded: NeighborLists | None = None
    """For each query the database rows that are no answer, itself among them, in leave-one-out;
    else None."""

    def __repr__(self) -> str:
        counts = f"{len(self.data.queries)} queries, {len(self.data.database)} database photos"
        scored = next(
            (one for one in self.thresholds if one.threshold_m in (25.0, None)), self.thresholds[0]
        )
        where = "as listed" if scored.threshold_m is None else f"within {scored.threshold_m:g} m"
        recalls = ", ".join(
            f"recall@{one.n} {100 * one.value:.1f} %"
            for one in scored.all_queries
            if one.num_queries
        )
        return f"<Evaluation of {self.model} on {self.data.name!r}: {counts}; {where} {recalls}>"

    def ranked(self) -> tuple[Ranked, ...]:
        """The predictions as named candidates, for writing."""
        return tuple(
            Ranked(self.data.queries.paths[q], _candidates(self, q))
            for q in range(len(self.predictions))
        )


class EvaluationStopped(Stopped):
    """The user stopped an evaluation: `partial` holds what the first queries gave; None where
    nothing can be counted yet."""

    def __init__(self, message: str, partial: Evaluation | None) -> None:
        super().__init__(message)
        self.partial = partial


def evaluate(
    model: str | DescriptorModel,
    data: EvaluationSet | str | Path,
    *,
    options: EvaluationOptions | None = None,
    model_options: Mapping[str, Any] | None = None,
    show_progress: bool | None = None,
) -> Evaluation:
    """The recall of a model: database and queries described, searched, and counted.

    `data` is a set, the path of one in any layout that `open_set` knows, or the name of a published
    set. Photos whose place is not known are left out on both sides and named in `left_out`; raises
    `InputError` where a side has no other. A model that is fitted is fitted on the database alone,
    or on the photos of another folder. Queries that cannot be read count as failures; database
    photos that cannot be read are left out; both are listed in `skipped`. With leave-one-out the
    queries of the set are ignored. Raises `EvaluationStopped` where the user stops it (Ctrl-C).
    """
    options = options or EvaluationOptions()
    if not isinstance(data, EvaluationSet):
        data = open_any(data, is_leave_one_out=options.is_leave_one_out)
    model = load_model(model, options=model_options) if isinstance(model, str) else model
    if options.is_leave_one_out:
        data = EvaluationSet(data.name, data.database, data.database, data.positives)
    if not len(data.database) or not len(data.queries):
        raise NoPhotos(
            f"{data.name}: nothing to evaluate, {len(data.database)} database photos and "
            f"{len(data.queries)} queries"
        )
    data, left_out = leave_out_unplaced(data)
    check_engine(options.engine, dim=model.dim)
    memory = PeakMemory()
    if options.fit_folder is not None and not model.is_fitted:
        files = list_photos(options.fit_folder)
        if not files:
            raise NoPhotos(f"no photos to fit {model.name} on in {str(options.fit_folder)!r}")
        model.prepare(files)
    run = SetDescriber(
        model, options.work_folder, show_progress, options.rerank, is_frugal=options.is_frugal
    )
    database = run.describe(data.database, "database")
    if run.num_described < len(data.database):
        what = (
            f"{run.num_described} of {len(data.database)} database photos were described, and "
            "nothing can be counted yet"
        )
        raise EvaluationStopped(f"{what}; a work folder (--work) keeps them for the next run", None)
    is_same = options.is_leave_one_out and options.views is None and model.query_model is model
    queries = database if is_same else run.ask(data.queries, views=options.views)
    num_asked = run.num_described
    queries = queries[:num_asked]
    told, described = told_by_cells(options.cells, model, data, queries, run, show_progress)
    started = time.perf_counter()
    is_searchable = finite_rows(database)
    cells = None if told is None else told.cells
    index = engine_over(
        database,
        engine=options.engine,
        is_searchable=is_searchable,
        photos=data.database,
        cells=cells,
    )
    retriever = Retriever(
        data.database, np.where(is_searchable, np.arange(len(database)), -1), index
    )
    k = max(
        options.k,
        *options.recall_at,
        0 if options.rerank is None else options.rerank.num_candidates,
    )
    own = no_answers(data, is_leave_one_out=options.is_leave_one_out)
    predictions, similarities = search_all(
        index, queries, k=k, own=own, questions=run.questions, cells=cells, described=described
    )
    run.seconds["search"] = time.perf_counter() - started
    retrieved, retrieved_similarities = predictions.copy(), similarities.copy()
    reranking = Reranked()
    if options.rerank is not None and num_asked == len(data.queries):
        started = time.perf_counter()
        reranking = rerank_all(
            run,
            data,
            predictions,
            similarities,
            retriever,
            options.rerank,
            calibration_file=options.calibration,
            is_leave_one_out=options.is_leave_one_out,
        )
        run.seconds["rerank"] = time.perf_counter() - started
    num_done = num_asked if reranking.num_done is None else reranking.num_done
    whole = data
    if num_done < len(data.queries):
        predictions, similarities = predictions[:num_done], similarities[:num_done]
        retrieved, retrieved_similarities = retrieved[:num_done], retrieved_similarities[:num_done]
        data = first_queries(data, num_done)
    result = counted_evaluation(
        model.name,
        data,
        predictions,
        similarities,
        options,
        vocabulary=run.vocabulary,
        skipped=tuple(run.skipped),
        seconds=run.seconds,
    )
    order = (
        reranking.order
        if options.views is None
        else f"{reranking.order}, queries by {options.views.mode}"
    )
    order = order if options.engine == EXACT else f"{order}, searched by {options.engine}"
    cost = measured_cost(
        model,
        data,
        seconds=run.seconds,
        peak_bytes=memory.peak_bytes(),
        is_kept=options.work_folder is not None,
    )
    result = replace(
        result,
        cost=cost,
        photos=describe_photos(model.preprocessing, model.query_model.preprocessing, options.views),
        order=order,
        evidence=reranking.evidence,
        scorer="" if options.rerank is None else options.rerank.scorer,
        num_compared=reranking.num_compared,
        retrieved=retrieved,
        retrieved_similarities=retrieved_similarities,
        answers=reranking.answers,
        unverified_reason=reranking.unverified_reason,
        left_out=left_out,
    )
    if num_done < len(whole.queries):
        what = (
            f"{num_done} of {len(whole.queries)} queries were done, and the figures are theirs"
            if num_done
            else "no query was done"
        )
        what += "; with --work FOLDER the next run goes on where this one stopped"
        raise EvaluationStopped(what, result if num_done else None)
    return result


def counted_evaluation(
    name: str,
    data: EvaluationSet,
    predictions: np.ndarray,
    similarities: np.ndarray,
    options: EvaluationOptions,
    *,
    vocabulary: str = "none",
    skipped: tuple[SkippedPhoto, ...] = (),
    seconds: Mapping[str, float] | None = None,
) -> Evaluation:
    """The evaluation of predictions and similarities (Q, K): recalls and position errors counted by
    the options' rules."""
    excluded = no_answers(data, is_leave_one_out=options.is_leave_one_out)
    thresholds = score_predictions(
        predictions,
        data,
        thresholds_m=options.thresholds_m,
        recall_at=options.recall_at,
        excluded=excluded,
    )
    result = Evaluation(
        model=name,
        data=data,
        protocol=describe_protocol(data, is_leave_one_out=options.is_leave_one_out),
        thresholds=thresholds,
        predictions=predictions,
        similarities=similarities,
        position_errors_m=np.full(len(predictions), np.nan),
        vocabulary=vocabulary,
        skipped=skipped,
        seconds=dict(seconds or {}),
        excluded=excluded,
    )
    result.position_errors_m[:] = _position_errors(result)
    return result


def _position_errors(result: Evaluation) -> np.ndarray:
    queries = result.data.queries
    errors = np.full(len(queries), np.nan)
    if not result.data.database.has_point.any():
        return errors
    for q in np.flatnonzero(queries.has_point):
        point = estimate_position(_candidates(result, int(q))).point
        if point is not None:
            errors[q] = _gap_m(point, float(queries.lat[q]), float(queries.lon[q]))
    return errors


def _gap_m(point: GeoPoint, lat: float, lon: float) -> float:
    return float(
        np.linalg.norm(
            to_earth_centred(np.array(point.lat), np.array(point.lon))
            - to_earth_centred(np.array(lat), np.array(lon))
        )
    )


def _candidates(result: Evaluation, query: int) -> tuple[Candidate, ...]:
    rows = result.predictions[query]
    pairs = zip(rows[rows >= 0].tolist(), result.similarities[query].tolist(), strict=False)
    return tuple(
        candidate_of(result.data.database, row, rank=i, similarity=s)
        for i, (row, s) in enumerate(pairs, start=1)
    )
