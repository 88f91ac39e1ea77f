"""DeltaTok: how a frame differs from the one before, as one vector, and the frame's features made
again from both.

The frame-token form, which it is compared with, makes one vector of a frame alone. Features are
those of any backbone of the house that gives a map. Weights are random here; trainings or official
files fill them.

After Kerssies, Berton, He, Yu, Ma, de Geus, Dubbelman, Chen: A frame is worth one token, CVPR 2026.
Paper and release differ: the release's blocks norm queries and keys, gate heads and feed-forward
parts; the paper's are plain.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from whence.errors import BadOption
from whence.models.backbones.base import Backbone
from whence.models.checkpoints.files import fill_module
from whence.models.tokens.blocks import (
    EPS,
    PatchBlock,
    Turns,
    begin_small,
    image_turns,
    patch_coordinates,
)


@dataclass(frozen=True, slots=True)
class TokenShape:
    """The sizes of one DeltaTok; those of the release by default."""

    dim: int = 768
    """Numbers of a feature, and of a token."""
    num_heads: int = 12
    depth: int = 12
    """Blocks on the way to the token, and as many on the way back."""
    hidden: int = 3072
    """Width of the feed-forward parts; the release's gated ones take two thirds of it."""
    is_release: bool = True
    """Whether blocks are the release's, not the paper's plain ones."""
    is_delta: bool = True
    """Whether tokens say the difference from the frame before; else they are frame tokens."""
    scale: float = 1e-5
    """What each branch is scaled by at first: decoding begins as the frame before."""
    rescale: float = 2.0
    """While learning, coordinates of patches are multiplied or divided by up to this; 1 leaves
    them."""


class DeltaTok(nn.Module):
    """Tokens of frames' features (B, N, D), and features of tokens (B, D). Names of parameters are
    the release's."""

    def __init__(self, shape: TokenShape) -> None:
        """Raises `BadOption` for a width that heads do not divide."""
        super().__init__()
        if shape.dim % shape.num_heads or shape.dim // shape.num_heads % 4:
            raise BadOption(
                f"{shape.num_heads} heads do not share {shape.dim} numbers in multiples of 4"
            )
        self.shape = shape
        self.z_embed = nn.Embedding(1, shape.dim)
        self.xy_embed = nn.Embedding(2, shape.dim)
        self.encoder_blocks, self.decoder_blocks = (
            nn.ModuleList(
                PatchBlock(
                    shape.dim,
                    shape.num_heads,
                    shape.hidden,
                    is_release=shape.is_release,
                    scale=shape.scale,
                )
                for _ in range(shape.depth)
            )
            for _ in range(2)
        )
        self.norm = nn.LayerNorm(shape.dim, eps=EPS)
        begin_small(self)

    def encode(
        self, previous: Tensor, current: Tensor, *, grid: tuple[int, int] | None = None
    ) -> Tensor:
        """(B, D) tokens of frames whose features are `current` (B, N, D), after `previous`; `grid`
        where N is no square."""
        turns = self._turns(current, grid)
        types = self.xy_embed.weight
        frames = [current + types[1]]
        if self.shape.is_delta:
            frames = [previous + types[0], *frames]
            turns = Turns(*(torch.cat([part, part]) for part in turns))
        x = torch.cat([self.z_embed.weight.expand(len(current), -1, -1), *frames], dim=1)
        for block in self.encoder_blocks:
            x = block(x, turns)
        token: Tensor = self.norm(x[:, 0])
        return token

    def decode(
        self, tokens: Tensor, previous: Tensor, *, grid: tuple[int, int] | None = None
    ) -> Tensor:
        """(B, N, D) features of the frames of tokens (B, D), after frames of features `previous`
        (B, N, D)."""
        turns = self._turns(previous, grid)
        start = previous if self.shape.is_delta else self.xy_embed.weight[0].expand_as(previous)
        x = torch.cat([tokens[:, None], start], dim=1)
        for block in self.decoder_blocks:
            x = block(x, turns)
        return x[:, 1:]

    def _turns(self, features: Tensor, grid: tuple[int, int] | None) -> Turns:
        num = features.shape[1]
        rows, columns = grid or (math.isqrt(num), math.isqrt(num))
        if rows * columns != num or features.shape[2] != self.shape.dim:
            raise BadOption(
                f"{num} features of {features.shape[2]} numbers are not {rows} x {columns} of "
                f"{self.shape.dim}"
            )
        coordinates = patch_coordinates(rows, columns, device=features.device)
        if self.training and self.shape.rescale > 1:
            # Drawn on the CPU, so that a training follows from its seed on every device.
            coordinates = coordinates * float(self.shape.rescale ** (2 * torch.rand(()) - 1))
        return image_turns(coordinates, self.shape.dim // self.shape.num_heads)


class FrameFeatures(nn.Module):
    """Features (B, N, D) of frames: the map of a backbone, which does not learn, position by
    position."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone.requires_grad_(False).eval()
        mean, std = (
            torch.tensor(values).view(1, 3, 1, 1) for values in (backbone.mean, backbone.std)
        )
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("std", std, persistent=False)
        self.mean: Tensor
        self.std: Tensor

    def train(self, mode: bool = True) -> FrameFeatures:
        """Itself, unchanged: what is frozen does not learn."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, frames: Tensor) -> Tensor:
        """(B, N, D) float32 features of uint8 frames (B, H, W, 3)."""
        images = frames.permute(0, 3, 1, 2).to(self.mean) / 255
        features: Tensor = (
            self.backbone((images - self.mean) / self.std).map.float().flatten(2).transpose(1, 2)
        )
        return features

    def black(self, frames: Tensor) -> Tensor:
        """(1, N, D) features of a frame without light, of the size of frames (B, H, W, 3): what a
        drive's first frame follows."""
        return self(torch.zeros_like(frames[:1]))


def load_official_tokens(tokens: DeltaTok, path: str | Path) -> None:
    """Fill a DeltaTok from an official file, whatever stands before its names and whatever backbone
    lies beside.

    Raises `UnreadableWeights` and `WeightsMismatch`.
    """
    fill_module(tokens, path, what="DeltaTok", rename=_own_name)


def _own_name(name: str) -> str | None:
    """A name of the file as the module's; None for the backbone's."""
    for first in ("z_embed.", "xy_embed.", "encoder_blocks.", "decoder_blocks."):
        if first in name:
            return name[name.index(first) :]
    last = name.removeprefix("network.").removeprefix("tokenizer.")
    return last if last in ("norm.weight", "norm.bias") else None


@dataclass(frozen=True, slots=True)
class TokenCost:
    """What tokens of one frame cost, in parameters and multiply-accumulates."""

    num_parameters: int
    encode: int
    decode: int


def token_cost(shape: TokenShape, *, num_patches: int) -> TokenCost:
    """The cost of one frame of so many patches. Nothing is computed: shapes alone run through."""
    with torch.device("meta"):
        tokens = DeltaTok(shape).eval()
        frame, token = torch.empty(1, num_patches, shape.dim), torch.empty(1, shape.dim)
    grid = (1, num_patches)
    return TokenCost(
        sum(parameter.numel() for parameter in tokens.parameters()),
        count_multiplies(lambda: tokens.encode(frame, frame, grid=grid)),
        count_multiplies(lambda: tokens.decode(token, frame, grid=grid)),
    )


def count_multiplies(compute: object) -> int:
    """Multiply-accumulates of what a function computes: matrix products, attention and
    convolutions."""
    assert callable(compute)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        compute()
    return int(counter.get_total_flops()) // 2
