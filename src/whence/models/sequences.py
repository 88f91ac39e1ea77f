"""`SequenceModel`: frames to what is kept of each, and sequences of those to descriptors. Any model
of photos by a rule, or a network with a sequence pool of its own.

Frames are described once, however many windows they are in. No torch here but where a network's own
pool is asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol

import numpy as np

from whence.errors import BadOption, UnreadableImage
from whence.models.descriptor import DescriptorModel
from whence.models.sequence_rules import ORDER_FREE, RULES, pool_frames, unit
from whence.runtime import in_chunks, map_threads
from whence.settings import NO_OPTIONS
from whence.types import PhotoSource

OWN = "own"
"""The rule that stands for the network's own sequence pool."""


class SequenceModel(Protocol):
    """What describes sequences. Not every pool gives unit length: compare by Euclidean distance, as
    published."""

    name: str
    is_any_length: bool
    model: DescriptorModel

    def describe_frames(
        self, sources: Iterable[PhotoSource]
    ) -> Iterator[np.ndarray | UnreadableImage]:
        """Arrays kept of each frame, in order, or the error that kept it from being read; a few
        frames in memory at a time."""

    def pool(self, frames: np.ndarray) -> np.ndarray:
        """Descriptors (B, D) float32 of sequences (B, S, ...) of what was kept of their frames.
        Raises `BadOption`."""


class RuleModel:
    """A model of photos, whose unit descriptors of frames are pooled by a rule
    (`whence.models.sequence_rules`)."""

    is_any_length = True

    def __init__(
        self,
        model: DescriptorModel,
        rule: str = "mean",
        *,
        options: Mapping[str, Any] = NO_OPTIONS,
        is_unit: bool = False,
    ) -> None:
        """`is_unit` brings results to unit length. Raises `UnknownName`, `BadOption`."""
        pool_frames(np.ones((1, 2, 2), np.float32), rule, options=options)
        self.model, self.rule, self.options, self.is_unit = model, rule, dict(options), is_unit
        self.name = f"{model.name}+{rule}"

    def describe_frames(
        self, sources: Iterable[PhotoSource]
    ) -> Iterator[np.ndarray | UnreadableImage]:
        """Each frame's descriptor (d,) of unit length."""
        for found in self.model.describe_each(sources):
            yield found if isinstance(found, UnreadableImage) else found.descriptor

    def pool(self, frames: np.ndarray) -> np.ndarray:
        """Descriptors (B, D) of sequences (B, S, d)."""
        pooled = pool_frames(frames, self.rule, options=self.options)
        return np.asarray(unit(pooled) if self.is_unit else pooled, np.float32)


class PooledModel:
    """A network with its own sequence pool: what the pool keeps of each frame, or, for early
    fusion, the frame's pixels."""

    def __init__(self, model: DescriptorModel, *, is_unit: bool = False) -> None:
        """Raises `BadOption` for a model without a sequence pool."""
        network = model.descriptor.network
        if network is None or getattr(network, "sequence", None) is None:
            raise BadOption(
                f"{model.name} has no sequence pool of its own; choose a rule, {', '.join(RULES)}"
            )
        self.model, self.network, self.is_unit = model, network, is_unit
        self.name, self.is_any_length = model.name, bool(network.pool.is_any_length)

    def describe_frames(
        self, sources: Iterable[PhotoSource]
    ) -> Iterator[np.ndarray | UnreadableImage]:
        """Arrays that the pool keeps of each frame; uint8 pixels (H, W, 3) where the network must
        see a sequence together."""
        for read in in_chunks(map_threads(self._read, sources), self.model.batch_size):
            pixels = [one for one in read if isinstance(one, np.ndarray)]
            kept = iter(pixels if self.network.pool.is_early else self._described(pixels))
            for one in read:
                yield one if isinstance(one, UnreadableImage) else next(kept)

    def _read(self, source: PhotoSource) -> np.ndarray | UnreadableImage:
        try:
            return self.model.read(source)
        except UnreadableImage as error:
            return error

    def _described(self, pixels: list[np.ndarray]) -> list[np.ndarray]:
        import torch

        found = []
        with torch.inference_mode():
            for start, end in _runs([image.shape for image in pixels]):
                images = self._prepared(np.stack(pixels[start:end]))
                found += list(self.network.describe_frames(images).float().numpy())
        return found

    def _prepared(self, photos: np.ndarray) -> Any:
        import torch

        from whence.models.preprocessing import normalise

        steps = self.model.card.preprocessing
        return normalise(torch.from_numpy(photos), mean=steps.mean, std=steps.std)

    def pool(self, frames: np.ndarray) -> np.ndarray:
        """Descriptors (B, D) of sequences (B, S, ...) of what `describe_frames` gave."""
        import torch

        with torch.inference_mode():
            if self.network.pool.is_early:
                images = self._prepared(frames.reshape(-1, *frames.shape[2:]))
                pooled = self.network.describe_sequences(images.unflatten(0, frames.shape[:2]))
            else:
                pooled = self.network.pool(torch.from_numpy(frames))
        found: np.ndarray = pooled.float().numpy()
        return np.asarray(unit(found)) if self.is_unit else found


def sequence_model(
    model: DescriptorModel,
    rule: str = "",
    *,
    options: Mapping[str, Any] = NO_OPTIONS,
    is_unit: bool = False,
) -> RuleModel | PooledModel:
    """The model of sequences: by its own pool ("own", or "" where it has one), else by a rule, by
    default the mean.

    Raises `UnknownName`, and `BadOption` for a model without a pool of its own.
    """
    has_own = bool(model.card.sequence)
    if rule == OWN or (not rule and has_own):
        if options:
            raise BadOption(
                f"{model.name} pools sequences as its card says; options go with a rule"
            )
        return PooledModel(model, is_unit=is_unit)
    return RuleModel(model, rule or "mean", options=options, is_unit=is_unit)


def needs_order(model: SequenceModel) -> bool:
    """Whether frames in another order give another descriptor, as far as the rule's name says."""
    rule = getattr(model, "rule", model.model.card.sequence)
    return rule not in ORDER_FREE and rule != "seqvlad"


def _runs(shapes: list[tuple[int, ...]]) -> Iterator[tuple[int, int]]:
    """Starts and ends of runs of equal shapes."""
    start = 0
    for end in range(1, len(shapes) + 1):
        if end == len(shapes) or shapes[end] != shapes[start]:
            yield start, end
            start = end
