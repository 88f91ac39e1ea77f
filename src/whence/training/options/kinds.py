"""Records of several kinds, told apart by name in the registry: what learns, the branches, the
probe."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from whence.registry import get_entry
from whence.training.datasets import Dataset


@dataclass(frozen=True, slots=True)
class OfKind:
    """A part of a recipe. Those of the house and those that were registered are found alike, by
    their `kind`."""

    table: ClassVar[str]
    kind: str = ""

    @classmethod
    def of_kind(cls, kind: str) -> type[OfKind]:
        """The record of this kind. Raises `UnknownName` with the nearest."""
        found: type[OfKind] = get_entry(cls.table, kind).load_settings()
        return found


@dataclass(frozen=True, slots=True)
class LearnerOptions(OfKind):
    """What learns."""

    table: ClassVar[str] = "learner"


@dataclass(frozen=True, slots=True)
class ProbeOptions(OfKind):
    """What the best weights are chosen by."""

    table: ClassVar[str] = "probe"


@dataclass(frozen=True, slots=True)
class BranchOptions(OfKind):
    """A source of a training."""

    table: ClassVar[str] = "branch"
    name: str = ""
    """What the log calls the branch, and by default its dataset; empty for its kind."""
    dataset: str = ""
    """Which of the datasets given it learns from; empty for the only one, or that of its name."""
    weight: float = 1.0
    """What its loss is multiplied by; 0 leaves the branch out, with all its computing."""

    @property
    def is_idle(self) -> bool:
        """Whether nothing is learned from it."""
        return self.weight == 0

    @property
    def loss_name(self) -> str:
        """The name of the loss, as lists of recipes show it."""
        return str(getattr(getattr(self, "loss", None), "name", self.kind))

    def sizes(self, data: Dataset, *, seed: int) -> dict[str, int]:
        """How much there is to learn from, without decoding anything. Raises as the data set's own
        reading does."""
        return {"num_database": len(data.set.database), "num_queries": len(data.set.queries)}
