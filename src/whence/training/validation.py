"""What the best weights are chosen by: recall@N of the network as it stands, on photos kept decoded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

from whence.data.formats import EvaluationSet
from whence.evaluation.protocol import score_predictions
from whence.index.flat import FlatIndex
from whence.models.preprocessing import normalise
from whence.training.pixels import cached_pixels
from whence.training.recipe import ValidationOptions


class Validation:
    """A set ready to be asked again and again. Photos are decoded once, into `folder`."""

    def __init__(
        self, data: EvaluationSet, *, options: ValidationOptions, folder: str | Path, show_progress: bool | None = None
    ) -> None:
        self.data, self.options = data, options
        size = {"width": options.width, "height": options.height, "folder": folder, "show_progress": show_progress}
        self.database = cached_pixels(data.database, **size)  # type: ignore[arg-type]
        self.queries = cached_pixels(data.queries, **size)  # type: ignore[arg-type]

    def recall(self, network: nn.Module, *, device: torch.device, precision: torch.dtype | None = None) -> float:
        """Recall@n within the radius, in [0, 1], the network in evaluation mode. `precision` is autocast's."""
        was_training = network.training
        network.eval()
        try:
            stored = self._describe(network, self.database, device, precision)
            asked = self._describe(network, self.queries, device, precision)
        finally:
            network.train(was_training)
        index = FlatIndex()
        index.add(np.arange(len(stored)), stored)
        found = index.search(asked, k=self.options.n).ids
        scored = score_predictions(found, self.data, thresholds_m=[self.options.radius_m], recall_at=[self.options.n])
        return scored[0].all_queries[0].value

    def _describe(self, network: nn.Module, pixels: np.ndarray, device: torch.device, precision: torch.dtype | None) -> np.ndarray:
        parts = []
        size = self.options.batch_size
        with torch.inference_mode(), torch.autocast(device.type, dtype=precision, enabled=precision is not None):
            for start in range(0, len(pixels), size):
                photos = torch.from_numpy(np.array(pixels[start : start + size])).to(device)
                parts.append(nn.functional.normalize(network(normalise(photos)).float(), dim=1).cpu().numpy())
        return np.concatenate(parts)
