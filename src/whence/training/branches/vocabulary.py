"""The branch of a vocabulary: visual words of one's own photos, and no step."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from whence.errors import BadOption
from whence.models.aggregators.words import HardVlad, NetVlad
from whence.models.networks import Network
from whence.runtime import random_stream
from whence.training.branches.mined import sample_locations
from whence.training.options.tuples import VocabularyOptions
from whence.training.pixels import cached_pixels
from whence.training.task import BatchPlace, Branch, Draw, Losses, Read, Setup, Share

_CHOICE = 108


class VocabularyBranch(Branch):
    """Words from a random sample of the photos, at the beginning of a training that then needs no
    steps (`loop.num_steps=0`)."""

    def __init__(self, options: VocabularyOptions, setup: Setup) -> None:
        """Raises `BadOption` for a network without words."""
        super().__init__(options.name or options.kind)
        self.options, self.setup, self.weight = options, setup, options.weight
        self.holders = [
            part for part in setup.learner.module.modules() if isinstance(part, HardVlad | NetVlad)
        ]
        if not self.holders:
            raise BadOption(
                "a vocabulary is for aggregators with visual words: vlad, netvlad, netvlad-fc or "
                "crn"
            )
        total = len(setup.data.photos)
        count = min(total, options.words.num_photos)
        self.rows = np.sort(random_stream(setup.seed, _CHOICE).choice(total, count, replace=False))

    def describe_data(self) -> dict[str, Any]:
        return {"num_photos": len(self.setup.data.photos), "num_looked_at": len(self.rows)}

    def open(self) -> None:
        seen, setup = self.options.augment, self.setup
        chosen = setup.data.photos.select(self.rows)
        self.pixels = cached_pixels(
            chosen,
            width=seen.width,
            height=seen.height,
            folder=setup.pixels_folder,
            show_progress=setup.show_progress,
        )

    def start(self, learner: nn.Module, device: torch.device) -> None:
        """Find the words. Raises `NotFitted` where the photos hold too few local descriptors."""
        assert isinstance(learner, Network)
        learner.eval()
        seed = self.setup.seed
        sample = sample_locations(
            learner, self.pixels, options=self.options.words, device=device, seed=seed
        )
        for holder in self.holders:
            holder.fit(sample, seed=seed)
        learner.train()

    def num_batches(self, epoch: int) -> int:
        return 1

    def read(self, place: BatchPlace, share: Share) -> Read:
        return Read(None, 0)

    def learn(self, learner: nn.Module, content: None, draw: Draw) -> Losses:
        raise BadOption(
            "a vocabulary is found before the first step: set loop.num_steps=0, or add a branch "
            "that learns"
        )
