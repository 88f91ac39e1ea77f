"""Trials: what asking a database about photos whose places are known shows, from which a
calibration is fitted.

Pairs come from the database itself: each photo asks the others. Photos taken nearby are genuine; to
see impostors, everything within `FAR_M` is left out, so that the best of what remains is wrong. The
queries of a test never take part. Where photos with known places are at hand beside the database,
they may ask too. What is fitted on trials is `whence.evaluation.confidence`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from whence.data.photos import Photos
from whence.errors import NoPhotos, UnreadableImage
from whence.geo import distance_m, neighbors_within, to_earth_centred
from whence.localize.localizer import Localizer, LocateOptions
from whence.localize.position import position_of_accepted, spacing_at
from whence.localize.rerank import describe_for_rerank, rerank
from whence.localize.rerank_options import RerankOptions
from whence.localize.retrieve import candidate_of
from whence.localize.unknown import NONE, shortlist
from whence.localize.verify import (
    FEATURES,
    NOISE_INLIERS,
    Agreements,
    agreements_of,
    features_of,
    num_inliers,
)
from whence.runtime import progress
from whence.types import Candidate, GeoPoint

GENUINE_M = 25.0
"""A candidate within this distance shows the query's place."""
FAR_M = 100.0
"""A candidate beyond this distance shows another."""
NOISE_FEATURES = np.array([np.log1p(NOISE_INLIERS - 1), *[0.0] * (len(FEATURES) - 1)])
"""Features of the most that chance gives."""


class Trials(NamedTuple):
    """What asking showed, one row per question; T trials."""

    with_points: np.ndarray
    """(T, F) features of the best candidate, as where candidates have coordinates."""
    without_points: np.ndarray
    """(T, F) the same questions with the coordinates hidden."""
    has_evidence: np.ndarray
    """(T,) bool: whether the best candidate has any; without, its features are those of the most
    that chance gives."""
    gaps_m: np.ndarray
    """(T,) distance from the query to the best candidate."""
    errors_m: np.ndarray
    """(T,) distance from the query to the estimated position."""
    scales_m: np.ndarray
    """(T,) the estimate's own scale."""
    is_covered: np.ndarray
    """(T,) bool: whether the photos asked show the query's place at all."""

    @classmethod
    def joined(cls, parts: Sequence[Trials]) -> Trials:
        """Several as one."""
        return cls(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))

    def select(self, mask: np.ndarray) -> Trials:
        """Those in the mask (T,) bool."""
        return Trials(*(column[mask] for column in self))

    def confidences(self, weights: tuple[float, ...], *, has_points: bool = True) -> np.ndarray:
        """(T,) probabilities, 0 without evidence."""
        return np.where(
            self.has_evidence,
            logistic(self.with_points if has_points else self.without_points, weights),
            0.0,
        )

    @property
    def counts(self) -> tuple[int, int]:
        """How many have evidence for a photo that shows the place, and how many lie where the
        photos show nothing."""
        return int((self.has_evidence & (self.gaps_m <= GENUINE_M)).sum()), int(
            (~self.is_covered).sum()
        )


def trials_of_database(
    localizer: Localizer,
    *,
    options: RerankOptions | None = None,
    max_photos: int = 300,
    show_progress: bool | None = None,
) -> Trials:
    """Each of up to `max_photos` photos of the database asks twice: for its neighbours, and with
    everything near left out.

    Raises `NoPhotos` where fewer than two photos have coordinates.
    """
    usable = usable_rows(localizer)
    chosen = usable[
        np.linspace(0, len(usable) - 1, min(max_photos, len(usable))).round().astype(int)
    ]
    return _ask_own(
        localizer, chosen, usable, options=options or RerankOptions(), show_progress=show_progress
    )


