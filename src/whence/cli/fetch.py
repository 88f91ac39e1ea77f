"""`whence models --fetch`: files of weights brought to this machine, and what they are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from whence.cards import ModelCard, Origin
from whence.cli.output import print_json, print_note, show_table
from whence.data.fields import as_size
from whence.errors import BadOption, UnknownName
from whence.matching.cards import MATCHERS, parts_of_matcher
from whence.models.cards.backbones import BACKBONES
from whence.models.cards.local import PARTS
from whence.models.checkpoints.http import sha256_of
from whence.models.checkpoints.origins import find_weights, get_weights, weights_status
from whence.models.checkpoints.packages import licence_files
from whence.registry import MODELS, SCORERS, get_card
from whence.settings import load_settings


def fetch(name: str, *, as_json: bool) -> int:
    """Fetch what a model, matcher, scorer, backbone or part of a matcher needs; gives the exit
    code. Raises as `get_weights`."""
    records = [record for card in _cards(name) for record in _fetched(card)]
    if not records:
        print_note(f"{name} needs no file of weights")
    for record in records:
        if as_json:
            print_json(record)
        else:
            show_table((), _rows(record))
    return 0


def announce_weights(model: str, options: Mapping[str, Any]) -> None:
    """Say that a model's weights are about to be fetched, where they are. Raises as `get_card`."""
    card = get_card(model)
    is_given = "weights" in options or model.endswith(".safetensors")
    is_reachable = (
        any(origin.kind != "manual" for origin in card.origins) and not load_settings().offline
    )
    if not is_given and is_reachable and weights_status(card) == "missing":
        print_note(f"the weights of {model} ({card.weights_licence}) are fetched now, once")


def announce_scorer_weights(scorer: str, options: Mapping[str, Any]) -> None:
    """Say that the weights of a scorer, or of a chain's scorers, are about to be fetched, where
    they are."""
    names = [part.strip().partition(":")[0] for part in scorer.split(",")]
    missing = [
        part
        for name in names
        for part in parts_of_matcher(name)
        if weights_status(part) == "missing"
    ]
    if (
        not any(name.rpartition(".")[2] == "weights" for name in options)
        and not load_settings().offline
    ):
        for part in dict.fromkeys(missing):
            print_note(f"the weights {part.name} ({part.weights_licence}) are fetched now, once")


def _cards(name: str) -> list[ModelCard]:
    if name in ("*", ""):
        raise BadOption(
            "--fetch goes with the name of one model, matcher, scorer, backbone or part of a "
            "matcher"
        )
    for table in (BACKBONES, PARTS):
        if name in table:
            return [table[name]]
    if name in MATCHERS:
        return list(parts_of_matcher(name))
    known = {*MODELS, *SCORERS, *MATCHERS, *BACKBONES, *PARTS}
    if name in SCORERS and name not in MODELS:
        return [get_card(name, kind="scorer")]
    if name not in known:
        raise UnknownName("model, matcher, scorer or backbone", name, known)
    return [get_card(name)]


def _fetched(card: ModelCard) -> list[dict[str, Any]]:
    """One record a file of the card, with the origin it is of; none for a card without files."""
    if not card.origins:
        return []
    was_there = find_weights(card) is not None
    if not was_there:
        print_note(f"fetching the weights of {card.name}")
    return [
        {
            "name": card.name,
            "file": str(path),
            "bytes": path.stat().st_size,
            "sha256": sha256_of(path),
            "weights_licence": card.weights_licence,
            "licence_files": [str(text) for text in licence_files(path)],
            "origin": _origin_of(path, (*card.origins, *card.backbone_origins)),
            "was_there": was_there,
        }
        for path in get_weights(card)
    ]


def _origin_of(path: Path, origins: tuple[Origin, ...]) -> str:
    for origin in origins:
        inside = Path(origin.source_file).name
        if path.name in (origin.file, inside):
            return f"{origin.kind}: {origin.address}"
    return "converted by whence convert"


def _rows(record: dict[str, Any]) -> list[tuple[str, str]]:
    texts = ", ".join(record["licence_files"])
    facts = {**record, "bytes": as_size(record["bytes"]), "licence_files": texts}
    return [(name.replace("_", " "), str(value)) for name, value in facts.items() if value != ""]
