"""A second look: what happens to a photo that the first evidence leaves unknown.

Another scorer, dearer and keener, compares it with a shortlist of the same candidates, and what
that finds is judged by a calibration of its own. `whence.localize.judge` asks; what is known
already is never asked again.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, NamedTuple

from whence.errors import BadOption, CalibrationMismatch, ModelError
from whence.localize.prepared_photos import PreparedPhotos
from whence.localize.rerank_options import RerankOptions, rerank_options
from whence.matching.cards import parts_of_matcher
from whence.models.checkpoints.origins import find_weights
from whence.settings import NONE
from whence.types import Calibration, Candidate

AUTO = "auto"
AUTO_SCORER = "aliked-lightglue"
"""The scorer that is asked again by itself where all it needs is on this machine."""
NUM_AGAIN = 5
"""Candidates of the shortlist, unless said otherwise."""
_PACKAGES = ("torch", "kornia")

State = Literal["ready", "no extra", "no weights"]
"""Whether the scorer that is asked again by itself can be: everything is there, packages are
missing, or only the weights are."""


class Opened(NamedTuple):
    """The scorer with what it needs of the database's photos, and how its evidence is judged."""

    material: PreparedPhotos
    calibration: Calibration


@dataclass(frozen=True)
class SecondLook:
    """The scorer that is asked again, opened when the first photo needs it."""

    options: RerankOptions
    open_prepared: Callable[[RerankOptions], PreparedPhotos]
    find: Callable[[PreparedPhotos], Calibration]

    @cached_property
    def opened(self) -> Opened | str:
        """The scorer and its calibration, or why it cannot be used: nobody asked for it, so nothing
        fails by it."""
        try:
            return self.open()
        except (ModelError, CalibrationMismatch) as error:
            return str(error)

    def open(self) -> Opened:
        """The scorer and its calibration. Raises what making the scorer raises, and
        `CalibrationMismatch`."""
        material = self.open_prepared(self.options)
        return Opened(material, self.find(material))


def second_options(when_unknown: str, first: RerankOptions) -> RerankOptions | None:
    """Options of the second look that `when_unknown` asks for: "auto", "none", or SCORER[:N]; None
    where nothing is asked again.

    By itself nothing is asked again where the first look was bounded in time. Raises `UnknownName`
    for a scorer there is none of, and `BadOption`.
    """
    if when_unknown == NONE:
        return None
    if when_unknown == AUTO:
        is_bounded = any(one.max_seconds is not None for one in (first, *first.stages))
        if is_bounded or first.scorer == AUTO_SCORER or automatic_state() != "ready":
            return None
    name, colon, num = (AUTO_SCORER if when_unknown == AUTO else when_unknown).partition(":")
    if "," in when_unknown:
        return rerank_options(when_unknown)
    if colon and not (num.isascii() and num.isdecimal()):
        raise BadOption(
            f"a second look is auto, none, or SCORER:PHOTOS, for example {AUTO_SCORER}:5; not "
            f"{when_unknown!r}"
        )
    return RerankOptions(name, int(num) if colon else NUM_AGAIN)


def automatic_state() -> State:
    """Whether the scorer that is asked again by itself can be; nothing is imported and nothing
    fetched."""
    if not all(_is_installed(package) for package in _PACKAGES):
        return "no extra"
    return (
        "ready"
        if all(find_weights(part) for part in parts_of_matcher(AUTO_SCORER))
        else "no weights"
    )


def _is_installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except (ImportError, ValueError):
        return False


def shortlist(candidates: Sequence[Candidate], num: int) -> tuple[Candidate, ...]:
    """At most `num` candidates, those that evidence and those that retrieval puts first taken in
    turn; none of them twice.

    Nothing is left on them of what the first scorer found.
    """
    by_retrieval = sorted(candidates, key=lambda one: one.retrieved_rank or one.rank)
    in_turn = [one for pair in zip(candidates, by_retrieval, strict=True) for one in pair]
    chosen = list({one.row: one for one in in_turn}.values())[:num]
    return tuple(replace(blank(one), rank=rank) for rank, one in enumerate(chosen, start=1))


def blank(candidate: Candidate) -> Candidate:
    """A candidate as retrieval found it, but for its rank."""
    return replace(candidate, evidence=None, num_inliers=None, confidence=None)
