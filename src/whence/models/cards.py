"""Cards as text, and in the header of a safetensors file: so that converted weights need no name. No torch here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from whence.errors import BadOption, UnreadableWeights
from whence.registry import ModelCard, Origin, Preprocessing

CARD_FIELD = "whence_card"
"""Where the header of a safetensors file keeps the card."""
_MAX_HEADER_BYTES = 100_000_000
"""The limit of the format itself."""


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
        if not (isinstance(card.name, str) and isinstance(card.dim, int) and isinstance(card.backbone, str)):
            raise TypeError("name and backbone are texts, dim is a number")
        if not (isinstance(card.backbone_options, dict) and isinstance(card.aggregator_options, dict)):
            raise TypeError("options are objects")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
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
    known = {field.name for field in fields(kind)}
    if unknown := set(record) - known:
        raise ValueError(f"unknown fields {', '.join(sorted(unknown))}")
    return kind(**record)
