"""What the best weights are chosen by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from whence.training.options.kinds import ProbeOptions


@dataclass(frozen=True, slots=True)
class RecallOptions(ProbeOptions):
    """What the best weights are chosen by: recall@n within a radius."""

    kind: Literal["recall"] = "recall"
    n: int = 1
    radius_m: float = 25.0
    width: int = 0
    """Pixels of the photos; 0 takes those of training."""
    height: int = 0
    batch_size: int = 64


@dataclass(frozen=True, slots=True)
class RerankedOptions(ProbeOptions):
    """What the best regressor is chosen by: recall@1 within a radius after re-ranking a few
    candidates."""

    kind: Literal["reranked"] = "reranked"
    num_candidates: int = 5
    radius_m: float = 25.0
    num_queries: int = 0
    """Queries asked, evenly spread over the set; 0 asks all."""
    readout: Literal["exact", "features"] = "features"
