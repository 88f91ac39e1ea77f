"""Quadrilaterals, homographies and warps as tensors, for batches and with gradients: what GeoWarp
learns with.

Coordinates and corners are those of `whence.models.warp.quads`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from whence.models.warp.quads import FRAME, Sampling, grid_points, is_sound


def frame(*, like: Tensor) -> Tensor:
    """The whole image as a quadrilateral (4, 2), of the type and on the device of `like`."""
    return torch.tensor(FRAME, dtype=like.dtype, device=like.device)


def homography_to(quads: Tensor) -> Tensor:
    """The homographies (B, 3, 3) that map the whole image onto quadrilaterals (B, 4, 2), their last
    element 1.

    Four points determine them exactly, so the linear system of eight equations is solved; gradients
    are finite wherever the quadrilateral is not degenerate. Degenerate ones give numbers that mean
    nothing, not errors: see `is_sound`.
    """
    corners = frame(like=quads)
    x, y = corners[:, 0].expand(len(quads), 4), corners[:, 1].expand(len(quads), 4)
    u, v = quads[..., 0], quads[..., 1]
    zero, one = torch.zeros_like(u), torch.ones_like(u)
    rows_u = torch.stack([x, y, one, zero, zero, zero, -u * x, -u * y], dim=-1)
    rows_v = torch.stack([zero, zero, zero, x, y, one, -v * x, -v * y], dim=-1)
    solution = torch.linalg.solve_ex(
        torch.cat([rows_u, rows_v], dim=1), torch.cat([u, v], dim=1)[..., None]
    ).result
    return torch.cat([solution[..., 0], one[:, :1]], dim=1).reshape(-1, 3, 3)


def map_points(homographies: Tensor, points: Tensor) -> Tensor:
    """Points (B, N, 2) mapped by homographies (B, 3, 3)."""
    mapped = nn.functional.pad(points, (0, 1), value=1.0) @ homographies.transpose(1, 2)
    return mapped[..., :2] / mapped[..., 2:]


def into_quad(points: Tensor, quads: Tensor) -> Tensor:
    """Where points (B, N, 2) of images lie once quadrilaterals (B, 4, 2) of these images are
    stretched to the whole frame."""
    return map_points(torch.linalg.inv(homography_to(quads)), points)


def sound_or_frame(quads: Tensor) -> Tensor:
    """The quadrilaterals (B, 4, 2), the whole image in place of those that are not sound."""
    return torch.where(is_sound(quads)[:, None, None], quads, frame(like=quads))


def warp(
    maps: Tensor,
    quads: Tensor,
    *,
    size: tuple[int, int] | None = None,
    sampling: Sampling = "exact",
) -> Tensor:
    """Quadrilaterals (B, 4, 2) cut out of images or maps (B, C, H, W) and stretched to `size` (h,
    w), by default their own.

    Bilinear, zero outside. Gradients flow to the maps and to the quadrilaterals.
    """
    h, w = size or (maps.shape[2], maps.shape[3])
    on_grid = torch.tensor(grid_points((h, w), sampling), dtype=quads.dtype, device=quads.device)
    points = on_grid.expand(len(quads), -1, -1)
    positions = map_points(homography_to(quads), points).reshape(-1, h, w, 2)
    return nn.functional.grid_sample(maps, positions.to(maps.dtype), align_corners=False)


def mirror_quads(quads: Tensor) -> Tensor:
    """Quadrilaterals (B, 4 n, 2) on the same images mirrored left to right: x negated, left and
    right corners swapped."""
    swapped = quads.unflatten(1, (-1, 2)).flip(2).flatten(1, 2)
    return swapped * torch.tensor([-1.0, 1.0], dtype=quads.dtype, device=quads.device)
