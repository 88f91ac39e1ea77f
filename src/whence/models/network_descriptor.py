"""A network as a descriptor: preprocessing as its card says, on the engine asked for, to unit
vectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from whence.cards import Preprocessing
from whence.errors import BadOption
from whence.models.aggregators.attention import AttentionPool
from whence.models.engines.parity import Prepare, sample_images
from whence.models.engines.torch import Engine, make_engine, resolve_engine
from whence.models.networks import Network, describe_pixels
from whence.parts import Descriptor
from whence.settings import load_settings


class NetworkDescriptor(Descriptor):
    """A network as a `Descriptor`: uint8 images in, unit vectors out, images of one size together.

    What runs the network is an engine (`whence.models.engines.torch`); it is made when the first
    image is described, or when `settings` are asked for.
    """

    def __init__(self, network: Network, *, batch_size: int = 8) -> None:
        self.network = network.eval()
        self.batch_size = batch_size
        self.dim, self.least_side_px = network.dim, network.backbone.size_rule.at_least
        self.preprocessing = Preprocessing(interpolation="bilinear")
        self.is_upstream_order = False
        self._crop: bool | None = None
        self._is_resized = True
        self._engine_choice: tuple[str, str | None, str | None] = ("eager", None, None)
        self._engine: Engine | None = None

    def configure(
        self,
        preprocessing: Preprocessing,
        *,
        engine: str = "auto",
        onnx: str | None = None,
        onnx_hash: str | None = None,
        upstream_order: bool = False,
        crop: bool | None = None,
        resize: bool = True,
    ) -> None:
        """Preprocess as a card says and run on `engine`, see `whence.models.engines.torch.ENGINES`.

        `onnx` is a file that `whence export` wrote of this model, for the engines that run one;
        with `onnx_hash` it must have that content. `upstream_order` resizes after normalising, in
        float, as the published evaluation code does: for reproducing its numbers to the last digit,
        at a price. `crop` cuts sides to the card's multiples instead of stretching them. Without
        `resize` photos keep their own size, of models that keep their shape anyway. Raises
        `BadOption`.
        """
        if not resize:
            if preprocessing.size_px is not None:
                raise BadOption(
                    "resize=false is for models that keep a photo's shape, and this one takes one "
                    "size"
                )
            preprocessing = replace(preprocessing, short_side_px=None, long_side_px=None)
        if crop is not None:
            if preprocessing.multiple_of == 1:
                raise BadOption(
                    "crop is for models whose photos have sides of certain multiples, and this "
                    "one takes any"
                )
            preprocessing = replace(preprocessing, is_cropped=crop)
        if upstream_order and engine not in ("auto", "eager"):
            raise BadOption(
                "upstream_order reproduces the published numbers and goes with the engine eager, "
                f"not {engine}"
            )
        self.preprocessing = preprocessing
        self._crop, self._is_resized = crop, resize
        self.is_upstream_order = upstream_order
        self._engine_choice = resolve_engine("eager" if upstream_order else engine, onnx, onnx_hash)
        self._engine = None

    @property
    def reading(self) -> Preprocessing:
        """Steps of a photo before `describe` gets its pixels."""
        return (
            Preprocessing(colour=self.preprocessing.colour)
            if self.is_upstream_order
            else self.preprocessing
        )

    @property
    def engine(self) -> Engine:
        """The engine that runs the network. Raises `EngineRefused` where its numbers lie too far
        from the network's own."""
        if self._engine is None:
            name, onnx, _ = self._engine_choice
            self._engine = make_engine(
                name,
                self.network,
                self.prepare,
                samples=sample_images(self.preprocessing),
                onnx=onnx,
                steps=self.preprocessing,
            )
        return self._engine

    @property
    def prepare(self) -> Prepare:
        """From uint8 images to what the network takes."""
        steps = self.preprocessing
        return Prepare(steps.mean, steps.std, steps if self.is_upstream_order else None)

    @property
    def settings(self) -> dict[str, Any]:
        """Settings that the numbers depend on beside the weights, for a database to remember; the
        engine chosen is among it."""
        onnx, onnx_hash = self._engine_choice[1:]
        chosen: dict[str, Any] = {"engine": self.engine.name}
        if onnx is not None:
            chosen |= {"onnx": onnx, "onnx_hash": onnx_hash}
        if self._crop is not None:
            chosen |= {"crop": self._crop}
        if not self._is_resized:
            chosen |= {"resize": False}
        return {**chosen, "upstream_order": True} if self.is_upstream_order else chosen

    def attention(self, image: np.ndarray) -> np.ndarray | None:
        """Weights of the pixels of an image (H, W, 3) uint8 in its descriptor, (H, W) float32 above
        0; None without attention."""
        pool = self.network.aggregator
        if not isinstance(pool, AttentionPool):
            return None
        with torch.inference_mode():
            weights = pool.weights(
                self.network.features(self.prepare(torch.from_numpy(np.array(image[None]))))
            )
            if weights is None:
                return None
            large = nn.functional.interpolate(
                weights.float(), size=image.shape[:2], mode="bilinear", align_corners=True
            )
        return np.asarray(large[0, 0].numpy())

    def describe(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """Descriptors (N, D) float32 of unit length, in the order of the images; sizes may
        differ."""
        descriptors = np.zeros((len(images), self.dim), np.float32)
        by_shape: dict[tuple[int, ...], list[int]] = {}
        for i, image in enumerate(images):
            by_shape.setdefault(image.shape, []).append(i)
        for rows in by_shape.values():
            found = describe_pixels(
                self.engine,
                rows,
                batch_size=load_settings().batch_size or self.batch_size,
                read=lambda batch: np.stack([images[i] for i in batch]),
            )
            descriptors[rows] = nn.functional.normalize(found, dim=1).numpy()
        return descriptors
