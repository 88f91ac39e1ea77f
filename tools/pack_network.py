"""Write the network that comes with Whence from a training by `whence-lite0`: ONNX, float16,
checked against torch.

    python tools/pack_network.py RUN/final.safetensors

The blocks come out of the package of EfficientNet-Lite0, as released; the head is the training's.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

from whence.models.aggregators import make_aggregator
from whence.models.backbones import load_imagenet, make_backbone
from whence.models.cards.backbones import BACKBONES
from whence.models.checkpoints.origins import get_weights, packaged_file
from whence.models.checkpoints.plain import read_old_weights
from whence.models.engines.lite_graph import own_graph
from whence.models.engines.parity import sample_images
from whence.models.lite import OWN, open_own
from whence.models.networks import Network, describing
from whence.registry import get_card
from whence.runtime import atomic_write

MAX_BYTES = 8_000_000
MIN_COSINE = 0.99


def pack(source: Path, out: Path) -> float:
    """Write the network; gives the least cosine of its learned vectors with those of torch in
    float32."""
    tensors = {
        name.removeprefix("aggregator."): value
        for name, value in load_file(source).items()
        if name.startswith("aggregator.")
    }
    arrays = read_old_weights(get_weights(BACKBONES["efficientnet_lite0"])[0])
    with atomic_write(out) as file:
        file.write(
            own_graph(arrays, {name: value.float().numpy() for name, value in tensors.items()})
        )
    network = Network(
        make_backbone("efficientnet_lite0_blocks10_12"), make_aggregator("gem-mixed", 304)
    )
    load_imagenet(network.backbone)
    network.aggregator.load_state_dict(tensors)
    images = sample_images(get_card(OWN).preprocessing)
    with torch.inference_mode():
        expected = describing(network.eval())(images).numpy()
    found = open_own(out)(((images.numpy().astype(np.float32) - 127) / 128).transpose(0, 3, 1, 2))[
        2
    ][:, :, 0, 0]
    return float(
        np.min(
            (found * expected).sum(axis=1)
            / np.linalg.norm(found, axis=1)
            / np.linalg.norm(expected, axis=1)
        )
    )


def main() -> None:
    """Pack, check, and say how large it is."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("source", type=Path, help="final.safetensors of a training by whence-lite0")
    out = packaged_file(get_card(OWN))
    assert out is not None, "the card names a packaged file"
    cosine, size = pack(parser.parse_args().source, out), out.stat().st_size
    print(
        f"{out}: {size:,} bytes of {MAX_BYTES:,}; cosine with torch in float32 at least "
        f"{cosine:.6f}"
    )
    if size > MAX_BYTES or cosine < MIN_COSINE:
        raise SystemExit("too large, or too far from the network that was trained")


if __name__ == "__main__":
    main()
