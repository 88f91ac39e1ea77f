"""The branch that learns from sequences of frames, and the recall of sequences that the best
weights are chosen by.

After SeqVLAD (Mereu et al., RA-L 2022) and JIST (Berton et al., RA-L 2024).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from whence.training.datasets import Dataset
from whence.training.options.augment import AugmentOptions
from whence.training.options.kinds import BranchOptions, ProbeOptions
from whence.training.options.tuples import MiningOptions, TupleLossOptions, WordOptions


@dataclass(frozen=True, slots=True)
class SequencesOptions(BranchOptions):
    """Tuples of windows of frames, mined as tuples of photos are; a window is near another where
    any of their frames are.

    How long windows are says the learner's sequence pool.
    """

    kind: Literal["sequences"] = "sequences"
    words: WordOptions = field(default_factory=WordOptions)
    mining: MiningOptions = field(default_factory=lambda: MiningOptions(num_negatives=5))
    """Queries, candidates and negatives are windows."""
    batch_queries: int = 4
    """Tuples of a batch."""
    augment: AugmentOptions = field(default_factory=AugmentOptions)
    """How queries' frames are changed, each by itself; published trainings change none."""
    loss: TupleLossOptions = field(default_factory=TupleLossOptions)

    def sizes(self, data: Dataset, *, seed: int) -> dict[str, int]:
        """Frames of both sides."""
        found = data.sequences
        return {
            "num_database": len(found.database.photos),
            "num_queries": len(found.queries.photos),
        }


@dataclass(frozen=True, slots=True)
class SequenceRecallOptions(ProbeOptions):
    """Recall@n of sequences, by Euclidean distance as published; queries without a positive are
    left out."""

    kind: Literal["sequences"] = "sequences"
    n: int = 5
    radius_m: float = 25.0
    """A database window is a positive where any of its frames is this near to any of the
    query's."""
    width: int = 0
    """Pixels of the frames; 0 takes those of training."""
    height: int = 0
    batch_size: int = 16
    """Windows described at once."""
