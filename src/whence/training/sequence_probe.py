"""What the best weights of sequences are chosen by: recall of windows of frames."""

from __future__ import annotations

import numpy as np
from torch import nn

from whence.evaluation.metrics import first_hit_in_lists
from whence.index.alignment import search_by_distance
from whence.models.networks import Network, describe_pixels, describing
from whence.training.branches.windowed import WindowPixels, cut_both
from whence.training.options.sequences import SequenceRecallOptions
from whence.training.pixels import cached_set
from whence.training.task import Probe, Setup


class SequenceProbe(Probe):
    """Recall@n of windows, by Euclidean distance; query windows without a positive are left out, as
    published."""

    def __init__(self, options: SequenceRecallOptions, setup: Setup) -> None:
        self.options, self.setup = options, setup

    def open(self) -> None:
        width, height = self.setup.size_px
        size_px = self.options.width or width, self.options.height or height
        network: Network = self.setup.learner.module
        windows = cut_both(self.setup.data.sequences, length=network.pool.length)
        self.pixels = WindowPixels(
            cached_set(windows.data, size_px=size_px, setup=self.setup), windows
        )
        self.positives = windows.near(self.options.radius_m)
        self._num_database = len(windows.database)

    def measure(self, learner: nn.Module) -> dict[str, float]:
        """Recall@n in [0, 1], the network in evaluation mode."""
        was_training = learner.training
        learner.eval()
        describe = describing(learner, device=self.setup.device, dtype=self.setup.dtype)
        try:
            rows = np.arange(len(self.pixels))
            found = describe_pixels(
                describe,
                rows,
                batch_size=self.options.batch_size,
                read=lambda part: self.pixels[np.asarray(part)],
            ).numpy()
        finally:
            learner.train(was_training)
        nearest = search_by_distance(
            found[: self._num_database], found[self._num_database :], k=self.options.n
        )
        first = first_hit_in_lists(nearest.ids, self.positives)[self.positives.counts > 0]
        return {"recall": float((first < self.options.n).mean()) if len(first) else 0.0}
