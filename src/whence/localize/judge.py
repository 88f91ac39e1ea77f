"""From a described query to an answer: retrieve, re-rank, verify, position. `Localizer` makes one
for each run."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from whence.errors import UnreadableImage
from whence.index.cells.engine import CellIndex
from whence.localize.cells import CellLocalizer
from whence.localize.otherwise import Otherwise, renumbered
from whence.localize.position import estimate_position, position_of_accepted, spacing_at
from whence.localize.prepared_photos import PreparedPhotos
from whence.localize.rerank import Reranked, describe_for_rerank, rerank
from whence.localize.rerank_options import RerankOptions
from whence.localize.retrieve import Around, Retriever
from whence.localize.unknown import SecondLook, blank, shortlist
from whence.localize.verify import agreements_of, confidence_so_far, least_confidence, verify
from whence.models.asking import QueryViews
from whence.models.descriptor import Described, DescriptorModel
from whence.types import Arrays, BestGuess, Calibration, Candidate, PhotoSource, Position

NOTHING_SEARCHED = "no photo of the database may be searched"


@dataclass(frozen=True)
class Judge:
    """The stages after description, with everything they need."""

    model: DescriptorModel
    retriever: Retriever
    rerank: RerankOptions | None = None
    material: PreparedPhotos | None = None
    calibration: Calibration | None = None
    """None gives the place of the first candidate, whether or not it is right."""
    unverified_reason: str = ""
    """Why there is no calibration although verified answers were asked for."""
    views: QueryViews | None = None
    """How queries are looked at; None as the model's card says."""
    stopping: Calibration | None = None
    """What says when a candidate is surely right, for answers that are not verified; else
    `calibration` does."""
    second: SecondLook | None = None
    """What is asked about photos that stay unknown."""
    otherwise: Otherwise | None = None
    """What orders candidates that no matches speak for."""
    cells: CellLocalizer | None = None
    """What tells in which cells of a map candidates are looked for; None where all photos are
    searched, or the engine tells."""

    def describe(self, queries: Sequence[Any]) -> Iterator[Described | UnreadableImage]:
        """Descriptors of queries, with what the scorer needs of them."""
        return (
            self.model.query_model.describe_each(queries, views=self.views)
            if self.material is None
            else describe_for_rerank(self.model, queries, self.material, views=self.views)
        )

    def answer(
        self,
        query: str,
        described: Described,
        *,
        k: int,
        around: Around | None,
        seconds: dict[str, float],
        content: str = "",
        source: PhotoSource | None = None,
    ) -> Position:
        """The answer for one query; `seconds` is extended by stage. `source`: the photo, for a
        second look where it stays unknown.

        A photo of the database with the very same bytes, whose hash is `content`, is what it shows,
        also where nothing can be matched: a blank wall, a dark corridor.
        """
        started = time.perf_counter()
        index, within = self.retriever.index, None
        # What lies around a place is told by that place: such a filter stays exact.
        if self.cells is not None and around is None and isinstance(index, CellIndex):
            within = self.cells.ids_for(index, described, source, least=k)
            seconds["cells"] = time.perf_counter() - started
            started = time.perf_counter()
        candidates = self.retriever.ask(described.question, k=k, around=around, within=within)
        seconds["search"] = time.perf_counter() - started
        reason, ordered_by = "" if candidates else NOTHING_SEARCHED, ""
        if self.rerank is not None and self.material is not None and candidates:
            started = time.perf_counter()
            reranked = self.compare(candidates, described.local or {}, source=source)
            candidates, reason = reranked.candidates, reranked.reason
            ordered_by = reranked.ordered_by
            seconds["rerank"] = time.perf_counter() - started
        same = next((one for one in candidates if content and self._content(one) == content), None)
        if same is not None:
            others = (one for one in candidates if one is not same)
            candidates = renumbered((same, *others))
        found = self.judge(
            query, candidates, seconds=seconds, reason=reason, is_same_file=same is not None
        )
        if ordered_by and found.status == "unknown" and found.is_verified:
            found = replace(found, reason=f"{found.reason}; {ordered_by} says which come first")
        is_open = found.status == "unknown" and found.is_verified and bool(found.candidates)
        return (
            found
            if self.second is None or source is None or not is_open
            else self._ask_again(found, source, self.second)
        )

    def _ask_again(self, first: Position, source: PhotoSource, second: SecondLook) -> Position:
        """The answer of a second look at an unknown photo; the first one, with the reason of both,
        where that says nothing."""
        opened, options, started = second.opened, second.options, time.perf_counter()
        if isinstance(opened, str):
            return replace(
                first, reason=f"{first.reason}; not asked again with {options.scorer}: {opened}"
            )
        chosen = shortlist(first.candidates, options.num_candidates)
        try:
            asked = opened.material.of_query(source)
        except UnreadableImage as error:
            return replace(
                first, reason=f"{first.reason}; not asked again with {options.scorer}: {error}"
            )
        found = rerank(chosen, query=asked, material=opened.material, options=options)
        retrieved = {one.row: one.retrieved_rank for one in first.candidates}
        compared = tuple(
            replace(one, retrieved_rank=retrieved[one.row]) for one in found.candidates
        )
        judge = replace(
            self,
            rerank=options,
            material=opened.material,
            calibration=opened.calibration,
            second=None,
        )
        answer = judge.judge(first.query, compared, seconds={})
        seconds = {**first.seconds, "again": time.perf_counter() - started}
        if answer.status == "unknown":
            told = f"{first.reason}; {options.scorer} over {len(chosen)} of them: {answer.reason}"
            return replace(first, seconds=seconds, reason=told)
        others = (
            blank(one) for one in first.candidates if one.row not in {row.row for row in compared}
        )
        ranked = renumbered((*answer.candidates, *others))
        told = f"asked again with {options.scorer}, because {first.scorer} left it unknown"
        return replace(answer, candidates=ranked, seconds=seconds, reason=told)

    def _content(self, candidate: Candidate) -> str:
        found: bytes = self.retriever.photos.columns["content"][candidate.row]
        return found.decode()

    def compare(
        self, candidates: tuple[Candidate, ...], query: Arrays, *, source: PhotoSource | None = None
    ) -> Reranked:
        """The candidates in the order of what the scorer finds of them, as the options say, or of
        the photo where it finds nothing.

        Comparing ends early by the probability that verification gives. Where answers are verified
        it ends with no more than half of the doubt that an answer may leave: who looks after every
        comparison is sooner deceived than who looks once.
        """
        assert self.rerank is not None
        assert self.material is not None
        options, calibration = self.rerank, self.calibration or self.stopping
        if self.calibration is not None and options.when_unsure is not None:
            least = max(
                self.calibration.min_confidence, self.calibration.min_confidence_without_points
            )
            options = replace(options, when_unsure=max(options.when_unsure, (1 + least) / 2))
        sure = None if calibration is None else partial(confidence_so_far, calibration=calibration)
        found = rerank(candidates, query=query, material=self.material, options=options, sure=sure)
        return (
            found
            if self.otherwise is None or source is None
            else self.otherwise.order(found, source)
        )

    def judge(
        self,
        query: str,
        candidates: tuple[Candidate, ...],
        *,
        seconds: dict[str, float],
        reason: str = "",
        is_same_file: bool = False,
    ) -> Position:
        """The answer that candidates in their final order give. `is_same_file`: the first candidate
        is the query itself."""
        if self.calibration is None:
            plain = estimate_position(candidates)
            return Position(
                query,
                plain.status,
                point=plain.point,
                heading_deg=plain.heading_deg,
                candidates=candidates,
                seconds=seconds,
                reason="; ".join(filter(None, (reason, self.unverified_reason))),
            )
        started, scorer = time.perf_counter(), "" if self.rerank is None else self.rerank.scorer
        candidates, verification = verify(
            candidates,
            self.calibration,
            agreements=agreements_of(candidates, self.material),
            is_same_file=is_same_file,
        )
        seconds["verify"] = time.perf_counter() - started
        if not candidates:
            return Position(
                query,
                "unknown",
                seconds=seconds,
                reason=verification.reason,
                is_verified=True,
                scorer=scorer,
            )
        answer = self._placed(candidates) if candidates[0].point is None else None
        if answer is None and verification.is_accepted:
            answer = candidates[0]
        shown = answer or candidates[0]
        found = position_of_accepted(
            (shown, *(one for one in candidates if one is not shown)),
            spacing_m=self._spacing(shown),
        )
        radius = None if found.point is None else self.calibration.radius_factor * found.scale_m
        if answer is None:
            guess = BestGuess(candidates[0].photo, found.point, radius, verification.confidence)
            return Position(
                query,
                "unknown",
                confidence=verification.confidence,
                candidates=candidates,
                seconds=seconds,
                reason=verification.reason,
                best_guess=guess,
                is_verified=True,
                scorer=scorer,
            )
        return Position(
            query,
            "matched" if found.point is None else "located",
            point=found.point,
            radius_m=radius,
            heading_deg=found.heading_deg,
            confidence=answer.confidence,
            candidates=candidates,
            seconds=seconds,
            reason=reason,
            is_verified=True,
            scorer=scorer,
        )

    def _placed(self, candidates: Sequence[Candidate]) -> Candidate | None:
        """The first candidate with coordinates that would be accepted by itself: where the best
        match has none, it says where."""
        assert self.calibration is not None
        return next(
            (
                one
                for one in candidates
                if one.point is not None
                and (one.confidence or 0.0) >= least_confidence(one, self.calibration)
            ),
            None,
        )

    def _spacing(self, first: Candidate) -> float:
        if first.point is None:
            return 0.0
        photos = self.retriever.photos
        return spacing_at(first.point, photos.columns["lat"], photos.columns["lon"])
