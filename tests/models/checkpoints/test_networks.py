"""Weights from files: the published names and numbers, converted and back, and files that are
broken, foreign or hostile."""

from __future__ import annotations

import json
import os
import pickle
import re
import struct
import sys
import types
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
safetensors_torch = pytest.importorskip("safetensors.torch")

from torch import Tensor

from fills import image_of, squares
from published_keys import (
    Table,
    affine,
    compact,
    cosplace,
    dinov2,
    indexed_cnn,
    megaloc,
    mixer,
    named_resnet,
    netvlad,
    published,
    queries,
    reweighting,
    salad,
    vit,
)
from whence import cli
from whence.cards import ModelCard
from whence.errors import UnreadableWeights, WeightsMismatch
from whence.models.cards.text import read_card
from whence.models.checkpoints import networks as checkpoints
from whence.models.checkpoints.files import WeightFile, read_weights
from whence.models.checkpoints.networks import convert, load_weights, make_network, propose_cards
from whence.models.descriptor import load_model
from whence.models.networks import Network
from whence.models.zoo import CARDS, load_network

pytestmark = pytest.mark.usefixtures("cache")

Capture = pytest.CaptureFixture[str]


def filled(table: Table) -> dict[str, Tensor]:
    """Tensors of these names and shapes by a formula, small enough for any network to stay
    finite."""
    tensors = {}
    for seed, (name, shape) in enumerate(table.items()):
        leaf = name.rpartition(".")[2]
        if leaf == "num_batches_tracked":
            tensors[name] = torch.tensor(seed)
        elif leaf == "running_var" or (leaf == "weight" and len(shape) == 1):
            tensors[name] = 1 + squares(shape, seed, scale=0.4)
        elif leaf == "p":
            tensors[name] = torch.tensor([2.5])
        else:
            tensors[name] = squares(
                shape,
                seed,
                scale=0.2 if len(shape) < 2 else float(np.sqrt(12 / np.prod(shape[1:]))),
            )
    return tensors


def by_squares(table: Table) -> dict[str, Tensor]:
    """The fill rule that the golden values of whole networks are stated with; the place in the file
    is the number."""
    tensors = {}
    for number, (name, shape) in enumerate(table.items()):
        leaf = name.rpartition(".")[2]
        if leaf == "num_batches_tracked":
            tensors[name] = torch.tensor(0)
        elif leaf in ("p", "dust_bin"):
            tensors[name] = torch.full(shape, 3.0 if leaf == "p" else 1.0)
        elif leaf == "running_var":
            tensors[name] = 1 + squares(shape, number, scale=0.2).abs()
        elif len(shape) >= 2:
            tensors[name] = squares(shape, number, scale=float(np.sqrt(24 / np.prod(shape[1:]))))
        else:
            tensors[name] = squares(shape, number, scale=0.2) + (1.0 if leaf == "weight" else 0.0)
    return tensors


def small(name: str, **changes: Any) -> ModelCard:
    return replace(CARDS[name], **changes)


def tiny_vit(prefix: str, version: int) -> Table:
    return vit(prefix, version=version, num_blocks=1)


