"""Calibration: evidence of pairs whose truth is known, a probability and a radius fitted on it, and how good they are.

Pairs come from the database itself: each photo asks the others. Photos taken nearby are genuine; to see impostors, everything
within `FAR_M` is left out, so that the best of what remains is wrong. The queries of a test never take part. Where photos with
known places are at hand beside the database, they may ask too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from whence.data.photos import Photos
from whence.errors import NoPhotos, UnreadableImage
from whence.geo import distance_m, neighbors_within, to_earth_centred
from whence.localize.localizer import Localizer
from whence.localize.position import position_of_accepted, spacing_at
from whence.localize.rerank import RerankOptions, describe_for_rerank, rerank
from whence.localize.retrieve import candidate_of
from whence.localize.unsure import SURE_FEATURES, sure_features
from whence.localize.verify import FEATURES, NOISE_INLIERS, features_of, key_of, num_inliers
from whence.runtime import progress
from whence.types import Calibration, Candidate, GeoPoint

GENUINE_M = 25.0
"""A candidate within this distance shows the query's place."""
FAR_M = 100.0
"""A candidate beyond this distance shows another."""
MIN_PAIRS = 20
"""Pairs of each kind that a calibration needs."""
RADIUS_LEVEL = 0.9
MAX_FALSE_ANSWERS = 0.03
"""Share of the questions at places the photos do not show that may be answered all the same."""
NOISE_FEATURES = np.array([np.log1p(NOISE_INLIERS - 1), *[0.0] * (len(FEATURES) - 1)])
"""Features of the most that chance gives."""
_RIDGE = 1e-2
_NUM_STEPS = 100


class Trials(NamedTuple):
    """What asking showed, one row per question; T trials."""

    with_points: np.ndarray
    """(T, F) features of the best candidate, as where candidates have coordinates."""
    without_points: np.ndarray
    """(T, F) the same questions with the coordinates hidden."""
    has_evidence: np.ndarray
    """(T,) bool: whether the best candidate has any; without, its features are those of the most that chance gives."""
    gaps_m: np.ndarray
    """(T,) distance from the query to the best candidate."""
    errors_m: np.ndarray
    """(T,) distance from the query to the estimated position."""
    scales_m: np.ndarray
    """(T,) the estimate's own scale."""
    is_covered: np.ndarray
    """(T,) bool: whether the photos asked show the query's place at all."""
    first_features: np.ndarray
    """(T, F) what is known once retrieval's first candidate is compared (`whence.localize.unsure.SURE_FEATURES`)."""
    first_gaps_m: np.ndarray
    """(T,) distance from the query to retrieval's first candidate."""

    @classmethod
    def joined(cls, parts: Sequence[Trials]) -> Trials:
        """Several as one."""
        return cls(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))

    def select(self, mask: np.ndarray) -> Trials:
        """Those in the mask (T,) bool."""
        return Trials(*(column[mask] for column in self))

    def confidences(self, weights: tuple[float, ...], *, has_points: bool = True) -> np.ndarray:
        """(T,) probabilities, 0 without evidence."""
        return np.where(self.has_evidence, logistic(self.with_points if has_points else self.without_points, weights), 0.0)


@dataclass(frozen=True, slots=True)
class Reliability:
    """How a calibration does on trials: expected calibration error, and by bins of confidence the share that was right."""

    calibration_error: float
    edges: tuple[float, ...]
    counts: tuple[int, ...]
    confidences: tuple[float, ...]
    shares_right: tuple[float, ...]


