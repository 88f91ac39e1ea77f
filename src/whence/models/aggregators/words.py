"""Aggregators that sum residuals to visual words: NetVLAD, its contextual reweighting, and hard
VLAD over a transformer's facets.

The training-free VLAD over RootSIFT is in `whence.models.vlad`.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from whence.errors import BadOption
from whence.models.aggregators.pools import Aggregator, LinearHead
from whence.models.backbones.base import Features
from whence.models.vlad import k_means

INIT_ITERATIONS = 100
INIT_SHARE = 0.01
"""NetVLAD starts so that a word's second nearest weighs this much of its nearest on average
(Arandjelovic et al.)."""


def inverse_norms(x: Tensor) -> Tensor:
    """(B, 1, n): what brings each of the vectors (B, C, n) to unit length, so that no copy of them
    is needed."""
    return 1 / x.norm(dim=1, keepdim=True).clamp(min=1e-12)


def residual_sums(x: Tensor, scale: Tensor, shares: Tensor, words: Tensor) -> Tensor:
    """(B, K, C): per word the sum of shares times residuals, before anything is brought to unit
    length.

    x (B, C, n), its scale to unit length (B, 1, n), shares (B, K, n), words (K, C). One product for
    all words instead of a loop.
    """
    return (shares * scale) @ x.transpose(1, 2) - shares.sum(dim=2, keepdim=True) * words


def unit_words(sums: Tensor) -> Tensor:
    """(B, K * C) of unit length, of sums (B, K, C) of residuals, each word's brought to unit length
    first."""
    return nn.functional.normalize(nn.functional.normalize(sums, dim=2).flatten(1), dim=1)


class NetVlad(Aggregator):
    """NetVLAD (Arandjelovic et al., CVPR 2016): residuals to K visual words, softly assigned. Unit
    length, K * C dimensions.

    Tokens of transformers and the frames of a sequence side by side are maps as well.
    """

    def __init__(self, channels: int, *, num_words: int = 64) -> None:
        super().__init__()
        self.dim = num_words * channels
        self.centroids = nn.Parameter(torch.rand(num_words, channels))
        self.conv = nn.Conv2d(channels, num_words, 1, bias=False)

    def forward(self, features: Features) -> Tensor:
        return unit_words(self.sums(features))

    def sums(self, features: Features) -> Tensor:
        """(B, K, C) sums of residuals, which add up over the frames of a sequence."""
        x = features.map.flatten(2)
        scale = inverse_norms(x)
        shares = torch.softmax((self.conv.weight.flatten(1) @ x) * scale, dim=1)
        return residual_sums(x, scale, self.weigh(shares, features.map), self.centroids)

    def weigh(self, shares: Tensor, map: Tensor) -> Tensor:
        """(B, K, n): the shares of positions in words, as they count in the sum."""
        return shares

    def fit(self, descriptors: Tensor, *, seed: int) -> None:
        """Start from k-means of local descriptors (M, C), which need not be of unit length; 50,000
        of the training set in print.

        Descriptors of transformers are tokens with all their channels; the published code mixed
        those up. Raises `NotFitted` for fewer than 39 descriptors per word.
        """
        unit = nn.functional.normalize(descriptors.float(), dim=1)
        words = k_means(
            unit.cpu().numpy(), len(self.centroids), seed=seed, num_iterations=INIT_ITERATIONS
        )
        self.set_words(torch.from_numpy(words), unit)

    def set_words(self, words: Tensor, descriptors: Tensor) -> None:
        """Take these words (K, C), and assign as sharply as local descriptors (M, C) allow. Raises
        `BadOption` for wrong shapes."""
        if (
            words.shape != self.centroids.shape
            or descriptors.ndim != 2
            or descriptors.shape[1] != words.shape[1]
        ):
            expected = tuple(self.centroids.shape)
            raise BadOption(
                f"words {expected} and descriptors (M, {expected[1]}) are needed, not "
                f"{tuple(words.shape)} and {tuple(descriptors.shape)}"
            )
        directions = nn.functional.normalize(words.float(), dim=1)
        nearest = (
            (nn.functional.normalize(descriptors.float(), dim=1).to(directions) @ directions.T)
            .topk(2, dim=1)
            .values
        )
        sharpness = -math.log(INIT_SHARE) / (nearest[:, 0] - nearest[:, 1]).mean()
        with torch.no_grad():
            self.centroids.copy_(words)
            self.conv.weight.copy_((sharpness * directions)[:, :, None, None])


def netvlad_fc(channels: int, *, dim: int = 4096, num_words: int = 64) -> LinearHead:
    """NetVLAD and a linear layer from all its K * C dimensions."""
    return LinearHead(NetVlad(channels, num_words=num_words), dim)


class Reweighting(nn.Module):
    """How much each position counts, from its surroundings at three sizes (Kim et al., CVPR
    2017)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.filter_3_3 = nn.Conv2d(channels, 32, 3, padding=1)
        self.filter_5_5 = nn.Conv2d(channels, 32, 5, padding=2)
        self.filter_7_7 = nn.Conv2d(channels, 20, 7, padding=3)
        self.acc_w = nn.Conv2d(84, 1, 1)
        for convolution in (self.filter_3_3, self.filter_5_5, self.filter_7_7):
            nn.init.xavier_normal_(convolution.weight)
            nn.init.constant_(convolution.get_parameter("bias"), 0.0)
        nn.init.constant_(self.acc_w.weight, 1.0)
        nn.init.constant_(self.acc_w.get_parameter("bias"), 0.0)
        self.acc_w.requires_grad_(False)

    def forward(self, unit: Tensor) -> Tensor:
        """(B, 1, h, w) weights of (B, C, h, w)."""
        coarse = nn.functional.avg_pool2d(unit, 3, stride=2, ceil_mode=True)
        seen = torch.cat(
            [self.filter_3_3(coarse), self.filter_5_5(coarse), self.filter_7_7(coarse)], dim=1
        )
        weights = torch.relu(self.acc_w(torch.relu(seen)))
        # To the map's own size: twice the coarse one is a row or column too many for odd sizes.
        return nn.functional.interpolate(weights, size=unit.shape[2:], mode="bilinear")


