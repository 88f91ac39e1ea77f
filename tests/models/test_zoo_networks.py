"""The zoo's networks: each has exactly the tensors that the specification says its published file
holds."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from published_keys import COUNTS, compact, megaloc, published, vit
from whence.cards import ModelCard
from whence.errors import BadOption, UnknownName
from whence.models.checkpoints.files import WeightFile
from whence.models.checkpoints.networks import expected_tensors, propose_cards
from whence.models.networks import Network
from whence.models.zoo import CARDS, network_for
from whence.registry import get_card


def file_of(table: dict[str, tuple[int, ...]], name: str = "somewhere.pth") -> WeightFile:
    """A file with these names and shapes that takes no memory."""
    whole = {"num_batches_tracked": torch.zeros((), dtype=torch.int64)}
    tensors = {
        key: whole.get(key.rpartition(".")[2], torch.zeros(())).expand(shape)
        for key, shape in table.items()
    }
    return WeightFile(Path(name), tensors, {})


@pytest.mark.parametrize("card", CARDS.values(), ids=lambda card: card.name)
def test_documented_keys_are_exactly_the_networks(card: ModelCard) -> None:
    table = published(card)
    assert propose_cards(file_of(table), [card]) == (card,)
    needed = [
        key
        for key in table
        if not re.search(
            r"mask_token|attention_pool|seq_gem|pooler|num_batches_tracked|sem_branch.(?:cls|ppm)|^DA",
            key,
        )
    ]
    for key in (needed[0], needed[len(needed) // 2], needed[-1]):
        if re.search(r"(^|dino\.)norm\.", key):
            continue  # In the file, and left out by BoQ and AnyLoc.
        assert (
            propose_cards(file_of({k: shape for k, shape in table.items() if k != key}), [card])
            == ()
        ), f"{key} is not missed"
        assert propose_cards(file_of({**table, key: (*table[key], 7)}), [card]) == (), (
            f"the shape of {key} is not looked at"
        )
    assert propose_cards(file_of({**table, "backbone.more": (3,)}), [card]) == ()


@pytest.mark.parametrize(("name", "count"), COUNTS.items())
def test_tables_have_the_stated_number_of_tensors(name: str, count: int) -> None:
    assert len(published(CARDS[name])) == count


def test_further_names_of_one_model() -> None:
    card = CARDS["megaloc-dinov2-8448"]
    assert propose_cards(file_of(megaloc(is_old=True)), [card]) == (card,)
    card = CARDS["cls-vit_b16_224-768-msls"]
    for version in (4, 5):
        for prefix in ("backbone.", "backbone.vit_model.", "module.backbone.vit_model."):
            assert propose_cards(file_of(vit(prefix, version=version)), [card]) == (card,)
    assert propose_cards(file_of(vit("backbone.", side=24)), [card]) == ()
    assert len(compact("backbone.", 14)) == 161


@cache
def network_of(name: str) -> Network:
    """A card's network, without memory for its weights."""
    with torch.device("meta"):
        return network_for(CARDS[name])


@pytest.mark.parametrize("card", CARDS.values(), ids=lambda card: card.name)
def test_networks_have_the_cards_dimensions(card: ModelCard) -> None:
    network = network_of(card.name)
    assert network.dim == card.dim
    assert set(expected_tensors(card)) == set(network.state_dict())


@pytest.mark.parametrize("card", CARDS.values(), ids=lambda card: card.name)
def test_networks_take_the_cards_images(card: ModelCard) -> None:
    """Of the size that the preprocessing gives; without a size of its own, one that it leaves as it
    is."""
    network = network_of(card.name)
    size = card.preprocessing.size_px or (448, 322)
    network.backbone.size_rule.check(*size)


def test_models_without_a_network() -> None:
    with pytest.raises(BadOption, match="no network"):
        network_for(get_card("densevlad"))
    with pytest.raises(UnknownName):
        network_for(replace(CARDS["cosplace-resnet18-512"], backbone="resnet19conv5"))
