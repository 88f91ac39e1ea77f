"""`whence models`: which models there are, which of them are on this machine, and their cards."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import typer

from whence.cards import ModelCard
from whence.cli import completion
from whence.cli.output import print_json, show_table
from whence.errors import BadOption, UnknownName
from whence.registry import MODELS, get_card, list_models

_STATES = {
    "none needed": "ready",
    "missing": "to be fetched",
    "unverified": "here, not looked at yet",
    "pinned": "here, pinned at first use",
    "verified": "here, checksum verified",
}


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("models", help="List the models, or show the card of one.")(models)


def models(
    pattern: str = typer.Argument(
        "*",
        autocompletion=completion.models,
        help="Name, a shell pattern such as *vlad, or a converted file of weights.",
    ),
    licence: str = typer.Option(
        None,
        help=(
            "Only models with this text in the licence of code or weights; permissive: both allow "
            "any use."
        ),
    ),
    backbone: str = typer.Option(
        None, help="Only models whose backbone's name contains this text."
    ),
    max_dim: int = typer.Option(None, min=1, help="Only models with at most so many dimensions."),
    available: bool = typer.Option(
        False, "--available", help="Only models that need no download any more."
    ),
    cost: bool = typer.Option(
        False, "--cost", help="Show what describing one photo costs: parameters, operations, sizes."
    ),
    backbones: bool = typer.Option(
        False,
        "--backbones",
        help=(
            "List backbones, for training, instead of models: sizes they take, parameters, "
            "operations."
        ),
    ),
    fetch: bool = typer.Option(
        False,
        "--fetch",
        help=(
            "Fetch the weights of the model, matcher, scorer or backbone named, and say where "
            "they lie."
        ),
    ),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object per model."),
) -> int:
    """List the models with dimension, licences and state; with the full name of one, its card."""
    if fetch:
        if licence or backbone or max_dim or available or cost or backbones:
            raise BadOption("--fetch goes with a name alone, and --json")
        from whence.cli.fetch import fetch as fetch_weights

        return fetch_weights(pattern, as_json=as_json)
    if backbones:
        if licence or backbone or max_dim or available:
            raise BadOption(
                "--backbones lists networks without weights: --licence, --backbone, --max-dim, "
                "--available are for models"
            )
        from whence.cli.costs import show_backbones

        return show_backbones(pattern, as_json=as_json)
    is_file = pattern.endswith(".safetensors")
    names = [pattern] if is_file else list(list_models(pattern))
    if not names:
        raise UnknownName("model", pattern, MODELS)
    cards = [card for card in map(get_card, names) if _is_wanted(card, licence, backbone, max_dim)]
    if available:
        cards = [card for card in cards if _state(card) != "missing"]
    if cost:
        from whence.cli.costs import show_costs

        return show_costs(cards, as_json=as_json)
    if as_json:
        for card in cards:
            print_json(_as_record(card))
    elif names == [pattern] and cards:
        show_table((), _card_rows(cards[0], needs_state=not is_file))
    else:
        titles = ("model", "dim", "licence: code", "weights", "state", "what it is")
        show_table(titles, map(_row, cards))
    return 0


def _is_wanted(
    card: ModelCard, licence: str | None, backbone: str | None, max_dim: int | None
) -> bool:
    if licence == "permissive" and not card.is_permissive:
        return False
    if (
        licence not in (None, "permissive")
        and licence.lower() not in f"{card.licence} {card.weights_licence}".lower()
    ):
        return False
    return (backbone is None or backbone.lower() in card.backbone) and (
        max_dim is None or card.dim <= max_dim
    )


def _state(card: ModelCard) -> str:
    from whence.models.checkpoints.origins import weights_status

    return weights_status(card)


def _as_record(card: ModelCard) -> dict[str, Any]:
    return {
        **asdict(card),
        "card_id": card.card_id,
        "is_permissive": card.is_permissive,
        "state": _state(card),
    }


def _row(card: ModelCard) -> tuple[str, ...]:
    licences = (card.licence, card.weights_licence)
    return card.name, str(card.dim), *licences, _STATES[_state(card)], card.summary


def _card_rows(card: ModelCard, *, needs_state: bool) -> list[tuple[str, str]]:
    facts = asdict(card).items()
    rows = [
        (name.replace("_", " "), _as_text(one)) for name, one in facts if one not in ("", (), {})
    ]
    if needs_state and card.origins:
        from whence.models.checkpoints.origins import find_weights, how_to_get

        found = find_weights(card)
        rows.append(("state", _STATES[_state(card)]))
        todo = ("to do", how_to_get(card, card.origins))
        rows.append(("file", str(found)) if found else todo)
    return rows


def _as_text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(
            f"{key} {_as_text(entry)}" for key, entry in value.items() if entry not in (None, "")
        )
    if isinstance(value, tuple | list):
        return ("; " if value and isinstance(value[0], dict) else " x ").join(map(_as_text, value))
    return str(value)
