"""The options of a question as people state them, on the command line and to the service: texts and numbers, checked."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from whence.errors import BadOption
from whence.localize.localizer import RETRIEVE_ONLY, LocateOptions
from whence.localize.rerank_options import rerank_options
from whence.localize.retrieve import Around
from whence.settings import NO_OPTIONS, OTHERWISE
from whence.types import GeoPoint


def locate_options(
    rerank: str | None,
    *,
    matcher: str | None = None,
    scorer_options: Mapping[str, Any] = NO_OPTIONS,
    num_candidates: int = 20,
    max_seconds: float | None = None,
    when_unsure: float | None = None,
    otherwise: str = OTHERWISE,
    is_verified: bool = True,
    min_confidence: float | None = None,
    calibration: str | None = None,
) -> LocateOptions:
    """The options of the flags: by default re-rank and verify; without verification re-rank only where a scorer is named."""
    if not is_verified and (min_confidence is not None or (calibration is not None and when_unsure is None)):
        raise BadOption("--min-confidence and --calibration are for verification, which --no-verify leaves out")
    if not is_verified and rerank is None and when_unsure is None and matcher is None:
        return RETRIEVE_ONLY
    return LocateOptions(
        rerank=rerank_options(
            rerank or "inliers",
            matcher=matcher,
            num_candidates=num_candidates,
            max_seconds=max_seconds,
            scorer_options=scorer_options,
            when_unsure=when_unsure,
            otherwise=otherwise,
        ),
        is_verified=is_verified,
        calibration=None if calibration is None else Path(calibration),
        min_confidence=min_confidence,
    )


def parse_around(near: str | None, within: float | None) -> Around | None:
    """The geographic filter of `--near LAT,LON --within M`. Raises `BadOption`."""
    if near is None and within is None:
        return None
    if near is None or within is None:
        raise BadOption("--near LAT,LON and --within METRES go together")
    try:
        lat, lon = (float(part) for part in near.split(","))
    except ValueError:
        raise BadOption(f"--near takes LAT,LON in degrees, for example 55.705,13.188; not {near!r}") from None
    return Around(GeoPoint(lat, lon), within)
