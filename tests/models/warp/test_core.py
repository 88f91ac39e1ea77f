"""GeoWarp without torch: the published golden numbers through arrays and ONNX, the same order as
torch's, and no torch loaded."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
timm = pytest.importorskip("timm")

from safetensors.torch import save_file

from conftest import draw_place, view_of
from fills import fill_by_place, fill_regressor, hashed, misfits
from lite_samples import random_arrays
from whence.errors import UnreadableWeights, WeightsMismatch
from whence.models.backbones import make_backbone
from whence.models.backbones.lite import LiteBlocks
from whence.models.checkpoints.keys import lite_name
from whence.models.checkpoints.plain import read_plain_weights
from whence.models.engines.lite_graph import lite0_graph, open_maps
from whence.models.warp.cells import match_both_orders, pool_cells, rows_of
from whence.models.warp.engines import (
    LITE_BACKBONE,
    LITE_BLOCK,
    CoreEngine,
    MapSource,
    mean_of_orders,
    open_lite_maps,
)
from whence.models.warp.geometry import warp
from whence.models.warp.model import GeoWarp, Regressor
from whence.models.warp.quads import FRAME, Quads, cut, grid_points, on_sides
from whence.models.warp.regressor import (
    open_regressor,
    read_regressor,
    regressor_graph,
    whole_regressor,
)
from whence.models.warp.scorer import GeoWarpScorer, WarpOptions
from whence.models.warp.torch_engine import TorchEngine

READOUTS = ("exact", "half", "features", "hybrid")
RUNNERS = ("onnxruntime", "opencv")


@pytest.fixture(params=RUNNERS)
def runner(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """What runs graphs: onnxruntime, or OpenCV where that is not there."""
    if request.param == "onnxruntime":
        pytest.importorskip("onnxruntime")
    else:
        monkeypatch.setitem(sys.modules, "onnxruntime", None)
    return str(request.param)


def arrays_of(regressor: Regressor) -> dict[str, np.ndarray]:
    return {name: value.numpy() for name, value in regressor.state_dict().items()}


def moved_regressor() -> Regressor:
    torch.manual_seed(0)
    regressor = Regressor().eval()
    torch.nn.init.normal_(regressor.linear.weight, std=0.05)
    return regressor


def lite_of(arrays: dict[str, np.ndarray]) -> LiteBlocks:
    """The torch backbone with the same numbers."""
    backbone = LiteBlocks(LITE_BACKBONE).eval()
    named = {lite_name(name): torch.from_numpy(array) for name, array in arrays.items()}
    missing, unknown = backbone.load_state_dict(
        {name: one for name, one in named.items() if name in backbone.state_dict()}, False
    )
    assert all(name.endswith("num_batches_tracked") for name in missing)
    assert not unknown
    return backbone


def source_of(arrays: dict[str, np.ndarray]) -> MapSource:
    run = open_maps(lite0_graph(arrays, (LITE_BLOCK,)), (LITE_BLOCK,))
    return MapSource(run, (127 / 255,) * 3, (128 / 255,) * 3, 32, "random")


def photos() -> list[np.ndarray]:
    """Views of places, of three sizes; the last two show the place of the first."""
    seen = [view_of(draw_place(place), shift=0, seed=place, size=(160, 128)) for place in range(5)]
    return [
        *seen,
        *(
            view_of(draw_place(0), shift=12, seed=20 + i, size=size)
            for i, size in enumerate([(128, 160), (200, 96)])
        ),
    ]


def test_the_regressor_gives_the_published_numbers(runner: str) -> None:
    regressor = Regressor().eval()
    fill_regressor(regressor)
    similar = hashed((1, 225, 15, 15), seed=3).relu()
    similar = similar * torch.rsqrt(similar.square().sum(dim=1, keepdim=True) + 1e-6)
    found = open_regressor(arrays_of(regressor))(similar.numpy())[0]
    first = [-1.043821, -0.996439, 0.998670, -0.987771, 1.071955, 1.067237, -1.019673, 1.010517]
    second = [-1.017192, -1.036751, 0.968984, -1.050312, 1.046032, 1.024711, -0.942294, 1.015978]
    assert found.ravel() == pytest.approx([*first, *second], abs=1e-4)


def test_matching_is_the_published_layout() -> None:
    first, second = (hashed((1, 4, 2, 3), seed=seed).numpy()[0] for seed in (1, 2))
    found = match_both_orders(rows_of(first), rows_of(second)[None], grid=(2, 3))
    assert found.shape == (2, 6, 2, 3)
    assert found[0, :, 0, 0] == pytest.approx(
        [0.176599, 0.533105, 0.774249, 0.205280, 0, 0.207388], abs=1e-5
    )
    assert found[0, :, 0, 2] == pytest.approx(
        [0, 0.261359, 0, 0.660529, 0.597574, 0.371884], abs=1e-5
    )
    assert found[0, :, 1, 1] == pytest.approx(
        [0.511881, 0.382926, 0, 0, 0.732946, 0.232672], abs=1e-5
    )
    back = match_both_orders(rows_of(second), rows_of(first)[None], grid=(2, 3))
    assert np.allclose(found[1], back[0], atol=1e-6)


def test_legacy_warps_are_the_published_ones() -> None:
    numbers = np.arange(24, dtype=np.float32).reshape(4, 6, 1)
    quad = np.float32([(-0.8, -0.6), (0.9, -0.7), (0.7, 0.5), (-0.5, 0.8)])
    found = cut(numbers, quad, sampling="legacy").reshape(4, 6)
    assert found[0] == pytest.approx([1.9, 2.8469, 3.6977, 4.4662, 5.1638, 4.48], abs=1e-3)
    assert found[3] == pytest.approx([17.1, *[19.6] * 5], abs=1e-3)
    whole = cut(numbers, np.float32(FRAME), sampling="legacy").reshape(4, 6)
    assert whole[0] == pytest.approx([0, 0.35, 0.95, 1.55, 2.15, 1.25], abs=1e-3)
    assert np.allclose(cut(numbers, np.float32(FRAME)), numbers, atol=1e-4)


def test_end_to_end_the_published_numbers(runner: str) -> None:
    """Golden item 8: the backbone by torch, everything after its maps by arrays and ONNX."""
    backbone = make_backbone("alexnet").eval()
    fill_by_place(backbone)
    regressor = Regressor().eval()
    fill_regressor(regressor)

    def maps(images: np.ndarray) -> list[np.ndarray]:
        with torch.inference_mode():
            return [backbone(torch.from_numpy(images)).map.numpy()]

    image = (
        hashed((1, 3, 15, 20), scale=1.5, seed=7)
        .repeat_interleave(16, dim=2)
        .repeat_interleave(16, dim=3)
    )
    other = image.roll(32, dims=3) + 0.2 * hashed((1, 3, 240, 320), seed=8)
    images = [one[0].permute(1, 2, 0).numpy() for one in (image, other)]
    source = MapSource(maps, (0.0,) * 3, (1 / 255,) * 3, 1, "alexnet")
    cells = [
        pool_cells(rows_of(one := maps(pixels.numpy())[0][0]), one.shape[1:])
        for pixels in (image, other)
    ]
    t1 = [-1.03525, -1.01471, 0.98912, -1.00984, 1.05508, 1.04214, -0.98939, 1.01678]
    t2 = [-1.03525, -1.01461, 0.98905, -1.00981, 1.05493, 1.04193, -0.98935, 1.01690]
    assert (cells[0] * cells[1]).sum() == pytest.approx(216.5030, abs=2e-3)
    for sampling, expected in (("legacy", 216.7138), ("exact", 216.6382)):
        engine = CoreEngine(source, arrays_of(regressor), sampling)  # type: ignore[arg-type]
        quads = engine.quads(cells[0], cells[1][None])
        assert quads.first.ravel() == pytest.approx(t1, abs=1e-4)
        assert quads.second.ravel() == pytest.approx(t2, abs=1e-4)
        warped = engine.maps_of_quads(np.stack(images), np.concatenate(quads))
        found = [pool_cells(rows_of(one), one.shape[1:]) for one in warped]
        assert (found[0] * found[1]).sum() == pytest.approx(expected, abs=2e-2)


@pytest.mark.parametrize("readout", READOUTS)
@pytest.mark.parametrize("sampling", ["exact", "legacy"])
def test_the_same_order_as_torchs(runner: str, readout: str, sampling: str) -> None:
    arrays, regressor = random_arrays(), moved_regressor()
    model = GeoWarp(lite_of(arrays), sampling=sampling).eval()  # type: ignore[arg-type]
    model.regressor.load_state_dict(regressor.state_dict())
    options = WarpOptions(readout, 160, num_exact=3)  # type: ignore[arg-type]
    query, values = view_of(draw_place(0), shift=10, seed=9, size=(160, 128)), []
    for engine in (
        CoreEngine(source_of(arrays), arrays_of(regressor), sampling),
        TorchEngine(model),
    ):  # type: ignore[arg-type]
        scorer = GeoWarpScorer(engine, options=options)
        found = scorer.score(scorer.prepare(query), [scorer.prepare(photo) for photo in photos()])
        values.append([one.similarity for one in found if one is not None])
    ours, theirs = np.array(values)
    assert np.ptp(theirs) > 1
    assert np.abs(ours - theirs).max() < 0.05
    assert np.array_equal(np.argsort(-ours), np.argsort(-theirs))


def test_maps_are_torchs(runner: str) -> None:
    arrays = random_arrays()
    ours, theirs = (
        CoreEngine(source_of(arrays), whole_regressor()),
        TorchEngine(GeoWarp(lite_of(arrays))),
    )
    images = np.random.default_rng(0).integers(0, 256, (2, 96, 64, 3), dtype=np.uint8)
    expected = theirs.maps(images)
    assert expected.shape == (2, 112, 6, 4)
    assert np.abs(ours.maps(images) - expected).max() < 1e-3 * np.abs(expected).max()
    for size in ((1, 1), (48, 80), (33, 47), (240, 320), (5, 900)):
        assert ours.nearest(*size) == theirs.nearest(*size)


@pytest.mark.parametrize("sampling", ["exact", "legacy"])
def test_quadrilaterals_are_cut_as_torch_does(sampling: str) -> None:
    image = np.random.default_rng(1).normal(size=(48, 64, 3)).astype(np.float32)
    quad = np.float32([(-0.7, -0.5), (1.2, -0.9), (0.8, 0.9), (-1.3, 0.6)])
    expected = warp(
        torch.from_numpy(image).permute(2, 0, 1)[None],
        torch.from_numpy(quad)[None],
        sampling=sampling,
    )  # type: ignore[arg-type]
    found = cut(image, quad, sampling=sampling)  # type: ignore[arg-type]
    # OpenCV before 5 rounds positions to a 32nd of a pixel.
    assert np.abs(found - expected[0].permute(1, 2, 0).numpy()).mean() < 0.02


def test_one_side_is_warped_onto_the_other() -> None:
    """The corners of the second photo on the first: in the first's quadrilateral as the second's
    frame lies around its own."""
    first, second = (
        np.float32([[(-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5)]]),
        np.float32([FRAME]),
    )
    moved = on_sides(Quads(first, second), "query")
    assert np.allclose(moved.first, first)
    assert np.allclose(moved.second, second)
    moved = on_sides(Quads(second, first), "query")
    assert np.allclose(moved.first, 2 * second, atol=1e-6)
    flat = on_sides(Quads(second, first * 0), "query")
    assert np.isnan(flat.first).all()
    assert np.array_equal(on_sides(Quads(first, first), "none").first, second)


def test_both_orders_are_averaged() -> None:
    found = np.random.default_rng(0).normal(size=(6, 16))
    quads = mean_of_orders(found)
    assert np.allclose(
        quads.first[1], (found[1, :8].reshape(4, 2) + found[4, 8:].reshape(4, 2)) / 2
    )
    assert np.allclose(
        quads.second[2], (found[2, 8:].reshape(4, 2) + found[5, :8].reshape(4, 2)) / 2
    )


def test_the_graph_is_valid_onnx() -> None:
    onnx = pytest.importorskip("onnx")
    onnx.checker.check_model(
        onnx.load_from_string(regressor_graph(whole_regressor())), full_check=True
    )


@pytest.mark.parametrize("grid", [(7, 7), (12, 16)])
def test_other_grids(runner: str, grid: tuple[int, int]) -> None:
    torch.manual_seed(1)
    regressor = Regressor(grid).eval()
    torch.nn.init.normal_(regressor.linear.weight, std=0.05)
    similar = torch.rand(3, grid[0] * grid[1], *grid)
    with torch.inference_mode():
        expected = regressor(similar).flatten(1).numpy()
    found = open_regressor(arrays_of(regressor), grid=grid)(similar.numpy())[0].reshape(3, 16)
    assert np.allclose(found, expected, atol=1e-4)


def test_another_file_of_maps(tmp_path: Path, runner: str) -> None:
    arrays, file = random_arrays(), tmp_path / "other.onnx"
    file.write_bytes(lite0_graph(arrays, (LITE_BLOCK,)))
    images = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3), dtype=np.uint8)
    found, own = (
        CoreEngine(open_lite_maps(weights), whole_regressor()) for weights in (file, None)
    )
    assert np.array_equal(
        found.maps(images), CoreEngine(source_of(arrays), whole_regressor()).maps(images)
    )
    assert own.maps(images).shape == (1, 112, 4, 4)
    assert own.backbone_key != found.backbone_key
    file.write_bytes(b"nothing")
    with pytest.raises(UnreadableWeights, match=r"other\.onnx"):
        open_lite_maps(file)


def test_points_of_grids_are_read_only() -> None:
    with pytest.raises(ValueError, match="read-only"):
        grid_points((3, 4))[0] = 0


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    state = moved_regressor().state_dict()
    whole = tmp_path / "whole.safetensors"
    save_file(
        {
            f"module.{name}": value.half() if value.is_floating_point() else value
            for name, value in state.items()
        },
        whole,
    )
    read = read_regressor(whole)
    assert read["conv.0.weight"].dtype == np.float32
    assert np.allclose(read["linear.weight"], state["linear.weight"].numpy(), atol=1e-3)
    torch.save(state, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert np.array_equal(
        read_regressor(tmp_path / "old.pth")["linear.weight"], state["linear.weight"].numpy()
    )
    for what, tensors in misfits(state).items():
        save_file(tensors, tmp_path / f"{what}.safetensors")
        with pytest.raises((WeightsMismatch, UnreadableWeights), match=what):
            read_regressor(tmp_path / f"{what}.safetensors")
    with pytest.raises(UnreadableWeights, match="No such file"):
        read_regressor(tmp_path / "no.safetensors")


@pytest.mark.parametrize(
    "header",
    [
        {"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}},
        {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 9]}},
        {"a": {"dtype": "F32", "shape": [-2], "data_offsets": [0, 8]}},
        {"a": {"dtype": "BF16", "shape": [4], "data_offsets": [0, 8]}},
        {"a": {"dtype": "F32", "data_offsets": [0, 8]}},
        {"a": [1, 2]},
        {"a": {"dtype": "F32", "shape": [2], "data_offsets": [4, 0]}},
    ],
)
def test_a_broken_file_is_refused(tmp_path: Path, header: dict[str, object]) -> None:
    text = json.dumps(header).encode()
    file = tmp_path / "broken.safetensors"
    file.write_bytes(len(text).to_bytes(8, "little") + text + b"\0" * 8)
    with pytest.raises(UnreadableWeights, match=r"broken\.safetensors"):
        read_plain_weights(file)


NO_TORCH = """
import sys
for name in ("torch", "torchvision", "timm", "onnx", *sys.argv[4:]):
    sys.modules[name] = None
from whence.cli import run
street, database, picture = sys.argv[1:4]
photo = next(iter(sorted(__import__("pathlib").Path(street, "queries").iterdir())))
assert run(["index", street + "/database", "--db", database, "-q"]) == 0
assert run(["database", "prepare", "geowarp", "--db", database, "-q"]) == 0
how = ["--rerank", "geowarp", "--no-verify", "--json"]
assert run(["locate", str(photo), "--db", database, *how]) == 0
how = ["--scorer", "geowarp", "--picture", picture, "--json"]
assert run(["match", str(photo), str(photo), *how]) == 0
"""


@pytest.mark.parametrize("hidden", [(), ("onnxruntime",)])
def test_the_whole_way_in_a_core_install(
    street: Path, tmp_path: Path, hidden: tuple[str, ...]
) -> None:
    paths = [street, tmp_path / "c.whence", tmp_path / "p.png"]
    command = [sys.executable, "-c", NO_TORCH, *map(str, paths), *hidden]
    environment = {**os.environ, "WHENCE_CACHE": str(tmp_path / "cache"), "WHENCE_OFFLINE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "p.png").is_file()
    assert '"whole_similarity"' in done.stdout
