"""The arms of the study of tokens: what each trains, and on what."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class ForecastArm(NamedTuple):
    """How one arm forecasts."""

    tokens: str
    """The arm of tokens below it; empty for all patches."""
    changes: tuple[str, ...]


COPY, PRESENT = "copy last", "present"
"""The lower bound, and the upper one: true features of the frame itself."""
TOKENS: Mapping[str, tuple[str, ...]] = {
    "frame token": ("is_delta=false",),
    "delta token": (),
    "delta token, squared error": ("loss.name=squared",),
    "delta token, release's blocks": ("is_release=true",),
}
"""Arms of tokens, and what they change of the recipe."""
FORECASTS: Mapping[str, ForecastArm] = {
    "patches, one": ForecastArm("", ("is_learned=true",)),
    "patches, best of 8": ForecastArm("", ("loss.num_many=8",)),
    "frame, best of 32": ForecastArm("frame token", ()),
    "delta, one": ForecastArm("delta token", ("is_learned=true",)),
    "DeltaWorld": ForecastArm("delta token", ()),
}
STEPS = (1, 3)
CONTEXT = 4
"""Frames that a forecast follows."""
FETCHING = (COPY, "delta, one", "DeltaWorld")
"""Arms whose forecasts say which candidates to fetch; the lower bound fetches those of the last
frame."""
NUM_ASKED, NUM_FETCHED = 10, 50
"""Candidates of a frame, and how many are fetched before it comes."""
