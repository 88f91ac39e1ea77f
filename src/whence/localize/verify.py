"""Verification: from what re-ranking found to a calibrated probability, and whether the first candidate is accepted.

A calibration belongs to one descriptor, scorer, image size and geometry; with any other it is refused. The
database's own comes first, then the packaged ones. They are fitted in `whence.evaluation.confidence`, from the features made here.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from whence.errors import BadOption, CalibrationMismatch, UnknownName, UnreadableTable
from whence.geo import to_earth_centred
from whence.index.store import Store
from whence.localize.prepared_photos import PreparedPhotos
from whence.localize.unsure import SURE_FEATURES
from whence.matching import evidence
from whence.records import fill
from whence.runtime import atomic_write
from whence.types import Calibration, CalibrationKey, Candidate, PairEvidence, Verification

FEATURES = ("log_inliers", "coverage", "margin", "match_margin")
"""Evidence for one candidate: log of one plus its inliers; the share of the image they cover; how far that log stands above
that of the best rival; and how far the log of its matches does, most of which no geometry has chosen: where buildings repeat, the
true one still shares more. Candidates without coordinates are held against the middle rival instead of the best."""
ELSEWHERE_M = 60.0
"""Candidates farther apart than this show different places, unless they match one another."""
NOISE_INLIERS = evidence.NOISE_INLIERS
USUAL_OTHERS = 19
"""Candidates beside the one in question, as calibrations were fitted."""
SAME_SCENE_INLIERS = 12
"""Inliers between two database photos from which they show one scene: they are no rivals then, whatever else is known of them."""
SAME_FROM_AFAR_SHARE = 0.3
"""Share of the keypoints that agree from which two photos said to be taken more than `ELSEWHERE_M` apart show one scene all the
same: fixes of a phone stray as far, and repeated facades agree less."""
BLOB = "calibration"
ANY_DESCRIPTOR = "*"
"""In the key of a calibration: it serves whatever descriptor found the candidates. Such a one was fitted on what a second look
sees: queries that the first evidence left unknown, and a shortlist of their candidates."""
_USUAL_SCORER = "inliers.v1"
_FORMAT = 2


class Agreements(NamedTuple):
    """How far the photos of candidates agree with that of the first one; infinitely for itself."""

    num_inliers: np.ndarray
    """(K,) 0 where it was not looked at."""
    shares: np.ndarray
    """(K,) inliers over the keypoints of the photo that has fewer."""

    def are_one_scene(self, which: int, *, from_afar: bool) -> np.ndarray:
        """(K,) bool: which candidates show one scene with this one; what agrees with the first is taken to agree among itself."""
        values, least = (self.shares, SAME_FROM_AFAR_SHARE) if from_afar else (self.num_inliers, SAME_SCENE_INLIERS)
        return np.minimum(values, values[which]) >= least


def features_of(candidates: Sequence[Candidate], which: int = 0, agreements: Agreements | None = None) -> np.ndarray:
    """The evidence features (4,) float64 of one of the compared candidates. `agreements` as `agreements_of` gives them."""
    inliers, one = num_inliers(candidates), candidates[which]
    matches = np.array([0 if other.evidence is None else other.evidence.num_matches for other in candidates], float)
    covered = 0.0 if one.evidence is None else one.evidence.coverage
    is_rival = rivals_of(candidates, which, agreements)
    margins = []
    for counts in (inliers, matches):
        rivals = counts[is_rival]
        floor = rivals.max(initial=0) if one.point is not None else _middle(rivals, num_others=len(candidates) - 1)
        margins.append(np.log1p(counts[which]) - np.log1p(max(floor, NOISE_INLIERS - 1)))
    return np.array([np.log1p(inliers[which]), covered, *margins])


def _middle(counts: np.ndarray, *, num_others: int) -> float:
    """The middle one of the rivals' counts. Where a small database has fewer others than usual, those it lacks share nothing."""
    padded = np.concatenate([counts, np.zeros(max(USUAL_OTHERS - num_others, 0))])
    return float(np.median(padded)) if len(padded) else 0.0


def num_inliers(candidates: Sequence[Candidate]) -> np.ndarray:
    """(K,) inliers of candidates, 0 where there are so few, or so few among so many matches, that they say nothing."""
    return np.array([0.0 if one.evidence is None else _num_telling(one.evidence) for one in candidates])


def _num_telling(found: PairEvidence) -> float:
    is_chance = found.surprise is not None and found.surprise < evidence.LEAST_SURPRISE
    return 0.0 if is_chance or (found.num_inliers or 0) < NOISE_INLIERS else float(found.num_inliers or 0)


def rivals_of(candidates: Sequence[Candidate], which: int, agreements: Agreements | None = None) -> np.ndarray:
    """(K,) bool: which candidates speak against this one because they show another place.

    Beside a candidate with coordinates those elsewhere, while those without do not count; beside one without all others. Photos of
    one scene, which match one another, are no rivals.
    """
    is_placed = candidates[which].point is not None
    is_rival = is_elsewhere(candidates, which) if is_placed else np.arange(len(candidates)) != which
    return is_rival if agreements is None else is_rival & ~agreements.are_one_scene(which, from_afar=is_placed)


