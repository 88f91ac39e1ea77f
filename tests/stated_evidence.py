"""Candidates whose scorer says what it was told to say."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from whence.data.photos import Photos
from whence.localize.prepared_photos import PreparedPhotos
from whence.registry import get_card
from whence.types import Candidate, PairEvidence, Photo


class CountingScorer:
    """Gives each candidate the similarity its arrays state."""

    key = "stated"

    def prepare(self, image: np.ndarray) -> dict[str, np.ndarray]:
        return {"value": np.array(0.0)}

    def score(
        self, query: Mapping[str, np.ndarray], candidates: Iterable[Mapping[str, np.ndarray] | None]
    ) -> Iterator[PairEvidence | None]:
        for arrays in candidates:
            yield (
                None
                if arrays is None
                else PairEvidence(float(arrays["value"]), num_inliers=int(arrays["value"]))
            )


def stated(values: list[float | None]) -> tuple[list[Candidate], PreparedPhotos]:
    """Candidates in retrieval order and what the scorer will say of each; None for a photo that
    cannot be read."""
    photos = Photos.of(
        [Photo(path=f"no such file {i}.jpg", content=f"{i:032x}") for i in range(len(values))]
    )
    given = {
        f"{i:032x}": {"value": np.array(value)}
        for i, value in enumerate(values)
        if value is not None
    }
    prepared = PreparedPhotos(
        CountingScorer(), get_card("inliers", kind="scorer"), photos, arrays=given
    )
    return [Candidate(f"{i}.jpg", i + 1, 1 - 0.1 * i, row=i) for i in range(len(values))], prepared


def names(candidates: Iterable[Candidate]) -> list[str]:
    return [one.photo for one in candidates]
