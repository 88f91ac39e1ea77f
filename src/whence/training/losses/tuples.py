"""Losses over tuples: the forms of the geo-localization benchmark, by name. All work in float32."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from whence.errors import UnknownName


def triplet_sum(
    query: Tensor, positive: Tensor, negatives: Tensor, *, margin: float = 0.1
) -> Tensor:
    """Triplet loss of the benchmark: distances not squared, summed over N negatives and averaged.
    (B, D), (B, D), (B, N, D).

    The sum over the batch's triplets is divided by B N (Berton et al., CVPR 2022; Arandjelovic et
    al., CVPR 2016, square them).
    """
    distance = nn.PairwiseDistance(p=2, eps=1e-6)
    gap = distance(query, positive)[:, None] - distance(query[:, None], negatives) + margin
    return gap.clamp(min=0).mean()


def triplet_squared(
    query: Tensor, positive: Tensor, negatives: Tensor, *, margin: float = 0.1
) -> Tensor:
    """As `triplet_sum`, of squared distances: the form of NetVLAD (Arandjelovic et al., CVPR
    2016)."""
    squared = _squared_distances(query, positive, negatives)
    return (squared[:, :1] - squared[:, 1:] + margin).clamp(min=0).mean()


def sare_joint(query: Tensor, positive: Tensor, negatives: Tensor) -> Tensor:
    """Stochastic attraction and repulsion (Liu et al., ICCV 2019), all negatives in one softmax.
    (B, D), (B, D), (B, N, D).

    -log softmax of the negated squared distances at the positive, summed over the batch and divided
    by B N, as the benchmark does.
    """
    logits = -_squared_distances(query, positive, negatives)
    return -logits.log_softmax(dim=1)[:, 0].sum() / (len(query) * negatives.shape[1])


def sare_ind(query: Tensor, positive: Tensor, negatives: Tensor) -> Tensor:
    """As `sare_joint`, with each negative alone against the positive: the mean over B N
    triplets."""
    squared = _squared_distances(query, positive, negatives)
    return nn.functional.softplus(squared[:, :1] - squared[:, 1:]).mean()


TUPLE_LOSSES: Mapping[str, Any] = {
    "triplet": triplet_sum,
    "triplet_squared": triplet_squared,
    "sare_joint": sare_joint,
    "sare_ind": sare_ind,
}


def tuple_loss(
    name: str, query: Tensor, positive: Tensor, negatives: Tensor, *, margin: float
) -> Tensor:
    """The loss of this name over (B, D), (B, D), (B, N, D); the margin is for triplets. Raises
    `UnknownName`."""
    if name not in TUPLE_LOSSES:
        raise UnknownName("loss over tuples", name, TUPLE_LOSSES)
    setup = {"margin": margin} if name.startswith("triplet") else {}
    value: Tensor = TUPLE_LOSSES[name](query, positive, negatives, **setup)
    return value


def _squared_distances(query: Tensor, positive: Tensor, negatives: Tensor) -> Tensor:
    """(B, 1 + N): from the query to the positive, then to the negatives."""
    others = torch.cat([positive[:, None], negatives], dim=1)
    return (query[:, None] - others).square().sum(dim=2)
