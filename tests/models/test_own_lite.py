"""The project's own network without torch, and the vector that joins it with words."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from conftest import draw_place, view_of
from lite_samples import random_arrays
from whence import cli
from whence.errors import NotFitted, UnreadableWeights
from whence.models import joined, lite
from whence.models.descriptor import load_model
from whence.models.engines.lite_graph import OWN_OUTPUTS, own_graph
from whence.models.engines.onnx_graph import open_graph
from whence.models.local.sift import RootSift

NAMES = ("whence-lite0-448", "whence-lite0-words-960")


def photos(count: int, *, seed: int = 0, side: int = 320) -> list[np.ndarray]:
    made = [view_of(draw_place(place), shift=10, seed=seed) for place in range(count)]
    return [cv2.resize(image, (side, side * image.shape[0] // image.shape[1])) for image in made]


def random_head(*, seed: int = 5) -> dict[str, np.ndarray]:
    """Arrays of a head as training leaves them, of random numbers."""
    random = np.random.default_rng(seed)
    shapes = {
        "norm.running_mean": (304,),
        "mix.weight": (256, 304, 1, 1),
        "mix.bias": (256,),
        "fc.weight": (256, 256),
        "fc.bias": (256,),
    }
    head = {name: random.normal(0, 0.2, shape).astype(np.float32) for name, shape in shapes.items()}
    return {**head, "norm.running_var": random.uniform(0.5, 2, 304).astype(np.float32)}


@pytest.mark.parametrize("runner", ["onnxruntime", "opencv"])
def test_the_graph_computes_the_head(runner: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    from whence.models.aggregators import make_aggregator
    from whence.models.backbones.base import Features

    if runner == "onnxruntime":
        pytest.importorskip("onnxruntime")
    else:
        monkeypatch.setitem(sys.modules, "onnxruntime", None)
    head = random_head()
    images = np.random.default_rng(1).uniform(-1, 1, (2, 3, 64, 96)).astype(np.float32)
    finer, coarser, found = open_graph(own_graph(random_arrays(), head), OWN_OUTPUTS)(images)
    network = make_aggregator("gem-mixed", 304).eval()
    network.load_state_dict(
        {name: torch.from_numpy(array) for name, array in head.items()}, strict=False
    )
    halved = torch.nn.functional.avg_pool2d(torch.from_numpy(finer), 2)
    with torch.inference_mode():
        expected = network(Features(torch.cat([halved, torch.from_numpy(coarser)], dim=1))).numpy()
    unit = found[:, :, 0, 0] / np.linalg.norm(found[:, :, 0, 0], axis=1, keepdims=True)
    assert (unit * expected).sum(axis=1).min() > 0.9999


def test_half_of_the_bytes_and_valid_onnx() -> None:
    onnx = pytest.importorskip("onnx")
    written = own_graph(random_arrays(), random_head())
    model = onnx.load_from_string(written)
    onnx.checker.check_model(model, full_check=True)
    assert [output.name for output in model.graph.output] == list(OWN_OUTPUTS)
    assert len(written) < 8_000_000


def test_a_backbone_that_never_learns() -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("timm")
    from whence.models.backbones import make_backbone

    backbone = make_backbone("efficientnet_lite0_blocks10_12")
    images = torch.rand(2, 3, 64, 96)
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    with torch.no_grad():
        expected = backbone(images).map
    assert expected.shape == (2, 304, 2, 3)
    backbone.train()
    found = backbone(images.requires_grad_()).map
    assert torch.equal(found, expected)
    assert not found.requires_grad
    assert not any(parameter.requires_grad for parameter in backbone.parameters())
    assert all(torch.equal(value, before[name]) for name, value in backbone.state_dict().items())


@pytest.mark.parametrize("name", NAMES)
def test_by_name_it_is_fitted_kept_and_taken_over(name: str) -> None:
    model = load_model(name)
    assert (model.dim, model.card.dim) == (int(name.rpartition("-")[2]),) * 2
    with pytest.raises(NotFitted):
        model.describe(photos(1))
    model.fit(photos(12))
    found = model.describe(photos(6))
    assert found.shape == (6, model.dim)
    assert np.allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    other = load_model(name)
    other.descriptor.load_state(model.descriptor.state())
    assert np.array_equal(other.describe(photos(6)), found)
    asked = model.describe(photos(12, seed=4))
    assert ((asked @ model.describe(photos(12)).T).argmax(axis=1) == np.arange(12)).mean() > 0.8


@pytest.mark.parametrize("name", NAMES)
def test_the_packaged_state_does_without_photos(name: str) -> None:
    model = load_model(name)
    model.load_packaged()
    found = model.describe([*photos(2), np.full((60, 80, 3), 127, np.uint8)])
    assert np.isfinite(found).all()
    assert np.allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("name", [*NAMES, "lite0-both-448"])
def test_what_is_not_fitted_says_so_before_it_asks_for_weights(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WHENCE_CACHE", str(tmp_path))
    monkeypatch.setenv("WHENCE_OFFLINE", "1")
    monkeypatch.setattr(
        RootSift, "extract", lambda self, image: pytest.fail("a photo was looked at")
    )
    with pytest.raises(NotFitted):
        load_model(name).describe(photos(1))


def test_joined_similarities_are_the_sum_of_both() -> None:
    model = load_model("whence-lite0-words-960")
    model.fit(photos(12))
    descriptor = model.descriptor
    assert isinstance(descriptor, joined.Joined)
    images = photos(5, seed=2)
    sight, words = descriptor.sight.describe(images), descriptor.words.describe(images)
    found = model.describe(images)
    whole = descriptor.sight.length**2 + joined.WORDS_WEIGHT**2
    expected = (
        descriptor.sight.length**2 * sight @ sight.T + joined.WORDS_WEIGHT**2 * words @ words.T
    ) / whole
    assert np.allclose(found @ found.T, expected, atol=1e-5)
    for kept, plain in zip(model.describe_each(images, keep_local=True), found, strict=True):
        assert np.allclose(kept.descriptor, plain, atol=1e-6)
        assert len(kept.local["keypoints"])


def test_the_network_alone_looks_at_them_once_too(monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_model("whence-lite0-448")
    images = [*photos(9), photos(1)[0]]
    model.fit(images)
    again = load_model("whence-lite0-448")
    again.descriptor.load_state(model.descriptor.state())
    expected = again.describe([*photos(2, seed=8), *images])
    looked = []
    raw = lite.LiteDescriptor.raw
    monkeypatch.setattr(
        lite.LiteDescriptor,
        "raw",
        lambda self, images: looked.append(len(images)) or raw(self, images),
    )
    assert np.array_equal(model.describe([*photos(2, seed=8), *images]), expected)
    # Two are new, one is there twice, and what is remembered serves once.
    assert sum(looked) == 3


def test_photos_it_was_fitted_on_are_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_model("whence-lite0-words-960")
    images = [*photos(9), photos(1)[0]]
    model.fit(images)
    again = load_model("whence-lite0-words-960")
    again.descriptor.load_state(model.descriptor.state())
    expected = again.descriptor.describe_with_local(images)
    looked = []
    extract = RootSift.extract
    monkeypatch.setattr(
        RootSift, "extract", lambda self, image: looked.append(1) or extract(self, image)
    )
    found = model.descriptor.describe_with_local([*images, *photos(2, seed=8)])
    # One image is there twice, and what is remembered serves once.
    assert len(looked) == 3
    for (row, local), (other, plain) in zip(found, expected, strict=False):
        assert np.array_equal(row, other)
        assert all(
            np.array_equal(a, b)
            for a, b in zip(local.to_arrays().values(), plain.to_arrays().values(), strict=True)
        )


def test_a_photo_without_keypoints_is_known_by_the_network_alone() -> None:
    model = load_model("whence-lite0-words-960")
    model.fit(photos(12))
    ramp = np.repeat(np.linspace(0, 255, 320).astype(np.uint8)[None, :, None], 240, axis=0).repeat(
        3, axis=2
    )
    found = model.describe([ramp])
    assert not found[0, 448:].any()
    assert np.isclose(np.linalg.norm(found[0, :448]), 1, atol=1e-5)


def test_a_file_that_is_no_network(tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(b"nothing of the kind")
    with pytest.raises(UnreadableWeights, match=r"x\.onnx"):
        lite.open_own(tmp_path / "x.onnx")
    model = lite.LiteDescriptor("whence", weights=str(tmp_path / "x.onnx"))
    model.load_packaged()
    with pytest.raises(UnreadableWeights, match=r"x\.onnx"):
        model.describe(photos(1))


CORE = """
import sys
for name in ("torch", "torchvision", "timm", "onnxruntime", "onnx"):
    sys.modules[name] = None
from whence.cli import run
street, database = sys.argv[1:]
assert run(["index", street + "/database", "--db", database, "-q"]) == 0
assert run(["locate", street + "/queries", "--db", database, "--json"]) == 0
"""


def test_the_default_answers_in_a_core_install_offline(
    street: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WHENCE_OFFLINE", "1")
    monkeypatch.setenv("WHENCE_CACHE", str(tmp_path / "empty"))
    command = [sys.executable, "-c", CORE, str(street), str(tmp_path / "c.whence")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count('"query"') >= 1


def test_the_old_default_stays_by_name(street: Path, tmp_path: Path) -> None:
    arguments = [
        "index",
        str(street / "database"),
        "--db",
        str(tmp_path / "a.whence"),
        "--model",
        "rootsift-vlad",
        "-q",
    ]
    assert cli.run(arguments) == 0
