"""DeltaWorld: many forecasts of a drive's next tokens at once, from noise, and the features they
stand for.

Best-of-many: of many forecasts of one future only the nearest learns, so that they come to cover
what may happen. The same predictor over all patches of past frames, instead of one token each, is
the form it is compared with.

After Kerssies, Berton et al.: A frame is worth one token, CVPR 2026. The periods of rows and
columns of the form over patches are ours (those of DINOv3); they are not published.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from whence.errors import BadOption
from whence.models.checkpoints.files import fill_module
from whence.models.tokens.blocks import EPS, PastBlock, begin_small, time_turns
from whence.models.tokens.delta import DeltaTok, count_multiplies

NOISE = 0.02
"""Standard deviation of the noise that forecasts begin as."""
BETA = 0.1
"""Where the loss between a forecast and what came turns from a square to a straight line."""


@dataclass(frozen=True, slots=True)
class WorldShape:
    """The sizes of one predictor; those of the release by default."""

    dim: int = 768
    """Numbers of a token."""
    width: int = 768
    num_heads: int = 12
    depth: int = 12
    scale: float = 1e-5
    is_learned: bool = False
    """Whether forecasts begin as one vector that is learned, not as noise: one forecast, the
    discriminative form."""


class DeltaWorld(nn.Module):
    """What queries, at their times, become from a context of tokens at theirs. Names of parameters
    are the release's."""

    def __init__(self, shape: WorldShape) -> None:
        """Raises `BadOption` for a width that heads do not divide."""
        super().__init__()
        if shape.width % shape.num_heads:
            raise BadOption(f"{shape.num_heads} heads do not share {shape.width} numbers")
        self.shape = shape
        self.blocks = nn.ModuleList(
            PastBlock(shape.width, shape.num_heads, shape.dim, scale=shape.scale)
            for _ in range(shape.depth)
        )
        self.norm = nn.LayerNorm(shape.width, eps=EPS)
        self.head = nn.Linear(shape.width, shape.dim)
        if shape.is_learned:
            self.query = nn.Embedding(1, shape.width)
        begin_small(self)

    def forward(
        self,
        queries: Tensor,
        context: Tensor,
        *,
        query_times: Tensor,
        context_times: Tensor,
        mask: Tensor | None = None,
        places: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """(B, Q, D) forecasts of queries (B, Q, W) at times (B, Q) from a context (B, K, D) at
        times (B, K), seconds.

        A mask (Q, K) says what each query sees; `places` of both, (Q, 2) and (K, 2), where tokens
        are patches.
        """
        head = self.shape.width // self.shape.num_heads
        first = context_times[:, :1]
        sides = [(query_times - first)[:, None], (context_times - first)[:, None]]
        turns = [
            time_turns(times, head, places=None if places is None else places[k])
            for k, times in enumerate(sides)
        ]
        for block in self.blocks:
            queries = block(queries, context, (turns[0], turns[1]), mask)
        found: Tensor = self.head(self.norm(queries))
        return found

    def begin(self, num: int, per: tuple[int, ...], *, device: torch.device) -> Tensor:
        """(num, *per, W) queries to begin with: noise, drawn on the CPU, or the vector that is
        learned."""
        if self.shape.is_learned:
            return self.query.weight.view(*(1 for _ in per), 1, -1).expand(num, *per, -1)
        return (NOISE * torch.randn(num, *per, self.shape.width)).to(device)


def causal_mask(
    num: int, *, per: int = 1, tokens: int = 1, device: torch.device | None = None
) -> Tensor:
    """(num * per, num * tokens) bool: a query of the frame i + 1, of `per` of a frame, sees tokens
    of the frames 0 to i."""
    frames = torch.arange(num, device=device)
    return frames.repeat_interleave(per)[:, None] >= frames.repeat_interleave(tokens)[None]


class Many(NamedTuple):
    """Many forecasts beside what came."""

    losses: Tensor
    """(B, T, K): of each time and forecast, mean over numbers."""
    winners: Tensor
    """(B, T) the nearest forecast of each time, by itself."""


def forecast_all(
    world: DeltaWorld,
    queries: Tensor,
    tokens: Tensor,
    times: Tensor,
    *,
    places: Tensor | None = None,
) -> Tensor:
    """(B, T, K, P, D) forecasts of queries (B, T, K, P, W) from tokens (B, T + 1, P, D) at times
    (B, T + 1).

    Of P tokens a frame, at `places` (P, 2) where there is more than one; each time sees all frames
    before it.
    """
    batch, num, many, per = queries.shape[:4]
    query_times = times[:, 1:, None].expand(-1, -1, many * per).flatten(1)
    context_times = times[:, :-1, None].expand(-1, -1, per).flatten(1)
    spread = None if places is None else (places.repeat(num * many, 1), places.repeat(num, 1))
    found = world(
        queries.reshape(batch, num * many * per, -1),
        tokens[:, :-1].flatten(1, 2),
        query_times=query_times,
        context_times=context_times,
        mask=causal_mask(num, per=many * per, tokens=per, device=tokens.device),
        places=spread,
    )
    return found.view(batch, num, many, per, -1)


def compare(forecasts: Tensor, came: Tensor) -> Many:
    """How near forecasts (B, T, K, P, D) are to what came (B, T, P, D)."""
    apart = nn.functional.smooth_l1_loss(
        forecasts, came[:, :, None].expand_as(forecasts), beta=BETA, reduction="none"
    )
    losses = apart.mean(dim=(-2, -1))
    return Many(losses, losses.argmin(dim=-1))


def best_of_many(
    world: DeltaWorld, tokens: Tensor, times: Tensor, *, num_many: int, places: Tensor | None = None
) -> tuple[Tensor, Many]:
    """The loss of the nearest of so many forecasts of each time of tokens (B, T + 1, P, D), and
    what all came to.

    All are computed without gradients; the nearest again with them, so that memory does not depend
    on how many there are. Where forecasts begin as a learned vector, there is one.
    """
    per = (tokens.shape[1] - 1, 1 if world.shape.is_learned else num_many)
    noise = world.begin(len(tokens), (*per, 1), device=tokens.device)
    noise = noise.expand(-1, -1, -1, tokens.shape[2], -1)
    came = tokens[:, 1:].detach()
    with torch.no_grad():
        many = compare(forecast_all(world, noise, tokens, times, places=places), came)
    rows = many.winners[:, :, None, None, None].expand(-1, -1, 1, *noise.shape[3:])
    chosen = forecast_all(world, noise.gather(2, rows), tokens, times, places=places)
    return compare(chosen, came).losses.mean(), many


class Futures(NamedTuple):
    """Sampled futures of B drives."""

    tokens: Tensor
    """(B, S, steps, P, D)."""
    features: Tensor
    """(B, S, steps, N, D): what the tokens decode to, one after the other; of a form over patches
    the tokens themselves."""


@torch.no_grad()
def roll_out(
    world: DeltaWorld,
    context: Tensor,
    times: Tensor,
    *,
    num_samples: int,
    tokens: DeltaTok | None = None,
    last: Tensor | None = None,
    places: Tensor | None = None,
) -> Futures:
    """Futures from a context (B, C, P, D), at the times (B, C + steps) of the context and of what
    is to come.

    Each sample draws fresh noise at each step, and sees its own past. With `tokens`, each is
    decoded after the sample's own frame before, first after `last` (B, N, D). Where forecasts begin
    as a learned vector, all samples are one.
    """
    batch, num, per, dim = context.shape
    samples = 1 if world.shape.is_learned else num_samples
    seen = context[:, None].expand(-1, samples, -1, -1, -1).flatten(0, 1)
    clock = times[:, None].expand(-1, samples, -1).flatten(0, 1)
    frame = None if last is None else last[:, None].expand(-1, samples, -1, -1).flatten(0, 1)
    found = []
    for step in range(num, times.shape[1]):
        queries = world.begin(batch * samples, (1,), device=context.device).expand(-1, per, -1)
        forecast = world(
            queries,
            seen.flatten(1, 2),
            query_times=clock[:, step, None].expand(-1, per),
            context_times=clock[:, :step, None].expand(-1, -1, per).flatten(1),
            places=None if places is None else (places, places.repeat(step, 1)),
        )
        seen = torch.cat([seen, forecast[:, None]], dim=1)
        if tokens is None:
            found.append(forecast)
            continue
        assert frame is not None, "decoding follows a frame"
        frame = tokens.decode(forecast[:, 0], frame)
        found.append(frame)
    made = seen[:, num:].view(batch, samples, -1, per, dim)
    return Futures(made, torch.stack(found, dim=1).unflatten(0, (batch, samples)))


def load_official_world(world: DeltaWorld, path: str | Path) -> None:
    """Fill a predictor from an official file, whatever stands before its names. Raises
    `UnreadableWeights`, `WeightsMismatch`."""

    def own_name(name: str) -> str | None:
        for first in ("blocks.", "norm.", "head."):
            if name.startswith(first):
                return name
        return name.partition("predictor.")[2] or None

    fill_module(world, path, what="DeltaWorld", rename=own_name)


def world_multiplies(shape: WorldShape, *, num_context: int, per: int = 1) -> int:
    """Multiply-accumulates of one forecast of `per` tokens of a frame from so many frames before.
    Nothing is computed."""
    with torch.device("meta"):
        world = DeltaWorld(shape).eval()
        queries, context = (
            torch.empty(1, per, shape.width),
            torch.empty(1, num_context * per, shape.dim),
        )
        times = torch.empty(1, per), torch.empty(1, num_context * per)
        places = None if per == 1 else (torch.empty(per, 2), torch.empty(num_context * per, 2))
    return count_multiplies(
        lambda: world(queries, context, query_times=times[0], context_times=times[1], places=places)
    )
