"""What learns to find and to describe keypoints, and the probe that says how well its pairs of
views match."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import torch
from torch import nn

from whence.cards import ModelCard, Preprocessing
from whence.errors import BadOption
from whence.matching.geometry import GeometrySettings, fit_geometry
from whence.matching.matchers import match_descriptors
from whence.models.checkpoints.files import weights_digest
from whence.models.local.dense import DenseNetwork, make_dense_network, sample_descriptors
from whence.models.local.peaks import find_peaks
from whence.runtime import random_stream
from whence.training import checkpoints
from whence.training.branches.homographies import (
    cut_view,
    draw_beside,
    draw_matrix,
    find_same_point,
)
from whence.training.options.local import LocalFeatureOptions, MatchedShareOptions
from whence.training.pixels import cached_pixels
from whence.training.task import Probe, Setup

_PAIR = 153


class LocalFeatureLearner:
    """A network of local features, from random weights or those of a file."""

    begins_anew = True

    def __init__(
        self,
        options: LocalFeatureOptions,
        *,
        recipe: str,
        seed: int,
        size_px: tuple[int, int],
        device: torch.device,
    ) -> None:
        """Raises `UnknownName`, and `BadOption` for weights of another network."""
        self.options, self._recipe = options, recipe
        self._taught_by: dict[str, str] = {}
        torch.manual_seed(seed)
        self.module = make_dense_network(options.network)
        if options.start_from:
            found = checkpoints.read_checkpoint(options.start_from).tensors
            try:
                self.module.load_state_dict(
                    {
                        name: value.float() if value.is_floating_point() else value
                        for name, value in found.items()
                    }
                )
            except RuntimeError as error:
                raise BadOption(
                    f"{options.start_from!r} holds other weights than {options.network}: {error}"
                ) from None

    @property
    def card(self) -> Callable[[nn.Module], ModelCard]:
        """A function that makes the card of the network as it stands; its backbone is the network's
        name."""
        return lambda network: ModelCard(
            name=f"{self._recipe}-{weights_digest(network)}",
            summary=f"local features trained by the recipe {self._recipe}",
            dim=self.module.dim,
            preprocessing=Preprocessing(),
            licence="MIT",
            weights="trained with `whence train`; recipe.json beside the file says how",
            training_data=self.options.trained_on,
            similarity="none",
            weights_licence="unknown",
            backbone=self.options.network,
            backbone_options=self._taught_by,
            keys="whence",
        )

    def learn_from(self, teacher: str, weights: str) -> None:
        """Remembers, for the card, whose descriptors are learned, by name and digest of the
        weights."""
        self._taught_by = {"teacher": teacher, "teacher_weights": weights}

    def describe_data(self) -> dict[str, Any]:
        """Nothing that the recipe does not say."""
        return {}


class MatchedShareProbe(Probe):
    """The share of pairs of views whose homography mutual nearest neighbours find again."""

    def __init__(self, options: MatchedShareOptions, setup: Setup) -> None:
        self.options, self.setup = options, setup

    def open(self) -> None:
        """Cut the pairs. Raises as `find_same_point`."""
        options, seen, photos = self.options, self.options.views, self.setup.data.photos
        size = (seen.stored_width, seen.stored_height)
        same = find_same_point(photos, self.setup.data.folder("photos with their cameras"), size)
        pixels = cached_pixels(
            photos,
            width=size[0],
            height=size[1],
            folder=self.setup.pixels_folder,
            show_progress=self.setup.show_progress,
        )
        self.pairs: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        """Two grey views and the homography from the first to the second."""
        for number in range(options.num_pairs):
            random = random_stream(self.setup.seed, _PAIR, number)
            row = int(random.choice(same.rows))
            first = draw_matrix(random, seen, size)
            second = draw_beside(random, seen, size, first)
            shown, between = row, np.eye(3)
            if row in same.others and random.random() < seen.other_share:
                shown, between = same.others[row][int(random.integers(len(same.others[row])))]
            cuts = (
                cut_view(pixels[row], first, seen, random, row),
                cut_view(pixels[shown], second @ np.linalg.inv(between), seen, random, shown),
            )
            self.pairs.append((cuts[0].grey, cuts[1].grey, second @ np.linalg.inv(first)))

    def measure(self, learner: nn.Module) -> dict[str, float]:
        """The share as "recall", and matches that are right to within the same distance, in [0, 1],
        as a mean over pairs."""
        assert isinstance(learner, DenseNetwork)
        was_training = learner.training
        learner.eval()
        try:
            found = [self._matched(learner, *pair) for pair in self.pairs]
        finally:
            learner.train(was_training)
        errors, accuracies = np.array(found).T
        return {
            "recall": float((errors <= self.options.within_px).mean()),
            "accuracy": float(accuracies.mean()),
        }

    @torch.inference_mode()
    def _matched(
        self, learner: DenseNetwork, first: np.ndarray, second: np.ndarray, truth: np.ndarray
    ) -> tuple[float, float]:
        """How far the corners of the first view are mapped from where they belong, in the mean, and
        the share of right matches."""
        sides = []
        for grey in (first, second):
            maps = learner(torch.from_numpy(grey)[None, None].float().to(self.setup.device) / 255)
            points = find_peaks(
                maps.logits[0].float().cpu().numpy(), max_points=self.options.max_keypoints
            ).points
            where = torch.from_numpy(points)[None].to(self.setup.device)
            sides.append((points, sample_descriptors(maps, where)[0].cpu().numpy()))
        pairs = match_descriptors(sides[0][1], sides[1][1], ratio=1.0)
        points0, points1 = sides[0][0][pairs.rows0], sides[1][0][pairs.rows1]
        size = (first.shape[1], first.shape[0])
        corners = np.array(
            [[0, 0], [size[0] - 1, 0], [size[0] - 1, size[1] - 1], [0, size[1] - 1]], np.float64
        )
        mapped = (
            cv2.perspectiveTransform(points0[None].astype(np.float64), truth)[0]
            if len(points0)
            else points0
        )
        accuracy = (
            float((np.linalg.norm(mapped - points1, axis=1) <= self.options.within_px).mean())
            if len(points0)
            else 0.0
        )
        matrix = fit_geometry(
            points0, points1, size0_px=size, size1_px=size, settings=GeometrySettings()
        ).matrix
        if matrix is None:
            return float("inf"), accuracy
        gaps = (
            cv2.perspectiveTransform(corners[None], matrix)[0]
            - cv2.perspectiveTransform(corners[None], truth)[0]
        )
        return float(np.linalg.norm(gaps, axis=1).mean()), accuracy
