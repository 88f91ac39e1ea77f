"""Losses over descriptors and labels: those of pytorch-metric-learning by name, and what was
registered.

All work in float32 whatever the network computes in: similarities of bf16 have three digits, and a
factor of 50 makes that rounding. Of the library's losses for labelled photos five are missing:
`InstanceLoss` and `SmoothAPLoss` take batches of some shapes for what they are not (version 2.9),
`HistogramLoss` picks its pairs in a way that torch 2.9 gave another meaning, `ManifoldLoss` and
`P2SGradLoss` need more than descriptors and labels to be set up.
"""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from pytorch_metric_learning import losses, miners
from torch import Tensor, nn

from whence.cards import Entry
from whence.errors import BadOption, UnknownName
from whence.registry import KINDS, get_entry
from whence.training.options.places import LossOptions


class DynamicSoftMargin(losses.DynamicSoftMarginLoss):  # type: ignore[misc]
    """The library's, fit for more than one step: its histogram of past batches is saved and
    resumed, and keeps no gradients."""

    hist_: Tensor

    def __init__(self, min_val: float = -2.0, num_bins: int = 10, momentum: float = 0.01) -> None:
        super().__init__(min_val=min_val, num_bins=num_bins, momentum=momentum)
        histogram = self.hist_
        del self.hist_
        self.register_buffer("hist_", histogram)

    def compute_loss(self, *given: Any) -> Any:
        """As the library's."""
        found = super().compute_loss(*given)
        self.hist_ = self.hist_.detach()
        return found


class EasyArcFace(losses.ArcFaceLoss):  # type: ignore[misc]
    """Divide&Classify's additive angular margin: the margin, in radians, is added where the own
    class is less than 90 degrees away.

    Trivigno, Berton, Aragon, Caputo, Masone, ICCV 2023; the library's ArcFace takes degrees and
    goes on beyond 90.
    """

    def __init__(self, *sizes: int, margin: float = 0.2, scale: float = 100, **given: Any) -> None:
        super().__init__(*sizes, margin=margin, scale=scale, **given)

    def init_margin(self) -> None:
        """Leave the margin in radians."""

    def modify_cosine_of_target_classes(self, cosine: Tensor) -> Tensor:
        """The cosines (B,) of the own classes with the margin."""
        sine = (1 - cosine.square()).clamp(1e-12, 1).sqrt()
        return torch.where(
            cosine > 0, cosine * math.cos(self.margin) - sine * math.sin(self.margin), cosine
        )


class CrossEntropy(nn.Module):
    """A plain softmax: one linear layer with a bias, as PlaNet classifies (Weyand, Kostrikov,
    Philbin, ECCV 2016)."""

    def __init__(self, num_classes: int, dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(dim, num_classes)

    def forward(self, descriptors: Tensor, labels: Tensor) -> Tensor:
        return nn.functional.cross_entropy(self.get_logits(descriptors), labels)

    def get_logits(self, descriptors: Tensor) -> Tensor:
        """Scores (B, classes), named as the library names them."""
        scores: Tensor = self.linear(descriptors.float())
        return scores


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
    "dynamic_soft_margin": DynamicSoftMargin,
    "pnp": losses.PNPLoss,
    "signal_to_noise": losses.SignalToNoiseRatioContrastiveLoss,
    "intra_pair_variance": losses.IntraPairVarianceLoss,
    "n_pairs": losses.NPairsLoss,
    "ranked_list": losses.RankedListLoss,
}
CLASS_LOSSES: Mapping[str, Any] = {
    "cosface": losses.CosFaceLoss,
    "arcface": losses.ArcFaceLoss,
    "arcface_easy": EasyArcFace,
    "cross_entropy": CrossEntropy,
    "sub_center_arcface": losses.SubCenterArcFaceLoss,
    "large_margin_softmax": losses.LargeMarginSoftmaxLoss,
    "sphereface": losses.SphereFaceLoss,
    "normalized_softmax": losses.NormalizedSoftmaxLoss,
    "proxy_anchor": losses.ProxyAnchorLoss,
    "proxy_nca": losses.ProxyNCALoss,
    "soft_triple": losses.SoftTripleLoss,
}
ENTRIES: dict[str, Entry] = {
    name: Entry(kind) for name, kind in {**PAIR_LOSSES, **CLASS_LOSSES}.items()
}
"""What the registry takes over."""
MARGIN_SOFTMAXES = (
    "cosface",
    "arcface",
    "arcface_easy",
    "sub_center_arcface",
    "normalized_softmax",
    "cross_entropy",
)
"""Classification losses that work group by group too."""
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
    """Descriptors (B, D) and labels (B,) to one number. Its parameters, if any, are class weights
    that learn too."""

    def __init__(self, loss: nn.Module, miner: nn.Module | None = None) -> None:
        super().__init__()
        self.loss, self.miner = loss, miner

    def forward(self, descriptors: Tensor, labels: Tensor) -> Tensor:
        found = descriptors.float()
        mined = None if self.miner is None else self.miner(found, labels)
        value: Tensor = (
            self.loss(found, labels) if mined is None else self.loss(found, labels, mined)
        )
        return value


