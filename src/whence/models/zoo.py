"""The zoo: cards of published models by name, and the networks they describe. Data and a few lazy
functions; no torch at import.

The cards stand in `zoo_places` (models trained for place recognition on their own) and
`zoo_benchmark` (the Deep Visual Geo-localization Benchmark, GeoWarp, SeqVLAD, landmark models). A
card is data only; published weights never come with Whence. Those of the project's own networks do
(`zoo_own`).
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from whence.cards import Entry, ModelCard
from whence.errors import BadOption, MissingExtra, UnknownName
from whence.models.cards.benchmark import BENCHMARK_CARDS
from whence.models.cards.meshes import mesh_cards
from whence.models.cards.own import OWN_CARDS
from whence.models.cards.places import PLACE_CARDS
from whence.models.cards.semantic import SEMANTIC_CARDS
from whence.models.cards.text import read_card
from whence.parts import Descriptor
from whence.registry import build

if TYPE_CHECKING:
    from whence.models.network_descriptor import NetworkDescriptor
    from whence.models.networks import Network

CARDS: dict[str, ModelCard] = {
    card.name: card
    for card in (*PLACE_CARDS, *BENCHMARK_CARDS, *mesh_cards(PLACE_CARDS), *SEMANTIC_CARDS)
}
"""The published models."""
ENTRIES: dict[str, Entry] = {
    card.name: Entry("whence.models.zoo:open_network", card, options={"name": card.name})
    for card in (*CARDS.values(), *OWN_CARDS)
}
"""What the registry takes over."""


def find_card(name: str) -> ModelCard:
    """The zoo's card of this name, the project's own among them. Raises `UnknownName` with the
    nearest names."""
    card = ENTRIES[name].card if name in ENTRIES else None
    if card is None:
        raise UnknownName("network", name, ENTRIES)
    return card


def entry_of_file(path: str) -> Entry | None:
    """The registry's entry of a safetensors file that carries a card; None for any other name.

    Raises `UnreadableWeights` where the file carries none.
    """
    if not path.endswith(".safetensors"):
        return None
    return Entry("whence.models.zoo:open_network", read_card(path), options={"name": path})


def network_for(card: ModelCard) -> Network:
    """The card's network with random weights. Raises `MissingExtra` where torch is not
    installed."""
    _need_torch(card)
    from whence.models.checkpoints.networks import make_network

    return make_network(card)


def load_network(card: ModelCard, *, weights: str | Path | None = None) -> Network:
    """The card's network with its weights: those of the file named, else of the cache, else
    downloaded.

    Raises `MissingWeights`, `DownloadFailed`, `UnreadableWeights`, `WeightsMismatch`,
    `MissingExtra`.
    """
    _need_torch(card)
    from whence.models.checkpoints.origins import get_weights

    files = get_weights(card, weights=weights)
    from whence.models.checkpoints.networks import load_weights

    return load_weights(files, card)


def named_network(name: str, *, weights: str | Path | None = None) -> Network:
    """The network of a registered model, or of a safetensors file with a card, with its weights or
    those of the file named.

    Raises `UnknownName`, `BadOption` for a model that is no network, and as `load_network`.
    """
    descriptor = build("model", name, options={} if weights is None else {"weights": str(weights)})
    if not isinstance(descriptor, Descriptor) or descriptor.network is None:
        raise BadOption(f"{name} is no network; `whence models` says which have a backbone")
    network: Network = descriptor.network
    return network


def _need_torch(card: ModelCard) -> None:
    # A module set to None is one that the program must not import.
    if sys.modules.get("torch", "") is None or importlib.util.find_spec("torch") is None:
        raise MissingExtra(card.name, "torch")


def open_network(name: str, *, weights: str | None = None) -> NetworkDescriptor:
    """The network of this name, or the safetensors file with a card, as a descriptor.

    `weights` names a file to take in place of the cache's. Raises as `load_network`.
    """
    if name in ENTRIES:
        network = load_network(find_card(name), weights=weights)
    else:
        network = load_network(read_card(name), weights=weights or name)
    from whence.models.network_descriptor import NetworkDescriptor

    return NetworkDescriptor(network)
