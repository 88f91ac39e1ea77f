"""What the best weights are chosen by: recall of the network as it stands, or after re-ranking with
the regressor as it stands.

Photos are decoded once; a probe is then asked again and again.
"""

from __future__ import annotations

import copy

import numpy as np
from torch import nn

from whence.evaluation.metrics import first_hit_by_distance
from whence.evaluation.protocol import metric_ground, score_predictions
from whence.index.flat import FlatIndex
from whence.models.networks import describe_pixels, describing
from whence.models.warp.model import GeoWarp, Regressor
from whence.models.warp.scorer import GeoWarpScorer, WarpOptions
from whence.models.warp.torch_engine import TorchEngine
from whence.training.learners import RegressorLearner
from whence.training.options.aligned import AlignedRecallOptions
from whence.training.options.validation import RecallOptions, RerankedOptions
from whence.training.pixels import cached_set, spread_rows
from whence.training.task import Probe, Setup


class RecallProbe(Probe):
    """Recall@n within a radius of a network's descriptors."""

    def __init__(self, options: RecallOptions | AlignedRecallOptions, setup: Setup) -> None:
        self.options, self.setup = options, setup

    def open(self) -> None:
        width, height = self.setup.size_px
        size_px = self.options.width or width, self.options.height or height
        self.pixels = cached_set(self.setup.data.set, size_px=size_px, setup=self.setup)

    def measure(self, learner: nn.Module) -> dict[str, float]:
        """Recall@n within the radius, in [0, 1], the network in evaluation mode."""
        was_training = learner.training
        learner.eval()
        try:
            stored, asked = (
                self._described(module, part)
                for module, part in (
                    (learner, self.pixels.database),
                    (self.asking(learner), self.pixels.queries),
                )
            )
        finally:
            learner.train(was_training)
        found = FlatIndex.over(stored).search(asked, k=self.options.n).ids
        scored = score_predictions(
            found,
            self.setup.data.set,
            thresholds_m=[self.options.radius_m],
            recall_at=[self.options.n],
        )
        return {"recall": scored[0].all_queries[0].value}

    def asking(self, learner: nn.Module) -> nn.Module:
        """The module that describes queries: the learner."""
        return learner

    def _described(self, module: nn.Module, photos: np.ndarray) -> np.ndarray:
        describe = describing(module, device=self.setup.device, dtype=self.setup.dtype)
        rows = describe_pixels(describe, photos, batch_size=self.options.batch_size)
        return np.asarray(nn.functional.normalize(rows, dim=1).numpy())


class AlignedRecallProbe(RecallProbe):
    """The same of a copy that describes the database alone: queries are described by the model as
    it was before the training."""

    def __init__(self, options: AlignedRecallOptions, setup: Setup) -> None:
        super().__init__(options, setup)
        self.model = copy.deepcopy(setup.learner.module).eval().requires_grad_(False)

    def open(self) -> None:
        super().open()
        self.model.to(self.setup.device)

    def asking(self, learner: nn.Module) -> nn.Module:
        """The module that describes queries: the model that the learner was copied from."""
        return self.model


class RerankedProbe(Probe):
    """Recall@1 after re-ranking a few candidates, which are found and prepared once."""

    def __init__(self, options: RerankedOptions, setup: Setup) -> None:
        self.options, self.setup = options, setup

    def open(self) -> None:
        learner: RegressorLearner = self.setup.learner
        data, options = self.setup.data.set, self.options
        pixels = cached_set(data, size_px=learner.size_px, setup=self.setup)
        query_rows = spread_rows(len(pixels.queries), options.num_queries)
        stored, wanted = (
            learner.describe(part) for part in (pixels.database, pixels.queries[query_rows])
        )
        found = FlatIndex.over(stored).search(wanted, k=options.num_candidates)
        ground = metric_ground(data.database, data.queries)
        gap = ground.queries[query_rows][:, None] - ground.database[found.ids]
        self.is_right = np.einsum("qkd,qkd->qk", gap, gap) <= options.radius_m**2
        """(Q, K) which candidates show the place."""
        first = first_hit_by_distance(
            found.ids, ground.database, ground.queries[query_rows], thresholds_m=[options.radius_m]
        )[0]
        self.before = {
            "recall_before": float((first == 0).mean()),
            "recall_bound": float((first < found.ids.shape[1]).mean()),
        }
        # The long side is that of the photos, so that none is resized again.
        self.reading = WarpOptions(options.readout, long_side_px=max(64, *learner.size_px))
        self.backbone = learner.geowarp.backbone
        scorer = self._scorer(unmoved := GeoWarp(self.backbone).regressor)
        self.candidates = found.ids
        self.arrays_of_row = {
            row: scorer.prepare(np.array(pixels.database[row]))
            for row in np.unique(found.ids).tolist()
        }
        self.queries = [scorer.prepare(np.array(pixels.queries[row])) for row in query_rows]
        self.before["recall_unwarped"] = self.measure(unmoved)["recall"]

    def measure(self, learner: nn.Module) -> dict[str, float]:
        """Recall@1 after re-ranking, before it, the most it could be, and without warping; mean
        similarity of candidates."""
        scorer = self._scorer(learner)
        similarities = np.array(
            [
                [
                    one.similarity
                    for one in scorer.score(query, [self.arrays_of_row[row] for row in rows])
                    if one is not None
                ]
                for query, rows in zip(self.queries, self.candidates.tolist(), strict=True)
            ]
        )
        best = similarities.argmax(axis=1)
        recall = float(self.is_right[np.arange(len(best)), best].mean())
        right, wrong = (
            similarities[which].mean() if which.any() else 0.0
            for which in (self.is_right, ~self.is_right)
        )
        return {
            "recall": recall,
            **self.before,
            "similarity_right": float(right),
            "similarity_wrong": float(wrong),
        }

    def _scorer(self, regressor: nn.Module) -> GeoWarpScorer:
        """A scorer with a copy: it lays the regressor out in memory in a way of its own, which
        changes how training rounds."""
        model = GeoWarp(self.backbone)
        assert isinstance(regressor, Regressor)
        model.regressor = copy.deepcopy(regressor)
        return GeoWarpScorer(TorchEngine(model), options=self.reading)
