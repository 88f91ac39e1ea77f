"""The branch that learns another model's descriptors of the same photos."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from whence.training.datasets import Dataset
from whence.training.options.augment import AugmentOptions
from whence.training.options.kinds import BranchOptions


@dataclass(frozen=True, slots=True)
class DistilledOptions(BranchOptions):
    """Photos with a teacher's descriptors of them: the learner comes to say the same, for less."""

    kind: Literal["distilled"] = "distilled"
    teacher: str = ""
    """The model that is learned from: any name of the zoo, or a safetensors file with a card."""
    teacher_options: Mapping[str, Any] = field(default_factory=dict)
    """Its own settings."""
    batch_size: int = 64
    augment: AugmentOptions = field(default_factory=AugmentOptions)
    """How the learner sees the photos; the teacher sees them as its card says."""

    @property
    def loss_name(self) -> str:
        """The name of the loss, as lists of recipes show it."""
        return "squared distance"

    def sizes(self, data: Dataset, *, seed: int) -> dict[str, int]:
        """Photos."""
        return {"num_photos": len(data.photos)}
