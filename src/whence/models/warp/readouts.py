"""From two quadrilaterals to similar cells: read out of pixels through the backbone, or out of the backbone's maps directly.

What a photo keeps for this is packed into arrays, as float16 or as 8-bit codes with one scale per position.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from whence.models.preprocessing import normalise
from whence.models.warp.geometry import grid_points, homography_to, map_points
from whence.models.warp.model import GeoWarp, pool_cells, to_unit

Storage = Literal["float16", "int8"]
_STEPS = 2
"""Samples per cell and direction when a map is read."""


@dataclass(frozen=True, slots=True, eq=False)
class DenseMap:
    """A backbone's map of one image, position by position: row r of column c is row `r w + c`."""

    rows: Tensor
    """(h w, C) float16 or int8."""
    scale: Tensor
    """(h w,) float32: what each row is multiplied by."""
    size: tuple[int, int]
    """Rows and columns (h, w)."""

    @property
    def map(self) -> Tensor:
        """The map (1, C, h, w) float32."""
        values = self.rows.float() * self.scale[:, None]
        return values.T.unflatten(1, self.size)[None]

    @classmethod
    def of(cls, one_map: Tensor, *, storage: Storage) -> DenseMap:
        """A map (C, h, w) in the precision it is kept in."""
        size = (one_map.shape[1], one_map.shape[2])
        values = one_map.flatten(1).T.float().contiguous()
        scale = values.abs().amax(dim=1).clamp(min=1e-12)
        if storage == "int8":
            scale = scale / 127
            return cls((values / scale[:, None]).round().to(torch.int8), scale, size)
        # Divided by the largest value, so that no network's range exceeds that of float16.
        return cls((values / scale[:, None]).half(), scale, size)

    def to_arrays(self, name: str) -> dict[str, np.ndarray]:
        """The map as arrays to be kept under names that begin with `name`."""
        return {
            name: self.rows.cpu().numpy(),
            f"{name}_scale": self.scale.cpu().numpy(),
            f"{name}_size": np.array(self.size, np.int32),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray], name: str, *, device: torch.device) -> DenseMap:
        """The map that `to_arrays` gave."""
        h, w = (int(side) for side in arrays[f"{name}_size"])
        rows, scale = (as_tensor(arrays[key]).to(device) for key in (name, f"{name}_scale"))
        return cls(rows, scale, (h, w))


def as_tensor(array: np.ndarray) -> Tensor:
    """The array as a tensor; arrays that may only be read, such as those of a mapped file, are copied."""
    return torch.from_numpy(array if array.flags.writeable else array.copy())


def cells_of_maps(maps: Sequence[DenseMap], owners: Tensor, quads: Tensor, *, grid: tuple[int, int]) -> Tensor:
    """Local descriptors (B, C, h, w) of unit length of quadrilaterals (B, 4, 2), read out of dense maps without any network.

    `owners` (B,) int64 says on which of the maps each quadrilateral lies; the maps may be of any sizes. Each cell is the mean of
    2 x 2 bilinear samples, zero outside. Gradients flow to the quadrilaterals.
    """
    table = torch.cat([one.rows for one in maps])
    lengths = torch.tensor([len(one.rows) for one in maps], device=quads.device)
    sizes = torch.tensor([one.size for one in maps], device=quads.device)[owners]
    first_rows = (lengths.cumsum(0) - lengths)[owners]
    rows, weights = _samples(quads, sizes, grid)
    rows = rows + first_rows[:, None, None]
    weights = weights * torch.cat([one.scale for one in maps])[rows]
    cells = nn.functional.embedding_bag(rows.flatten(0, 1), table.float(), per_sample_weights=weights.flatten(0, 1), mode="sum")
    return to_unit(cells.unflatten(0, (len(quads), *grid)).permute(0, 3, 1, 2))


def _samples(quads: Tensor, sizes: Tensor, grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """For each cell (B, h w, 16) the rows of the map that make it up, and their weights."""
    h, w = grid
    points = grid_points((h * _STEPS, w * _STEPS), sampling="exact", like=quads)
    points = points.reshape(h, _STEPS, w, _STEPS, 2).transpose(1, 2).reshape(1, -1, 2).expand(len(quads), -1, -1)
    at = map_points(homography_to(quads), points)
    sides = sizes.flip(1)[:, None]
    at = ((at + 1) * sides - 1) / 2
    # Far outside nothing is read; the bound keeps the whole numbers in range.
    at = torch.minimum(at.clamp(min=-2), sides + 1.0)
    low = at.detach().floor()
    part = at - low
    rows, weights = [], []
    for step in ((0, 0), (1, 0), (0, 1), (1, 1)):
        offset = torch.tensor(step, device=quads.device)
        position = low.long() + offset
        is_inside = ((position >= 0) & (position < sides)).all(dim=2)
        share = torch.where(offset.bool(), part, 1 - part).prod(dim=2)
        inside = torch.minimum(position.clamp(min=0), sides - 1)
        rows.append(inside[..., 1] * sides[..., 0] + inside[..., 0])
        weights.append(share * is_inside / _STEPS**2)
    shape = (len(quads), h * w, -1)
    return torch.stack(rows, dim=2).reshape(shape), torch.stack(weights, dim=2).reshape(shape)


def cells_of_images(model: GeoWarp, images: Sequence[np.ndarray], quads: Tensor, *, is_bfloat16: bool = False) -> Tensor:
    """Local descriptors (B, C, h, w) of quadrilaterals (B, 4, 2) of uint8 images (H, W, 3), one pass of the backbone each.

    Each is stretched to its own image's size; images of one size go through the backbone together.
    """
    by_shape: dict[tuple[int, ...], list[int]] = {}
    for i, image in enumerate(images):
        by_shape.setdefault(image.shape, []).append(i)
    parts = []
    for rows in by_shape.values():
        pixels = normalised(model, np.stack([images[i] for i in rows]))
        parts.append(pool_cells(dense_maps(model, model.cut(pixels, quads[rows]), is_bfloat16=is_bfloat16), grid=model.grid))
    order = torch.tensor([i for rows in by_shape.values() for i in rows], device=quads.device)
    return torch.cat(parts)[order.argsort()]


def normalised(model: GeoWarp, images: np.ndarray) -> Tensor:
    """uint8 images (B, H, W, 3) as the backbone takes them: (B, 3, H, W), on the model's device."""
    device = next(model.parameters()).device
    return normalise(as_tensor(images).to(device), mean=model.backbone.mean, std=model.backbone.std)


def dense_maps(model: GeoWarp, images: Tensor, *, is_bfloat16: bool = False) -> Tensor:
    """The backbone's maps (B, C, h, w) float32 of normalised images (B, 3, H, W)."""
    images = images.contiguous(memory_format=torch.channels_last)
    with torch.autocast(images.device.type, dtype=torch.bfloat16, enabled=is_bfloat16):
        maps: Tensor = model.backbone(images).map
    return maps.float()
