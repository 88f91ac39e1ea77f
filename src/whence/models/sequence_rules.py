"""Rules without weights: from the descriptors of a sequence's frames to one descriptor. The same
code for numpy and torch.

The taxonomy is that of "Learning sequential descriptors" (Mereu et al., RA-L 2022). All rules take
frames (B, S, d) in their order and give (B, D), float32 as the frames; none brings its result to
unit length, as published, but for `delta`. No torch here.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from whence.errors import BadOption, UnknownName
from whence.settings import NO_OPTIONS

GEM_LEAST = 1e-6
"""What SeqGeM takes of each value at least: what is negative is lost."""


def cat(frames: Any) -> Any:
    """(B, S * d): the frames' descriptors one after the other (CAT)."""
    return frames.reshape(len(frames), -1)


def mean(frames: Any) -> Any:
    """(B, d): the mean over the frames."""
    return frames.mean(1)


def largest(frames: Any) -> Any:
    """(B, d): the largest of each number over the frames."""
    found = frames.max(1)
    # torch gives the places beside the values.
    return getattr(found, "values", found)


def delta(frames: Any) -> Any:
    """(B, d) of unit length: the later half of the frames less the first (Delta Descriptors; Garg
    et al., RA-L 2020).

    Every frame weighs 2 / S; of an odd number the smaller half is the one taken off.
    """
    length = frames.shape[1]
    # In the order of the frames, so that numpy and torch round alike.
    weighed = sum(
        (-1.0 if i < length // 2 else 1.0) * (2 / length) * frames[:, i] for i in range(length)
    )
    return unit(weighed)


def seqgem(frames: Any, *, p: Any = 3.0, is_signed: bool = False) -> Any:
    """(B, d): the generalised mean over the frames (JIST; Berton et al., RA-L 2024), of values of
    at least 1e-6.

    `is_signed` keeps what is negative, by the signed power and root: not the published form.
    """
    if is_signed:
        powers = (_sign(frames) * abs(frames) ** p).mean(1)
        return _sign(powers) * abs(powers) ** (1 / p)
    return (frames.clip(GEM_LEAST) ** p).mean(1) ** (1 / p)


RULES: Mapping[str, Callable[..., Any]] = {
    "cat": cat,
    "mean": mean,
    "max": largest,
    "delta": delta,
    "seqgem": seqgem,
}
"""The rules by name."""
ORDER_FREE = frozenset(("mean", "max", "seqgem"))
"""Rules that give the same for frames in any order."""


def pool_frames(frames: Any, rule: str, *, options: Mapping[str, Any] = NO_OPTIONS) -> Any:
    """Descriptors that a rule makes of frames (B, S, d). Raises `UnknownName`, and `BadOption` for
    an option that the rule has not."""
    if rule not in RULES:
        raise UnknownName("rule for sequences", rule, RULES)
    known = list(inspect.signature(RULES[rule]).parameters)[1:]
    for option in options:
        if option not in known:
            raise BadOption(
                f"the rule {rule} has no option {option!r}; it has {', '.join(known) or 'none'}"
            )
    return RULES[rule](frames, **options)


def unit(vectors: Any) -> Any:
    """Vectors (..., D) at unit length; zero stays zero."""
    squared = (vectors * vectors).sum(-1)
    return vectors / (squared**0.5).clip(1e-12)[..., None]


def _sign(values: Any) -> Any:
    return (values > 0) * 1.0 - (values < 0) * 1.0
