"""The branch that learns from classes: cells of a map, in groups that take turns.

After CosPlace (Berton, Masone, Caputo, CVPR 2022), EigenPlaces (Berton, Trivigno, Caputo, Masone,
ICCV 2023) and Divide&Classify (Trivigno, Berton, Aragon, Caputo, Masone, ICCV 2023).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from whence.data.partition import CellOptions
from whence.training.datasets import Dataset
from whence.training.options.augment import AugmentOptions
from whence.training.options.kinds import BranchOptions
from whence.training.options.loop import OptimizerOptions
from whence.training.options.places import BatchOptions, LossOptions

View = Literal["photo", "lateral", "frontal"]


@dataclass(frozen=True, slots=True)
class ClassesOptions(BranchOptions):
    """Photos drawn evenly from the classes of one group, epoch by epoch another, and a classifier
    for each group."""

    kind: Literal["classes"] = "classes"
    cells: CellOptions = field(default_factory=CellOptions)
    view: View = "photo"
    """What is seen of a photo: all of it, or the crop of a panorama towards its cell's focal point,
    across its street or along."""
    focal_m: float = 10.0
    """How far from the middle of a cell's photos its focal point lies."""
    num_groups: int = 8
    """Groups that are learned from, the first in the order of the photos; 0 for all."""
    batch_size: int = 32
    batches_per_turn: int = 10_000
    """Batches of an epoch, after which the next group has its turn."""
    augment: AugmentOptions = field(default_factory=AugmentOptions)
    loss: LossOptions = field(
        default_factory=lambda: LossOptions("cosface", {"scale": 30.0, "margin": 0.4})
    )
    optimizer: OptimizerOptions = field(default_factory=lambda: OptimizerOptions("adam", lr=0.01))
    """Of each group's classifier; its rate is constant."""
    is_sharded: bool = False
    """Whether each process of a training holds its share of the classes alone, where one device
    could not hold all of a group."""

    @property
    def are_panoramas(self) -> bool:
        """Whether panoramas are learned from."""
        return self.view != "photo"

    def sizes(self, data: Dataset, *, seed: int) -> dict[str, int]:
        """Photos, classes and groups. Raises `NoPhotos` and `BadOption`."""
        from whence.training.branches.grouped import make_grouped

        files = data.files(are_panoramas=self.are_panoramas)
        return make_grouped(files, cells=self.cells, num_groups=self.num_groups).counts()


@dataclass(frozen=True, slots=True)
class CellViewsOptions(ClassesOptions):
    """Places x views drawn from the classes of one group, and a loss over pairs: as MegaLoc learns
    from EigenPlaces' cells.

    Cells of one group are far apart, so that no two places of a batch show the same. `batch_size`
    is what both numbers give.
    """

    kind: Literal["cell views"] = "cell views"  # type: ignore[assignment]
    batches: BatchOptions = field(default_factory=BatchOptions)
    """Of these, how many places and views a batch has."""
