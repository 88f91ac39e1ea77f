"""What the best regressor is chosen by: recall@1 after re-ranking a few candidates, on photos prepared once."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from whence.cards import Preprocessing
from whence.data.formats import EvaluationSet
from whence.evaluation.metrics import first_hit_by_distance
from whence.evaluation.protocol import metric_ground
from whence.index.flat import FlatIndex
from whence.models.descriptor import read_as
from whence.models.networks import Network
from whence.models.preprocessing import normalise
from whence.models.warp.model import GeoWarp, Regressor
from whence.models.warp.scorer import GeoWarpScorer, WarpOptions
from whence.training.warp_data import spread_rows
from whence.training.warp_recipe import WarpValidationOptions

_BATCH = 32


class WarpValidation:
    """Candidates of a set's queries, found and prepared once; a regressor is then asked again and again."""

    def __init__(
        self,
        data: EvaluationSet,
        network: Network,
        *,
        options: WarpValidationOptions,
        pixels: tuple[np.ndarray, np.ndarray],
        reading: Preprocessing = Preprocessing(),  # noqa: B008 (an immutable record)
    ) -> None:
        self.network = network
        database, queries = pixels
        asked = spread_rows(len(queries), options.num_queries)
        stored, wanted = (unit_rows(describe_pixels(network, part, reading=reading)) for part in (database, queries[asked]))
        found = FlatIndex.over(stored).search(wanted, k=options.num_candidates)
        ground = metric_ground(data.database, data.queries)
        gap = ground.queries[asked][:, None] - ground.database[found.ids]
        self.is_right = np.einsum("qkd,qkd->qk", gap, gap) <= options.radius_m**2
        """(Q, K) which candidates show the place."""
        first = first_hit_by_distance(found.ids, ground.database, ground.queries[asked], thresholds_m=[options.radius_m])[0]
        self.before = {"recall_before": float((first == 0).mean()), "recall_bound": float((first < found.ids.shape[1]).mean())}
        # The long side is that of the photos, so that none is resized again.
        self.options = WarpOptions(options.readout, long_side_px=max(64, *database.shape[1:3]))
        scorer = self._scorer(unmoved := GeoWarp(network.backbone).regressor)
        self.candidates = found.ids
        self.known = {row: scorer.prepare(np.array(database[row])) for row in np.unique(found.ids).tolist()}
        self.queries = [scorer.prepare(np.array(queries[row])) for row in asked]
        self.before["recall_unwarped"] = self.measure(unmoved)["recall"]

    def measure(self, regressor: nn.Module) -> dict[str, float]:
        """Recall@1 after re-ranking, before it, the most it could be, and without warping; mean similarity of candidates."""
        was_training = regressor.training
        scorer = self._scorer(regressor)
        similarities = np.array([
            [one.similarity for one in scorer.score(query, [self.known[row] for row in rows]) if one is not None]
            for query, rows in zip(self.queries, self.candidates.tolist(), strict=True)
        ])  # fmt: skip
        regressor.train(was_training)
        best = similarities.argmax(axis=1)
        recall = float(self.is_right[np.arange(len(best)), best].mean())
        right, wrong = (similarities[which].mean() if which.any() else 0.0 for which in (self.is_right, ~self.is_right))
        return {"recall": recall, **self.before, "similarity_right": float(right), "similarity_wrong": float(wrong)}

    def _scorer(self, regressor: nn.Module) -> GeoWarpScorer:
        model = GeoWarp(self.network.backbone)
        assert isinstance(regressor, Regressor)
        model.regressor = regressor
        return GeoWarpScorer(model, options=self.options)


def describe_pixels(network: Network, pixels: np.ndarray, *, reading: Preprocessing) -> np.ndarray:
    """Descriptors (N, D) float32 of uint8 photos (N, H, W, 3), as the network gives them of photos brought to its size."""
    parts = []
    device = next(network.parameters()).device
    with torch.inference_mode():
        for start in range(0, len(pixels), _BATCH):
            photos = np.stack([read_as(np.array(photo), reading) for photo in pixels[start : start + _BATCH]])
            images = normalise(torch.from_numpy(photos).to(device))
            parts.append(network(images.contiguous(memory_format=torch.channels_last)).float().cpu().numpy())
    return np.concatenate(parts)


def unit_rows(descriptors: np.ndarray) -> np.ndarray:
    """The descriptors at unit length."""
    return descriptors / np.maximum(np.linalg.norm(descriptors, axis=1, keepdims=True), 1e-12)
