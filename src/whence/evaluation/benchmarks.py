"""`evaluate`: a model, or foreign predictions, on a set, under a protocol that is printed with the numbers."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from whence.data.formats import EvaluationSet
from whence.data.photos import Photos
from whence.data.predictions import Ranked
from whence.data.scan import list_photos
from whence.data.tables import plain_name
from whence.errors import BadOption, CalibrationMismatch, InputError, NoPhotos
from whence.evaluation.cost import EvaluationCost, PeakMemory, measured_cost
from whence.evaluation.describing import SetDescriber, finite_rows
from whence.evaluation.metrics import RECALL_AT
from whence.evaluation.protocol import THRESHOLDS_M, ScoredThreshold, describe_protocol, same_content, score_predictions
from whence.geo import to_earth_centred
from whence.index.flat import FlatIndex
from whence.index.store import Store
from whence.localize.build import is_begun
from whence.localize.judge import Judge
from whence.localize.position import estimate_position
from whence.localize.prepared_photos import PreparedPhotos
from whence.localize.rerank_options import RerankOptions
from whence.localize.retrieve import Retriever, candidate_of, merge_neighbors
from whence.localize.verify import find_calibration, key_of
from whence.models.descriptor import DescriptorModel, load_model
from whence.models.views import QueryViews
from whence.runtime import progress
from whence.types import Calibration, Candidate, GeoPoint, Neighbors, PairEvidence, Position, SkippedPhoto


@dataclass(frozen=True, slots=True)
class EvaluationOptions:
    """The rules and the budget of an evaluation."""

    thresholds_m: tuple[float, ...] = THRESHOLDS_M
    recall_at: tuple[int, ...] = RECALL_AT
    k: int = 20
    """Candidates kept per query; at least the largest N of `recall_at`."""
    is_leave_one_out: bool = False
    rerank: RerankOptions | None = None
    """Compare the first candidates with the query, pair by pair, and order them by what is found."""
    calibration: Path | None = None
    """A calibration file that re-ranked candidates are verified with, instead of the packaged one."""
    work_folder: Path | None = None
    """Where descriptors are kept: a run that was stopped goes on there, and a second run describes nothing again."""
    views: QueryViews | None = None
    """How queries are looked at; None as the model's card says. Descriptors of other views are not kept in the work folder."""
    is_frugal: bool = False
    """Keep descriptors in a file instead of in memory, in the work folder or where temporary files go."""
    fit_folder: Path | None = None
    """Photos that a model which has to be fitted is fitted on, instead of the database's."""

    def __post_init__(self) -> None:
        if not self.recall_at or min(self.recall_at) < 1:
            raise BadOption(f"recall is counted at ranks of 1 and more, not {list(self.recall_at)}")
        if self.calibration is not None and self.rerank is None:
            raise BadOption("a calibration is for the evidence of re-ranking: name a scorer")


@dataclass(frozen=True)
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
    order: str = "similarity of descriptors"
    """What the predictions are ordered by."""
    evidence: tuple[tuple[PairEvidence | None, ...], ...] = ()
    """For each query what re-ranking found about its first candidates, in their new order; empty without re-ranking."""
    scorer: str = ""
    """What re-ranking compared with; empty without."""
    num_compared: int = 0
    """Pairs that re-ranking compared, of all queries."""
    retrieved: np.ndarray = field(default_factory=lambda: np.zeros((0, 1), np.int64))
    """(Q, K) the predictions as retrieved, before any re-ranking."""
    retrieved_similarities: np.ndarray = field(default_factory=lambda: np.zeros((0, 1), np.float32))
    answers: tuple[Position, ...] = ()
    """For each query the verified answer, as `locate` gives it; empty where nothing could be verified."""
    unverified_reason: str = "nothing was re-ranked"
    """Why there are no answers; empty where there are."""
    cost: EvaluationCost | None = None
    """What it took; None for predictions made elsewhere."""

    def ranked(self) -> tuple[Ranked, ...]:
        """The predictions as named candidates, for writing."""
        return tuple(Ranked(self.data.queries.paths[q], _candidates(self, q)) for q in range(len(self.predictions)))


