"""Blocks of DeltaTok and DeltaWorld: attention with positions turned into the vectors, feed-forward
parts, scaled branches.

Names of parameters are those of the official files. After Kerssies, Berton et al.: A frame is worth
one token, CVPR 2026; the positions over an image are DINOv3's (Siméoni et al., 2025).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from whence.errors import BadOption

EPS = 1e-5
_BASE = 100.0
"""Of the periods of positions over an image: the longest is nearly so many times the shortest."""
_SECONDS = (-2.0, 2.0)
"""Powers of ten between which the periods in time lie."""
UNTURNED = 4
"""Numbers of each head that know nothing of time."""


class Turns(NamedTuple):
    """What vectors are turned by, to say where they stand: (..., N, d) each, of d numbers of a
    head."""

    cos: Tensor
    sin: Tensor


def patch_coordinates(rows: int, columns: int, *, device: torch.device | None = None) -> Tensor:
    """(rows * columns, 2) float64: row and column of the patches' centres, each from -1 to 1."""
    axes = [
        (torch.arange(num, device=device, dtype=torch.float64) + 0.5) / num * 2 - 1
        for num in (rows, columns)
    ]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).flatten(0, 1)


def image_turns(coordinates: Tensor, head_dim: int) -> Turns:
    """The turns of patches at coordinates (N, 2): a quarter of a head's numbers are frequencies of
    each axis. `BadOption` else."""
    if head_dim % 4:
        raise BadOption(
            f"heads of {head_dim} numbers cannot say row and column: they need a multiple of 4"
        )
    number = head_dim // 4
    periods = _BASE ** (
        torch.arange(number, device=coordinates.device, dtype=torch.float64) / number
    )
    angles = (2 * math.pi * coordinates[:, :, None] / periods).flatten(1).repeat(1, 2)
    return Turns(angles.cos().float(), angles.sin().float())


def time_turns(times: Tensor, head_dim: int, *, places: Tensor | None = None) -> Turns:
    """The turns of tokens at times (..., N), seconds: periods from a hundredth of a second to 100
    s. Raises `BadOption`.

    With `places` (..., N, 2), row and column from -1 to 1, a third of the numbers each is for time,
    row and column. Angles are computed in float64: far from zero float32 would round them.
    """
    axes = 1 if places is None else 3
    number = (head_dim - UNTURNED) // axes // 2
    if number < 1 or 2 * number * axes + UNTURNED != head_dim:
        raise BadOption(
            f"heads of {head_dim} numbers cannot be turned by {axes}: all but {UNTURNED} need a "
            f"multiple of {2 * axes}"
        )
    device = times.device
    seconds = 10 ** torch.linspace(*_SECONDS, number, device=device, dtype=torch.float64)
    found = [2 * math.pi * times.double()[..., None] / seconds]
    if places is not None:
        periods = _BASE ** (torch.arange(number, device=device, dtype=torch.float64) / number)
        found += [
            (2 * math.pi * places.double()[..., axis, None] / periods).expand(found[0].shape)
            for axis in range(2)
        ]
    angles = torch.cat(found, dim=-1)
    angles = torch.cat([angles, angles], dim=-1)
    return Turns(angles.cos().float(), angles.sin().float())


def turned(vectors: Tensor, turns: Turns) -> Tensor:
    """Vectors (..., d) of which as many numbers as the turns have are turned in pairs of the first
    and second half of them."""
    size = turns.cos.shape[-1]
    moved, kept = vectors[..., :size], vectors[..., size:]
    first, second = moved.chunk(2, dim=-1)
    rotated = torch.cat([-second, first], dim=-1)
    return torch.cat(
        [moved * turns.cos.to(vectors) + rotated * turns.sin.to(vectors), kept], dim=-1
    )


class Scale(nn.Module):
    """Each number of a branch times a factor that is learned."""

    def __init__(self, width: int, start: float) -> None:
        super().__init__()
        self.lambda1 = nn.Parameter(torch.full((width,), start))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.lambda1


class FeedForward(nn.Module):
    """Two layers with GELU between them, or, gated, the SiLU of one layer times another (SwiGLU),
    of two thirds of the width."""

    def __init__(self, width: int, hidden: int, *, is_gated: bool) -> None:
        super().__init__()
        self.is_gated = is_gated
        hidden = 2 * hidden // 3 if is_gated else hidden
        if is_gated:
            self.gate_proj = nn.Linear(width, hidden)
        self.up_proj = nn.Linear(width, hidden)
        self.down_proj = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        inner = (
            nn.functional.silu(self.gate_proj(x)) * self.up_proj(x)
            if self.is_gated
            else nn.functional.gelu(self.up_proj(x))
        )
        found: Tensor = self.down_proj(inner)
        return found


