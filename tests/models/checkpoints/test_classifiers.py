"""Divide&Classify's file of weights: its network by name, its classifiers, and the cells that their
rows stand for."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from fills import squares
from published_keys import affine, efficientnet_b0
from whence import cli
from whence.data.names import format_name
from whence.data.placed_files import read_placed_files
from whence.errors import InputError, UnreadableWeights
from whence.index.cells.classifier import read_cells
from whence.index.cells.published import import_published
from whence.localize.localizer import Localizer
from whence.models.checkpoints.classifiers import read_classifiers
from whence.models.checkpoints.files import read_weights
from whence.models.checkpoints.networks import propose_cards
from whence.models.zoo import CARDS
from whence.types import PlanePoint

NAME = "divide-and-classify-efficientnet_b0-1280"
DIM = 1280
pytestmark = pytest.mark.usefixtures("cache")


def names_of(num: int = 900) -> list[str]:
    """Names of training photos in a few cells, some of them with too few photos, sorted as the
    authors read them."""
    random = np.random.default_rng(0)
    east, north = 545_000 + 90 * random.random(num) ** 2, 4_178_000 + 70 * random.random(num)
    places = [
        PlanePoint(round(float(e), 2), round(float(n), 2), "10S")
        for e, n in zip(east, north, strict=True)
    ]
    return sorted(format_name(plane=place, pano_id=f"{i:05d}") for i, place in enumerate(places))


def slow_classes(names: list[str]) -> list[list[tuple[int, int]]]:
    """As the note on the authors' file says it: photo by photo, a set for each group, listed."""
    cells = [
        (int(float(name.split("@")[1]) // 20 * 20), int(float(name.split("@")[2]) // 20 * 20))
        for name in names
    ]
    counts = Counter(cells)
    groups: dict[tuple[int, int], set[tuple[int, int]]] = {}
    for cell in cells:
        if counts[cell] >= 10:
            groups.setdefault((cell[0] % 40 // 20, cell[1] % 40 // 20), set()).add(cell)
    return [list(group) for group in groups.values()]


@pytest.fixture(scope="module")
def listing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("training") / "database_images_paths.txt"
    path.write_text("\n".join(names_of()), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint as training leaves it: a network, classifiers, and options beside them."""
    table = {**efficientnet_b0("backbone."), **affine("classifier.0", DIM, DIM)}
    network = {}
    for number, (name, shape) in enumerate(table.items()):
        values = squares(shape, number, scale=0.05 if len(shape) > 1 else 0.02)
        is_one = name.endswith("running_var") or (len(shape) == 1 and name.endswith("weight"))
        network[f"module.{name}"] = (
            torch.tensor(0) if name.endswith("tracked") else values + float(is_one)
        )
    groups = [
        {"weight": squares((len(group), DIM), number)}
        for number, group in enumerate(slow_classes(names_of()))
    ]
    path = tmp_path_factory.mktemp("weights") / "best_model.pth"
    saved = {
        "model_state_dict": network,
        "classifiers_state_dict": groups,
        "args": argparse.Namespace(M=20),
        "epoch_num": 3,
    }
    torch.save(saved, path)
    return path


def test_by_command_from_the_file_to_a_place(
    weights: Path, listing: Path, street: Path, tmp_path: Path, capsys
) -> None:
    """Converted with the list of the training's photos, given to a database, asked; the keys tell
    the model."""
    few = [CARDS[name] for name in (NAME, "cosplace-resnet18-512", "eigenplaces-vgg16-512")]
    assert [card.name for card in propose_cards(read_weights(weights), few)] == [NAME]
    out = tmp_path / "sf.safetensors"
    assert (
        cli.run(
            [
                "convert",
                str(weights),
                "--as",
                NAME,
                "--out",
                str(out),
                "--cells-of",
                str(listing),
                "--json",
            ]
        )
        == 0
    )
    told = json.loads(capsys.readouterr().out)
    assert (told["model"], told["cells"]) == (NAME, str(tmp_path / "sf.cells.npz"))
    cells = read_cells(told["cells"])
    classes = [corner for group in slow_classes(names_of()) for corner in group]
    assert told["num_cells"] == len(cells) == len(classes) > 8
    assert cells.corners_m.tolist() == [list(map(float, corner)) for corner in classes]
    assert (cells.model, cells.zone, cells.cell_m) == ("sf.safetensors", "10S", 20.0)
    assert cells.groups is not None
    for number, group in enumerate(read_classifiers(weights)):
        assert np.array_equal(cells.prototypes[cells.groups == number], group.weight)
    assert cli.run(["index", "--cells", told["cells"], "--db", str(tmp_path / "sf.whence")]) == 0
    query = str(sorted((street / "queries").iterdir())[0])
    with Localizer.open(tmp_path / "sf.whence") as localizer:
        assert localizer.cells is not None
        (found,) = localizer.cells.locate([query], k=5)
        descriptor = localizer.model.describe([query])
    best = int((cells.prototypes @ descriptor[0]).argmax())
    assert found.candidates[0].photo == cells.names(np.array([best]))[0]
    assert found.status == "located"
    steps = localizer.model.preprocessing
    assert (steps.short_side_px, steps.enlarge, steps.size_px) == (256, True, None)


def test_lists_that_are_not_those_of_the_training_are_refused(
    weights: Path, listing: Path, tmp_path: Path
) -> None:
    names = listing.read_text(encoding="utf-8").splitlines()
    wrong = {
        "LC_ALL=C sort": names[::-1],
        "exactly the photos": names[: len(names) // 2],
        "10 photos": names[:5],
    }
    for words, lines in wrong.items():
        (tmp_path / "list.txt").write_text("\n".join(lines), encoding="utf-8")
        with pytest.raises(InputError, match=words):
            import_published(
                weights, read_placed_files(tmp_path, listing=tmp_path / "list.txt"), model=NAME
            )


def test_a_linear_layer_has_a_bias(tmp_path: Path, listing: Path) -> None:
    sizes = [len(group) for group in slow_classes(names_of())]
    groups = [
        {"linear.weight": squares((size, 4), n), "linear.bias": squares((size,), n)}
        for n, size in enumerate(sizes)
    ]
    torch.save({"classifiers_state_dict": groups}, tmp_path / "ce.pth")
    cells = import_published(
        tmp_path / "ce.pth", read_placed_files(listing.parent / "database"), model=""
    )
    assert cells.bias is not None
    assert np.array_equal(cells.bias, torch.cat([group["linear.bias"] for group in groups]).numpy())


@pytest.mark.parametrize(
    "content",
    [
        {"model_state_dict": {"a": torch.zeros(2)}},
        {"classifiers_state_dict": []},
        {"classifiers_state_dict": {"weight": torch.zeros(2, 3)}},
        {"classifiers_state_dict": [{"weight": torch.zeros(2)}]},
        {"classifiers_state_dict": [{"weight": torch.zeros(2, 3), "scale": torch.zeros(1)}]},
        {"classifiers_state_dict": [{"weight": torch.zeros(2, 3), "bias": torch.zeros(3)}]},
        {"classifiers_state_dict": [{"weight": torch.zeros(2, 3)}, {"weight": torch.zeros(2, 4)}]},
        {"classifiers_state_dict": [3]},
        torch.zeros(3),
    ],
    ids=str,
)
def test_files_without_classifiers_say_so(content: Any, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "some.pth")
    with pytest.raises(UnreadableWeights, match=r"some\.pth"):
        read_classifiers(tmp_path / "some.pth")
