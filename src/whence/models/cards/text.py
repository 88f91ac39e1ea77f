"""Cards as text, and in the header of a safetensors file: so that converted weights need no name. No torch here."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from whence.cards import ModelCard, Origin, Preprocessing
from whence.errors import BadOption, UnreadableWeights

CARD_FIELD = "whence_card"
"""Where the header of a safetensors file keeps the card."""
_MAX_HEADER_BYTES = 100_000_000
"""The limit of the format itself."""
_MAX_SIDE_PX = 4096
"""No card brings photos to more: a size beyond it is a mistake, or meant to fill the memory."""


def card_to_text(card: ModelCard) -> str:
    """The card as one line of JSON."""
    return json.dumps(asdict(card), ensure_ascii=False)


def card_from_text(text: str) -> ModelCard:
    """The card that `card_to_text` wrote. Raises `BadOption` where it is none, or has fields this version does not know."""
    try:
        record = dict(json.loads(text))
        steps = {name: tuple(value) if isinstance(value, list) else value for name, value in record["preprocessing"].items()}
        record["preprocessing"] = _made(Preprocessing, steps)
        for name in ("origins", "backbone_origins"):
            record[name] = tuple(_made(Origin, origin) for origin in record.get(name, ()))
        card: ModelCard = _made(ModelCard, record)
        _check_sizes(card.preprocessing)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BadOption(f"no card of a model ({type(error).__name__}: {error})") from None
    return card


def read_card(path: str | Path) -> ModelCard:
    """The card that a safetensors file carries. Raises `UnreadableWeights` where it is no such file or carries none."""
    header = read_header(path)
    if CARD_FIELD not in header:
        raise UnreadableWeights(path, "it carries no card; whence convert FILE --as NAME writes files that do")
    try:
        return card_from_text(header[CARD_FIELD])
    except BadOption as error:
        raise UnreadableWeights(path, str(error)) from None


def read_header(path: str | Path) -> Mapping[str, str]:
    """The texts in the header of a safetensors file. Raises `UnreadableWeights` where it is no such file."""
    try:
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > _MAX_HEADER_BYTES:
                raise UnreadableWeights(path, "it is no safetensors file")
            header = json.loads(file.read(length).decode("utf-8"))
        texts = header.get("__metadata__", {})
        return {str(key): str(value) for key, value in texts.items()}
    except OSError as error:
        raise UnreadableWeights(path, error.strerror or str(error)) from None
    except (ValueError, AttributeError, RecursionError):
        raise UnreadableWeights(path, "it is no safetensors file") from None


def _made(kind: type, record: Mapping[str, Any]) -> Any:
    """The record as a dataclass, every field of the type that the class declares. Raises `ValueError`."""
    hints = get_type_hints(kind)
    if unknown := set(record) - set(hints):
        raise ValueError(f"unknown fields {', '.join(sorted(unknown))}")
    for name, value in record.items():
        if not _is_a(value, hints[name]):
            raise ValueError(f"{name} is {value!r:.40}, which is of another kind than it should be")
    return kind(**record)


def _is_a(value: object, hint: Any) -> bool:
    """Whether a value read from JSON is of the type that a hint names."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Literal:
        return value in parts
    if origin in (Union, UnionType):
        return any(_is_a(value, part) for part in parts)
    if origin is tuple and parts[-1] is not Ellipsis:
        return isinstance(value, tuple) and len(value) == len(parts) and all(map(_is_a, value, parts))
    if origin is tuple:
        return isinstance(value, tuple) and all(_is_a(one, parts[0]) for one in value)
    if origin is not None:
        return isinstance(value, Mapping)
    if hint is NoneType:
        return value is None
    if hint in (int, float):
        return isinstance(value, int | hint) and not isinstance(value, bool)
    return isinstance(value, hint)


def _check_sizes(steps: Preprocessing) -> None:
    sides = [*(steps.size_px or ()), steps.long_side_px, steps.short_side_px, steps.multiple_of]
    if not all(side is None or 1 <= side <= _MAX_SIDE_PX for side in sides):
        raise ValueError(f"sides of images lie between 1 and {_MAX_SIDE_PX} pixels")
    if not all(0 < one < math.inf for one in steps.std) or not all(abs(one) < math.inf for one in steps.mean):
        raise ValueError("mean and std are finite numbers, std above 0")
