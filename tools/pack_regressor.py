"""Write the packaged weights of the scorer `geowarp` from a training's: float16, every tensor checked by loading them.

    python tools/pack_regressor.py RUN/best.safetensors

Both packaged files together, the network's and this one, may take 12 MB.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from safetensors.torch import save

from whence.models.checkpoints.files import read_weights
from whence.models.checkpoints.origins import PACKAGED, packaged_file
from whence.models.warp.model import Regressor
from whence.models.warp.scorer import load_regressor
from whence.registry import get_card
from whence.runtime import atomic_write

MAX_BYTES = 12_000_000


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


def main() -> None:
    """Pack, and say how large all packaged weights are."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("source", type=Path, help="best.safetensors of a training by geowarp-small")
    out = packaged_file(get_card("geowarp", kind="scorer"))
    assert out is not None, "the card names a packaged file"
    pack(parser.parse_args().source, out)
    total = sum(file.stat().st_size for file in PACKAGED.glob("*.safetensors"))
    print(f"{out}: {out.stat().st_size:,} bytes; all packaged weights {total:,} of {MAX_BYTES:,}")
    if total > MAX_BYTES:
        raise SystemExit("too large")


if __name__ == "__main__":
    main()
