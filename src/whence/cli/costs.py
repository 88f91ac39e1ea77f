"""`whence models --cost`: what describing one photo costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from rich.table import Table
from rich.text import Text

from whence.cli.output import as_size, print_json, show
from whence.errors import MissingExtra
from whence.registry import ModelCard

_COLUMNS = ("model", "image", "parameters", "GFLOPs", "map", "descriptor", "a million photos")


def show_costs(cards: Sequence[ModelCard], *, as_json: bool) -> int:
    """Print the cost of each model's photo of 480 x 640 pixels; models without a network have a descriptor size only."""
    try:
        from whence.models.cost import cost_of
    except ImportError:
        raise MissingExtra("counting what networks cost", "torch") from None
    table = Table(show_edge=False, pad_edge=False)
    for title in _COLUMNS:
        table.add_column(title, justify="left" if title == "model" else "right")
    for card in cards:
        cost = cost_of(card)
        size = 4 * card.dim
        if as_json:
            print_json({"model": card.name, "descriptor_bytes": size, **({} if cost is None else asdict(cost))})
        elif cost is None:
            table.add_row(*map(Text, (card.name, "", "", "", "", as_size(size), as_size(10**6 * size))))
        else:
            image, found = " x ".join(map(str, cost.size_px)), " x ".join(map(str, cost.map_size))
            numbers = (f"{cost.num_parameters / 1e6:.2f} M", f"{cost.flops / 1e9:.1f}")
            table.add_row(*map(Text, (card.name, image, *numbers, found, as_size(size), as_size(10**6 * size))))
    if not as_json:
        show(table)
    return 0
