"""Queries by a small network, photos of the database by a large one: mutual nearest neighbours
across the two.

As AsymLoc (Omama, Berton, Foxlin, Kim, CVPR 2026): the map is made once by whatever finds most, a
query costs what the small network costs. It works only where the small one learned the very
descriptors of the large one, so that is checked.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from whence.errors import BadOption
from whence.matching.matchers import DEFAULT_KEYPOINTS, MutualNearest, check_ratio
from whence.models.local.own import DenseExtractor, open_own_features
from whence.parts import Extractor
from whence.types import Arrays, PointPairs


@dataclass(frozen=True, slots=True)
class AsymmetricNearest:
    """Pairs keypoints of a query's extractor with those of the database's that are each other's
    nearest. A `Matcher`."""

    extractor: Extractor
    """Of photos of the database."""
    query_extractor: Extractor
    ratio: float = 1.0

    def __post_init__(self) -> None:
        check_ratio(self.ratio)

    @property
    def key(self) -> str:
        """The settings as text; before the slash what the kept arrays depend on: the database's
        extractor alone."""
        return f"{self.extractor.key}/asked-by-{self.query_extractor.key}-ratio-{self.ratio:g}"

    def prepare(self, image: np.ndarray) -> dict[str, np.ndarray]:
        """The local descriptors of a photo of the database, uint8 (H, W, 3), packed."""
        return self.extractor.extract(image).to_arrays()

    def prepare_query(self, image: np.ndarray) -> dict[str, np.ndarray]:
        """Those of a query."""
        return self.query_extractor.extract(image).to_arrays()

    def match(
        self, query: Arrays, candidates: Iterable[Arrays | None]
    ) -> Iterator[PointPairs | None]:
        """One record per candidate, each made when it is asked for."""
        return MutualNearest(self.extractor, self.ratio).match(query, candidates)


def pair_extractors(
    query: DenseExtractor, database: Extractor, *, name: str, digest: str, ratio: float = 1.0
) -> AsymmetricNearest:
    """The matcher of two extractors, of which the query's learned from the other, whose name and
    digest of weights are given.

    Raises `BadOption` where it learned from another one, or from other weights of that name.
    """
    if query.taught_by != (name, digest):
        taught, weights = query.taught_by
        learned = (
            f"learned from {taught} with the weights {weights}"
            if taught
            else "learned from no other"
        )
        raise BadOption(
            f"{query.card.name} {learned}; its descriptors say nothing beside those of {name} "
            f"with the weights {digest}"
        )
    return AsymmetricNearest(database, query, ratio)


def open_asymmetric(
    *,
    database: str = "aliked",
    max_keypoints: int = DEFAULT_KEYPOINTS,
    ratio: float | None = None,
    weights: str = "",
    query_weights: str = "",
    device: str = "cpu",
) -> AsymmetricNearest:
    """The own small network asks in maps of a registered extractor, whose weights are `weights`;
    `query_weights` are its own.

    Raises `BadOption`, `MissingExtra`, and as `whence.models.checkpoints.origins.get_weights`.
    """
    from whence.models.local.networks import open_extractor

    large = open_extractor(database, max_keypoints=max_keypoints, weights=weights, device=device)
    small = open_own_features(max_keypoints=max_keypoints, weights=query_weights)
    return pair_extractors(
        small, large, name=database, digest=large.digest, ratio=1.0 if ratio is None else ratio
    )