TINY_DINO: dict[str, Any] = {"width": 384, "num_blocks": 2}
SMALL_FILES: dict[str, tuple[ModelCard, Table, tuple[int, int]]] = {
    "cosplace": (CARDS["cosplace-resnet18-32"], cosplace("resnet18conv5", 512, 32), (64, 96)),
    "eigenplaces": (
        CARDS["eigenplaces-resnet18-256"],
        cosplace("resnet18conv5", 512, 256),
        (64, 96),
    ),
    "cosplace vgg": (CARDS["cosplace-vgg16-64"], cosplace("vgg16", 512, 64), (64, 64)),
    "jist": (CARDS["jist-resnet18-512"], published(CARDS["jist-resnet18-512"]), (64, 96)),
    "benchmark gem": (
        CARDS["gem-resnet18conv4-256-msls"],
        published(CARDS["gem-resnet18conv4-256-msls"]),
        (64, 96),
    ),
    "benchmark netvlad": (
        CARDS["netvlad-resnet18conv4-16384-msls"],
        published(CARDS["netvlad-resnet18conv4-16384-msls"]),
        (64, 96),
    ),
    "benchmark crn": (
        small("crn-resnet50conv4-65536-msls", backbone="resnet18conv4"),
        {
            **indexed_cnn("resnet18conv4", "backbone."),
            **netvlad("aggregation", 256),
            **reweighting(256),
        },
        (64, 96),
    ),
    "benchmark fc": (
        small(
            "gemfc-resnet50conv4-2048-msls",
            backbone="resnet18conv4",
            aggregator_options={"dim": 40},
        ),
        {
            **indexed_cnn("resnet18conv4", "backbone."),
            "aggregation.0.1.p": (1,),
            **affine("aggregation.1", 40, 256),
        },
        (64, 96),
    ),
    "benchmark cct": (
        CARDS["netvlad-cct384-24576-msls"],
        {**compact("backbone.", 2), **netvlad("aggregation", 384, is_tokens=True)},
        (384, 384),
    ),
    "benchmark vit": (
        small("cls-vit_b16_224-768-msls", backbone_options={"num_blocks": 1}),
        tiny_vit("backbone.", 4),
        (224, 224),
    ),
    "benchmark vit 5": (
        small("cls-vit_b16_224-768-msls", backbone_options={"num_blocks": 1}),
        tiny_vit("backbone.vit_model.", 5),
        (224, 224),
    ),
    "geowarp": (
        CARDS["gem-alexnet-256-geowarp"],
        published(CARDS["gem-alexnet-256-geowarp"]),
        (128, 96),
    ),
    "geowarp netvlad": (
        CARDS["netvlad-alexnet-16384-geowarp"],
        published(CARDS["netvlad-alexnet-16384-geowarp"]),
        (128, 96),
    ),
    "seqvlad": (
        CARDS["seqvlad-cct384-24576"],
        {**compact("encoder.", 1), **netvlad("aggregator", 384, is_tokens=True)},
        (384, 384),
    ),
    "convap": (
        small(
            "convap-resnet50-512", backbone="resnet18conv5", aggregator_options={"channels_out": 16}
        ),
        {
            **named_resnet("resnet18conv5", "backbone.model."),
            **affine("aggregator.channel_pool", 16, 512, 1, 1),
        },
        (64, 96),
    ),
    "mixvpr": (CARDS["mixvpr-resnet50-128"], published(CARDS["mixvpr-resnet50-128"]), (320, 320)),
    "earthloc": (
        small(
            "earthloc-resnet50-4096",
            aggregator_options={"channels_out": 8, "rows": 4, "fc_dim": 24},
        ),
        {**named_resnet("resnet50conv4", "backbone.model."), **mixer(8, 4), **affine("fc", 24, 32)},
        (320, 320),
    ),
    "boq resnet": (
        small("boq-resnet50-16384", backbone="resnet18conv4", aggregator_options={"width": 64}),
        {**indexed_cnn("resnet18conv4", "backbone.net."), **queries(256, 64)},
        (64, 96),
    ),
    "boq dinov2": (
        small("boq-dinov2-12288", backbone="dinov2_vits14", aggregator_options={"width": 64}),
        {**dinov2("backbone.dino.", width=384), **queries(384, 64)},
        (70, 84),
    ),
    "salad": (
        small("salad-dinov2-8448", backbone="dinov2_vits14"),
        {**dinov2("backbone.model.", width=384), **salad("aggregator.", width=384)},
        (126, 140),
    ),
    "megaloc": (
        small("megaloc-dinov2-8448", backbone="dinov2_vits14", aggregator_options={"dim": 24}),
        {
            **dinov2("backbone.", width=384, has_mask=False),
            **salad("aggregator.agg.", width=384, word_dim=256),
            **affine("aggregator.linear", 24, 16640),
        },
        (126, 140),
    ),
    "anyloc": (
        small(
            "anyloc-dinov2_vitg14-49152-urban",
            backbone="dinov2_vits14",
            backbone_options={"num_blocks": 3, "facet": "value"},
        ),
        {"": (32, 384), **dinov2("", width=384, num_blocks=5)},
        (70, 84),
    ),
    "radenovic": (
        small(
            "radenovic-resnet50-2048-sfm",
            backbone="resnet18conv5",
            aggregator_options={"dim": 16, "l2": "after_pool"},
        ),
        {**indexed_cnn("resnet18conv5", "features."), "pool.p": (1,), **affine("whiten", 16, 512)},
        (64, 96),
    ),
    "apgem": (
        small(
            "apgem-resnet50-2048",
            backbone="resnet18conv5",
            aggregator_options={"dim": 16, "l2": "none"},
        ),
        {
            **named_resnet("resnet18conv5", "module."),
            "module.adpool.p": (1,),
            **affine("module.fc", 16, 512),
        },
        (64, 96),
    ),
}
"""One of each family, made small where the published one is large: card, published names and
shapes, size of an image."""


