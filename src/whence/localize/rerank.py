"""Re-ranking: candidates in the order of what a pair scorer finds, within a budget.

The database's side of each pair comes from the arrays the database keeps, else it is made from the photo when needed; a few are
remembered between queries.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from types import MappingProxyType
from typing import Any

import numpy as np

from whence.data.photos import Photos
from whence.errors import BadOption, CalibrationMismatch, UnreadableImage
from whence.index.store import Store
from whence.localize.unsure import sure_features, sure_probability
from whence.matching.chain import ChainScorer, StagedArrays, check_chain_options, options_of
from whence.models.descriptor import Described, DescriptorModel, Source, read_as
from whence.models.views import QueryViews
from whence.models.vlad import Vlad
from whence.registry import ModelCard, build, get_card
from whence.settings import NO_OPTIONS, is_chain, parse_stages
from whence.types import Candidate, PairEvidence, PairScorer

Arrays = Mapping[str, np.ndarray]
REMEMBERED_BYTES = 256_000_000
"""What prepared photos that the database does not keep may take in memory."""


@dataclass(frozen=True, slots=True)
class RerankOptions:
    """How, how many, how long."""

    scorer: str = "inliers"
    """A registered scorer, or a chain: "geowarp:100,inliers:10"."""
    num_candidates: int = 20
    """Candidates that are compared with the query; those after them keep their order."""
    max_seconds: float | None = None
    """Seconds per query after which no further candidate is compared; None for no limit."""
    scorer_options: Mapping[str, Any] = field(default_factory=dict)
    """The scorer's own settings; those of a chain begin with the scorer's name and a dot."""
    when_unsure: float | None = None
    """Candidates are compared one by one until one is right with this probability; None to compare all."""

    def __post_init__(self) -> None:
        get_card(self.scorer, kind="scorer")
        if self.num_candidates < 1:
            raise BadOption(f"re-ranking compares at least 1 candidate, not {self.num_candidates}")
        if self.max_seconds is not None and not self.max_seconds > 0:
            raise BadOption(f"re-ranking needs more than {self.max_seconds} seconds")
        if self.when_unsure is not None and not 0 < self.when_unsure < 1:
            raise BadOption(f"a probability lies between 0 and 1, not {self.when_unsure}")

    @property
    def stages(self) -> tuple[RerankOptions, ...]:
        """One record per stage of a chain; empty where there is a single scorer."""
        if not is_chain(self.scorer):
            return ()
        return tuple(
            RerankOptions(stage.scorer, stage.num_candidates, stage.max_seconds, options_of(stage, self.scorer_options))
            for stage in parse_stages(self.scorer)
        )


def rerank_options(
    scorer: str,
    *,
    num_candidates: int = 20,
    max_seconds: float | None = None,
    scorer_options: Mapping[str, Any] = NO_OPTIONS,
    when_unsure: float | None = None,
) -> RerankOptions:
    """The options that a person states; of a chain the first stage says how many candidates there are."""
    if is_chain(scorer):
        if max_seconds is not None:
            raise BadOption("the seconds of a chain stand with its stages, as in inliers:10:0.5s")
        num_candidates = parse_stages(scorer)[0].num_candidates
        check_chain_options(parse_stages(scorer), scorer_options)
    return RerankOptions(scorer, num_candidates, max_seconds, scorer_options, when_unsure)


@dataclass(frozen=True, slots=True)
class Reranked:
    """The candidates in their new order, and why it is the old one, where it is."""

    candidates: tuple[Candidate, ...]
    num_compared: int
    reason: str = ""
    sure: float | None = None
    """Probability that a candidate is right, where it was so large that those after it were not compared."""


class PreparedPhotos:
    """A scorer, and what it prepares of the photos of one collection: kept in the database, remembered, or made now."""

    def __init__(
        self,
        scorer: PairScorer,
        card: ModelCard,
        photos: Photos,
        *,
        store: Store | None = None,
        given: Mapping[str, Arrays] = MappingProxyType({}),
    ) -> None:
        self.scorer, self.card, self.photos, self.store, self.given = scorer, card, photos, store, given
        self.is_shared = False
        """Whether a model's own local descriptors are what the scorer prepares."""
        self.cache_ids: tuple[str, ...] = (cache_id(card, scorer),)
        self.stages: tuple[PreparedPhotos, ...] = ()
        """Of a chain, each stage's own."""
        self.like: PreparedPhotos | None = None
        """An earlier stage of the chain that prepares the very same."""
        self._remembered: OrderedDict[bytes, Arrays | None] = OrderedDict()
        self._num_remembered_bytes = 0

    @classmethod
    def for_model(
        cls, options: RerankOptions, model: DescriptorModel, photos: Photos, *, store: Store | None = None
    ) -> PreparedPhotos:
        """For the scorer of the options; the model's own local descriptors are used where they are what it would prepare."""
        prepared = cls.for_options(options, photos, store=store)
        for one in prepared.stages or (prepared,):
            one.is_shared = shares_local(model, one.scorer, one.card)
            if one.is_shared:
                one.cache_ids = (f"{model.card.card_id}.local", *one.cache_ids)
        return prepared

    @classmethod
    def for_options(cls, options: RerankOptions, photos: Photos, *, store: Store | None = None) -> PreparedPhotos:
        """For the scorer of the options, whatever found the candidates."""
        stages = tuple(cls.for_options(stage, photos, store=store) for stage in options.stages)
        if stages:
            scorer: PairScorer = ChainScorer(parse_stages(options.scorer), tuple(stage.scorer for stage in stages))
        else:
            scorer = build("scorer", options.scorer, options=options.scorer_options)
        prepared = cls(scorer, get_card(options.scorer, kind="scorer"), photos, store=store)
        prepared.stages = _linked(stages)
        return prepared

    def over(
        self, photos: Photos, *, store: Store | None = None, given: Mapping[str, Arrays] = MappingProxyType({})
    ) -> PreparedPhotos:
        """The same scorer for another collection. `given`: arrays that are there already, by content."""
        other = PreparedPhotos(self.scorer, self.card, photos, store=store, given=given)
        other.is_shared, other.cache_ids = self.is_shared, self.cache_ids
        stages = (stage.over(photos, store=store, given=given if stage.is_shared else {}) for stage in self.stages)
        other.stages = _linked(tuple(stages))
        return other

    def of_image(self, source: Source) -> Arrays:
        """What the scorer prepares of a photo or of pixels. Raises `UnreadableImage`."""
        if self.like is not None:
            return self.like.of_image(source)
        if self.stages:
            return dict(StagedArrays([partial(stage.of_image, source) for stage in self.stages]))
        return self.scorer.prepare(read_as(source, self.card.preprocessing))

    def of_row(self, row: int) -> Arrays | None:
        """What the scorer prepares of a photo of the collection; None where it cannot be read.

        Of a chain each stage's arrays are made when it asks for them.
        """
        if self.like is not None:
            return self.like.of_row(row)
        if self.stages:
            staged = StagedArrays([partial(stage.of_row, row) for stage in self.stages])
            return None if staged.part(0) is None else staged
        content = self.photos.columns["content"][row]
        if content in self._remembered:
            self._remembered.move_to_end(content)
            return self._remembered[content]
        arrays = self._kept(content.decode())
        if arrays is None:
            arrays = self._make(row)
            self._remember(content, arrays)
        return arrays

    def _remember(self, content: bytes, arrays: Arrays | None) -> None:
        self._remembered[content] = arrays
        self._num_remembered_bytes += _num_bytes(arrays)
        while self._num_remembered_bytes > REMEMBERED_BYTES and len(self._remembered) > 1:
            self._num_remembered_bytes -= _num_bytes(self._remembered.popitem(last=False)[1])

    def _kept(self, content: str) -> Arrays | None:
        if content in self.given or self.store is None:
            return self.given.get(content)
        found = (self.store.read_cache(name, content) for name in self.cache_ids)
        return next((arrays for arrays in found if arrays is not None), None)

    def _make(self, row: int) -> Arrays | None:
        try:
            return self.of_image(self.photos.file(row))
        except UnreadableImage:
            return None


