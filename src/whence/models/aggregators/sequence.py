"""Sequence pools: from what a network makes of a sequence's frames to one descriptor, in the
taxonomy of Mereu et al. (RA-L 2022).

Late fusion pools descriptors of frames (`cat mean max delta seqgem conv1d seqnet`, and
`fc simplefc meanfc`, linear layers on all of them); `seqvlad` fuses before a frame's descriptor is
one; `early` lets the backbone see all frames. Rules without weights are
`whence.models.sequence_rules`, which runs without torch. Published quirks are kept: what is of unit
length is said at each class.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from functools import partial
from typing import Any, get_type_hints

import torch
from torch import Tensor, nn

from whence.errors import BadOption, UnknownName
from whence.models.aggregators.pools import Aggregator
from whence.models.aggregators.words import NetVlad, unit_words
from whence.models.backbones.base import Features
from whence.models.sequence_rules import RULES, seqgem
from whence.records import check
from whence.settings import NO_OPTIONS


class SequencePool(nn.Module):
    """Base of all: `describe` gives what is kept of each frame (N, ...), `forward` makes (B, `dim`)
    of B sequences of those.

    `dim` is that of sequences of `length` frames; where `is_any_length` is False, others raise
    `BadOption`.
    """

    dim: int
    is_any_length = True
    is_early = False
    """Whether the backbone must see all frames of a sequence together."""

    def __init__(self, frame_dim: int, length: int, *, l2: bool = False) -> None:
        """`l2` brings the result to unit length, which published pools leave undone unless they say
        so."""
        super().__init__()
        self.dim, self.length, self.l2 = frame_dim, length, l2

    def bind(self, aggregator: Aggregator) -> None:
        """Take note of what describes frames. Raises `BadOption` where the two do not go
        together."""

    def describe(self, aggregator: Aggregator, features: Features) -> Tensor:
        """Descriptors (N, d) kept of frames."""
        descriptors: Tensor = aggregator(features)
        return descriptors

    def pool(self, frames: Tensor) -> Tensor:
        """(B, D) of frames (B, S, d)."""
        raise NotImplementedError

    def forward(self, frames: Tensor) -> Tensor:
        if not self.is_any_length and frames.shape[1] != self.length:
            raise BadOption(
                f"this network was made for sequences of {self.length} frames, not "
                f"{frames.shape[1]}"
            )
        return self.brought(self.pool(frames))

    def brought(self, pooled: Tensor) -> Tensor:
        """(B, D) at unit length where that is asked for."""
        return nn.functional.normalize(pooled, dim=-1) if self.l2 else pooled


class RulePool(SequencePool):
    """A rule without weights: `cat` (S * d dimensions), `mean`, `max`, or `delta`, which alone is
    of unit length."""

    def __init__(self, frame_dim: int, length: int, *, rule: str, l2: bool = False) -> None:
        super().__init__(frame_dim, length, l2=l2)
        self.dim = frame_dim * length if rule == "cat" else frame_dim
        self.rule = rule

    def pool(self, frames: Tensor) -> Tensor:
        pooled: Tensor = RULES[self.rule](frames)
        return pooled


class SeqGem(SequencePool):
    """SeqGeM (JIST; Berton et al., RA-L 2024): the generalised mean over frames, with one learnable
    exponent.

    Frame descriptors have signs, and what is negative is lost, without a gradient; `is_signed`
    keeps it, which is not as published.
    """

    def __init__(
        self,
        frame_dim: int,
        length: int,
        *,
        p: float = 3.0,
        is_signed: bool = False,
        l2: bool = False,
    ) -> None:
        super().__init__(frame_dim, length, l2=l2)
        self.is_signed = is_signed
        self.p = nn.Parameter(torch.full((1,), float(p)))

    def pool(self, frames: Tensor) -> Tensor:
        # The cube of the least value is 0 in half precision.
        with torch.autocast(frames.device.type, enabled=False):
            pooled: Tensor = seqgem(frames.float(), p=self.p.float(), is_signed=self.is_signed)
        return pooled


class LinearPool(SequencePool):
    """A linear layer on all frames' descriptors one after the other.

    `fc` has a bias and 768 dimensions (Mereu et al.); `simplefc` and `meanfc` (JIST) neither, and
    as many as a frame, and `meanfc` begins as the mean.
    """

    is_any_length = False

    def __init__(
        self,
        frame_dim: int,
        length: int,
        *,
        dim: int = 0,
        has_bias: bool,
        is_mean: bool = False,
        l2: bool = False,
    ) -> None:
        super().__init__(frame_dim, length, l2=l2)
        self.dim = dim or frame_dim
        self.fc = nn.Linear(length * frame_dim, self.dim, bias=has_bias)
        if is_mean:
            with torch.no_grad():
                self.fc.weight.copy_(torch.eye(frame_dim).repeat(1, length) / length)

    def pool(self, frames: Tensor) -> Tensor:
        pooled: Tensor = self.fc(frames.flatten(1))
        return pooled


def fc(frame_dim: int, length: int, *, dim: int = 768, l2: bool = False) -> LinearPool:
    """FC of the taxonomy: linear with bias."""
    return LinearPool(frame_dim, length, dim=dim, has_bias=True, l2=l2)


class Conv1d(SequencePool):
    """JIST's `conv1d`: one convolution over time, as long as the sequence, with bias."""

    is_any_length = False

    def __init__(self, frame_dim: int, length: int, *, l2: bool = False) -> None:
        super().__init__(frame_dim, length, l2=l2)
        self.conv = nn.Conv1d(frame_dim, frame_dim, length)

    def pool(self, frames: Tensor) -> Tensor:
        pooled: Tensor = self.conv(frames.transpose(1, 2)).squeeze(2)
        return pooled


