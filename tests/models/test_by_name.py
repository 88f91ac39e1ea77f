"""`whence index`, `locate` and `evaluate` by a published model's name: with its file, and without
it what to do about that."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from conftest import write_street
from whence import cli
from whence.errors import MissingWeights
from whence.models.descriptor import load_model
from whence.models.zoo import CARDS

pytestmark = pytest.mark.usefixtures("cache")

Capture = pytest.CaptureFixture[str]
FAMILIES = (
    "cosplace-resnet18-32",
    "netvlad-alexnet-16384-geowarp",
)
"""Cards with small files and small images: the others take the same way, and `test_every_card`
loads theirs."""
LARGE_FAMILIES = (
    "segvpr-resnet50-deeplab-3072",
    "eigenplaces-resnet18-256",
    "gem-resnet18conv4-256-pitts30k",
    "gemfc-resnet50conv4-2048-msls",
    "crn-resnet50conv4-65536-msls",
    "cls-vit_b16_224-768-msls",
    "netvlad-cct384-24576-pitts30k",
    "convap-resnet50-512",
    "mixvpr-resnet50-128",
    "boq-resnet50-16384",
    "boq-dinov2-12288",
    "salad-dinov2-8448",
    "cliquemining-dinov2-8448",
    "megaloc-dinov2-8448",
    "seqvlad-cct384-24576",
    "jist-resnet18-512",
    "divide-and-classify-efficientnet_b0-1280",
    "earthloc-resnet50-4096",
    "radenovic-resnet50-2048-sfm",
    "apgem-resnet50-2048",
)


def whence(*arguments: str | Path) -> int:
    return cli.run([str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set of four places."""
    root = tmp_path_factory.mktemp("few")
    write_street(root / "database", num_places=4, shift=0, run=0)
    write_street(root / "queries", num_places=4, shift=25, run=1)
    shutil.copy(sorted((root / "database").iterdir())[2], root / "same.jpg")
    return root


def check_by_name(name: str, few: Path, tmp_path: Path, cache: Path, capsys: Capture) -> None:
    """The three verbs with random weights in the converted file's place; without the file, one more
    question and its answer."""
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file

    from whence.models.cards.text import CARD_FIELD, card_to_text
    from whence.models.zoo import network_for

    torch.manual_seed(0)
    cache.mkdir(parents=True)
    state = {
        key: tensor.contiguous() for key, tensor in network_for(CARDS[name]).state_dict().items()
    }
    save_file(state, cache / f"{name}.safetensors", {CARD_FIELD: card_to_text(CARDS[name])})
    del state
    database = tmp_path / "c.whence"
    assert (
        whence(
            "index",
            few / "database",
            "--model",
            name,
            "--option",
            "engine=eager",
            "--db",
            database,
            "-q",
            "--json",
        )
        == 0
    )
    report = json.loads(capsys.readouterr().out)
    assert (report["model"], report["num_descriptors"]) == (name, 4)
    assert whence("locate", few / "same.jpg", "--db", database, "--no-verify", "--json") == 0
    best = json.loads(capsys.readouterr().out)["candidates"][0]
    assert best["photo"].endswith(sorted((few / "database").iterdir())[2].name)
    assert best["similarity"] == pytest.approx(1, abs=1e-4)
    assert whence("evaluate", few, "--model", name, "--option", "engine=eager", "--json") == 0
    assert {record["num_queries"] for record in json.loads(capsys.readouterr().out)["recalls"]} == {
        4
    }
    (cache / f"{name}.safetensors").unlink()
    assert whence("locate", few / "same.jpg", "--db", database, "--no-verify") == 1
    check_advice(name, cache, capsys.readouterr().err)


def check_advice(name: str, cache: Path, message: str) -> None:
    """Which model lacks its file, where it comes from, where to put it, and the other way: naming a
    file."""
    message = message.replace("\n", " ")
    assert "Traceback" not in message
    assert f"the weights of {name} are not on this machine" in message
    for origin in CARDS[name].origins:
        assert str(cache / origin.file) in message
        assert origin.address in message
    assert "weights=FILE" in message


@pytest.mark.parametrize("name", FAMILIES)
def test_a_model_whose_file_is_there(
    name: str, few: Path, tmp_path: Path, cache: Path, capsys: Capture
) -> None:
    check_by_name(name, few, tmp_path, cache, capsys)


@pytest.mark.large
@pytest.mark.parametrize("name", LARGE_FAMILIES)
def test_large_models_too(
    name: str, few: Path, tmp_path: Path, cache: Path, capsys: Capture
) -> None:
    check_by_name(name, few, tmp_path, cache, capsys)


def test_every_family_is_among_them() -> None:
    looked_at = {CARDS[name].keys for name in FAMILIES + LARGE_FAMILIES}
    # AnyLoc's backbone alone takes 4.5 GB.
    assert looked_at == {card.keys for card in CARDS.values()} - {"anyloc"}


@pytest.mark.parametrize("name", CARDS)
def test_without_its_file_a_model_says_what_to_do(
    name: str, few: Path, tmp_path: Path, cache: Path, capsys: Capture
) -> None:
    pytest.importorskip("torch")
    assert (
        whence("index", few / "database", "--model", name, "--db", tmp_path / "c.whence", "-q") == 1
    )
    check_advice(name, cache, capsys.readouterr().err)
    assert whence("evaluate", few, "--model", name, "-q") == 1
    check_advice(name, cache, capsys.readouterr().err)
    with pytest.raises(
        MissingWeights,
        match="offline" if any(o.kind != "manual" for o in CARDS[name].origins) else "get",
    ):
        load_model(name)
    assert not (tmp_path / "c.whence").exists(), "nothing is begun without the model"
