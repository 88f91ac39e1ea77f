"""Write the local features that come with Whence from a training by `whence-local`: float16, with a
card, checked against torch.

python tools/pack_local.py RUN/final.safetensors
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save

from whence.models.cards.local import OWN_FEATURES
from whence.models.cards.text import CARD_FIELD, card_to_text
from whence.models.checkpoints.files import fill_module
from whence.models.checkpoints.origins import packaged_file
from whence.models.checkpoints.plain import read_safetensors
from whence.models.local.dense import make_dense_network
from whence.models.local.own import open_own_features
from whence.runtime import atomic_write, random_stream

MAX_BYTES = 4_000_000
MAX_GAP = 0.05


def pack(source: Path, out: Path) -> float:
    """Write the network; gives how far its logits and unit descriptors are at most from those of
    torch in float32."""
    arrays = {
        name: values
        for name, values in read_safetensors(source).items()
        if not name.endswith("num_batches_tracked")
    }
    halved = {
        name: values.astype(np.float16) if values.dtype == np.float32 else values
        for name, values in arrays.items()
    }
    with atomic_write(out) as file:
        file.write(save(halved, {CARD_FIELD: card_to_text(OWN_FEATURES)}))
    network = make_dense_network(OWN_FEATURES.backbone)
    fill_module(network, source, what=OWN_FEATURES.name)
    grey = random_stream(0, 1).integers(0, 256, (96, 128)).astype(np.uint8)
    with torch.inference_mode():
        maps = network.eval()(torch.from_numpy(grey)[None, None].float() / 255)
    logits, descriptors = open_own_features(weights=str(out)).maps(grey)
    expected = maps.descriptors[0].numpy()
    unit = [one / np.linalg.norm(one, axis=0) for one in (descriptors, expected)]
    return float(
        max(np.abs(logits - maps.logits[0].numpy()).max(), np.abs(unit[0] - unit[1]).max())
    )


def main() -> None:
    """Pack, check, and say how large it is."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("source", type=Path, help="final.safetensors of a training by whence-local")
    out = packaged_file(OWN_FEATURES)
    assert out is not None, "the card names a packaged file"
    gap, size = pack(parser.parse_args().source, out), out.stat().st_size
    print(f"{out}: {size:,} bytes of {MAX_BYTES:,}; at most {gap:.4f} from torch in float32")
    if size > MAX_BYTES or gap > MAX_GAP:
        raise SystemExit("too large, or too far from the network that was trained")


if __name__ == "__main__":
    main()
