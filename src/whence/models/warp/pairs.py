"""Training pairs without labels: two views cut out of one photo, and the part both show, after
GeoWarp (Berton et al., ICCV 2021).

Each view is a random trapezoid with upright sides. The target on each view is the widest such
trapezoid inside both, so that cutting it out of either view gives the same picture.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from whence.errors import BadOption
from whence.models.warp.geometry import into_quad, warp
from whence.models.warp.quads import Sampling


class ViewPair(NamedTuple):
    """Two views of each of B images, and where each view shows what the other shows too."""

    images_a: Tensor
    """(B, C, H, W): the trapezoids `cuts_a`, stretched to the whole frame."""
    images_b: Tensor
    quads_a: Tensor
    """(B, 4, 2): what is shown by both, on `images_a`."""
    quads_b: Tensor
    cuts_a: Tensor
    """(B, 4, 2) trapezoids on the original images."""
    cuts_b: Tensor
    shared: Tensor
    """(B, 4, 2): what is shown by both, on the original images."""


def draw_trapezoids(
    num: int,
    *,
    k: float,
    generator: torch.Generator | None = None,
    device: str | torch.device = "cpu",
) -> Tensor:
    """Random trapezoids (num, 4, 2) with upright sides: each side, and each end of top and bottom,
    moves inward by up to `k`.

    `k` from 0 (the whole image) to 1. The generator lives on the CPU, so that a seed gives the same
    trapezoids on every device.
    """
    if not 0 <= k <= 1:
        raise BadOption(f"k lies between 0 (the whole image) and 1, not {k}")
    left, right, *heights = (
        (1 - k * torch.rand(num, 6, generator=generator)).to(device).unbind(dim=1)
    )
    x = torch.stack([-left, right, right, -left], dim=1)
    y = torch.stack([-heights[0], -heights[1], heights[2], heights[3]], dim=1)
    return torch.stack([x, y], dim=2)


def shared_trapezoid(a: Tensor, b: Tensor) -> Tensor:
    """The widest trapezoids (B, 4, 2) with upright sides inside both of two (B, 4, 2) with upright
    sides that overlap."""
    left = torch.maximum(a[:, 0, 0], b[:, 0, 0])
    right = torch.minimum(a[:, 1, 0], b[:, 1, 0])
    tops = [
        torch.maximum(_height_at(x, a[:, 0], a[:, 1]), _height_at(x, b[:, 0], b[:, 1]))
        for x in (left, right)
    ]
    bottoms = [
        torch.minimum(_height_at(x, a[:, 3], a[:, 2]), _height_at(x, b[:, 3], b[:, 2]))
        for x in (left, right)
    ]
    x = torch.stack([left, right, right, left], dim=1)
    return torch.stack([x, torch.stack([*tops, bottoms[1], bottoms[0]], dim=1)], dim=2)


def make_view_pairs(
    images: Tensor,
    *,
    k: float = 0.6,
    generator: torch.Generator | None = None,
    sampling: Sampling = "exact",
) -> ViewPair:
    """Two views of each image (B, C, H, W), with targets, on the device of the images."""
    cuts_a, cuts_b = (
        draw_trapezoids(len(images), k=k, generator=generator, device=images.device) for _ in "ab"
    )
    shared = shared_trapezoid(cuts_a, cuts_b)
    view_a, view_b = (warp(images, cuts, sampling=sampling) for cuts in (cuts_a, cuts_b))
    return ViewPair(
        view_a, view_b, into_quad(shared, cuts_a), into_quad(shared, cuts_b), cuts_a, cuts_b, shared
    )


def change_colours(
    images: Tensor, *, strength: float, generator: torch.Generator | None = None
) -> Tensor:
    """Normalised images (B, C, H, W), each with another contrast, and another brightness of each
    channel.

    Contrast is multiplied by 1 - strength at least and 1 / (1 - strength) at most. Brightness moves
    by up to `strength`, each channel's by half of it on top, in ImageNet's standard deviations. The
    generator lives on the CPU.
    """
    if not 0 <= strength < 1:
        raise BadOption(
            f"colours change by a strength from 0 (not at all) to below 1, not {strength}"
        )
    drawn = (2 * torch.rand(len(images), 2 + images.shape[1], 1, 1, generator=generator) - 1).to(
        images.device, images.dtype
    )
    contrast = (1 - strength) ** drawn[:, :1]
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    return (images - mean) * contrast + mean + strength * (drawn[:, 1:2] + 0.5 * drawn[:, 2:])


def _height_at(x: Tensor, start: Tensor, end: Tensor) -> Tensor:
    """(B,) y at x on the lines through two points (B, 2)."""
    return start[:, 1] + (x - start[:, 0]) / (end[:, 0] - start[:, 0]) * (end[:, 1] - start[:, 1])
