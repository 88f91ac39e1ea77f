"""Calibrations: where they are found, kept and written.

A calibration belongs to one descriptor, scorer, image size and geometry; with any other it is
refused. The database's own comes first, then the packaged ones.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, replace
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from whence.errors import BadOption, CalibrationMismatch, UnknownName, UnreadableTable
from whence.index.store import Store
from whence.localize.prepared_photos import PreparedPhotos
from whence.localize.verify import FEATURES
from whence.records import fill
from whence.runtime import atomic_write
from whence.types import Calibration, CalibrationKey

BLOB = "calibration"
ANY_DESCRIPTOR = "*"
"""In the key of a calibration: it serves whatever descriptor found the candidates. Such a one was
fitted on what a second look sees: queries that the first evidence left unknown, and a shortlist of
their candidates."""
_USUAL_SCORER = "inliers.v1"
_FORMAT = 2


def key_of(descriptor: str, material: PreparedPhotos) -> CalibrationKey:
    """The key of the settings in use; `descriptor` is the card of the model.

    Raises `CalibrationMismatch` for a scorer that counts no inliers: confidence is learned from
    them.
    """
    if not material.card.counts_inliers:
        raise CalibrationMismatch(
            f"the scorer {material.card.name} counts no inliers, so nothing it orders can be "
            "verified: use --no-verify"
        )
    side = material.card.preprocessing.long_side_px or 0
    return CalibrationKey(descriptor, material.card.card_id, side, material.scorer.key)


def find_calibration(
    key: CalibrationKey, *, store: Store | None = None, file: str | Path | None = None
) -> Calibration:
    """The calibration for these settings: from `file` where one is named, else the database's own,
    else a packaged one.

    Raises `CalibrationMismatch` where the one named was fitted with other settings, or there is
    none.
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
        f"there is no calibration for {key.descriptor} with {key.scorer} ({key.settings});  "
        "whence calibrate  fits one, --no-verify gives answers without confidence"
    )


def serves(calibration: Calibration, key: CalibrationKey) -> bool:
    """Whether a calibration was fitted with these settings: the same key, or `ANY_DESCRIPTOR` in
    place of the descriptor's card."""
    own = calibration.key
    return own == key or (
        own.descriptor == ANY_DESCRIPTOR and replace(own, descriptor=key.descriptor) == key
    )


def checked(calibration: Calibration, key: CalibrationKey, where: str) -> Calibration:
    """The calibration, if it was fitted with these settings; raises `CalibrationMismatch`."""
    if serves(calibration, key):
        return calibration
    had, want = asdict(calibration.key), asdict(key)
    gaps = ", ".join(
        f"{name} {had[name]!r} instead of {want[name]!r}" for name in had if had[name] != want[name]
    )
    raise CalibrationMismatch(
        f"the calibration of {where} was fitted with {gaps};  whence calibrate  fits another, "
        "--no-verify gives answers without one"
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
    """Keep a calibration in a database that is open for writing: one for inliers, and one beside it
    for each other scorer."""
    store.write_blob(
        _blob_of(calibration.key.scorer),
        {"json": np.frombuffer(to_json(calibration).encode(), np.uint8)},
    )


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
            raise UnreadableTable(
                where,
                "a calibration of another version of Whence; fit it again with  whence calibrate",
            )
        # Of earlier versions, where ending early had a fit of its own.
        values.pop("first_stage", None)
        calibration = fill(Calibration, values, what="field of a calibration")
        for weights in (calibration.with_points, calibration.without_points):
            if len(weights) != 1 + len(FEATURES) or not np.isfinite(weights).all():
                raise ValueError(f"a bias and {len(FEATURES)} weights are needed")
        return calibration
    except (
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        RecursionError,
        BadOption,
        UnknownName,
    ) as error:
        raise UnreadableTable(where, f"not a calibration ({error})") from None


@lru_cache(maxsize=1)
def packaged_calibrations() -> tuple[Calibration, ...]:
    """The calibrations that come with Whence."""
    folder = resources.files("whence.localize").joinpath("calibrations")
    files = sorted(
        (file for file in folder.iterdir() if file.name.endswith(".json")),
        key=lambda file: file.name,
    )
    return tuple(from_json(file.read_text(encoding="utf-8"), where=file.name) for file in files)


def with_min_confidence(calibration: Calibration, min_confidence: float | None) -> Calibration:
    """The calibration with another probability from which answers are given; raises `BadOption`
    outside (0, 1)."""
    if min_confidence is None:
        return calibration
    if not 0 < min_confidence < 1:
        raise BadOption(f"a confidence lies between 0 and 1, not {min_confidence}")
    return replace(
        calibration, min_confidence=min_confidence, min_confidence_without_points=min_confidence
    )
