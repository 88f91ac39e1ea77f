"""What a scorer needs of the photos of a collection: kept in the database, remembered between
queries, or made when asked for."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from functools import partial
from threading import Lock
from types import MappingProxyType

from whence.cards import ModelCard
from whence.data.photos import Photos
from whence.errors import UnreadableImage
from whence.index.store import Store
from whence.localize.rerank_options import RerankOptions
from whence.matching.chain import ChainScorer, StagedArrays
from whence.models.descriptor import DescriptorModel, read_as
from whence.parts import PairScorer, prepare_query
from whence.registry import build, get_card
from whence.settings import parse_stages
from whence.types import Arrays, PairEvidence, PhotoSource

REMEMBERED_BYTES = 256_000_000
"""What prepared photos that the database does not keep may take in memory."""
REMEMBERED_PAIRS = 100_000
"""Pairs of the collection's own photos of which it is remembered how far they agree."""
NO_EVIDENCE = PairEvidence(0.0)


class PreparedPhotos:
    """A scorer, and what it prepares of the photos of one collection: kept in the database,
    remembered, or made now."""

    def __init__(
        self,
        scorer: PairScorer,
        card: ModelCard,
        photos: Photos,
        *,
        store: Store | None = None,
        arrays: Mapping[str, Arrays] = MappingProxyType({}),
    ) -> None:
        self.scorer, self.card, self.photos, self.store, self.arrays = (
            scorer,
            card,
            photos,
            store,
            arrays,
        )
        self.is_shared = False
        """Whether a model's own local descriptors are what the scorer prepares."""
        self.cache_ids: tuple[str, ...] = (cache_id(card, scorer),)
        self.stages: tuple[PreparedPhotos, ...] = ()
        """Of a chain, each stage's own."""
        self.like: PreparedPhotos | None = None
        """An earlier stage of the chain that prepares the very same."""
        self._remembered: OrderedDict[bytes, Arrays | None] = OrderedDict()
        self._num_remembered_bytes = 0
        self._agreements: dict[tuple[int, int], PairEvidence] = {}
        self._lock = Lock()
        """Several threads may ask one localizer."""

    @classmethod
    def for_model(
        cls,
        options: RerankOptions,
        model: DescriptorModel,
        photos: Photos,
        *,
        store: Store | None = None,
    ) -> PreparedPhotos:
        """For the scorer of the options; the model's own local descriptors are used where they are
        what it would prepare."""
        prepared = cls.for_options(options, photos, store=store)
        for one in prepared.stages or (prepared,):
            one.is_shared = shares_local(model, one.scorer, one.card)
            if one.is_shared:
                one.cache_ids = (f"{model.card.card_id}.local", *one.cache_ids)
        return prepared

    @classmethod
    def for_options(
        cls, options: RerankOptions, photos: Photos, *, store: Store | None = None
    ) -> PreparedPhotos:
        """For the scorer of the options, whatever found the candidates."""
        stages = tuple(cls.for_options(stage, photos, store=store) for stage in options.stages)
        if stages:
            scorer: PairScorer = ChainScorer(
                parse_stages(options.scorer), tuple(stage.scorer for stage in stages)
            )
        else:
            scorer = build("scorer", options.scorer, options=options.scorer_options)
        prepared = cls(scorer, get_card(options.scorer, kind="scorer"), photos, store=store)
        prepared.stages = _linked(stages)
        return prepared

    def over(
        self,
        photos: Photos,
        *,
        store: Store | None = None,
        arrays: Mapping[str, Arrays] = MappingProxyType({}),
    ) -> PreparedPhotos:
        """The same scorer for another collection. `arrays`: what is there already, by
        content."""
        other = PreparedPhotos(self.scorer, self.card, photos, store=store, arrays=arrays)
        other.is_shared, other.cache_ids = self.is_shared, self.cache_ids
        stages = (
            stage.over(photos, store=store, arrays=arrays if stage.is_shared else {})
            for stage in self.stages
        )
        other.stages = _linked(tuple(stages))
        return other

    def of_image(self, source: PhotoSource) -> Arrays:
        """Arrays that the scorer prepares of a photo or of pixels. Raises `UnreadableImage`."""
        if self.like is not None:
            return self.like.of_image(source)
        if self.stages:
            return dict(StagedArrays([partial(stage.of_image, source) for stage in self.stages]))
        return self.scorer.prepare(read_as(source, self.card.preprocessing))

    def of_query(self, source: PhotoSource) -> Arrays:
        """Arrays that the scorer prepares of a query, which may be other than of the collection's
        photos. Raises as `of_image`."""
        if self.like is not None:
            return self.like.of_query(source)
        if self.stages:
            return dict(StagedArrays([partial(stage.of_query, source) for stage in self.stages]))
        return prepare_query(self.scorer, read_as(source, self.card.preprocessing))

    def of_row(self, row: int) -> Arrays | None:
        """Arrays that the scorer prepares of a photo of the collection; None where it cannot be
        read.

        Of a chain each stage's arrays are made when it asks for them.
        """
        if self.like is not None:
            return self.like.of_row(row)
        if self.stages:
            staged = StagedArrays([partial(stage.of_row, row) for stage in self.stages])
            return None if staged.part(0) is None else staged
        content = self.photos.columns["content"][row]
        with self._lock:
            if content in self._remembered:
                self._remembered.move_to_end(content)
                return self._remembered[content]
        arrays = self._kept(content.decode())
        if arrays is None:
            arrays = self._make(row)
            self._remember(content, arrays)
        return arrays

    def agreements(self, row: int, rows: Sequence[int]) -> list[PairEvidence]:
        """Evidence that the scorer finds between a photo of the collection and others, pair by
        pair; nothing where one cannot be read.

        Of a chain the last stage says. What was found once is remembered.
        """
        if self.stages:
            return self.stages[-1].agreements(row, rows)
        return [self._agreement(min(row, other), max(row, other)) for other in rows]

    def _agreement(self, row0: int, row1: int) -> PairEvidence:
        found = self._agreements.get((row0, row1))
        if found is None:
            arrays0, arrays1 = self.of_row(row0), self.of_row(row1)
            if arrays0 is not None and arrays1 is not None:
                found = next(iter(self.scorer.score(arrays0, [arrays1])))
            found = found or NO_EVIDENCE
            with self._lock:
                if len(self._agreements) >= REMEMBERED_PAIRS:
                    self._agreements.clear()
                self._agreements[row0, row1] = found
        return found

    def _remember(self, content: bytes, arrays: Arrays | None) -> None:
        with self._lock:
            if content in self._remembered:
                return
            self._remembered[content] = arrays
            self._num_remembered_bytes += _num_bytes(arrays)
            while self._num_remembered_bytes > REMEMBERED_BYTES and len(self._remembered) > 1:
                self._num_remembered_bytes -= _num_bytes(self._remembered.popitem(last=False)[1])

    def _kept(self, content: str) -> Arrays | None:
        if content in self.arrays or self.store is None:
            return self.arrays.get(content)
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
        stage.like = next(
            (earlier for earlier in stages[:place] if kind(earlier) == kind(stage)), None
        )
    return stages


def _num_bytes(arrays: Arrays | None) -> int:
    return 0 if arrays is None else sum(array.nbytes for array in arrays.values())


def cache_id(card: ModelCard, scorer: PairScorer) -> str:
    """The name under which a database keeps what a scorer prepares."""
    return f"{card.card_id}.{scorer.key.split('/')[0]}"


def shares_local(model: DescriptorModel, scorer: PairScorer, card: ModelCard) -> bool:
    """Whether the model's own local descriptors are what the scorer would prepare: same extractor,
    same size of the image."""
    if model.descriptor.local is None or model.card.preprocessing != card.preprocessing:
        return False
    return getattr(scorer, "extractor", None) == model.descriptor.local