def _linked(stages: tuple[PreparedPhotos, ...]) -> tuple[PreparedPhotos, ...]:
    """The stages, each that prepares the same as an earlier one pointing to it."""

    def kind(stage: PreparedPhotos) -> tuple[object, ...]:
        return stage.scorer.key.split("/")[0], stage.card.preprocessing

    for place, stage in enumerate(stages):
        stage.like = next((earlier for earlier in stages[:place] if kind(earlier) == kind(stage)), None)
    return stages


def _num_bytes(arrays: Arrays | None) -> int:
    return 0 if arrays is None else sum(array.nbytes for array in arrays.values())


def cache_id(card: ModelCard, scorer: PairScorer) -> str:
    """The name under which a database keeps what a scorer prepares."""
    return f"{card.card_id}.{scorer.key.split('/')[0]}"


def shares_local(model: DescriptorModel, scorer: PairScorer, card: ModelCard) -> bool:
    """Whether the model's own local descriptors are what the scorer would prepare: same extractor, same size of the image."""
    if not isinstance(model.descriptor, Vlad) or model.card.preprocessing != card.preprocessing:
        return False
    return getattr(scorer, "extractor", None) == model.descriptor.extractor


def rerank(
    candidates: Sequence[Candidate],
    *,
    query: Arrays,
    prepared: PreparedPhotos,
    options: RerankOptions,
    first_stage: Sequence[float] = (),
    clock: Callable[[], float] = time.perf_counter,
) -> Reranked:
    """The candidates by falling evidence, ties in their old order; those not compared come after those that were.

    Each compared candidate carries its evidence and the rank it had. Where nothing could be compared, or no candidate has any
    evidence, the order stays and the reason says why. With `when_unsure` no further candidates are compared once one is right with
    that probability by `first_stage`, the weights of a calibration; raises `CalibrationMismatch` without weights.
    """
    if not candidates:
        return Reranked((), 0, "no candidates")
    if options.when_unsure is not None and not first_stage:
        raise CalibrationMismatch(
            "the calibration does not say when retrieval is sure: run  whence calibrate  again, or re-rank always"
        )
    asked = candidates[: options.num_candidates]
    evidence, sure = _compare(asked, query, prepared=prepared, options=options, first_stage=first_stage, clock=clock)
    compared = [_with_evidence(*pair) for pair in zip(asked, evidence, strict=False)]
    num_compared = sum(found is not None for found in evidence)
    ordered = sorted(compared, key=lambda one: -np.inf if one.evidence is None else one.evidence.similarity, reverse=True)
    rest = tuple(replace(candidate, retrieved_rank=candidate.rank) for candidate in candidates[len(evidence) :])
    reason = ""
    if not num_compared:
        ordered, reason = compared, "no candidate's photo can be read, so the order is that of retrieval"
    elif all(found is None or found.similarity == 0 for found in evidence):
        ordered, reason = compared, "no candidate fits the query geometrically, so the order is that of retrieval"
    elif len(evidence) < len(asked):
        why = f"one is right with a probability of {sure:.2f}" if sure is not None else f"within {options.max_seconds:g} s"
        reason = f"{len(evidence)} of {len(asked)} candidates compared: {why}"
    renumbered = (replace(one, rank=rank) for rank, one in enumerate([*ordered, *rest], start=1))
    return Reranked(tuple(renumbered), num_compared, reason, sure)