def trials_of_sample(
    localizer: Localizer,
    *,
    options: RerankOptions | None = None,
    num_photos: int = 40,
    max_seconds: float | None = None,
    show_progress: bool | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Trials:
    """At most `num_photos` photos of the database, each beside a neighbour, ask one another as
    those of `trials_of_database`.

    After `max_seconds` no further photo asks. Raises `NoPhotos` where fewer than two photos have
    coordinates.
    """
    rows = usable_rows(localizer)
    pairs = _neighbor_pairs(localizer, rows)
    picked = np.linspace(0, len(pairs) - 1, min(num_photos // 2, len(pairs))).round().astype(int)
    sample = np.array(list(dict.fromkeys(pairs[picked].ravel().tolist())), np.int64)
    until = None if max_seconds is None else clock() + max_seconds
    return _ask_own(
        localizer,
        sample,
        sample,
        options=options or RerankOptions(),
        show_progress=show_progress,
        until=until,
        clock=clock,
    )


def usable_rows(localizer: Localizer) -> np.ndarray:
    """(N,) rows of the photos that have coordinates and a descriptor. Raises `NoPhotos` for fewer
    than two."""
    usable = np.flatnonzero(localizer.photos.has_point & (localizer.store.descriptor_rows >= 0))
    if len(usable) < 2:
        raise NoPhotos(
            f"{str(localizer.store.path)!r} holds {len(usable)} photos with coordinates; a "
            "calibration needs many"
        )
    return usable


def count_askable(localizer: Localizer, rows: np.ndarray) -> tuple[int, int]:
    """How many photos of the rows (N,) have another one within `GENUINE_M`, and how many have one
    beyond `FAR_M`."""
    ground = _ground(localizer.photos, rows)
    near = neighbors_within(ground, ground, radius_m=GENUINE_M).counts > 1
    # What lies farthest from a photo is among the outermost ones of some direction.
    directions = np.array([step for step in np.ndindex(3, 3, 3) if step != (1, 1, 1)], float) - 1
    outermost = ground[np.unique((ground @ directions.T).argmax(axis=0))]
    far = (np.linalg.norm(ground[:, None] - outermost[None], axis=2) > FAR_M).any(axis=1)
    return int(near.sum()), int(far.sum())


def _ground(photos: Photos, rows: np.ndarray) -> np.ndarray:
    return to_earth_centred(photos.columns["lat"][rows], photos.columns["lon"][rows])


def _neighbor_pairs(localizer: Localizer, rows: np.ndarray) -> np.ndarray:
    """(P, 2) rows of photos and of another photo of other content within `GENUINE_M`, the nearest
    in the table."""
    ground, contents = _ground(localizer.photos, rows), localizer.photos.columns["content"][rows]
    near = neighbors_within(ground, ground, radius_m=GENUINE_M)
    pairs = []
    for i in range(len(rows)):
        others = near.of(i)
        others = others[contents[others] != contents[i]]
        if len(others):
            pairs.append((rows[i], rows[others[np.abs(others - i).argmin()]]))
    return np.array(pairs, np.int64).reshape(-1, 2)


def _ask_own(
    localizer: Localizer,
    photo_rows: np.ndarray,
    among: np.ndarray,
    *,
    options: RerankOptions,
    show_progress: bool | None,
    until: float | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Trials:
    """The chosen rows ask the photos of `among`: for their neighbours, and with everything near
    left out."""
    photos, store = localizer.photos, localizer.store
    ground, contents = _ground(photos, among), photos.columns["content"][among]
    descriptors, rows_of = store.descriptors, store.descriptor_rows
    material = localizer.prepared(options)
    own_trials: list[_Trial] = []
    with progress("comparing photos", total=len(photo_rows), show=show_progress) as advance:
        for row in photo_rows.tolist():
            if until is not None and clock() >= until:
                break
            advance(1)
            local = material.of_row(row)
            if local is None:
                continue
            point = _point(photos, row)
            here = to_earth_centred(np.array(point.lat), np.array(point.lon))
            gaps = np.linalg.norm(ground - here, axis=1)
            similarities = np.asarray(descriptors[rows_of[among]], np.float32) @ np.asarray(
                descriptors[rows_of[row]], np.float32
            )
            for is_covered, allowed in (
                (True, contents != photos.columns["content"][row]),
                (False, gaps > FAR_M),
            ):
                best = np.flatnonzero(allowed)
                best = best[np.argsort(-similarities[best], kind="stable")][
                    : options.num_candidates
                ]
                if is_covered and not (gaps[allowed] <= GENUINE_M).any():
                    continue
                candidates = [
                    candidate_of(
                        photos, int(among[i]), rank=rank, similarity=float(similarities[i])
                    )
                    for rank, i in enumerate(best, start=1)
                ]
                done = rerank(
                    candidates, query=local, material=material, options=options
                ).candidates
                own_trials.append(_Trial(done, point, is_covered, agreements_of(done, material)))
    return _as_trials(own_trials, photos)


def trials_of_queries(
    localizer: Localizer,
    queries: Photos,
    *,
    options: RerankOptions | None = None,
    show_progress: bool | None = None,
) -> Trials:
    """Photos with known places ask the database as they are."""
    options = options or RerankOptions()
    material = localizer.prepared(options)
    asked: list[_Trial] = []
    is_covered = _covered(localizer.photos, queries)
    with progress("comparing photos", total=len(is_covered), show=show_progress) as advance:
        results = describe_for_rerank(
            localizer.model, [queries.file(row) for row in is_covered], material
        )
        for row, result in zip(is_covered, results, strict=True):
            advance(1)
            if isinstance(result, UnreadableImage):
                continue
            candidates = localizer.retriever.retrieve(
                result.descriptor[None], k=options.num_candidates
            )[0]
            done = rerank(
                candidates, query=result.local or {}, material=material, options=options
            ).candidates
            asked.append(
                _Trial(done, _point(queries, row), is_covered[row], agreements_of(done, material))
            )
    return _as_trials(asked, localizer.photos)


def trials_of_unknown(
    localizer: Localizer,
    queries: Photos,
    *,
    options: RerankOptions,
    show_progress: bool | None = None,
) -> Trials:
    """Photos with known places that the usual evidence leaves unknown ask again with a scorer, as a
    second look does.

    What a second look is stands in `whence.localize.unknown`; the others are no trials.
    """
    material, is_covered = localizer.prepared(options), _covered(localizer.photos, queries)
    files = [queries.file(row) for row in is_covered]
    answers = localizer.locate_many(
        files, options=LocateOptions(when_unknown=NONE), show_progress=show_progress
    )
    asked: list[_Trial] = []
    for row, answer in zip(is_covered, answers, strict=True):
        if answer.status == "unknown" and answer.candidates:
            chosen = shortlist(answer.candidates, options.num_candidates)
            done = rerank(
                chosen,
                query=material.of_query(queries.file(row)),
                material=material,
                options=options,
            ).candidates
            asked.append(
                _Trial(done, _point(queries, row), is_covered[row], agreements_of(done, material))
            )
    return _as_trials(asked, localizer.photos)


def _covered(photos: Photos, queries: Photos) -> dict[int, bool]:
    """For each row of the queries that has a place whether a photo of the database was taken
    there."""
    known, here = (
        to_earth_centred(some.columns["lat"][some.has_point], some.columns["lon"][some.has_point])
        for some in (photos, queries)
    )
    counts = neighbors_within(known, here, radius_m=GENUINE_M).counts
    return {
        row: bool(count)
        for row, count in zip(np.flatnonzero(queries.has_point).tolist(), counts, strict=True)
    }


def logistic(features: np.ndarray, weights: tuple[float, ...]) -> np.ndarray:
    """Probabilities (T,) of features (T, F)."""
    return 1 / (1 + np.exp(-np.clip(weights[0] + features @ np.array(weights[1:]), -50, 50)))


class _Trial(NamedTuple):
    candidates: tuple[Candidate, ...]
    truth: GeoPoint
    is_covered: bool
    agreements: Agreements


def _as_trials(trials: list[_Trial], photos: Photos) -> Trials:
    rows = list(_rows(trials, photos))
    first, hidden = (
        np.array([row[i] for row in rows], float).reshape(-1, len(FEATURES)) for i in (0, 1)
    )
    table = np.array([row[2:] for row in rows], float).reshape(-1, 5)
    return Trials(
        first, hidden, table[:, 0] > 0, table[:, 1], table[:, 2], table[:, 3], table[:, 4] > 0
    )


_Row = tuple[np.ndarray, np.ndarray, bool, float, float, float, bool]


def _rows(trials: list[_Trial], photos: Photos) -> Iterator[_Row]:
    lat, lon = photos.columns["lat"], photos.columns["lon"]
    for trial in trials:
        first = trial.candidates[0] if trial.candidates else None
        if first is None or first.point is None:
            continue
        has_evidence = bool(num_inliers(trial.candidates)[0])
        if has_evidence:
            hidden = [_without_point(one) for one in trial.candidates]
            features, blind = (
                features_of(shown, 0, trial.agreements) for shown in (trial.candidates, hidden)
            )
        else:
            features = blind = NOISE_FEATURES
        found = position_of_accepted(trial.candidates, spacing_m=spacing_at(first.point, lat, lon))
        assert found.point is not None, "the first candidate has coordinates"
        gap, error = distance_m(first.point, trial.truth), distance_m(found.point, trial.truth)
        yield features, blind, has_evidence, gap, error, found.scale_m, trial.is_covered


def _without_point(candidate: Candidate) -> Candidate:
    return Candidate(
        candidate.photo, candidate.rank, candidate.similarity, evidence=candidate.evidence
    )


def _point(photos: Photos, row: int) -> GeoPoint:
    return GeoPoint(float(photos.columns["lat"][row]), float(photos.columns["lon"][row]))
