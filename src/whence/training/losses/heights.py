"""Losses over height maps of two views: MorseDet's, by persistence, and the loss over patches that
it is compared with.

The exact form of MorseDet's similarity is not published; this one is rebuilt from what is:
prominent hills are rewarded by their persistence squared, each as far as it is worth, and what the
other view lacks of a hill's two ends is paid for, `alpha` times. After Barbarani et al. (ICML
2024); the patches after Revaud et al. (R2D2, NeurIPS 2019).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from whence.models.local.persistence import Hills, find_hills


class HillLoss(NamedTuple):
    """What the hills of some pairs of views come to."""

    total: Tensor
    """The sum over hills; divide it by their number."""
    num_hills: int


def hills_of(heights: Tensor) -> list[Hills]:
    """The hills of each map of (B, H, W); no gradient flows through which they are. Raises as
    `find_hills`."""
    return [find_hills(one) for one in heights.detach().double().cpu().numpy()]


def persistence_loss(
    first: Tensor, second: Tensor, matrix: Tensor, *, alpha: float, hills: Hills | None = None
) -> HillLoss:
    """The loss of the hills of one map (H, W) that another one shows too, mapped onto it by a
    homography (3, 3).

    Of a hill of persistence p, whose top and saddle are d and b away in height from what the other
    map has there, it is p (alpha (d^2 + b^2) - p). Hills of which an end lies beyond the other map
    do not count.
    """
    hills = hills_of(first[None])[0] if hills is None else hills
    tops, saddles = (torch.from_numpy(ends).to(first.device) for ends in hills)
    places = [_mapped(ends, first.shape[1], matrix) for ends in (tops, saddles)]
    height, width = second.shape
    limit = torch.tensor([width - 1, height - 1], device=first.device)
    seen = torch.stack([((place >= 0) & (place <= limit)).all(dim=1) for place in places]).all(
        dim=0
    )
    if not bool(seen.any()):
        return HillLoss(first.sum() * 0, 0)
    flat = first.flatten()
    own = [flat[ends[seen]] for ends in (tops, saddles)]
    other = [_read_between(second, place[seen]) for place in places]
    persistences = own[0] - own[1]
    apart = sum((one - two).square() for one, two in zip(own, other, strict=True))
    return HillLoss((persistences * (alpha * apart - persistences)).sum(), int(seen.sum()))


def both_views(first: Tensor, second: Tensor, matrices: Tensor, *, alpha: float) -> Tensor:
    """The mean of `persistence_loss` over all hills of maps (B, H, W) of two views, each mapped
    onto the other."""
    found: list[HillLoss] = []
    hills: Sequence[tuple[Hills, Hills]] = list(zip(hills_of(first), hills_of(second), strict=True))
    for number, matrix in enumerate(matrices):
        ways = (
            (first[number], second[number], matrix),
            (second[number], first[number], torch.linalg.inv(matrix)),
        )
        found += [
            persistence_loss(*way, alpha=alpha, hills=own)
            for way, own in zip(ways, hills[number], strict=True)
        ]
    return torch.stack([one.total for one in found]).sum() / max(
        1, sum(one.num_hills for one in found)
    )


def patch_loss(first: Tensor, second: Tensor, matrices: Tensor, *, patch_px: int) -> Tensor:
    """The loss over patches of maps (B, H, W): they should be alike where the views show the same,
    and have one high point each."""
    height, width = first.shape[-2:]
    rows, columns = torch.meshgrid(
        torch.arange(height, dtype=first.dtype, device=first.device),
        torch.arange(width, dtype=first.dtype, device=first.device),
        indexing="ij",
    )
    grid = torch.stack([columns, rows, torch.ones_like(rows)], dim=-1).reshape(-1, 3) @ matrices.to(
        first
    ).transpose(1, 2)
    places = (grid[..., :2] / grid[..., 2:]).reshape(-1, height, width, 2)
    size = torch.tensor([width, height], dtype=first.dtype, device=first.device)
    scaled = (2 * places + 1) / size - 1
    warped = nn.functional.grid_sample(second[:, None], scaled, align_corners=False)
    seen = ((places >= 0) & (places <= size - 1)).all(dim=-1)[:, None].to(first)
    patches = [
        nn.functional.unfold(one * seen, patch_px, stride=max(1, patch_px // 2))
        for one in (first[:, None], warped)
    ]
    whole = nn.functional.unfold(seen, patch_px, stride=max(1, patch_px // 2)).mean(dim=1) > 0.5
    cosines = nn.functional.cosine_similarity(patches[0], patches[1], dim=1)
    unlike = 1 - (cosines * whole).sum() / whole.sum().clamp(min=1)
    return unlike + (_flatness(first, patch_px) + _flatness(second, patch_px)) / 2


def _flatness(heights: Tensor, patch_px: int) -> Tensor:
    """1 less the mean gap between the highest and the mean height of a patch, of a map smoothed
    over 3 pixels."""
    smooth = nn.functional.avg_pool2d(heights[:, None], 3, 1, 1)
    side = patch_px + 1 - patch_px % 2
    highest = nn.functional.max_pool2d(smooth, side, 1, side // 2)
    mean = nn.functional.avg_pool2d(smooth, side, 1, side // 2, count_include_pad=False)
    return 1 - (highest - mean).mean()


def _mapped(pixels: Tensor, width: int, matrix: Tensor) -> Tensor:
    """(M, 2) where pixels of a map so wide, by number, lie on the other."""
    homogeneous = (
        torch.stack([pixels % width, pixels // width, torch.ones_like(pixels)], dim=1).to(matrix)
        @ matrix.T
    )
    return homogeneous[:, :2] / homogeneous[:, 2:]


def _read_between(heights: Tensor, places: Tensor) -> Tensor:
    """(M,) heights of a map (H, W) at places (M, 2) on it, bilinearly."""
    size = torch.tensor(
        [heights.shape[1], heights.shape[0]], device=heights.device, dtype=places.dtype
    )
    grid = ((2 * places + 1) / size - 1).to(heights)
    return nn.functional.grid_sample(
        heights[None, None], grid[None, :, None], padding_mode="border", align_corners=False
    )[0, 0, :, 0]
