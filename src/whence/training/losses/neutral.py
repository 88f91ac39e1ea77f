"""EarthLoc's neutral-aware loss: pairs of places that overlap are neither right nor wrong."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from whence.training.losses.by_label import make_loss
from whence.training.options.places import LossOptions


class NeutralAwareLoss(nn.Module):
    """A mined loss over descriptors (B, D) and places (B,) that leaves out mined wrong pairs of
    places that overlap.

    As published, pairs are mined among all images, neutral ones too: what is neutral may still make
    a right pair a hard one.
    """

    def __init__(self, options: LossOptions) -> None:
        """Raises `UnknownName` and `BadOption`."""
        super().__init__()
        self.of = make_loss(options, num_classes=1, dim=1)

    def forward(
        self, descriptors: Tensor, labels: Tensor, is_neutral: Tensor | None = None
    ) -> Tensor:
        """The loss; `is_neutral` (P, P) bool says which places overlap, of labels from 0 to P -
        1."""
        found = descriptors.float()
        if is_neutral is None or self.of.miner is None:
            value: Tensor = self.of(found, labels)
            return value
        anchors, positives, others, negatives = self.of.miner(found, labels)
        is_kept = ~is_neutral[labels[others], labels[negatives]]
        kept = (anchors, positives, others[is_kept], negatives[is_kept])
        value = self.of.loss(found, labels, kept)
        return value


def pair_loss(
    queries: Tensor,
    tiles: Tensor,
    *,
    alpha: float = 1.0,
    beta: float = 50.0,
    weights: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0),
) -> tuple[Tensor, Tensor]:
    """AstroLoc's loss over B pairs of photo and tile (B, D), no two of which overlap, as described:
    what pulls and what pushes.

    Our reading where that is silent: each of the four sums of wrong pairs (photo to photos, photo
    to tiles, tile to photos, tile to tiles) is a mean over the pairs and leaves out their own;
    `weights` are those of the four.
    """
    queries, tiles = (nn.functional.normalize(rows.float(), dim=1) for rows in (queries, tiles))
    pulls = nn.functional.softplus(-alpha * (queries * tiles).sum(dim=1)).mean() / alpha
    own = torch.eye(len(queries), dtype=torch.bool, device=queries.device)
    pushes = pulls.new_zeros(())
    for weight, rows, others in zip(
        weights, (queries, queries, tiles, tiles), (queries, tiles, queries, tiles), strict=True
    ):
        exponents = (beta * rows @ others.T).masked_fill(own, -torch.inf)
        # The 1 within the logarithm is one more exponent of 0.
        padded = torch.cat([exponents, exponents.new_zeros(len(rows), 1)], dim=1)
        pushes = pushes + weight * padded.logsumexp(dim=1).mean() / beta
    return pulls, pushes
