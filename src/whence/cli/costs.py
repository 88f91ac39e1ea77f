"""`whence models --cost` and `--backbones`: what describing one photo costs, and what backbones
there are."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from dataclasses import asdict

from whence.cards import ModelCard
from whence.cli.output import print_json, show_table
from whence.data.fields import as_size
from whence.errors import MissingExtra, UnknownName

_BACKBONE_COLUMNS = (
    "backbone",
    "channels",
    "stride",
    "sizes",
    "image",
    "map",
    "parameters",
    "learning",
    "GFLOPs",
)
_COLUMNS = ("model", "image", "parameters", "GFLOPs", "map", "descriptor", "a million photos")


def show_costs(cards: Sequence[ModelCard], *, as_json: bool) -> int:
    """Print the cost of each model's photo of 480 x 640 pixels; models without a network have a
    descriptor size only."""
    try:
        from whence.models.cost import cost_of
    except ImportError:
        raise MissingExtra("counting what networks cost", "torch") from None
    rows = []
    for card in cards:
        cost = cost_of(card)
        size = 4 * card.dim
        if as_json:
            print_json(
                {
                    "model": card.name,
                    "descriptor_bytes": size,
                    **({} if cost is None else asdict(cost)),
                }
            )
        elif cost is None:
            rows.append((card.name, "", "", "", "", as_size(size), as_size(10**6 * size)))
        else:
            numbers = (
                _sides(cost.size_px),
                f"{cost.num_parameters / 1e6:.2f} M",
                f"{cost.flops / 1e9:.1f}",
                _sides(cost.map_size),
            )
            rows.append((card.name, *numbers, as_size(size), as_size(10**6 * size)))
    if not as_json:
        show_table(_COLUMNS, rows, num_names=1)
    return 0


def show_backbones(pattern: str, *, as_json: bool) -> int:
    """Print the backbones that match a shell pattern, or the one of timm named, with what they cost
    under GeM."""
    try:
        from whence.models.backbones import list_backbones
        from whence.models.cost import sketch_backbone
    except ImportError:
        raise MissingExtra("backbones", "torch") from None
    names = [name for name in list_backbones() if fnmatch.fnmatchcase(name, pattern)]
    if not names and not pattern.startswith("timm:"):
        raise UnknownName("backbone", pattern, list_backbones())
    rows = []
    for name in names or [pattern]:
        backbone, cost = sketch_backbone(name)
        rule = backbone.size_rule
        if as_json:
            facts = {
                "backbone": name,
                "channels": backbone.channels,
                "stride": backbone.stride,
                "sizes": asdict(rule),
            }
            print_json({**facts, **asdict(cost)})
            continue
        sizes = (
            _sides(rule.exact)
            if rule.exact
            else f"multiples of {rule.multiple_of}"
            if rule.multiple_of > 1
            else "any"
        )
        counts = (f"{num / 1e6:.2f} M" for num in (cost.num_parameters, cost.num_trainable))
        row = (
            name,
            str(backbone.channels),
            str(backbone.stride),
            sizes,
            _sides(cost.size_px),
            _sides(cost.map_size[1:]),
        )
        rows.append((*row, *counts, f"{cost.flops / 1e9:.1f}"))
    if not as_json:
        show_table(_BACKBONE_COLUMNS, rows, num_names=1)
    return 0


def _sides(sides: Sequence[int]) -> str:
    return " x ".join(map(str, sides))
