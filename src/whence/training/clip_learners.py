"""What learns from clips: a backbone with two heads, tokens over it, forecasts over tokens; and the
probe that says how well."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from whence.cards import ModelCard
from whence.errors import BadOption
from whence.models.backbones import make_backbone
from whence.models.cards.text import read_card
from whence.models.tokens.delta import DeltaTok, FrameFeatures, TokenShape
from whence.models.tokens.opening import TokenModel, open_features, open_tokens, token_card
from whence.models.tokens.world import DeltaWorld, WorldShape
from whence.training.branches.clips import open_clips
from whence.training.options.clips import (
    ClipFeaturesOptions,
    ForecastsOptions,
    FrameTokensOptions,
    ReconstructionOptions,
    token_values,
)
from whence.training.task import Probe, Setup


class ShownHeads(nn.Module):
    """A backbone with heads for what pixels show, how far they are and which ground it is; only the
    backbone is kept."""

    def __init__(self, options: ClipFeaturesOptions) -> None:
        super().__init__()
        backbone = make_backbone(options.backbone)
        self.model = TokenModel(FrameFeatures(backbone))
        backbone.requires_grad_(True)
        self.shown = nn.Conv2d(backbone.channels, options.num_classes, 1)
        self.far = nn.Conv2d(backbone.channels, 1, 1)
        self.place = nn.Linear(backbone.channels, options.num_places)

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits (B, classes, h, w), logarithms of metres (B, 1, h, w) and logits (B, places) of
        uint8 frames (B, H, W, 3)."""
        features = self.model.features
        images = (frames.permute(0, 3, 1, 2).to(features.mean) / 255 - features.mean) / features.std
        maps = features.backbone(images).map
        return self.shown(maps), self.far(maps), self.place(maps.mean(dim=(2, 3)))


class ClipFeaturesLearner:
    """A small backbone from random weights."""

    begins_anew = True

    def __init__(
        self,
        options: ClipFeaturesOptions,
        *,
        recipe: str,
        seed: int,
        size_px: tuple[int, int],
        device: torch.device,
    ) -> None:
        """Raises `UnknownName`."""
        torch.manual_seed(seed)
        self._recipe = recipe
        self.module = ShownHeads(options)

    card = None
    """With its heads it is no model; `finish` of the branch writes the features alone."""

    def describe_data(self) -> dict[str, Any]:
        """Nothing that the recipe does not say."""
        return {}


class FrameTokensLearner:
    """DeltaTok over a frozen backbone."""

    begins_anew = True

    def __init__(
        self,
        options: FrameTokensOptions,
        *,
        recipe: str,
        seed: int,
        size_px: tuple[int, int],
        device: torch.device,
    ) -> None:
        """Raises `BadOption`, and as `open_features`."""
        if not options.features:
            raise BadOption(
                "say whose features tokens are made of: --set learner.features=FILE, or a model's "
                "name"
            )
        features = FrameFeatures(open_features(options.features))
        torch.manual_seed(seed)
        tokens = DeltaTok(TokenShape(dim=features.backbone.channels, **token_values(options)))
        self._recipe = recipe
        self.module = TokenModel(features, tokens).learn_only("tokens")

    @property
    def card(self) -> Callable[[nn.Module], ModelCard]:
        """A function that makes the card of the model as it stands."""
        return lambda module: token_card(_as_model(module), recipe=self._recipe)

    def describe_data(self) -> dict[str, Any]:
        """The features below."""
        return {"backbone": self.module.features.backbone.name}


class ForecastsLearner:
    """DeltaWorld over frozen tokens, or over all patches of a frozen backbone."""

    begins_anew = True

    def __init__(
        self,
        options: ForecastsOptions,
        *,
        recipe: str,
        seed: int,
        size_px: tuple[int, int],
        device: torch.device,
    ) -> None:
        """Raises `BadOption`, and as `open_tokens` and `open_features`."""
        if bool(options.tokens) == bool(options.features):
            raise BadOption(
                "say what is forecast: --set learner.tokens=FILE, or for patches --set "
                "learner.features=FILE"
            )
        below = (
            open_tokens(options.tokens)
            if options.tokens
            else TokenModel(FrameFeatures(open_features(options.features)))
        )
        if options.tokens and below.tokens is None:
            raise BadOption(
                f"{options.tokens!r} is {read_card(options.tokens).name}, which has features "
                "alone, no tokens"
            )
        torch.manual_seed(seed)
        world = DeltaWorld(
            WorldShape(dim=below.features.backbone.channels, **token_values(options))
        )
        self._recipe = recipe
        self.module = TokenModel(below.features, below.tokens, world).learn_only("world")

    @property
    def card(self) -> Callable[[nn.Module], ModelCard]:
        """A function that makes the card of the model as it stands."""
        return lambda module: token_card(_as_model(module), recipe=self._recipe)

    def describe_data(self) -> dict[str, Any]:
        """The features below."""
        return {"backbone": self.module.features.backbone.name}