def trials_of_database(
    localizer: Localizer, *, options: RerankOptions | None = None, max_photos: int = 300, show_progress: bool | None = None
) -> Trials:
    """Each of up to `max_photos` photos of the database asks twice: for its neighbours, and with everything near left out.

    Raises `NoPhotos` where fewer than two photos have coordinates.
    """
    options = options or RerankOptions()
    photos = localizer.photos
    usable = np.flatnonzero(photos.has_point & (localizer.store.descriptor_rows >= 0))
    if len(usable) < 2:
        raise NoPhotos(f"{str(localizer.store.path)!r} holds {len(usable)} photos with coordinates; a calibration needs many")
    chosen = usable[np.linspace(0, len(usable) - 1, min(max_photos, len(usable))).round().astype(int)]
    ground = to_earth_centred(photos.columns["lat"][usable], photos.columns["lon"][usable])
    contents = photos.columns["content"][usable]
    descriptors = localizer.store.descriptors
    rows_of = localizer.store.descriptor_rows
    prepared = localizer.prepared(options)
    asked: list[_Trial] = []
    with progress("comparing photos", total=len(chosen), show=show_progress) as advance:
        for row in chosen.tolist():
            advance(1)
            local = prepared.of_row(row)
            if local is None:
                continue
            point = _point(photos, row)
            here = to_earth_centred(np.array(point.lat), np.array(point.lon))
            gaps = np.linalg.norm(ground - here, axis=1)
            similarities = np.asarray(descriptors[rows_of[usable]], np.float32) @ np.asarray(descriptors[rows_of[row]], np.float32)
            for is_covered, allowed in ((True, contents != photos.columns["content"][row]), (False, gaps > FAR_M)):
                best = np.flatnonzero(allowed)
                best = best[np.argsort(-similarities[best], kind="stable")][: options.num_candidates]
                if is_covered and not (gaps[allowed] <= GENUINE_M).any():
                    continue
                candidates = [
                    candidate_of(photos, int(usable[i]), rank=rank, similarity=float(similarities[i]))
                    for rank, i in enumerate(best, start=1)
                ]
                done = rerank(candidates, query=local, prepared=prepared, options=options).candidates
                asked.append(_Trial(done, point, is_covered))
    return _as_trials(asked, photos)


def trials_of_queries(
    localizer: Localizer, queries: Photos, *, options: RerankOptions | None = None, show_progress: bool | None = None
) -> Trials:
    """Photos with known places ask the database as they are."""
    options = options or RerankOptions()
    prepared = localizer.prepared(options)
    asked: list[_Trial] = []
    rows = np.flatnonzero(queries.has_point).tolist()
    known, here = (
        to_earth_centred(photos.columns["lat"][mask], photos.columns["lon"][mask])
        for photos, mask in ((localizer.photos, localizer.photos.has_point), (queries, queries.has_point))
    )
    is_covered = dict(zip(rows, neighbors_within(known, here, radius_m=GENUINE_M).counts > 0, strict=True))
    with progress("comparing photos", total=len(rows), show=show_progress) as advance:
        results = describe_for_rerank(localizer.model, [queries.file(row) for row in rows], prepared)
        for row, result in zip(rows, results, strict=True):
            advance(1)
            if isinstance(result, UnreadableImage):
                continue
            candidates = localizer.retriever.retrieve(result.descriptor[None], k=options.num_candidates)[0]
            done = rerank(candidates, query=result.local or {}, prepared=prepared, options=options).candidates
            asked.append(_Trial(done, _point(queries, row), bool(is_covered[row])))
    return _as_trials(asked, localizer.photos)


