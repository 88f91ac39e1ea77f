"""The branch of places x views drawn from cells of a map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from whence.errors import BadOption
from whence.models.backbones.base import Features
from whence.runtime import random_stream
from whence.training.branches.classes import ClassBranch
from whence.training.branches.grouped import ClassBatches, Grouped
from whence.training.branches.placed import described_pairs, pair_losses
from whence.training.losses.by_label import CLASS_LOSSES, make_loss
from whence.training.options.classes import CellViewsOptions, ClassesOptions
from whence.training.options.places import BatchOptions
from whence.training.task import Draw, Losses, Pairs

_VIEWS = 107


class CellBatches(ClassBatches):
    """Classes of an epoch's group, some to a batch, each with several of its photos side by
    side."""

    def __init__(self, grouped: Grouped, *, options: BatchOptions, seed: int) -> None:
        """Raises `BadOption` where a group has fewer classes than a batch has places."""
        super().__init__(grouped, batch_size=options.num_places, seed=seed)
        self.num_views = options.num_views
        fewest = min(map(len, grouped.groups))
        if options.num_views < 1 or fewest < options.num_places:
            raise BadOption(
                f"a group has {fewest} classes, a batch takes {options.num_places} with "
                f"{options.num_views} views; lower "
                "batches.num_places, cells.num_apart or num_groups"
            )

    def classes(self, epoch: int, number: int) -> np.ndarray:
        return np.repeat(super().classes(epoch, number), self.num_views)

    def rows(self, epoch: int, number: int, place: int, which: int) -> np.ndarray:
        """As of the base; the views of a class begin at different ones of its photos, as far as it
        has them."""
        whole, view = divmod(place, self.num_views)
        members = self._rows_of(epoch).of(which)
        return np.roll(
            random_stream(self.seed, _VIEWS, epoch, number, whole).permutation(members), -view
        )


class CellViewBranch(ClassBranch):
    """Crops or photos of the cells of one group, and a loss over descriptors and cells."""

    has_pairs = True

    def make_batches(self, options: ClassesOptions) -> ClassBatches:
        assert isinstance(options, CellViewsOptions)
        return CellBatches(self.grouped, options=options.batches, seed=self.setup.seed)

    def make_loss(self, options: ClassesOptions) -> None:
        if options.loss.name in CLASS_LOSSES:
            raise BadOption(
                f"{options.loss.name} compares photos with classes; views of cells are learned by "
                "a loss over pairs"
            )
        self.loss = make_loss(options.loss, num_classes=1, dim=self.setup.learner.module.dim)

    def begin(self, epoch: int, device: torch.device) -> None:
        """Nothing is a group's own."""

    def optimizers(self) -> Sequence[torch.optim.Optimizer]:
        return ()

    def finish(self, weights: Path) -> None:
        """Nothing tells cells apart by itself."""

    def learn(
        self, learner: nn.Module, content: tuple[Tensor | Features, Tensor], draw: Draw
    ) -> Losses:
        return pair_losses(self.loss, learner, content, draw)

    def pairs(
        self, learner: nn.Module, content: tuple[Tensor | Features, Tensor], draw: Draw
    ) -> Pairs:
        return described_pairs(learner, content, draw)

    def state(self) -> dict[str, Tensor]:
        return {}

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Nothing is kept beside the network."""