def write(folder: Path, tensors: dict[str, Tensor]) -> list[Path]:
    """The tensors in the files of their kind: a vocabulary is a tensor alone, beside the backbone's
    file."""
    path = folder / "theirs.pth"
    if "" not in tensors:
        torch.save(tensors, path)
        return [path]
    torch.save(tensors[""], path)
    torch.save({name: tensor for name, tensor in tensors.items() if name}, folder / "backbone.pth")
    return [path, folder / "backbone.pth"]


@pytest.mark.parametrize("family", SMALL_FILES)
def test_published_files_load_and_round_trip(family: str, tmp_path: Path) -> None:
    card, table, size = SMALL_FILES[family]
    files = write(tmp_path, filled(table))
    network = load_weights(files, card)
    images = image_of((2, 3, *size))
    with torch.inference_mode():
        described = network(images)
    assert described.shape == (2, network.dim)
    assert torch.isfinite(described).all()
    assert not torch.allclose(described[0], described[1])
    if card.is_unit_length:
        assert torch.allclose(described.norm(dim=1), torch.ones(2), atol=1e-5)
    convert(files, card=card, out=tmp_path / "ours.safetensors")
    again = load_network(
        read_card(tmp_path / "ours.safetensors"), weights=tmp_path / "ours.safetensors"
    )
    with torch.inference_mode():
        assert torch.equal(again(images), described)
    # Made in the usual way and filled, it is the same network.
    usual = make_network(read_card(tmp_path / "ours.safetensors")).eval()
    load_weights(tmp_path / "ours.safetensors", usual)
    with torch.inference_mode():
        assert torch.equal(usual(images), described)
    assert all(
        parameter.dtype == torch.float32 and not parameter.is_meta
        for parameter in again.parameters()
    )


def published_network(name: str, folder: Path) -> Network:
    """The card's network from a file of the published names, filled by the rule of the golden
    values."""
    torch.save(by_squares(published(CARDS[name])), folder / "theirs.pth")
    return load_weights(folder / "theirs.pth", CARDS[name])


@pytest.mark.parametrize(
    ("name", "first", "last", "total"),
    [
        (
            "cosplace-resnet18-512",
            [-0.03759, 0.03174, -0.00224, 0.02498, 0.03725, -0.04205],
            0.03125,
            10.65563,
        ),
        (
            "cosplace-vgg16-512",
            [0.03550, 0.04378, 0.06603, -0.04660, -0.03396, -0.00547],
            0.07167,
            -7.70674,
        ),
        (
            "cosplace-resnet50-128",
            [-0.09539, -0.02153, 0.05572, 0.01781, 0.03282, 0.13270],
            0.09065,
            7.19665,
        ),
    ],
)
def test_files_give_the_numbers_of_the_authors_code(
    name: str, first: list[float], last: float, total: float, tmp_path: Path
) -> None:
    """Golden values of CosPlace's whole networks, through a file of the published names;
    EigenPlaces has the same."""
    with torch.inference_mode():
        described = published_network(name, tmp_path)(image_of((1, 3, 96, 128)))[0]
    assert torch.allclose(described[:6], torch.tensor(first), atol=2e-4)
    assert float(described[-1]) == pytest.approx(last, abs=2e-4)
    assert float(described.sum()) == pytest.approx(total, abs=2e-3)


