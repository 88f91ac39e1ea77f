"""Weights of GeoWarp's regressor from files, published (github.com/gmberton/geo_warp) or one's own, and a digest of weights.

The retrieval network whose backbone it needs is a model of the zoo like any other (`whence.models.checkpoints`).
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from torch import nn

from whence.models.tensors import fill_module
from whence.models.warp import Regressor


def load_regressor(regressor: Regressor, path: str | Path) -> None:
    """Fill the regressor from a file of weights: every tensor, none left over or missing, after an optional `module.`.

    Raises `UnreadableWeights`, and `WeightsMismatch` that lists what does not fit.
    """
    fill_module(regressor, path, what="a GeoWarp regressor")


def digest(module: nn.Module) -> str:
    """12 hexadecimal digits that stand for a module's weights."""
    hashed = hashlib.blake2b(digest_size=6)
    for name, value in module.state_dict().items():
        hashed.update(name.encode())
        hashed.update(value.detach().cpu().contiguous().numpy().tobytes())
    return hashed.hexdigest()
