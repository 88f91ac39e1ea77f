"""Write the packaged weights of a GeoWarp scorer from a training's: float16, every tensor checked
by loading them.

    python tools/pack_regressor.py geowarp RUN/final.safetensors

All packaged files together, networks' and regressors', may take 20 MB.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from safetensors.torch import save

from whence.models.checkpoints.files import read_weights
from whence.models.checkpoints.origins import PACKAGED
from whence.models.warp.model import Regressor
from whence.models.warp.regressor import read_regressor
from whence.models.warp.torch_engine import load_regressor
from whence.runtime import atomic_write

FILES = {
    "geowarp": "geowarp-efficientnet_lite0.safetensors",
    "geowarp-resnet18conv4": "geowarp-whence-resnet18conv4-gem-256.safetensors",
}
"""What each scorer's weights are called."""
MAX_BYTES = 20_000_000


def pack(source: Path, out: Path) -> None:
    """The weights of a regressor as float16."""
    load_regressor(Regressor(), source)
    tensors = {
        name: (tensor.half() if tensor.dtype == torch.float32 else tensor).contiguous()
        for name, tensor in read_weights(source).tensors.items()
    }
    with atomic_write(out) as file:
        file.write(save(tensors, {"format": "pt"}))
    load_regressor(Regressor(), out)
    read_regressor(out)


def main() -> None:
    """Pack, and say how large all packaged weights are."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("scorer", choices=FILES)
    parser.add_argument(
        "source",
        type=Path,
        help="final.safetensors, or best, of a training by geowarp-lite or geowarp-small",
    )
    given = parser.parse_args()
    out = PACKAGED / FILES[given.scorer]
    pack(given.source, out)
    total = sum(file.stat().st_size for file in PACKAGED.glob("*.safetensors"))
    print(f"{out}: {out.stat().st_size:,} bytes; all packaged weights {total:,} of {MAX_BYTES:,}")
    if total > MAX_BYTES:
        raise SystemExit("too large")


if __name__ == "__main__":
    main()