class SeqNet(SequencePool):
    """SeqNet (Garg and Milford, RA-L 2021): a convolution over time, the mean of what it gives,
    unit length.

    Published: 4,096 dimensions, a width of 5 for 10 frames and 3 for 5. Sequences are at least as
    long as the width.
    """

    def __init__(
        self, frame_dim: int, length: int, *, dim: int = 4096, width: int = 3, l2: bool = True
    ) -> None:
        super().__init__(frame_dim, length, l2=l2)
        if width > length:
            raise BadOption(
                f"seqnet's width of {width} frames is more than the sequence's {length}; lower "
                "width"
            )
        self.dim, self.width = dim, width
        self.conv = nn.Conv1d(frame_dim, dim, width)

    def pool(self, frames: Tensor) -> Tensor:
        if frames.shape[1] < self.width:
            raise BadOption(
                f"seqnet's convolution is {self.width} frames wide, and the sequence has "
                f"{frames.shape[1]}"
            )
        pooled: Tensor = self.conv(frames.transpose(1, 2)).mean(dim=2)
        return pooled


class SeqVlad(SequencePool):
    """SeqVLAD (Mereu et al., RA-L 2022): NetVLAD over the local descriptors of all frames together.
    Unit length.

    Sums of residuals add up over frames, so that each frame's own are kept, (K, C), and a window of
    them is one sum: any order and any length, and of one frame NetVLAD itself.
    """

    def bind(self, aggregator: Aggregator) -> None:
        if not isinstance(aggregator, NetVlad):
            raise BadOption(
                "seqvlad goes with the aggregator netvlad, or crn, whose words it sums over the "
                "frames"
            )

    def describe(self, aggregator: Aggregator, features: Features) -> Tensor:
        """(N, K, C): each frame's sums of residuals."""
        assert isinstance(aggregator, NetVlad), "bound to one"
        return aggregator.sums(features)

    def pool(self, frames: Tensor) -> Tensor:
        return unit_words(frames.sum(dim=1))


class Early(SequencePool):
    """Early fusion: the backbone, `timesformer`, sees all frames from its first layer on; its
    aggregator makes the descriptor."""

    is_early = True

    def pool(self, frames: Tensor) -> Tensor:
        raise BadOption("early fusion keeps nothing of single frames")


POOLS: Mapping[str, Any] = {
    **{rule: partial(RulePool, rule=rule) for rule in ("cat", "mean", "max", "delta")},
    "seqgem": SeqGem,
    "fc": fc,
    "simplefc": partial(LinearPool, has_bias=False),
    "meanfc": partial(LinearPool, has_bias=False, is_mean=True),
    "conv1d": Conv1d,
    "seqnet": SeqNet,
    "seqvlad": SeqVlad,
    "early": Early,
}
"""The pools by name."""
FIXED = ("rule", "has_bias", "is_mean")
"""Arguments that a pool's name decides."""


def make_sequence_pool(
    name: str, aggregator: Aggregator, *, length: int, options: Mapping[str, Any] = NO_OPTIONS
) -> SequencePool:
    """The pool of this name over what an aggregator makes of frames, for sequences of so many.
    Raises `UnknownName`, `BadOption`.

    Options are the keyword arguments of its class.
    """
    if name not in POOLS:
        raise UnknownName("sequence pool", name, POOLS)
    if length < 1:
        raise BadOption(f"a sequence has at least 1 frame, not {length}")
    factory = POOLS[name]
    plain = factory.func if isinstance(factory, partial) else factory
    hints = get_type_hints(plain.__init__ if inspect.isclass(plain) else plain)
    known = [
        option for option in list(inspect.signature(factory).parameters)[2:] if option not in FIXED
    ]
    for option, value in options.items():
        if option not in known:
            raise UnknownName(f"option of {name}", option, known)
        check(hints[option], value, f"{option} of {name}")
        if hints[option] is int and not 1 <= value <= 1_000_000:
            raise BadOption(f"{option} of {name} is a count of at least 1, not {value}")
    pool: SequencePool = factory(aggregator.dim, length, **options)
    pool.bind(aggregator)
    return pool
