"""The zoo: cards of published models by name, and the networks they describe. Data and a few lazy functions; no torch at import.

The cards stand in `zoo_places` (models trained for place recognition on their own) and `zoo_benchmark` (the Deep Visual
Geo-localization Benchmark, GeoWarp, SeqVLAD, landmark models). A card is data only; weights never come with Whence.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from whence.models.zoo_benchmark import BENCHMARK_CARDS
from whence.models.zoo_places import PLACE_CARDS
from whence.registry import Entry, ModelCard

if TYPE_CHECKING:
    from whence.models.networks import Network, NetworkDescriptor

CARDS: dict[str, ModelCard] = {card.name: card for card in (*PLACE_CARDS, *BENCHMARK_CARDS)}
ENTRIES: dict[str, Entry] = {
    name: Entry("whence.models.zoo:open_network", card, options={"name": name}) for name, card in CARDS.items()
}
"""What `whence.registry.MODELS` takes over."""


def network_for(card: ModelCard) -> Network:
    """The card's network with random weights. Raises `MissingExtra` where torch is not installed."""
    from whence.models.checkpoints import make_network

    return make_network(card)


def load_network(card: ModelCard, *, weights: str | Path | None = None) -> Network:
    """The card's network with its weights: those of the file named, else of the cache, else downloaded.

    Raises `MissingWeights`, `DownloadFailed`, `UnreadableWeights`, `WeightsMismatch`, `MissingExtra`.
    """
    from whence.models.checkpoints import load_weights
    from whence.models.downloads import get_weights

    return load_weights(get_weights(card, weights=weights), card)


def open_network(name: str, *, weights: str | None = None) -> NetworkDescriptor:
    """The published model of this name as a descriptor; `weights` names a file to take in place of the cache's."""
    network = load_network(CARDS[name], weights=weights)
    from whence.models.networks import NetworkDescriptor

    return NetworkDescriptor(network)