class PatchAttention(nn.Module):
    """Attention of all tokens to all; leading tokens that have no place are not turned.

    The release's form norms queries and keys after turning them, and multiplies each head by a gate
    that follows from the input.
    """

    def __init__(self, width: int, num_heads: int, *, is_release: bool) -> None:
        super().__init__()
        self.num_heads, self.is_release = num_heads, is_release
        self.k_proj = nn.Linear(width, width, bias=False)
        self.v_proj, self.q_proj, self.o_proj = (nn.Linear(width, width) for _ in range(3))
        if is_release:
            self.q_norm, self.k_norm = (
                nn.LayerNorm(width // num_heads, eps=EPS, bias=False) for _ in range(2)
            )
            self.attn_gate = nn.Linear(width, num_heads)

    def forward(self, x: Tensor, turns: Turns) -> Tensor:
        query, key, value = (
            part(x).unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for part in self._parts()
        )
        num = query.shape[2] - turns.cos.shape[0]
        query, key = (
            torch.cat([one[:, :, :num], turned(one[:, :, num:], turns)], dim=2)
            for one in (query, key)
        )
        if self.is_release:
            query, key = self.q_norm(query), self.k_norm(key)
        found = nn.functional.scaled_dot_product_attention(query, key, value).transpose(1, 2)
        if self.is_release:
            found = found * self.attn_gate(x).sigmoid()[..., None]
        out: Tensor = self.o_proj(found.flatten(2))
        return out

    def _parts(self) -> tuple[nn.Linear, nn.Linear, nn.Linear]:
        return self.q_proj, self.k_proj, self.v_proj


class PatchBlock(nn.Module):
    """A block of DeltaTok: attention, then the feed-forward part, each after a norm and scaled from
    almost nothing."""

    def __init__(
        self, width: int, num_heads: int, hidden: int, *, is_release: bool, scale: float
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=EPS)
        self.attention = PatchAttention(width, num_heads, is_release=is_release)
        self.layer_scale1 = Scale(width, scale)
        self.norm2 = nn.LayerNorm(width, eps=EPS)
        self.mlp = FeedForward(width, hidden, is_gated=is_release)
        self.layer_scale2 = Scale(width, scale)

    def forward(self, x: Tensor, turns: Turns) -> Tensor:
        x = x + self.layer_scale1(self.attention(self.norm1(x), turns))
        return x + self.layer_scale2(self.mlp(self.norm2(x)))


class PastAttention(nn.Module):
    """Attention of queries to a context, never to one another; both are turned by their times."""

    def __init__(self, width: int, num_heads: int, dim: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.q_proj = nn.Linear(width, width)
        self.kv_proj = nn.Linear(dim, 2 * width)
        self.out_proj = nn.Linear(width, width)

    def forward(
        self, queries: Tensor, context: Tensor, turns: tuple[Turns, Turns], mask: Tensor | None
    ) -> Tensor:
        query = self.q_proj(queries).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
        key, value = (
            self.kv_proj(context).unflatten(-1, (2, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        )
        query, key = turned(query, turns[0]), turned(key, turns[1])
        found = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        out: Tensor = self.out_proj(found.transpose(1, 2).flatten(2))
        return out


class PastBlock(nn.Module):
    """A block of DeltaWorld: queries look at the context as it is, then at themselves through the
    feed-forward part."""

    def __init__(self, width: int, num_heads: int, dim: int, *, scale: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=EPS)
        self.attention = PastAttention(width, num_heads, dim)
        self.layer_scale1 = Scale(width, scale)
        self.norm2 = nn.LayerNorm(width, eps=EPS)
        self.mlp = FeedForward(width, 4 * width, is_gated=False)
        self.layer_scale2 = Scale(width, scale)

    def forward(
        self, queries: Tensor, context: Tensor, turns: tuple[Turns, Turns], mask: Tensor | None
    ) -> Tensor:
        queries = queries + self.layer_scale1(
            self.attention(self.norm1(queries), context, turns, mask)
        )
        return queries + self.layer_scale2(self.mlp(self.norm2(queries)))


def begin_small(module: nn.Module) -> None:
    """Fill linear layers and tables from a normal distribution cut at two deviations of 0.02,
    biases with 0."""
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Embedding):
            nn.init.trunc_normal_(part.weight, std=0.02, a=-0.04, b=0.04)
        if isinstance(part, nn.Linear) and part.bias is not None:
            nn.init.zeros_(part.bias)
