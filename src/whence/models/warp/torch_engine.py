"""GeoWarp's maps and quadrilaterals by torch: for any backbone of the zoo, on any device, in
bfloat16 too."""

from __future__ import annotations

import copy
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from whence.models.checkpoints.files import fill_module, weights_digest
from whence.models.engines.parity import fold_batch_norms
from whence.models.preprocessing import normalise
from whence.models.warp.engines import Computing, mean_of_orders
from whence.models.warp.model import GeoWarp, Regressor, match_both_orders
from whence.models.warp.quads import Quads

_SAMPLE_PX = 96
"""Side of the image by which batch norms are found."""


class TorchEngine:
    """A `whence.models.warp.engines.WarpEngine` of a model; its backbone computes in `dtype`.

    What runs are copies whose batch norms are folded into the convolutions before them.
    """

    def __init__(self, model: GeoWarp, *, dtype: Computing = "float32") -> None:
        self.model, self.dtype = model.eval(), dtype
        self.device = next(model.parameters()).device
        self._backbone = self._folded(model.backbone, (3, *self.nearest(_SAMPLE_PX, _SAMPLE_PX)))
        self._regressor = self._folded(model.regressor, (self.grid[0] * self.grid[1], *self.grid))

    @property
    def grid(self) -> tuple[int, int]:
        return self.model.grid

    @cached_property
    def backbone_key(self) -> str:
        return f"{self.model.backbone.name}-{weights_digest(self.model.backbone)}-{self.dtype}"

    @cached_property
    def regressor_key(self) -> str:
        return f"{weights_digest(self.model.regressor)}-{self.model.sampling}"

    def nearest(self, height: int, width: int) -> tuple[int, int]:
        return self.model.backbone.size_rule.nearest(height, width)

    @torch.inference_mode()
    def maps(self, images: np.ndarray) -> np.ndarray:
        return self._maps_of(self._normalised(images))

    @torch.inference_mode()
    def maps_of_quads(self, images: np.ndarray, quads: np.ndarray) -> np.ndarray:
        return self._maps_of(
            self.model.cut(self._normalised(images), torch.from_numpy(quads).to(self.device))
        )

    @torch.inference_mode()
    def quads(self, first: np.ndarray, others: np.ndarray) -> Quads[np.ndarray]:
        found: Tensor = self._regressor(
            match_both_orders(self._cells(first[None]), self._cells(others))
        )
        return mean_of_orders(found.cpu().numpy())

    def _folded(self, module: nn.Module, sample: tuple[int, int, int]) -> nn.Module:
        """A copy of the module without batch norms; the module itself where it has none."""
        if any(type(part) is nn.BatchNorm2d for part in module.modules()):
            module = copy.deepcopy(module)
            fold_batch_norms(module, torch.zeros(1, *sample, device=self.device))
        return module.to(memory_format=torch.channels_last)

    def _cells(self, rows: np.ndarray) -> Tensor:
        return torch.from_numpy(rows).to(self.device).transpose(1, 2).unflatten(2, self.grid)

    def _normalised(self, images: np.ndarray) -> Tensor:
        pixels = torch.from_numpy(images if images.flags.writeable else images.copy()).to(
            self.device
        )
        return normalise(pixels, mean=self.model.backbone.mean, std=self.model.backbone.std)

    def _maps_of(self, images: Tensor) -> np.ndarray:
        images = images.contiguous(memory_format=torch.channels_last)
        with torch.autocast(
            images.device.type, dtype=torch.bfloat16, enabled=self.dtype == "bfloat16"
        ):
            maps: Tensor = self._backbone(images).map
        return maps.float().cpu().numpy()


def load_regressor(regressor: Regressor, path: str | Path) -> None:
    """Fill the regressor from a file of weights: every tensor, none left over or missing, after an
    optional `module.`.

    Raises `UnreadableWeights`, and `WeightsMismatch` that lists what does not fit.
    """
    fill_module(regressor, path, what="a GeoWarp regressor")