class _Feed:
    """What is prepared of candidates, one by one as a scorer takes them. While held, it ends after the first."""

    def __init__(self, asked: Sequence[Candidate], prepared: PreparedPhotos, *, is_held: bool) -> None:
        self.asked, self.prepared, self.is_held = asked, prepared, is_held
        self.num_taken = 0
        self.is_cut = False

    def __iter__(self) -> Iterator[Arrays | None]:
        for candidate in self.asked:
            if self.is_held and self.num_taken:
                self.is_cut = True
                return
            self.num_taken += 1
            yield self.prepared.of_row(candidate.row)


def _compare(
    asked: Sequence[Candidate],
    query: Arrays,
    *,
    prepared: PreparedPhotos,
    options: RerankOptions,
    first_stage: Sequence[float],
    clock: Callable[[], float],
) -> tuple[list[PairEvidence | None], float | None]:
    """The evidence of the first candidates, and the probability that one is right where that ended the comparison early.

    A scorer that takes several candidates before it says anything is given the first alone, then all; what it has compared is kept.
    """
    started, limit, enough = clock(), options.max_seconds, options.when_unsure
    for is_held in (True, False) if enough is not None else (False,):
        feed = _Feed(asked, prepared, is_held=is_held)
        evidence: list[PairEvidence | None] = []
        surest = 0.0
        for found in prepared.scorer.score(query, feed):
            evidence.append(found)
            feed.is_held = False
            if limit is not None and clock() - started >= limit:
                return evidence, None
            if enough is not None and found is not None:
                surest = max(surest, sure_probability(sure_features(asked, found), first_stage))
            if enough is not None and surest >= enough and feed.num_taken == len(evidence) < len(asked):
                return evidence, surest
        if not feed.is_cut:
            break
    return evidence, None


def _with_evidence(candidate: Candidate, evidence: PairEvidence | None) -> Candidate:
    num_inliers = None if evidence is None else evidence.num_inliers
    return replace(candidate, evidence=evidence, num_inliers=num_inliers, retrieved_rank=candidate.rank)


def describe_for_rerank(
    model: DescriptorModel, sources: Sequence[Any], prepared: PreparedPhotos, *, views: QueryViews | None = None
) -> Iterator[Described | UnreadableImage]:
    """Descriptors of queries with what the scorer prepares of them as `local`, each photo read once where the two share it."""
    if prepared.is_shared and views is None:
        yield from model.describe_each(sources, keep_local=True)
        return
    for source, result in zip(sources, model.describe_each(sources, views=views), strict=True):
        yield result if isinstance(result, UnreadableImage) else result._replace(local=dict(prepared.of_image(source)))
