"""Weights of GeoWarp's regressor from files, published (github.com/gmberton/geo_warp) or one's own, and a digest of weights.

The retrieval network whose backbone it needs is a model of the zoo like any other (`whence.models.checkpoints`).
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from torch import nn

from whence.errors import UnreadableWeights, WeightsMismatch
from whence.models.tensors import read_weights
from whence.models.warp import Regressor


def load_regressor(regressor: Regressor, path: str | Path) -> None:
    """Fill the regressor from a file of weights: every tensor, none left over or missing, after an optional `module.`.

    Raises `UnreadableWeights`, and `WeightsMismatch` that lists what does not fit.
    """
    found = {re.sub(r"^(module\.)+", "", name): tensor for name, tensor in read_weights(path).tensors.items()}
    own = regressor.state_dict()
    misshapen = [
        f"{name} is {tuple(tensor.shape)}, not {tuple(own[name].shape)}"
        for name, tensor in found.items()
        if name in own and tensor.shape != own[name].shape
    ]
    unknown, missing = [name for name in found if name not in own], [name for name in own if name not in found]
    if unknown or missing or misshapen:
        raise WeightsMismatch(path, "a GeoWarp regressor", unknown=unknown, missing=missing, misshapen=misshapen)
    broken = [name for name, tensor in found.items() if not tensor.isfinite().all()]
    if broken:
        raise UnreadableWeights(path, f"{broken[0]} holds values that are no finite numbers")
    regressor.load_state_dict(found)


def digest(module: nn.Module) -> str:
    """12 hexadecimal digits that stand for a module's weights."""
    hashed = hashlib.blake2b(digest_size=6)
    for name, value in module.state_dict().items():
        hashed.update(name.encode())
        hashed.update(value.detach().cpu().contiguous().numpy().tobytes())
    return hashed.hexdigest()
