"""Tensors as numpy arrays, where there is no torch: of torch's old files, written before version
1.6, and of safetensors files.

An old file is a few pickles, then the numbers. What its pickles may ask for is a list of six names,
each of which stands here for something harmless; anything else ends the reading, and nothing is
run.
"""

from __future__ import annotations

import math
import pickle
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load

from whence.errors import UnreadableWeights

_MAGIC = 0x1950A86A20F9469CFC6C
_VERSION = 1001
_KINDS = {"FloatStorage": "<f4", "HalfStorage": "<f2", "LongStorage": "<i8"}
_MAX_BYTES = 2_000_000_000


class _Tensor(NamedTuple):
    """A tensor before its numbers were read: which storage it looks at, and how."""

    storage: str
    start: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _Reader(pickle.Unpickler):
    """Unpickles descriptions of tensors; `kinds` gathers the type of each storage."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(file)
        self.kinds: dict[str, np.dtype[Any]] = {}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module == "torch" and name in _KINDS:
            return np.dtype(_KINDS[name])
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _described
        raise pickle.UnpicklingError(
            f"it asks for {module}.{name}, which is no part of weights; nothing was run"
        )

    def persistent_load(self, pid: Any) -> str:
        word, kind, key = pid[:3]
        if word != "storage" or not isinstance(kind, np.dtype):
            raise pickle.UnpicklingError("it holds a storage of a kind that is not read here")
        self.kinds[str(key)] = kind
        return str(key)


def _described(
    storage: str, start: int, shape: tuple[int, ...], strides: tuple[int, ...], *_beside: object
) -> _Tensor:
    return _Tensor(storage, start, tuple(shape), tuple(strides))


def read_plain_weights(path: str | Path) -> dict[str, np.ndarray]:
    """The tensors by name of a safetensors file, or of an old one of torch, told apart by how they
    begin. Raises as these."""
    try:
        with open(path, "rb") as file:
            is_plain = file.read(9)[8:] == b"{"
    except OSError as error:
        raise UnreadableWeights(path, error.strerror or str(error)) from None
    return read_safetensors(path) if is_plain else read_old_weights(path)


def read_safetensors(path: str | Path) -> dict[str, np.ndarray]:
    """The tensors by name, of types that numpy has. Raises `UnreadableWeights` for any other
    file."""
    try:
        return load(Path(path).read_bytes())
    except OSError as error:
        raise UnreadableWeights(path, error.strerror or str(error)) from None
    except (SafetensorError, KeyError, ValueError) as error:
        raise UnreadableWeights(
            path, f"broken, cut short or no safetensors file of numpy's types ({str(error)[:200]})"
        ) from None


def read_old_weights(path: str | Path) -> dict[str, np.ndarray]:
    """The tensors by name. Raises `UnreadableWeights` where the file is not of this format, broken,
    or holds anything else."""
    try:
        with open(path, "rb") as file:
            return _read(file, Path(path))
    except OSError as error:
        raise UnreadableWeights(path, error.strerror or str(error)) from None
    except UnreadableWeights:
        raise
    except Exception as error:
        # A hostile file can make the reader fail with anything.
        raise UnreadableWeights(
            path, f"broken, cut short or no old file of torch ({str(error)[:200]})"
        ) from None


def _read(file: IO[bytes], path: Path) -> dict[str, np.ndarray]:
    if _Reader(file).load() != _MAGIC or _Reader(file).load() != _VERSION:
        raise UnreadableWeights(path, "it is no file that torch wrote before version 1.6")
    _Reader(file).load()
    whole = _Reader(file)
    content = whole.load()
    if not isinstance(content, Mapping):
        raise UnreadableWeights(path, "it holds no tensors by name")
    storages = {}
    for key in _Reader(file).load():
        length = int.from_bytes(file.read(8), "little")
        kind = whole.kinds[str(key)]
        if not 0 <= length * kind.itemsize <= min(_MAX_BYTES, path.stat().st_size):
            raise UnreadableWeights(path, "it declares more numbers than it holds")
        numbers = file.read(length * kind.itemsize)
        if len(numbers) < length * kind.itemsize:
            raise UnreadableWeights(path, "it is cut short")
        storages[str(key)] = np.frombuffer(numbers, kind)
    return {
        str(name): _array(value, storages)
        for name, value in content.items()
        if isinstance(value, _Tensor)
    }


def _array(tensor: _Tensor, storages: Mapping[str, np.ndarray]) -> np.ndarray:
    """A copy of what a tensor looks at; never outside its storage."""
    values = storages[tensor.storage]
    last = tensor.start + sum(
        (side - 1) * step for side, step in zip(tensor.shape, tensor.strides, strict=True)
    )
    if (
        math.prod(tensor.shape) > len(values)
        or tensor.start < 0
        or min((*tensor.shape, *tensor.strides), default=0) < 0
        or (0 not in tensor.shape and last >= len(values))
    ):
        raise ValueError("a tensor reaches beyond its numbers")
    steps = [step * values.itemsize for step in tensor.strides]
    return np.array(np.lib.stride_tricks.as_strided(values[tensor.start :], tensor.shape, steps))
