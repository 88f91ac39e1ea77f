"""Cards at their full size: a file of exactly the published names and shapes, filled by formula,
loads strictly and round-trips.

That names and shapes are those of the network is checked for every card in `test_zoo_networks`,
without values. Here are values: of one card per structure up to `LARGE` parameters, and of all
others where large things are asked for.
"""

from __future__ import annotations

import math
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from torch import Tensor

from fills import squares
from published_keys import Table, published
from whence.cards import ModelCard
from whence.models.cards.text import read_card
from whence.models.checkpoints.keys import Translator
from whence.models.checkpoints.networks import convert, load_weights
from whence.models.zoo import CARDS

LARGE = 15_000_000
"""Parameters from which on a card is looked at on request only."""
TOO_LARGE_TO_KEEP = 500_000_000
"""Parameters from which on the network is loaded, but not written again: several copies of AnyLoc's
fill a machine."""


def num_parameters(card: ModelCard) -> int:
    return sum(math.prod(shape) for shape in published(card).values())


def is_looked_at_always() -> dict[str, bool]:
    """Of each structure the smallest card, if it is not large."""
    smallest: dict[tuple[str, ...], str] = {}
    sizes = {name: num_parameters(card) for name, card in CARDS.items()}
    for name, card in CARDS.items():
        kind = (card.backbone, card.aggregator, card.keys)
        if kind not in smallest or sizes[name] < sizes[smallest[kind]]:
            smallest[kind] = name
    return {name: name in smallest.values() and size <= LARGE for name, size in sizes.items()}


ALWAYS = is_looked_at_always()


def filled(table: Table) -> dict[str, Tensor]:
    """Every tensor a window of its own into one long row of numbers, so that the file is as small
    as its largest tensor."""
    longest = max(math.prod(shape) for shape in table.values())
    row = squares((longest + 1009,), 0)
    return {
        name: torch.tensor(number)
        if name.endswith("num_batches_tracked")
        else row[number % 1009 :][: math.prod(shape)].view(shape)
        for number, (name, shape) in enumerate(table.items())
    }


def same_values(ours: dict[str, Tensor], theirs: dict[str, Tensor], card: ModelCard) -> set[str]:
    """Our names whose tensors were found to be theirs, value by value."""
    names = Translator(card.keys, card.backbone)
    parts: dict[str, dict[str, Tensor]] = {}
    for name, tensor in theirs.items():
        whole, _, part = (names.ours(name) or "").partition("#")
        if whole in ours:
            parts.setdefault(whole, {})[part] = tensor
    joined = {
        name: torch.cat([found[part] for part in sorted(found)]) if len(found) > 1 else found[""]
        for name, found in parts.items()
    }
    return {
        name
        for name, tensor in joined.items()
        if torch.equal(ours[name].flatten(), tensor.flatten())
    }


def marked(card: ModelCard) -> object:
    return pytest.param(card, id=card.name, marks=() if ALWAYS[card.name] else pytest.mark.large)


@pytest.mark.parametrize("card", [marked(card) for card in CARDS.values()])
def test_published_names_load_and_round_trip_value_by_value(
    card: ModelCard, tmp_path: Path
) -> None:
    theirs = filled(published(card))
    if "" in theirs:
        vocabulary, backbone = tmp_path / "vocabulary.pt", tmp_path / "backbone.pth"
        torch.save(theirs[""].clone(), vocabulary)
        torch.save({name: tensor for name, tensor in theirs.items() if name}, backbone)
        files = [vocabulary, backbone]
    else:
        files = [tmp_path / "theirs.pth"]
        torch.save(theirs, files[0])
    ours = load_weights(files, card).state_dict()
    assert same_values(ours, theirs, card) == set(ours)
    if num_parameters(card) > TOO_LARGE_TO_KEEP:
        return
    convert(files, card=card, out=tmp_path / "ours.safetensors")
    assert read_card(tmp_path / "ours.safetensors") == card
    again = load_weights(tmp_path / "ours.safetensors", card).state_dict()
    assert list(again) == list(ours)
    assert all(torch.equal(again[name], tensor) for name, tensor in ours.items())
