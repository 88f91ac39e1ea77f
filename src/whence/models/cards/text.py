"""Cards as text, and in the header of a safetensors file: so that converted weights need no name.
No torch here."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from whence.cards import ModelCard, Preprocessing
from whence.errors import BadOption, InputError, UnreadableWeights
from whence.records import fill

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
    """The card that `card_to_text` wrote. Raises `BadOption` where it is none, or has fields this
    version does not know."""
    try:
        card = fill(ModelCard, json.loads(text), what="field of a card")
        _check_sizes(card.preprocessing)
    except (ValueError, RecursionError, InputError) as error:
        raise BadOption(f"no card of a model ({error})") from None
    return card


def read_card(path: str | Path) -> ModelCard:
    """The card that a safetensors file carries. Raises `UnreadableWeights` where it is no such file
    or carries none."""
    header = read_header(path)
    if CARD_FIELD not in header:
        raise UnreadableWeights(
            path, "it carries no card; whence convert FILE --as NAME writes files that do"
        )
    try:
        return card_from_text(header[CARD_FIELD])
    except BadOption as error:
        raise UnreadableWeights(path, str(error)) from None


def read_header(path: str | Path) -> Mapping[str, str]:
    """The texts in the header of a safetensors file. Raises `UnreadableWeights` where it is no such
    file."""
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


def _check_sizes(steps: Preprocessing) -> None:
    sides = [*(steps.size_px or ()), steps.long_side_px, steps.short_side_px, steps.multiple_of]
    if not all(side is None or 1 <= side <= _MAX_SIDE_PX for side in sides):
        raise ValueError(f"sides of images lie between 1 and {_MAX_SIDE_PX} pixels")
    if not all(0 < one < math.inf for one in steps.std) or not all(
        abs(one) < math.inf for one in steps.mean
    ):
        raise ValueError("mean and std are finite numbers, std above 0")
