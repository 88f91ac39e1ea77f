"""The branch that learns from places: photos near one point, in about one direction, belong
together."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from whence.training.datasets import Dataset
from whence.training.options.augment import AugmentOptions
from whence.training.options.kinds import BranchOptions
from whence.training.options.places import BatchOptions, LossOptions, PlaceOptions


@dataclass(frozen=True, slots=True)
class PlacesOptions(BranchOptions):
    """Batches of places x views, and a loss over descriptors and the places they belong to."""

    kind: Literal["places"] = "places"
    places: PlaceOptions = field(default_factory=PlaceOptions)
    batches: BatchOptions = field(default_factory=BatchOptions)
    augment: AugmentOptions = field(default_factory=AugmentOptions)
    loss: LossOptions = field(default_factory=LossOptions)

    def sizes(self, data: Dataset, *, seed: int) -> dict[str, int]:
        """Photos, places, and batches of the first epoch. Raises `NoPhotos` and `BadOption`."""
        from whence.training.branches.sources import make_batches

        batches = make_batches(data, places=self.places, options=self.batches, seed=seed)
        return {**batches.counts(), "num_batches": batches.num_batches(0)}
