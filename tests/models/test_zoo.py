"""The zoo: every card is complete and honest, found by name, listed and filtered. Without torch."""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path

import pytest

from whence import cli
from whence.cards import KNOWN_LICENCES, ModelCard
from whence.errors import BadOption, MissingExtra, UnknownName, UnreadableWeights
from whence.models.cards.local import PARTS
from whence.models.cards.own import OWN_CARDS
from whence.models.cards.text import card_from_text, card_to_text, read_card
from whence.models.checkpoints.origins import PACKAGED, find_weights, weights_status
from whence.models.zoo import CARDS, ENTRIES, find_card
from whence.registry import MODELS, SCORERS, get_card, get_entry, list_models

FAMILIES = {
    "cosplace": 31,
    "eigenplaces": 13,
    "divide": 1,
    "convap": 4,
    "mixvpr": 3,
    "salad": 2,
    "cliquemining": 1,
    "boq": 2,
    "megaloc": 1,
    "anyloc": 6,
    "seqvlad": 1,
    "jist": 1,
    "earthloc": 1,
    "segvpr": 4,
    "radenovic": 6,
    "apgem": 2,
}
"""Published models of each family, with copies for meshes of two; the benchmark's zoo and GeoWarp's
baselines are counted below."""
OWN = OWN_CARDS[0]
Capture = pytest.CaptureFixture[str]


def check_card(card: ModelCard) -> None:
    """The contract of every card: complete, within the known words, sane to use, its factory
    there."""
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9_]+)*", card.name)
    for text in (card.summary, card.weights, card.training_data, card.citation, card.similarity):
        assert text.strip() == text != "", card.name
    assert 1 <= card.dim <= 65536
    assert card.licence in KNOWN_LICENCES
    assert all(part in KNOWN_LICENCES for part in card.weights_licence.split(" AND "))
    steps = card.preprocessing
    sizes = [
        side
        for side in (*(steps.size_px or ()), steps.short_side_px, steps.long_side_px)
        if side is not None
    ]
    assert all(32 <= side <= 2048 for side in sizes)
    assert (
        sum(size is not None for size in (steps.size_px, steps.short_side_px, steps.long_side_px))
        <= 1
    )
    assert steps.interpolation in ("area", "bilinear", "bicubic")
    assert steps.colour == ("bgr" if card.keys == "segvpr" else "rgb")
    assert steps.multiple_of >= 1
    assert all(0 < value < 1 for value in (*steps.mean, *steps.std))
    module, _, attribute = get_entry("model", card.name).factory.partition(":")
    assert callable(getattr(importlib.import_module(module), attribute))
    assert card_from_text(card_to_text(card)) == card
    if card.backbone:
        assert card.aggregator
        assert card.keys
        assert card.origins
        assert steps.interpolation != "area", "networks are trained with bilinear or bicubic images"
    for origin in (*card.origins, *card.backbone_origins):
        assert re.fullmatch(r"[\w.()\-]+", origin.file)
        assert origin.address.strip()
        assert origin.sha256 is None or re.fullmatch(r"[0-9a-f]{64}", origin.sha256)
        if origin.kind == "url":
            assert re.match(r"https?://", origin.address)
        if origin.archive:
            assert origin.source_file


@pytest.mark.parametrize("name", list_models())
def test_every_card_is_complete(name: str) -> None:
    check_card(get_card(name))


def test_all_published_models_are_there() -> None:
    found = {family: sum(name.split("-")[0] == family for name in CARDS) for family in FAMILIES}
    assert found == FAMILIES
    assert sum(name.endswith("-geowarp") for name in CARDS) == 6
    assert sum(name.endswith(("-pitts30k", "-msls")) for name in CARDS) == 2 * 13 - 1
    assert len(CARDS) == sum(FAMILIES.values()) + 6 + 25


