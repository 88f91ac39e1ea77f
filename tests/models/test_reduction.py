"""A PCA that is kept with a network's weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from conftest import write_photo
from whence.cli import run
from whence.errors import BadOption, NotFitted
from whence.models.descriptor import load_model
from whence.models.pca import fit_pca
from whence.models.reduction import keep_pca
from whence.training.checkpoints import write_checkpoint
from whence.training.learners import make_network, network_card
from whence.training.options.learners import AggregatorOptions, NetworkOptions

DIM = 24


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network whose outputs have no unit length, and 20 photos."""
    root = tmp_path_factory.mktemp("reduction")
    options = NetworkOptions(
        backbone="resnet18conv2", aggregator=AggregatorOptions("convap", {"channels_out": DIM // 4})
    )
    network = make_network(options).eval()
    write_checkpoint(
        root / "own.safetensors",
        network.state_dict(),
        {},
        card=network_card(options, network, recipe="own", size_px=(48, 32)),
    )
    for number in range(20):
        rough = np.random.default_rng(number).integers(0, 256, (4, 6, 3), dtype=np.uint8)
        write_photo(
            root / "photos" / f"{number:02d}.png", np.kron(rough, np.ones((8, 8, 1), np.uint8))
        )
    return root


@pytest.mark.parametrize("is_whitened", [False, True])
def test_what_is_kept_is_the_pca_of_the_descriptors(
    folder: Path, tmp_path: Path, is_whitened: bool
) -> None:
    whole = load_model(str(folder / "own.safetensors"))
    files = sorted((folder / "photos").iterdir())
    card = keep_pca(
        whole, files, dim=6, out=tmp_path / "small.safetensors", is_whitened=is_whitened
    )
    small = load_model(str(tmp_path / "small.safetensors"))
    assert (card.dim, small.dim, small.is_fitted, small.card) == (6, 6, True, card)
    raw = whole.describe(files)
    mean, axes = fit_pca(raw, 6, is_whitened=is_whitened)
    expected = (raw - mean) @ axes.T
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    assert np.allclose(small.describe(files), expected, atol=2e-3)


def test_the_command_and_what_it_refuses(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own, photos = str(folder / "own.safetensors"), str(folder / "photos")
    out = tmp_path / "half.safetensors"
    assert (
        run(["convert", own, "--pca-dim", "5", "--pca-photos", photos, "--out", str(out), "--half"])
        == 0
    )
    assert "5 of 24 dimensions" in capsys.readouterr().out
    files = sorted((folder / "photos").iterdir())
    keep_pca(load_model(own), files, dim=5, out=tmp_path / "whole.safetensors")
    assert out.stat().st_size < 0.6 * (tmp_path / "whole.safetensors").stat().st_size
    pairs = [
        load_model(str(tmp_path / name)).describe(files)
        for name in ("half.safetensors", "whole.safetensors")
    ]
    assert (pairs[0] * pairs[1]).sum(axis=1).min() > 0.98
    few = ["--pca-dim", "11", "--pca-photos", photos, "--out", str(tmp_path / "not.safetensors")]
    for words, said in ((["--pca-dim", "5"], "--pca-photos"), (few, "22 photos")):
        assert run(["convert", own, *words]) == 1
        assert said in capsys.readouterr().err
    for dim, error in ((0, BadOption), (25, BadOption), (11, NotFitted)):
        with pytest.raises(error):
            keep_pca(load_model(own), files, dim=dim, out=tmp_path / "not.safetensors")
    assert not (tmp_path / "not.safetensors").exists()
    with pytest.raises(BadOption, match="pca_dim=5"):
        keep_pca(load_model("rootsift-vlad"), files, dim=5, out=tmp_path / "not.safetensors")