def evaluate(
    model: str | DescriptorModel,
    data: EvaluationSet,
    *,
    options: EvaluationOptions | None = None,
    model_options: Mapping[str, Any] | None = None,
    show_progress: bool | None = None,
) -> Evaluation:
    """Describe database and queries, search, and count.

    A model that is fitted is fitted on the database alone, or on the photos of another folder. Queries that cannot be read count
    as failures; database photos that cannot be read are left out; both are listed in `skipped`. With leave-one-out the queries of
    the set are ignored.
    """
    options = options or EvaluationOptions()
    model = load_model(model, options=model_options) if isinstance(model, str) else model
    if options.is_leave_one_out:
        data = EvaluationSet(data.name, data.database, data.database, data.positives)
    if not len(data.database) or not len(data.queries):
        raise NoPhotos(f"{data.name}: nothing to evaluate, {len(data.database)} database photos and {len(data.queries)} queries")
    memory = PeakMemory()
    if options.fit_folder is not None and not model.is_fitted:
        files = list_photos(options.fit_folder)
        if not files:
            raise NoPhotos(f"no photos to fit {model.name} on in {str(options.fit_folder)!r}")
        model.prepare(files)
    run = SetDescriber(model, options.work_folder, show_progress, options.rerank, is_frugal=options.is_frugal)
    database = run.describe(data.database, "database")
    is_same = options.is_leave_one_out and options.views is None
    queries = database if is_same else run.describe(data.queries, "queries", views=options.views)
    started = time.perf_counter()
    is_searchable = finite_rows(database)
    index = FlatIndex.over(database)
    if not is_searchable.all():
        index.remove(np.flatnonzero(~is_searchable))
    retriever = Retriever(data.database, np.where(is_searchable, np.arange(len(database)), -1), index)
    predictions, similarities = _search(index, queries, data, options, crops=run.crops)
    run.seconds["search"] = time.perf_counter() - started
    retrieved, retrieved_similarities = predictions.copy(), similarities.copy()
    done = _Reranked()
    if options.rerank is not None:
        started = time.perf_counter()
        done = _rerank_all(run, data, predictions, similarities, retriever, options)
        run.seconds["rerank"] = time.perf_counter() - started
    result = _evaluation(
        model.name,
        data,
        predictions,
        similarities,
        options,
        vocabulary=run.vocabulary,
        skipped=tuple(run.skipped),
        seconds=run.seconds,
    )
    order = done.order if options.views is None else f"{done.order}, queries by {options.views.mode}"
    cost = measured_cost(model, data, seconds=run.seconds, peak_bytes=memory.peak_bytes(), is_kept=options.work_folder is not None)
    return replace(
        result,
        cost=cost,
        order=order,
        evidence=done.evidence,
        scorer="" if options.rerank is None else options.rerank.scorer,
        num_compared=done.num_compared,
        retrieved=retrieved,
        retrieved_similarities=retrieved_similarities,
        answers=done.answers,
        unverified_reason=done.unverified_reason,
    )


