"""EfficientNet-Lite0 as an ONNX graph made from its arrays, and its maps by onnxruntime or OpenCV:
no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from whence.models.engines.onnx_graph import INPUT, Convolution, Graph, Run, fold_norm, open_graph

MULTIPLE_PX = 32
"""Sides that the graph takes: with them every stride meets an even side, and TensorFlow's padding
is the same for all sizes."""
OWN_OUTPUTS = ("block10", "block12", "learned")
"""Of the project's own network."""
MIXED_LEAST = 1e-3
"""What the cubes of its mixed channels are taken of at least."""
_EPSILON = 1e-3
_STRIDED_BLOCKS = (1, 3, 5, 11)
"""First blocks of the stages that halve the map, in Lite0."""


def lite0_graph(arrays: Mapping[str, np.ndarray], blocks: Sequence[int]) -> bytes:
    """An ONNX model that gives the maps of these blocks of EfficientNet-Lite0, of normalised images
    (B, 3, H, W).

    `arrays` are the authors' by name. Raises `KeyError` for one that is missing.
    """
    graph = Graph("lite0", channels=3)
    _add_blocks(graph, arrays, blocks)
    return graph.to_model(_outputs(blocks))


def own_graph(arrays: Mapping[str, np.ndarray], head: Mapping[str, np.ndarray]) -> bytes:
    """The ONNX model of the project's own network: the maps of blocks 10 and 12, and the learned
    vector (B, D, 1, 1).

    `head` has the arrays of `whence.models.aggregators.pools.MixedGeM` by name. Weights are kept as
    float16. Raises `KeyError`.
    """
    graph = Graph("whence-lite0", channels=3, is_half=True)
    _add_blocks(graph, arrays, (10, 12))
    halved = graph.add(
        "AveragePool", ["block10"], "halved", {"kernel_shape": [2, 2], "strides": [2, 2]}
    )
    both = graph.add("Concat", [halved, "block12"], "both", {"axis": 1})
    scale = 1 / np.sqrt(head["norm.running_var"].astype(np.float64) + 1e-5)
    weight = head["mix.weight"].astype(np.float64) * scale[None, :, None, None]
    shift = -(
        head["mix.weight"].astype(np.float64)[:, :, 0, 0] * scale * head["norm.running_mean"]
    ).sum(axis=1)
    mixed = Convolution(weight.astype(np.float32), (shift + head["mix.bias"]).astype(np.float32))
    x = graph.convolve(both, "mix", mixed, pads=[0, 0, 0, 0])
    bounds = [
        graph.add_array(name, np.float32(value))
        for name, value in (("least", MIXED_LEAST), ("most", 1e6))
    ]
    x = graph.add("Clip", [x, *bounds], "positive")
    x = graph.add("Mul", [graph.add("Mul", [x, x], "squares"), x], "cubes")
    x = graph.add("GlobalAveragePool", [x], "mean")
    x = graph.add("Pow", [x, graph.add_array("root", np.float32(1 / 3))], "roots")
    fc = Convolution(
        head["fc.weight"][:, :, None, None].astype(np.float32), head["fc.bias"].astype(np.float32)
    )
    graph.convolve(x, "fc", fc, pads=[0, 0, 0, 0], output=OWN_OUTPUTS[-1])
    return graph.to_model(OWN_OUTPUTS)


def _add_blocks(graph: Graph, arrays: Mapping[str, np.ndarray], blocks: Sequence[int]) -> None:
    """Add EfficientNet-Lite0 up to the last of these blocks, each of them named as an output."""
    graph.add_array("low", np.float32(0))
    graph.add_array("high", np.float32(6))
    x = _convolve(graph, arrays, INPUT, "_conv_stem", "_bn0", stride=2, is_clipped=True)
    for number in range(max(blocks) + 1):
        start, y = f"_blocks.{number}.", x
        if number:
            y = _convolve(graph, arrays, y, f"{start}_expand_conv", f"{start}_bn0", is_clipped=True)
        stride = 2 if number in _STRIDED_BLOCKS else 1
        y = _convolve(
            graph,
            arrays,
            y,
            f"{start}_depthwise_conv",
            f"{start}_bn1",
            stride=stride,
            is_clipped=True,
        )
        y = _convolve(graph, arrays, y, f"{start}_project_conv", f"{start}_bn2")
        if number and stride == 1 and _width(arrays, number) == _width(arrays, number - 1):
            y = graph.add("Add", [x, y], f"block{number}")
        elif number in blocks:
            graph.add("Identity", [y], f"block{number}")
        x = y


def open_maps(model: bytes, blocks: Sequence[int]) -> Run:
    """A function from normalised images (B, 3, H, W) float32 to the maps (B, C, h, w) of these
    blocks; sides are multiples of 32.

    It is run by onnxruntime where that is installed, else by OpenCV.
    """
    return open_graph(model, _outputs(blocks))


def _outputs(blocks: Sequence[int]) -> list[str]:
    return [f"block{number}" for number in blocks]


def _width(arrays: Mapping[str, np.ndarray], number: int) -> int:
    return len(arrays[f"_blocks.{number}._project_conv.weight"])


def _convolve(
    graph: Graph,
    arrays: Mapping[str, np.ndarray],
    x: str,
    name: str,
    norm: str,
    *,
    stride: int = 1,
    is_clipped: bool = False,
) -> str:
    """Add a convolution with its batch norm folded in, and ReLU6 where asked for; gives the
    output's name."""
    weight = arrays[f"{name}.weight"]
    parts = [arrays[f"{norm}.{part}"] for part in ("weight", "bias", "running_mean", "running_var")]
    side = weight.shape[2]
    before = (side - 1) // 2 if stride == 1 else (side - 2) // 2
    after = side - 1 - before if stride == 1 else side - 2 - before
    y = graph.convolve(
        x,
        name,
        fold_norm(weight, parts, epsilon=_EPSILON),
        pads=[before, before, after, after],
        stride=stride,
    )
    return graph.add("Clip", [y, "low", "high"], f"{name}.z") if is_clipped else y
