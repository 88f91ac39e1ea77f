"""GeoWarp's three losses (Berton et al., ICCV 2021), as its public code computes them or as the
paper prints them.

The two differ: the code takes means over coordinates where the paper takes norms, and the paper's
feature-wise loss, a squared inner product to be made small, contradicts its text. The published
weights of the losses were chosen with the code's.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from whence.models.warp.geometry import mirror_quads
from whence.training.options.warps import Form


class BothOrders(NamedTuple):
    """The regressor's quadrilaterals (B, 8, 2) for pairs of images, and for the same pairs the
    other way round."""

    forth: Tensor
    back: Tensor


def self_supervised_loss(
    output: BothOrders, *, quads_a: Tensor, quads_b: Tensor, form: Form = "code"
) -> Tensor:
    """How far predictions are from the known quadrilaterals (B, 4, 2) of generated pairs.

    "code": mean squared differences, summed over both images and both orders. "paper": the squared
    norm over all corners, one order (equation 13).
    """
    if form == "paper":
        return _squared_norm(output.forth - torch.cat([quads_a, quads_b], dim=1))
    forth, back = output
    terms = (
        (forth[:, :4], quads_a),
        (forth[:, 4:], quads_b),
        (back[:, :4], quads_b),
        (back[:, 4:], quads_a),
    )
    return torch.stack([nn.functional.mse_loss(quad, target) for quad, target in terms]).sum()


def consistency_loss(output: BothOrders, *, mirrored: BothOrders, form: Form = "code") -> Tensor:
    """How far apart are the predictions for a pair, for the pair swapped, and for both with all
    images mirrored.

    Each is compared with the mean of the four, which gets no gradient. "code": mean squared
    differences, summed. "paper": squared norms, over twice the number of mirrorings (equations 18
    and 19).
    """
    views = [
        in_first_order
        for orders in (output, BothOrders(*map(mirror_quads, mirrored)))
        for in_first_order in _aligned(orders)
    ]
    target = torch.stack(views).mean(dim=0).detach()
    if form == "paper":
        return torch.stack([_squared_norm(view - target) for view in views]).sum() / len(views)
    return torch.stack([nn.functional.mse_loss(view, target) for view in views]).sum()


def feature_loss(first: Tensor, second: Tensor, *, form: Form = "code") -> Tensor:
    """How different the cells (B, C, h, w) of two photos of one place are, both cut out and
    stretched.

    "code": their mean squared difference. "paper": the sum over cells of the squared inner product
    (equation 17), as printed.
    """
    if form == "paper":
        return (first * second).sum(dim=1).square().sum(dim=(1, 2)).mean()
    return nn.functional.mse_loss(first, second)


def _aligned(orders: BothOrders) -> tuple[Tensor, Tensor]:
    """Both predictions with the first image's quadrilateral first."""
    return orders.forth, orders.back.roll(4, dims=1)


def _squared_norm(difference: Tensor) -> Tensor:
    return difference.square().sum(dim=(1, 2)).mean()
