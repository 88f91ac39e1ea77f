"""What orders candidates that no matches speak for: where the first scorer finds no evidence on any
of them, another is asked.

Keypoints say nothing of small, dark or strongly changed photos, where the scorer of whole views
still tells candidates apart. It counts no inliers, so the photo stays unknown: what changes is
which candidate comes first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from whence.errors import ModelError, UnreadableImage
from whence.localize.prepared_photos import PreparedPhotos
from whence.localize.rerank import Reranked, rerank
from whence.localize.rerank_options import RerankOptions
from whence.localize.verify import num_inliers
from whence.registry import get_card
from whence.settings import OTHERWISE
from whence.types import Candidate, PhotoSource


@dataclass(frozen=True)
class Otherwise:
    """The scorer that is asked then, opened when the first photo needs it."""

    options: RerankOptions
    open_prepared: Callable[[RerankOptions], PreparedPhotos]

    @cached_property
    def prepared(self) -> PreparedPhotos | None:
        """Prepared photos of the database, for the scorer; None where it cannot be used: nobody
        asked for it, so the order stays."""
        try:
            return self.open_prepared(self.options)
        except ModelError:
            return None

    def order(self, reranked: Reranked, source: PhotoSource) -> Reranked:
        """The outcome of re-ranking with the first few retrieved candidates in this scorer's order,
        where nothing speaks for any.

        Each candidate keeps what the first scorer found of it.
        """
        if not reranked.num_compared or num_inliers(reranked.candidates).any():
            return reranked
        retrieved = sorted(reranked.candidates, key=lambda one: one.retrieved_rank or one.rank)
        few = retrieved[: self.options.num_candidates]
        if len(few) < 2 or self.prepared is None:
            return reranked
        try:
            asked = self.prepared.of_query(source)
        except UnreadableImage:
            return reranked
        ordered = rerank(few, query=asked, material=self.prepared, options=self.options)
        if ordered.reason:
            return reranked
        of_row = {one.row: one for one in few}
        chosen = [of_row[one.row] for one in ordered.candidates]
        scorer = self.options.scorer
        reason = f"no candidate fits the query geometrically, so {scorer} says which come first"
        return replace(
            reranked,
            candidates=renumbered([*chosen, *retrieved[len(few) :]]),
            reason=reason,
            ordered_by=scorer,
        )


def renumbered(candidates: Sequence[Candidate]) -> tuple[Candidate, ...]:
    """Candidates in this order, ranked from 1."""
    return tuple(replace(one, rank=rank) for rank, one in enumerate(candidates, start=1))


def otherwise_of(
    options: RerankOptions, open_prepared: Callable[[RerankOptions], PreparedPhotos]
) -> Otherwise | None:
    """The second question, where the scorer of the options finds nothing; None where that is not
    wanted.

    A scorer that counts no inliers always says something, and what was bounded in time is not
    prolonged. No more candidates are ordered than the first scorer compares. A scorer that was
    asked for by name is opened now, so that it fails now; raises what opening it raises.
    """
    chosen = options.otherwise_options
    is_bounded = any(one.max_seconds is not None for one in (options, *options.stages))
    if chosen is None or is_bounded or not get_card(options.scorer, kind="scorer").counts_inliers:
        return None
    if options.otherwise != OTHERWISE:
        open_prepared(chosen)
    return Otherwise(
        replace(chosen, num_candidates=min(chosen.num_candidates, options.num_candidates)),
        open_prepared,
    )
