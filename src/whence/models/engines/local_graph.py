"""Networks of local features as ONNX graphs made from their arrays, without torch.

A graph takes grey images (B, 1, H, W) in [0, 1] and gives logits (B, 1, H, W) and, of networks that
describe, descriptors (B, D, h, w).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from whence.models.engines.onnx_graph import INPUT, Convolution, Graph, fold_norm

LOGITS, DESCRIPTORS = "logits", "descriptors"
_EPSILON = 1e-5
_NORM = ("weight", "bias", "running_mean", "running_var")
NamedArrays = Mapping[str, np.ndarray]


def dense_graph(arrays: NamedArrays, *, is_half: bool = False) -> bytes:
    """The ONNX model of a network of `whence.models.local.dense`, told apart by the names of its
    arrays. Raises `KeyError`."""
    graph = Graph("whence-local", channels=1, is_half=is_half)
    if "stem.0.weight" in arrays:
        _add_strided(graph, arrays)
    elif "blocks.0.0.weight" in arrays:
        _add_silk(graph, arrays)
    else:
        raise KeyError("stem.0.weight")
    return graph.to_model((LOGITS, DESCRIPTORS))


def _add_strided(graph: Graph, arrays: NamedArrays) -> None:
    """Add a `StridedNetwork`."""

    def layer(x: str, name: str, *, stride: int = 1) -> str:
        convolution = fold_norm(
            arrays[f"{name}.0.weight"], _norm(arrays, f"{name}.1"), epsilon=_EPSILON
        )
        y = graph.convolve(x, name, convolution, pads=[1, 1, 1, 1], stride=stride, groups=1)
        return graph.add("Relu", [y], f"{name}.z")

    def step(x: str, name: str) -> str:
        return layer(layer(x, f"{name}.0", stride=2), f"{name}.1")

    def doubled(x: str, name: str) -> str:
        four = graph.add("Concat", [x, x, x, x], f"{name}.four", {"axis": 1})
        return graph.add("DepthToSpace", [four], f"{name}.doubled", {"blocksize": 2})

    half = step(layer(INPUT, "stem"), "to_half")
    quarter = step(half, "to_quarter")
    eighth = step(quarter, "to_eighth")
    coarse = _plain(graph, arrays, step(eighth, "to_sixteenth"), "to_sixteenth.2")
    coarse = graph.add("Add", [eighth, doubled(coarse, "coarse")], "coarse")
    fine = graph.add(
        "Add", [_plain(graph, arrays, quarter, "from_quarter"), doubled(coarse, "fine")], "fine"
    )
    _plain(graph, arrays, layer(fine, "descriptor.0"), "descriptor.1", output=DESCRIPTORS)
    context = doubled(_plain(graph, arrays, fine, "context"), "context")
    both = graph.add("Concat", [half, context], "both", {"axis": 1})
    four = _plain(graph, arrays, layer(both, "detector.0"), "detector.1")
    graph.add("DepthToSpace", [four], LOGITS, {"blocksize": 2})


def _add_silk(graph: Graph, arrays: NamedArrays) -> None:
    """Add a `SilkNetwork`. Its norms stand after a ReLU: each is a scale and a shift of its own."""

    def layer(x: str, name: str) -> str:
        side = arrays[f"{name}.0.weight"].shape[2]
        y = _plain(graph, arrays, x, f"{name}.0", pads=side // 2)
        return norm(graph.add("Relu", [y], f"{name}.z"), f"{name}.2")

    def norm(x: str, name: str, *, output: str = "") -> str:
        channels = len(arrays[f"{name}.weight"])
        scaling = fold_norm(
            np.ones((channels, 1, 1, 1), np.float32), _norm(arrays, name), epsilon=_EPSILON
        )
        return graph.convolve(x, name, scaling, pads=[0, 0, 0, 0], output=output)

    x, number = INPUT, 0
    while f"blocks.{number}.0.weight" in arrays:
        x, number = layer(x, f"blocks.{number}"), number + 1
    norm(_plain(graph, arrays, layer(x, "detector.0"), "detector.1"), "detector.2", output=LOGITS)
    if "descriptor.2.weight" in arrays:
        norm(
            _plain(graph, arrays, layer(x, "descriptor.0"), "descriptor.1"),
            "descriptor.2",
            output=DESCRIPTORS,
        )
    else:
        _plain(graph, arrays, x, "descriptor.0", output=DESCRIPTORS)


def _plain(
    graph: Graph, arrays: NamedArrays, x: str, name: str, *, pads: int = 0, output: str = ""
) -> str:
    """Add a convolution as it is."""
    convolution = Convolution(
        arrays[f"{name}.weight"].astype(np.float32), arrays[f"{name}.bias"].astype(np.float32)
    )
    return graph.convolve(x, name, convolution, pads=[pads] * 4, output=output, groups=1)


def _norm(arrays: NamedArrays, name: str) -> list[np.ndarray]:
    return [arrays[f"{name}.{part}"] for part in _NORM]
