"""Re-ranking: candidates in the order of what a pair scorer finds, within a budget.

The database's side of each pair comes from the arrays the database keeps, else it is made from the
photo when needed; a few are remembered between queries (`whence.localize.prepared_photos`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from whence.errors import CalibrationMismatch, UnreadableImage
from whence.localize.prepared_photos import PreparedPhotos
from whence.localize.rerank_options import RerankOptions
from whence.models.asking import QueryViews
from whence.models.descriptor import Described, DescriptorModel
from whence.types import Arrays, Candidate, PairEvidence

Sure = Callable[[Sequence[Candidate]], float]
"""From candidates in the order of retrieval, of which the first were compared, to the probability
that their best is right."""


@dataclass(frozen=True, slots=True)
class Reranked:
    """The candidates in their new order, and why it is the old one, where it is."""

    candidates: tuple[Candidate, ...]
    num_compared: int
    reason: str = ""
    sure: float | None = None
    """Probability that a candidate is right, where it was so large that those after it were not
    compared."""
    ordered_by: str = ""
    """The scorer that was asked for an order because the first one found nothing; empty where it
    was not."""


def rerank(
    candidates: Sequence[Candidate],
    *,
    query: Arrays,
    material: PreparedPhotos,
    options: RerankOptions,
    sure: Sure | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Reranked:
    """The candidates by falling evidence, ties in their old order; those not compared come after
    those that were.

    Each compared candidate carries its evidence and the rank it had. Where nothing could be
    compared, or no candidate has any evidence, the order stays and the reason says why. With
    `when_unsure` no further candidates are compared once one is right with that probability, which
    `sure` gives; raises `CalibrationMismatch` without it.
    """
    if not candidates:
        return Reranked((), 0, "no candidates")
    if options.when_unsure is not None and sure is None:
        raise CalibrationMismatch(
            "without a calibration nothing says when a candidate is surely right: compare all of "
            "them"
        )
    shortlist = candidates[: options.num_candidates]
    evidence, probability = _compare(
        shortlist, query, material=material, options=options, sure=sure, clock=clock
    )
    compared = [_with_evidence(*pair) for pair in zip(shortlist, evidence, strict=False)]
    num_compared = sum(found is not None for found in evidence)
    ordered = sorted(
        compared,
        key=lambda one: -np.inf if one.evidence is None else one.evidence.similarity,
        reverse=True,
    )
    rest = tuple(
        replace(candidate, retrieved_rank=candidate.rank)
        for candidate in candidates[len(evidence) :]
    )
    reason = ""
    if not num_compared:
        ordered, reason = (
            compared,
            "no candidate's photo can be read, so the order is that of retrieval",
        )
    elif all(found is None or found.similarity == 0 for found in evidence):
        ordered, reason = (
            compared,
            "no candidate fits the query geometrically, so the order is that of retrieval",
        )
    elif len(evidence) < len(shortlist):
        why = (
            f"one is right with a probability of {probability:.2f}"
            if probability is not None
            else f"within {options.max_seconds:g} s"
        )
        reason = f"{len(evidence)} of {len(shortlist)} candidates compared: {why}"
    renumbered = (replace(one, rank=rank) for rank, one in enumerate([*ordered, *rest], start=1))
    return Reranked(tuple(renumbered), num_compared, reason, probability)


class _Feed:
    """What is prepared of candidates, one by one as a scorer takes them. While held, it ends after
    the first."""

    def __init__(
        self, candidates: Sequence[Candidate], material: PreparedPhotos, *, is_held: bool
    ) -> None:
        self.candidates, self.material, self.is_held = candidates, material, is_held
        self.num_taken = 0
        self.is_cut = False

    def __iter__(self) -> Iterator[Arrays | None]:
        for candidate in self.candidates:
            if self.is_held and self.num_taken:
                self.is_cut = True
                return
            self.num_taken += 1
            yield self.material.of_row(candidate.row)


def _compare(
    shortlist: Sequence[Candidate],
    query: Arrays,
    *,
    material: PreparedPhotos,
    options: RerankOptions,
    sure: Sure | None,
    clock: Callable[[], float],
) -> tuple[list[PairEvidence | None], float | None]:
    """The evidence of the first candidates, and the probability that one is right where that ended
    the comparison early.

    A scorer that takes several candidates before it says anything is given the first alone, then
    all; what it has compared is kept.
    """
    started, limit, enough = clock(), options.max_seconds, options.when_unsure
    for is_held in (True, False) if enough is not None else (False,):
        feed = _Feed(shortlist, material, is_held=is_held)
        evidence: list[PairEvidence | None] = []
        for found in material.scorer.score(query, feed):
            evidence.append(found)
            feed.is_held = False
            if limit is not None and clock() - started >= limit:
                return evidence, None
            if (
                enough is None
                or sure is None
                or found is None
                or feed.num_taken != len(evidence)
                or len(evidence) == len(shortlist)
            ):
                continue
            probability = sure(so_far(shortlist, evidence))
            if probability >= enough:
                return evidence, probability
        if not feed.is_cut:
            break
    return evidence, None


def so_far(
    shortlist: Sequence[Candidate], evidence: Sequence[PairEvidence | None]
) -> tuple[Candidate, ...]:
    """The candidates in the order of retrieval, the first of them with what comparing them
    found."""
    return (
        *map(_with_evidence, shortlist, evidence),
        *(replace(one, retrieved_rank=one.rank) for one in shortlist[len(evidence) :]),
    )


def _with_evidence(candidate: Candidate, evidence: PairEvidence | None) -> Candidate:
    num_inliers = None if evidence is None else evidence.num_inliers
    return replace(
        candidate, evidence=evidence, num_inliers=num_inliers, retrieved_rank=candidate.rank
    )


def describe_for_rerank(
    model: DescriptorModel,
    sources: Sequence[Any],
    material: PreparedPhotos,
    *,
    views: QueryViews | None = None,
) -> Iterator[Described | UnreadableImage]:
    """Descriptors of queries with what the scorer prepares of them as `local`, each photo read once
    where the two share it."""
    asking = model.query_model
    if material.is_shared and views is None and asking is model:
        yield from model.describe_each(sources, keep_local=True)
        return
    for source, result in zip(sources, asking.describe_each(sources, views=views), strict=True):
        yield (
            result
            if isinstance(result, UnreadableImage)
            else result._replace(local=dict(material.of_query(source)))
        )
