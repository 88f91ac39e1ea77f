"""Aggregators that let positions speak with each other: MixVPR, SALAD with the head of MegaLoc, and
Bag-of-Queries."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from whence.errors import BadOption
from whence.models.aggregators.pools import Aggregator, LinearHead, class_token
from whence.models.backbones.base import Derived, Features


class MixerBlock(nn.Module):
    """One residual step of MixVPR: a small network over the positions, the same for each
    channel."""

    def __init__(self, num_positions: int, mlp_ratio: int) -> None:
        super().__init__()
        self.mix = nn.Sequential(
            nn.LayerNorm(num_positions),
            nn.Linear(num_positions, num_positions * mlp_ratio),
            nn.ReLU(),
            nn.Linear(num_positions * mlp_ratio, num_positions),
        )
        for layer in self.mix:
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        mixed: Tensor = x + self.mix(x)
        return mixed


class MixVpr(Aggregator):
    """MixVPR (Ali-bey et al., WACV 2023): mixes positions, then channels, then reduces both. Unit
    length, `channels_out` * `rows`.

    Its layers are as wide as the map has positions: another `grid` than the one it was made for
    raises `BadOption`.
    """

    def __init__(
        self,
        channels: int,
        *,
        channels_out: int = 1024,
        rows: int = 4,
        depth: int = 4,
        mlp_ratio: int = 1,
        grid: tuple[int, int] = (20, 20),
    ) -> None:
        super().__init__()
        self.dim, self.grid = channels_out * rows, grid
        num_positions = grid[0] * grid[1]
        self.mix = nn.Sequential(*(MixerBlock(num_positions, mlp_ratio) for _ in range(depth)))
        self.channel_proj = nn.Linear(channels, channels_out)
        self.row_proj = nn.Linear(num_positions, rows)

    def forward(self, features: Features) -> Tensor:
        if tuple(features.map.shape[2:]) != self.grid:
            found, made_for = (
                "{} x {}".format(*features.map.shape[2:]),
                "{} x {}".format(*self.grid),
            )
            raise BadOption(
                f"mixvpr was made for a map of {made_for} positions, not {found}: resize the "
                "images (20 x 20 is 320 px)"
            )
        x = self.mix(features.map.flatten(2))
        x = self.channel_proj(x.transpose(1, 2)).transpose(1, 2)
        return nn.functional.normalize(self.row_proj(x).flatten(1), dim=1)


def transport(scores: Tensor, dust_bin: Tensor, *, num_iterations: int = 3) -> Tensor:
    """(B, m + 1, n) logarithms of shares: how much of each of n positions goes to each of m words
    or, last, to the dustbin.

    Sinkhorn's iterations (Cuturi, NeurIPS 2013) on scores (B, m, n), in the logarithm; every
    position's shares sum to one, every word gets about one position, the dustbin the n - m that are
    left. n must exceed m.
    """
    batch, num_words, _ = scores.shape
    # Half precision cannot even count the positions.
    scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
    scores = torch.cat([scores, dust_bin.to(scores.dtype).expand(batch, 1, scores.shape[2])], dim=1)
    # Counted as a tensor, so that an exported graph counts anew for every size.
    num = torch.ones_like(scores[0, 0]).sum()
    whole = (num + num_words).log()
    rows = torch.cat([(-whole).expand(num_words), ((num - num_words).log() - whole)[None]])[
        None, :, None
    ]
    v = torch.zeros_like(scores[:, :1])
    u = torch.zeros_like(scores[:, :, :1])
    for _ in range(num_iterations):
        u = rows - torch.logsumexp(scores + v, dim=2, keepdim=True)
        v = -whole - torch.logsumexp(scores + u, dim=1, keepdim=True)
    return scores + u + v + whole


class Salad(Aggregator):
    """SALAD (Izquierdo and Civera, CVPR 2024): positions are shared out to words by optimal
    transport. Unit length.

    The class token's part comes first, then `word_dim` * `num_words` values, the words fastest.
    More positions than words are needed, or `BadOption` is raised.
    """

    def __init__(
        self,
        channels: int,
        *,
        num_words: int = 64,
        word_dim: int = 128,
        token_dim: int = 256,
        hidden: int = 512,
        dropout: float = 0.3,
        has_token: bool = True,
    ) -> None:
        """Without a token the words stand alone, for backbones that have no class token."""
        super().__init__()
        self.dim = token_dim * has_token + num_words * word_dim
        self.num_words = num_words
        self.dust_bin = nn.Parameter(torch.tensor(1.0))
        self.token_features = (
            nn.Sequential(nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, token_dim))
            if has_token
            else None
        )
        self.cluster_features = _two_convolutions(channels, hidden, word_dim, dropout)
        self.score = _two_convolutions(channels, hidden, num_words, dropout)

    def forward(self, features: Features) -> Tensor:
        num_positions = features.map.shape[2] * features.map.shape[3]
        if not torch.compiler.is_compiling() and num_positions <= self.num_words:
            raise BadOption(
                f"salad needs more than {self.num_words} positions, this image has "
                f"{num_positions}: "
                "take larger images (126 x 126 pixels for 64 words and a patch of 14)"
            )
        local = self.cluster_features(features.map).flatten(2)
        shares = (
            transport(self.score(features.map).flatten(2), self.dust_bin)[:, :-1]
            .exp()
            .to(local.dtype)
        )
        words = nn.functional.normalize(local @ shares.transpose(1, 2), dim=1)
        if self.token_features is None:
            return nn.functional.normalize(words.flatten(1), dim=1)
        token = nn.functional.normalize(self.token_features(class_token(features, "salad")), dim=1)
        return nn.functional.normalize(torch.cat([token, words.flatten(1)], dim=1), dim=1)


def _two_convolutions(
    channels: int, hidden: int, channels_out: int, dropout: float
) -> nn.Sequential:
    # Dropout before the nonlinearity, as published.
    return nn.Sequential(
        nn.Conv2d(channels, hidden, 1),
        nn.Dropout(dropout),
        nn.ReLU(),
        nn.Conv2d(hidden, channels_out, 1),
    )


def megaloc(channels: int, *, dim: int = 8448) -> LinearHead:
    """The head of MegaLoc (Berton and Masone, CVPR workshops 2025): SALAD with 256 values per word,
    linear, unit length."""
    return LinearHead(Salad(channels, word_dim=256), dim)


class QueryBlock(nn.Module):
    """One bag of learned queries: refines the positions, then asks them."""

    def __init__(self, width: int, num_queries: int, num_heads: int) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.randn(1, num_queries, width))
        self.encoder = nn.TransformerEncoderLayer(
            width, num_heads, 4 * width, dropout=0.0, batch_first=True
        )
        self.self_attn = nn.MultiheadAttention(width, num_heads, batch_first=True)
        self.norm_q = nn.LayerNorm(width)
        self.cross_attn = nn.MultiheadAttention(width, num_heads, batch_first=True)
        self.norm_out = nn.LayerNorm(width)
        self._derived = Derived()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The refined positions (B, n, d) and the answers (B, queries, d)."""
        x = self.encoder(x)
        asking = [self.queries, *self.self_attn.parameters(), *self.norm_q.parameters()]
        q = self._derived.get("q", asking, self._ask).expand(x.shape[0], -1, -1)
        answers: Tensor = self.norm_out(self.cross_attn(q, x, x, need_weights=False)[0])
        return x, answers

    def _ask(self) -> Tensor:
        q = self.queries
        asked: Tensor = self.norm_q(q + self.self_attn(q, q, q, need_weights=False)[0])
        return asked


class BagOfQueries(Aggregator):
    """Bag-of-Queries (Ali-bey et al., CVPR 2024): learned queries ask the positions. Unit length,
    `width` * `rows` dimensions."""

    def __init__(
        self,
        channels: int,
        *,
        width: int = 512,
        num_queries: int = 64,
        num_layers: int = 2,
        rows: int = 32,
    ) -> None:
        super().__init__()
        if width % 64:
            raise BadOption(
                f"boq has heads of 64 values: width must be a multiple of 64, not {width}"
            )
        self.dim = width * rows
        self.proj_c = nn.Conv2d(channels, width, 3, padding=1)
        self.norm_input = nn.LayerNorm(width)
        self.boqs = nn.ModuleList(
            QueryBlock(width, num_queries, width // 64) for _ in range(num_layers)
        )
        self.fc = nn.Linear(num_layers * num_queries, rows)

    def forward(self, features: Features) -> Tensor:
        x = self.norm_input(self.proj_c(features.map).flatten(2).transpose(1, 2))
        collected = []
        for block in self.boqs:
            x, answers = block(x)
            collected.append(answers)
        return nn.functional.normalize(
            self.fc(torch.cat(collected, dim=1).transpose(1, 2)).flatten(1), dim=1
        )