def test_earthloc_gives_the_numbers_of_the_authors_code(tmp_path: Path) -> None:
    network = published_network("earthloc-resnet50-4096", tmp_path)
    with torch.inference_mode():
        features = network.features(image_of((2, 3, 320, 320)))
        pooled = network.aggregator.pool(features)  # type: ignore[operator]
        described = network.aggregator(features)
    assert features.map.double().norm().item() == pytest.approx(1821.845, abs=0.001)
    assert torch.allclose(
        features.map[0, 0, 0, :3], torch.tensor([0.19996, 0.0, 0.80869]), atol=2e-4
    )
    assert torch.allclose(
        pooled[0, :4], torch.tensor([0.00149, 0.00119, -0.01478, 0.00135]), atol=2e-5
    )
    assert torch.allclose(
        described[0, :4], torch.tensor([0.00991, 0.01479, 0.01405, -0.02440]), atol=2e-5
    )
    assert float(described[1, -1]) == pytest.approx(0.00290, abs=2e-5)
    assert float(described.sum()) == pytest.approx(-4.5265, abs=2e-3)
    assert float(described[0] @ described[1]) == pytest.approx(0.89906, abs=1e-4)


def test_megaloc_gives_the_numbers_of_the_authors_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole network by its published names, at a size of its own and at one that it resizes.
    Nothing is written: 0.9 GB."""
    monkeypatch.setattr(
        checkpoints, "read_weights", lambda path: WeightFile(Path(path), by_squares(megaloc()), {})
    )
    network = load_weights("model.safetensors", CARDS["megaloc-dinov2-8448"])
    assert sum(parameter.numel() for parameter in network.parameters()) == 228_639_553
    for size, first, total in (
        ((126, 140), [0.00604, 0.00872, 0.01051, -0.01765, -0.01013, -0.00050], -45.56501),
        ((130, 150), [0.00651, 0.00922, 0.01091, -0.01699, -0.01008, -0.00021], -43.05112),
    ):
        with torch.inference_mode():
            described = network(image_of((1, 3, *size)))[0]
        assert torch.allclose(described[:6], torch.tensor(first), atol=2e-4)
        assert float(described.sum()) == pytest.approx(total, abs=2e-3)


def test_megalocs_older_files_are_the_same_network(tmp_path: Path) -> None:
    card, table, _ = SMALL_FILES["megaloc"]
    tensors = filled(table)
    torch.save(tensors, tmp_path / "new.pth")
    older = {
        name.replace("backbone.", "backbone.model."): tensor for name, tensor in tensors.items()
    }
    torch.save({**older, "backbone.model.mask_token": torch.ones(1, 384)}, tmp_path / "old.pth")
    new, old = (load_weights(tmp_path / name, card).state_dict() for name in ("new.pth", "old.pth"))
    assert list(new) == list(old)
    assert all(torch.equal(new[name], old[name]) for name in new)


def test_joined_attention_keeps_its_order(tmp_path: Path) -> None:
    card, table, _ = SMALL_FILES["benchmark vit 5"]
    tensors = filled(table)
    torch.save(dict(reversed(tensors.items())), tmp_path / "a.pth")
    joined = load_weights(tmp_path / "a.pth", card).get_parameter(
        "backbone.blocks.0.attn.qkv.weight"
    )
    parts = [tensors[f"backbone.vit_model.layers.0.attention.{part}_proj.weight"] for part in "qkv"]
    assert torch.equal(joined, torch.cat(parts))


CARD, TABLE, _ = SMALL_FILES["benchmark gem"]


def wrapped(tensors: dict[str, Tensor]) -> dict[str, Any]:
    """A training checkpoint of the benchmark."""
    return {
        "epoch_num": 7,
        "model_state_dict": {f"module.{name}": tensor for name, tensor in tensors.items()},
        "optimizer_state_dict": {"state": {}, "param_groups": [{"lr": 1e-5}]},
        "recalls": np.array([1.0, 2.0, 3.0]),
        "best_r5": np.float64(3.0),
    }


@pytest.mark.parametrize(
    "dress",
    [
        wrapped,
        lambda tensors: {"state_dict": tensors, "meta": {"pooling": "gem", "mean": [0.485]}},
        lambda tensors: {f"module.{name}": tensor for name, tensor in tensors.items()},
        lambda tensors: {
            name: tensor.half() if tensor.is_floating_point() else tensor
            for name, tensor in tensors.items()
        },
        lambda tensors: {
            name: torch.nn.Parameter(t) if t.is_floating_point() else t
            for name, t in tensors.items()
        },
    ],
)
@pytest.mark.parametrize("is_zip", [True, False])
def test_the_fields_ways_of_saving(
    dress: Callable[[dict[str, Tensor]], Any], is_zip: bool, tmp_path: Path
) -> None:
    tensors = filled(TABLE)
    torch.save(dress(tensors), tmp_path / "a.pth", _use_new_zipfile_serialization=is_zip)
    network = load_weights(tmp_path / "a.pth", CARD)
    assert torch.allclose(
        network.get_parameter("backbone.conv1.weight"), tensors["backbone.0.weight"], atol=1e-3
    )
    assert network.get_parameter("backbone.conv1.weight").dtype == torch.float32


def test_objects_beside_the_weights_are_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """AP-GeM's file holds projections of scikit-learn, which need not be installed: neither here
    nor where it is read."""
    name = "sklearn.decomposition._pca"
    module = types.ModuleType(name)
    module.PCA = type("PCA", (), {"__module__": name})  # type: ignore[attr-defined]
    pca = module.PCA()
    pca.components_, pca.whiten = np.eye(2), False
    card, table, _ = SMALL_FILES["apgem"]
    with monkeypatch.context() as patched:
        patched.setitem(sys.modules, name, module)
        torch.save(
            {"pca": {"Landmarks_clean": pca}, "state_dict": filled(table)}, tmp_path / "a.pt"
        )
    assert load_weights(tmp_path / "a.pt", card).dim == 16


def test_safetensors_with_the_authors_names(tmp_path: Path) -> None:
    safetensors_torch.save_file(filled(TABLE), tmp_path / "model.safetensors")
    assert load_weights(tmp_path / "model.safetensors", CARD).dim == 256


def test_what_does_not_fit_is_listed(tmp_path: Path) -> None:
    tensors = filled(TABLE)
    tensors["backbone.0.weight"] = torch.zeros(64, 3, 3, 3)
    tensors["backbone.1.weight"] = torch.zeros(64, dtype=torch.int32)
    del tensors["aggregation.1.p"]
    tensors |= {f"classifier.{i}": torch.zeros(1) for i in range(12)}
    torch.save(tensors, tmp_path / "a.pth")
    with pytest.raises(WeightsMismatch) as caught:
        load_weights(tmp_path / "a.pth", CARD)
    assert caught.value.unknown == tuple(f"classifier.{i}" for i in range(12))
    assert caught.value.missing == ("aggregator.p",)
    message = str(caught.value)
    assert "a.pth" in message
    assert CARD.name in message
    assert "12 unknown: classifier.0," in message
    assert "classifier.9, ..." in message
    assert "classifier.10" not in message
    assert "backbone.0.weight is 64 x 3 x 3 x 3, not 64 x 3 x 7 x 7" in message
    assert "backbone.1.weight is 64 of int32, not 64" in message


def test_another_architecture_is_refused(tmp_path: Path) -> None:
    torch.save(filled(cosplace("resnet18conv5", 512, 32)), tmp_path / "a.pth")
    for name in (
        "cosplace-resnet18-64",
        "cosplace-vgg16-64",
        "gem-resnet18conv4-256-msls",
        "megaloc-dinov2-8448",
    ):
        with pytest.raises(WeightsMismatch, match=name):
            load_weights(tmp_path / "a.pth", CARDS[name])


def test_two_names_of_one_tensor_are_refused(tmp_path: Path) -> None:
    tensors = filled(TABLE)
    torch.save(
        {**tensors, "module.backbone.0.weight": tensors["backbone.0.weight"]}, tmp_path / "a.pth"
    )
    with pytest.raises(WeightsMismatch, match=r"1 unknown: module\.backbone\.0\.weight"):
        load_weights(tmp_path / "a.pth", CARD)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_none_are_refused(value: float, tmp_path: Path) -> None:
    tensors = filled(TABLE)
    tensors["backbone.0.weight"][3, 1, 0, 0] = value
    torch.save(tensors, tmp_path / "a.pth")
    with pytest.raises(
        UnreadableWeights, match=r"backbone\.0\.weight holds values that are no finite"
    ):
        load_weights(tmp_path / "a.pth", CARD)


def test_odd_tensors_are_refused(tmp_path: Path) -> None:
    for odd in (
        torch.zeros(64, 3, 7, 7).to_sparse(),
        torch.zeros(64, 3, 7, 7, dtype=torch.complex64),
        torch.zeros(64, 3, 7, 7, device="meta"),
    ):
        torch.save({**filled(TABLE), "backbone.0.weight": odd}, tmp_path / "a.pth")
        with pytest.raises((WeightsMismatch, UnreadableWeights), match=r"a\.pth"):
            load_weights(tmp_path / "a.pth", CARD)


def test_landmark_files_may_lack_counts(tmp_path: Path) -> None:
    card, table, _ = SMALL_FILES["radenovic"]
    torch.save(
        {name: tensor for name, tensor in filled(table).items() if "num_batches" not in name},
        tmp_path / "a.pth",
    )
    assert (
        int(load_weights(tmp_path / "a.pth", card).get_buffer("backbone.bn1.num_batches_tracked"))
        == 0
    )
    torch.save(
        {name: tensor for name, tensor in filled(TABLE).items() if "num_batches" not in name},
        tmp_path / "b.pth",
    )
    with pytest.raises(WeightsMismatch, match="missing"):
        load_weights(tmp_path / "b.pth", CARD)


def test_files_without_a_name_are_recognised(tmp_path: Path) -> None:
    cards = tuple(CARDS.values())
    torch.save(filled(cosplace("resnet18conv5", 512, 32)), tmp_path / "a.pth")
    assert [card.name for card in propose_cards(read_weights(tmp_path / "a.pth"), cards)] == [
        "cosplace-resnet18-32"
    ]
    torch.save(filled(cosplace("resnet18conv5", 512, 256)), tmp_path / "b.pth")
    found = [card.name for card in propose_cards(read_weights(tmp_path / "b.pth"), cards)]
    assert found == ["cosplace-resnet18-256", "eigenplaces-resnet18-256"]
    os.rename(tmp_path / "b.pth", tmp_path / "ResNet18_256_eigenplaces.pth")
    named = propose_cards(read_weights(tmp_path / "ResNet18_256_eigenplaces.pth"), cards)
    assert [card.name for card in named] == ["eigenplaces-resnet18-256"]


def whence(*arguments: str | Path) -> int:
    return cli.run([str(argument) for argument in arguments])


def test_converted_files_are_found_by_name_and_need_none(
    tmp_path: Path, cache: Path, street: Path, capsys: Capture
) -> None:
    torch.save(wrapped(filled(TABLE)), tmp_path / "best_model.pth")
    assert whence("convert", tmp_path / "best_model.pth", "--as", CARD.name, "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["file"] == str(cache / f"{CARD.name}.safetensors")
    assert report["card"]["name"] == CARD.name
    assert whence("models", CARD.name, "--json") == 0
    assert json.loads(capsys.readouterr().out)["state"] == "unverified"
    photos = sorted((street / "database").iterdir())[:3]
    by_name = load_model(CARD.name).describe(photos)
    assert np.allclose(np.linalg.norm(by_name, axis=1), 1, atol=1e-5)
    assert whence("models", CARD.name, "--json") == 0
    assert json.loads(capsys.readouterr().out)["state"] == "pinned"
    mine = tmp_path / "mine.safetensors"
    assert whence("convert", tmp_path / "best_model.pth", "--as", CARD.name, "--out", mine) == 0
    assert np.array_equal(load_model(str(mine)).describe(photos), by_name)
    assert whence("models", mine) == 0
    assert CARD.name in capsys.readouterr().out
    by_option = load_model(
        "gem-resnet18conv4-256-pitts30k", options={"weights": str(tmp_path / "best_model.pth")}
    )
    assert np.array_equal(by_option.describe(photos), by_name)


def test_converting_tells_or_asks_which_model(tmp_path: Path, capsys: Capture) -> None:
    torch.save(filled(cosplace("resnet18conv5", 512, 32)), tmp_path / "a.pth")
    assert whence("convert", tmp_path / "a.pth", "--out", tmp_path / "a.safetensors") == 0
    assert read_card(tmp_path / "a.safetensors") == CARDS["cosplace-resnet18-32"]
    assert (
        whence("convert", tmp_path / "a.safetensors", "--out", tmp_path / "b.safetensors") == 0
    ), "converting twice is converting once"
    assert read_card(tmp_path / "b.safetensors") == CARDS["cosplace-resnet18-32"]
    torch.save(filled(cosplace("resnet18conv5", 512, 256)), tmp_path / "b.pth")
    torch.save({"weight": torch.zeros(3)}, tmp_path / "c.pth")
    capsys.readouterr()
    for name, hint in (
        ("b.pth", "eigenplaces-resnet18-256; choose one with --as"),
        ("c.pth", "no model of the zoo"),
    ):
        assert whence("convert", tmp_path / name, "--out", tmp_path / "no.safetensors") == 1
        assert hint in capsys.readouterr().err
    assert whence("convert", tmp_path / "a.pth", "--as", "cosplays-resnet18-32") == 1
    assert "did you mean 'cosplace-resnet18-32'" in capsys.readouterr().err
    assert (
        whence(
            "convert",
            tmp_path / "a.pth",
            "--as",
            "cosplace-resnet18-32",
            "--out",
            tmp_path / "no" / "a.safetensors",
        )
        == 1
    )
    assert "make the folder first" in capsys.readouterr().err
    assert not (tmp_path / "no.safetensors").exists()


class Runs:
    """Writes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.system, (f"touch {self.marker}",))


