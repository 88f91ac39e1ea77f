"""Classifiers that processes of a training share: each holds some of the classes, where one device
could not hold all.

As partial softmax layers of face recognition do (An et al., "Partial FC", 2021), with all classes:
the largest score, the sum of the exponentials and the own class's score go between processes, never
the scores.
"""

from __future__ import annotations

from typing import Any

import torch
from pytorch_metric_learning import losses
from torch import Tensor, nn

from whence.errors import BadOption
from whence.training.losses.by_label import PlaceLoss
from whence.training.task import Share


def bounds(num_classes: int, share: Share) -> tuple[int, int]:
    """The first class of a process, and the one after its last."""
    return share.rank * num_classes // share.num_ranks, (
        share.rank + 1
    ) * num_classes // share.num_ranks


class ShardedSoftmax(nn.Module):
    """One process's part of a loss of cosines and a margin; all processes give the same value and
    are asked at once."""

    def __init__(self, whole: losses.ArcFaceLoss | losses.CosFaceLoss, share: Share) -> None:
        """`whole` has the weights (dim, classes) that a single process would begin with; it is not
        to be used any more."""
        super().__init__()
        self.num_ranks = share.num_ranks
        self.first, last = bounds(whole.num_classes, share)
        self.W = nn.Parameter(whole.W.detach()[:, self.first : last].clone())
        del whole.W
        # A tuple: its weights are ours, and nothing of it is to be saved.
        self._whole = (whole,)

    def forward(self, descriptors: Tensor, labels: Tensor) -> Tensor:
        """The mean loss of descriptors (B, D), the same in every process, and classes (B,),
        numbered through all processes."""
        (whole,) = self._whole
        setup = _Multiplied.apply(descriptors, self.num_ranks)
        cosine = whole.distance(setup, self.W.t())
        own = labels - self.first
        rows = ((own >= 0) & (own < cosine.shape[1])).nonzero()[:, 0]
        target = cosine[rows, own[rows]]
        with_margin = cosine.index_put(
            (rows, own[rows]), whole.modify_cosine_of_target_classes(target)
        )
        loss: Tensor = _SharedCrossEntropy.apply(whole.scale_logits(with_margin, setup), own)
        return loss


class _Multiplied(torch.autograd.Function):
    """The same values, with a gradient so many times as large.

    Each process has the gradient of its own classes alone. Gathering adds them up once, where the
    plain way adds up one whole gradient from each process; averaging over processes follows in
    either.
    """

    @staticmethod
    def forward(ctx: Any, values: Tensor, times: int) -> Tensor:
        ctx.times = times
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0] * ctx.times, None


class _SharedCrossEntropy(torch.autograd.Function):
    """The mean cross-entropy of scores (B, classes here) over all processes; own classes (B,) count
    from the first here."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, own: Tensor) -> Tensor:
        from torch.distributed import ReduceOp, all_reduce

        nothing = torch.finfo(scores.dtype).min
        largest = (
            scores.amax(dim=1) if scores.shape[1] else scores.new_full((len(scores),), nothing)
        )
        all_reduce(largest, ReduceOp.MAX)
        exponentials = (scores - largest[:, None]).exp()
        rows = ((own >= 0) & (own < scores.shape[1])).nonzero()[:, 0]
        target = torch.zeros_like(largest).index_put((rows,), scores[rows, own[rows]])
        both = torch.stack([exponentials.sum(dim=1), target])
        all_reduce(both)
        ctx.save_for_backward(exponentials / both[0, :, None], rows, own[rows])
        return (both[0].log() + largest - both[1]).mean()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        shares, rows, columns = ctx.saved_tensors
        found = shares.index_put(
            (rows, columns), shares.new_full((len(rows),), -1.0), accumulate=True
        )
        return found * (gradients[0] / len(shares)), None


def share_classifiers(classifiers: list[PlaceLoss], share: Share) -> list[PlaceLoss]:
    """This process's part of each. Raises `BadOption` for a loss that cannot be shared."""
    for one in classifiers:
        if not isinstance(one.loss, losses.ArcFaceLoss | losses.CosFaceLoss) or isinstance(
            one.loss, losses.SubCenterArcFaceLoss
        ):
            raise BadOption("is_sharded goes with the losses cosface, arcface and arcface_easy")
    return [PlaceLoss(ShardedSoftmax(one.loss, share)) for one in classifiers]


def gathered(local: Tensor, *, num_classes: int, share: Share, device: torch.device) -> Tensor:
    """The columns (dim, classes) of all processes on the CPU, in order; asked in all of them at
    once."""
    from torch.distributed import all_gather

    sizes = [bounds(num_classes, Share(rank, share.num_ranks)) for rank in range(share.num_ranks)]
    width = max(last - first for first, last in sizes)
    padded = torch.zeros(len(local), width, dtype=local.dtype, device=device)
    padded[:, : local.shape[1]] = local.to(device)
    parts = [torch.empty_like(padded) for _ in sizes]
    all_gather(parts, padded)
    return torch.cat(
        [part[:, : last - first].cpu() for part, (first, last) in zip(parts, sizes, strict=True)],
        dim=1,
    )
