"""A chain of scorers: a cheap one looks at many candidates, a dear one at the best of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from whence.cards import Entry, ModelCard
from whence.errors import BadOption
from whence.parts import PairScorer
from whence.registry import build, get_card
from whence.settings import NO_OPTIONS, Stage, is_chain, parse_stages
from whence.types import Arrays, PairEvidence


class StagedArrays(Mapping[str, np.ndarray]):
    """What each stage prepares of a photo, made or read when that stage asks for it; names begin
    with the stage's number."""

    def __init__(self, makers: Sequence[Callable[[], Arrays | None]]) -> None:
        self._makers = makers
        self._parts: dict[int, Arrays | None] = {}

    def part(self, stage: int) -> Arrays | None:
        """The arrays of one stage; None where the photo cannot be read."""
        if stage not in self._parts:
            self._parts[stage] = self._makers[stage]()
        return self._parts[stage]

    def _whole(self) -> dict[str, np.ndarray]:
        return {
            f"{i}/{name}": array
            for i in range(len(self._makers))
            for name, array in (self.part(i) or {}).items()
        }

    def __getitem__(self, name: str) -> np.ndarray:
        return self._whole()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._whole())

    def __len__(self) -> int:
        return len(self._whole())


@dataclass(frozen=True, slots=True)
class ChainScorer:
    """Scores candidates stage by stage. A `PairScorer`.

    The first stage compares the first candidates, each further one the best of the stage before it.
    A candidate that comes further stands before those that do not; ties keep the order of the stage
    before. Similarities say only the order.
    """

    stages: tuple[Stage, ...]
    scorers: tuple[PairScorer, ...]
    clock: Callable[[], float] = time.perf_counter

    @property
    def key(self) -> str:
        """The settings of all stages as text."""
        budgets = (
            f"{stage.num_candidates}{f'-{stage.max_seconds:g}s' if stage.max_seconds else ''}"
            for stage in self.stages
        )
        return "+".join(
            f"{scorer.key}*{budget}" for scorer, budget in zip(self.scorers, budgets, strict=True)
        )

    def prepare(self, image: np.ndarray) -> dict[str, np.ndarray]:
        """Arrays that all stages prepare of a uint8 image (H, W, 3)."""
        return dict(StagedArrays([partial(scorer.prepare, image) for scorer in self.scorers]))

    def score(
        self, query: Arrays, candidates: Iterable[Arrays | None]
    ) -> Iterator[PairEvidence | None]:
        """One record per candidate, in order, once all stages are done: the evidence of the last
        stage that compared it."""
        given = list(candidates)
        evidence: list[PairEvidence | None] = [None] * len(given)
        order, has_evidence = list(range(len(given))), False
        for i, (stage, scorer) in enumerate(zip(self.stages, self.scorers, strict=True)):
            asked = part_of(query, i)
            assert asked is not None, "a query that cannot be read is not compared"
            started, compared = self.clock(), order[: stage.num_candidates]
            found: dict[int, PairEvidence] = {}
            results = scorer.score(
                asked,
                (None if (one := given[row]) is None else part_of(one, i) for row in compared),
            )
            for row, result in zip(compared, results, strict=True):
                if result is not None:
                    found[row] = result
                if stage.max_seconds is not None and self.clock() - started >= stage.max_seconds:
                    break
            best = sorted(found, key=lambda row: -found[row].similarity)
            order = [*best, *(row for row in order if row not in found)]
            for row in found:
                evidence[row] = found[row]
                has_evidence = has_evidence or found[row].similarity != 0
        if not has_evidence:
            yield from evidence
            return
        place = {row: len(order) - position for position, row in enumerate(order)}
        yield from (
            None if one is None else replace(one, similarity=float(place[row]))
            for row, one in enumerate(evidence)
        )


def part_of(arrays: Arrays, stage: int) -> Arrays | None:
    """Arrays that a stage prepared of a photo, out of what all did; None where it could not be
    read."""
    if isinstance(arrays, StagedArrays):
        return arrays.part(stage)
    prefix = f"{stage}/"
    return {
        name.removeprefix(prefix): array
        for name, array in arrays.items()
        if name.startswith(prefix)
    }


def options_of(stage: Stage, options: Mapping[str, Any]) -> dict[str, Any]:
    """A stage's own options, out of those of a chain: its scorer, a dot, the name."""
    prefix = f"{stage.scorer}."
    return {
        name.removeprefix(prefix): value
        for name, value in options.items()
        if name.startswith(prefix)
    }


def check_chain_options(stages: Sequence[Stage], options: Mapping[str, Any]) -> None:
    """Raises `BadOption` for an option that begins with no stage's scorer and a dot."""
    names = {stage.scorer for stage in stages}
    for name in options:
        scorer, dot, _ = name.partition(".")
        if not dot or scorer not in names:
            raise BadOption(
                f"options of a chain name the scorer first, as {stages[-1].scorer}.NAME=value; "
                f"not {name!r}"
            )


def open_chain(text: str, *, options: Mapping[str, Any] = NO_OPTIONS) -> ChainScorer:
    """The chain that `whence.settings.parse_stages` reads, with options such as "inliers.ratio".

    Raises `BadOption` for an option of no stage, and what opening the scorers raises.
    """
    stages = parse_stages(text)
    check_chain_options(stages, options)
    return ChainScorer(
        stages,
        tuple(
            build("scorer", stage.scorer, options=options_of(stage, options)) for stage in stages
        ),
    )


def entry_of_chain(name: str) -> Entry | None:
    """The registry's entry of a chain of scorers; None for any other name. Raises `BadOption`,
    `UnknownName`."""
    if not is_chain(name):
        return None
    cards = [get_card(stage.scorer, kind="scorer") for stage in parse_stages(name)]
    card = ModelCard(
        name=name,
        summary="each scorer orders the best of the one before it",
        dim=0,
        preprocessing=cards[-1].preprocessing,
        licence=" AND ".join(dict.fromkeys(card.licence for card in cards)),
        citation="; ".join(card.citation for card in cards),
        similarity="candidates it comes before, and one",
        counts_inliers=cards[-1].counts_inliers,
    )
    return Entry("whence.matching.chain:open_chain", card, options={"text": name})