def evaluate_predictions(
    ranked: Sequence[Ranked], data: EvaluationSet, *, name: str, options: EvaluationOptions | None = None
) -> Evaluation:
    """Count predictions made elsewhere. Queries without a line count as failures.

    Photos are named by their path within the set; where base names are unique they are enough. Raises `InputError` for a
    name the set does not have, and in leave-one-out for a query that answers itself.
    """
    options = options or EvaluationOptions()
    if options.is_leave_one_out:
        data = EvaluationSet(data.name, data.database, data.database, data.positives)
    query_row, database_row = _rows_by_name(data.queries), _rows_by_name(data.database)
    k = max(options.k, *options.recall_at)
    predictions = np.full((len(data.queries), k), -1, np.int64)
    similarities = np.full((len(data.queries), k), np.nan, np.float32)
    for one in ranked:
        q = _find(one.query, query_row, data.queries, f"query of {name}")
        for column, candidate in enumerate(one.candidates[:k]):
            predictions[q, column] = _find(candidate.photo, database_row, data.database, f"database photo of {name}")
            similarities[q, column] = candidate.similarity
    if options.is_leave_one_out and (same := _answers_itself(predictions, data.database)) is not None:
        raise InputError(f"{name}: {data.queries.paths[same]!r} is given itself as an answer, which leave-one-out leaves out")
    return _evaluation(name, data, predictions, similarities, options)


def _search(
    index: FlatIndex,
    queries: np.ndarray,
    data: EvaluationSet,
    options: EvaluationOptions,
    *,
    crops: Mapping[int, np.ndarray],
) -> tuple[np.ndarray, np.ndarray]:
    """Predictions and similarities (Q, K), -1 and NaN where there are fewer; queries in `crops` (C, D) are searched by those."""
    k = max(options.k, *options.recall_at, 0 if options.rerank is None else options.rerank.num_candidates)
    askable = np.flatnonzero(finite_rows(queries))
    predictions = np.full((len(queries), k), -1, np.int64)
    similarities = np.full((len(queries), k), np.nan, np.float32)
    if not index.num_vectors or not len(askable):
        return predictions, similarities
    own = same_content(data.database) if options.is_leave_one_out else None
    extra = 0 if own is None else int(own.counts.max(initial=0))
    asked = [crops.get(int(q), queries[q][None]) for q in askable]
    ends = np.cumsum([len(rows) for rows in asked])
    found = index.search(np.concatenate(asked), k=k + extra)
    for q, rows, end in zip(askable, asked, ends, strict=True):
        of_query = Neighbors(found.ids[end - len(rows) : end], found.similarities[end - len(rows) : end])
        if int(q) in crops and options.views is not None:
            of_query = merge_neighbors(of_query, k=k + extra, majority_weight=options.views.vote_weight)
        ids, values = of_query.ids[0], of_query.similarities[0]
        if own is not None:
            kept = ~np.isin(ids, own.of(int(q)))
            ids, values = ids[kept], values[kept]
        predictions[q, : min(k, len(ids))] = ids[:k]
        similarities[q, : min(k, len(ids))] = values[:k]
    return predictions, similarities


@dataclass(frozen=True)
class _Reranked:
    """What re-ranking and verifying all queries gave."""

    order: str = "similarity of descriptors"
    evidence: tuple[tuple[PairEvidence | None, ...], ...] = ()
    answers: tuple[Position, ...] = ()
    unverified_reason: str = "nothing was re-ranked"
    num_compared: int = 0