class Evaluates(Runs):
    def __reduce__(self) -> tuple[Any, ...]:
        return (eval, (f"open({str(self.marker)!r}, 'w').close()",))


def lying_header(shape: list[int], end: int) -> bytes:
    header = json.dumps({"a": {"dtype": "F32", "shape": shape, "data_offsets": [0, end]}}).encode()
    return struct.pack("<Q", len(header)) + header + b"\0" * 64


def zipped(
    kind: int, content: bytes, name: str = "archive/data.pkl"
) -> Callable[[Path, Path], None]:
    def write_zip(path: Path, _marker: Path) -> None:
        with zipfile.ZipFile(path, "w", kind) as archive:
            archive.writestr(name, content)
            archive.writestr("archive/data/0", b"\0" * 5_000_000)

    return write_zip


def saved(
    make: Callable[[Path], Any], *, is_zip: bool = True, keep: float = 1.0
) -> Callable[[Path, Path], None]:
    def write_saved(path: Path, marker: Path) -> None:
        torch.save(make(marker), path, _use_new_zipfile_serialization=is_zip)
        data = path.read_bytes()
        path.write_bytes(data[: int(len(data) * keep)])

    return write_saved


def patched_size(path: Path, _marker: Path) -> None:
    """A file of the old format that declares a tensor far larger than itself."""
    torch.save({"a": torch.zeros(0x1111)}, path, _use_new_zipfile_serialization=False)
    data = path.read_bytes().replace(b"M\x11\x11", b"J\xff\xff\xff\x7f")
    assert b"J\xff\xff\xff\x7f" in data
    path.write_bytes(data)


