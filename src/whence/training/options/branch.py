"""What the options of every branch have."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BranchOptions:
    """A source of a training. Each kind of branch has a record of its own, with a `kind` by which it is told apart."""

    kind: str = ""
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