def _rerank_all(
    run: SetDescriber,
    data: EvaluationSet,
    predictions: np.ndarray,
    similarities: np.ndarray,
    retriever: Retriever,
    options: EvaluationOptions,
) -> _Reranked:
    """Put the rows of predictions and similarities in the order of re-ranking; the order's name, the evidence, and the answers."""
    assert options.rerank is not None
    assert run.prepared is not None
    places = ["database", "database" if options.is_leave_one_out else "queries"]
    folders = [None if run.work is None else run.work / f"{what}.whence" for what in places]
    stores = [None if folder is None or not is_begun(folder) else Store.open(folder) for folder in folders]
    known = [
        run.prepared.over(photos, store=store, given=run.local)
        for photos, store in zip((data.database, data.queries), stores, strict=True)
    ]
    calibration, reason = _calibration(run.model, known[0], options)
    first_stage = () if calibration is None else calibration.first_stage
    judge = Judge(run.model, retriever, options.rerank, known[0], calibration, first_stage=first_stage)
    search_s = run.seconds["search"] / max(len(predictions), 1)
    evidence, answers, num_compared = [], [], 0
    with progress("re-ranking", total=len(predictions), show=run.show_progress) as advance:
        for q in range(len(predictions)):
            rows = predictions[q][predictions[q] >= 0].tolist()
            done: tuple[Candidate, ...] = tuple(
                candidate_of(data.database, row, rank=rank, similarity=float(similarities[q, rank - 1]))
                for rank, row in enumerate(rows, start=1)
            )
            started = time.perf_counter()
            asked, sure = known[1].of_row(q) if done else None, None
            if asked is not None:
                compared = judge.compare(done, asked)
                done, sure = compared.candidates, compared.sure
                num_compared += compared.num_compared
            seconds = {"search": search_s, "rerank": time.perf_counter() - started}
            if q < len(spent := run.spent_s.get(places[1], ())) and np.isfinite(spent[q]):
                seconds = {"describe": float(spent[q]), **seconds}
            predictions[q, : len(rows)] = [one.row for one in done]
            similarities[q, : len(rows)] = [one.similarity for one in done]
            evidence.append(tuple(one.evidence for one in done))
            if calibration is not None:
                answers.append(judge.judge(data.queries.paths[q], done, seconds=seconds, sure=sure))
            advance(1)
    for store in stores:
        if store is not None:
            store.close()
    order = f"{options.rerank.scorer} among the first {options.rerank.num_candidates}"
    return _Reranked(order, tuple(evidence), tuple(answers), reason, num_compared)


def _calibration(model: DescriptorModel, prepared: PreparedPhotos, options: EvaluationOptions) -> tuple[Calibration | None, str]:
    """The calibration for these settings, and why there is none. Raises `CalibrationMismatch` for a named one that does not fit."""
    try:
        return find_calibration(key_of(model.card.card_id, prepared), file=options.calibration), ""
    except CalibrationMismatch as error:
        if options.calibration is not None:
            raise
        return None, str(error)


def _evaluation(
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
    excluded = same_content(data.database) if options.is_leave_one_out else None
    thresholds = score_predictions(
        predictions, data, thresholds_m=options.thresholds_m, recall_at=options.recall_at, excluded=excluded
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
        np.linalg.norm(to_earth_centred(np.array(point.lat), np.array(point.lon)) - to_earth_centred(np.array(lat), np.array(lon)))
    )


def _candidates(result: Evaluation, query: int) -> tuple[Candidate, ...]:
    rows = result.predictions[query]
    pairs = zip(rows[rows >= 0].tolist(), result.similarities[query].tolist(), strict=False)
    return tuple(candidate_of(result.data.database, row, rank=i, similarity=s) for i, (row, s) in enumerate(pairs, start=1))


def _rows_by_name(photos: Photos) -> dict[str, int]:
    """Row by path within the set, by path on disk, and by base name where that is unique (-1 where it is not); as `plain_name`."""
    rows: dict[str, int] = {}
    paths = [plain_name(path) for path in photos.paths]
    for row, path in enumerate(paths):
        base = path.rsplit("/", 1)[-1]
        rows[base] = -1 if base in rows else row
    rows |= {plain_name(str(photos.file(row))): row for row in range(len(photos))}
    return rows | {path: row for row, path in enumerate(paths)}


def _find(name: str, rows: Mapping[str, int], photos: Photos, what: str) -> int:
    plain = plain_name(name)
    row = rows.get(plain, rows.get(plain.rsplit("/", 1)[-1]))
    if row is None or row < 0:
        why = "is not in the set" if row is None else "names several photos of the set; give their paths"
        raise InputError(f"{what} {name!r} {why}, for example {photos.paths[0]!r}")
    return row


def _answers_itself(predictions: np.ndarray, photos: Photos) -> int | None:
    own = same_content(photos)
    for q in range(len(predictions)):
        if np.isin(predictions[q], own.of(q)).any():
            return q
    return None