def fit_calibration(
    trials: Trials,
    localizer: Localizer,
    *,
    asked: Trials | None = None,
    options: RerankOptions | None = None,
    source: str = "",
) -> Calibration:
    """The calibration that trials suggest, for a localizer's settings. Raises `NoPhotos` where they hold too few pairs.

    Logistic regression on the evidence features, with weights that may not be negative: more evidence never means less confidence.
    Questions at covered places and at others are weighted to the share of queries that are taken to lie where the database has
    photos. An answer is given from the probability, at least one half, above which no more than `MAX_FALSE_ANSWERS` of the
    questions at other places lie: of those in `asked`, questions as people ask them, where it is given, because photos of one
    database are more alike than photos of another day. The radius factor is the quantile of error over scale among all questions
    that would be answered, wrongly or not.
    """
    options = options or RerankOptions()
    is_right, is_wrong = trials.gaps_m <= GENUINE_M, trials.gaps_m > FAR_M
    kept = trials.has_evidence & (is_right | is_wrong)
    if (kept & is_wrong).sum() < MIN_PAIRS:
        # Chance gives so little here that it is taken at its most: better than to conclude from nothing.
        kept |= is_wrong & ~trials.is_covered
    num_genuine, num_impostors = int((kept & is_right).sum()), int((kept & is_wrong).sum())
    if min(num_genuine, num_impostors) < MIN_PAIRS:
        raise NoPhotos(
            f"{num_genuine} genuine and {num_impostors} impostor pairs; at least {MIN_PAIRS} of each are needed: "
            "a database of more photos with coordinates, some within 25 m of each other and some more than 100 m apart"
        )
    blank = Calibration(key_of(localizer.model.card.card_id, localizer.prepared(options)), (), (), 1.0)
    num_covered = max(int(trials.is_covered.sum()), 1)
    num_others = max(len(trials.is_covered) - num_covered, 1)
    shares = np.where(trials.is_covered, blank.prior / num_covered, (1 - blank.prior) / num_others)
    models = [fit_logistic(table[kept], is_right[kept], shares[kept]) for table in (trials.with_points, trials.without_points)]
    limits = [
        _least_confidence(asked or trials, model, has_points=has_points)
        for model, has_points in zip(models, (True, False), strict=True)
    ]
    accepted = trials.confidences(models[0]) >= limits[0]
    if accepted.sum() < MIN_PAIRS:
        accepted = kept & is_right
    return Calibration(
        blank.key,
        models[0],
        models[1],
        radius_factor=round(weighted_quantile((trials.errors_m / trials.scales_m)[accepted], shares[accepted], RADIUS_LEVEL), 4),
        min_confidence=limits[0],
        min_confidence_without_points=limits[1],
        num_genuine=num_genuine,
        num_impostors=num_impostors,
        source=source,
        first_stage=_fit_first_stage(trials, shares),
    )


def _fit_first_stage(trials: Trials, shares: np.ndarray) -> tuple[float, ...]:
    """Weights for the probability that retrieval's first candidate is right; empty where too few are right or too few wrong."""
    is_right = trials.first_gaps_m <= GENUINE_M
    if min(int(is_right.sum()), int((~is_right).sum())) < MIN_PAIRS:
        return ()
    return fit_logistic(trials.first_features, is_right, shares)


def weighted_quantile(values: np.ndarray, shares: np.ndarray, level: float) -> float:
    """The smallest of the values (N,) below or at which `level` of the shares (N,) lie."""
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(shares[order]) >= level * shares.sum() * (1 - 1e-12)
    return float(values[order][np.argmax(reached)])


def _least_confidence(trials: Trials, weights: tuple[float, ...], *, has_points: bool) -> float:
    """The probability from which answers are given."""
    others = trials.confidences(weights, has_points=has_points)[~trials.is_covered]
    if not len(others):
        return 0.9
    return round(min(max(float(np.quantile(others, 1 - MAX_FALSE_ANSWERS)), 0.5), 0.99), 4)


def fit_logistic(features: np.ndarray, is_right: np.ndarray, shares: np.ndarray) -> tuple[float, ...]:
    """Bias and non-negative weights (1 + F,) of a logistic regression, by Newton steps; one that turns negative is left out."""
    used = list(range(features.shape[1]))
    while True:
        table = np.column_stack([np.ones(len(features)), features[:, used]])
        ridge = _RIDGE * np.diag([0.0, *[1.0] * len(used)]) * shares.sum() / len(shares)
        solution = np.zeros(table.shape[1])
        for _ in range(_NUM_STEPS):
            p = 1 / (1 + np.exp(-np.clip(table @ solution, -50, 50)))
            gradient = table.T @ (shares * (p - is_right)) + ridge @ solution
            curvature = (table * (shares * np.maximum(p * (1 - p), 1e-9))[:, None]).T @ table + ridge
            step = np.linalg.solve(curvature, gradient)
            # Half steps while far away keep separable data from overshooting.
            step *= min(1.0, 2.0 / max(np.abs(step).max(), 1e-12))
            solution -= step
            if np.abs(step).max() < 1e-9:
                break
        negative = [k for k, weight in enumerate(solution[1:]) if weight < 0]
        if not negative:
            break
        del used[min(negative, key=lambda k: solution[1 + k])]
    full = np.zeros(1 + features.shape[1])
    full[[0, *(1 + k for k in used)]] = solution
    return tuple(round(float(weight), 5) for weight in full)


