"""The NetVLAD layer against the loop over words that published code runs, on maps of several
backbones at 480 x 640.

    python benchmarks/netvlad.py

One thread, eager float32, K = 64 words, 16 images at once as in the benchmark's inference. The loop
is the usual one: per word the residuals of all positions, weighted and summed. It gets slower with
the batch, as what it writes leaves the processor's cache.
"""

from __future__ import annotations

import torch
from side_by_side import compare, options, save
from torch import Tensor
from torch.nn.functional import normalize

from whence.models.aggregators.words import NetVlad
from whence.models.backbones.base import Features
from whence.runtime import set_threads

MAPS = {
    "resnet18conv4": (256, 30, 40),
    "resnet50conv4": (1024, 30, 40),
    "dinov2_vitb14 at 322": (768, 23, 23),
}


def loop_over_words(layer: NetVlad, x: Tensor) -> Tensor:
    """The same vectors, one word after another."""
    unit = normalize(x, dim=1)
    shares = torch.softmax(layer.conv(unit).flatten(2), dim=1)
    positions = unit.flatten(2)
    batch, channels, num = positions.shape
    sums = torch.zeros(batch, len(layer.centroids), channels)
    for k in range(len(layer.centroids)):
        word = layer.centroids[k].expand(num, -1).T.unsqueeze(0).unsqueeze(0)
        residuals = positions.unsqueeze(1) - word
        sums[:, k : k + 1] = (residuals * shares[:, k : k + 1].unsqueeze(2)).sum(dim=-1)
    return normalize(normalize(sums, dim=2).flatten(1), dim=1)


def main() -> None:
    """Compare on every map."""
    parser = options("The NetVLAD layer against a loop over words")
    parser.add_argument("--batch", type=int, default=16, help="images per call (default 16)")
    arguments = parser.parse_args()
    set_threads(1)
    torch.manual_seed(0)
    tables = {}
    for name, (channels, rows, columns) in MAPS.items():
        if arguments.quick:
            rows, columns = rows // 4, columns // 4
        layer = NetVlad(channels).eval()
        x = torch.randn(arguments.batch, channels, rows, columns)
        title = (
            f"NetVLAD, 64 words, {name}: {channels} x {rows} x {columns}, batch {arguments.batch}"
        )
        with torch.inference_mode():
            difference = (loop_over_words(layer, x) - layer(Features(x))).abs().max().item()
            ways = {
                "loop over words": lambda layer=layer, x=x: loop_over_words(layer, x),
                "one product": lambda layer=layer, x=x: layer(Features(x)),
            }
            notes = {"one product": f"largest difference {difference:.1e}"}
            tables[title] = compare(
                title,
                ways,
                peer="loop over words",
                items=arguments.batch,
                rounds=arguments.rounds,
                notes=notes,
            )
    save(arguments.json, tables)


if __name__ == "__main__":
    main()
