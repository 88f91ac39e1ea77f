"""`whence models`: which models there are, and their cards."""

from __future__ import annotations

from dataclasses import asdict

import typer
from rich.table import Table
from rich.text import Text

from whence.cli.output import print_json, show
from whence.errors import UnknownName
from whence.registry import MODELS, get_card, list_models


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("models", help="List the models, or show the card of one.")(models)


def models(
    pattern: str = typer.Argument("*", help="Name, or a shell pattern such as *vlad."),
    licence: str = typer.Option(None, help="Only models whose licence contains this text."),
    cost: bool = typer.Option(False, "--cost", help="Show what describing one photo costs: parameters, operations, sizes."),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object per model."),
) -> int:
    """List the models with dimension and licence; with the full name of one, its card."""
    names = [name for name in list_models(pattern) if licence is None or licence.lower() in get_card(name).licence.lower()]
    if not list_models(pattern):
        raise UnknownName("model", pattern, MODELS)
    if cost:
        from whence.cli.costs import show_costs

        return show_costs(names, as_json=as_json)
    if as_json:
        for name in names:
            print_json({**asdict(get_card(name)), "card_id": get_card(name).card_id})
    elif names == [pattern]:
        show(_card_table(pattern))
    else:
        show(_list_table(names))
    return 0


def _list_table(names: list[str]) -> Table:
    table = Table(show_edge=False, pad_edge=False)
    for title in ("model", "dim", "licence", "what it is"):
        table.add_column(title, overflow="fold")
    for name in names:
        card = get_card(name)
        table.add_row(*map(Text, (name, str(card.dim), card.licence, card.summary)))
    return table


def _card_table(name: str) -> Table:
    table = Table(show_header=False, show_edge=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for field, value in asdict(get_card(name)).items():
        text = ", ".join(f"{key} {entry}" for key, entry in value.items()) if isinstance(value, dict) else str(value)
        table.add_row(field.replace("_", " "), Text(text))
    return table