def raw(content: bytes) -> Callable[[Path, Path], None]:
    return lambda path, _marker: path.write_bytes(content) and None


HOSTILE: dict[str, tuple[Callable[[Path, Path], None], str]] = {
    "code in a pickle": (
        lambda path, marker: path.write_bytes(pickle.dumps(Runs(marker))) and None,
        "nothing in it was run",
    ),
    "code beside weights": (
        saved(lambda marker: {"a": torch.ones(2), "x": Runs(marker)}),
        "system.*nothing was run",
    ),
    "code in an old file": (
        saved(lambda marker: {"a": torch.ones(2), "x": Runs(marker)}, is_zip=False),
        "system.*nothing was run",
    ),
    "eval beside weights": (
        saved(lambda marker: {"a": Evaluates(marker)}),
        "eval.*nothing was run",
    ),
    "cut short": (saved(lambda _marker: {"a": torch.ones(1000)}, keep=0.7), "broken or cut short"),
    "old and cut short": (
        saved(lambda _marker: {"a": torch.ones(1000)}, is_zip=False, keep=0.7),
        "cut short",
    ),
    "empty": (raw(b""), "the file is empty"),
    "zeros": (raw(b"\0" * 4096), "neither a safetensors file nor one of torch"),
    "text": (raw(b"version https://git-lfs.github.com/spec/v1\noid sha256:12\n"), "neither"),
    "a web page": (
        raw(b"<!DOCTYPE html><html><title>Google Drive - Quota exceeded</title></html>"),
        "neither",
    ),
    "a zip of something": (zipped(zipfile.ZIP_STORED, b"hello", "readme.txt"), "not one of torch"),
    "a zip that grows": (zipped(zipfile.ZIP_DEFLATED, b"hello"), "larger than the file"),
    "a zip with a broken pickle": (
        zipped(zipfile.ZIP_STORED, b"hello"),
        "cut short or no file of torch",
    ),
    "an old file that declares too much": (patched_size, "cut short"),
    "a header longer than the file": (
        raw(struct.pack("<Q", 2**62) + b"{" + b"\0" * 50),
        "broken safetensors",
    ),
    "a header that is no JSON": (
        raw(struct.pack("<Q", 20) + b"{" + b"x" * 60),
        "broken safetensors",
    ),
    "a tensor beyond the file": (raw(lying_header([10**12], 4 * 10**12)), "broken safetensors"),
    "a tensor of another size": (raw(lying_header([3], 64)), "broken safetensors"),
    "a tensor too large to count": (raw(lying_header([2**40, 2**40], 64)), "broken safetensors"),
    "no tensors": (saved(lambda _marker: {"epoch": 3, "args": {"lr": 0.1}}), "holds no weights"),
    "a number": (saved(lambda _marker: 3), "holds no weights"),
    "nested too deep": (
        saved(lambda _marker: {"model": {"model": {"model": {"model": {"model": {}}}}}}),
        "holds no weights",
    ),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_files_are_refused_and_nothing_runs(
    kind: str, tmp_path: Path, capsys: Capture
) -> None:
    make, reason = HOSTILE[kind]
    path, marker = tmp_path / "hostile.pth", tmp_path / "marker"
    make(path, marker)
    with pytest.raises(UnreadableWeights, match=rf"(?s)hostile\.pth.*{reason}"):
        read_weights(path)
    for arguments in (["--as", CARD.name], []):
        assert whence("convert", path, *arguments, "--out", tmp_path / "out.safetensors") == 1
        message = capsys.readouterr().err
        assert "Traceback" not in message
        assert re.search(reason, message.replace("\n", " "))
    with pytest.raises(UnreadableWeights):
        load_model(CARD.name, options={"weights": str(path)})
    assert not marker.exists()
    assert not (tmp_path / "out.safetensors").exists()


def test_programs_of_torch_are_no_weights(tmp_path: Path) -> None:
    program = torch.export.export(torch.nn.Linear(2, 2), (torch.zeros(1, 2),))
    torch.export.save(program, tmp_path / "a.pt2")
    with pytest.raises(UnreadableWeights):
        read_weights(tmp_path / "a.pt2")
    torch.save(torch.nn.Linear(2, 2), tmp_path / "b.pth")
    with pytest.raises(
        UnreadableWeights, match=r"torch\.nn\.modules\.linear\.Linear, which is no part of weights"
    ):
        read_weights(tmp_path / "b.pth")


def test_cards_in_files_that_ask_for_what_is_not(tmp_path: Path) -> None:
    from whence.errors import WhenceError
    from whence.models.cards.text import CARD_FIELD, card_to_text

    for changes in (
        {"backbone": "resnet19conv4"},
        {"aggregator": "gum"},
        {"aggregator_options": {"p": "x"}},
        {"keys": "nothing"},
    ):
        metadata = {CARD_FIELD: card_to_text(replace(CARD, **changes))}
        safetensors_torch.save_file(
            {"backbone.conv1.weight": torch.zeros(1)}, tmp_path / "a.safetensors", metadata
        )
        with pytest.raises(WhenceError):
            load_model(str(tmp_path / "a.safetensors"))
    metadata = {CARD_FIELD: "{"}
    safetensors_torch.save_file({"a": torch.zeros(1)}, tmp_path / "a.safetensors", metadata)
    with pytest.raises(UnreadableWeights, match="no card"):
        load_model(str(tmp_path / "a.safetensors"))
