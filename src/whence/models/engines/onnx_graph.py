"""ONNX models written field by field, and run by onnxruntime or OpenCV: no torch, and no package
onnx, which no core install has.

What is needed of the format is a list of convolutions, clips and sums over float32 arrays. Batch
norms are folded into the convolutions, in float64.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import cv2
import numpy as np

INPUT = "images"
Run = Callable[[np.ndarray], list[np.ndarray]]
"""From one batch (B, C, H, W) float32 to the outputs that were asked for."""
Attributes = Mapping[str, int | list[int]]


class Convolution(NamedTuple):
    """Weights (O, I, h, w) and bias (O,), float32."""

    weight: np.ndarray
    bias: np.ndarray


def fold_norm(
    weight: np.ndarray,
    norm: Sequence[np.ndarray],
    *,
    epsilon: float,
    bias: np.ndarray | None = None,
) -> Convolution:
    """A convolution with the batch norm after it, which is its scale, shift, running mean and
    running variance, all (O,)."""
    scale, shift, mean, variance = (part.astype(np.float64) for part in norm)
    factor = scale / np.sqrt(variance + epsilon)
    before = 0.0 if bias is None else bias.astype(np.float64)
    folded = weight.astype(np.float64) * factor[:, None, None, None]
    return Convolution(
        folded.astype(np.float32), (shift + (before - mean) * factor).astype(np.float32)
    )


class Graph:
    """A model while it is written, over one input of so many channels.

    With `is_half` weights are written as float16, and cast to float32 where they are used: half the
    bytes, the same computation.
    """

    def __init__(self, name: str, *, channels: int, is_half: bool = False) -> None:
        self.name, self.channels, self.is_half = name, channels, is_half
        self._nodes: list[bytes] = []
        self._arrays: list[bytes] = []

    def add_array(self, name: str, values: np.ndarray | np.float32) -> str:
        """The name under which an array, which is added, is float32."""
        is_half = self.is_half and np.ndim(values) > 1
        array, kept = (
            np.asarray(values, "<f2" if is_half else "<f4"),
            f"{name}.half" if is_half else name,
        )
        # Sides, type (1 float32, 10 float16), name, raw numbers.
        sides = b"".join(_number(1, side) for side in array.shape)
        self._arrays.append(
            sides
            + _number(2, 10 if is_half else 1)
            + _field(8, kept.encode())
            + _field(9, array.tobytes())
        )
        return self.add("Cast", [kept], name, {"to": 1}) if is_half else name

    def add(
        self, kind: str, inputs: Sequence[str], output: str, attributes: Attributes | None = None
    ) -> str:
        """The name of the output of a node, which is added."""
        encoded = [_field(1, name.encode()) for name in inputs]
        encoded += [
            _field(2, output.encode()),
            _field(3, f"{output}.node".encode()),
            _field(4, kind.encode()),
        ]
        for name, value in (attributes or {}).items():
            # An attribute says its type: 2 for one whole number, 7 for several.
            numbers = (
                [_number(3, value), _number(20, 2)]
                if isinstance(value, int)
                else [*(_number(8, one) for one in value), _number(20, 7)]
            )
            encoded.append(_field(5, _field(1, name.encode()) + b"".join(numbers)))
        self._nodes.append(b"".join(encoded))
        return output

    def convolve(
        self,
        x: str,
        name: str,
        convolution: Convolution,
        *,
        pads: list[int],
        stride: int = 1,
        output: str = "",
        groups: int = 0,
    ) -> str:
        """The output of a convolution, which is added; pads are top, left, bottom, right. Without
        `groups`, in depth where weights have one channel."""
        weight = convolution.weight
        attributes: Attributes = {
            "kernel_shape": list(weight.shape[2:]),
            "strides": [stride, stride],
            "pads": pads,
            "group": groups or (len(weight) if weight.shape[1] == 1 else 1),
        }
        arrays = [
            self.add_array(f"{name}.w", weight),
            self.add_array(f"{name}.b", convolution.bias),
        ]
        return self.add("Conv", [x, *arrays], output or f"{name}.y", attributes)

    def to_model(self, outputs: Sequence[str]) -> bytes:
        """The whole as the content of an ONNX file, operators of version 13."""
        parts = [*(_field(1, node) for node in self._nodes), _field(2, self.name.encode())]
        parts += [
            *(_field(5, array) for array in self._arrays),
            _field(11, _value(INPUT, channels=self.channels)),
        ]
        body = b"".join([*parts, *(_field(12, _value(name)) for name in outputs)])
        return _number(1, 8) + _field(7, body) + _field(8, _field(1, b"") + _number(2, 13))


def read_arrays(model: bytes) -> dict[str, np.ndarray]:
    """The arrays of a model that `Graph` wrote, float32, by the names they are used under."""
    return {
        name: np.frombuffer(model, kind, int(np.prod(shape, dtype=int)), at)
        .reshape(shape)
        .astype(np.float32)
        for name, (at, kind, shape) in _places(model).items()
    }


def with_arrays(model: bytes, arrays: Mapping[str, np.ndarray]) -> bytes:
    """The model that `Graph` wrote with other numbers in these arrays. Raises `KeyError` and
    `ValueError` for what does not fit."""
    found, places = bytearray(model), _places(model)
    for name, values in arrays.items():
        at, kind, shape = places[name]
        if values.shape != shape:
            raise ValueError(f"{name} has shape {shape}, not {values.shape}")
        written = np.ascontiguousarray(values, kind).tobytes()
        found[at : at + len(written)] = written
    return bytes(found)


def _places(model: bytes) -> dict[str, tuple[int, str, tuple[int, ...]]]:
    """Where the numbers of each array lie, their type and shape."""
    places = {}
    for field, start, end in _fields(model, 0, len(model)):
        arrays = (
            [part[1:] for part in _fields(model, start, end) if part[0] == 5] if field == 7 else []
        )
        for first, last in arrays:
            parts = list(_fields(model, first, last))
            shape = tuple(value for number, value, _ in parts if number == 1)
            kind = {1: "<f4", 10: "<f2"}[next(value for number, value, _ in parts if number == 2)]
            name = next(model[at:stop] for number, at, stop in parts if number == 8).decode()
            at = next(at for number, at, _ in parts if number == 9)
            places[name.removesuffix(".half")] = (at, kind, shape)
    return places


def _fields(model: bytes, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """The fields between two places: number, and where the content begins and ends; of a whole
    number itself, twice."""
    while at < end:
        key, at = _read_varint(model, at)
        value, at = _read_varint(model, at)
        if key & 7 == 0:
            yield key >> 3, value, value
        else:
            yield key >> 3, at, at + value
            at += value


def _read_varint(model: bytes, at: int) -> tuple[int, int]:
    """A whole number, and where it ends."""
    value = shift = 0
    while True:
        byte = model[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def open_graph(model: bytes, outputs: Sequence[str]) -> Run:
    """A function from the input to these outputs, run by onnxruntime where that is installed, else
    by OpenCV."""
    try:
        import onnxruntime
    except ImportError:
        return _by_opencv(model, list(outputs))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = max(1, cv2.getNumThreads())
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return lambda images: list(session.run(list(outputs), {INPUT: images}))


def _by_opencv(model: bytes, outputs: list[str]) -> Run:
    network = cv2.dnn.readNetFromONNX(np.frombuffer(model, np.uint8))
    # Some versions give all outputs of a model or none.
    every = list(dict.fromkeys((*network.getUnconnectedOutLayersNames(), *outputs)))

    def run(images: np.ndarray) -> list[np.ndarray]:
        network.setInput(images)
        found = dict(zip(every, network.forward(every), strict=True))
        # OpenCV may use the memory of its outputs again.
        return [np.array(found[name]) for name in outputs]

    return run


def _value(name: str, *, channels: int = 0) -> bytes:
    """An input or output: float32 with four sides, of which the channels alone may be known."""
    sides = [
        _field(
            1, _field(2, f"{name}.{i}".encode()) if i != 1 or not channels else _number(1, channels)
        )
        for i in range(4)
    ]
    return _field(1, name.encode()) + _field(
        2, _field(1, _number(1, 1) + _field(2, b"".join(sides)))
    )


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