@pytest.mark.parametrize("card", OWN_CARDS, ids=lambda card: card.name)
def test_networks_of_the_project_come_with_their_weights(
    card: ModelCard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WHENCE_CACHE", str(tmp_path))
    monkeypatch.setenv("WHENCE_OFFLINE", "1")
    file = find_weights(card)
    assert file is not None
    assert file.parent == PACKAGED
    assert file.stat().st_size < 7_000_000
    assert weights_status(card) == "none needed"
    assert card.is_permissive
    assert card.limits
    assert card.figures
    assert read_card(file) == card, (
        "the file carries the card of the table: write it anew with `whence convert`"
    )
    cards = [
        *(entry.card for table in (MODELS, SCORERS) for entry in table.values()),
        *PARTS.values(),
    ]
    packaged = {
        origin.file for one in cards if one for origin in one.origins if origin.kind == "packaged"
    }
    notices = {"LICENSE-Apache-2.0.txt", "NOTICE.md"}
    assert {path.name for path in PACKAGED.iterdir()} == packaged | notices
    told = (PACKAGED / "NOTICE.md").read_text(encoding="utf-8")
    assert all(f"| {file} |" in told for file in packaged)


def test_files_of_the_cache_do_not_collide() -> None:
    files: dict[str, str] = {}
    for card in CARDS.values():
        for origin in (*card.origins, *card.backbone_origins):
            assert (
                files.setdefault(origin.file, origin.address + origin.source_file)
                == origin.address + origin.source_file
            )


def test_the_registry_knows_the_zoo() -> None:
    assert set(CARDS) < set(list_models())
    assert all(MODELS[name] is entry for name, entry in ENTRIES.items())
    with pytest.raises(UnknownName, match="cosplace-resnet18-512"):
        get_card("cosplace-resnet18-521")
    with pytest.raises(UnknownName, match="eigenplaces-resnet18-512"):
        find_card("eigenplace-resnet18-512")


def test_tables_take_further_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    before = len(MODELS)
    monkeypatch.setitem(MODELS, "mine", MODELS["rootsift-vlad"])  # type: ignore[arg-type]
    assert "mine" in list_models()
    assert len(MODELS) == before + 1
    monkeypatch.undo()
    assert "mine" not in MODELS


def test_licences_are_told_apart() -> None:
    cards = [get_card(name) for name in list_models()]
    permissive = {card.name for card in cards if card.is_permissive}
    assert {
        "rootsift-vlad",
        "cosplace-resnet18-512",
        "megaloc-dinov2-8448",
        "boq-dinov2-12288",
    } <= permissive
    assert not permissive & {
        "salad-dinov2-8448",
        "cliquemining-dinov2-8448",
        "mixvpr-resnet50-4096",
        "gem-vgg16-512-msls",
    }


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        "null",
        '{"name": 1}',
        card_to_text(get_card("densevlad")).replace('"dim"', '"dims"'),
        '{"name"',
        "[" * 100_000,
    ],
)
def test_texts_that_are_no_card(text: str) -> None:
    with pytest.raises(BadOption, match="no card"):
        card_from_text(text)


def records(capsys: Capture, *arguments: str) -> list[dict]:
    assert cli.run(["models", *arguments, "--json"]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_the_command_filters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setenv("WHENCE_CACHE", str(tmp_path))
    every = records(capsys)
    assert [record["name"] for record in every] == list(list_models())
    permissive = records(capsys, "--licence", "permissive")
    assert [record["name"] for record in permissive] == [
        record["name"] for record in every if record["is_permissive"]
    ]
    assert {record["licence"] for record in records(capsys, "--licence", "gpl")} == {"GPL-3.0"}
    small = records(capsys, "*", "--max-dim", "128", "--backbone", "resnet18")
    assert {record["name"] for record in small} == {
        f"cosplace-resnet18-{dim}" for dim in (32, 64, 128)
    }
    assert {record["name"] for record in records(capsys, "--available")} == {
        "densevlad",
        "rootsift-vlad",
        "whence-lite0-448",
        "whence-lite0-words-960",
        OWN.name,
    }
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "dino_salad.ckpt").write_bytes(b"x")
    here = records(capsys, "salad*", "--available")
    assert [(record["name"], record["state"]) for record in here] == [
        ("salad-dinov2-8448", "unverified")
    ]
    (tmp_path / "weights" / "dinov2_vitg14_l31_value_c32_urban_c_centers.pt").write_bytes(b"x")
    assert records(capsys, "anyloc*", "--available") == [], "the backbone's weights are not there"


def test_the_command_shows_one_card(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setenv("WHENCE_CACHE", str(tmp_path))
    assert cli.run(["models", "cosplace-resnet50-512"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "releases/download/v1.0/ResNet50_512_cosplace.pth" in shown
    assert str(tmp_path / "weights" / "ResNet50_512_cosplace.pth") in shown
    assert cli.run(["models", "cosplace*"]) == 0
    assert "cosplace-vgg16-64" in capsys.readouterr().out
    assert cli.run(["models", "cosplays"]) == 1
    assert "cosplace" in capsys.readouterr().err
    assert cli.run(["models", str(tmp_path / "nothing.safetensors")]) == 1
    assert "nothing.safetensors" in capsys.readouterr().err


def test_without_torch_a_network_says_which_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    from whence.models.zoo import load_network

    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    with pytest.raises(MissingExtra, match=r"whence-vpr\[torch\]"):
        load_network(find_card("cosplace-resnet18-512"))


def test_files_without_a_card_are_no_models(tmp_path: Path) -> None:
    for content in (
        b"",
        b"{}",
        b"\0" * 100,
        b"\xff" * 100,
        b"\x02" + b"\0" * 7 + b"{}",
        b"\x02" + b"\0" * 7 + b"[]",
    ):
        path = tmp_path / "a.safetensors"
        path.write_bytes(content)
        with pytest.raises(UnreadableWeights, match=r"a\.safetensors"):
            get_card(str(path))