def _as_model(module: nn.Module) -> TokenModel:
    assert isinstance(module, TokenModel), "made here"
    return module


class ReconstructionProbe(Probe):
    """How well features are made again, forecast, or tell what pixels show, on clips of the
    validation."""

    def __init__(self, options: ReconstructionOptions, setup: Setup) -> None:
        self.options, self.setup = options, setup

    def open(self) -> None:
        """Get the clips ready. Raises as `open_clips`."""
        self.clips = open_clips(self.options, self.setup, split="val")
        self.rows = np.arange(min(self.options.num_clips, len(self.clips)))

    @torch.inference_mode()
    def measure(self, learner: nn.Module) -> dict[str, float]:
        """1 / (1 + E) as "recall", and E as "error"; of features the mean intersection over
        union."""
        was_training = learner.training
        learner.eval()
        try:
            return (
                self._shown(learner)
                if isinstance(learner, ShownHeads)
                else self._error(_as_model(learner))
            )
        finally:
            learner.train(was_training)

    def _shown(self, learner: ShownHeads) -> dict[str, float]:
        labels = self.clips.labels
        if labels is None:
            raise BadOption(
                "features learn from clips that say what pixels show: whence world clips FOLDER "
                "renders some"
            )
        rows = self.clips.rows[self.rows][:, ::4].ravel()
        found = []
        for start in range(0, len(rows), 64):
            part = np.ascontiguousarray(self.clips.pixels[rows[start : start + 64]])
            logits = learner(torch.from_numpy(part).to(self.setup.device))[0]
            found.append(
                nn.functional.interpolate(logits, size=part.shape[1:3], mode="bilinear")
                .argmax(dim=1)
                .cpu()
                .numpy()
            )
        return {
            "recall": mean_iou(np.concatenate(found), labels[rows], num=learner.shown.out_channels)
        }

    def _error(self, model: TokenModel) -> dict[str, float]:
        apart, still = 0.0, 0.0
        for start in range(0, len(self.rows), 8):
            rows = self.rows[start : start + 8]
            frames = torch.from_numpy(self.clips.frames(rows)).to(self.setup.device)
            features = model.features(frames.flatten(0, 1)).unflatten(0, frames.shape[:2])
            if model.world is None:
                assert model.tokens is not None, "what learns has one of both"
                before, now = features[:, :-1].flatten(0, 1), features[:, 1:].flatten(0, 1)
                made = model.tokens.decode(model.tokens.encode(before, now), before)
            else:
                context, last = self.options.context, self.options.context + self.options.steps
                times = (
                    torch.from_numpy(self.clips.times_s[rows][:, :last])
                    .float()
                    .to(self.setup.device)
                )
                torch.manual_seed(start)
                seen = features[:, :context]
                black = model.features.black(frames[:, 0])
                futures = model.forecast(
                    seen, black, times, num_samples=self.options.num_samples
                ).features[:, :, -1]
                before, now = features[:, context - 1], features[:, last - 1]
                errors = (futures - now[:, None]).square().mean(dim=(2, 3))
                made = futures[torch.arange(len(rows)), errors.argmin(dim=1)]
            apart += float((made - now).square().sum())
            still += float((now - before).square().sum())
        error = apart / max(still, 1e-12)
        return {"recall": 1 / (1 + error), "error": error}


def mean_iou(labels: np.ndarray, truth: np.ndarray, *, num: int) -> float:
    """The mean over classes of intersection over union, accumulated over all pixels; classes that
    are nowhere do not count."""
    counts = np.bincount(
        num * truth.ravel().astype(np.int64) + labels.ravel(), minlength=num * num
    ).reshape(num, num)
    union = counts.sum(axis=0) + counts.sum(axis=1) - np.diag(counts)
    return float((np.diag(counts)[union > 0] / union[union > 0]).mean())
