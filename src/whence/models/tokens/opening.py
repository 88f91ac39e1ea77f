"""What trainings of tokens write, and how it is opened: features of frames, tokens of them,
forecasts of tokens, in one module.

One file holds all it needs, and its card says which backbone and which shapes.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from whence.cards import ModelCard, Preprocessing
from whence.errors import BadOption
from whence.models.backbones import make_backbone
from whence.models.backbones.base import Backbone
from whence.models.cards.text import read_card
from whence.models.checkpoints.files import fill_module, weights_digest
from whence.models.tokens.blocks import patch_coordinates
from whence.models.tokens.delta import DeltaTok, FrameFeatures, TokenShape
from whence.models.tokens.world import DeltaWorld, Futures, WorldShape, roll_out
from whence.records import fill

DELTA, FRAME, PATCHES = "delta token", "frame token", "patches"
"""How a card says what stands for a frame: `aggregator`."""
_BATCH = 16


class TokenModel(nn.Module):
    """Features, tokens and forecasts of frames; without tokens a frame is all its patches. What is
    frozen stays in its state."""

    def __init__(
        self,
        features: FrameFeatures,
        tokens: DeltaTok | None = None,
        world: DeltaWorld | None = None,
    ) -> None:
        super().__init__()
        self.features, self.tokens, self.world = features, tokens, world
        self.learning = ""
        """Name of the one part that learns; empty where all stays as it is."""

    def learn_only(self, part: str) -> TokenModel:
        """The model of which the part of this name alone learns."""
        self.requires_grad_(False)
        self.get_submodule(part).requires_grad_(True)
        self.learning = part
        return self

    def train(self, mode: bool = True) -> TokenModel:
        """Only the part that learns leaves its state of use."""
        super().train(False)
        if self.learning:
            self.get_submodule(self.learning).train(mode)
        return self

    @property
    def size_px(self) -> tuple[int, int]:
        """Height and width that frames are brought to."""
        exact = self.features.backbone.size_rule.exact
        return exact if exact is not None else self.features.backbone.size_rule.nearest(224, 224)

    def encode_clip(self, features: Tensor, black: Tensor) -> Tensor:
        """(B, T, P, D) tokens of frames' features (B, T, N, D), the first after black; all patches
        where there are no tokens."""
        if self.tokens is None:
            return features
        previous = torch.cat([black.expand(len(features), 1, -1, -1), features[:, :-1]], dim=1)
        found = self.tokens.encode(previous.flatten(0, 1), features.flatten(0, 1))
        return found.unflatten(0, features.shape[:2])[:, :, None]

    def forecast(
        self, features: Tensor, black: Tensor, times: Tensor, *, num_samples: int
    ) -> Futures:
        """Futures after frames of features (B, C, N, D) at times (B, C + steps). Raises `BadOption`
        without a predictor."""
        if self.world is None:
            raise BadOption("this model forecasts nothing: train one by a recipe of forecasts")
        side = int(features.shape[2] ** 0.5)
        places = (
            patch_coordinates(side, side, device=features.device) if self.tokens is None else None
        )
        context = self.encode_clip(features, black)
        return roll_out(
            self.world,
            context,
            times,
            num_samples=num_samples,
            tokens=self.tokens,
            last=features[:, -1],
            places=places,
        )

    @torch.inference_mode()
    def tokenize(self, frames: np.ndarray) -> np.ndarray:
        """(T, D) float32 tokens of the uint8 frames (T, H, W, 3) of a drive, the first after black.
        Raises `BadOption`."""
        if self.tokens is None:
            raise BadOption("this model has no tokens: train them by a recipe of tokens")
        features = self.features_of(frames)
        black = self.features.black(torch.from_numpy(np.ascontiguousarray(frames[:1])))
        previous = torch.cat([black, features[:-1]])
        parts = zip(previous.split(_BATCH), features.split(_BATCH), strict=True)
        return torch.cat([self.tokens.encode(before, now) for before, now in parts]).numpy()

    @torch.inference_mode()
    def features_of(self, frames: np.ndarray) -> Tensor:
        """(T, N, D) features of uint8 frames (T, H, W, 3)."""
        parts = (frames[start : start + _BATCH] for start in range(0, len(frames), _BATCH))
        return torch.cat(
            [self.features(torch.from_numpy(np.ascontiguousarray(part))) for part in parts]
        )


def token_card(model: TokenModel, *, recipe: str) -> ModelCard:
    """The card of what a training by a recipe made: backbone, what stands for a frame, and the
    shapes of both."""
    shape = None if model.tokens is None else model.tokens.shape
    return ModelCard(
        name=f"{recipe}-{weights_digest(model)}",
        summary=f"tokens of frames, trained by the recipe {recipe}",
        dim=model.features.backbone.channels,
        preprocessing=Preprocessing(size_px=model.size_px, interpolation="bilinear"),
        licence="MIT",
        weights="trained with `whence train`; recipe.json beside the file says how",
        training_data="the clips given to `whence train`",
        similarity="none",
        weights_licence="unknown",
        backbone=model.features.backbone.name,
        aggregator=PATCHES if shape is None else DELTA if shape.is_delta else FRAME,
        aggregator_options={} if shape is None else asdict(shape),
        sequence="" if model.world is None else "forecasts",
        sequence_options={} if model.world is None else asdict(model.world.shape),
        keys="whence",
    )


def open_tokens(path: str | Path) -> TokenModel:
    """The model of a file that a training of features, tokens or forecasts wrote.

    Raises `UnreadableWeights`, `WeightsMismatch`, and `BadOption` for a file of something else.
    """
    card = read_card(path)
    if card.aggregator not in (DELTA, FRAME, PATCHES):
        raise BadOption(
            f"{str(path)!r} is {card.name}, which makes no tokens of frames; give what a recipe "
            "of tokens wrote"
        )
    features = FrameFeatures(make_backbone(card.backbone))
    shape = (
        fill(TokenShape, dict(card.aggregator_options), what="size of tokens")
        if card.aggregator != PATCHES
        else None
    )
    world = (
        DeltaWorld(fill(WorldShape, dict(card.sequence_options), what="size of forecasts"))
        if card.sequence
        else None
    )
    model = TokenModel(features, None if shape is None else DeltaTok(shape), world)
    fill_module(model, path, what=f"the tokens {card.name}")
    return model.requires_grad_(False).eval()


def open_features(name: str) -> Backbone:
    """The backbone of a file that a training wrote, or of a registered model by name, with its
    weights.

    Raises as `open_tokens` and `whence.models.zoo.named_network`.
    """
    if name.endswith(".safetensors") and read_card(name).aggregator in (DELTA, FRAME, PATCHES):
        return open_tokens(name).features.backbone
    from whence.models.zoo import named_network

    return named_network(name).backbone