def agreements_of(candidates: Sequence[Candidate], prepared: PreparedPhotos | None) -> Agreements:
    """How far the candidates' photos agree with the first one's, looked for only where it matters: both have evidence."""
    counts, shares = np.zeros(len(candidates)), np.zeros(len(candidates))
    telling = num_inliers(candidates)
    if prepared is not None and len(candidates) and telling[0]:
        rows = np.flatnonzero(telling)[1:]
        for i, found in zip(rows, prepared.agreements(candidates[0].row, [candidates[i].row for i in rows]), strict=True):
            counts[i] = found.num_inliers or 0
            shares[i] = counts[i] / max(found.num_keypoints, 1)
    counts[:1] = shares[:1] = np.inf
    return Agreements(counts, shares)


def is_elsewhere(candidates: Sequence[Candidate], which: int) -> np.ndarray:
    """(K,) bool: which candidates lie elsewhere than this one, which has coordinates; those without do not count."""
    points = [one.point for one in candidates]
    lat = np.array([np.nan if point is None else point.lat for point in points])
    lon = np.array([np.nan if point is None else point.lon for point in points])
    ground = to_earth_centred(lat, lon)
    return np.linalg.norm(ground - ground[which], axis=1) > ELSEWHERE_M


def confidence_of(
    candidates: Sequence[Candidate], which: int, calibration: Calibration, agreements: Agreements | None = None
) -> float:
    """Probability that one of the compared candidates shows the query's place; 0 where it has no evidence at all."""
    if num_inliers(candidates)[which] == 0:
        return 0.0
    weights = calibration.without_points if candidates[which].point is None else calibration.with_points
    logit = weights[0] + float(np.dot(weights[1:], features_of(candidates, which, agreements)))
    return float(1 / (1 + np.exp(-np.clip(logit, -50, 50))))


def verify(
    candidates: Sequence[Candidate],
    calibration: Calibration,
    *,
    at_most: float | None = None,
    agreements: Agreements | None = None,
    is_same_file: bool = False,
) -> tuple[tuple[Candidate, ...], Verification]:
    """The candidates with the first one's confidence, and whether it is accepted as the place.

    Other candidates carry the confidence they would have if the place were theirs; one that was passed over has none. `at_most`
    bounds all of them. `agreements` says which photos show one scene (`agreements_of`). `is_same_file`: the first one is the query
    itself, so nothing can be surer.
    """
    if not candidates:
        return (), Verification(0.0, False, "no photo of the database may be searched")
    bound = 1.0 if at_most is None else at_most
    judged = tuple(
        one
        if one.evidence is None or one.is_passed_over
        else replace(one, confidence=min(confidence_of(candidates, which, calibration, agreements), bound))
        for which, one in enumerate(candidates)
    )
    if is_same_file:
        return (replace(judged[0], confidence=1.0), *judged[1:]), Verification(1.0, True)
    confidence, needed = judged[0].confidence or 0.0, least_confidence(judged[0], calibration)
    if confidence >= needed:
        return judged, Verification(confidence, True)
    if judged[0].evidence is None:
        return judged, Verification(confidence, False, "no candidate's photo could be compared with it")
    if not num_inliers(candidates)[0]:
        return judged, Verification(confidence, False, "no candidate shows the same thing")
    reason = f"the best candidate is right with a probability of {confidence:.2f} only; {needed:.2g} is asked for"
    return judged, Verification(confidence, False, reason)


def least_confidence(candidate: Candidate, calibration: Calibration) -> float:
    """The probability from which a candidate is accepted."""
    return calibration.min_confidence if candidate.point is not None else calibration.min_confidence_without_points


def key_of(descriptor: str, prepared: PreparedPhotos) -> CalibrationKey:
    """The key of the settings in use; `descriptor` is the card of the model.

    Raises `CalibrationMismatch` for a scorer that counts no inliers: confidence is learned from them.
    """
    if not prepared.card.counts_inliers:
        raise CalibrationMismatch(
            f"the scorer {prepared.card.name} counts no inliers, so nothing it orders can be verified: use --no-verify"
        )
    side = prepared.card.preprocessing.long_side_px or 0
    return CalibrationKey(descriptor, prepared.card.card_id, side, prepared.scorer.key)


def find_calibration(key: CalibrationKey, *, store: Store | None = None, file: str | Path | None = None) -> Calibration:
    """The calibration for these settings: from `file` where one is named, else the database's own, else a packaged one.

    Raises `CalibrationMismatch` where the one named was fitted with other settings, or there is none.
    """
    if file is not None:
        return checked(read_calibration(file), key, str(file))
    own = None if store is None else stored_calibration(store, scorer=key.scorer)
    if own is not None and serves(own, key):
        return own
    for calibration in packaged_calibrations():
        if serves(calibration, key):
            return calibration
    if own is not None and store is not None:
        return checked(own, key, f"the database {str(store.path)!r}")
    raise CalibrationMismatch(
        f"there is no calibration for {key.descriptor} with {key.scorer} ({key.settings});  whence calibrate  fits one, "
        "--no-verify gives answers without confidence"
    )


