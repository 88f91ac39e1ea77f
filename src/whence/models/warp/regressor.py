"""GeoWarp's regressor without torch: the shape of its layers, its weights as arrays, and the ONNX
graph made of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from whence.errors import UnreadableWeights, WeightsMismatch
from whence.models.checkpoints.plain import read_plain_weights
from whence.models.engines.onnx_graph import INPUT, Convolution, Graph, Run, fold_norm, open_graph
from whence.models.warp.cells import GRID

WIDTHS = (128, 128, 64, 64, 64, 64)
"""Output channels of the convolutions."""
NUM_OUTPUTS = 16
"""Corners of two quadrilaterals, x and y."""
_NORM = ("weight", "bias", "running_mean", "running_var")
_EPSILON = 1e-5
_OUTPUT = "quads"


def kernel_sizes(num_cells: int) -> tuple[int, ...]:
    """Kernel sizes of the convolutions, padded by 1, that bring `num_cells` cells of a side to one:
    7, 5, 5, 5, 5, 5 for 15.

    Other sides share the shrinking in the same proportion, what is left over going to the first
    layers.
    """
    shares = [2 if i == 0 else 1 for i in range(len(WIDTHS))]
    whole, rest = divmod(num_cells - 1, sum(shares))
    return tuple(3 + whole * share + (i < rest) for i, share in enumerate(shares))


def layer_shapes(grid: tuple[int, int] = GRID) -> tuple[tuple[int, int, int, int], ...]:
    """Shapes (O, I, h, w) of the convolutions for a grid of cells."""
    channels = (grid[0] * grid[1], *WIDTHS)
    kernels = zip(kernel_sizes(grid[0]), kernel_sizes(grid[1]), strict=True)
    return tuple(
        (width, channels[i], *kernel)
        for i, (width, kernel) in enumerate(zip(WIDTHS, kernels, strict=True))
    )


def read_regressor(path: str | Path, *, grid: tuple[int, int] = GRID) -> dict[str, np.ndarray]:
    """A regressor's weights by name, float32, after an optional `module.`, out of a safetensors
    file or an old one of torch.

    Raises `UnreadableWeights`, and `WeightsMismatch` that lists what does not fit.
    """
    named = read_plain_weights(path)
    found = {
        name.removeprefix("module."): array
        for name, array in named.items()
        if not name.endswith("num_batches_tracked")
    }
    wanted = _shapes(grid)
    known = [name for name in wanted if name in found]
    misshapen = [
        f"{name} is {found[name].shape}, not {wanted[name]}"
        for name in known
        if found[name].shape != wanted[name]
    ]
    unknown, missing = (
        [name for name in found if name not in wanted],
        [name for name in wanted if name not in found],
    )
    if unknown or missing or misshapen:
        raise WeightsMismatch(
            path, "a GeoWarp regressor", unknown=unknown, missing=missing, misshapen=misshapen
        )
    broken = [name for name in known if not np.isfinite(found[name]).all()]
    if broken:
        raise UnreadableWeights(path, f"{broken[0]} has numbers that are not finite")
    return {name: found[name].astype(np.float32) for name in wanted}


def regressor_graph(arrays: Mapping[str, np.ndarray], *, grid: tuple[int, int] = GRID) -> bytes:
    """An ONNX model from similarities of cells (B, h w, h, w) to the corners (B, 16, 1, 1) of two
    quadrilaterals."""
    graph, x = Graph("regressor", channels=grid[0] * grid[1]), INPUT
    for i in range(len(WIDTHS)):
        conv, norm = f"conv.{3 * i}", [arrays[f"conv.{3 * i + 1}.{part}"] for part in _NORM]
        folded = fold_norm(
            arrays[f"{conv}.weight"], norm, epsilon=_EPSILON, bias=arrays[f"{conv}.bias"]
        )
        x = graph.add("Relu", [graph.convolve(x, conv, folded, pads=[1, 1, 1, 1])], f"{conv}.z")
    last = Convolution(arrays["linear.weight"][:, :, None, None], arrays["linear.bias"])
    graph.convolve(x, "linear", last, pads=[0, 0, 0, 0], output=_OUTPUT)
    return graph.to_model([_OUTPUT])


def open_regressor(arrays: Mapping[str, np.ndarray], *, grid: tuple[int, int] = GRID) -> Run:
    """A function from similarities of cells (B, h w, h, w) to one array, the corners (B, 16, 1, 1)
    of two quadrilaterals."""
    return open_graph(regressor_graph(arrays, grid=grid), [_OUTPUT])


def whole_regressor(grid: tuple[int, int] = GRID) -> dict[str, np.ndarray]:
    """The weights of a regressor that has learned nothing: it finds both photos whole."""
    arrays = {name: np.zeros(shape, np.float32) for name, shape in _shapes(grid).items()}
    arrays["linear.bias"][:] = np.tile([-1, -1, 1, -1, 1, 1, -1, 1], 2)
    return arrays


def _shapes(grid: tuple[int, int]) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    for i, shape in enumerate(layer_shapes(grid)):
        shapes |= {f"conv.{3 * i}.weight": shape, f"conv.{3 * i}.bias": shape[:1]}
        shapes |= {f"conv.{3 * i + 1}.{part}": shape[:1] for part in _NORM}
    return {**shapes, "linear.weight": (NUM_OUTPUTS, WIDTHS[-1]), "linear.bias": (NUM_OUTPUTS,)}
