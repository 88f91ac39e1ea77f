"""Losses over descriptors: those of pytorch-metric-learning by name, and the triplet forms of the geo-localization benchmark.

All work in float32 whatever the network computes in: similarities of bf16 have three digits, and a factor of 50 makes that
rounding.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from pytorch_metric_learning import losses, miners
from torch import Tensor, nn

from whence.errors import BadOption, UnknownName
from whence.training.recipe import LossOptions

PAIR_LOSSES: Mapping[str, Any] = {
    "multi_similarity": losses.MultiSimilarityLoss,
    "threshold_consistent_margin": losses.ThresholdConsistentMarginLoss,
    "contrastive": losses.ContrastiveLoss,
    "triplet": losses.TripletMarginLoss,
    "circle": losses.CircleLoss,
    "nt_xent": losses.NTXentLoss,
    "sup_con": losses.SupConLoss,
    "fast_ap": losses.FastAPLoss,
    "margin": losses.MarginLoss,
    "angular": losses.AngularLoss,
    "tuplet_margin": losses.TupletMarginLoss,
    "nca": losses.NCALoss,
    "lifted_structure": losses.LiftedStructureLoss,
    "generalized_lifted_structure": losses.GeneralizedLiftedStructureLoss,
    "dynamic_soft_margin": losses.DynamicSoftMarginLoss,
    "pnp": losses.PNPLoss,
    "signal_to_noise": losses.SignalToNoiseRatioContrastiveLoss,
    "intra_pair_variance": losses.IntraPairVarianceLoss,
}
CLASS_LOSSES: Mapping[str, Any] = {
    "cosface": losses.CosFaceLoss,
    "arcface": losses.ArcFaceLoss,
    "sub_center_arcface": losses.SubCenterArcFaceLoss,
    "normalized_softmax": losses.NormalizedSoftmaxLoss,
    "proxy_anchor": losses.ProxyAnchorLoss,
    "proxy_nca": losses.ProxyNCALoss,
    "soft_triple": losses.SoftTripleLoss,
}
MINERS: Mapping[str, Any] = {
    "multi_similarity": miners.MultiSimilarityMiner,
    "batch_hard": miners.BatchHardMiner,
    "batch_easy_hard": miners.BatchEasyHardMiner,
    "triplet_margin": miners.TripletMarginMiner,
    "pair_margin": miners.PairMarginMiner,
    "angular": miners.AngularMiner,
    "distance_weighted": miners.DistanceWeightedMiner,
    "hdc": miners.HDCMiner,
    "uniform_histogram": miners.UniformHistogramMiner,
}


class PlaceLoss(nn.Module):
    """Descriptors (B, D) and labels (B,) to one number. Its parameters, if any, are class weights that learn too."""

    def __init__(self, loss: nn.Module, miner: nn.Module | None = None) -> None:
        super().__init__()
        self.loss, self.miner = loss, miner

    def forward(self, descriptors: Tensor, labels: Tensor) -> Tensor:
        found = descriptors.float()
        mined = None if self.miner is None else self.miner(found, labels)
        value: Tensor = self.loss(found, labels) if mined is None else self.loss(found, labels, mined)
        return value


def list_losses() -> tuple[str, ...]:
    """Names that `make_loss` knows."""
    return tuple(sorted([*PAIR_LOSSES, *CLASS_LOSSES]))


def make_loss(options: LossOptions, *, num_classes: int, dim: int) -> PlaceLoss:
    """The loss of these options; class weights (dim, num_classes) start at random. Raises `UnknownName` and `BadOption`."""
    if options.name not in PAIR_LOSSES and options.name not in CLASS_LOSSES:
        raise UnknownName("loss", options.name, list_losses())
    if options.name in CLASS_LOSSES:
        if options.miner:
            raise BadOption(f"the loss {options.name} compares photos with classes, not with each other: it takes no miner")
        sized = {"num_classes": num_classes, "embedding_size": dim}
        return PlaceLoss(_made(CLASS_LOSSES[options.name], options.name, {**sized, **options.options}))
    miner = None
    if options.miner:
        if options.miner not in MINERS:
            raise UnknownName("miner", options.miner, MINERS)
        miner = _made(MINERS[options.miner], options.miner, options.miner_options)
    return PlaceLoss(_made(PAIR_LOSSES[options.name], options.name, options.options), miner)


def _made(kind: Any, name: str, options: Mapping[str, Any]) -> nn.Module:
    known = set()
    for base in inspect.getmro(kind):
        known |= set(inspect.signature(base.__init__).parameters) if base is not object else set()
    known -= {"self", "args", "kwargs"}
    for option in options:
        if option not in known:
            raise UnknownName(f"option of {name}", option, known)
    try:
        part: nn.Module = kind(**options)
    except (TypeError, ValueError, AssertionError) as error:
        raise BadOption(f"{name} with {dict(options)}: {error}") from None
    return part


def triplet_sum(query: Tensor, positive: Tensor, negatives: Tensor, *, margin: float = 0.1) -> Tensor:
    """Triplet loss of the benchmark: distances not squared, summed over N negatives and averaged. (B, D), (B, D), (B, N, D).

    The sum over the batch's triplets is divided by B N (Berton et al., CVPR 2022; Arandjelovic et al., CVPR 2016, square them).
    """
    distance = nn.PairwiseDistance(p=2, eps=1e-6)
    gap = distance(query, positive)[:, None] - distance(query[:, None], negatives) + margin
    return gap.clamp(min=0).mean()


def triplet_squared(query: Tensor, positive: Tensor, negatives: Tensor, *, margin: float = 0.1) -> Tensor:
    """As `triplet_sum`, of squared distances: the form of NetVLAD (Arandjelovic et al., CVPR 2016)."""
    squared = _squared_distances(query, positive, negatives)
    return (squared[:, :1] - squared[:, 1:] + margin).clamp(min=0).mean()


def sare_joint(query: Tensor, positive: Tensor, negatives: Tensor) -> Tensor:
    """Stochastic attraction and repulsion (Liu et al., ICCV 2019), all negatives in one softmax. (B, D), (B, D), (B, N, D).

    -log softmax of the negated squared distances at the positive, summed over the batch and divided by B N, as the benchmark does.
    """
    logits = -_squared_distances(query, positive, negatives)
    return -logits.log_softmax(dim=1)[:, 0].sum() / (len(query) * negatives.shape[1])


def sare_ind(query: Tensor, positive: Tensor, negatives: Tensor) -> Tensor:
    """As `sare_joint`, with each negative alone against the positive: the mean over B N triplets."""
    squared = _squared_distances(query, positive, negatives)
    return nn.functional.softplus(squared[:, :1] - squared[:, 1:]).mean()


TUPLE_LOSSES: Mapping[str, Any] = {
    "triplet": triplet_sum,
    "triplet_squared": triplet_squared,
    "sare_joint": sare_joint,
    "sare_ind": sare_ind,
}


def tuple_loss(name: str, query: Tensor, positive: Tensor, negatives: Tensor, *, margin: float) -> Tensor:
    """The loss of this name over (B, D), (B, D), (B, N, D); the margin is for triplets. Raises `UnknownName`."""
    if name not in TUPLE_LOSSES:
        raise UnknownName("loss over tuples", name, TUPLE_LOSSES)
    given = {"margin": margin} if name.startswith("triplet") else {}
    value: Tensor = TUPLE_LOSSES[name](query, positive, negatives, **given)
    return value


def _squared_distances(query: Tensor, positive: Tensor, negatives: Tensor) -> Tensor:
    """(B, 1 + N): from the query to the positive, then to the negatives."""
    others = torch.cat([positive[:, None], negatives], dim=1)
    return (query[:, None] - others).square().sum(dim=2)
