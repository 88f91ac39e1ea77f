"""A network from photos to answers: batches, mixed sizes, unreadable photos, databases that
remember how they were made."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import save_file

from conftest import write_photo
from network_samples import CARD, ENTRY, NAME, images, make_network, open_sample
from whence import cli, registry
from whence.cards import Entry, ModelCard, Preprocessing
from whence.errors import BadOption, CardMismatch, UnreadableImage
from whence.localize.build import build_database, stored_options
from whence.localize.localizer import RETRIEVE_ONLY, Localizer
from whence.models.asking import QueryViews
from whence.models.cards.text import CARD_FIELD, card_to_text
from whence.models.descriptor import Described, DescriptorModel, load_model
from whence.models.engines.torch import has_bf16
from whence.models.network_descriptor import NetworkDescriptor
from whence.models.preprocessing import resize_image
from whence.models.zoo import network_for
from whence.parts import Descriptor
from whence.runtime import num_cores
from whence.settings import BuildOptions

Capture = pytest.CaptureFixture[str]
FREE = "gem-resnet18conv4-256-free"
"""The same network for images of any size."""


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    free = ModelCard(FREE, "random weights", 256, Preprocessing(interpolation="bilinear"), "MIT")
    monkeypatch.setitem(registry.MODELS, NAME, ENTRY)
    monkeypatch.setitem(registry.MODELS, FREE, Entry(ENTRY.factory, free))


def test_photos_of_mixed_sizes_keep_their_order(tmp_path: Path) -> None:
    sizes = [(96, 128), (64, 96), (96, 128), (48, 48), (64, 96), *[(96, 128)] * 9]
    pixels = [images(1, size=size, seed=seed)[0] for seed, size in enumerate(sizes)]
    sources = [
        pixel
        if seed % 3 == 2
        else write_photo(tmp_path / f"{seed}.png", pixel).read_bytes()
        if seed % 3
        else tmp_path / f"{seed}.png"
        for seed, pixel in enumerate(pixels)
    ]
    for seed, pixel in enumerate(pixels):
        write_photo(tmp_path / f"{seed}.png", pixel)
    for name in (NAME, FREE):
        model = load_model(name, options={"engine": "eager"})
        together = model.describe(sources)
        steps = registry.get_card(name).preprocessing
        alone = np.concatenate(
            [open_sample().describe([resize_image(pixel, steps)]) for pixel in pixels]
        )
        assert np.allclose(together, alone, atol=1e-5)
        assert np.array_equal(together, model.describe(sources))


def test_an_unreadable_photo_costs_only_itself(tmp_path: Path) -> None:
    pixels = images(10)
    files = [write_photo(tmp_path / f"{i}.png", pixel) for i, pixel in enumerate(pixels)]
    files[3].write_text("no picture")
    files[7].unlink()
    model = load_model(NAME)
    for views in (None, QueryViews("five_crops"), QueryViews("nearest_crop")):
        results = list(model.describe_each(files, views=views))
        assert [isinstance(result, UnreadableImage) for result in results] == [
            i in (3, 7) for i in range(10)
        ]
    with pytest.raises(UnreadableImage, match=r"3\.png"):
        model.describe(files)


def test_a_photo_too_small_for_the_network_costs_only_itself(tmp_path: Path) -> None:
    card = ModelCard(
        "gem-alexnet-256", "random weights", 256, Preprocessing(interpolation="bilinear"), "MIT"
    )
    model = DescriptorModel(card, NetworkDescriptor(make_network("alexnet")))
    sizes = [(64, 96), (20, 300), (64, 96)]
    files = [
        write_photo(tmp_path / f"{i}.png", images(1, size=size)[0]) for i, size in enumerate(sizes)
    ]
    found = list(model.describe_each(files))
    assert [isinstance(one, UnreadableImage) for one in found] == [False, True, False]
    assert "300 x 20 pixels are too few for gem-alexnet-256, which needs 32 on each side" in str(
        found[1]
    )


def test_few_photos_are_held_at_a_time() -> None:
    held, most = 0, 0
    pixels = images(1)[0]

    def sources() -> object:
        nonlocal held, most
        for _ in range(200):
            held += 1
            most = max(most, held)
            yield pixels

    for _ in load_model(NAME).describe_each(sources()):
        held -= 1
    assert held == 0
    assert most <= Descriptor.batch_size + 3 * num_cores()


def test_five_crops_are_the_mean_of_their_descriptors() -> None:
    image = images(1, size=(150, 200))[0]
    model = load_model(NAME, options={"engine": "eager"})
    whole = resize_image(image, Preprocessing(size_px=(96, 128), interpolation="bilinear"))
    crops = [whole[:96, :96], whole[:96, 32:], whole[:96, :96], whole[:96, 32:], whole[:, 16:112]]
    expected = open_sample().describe(crops)
    (found,) = model.describe_each([image], views=QueryViews("five_crops"))
    assert isinstance(found, Described)
    assert np.allclose(found.descriptor, expected.mean(axis=0), atol=1e-4)
    assert len(found.question.rows) == 1
    assert np.linalg.norm(found.descriptor) < 1
    (found,) = model.describe_each([image], views=QueryViews("nearest_crop"))
    assert np.allclose(found.question.rows, expected, atol=1e-3)
    (found,) = model.describe_each([image], views=QueryViews("single_query", (75, 75)))
    assert np.allclose(
        found.descriptor,
        open_sample().describe(
            [resize_image(image, Preprocessing(size_px=(75, 100), interpolation="bilinear"))]
        )[0],
        atol=1e-4,
    )
    with pytest.raises(BadOption, match="upstream_order"):
        list(
            load_model(NAME, options={"upstream_order": True}).describe_each(
                [image], views=QueryViews("five_crops")
            )
        )


def test_index_locate_and_evaluate_by_name(street: Path, tmp_path: Path, capsys: Capture) -> None:
    database = str(tmp_path / "c.whence")
    assert (
        cli.run(["index", str(street / "database"), "--model", NAME, "--db", database, "--json"])
        == 0
    )
    assert json.loads(capsys.readouterr().out)["num_descriptors"] == 24
    query = str(sorted((street / "queries").iterdir())[4])
    assert cli.run(["locate", query, "--db", database, "--no-verify", "--json"]) == 0
    assert "0004r0" in json.loads(capsys.readouterr().out)["candidates"][0]["photo"]
    for extra in ([], ["--work", str(tmp_path / "work")], ["--set", "query_mode=maj_voting"]):
        assert cli.run(["evaluate", str(street), "--model", NAME, "--json", *extra]) == 0
        record = json.loads(capsys.readouterr().out)
        at_25 = next(one for one in record["recalls"] if one["threshold_m"] == 25 and one["n"] == 1)
        # Random weights, pictures that differ in colour: far from chance, one of 24.
        assert at_25["num_right"] >= 12, (extra, at_25)


def test_a_database_remembers_the_engine(street: Path, tmp_path: Path) -> None:
    folder = tmp_path / "c.whence"
    photos = tmp_path / "photos"
    photos.mkdir()
    files = sorted((street / "database").iterdir())
    for file in files[:3]:
        shutil.copy(file, photos)
    build_database([photos], path=folder, options=BuildOptions(model=NAME))
    expected = "cuda" if torch.cuda.is_available() else "bf16" if has_bf16() else "folded"
    assert stored_options(folder).model_options == {"engine": expected}
    shutil.copy(files[3], photos)
    assert build_database([photos], path=folder).num_added == 1
    with pytest.raises(CardMismatch, match="engine"):
        build_database(
            [photos],
            path=folder,
            options=BuildOptions(model=NAME, model_options={"engine": "eager"}),
        )
    with Localizer.open(folder) as localizer:
        assert localizer.model.options == {"engine": expected}
        found = localizer.locate(files[3], options=RETRIEVE_ONLY)
        assert found.candidates[0].similarity == pytest.approx(1, abs=1e-3)


def test_a_converted_file_is_a_model(street: Path, tmp_path: Path, capsys: Capture) -> None:
    torch.manual_seed(0)
    card = registry.get_card("gem-resnet18conv4-256-pitts30k")
    file = tmp_path / "converted.safetensors"
    save_file(network_for(card).state_dict(), file, {CARD_FIELD: card_to_text(card)})
    database = tmp_path / "c.whence"
    few = tmp_path / "photos"
    few.mkdir()
    for photo in sorted((street / "database").iterdir())[:4]:
        shutil.copy(photo, few)
    assert cli.run(["index", str(few), "--model", str(file), "--db", str(database), "-q"]) == 0
    query = str(sorted((street / "queries").iterdir())[1])
    capsys.readouterr()
    assert cli.run(["locate", query, "--db", str(database), "--no-verify", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["candidates"]) == 4
    assert cli.run(["models", str(file), "--cost", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["map_size"] == [256, 30, 40]


def test_the_sample_network_is_the_card() -> None:
    assert make_network().dim == CARD.dim == load_model(NAME).dim
