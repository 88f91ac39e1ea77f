"""EfficientNet-Lite0 of random numbers: its arrays under the authors' names, for tests that need no
meaning and no download."""

from __future__ import annotations

import numpy as np

CHANNELS = (16, 24, 24, 40, 40, 80, 80, 80, 112, 112, 112, 192, 192)
"""Of each block's map."""
SIDES = (3, 3, 3, 5, 5, 3, 3, 3, 5, 5, 5, 5, 5)
"""Of each block's depthwise convolution."""


def random_arrays(*, seed: int = 3) -> dict[str, np.ndarray]:
    """Arrays as a released EfficientNet-Lite0 has them, up to block 12, of random numbers."""
    random = np.random.default_rng(seed)
    arrays: dict[str, np.ndarray] = {}

    def convolution(name: str, norm: str, shape: tuple[int, ...]) -> None:
        arrays[f"{name}.weight"] = (
            random.normal(size=shape) * np.sqrt(2 / np.prod(shape[1:]))
        ).astype(np.float32)
        arrays[f"{norm}.weight"] = random.uniform(0.5, 1.5, shape[0]).astype(np.float32)
        arrays[f"{norm}.bias"] = random.normal(0, 0.3, shape[0]).astype(np.float32)
        arrays[f"{norm}.running_mean"] = random.normal(0, 0.3, shape[0]).astype(np.float32)
        arrays[f"{norm}.running_var"] = random.uniform(0.5, 1.5, shape[0]).astype(np.float32)

    convolution("_conv_stem", "_bn0", (32, 3, 3, 3))
    before = 32
    for number, (channels, side) in enumerate(zip(CHANNELS, SIDES, strict=True)):
        start, inner = f"_blocks.{number}.", before * (6 if number else 1)
        if number:
            convolution(f"{start}_expand_conv", f"{start}_bn0", (inner, before, 1, 1))
        convolution(f"{start}_depthwise_conv", f"{start}_bn1", (inner, 1, side, side))
        convolution(f"{start}_project_conv", f"{start}_bn2", (channels, inner, 1, 1))
        before = channels
    return arrays
