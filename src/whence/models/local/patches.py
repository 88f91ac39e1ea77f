"""Descriptors of square patches of several sizes, pooled out of a network's map.

The patches are those of Patch-NetVLAD (Hausler et al., CVPR 2021).

A patch is the mean of its cells' unit vectors; the NetVLAD of each patch and its projection to
4,096 dimensions, which the authors use, are not here. What is kept of a photo is the map; patches
are made of it when it is compared.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import numpy as np
import torch
from torch import nn

from whence.data.images import shrink_smoothly
from whence.errors import BadOption
from whence.models.backbones.base import Backbone
from whence.models.checkpoints.files import weights_digest
from whence.models.preprocessing import normalise
from whence.models.zoo import named_network

PATCH_CELLS = (2, 5, 8)


class PatchExtractor:
    """Patches of a backbone's map, stride one cell."""

    def __init__(self, backbone: Backbone, *, sizes: tuple[int, ...] = PATCH_CELLS) -> None:
        if not sizes or min(sizes) < 1:
            raise BadOption(f"patches are of at least one cell, not {sizes}")
        self.backbone, self.sizes = backbone.eval(), sizes
        self._device = next(backbone.parameters()).device

    @cached_property
    def key(self) -> str:
        """The settings as text."""
        return (
            f"patches-{self.backbone.name}-{weights_digest(self.backbone)}-"
            f"{'-'.join(map(str, self.sizes))}"
        )

    @torch.inference_mode()
    def prepare(self, image: np.ndarray) -> dict[str, np.ndarray]:
        """The map (C, h, w) of a uint8 image (H, W, 3), cells of unit length as float16, and the
        image's width and height."""
        height, width = self.backbone.size_rule.nearest(*image.shape[:2])
        pixels = torch.from_numpy(np.ascontiguousarray(shrink_smoothly(image, (width, height))))[
            None
        ].to(self._device)
        cells = nn.functional.normalize(self.backbone(normalise(pixels)).map[0], dim=0)
        return {
            "map": cells.half().cpu().numpy(),
            "image_size_px": np.array((image.shape[1], image.shape[0]), np.int32),
        }

    @torch.inference_mode()
    def patches(self, arrays: Mapping[str, np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
        """For each size the patches' centres (N, 2) in pixels and their unit descriptors (N, C);
        none above the map."""
        cells = torch.from_numpy(np.array(arrays["map"])).float()[None]
        size = arrays["image_size_px"].astype(np.float64)
        rows, columns = cells.shape[-2:]
        step = size / (columns, rows)
        found = []
        for side in self.sizes:
            if side > min(rows, columns):
                found.append(
                    (np.zeros((0, 2), np.float32), np.zeros((0, cells.shape[1]), np.float32))
                )
                continue
            pooled = nn.functional.normalize(
                nn.functional.avg_pool2d(cells, side, stride=1), dim=1
            )[0]
            y, x = np.mgrid[: pooled.shape[1], : pooled.shape[2]]
            centres = (np.stack([x.ravel(), y.ravel()], axis=1) + side / 2) * step - 0.5
            found.append((centres.astype(np.float32), pooled.flatten(1).T.contiguous().numpy()))
        return found


def open_patch_extractor(model: str, *, weights: str = "", device: str = "cpu") -> PatchExtractor:
    """Patches of a registered network's backbone. Raises as `whence.models.zoo.named_network`."""
    return PatchExtractor(named_network(model, weights=weights or None).backbone.to(device))