def list_losses() -> tuple[str, ...]:
    """Names that `make_loss` knows."""
    return tuple(sorted(KINDS["loss"]))


def make_loss(options: LossOptions, *, num_classes: int, dim: int) -> PlaceLoss:
    """The loss of these options; class weights (dim, num_classes) start at random. Raises
    `UnknownName` and `BadOption`.

    A registered loss is made by its options alone, and called as the library's are: descriptors,
    labels, and what a miner found.
    """
    kind = get_entry("loss", options.name).load()
    if options.name in CLASS_LOSSES:
        if options.miner:
            raise BadOption(
                f"the loss {options.name} compares photos with classes, not with each other: it "
                "takes no miner"
            )
        return PlaceLoss(
            _made(kind, options.name, {**_sized(kind, num_classes, dim), **options.options})
        )
    miner = None
    if options.miner:
        if options.miner not in MINERS:
            raise UnknownName("miner", options.miner, MINERS)
        miner = _made(MINERS[options.miner], options.miner, options.miner_options)
    return PlaceLoss(_made(kind, options.name, options.options), miner)


def make_classifiers(
    options: LossOptions, *, num_classes: Sequence[int], dim: int
) -> list[PlaceLoss]:
    """A classifier for each group, of so many classes, numbered within it; weights begin as
    CosPlace's (Xavier, uniform).

    The photos of a batch are all of one group. CosPlace's own is cosface with a scale of 30 and a
    margin of 0.4. Raises `UnknownName` and `BadOption`.
    """
    if options.name not in MARGIN_SOFTMAXES:
        raise UnknownName("classifier", options.name, MARGIN_SOFTMAXES)
    if not num_classes or min(num_classes) < 1:
        raise BadOption(f"groups of {list(num_classes)} classes are not possible")
    kind = CLASS_LOSSES[options.name]
    begin = {} if kind is CrossEntropy else {"weight_init_func": nn.init.xavier_uniform_}
    return [
        PlaceLoss(_made(kind, options.name, {**_sized(kind, num, dim), **begin, **options.options}))
        for num in num_classes
    ]


def prototypes_of(classifier: PlaceLoss) -> tuple[np.ndarray, np.ndarray | None]:
    """Prototypes that a classifier compares descriptors with (classes, dim), as learned, and what
    it adds (classes,), float32 or nothing."""
    held = {
        name: value.detach().float().cpu().numpy()
        for name, value in classifier.loss.state_dict().items()
    }
    return (
        (held["linear.weight"], held["linear.bias"])
        if "linear.weight" in held
        else (held["W"].T, None)
    )


def _sized(kind: Any, num_classes: int, dim: int) -> dict[str, int]:
    return {"num_classes": num_classes, "dim" if kind is CrossEntropy else "embedding_size": dim}


def _made(kind: Any, name: str, options: Mapping[str, Any]) -> nn.Module:
    known = set()
    for base in inspect.getmro(kind) if inspect.isclass(kind) else (kind,):
        known |= set(inspect.signature(base).parameters) if base is not object else set()
    known -= {"self", "args", "kwargs"}
    for option in options:
        if option not in known:
            raise UnknownName(f"option of {name}", option, known)
    try:
        with warnings.catch_warnings():
            # SphereFace's binomials of tensors, which numpy will want written otherwise.
            warnings.simplefilter("ignore", DeprecationWarning)
            part: nn.Module = kind(**options)
    except (TypeError, ValueError, AssertionError) as error:
        raise BadOption(f"{name} with {dict(options)}: {error}") from None
    return part
