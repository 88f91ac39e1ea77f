"""Cards of MeshVPR's released copies, for renders of city meshes; queries are described by what
they were copied from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from whence.cards import ModelCard, Origin

_FROM = "the releases that github.com/gmberton/MeshVPR lists; its best_model.pth under this name"
_RELEASED = {
    "salad-dinov2-8448": "meshvpr_salad_8448.pth",
    "cosplace-resnet18-512": "meshvpr_cosplace_r18_512.pth",
}


def mesh_cards(cards: Iterable[ModelCard]) -> tuple[ModelCard, ...]:
    """The cards of released copies, made of those of the models they were copied from."""
    return tuple(_of_copy(card, _RELEASED[card.name]) for card in cards if card.name in _RELEASED)


def _of_copy(card: ModelCard, file: str) -> ModelCard:
    return replace(
        card,
        name=f"{card.name}-mesh",
        summary=(
            f"MeshVPR: a copy of {card.name} for databases rendered from city meshes; queries are "
            f"described by {card.name}"
        ),
        weights="the authors' release: aligned on photos and renders of San Francisco",
        training_data=(
            "San Francisco, photos and renders of one mesh (SF-HQ), on top of: "
            f"{card.training_data}"
        ),
        citation="Berton, Junglas, Zaccone, Pollok, Caputo, Masone: MeshVPR, citywide visual place "
        "recognition using 3D meshes, ECCV 2024",
        weights_licence="unknown",
        origins=(Origin("manual", _FROM, file),),
        backbone_origins=(),
        limits=(
            "photos are no renders: a database of photos is described by the model it was copied "
            "from"
        ),
        query_model=card.name,
    )
