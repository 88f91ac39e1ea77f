"""What computes a comparison: the maps of photos and the quadrilaterals of pairs. Here by
onnxruntime or OpenCV, without torch.

`whence.models.warp.torch_engine` does the same by torch, for any backbone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

import numpy as np

from whence.errors import UnreadableWeights
from whence.models.checkpoints.origins import get_weights
from whence.models.engines.lite_graph import MULTIPLE_PX, open_maps
from whence.models.engines.onnx_graph import Run
from whence.models.lite import OWN
from whence.models.warp.cells import GRID, match_both_orders
from whence.models.warp.quads import Quads, Sampling, cut
from whence.models.warp.regressor import open_regressor
from whence.registry import get_card

Computing = Literal["float32", "bfloat16"]
LITE_BLOCK = 10
"""The block of EfficientNet-Lite0 whose map is compared: 112 channels, 16 pixels apart."""
LITE_BACKBONE = f"efficientnet_lite0_block{LITE_BLOCK}"


class WarpEngine(Protocol):
    """What makes maps of photos and finds quadrilaterals from their cells. Arrays go in and come
    out."""

    @property
    def grid(self) -> tuple[int, int]: ...

    @property
    def backbone_key(self) -> str:
        """The backbone's name and a digest of its weights, and what it computes in."""

    @property
    def regressor_key(self) -> str:
        """A digest of the regressor's weights, and how quadrilaterals are cut out of pixels."""

    def nearest(self, height: int, width: int) -> tuple[int, int]:
        """The size of images that the backbone takes nearest to this one."""

    def maps(self, images: np.ndarray) -> np.ndarray:
        """Maps (B, C, h, w) float32 of uint8 images (B, H, W, 3)."""

    def maps_of_quads(self, images: np.ndarray, quads: np.ndarray) -> np.ndarray:
        """The same of sound quadrilaterals (B, 4, 2) cut out of images and stretched to their
        size."""

    def quads(self, first: np.ndarray, others: np.ndarray) -> Quads[np.ndarray]:
        """Quadrilaterals of one image and B others from cells (h w, C) and (B, h w, C), the mean of
        both orders."""


class MapSource(NamedTuple):
    """A network's map without torch, and how the network takes pixels."""

    run: Run
    """From normalised images (B, 3, H, W) to one map (B, C, h, w)."""
    mean: tuple[float, ...]
    std: tuple[float, ...]
    multiple_px: int
    """What sides of images are multiples of."""
    key: str
    """Its name and a digest of its weights."""


def open_lite_maps(weights: str | Path | None = None) -> MapSource:
    """Maps of EfficientNet-Lite0 as it was released, out of the packaged network, or of another
    ONNX file with its block.

    Raises as `get_weights`, and `UnreadableWeights` for a file that has no such block.
    """
    card = get_card(OWN)
    file = get_weights(card, weights=weights)[0]
    model = Path(file).read_bytes()
    try:
        run = open_maps(model, (LITE_BLOCK,))
    except Exception as error:  # Both runners have errors of their own.
        raise UnreadableWeights(file, f"no network of this kind: {str(error)[:200]}") from None
    steps = card.preprocessing
    return MapSource(
        run,
        steps.mean,
        steps.std,
        MULTIPLE_PX,
        f"{LITE_BACKBONE}-{hashlib.blake2b(model, digest_size=6).hexdigest()}",
    )


class CoreEngine:
    """A `WarpEngine` by onnxruntime where that is installed, else by OpenCV."""

    def __init__(
        self,
        source: MapSource,
        regressor: Mapping[str, np.ndarray],
        sampling: Sampling = "exact",
        *,
        grid: tuple[int, int] = GRID,
    ) -> None:
        """`regressor` has its weights by name, as `whence.models.warp.regressor.read_regressor`
        gives them."""
        self.source, self.regressor, self.sampling, self.grid = source, regressor, sampling, grid
        self._regress = open_regressor(regressor, grid=grid)
        self._scale = np.array([1 / (255 * std) for std in source.std], np.float32)
        self._shift = np.array(
            [-mean / std for mean, std in zip(source.mean, source.std, strict=True)], np.float32
        )

    @property
    def backbone_key(self) -> str:
        return f"{self.source.key}-core"

    @property
    def regressor_key(self) -> str:
        return f"{digest_of(self.regressor)}-{self.sampling}"

    def nearest(self, height: int, width: int) -> tuple[int, int]:
        rows, columns = (
            self.source.multiple_px * max(1, round(side / self.source.multiple_px))
            for side in (height, width)
        )
        return rows, columns

    def maps(self, images: np.ndarray) -> np.ndarray:
        return self._maps_of(self._normalised(images))

    def maps_of_quads(self, images: np.ndarray, quads: np.ndarray) -> np.ndarray:
        pairs = zip(self._normalised(images), quads, strict=True)
        return self._maps_of(
            np.stack([cut(image, quad, sampling=self.sampling) for image, quad in pairs])
        )

    def quads(self, first: np.ndarray, others: np.ndarray) -> Quads[np.ndarray]:
        return mean_of_orders(self._regress(match_both_orders(first, others, grid=self.grid))[0])

    def _normalised(self, images: np.ndarray) -> np.ndarray:
        normalised: np.ndarray = images * self._scale + self._shift
        return normalised

    def _maps_of(self, normalised: np.ndarray) -> np.ndarray:
        return self.source.run(np.ascontiguousarray(normalised.transpose(0, 3, 1, 2)))[0]


def mean_of_orders(outputs: np.ndarray) -> Quads[np.ndarray]:
    """The quadrilaterals of B pairs from what a regressor found (2 B, 16) of both orders, as
    `match_both_orders` has them."""
    forth, back = outputs.reshape(2, -1, 2, 4, 2)
    return Quads((forth[:, 0] + back[:, 1]) / 2, (forth[:, 1] + back[:, 0]) / 2)


def digest_of(arrays: Mapping[str, np.ndarray]) -> str:
    """12 hexadecimal digits that stand for weights by name."""
    hashed = hashlib.blake2b(digest_size=6)
    for name in sorted(arrays):
        hashed.update(name.encode())
        hashed.update(np.ascontiguousarray(arrays[name]).tobytes())
    return hashed.hexdigest()
