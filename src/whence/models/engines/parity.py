"""What an engine is checked by: cosines on sample images; and the folding of batch norms that
several share."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from whence.cards import Preprocessing
from whence.models.preprocessing import normalise, resize_normalised, target_size

MIN_COSINE = 0.99
"""Below this an engine is refused: its descriptors are no longer the model's."""
NUM_SAMPLES = 2
DEFAULT_SIDE_PX = 320
"""Side of sample images for models that take any size."""


class Prepare(NamedTuple):
    """From uint8 images (B, H, W, 3) to what a network takes: normalised, and resized only now
    where `resize` says how."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    resize: Preprocessing | None = None

    def __call__(self, images: Tensor) -> Tensor:
        prepared = normalise(images, mean=self.mean, std=self.std)
        return (
            prepared
            if self.resize is None
            else resize_normalised(prepared.contiguous(), self.resize)
        )


def min_cosine(estimate: Tensor, reference: Tensor) -> float:
    """The smallest cosine between rows; NaN where a row is not finite."""
    return float(nn.functional.cosine_similarity(estimate.double(), reference.double()).min())


def sample_images(steps: Preprocessing) -> Tensor:
    """Images (n, H, W, 3) uint8 with structure at every scale, the same at every call, in a size
    that `steps` lead to."""
    height, width = target_size((DEFAULT_SIDE_PX, DEFAULT_SIDE_PX), steps)
    random = np.random.default_rng(0)
    images = np.empty((NUM_SAMPLES, height, width, 3), np.uint8)
    for image in images:
        scene = np.full((height, width, 3), random.uniform(90, 160), np.float32)
        for octave in range(1, 8):
            grid = random.normal(0, 45 / octave, (2**octave, 2**octave, 3)).astype(np.float32)
            way = cv2.INTER_NEAREST if octave % 2 else cv2.INTER_LINEAR
            scene += cv2.resize(grid, (width, height), interpolation=way)
        image[:] = np.clip(scene, 0, 255)
    return torch.from_numpy(images)


def fold_batch_norms(network: nn.Module, images: Tensor) -> int:
    """The number of batch norms that take a convolution's output, each merged into that
    convolution.

    Which follows which is seen in one forward of normalised `images`, so it does not matter how a
    network is written.
    """
    outputs: dict[int, tuple[Tensor, str]] = {}
    pairs: list[tuple[str, str]] = []
    names = {module: name for name, module in network.named_modules()}

    def after_convolution(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        outputs[id(output)] = (output, names[module])

    def before_norm(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if id(inputs[0]) in outputs:
            pairs.append((outputs[id(inputs[0])][1], names[module]))

    with _hooks() as hooks:
        for module in network.modules():
            if type(module) is nn.Conv2d:
                hooks.append(module.register_forward_hook(after_convolution))
            elif type(module) is nn.BatchNorm2d:
                hooks.append(module.register_forward_pre_hook(before_norm))
        # Not inference mode: there tensors that views share would not be told apart.
        with torch.no_grad():
            network(images)
    once = {
        name
        for name in {a for pair in pairs for a in pair}
        if sum(name in pair for pair in pairs) == 1
    }
    folded = [pair for pair in pairs if set(pair) <= once]
    for convolution, norm in folded:
        fused = fuse_conv_bn_eval(network.get_submodule(convolution), network.get_submodule(norm))  # type: ignore[arg-type, type-var]
        network.set_submodule(convolution, fused)
        network.set_submodule(norm, nn.Identity())
    return len(folded)


@contextlib.contextmanager
def _hooks() -> Iterator[list[torch.utils.hooks.RemovableHandle]]:
    handles: list[torch.utils.hooks.RemovableHandle] = []
    try:
        yield handles
    finally:
        for handle in handles:
            handle.remove()
