"""Verification: from what re-ranking found to a calibrated probability, and whether the first
candidate is accepted.

`whence.localize.calibration_files` finds calibrations; `whence.evaluation.confidence` fits them,
from the features made here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from whence.geo import to_earth_centred
from whence.localize.prepared_photos import PreparedPhotos
from whence.localize.unseen import unseen_rivals
from whence.matching import evidence
from whence.types import Calibration, Candidate, PairEvidence, Verification

FEATURES = ("log_inliers", "coverage", "margin", "match_margin")
"""Evidence for one candidate: log of one plus its inliers; the share of the image they cover; how
far that log stands above that of the best rival; and how far the log of its matches does, most of
which no geometry has chosen: where buildings repeat, the true one still shares more. Candidates
without coordinates are held against the middle rival instead of the best."""
ELSEWHERE_M = 60.0
"""Candidates farther apart than this show different places, unless they match one another."""
NOISE_INLIERS = evidence.NOISE_INLIERS
USUAL_OTHERS = 19
"""Candidates beside the one in question, as calibrations were fitted."""
SAME_SCENE_INLIERS = 12
"""Inliers between two database photos from which they show one scene: they are no rivals then,
whatever else is known of them."""
SAME_FROM_AFAR_SHARE = 0.3
"""Share of the keypoints that agree from which two photos said to be taken more than `ELSEWHERE_M`
apart show one scene all the same: fixes of a phone stray as far, and repeated facades agree
less."""


class Agreements(NamedTuple):
    """How far the photos of candidates agree with that of the first one; infinitely for itself."""

    num_inliers: np.ndarray
    """(K,) 0 where it was not looked at."""
    shares: np.ndarray
    """(K,) inliers over the keypoints of the photo that has fewer."""

    def are_one_scene(self, which: int, *, from_afar: bool) -> np.ndarray:
        """(K,) bool: which candidates show one scene with this one; what agrees with the first is
        taken to agree among itself."""
        values, least = (
            (self.shares, SAME_FROM_AFAR_SHARE)
            if from_afar
            else (self.num_inliers, SAME_SCENE_INLIERS)
        )
        return np.minimum(values, values[which]) >= least


def features_of(
    candidates: Sequence[Candidate], which: int = 0, agreements: Agreements | None = None
) -> np.ndarray:
    """The evidence features (4,) float64 of one of the compared candidates, as if those that were
    not compared showed nothing.

    `agreements` as `agreements_of` gives them.
    """
    features: np.ndarray = _features(candidates, which, agreements, counts_unseen=False)[0]
    return features


def _features(
    candidates: Sequence[Candidate],
    which: int,
    agreements: Agreements | None,
    *,
    counts_unseen: bool,
) -> np.ndarray:
    """The evidence features (S, 4) of a compared candidate, in each of the cases of what those not
    compared may show."""
    inliers, one = num_inliers(candidates), candidates[which]
    matches = np.array(
        [0 if other.evidence is None else other.evidence.num_matches for other in candidates], float
    )
    found = one.evidence or PairEvidence(0.0)
    is_rival, is_unseen = (
        rivals_of(candidates, which, agreements),
        np.array([_is_unseen(other) for other in candidates]),
    )
    unseen = unseen_rivals(
        int((is_rival & is_unseen).sum()) if counts_unseen else 0, found.num_keypoints
    )
    is_compared = np.array([other.evidence is not None for other in candidates])
    margins = []
    for counts, may_show in zip((inliers, matches), unseen.T, strict=True):
        rivals = counts[is_rival & is_compared] if counts_unseen else counts[is_rival]
        if one.point is not None:
            floor = np.maximum(rivals.max(initial=0), may_show)
        elif len(rivals):
            floor = np.full(len(unseen), _middle(rivals, num_others=len(candidates) - 1))
        else:
            floor = may_show
        margins.append(np.log1p(counts[which]) - np.log1p(np.maximum(floor, NOISE_INLIERS - 1)))
    alike = np.broadcast_to([np.log1p(inliers[which]), found.coverage], (len(unseen), 2))
    return np.column_stack([alike, *margins])


def _is_unseen(candidate: Candidate) -> bool:
    """Whether it was not compared although it is among the first, as many as calibrations are
    fitted on."""
    return (
        candidate.evidence is None
        and (candidate.retrieved_rank or candidate.rank) <= USUAL_OTHERS + 1
    )


def _middle(counts: np.ndarray, *, num_others: int) -> float:
    """The middle one of the rivals' counts. Where a small database has fewer others than usual,
    those it lacks share nothing."""
    padded = np.concatenate([counts, np.zeros(max(USUAL_OTHERS - num_others, 0))])
    return float(np.median(padded)) if len(padded) else 0.0


def num_inliers(candidates: Sequence[Candidate]) -> np.ndarray:
    """(K,) inliers of candidates, 0 where there are so few, or so few among so many matches, that
    they say nothing."""
    return np.array(
        [0.0 if one.evidence is None else _num_telling(one.evidence) for one in candidates]
    )


def _num_telling(pair: PairEvidence) -> float:
    is_chance = pair.surprise is not None and pair.surprise < evidence.LEAST_SURPRISE
    return (
        0.0
        if is_chance or (pair.num_inliers or 0) < NOISE_INLIERS
        else float(pair.num_inliers or 0)
    )


def rivals_of(
    candidates: Sequence[Candidate], which: int, agreements: Agreements | None = None
) -> np.ndarray:
    """(K,) bool: which candidates speak against this one because they show another place.

    Beside a candidate with coordinates those elsewhere, while those without do not count; beside
    one without all others. Photos of one scene, which match one another, are no rivals.
    """
    is_placed = candidates[which].point is not None
    is_rival = is_elsewhere(candidates, which) if is_placed else np.arange(len(candidates)) != which
    return (
        is_rival
        if agreements is None
        else is_rival & ~agreements.are_one_scene(which, from_afar=is_placed)
    )


def agreements_of(candidates: Sequence[Candidate], material: PreparedPhotos | None) -> Agreements:
    """How far the candidates' photos agree with the first one's, looked for only where it matters:
    both have evidence."""
    counts, shares = np.zeros(len(candidates)), np.zeros(len(candidates))
    telling = num_inliers(candidates)
    if material is not None and len(candidates) and telling[0]:
        rows = np.flatnonzero(telling)[1:]
        for i, found in zip(
            rows,
            material.agreements(candidates[0].row, [candidates[i].row for i in rows]),
            strict=True,
        ):
            counts[i] = found.num_inliers or 0
            shares[i] = counts[i] / max(found.num_keypoints, 1)
    counts[:1] = shares[:1] = np.inf
    return Agreements(counts, shares)


def is_elsewhere(candidates: Sequence[Candidate], which: int) -> np.ndarray:
    """(K,) bool: which candidates lie elsewhere than this one, which has coordinates; those without
    do not count."""
    points = [one.point for one in candidates]
    lat = np.array([np.nan if point is None else point.lat for point in points])
    lon = np.array([np.nan if point is None else point.lon for point in points])
    ground = to_earth_centred(lat, lon)
    return np.linalg.norm(ground - ground[which], axis=1) > ELSEWHERE_M


def confidence_of(
    candidates: Sequence[Candidate],
    which: int,
    calibration: Calibration,
    agreements: Agreements | None = None,
) -> float:
    """Probability that one of the compared candidates shows the query's place; 0 where it has no
    evidence at all.

    What candidates that were not compared may show (`whence.localize.unseen`) is counted in: the
    mean over its cases.
    """
    if num_inliers(candidates)[which] == 0:
        return 0.0
    weights = (
        calibration.without_points if candidates[which].point is None else calibration.with_points
    )
    logits = weights[0] + _features(candidates, which, agreements, counts_unseen=True) @ np.array(
        weights[1:]
    )
    return float((1 / (1 + np.exp(-np.clip(logits, -50, 50)))).mean())


def confidence_so_far(candidates: Sequence[Candidate], calibration: Calibration) -> float:
    """Probability that the best of the compared candidates shows the query's place, while others
    are not compared yet."""
    compared = [which for which, one in enumerate(candidates) if one.evidence is not None]
    if not compared:
        return 0.0
    return confidence_of(
        candidates, max(compared, key=lambda which: _similarity(candidates[which])), calibration
    )


def _similarity(candidate: Candidate) -> float:
    return -np.inf if candidate.evidence is None else candidate.evidence.similarity


def verify(
    candidates: Sequence[Candidate],
    calibration: Calibration,
    *,
    agreements: Agreements | None = None,
    is_same_file: bool = False,
) -> tuple[tuple[Candidate, ...], Verification]:
    """The candidates with the first one's confidence, and whether it is accepted as the place.

    Other candidates carry the confidence they would have if the place were theirs; one that was
    passed over has none. `agreements` says which photos show one scene (`agreements_of`).
    `is_same_file`: the first one is the query itself, so nothing can be surer.
    """
    if not candidates:
        return (), Verification(0.0, False, "no photo of the database may be searched")
    judged = tuple(
        one
        if one.evidence is None or one.is_passed_over
        else replace(one, confidence=confidence_of(candidates, which, calibration, agreements))
        for which, one in enumerate(candidates)
    )
    if is_same_file:
        return (replace(judged[0], confidence=1.0), *judged[1:]), Verification(1.0, True)
    confidence, needed = judged[0].confidence or 0.0, least_confidence(judged[0], calibration)
    if confidence >= needed:
        return judged, Verification(confidence, True)
    if judged[0].evidence is None:
        return judged, Verification(
            confidence, False, "no candidate's photo could be compared with it"
        )
    if not num_inliers(candidates)[0]:
        return judged, Verification(confidence, False, "no candidate shows the same thing")
    reason = (
        f"the best candidate is right with a probability of {confidence:.2f} only; {needed:.2g} "
        "is asked for"
    )
    return judged, Verification(confidence, False, reason)


def least_confidence(candidate: Candidate, calibration: Calibration) -> float:
    """The probability from which a candidate is accepted."""
    return (
        calibration.min_confidence
        if candidate.point is not None
        else calibration.min_confidence_without_points
    )
