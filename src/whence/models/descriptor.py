"""`DescriptorModel`: a descriptor, its card, and the preprocessing the card asks for. What evaluation and the localizer use."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from whence.data.images import load_image, load_resized
from whence.errors import BadOption, UnreadableImage
from whence.models.vlad import Vlad
from whence.registry import ModelCard, Preprocessing, build, get_card
from whence.runtime import map_threads
from whence.types import Descriptor

Source = str | Path | bytes | np.ndarray
"""A photo file, its bytes, or pixels: uint8 (H, W, 3) RGB."""

NUM_SAMPLE_PHOTOS = 500
"""Photos a fitted descriptor looks at when it is fitted on a database."""


class Described(NamedTuple):
    """One photo's descriptor (D,) and, where asked for, its local descriptors as arrays to be kept."""

    descriptor: np.ndarray
    local: dict[str, np.ndarray] | None = None


class DescriptorModel:
    """Turns photos into global descriptors (N, D) float32, with the preprocessing of its card.

    >>> model = load_model("rootsift-vlad")
    >>> model.load_packaged()
    >>> model.describe([np.zeros((60, 80, 3), np.uint8)]).shape
    (1, 8192)
    """

    def __init__(self, card: ModelCard, descriptor: Descriptor, *, options: Mapping[str, Any] | None = None) -> None:
        self.card = card
        self.descriptor = descriptor
        self.options = dict(options or {})

    @property
    def name(self) -> str:
        return self.card.name

    @property
    def dim(self) -> int:
        return self.descriptor.dim

    @property
    def is_fitted(self) -> bool:
        return self.descriptor.is_fitted

    @property
    def min_photos_to_fit(self) -> int:
        """Photos below which fitting makes no sense and the packaged state is used; 0 for models that are not fitted."""
        return self.descriptor.min_photos() if hasattr(self.descriptor, "min_photos") else 0

    def read(self, source: Source) -> np.ndarray:
        """The photo as the model sees it: uint8 (H, W, 3), upright, resized as the card says. Raises `UnreadableImage`."""
        return read_as(source, self.card.preprocessing)

    def fit(self, sources: Iterable[Source], *, seed: int = 0) -> None:
        """Fit on these photos, read one by one; unreadable ones are passed over. Models that need no fitting do nothing."""
        readable = (image for image in map_threads(self._read_or_error, sources) if isinstance(image, np.ndarray))
        self.descriptor.fit(readable, seed=seed)  # type: ignore[arg-type]

    def load_packaged(self) -> None:
        """Use the state that comes with Whence instead of fitting. Raises `BadOption` where there is none."""
        if not hasattr(self.descriptor, "load_packaged"):
            raise BadOption(f"{self.name} has no packaged state")
        self.descriptor.load_packaged()

    def prepare(self, sources: Sequence[Source], *, seed: int = 0) -> str:
        """Make a model that is not fitted yet ready: fit it on a sample of the photos, or use the packaged state for few photos.

        Gives "fitted", "packaged" or "ready" (nothing to do).
        """
        if self.is_fitted:
            return "ready"
        if len(sources) < self.min_photos_to_fit:
            self.load_packaged()
            return "packaged"
        num_sampled = max(NUM_SAMPLE_PHOTOS, self.min_photos_to_fit)
        chosen = np.linspace(0, len(sources) - 1, min(num_sampled, len(sources))).round().astype(int)
        self.fit((sources[i] for i in chosen), seed=seed)
        return "fitted"

    def describe(self, sources: Sequence[Source]) -> np.ndarray:
        """Descriptors (N, D) float32 of photos or pixels. Raises `UnreadableImage` for the first that cannot be read."""
        descriptors = np.zeros((len(sources), self.dim), np.float32)
        for i, result in enumerate(self.describe_each(sources)):
            if isinstance(result, UnreadableImage):
                raise result
            descriptors[i] = result.descriptor
        return descriptors

    def describe_each(self, sources: Iterable[Source], *, keep_local: bool = False) -> Iterator[Described | UnreadableImage]:
        """For each photo, in order, its descriptor or the error that kept it from being read. Photos decode in parallel.

        `keep_local` hands out the local descriptors too; raises `BadOption` for models that have none.
        """
        if keep_local and not isinstance(self.descriptor, Vlad):
            raise BadOption(f"{self.name} has no local descriptors to keep")
        batch_size = 8
        images: list[np.ndarray | UnreadableImage] = []
        for image in map_threads(self._read_or_error, sources):
            images.append(image)
            if len(images) == batch_size:
                yield from self._describe_batch(images, keep_local=keep_local)
                images = []
        yield from self._describe_batch(images, keep_local=keep_local)

    def _describe_batch(
        self, images: list[np.ndarray | UnreadableImage], *, keep_local: bool
    ) -> Iterator[Described | UnreadableImage]:
        readable = [image for image in images if isinstance(image, np.ndarray)]
        described: Iterator[Described]
        if keep_local and isinstance(self.descriptor, Vlad):
            vlad = self.descriptor
            locals_ = map_threads(vlad.extractor.extract, readable)
            described = (Described(vlad.pool(local), local.to_arrays()) for local in locals_)
        else:
            described = (Described(row) for row in self.descriptor.describe(readable))
        for image in images:
            yield next(described) if isinstance(image, np.ndarray) else image

    def _read_or_error(self, source: Source) -> np.ndarray | UnreadableImage:
        try:
            return self.read(source)
        except UnreadableImage as error:
            return error


def read_as(source: Source, steps: Preprocessing) -> np.ndarray:
    """A photo or pixels as a card asks for: uint8 (H, W, 3), upright, resized. Raises `UnreadableImage` and `BadOption`."""
    if not isinstance(source, np.ndarray):
        if steps.long_side_px is None:
            return load_image(source)
        return load_resized(source, long_side_px=steps.long_side_px, enlarge=steps.enlarge)
    if source.dtype != np.uint8 or source.ndim != 3 or source.shape[2] != 3 or 0 in source.shape:
        raise BadOption(f"pixels must be uint8 (H, W, 3), not {source.dtype} {source.shape}")
    return _resized(source, steps)


def load_model(name: str, *, options: Mapping[str, Any] | None = None) -> DescriptorModel:
    """The model of this name, ready to describe, or to be fitted where its card says so.

    `options` are the model's own settings, for example {"pca_dim": 256}. Raises `UnknownName` with the nearest names, and
    `BadOption` for settings the model does not have.
    """
    card = get_card(name)
    descriptor = build("model", name, options=options)
    return DescriptorModel(card, descriptor, options=options)


def _resized(image: np.ndarray, steps: Preprocessing) -> np.ndarray:
    height, width = image.shape[:2]
    if steps.long_side_px is None or max(height, width) == steps.long_side_px:
        return image
    scale = steps.long_side_px / max(height, width)
    if scale > 1 and not steps.enlarge:
        return image
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
