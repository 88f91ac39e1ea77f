"""Two descriptors in one: what a network sees of a photo as a whole, and the words of its
keypoints, side by side.

The inner product of two such vectors is the weighted sum of both similarities, so one index
searches both at once. The two fail on different photos: light and season change keypoints, another
point of view changes what a network sees.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import cv2
import numpy as np

from whence.data.images import shrink_smoothly
from whence.models.lite import Kind, LiteDescriptor
from whence.models.local.sift import LocalDescriptors, RootSift
from whence.models.pca import to_unit_length
from whence.models.remembered import Remembered
from whence.models.vlad import Vlad
from whence.parts import Descriptor
from whence.runtime import in_chunks, map_threads

WORDS_DIM = 512
WORDS_WEIGHT = 2.0
"""What the similarity of words counts beside that of each part of the network's descriptor."""
SIDE_PX = 320
"""Long side of the photos that the network sees."""


class _Seen(NamedTuple):
    """What the two make a photo's descriptor of."""

    raw: dict[str, np.ndarray]
    """Parts (1, E) as `LiteDescriptor.raw` gives them."""
    local: LocalDescriptors


class Joined(Descriptor):
    """A network's descriptor, and RootSIFT-VLAD half whitened to 512 numbers, weighted, of unit
    length as a whole.

    Photos come at the size that keypoints need, and are shrunk for the network. What was found on
    the photos it is fitted on is remembered, at most 290 kB of each, until they are described,
    which then costs next to nothing.
    """

    min_photos = 1

    def __init__(self, kind: Kind, *, weights: str | None = None) -> None:
        self.sight = LiteDescriptor(kind, weights=weights)
        self.local: RootSift = RootSift(max_keypoints=2000)
        self.words = Vlad(
            extractor=self.local, pca_dim=WORDS_DIM, is_half_whitened=True, packaged="rootsift-vlad"
        )
        self.dim = self.sight.dim + WORDS_DIM
        self.state_bytes = self.sight.state_bytes + self.words.state_bytes
        self._remembered: Remembered[_Seen] = Remembered()

    @property
    def is_fitted(self) -> bool:  # type: ignore[override]
        return self.words.is_fitted and self.sight.is_fitted

    def describe(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """Descriptors (N, D) float32 of unit length. Raises `NotFitted`, and as the network."""
        rows = [descriptor for descriptor, _ in self.describe_with_local(images)]
        return np.stack(rows) if rows else np.zeros((0, self.dim), np.float32)

    def describe_with_local(
        self, images: Sequence[np.ndarray]
    ) -> list[tuple[np.ndarray, LocalDescriptors]]:
        """For each image its descriptor (D,) and the local descriptors that are in it."""
        if not len(images):
            return []
        self.sight.require_fitted()
        seen = self._look(images)
        raw = {part: np.concatenate([one.raw[part] for one in seen]) for part in self.sight.parts}
        sight = self.sight.whitened(raw)
        words = np.stack([self.words.pool(one.local) for one in seen])
        # The network's vector is of unit length as a whole; its first parts are to count one each.
        rows = to_unit_length(np.hstack([sight * self.sight.length, words * WORDS_WEIGHT]))
        return list(zip(np.asarray(rows, np.float32), [one.local for one in seen], strict=True))

    def _look(self, images: Sequence[np.ndarray]) -> list[_Seen]:
        """What is found on each image; what was remembered of one is forgotten with that."""
        found = [self._remembered.take(image) for image in images]
        new = [image for image, one in zip(images, found, strict=True) if one is None]
        raw = self.sight.raw([_shrunk(image) for image in new])
        fresh = (
            _Seen({part: rows[i : i + 1] for part, rows in raw.items()}, local)
            for i, local in enumerate(map_threads(self.local.extract, new))
        )
        return [
            next(fresh) if one is None else one._replace(local=one.local.with_descriptors())
            for one in found
        ]

    def fit(self, images: Iterable[np.ndarray], *, seed: int) -> None:
        """Fit words and whitenings on a stream of uint8 images, in one pass. Raises `NotFitted` for
        none."""
        self._remembered.clear()
        raws: list[dict[str, np.ndarray]] = []

        def found() -> Iterator[LocalDescriptors]:
            for batch in in_chunks(images, self.batch_size):
                for image, one in zip(batch, self._look(batch), strict=True):
                    raws.append(one.raw)
                    yield one.local
                    self._remembered.put(image, one._replace(local=one.local.without_descriptors()))

        self.words.fit_local(found(), seed=seed)
        self.sight.fit_raw(raws)

    def load_packaged(self) -> None:
        """Take words and whitening that come with Whence."""
        self._remembered.clear()
        self.sight.load_packaged()
        self.words.load_packaged()

    def state(self) -> dict[str, np.ndarray]:
        """Arrays of the fitted state. Raises `NotFitted`."""
        return {
            **self.sight.state(),
            **{f"words_{name}": array for name, array in self.words.state().items()},
        }

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Take over what another instance fitted. Raises `BadOption` where shapes do not fit."""
        self._remembered.clear()
        of_words = {
            name.removeprefix("words_"): array
            for name, array in state.items()
            if name.startswith("words_")
        }
        self.words.load_state(of_words)
        self.sight.load_state(
            {name: array for name, array in state.items() if not name.startswith("words_")}
        )


def open_joined(kind: Kind, *, weights: str | None = None) -> Joined:
    """The descriptor that joins the network's of this kind with words; `weights` names a file of
    the network."""
    return Joined(kind, weights=weights)


def _shrunk(image: np.ndarray) -> np.ndarray:
    """The image (H, W, 3) with a long side of `SIDE_PX`."""
    height, width = image.shape[:2]
    scale = SIDE_PX / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return (
        shrink_smoothly(image, size)
        if scale < 1
        else cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
    )