class Crn(NetVlad):
    """NetVLAD whose assignments are weighted by a contextual reweighting network (Kim et al., CVPR
    2017). Unit length.

    Any map of at least 2 x 2 positions, odd sides too; smaller ones raise `BadOption`.
    """

    def __init__(self, channels: int, *, num_words: int = 64) -> None:
        super().__init__(channels, num_words=num_words)
        self.crn = Reweighting(channels)

    def weigh(self, shares: Tensor, map: Tensor) -> Tensor:
        """(B, K, n): the shares times each position's weight."""
        if not torch.compiler.is_compiling() and min(map.shape[2:]) < 2:
            raise BadOption(
                f"crn needs a map of at least 2 x 2 positions, not {map.shape[2]} x "
                f"{map.shape[3]}: take larger images"
            )
        return shares * self.crn(nn.functional.normalize(map, dim=1)).flatten(2)


class HardVlad(Aggregator):
    """VLAD with each position given to its nearest word whole (AnyLoc; Keetha et al., RA-L 2024).
    Unit length, K * C dimensions.

    The words are a vocabulary loaded, or fitted on local descriptors of one's own photos; random
    until then.
    """

    words: Tensor

    def __init__(self, channels: int, *, num_words: int = 32) -> None:
        super().__init__()
        self.dim = num_words * channels
        self.register_buffer("words", torch.randn(num_words, channels) / math.sqrt(channels))

    def forward(self, features: Features) -> Tensor:
        x = features.map.flatten(2)
        nearest = (nn.functional.normalize(self.words, dim=1) @ x).argmax(dim=1)
        shares = nn.functional.one_hot(nearest, len(self.words)).transpose(1, 2).to(x.dtype)
        return unit_words(residual_sums(x, inverse_norms(x), shares, self.words))

    def fit(self, descriptors: Tensor, *, seed: int) -> None:
        """Take as words the k-means by cosine of local descriptors (M, C). Raises `NotFitted` for
        fewer than 39 per word."""
        unit = nn.functional.normalize(descriptors.float(), dim=1).cpu().numpy()
        words = k_means(
            np.ascontiguousarray(unit),
            len(self.words),
            seed=seed,
            num_iterations=INIT_ITERATIONS,
            is_spherical=True,
        )
        self.words.copy_(torch.from_numpy(words))
