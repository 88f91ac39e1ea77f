"""Networks that look at every pixel: their sizes, how they are read between pixels, and their
graphs without torch."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from whence.errors import UnknownName
from whence.models.engines.local_graph import DESCRIPTORS, LOGITS, dense_graph
from whence.models.engines.onnx_graph import _by_opencv, open_graph
from whence.models.local.dense import (
    NETWORKS,
    DenseMaps,
    DenseNetwork,
    count_multiplications,
    count_weights,
    make_dense_network,
    sample_descriptors,
    sample_logits,
)
from whence.models.local.own import read_between

SIZES = {
    "silk": (942_147, 47.1),
    "student-xs": (44_083, 2.18),
    "student-s": (73_451, 3.64),
    "student-m": (101_603, 5.05),
    "student-l": (127_043, 6.32),
}
"""Weights, as the field's notes count them, and thousand million multiplications of convolutions at
224 x 224."""


def seeded(name: str) -> DenseNetwork:
    """A network whose norms are not what they begin with."""
    torch.manual_seed(3)
    network = make_dense_network(name)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.5, 1.5)
            if module.affine:
                torch.nn.init.uniform_(module.weight, 0.5, 1.5)
                torch.nn.init.uniform_(module.bias, -0.2, 0.2)
    return network.eval()


@pytest.mark.parametrize("name", SIZES)
def test_sizes_are_those_that_the_notes_count(name: str) -> None:
    weights, multiplications = SIZES[name]
    network = make_dense_network(name)
    assert count_weights(network) == weights
    assert count_multiplications(network, height=32, width=32) * 49 / 1e9 == pytest.approx(
        multiplications, abs=0.01
    )


def test_weights_of_a_student_follow_from_its_widths() -> None:
    widths, lateral, dim = (16, 32, 32), 16, 128
    total, channels = 0, 1
    for width in widths:
        total += 9 * channels * width + width + 2 * width + 9 * width * width + width + 2 * width
        channels = width
    total += 9 * channels * lateral + 3 * lateral + lateral + 3 + channels * dim + dim
    assert count_weights(make_dense_network("student-xs")) == total


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_gives_a_logit_a_pixel_and_does_not_mix_images(name: str) -> None:
    network = seeded(name)
    images = torch.rand(2, 1, 32, 48, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        whole, alone = network(images), network(images[1:])
    assert whole.logits.shape == (2, 32, 48)
    assert bool(torch.isfinite(whole.logits).all())
    torch.testing.assert_close(whole.logits[1:], alone.logits, atol=1e-4, rtol=1e-4)
    if network.dim:
        assert whole.descriptors is not None
        assert whole.descriptors.shape == (2, network.dim, 32 // whole.stride, 48 // whole.stride)
    else:
        assert whole.descriptors is None


def test_an_unknown_network_is_named_with_its_nearest() -> None:
    with pytest.raises(UnknownName, match="student-xs"):
        make_dense_network("student-xss")


@pytest.mark.parametrize("name", ["strided", "student-small", "silk-small"])
def test_the_graph_without_torch_computes_the_same(name: str) -> None:
    network = seeded(name)
    model = dense_graph({key: value.numpy() for key, value in network.state_dict().items()})
    grey = np.random.default_rng(2).random((1, 1, 48, 64), np.float32)
    with torch.inference_mode():
        expected = network(torch.from_numpy(grey))
    for run in (open_graph(model, (LOGITS, DESCRIPTORS)), _by_opencv(model, [LOGITS, DESCRIPTORS])):
        logits, descriptors = run(grey)
        np.testing.assert_allclose(logits[:, 0], expected.logits, atol=2e-4)
        np.testing.assert_allclose(descriptors, expected.descriptors, atol=2e-4)


def test_arrays_of_no_such_network_are_refused() -> None:
    with pytest.raises(KeyError):
        dense_graph({"fc.weight": np.zeros((3, 3), np.float32)})


def test_descriptors_between_pixels_are_the_same_with_and_without_torch() -> None:
    random = np.random.default_rng(4)
    maps = random.normal(size=(1, 5, 6, 8)).astype(np.float32)
    points = random.uniform(-2, 34, (1, 30, 2)).astype(np.float32)
    found = sample_descriptors(
        DenseMaps(torch.zeros(1, 24, 32), torch.from_numpy(maps), 4), torch.from_numpy(points)
    )[0].numpy()
    plain = read_between(maps[0], (points[0] + 0.5) / 4 - 0.5)
    np.testing.assert_allclose(
        found, plain / np.linalg.norm(plain, axis=1, keepdims=True), atol=1e-5
    )
    # In the middle of a cell stands what the cell says.
    at = sample_descriptors(
        DenseMaps(torch.zeros(1, 24, 32), torch.from_numpy(maps), 4), torch.tensor([[[9.5, 5.5]]])
    )[0, 0].numpy()
    np.testing.assert_allclose(at, maps[0, :, 1, 2] / np.linalg.norm(maps[0, :, 1, 2]), atol=1e-5)


def test_logits_are_those_of_the_nearest_pixel() -> None:
    logits = torch.arange(12.0).reshape(1, 3, 4)
    assert sample_logits(
        logits, torch.tensor([[[0.4, 0.6], [3.0, 2.0], [9.0, -3.0]]])
    ).tolist() == [[4.0, 11.0, 3.0]]
