"""Verification: from what re-ranking found to a calibrated probability, and whether the first candidate is accepted.

A calibration belongs to one descriptor, scorer, image size and geometry; with any other it is refused. The
database's own comes first, then the packaged ones. They are fitted in `whence.evaluation.confidence`, from the features made here.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from whence.errors import BadOption, CalibrationMismatch, UnreadableTable
from whence.geo import to_earth_centred
from whence.index.store import Store
from whence.localize.rerank import PreparedPhotos
from whence.localize.unsure import SURE_FEATURES
from whence.runtime import atomic_write
from whence.types import Calibration, CalibrationKey, Candidate, Verification

FEATURES = ("log_inliers", "coverage", "margin", "match_margin")
"""Evidence for one candidate: log of one plus its inliers; the share of the image they cover; how far the log stands above that of
the best candidate elsewhere, or, where candidates have no coordinates, above that of the middle candidate; and the same of its
matches, most of which no geometry has chosen: where buildings repeat, the true one still shares more."""
ELSEWHERE_M = 60.0
"""Candidates farther apart than this show different places."""
NOISE_INLIERS = 8
"""Inliers that any two photos may share."""
BLOB = "calibration"
_FORMAT = 1


def features_of(candidates: Sequence[Candidate], which: int = 0) -> np.ndarray:
    """The evidence features (4,) float64 of one of the compared candidates."""
    inliers, one = num_inliers(candidates), candidates[which]
    matches = np.array([0 if other.evidence is None else other.evidence.num_matches for other in candidates], float)
    elsewhere = None if one.point is None else is_elsewhere(candidates, which)
    covered = 0.0 if one.evidence is None else one.evidence.coverage
    margins = [_log_above(counts, which, elsewhere) for counts in (inliers, matches)]
    return np.array([np.log1p(inliers[which]), covered, *margins])


def _log_above(counts: np.ndarray, which: int, elsewhere: np.ndarray | None) -> float:
    """How far the log of one count (K,) stands above that of the largest elsewhere, or above the middle one of the others."""
    if elsewhere is not None:
        floor = float(counts[elsewhere].max(initial=0))
    else:
        floor = float(np.median(np.delete(counts, which))) if len(counts) > 1 else 0.0
    return float(np.log1p(counts[which]) - np.log1p(max(floor, NOISE_INLIERS - 1)))


def num_inliers(candidates: Sequence[Candidate]) -> np.ndarray:
    """(K,) inliers of candidates, 0 where there are so few that they say nothing, or none were counted."""
    counts = np.array([0 if one.evidence is None else one.evidence.num_inliers or 0 for one in candidates], float)
    return np.where(counts >= NOISE_INLIERS, counts, 0.0)


def is_elsewhere(candidates: Sequence[Candidate], which: int) -> np.ndarray:
    """(K,) bool: which candidates show another place than this one, which has coordinates; those without do not count."""
    points = [one.point for one in candidates]
    lat = np.array([np.nan if point is None else point.lat for point in points])
    lon = np.array([np.nan if point is None else point.lon for point in points])
    ground = to_earth_centred(lat, lon)
    return np.linalg.norm(ground - ground[which], axis=1) > ELSEWHERE_M


def confidence_of(candidates: Sequence[Candidate], which: int, calibration: Calibration) -> float:
    """Probability that one of the compared candidates shows the query's place; 0 where it has no evidence at all."""
    if num_inliers(candidates)[which] == 0:
        return 0.0
    weights = calibration.without_points if candidates[which].point is None else calibration.with_points
    logit = weights[0] + float(np.dot(weights[1:], features_of(candidates, which)))
    return float(1 / (1 + np.exp(-np.clip(logit, -50, 50))))


def verify(
    candidates: Sequence[Candidate], calibration: Calibration, *, at_most: float | None = None
) -> tuple[tuple[Candidate, ...], Verification]:
    """The candidates with the first one's confidence, and whether it is accepted as the place.

    Other candidates carry the confidence they would have if the place were theirs. `at_most` bounds all of them.
    """
    if not candidates:
        return (), Verification(0.0, False, "no photo of the database may be searched")
    judged = tuple(
        one
        if one.evidence is None
        else replace(one, confidence=min(confidence_of(candidates, which, calibration), 1.0 if at_most is None else at_most))
        for which, one in enumerate(candidates)
    )
    confidence = judged[0].confidence or 0.0
    needed = calibration.min_confidence if judged[0].point is not None else calibration.min_confidence_without_points
    if confidence >= needed:
        return judged, Verification(confidence, True)
    if judged[0].evidence is None:
        return judged, Verification(confidence, False, "no candidate's photo could be compared with it")
    if not num_inliers(candidates)[0]:
        return judged, Verification(confidence, False, "no candidate shows the same thing")
    reason = f"the best candidate is right with a probability of {confidence:.2f} only; {needed:.2g} is asked for"
    return judged, Verification(confidence, False, reason)


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

    Raises `CalibrationMismatch` where the one named, or the database's own, was fitted with other settings, or there is none.
    """
    if file is not None:
        return checked(read_calibration(file), key, str(file))
    own = None if store is None else stored_calibration(store)
    if own is not None and store is not None:
        return checked(own, key, f"the database {str(store.path)!r}")
    for calibration in packaged_calibrations():
        if calibration.key == key:
            return calibration
    raise CalibrationMismatch(
        f"there is no calibration for {key.descriptor} with {key.scorer} ({key.settings}), so nothing can be "
        "verified: fit one with  whence calibrate , or use --no-verify for answers without confidence"
    )


def checked(calibration: Calibration, key: CalibrationKey, where: str) -> Calibration:
    """The calibration, if it was fitted with these settings; raises `CalibrationMismatch`."""
    if calibration.key == key:
        return calibration
    had, want = asdict(calibration.key), asdict(key)
    gaps = ", ".join(f"{name} {had[name]!r} instead of {want[name]!r}" for name in had if had[name] != want[name])
    raise CalibrationMismatch(
        f"the calibration of {where} was fitted with {gaps}: run  whence calibrate  again, or use --no-verify"
    )


def stored_calibration(store: Store) -> Calibration | None:
    """The database's own calibration; None where it has none."""
    arrays = store.read_blob(BLOB)
    return None if arrays is None else from_json(arrays["json"].tobytes().decode(), where=str(store.path))


def store_calibration(store: Store, calibration: Calibration) -> None:
    """Keep a calibration in a database that is open for writing."""
    store.write_blob(BLOB, {"json": np.frombuffer(to_json(calibration).encode(), np.uint8)})


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
        values["key"] = CalibrationKey(**values["key"])
        calibration = Calibration(**values)
        weights = [tuple(float(w) for w in values[name]) for name in ("with_points", "without_points")]
        if any(len(row) != 1 + len(FEATURES) or not np.isfinite(row).all() for row in weights):
            raise ValueError(f"a bias and {len(FEATURES)} weights are needed")
        first_stage = tuple(float(w) for w in calibration.first_stage)
        if len(first_stage) not in (0, 1 + len(SURE_FEATURES)) or not np.isfinite(first_stage).all():
            raise ValueError(f"first_stage holds a bias and {len(SURE_FEATURES)} weights, or nothing")
        return replace(calibration, with_points=weights[0], without_points=weights[1], first_stage=first_stage)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
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
