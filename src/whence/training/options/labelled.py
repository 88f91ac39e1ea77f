"""SegVPR: places and what each pixel shows are learned together (Paolicelli et al., ICIAP 2021)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from whence.training.datasets import Dataset
from whence.training.options.kinds import BranchOptions
from whence.training.options.tuples import MiningOptions, TupleLossOptions

_MINING = MiningOptions(
    name="full",
    num_queries=1000,
    num_negatives=1,
    num_candidates=1000,
    positive_m=3.0,
    excluded_m=25.0,
)
_LOSS = TupleLossOptions(margin=0.1**0.5)


@dataclass(frozen=True, slots=True)
class LabelledOptions(BranchOptions):
    """Triplets of photos that come with a picture of classes, and photos of another domain
    without."""

    kind: Literal["labelled"] = "labelled"
    town: str = ""
    """Folder below `images` that is learned from; empty for the first."""
    mining: MiningOptions = _MINING
    """Positives also look the same way: front, rear, left or right."""
    batch_queries: int = 2
    """Triplets of a batch."""
    loss: TupleLossOptions = _LOSS
    width: int = 1536
    """Pixels of the windows that are learned from: one window, mirrored or not, for all photos of a
    triplet ..."""
    height: int = 864
    stored_width: int = 1920
    """... out of photos of this size."""
    stored_height: int = 1080
    flip_share: float = 0.5
    head: Literal["deeplab", "psp"] = "deeplab"
    segmentation_weight: float = 0.5
    """Of what pixels show; 0 leaves the head out."""
    is_guided: bool = True
    """Whether what pixels show is learned of logits that the attention weighs; no gradient of that
    reaches the attention."""
    head_lr: float = 1e-2
    """Learning rate of the head."""
    target: str = ""
    """Folder of photos of another domain, without labels, that classes come to look alike in; empty
    for none. Never photos that are measured on."""
    adversary_weight: float = 0.001
    """Of making maps of the two domains alike, within `segmentation_weight`."""
    batch_target: int = 6
    """Photos of the other domain in a batch."""
    target_width: int = 768
    target_height: int = 432
    opponent_width: int = 64
    """Channels of the opponent's first layer."""
    opponent_lr: float = 4e-4
    """Learning rate of the opponent, which Adam moves ..."""
    opponent_beta2: float = 0.99
    """... forgetting squares of gradients faster than it usually does."""
    freezes_norms: bool = True
    """Whether scales and shifts of batch norms, but those on shortcuts, and the pool's exponent
    stay as they are, as published."""

    def sizes(self, data: Dataset, *, seed: int) -> dict[str, int]:
        """Photos with labels."""
        found = data.labelled(self.town)
        return {"num_database": len(found.set.database), "num_queries": len(found.set.queries)}