def logistic(features: np.ndarray, weights: tuple[float, ...]) -> np.ndarray:
    """Probabilities (T,) of features (T, F)."""
    return 1 / (1 + np.exp(-np.clip(weights[0] + features @ np.array(weights[1:]), -50, 50)))


def reliability(confidences: np.ndarray, is_right: np.ndarray, *, num_bins: int = 10) -> Reliability:
    """Expected calibration error (Guo et al., ICML 2017): mean gap between confidence and share right, over bins of equal width."""
    bins = np.clip((confidences * num_bins).astype(int), 0, num_bins - 1)
    counts = np.bincount(bins, minlength=num_bins)
    mean_confidence = np.bincount(bins, weights=confidences, minlength=num_bins) / np.maximum(counts, 1)
    share_right = np.bincount(bins, weights=is_right.astype(float), minlength=num_bins) / np.maximum(counts, 1)
    error = float((counts * np.abs(mean_confidence - share_right)).sum() / max(len(confidences), 1))
    edges = tuple(round(edge, 6) for edge in np.linspace(0, 1, num_bins + 1).tolist())
    return Reliability(error, edges, tuple(counts.tolist()), tuple(mean_confidence.tolist()), tuple(share_right.tolist()))


class _Trial(NamedTuple):
    candidates: tuple[Candidate, ...]
    truth: GeoPoint
    is_covered: bool


def _as_trials(asked: list[_Trial], photos: Photos) -> Trials:
    rows = list(_rows(asked, photos))
    first, hidden = (np.array([row[i] for row in rows], float).reshape(-1, len(FEATURES)) for i in (0, 1))
    table = np.array([row[2:7] for row in rows], float).reshape(-1, 5)
    sure = np.array([row[7] for row in rows], float).reshape(-1, len(SURE_FEATURES))
    gaps = np.array([row[8] for row in rows], float)
    return Trials(first, hidden, table[:, 0] > 0, table[:, 1], table[:, 2], table[:, 3], table[:, 4] > 0, sure, gaps)


_Row = tuple[np.ndarray, np.ndarray, bool, float, float, float, bool, np.ndarray, float]


def _rows(asked: list[_Trial], photos: Photos) -> Iterator[_Row]:
    lat, lon = photos.columns["lat"], photos.columns["lon"]
    for trial in asked:
        first = trial.candidates[0] if trial.candidates else None
        if first is None or first.point is None:
            continue
        has_evidence = bool(num_inliers(trial.candidates)[0])
        if has_evidence:
            hidden = [_without_point(one) for one in trial.candidates]
            features, blind = features_of(trial.candidates), features_of(hidden)
        else:
            features = blind = NOISE_FEATURES
        found = position_of_accepted(trial.candidates, spacing_m=spacing_at(first.point, lat, lon))
        assert found.point is not None, "the first candidate has coordinates"
        gap, error = distance_m(first.point, trial.truth), distance_m(found.point, trial.truth)
        retrieved = min(trial.candidates, key=lambda one: one.retrieved_rank or one.rank)
        sure = sure_features(trial.candidates, retrieved.evidence)
        first_gap = np.inf if retrieved.point is None else distance_m(retrieved.point, trial.truth)
        yield features, blind, has_evidence, gap, error, found.scale_m, trial.is_covered, sure, first_gap


def _without_point(candidate: Candidate) -> Candidate:
    return Candidate(candidate.photo, candidate.rank, candidate.similarity, evidence=candidate.evidence)


def _point(photos: Photos, row: int) -> GeoPoint:
    return GeoPoint(float(photos.columns["lat"][row]), float(photos.columns["lon"][row]))