def serves(calibration: Calibration, key: CalibrationKey) -> bool:
    """Whether a calibration was fitted with these settings: the same key, or `ANY_DESCRIPTOR` in place of the descriptor's card."""
    own = calibration.key
    return own == key or (own.descriptor == ANY_DESCRIPTOR and replace(own, descriptor=key.descriptor) == key)


def checked(calibration: Calibration, key: CalibrationKey, where: str) -> Calibration:
    """The calibration, if it was fitted with these settings; raises `CalibrationMismatch`."""
    if serves(calibration, key):
        return calibration
    had, want = asdict(calibration.key), asdict(key)
    gaps = ", ".join(f"{name} {had[name]!r} instead of {want[name]!r}" for name in had if had[name] != want[name])
    raise CalibrationMismatch(
        f"the calibration of {where} was fitted with {gaps};  whence calibrate  fits another, --no-verify gives answers without one"
    )


def stored_calibration(store: Store, *, scorer: str = _USUAL_SCORER) -> Calibration | None:
    """The database's own calibration of a scorer's card, else its usual one.

    None where it has none, or one of an earlier version, whose numbers mean something else.
    """
    arrays = store.read_blob(_blob_of(scorer)) or store.read_blob(BLOB)
    if arrays is None:
        return None
    text = arrays["json"].tobytes().decode()
    return None if is_outdated(text) else from_json(text, where=str(store.path))


def is_outdated(text: str) -> bool:
    """Whether text holds a calibration of an earlier format."""
    try:
        found = json.loads(text)["format"]
    except (ValueError, KeyError, TypeError):
        return False
    return isinstance(found, int) and found < _FORMAT


def store_calibration(store: Store, calibration: Calibration) -> None:
    """Keep a calibration in a database that is open for writing: one for inliers, and one beside it for each other scorer."""
    store.write_blob(_blob_of(calibration.key.scorer), {"json": np.frombuffer(to_json(calibration).encode(), np.uint8)})


def _blob_of(scorer: str) -> str:
    if scorer == _USUAL_SCORER:
        return BLOB
    return f"{BLOB}-{hashlib.blake2b(scorer.encode(), digest_size=6).hexdigest()}"


def read_calibration(path: str | Path) -> Calibration:
    """The calibration of a JSON file. Raises `UnreadableTable`."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UnreadableTable(path, str(error)) from None
    return from_json(text, where=str(path))


def write_calibration(path: str | Path, calibration: Calibration) -> None:
    """Write a calibration as a JSON file, whole or not at all. Raises `UnwritableFile`."""
    with atomic_write(path, "w") as file:
        file.write(to_json(calibration) + "\n")


def to_json(calibration: Calibration) -> str:
    """A calibration as text."""
    return json.dumps({"format": _FORMAT, "features": FEATURES, **asdict(calibration)}, indent=1)


def from_json(text: str, *, where: str) -> Calibration:
    """The calibration that `to_json` wrote. Raises `UnreadableTable`."""
    try:
        values: dict[str, Any] = json.loads(text)
        if values.pop("format") != _FORMAT or tuple(values.pop("features")) != FEATURES:
            raise UnreadableTable(where, "a calibration of another version of Whence; fit it again with  whence calibrate")
        calibration = fill(Calibration, values, what="field of a calibration")
        for weights in (calibration.with_points, calibration.without_points):
            if len(weights) != 1 + len(FEATURES) or not np.isfinite(weights).all():
                raise ValueError(f"a bias and {len(FEATURES)} weights are needed")
        first_stage = calibration.first_stage
        if len(first_stage) not in (0, 1 + len(SURE_FEATURES)) or not np.isfinite(first_stage).all():
            raise ValueError(f"first_stage holds a bias and {len(SURE_FEATURES)} weights, or nothing")
        return calibration
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, BadOption, UnknownName) as error:
        raise UnreadableTable(where, f"not a calibration ({error})") from None


@lru_cache(maxsize=1)
def packaged_calibrations() -> tuple[Calibration, ...]:
    """The calibrations that come with Whence."""
    folder = resources.files("whence.localize").joinpath("calibrations")
    files = sorted((file for file in folder.iterdir() if file.name.endswith(".json")), key=lambda file: file.name)
    return tuple(from_json(file.read_text(encoding="utf-8"), where=file.name) for file in files)


def with_min_confidence(calibration: Calibration, min_confidence: float | None) -> Calibration:
    """The calibration with another probability from which answers are given; raises `BadOption` outside (0, 1)."""
    if min_confidence is None:
        return calibration
    if not 0 < min_confidence < 1:
        raise BadOption(f"a confidence lies between 0 and 1, not {min_confidence}")
    return replace(calibration, min_confidence=min_confidence, min_confidence_without_points=min_confidence)
