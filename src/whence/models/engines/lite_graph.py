"""EfficientNet-Lite as an ONNX graph made from its arrays, and its maps by onnxruntime or OpenCV: no torch.

ONNX is written here, field by field, because the package onnx is no part of a core install; what is needed of it is a list of
convolutions, clips and sums. Batch norms are folded into the convolutions, in float64.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import cv2
import numpy as np

MULTIPLE_PX = 32
"""Sides that the graph takes: with them every stride meets an even side, and TensorFlow's padding is the same for all sizes."""
_EPSILON = 1e-3
_STRIDED_BLOCKS = (1, 3, 5, 11)
"""First blocks of the stages that halve the map, in Lite0."""
Run = Callable[[np.ndarray], list[np.ndarray]]


class _Graph(NamedTuple):
    """Nodes and arrays as encoded fields of an ONNX graph."""

    nodes: list[bytes]
    arrays: list[bytes]


def lite0_graph(arrays: Mapping[str, np.ndarray], blocks: Sequence[int]) -> bytes:
    """An ONNX model that gives the maps of these blocks of EfficientNet-Lite0, of normalised images (B, 3, H, W).

    `arrays` are the authors' by name. Raises `KeyError` for one that is missing.
    """
    graph = _Graph([], [_tensor("low", np.float32(0)), _tensor("high", np.float32(6))])
    x = _convolve(graph, arrays, "images", "_conv_stem", "_bn0", stride=2, is_clipped=True)
    for number in range(max(blocks) + 1):
        start, y = f"_blocks.{number}.", x
        if number:
            y = _convolve(graph, arrays, y, f"{start}_expand_conv", f"{start}_bn0", is_clipped=True)
        stride = 2 if number in _STRIDED_BLOCKS else 1
        y = _convolve(graph, arrays, y, f"{start}_depthwise_conv", f"{start}_bn1", stride=stride, is_clipped=True)
        y = _convolve(graph, arrays, y, f"{start}_project_conv", f"{start}_bn2")
        if number and stride == 1 and _width(arrays, number) == _width(arrays, number - 1):
            graph.nodes.append(_node("Add", [x, y], f"block{number}"))
            y = f"block{number}"
        elif number in blocks:
            graph.nodes.append(_node("Identity", [y], f"block{number}"))
        x = y
    outputs = b"".join(_field(12, _value(f"block{number}")) for number in blocks)
    parts = [*(_field(1, node) for node in graph.nodes), _field(2, b"lite0"), *(_field(5, array) for array in graph.arrays)]
    body = b"".join(parts) + _field(11, _value("images", channels=3)) + outputs
    return _number(1, 8) + _field(7, body) + _field(8, _field(1, b"") + _number(2, 13))


def open_maps(model: bytes, blocks: Sequence[int]) -> Run:
    """A function from normalised images (B, 3, H, W) float32 to the maps (B, C, h, w) of these blocks; sides are multiples of 32.

    It is run by onnxruntime where that is installed, else by OpenCV.
    """
    try:
        import onnxruntime
    except ImportError:
        return _by_opencv(model, blocks)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = max(1, cv2.getNumThreads())
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return lambda images: list(session.run([f"block{number}" for number in blocks], {"images": images}))


def _by_opencv(model: bytes, blocks: Sequence[int]) -> Run:
    network = cv2.dnn.readNetFromONNX(np.frombuffer(model, np.uint8))
    names = [f"block{number}" for number in blocks]

    def run(images: np.ndarray) -> list[np.ndarray]:
        network.setInput(images)
        # OpenCV may use the memory of its outputs again.
        return [np.array(found) for found in network.forward(names)]

    return run


def _width(arrays: Mapping[str, np.ndarray], number: int) -> int:
    return len(arrays[f"_blocks.{number}._project_conv.weight"])


def _convolve(
    graph: _Graph,
    arrays: Mapping[str, np.ndarray],
    x: str,
    name: str,
    norm: str,
    *,
    stride: int = 1,
    is_clipped: bool = False,
) -> str:
    """Add a convolution with its batch norm folded in, and ReLU6 where asked for; gives the output's name."""
    weight = arrays[f"{name}.weight"].astype(np.float64)
    scale, shift, mean, variance = (
        arrays[f"{norm}.{part}"].astype(np.float64) for part in ("weight", "bias", "running_mean", "running_var")
    )
    factor = scale / np.sqrt(variance + _EPSILON)
    side = weight.shape[2]
    before = (side - 1) // 2 if stride == 1 else (side - 2) // 2
    after = side - 1 - before if stride == 1 else side - 2 - before
    graph.arrays.append(_tensor(f"{name}.w", (weight * factor[:, None, None, None]).astype(np.float32)))
    graph.arrays.append(_tensor(f"{name}.b", (shift - mean * factor).astype(np.float32)))
    attributes: dict[str, int | list[int]] = {
        "kernel_shape": [side, side],
        "strides": [stride, stride],
        "pads": [before, before, after, after],
        "group": len(weight) if weight.shape[1] == 1 else 1,
    }
    graph.nodes.append(_node("Conv", [x, f"{name}.w", f"{name}.b"], f"{name}.y", attributes))
    if not is_clipped:
        return f"{name}.y"
    graph.nodes.append(_node("Clip", [f"{name}.y", "low", "high"], f"{name}.z"))
    return f"{name}.z"


def _node(kind: str, inputs: Sequence[str], output: str, attributes: Mapping[str, int | list[int]] | None = None) -> bytes:
    encoded = [_field(1, name.encode()) for name in inputs]
    encoded += [_field(2, output.encode()), _field(3, f"{output}.node".encode()), _field(4, kind.encode())]
    for name, value in (attributes or {}).items():
        # An attribute says its type: 2 for one whole number, 7 for several.
        numbers = (
            [_number(3, value), _number(20, 2)] if isinstance(value, int) else [*(_number(8, one) for one in value), _number(20, 7)]
        )
        encoded.append(_field(5, _field(1, name.encode()) + b"".join(numbers)))
    return b"".join(encoded)


def _tensor(name: str, values: np.ndarray | np.float32) -> bytes:
    """A float32 array: sides, type 1, name, raw numbers."""
    array = np.asarray(values, "<f4")
    return (
        b"".join(_number(1, side) for side in array.shape) + _number(2, 1) + _field(8, name.encode()) + _field(9, array.tobytes())
    )


def _value(name: str, *, channels: int = 0) -> bytes:
    """An input or output: float32 with four sides, of which the channels alone may be known."""
    sides = [_field(1, _field(2, f"{name}.{i}".encode()) if i != 1 or not channels else _number(1, channels)) for i in range(4)]
    return _field(1, name.encode()) + _field(2, _field(1, _number(1, 1) + _field(2, b"".join(sides))))


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _field(field: int, content: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    encoded = b""
    while value > 0x7F:
        encoded += struct.pack("B", value & 0x7F | 0x80)
        value >>= 7
    return encoded + struct.pack("B", value)
