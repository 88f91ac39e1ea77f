"""Losses over features of frames: of DeltaTok, and of a compressor of texts (CompLLM) over hidden
states of a language model."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

_LEAST_STD = 1e-4


def log_cosh(apart: Tensor) -> Tensor:
    """The mean of the logarithm of the hyperbolic cosine of what is apart, in float32: DeltaTok's
    release."""
    size = apart.float().abs()
    return (size + nn.functional.softplus(-2 * size) - math.log(2)).mean()


def feature_loss(estimate: Tensor, came: Tensor, *, name: str) -> Tensor:
    """How far features that were made lie from those that came: `log-cosh`, or `squared`, the
    paper's."""
    apart = estimate.float() - came.detach().float()
    return log_cosh(apart) if name == "log-cosh" else apart.square().mean()


def hidden_loss(
    estimates: Sequence[Tensor], taught: Sequence[Tensor], *, beta: float = 1.0
) -> Tensor:
    """CompLLM's loss: of each layer's hidden states (A, d) at the answer, made against taught, the
    mean smooth L1 over the standard deviation (unbiased) of what is taught; the sum over layers. In
    float32.
    """
    parts = []
    for one, other in zip(estimates, taught, strict=True):
        target = other.detach().float()
        spread = target.std().clamp_min(_LEAST_STD)
        parts.append(nn.functional.smooth_l1_loss(one.float(), target, beta=beta) / spread)
    return torch.stack(parts).sum()
