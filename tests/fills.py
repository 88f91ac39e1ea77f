"""The fill rules that the golden values of published networks are stated with: tensors made of
integers by a formula."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor, nn


def hashed(
    shape: tuple[int, ...], *, scale: float = 1.0, offset: float = 0.0, seed: int = 0
) -> Tensor:
    """Values offset + scale * (-1 ... 1) by an integer hash of position and seed."""
    mask = np.uint64(0xFFFFFFFF)
    x = (np.arange(math.prod(shape), dtype=np.uint64) + np.uint64(1000003 * seed)) & mask
    x = x * np.uint64(2654435761) & mask
    for shift, factor in ((16, 2246822519), (13, 3266489917)):
        x ^= x >> np.uint64(shift)
        x = x * np.uint64(factor) & mask
    x ^= x >> np.uint64(16)
    values = offset + scale * (2 * x.astype(np.float64) / 2**32 - 1)
    return torch.from_numpy(values.astype(np.float32).reshape(shape))


def squares(shape: tuple[int, ...], number: int, *, scale: float = 1.0) -> Tensor:
    """Values scale * (-0.5 ... 0.5) by squares modulo 1009; `number` tells tensors apart."""
    j = np.arange(1009, dtype=np.int64)
    period = ((31 * j * j + 17 * j + 101 * number + 7) % 1009) / 1009 - 0.5
    return torch.from_numpy(np.resize((scale * period).astype(np.float32), shape))


def image_of(shape: tuple[int, ...], number: int = 1000) -> Tensor:
    """The input of the golden values stated with `squares`."""
    return squares(shape, number, scale=2.0)


def fill(module: nn.Module, names: Iterable[str] | None = None) -> None:
    """Fill a module's tensors by `squares`, numbered by their place in `names`, the published order
    (its own without)."""
    state = module.state_dict()
    for number, name in enumerate(state if names is None else names):
        if name not in state or not state[name].is_floating_point():
            continue
        tensor, leaf = state[name], name.rpartition(".")[2]
        shape = tuple(tensor.shape)
        if leaf in ("p", "dust_bin"):
            values = torch.full(shape, 3.0 if leaf == "p" else 1.0)
        elif leaf == "running_var":
            values = 1 + squares(shape, number, scale=0.2).abs()
        elif len(shape) >= 2:
            values = squares(shape, number, scale=math.sqrt(24 / (tensor.numel() / shape[0])))
        else:
            values = squares(shape, number, scale=0.2) + (1.0 if leaf == "weight" else 0.0)
        tensor.copy_(values)


def fill_by_place(backbone: nn.Module) -> None:
    """GeoWarp's golden item 8: convolutions and biases by `hashed`, seeded by their place."""
    for seed, value in enumerate(backbone.state_dict().values()):
        shape = tuple(value.shape)
        value.copy_(
            hashed(shape, scale=_fan_in_scale(shape) if value.ndim == 4 else 0.05, seed=seed)
        )


def fill_regressor(regressor: nn.Module) -> None:
    """GeoWarp's golden item 7: every entry of the state dict by its position and kind."""
    for seed, (name, value) in enumerate(regressor.state_dict().items()):
        if name in ("linear.bias",) or name.endswith("num_batches_tracked"):
            continue
        scale, base = 0.1, 0.0
        if value.ndim == 4:
            scale = _fan_in_scale(tuple(value.shape))
        elif name.endswith("running_var"):
            scale, base = 0.5, 1.0
        elif name == "linear.weight":
            scale = 0.05
        elif name.endswith("weight"):
            base = 1.0
        value.copy_(hashed(tuple(value.shape), scale=scale, offset=base, seed=seed))


def _fan_in_scale(shape: tuple[int, ...]) -> float:
    return math.sqrt(6 / math.prod(shape[1:]))


def misfits(state: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Tensors that are none of a GeoWarp regressor's, by a word of what is said of them."""
    return {
        "missing": {name: value for name, value in state.items() if name != "linear.bias"},
        "unknown": {**state, "linear.extra": torch.zeros(3)},
        "shape": {**state, "linear.bias": torch.zeros(8)},
        "finite": {**state, "linear.bias": torch.full((16,), torch.nan)},
    }
