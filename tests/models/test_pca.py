"""PCA of descriptors: against scikit-learn, its properties, and through databases and
evaluations."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pytest
from sklearn.decomposition import PCA

from whence.errors import BadOption, NotFitted
from whence.models.pca import Reduced, fit_pca
from whence.parts import Descriptor


class Means(Descriptor):
    """Stands in for a network: a random projection of the mean colours of a photo's rows."""

    dim, batch_size = 12, 4

    def fit(self, images: Iterable[np.ndarray], *, seed: int) -> None:
        raise AssertionError("nothing to fit")

    def describe(self, images: Sequence[np.ndarray]) -> np.ndarray:
        flat = np.stack([image.mean(axis=1).ravel()[:12] for image in images]).astype(np.float32)
        return np.asarray(flat / np.linalg.norm(flat, axis=1, keepdims=True), np.float32)


def images(num: int, seed: int = 0) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    return [random.integers(0, 256, (4, 5, 3), dtype=np.uint8) for _ in range(num)]


@pytest.mark.parametrize("is_whitened", [False, True])
@pytest.mark.parametrize(
    "shape", [(200, 12), (24, 40)], ids=["many", "fewer photos than dimensions"]
)
def test_pca_is_that_of_scikit_learn(shape: tuple[int, int], is_whitened: bool) -> None:
    rows = np.random.default_rng(1).standard_normal(shape) * np.linspace(3, 0.5, shape[1])
    mean, axes = fit_pca(rows, 5, is_whitened=is_whitened)
    found = (rows - mean) @ axes.T
    expected = PCA(5, whiten=is_whitened, svd_solver="full").fit_transform(rows)
    # scikit-learn divides by N - 1; the sign of an axis is nobody's.
    expected *= np.sqrt(shape[0] / (shape[0] - 1)) if is_whitened else 1
    signs = np.sign((found * expected).sum(axis=0))
    assert np.allclose(found, expected * signs, atol=1e-4)


def test_a_reduced_descriptor_keeps_its_state() -> None:
    reduced = Reduced(Means(), pca_dim=4)
    assert (reduced.dim, reduced.is_fitted, reduced.min_photos, reduced.num_sample_photos) == (
        4,
        False,
        8,
        32,
    )
    with pytest.raises(NotFitted):
        reduced.describe(images(2))
    with pytest.raises(NotFitted, match="at least 8 photos"):
        reduced.load_packaged()
    with pytest.raises(NotFitted, match="needs at least 8"):
        reduced.fit(images(7), seed=0)
    reduced.fit(iter(images(50)), seed=0)
    found = reduced.describe(images(6, seed=1))
    assert found.dtype == np.float32
    assert np.allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)
    again = Reduced(Means(), pca_dim=4)
    again.load_state(reduced.state())
    assert np.array_equal(again.describe(images(6, seed=1)), found)
    with pytest.raises(BadOption, match="pca_axes"):
        Reduced(Means(), pca_dim=5).load_state(reduced.state())
    with pytest.raises(BadOption, match="between 1 and 12"):
        Reduced(Means(), pca_dim=13)


def test_whitening_makes_axes_alike() -> None:
    sample = images(300)
    raw = Means().describe(sample)
    for is_whitened, spread in ((True, 1.01), (False, 1.2)):
        mean, axes = fit_pca(raw, 6, is_whitened=is_whitened)
        variances = ((raw - mean) @ axes.T).var(axis=0)
        assert bool(variances.max() / variances.min() < spread) == is_whitened


def test_networks_take_a_pca(
    street: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the network that comes with Whence: fitted on the database, kept with it, used by
    queries and evaluations."""
    pytest.importorskip("torch")
    from whence import cli
    from whence.models.descriptor import load_model

    name = "whence-resnet18conv4-gem-256"
    model = load_model(name, options={"pca_dim": 8, "pca_whiten": True})
    assert (model.dim, model.is_fitted, model.options["pca_dim"]) == (8, False, 8)
    with pytest.raises(BadOption, match="pca_dim"):
        load_model(name, options={"pca_whiten": True})
    option = ["--model", name, "--option", "pca_dim=8", "-q"]
    assert (
        cli.run(["evaluate", str(street), *option, "--set", f"fit_folder={street / 'queries'}"])
        == 0
    )
    assert "dimensions 8" in capsys.readouterr().out
    database = str(tmp_path / "city.whence")
    assert cli.run(["index", str(street / "database"), "--db", database, *option]) == 0
    query = sorted((street / "queries").iterdir())[0]
    assert cli.run(["locate", str(query), "--db", database, "-q", "--no-verify"]) == 0
